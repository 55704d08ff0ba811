/*
 * Page-table walks: Sv32 and Sv39 (privileged spec, chapter "Supervisor-Level ISA", section
 * "Virtual Address Translation Process", whose steps the code follows), with Svnapot, Svpbmt and
 * both ways of keeping A and D: a fault that asks software to set them (Svade), or an update in
 * memory (Svadu).
 *
 * Page tables are in guest memory and hostile. Each PTE is read once, atomically, and every address
 * made from one is looked up on the bus. Accesses to PTEs are checked by PMP as those of S mode;
 * one that fails, or is not to memory, is an access fault of the kind of the access that is
 * translated.
 */
#include "softmmu/internal.h"

enum {
    PTE_V = 1 << 0,
    PTE_R = 1 << 1,
    PTE_W = 1 << 2,
    PTE_X = 1 << 3,
    PTE_U = 1 << 4,
    PTE_G = 1 << 5,
    PTE_A = 1 << 6,
    PTE_D = 1 << 7,
    PTE_PPN_SHIFT = 10,
    PTE_PPN_BITS_SV32 = 22,
    PTE_PPN_BITS_SV39 = 44,
    /* Sv39 only */
    PTE_RESERVED_SHIFT = 54, /* 7 bits */
    PTE_PBMT_SHIFT = 61,     /* 2 bits */
    PTE_N_SHIFT = 63,
    PBMT_RESERVED = 3,
    NAPOT_LOG2 = 4, /* the only size that is defined: 64 KiB */
    NAPOT_PPN = 8,  /* and the low bits of the page number that say so */
};

/* How a mode cuts an address. */
typedef struct Shape {
    u8 levels, vpn_bits, pte_size;
} Shape;
static const Shape shapes[] = {
    [PAGING_SV32] = {2, 10, 4},
    [PAGING_SV39] = {3, 9, 8},
};

/* A leaf PTE and where it was found. */
typedef struct Leaf {
    u64 pte, pte_pa;
    u64 ppn; /* of va's 4 KiB page */
    u8 leaf_log2;
    bool global;      /* the leaf or a PTE above it is */
    BusRegion *table; /* memory that holds the PTE */
} Leaf;

static const char *const access_names[] = {"fetch", "load", "store"};

static WalkResult fault(Mmu *mmu, u64 va, Access access, bool quiet, WalkResult result,
                        const char *why, u64 pte_pa, u64 pte)
{
    if (!quiet) {
        log_printf(LOG_MMU,
                   "mmu: hart %u: %s at 0x%" G_GINT64_MODIFIER
                   "x: %s fault: %s (PTE 0x%" G_GINT64_MODIFIER "x at 0x%" G_GINT64_MODIFIER "x)\n",
                   mmu->cpu->index, access_names[access], va,
                   result == WALK_PAGE_FAULT ? "page" : "access", why, pte, pte_pa);
    }
    return result;
}

/* The spec's steps 1 to 5: finds the leaf PTE of va. `quiet`: for a debugger, without PMP and log.
 */
static WalkResult find_leaf(Mmu *mmu, u64 va, Access access, bool quiet, Leaf *leaf)
{
    const TranslationRegime *r = &mmu->regime;
    const Shape *s = &shapes[r->mode];
    bool sv39 = r->mode == PAGING_SV39;
    u64 table = r->root;
    const char *why;
    u64 pte_pa = 0, pte = 0;

    if (sv39 && !view_canonical(va)) {
        return fault(mmu, va, access, quiet, WALK_PAGE_FAULT, "address is not canonical", 0, 0);
    }
    leaf->global = false;
    for (unsigned level = s->levels; level-- > 0;) {
        unsigned low = 12 + level * s->vpn_bits;
        pte_pa = table + bits(va, low, s->vpn_bits) * s->pte_size;
        pte = 0;
        leaf->table = bus_memory_at(mmu->bus, pte_pa);
        if (!leaf->table) {
            return fault(mmu, va, access, quiet, WALK_ACCESS_FAULT, "PTE is not in memory", pte_pa,
                         0);
        }
        if (!quiet && !pmp_allows(&mmu->pmp, pte_pa, s->pte_size, PRIV_S, PMP_R)) {
            return fault(mmu, va, access, quiet, WALK_ACCESS_FAULT, "PMP denies the PTE", pte_pa,
                         0);
        }
        pte = host_load(bus_region_host(leaf->table, pte_pa), s->pte_size);

        u64 pbmt = sv39 ? bits(pte, PTE_PBMT_SHIFT, 2) : 0;
        bool napot = sv39 && pte >> PTE_N_SHIFT;
        u64 ppn = bits(pte, PTE_PPN_SHIFT, sv39 ? PTE_PPN_BITS_SV39 : PTE_PPN_BITS_SV32);
        why = "PTE is not valid";
        if (!(pte & PTE_V)) {
            break;
        }
        why = "reserved bits are set";
        if ((pte & (PTE_R | PTE_W)) == PTE_W || (sv39 && bits(pte, PTE_RESERVED_SHIFT, 7)) ||
            (pbmt && !r->pbmte) || pbmt == PBMT_RESERVED || (napot && !r->napot)) {
            break;
        }
        leaf->global |= (pte & PTE_G) != 0;
        if (!(pte & (PTE_R | PTE_X))) {
            if ((pte & (PTE_D | PTE_A | PTE_U)) || pbmt || napot) {
                break;
            }
            why = "there is no level below";
            table = ppn << 12;
            continue;
        }
        why = "superpage is misaligned";
        unsigned log2 = level * s->vpn_bits;
        if (ppn & mask64(log2)) {
            break;
        }
        if (napot) {
            why = "NAPOT size is reserved"; /* so is every one for superpages, whose low bits are 0
                                               here */
            if (bits(ppn, 0, NAPOT_LOG2) != NAPOT_PPN) {
                break;
            }
            log2 = NAPOT_LOG2;
        }
        leaf->pte = pte;
        leaf->pte_pa = pte_pa;
        leaf->leaf_log2 = (u8)log2;
        leaf->ppn = set_bits(ppn, 0, log2, va >> 12);
        return WALK_OK;
    }
    return fault(mmu, va, access, quiet, WALK_PAGE_FAULT, why, pte_pa, pte);
}

/* Sets bits in the PTE if it is still what was read. */
static bool update_pte(const Leaf *leaf, unsigned size, u64 set)
{
    void *host = bus_region_host(leaf->table, leaf->pte_pa);
    if (size == 4) {
        u32 old = (u32)leaf->pte;
        return __atomic_compare_exchange_n((u32 *)host, &old, old | (u32)set, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    u64 old = leaf->pte;
    return __atomic_compare_exchange_n((u64 *)host, &old, old | set, false, __ATOMIC_SEQ_CST,
                                       __ATOMIC_SEQ_CST);
}

WalkResult mmu_walk(Mmu *mmu, u64 va, Access access, u8 priv, Translation *t)
{
    const TranslationRegime *r = &mmu->regime;
    Leaf leaf;
    if (priv == PRIV_M || r->mode == PAGING_BARE) {
        *t = (Translation){.pa = va, .readable = true, .writable = true};
        return WALK_OK;
    }
    for (;;) {
        WalkResult found = find_leaf(mmu, va, access, false, &leaf);
        if (found != WALK_OK) {
            return found;
        }
        u64 pte = leaf.pte;
        bool may_user = priv == PRIV_U ? (pte & PTE_U) != 0
                                       : !(pte & PTE_U) || (r->sum && access != ACCESS_FETCH);
        if (!may_user) {
            return fault(mmu, va, access, false, WALK_PAGE_FAULT,
                         pte & PTE_U ? "user page in S mode" : "supervisor page in U mode",
                         leaf.pte_pa, pte);
        }
        bool readable = pte & PTE_R || (r->mxr && pte & PTE_X);
        bool allowed = access == ACCESS_FETCH  ? (pte & PTE_X) != 0
                       : access == ACCESS_LOAD ? readable
                                               : (pte & PTE_W) != 0;
        if (!allowed) {
            return fault(mmu, va, access, false, WALK_PAGE_FAULT, "no permission", leaf.pte_pa,
                         pte);
        }
        u64 need = PTE_A | (access == ACCESS_STORE ? PTE_D : 0);
        if ((pte & need) != need) {
            unsigned size = shapes[r->mode].pte_size;
            if (!r->adue) {
                return fault(mmu, va, access, false, WALK_PAGE_FAULT, "A or D is clear",
                             leaf.pte_pa, pte);
            }
            if (leaf.table->r.kind != REGION_RAM ||
                !pmp_allows(&mmu->pmp, leaf.pte_pa, size, PRIV_S, PMP_R | PMP_W)) {
                return fault(mmu, va, access, false, WALK_ACCESS_FAULT, "the PTE cannot be written",
                             leaf.pte_pa, pte);
            }
            if (!update_pte(&leaf, size, need)) {
                continue; /* somebody else wrote it */
            }
            bus_report_write(mmu->bus, leaf.table, leaf.pte_pa);
            pte |= need;
        }
        *t = (Translation){
            .pa = leaf.ppn << 12 | (va & 0xfff),
            .leaf_log2 = leaf.leaf_log2,
            .global = leaf.global,
            .readable = readable && (access != ACCESS_FETCH),
            .writable = (pte & (PTE_W | PTE_D)) == (PTE_W | PTE_D) && access != ACCESS_FETCH,
        };
        return WALK_OK;
    }
}

bool mmu_peek(Mmu *mmu, u64 va, u8 priv, u64 *pa)
{
    Leaf leaf;
    if (priv == PRIV_M || mmu->regime.mode == PAGING_BARE) {
        *pa = va;
        return true;
    }
    if (find_leaf(mmu, va, ACCESS_LOAD, true, &leaf) != WALK_OK) {
        return false;
    }
    *pa = leaf.ppn << 12 | (va & 0xfff);
    return true;
}
