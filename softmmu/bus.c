/*
 * The physical bus: a sorted array of regions. A lookup is a binary search, after a look at the
 * biggest piece of RAM, where nearly every address is. What makes accesses safe is that each of
 * them finds its region first and is then compared with the region's size, without arithmetic that
 * could wrap.
 */
#include "softmmu/bus.h"

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "softmmu/bus-region.h"
#include "softmmu/layout.h"

#define PAGE ((u64)4096)

struct Bus {
    GPtrArray *regions; /* of BusRegion, ascending, without overlap */
    BusRegion *main;    /* the biggest RAM, or NULL */
    u64 pages;          /* of memory, in all regions */
    void (*dirty)(void *opaque, u64 page_pa);
    void *dirty_opaque;
};

/* ---- Regions ---- */

static void region_free(gpointer p)
{
    BusRegion *b = p;
    if (b->code) {
        guest_memory_free(b->r.host, b->r.size);
        g_free((void *)b->code);
        g_free((void *)b->writers);
    }
    g_free(b);
}

Bus *bus_new(void)
{
    Bus *bus = g_new0(Bus, 1);
    bus->regions = g_ptr_array_new_with_free_func(region_free);
    return bus;
}

void bus_free(Bus *bus)
{
    if (bus) {
        g_ptr_array_free(bus->regions, true);
        g_free(bus);
    }
}

const GPtrArray *bus_regions(const Bus *bus)
{
    return bus->regions;
}

/* How many regions begin at or below pa. */
static unsigned regions_below(const Bus *bus, u64 pa)
{
    unsigned lo = 0, hi = bus->regions->len;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        const BusRegion *b = g_ptr_array_index(bus->regions, mid);
        if (b->r.base <= pa) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

static BusRegion *find(const Bus *bus, u64 pa)
{
    BusRegion *b = bus->main;
    if (b && pa - b->r.base < b->r.size) {
        return b;
    }
    unsigned n = regions_below(bus, pa);
    if (n == 0) {
        return NULL;
    }
    b = g_ptr_array_index(bus->regions, n - 1);
    return pa - b->r.base < b->r.size ? b : NULL;
}

Region *bus_find(Bus *bus, u64 pa)
{
    BusRegion *b = find(bus, pa);
    return b ? &b->r : NULL;
}

BusRegion *bus_memory_at(Bus *bus, u64 pa)
{
    BusRegion *b = find(bus, pa);
    return b && b->code ? b : NULL;
}

/* Whether base and size make a range that is free, and where it goes in the array. */
static bool place(const Bus *bus, const char *name, u64 base, u64 size, unsigned *at, GError **err)
{
    u64 last = base + size - 1;
    if (size == 0 || last < base) {
        return stag_error(err,
                          "%s: 0x%" G_GINT64_MODIFIER "x bytes at 0x%" G_GINT64_MODIFIER
                          "x are no range of addresses",
                          name, size, base);
    }
    unsigned n = regions_below(bus, last);
    if (n > 0) {
        const BusRegion *b = g_ptr_array_index(bus->regions, n - 1);
        if (b->r.base + (b->r.size - 1) >= base) {
            return stag_error(
                err, "%s at 0x%" G_GINT64_MODIFIER "x overlaps %s at 0x%" G_GINT64_MODIFIER "x",
                name, base, b->r.name, b->r.base);
        }
    }
    *at = n;
    return true;
}

Region *bus_add_memory(Bus *bus, const char *name, RegionKind kind, u64 base, u64 size,
                       GError **err)
{
    unsigned at;
    g_assert(kind != REGION_MMIO);
    if ((base | size) % PAGE) {
        stag_error(err, "%s: memory has to begin and end at multiples of 4 KiB", name);
        return NULL;
    }
    if (!place(bus, name, base, size, &at, err)) {
        return NULL;
    }
    if (size > GUEST_MEMORY_MAX || bus->pages + size / PAGE > GUEST_MEMORY_MAX / PAGE) {
        stag_error(err, "%s: a guest can have %u GiB of memory at most", name,
                   (unsigned)(GUEST_MEMORY_MAX >> 30));
        return NULL;
    }
    u8 *host = guest_memory_alloc(size, err);
    if (!host) {
        return NULL;
    }
    BusRegion *b = g_new0(BusRegion, 1);
    b->r = (Region){.name = name, .kind = kind, .base = base, .size = size, .host = host};
    b->first_page = (u32)bus->pages;
    b->code = g_malloc0((size / PAGE + 63) / 64 * sizeof(u64));
    b->writers = g_malloc0(size / PAGE * sizeof(u32));
    bus->pages += size / PAGE;
    g_ptr_array_insert(bus->regions, (int)at, b);
    if (kind == REGION_RAM && (!bus->main || bus->main->r.size < size)) {
        bus->main = b;
    }
    return &b->r;
}

Region *bus_add_mmio(Bus *bus, const char *name, u64 base, u64 size, const MmioOps *ops,
                     void *opaque, GMutex *lock, GError **err)
{
    unsigned at;
    if (!place(bus, name, base, size, &at, err)) {
        return NULL;
    }
    BusRegion *b = g_new0(BusRegion, 1);
    b->r = (Region){.name = name,
                    .kind = REGION_MMIO,
                    .base = base,
                    .size = size,
                    .ops = ops,
                    .opaque = opaque,
                    .lock = lock};
    g_ptr_array_insert(bus->regions, (int)at, b);
    return &b->r;
}

/* ---- Code pages ---- */

static _Atomic u64 *code_word(const BusRegion *m, u64 pa, u64 *bit)
{
    u64 page = (pa - m->r.base) / PAGE;
    *bit = (u64)1 << page % 64;
    return &m->code[page / 64];
}

bool bus_region_is_code(const BusRegion *m, u64 pa)
{
    u64 bit;
    return atomic_load(code_word(m, pa, &bit)) & bit;
}

void bus_set_code_page(Bus *bus, u64 pa, bool is_code)
{
    BusRegion *m = bus_memory_at(bus, pa);
    if (m) {
        u64 bit;
        _Atomic u64 *word = code_word(m, pa, &bit);
        if (is_code) {
            atomic_fetch_or(word, bit);
        } else {
            atomic_fetch_and(word, ~bit);
        }
    }
}

u32 bus_take_writers(Bus *bus, u64 pa, u32 harts)
{
    BusRegion *m = bus_memory_at(bus, pa);
    return m ? atomic_fetch_and(bus_region_writers(m, pa), ~harts) & harts : 0;
}

bool bus_is_code_page(Bus *bus, u64 pa)
{
    BusRegion *m = bus_memory_at(bus, pa);
    return m && bus_region_is_code(m, pa);
}

void bus_set_dirty_callback(Bus *bus, void (*fn)(void *opaque, u64 page_pa), void *opaque)
{
    bus->dirty = fn;
    bus->dirty_opaque = opaque;
}

void bus_report_write(Bus *bus, const BusRegion *m, u64 pa)
{
    if (bus->dirty && bus_region_is_code(m, pa)) {
        bus->dirty(bus->dirty_opaque, ALIGN_DOWN(pa, PAGE));
    }
}

/* Reports the pages of [pa, pa + len), which lies in m and has just been written; len > 0. The
 * translator marks a page before it reads it, and here the mark is read after the bytes have been
 * written: one of the two sees what the other did. */
static void report_range(Bus *bus, const BusRegion *m, u64 pa, u64 len)
{
    atomic_thread_fence(memory_order_seq_cst);
    u64 last = pa + (len - 1);
    for (u64 page = ALIGN_DOWN(pa, PAGE);; page += PAGE) {
        bus_report_write(bus, m, page);
        if (last - page < PAGE) {
            break;
        }
    }
}

/* ---- Single accesses ---- */

u64 host_load(const u8 *host, unsigned size)
{
    u64 value = 0;
    if (((uintptr_t)host & (size - 1)) == 0) {
        switch (size) {
        case 1:
            return __atomic_load_n(host, __ATOMIC_RELAXED);
        case 2:
            return __atomic_load_n((const u16 *)host, __ATOMIC_RELAXED);
        case 4:
            return __atomic_load_n((const u32 *)host, __ATOMIC_RELAXED);
        default:
            return __atomic_load_n((const u64 *)host, __ATOMIC_RELAXED);
        }
    }
    memcpy(&value, host, size);
    return value;
}

void host_store(u8 *host, unsigned size, u64 value)
{
    if (((uintptr_t)host & (size - 1)) == 0) {
        switch (size) {
        case 1:
            __atomic_store_n(host, (u8)value, __ATOMIC_RELAXED);
            return;
        case 2:
            __atomic_store_n((u16 *)host, (u16)value, __ATOMIC_RELAXED);
            return;
        case 4:
            __atomic_store_n((u32 *)host, (u32)value, __ATOMIC_RELAXED);
            return;
        default:
            __atomic_store_n((u64 *)host, value, __ATOMIC_RELAXED);
            return;
        }
    }
    memcpy(host, &value, size);
}

/* The largest naturally aligned piece at `offset` of an access with `left` bytes to go. */
static unsigned mmio_piece(u64 offset, unsigned left, unsigned max)
{
    unsigned piece = max;
    while (piece > left || offset % piece) {
        piece /= 2;
    }
    return piece;
}

/* Splits an access as the device wants it. Whether the device takes the pieces' size is settled
 * before the first. */
static bool mmio_access(const Region *r, u64 offset, unsigned size, u64 *value, bool is_write)
{
    unsigned min = r->ops->min_size ? r->ops->min_size : 1;
    unsigned max = r->ops->max_size ? r->ops->max_size : 8;
    unsigned piece;
    bool ok = true;
    u64 result = 0;
    if (is_write ? !r->ops->write : !r->ops->read) {
        return false;
    }
    for (unsigned done = 0; done < size; done += piece) {
        piece = mmio_piece(offset + done, size - done, max);
        if (piece < min) {
            return false;
        }
    }
    if (r->lock) {
        g_mutex_lock(r->lock);
    }
    for (unsigned done = 0; done < size && ok; done += piece) {
        piece = mmio_piece(offset + done, size - done, max);
        if (is_write) {
            ok = r->ops->write(r->opaque, offset + done, piece, bits(*value, done * 8, piece * 8));
        } else {
            u64 part = 0;
            ok = r->ops->read(r->opaque, offset + done, piece, &part);
            result |= (part & mask64(piece * 8)) << (done * 8);
        }
    }
    if (r->lock) {
        g_mutex_unlock(r->lock);
    }
    if (!is_write && ok) {
        *value = result;
    }
    return ok;
}

/* The region that holds all of [pa, pa + len), or NULL. */
static BusRegion *find_all(const Bus *bus, u64 pa, u64 len)
{
    BusRegion *b = find(bus, pa);
    return b && len <= b->r.size - (pa - b->r.base) ? b : NULL;
}

bool bus_read(Bus *bus, u64 pa, unsigned size, u64 *value)
{
    BusRegion *b = find_all(bus, pa, size);
    if (!b) {
        return false;
    }
    if (b->r.kind == REGION_MMIO) {
        return mmio_access(&b->r, pa - b->r.base, size, value, false);
    }
    *value = host_load(bus_region_host(b, pa), size);
    return true;
}

bool bus_write(Bus *bus, u64 pa, unsigned size, u64 value)
{
    BusRegion *b = find_all(bus, pa, size);
    if (!b || b->r.kind == REGION_ROM) {
        return false;
    }
    if (b->r.kind == REGION_MMIO) {
        return mmio_access(&b->r, pa - b->r.base, size, &value, true);
    }
    host_store(bus_region_host(b, pa), size, value);
    report_range(bus, b, pa, size);
    return true;
}

/* ---- Bulk ---- */

/* Memory that DMA may use. Adjacent regions count as one range. */
static bool all_memory(const Bus *bus, u64 pa, u64 len, bool is_write, bool to_rom)
{
    if (len > 0 && pa + (len - 1) < pa) {
        return false;
    }
    while (len > 0) {
        BusRegion *b = find(bus, pa);
        if (!b || b->r.kind == REGION_MMIO || (is_write && b->r.kind == REGION_ROM && !to_rom)) {
            return false;
        }
        u64 n = b->r.size - (pa - b->r.base);
        if (n >= len) {
            break;
        }
        pa += n;
        len -= n;
    }
    return true;
}

static bool bulk_write(Bus *bus, u64 pa, const void *buf, u64 len, bool to_rom)
{
    const u8 *from = buf;
    if (!all_memory(bus, pa, len, true, to_rom)) {
        return false;
    }
    while (len > 0) {
        BusRegion *b = find(bus, pa);
        u64 n = MIN(len, b->r.size - (pa - b->r.base));
        memcpy(bus_region_host(b, pa), from, n);
        report_range(bus, b, pa, n);
        pa += n;
        from += n;
        len -= n;
    }
    return true;
}

bool bus_dma_read(Bus *bus, u64 pa, void *buf, u64 len)
{
    u8 *to = buf;
    if (!all_memory(bus, pa, len, false, false)) {
        return false;
    }
    while (len > 0) {
        BusRegion *b = find(bus, pa);
        u64 n = MIN(len, b->r.size - (pa - b->r.base));
        memcpy(to, bus_region_host(b, pa), n);
        pa += n;
        to += n;
        len -= n;
    }
    return true;
}

bool bus_dma_write(Bus *bus, u64 pa, const void *buf, u64 len)
{
    return bulk_write(bus, pa, buf, len, false);
}

bool bus_load(Bus *bus, u64 pa, const void *buf, u64 len)
{
    return bulk_write(bus, pa, buf, len, true);
}

void *bus_dma_map(Bus *bus, u64 pa, u64 len)
{
    BusRegion *b = find_all(bus, pa, len);
    return b && b->r.kind == REGION_RAM ? bus_region_host(b, pa) : NULL;
}

void bus_dma_dirty(Bus *bus, u64 pa, u64 len)
{
    BusRegion *b = len ? find_all(bus, pa, len) : NULL;
    if (b && b->code) {
        report_range(bus, b, pa, len);
    }
}

u64 bus_discard(Bus *bus, u64 pa, u64 len)
{
    u64 first = ALIGN_UP(pa, PAGE) - pa;
    if (!bus_dma_map(bus, pa, len) || len < first + PAGE) {
        return 0;
    }
    pa += first;
    len = ALIGN_DOWN(len - first, PAGE);
    if (madvise(bus_dma_map(bus, pa, len), len, MADV_DONTNEED) < 0) {
        return 0;
    }
    bus_dma_dirty(bus, pa, len);
    return len;
}
