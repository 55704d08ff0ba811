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
 * The code cache is a ring of regions. When it is full the oldest region's blocks are
 * forgotten: links into them are undone, entry points cleared.
 */
#include "core/exec/exec.h"

#include <inttypes.h>
#include <pthread.h>
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
    Block *from, *to; /* to: NULL while unlinked */
    struct Link *next, **prev;
} Link;

/* A block's place in the list of a page whose bytes it was made from. */
typedef struct PageMember {
    Block *block;
    struct PageMember *next, **prev;
} PageMember;

struct Block {
    u32 start, size, tables;
    u16 offset, bytes; /* of the guest code: in `page`, and on into `page2` if it straddles */
    CodePage *page, *page2;
    PageMember member, member2;
    u64 hash; /* of the guest bytes */
    Link *incoming;
    u32 link_count;
    Link links[];
};

struct CodePage {
    CodePageEntries *entries;
    u64 pa;
    const u8 *host;
    PageMember *blocks;
    bool dirty;   /* written since the blocks were last compared; has no execute entries */
    bool waits;   /* entered, but left writable: see above */
    u32 bounces;  /* how often written since bounce_start */
    u64 bounce_start; /* in instructions of the hart */
};

/* A page that is written more than BOUNCE_LIMIT times in BOUNCE_WINDOW instructions waits for
 * FENCE.I or a return from a trap handler. */
enum { BOUNCE_LIMIT = 32, BOUNCE_WINDOW = 1000000 };

enum {
    REGIONS = 8,
    BLOCK_ALIGN = 16,
    MIN_BLOCK_SIZE = 32, /* smaller ones are padded: bounds the number of blocks in a region */
    PREFAULT = 512 << 10, /* bytes, at a time and ahead of use */
    ARENA_CHUNK = 2 << 20, /* a huge page */
    MAX_CODE_PAGES = 32768,
};
#define ENTRIES_BYTES (MAX_CODE_PAGES * sizeof(CodePageEntries) + VIEW_PAGE_SIZE)

typedef struct CacheRegion {
    u32 start, end, used, prefaulted;
    Block **blocks; /* in ascending order of start; room for all that can fit */
    _Atomic u32 block_count;
    GPtrArray *arena; /* chunks that the Block records live in */
    u32 arena_used;
} CacheRegion;

typedef struct ExecHart {
    CpuState *cpu;
    pthread_t thread; /* that is in exec_run */
    IrInsn insns[IR_MAX_INSNS];
    /* Execute or write entries that other threads want this hart to drop: page addresses. */
    GArray *drop_exec, *drop_write;
} ExecHart;

struct Exec {
    ExecOps ops;
    ExecConfig config;
    CodeSpace space;
    Bus *bus;
    GRecMutex lock; /* all below, and the blocks */
    CacheRegion regions[REGIONS];
    unsigned current;
    GHashTable *pages; /* page number -> CodePage */
    void *entries_map; /* the mapping that entries_base[] lies in */
    CodePageEntries *entries_base;
    u32 entries_used;
    GPtrArray *entries_free;
    GPtrArray *waiting; /* CodePages with `waits` */
    _Atomic u32 waiting_count; /* its length, for a look without the lock */
    GPtrArray *harts;
    GThreadPool *prefaulter;
    u32 miss;
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

static void *arena_alloc(CacheRegion *r, size_t size)
{
    size = ALIGN_UP(size, 16);
    if (r->arena->len == 0 || r->arena_used + size > ARENA_CHUNK) {
        void *chunk = aligned_alloc(ARENA_CHUNK, ARENA_CHUNK);
        g_assert(chunk);
        madvise(chunk, ARENA_CHUNK, MADV_HUGEPAGE);
        g_ptr_array_add(r->arena, chunk);
        r->arena_used = 0;
    }
    void *p = (u8 *)r->arena->pdata[r->arena->len - 1] + r->arena_used;
    r->arena_used += (u32)size;
    return p;
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

static Block *find_block(const Exec *exec, u32 address)
{
    for (unsigned i = 0; i < REGIONS; i++) {
        const CacheRegion *r = &exec->regions[i];
        if (address < r->start || address >= r->end) {
            continue;
        }
        u32 lo = 0, hi = atomic_load(&r->block_count);
        while (lo < hi) { /* the last block that starts at or below address */
            u32 mid = (lo + hi) / 2;
            if (r->blocks[mid]->start <= address) {
                lo = mid + 1;
            } else {
                hi = mid;
            }
        }
        if (lo == 0) {
            return NULL;
        }
        Block *b = r->blocks[lo - 1];
        return address < b->start + b->size ? b : NULL;
    }
    return NULL;
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

static void unlink_jump(Exec *exec, Link *link)
{
    exec->ops.unlink(exec->ops.backend, &link->code);
    LIST_REMOVE(link);
    link->to = NULL;
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
    u32 *entry = &b->page->entries->entry[b->offset / 2];
    if (*entry == b->start) {
        *entry = exec->miss;
    }
    LIST_REMOVE(&b->member);
    if (b->page2) {
        LIST_REMOVE(&b->member2);
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

static u64 block_hash(const Block *b)
{
    size_t here = MIN(b->bytes, VIEW_PAGE_SIZE - b->offset);
    u64 h = hash_bytes(0, b->page->host + b->offset, here);
    return b->page2 ? hash_bytes(h, b->page2->host, b->bytes - here) : h;
}

/* --- pages ------------------------------------------------------------------------------------ */

typedef enum EntryKind { ENTRIES_EXEC, ENTRIES_WRITE } EntryKind;

/* Drops a page's execute or write entries in every hart: at once in the one that runs on this
 * thread, as soon as they leave generated code in the others. */
static void drop_entries(Exec *exec, u64 pa, EntryKind kind)
{
    for (unsigned i = 0; i < exec->harts->len; i++) {
        ExecHart *h = exec->harts->pdata[i];
        if (pthread_equal(h->thread, pthread_self())) {
            if (kind == ENTRIES_EXEC) {
                mmu_drop_exec_entries(h->cpu, pa);
            } else {
                mmu_drop_write_entries(h->cpu, pa);
            }
        } else {
            g_array_append_val(kind == ENTRIES_EXEC ? h->drop_exec : h->drop_write, pa);
            cpu_post(h->cpu, PENDING_FLUSH);
        }
    }
}

static void page_written(void *opaque, u64 pa);

/* A write entry that was there until now may have been used since the page was compared. */
static void process_dropped(Exec *exec, ExecHart *h)
{
    atomic_fetch_and(&h->cpu->pending, ~(u32)PENDING_FLUSH);
    g_rec_mutex_lock(&exec->lock);
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
    g_rec_mutex_unlock(&exec->lock);
}

static CodePage *page_find(Exec *exec, u64 pa)
{
    return g_hash_table_lookup(exec->pages, (void *)(uintptr_t)(pa >> VIEW_PAGE_SHIFT));
}

static void stop_waiting(Exec *exec, CodePage *page)
{
    if (page->waits) {
        page->waits = false;
        g_ptr_array_remove_fast(exec->waiting, page);
        atomic_store(&exec->waiting_count, exec->waiting->len);
    }
}

static void page_free(Exec *exec, CodePage *page)
{
    drop_entries(exec, page->pa, ENTRIES_EXEC);
    bus_set_code_page(exec->bus, page->pa, false);
    stop_waiting(exec, page);
    g_ptr_array_add(exec->entries_free, page->entries);
    g_hash_table_remove(exec->pages, (void *)(uintptr_t)(page->pa >> VIEW_PAGE_SHIFT));
    g_free(page);
}

static CodePage *page_new(Exec *exec, u64 pa, const u8 *host)
{
    CodePage *page = g_new0(CodePage, 1);
    if (exec->entries_free->len) {
        page->entries =
            g_ptr_array_steal_index_fast(exec->entries_free, exec->entries_free->len - 1);
    } else {
        page->entries = &exec->entries_base[exec->entries_used++];
    }
    for (unsigned i = 0; i < ARRAY_LEN(page->entries->entry); i++) {
        page->entries->entry[i] = exec->miss;
    }
    page->pa = pa;
    page->host = host;
    page->dirty = true; /* not protected yet */
    g_hash_table_insert(exec->pages, (void *)(uintptr_t)(pa >> VIEW_PAGE_SHIFT), page);
    return page;
}

/* The bus's dirty callback: somebody is about to write to a page that holds translated code. */
static void page_written(void *opaque, u64 pa)
{
    Exec *exec = opaque;
    g_rec_mutex_lock(&exec->lock);
    bus_set_code_page(exec->bus, pa, false);
    CodePage *page = page_find(exec, pa);
    if (page && !page->dirty) {
        page->dirty = true;
        page->bounces++;
        drop_entries(exec, pa, ENTRIES_EXEC);
    }
    g_rec_mutex_unlock(&exec->lock);
}

/* Makes a page fit to be entered: its blocks agree with its bytes, and stores to it will be seen
 * (or it waits). */
static void page_clean(Exec *exec, CpuState *cpu, CodePage *page)
{
    if (!page->dirty && !page->waits) {
        return;
    }
    stop_waiting(exec, page);
    u64 now = cpu_insns(cpu);
    if (now - page->bounce_start > BOUNCE_WINDOW) {
        page->bounce_start = now;
        page->bounces = 0;
    }
    if (page->bounces > BOUNCE_LIMIT) {
        page->waits = true;
        g_ptr_array_add(exec->waiting, page);
        atomic_store(&exec->waiting_count, exec->waiting->len);
    } else {
        bus_set_code_page(exec->bus, page->pa, true);
        drop_entries(exec, page->pa, ENTRIES_WRITE);
    }
    page->dirty = false;
    for (PageMember *m = page->blocks, *next; m; m = next) {
        next = m->next;
        if (block_hash(m->block) != m->block->hash) {
            drop_block(exec, m->block);
        }
    }
}

/* Pages that wait are compared again when they are entered next. */
static void end_waiting(Exec *exec, bool forget_bounces)
{
    if (!atomic_load(&exec->waiting_count)) {
        return; /* as nearly always */
    }
    g_rec_mutex_lock(&exec->lock);
    while (exec->waiting->len) {
        CodePage *page = exec->waiting->pdata[exec->waiting->len - 1];
        stop_waiting(exec, page);
        page->dirty = true;
        if (forget_bounces) {
            page->bounces = 0;
        }
        drop_entries(exec, page->pa, ENTRIES_EXEC);
    }
    g_rec_mutex_unlock(&exec->lock);
}

void exec_fence_i(Exec *exec, CpuState *cpu)
{
    (void)cpu;
    end_waiting(exec, true);
}

void exec_trap_return(Exec *exec, CpuState *cpu)
{
    (void)cpu;
    end_waiting(exec, false);
}

/* --- the code cache --------------------------------------------------------------------------- */

static void region_evict(Exec *exec, CacheRegion *r)
{
    if (!r->blocks) {
        return; /* exec_new failed half-way */
    }
    u32 count = atomic_load(&r->block_count);
    for (u32 i = 0; i < count; i++) {
        Block *b = r->blocks[i];
        if (b->member.prev) { /* not dropped already */
            CodePage *pages[2] = {b->page, b->page2};
            drop_block(exec, b);
            for (unsigned k = 0; k < 2; k++) {
                if (pages[k] && !pages[k]->blocks) {
                    page_free(exec, pages[k]);
                }
            }
        }
    }
    atomic_store(&r->block_count, 0);
    g_ptr_array_set_size(r->arena, 0);
    r->used = r->start;
}

/* The region to compile into, with `room` bytes free after `used` if that is possible at all. */
static CacheRegion *region_next(Exec *exec)
{
    exec->current = (exec->current + 1) % REGIONS;
    CacheRegion *r = &exec->regions[exec->current];
    if (atomic_load(&r->block_count)) {
        region_evict(exec, r);
    }
    return r;
}

/* A page of the code cache costs two page faults, one for each mapping: a thread takes them ahead
 * of the harts, from `start` on. If it comes late, they are taken where they happen. */
static void prefault(gpointer start, gpointer opaque)
{
#ifdef MADV_POPULATE_WRITE
    const Exec *exec = opaque;
    const u64 address = (u64)(uintptr_t)start;
    const u64 size = MIN(PREFAULT, (u64)(uintptr_t)exec->space.exec + exec->space.size - address);
    madvise(code_writable(&exec->space, address), size, MADV_POPULATE_WRITE);
    madvise(start, size, MADV_POPULATE_READ);
#else
    (void)start, (void)opaque;
#endif
}

static void region_prefault(Exec *exec, CacheRegion *r)
{
    if (r->used + PREFAULT > r->prefaulted && r->prefaulted < r->end) {
        g_thread_pool_push(exec->prefaulter, (void *)(uintptr_t)r->prefaulted, NULL);
        r->prefaulted += PREFAULT;
    }
}

void exec_flush(Exec *exec)
{
    g_rec_mutex_lock(&exec->lock);
    for (unsigned i = 0; i < REGIONS; i++) {
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

/* The page that a fetch led to, clean, with an execute entry in the current view. Lock held. */
static CodePage *enter_page(Exec *exec, CpuState *cpu, u64 va, const MmuFetch *fetch)
{
    CodePage *page = page_find(exec, fetch->page_pa);
    if (!page) {
        if (exec->entries_used == MAX_CODE_PAGES && !exec->entries_free->len) {
            exec_flush(exec);
        }
        page = page_new(exec, fetch->page_pa, fetch->host);
    }
    page_clean(exec, cpu, page);
    if (exec->config.links) {
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
        fprintf(log_file(), "OUT: 0x%016" PRIx64 " [%u bytes]\n", pc, code->size);
        exec->ops.disassemble_host(log_file(), exec->ops.backend, code->start, code->size);
    }
    log_unlock();
}

/* Compiles IR into the cache, making room if need be. */
static CacheRegion *compile(Exec *exec, const IrBlock *ir, u32 next_page_expected,
                            CompiledBlock *code)
{
    CacheRegion *r = &exec->regions[exec->current];
    for (unsigned tries = 0;; tries++) {
        region_prefault(exec, r);
        if (atomic_load(&r->block_count) < (r->end - r->start) / MIN_BLOCK_SIZE &&
            exec->ops.compile(exec->ops.backend, ir, next_page_expected, r->used, r->end - r->used,
                              code)) {
            return r;
        }
        g_assert(tries < 2); /* an empty region holds any block */
        r = region_next(exec);
    }
}

/* Makes the block for pc and returns its entry point, 0 if a trap was taken instead, or the
 * instruction has to be run alone (*alone). Lock held. */
static u32 translate(Exec *exec, ExecHart *h, CodePage *page, u64 pc, bool *alone)
{
    CpuState *cpu = h->cpu;
    u32 offset = (u32)(pc & (VIEW_PAGE_SIZE - 1));
    IrBlock ir = {.insns = h->insns};
    CodePage *page2 = NULL;
    u64 page_pa = page->pa;

    if (!exec->ops.translate(exec->ops.opaque, page->host, offset, NULL, exec->config.max_insns,
                             &ir)) {
        MmuFetch fetch;
        u64 next_va = next_page_va(exec, pc);
        if (!fetch_page(exec, cpu, next_va, &fetch)) {
            return 0;
        }
        /* One frame at both addresses: a block is on the list of a page once. */
        if (fetch.limited || !exec->config.links || fetch.page_pa == page_pa) {
            *alone = true;
            return 0;
        }
        page2 = enter_page(exec, cpu, next_va, &fetch);
        page = page_find(exec, page_pa);
        if (!page) { /* entering the second page emptied the cache */
            return 0;
        }
        ir = (IrBlock){.insns = h->insns};
        exec->ops.translate(exec->ops.opaque, page->host, offset, page2->host, 1, &ir);
    }
    if (log_on(LOG_IN_ASM | LOG_OP)) {
        log_block(exec, &ir, page->host, page2 ? page2->host : NULL, pc);
    }
    check_ir(&ir, "translation");
    opt_fold(&ir); /* the backend passes over what is dead */
    if (log_on(LOG_OP_OPT)) {
        opt_drop_dead(&ir);
    }
    check_ir(&ir, "optimisation");

    CompiledBlock code;
    /* Making room may forget the pages that this block is about to belong to: hold them by a
     * member. */
    PageMember hold = {0}, hold2 = {0};
    LIST_ADD(page->blocks, &hold);
    if (page2) {
        LIST_ADD(page2->blocks, &hold2);
    }
    CacheRegion *r = compile(exec, &ir, page2 ? entries_address(page2) : 0, &code);
    LIST_REMOVE(&hold);
    if (page2) {
        LIST_REMOVE(&hold2);
    }
    if (log_on(LOG_OP_OPT | LOG_OUT_ASM)) {
        log_compiled(exec, &ir, &code, pc);
    }

    Block *b = arena_alloc(r, sizeof(Block) + code.link_count * sizeof(Link));
    *b = (Block){.start = code.start,
                 .size = code.size,
                 .tables = code.tables,
                 .offset = (u16)offset,
                 .bytes = (u16)ir.guest_bytes,
                 .page = page,
                 .page2 = page2,
                 .link_count = code.link_count};
    for (u32 i = 0; i < code.link_count; i++) {
        b->links[i] = (Link){.code = code.links[i], .from = b};
    }
    b->hash = block_hash(b);
    b->member.block = b->member2.block = b;
    LIST_ADD(page->blocks, &b->member);
    if (page2) {
        LIST_ADD(page2->blocks, &b->member2);
    }
    u32 count = atomic_load(&r->block_count);
    r->blocks[count] = b;
    atomic_store(&r->block_count, count + 1);
    r->used = (u32)ALIGN_UP(MAX(code.start + code.size, r->used + MIN_BLOCK_SIZE), BLOCK_ALIGN);
    page->entries->entry[offset / 2] = code.start;

    if (exec->config.perf_map) {
        fprintf(exec->config.perf_map, "%x %x guest_%" PRIx64 "\n", code.start, code.size, pc);
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

/* The entry point for pc; 0 if a trap was taken or the instruction has to be run alone (*alone). */
static u32 find_entry(Exec *exec, ExecHart *h, bool *alone)
{
    CpuState *cpu = h->cpu;
    u64 pc = cpu->pc;
    MmuFetch fetch;

    if (!fetch_page(exec, cpu, pc, &fetch)) {
        return 0;
    }
    if (fetch.limited) {
        *alone = true;
        return 0;
    }
    g_rec_mutex_lock(&exec->lock);
    CodePage *page = enter_page(exec, cpu, pc, &fetch);
    u32 entry = page->entries->entry[(pc & (VIEW_PAGE_SIZE - 1)) / 2];
    if (entry == exec->miss) {
        entry = translate(exec, h, page, pc, alone);
    }
    g_rec_mutex_unlock(&exec->lock);
    return entry;
}

/* The entry point for pc if the execute table has it, else 0. */
static u32 quick_entry(const Exec *exec, CpuState *cpu)
{
    if (!view_canonical(cpu->pc)) {
        return 0;
    }
    u64 e = *view_entry(cpu->view, VIEW_EXEC_OFFSET, cpu->pc);
    if (!e) {
        return 0;
    }
    u32 entry = *(const u32 *)(uintptr_t)(e + 2 * cpu->pc);
    return entry == exec->miss ? 0 : entry;
}

/* Links the jump that ended the last run to the block at `entry`, which it led to. */
static void link_jump(Exec *exec, u32 jump, u32 entry)
{
    g_rec_mutex_lock(&exec->lock);
    Block *from = find_block(exec, jump);
    Block *to = find_block(exec, entry);
    if (from && to && from->member.prev && to->member.prev) {
        for (u32 i = 0; i < from->link_count; i++) {
            Link *link = &from->links[i];
            if (link->code.jump != jump) {
                continue;
            }
            /* If making `to` emptied the region of the block that jumped, `from` may be another one
             * in its place, with a jump to somewhere else. */
            if (((u32)link->code.target & (VIEW_PAGE_SIZE - 1)) != to->offset) {
                break;
            }
            bool same_page = link->code.expect == 0;
            if (!link->to && (!same_page || from->page == to->page)) {
                exec->ops.link(exec->ops.backend, &link->code, entry, entries_address(to->page));
                link->to = to;
                LIST_ADD(to->incoming, link);
            } else if (link->to && !same_page && link->to->page != to->page) {
                /* The target's page is mapped elsewhere now: follow the latest. */
                unlink_jump(exec, link);
                exec->ops.link(exec->ops.backend, &link->code, entry, entries_address(to->page));
                link->to = to;
                LIST_ADD(to->incoming, link);
            }
            break;
        }
    }
    g_rec_mutex_unlock(&exec->lock);
}

/* A straddling block's second page is not what it was made with: look again. Returns an entry as
 * find_entry. */
static u32 next_page_changed(Exec *exec, ExecHart *h, bool *alone)
{
    CpuState *cpu = h->cpu;
    u64 next_va = next_page_va(exec, cpu->pc);
    MmuFetch fetch;

    u32 entry = find_entry(exec, h, alone);
    if (!entry || !fetch_page(exec, cpu, next_va, &fetch)) {
        return 0;
    }
    if (fetch.limited) {
        *alone = true;
        return 0;
    }
    g_rec_mutex_lock(&exec->lock);
    CodePage *page2 = enter_page(exec, cpu, next_va, &fetch);
    Block *b = find_block(exec, entry);
    if (b && b->member.prev && b->page2 != page2) {
        drop_block(exec, b);
    }
    g_rec_mutex_unlock(&exec->lock);
    /* The second page's execute entry is back; if the bytes or the page differ there is no block
     * now. */
    return find_entry(exec, h, alone);
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

CpuExit exec_run(Exec *exec, CpuState *cpu, u64 max_insns)
{
    ExecHart *h = cpu->exec;
    u64 end = max_insns ? cpu_insns(cpu) + max_insns : 0;
    u32 jump = 0;         /* the jump to link to the next block */
    bool changed = false; /* left by EXIT_NEXT_PAGE */
    bool inside = false;  /* left by EXIT_BUDGET: the limit falls into the block at pc */

    h->thread = pthread_self();
    for (;;) {
        u64 left = max_insns ? end - cpu_insns(cpu) : BIG_BUDGET;
        if ((s64)left <= 0) {
            return EXIT_BUDGET;
        }
        if (atomic_load(&cpu->pending) & PENDING_FLUSH) {
            process_dropped(exec, h);
        }
        if (atomic_load(&cpu->pending)) {
            return EXIT_BUDGET;
        }

        bool alone = inside && max_insns;
        inside = false;
        u32 entry = alone ? 0 : changed ? next_page_changed(exec, h, &alone) : quick_entry(exec, cpu);
        if (!entry && !changed && !alone) {
            entry = find_entry(exec, h, &alone);
        }
        changed = false;
        if (!entry && !alone) {
            jump = 0;
            continue; /* a trap was taken: pc is its handler */
        }

        CpuExit exit;
        if (alone) {
            jump = 0;
            exit = run_alone(exec, h);
        } else {
            if (jump && exec->config.links) {
                link_jump(exec, jump, entry);
            }
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
        case EXIT_HALT:
            return exit;
        }
        if (exit != EXIT_LINK) {
            jump = 0;
        }
    }
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
    exec->pages = g_hash_table_new(NULL, NULL);
    exec->entries_free = g_ptr_array_new();
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
    exec->entries_base =
        (CodePageEntries *)(ALIGN_UP((uintptr_t)exec->entries_map + VIEW_PAGE_SIZE,
                                     sizeof(CodePageEntries)) -
                            VIEW_PAGE_SIZE);
    u32 first = (u32)(uintptr_t)space->exec + EXEC_STUB_AREA;
    u32 size = (u32)ALIGN_DOWN((space->size - EXEC_STUB_AREA) / REGIONS, 4096);
    for (unsigned i = 0; i < REGIONS; i++) {
        CacheRegion *r = &exec->regions[i];
        r->start = r->used = r->prefaulted = first + i * size;
        r->end = r->start + size;
        r->arena = g_ptr_array_new_with_free_func(free);
        r->blocks = mmap(NULL, size / MIN_BLOCK_SIZE * sizeof(Block *), PROT_READ | PROT_WRITE,
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
    for (unsigned i = 0; i < REGIONS; i++) {
        CacheRegion *r = &exec->regions[i];
        if (r->arena) {
            g_ptr_array_free(r->arena, TRUE);
        }
        if (r->blocks) {
            munmap(r->blocks, (r->end - r->start) / MIN_BLOCK_SIZE * sizeof(Block *));
        }
    }
    if (exec->entries_map) {
        munmap(exec->entries_map, ENTRIES_BYTES);
    }
    g_thread_pool_free(exec->prefaulter, TRUE, TRUE);
    exec_code_space_free(&exec->space);
    g_hash_table_destroy(exec->pages);
    g_ptr_array_free(exec->entries_free, TRUE);
    g_ptr_array_free(exec->waiting, TRUE);
    g_ptr_array_free(exec->harts, TRUE);
    g_rec_mutex_clear(&exec->lock);
    g_free(exec);
}

void exec_add_hart(Exec *exec, CpuState *cpu)
{
    ExecHart *h = g_new0(ExecHart, 1);
    h->cpu = cpu;
    h->thread = pthread_self();
    h->drop_exec = g_array_new(FALSE, FALSE, sizeof(u64));
    h->drop_write = g_array_new(FALSE, FALSE, sizeof(u64));
    cpu->exec = h;
    g_ptr_array_add(exec->harts, h);
}

void exec_remove_hart(Exec *exec, CpuState *cpu)
{
    ExecHart *h = cpu->exec;
    g_ptr_array_remove(exec->harts, h);
    g_array_free(h->drop_exec, TRUE);
    g_array_free(h->drop_write, TRUE);
    cpu->exec = NULL;
    g_free(h);
}
