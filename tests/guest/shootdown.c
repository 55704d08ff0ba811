/*
 * Page tables that one hart changes while others use them: remapping, unmapping and taking permissions with a shoot-down
 * (a software interrupt, sfence.vma on the other hart, an answer), page walks that race with stores, and accessed
 * and dirty bits that harts and software set in one entry.
 */
#include "guest.h"

static unsigned count; /* of harts */
static unsigned steps;
static ulong *root;
static volatile u32 stop, generation, answers;

enum { CODE_VA = 0x40100000, LOAD_VA = 0x40200000, STORE_VA = 0x40300000, FRAMES = 8 };
typedef struct Frame { /* a page */
    u32 code[2], tag;
    u32 stores[MAX_HARTS];
    u32 rest[];
} Frame;
static volatile Frame *frames[FRAMES];

/* ---- The shoot-down -------------------------------------------------------------------------------
 * The others run snippets in S mode. A software interrupt ends run() in M mode, where they fence and answer. */

static bool is_ipi(Trap t)
{
    return t.cause == (INTERRUPT | IRQ_MSI);
}

static unsigned fence_kind;

static void answer(unsigned hart)
{
    CLINT_MSIP[hart] = 0;
    fence_rw_rw();
    switch (fence_kind) {
    case 0:
        fence_all();
        break;
    case 1:
        fence_address(CODE_VA);
        fence_address(LOAD_VA);
        fence_address(STORE_VA);
        break;
    case 2:
        fence_asid(1);
        break;
    default:
        fence_address_asid(CODE_VA, 1);
        fence_address_asid(LOAD_VA, 1);
        fence_address_asid(STORE_VA, 1);
        break;
    }
    fence_i();
    ADD(&answers, 1);
}

static void shoot_down(void)
{
    answers = 0;
    fence_rw_rw();
    for (unsigned h = 1; h < count; h++) {
        CLINT_MSIP[h] = 1;
    }
    UNTIL(ACQUIRE(&answers) == count - 1);
}

static void some_time(u32 *seed, unsigned most)
{
    delay(random_next(seed) % most);
}

static void begin_worker(void)
{
    csr_write(CSR_MEDELEG, 0);
    csr_write(CSR_MIE, 1 << IRQ_MSI);
    use_space(root, 1);
    barrier();
}

static void end_worker(unsigned hart)
{
    csr_write(CSR_MIE, 0);
    CLINT_MSIP[hart] = 0;
    use_bare();
    barrier();
}

static void make_frame(volatile Frame *f, u32 tag)
{
    f->code[0] = insn_li_a0((int)(tag & 1023) + 1);
    f->code[1] = RET;
    f->tag = tag;
    for (unsigned h = 0; h < MAX_HARTS; h++) {
        f->stores[h] = 0;
    }
}

static void make_world(void)
{
    use_bare();
    free_pages();
    csr_write(CSR_MEDELEG, 0);
    menvcfg_clear(ENVCFG_ADUE);
    root = new_space();
    for (unsigned i = 0; i < FRAMES; i++) {
        frames[i] = new_page();
    }
    stop = generation = answers = 0;
    fence_kind = 0;
}

static void map_frame(unsigned i)
{
    map(root, CODE_VA, (ulong)frames[i], PTE_V | PTE_R | PTE_X | PTE_A);
    map(root, LOAD_VA, (ulong)frames[i], PTE_V | PTE_R | PTE_A);
    map(root, STORE_VA, (ulong)frames[i], PTE_V | PTE_R | PTE_W | PTE_AD);
}

/* ---- Remapping ------------------------------------------------------------------------------------
 * The pages move from frame to frame. A frame that has been left is filled with poison after the shoot-down: nobody
 * may load or run it, nobody may store into it any more. */

#define POISON 0xdeadbeef
/* t0, t1, t2: the pages of code, loads and stores; a3: the offset of the hart's word; a4: the least tag that is not too
 * old. t3 counts rounds. Ends if something was wrong, with s1 and s2 what it saw, or if the word at a5 is not 0, with s0 = 1. */
SNIPPET(use_pages, "1: mv s2, a4\n lw s1, 8(t1)\n bltu s1, s2, 9f\n" /* a4 may grow meanwhile */
                   "add t4, t2, a3\n sw t3, (t4)\n"
                   "jalr t0\n mv s1, a0\n bltz a0, 9f\n"
                   "addi t3, t3, 1\n lw t4, (a5)\n beqz t4, 1b\n li s0, 1\n 9: ecall");

static void remap_worker(unsigned hart)
{
    begin_worker();
    context.x[5] = CODE_VA;
    context.x[6] = LOAD_VA;
    context.x[7] = STORE_VA;
    context.x[8] = 0;
    context.x[13] = (ulong)__builtin_offsetof(Frame, stores) + 4 * hart;
    context.x[14] = generation;
    context.x[15] = (ulong)&stop;
    context.x[28] = 0;
    Trap t = run(PRIV_S, use_pages, 0, 0);
    while (is_ipi(t)) {
        answer(hart);
        context.x[14] = generation; /* from now on nothing older */
        t = resume(t);
    }
    EXPECT_DONE(t);
    CHECK_EQ(context.x[8], 1);
    if (!context.x[8]) {
        CHECK_EQ(context.x[9], context.x[18]); /* what it saw, what it wanted at least */
    }
    CHECK(context.x[28] > 0);
    end_worker(hart);
}

static void remap_work(unsigned hart)
{
    if (hart) {
        remap_worker(hart);
        return;
    }
    ulong wrong = 0;
    u32 seed = 5;
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        volatile Frame *old = frames[(i - 1) % FRAMES];
        fence_kind = i / 16 % 4;
        make_frame(frames[i % FRAMES], i);
        fence_rw_rw();
        map_frame(i % FRAMES);
        fence_rw_rw();
        generation = i;
        shoot_down();
        old->tag = 0;
        old->code[0] = insn_li_a0(-1);
        for (unsigned h = 1; h < count; h++) {
            old->stores[h] = POISON;
        }
        some_time(&seed, 1000);
        for (unsigned h = 1; h < count; h++) {
            wrong += old->stores[h] != POISON;
        }
    }
    RELEASE(&stop, 1);
    barrier();
    CHECK_EQ(wrong, 0);
}

static void remapped(void)
{
    make_world();
    map(root, (ulong)&stop & ~(ulong)(PAGE - 1), (ulong)&stop & ~(ulong)(PAGE - 1), PTE_KERNEL);
    make_frame(frames[0], 0);
    map_frame(0);
    steps = rounds(100);
    on_harts(count, remap_work);
}

/* ---- Taking permissions and pages -------------------------------------------------------------------
 * Workers store, load or run without end, and count in a page of their own. What hart 0 takes away stops them after the
 * shoot-down: they fault, and wait until they get it back. */

SNIPPET(store_on, "1: addi t3, t3, 1\n sw t3, (t0)\n lw t4, (a5)\n beqz t4, 1b\n ecall");
SNIPPET(load_on, "1: addi t3, t3, 1\n lw t1, (t0)\n sw t3, (t2)\n lw t4, (a5)\n beqz t4, 1b\n ecall");
SNIPPET(run_on, "1: addi t3, t3, 1\n jalr t0\n sw t3, (t2)\n lw t4, (a5)\n beqz t4, 1b\n ecall");
enum { TAKE_W, TAKE_R, TAKE_X, TAKE_V, WAYS };
static unsigned taking;
static volatile u32 taken;
static volatile u32 *progress; /* a page: a word each */

static void taking_worker(unsigned hart)
{
    static char *const snippet[] = {store_on, load_on, run_on, store_on};
    static const ulong cause[] = {CAUSE_STORE_PAGE, CAUSE_LOAD_PAGE, CAUSE_FETCH_PAGE, CAUSE_STORE_PAGE};
    ulong unexpected = 0;
    begin_worker();
    /* Hart 0 looks at the word that it stores. */
    context.x[5] = taking == TAKE_X   ? CODE_VA
                   : taking == TAKE_R ? LOAD_VA
                                      : STORE_VA + (ulong)__builtin_offsetof(Frame, stores) + 4 * hart;
    context.x[7] = (ulong)&progress[hart];
    context.x[15] = (ulong)&stop;
    context.x[28] = 0;
    Trap t = run(PRIV_S, snippet[taking], 0, 0);
    while (t.cause != CAUSE_ECALL_S) {
        if (is_ipi(t)) {
            answer(hart);
        } else if (t.cause == cause[taking]) {
            /* Answer meanwhile: hart 0 may not have come so far. */
            while (ACQUIRE(&taken)) {
                if (csr_read(CSR_MIP) & 1 << IRQ_MSI) {
                    answer(hart);
                }
            }
            fence_all();
        } else {
            unexpected = t.cause;
            break;
        }
        t = resume(t);
    }
    CHECK_EQ(unexpected, 0);
    CHECK(context.x[28] > 0);
    end_worker(hart);
}

static void taking_work(unsigned hart)
{
    if (hart) {
        taking_worker(hart);
        return;
    }
    ulong wrong = 0, va = taking == TAKE_X ? CODE_VA : taking == TAKE_R ? LOAD_VA : STORE_VA;
    u32 seed = 9;
    volatile ulong *pte = pte_at(root, va, 0);
    ulong full = *pte, less;
    volatile u32 *watched = taking == TAKE_W || taking == TAKE_V ? frames[0]->stores : progress;
    unsigned after = watched == progress; /* an access may have been made, and its count not */
    switch (taking) {
    case TAKE_W:
        less = full & ~(ulong)PTE_W;
        break;
    case TAKE_R:
        less = (full & ~(ulong)PTE_R) | PTE_X;
        break;
    case TAKE_X:
        less = full & ~(ulong)PTE_X;
        break;
    default:
        less = 0;
        break;
    }
    barrier();
    for (unsigned i = 1; i <= steps; i++) {
        u32 before[MAX_HARTS];
        fence_kind = i / 16 % 4;
        taken = 1;
        fence_rw_rw();
        *pte = less;
        shoot_down();
        for (unsigned h = 1; h < count; h++) {
            before[h] = watched[h];
        }
        some_time(&seed, 1000);
        for (unsigned h = 1; h < count; h++) {
            wrong += watched[h] - before[h] > after;
        }
        *pte = full;
        fence_rw_rw();
        RELEASE(&taken, 0);
        some_time(&seed, 1000);
    }
    RELEASE(&stop, 1);
    barrier();
    CHECK_EQ(wrong, 0);
}

static void taken_away(void)
{
    for (taking = 0; taking < WAYS; taking++) {
        check_about = taking;
        make_world();
        progress = new_page();
        map(root, (ulong)&stop & ~(ulong)(PAGE - 1), (ulong)&stop & ~(ulong)(PAGE - 1), PTE_KERNEL);
        map(root, (ulong)progress, (ulong)progress, PTE_KERNEL);
        make_frame(frames[0], 1);
        map_frame(0);
        taken = 0;
        steps = rounds(25);
        on_harts(count, taking_work);
    }
    check_about = 0;
}

/* ---- Walks that race with stores -------------------------------------------------------------------
 * Hart 0 switches a leaf, and a pointer to a table, between two frames, and tells nobody. The others fence before each
 * load: they see one frame or the other, never anything else, and no fault. */

SNIPPET(fence_and_load, "1: sfence.vma t0, x0\n lw t1, 8(t0)\n sfence.vma\n lw t2, 8(a0)\n addi t3, t3, 1\n"
                        "addi t1, t1, -100\n li t4, 1\n bgtu t1, t4, 9f\n"
                        "addi t2, t2, -100\n bgtu t2, t4, 9f\n"
                        "lw t4, (a5)\n beqz t4, 1b\n li s0, 1\n 9: ecall");

static void race_work(unsigned hart)
{
    if (hart) {
        csr_write(CSR_MEDELEG, 0);
        use_space(root, 1);
        barrier();
        context.x[5] = LOAD_VA;
        context.x[8] = 0;
        context.x[15] = (ulong)&stop;
        context.x[28] = 0;
        Trap t = run(PRIV_S, fence_and_load, LOAD_VA + LEVEL_SIZE(1), 0);
        EXPECT_DONE(t);
        CHECK_EQ(context.x[8], 1);
        CHECK(context.x[28] > 0);
        use_bare();
        return;
    }
    volatile ulong *leaf = pte_at(root, LOAD_VA, 0), *pointer = pte_at(root, LOAD_VA + LEVEL_SIZE(1), 1);
    ulong leaves[2], tables[2];
    for (unsigned i = 0; i < 2; i++) {
        leaves[i] = pte_make((ulong)frames[i], PTE_V | PTE_R | PTE_A);
        ulong *table = new_page();
        table[(LOAD_VA + LEVEL_SIZE(1)) >> 12 & ((1 << VPN_BITS) - 1)] = leaves[i];
        tables[i] = pte_make((ulong)table, PTE_V);
    }
    *leaf = leaves[0];
    *pointer = tables[0];
    barrier();
    u32 seed = 3;
    for (unsigned i = 0; i < steps; i++) {
        *leaf = leaves[i & 1];
        *pointer = tables[i >> 1 & 1];
        some_time(&seed, 64);
    }
    RELEASE(&stop, 1);
}

static void racing_walks(void)
{
    make_world();
    map(root, (ulong)&stop & ~(ulong)(PAGE - 1), (ulong)&stop & ~(ulong)(PAGE - 1), PTE_KERNEL);
    make_frame(frames[0], 100);
    make_frame(frames[1], 101);
    map_frame(0);
    steps = rounds(20000);
    on_harts(count, race_work);
}

/* ---- Accessed and dirty ----------------------------------------------------------------------------
 * With Svadu harts set A and D, and software changes other bits of the same entries by AMOs: neither loses the other's. And
 * what a pager relies on: an entry that is taken out by a swap, and whose D was clear, belongs to a page that has
 * not been written since it was clean. */

enum { DIRTY_PAGES = 16 };
#define DIRTY_VA 0x40400000
static volatile u32 *dirty_page[DIRTY_PAGES];
static bool hardware_updates;

SNIPPET(probe_store, "sw a1, (a0)\n ecall");
/* Stores ever larger numbers into the hart's word of each page in turn. */
SNIPPET(dirty_on, "1: addi t3, t3, 1\n sw t3, (t0)\n add t0, t0, t1\n addi t4, t4, -1\n bnez t4, 2f\n"
                  "mv t0, t5\n li t4, 16\n 2: lw t2, (a5)\n beqz t2, 1b\n ecall");
#define PTE_RSW ((ulong)3 << 8)

static void dirty_worker(unsigned hart)
{
    ulong unexpected = 0;
    menvcfg_set(ENVCFG_ADUE);
    begin_worker();
    context.x[5] = context.x[30] = DIRTY_VA + 4 * hart;
    context.x[6] = PAGE;
    context.x[15] = (ulong)&stop;
    context.x[28] = 0;
    context.x[29] = DIRTY_PAGES;
    Trap t = run(PRIV_S, dirty_on, 0, 0);
    while (t.cause != CAUSE_ECALL_S) {
        if (is_ipi(t)) {
            answer(hart);
        } else if (t.cause == CAUSE_STORE_PAGE) { /* it has been taken out, and comes back */
            fence_all();
        } else {
            unexpected = t.cause;
            break;
        }
        t = resume(t);
    }
    CHECK_EQ(unexpected, 0);
    menvcfg_clear(ENVCFG_ADUE);
    end_worker(hart);
}

#if XLEN == 64
#define AMO_LONG(op) op ".d"
#else
#define AMO_LONG(op) op ".w"
#endif
#define AMO(op, p, v)                                                                              \
    ({                                                                                             \
        ulong old_;                                                                                \
        asm volatile(AMO_LONG(op) ".aqrl %0, %2, (%1)" : "=&r"(old_) : "r"(p), "r"((ulong)(v)) : "memory");    \
        old_;                                                                                      \
    })

static void dirty_work(unsigned hart)
{
    if (hart) {
        dirty_worker(hart);
        return;
    }
    ulong wrong = 0, lost = 0, clean = 0, dirty = 0;
    u32 seed = 11;
    volatile ulong *pte[DIRTY_PAGES];
    u32 known[DIRTY_PAGES][MAX_HARTS]; /* the words when the page was last clean */
    for (unsigned i = 0; i < DIRTY_PAGES; i++) {
        pte[i] = pte_at(root, DIRTY_VA + i * PAGE, 0);
        for (unsigned h = 0; h < MAX_HARTS; h++) {
            known[i][h] = 0;
        }
    }
    barrier();
    for (unsigned i = 0; i < steps; i++) {
        unsigned p = random_next(&seed) % DIRTY_PAGES;
        switch (random_next(&seed) % 3) {
        case 0: /* software's bits: as they were left, whatever the harts set beside them */
            for (unsigned k = 0; k < 50; k++) {
                lost += (AMO("amoor", pte[p], PTE_RSW) & (PTE_RSW | PTE_V)) != PTE_V;
                lost += (AMO("amoand", pte[p], ~PTE_RSW) & (PTE_RSW | PTE_V)) != (PTE_RSW | PTE_V);
            }
            break;
        case 1: /* age it */
            AMO("amoand", pte[p], ~(ulong)PTE_A);
            break;
        default: { /* take it out, look, put it back clean */
            ulong old = AMO("amoswap", pte[p], 0);
            shoot_down();
            bool changed = false;
            for (unsigned h = 1; h < count; h++) {
                u32 now = dirty_page[p][h];
                changed = changed || now != known[p][h];
                known[p][h] = now;
            }
            wrong += changed && !(old & PTE_D);
            *(old & PTE_D ? &dirty : &clean) += 1;
            *pte[p] = pte_make((ulong)dirty_page[p], PTE_V | PTE_R | PTE_W);
            fence_rw_rw();
            some_time(&seed, 300);
            break;
        }
        }
    }
    RELEASE(&stop, 1);
    barrier();
    CHECK_EQ(wrong, 0);
    CHECK_EQ(lost, 0);
    CHECK(dirty > 0);
    put_number((unsigned)dirty);
    put_text(" dirty and ");
    put_number((unsigned)clean);
    put_text(" clean pages taken out\n");
}

static void dirty_bits(void)
{
    make_world();
    map(root, (ulong)&stop & ~(ulong)(PAGE - 1), (ulong)&stop & ~(ulong)(PAGE - 1), PTE_KERNEL);
    for (unsigned i = 0; i < DIRTY_PAGES; i++) {
        dirty_page[i] = new_page();
        map(root, DIRTY_VA + i * PAGE, (ulong)dirty_page[i], PTE_V | PTE_R | PTE_W);
    }
    menvcfg_set(ENVCFG_ADUE);
    use_space(root, 1);
    hardware_updates = run(PRIV_S, probe_store, DIRTY_VA, 0).cause == CAUSE_ECALL_S;
    use_bare();
    menvcfg_clear(ENVCFG_ADUE);
    if (!hardware_updates) {
        put_text("no Svadu\n");
        return;
    }
    *pte_at(root, DIRTY_VA, 0) = pte_make((ulong)dirty_page[0], PTE_V | PTE_R | PTE_W);
    steps = rounds(150);
    on_harts(count, dirty_work);
}

int main(void)
{
    harts_start(2);
    count = harts;
    RUN(remapped);
    RUN(taken_away);
    RUN(racing_walks);
    RUN(dirty_bits);
    return 0;
}
