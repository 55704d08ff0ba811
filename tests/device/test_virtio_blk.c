/*
 * virtio-blk as a driver sees it: every request type over every kind of ring against a model of
 * the disk, requests that make no sense, and resets while requests are under way.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/block/block.h"
#include "devices/virtio/devices.h"
#include "tests/device/virtio_driver.h"

#define BIT(n) VIRTIO_BIT(VIRTIO_F_##n)

enum { KIB = 1024, MIB = 1024 * KIB, DISK = 4 * MIB, SECTOR = 512 };
enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };
enum { F_SEG_MAX = 2, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9, F_TOPOLOGY = 10, F_WCE = 11, F_MQ = 12,
       F_DISCARD = 13, F_ZEROES = 14 };
#define ALL_BLK (VIRTIO_BIT(16) - 1)

static const struct Way {
    const char *name;
    u64 features;
    bool indirect;
} ways[] = {
    {"split", 0, false},
    {"split, both", BIT(EVENT_IDX) | BIT(INDIRECT_DESC), true},
    {"packed", BIT(RING_PACKED), false},
    {"packed, both", BIT(RING_PACKED) | BIT(EVENT_IDX) | BIT(INDIRECT_DESC), true},
};

/* ---- The host's system calls ---------------------------------------------------------------- */

static _Atomic unsigned syncs, dsync_writes, delay; /* microseconds */
static _Atomic int write_error;

int fdatasync(int fd)
{
    syncs++;
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    dsync_writes += (flags & RWF_DSYNC) != 0;
    if (delay) {
        g_usleep(delay);
    }
    if (write_error) {
        errno = write_error;
        return -1;
    }
    return syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
}

/* Nothing is in memory while there is a delay. */
ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    if (delay && flags & RWF_NOWAIT) {
        errno = EAGAIN;
        return -1;
    }
    if (delay) {
        g_usleep(delay);
    }
    return syscall(SYS_preadv2, fd, iov, n, offset, 0, flags);
}

/* ---- A disk --------------------------------------------------------------------------------- */

static char *image_path;
static Block *block;
static u8 model[DISK];

static void pattern(u8 *bytes, u64 n, u32 seed)
{
    for (u64 i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (u8)(seed >> 24);
    }
}

static void setup(void)
{
    g_autofree char *here = g_get_current_dir();
    image_path = g_build_filename(here, "test-virtio-blk-XXXXXX", NULL);
    int fd = g_mkstemp(image_path);
    pattern(model, DISK, 1);
    ck_assert_int_eq(write(fd, model, DISK), DISK);
    close(fd);
}

static void teardown(void)
{
    unlink(image_path);
    g_free(image_path);
}

static Block *find(void *opaque G_GNUC_UNUSED, const char *id, GError **err)
{
    if (strcmp(id, "d0") == 0) {
        return block;
    }
    *err = g_error_new(g_quark_from_static_string("test"), 1, "there is no drive '%s'", id);
    return NULL;
}

static const VirtioEnv env = {.block_find = find};

static bool try_open(const char *more)
{
    BlockDrive drive;
    g_autofree char *text =
        g_strdup_printf("file=%s,format=raw,id=d0,if=none,%s", image_path, more);
    ck_assert(block_drive_parse(text, &drive, NULL));
    block = block_open(&drive, NULL);
    block_drive_clear(&drive);
    return block != NULL;
}

static void open_disk(const char *more)
{
    ck_assert(try_open(more));
}

static Driver *disk_new(const char *drive, const char *device)
{
    open_disk(drive);
    g_autofree char *text = g_strdup_printf("drive=d0,packed=on,%s", device);
    return driver_new(&virtio_blk_class, text, &env);
}

static Driver *disk_start(const char *drive, const char *device, int way, Ring **r)
{
    Driver *d = disk_new(drive, device);
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | BIT(RING_RESET) | ALL_BLK | ways[way].features));
    *r = ring_new(d, 0, 0);
    (*r)->indirect = ways[way].indirect;
    driver_go(d);
    return d;
}

static void disk_end(Driver *d, Ring *r)
{
    ring_free(r);
    driver_free(d);
    block_close(block);
}

typedef struct Header {
    u32 type, reserved;
    u64 sector;
} Header;

typedef struct Range {
    u64 sector;
    u32 sectors, flags;
} Range;

enum { PENDING = 0xee };

/* Guest memory of one request: header, status, data. */
typedef struct Request {
    u64 header, status, data;
} Request;

static Request request_new(Driver *d, u64 room)
{
    Request q = {driver_alloc(d, 16), driver_alloc(d, 1), driver_alloc(d, room)};
    return q;
}

static void set_header(Driver *d, const Request *q, u32 type, u64 sector)
{
    const Header h = {type, 0, sector};
    driver_put(d, q->header, &h, sizeof(h));
    driver_store(d, q->status, 1, PENDING);
}

/* One request in the usual three pieces; returns the status. */
static u8 disk_do(Ring *r, const Request *q, u32 type, u64 sector, u32 bytes)
{
    Driver *d = r->driver;
    const bool out = type != IN && type != GET_ID;
    const u64 free = d->free;
    set_header(d, q, type, sector);
    const Piece pieces[] = {{q->header, 16}, {q->data, bytes}, {q->status, 1}};
    const Piece none[] = {{q->header, 16}, {q->status, 1}};
    const u32 len = bytes ? ring_do(r, pieces, 1 + out, 2 - out) : ring_do(r, none, 1, 1);
    ck_assert_uint_eq(len, 1 + (out ? 0 : bytes));
    d->free = free; /* tables */
    return (u8)driver_load(d, q->status, 1);
}

static void check_image(void)
{
    g_autofree char *now = NULL;
    gsize length;
    ck_assert(g_file_get_contents(image_path, &now, &length, NULL));
    ck_assert_uint_eq(length, DISK);
    ck_assert(memcmp(now, model, DISK) == 0);
}

/* ---- Tests ---------------------------------------------------------------------------------- */

START_TEST(configuration)
{
    Driver *d = disk_new("discard=unmap", "num-queues=4,physical_block_size=4096,opt_io_size=64K,"
                                          "min_io_size=4K,serial=ABC");
    const u64 offered = driver_offered(d) & ALL_BLK;
    ck_assert_uint_eq(offered, VIRTIO_BIT(F_SEG_MAX) | VIRTIO_BIT(F_BLK_SIZE) |
                                   VIRTIO_BIT(F_FLUSH) | VIRTIO_BIT(F_TOPOLOGY) |
                                   VIRTIO_BIT(F_WCE) | VIRTIO_BIT(F_MQ) | VIRTIO_BIT(F_DISCARD) |
                                   VIRTIO_BIT(F_ZEROES));
    ck_assert_uint_eq(driver_config(d, 0, 4), DISK / SECTOR);
    ck_assert_uint_eq(driver_config(d, 4, 4), 0);
    ck_assert_uint_eq(driver_config(d, 12, 4), 254);
    ck_assert_uint_eq(driver_config(d, 20, 4), 512);
    ck_assert_uint_eq(driver_config(d, 24, 1), 3);
    ck_assert_uint_eq(driver_config(d, 26, 2), 8);
    ck_assert_uint_eq(driver_config(d, 28, 4), 128);
    ck_assert_uint_eq(driver_config(d, 32, 1), 1);
    ck_assert_uint_eq(driver_config(d, 34, 2), 4);
    ck_assert_uint_gt(driver_config(d, 36, 4), 0);
    ck_assert_uint_gt(driver_config(d, 40, 4), 1);
    ck_assert_uint_eq(driver_config(d, 44, 4), 8);
    ck_assert_uint_gt(driver_config(d, 48, 4), 0);
    ck_assert_uint_eq(driver_config(d, 56, 1), 1);
    driver_free(d);
    block_close(block);

    d = disk_new("readonly=on", "config-wce=off");
    ck_assert_uint_eq(driver_offered(d) & ALL_BLK,
                      VIRTIO_BIT(F_SEG_MAX) | VIRTIO_BIT(F_RO) | VIRTIO_BIT(F_BLK_SIZE) |
                          VIRTIO_BIT(F_FLUSH) | VIRTIO_BIT(F_TOPOLOGY));
    ck_assert_uint_eq(driver_config(d, 36, 4), 0);
    driver_free(d);
    block_close(block);
}
END_TEST

static const struct {
    const char *text, *says;
} wrong[] = {
    {"", "there is no drive="},
    {"drive=d1", "there is no drive 'd1'"},
    {"drive=d0,serial=123456789012345678901", "longer than 20 bytes"},
    {"drive=d0,queue-size=100", "power of two"},
    {"drive=d0,logical_block_size=4096", "multiples of logical_block_size=4096"},
    {"drive=d0,num-queues=65", "1 to 64"},
    {"drive=d0,sreial=1", "the nearest is 'serial'"},
};

START_TEST(wrong_properties)
{
    g_autoptr(GError) err = NULL;
    open_disk("");
    ck_assert_ptr_null(virtio_new(&virtio_blk_class, wrong[_i].text, NULL, 0, &env, &err));
    ck_assert_msg(strstr(err->message, wrong[_i].says) != NULL, "%s", err->message);
    /* Nothing is left of it: another can have the drive. */
    VirtioDevice *v = virtio_new(&virtio_blk_class, "drive=d0", NULL, 0, &env, NULL);
    ck_assert_ptr_nonnull(v);
    g_clear_error(&err);
    ck_assert_ptr_null(virtio_new(&virtio_blk_class, "drive=d0", NULL, 0, &env, &err));
    virtio_free(v);
    block_close(block);
}
END_TEST

START_TEST(each_type)
{
    Ring *r;
    Driver *d = disk_start("serial=from-drive", "", _i, &r);
    static u8 data[64 * KIB], got[64 * KIB];
    Request q = request_new(d, sizeof(data));
    ck_assert_uint_eq(disk_do(r, &q, IN, 8, 4096), 0);
    driver_get(d, q.data, got, 4096);
    ck_assert_mem_eq(got, model + 8 * SECTOR, 4096);

    pattern(data, sizeof(data), 3);
    driver_put(d, q.data, data, sizeof(data));
    ck_assert_uint_eq(disk_do(r, &q, OUT, 100, sizeof(data)), 0);
    memcpy(model + 100 * SECTOR, data, sizeof(data));
    syncs = 0;
    ck_assert_uint_eq(disk_do(r, &q, FLUSH, 0, 0), 0);
    ck_assert_uint_eq(syncs, 1);
    memset(got, 0, sizeof(got));
    driver_put(d, q.data, got, sizeof(got));
    ck_assert_uint_eq(disk_do(r, &q, IN, 100, sizeof(data)), 0);
    driver_get(d, q.data, got, sizeof(got));
    ck_assert_mem_eq(got, data, sizeof(got));

    ck_assert_uint_eq(disk_do(r, &q, GET_ID, 0, 20), 0);
    driver_get(d, q.data, got, 20);
    ck_assert_mem_eq(got, "from-drive\0\0\0\0\0\0\0\0\0\0", 20);
    ck_assert_uint_eq(disk_do(r, &q, GET_ID, 0, 3), 0);

    const Range ranges[] = {{1000, 16, 1}, {2000, 8, 0}, {3000, 0, 1}, {DISK / SECTOR - 8, 8, 1}};
    driver_put(d, q.data, ranges, sizeof(ranges));
    ck_assert_uint_eq(disk_do(r, &q, ZEROES, 0, sizeof(ranges)), 0);
    for (unsigned i = 0; i < ARRAY_LEN(ranges); i++) {
        memset(model + ranges[i].sector * SECTOR, 0, ranges[i].sectors * SECTOR);
    }
    const Range holes[] = {{4096, 2048, 0}, {2048, 1024, 0}};
    driver_put(d, q.data, holes, sizeof(holes));
    ck_assert_uint_eq(disk_do(r, &q, DISCARD, 0, sizeof(holes)), 0);
    memset(model + 4096 * SECTOR, 0, 2048 * SECTOR); /* so it is on files */
    memset(model + 2048 * SECTOR, 0, 1024 * SECTOR);
    ck_assert(!driver_is_broken(d));
    disk_end(d, r);
    check_image();
}
END_TEST

/* Header, data and status may be cut anywhere (2.7.4.3). */
START_TEST(any_layout)
{
    Ring *r;
    Driver *d = disk_start("", "", _i, &r);
    u8 data[1024], got[1025];
    Request q = request_new(d, 2048);
    pattern(data, sizeof(data), 5);
    /* One piece for header and data to write, odd cuts of both. */
    set_header(d, &q, OUT, 40);
    u8 whole[16 + 1024];
    driver_get(d, q.header, whole, 16);
    memcpy(whole + 16, data, 1024);
    driver_put(d, q.data, whole, sizeof(whole));
    ring_do(r, (Piece[]){{q.data, 7}, {q.data + 7, 10}, {q.data + 17, 1023}, {q.status, 1}}, 3, 1);
    ck_assert_uint_eq(driver_load(d, q.status, 1), 0);
    memcpy(model + 40 * SECTOR, data, 1024);
    /* Data and status to read in one piece, and cut oddly. */
    set_header(d, &q, IN, 40);
    driver_store(d, q.data + 1024, 1, PENDING);
    ck_assert_uint_eq(ring_do(r, (Piece[]){{q.header, 16}, {q.data, 1025}}, 1, 1), 1025);
    driver_get(d, q.data, got, 1025);
    ck_assert_mem_eq(got, data, 1024);
    ck_assert_uint_eq(got[1024], 0);
    driver_store(d, q.data + 1024, 1, PENDING);
    ring_do(r, (Piece[]){{q.header, 16}, {q.data, 511}, {q.data + 511, 512}, {q.data + 1023, 2}}, 1,
            3);
    driver_get(d, q.data, got, 1025);
    ck_assert_mem_eq(got, data, 1024);
    ck_assert_uint_eq(got[1024], 0);
    disk_end(d, r);
    check_image();
}
END_TEST

enum { LANES = 16, ROOM = 64 * KIB };

/* Many requests under way, each lane on its own part of the disk. */
START_TEST(many_under_way)
{
    static const char *const drives[] = {"aio=threads", "aio=threads,cache=none",
                                         "aio=threads,snapshot=on"};
    Ring *r;
    Driver *d = disk_start(drives[_i % 3], "", _i / 3, &r);
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
    static u8 got[ROOM], before[DISK];
    memcpy(before, model, DISK);
    struct {
        Request q;
        u32 type;
        u64 sector;
        u32 bytes;
        u16 id;
        bool busy;
    } lanes[LANES] = {0};
    for (unsigned i = 0; i < LANES; i++) {
        lanes[i].q = request_new(d, ROOM);
    }
    const u64 free = d->free;
    u64 tables = 0;
    for (unsigned round = 0, busy = 0; round < 300 || busy; round++) {
        for (unsigned i = 0; i < LANES && round < 300; i++) {
            if (lanes[i].busy) {
                continue;
            }
            if (++tables % 64 == 0) {
                d->free = free; /* far fewer are in use */
            }
            static const u32 types[] = {IN, IN, OUT, OUT, ZEROES, FLUSH};
            const u32 n = 1 + (u32)g_rand_int_range(rand, 0, ROOM / SECTOR);
            const u32 lane_sectors = DISK / SECTOR / LANES;
            const u64 at = (u64)g_rand_int_range(rand, 0, (gint32)(lane_sectors - n + 1));
            lanes[i].type = types[g_rand_int_range(rand, 0, ARRAY_LEN(types))];
            lanes[i].sector = i * lane_sectors + at;
            lanes[i].bytes = n * SECTOR;
            const Request *q = &lanes[i].q;
            set_header(d, q, lanes[i].type, lanes[i].sector);
            Piece p[5] = {{q->header, 16}};
            u8 *place = model + lanes[i].sector * SECTOR;
            unsigned out = 1, in = 1;
            if (lanes[i].type == ZEROES) {
                const Range range = {lanes[i].sector, n, round & 1};
                driver_put(d, q->data, &range, sizeof(range));
                p[1] = (Piece){q->data, sizeof(range)};
                out = 2;
                memset(place, 0, lanes[i].bytes);
            } else if (lanes[i].type != FLUSH) {
                const u32 first = MIN(lanes[i].bytes, (round % 5 + 1) * SECTOR);
                unsigned pieces = 1;
                p[1] = (Piece){q->data, first};
                if (first < lanes[i].bytes) {
                    p[2] = (Piece){q->data + first, lanes[i].bytes - first};
                    pieces = 2;
                }
                *(lanes[i].type == OUT ? &out : &in) += pieces;
            }
            if (lanes[i].type == OUT) {
                pattern(place, lanes[i].bytes, round * 64 + i);
                driver_put(d, q->data, place, lanes[i].bytes);
            }
            p[out + in - 1] = (Piece){q->status, 1};
            lanes[i].id = ring_add(r, p, out, in);
            lanes[i].busy = true;
            busy++;
        }
        ring_kick(r);
        u16 id;
        u32 len;
        const gint64 end = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
        while (!ring_get(r, &id, &len)) {
            ck_assert_msg(g_get_monotonic_time() < end, "a request was lost");
            g_usleep(50);
        }
        unsigned i = 0;
        while (!lanes[i].busy || lanes[i].id != id) {
            ck_assert_uint_lt(++i, LANES);
        }
        ck_assert_uint_eq(driver_load(d, lanes[i].q.status, 1), 0);
        if (lanes[i].type == IN) {
            driver_get(d, lanes[i].q.data, got, lanes[i].bytes);
            ck_assert(memcmp(got, model + lanes[i].sector * SECTOR, lanes[i].bytes) == 0);
        }
        lanes[i].busy = false;
        busy--;
    }
    ck_assert(!driver_is_broken(d));
    disk_end(d, r);
    if (strstr(drives[_i % 3], "snapshot")) {
        memcpy(model, before, DISK);
    }
    check_image();
}
END_TEST

static const struct Odd {
    const char *name;
    u32 type;
    u64 sector;
    u32 bytes;
    Range ranges[2];
    u8 status;
} odd[] = {
    {"read behind the end", IN, DISK / SECTOR, 512, .status = 1},
    {"read across the end", IN, DISK / SECTOR - 1, 1024, .status = 1},
    {"sector that overflows", IN, UINT64_MAX, 512, .status = 1},
    {"sector times 512 overflows", IN, (u64)1 << 55, 512, .status = 1},
    {"write behind the end", OUT, DISK / SECTOR, 512, .status = 1},
    {"write that overflows", OUT, UINT64_MAX / 512, 1024, .status = 1},
    {"read of half a sector", IN, 0, 100, .status = 1},
    {"write of half a sector", OUT, 0, 700, .status = 1},
    {"unknown type", 77, 0, 512, .status = 2},
    {"legacy SCSI command", 2, 0, 512, .status = 2},
    {"secure erase", 14, 0, 16, .ranges = {{0, 8, 0}}, .status = 2},
    {"discard of nothing", DISCARD, 0, 0, .status = 1},
    {"discard of half a range", DISCARD, 0, 24, .ranges = {{0, 8, 0}}, .status = 1},
    {"discard behind the end", DISCARD, 0, 16, .ranges = {{DISK / SECTOR, 1, 0}}, .status = 1},
    {"discard that overflows", DISCARD, 0, 16, .ranges = {{UINT64_MAX, 8, 0}}, .status = 1},
    {"discard of too much", DISCARD, 0, 16, .ranges = {{0, UINT32_MAX, 0}}, .status = 1},
    {"discard with unmap", DISCARD, 0, 16, .ranges = {{0, 8, 1}}, .status = 2},
    {"discard with a flag", DISCARD, 0, 16, .ranges = {{0, 8, 2}}, .status = 2},
    {"zeroes with a flag", ZEROES, 0, 16, .ranges = {{0, 8, 0x80000000}}, .status = 2},
    {"zeroes behind the end", ZEROES, 0, 16, .ranges = {{DISK / SECTOR - 4, 8, 1}}, .status = 1},
    {"second range is wrong", ZEROES, 0, 32, .ranges = {{0, 0, 1}, {~(u64)0, 8, 1}}, .status = 1},
    {"4096 ranges", DISCARD, 0, 65536, .status = 1},
};

START_TEST(odd_requests)
{
    Ring *r;
    Driver *d = disk_start("", "", _i, &r);
    Request q = request_new(d, 65536);
    for (unsigned i = 0; i < ARRAY_LEN(odd); i++) {
        driver_put(d, q.data, odd[i].ranges, sizeof(odd[i].ranges));
        const u8 status = disk_do(r, &q, odd[i].type, odd[i].sector, odd[i].bytes);
        ck_assert_msg(status == odd[i].status, "%s: %u", odd[i].name, status);
    }
    ck_assert(!driver_is_broken(d));
    ck_assert_uint_eq(block_stats(block).errors, 0);
    disk_end(d, r);
    check_image();
}
END_TEST

START_TEST(broken_requests)
{
    static const struct {
        u32 out, in;
    } shapes[] = {{15, 1}, {16, 0}, {0, 17}, {1, 512}};
    for (unsigned i = 0; i < ARRAY_LEN(shapes); i++) {
        Ring *r;
        Driver *d = disk_start("", "", _i, &r);
        Request q = request_new(d, 1024);
        Piece p[2];
        unsigned n = 0;
        if (shapes[i].out) {
            p[n++] = (Piece){q.header, shapes[i].out};
        }
        if (shapes[i].in) {
            p[n++] = (Piece){q.data, shapes[i].in};
        }
        ring_add(r, p, shapes[i].out != 0, shapes[i].in != 0);
        ring_kick(r);
        ck_assert(driver_is_broken(d));
        /* A reset heals. */
        driver_reset(d);
        ring_free(r);
        ck_assert(driver_negotiate(d, BIT(VERSION_1) | ways[_i].features));
        r = ring_new(d, 0, 0);
        driver_go(d);
        ck_assert_uint_eq(disk_do(r, &q, IN, 0, 512), 0);
        disk_end(d, r);
    }
}
END_TEST

START_TEST(read_only)
{
    Ring *r;
    Driver *d = disk_start("readonly=on", "", 0, &r);
    Request q = request_new(d, 4096);
    const Range range = {0, 8, 0};
    driver_put(d, q.data, &range, sizeof(range));
    ck_assert_uint_eq(disk_do(r, &q, OUT, 0, 512), 1);
    ck_assert_uint_eq(disk_do(r, &q, DISCARD, 0, 16), 2);
    ck_assert_uint_eq(disk_do(r, &q, ZEROES, 0, 16), 2);
    ck_assert_uint_eq(disk_do(r, &q, IN, 0, 512), 0);
    ck_assert_uint_eq(disk_do(r, &q, FLUSH, 0, 0), 0);
    disk_end(d, r);
    check_image();
}
END_TEST

START_TEST(large_blocks)
{
    Ring *r;
    Driver *d = disk_start("", "logical_block_size=4096,physical_block_size=4096", 0, &r);
    Request q = request_new(d, 8192);
    ck_assert_uint_eq(driver_config(d, 20, 4), 4096);
    ck_assert_uint_eq(disk_do(r, &q, IN, 8, 4096), 0);
    ck_assert_uint_eq(disk_do(r, &q, IN, 4, 4096), 1);
    ck_assert_uint_eq(disk_do(r, &q, IN, 8, 512), 1);
    disk_end(d, r);
}
END_TEST

START_TEST(host_error)
{
    Ring *r;
    Driver *d = disk_start("aio=threads", "", 0, &r);
    Request q = request_new(d, 4096);
    write_error = ENOSPC;
    ck_assert_uint_eq(disk_do(r, &q, OUT, 0, 4096), 1);
    write_error = 0;
    ck_assert_uint_eq(disk_do(r, &q, IN, 0, 4096), 0);
    ck_assert_uint_eq(block_stats(block).errors, 1);
    disk_end(d, r);
    check_image();
}
END_TEST

START_TEST(write_cache)
{
    Ring *r;
    Driver *d = disk_start("aio=threads", "", 0, &r);
    Request q = request_new(d, 512);
    ck_assert_uint_eq(driver_config(d, 32, 1), 1);
    ck_assert_uint_eq(disk_do(r, &q, OUT, 0, 512), 0);
    ck_assert_uint_eq(dsync_writes, 0);
    driver_set_config(d, 32, 1, 0);
    ck_assert_uint_eq(driver_config(d, 32, 1), 0);
    ck_assert_uint_eq(disk_do(r, &q, OUT, 0, 512), 0);
    ck_assert_uint_eq(dsync_writes, 1);
    driver_set_config(d, 32, 1, 7); /* no such value */
    driver_set_config(d, 0, 4, 7);  /* no such field */
    ck_assert_uint_eq(driver_config(d, 32, 1), 0);
    ck_assert_uint_eq(driver_config(d, 0, 4), DISK / SECTOR);
    driver_reset(d);
    ck_assert_uint_eq(driver_config(d, 32, 1), 1);
    ring_free(r);

    /* A driver that can't flush. */
    ck_assert(driver_negotiate(d, BIT(VERSION_1)));
    r = ring_new(d, 0, 0);
    driver_go(d);
    dsync_writes = 0;
    ck_assert_uint_eq(disk_do(r, &q, OUT, 0, 512), 0);
    ck_assert_uint_eq(dsync_writes, 1);
    disk_end(d, r);
}
END_TEST

/* Hot reads of one kick come back with one interrupt, before the kick returns. */
START_TEST(one_interrupt)
{
    Ring *r;
    Driver *d = disk_start("", "", _i, &r);
    Request q = request_new(d, 64 * KIB);
    ck_assert_uint_eq(disk_do(r, &q, IN, 0, 64 * KIB), 0);
    driver_ack(d);
    ring_interrupts(r, true);
    const unsigned before = d->interrupts;
    for (unsigned i = 0; i < 16; i++) {
        set_header(d, &q, IN, i * 8);
        ring_add(r, (Piece[]){{q.header, 16}, {q.data + i * 4096, 4096}, {q.status, 1}}, 1, 2);
    }
    ring_kick(r);
    u16 id;
    u32 len;
    for (unsigned i = 0; i < 16; i++) {
        ck_assert(ring_get(r, &id, &len));
    }
    ck_assert_uint_eq(d->interrupts, before + 1);
    disk_end(d, r);
}
END_TEST

static const char *const reset_drives[] = {"aio=threads", "cache=none,aio=io_uring"};

/* After a reset nobody writes to guest memory any more. */
START_TEST(reset_under_way)
{
    static u8 scribble[64 * KIB], now[64 * KIB];
    const unsigned way = _i % ARRAY_LEN(ways), with_ring = _i / ARRAY_LEN(ways);
    if (!try_open(reset_drives[with_ring])) {
        return; /* not every host permits io_uring, not every file system has direct I/O */
    }
    block_close(block);
    Driver *d = disk_new(reset_drives[with_ring], "num-queues=2");
    pattern(scribble, sizeof(scribble), 99);
    Request q = request_new(d, sizeof(scribble) + 4096);
    q.data = (q.data + 4095) & ~(u64)4095; /* as direct I/O wants it */
    const u32 head = with_ring ? 4096 : 4095;
    const u64 free = d->free;
    delay = 2000;
    for (unsigned round = 0; round < (with_ring ? 60 : 12); round++) {
        d->free = free;
        ck_assert(driver_negotiate(d, BIT(VERSION_1) | BIT(RING_RESET) | ALL_BLK |
                                          ways[way].features));
        Ring *r = ring_new(d, 0, 0), *other = ring_new(d, 1, 0);
        r->indirect = other->indirect = ways[way].indirect;
        driver_go(d);
        Request second = request_new(d, 4096);
        for (unsigned i = 0; i < 16; i++) {
            const u64 header = driver_alloc(d, 16);
            const Header h = {IN, 0, i * 8};
            driver_put(d, header, &h, sizeof(h));
            ring_add(r,
                     (Piece[]){{header, 16}, {q.data + i * 4096, head}, {q.data, 4096 - head}, {q.status, 1}},
                     1, 3);
        }
        ring_kick(r);
        set_header(d, &second, IN, 16);
        ring_add(other, (Piece[]){{second.header, 16}, {second.data, 4096}, {second.status, 1}}, 1,
                 2);
        ring_kick(other);
        g_usleep(round * (with_ring ? 10 : 700));
        const bool queue = round % 3 == 2;
        if (round % 3 == 0) {
            driver_reset(d);
        } else if (round % 3 == 1) {
            driver_machine_reset(d);
        } else {
            driver_write(d, 0x30, 0);
            driver_write(d, 0xc0, 1);
        }
        const u16 used = (u16)driver_load(d, r->used + 2, 2);
        driver_put(d, q.data, scribble, sizeof(scribble));
        g_usleep(5000);
        driver_get(d, q.data, now, sizeof(now));
        ck_assert_mem_eq(now, scribble, sizeof(now));
        ck_assert_uint_eq(driver_load(d, r->used + 2, 2), used);
        if (queue) {
            /* The other queue's request is not lost. */
            u16 id;
            u32 len;
            const gint64 end = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;
            while (!ring_get(other, &id, &len)) {
                ck_assert_msg(g_get_monotonic_time() < end, "lost");
                g_usleep(100);
            }
            ck_assert_uint_eq(driver_load(d, second.status, 1), 0);
            driver_get(d, second.data, now, 4096);
            ck_assert_mem_eq(now, model + 16 * SECTOR, 4096);
        }
        driver_reset(d);
        ring_free(r);
        ring_free(other);
    }
    driver_free(d);
    block_close(block);
    check_image();
}
END_TEST

/* ---- Several queues and harts --------------------------------------------------------------- */

typedef struct Hart {
    Driver *driver;
    Ring *ring;
    Request q;
    unsigned n;
} Hart;

/* The test's driver reaches PCI's notification by way of a selector that all queues share. */
static void kick(Ring *r)
{
    static GMutex selector;
    if (driver_over_pci) {
        g_mutex_lock(&selector);
        ring_kick(r);
        g_mutex_unlock(&selector);
    } else {
        ring_kick(r);
    }
}

static gpointer hart(gpointer opaque)
{
    Hart *h = opaque;
    u8 data[4096], got[4096];
    for (unsigned i = 0; i < 150; i++) {
        const u64 sector = h->n * (DISK / SECTOR / 4) + i * 8;
        pattern(data, sizeof(data), h->n * 1000 + i);
        bus_dma_write(h->driver->bus, h->q.data, data, sizeof(data));
        for (u32 type = OUT;; type = IN) {
            const Header header = {type, 0, sector};
            bus_dma_write(h->driver->bus, h->q.header, &header, sizeof(header));
            bus_write(h->driver->bus, h->q.status, 1, PENDING);
            const bool out = type == OUT;
            ring_add(h->ring, (Piece[]){{h->q.header, 16}, {h->q.data, 4096}, {h->q.status, 1}},
                     1 + out, 2 - out);
            kick(h->ring);
            u16 id;
            u32 len;
            while (!ring_get(h->ring, &id, &len)) {
                g_usleep(20);
            }
            if (!out) {
                break;
            }
        }
        bus_dma_read(h->driver->bus, h->q.data, got, sizeof(got));
        if (memcmp(got, data, sizeof(got)) != 0) {
            return "wrong data";
        }
    }
    return NULL;
}

START_TEST(several_harts)
{
    Driver *d = disk_new(_i % 2 ? "aio=auto,cache=unsafe" : "aio=threads", "num-queues=4");
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ALL_BLK | ways[_i / 2 * 2].features));
    Hart harts[4];
    GThread *threads[4];
    for (unsigned i = 0; i < 4; i++) {
        harts[i] = (Hart){d, ring_new(d, i, 16), request_new(d, 4096), i};
    }
    driver_go(d);
    for (unsigned i = 0; i < 4; i++) {
        threads[i] = g_thread_new("hart", hart, &harts[i]);
    }
    for (unsigned i = 0; i < 4; i++) {
        ck_assert_ptr_null(g_thread_join(threads[i]));
        ring_free(harts[i].ring);
    }
    driver_free(d);
    block_close(block);
}
END_TEST

/* ---- A driver gone mad ---------------------------------------------------------------------- */

static const Piece *random_pieces(GRand *rand, Driver *d, Piece *p, unsigned n)
{
    static const u32 sizes[] = {0, 1, 15, 16, 17, 20, 512, 513, 4096, 65536};
    for (unsigned i = 0; i < n; i++) {
        const u32 at = (u32)g_rand_int_range(rand, 0, 1 << 19);
        p[i].addr = d->free + at;
        p[i].len = sizes[g_rand_int_range(rand, 0, ARRAY_LEN(sizes))];
    }
    return p;
}

START_TEST(mad_driver)
{
    const u32 rounds = g_getenv("STAG_FUZZ_ROUNDS") ? (u32)atoi(g_getenv("STAG_FUZZ_ROUNDS")) : 400;
    Driver *d = disk_new(_i % 2 ? "aio=threads,snapshot=on" : "aio=threads", "num-queues=2");
    g_autoptr(GRand) rand = g_rand_new_with_seed(1234 + (guint32)_i);
    static const u32 types[] = {IN, OUT, FLUSH, GET_ID, DISCARD, ZEROES, 2, 14, 0x80000000};
    const u64 free = d->free;
    for (u32 round = 0; round < rounds; round++) {
        d->free = free;
        if (!driver_negotiate(d, BIT(VERSION_1) | BIT(RING_RESET) | ALL_BLK |
                                     ways[g_rand_int_range(rand, 0, ARRAY_LEN(ways))].features)) {
            continue;
        }
        Ring *rings[2] = {ring_new(d, 0, 16), ring_new(d, 1, 16)};
        driver_go(d);
        for (unsigned n = (unsigned)g_rand_int_range(rand, 1, 40); n; n--) {
            Ring *r = rings[g_rand_int_range(rand, 0, 2)];
            const unsigned out = (unsigned)g_rand_int_range(rand, 0, 4);
            const unsigned in = (unsigned)g_rand_int_range(rand, out == 0, 4);
            Piece p[8];
            random_pieces(rand, d, p, out + in);
            if (g_rand_int_range(rand, 0, 16) && out) {
                Header h = {types[g_rand_int_range(rand, 0, ARRAY_LEN(types))], 0,
                            (u64)g_rand_int_range(rand, 0, DISK / SECTOR + 64)};
                if (h.type == DISCARD || h.type == ZEROES) {
                    const Range range = {h.sector, (u32)g_rand_int_range(rand, 0, 5000),
                                         (u32)g_rand_int_range(rand, 0, 3)};
                    driver_put(d, p[out - 1].addr, &range, sizeof(range));
                    p[out - 1].len = 16;
                }
                p[0].len = 16;
                driver_put(d, p[0].addr, &h, sizeof(h));
            }
            if (r->free_count < out + in) {
                u16 id;
                u32 len;
                while (ring_get(r, &id, &len)) {
                }
            }
            if (r->free_count >= out + in) {
                ring_add(r, p, out, in);
                ring_kick(r);
            }
            switch (g_rand_int_range(rand, 0, 40)) {
            case 0:
                driver_write(d, 0x30, (u32)g_rand_int_range(rand, 0, 3));
                driver_write(d, 0xc0, 1);
                break;
            case 1:
                driver_write(d, 0x50, g_rand_int(rand));
                break;
            case 2:
                driver_set_config(d, 32, 1, (u32)g_rand_int_range(rand, 0, 3));
                break;
            case 3:
                driver_store(d, r->desc + 8u * (u32)g_rand_int_range(rand, 0, 32), 8,
                             ((u64)g_rand_int(rand) << 32) | g_rand_int(rand));
                driver_write(d, 0x50, r->queue);
                n = 1; /* the driver itself is lost now */
                break;
            }
        }
        driver_reset(d);
        ring_free(rings[0]);
        ring_free(rings[1]);
    }
    /* It still works. */
    d->free = free;
    ck_assert(driver_negotiate(d, BIT(VERSION_1) | ALL_BLK));
    Ring *r = ring_new(d, 0, 0);
    driver_go(d);
    Request q = request_new(d, 4096);
    ck_assert_uint_eq(disk_do(r, &q, OUT, 0, 4096), 0);
    ck_assert_uint_eq(disk_do(r, &q, IN, 0, 4096), 0);
    ck_assert_uint_eq(block_stats(block).errors, 0);
    disk_end(d, r);
}
END_TEST

/* test_device_virtio_blk [pci]: over the mmio transport, or over PCI. */
int main(int argc, char **argv)
{
    driver_over_pci = argc > 1 && strcmp(argv[1], "pci") == 0;
    TCase *t = tcase_create("virtio-blk");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, configuration);
    tcase_add_loop_test(t, wrong_properties, 0, ARRAY_LEN(wrong));
    tcase_add_loop_test(t, each_type, 0, ARRAY_LEN(ways));
    tcase_add_loop_test(t, any_layout, 0, ARRAY_LEN(ways));
    tcase_add_loop_test(t, many_under_way, 0, 3 * ARRAY_LEN(ways));
    tcase_add_loop_test(t, odd_requests, 0, ARRAY_LEN(ways));
    tcase_add_loop_test(t, broken_requests, 0, ARRAY_LEN(ways));
    tcase_add_test(t, read_only);
    tcase_add_test(t, large_blocks);
    tcase_add_test(t, host_error);
    tcase_add_test(t, write_cache);
    tcase_add_loop_test(t, one_interrupt, 0, ARRAY_LEN(ways));
    tcase_add_loop_test(t, reset_under_way, 0, ARRAY_LEN(ways) * ARRAY_LEN(reset_drives));
    tcase_add_loop_test(t, several_harts, 0, 4);
    tcase_add_loop_test(t, mad_driver, 0, 4);
    Suite *s = suite_create("virtio-blk");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
