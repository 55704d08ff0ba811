/*
 * The host's end of disks: every cache mode with every way of doing I/O against a model in memory,
 * overlays, locks between processes (and against QEMU where it is installed), holes, errors of the
 * host, and what the user reads when an image can't be used.
 *
 * The system calls that decide whether data are safe are replaced by functions here, which count
 * and fail on demand.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/loop.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "devices/block/block.h"

enum { KIB = 1024, MIB = 1024 * KIB, SECTOR = 512 };

/* ---- System calls --------------------------------------------------------------------------- */

static _Atomic unsigned syncs, dsync_writes;
static _Atomic int sync_error, write_error, allocate_error;
static _Atomic unsigned write_delay; /* microseconds */
static _Atomic unsigned write_limit; /* bytes in one call; 0: any */

int fdatasync(int fd)
{
    syncs++;
    errno = sync_error;
    return sync_error ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t bytes)
{
    errno = allocate_error;
    return allocate_error ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, bytes);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    if (flags & RWF_DSYNC) {
        dsync_writes++;
    }
    if (write_delay) {
        g_usleep(write_delay);
    }
    if (write_error) {
        errno = write_error;
        return -1;
    }
    struct iovec first = *iov;
    if (write_limit && first.iov_len > write_limit) {
        first.iov_len = write_limit;
        iov = &first;
        n = 1;
    }
    return syscall(SYS_pwritev2, fd, iov, n, offset, 0, flags);
}

/* ---- Images and requests -------------------------------------------------------------------- */

static char *folder; /* of this test, removed at the end */

static void setup(void)
{
    g_autofree char *here = g_get_current_dir();
    folder = g_build_filename(here, "test-block-XXXXXX", NULL);
    ck_assert_ptr_nonnull(g_mkdtemp(folder));
    g_setenv("TMPDIR", folder, TRUE);
}

static void teardown(void)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", folder);
    ck_assert_int_eq(system(command), 0);
    g_free(folder);
}

static char *path_of(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

/* An image with bytes that tell their place. */
static void pattern(u8 *bytes, u64 n, u32 seed)
{
    for (u64 i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (u8)(seed >> 24);
    }
}

static char *make_image(const char *name, const void *bytes, u64 n)
{
    char *path = path_of(name);
    ck_assert(g_file_set_contents(path, bytes, (gssize)n, NULL));
    return path;
}

static char *make_sparse(const char *name, u64 n)
{
    char *path = make_image(name, "", 0);
    ck_assert_int_eq(truncate(path, (off_t)n), 0);
    return path;
}

static Block *try_open(const char *path, const char *more, GError **err)
{
    BlockDrive drive;
    g_autofree char *text = g_strdup_printf("file=%s,id=d0%s%s", path, *more ? "," : "", more);
    if (!block_drive_parse(text, &drive, err)) {
        return NULL;
    }
    Block *b = block_open(&drive, err);
    block_drive_clear(&drive);
    return b;
}

typedef struct Client {
    Block *b;
    GMutex lock;
    GCond cond;
    unsigned calls;
} Client;

static void on_ready(void *opaque)
{
    Client *c = opaque;
    g_mutex_lock(&c->lock);
    c->calls++;
    g_cond_broadcast(&c->cond);
    g_mutex_unlock(&c->lock);
}

static void client_attach(Client *c, Block *b)
{
    *c = (Client){.b = b};
    g_mutex_init(&c->lock);
    g_cond_init(&c->cond);
    ck_assert(block_attach(b, "test", on_ready, c, NULL));
}

static void client_open(Client *c, const char *path, const char *more)
{
    g_autoptr(GError) err = NULL;
    Block *b = try_open(path, more, &err);
    ck_assert_msg(b != NULL, "%s", err ? err->message : "");
    client_attach(c, b);
}

static void client_close(Client *c)
{
    block_detach(c->b);
    block_close(c->b);
    g_mutex_clear(&c->lock);
    g_cond_clear(&c->cond);
}

/* The next completed requests; waits for them. */
static BlockRequest *client_take(Client *c)
{
    const gint64 end = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;
    g_mutex_lock(&c->lock);
    for (;;) {
        BlockRequest *list = block_take(c->b);
        if (list) {
            g_mutex_unlock(&c->lock);
            return list;
        }
        ck_assert_msg(g_cond_wait_until(&c->cond, &c->lock, end), "no completion");
    }
}

static int request(Client *c, BlockOp op, u64 offset, u64 bytes, void *data)
{
    const struct iovec iov = {data, bytes};
    BlockRequest r = {.op = op, .offset = offset, .bytes = bytes, .iov = &iov, .iov_count = 1};
    r.unmap = true;
    block_submit(c->b, &r);
    block_kick(c->b);
    ck_assert_ptr_eq(client_take(c), &r);
    ck_assert_ptr_null(r.next);
    return r.error;
}

static bool has_direct(void)
{
    g_autofree char *path = make_sparse("direct-probe", 4096);
    int fd = open(path, O_RDWR | O_DIRECT);
    close(fd);
    return fd >= 0;
}

static bool has_ring(void)
{
    g_autofree char *path = make_sparse("ring-probe", 4096);
    Block *b = try_open(path, "aio=io_uring", NULL);
    block_close(b);
    return b != NULL;
}

/* ---- Options -------------------------------------------------------------------------------- */

START_TEST(options)
{
    BlockDrive d;
    ck_assert(block_drive_parse("file=a,,b.img,format=raw,if=none,id=x,cache=none,aio=threads,"
                                "discard=off,detect-zeroes=off,readonly=on,snapshot=on,media=disk,"
                                "index=3,serial=S1,file.locking=off,werror=report,rerror=report",
                                &d, NULL));
    ck_assert_str_eq(d.file, "a,b.img");
    ck_assert_str_eq(d.id, "x");
    ck_assert_str_eq(d.serial, "S1");
    ck_assert_uint_eq(d.interface, BLOCK_IF_NONE);
    ck_assert_uint_eq(d.cache, BLOCK_NONE);
    ck_assert_uint_eq(d.aio, BLOCK_AIO_THREADS);
    ck_assert(d.readonly && d.snapshot && d.has_index && d.index == 3);
    block_drive_clear(&d);

    g_autofree char *hd = block_drive_hd("x,y", 1);
    ck_assert(block_drive_parse(hd, &d, NULL));
    ck_assert_str_eq(d.file, "x,y");
    ck_assert(d.has_index && d.index == 1 && d.interface == BLOCK_IF_VIRTIO);
    ck_assert(!d.readonly && !d.snapshot && !d.id && !d.format && d.cache == BLOCK_WRITEBACK);
    block_drive_clear(&d);

    ck_assert(block_drive_parse("file=x,media=cdrom", &d, NULL));
    ck_assert(d.readonly && !d.has_index);
    block_drive_clear(&d);
}
END_TEST

static const struct {
    const char *text, *says;
} wrong_options[] = {
    {"format=raw", "there is no file="},
    {"file=", "there is no file="},
    {"file=x,format=qcow2", "qemu-img convert -O raw x"},
    {"file=x,aio=native", "aio=io_uring"},
    {"file=x,cash=none", "the nearest is 'cache'"},
    {"file=x,cache=sometimes", "writeback|none|unsafe|writethrough|directsync"},
    {"file=x,if=ide", "virtio|none"},
    {"file=x,detect-zeroes=on", "it takes off"},
    {"file=x,werror=stop", "it takes report"},
};

START_TEST(wrong_option)
{
    BlockDrive d;
    g_autoptr(GError) err = NULL;
    ck_assert(!block_drive_parse(wrong_options[_i].text, &d, &err));
    ck_assert_msg(strstr(err->message, wrong_options[_i].says) != NULL, "%s", err->message);
}
END_TEST

/* ---- Against a model ------------------------------------------------------------------------ */

static const char *const modes[] = {
    "cache=writeback,aio=threads",    "cache=writeback,aio=io_uring",
    "cache=none,aio=threads",         "cache=none,aio=io_uring",
    "cache=unsafe,aio=threads",       "cache=unsafe,aio=io_uring",
    "cache=writethrough,aio=threads", "cache=writethrough,aio=io_uring",
    "cache=directsync,aio=threads",   "cache=directsync,aio=io_uring",
    "cache=writeback,aio=auto",       "cache=none,aio=auto",
};

/* What this host can't do: the sentence is checked instead. */
static bool mode_missing(const char *mode)
{
    const bool direct = strstr(mode, "cache=none") || strstr(mode, "directsync");
    const char *says = direct && !has_direct()                       ? "no direct I/O"
                       : strstr(mode, "io_uring") && !has_ring() ? "aio=threads"
                                                                     : NULL;
    if (!says) {
        return false;
    }
    g_autofree char *path = make_sparse("missing", 4096);
    g_autoptr(GError) err = NULL;
    ck_assert_ptr_null(try_open(path, mode, &err));
    ck_assert_msg(strstr(err->message, says) != NULL, "%s", err->message);
    return true;
}

enum { LANES = 8, LANE = 320 * KIB, MODEL = LANES * LANE + 3 * SECTOR, MAX_IOV = 9 };

/* One request on its own part of the image, so that all lanes' are under way at once. */
typedef struct Lane {
    BlockRequest r;
    struct iovec iov[MAX_IOV];
    u8 *buffer;
    bool busy;
} Lane;

static u32 random_below(GRand *rand, u32 n)
{
    return (u32)g_rand_int_range(rand, 0, (gint32)n);
}

static void lane_start(Lane *l, unsigned n, Block *b, u8 *model, GRand *rand, u32 round)
{
    const u32 unit = random_below(rand, 2) ? 4096 : SECTOR;
    const u32 at = random_below(rand, LANE / unit), most = LANE / unit - at;
    const u64 offset = (u64)n * LANE + at * unit;
    const u32 units = 1 + random_below(rand, random_below(rand, 4) ? MIN(most, 16) : most);
    const u64 bytes = (u64)unit * units;
    static const BlockOp ops[] = {BLOCK_READ,  BLOCK_READ,         BLOCK_READ,  BLOCK_WRITE,
                                  BLOCK_WRITE, BLOCK_WRITE_ZEROES, BLOCK_FLUSH, BLOCK_WRITE};
    l->r = (BlockRequest){.op = ops[random_below(rand, ARRAY_LEN(ops))], .iov = l->iov};
    if (l->r.op != BLOCK_FLUSH) {
        l->r.offset = offset;
        l->r.bytes = bytes;
        l->r.unmap = random_below(rand, 2);
    }
    /* Pieces of whole sectors at aligned or odd addresses. */
    u8 *to = l->buffer + (random_below(rand, 2) ? 0 : random_below(rand, 4096));
    for (u64 left = l->r.bytes; left;) {
        const bool last = l->r.iov_count == MAX_IOV - 1;
        const u64 some = (u64)unit * (1 + random_below(rand, 20));
        const u64 piece = last ? left : MIN(left, some);
        l->iov[l->r.iov_count++] = (struct iovec){to, piece};
        to += piece;
        left -= piece;
    }
    if (l->r.op == BLOCK_WRITE) {
        u8 *place = model + offset;
        pattern(place, bytes, round * 31 + n);
        for (unsigned i = 0; i < l->r.iov_count; place += l->iov[i++].iov_len) {
            memcpy(l->iov[i].iov_base, place, l->iov[i].iov_len);
        }
    } else if (l->r.op == BLOCK_WRITE_ZEROES) {
        memset(model + offset, 0, bytes);
    }
    l->busy = true;
    block_submit(b, &l->r);
}

static void lane_check(Lane *l, const u8 *model)
{
    ck_assert_int_eq(l->r.error, 0);
    if (l->r.op == BLOCK_READ) {
        const u8 *place = model + l->r.offset;
        for (unsigned i = 0; i < l->r.iov_count; place += l->iov[i++].iov_len) {
            ck_assert_mem_eq(l->iov[i].iov_base, place, l->iov[i].iov_len);
        }
    }
    l->busy = false;
}

static void against_model(const char *mode, unsigned rounds)
{
    g_autofree u8 *model = g_malloc(MODEL), *before = g_malloc(MODEL);
    pattern(model, MODEL, 1);
    memcpy(before, model, MODEL);
    g_autofree char *path = make_image("disk", model, MODEL);
    Client c;
    client_open(&c, path, mode);
    ck_assert_uint_eq(block_size(c.b), MODEL);
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    Lane lanes[LANES] = {0};
    for (unsigned i = 0; i < LANES; i++) {
        lanes[i].buffer = aligned_alloc(4096, LANE + 4096);
    }
    for (u32 round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < LANES; i++) {
            if (!lanes[i].busy) {
                lane_start(&lanes[i], i, c.b, model, rand, round);
            }
        }
        block_kick(c.b);
        for (BlockRequest *r = client_take(&c), *next; r; r = next) {
            next = r->next;
            lane_check(container_of(r, Lane, r), model);
        }
    }
    block_drain(c.b);
    for (BlockRequest *r = block_take(c.b), *next; r; r = next) {
        next = r->next;
        lane_check(container_of(r, Lane, r), model);
    }
    for (u64 at = 0; at < MODEL; at += 96 * KIB) {
        ck_assert_int_eq(request(&c, BLOCK_READ, at, MIN(96 * KIB, MODEL - at), lanes[0].buffer),
                         0);
        ck_assert_mem_eq(lanes[0].buffer, model + at, MIN(96 * KIB, MODEL - at));
    }
    ck_assert_uint_eq(block_stats(c.b).errors, 0);
    client_close(&c);

    g_autofree char *now = NULL;
    gsize length;
    ck_assert(g_file_get_contents(path, &now, &length, NULL));
    ck_assert_uint_eq(length, MODEL);
    ck_assert_mem_eq(now, strstr(mode, "snapshot") ? before : model, MODEL);
    for (unsigned i = 0; i < LANES; i++) {
        free(lanes[i].buffer);
    }
}

START_TEST(model)
{
    if (!mode_missing(modes[_i])) {
        against_model(modes[_i], 400);
    }
}
END_TEST

START_TEST(model_snapshot)
{
    g_autofree char *mode = g_strdup_printf("%s,snapshot=on", modes[_i]);
    if (!mode_missing(modes[_i])) {
        against_model(mode, 400);
    }
}
END_TEST

/* A file system that writes little at a time and can't make zeroes. */
START_TEST(model_poor_host)
{
    write_limit = 1000;
    allocate_error = EOPNOTSUPP;
    against_model(_i ? "aio=threads,snapshot=on" : "aio=threads", 150);
}
END_TEST

/* More iovecs than the kernel takes in one call. */
START_TEST(many_iovecs)
{
    enum { COUNT = 3000 };
    g_autofree char *path = make_sparse("disk", 4 * MIB);
    static u8 data[COUNT * SECTOR], back[COUNT * SECTOR];
    struct iovec iov[COUNT];
    pattern(data, sizeof(data), 3);
    const char *more[] = {"aio=threads", "aio=io_uring", "snapshot=on"};
    if (_i == 1 && !has_ring()) {
        return;
    }
    Client c;
    client_open(&c, path, more[_i]);
    for (BlockOp op = BLOCK_WRITE;; op = BLOCK_READ) {
        for (unsigned i = 0; i < COUNT; i++) {
            iov[i] = (struct iovec){(op == BLOCK_WRITE ? data : back) + i * SECTOR, SECTOR};
        }
        BlockRequest r = {.op = op, .offset = MIB, .bytes = sizeof(data), .iov = iov};
        r.iov_count = COUNT;
        block_submit(c.b, &r);
        block_kick(c.b);
        ck_assert_ptr_eq(client_take(&c), &r);
        ck_assert_int_eq(r.error, 0);
        if (op == BLOCK_READ) {
            break;
        }
    }
    ck_assert_mem_eq(data, back, sizeof(data));
    client_close(&c);
}
END_TEST

/* ---- Completion ----------------------------------------------------------------------------- */

START_TEST(hot_reads_at_once)
{
    static u8 data[64 * KIB], back[64 * KIB];
    pattern(data, sizeof(data), 5);
    g_autofree char *path = make_image("disk", data, sizeof(data));
    Client c;
    client_open(&c, path, _i ? "snapshot=on" : "");
    ck_assert_int_eq(request(&c, BLOCK_READ, 0, sizeof(back), back), 0);
    const struct iovec iov = {back, 4096};
    BlockRequest r = {.op = BLOCK_READ, .offset = 8192, .bytes = 4096, .iov = &iov, .iov_count = 1};
    block_submit(c.b, &r);
    block_kick(c.b);
    ck_assert_ptr_eq(block_take(c.b), &r);
    ck_assert_int_eq(r.error, 0);
    ck_assert_mem_eq(back, data + 8192, 4096);
    client_close(&c);
}
END_TEST

/* As a device waits for all of its requests: without the lock that `ready` takes. */
START_TEST(drain)
{
    static u8 data[16][4096];
    g_autofree char *path = make_sparse("disk", MIB);
    struct iovec iov[16];
    BlockRequest r[16];
    Client c;
    if (_i && !has_ring()) {
        return;
    }
    client_open(&c, path, _i ? "aio=io_uring" : "aio=threads");
    write_delay = 3000;
    for (unsigned round = 0; round < 10; round++) {
        g_mutex_lock(&c.lock);
        for (unsigned i = 0; i < 16; i++) {
            iov[i] = (struct iovec){data[i], 4096};
            r[i] = (BlockRequest){.op = BLOCK_WRITE, .offset = i * 4096, .bytes = 4096};
            r[i].iov = &iov[i];
            r[i].iov_count = 1;
            block_submit(c.b, &r[i]);
        }
        unsigned n = 0;
        while (block_busy(c.b)) {
            g_mutex_unlock(&c.lock);
            block_drain(c.b);
            g_mutex_lock(&c.lock);
            for (BlockRequest *l = block_take(c.b); l; l = l->next) {
                n++;
            }
        }
        ck_assert_uint_eq(n, 16);
        memset(r, 0xaa, sizeof(r)); /* nobody looks at them any more */
        g_mutex_unlock(&c.lock);
    }
    client_close(&c);
}
END_TEST

typedef struct Submitter {
    Client *c;
    unsigned part;
} Submitter;

static gpointer submit_some(gpointer opaque)
{
    Submitter *s = opaque;
    static u8 data[2][4096];
    for (unsigned i = 0; i < 300; i++) {
        BlockRequest *r = g_new0(BlockRequest, 1);
        struct iovec *iov = g_new0(struct iovec, 1);
        *iov = (struct iovec){data[s->part], 4096};
        r->op = i % 3 ? BLOCK_WRITE : i % 2 ? BLOCK_FLUSH : BLOCK_WRITE_ZEROES;
        r->bytes = r->op == BLOCK_FLUSH ? 0 : 4096;
        r->offset = r->op == BLOCK_FLUSH ? 0 : s->part * MIB + (i % 50) * 8192;
        r->iov = iov;
        r->iov_count = 1;
        g_mutex_lock(&s->c->lock);
        block_submit(s->c->b, r);
        block_kick(s->c->b);
        g_mutex_unlock(&s->c->lock);
    }
    return NULL;
}

START_TEST(two_submitters)
{
    g_autofree char *path = make_sparse("disk", 2 * MIB);
    Client c;
    if (_i && !has_ring()) {
        return;
    }
    client_open(&c, path, _i ? "aio=io_uring" : "aio=threads");
    Submitter s[2] = {{&c, 0}, {&c, 1}};
    GThread *t[2] = {g_thread_new("a", submit_some, &s[0]), g_thread_new("b", submit_some, &s[1])};
    for (unsigned done = 0; done < 600;) {
        for (BlockRequest *r = client_take(&c), *next; r; r = next, done++) {
            next = r->next;
            ck_assert_int_eq(r->error, 0);
            g_free((void *)r->iov);
            g_free(r);
        }
    }
    g_thread_join(t[0]);
    g_thread_join(t[1]);
    ck_assert_uint_eq(block_stats(c.b).errors, 0);
    client_close(&c);
}
END_TEST

START_TEST(one_device)
{
    g_autofree char *path = make_sparse("disk", MIB);
    Client c;
    client_open(&c, path, "");
    g_autoptr(GError) err = NULL;
    ck_assert(!block_attach(c.b, "other", on_ready, &c, &err));
    ck_assert_str_eq(err->message, "drive 'd0' is in use by test already");
    block_detach(c.b);
    ck_assert(block_attach(c.b, "other", on_ready, &c, NULL));
    client_close(&c);
}
END_TEST

/* ---- What is safe when ---------------------------------------------------------------------- */

START_TEST(flushes)
{
    static const struct {
        const char *mode;
        unsigned dsync, flush, close;
    } cases[] = {
        {"cache=writeback,aio=threads", 0, 1, 1},
        {"cache=unsafe,aio=threads", 0, 0, 1},
        {"cache=writethrough,aio=threads", 1, 1, 1},
        {"cache=writeback,aio=threads,snapshot=on", 0, 0, 0},
        {"cache=unsafe,aio=threads,readonly=on", 0, 0, 0},
    };
    static u8 data[4096];
    g_autofree char *path = make_sparse("disk", MIB);
    Client c;
    client_open(&c, path, cases[_i].mode);
    syncs = dsync_writes = 0;
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, 4096, data),
                     block_is_readonly(c.b) ? EROFS : 0);
    ck_assert_uint_eq(dsync_writes, cases[_i].dsync);
    ck_assert_uint_eq(syncs, 0);
    ck_assert_int_eq(request(&c, BLOCK_FLUSH, 0, 0, NULL), 0);
    ck_assert_uint_eq(syncs, cases[_i].flush);
    client_close(&c);
    ck_assert_uint_eq(syncs, cases[_i].flush + cases[_i].close);
}
END_TEST

START_TEST(write_cache)
{
    static u8 data[4096];
    g_autofree char *path = make_sparse("disk", MIB);
    Client c;
    client_open(&c, path, "aio=threads");
    ck_assert(block_write_cache(c.b));
    syncs = 0;
    block_set_write_cache(c.b, false);
    block_drain(c.b);
    ck_assert_ptr_null(block_take(c.b));
    ck_assert_uint_eq(syncs, 1);
    dsync_writes = 0;
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, 4096, data), 0);
    ck_assert_uint_eq(dsync_writes, 1);
    ck_assert_int_eq(request(&c, BLOCK_WRITE_ZEROES, 0, 4096, NULL), 0);
    ck_assert_uint_eq(syncs, 2);
    block_set_write_cache(c.b, true);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, 4096, data), 0);
    ck_assert_uint_eq(dsync_writes, 1);
    client_close(&c);
}
END_TEST

START_TEST(survives_kill)
{
    static u8 data[MIB], back[MIB];
    const char *mode = modes[_i];
    if (mode_missing(mode)) {
        return;
    }
    pattern(data, sizeof(data), 9);
    g_autofree char *path = make_sparse("disk", 2 * MIB);
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    pid_t child = fork();
    if (child == 0) {
        Client c;
        client_open(&c, path, mode);
        u8 ok = request(&c, BLOCK_WRITE, MIB, MIB, data) == 0;
        ok = ok && write(p[1], &ok, 1) == 1;
        pause();
        _exit(ok);
    }
    u8 ok = 0;
    ck_assert_int_eq(read(p[0], &ok, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    int fd = open(path, O_RDONLY);
    ck_assert_int_eq(pread(fd, back, MIB, MIB), MIB);
    close(fd);
    ck_assert_mem_eq(data, back, MIB);
}
END_TEST

/* ---- Locks ---------------------------------------------------------------------------------- */

static const struct {
    const char *first, *second;
    bool ok;
} lock_cases[] = {
    {"", "", false},
    {"", "readonly=on", false},
    {"", "snapshot=on", false},
    {"readonly=on", "", false},
    {"readonly=on", "readonly=on", true},
    {"snapshot=on", "snapshot=on", true},
    {"snapshot=on", "readonly=on", true},
    {"snapshot=on", "", false},
    {"", "file.locking=off", true},
    {"file.locking=off", "", true},
    {"", "file.locking=on", false},
};

START_TEST(locks)
{
    g_autofree char *path = make_sparse("disk", MIB);
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    pid_t child = fork();
    if (child == 0) {
        Block *b = try_open(path, lock_cases[_i].first, NULL);
        u8 ok = b != NULL;
        ok = write(p[1], &ok, 1) == 1;
        pause();
        _exit(ok);
    }
    u8 opened = 0;
    ck_assert_int_eq(read(p[0], &opened, 1), 1);
    ck_assert(opened);
    g_autoptr(GError) err = NULL;
    Block *b = try_open(path, lock_cases[_i].second, &err);
    ck_assert_int_eq(b != NULL, lock_cases[_i].ok);
    ck_assert(b || strstr(err->message, "in use by another Stag or QEMU"));
    block_close(b);
    kill(child, SIGKILL); /* the lock dies with the process */
    waitpid(child, NULL, 0);
    b = try_open(path, "", NULL);
    ck_assert_ptr_nonnull(b);
    /* Two in one process are two. */
    ck_assert_ptr_null(try_open(path, "", NULL));
    block_close(b);
}
END_TEST

static pid_t start_qemu(const char *path, const char *more, GError **err)
{
    g_autofree char *qemu = g_find_program_in_path("qemu-system-riscv64");
    g_autofree char *drive =
        g_strdup_printf("file=%s,format=raw,if=none,id=d%s%s", path, *more ? "," : "", more);
    char *argv[] = {qemu,      "-M",     "virt",     "-nodefaults", "-display", "none",
                    "-serial", "none",   "-monitor", "none",        "-S",       "-drive",
                    drive,     "-device", "virtio-blk-device,drive=d", NULL};
    GPid pid = 0;
    if (qemu) {
        g_spawn_async(NULL, argv, NULL,
                      G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDERR_TO_DEV_NULL |
                          G_SPAWN_STDOUT_TO_DEV_NULL,
                      NULL, NULL, &pid, err);
    }
    return pid;
}

START_TEST(locks_with_qemu)
{
    g_autofree char *path = make_sparse("disk", MIB);
    Block *b = try_open(path, "", NULL);
    pid_t qemu = start_qemu(path, "", NULL);
    if (!qemu) {
        block_close(b);
        return;
    }
    /* We have it: QEMU must give up. */
    int status = 0;
    for (unsigned i = 0; i < 300 && waitpid(qemu, &status, WNOHANG) == 0; i++) {
        g_usleep(100000);
    }
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "QEMU ran on our image");
    block_close(b);

    /* QEMU has it: we give up as soon as it has come that far. */
    g_autoptr(GError) err = NULL;
    qemu = start_qemu(path, "", NULL);
    for (unsigned i = 0; i < 300 && !err; i++) {
        g_usleep(100000);
        block_close(try_open(path, "readonly=on", &err));
    }
    ck_assert_msg(err && strstr(err->message, "in use by another Stag or QEMU"), "%s",
                  err ? err->message : "QEMU's lock was not noticed");
    kill(qemu, SIGKILL);
    waitpid(qemu, NULL, 0);

    /* Readers share. */
    b = try_open(path, "readonly=on", NULL);
    qemu = start_qemu(path, "readonly=on", NULL);
    g_usleep(500000);
    ck_assert_int_eq(waitpid(qemu, &status, WNOHANG), 0);
    kill(qemu, SIGKILL);
    waitpid(qemu, NULL, 0);
    block_close(b);
}
END_TEST

/* ---- Holes ---------------------------------------------------------------------------------- */

static u64 space(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (u64)st.st_blocks * 512;
}

START_TEST(holes)
{
    static u8 data[8 * MIB];
    pattern(data, sizeof(data), 11);
    g_autofree char *path = make_image("disk", data, sizeof(data));
    Client c;
    client_open(&c, path, "");
    ck_assert(block_can_discard(c.b));
    ck_assert_uint_ge(space(path), 8 * MIB);
    ck_assert_int_eq(request(&c, BLOCK_DISCARD, MIB, 3 * MIB, NULL), 0);
    ck_assert_uint_le(space(path), 5 * MIB + 64 * KIB);
    ck_assert_int_eq(request(&c, BLOCK_WRITE_ZEROES, 4 * MIB, 3 * MIB, NULL), 0);
    ck_assert_uint_le(space(path), 2 * MIB + 64 * KIB);
    client_close(&c);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_size, 8 * MIB);

    client_open(&c, path, "discard=ignore");
    ck_assert(!block_can_discard(c.b));
    const u64 before = space(path);
    ck_assert_int_eq(request(&c, BLOCK_DISCARD, 0, MIB, NULL), 0);
    ck_assert_uint_eq(space(path), before);
    client_close(&c);
}
END_TEST

/* An overlay costs what was written, and nothing at all at the end. */
START_TEST(overlay_space)
{
    static u8 data[4096];
    g_autofree char *path = make_sparse("disk", (u64)1 << 40);
    Client c;
    client_open(&c, path, "snapshot=on");
    ck_assert_int_eq(request(&c, BLOCK_WRITE, ((u64)1 << 40) - 4096, 4096, data), 0);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 123 * 4096, 4096, data), 0);
    g_autoptr(GString) info = g_string_new(NULL);
    block_info(c.b, info);
    ck_assert_msg(strstr(info->str, "In the overlay:   131072 bytes") != NULL, "%s", info->str);
    client_close(&c);
    ck_assert_uint_eq(space(path), 0);
    GDir *dir = g_dir_open(folder, 0, NULL);
    unsigned names = 0;
    while (g_dir_read_name(dir)) {
        names++;
    }
    g_dir_close(dir);
    ck_assert_uint_eq(names, 1);
}
END_TEST

/* ---- Errors --------------------------------------------------------------------------------- */

START_TEST(host_errors)
{
    static u8 data[4096], back[4096];
    g_autofree char *path = make_sparse("disk", MIB);
    const char *more = _i ? "aio=threads,snapshot=on" : "aio=threads";
    Client c;
    client_open(&c, path, more);
    pattern(data, sizeof(data), 1);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, 4096, data), 0);
    write_error = ENOSPC;
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 64 * KIB, 4096, data), ENOSPC);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 4096, 4096, data), ENOSPC);
    write_error = 0;
    sync_error = EIO;
    ck_assert_int_eq(request(&c, BLOCK_FLUSH, 0, 0, NULL), _i ? 0 : EIO);
    sync_error = 0;
    /* What was lost stays lost, whatever the kernel says of the next flush. */
    ck_assert_int_eq(request(&c, BLOCK_FLUSH, 0, 0, NULL), _i ? 0 : EIO);
    /* Else all goes on as if nothing had been. */
    ck_assert_int_eq(request(&c, BLOCK_READ, 64 * KIB, 4096, back), 0);
    ck_assert_uint_eq(back[0] | back[4095], 0);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 64 * KIB + 4096, 4096, data), 0);
    ck_assert_int_eq(request(&c, BLOCK_READ, 64 * KIB, 4096, back), 0);
    ck_assert_uint_eq(back[0] | back[4095], 0);
    ck_assert_int_eq(request(&c, BLOCK_READ, 0, 4096, back), 0);
    ck_assert_mem_eq(back, data, 4096);
    ck_assert_uint_eq(block_stats(c.b).errors, _i ? 2 : 4);
    g_autoptr(GString) info = g_string_new(NULL);
    block_info(c.b, info);
    ck_assert_ptr_nonnull(strstr(info->str, "Errors:"));
    client_close(&c);
}
END_TEST

/* The kernel's own refusal, which comes with a signal that would end the process. */
START_TEST(size_limit)
{
    static u8 data[4096];
    const char *mode = modes[_i];
    if (mode_missing(mode)) {
        return;
    }
    g_autofree char *path = make_sparse("disk", MIB);
    Client c;
    client_open(&c, path, mode);
    const struct rlimit limit = {512 * KIB, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 600 * KIB, 4096, data), EFBIG);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 100 * KIB, 4096, data), 0);
    client_close(&c);
}
END_TEST

START_TEST(refused_requests)
{
    static u8 data[4096];
    g_autofree char *path = make_sparse("disk", MIB);
    Client c;
    client_open(&c, path, _i ? "readonly=on" : "");
    ck_assert_int_eq(request(&c, BLOCK_READ, MIB, 512, data), EINVAL);
    ck_assert_int_eq(request(&c, BLOCK_READ, MIB - 512, 1024, data), EINVAL);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, ~(u64)511, 1024, data), EINVAL);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, ~(u64)511, data), EINVAL);
    ck_assert_int_eq(request(&c, BLOCK_READ, 1, 512, data), EINVAL);
    ck_assert_int_eq(request(&c, BLOCK_READ, 0, 100, data), EINVAL);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, 512, data), _i ? EROFS : 0);
    ck_assert_int_eq(request(&c, BLOCK_DISCARD, 0, 512, data), _i ? EROFS : 0);
    ck_assert_int_eq(request(&c, BLOCK_WRITE_ZEROES, 0, 512, data), _i ? EROFS : 0);
    ck_assert_int_eq(request(&c, BLOCK_FLUSH, 0, 0, NULL), 0);
    ck_assert_int_eq(request(&c, BLOCK_READ, MIB, 0, NULL), 0);
    client_close(&c);
}
END_TEST

/* The last bytes of a file are a sector of their own. */
START_TEST(odd_size)
{
    static u8 data[1000], back[1024];
    const char *mode = modes[_i];
    if (mode_missing(mode)) {
        return;
    }
    pattern(data, sizeof(data), 2);
    g_autofree char *path = make_image("disk", data, sizeof(data));
    g_autofree char *snapshot = g_strdup_printf("%s,snapshot=on", mode);
    for (unsigned i = 0; i < 2; i++) {
        Client c;
        client_open(&c, path, i ? mode : snapshot);
        ck_assert_uint_eq(block_size(c.b), 1024);
        memset(back, 0xff, sizeof(back));
        ck_assert_int_eq(request(&c, BLOCK_READ, 0, 1024, back), 0);
        ck_assert_mem_eq(back, data, 1000);
        for (unsigned j = 1000; j < 1024; j++) {
            ck_assert_uint_eq(back[j], 0);
        }
        memset(back, 0x55, sizeof(back));
        ck_assert_int_eq(request(&c, BLOCK_WRITE, 512, 512, back), 0);
        ck_assert_int_eq(request(&c, BLOCK_READ, 0, 1024, back), 0);
        ck_assert_mem_eq(back, data, 512);
        ck_assert_uint_eq(back[512] & back[1023], 0x55);
        client_close(&c);
        struct stat st;
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_int_eq(st.st_size, i ? 1024 : 1000);
    }
}
END_TEST

static const struct {
    const char *head;
    unsigned length;
    const char *says;
} images[] = {
    {"QFI\xfb", 4, "is a qcow2 image"},
    {"\x1f\x8b\x08", 3, "compressed (gzip)"},
    {"\xfd"
     "7zXZ\0",
     6, "compressed (xz)"},
    {"\x28\xb5\x2f\xfd", 4, "zstd -dc"},
};

START_TEST(other_formats)
{
    u8 bytes[4096] = {0};
    memcpy(bytes, images[_i].head, images[_i].length);
    g_autofree char *path = make_image("disk", bytes, sizeof(bytes));
    g_autoptr(GError) err = NULL;
    ck_assert_ptr_null(try_open(path, "", &err));
    ck_assert_msg(strstr(err->message, images[_i].says) != NULL, "%s", err->message);
    ck_assert_ptr_null(strchr(err->message, '%'));
    Block *b = try_open(path, "format=raw", NULL);
    ck_assert_ptr_nonnull(b);
    block_close(b);
}
END_TEST

START_TEST(unusable)
{
    g_autofree char *empty = make_image("empty", "", 0);
    g_autofree char *fifo = path_of("fifo");
    g_autofree char *missing = path_of("missing");
    g_autofree char *guarded = make_sparse("guarded", MIB);
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    ck_assert_int_eq(chmod(guarded, 0444), 0);
    const struct {
        const char *path, *more, *says;
    } cases[] = {
        {missing, "", "there is no image"},       {folder, "", "is a folder"},
        {folder, "readonly=on", "is a folder"},   {empty, "", "is empty; to make it 8 GiB"},
        {fifo, "", "neither a file nor a block"}, {"/dev/null", "", "neither a file nor a block"},
        {guarded, "", "no permission to write"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        g_autoptr(GError) err = NULL;
        if (cases[i].path == guarded && access(guarded, W_OK) == 0) {
            continue; /* root may */
        }
        ck_assert_ptr_null(try_open(cases[i].path, cases[i].more, &err));
        ck_assert_msg(strstr(err->message, cases[i].says) != NULL, "%s", err->message);
    }
    Block *b = try_open(guarded, "snapshot=on", NULL);
    ck_assert_ptr_nonnull(b);
    block_close(b);
    g_setenv("TMPDIR", missing, TRUE);
    g_autoptr(GError) err = NULL;
    ck_assert_ptr_null(try_open(guarded, "snapshot=on", &err));
    ck_assert_msg(strstr(err->message, "TMPDIR") != NULL, "%s", err->message);
}
END_TEST

/* Containers often forbid io_uring. */
START_TEST(ring_forbidden)
{
    static u8 data[4096], back[4096];
    g_autofree char *path = make_sparse("disk", MIB);
    const bool direct = has_direct();
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {ARRAY_LEN(code), code};
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
    g_autoptr(GError) err = NULL;
    ck_assert_ptr_null(try_open(path, "aio=io_uring", &err));
    ck_assert_msg(strstr(err->message, "does not permit io_uring") != NULL, "%s", err->message);
    Client c;
    client_open(&c, path, direct ? "cache=none" : "");
    pattern(data, sizeof(data), 1);
    ck_assert_int_eq(request(&c, BLOCK_WRITE, 0, 4096, data), 0);
    ck_assert_int_eq(request(&c, BLOCK_READ, 0, 4096, back), 0);
    ck_assert_mem_eq(data, back, 4096);
    client_close(&c);
}
END_TEST

/* A block device of the host, where we may make one. */
START_TEST(host_device)
{
    static u8 data[64 * KIB], back[64 * KIB];
    g_autofree char *path = make_sparse("disk", 4 * MIB);
    int control = open("/dev/loop-control", O_RDWR);
    int n = control >= 0 ? ioctl(control, LOOP_CTL_GET_FREE) : -1;
    g_autofree char *loop = g_strdup_printf("/dev/loop%d", n);
    int device = n >= 0 ? open(loop, O_RDWR) : -1, file = open(path, O_RDWR);
    struct loop_config config = {.fd = (u32)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    if (device >= 0 && ioctl(device, LOOP_CONFIGURE, &config) == 0) {
        Client c;
        pattern(data, sizeof(data), 4);
        client_open(&c, loop, _i ? "cache=none" : "");
        ck_assert_uint_eq(block_size(c.b), 4 * MIB);
        ck_assert_int_eq(request(&c, BLOCK_WRITE, MIB, sizeof(data), data), 0);
        ck_assert_int_eq(request(&c, BLOCK_WRITE, 2 * MIB + 512, 512, data), 0);
        ck_assert_int_eq(request(&c, BLOCK_WRITE_ZEROES, MIB, 4096, NULL), 0);
        ck_assert_int_eq(request(&c, BLOCK_DISCARD, 3 * MIB, MIB, NULL), 0);
        ck_assert_int_eq(request(&c, BLOCK_FLUSH, 0, 0, NULL), 0);
        memset(data, 0, 4096);
        ck_assert_int_eq(request(&c, BLOCK_READ, MIB, sizeof(back), back), 0);
        ck_assert_mem_eq(data, back, sizeof(data));
        g_autoptr(GError) err = NULL;
        ck_assert_ptr_null(try_open(loop, "", &err));
        client_close(&c);
        ck_assert_int_eq(pread(file, back, 8192, MIB), 8192);
        ck_assert_mem_eq(data, back, 8192);
    }
    close(device);
    close(control);
    close(file);
}
END_TEST

START_TEST(info)
{
    g_autofree char *path = make_sparse("disk", MIB);
    static u8 data[4096];
    Client c;
    client_open(&c, path, "serial=abc");
    request(&c, BLOCK_WRITE, 0, 4096, data);
    request(&c, BLOCK_FLUSH, 0, 0, NULL);
    ck_assert_str_eq(block_serial(c.b), "abc");
    ck_assert_str_eq(block_id(c.b), "d0");
    g_autoptr(GString) text = g_string_new(NULL);
    block_info(c.b, text);
    g_autofree char *expected = g_strdup_printf(
        "d0: %s (raw)\n"
        "    Size:             1048576 bytes\n"
        "    Attached to:      test\n"
        "    Cache mode:       writeback, threads\n"
        "    Discard:          unmap\n"
        "    Requests:         0 reads (0 bytes), 1 writes (4096 bytes), 1 flushes, 0 discards, "
        "0 in flight\n",
        path);
    ck_assert_str_eq(text->str, expected);
    client_close(&c);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("block");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, options);
    tcase_add_loop_test(t, wrong_option, 0, ARRAY_LEN(wrong_options));
    tcase_add_loop_test(t, model, 0, ARRAY_LEN(modes));
    tcase_add_loop_test(t, model_snapshot, 0, ARRAY_LEN(modes));
    tcase_add_loop_test(t, model_poor_host, 0, 2);
    tcase_add_loop_test(t, many_iovecs, 0, 3);
    tcase_add_loop_test(t, hot_reads_at_once, 0, 2);
    tcase_add_loop_test(t, drain, 0, 2);
    tcase_add_loop_test(t, two_submitters, 0, 2);
    tcase_add_test(t, one_device);
    tcase_add_loop_test(t, flushes, 0, 5);
    tcase_add_test(t, write_cache);
    tcase_add_loop_test(t, survives_kill, 0, ARRAY_LEN(modes));
    tcase_add_loop_test(t, locks, 0, ARRAY_LEN(lock_cases));
    tcase_add_test(t, locks_with_qemu);
    tcase_add_test(t, holes);
    tcase_add_test(t, overlay_space);
    tcase_add_loop_test(t, host_errors, 0, 2);
    tcase_add_loop_test(t, size_limit, 0, ARRAY_LEN(modes));
    tcase_add_loop_test(t, refused_requests, 0, 2);
    tcase_add_loop_test(t, odd_size, 0, ARRAY_LEN(modes));
    tcase_add_loop_test(t, other_formats, 0, ARRAY_LEN(images));
    tcase_add_test(t, unusable);
    tcase_add_test(t, ring_forbidden);
    tcase_add_loop_test(t, host_device, 0, 2);
    tcase_add_test(t, info);
    Suite *s = suite_create("block");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
