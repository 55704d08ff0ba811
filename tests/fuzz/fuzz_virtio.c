/*
 * Virtio devices against a guest that means harm: TARGET [RUNS [SEED]].
 *
 * Each run makes one device (the classes and transports take turns) with rings of some kind, and
 * lets two threads loose on it, which stand for two harts: they add buffers, sound ones and wild
 * ones, write nonsense into rings, jump indices, ring doorbells, write registers and configuration,
 * and reset the device in mid-flight, all at once. Meanwhile the main loop runs, bytes and frames
 * come in from the host's ends, and the monitor's commands are used.
 *
 * It must not crash, hang, leak or trip a sanitizer; and after a reset the device must be as new.
 * A class needs a row in `surroundings`: how to make it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/char.h"
#include "devices/net/net.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/button.h"
#include "devices/virtio/console.h"
#include "devices/virtio/devices.h"
#include "tests/device/virtio_driver.h"

enum { DEFAULT_RUNS = 1000, OPERATIONS = 1500, HANG_SECONDS = 120 };

/* Where things are in guest memory: 64 KiB for each queue, then tables, then data. */
enum { AREA = 0x10000, DRIVER_AREA = 0x5000, DEVICE_AREA = 0x6000, QUEUES = 64 };
static const u64 RINGS = DRIVER_RAM, TABLES = DRIVER_RAM + AREA * QUEUES,
                 DATA = DRIVER_RAM + AREA * QUEUES + (1 << 20), DATA_SIZE = 2 << 20;

static const u64 PCI_BAR = 0x40010000,
                 PCI_BAR_SIZE = 0x4000; /* where virtio_driver_pci.c puts it */

typedef struct Random {
    u64 state;
} Random;

static u64 rnd(Random *r, u64 below) /* splitmix64 */
{
    u64 z = r->state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return z % below;
}

static u64 nasty(Random *r)
{
    static const u64 values[] = {0,
                                 1,
                                 2,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0x8000,
                                 0xffff,
                                 0x7fffffff,
                                 0x80000000,
                                 0xffffffff,
                                 UINT64_MAX,
                                 DRIVER_RAM,
                                 DRIVER_MMIO,
                                 INT64_MAX,
                                 (u64)DRIVER_RAM + DRIVER_RAM_SIZE};
    return values[rnd(r, ARRAY_LEN(values))] + rnd(r, 5) - 2;
}

/* ---- The machine ---------------------------------------------------------------------------- */

typedef struct Fuzz {
    Driver *driver;
    CharDev *line;
    Block *block;
    u64 blocks; /* chooses a way to open it */
    Net *net;
    int line_in;      /* our end of what the guest gets */
    int line_out;     /* ... of what it writes */
    bool packed;      /* what the last set-up negotiated; a guess while it changes */
    u16 slot[QUEUES]; /* packed: where the driver thinks it is, and its wrap counter above */
    int running;      /* threads */
} Fuzz;

typedef struct Hart {
    Fuzz *fuzz;
    Random random;
} Hart;

static CharDev *find_line(void *opaque, const char *id G_GNUC_UNUSED, GError **err G_GNUC_UNUSED)
{
    return ((Fuzz *)opaque)->line;
}

/* A disk of 1 MiB in a file without a name. */
static Block *find_block(void *opaque, const char *id G_GNUC_UNUSED, GError **err)
{
    Fuzz *f = opaque;
    BlockDrive drive;
    g_autofree char *path = g_build_filename(g_get_tmp_dir(), "stag-fuzz-XXXXXX", NULL);
    int fd = g_mkstemp(path);
    g_assert(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
    close(fd);
    /* Ways of which each has other requests that are not complete at once; not every host and file
     * system has all. */
    static const char *const ways[] = {"cache=none", "cache=writethrough", "cache=none,aio=threads",
                                       "cache=writethrough,aio=threads", "cache=unsafe"};
    for (unsigned i = f->blocks++ % ARRAY_LEN(ways); !f->block && i < ARRAY_LEN(ways); i++) {
        g_clear_error(err);
        g_autofree char *text =
            g_strdup_printf("file=%s,format=raw,if=none,id=d,discard=unmap,%s", path, ways[i]);
        g_assert(block_drive_parse(text, &drive, err));
        f->block = block_open(&drive, err);
        block_drive_clear(&drive);
    }
    unlink(path);
    return f->block;
}

/* Nothing leaves this machine: libslirp answers what it can itself. */
static Net *find_net(void *opaque, const char *id G_GNUC_UNUSED, GError **err)
{
    return ((Fuzz *)opaque)->net = net_new("user,id=n,restrict=on", err);
}

static void serial_ports(VirtioDevice *d, Random *r)
{
    g_assert(virtio_serial_add_port(d, true, "chardev=c", NULL));
    for (u64 n = rnd(r, 4); n; n--) {
        g_assert(virtio_serial_add_port(d, false, "name=a", NULL));
    }
}

static void balloon_target(Fuzz *f, Random *r)
{
    VirtioDevice *d = f->driver->virtio;
    virtio_balloon_set(d, rnd(r, DRIVER_RAM_SIZE * 2));
    virtio_balloon_get(d);
}

static void press_button(Fuzz *f, Random *r G_GNUC_UNUSED)
{
    virtio_button_press(f->driver->virtio);
}

static void net_cable(Fuzz *f, Random *r)
{
    net_set_link(f->net, rnd(r, 4) != 0);
}

/* How a class is made, and what happens to it from the host's side besides. Host ends are there
 * under any name. */
static const struct Surroundings {
    const char *class, *text;
    void (*after)(VirtioDevice *d, Random *r);
    void (*poke)(Fuzz *f, Random *r);
} surroundings[] = {
    {"virtio-balloon", "free-page-reporting=on,packed=on", NULL, balloon_target},
    {"virtio-blk", "drive=d,packed=on", NULL, NULL},
    {"virtio-net", "netdev=n,packed=on", NULL, net_cable},
    {"virtio-power-button", "packed=on", NULL, press_button},
    {"virtio-rng", "max-bytes=100000,period=1,packed=on", NULL, NULL},
    {"virtio-rng", "packed=on", NULL, NULL},
    {"virtio-serial", "max_ports=8,packed=on", serial_ports, NULL},
};

/* Those of -device, and the one that belongs to boards. */
static const VirtioClass *find_class(const char *name)
{
    bool is_pci;
    if (strcmp(name, virtio_button_class.name) == 0) {
        return &virtio_button_class;
    }
    return virtio_class_find(name, &is_pci);
}

static void check_all_classes(void)
{
    for (const VirtioClass *const *c = virtio_classes; *c; c++) {
        bool found = false;
        for (unsigned i = 0; i < ARRAY_LEN(surroundings); i++) {
            found |= strcmp(surroundings[i].class, (*c)->name) == 0;
        }
        if (!found) {
            g_error("%s is not fuzzed: it needs a row in surroundings[]", (*c)->name);
        }
    }
}

/* ---- What the harts do ---------------------------------------------------------------------- */

/* Sets all queues up. Harts do this at the same time as others use them. */
static void bring_up(Fuzz *f, Random *r)
{
    Driver *d = f->driver;
    static const u64 features[] = {
        VIRTIO_BIT(VIRTIO_F_EVENT_IDX), VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC),
        VIRTIO_BIT(VIRTIO_F_RING_PACKED), VIRTIO_BIT(VIRTIO_F_RING_RESET)};
    u64 leave_out = rnd(r, 8) ? 0 : rnd(r, 1 << 24);
    for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
        leave_out |= rnd(r, 2) ? features[i] : 0;
    }
    driver_write(d, 0x70, 0);
    driver_write(d, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER);
    u64 wanted = 0;
    for (u32 page = 0; page < 2; page++) {
        driver_write(d, 0x14, page);
        wanted |= (u64)driver_read(d, 0x10) << (32 * page);
    }
    wanted &= ~leave_out;
    for (u32 page = 0; page < 2; page++) {
        driver_write(d, 0x24, page);
        driver_write(d, 0x20, (u32)(wanted >> (32 * page)));
    }
    driver_write(d, 0x70, VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FEATURES_OK);
    __atomic_store_n(&f->packed, wanted >> VIRTIO_F_RING_PACKED & 1, __ATOMIC_RELAXED);
    for (u32 n = 0; n < QUEUES; n++) {
        driver_write(d, 0x30, n);
        u32 max = driver_read(d, 0x34);
        if (max == 0) {
            break;
        }
        u64 at = RINGS + n * AREA;
        for (u64 i = 0; i < 0x40; i += 8) { /* enough zeros for rings to begin sound */
            driver_store(d, at + i, 8, 0);
        }
        driver_store(d, at + DRIVER_AREA, 8, 0);
        driver_store(d, at + DEVICE_AREA, 8, 0);
        __atomic_store_n(&f->slot[n], 0x8000, __ATOMIC_RELAXED);
        driver_write(d, 0x38, MIN(max, 1u << rnd(r, 9)));
        static const u32 places[] = {0, DRIVER_AREA, DEVICE_AREA};
        for (unsigned i = 0; i < 3; i++) {
            driver_write(d, 0x80 + 0x10 * i, (u32)(at + places[i]));
            driver_write(d, 0x84 + 0x10 * i, 0);
        }
        driver_write(d, 0x44, 1);
    }
    driver_write(d, 0x70, 15);
}

static u16 queue_size(Fuzz *f, unsigned queue)
{
    VirtioDevice *v = f->driver->virtio;
    g_mutex_lock(&v->lock);
    u16 size = queue < v->queue_count ? v->queues[queue].size : 1;
    g_mutex_unlock(&v->lock);
    return MIN(MAX(size, 1), 1024);
}

static u64 random_address(Random *r)
{
    switch (rnd(r, 24)) {
    case 0:
        return nasty(r);
    case 1: /* into rings and tables */
        return RINGS + rnd(r, TABLES - RINGS);
    default:
        return DATA + rnd(r, DATA_SIZE);
    }
}

static u32 random_length(Random *r)
{
    switch (rnd(r, 48)) {
    case 0:
        return (u32)nasty(r);
    case 1:
        return (u32)rnd(r, 2 << 20);
    default:
        switch (rnd(r, 5)) {
        case 0:
            return 1;
        case 1: /* headers */
            return 16;
        case 2: /* sectors, frames */
            return 512 * (u32)(1 + rnd(r, 4));
        case 3:
            return (u32)rnd(r, 5000);
        default:
            return (u32)rnd(r, 64);
        }
    }
}

static void put_desc(Driver *d, u64 at, Random *r, u16 flags, u16 tag, bool packed)
{
    driver_store(d, at, 8, random_address(r));
    driver_store(d, at + 8, 4, random_length(r));
    driver_store(d, at + (packed ? 12 : 14), 2, rnd(r, 64) ? tag : nasty(r));
    driver_store(d, at + (packed ? 14 : 12), 2, rnd(r, 64) ? flags : nasty(r));
}

static void put_bytes(Driver *d, u64 at, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i += 4) {
        u32 word;
        memcpy(&word, (const u8 *)data + i, 4);
        driver_store(d, at + i, 4, word);
    }
}

/* A message that means something to the device, at the beginning of a buffer. */
static void put_message(Driver *d, u64 at, Random *r)
{
    static const u32 blk_types[] = {0, 1, 4, 8, 11, 13};
    static const u8 arp[] = {/* header */ 0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             /* who has 10.0.2.2? */ 0xff,
                             0xff,
                             0xff,
                             0xff,
                             0xff,
                             0xff,
                             0x52,
                             0x54,
                             0,
                             0x12,
                             0x34,
                             0x56,
                             8,
                             6,
                             0,
                             1,
                             8,
                             0,
                             6,
                             4,
                             0,
                             1,
                             0x52,
                             0x54,
                             0,
                             0x12,
                             0x34,
                             0x56,
                             10,
                             0,
                             2,
                             15,
                             0,
                             0,
                             0,
                             0,
                             0,
                             0,
                             10,
                             0,
                             2,
                             2,
                             0,
                             0};
    switch (d->virtio->class->id) {
    case VIRTIO_ID_BLOCK: {
        const u32 words[] = {
            blk_types[rnd(r, ARRAY_LEN(blk_types))], 0, (u32)rnd(r, 64), 0,
            /* a range */ (u32)rnd(r, 2100),         0, (u32)rnd(r, 16), (u32)rnd(r, 2)};
        put_bytes(d, at, words, sizeof(words));
        break;
    }
    case VIRTIO_ID_CONSOLE: { /* port, event, value */
        const u32 words[] = {(u32)rnd(r, 3), (u32)(rnd(r, 8) | rnd(r, 4) << 16)};
        put_bytes(d, at, words, sizeof(words));
        break;
    }
    case VIRTIO_ID_NET:
        put_bytes(d, at, arp, sizeof(arp));
        if (rnd(r, 2)) { /* a command, or a header */
            driver_store(d, at, 2, rnd(r, 6) | rnd(r, 6) << 8);
        }
        break;
    default: /* page numbers, figures */
        for (u64 i = 0; i < 32; i += 4) {
            driver_store(d, at + i, 4, (DATA >> 12) + rnd(r, 64));
        }
    }
}

static void seed_data(Driver *d, Random *r, u64 desc)
{
    u64 at = driver_load(d, desc, 8) & ~(u64)3;
    if (at < DATA || at >= DATA + DATA_SIZE - 64) {
        return;
    }
    if (rnd(r, 4)) {
        put_message(d, at, r);
    }
    if (rnd(r, 3) == 0) {
        driver_store(d, at + rnd(r, 16) * 4, 4, nasty(r));
    }
}

/* One buffer of up to a few pieces, perhaps by way of a table, mostly sound. */
static void add_buffer(Fuzz *f, Random *r, unsigned queue)
{
    Driver *d = f->driver;
    bool packed = __atomic_load_n(&f->packed, __ATOMIC_RELAXED);
    u16 size = queue_size(f, queue), n = (u16)(1 + rnd(r, MIN(size, 4)));
    u16 out = (u16)rnd(r, n + 1u);
    u64 ring = RINGS + queue * AREA, table = TABLES + rnd(r, 1 << 14) * 64;
    bool indirect = rnd(r, 4) == 0;
    u16 slot = __atomic_load_n(&f->slot[queue], __ATOMIC_RELAXED), wrap = slot & 0x8000;
    u16 at = packed ? slot & 0x7fff : (u16)rnd(r, size), head = at;
    at = head = at % size;
    u16 head_flags = 0;
    for (u16 i = 0; i < n; i++) {
        u64 desc = indirect ? table + 16u * i : ring + 16u * at;
        u16 next = indirect ? (u16)(i + 1) : (u16)((at + 1) % size);
        u16 flags = (i >= out ? 2 : 0) | (i + 1 < n && !(packed && indirect) ? 1 : 0);
        if (packed && !indirect) {
            flags |= wrap ? 1 << 7 : 1 << 15;
            if (i == 0) {
                head_flags = flags;
                flags ^= 1 << 7 | 1 << 15;
            }
        }
        put_desc(d, desc, r, flags, packed ? head : next, packed);
        if (i == 0) {
            seed_data(d, r, desc);
        }
        if (!indirect && packed && next == 0) {
            wrap ^= 0x8000;
        }
        at = indirect ? at : next;
    }
    if (indirect) {
        driver_store(d, ring + 16u * head, 8, table);
        driver_store(d, ring + 16u * head + 8, 4, 16u * n);
        head_flags = packed ? 4 | (wrap ? 1 << 7 : 1 << 15) : 4;
        at = (u16)((head + 1) % size);
        wrap ^= packed && at == 0 ? 0x8000 : 0;
        if (!packed) {
            driver_store(d, ring + 16u * head + 12, 2, head_flags);
        }
    }
    if (packed) {
        driver_store(d, ring + 16u * head + 14, 2, head_flags);
        __atomic_store_n(&f->slot[queue], (u16)(at | wrap), __ATOMIC_RELAXED);
    } else {
        u16 index = (u16)driver_load(d, ring + DRIVER_AREA + 2, 2);
        driver_store(d, ring + DRIVER_AREA + 4 + 2u * (index % size), 2,
                     rnd(r, 64) ? head : nasty(r));
        driver_store(d, ring + DRIVER_AREA + 2, 2, index + 1u + (rnd(r, 200) ? 0 : rnd(r, 65536)));
    }
}

static void write_register(Fuzz *f, Random *r)
{
    static const u16 regs[] = {0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50,  0x64,  0x70,  0x80,
                               0x84, 0x90, 0x94, 0xa0, 0xa4, 0xc0, 0x100, 0x104, 0x108, 0x10c};
    Driver *d = f->driver;
    unsigned reg = regs[rnd(r, ARRAY_LEN(regs))];
    u64 value = rnd(r, 2) ? rnd(r, 16) : nasty(r);
    if (rnd(r, 8) == 0) { /* anywhere */
        u64 at = d->pci ? PCI_BAR + rnd(r, PCI_BAR_SIZE) : DRIVER_MMIO + rnd(r, 0x1000);
        bus_write(d->bus, at, 1u << rnd(r, 4), value);
    } else if (reg >= 0x100) {
        driver_set_config(d, reg - 0x100, 1u << rnd(r, 3), (u32)value);
    } else {
        driver_write(d, reg, (u32)value);
    }
}

static void one_operation(Fuzz *f, Random *r)
{
    Driver *d = f->driver;
    unsigned queues = d->virtio->queue_count, queue = (unsigned)rnd(r, MIN(queues, 6));
    switch (rnd(r, 32)) {
    case 0:
        write_register(f, r);
        break;
    case 1: /* nonsense into a ring or table */
        driver_store(d, (RINGS + rnd(r, queues * AREA)) & ~(u64)7, 1u << rnd(r, 4), nasty(r));
        break;
    case 2: /* suppression of interrupts */
        driver_store(d, RINGS + queue * AREA + DRIVER_AREA, rnd(r, 2) ? 2 : 4, rnd(r, 0x40000));
        break;
    case 3:
        if (rnd(r, 8) == 0) {
            driver_write(d, 0x70, 0); /* in mid-flight */
        }
        break;
    case 4:
        if (rnd(r, 8) == 0) { /* one queue, or stop using it */
            driver_write(d, 0x30, queue);
            driver_write(d, rnd(r, 2) ? 0xc0 : 0x44, rnd(r, 2) ? 1 : 0);
        }
        break;
    case 5:
        driver_config(d, (unsigned)rnd(r, 16) * 4, 4);
        break;
    case 6:
        driver_write(d, 0x64, driver_read(d, 0x60));
        break;
    case 7:
    case 8:
        if ((driver_read(d, 0x70) & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) != VIRTIO_DRIVER_OK) {
            bring_up(f, r);
        }
        break;
    case 9:
    case 10:
    case 11:
    case 12:
        driver_write(d, 0x50, queue);
        break;
    default:
        add_buffer(f, r, queue);
    }
}

static gpointer hart_main(gpointer opaque)
{
    Hart *h = opaque;
    for (unsigned i = 0; i < OPERATIONS; i++) {
        one_operation(h->fuzz, &h->random);
    }
    __atomic_sub_fetch(&h->fuzz->running, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

/* ---- A run ---------------------------------------------------------------------------------- */

static void host_side(Fuzz *f, const struct Surroundings *s, Random *r)
{
    while (__atomic_load_n(&f->running, __ATOMIC_SEQ_CST)) {
        char bytes[64];
        g_main_context_iteration(NULL, false);
        if (rnd(r, 4) == 0) {
            memset(bytes, (int)rnd(r, 256), sizeof(bytes));
            ssize_t ignored G_GNUC_UNUSED = write(f->line_in, bytes, 1 + rnd(r, sizeof(bytes)));
        }
        if (rnd(r, 8) == 0) { /* a slow reader */
            while (read(f->line_out, bytes, sizeof(bytes)) == sizeof(bytes)) {
            }
        }
        if (rnd(r, 16) == 0) {
            g_autoptr(GString) out = g_string_new(NULL);
            virtio_info(f->driver->virtio, out);
        }
        if (rnd(r, 16) == 0 && s->poke) {
            s->poke(f, r);
        }
        if (rnd(r, 256) == 0 && !f->driver->pci) { /* PCI's would take the registers away */
            driver_machine_reset(f->driver);
        }
        g_usleep(20);
    }
}

/* A device that was reset holds nothing, and can be brought up. */
static void check_reset(Fuzz *f)
{
    Driver *d = f->driver;
    VirtioDevice *v = d->virtio;
    driver_reset(d);
    g_mutex_lock(&v->lock);
    g_assert(v->status == 0 && v->isr == 0 && v->negotiated == 0 && !v->resetting);
    for (unsigned i = 0; i < v->queue_count; i++) {
        g_assert(!v->queues[i].ready && v->queues[i].in_use == 0);
    }
    g_mutex_unlock(&v->lock);
    g_assert(!d->line);
    g_assert(driver_negotiate(d, UINT64_MAX));
    driver_go(d);
    g_assert(!driver_is_broken(d));
}

static void run(const struct Surroundings *s, u64 seed)
{
    Fuzz fuzz = {.blocks = seed}, *f = &fuzz;
    Random r = {seed};
    int in[2], out[2];
    g_assert(pipe(in) == 0 && pipe(out) == 0);
    g_assert(fcntl(in[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(out[0], F_SETFL, O_NONBLOCK) == 0);
    f->line = char_new_fds(in[0], out[1], NULL, false);
    f->line_in = in[1];
    f->line_out = out[0];
    f->driver = driver_new(
        find_class(s->class), s->text,
        &(VirtioEnv){
            .block_find = find_block, .net_find = find_net, .char_find = find_line, .opaque = f});
    if (s->after) {
        s->after(f->driver->virtio, &r);
    }
    bring_up(f, &r);
    Hart harts[2] = {{f, {seed * 3 + 1}}, {f, {seed * 5 + 2}}};
    GThread *threads[2];
    f->running = 2;
    for (unsigned i = 0; i < 2; i++) {
        threads[i] = g_thread_new("hart", hart_main, &harts[i]);
    }
    host_side(f, s, &r);
    for (unsigned i = 0; i < 2; i++) {
        g_thread_join(threads[i]);
    }
    check_reset(f);
    driver_free(f->driver);
    block_close(f->block);
    net_free(f->net);
    close(out[0]); /* nobody reads what is left */
    char_free(f->line);
    close(out[1]);
    close(in[0]);
    close(in[1]);
}

/* Buffers belong to the guest, whose harts write them while devices do; only what devices do with
 * rings has to be free of races. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "race:^virtq_read$\nrace:^virtq_write$\nrace:^char_write$\nrace:^fill$\n"
           "race:^bus_discard$\nrace:^load_desc$\n";
}

/* A longer memory of who accessed what: a suppression needs both sides' names. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "history_size=7";
}

int main(int argc, char **argv)
{
    u64 runs = argc > 1 ? strtoull(argv[1], NULL, 0) : DEFAULT_RUNS;
    u64 seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    check_all_classes();
    signal(SIGPIPE, SIG_IGN);
    for (u64 i = 0; i < runs; i++) {
        const struct Surroundings *s = &surroundings[i % ARRAY_LEN(surroundings)];
        if (!find_class(s->class)) {
            continue;
        }
        if (g_getenv("FUZZ_VERBOSE")) {
            fprintf(stderr, "run %" G_GUINT64_FORMAT ": %s,%s\n", i, s->class, s->text);
        }
        driver_over_pci = i / ARRAY_LEN(surroundings) % 2;
        alarm(HANG_SECONDS);
        run(s, seed * 1000003 + i);
    }
    alarm(0);
    return 0;
}
