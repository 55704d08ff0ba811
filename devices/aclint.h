/*
 * The ACLINT's MSWI and MTIMER devices side by side as in SiFive's CLINT: a software interrupt bit
 * and a timer compare value for each hart, and the time that they all share.
 *
 * The device keeps the registers; time itself belongs to the machine, which gives it through
 * callbacks. Output h is hart h's machine software interrupt; the machine drives the timer
 * interrupt from what set_timecmp tells it.
 */
#ifndef STAG_DEVICES_ACLINT_H
#define STAG_DEVICES_ACLINT_H

#include "devices/device.h"

enum { CLINT_MAX_HARTS = 512 };

typedef struct ClintConfig {
    u32 harts;
    void *opaque;
    /* All may be NULL; without get_time time stands still at 0. Called with the device's lock
     * held. */
    u64 (*get_time)(void *opaque); /* in timebase ticks */
    void (*set_time)(void *opaque, u64 ticks);
    /* Hart's timer interrupt is pending while time >= ticks. Called at every write of mtimecmp, and
     * for every hart after reset (all ones) and after loading a snapshot. */
    void (*set_timecmp)(void *opaque, unsigned hart, u64 ticks);
} ClintConfig; /* without it: 1 hart */

extern const DeviceClass clint_class;

#endif
