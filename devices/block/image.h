/*
 * An image: an open file or block device of the host with its size, its locks, and positioned
 * reads and writes that finish what they begin. Everything here may block; block.c calls it on
 * threads of its own.
 *
 * An image that is opened for direct I/O has two descriptors. What is aligned as the host demands
 * goes past the page cache, the rest through it (the kernel keeps both views coherent), so that
 * the guest's block size and the addresses of its buffers may be anything.
 */
#ifndef STAG_DEVICES_BLOCK_IMAGE_H
#define STAG_DEVICES_BLOCK_IMAGE_H

#include <sys/types.h>

#include "devices/block/block.h"

typedef struct Image {
    char *name; /* path, for messages */
    int fd;     /* through the page cache */
    int direct; /* O_DIRECT; -1: not wanted */
    u32 offset_align, memory_align; /* of direct I/O */
    u64 size;                       /* rounded up to 512; the bytes beyond the file read as zero */
    bool readonly;
    int sync_error; /* of the first sync that failed. Any thread */
    /* Learnt from the kernel: this file system does not do it. Any thread. */
    bool no_punch, no_zero;
} Image;

/* Where a transfer stands in a list of iovecs. */
typedef struct Span {
    const struct iovec *iov;
    unsigned count;
    u64 skip; /* bytes of the list that lie before the span */
} Span;

/* `drive` tells file, readonly, cache, locking; `readonly` is on top of the drive's. False with a
 * sentence; nothing is left to close then. */
bool disk_image_open(Image *im, const BlockDrive *drive, bool readonly, GError **err);
/* A sparse temporary file that has no name. */
bool image_temporary(Image *im, u64 size, GError **err);
void image_close(Image *im);

/* The descriptor that suits the transfer. */
int image_fd(const Image *im, u64 offset, u64 bytes, const struct iovec *iov, unsigned count);

/* These return 0 or an errno. Reads beyond the file give zeroes. `flags`: RWF_*. */
int image_read(Image *im, Span to, u64 offset, u64 bytes);
int image_write(Image *im, Span from, u64 offset, u64 bytes, int flags);
int image_zero(Image *im, u64 offset, u64 bytes, bool unmap);
int image_discard(Image *im, u64 offset, u64 bytes);
/* An error is for ever: the kernel tells of pages that it could not write once, and then takes them
 * for clean. */
int image_sync(Image *im);

#endif
