/*
 * How both transports write their registers down: VIRTIO_READ and VIRTIO_WRITE make the functions
 * of a RegDesc from one expression. A transport is a struct that begins with a Device and has
 * `virtio` (the device behind it, NULL: none) and `queue_sel`. The expression runs with the
 * device's lock held and may use
 *
 *   t                  the transport
 *   v                  the VirtioDevice
 *   q                  the selected queue, or NULL
 *   index, value, mask  as RegDesc's read and write get them
 *
 * Without a device, reads give zero and writes do nothing.
 */
#ifndef STAG_DEVICES_VIRTIO_REGISTERS_H
#define STAG_DEVICES_VIRTIO_REGISTERS_H

#include "devices/virtio/virtio.h"

#define VIRTIO_READ(Transport, name, expression)                                                   \
    static u64 name##_read(Device *d, unsigned index G_GNUC_UNUSED)                                \
    {                                                                                              \
        Transport *t = (Transport *)d;                                                             \
        VirtioDevice *v = t->virtio;                                                               \
        u64 result = 0;                                                                            \
        if (v) {                                                                                   \
            g_mutex_lock(&v->lock);                                                                \
            VirtQueue *q G_GNUC_UNUSED = virtio_queue(v, t->queue_sel);                            \
            result = (expression);                                                                 \
            g_mutex_unlock(&v->lock);                                                              \
        }                                                                                          \
        return result;                                                                             \
    }

#define VIRTIO_WRITE(Transport, name, statement)                                                   \
    static void name##_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,     \
                             u64 mask G_GNUC_UNUSED)                                               \
    {                                                                                              \
        Transport *t = (Transport *)d;                                                             \
        VirtioDevice *v = t->virtio;                                                               \
        if (v) {                                                                                   \
            g_mutex_lock(&v->lock);                                                                \
            VirtQueue *q G_GNUC_UNUSED = virtio_queue(v, t->queue_sel);                            \
            statement;                                                                             \
            g_mutex_unlock(&v->lock);                                                              \
        }                                                                                          \
    }

#endif
