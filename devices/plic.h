/*
 * The platform-level interrupt controller (RISC-V PLIC specification 1.0.0), with SiFive's layout
 * of registers: sources come in as wires, each context (a hart's M or S mode) has one interrupt
 * output. Output 2h goes to hart h's machine external interrupt, 2h + 1 to its supervisor external
 * interrupt.
 */
#ifndef STAG_DEVICES_PLIC_H
#define STAG_DEVICES_PLIC_H

#include "devices/device.h"

enum { PLIC_MAX_SOURCES = 1023, PLIC_MAX_HARTS = 512 };

typedef struct PlicConfig {
    u32 sources; /* numbered 1..sources */
    u32 harts;
} PlicConfig; /* without it: 95 sources, 1 hart */

extern const DeviceClass plic_class;

/* The wire into source n of a PLIC; source 0 does not exist, nor does one above the number of
 * sources: driving them does nothing. */
IrqLine plic_source(Device *plic, unsigned n);

#endif
