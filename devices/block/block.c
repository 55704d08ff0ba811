/* The way of a request: checked, done at once if that can be, else given to the ring or the
 * threads, completed, taken. See block.h. */
#include "devices/block/block.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/base/error.h"
#include "devices/block/aio.h"
#include "devices/block/image.h"
#include "devices/block/overlay.h"

enum {
    SECTOR = 512,
    /* Reads up to here are tried at once if the host has them in memory: copying that much costs
     * no more than waking a thread. Of one batch so much in all: a hart waits. */
    AT_ONCE = 128 << 10,
    BATCH_AT_ONCE = 1 << 20,
};

enum { DISCARD_UNMAP, DISCARD_ON };

static const char *const cache_names[] = {
    [BLOCK_WRITEBACK] = "writeback",       [BLOCK_NONE] = "none",
    [BLOCK_UNSAFE] = "unsafe",             [BLOCK_WRITETHROUGH] = "writethrough",
    [BLOCK_DIRECTSYNC] = "directsync",
};

struct Block {
    char *id, *serial;
    BlockCache cache;
    bool readonly, discard;
    bool no_flush;    /* flushes have nothing to do */
    bool write_cache; /* any thread */
    bool has_overlay;
    bool no_nowait; /* learnt: this file system does not say what is in memory. Any thread */
    Image image;
    Overlay overlay;
    BlockThreads *threads;
    BlockRing *ring; /* NULL: threads do everything */
    BlockStats stats; /* any thread */

    GMutex lock; /* of what follows */
    GCond changed;
    unsigned in_flight;
    u64 at_once; /* bytes of this batch */
    BlockRequest *first, **last; /* complete */
    char *device;                /* who uses it; NULL: nobody */
    void (*ready)(void *opaque);
    void *opaque;
    bool delivering, again;
    bool flushing, flush_again; /* the flush of a write cache that was switched off */
    int last_error;
};

/* ---- Requests by blocking calls --------------------------------------------------------------- */

int block_write_flags(const Block *b)
{
    return b->no_flush || block_write_cache(b) ? 0 : RWF_DSYNC;
}

static int sync_after(Block *b, int error)
{
    return error || block_write_flags(b) == 0 ? error : image_sync(&b->image);
}

static int execute(Block *b, BlockRequest *r)
{
    Overlay *o = b->has_overlay ? &b->overlay : NULL;
    const Span span = {r->iov, r->iov_count, r->done};
    const u64 offset = r->offset + r->done, bytes = r->bytes - r->done;
    switch (r->op) {
    case BLOCK_READ:
        return o ? overlay_read(o, span, offset, bytes)
                 : image_read(&b->image, span, offset, bytes);
    case BLOCK_WRITE:
        return o ? overlay_write(o, span, offset, bytes)
                 : image_write(&b->image, span, offset, bytes, block_write_flags(b));
    case BLOCK_FLUSH:
        return image_sync(&b->image);
    case BLOCK_DISCARD:
        return o ? overlay_discard(o, offset, bytes)
                 : sync_after(b, image_discard(&b->image, offset, bytes));
    case BLOCK_WRITE_ZEROES:
        return o ? overlay_zero(o, offset, bytes)
                 : sync_after(b, image_zero(&b->image, offset, bytes, r->unmap && b->discard));
    }
    return EINVAL;
}

void block_work(BlockRequest *r)
{
    Block *b = r->block;
    block_complete(r, execute(b, r));
    block_deliver(b);
}

/* ---- Completion ------------------------------------------------------------------------------- */

static void count(u64 *counter, u64 n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

/* Lock held. The first error is worth a line; all of them are counted. */
static void note_error(Block *b, const BlockRequest *r, int error)
{
    static const char *const names[] = {
        [BLOCK_READ] = "reading",     [BLOCK_WRITE] = "writing",
        [BLOCK_FLUSH] = "flushing",   [BLOCK_DISCARD] = "discarding",
        [BLOCK_WRITE_ZEROES] = "zeroing",
    };
    count(&b->stats.errors, 1);
    if (!b->last_error) {
        fprintf(stderr,
                "stag: disk '%s' (%s): %s %" PRIu64 " bytes at %" PRIu64
                ": %s; the guest gets an I/O error, as it does for further ones\n",
                b->id, b->image.name, names[r->op], r->bytes, r->offset, strerror(error));
    }
    b->last_error = error;
}

static void count_request(Block *b, const BlockRequest *r)
{
    switch (r->op) {
    case BLOCK_READ:
        count(&b->stats.reads, 1);
        count(&b->stats.read_bytes, r->bytes);
        break;
    case BLOCK_WRITE:
        count(&b->stats.writes, 1);
        count(&b->stats.written_bytes, r->bytes);
        break;
    case BLOCK_FLUSH:
        count(&b->stats.flushes, 1);
        break;
    case BLOCK_DISCARD:
    case BLOCK_WRITE_ZEROES:
        count(&b->stats.discards, 1);
        break;
    }
}

/* Lock held. */
static void enter_completed(Block *b, BlockRequest *r, int error)
{
    r->error = error;
    r->next = NULL;
    *b->last = r;
    b->last = &r->next;
}

void block_complete(BlockRequest *r, int error)
{
    Block *b = r->block;
    if (!error) {
        count_request(b, r);
    }
    g_mutex_lock(&b->lock);
    if (error) {
        note_error(b, r, error);
    }
    if (!r->internal) {
        enter_completed(b, r, error);
    } else if (b->flush_again) {
        b->flush_again = false;
        g_mutex_unlock(&b->lock);
        block_submit(b, r);
        block_threads_kick(b->threads);
        g_mutex_lock(&b->lock);
    } else {
        b->flushing = false;
        g_free(r);
    }
    if (!--b->in_flight) {
        g_cond_broadcast(&b->changed);
    }
    g_mutex_unlock(&b->lock);
}

void block_deliver(Block *b)
{
    g_mutex_lock(&b->lock);
    b->again = true;
    if (!b->delivering) {
        b->delivering = true;
        while (b->again && b->first && b->ready) {
            b->again = false;
            void (*ready)(void *) = b->ready;
            void *opaque = b->opaque;
            g_mutex_unlock(&b->lock);
            ready(opaque);
            g_mutex_lock(&b->lock);
        }
        b->delivering = false;
        g_cond_broadcast(&b->changed);
    }
    g_mutex_unlock(&b->lock);
}

BlockRequest *block_take(Block *b)
{
    g_mutex_lock(&b->lock);
    BlockRequest *list = b->first;
    b->first = NULL;
    b->last = &b->first;
    g_mutex_unlock(&b->lock);
    return list;
}

void block_drain(Block *b)
{
    block_kick(b);
    g_mutex_lock(&b->lock);
    while (b->in_flight) {
        g_cond_wait(&b->changed, &b->lock);
    }
    g_mutex_unlock(&b->lock);
}

bool block_busy(Block *b)
{
    g_mutex_lock(&b->lock);
    const bool busy = b->in_flight || b->first;
    g_mutex_unlock(&b->lock);
    return busy;
}

/* ---- Submission ------------------------------------------------------------------------------- */

void block_punt(BlockRequest *r)
{
    Block *b = r->block;
    block_threads_submit(b->threads, r);
    block_threads_kick(b->threads);
}

static int check(const Block *b, const BlockRequest *r)
{
    if (r->offset > b->image.size || r->bytes > b->image.size - r->offset ||
        (r->offset | r->bytes) % SECTOR) {
        return EINVAL;
    }
    return b->readonly && r->op != BLOCK_READ && r->op != BLOCK_FLUSH ? EROFS : 0;
}

/* The image that a read or write of the request has to do with as a whole; NULL: none alone. */
static Image *plain_image(Block *b, const BlockRequest *r)
{
    const bool write = r->op == BLOCK_WRITE;
    if ((r->op != BLOCK_READ && !write) || r->iov_count > IOV_MAX) {
        return NULL;
    }
    return b->has_overlay ? overlay_image(&b->overlay, write, r->offset, r->bytes) : &b->image;
}

/* Copies what the host has in memory. True: that was all. */
static bool read_at_once(Block *b, BlockRequest *r, int fd)
{
    if (__atomic_load_n(&b->no_nowait, __ATOMIC_RELAXED)) {
        return false;
    }
    const ssize_t n = preadv2(fd, r->iov, (int)r->iov_count, (off_t)r->offset, RWF_NOWAIT);
    if (n < 0 && (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) {
        __atomic_store_n(&b->no_nowait, true, __ATOMIC_RELAXED);
    }
    r->done = n > 0 ? (u64)n : 0;
    return r->done == r->bytes;
}

void block_submit(Block *b, BlockRequest *r)
{
    r->block = b;
    r->done = 0;
    const int error = check(b, r);
    const bool nothing = (r->op == BLOCK_FLUSH && b->no_flush) ||
                         (r->op == BLOCK_DISCARD && !b->discard) ||
                         (r->op != BLOCK_FLUSH && !r->bytes);
    g_mutex_lock(&b->lock);
    b->in_flight++;
    b->at_once += r->op == BLOCK_READ ? r->bytes : 0;
    const bool at_once = r->bytes <= AT_ONCE && b->at_once <= BATCH_AT_ONCE;
    g_mutex_unlock(&b->lock);
    if (error || nothing) {
        block_complete(r, error);
        return;
    }
    Image *image = plain_image(b, r);
    if (image) {
        r->fd = image_fd(image, r->offset, r->bytes, r->iov, r->iov_count);
        if (r->op == BLOCK_READ && at_once && r->fd == image->fd && read_at_once(b, r, r->fd)) {
            block_complete(r, 0);
            return;
        }
    }
    if (image && b->ring && !r->done) {
        block_ring_submit(b->ring, r);
    } else {
        block_threads_submit(b->threads, r);
    }
}

void block_kick(Block *b)
{
    g_mutex_lock(&b->lock);
    b->at_once = 0;
    g_mutex_unlock(&b->lock);
    if (b->ring) {
        block_ring_kick(b->ring);
    }
    block_threads_kick(b->threads);
}

/* ---- Life ------------------------------------------------------------------------------------- */

static bool choose_aio(Block *b, unsigned aio, GError **err)
{
    g_autoptr(GError) problem = NULL;
    /* Buffered writes are copies to memory, for which the kernel would use threads of its own. */
    if (aio == BLOCK_AIO_IO_URING || (aio == BLOCK_AIO_AUTO && b->image.direct >= 0)) {
        b->ring = block_ring_new(b, &problem);
    }
    if (problem && aio == BLOCK_AIO_IO_URING) {
        return stag_error(err, "-drive file=%s: %s", b->image.name, problem->message);
    }
    return true;
}

Block *block_open(const BlockDrive *drive, GError **err)
{
    Block *b = g_new0(Block, 1);
    g_autoptr(GError) problem = NULL;
    b->has_overlay = drive->snapshot && !drive->readonly;
    bool ok = disk_image_open(&b->image, drive, b->has_overlay, &problem);
    if (ok && b->has_overlay && !overlay_open(&b->overlay, &b->image, &problem)) {
        image_close(&b->image);
        ok = false;
    }
    if (!ok) {
        g_free(b);
        stag_error(err, "-drive: %s", problem->message);
        return NULL;
    }
    b->id = g_strdup(drive->id ? drive->id : drive->file);
    b->serial = g_strdup(drive->serial);
    b->cache = drive->cache;
    b->readonly = drive->readonly;
    b->discard = !b->readonly && (drive->discard == DISCARD_UNMAP || drive->discard == DISCARD_ON);
    b->no_flush = b->has_overlay || b->readonly || b->cache == BLOCK_UNSAFE;
    b->write_cache = b->cache != BLOCK_WRITETHROUGH && b->cache != BLOCK_DIRECTSYNC;
    b->threads = block_threads_new();
    b->last = &b->first;
    g_mutex_init(&b->lock);
    g_cond_init(&b->changed);
    if (!choose_aio(b, drive->aio, err)) {
        block_close(b);
        return NULL;
    }
    return b;
}

void block_close(Block *b)
{
    if (!b) {
        return;
    }
    g_assert(!b->device);
    block_drain(b);
    block_ring_free(b->ring);
    block_threads_free(b->threads);
    if (b->has_overlay) {
        overlay_close(&b->overlay);
    } else if (!b->readonly) {
        const int error = image_sync(&b->image);
        if (error) {
            fprintf(stderr, "stag: disk '%s' (%s): writing out at the end: %s\n", b->id,
                    b->image.name, strerror(error));
        }
    }
    image_close(&b->image);
    g_mutex_clear(&b->lock);
    g_cond_clear(&b->changed);
    g_free(b->id);
    g_free(b->serial);
    g_free(b);
}

bool block_attach(Block *b, const char *device, void (*ready)(void *opaque), void *opaque,
                  GError **err)
{
    g_mutex_lock(&b->lock);
    const bool ok = b->device ? stag_error(err, "drive '%s' is in use by %s already", b->id,
                                           b->device)
                              : true;
    if (ok) {
        b->device = g_strdup(device);
        b->ready = ready;
        b->opaque = opaque;
    }
    g_mutex_unlock(&b->lock);
    return ok;
}

void block_detach(Block *b)
{
    block_drain(b);
    g_mutex_lock(&b->lock);
    b->ready = NULL;
    while (b->delivering) {
        g_cond_wait(&b->changed, &b->lock);
    }
    b->first = NULL;
    b->last = &b->first;
    g_clear_pointer(&b->device, g_free);
    g_mutex_unlock(&b->lock);
}

/* ---- Facts ------------------------------------------------------------------------------------ */

const char *block_id(const Block *b)
{
    return b->id;
}

u64 block_size(const Block *b)
{
    return b->image.size;
}

bool block_is_readonly(const Block *b)
{
    return b->readonly;
}

bool block_can_discard(const Block *b)
{
    return b->discard;
}

const char *block_serial(const Block *b)
{
    return b->serial;
}

bool block_write_cache(const Block *b)
{
    return __atomic_load_n(&b->write_cache, __ATOMIC_RELAXED);
}

void block_set_write_cache(Block *b, bool on)
{
    const bool was = __atomic_exchange_n(&b->write_cache, on, __ATOMIC_SEQ_CST);
    if (!was || on) {
        return;
    }
    /* One flush at a time, and one after it, however often the guest switches. */
    g_mutex_lock(&b->lock);
    const bool flush_now = !b->flushing;
    b->flush_again = !flush_now;
    b->flushing = true;
    g_mutex_unlock(&b->lock);
    if (flush_now) {
        BlockRequest *flush = g_new0(BlockRequest, 1);
        flush->op = BLOCK_FLUSH;
        flush->internal = true;
        block_submit(b, flush);
        block_kick(b);
    }
}

BlockStats block_stats(const Block *b)
{
    BlockStats s;
    const u64 *from = (const u64 *)&b->stats;
    for (unsigned i = 0; i < sizeof(s) / sizeof(u64); i++) {
        ((u64 *)&s)[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
    }
    return s;
}

void block_info(Block *b, GString *out)
{
    const BlockStats s = block_stats(b);
    g_mutex_lock(&b->lock);
    g_string_append_printf(out, "%s: %s (raw%s%s)\n", b->id, b->image.name,
                           b->readonly ? ", read-only" : "",
                           b->has_overlay ? ", snapshot" : "");
    g_string_append_printf(out, "    Size:             %" PRIu64 " bytes\n", b->image.size);
    g_string_append_printf(out, "    Attached to:      %s\n", b->device ? b->device : "nothing");
    g_string_append_printf(out, "    Cache mode:       %s%s, %s\n", cache_names[b->cache],
                           block_write_cache(b) ? "" : " (the guest's write cache is off)",
                           b->ring ? "io_uring" : "threads");
    g_string_append_printf(out, "    Discard:          %s\n", b->discard ? "unmap" : "ignore");
    if (b->has_overlay) {
        g_string_append_printf(out, "    In the overlay:   %" PRIu64 " bytes\n",
                               overlay_bytes(&b->overlay));
    }
    g_string_append_printf(out,
                           "    Requests:         %" PRIu64 " reads (%" PRIu64 " bytes), %" PRIu64
                           " writes (%" PRIu64 " bytes), %" PRIu64 " flushes, %" PRIu64
                           " discards, %u in flight\n",
                           s.reads, s.read_bytes, s.writes, s.written_bytes, s.flushes, s.discards,
                           b->in_flight);
    if (s.errors) {
        g_string_append_printf(out, "    Errors:           %" PRIu64 ", the last: %s\n", s.errors,
                               strerror(b->last_error));
    }
    g_mutex_unlock(&b->lock);
}
