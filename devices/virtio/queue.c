/*
 * Rings in guest memory: how buffers come from the driver and go back to it (2.6 to 2.8).
 *
 * When a queue becomes ready its three areas are mapped, once: guest RAM does not move. After that
 * each step reads what the driver wrote exactly once, into locals, checks it, and goes on with the
 * locals. An index or flag that publishes other words is loaded with acquire, and our own is stored
 * with release; where both sides write one word and then look at another (is there a buffer? does
 * the other want to be told?) a full fence stands between.
 *
 * A chain of descriptors is followed for at most as many steps as the ring has places and an
 * indirect table has entries, and gives at most VIRTQ_MAX_SIZE segments. So no loop in the guest's
 * memory is a loop here.
 */
#include <inttypes.h>
#include <string.h>

#include "devices/virtio/internal.h"

/* Both kinds of descriptor begin the same way. Of the last two halfwords, `flags` is the first in a
 * split ring and the second in a packed one (2.7.5, 2.8.13). */
typedef struct Desc {
    u64 addr;
    u32 len;
    u16 flags;
    u16 tag; /* split: the next descriptor; packed: the buffer's ID */
} Desc;

enum {
    DESC_NEXT = 1,
    DESC_WRITE = 2,
    DESC_INDIRECT = 4,
    DESC_AVAIL = 1 << 7, /* packed */
    DESC_USED = 1 << 15,
    DESC_SIZE = 16,
};

/* Places in the areas of a split ring (2.7.6, 2.7.8) and a packed one (2.8.14). */
enum {
    AVAIL_FLAGS = 0,
    AVAIL_IDX = 2,
    AVAIL_RING = 4,
    AVAIL_NO_INTERRUPT = 1,
    USED_FLAGS = 0,
    USED_IDX = 2,
    USED_RING = 4,
    USED_ELEM = 8,
    USED_NO_NOTIFY = 1,
    PACKED_FLAGS = 14,
    EVENT_ENABLE = 0,
    EVENT_DISABLE = 1,
    EVENT_DESC = 2,
};

/* Guest words. Guest and host are both little-endian. */
static u16 load16(const void *area, size_t offset, int order)
{
    const u16 *p = (const u16 *)((const u8 *)area + offset);
    return order == __ATOMIC_ACQUIRE ? __atomic_load_n(p, __ATOMIC_ACQUIRE)
                                     : __atomic_load_n(p, __ATOMIC_RELAXED);
}

static void store16(void *area, size_t offset, u16 v, int order)
{
    u16 *p = (u16 *)((u8 *)area + offset);
    if (order == __ATOMIC_RELEASE) {
        __atomic_store_n(p, v, __ATOMIC_RELEASE);
    } else {
        __atomic_store_n(p, v, __ATOMIC_RELAXED);
    }
}

static u32 load32(const void *area, size_t offset)
{
    return __atomic_load_n((const u32 *)((const u8 *)area + offset), __ATOMIC_RELAXED);
}

static void store32(void *area, size_t offset, u32 v)
{
    __atomic_store_n((u32 *)((u8 *)area + offset), v, __ATOMIC_RELAXED);
}

/* Both sides' words are in memory before either side looks at the other's. */
static void full_fence(void)
{
#ifndef __SANITIZE_THREAD__
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
#else
    static int word; /* the thread sanitizer does not know fences */
    __atomic_fetch_add(&word, 1, __ATOMIC_SEQ_CST);
#endif
}

static bool is_packed(const VirtQueue *q)
{
    return virtio_has(q->dev, VIRTIO_F_RING_PACKED);
}

static bool has_event_idx(const VirtQueue *q)
{
    return virtio_has(q->dev, VIRTIO_F_EVENT_IDX);
}

static Desc load_desc(const VirtQueue *q, const void *table, size_t n)
{
    const u8 *p = (const u8 *)table + n * DESC_SIZE;
    Desc d;
    u64 half[2];
    if ((uintptr_t)p % 8 == 0) {
        half[0] = __atomic_load_n((const u64 *)p, __ATOMIC_RELAXED);
        half[1] = __atomic_load_n((const u64 *)p + 1, __ATOMIC_RELAXED);
    } else {
        memcpy(half, p, sizeof(half)); /* only indirect tables may lie so */
    }
    d.addr = half[0];
    d.len = (u32)half[1];
    u16 first = (u16)(half[1] >> 32), second = (u16)(half[1] >> 48);
    d.flags = is_packed(q) ? second : first;
    d.tag = is_packed(q) ? first : second;
    return d;
}

static void dirty(const VirtQueue *q, u64 area, size_t offset, size_t len)
{
    bus_dma_dirty(q->dev->env.bus, area + offset, len);
}

/* ---- Set-up --------------------------------------------------------------------------------- */

void virtq_init(VirtQueue *q)
{
    u32 epoch = q->epoch + 1;
    *q = (VirtQueue){
        .dev = q->dev,
        .index = q->index,
        .max = q->max,
        .size = q->max,
        .avail_wrap = true,
        .used_wrap = true,
        .epoch = epoch,
    };
}

/* One area on the host; NULL if it is not all RAM or lies askew. */
static void *map_area(const VirtQueue *q, u64 pa, u64 len, unsigned align)
{
    return pa % align == 0 ? bus_dma_map(q->dev->env.bus, pa, len) : NULL;
}

static bool map_areas(VirtQueue *q)
{
    unsigned event = has_event_idx(q) ? 2 : 0;
    q->desc_host = map_area(q, q->desc, (u64)q->size * DESC_SIZE, 16);
    if (is_packed(q)) {
        q->driver_host = map_area(q, q->driver, 4, 4);
        q->device_host = map_area(q, q->device, 4, 4);
    } else {
        q->driver_host = map_area(q, q->driver, AVAIL_RING + 2u * q->size + event, 2);
        q->device_host = map_area(q, q->device, USED_RING + (u32)USED_ELEM * q->size + event, 4);
    }
    return q->desc_host && q->driver_host && q->device_host;
}

void virtio_queue_set_ready(VirtQueue *q, bool ready)
{
    VirtioDevice *d = q->dev;
    if (d->resetting || ready == q->ready) {
        return;
    }
    if (!ready) {
        virtio_let_go(q);
        q->ready = false;
        q->epoch++;
        return;
    }
    if (!(d->status & VIRTIO_FEATURES_OK)) {
        log_guest_error("%s: queue %u is set up before the features are\n", d->class->name,
                        q->index);
        return;
    }
    if (q->size == 0 || q->size > q->max || (!is_packed(q) && !is_pow2(q->size))) {
        virtio_broken(d, "queue %u can't have %u entries", q->index, q->size);
        return;
    }
    if (!map_areas(q)) {
        virtio_broken(d,
                      "queue %u at 0x%" PRIx64 ", 0x%" PRIx64 ", 0x%" PRIx64
                      " is not in RAM or not aligned",
                      q->index, q->desc, q->driver, q->device);
        return;
    }
    q->next_avail = q->next_used = q->in_use = 0;
    q->avail_wrap = q->used_wrap = true;
    q->unsignalled = 0;
    q->notify_off = false;
    q->epoch++;
    q->ready = true;
}

/* ---- Is there a buffer? --------------------------------------------------------------------- */

static bool usable(const VirtQueue *q)
{
    return q->ready && q != q->dev->resetting_queue && virtio_running(q->dev);
}

static bool packed_has_buffer(const VirtQueue *q)
{
    u16 flags =
        load16(q->desc_host, (size_t)q->next_avail * DESC_SIZE + PACKED_FLAGS, __ATOMIC_ACQUIRE);
    return !!(flags & DESC_AVAIL) == q->avail_wrap && !!(flags & DESC_USED) != q->avail_wrap;
}

/* False also when the driver's index has jumped, which breaks the device. */
static bool split_has_buffer(VirtQueue *q)
{
    u16 n = load16(q->driver_host, AVAIL_IDX, __ATOMIC_ACQUIRE) - q->next_avail;
    if (n > q->size) {
        virtio_broken(q->dev, "queue %u of %u entries has %u new buffers", q->index, q->size, n);
        return false;
    }
    return n > 0;
}

static bool has_buffer(VirtQueue *q)
{
    return is_packed(q) ? packed_has_buffer(q) : split_has_buffer(q);
}

bool virtq_has_buffer(VirtQueue *q)
{
    return usable(q) && has_buffer(q);
}

/* Says which buffer we want to hear of: the next one. */
static void publish_event(VirtQueue *q)
{
    if (is_packed(q)) {
        u32 flags = q->notify_off ? EVENT_DISABLE : has_event_idx(q) ? EVENT_DESC : EVENT_ENABLE;
        store32(q->device_host, 0,
                flags << 16 | (u32)q->avail_wrap << 15 | (has_event_idx(q) ? q->next_avail : 0));
        dirty(q, q->device, 0, 4);
    } else if (!has_event_idx(q)) {
        store16(q->device_host, USED_FLAGS, q->notify_off ? USED_NO_NOTIFY : 0, __ATOMIC_RELAXED);
        dirty(q, q->device, USED_FLAGS, 2);
    } else if (!q->notify_off) {
        size_t at = USED_RING + (size_t)USED_ELEM * q->size;
        store16(q->device_host, at, q->next_avail, __ATOMIC_RELAXED);
        dirty(q, q->device, at, 2);
    }
}

bool virtq_set_notifications(VirtQueue *q, bool on)
{
    if (!usable(q)) {
        return false;
    }
    if (on == q->notify_off) {
        q->notify_off = !on;
        publish_event(q);
    }
    full_fence();
    return on && has_buffer(q);
}

/* ---- Pop ------------------------------------------------------------------------------------ */

/* What a chain has given so far. */
typedef struct Segments {
    unsigned out_count, in_count;
    size_t out_bytes, in_bytes;
    struct iovec iov[VIRTQ_MAX_SIZE];
    u64 addr[VIRTQ_MAX_SIZE];
} Segments;

static bool add_segment(VirtQueue *q, Segments *s, const Desc *d)
{
    unsigned n = s->out_count + s->in_count;
    bool in = d->flags & DESC_WRITE;
    if (!in && s->in_count) {
        virtio_broken(q->dev, "queue %u: a segment to read follows one to write", q->index);
        return false;
    }
    if (d->len == 0) {
        return true;
    }
    if (n == VIRTQ_MAX_SIZE) {
        virtio_broken(q->dev, "queue %u: a buffer of more than %u segments", q->index, n);
        return false;
    }
    void *host = bus_dma_map(q->dev->env.bus, d->addr, d->len);
    if (!host) {
        virtio_broken(q->dev, "queue %u: %u bytes at 0x%" PRIx64 " are not in RAM", q->index,
                      d->len, d->addr);
        return false;
    }
    s->iov[n] = (struct iovec){host, d->len};
    s->addr[n] = d->addr;
    if (in) {
        s->in_count++;
        s->in_bytes += d->len;
    } else {
        s->out_count++;
        s->out_bytes += d->len;
    }
    return true;
}

/* The table that an indirect descriptor refers to, NULL if it is none. */
static const void *indirect_table(VirtQueue *q, const Desc *d, u32 *entries)
{
    const void *table = NULL;
    *entries = d->len / DESC_SIZE;
    if (!virtio_has(q->dev, VIRTIO_F_INDIRECT_DESC)) {
        virtio_broken(q->dev, "queue %u: an indirect descriptor that was not negotiated", q->index);
    } else if (*entries == 0 || d->len % DESC_SIZE) {
        virtio_broken(q->dev, "queue %u: a table of %u bytes", q->index, d->len);
    } else {
        table = bus_dma_map(q->dev->env.bus, d->addr, d->len);
        if (!table) {
            virtio_broken(q->dev, "queue %u: the table of %u bytes at 0x%" PRIx64 " is not in RAM",
                          q->index, d->len, d->addr);
        }
    }
    return table;
}

/* Follows the chain of a split ring that begins at `head` (2.7.5). */
static bool split_chain(VirtQueue *q, u16 head, Segments *s)
{
    const void *table = q->desc_host;
    u32 entries = q->size, next = head;
    bool indirect = false;
    for (u32 steps = 0; steps < MIN(entries, (u32)VIRTQ_MAX_SIZE); steps++) {
        if (next >= entries) {
            virtio_broken(q->dev, "queue %u: descriptor %u of %u", q->index, next, entries);
            return false;
        }
        Desc d = load_desc(q, table, next);
        if (d.flags & DESC_INDIRECT) {
            if (indirect || d.flags & DESC_NEXT) {
                virtio_broken(q->dev, "queue %u: an indirect descriptor %s", q->index,
                              indirect ? "in an indirect table" : "that goes on");
                return false;
            }
            table = indirect_table(q, &d, &entries);
            if (!table) {
                return false;
            }
            indirect = true;
            next = 0;
            steps = -1; /* from the start, in another table, once */
            continue;
        }
        if (!add_segment(q, s, &d)) {
            return false;
        }
        if (!(d.flags & DESC_NEXT)) {
            return true;
        }
        next = d.tag;
    }
    virtio_broken(q->dev, "queue %u: a chain of descriptors that loops or is too long", q->index);
    return false;
}

static bool split_pop(VirtQueue *q, Segments *s, VirtqUsed *used)
{
    u16 head =
        load16(q->driver_host, AVAIL_RING + 2u * (q->next_avail & (q->size - 1)), __ATOMIC_RELAXED);
    if (q->in_use >= q->size) {
        virtio_broken(q->dev, "queue %u: more buffers than entries", q->index);
        return false;
    }
    *used = (VirtqUsed){head, 1};
    if (!split_chain(q, head, s)) {
        return false;
    }
    q->next_avail++;
    return true;
}

static void packed_forward(const VirtQueue *q, u16 *slot, bool *wrap, u16 count)
{
    *slot += count;
    if (*slot >= q->size) {
        *slot -= q->size;
        *wrap = !*wrap;
    }
}

/* The chain at next_avail, whose first descriptor has been seen to be available (2.8.6, 2.8.7). */
static bool packed_pop(VirtQueue *q, Segments *s, VirtqUsed *used)
{
    u16 slot = q->next_avail, count = 0;
    bool wrap = q->avail_wrap, more;
    do {
        Desc d = load_desc(q, q->desc_host, slot);
        if (++count > q->size - q->in_use) {
            virtio_broken(q->dev, "queue %u: a chain longer than what is free of %u entries",
                          q->index, q->size);
            return false;
        }
        more = d.flags & DESC_NEXT;
        if (d.flags & DESC_INDIRECT) {
            u32 entries;
            const void *table = indirect_table(q, &d, &entries);
            if (more || count > 1) {
                virtio_broken(q->dev, "queue %u: an indirect descriptor in a chain", q->index);
                return false;
            }
            if (table && entries > VIRTQ_MAX_SIZE) {
                virtio_broken(q->dev, "queue %u: a table of %u entries", q->index, entries);
                return false;
            }
            for (u32 i = 0; table && i < entries; i++) {
                Desc inner = load_desc(q, table, i);
                if (!add_segment(q, s, &inner)) {
                    return false;
                }
            }
            if (!table) {
                return false;
            }
        } else if (!add_segment(q, s, &d)) {
            return false;
        }
        *used = (VirtqUsed){d.tag, count};
        packed_forward(q, &slot, &wrap, 1);
    } while (more);
    q->next_avail = slot;
    q->avail_wrap = wrap;
    return true;
}

/* One block of memory: the device's request, then the arrays. */
static VirtqElement *make_element(VirtQueue *q, const Segments *s, size_t size)
{
    unsigned n = s->out_count + s->in_count;
    size = ALIGN_UP(MAX(size, sizeof(VirtqElement)), 16);
    u8 *p = g_malloc(size + n * sizeof(struct iovec) + s->in_count * (sizeof(u64) + sizeof(u32)));
    memset(p, 0, size);
    VirtqElement *e = (VirtqElement *)p;
    e->queue = q;
    e->epoch = q->epoch;
    e->out_count = s->out_count;
    e->in_count = e->in_segments = s->in_count;
    e->out_bytes = s->out_bytes;
    e->in_bytes = s->in_bytes;
    e->out = (struct iovec *)(p + size);
    e->in = e->out + s->out_count;
    u64 *addr = (u64 *)(e->out + n);
    u32 *len = (u32 *)(addr + s->in_count);
    memcpy(e->out, s->iov, n * sizeof(struct iovec));
    for (unsigned i = 0; i < s->in_count; i++) {
        addr[i] = s->addr[s->out_count + i];
        len[i] = (u32)s->iov[s->out_count + i].iov_len;
    }
    e->in_addr = addr;
    e->in_len = len;
    return e;
}

void *virtq_pop(VirtQueue *q, size_t size)
{
    Segments s;
    VirtqUsed used;
    if (!usable(q)) {
        return NULL;
    }
    if (!has_buffer(q)) {
        if (q->notify_off || !has_event_idx(q)) {
            return NULL; /* without event index the driver always tells */
        }
        publish_event(q);
        full_fence();
        if (!usable(q) || !has_buffer(q)) {
            return NULL;
        }
    }
    if (q->bounded && q->budget-- == 0) {
        q->budget = 0;
        virtio_defer(q);
        return NULL;
    }
    s.out_count = s.in_count = 0;
    s.out_bytes = s.in_bytes = 0;
    if (!(is_packed(q) ? packed_pop(q, &s, &used) : split_pop(q, &s, &used))) {
        return NULL;
    }
    q->in_use += used.count;
    VirtqElement *e = make_element(q, &s, size);
    e->used = used;
    return e;
}

/* Whether the element still counts: the queue has not been reset since. */
static bool is_current(const VirtqElement *e)
{
    return e->epoch == e->queue->epoch && usable(e->queue);
}

void virtq_unpop(void *element)
{
    VirtqElement *e = element;
    VirtQueue *q = e->queue;
    if (is_current(e)) {
        q->in_use -= e->used.count;
        if (!is_packed(q)) {
            q->next_avail--;
        } else if (q->next_avail >= e->used.count) {
            q->next_avail -= e->used.count;
        } else {
            q->next_avail += q->size - e->used.count;
            q->avail_wrap = !q->avail_wrap;
        }
    }
    g_free(e);
}

static void dirty_segments(const VirtqElement *e, size_t written)
{
    for (unsigned i = 0; i < e->in_segments && written; i++) {
        size_t n = MIN(written, e->in_len[i]);
        bus_dma_dirty(e->queue->dev->env.bus, e->in_addr[i], n);
        written -= n;
    }
}

void virtq_free(void *element)
{
    VirtqElement *e = element;
    if (e) {
        dirty_segments(e, e->in_bytes); /* a request may have written before it was given up */
        if (e->epoch == e->queue->epoch) {
            e->queue->in_use -= e->used.count;
        }
    }
    g_free(e);
}

/* ---- Push ----------------------------------------------------------------------------------- */

/* Lengths in rings have 32 bits. */
static u32 clamp_written(const VirtqElement *e, size_t written)
{
    return (u32)MIN(MIN(written, e->in_bytes), UINT32_MAX);
}

static void split_push(VirtQueue *q, void *const *elements, const size_t *written, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const VirtqElement *e = elements[i];
        size_t at = USED_RING + (size_t)USED_ELEM * ((u16)(q->next_used + i) & (q->size - 1));
        store32(q->device_host, at, e->used.id);
        store32(q->device_host, at + 4, clamp_written(e, written[i]));
        dirty(q, q->device, at, USED_ELEM);
    }
    q->next_used += n;
    q->in_use -= n;
    q->unsignalled += n;
    store16(q->device_host, USED_IDX, q->next_used, __ATOMIC_RELEASE);
    dirty(q, q->device, USED_IDX, 2);
}

/* The first buffer's flags are stored last: they publish all (2.8.9). */
static void packed_push(VirtQueue *q, void *const *elements, const size_t *written, unsigned n)
{
    size_t first = 0;
    u16 first_flags = 0;
    for (unsigned i = 0; i < n; i++) {
        const VirtqElement *e = elements[i];
        size_t at = (size_t)q->next_used * DESC_SIZE;
        u32 len = clamp_written(e, written[i]);
        u16 flags = (q->used_wrap ? DESC_AVAIL | DESC_USED : 0) | (len ? DESC_WRITE : 0);
        store32(q->desc_host, at + 8, len);
        store16(q->desc_host, at + 12, e->used.id, __ATOMIC_RELAXED);
        if (i == 0) {
            first = at;
            first_flags = flags;
        } else {
            store16(q->desc_host, at + PACKED_FLAGS, flags, __ATOMIC_RELAXED);
        }
        dirty(q, q->desc, at, DESC_SIZE);
        packed_forward(q, &q->next_used, &q->used_wrap, e->used.count);
        q->in_use -= e->used.count;
        q->unsignalled += e->used.count;
    }
    store16(q->desc_host, first + PACKED_FLAGS, first_flags, __ATOMIC_RELEASE);
    dirty(q, q->desc, first, DESC_SIZE);
}

void virtq_push_many(void *const *elements, const size_t *written, unsigned n)
{
    if (n == 0) {
        return;
    }
    const VirtqElement *e = elements[0];
    VirtQueue *q = e->queue;
    for (unsigned i = 0; i < n; i++) {
        dirty_segments(elements[i], clamp_written(elements[i], written[i]));
    }
    if (is_current(e)) {
        (is_packed(q) ? packed_push : split_push)(q, elements, written, n);
    }
    for (unsigned i = 0; i < n; i++) {
        g_free(elements[i]);
    }
}

void virtq_push(void *element, size_t written)
{
    virtq_push_many(&element, &written, 1);
}

/* Whether the driver's chosen place is among the last `pushed` before `now`. */
static bool passed(u16 event, u16 now, u32 pushed)
{
    return (u16)(now - event - 1) < pushed;
}

static bool wants_interrupt(const VirtQueue *q, u32 pushed)
{
    if (!is_packed(q)) {
        if (!has_event_idx(q)) {
            return !(load16(q->driver_host, AVAIL_FLAGS, __ATOMIC_RELAXED) & AVAIL_NO_INTERRUPT);
        }
        u16 event = load16(q->driver_host, AVAIL_RING + 2u * q->size, __ATOMIC_RELAXED);
        return passed(event, q->next_used, pushed);
    }
    u32 word = load32(q->driver_host, 0);
    unsigned flags = word >> 16 & 3;
    if (flags == EVENT_DESC && has_event_idx(q)) {
        u16 event = word & 0x7fff;
        event -= !!(word & 0x8000) != q->used_wrap ? q->size : 0;
        return passed(event, q->next_used, pushed);
    }
    return flags != EVENT_DISABLE;
}

void virtq_notify(VirtQueue *q)
{
    u32 pushed = q->unsignalled;
    if (pushed == 0 || !usable(q)) {
        return;
    }
    q->unsignalled = 0;
    full_fence();
    if (wants_interrupt(q, pushed)) {
        virtio_interrupt(q->dev, VIRTIO_ISR_QUEUE, q->index);
    }
}

/* ---- Bytes ---------------------------------------------------------------------------------- */

static size_t copy(const struct iovec *iov, unsigned count, size_t offset, u8 *buf, size_t n,
                   bool to_guest)
{
    size_t done = 0;
    for (unsigned i = 0; i < count && done < n; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t piece = MIN(n - done, iov[i].iov_len - offset);
        u8 *guest = (u8 *)iov[i].iov_base + offset;
        memcpy(to_guest ? guest : buf + done, to_guest ? buf + done : guest, piece);
        done += piece;
        offset = 0;
    }
    return done;
}

size_t virtq_read(const VirtqElement *e, size_t offset, void *buf, size_t n)
{
    return copy(e->out, e->out_count, offset, buf, n, false);
}

size_t virtq_write(const VirtqElement *e, size_t offset, const void *buf, size_t n)
{
    return copy(e->in, e->in_count, offset, (u8 *)buf, n, true);
}
