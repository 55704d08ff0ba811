/*
 * Boards: what stands at which address. A board is a table; from it come the devices (each row's
 * `compatible` finds the class) and the device tree that tells firmware and kernel about them.
 */
#ifndef STAG_MACHINE_BOARD_H
#define STAG_MACHINE_BOARD_H

#include <glib.h>

#include "devices/char.h"
#include "devices/device.h"
#include "devices/pci/pci.h"
#include "devices/virtio/virtio.h"
#include "frontend-riscv/frontend.h"
#include "softmmu/bus.h"

typedef struct BoardDevice {
    const char *compatible;
    u64 base; /* 0: HTIF, whose place the program decides */
    u32 irq;  /* PLIC source of its first interrupt output; 0: not through the PLIC */
    const VirtioClass *holds; /* a virtio-mmio slot: what is built into it; NULL: it is free */
} BoardDevice;

typedef struct Board {
    const char *name, *help;
    const char *compatible, *model; /* of the tree's root */
    u64 rom_base, rom_size;         /* reset vector */
    u64 ram_base;
    const BoardDevice *devices; /* interrupt controllers before their users */
    unsigned device_count;
    const char *console; /* compatible of the device that is stdout-path */
} Board;

extern const Board boards[];
extern const unsigned board_count;
/* NULL with a sentence that lists the boards. */
const Board *board_find(const char *name, GError **err);
/* How many free slots for virtio-mmio devices it has, numbered in the order of its table. */
unsigned board_mmio_slots(const Board *board);

/* What the devices are connected to. `opaque` is passed to all callbacks. */
typedef struct BoardEnv {
    Bus *bus;
    const HartModel *model;
    CpuState **harts;
    unsigned hart_count;
    CharDev *console;
    /* What is in slot n of virtio-mmio, NULL: nothing. NULL: all are empty. */
    VirtioDevice *(*virtio_slot)(void *opaque, unsigned n);
    bool
        has_htif_words; /* tohost and fromhost of the guest's program; else Spike's default place */
    u64 tohost, fromhost;
    FinishFn finish;
    u64 (*get_time)(void *opaque);
    void (*set_time)(void *opaque, u64 ticks);
    void (*set_timecmp)(void *opaque, unsigned hart, u64 ticks);
    void (*ipi_sent)(void *opaque); /* by the hart of this thread, if it is one's; may be NULL */
    void *opaque;
} BoardEnv;

typedef struct BoardDevices BoardDevices;

/* Where the board's HTIF page would be. False if it has none; with a sentence if the words' places
 * can't be had. */
bool board_htif_page(const Board *board, const BoardEnv *env, u64 *page, GError **err);

/* Makes and connects the board's devices. *env is copied. NULL with a sentence. */
BoardDevices *board_devices_new(const Board *board, const BoardEnv *env, GError **err);
void board_devices_free(BoardDevices *devices);
void board_devices_reset(BoardDevices *devices);
/* Where PCI functions are plugged in; NULL: the board has no PCI. */
PciBus *board_devices_pci(const BoardDevices *devices);
/* For the monitor: device n in the order of the table and its place; NULL beyond the last. `irq` is
 * its first PLIC source, 0: none. */
Device *board_devices_get(const BoardDevices *devices, unsigned n, u32 *irq);
/* Presses the power button. False: there is none, or the guest has no driver for it. Any thread. */
bool board_devices_press_power(const BoardDevices *devices);
/* The HTIF device, or NULL. */
Device *board_devices_htif(const BoardDevices *devices, u64 *page);

/* The device tree. `initrd_end` 0: none; append may be NULL. */
typedef struct BoardTree {
    u64 ram_size;
    const char *append;
    u64 initrd_start, initrd_end;
} BoardTree;
/* A packed blob (g_free) of *size bytes. NULL with a sentence. */
void *board_render_tree(const BoardDevices *devices, const BoardTree *tree, u64 *size,
                        GError **err);
/* Writes append and initrd into /chosen of somebody else's tree, which is freed; returns the new
 * blob. */
void *board_patch_tree(void *blob, const BoardTree *tree, u64 *size, GError **err);

#endif
