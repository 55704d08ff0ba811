/* Threads for blocking I/O. A kick wakes one; who takes a request and sees more of them wakes the
 * next, so that a burst of short requests is done by few threads and long ones spread. */
#include "core/base/thread.h"
#include "devices/block/aio.h"

enum { MAX_THREADS = 16 };

struct BlockThreads {
    GMutex lock;
    GCond work;
    BlockRequest *first, **last;
    bool stop;
    unsigned idle, count;
    unsigned woken; /* of the idle ones, those that were signalled and have not run yet */
    GThread *threads[MAX_THREADS];
};

static gpointer run(gpointer opaque);

/* Lock held. */
static void wake(BlockThreads *t)
{
    if (t->idle > t->woken) {
        t->woken++;
        g_cond_signal(&t->work);
    } else if (!t->woken && t->count < MAX_THREADS) {
        t->threads[t->count++] = thread_without_signals("block", run, t);
    }
}

static gpointer run(gpointer opaque)
{
    BlockThreads *t = opaque;
    g_mutex_lock(&t->lock);
    for (;;) {
        while (!t->first && !t->stop) {
            t->idle++;
            g_cond_wait(&t->work, &t->lock);
            t->idle--;
            t->woken -= t->woken > 0;
        }
        BlockRequest *r = t->first;
        if (!r) {
            break;
        }
        t->first = r->next;
        if (t->first) {
            wake(t);
        } else {
            t->last = &t->first;
        }
        g_mutex_unlock(&t->lock);
        block_work(r);
        g_mutex_lock(&t->lock);
    }
    g_mutex_unlock(&t->lock);
    return NULL;
}

BlockThreads *block_threads_new(void)
{
    BlockThreads *t = g_new0(BlockThreads, 1);
    g_mutex_init(&t->lock);
    g_cond_init(&t->work);
    t->last = &t->first;
    return t;
}

void block_threads_free(BlockThreads *t)
{
    g_mutex_lock(&t->lock);
    t->stop = true;
    g_cond_broadcast(&t->work);
    g_mutex_unlock(&t->lock);
    for (unsigned i = 0; i < t->count; i++) {
        g_thread_join(t->threads[i]);
    }
    g_mutex_clear(&t->lock);
    g_cond_clear(&t->work);
    g_free(t);
}

void block_threads_submit(BlockThreads *t, BlockRequest *r)
{
    g_mutex_lock(&t->lock);
    r->next = NULL;
    *t->last = r;
    t->last = &r->next;
    g_mutex_unlock(&t->lock);
}

void block_threads_kick(BlockThreads *t)
{
    g_mutex_lock(&t->lock);
    if (t->first) {
        wake(t);
    }
    g_mutex_unlock(&t->lock);
}
