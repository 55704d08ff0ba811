/*
 * The aliasing layout: how the host's own page tables check bits 63:39 of guest addresses.
 *
 * Generated code finds its table entry by bits 38:12 of a guest address and adds the entry to the
 * whole address. For an address that differs from the right one in the upper bits only, by k *
 * 2^39, the sum is off by k * 2^39 as well. So all that is needed for safety is that no host
 * address with the same residue modulo 2^39 as a byte of guest memory is mapped, other than that
 * byte.
 *
 * A Linux process has 2^47 bytes, 256 windows of 2^39. We choose a range of residues that is free
 * in all of them, and map it inaccessible in each; nothing that the process maps later can get in
 * there. One window is home: guest memory replaces parts of its range, apart by at least a guard
 * page for accesses that straddle an end. Every other window answers with SIGSEGV, and so does the
 * half of the address space above 2^47, which is not canonical or belongs to the kernel. (The one
 * page that a process may read up there, vsyscall, has a residue near the top of a window, where no
 * range is tried.) The fault handler sends such an access to its slow call, where the guest gets
 * its page fault.
 *
 * Candidates stay clear of the first GiB of a window, which in window 0 hold programs linked to
 * fixed addresses and code that wants 32-bit addresses, and of the last ones, where the stack
 * grows.
 *
 * Where this cannot be had, generated code tests the upper bits itself and guest memory may lie
 * anywhere: under sanitizers, whose shadow memory is everywhere, and where address space is
 * rationed.
 */
#include "softmmu/layout.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "softmmu/softmmu.h"

enum { WINDOW_COUNT = 256, HOME_WINDOW = 64 };
#define GIB ((u64)1 << 30)
#define WINDOW_BYTES ((u64)1 << 39)
#define FIRST_RESIDUE (8 * GIB)
#define LAST_RESIDUE (480 * GIB) /* ranges end here at the latest */
#define RESIDUE_STEP (8 * GIB)
#define HOST_PAGE ((u64)4096)
#define HUGE_PAGE ((u64)2 << 20)

/* Set once by mmu_layout_init(), constant while harts run. */
static bool aliasing;
static u64 range_residue, range_bytes;

/* Guest memory in the home range, sorted. */
typedef struct Block {
    u64 start, end; /* host addresses */
} Block;
static GMutex blocks_lock;
static GArray *blocks;

static u64 window_range(unsigned window, u64 residue)
{
    return window * WINDOW_BYTES + residue;
}

/* Maps the range inaccessible in all windows. On failure nothing stays mapped and errno says why:
 * EEXIST if the range is taken somewhere. */
static bool reserve_windows(u64 residue, u64 size)
{
    unsigned left;
    int why = 0;
    /* From the top, where libraries and stack are: a range that is taken is found out early. */
    for (left = WINDOW_COUNT; left > 0; left--) {
        void *want = (void *)(uintptr_t)window_range(left - 1, residue);
        void *got = mmap(want, size, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (got == want) {
            continue;
        }
        why = errno;
        if (got != MAP_FAILED) { /* a kernel before 4.17, which takes the address as a hint */
            munmap(got, size);
            why = EEXIST;
        }
        break;
    }
    if (left == 0) {
        return true;
    }
    for (; left < WINDOW_COUNT; left++) {
        munmap((void *)(uintptr_t)window_range(left, residue), size);
    }
    errno = why;
    return false;
}

static bool reserve_range(void)
{
    static const u64 sizes[] = {GUEST_MEMORY_MAX, 64 * GIB, 16 * GIB};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        /* Both ends of the range are guards, so it is a little more than the memory it is for. */
        u64 size = sizes[i] + GIB;
        for (u64 residue = FIRST_RESIDUE; residue + size <= LAST_RESIDUE; residue += RESIDUE_STEP) {
            if (reserve_windows(residue, size)) {
                range_residue = residue;
                range_bytes = size;
                return true;
            }
            if (errno != EEXIST) {
                break;
            }
        }
    }
    return false;
}

void mmu_layout_init(bool explicit_test)
{
    struct rlimit limit;
    g_assert(!aliasing);
    if (explicit_test || LAYOUT_UNDER_SANITIZER) {
        return;
    }
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        return;
    }
    aliasing = reserve_range();
}

bool view_needs_canonical_test(void)
{
    return !aliasing;
}

bool mmu_is_alias_address(const void *host)
{
    u64 residue = (u64)(uintptr_t)host & (WINDOW_BYTES - 1);
    return aliasing && residue - range_residue < range_bytes;
}

/* First fit in the home range, leaving guard pages. 0 when there is no room. Holds blocks_lock. */
static u64 home_place(u64 size)
{
    u64 align = size >= HUGE_PAGE ? HUGE_PAGE : HOST_PAGE;
    u64 home = window_range(HOME_WINDOW, range_residue);
    u64 start = ALIGN_UP(home + HOST_PAGE, align);
    unsigned i;
    for (i = 0; i < blocks->len; i++) {
        Block *b = &g_array_index(blocks, Block, i);
        if (start + size + HOST_PAGE <= b->start) {
            break;
        }
        start = ALIGN_UP(b->end + HOST_PAGE, align);
    }
    if (start + size + HOST_PAGE > home + range_bytes) {
        return 0;
    }
    Block block = {start, start + size};
    g_array_insert_val(blocks, i, block);
    return start;
}

static void home_forget(u64 start)
{
    for (unsigned i = 0; i < blocks->len; i++) {
        if (g_array_index(blocks, Block, i).start == start) {
            g_array_remove_index(blocks, i);
            return;
        }
    }
    g_assert_not_reached();
}

static u8 *no_memory(u64 size, const char *why, GError **err)
{
    g_autofree char *text = size % GIB == 0
                                ? g_strdup_printf("%" G_GUINT64_FORMAT " GiB", size / GIB)
                                : g_strdup_printf("%" G_GUINT64_FORMAT " KiB", size >> 10);
    stag_error(err, "%s of guest memory cannot be had: %s", text, why);
    return NULL;
}

u8 *guest_memory_alloc(u64 size, GError **err)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    u8 *host;
    if (size > GUEST_MEMORY_MAX) {
        return no_memory(size, "128 GiB is the most that a guest can have", err);
    }
    if (aliasing) {
        g_mutex_lock(&blocks_lock);
        if (!blocks) {
            blocks = g_array_new(false, false, sizeof(Block));
        }
        u64 start = home_place(size);
        if (!start) {
            g_mutex_unlock(&blocks_lock);
            return no_memory(size, "the part of the host's address space set aside for it is full",
                             err);
        }
        host =
            mmap((void *)(uintptr_t)start, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, -1, 0);
        int why = errno;
        if (host == MAP_FAILED) {
            home_forget(start);
        }
        g_mutex_unlock(&blocks_lock);
        if (host == MAP_FAILED) {
            return no_memory(size, strerror(why), err);
        }
    } else {
        u8 *all = mmap(NULL, size + 2 * HOST_PAGE, PROT_NONE, flags, -1, 0);
        if (all == MAP_FAILED) {
            return no_memory(size, strerror(errno), err);
        }
        host = all + HOST_PAGE;
        if (mprotect(host, size, PROT_READ | PROT_WRITE) != 0) {
            int why = errno;
            munmap(all, size + 2 * HOST_PAGE);
            return no_memory(size, strerror(why), err);
        }
    }
    madvise(host, size, MADV_HUGEPAGE);
    return host;
}

void guest_memory_free(u8 *host, u64 size)
{
    if (!aliasing) {
        munmap(host - HOST_PAGE, size + 2 * HOST_PAGE);
        return;
    }
    g_mutex_lock(&blocks_lock);
    /* Replaced rather than unmapped: the range stays ours. */
    void *again =
        mmap(host, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    g_assert(again == host);
    home_forget((u64)(uintptr_t)host);
    g_mutex_unlock(&blocks_lock);
}
