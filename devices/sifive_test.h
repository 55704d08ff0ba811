/*
 * SiFive's test finisher: a guest writes 0x5555 to power off, 0x3333 with a code in the upper half
 * to report failure, 0x7777 to reset. Through the device tree, Linux and firmware reach it as a
 * syscon.
 */
#ifndef STAG_DEVICES_SIFIVE_TEST_H
#define STAG_DEVICES_SIFIVE_TEST_H

#include "devices/device.h"

typedef struct SifiveTestConfig {
    FinishFn finish; /* may be NULL */
    void *opaque;
} SifiveTestConfig;

extern const DeviceClass sifive_test_class;

#endif
