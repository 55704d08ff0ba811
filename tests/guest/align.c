/*
 * Without C, instructions are aligned to 4 bytes: a jump elsewhere is an exception of the jump,
 * which writes no link register. This program is built and run without C.
 */
#include "guest.h"

SNIPPET(jump, "li a1, 7\n jalr a1, 0(a0)\n ecall");
SNIPPET(jump_offset, "li a1, 7\n jalr a1, 2(a0)\n ecall");
SNIPPET(jump_and_link, "li a1, 7\n .word 0x006005ef\n nop\n ecall");     /* jal a1, . + 6 */
SNIPPET(branch, "li a1, 7\n .word 0x00050363\n mv a1, a0\n ecall");      /* beqz a0, . + 6 */
SNIPPET(branch_back, "li a1, 7\n .word 0xfe051fe3\n mv a1, a0\n ecall"); /* bnez a0, . - 2 */
SNIPPET(half_word, "c_nop: .half 1\n .half 1\n ecall");
SNIPPET(done, "ecall");

static const unsigned modes[] = {PRIV_U, PRIV_S, PRIV_M};
#define EACH_MODE(m) for (unsigned i_ = 0, m; i_ < 3 && (m = modes[i_], true); i_++)

static void misaligned_jumps(void)
{
    EACH_MODE (m) {
        for (unsigned again = 0; again < 3; again++) {
            Trap t = run(m, jump, (ulong)done + 2, 0);
            EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, jump + 4, done + 2);
            CHECK_EQ(t.a1, 7);
            t = run(m, jump, (ulong)done + 3, 0); /* bit 0 is cleared */
            EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, jump + 4, done + 2);
            t = run(m, jump_offset, (ulong)done, 0);
            EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, jump_offset + 4, done + 2);
            CHECK_EQ(t.a1, 7);
            EXPECT_DONE(run(m, jump, (ulong)done, 0));
            EXPECT_DONE(run(m, jump, (ulong)done + 1, 0));
            EXPECT_DONE(run(m, jump_offset, (ulong)done - 2, 0));
            t = run(m, jump_and_link, 0, 0);
            EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, jump_and_link + 4, jump_and_link + 10);
            CHECK_EQ(t.a1, 7);
            /* Branches: only if they are taken. */
            t = run(m, branch, 0, 0);
            EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, branch + 4, branch + 10);
            t = run(m, branch, 5, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a1, 5);
            t = run(m, branch_back, 5, 0);
            EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, branch_back + 4, branch_back + 2);
            t = run(m, branch_back, 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a1, 0);
        }
        /* Misaligned wins over what a fetch there would have met. */
        EXPECT_TRAP(run(m, jump, HOLE + 2, 0), CAUSE_FETCH_MISALIGNED, jump + 4, HOLE + 2);
        EXPECT_TRAP(run(m, jump, HOLE, 0), CAUSE_FETCH_ACCESS, HOLE, HOLE);
    }
}

static void delegated(void)
{
    csr_write(CSR_MEDELEG, 1 << CAUSE_FETCH_MISALIGNED);
    Trap t = run(PRIV_U, jump, (ulong)done + 2, 0);
    EXPECT_TRAP(t, CAUSE_FETCH_MISALIGNED, jump + 4, done + 2);
    CHECK_EQ(t.by, PRIV_S);
    csr_write(CSR_MEDELEG, 0);
}

static void no_compressed(void)
{
    CHECK_EQ(csr_read(CSR_MISA) >> 2 & 1, 0);
    Trap t = run(PRIV_M, half_word, 0, 0);
    CHECK_EQ(t.cause, CAUSE_ILLEGAL);
    CHECK_EQ(t.epc, half_word);
    /* epc keeps to multiples of 4, and so do returns. */
    csr_write(CSR_SEPC, (ulong)done | 3);
    CHECK_EQ(csr_read(CSR_SEPC), (ulong)done);
    csr_write(CSR_MEPC, (ulong)done | 3);
    CHECK_EQ(csr_read(CSR_MEPC), (ulong)done);
    EXPECT_DONE(run(PRIV_U, done + 2, 0, 0));
}

int main(void)
{
    RUN(misaligned_jumps);
    RUN(delegated);
    RUN(no_compressed);
    return 0;
}
