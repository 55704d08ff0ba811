/*
 * The configuration space that all functions share: type 0 header, base address registers and the
 * interrupt pin. BARs are stored as the guest wrote them; the bits that a size makes read-only are
 * left out when they are read and when they are used.
 */
#include "devices/pci/pci.h"

#include <stdatomic.h>

#include "core/base/bits.h"

/* Low bits of a BAR: what it is. */
enum { BAR_IS_IO = 0x1, BAR_IS_64BIT = 0x4, BAR_IS_PREFETCHABLE = 0x8 };
enum { STATUS_INTERRUPT = 1u << 19, STATUS_CAPABILITIES = 1u << 20 }; /* above the command */

u64 pci_id_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    const PciInfo *info = &((PciDevice *)d)->info;
    return info->vendor | (u32)info->device << 16;
}

u64 pci_command_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    const PciDevice *p = (PciDevice *)d;
    return p->command | (p->intx ? STATUS_INTERRUPT : 0) |
           (p->info.capabilities ? STATUS_CAPABILITIES : 0);
}

u64 pci_class_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    const PciInfo *info = &((PciDevice *)d)->info;
    return info->revision | info->class_code << 8;
}

u64 pci_subsystem_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    const PciInfo *info = &((PciDevice *)d)->info;
    return info->subsystem_vendor | (u32)info->subsystem << 16;
}

u64 pci_capabilities_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    return ((PciDevice *)d)->info.capabilities;
}

u64 pci_interrupt_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    const PciDevice *p = (PciDevice *)d;
    return p->line | (u32)p->info.pin << 8;
}

void pci_absent_write(Device *d G_GNUC_UNUSED, unsigned index G_GNUC_UNUSED,
                      u64 value G_GNUC_UNUSED, u64 mask G_GNUC_UNUSED)
{
}

/* ---- Base address registers ----------------------------------------------------------------- */

/* The address bits of BAR n that can be written. */
static u32 bar_mask(const PciDevice *d, unsigned n)
{
    const PciBar *bar = &d->info.bars[n];
    if (bar->kind == PCI_BAR_NONE) {
        bool upper = n > 0 && bar[-1].kind == PCI_BAR_MEM64;
        return upper ? (u32)(~(bar[-1].size - 1) >> 32) : 0;
    }
    return (u32) ~(bar->size - 1);
}

static u32 bar_flags(const PciBar *bar)
{
    switch (bar->kind) {
    case PCI_BAR_NONE:
        return 0;
    case PCI_BAR_IO:
        return BAR_IS_IO;
    default:
        return (bar->kind == PCI_BAR_MEM64 ? BAR_IS_64BIT : 0) |
               (bar->prefetchable ? BAR_IS_PREFETCHABLE : 0);
    }
}

u64 pci_bar_read(Device *d, unsigned index)
{
    const PciDevice *p = (PciDevice *)d;
    return (p->bars[index] & bar_mask(p, index)) | bar_flags(&p->info.bars[index]);
}

/* Where BAR n answers now. */
static u64 bar_address(const PciDevice *d, unsigned n)
{
    PciBarKind kind = d->info.bars[n].kind;
    u32 enable = kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    if (kind == PCI_BAR_NONE || !(d->command & enable)) {
        return PCI_UNMAPPED;
    }
    u64 high = kind == PCI_BAR_MEM64 ? d->bars[n + 1] & bar_mask(d, n + 1) : 0;
    return high << 32 | (d->bars[n] & bar_mask(d, n));
}

static void map_bars(PciDevice *d)
{
    for (unsigned i = 0; i < PCI_BARS; i++) {
        atomic_store_explicit(&d->mapped[i], bar_address(d, i), memory_order_release);
    }
}

void pci_bar_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                   u64 mask G_GNUC_UNUSED)
{
    map_bars((PciDevice *)d);
}

/* ---- Interrupts and the command register ---------------------------------------------------- */

void pci_set_intx(PciDevice *d, bool level)
{
    d->intx = level;
    if (d->bus) {
        pci_bus_update_intx(d->bus, d);
    }
}

bool pci_is_master(const PciDevice *d)
{
    return d->command & PCI_COMMAND_MASTER;
}

void pci_device_update(PciDevice *d)
{
    map_bars(d);
    d->intx_masked = d->command & PCI_COMMAND_INTX_DISABLE;
    if (d->bus) {
        pci_bus_update_intx(d->bus, d);
    }
    if (d->command_changed) {
        d->command_changed(d);
    }
}

void pci_command_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                       u64 mask G_GNUC_UNUSED)
{
    pci_device_update((PciDevice *)d);
}

/* ---- Life ----------------------------------------------------------------------------------- */

void pci_device_init(PciDevice *d, const PciInfo *info)
{
    d->info = *info;
    for (unsigned i = 0; i < PCI_BARS; i++) {
        const PciBar *bar = &info->bars[i];
        g_assert(bar->kind == PCI_BAR_NONE || (is_pow2(bar->size) && bar->size >= 16));
        g_assert(bar->kind != PCI_BAR_MEM64 || (i + 1 < PCI_BARS && bar[1].kind == PCI_BAR_NONE));
    }
}

void pci_device_finalize(PciDevice *d)
{
    if (d->bus) {
        pci_bus_remove(d->bus, d);
    }
}
