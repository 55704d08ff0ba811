/*
 * Instructions on two pages where the two are one frame, or where the tables that lead to the
 * second page are short of a word for it: what the translator has to keep apart although its
 * bookkeeping goes by frames.
 */
#include "guest.h"

SNIPPET(jump, "jr a0");

enum { A = 0x10000000 };

static void begin(void)
{
    use_bare();
    free_pages();
    csr_write(CSR_MEDELEG, 0);
}

/* One frame at two neighbouring addresses: its last halfword and its first are an instruction. */
static void into_its_own_frame(void)
{
    begin();
    ulong *root = new_space();
    u16 *frame = new_page();
    map(root, A, (ulong)frame, PTE_KERNEL);
    map(root, A + PAGE, (ulong)frame, PTE_KERNEL);
    use_space(root, 1);
    for (unsigned i = 0; i < 200; i++) {
        u32 insn = insn_li_a0((int)i);
        frame[PAGE / 2 - 1] = (u16)insn;
        frame[0] = insn >> 16;
        frame[1] = (u16)ECALL;
        frame[2] = 0;
        fence_i();
        Trap t = run(PRIV_S, jump, A + PAGE - 2, 0);
        EXPECT_TRAP(t, CAUSE_ECALL_S, A + PAGE + 2, 0);
        CHECK_EQ(t.a0, i);
    }
    use_bare();
}

/* The second page is now this frame, now that, and now the first page's own. */
static void second_page_moves(void)
{
    begin();
    ulong *root = new_space();
    u16 *first = new_page(), *second[3] = {new_page(), new_page(), first};
    use_space(root, 1);
    for (unsigned i = 0; i < 3; i++) {
        second[i][0] = insn_li_a0((int)i + 7) >> 16;
        second[i][1] = (u16)ECALL;
        second[i][2] = 0;
    }
    first[PAGE / 2 - 1] = (u16)insn_li_a0(0);
    fence_i();
    map(root, A, (ulong)first, PTE_KERNEL);
    for (unsigned i = 0; i < 60; i++) {
        unsigned s = (i * 5 + i / 7) % 3;
        map(root, A + PAGE, (ulong)second[s], PTE_KERNEL);
        fence_address(A + PAGE);
        Trap t = run(PRIV_S, jump, A + PAGE - 2, 0);
        EXPECT_TRAP(t, CAUSE_ECALL_S, A + PAGE + 2, 0);
        CHECK_EQ(t.a0, s + 7);
    }
    use_bare();
}

/* Code enough to have the translations of all that was there thrown away (with a small code cache).
 */
static void eviction(void)
{
    enum { FUNCTIONS = 3000, LENGTH = 40 };
    into_its_own_frame();
    volatile u32 *code = (volatile u32 *)0x80400000;
    for (unsigned i = 0; i < FUNCTIONS * LENGTH; i++) {
        code[i] = i % LENGTH == LENGTH - 1 ? 0x0040006f /* j .+4 */ : NOP;
    }
    code[FUNCTIONS * LENGTH] = ECALL;
    fence_i();
    for (unsigned i = 0; i < 3; i++) {
        EXPECT_DONE(run(PRIV_M, (void *)code, 0, 0));
    }
    into_its_own_frame();
}

/* At many addresses: an address of the second page may be one that an entry of the host's tables
 * cannot tell from none. */
static void anywhere(void)
{
    begin();
    ulong *root = new_space();
    u16 *frames[2] = {new_page(), new_page()};
    u32 insn = insn_li_a0(99);
    frames[0][PAGE / 2 - 1] = (u16)insn;
    frames[1][0] = insn >> 16;
    frames[1][1] = (u16)ECALL;
    frames[1][2] = 0;
    fence_i();
    use_space(root, 1);
    for (ulong va = 0x18000000; va < 0x40000000; va += LEVEL_SIZE(1)) {
        /* The tables of this piece are filled with the two frames in turn. */
        ulong *pte = pte_at(root, va, 0);
        for (unsigned i = 0; i < LEVEL_SIZE(1) / PAGE; i++) {
            pte[i] = pte_make((ulong)frames[i & 1], PTE_KERNEL);
        }
        for (ulong at = va; at < va + LEVEL_SIZE(1); at += 2 * PAGE) {
            Trap t = run(PRIV_S, jump, at + PAGE - 2, 0);
            EXPECT_TRAP(t, CAUSE_ECALL_S, at + PAGE + 2, 0);
            CHECK_EQ(t.a0, 99);
        }
    }
    use_bare();
}

int main(void)
{
    RUN(into_its_own_frame);
    RUN(second_page_moves);
    RUN(eviction);
    RUN(anywhere);
    return 0;
}
