/*
 * What a reset leaves behind: memory, and nothing of the harts. The program starts the machine again and finds its
 * notes behind its image.
 */
#include "guest.h"

SNIPPET(load, "lw a0, 0(a0)\n ecall");

enum { A = 0x10000000, MARK = 0x5ea1ed };

/* Translations that were remembered are forgotten: the new space has the root and the number of the old one. */
static void translations(void)
{
    u32 *pages[2];
    free_pages();
    csr_write(CSR_MEDELEG, 0);
    ulong *root = new_space();
    for (unsigned i = 0; i < 2; i++) {
        pages[i] = new_page();
        *pages[i] = i;
    }
    u32 *again = (u32 *)(image_end + (1 << 20)); /* where no page is handed out */
    unsigned boot = *again == MARK;
    map(root, A, (ulong)pages[boot], PTE_KERNEL);
    csr_write(CSR_SATP, satp_of(root, 5)); /* no fence: there is nothing to forget */
    Trap t = run(PRIV_S, load, A, 0);
    EXPECT_DONE(t);
    CHECK_EQ(t.a0, boot);
    use_bare();
    if (!boot) {
            *again = MARK;
        *FINISHER = 0x7777;
        for (;;) {
        }
    }
}

/* Registers are 0 again. */
static void registers(void)
{
    CHECK_EQ(csr_read(CSR_SATP), 0);
    CHECK_EQ(csr_read(CSR_MEDELEG), 0);
    CHECK_EQ(csr_read(CSR_STVEC), 0);
    CHECK_EQ(csr_read(CSR_SCAUSE), 0);
    CHECK_EQ(csr_read(CSR_MSTATUS) & (MSTATUS_MPRV | MSTATUS_MIE | MSTATUS_SUM | MSTATUS_TVM), 0);
    csr_write(CSR_SCAUSE, 7);
    csr_write(CSR_STVEC, 0x80000000);
    csr_set(CSR_MSTATUS, MSTATUS_SUM | MSTATUS_TVM);
    csr_clear(CSR_MSTATUS, MSTATUS_TVM);
}

int main(void)
{
    RUN(registers);
    RUN(translations);
    return 0;
}
