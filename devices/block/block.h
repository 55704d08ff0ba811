/*
 * A Block is the host's end of a disk: an image file or a host's block device, opened from the
 * text of a `-drive`. A device submits requests and never waits: a read that the host has in
 * memory is complete at once, everything else goes to io_uring or to threads, and the device is
 * told when there is something to take back.
 *
 *     block_submit(b, r1); block_submit(b, r2); block_kick(b);
 *     for each request of block_take(b): it is complete, r->error says how
 *     ... later, on a thread of the block: ready() -> device's lock -> block_take(b) ...
 *
 * Taking is the device's act, under the device's lock, so there is never a completion on its way
 * that the device can't call back: once block_busy() says no under this lock, there is nothing.
 *
 * A flush is honest: what was complete before a flush was submitted is on the host's disk
 * (fdatasync) when the flush is complete, unless the user chose cache=unsafe. What is complete
 * survives the end of this process, however it ends.
 */
#ifndef STAG_DEVICES_BLOCK_H
#define STAG_DEVICES_BLOCK_H

#include <glib.h>
#include <sys/uio.h>

#include "core/base/types.h"
#include "devices/props.h"

typedef struct Block Block;
typedef struct BlockRequest BlockRequest;

/* ---- What a -drive says --------------------------------------------------------------------- */

typedef enum BlockInterface { BLOCK_IF_VIRTIO, BLOCK_IF_NONE } BlockInterface;
typedef enum BlockCache {
    BLOCK_WRITEBACK,    /* the host's page cache */
    BLOCK_NONE,         /* O_DIRECT */
    BLOCK_UNSAFE,       /* page cache; flushes do nothing */
    BLOCK_WRITETHROUGH, /* page cache; a write is complete when it is on the disk */
    BLOCK_DIRECTSYNC,   /* O_DIRECT; the same */
} BlockCache;
typedef enum BlockAio { BLOCK_AIO_AUTO, BLOCK_AIO_THREADS, BLOCK_AIO_IO_URING } BlockAio;

typedef struct BlockDrive {
    char *file, *id, *format, *serial;
    unsigned interface; /* BlockInterface: what kind of device -drive itself makes */
    unsigned media, cache, aio, discard, detect_zeroes, locking, werror, rerror;
    bool readonly, snapshot;
    u64 index; /* where the user wants it among the drives, if has_index */
    bool has_index;
} BlockDrive;

/* The keys of -drive, for `-drive help`. */
extern const PropDesc block_drive_props[];
extern const unsigned block_drive_prop_count;

/* Reads "file=disk.img,format=raw,if=virtio". Opens nothing. `id` is NULL if not given: the caller
 * names it ("virtio0" ...). False with a sentence; nothing is left to free then. */
bool block_drive_parse(const char *text, BlockDrive *drive, GError **err);
void block_drive_clear(BlockDrive *drive);
/* The -drive text of -hda, -hdb ...: index 0, 1 ... g_free. */
char *block_drive_hd(const char *file, unsigned index);

/* ---- A block -------------------------------------------------------------------------------- */

/* Opens and locks the image. NULL with a sentence. Takes nothing of *drive. */
Block *block_open(const BlockDrive *drive, GError **err);
/* Waits for what is in flight, writes everything out (cache=unsafe, too), closes. Detached blocks
 * only. NULL is fine. */
void block_close(Block *b);

const char *block_id(const Block *b);
u64 block_size(const Block *b); /* bytes, a multiple of 512 */
bool block_is_readonly(const Block *b);
bool block_can_discard(const Block *b); /* discard=unmap, writable */
const char *block_serial(const Block *b); /* from -drive; NULL: none */

/* Whether a write may be complete before it is on the host's disk (cache=writethrough, directsync:
 * not). The guest may change it; turning it off flushes. Any thread. */
bool block_write_cache(const Block *b);
void block_set_write_cache(Block *b, bool on);

/* What `info block` says: a paragraph of whole lines. Any thread. */
void block_info(Block *b, GString *out);

typedef struct BlockStats {
    u64 reads, read_bytes, writes, written_bytes, flushes, discards, errors;
} BlockStats;
BlockStats block_stats(const Block *b);

/* ---- For the device ------------------------------------------------------------------------- */

typedef enum BlockOp {
    BLOCK_READ,
    BLOCK_WRITE,
    BLOCK_FLUSH,
    BLOCK_DISCARD,      /* the bytes are of no use any more; what reads give is undefined */
    BLOCK_WRITE_ZEROES, /* reads give zeroes; `unmap`: the host may free the space */
} BlockOp;

struct BlockRequest {
    BlockOp op;
    bool unmap;
    u64 offset, bytes;       /* within block_size(); multiples of 512. FLUSH: 0 */
    const struct iovec *iov; /* READ, WRITE: `bytes` in sum; stays the caller's, until completion */
    unsigned iov_count;

    int error;          /* of a complete request: 0 or an errno */
    BlockRequest *next; /* in the list of block_take() */

    /* The block's own. */
    Block *block;
    u64 done; /* bytes transferred so far */
    int fd;
    bool internal; /* nobody takes it */
};

/* One device at a time uses a block. `ready` says that there are completed requests to take; it
 * runs on the block's own threads, one call at a time, no lock held. `device` is its name, for
 * messages. False with a sentence if the block is in use. */
bool block_attach(Block *b, const char *device, void (*ready)(void *opaque), void *opaque,
                  GError **err);
/* Waits for what is in flight and for a running `ready`: not to be called with a lock that `ready`
 * takes. Completed requests that nobody took are forgotten. */
void block_detach(Block *b);

/* Starts a request; never waits for I/O. Errors (out of range, read-only) come as completions. */
void block_submit(Block *b, BlockRequest *r);
/* After a batch of block_submit: sends it off. Take what is complete afterwards: no `ready` comes
 * for what block_submit itself completed. */
void block_kick(Block *b);
/* The requests that are complete and were not taken yet, oldest first; NULL: none. Any thread. */
BlockRequest *block_take(Block *b);
/* Waits until no request is in flight (all are there for block_take, or were taken by `ready`). Not
 * to be called with a lock that `ready` takes: the thread that waits for it there may be the one
 * that has to see the next completion. Nobody should submit meanwhile. */
void block_drain(Block *b);
/* Whether requests are in flight or complete and not taken. Any thread. */
bool block_busy(Block *b);

#endif
