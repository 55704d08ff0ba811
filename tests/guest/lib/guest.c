/* The library of the guest programs. See guest.h. */
#include "guest.h"

/* ---- Checks and output ------------------------------------------------------------------------
 */

enum { MAX_REPORTS = 12 }; /* in one test */

ulong check_about;
static unsigned checks, failures, reports, output_lock;

void put_lock(void)
{
    UNTIL(!__atomic_exchange_n(&output_lock, 1, __ATOMIC_ACQUIRE));
}

void put_unlock(void)
{
    RELEASE(&output_lock, 0);
}

void put_text(const char *text)
{
    for (; *text; text++) {
        while (!(UART[5] & 0x20)) {
        }
        UART[0] = (u8)*text;
    }
}

void put_number(unsigned n)
{
    char digits[12];
    unsigned i = sizeof(digits);
    digits[--i] = 0;
    do {
        digits[--i] = (char)('0' + n % 10);
        n /= 10;
    } while (n);
    put_text(digits + i);
}

void put_hex(ulong value)
{
    char text[3 + XLEN / 4] = "0x";
    for (unsigned i = 0; i < XLEN / 4; i++) {
        text[2 + i] = "0123456789abcdef"[value >> (XLEN - 4 - 4 * i) & 15];
    }
    put_text(text);
}

static void put_place(const char *file, int line)
{
    for (const char *p = file; *p; p++) {
        if (*p == '/') {
            file = p + 1;
        }
    }
    put_text(file);
    put_text(":");
    put_number((unsigned)line);
}

void check_eq(const char *file, int line, const char *what, ulong got, ulong want)
{
    ADD(&checks, 1);
    if (got == want) {
        return;
    }
    ADD(&failures, 1);
    if (ADD(&reports, 1) >= MAX_REPORTS) {
        return;
    }
    put_lock();
    put_text("FAIL ");
    put_place(file, line);
    put_text(": ");
    put_text(what);
    put_text(" is ");
    put_hex(got);
    put_text(", not ");
    put_hex(want);
    if (check_about) {
        put_text(" (about ");
        put_hex(check_about);
        put_text(")");
    }
    if (hart_id()) {
        put_text(" on hart ");
        put_number(hart_id());
    }
    put_text("\n");
    put_unlock();
}

void count_checks(unsigned n)
{
    ADD(&checks, n);
}

void run_test(const char *name, void (*test)(void))
{
    unsigned before = checks, failed = failures;
    check_about = 0;
    reports = 0;
    test();
    put_text(failures == failed ? "ok " : "FAILED ");
    put_text(name);
    put_text(" (");
    put_number(checks - before);
    put_text(" checks)\n");
}

void finish(void)
{
    put_text(failures ? "FAILED: " : "passed: ");
    if (failures) {
        put_number(failures);
        put_text(" of ");
    }
    put_number(checks);
    put_text(" checks\n");
    *FINISHER = failures ? 1 << 16 | 0x3333 : 0x5555;
    for (;;) {
    }
}

void panic(ulong cause, ulong epc, ulong tval)
{
    static bool again;
    if (again) { /* this function has trapped itself: say no more */
        *FINISHER = 1 << 16 | 0x3333;
        for (;;) {
        }
    }
    again = true;
    put_text("FAIL a trap in the controller: cause ");
    put_hex(cause);
    put_text(" epc ");
    put_hex(epc);
    put_text(" tval ");
    put_hex(tval);
    put_text("\n");
    failures++;
    finish();
}

/* ---- Snippets ---------------------------------------------------------------------------------
 */

Context contexts[MAX_HARTS];
bool run_vectored, run_with_mie, run_mprv;
u32 run_instret;
void enter(Context *of_hart);

asm(".pushsection .snippets, \"ax\"\n.balign 4096\n.global insn_buffer\ninsn_buffer: .space "
    "4096\n.popsection");

static Trap run_context(unsigned mode, const void *pc)
{
    ulong status = csr_read(CSR_MSTATUS) & ~(MSTATUS_MPP | MSTATUS_MPIE | MSTATUS_MPRV);
    csr_write(CSR_MSTATUS, status | (ulong)mode << 11 | (run_with_mie ? MSTATUS_MPIE : 0));
    csr_write(CSR_STVEC, (ulong)s_vectors | run_vectored);
    csr_write(CSR_MEPC, pc);
    csr_write(CSR_MTVEC, (ulong)trap_vectors | run_vectored);
    ulong before = csr_read(CSR_MINSTRET);
    enter(&context);
    run_instret = (u32)(csr_read(CSR_MINSTRET) - before);

    status = csr_read(CSR_MSTATUS);
    Trap t = {
        .cause = csr_read(CSR_MCAUSE),
        .epc = csr_read(CSR_MEPC),
        .tval = csr_read(CSR_MTVAL),
        .from = status >> 11 & 3,
        .by = PRIV_M,
        .vector = (unsigned)context.vector,
        .a0 = context.x[10],
        .a1 = context.x[11],
    };
    run_mprv = status & MSTATUS_MPRV;
    csr_clear(CSR_MSTATUS, MSTATUS_MPRV);
    ulong offset = t.epc - (ulong)s_vectors;
    if (t.cause == CAUSE_ECALL_S && offset < 64) {
        t.cause = csr_read(CSR_SCAUSE);
        t.epc = csr_read(CSR_SEPC);
        t.tval = csr_read(CSR_STVAL);
        t.from = status & MSTATUS_SPP ? PRIV_S : PRIV_U;
        t.by = PRIV_S;
        t.vector = (unsigned)offset / 4;
    }
    return t;
}

Trap run(unsigned mode, const void *pc, ulong a0, ulong a1)
{
    context.x[10] = a0;
    context.x[11] = a1;
    return run_context(mode, pc);
}

Trap resume(Trap t)
{
    return run_context(t.from, (const void *)t.epc);
}

Trap run_insn(unsigned mode, u32 insn, ulong a0, ulong a1)
{
    u16 *at = (u16 *)insn_buffer;
    *at++ = (u16)insn;
    if ((insn & 3) == 3) {
        *at++ = insn >> 16;
    }
    *at++ = (u16)ECALL;
    *at++ = ECALL >> 16;
    fence_i();
    return run(mode, insn_buffer, a0, a1);
}

void expect_trap(const char *file, int line, Trap t, ulong cause, ulong epc, ulong tval)
{
    check_eq(file, line, "the trap's cause", t.cause, cause);
    check_eq(file, line, "epc", t.epc, epc);
    check_eq(file, line, "tval", t.tval, tval);
}

void expect_done(const char *file, int line, Trap t)
{
    check_eq(file, line, "the ecall's cause", t.cause, CAUSE_ECALL_U + t.from);
    check_eq(file, line, "the ecall's tval", t.tval, 0);
}

/* ---- Paging -----------------------------------------------------------------------------------
 */

static char *next_page;

void free_pages(void)
{
    next_page = image_end;
}

void *new_page(void)
{
    char *page = next_page;
    next_page += PAGE;
    return memset(page, 0, PAGE);
}

ulong *pte_at(ulong *root, ulong va, unsigned level)
{
    ulong *table = root;
    for (unsigned l = LEVELS - 1;; l--) {
        ulong *pte = &table[va >> (12 + VPN_BITS * l) & ((1 << VPN_BITS) - 1)];
        if (l == level) {
            return pte;
        }
        if (!(*pte & PTE_V)) {
            *pte = pte_make((ulong)new_page(), PTE_V);
        }
        table = (ulong *)(*pte >> 10 << 12);
    }
}

void map_level(ulong *root, ulong va, ulong pa, ulong flags, unsigned level)
{
    *pte_at(root, va, level) = pte_make(pa, flags);
}

void map(ulong *root, ulong va, ulong pa, ulong flags)
{
    map_level(root, va, pa, flags, 0);
}

ulong *new_space(void)
{
    ulong *root = new_page();
    for (ulong pa = (ulong)snippets; pa < (ulong)snippets_end; pa += PAGE) {
        map(root, pa, pa, PTE_KERNEL);
    }
    return root;
}

void map_user_snippets(ulong *root)
{
    for (ulong pa = (ulong)snippets; pa < (ulong)snippets_end; pa += PAGE) {
        map(root, pa + U_OFFSET, pa, PTE_USER);
    }
}

ulong satp_of(ulong *root, unsigned asid)
{
    return SATP_MODE | (ulong)asid << SATP_ASID_SHIFT | (ulong)root >> 12;
}

void use_space(ulong *root, unsigned asid)
{
    csr_write(CSR_SATP, satp_of(root, asid));
    fence_all();
}

void use_bare(void)
{
    csr_write(CSR_SATP, 0);
    fence_all();
}

/* ---- The machine -------------------------------------------------------------------------------
 */

u64 mtime(void)
{
    u32 high, low;
    do {
        high = CLINT_MTIME[1];
        low = CLINT_MTIME[0];
    } while (CLINT_MTIME[1] != high);
    return (u64)high << 32 | low;
}

void set_mtimecmp_of(unsigned hart, u64 when)
{
    volatile u32 *mtimecmp = CLINT_MTIMECMP + 2 * hart;
    mtimecmp[1] = 0xffffffff;
    mtimecmp[0] = (u32)when;
    mtimecmp[1] = (u32)(when >> 32);
}

void set_mtimecmp(u64 when)
{
    set_mtimecmp_of(0, when);
}

void menvcfg_set(u64 bits)
{
    csr_set(CSR_MENVCFG, (ulong)bits);
#if XLEN == 32
    csr_set(CSR_MENVCFGH, (ulong)(bits >> 32));
#endif
}

void menvcfg_clear(u64 bits)
{
    csr_clear(CSR_MENVCFG, (ulong)bits);
#if XLEN == 32
    csr_clear(CSR_MENVCFGH, (ulong)(bits >> 32));
#endif
}

#define EACH_PMP(X)                                                                                \
    X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

void pmp_set(unsigned i, u8 cfg, ulong addr)
{
    unsigned per = XLEN / 8, shift = i % per * 8;
    ulong mask = (ulong)0xff << shift, value = (ulong)cfg << shift;
    switch (i) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        csr_clear(CSR_PMPCFG0 + n / 4 / (XLEN / 32) * (XLEN / 32), (ulong)3 << (shift + 3));       \
        csr_write(CSR_PMPADDR0 + n, addr);                                                         \
        break;
        EACH_PMP(X)
#undef X
    }
    switch (i / per) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        csr_write(CSR_PMPCFG0 + n * (XLEN / 32),                                                   \
                  (csr_read(CSR_PMPCFG0 + n * (XLEN / 32)) & ~mask) | value);                      \
        break;
        X(0)
        X(1)
#if XLEN == 32
        X(2) X(3)
#endif
#undef X
    }
    fence_all();
}

u8 pmp_cfg(unsigned i)
{
    unsigned per = XLEN / 8, shift = i % per * 8;
    switch (i / per) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        return (u8)(csr_read(CSR_PMPCFG0 + n * (XLEN / 32)) >> shift);
        X(0)
        X(1)
#if XLEN == 32
        X(2) X(3)
#endif
#undef X
    }
    return 0;
}

ulong pmp_addr(unsigned i)
{
    switch (i) {
#define X(n)                                                                                       \
    case n:                                                                                        \
        return csr_read(CSR_PMPADDR0 + n);
        EACH_PMP(X)
#undef X
    }
    return 0;
}

void pmp_open(void)
{
    pmp_set(0, PMP_R | PMP_W | PMP_X | PMP_NAPOT, ~(ulong)0);
}

void guest_init(void);
void guest_init(void)
{
    free_pages();
    pmp_open();
}

/* ---- Several harts ----------------------------------------------------------------------------- */

unsigned harts = 1;
static unsigned counted, working, done, rung, waiting, generation;
static void (*job)(unsigned hart);
static unsigned jobs; /* so far, and in the low bits for how many harts the last one is */

void harts_start(unsigned need)
{
    /* A hart that is not there has no msip. Those that are wait until they have all been counted, and for the interrupt
     * of their first job then: another one that is left would come in the middle of it. */
    while (harts < MAX_HARTS && (CLINT_MSIP[harts] = 1, CLINT_MSIP[harts] & 1)) {
        CLINT_MSIP[harts++] = 0;
    }
    RELEASE(&counted, 1);
    put_number(harts);
    put_text(" harts\n");
    if (harts < need) {
        put_text("FAIL too few harts: -smp\n");
        failures++;
        finish();
    }
}

void barrier(void)
{
    unsigned now = ACQUIRE(&generation);
    if (ADD(&waiting, 1) + 1 == working) {
        waiting = 0;
        RELEASE(&generation, now + 1);
    } else {
        UNTIL(ACQUIRE(&generation) != now);
    }
}

void on_harts(unsigned n, void (*work)(unsigned hart))
{
    working = n;
    done = 0;
    rung = n == 1;
    job = work;
    RELEASE(&jobs, (jobs / 16 + 1) * 16 + n);
    for (unsigned hart = 1; hart < n; hart++) {
        CLINT_MSIP[hart] = 1;
    }
    work(0);
    for (unsigned spins = 0; spins < 1000 && ACQUIRE(&done) != n - 1; spins++) {
        pause();
    }
    if (ACQUIRE(&done) != n - 1) { /* the last one sends an interrupt */
        ulong mie = csr_read(CSR_MIE);
        csr_write(CSR_MIE, 1 << IRQ_MSI);
        while (ACQUIRE(&done) != n - 1) {
            wait_for_interrupt();
            CLINT_MSIP[0] = 0;
        }
        csr_write(CSR_MIE, mie);
    }
    UNTIL(ACQUIRE(&rung));
    CLINT_MSIP[0] = 0;
}

void hart_main(unsigned hart);
void hart_main(unsigned hart)
{
    pmp_open();
    UNTIL(ACQUIRE(&counted));
    for (unsigned last = 0;;) {
        csr_write(CSR_MIE, 1 << IRQ_MSI);
        while (!(csr_read(CSR_MIP) & 1 << IRQ_MSI)) {
            wait_for_interrupt();
        }
        CLINT_MSIP[hart] = 0;
        unsigned now = ACQUIRE(&jobs);
        if (now == last || hart >= now % 16) { /* woken for nothing */
            continue;
        }
        last = now;
        csr_write(CSR_MIE, 0);
        job(hart);
        CLINT_MSIP[hart] = 0;
        if (ADD(&done, 1) + 1 == now % 16 - 1) {
            CLINT_MSIP[0] = 1;
            RELEASE(&rung, 1);
        }
    }
}

unsigned rounds(unsigned n)
{
    unsigned scale = *SCALE;
    return scale ? n * scale : n;
}

void *memset(void *to, int byte, __SIZE_TYPE__ size)
{
    char *p = to;
    for (__SIZE_TYPE__ i = 0; i < size; i++) {
        p[i] = (char)byte;
        asm volatile(""); /* lest the compiler calls memset */
    }
    return to;
}

void *memcpy(void *to, const void *from, __SIZE_TYPE__ size)
{
    char *p = to;
    for (__SIZE_TYPE__ i = 0; i < size; i++) {
        p[i] = ((const char *)from)[i];
        asm volatile("");
    }
    return to;
}
