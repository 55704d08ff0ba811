/*
 * Views: the flat tables that generated code reads to turn a guest virtual address into a host
 * address. A view is three sparse arrays of 2^27 eight-byte entries, one per 4 KiB page of a
 * 39-bit address space, reserved as virtual memory and touched lazily:
 *
 *   execute table at view - 1 GiB, read table at view, write table at view + 1 GiB
 *
 * so that one register (r15) reaches all three with a 32-bit displacement. The index is bits 38:12
 * of the guest virtual address.
 *
 * A read or write entry is an addend: host address = guest virtual address + entry, for the
 * whole page. 0 means "take the slow call": unmapped, MMIO, partial PMP, code page (writes), ...
 * An execute entry is the host address of the page's CodePageEntries (core/ir/code.h) minus
 * twice the page's guest virtual address, so that `entry + 2 * va` is the address of the u32 entry
 * point for va. 0 means none. (An entry that comes out as 0 is simply not cached.)
 *
 * What code that checks once and accesses several times may rely on:
 * - Where a write entry is, the read entry of the same page is too, and equal: who has checked the
 *   write entry may also read through it.
 * - An addend that was checked stays one to the same memory until the hart makes a helper call or
 *   enters another block. Loads and stores of this hart, slow ones, to devices and to code too,
 *   can drop entries from the tables but not take the memory away: regions of the bus do not change
 *   while harts run, and regime, PMP and fences only through helpers. (A page table that such a
 *   store changes counts from the next SFENCE.VMA on.) A page becomes a code page, whose stores
 *   have to be seen, only by a hart that is outside generated code; another hart that is inside
 *   drops its write entry when it leaves, and then the page counts as written (core/exec/exec.c).
 *
 * Bits 63:39 of an address are not looked at by the index. (Under bare addressing only
 * addresses below 2^38 get entries.) Two ways keep the guest in bounds:
 * - aliasing layout (normal): the host's address space is arranged so that va + k * 2^39 gives a
 * host address where nothing is mapped; the access faults on the host and is redirected to the slow
 * call.
 * - explicit test (view_needs_canonical_test() is true): generated code must take the slow call
 *   unless the address equals its own low 39 bits sign-extended.
 */
#ifndef STAG_SOFTMMU_VIEW_H
#define STAG_SOFTMMU_VIEW_H

#include "core/base/types.h"

enum {
    VIEW_PAGE_SHIFT = 12,
    VIEW_INDEX_BITS = 27,
};
#define VIEW_PAGE_SIZE ((u64)1 << VIEW_PAGE_SHIFT)
#define VIEW_ENTRIES ((u64)1 << VIEW_INDEX_BITS)
#define VIEW_TABLE_BYTES (VIEW_ENTRIES * 8)
#define VIEW_READ_OFFSET ((s64)0)
#define VIEW_WRITE_OFFSET ((s64)VIEW_TABLE_BYTES)
#define VIEW_EXEC_OFFSET (-(s64)VIEW_TABLE_BYTES)

static inline u64 view_index(u64 va)
{
    return (va >> VIEW_PAGE_SHIFT) & (VIEW_ENTRIES - 1);
}

static inline bool view_canonical(u64 va)
{
    return (u64)((s64)(va << 25) >> 25) == va;
}

/* The entry of `va` in the table at `offset` (VIEW_*_OFFSET) of a view. Callers outside generated
 * code check view_canonical() first. */
static inline u64 *view_entry(void *view, s64 offset, u64 va)
{
    return (u64 *)((char *)view + offset) + view_index(va);
}

/* Whether generated code has to test addresses itself (see above). Constant after
 * mmu_layout_init(). */
bool view_needs_canonical_test(void);

#endif
