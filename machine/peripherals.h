/*
 * What the user plugs into a machine: host ends (disks, networks, character devices) and the
 * devices of -device, -nic and -drive if=virtio, in slots of virtio-mmio or on PCI. The texts of
 * the options become objects here, in the order in which QEMU does it, so that a guest finds its
 * disks under the same names.
 *
 *   peripherals_new: chardevs, serial port, monitors, drives, netdevs, then virtio devices
 *   board_devices_new: takes what is in the mmio slots from peripherals_slot
 *   peripherals_plug: PCI functions, which need the board's bus
 *
 * and backwards at the end: devices stop before their host ends close.
 */
#ifndef STAG_MACHINE_PERIPHERALS_H
#define STAG_MACHINE_PERIPHERALS_H

#include "devices/char.h"
#include "devices/virtio/virtio.h"
#include "machine/board.h"
#include "machine/machine.h"

typedef struct Peripherals Peripherals;

/* Opens and makes everything but PCI functions. `options` and `board` outlive it. NULL with a
 * sentence. */
Peripherals *peripherals_new(const MachineOptions *options, const Board *board, Bus *bus,
                             const CharEscapes *escapes, GError **err);
/* Plugs PCI functions in and says which host ends nobody uses. False with a sentence. */
bool peripherals_plug(Peripherals *p, const BoardDevices *devices, GError **err);
/* No hart runs, both: the first before board_devices_free, the second after it. */
void peripherals_unplug(Peripherals *p);
void peripherals_free(Peripherals *p);
/* PCI functions' power-on state; board_devices_reset resets the mmio slots. */
void peripherals_reset(Peripherals *p);

/* The virtio device in mmio slot n, NULL: empty. */
VirtioDevice *peripherals_slot(const Peripherals *p, unsigned n);
CharDev *peripherals_serial(const Peripherals *p);
/* CharDevs for monitors, in order. */
const GPtrArray *peripherals_monitors(const Peripherals *p);

/* ---- For the monitor -------------------------------------------------------------------------- */

void peripherals_info_block(Peripherals *p, GString *out);
void peripherals_info_network(Peripherals *p, GString *out);
void peripherals_info_char(Peripherals *p, GString *out);
void peripherals_info_devices(Peripherals *p, GString *out);
/* The netdev of this name, or the only one of -netdev user if `id` is NULL. */
Net *peripherals_net(Peripherals *p, const char *id, GError **err);
/* The first device of a class ("virtio-balloon"), or NULL. */
VirtioDevice *peripherals_find(const Peripherals *p, const char *class_name);

/* ---- For the command line --------------------------------------------------------------------- */

/* Whether there is such a device (properties are looked at later). */
bool peripherals_check_device(const char *text, GError **err);
/* -device help; -device NAME,help: false with a sentence if there is no such device. */
void peripherals_print_devices(FILE *out);
bool peripherals_print_device(const char *name, FILE *out, GError **err);

#endif
