/*
 * The PCI host bridge and the functions behind it, as a driver sees them over the physical bus:
 * configuration space, base address registers that are sized, moved and misused, interrupts, and
 * what is particular to virtio on PCI (test_virtio.c has what all transports share).
 */
#include <check.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bits.h"
#include "devices/pci/host.h"
#include "devices/plic.h"
#include "devices/virtio/devices.h"
#include "tests/device/virtio_driver.h"

#define ECAM 0x30000000ull
#define WINDOW 0x40000000ull
#define HIGH 0x400000000ull
#define PIO 0x03000000ull

/* ---- A function with one BAR of each kind ---------------------------------------------------- */

enum { SAMPLE_WORDS = 16 };

typedef struct Sample {
    PciDevice pci;
    u32 words[3][SAMPLE_WORDS]; /* what each BAR reaches, again and again */
    unsigned masters;           /* calls of command_changed with bus mastering on */
    unsigned accesses;
} Sample;

static bool sample_access(void *opaque, unsigned bar, u64 offset, unsigned size, u64 *value,
                          bool is_write)
{
    Sample *s = opaque;
    u8 *at = (u8 *)s->words[bar] + offset % sizeof(s->words[bar]);
    s->accesses++;
    if (is_write) {
        memcpy(at, value, size);
    } else {
        *value = 0;
        memcpy(value, at, size);
    }
    return true;
}

#define SAMPLE_OPS(n)                                                                              \
    static bool read_##n(void *opaque, u64 offset, unsigned size, u64 *value)                      \
    {                                                                                              \
        return sample_access(opaque, n, offset, size, value, false);                               \
    }                                                                                              \
    static bool write_##n(void *opaque, u64 offset, unsigned size, u64 value)                      \
    {                                                                                              \
        return sample_access(opaque, n, offset, size, &value, true);                               \
    }
SAMPLE_OPS(0)
SAMPLE_OPS(1)
SAMPLE_OPS(2)

static const MmioOps sample_ops[] = {
    {read_0, write_0, 0, 0}, {read_1, write_1, 0, 0}, {read_2, write_2, 4, 4}};

static void sample_command(PciDevice *d)
{
    ((Sample *)d)->masters += pci_is_master(d);
}

static bool sample_init(Device *d, const void *config, GError **err G_GNUC_UNUSED)
{
    PciDevice *p = (PciDevice *)d;
    pci_device_init(p, &(const PciInfo){.vendor = 0x1234,
                                        .device = 0x5678,
                                        .subsystem_vendor = 0x9abc,
                                        .subsystem = 0xdef0,
                                        .class_code = 0xff1122,
                                        .revision = 3,
                                        .pin = config ? *(const u8 *)config : 1,
                                        .capabilities = 0x40,
                                        .bars = {{PCI_BAR_MEM32, false, 0x1000, &sample_ops[0]},
                                                 {PCI_BAR_IO, false, 0x20, &sample_ops[1]},
                                                 {PCI_BAR_MEM64, true, 0x4000, &sample_ops[2]}}});
    p->command_changed = sample_command;
    return true;
}

static void sample_update(Device *d)
{
    pci_device_update((PciDevice *)d);
}

static void sample_finalize(Device *d)
{
    pci_device_finalize((PciDevice *)d);
}

static const RegDesc sample_regs[] = {PCI_HEADER_REGS};
static const DeviceClass sample_class = {
    .name = "sample",
    .instance_size = sizeof(Sample),
    .region_size = PCI_CONFIG_SIZE,
    .min_access = 1,
    .max_access = 4,
    .regs = sample_regs,
    .reg_count = ARRAY_LEN(sample_regs),
    .init = sample_init,
    .update = sample_update,
    .finalize = sample_finalize,
};

/* ---- A machine around it --------------------------------------------------------------------- */

typedef struct Rig {
    Bus *bus;
    Device *plic, *host;
    Sample *samples[PCI_SLOTS];
} Rig;

static void rig_open(Rig *r)
{
    *r = (Rig){.bus = bus_new(), .plic = device_new(&plic_class, "plic", NULL, NULL)};
    ck_assert_ptr_nonnull(bus_add_memory(r->bus, "ram", REGION_RAM, 0x80000000, 1 << 20, NULL));
    ck_assert(device_attach(r->plic, r->bus, 0x0c000000, NULL));
    r->host = device_new(&pci_host_class, "pci", NULL, NULL);
    ck_assert(device_attach(r->host, r->bus, ECAM, NULL));
    for (unsigned i = 0; i < PCI_PINS; i++) {
        device_connect(r->host, i, plic_source(r->plic, 32 + i));
    }
}

static Sample *rig_add(Rig *r, int slot, u8 pin)
{
    Device *d = device_new(&sample_class, "sample", &pin, NULL);
    ck_assert(pci_bus_add(pci_host_bus(r->host), (PciDevice *)d, slot, NULL));
    Sample *s = (Sample *)d;
    r->samples[s->pci.slot] = s;
    return s;
}

static void rig_close(Rig *r)
{
    for (unsigned i = 0; i < PCI_SLOTS; i++) {
        device_free(r->samples[i] ? &r->samples[i]->pci.dev : NULL);
    }
    device_free(r->host);
    device_free(r->plic);
    bus_free(r->bus);
}

static u64 get(Rig *r, u64 address, unsigned size)
{
    u64 value = 0x5555555555555555;
    ck_assert(bus_read(r->bus, address, size, &value));
    return value;
}

static void put(Rig *r, u64 address, unsigned size, u64 value)
{
    ck_assert(bus_write(r->bus, address, size, value));
}

static u64 config(unsigned slot, unsigned offset)
{
    return ECAM + ((u64)slot << 15) + offset;
}

enum { BAR0 = 0x10, BAR1 = 0x14, BAR2 = 0x18, BAR3 = 0x1c, COMMAND = 4 };
static const u32 ALL = PCI_COMMAND_IO | PCI_COMMAND_MEMORY;

/* ---- Configuration space --------------------------------------------------------------------- */

START_TEST(header)
{
    Rig r;
    rig_open(&r);
    rig_add(&r, -1, 1);
    ck_assert_uint_eq(get(&r, config(0, 0), 4), 0x00081b36);
    ck_assert_uint_eq(get(&r, config(0, 8), 4), 0x06000000);
    ck_assert_uint_eq(get(&r, config(0, 0x2c), 4), 0x11001af4);
    ck_assert_uint_eq(get(&r, config(0, 0x3c), 4), 0);
    ck_assert_uint_eq(get(&r, config(0, 6), 2), 0); /* no capabilities */

    ck_assert_uint_eq(get(&r, config(1, 0), 2), 0x1234);
    ck_assert_uint_eq(get(&r, config(1, 2), 2), 0x5678);
    ck_assert_uint_eq(get(&r, config(1, 8), 1), 3);
    ck_assert_uint_eq(get(&r, config(1, 9), 1), 0x22);
    ck_assert_uint_eq(get(&r, config(1, 10), 2), 0xff11);
    ck_assert_uint_eq(get(&r, config(1, 0x0e), 1), 0); /* type 0, one function */
    ck_assert_uint_eq(get(&r, config(1, 0x2c), 4), 0xdef09abc);
    ck_assert_uint_eq(get(&r, config(1, 0x34), 1), 0x40);
    ck_assert_uint_eq(get(&r, config(1, 0x3d), 1), 1);
    ck_assert_uint_eq(get(&r, config(1, 6), 2), 0x10);
    /* Wide and misaligned accesses are pieces of the same. */
    ck_assert_uint_eq(get(&r, config(1, 0), 8), 0x0010000056781234);
    ck_assert_uint_eq(get(&r, config(1, 1), 2), 0x7812);
    /* What nobody may write stays. */
    for (unsigned offset = 0; offset < PCI_CONFIG_SIZE; offset += 4) {
        put(&r, config(1, offset), 4, ~(u64)0);
    }
    ck_assert_uint_eq(get(&r, config(1, 0), 4), 0x56781234);
    ck_assert_uint_eq(get(&r, config(1, 4), 4), 0x00100000 | PCI_COMMAND_MASK);
    ck_assert_uint_eq(get(&r, config(1, 0x0c), 4), 0xff);
    ck_assert_uint_eq(get(&r, config(1, 0x30), 4), 0); /* no expansion ROM */
    ck_assert_uint_eq(get(&r, config(1, 0x3c), 4), 0x1ff);
    rig_close(&r);
}
END_TEST

/* All ones, and writes go nowhere: other slots, functions and buses, the extended space. */
START_TEST(absent)
{
    static const u64 places[] = {
        2ull << 15, 31ull << 15, 1ull << 15 | 1 << 12, 7 << 12, 1ull << 20,
        0x0ff00000, 0x0ffffff8,  1ull << 15 | 0x100,   0x100,   0xff8,
    };
    Rig r;
    rig_open(&r);
    rig_add(&r, 1, 1);
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        put(&r, ECAM + places[i], 4, 0);
        for (unsigned size = 1; size <= 8; size *= 2) {
            ck_assert_uint_eq(get(&r, ECAM + places[i], size), mask64(8 * size));
        }
    }
    rig_close(&r);
}
END_TEST

/* ---- Base address registers ------------------------------------------------------------------ */

START_TEST(sizing)
{
    Rig r;
    rig_open(&r);
    rig_add(&r, 4, 1);
    for (unsigned bar = BAR0; bar < BAR0 + 24; bar += 4) {
        put(&r, config(4, bar), 4, 0xffffffff);
    }
    ck_assert_uint_eq(get(&r, config(4, BAR0), 4), 0xfffff000);
    ck_assert_uint_eq(get(&r, config(4, BAR1), 4), 0xffffffe1);
    ck_assert_uint_eq(get(&r, config(4, BAR2), 4), 0xffffc00c);
    ck_assert_uint_eq(get(&r, config(4, BAR3), 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, config(4, BAR3 + 4), 4), 0);
    ck_assert_uint_eq(get(&r, config(4, BAR3 + 8), 4), 0);
    put(&r, config(4, BAR0), 4, 0);
    ck_assert_uint_eq(get(&r, config(4, BAR0), 4), 0);
    /* By bytes, as some firmware does. */
    put(&r, config(4, BAR2 + 3), 1, 0x12);
    ck_assert_uint_eq(get(&r, config(4, BAR2), 4), 0x12ffc00c);
    rig_close(&r);
}
END_TEST

START_TEST(decoding)
{
    Rig r;
    rig_open(&r);
    Sample *s = rig_add(&r, 1, 1);
    for (unsigned i = 0; i < 3 * SAMPLE_WORDS; i++) {
        s->words[i / SAMPLE_WORDS][i % SAMPLE_WORDS] = 0x01010101 * (i + 1);
    }
    put(&r, config(1, BAR0), 4, WINDOW + 0x123000);
    put(&r, config(1, BAR1), 4, 0x1000);
    put(&r, config(1, BAR2), 4, HIGH + 0x8000);
    put(&r, config(1, BAR3), 4, (HIGH + 0x8000) >> 32);
    /* Nothing answers before it is switched on. */
    ck_assert_uint_eq(get(&r, WINDOW + 0x123000, 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, PIO + 0x1000, 4), 0xffffffff);
    put(&r, config(1, COMMAND), 2, PCI_COMMAND_MEMORY);
    ck_assert_uint_eq(get(&r, WINDOW + 0x123000, 4), 0x01010101);
    ck_assert_uint_eq(get(&r, HIGH + 0x8000 + 4, 4), 0x22222222);
    ck_assert_uint_eq(get(&r, PIO + 0x1000, 4), 0xffffffff);
    put(&r, config(1, COMMAND), 2, PCI_COMMAND_IO);
    ck_assert_uint_eq(get(&r, WINDOW + 0x123000, 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, HIGH + 0x8000, 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, PIO + 0x1000, 2), 0x1111);
    put(&r, config(1, COMMAND), 2, ALL);
    /* Just inside and just outside. */
    put(&r, WINDOW + 0x123fff, 1, 0x77);
    ck_assert_uint_eq(s->words[0][SAMPLE_WORDS - 1] >> 24, 0x77);
    ck_assert_uint_eq(get(&r, WINDOW + 0x124000, 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, WINDOW + 0x122ffc, 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, PIO + 0x1020, 1), 0xff);
    /* All widths; the third BAR takes only words: bytes find nothing, double words are split. */
    ck_assert_uint_eq(get(&r, WINDOW + 0x123000, 8), 0x0202020201010101);
    ck_assert_uint_eq(get(&r, HIGH + 0x8000, 8), 0x2222222221212121);
    ck_assert_uint_eq(get(&r, HIGH + 0x8000, 1), 0xff);
    unsigned accesses = s->accesses;
    put(&r, HIGH + 0x8000, 2, 0);
    ck_assert_uint_eq(s->accesses, accesses);
    put(&r, HIGH + 0x8000, 8, 0x1122334455667788);
    ck_assert_uint_eq(s->words[2][0], 0x55667788);
    ck_assert_uint_eq(s->words[2][1], 0x11223344);
    /* Moved: the old place is empty at once. */
    put(&r, config(1, BAR0), 4, WINDOW + 0x3ffff000);
    ck_assert_uint_eq(get(&r, WINDOW + 0x123000, 4), 0xffffffff);
    ck_assert_uint_eq(get(&r, WINDOW + 0x3ffff000, 4), 0x01010101);
    /* A reset of the function unmaps it. */
    device_reset(&s->pci.dev);
    ck_assert_uint_eq(get(&r, WINDOW + 0x3ffff000, 4), 0xffffffff);
    rig_close(&r);
}
END_TEST

/* BARs over RAM, other devices, outside of every window or wrapping: they are not seen. */
START_TEST(hostile_addresses)
{
    static const u64 places[] = {0,
                                 0x0c000000,
                                 ECAM,
                                 0x80000000,
                                 0xfffff000,
                                 0x80000000000,
                                 0xffffffffffffc000,
                                 HIGH - 0x4000,
                                 HIGH * 2};
    Rig r;
    rig_open(&r);
    Sample *s = rig_add(&r, 1, 1);
    memset(s->words, 0x99, sizeof(s->words));
    put(&r, config(1, COMMAND), 2, ALL);
    put(&r, 0x80000000, 8, 0x1111111111111111);
    unsigned accesses = s->accesses;
    for (unsigned i = 0; i < ARRAY_LEN(places); i++) {
        put(&r, config(1, BAR0), 4, (u32)places[i]);
        put(&r, config(1, BAR1), 4, 0xffffffff);
        put(&r, config(1, BAR2), 4, (u32)places[i]);
        put(&r, config(1, BAR3), 4, places[i] >> 32);
        ck_assert_uint_eq(get(&r, 0x80000000, 8), 0x1111111111111111);
        ck_assert_uint_eq(get(&r, config(0, 0), 4), 0x00081b36);
        ck_assert_uint_eq(get(&r, PIO, 4), 0xffffffff);
        get(&r, 0x0c000004, 4);
        ck_assert_uint_eq(get(&r, WINDOW, 4), 0xffffffff);
        ck_assert_uint_eq(get(&r, WINDOW + 0x3ffffff8, 8), UINT64_MAX);
        ck_assert_uint_eq(get(&r, HIGH, 4), 0xffffffff);
        ck_assert_uint_eq(get(&r, HIGH * 2 - 8, 8), UINT64_MAX);
    }
    ck_assert_uint_eq(s->accesses, accesses);
    /* A 64-bit BAR may be below 4 GiB, an I/O BAR is never in memory. */
    put(&r, config(1, BAR2), 4, WINDOW);
    put(&r, config(1, BAR3), 4, 0);
    ck_assert_uint_eq(get(&r, WINDOW, 4), 0x99999999);
    put(&r, config(1, BAR2), 4, 0);
    put(&r, config(1, BAR1), 4, WINDOW);
    ck_assert_uint_eq(get(&r, WINDOW, 4), 0xffffffff);
    rig_close(&r);
}
END_TEST

/* Where BARs overlap, the lower slot and the lower BAR win, and the other comes back when they are
 * gone. */
START_TEST(overlaps)
{
    Rig r;
    rig_open(&r);
    Sample *b = rig_add(&r, 5, 1), *a = rig_add(&r, 2, 1);
    a->words[0][0] = 0xaaaaaaaa;
    b->words[0][0] = 0xbbbbbbbb;
    b->words[2][0] = 0xcccccccc;
    for (unsigned slot = 2; slot <= 5; slot += 3) {
        put(&r, config(slot, COMMAND), 2, ALL);
        put(&r, config(slot, BAR0), 4, WINDOW);
    }
    put(&r, config(5, BAR2), 4, WINDOW);
    ck_assert_uint_eq(get(&r, WINDOW, 4), 0xaaaaaaaa);
    put(&r, config(2, COMMAND), 2, 0);
    ck_assert_uint_eq(get(&r, WINDOW, 4), 0xbbbbbbbb);
    put(&r, config(5, BAR0), 4, 0);
    ck_assert_uint_eq(get(&r, WINDOW, 4), 0xcccccccc);
    rig_close(&r);
}
END_TEST

/* ---- Slots, interrupts, bus mastering -------------------------------------------------------- */

START_TEST(slots)
{
    static const struct {
        const char *text;
        int slot;
    } texts[] = {{"3", 3},
                 {"0x3", 3},
                 {"03.0", 3},
                 {"1f", 31},
                 {"0x1F.0", 31},
                 {"0", 0},
                 {"", -1},
                 {"20", -1},
                 {"3.1", -1},
                 {"x", -1},
                 {"-1", -1},
                 {"3 ", -1},
                 {"3.0.0", -1},
                 {"0x", -1},
                 {" 3", -1},
                 {"3.", -1},
                 {"10000000000000003", -1}};
    Rig r;
    rig_open(&r);
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        g_autoptr(GError) err = NULL;
        int slot = -1;
        bool ok = pci_parse_slot(texts[i].text, &slot, &err);
        ck_assert_msg(ok == (texts[i].slot >= 0) && slot == texts[i].slot, "'%s'", texts[i].text);
        ck_assert(ok == (err == NULL));
    }
    rig_add(&r, 2, 1);
    ck_assert_uint_eq(rig_add(&r, -1, 1)->pci.slot, 1);
    ck_assert_uint_eq(rig_add(&r, -1, 1)->pci.slot, 3);
    Device *d = device_new(&sample_class, "late", NULL, NULL);
    for (int slot = 0; slot < 4; slot++) {
        g_autoptr(GError) err = NULL;
        ck_assert(!pci_bus_add(pci_host_bus(r.host), (PciDevice *)d, slot, &err));
        ck_assert_ptr_nonnull(strstr(err->message, "taken by"));
    }
    for (unsigned i = 4; i < PCI_SLOTS; i++) {
        ck_assert_uint_eq(rig_add(&r, -1, 1)->pci.slot, i);
    }
    g_autoptr(GError) err = NULL;
    ck_assert(!pci_bus_add(pci_host_bus(r.host), (PciDevice *)d, -1, &err));
    device_free(d);
    /* One that goes leaves its slot empty. */
    device_free(&r.samples[7]->pci.dev);
    r.samples[7] = NULL;
    ck_assert_uint_eq(get(&r, config(7, 0), 4), 0xffffffff);
    ck_assert_ptr_null(pci_bus_device(pci_host_bus(r.host), 7));
    ck_assert_uint_eq(rig_add(&r, -1, 1)->pci.slot, 7);
    rig_close(&r);
}
END_TEST

/* Pending bits 32 to 35 of the PLIC. */
static u32 pending(Rig *r)
{
    return get(r, 0x0c001004, 4) & 0xf;
}

/* Claims what is pending, so that `pending` shows what comes next. */
static void complete_all(Rig *r)
{
    put(r, 0x0c002004, 4, 0xf);
    for (unsigned i = 32; i < 36; i++) {
        put(r, 0x0c000000 + 4 * i, 4, 1);
    }
    for (u32 n; (n = get(r, 0x0c200004, 4)) != 0;) {
        put(r, 0x0c200004, 4, n);
        if (get(r, 0x0c001004, 4) >> (n - 32) & 1) {
            put(r, 0x0c002004, 4, get(r, 0x0c002004, 4) & ~(1u << (n - 32)));
        }
    }
}

START_TEST(interrupts)
{
    Rig r;
    rig_open(&r);
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        rig_add(&r, (int)slot, slot % 4 + 1);
    }
    for (unsigned slot = 1; slot < PCI_SLOTS; slot++) {
        PciDevice *d = &r.samples[slot]->pci;
        complete_all(&r);
        ck_assert_uint_eq(pending(&r), 0);
        pci_set_intx(d, true);
        ck_assert_uint_eq(pending(&r), 1u << (slot + slot % 4) % 4);
        ck_assert_uint_eq(get(&r, config(slot, 6), 2) & 8, 8);
        pci_set_intx(d, false);
        ck_assert_uint_eq(get(&r, config(slot, 6), 2) & 8, 0);
    }
    complete_all(&r);
    /* Disabled, it shows in the status register only; enabling lets it out. */
    put(&r, config(8, COMMAND), 2, PCI_COMMAND_INTX_DISABLE);
    pci_set_intx(&r.samples[8]->pci, true);
    ck_assert_uint_eq(pending(&r), 0);
    ck_assert_uint_eq(get(&r, config(8, 6), 2) & 8, 8);
    put(&r, config(8, COMMAND), 2, 0);
    ck_assert_uint_eq(pending(&r), 1);
    /* Two functions on one wire (slots 8 and 30 drive number 0): the wire is high while one asks.
     * The PLIC sees no second edge, and the interrupt stays until both are done. */
    pci_set_intx(&r.samples[30]->pci, true);
    pci_set_intx(&r.samples[8]->pci, false);
    put(&r, 0x0c002004, 4, 0xf);
    ck_assert_uint_eq(get(&r, 0x0c200004, 4), 32);
    put(&r, 0x0c200004, 4, 32);
    ck_assert_uint_eq(pending(&r), 1);
    pci_set_intx(&r.samples[30]->pci, false);
    ck_assert_uint_eq(get(&r, 0x0c200004, 4), 32);
    put(&r, 0x0c200004, 4, 32);
    ck_assert_uint_eq(pending(&r), 0);
    /* A function that is taken away takes its interrupt along. */
    pci_set_intx(&r.samples[30]->pci, true);
    device_free(&r.samples[30]->pci.dev);
    r.samples[30] = NULL;
    ck_assert_uint_eq(get(&r, 0x0c200004, 4), 32);
    put(&r, 0x0c200004, 4, 32);
    ck_assert_uint_eq(pending(&r), 0);
    rig_close(&r);
}
END_TEST

START_TEST(mastering)
{
    Rig r;
    rig_open(&r);
    Sample *s = rig_add(&r, 1, 1);
    ck_assert(!pci_is_master(&s->pci));
    ck_assert_uint_eq(s->masters, 0);
    put(&r, config(1, COMMAND), 2, PCI_COMMAND_MASTER);
    ck_assert(pci_is_master(&s->pci));
    ck_assert_uint_eq(s->masters, 1);
    ck_assert_ptr_eq(pci_bus_memory(s->pci.bus), r.bus);
    device_reset(&s->pci.dev);
    ck_assert(!pci_is_master(&s->pci));
    rig_close(&r);
}
END_TEST

/* The bridge may go before its functions. */
START_TEST(bridge_first)
{
    Rig r;
    rig_open(&r);
    Sample *s = rig_add(&r, 1, 1);
    device_free(r.host);
    r.host = NULL;
    ck_assert_ptr_null(s->pci.bus);
    pci_set_intx(&s->pci, true);
    device_reset(&s->pci.dev);
    rig_close(&r);
}
END_TEST

/* ---- Virtio ---------------------------------------------------------------------------------- */

#define BIT_VERSION_1 VIRTIO_BIT(VIRTIO_F_VERSION_1)

enum { COMMON = 0x40010000, ISR = COMMON + 0x1000, NOTIFY = COMMON + 0x3000 };
static const u64 SLOT1 = ECAM + (1 << 15);

static Driver *open_rng(void)
{
    driver_over_pci = true;
    return driver_new(&virtio_rng_class, NULL, NULL);
}

START_TEST(virtio_identity)
{
    Driver *d = open_rng();
    ck_assert_uint_eq(driver_load(d, SLOT1, 4), 0x10441af4);
    ck_assert_uint_eq(driver_load(d, SLOT1 + 8, 4), 0x00ff0001); /* not transitional */
    ck_assert_uint_eq(driver_load(d, SLOT1 + 0x2c, 4), 0x11001af4);
    ck_assert_uint_eq(driver_load(d, SLOT1 + 0x3d, 1), 1);
    ck_assert_uint_eq(driver_load(d, SLOT1 + 6, 2), 0x10);
    /* One capability of each type, all vendor's, and no MSI-X. */
    unsigned types = 0;
    for (u64 at = driver_load(d, SLOT1 + 0x34, 1); at; at = driver_load(d, SLOT1 + at + 1, 1)) {
        ck_assert_uint_eq(driver_load(d, SLOT1 + at, 1), 9);
        types |= 1u << driver_load(d, SLOT1 + at + 3, 1);
    }
    ck_assert_uint_eq(types, 0x3e);
    driver_free(d);
}
END_TEST

START_TEST(virtio_common_registers)
{
    Driver *d = open_rng();
    ck_assert(driver_negotiate(d, BIT_VERSION_1));
    ck_assert_uint_eq(driver_load(d, COMMON + 0x10, 2), 0xffff); /* no vectors */
    driver_store(d, COMMON + 0x10, 2, 0);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x10, 2), 0xffff);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x12, 2), 1); /* queues */
    ck_assert_uint_eq(driver_load(d, COMMON + 0x18, 2), 1024);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x1a, 2), 0xffff);
    /* A size that was not chosen is the largest. */
    driver_store(d, COMMON + 0x20, 4, DRIVER_RAM);
    driver_store(d, COMMON + 0x28, 4, DRIVER_RAM + 0x10000);
    driver_store(d, COMMON + 0x30, 8, DRIVER_RAM + 0x20000);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x30, 8), DRIVER_RAM + 0x20000);
    driver_store(d, COMMON + 0x1c, 2, 2); /* no value for enable */
    ck_assert_uint_eq(driver_load(d, COMMON + 0x1c, 2), 0);
    driver_store(d, COMMON + 0x1c, 2, 1);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x1c, 2), 1);
    ck_assert_uint_eq(d->virtio->queues[0].size, 1024);
    driver_store(d, COMMON + 0x1c, 2, 0); /* can't be taken back so */
    ck_assert_uint_eq(driver_load(d, COMMON + 0x1c, 2), 1);
    driver_store(d, COMMON + 0x18, 2, 8); /* too late */
    ck_assert_uint_eq(driver_load(d, COMMON + 0x18, 2), 1024);
    driver_store(d, COMMON + 0x20, 4, DRIVER_RAM + 0x40000);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x20, 8), DRIVER_RAM);
    /* A queue that does not exist. */
    driver_store(d, COMMON + 0x16, 2, 1);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x18, 2), 0);
    driver_store(d, COMMON + 0x18, 2, 8);
    driver_store(d, COMMON + 0x1c, 2, 1);
    driver_store(d, NOTIFY + 4, 2, 1);
    driver_store(d, NOTIFY + 0xffc, 4, 1);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x1c, 2), 0);
    ck_assert(!driver_is_broken(d));
    driver_free(d);
}
END_TEST

/* Without bus mastering nothing is done in memory; afterwards, what was left. */
START_TEST(virtio_mastering)
{
    Driver *d = open_rng();
    ck_assert(driver_negotiate(d, BIT_VERSION_1));
    Ring *r = ring_new(d, 0, 8);
    driver_go(d);
    u64 at = driver_alloc(d, 64);
    u16 id;
    u32 len;
    driver_pci_command(d, PCI_COMMAND_MEMORY);
    ring_add(r, (Piece[]){{at, 64}}, 0, 1);
    ring_kick(r);
    ck_assert(!ring_get(r, &id, &len));
    ck_assert(!d->line);
    ck_assert_uint_eq(driver_load(d, at, 8) | driver_load(d, at + 8, 8), 0);
    driver_pci_command(d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    ck_assert(ring_get(r, &id, &len));
    ck_assert_uint_eq(len, 64);
    ck_assert(d->line);
    /* Reading the isr acknowledges; disabled interrupts show in the status register. */
    ck_assert_uint_eq(driver_load(d, ISR, 1), VIRTIO_ISR_QUEUE);
    ck_assert_uint_eq(driver_load(d, ISR, 1), 0);
    ck_assert(!d->line);
    driver_pci_command(d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    ring_do(r, (Piece[]){{at, 64}}, 0, 1);
    ck_assert(!d->line);
    ck_assert_uint_eq(driver_load(d, SLOT1 + 6, 2), 0x18);
    driver_pci_command(d, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    ck_assert(d->line);
    driver_reset(d);
    ck_assert(!d->line);
    ring_free(r);
    driver_free(d);
}
END_TEST

/* The window to the BAR in configuration space, which works while the BAR is nowhere. */
START_TEST(virtio_window)
{
    enum { WINDOW_AT = 0x84 };
    static const struct {
        u32 bar, offset, length;
    } bad[] = {{0, 0x14, 1}, {5, 0x14, 1},     {4, 0x14, 0},      {4, 0x14, 3},
               {4, 0x14, 8}, {4, 0x15, 2},     {4, 0x4000, 4},    {4, 0xffffffff, 1},
               {4, 2, 4},    {255, 0, 0x1000}, {4, 0xfffffffc, 4}};
    Driver *d = open_rng();
    driver_pci_command(d, 0);
    ck_assert_uint_eq(driver_load(d, COMMON + 0x14, 1), 0xff);
    driver_store(d, SLOT1 + WINDOW_AT + 4, 1, 4);
    driver_store(d, SLOT1 + WINDOW_AT + 8, 4, 0x14);
    driver_store(d, SLOT1 + WINDOW_AT + 12, 4, 1);
    ck_assert_uint_eq(driver_load(d, SLOT1 + WINDOW_AT + 16, 1), 0);
    driver_store(d, SLOT1 + WINDOW_AT + 16, 1, VIRTIO_ACKNOWLEDGE);
    ck_assert_uint_eq(driver_load(d, SLOT1 + WINDOW_AT + 16, 1), VIRTIO_ACKNOWLEDGE);
    ck_assert_uint_eq(d->virtio->status, VIRTIO_ACKNOWLEDGE);
    driver_store(d, SLOT1 + WINDOW_AT + 17, 1, 0xff); /* beside the byte */
    ck_assert_uint_eq(d->virtio->status, VIRTIO_ACKNOWLEDGE);
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        driver_store(d, SLOT1 + WINDOW_AT + 4, 1, bad[i].bar);
        driver_store(d, SLOT1 + WINDOW_AT + 8, 4, bad[i].offset);
        driver_store(d, SLOT1 + WINDOW_AT + 12, 4, bad[i].length);
        ck_assert_uint_eq(driver_load(d, SLOT1 + WINDOW_AT + 16, 4), 0);
        driver_store(d, SLOT1 + WINDOW_AT + 16, 4, 0xffffffff);
        ck_assert_uint_eq(d->virtio->status, VIRTIO_ACKNOWLEDGE);
    }
    driver_free(d);
}
END_TEST

/* ---- Hostile harts --------------------------------------------------------------------------- */

static u64 rnd(u64 *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

typedef struct Storm {
    Rig *rig;
    u64 seed;
} Storm;

static gpointer storm(gpointer opaque)
{
    static const u64 bases[] = {ECAM, WINDOW, HIGH, PIO};
    static const u64 masks[] = {0x3ffff, 0x7fff, 0x7fff, 0x3fff};
    const Storm *t = opaque;
    u64 state = t->seed;
    for (unsigned i = 0; i < 30000; i++) {
        unsigned n = rnd(&state) % 4, size = 1u << rnd(&state) % 4;
        u64 address = bases[n] + (rnd(&state) & masks[n]), value = rnd(&state);
        if (n == 0) {
            /* Headers, and more often than not what maps BARs into the windows. */
            address &= ~(u64)0x7fc0;
            value = rnd(&state) % 4 ? WINDOW + (value & 0x7000) + 7 : value;
        }
        if (rnd(&state) % 2) {
            ck_assert(bus_write(t->rig->bus, address, size, value));
        } else {
            ck_assert(bus_read(t->rig->bus, address, size, &value));
        }
        if (rnd(&state) % 64 == 0) {
            PciDevice *d = &t->rig->samples[1 + rnd(&state) % 6]->pci;
            pci_set_intx(d, rnd(&state) % 2);
        }
    }
    return NULL;
}

/* Three threads access everything at once. The sanitizers look on. */
START_TEST(storms)
{
    Rig r;
    rig_open(&r);
    for (unsigned slot = 1; slot < 7; slot++) {
        rig_add(&r, (int)slot, 1);
    }
    Storm storms[3];
    GThread *threads[3];
    for (unsigned i = 0; i < 3; i++) {
        storms[i] = (Storm){&r, 0x123456789 + i};
        threads[i] = g_thread_new("storm", storm, &storms[i]);
    }
    unsigned accesses = 0;
    for (unsigned i = 0; i < 3; i++) {
        g_thread_join(threads[i]);
    }
    for (unsigned slot = 1; slot < 7; slot++) {
        accesses += r.samples[slot]->accesses;
        device_reset(&r.samples[slot]->pci.dev);
        pci_set_intx(&r.samples[slot]->pci, false);
    }
    ck_assert_uint_gt(accesses, 100); /* it did reach the functions */
    complete_all(&r);
    ck_assert_uint_eq(pending(&r), 0);
    ck_assert_uint_eq(get(&r, config(0, 0), 4), 0x00081b36);
    rig_close(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pci");
    TCase *t = tcase_create("pci");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, header);
    tcase_add_test(t, absent);
    tcase_add_test(t, sizing);
    tcase_add_test(t, decoding);
    tcase_add_test(t, hostile_addresses);
    tcase_add_test(t, overlaps);
    tcase_add_test(t, slots);
    tcase_add_test(t, interrupts);
    tcase_add_test(t, mastering);
    tcase_add_test(t, bridge_first);
    tcase_add_test(t, virtio_identity);
    tcase_add_test(t, virtio_common_registers);
    tcase_add_test(t, virtio_mastering);
    tcase_add_test(t, virtio_window);
    tcase_add_test(t, storms);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
