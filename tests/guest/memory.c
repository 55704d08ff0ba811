/*
 * Loads and stores: every size and sign, aligned and not, across pages, with immediates of all
 * kinds, in registers hot and cold; the floating-point and compressed forms; load-reserved and
 * store-conditional; cache-block operations and hints. Expected values are put together from bytes.
 */
#include "guest.h"

enum { AREA = 2 * PAGE };
static u8 area[AREA] __attribute__((aligned(PAGE)));
static u8 shadow[AREA];
#define BORDER (area + PAGE) /* between two pages */

static void fill(void)
{
    for (unsigned i = 0; i < AREA; i++) {
        area[i] = shadow[i] = (u8)(i * 37 + (i >> 8) * 11 + 0x81);
    }
}

static u64 bytes_at(const u8 *p, unsigned size)
{
    u64 v = 0;
    for (unsigned i = 0; i < size; i++) {
        v |= (u64)p[i] << (8 * i);
    }
    return v;
}

static ulong extended(u64 v, unsigned size, bool sign)
{
    unsigned unused = 64 - 8 * size;
    return sign ? (ulong)((int64_t)(v << unused) >> unused) : (ulong)(v << unused >> unused);
}

static const u8 *before(const u8 *p, int n)
{
    return p - n;
}

/* Where accesses start: near the start of the area, across its pages' border. */
static const int starts[] = {16,       17,       18,       19,       20,       21,         22,
                             23,       PAGE - 9, PAGE - 8, PAGE - 7, PAGE - 6, PAGE - 5,   PAGE - 4,
                             PAGE - 3, PAGE - 2, PAGE - 1, PAGE,     PAGE + 1, PAGE + 1023};

#define LOADS(X) X(lb, 1, true) X(lbu, 1, false) X(lh, 2, true) X(lhu, 2, false) X(lw, 4, true)
#define STORES(X) X(sb, 1) X(sh, 2) X(sw, 4)
#if XLEN == 64
#define LOADS_64(X) X(lwu, 4, false) X(ld, 8, true)
#define STORES_64(X) X(sd, 8)
#else
#define LOADS_64(X)
#define STORES_64(X)
#endif
/* Registers: (destination, base). */
#define PAIRS(Y, ...)                                                                              \
    Y(a0, a1, __VA_ARGS__)                                                                         \
    Y(a3, a3, __VA_ARGS__)                                                                         \
    Y(t0, a2, __VA_ARGS__) Y(s1, t5, __VA_ARGS__) Y(t3, t3, __VA_ARGS__) Y(s11, s10, __VA_ARGS__)  \
        Y(a5, s0, __VA_ARGS__)
#define IMMEDIATES(Y, ...)                                                                         \
    Y(0, __VA_ARGS__)                                                                              \
    Y(1, __VA_ARGS__)                                                                              \
    Y(-1, __VA_ARGS__) Y(2047, __VA_ARGS__) Y(-2048, __VA_ARGS__) Y(8, __VA_ARGS__)

static void loads(void)
{
    fill();
    for (unsigned i = 0; i < ARRAY_LEN(starts); i++) {
        const u8 *p = area + starts[i];
        check_about = (ulong)starts[i];
        ulong got;
#define TRY(rd, base, insn, size, sign)                                                            \
    asm volatile("mv " #base ", %1\n " #insn " " #rd ", 0(" #base ")\n mv %0, " #rd                \
                 : "=r"(got)                                                                       \
                 : "r"(p)                                                                          \
                 : #rd, #base, "memory");                                                          \
    CHECK_EQ(got, extended(bytes_at(p, size), size, sign));
#define EACH(insn, size, sign) PAIRS(TRY, insn, size, sign)
        LOADS(EACH);
        LOADS_64(EACH);
#undef TRY
#undef EACH
#define TRY(imm, insn, size, sign)                                                                 \
    asm volatile(#insn " %0, " #imm "(%1)" : "=r"(got) : "r"(before(p, imm)) : "memory");          \
    CHECK_EQ(got, extended(bytes_at(p, size), size, sign));
#define EACH(insn, size, sign) IMMEDIATES(TRY, insn, size, sign)
        LOADS(EACH);
        LOADS_64(EACH);
#undef TRY
#undef EACH
        /* To x0: the access is made, nothing is written. */
#define EACH(insn, size, sign)                                                                     \
    asm volatile(#insn " zero, 0(%1)\n mv %0, zero" : "=r"(got) : "r"(p) : "memory");              \
    CHECK_EQ(got, 0);
        LOADS(EACH);
        LOADS_64(EACH);
#undef EACH
    }
    check_about = 0;
}

/* What a store of `size` bytes should have done, and that it did no more. */
static void expect_stored(int line, u8 *p, unsigned size, ulong value)
{
    for (unsigned i = 0; i < size; i++) {
        shadow[p - area + i] = (u8)((u64)value >> (8 * i));
    }
    bool same = true;
    for (u8 *q = p - 16; q < p + 24; q++) {
        same = same && *q == shadow[q - area];
    }
    check_eq(__FILE__, line, "memory is as it should be", same, true);
}

static void stores(void)
{
    fill();
    ulong value = (ulong)0x8796a5b4c3d2e1f0;
    for (unsigned i = 0; i < ARRAY_LEN(starts); i++) {
        u8 *p = area + starts[i];
        check_about = (ulong)starts[i];
#define TRY(rs, base, insn, size)                                                                  \
    value = value * 5 + 1;                                                                         \
    asm volatile("mv " #base ", %0\n mv " #rs ", %1\n " #insn " " #rs ", 0(" #base ")"             \
                 :                                                                                 \
                 : "r"(p), "r"(#rs[0] == #base[0] && #rs[1] == #base[1] ? (ulong)p : value)        \
                 : #rs, #base, "memory");                                                          \
    expect_stored(__LINE__, p, size, #rs[0] == #base[0] && #rs[1] == #base[1] ? (ulong)p : value);
#define EACH(insn, size) PAIRS(TRY, insn, size)
        STORES(EACH);
        STORES_64(EACH);
#undef TRY
#undef EACH
#define TRY(imm, insn, size)                                                                       \
    value = value * 5 + 1;                                                                         \
    asm volatile(#insn " %1, " #imm "(%0)" : : "r"(before(p, imm)), "r"(value) : "memory");        \
    expect_stored(__LINE__, p, size, value);
#define EACH(insn, size) IMMEDIATES(TRY, insn, size)
        STORES(EACH);
        STORES_64(EACH);
#undef TRY
#undef EACH
#define EACH(insn, size)                                                                           \
    asm volatile(#insn " zero, 0(%0)" : : "r"(p) : "memory");                                      \
    expect_stored(__LINE__, p, size, 0);
        STORES(EACH);
        STORES_64(EACH);
#undef EACH
    }
    check_about = 0;
}

/* A load after a store to overlapping bytes, in one block. */
static void forwarding(void)
{
    fill();
    u8 *p = area + PAGE / 2;
    for (int back = -7; back < 8; back++) {
        ulong value = (ulong)0x1122334455667788 * (ulong)(back + 9), got;
        asm volatile(STR_STORE " %2, 0(%1)\n lw %0, 0(%3)\n"
                     : "=&r"(got)
                     : "r"(p), "r"(value), "r"(p + back)
                     : "memory");
        expect_stored(__LINE__, p, XLEN / 8, value);
        CHECK_EQ(got, extended(bytes_at(shadow + (p - area) + back, 4), 4, true));
        asm volatile("sh %2, 0(%1)\n " STR_LOAD " %0, 0(%3)\n"
                     : "=&r"(got)
                     : "r"(p), "r"(~value), "r"(p + back)
                     : "memory");
        expect_stored(__LINE__, p, 2, ~value);
        CHECK_EQ(got, bytes_at(shadow + (p - area) + back, XLEN / 8));
    }
}

/* flh flw fld fsh fsw fsd: narrower loads are boxed, stores take the low bits. */
static void floating_point(void)
{
    fill();
    static u64 whole;
    for (unsigned i = 0; i < ARRAY_LEN(starts); i++) {
        u8 *p = area + starts[i];
        check_about = (ulong)starts[i];
#define TRY(reg, insn, size)                                                                       \
    asm volatile(#insn " " #reg ", 0(%0)\n fsd " #reg ", 0(%1)"                                    \
                 :                                                                                 \
                 : "r"(p), "r"(&whole)                                                             \
                 : "memory");                                                                      \
    CHECK_EQ((u32)whole, (u32)(bytes_at(p, size) | (size == 2 ? 0xffff0000 : 0)));                 \
    CHECK_EQ((u32)(whole >> 32), (u32)(size == 8 ? bytes_at(p, size) >> 32 : 0xffffffff));
#define EACH(insn, size) TRY(fa0, insn, size) TRY(ft11, insn, size) TRY(fs5, insn, size)
        EACH(flh, 2)
        EACH(flw, 4)
        EACH(fld, 8)
#undef TRY
#define TRY(reg, insn, size)                                                                       \
    whole = whole * 0x123456789abcdefULL + 1;                                                      \
    asm volatile("fld " #reg ", 0(%1)\n " #insn " " #reg ", 0(%0)"                                 \
                 :                                                                                 \
                 : "r"(p), "r"(&whole)                                                             \
                 : "memory");                                                                      \
    for (unsigned k = 0; k < size; k++) {                                                          \
        CHECK_EQ(p[k], (u8)(whole >> (8 * k)));                                                    \
        shadow[p + k - area] = p[k];                                                               \
    }                                                                                              \
    CHECK_EQ(p[size], shadow[p + size - area]);                                                    \
    CHECK_EQ(p[-1], shadow[p - 1 - area]);
            EACH(fsh, 2) EACH(fsw, 4) EACH(fsd, 8)
#undef TRY
#undef EACH
    }
    check_about = 0;
}

/* Compressed loads and stores, Zcb's included (by their bits: x10 is the base, x11 the data). */
static void compressed(void)
{
    fill();
    for (unsigned i = 0; i < 8; i++) {
        u8 *p = area + PAGE - 40 + i * 5;
        check_about = i;
        ulong got, value = (ulong)0x9182736455463728 * (i + 3);
#define LOAD_C(text, offset, size, sign)                                                           \
    {                                                                                              \
        register ulong base asm("a0") = (ulong)p;                                                  \
        register ulong to asm("a1");                                                               \
        asm volatile(".option push\n.option rvc\n" text "\n.option pop"                            \
                     : "=r"(to)                                                                    \
                     : "r"(base)                                                                   \
                     : "memory");                                                                  \
        got = to;                                                                                  \
        CHECK_EQ(got, extended(bytes_at(p + (offset), size), size, sign));                         \
    }
#define STORE_C(text, offset, size)                                                                \
    {                                                                                              \
        register ulong base asm("a0") = (ulong)p;                                                  \
        register ulong from asm("a1") = value;                                                     \
        asm volatile(".option push\n.option rvc\n" text "\n.option pop"                            \
                     :                                                                             \
                     : "r"(base), "r"(from)                                                        \
                     : "memory");                                                                  \
        expect_stored(__LINE__, p + (offset), size, value);                                        \
        value += 0x0102030405060708;                                                               \
    }
        LOAD_C("c.lw a1, 0(a0)", 0, 4, true)
        LOAD_C("c.lw a1, 124(a0)", 124, 4, true)
        LOAD_C("c.lw a1, 64(a0)", 64, 4, true)
        STORE_C("c.sw a1, 0(a0)", 0, 4)
        STORE_C("c.sw a1, 124(a0)", 124, 4)
        STORE_C("c.sw a1, 64(a0)", 64, 4)
        LOAD_C("mv t0, sp\n mv sp, a0\n c.lwsp a1, 252(sp)\n mv sp, t0", 252, 4, true)
        STORE_C("mv t0, sp\n mv sp, a0\n c.swsp a1, 252(sp)\n mv sp, t0", 252, 4)
#if XLEN == 64
        LOAD_C("c.ld a1, 0(a0)", 0, 8, true)
        LOAD_C("c.ld a1, 248(a0)", 248, 8, true)
        STORE_C("c.sd a1, 0(a0)", 0, 8)
        STORE_C("c.sd a1, 248(a0)", 248, 8)
        LOAD_C("mv t0, sp\n mv sp, a0\n c.ldsp a1, 504(sp)\n mv sp, t0", 504, 8, true)
        STORE_C("mv t0, sp\n mv sp, a0\n c.sdsp a1, 504(sp)\n mv sp, t0", 504, 8)
        LOAD_C("c.fld fa5, 8(a0)\n fmv.x.d a1, fa5", 8, 8, true)
        LOAD_C("mv t0, sp\n mv sp, a0\n c.fldsp ft9, 16(sp)\n mv sp, t0\n fmv.x.d a1, ft9", 16, 8,
               true)
        STORE_C("fmv.d.x fs0, a1\n c.fsd fs0, 240(a0)", 240, 8)
        STORE_C("fmv.d.x ft7, a1\n mv t0, sp\n mv sp, a0\n c.fsdsp ft7, 504(sp)\n mv sp, t0", 504,
                8)
#else
        LOAD_C("c.flw fa5, 8(a0)\n fmv.x.w a1, fa5", 8, 4, true)
        LOAD_C("mv t0, sp\n mv sp, a0\n c.flwsp ft9, 16(sp)\n mv sp, t0\n fmv.x.w a1, ft9", 16, 4,
               true)
        STORE_C("fmv.w.x fs0, a1\n c.fsw fs0, 120(a0)", 120, 4)
        STORE_C("fmv.w.x ft7, a1\n mv t0, sp\n mv sp, a0\n c.fswsp ft7, 252(sp)\n mv sp, t0", 252,
                4)
        LOAD_C("c.fld fa5, 8(a0)\n fsw fa5, 0(a0)\n lw a1, 0(a0)", 8, 4, true)
        for (unsigned k = 0; k < 4; k++) {
            shadow[p - area + k] = p[k];
        }
#endif
        /* Zcb: c.lbu, c.lhu, c.lh, c.sb, c.sh. Their immediates: bits 6 and 5 of the halfword (the
         * low one first in bytes). */
        LOAD_C(".half 0x810c | 0 << 4", 0, 1, false)
        LOAD_C(".half 0x810c | 1 << 6", 1, 1, false)
        LOAD_C(".half 0x810c | 1 << 5", 2, 1, false)
        LOAD_C(".half 0x810c | 3 << 5", 3, 1, false)
        LOAD_C(".half 0x850c", 0, 2, false)
        LOAD_C(".half 0x850c | 1 << 5", 2, 2, false)
        LOAD_C(".half 0x854c", 0, 2, true)
        LOAD_C(".half 0x854c | 1 << 5", 2, 2, true)
        STORE_C(".half 0x890c", 0, 1)
        STORE_C(".half 0x890c | 1 << 6", 1, 1)
        STORE_C(".half 0x890c | 1 << 5", 2, 1)
        STORE_C(".half 0x890c | 3 << 5", 3, 1)
        STORE_C(".half 0x8d0c", 0, 2)
        STORE_C(".half 0x8d0c | 1 << 5", 2, 2)
    }
    check_about = 0;
}

/* lr and sc: success, and the ways to lose a reservation that every hart has. */
static void reservations(void)
{
    static u64 cells[4] __attribute__((aligned(64)));
    volatile u32 *cell = (volatile u32 *)cells;
    ulong got, failed;
    for (unsigned i = 0; i < 20; i++) {
        cell[0] = i * 0x10001;
        asm volatile("lr.w %0, (%2)\n sc.w %1, %3, (%2)"
                     : "=&r"(got), "=&r"(failed)
                     : "r"(cell), "r"(i + 7)
                     : "memory");
        CHECK_EQ(got, i * 0x10001);
        CHECK_EQ(failed, 0);
        CHECK_EQ(cell[0], i + 7);
        /* Used up. */
        asm volatile("sc.w %0, %2, (%1)" : "=&r"(failed) : "r"(cell), "r"(99) : "memory");
        CHECK_EQ(failed, 1);
        CHECK_EQ(cell[0], i + 7);
        /* Another sc has used it up, whether it succeeded or not. */
        asm volatile("lr.w %0, (%2)\n sc.w %1, %3, (%4)\n sc.w %1, %3, (%2)"
                     : "=&r"(got), "=&r"(failed)
                     : "r"(cell), "r"(55), "r"(&cells[3])
                     : "memory");
        CHECK_EQ(failed, 1);
        CHECK_EQ(cell[0], i + 7);
        /* A later lr takes the place of the first. */
        cells[3] = 3;
        asm volatile("lr.w %0, (%2)\n lr.w %0, (%4)\n sc.w %1, %3, (%4)"
                     : "=&r"(got), "=&r"(failed)
                     : "r"(cell), "r"(44), "r"(&cells[3])
                     : "memory");
        CHECK_EQ(got, 3);
        CHECK_EQ(failed, 0);
        CHECK_EQ(cells[3], 44);
        /* Into the same register; sign extension. */
        cell[0] = 0x80000000 + i;
        asm volatile("mv a0, %1\n lr.w a0, (a0)\n mv %0, a0"
                     : "=r"(got)
                     : "r"(cell)
                     : "a0", "memory");
        CHECK_EQ(got, (ulong)(long)(int)(0x80000000 + i));
#if XLEN == 64
        asm volatile("lr.d.aqrl %0, (%2)\n sc.d.aqrl %1, %3, (%2)"
                     : "=&r"(got), "=&r"(failed)
                     : "r"(&cells[1]), "r"(0x1234567890ul + i)
                     : "memory");
        CHECK_EQ(failed, 0);
        CHECK_EQ(cells[1], 0x1234567890ul + i);
#endif
        /* A loop as software writes it. */
        cell[0] = 0;
        asm volatile("li t1, 50\n 1: lr.w t0, (%0)\n addi t0, t0, 3\n sc.w t2, t0, (%0)\n bnez t2, "
                     "1b\n addi t1, t1, -1\n bnez t1, 1b"
                     :
                     : "r"(cell)
                     : "t0", "t1", "t2", "memory");
        CHECK_EQ(cell[0], 150);
    }
    /* A trap in between loses it. */
    SNIPPET(reserve, "lr.w a1, (a0)\n ecall");
    SNIPPET(conditional, "sc.w a1, a1, (a0)\n ecall");
    cell[0] = 5;
    run(PRIV_U, reserve, (ulong)cell, 0);
    Trap t = run(PRIV_U, conditional, (ulong)cell, 77);
    EXPECT_DONE(t);
    CHECK_EQ(t.a1, 1);
    CHECK_EQ(cell[0], 5);
}

/* cbo.zero writes a block of 64 bytes; the others change nothing; all obey menvcfg and senvcfg. */
static void cache_blocks(void)
{
    enum { INVAL, CLEAN, FLUSH, ZERO = 4, BLOCK = 64 };
    static const unsigned operations[] = {INVAL, CLEAN, FLUSH, ZERO};
    for (unsigned i = 0; i < ARRAY_LEN(operations); i++) {
        unsigned op = operations[i];
        u32 insn = op << 20 | 10 << 15 | 2 << 12 | 0xf;
        ulong bit = op == INVAL ? 1 << 4 : op == ZERO ? 1 << 7 : 1 << 6;
        for (unsigned offset = 0; offset < BLOCK; offset += 21) {
            fill();
            u8 *p = BORDER + 3 * BLOCK;
            EXPECT_DONE(run_insn(PRIV_M, insn, (ulong)p + offset, 0));
            bool zero = true, same = true;
            for (int k = -BLOCK; k < 2 * BLOCK; k++) {
                if (k >= 0 && k < BLOCK && op == ZERO) {
                    zero = zero && p[k] == 0;
                } else {
                    same = same && p[k] == shadow[p + k - area];
                }
            }
            CHECK(zero);
            CHECK(same);
        }
        for (unsigned allow = 0; allow < 4; allow++) {
            check_about = op << 4 | allow;
            csr_clear(CSR_MENVCFG, 0xf0);
            csr_clear(CSR_SENVCFG, 0xf0);
            csr_set(CSR_MENVCFG, allow & 1 ? bit : 0);
            csr_set(CSR_SENVCFG, allow & 2 ? bit : 0);
            Trap s = run_insn(PRIV_S, insn, (ulong)area, 0),
                 u = run_insn(PRIV_U, insn, (ulong)area, 0);
            if (allow & 1) {
                EXPECT_DONE(s);
            } else {
                EXPECT_TRAP(s, CAUSE_ILLEGAL, insn_buffer, insn);
            }
            if (allow == 3) {
                EXPECT_DONE(u);
            } else {
                EXPECT_TRAP(u, CAUSE_ILLEGAL, insn_buffer, insn);
            }
        }
        /* Faults are a store's. */
        csr_set(CSR_MENVCFG, 0xf0);
        EXPECT_TRAP(run_insn(PRIV_S, insn, HOLE + 8, 0), CAUSE_STORE_ACCESS, insn_buffer, HOLE + 8);
    }
    csr_clear(CSR_MENVCFG, 0xf0);
    csr_clear(CSR_SENVCFG, 0xf0);
    check_about = 0;
}

/* Hints do nothing at all: prefetches of nowhere, pause, fences, ntl, and the HINT forms of
 * ordinary instructions. */
static void hints(void)
{
    static const u32 words[] = {
        0x00056013,
        0x00156013,
        0x00356013, /* prefetch.i, .r, .w 0(a0) */
        0xfe056013,
        0x7e356013, /* with offsets */
        0x0100000f,
        0x8330000f,
        0x0ff0000f,
        0x0000000f,
        0x0f0f8f8f & ~0x7000, /* pause, fence.tso, fence forms */
        0x00200033,
        0x00300033,
        0x00400033,
        0x00500033, /* ntl.* */
        0x00d00073,
        0x01d00073, /* wrs.nto, wrs.sto */
        0x00000037,
        0x00000017,
        0x00a50033,
        0x00052013, /* lui, auipc, add, slti to x0 */
        0x0001,
        0x900a,
        0x9012,
        0x0005,
        0x6005,
        0x800a | 1 << 2, /* c.nop, c.ntl.p1, c.ntl.s1; c.nop 1; c.lui x0; c.mv x0 */
        0x0002,
        0x0512, /* c.slli x0; c.slli a0, 4: this one does something, see below */
    };
    for (unsigned m = PRIV_U; m <= PRIV_S; m++) {
        for (unsigned i = 0; i < ARRAY_LEN(words); i++) {
            check_about = words[i];
            Trap t = run_insn(m, words[i], HOLE, 3);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, words[i] == 0x0512 ? HOLE << 4 : HOLE);
            CHECK_EQ(t.a1, 3);
            CHECK_EQ(t.epc, (ulong)insn_buffer + ((words[i] & 3) == 3 ? 4 : 2));
        }
    }
    check_about = 0;
}

int main(void)
{
    RUN(loads);
    RUN(stores);
    RUN(forwarding);
    RUN(floating_point);
    RUN(compressed);
    RUN(reservations);
    RUN(cache_blocks);
    RUN(hints);
    return 0;
}
