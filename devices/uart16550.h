/*
 * A 16550A UART with 16-byte FIFOs, byte-wide registers one byte apart, as firmware and Linux know
 * it from QEMU's virt machine (device tree: ns16550a). Its line is a CharDev. Interrupt output 0.
 */
#ifndef STAG_DEVICES_UART16550_H
#define STAG_DEVICES_UART16550_H

#include "devices/char.h"
#include "devices/device.h"

typedef struct UartConfig {
    CharDev *chr; /* NULL: nothing is connected */
} UartConfig;

extern const DeviceClass uart16550_class;

#endif
