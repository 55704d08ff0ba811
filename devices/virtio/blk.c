/*
 * virtio-blk (5.2): a disk. Each buffer is a request: a header (type, sector), data to write or
 * room for data to read, and a byte for the status. Requests go to a Block, whose completions come
 * at once or later; all that are complete are given back together, with one interrupt.
 *
 * Discards and zeroings may name several ranges; these are done one after the other.
 */
#include <inttypes.h>
#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/block/block.h"
#include "devices/virtio/devices.h"

enum { /* 5.2.3 */
       F_SEG_MAX = 2,
       F_RO = 5,
       F_BLK_SIZE = 6,
       F_FLUSH = 9,
       F_TOPOLOGY = 10,
       F_CONFIG_WCE = 11,
       F_MQ = 12,
       F_DISCARD = 13,
       F_WRITE_ZEROES = 14,
};
enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_GET_ID = 8, T_DISCARD = 11, T_WRITE_ZEROES = 13 };
enum { S_OK = 0, S_IOERR = 1, S_UNSUPP = 2 };
enum { RANGE_UNMAP = 1 };

enum {
    SECTOR = 512,
    ID_BYTES = 20,
    MAX_RANGES = 64,
    MAX_DISCARD_SECTORS = 1 << 21,
    MAX_ZEROES_SECTORS = 1 << 17, /* hosts that have to write them need a moment */
    DISCARD_ALIGN = 4096,         /* what file systems have for blocks */
    CONFIG_WRITEBACK = 32,        /* offset of the one field that the driver writes */
};

/* 5.2.4 */
typedef struct BlkConfig {
    u64 capacity;
    u32 size_max, seg_max;
    u16 cylinders;
    u8 heads, sectors;
    u32 blk_size;
    u8 physical_block_exp, alignment_offset;
    u16 min_io_size;
    u32 opt_io_size;
    u8 writeback, unused0;
    u16 num_queues;
    u32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
    u32 max_write_zeroes_sectors, max_write_zeroes_seg;
    u8 write_zeroes_may_unmap, unused1[3];
} BlkConfig;
_Static_assert(sizeof(BlkConfig) == 64 && offsetof(BlkConfig, writeback) == CONFIG_WRITEBACK &&
                   offsetof(BlkConfig, write_zeroes_may_unmap) == 56,
               "the layout is the guest's");

typedef struct BlkHeader {
    u32 type, reserved;
    u64 sector;
} BlkHeader;

typedef struct BlkRange {
    u64 sector;
    u32 sectors, flags;
} BlkRange;

typedef enum WriteCache { WRITE_CACHE_AUTO, WRITE_CACHE_ON, WRITE_CACHE_OFF } WriteCache;

typedef struct VirtioBlk {
    VirtioDevice dev;
    char *drive, *serial;
    u64 num_queues, queue_size;
    u64 logical_block, physical_block, min_io, opt_io;
    unsigned write_cache;
    bool config_wce, discard, write_zeroes;

    Block *block;
    bool initial_cache; /* as the user wants it */
    bool quiescing;     /* new requests wait */
    u64 sectors;
} VirtioBlk;

typedef struct BlkRequest {
    VirtqElement elem;
    BlockRequest block;
    u32 type;
    u8 *status; /* the last byte to write, on the host */
    u32 range, ranges;
} BlkRequest;

static const char *const write_caches[] = {"auto", "on", "off", NULL};

#define AT(f) .at = offsetof(VirtioBlk, f)

static const PropDesc blk_props[] = {
    {"drive", PROP_STRING, AT(drive), .help = "id of the -drive"},
    {"serial", PROP_STRING, AT(serial), .help = "serial number, 20 bytes at most"},
    {"num-queues", PROP_UINT, AT(num_queues), "1", "request queues", 1, VIRTIO_MAX_QUEUES},
    {"queue-size", PROP_UINT, AT(queue_size), "256", "largest, a power of two", 4, VIRTQ_MAX_SIZE},
    {"logical_block_size", PROP_SIZE, AT(logical_block), "512", "smallest unit of I/O", SECTOR,
     32768},
    {"physical_block_size", PROP_SIZE, AT(physical_block), "512", "unit of I/O that is fast",
     SECTOR, 2097152},
    {"min_io_size", PROP_SIZE, AT(min_io), NULL, "smallest I/O that is good", 0, 65535 * SECTOR},
    {"opt_io_size", PROP_SIZE, AT(opt_io), NULL, "I/O that is best", 0, (u64)1 << 31},
    {"write-cache", PROP_ENUM, AT(write_cache), "auto", "auto: as cache= of the drive says",
     .choices = write_caches},
    {"config-wce", PROP_BOOL, AT(config_wce), "on", "the guest may switch the write cache"},
    {"discard", PROP_BOOL, AT(discard), "on", "offer discards, if the drive has them"},
    {"write-zeroes", PROP_BOOL, AT(write_zeroes), "on", "offer to write zeroes"},
};

/* ---- Completion ----------------------------------------------------------------------------- */

/* Gives the buffer back. */
static void finish(BlkRequest *r, u8 status)
{
    __atomic_store_n(r->status, status, __ATOMIC_RELAXED); /* harts may look at it */
    /* What a read that failed has left behind counts as written, too. */
    virtq_push(r, r->elem.in_bytes);
}

/* Starts the next range of a discard or zeroing. Returns S_OK if it is under way. */
static u8 start_range(VirtioBlk *v, BlkRequest *r)
{
    BlkRange range = {0};
    const bool discard = r->type == T_DISCARD;
    const u32 most = discard ? MAX_DISCARD_SECTORS : MAX_ZEROES_SECTORS;
    const u32 unit = (u32)(v->logical_block / SECTOR);
    virtq_read(&r->elem, r->range++ * sizeof(range), &range, sizeof(range));
    if (range.flags & ~(discard ? 0u : RANGE_UNMAP)) {
        return S_UNSUPP;
    }
    if (range.sectors > most || range.sector > v->sectors ||
        range.sectors > v->sectors - range.sector || range.sector % unit || range.sectors % unit) {
        return S_IOERR;
    }
    r->block = (BlockRequest){.op = discard ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES,
                              .unmap = range.flags & RANGE_UNMAP,
                              .offset = range.sector * SECTOR,
                              .bytes = (u64)range.sectors * SECTOR};
    block_submit(v->block, &r->block);
    return S_OK;
}

/* The block is done with a request. */
static void complete(VirtioBlk *v, BlkRequest *r)
{
    u8 status = r->block.error ? S_IOERR : S_OK;
    if (status == S_OK && r->range < r->ranges) {
        status = start_range(v, r);
        if (status == S_OK) {
            return;
        }
    }
    finish(r, status);
}

/* Takes what is complete; what follows from it may be complete as well. Interrupts once. */
static void take(VirtioBlk *v)
{
    u64 queues = 0;
    BlockRequest *list;
    while ((list = block_take(v->block))) {
        for (BlockRequest *next; list; list = next) {
            BlkRequest *r = container_of(list, BlkRequest, block);
            next = list->next;
            queues |= (u64)1 << r->elem.queue->index;
            complete(v, r);
        }
        block_kick(v->block);
    }
    for (; queues; queues &= queues - 1) {
        virtq_notify(&v->dev.queues[__builtin_ctzll(queues)]);
    }
}

static void on_ready(void *opaque)
{
    VirtioBlk *v = opaque;
    g_mutex_lock(&v->dev.lock);
    take(v);
    g_mutex_unlock(&v->dev.lock);
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* Advances the segments by n bytes, which are there. */
static void skip(struct iovec **iov, unsigned *count, size_t n)
{
    while (n) {
        const size_t some = MIN(n, (*iov)->iov_len);
        (*iov)->iov_base = (u8 *)(*iov)->iov_base + some;
        (*iov)->iov_len -= some;
        n -= some;
        if (!(*iov)->iov_len) {
            (*iov)++;
            (*count)--;
        }
    }
}

/* Takes the last byte to write off the segments (in_bytes still counts it); there is one. */
static u8 *cut_status(VirtqElement *e)
{
    while (!e->in[e->in_count - 1].iov_len) {
        e->in_count--;
    }
    struct iovec *last = &e->in[e->in_count - 1];
    u8 *status = (u8 *)last->iov_base + --last->iov_len;
    e->in_count -= !last->iov_len; /* an empty one would count where alignment is looked at */
    return status;
}

static u8 start_transfer(VirtioBlk *v, BlkRequest *r, bool write, u64 sector)
{
    VirtqElement *e = &r->elem;
    const u64 bytes = write ? e->out_bytes : e->in_bytes - 1;
    if (sector > v->sectors || bytes > (v->sectors - sector) * SECTOR ||
        (sector * SECTOR | bytes) & (v->logical_block - 1)) {
        return S_IOERR;
    }
    r->block = (BlockRequest){.op = write ? BLOCK_WRITE : BLOCK_READ,
                              .offset = sector * SECTOR,
                              .bytes = bytes,
                              .iov = write ? e->out : e->in,
                              .iov_count = write ? e->out_count : e->in_count};
    block_submit(v->block, &r->block);
    return S_OK;
}

static u8 start_ranges(VirtioBlk *v, BlkRequest *r, bool offered)
{
    const size_t n = r->elem.out_bytes / sizeof(BlkRange);
    if (!offered) {
        return S_UNSUPP;
    }
    if (r->elem.out_bytes % sizeof(BlkRange) || !n || n > MAX_RANGES ||
        block_is_readonly(v->block)) {
        return S_IOERR;
    }
    r->ranges = (u32)n;
    return start_range(v, r);
}

static const char *serial_of(const VirtioBlk *v)
{
    const char *serial = v->serial ? v->serial : block_serial(v->block);
    return serial ? serial : "";
}

/* S_OK: it is the block's now; else it ends with this status (`*end` also for success). */
static u8 start(VirtioBlk *v, BlkRequest *r, const BlkHeader *h, bool *end)
{
    char id[ID_BYTES] = {0};
    const u64 offered = v->dev.features;
    switch (r->type) {
    case T_IN:
        return start_transfer(v, r, false, h->sector);
    case T_OUT:
        return block_is_readonly(v->block) ? S_IOERR : start_transfer(v, r, true, h->sector);
    case T_FLUSH:
        r->block = (BlockRequest){.op = BLOCK_FLUSH};
        block_submit(v->block, &r->block);
        return S_OK;
    case T_DISCARD:
        return start_ranges(v, r, offered & VIRTIO_BIT(F_DISCARD));
    case T_WRITE_ZEROES:
        return start_ranges(v, r, offered & VIRTIO_BIT(F_WRITE_ZEROES));
    case T_GET_ID:
        memcpy(id, serial_of(v), strnlen(serial_of(v), sizeof(id)));
        virtq_write(&r->elem, 0, id, sizeof(id));
        *end = true;
        return S_OK;
    default:
        return S_UNSUPP;
    }
}

static void blk_notify(VirtioDevice *d, unsigned queue)
{
    VirtioBlk *v = (VirtioBlk *)d;
    VirtQueue *q = virtio_queue(d, queue);
    BlkRequest *r;
    while (!v->quiescing && (r = virtq_pop(q, sizeof(BlkRequest)))) {
        BlkHeader h;
        if (virtq_read(&r->elem, 0, &h, sizeof(h)) < sizeof(h) || !r->elem.in_bytes) {
            virtio_broken(d, "a request without header or status");
            virtq_free(r);
            break;
        }
        r->type = h.type;
        r->status = cut_status(&r->elem);
        skip(&r->elem.out, &r->elem.out_count, sizeof(h));
        r->elem.out_bytes -= sizeof(h);
        bool end = false;
        const u8 status = start(v, r, &h, &end);
        if (status != S_OK || end) {
            finish(r, status);
        }
    }
    block_kick(v->block);
    take(v);
    virtq_notify(q);
}

/* ---- Life ----------------------------------------------------------------------------------- */

/* Waits for all requests; `gone` are the queues whose driver does not get them back. Without the
 * lock, as completions want it; other harts find the device resetting meanwhile. */
static void quiesce(VirtioBlk *v, u64 gone)
{
    u64 queues = 0;
    v->quiescing = true;
    while (block_busy(v->block)) {
        g_mutex_unlock(&v->dev.lock);
        block_drain(v->block);
        g_mutex_lock(&v->dev.lock);
        BlockRequest *list = block_take(v->block);
        for (BlockRequest *next; list; list = next) {
            BlkRequest *r = container_of(list, BlkRequest, block);
            const u64 bit = (u64)1 << r->elem.queue->index;
            next = list->next;
            if (gone & bit) {
                virtq_free(r);
            } else {
                queues |= bit;
                complete(v, r);
            }
        }
    }
    v->quiescing = false;
    for (; queues; queues &= queues - 1) {
        virtq_notify(&v->dev.queues[__builtin_ctzll(queues)]);
    }
}

static void blk_reset(VirtioDevice *d)
{
    VirtioBlk *v = (VirtioBlk *)d;
    quiesce(v, UINT64_MAX);
    block_set_write_cache(v->block, v->initial_cache);
}

static void blk_queue_reset(VirtioDevice *d, unsigned queue)
{
    quiesce((VirtioBlk *)d, (u64)1 << queue);
    for (unsigned i = 0; i < d->queue_count; i++) {
        virtio_process(d, i); /* what came meanwhile; the queue itself takes nothing yet */
    }
}

/* A driver that does not know how to flush has to get every write on the disk (5.2.6.2); one that
 * can switch the cache begins with it off (5.2.5.2). */
static void blk_driver_ok(VirtioDevice *d)
{
    VirtioBlk *v = (VirtioBlk *)d;
    if (!virtio_has(d, F_FLUSH)) {
        block_set_write_cache(v->block, false);
    }
}

static void blk_get_config(VirtioDevice *d, u8 *config)
{
    const VirtioBlk *v = (VirtioBlk *)d;
    const bool discard = d->features & VIRTIO_BIT(F_DISCARD);
    const bool zeroes = d->features & VIRTIO_BIT(F_WRITE_ZEROES);
    const BlkConfig c = {
        .capacity = v->sectors,
        .seg_max = (u32)v->queue_size - 2,
        .blk_size = (u32)v->logical_block,
        .physical_block_exp = (u8)__builtin_ctzll(v->physical_block / v->logical_block),
        .min_io_size = (u16)(v->min_io / v->logical_block),
        .opt_io_size = (u32)(v->opt_io / v->logical_block),
        .writeback = block_write_cache(v->block),
        .num_queues = (u16)d->queue_count,
        .max_discard_sectors = discard ? MAX_DISCARD_SECTORS : 0,
        .max_discard_seg = discard ? MAX_RANGES : 0,
        .discard_sector_alignment =
            discard ? (u32)MAX(v->logical_block, (u64)DISCARD_ALIGN) / SECTOR : 0,
        .max_write_zeroes_sectors = zeroes ? MAX_ZEROES_SECTORS : 0,
        .max_write_zeroes_seg = zeroes ? MAX_RANGES : 0,
        .write_zeroes_may_unmap = zeroes && block_can_discard(v->block),
    };
    memcpy(config, &c, d->config_size);
}

static void blk_set_config(VirtioDevice *d, u32 offset, unsigned size, u32 value)
{
    VirtioBlk *v = (VirtioBlk *)d;
    if (offset == CONFIG_WRITEBACK && size == 1 && value <= 1 && virtio_has(d, F_CONFIG_WCE)) {
        block_set_write_cache(v->block, value);
    } else {
        log_guest_error("virtio-blk: write of %u bytes at %u of the configuration\n", size, offset);
    }
}

static bool check_props(const VirtioBlk *v, GError **err)
{
    if (!v->drive) {
        return stag_error(err, "virtio-blk: there is no drive=; it takes the id of a -drive "
                               "file=...,if=none,id=ID");
    }
    if (v->serial && strlen(v->serial) > ID_BYTES) {
        return stag_error(err, "virtio-blk: serial=%s is longer than %d bytes", v->serial, ID_BYTES);
    }
    const struct {
        const char *name;
        u64 value;
    } powers[] = {{"queue-size", v->queue_size},
                  {"logical_block_size", v->logical_block},
                  {"physical_block_size", v->physical_block}};
    for (unsigned i = 0; i < ARRAY_LEN(powers); i++) {
        if (!is_pow2(powers[i].value)) {
            return stag_error(err, "virtio-blk: %s=%" PRIu64 " is not a power of two",
                              powers[i].name, powers[i].value);
        }
    }
    if (v->physical_block < v->logical_block || v->min_io % v->logical_block ||
        v->opt_io % v->logical_block) {
        return stag_error(err,
                          "virtio-blk: physical_block_size, min_io_size and opt_io_size "
                          "have to be multiples of logical_block_size=%" PRIu64,
                          v->logical_block);
    }
    return true;
}

static bool blk_init(VirtioDevice *d, GError **err)
{
    VirtioBlk *v = (VirtioBlk *)d;
    if (!check_props(v, err)) {
        return false;
    }
    Block *b = d->env.block_find(d->env.opaque, v->drive, err);
    if (!b || !block_attach(b, d->id ? d->id : "virtio-blk", on_ready, v, err)) {
        return false;
    }
    v->block = b;
    v->sectors = block_size(b) / v->logical_block * (v->logical_block / SECTOR);
    v->initial_cache =
        v->write_cache == WRITE_CACHE_AUTO ? block_write_cache(b) : v->write_cache == WRITE_CACHE_ON;
    block_set_write_cache(b, v->initial_cache);

    const bool readonly = block_is_readonly(b);
    const struct {
        unsigned bit;
        bool on;
    } features[] = {
        {F_RO, readonly},
        {F_MQ, v->num_queues > 1},
        {F_CONFIG_WCE, v->config_wce},
        {F_DISCARD, v->discard && block_can_discard(b)},
        {F_WRITE_ZEROES, v->write_zeroes && !readonly},
    };
    for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
        d->features |= features[i].on ? VIRTIO_BIT(features[i].bit) : 0;
    }
    d->queue_count = (unsigned)v->num_queues;
    for (unsigned i = 0; i < d->queue_count; i++) {
        d->queues[i].max = (u16)v->queue_size;
    }
    return true;
}

static void blk_finalize(VirtioDevice *d)
{
    VirtioBlk *v = (VirtioBlk *)d;
    if (v->block) {
        block_detach(v->block);
    }
}

static void blk_info(VirtioDevice *d, GString *out)
{
    const VirtioBlk *v = (VirtioBlk *)d;
    g_string_append_printf(out, "    drive %s, %" PRIu64 " sectors%s, write cache %s\n", v->drive,
                           v->sectors, block_is_readonly(v->block) ? ", read-only" : "",
                           block_write_cache(v->block) ? "on" : "off");
}

const VirtioClass virtio_blk_class = {
    .name = "virtio-blk",
    .help = "disk",
    .id = VIRTIO_ID_BLOCK,
    .instance_size = sizeof(VirtioBlk),
    .features = VIRTIO_BIT(F_SEG_MAX) | VIRTIO_BIT(F_BLK_SIZE) | VIRTIO_BIT(F_FLUSH) |
                VIRTIO_BIT(F_TOPOLOGY),
    .queue_count = 1,
    .config_size = 60,
    .pci_class = 0x0100,
    .props = blk_props,
    .prop_count = ARRAY_LEN(blk_props),
    .init = blk_init,
    .finalize = blk_finalize,
    .reset = blk_reset,
    .queue_reset = blk_queue_reset,
    .driver_ok = blk_driver_ok,
    .queue_notify = blk_notify,
    .get_config = blk_get_config,
    .set_config = blk_set_config,
    .info = blk_info,
};
