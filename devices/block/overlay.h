/*
 * The overlay of `snapshot=on`: a temporary file of the image's size, and a bitmap that says which
 * clusters of 64 KiB are in it. The rest is read from the image, which is never written. A cluster
 * moves to the overlay with the first write to it: what the write does not cover is copied, the
 * data are written, and then, under one lock for all such moves, the bitmap changes. Who finds a
 * bit set uses the overlay without the lock.
 */
#ifndef STAG_DEVICES_BLOCK_OVERLAY_H
#define STAG_DEVICES_BLOCK_OVERLAY_H

#include "devices/block/image.h"

typedef struct Overlay {
    Image *base;
    Image file;
    u64 *moved; /* a bit for each cluster */
    GMutex moving;
} Overlay;

bool overlay_open(Overlay *o, Image *base, GError **err);
void overlay_close(Overlay *o);

/* The one image that a read (write) of the range has to do with, NULL: it is not so simple. */
Image *overlay_image(Overlay *o, bool write, u64 offset, u64 bytes);

/* As the functions of images. */
int overlay_read(Overlay *o, Span to, u64 offset, u64 bytes);
int overlay_write(Overlay *o, Span from, u64 offset, u64 bytes);
int overlay_zero(Overlay *o, u64 offset, u64 bytes);
int overlay_discard(Overlay *o, u64 offset, u64 bytes);

u64 overlay_bytes(const Overlay *o); /* in clusters that were moved */

#endif
