/* What virtio.c and queue.c share and nobody else sees. */
#ifndef STAG_DEVICES_VIRTIO_INTERNAL_H
#define STAG_DEVICES_VIRTIO_INTERNAL_H

#include "core/base/bits.h"
#include "core/base/log.h"
#include "devices/virtio/virtio.h"

/* As after a reset; what is fixed (device, index, max) stays. */
void virtq_init(VirtQueue *q);
/* Goes on with this queue from the main loop. */
void virtio_defer(VirtQueue *q);
/* The class gives up what it holds of the queue's elements. */
void virtio_let_go(VirtQueue *q);
/* Sets an isr bit and interrupts. `queue`: as in VirtioDevice.interrupt. */
void virtio_interrupt(VirtioDevice *d, u8 isr, int queue);

#endif
