/*
 * A virtio driver for tests: it sits where a guest's does, on the registers of the mmio transport
 * and in guest memory, and reaches both over the bus. One API for split and packed rings, so that a
 * test of a device runs over both.
 */
#ifndef STAG_TESTS_DEVICE_VIRTIO_DRIVER_H
#define STAG_TESTS_DEVICE_VIRTIO_DRIVER_H

#include "devices/device.h"
#include "devices/virtio/mmio.h"

enum { DRIVER_RAM = 0x80000000, DRIVER_RAM_SIZE = 16 << 20, DRIVER_MMIO = 0x10001000 };

/* Drivers reach their devices over PCI from now on. */
extern bool driver_over_pci;

typedef struct Driver {
    struct DriverPci *pci; /* NULL: mmio */
    Bus *bus;
    VirtioDevice *virtio;
    Device *slot;
    bool line;           /* level of the interrupt */
    unsigned interrupts; /* times that it rose */
    u64 free;            /* guest memory not given out yet */
    u64 features;        /* negotiated */
} Driver;

/* A piece of a buffer in guest memory. */
typedef struct Piece {
    u64 addr;
    u32 len;
} Piece;

typedef struct Ring {
    Driver *driver;
    unsigned queue;
    u16 size;
    u64 desc, avail, used; /* the three areas */
    u16 next_avail, next_used;
    bool avail_wrap, used_wrap;
    u16 free[1024], free_count; /* descriptors (split) or IDs (packed) */
    u16 count[1024];            /* by ID: descriptors of the buffer */
    u16 added;                  /* since the last kick */
    bool indirect;              /* put buffers' pieces into tables */
    bool want_interrupts;
} Ring;

/* A machine of RAM and a slot with this device, whose RAM and device are made here. `env` gives the
 * host ends (may be NULL); its bus is filled in. Fails the test if the device can't be made. */
Driver *driver_new(const VirtioClass *class, const char *text, const VirtioEnv *env);
void driver_free(Driver *d);

/* Registers by their offsets in the mmio transport; over PCI, those that have their like there. */
u32 driver_read(Driver *d, unsigned reg);
void driver_write(Driver *d, unsigned reg, u32 value);
u64 driver_offered(Driver *d);
u32 driver_config(Driver *d, unsigned offset, unsigned size);
void driver_set_config(Driver *d, unsigned offset, unsigned size, u32 value);
/* Up to FEATURES_OK with those of `wanted` that are offered; false if the device refuses. Then come
 * rings, then driver_go. */
bool driver_negotiate(Driver *d, u64 wanted);
void driver_go(Driver *d);
void driver_reset(Driver *d);
/* Power off and on, and what firmware does then. */
void driver_machine_reset(Driver *d);
bool driver_is_broken(Driver *d);
/* Reads and acknowledges what the interrupt is about. */
u32 driver_ack(Driver *d);

/* Guest memory, zeroed, 16-byte aligned. */
u64 driver_alloc(Driver *d, u64 size);
void driver_put(Driver *d, u64 addr, const void *data, size_t n);
void driver_get(Driver *d, u64 addr, void *data, size_t n);
u64 driver_load(Driver *d, u64 addr, unsigned size);
void driver_store(Driver *d, u64 addr, unsigned size, u64 value);

/* Sets up a queue; size 0: the largest. */
Ring *ring_new(Driver *d, unsigned queue, u16 size);
void ring_free(Ring *r);
/* Adds a buffer of `out` pieces to read, then `in` to write. Returns its ID. It is visible at once;
 * ring_kick tells the device, unless it does not want to be told (then false). */
u16 ring_add(Ring *r, const Piece *pieces, unsigned out, unsigned in);
bool ring_kick(Ring *r);
/* The next used buffer; false if there is none. */
bool ring_get(Ring *r, u16 *id, u32 *len);
/* Whether the device shall interrupt; with event index: for the next buffer used. */
void ring_interrupts(Ring *r, bool on);

/* All of it for one buffer: add, kick, and wait up to 5 seconds (other threads and the main loop
 * run meanwhile) until it is used. Returns the length. */
u32 ring_do(Ring *r, const Piece *pieces, unsigned out, unsigned in);

/* ---- virtio_driver_pci.c: the device is the function in slot 1 ---- */

void driver_pci_open(Driver *d);
void driver_pci_close(Driver *d);
u32 driver_pci_read(Driver *d, unsigned reg, unsigned size);
void driver_pci_write(Driver *d, unsigned reg, unsigned size, u32 value);
/* Writes the command register; the function begins with memory and bus mastering on. */
void driver_pci_command(Driver *d, u16 command);
/* Finds the structures and switches the function on, as after a reset. */
void driver_pci_set_up(Driver *d);
Device *driver_pci_function(Driver *d);

#endif
