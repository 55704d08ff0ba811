/*
 * The host-target interface of Spike and the Berkeley boot tools: two 64-bit words in the guest
 * program's own memory, `tohost` and `fromhost`, through which it ends, prints and reads.
 *
 * A word written to tohost is device << 56 | command << 48 | payload:
 *   device 0, command 0   payload odd: exit with code payload >> 1; even: the address of a system
 *                         call, eight words (number, arguments; the result replaces the number)
 *   device 1, command 0   read a byte: the answer is the command with 0x100 | byte as payload
 *   device 1, command 1   write the payload's low byte
 * tohost reads as zero once a command is taken; answers appear in fromhost as soon as that is
 * zero. A command written in two 32-bit halves counts when both are there, or when one half is
 * written twice (programs that write the low half only repeat it).
 *
 * The words lie in RAM as far as the program is concerned. So the device is one page with memory
 * of its own, which the machine puts in the place of the RAM page that holds them. Code can't run
 * from that page, nor can atomics work on it.
 */
#ifndef STAG_DEVICES_HTIF_H
#define STAG_DEVICES_HTIF_H

#include "devices/char.h"
#include "devices/device.h"

enum { HTIF_PAGE_SIZE = 4096 };

typedef struct HtifConfig {
    u32 tohost, fromhost; /* offsets in the page, multiples of 8, not the same */
    Bus *bus;             /* memory that system calls reach; NULL: the page alone */
    CharDev *chr;         /* NULL: output is dropped */
    FinishFn finish;      /* may be NULL. FINISH_POWEROFF for code 0, else FINISH_FAIL */
    void *opaque;
} HtifConfig; /* without it: tohost at 0, fromhost at 8 */

extern const DeviceClass htif_class;

/* Plain copies into and out of the page, for loaders and dumps: no command is triggered. false if
 * offset + len is beyond the page. */
bool htif_load_bytes(Device *htif, u64 offset, const void *data, u64 len);
bool htif_read_bytes(Device *htif, u64 offset, void *data, u64 len);

#endif
