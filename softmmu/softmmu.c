/*
 * The accesses of a hart. Each of them looks in the current view's tables first; a miss walks the
 * page tables, asks PMP and the bus, remembers the result if it holds for the whole page, and goes
 * on with the host address. What has no entry (MMIO, pages that PMP cuts, pages with code when they
 * are written, everything in the scratch view) comes this way each time.
 *
 * An entry means: under the view's rules, any access of its kind to any byte of the page goes to
 * the host memory it leads to, without side effect. So a read entry needs a readable page of memory
 * and PMP read permission for all of it, and a write entry needs in addition D set, PMP write
 * permission and no translated code in the page. (A page that PMP allows to be written but not
 * read has neither.)
 */
#include "softmmu/softmmu.h"

#include <string.h>

#include "softmmu/internal.h"

#define PAGE_MASK (VIEW_PAGE_SIZE - 1)

/* ---- Making, regime, PMP ---- */

Mmu *mmu_new(CpuState *cpu, Bus *bus, GError **err)
{
    Mmu *mmu = g_new0(Mmu, 1);
    if (!views_reserve(mmu, err)) {
        g_free(mmu);
        return NULL;
    }
    mmu->cpu = cpu;
    mmu->bus = bus;
    mmu->va_mask = ~(u64)0;
    mmu->regime = (TranslationRegime){.fetch_priv = PRIV_M, .data_priv = PRIV_M};
    mmu->last_user_view = &mmu->views[VIEW_USER];
    mmu->pmp.first = 1; /* nothing has been looked up */
    mmu->pmp.state.default_m = mmu->pmp.state.default_su = PMP_R | PMP_W | PMP_X;
    mmu->view = view_select(mmu);
    cpu->mmu = mmu;
    cpu->view = mmu->view->read_table;
    return mmu;
}

void mmu_free(Mmu *mmu)
{
    if (mmu) {
        views_release(mmu);
        mmu->cpu->mmu = NULL;
        mmu->cpu->view = NULL;
        g_free(mmu);
    }
}

static void flush_all(Mmu *mmu)
{
    for (unsigned i = 0; i < VIEW_COUNT; i++) {
        view_flush(mmu, &mmu->views[i], false);
    }
}

void mmu_flush_all(CpuState *cpu)
{
    log_printf(LOG_MMU, "mmu: hart %u: flush of all views\n", cpu->index);
    flush_all(cpu->mmu);
}

void mmu_set_regime(CpuState *cpu, const TranslationRegime *regime)
{
    Mmu *mmu = cpu->mmu;
    TranslationRegime *now = &mmu->regime;
    if (regime_equal(now, regime)) {
        return;
    }
    /* These change what a PTE means. (adue does not: entries are only made where A and D need no
     * update.) */
    if (now->pbmte != regime->pbmte || now->napot != regime->napot || now->rv32 != regime->rv32) {
        mmu_flush_all(cpu);
    }
    *now = *regime;
    mmu->va_mask = mask64(regime->rv32 ? 32 : 64);
    mmu->view = view_select(mmu);
    cpu->view = mmu->view->read_table;
}

void mmu_set_mode(CpuState *cpu, u8 fetch_priv, u8 data_priv, bool sum, bool mxr)
{
    Mmu *mmu = cpu->mmu;
    mmu->regime.fetch_priv = fetch_priv;
    mmu->regime.data_priv = data_priv;
    mmu->regime.sum = sum;
    mmu->regime.mxr = mxr;
    mmu->view = view_select(mmu);
    cpu->view = mmu->view->read_table;
}

void mmu_set_pmp(CpuState *cpu, const PmpState *pmp)
{
    Mmu *mmu = cpu->mmu;
    g_assert(pmp->count <= ARRAY_LEN(pmp->range));
    if (!pmp_equal(&mmu->pmp.state, pmp)) {
        log_printf(LOG_MMU, "mmu: hart %u: flush of all views: PMP changed\n", cpu->index);
        mmu->pmp = (Pmp){.state = *pmp, .first = 1};
        flush_all(mmu);
    }
}

void mmu_fence(CpuState *cpu, const u64 *va, const u16 *asid)
{
    Mmu *mmu = cpu->mmu;
    if (log_on(LOG_MMU)) {
        g_autofree char *where =
            va ? g_strdup_printf("0x%" G_GINT64_MODIFIER "x", *va) : g_strdup("all addresses");
        g_autofree char *space = asid ? g_strdup_printf("%u", *asid) : g_strdup("all");
        log_write("mmu: hart %u: fence for %s, ASID %s\n", cpu->index, where, space);
    }
    for (unsigned i = 0; i < VIEW_COUNT; i++) {
        View *v = &mmu->views[i];
        if (!v->paged || (asid && v->asid != *asid)) {
            continue;
        }
        if (va) {
            view_flush_address(mmu, v, *va & mmu->va_mask, asid != NULL);
        } else {
            view_flush(mmu, v, asid != NULL);
        }
    }
}

/* ---- Resolving an address ---- */

static u64 fault_cause(WalkResult why, Access access)
{
    static const u8 causes[][3] = {
        [WALK_PAGE_FAULT] = {[ACCESS_FETCH] = 12, [ACCESS_LOAD] = 13, [ACCESS_STORE] = 15},
        [WALK_ACCESS_FAULT] = {[ACCESS_FETCH] = 1, [ACCESS_LOAD] = 5, [ACCESS_STORE] = 7},
    };
    return causes[why][access];
}

/* Where an access goes. */
typedef struct Target {
    u64 pa;
    BusRegion *memory; /* NULL: MMIO or nothing */
    u8 *host;          /* of pa, if memory */
} Target;

/* Notes that this hart writes to pa's page, by an entry or without. The translator marks a page as
 * code first and then asks for its writers; here the mark is read after this. So one of the two
 * sees what the other did: either there will be no entry, or the hart is asked to drop it, and
 * counts as one that may write until it has (core/exec/exec.c). */
static void become_writer(const Mmu *mmu, const BusRegion *m, u64 pa)
{
    _Atomic u32 *writers = bus_region_writers(m, pa);
    const u32 bit = (u32)1 << mmu->cpu->index % BUS_MAX_HARTS;
    if (!(atomic_load(writers) & bit)) {
        atomic_fetch_or(writers, bit);
    }
}

/* Translates `len` bytes at va, all in one page, for data accesses; reports a store to a page with
 * code; fills the tables. */
static WalkResult resolve(Mmu *mmu, u64 va, u64 len, Access access, u8 pmp_need, Target *out)
{
    u8 priv = mmu->regime.data_priv;
    Translation t;
    WalkResult result = mmu_walk(mmu, va, access, priv, &t);
    if (result != WALK_OK) {
        return result;
    }
    if (!pmp_allows(&mmu->pmp, t.pa, len, priv, pmp_need)) {
        log_printf(LOG_MMU,
                   "mmu: hart %u: PMP denies access to physical 0x%" G_GINT64_MODIFIER "x\n",
                   mmu->cpu->index, t.pa);
        return WALK_ACCESS_FAULT;
    }
    BusRegion *m = bus_memory_at(mmu->bus, t.pa);
    *out = (Target){.pa = t.pa, .memory = m};
    if (!m) {
        return WALK_OK;
    }
    out->host = bus_region_host(m, t.pa);
    bool listed = false;
    if (access == ACCESS_STORE) {
        if (m->r.kind != REGION_RAM) {
            return WALK_ACCESS_FAULT;
        }
        become_writer(mmu, m, t.pa);
        bus_report_write(mmu->bus, m, t.pa);
    }
    if (mmu->view != &mmu->views[VIEW_SCRATCH]) {
        bool partial;
        u8 pmp = pmp_permissions(&mmu->pmp, ALIGN_DOWN(t.pa, VIEW_PAGE_SIZE), VIEW_PAGE_SIZE, priv,
                                 &partial);
        bool read = t.readable && (pmp & PMP_R);
        bool write = read && t.writable && (pmp & PMP_W) && m->r.kind == REGION_RAM;
        if (write) {
            become_writer(mmu, m, t.pa);
            write = !bus_region_is_code(m, t.pa);
        }
        if (read) {
            listed = view_fill_data(mmu, mmu->view, va, bus_region_page(m, t.pa),
                                    out->host - (va & PAGE_MASK), &t, write) && write;
        }
    }
    if (access == ACCESS_STORE && !listed) {
        mmu->wrote_unlisted = true;
    }
    return WALK_OK;
}

/* The host address of va by a table of the current view, or NULL. */
static inline u8 *table_hit(Mmu *mmu, s64 offset, u64 va)
{
    if (!view_canonical(va)) {
        return NULL;
    }
    u64 entry = *view_entry(mmu->view->read_table, offset, va);
    return entry ? (u8 *)(uintptr_t)(va + entry) : NULL;
}

static bool resolve_or_trap(CpuState *cpu, u64 va, u64 len, Access access, u8 pmp_need, Target *out)
{
    WalkResult result = resolve(cpu->mmu, va, len, access, pmp_need, out);
    return result == WALK_OK || cpu_trap(cpu, fault_cause(result, access), va);
}

/* ---- Loads and stores ---- */

/* An access to two pages, `first` bytes in the one that va is in. Both are resolved before anything
 * is copied. They have to be memory: a device cannot be asked whether it would take its part. */
static bool resolve_two(CpuState *cpu, u64 va, unsigned size, Access access, u8 *host[2],
                        unsigned *first)
{
    u8 need = access == ACCESS_STORE ? PMP_W : PMP_R;
    s64 table = access == ACCESS_STORE ? VIEW_WRITE_OFFSET : VIEW_READ_OFFSET;
    u64 at[2] = {va, ALIGN_DOWN(va + VIEW_PAGE_SIZE, VIEW_PAGE_SIZE) & cpu->mmu->va_mask};
    *first = (unsigned)(VIEW_PAGE_SIZE - (va & PAGE_MASK));
    for (unsigned i = 0; i < 2; i++) {
        Target t;
        host[i] = table_hit(cpu->mmu, table, at[i]);
        if (host[i]) {
            continue;
        }
        if (!resolve_or_trap(cpu, at[i], i ? size - *first : *first, access, need, &t)) {
            return false;
        }
        if (!t.memory) {
            return cpu_trap(cpu, fault_cause(WALK_ACCESS_FAULT, access), at[i]);
        }
        host[i] = t.host;
    }
    return true;
}

static bool crosses_page(u64 va, unsigned size)
{
    return (va & PAGE_MASK) + size > VIEW_PAGE_SIZE;
}

bool mmu_load(CpuState *cpu, u64 va, unsigned size_log2, u64 *value)
{
    Mmu *mmu = cpu->mmu;
    unsigned size = 1u << size_log2;
    va &= mmu->va_mask;
    if (unlikely(crosses_page(va, size))) {
        u8 *host[2];
        unsigned first;
        if (!resolve_two(cpu, va, size, ACCESS_LOAD, host, &first)) {
            return false;
        }
        *value = 0;
        memcpy(value, host[0], first);
        memcpy((u8 *)value + first, host[1], size - first);
        return true;
    }
    u8 *host = table_hit(mmu, VIEW_READ_OFFSET, va);
    if (!host) {
        Target t;
        if (!resolve_or_trap(cpu, va, size, ACCESS_LOAD, PMP_R, &t)) {
            return false;
        }
        if (!t.memory) {
            return bus_read(mmu->bus, t.pa, size, value) ||
                   cpu_trap(cpu, fault_cause(WALK_ACCESS_FAULT, ACCESS_LOAD), va);
        }
        host = t.host;
    }
    *value = host_load(host, size);
    return true;
}

bool mmu_prepare(CpuState *cpu, u64 va, unsigned size_log2, bool store, bool *ready)
{
    const unsigned size = 1u << size_log2;
    Target t;
    va &= cpu->mmu->va_mask;
    *ready = false;
    if (crosses_page(va, size)) {
        return true;
    }
    if (!resolve_or_trap(cpu, va, size, store ? ACCESS_STORE : ACCESS_LOAD, store ? PMP_W : PMP_R,
                         &t)) {
        return false;
    }
    *ready = table_hit(cpu->mmu, store ? VIEW_WRITE_OFFSET : VIEW_READ_OFFSET, va);
    return true;
}

bool mmu_store(CpuState *cpu, u64 va, unsigned size_log2, u64 value)
{
    Mmu *mmu = cpu->mmu;
    unsigned size = 1u << size_log2;
    va &= mmu->va_mask;
    if (unlikely(crosses_page(va, size))) {
        u8 *host[2];
        unsigned first;
        if (!resolve_two(cpu, va, size, ACCESS_STORE, host, &first)) {
            return false;
        }
        memcpy(host[0], &value, first);
        memcpy(host[1], (u8 *)&value + first, size - first);
        return true;
    }
    u8 *host = table_hit(mmu, VIEW_WRITE_OFFSET, va);
    if (!host) {
        Target t;
        if (!resolve_or_trap(cpu, va, size, ACCESS_STORE, PMP_W, &t)) {
            return false;
        }
        if (!t.memory) {
            return bus_write(mmu->bus, t.pa, size, value) ||
                   cpu_trap(cpu, fault_cause(WALK_ACCESS_FAULT, ACCESS_STORE), va);
        }
        host = t.host;
    }
    host_store(host, size, value);
    return true;
}

/* ---- Atomics and cache blocks ---- */

static bool atomic_host(CpuState *cpu, u64 va, unsigned size_log2, Access access, void **host)
{
    enum { LOAD_MISALIGNED = 4, STORE_MISALIGNED = 6 };
    Mmu *mmu = cpu->mmu;
    bool store = access == ACCESS_STORE;
    va &= mmu->va_mask;
    if (va & mask64(size_log2)) {
        return cpu_trap(cpu, store ? STORE_MISALIGNED : LOAD_MISALIGNED, va);
    }
    *host = table_hit(mmu, store ? VIEW_WRITE_OFFSET : VIEW_READ_OFFSET, va);
    if (!*host) {
        Target t;
        u8 need = store ? PMP_R | PMP_W : PMP_R;
        if (!resolve_or_trap(cpu, va, (u64)1 << size_log2, access, need, &t)) {
            return false;
        }
        if (!t.memory) {
            return cpu_trap(cpu, fault_cause(WALK_ACCESS_FAULT, access), va);
        }
        *host = t.host;
    }
    return true;
}

bool mmu_amo_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    return atomic_host(cpu, va, size_log2, ACCESS_STORE, host);
}

bool mmu_lr_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    return atomic_host(cpu, va, size_log2, ACCESS_LOAD, host);
}

bool mmu_cbo(CpuState *cpu, u64 va, unsigned size, bool zero)
{
    Mmu *mmu = cpu->mmu;
    g_assert(is_pow2(size) && size <= VIEW_PAGE_SIZE);
    va &= mmu->va_mask;
    u64 block = ALIGN_DOWN(va, size);
    u8 *host = table_hit(mmu, zero ? VIEW_WRITE_OFFSET : VIEW_READ_OFFSET, block);
    if (host) {
        if (zero) {
            memset(host, 0, size);
        }
        return true;
    }
    Target t;
    WalkResult result;
    if (zero) {
        result = resolve(mmu, block, size, ACCESS_STORE, PMP_W, &t);
        if (result == WALK_OK && !t.memory) {
            result = WALK_ACCESS_FAULT;
        }
    } else {
        /* Load or store permission. PTEs that allow stores allow loads, PMP entries need not. */
        result = resolve(mmu, block, size, ACCESS_LOAD, PMP_R, &t);
        if (result == WALK_ACCESS_FAULT) {
            result = resolve(mmu, block, size, ACCESS_LOAD, PMP_W, &t);
        }
        if (result == WALK_OK && !bus_find(mmu->bus, t.pa)) {
            result = WALK_ACCESS_FAULT;
        }
    }
    if (result != WALK_OK) {
        return cpu_trap(cpu, fault_cause(result, ACCESS_STORE), va);
    }
    if (zero) {
        memset(t.host, 0, size);
    }
    return true;
}

bool mmu_zero(CpuState *cpu, u64 va)
{
    return mmu_cbo(cpu, va, 64, true);
}

/* ---- Fetches and execute entries ---- */

static FetchEntry *fetch_slot(Mmu *mmu, u64 va)
{
    u64 view = (u64)(mmu->view - mmu->views);
    return &mmu->fetch[((va >> VIEW_PAGE_SHIFT) ^ (view * 29)) % FETCH_CACHE];
}

static bool fetch_hit(const Mmu *mmu, const FetchEntry *f, u64 va)
{
    return f->view == mmu->view && f->generation == mmu->view->generation &&
           f->va == ALIGN_DOWN(va, VIEW_PAGE_SIZE);
}

/* Translates va for execution of `len` bytes in its page. The result is in the fetch cache
 * afterwards, unless it is `limited`. */
static WalkResult fetch(Mmu *mmu, u64 va, u64 len, MmuFetch *out)
{
    u8 priv = mmu->regime.fetch_priv;
    FetchEntry *f = fetch_slot(mmu, va);
    if (fetch_hit(mmu, f, va)) {
        *out = (MmuFetch){.page_pa = f->pa, .host = f->host};
        return WALK_OK;
    }
    Translation t;
    WalkResult result = mmu_walk(mmu, va, ACCESS_FETCH, priv, &t);
    if (result != WALK_OK) {
        return result;
    }
    BusRegion *m = bus_memory_at(mmu->bus, t.pa);
    if (!m || !pmp_allows(&mmu->pmp, t.pa, len, priv, PMP_X)) {
        log_printf(LOG_MMU,
                   "mmu: hart %u: physical 0x%" G_GINT64_MODIFIER "x is not executable: %s\n",
                   mmu->cpu->index, t.pa, m ? "PMP" : "no memory");
        return WALK_ACCESS_FAULT;
    }
    u64 page_pa = ALIGN_DOWN(t.pa, VIEW_PAGE_SIZE);
    *out = (MmuFetch){.page_pa = page_pa, .host = bus_region_host(m, page_pa)};
    pmp_permissions(&mmu->pmp, page_pa, VIEW_PAGE_SIZE, priv, &out->limited);
    if (!out->limited) {
        *f = (FetchEntry){
            .view = mmu->view,
            .generation = mmu->view->generation,
            .va = ALIGN_DOWN(va, VIEW_PAGE_SIZE),
            .pa = page_pa,
            .host = out->host,
            .page = bus_region_page(m, page_pa),
            .leaf_log2 = t.leaf_log2,
            .global = t.global,
        };
    }
    return WALK_OK;
}

bool mmu_fetch(CpuState *cpu, u64 va, unsigned size, MmuFetch *out)
{
    va &= cpu->mmu->va_mask;
    WalkResult result = fetch(cpu->mmu, va, MIN(size, VIEW_PAGE_SIZE - (va & PAGE_MASK)), out);
    return result == WALK_OK || cpu_trap(cpu, fault_cause(result, ACCESS_FETCH), va);
}

void mmu_set_exec_entry(CpuState *cpu, u64 va, u64 page_pa, const void *desc)
{
    Mmu *mmu = cpu->mmu;
    MmuFetch found;
    va &= mmu->va_mask;
    if (!desc) {
        view_clear(mmu, mmu->view, va, NODE_EXEC);
        return;
    }
    /* Normally in the fetch cache, for the caller has just fetched from there. */
    va = ALIGN_DOWN(va, VIEW_PAGE_SIZE);
    if (fetch(mmu, va, VIEW_PAGE_SIZE, &found) == WALK_OK && !found.limited &&
        found.page_pa == page_pa) {
        view_fill_exec(mmu, mmu->view, fetch_slot(mmu, va), (u64)(uintptr_t)desc - 2 * va);
    }
}

/* ---- Entries of a physical page ---- */

static bool drop_page_entries(Mmu *mmu, u64 page_pa, u8 kind)
{
    BusRegion *m = bus_memory_at(mmu->bus, page_pa);
    return m && views_clear_page(mmu, bus_region_page(m, page_pa), kind);
}

void mmu_drop_exec_entries(CpuState *cpu, u64 page_pa)
{
    drop_page_entries(cpu->mmu, page_pa, NODE_EXEC);
}

bool mmu_drop_write_entries(CpuState *cpu, u64 page_pa)
{
    return drop_page_entries(cpu->mmu, page_pa, NODE_WRITE) || cpu->mmu->wrote_unlisted;
}

void mmu_safepoint(CpuState *cpu)
{
    cpu->mmu->wrote_unlisted = false;
}

void mmu_drop_all_exec_entries(CpuState *cpu)
{
    views_clear_all(cpu->mmu, NODE_EXEC);
}

/* ---- For debuggers ---- */

bool mmu_debug_translate(CpuState *cpu, u64 va, u64 *pa)
{
    Mmu *mmu = cpu->mmu;
    return mmu_peek(mmu, va & mmu->va_mask, mmu->regime.fetch_priv, pa);
}

bool mmu_debug_read(CpuState *cpu, u64 va, void *buf, u64 len)
{
    u8 *to = buf;
    while (len > 0) {
        u64 pa, n = MIN(len, VIEW_PAGE_SIZE - (va & PAGE_MASK));
        BusRegion *m = mmu_debug_translate(cpu, va, &pa) ? bus_memory_at(cpu->mmu->bus, pa) : NULL;
        if (!m) {
            return false;
        }
        memcpy(to, bus_region_host(m, pa), n);
        va += n;
        to += n;
        len -= n;
    }
    return true;
}
