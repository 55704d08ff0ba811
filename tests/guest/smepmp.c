/*
 * Smepmp: mseccfg.MML gives every combination of L, R, W, X a meaning of its own, MMWP denies M
 * mode what no rule matches, RLB lets locked rules change. The bits are sticky, so the order of the
 * tests matters.
 */
#include "place.h"

enum { MML = 1, MMWP = 2, RLB = 4, L = PMP_L, R = PMP_R, W = PMP_W, X = PMP_X };

/* What M and S/U may do under MML, by LXWR as in pmpcfg: L is index bit 3 (privileged spec,
 * "Smepmp", truth table). */
static const struct {
    u8 m, su;
} truth[16] = {
    [0] = {0, 0},
    [R] = {0, R},
    [W] = {R | W, R},
    [R | W] = {0, R | W},
    [X] = {0, X},
    [R | X] = {0, R | X},
    [W | X] = {R | W, R | W},
    [R | W | X] = {0, R | W | X},
    [8] = {0, 0},
    [8 | R] = {R, 0},
    [8 | W] = {X, X},
    [8 | R | W] = {R | W, 0},
    [8 | X] = {X, 0},
    [8 | R | X] = {R | X, 0},
    [8 | W | X] = {R | X, X},
    [8 | R | W | X] = {R, R},
};

static ulong napot(ulong base, ulong size)
{
    return base >> 2 | ((size >> 3) - 1);
}

static ulong page;
extern char snippets[], snippets_end[];

/* Rules that keep the program going: text for M, snippets for both to execute and M to read. */
static void enter_mml(void)
{
    for (unsigned i = 1; i < 16; i++) {
        pmp_set(i, 0, 0);
    }
    csr_write(CSR_MSECCFG, RLB);
    CHECK_EQ(csr_read(CSR_MSECCFG), RLB);
    pmp_set(4, 0, (ulong)0x80000000 >> 2);
    pmp_set(5, L | R | X | PMP_TOR, (ulong)snippets_end >> 2);
    pmp_set(0, 0, 0);
    csr_write(CSR_MSECCFG, RLB | MML);
    CHECK_EQ(csr_read(CSR_MSECCFG), RLB | MML);
    pmp_set(2, 0, (ulong)snippets >> 2);
    pmp_set(3, L | W | X | PMP_TOR, (ulong)snippets_end >> 2);
}

static void truth_table(void)
{
    page = (ulong)new_page();
    enter_mml();
    for (unsigned i = 0; i < 16; i++) {
        u8 cfg = (u8)((i & 7) | (i & 8 ? L : 0));
        pmp_set(0, 0, 0);
        place_at(page, 55);
        fence_i();
        pmp_set(0, cfg | PMP_NAPOT, napot(page, PAGE));
        CHECK_EQ(pmp_cfg(0), cfg | PMP_NAPOT);
        static const unsigned modes[] = {PRIV_M, PRIV_S, PRIV_U};
        for (unsigned m = 0; m < 3; m++) {
            u8 can = modes[m] == PRIV_M ? truth[i].m : truth[i].su;
            EACH_ACCESS (a) {
                check_about = i << 8 | modes[m] << 4 | a;
                if (can >> a & 1) {
                    Trap t = try(modes[m], a, page);
                    EXPECT_DONE(t);
                    if (a != STORE) {
                        CHECK_EQ(t.a0, 55);
                    }
                } else {
                    EXPECT_ACCESS_FAULT(modes[m], a, page);
                }
            }
        }
    }
    check_about = 0;
    pmp_set(0, 0, 0);
}

/* Where no rule matches: under MML, M mode reads and writes but does not execute; under MMWP it
 * does nothing. */
static void no_rule(void)
{
    place_at(page, 1);
    fence_i();
    EXPECT_DONE(try(PRIV_M, LOAD, page));
    EXPECT_DONE(try(PRIV_M, STORE, page));
    EXPECT_ACCESS_FAULT(PRIV_M, FETCH, page);
    EXPECT_ACCESS_FAULT(PRIV_S, LOAD, page);
    /* Data, stack and devices get a rule, but for the page. */
    pmp_set(6, 0, (ulong)snippets_end >> 2);
    pmp_set(7, L | R | W | PMP_TOR, page >> 2);
    pmp_set(8, L | R | W | PMP_NAPOT, napot(0, 0x80000000));
    csr_write(CSR_MSECCFG, RLB | MML | MMWP);
    CHECK_EQ(csr_read(CSR_MSECCFG), RLB | MML | MMWP);
    EACH_ACCESS (a) {
        EXPECT_ACCESS_FAULT(PRIV_M, a, page);
        EXPECT_ACCESS_FAULT(PRIV_U, a, page);
    }
    pmp_set(0, L | R | PMP_NAPOT, napot(page, PAGE));
    EXPECT_DONE(try(PRIV_M, LOAD, page));
    pmp_set(0, 0, 0);
}

/* MML and MMWP stay; without RLB locked rules stay, new rules can't let M mode execute, and RLB
 * stays off. */
static void lockdown(void)
{
    csr_write(CSR_MSECCFG, RLB);
    CHECK_EQ(csr_read(CSR_MSECCFG), RLB | MML | MMWP);
    csr_write(CSR_MSECCFG, 0);
    CHECK_EQ(csr_read(CSR_MSECCFG), MML | MMWP);
    csr_write(CSR_MSECCFG, RLB);
    CHECK_EQ(csr_read(CSR_MSECCFG), MML | MMWP);
    pmp_set(8, 0, 0);
    CHECK_EQ(pmp_cfg(8), L | R | W | PMP_NAPOT);
    static const u8 refused[] = {L | X, L | R | X, L | W, L | W | X};
    for (unsigned i = 0; i < ARRAY_LEN(refused); i++) {
        check_about = refused[i];
        pmp_set(9, refused[i] | PMP_NAPOT, napot(page, PAGE));
        CHECK_EQ(pmp_cfg(9), 0);
    }
    check_about = 0;
    static const u8 taken[] = {0, R, R | W, R | X, R | W | X, X, W, W | X};
    for (unsigned i = 0; i < ARRAY_LEN(taken); i++) {
        check_about = taken[i];
        pmp_set(9, taken[i] | PMP_NAPOT, napot(page, PAGE));
        CHECK_EQ(pmp_cfg(9), taken[i] | PMP_NAPOT);
    }
    check_about = 0;
    pmp_set(9, L | R | W | PMP_NAPOT, napot(page, PAGE));
    EXPECT_DONE(try(PRIV_M, STORE, page));
    EXPECT_ACCESS_FAULT(PRIV_S, STORE, page);
}

int main(void)
{
    RUN(truth_table);
    RUN(no_rule);
    RUN(lockdown);
    return 0;
}
