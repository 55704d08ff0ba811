/*
 * The virtio-mmio transport (4.2), version 2: one slot, that is empty (DeviceID 0, which drivers
 * pass over) or holds a virtio device. Interrupt output 0.
 */
#ifndef STAG_DEVICES_VIRTIO_MMIO_H
#define STAG_DEVICES_VIRTIO_MMIO_H

#include "devices/device.h"
#include "devices/virtio/virtio.h"

/* The configuration is the VirtioDevice in the slot, or NULL. It outlives the transport and stays
 * the caller's. */
extern const DeviceClass virtio_mmio_class;

/* What is in the slot, NULL: nothing. */
VirtioDevice *virtio_mmio_device(Device *slot);

#endif
