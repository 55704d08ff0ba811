/*
 * The insides of one hart's softmmu, shared by softmmu.c (accesses), walk.c (page tables), pmp.c
 * and view.c (tables). Private.
 */
#ifndef STAG_SOFTMMU_INTERNAL_H
#define STAG_SOFTMMU_INTERNAL_H

#include "core/base/bits.h"
#include "core/base/log.h"
#include "softmmu/bus-region.h"
#include "softmmu/layout.h"
#include "softmmu/softmmu.h"

enum {
    USER_VIEWS = 8,
    FETCH_CACHE = 256,
    /* An access under bare addressing is remembered if its address has no more than 38 bits: then
     * it is its own low 39 bits sign-extended, as under Sv39. */
    BARE_BITS = 38,
};

/* The views of a hart. */
enum {
    VIEW_MACHINE,        /* M mode: physical addresses under M's PMP permissions */
    VIEW_BARE,           /* S and U mode without paging */
    VIEW_SUPERVISOR,     /* S mode, SUM=0 */
    VIEW_SUPERVISOR_SUM, /* S mode, SUM=1 */
    VIEW_SCRATCH, /* data under other rules than the rest (MPRV, MXR): no read or write entries */
    VIEW_USER,    /* the first of USER_VIEWS: U mode, one address space each */
    VIEW_COUNT = VIEW_USER + USER_VIEWS,
};

/* The arrays of a view that lie in its reservation, see view.c. */
enum { TABLE_EXEC, TABLE_READ, TABLE_WRITE, TABLE_NODES, TABLE_COUNT };

typedef enum Access { ACCESS_FETCH, ACCESS_LOAD, ACCESS_STORE } Access;

typedef struct View {
    u8 *read_table; /* what cpu->view holds while the view is current */
    u32 *nodes;     /* node number by table index; 0: the page has no entries */

    /* Which address space. (Which paging mode follows from XLEN; when that changes all views are
     * emptied.) */
    bool paged; /* else physical addresses: fences do not concern it */
    u64 root;
    u16 asid;
    u64 last_used; /* user views: for least recently used */

    u64 generation;                        /* changes whenever mappings are dropped */
    u32 list[2];                           /* nodes of non-global [0] and global [1] mappings */
    u32 big_leaves[512], huge_leaves[512]; /* by GiB of the view: how many nodes come from leaves of
                                            * 2 to 1024 pages, and of more */
    u32 touched_pages; /* host pages of the tables that have been written, and which */
    u64 touched[TABLE_COUNT][(VIEW_ENTRIES / 512) / 64];
} View;

/* All that is known of one 4 KiB page in one view. */
enum { NODE_READ = 1, NODE_WRITE = 2, NODE_EXEC = 4, NODE_GLOBAL = 8 };
typedef struct Node {
    u32 key;                  /* view number << VIEW_INDEX_BITS | table index */
    u32 page;                 /* physical: bus_region_page() */
    u32 view_next, view_prev; /* on View.list */
    u32 page_next, page_prev; /* on Mmu.page_nodes */
    u8 flags;                 /* which entries are set; NODE_GLOBAL */
    u8 leaf_log2;             /* of the leaf it came from, in 4 KiB pages */
} Node;

/* What a walk found. */
typedef struct Translation {
    u64 pa;
    u8 leaf_log2; /* the leaf's size in 4 KiB pages: 0, 4 (NAPOT), 9 or 10, 18 */
    bool global;
    bool readable, writable; /* under the rules the walk was made with; writable: D is set too */
} Translation;

typedef enum WalkResult { WALK_OK, WALK_PAGE_FAULT, WALK_ACCESS_FAULT } WalkResult;

/* Recent fetches, valid while the view's generation is the same. */
typedef struct FetchEntry {
    const View *view;
    u64 generation;
    u64 va, pa; /* of the page */
    const u8 *host;
    u32 page;
    u8 leaf_log2;
    bool global;
} FetchEntry;

/* The PMP entries, and the stretch of addresses that was looked up last; first > last: none. */
typedef struct Pmp {
    PmpState state;
    u64 first, last;
    u8 perms_m, perms_su;
} Pmp;

struct Mmu {
    CpuState *cpu;
    Bus *bus;
    TranslationRegime regime;
    Pmp pmp;
    u64 va_mask; /* the bits that an address has */
    View *view;  /* current */

    /* Since the last mmu_safepoint() this hart may have written to pages for which it has no write
     * entry now. */
    bool wrote_unlisted;

    u64 use_count;
    View *last_user_view; /* the one in which the hart was in U mode last */
    u8 *reservation; /* the tables of all views */
    u32 *page_nodes; /* by bus_region_page(): first node of the physical page */
    Node *node;      /* by number; 0 is not used */
    u32 node_count, node_capacity;
    u32 free_node;     /* chained by view_next */
    u32 touched_pages; /* sum over all views */

    FetchEntry fetch[FETCH_CACHE];
    View views[VIEW_COUNT];
};

/* ---- pmp.c ---- */

/* The PMP_* permissions of `priv` for all of [pa, pa + size). *partial: the entry that decides
 * covers only a part of it (then the answer is 0: such an access fails). */
u8 pmp_look_up(Pmp *pmp, u64 pa, u64 size, u8 priv, bool *partial);
static inline u8 pmp_permissions(Pmp *pmp, u64 pa, u64 size, u8 priv, bool *partial)
{
    if (likely(pmp->first <= pa && pa + (size - 1) <= pmp->last)) {
        *partial = false;
        return priv == PRIV_M ? pmp->perms_m : pmp->perms_su;
    }
    return pmp_look_up(pmp, pa, size, priv, partial);
}
static inline bool pmp_allows(Pmp *pmp, u64 pa, u64 size, u8 priv, u8 need)
{
    bool partial;
    return (pmp_permissions(pmp, pa, size, priv, &partial) & need) == need;
}
bool pmp_equal(const PmpState *a, const PmpState *b);

/* ---- walk.c ---- */

/* Translates va for an access in `priv` under mmu->regime; updates A and D where the regime has the
 * hardware do it. The physical address itself is not checked against PMP or bus. */
WalkResult mmu_walk(Mmu *mmu, u64 va, Access access, u8 priv, Translation *t);
/* The same without permissions, PMP, updates or log. */
bool mmu_peek(Mmu *mmu, u64 va, u8 priv, u64 *pa);

/* ---- view.c ---- */

bool views_reserve(Mmu *mmu, GError **err);
void views_release(Mmu *mmu);

/* The view that fits mmu->regime, made to hold its address space and nothing else. */
View *view_select(Mmu *mmu);

/* Remembers that the page of va, translated by t, is page `page` of memory at `host`: for reading,
 * and if `write`, for writing. False: there can be no entry. */
bool view_fill_data(Mmu *mmu, View *v, u64 va, u32 page, u8 *host, const Translation *t,
                    bool write);
void view_fill_exec(Mmu *mmu, View *v, const FetchEntry *f, u64 entry);
/* Removes entries of kind NODE_* for a page of va. */
void view_clear(Mmu *mmu, View *v, u64 va, u8 kind);

/* Whether entries for va may be in the view's tables. */
bool view_can_hold(const View *v, u64 va);

/* Drops mappings: all of the view, or those whose leaf holds va. */
void view_flush(Mmu *mmu, View *v, bool keep_global);
void view_flush_address(Mmu *mmu, View *v, u64 va, bool keep_global);

/* Removes all entries of kind NODE_* to a physical page (true if there were any), or at all. */
bool views_clear_page(Mmu *mmu, u32 page, u8 kind);
void views_clear_all(Mmu *mmu, u8 kind);

#endif
