/* Physical memory protection: ranges of every kind, permissions, priority, accesses that a rule
 * covers in part, locks. */
#include "place.h"

enum { OPEN = 15, RULE = 2, RWX = PMP_R | PMP_W | PMP_X };
static const unsigned modes[] = {PRIV_U, PRIV_S, PRIV_M};
#define EACH_MODE(m) for (unsigned i_ = 0, m; i_ < 3 && (m = modes[i_], true); i_++)

static ulong napot(ulong base, ulong size)
{
    return base >> 2 | ((size >> 3) - 1);
}

/* Everything is open by the last rule; the others are off. */
static void begin(void)
{
    free_pages();
    pmp_set(OPEN, RWX | PMP_NAPOT, ~(ulong)0);
    for (unsigned i = 0; i < OPEN; i++) {
        pmp_set(i, 0, 0);
    }
}

static bool allowed(u8 cfg, unsigned access)
{
    return cfg & (access == LOAD ? PMP_R : access == STORE ? PMP_W : PMP_X);
}

static void expect_access(int line, unsigned mode, unsigned access, ulong at, bool ok)
{
    if (ok) {
        expect_done(__FILE__, line, try(mode, access, at));
    } else {
        expect_fault(__FILE__, line, mode, access, at, access_fault[access]);
    }
}

static void permissions(void)
{
    begin();
    ulong page = (ulong)new_page(), at = page + 0x100;
    for (ulong p = page; p < page + PAGE; p += sizeof(Place)) {
        place_at(p, 33);
    }
    fence_i();
    static const struct {
        u8 kind;
        ulong size;
    } ranges[] = {{PMP_NAPOT, 16},   {PMP_NAPOT, 32}, {PMP_NAPOT, 256},
                  {PMP_NAPOT, PAGE}, {PMP_TOR, 16},   {PMP_TOR, 48}};
    for (unsigned r = 0; r < ARRAY_LEN(ranges); r++) {
        ulong base = ranges[r].size == PAGE ? page : at, end = base + ranges[r].size;
        for (u8 perms = 0; perms < 8; perms++) {
            if ((perms & 3) == PMP_W) {
                continue; /* reserved */
            }
            if (ranges[r].kind == PMP_TOR) {
                pmp_set(RULE - 1, 0, base >> 2);
                pmp_set(RULE, perms | PMP_TOR, end >> 2);
            } else {
                pmp_set(RULE, perms | PMP_NAPOT, napot(base, ranges[r].size));
            }
            EACH_MODE (m) {
                EACH_ACCESS (a) {
                    check_about = r << 12 | perms << 8 | m << 4 | a;
                    bool in = m == PRIV_M || allowed(perms, a);
                    expect_access(__LINE__, m, a, base, in);
                    expect_access(__LINE__, m, a, end - 16, in);
                    if (base > page) {
                        expect_access(__LINE__, m, a, base - 16, true);
                        expect_access(__LINE__, m, a, end, true);
                    }
                }
            }
        }
    }
    /* NA4: four bytes. */
    for (unsigned a = LOAD; a <= STORE; a++) {
        pmp_set(RULE, PMP_NA4, (a == LOAD ? at + 8 : at + 12) >> 2);
        expect_access(__LINE__, PRIV_S, a, at, false);
        expect_access(__LINE__, PRIV_S, 1 - a, at, true);
        expect_access(__LINE__, PRIV_S, a, at + 16, true);
        expect_access(__LINE__, PRIV_S, a, at - 16, true);
    }
    check_about = 0;
}

/* Code may end in the middle of a page: the first instruction beyond is the one that faults. */
static void partial_code_page(void)
{
    begin();
    u32 *code = new_page();
    for (unsigned i = 0; i < PAGE / 4; i++) {
        code[i] = 0x00150513; /* addi a0, a0, 1 */
    }
    fence_i();
    for (ulong end = 16; end < PAGE; end += 256 + 16) {
        pmp_set(RULE - 1, 0, (ulong)code >> 2);
        pmp_set(RULE, PMP_R | PMP_X | PMP_TOR, ((ulong)code + end) >> 2);
        pmp_set(RULE + 1, PMP_TOR, ((ulong)code + PAGE) >> 2);
        Trap t = run(PRIV_U, code, 0, 0);
        EXPECT_TRAP(t, CAUSE_FETCH_ACCESS, (ulong)code + end, (ulong)code + end);
        CHECK_EQ(t.a0, end / 4);
    }
    /* A rule of 4 bytes without X in the middle. */
    begin();
    pmp_set(RULE, PMP_R | PMP_W | PMP_NA4, (ulong)&code[50] >> 2);
    pmp_set(RULE + 1, PMP_R | PMP_W | PMP_X | PMP_NAPOT, napot((ulong)code, PAGE));
    Trap t = run(PRIV_S, code, 0, 0);
    EXPECT_TRAP(t, CAUSE_FETCH_ACCESS, &code[50], &code[50]);
    CHECK_EQ(t.a0, 50);
    /* Half of an instruction. */
    u16 *half = (u16 *)&code[40] - 1; /* the last two bytes of code[39] */
    half[0] = (u16)insn_li_a0(7);
    half[1] = insn_li_a0(7) >> 16;
    fence_i();
    pmp_set(RULE, PMP_R | PMP_NA4, (ulong)&code[40] >> 2);
    t = run(PRIV_S, half, 0, 0);
    EXPECT_TRAP(t, CAUSE_FETCH_ACCESS, half,
                t.tval == (ulong)half ? (ulong)half : (ulong)&code[40]);
    pmp_set(RULE, PMP_R | PMP_NA4, (ulong)&code[39] >> 2);
    t = run(PRIV_S, half, 0, 0);
    EXPECT_TRAP(t, CAUSE_FETCH_ACCESS, half, half);
}

SNIPPET(load_long, STR_LOAD " a0, 0(a0)\n ecall");
SNIPPET(store_long, STR_STORE " a1, 0(a0)\n ecall");

/* An access has to lie in the matching rule as a whole. Misaligned ones may be split, so what both
 * parts allow may pass. */
static void straddling(void)
{
    begin();
    ulong page = (ulong)new_page(), border = page + 0x200, size = XLEN / 8;
    pmp_set(RULE, PMP_TOR, border >> 2); /* below: nothing; above: everything */
    pmp_set(RULE - 1, 0, page >> 2);
    for (ulong back = 1; back < size; back++) {
        check_about = back;
        Trap t = run(PRIV_S, load_long, border - back, 0);
        EXPECT_TRAP(t, CAUSE_LOAD_ACCESS, load_long, border - back);
        t = run(PRIV_S, store_long, border - back, 5);
        EXPECT_TRAP(t, CAUSE_STORE_ACCESS, store_long, border - back);
    }
    pmp_set(RULE, RWX | PMP_TOR, border >> 2); /* below: everything; above: nothing */
    pmp_set(RULE + 1, PMP_NAPOT, napot(border, 8));
    for (ulong back = 1; back < size; back++) {
        check_about = back;
        Trap t = run(PRIV_S, load_long, border - back, 0);
        EXPECT_TRAP(t, CAUSE_LOAD_ACCESS, load_long, t.tval == border ? border : border - back);
        *(volatile u8 *)(border - back) = 0x11;
        t = run(PRIV_S, store_long, border - back, 0x22);
        EXPECT_TRAP(t, CAUSE_STORE_ACCESS, store_long, t.tval == border ? border : border - back);
    }
    EXPECT_DONE(run(PRIV_S, load_long, border - size, 0));
#if XLEN == 64
    /* Aligned: a rule of 4 bytes matches half of it, whatever it permits. */
    pmp_set(RULE + 1, 0, 0);
    pmp_set(RULE, RWX | PMP_NA4, border >> 2);
    EXPECT_TRAP(run(PRIV_S, load_long, border, 0), CAUSE_LOAD_ACCESS, load_long, border);
    EXPECT_TRAP(run(PRIV_S, store_long, border, 0), CAUSE_STORE_ACCESS, store_long, border);
    pmp_set(RULE, RWX | PMP_NA4, (border + 4) >> 2);
    EXPECT_TRAP(run(PRIV_U, load_long, border, 0), CAUSE_LOAD_ACCESS, load_long, border);
    EXPECT_TRAP(run(PRIV_U, store_long, border, 0), CAUSE_STORE_ACCESS, store_long, border);
    EXPECT_DONE(run(PRIV_U, load_long, border + 8, 0));
#endif
    check_about = 0;
}

static void priority(void)
{
    begin();
    ulong page = (ulong)new_page();
    place_at(page, 3);
    place_at(page + 0x800, 4);
    fence_i();
    EACH_ACCESS (a) {
        check_about = a;
        pmp_set(3, PMP_NAPOT, napot(page, 16));
        pmp_set(4, RWX | PMP_NAPOT, napot(page, PAGE));
        expect_access(__LINE__, PRIV_S, a, page, false);
        expect_access(__LINE__, PRIV_S, a, page + 0x800, true);
        pmp_set(3, RWX | PMP_NAPOT, napot(page, 16));
        pmp_set(4, PMP_NAPOT, napot(page, PAGE));
        expect_access(__LINE__, PRIV_U, a, page, true);
        expect_access(__LINE__, PRIV_U, a, page + 0x800, false);
        /* A TOR range that ends before it begins matches nothing. */
        pmp_set(3, 0, (page + PAGE) >> 2);
        pmp_set(4, PMP_TOR, page >> 2);
        expect_access(__LINE__, PRIV_U, a, page, true);
        pmp_set(3, 0, page >> 2);
        pmp_set(4, PMP_TOR, page >> 2);
        expect_access(__LINE__, PRIV_U, a, page, true);
        /* Entry 0's TOR begins at 0. */
        pmp_set(4, 0, 0);
        pmp_set(0, RWX | PMP_TOR, (page + 0x800) >> 2);
        pmp_set(1, PMP_NAPOT, ~(ulong)0);
        expect_access(__LINE__, PRIV_U, a, page, true);
        expect_access(__LINE__, PRIV_U, a, page + 0x800, false);
        pmp_set(1, 0, 0);
        pmp_set(0, 0, 0);
    }
    check_about = 0;
    /* No rule matches: nothing for S and U, everything for M. */
    pmp_set(OPEN, 0, 0);
    EXPECT_TRAP(run(PRIV_S, load, page, 0), CAUSE_FETCH_ACCESS, load, load);
    EXPECT_TRAP(run(PRIV_U, load, page, 0), CAUSE_FETCH_ACCESS, load, load);
    EXPECT_DONE(run(PRIV_M, load, page, 0));
    begin();
    EXPECT_DONE(run(PRIV_S, load, page, 0));
}

static void registers(void)
{
    begin();
    static const ulong patterns[] = {0, ~(ulong)0, (ulong)0x5555555555555555,
                                     (ulong)0xaaaaaaaaaaaaaaaa};
    ulong mask = IS64 ? ((u64)1 << 54) - 1 : ~(ulong)0;
    for (unsigned i = 0; i < OPEN; i++) {
        for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
            pmp_set(i, 0, patterns[p]);
            CHECK_EQ(pmp_addr(i), patterns[p] & mask);
        }
        pmp_set(i, 0, 0x1234);
        for (unsigned cfg = 0; cfg < 128; cfg++) {
            if ((cfg & 3) == PMP_W) {
                continue;
            }
            check_about = i << 8 | cfg;
            pmp_set(i, (u8)cfg, 0x1234);
            CHECK_EQ(pmp_cfg(i), cfg & 0x1f);
            CHECK_EQ(pmp_addr(i), 0x1234);
        }
        pmp_set(i, 0, 0);
    }
    check_about = 0;
}

SNIPPET(
    load_as_s,
    "li t0, 0x20800\n csrs mstatus, t0\n lw a0, 8(a0)\n li t0, 0x20000\n csrc mstatus, t0\n ecall");
SNIPPET(store_as_u, "li t0, 0x20000\n csrs mstatus, t0\n sw a0, 12(a0)\n csrc mstatus, t0\n ecall");

/* MPRV makes M's loads and stores obey the rules for S and U; page-table walks are S mode's
 * accesses. */
static void for_others(void)
{
    begin();
    ulong page = (ulong)new_page();
    place_at(page, 6);
    pmp_set(RULE, PMP_NAPOT, napot(page, PAGE));
    Trap t = run(PRIV_M, load_as_s, page, 0);
    CHECK_EQ(t.cause, CAUSE_LOAD_ACCESS);
    CHECK_EQ(t.tval, page + 8);
    t = run(PRIV_M, store_as_u, page, 0);
    CHECK_EQ(t.cause, CAUSE_STORE_ACCESS);
    CHECK_EQ(t.tval, page + 12);
    EXPECT_DONE(run(PRIV_M, load, page, 0));
    pmp_set(RULE, PMP_R | PMP_NAPOT, napot(page, PAGE));
    t = run(PRIV_M, load_as_s, page, 0);
    EXPECT_DONE(t);
    CHECK_EQ(t.a0, 6);
    pmp_set(RULE, 0, 0);

    ulong *root = new_space();
    map_user_snippets(root);
    ulong va = (ulong)0x40000000;
    map(root, va, page, PTE_KERNEL);
    ulong *table = (ulong *)((ulong)pte_at(root, va, 0) & ~(ulong)(PAGE - 1));
    use_space(root, 1);
    paging = true;
    EACH_ACCESS (a) {
        check_about = a;
        expect_access(__LINE__, PRIV_S, a, va, true);
        pmp_set(RULE, PMP_NAPOT, napot((ulong)table, PAGE));
        expect_access(__LINE__, PRIV_S, a, va, false);
        pmp_set(RULE, PMP_W | PMP_R | PMP_NAPOT, napot((ulong)table, PAGE));
        expect_access(__LINE__, PRIV_S, a, va, true);
        /* And the page itself, by its physical address. */
        pmp_set(RULE, PMP_NAPOT, napot(page, 16));
        expect_access(__LINE__, PRIV_S, a, va, false);
        pmp_set(RULE, 0, 0);
    }
    check_about = 0;
    paging = false;
    use_bare();
}

/* Last, since locks hold until reset: rules that bind M mode too. */
static void locks(void)
{
    begin();
    ulong page = (ulong)new_page(), tor = (ulong)new_page();
    for (ulong p = page; p < page + PAGE; p += sizeof(Place)) {
        place_at(p, 8);
    }
    place_at(tor, 9);
    fence_i();
    static const u8 perms[] = {0, PMP_R, PMP_R | PMP_W, PMP_X, PMP_R | PMP_X, RWX};
    for (unsigned i = 0; i < ARRAY_LEN(perms); i++) {
        ulong at = page + i * 0x100;
        pmp_set(1 + i, perms[i] | PMP_NAPOT | PMP_L, napot(at, 16));
        EACH_MODE (m) {
            EACH_ACCESS (a) {
                check_about = i << 8 | m << 4 | a;
                expect_access(__LINE__, m, a, at, allowed(perms[i], a));
                expect_access(__LINE__, m, a, at + 16, true);
            }
        }
        u8 cfg = pmp_cfg(1 + i);
        ulong addr = pmp_addr(1 + i);
        pmp_set(1 + i, RWX | PMP_NA4, 0);
        CHECK_EQ(pmp_cfg(1 + i), cfg);
        CHECK_EQ(pmp_addr(1 + i), addr);
    }
    /* A locked TOR keeps the address below, too. */
    pmp_set(8, 0, tor >> 2);
    pmp_set(9, PMP_TOR | PMP_R | PMP_L, (tor + PAGE) >> 2);
    pmp_set(8, 0, 0);
    CHECK_EQ(pmp_addr(8), tor >> 2);
    EACH_ACCESS (a) {
        check_about = a;
        expect_access(__LINE__, PRIV_M, a, tor, a == LOAD);
    }
    check_about = 0;
}

int main(void)
{
    RUN(permissions);
    RUN(partial_code_page);
    RUN(straddling);
    RUN(priority);
    RUN(registers);
    RUN(for_others);
    RUN(locks);
    return 0;
}
