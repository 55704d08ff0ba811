/*
 * The virtio-pci transport (4.1), modern only: vendor 1af4, device 1040 plus the virtio ID,
 * revision
 * 1. Its registers stand in BAR 4, where the vendor capabilities of configuration space point to.
 * Interrupts are INTA's.
 */
#ifndef STAG_DEVICES_VIRTIO_PCI_H
#define STAG_DEVICES_VIRTIO_PCI_H

#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"

/* The function; its configuration is the VirtioDevice, or NULL: nothing behind it. It outlives the
 * function and stays the caller's. */
extern const DeviceClass virtio_pci_class;
/* The registers in BAR 4, which a function makes itself; its configuration is the same. */
extern const DeviceClass virtio_pci_bar_class;

/* Properties that devices on PCI have beyond those of all: virtio_new's `extra`. */
extern const PropDesc virtio_pci_props[];
extern const unsigned virtio_pci_prop_count;

/* Makes the function of a virtio device, which was made with virtio_pci_props, and plugs it in
 * where they say. device_reset resets both; device_free comes before virtio_free. NULL with a
 * sentence if the properties ask for what there is not, or the slot is taken. */
Device *virtio_pci_plug(VirtioDevice *v, PciBus *bus, GError **err);
VirtioDevice *virtio_pci_device(Device *function);

#endif
