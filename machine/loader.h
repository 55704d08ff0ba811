/*
 * Puts things into guest memory before the first instruction runs: images (machine/image.h), device
 * tree, initrd. A Loader lives for one round of loading; it remembers what lies where, so that two
 * things that claim the same memory are an error that names both.
 */
#ifndef STAG_MACHINE_LOADER_H
#define STAG_MACHINE_LOADER_H

#include "machine/image.h"
#include "softmmu/bus.h"

typedef struct Loader Loader;

Loader *loader_new(Bus *bus, u64 ram_base, u64 ram_size);
void loader_free(Loader *loader);
/* A device that stands in for memory at [base, base + size): writes there go to `write` instead of
 * the bus. */
void loader_set_overlay(Loader *loader, u64 base, u64 size,
                        bool (*write)(void *opaque, u64 offset, const void *bytes, u64 n),
                        void *opaque);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Loader, loader_free)

/* Writes an image: an ELF where it says, others at `address`. What follows an ELF segment's bytes
 * is cleared. */
bool loader_place_image(Loader *loader, const Image *image, const char *what, u64 address,
                        GError **err);
/* Writes `size` bytes. `name` is for messages. */
bool loader_place_bytes(Loader *loader, const char *name, u64 address, const void *bytes, u64 size,
                        GError **err);
/* Whether [address, address + size) is RAM that nothing has been placed in. */
bool loader_is_free(const Loader *loader, u64 address, u64 size);
/* Lowest and one past the highest address of an image placed at `address`. */
void loader_extent(const Image *image, u64 address, u64 *first, u64 *end);

/* The path of OpenSBI's fw_dynamic.bin on this host (g_free). NULL with a sentence that says what
 * to install. */
char *loader_find_firmware(bool rv32, GError **err);

/* `-device loader,...`: a file or a number put into memory at reset, and a hart's first pc (QEMU's
 * "generic loader"). */
typedef struct LoaderDevice {
    char *file; /* NULL: none */
    bool force_raw;
    bool has_address, has_cpu, has_data;
    u64 address;
    unsigned cpu; /* whose pc becomes the address or the ELF's entry */
    u64 data;
    unsigned data_len; /* bytes, 1..8 */
    bool data_be;
} LoaderDevice;
/* Parses "loader,key=value,..." as -device takes it. NULL with a sentence. */
LoaderDevice *loader_device_parse(const char *text, GError **err);
void loader_device_free(LoaderDevice *device);
/* Loads it; *pc is what the hart `device->cpu` starts at, if has_cpu. */
bool loader_device_load(Loader *loader, const LoaderDevice *device, u64 *pc, GError **err);

/* Reads and checks a device tree blob: a private copy of `*size` bytes (g_free). NULL with a
 * sentence. */
void *loader_read_dtb(const char *path, u64 *size, GError **err);
bool loader_check_dtb(const void *blob, u64 size, const char *name, GError **err);

#endif
