/* The registry: one line per device class. Adding a device means adding its file and its line. */
#include "devices/aclint.h"
#include "devices/device.h"
#include "devices/goldfish_rtc.h"
#include "devices/htif.h"
#include "devices/pci/host.h"
#include "devices/plic.h"
#include "devices/sifive_test.h"
#include "devices/uart16550.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"

const DeviceClass *const device_classes[] = {
    &uart16550_class,
    &plic_class,
    &clint_class,
    &goldfish_rtc_class,
    &sifive_test_class,
    &htif_class,
    &pci_host_class,
    &pci_root_class,
    &virtio_mmio_class,
    &virtio_pci_bar_class,
    &virtio_pci_class,
    NULL,
};
