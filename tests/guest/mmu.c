/*
 * Address translation: Sv39 (on RV64) and Sv32 (on RV32). All that a page-table entry can say, and
 * when a change of it, of satp or of mstatus has to be seen: by loads, stores and fetches.
 */
#include "place.h"

SNIPPET(load_long, STR_LOAD " a0, 0(a0)\n ecall");
SNIPPET(store_long, STR_STORE " a1, 0(a0)\n ecall");

/* All three accesses at va reach the place at physical address pa, which has `tag`. */
static void expect_place(int line, unsigned mode, ulong va, ulong pa, int tag)
{
    volatile Place *place = (volatile Place *)pa;
    Trap t = try(mode, LOAD, va);
    check_eq(__FILE__, line, "what was loaded", t.a0, (ulong)tag);
    expect_done(__FILE__, line, t);
    place->stored = 0;
    t = try(mode, STORE, va);
    expect_done(__FILE__, line, t);
    check_eq(__FILE__, line, "what was stored", place->stored, 0x77);
    t = try(mode, FETCH, va);
    expect_trap(__FILE__, line, t, CAUSE_ECALL_U + mode, va + 4, 0);
    check_eq(__FILE__, line, "the code that ran", t.a0, (ulong)tag);
}
#define EXPECT_PLACE(mode, va, pa, tag) expect_place(__LINE__, mode, va, pa, tag)

static const ulong VA = 0x40123000;

static void begin(ulong **root)
{
    free_pages();
    paging = true;
    csr_clear(CSR_MSTATUS, MSTATUS_SUM | MSTATUS_MXR);
    menvcfg_clear(ENVCFG_ADUE | ENVCFG_PBMTE);
    *root = new_space();
    map_user_snippets(*root);
    use_space(*root, 1);
}

/* Every combination of R, W, X, U, A, D with mode, SUM, MXR and access, against the rules of the
 * spec. */
static void permissions(void)
{
    ulong *root;
    begin(&root);
    ulong pa = (ulong)new_page();
    place_at(pa, 42);
    for (unsigned bits = 0; bits < 256; bits += 2) {
        if (bits & PTE_G) {
            continue;
        }
        map(root, VA, pa, PTE_V | bits);
        for (unsigned i = 0; i < 8; i++) {
            unsigned mode = i & 1 ? PRIV_S : PRIV_U;
            bool sum = i & 2, mxr = i & 4;
            bool bad =
                (bits & (PTE_R | PTE_W)) == PTE_W || !(bits & (PTE_R | PTE_X)) || !(bits & PTE_A);
            csr_clear(CSR_MSTATUS, MSTATUS_SUM | MSTATUS_MXR);
            csr_set(CSR_MSTATUS, (sum ? MSTATUS_SUM : 0) | (mxr ? MSTATUS_MXR : 0));
            fence_all();
            EACH_ACCESS (access) {
                check_about = bits << 16 | i << 4 | access;
                bool user = bits & PTE_U;
                bool ok = !bad && (mode == PRIV_U ? user : !user || (sum && access != FETCH));
                switch (access) {
                case LOAD:
                    ok = ok && (bits & PTE_R || (mxr && bits & PTE_X));
                    break;
                case STORE:
                    ok = ok && bits & PTE_W && bits & PTE_D;
                    break;
                case FETCH:
                    ok = ok && bits & PTE_X;
                    break;
                }
                if (ok) {
                    Trap t = try(mode, access, VA);
                    EXPECT_DONE(t);
                    if (access != STORE) {
                        CHECK_EQ(t.a0, 42);
                    }
                } else {
                    EXPECT_PAGE_FAULT(mode, access, VA);
                }
            }
        }
    }
    check_about = 0;
    CHECK_EQ(*pte_at(root, VA, 0), pte_make(pa, PTE_V | 0xde)); /* no walk has written to it */
    use_bare();
}

/* SUM, MXR and MPRV change between two accesses to one page, which nothing but them tells apart. */
static void toggles(void)
{
    ulong *root;
    begin(&root);
    ulong user = (ulong)new_page(), exec = (ulong)new_page();
    place_at(user, 11);
    place_at(exec, 12);
    map(root, VA, user, PTE_USER);
    map(root, VA + PAGE, exec, PTE_V | PTE_X | PTE_A);
    fence_all();

    SNIPPET(sum_toggle,
            "li t0, 0x40000\n csrs sstatus, t0\n lw t1, 8(a0)\n sw t1, 12(a0)\n csrc sstatus, t0\n"
            "sum_toggle_2: lw t2, 8(a0)\n li a0, 0\n ecall");
    SNIPPET(sum_again, "li t0, 0x40000\n csrs sstatus, t0\n lw t1, 8(a0)\n csrc sstatus, t0\n "
                       "nop\n csrs sstatus, t0\n"
                       "lw t1, 8(a0)\n sw t1, 12(a0)\n csrc sstatus, t0\n mv a0, t1\n ecall");
    SNIPPET(sum_store, "li t0, 0x40000\n csrs sstatus, t0\n sw a1, 12(a0)\n csrc sstatus, t0\n"
                       "sum_store_2: sw a1, 12(a0)\n ecall");
    extern char sum_toggle_2[], sum_store_2[], mxr_toggle_2[], mprv_toggle_2[];
    for (unsigned again = 0; again < 3; again++) {
        EXPECT_TRAP(run(PRIV_S, sum_toggle, VA, 0), CAUSE_LOAD_PAGE, sum_toggle_2, VA + 8);
        CHECK_EQ(context.x[6], 11);
        CHECK_EQ(((Place *)user)->stored, 11);
        Trap t = run(PRIV_S, sum_again, VA, 0);
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, 11);
        EXPECT_TRAP(run(PRIV_S, sum_store, VA, 5), CAUSE_STORE_PAGE, sum_store_2, VA + 12);
        csr_clear(CSR_MSTATUS, MSTATUS_SUM);
        EXPECT_PLACE(PRIV_U, VA, user, 11);
    }

    SNIPPET(mxr_toggle, "li t0, 0x80000\n csrs sstatus, t0\n lw t1, 8(a0)\n csrc sstatus, t0\n"
                        "mxr_toggle_2: lw t2, 8(a0)\n li a0, 0\n ecall");
    for (unsigned again = 0; again < 3; again++) {
        EXPECT_TRAP(run(PRIV_S, mxr_toggle, VA + PAGE, 0), CAUSE_LOAD_PAGE, mxr_toggle_2,
                    VA + PAGE + 8);
        CHECK_EQ(context.x[6], 12);
        csr_clear(CSR_MSTATUS, MSTATUS_MXR);
        CHECK_EQ(try(PRIV_S, FETCH, VA + PAGE).a0, 12);
    }

    /* MPRV: the same number is a virtual and a physical address. */
    ulong here = (ulong)new_page(), there = (ulong)new_page();
    place_at(here, 13);
    place_at(there, 14);
    map(root, here, there, PTE_KERNEL);
    fence_all();
    SNIPPET(mprv, "li t0, 0x800\n csrs mstatus, t0\n" /* mret left MPP = U; now it is S */
                  "lw t1, 8(a0)\n csrs mstatus, a1\n lw t2, 8(a0)\n sw t2, 12(a0)\n csrc mstatus, "
                  "a1\n lw t3, 8(a0)\n"
                  "lw t4, 12(a0)\n ecall");
    for (unsigned again = 0; again < 3; again++) {
        ((Place *)here)->stored = 99;
        Trap t = run(PRIV_M, mprv, here, MSTATUS_MPRV);
        EXPECT_DONE(t);
        CHECK_EQ(context.x[6], 13);
        CHECK_EQ(context.x[7], 14);
        CHECK_EQ(context.x[28], 13);
        CHECK_EQ(context.x[29], 99);
        CHECK_EQ(((Place *)there)->stored, 14);
    }
    /* MPRV with MPP = U: a page of S faults, a page of U does not; SUM plays no part for it. With
     * MPP = M: physical. */
    SNIPPET(mprv_toggle, "li t0, 0x1800\n csrc mstatus, t0\n csrs mstatus, a1\n"
                         "mprv_toggle_2: lw t2, 8(a0)\n csrc mstatus, a1\n ecall");
    EXPECT_TRAP(run(PRIV_M, mprv_toggle, here, MSTATUS_MPRV), CAUSE_LOAD_PAGE, mprv_toggle_2,
                here + 8);
    EXPECT_DONE(run(PRIV_M, mprv_toggle, VA, MSTATUS_MPRV));
    CHECK_EQ(context.x[7], 11);
    SNIPPET(mprv_m, "li t0, 0x1800\n csrs mstatus, t0\n csrs mstatus, a1\n lw t2, 8(a0)\n csrc "
                    "mstatus, a1\n ecall");
    EXPECT_DONE(run(PRIV_M, mprv_m, here, MSTATUS_MPRV));
    CHECK_EQ(context.x[7], 13);
    use_bare();
}

/* Leaves of every level: (level, place within it, another place within it). */
#define VA_SUPER ((ulong)0x40000000)
typedef struct Leaf {
    unsigned level;
    ulong pa[2];     /* two ranges that it can map */
    ulong at, other; /* offsets */
} Leaf;
enum { LEAVES = LEVELS };
static Leaf leaves[LEAVES];

static void make_leaves(void)
{
    ulong a = (ulong)new_page(), b = (ulong)new_page();
    leaves[0] = (Leaf){0, {a, b}, 0x40, 0x800};
    ulong mega = LEVEL_SIZE(1);
    leaves[1] = (Leaf){1, {0x80000000 + 4 * mega, 0x80000000 + 6 * mega}, 0x5040, mega - PAGE};
#if XLEN == 64
    leaves[2] = (Leaf){2, {0x80000000, 0xc0000000}, 0x3005040, 0x3abcd000};
#endif
    for (unsigned i = 0; i < LEAVES; i++) {
        for (unsigned w = 0; w < 2; w++) {
            place_at(leaves[i].pa[w] + leaves[i].at, (int)(100 + 10 * i + w));
            place_at(leaves[i].pa[w] + leaves[i].other, (int)(200 + 10 * i + w));
        }
    }
    fence_i();
}

static void expect_leaf(int line, unsigned i, unsigned w)
{
    const Leaf *l = &leaves[i];
    expect_place(line, PRIV_S, VA_SUPER + l->at, l->pa[w] + l->at, (int)(100 + 10 * i + w));
    expect_place(line, PRIV_S, VA_SUPER + l->other, l->pa[w] + l->other, (int)(200 + 10 * i + w));
}
#define EXPECT_LEAF(i, w) expect_leaf(__LINE__, i, w)

enum { FENCE_ALL, FENCE_ADDRESS, FENCE_ASID, FENCE_BOTH, FENCE_SINVAL, FENCE_SATP_ASID, FENCES };

/* A fence that covers va in the address space `asid`, which need not be the one in use. */
static void fence(unsigned kind, ulong va, ulong asid)
{
    switch (kind) {
    case FENCE_ALL:
        fence_all();
        break;
    case FENCE_ADDRESS:
        fence_address(va);
        break;
    case FENCE_ASID:
        fence_asid(asid);
        break;
    case FENCE_BOTH:
        fence_address_asid(va, asid);
        break;
    case FENCE_SINVAL:
        asm volatile(".insn 0x18000073\n"                  /* sfence.w.inval */
                     ".insn r 0x73, 0, 0x0b, x0, %0, %1\n" /* sinval.vma */
                     ".insn 0x18100073\n"                  /* sfence.inval.ir */
                     :
                     : "r"(va), "r"(asid)
                     : "memory");
        break;
    default:
        fence_address_asid(va, asid);
        break;
    }
}

static void superpages_and_fences(void)
{
    ulong *root;
    for (unsigned i = 0; i < LEAVES; i++) {
        for (unsigned global = 0; global < 2; global++) {
            begin(&root);
            make_leaves();
            ulong flags = PTE_KERNEL | (global ? PTE_G : 0);
            map_level(root, VA_SUPER, leaves[i].pa[0], flags, leaves[i].level);
            unsigned w = 0;
            for (unsigned kind = 0; kind < FENCES; kind++) {
                if (global && kind != FENCE_ALL && kind != FENCE_ADDRESS) {
                    continue; /* the others leave global mappings alone */
                }
                check_about = i << 8 | global << 4 | kind;
                EXPECT_LEAF(i, w);
                w ^= 1;
                map_level(root, VA_SUPER, leaves[i].pa[w], flags, leaves[i].level);
                /* By the address of one page: it has to work for the whole leaf. */
                fence(kind, VA_SUPER + leaves[i].other, 1);
                EXPECT_LEAF(i, w);
                /* To invalid and back. */
                map_level(root, VA_SUPER, leaves[i].pa[w], flags & ~PTE_V, leaves[i].level);
                fence(kind, VA_SUPER + leaves[i].at, 1);
                EACH_ACCESS (access) {
                    EXPECT_PAGE_FAULT(PRIV_S, access, VA_SUPER + leaves[i].at);
                    EXPECT_PAGE_FAULT(PRIV_S, access, VA_SUPER + leaves[i].other);
                }
                map_level(root, VA_SUPER, leaves[i].pa[w], flags,
                          leaves[i].level); /* no fence: Svvptc */
                EXPECT_LEAF(i, w);
                /* Write permission goes, then comes back. */
                map_level(root, VA_SUPER, leaves[i].pa[w], flags & ~PTE_W, leaves[i].level);
                fence(kind, VA_SUPER + leaves[i].other, 1);
                EXPECT_PAGE_FAULT(PRIV_S, STORE, VA_SUPER + leaves[i].at);
                EXPECT_DONE(try(PRIV_S, LOAD, VA_SUPER + leaves[i].at));
                map_level(root, VA_SUPER, leaves[i].pa[w], flags, leaves[i].level);
                fence(kind, VA_SUPER + leaves[i].other, 1);
            }
            use_bare();
        }
    }
    check_about = 0;
}

/* The page tables of an address space change while another one is in use. */
static void fences_from_elsewhere(void)
{
    ulong *a, *b;
    for (unsigned i = 0; i < LEAVES; i++) {
        for (unsigned global = 0; global < 2; global++) {
            begin(&a);
            make_leaves();
            b = new_space();
            ulong flags = PTE_KERNEL | (global ? PTE_G : 0);
            map_level(a, VA_SUPER, leaves[i].pa[0], flags, leaves[i].level);
            unsigned w = 0;
            for (unsigned kind = 0; kind < FENCES; kind++) {
                if (global && kind != FENCE_ALL && kind != FENCE_ADDRESS) {
                    continue;
                }
                check_about = i << 8 | global << 4 | kind;
                csr_write(CSR_SATP, satp_of(a, 1));
                EXPECT_LEAF(i, w);
                csr_write(CSR_SATP, satp_of(b, 2));
                if (!global) {
                    EXPECT_PAGE_FAULT(PRIV_S, LOAD, VA_SUPER + leaves[i].at);
                }
                w ^= 1;
                map_level(a, VA_SUPER, leaves[i].pa[w], flags, leaves[i].level);
                fence(kind, VA_SUPER + leaves[i].other, 1);
                csr_write(CSR_SATP, satp_of(a, 1));
                EXPECT_LEAF(i, w);
            }
            use_bare();
        }
    }
    check_about = 0;
}

/* Many address spaces that differ in one page, entered without fences; more than a cache of them
 * may hold. */
static void address_spaces(void)
{
    enum { SPACES = 24 };
    static ulong *roots[SPACES];
    ulong *root;
    begin(&root);
    for (unsigned i = 0; i < SPACES; i++) {
        roots[i] = new_space();
        map_user_snippets(roots[i]);
        ulong pa = (ulong)new_page();
        place_at(pa, (int)i);
        map(roots[i], VA, pa, PTE_USER);
        map(roots[i], VA + PAGE, pa, PTE_KERNEL);
    }
    fence_i();
    fence_all();
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < SPACES; i += round == 1 ? 5 : 1) {
            check_about = i;
            csr_write(CSR_SATP, satp_of(roots[i], i + 1));
            ulong pa = *pte_at(roots[i], VA, 0) >> 10 << 12;
            EXPECT_PLACE(PRIV_U, VA, pa, (int)i);
            EXPECT_PLACE(PRIV_S, VA + PAGE, pa, (int)i);
        }
    }
    /* An ASID changes hands. */
    csr_write(CSR_SATP, satp_of(roots[3], 1));
    fence_asid(1);
    CHECK_EQ(try(PRIV_U, LOAD, VA).a0, 3);
    CHECK_EQ(try(PRIV_S, FETCH, VA + PAGE).a0, 3);
    check_about = 0;
    use_bare();
}

static void malformed_entries(void)
{
    ulong *root;
    begin(&root);
    make_leaves();
    ulong pa = leaves[0].pa[0];
    place_at(pa, 1);
    EACH_ACCESS (access) {
        check_about = access;
        /* A pointer where a leaf has to be. */
        map(root, VA, pa, PTE_V);
        fence_all();
        EXPECT_PAGE_FAULT(PRIV_S, access, VA);
        /* Superpages that are not aligned. */
        for (unsigned level = 1; level < LEVELS; level++) {
            for (unsigned bit = 0; bit < VPN_BITS * level; bit++) {
                map_level(root, VA_SUPER * 3, 0x80000000 + ((ulong)PAGE << bit), PTE_KERNEL, level);
                fence_all();
                EXPECT_PAGE_FAULT(PRIV_S, access, VA_SUPER * 3 + 0x40);
            }
        }
        *pte_at(root, VA_SUPER * 3, LEVELS - 1) = 0;
        /* A, D and U are reserved in pointers. */
        map(root, VA, pa, PTE_KERNEL);
        fence_all();
        EXPECT_DONE(try(PRIV_S, access, VA));
        static const ulong reserved[] = {PTE_A, PTE_D, PTE_U};
        for (unsigned i = 0; i < ARRAY_LEN(reserved); i++) {
            *pte_at(root, VA, 1) |= reserved[i];
            fence_all();
            EXPECT_PAGE_FAULT(PRIV_S, access, VA);
            *pte_at(root, VA, 1) &= ~reserved[i];
        }
        /* G and the two bits for software are nobody's business. */
        *pte_at(root, VA, 1) |= PTE_G | 0x300;
        map(root, VA, pa, PTE_KERNEL | 0x300);
        fence_all();
        EXPECT_DONE(try(PRIV_S, access, VA));
        *pte_at(root, VA, 1) &= ~(ulong)(PTE_G | 0x300);
#if XLEN == 64
        for (unsigned bit = 54; bit < 61; bit++) {
            map(root, VA, pa, PTE_KERNEL | (ulong)1 << bit);
            fence_all();
            EXPECT_PAGE_FAULT(PRIV_S, access, VA);
            map(root, VA, pa, PTE_KERNEL);
            *pte_at(root, VA, 1) |= (ulong)1 << bit;
            fence_all();
            EXPECT_PAGE_FAULT(PRIV_S, access, VA);
            *pte_at(root, VA, 1) &= ~((ulong)1 << bit);
        }
#endif
    }
    check_about = 0;
    use_bare();
}

/* Tables and pages where there is no memory: access faults of the kind of the access. */
static void no_memory(void)
{
    ulong *root;
    begin(&root);
    EACH_ACCESS (access) {
        check_about = access;
        map(root, VA, HOLE, PTE_KERNEL);
        *pte_at(root, VA + 2 * LEVEL_SIZE(LEVELS - 1), LEVELS - 1) = pte_make(HOLE, PTE_V);
        fence_all();
        EXPECT_ACCESS_FAULT(PRIV_S, access, VA);
        EXPECT_ACCESS_FAULT(PRIV_S, access, VA + 2 * LEVEL_SIZE(LEVELS - 1));
        /* The highest physical page; on RV32 the last one below PCI's window, beyond 4 GiB too. */
        map(root, VA, 0, PTE_KERNEL | ((IS64 ? ((u64)1 << 44) - 1 : 0x2fffff) << 10));
        fence_all();
        EXPECT_ACCESS_FAULT(PRIV_S, access, VA);
#if XLEN == 32
        /* 4 GiB above memory is not memory. */
        map(root, VA, 0, PTE_KERNEL | 0x180000ul << 10);
        fence_all();
        EXPECT_ACCESS_FAULT(PRIV_S, access, VA);
#endif
        if (access == FETCH) {
            /* The root is nowhere: not even the snippet can be fetched. */
            csr_write(CSR_SATP, satp_of((ulong *)HOLE, 1));
            fence_all();
            EXPECT_TRAP(run(PRIV_S, load, 0, 0), CAUSE_FETCH_ACCESS, load, load);
            csr_write(CSR_SATP, satp_of(root, 1));
        }
    }
    check_about = 0;
    use_bare();
}

/* Svadu: with menvcfg.ADUE the walk sets A and D, no more than it has to. */
static void updates_of_a_and_d(void)
{
    ulong *root;
    begin(&root);
    menvcfg_set(ENVCFG_ADUE);
    for (unsigned level = 0; level < 2; level++) {
        ulong pa = level ? 0x80000000 + 4 * LEVEL_SIZE(1) : (ulong)new_page();
        ulong va = level ? VA_SUPER * 3 : VA;
        place_at(pa, 5);
        EACH_ACCESS (access) {
            check_about = level << 4 | access;
            ulong bare = PTE_V | PTE_RWX;
            map_level(root, va, pa, bare, level);
            fence_all();
            EXPECT_DONE(try(PRIV_S, access, va));
            ulong want = bare | PTE_A | (access == STORE ? PTE_D : 0);
            CHECK_EQ(*pte_at(root, va, level), pte_make(pa, want));
            /* A store after a load still has to set D. */
            EXPECT_DONE(try(PRIV_S, STORE, va));
            CHECK_EQ(*pte_at(root, va, level), pte_make(pa, bare | PTE_AD));
            /* Software takes D back. */
            map_level(root, va, pa, bare | PTE_A, level);
            fence_address(va);
            EXPECT_DONE(try(PRIV_S, LOAD, va));
            CHECK_EQ(*pte_at(root, va, level), pte_make(pa, bare | PTE_A));
            EXPECT_DONE(try(PRIV_S, STORE, va));
            CHECK_EQ(*pte_at(root, va, level), pte_make(pa, bare | PTE_AD));
            /* An access that is not allowed leaves the entry alone. */
            map_level(root, va, pa, PTE_V | PTE_R, level);
            fence_all();
            EXPECT_PAGE_FAULT(PRIV_S, STORE, va);
            EXPECT_PAGE_FAULT(PRIV_S, FETCH, va);
            CHECK_EQ(*pte_at(root, va, level), pte_make(pa, PTE_V | PTE_R));
        }
    }
    /* ADUE off again: faults. */
    menvcfg_clear(ENVCFG_ADUE);
    ulong pa = (ulong)new_page();
    map(root, VA, pa, PTE_V | PTE_RWX);
    fence_all();
    EACH_ACCESS (access) {
        EXPECT_PAGE_FAULT(PRIV_S, access, VA);
    }
    CHECK_EQ(*pte_at(root, VA, 0), pte_make(pa, PTE_V | PTE_RWX));
    check_about = 0;
    use_bare();
}

#if XLEN == 64
static void svnapot(void)
{
    enum { SIZE = 0x10000 };
    ulong *root;
    begin(&root);
    ulong pa[2] = {0x80800000, 0x80a10000}, va = 0x50000000;
    for (unsigned i = 0; i < 16; i++) {
        place_at(pa[0] + i * PAGE, (int)i);
        place_at(pa[1] + i * PAGE, (int)(100 + i));
    }
    fence_i();
    for (unsigned w = 0; w < 2; w++) {
        for (unsigned i = 0; i < 16; i++) {
            map(root, va + i * PAGE, pa[w] | SIZE / 2, PTE_KERNEL | PTE_N);
        }
        fence_address(va + 0x7000); /* one for the whole range */
        for (unsigned i = 0; i < 16; i++) {
            EXPECT_PLACE(PRIV_S, va + i * PAGE, pa[w] + i * PAGE, (int)(100 * w + i));
        }
    }
    /* Other sizes are reserved, and superpages have none. */
    EACH_ACCESS (access) {
        for (unsigned low = 0; low < 16; low++) {
            map(root, va, pa[0] | (ulong)low << 12, PTE_KERNEL | PTE_N);
            fence_all();
            if (low == 8) {
                EXPECT_DONE(try(PRIV_S, access, va));
            } else {
                EXPECT_PAGE_FAULT(PRIV_S, access, va);
            }
        }
        map_level(root, VA_SUPER * 3, 0x80800000, PTE_KERNEL | PTE_N, 1);
        fence_all();
        EXPECT_PAGE_FAULT(PRIV_S, access, VA_SUPER * 3);
        map_level(root, VA_SUPER * 3, 0, 0, 1);
        *pte_at(root, va, 1) |= PTE_N;
        fence_all();
        EXPECT_PAGE_FAULT(PRIV_S, access, va);
        *pte_at(root, va, 1) &= ~PTE_N;
    }
    use_bare();
}

static void svpbmt(void)
{
    ulong *root;
    begin(&root);
    ulong pa = (ulong)new_page();
    place_at(pa, 9);
    EACH_ACCESS (access) {
        for (ulong type = 0; type < 4; type++) {
            for (unsigned on = 0; on < 2; on++) {
                check_about = access << 8 | type << 4 | on;
                if (on) {
                    menvcfg_set(ENVCFG_PBMTE);
                } else {
                    menvcfg_clear(ENVCFG_PBMTE);
                }
                map(root, VA, pa, PTE_KERNEL | PTE_PBMT(type));
                fence_all();
                if (type == 0 || (on && type != 3)) {
                    EXPECT_DONE(try(PRIV_S, access, VA));
                } else {
                    EXPECT_PAGE_FAULT(PRIV_S, access, VA);
                }
                if (type) {
                    map(root, VA, pa, PTE_KERNEL);
                    *pte_at(root, VA, 1) |= PTE_PBMT(type);
                    fence_all();
                    EXPECT_PAGE_FAULT(PRIV_S, access, VA); /* never in a pointer */
                    *pte_at(root, VA, 1) &= ~PTE_PBMT(type);
                }
            }
        }
    }
    check_about = 0;
    menvcfg_clear(ENVCFG_PBMTE);
    use_bare();
}

/* Addresses whose bits 63:39 are not all equal to bit 38 fault, however well the rest is mapped. */
static void non_canonical(void)
{
    ulong *root;
    begin(&root);
    ulong pa = (ulong)new_page(), high = -(ulong)0x200000000;
    place_at(pa, 21);
    map(root, VA, pa, PTE_KERNEL);
    map(root, high, pa, PTE_KERNEL);
    map(root, VA + PAGE, pa, PTE_USER);
    fence_all();
    EXPECT_PLACE(PRIV_S, VA, pa, 21);
    EXPECT_PLACE(PRIV_S, high, pa, 21);
    static const unsigned modes[] = {PRIV_S, PRIV_U};
    for (unsigned m = 0; m < 2; m++) {
        ulong good = modes[m] == PRIV_U ? VA + PAGE : VA;
        for (unsigned bit = 39; bit < 64; bit++) {
            ulong one = (ulong)1 << bit;
            EACH_ACCESS (access) {
                check_about = bit << 4 | access;
                EXPECT_DONE(try(modes[m], access, good));
                EXPECT_PAGE_FAULT(modes[m], access, good ^ one);
                EXPECT_PAGE_FAULT(modes[m], access, good | -one);
                EXPECT_PAGE_FAULT(modes[m], access, high ^ one);
            }
        }
    }
    check_about = 0;
    /* The last page below the hole. */
    ulong last = ((ulong)1 << 38) - PAGE, end = last + PAGE;
    map(root, last, pa, PTE_KERNEL);
    map(root, -((ulong)1 << 38), pa, PTE_KERNEL); /* what would follow if the hole were not there */
    fence_all();
    EXPECT_DONE(run(PRIV_S, load_long, end - 8, 0));
    for (unsigned back = 1; back < 8; back++) {
        EXPECT_TRAP(run(PRIV_S, load_long, end - back, 0), CAUSE_LOAD_PAGE, load_long, end);
        EXPECT_TRAP(run(PRIV_S, store_long, end - back, 0), CAUSE_STORE_PAGE, store_long, end);
    }
    *(volatile u16 *)(pa + PAGE - 2) = (u16)insn_li_a0(5);
    fence_i();
    EXPECT_TRAP(run(PRIV_S, jump, end - 2, 0), CAUSE_FETCH_PAGE, end - 2, end);
    *(volatile u16 *)(pa + PAGE - 2) = C_NOP;
    fence_i();
    EXPECT_TRAP(run(PRIV_S, jump, end - 2, 0), CAUSE_FETCH_PAGE, end, end);
    use_bare();
}
#endif

/* Accesses that lie on two pages, which are apart in physical memory. */
static void page_crossing(void)
{
    ulong *root;
    begin(&root);
    ulong size = XLEN / 8, border = VA + PAGE;
    u8 *first = new_page();
    new_page();
    u8 *second = new_page();
    map(root, VA, (ulong)first, PTE_KERNEL);
    map(root, border, (ulong)second, PTE_KERNEL);
    fence_all();
    for (ulong back = 1; back < size; back++) {
        check_about = back;
        ulong want = 0;
        for (ulong i = 0; i < size; i++) {
            u8 byte = (u8)(0x81 + 7 * i + back);
            *(i < back ? &first[PAGE - back + i] : &second[i - back]) = byte;
            want |= (ulong)byte << (8 * i);
        }
        Trap t = run(PRIV_S, load_long, border - back, 0);
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, want);
        EXPECT_DONE(run(PRIV_S, store_long, border - back, ~want));
        for (ulong i = 0; i < size; i++) {
            CHECK_EQ(i < back ? first[PAGE - back + i] : second[i - back], (u8)(~want >> (8 * i)));
        }

        /* The second page can't be accessed: nothing is stored, tval is where that page starts. */
        map(root, border, (ulong)second, PTE_KERNEL & ~PTE_V);
        fence_all();
        EXPECT_TRAP(run(PRIV_S, load_long, border - back, 0), CAUSE_LOAD_PAGE, load_long, border);
        EXPECT_TRAP(run(PRIV_S, store_long, border - back, 0), CAUSE_STORE_PAGE, store_long,
                    border);
        for (ulong i = 0; i < back; i++) {
            CHECK_EQ(first[PAGE - back + i], (u8)(~want >> (8 * i)));
        }
        map(root, border, (ulong)second, PTE_KERNEL & ~PTE_W);
        fence_all();
        EXPECT_DONE(run(PRIV_S, load_long, border - back, 0));
        EXPECT_TRAP(run(PRIV_S, store_long, border - back, 0), CAUSE_STORE_PAGE, store_long,
                    border);
        CHECK_EQ(first[PAGE - back], (u8)~want);
        /* The first page can't: tval is the access's address. */
        map(root, border, (ulong)second, PTE_KERNEL);
        map(root, VA, (ulong)first, PTE_V | PTE_X | PTE_A);
        fence_all();
        EXPECT_TRAP(run(PRIV_S, load_long, border - back, 0), CAUSE_LOAD_PAGE, load_long,
                    border - back);
        EXPECT_TRAP(run(PRIV_S, store_long, border - back, 0), CAUSE_STORE_PAGE, store_long,
                    border - back);
        CHECK_EQ(second[0], (u8)(~want >> (8 * back)));
        map(root, VA, (ulong)first, PTE_KERNEL);
        fence_all();
        EXPECT_DONE(run(PRIV_S, store_long, border - back, want));
        CHECK_EQ(second[0], (u8)(want >> (8 * back)));
    }
    check_about = 0;
    use_bare();
}

/* An instruction of 4 bytes that lies on two pages. */
static void straddling_fetch(void)
{
    ulong *root;
    begin(&root);
    ulong border = VA + PAGE;
    u16 *first = new_page(), *second = new_page(), *third = new_page();
    u32 insn = insn_li_a0(0x123), other = insn_li_a0(0x456);
    first[PAGE / 2 - 1] = (u16)insn;
    second[0] = insn >> 16;
    third[0] = other >> 16;
    second[1] = third[1] = (u16)ECALL;
    fence_i();
    map(root, VA, (ulong)first, PTE_KERNEL);
    map(root, border, (ulong)second, PTE_KERNEL);
    fence_all();
    for (unsigned i = 0; i < 4; i++) {
        Trap t = run(PRIV_S, jump, border - 2, 0);
        EXPECT_TRAP(t, CAUSE_ECALL_S, border + 2, 0);
        CHECK_EQ(t.a0, i & 1 ? 0x456 : 0x123);
        /* Gone: the instruction's pc, the second page's address. */
        map(root, border, (ulong)second, 0);
        fence_address(border);
        EXPECT_TRAP(run(PRIV_S, jump, border - 2, 0), CAUSE_FETCH_PAGE, border - 2, border);
        map(root, border, (ulong)second, PTE_KERNEL & ~PTE_X);
        fence_address(border);
        EXPECT_TRAP(run(PRIV_S, jump, border - 2, 0), CAUSE_FETCH_PAGE, border - 2, border);
        map(root, border, HOLE, PTE_KERNEL);
        fence_address(border);
        EXPECT_TRAP(run(PRIV_S, jump, border - 2, 0), CAUSE_FETCH_ACCESS, border - 2, border);
        /* Back, elsewhere. */
        map(root, border, (ulong)(i & 1 ? second : third), PTE_KERNEL);
        fence_address(border);
    }
    map(root, VA, (ulong)first, PTE_KERNEL & ~PTE_X);
    fence_address(VA);
    EXPECT_TRAP(run(PRIV_S, jump, border - 2, 0), CAUSE_FETCH_PAGE, border - 2, border - 2);
    use_bare();
}

/* Page faults go where medeleg says, with everything in the S registers. */
static void delegated(void)
{
    ulong *root;
    begin(&root);
    csr_write(CSR_MEDELEG, 1 << CAUSE_LOAD_PAGE | 1 << CAUSE_STORE_PAGE | 1 << CAUSE_FETCH_PAGE);
    static const unsigned modes[] = {PRIV_S, PRIV_U};
    for (unsigned m = 0; m < 2; m++) {
        EACH_ACCESS (access) {
            EXPECT_PAGE_FAULT(modes[m], access, VA);
            Trap t = try(modes[m], access, VA);
            CHECK_EQ(t.by, PRIV_S);
            CHECK_EQ(t.from, modes[m]);
        }
    }
    csr_write(CSR_MEDELEG, 0);
    CHECK_EQ(try(PRIV_U, LOAD, VA).by, PRIV_M);
    use_bare();
}

int main(void)
{
    RUN(permissions);
    RUN(toggles);
    RUN(superpages_and_fences);
    RUN(fences_from_elsewhere);
    RUN(address_spaces);
    RUN(malformed_entries);
    RUN(no_memory);
    RUN(updates_of_a_and_d);
#if XLEN == 64
    RUN(svnapot);
    RUN(svpbmt);
    RUN(non_canonical);
#endif
    RUN(page_crossing);
    RUN(straddling_fetch);
    RUN(delegated);
    return 0;
}
