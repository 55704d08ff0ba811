/* The virtio classes, for the registry. */
#ifndef STAG_DEVICES_VIRTIO_DEVICES_H
#define STAG_DEVICES_VIRTIO_DEVICES_H

#include "devices/virtio/virtio.h"

extern const VirtioClass virtio_rng_class;

#endif
