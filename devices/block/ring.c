/* io_uring. All of the ring is its thread's; others put requests into a list and, if the thread
 * sleeps, write to an eventfd that the ring itself reads. */
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/thread.h"
#include "devices/block/aio.h"

enum { ENTRIES = 256, IN_RING = ENTRIES - 1 /* one is the eventfd's */ };

struct BlockRing {
    Block *block;
    GThread *thread;
    int event;

    GMutex lock; /* of what follows */
    GCond started;
    BlockRequest *first, **last;
    bool stop, asleep;
    int status; /* of making the ring: -1 while we don't know, 0, or an errno */

    /* The thread's. */
    struct io_uring ring;
    u64 event_value;
    bool event_armed;
    unsigned in_ring;
};

static int make_ring(struct io_uring *ring)
{
    int result = -EINVAL;
#if defined(IORING_SETUP_SINGLE_ISSUER) && defined(IORING_SETUP_DEFER_TASKRUN)
    result = io_uring_queue_init(ENTRIES, ring,
                                 IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
#endif
    return result == -EINVAL ? io_uring_queue_init(ENTRIES, ring, 0) : result;
}

static struct io_uring_sqe *get_sqe(BlockRing *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    while (!sqe) {
        io_uring_submit(&u->ring);
        sqe = io_uring_get_sqe(&u->ring);
    }
    return sqe;
}

/* Moves requests from the list to the ring. False: it is time to stop. */
static bool feed(BlockRing *u)
{
    g_mutex_lock(&u->lock);
    while (u->first && u->in_ring < IN_RING) {
        BlockRequest *r = u->first;
        u->first = r->next;
        struct io_uring_sqe *sqe = get_sqe(u);
        if (r->op == BLOCK_READ) {
            io_uring_prep_readv(sqe, r->fd, r->iov, r->iov_count, r->offset);
        } else {
            io_uring_prep_writev2(sqe, r->fd, r->iov, r->iov_count, r->offset,
                                  block_write_flags(u->block));
        }
        io_uring_sqe_set_data(sqe, r);
        u->in_ring++;
    }
    if (!u->first) {
        u->last = &u->first;
    }
    const bool go_on = !u->stop || u->in_ring;
    u->asleep = true;
    g_mutex_unlock(&u->lock);
    return go_on;
}

static void arm(BlockRing *u)
{
    if (!u->event_armed) {
        struct io_uring_sqe *sqe = get_sqe(u);
        io_uring_prep_read(sqe, u->event, &u->event_value, sizeof(u->event_value), 0);
        io_uring_sqe_set_data(sqe, NULL);
        u->event_armed = true;
    }
}

/* What is done; the rest of a short transfer, and what the ring could not do, is for threads. */
static void finish(BlockRing *u, BlockRequest *r, int result)
{
    u->in_ring--;
    if (result >= 0 && (r->done += (u64)result) >= r->bytes) {
        block_complete(r, 0);
    } else if (result >= 0 || result == -EAGAIN || result == -EINTR || result == -EINVAL ||
               result == -EOPNOTSUPP || result == -ECANCELED) {
        block_punt(r);
    } else {
        block_complete(r, -result);
    }
}

static void empty(BlockRing *u)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;
    bool deliver = false;
    io_uring_for_each_cqe(&u->ring, head, cqe) {
        BlockRequest *r = io_uring_cqe_get_data(cqe);
        if (r) {
            finish(u, r, cqe->res);
            deliver = true;
        } else {
            u->event_armed = false;
        }
        n++;
    }
    io_uring_cq_advance(&u->ring, n);
    if (deliver) {
        block_deliver(u->block);
    }
}

static gpointer run(gpointer opaque)
{
    BlockRing *u = opaque;
    const int result = make_ring(&u->ring);
    g_mutex_lock(&u->lock);
    u->status = -result;
    g_cond_signal(&u->started);
    g_mutex_unlock(&u->lock);
    if (result < 0) {
        return NULL;
    }
    arm(u);
    while (feed(u)) {
        io_uring_submit_and_wait(&u->ring, 1);
        g_mutex_lock(&u->lock);
        u->asleep = false;
        g_mutex_unlock(&u->lock);
        empty(u);
        arm(u);
    }
    io_uring_queue_exit(&u->ring);
    return NULL;
}

static void wake(BlockRing *u)
{
    if (u->asleep) {
        const u64 one = 1;
        u->asleep = false;
        while (write(u->event, &one, sizeof(one)) < 0 && errno == EINTR) {
        }
    }
}

BlockRing *block_ring_new(Block *b, GError **err)
{
    BlockRing *u = g_new0(BlockRing, 1);
    g_mutex_init(&u->lock);
    g_cond_init(&u->started);
    u->block = b;
    u->last = &u->first;
    u->status = -1;
    u->event = eventfd(0, EFD_CLOEXEC);
    if (u->event >= 0) {
        u->thread = thread_without_signals("block ring", run, u);
        g_mutex_lock(&u->lock);
        while (u->status == -1) {
            g_cond_wait(&u->started, &u->lock);
        }
        g_mutex_unlock(&u->lock);
    } else {
        u->status = errno;
    }
    if (u->status) {
        stag_error(err, "the kernel does not permit io_uring here (%s); use aio=threads",
                   strerror(u->status));
        block_ring_free(u);
        return NULL;
    }
    return u;
}

void block_ring_free(BlockRing *u)
{
    if (!u) {
        return;
    }
    if (u->thread) {
        g_mutex_lock(&u->lock);
        u->stop = true;
        wake(u);
        g_mutex_unlock(&u->lock);
        g_thread_join(u->thread);
    }
    if (u->event >= 0) {
        close(u->event);
    }
    g_mutex_clear(&u->lock);
    g_cond_clear(&u->started);
    g_free(u);
}

void block_ring_submit(BlockRing *u, BlockRequest *r)
{
    g_mutex_lock(&u->lock);
    r->next = NULL;
    *u->last = r;
    u->last = &r->next;
    g_mutex_unlock(&u->lock);
}

void block_ring_kick(BlockRing *u)
{
    g_mutex_lock(&u->lock);
    if (u->first) {
        wake(u);
    }
    g_mutex_unlock(&u->lock);
}
