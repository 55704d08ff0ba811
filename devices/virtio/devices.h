/* The virtio classes, for the registry. */
#ifndef STAG_DEVICES_VIRTIO_DEVICES_H
#define STAG_DEVICES_VIRTIO_DEVICES_H

#include "devices/virtio/virtio.h"

extern const VirtioClass virtio_balloon_class;
extern const VirtioClass virtio_blk_class;
extern const VirtioClass virtio_net_class;
extern const VirtioClass virtio_rng_class;
extern const VirtioClass virtio_serial_class;

#endif
