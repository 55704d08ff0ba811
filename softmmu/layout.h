/*
 * Where guest memory lies in the host's address space. Private to softmmu: the bus takes its memory
 * from here. layout.c explains the arrangement.
 */
#ifndef STAG_SOFTMMU_LAYOUT_H
#define STAG_SOFTMMU_LAYOUT_H

#include <glib.h>

#include "core/base/types.h"

/* All guest memory of a process together is at most this many bytes, whatever the host has. */
#define GUEST_MEMORY_MAX ((u64)128 << 30)

/* `size` bytes (a multiple of 4 KiB) of zeroed host memory, taken up page by page as it is touched, with an
 * inaccessible page on either side. NULL with a sentence when there is no room. Any thread. */
u8 *guest_memory_alloc(u64 size, GError **err);
void guest_memory_free(u8 *host, u64 size);

#endif
