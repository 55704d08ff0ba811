/*
 * The PCI Express host bridge with an enhanced configuration access mechanism (ECAM), as the device
 * tree's "pci-host-ecam-generic" and QEMU's virt have it: configuration space as memory, a window
 * of 32-bit memory addresses, one beyond 4 GiB, and one for I/O ports. The functions' INTA..INTD,
 * swizzled by slot, are the bridge's four interrupt outputs.
 *
 * Message-signalled interrupts need an interrupt controller that takes messages. The PLIC does not,
 * so functions have no MSI-X capability.
 */
#ifndef STAG_DEVICES_PCI_HOST_H
#define STAG_DEVICES_PCI_HOST_H

#include "devices/pci/pci.h"

typedef struct PciHostConfig {
    /* The window of 64-bit addresses: a multiple of its size. */
    u64 high_base, high_size;
} PciHostConfig; /* without it: 16 GiB at 16 GiB */

extern const DeviceClass pci_host_class;
/* The function in slot 0, which the bridge makes itself. */
extern const DeviceClass pci_root_class;

/* The bus behind a bridge; lives as long as the bridge. */
PciBus *pci_host_bus(Device *host);

#endif
