/*
 * The physical bus: which guest physical addresses are memory and which are registers of devices.
 * Regions are added while the machine is assembled and do not change while harts run. Memory is
 * host memory from guest_memory_alloc(); MMIO regions are a pair of functions and a lock.
 *
 * Nothing here can be made to touch host memory outside a region by a guest: every access is
 * checked against the region's size, whatever the address and length.
 */
#ifndef STAG_SOFTMMU_BUS_H
#define STAG_SOFTMMU_BUS_H

#include <glib.h>

#include "core/base/types.h"

typedef struct Bus Bus;

/* Register access by a hart (or DMA). `offset` is relative to the region, naturally aligned to
 * `size` (1, 2, 4 or 8 bytes; the bus splits misaligned and too wide accesses), offset + size
 * within the region. They run with the region's lock held. false: the device does not answer there:
 * access fault. */
typedef struct MmioOps {
    bool (*read)(void *opaque, u64 offset, unsigned size, u64 *value);
    bool (*write)(void *opaque, u64 offset, unsigned size, u64 value);
    u8 min_size,
        max_size; /* accesses narrower or wider fail (min) or are split (max); 0: 1 and 8 */
} MmioOps;

typedef enum RegionKind { REGION_RAM, REGION_ROM, REGION_MMIO } RegionKind;

typedef struct Region {
    const char *name; /* as `info mtree` shows it; static or owned by the machine */
    RegionKind kind;
    u64 base, size;
    u8 *host; /* RAM and ROM */
    const MmioOps *ops;
    void *opaque;
    GMutex *lock; /* MMIO; may be shared by regions of one device, NULL: none needed */
} Region;

Bus *bus_new(void);
void bus_free(Bus *bus); /* frees memory made by bus_add_memory */

/* Adds `size` bytes of zeroed memory at `base` (both multiples of 4 KiB). NULL with a sentence when
 * the host has not that much or the region overlaps another. */
Region *bus_add_memory(Bus *bus, const char *name, RegionKind kind, u64 base, u64 size,
                       GError **err);
Region *bus_add_mmio(Bus *bus, const char *name, u64 base, u64 size, const MmioOps *ops,
                     void *opaque, GMutex *lock, GError **err);

/* The region that holds pa, or NULL. */
Region *bus_find(Bus *bus, u64 pa);
/* All regions in ascending order of address. */
const GPtrArray *bus_regions(const Bus *bus);

/* One access as a hart makes it, size 1, 2, 4 or 8, any alignment; little-endian. false: access
 * fault. Writes to ROM fail. RAM accesses are single copies (atomic when aligned). */
bool bus_read(Bus *bus, u64 pa, unsigned size, u64 *value);
bool bus_write(Bus *bus, u64 pa, unsigned size, u64 value);

/* Bulk access for devices' DMA and the loader, RAM and (loader: to_rom) ROM only. false if any byte
 * is not memory; nothing is written then. Writes report pages that hold translated code
 * (bus_set_dirty_callback) before returning. */
bool bus_dma_read(Bus *bus, u64 pa, void *buf, u64 len);
bool bus_dma_write(Bus *bus, u64 pa, const void *buf, u64 len);
bool bus_load(Bus *bus, u64 pa, const void *buf, u64 len); /* as dma_write, ROM too: for loaders */

/* Host address of `len` bytes of RAM at pa if they are contiguous memory of one region, else NULL.
 * Writers call bus_dma_dirty afterwards. */
void *bus_dma_map(Bus *bus, u64 pa, u64 len);
void bus_dma_dirty(Bus *bus, u64 pa, u64 len);
/* Gives the host back the memory of the whole 4 KiB pages within a range of RAM; they read as zero
 * from then on, and can be written as before. Returns how many bytes that were; 0 if any byte of
 * the range is not RAM of one region. Any thread. */
u64 bus_discard(Bus *bus, u64 pa, u64 len);

/* Code pages: a page of memory that holds translated code is marked, so that DMA (and harts,
 * through the softmmu) report writes to it, before or after the bytes are there. One callback per
 * bus, owned by the translator; any thread may call it. */
void bus_set_code_page(Bus *bus, u64 pa, bool is_code);
bool bus_is_code_page(Bus *bus, u64 pa);
/* Which of `harts` (bits by CpuState.index) may have write entries for pa's page: whoever has just
 * marked the page has to have them dropped. They are not named again until they make new ones. */
enum { BUS_MAX_HARTS = 32 };
u32 bus_take_writers(Bus *bus, u64 pa, u32 harts);
void bus_set_dirty_callback(Bus *bus, void (*fn)(void *opaque, u64 page_pa), void *opaque);

#endif
