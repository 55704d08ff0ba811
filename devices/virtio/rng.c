/*
 * virtio-rng (5.4): buffers are filled with the host kernel's random bytes. With max-bytes and
 * period the guest gets at most so many bytes in so many milliseconds; what it asks for beyond that
 * waits for a timer.
 */
#include <errno.h>
#include <sys/random.h>

#include "devices/virtio/devices.h"

typedef struct VirtioRng {
    VirtioDevice dev;
    u64 max_bytes; /* 0: no limit */
    u64 period;    /* milliseconds */
    u64 left;      /* bytes in this period */
    guint timer;   /* runs while a period lasts; 0: none */
} VirtioRng;

/* A buffer gets at most this much at once: a hart waits for it. */
enum { MAX_FILL = 64 << 10 };

static const PropDesc rng_props[] = {
    {"max-bytes", PROP_UINT, offsetof(VirtioRng, max_bytes), "0",
     "random bytes in a period at most; 0: no limit"},
    {"period", PROP_UINT, offsetof(VirtioRng, period), "65536", "milliseconds", 1, G_MAXINT},
};

static gboolean on_period(gpointer opaque)
{
    VirtioRng *r = opaque;
    g_mutex_lock(&r->dev.lock);
    r->timer = 0;
    r->left = r->max_bytes;
    virtio_process(&r->dev, 0);
    g_mutex_unlock(&r->dev.lock);
    return G_SOURCE_REMOVE;
}

/* How many of n bytes the guest may have now. */
static size_t allowed(VirtioRng *r, size_t n)
{
    n = MIN(n, MAX_FILL);
    if (r->max_bytes == 0) {
        return n;
    }
    if (!r->timer) {
        r->left = r->max_bytes;
        r->timer = g_timeout_add((guint)r->period, on_period, r);
    }
    return MIN(n, r->left);
}

/* Fills the first n bytes of the buffer; returns how many it got. */
static size_t fill(VirtqElement *e, size_t n)
{
    size_t done = 0;
    for (unsigned i = 0; i < e->in_count && done < n; i++) {
        u8 *p = e->in[i].iov_base;
        size_t end = MIN(e->in[i].iov_len, n - done), at = 0;
        while (at < end) {
            ssize_t got = getrandom(p + at, end - at, 0);
            if (got > 0) {
                at += (size_t)got;
            } else if (errno != EINTR) {
                return done + at;
            }
        }
        done += at;
    }
    return done;
}

static void rng_notify(VirtioDevice *d, unsigned queue)
{
    VirtioRng *r = (VirtioRng *)d;
    VirtQueue *q = virtio_queue(d, queue);
    VirtqElement *e;
    while ((e = virtq_pop(q, 0))) {
        size_t n = allowed(r, e->in_bytes);
        if (n == 0 && e->in_bytes) {
            virtq_unpop(e);
            break;
        }
        n = fill(e, n);
        r->left -= r->max_bytes ? n : 0;
        virtq_push(e, n);
    }
    virtq_notify(q);
}

static void rng_queue_reset(VirtioDevice *d G_GNUC_UNUSED, unsigned queue G_GNUC_UNUSED)
{
    /* no buffer is held beyond a call */
}

static void rng_finalize(VirtioDevice *d)
{
    VirtioRng *r = (VirtioRng *)d;
    if (r->timer) {
        g_source_remove(r->timer);
    }
}

const VirtioClass virtio_rng_class = {
    .name = "virtio-rng",
    .help = "source of random numbers",
    .id = VIRTIO_ID_RNG,
    .instance_size = sizeof(VirtioRng),
    .queue_count = 1,
    .pci_class = 0x00ff,
    .props = rng_props,
    .prop_count = ARRAY_LEN(rng_props),
    .finalize = rng_finalize,
    .queue_reset = rng_queue_reset,
    .queue_notify = rng_notify,
};
