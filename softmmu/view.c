/*
 * The tables of a hart's views: which view a regime runs in, what is entered, and what is dropped.
 *
 * The three flat tables of a view (view.h) say nothing of where an entry came from. That is in a
 * node, one for each page that has entries: its physical page, the size of the leaf it was
 * translated by and whether that was global. A fourth array leads from the table index to the
 * node's number. Each node is on two lists: that of its view (one for global mappings, one for
 * others), so that a flush costs as much as there are entries, and that of its physical page, so
 * that a page's write or execute entries are found when it becomes code or is written.
 *
 * A fence by address has to drop every page that came from the leaf that maps the address. For a
 * leaf of one page that is one node. Larger leaves are counted by GiB of the view, and only where
 * there are any the 1024 nodes around the address (any leaf up to Sv32's 4 MiB lies within them) or
 * the view's list are searched.
 *
 * All of this is memory that a hostile guest can make us touch, a host page for each entry if it
 * scatters them, so touched pages are counted and all views emptied when they pass a bound.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/error.h"
#include "softmmu/internal.h"

#define NODES_BYTES (VIEW_ENTRIES * sizeof(u32))
#define STRIDE (3 * VIEW_TABLE_BYTES + NODES_BYTES)
#define PAGE_NODES_BYTES ((GUEST_MEMORY_MAX >> VIEW_PAGE_SHIFT) * sizeof(u32))

enum {
    HOST_PAGE = 4096,
    NODES_PER_HOST_PAGE = HOST_PAGE / sizeof(u32),
    TOUCHED_MAX = 49152,   /* host pages in the tables of a hart: 192 MiB */
    RECYCLED_KEEPS = 1024, /* host pages that a user view passes on to the next address space */
    NODE_FIRST = 1 << 10,  /* capacity for nodes, which doubles up to the maximum */
    NODE_MAX = 1 << 20,
    HUGE_LEAF_LOG2 = 11, /* leaves from here on are looked for in the whole view */
    AT_ONCE = 32,
};

/* ---- Reservation ---- */

bool views_reserve(Mmu *mmu, GError **err)
{
    u64 size = VIEW_COUNT * STRIDE + PAGE_NODES_BYTES;
    u8 *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    if (p == MAP_FAILED) {
        return stag_error(
            err,
            "each hart needs %u GiB of address space for its translation tables, "
            "of which it uses little, but the host says: %s (a limit such as 'ulimit -v' "
            "or vm.overcommit_memory=2 forbids it)",
            (unsigned)((size >> 30) + 1), strerror(errno));
    }
    /* A huge page under a table would stand for a GiB of guest addresses, and most of it stay
     * empty. */
    madvise(p, size, MADV_NOHUGEPAGE);
    mmu->reservation = p;
    mmu->page_nodes = (u32 *)(p + VIEW_COUNT * STRIDE);
    for (unsigned i = 0; i < VIEW_COUNT; i++) {
        mmu->views[i].read_table = p + i * STRIDE - VIEW_EXEC_OFFSET;
        mmu->views[i].nodes = (u32 *)(p + i * STRIDE + 3 * VIEW_TABLE_BYTES);
    }
    mmu->node_count = 1;
    mmu->node_capacity = NODE_FIRST;
    mmu->node = g_new(Node, NODE_FIRST);
    return true;
}

void views_release(Mmu *mmu)
{
    munmap(mmu->reservation, VIEW_COUNT * STRIDE + PAGE_NODES_BYTES);
    g_free(mmu->node);
}

static u64 *touched_word(View *v, unsigned table, u64 index, u64 *bit)
{
    u64 page = index / (table == TABLE_NODES ? NODES_PER_HOST_PAGE : HOST_PAGE / sizeof(u64));
    *bit = (u64)1 << page % 64;
    return &v->touched[table][page / 64];
}

static void touch(Mmu *mmu, View *v, unsigned table, u64 index)
{
    u64 bit, *word = touched_word(v, table, index, &bit);
    if (!(*word & bit)) {
        *word |= bit;
        v->touched_pages++;
        mmu->touched_pages++;
    }
}

static bool is_touched(View *v, unsigned table, u64 index)
{
    u64 bit;
    return (*touched_word(v, table, index, &bit) & bit) != 0;
}

/* Gives the host pages of an empty view back. */
static void give_back(Mmu *mmu, View *v)
{
    madvise(v->read_table + VIEW_EXEC_OFFSET, STRIDE, MADV_DONTNEED);
    memset(v->touched, 0, sizeof(v->touched));
    mmu->touched_pages -= v->touched_pages;
    v->touched_pages = 0;
}

/* ---- Nodes ---- */

static View *node_view(Mmu *mmu, const Node *d)
{
    return &mmu->views[d->key >> VIEW_INDEX_BITS];
}

static u32 node_index(const Node *d)
{
    return d->key & (VIEW_ENTRIES - 1);
}

static u32 *leaf_counter(View *v, const Node *d)
{
    return (d->leaf_log2 < HUGE_LEAF_LOG2 ? v->big_leaves : v->huge_leaves) + (node_index(d) >> 18);
}

static u64 *node_entry(View *v, const Node *d, s64 offset)
{
    return (u64 *)(v->read_table + offset) + node_index(d);
}

static void clear_entries(View *v, Node *d, u8 kinds)
{
    kinds &= d->flags;
    if (kinds & NODE_READ) {
        *node_entry(v, d, VIEW_READ_OFFSET) = 0;
    }
    if (kinds & NODE_WRITE) {
        *node_entry(v, d, VIEW_WRITE_OFFSET) = 0;
    }
    if (kinds & NODE_EXEC) {
        *node_entry(v, d, VIEW_EXEC_OFFSET) = 0;
    }
    d->flags &= (u8)~kinds;
}

static void drop_node(Mmu *mmu, u32 n)
{
    Node *d = &mmu->node[n];
    View *v = node_view(mmu, d);
    if (d->flags & NODE_WRITE) {
        mmu->wrote_unlisted = true;
    }
    clear_entries(v, d, NODE_READ | NODE_WRITE | NODE_EXEC);
    v->nodes[node_index(d)] = 0;
    if (d->leaf_log2 > 0) {
        --*leaf_counter(v, d);
    }
    if (d->view_prev) {
        mmu->node[d->view_prev].view_next = d->view_next;
    } else {
        v->list[(d->flags & NODE_GLOBAL) != 0] = d->view_next;
    }
    if (d->view_next) {
        mmu->node[d->view_next].view_prev = d->view_prev;
    }
    if (d->page_prev) {
        mmu->node[d->page_prev].page_next = d->page_next;
    } else {
        mmu->page_nodes[d->page] = d->page_next;
    }
    if (d->page_next) {
        mmu->node[d->page_next].page_prev = d->page_prev;
    }
    d->view_next = mmu->free_node;
    mmu->free_node = n;
}

/* Clears entries and drops the node if that leaves it without any. */
static void clear_or_drop(Mmu *mmu, u32 n, u8 kinds)
{
    Node *d = &mmu->node[n];
    if (d->flags & kinds) {
        clear_entries(node_view(mmu, d), d, kinds);
        if (!(d->flags & (NODE_READ | NODE_WRITE | NODE_EXEC))) {
            drop_node(mmu, n);
        }
    }
}

/* Sees to it that a node and a few table pages can be had. */
static void make_room(Mmu *mmu)
{
    if (!mmu->free_node && mmu->node_count == mmu->node_capacity && mmu->node_capacity < NODE_MAX) {
        mmu->node_capacity *= 2;
        mmu->node = g_renew(Node, mmu->node, mmu->node_capacity);
    }
    if ((mmu->free_node || mmu->node_count < mmu->node_capacity) &&
        mmu->touched_pages < TOUCHED_MAX) {
        return;
    }
    log_printf(LOG_MMU, "mmu: hart %u: tables are full, all views emptied\n", mmu->cpu->index);
    for (unsigned i = 0; i < VIEW_COUNT; i++) {
        view_flush(mmu, &mmu->views[i], false);
        give_back(mmu, &mmu->views[i]);
    }
}

/* The node of va's page for this mapping; one of another mapping is dropped. */
static Node *get_node(Mmu *mmu, View *v, u64 va, u32 page, u8 leaf_log2, bool global)
{
    make_room(mmu);
    u32 index = (u32)view_index(va);
    u8 flags = global ? NODE_GLOBAL : 0;
    touch(mmu, v, TABLE_NODES, index);
    u32 n = v->nodes[index];
    if (n) {
        Node *d = &mmu->node[n];
        if (d->page == page && d->leaf_log2 == leaf_log2 && (d->flags & NODE_GLOBAL) == flags) {
            return d;
        }
        drop_node(mmu, n);
    }
    if (mmu->free_node) {
        n = mmu->free_node;
        mmu->free_node = mmu->node[n].view_next;
    } else {
        n = mmu->node_count++;
    }
    Node *d = &mmu->node[n];
    *d = (Node){
        .key = (u32)(v - mmu->views) << VIEW_INDEX_BITS | index,
        .page = page,
        .view_next = v->list[global],
        .page_next = mmu->page_nodes[page],
        .flags = flags,
        .leaf_log2 = leaf_log2,
    };
    if (d->view_next) {
        mmu->node[d->view_next].view_prev = n;
    }
    if (d->page_next) {
        mmu->node[d->page_next].page_prev = n;
    }
    v->list[global] = n;
    mmu->page_nodes[page] = n;
    v->nodes[index] = n;
    if (leaf_log2 > 0) {
        ++*leaf_counter(v, d);
    }
    return d;
}

/* ---- Filling ---- */

bool view_can_hold(const View *v, u64 va)
{
    return v->paged ? view_canonical(va) : va >> BARE_BITS == 0;
}

static void set_entry(Mmu *mmu, View *v, Node *d, unsigned table, s64 offset, u8 kind, u64 entry)
{
    if (entry) { /* one that comes out as 0 cannot be told from none */
        touch(mmu, v, table, node_index(d));
        *node_entry(v, d, offset) = entry;
        d->flags |= kind;
    }
}

bool view_fill_data(Mmu *mmu, View *v, u64 va, u32 page, u8 *host, const Translation *t,
                    bool write)
{
    if (!view_can_hold(v, va)) {
        return false;
    }
    u64 addend = (u64)(uintptr_t)host - ALIGN_DOWN(va, VIEW_PAGE_SIZE);
    if (addend == 0) {
        return false;
    }
    Node *d = get_node(mmu, v, va, page, t->leaf_log2, t->global);
    set_entry(mmu, v, d, TABLE_READ, VIEW_READ_OFFSET, NODE_READ, addend);
    if (write) {
        set_entry(mmu, v, d, TABLE_WRITE, VIEW_WRITE_OFFSET, NODE_WRITE, addend);
    }
    return true;
}

void view_fill_exec(Mmu *mmu, View *v, const FetchEntry *f, u64 entry)
{
    if (entry && view_can_hold(v, f->va)) {
        Node *d = get_node(mmu, v, f->va, f->page, f->leaf_log2, f->global);
        set_entry(mmu, v, d, TABLE_EXEC, VIEW_EXEC_OFFSET, NODE_EXEC, entry);
    }
}

/* ---- Dropping ---- */

/* The number of the node at a table index, or 0. */
static u32 node_at(View *v, u64 index)
{
    return is_touched(v, TABLE_NODES, index) ? v->nodes[index] : 0;
}

void view_clear(Mmu *mmu, View *v, u64 va, u8 kind)
{
    u32 n = view_can_hold(v, va) ? node_at(v, view_index(va)) : 0;
    if (n) {
        clear_or_drop(mmu, n, kind);
    }
}

void view_flush(Mmu *mmu, View *v, bool keep_global)
{
    v->generation++;
    while (v->list[0]) {
        drop_node(mmu, v->list[0]);
    }
    while (!keep_global && v->list[1]) {
        drop_node(mmu, v->list[1]);
    }
}

/* Drops node n (0: none) if its leaf is the one that maps `index`. */
static void drop_if_same_leaf(Mmu *mmu, u32 n, u64 index, bool keep_global)
{
    const Node *d = &mmu->node[n];
    if (n && (node_index(d) ^ index) >> d->leaf_log2 == 0 &&
        !(keep_global && d->flags & NODE_GLOBAL)) {
        drop_node(mmu, n);
    }
}

void view_flush_address(Mmu *mmu, View *v, u64 va, bool keep_global)
{
    v->generation++;
    if (!view_can_hold(v, va)) {
        return;
    }
    u64 index = view_index(va);
    drop_if_same_leaf(mmu, node_at(v, index), index, keep_global);
    if (v->big_leaves[index >> 18] && is_touched(v, TABLE_NODES, index)) {
        /* Most of the page's nodes do not exist: look at many at once. */
        u64 first = ALIGN_DOWN(index, NODES_PER_HOST_PAGE);
        for (u64 i = first; i < first + NODES_PER_HOST_PAGE; i += AT_ONCE) {
            u64 two, any = 0;
            for (u64 k = i; k < i + AT_ONCE; k += 2) {
                memcpy(&two, &v->nodes[k], sizeof(two));
                any |= two;
            }
            if (any) {
                for (u64 k = i; k < i + AT_ONCE; k++) {
                    drop_if_same_leaf(mmu, v->nodes[k], index, keep_global);
                }
            }
        }
    }
    if (v->huge_leaves[index >> 18]) {
        for (unsigned list = 0; list < 2; list++) {
            for (u32 n = v->list[list], next; n; n = next) {
                next = mmu->node[n].view_next;
                drop_if_same_leaf(mmu, n, index, keep_global);
            }
        }
    }
}

bool views_clear_page(Mmu *mmu, u32 page, u8 kind)
{
    bool any = false;
    for (u32 n = mmu->page_nodes[page], next; n; n = next) {
        next = mmu->node[n].page_next;
        any |= (mmu->node[n].flags & kind) != 0;
        clear_or_drop(mmu, n, kind);
    }
    return any;
}

void views_clear_all(Mmu *mmu, u8 kind)
{
    for (unsigned i = 0; i < VIEW_COUNT; i++) {
        for (unsigned list = 0; list < 2; list++) {
            for (u32 n = mmu->views[i].list[list], next; n; n = next) {
                next = mmu->node[n].view_next;
                clear_or_drop(mmu, n, kind);
            }
        }
    }
}

/* ---- Choosing ---- */

static bool holds_space(const View *v, const TranslationRegime *r)
{
    return v->paged && v->root == r->root && v->asid == r->asid;
}

static void set_space(View *v, const TranslationRegime *r)
{
    v->paged = true;
    v->root = r->root;
    v->asid = r->asid;
}

static View *user_view(Mmu *mmu)
{
    if (holds_space(mmu->last_user_view, &mmu->regime)) { /* back from a system call */
        return mmu->last_user_view;
    }
    View *oldest = &mmu->views[VIEW_USER];
    for (unsigned i = 0; i < USER_VIEWS; i++) {
        View *v = &mmu->views[VIEW_USER + i];
        if (holds_space(v, &mmu->regime)) {
            v->last_used = ++mmu->use_count;
            mmu->last_user_view = v;
            return v;
        }
        if (v->last_used < oldest->last_used) {
            oldest = v;
        }
    }
    view_flush(mmu, oldest, false);
    if (oldest->touched_pages > RECYCLED_KEEPS) {
        give_back(mmu, oldest);
    }
    set_space(oldest, &mmu->regime);
    oldest->last_used = ++mmu->use_count;
    mmu->last_user_view = oldest;
    return oldest;
}

static View *supervisor_view(Mmu *mmu, View *v)
{
    if (!holds_space(v, &mmu->regime)) {
        view_flush(mmu, v, true); /* global mappings are the same in all address spaces */
        set_space(v, &mmu->regime);
    }
    return v;
}

/* The scratch view's execute entries are those of the fetches of one address space. */
static View *scratch_view(Mmu *mmu)
{
    View *v = &mmu->views[VIEW_SCRATCH];
    const TranslationRegime *r = &mmu->regime;
    bool paged = r->fetch_priv != PRIV_M;
    bool same = paged ? holds_space(v, r) && v->last_used == r->fetch_priv : !v->paged;
    if (!same) {
        view_flush(mmu, v, false);
        if (paged) {
            set_space(v, r);
            v->last_used = r->fetch_priv;
        } else {
            v->paged = false;
        }
    }
    return v;
}

View *view_select(Mmu *mmu)
{
    const TranslationRegime *r = &mmu->regime;
    bool paged = r->mode != PAGING_BARE && r->fetch_priv != PRIV_M;
    if (r->data_priv != r->fetch_priv || (paged && r->mxr)) {
        return scratch_view(mmu);
    }
    if (r->fetch_priv == PRIV_M) {
        return &mmu->views[VIEW_MACHINE];
    }
    if (!paged) {
        return &mmu->views[VIEW_BARE];
    }
    if (r->fetch_priv == PRIV_U) {
        return user_view(mmu);
    }
    return supervisor_view(mmu, &mmu->views[r->sum ? VIEW_SUPERVISOR_SUM : VIEW_SUPERVISOR]);
}
