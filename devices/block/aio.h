/*
 * Who does the I/O that may block. Threads take any request and do it from beginning to end by
 * blocking calls. A ring (io_uring) takes the plain ones, reads and writes of one descriptor, and
 * gives what it does not finish to the threads. Requests go in by submit and kick and come out by
 * block_work() and block_complete().
 */
#ifndef STAG_DEVICES_BLOCK_AIO_H
#define STAG_DEVICES_BLOCK_AIO_H

#include "devices/block/block.h"

/* ---- Threads: made as they are needed, and kept --------------------------------------------- */

typedef struct BlockThreads BlockThreads;

BlockThreads *block_threads_new(void);
void block_threads_free(BlockThreads *t); /* nothing is in flight */
void block_threads_submit(BlockThreads *t, BlockRequest *r);
void block_threads_kick(BlockThreads *t);

/* ---- A ring, with one thread that feeds and empties it -------------------------------------- */

typedef struct BlockRing BlockRing;

/* NULL with a sentence where the kernel does not permit it. */
BlockRing *block_ring_new(Block *b, GError **err);
void block_ring_free(BlockRing *u); /* NULL is fine */
/* r->fd is set, r->done is 0, r->iov_count is at most IOV_MAX. */
void block_ring_submit(BlockRing *u, BlockRequest *r);
void block_ring_kick(BlockRing *u);

/* ---- What block.c does for them ------------------------------------------------------------- */

/* Does the rest of a request by blocking calls, and completes it. */
void block_work(BlockRequest *r);
/* Enters the request among the completed ones; its memory is the device's from now on. */
void block_complete(BlockRequest *r, int error);
/* Tells the device that there are completed requests. */
void block_deliver(Block *b);
/* Gives a request to the threads. */
void block_punt(BlockRequest *r);
/* RWF_* for a write. */
int block_write_flags(const Block *b);

#endif
