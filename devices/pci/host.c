/*
 * The bridge has no registers of its own; its regions lead to functions. None of them has a lock:
 * an access finds its function without one and then takes the function's. Addresses that no
 * function answers read as all ones and swallow writes, as on a real PCI bus.
 *
 * The bridge's lock guards its four interrupt outputs. It is taken by functions that hold their
 * own, and is held while the interrupt controller's is taken.
 */
#include "devices/pci/host.h"

#include <libfdt.h>
#include <stdatomic.h>
#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"

#define ECAM_SIZE 0x10000000ull
#define MEMORY_BASE 0x40000000ull
#define MEMORY_SIZE 0x40000000ull
#define HIGH_SIZE (16ull << 30)
#define PIO_BASE 0x03000000ull
#define PIO_SIZE 0x10000ull

/* A range of the physical bus in which BARs may be. */
typedef struct PciWindow {
    PciBus *bus;
    bool io;
    u64 first; /* address on the PCI bus of its first byte */
} PciWindow;

struct PciBus {
    Device dev; /* the bridge */
    PciDevice *root;
    PciDevice *slots[PCI_SLOTS];
    /* All BARs there are, in the order in which overlapping ones win. */
    struct PciMapping {
        PciDevice *d;
        unsigned bar;
    } mappings[PCI_SLOTS * PCI_BARS];
    unsigned mapping_count;
    PciWindow memory, high, pio;
    u64 high_size;
    Bus *bus;
    u32 intx[PCI_PINS]; /* a bit for each slot that drives the output */
};

PciBus *pci_host_bus(Device *host)
{
    return (PciBus *)host;
}

Bus *pci_bus_memory(const PciBus *bus)
{
    return bus->bus;
}

/* ---- Windows -------------------------------------------------------------------------------- */

static void access_bar(PciDevice *d, const PciBar *bar, u64 offset, unsigned size, u64 *value,
                       bool is_write)
{
    const MmioOps *ops = bar->ops;
    unsigned step = MIN(size, ops->max_size ? ops->max_size : 8);
    for (unsigned done = 0; done < size; done += step) {
        u64 part = bits(*value, done * 8, step * 8);
        bool ok = step >= ops->min_size && (is_write ? ops->write(d, offset + done, step, part)
                                                     : ops->read(d, offset + done, step, &part));
        if (!is_write) {
            *value = set_bits(*value, done * 8, step * 8, ok ? part : UINT64_MAX);
        }
    }
}

/* For reads, *value is all ones before. */
static void access_window(const PciWindow *w, u64 offset, unsigned size, u64 *value, bool is_write)
{
    u64 address = w->first + offset;
    for (unsigned i = 0; i < w->bus->mapping_count; i++) {
        const struct PciMapping *m = &w->bus->mappings[i];
        const PciBar *bar = &m->d->info.bars[m->bar];
        u64 base = atomic_load_explicit(&m->d->mapped[m->bar], memory_order_acquire);
        if (base == PCI_UNMAPPED || address - base >= bar->size ||
            (bar->kind == PCI_BAR_IO) != w->io) {
            continue;
        }
        g_mutex_lock(&m->d->dev.lock);
        bool here = atomic_load(&m->d->mapped[m->bar]) == base;
        if (here) {
            access_bar(m->d, bar, address - base, size, value, is_write);
        }
        g_mutex_unlock(&m->d->dev.lock);
        if (here) {
            return;
        }
    }
}

static bool window_read(void *opaque, u64 offset, unsigned size, u64 *value)
{
    *value = UINT64_MAX;
    access_window(opaque, offset, size, value, false);
    return true;
}

static bool window_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    access_window(opaque, offset, size, &value, true);
    return true;
}

static const MmioOps window_ops = {.read = window_read, .write = window_write};

/* ---- Configuration space -------------------------------------------------------------------- */

/* The function whose register is at `offset`: bits 27:20 bus, 19:15 slot, 14:12 function. */
static PciDevice *function_at(PciBus *bus, u64 offset)
{
    bool bus_0_function_0 = bits(offset, 20, 8) == 0 && bits(offset, 12, 3) == 0;
    bool in_config = bits(offset, 0, 12) < PCI_CONFIG_SIZE;
    return bus_0_function_0 && in_config ? bus->slots[bits(offset, 15, 5)] : NULL;
}

static bool ecam_read(void *opaque, u64 offset, unsigned size, u64 *value)
{
    PciDevice *d = function_at(opaque, offset);
    if (!d) {
        *value = UINT64_MAX;
        return true;
    }
    g_mutex_lock(&d->dev.lock);
    bool ok = d->dev.ops.read(&d->dev, offset % PCI_CONFIG_SIZE, size, value);
    g_mutex_unlock(&d->dev.lock);
    return ok;
}

static bool ecam_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    PciDevice *d = function_at(opaque, offset);
    if (!d) {
        return true;
    }
    g_mutex_lock(&d->dev.lock);
    bool ok = d->dev.ops.write(&d->dev, offset % PCI_CONFIG_SIZE, size, value);
    g_mutex_unlock(&d->dev.lock);
    return ok;
}

static const MmioOps ecam_ops = {ecam_read, ecam_write, 1, 4};

/* ---- Slots ---------------------------------------------------------------------------------- */

bool pci_parse_slot(const char *text, int *slot, GError **err)
{
    char *end;
    u64 n = g_ascii_isxdigit(text[0]) ? g_ascii_strtoull(text, &end, 16) : PCI_SLOTS;
    if (n >= PCI_SLOTS || (*end != '\0' && *end != '.')) {
        return stag_error(err, "addr=%s is no PCI slot: 1 to 1f, hexadecimal", text);
    }
    if (*end == '.' && strcmp(end, ".0") != 0) {
        return stag_error(err, "addr=%s: devices have one function, number 0", text);
    }
    *slot = (int)n;
    return true;
}

static void list_bars(PciBus *bus)
{
    bus->mapping_count = 0;
    for (unsigned s = 0; s < PCI_SLOTS; s++) {
        for (unsigned i = 0; bus->slots[s] && i < PCI_BARS; i++) {
            if (bus->slots[s]->info.bars[i].kind != PCI_BAR_NONE) {
                bus->mappings[bus->mapping_count++] = (struct PciMapping){bus->slots[s], i};
            }
        }
    }
}

bool pci_bus_add(PciBus *bus, PciDevice *d, int slot, GError **err)
{
    if (slot < 0) {
        for (slot = 0; slot < PCI_SLOTS && bus->slots[slot]; slot++) {
        }
        if (slot == PCI_SLOTS) {
            return stag_error(err, "all %u slots of the PCI bus are taken", PCI_SLOTS);
        }
    }
    g_assert(slot < PCI_SLOTS);
    if (bus->slots[slot]) {
        return stag_error(err, "slot %x of the PCI bus is taken by %s", (unsigned)slot,
                          bus->slots[slot]->dev.name);
    }
    d->bus = bus;
    d->slot = (unsigned)slot;
    d->dev.base = bus->dev.base + ((u64)d->slot << 15);
    bus->slots[slot] = d;
    list_bars(bus);
    g_mutex_lock(&d->dev.lock);
    pci_device_update(d);
    g_mutex_unlock(&d->dev.lock);
    return true;
}

void pci_bus_remove(PciBus *bus, PciDevice *d)
{
    bus->slots[d->slot] = NULL;
    pci_bus_update_intx(bus, d);
    d->bus = NULL;
    list_bars(bus);
}

PciDevice *pci_bus_device(PciBus *bus, unsigned slot)
{
    return slot < PCI_SLOTS ? bus->slots[slot] : NULL;
}

/* ---- Interrupts ----------------------------------------------------------------------------- */

/* Which output pin `pin` (1..4) of a slot leads to: neighbours' INTA are spread over all four. */
static unsigned swizzle(unsigned slot, unsigned pin)
{
    return (slot + pin - 1) % PCI_PINS;
}

void pci_bus_update_intx(PciBus *bus, PciDevice *d)
{
    if (!d->info.pin) {
        return;
    }
    unsigned n = swizzle(d->slot, d->info.pin);
    u32 bit = 1u << d->slot;
    g_mutex_lock(&bus->dev.lock);
    bool level = bus->slots[d->slot] == d && d->intx && !d->intx_masked;
    bus->intx[n] = level ? bus->intx[n] | bit : bus->intx[n] & ~bit;
    device_set_irq(&bus->dev, n, bus->intx[n] != 0);
    g_mutex_unlock(&bus->dev.lock);
}

/* The functions drive their pins after their own reset or load; until then their old levels hold.
 */
static void host_update(Device *d)
{
    PciBus *bus = (PciBus *)d;
    for (unsigned i = 0; i < PCI_PINS; i++) {
        device_set_irq(d, i, bus->intx[i] != 0);
    }
}

/* ---- Life ----------------------------------------------------------------------------------- */

static bool host_init(Device *d, const void *config, GError **err)
{
    static const PciHostConfig standard = {HIGH_SIZE, HIGH_SIZE};
    const PciHostConfig *c = config ? config : &standard;
    PciBus *bus = (PciBus *)d;
    if (!is_pow2(c->high_size) || c->high_base % c->high_size) {
        return stag_error(err, "%s: the high window's base has to be a multiple of its size",
                          d->name);
    }
    bus->memory = (PciWindow){bus, false, MEMORY_BASE};
    bus->high = (PciWindow){bus, false, c->high_base};
    bus->pio = (PciWindow){bus, true, 0};
    bus->high_size = c->high_size;
    device_make_outputs(d, PCI_PINS);
    bus->root = (PciDevice *)device_new(&pci_root_class, "the host bridge", NULL, err);
    return bus->root && pci_bus_add(bus, bus->root, 0, err);
}

static void host_finalize(Device *d)
{
    PciBus *bus = (PciBus *)d;
    device_free(bus->root ? &bus->root->dev : NULL);
    for (unsigned i = 0; i < PCI_SLOTS; i++) {
        if (bus->slots[i]) {
            bus->slots[i]->bus = NULL;
        }
    }
}

static bool host_attach(Device *d, Bus *bus, u64 base, GError **err)
{
    PciBus *p = (PciBus *)d;
    p->bus = bus;
    return bus_add_mmio(bus, d->name, base, ECAM_SIZE, &ecam_ops, p, NULL, err) &&
           bus_add_mmio(bus, "pcie-mmio", MEMORY_BASE, MEMORY_SIZE, &window_ops, &p->memory, NULL,
                        err) &&
           bus_add_mmio(bus, "pcie-mmio-high", p->high.first, p->high_size, &window_ops, &p->high,
                        NULL, err) &&
           bus_add_mmio(bus, "pcie-pio", PIO_BASE, PIO_SIZE, &window_ops, &p->pio, NULL, err);
}

/* ---- Device tree ---------------------------------------------------------------------------- */

/* First cell of an address in `ranges`: which space. */
enum { SPACE_IO = 0x01000000, SPACE_MEM32 = 0x02000000, SPACE_MEM64 = 0x03000000 };

static int append_cells(void *fdt, int node, const char *name, const u32 *cells, unsigned n)
{
    int error = 0;
    for (unsigned i = 0; i < n && !error; i++) {
        error = fdt_appendprop_u32(fdt, node, name, cells[i]);
    }
    return error;
}

#define U64_CELLS(v) (u32)((u64)(v) >> 32), (u32)(v)
#define CELLS(fdt, node, name, ...)                                                                \
    append_cells(fdt, node, name, (const u32[]){__VA_ARGS__},                                      \
                 ARRAY_LEN(((const u32[]){__VA_ARGS__})))

static int append_range(void *fdt, int node, u32 space, u64 pci, u64 cpu, u64 size)
{
    return CELLS(fdt, node, "ranges", space, U64_CELLS(pci), U64_CELLS(cpu), U64_CELLS(size));
}

/* Four slots show how the pins are swizzled; the mask makes the others look alike. */
static int append_interrupt_map(void *fdt, int node, const DeviceFdt *env)
{
    int error = CELLS(fdt, node, "interrupt-map-mask", (PCI_PINS - 1) << 11, 0, 0, 7);
    for (unsigned slot = 0; slot < PCI_PINS; slot++) {
        for (unsigned pin = 1; pin <= PCI_PINS && !error; pin++) {
            error = CELLS(fdt, node, "interrupt-map", slot << 11, 0, 0, pin, env->irq_parent,
                          env->irq + swizzle(slot, pin));
        }
    }
    return error;
}

static int host_fdt(Device *d, void *fdt, int node, const DeviceFdt *env)
{
    const PciBus *p = (PciBus *)d;
    int error = fdt_setprop_u32(fdt, node, "#address-cells", 3);
    error = error ? error : fdt_setprop_u32(fdt, node, "#interrupt-cells", 1);
    error = error ? error : fdt_setprop_u32(fdt, node, "#size-cells", 2);
    error = error ? error : fdt_setprop_string(fdt, node, "device_type", "pci");
    error = error ? error : fdt_setprop_u32(fdt, node, "linux,pci-domain", 0);
    error = error ? error : CELLS(fdt, node, "bus-range", 0, ECAM_SIZE / (1 << 20) - 1);
    error = error ? error : fdt_setprop_empty(fdt, node, "dma-coherent");
    error = error ? error : append_range(fdt, node, SPACE_IO, 0, PIO_BASE, PIO_SIZE);
    error =
        error ? error : append_range(fdt, node, SPACE_MEM32, MEMORY_BASE, MEMORY_BASE, MEMORY_SIZE);
    error = error
                ? error
                : append_range(fdt, node, SPACE_MEM64, p->high.first, p->high.first, p->high_size);
    return error ? error : append_interrupt_map(fdt, node, env);
}

const DeviceClass pci_host_class = {
    .name = "pci-host",
    .instance_size = sizeof(PciBus),
    .region_size = ECAM_SIZE,
    .min_access = 1,
    .max_access = 4,
    .fdt_name = "pci",
    .compatible = (const char *const[]){"pci-host-ecam-generic", NULL},
    .init = host_init,
    .finalize = host_finalize,
    .update = host_update,
    .attach = host_attach,
    .fdt = host_fdt,
    .fdt_maps_interrupts = true,
};

/* ---- The function in slot 0 ----------------------------------------------------------------- */

static bool root_init(Device *d, const void *config G_GNUC_UNUSED, GError **err G_GNUC_UNUSED)
{
    /* As QEMU's: Red Hat's generic PCIe host bridge. */
    pci_device_init((PciDevice *)d, &(const PciInfo){.vendor = 0x1b36,
                                                     .device = 0x0008,
                                                     .subsystem_vendor = 0x1af4,
                                                     .subsystem = 0x1100,
                                                     .class_code = 0x060000});
    return true;
}

static void root_update(Device *d)
{
    pci_device_update((PciDevice *)d);
}

static void root_finalize(Device *d)
{
    pci_device_finalize((PciDevice *)d);
}

static const RegDesc root_regs[] = {PCI_HEADER_REGS};

const DeviceClass pci_root_class = {
    .name = "pci-root",
    .instance_size = sizeof(PciDevice),
    .region_size = PCI_CONFIG_SIZE,
    .min_access = 1,
    .max_access = 4,
    .regs = root_regs,
    .reg_count = ARRAY_LEN(root_regs),
    .init = root_init,
    .finalize = root_finalize,
    .update = root_update,
};
