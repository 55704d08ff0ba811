/*
 * Where guest memory lies in the host's address space. Private to softmmu: the bus takes its memory
 * from here. layout.c explains the arrangement.
 */
#ifndef STAG_SOFTMMU_LAYOUT_H
#define STAG_SOFTMMU_LAYOUT_H

#include <glib.h>

#include "core/base/types.h"

/* Sanitizers' shadow memory leaves no room for the aliasing layout. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define LAYOUT_UNDER_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define LAYOUT_UNDER_SANITIZER 1
#endif
#endif
#ifndef LAYOUT_UNDER_SANITIZER
#define LAYOUT_UNDER_SANITIZER 0
#endif

/* All guest memory of a process together is at most this many bytes, whatever the host has. */
#define GUEST_MEMORY_MAX ((u64)128 << 30)

/* `size` bytes (a multiple of 4 KiB) of zeroed host memory, taken up page by page as it is touched,
 * with an inaccessible page on either side. NULL with a sentence when there is no room. Any thread.
 */
u8 *guest_memory_alloc(u64 size, GError **err);
void guest_memory_free(u8 *host, u64 size);

#endif
