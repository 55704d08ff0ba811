/*
 * Find, translate, compile, run, link, forget: the loop at the heart of Stag.
 *
 * Guest code is kept by physical page. A CodePage holds, for each halfword of the page, the address
 * of the host code for the instruction there; the execute tables of the softmmu lead from virtual
 * pages to these. Generated code finds its way from block to block by itself; what is here runs
 * when it does not: a page without an execute entry, an instruction without a block, a jump to
 * link, a trap.
 *
 * Stores to code. The page of a block is a "code page" of the bus: it has no write entries, so the
 * first store to it comes to page_written(), which removes the page's execute entries and lets
 * stores through again. From then on nothing can enter the page without coming through
 * enter_page(), which compares every block with the bytes that are there now, drops those that
 * differ, and protects the page again. A page that is written and entered in quick alternation
 * (code and data in one page) is left writable until the next FENCE.I, the next return from a trap
 * handler (a kernel without FENCE.I copies one program after the other into the same frames), or
 * the next time it is entered through here.
 *
 * A block's code is in two parts: the hot part, and apart from it what seldom runs, so that the hot
 * parts of all blocks are close together.
 *
 * The code cache is a ring of regions. When it is full the oldest region's blocks are
 * forgotten: links into them are undone, entry points cleared.
 *
 * Several harts (docs/design/threads.md). What is known about code is changed under one lock, while
 * harts run generated code. So whatever one of them may still be looking at, the code of a region
 * and the entries of a page, is taken out of everybody's reach first and used again only when all
 * harts have passed a safepoint since: a moment at which they are outside generated code and know
 * no address of it. `epoch` counts what was taken out; at a safepoint a hart notes how far it is.
 * With several harts a region is emptied one ahead of need, so that nobody has to wait; who has to,
 * is at a safepoint itself and holds no lock.
 *
 * A hart's tables belong to its thread. What has to go from them is put on the hart's list, and
 * gone through at its next safepoint. Until then it may write to a page unnoticed that others have
 * translated from: it is `late`, and while anybody is, FENCE.I has the pages on its list compared
 * again.
 */
#include "core/exec/exec.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/opt/opt.h"

typedef struct Block Block;
typedef struct CodePage CodePage;

/* An outgoing direct jump of a block, and its place among the jumps that lead to `to`. */
typedef struct Link {
    CodeLink code;
    u32 undone; /* when a jump to another page was unlinked last: the epoch's low half; 0: never */
    Block *to;  /* NULL while unlinked */
    struct Link *next, **prev;
} Link;

/* What is known about a block. Records are written once for each block and seldom read, and the
 * host's price for new memory is high: they are kept small. */
struct Block {
    u32 start, size, tables;
    u32 cold, cold_size;
    u16 offset, bytes; /* of the guest code: in `page`, and on in the next page if it straddles */
    CodePage *page;
    Block *next, **prev; /* of the blocks of `page`; prev is NULL when the block has been dropped */
    Link *incoming;
    u64 hash; /* of the guest bytes */
    u16 link_count;
    bool ungrouped; /* IrBlock.ungrouped: only jumps that are linked to it lead here */
    bool straddles; /* a Tail stands in front of this record */
    Link links[];
};

/* The part of a straddling block that is in the second page. */
typedef struct Tail {
    CodePage *page;
    struct Tail *next, **prev; /* of the tails of `page` */
} Tail;

struct CodePage {
    CodePageEntries *entries; /* NULL: this record is free */
    u64 pa;
    const u8 *host;
    Block *blocks; /* that begin here */
    Tail *tails;   /* of those that begin in the page before and end here */
    u32 held;      /* not to be freed, even without blocks */
    bool dirty;   /* written since the blocks were last compared; has no execute entries */
    bool waits;   /* entered, but left writable: see above */
    u32 bounces;  /* how often written since bounce_start */
    u64 bounce_start; /* in instructions of all harts */
    u64 version;      /* another one whenever it becomes dirty */
    u32 entered_by;   /* harts, by bits, that may have execute entries and were not told to drop them */
    u64 retired;      /* freed: when */
    CodePage *next_retired;
};

/* A page that is written more than BOUNCE_LIMIT times in BOUNCE_WINDOW instructions waits for
 * FENCE.I or a return from a trap handler. */
enum { BOUNCE_LIMIT = 32, BOUNCE_WINDOW = 1000000 };

enum {
    MIN_REGIONS = 8,
    MAX_REGIONS = 256,
    REGION_SIZE = 8 << 20,       /* if the number of regions allows it */
    REGION_SIZE_HARTS = 1 << 20, /* with several harts */
    REGIONS_PER_HART = 4,        /* if there are that many, each hart has one for itself */
    BLOCK_ALIGN = 16,
    BLOCK_HEADER = sizeof(Block *), /* in front of a block's code: where its record is */
    MIN_BLOCK_SIZE = 32, /* smaller ones are padded: bounds the number of blocks in a region */
    MAX_RECORD = sizeof(Tail) + sizeof(Block) + CODE_MAX_LINKS * sizeof(Link),
    RECORDS_PER_CODE = 2, /* bytes for records per byte of code, at most */
    PREFAULT = 512 << 10, /* bytes, at a time and ahead of use */
    PREFAULT_HUGE = 2 << 20,
    MAX_CODE_PAGES = 32768,
    MAX_INSN_BYTES = 4,
};
#define ENTRIES_BYTES (MAX_CODE_PAGES * sizeof(CodePageEntries) + PREFAULT_HUGE)

/* Memory that is used from its start to its end, and touched by the prefaulter ahead of that. */
typedef struct Area {
    u64 start, end, used, prefaulted; /* addresses */
} Area;

typedef struct CacheRegion {
    Area code;    /* used: the start of the next block, behind its header */
    Area cold;    /* their cold parts; may be full before the code is */
    Area records; /* Blocks; may be full before the code is */
    u32 *blocks;  /* places of the records, from records.start in words of 8 bytes, in ascending
                     order of Block.start; room for all that can fit */
    _Atomic u32 block_count;
    _Atomic u64 retired; /* when it was emptied, if it may still be looked at; else 0 */
    struct ExecHart *owner; /* that alone writes there, or NULL */
} CacheRegion;

/* ExecHart.epoch of a hart that is outside generated code and will look at its list before it
 * enters. */
#define EPOCH_OUTSIDE (~(u64)0)

typedef struct ExecHart {
    CpuState *cpu;
    Exec *exec;
    _Atomic u64 epoch; /* as of its last safepoint */
    IrInsn insns[IR_MAX_INSNS];
    /* What is being translated: the bytes that the block's hash is of. */
    u8 bytes[VIEW_PAGE_SIZE], next_bytes[4];
    /* Execute or write entries that other threads want this hart to drop: page addresses. */
    GArray *drop_exec, *drop_write;
    CacheRegion *region; /* that it compiles into; NULL: none yet */
    bool late; /* was running when something was put on drop_write */
} ExecHart;

/* The hart that this thread runs. */
static __thread ExecHart *current_hart;

struct Exec {
    ExecOps ops;
    ExecConfig config;
    CodeSpace space;
    Bus *bus;
    GRecMutex lock; /* all below, and the blocks */
    CacheRegion regions[MAX_REGIONS];
    unsigned region_count;
    u64 region_size;
    unsigned current; /* the region that was taken last */
    bool own_regions; /* each hart has one */
    const CacheRegion *evicting; /* the region that is being emptied, or NULL */
    Block *last;   /* the block that was made last, or NULL */
    Block *jumped; /* ... before that: in new code the one that is likely to be linked */
    GHashTable *pages; /* page number -> CodePage */
    void *records_map; /* what the regions' records lie in, and its size */
    u64 records_size;
    CodePage *page_records; /* MAX_CODE_PAGES; the one at i has the entries at i */
    void *entries_map; /* the mapping that entries_base[] lies in */
    CodePageEntries *entries_base;
    Area entries;
    GPtrArray *pages_free;
    CodePage *pages_retired, **pages_retired_end; /* the oldest first */
    GPtrArray *waiting; /* CodePages with `waits` */
    _Atomic u32 recheck; /* its length, and how many harts are late: for a look without the lock */
    GPtrArray *harts;
    ExecHart *hart_of_index[BUS_MAX_HARTS];
    u32 hart_bits; /* of those that there are */
    GThreadPool *prefaulter;
    u32 miss;
    u64 translated, evictions, flushes; /* for exec_stats */
    u64 versions; /* of pages: given so far */

    _Atomic u64 epoch;
    /* Harts that wait for others to pass a safepoint. */
    _Atomic u32 waiters;
    GMutex wait_lock;
    GCond passed;
};

/* --- memory ----------------------------------------------------------------------------------- */

bool exec_code_space_new(u64 size, CodeSpace *space, GError **err)
{
    void *exec =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (exec == MAP_FAILED) {
        return stag_error(err,
                          "cannot get %" PRIu64 " MiB for the code cache below 2 GiB of address "
                          "space: try a smaller -tb-size",
                          size >> 20);
    }
    void *write = mremap(exec, 0, size, MREMAP_MAYMOVE);
    if (write == MAP_FAILED || mprotect(exec, size, PROT_READ | PROT_EXEC) != 0) {
        munmap(exec, size);
        return stag_error(err,
                          "this host does not allow a second, executable mapping of memory, which "
                          "the translator needs: try -accel interp");
    }
    *space = (CodeSpace){.exec = exec, .size = size, .write_delta = (u8 *)write - (u8 *)exec};
    return true;
}

void exec_code_space_free(const CodeSpace *space)
{
    munmap(space->exec + space->write_delta, space->size);
    munmap(space->exec, space->size);
}

/* The first touch of a page costs a page fault, for the code cache two of them, one for each
 * mapping: a thread takes them ahead of the harts, from `start` on. If it comes late, they are
 * taken where they happen. */
static void prefault(gpointer start, gpointer opaque)
{
#ifdef MADV_POPULATE_WRITE
    const Exec *exec = opaque;
    const u64 address = (u64)(uintptr_t)start;
    const CacheRegion *first = &exec->regions[0], *last = &exec->regions[exec->region_count - 1];
    if (address >= first->code.start && address < last->cold.end) {
        const u64 size = MIN(PREFAULT, last->cold.end - address);
        madvise(code_writable(&exec->space, address), size, MADV_POPULATE_WRITE);
        madvise(start, size, MADV_POPULATE_READ);
    } else if (address >= first->records.start && address < last->records.end) {
        madvise(start, MIN(PREFAULT, last->records.end - address), MADV_POPULATE_WRITE);
    } else {
        madvise(start, MIN(PREFAULT_HUGE, exec->entries.end - address), MADV_POPULATE_WRITE);
    }
#else
    (void)start, (void)opaque;
#endif
}

/* Sees to it that `step` bytes behind what is used of an area have been touched. */
static void area_prefault(Exec *exec, Area *area, u64 step)
{
    if (area->used + step > area->prefaulted && area->prefaulted < area->end) {
        g_thread_pool_push(exec->prefaulter, (void *)(uintptr_t)area->prefaulted, NULL);
        area->prefaulted += step;
    }
}

/* --- lists ------------------------------------------------------------------------------------ */

#define LIST_ADD(head, item)                                                                       \
    do {                                                                                           \
        (item)->next = (head);                                                                     \
        (item)->prev = &(head);                                                                    \
        if (head) {                                                                                \
            (head)->prev = &(item)->next;                                                          \
        }                                                                                          \
        (head) = (item);                                                                           \
    } while (0)

#define LIST_REMOVE(item)                                                                          \
    do {                                                                                           \
        *(item)->prev = (item)->next;                                                              \
        if ((item)->next) {                                                                        \
            (item)->next->prev = (item)->prev;                                                     \
        }                                                                                          \
        (item)->prev = NULL;                                                                       \
    } while (0)

/* --- blocks ----------------------------------------------------------------------------------- */

static Block *region_block(const CacheRegion *r, u32 i)
{
    return (Block *)(uintptr_t)(r->records.start + 8 * (u64)r->blocks[i]);
}

static bool block_holds(const Block *b, u32 address)
{
    return address - b->start < b->size || address - b->cold < b->cold_size;
}

/* The block that a code address is in, dropped ones too. */
static Block *find_block(const Exec *exec, u32 address)
{
    const u64 i = (address - exec->regions[0].code.start) / exec->region_size;
    if (i < exec->region_count) {
        const CacheRegion *r = &exec->regions[i];
        const bool cold = address >= r->cold.start;
        u32 lo = 0, hi = atomic_load(&r->block_count);
        while (lo < hi) { /* the last block that starts at or below address */
            u32 mid = (lo + hi) / 2;
            const Block *b = region_block(r, mid);
            if ((cold ? b->cold : b->start) <= address) {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        Block *b = lo ? region_block(r, lo - 1) : NULL;
        return b && block_holds(b, address) ? b : NULL;
    }
    return NULL;
}

/* The block whose code begins at `entry`. */
static Block *block_at(const Exec *exec, u32 entry)
{
    return *(Block **)code_writable(&exec->space, entry - BLOCK_HEADER);
}

static Tail *block_tail(const Block *b)
{
    return b->straddles ? (Tail *)b - 1 : NULL;
}

static Block *tail_block(const Tail *t)
{
    return (Block *)(t + 1);
}

bool exec_find_block(void *opaque, u32 address, u32 *start, u32 *tables)
{
    Block *b = find_block(opaque, address);
    if (!b) {
        return false;
    }
    *start = b->start;
    *tables = b->tables;
    return true;
}

static u32 entries_address(const CodePage *page)
{
    return (u32)(uintptr_t)page->entries;
}

/* --- safepoints ------------------------------------------------------------------------------- */

/* The epoch that harts have to reach before what has just been taken out may be used again. */
static u64 next_epoch(Exec *exec)
{
    return atomic_fetch_add(&exec->epoch, 1) + 1;
}

static bool has_passed(ExecHart *h, u64 epoch)
{
    return h == current_hart || atomic_load(&h->epoch) >= epoch;
}

/* Whether all harts have passed a safepoint since `epoch`. The one that asks is at one. */
static bool all_passed(const Exec *exec, u64 epoch)
{
    for (unsigned i = 0; i < exec->harts->len; i++) {
        if (!has_passed(exec->harts->pdata[i], epoch)) {
            return false;
        }
    }
    return true;
}

/* Has those who have not pass one soon. */
static void hurry(const Exec *exec, u64 epoch)
{
    for (unsigned i = 0; i < exec->harts->len; i++) {
        ExecHart *h = exec->harts->pdata[i];
        if (!has_passed(h, epoch)) {
            atomic_fetch_or(&h->cpu->pending, PENDING_FLUSH);
            if (h->cpu->kick) {
                h->cpu->kick(h->cpu);
            }
        }
    }
}

static void tell_waiters(Exec *exec)
{
    if (atomic_load(&exec->waiters)) {
        g_mutex_lock(&exec->wait_lock);
        g_cond_broadcast(&exec->passed);
        g_mutex_unlock(&exec->wait_lock);
    }
}

static void process_dropped(Exec *exec, ExecHart *h);

/* The hart is at a safepoint and stays there. Who asks it to drop entries either sees that it is
 * outside, where it can't write, or is seen here. */
static void stay_outside(Exec *exec, ExecHart *h)
{
    atomic_store(&h->epoch, EPOCH_OUTSIDE);
    if (atomic_load(&h->cpu->pending) & PENDING_FLUSH) {
        process_dropped(exec, h);
    }
    mmu_safepoint(h->cpu);
    tell_waiters(exec);
}

/* Waits until the others have passed a safepoint, or for a while. Without locks. */
static void wait_for_others(Exec *exec, ExecHart *h)
{
    enum { AT_MOST_US = 2000 };
    const u64 epoch = atomic_load(&exec->epoch);
    stay_outside(exec, h);
    g_mutex_lock(&exec->wait_lock);
    atomic_fetch_add(&exec->waiters, 1);
    if (!all_passed(exec, epoch)) {
        hurry(exec, epoch);
        g_cond_wait_until(&exec->passed, &exec->wait_lock, g_get_monotonic_time() + AT_MOST_US);
    }
    atomic_fetch_sub(&exec->waiters, 1);
    g_mutex_unlock(&exec->wait_lock);
}

/* --- links ------------------------------------------------------------------------------------ */

static void unlink_jump(Exec *exec, Link *link)
{
    const CacheRegion *r = exec->evicting;
    if (!r || link->code.jump < r->code.start || link->code.jump >= r->cold.end) {
        exec->ops.unlink(exec->ops.backend, &link->code);
        if (link->code.expect) {
            link->undone = MAX((u32)next_epoch(exec), 1);
        }
    } /* else nobody who is not there already will jump there */
    LIST_REMOVE(link);
    link->to = NULL;
}

/* Whether a jump may be linked. Between the comparison of pages and the jump another hart may have
 * been as long as it likes, so a jump that led to one page must not lead to another before it has
 * gone on. */
static bool may_link(const Exec *exec, const Link *link)
{
    if (!link->undone) {
        return true;
    }
    const u64 now = atomic_load(&exec->epoch);
    return all_passed(exec, now - ((u32)now - link->undone)); /* else some other time */
}

/* What other harts may be reading; what they find by it has been written before. */
static void set_entry(CodePage *page, u32 offset, u32 entry)
{
    __atomic_store_n(&page->entries->entry[offset / 2], entry, __ATOMIC_RELEASE);
}

/* Cuts a block off from everything that leads to it and that it leads to. Its code stays where it
 * is until the region is reused. */
static void drop_block(Exec *exec, Block *b)
{
    while (b->incoming) {
        unlink_jump(exec, b->incoming);
    }
    for (u32 i = 0; i < b->link_count; i++) {
        if (b->links[i].to) {
            unlink_jump(exec, &b->links[i]);
        }
    }
    if (b->page->entries->entry[b->offset / 2] == b->start) {
        set_entry(b->page, b->offset, exec->miss);
    }
    LIST_REMOVE(b);
    if (b->straddles) {
        LIST_REMOVE(block_tail(b));
    }
}

/* A 64-bit mix of the guest bytes that a block was made from. */
static u64 hash_bytes(u64 h, const u8 *p, size_t n)
{
    while (n >= 8) {
        u64 w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
        p += 8;
        n -= 8;
    }
    u64 w = 0;
    memcpy(&w, p, n);
    h = (h ^ w ^ ((u64)n << 56)) * 0xbf58476d1ce4e5b9u;
    return h ^ h >> 32;
}

static u64 bytes_hash(const u8 *page, const u8 *next_page, u32 offset, u32 bytes)
{
    const u32 here = MIN(bytes, (u32)VIEW_PAGE_SIZE - offset);
    const u64 h = hash_bytes(0, page + offset, here);
    return here < bytes ? hash_bytes(h, next_page, bytes - here) : h;
}

static u64 block_hash(const Block *b)
{
    return bytes_hash(b->page->host, b->straddles ? block_tail(b)->page->host : NULL, b->offset,
                      b->bytes);
}

/* --- pages ------------------------------------------------------------------------------------ */

typedef enum EntryKind { ENTRIES_EXEC, ENTRIES_WRITE } EntryKind;

/* Drops execute or write entries of a page in the harts of `who`: at once in the one that runs on
 * this thread, at their next safepoint in the others. Lock held. */
static void drop_entries(Exec *exec, u32 who, u64 pa, EntryKind kind)
{
    for (; who; who &= who - 1) {
        ExecHart *h = exec->hart_of_index[__builtin_ctz(who)];
        if (!h) {
            continue;
        }
        if (h == current_hart) {
            if (kind == ENTRIES_EXEC) {
                mmu_drop_exec_entries(h->cpu, pa);
            } else {
                mmu_drop_write_entries(h->cpu, pa);
            }
            continue;
        }
        g_array_append_val(kind == ENTRIES_EXEC ? h->drop_exec : h->drop_write, pa);
        atomic_fetch_or(&h->cpu->pending, PENDING_FLUSH);
        /* Execute entries can wait until the hart leaves by itself, as FENCE.I does. */
        if (kind == ENTRIES_WRITE && atomic_load(&h->epoch) != EPOCH_OUTSIDE) {
            if (!h->late) {
                h->late = true;
                atomic_fetch_add(&exec->recheck, 1);
            }
            if (h->cpu->kick) {
                h->cpu->kick(h->cpu);
            }
        }
    }
}

static void drop_exec_entries(Exec *exec, CodePage *page)
{
    const u32 who = page->entered_by;
    page->entered_by = 0;
    drop_entries(exec, who, page->pa, ENTRIES_EXEC);
}

static void page_written(void *opaque, u64 pa);

/* A write entry that was there until now may have been used since the page was compared. */
static void process_dropped(Exec *exec, ExecHart *h)
{
    g_rec_mutex_lock(&exec->lock);
    atomic_fetch_and(&h->cpu->pending, ~(u32)PENDING_FLUSH);
    for (unsigned i = 0; i < h->drop_exec->len; i++) {
        mmu_drop_exec_entries(h->cpu, g_array_index(h->drop_exec, u64, i));
    }
    for (unsigned i = 0; i < h->drop_write->len; i++) {
        u64 pa = g_array_index(h->drop_write, u64, i);
        if (mmu_drop_write_entries(h->cpu, pa)) {
            page_written(exec, pa);
        }
    }
    g_array_set_size(h->drop_exec, 0);
    g_array_set_size(h->drop_write, 0);
    if (h->late) {
        h->late = false;
        atomic_fetch_sub(&exec->recheck, 1);
    }
    g_rec_mutex_unlock(&exec->lock);
}

/* It will be compared again before it is entered. */
static void make_dirty(Exec *exec, CodePage *page)
{
    page->dirty = true;
    page->version = ++exec->versions;
    drop_exec_entries(exec, page);
}

static CodePage *page_find(Exec *exec, u64 pa)
{
    return g_hash_table_lookup(exec->pages, (void *)(uintptr_t)(pa >> VIEW_PAGE_SHIFT));
}

/* Comes last: a hart that finds `recheck` 0 in its FENCE.I goes on, so the page must be compared by
 * then, or the hart be told to drop it. */
static void stop_waiting(Exec *exec, CodePage *page)
{
    if (page->waits) {
        page->waits = false;
        g_ptr_array_remove_fast(exec->waiting, page);
        atomic_fetch_sub(&exec->recheck, 1);
    }
}

static void page_free(Exec *exec, CodePage *page)
{
    drop_exec_entries(exec, page);
    bus_set_code_page(exec->bus, page->pa, false);
    stop_waiting(exec, page);
    g_hash_table_remove(exec->pages, (void *)(uintptr_t)(page->pa >> VIEW_PAGE_SHIFT));
    page->entries = NULL;
    page->retired = next_epoch(exec);
    page->next_retired = NULL;
    *exec->pages_retired_end = page;
    exec->pages_retired_end = &page->next_retired;
}

static bool pages_left(Exec *exec)
{
    while (exec->pages_retired && all_passed(exec, exec->pages_retired->retired)) {
        CodePage *page = exec->pages_retired;
        g_ptr_array_add(exec->pages_free, page);
        exec->pages_retired = page->next_retired;
        if (!exec->pages_retired) {
            exec->pages_retired_end = &exec->pages_retired;
        }
    }
    return exec->pages_free->len ||
           exec->entries.used + sizeof(CodePageEntries) <= exec->entries.end;
}

static CodePage *page_new(Exec *exec, u64 pa, const u8 *host)
{
    CodePage *page;
    if (exec->pages_free->len) {
        page = g_ptr_array_steal_index_fast(exec->pages_free, exec->pages_free->len - 1);
    } else {
        page = &exec->page_records[(CodePageEntries *)exec->entries.used - exec->entries_base];
        area_prefault(exec, &exec->entries, PREFAULT_HUGE);
        exec->entries.used += sizeof(CodePageEntries);
    }
    /* A new page is dirty: it is not protected yet. */
    *page = (CodePage){.entries = &exec->entries_base[page - exec->page_records],
                       .pa = pa,
                       .host = host,
                       .version = ++exec->versions,
                       .dirty = true};
    for (unsigned i = 0; i < ARRAY_LEN(page->entries->entry); i++) {
        page->entries->entry[i] = exec->miss;
    }
    g_hash_table_insert(exec->pages, (void *)(uintptr_t)(pa >> VIEW_PAGE_SHIFT), page);
    return page;
}

/* The bus's dirty callback: somebody has written to a page that holds translated code, or is about
 * to. */
static void page_written(void *opaque, u64 pa)
{
    Exec *exec = opaque;
    g_rec_mutex_lock(&exec->lock);
    bus_set_code_page(exec->bus, pa, false);
    CodePage *page = page_find(exec, pa);
    if (page && !page->dirty) {
        page->bounces++;
        make_dirty(exec, page);
    }
    g_rec_mutex_unlock(&exec->lock);
}

static u64 insns_of_all(const Exec *exec)
{
    u64 n = 0;
    for (unsigned i = 0; i < exec->harts->len; i++) {
        n += cpu_insns(((ExecHart *)exec->harts->pdata[i])->cpu);
    }
    return n;
}

/* Makes a page fit to be entered: its blocks agree with its bytes, and stores to it will be seen
 * (or it waits). */
static void page_clean(Exec *exec, CodePage *page)
{
    if (!page->dirty && !page->waits) {
        return;
    }
    u64 now = insns_of_all(exec);
    if (now - page->bounce_start > BOUNCE_WINDOW) {
        page->bounce_start = now;
        page->bounces = 0;
    }
    const bool waits = page->bounces > BOUNCE_LIMIT;
    if (waits && !page->waits) {
        page->waits = true;
        g_ptr_array_add(exec->waiting, page);
        atomic_fetch_add(&exec->recheck, 1);
    } else if (!waits) {
        if (page->waits) {
            /* Nobody has been told of stores so far: what is being translated is not to be trusted. */
            page->version = ++exec->versions;
        }
        bus_set_code_page(exec->bus, page->pa, true);
        drop_entries(exec, bus_take_writers(exec->bus, page->pa, exec->hart_bits), page->pa,
                     ENTRIES_WRITE);
    }
    page->dirty = false;
    for (Block *b = page->blocks, *next; b; b = next) {
        next = b->next;
        if (block_hash(b) != b->hash) {
            drop_block(exec, b);
        }
    }
    for (Tail *t = page->tails, *next; t; t = next) {
        next = t->next;
        if (block_hash(tail_block(t)) != tail_block(t)->hash) {
            drop_block(exec, tail_block(t));
        }
    }
    if (!waits) {
        stop_waiting(exec, page);
    }
}

/* Pages that wait, and those that others may have written to unnoticed, are compared again when
 * they are entered next. */
static void recheck(Exec *exec, bool forget_bounces)
{
    if (!atomic_load(&exec->recheck)) {
        return; /* as nearly always */
    }
    g_rec_mutex_lock(&exec->lock);
    while (exec->waiting->len) {
        CodePage *page = exec->waiting->pdata[exec->waiting->len - 1];
        if (forget_bounces) {
            page->bounces = 0;
        }
        make_dirty(exec, page);
        stop_waiting(exec, page);
    }
    for (unsigned i = 0; i < exec->harts->len; i++) {
        const ExecHart *h = exec->harts->pdata[i];
        for (unsigned k = 0; h->late && k < h->drop_write->len; k++) {
            CodePage *page = page_find(exec, g_array_index(h->drop_write, u64, k));
            if (page) {
                make_dirty(exec, page);
            }
        }
    }
    g_rec_mutex_unlock(&exec->lock);
}

void exec_fence_i(Exec *exec, CpuState *cpu)
{
    (void)cpu;
    recheck(exec, true);
}

void exec_trap_return(Exec *exec, CpuState *cpu)
{
    (void)cpu;
    recheck(exec, false);
}

/* --- the code cache --------------------------------------------------------------------------- */

static void region_reset(CacheRegion *r)
{
    atomic_store(&r->block_count, 0);
    r->retired = 0;
    r->code.used = ALIGN_UP(r->code.start + BLOCK_HEADER, BLOCK_ALIGN);
    r->cold.used = r->cold.start;
    r->records.used = r->records.start;
}

/* Takes the blocks of a region out of everybody's reach. It keeps its index: a hart that is still in
 * one of them may fault there. */
static void region_evict(Exec *exec, CacheRegion *r)
{
    u32 count = atomic_load(&r->block_count);
    if (!count || atomic_load(&r->retired)) {
        return;
    }
    exec->evicting = r;
    for (u32 i = 0; i < count; i++) {
        Block *b = region_block(r, i);
        if (b->prev) { /* not dropped already */
            CodePage *pages[2] = {b->page, b->straddles ? block_tail(b)->page : NULL};
            drop_block(exec, b);
            for (unsigned k = 0; k < 2; k++) {
                if (pages[k] && !pages[k]->blocks && !pages[k]->tails && !pages[k]->held) {
                    page_free(exec, pages[k]);
                }
            }
        }
    }
    exec->evicting = NULL;
    exec->evictions++;
    exec->last = exec->jumped = NULL;
    atomic_store(&r->retired, next_epoch(exec));
}

/* Whether the region may be written to: nobody looks any more at what was there. */
static bool region_ready(const Exec *exec, CacheRegion *r)
{
    const u64 retired = atomic_load(&r->retired);
    if (retired && all_passed(exec, retired)) {
        region_reset(r);
    }
    return !atomic_load(&r->retired);
}

/* The number of the region that is taken after `i`: the next one that no hart owns. */
static unsigned region_after(const Exec *exec, unsigned i)
{
    do {
        i = (i + 1) % exec->region_count;
    } while (exec->regions[i].owner);
    return i;
}

/* Gives the hart the next region, which is empty. False: not yet. */
static bool region_next(Exec *exec, ExecHart *h)
{
    enum { AHEAD = 2 };
    unsigned i = region_after(exec, exec->current);
    CacheRegion *r = &exec->regions[i];
    region_evict(exec, r);
    if (!region_ready(exec, r)) {
        return false;
    }
    if (exec->own_regions) {
        if (h->region) {
            h->region->owner = NULL;
        }
        r->owner = h;
    }
    h->region = r;
    exec->current = i;
    /* The others have time to pass a safepoint until these are needed. */
    for (unsigned n = exec->own_regions ? AHEAD : exec->harts->len > 1; n; n--) {
        i = region_after(exec, i);
        region_evict(exec, &exec->regions[i]);
    }
    return true;
}

/* Sees to it that h->region can be compiled into. False: others are in the way. Lock held. */
static bool region_at_hand(Exec *exec, ExecHart *h)
{
    if (!exec->own_regions) {
        h->region = &exec->regions[exec->current];
    }
    return h->region ? region_ready(exec, h->region) : region_next(exec, h);
}

void exec_flush(Exec *exec)
{
    g_rec_mutex_lock(&exec->lock);
    exec->flushes++;
    for (unsigned i = 0; i < exec->region_count; i++) {
        region_evict(exec, &exec->regions[i]);
    }
    GHashTableIter it;
    gpointer page;
    g_autoptr(GPtrArray) empty = g_ptr_array_new();
    g_hash_table_iter_init(&it, exec->pages);
    while (g_hash_table_iter_next(&it, NULL, &page)) {
        g_ptr_array_add(empty, page);
    }
    for (unsigned i = 0; i < empty->len; i++) {
        page_free(exec, empty->pdata[i]);
    }
    g_rec_mutex_unlock(&exec->lock);
}

void exec_stats(Exec *exec, ExecStats *out)
{
    g_rec_mutex_lock(&exec->lock);
    *out = (ExecStats){
        .regions = exec->region_count,
        .pages = g_hash_table_size(exec->pages),
        .translated = exec->translated,
        .evictions = exec->evictions,
        .flushes = exec->flushes,
    };
    for (unsigned i = 0; i < exec->region_count; i++) {
        const CacheRegion *r = &exec->regions[i];
        const u32 count = atomic_load(&r->block_count);
        out->code_size += r->cold.end - r->code.start;
        if (count) {
            out->regions_used++;
            out->blocks += count;
            out->code_used += r->code.used - r->code.start + r->cold.used - r->cold.start;
        }
    }
    g_rec_mutex_unlock(&exec->lock);
}

/* --- translation ------------------------------------------------------------------------------ */

static u64 page_base(u64 va)
{
    return ALIGN_DOWN(va, VIEW_PAGE_SIZE);
}

static u64 next_page_va(const Exec *exec, u64 pc)
{
    u64 va = page_base(pc) + VIEW_PAGE_SIZE;
    return exec->config.xlen == IR_I32 ? (u32)va : va;
}

/* What find_entry and those below it do not find, and what to do instead. */
typedef enum Missing {
    MISSING_NOTHING, /* a trap was taken, or code was thrown away: look again */
    MISSING_TABLE,   /* no entry may be kept: run the instruction alone */
    MISSING_ROOM,    /* in the cache: wait for other harts, then look again */
} Missing;

/* Translates for execution. On a fault the guest's trap is taken (pc is then its handler). */
static bool fetch_page(Exec *exec, CpuState *cpu, u64 va, MmuFetch *out)
{
    if (mmu_fetch(cpu, va, 2, out)) {
        return true;
    }
    cpu->status = CPU_OK;
    exec->ops.take_trap(cpu);
    return false;
}

/* The page that a fetch led to, clean, with an execute entry in the current view; NULL if there is
 * no room for one more page. Lock held. */
static CodePage *enter_page(Exec *exec, CpuState *cpu, u64 va, const MmuFetch *fetch)
{
    CodePage *page = page_find(exec, fetch->page_pa);
    if (!page) {
        if (!pages_left(exec)) {
            exec_flush(exec);
            if (!pages_left(exec)) {
                return NULL;
            }
        }
        page = page_new(exec, fetch->page_pa, fetch->host);
    }
    page_clean(exec, page);
    if (exec->config.links) {
        page->entered_by |= (u32)1 << cpu->index % BUS_MAX_HARTS;
        mmu_set_exec_entry(cpu, va, page->pa, page->entries);
    }
    return page;
}

static void log_block(Exec *exec, const IrBlock *ir, const u8 *host, const u8 *host2, u64 pc)
{
    log_lock();
    if (log_on(LOG_IN_ASM)) {
        fprintf(log_file(), "----------------\nIN: 0x%016" PRIx64 "\n", pc);
        exec->ops.disassemble(exec->ops.opaque, log_file(), ir, host, host2, page_base(pc));
    }
    if (log_on(LOG_OP)) {
        fprintf(log_file(), "OP: 0x%016" PRIx64 "\n", pc);
        ir_print(log_file(), ir);
    }
    log_unlock();
}

/* In debug builds every block is checked after translation and after optimisation. */
static void check_ir(const IrBlock *ir, const char *stage)
{
#ifdef NDEBUG
    (void)ir, (void)stage;
#else
    g_autofree char *message = ir_check(ir);
    if (message) {
        ir_print(stderr, ir);
        g_error("IR after %s: %s", stage, message);
    }
#endif
}

static void log_compiled(Exec *exec, const IrBlock *ir, const CompiledBlock *code, u64 pc)
{
    log_lock();
    if (log_on(LOG_OP_OPT)) {
        fprintf(log_file(), "OP after optimisation: 0x%016" PRIx64 "\n", pc);
        ir_print(log_file(), ir);
    }
    if (log_on(LOG_OUT_ASM) && exec->ops.disassemble_host) {
        fprintf(log_file(), "OUT: 0x%016" PRIx64 " [%u bytes]\n", pc,
                code->size + code->cold_size);
        exec->ops.disassemble_host(log_file(), exec->ops.backend, code->start, code->size);
        if (code->cold_size) {
            exec->ops.disassemble_host(log_file(), exec->ops.backend, code->cold, code->cold_size);
        }
    }
    log_unlock();
}

/* Compiles IR into the cache, making room if need be; false if others are in the way. The lock is
 * held, unless it is `unlocked`. */
static bool compile(Exec *exec, ExecHart *h, const IrBlock *ir, u32 next_page_expected,
                    bool unlocked, CompiledBlock *code)
{
    for (unsigned tries = 0;; tries++) {
        CacheRegion *r = h->region;
        area_prefault(exec, &r->code, PREFAULT);
        area_prefault(exec, &r->cold, PREFAULT);
        area_prefault(exec, &r->records, PREFAULT);
        const CodeRoom room = {.at = (u32)r->code.used,
                               .size = (u32)(r->code.end - r->code.used),
                               .cold_at = (u32)r->cold.used,
                               .cold_size = (u32)(r->cold.end - r->cold.used)};
        if (r->records.used + MAX_RECORD <= r->records.end && r->code.used < r->code.end &&
            r->cold.used < r->cold.end &&
            exec->ops.compile(exec->ops.backend, ir, next_page_expected, &room, code)) {
            return true;
        }
        g_assert(tries < 2); /* an empty region holds any block */
        if (unlocked) {
            g_rec_mutex_lock(&exec->lock);
        }
        const bool more = region_next(exec, h);
        if (unlocked) {
            g_rec_mutex_unlock(&exec->lock);
        }
        if (!more) {
            return false;
        }
    }
}

static void set_link(Exec *exec, Link *link, Block *to)
{
    if (!may_link(exec, link)) {
        return;
    }
    exec->ops.link(exec->ops.backend, &link->code, to->start, entries_address(to->page));
    link->to = to;
    LIST_ADD(to->incoming, link);
}

/* Writes the record of a block that has just been compiled from bytes with `hash`, and makes it one
 * that can be found. Jumps within the page to blocks that exist are linked. */
static void publish(Exec *exec, CacheRegion *r, const IrBlock *ir, const CompiledBlock *code,
                    u64 hash, CodePage *page, CodePage *page2)
{
    if (page2) {
        Tail *tail = (Tail *)r->records.used;
        tail->page = page2;
        LIST_ADD(page2->tails, tail);
        r->records.used += sizeof(Tail);
    }
    Block *b = (Block *)r->records.used;
    r->records.used += sizeof(Block) + code->link_count * sizeof(Link);
    b->start = code->start;
    b->size = code->size;
    b->tables = code->tables;
    b->cold = code->cold_size ? code->cold : (u32)r->cold.used;
    b->cold_size = code->cold_size;
    b->offset = (u16)ir->page_offset;
    b->bytes = (u16)ir->guest_bytes;
    b->page = page;
    b->incoming = NULL;
    b->link_count = (u16)code->link_count;
    b->straddles = page2 != NULL;
    b->ungrouped = ir->ungrouped;
    b->hash = hash;
    LIST_ADD(page->blocks, b);

    *(Block **)code_writable(&exec->space, b->start - BLOCK_HEADER) = b;
    const u32 count = atomic_load(&r->block_count);
    r->blocks[count] = (u32)(((u64)(uintptr_t)b - r->records.start) / 8);
    atomic_store(&r->block_count, count + 1);
    r->code.used = ALIGN_UP(MAX(code->start + code->size + BLOCK_HEADER,
                                r->code.used + MIN_BLOCK_SIZE), BLOCK_ALIGN);
    r->cold.used = ALIGN_UP(b->cold + b->cold_size, 4);
    if (!b->ungrouped) {
        set_entry(page, b->offset, code->start);
    }
    exec->last = b;
    exec->translated++;

    for (u32 i = 0; i < code->link_count; i++) {
        Link *link = &b->links[i];
        link->code = code->links[i];
        link->undone = 0;
        link->to = NULL;
        const u32 target = (u32)link->code.target;
        if (target < VIEW_PAGE_SIZE && !link->code.ungrouped && exec->config.links) {
            const u32 entry = page->entries->entry[target / 2];
            if (entry != exec->miss) {
                set_link(exec, link, block_at(exec, entry));
            }
        }
    }
}

/* The page's block for an instruction without groups of accesses. There are few of them, and jumps
 * are linked to them. */
static u32 ungrouped_entry(const Exec *exec, const CodePage *page, u32 offset)
{
    for (const Block *b = page->blocks; b; b = b->next) {
        if (b->ungrouped && b->offset == offset) {
            return b->start;
        }
    }
    return exec->miss;
}

/* Where the page's code for an instruction is; exec->miss if there is none. */
static u32 page_entry(const Exec *exec, const CodePage *page, u32 offset, bool ungrouped)
{
    return ungrouped ? ungrouped_entry(exec, page, offset) : page->entries->entry[offset / 2];
}

/* Makes the block for pc and returns its entry point, or 0 and what is missing. The lock is held
 * before and after, but harts with regions of their own do most of the work without. The bytes are
 * copied first: the page is marked as code, so whoever changes them from now on will say so, and
 * then the block is compared with the bytes that it was made from, or, if it has not been published
 * yet, the page has another version and the work was in vain. */
static u32 translate(Exec *exec, ExecHart *h, CodePage *page, u64 pc, bool ungrouped,
                     Missing *missing)
{
    CpuState *cpu = h->cpu;
    u32 offset = (u32)(pc & (VIEW_PAGE_SIZE - 1));
    IrBlock ir = {.insns = h->insns};
    CodePage *page2 = NULL;
    const u64 page_pa = page->pa, version = page->version;
    bool unlocked = exec->own_regions;

    if (!region_at_hand(exec, h)) {
        *missing = MISSING_ROOM;
        return 0;
    }
    if (unlocked) {
        g_rec_mutex_unlock(&exec->lock);
    }
    memcpy(h->bytes + offset, page->host + offset,
           MIN(VIEW_PAGE_SIZE - offset, MAX_INSN_BYTES * exec->config.max_insns));
    if (!exec->ops.translate(exec->ops.opaque, h->bytes, offset, NULL, exec->config.max_insns,
                             &ir)) {
        MmuFetch fetch;
        u64 next_va = next_page_va(exec, pc);
        if (unlocked) { /* for there are two pages to keep, and few such blocks */
            g_rec_mutex_lock(&exec->lock);
            unlocked = false;
            page = page_find(exec, page_pa);
            if (!page || page->version != version) {
                return 0;
            }
        }
        if (!fetch_page(exec, cpu, next_va, &fetch)) {
            return 0;
        }
        /* One frame at both addresses: a block is on the list of a page once. */
        if (fetch.limited || !exec->config.links || fetch.page_pa == page_pa) {
            *missing = MISSING_TABLE;
            return 0;
        }
        page2 = enter_page(exec, cpu, next_va, &fetch);
        page = page_find(exec, page_pa);
        if (!page2) {
            *missing = MISSING_ROOM;
            return 0;
        }
        if (!page || !region_at_hand(exec, h)) { /* entering the second page emptied the cache */
            return 0;
        }
        ir = (IrBlock){.insns = h->insns};
        memcpy(h->next_bytes, page2->host, sizeof(h->next_bytes));
        exec->ops.translate(exec->ops.opaque, h->bytes, offset, h->next_bytes, 1, &ir);
    }
    ir.ungrouped = ungrouped;
    if (log_on(LOG_IN_ASM | LOG_OP)) {
        log_block(exec, &ir, h->bytes, page2 ? h->next_bytes : NULL, pc);
    }
    check_ir(&ir, "translation");
    opt_fold(&ir); /* the backend passes over what is dead */
    if (log_on(LOG_OP_OPT)) {
        opt_drop_dead(&ir);
    }
    check_ir(&ir, "optimisation");

    CompiledBlock code;
    /* Making room must not free the pages that this block is about to belong to. (Without the lock
     * it is looked up again.) */
    if (!unlocked) {
        page->held++;
    }
    if (page2) {
        page2->held++;
    }
    const bool compiled =
        compile(exec, h, &ir, page2 ? entries_address(page2) : 0, unlocked, &code);
    if (unlocked) {
        g_rec_mutex_lock(&exec->lock);
        page = page_find(exec, page_pa);
    } else {
        page->held--;
    }
    if (page2) {
        page2->held--;
    }
    if (!compiled) {
        *missing = MISSING_ROOM;
        return 0;
    }
    if (log_on(LOG_OP_OPT | LOG_OUT_ASM)) {
        log_compiled(exec, &ir, &code, pc);
    }
    if (unlocked) {
        if (!page || page->version != version || atomic_load(&h->region->retired)) {
            return 0;
        }
        const u32 entry = page_entry(exec, page, offset, ungrouped);
        if (entry != exec->miss) { /* another hart was faster */
            return entry;
        }
    }
    publish(exec, h->region, &ir, &code, bytes_hash(h->bytes, h->next_bytes, offset, ir.guest_bytes), page,
            page2);

    if (exec->config.perf_map) {
        fprintf(exec->config.perf_map, "%x %x guest_%" PRIx64 "\n", code.start, code.size, pc);
        if (code.cold_size) {
            fprintf(exec->config.perf_map, "%x %x cold_%" PRIx64 "\n", code.cold, code.cold_size,
                    pc);
        }
        fflush(exec->config.perf_map);
    }
    return code.start;
}

static bool next_page_holds(CpuState *cpu, const void *expected)
{
    (void)cpu;
    (void)expected;
    return true; /* it was fetched just now */
}

static const IrInterpreter *interpreter(const Exec *exec, IrInterpreter *callbacks)
{
    *callbacks = (IrInterpreter){
        .guard_failed = exec->ops.guard_failed,
        .next_page_ok = next_page_holds,
        .load = mmu_load,
        .store = mmu_store,
        .amo_host = mmu_amo_host,
        .lr_host = mmu_lr_host,
        .zero = mmu_zero,
    };
    return callbacks;
}

/* Runs exactly one instruction by the interpreter: for pages that PMP covers partially, rounding
 * modes that the host does not have, and budgets shorter than a block. */
static CpuExit run_alone(Exec *exec, ExecHart *h)
{
    CpuState *cpu = h->cpu;
    u64 pc = cpu->pc;
    IrBlock ir = {.insns = h->insns};
    MmuFetch fetch, fetch2;
    u32 offset = (u32)(pc & (VIEW_PAGE_SIZE - 1));

    if (!fetch_page(exec, cpu, pc, &fetch)) {
        return EXIT_NEXT;
    }
    if (!exec->ops.translate(exec->ops.opaque, fetch.host, offset, NULL, 1, &ir)) {
        if (!fetch_page(exec, cpu, next_page_va(exec, pc), &fetch2)) {
            return EXIT_NEXT;
        }
        ir = (IrBlock){.insns = h->insns};
        exec->ops.translate(exec->ops.opaque, fetch.host, offset, fetch2.host, 1, &ir);
    } else if (fetch.limited && ir.guest_bytes == 4 && !fetch_page(exec, cpu, pc + 2, &fetch2)) {
        return EXIT_NEXT;
    }
    IrInterpreter callbacks;
    cpu_set_budget(cpu, 1);
    return ir_interpret(&ir, cpu, interpreter(exec, &callbacks));
}

/* The execute table's entry for pc, 0 if there is none. */
static u64 execute_entry(CpuState *cpu)
{
    return view_canonical(cpu->pc) ? *view_entry(cpu->view, VIEW_EXEC_OFFSET, cpu->pc) : 0;
}

/* The entry point for pc if the execute table has it, else 0. */
static u32 quick_entry(const Exec *exec, CpuState *cpu)
{
    u64 e = execute_entry(cpu);
    if (!e) {
        return 0;
    }
    u32 entry = __atomic_load_n((const u32 *)(uintptr_t)(e + 2 * cpu->pc), __ATOMIC_ACQUIRE);
    return entry == exec->miss ? 0 : entry;
}

/* The page that pc is in if the execute table leads there, clean; else NULL. Lock held. */
static CodePage *quick_page(Exec *exec, ExecHart *h)
{
    CpuState *cpu = h->cpu;
    u64 e = execute_entry(cpu);
    if (!e || h->drop_exec->len) { /* it may be one of those that have to go */
        return NULL;
    }
    const CodePageEntries *entries = (CodePageEntries *)(uintptr_t)(e + 2 * page_base(cpu->pc));
    CodePage *page = &exec->page_records[entries - exec->entries_base];
    page_clean(exec, page);
    return page;
}

/* Links the jump that ended the last run to the block at `entry`, which it led to. Lock held. The
 * region that the jump was in may have been used again since, and a block be there that has another
 * jump in its place. That is no harm: what is tested here is all that a link needs to be right, as
 * jumps to another page compare it with the one they were linked to. */
static void link_jump(Exec *exec, u32 jump, u32 entry)
{
    Block *from = exec->jumped;
    if (!from || !block_holds(from, jump)) {
        from = find_block(exec, jump);
    }
    Block *to = block_at(exec, entry);
    if (!from || !from->prev || !to->prev) {
        return;
    }
    for (u32 i = 0; i < from->link_count; i++) {
        Link *link = &from->links[i];
        if (link->code.jump != jump) {
            continue;
        }
        if (((u32)link->code.target & (VIEW_PAGE_SIZE - 1)) != to->offset ||
            link->code.ungrouped != to->ungrouped) {
            return;
        }
        const bool same_page = link->code.expect == 0;
        if (link->to && !same_page && link->to->page != to->page) {
            /* The target's page is mapped elsewhere now: follow the latest. */
            unlink_jump(exec, link);
        }
        if (!link->to && (!same_page || from->page == to->page)) {
            set_link(exec, link, to);
        }
        return;
    }
}

/* The entry point for pc, or 0 and what is missing. `jump`, if not 0, is linked to it. */
static u32 find_entry(Exec *exec, ExecHart *h, u32 jump, bool ungrouped, Missing *missing)
{
    CpuState *cpu = h->cpu;
    u64 pc = cpu->pc;

    g_rec_mutex_lock(&exec->lock);
    CodePage *page = quick_page(exec, h);
    if (!page) {
        MmuFetch fetch;
        g_rec_mutex_unlock(&exec->lock);
        if (!fetch_page(exec, cpu, pc, &fetch)) {
            return 0;
        }
        if (fetch.limited) {
            *missing = MISSING_TABLE;
            return 0;
        }
        g_rec_mutex_lock(&exec->lock);
        page = enter_page(exec, cpu, pc, &fetch);
        if (!page) {
            g_rec_mutex_unlock(&exec->lock);
            *missing = MISSING_ROOM;
            return 0;
        }
    }
    exec->jumped = exec->last;
    const u32 offset = (u32)(pc & (VIEW_PAGE_SIZE - 1));
    u32 entry = page_entry(exec, page, offset, ungrouped);
    if (entry == exec->miss) {
        entry = translate(exec, h, page, pc, ungrouped, missing);
    }
    if (entry && jump && exec->config.links) {
        link_jump(exec, jump, entry);
    }
    g_rec_mutex_unlock(&exec->lock);
    return entry;
}

/* A straddling block's second page is not what it was made with: look again. Returns an entry as
 * find_entry. */
static u32 next_page_changed(Exec *exec, ExecHart *h, Missing *missing)
{
    CpuState *cpu = h->cpu;
    u64 next_va = next_page_va(exec, cpu->pc);
    MmuFetch fetch;

    u32 entry = find_entry(exec, h, 0, false, missing);
    if (!entry || !fetch_page(exec, cpu, next_va, &fetch)) {
        return 0;
    }
    if (fetch.limited) {
        *missing = MISSING_TABLE;
        return 0;
    }
    g_rec_mutex_lock(&exec->lock);
    CodePage *page2 = enter_page(exec, cpu, next_va, &fetch);
    if (!page2) {
        g_rec_mutex_unlock(&exec->lock);
        *missing = MISSING_ROOM;
        return 0;
    }
    Block *b = block_at(exec, entry);
    if (b->prev && b->straddles && block_tail(b)->page != page2) {
        drop_block(exec, b);
    }
    g_rec_mutex_unlock(&exec->lock);
    /* The second page's execute entry is back; if the bytes or the page differ there is no block
     * now. */
    return find_entry(exec, h, 0, false, missing);
}

/* --- running ---------------------------------------------------------------------------------- */

enum { BIG_BUDGET = 1 << 30 };

static void log_entry(Exec *exec, CpuState *cpu)
{
    log_lock();
    if (log_on(LOG_EXEC)) {
        fprintf(log_file(), "EXEC %u: 0x%016" PRIx64 "\n", cpu->index, cpu->pc);
    }
    if (log_on(LOG_CPU)) {
        exec->ops.dump_cpu(log_file(), cpu);
    }
    log_unlock();
}

static CpuExit run(Exec *exec, ExecHart *h, u64 max_insns, bool exact)
{
    CpuState *cpu = h->cpu;
    u64 end = max_insns ? cpu_insns(cpu) + max_insns : 0;
    u32 jump = 0;         /* the jump to link to the next block */
    bool changed = false; /* left by EXIT_NEXT_PAGE */
    bool split = false;   /* left by EXIT_SPLIT */
    bool inside = false;  /* left by EXIT_BUDGET: the limit falls into the block at pc */

    for (;;) {
        /* A safepoint. What was taken out up to this epoch is on the hart's list if it is in its
         * tables, and `pending`, which is read after this is written, says so. */
        atomic_store(&h->epoch, atomic_load(&exec->epoch));
        if (atomic_load(&cpu->pending) & PENDING_FLUSH) {
            process_dropped(exec, h);
            continue;
        }
        mmu_safepoint(cpu);
        tell_waiters(exec);
        u64 left = max_insns ? end - cpu_insns(cpu) : BIG_BUDGET;
        if ((s64)left <= 0) {
            return EXIT_BUDGET;
        }
        if (atomic_load(&cpu->pending)) {
            return EXIT_BUDGET;
        }

        Missing missing = inside && max_insns ? MISSING_TABLE : MISSING_NOTHING;
        inside = false;
        u32 entry = 0;
        if (changed) {
            entry = next_page_changed(exec, h, &missing);
        } else if (missing == MISSING_NOTHING) {
            entry = split ? 0 : quick_entry(exec, cpu);
            if (!entry) {
                entry = find_entry(exec, h, jump, split, &missing);
            } else if (jump && exec->config.links) {
                g_rec_mutex_lock(&exec->lock);
                link_jump(exec, jump, entry);
                g_rec_mutex_unlock(&exec->lock);
            }
        }
        if (!entry && missing == MISSING_ROOM) {
            wait_for_others(exec, h);
            continue;
        }
        changed = split = false;
        if (!entry && missing == MISSING_NOTHING) {
            jump = 0;
            continue; /* a trap was taken: pc is its handler */
        }

        CpuExit exit;
        if (!entry) {
            jump = 0;
            exit = run_alone(exec, h);
        } else {
            if (log_on(LOG_EXEC | LOG_CPU)) {
                log_entry(exec, cpu);
            }
            jump = 0;
            cpu_set_budget(cpu, (s64)MIN(left, BIG_BUDGET));
            cpu->in_code = true;
            /* A kick before this line is seen here, one after it in the budget. */
            if (atomic_load(&cpu->pending)) {
                cpu->in_code = false;
                continue;
            }
            exit = exec->ops.enter(exec->ops.backend, cpu, entry, &jump);
            cpu->in_code = false;
        }

        switch (exit) {
        case EXIT_NEXT:
        case EXIT_LINK:
            break;
        case EXIT_BUDGET:
            if (max_insns && !exact) {
                return exit;
            }
            inside = true;
            break;
        case EXIT_TRAP:
            exec->ops.take_trap(cpu);
            break;
        case EXIT_GUARD:
            if (!exec->ops.guard_failed(cpu, cpu->exit_arg)) {
                cpu->status = CPU_OK;
                exec->ops.take_trap(cpu);
            } else if (!cpu->fp_ready) {
                exit = run_alone(exec, h);
                if (exit == EXIT_TRAP) {
                    exec->ops.take_trap(cpu);
                } else if (exit == EXIT_HALT) {
                    return exit;
                }
            }
            break;
        case EXIT_NEXT_PAGE:
            changed = true;
            break;
        case EXIT_SPLIT:
            split = true;
            break;
        case EXIT_HALT:
            return exit;
        }
        if (exit != EXIT_LINK && exit != EXIT_SPLIT) {
            jump = 0;
        }
    }
}

static CpuExit run_on_this_thread(Exec *exec, CpuState *cpu, u64 max_insns, bool exact)
{
    ExecHart *h = cpu->exec;
    current_hart = h;
    atomic_store(&cpu->place, CPU_INSIDE);
    const CpuExit exit = run(exec, h, max_insns, exact);
    stay_outside(exec, h);
    atomic_store(&cpu->place, CPU_OUTSIDE);
    current_hart = NULL;
    return exit;
}

CpuExit exec_run(Exec *exec, CpuState *cpu, u64 max_insns)
{
    return run_on_this_thread(exec, cpu, max_insns, true);
}

CpuExit exec_run_slice(Exec *exec, CpuState *cpu, u64 insns)
{
    return run_on_this_thread(exec, cpu, insns, false);
}

/* --- set-up ----------------------------------------------------------------------------------- */

Exec *exec_new(const ExecOps *ops, const ExecConfig *config, const CodeSpace *space, Bus *bus,
               GError **err)
{
    Exec *exec = g_new0(Exec, 1);
    exec->ops = *ops;
    exec->config = *config;
    exec->space = *space;
    exec->bus = bus;
    g_rec_mutex_init(&exec->lock);
    g_mutex_init(&exec->wait_lock);
    g_cond_init(&exec->passed);
    exec->pages_retired_end = &exec->pages_retired;
    exec->pages = g_hash_table_new(NULL, NULL);
    exec->page_records = g_new(CodePage, MAX_CODE_PAGES);
    exec->pages_free = g_ptr_array_new();
    exec->waiting = g_ptr_array_new();
    exec->harts = g_ptr_array_new();
    exec->prefaulter = g_thread_pool_new(prefault, exec, 1, FALSE, NULL);
    exec->miss = ops->miss_stub(ops->backend);
    exec->entries_map = mmap(NULL, ENTRIES_BYTES, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_32BIT, -1, 0);
    if (exec->entries_map == MAP_FAILED) {
        stag_error(err,
                   "cannot get %u MiB of address space below 2 GiB for the tables of code pages",
                   (unsigned)(ENTRIES_BYTES >> 20));
        exec->entries_map = NULL;
        exec_free(exec);
        return NULL;
    }
    madvise(exec->entries_map, ENTRIES_BYTES, MADV_HUGEPAGE);
    /* At odd multiples of half their size: then no address of theirs is twice that of a guest page,
     * and an execute entry, which is the difference, never comes out as 0, which means none. */
    _Static_assert(sizeof(CodePageEntries) == 2 * VIEW_PAGE_SIZE, "half an entry is a page");
    const u64 map = (u64)(uintptr_t)exec->entries_map;
    const u64 base = ALIGN_UP(map + VIEW_PAGE_SIZE, sizeof(CodePageEntries)) - VIEW_PAGE_SIZE;
    exec->entries_base = (CodePageEntries *)base;
    exec->entries = (Area){base, base + MAX_CODE_PAGES * sizeof(CodePageEntries), base,
                           ALIGN_DOWN(base, VIEW_PAGE_SIZE)};

    const u64 all = space->size - EXEC_STUB_AREA;
    const u64 at_best = config->harts > 1 ? REGION_SIZE_HARTS : REGION_SIZE;
    exec->region_count = (unsigned)CLAMP(all / at_best, MIN_REGIONS, MAX_REGIONS);
    exec->own_regions =
        config->harts > 1 && exec->region_count >= REGIONS_PER_HART * (config->harts + 1);
    const u64 size = exec->region_size = ALIGN_DOWN(all / exec->region_count, 4096);
    const u64 records_size = size * RECORDS_PER_CODE;
    exec->records_size = exec->region_count * records_size;
    exec->records_map = mmap(NULL, exec->records_size, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (exec->records_map == MAP_FAILED) {
        stag_error(err, "cannot get address space for the code cache's records");
        exec->records_map = NULL;
        exec_free(exec);
        return NULL;
    }
    u64 code = (u64)(uintptr_t)space->exec + EXEC_STUB_AREA;
    u64 records = (u64)(uintptr_t)exec->records_map;
    for (unsigned i = 0; i < exec->region_count; i++, code += size, records += records_size) {
        CacheRegion *r = &exec->regions[i];
        const u64 cold = code + ALIGN_UP(size * 5 / 9, 4096);
        r->code = (Area){.start = code, .end = cold, .prefaulted = code};
        r->cold = (Area){.start = cold, .end = code + size, .prefaulted = cold};
        r->records = (Area){.start = records, .end = records + records_size, .prefaulted = records};
        region_reset(r);
        r->blocks = mmap(NULL, size / MIN_BLOCK_SIZE * sizeof(u32), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (r->blocks == MAP_FAILED) {
            stag_error(err, "cannot get address space for the code cache's index");
            r->blocks = NULL;
            exec_free(exec);
            return NULL;
        }
    }
    bus_set_dirty_callback(bus, page_written, exec);
    return exec;
}

void exec_free(Exec *exec)
{
    exec_flush(exec);
    bus_set_dirty_callback(exec->bus, NULL, NULL);
    while (exec->harts->len) {
        ExecHart *h = exec->harts->pdata[0];
        exec_remove_hart(exec, h->cpu);
    }
    for (unsigned i = 0; i < exec->region_count; i++) {
        CacheRegion *r = &exec->regions[i];
        if (r->blocks) {
            munmap(r->blocks, (r->code.end - r->code.start) / MIN_BLOCK_SIZE * sizeof(u32));
        }
    }
    g_thread_pool_free(exec->prefaulter, TRUE, TRUE);
    if (exec->records_map) {
        munmap(exec->records_map, exec->records_size);
    }
    if (exec->entries_map) {
        munmap(exec->entries_map, ENTRIES_BYTES);
    }
    exec_code_space_free(&exec->space);
    g_hash_table_destroy(exec->pages);
    g_ptr_array_free(exec->pages_free, TRUE);
    g_free(exec->page_records);
    g_ptr_array_free(exec->waiting, TRUE);
    g_ptr_array_free(exec->harts, TRUE);
    g_rec_mutex_clear(&exec->lock);
    g_mutex_clear(&exec->wait_lock);
    g_cond_clear(&exec->passed);
    g_free(exec);
}

void exec_add_hart(Exec *exec, CpuState *cpu)
{
    ExecHart *h = g_new0(ExecHart, 1);
    h->cpu = cpu;
    h->exec = exec;
    h->epoch = EPOCH_OUTSIDE;
    h->drop_exec = g_array_new(FALSE, FALSE, sizeof(u64));
    h->drop_write = g_array_new(FALSE, FALSE, sizeof(u64));
    cpu->exec = h;
    g_assert(cpu->index < BUS_MAX_HARTS && !exec->hart_of_index[cpu->index]);
    exec->hart_of_index[cpu->index] = h;
    exec->hart_bits |= (u32)1 << cpu->index;
    g_ptr_array_add(exec->harts, h);
}

void exec_remove_hart(Exec *exec, CpuState *cpu)
{
    ExecHart *h = cpu->exec;
    if (h->region) {
        h->region->owner = NULL;
    }
    g_ptr_array_remove(exec->harts, h);
    exec->hart_of_index[cpu->index] = NULL;
    exec->hart_bits &= ~((u32)1 << cpu->index);
    g_array_free(h->drop_exec, TRUE);
    g_array_free(h->drop_write, TRUE);
    cpu->exec = NULL;
    g_free(h);
}
