/*
 * The PCI bus with virtio functions on it: a list of accesses to configuration space and windows,
 * ten bytes each. Whatever they are, every access is answered, and the host bridge is still there
 * at the end.
 */
#include <string.h>

#include "devices/pci/host.h"
#include "devices/plic.h"
#include "devices/virtio/devices.h"
#include "devices/virtio/pci.h"
#include "tests/fuzz/fuzz.h"

#define RAM 0x80000000ull
#define RAM_SIZE (1ull << 20)
#define ECAM 0x30000000ull
#define MEMORY 0x40000000ull
#define HIGH 0x400000000ull
#define PIO 0x03000000ull

/* The first byte of an access: 1 << (bits 1:0) bytes, bits 3:2 where, bits 6:4 a slot or more, bit
 * 7 a write. Then four bytes of offset and five of value, little-endian. */
enum { ACCESS = 10, WRITE = 0x80, MAX_ACCESSES = 4000 };
static const u64 places[] = {ECAM, MEMORY, HIGH, PIO};
static const u64 sizes[] = {0x10000000, 0x40000000, (u64)16 << 30, 0x10000};

typedef struct Rig {
    Bus *bus;
    Device *plic, *host, *functions[3];
    VirtioDevice *virtio[3];
} Rig;

static void open_rig(Rig *r)
{
    static const VirtioClass *const classes[] = {&virtio_rng_class, &virtio_balloon_class,
                                                 &virtio_serial_class};
    *r = (Rig){.bus = bus_new()};
    VirtioEnv env = {.bus = r->bus};
    g_assert(bus_add_memory(r->bus, "ram", REGION_RAM, RAM, RAM_SIZE, NULL));
    r->plic = device_new(&plic_class, "plic", NULL, NULL);
    r->host = device_new(&pci_host_class, "pci", NULL, NULL);
    g_assert(device_attach(r->plic, r->bus, 0x0c000000, NULL));
    g_assert(device_attach(r->host, r->bus, ECAM, NULL));
    for (unsigned i = 0; i < PCI_PINS; i++) {
        device_connect(r->host, i, plic_source(r->plic, 32 + i));
    }
    for (unsigned i = 0; i < ARRAY_LEN(classes); i++) {
        r->virtio[i] =
            virtio_new(classes[i], NULL, virtio_pci_props, virtio_pci_prop_count, &env, NULL);
        r->functions[i] = virtio_pci_plug(r->virtio[i], pci_host_bus(r->host), NULL);
        g_assert(r->functions[i]);
    }
}

static void close_rig(Rig *r)
{
    for (unsigned i = 0; i < ARRAY_LEN(r->functions); i++) {
        device_free(r->functions[i]);
        virtio_free(r->virtio[i]);
    }
    device_free(r->host);
    device_free(r->plic);
    bus_free(r->bus);
}

static void access_bus(Rig *r, const uint8_t *p)
{
    unsigned size = 1u << (p[0] & 3), place = p[0] >> 2 & 3, slot = p[0] >> 4 & 7;
    u64 offset = 0, value = 0;
    memcpy(&offset, p + 1, 4);
    memcpy(&value, p + 5, 5);
    if (slot < 7) { /* mostly registers that there are, else anywhere */
        offset = place ? offset & 0x1ffff : (offset & 0xff) | (u64)slot << 15;
    }
    u64 address = places[place] + MIN(offset, sizes[place] - size);
    g_assert(p[0] & WRITE ? bus_write(r->bus, address, size, value)
                          : bus_read(r->bus, address, size, &value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Rig r;
    open_rig(&r);
    size_t n = MIN(size / ACCESS, MAX_ACCESSES);
    for (size_t i = 0; i < n; i++) {
        access_bus(&r, data + i * ACCESS);
        if (i % 64 == 63) {
            g_main_context_iteration(NULL, false);
        }
    }
    u64 id = 0;
    g_assert(bus_read(r.bus, ECAM, 4, &id) && id == 0x00081b36);
    for (unsigned i = 0; i < ARRAY_LEN(r.functions); i++) {
        device_reset(r.functions[i]);
        g_assert(r.virtio[i]->status == 0);
        g_assert(bus_read(r.bus, ECAM + ((i + 1ull) << 15) + 4, 4, &id) && id == 0x00100000);
    }
    close_rig(&r);
    return 0;
}

/* ---- Samples: what a driver does ---- */

static void add(GByteArray *a, u64 address, unsigned size, bool write, u64 value)
{
    u8 p[ACCESS] = {write ? WRITE : 0};
    unsigned place = 0;
    while (address - places[place] >= 0x10000000) {
        place++;
    }
    u32 offset = (u32)(address - places[place]);
    p[0] |= (u8)(__builtin_ctz(size) | place << 2 | (place ? 0 : (offset >> 15 & 7) << 4));
    memcpy(p + 1, &offset, 4);
    memcpy(p + 5, &value, 5);
    g_byte_array_append(a, p, ACCESS);
}

/* Finds a function, places its BAR, negotiates, sets a queue up and rings its bell. */
static void add_driver(GByteArray *a, unsigned slot, u64 bar)
{
    u64 config = ECAM + ((u64)slot << 15);
    for (unsigned offset = 0; offset < 0x9c; offset += 4) {
        add(a, config + offset, 4, false, 0);
    }
    add(a, config + 0x20, 4, true, UINT32_MAX);
    add(a, config + 0x24, 4, true, UINT32_MAX);
    add(a, config + 0x20, 4, true, bar);
    add(a, config + 0x24, 4, true, bar >> 32);
    add(a, config + 4, 2, true, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    add(a, bar + 0x14, 1, true, 3);
    for (unsigned page = 0; page < 2; page++) {
        add(a, bar, 4, true, page);
        add(a, bar + 4, 4, false, 0);
        add(a, bar + 8, 4, true, page);
        add(a, bar + 12, 4, true, page);
    }
    add(a, bar + 0x14, 1, true, 11);
    for (unsigned queue = 0; queue < 3; queue++) {
        add(a, bar + 0x16, 2, true, queue);
        add(a, bar + 0x18, 2, true, 8);
        for (unsigned area = 0; area < 3; area++) {
            add(a, bar + 0x20 + 8 * area, 4, true, RAM + 0x8000 * queue + 0x1000 * area);
            add(a, bar + 0x24 + 8 * area, 4, true, 0);
        }
        add(a, bar + 0x1c, 2, true, 1);
    }
    add(a, bar + 0x14, 1, true, 15);
    for (unsigned queue = 0; queue < 3; queue++) {
        add(a, bar + 0x3000 + 4 * queue, 2, true, queue);
    }
    add(a, bar + 0x1000, 1, false, 0);
    add(a, bar + 0x2000, 8, false, 0);
    add(a, config + 0x88, 1, true, 4);
    add(a, config + 0x8c, 4, true, 0x14);
    add(a, config + 0x90, 4, true, 1);
    add(a, config + 0x94, 1, true, 0);
}

void fuzz_samples(GPtrArray *samples)
{
    static const u64 bars[] = {MEMORY + 0x4000, HIGH + 0x8000, MEMORY + 0x4000};
    for (unsigned i = 0; i < ARRAY_LEN(bars); i++) {
        GByteArray *a = g_byte_array_new();
        add_driver(a, i + 1, bars[i]);
        add(a, ECAM + 0x0ff00000, 8, false, 0);
        add(a, PIO + 0x123, 2, true, 1);
        g_ptr_array_add(samples, g_byte_array_free_to_bytes(a));
    }
}
