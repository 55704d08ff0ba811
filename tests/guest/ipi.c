/*
 * Interrupts of several harts: software interrupts from hart to hart, WFI that must not sleep through one, a timer for each
 * hart, and one PLIC source that several contexts claim.
 */
#include "guest.h"

static unsigned count; /* of harts */
static unsigned steps;
static volatile u32 stop;

static void wait_msip(void)
{
    while (!(csr_read(CSR_MIP) & 1 << IRQ_MSI)) {
        wait_for_interrupt();
    }
}

/* ---- A token ---------------------------------------------------------------------------------------
 * It goes round: each hart waits in WFI for its software interrupt, and sends the next one its own. A wake-up that is lost
 * stops it all. */

static volatile u32 token;

static void ring_work(unsigned hart)
{
    ulong wrong = 0;
    csr_write(CSR_MIE, 1 << IRQ_MSI);
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        if (hart || i) {
            wait_msip();
            CLINT_MSIP[hart] = 0;
            fence_rw_rw();
        }
        wrong += token != i * count + hart;
        token = i * count + hart + 1;
        asm volatile("fence w, o" ::: "memory");
        if (hart < count - 1) {
            CLINT_MSIP[hart + 1] = 1;
        } else if (i < steps - 1) {
            CLINT_MSIP[0] = 1;
        }
    }
    csr_write(CSR_MIE, 0);
    barrier();
    CHECK_EQ(wrong, 0);
}

static void ring(void)
{
    token = 0;
    steps = rounds(1000);
    on_harts(count, ring_work);
    CHECK_EQ(token, steps * count);
}

/* ---- A flag, then an interrupt ------------------------------------------------------------------------
 * The sleeper looks at the flag and goes to sleep if it is not there; the waker sets it a random time later. The interrupt may
 * come before, in and after the WFI. */

static volatile u32 flag, taken;

static void sleeper_work(unsigned hart)
{
    u32 seed = hart + 3;
    csr_write(CSR_MIE, 1 << IRQ_MSI);
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        delay(random_next(&seed) % 64);
        if (hart == 0) {
            RELEASE(&flag, i);
            asm volatile("fence w, o" ::: "memory");
            CLINT_MSIP[1] = 1;
            UNTIL(ACQUIRE(&taken) == i);
        } else {
            while (ACQUIRE(&flag) != i) {
                wait_for_interrupt();
                if (ACQUIRE(&flag) != i) {
                    CLINT_MSIP[1] = 0;
                }
            }
            CLINT_MSIP[1] = 0;
            RELEASE(&taken, i);
        }
    }
    csr_write(CSR_MIE, 0);
    barrier();
}

static void sleeper(void)
{
    flag = taken = 0;
    steps = rounds(2000);
    on_harts(2, sleeper_work);
    count_checks(1);
}

/* ---- A storm ------------------------------------------------------------------------------------------
 * All harts interrupt all the others, who are in loops of three kinds without a call: each request is a bit in a word, and the
 * interrupt has to come after it. */

SNIPPET(busy, "1: addi t0, t0, 1\n lw t1, (a0)\n beqz t1, 1b\n ecall");
SNIPPET(busy_jumps, "1: j 2f\n .balign 64\n 2: addi t0, t0, 1\n lw t1, (a0)\n bnez t1, 3f\n j 1b\n 3: ecall");
SNIPPET(busy_wfi, "1: wfi\n lw t1, (a0)\n beqz t1, 1b\n ecall");
static volatile u32 requests[MAX_HARTS], served[MAX_HARTS], finished;

static void serve(unsigned hart)
{
    CLINT_MSIP[hart] = 0;
    fence_rw_rw();
    for (u32 bits = __atomic_exchange_n(&requests[hart], 0, __ATOMIC_SEQ_CST); bits; bits &= bits - 1) {
        served[hart]++;
    }
}

static void storm_work(unsigned hart)
{
    static char *const snippet[] = {busy, busy_jumps, busy_wfi};
    u32 seed = hart * 7 + 1;
    csr_write(CSR_MEDELEG, 0);
    csr_write(CSR_MIE, 1 << IRQ_MSI);
    run_with_mie = false;
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        /* Ask somebody, and go on when they have answered. */
        unsigned other = random_next(&seed) % (count - 1);
        other += other >= hart;
        u32 bit = 1u << hart;
        __atomic_fetch_or(&requests[other], bit, __ATOMIC_SEQ_CST);
        asm volatile("fence w, o" ::: "memory");
        CLINT_MSIP[other] = 1;
        while (RELAXED(&requests[other]) & bit) {
            if (csr_read(CSR_MIP) & 1 << IRQ_MSI) {
                serve(hart);
            }
            pause();
        }
    }
    if (ADD(&finished, 1) == count - 1) {
        RELEASE(&stop, 1);
    }
    /* The others may still ask. The last word comes by an interrupt, too. */
    for (unsigned h = 0; stop && h < count; h++) {
        CLINT_MSIP[h] = 1;
    }
    Trap t = run(PRIV_S, snippet[hart % 3], (ulong)&stop, 0);
    while (t.cause == (INTERRUPT | IRQ_MSI)) {
        serve(hart);
        if (stop) { /* it may have been on its way into the WFI */
            break;
        }
        t = resume(t);
    }
    if (t.cause != (INTERRUPT | IRQ_MSI)) {
        CHECK_EQ(t.cause, CAUSE_ECALL_S);
    }
    csr_write(CSR_MIE, 0);
    barrier();
}

static void storm(void)
{
    stop = finished = 0;
    for (unsigned h = 0; h < MAX_HARTS; h++) {
        requests[h] = served[h] = 0;
    }
    steps = rounds(500);
    on_harts(count, storm_work);
    CLINT_MSIP[0] = 0;
    u32 sum = 0;
    for (unsigned h = 0; h < MAX_HARTS; h++) {
        sum += served[h];
    }
    CHECK_EQ(sum, steps * count);
}

/* ---- Timers ----------------------------------------------------------------------------------------------- */

static void timer_work(unsigned hart)
{
    u32 seed = hart + 99;
    ulong early = 0;
    csr_write(CSR_MIE, 1 << IRQ_MTI);
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        u64 when = mtime() + random_next(&seed) % 5000; /* 0 to 0.5 ms */
        set_mtimecmp_of(hart, when);
        while (!(csr_read(CSR_MIP) & 1 << IRQ_MTI)) {
            wait_for_interrupt();
        }
        early += mtime() < when;
        set_mtimecmp_of(hart, ~(u64)0);
    }
    csr_write(CSR_MIE, 0);
    barrier();
    CHECK_EQ(early, 0);
}

static void timers(void)
{
    steps = rounds(100);
    on_harts(count, timer_work);
}

/* Hart 0 sets the timer of a hart that sleeps already. */
static void remote_timer_work(unsigned hart)
{
    u32 seed = 5;
    csr_write(CSR_MIE, 1 << IRQ_MTI);
    set_mtimecmp_of(hart, ~(u64)0);
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        if (hart == 0) {
            for (unsigned h = 1; h < count; h++) {
                set_mtimecmp_of(h, random_next(&seed) & 1 ? 0 : mtime() + random_next(&seed) % 1000);
            }
            UNTIL(ACQUIRE(&taken) >= i * (count - 1));
        } else {
            while (!(csr_read(CSR_MIP) & 1 << IRQ_MTI)) {
                wait_for_interrupt();
            }
            set_mtimecmp_of(hart, ~(u64)0);
            ADD(&taken, 1);
            UNTIL(ACQUIRE(&taken) >= i * (count - 1));
        }
    }
    csr_write(CSR_MIE, 0);
    barrier();
}

static void remote_timers(void)
{
    taken = 0;
    steps = rounds(100);
    on_harts(count, remote_timer_work);
    count_checks(1);
}

/* stimecmp, which each hart has for itself. */
static void supervisor_timer_work(unsigned hart)
{
    u32 seed = hart + 1;
    ulong early = 0;
    menvcfg_set(ENVCFG_STCE);
    csr_write(CSR_MIE, 1 << IRQ_STI);
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        u64 when = mtime() + random_next(&seed) % 5000;
#if XLEN == 64
        csr_write(CSR_STIMECMP, when);
#else
        csr_write(CSR_STIMECMP, ~(ulong)0);
        csr_write(CSR_STIMECMPH, (ulong)(when >> 32));
        csr_write(CSR_STIMECMP, (ulong)when);
#endif
        while (!(csr_read(CSR_MIP) & 1 << IRQ_STI)) {
            wait_for_interrupt();
        }
        early += mtime() < when;
    }
    csr_write(CSR_MIE, 0);
    csr_write(CSR_STIMECMP, ~(ulong)0);
    menvcfg_clear(ENVCFG_STCE);
    barrier();
    CHECK_EQ(early, 0);
}

static void supervisor_timers(void)
{
    steps = rounds(100);
    on_harts(count, supervisor_timer_work);
}

/* ---- The PLIC -----------------------------------------------------------------------------------------------
 * The UART's "transmitter empty" is enabled in both contexts of every hart: all of them see it, all claim, one gets it. */

static unsigned context_of(unsigned hart, unsigned mode)
{
    return 2 * hart + (mode == PRIV_S);
}

static volatile u32 claims[MAX_HARTS];

static void claim_work(unsigned hart)
{
    ulong wrong = 0;
    csr_write(CSR_MIDELEG, 1 << IRQ_SEI);
    csr_write(CSR_MIE, 1 << IRQ_MEI);
    for (unsigned m = 0; m < 2; m++) {
        *PLIC_ENABLE(context_of(hart, m ? PRIV_S : PRIV_M)) = 1 << UART_IRQ;
        *PLIC_THRESHOLD(context_of(hart, m ? PRIV_S : PRIV_M)) = 0;
    }
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        if (hart == 0) {
            claims[0] = 0;
            taken = 0;
            UART[1] = 2;
        }
        /* Until the interrupt is seen, or somebody has it already. */
        barrier();
        u32 claim = *PLIC_CLAIM(context_of(hart, i & 1 ? PRIV_S : PRIV_M));
        if (claim) {
            wrong += claim != UART_IRQ;
            ADD(&taken, 1);
            ADD(&claims[hart], hart ? 1 : 0);
        }
        barrier();
        if (hart == 0) {
            wrong += taken != 1;
            UART[1] = 0;
        }
        barrier();
        if (claim) {
            *PLIC_CLAIM(context_of(hart, i & 1 ? PRIV_S : PRIV_M)) = claim;
        }
        barrier();
    }
    csr_write(CSR_MIE, 0);
    for (unsigned m = 0; m < 2; m++) {
        *PLIC_ENABLE(context_of(hart, m ? PRIV_S : PRIV_M)) = 0;
    }
    barrier();
    CHECK_EQ(wrong, 0);
}

static void claims_at_once(void)
{
    *PLIC_PRIORITY(UART_IRQ) = 1;
    steps = rounds(300);
    on_harts(count, claim_work);
}

/* The same with harts that sleep until it comes. Hart 0 raises it, and waits until it is served. */
static void sleeping_claim_work(unsigned hart)
{
    unsigned ctx = context_of(hart, PRIV_M);
    ulong wrong = 0;
    csr_write(CSR_MIE, 1 << IRQ_MEI | 1 << IRQ_MSI);
    if (hart) {
        *PLIC_ENABLE(ctx) = 1 << UART_IRQ;
        *PLIC_THRESHOLD(ctx) = 0;
    }
    barrier();
    if (hart == 0) {
        for (unsigned i = 1; i <= steps; i++) {
            UART[1] = 2;
            UNTIL(ACQUIRE(&taken) >= i);
            wrong += ACQUIRE(&taken) != i;
        }
        RELEASE(&stop, 1);
        for (unsigned h = 1; h < count; h++) {
            CLINT_MSIP[h] = 1;
        }
    } else {
        while (!ACQUIRE(&stop)) {
            wait_for_interrupt();
            u32 claim = *PLIC_CLAIM(ctx);
            if (claim) {
                wrong += claim != UART_IRQ;
                UART[1] = 0;
                *PLIC_CLAIM(ctx) = claim;
                ADD(&taken, 1);
            }
        }
        *PLIC_ENABLE(ctx) = 0;
    }
    csr_write(CSR_MIE, 0);
    barrier();
    CHECK_EQ(wrong, 0);
}

static void claims_of_sleepers(void)
{
    stop = taken = 0;
    *PLIC_PRIORITY(UART_IRQ) = 1;
    steps = rounds(300);
    on_harts(count, sleeping_claim_work);
}

int main(void)
{
    harts_start(2);
    count = harts;
    RUN(ring);
    RUN(sleeper);
    RUN(storm);
    RUN(timers);
    RUN(remote_timers);
    RUN(supervisor_timers);
    RUN(claims_at_once);
    RUN(claims_of_sleepers);
    return 0;
}
