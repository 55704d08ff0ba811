/*
 * Virtio as a driver sees it: negotiation and rings through the registers of a transport, mmio or
 * PCI, with a class made for the test, whose device copies what it is given; then what is true of every
 * class; then each class. Tests that a driver's way of using rings must not change run over all
 * ways.
 */
#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/base/bits.h"
#include "core/base/log.h"
#include "devices/char.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/console.h"
#include "devices/virtio/button.h"
#include "devices/virtio/devices.h"
#include "tests/device/virtio_driver.h"

#define BIT(n) VIRTIO_BIT(VIRTIO_F_##n)

/* The ways of using rings, and whether buffers go through indirect tables. */
static const struct Way {
    const char *name;
    u64 features;
    bool indirect;
} ways[] = {
    {"split", 0, false},
    {"split, event index", BIT(EVENT_IDX), false},
    {"split, indirect", BIT(INDIRECT_DESC), true},
    {"split, both", BIT(EVENT_IDX) | BIT(INDIRECT_DESC), true},
    {"packed", BIT(RING_PACKED), false},
    {"packed, event index", BIT(RING_PACKED) | BIT(EVENT_IDX), false},
    {"packed, indirect", BIT(RING_PACKED) | BIT(INDIRECT_DESC), true},
    {"packed, both", BIT(RING_PACKED) | BIT(EVENT_IDX) | BIT(INDIRECT_DESC), true},
};

/* ---- A class for the test ------------------------------------------------------------------- */

/* Queue 0: each buffer's `in` gets its `out`. Queue 1: buffers are kept until the test asks. */
typedef struct Echo {
    VirtioDevice dev;
    u64 number;
    unsigned notified[3], driver_oks, resets;
    bool refuse;
    u32 written[2]; /* of the configuration: offset and value */
    GQueue held;
} Echo;

typedef struct EchoRequest {
    VirtqElement elem;
    u32 mark;
} EchoRequest;

static void echo_notify(VirtioDevice *d, unsigned queue)
{
    Echo *echo = (Echo *)d;
    VirtQueue *q = virtio_queue(d, queue);
    EchoRequest *e;
    echo->notified[queue]++;
    while ((e = virtq_pop(q, sizeof(EchoRequest)))) {
        ck_assert_uint_eq(e->mark, 0);
        e->mark = 1;
        if (queue == 1) {
            g_queue_push_tail(&echo->held, e);
            continue;
        }
        g_autofree u8 *data = g_malloc(e->elem.out_bytes + 1);
        size_t n = virtq_read(&e->elem, 0, data, e->elem.out_bytes + 1);
        ck_assert_uint_eq(n, e->elem.out_bytes);
        virtq_push(e, virtq_write(&e->elem, 0, data, n));
    }
    virtq_notify(q);
}

static void echo_drop(Echo *e)
{
    void *elem;
    while ((elem = g_queue_pop_head(&e->held))) {
        virtq_free(elem);
    }
}

static void echo_reset(VirtioDevice *d)
{
    ((Echo *)d)->resets++;
    echo_drop((Echo *)d);
}

static void echo_queue_reset(VirtioDevice *d, unsigned queue)
{
    if (queue == 1) {
        echo_drop((Echo *)d);
    }
}

static bool echo_init(VirtioDevice *d, GError **err G_GNUC_UNUSED)
{
    d->queues[2].max = 8;
    return true;
}

static void echo_driver_ok(VirtioDevice *d)
{
    ((Echo *)d)->driver_oks++;
}

static bool echo_check(VirtioDevice *d)
{
    return !((Echo *)d)->refuse;
}

static void echo_get_config(VirtioDevice *d, u8 *config)
{
    for (unsigned i = 0; i < d->config_size; i++) {
        config[i] = (u8)(0x10 + i);
    }
}

static void echo_set_config(VirtioDevice *d, u32 offset, unsigned size, u32 value)
{
    Echo *e = (Echo *)d;
    e->written[0] = offset | size << 8;
    e->written[1] = value;
}

static const PropDesc echo_props[] = {
    {"number", PROP_UINT, offsetof(Echo, number), "7", "a number"},
};

static const VirtioClass echo_class = {
    .name = "virtio-echo",
    .id = 63,
    .instance_size = sizeof(Echo),
    .features = VIRTIO_BIT(3) | VIRTIO_BIT(50),
    .queue_count = 3,
    .queue_size = 256,
    .config_size = 10,
    .props = echo_props,
    .prop_count = ARRAY_LEN(echo_props),
    .init = echo_init,
    .reset = echo_reset,
    .queue_reset = echo_queue_reset,
    .driver_ok = echo_driver_ok,
    .queue_notify = echo_notify,
    .check_features = echo_check,
    .get_config = echo_get_config,
    .set_config = echo_set_config,
};

static Echo *echo_of(Driver *d)
{
    return (Echo *)d->virtio;
}

/* A device that was brought up this way, with a ring on queue 0. */
static Driver *start(int way, u16 size, Ring **r)
{
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[way].features));
    *r = ring_new(d, 0, size);
    (*r)->indirect = ways[way].indirect;
    driver_go(d);
    return d;
}

static void finish(Driver *d, Ring *r)
{
    ring_free(r);
    driver_free(d);
}

/* ---- Registers and negotiation -------------------------------------------------------------- */

START_TEST(registers)
{
    Driver *d = driver_new(&echo_class, NULL, NULL);
    ck_assert_uint_eq(driver_read(d, 0x00), 0x74726976);
    ck_assert_uint_eq(driver_read(d, 0x04), 2);
    ck_assert_uint_eq(driver_read(d, 0x08), 63);
    ck_assert_uint_eq(echo_of(d)->number, 7);
    ck_assert_uint_eq(driver_offered(d), VIRTIO_BIT(3) | VIRTIO_BIT(50) | BIT(VERSION_1) |
                                             BIT(EVENT_IDX) | BIT(INDIRECT_DESC) | BIT(RING_RESET));
    driver_write(d, 0x14, 2);
    ck_assert_uint_eq(driver_read(d, 0x10), 0);
    static const u32 sizes[] = {256, 256, 8, 0};
    for (u32 i = 0; i < 4; i++) {
        driver_write(d, 0x30, i);
        ck_assert_uint_eq(driver_read(d, 0x34), sizes[i]);
    }
    ck_assert_uint_eq(driver_read(d, 0xb0), UINT32_MAX);
    driver_free(d);
}
END_TEST

START_TEST(configuration)
{
    Driver *d = driver_new(&echo_class, "number=9,event_idx=off,indirect_desc=off", NULL);
    ck_assert_uint_eq(echo_of(d)->number, 9);
    ck_assert_uint_eq(driver_offered(d) & (BIT(EVENT_IDX) | BIT(INDIRECT_DESC)), 0);
    ck_assert_uint_eq(driver_config(d, 0, 1), 0x10);
    ck_assert_uint_eq(driver_config(d, 3, 1), 0x13);
    ck_assert_uint_eq(driver_config(d, 2, 2), 0x1312);
    ck_assert_uint_eq(driver_config(d, 4, 4), 0x17161514);
    ck_assert_uint_eq(driver_config(d, 8, 4), 0x1918); /* the end, and zeros behind it */
    ck_assert_uint_eq(driver_config(d, 0xfc, 4), 0);
    driver_set_config(d, 6, 2, 0xbeef);
    ck_assert_uint_eq(echo_of(d)->written[0], 6 | 2 << 8);
    ck_assert_uint_eq(echo_of(d)->written[1], 0xbeef);
    driver_set_config(d, 5, 1, 0x77);
    ck_assert_uint_eq(echo_of(d)->written[0], 5 | 1 << 8);
    driver_set_config(d, 8, 4, 1); /* beyond the end */
    driver_set_config(d, 0xf0, 1, 1);
    ck_assert_uint_eq(echo_of(d)->written[0], 5 | 1 << 8);

    /* Changes: generation always, interrupt only for a driver that runs. */
    u32 before = driver_read(d, 0xfc);
    g_mutex_lock(&d->virtio->lock);
    virtio_config_changed(d->virtio);
    g_mutex_unlock(&d->virtio->lock);
    ck_assert_uint_ne(driver_read(d, 0xfc), before);
    ck_assert(!d->line);
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    driver_go(d);
    g_mutex_lock(&d->virtio->lock);
    virtio_config_changed(d->virtio);
    g_mutex_unlock(&d->virtio->lock);
    ck_assert(d->line);
    ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_CONFIG);
    ck_assert(!d->line);
    driver_free(d);
}
END_TEST

START_TEST(negotiation)
{
    Driver *d = driver_new(&echo_class, NULL, NULL);
    /* What is not offered is refused. */
    driver_write(d, 0x70, 3);
    driver_write(d, 0x24, 0);
    driver_write(d, 0x20, 1u << 4);
    driver_write(d, 0x70, 11);
    ck_assert_uint_eq(driver_read(d, 0x70), 3);
    /* As is what the class does not like. */
    echo_of(d)->refuse = true;
    ck_assert(!driver_negotiate(d, BIT(VERSION_1)));
    echo_of(d)->refuse = false;
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    /* Features stay; bits of the status can't be taken back, nor NEEDS_RESET be set. */
    driver_write(d, 0x24, 0);
    driver_write(d, 0x20, 1u << 3);
    ck_assert_uint_eq(d->virtio->negotiated, BIT(VERSION_1));
    driver_write(d, 0x70, 1 | 64);
    ck_assert_uint_eq(driver_read(d, 0x70), 11);
    ck_assert_uint_eq(echo_of(d)->driver_oks, 0);
    driver_go(d);
    driver_write(d, 0x70, 15);
    ck_assert_uint_eq(echo_of(d)->driver_oks, 1);
    /* DRIVER_OK needs FEATURES_OK. */
    driver_reset(d);
    ck_assert_uint_eq(driver_read(d, 0x70), 0);
    driver_write(d, 0x70, 7);
    ck_assert_uint_eq(driver_read(d, 0x70), 3);
    ck_assert_uint_eq(echo_of(d)->driver_oks, 1);
    driver_free(d);
}
END_TEST

START_TEST(queue_setup)
{
    static const struct {
        u32 size;
        u64 desc, driver, device;
        bool good;
    } rows[] = {
        {8, DRIVER_RAM, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2000, true},
        {0, DRIVER_RAM, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2000, false},
        {7, DRIVER_RAM, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2000, false},
        {512, DRIVER_RAM, DRIVER_RAM + 0x10000, DRIVER_RAM + 0x20000, false},
        {65537, DRIVER_RAM, DRIVER_RAM + 0x10000, DRIVER_RAM + 0x20000, false},
        {8, DRIVER_RAM + 8, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2000, false},
        {8, DRIVER_RAM, DRIVER_RAM + 0x1001, DRIVER_RAM + 0x2000, false},
        {8, DRIVER_RAM, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2002, false},
        {8, 0, DRIVER_RAM + 0x1000, DRIVER_RAM + 0x2000, false},
        {8, DRIVER_RAM, DRIVER_MMIO, DRIVER_RAM + 0x2000, false},
        {8, DRIVER_RAM, DRIVER_RAM, ~(u64)15, false},
        {8, (u64)DRIVER_RAM + DRIVER_RAM_SIZE - 128, DRIVER_RAM, DRIVER_RAM + 0x1000, true},
        {8, (u64)DRIVER_RAM + DRIVER_RAM_SIZE - 112, DRIVER_RAM, DRIVER_RAM + 0x1000, false},
        {8, DRIVER_RAM, DRIVER_RAM + 0x1000, (u64)DRIVER_RAM + DRIVER_RAM_SIZE - 68, true},
        {8, DRIVER_RAM, DRIVER_RAM + 0x1000, (u64)DRIVER_RAM + DRIVER_RAM_SIZE - 64, false},
    };
    Driver *d = driver_new(&echo_class, NULL, NULL);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        ck_assert(driver_negotiate(d, BIT(VERSION_1)));
        driver_write(d, 0x30, 0);
        driver_write(d, 0x38, rows[i].size);
        const u64 addresses[] = {rows[i].desc, rows[i].driver, rows[i].device};
        for (unsigned a = 0; a < 3; a++) {
            driver_write(d, 0x80 + 0x10 * a, (u32)addresses[a]);
            driver_write(d, 0x84 + 0x10 * a, (u32)(addresses[a] >> 32));
        }
        driver_write(d, 0x44, 1);
        ck_assert_msg(driver_read(d, 0x44) == rows[i].good, "row %u", i);
        ck_assert_msg(driver_is_broken(d) == !rows[i].good, "row %u", i);
        driver_write(d, 0x38, 2); /* too late if it is ready */
        ck_assert_uint_eq(d->virtio->queues[0].size == 2, !rows[i].good);
        driver_write(d, 0x44, 0);
        ck_assert_uint_eq(driver_read(d, 0x44), 0);
    }
    /* No queue before the features. */
    driver_reset(d);
    driver_write(d, 0x38, 8);
    driver_write(d, 0x44, 1);
    ck_assert_uint_eq(driver_read(d, 0x44), 0);
    driver_free(d);
}
END_TEST

/* ---- Rings, every way ----------------------------------------------------------------------- */

static void fill_pattern(u8 *p, size_t n, u32 seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (u8)(seed >> 24);
    }
}

START_TEST(buffers_come_back)
{
    Ring *r;
    Driver *d = start(_i, 16, &r);
    u64 from = driver_alloc(d, 4096), to = driver_alloc(d, 4096);
    u8 sent[4096], got[4096];
    /* Far more buffers than the ring has places, of one to four pieces each way. */
    for (unsigned n = 0; n < 300; n++) {
        unsigned out = 1 + n % 4, in = 1 + n / 4 % 4, piece = 1 + n * 7 % 200;
        Piece p[8];
        for (unsigned i = 0; i < out; i++) {
            p[i] = (Piece){from + i * 256, piece};
            fill_pattern(sent + i * piece, piece, n * 8 + i);
            driver_put(d, p[i].addr, sent + i * piece, piece);
        }
        for (unsigned i = 0; i < in; i++) {
            p[out + i] = (Piece){to + i * 512, piece};
        }
        u32 len = ring_do(r, p, out, in), want = MIN(out, in) * piece;
        ck_assert_msg(len == want, "%s: %u of %u", ways[_i].name, len, want);
        for (unsigned i = 0; i < MIN(out, in); i++) {
            driver_get(d, p[out + i].addr, got, piece);
            ck_assert(memcmp(got, sent + i * piece, piece) == 0);
        }
        ck_assert(d->line);
        ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_QUEUE);
        ck_assert(!d->line);
        if (n % 50 == 0) {
            d->free = to + 4096; /* tables of indirect descriptors */
            d->free = (d->free + 15) & ~(u64)15;
        }
    }
    ck_assert_uint_eq(r->free_count, 16);
    ck_assert_uint_eq(d->virtio->queues[0].in_use, 0);
    ck_assert(!driver_is_broken(d));
    finish(d, r);
}
END_TEST

START_TEST(several_at_once_and_out_of_order)
{
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    Echo *echo = echo_of(d);
    u64 at;
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[_i].features));
    Ring *r = ring_new(d, 1, 8);
    r->indirect = ways[_i].indirect;
    driver_go(d);
    at = driver_alloc(d, 4096);
    for (unsigned round = 0; round < 40; round++) {
        u16 ids[4], id;
        u32 len;
        for (unsigned i = 0; i < 4; i++) {
            ids[i] = ring_add(r, (Piece[]){{at + 16 * i, 4}, {at + 2048 + 16 * i, 16}}, 1, 1);
        }
        ring_kick(r);
        ck_assert_uint_eq(g_queue_get_length(&echo->held), 4);
        ck_assert(!ring_get(r, &id, &len));
        /* The third alone, then the others at once, the last first. */
        g_mutex_lock(&d->virtio->lock);
        void *rest[3] = {g_queue_pop_nth(&echo->held, 3), g_queue_pop_nth(&echo->held, 0),
                         g_queue_pop_nth(&echo->held, 0)};
        virtq_push(g_queue_pop_head(&echo->held), 3);
        virtq_notify(virtio_queue(d->virtio, 1));
        g_mutex_unlock(&d->virtio->lock);
        ck_assert(ring_get(r, &id, &len));
        ck_assert_uint_eq(id, ids[2]);
        ck_assert_uint_eq(len, 3);
        ck_assert(!ring_get(r, &id, &len));
        ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_QUEUE);
        g_mutex_lock(&d->virtio->lock);
        virtq_push_many(rest, (size_t[]){5, 99, 0}, 3);
        virtq_notify(virtio_queue(d->virtio, 1));
        g_mutex_unlock(&d->virtio->lock);
        static const unsigned order[] = {3, 0, 1}, lens[] = {5, 16, 0};
        for (unsigned i = 0; i < 3; i++) {
            ck_assert(ring_get(r, &id, &len));
            ck_assert_uint_eq(id, ids[order[i]]);
            ck_assert_uint_eq(len, lens[i]);
        }
        ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_QUEUE);
    }
    finish(d, r);
}
END_TEST

/* What is put back comes again, in order. */
START_TEST(unpop)
{
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    VirtQueue *q = virtio_queue(d->virtio, 2); /* queue 2: nobody pops but us */
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[_i].features));
    Ring *r = ring_new(d, 2, 8);
    r->indirect = ways[_i].indirect;
    driver_write(d, 0x70, 15);
    u64 at = driver_alloc(d, 256);
    for (unsigned round = 0; round < 20; round++) {
        u16 ids[2], id;
        u32 len;
        g_mutex_lock(&d->virtio->lock);
        ck_assert(!virtq_has_buffer(q));
        ck_assert_ptr_null(virtq_pop(q, 0));
        g_mutex_unlock(&d->virtio->lock);
        ids[0] = ring_add(r, (Piece[]){{at, 4}, {at + 16, 4}, {at + 32, 4}}, 1, 2);
        ids[1] = ring_add(r, (Piece[]){{at, 8}}, 0, 1);
        g_mutex_lock(&d->virtio->lock);
        ck_assert(virtq_has_buffer(q));
        VirtqElement *a = virtq_pop(q, 0), *b = virtq_pop(q, 0);
        ck_assert(a && b && !virtq_pop(q, 0));
        ck_assert_uint_eq(a->out_count, 1);
        ck_assert_uint_eq(a->in_count, 2);
        ck_assert_uint_eq(a->in_bytes, 8);
        ck_assert_uint_eq(a->in_addr[1], at + 32);
        ck_assert_uint_eq(b->in_bytes, 8);
        virtq_unpop(b);
        virtq_unpop(a);
        ck_assert_uint_eq(q->in_use, 0);
        a = virtq_pop(q, 0);
        b = virtq_pop(q, 0);
        ck_assert_uint_eq(a->out_count, 1);
        virtq_push(a, 1);
        virtq_push(b, 2);
        g_mutex_unlock(&d->virtio->lock);
        for (unsigned i = 0; i < 2; i++) {
            ck_assert(ring_get(r, &id, &len));
            ck_assert_uint_eq(id, ids[i]);
            ck_assert_uint_eq(len, i + 1);
        }
    }
    finish(d, r);
}
END_TEST

/* Interrupts come when the driver wants them, and only then. */
START_TEST(interrupts_are_suppressed)
{
    Ring *r;
    Driver *d = start(_i, 8, &r);
    u64 at = driver_alloc(d, 64);
    Piece p[] = {{at, 4}, {at + 16, 4}};
    u16 id;
    u32 len;
    for (unsigned round = 0; round < 30; round++) {
        ring_interrupts(r, false);
        ring_do(r, p, 1, 1);
        ring_add(r, p, 1, 1);
        ring_kick(r);
        ck_assert_msg(!d->line, "%s, round %u", ways[_i].name, round);
        ring_interrupts(r, true);
        ck_assert(ring_get(r, &id, &len));
        ring_do(r, p, 1, 1);
        ck_assert_msg(d->line, "%s, round %u", ways[_i].name, round);
        driver_ack(d);
    }
    /* With event index only the buffer in question interrupts. */
    if (ways[_i].features & BIT(EVENT_IDX)) {
        unsigned before = d->interrupts;
        ring_interrupts(r, true); /* for the next */
        for (unsigned i = 0; i < 3; i++) {
            ring_add(r, p, 1, 1);
            ring_kick(r);
            driver_ack(d);
        }
        ck_assert_uint_eq(d->interrupts, before + 1);
    }
    finish(d, r);
}
END_TEST

/* The device tells the driver whether to kick. */
START_TEST(notifications_are_suppressed)
{
    Ring *r;
    Driver *d = start(_i, 8, &r);
    Echo *echo = echo_of(d);
    VirtQueue *q = virtio_queue(d->virtio, 0);
    u64 at = driver_alloc(d, 64);
    Piece p[] = {{at, 4}, {at + 16, 4}};
    bool event = ways[_i].features & BIT(EVENT_IDX);
    u16 id;
    u32 len;
    for (unsigned round = 0; round < 30; round++) {
        ring_add(r, p, 1, 1);
        ck_assert_msg(ring_kick(r), "%s, round %u", ways[_i].name, round);
        ck_assert(ring_get(r, &id, &len));
        g_mutex_lock(&d->virtio->lock);
        ck_assert(!virtq_set_notifications(q, false));
        g_mutex_unlock(&d->virtio->lock);
        unsigned before = echo->notified[0];
        ring_add(r, p, 1, 1);
        bool first = ring_kick(r); /* with event index in a split ring there is no other way */
        ring_add(r, p, 1, 1);
        ck_assert(!ring_kick(r));
        ck_assert(!first || (event && !(ways[_i].features & BIT(RING_PACKED))));
        ck_assert_uint_eq(echo->notified[0], before + first);
        g_mutex_lock(&d->virtio->lock);
        ck_assert(virtq_set_notifications(q, true)); /* says that there is something */
        echo_notify(d->virtio, 0);
        ck_assert(!virtq_set_notifications(q, true));
        g_mutex_unlock(&d->virtio->lock);
        ck_assert(ring_get(r, &id, &len) && ring_get(r, &id, &len));
    }
    finish(d, r);
}
END_TEST

START_TEST(buffers_before_driver_ok)
{
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[_i].features));
    Ring *r = ring_new(d, 0, 8);
    r->indirect = ways[_i].indirect;
    u64 at = driver_alloc(d, 64);
    u16 id;
    u32 len;
    ring_add(r, (Piece[]){{at, 4}, {at + 16, 4}}, 1, 1);
    ring_kick(r);
    ck_assert(!ring_get(r, &id, &len));
    ck_assert_uint_eq(echo_of(d)->notified[0], 0);
    driver_go(d);
    ck_assert(ring_get(r, &id, &len));
    finish(d, r);
}
END_TEST

START_TEST(reset_in_mid_flight)
{
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    Echo *echo = echo_of(d);
    u16 id;
    u32 len;
    for (unsigned round = 0; round < 6; round++) {
        ck_assert(driver_negotiate(d, BIT(VERSION_1) | BIT(RING_RESET) | ways[_i].features));
        Ring *r = ring_new(d, 1, 8);
        r->indirect = ways[_i].indirect;
        driver_go(d);
        u64 at = driver_alloc(d, 256);
        ring_add(r, (Piece[]){{at, 4}, {at + 16, 4}}, 1, 1);
        ring_add(r, (Piece[]){{at, 4}, {at + 16, 4}}, 1, 1);
        ring_kick(r);
        ck_assert_uint_eq(g_queue_get_length(&echo->held), 2);
        void *stale = g_queue_pop_head(&echo->held);
        switch (round % 3) {
        case 0: /* the driver's */
            driver_reset(d);
            break;
        case 1: /* the machine's */
            driver_machine_reset(d);
            break;
        default: /* the queue's */
            driver_write(d, 0x30, 1);
            driver_write(d, 0xc0, 1);
            ck_assert_uint_eq(driver_read(d, 0xc0), 0);
            ck_assert_uint_eq(driver_read(d, 0x70), 15);
        }
        ck_assert_uint_eq(g_queue_get_length(&echo->held), 0);
        ck_assert_uint_eq(driver_read(d, 0x44), 0);
        ck_assert(!d->line);
        /* One that comes back late goes nowhere, not even into a ring that is set up again. */
        if (round >= 3) {
            if (round % 3 != 2) {
                driver_negotiate(d, d->features);
            }
            ring_free(r);
            r = ring_new(d, 1, 8);
            driver_go(d);
        }
        g_mutex_lock(&d->virtio->lock);
        virtq_push(stale, 4);
        virtq_notify(virtio_queue(d->virtio, 1));
        ck_assert_uint_eq(d->virtio->queues[1].in_use, 0);
        g_mutex_unlock(&d->virtio->lock);
        ck_assert(!ring_get(r, &id, &len));
        ck_assert(!d->line);
        ring_free(r);
    }
    driver_free(d);
}
END_TEST

/* A driver that adds buffers as fast as they are used does not hold the hart for ever. */
static u64 endless_from;
static void endless_notify(VirtioDevice *d, unsigned queue)
{
    VirtQueue *q = virtio_queue(d, queue);
    VirtqElement *e;
    while ((e = virtq_pop(q, 0))) {
        u64 index = 0;
        bus_read(d->env.bus, endless_from + 2, 2, &index);
        bus_write(d->env.bus, endless_from + 2, 2, (u16)(index + 1));
        virtq_push(e, 0);
    }
}

START_TEST(endless_buffers)
{
    static VirtioClass class;
    class = echo_class;
    class.queue_notify = endless_notify;
    Driver *d = driver_new(&class, NULL, NULL);
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    Ring *r = ring_new(d, 0, 8);
    driver_go(d);
    endless_from = r->avail;
    u64 at = driver_alloc(d, 64);
    ring_add(r, (Piece[]){{at, 4}}, 1, 0);
    ring_kick(r);
    u16 before = (u16)driver_load(d, r->used + 2, 2);
    ck_assert_uint_gt(before, 8);
    /* It goes on in the main loop. */
    ck_assert(g_main_context_iteration(NULL, false));
    ck_assert_uint_gt((u16)driver_load(d, r->used + 2, 2), before);
    finish(d, r);
}
END_TEST

/* ---- Rings that make no sense --------------------------------------------------------------- */

static void desc(Ring *r, unsigned n, u64 addr, u32 len, u16 flags, u16 tag)
{
    Driver *d = r->driver;
    bool packed = d->features & BIT(RING_PACKED);
    u64 at = r->desc + 16u * n;
    driver_store(d, at, 8, addr);
    driver_store(d, at + 8, 4, len);
    driver_store(d, at + (packed ? 12 : 14), 2, tag);
    driver_store(d, at + (packed ? 14 : 12), 2, flags | (packed ? 1 << 7 : 0));
}

static const struct Bad {
    const char *name;
    bool packed, indirect;
    struct {
        u64 addr;
        u32 len;
        u16 flags, tag;
    } desc[3];
    u16 head, index;
} bad[] = {
    {"index jumps", .index = 9, .desc = {{DRIVER_RAM, 4, 0, 0}}},
    {"index goes back", .index = 0xffff, .desc = {{DRIVER_RAM, 4, 0, 0}}},
    {"head outside", .head = 8},
    {"head far outside", .head = 0xffff},
    {"next outside", .desc = {{DRIVER_RAM, 4, 1, 8}}},
    {"loop of one", .desc = {{DRIVER_RAM, 4, 1, 0}}},
    {"loop of two", .desc = {{DRIVER_RAM, 4, 1, 1}, {DRIVER_RAM, 4, 1, 0}}},
    {"loop of nothing", .desc = {{DRIVER_RAM, 0, 1, 0}}},
    {"address in a device", .desc = {{DRIVER_MMIO, 4, 0, 0}}},
    {"address nowhere", .desc = {{0x10, 4, 2, 0}}},
    {"address at the top", .desc = {{UINT64_MAX - 3, 8, 2, 0}}},
    {"longer than RAM", .desc = {{DRIVER_RAM, UINT32_MAX, 2, 0}}},
    {"end outside RAM", .desc = {{(u64)DRIVER_RAM + DRIVER_RAM_SIZE - 2, 4, 2, 0}}},
    {"read behind write", .desc = {{DRIVER_RAM, 4, 3, 1}, {DRIVER_RAM, 4, 0, 0}}},
    {"indirect not negotiated", .desc = {{DRIVER_RAM, 16, 4, 0}}},
    {"indirect and next", .indirect = true, .desc = {{DRIVER_RAM, 16, 5, 1}}},
    {"table of nothing", .indirect = true, .desc = {{DRIVER_RAM, 0, 4, 0}}},
    {"table of odd size", .indirect = true, .desc = {{DRIVER_RAM, 24, 4, 0}}},
    {"table nowhere", .indirect = true, .desc = {{0x1000, 16, 4, 0}}},
    {"table wraps", .indirect = true, .desc = {{UINT64_MAX - 15, 32, 4, 0}}},
    {"table in itself", .indirect = true, .desc = {{DRIVER_RAM + 0x100, 16, 4, 0}}},
    {"table that loops", .indirect = true, .desc = {{DRIVER_RAM + 0x200, 32, 4, 0}}},
    {"next outside the table", .indirect = true, .desc = {{DRIVER_RAM + 0x300, 16, 4, 0}}},
    {"packed chain of the whole ring and on", .packed = true,
     .desc = {{DRIVER_RAM, 4, 1, 0}, {DRIVER_RAM, 4, 1, 0}, {DRIVER_RAM, 4, 1, 0}}},
    {"packed, nowhere", .packed = true, .desc = {{0x10, 4, 2, 0}}},
    {"packed, read behind write", .packed = true,
     .desc = {{DRIVER_RAM, 4, 3, 1}, {DRIVER_RAM, 4, 0, 0}}},
    {"packed, indirect not negotiated", .packed = true, .desc = {{DRIVER_RAM, 16, 4, 0}}},
    {"packed, indirect and next", .packed = true, .indirect = true,
     .desc = {{DRIVER_RAM + 0x100, 16, 5, 0}}},
    {"packed, indirect at the end of a chain", .packed = true, .indirect = true,
     .desc = {{DRIVER_RAM, 4, 1, 0}, {DRIVER_RAM + 0x100, 16, 4, 0}}},
    {"packed, table nowhere", .packed = true, .indirect = true, .desc = {{0x1000, 16, 4, 0}}},
};

START_TEST(bad_rings_need_a_reset)
{
    const struct Bad *b = &bad[_i];
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    /* Tables: one that is indirect again, one that loops, one that leads outside. */
    driver_store(d, DRIVER_RAM + 0x100, 8, DRIVER_RAM + 0x100);
    driver_store(d, DRIVER_RAM + 0x108, 8, 16 | (u64)4 << 32);
    driver_store(d, DRIVER_RAM + 0x200, 8, DRIVER_RAM);
    driver_store(d, DRIVER_RAM + 0x208, 8, 4 | (u64)1 << 32 | (u64)1 << 48);
    driver_store(d, DRIVER_RAM + 0x210, 8, DRIVER_RAM);
    driver_store(d, DRIVER_RAM + 0x218, 8, 4 | (u64)1 << 32);
    driver_store(d, DRIVER_RAM + 0x300, 8, DRIVER_RAM);
    driver_store(d, DRIVER_RAM + 0x308, 8, 4 | (u64)1 << 32 | (u64)1 << 48);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | (b->packed ? BIT(RING_PACKED) : 0) |
                                      (b->indirect ? BIT(INDIRECT_DESC) : 0)));
    Ring *r = ring_new(d, 0, b->packed ? 3 : 8);
    driver_go(d);
    for (unsigned i = 0; i < ARRAY_LEN(b->desc); i++) {
        desc(r, i, b->desc[i].addr, b->desc[i].len, b->desc[i].flags, b->desc[i].tag);
    }
    if (!b->packed) {
        driver_store(d, r->avail + 4, 2, b->head);
        driver_store(d, r->avail + 2, 2, b->index ? b->index : 1);
    }
    driver_write(d, 0x50, 0);
    ck_assert_msg(driver_is_broken(d), "%s", b->name);
    ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_CONFIG);
    /* It is quiet until the reset, and works again after. */
    driver_write(d, 0x50, 0);
    driver_write(d, 0x50, 7);
    ck_assert(!d->line);
    ring_free(r);
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    r = ring_new(d, 0, 8);
    driver_go(d);
    u64 at = driver_alloc(d, 64);
    driver_store(d, at, 4, 0x12345678);
    ck_assert_uint_eq(ring_do(r, (Piece[]){{at, 4}, {at + 16, 4}}, 1, 1), 4);
    ck_assert_uint_eq(driver_load(d, at + 16, 4), 0x12345678);
    ring_free(r);
    driver_free(d);
}
END_TEST

/* A driver that offers a descriptor again while the device still has it. */
START_TEST(more_buffers_than_entries)
{
    Driver *d = driver_new(&echo_class, NULL, NULL);
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    Ring *r = ring_new(d, 1, 8);
    driver_go(d);
    desc(r, 0, DRIVER_RAM, 4, 0, 0);
    for (u16 i = 1; i <= 9; i++) {
        ck_assert(!driver_is_broken(d));
        driver_store(d, r->avail + 2, 2, i);
        driver_write(d, 0x50, 1);
        ck_assert_uint_eq(g_queue_get_length(&echo_of(d)->held), MIN(i, 8));
    }
    ck_assert(driver_is_broken(d));
    finish(d, r);
}
END_TEST

START_TEST(chain_over_what_the_device_has)
{
    Driver *d = driver_new(&echo_class, "packed=on", NULL);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | BIT(RING_PACKED)));
    Ring *r = ring_new(d, 1, 4);
    driver_go(d);
    ring_add(r, (Piece[]){{DRIVER_RAM, 4}, {DRIVER_RAM, 4}}, 1, 1);
    ring_kick(r);
    ck_assert_uint_eq(g_queue_get_length(&echo_of(d)->held), 1);
    desc(r, 2, DRIVER_RAM, 4, 1, 0);
    desc(r, 3, DRIVER_RAM, 4, 1, 0);
    desc(r, 0, DRIVER_RAM, 4, 0, 0); /* of the first buffer */
    driver_write(d, 0x50, 1);
    ck_assert(driver_is_broken(d));
    finish(d, r);
}
END_TEST

/* An interrupt that nobody has acknowledged does not outlive a reset. */
START_TEST(reset_lowers_the_line)
{
    Ring *r;
    Driver *d = start(0, 8, &r);
    for (unsigned i = 0; i < 2; i++) {
        ring_do(r, (Piece[]){{DRIVER_RAM, 4}}, 1, 0);
        ck_assert(d->line);
        if (i) {
            driver_machine_reset(d);
        } else {
            driver_reset(d);
        }
        ck_assert(!d->line);
        ck_assert_uint_eq(driver_read(d, 0x60), 0);
        ring_free(r);
        ck_assert(driver_negotiate(d, BIT(VERSION_1)));
        r = ring_new(d, 0, 8);
        driver_go(d);
        ck_assert(!d->line);
    }
    finish(d, r);
}
END_TEST

/* As many segments as fit, and one more. */
START_TEST(many_segments)
{
    Ring *r;
    Driver *d = start(_i ? 6 : 2, 8, &r);
    u64 at = driver_alloc(d, 64);
    Piece p[VIRTQ_MAX_SIZE + 1];
    for (unsigned i = 0; i < ARRAY_LEN(p); i++) {
        p[i] = (Piece){at, 1};
    }
    ck_assert_uint_eq(ring_do(r, p, VIRTQ_MAX_SIZE / 2, VIRTQ_MAX_SIZE / 2), VIRTQ_MAX_SIZE / 2);
    ring_add(r, p, VIRTQ_MAX_SIZE / 2, VIRTQ_MAX_SIZE / 2 + 1);
    ring_kick(r);
    ck_assert(driver_is_broken(d));
    finish(d, r);
}
END_TEST

/* Data and ring writes are reported for pages that hold code. */
static GArray *dirtied;
static void on_dirty(void *opaque G_GNUC_UNUSED, u64 page)
{
    g_array_append_val(dirtied, page);
}

START_TEST(writes_to_code_are_reported)
{
    Ring *r;
    Driver *d = start(_i, 8, &r);
    dirtied = g_array_new(false, false, sizeof(u64));
    d->free = ALIGN_UP(d->free, 4096);
    u64 at = driver_alloc(d, 5 * 4096);
    bus_set_dirty_callback(d->bus, on_dirty, NULL);
    for (unsigned i = 0; i < 5; i++) {
        bus_set_code_page(d->bus, at + i * 4096, true);
    }
    ring_do(r, (Piece[]){{at, 4100}, {at + 4096, 4}, {at + 2 * 4096, 8192}}, 1, 2);
    ck_assert_uint_eq(dirtied->len, 2); /* 4096 bytes into the second, none into the last */
    ck_assert_uint_eq(g_array_index(dirtied, u64, 0), at + 4096);
    ck_assert_uint_eq(g_array_index(dirtied, u64, 1), at + 2 * 4096);
    g_array_set_size(dirtied, 0);
    u64 ring = ways[_i].features & BIT(RING_PACKED) ? r->desc : r->used;
    bus_set_code_page(d->bus, ring, true);
    ring_do(r, (Piece[]){{at, 4}}, 1, 0);
    ck_assert_uint_ge(dirtied->len, 1);
    ck_assert_uint_eq(g_array_index(dirtied, u64, 0), ALIGN_DOWN(ring, 4096));
    g_array_free(dirtied, true);
    finish(d, r);
}
END_TEST

/* A driver that leaves VERSION_1 out. */
START_TEST(without_version_1)
{
    Driver *d = driver_new(&echo_class, NULL, NULL);
    ck_assert(driver_negotiate(d, 0));
    Ring *r = ring_new(d, 0, 8);
    driver_go(d);
    u64 at = driver_alloc(d, 64);
    ck_assert_uint_eq(ring_do(r, (Piece[]){{at, 4}, {at + 16, 4}}, 1, 1), 4);
    finish(d, r);
}
END_TEST

/* ---- Every class ---------------------------------------------------------------------------- */

START_TEST(classes)
{
    for (const VirtioClass *const *c = virtio_classes; *c; c++) {
        bool pci;
        g_autofree char *on_mmio = g_strconcat((*c)->name, "-device", NULL);
        g_autofree char *on_pci = g_strconcat((*c)->name, "-pci", NULL);
        g_autofree char *wrong = g_strconcat((*c)->name, "x", NULL);
        ck_assert_ptr_eq(virtio_class_find(on_mmio, &pci), *c);
        ck_assert(!pci);
        ck_assert_ptr_eq(virtio_class_find(on_pci, &pci), *c);
        ck_assert(pci);
        ck_assert_ptr_eq(virtio_class_find((*c)->name, &pci), *c);
        ck_assert(pci);
        ck_assert_ptr_null(virtio_class_find(wrong, &pci));
        ck_assert_uint_ge((*c)->instance_size, sizeof(VirtioDevice));
        ck_assert_uint_le((*c)->queue_count, VIRTIO_MAX_QUEUES);
        ck_assert_uint_le((*c)->config_size, VIRTIO_MAX_CONFIG);
        ck_assert((*c)->id != 0 && (*c)->help);
        /* Bits of queues and negotiation are the core's. */
        ck_assert_uint_eq((*c)->features & mask64(50) & ~mask64(24), 0);
        unsigned count;
        g_autofree PropDesc *props = virtio_props(*c, NULL, 0, &count);
        for (unsigned i = 0; i < count; i++) {
            for (unsigned j = 0; j < i; j++) {
                ck_assert_str_ne(props[i].name, props[j].name);
            }
        }
    }
}
END_TEST

START_TEST(misspelt_property)
{
    g_autoptr(GError) err = NULL;
    VirtioEnv env = {0};
    ck_assert_ptr_null(virtio_new(&virtio_rng_class, "maxbytes=1", NULL, 0, &env, &err));
    ck_assert(err && strstr(err->message, "max-bytes"));
}
END_TEST

/* ---- virtio-rng ----------------------------------------------------------------------------- */

START_TEST(rng_fills)
{
    Driver *d = driver_new(&virtio_rng_class, "packed=on", NULL);
    ck_assert_uint_eq(driver_read(d, 8), VIRTIO_ID_RNG);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[_i].features));
    Ring *r = ring_new(d, 0, 8);
    r->indirect = ways[_i].indirect;
    driver_go(d);
    u64 at = driver_alloc(d, 8192);
    u8 seen[256] = {0}, data[8192];
    ck_assert_uint_eq(ring_do(r, (Piece[]){{at, 4000}, {at + 4096, 4000}}, 0, 2), 8000);
    driver_get(d, at, data, sizeof(data));
    for (unsigned i = 0; i < 8192; i++) {
        seen[data[i]] = 1;
    }
    unsigned different = 0;
    for (unsigned i = 0; i < 256; i++) {
        different += seen[i];
    }
    ck_assert_uint_ge(different, 250);
    for (unsigned i = 4000; i < 4096; i++) {
        ck_assert_uint_eq(data[i] | data[4096 + i], 0);
    }
    /* A buffer with nothing to write comes back; a huge one in part. */
    ck_assert_uint_eq(ring_do(r, (Piece[]){{at, 4000}}, 1, 0), 0);
    u64 big = driver_alloc(d, 1 << 20);
    ck_assert_uint_eq(ring_do(r, (Piece[]){{big, 1 << 20}}, 0, 1), 64 << 10);
    finish(d, r);
}
END_TEST

START_TEST(rng_rate)
{
    Driver *d = driver_new(&virtio_rng_class, "max-bytes=100,period=20", NULL);
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    Ring *r = ring_new(d, 0, 8);
    driver_go(d);
    u64 at = driver_alloc(d, 64);
    s64 begin = g_get_monotonic_time();
    u32 got = 0;
    while (got < 320) {
        got += ring_do(r, (Piece[]){{at, 64}}, 0, 1);
    }
    ck_assert_int_ge(g_get_monotonic_time() - begin, 55000);
    finish(d, r);
}
END_TEST

/* ---- The power button ----------------------------------------------------------------------- */

static void assert_config(Driver *d, u8 select, u8 subselect, const void *data, u8 size)
{
    driver_set_config(d, 0, 1, select);
    driver_set_config(d, 1, 1, subselect);
    ck_assert_uint_eq(driver_config(d, 2, 1), size);
    for (unsigned i = 0; i < 128; i++) {
        ck_assert_uint_eq(driver_config(d, 8 + i, 1), i < size ? ((const u8 *)data)[i] : 0);
    }
}

START_TEST(button)
{
    static const u8 keys[15] = {[116 / 8] = 1 << 116 % 8}, ids[8] = {6, 0, 0, 0, 0, 0, 1, 0};
    static const u64 events[] = {0x1 | 116 << 16 | (u64)1 << 32, 0, 0x1 | 116 << 16, 0};
    Driver *d = driver_new(&virtio_button_class, "packed=on", NULL);
    ck_assert_uint_eq(driver_read(d, 8), VIRTIO_ID_INPUT);
    ck_assert(!virtio_button_press(d->virtio)); /* nobody there */
    assert_config(d, 1, 0, "Power Button", 12);
    assert_config(d, 3, 0, ids, 8);
    assert_config(d, 0x11, 1, keys, 15);
    for (unsigned subselect = 0; subselect < 32; subselect++) {
        assert_config(d, 0x10, subselect, NULL, 0);
        if (subselect != 1) {
            assert_config(d, 0x11, subselect, NULL, 0);
        }
        assert_config(d, 0x12, subselect, NULL, 0);
    }
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[_i].features));
    Ring *r = ring_new(d, 0, 8), *status = ring_new(d, 1, 8);
    r->indirect = ways[_i].indirect;
    ck_assert(!virtio_button_press(d->virtio));
    driver_go(d);
    /* Buffers come one by one, and are used in order. */
    u64 at = driver_alloc(d, 64);
    u16 id;
    u32 len;
    ck_assert(virtio_button_press(d->virtio));
    ck_assert(virtio_button_press(d->virtio)); /* the same, still */
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_uint_eq(ring_do(r, (Piece[]){{at + 8 * i, 8}}, 0, 1), 8);
        ck_assert_uint_eq(driver_load(d, at + 8 * i, 8), events[i]);
    }
    for (unsigned i = 0; i < 6; i++) {
        ring_add(r, (Piece[]){{at + 8 * i, 8}}, 0, 1);
        driver_store(d, at + 8 * i, 8, ~(u64)0);
    }
    ring_kick(r);
    ck_assert(!ring_get(r, &id, &len));
    driver_ack(d);
    ck_assert(virtio_button_press(d->virtio));
    ck_assert(d->line);
    for (unsigned i = 0; i < 6; i++) {
        ck_assert(ring_get(r, &id, &len) == (i < 4));
        ck_assert_uint_eq(driver_load(d, at + 8 * i, 8), i < 4 ? events[i] : ~(u64)0);
    }
    ck_assert_uint_eq(ring_do(status, (Piece[]){{at, 8}}, 1, 0), 0);
    driver_reset(d);
    ck_assert(!virtio_button_press(d->virtio));
    ring_free(status);
    finish(d, r);
}
END_TEST

/* ---- virtio-balloon ------------------------------------------------------------------------- */

START_TEST(bus_discards)
{
    Driver *d = driver_new(&virtio_rng_class, NULL, NULL);
    u64 at = DRIVER_RAM + 0x100000, last = (u64)DRIVER_RAM + DRIVER_RAM_SIZE - 4096;
    for (unsigned i = 0; i < 4; i++) {
        driver_store(d, at + 4096 * i, 8, 1);
        driver_store(d, at + 4096 * i + 4088, 8, 2);
    }
    driver_store(d, last, 8, 3);
    ck_assert_uint_eq(bus_discard(d->bus, at + 8, 8183), 0); /* only parts of pages */
    ck_assert_uint_eq(bus_discard(d->bus, at + 8, 3 * 4096), 2 * 4096);
    ck_assert_uint_eq(driver_load(d, at, 8), 1);
    ck_assert_uint_eq(driver_load(d, at + 4088, 8), 2);
    for (unsigned i = 1; i < 3; i++) {
        ck_assert_uint_eq(driver_load(d, at + 4096 * i, 8), 0);
        ck_assert_uint_eq(driver_load(d, at + 4096 * i + 4088, 8), 0);
    }
    ck_assert_uint_eq(driver_load(d, at + 4096 * 3, 8), 1);
    ck_assert_uint_eq(bus_discard(d->bus, last, 8192), 0);
    ck_assert_uint_eq(bus_discard(d->bus, 0, 4096), 0);
    ck_assert_uint_eq(bus_discard(d->bus, DRIVER_MMIO - 0x1000, 8192), 0);
    ck_assert_uint_eq(driver_load(d, last, 8), 3);
    ck_assert_uint_eq(bus_discard(d->bus, last, 4096), 4096);
    ck_assert_uint_eq(driver_load(d, last, 8), 0);
    driver_free(d);
}
END_TEST

START_TEST(balloon_inflates)
{
    Driver *d = driver_new(&virtio_balloon_class, "packed=on", NULL);
    ck_assert_uint_eq(driver_read(d, 8), VIRTIO_ID_BALLOON);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | 3 | ways[_i].features));
    Ring *inflate = ring_new(d, 0, 8), *deflate = ring_new(d, 1, 8), *stats = ring_new(d, 2, 8);
    inflate->indirect = deflate->indirect = ways[_i].indirect;
    driver_go(d);
    d->free = ALIGN_UP(d->free, 4096);
    u64 pages = driver_alloc(d, 8 * 4096), list = driver_alloc(d, 4096);
    /* Up, down, alone, and one that is no RAM. */
    static const u32 numbers[] = {1, 2, 3, 6, 5, 0};
    for (unsigned i = 0; i < 8; i++) {
        driver_store(d, pages + 4096 * i, 4, 0x55);
    }
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
        driver_store(d, list + 4 * i, 4, (pages >> 12) + numbers[i]);
    }
    driver_store(d, list + 4 * ARRAY_LEN(numbers), 4, 17);
    ring_do(inflate, (Piece[]){{list, 10}, {list + 10, 18}}, 2, 0);
    for (unsigned i = 0; i < 8; i++) {
        bool gone = i != 4 && i != 7;
        ck_assert_uint_eq(driver_load(d, pages + 4096 * i, 4), gone ? 0 : 0x55);
    }
    driver_store(d, pages, 4, 7);
    ring_do(deflate, (Piece[]){{list, 24}}, 1, 0);
    ck_assert_uint_eq(driver_load(d, pages, 4), 7);

    /* The target, and what the guest says about it. */
    driver_ack(d);
    virtio_balloon_set(d->virtio, DRIVER_RAM_SIZE - (1 << 20) + 1);
    ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_CONFIG);
    ck_assert_uint_eq(driver_config(d, 0, 4), 256);
    driver_set_config(d, 4, 4, 100);
    ck_assert_uint_eq(driver_config(d, 4, 4), 100);
    ck_assert_uint_eq(driver_config(d, 0, 4), 256);
    ck_assert_uint_eq(virtio_balloon_get(d->virtio), DRIVER_RAM_SIZE - 100 * 4096);
    driver_set_config(d, 4, 4, UINT32_MAX);
    ck_assert_uint_eq(virtio_balloon_get(d->virtio), 0);
    virtio_balloon_set(d->virtio, UINT64_MAX);
    ck_assert_uint_eq(driver_config(d, 0, 4), 0);

    /* Statistics: kept until newer ones are wanted. */
    u64 figures = driver_alloc(d, 64);
    u16 id;
    u32 len;
    driver_store(d, figures, 2, 4);
    driver_store(d, figures + 2, 8, 123456);
    driver_store(d, figures + 10, 2, 999);
    ring_add(stats, (Piece[]){{figures, 20}}, 1, 0);
    ring_kick(stats);
    ck_assert(!ring_get(stats, &id, &len));
    g_autoptr(GString) out = g_string_new(NULL);
    virtio_info(d->virtio, out);
    ck_assert_msg(strstr(out->str, "guest's free: 123456") != NULL, "%s", out->str);
    ck_assert(ring_get(stats, &id, &len));
    /* Two at once are against the rules. */
    ring_add(stats, (Piece[]){{figures, 20}}, 1, 0);
    ring_add(stats, (Piece[]){{figures, 20}}, 1, 0);
    ring_kick(stats);
    ck_assert(driver_is_broken(d));
    ring_free(inflate);
    ring_free(deflate);
    finish(d, stats);
}
END_TEST

/* Queue numbers: Linux's and the specification's. With a poison value pages have to stay. */
START_TEST(balloon_reports)
{
    for (u32 poison = 0; poison < 2; poison++) {
        Driver *d = driver_new(&virtio_balloon_class, "free-page-reporting=on", NULL);
        ck_assert(driver_negotiate(d, BIT(VERSION_1) | 2 | 1 << 4 | 1 << 5));
        ck_assert_uint_eq(d->features >> 4 & 3, 3);
        driver_set_config(d, 12, 4, poison);
        Ring *r = ring_new(d, (unsigned)_i, 8);
        driver_go(d);
        d->free = ALIGN_UP(d->free, 4096);
        u64 at = driver_alloc(d, 8 * 4096);
        for (unsigned i = 0; i < 8; i++) {
            driver_store(d, at + 4096 * i, 4, 0x55);
        }
        ring_do(r, (Piece[]){{at, 2 * 4096}, {at + 4 * 4096, 4096}}, 0, 2);
        for (unsigned i = 0; i < 8; i++) {
            bool gone = !poison && (i < 2 || i == 4);
            ck_assert_uint_eq(driver_load(d, at + 4096 * i, 4), gone ? 0 : 0x55);
        }
        finish(d, r);
    }
    Driver *d = driver_new(&virtio_balloon_class, NULL, NULL);
    ck_assert_uint_eq(driver_offered(d) >> 4 & 3, 0);
    driver_write(d, 0x30, (u32)_i);
    ck_assert_uint_eq(driver_read(d, 0x34), 0);
    driver_free(d);
}
END_TEST

/* ---- virtio-serial -------------------------------------------------------------------------- */

/* Two lines, each a pair of pipes: "a" and "b". */
typedef struct Lines {
    int in[2], out[2]; /* our ends: to the guest, from the guest */
    CharDev *chr[2];
} Lines;

static CharDev *find_line(void *opaque, const char *id, GError **err G_GNUC_UNUSED)
{
    Lines *l = opaque;
    return l->chr[id[0] - 'a'];
}

static void lines_open(Lines *l)
{
    for (unsigned i = 0; i < 2; i++) {
        int in[2], out[2];
        ck_assert(pipe(in) == 0 && pipe(out) == 0);
        l->chr[i] = char_new_fds(in[0], out[1], NULL, false);
        l->in[i] = in[1];
        l->out[i] = out[0];
    }
}

static void lines_close(Lines *l)
{
    for (unsigned i = 0; i < 2; i++) {
        char_free(l->chr[i]);
        close(l->in[i]);
        close(l->out[i]);
    }
}

/* Runs the main loop until the ring has a used buffer. */
static u32 wait_used(Ring *r, u16 *id)
{
    u32 len = 0;
    for (unsigned i = 0; !ring_get(r, id, &len); i++) {
        ck_assert_uint_lt(i, 5000);
        if (!g_main_context_iteration(NULL, false)) {
            g_usleep(1000);
        }
    }
    return len;
}

static void read_all(int fd, u8 *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = read(fd, data + done, n - done);
        ck_assert_int_gt(got, 0);
        done += (size_t)got;
    }
}

START_TEST(console_alone)
{
    Lines l;
    g_autoptr(GError) err = NULL;
    lines_open(&l);
    Driver *d = driver_new(&virtio_serial_class, "packed=on",
                           &(VirtioEnv){.char_find = find_line, .opaque = &l});
    ck_assert(virtio_serial_add_port(d->virtio, true, "chardev=a", &err));
    ck_assert_uint_eq(driver_read(d, 8), VIRTIO_ID_CONSOLE);
    ck_assert_uint_eq(driver_offered(d) & 7, 5); /* size, emergency write; one port */
    driver_set_config(d, 8, 4, 'E');
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | 1 | ways[_i].features));
    Ring *in = ring_new(d, 0, 8), *out = ring_new(d, 1, 8);
    in->indirect = out->indirect = ways[_i].indirect;
    driver_go(d);
    u64 at = driver_alloc(d, 4096);
    driver_put(d, at, "hello, world", 12);
    ring_do(out, (Piece[]){{at, 7}, {at + 7, 5}}, 2, 0);
    u8 data[64] = {0};
    read_all(l.out[0], data, 13);
    ck_assert_str_eq((char *)data, "Ehello, world");

    /* Input without a buffer waits for one; a small buffer takes a part. */
    ck_assert(write(l.in[0], "abcdef", 6) == 6);
    for (unsigned i = 0; i < 20; i++) {
        g_main_context_iteration(NULL, false);
        g_usleep(1000);
    }
    ck_assert_uint_eq(ring_do(in, (Piece[]){{at, 1}, {at + 16, 3}}, 0, 2), 4);
    ck_assert_uint_eq(ring_do(in, (Piece[]){{at + 32, 64}}, 0, 1), 2);
    driver_get(d, at, data, 64);
    ck_assert(data[0] == 'a' && memcmp(data + 16, "bcd", 3) == 0 &&
              memcmp(data + 32, "ef", 2) == 0);
    u16 id;
    u32 len;
    ring_add(in, (Piece[]){{at, 64}}, 0, 1);
    ring_kick(in);
    ck_assert(!ring_get(in, &id, &len));
    ck_assert(write(l.in[0], "x", 1) == 1);
    ck_assert_uint_eq(wait_used(in, &id), 1);
    /* A buffer for input that has no room. */
    ring_add(in, (Piece[]){{at, 64}}, 1, 0);
    ring_kick(in);
    ck_assert(driver_is_broken(d));
    ring_free(out);
    finish(d, in);
    lines_close(&l);
}
END_TEST

/* More output than the line takes: it stays in the guest's buffer, which comes back when all of it
 * is out. A reset forgets it. */
START_TEST(console_full)
{
    Lines l;
    g_autoptr(GError) err = NULL;
    enum { SIZE = 3 << 20 };
    lines_open(&l);
    Driver *d =
        driver_new(&virtio_serial_class, NULL, &(VirtioEnv){.char_find = find_line, .opaque = &l});
    ck_assert(virtio_serial_add_port(d->virtio, true, "chardev=a", &err));
    u8 *sent = g_malloc(SIZE), *got = g_malloc(SIZE);
    fill_pattern(sent, SIZE, 5);
    for (unsigned round = 0; round < 2; round++) {
        d->free = DRIVER_RAM + 0x10000;
        ck_assert(driver_negotiate(d, BIT(VERSION_1)));
        Ring *out = ring_new(d, 1, 8);
        driver_go(d);
        u64 at = driver_alloc(d, SIZE);
        driver_put(d, at, sent, SIZE);
        u16 id;
        u32 len;
        ring_add(out, (Piece[]){{at, 1}, {at + 1, SIZE - 1}}, 2, 0);
        ring_kick(out);
        g_usleep(10000);
        ck_assert(!ring_get(out, &id, &len));
        if (round == 0) {
            driver_reset(d);
            ck_assert_uint_eq(d->virtio->queues[1].in_use, 0);
            size_t before = 0; /* what the line had taken already */
            struct pollfd p = {.fd = l.out[0], .events = POLLIN};
            while (poll(&p, 1, 200) > 0) {
                before += (size_t)read(l.out[0], got, SIZE);
            }
            ck_assert_uint_lt(before, SIZE);
        } else {
            read_all(l.out[0], got, SIZE);
            ck_assert(memcmp(sent, got, SIZE) == 0);
            wait_used(out, &id);
        }
        ring_free(out);
    }
    driver_free(d);
    g_free(sent);
    g_free(got);
    lines_close(&l);
}
END_TEST

typedef struct Control {
    u32 id;
    u16 event, value;
    char more[56];
} Control;

/* The next control message, and its buffer back into the ring. */
static u32 next_message(Ring *control, u64 at, Control *c)
{
    u16 id;
    memset(c, 0, sizeof(*c));
    u32 len = wait_used(control, &id);
    driver_get(control->driver, at, c, sizeof(*c));
    ring_add(control, (Piece[]){{at, sizeof(*c)}}, 0, 1);
    ring_kick(control);
    return len;
}

static void say(Ring *control, u64 at, u32 id, u16 event, u16 value)
{
    Control c = {id, event, value, {0}};
    driver_put(control->driver, at, &c, 8);
    ring_do(control, (Piece[]){{at, 8}}, 1, 0);
}

START_TEST(serial_ports)
{
    Lines l;
    g_autoptr(GError) err = NULL;
    lines_open(&l);
    Driver *d = driver_new(&virtio_serial_class, "max_ports=4",
                           &(VirtioEnv){.char_find = find_line, .opaque = &l});
    ck_assert(virtio_serial_add_port(d->virtio, true, "chardev=a", &err));
    ck_assert(virtio_serial_add_port(d->virtio, false, "chardev=b,name=org.example,nr=2", &err));
    ck_assert(!virtio_serial_add_port(d->virtio, false, "nr=2", &err));
    g_clear_error(&err);
    ck_assert(!virtio_serial_add_port(d->virtio, false, "nr=4", &err));
    g_clear_error(&err);
    ck_assert(!virtio_serial_add_port(d->virtio, false, "nr=0", &err));
    g_clear_error(&err);
    ck_assert(!virtio_serial_add_port(d->virtio, false, "chardv=b", &err));
    ck_assert_uint_eq(driver_offered(d) & 7, 7);
    ck_assert_uint_eq(driver_config(d, 4, 4), 4);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | 3));
    Ring *in = ring_new(d, 2, 8), *out = ring_new(d, 3, 8);
    Ring *port_in = ring_new(d, 6, 8), *port_out = ring_new(d, 7, 8);
    driver_go(d);
    u64 from = driver_alloc(d, 64), to = driver_alloc(d, 64), data = driver_alloc(d, 64);
    Control c;
    ring_add(in, (Piece[]){{from, sizeof(Control)}}, 0, 1);
    ring_kick(in);
    say(out, to, 0, 0, 1); /* DEVICE_READY */
    static const u32 ports[] = {0, 2};
    for (unsigned i = 0; i < 2; i++) {
        next_message(in, from, &c);
        ck_assert(c.id == ports[i] && c.event == 1);
    }
    say(out, to, 0, 3, 1); /* PORT_READY */
    next_message(in, from, &c);
    ck_assert(c.id == 0 && c.event == 4 && c.value == 1);
    next_message(in, from, &c);
    ck_assert(c.id == 0 && c.event == 6 && c.value == 1);
    say(out, to, 2, 3, 1);
    ck_assert_uint_eq(next_message(in, from, &c), 8 + strlen("org.example"));
    ck_assert(c.id == 2 && c.event == 7);
    ck_assert_str_eq(c.more, "org.example");
    next_message(in, from, &c);
    ck_assert(c.id == 2 && c.event == 6 && c.value == 1);

    /* Bytes flow while the guest has it open. */
    u16 id;
    u32 len;
    ring_add(port_in, (Piece[]){{data, 16}}, 0, 1);
    ring_kick(port_in);
    ck_assert(write(l.in[1], "in", 2) == 2);
    for (unsigned i = 0; i < 20; i++) {
        g_main_context_iteration(NULL, false);
        g_usleep(1000);
    }
    ck_assert(!ring_get(port_in, &id, &len));
    say(out, to, 2, 6, 1); /* PORT_OPEN */
    ck_assert_uint_eq(wait_used(port_in, &id), 2);
    driver_put(d, data, "out", 3);
    ring_do(port_out, (Piece[]){{data, 3}}, 1, 0);
    u8 got[4] = {0};
    read_all(l.out[1], got, 3);
    ck_assert_str_eq((char *)got, "out");

    /* Nonsense is passed over; a driver that takes no messages holds none of our memory for ever.
     */
    say(out, to, 99, 3, 1);
    say(out, to, 1, 3, 1);
    say(out, to, 2, 99, 1);
    for (unsigned i = 0; i < 500; i++) {
        say(out, to, 0, 3, 1);
    }
    ck_assert(!driver_is_broken(d));
    ring_free(in);
    ring_free(out);
    ring_free(port_in);
    finish(d, port_out);
    lines_close(&l);
}
END_TEST

static u32 terminal_size(Driver *d)
{
    return driver_config(d, 0, 4);
}

START_TEST(console_resizes)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    ck_assert(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    struct winsize size = {.ws_col = 132, .ws_row = 43};
    ck_assert(slave >= 0 && ioctl(slave, TIOCSWINSZ, &size) == 0);
    g_autoptr(GError) err = NULL;
    Lines l = {.chr = {char_new_fds(slave, slave, NULL, false)}};
    Driver *d =
        driver_new(&virtio_serial_class, NULL, &(VirtioEnv){.char_find = find_line, .opaque = &l});
    ck_assert(virtio_serial_add_port(d->virtio, true, "chardev=a", &err));
    ck_assert_uint_eq(terminal_size(d), 132 | 43 << 16);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | 1));
    driver_go(d);
    size.ws_col = 80;
    ck_assert(ioctl(slave, TIOCSWINSZ, &size) == 0);
    raise(SIGWINCH);
    for (unsigned i = 0; i < 2000 && !d->line; i++) {
        g_main_context_iteration(NULL, false);
        g_usleep(1000);
    }
    ck_assert_uint_eq(driver_ack(d), VIRTIO_ISR_CONFIG);
    ck_assert_uint_eq(terminal_size(d), 80 | 43 << 16);
    driver_free(d);
    char_free(l.chr[0]);
    close(slave);
    close(master);
}
END_TEST

/* test_device_virtio [pci]: over the mmio transport, or over PCI. */
int main(int argc, char **argv)
{
    driver_over_pci = argc > 1 && strcmp(argv[1], "pci") == 0;
    Suite *s = suite_create("virtio");
    TCase *t = tcase_create("transport");
    if (!driver_over_pci) { /* test_pci.c has the other's */
        tcase_add_test(t, registers);
        tcase_add_test(t, queue_setup);
    }
    tcase_add_test(t, configuration);
    tcase_add_test(t, negotiation);
    tcase_add_test(t, without_version_1);
    suite_add_tcase(s, t);

    t = tcase_create("rings");
    int n = ARRAY_LEN(ways);
    tcase_add_loop_test(t, buffers_come_back, 0, n);
    tcase_add_loop_test(t, several_at_once_and_out_of_order, 0, n);
    tcase_add_loop_test(t, unpop, 0, n);
    tcase_add_loop_test(t, interrupts_are_suppressed, 0, n);
    tcase_add_loop_test(t, notifications_are_suppressed, 0, n);
    tcase_add_loop_test(t, buffers_before_driver_ok, 0, n);
    tcase_add_loop_test(t, reset_in_mid_flight, 0, n);
    tcase_add_loop_test(t, writes_to_code_are_reported, 0, n);
    tcase_add_loop_test(t, bad_rings_need_a_reset, 0, ARRAY_LEN(bad));
    tcase_add_loop_test(t, many_segments, 0, 2);
    tcase_add_test(t, more_buffers_than_entries);
    tcase_add_test(t, chain_over_what_the_device_has);
    tcase_add_test(t, reset_lowers_the_line);
    tcase_add_test(t, endless_buffers);
    suite_add_tcase(s, t);

    t = tcase_create("classes");
    tcase_add_test(t, classes);
    tcase_add_test(t, misspelt_property);
    tcase_add_loop_test(t, rng_fills, 0, n);
    tcase_add_test(t, rng_rate);
    tcase_add_loop_test(t, button, 0, n);
    tcase_add_test(t, bus_discards);
    tcase_add_loop_test(t, balloon_inflates, 0, n);
    tcase_add_loop_test(t, balloon_reports, 3, 5);
    tcase_add_loop_test(t, console_alone, 0, n);
    tcase_add_test(t, console_full);
    tcase_add_test(t, serial_ports);
    tcase_add_test(t, console_resizes);
    suite_add_tcase(s, t);

    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
