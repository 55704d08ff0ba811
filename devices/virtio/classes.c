/* The registry: one line per virtio class. Adding a device means adding its file and its line. */
#include <string.h>

#include "devices/virtio/devices.h"

const VirtioClass *const virtio_classes[] = {
    &virtio_balloon_class,
    &virtio_blk_class,
    &virtio_net_class,
    &virtio_rng_class,
    &virtio_serial_class,
    NULL,
};

const VirtioClass *virtio_class_find(const char *device_name, bool *is_pci)
{
    for (const VirtioClass *const *c = virtio_classes; *c; c++) {
        size_t n = strlen((*c)->name);
        if (strncmp(device_name, (*c)->name, n) == 0) {
            const char *rest = device_name + n;
            *is_pci = strcmp(rest, "-device") != 0;
            if (!*is_pci || strcmp(rest, "-pci") == 0 || !*rest) {
                return *c;
            }
        }
    }
    return NULL;
}
