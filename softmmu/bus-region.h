/*
 * What the bus keeps about a region beyond the public Region. Private to softmmu: page walks and
 * table fills look at memory through these.
 */
#ifndef STAG_SOFTMMU_BUS_REGION_H
#define STAG_SOFTMMU_BUS_REGION_H

#include "softmmu/bus.h"

typedef struct BusRegion {
    Region r;          /* first: a Region of the bus is a BusRegion */
    u32 first_page;    /* all pages of memory of a bus are numbered through, from 0 */
    _Atomic u64 *code; /* memory: one bit a page: holds translated code */
    /* Memory, for each page: the harts (by bits) that may have write entries for it, or be about to
     * write to it without. */
    _Atomic u32 *writers;
} BusRegion;

/* The region of memory (RAM or ROM) that holds pa, or NULL. Regions of memory begin and end at
 * multiples of 4 KiB, so the rest of pa's page is in it too. */
BusRegion *bus_memory_at(Bus *bus, u64 pa);

static inline u8 *bus_region_host(const BusRegion *m, u64 pa)
{
    return m->r.host + (pa - m->r.base);
}

/* The number of pa's page, below GUEST_MEMORY_MAX / 4 KiB. */
static inline u32 bus_region_page(const BusRegion *m, u64 pa)
{
    return m->first_page + (u32)((pa - m->r.base) >> 12);
}

bool bus_region_is_code(const BusRegion *m, u64 pa);

static inline _Atomic u32 *bus_region_writers(const BusRegion *m, u64 pa)
{
    return &m->writers[(pa - m->r.base) >> 12];
}

/* Calls the dirty callback if pa's page holds translated code. */
void bus_report_write(Bus *bus, const BusRegion *m, u64 pa);

/* One load or store of 1, 2, 4 or 8 bytes of host memory, little-endian, in one copy. */
u64 host_load(const u8 *host, unsigned size);
void host_store(u8 *host, unsigned size, u64 value);

#endif
