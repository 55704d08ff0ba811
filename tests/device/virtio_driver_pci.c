/*
 * The driver's way to a device behind PCI: finds the function, walks its capabilities as 4.1.4
 * says, places the BAR, and then stands in for the mmio registers that the rest of the driver
 * knows.
 */
#include <string.h>

#include "devices/pci/host.h"
#include "devices/virtio/pci.h"
#include "tests/device/virtio_driver.h"

#define ECAM 0x30000000ull
#define BAR_AT 0x40010000ull

typedef struct DriverPci {
    Device *host, *function;
    u64 config;     /* address of the configuration space */
    u64 places[6];  /* by type of capability: address of the structure */
    u32 multiplier; /* of notifications */
} DriverPci;

enum { COMMON = 1, NOTIFY, ISR, CONFIG, MMIO_CONFIG = 0x100 };

static void on_line(void *opaque, unsigned n, bool level)
{
    Driver *d = opaque;
    if (n == 1) { /* slot 1's INTA */
        __atomic_add_fetch(&d->interrupts, level, __ATOMIC_SEQ_CST);
        __atomic_store_n(&d->line, level, __ATOMIC_SEQ_CST);
    } else {
        g_assert(!level);
    }
}

/* The one BAR that the capabilities lead to: where it is, once it has been placed. */
static u64 place_bar(Driver *d, unsigned n)
{
    u64 at = d->pci->config + 0x10 + 4 * n;
    driver_store(d, at, 4, UINT32_MAX);
    driver_store(d, at + 4, 4, UINT32_MAX);
    u32 low = (u32)driver_load(d, at, 4);
    g_assert((low & 0xf) == 0xc); /* 64 bits, prefetchable */
    u64 size = -((driver_load(d, at + 4, 4) << 32 | low) & ~(u64)0xf);
    g_assert(size == 0x4000 && BAR_AT % size == 0);
    driver_store(d, at, 4, BAR_AT);
    driver_store(d, at + 4, 4, 0);
    return BAR_AT;
}

void driver_pci_set_up(Driver *d)
{
    DriverPci *p = d->pci;
    memset(p->places, 0, sizeof(p->places));
    u64 bar = place_bar(d, 4);
    unsigned seen = 0;
    for (u64 at = driver_load(d, p->config + 0x34, 1); at;
         at = driver_load(d, p->config + at + 1, 1)) {
        g_assert(at >= 0x40 && at % 4 == 0 && ++seen < 10);
        u64 cap = p->config + at;
        unsigned type = (unsigned)driver_load(d, cap + 3, 1);
        if (driver_load(d, cap, 1) != 9 || type > CONFIG) {
            continue;
        }
        g_assert(driver_load(d, cap + 4, 1) == 4 && !p->places[type]);
        p->places[type] = bar + driver_load(d, cap + 8, 4);
        if (type == NOTIFY) {
            g_assert(driver_load(d, cap + 2, 1) >= 20);
            p->multiplier = (u32)driver_load(d, cap + 16, 4);
        }
    }
    for (unsigned type = COMMON; type <= CONFIG; type++) {
        g_assert(p->places[type]);
    }
    driver_pci_command(d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void driver_pci_open(Driver *d)
{
    g_autoptr(GError) err = NULL;
    DriverPci *p = d->pci = g_new0(DriverPci, 1);
    p->host = device_new(&pci_host_class, "pci", NULL, &err);
    g_assert(p->host && device_attach(p->host, d->bus, ECAM, &err));
    for (unsigned i = 0; i < PCI_PINS; i++) {
        device_connect(p->host, i, (IrqLine){on_line, d, i});
    }
    p->function = virtio_pci_plug(d->virtio, pci_host_bus(p->host), &err);
    g_assert(p->function);
    p->config = ECAM + (1 << 15);
    g_assert(driver_load(d, p->config, 4) == (0x10401af4 | (u32)d->virtio->class->id << 16));
    driver_pci_set_up(d);
}

void driver_pci_close(Driver *d)
{
    device_free(d->pci->function);
    device_free(d->pci->host);
    g_free(d->pci);
}

void driver_pci_command(Driver *d, u16 command)
{
    driver_store(d, d->pci->config + 4, 2, command);
}

Device *driver_pci_function(Driver *d)
{
    return d->pci->function;
}

/* Where the mmio transport's registers have their like. */
static const struct {
    u16 reg;
    u8 offset, width;
} commons[] = {
    {0x10, 0x04, 4}, {0x14, 0x00, 4}, {0x20, 0x0c, 4}, {0x24, 0x08, 4}, {0x30, 0x16, 2},
    {0x34, 0x18, 2}, {0x38, 0x18, 2}, {0x44, 0x1c, 2}, {0x70, 0x14, 1}, {0x80, 0x20, 4},
    {0x84, 0x24, 4}, {0x90, 0x28, 4}, {0x94, 0x2c, 4}, {0xa0, 0x30, 4}, {0xa4, 0x34, 4},
    {0xc0, 0x3a, 2}, {0xfc, 0x15, 1},
};

static u64 common(const Driver *d, unsigned reg, unsigned *width)
{
    for (unsigned i = 0; i < ARRAY_LEN(commons); i++) {
        if (commons[i].reg == reg) {
            *width = commons[i].width;
            return d->pci->places[COMMON] + commons[i].offset;
        }
    }
    g_error("register 0x%x has no like in PCI", reg);
}

u32 driver_pci_read(Driver *d, unsigned reg, unsigned size)
{
    if (reg >= MMIO_CONFIG) {
        return (u32)driver_load(d, d->pci->places[CONFIG] + reg - MMIO_CONFIG, size);
    }
    if (reg == 0x60) {
        return (u32)driver_load(d, d->pci->places[ISR], 1);
    }
    if (reg == 0x08) {
        return (u32)driver_load(d, d->pci->config + 2, 2) - 0x1040;
    }
    u64 at = common(d, reg, &size);
    return (u32)driver_load(d, at, size);
}

void driver_pci_write(Driver *d, unsigned reg, unsigned size, u32 value)
{
    if (reg >= MMIO_CONFIG) {
        driver_store(d, d->pci->places[CONFIG] + reg - MMIO_CONFIG, size, value);
    } else if (reg == 0x50) {
        driver_store(d, common(d, 0x30, &size), 2, value);
        u64 offset = driver_load(d, d->pci->places[COMMON] + 0x1e, 2);
        driver_store(d, d->pci->places[NOTIFY] + offset * d->pci->multiplier, 2, value);
    } else if (reg != 0x64) { /* reading the isr has acknowledged it */
        u64 at = common(d, reg, &size);
        driver_store(d, at, size, value);
    }
}
