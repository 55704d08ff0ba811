/*
 * The registers of 4.2.2. Each is one row that hands on to the VirtioDevice; the three selectors
 * are all that the transport keeps itself. An access takes the slot's own lock (in the bus), then
 * the virtio device's; interrupts, which come with only the latter held, drive the output line.
 */
#include "devices/virtio/mmio.h"

#include "devices/virtio/registers.h"

enum { MAGIC = 0x74726976, VERSION = 2, VENDOR = 0x554d4551 /* as QEMU's, "QEMU" */ };
enum { CONFIG = 0x100, CONFIG_SIZE = 0x100 };

typedef struct VirtioMmio {
    Device dev;
    VirtioDevice *virtio;
    u32 features_sel, driver_features_sel, queue_sel;
} VirtioMmio;

VirtioDevice *virtio_mmio_device(Device *slot)
{
    return ((VirtioMmio *)slot)->virtio;
}

/* The line follows the isr. The virtio device's lock is held. */
static void drive(VirtioMmio *m)
{
    device_set_irq(&m->dev, 0, m->virtio->isr != 0);
}

static void on_interrupt(void *opaque, int queue G_GNUC_UNUSED)
{
    drive(opaque);
}

/* ---- Reads ---------------------------------------------------------------------------------- */

static u64 fixed_read(Device *d G_GNUC_UNUSED, unsigned index)
{
    return index == 0 ? MAGIC : VERSION;
}

static u64 vendor_read(Device *d G_GNUC_UNUSED, unsigned index G_GNUC_UNUSED)
{
    return VENDOR;
}

#define READ(name, expression) VIRTIO_READ(VirtioMmio, name, expression)

READ(device_id, v->class->id)
READ(features, virtio_features_read(v, t->features_sel))
READ(queue_max, q ? q->max : 0)
READ(queue_ready, q ? q->ready : 0)
READ(isr, v->isr)
READ(status, v->status)
READ(shm, UINT32_MAX) /* there are no shared memory regions */
READ(queue_reset, 0)  /* a reset is over when the write returns */
READ(generation, v->config_generation)
READ(config, virtio_config_read(v, index))

/* ---- Writes --------------------------------------------------------------------------------- */

static void set_queue_size(VirtQueue *q, u64 value)
{
    if (q) {
        q->size = (u16)MIN(value, UINT16_MAX); /* whether it is sound is seen when it gets ready */
    }
}

static void set_queue_ready(VirtQueue *q, u64 value)
{
    if (q) {
        virtio_queue_set_ready(q, value & 1);
    }
}

static void reset_queue(VirtQueue *q, u64 value)
{
    if (q && value & 1) {
        virtio_queue_reset(q);
    }
}

#define WRITE(name, statement) VIRTIO_WRITE(VirtioMmio, name, statement)

WRITE(driver_features, virtio_driver_features_write(v, t->driver_features_sel, (u32)value))
WRITE(queue_size, set_queue_size(virtio_queue_setup(v, t->queue_sel), value))
WRITE(queue_ready, set_queue_ready(q, value))
WRITE(queue_notify, virtio_queue_notify(v, (u32)value))
WRITE(isr_ack, (virtio_isr_ack(v, (u8)value), drive(t)))
WRITE(status, (virtio_status_write(v, (u8)value), drive(t)))
WRITE(queue_address, virtio_queue_address_write(v, t->queue_sel, index, (u32)value, (u32)mask))
WRITE(queue_reset, reset_queue(q, value))
WRITE(config, virtio_config_write(v, index, (u32)value, (u32)mask))

/* What happens for every buffer comes first. */
static const RegDesc mmio_regs[] = {
    {.name = "queue_notify", .offset = 0x050, .width = 4, .write = queue_notify_write},
    {.name = "interrupt_status", .offset = 0x060, .width = 4, .read = isr_read},
    {.name = "interrupt_ack", .offset = 0x064, .width = 4, .write = isr_ack_write},
    {.name = "id", .offset = 0x000, .width = 4, .count = 2, .stride = 4, .read = fixed_read},
    {.name = "device_id", .offset = 0x008, .width = 4, .read = device_id_read},
    {.name = "vendor_id", .offset = 0x00c, .width = 4, .read = vendor_read},
    {.name = "device_features", .offset = 0x010, .width = 4, .read = features_read},
    {.name = "device_features_sel",
     .offset = 0x014,
     .width = 4,
     .at = offsetof(VirtioMmio, features_sel),
     .wmask = UINT32_MAX},
    {.name = "driver_features", .offset = 0x020, .width = 4, .write = driver_features_write},
    {.name = "driver_features_sel",
     .offset = 0x024,
     .width = 4,
     .at = offsetof(VirtioMmio, driver_features_sel),
     .wmask = UINT32_MAX},
    {.name = "queue_sel",
     .offset = 0x030,
     .width = 4,
     .at = offsetof(VirtioMmio, queue_sel),
     .wmask = UINT32_MAX},
    {.name = "queue_size_max", .offset = 0x034, .width = 4, .read = queue_max_read},
    {.name = "queue_size", .offset = 0x038, .width = 4, .write = queue_size_write},
    {.name = "queue_ready",
     .offset = 0x044,
     .width = 4,
     .read = queue_ready_read,
     .write = queue_ready_write},
    {.name = "status", .offset = 0x070, .width = 4, .read = status_read, .write = status_write},
    {.name = "queue_address",
     .offset = 0x080,
     .width = 4,
     .count = 2,
     .stride = 4,
     .rows = 3,
     .row_stride = 0x10,
     .write = queue_address_write},
    {.name = "shared_memory",
     .offset = 0x0b0,
     .width = 4,
     .count = 4,
     .stride = 4,
     .read = shm_read},
    {.name = "queue_reset",
     .offset = 0x0c0,
     .width = 4,
     .read = queue_reset_read,
     .write = queue_reset_write},
    {.name = "config_generation", .offset = 0x0fc, .width = 4, .read = generation_read},
    {.name = "config",
     .offset = CONFIG,
     .width = 4,
     .count = CONFIG_SIZE / 4,
     .stride = 4,
     .read = config_read,
     .write = config_write},
};

/* ---- Life ----------------------------------------------------------------------------------- */

static bool mmio_init(Device *d, const void *config, GError **err G_GNUC_UNUSED)
{
    VirtioMmio *m = (VirtioMmio *)d;
    device_make_outputs(d, 1);
    m->virtio = (VirtioDevice *)config;
    if (m->virtio) {
        g_mutex_lock(&m->virtio->lock);
        m->virtio->interrupt = on_interrupt;
        m->virtio->interrupt_opaque = m;
        g_mutex_unlock(&m->virtio->lock);
    }
    return true;
}

static void mmio_finalize(Device *d)
{
    VirtioDevice *v = ((VirtioMmio *)d)->virtio;
    if (v) {
        g_mutex_lock(&v->lock);
        v->interrupt = NULL;
        g_mutex_unlock(&v->lock);
    }
}

static void mmio_reset(Device *d)
{
    VirtioDevice *v = ((VirtioMmio *)d)->virtio;
    if (v) {
        g_mutex_lock(&v->lock);
        virtio_reset(v);
        g_mutex_unlock(&v->lock);
    }
}

static void mmio_update(Device *d)
{
    VirtioDevice *v = ((VirtioMmio *)d)->virtio;
    if (v) {
        g_mutex_lock(&v->lock);
        drive((VirtioMmio *)d);
        g_mutex_unlock(&v->lock);
    } else {
        device_set_irq(d, 0, false);
    }
}

const DeviceClass virtio_mmio_class = {
    .name = "virtio_mmio",
    .instance_size = sizeof(VirtioMmio),
    .region_size = 0x1000,
    .min_access = 1,
    .max_access = 4,
    .regs = mmio_regs,
    .reg_count = ARRAY_LEN(mmio_regs),
    .fdt_name = "virtio_mmio",
    .compatible = (const char *const[]){"virtio,mmio", NULL},
    .init = mmio_init,
    .finalize = mmio_finalize,
    .reset = mmio_reset,
    .update = mmio_update,
};
