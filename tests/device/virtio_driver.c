/* The driver's side of virtio 1.2, plain and slow. See virtio_driver.h. */
#include "tests/device/virtio_driver.h"

#include <string.h>

enum {
    REG_FEATURES = 0x10,
    REG_FEATURES_SEL = 0x14,
    REG_DRIVER_FEATURES = 0x20,
    REG_DRIVER_FEATURES_SEL = 0x24,
    REG_QUEUE_SEL = 0x30,
    REG_QUEUE_MAX = 0x34,
    REG_QUEUE_SIZE = 0x38,
    REG_QUEUE_READY = 0x44,
    REG_NOTIFY = 0x50,
    REG_ISR = 0x60,
    REG_ISR_ACK = 0x64,
    REG_STATUS = 0x70,
    REG_QUEUE_DESC = 0x80,
    REG_QUEUE_DRIVER = 0x90,
    REG_QUEUE_DEVICE = 0xa0,
    REG_CONFIG = 0x100,
};

enum { NEXT = 1, WRITE = 2, INDIRECT = 4, AVAIL = 1 << 7, USED = 1 << 15 };

bool driver_over_pci;

/* ---- The machine ---------------------------------------------------------------------------- */

static void on_line(void *opaque, unsigned n G_GNUC_UNUSED, bool level)
{
    Driver *d = opaque;
    __atomic_add_fetch(&d->interrupts, level, __ATOMIC_SEQ_CST);
    __atomic_store_n(&d->line, level, __ATOMIC_SEQ_CST);
}

Driver *driver_new(const VirtioClass *class, const char *text, const VirtioEnv *env)
{
    g_autoptr(GError) err = NULL;
    Driver *d = g_new0(Driver, 1);
    d->bus = bus_new();
    d->free = DRIVER_RAM + 0x10000;
    VirtioEnv e = env ? *env : (VirtioEnv){0};
    e.bus = d->bus;
    if (!bus_add_memory(d->bus, "ram", REGION_RAM, DRIVER_RAM, DRIVER_RAM_SIZE, &err)) {
        g_error("%s", err->message);
    }
    d->virtio = virtio_new(class, text, NULL, 0, &e, &err);
    if (!d->virtio) {
        g_error("%s", err->message);
    }
    if (driver_over_pci) {
        driver_pci_open(d);
        return d;
    }
    d->slot = device_new(&virtio_mmio_class, "slot", d->virtio, &err);
    g_assert(d->slot && device_attach(d->slot, d->bus, DRIVER_MMIO, &err));
    device_connect(d->slot, 0, (IrqLine){on_line, d, 0});
    return d;
}

void driver_free(Driver *d)
{
    if (d->pci) {
        driver_pci_close(d);
    }
    device_free(d->slot);
    virtio_free(d->virtio);
    bus_free(d->bus);
    g_free(d);
}

u64 driver_load(Driver *d, u64 addr, unsigned size)
{
    u64 value = 0;
    if (!bus_read(d->bus, addr, size, &value)) {
        g_error("load of %u bytes at 0x%" G_GINT64_MODIFIER "x", size, addr);
    }
    return value;
}

void driver_store(Driver *d, u64 addr, unsigned size, u64 value)
{
    if (!bus_write(d->bus, addr, size, value)) {
        g_error("store of %u bytes at 0x%" G_GINT64_MODIFIER "x", size, addr);
    }
}

void driver_put(Driver *d, u64 addr, const void *data, size_t n)
{
    g_assert(bus_dma_write(d->bus, addr, data, n));
}

void driver_get(Driver *d, u64 addr, void *data, size_t n)
{
    g_assert(bus_dma_read(d->bus, addr, data, n));
}

u64 driver_alloc(Driver *d, u64 size)
{
    u64 addr = d->free;
    g_autofree u8 *zeros = g_malloc0(size);
    d->free += (size + 15) & ~(u64)15;
    driver_put(d, addr, zeros, size);
    return addr;
}

u32 driver_read(Driver *d, unsigned reg)
{
    return d->pci ? driver_pci_read(d, reg, 4) : (u32)driver_load(d, DRIVER_MMIO + reg, 4);
}

void driver_write(Driver *d, unsigned reg, u32 value)
{
    if (d->pci) {
        driver_pci_write(d, reg, 4, value);
    } else {
        driver_store(d, DRIVER_MMIO + reg, 4, value);
    }
}

u32 driver_config(Driver *d, unsigned offset, unsigned size)
{
    return d->pci ? driver_pci_read(d, REG_CONFIG + offset, size)
                  : (u32)driver_load(d, DRIVER_MMIO + REG_CONFIG + offset, size);
}

void driver_set_config(Driver *d, unsigned offset, unsigned size, u32 value)
{
    if (d->pci) {
        driver_pci_write(d, REG_CONFIG + offset, size, value);
    } else {
        driver_store(d, DRIVER_MMIO + REG_CONFIG + offset, size, value);
    }
}

/* ---- Negotiation ---------------------------------------------------------------------------- */

u64 driver_offered(Driver *d)
{
    u64 features = 0;
    for (u32 page = 0; page < 2; page++) {
        driver_write(d, REG_FEATURES_SEL, page);
        features |= (u64)driver_read(d, REG_FEATURES) << (32 * page);
    }
    return features;
}

static bool add_status(Driver *d, u8 bit)
{
    driver_write(d, REG_STATUS, driver_read(d, REG_STATUS) | bit);
    return driver_read(d, REG_STATUS) & bit;
}

bool driver_negotiate(Driver *d, u64 wanted)
{
    driver_reset(d);
    add_status(d, VIRTIO_ACKNOWLEDGE);
    add_status(d, VIRTIO_DRIVER);
    d->features = driver_offered(d) & wanted;
    for (u32 page = 0; page < 2; page++) {
        driver_write(d, REG_DRIVER_FEATURES_SEL, page);
        driver_write(d, REG_DRIVER_FEATURES, (u32)(d->features >> (32 * page)));
    }
    return add_status(d, VIRTIO_FEATURES_OK);
}

void driver_go(Driver *d)
{
    add_status(d, VIRTIO_DRIVER_OK);
}

void driver_reset(Driver *d)
{
    driver_write(d, REG_STATUS, 0);
}

void driver_machine_reset(Driver *d)
{
    device_reset(d->pci ? driver_pci_function(d) : d->slot);
    if (d->pci) {
        driver_pci_set_up(d);
    }
}

bool driver_is_broken(Driver *d)
{
    return driver_read(d, REG_STATUS) & VIRTIO_NEEDS_RESET;
}

u32 driver_ack(Driver *d)
{
    u32 isr = driver_read(d, REG_ISR);
    driver_write(d, REG_ISR_ACK, isr);
    return isr;
}

/* ---- Rings ---------------------------------------------------------------------------------- */

static bool has(const Ring *r, unsigned feature)
{
    return r->driver->features >> feature & 1;
}

static bool packed(const Ring *r)
{
    return has(r, VIRTIO_F_RING_PACKED);
}

static void write_address(Driver *d, unsigned reg, u64 addr)
{
    driver_write(d, reg, (u32)addr);
    driver_write(d, reg + 4, (u32)(addr >> 32));
}

Ring *ring_new(Driver *d, unsigned queue, u16 size)
{
    Ring *r = g_new0(Ring, 1);
    r->driver = d;
    r->queue = queue;
    driver_write(d, REG_QUEUE_SEL, queue);
    r->size = size ? size : (u16)driver_read(d, REG_QUEUE_MAX);
    g_assert(r->size && r->size <= 1024 && driver_read(d, REG_QUEUE_READY) == 0);
    r->desc = driver_alloc(d, 16u * r->size);
    r->avail = driver_alloc(d, 6 + 2u * r->size);
    r->used = driver_alloc(d, 6 + 8u * r->size);
    r->avail_wrap = r->used_wrap = true;
    r->want_interrupts = true;
    for (u16 i = 0; i < r->size; i++) {
        r->free[i] = (u16)(r->size - 1 - i);
    }
    r->free_count = r->size;
    driver_write(d, REG_QUEUE_SIZE, r->size);
    write_address(d, REG_QUEUE_DESC, r->desc);
    write_address(d, REG_QUEUE_DRIVER, r->avail);
    write_address(d, REG_QUEUE_DEVICE, r->used);
    driver_write(d, REG_QUEUE_READY, 1);
    return r;
}

void ring_free(Ring *r)
{
    g_free(r);
}

static void store_desc(Driver *d, u64 at, Piece p, u16 flags, u16 tag, bool packed)
{
    driver_store(d, at, 8, p.addr);
    driver_store(d, at + 8, 4, p.len);
    driver_store(d, at + (packed ? 14 : 12), 2, flags);
    driver_store(d, at + (packed ? 12 : 14), 2, tag);
}

/* The words that make others visible, and those that say what is visible: in order with everything
 * before or behind them, as a driver's barriers have it. */
static void publish(Driver *d, u64 addr, u16 value)
{
    __atomic_store_n((u16 *)bus_dma_map(d->bus, addr, 2), value, __ATOMIC_SEQ_CST);
    bus_dma_dirty(d->bus, addr, 2);
}

static u16 observe(Driver *d, u64 addr)
{
    return __atomic_load_n((u16 *)bus_dma_map(d->bus, addr, 2), __ATOMIC_SEQ_CST);
}

/* A full one, in a form that the thread sanitizer knows. */
static void fence(void)
{
    static int word;
    __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
}

/* The table of an indirect descriptor. Entries of a split one are chained. */
static Piece make_table(Ring *r, const Piece *pieces, unsigned out, unsigned in)
{
    unsigned n = out + in;
    Piece table = {driver_alloc(r->driver, 16u * n), 16u * n};
    for (unsigned i = 0; i < n; i++) {
        u16 flags = (i >= out ? WRITE : 0) | (i + 1 < n && !packed(r) ? NEXT : 0);
        store_desc(r->driver, table.addr + 16 * i, pieces[i], flags, (u16)(i + 1), packed(r));
    }
    return table;
}

static u16 add_split(Ring *r, const Piece *pieces, unsigned out, unsigned in, u16 flags)
{
    Driver *d = r->driver;
    unsigned n = out + in;
    g_assert(n && n <= r->free_count);
    u16 head = r->free[r->free_count - 1];
    for (unsigned i = 0; i < n; i++) {
        u16 at = r->free[--r->free_count];
        u16 next = i + 1 < n ? r->free[r->free_count - 1] : 0;
        u16 f = flags | (i >= out && !flags ? WRITE : 0) | (i + 1 < n ? NEXT : 0);
        store_desc(d, r->desc + 16u * at, pieces[i], f, next, false);
    }
    r->count[head] = (u16)n;
    driver_store(d, r->avail + 4 + 2u * (r->next_avail % r->size), 2, head);
    publish(d, r->avail + 2, ++r->next_avail);
    r->added++;
    return head;
}

static u16 add_packed(Ring *r, const Piece *pieces, unsigned out, unsigned in, u16 flags)
{
    Driver *d = r->driver;
    unsigned n = out + in;
    g_assert(n && r->free_count);
    u16 id = r->free[--r->free_count], first_flags = 0;
    u64 first = r->desc + 16u * r->next_avail;
    r->count[id] = (u16)n;
    for (unsigned i = 0; i < n; i++) {
        u16 f = flags | (i >= out && !flags ? WRITE : 0) | (i + 1 < n ? NEXT : 0) |
                (r->avail_wrap ? AVAIL : USED);
        u64 at = r->desc + 16u * r->next_avail;
        if (i == 0) { /* visible last */
            first_flags = f;
            f = (u16)driver_load(d, at + 14, 2);
        }
        store_desc(d, at, pieces[i], f, id, true);
        if (++r->next_avail == r->size) {
            r->next_avail = 0;
            r->avail_wrap = !r->avail_wrap;
        }
    }
    publish(d, first + 14, first_flags);
    r->added += n;
    return id;
}

u16 ring_add(Ring *r, const Piece *pieces, unsigned out, unsigned in)
{
    u16 flags = 0;
    Piece table;
    if (r->indirect) {
        table = make_table(r, pieces, out, in);
        pieces = &table;
        out = 1;
        in = 0;
        flags = INDIRECT;
    }
    return (packed(r) ? add_packed : add_split)(r, pieces, out, in, flags);
}

static bool device_wants_kick(Ring *r)
{
    Driver *d = r->driver;
    u16 added = r->added;
    if (packed(r)) {
        u32 word = (u32)driver_load(d, r->used, 4);
        u16 event = word & 0x7fff;
        event -= !!(word & 0x8000) != r->avail_wrap ? r->size : 0;
        return word >> 16 == 2 ? (u16)(r->next_avail - event - 1) < added : word >> 16 == 0;
    }
    if (has(r, VIRTIO_F_EVENT_IDX)) {
        u16 event = (u16)driver_load(d, r->used + 4 + 8u * r->size, 2);
        return (u16)(r->next_avail - event - 1) < added;
    }
    return !(driver_load(d, r->used, 2) & 1);
}

bool ring_kick(Ring *r)
{
    fence();
    bool wanted = device_wants_kick(r);
    r->added = 0;
    if (wanted) {
        driver_write(r->driver, REG_NOTIFY, r->queue);
    }
    return wanted;
}

static void ring_event(Ring *r)
{
    Driver *d = r->driver;
    bool event = has(r, VIRTIO_F_EVENT_IDX);
    if (packed(r)) {
        u32 flags = !r->want_interrupts ? 1 : event ? 2 : 0;
        driver_store(d, r->avail, 4, flags << 16 | (u32)r->used_wrap << 15 | r->next_used);
    } else if (event) {
        u16 at = r->want_interrupts ? r->next_used : (u16)(r->next_used - 1);
        driver_store(d, r->avail + 4 + 2u * r->size, 2, at);
    } else {
        driver_store(d, r->avail, 2, r->want_interrupts ? 0 : 1);
    }
    fence();
}

void ring_interrupts(Ring *r, bool on)
{
    r->want_interrupts = on;
    ring_event(r);
}

bool ring_get(Ring *r, u16 *id, u32 *len)
{
    Driver *d = r->driver;
    unsigned n;
    if (packed(r)) {
        u64 at = r->desc + 16u * r->next_used;
        u16 flags = observe(d, at + 14);
        if (!!(flags & AVAIL) != r->used_wrap || !!(flags & USED) != r->used_wrap) {
            return false;
        }
        *id = (u16)driver_load(d, at + 12, 2);
        *len = (u32)driver_load(d, at + 8, 4);
        g_assert(*id < r->size && r->count[*id]);
        n = r->count[*id];
        r->next_used += n;
        if (r->next_used >= r->size) {
            r->next_used -= r->size;
            r->used_wrap = !r->used_wrap;
        }
        r->free[r->free_count++] = *id;
    } else {
        if (observe(d, r->used + 2) == r->next_used) {
            return false;
        }
        u64 at = r->used + 4 + 8u * (r->next_used % r->size);
        *id = (u16)driver_load(d, at, 4);
        *len = (u32)driver_load(d, at + 4, 4);
        g_assert(*id < r->size && r->count[*id]);
        r->next_used++;
        u16 slot = *id;
        for (n = r->count[*id]; n; n--) {
            r->free[r->free_count++] = slot;
            slot = (u16)driver_load(d, r->desc + 16u * slot + 14, 2);
        }
    }
    r->count[*id] = 0;
    if (has(r, VIRTIO_F_EVENT_IDX)) {
        ring_event(r);
    }
    return true;
}

u32 ring_do(Ring *r, const Piece *pieces, unsigned out, unsigned in)
{
    u16 id = ring_add(r, pieces, out, in), got;
    u32 len = 0;
    ring_kick(r);
    s64 end = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
    while (!ring_get(r, &got, &len)) {
        if (g_get_monotonic_time() > end) {
            g_error("queue %u: a buffer is not used", r->queue);
        }
        if (!g_main_context_iteration(NULL, false)) {
            g_usleep(50);
        }
    }
    g_assert(got == id);
    return len;
}
