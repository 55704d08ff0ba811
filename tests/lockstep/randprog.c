/* The generator of random programs: see randprog.h. */
#include "tests/lockstep/randprog.h"

#include <string.h>

#include "core/base/bits.h"
#include "frontend-riscv/decode.h"

/* Registers that random instructions do not write. */
enum {
    R_TRAP1 = 3,  /* gp, tp: the trap handler's */
    R_TRAP2 = 4,
    R_TABLE = 24, /* s8: table of interesting values */
    R_INNER = 25, /* s9: counter of an inner loop */
    R_DATA = 26,  /* s10: middle of the data area */
    R_OUTER = 27, /* s11: rounds left; negative in the final ecall */
};

/* Offsets from RANDPROG_DATA. The arena's middle is a page border with pages of its own around it.
 */
enum {
    SEEDS = 0x0000,  /* x[32], f[32] */
    SAVED = 0x1000,  /* the same, as the body left them; then fcsr */
    HASH = 0x1f00,
    TABLE = 0x2000,  /* 256 interesting 8-byte values */
    ARENA = 0x4000,  /* 4 pages */
    ARENA_SIZE = 0x4000,
    TABLES = 0x10000, /* page tables of the paged modes */
};
#define ARENA_VA 0x40000000u /* where the paged modes see the arena */

typedef struct Gen {
    const RandOptions *o;
    u64 rng;
    u8 *image;
    u32 at; /* offset of the next instruction */
    unsigned xlen_bytes;
} Gen;

static u64 rnd(Gen *g)
{
    g->rng += 0x9e3779b97f4a7c15u;
    u64 z = g->rng;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static u32 below(Gen *g, u32 n)
{
    return (u32)(rnd(g) % n);
}

/* --- encoding --------------------------------------------------------------------------------- */

static void put16(Gen *g, u16 v)
{
    memcpy(g->image + g->at, &v, 2);
    g->at += 2;
}

static void put32(Gen *g, u32 v)
{
    memcpy(g->image + g->at, &v, 4);
    g->at += 4;
}

static u32 enc_i(u32 opcode, u32 f3, u32 rd, u32 rs1, s32 imm)
{
    return (u32)imm << 20 | rs1 << 15 | f3 << 12 | rd << 7 | opcode;
}

static u32 enc_s(u32 opcode, u32 f3, u32 rs1, u32 rs2, s32 imm)
{
    u32 i = (u32)imm;
    return (i >> 5 & 0x7f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 | (i & 31) << 7 | opcode;
}

static u32 enc_b(u32 f3, u32 rs1, u32 rs2, s32 imm)
{
    u32 i = (u32)imm;
    return (i >> 12 & 1) << 31 | (i >> 5 & 0x3f) << 25 | rs2 << 20 | rs1 << 15 | f3 << 12 |
           (i >> 1 & 15) << 8 | (i >> 11 & 1) << 7 | 0x63;
}

static u32 enc_j(u32 rd, s32 imm)
{
    u32 i = (u32)imm;
    return (i >> 20 & 1) << 31 | (i >> 1 & 0x3ff) << 21 | (i >> 11 & 1) << 20 |
           (i >> 12 & 0xff) << 12 | rd << 7 | 0x6f;
}

static void addi(Gen *g, u32 rd, u32 rs1, s32 imm)
{
    put32(g, enc_i(0x13, 0, rd, rs1, imm));
}

/* rd = the address of an offset from the image's start, pc-relative. */
static void la(Gen *g, u32 rd, u32 target)
{
    s32 d = (s32)(target - g->at);
    s32 hi = (d + 0x800) >> 12;
    put32(g, (u32)hi << 12 | rd << 7 | 0x17);
    addi(g, rd, rd, d - hi * 4096);
}

/* rd = a 32-bit constant (sign-extended on RV64). */
static void li(Gen *g, u32 rd, s32 v)
{
    s32 hi = (s32)(((s64)v + 0x800) >> 12);
    put32(g, (u32)hi << 12 | rd << 7 | 0x37);
    put32(g, enc_i(g->xlen_bytes == 8 ? 0x1b : 0x13, 0, rd, rd, (s32)((u32)v - ((u32)hi << 12))));
}

static void lx(Gen *g, u32 rd, u32 rs1, s32 imm)
{
    put32(g, enc_i(0x03, g->xlen_bytes == 8 ? 3 : 2, rd, rs1, imm));
}

static void sx(Gen *g, u32 rs2, u32 rs1, s32 imm)
{
    put32(g, enc_s(0x23, g->xlen_bytes == 8 ? 3 : 2, rs1, rs2, imm));
}

static void csrw(Gen *g, u32 csr, u32 rs1)
{
    put32(g, csr << 20 | rs1 << 15 | 1 << 12 | 0x73);
}

static void csrr(Gen *g, u32 rd, u32 csr)
{
    put32(g, csr << 20 | 2 << 12 | rd << 7 | 0x73);
}

enum { CSR_FCSR = 3, CSR_FRM = 2, CSR_FFLAGS = 1 };
enum {
    CSR_SATP = 0x180,
    CSR_SSTATUS = 0x100,
    CSR_MSTATUS = 0x300,
    CSR_MTVEC = 0x305,
    CSR_MSCRATCH = 0x340,
    CSR_MEPC = 0x341,
    CSR_MCAUSE = 0x342,
    CSR_PMPCFG0 = 0x3a0,
    CSR_PMPADDR0 = 0x3b0
};
enum { MRET = 0x30200073, ECALL = 0x73 };

static bool has_fp(const Gen *g)
{
    return g->o->model->ext & RISCV_EXT_BIT(D);
}

/* --- data ------------------------------------------------------------------------------------- */

/* A 64-bit pattern that is likely to hit an edge as an integer, a float or a double. */
static u64 interesting(Gen *g)
{
    static const u64 values[] = {
        0,
        1,
        ~(u64)0,
        (u64)1 << 63,
        ~((u64)1 << 63),
        0x80000000u,
        0x7fffffff,
        0xffffffff80000000u,
        0xffffffff,
        2,
        0xff,
        0x7f,
        0x80,
        0xffff,
        0x8000,
        31,
        32,
        63,
        64,
        0x3ff0000000000000u,
        0xbff0000000000000u,
        0x7ff0000000000000u,
        0xfff0000000000000u,
        0x7ff8000000000000u,
        0x7ff0000000000001u,
        0xfff8000000000001u,
        0x8000000000000000u,
        0x000fffffffffffffu,
        0x0010000000000000u,
        0x7fefffffffffffffu,
        0x41dfffffffc00000u,
        0x41e0000000000000u,
        0x43e0000000000000u,
        0xc3e0000000000000u,
        0x43f0000000000000u,
        0x3fe0000000000000u,
        0x3ff8000000000000u,
        0x4004000000000000u,
        0x3ca0000000000000u,
        0xffffffff3f800000u,
        0xffffffffbf800000u,
        0xffffffff7f800000u,
        0xffffffffff800000u,
        0xffffffff7fc00000u,
        0xffffffff7f800001u,
        0xffffffff00000001u,
        0xffffffff007fffffu,
        0xffffffff00800000u,
        0xffffffff7f7fffffu,
        0xffffffff4f000000u,
        0xffffffff5f000000u,
        0xffffffff3f000000u,
        0xffffffff3fc00000u,
        0xffffffff80000000u,
        0xffffffffffff3c00u,
        0xffffffffffff7c00u,
        0xffffffffffff7e00u,
        0xffffffffffff0001u,
        0xffffffffffff7bffu,
    };
    switch (below(g, 4)) {
    case 0:
        return rnd(g);
    case 1: /* a random double or boxed float of moderate size */
        return below(g, 2)
                   ? (rnd(g) & 0x800fffffffffffffu) | (u64)(0x3f0 + below(g, 32)) << 52
                   : 0xffffffff00000000u | (rnd(g) & 0x807fffff) | (118 + below(g, 20)) << 23;
    default:
        return values[below(g, ARRAY_LEN(values))] + (below(g, 8) ? 0 : below(g, 3) - 1);
    }
}

static u64 fill(Gen *g, u32 offset, u32 bytes)
{
    for (u32 i = 0; i < bytes; i += 8) {
        u64 v = interesting(g);
        memcpy(g->image + RANDPROG_DATA + offset + i, &v, 8);
    }
    return 0;
}

/* Page tables: the first 4 GiB but the second mapped one to one by large pages, the arena at
 * ARENA_VA with its four pages in reverse order. Returns the root's offset from RANDPROG_DATA. */
static u32 page_tables(Gen *g)
{
    u8 *t = g->image + RANDPROG_DATA + TABLES;
    u32 flags = 0xcf | (g->o->mode == RAND_PAGED_U ? 0x10 : 0); /* D A X W R V, U */
    u64 base = (g->o->base ? g->o->base : RANDPROG_BASE) + RANDPROG_DATA;

    if (g->xlen_bytes == 8) {
        u64 *root = (u64 *)t, *mid = (u64 *)(t + 0x1000), *leaf = (u64 *)(t + 0x2000);
        root[0] = flags;
        root[2] = (u64)2 << 28 | flags;
        root[3] = (u64)3 << 28 | flags;
        root[1] = (base + TABLES + 0x1000) >> 12 << 10 | 1;
        mid[0] = (base + TABLES + 0x2000) >> 12 << 10 | 1;
        for (unsigned i = 0; i < 4; i++) {
            leaf[i] = (base + ARENA + (3 - i) * 0x1000) >> 12 << 10 | flags;
        }
    } else {
        u32 *root = (u32 *)t, *leaf = (u32 *)(t + 0x1000);
        for (u32 i = 0; i < 1024; i++) {
            root[i] = i << 20 | flags;
        }
        root[ARENA_VA >> 22] = (u32)((base + TABLES + 0x1000) >> 12 << 10 | 1);
        for (unsigned i = 0; i < 4; i++) {
            leaf[i] = (u32)((base + ARENA + (3 - i) * 0x1000) >> 12 << 10) | flags;
        }
    }
    return TABLES;
}

/* --- random instructions ---------------------------------------------------------------------- */

static bool reserved(u32 r)
{
    return r == R_TRAP1 || r == R_TRAP2 || (r >= R_TABLE && r <= R_OUTER);
}

static u32 free_reg(Gen *g)
{
    u32 r;
    do {
        r = below(g, 32);
    } while (reserved(r));
    return r;
}

static bool row_allowed(const Gen *g, const RiscvRow *row)
{
    static const char *const never[] = {
        /* Their own units below, or not for random use. */
        "jal",
        "jalr",
        "c.j",
        "c.jal",
        "c.jr",
        "c.jalr",
        "mret",
        "sret",
        "wfi",
        "sfence.vma",
        "sinval.vma",
        "sfence.w.inval",
        "sfence.inval.ir",
        "wrs.nto",
        "wrs.sto",
        "csrrw",
        "csrrs",
        "csrrc",
        "csrrwi",
        "csrrsi",
        "csrrci",
        "ecall",
        "beq",
        "bne",
        "blt",
        "bge",
        "bltu",
        "bgeu",
        "c.beqz",
        "c.bnez",
        "auipc",
        "cbo.inval",
        "dret",
    };
    if (!(g->o->model->rv32 ? row->rv32 : row->rv64)) {
        return false;
    }
    /* What a lone SC does is the emulator's choice; portable programs have pairs only. */
    if (g->o->portable && (strncmp(row->name, "lr.", 3) == 0 || strncmp(row->name, "sc.", 3) == 0)) {
        return false;
    }
    if (g->o->leave_out && g_strv_contains((const char *const *)g->o->leave_out, row->name)) {
        return false;
    }
    if (row->ext_any ? !(row->ext & g->o->ext) : (row->ext & ~g->o->ext) != 0) {
        return false;
    }
    for (unsigned i = 0; i < ARRAY_LEN(never); i++) {
        if (strcmp(row->name, never[i]) == 0) {
            return false;
        }
    }
    return true;
}

static bool is_memory(const RiscvRow *row, u32 insn)
{
    if (row->length == 4) {
        u32 opcode = insn & 0x7f;
        return opcode == 0x03 || opcode == 0x07 || opcode == 0x23 || opcode == 0x27 ||
               opcode == 0x2f || (opcode == 0x0f && (insn >> 12 & 7) == 2);
    }
    u32 quadrant = insn & 3, f3 = insn >> 13 & 7;
    return (quadrant == 0 && f3 != 0) || (quadrant == 2 && (f3 & 3) != 0);
}

static bool is_atomic(u32 insn)
{
    return (insn & 0x7f) == 0x2f;
}

/* Whether a random encoding writes or, for memory, is based on a register that it must not touch.
 */
static bool writes_reserved(const RiscvRow *row, u32 insn)
{
    Operands o;
    riscv_extract(row->format, insn, &o);
    if (row->length == 2) { /* the destination may be any of these, by format */
        return reserved(o.rd) || reserved(o.rs1);
    }
    u32 opcode = insn & 0x7f;
    bool no_rd =
        opcode == 0x23 || opcode == 0x27 || opcode == 0x63 || opcode == 0x0f || opcode == 0x73;
    bool float_rd = opcode == 0x07 || opcode == 0x43 || opcode == 0x47 || opcode == 0x4b ||
                    opcode == 0x4f || opcode == 0x53;
    /* amocas.d on RV32 and .q write a register pair. */
    return !no_rd &&
           (reserved(insn >> 7 & 31) || (opcode == 0x2f && reserved((insn >> 7 & 31) | 1))) &&
           !(float_rd && opcode != 0x53);
}

static void emit_insn(Gen *g, const RiscvRow *row, u32 insn)
{
    if (row->length == 2) {
        put16(g, (u16)insn);
    } else {
        put32(g, insn);
    }
}

/* Somewhere around the middle of the arena, aligned for atomics. */
static s32 random_offset(Gen *g, bool atomic)
{
    s32 off = below(g, 4) ? (s32)below(g, 64) - 32 : (s32)below(g, 3000) - 1500;
    return atomic && (g->o->portable || below(g, 16)) ? off & ~15 : off;
}

/* An instruction of a random row, with what it needs in front of it. */
static void random_row(Gen *g)
{
    for (;;) {
        const RiscvRow *row = &riscv_rows[below(g, riscv_row_count)];
        if (!row_allowed(g, row)) {
            continue;
        }
        u32 insn = ((u32)rnd(g) & ~row->mask) | row->match;
        if (row->length == 2) {
            insn &= 0xffff;
        }
        int decoded = riscv_decode(insn, g->o->ext, g->o->model->rv32);
        if (decoded < 0 || &riscv_rows[decoded] != row || writes_reserved(row, insn)) {
            continue;
        }
        if (is_memory(row, insn)) {
            Operands o;
            riscv_extract(row->format, insn, &o);
            if (reserved(o.rs1) || (o.rs1 == 0 && g->o->portable)) {
                continue;
            }
            bool atomic = is_atomic(insn);
            if (o.rs1) {
                s32 off = random_offset(g, atomic);
                /* Compressed offsets reach far up: start low enough to stay in the arena. */
                addi(g, o.rs1, R_DATA, off);
            }
        } else if (row->length == 4 && g->o->portable && (insn & 0x7f) == 0x53 &&
                   (insn >> 12 & 7) > 4 && (insn >> 12 & 7) < 7) {
            continue; /* reserved rounding modes: emulators differ for rows that ignore them */
        }
        emit_insn(g, row, insn);
        return;
    }
}

static void random_body(Gen *g, unsigned count, unsigned depth);

/* A forward conditional branch or jump over a few instructions. */
static void random_forward(Gen *g)
{
    static const u8 conditions[] = {0, 1, 4, 5, 6, 7};
    u32 at = g->at, kind = below(g, 8);
    u32 link;
    do {
        link = free_reg(g);
    } while (kind >= 6 && link == 0);
    put32(g, 0); /* patched below */
    if (kind == 7) {
        put32(g, 0);
    }
    random_body(g, 1 + below(g, 6), 2);
    s32 d = (s32)(g->at - at);
    u32 end = g->at;
    g->at = at;
    if (kind < 5) {
        put32(g, enc_b(conditions[below(g, 6)], free_reg(g), free_reg(g), d));
    } else if (kind < 7) {
        put32(g, enc_j(link, d));
    } else { /* through a register */
        put32(g, link << 7 | 0x17);
        put32(g, enc_i(0x67, 0, free_reg(g), link, d));
    }
    g->at = end;
}

static void random_loop(Gen *g)
{
    addi(g, R_INNER, 0, 1 + (s32)below(g, 5));
    u32 top = g->at;
    random_body(g, 1 + below(g, 12), 2);
    addi(g, R_INNER, R_INNER, -1);
    put32(g, enc_b(1, R_INNER, 0, (s32)(top - g->at)));
}

/* A function and some calls of it. It comes back as functions do, or by another register, or it skips
 * an instruction, or by a plain jump, so that calls and returns match or do not. */
static void random_calls(Gen *g)
{
    enum { RA = 1, T0 = 5, T1 = 6 };
    u32 link = below(g, 4) ? RA : T0, skip = below(g, 4) == 0 ? 4 : 0;
    u32 over = g->at;
    put32(g, 0); /* patched below */
    u32 inner = g->at; /* an inner function that leaves all registers alone */
    put32(g, enc_i(0x67, 0, 0, RA, 0));
    u32 function = g->at;
    addi(g, R_INNER, link, 0);
    random_body(g, 1 + below(g, 4), 2);
    if (below(g, 2)) {
        put32(g, enc_j(RA, (s32)(inner - g->at)));
    }
    u32 back = (u32[]){link, link, link, RA, T0, T1}[below(g, 6)];
    addi(g, back, R_INNER, below(g, 2) ? (s32)skip : 0);
    put32(g, enc_i(0x67, 0, 0, back, (s32)below(g, 2))); /* bit 0 does not count */
    u32 end = g->at;
    g->at = over;
    put32(g, enc_j(0, (s32)(end - over)));
    g->at = end;
    for (u32 i = 0, n = 1 + below(g, 3); i < n; i++) {
        if (below(g, 2)) {
            put32(g, enc_j(link, (s32)(function - g->at)));
        } else {
            s32 d = (s32)(function - g->at);
            u32 via = below(g, 2) ? link : T1;
            put32(g, via << 7 | 0x17);
            put32(g, enc_i(0x67, 0, link, via, d));
        }
        addi(g, free_reg(g), free_reg(g), (s32)below(g, 100));
    }
}

static void random_lr_sc(Gen *g)
{
    bool d = g->xlen_bytes == 8 && below(g, 2);
    u32 addr, f3 = d ? 3 : 2;
    do {
        addr = free_reg(g);
    } while (!addr);
    addi(g, addr, R_DATA, random_offset(g, true));
    u32 rd = free_reg(g);
    put32(g,
          2u << 27 | below(g, 4) << 25 | addr << 15 | f3 << 12 | (rd == addr ? 0 : rd) << 7 | 0x2f);
    u32 r = free_reg(g);
    addi(g, r == addr ? 0 : r, r, (s32)below(g, 100));
    put32(g, 3u << 27 | below(g, 4) << 25 | free_reg(g) << 20 | addr << 15 | f3 << 12 |
                 free_reg(g) << 7 | 0x2f);
}

/* Loads and stores off one base that is not set between them, often on both sides of a page border:
 * what generated code checks once for all. */
static void random_group(Gen *g)
{
    u32 base;
    do {
        base = free_reg(g);
    } while (base == 0);
    addi(g, base, R_DATA, random_offset(g, below(g, 2)));
    for (u32 n = 2 + below(g, 6); n; n--) {
        const bool store = below(g, 2), fp = has_fp(g) && below(g, 4) == 0;
        const u32 size = below(g, g->xlen_bytes == 8 || fp ? 4 : 3);
        const s32 disp = (s32)below(g, 16) * 8 - 64 + (below(g, 8) ? 0 : (s32)below(g, 8));
        u32 r = fp ? below(g, 32) : free_reg(g);
        if (fp) {
            const u32 f3 = 2 + (size & 1);
            put32(g, store ? enc_s(0x27, f3, base, r, disp) : enc_i(0x07, f3, r, base, disp));
        } else if (store) {
            put32(g, enc_s(0x23, size, base, r, disp));
        } else {
            const bool is_unsigned = (size < 2 || (size == 2 && g->xlen_bytes == 8)) && below(g, 2);
            put32(g, enc_i(0x03, size | (is_unsigned ? 4 : 0), r == base ? 0 : r, base, disp));
        }
        r = free_reg(g);
        if (r != base && below(g, 2)) {
            addi(g, r, free_reg(g), (s32)below(g, 100));
        } else if (r != base && below(g, 4) == 0) { /* leaves the block in its middle, or goes on */
            put32(g, enc_b(below(g, 2), r, free_reg(g), 8));
            addi(g, r, r, 1);
        }
    }
}

static void random_csr(Gen *g)
{
    u32 r = free_reg(g);
    switch (below(g, g->o->portable ? 4 : 8)) {
    case 0: /* a valid rounding mode */
        put32(g, CSR_FRM << 20 | below(g, 5) << 15 | 5 << 12 | free_reg(g) << 7 | 0x73);
        break;
    case 1:
        put32(g, CSR_FFLAGS << 20 | r << 15 | (1 + below(g, 3)) << 12 | free_reg(g) << 7 | 0x73);
        break;
    case 2:
        csrr(g, r, CSR_FCSR);
        break;
    case 3: /* back to the default mode, which most rounds should use */
        put32(g, CSR_FRM << 20 | 5 << 12 | 0x73);
        break;
    case 4:
        csrr(g, r,
             g->o->mode == RAND_BARE_M ? 0xb02
                                       : 0xc02); /* minstret; instret traps: no mcounteren */
        break;
    case 5: /* any rounding mode, reserved ones too */
        put32(g, CSR_FRM << 20 | below(g, 8) << 15 | 5 << 12 | 0x73);
        random_body(g, 3, 2);
        put32(g, CSR_FRM << 20 | 5 << 12 | 0x73);
        break;
    case 6: /* CSRs that generated code accesses by itself: scounteren, sscratch, sepc, scause, stval */
        put32(g, (u32[]){0x106, 0x140, 0x141, 0x142, 0x143}[below(g, 5)] << 20 | below(g, 32) << 15 |
                     (u32[]){1, 2, 3, 5, 6, 7}[below(g, 6)] << 12 | free_reg(g) << 7 | 0x73);
        break;
    case 7: /* ... and sstatus, all bits or one that matters; then FS dirty and mostly MXR off again */
        if (below(g, 2)) {
            put32(g, (u32[]){0x40, 0x80, 0x6, 0x2, 0xc0}[below(g, 5)] << 12 | r << 7 | 0x37);
        }
        put32(g, CSR_SSTATUS << 20 | (below(g, 4) ? r : below(g, 32)) << 15 |
                     (u32[]){1, 2, 3, 5, 6, 7}[below(g, 6)] << 12 | free_reg(g) << 7 | 0x73);
        random_body(g, 3, 2);
        put32(g, 6 << 12 | r << 7 | 0x37);
        put32(g, CSR_SSTATUS << 20 | r << 15 | 2 << 12 | 0x73);
        if (below(g, 4)) {
            put32(g, 0x80 << 12 | r << 7 | 0x37);
            put32(g, CSR_SSTATUS << 20 | r << 15 | 3 << 12 | 0x73);
        }
        break;
    }
}

/* A fresh interesting value into a random register. */
static void random_value(Gen *g)
{
    s32 off = (s32)below(g, 256) * 8;
    if (has_fp(g) && below(g, 2)) {
        put32(g, enc_i(0x07, 3, below(g, 32), R_TABLE, off));
    } else {
        lx(g, free_reg(g), R_TABLE, off);
    }
}

static void random_body(Gen *g, unsigned count, unsigned depth)
{
    for (unsigned i = 0; i < count; i++) {
        u32 what = below(g, 100);
        if (what < 8) {
            random_value(g);
        } else if (what < 14 && depth == 0) {
            random_forward(g);
        } else if (what < 16 && depth == 0) {
            random_loop(g);
        } else if (what == 26 && depth == 0) {
            random_calls(g);
        } else if (what < 17) {
            random_lr_sc(g);
        } else if (what >= 20 && what < 26) {
            random_group(g);
        } else if (what < 18 && has_fp(g)) {
            random_csr(g);
        } else if (what == 18 && depth == 0) {
            put32(g, below(g, 4) || g->o->portable
                         ? ECALL
                         : (u32)rnd(g) | 0x7f); /* long, not there: illegal */
        } else if (what == 19) {
            put32(g, (u32)rnd(g) % 0x100000 << 12 | free_reg(g) << 7 | 0x17); /* auipc */
        } else {
            random_row(g);
        }
    }
}

/* --- the frame -------------------------------------------------------------------------------- */

static void trap_handler(Gen *g)
{
    /* An ecall with R_OUTER < 0 ends the body's rounds: the code behind the handler takes over, in
     * M mode. */
    u32 to_end = g->at;
    put32(g, 0);
    csrr(g, R_TRAP1, CSR_MSCRATCH); /* mscratch = mscratch * 2 + cause: part of the hash */
    put32(g, enc_i(0x13, 1, R_TRAP1, R_TRAP1, 1));
    csrr(g, R_TRAP2, CSR_MCAUSE);
    put32(g, R_TRAP2 << 20 | R_TRAP1 << 15 | R_TRAP1 << 7 | 0x33);
    csrw(g, CSR_MSCRATCH, R_TRAP1);
    csrr(g, R_TRAP1, CSR_MEPC); /* skip the instruction */
    put32(g, enc_i(0x03, 5, R_TRAP2, R_TRAP1, 0));
    put32(g, enc_i(0x13, 7, R_TRAP2, R_TRAP2, 3));
    addi(g, R_TRAP2, R_TRAP2, -3);
    addi(g, R_TRAP1, R_TRAP1, 2);
    put32(g, enc_b(1, R_TRAP2, 0, 8));
    addi(g, R_TRAP1, R_TRAP1, 2);
    csrw(g, CSR_MEPC, R_TRAP1);
    put32(g, MRET);
    u32 end = g->at;
    g->at = to_end;
    put32(g, enc_b(4, R_OUTER, 0, (s32)(end - to_end)));
    g->at = end;
}

/* h (x5) = (h ^ word) * K (x6) over words from x7 to x8. */
static void hash_loop(Gen *g)
{
    u32 top = g->at;
    lx(g, 9, 7, 0);
    put32(g, 9u << 20 | 5u << 15 | 4 << 12 | 5 << 7 | 0x33);
    put32(g, 1u << 25 | 6u << 20 | 5u << 15 | 5 << 7 | 0x33);
    put32(g, enc_i(0x13, 5, 9, 5, 13));
    put32(g, 9u << 20 | 5u << 15 | 4 << 12 | 5 << 7 | 0x33);
    addi(g, 7, 7, (s32)g->xlen_bytes);
    put32(g, enc_b(6, 7, 8, (s32)(top - g->at)));
}

static void save_and_hash(Gen *g)
{
    unsigned w = g->xlen_bytes;
    la(g, R_TRAP1, RANDPROG_DATA + SAVED);
    for (unsigned i = 0; i < 32; i++) {
        if (!reserved(i)) {
            sx(g, i, R_TRAP1, (s32)(i * w));
        }
    }
    if (has_fp(g)) {
        for (unsigned i = 0; i < 32; i++) {
            put32(g, enc_s(0x27, 3, R_TRAP1, i, (s32)(0x200 + i * 8)));
        }
        csrr(g, 5, CSR_FCSR);
        sx(g, 5, R_TRAP1, 0x300);
    }
    la(g, R_TRAP2, RANDPROG_DATA + HASH);
    lx(g, 5, R_TRAP2, 0);
    li(g, 6, 0x1b873593);
    addi(g, 7, R_TRAP1, 0);
    addi(g, 8, R_TRAP1, 0x308);
    hash_loop(g);
    la(g, 7, RANDPROG_DATA + ARENA);
    li(g, 8, ARENA_SIZE);
    put32(g, 8u << 20 | 7u << 15 | 8 << 7 | 0x33);
    hash_loop(g);
    sx(g, 5, R_TRAP2, 0);
    for (unsigned i = 5; i < 10; i++) {
        lx(g, i, R_TRAP1, (s32)(i * w));
    }
}

static void print_and_finish(Gen *g)
{
    la(g, R_TRAP2, RANDPROG_DATA + HASH);
    lx(g, 5, R_TRAP2, 0);
    csrr(g, 6, CSR_MSCRATCH);
    put32(g, 6u << 20 | 5u << 15 | 4 << 12 | 5 << 7 | 0x33);
    li(g, 6, RANDPROG_UART);
    addi(g, 7, 0, (s32)g->xlen_bytes * 2); /* digits */
    addi(g, 10, 0, 10);
    u32 top = g->at;
    put32(g, enc_i(0x13, 5, 8, 5, (s32)g->xlen_bytes * 8 - 4));
    put32(g, enc_i(0x13, 1, 5, 5, 4));
    addi(g, 9, 8, '0');
    put32(g, enc_b(4, 8, 10, 8));
    addi(g, 9, 8, 'a' - 10);
    put32(g, enc_s(0x23, 0, 6, 9, 0));
    addi(g, 7, 7, -1);
    put32(g, enc_b(1, 7, 0, (s32)(top - g->at)));
    addi(g, 9, 0, '\n');
    put32(g, enc_s(0x23, 0, 6, 9, 0));
    li(g, 6, RANDPROG_FINISHER);
    li(g, 7, 0x5555);
    put32(g, enc_s(0x23, 2, 6, 7, 0));
    put32(g, enc_j(0, 0));
}

void randprog_generate(const RandOptions *options, u8 *image)
{
    Gen gen = {.o = options, .rng = options->seed, .image = image,
               .xlen_bytes = options->model->rv32 ? 4 : 8};
    Gen *g = &gen;
    memset(image, 0, RANDPROG_SIZE);
    fill(g, SEEDS, 64 * 8);
    fill(g, TABLE, 256 * 8);
    fill(g, ARENA, ARENA_SIZE);
    bool paged = options->mode != RAND_BARE_M;

    u32 skip = g->at;
    put32(g, 0);
    put32(g, 0x13); /* the handler stands at 8: mtvec wants 4-byte alignment */
    u32 handler = g->at;
    trap_handler(g);
    print_and_finish(g);
    u32 start = g->at;
    g->at = skip;
    put32(g, enc_j(0, (s32)start));
    g->at = start;

    la(g, 5, handler);
    csrw(g, CSR_MTVEC, 5);
    li(g, 5,
       0x2000 | (options->mode == RAND_PAGED_S ? 0x800 : 0)); /* FS initial; MPP of what follows */
    csrw(g, CSR_MSTATUS, 5);
    csrw(g, CSR_MSCRATCH, 0);
    addi(g, 5, 0, -1); /* PMP: all of memory for everybody */
    csrw(g, CSR_PMPADDR0, 5);
    addi(g, 5, 0, 0x1f);
    csrw(g, CSR_PMPCFG0, 5);
    if (paged) {
        la(g, 5, RANDPROG_DATA + page_tables(g));
        put32(g, enc_i(0x13, 5, 5, 5, 12));
        addi(g, 6, 0, options->model->rv32 ? 1 : 8);
        put32(g, enc_i(0x13, 1, 6, 6, options->model->rv32 ? 31 : 60));
        put32(g, 6u << 20 | 5u << 15 | 6 << 12 | 5 << 7 | 0x33);
        csrw(g, CSR_SATP, 5);
        put32(g, 0x12000073); /* sfence.vma */
        la(g, 5, g->at + 16);
        csrw(g, CSR_MEPC, 5);
        put32(g, MRET);
    }
    la(g, R_TRAP1, RANDPROG_DATA + SEEDS);
    for (unsigned i = 1; i < 32; i++) {
        if (!reserved(i)) {
            lx(g, i, R_TRAP1, (s32)i * 8);
        }
        if (has_fp(g)) {
            put32(g, enc_i(0x07, 3, i, R_TRAP1, (s32)(0x100 + i * 8)));
        }
    }
    la(g, R_TABLE, RANDPROG_DATA + TABLE);
    li(g, R_OUTER, (s32)options->rounds);
    u32 round = g->at;
    if (paged) {
        li(g, R_DATA, (s32)(ARENA_VA + ARENA_SIZE / 2));
    } else {
        la(g, R_DATA, RANDPROG_DATA + ARENA + ARENA_SIZE / 2);
    }
    random_body(g, options->body, 0);
    save_and_hash(g);
    addi(g, R_OUTER, R_OUTER, -1);
    put32(g, enc_b(5, 0, R_OUTER, 16)); /* done: over the jump back */
    la(g, R_TRAP1, round);
    put32(g, enc_i(0x67, 0, 0, R_TRAP1, 0));
    addi(g, R_OUTER, 0, -1);
    put32(g, ECALL);
}
