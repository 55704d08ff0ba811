/*
 * virtio-balloon (5.5): takes memory from a guest that runs and gives it back. What is in the
 * balloon is not the guest's until it comes out again, and the host has it meanwhile.
 */
#ifndef STAG_DEVICES_VIRTIO_BALLOON_H
#define STAG_DEVICES_VIRTIO_BALLOON_H

#include "devices/virtio/virtio.h"

extern const VirtioClass virtio_balloon_class;

/* Asks the guest to make do with so many bytes of its RAM (cut to what it has, to whole pages).
 * It does so when it can and likes. Takes the lock. */
void virtio_balloon_set(VirtioDevice *d, u64 bytes);
/* How many bytes the guest has left, by its own account. Takes the lock. */
u64 virtio_balloon_get(VirtioDevice *d);

#endif
