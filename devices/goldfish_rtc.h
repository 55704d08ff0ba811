/*
 * The Goldfish real-time clock of Android's emulator and QEMU's virt machine: nanoseconds since the
 * epoch in two halves, and an alarm. Interrupt output 0.
 */
#ifndef STAG_DEVICES_GOLDFISH_RTC_H
#define STAG_DEVICES_GOLDFISH_RTC_H

#include "devices/device.h"

typedef struct RtcConfig {
    u64 (*now)(void *opaque); /* nanoseconds since the epoch; NULL: the host's clock */
    void *opaque;
} RtcConfig;

extern const DeviceClass goldfish_rtc_class;

#endif
