/*
 * PCI functions and the bus they sit on: conventional PCI 3.0 as a PCI Express root complex shows
 * its integrated endpoints. A function is a Device whose registers are the 256 bytes of its
 * configuration space: the type 0 header is a list of table rows (PCI_HEADER_REGS) that a class
 * begins its own table with, its capabilities are further rows. Write masks, reset values,
 * snapshots and generic tests come from the table as for every other device.
 *
 * There is one bus, number 0, with 32 slots of one function each. Slot 0 holds the host bridge.
 *
 * Base address registers say where in the bridge's windows a function answers. The windows are
 * regions of the physical bus that never change; where a BAR is mapped is a word of its function,
 * which an access finds by a look at all BARs and checks again under the function's lock. So a
 * guest may move BARs while other harts use them.
 */
#ifndef STAG_DEVICES_PCI_PCI_H
#define STAG_DEVICES_PCI_PCI_H

#include "devices/device.h"

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

enum { PCI_SLOTS = 32, PCI_BARS = 6, PCI_PINS = 4, PCI_CONFIG_SIZE = 256 };

/* The command register's bits that Stag's functions have. */
enum {
    PCI_COMMAND_IO = 0x1,
    PCI_COMMAND_MEMORY = 0x2,
    PCI_COMMAND_MASTER = 0x4,
    PCI_COMMAND_SERR = 0x100,
    PCI_COMMAND_INTX_DISABLE = 0x400,
    PCI_COMMAND_MASK = 0x507,
};

typedef enum PciBarKind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 } PciBarKind;

/* One base address register. A 64-bit one takes the next number, too, which is left PCI_BAR_NONE.
 */
typedef struct PciBar {
    PciBarKind kind;
    bool prefetchable;
    u64 size; /* a power of two, at least 16 */
    /* Accesses, with the function's lock held; opaque is the PciDevice. As on the bus, they come
     * naturally aligned and split to ops->max_size; narrower ones than ops->min_size, and refused
     * ones, read as all ones. */
    const MmioOps *ops;
} PciBar;

/* What is fixed about a function. */
typedef struct PciInfo {
    u16 vendor, device, subsystem_vendor, subsystem;
    u32 class_code; /* 24 bits: class, subclass, programming interface */
    u8 revision;
    u8 pin;          /* 1: INTA ... 4: INTD; 0: no interrupt */
    u8 capabilities; /* offset of the first in configuration space; 0: none */
    PciBar bars[PCI_BARS];
} PciInfo;

struct PciDevice {
    Device dev; /* first */
    PciInfo info;
    PciBus *bus; /* NULL: not plugged in */
    unsigned slot;
    /* Lock held; NULL: nothing to do. The command register was written, or the state was reset or
     * loaded: bus mastering may have changed. */
    void (*command_changed)(PciDevice *d);

    /* Stored registers. */
    u32 command, cache_line, line;
    u32 bars[PCI_BARS];
    /* Derived. */
    _Atomic bool intx;            /* the function asks for an interrupt */
    _Atomic bool intx_masked;     /* and is not let, by the command register */
    _Atomic u64 mapped[PCI_BARS]; /* address on the bus; PCI_UNMAPPED */
};

#define PCI_UNMAPPED UINT64_MAX

/* ---- For functions -------------------------------------------------------------------------- */

u64 pci_id_read(Device *d, unsigned index);
u64 pci_command_read(Device *d, unsigned index);
u64 pci_class_read(Device *d, unsigned index);
u64 pci_bar_read(Device *d, unsigned index);
u64 pci_subsystem_read(Device *d, unsigned index);
u64 pci_capabilities_read(Device *d, unsigned index);
u64 pci_interrupt_read(Device *d, unsigned index);
void pci_command_write(Device *d, unsigned index, u64 value, u64 mask);
void pci_bar_write(Device *d, unsigned index, u64 value, u64 mask);
void pci_absent_write(Device *d, unsigned index, u64 value, u64 mask);

/* The type 0 header: the first rows of a function's register table. Drivers write to registers
 * that a function does not have (the expansion ROM's) to find that out. */
#define PCI_HEADER_REGS                                                                            \
    {.name = "id", .offset = 0x00, .width = 4, .read = pci_id_read, .write = pci_absent_write},    \
        {.name = "command",                                                                        \
         .offset = 0x04,                                                                           \
         .width = 4,                                                                               \
         .at = offsetof(PciDevice, command),                                                       \
         .wmask = PCI_COMMAND_MASK,                                                                \
         .read = pci_command_read,                                                                 \
         .write = pci_command_write},                                                              \
        {.name = "class",                                                                          \
         .offset = 0x08,                                                                           \
         .width = 4,                                                                               \
         .read = pci_class_read,                                                                   \
         .write = pci_absent_write},                                                               \
        {.name = "cache_line",                                                                     \
         .offset = 0x0c,                                                                           \
         .width = 4,                                                                               \
         .at = offsetof(PciDevice, cache_line),                                                    \
         .wmask = 0xff},                                                                           \
        {.name = "bar",                                                                            \
         .offset = 0x10,                                                                           \
         .width = 4,                                                                               \
         .count = PCI_BARS,                                                                        \
         .stride = 4,                                                                              \
         .at = offsetof(PciDevice, bars),                                                          \
         .wmask = UINT32_MAX,                                                                      \
         .read = pci_bar_read,                                                                     \
         .write = pci_bar_write},                                                                  \
        {.name = "cardbus", .offset = 0x28, .width = 4, .write = pci_absent_write},                \
        {.name = "subsystem",                                                                      \
         .offset = 0x2c,                                                                           \
         .width = 4,                                                                               \
         .read = pci_subsystem_read,                                                               \
         .write = pci_absent_write},                                                               \
        {.name = "rom", .offset = 0x30, .width = 4, .write = pci_absent_write},                    \
        {.name = "capabilities",                                                                   \
         .offset = 0x34,                                                                           \
         .width = 4,                                                                               \
         .read = pci_capabilities_read,                                                            \
         .write = pci_absent_write},                                                               \
        {.name = "reserved", .offset = 0x38, .width = 4, .write = pci_absent_write},               \
    {                                                                                              \
        .name = "line", .offset = 0x3c, .width = 4, .at = offsetof(PciDevice, line),               \
        .wmask = 0xff, .read = pci_interrupt_read                                                  \
    }

/* To be called by a function's init, update and finalize. */
void pci_device_init(PciDevice *d, const PciInfo *info);
void pci_device_update(PciDevice *d);
void pci_device_finalize(PciDevice *d);

/* The function's interrupt pin; any thread, with or without the lock, but one at a time. */
void pci_set_intx(PciDevice *d, bool level);
/* Whether the function may read and write memory; lock held. */
bool pci_is_master(const PciDevice *d);

/* ---- The bus -------------------------------------------------------------------------------- */

/* A slot as `addr=` gives it: hexadecimal, "3", "0x3" or "03.0". False with a sentence. */
bool pci_parse_slot(const char *text, int *slot, GError **err);

/* Plugs a function into `slot`, or, -1, into the first that is free. While no hart runs. The bus
 * does not own it: whoever does frees it, before or after the bus. False with a sentence if the
 * slot is taken or there is none left. */
bool pci_bus_add(PciBus *bus, PciDevice *d, int slot, GError **err);
void pci_bus_remove(PciBus *bus, PciDevice *d);
/* NULL: the slot is empty. */
PciDevice *pci_bus_device(PciBus *bus, unsigned slot);
/* The physical bus that functions do DMA on; NULL before the bridge is attached. */
Bus *pci_bus_memory(const PciBus *bus);

/* For pci.c: what the function asks for, or whether it may, changed. Takes the bridge's lock. */
void pci_bus_update_intx(PciBus *bus, PciDevice *d);

#endif
