/*
 * Two tables of registers: the function's configuration space, and what is in its BAR 4, a Device
 * of its own that only the function reaches. The four structures of 4.1.4 have a page each there,
 * as QEMU's do. Negotiation, status and queues live in the VirtioDevice; three selectors and the
 * window of 4.1.4.9 are all that stays here.
 *
 * An access holds the function's lock and takes the virtio device's. Interrupts come with only the
 * latter held.
 */
#include "devices/virtio/pci.h"

#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/virtio/registers.h"

enum { VENDOR = 0x1af4, DEVICE = 0x1040, SUBSYSTEM = 0x1100, REVISION = 1, OTHER_CLASS = 0x00ff };

enum { BAR = 4, BAR_SIZE = 0x4000 };
/* Structures in the BAR. */
enum { COMMON = 0x0000, ISR = 0x1000, CONFIG = 0x2000, NOTIFY = 0x3000, PAGE = 0x1000 };
enum { NOTIFY_MULTIPLIER = 4, NO_VECTOR = 0xffff };

typedef struct VirtioBar {
    Device dev;
    VirtioDevice *virtio;
    PciDevice *function; /* NULL: none, the registers stand alone */
    u32 features_sel, driver_features_sel;
    u16 queue_sel;
} VirtioBar;

typedef struct VirtioPci {
    PciDevice pci;
    VirtioDevice *virtio;
    Device *bar;
    u32 window_bar, window_offset, window_length; /* of the PCI configuration access capability */
} VirtioPci;

VirtioDevice *virtio_pci_device(Device *function)
{
    return ((VirtioPci *)function)->virtio;
}

/* The pin follows the isr. The virtio device's lock is held. */
static void drive(PciDevice *function, const VirtioDevice *v)
{
    if (function) {
        pci_set_intx(function, v->isr != 0);
    }
}

/* ---- BAR 4: reads --------------------------------------------------------------------------- */

/* Until the driver chooses a size, the largest is chosen (4.1.4.3). */
static u16 queue_size(const VirtQueue *q)
{
    return q->size ? q->size : q->max;
}

/* Reading acknowledges (4.1.4.5). */
static u8 take_isr(VirtioBar *b)
{
    VirtioDevice *v = b->virtio;
    u8 isr = v->isr;
    virtio_isr_ack(v, isr);
    drive(b->function, v);
    return isr;
}

#define READ(name, expression) VIRTIO_READ(VirtioBar, name, expression)

READ(features, virtio_features_read(v, t->features_sel))
READ(driver_features, virtio_driver_features_read(v, t->driver_features_sel))
READ(vector, NO_VECTOR)
READ(num_queues, v->queue_count)
READ(status, v->status)
READ(generation, v->config_generation)
READ(queue_size, q ? queue_size(q) : 0)
READ(queue_enable, q ? q->ready : 0)
READ(queue_notify_off, q ? q->index : 0)
READ(queue_address, q ? virtio_queue_address_read(q, index) : 0)
READ(queue_reset, 0) /* a reset is over when the write returns */
READ(isr, take_isr(t))
READ(config, virtio_config_read(v, index))

/* ---- BAR 4: writes -------------------------------------------------------------------------- */

static void set_queue_size(VirtQueue *q, u64 value)
{
    if (q) {
        q->size = (u16)value; /* whether it is sound is seen when it is enabled */
    }
}

/* Only 1 enables; zero is not for drivers to write. */
static void enable_queue(VirtioBar *b, u64 value)
{
    VirtQueue *q = value == 1 ? virtio_queue_setup(b->virtio, b->queue_sel) : NULL;
    if (q) {
        q->size = queue_size(q);
        virtio_queue_set_ready(q, true);
    }
}

static void reset_queue(VirtQueue *q, u64 value)
{
    if (q && value == 1) {
        virtio_queue_reset(q);
    }
}

#define WRITE(name, statement) VIRTIO_WRITE(VirtioBar, name, statement)

WRITE(driver_features, virtio_driver_features_write(v, t->driver_features_sel, (u32)value))
WRITE(vector, (void)0) /* without MSI-X there are no vectors to choose from */
WRITE(status, (virtio_status_write(v, (u8)value), drive(t->function, v)))
WRITE(queue_size, set_queue_size(virtio_queue_setup(v, t->queue_sel), value))
WRITE(queue_enable, enable_queue(t, value))
WRITE(queue_address, virtio_queue_address_write(v, t->queue_sel, index, (u32)value, (u32)mask))
WRITE(queue_reset, reset_queue(q, value))
WRITE(notify, virtio_queue_notify(v, index))
WRITE(config, virtio_config_write(v, index, (u32)value, (u32)mask))

/* What happens for every buffer comes first. */
static const RegDesc bar_regs[] = {
    {.name = "notify",
     .offset = NOTIFY,
     .width = 4,
     .count = VIRTIO_MAX_QUEUES,
     .stride = NOTIFY_MULTIPLIER,
     .write = notify_write},
    {.name = "isr", .offset = ISR, .width = 1, .read = isr_read},
    {.name = "device_feature_select",
     .offset = COMMON + 0x00,
     .width = 4,
     .at = offsetof(VirtioBar, features_sel),
     .wmask = UINT32_MAX},
    {.name = "device_feature", .offset = COMMON + 0x04, .width = 4, .read = features_read},
    {.name = "driver_feature_select",
     .offset = COMMON + 0x08,
     .width = 4,
     .at = offsetof(VirtioBar, driver_features_sel),
     .wmask = UINT32_MAX},
    {.name = "driver_feature",
     .offset = COMMON + 0x0c,
     .width = 4,
     .read = driver_features_read,
     .write = driver_features_write},
    {.name = "config_msix_vector",
     .offset = COMMON + 0x10,
     .width = 2,
     .read = vector_read,
     .write = vector_write},
    {.name = "num_queues", .offset = COMMON + 0x12, .width = 2, .read = num_queues_read},
    {.name = "device_status",
     .offset = COMMON + 0x14,
     .width = 1,
     .read = status_read,
     .write = status_write},
    {.name = "config_generation", .offset = COMMON + 0x15, .width = 1, .read = generation_read},
    {.name = "queue_select",
     .offset = COMMON + 0x16,
     .width = 2,
     .at = offsetof(VirtioBar, queue_sel),
     .wmask = UINT16_MAX},
    {.name = "queue_size",
     .offset = COMMON + 0x18,
     .width = 2,
     .read = queue_size_read,
     .write = queue_size_write},
    {.name = "queue_msix_vector",
     .offset = COMMON + 0x1a,
     .width = 2,
     .read = vector_read,
     .write = vector_write},
    {.name = "queue_enable",
     .offset = COMMON + 0x1c,
     .width = 2,
     .read = queue_enable_read,
     .write = queue_enable_write},
    {.name = "queue_notify_off",
     .offset = COMMON + 0x1e,
     .width = 2,
     .read = queue_notify_off_read},
    {.name = "queue_address",
     .offset = COMMON + 0x20,
     .width = 4,
     .count = 6,
     .stride = 4,
     .read = queue_address_read,
     .write = queue_address_write},
    {.name = "queue_reset",
     .offset = COMMON + 0x3a,
     .width = 2,
     .read = queue_reset_read,
     .write = queue_reset_write},
    {.name = "config",
     .offset = CONFIG,
     .width = 4,
     .count = VIRTIO_MAX_CONFIG / 4,
     .stride = 4,
     .read = config_read,
     .write = config_write},
};

static bool bar_init(Device *d, const void *config, GError **err G_GNUC_UNUSED)
{
    ((VirtioBar *)d)->virtio = (VirtioDevice *)config;
    return true;
}

const DeviceClass virtio_pci_bar_class = {
    .name = "virtio_pci_bar",
    .instance_size = sizeof(VirtioBar),
    .region_size = BAR_SIZE,
    .min_access = 1,
    .max_access = 4,
    .regs = bar_regs,
    .reg_count = ARRAY_LEN(bar_regs),
    .init = bar_init,
};

/* ---- The function: capabilities ------------------------------------------------------------- */

enum {
    CAP_VENDOR = 0x09,
    CAP_COMMON = 1,
    CAP_NOTIFY = 2,
    CAP_ISR = 3,
    CAP_DEVICE = 4,
    CAP_PCI = 5
};
/* Where each begins; NOTIFY's and PCI's have a fifth word. */
enum { AT_COMMON = 0x40, AT_NOTIFY = 0x50, AT_ISR = 0x64, AT_DEVICE = 0x74, AT_PCI = 0x84 };

#define CAPABILITY(type, next, words, offset)                                                      \
    CAP_VENDOR | (next) << 8 | (words)*4 << 16 | (u32)(type) << 24, BAR, offset, PAGE

static const u32 capabilities[] = {
    CAPABILITY(CAP_COMMON, AT_NOTIFY, 4, COMMON), /* */
    CAPABILITY(CAP_NOTIFY, AT_ISR, 5, NOTIFY),    NOTIFY_MULTIPLIER,
    CAPABILITY(CAP_ISR, AT_DEVICE, 4, ISR),    /* */
    CAPABILITY(CAP_DEVICE, AT_PCI, 4, CONFIG), /* */
    CAP_VENDOR | 5 * 4 << 16 | CAP_PCI << 24,
};
_Static_assert(AT_COMMON + sizeof(capabilities) == AT_PCI + 4, "capabilities are where they say");

static u64 capability_read(Device *d G_GNUC_UNUSED, unsigned index)
{
    return capabilities[index];
}

/* The PCI configuration access capability (4.1.4.9): a window of 1, 2 or 4 bytes into the BAR, for
 * those that can't map it. */
static bool window_access(VirtioPci *p, u64 *value, bool is_write)
{
    u32 offset = p->window_offset, n = p->window_length;
    if (p->window_bar != BAR || (n != 1 && n != 2 && n != 4) || offset % n || offset >= BAR_SIZE) {
        log_guest_error("%s: access to %u bytes at 0x%x of BAR %u through configuration space\n",
                        p->pci.dev.name, n, offset, p->window_bar);
        return false;
    }
    return is_write ? p->bar->ops.write(p->bar, offset, n, *value & mask64(8 * n))
                    : p->bar->ops.read(p->bar, offset, n, value);
}

static u64 window_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    u64 value = 0;
    window_access((VirtioPci *)d, &value, false);
    return value;
}

static void window_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value, u64 mask)
{
    VirtioPci *p = (VirtioPci *)d;
    u64 wanted = mask64(8 * MIN(p->window_length, 4));
    if ((mask & wanted) == wanted) {
        window_access(p, &value, true);
    }
}

static const RegDesc pci_regs[] = {
    PCI_HEADER_REGS,
    {.name = "capability",
     .offset = AT_COMMON,
     .width = 4,
     .count = ARRAY_LEN(capabilities),
     .stride = 4,
     .read = capability_read},
    {.name = "window_bar",
     .offset = AT_PCI + 4,
     .width = 4,
     .at = offsetof(VirtioPci, window_bar),
     .wmask = 0xff},
    {.name = "window_offset",
     .offset = AT_PCI + 8,
     .width = 4,
     .at = offsetof(VirtioPci, window_offset),
     .wmask = UINT32_MAX},
    {.name = "window_length",
     .offset = AT_PCI + 12,
     .width = 4,
     .at = offsetof(VirtioPci, window_length),
     .wmask = UINT32_MAX},
    {.name = "window_data",
     .offset = AT_PCI + 16,
     .width = 4,
     .read = window_read,
     .write = window_write},
};

/* ---- The function --------------------------------------------------------------------------- */

static void on_interrupt(void *opaque, int queue G_GNUC_UNUSED)
{
    VirtioPci *p = opaque;
    drive(&p->pci, p->virtio);
}

/* Without bus mastering the device does not touch its queues; when it comes back, it looks what it
 * has missed. */
static void pci_command(PciDevice *d)
{
    VirtioDevice *v = ((VirtioPci *)d)->virtio;
    if (!v) {
        return;
    }
    g_mutex_lock(&v->lock);
    bool was_off = v->no_dma;
    v->no_dma = !pci_is_master(d);
    for (unsigned i = 0; was_off && !v->no_dma && i < v->queue_count; i++) {
        virtio_queue_notify(v, i);
    }
    g_mutex_unlock(&v->lock);
}

static bool bar_read(void *opaque, u64 offset, unsigned size, u64 *value)
{
    VirtioPci *p = opaque;
    return p->bar->ops.read(p->bar, offset, size, value);
}

static bool bar_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    VirtioPci *p = opaque;
    return p->bar->ops.write(p->bar, offset, size, value);
}

static const MmioOps bar_ops = {bar_read, bar_write, 1, 4};

static bool pci_init(Device *d, const void *config, GError **err)
{
    VirtioPci *p = (VirtioPci *)d;
    p->virtio = (VirtioDevice *)config;
    p->bar = device_new(&virtio_pci_bar_class, d->name, p->virtio, err);
    if (!p->bar) {
        return false;
    }
    ((VirtioBar *)p->bar)->function = &p->pci;
    PciInfo info = {
        .vendor = VENDOR,
        .device = DEVICE,
        .subsystem_vendor = VENDOR,
        .subsystem = SUBSYSTEM,
        .class_code = OTHER_CLASS << 8,
        .revision = REVISION,
        .pin = 1,
        .capabilities = AT_COMMON,
        .bars[BAR] = {PCI_BAR_MEM64, true, BAR_SIZE, &bar_ops},
    };
    if (p->virtio) {
        const VirtioClass *class = p->virtio->class;
        info.device += class->id;
        info.class_code = class->pci_class ? class->pci_class << 8 : info.class_code;
        g_mutex_lock(&p->virtio->lock);
        p->virtio->interrupt = on_interrupt;
        p->virtio->interrupt_opaque = p;
        g_mutex_unlock(&p->virtio->lock);
    }
    pci_device_init(&p->pci, &info);
    p->pci.command_changed = pci_command;
    return true;
}

static void pci_finalize(Device *d)
{
    VirtioPci *p = (VirtioPci *)d;
    if (p->virtio) {
        g_mutex_lock(&p->virtio->lock);
        p->virtio->interrupt = NULL;
        g_mutex_unlock(&p->virtio->lock);
    }
    pci_device_finalize(&p->pci);
    device_free(p->bar);
}

static void pci_reset(Device *d)
{
    VirtioPci *p = (VirtioPci *)d;
    device_reset(p->bar);
    if (p->virtio) {
        g_mutex_lock(&p->virtio->lock);
        virtio_reset(p->virtio);
        g_mutex_unlock(&p->virtio->lock);
    }
}

static void pci_update(Device *d)
{
    VirtioPci *p = (VirtioPci *)d;
    pci_device_update(&p->pci);
    if (p->virtio) {
        g_mutex_lock(&p->virtio->lock);
        drive(&p->pci, p->virtio);
        g_mutex_unlock(&p->virtio->lock);
    }
}

const DeviceClass virtio_pci_class = {
    .name = "virtio_pci",
    .instance_size = sizeof(VirtioPci),
    .region_size = PCI_CONFIG_SIZE,
    .min_access = 1,
    .max_access = 4,
    .regs = pci_regs,
    .reg_count = ARRAY_LEN(pci_regs),
    .init = pci_init,
    .finalize = pci_finalize,
    .reset = pci_reset,
    .update = pci_update,
};

/* ---- -device -------------------------------------------------------------------------------- */

static const char *const legacy_choices[] = {"on", "auto", NULL};

const PropDesc virtio_pci_props[] = {
    {"addr", PROP_STRING, offsetof(VirtioDevice, pci.addr),
     .help = "slot, hexadecimal: 1 to 1f (the first that is free)"},
    {"disable-legacy", PROP_ENUM, offsetof(VirtioDevice, pci.disable_legacy), "auto",
     "there is no legacy interface", .choices = legacy_choices},
    {"disable-modern", PROP_BOOL, offsetof(VirtioDevice, pci.disable_modern), "off",
     "has to be off: there is only the modern interface"},
    {"multifunction", PROP_BOOL, offsetof(VirtioDevice, pci.multifunction), "off",
     "has to be off: a slot has one function"},
    {"romfile", PROP_STRING, offsetof(VirtioDevice, pci.romfile),
     .help = "has to be empty: there are no option ROMs"},
    {"vectors", PROP_UINT, offsetof(VirtioDevice, pci.vectors), "2",
     "of MSI-X, on boards that have it", .max = 2048},
};
const unsigned virtio_pci_prop_count = ARRAY_LEN(virtio_pci_props);

Device *virtio_pci_plug(VirtioDevice *v, PciBus *bus, GError **err)
{
    int slot = -1;
    if (v->bus && strcmp(v->bus, "pcie.0") != 0) {
        stag_error(err, "there is no bus '%.60s' for it; PCI's is pcie.0", v->bus);
        return NULL;
    }
    if (v->pci.disable_modern || v->pci.multifunction || (v->pci.romfile && *v->pci.romfile)) {
        stag_error(err, "%s can't be had",
                   v->pci.disable_modern  ? "disable-modern=on"
                   : v->pci.multifunction ? "multifunction=on"
                                          : "a romfile");
        return NULL;
    }
    if (v->pci.addr && !pci_parse_slot(v->pci.addr, &slot, err)) {
        return NULL;
    }
    g_autofree char *name = v->id ? g_strdup(v->id) : g_strconcat(v->class->name, "-pci", NULL);
    Device *d = device_new(&virtio_pci_class, name, v, err);
    if (d && !pci_bus_add(bus, (PciDevice *)d, slot, err)) {
        device_free(d);
        d = NULL;
    }
    return d;
}
