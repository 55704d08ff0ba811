/*
 * The softmmu against an oracle that knows nothing of it.
 *
 * The oracle (`expect`) is a second reading of the privileged spec: for one access it walks the
 * page tables from scratch, looks at PMP byte by byte and says which trap, or which physical
 * address and which PTE afterwards. Memory is filled so that every aligned u64 holds its own
 * physical address; then a load tells where it went.
 *
 * Tests with small scenes come first (permissions one by one, fences, views, PMP, code pages), then
 * a long random walk through all of it, in which every PTE change is followed by the smallest fence
 * that the spec asks for, so that no stale answer is right.
 *
 * Tests run in both layouts: loop index 0 is the aliasing layout, 1 the explicit test.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/bits.h"
#include "softmmu/layout.h"
#include "softmmu/softmmu.h"

#define RAM_BASE 0x80000000ull
#define RAM_SIZE (64ull << 20)
#define HIGH_BASE 0x380000000ull /* above 4 GiB: Sv32 reaches it by its 34 bits */
#define HIGH_SIZE (4ull << 20)
#define ROM_BASE 0x1000ull
#define ROM_SIZE 0x3000ull
#define DEV_BASE 0x10000000ull
#define DEV_SIZE 0x2000ull
#define TABLES (RAM_BASE + RAM_SIZE / 2) /* page tables come from here on */

enum { V = 1, R = 2, W = 4, X = 8, U = 16, G = 32, A = 64, D = 128 };
#define RWXAD (V | R | W | X | A | D)
enum { FETCH, LOAD, STORE };

static CpuState cpu;
static Bus *bus;
static Mmu *mmu;
static Region *ram, *high, *rom;
static TranslationRegime regime;
static TranslationRegime mmu_regime_seen; /* what the softmmu was told last */
static PmpState pmp;
static u64 next_table;

/* For conditions that are tested a million times: check's own macros write to a pipe even if all is
 * well. */
#define must(cond, ...)                                                                            \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            ck_abort_msg(__VA_ARGS__);                                                             \
        }                                                                                          \
    } while (0)

static u64 rng_state = 0x2545f4914f6cdd1d;

static u64 rnd(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state * 0x9e3779b97f4a7c15;
}

static u64 below(u64 n)
{
    return (rnd() >> 16) % n;
}

/* ---- The scene ---- */

/* A device whose bytes are a function of their offset, so that splits do not show in what is read.
 */
static u64 dev_written[8];
static unsigned dev_writes, dev_reads, dev_sizes;

static u8 dev_byte(u64 offset)
{
    return (u8)(offset * 37 + 11);
}

static bool dev_read(void *opaque, u64 offset, unsigned size, u64 *value)
{
    ck_assert_ptr_eq(opaque, &dev_written);
    ck_assert(offset % size == 0 && offset + size <= DEV_SIZE);
    dev_reads++;
    dev_sizes |= size;
    *value = 0;
    for (unsigned i = 0; i < size; i++) {
        *value |= (u64)dev_byte(offset + i) << (8 * i);
    }
    return true;
}

static bool dev_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    ck_assert_ptr_eq(opaque, &dev_written);
    ck_assert(offset % size == 0 && offset + size <= DEV_SIZE);
    dev_sizes |= size;
    dev_written[dev_writes++ % 8] = value | offset << 48;
    return true;
}

static const MmioOps dev_ops = {dev_read, dev_write, 0, 0};

/* Host memory of a physical address, as the test keeps track of it, or NULL. */
static u8 *host_of(u64 pa)
{
    if (pa >= RAM_BASE && pa < RAM_BASE + RAM_SIZE) {
        return ram->host + (pa - RAM_BASE);
    }
    if (pa >= HIGH_BASE && pa < HIGH_BASE + HIGH_SIZE) {
        return high->host + (pa - HIGH_BASE);
    }
    if (pa >= ROM_BASE && pa < ROM_BASE + ROM_SIZE) {
        return rom->host + (pa - ROM_BASE);
    }
    return NULL;
}

static bool is_rom(u64 pa)
{
    return pa >= ROM_BASE && pa < ROM_BASE + ROM_SIZE;
}

static void tag(u64 pa, u64 len)
{
    for (u64 i = 0; i < len; i += 8) {
        u64 v = pa + i;
        memcpy(host_of(pa + i), &v, 8);
    }
}

/* By either way, if the fast one will do. */
static void set_regime(void)
{
    const TranslationRegime *now = &mmu_regime_seen;
    TranslationRegime same = regime;
    same.fetch_priv = now->fetch_priv;
    same.data_priv = now->data_priv;
    same.sum = now->sum;
    same.mxr = now->mxr;
    if (regime_equal(&same, now) && below(2)) {
        mmu_set_mode(&cpu, regime.fetch_priv, regime.data_priv, regime.sum, regime.mxr);
        mmu_regime_seen = regime;
        return;
    }
    mmu_regime_seen = regime;
    mmu_set_regime(&cpu, &regime);
}

static void start(int explicit_test)
{
    static bool laid_out; /* with CK_FORK=no all tests share a process */
    if (!laid_out) {
        mmu_layout_init(explicit_test);
        laid_out = true;
    }
    GError *err = NULL;
    memset(&cpu, 0, sizeof(cpu));
    bus = bus_new();
    ram = bus_add_memory(bus, "ram", REGION_RAM, RAM_BASE, RAM_SIZE, &err);
    high = bus_add_memory(bus, "high", REGION_RAM, HIGH_BASE, HIGH_SIZE, &err);
    rom = bus_add_memory(bus, "rom", REGION_ROM, ROM_BASE, ROM_SIZE, &err);
    ck_assert(ram && high && rom && !err);
    ck_assert(bus_add_mmio(bus, "dev", DEV_BASE, DEV_SIZE, &dev_ops, &dev_written, NULL, &err));
    mmu = mmu_new(&cpu, bus, &err);
    ck_assert_msg(mmu != NULL, "%s", err ? err->message : "");
    tag(RAM_BASE, RAM_SIZE / 4);
    tag(HIGH_BASE, HIGH_SIZE);
    tag(ROM_BASE, ROM_SIZE);
    next_table = TABLES;
    mmu_regime_seen = (TranslationRegime){.fetch_priv = PRIV_M, .data_priv = PRIV_M};
    regime = (TranslationRegime){
        .mode = PAGING_SV39, .fetch_priv = PRIV_S, .data_priv = PRIV_S, .napot = true};
    memset(&pmp, 0, sizeof(pmp));
    pmp.default_m = pmp.default_su = PMP_R | PMP_W | PMP_X;
    mmu_set_pmp(&cpu, &pmp);
}

static void finish(void)
{
    mmu_free(mmu);
    bus_free(bus);
}

/* ---- Page tables ---- */

static u64 new_table(void)
{
    u64 pa = next_table;
    next_table += 4096;
    ck_assert(next_table <= RAM_BASE + RAM_SIZE);
    memset(host_of(pa), 0, 4096);
    return pa;
}

static unsigned pte_size(void)
{
    return regime.mode == PAGING_SV32 ? 4 : 8;
}

static unsigned vpn_bits(void)
{
    return regime.mode == PAGING_SV32 ? 10 : 9;
}

static u64 get_pte(u64 pa)
{
    u64 v = 0;
    memcpy(&v, host_of(pa), pte_size());
    return v;
}

static void put_pte(u64 pa, u64 v)
{
    memcpy(host_of(pa), &v, pte_size());
}

/* The address of the PTE of va at `level` under `root`, with tables made on the way. */
static u64 pte_at(u64 root, u64 va, unsigned level)
{
    unsigned n = regime.mode == PAGING_SV32 ? 2 : 3;
    u64 table = root;
    while (1) {
        n--;
        u64 at = table + ((va >> (12 + n * vpn_bits())) & ((1u << vpn_bits()) - 1)) * pte_size();
        if (n == level) {
            return at;
        }
        u64 pte = get_pte(at);
        if (!(pte & V) || (pte & (R | W | X))) {
            put_pte(at, new_table() >> 12 << 10 | V);
            pte = get_pte(at);
        }
        table = pte >> 10 << 12;
    }
}

static void map(u64 root, u64 va, u64 pa, unsigned level, u64 flags)
{
    put_pte(pte_at(root, va, level), pa >> 12 << 10 | flags);
}

/* ---- The oracle ---- */

typedef struct Expect {
    int cause; /* or -1 */
    u64 pa;
    u64 pte_pa, pte; /* what the leaf PTE has to be afterwards; pte_pa 0: bare */
} Expect;

static bool pmp_oracle(u64 pa, unsigned size, u8 priv, u8 need)
{
    unsigned chosen = pmp.count;
    for (unsigned b = 0; b < size; b++) {
        for (unsigned i = 0; i < pmp.count; i++) {
            if (pa + b >= pmp.range[i].first && pa + b <= pmp.range[i].last) {
                chosen = MIN(chosen, i);
                break;
            }
        }
    }
    if (chosen == pmp.count) {
        return ((priv == PRIV_M ? pmp.default_m : pmp.default_su) & need) == need;
    }
    const PmpRange *e = &pmp.range[chosen];
    for (unsigned b = 0; b < size; b++) {
        if (pa + b < e->first || pa + b > e->last) {
            return false;
        }
    }
    return ((priv == PRIV_M ? e->perms_m : e->perms_su) & need) == need;
}

/* The trap of one access of `size` bytes within a page, or where it goes. */
static Expect expect(u64 va, unsigned size, int access)
{
    int page_fault = access == FETCH ? 12 : access == LOAD ? 13 : 15;
    int access_fault = access == FETCH ? 1 : access == LOAD ? 5 : 7;
    u8 priv = access == FETCH ? regime.fetch_priv : regime.data_priv;
    u8 pmp_need = access == FETCH ? PMP_X : access == LOAD ? PMP_R : PMP_W;
    Expect e = {-1, va, 0, 0};
    if (regime.rv32) {
        va &= 0xffffffff;
        e.pa = va;
    }
    if (priv != PRIV_M && regime.mode != PAGING_BARE) {
        bool sv32 = regime.mode == PAGING_SV32;
        unsigned vb = sv32 ? 10 : 9;
        int i = sv32 ? 1 : 2;
        u64 a = regime.root, pte, at;
        if (!sv32) {
            u64 upper = va >> 38;
            if (upper != 0 && upper != 0x3ffffff) {
                return (Expect){page_fault};
            }
        }
        for (;; i--) {
            if (i < 0) {
                return (Expect){page_fault};
            }
            at = a + ((va >> 12 >> (vb * (unsigned)i)) % (1u << vb)) * (sv32 ? 4 : 8);
            if (!host_of(at) || !pmp_oracle(at, sv32 ? 4 : 8, PRIV_S, PMP_R)) {
                return (Expect){access_fault};
            }
            pte = 0;
            memcpy(&pte, host_of(at), sv32 ? 4 : 8);
            if (!(pte & V) || (!(pte & R) && (pte & W))) {
                return (Expect){page_fault};
            }
            if (!sv32) {
                if (pte & 0x1fc0000000000000 || (pte >> 61 & 3) == 3 ||
                    (pte >> 61 & 3 && !regime.pbmte) || (pte >> 63 && !regime.napot)) {
                    return (Expect){page_fault};
                }
            }
            if (pte & R || pte & X) {
                break;
            }
            if (pte & (A | D | U) || (!sv32 && pte >> 61)) {
                return (Expect){page_fault};
            }
            a = (sv32 ? pte >> 10 : pte << 10 >> 20) << 12;
        }
        u64 ppn = sv32 ? pte >> 10 : pte << 10 >> 20;
        u64 low = ((u64)1 << (vb * (unsigned)i)) - 1;
        if (ppn & low) {
            return (Expect){page_fault};
        }
        if (!sv32 && pte >> 63) {
            if (i != 0 || (ppn & 15) != 8) {
                return (Expect){page_fault};
            }
            low = 15;
        }
        bool ok = access == FETCH   ? (pte & X) != 0
                  : access == STORE ? (pte & W) != 0
                                    : (pte & R) || (regime.mxr && (pte & X));
        if (priv == PRIV_U && !(pte & U)) {
            ok = false;
        }
        if (priv == PRIV_S && (pte & U) && (access == FETCH || !regime.sum)) {
            ok = false;
        }
        u64 want = pte | A | (access == STORE ? D : 0);
        if (want != pte && !regime.adue) {
            ok = false;
        }
        if (!ok) {
            return (Expect){page_fault};
        }
        if (want != pte && (is_rom(at) || !pmp_oracle(at, sv32 ? 4 : 8, PRIV_S, PMP_W))) {
            return (Expect){access_fault};
        }
        e.pte_pa = at;
        e.pte = want;
        e.pa = ((ppn & ~low) | ((va >> 12) & low)) << 12 | (va & 0xfff);
    }
    if (!pmp_oracle(e.pa, size, priv, pmp_need)) {
        e.cause = access_fault;
    } else if (!host_of(e.pa)) {
        bool dev = e.pa >= DEV_BASE && e.pa < DEV_BASE + DEV_SIZE;
        if (!dev || access == FETCH) {
            e.cause = access_fault;
        }
    } else if (access == STORE && is_rom(e.pa)) {
        e.cause = access_fault;
    }
    return e;
}

/* ---- Checked accesses ---- */

static u64 value_at(u64 pa, unsigned size)
{
    u64 v = 0;
    if (host_of(pa)) {
        memcpy(&v, host_of(pa), size);
    } else {
        for (unsigned i = 0; i < size; i++) {
            v |= (u64)dev_byte(pa - DEV_BASE + i) << (8 * i);
        }
    }
    return v;
}

static u64 wrap(u64 va)
{
    return regime.rv32 ? va & 0xffffffff : va;
}

/* Makes an access through the softmmu and fails unless it does what the oracle says. Returns the
 * cause or -1. */
static int check_access(u64 va, unsigned log2, int access)
{
    unsigned size = 1u << log2;
    unsigned first = MIN(size, 4096 - (unsigned)(va & 4095));
    u64 va2 = wrap(va + first);
    cpu.status = CPU_OK;
    Expect e = expect(va, first, access), f = {-1};
    u64 tval = wrap(va);
    if (access == FETCH) {
        MmuFetch out;
        bool ok = mmu_fetch(&cpu, va, first, &out);
        must(ok == (e.cause < 0), "fetch %lx: cause %d, expected %d", va,
             ok ? -1 : (int)cpu.trap_cause, e.cause);
        if (ok) {
            must(out.page_pa == (e.pa & ~4095ull), "fetch %lx: page %lx", va, out.page_pa);
            must(out.host == host_of(out.page_pa), "fetch %lx: host", va);
        }
    } else {
        if (e.cause < 0 && first < size) {
            if (!host_of(e.pa)) { /* devices take no accesses that cross a page */
                e.cause = access == LOAD ? 5 : 7;
            } else {
                f = expect(va2, size - first, access);
                if (f.cause < 0 && !host_of(f.pa)) {
                    f.cause = access == LOAD ? 5 : 7;
                }
                if (f.cause >= 0) {
                    tval = va2;
                }
            }
        }
        int cause = e.cause >= 0 ? e.cause : f.cause;
        u64 value = 0;
        bool ok;
        if (access == LOAD) {
            ok = mmu_load(&cpu, va, log2, &value);
            if (ok && cause < 0) {
                u64 want = value_at(e.pa, first);
                if (first < size) {
                    want |= value_at(f.pa, size - first) << (8 * first);
                }
                must(value == want, "load %lx: got %lx, expected %lx", va, value, want);
            }
        } else {
            u64 old[2] = {host_of(e.pa) ? value_at(e.pa, first) : 0,
                          f.cause < 0 && first < size ? value_at(f.pa, size - first) : 0};
            u64 v = rnd() & mask64(8 * size);
            ok = mmu_store(&cpu, va, log2, v);
            if (e.cause < 0 && host_of(e.pa)) {
                u64 want = ok ? v & mask64(8 * first) : old[0];
                must(value_at(e.pa, first) == want, "store %lx: not as expected", va);
                memcpy(host_of(e.pa), &old[0], first);
            }
            if (ok && first < size && host_of(f.pa)) {
                must(value_at(f.pa, size - first) == v >> (8 * first), "store %lx: second page",
                     va);
                memcpy(host_of(f.pa), &old[1], size - first);
            }
        }
        must(ok == (cause < 0), "%s %lx size %u: cause %d, expected %d",
             access == LOAD ? "load" : "store", va, size, ok ? -1 : (int)cpu.trap_cause, cause);
        e.cause = cause;
    }
    if (e.cause >= 0) {
        must(cpu.status == CPU_TRAP && (int)cpu.trap_cause == e.cause && cpu.trap_value == tval,
             "%lx: cause %lu value %lx, expected %d, %lx", va, cpu.trap_cause, cpu.trap_value,
             e.cause, tval);
    } else {
        must(cpu.status == CPU_OK, "%lx: status %u", va, cpu.status);
        if (e.pte_pa && host_of(e.pte_pa)) {
            must(get_pte(e.pte_pa) == e.pte, "PTE of %lx: %lx, expected %lx", va, get_pte(e.pte_pa),
                 e.pte);
        }
    }
    return e.cause;
}

static u64 entry(s64 offset, u64 va)
{
    return *view_entry(cpu.view, offset, va);
}

/* Whatever the tables hold for va must be what the oracle allows for the whole page, without a PTE
 * update. PMP can tell any 4 bytes apart; where it does not, larger steps do. */
static void check_entries(u64 va, unsigned step)
{
    u64 page = va & ~4095ull;
    if (!view_canonical(page)) {
        return;
    }
    static const struct {
        s64 offset;
        int access;
    } kinds[] = {{VIEW_READ_OFFSET, LOAD}, {VIEW_WRITE_OFFSET, STORE}};
    must(!entry(VIEW_WRITE_OFFSET, page) ||
             entry(VIEW_WRITE_OFFSET, page) == entry(VIEW_READ_OFFSET, page),
         "%lx may be written but not read", page);
    for (unsigned i = 0; i < 2; i++) {
        u64 e = entry(kinds[i].offset, page);
        if (!e) {
            continue;
        }
        for (u64 at = 0; at < 4096; at += step) {
            Expect x = expect(page + at, 4, kinds[i].access);
            must(x.cause < 0 && host_of(x.pa) == (u8 *)(uintptr_t)(page + at + e),
                 "entry %u of %lx is not right", i, page + at);
            must(!x.pte_pa || get_pte(x.pte_pa) == x.pte, "entry of %lx needs an update", page);
        }
    }
}

/* ---- The bus ---- */

START_TEST(bus_regions_and_bounds)
{
    start(_i);
    GError *err = NULL;
    static const struct {
        u64 base, size;
    } bad[] = {
        {RAM_BASE - 0x1000, 0x2000},
        {RAM_BASE + RAM_SIZE - 0x1000, 0x1000},
        {RAM_BASE - 0x1000, RAM_SIZE * 2},
        {RAM_BASE + 0x1000, 0x1000},
        {0x5000, 0},
        {0x5800, 0x1000},
        {0x5000, 0x800},
        {~(u64)0xfff, 0x2000},
        {0, ~(u64)0xfff},
        {HIGH_BASE * 2, (u64)1 << 40},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert(!bus_add_memory(bus, "bad", REGION_RAM, bad[i].base, bad[i].size, &err));
        ck_assert(err && strlen(err->message) > 10);
        g_clear_error(&err);
    }
    ck_assert(!bus_add_mmio(bus, "bad", RAM_BASE + 5, 1, &dev_ops, NULL, NULL, &err));
    g_clear_error(&err);
    ck_assert_uint_eq(bus_regions(bus)->len, 4);
    u64 last = 0;
    for (unsigned i = 0; i < bus_regions(bus)->len; i++) {
        const Region *r = g_ptr_array_index(bus_regions(bus), i);
        ck_assert(r->base >= last);
        last = r->base + r->size;
    }
    for (unsigned i = 0; i < bus_regions(bus)->len; i++) {
        Region *r = g_ptr_array_index(bus_regions(bus), i);
        ck_assert(bus_find(bus, r->base) == r && bus_find(bus, r->base + r->size - 1) == r);
        ck_assert(bus_find(bus, r->base - 1) != r && bus_find(bus, r->base + r->size) != r);
    }
    /* The last page of the address space, and accesses that would wrap. */
    Region *top = bus_add_memory(bus, "top", REGION_RAM, ~(u64)0xfff, 0x1000, &err);
    ck_assert(top);
    u64 v;
    u8 buf[16] = {0};
    ck_assert(bus_read(bus, ~(u64)7, 8, &v));
    ck_assert(!bus_read(bus, ~(u64)6, 8, &v) && !bus_write(bus, ~(u64)6, 8, 1));
    ck_assert(!bus_dma_read(bus, ~(u64)6, buf, 8) && bus_dma_read(bus, ~(u64)7, buf, 8));
    ck_assert(!bus_dma_map(bus, ~(u64)6, 8) && !bus_dma_map(bus, RAM_BASE, ~(u64)0));
    ck_assert(!bus_dma_write(bus, RAM_BASE, buf, ~(u64)0));
    bus_dma_dirty(bus, RAM_BASE, ~(u64)0);
    /* Every size at every distance from the end of RAM. */
    for (unsigned log2 = 0; log2 < 4; log2++) {
        for (unsigned back = 0; back < 16; back++) {
            u64 pa = RAM_BASE + RAM_SIZE - back;
            bool fits = (1u << log2) <= back;
            ck_assert(bus_read(bus, pa, 1u << log2, &v) == fits);
            ck_assert(bus_write(bus, pa, 1u << log2, v) == fits);
        }
    }
    ck_assert(bus_read(bus, ROM_BASE, 8, &v) && v == ROM_BASE && !bus_write(bus, ROM_BASE, 8, 0));
    finish();
}
END_TEST

static bool narrow_read(void *opaque, u64 offset, unsigned size, u64 *value)
{
    *(unsigned *)opaque |= size;
    *value = offset == 4 ? 0xffffffff44444444 : 0xffffffff11111111;
    return offset < 8;
}

static bool narrow_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    (void)value;
    *(unsigned *)opaque |= size;
    return offset < 8;
}

START_TEST(bus_mmio_splits)
{
    start(_i);
    u64 v, w;
    for (unsigned log2 = 0; log2 < 4; log2++) {
        for (u64 off = 0; off < 24; off++) {
            unsigned size = 1u << log2;
            dev_sizes = 0;
            ck_assert(bus_read(bus, DEV_BASE + off, size, &v));
            ck_assert_uint_eq(v, value_at(DEV_BASE + off, size));
            ck_assert((dev_sizes == size) == (off % size == 0));
        }
    }
    ck_assert(!bus_read(bus, DEV_BASE + DEV_SIZE - 4, 8, &v));
    dev_writes = 0;
    ck_assert(bus_write(bus, DEV_BASE + 3, 4, 0x44332211));
    ck_assert_uint_eq(dev_writes, 2 + 1);
    ck_assert_uint_eq(dev_written[0], 0x11 | 3ull << 48);
    ck_assert_uint_eq(dev_written[1], 0x3322 | 4ull << 48);
    ck_assert_uint_eq(dev_written[2], 0x44 | 6ull << 48);
    /* Registers of exactly four bytes. */
    static const MmioOps ops = {narrow_read, narrow_write, 4, 4};
    unsigned sizes = 0;
    GMutex lock;
    g_mutex_init(&lock);
    ck_assert(bus_add_mmio(bus, "narrow", 0x20000000, 0x10, &ops, &sizes, &lock, NULL));
    ck_assert(bus_read(bus, 0x20000000, 8, &v) && v == 0x4444444411111111);
    ck_assert(bus_read(bus, 0x20000000, 4, &w) && w == 0x11111111 && sizes == 4);
    sizes = 0;
    ck_assert(!bus_read(bus, 0x20000000, 2, &v) && !bus_write(bus, 0x20000002, 4, 0));
    ck_assert_uint_eq(sizes, 0);
    ck_assert(
        !bus_read(bus, 0x20000008, 4, &v)); /* refused by the device, the lock is free again */
    ck_assert(g_mutex_trylock(&lock));
    g_mutex_unlock(&lock);
    g_mutex_clear(&lock);
    finish();
}
END_TEST

static unsigned dirty_calls;
static u64 dirty_page;
static bool dirty_unmarks = true;

static void on_dirty(void *opaque, u64 page_pa)
{
    ck_assert_ptr_eq(opaque, &dirty_calls);
    ck_assert(bus_is_code_page(bus, page_pa) && page_pa % 4096 == 0);
    dirty_calls++;
    dirty_page = page_pa;
    mmu_drop_exec_entries(&cpu, page_pa);
    if (dirty_unmarks) {
        bus_set_code_page(bus, page_pa, false);
    }
}

START_TEST(bus_dma_and_code_pages)
{
    start(_i);
    bus_set_dirty_callback(bus, on_dirty, &dirty_calls);
    GError *err = NULL;
    Region *next = bus_add_memory(bus, "next", REGION_RAM, RAM_BASE + RAM_SIZE, 0x1000, &err);
    ck_assert(next);
    u8 buf[64], back[64];
    for (unsigned i = 0; i < sizeof(buf); i++) {
        buf[i] = (u8)rnd();
    }
    u64 edge = RAM_BASE + RAM_SIZE - 32;
    ck_assert(bus_dma_write(bus, edge, buf, 64) && bus_dma_read(bus, edge, back, 64));
    ck_assert_mem_eq(buf, back, 64);
    ck_assert_mem_eq(next->host, buf + 32, 32);
    ck_assert(!bus_dma_map(bus, edge, 64) &&
              bus_dma_map(bus, edge, 32) == ram->host + RAM_SIZE - 32);
    /* A write that does not fit leaves the part that would untouched. */
    u64 tail = RAM_BASE + RAM_SIZE + 0x1000 - 32;
    ck_assert(!bus_dma_write(bus, tail, buf, 64));
    ck_assert(bus_dma_read(bus, tail, back, 32) && back[0] == 0 && back[31] == 0);
    ck_assert(!bus_dma_write(bus, DEV_BASE, buf, 8) && !bus_dma_read(bus, DEV_BASE, buf, 8));
    ck_assert(!bus_dma_write(bus, ROM_BASE, buf, 8) && bus_load(bus, ROM_BASE, buf, 8));
    ck_assert_mem_eq(rom->host, buf, 8);
    ck_assert(!bus_dma_map(bus, ROM_BASE, 8));

    bus_set_code_page(bus, RAM_BASE + 0x5123, true);
    ck_assert(bus_is_code_page(bus, RAM_BASE + 0x5fff) &&
              !bus_is_code_page(bus, RAM_BASE + 0x6000) &&
              !bus_is_code_page(bus, RAM_BASE + 0x4fff));
    dirty_calls = 0;
    ck_assert(bus_dma_write(bus, RAM_BASE + 0x4fc0, buf, 64) && dirty_calls == 0);
    ck_assert(bus_dma_write(bus, RAM_BASE + 0x4fc1, buf, 64) && dirty_calls == 1);
    ck_assert_uint_eq(dirty_page, RAM_BASE + 0x5000);
    ck_assert(bus_dma_write(bus, RAM_BASE + 0x4fc1, buf, 64) && dirty_calls == 1);
    bus_set_code_page(bus, RAM_BASE + 0x5000, true);
    bus_dma_dirty(bus, RAM_BASE, 0x5000);
    ck_assert_uint_eq(dirty_calls, 1);
    bus_dma_dirty(bus, RAM_BASE, 0x8000);
    ck_assert_uint_eq(dirty_calls, 2);
    bus_set_code_page(bus, RAM_BASE + 0x5000, true);
    ck_assert(bus_write(bus, RAM_BASE + 0x4ffe, 4, 0) && dirty_calls == 3);
    bus_set_code_page(bus, DEV_BASE, true); /* no memory: nothing happens */
    ck_assert(!bus_is_code_page(bus, DEV_BASE));
    finish();
}
END_TEST

/* ---- Walks ---- */

static void all_regimes(u64 va, u64 pte_pa, u64 pte)
{
    for (unsigned c = 0; c < 32; c++) {
        regime.fetch_priv = regime.data_priv = c & 1 ? PRIV_S : PRIV_U;
        regime.sum = c & 2;
        regime.mxr = c & 4;
        regime.adue = c & 8;
        if (c & 16) {
            regime.fetch_priv = PRIV_M; /* MPRV */
        }
        set_regime();
        for (int access = FETCH; access <= STORE; access++) {
            u64 at = va + (access == FETCH ? below(1024) * 4 : below(512) * 8);
            if (pte_pa) {
                put_pte(pte_pa, pte);
            }
            mmu_fence(&cpu, NULL, NULL);
            int first = check_access(at, 2, access);
            check_entries(at, 512);
            int second = check_access(at, 2, access);
            must(first == second, "%lx: cause %d, then %d", at, first, second);
        }
    }
}

START_TEST(walk_sv39_permissions)
{
    start(_i);
    regime.root = new_table();
    for (unsigned level = 0; level < 3; level++) {
        u64 va = 0xffffffc000000000 + ((u64)level << 30) + 0x600000;
        u64 at = pte_at(regime.root, va, level);
        u64 pa = level == 2 ? RAM_BASE : RAM_BASE + 0x200000;
        for (unsigned flags = 0; flags < 256; flags++) {
            all_regimes(va, at, pa >> 12 << 10 | flags);
        }
        /* Misaligned superpages. */
        for (unsigned bit = 10; bit < 10 + 9 * level; bit++) {
            put_pte(at, pa >> 12 << 10 | RWXAD | 1ull << bit);
            set_regime();
            mmu_fence(&cpu, NULL, NULL);
            ck_assert_int_eq(check_access(va, 3, LOAD), level == 0 ? -1 : 13);
        }
        /* Reserved bits, alone and with the extension that gives them a meaning. */
        for (unsigned bit = 54; bit < 64; bit++) {
            for (unsigned c = 0; c < 8; c++) {
                regime.pbmte = c & 1;
                regime.napot = c & 2;
                u64 pte = (pa >> 12 << 10) | RWXAD | 1ull << bit;
                if (bit == 62 && (c & 4)) {
                    pte |= 1ull << 61;
                }
                if (bit == 63 && (c & 4)) {
                    pte |= 8ull << 10; /* NAPOT, 64 KiB */
                }
                regime.fetch_priv = regime.data_priv = PRIV_S;
                regime.mxr = regime.sum = false;
                put_pte(at, pte);
                set_regime();
                mmu_fence(&cpu, NULL, NULL);
                for (int access = FETCH; access <= STORE; access++) {
                    check_access(va + 0x18, 2, access);
                }
                /* The same bit in a PTE above the leaf. */
                if (level > 0) {
                    put_pte(at, new_table() >> 12 << 10 | V);
                    u64 leaf = pte_at(regime.root, va, 0);
                    put_pte(leaf, RAM_BASE >> 12 << 10 | RWXAD);
                    put_pte(at, get_pte(at) | 1ull << bit);
                    mmu_fence(&cpu, NULL, NULL);
                    ck_assert_int_eq(check_access(va, 3, LOAD), 13);
                    next_table -= (u64)level * 4096;
                }
            }
        }
        /* Pointers with A, D or U, and one level too many. */
        for (unsigned flags = 0; flags < 256; flags++) {
            if (!(flags & (R | X))) {
                put_pte(at, new_table() >> 12 << 10 | (flags & ~(unsigned)V));
                next_table -= 4096;
                put_pte(at, get_pte(at) | V);
                mmu_fence(&cpu, NULL, NULL);
                check_access(va, 3, LOAD);
            }
        }
    }
    regime.napot = true;
    finish();
}
END_TEST

START_TEST(walk_sv32)
{
    start(_i);
    regime.mode = PAGING_SV32;
    regime.rv32 = true;
    regime.root = new_table();
    for (unsigned level = 0; level < 2; level++) {
        u64 va = 0xc0000000 + ((u64)level << 26);
        u64 at = pte_at(regime.root, va, level);
        for (unsigned flags = 0; flags < 256; flags++) {
            all_regimes(va, at, HIGH_BASE >> 12 << 10 | flags);
        }
        for (unsigned bit = 10; bit < 10 + 10 * level; bit++) {
            put_pte(at, HIGH_BASE >> 12 << 10 | RWXAD | 1ull << bit);
            mmu_fence(&cpu, NULL, NULL);
            ck_assert_int_eq(check_access(va, 3, LOAD), level == 0 ? -1 : 13);
        }
    }
    /* Addresses wrap at 32 bits, and what is above them does not count. */
    regime.fetch_priv = regime.data_priv = PRIV_S;
    regime.mxr = false;
    set_regime();
    map(regime.root, 0xfffff000, RAM_BASE + 0x3000, 0, RWXAD);
    map(regime.root, 0, RAM_BASE + 0x9000, 0, RWXAD);
    mmu_fence(&cpu, NULL, NULL);
    ck_assert_int_eq(check_access(0xfffffffc, 3, LOAD), -1);
    ck_assert_int_eq(check_access(0xffffffffull, 2, STORE), -1);
    u64 v;
    ck_assert(mmu_load(&cpu, 0xabcdfffffff8, 3, &v) && v == RAM_BASE + 0x3ff8);
    map(regime.root, 0, 0, 0, 0);
    mmu_fence(&cpu, NULL, NULL);
    ck_assert_int_eq(check_access(0xfffffffc, 3, STORE), 15);
    finish();
}
END_TEST

START_TEST(walk_table_memory)
{
    start(_i);
    regime.root = new_table();
    u64 va = 0x12345000, root = regime.root;
    map(root, va, RAM_BASE, 0, RWXAD);
    /* A root, and a pointer, outside memory; in a device; at the end of the physical address space.
     */
    static const u64 nowhere[] = {0x70000000, DEV_BASE, ((u64)1 << 56) - 4096, 0};
    for (unsigned i = 0; i < ARRAY_LEN(nowhere); i++) {
        regime.root = nowhere[i];
        set_regime();
        ck_assert_int_eq(check_access(va, 3, LOAD), 5);
        ck_assert_int_eq(check_access(va, 3, STORE), 7);
        ck_assert_int_eq(check_access(va, 2, FETCH), 1);
        regime.root = root;
        set_regime();
        u64 at = pte_at(root, va, 1), keep = get_pte(at);
        put_pte(at, nowhere[i] >> 12 << 10 | V);
        mmu_fence(&cpu, &va, NULL);
        ck_assert_int_eq(check_access(va, 3, STORE), 7);
        put_pte(at, keep);
        ck_assert_int_eq(check_access(va, 3, STORE), -1);
    }
    /* A page table in ROM can be walked, but not have its A and D set. */
    regime.adue = true;
    u64 leaf = RAM_BASE >> 12 << 10;
    for (unsigned flags = 0; flags < 4; flags++) {
        u64 pte = leaf | V | R | W | X | (flags & 1 ? A : 0) | (flags & 2 ? D : 0);
        memcpy(rom->host + ((va >> 12) % 512) * 8 + 0x1000, &pte, 8);
        put_pte(pte_at(root, va, 1), (ROM_BASE + 0x1000) >> 12 << 10 | V);
        set_regime();
        mmu_fence(&cpu, NULL, NULL);
        ck_assert_int_eq(check_access(va, 3, LOAD), flags & 1 ? -1 : 5);
        ck_assert_int_eq(check_access(va, 3, STORE), flags == 3 ? -1 : 7);
    }
    put_pte(pte_at(root, va, 1), new_table() >> 12 << 10 | V);
    /* PMP between the hart and its tables: no read at all, or no update. */
    map(root, va, RAM_BASE, 0, V | R | W);
    pmp.count = 1;
    u64 at = pte_at(root, va, 0);
    for (unsigned perms = 0; perms < 8; perms++) {
        pmp.range[0] = (PmpRange){at, at + 7, 7, (u8)perms};
        put_pte(at, leaf | V | R | W);
        mmu_set_pmp(&cpu, &pmp);
        ck_assert_int_eq(check_access(va, 3, LOAD), (perms & 3) == 3 ? -1 : 5);
        put_pte(at, leaf | V | R | W | A | D);
        mmu_fence(&cpu, NULL, NULL);
        ck_assert_int_eq(check_access(va, 3, STORE), perms & 1 ? -1 : 7);
    }
    /* An update of a PTE in a page with code is a write to code. */
    pmp.count = 0;
    mmu_set_pmp(&cpu, &pmp);
    bus_set_dirty_callback(bus, on_dirty, &dirty_calls);
    dirty_calls = 0;
    put_pte(at, leaf | V | R | W);
    mmu_fence(&cpu, NULL, NULL);
    bus_set_code_page(bus, at, true);
    ck_assert_int_eq(check_access(va, 3, LOAD), -1);
    ck_assert(dirty_calls == 1 && dirty_page == (at & ~4095ull));
    finish();
}
END_TEST

START_TEST(canonical_addresses)
{
    start(_i);
    regime.root = new_table();
    set_regime();
    map(regime.root, 0x3000, RAM_BASE + 0x3000, 0, RWXAD);
    map(regime.root, 0xffffffc000003000, RAM_BASE + 0x5000, 0, RWXAD);
    ck_assert_int_eq(check_access(0x3000, 3, LOAD), -1);
    ck_assert_int_eq(check_access(0xffffffc000003000, 3, STORE), -1);
    ck_assert(entry(VIEW_READ_OFFSET, 0x3000) && entry(VIEW_WRITE_OFFSET, 0xffffffc000003000));
    for (unsigned bit = 39; bit < 64; bit++) {
        for (unsigned i = 0; i < 2; i++) {
            u64 va = (i ? 0xffffffc000003000 : 0x3000) ^ (u64)1 << bit;
            ck_assert_int_eq(check_access(va, 3, LOAD), 13);
            ck_assert_int_eq(check_access(va, 0, STORE), 15);
            ck_assert_int_eq(check_access(va, 1, FETCH), 12);
            void *host;
            ck_assert(!mmu_amo_host(&cpu, va, 3, &host) && cpu.trap_cause == 15);
        }
    }
    /* Bare: the whole address counts, and only low ones are remembered. */
    GError *err = NULL;
    u64 base[] = {(u64)1 << 38, (u64)1 << 39, 0xffffffff80000000, (u64)1 << 55};
    for (unsigned i = 0; i < ARRAY_LEN(base); i++) {
        Region *r = bus_add_memory(bus, "far", REGION_RAM, base[i], 0x1000, &err);
        ck_assert(r);
        memset(r->host, (int)i + 1, 0x1000);
    }
    for (int m = 0; m < 2; m++) {
        regime.mode = PAGING_BARE;
        regime.fetch_priv = regime.data_priv = m ? PRIV_M : PRIV_U;
        set_regime();
        ck_assert_int_eq(check_access(RAM_BASE, 3, STORE), -1);
        ck_assert(entry(VIEW_READ_OFFSET, RAM_BASE));
        for (unsigned i = 0; i < ARRAY_LEN(base); i++) {
            u64 v;
            MmuFetch f;
            ck_assert(mmu_load(&cpu, base[i], 0, &v) && v == i + 1);
            ck_assert(mmu_store(&cpu, base[i] + 8, 0, v));
            ck_assert(mmu_fetch(&cpu, base[i], 4, &f) && f.page_pa == base[i] &&
                      f.host[0] == i + 1);
            mmu_set_exec_entry(&cpu, base[i], base[i], &cpu);
            ck_assert(!entry(VIEW_READ_OFFSET, base[i]) && !entry(VIEW_WRITE_OFFSET, base[i]) &&
                      !entry(VIEW_EXEC_OFFSET, base[i]));
            ck_assert_int_eq(check_access(base[i] ^ RAM_BASE, 3, LOAD), 5);
        }
    }
    finish();
}
END_TEST

/* ---- Fences ---- */

/* Loads from every 4 KiB page of a range, so that each has an entry; then counts read entries. */
static unsigned fill_range(u64 va, unsigned pages)
{
    unsigned n = 0;
    for (unsigned i = 0; i < pages; i++) {
        check_access(va + i * 4096ull, 3, LOAD);
    }
    for (unsigned i = 0; i < pages; i++) {
        n += entry(VIEW_READ_OFFSET, va + i * 4096ull) != 0;
    }
    return n;
}

static unsigned count_range(u64 va, unsigned pages)
{
    unsigned n = 0;
    for (unsigned i = 0; i < pages; i++) {
        n += entry(VIEW_READ_OFFSET, va + i * 4096ull) != 0;
    }
    return n;
}

START_TEST(fence_by_address)
{
    start(_i);
    regime.root = new_table();
    regime.asid = 3;
    set_regime();
    u16 asid = 3, other = 4;
    static const struct {
        u64 va, pa;
        unsigned level;
        u64 flags;
        unsigned pages;
    } leaves[] = {
        {0x40000000, RAM_BASE, 2, RWXAD, 4096},
        {0x00200000, RAM_BASE + 0x200000, 1, RWXAD, 512},
        {0x00400000, RAM_BASE + 0x400000, 1, RWXAD | G, 512},
        {0x00610000, RAM_BASE + 0x10000, 0, RWXAD | 1ull << 63, 16},
        {0x00630000, RAM_BASE + 0x30000, 0, RWXAD, 1},
        {0x00631000, RAM_BASE + 0x31000, 0, RWXAD | G, 1},
    };
    enum { COUNT = ARRAY_LEN(leaves) };
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned n = leaves[i].flags >> 63 ? 16 : 1;
        for (unsigned k = 0; k < n; k++) {
            u64 pa = leaves[i].pa | (n > 1 ? 0x8000 : 0);
            map(regime.root, leaves[i].va + k * 4096ull, pa, leaves[i].level, leaves[i].flags);
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        for (unsigned variant = 0; variant < 4; variant++) {
            for (unsigned k = 0; k < COUNT; k++) {
                ck_assert_uint_eq(fill_range(leaves[k].va, leaves[k].pages), leaves[k].pages);
            }
            u64 va = leaves[i].va + below(leaves[i].pages * 4096ull);
            bool global = leaves[i].flags & G;
            bool gone;
            switch (variant) {
            case 0:
                mmu_fence(&cpu, &va, NULL);
                gone = true;
                break;
            case 1:
                mmu_fence(&cpu, &va, &asid);
                gone = !global;
                break;
            case 2:
                mmu_fence(&cpu, &va, &other);
                gone = false;
                break;
            default: /* an address that is none */
                va ^= (u64)1 << 60;
                mmu_fence(&cpu, &va, NULL);
                gone = false;
            }
            for (unsigned k = 0; k < COUNT; k++) {
                unsigned want = k == i && gone ? 0 : leaves[k].pages;
                ck_assert_msg(count_range(leaves[k].va, leaves[k].pages) == want,
                              "fence %u of leaf %u, leaf %u: %u entries left", variant, i, k,
                              count_range(leaves[k].va, leaves[k].pages));
            }
        }
    }
    /* All addresses. */
    mmu_fence(&cpu, NULL, &other);
    ck_assert_uint_eq(count_range(leaves[1].va, 512), 512);
    mmu_fence(&cpu, NULL, &asid);
    for (unsigned k = 0; k < COUNT; k++) {
        ck_assert_uint_eq(count_range(leaves[k].va, leaves[k].pages),
                          leaves[k].flags & G ? leaves[k].pages : 0);
    }
    mmu_fence(&cpu, NULL, NULL);
    ck_assert_uint_eq(count_range(leaves[2].va, 512), 0);
    finish();
}
END_TEST

START_TEST(fence_sv32_superpage)
{
    start(_i);
    regime.mode = PAGING_SV32;
    regime.rv32 = true;
    regime.root = new_table();
    set_regime();
    map(regime.root, 0x80000000, RAM_BASE, 1, RWXAD);
    map(regime.root, 0x80400000, RAM_BASE + 0x400000, 1, RWXAD);
    ck_assert_uint_eq(fill_range(0x80000000, 2048), 2048);
    u64 va = 0x803fffff;
    mmu_fence(&cpu, &va, NULL);
    ck_assert_uint_eq(count_range(0x80000000, 1024), 0);
    ck_assert_uint_eq(count_range(0x80400000, 1024), 1024);
    finish();
}
END_TEST

START_TEST(address_spaces)
{
    start(_i);
    enum { SPACES = 12 };
    u64 root[SPACES];
    u64 va = 0x10000, kva = 0xffffffc000000000;
    for (unsigned i = 0; i < SPACES; i++) {
        root[i] = new_table();
        map(root[i], va, RAM_BASE + i * 4096ull, 0, RWXAD | U);
        map(root[i], kva, RAM_BASE + 0x100000, 0, RWXAD | G);
        map(root[i], kva + 4096, RAM_BASE + 0x200000 + i * 4096ull, 0, RWXAD);
    }
    for (unsigned round = 0; round < 400; round++) {
        unsigned i = (unsigned)below(SPACES);
        regime.root = root[i];
        regime.asid = (u16)(i + 1);
        regime.fetch_priv = regime.data_priv = round & 1 ? PRIV_S : PRIV_U;
        regime.sum = below(2);
        set_regime();
        check_access(va + below(64) * 8, 3, LOAD);
        check_access(va + below(64) * 8, 2, FETCH);
        check_access(kva + below(64) * 8, 3, STORE);
        check_access(kva + 4096, 3, LOAD);
        check_entries(va, 512);
        check_entries(kva, 512);
        check_entries(kva + 4096, 512);
        if (below(4) == 0) { /* remap in an address space that is not the current one */
            unsigned k = (unsigned)below(SPACES);
            u16 asid = (u16)(k + 1);
            map(root[k], va, RAM_BASE + below(100) * 4096ull, 0, RWXAD | U);
            mmu_fence(&cpu, below(2) ? &va : NULL, &asid);
        }
    }
    /* A supervisor keeps its global entries when satp changes, and they go with a fence for all. */
    regime.fetch_priv = regime.data_priv = PRIV_S;
    regime.sum = false;
    regime.root = root[0];
    regime.asid = 1;
    set_regime();
    check_access(kva, 3, LOAD);
    check_access(kva + 4096, 3, LOAD);
    regime.root = root[1];
    regime.asid = 2;
    set_regime();
    ck_assert(entry(VIEW_READ_OFFSET, kva) && !entry(VIEW_READ_OFFSET, kva + 4096));
    /* A user space that comes back finds its entries. */
    regime.fetch_priv = regime.data_priv = PRIV_U;
    set_regime();
    check_access(va, 3, LOAD);
    void *view = cpu.view;
    regime.root = root[0];
    regime.asid = 1;
    set_regime();
    ck_assert(cpu.view != view);
    regime.root = root[1];
    regime.asid = 2;
    set_regime();
    ck_assert(cpu.view == view && entry(VIEW_READ_OFFSET, va));
    u16 asid = 2;
    regime.root = root[0];
    regime.asid = 1;
    set_regime();
    mmu_fence(&cpu, &va, &asid); /* from another space */
    regime.root = root[1];
    regime.asid = 2;
    set_regime();
    ck_assert(!entry(VIEW_READ_OFFSET, va));
    /* One root under two ASIDs is two address spaces: a fence for one may leave the other's
     * entries, one for the other may not. */
    for (unsigned i = 0; i < 2; i++) {
        regime.fetch_priv = regime.data_priv = i ? PRIV_S : PRIV_U;
        regime.sum = true;
        for (u16 k = 20; k < 24; k++) {
            regime.asid = k;
            set_regime();
            check_access(va, 3, LOAD);
        }
        map(regime.root, va, RAM_BASE + (200 + i) * 4096, 0, RWXAD | U);
        for (u16 k = 20; k < 24; k++) {
            mmu_fence(&cpu, &va, &k);
            regime.asid = k;
            set_regime();
            check_access(va, 3, LOAD);
        }
    }
    finish();
}
END_TEST

/* ---- Views ---- */

START_TEST(sum_mxr_mprv)
{
    start(_i);
    regime.root = new_table();
    u64 user = 0x10000, kernel = 0x11000, exec = 0x12000;
    map(regime.root, user, RAM_BASE + 0x1000, 0, RWXAD | U);
    map(regime.root, kernel, RAM_BASE + 0x2000, 0, RWXAD);
    map(regime.root, exec, RAM_BASE + 0x3000, 0, V | X | A);
    for (unsigned round = 0; round < 2000; round++) {
        unsigned c = (unsigned)below(64);
        regime.fetch_priv = (u8[]){PRIV_U, PRIV_S, PRIV_M, PRIV_M}[c & 3];
        regime.data_priv = regime.fetch_priv == PRIV_M
                               ? (u8[]){PRIV_U, PRIV_S, PRIV_M, PRIV_S}[c >> 2 & 3]
                               : regime.fetch_priv;
        regime.sum = c & 16;
        regime.mxr = c & 32;
        set_regime();
        u64 va = (u64[]){user, kernel, exec, RAM_BASE + 0x4000}[below(4)] + below(500) * 8;
        check_access(va, (unsigned)below(4), (int)below(3));
        check_entries(va, 512);
        bool scratch =
            regime.fetch_priv != regime.data_priv || (regime.mxr && regime.fetch_priv != PRIV_M);
        if (scratch) {
            ck_assert(!entry(VIEW_READ_OFFSET, va) && !entry(VIEW_WRITE_OFFSET, va));
        }
    }
    /* The same page in each SUM view, without a fence in between. */
    regime.fetch_priv = regime.data_priv = PRIV_S;
    regime.mxr = false;
    for (unsigned i = 0; i < 8; i++) {
        regime.sum = i & 1;
        set_regime();
        ck_assert_int_eq(check_access(user, 3, LOAD), regime.sum ? -1 : 13);
        ck_assert_int_eq(check_access(user, 3, STORE), regime.sum ? -1 : 15);
        ck_assert_int_eq(check_access(user, 2, FETCH), 12);
        ck_assert_int_eq(check_access(kernel, 3, STORE), -1);
        ck_assert(entry(VIEW_WRITE_OFFSET, kernel) != 0);
    }
    /* Execute entries are held in the scratch view and are those of the right fetches. */
    MmuFetch f;
    regime.mxr = true;
    set_regime();
    ck_assert(mmu_fetch(&cpu, kernel, 4, &f));
    mmu_set_exec_entry(&cpu, kernel, f.page_pa, &cpu);
    ck_assert_uint_eq(entry(VIEW_EXEC_OFFSET, kernel) + 2 * kernel, (u64)(uintptr_t)&cpu);
    regime.fetch_priv = PRIV_M;
    set_regime();
    ck_assert(!entry(VIEW_EXEC_OFFSET, kernel));
    finish();
}
END_TEST

/* What menvcfg switches takes effect at once, without a fence. */
START_TEST(feature_toggles)
{
    start(_i);
    regime.root = new_table();
    map(regime.root, 0x1000, RAM_BASE + 0x1000, 0, RWXAD | 1ull << 61);
    map(regime.root, 0x10000, RAM_BASE + 0x8000, 0, RWXAD | 1ull << 63);
    for (unsigned i = 0; i < 64; i++) {
        regime.pbmte = below(2);
        regime.napot = below(2);
        regime.adue = below(2);
        map(regime.root, 0x2000, RAM_BASE + 0x2000, 0, V | R | W);
        u64 va = 0x2000;
        mmu_fence(&cpu, &va, NULL);
        set_regime();
        ck_assert_int_eq(check_access(0x1000, 3, STORE), regime.pbmte ? -1 : 15);
        ck_assert_int_eq(check_access(0x10000, 3, LOAD), regime.napot ? -1 : 13);
        ck_assert_int_eq(check_access(0x2000, 3, LOAD), regime.adue ? -1 : 13);
        ck_assert_int_eq(check_access(0x2000, 3, STORE), regime.adue ? -1 : 15);
        ck_assert_int_eq(check_access(0x1000, 2, FETCH), regime.pbmte ? -1 : 12);
    }
    finish();
}
END_TEST

START_TEST(execute_entries)
{
    start(_i);
    regime.root = new_table();
    set_regime();
    u64 va = 0xffffffc000003000, alias = 0x7000;
    u64 pa = RAM_BASE + 0x3000;
    static u64 desc[2];
    map(regime.root, va, pa, 0, RWXAD);
    map(regime.root, alias, pa, 0, RWXAD);
    for (unsigned i = 0; i < 6; i++) {
        check_access(va, 3, STORE);
        mmu_set_exec_entry(&cpu, va + 0x123, pa, &desc[0]);
        mmu_set_exec_entry(&cpu, alias, pa, &desc[1]);
        ck_assert_uint_eq(entry(VIEW_EXEC_OFFSET, va) + 2 * va, (u64)(uintptr_t)&desc[0]);
        ck_assert_uint_eq(entry(VIEW_EXEC_OFFSET, alias) + 2 * alias, (u64)(uintptr_t)&desc[1]);
        switch (i) {
        case 0:
            mmu_drop_exec_entries(&cpu, pa);
            break;
        case 1:
            mmu_drop_all_exec_entries(&cpu);
            break;
        case 2:
            mmu_fence(&cpu, NULL, NULL);
            break;
        case 3:
            mmu_flush_all(&cpu);
            break;
        case 4:
            pmp.default_m ^= PMP_X;
            mmu_set_pmp(&cpu, &pmp);
            break;
        default:
            mmu_set_exec_entry(&cpu, va, pa, NULL);
            mmu_set_exec_entry(&cpu, alias, pa, NULL);
        }
        ck_assert(!entry(VIEW_EXEC_OFFSET, va) && !entry(VIEW_EXEC_OFFSET, alias));
        bool keeps_data = i < 2 || i == 5;
        ck_assert((entry(VIEW_WRITE_OFFSET, va) != 0) == keeps_data);
    }
    /* Not for a page that is elsewhere, not mapped, or not executable. */
    mmu_set_exec_entry(&cpu, va, pa + 4096, &desc[0]);
    mmu_set_exec_entry(&cpu, va + 4096, pa, &desc[0]);
    ck_assert(!entry(VIEW_EXEC_OFFSET, va) && !entry(VIEW_EXEC_OFFSET, va + 4096));
    map(regime.root, va + 8192, pa, 0, V | R | A);
    mmu_set_exec_entry(&cpu, va + 8192, pa, &desc[0]);
    ck_assert(!entry(VIEW_EXEC_OFFSET, va + 8192));
    /* Fetches notice fences though they are remembered. */
    ck_assert_int_eq(check_access(va, 2, FETCH), -1);
    map(regime.root, va, pa + 4096, 0, RWXAD);
    mmu_fence(&cpu, &va, NULL);
    ck_assert_int_eq(check_access(va, 2, FETCH), -1);
    map(regime.root, va, DEV_BASE, 0, RWXAD);
    mmu_fence(&cpu, &va, NULL);
    ck_assert_int_eq(check_access(va, 2, FETCH), 1);
    finish();
}
END_TEST

/* ---- PMP ---- */

START_TEST(pmp_partial_pages)
{
    start(_i);
    regime.root = new_table();
    map(regime.root, 0x10000, RAM_BASE + 0x10000, 0, RWXAD);
    map(regime.root, 0x11000, RAM_BASE + 0x11000, 0, RWXAD);
    for (unsigned round = 0; round < 300; round++) {
        pmp.count = (unsigned)below(6);
        pmp.default_su = (u8)below(8);
        pmp.default_m = (u8)(below(2) ? 7 : below(8));
        for (unsigned i = 0; i < pmp.count; i++) {
            u64 first = RAM_BASE + 0x10000 + below(0x800) * 4, len = (u64)4 << below(12);
            static const u8 kinds[] = {0, PMP_R, PMP_X, PMP_R | PMP_W, PMP_R | PMP_X, 7, PMP_W};
            pmp.range[i] = (PmpRange){first, first + len - 1, kinds[below(7)], kinds[below(7)]};
            if (below(5) == 0) {
                pmp.range[i] = (PmpRange){1, 0, 0, 0};
            } else if (below(4) == 0) {
                pmp.range[i].first = 0;
                pmp.range[i].last = ~(u64)0;
            }
        }
        mmu_set_pmp(&cpu, &pmp);
        for (unsigned k = 0; k < 60; k++) {
            regime.fetch_priv = (u8)(below(3) ? PRIV_S : PRIV_M);
            regime.data_priv = below(4) ? regime.fetch_priv : PRIV_S;
            set_regime();
            u64 base = regime.data_priv == PRIV_M ? RAM_BASE : 0;
            u64 va = base + 0x10000 + below(0x2000 - 8);
            int access = 1 + (int)below(2);
            check_access(va, (unsigned)below(4), access);
            check_entries(va, 4);
            base = regime.fetch_priv == PRIV_M ? RAM_BASE : 0;
            va = base + 0x10000 + below(0x800) * 4;
            check_access(va, 2, FETCH);
            /* An execute entry only if the whole page may be fetched from. */
            u64 page = va & ~4095ull, bad = 0;
            for (unsigned at = 0; at < 4096; at += 4) {
                bad += expect(page + at, 4, FETCH).cause >= 0;
            }
            mmu_set_exec_entry(&cpu, va, RAM_BASE | (page & 0x1f000), &cpu);
            if (bad) {
                ck_assert(!entry(VIEW_EXEC_OFFSET, va));
            }
        }
    }
    /* `limited` says when every fetch has to ask. */
    MmuFetch f;
    regime.fetch_priv = regime.data_priv = PRIV_M;
    set_regime();
    memset(&pmp, 0, sizeof(pmp));
    pmp.default_m = 7;
    pmp.count = 1;
    pmp.range[0] = (PmpRange){RAM_BASE + 0x800, RAM_BASE + 0xfff, PMP_X, 0};
    mmu_set_pmp(&cpu, &pmp);
    ck_assert(mmu_fetch(&cpu, RAM_BASE + 0x7fc, 4, &f) && f.limited);
    ck_assert(!mmu_fetch(&cpu, RAM_BASE + 0x7fe, 4, &f) && cpu.trap_cause == 1);
    ck_assert(mmu_fetch(&cpu, RAM_BASE + 0x7fe, 2, &f) && f.limited);
    ck_assert(mmu_fetch(&cpu, RAM_BASE + 0x1000, 4, &f) && !f.limited);
    finish();
}
END_TEST

/* ---- Code pages ---- */

START_TEST(stores_to_code)
{
    start(_i);
    bus_set_dirty_callback(bus, on_dirty, &dirty_calls);
    regime.root = new_table();
    set_regime();
    u64 va = 0x10000, alias = 0x400000, pa = RAM_BASE + 0x8000;
    map(regime.root, va, pa, 0, RWXAD);
    map(regime.root, alias, pa, 0, RWXAD);
    map(regime.root, va + 4096, pa + 4096, 0, RWXAD);
    check_access(va, 3, STORE);
    check_access(alias, 3, STORE);
    check_access(va + 4096, 3, STORE);
    ck_assert(entry(VIEW_WRITE_OFFSET, va) && entry(VIEW_WRITE_OFFSET, alias));
    for (unsigned i = 0; i < 8; i++) {
        bus_set_code_page(bus, pa, true);
        mmu_drop_write_entries(&cpu, pa + 8);
        mmu_set_exec_entry(&cpu, alias, pa, &cpu);
        ck_assert(!entry(VIEW_WRITE_OFFSET, va) && !entry(VIEW_WRITE_OFFSET, alias) &&
                  entry(VIEW_READ_OFFSET, va) && entry(VIEW_WRITE_OFFSET, va + 4096));
        dirty_calls = 0;
        /* Loads do not bring the write entry back. */
        check_access(va, 3, LOAD);
        ck_assert(!entry(VIEW_WRITE_OFFSET, va) && dirty_calls == 0);
        dirty_unmarks = i != 7;
        void *host;
        switch (i) {
        case 0:
            check_access(va + 8, 2, STORE);
            break;
        case 1:
            check_access(alias + 4095, 0, STORE);
            break;
        case 2:
            check_access(va + 4092, 3, STORE);
            break;
        case 3:
            ck_assert(mmu_amo_host(&cpu, va, 3, &host) && host == host_of(pa));
            break;
        case 4:
            ck_assert(mmu_cbo(&cpu, va + 100, 64, true));
            break;
        case 5:
            ck_assert(mmu_lr_host(&cpu, va, 3, &host) && dirty_calls == 0);
            ck_assert(mmu_amo_host(&cpu, va, 2, &host));
            break;
        case 6:
            check_access(va + 8, 2, STORE);
            break;
        default:
            check_access(va + 8, 2, STORE);
            break;
        }
        ck_assert_uint_eq(dirty_calls, 1);
        ck_assert_uint_eq(dirty_page, pa);
        ck_assert(!entry(VIEW_EXEC_OFFSET, alias));
        bool is_alias = i == 1;
        ck_assert((entry(VIEW_WRITE_OFFSET, is_alias ? alias : va) != 0) == dirty_unmarks);
        check_access(is_alias ? alias : va, 3, STORE);
        ck_assert_uint_eq(dirty_calls, dirty_unmarks ? 1 : 2);
    }
    dirty_unmarks = true;
    finish();
}
END_TEST

/* Whatever else a block without helper calls can do, memory whose addend was checked stays where
 * it is, and what is written there is what the guest reads. */
START_TEST(addends_stay)
{
    start(_i);
    bus_set_dirty_callback(bus, on_dirty, &dirty_calls);
    regime.root = new_table();
    set_regime();
    u64 va = 0x10000, pa = RAM_BASE + 0x8000, device = 0x20000, value;
    map(regime.root, va, pa, 0, RWXAD);
    map(regime.root, va + 4096, pa + 4096, 0, RWXAD);
    map(regime.root, device, DEV_BASE, 0, RWXAD);
    check_access(va, 3, STORE);
    u8 *host = (u8 *)(uintptr_t)(va + entry(VIEW_WRITE_OFFSET, va));
    for (u64 i = 0; i < 7; i++) {
        switch (i) {
        case 0:
            bus_set_code_page(bus, pa, true);
            mmu_drop_write_entries(&cpu, pa);
            break;
        case 1:
            check_access(va + 8, 3, STORE);
            break;
        case 2:
            ck_assert(mmu_load(&cpu, device, 2, &value) && mmu_store(&cpu, device, 2, 1));
            break;
        case 3:
            check_access(va + 4092, 3, STORE);
            break;
        case 4: /* the page table points elsewhere, without a fence */
            map(regime.root, va, pa + 8192, 0, RWXAD);
            check_access(va + 4096, 3, LOAD);
            map(regime.root, va, pa, 0, RWXAD);
            break;
        case 5:
            mmu_fence(&cpu, &va, NULL);
            break;
        default:
            mmu_flush_all(&cpu);
            break;
        }
        value = i << 32 | i;
        memcpy(host + 16, &value, 8);
        ck_assert(mmu_load(&cpu, va + 16, 3, &value));
        ck_assert_uint_eq(value, i << 32 | i);
    }
    finish();
}
END_TEST

/* mmu_prepare: an entry afterwards, none to be had, or the trap that the access would take. */
START_TEST(prepare_entries)
{
    start(_i);
    regime.root = new_table();
    set_regime();
    u64 va = 0x10000, read_only = 0x11000, device = 0x20000, nothing = 0x30000;
    map(regime.root, va, RAM_BASE + 0x8000, 0, RWXAD);
    map(regime.root, read_only, RAM_BASE + 0x9000, 0, V | R | A);
    map(regime.root, device, DEV_BASE, 0, RWXAD);
    bool ready;
    ck_assert(mmu_prepare(&cpu, va + 4, 2, true, &ready) && ready);
    ck_assert_uint_ne(entry(VIEW_WRITE_OFFSET, va), 0);
    ck_assert(mmu_prepare(&cpu, read_only, 3, false, &ready) && ready);
    ck_assert_uint_ne(entry(VIEW_READ_OFFSET, read_only), 0);
    ck_assert(mmu_prepare(&cpu, device, 2, false, &ready) && !ready);
    ck_assert(mmu_prepare(&cpu, va + 4094, 2, false, &ready) && !ready);
    ck_assert(!mmu_prepare(&cpu, read_only + 8, 3, true, &ready));
    ck_assert_uint_eq(cpu.trap_cause, 15);
    ck_assert_uint_eq(cpu.trap_value, read_only + 8);
    ck_assert(!mmu_prepare(&cpu, nothing, 0, false, &ready));
    ck_assert_uint_eq(cpu.trap_cause, 13);
    cpu.status = CPU_OK;
    finish();
}
END_TEST

/* ---- Crossing, atomics, cache blocks ---- */

START_TEST(page_crossing)
{
    start(_i);
    regime.root = new_table();
    set_regime();
    u64 va = 0x20000;
    static const u64 flags[] = {0, V | R | A, RWXAD, V | R | W | A, RWXAD | U};
    static const u64 pas[] = {RAM_BASE + 0x7000, RAM_BASE + 0x3000, ROM_BASE, DEV_BASE, 0x70000000};
    for (unsigned a = 0; a < 25; a++) {
        for (unsigned b = 0; b < 25; b++) {
            map(regime.root, va, pas[a / 5], 0, flags[a % 5]);
            map(regime.root, va + 4096, pas[b / 5] + (pas[b / 5] == ROM_BASE ? 0x1000 : 0), 0,
                flags[b % 5]);
            mmu_fence(&cpu, NULL, NULL);
            for (unsigned log2 = 1; log2 < 4; log2++) {
                unsigned dist = 1 + (unsigned)below((1u << log2) - 1);
                check_access(va + 4096 - dist, log2, LOAD);
                check_access(va + 4096 - dist, log2, STORE);
            }
        }
    }
    /* PMP judges each part by itself, so an entry that ends with the page does not cut the access.
     */
    map(regime.root, va, RAM_BASE + 0x7000, 0, RWXAD);
    map(regime.root, va + 4096, RAM_BASE + 0x9000, 0, RWXAD);
    mmu_fence(&cpu, NULL, NULL);
    pmp.count = 2;
    pmp.range[0] = (PmpRange){RAM_BASE + 0x7000, RAM_BASE + 0x7fff, 7, 7};
    pmp.range[1] = (PmpRange){RAM_BASE + 0x9000, RAM_BASE + 0x9003, 7, 7};
    mmu_set_pmp(&cpu, &pmp);
    ck_assert_int_eq(check_access(va + 4092, 3, STORE), -1);
    ck_assert_int_eq(check_access(va + 4092, 3, LOAD), -1);
    ck_assert_int_eq(check_access(va + 4093, 3, LOAD), 5);
    ck_assert_int_eq(check_access(va + 4093, 3, STORE), 7);
    finish();
}
END_TEST

START_TEST(atomics)
{
    start(_i);
    regime.root = new_table();
    set_regime();
    void *host;
    u64 rw = 0x1000, ro = 0x2000, dev = 0x3000, romva = 0x4000, clean = 0x5000, none = 0x6000;
    map(regime.root, rw, RAM_BASE, 0, RWXAD);
    map(regime.root, ro, RAM_BASE + 0x1000, 0, V | R | A);
    map(regime.root, dev, DEV_BASE, 0, RWXAD);
    map(regime.root, romva, ROM_BASE, 0, RWXAD);
    map(regime.root, clean, RAM_BASE + 0x2000, 0, V | R | W | A);
    for (unsigned log2 = 0; log2 <= 4; log2++) {
        u64 off = (u64)1 << log2;
        ck_assert(mmu_amo_host(&cpu, rw + off, log2, &host) && host == host_of(RAM_BASE + off));
        ck_assert(mmu_lr_host(&cpu, rw + off, log2, &host) && host == host_of(RAM_BASE + off));
        ck_assert(mmu_lr_host(&cpu, ro + off, log2, &host) &&
                  host == host_of(RAM_BASE + 0x1000 + off));
        ck_assert(mmu_lr_host(&cpu, romva, log2, &host) && host == rom->host);
        struct {
            u64 va;
            u64 amo, lr;
        } bad[] = {{ro, 15, 0}, {dev, 7, 5}, {romva, 7, 0}, {clean, 15, 0}, {none, 15, 13}};
        for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
            ck_assert(!mmu_amo_host(&cpu, bad[i].va, log2, &host));
            ck_assert(cpu.trap_cause == bad[i].amo && cpu.trap_value == bad[i].va);
            ck_assert(mmu_lr_host(&cpu, bad[i].va, log2, &host) == !bad[i].lr);
            ck_assert(!bad[i].lr || (cpu.trap_cause == bad[i].lr && cpu.trap_value == bad[i].va));
        }
        if (log2) {
            ck_assert(!mmu_amo_host(&cpu, rw + off / 2, log2, &host) && cpu.trap_cause == 6);
            ck_assert(!mmu_lr_host(&cpu, rw + off / 2, log2, &host) && cpu.trap_cause == 4);
            ck_assert_uint_eq(cpu.trap_value, rw + off / 2);
        }
    }
    /* Cache blocks. */
    memset(host_of(RAM_BASE + 0x40), 0xee, 0xc0);
    ck_assert(mmu_cbo(&cpu, rw + 0x9f, 64, true));
    ck_assert(*host_of(RAM_BASE + 0x7f) == 0xee && *host_of(RAM_BASE + 0x80) == 0 &&
              *host_of(RAM_BASE + 0xbf) == 0 && *host_of(RAM_BASE + 0xc0) == 0xee);
    ck_assert(mmu_cbo(&cpu, rw + 0x41, 64, false) && *host_of(RAM_BASE + 0x41) == 0xee);
    ck_assert(mmu_cbo(&cpu, ro, 64, false) && mmu_cbo(&cpu, clean, 64, false));
    ck_assert(!mmu_cbo(&cpu, ro + 5, 64, true) && cpu.trap_cause == 15 && cpu.trap_value == ro + 5);
    ck_assert(!mmu_cbo(&cpu, none + 5, 64, false) && cpu.trap_cause == 15);
    ck_assert(!mmu_cbo(&cpu, romva + 5, 64, true) && cpu.trap_cause == 7);
    ck_assert(!mmu_cbo(&cpu, dev + 5, 64, true) && cpu.trap_cause == 7);
    finish();
}
END_TEST

START_TEST(debugger)
{
    start(_i);
    regime.root = new_table();
    regime.fetch_priv = regime.data_priv = PRIV_U;
    set_regime();
    map(regime.root, 0x1000, RAM_BASE + 0x5000, 0, V | X);
    map(regime.root, 0x2000, RAM_BASE + 0x9000, 0, V | R);
    map(regime.root, 0x3000, DEV_BASE, 0, RWXAD | U);
    u64 at = pte_at(regime.root, 0x1000, 0), before = get_pte(at), v[2], pa;
    dev_reads = 0;
    ck_assert(mmu_debug_read(&cpu, 0x1ff8, v, 16));
    ck_assert(v[0] == RAM_BASE + 0x5ff8 && v[1] == RAM_BASE + 0x9000);
    ck_assert(mmu_debug_translate(&cpu, 0x3010, &pa) && pa == DEV_BASE + 0x10);
    ck_assert(!mmu_debug_read(&cpu, 0x3000, v, 8) && !mmu_debug_read(&cpu, 0x2ff8, v, 16));
    ck_assert(!mmu_debug_translate(&cpu, 0x4000, &pa) &&
              !mmu_debug_translate(&cpu, 1ull << 40, &pa));
    ck_assert(get_pte(at) == before && dev_reads == 0 && cpu.status == CPU_OK);
    ck_assert(!entry(VIEW_READ_OFFSET, 0x1000));
    finish();
}
END_TEST

/* ---- The host's side ---- */

/* Whether a byte of our own memory can be read. */
static bool is_mapped(u64 host)
{
    u8 byte;
    struct iovec to = {&byte, 1}, from = {(void *)(uintptr_t)host, 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

START_TEST(aliases_fault)
{
    start(_i);
    GError *err = NULL;
    Region *big = bus_add_memory(bus, "big", REGION_RAM, (u64)1 << 36, (u64)12 << 30, &err);
    ck_assert_msg(big != NULL, "%s", err ? err->message : "");
    ck_assert(view_needs_canonical_test() == (_i == 1 || LAYOUT_UNDER_SANITIZER));
    Region *all[] = {ram, high, rom, big};
    for (unsigned i = 0; i < ARRAY_LEN(all); i++) {
        u64 first = (u64)(uintptr_t)all[i]->host, end = first + all[i]->size;
        ck_assert(is_mapped(first) && is_mapped(end - 1));
        ck_assert(!is_mapped(first - 1) && !is_mapped(end));
        if (view_needs_canonical_test()) {
            ck_assert(!mmu_is_alias_address(all[i]->host));
            continue;
        }
        for (u64 k = 0; k < 256; k++) { /* nothing can get in there later, either */
            void *want =
                (void *)(uintptr_t)(((first + below(all[i]->size)) & ~4095ull & mask64(39)) |
                                    k << 39);
            void *got = mmap(want, 4096, PROT_NONE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
            ck_assert(got == MAP_FAILED && errno == EEXIST);
        }
        for (unsigned n = 0; n < 4000; n++) {
            u64 host = first + below(all[i]->size);
            u64 k = n < 256 ? n : rnd() >> 39; /* every window of the lower half, and any at all */
            u64 alias = host + (k << 39);
            ck_assert(is_mapped(alias) == (alias == host));
            if (alias >> 47 == 0) {
                ck_assert(mmu_is_alias_address((void *)(uintptr_t)alias));
            }
            /* What straddles either end. */
            ck_assert(alias == host ||
                      (!is_mapped(first - 8 + (k << 39)) && !is_mapped(end + 7 + (k << 39))));
        }
    }
    ck_assert(!mmu_is_alias_address(&cpu) && !mmu_is_alias_address(cpu.view));
    finish();
    /* Memory that was given back is as inaccessible as before, and can be had again. */
    start(_i);
    ck_assert(is_mapped((u64)(uintptr_t)ram->host) && ram->host[RAM_SIZE - 1] == 0);
    finish();
}
END_TEST

/* Memory in any order of making and freeing keeps its guards and comes zeroed. */
START_TEST(memory_blocks)
{
    mmu_layout_init(_i);
    enum { BLOCKS = 12 };
    u8 *host[BLOCKS] = {0};
    u64 size[BLOCKS];
    for (unsigned n = 0; n < 1000; n++) {
        unsigned i = (unsigned)below(BLOCKS);
        if (host[i]) {
            guest_memory_free(host[i], size[i]);
            host[i] = NULL;
            continue;
        }
        size[i] = below(8) ? (1 + below(4)) * 4096 : (1 + below(4)) << 21;
        host[i] = guest_memory_alloc(size[i], NULL);
        ck_assert(host[i] && host[i][0] == 0 && host[i][size[i] - 1] == 0);
        memset(host[i], 0xff, size[i]);
        u64 at = (u64)(uintptr_t)host[i];
        ck_assert(!is_mapped(at - 1) && !is_mapped(at + size[i]));
        ck_assert(view_needs_canonical_test() != mmu_is_alias_address(host[i]));
    }
}
END_TEST

/* A range of residues that is taken anywhere is not used. */
START_TEST(occupied_windows)
{
    u64 taken[2] = {((u64)100 << 39) + ((u64)20 << 30), ((u64)200 << 39) + ((u64)150 << 30)};
    for (unsigned i = 0; i < 2; i++) {
        void *p = mmap((void *)(uintptr_t)taken[i], 4096, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == MAP_FAILED) {
            ck_assert(LAYOUT_UNDER_SANITIZER);
            return;
        }
    }
    start(0);
    ck_assert(view_needs_canonical_test() == LAYOUT_UNDER_SANITIZER);
    for (unsigned i = 0; i < 2; i++) {
        *(u64 *)(uintptr_t)taken[i] = 1; /* still there, still ours */
        ck_assert(!mmu_is_alias_address((void *)(uintptr_t)taken[i]));
    }
    finish();
}
END_TEST

START_TEST(address_space_limit)
{
    if (LAYOUT_UNDER_SANITIZER) {
        return; /* which needs more than the limit for itself */
    }
    struct rlimit limit = {(u64)4 << 30, (u64)4 << 30};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    mmu_layout_init(false);
    ck_assert(view_needs_canonical_test());
    GError *err = NULL;
    bus = bus_new();
    ck_assert(!bus_add_memory(bus, "ram", REGION_RAM, RAM_BASE, (u64)8 << 30, &err));
    ck_assert(err && strchr(err->message, '8') && !strchr(err->message, '\n'));
    g_clear_error(&err);
    ck_assert(bus_add_memory(bus, "ram", REGION_RAM, RAM_BASE, 1 << 20, &err));
    ck_assert(!mmu_new(&cpu, bus, &err) && !cpu.mmu);
    ck_assert(err && strstr(err->message, "address space") && !strchr(err->message, '\n'));
    g_clear_error(&err);
    bus_free(bus);
}
END_TEST

static u64 resident_bytes(void)
{
    unsigned long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    ck_assert(f && fscanf(f, "%lu %lu", &size, &resident) == 2);
    fclose(f);
    return (u64)resident * 4096;
}

/* Three page tables that map all of Sv39's 2^27 pages: a guest that scatters its accesses over
 * them, in many address spaces, makes every entry need its own host pages. */
START_TEST(scattered_accesses)
{
    start(_i);
    u64 t0 = new_table(), t1 = new_table(), root = new_table();
    for (unsigned i = 0; i < 512; i++) {
        put_pte(t0 + i * 8, (RAM_BASE + i * 4096ull) >> 12 << 10 | RWXAD | U);
        put_pte(t1 + i * 8, t0 >> 12 << 10 | V);
        put_pte(root + i * 8, t1 >> 12 << 10 | V);
    }
    u64 before = resident_bytes();
    for (unsigned n = 0; n < 120000; n++) {
        regime.root = root;
        regime.asid = (u16)(n / 1000);
        regime.fetch_priv = regime.data_priv = n % 3 ? PRIV_U : PRIV_S;
        regime.sum = true;
        set_regime();
        u64 va = (u64)sext(rnd() & mask64(39), 39) & ~7ull, v;
        must(mmu_load(&cpu, va, 3, &v) && v == (RAM_BASE | (va & 0x1fffff)), "load %lx", va);
        if (n % 2 && regime.fetch_priv == PRIV_U) {
            mmu_set_exec_entry(&cpu, va, RAM_BASE | (va & 0x1ff000), &cpu);
        }
        if (n % 5000 == 0) {
            ck_assert(resident_bytes() < before + ((u64)400 << 20));
        }
    }
    /* Dense: more pages than there are nodes. */
    regime.fetch_priv = regime.data_priv = PRIV_U;
    set_regime();
    for (u64 va = 0; va < (u64)6 << 30; va += 4096) {
        u64 v;
        must(mmu_load(&cpu, va, 3, &v) && v == (RAM_BASE | (va & 0x1fffff)), "load %lx", va);
    }
    ck_assert(resident_bytes() < before + ((u64)400 << 20));
    finish();
}
END_TEST

/* Garbage for page tables, anywhere for a root, any address: the oracle knows what happens, and
 * sanitizers that nothing else does. */
START_TEST(hostile_tables)
{
    start(_i);
    for (unsigned i = 0; i < 64; i++) {
        u64 t = new_table();
        for (unsigned k = 0; k < 512; k++) {
            u64 pte = rnd();
            if (below(4)) { /* plausible: to a table or to data nearby, without reserved bits */
                u64 pa =
                    below(2) ? TABLES + below(64) * 4096 : RAM_BASE + below(RAM_SIZE / 4096) * 4096;
                pte = pa >> 12 << 10 | (pte & (below(2) ? 0x3f1 : 0x3ff)) | V;
            }
            put_pte(t + k * 8, pte);
        }
    }
    for (unsigned n = 0; n < 100000; n++) {
        if (n % 50 == 0) {
            regime.mode = below(5) ? (below(3) ? PAGING_SV39 : PAGING_SV32) : PAGING_BARE;
            regime.rv32 = regime.mode == PAGING_SV32;
            regime.root = below(10) ? TABLES + below(64) * 4096 : rnd() >> 8 & ~4095ull;
            regime.fetch_priv = regime.data_priv = below(2);
            regime.sum = below(2);
            regime.mxr = below(2);
            regime.adue = false;
            regime.pbmte = below(2);
            regime.napot = below(2);
            set_regime();
            mmu_fence(&cpu, NULL, NULL);
        }
        u64 va = rnd();
        if (below(8)) {
            va = regime.rv32 ? va & 0xffffffff : (u64)sext(va & mask64(39), 39);
        }
        if (regime.mode == PAGING_BARE && below(2)) {
            va = RAM_BASE + below(RAM_SIZE / 4);
        }
        int access = below(3);
        if (access == STORE) {
            u64 pa; /* not to the tables, which the oracle reads after the access */
            if (mmu_debug_translate(&cpu, va, &pa) && pa + 8 > TABLES && pa < RAM_BASE + RAM_SIZE) {
                access = LOAD;
            }
        }
        if (access == FETCH) {
            va &= ~3ull;
        }
        unsigned log2 = access == FETCH ? 2 : (unsigned)below(4);
        if (access == STORE) {
            va &= ~7ull;
        }
        check_access(va, log2, access);
    }
    finish();
}
END_TEST

/* ---- Everything at once ---- */

enum { MODEL_SPACES = 11, MODEL_PAGES = 8 };
static const u64 model_va[] = {
    0x0000000000010000, 0x00000000001ff000, 0x0000000000200000, 0x0000000040000000,
    0x0000003fffffd000, 0xffffffc000000000, 0xffffffc0001ff000, 0xffffffffffffd000,
};

static u64 model_root[MODEL_SPACES];

static void random_leaf(u64 va, bool global)
{
    unsigned s = (unsigned)below(MODEL_SPACES);
    unsigned level = (unsigned)below(8) == 0 ? 2 : (unsigned)below(4) == 0 ? 1 : 0;
    u64 root = model_root[s];
    u16 asid = (u16)s;
    if (global && level == 2) {
        level = 1; /* the tables below the root are shared; the roots are not */
    }
    u64 pa = level == 2   ? RAM_BASE
             : level == 1 ? RAM_BASE + below(8) * 0x200000
                          : (u64[]){RAM_BASE + below(64) * 4096, HIGH_BASE + below(4) * 4096,
                                    ROM_BASE + 0x1000,
                                    DEV_BASE + below(2) * 4096}[below(8) < 6 ? 0 : below(4)];
    u64 flags = (rnd() & 0xde) | V | (below(3) ? A | D | R : 0);
    if (!(flags & R)) {
        flags &= ~(u64)W;
    }
    if (below(12) == 0) {
        flags &= ~(u64)V;
    }
    if (!(flags & (R | X))) {
        flags |= R;
    }
    if (global) {
        flags |= G;
    }
    if (below(12) == 0) {
        flags |= 1ull << 61; /* Svpbmt: non-cacheable */
    }
    bool napot = level == 0 && below(6) == 0 && pa < RAM_BASE + RAM_SIZE && pa >= RAM_BASE;
    if (napot) {
        pa = (pa & ~0xffffull) | 0x8000;
        flags |= 1ull << 63;
    }
    bool structure = false;
    /* Does the PTE at this level, or one above it, change its kind? */
    for (unsigned l = 2; l > level; l--) {
        u64 pte = get_pte(pte_at(root, va, l));
        structure |= !(pte & V) || (pte & (R | X));
        if (structure) {
            break;
        }
    }
    u64 at = pte_at(root, va, level);
    if (level > 0) {
        u64 old = get_pte(at);
        structure |= (old & V) && !(old & (R | X));
    }
    if (napot) {
        /* Sixteen leaves at once. */
        for (unsigned i = 0; i < 16; i++) {
            put_pte(pte_at(root, (va & ~0xffffull) + i * 4096, 0), pa >> 12 << 10 | flags);
        }
        structure = true;
    } else {
        put_pte(at, pa >> 12 << 10 | flags);
    }
    u64 where = va;
    if (level > 0) {
        where = (va & ~(level == 2 ? 0x3fffffffull : 0x1fffffull)) +
                below(1u << (level == 2 ? 30 : 21));
    }
    /* The smallest fence that the spec asks for, or now and then a larger one. */
    bool all_spaces = global || below(8) == 0, all_addresses = structure || below(8) == 0;
    mmu_fence(&cpu, all_addresses ? NULL : &where, all_spaces ? NULL : &asid);
}

static void model_reset(void)
{
    next_table = TABLES;
    u64 shared[2];
    for (unsigned i = 0; i < 2; i++) {
        shared[i] = new_table();
    }
    for (unsigned i = 0; i < MODEL_SPACES; i++) {
        model_root[i] = new_table();
        put_pte(pte_at(model_root[i], 0xffffffc000000000, 2), shared[0] >> 12 << 10 | V);
        put_pte(pte_at(model_root[i], 0xffffffffffffd000, 2), shared[1] >> 12 << 10 | V);
    }
    mmu_fence(&cpu, NULL, NULL);
}

START_TEST(random_model)
{
    start(_i);
    bus_set_dirty_callback(bus, on_dirty, &dirty_calls);
    unsigned causes[16] = {0}, fine = 0;
    model_reset();
    for (unsigned n = 0; n < 400000; n++) {
        if (next_table > RAM_BASE + RAM_SIZE - 0x100000) {
            model_reset();
        }
        switch (below(16)) {
        case 0:
        case 1: {
            u64 va = model_va[below(MODEL_PAGES)] + below(3) * 4096;
            random_leaf(va, va >> 63);
            break;
        }
        case 2:
        case 3:
        case 4: {
            unsigned s = (unsigned)below(MODEL_SPACES);
            regime.root = model_root[s];
            regime.asid = (u16)s;
            regime.mode = below(20) ? PAGING_SV39 : PAGING_BARE;
            regime.fetch_priv = (u8[]){PRIV_U, PRIV_S, PRIV_U, PRIV_M}[below(4)];
            regime.data_priv =
                regime.fetch_priv == PRIV_M && below(2) ? (u8)below(2) : regime.fetch_priv;
            regime.sum = below(2);
            regime.mxr = below(8) == 0;
            if (below(200) == 0) {
                regime.adue = !regime.adue;
            }
            if (below(300) == 0) {
                regime.napot = !regime.napot;
            }
            if (below(300) == 0) {
                regime.pbmte = !regime.pbmte;
            }
            set_regime();
            break;
        }
        case 5:
            if (below(40) == 0) {
                pmp.count = (unsigned)below(4);
                for (unsigned i = 0; i < pmp.count; i++) {
                    u64 first = RAM_BASE + below(0x10000) * 4;
                    static const u8 kinds[] = {0, PMP_R, PMP_X, PMP_R | PMP_W, PMP_R | PMP_X, 7, PMP_W};
                    pmp.range[i] =
                        (PmpRange){first, first + (4u << below(14)) - 1, 7, kinds[below(7)]};
                }
                mmu_set_pmp(&cpu, &pmp);
            }
            break;
        case 6: {
            u64 pa = RAM_BASE + below(64) * 4096;
            bus_set_code_page(bus, pa, true);
            mmu_drop_write_entries(&cpu, pa);
            break;
        }
        default: {
            bool physical = regime.mode == PAGING_BARE || regime.data_priv == PRIV_M;
            u64 va = physical ? RAM_BASE + below(8) * 4096
                              : model_va[below(MODEL_PAGES)] + below(3) * 4096;
            va += below(6) ? below(4088) : 4096 - below(8);
            int access = (int)below(3);
            if (access == FETCH) {
                physical = regime.mode == PAGING_BARE || regime.fetch_priv == PRIV_M;
                va = physical ? RAM_BASE + below(64) * 4096 : va & ~1ull;
            }
            if (access == STORE) {
                /* A store to a page with code is reported exactly once. */
                Expect e = expect(va, 1, STORE);
                bool code = e.cause < 0 && bus_is_code_page(bus, e.pa) && (va & 4095) <= 4088;
                dirty_calls = 0;
                int cause = check_access(va, (va & 4095) <= 4088 ? 0 : 3, STORE);
                must(!code || (cause < 0 && dirty_calls == 1), "store to code at %lx", va);
                causes[cause < 0 ? 0 : cause]++;
                fine += cause < 0;
                break;
            }
            int cause = check_access(va, access == FETCH ? 1 : (unsigned)below(4), access);
            if (cause < 0 && access == FETCH) {
                mmu_set_exec_entry(&cpu, va, expect(va, 2, FETCH).pa & ~4095ull, &cpu);
            }
            causes[cause < 0 ? 0 : cause]++;
            fine += cause < 0;
            check_entries(va, 64);
        }
        }
        /* An execute entry anywhere in the current view has to be one that the oracle would grant.
         */
        u64 va = model_va[below(MODEL_PAGES)] + below(3) * 4096;
        u64 x = entry(VIEW_EXEC_OFFSET, va);
        if (x &&
            (regime.mode == PAGING_BARE || regime.fetch_priv == PRIV_M || view_canonical(va))) {
            if (regime.mode == PAGING_SV39 && regime.fetch_priv != PRIV_M) {
                must(x + 2 * va == (u64)(uintptr_t)&cpu && expect(va, 4, FETCH).cause < 0,
                     "execute entry of %lx", va);
            }
        }
    }
    /* The walk went to all the places it is for. */
    ck_assert_uint_gt(fine, 50000);
    static const u8 seen[] = {1, 5, 7, 12, 13, 15};
    for (unsigned i = 0; i < ARRAY_LEN(seen); i++) {
        ck_assert_uint_gt(causes[seen[i]], 100);
    }
    finish();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("softmmu");
    TCase *t = tcase_create("softmmu");
    const TTest *const both[] = {
        bus_regions_and_bounds, bus_mmio_splits,   bus_dma_and_code_pages,
        walk_sv39_permissions,  walk_sv32,         walk_table_memory,
        canonical_addresses,    fence_by_address,  fence_sv32_superpage,
        address_spaces,         sum_mxr_mprv,      feature_toggles,
        execute_entries,        pmp_partial_pages, stores_to_code,
        addends_stay,           prepare_entries,   page_crossing,     atomics,
        debugger,               aliases_fault,     memory_blocks,
        scattered_accesses,     hostile_tables,    random_model,
    };
    for (unsigned i = 0; i < ARRAY_LEN(both); i++) {
        tcase_add_loop_test(t, both[i], 0, 2);
    }
    tcase_add_test(t, occupied_windows);
    tcase_add_test(t, address_space_limit);
    tcase_set_timeout(t, 120);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
