/* Interrupts: the CLINT's timer and software interrupts, Sstc, the UART through the PLIC;
 * priorities, delegation, vectors, WFI. */
#include "guest.h"

SNIPPET(spin, "1: addi a0, a0, 1\n bnez a0, 1b\n ecall"); /* until something interrupts it */
SNIPPET(spin_far, "1: addi a0, a0, 1\n j 2f\n .balign 64\n 2: bnez a0, 1b\n ecall");
SNIPPET(wait, "wfi\n ecall");
SNIPPET(wait_twice, "wfi\n wfi\n ecall");
SNIPPET(just_ecall, "ecall");
SNIPPET(set_sie, "csrsi sstatus, 2\n nop\n ecall");

enum { SOON = 20000, LATE = 100000000 }; /* ticks: 2 ms, 10 s */

static void all_off(void)
{
    csr_write(CSR_MIE, 0);
    csr_write(CSR_MIP, 0);
    csr_write(CSR_MIDELEG, 0);
    csr_clear(CSR_MSTATUS, MSTATUS_SIE);
    menvcfg_clear(ENVCFG_STCE);
    *CLINT_MSIP = 0;
    set_mtimecmp(~(u64)0);
    run_with_mie = false;
}

static void set_stimecmp(u64 when)
{
#if XLEN == 64
    csr_write(CSR_STIMECMP, when);
#else
    csr_write(CSR_STIMECMP, ~(ulong)0);
    csr_write(CSR_STIMECMPH, (ulong)(when >> 32));
    csr_write(CSR_STIMECMP, (ulong)when);
#endif
}

static void expect_interrupt(Trap t, unsigned irq, unsigned from, unsigned by)
{
    CHECK_EQ(t.cause, INTERRUPT | irq);
    CHECK_EQ(t.tval, 0);
    CHECK_EQ(t.from, from);
    CHECK_EQ(t.by, by);
    CHECK_EQ(t.vector, run_vectored ? irq : 0);
}

static const unsigned modes[] = {PRIV_U, PRIV_S, PRIV_M};
#define EACH_MODE(m) for (unsigned i_ = 0, m; i_ < 3 && (m = modes[i_], true); i_++)

static void software(void)
{
    all_off();
    EACH_MODE (m) {
        csr_write(CSR_MIE, 1 << IRQ_MSI);
        run_with_mie = m == PRIV_M;
        *CLINT_MSIP = 1;
        CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_MSI, 1 << IRQ_MSI);
        Trap t = run(m, spin, 1, 0);
        expect_interrupt(t, IRQ_MSI, m, PRIV_M);
        CHECK_EQ(t.epc, spin); /* before the first instruction */
        CHECK_EQ(t.a0, 1);
        *CLINT_MSIP = 0;
        CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_MSI, 0);
        EXPECT_DONE(run(m, just_ecall, 0, 0));
    }
    /* In M mode with MIE = 0 it waits. */
    run_with_mie = false;
    *CLINT_MSIP = 0xffffffff;
    CHECK_EQ(*CLINT_MSIP, 1); /* the other bits are wired to 0 */
    EXPECT_DONE(run(PRIV_M, just_ecall, 0, 0));
    all_off();
}

static void timer(void)
{
    all_off();
    for (unsigned vectored = 0; vectored < 2; vectored++) {
        run_vectored = vectored;
        EACH_MODE (m) {
            csr_write(CSR_MIE, 1 << IRQ_MTI);
            run_with_mie = m == PRIV_M;
            /* A busy host may let the time pass before the snippet has run an instruction: then
             * it is given longer. */
            Trap t = {0};
            for (u64 delay = SOON; t.a0 <= 1 && delay <= LATE; delay *= 2) {
                u64 when = mtime() + delay;
                set_mtimecmp(when);
                ulong early = csr_read(CSR_MIP) & 1 << IRQ_MTI;
                CHECK(!early || mtime() >= when);
                t = run(m, m == PRIV_S ? spin_far : spin, 1, 0);
                expect_interrupt(t, IRQ_MTI, m, PRIV_M);
                CHECK(mtime() >= when);
            }
            CHECK(t.a0 > 1);
            set_mtimecmp(~(u64)0);
            CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_MTI, 0);
        }
    }
    run_vectored = false;
    all_off();
}

static void supervisor_timer(void)
{
    all_off();
    set_stimecmp(~(u64)0);
    menvcfg_set(ENVCFG_STCE);
    for (unsigned vectored = 0; vectored < 2; vectored++) {
        run_vectored = vectored;
        for (unsigned delegated = 0; delegated < 2; delegated++) {
            csr_write(CSR_MIDELEG, delegated << IRQ_STI);
            csr_write(CSR_MIE, 1 << IRQ_STI);
            EACH_MODE (m) {
                if (m == PRIV_M && delegated) {
                    continue; /* it waits for a lower mode */
                }
                run_with_mie = m == PRIV_M;
                csr_set(CSR_MSTATUS, MSTATUS_SIE);
                u64 when = mtime() + SOON;
                set_stimecmp(when);
                Trap t = run(m, spin, 1, 0);
                expect_interrupt(t, IRQ_STI, m, delegated ? PRIV_S : PRIV_M);
                CHECK(mtime() >= when);
                CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_STI, 1 << IRQ_STI);
                set_stimecmp(~(u64)0);
                CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_STI, 0);
            }
        }
    }
    run_vectored = false;
    /* With SIE = 0 S mode is not interrupted, U mode is. */
    csr_write(CSR_MIDELEG, 1 << IRQ_STI);
    csr_clear(CSR_MSTATUS, MSTATUS_SIE);
    set_stimecmp(0);
    EXPECT_DONE(run(PRIV_S, just_ecall, 0, 0));
    EXPECT_DONE(run(PRIV_M, just_ecall, 0, 0));
    expect_interrupt(run(PRIV_U, just_ecall, 0, 0), IRQ_STI, PRIV_U, PRIV_S);
    csr_clear(CSR_MSTATUS, MSTATUS_SIE);
    /* The interrupt comes right after the instruction that enables it. */
    Trap t = run(PRIV_S, set_sie, 0, 0);
    expect_interrupt(t, IRQ_STI, PRIV_S, PRIV_S);
    CHECK_EQ(t.epc, set_sie + 4);
    /* STCE off: stimecmp counts no more. */
    menvcfg_clear(ENVCFG_STCE);
    CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_STI, 0);
    all_off();
}

/* MEI, MSI, MTI, SEI, SSI, STI; and whatever goes to M mode before what goes to S mode. */
static void priorities(void)
{
    static const struct {
        ulong pending, delegated;
        unsigned irq, by;
    } table[] = {
        {1 << IRQ_SSI | 1 << IRQ_STI | 1 << IRQ_SEI, 0, IRQ_SEI, PRIV_M},
        {1 << IRQ_SSI | 1 << IRQ_STI, 0, IRQ_SSI, PRIV_M},
        {1 << IRQ_STI, 0, IRQ_STI, PRIV_M},
        {1 << IRQ_SSI | 1 << IRQ_STI | 1 << IRQ_SEI, 0x222, IRQ_SEI, PRIV_S},
        {1 << IRQ_SSI | 1 << IRQ_STI, 0x222, IRQ_SSI, PRIV_S},
        {1 << IRQ_SSI | 1 << IRQ_SEI, 1 << IRQ_SEI, IRQ_SSI, PRIV_M},
        {1 << IRQ_STI | 1 << IRQ_SEI, 1 << IRQ_SEI, IRQ_STI, PRIV_M},
        {1 << IRQ_STI | 1 << IRQ_MSI, 0x222, IRQ_MSI, PRIV_M},
        {1 << IRQ_SEI | 1 << IRQ_MSI | 1 << IRQ_MTI, 0, IRQ_MSI, PRIV_M},
        {1 << IRQ_SEI | 1 << IRQ_MTI, 0, IRQ_MTI, PRIV_M},
    };
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        check_about = i;
        all_off();
        csr_write(CSR_MIDELEG, table[i].delegated);
        csr_write(CSR_MIP, table[i].pending);
        *CLINT_MSIP = table[i].pending >> IRQ_MSI & 1;
        set_mtimecmp(table[i].pending >> IRQ_MTI & 1 ? 0 : ~(u64)0);
        csr_write(CSR_MIE, 0xaaa);
        expect_interrupt(run(PRIV_U, spin, 1, 0), table[i].irq, PRIV_U, table[i].by);
    }
    check_about = 0;
    all_off();
}

static void wfi(void)
{
    all_off();
    /* Enabled locally, not globally: it only wakes. */
    csr_write(CSR_MIE, 1 << IRQ_MTI);
    u64 when = mtime() + SOON;
    set_mtimecmp(when);
    Trap t = run(PRIV_M, wait_twice, 0, 0);
    EXPECT_DONE(t);
    CHECK(mtime() >= when);
    /* The interrupt of a lower mode comes behind the wfi. */
    set_mtimecmp(mtime() + SOON);
    t = run(PRIV_S, wait, 0, 0);
    expect_interrupt(t, IRQ_MTI, PRIV_S, PRIV_M);
    CHECK(t.epc == (ulong)wait + 4 || t.epc == (ulong)wait);
    all_off();
    menvcfg_set(ENVCFG_STCE);
    csr_write(CSR_MIE, 1 << IRQ_STI);
    csr_write(CSR_MIDELEG, 1 << IRQ_STI);
    when = mtime() + SOON;
    set_stimecmp(when);
    EXPECT_DONE(run(PRIV_S, wait, 0, 0)); /* SIE = 0 */
    CHECK(mtime() >= when);
    all_off();
}

/* The UART's "transmitter empty" through the PLIC, to M (context 0) and S (context 1). */
static void external(void)
{
    all_off();
    *PLIC_PRIORITY(UART_IRQ) = 3;
    for (unsigned ctx = 0; ctx < 2; ctx++) {
        unsigned irq = ctx ? IRQ_SEI : IRQ_MEI, by = ctx ? PRIV_S : PRIV_M;
        csr_write(CSR_MIDELEG, 1 << IRQ_SEI);
        csr_write(CSR_MIE, 1 << irq);
        *PLIC_ENABLE(ctx) = 1 << UART_IRQ;
        *PLIC_THRESHOLD(ctx) = 3;
        UART[1] = 2;
        EXPECT_DONE(run(PRIV_U, just_ecall, 0, 0)); /* priority is not above the threshold */
        CHECK_EQ(*PLIC_PENDING, 1 << UART_IRQ);
        *PLIC_THRESHOLD(ctx) = 2;
        expect_interrupt(run(PRIV_U, spin, 1, 0), irq, PRIV_U, by);
        CHECK_EQ(csr_read(CSR_MIP) & 1 << irq, 1 << irq);
        CHECK_EQ(*PLIC_CLAIM(ctx), UART_IRQ);
        CHECK_EQ(*PLIC_CLAIM(ctx), 0);
        CHECK_EQ(csr_read(CSR_MIP) & 1 << irq, 0);
        CHECK_EQ(UART[2] & 0xf, 2); /* reading the cause clears it */
        *PLIC_CLAIM(ctx) = UART_IRQ;
        EXPECT_DONE(run(PRIV_U, just_ecall, 0, 0));
        UART[1] = 0;
        *PLIC_ENABLE(ctx) = 0;
    }
    /* SEIP: software's bit and the PLIC's are one for readers, but csrs and csrc see the former
     * only. */
    csr_write(CSR_MIE, 0);
    *PLIC_ENABLE(1) = 1 << UART_IRQ;
    *PLIC_THRESHOLD(1) = 0;
    UART[1] = 2;
    CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_SEI, 1 << IRQ_SEI);
    csr_set(CSR_MIP, 1 << IRQ_SSI);
    CHECK_EQ(*PLIC_CLAIM(1), UART_IRQ);
    CHECK_EQ(csr_read(CSR_MIP) & (1 << IRQ_SEI | 1 << IRQ_SSI), 1 << IRQ_SSI);
    UART[1] = 0;
    *PLIC_CLAIM(1) = UART_IRQ;
    *PLIC_ENABLE(1) = 0;
    all_off();
}

int main(void)
{
    RUN(software);
    RUN(timer);
    RUN(supervisor_timer);
    RUN(priorities);
    RUN(wfi);
    RUN(external);
    return 0;
}
