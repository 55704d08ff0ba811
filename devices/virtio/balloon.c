/*
 * The driver puts lists of page numbers into the inflate queue, and the host takes these pages'
 * memory; it lists them in the deflate queue when it uses them again, which needs no action, as
 * memory that was taken comes back zeroed when touched. Free page reporting is the same for pages
 * that are just free: the driver gives their addresses as buffers.
 *
 * The statistics queue is run by the device: one buffer with the guest's figures stays here until
 * newer ones are wanted, which giving it back asks for.
 *
 * The reporting queue's number is 4; Linux leaves out queues of features that are not offered when
 * it counts, and calls it 3. Free page hints, whose queue would be 3, are for migration and not
 * offered, so both are the reporting queue.
 */
#include "devices/virtio/balloon.h"

#include <inttypes.h>
#include <string.h>

#include "core/base/bits.h"
#include "core/base/log.h"
#include "devices/virtio/devices.h"

enum { INFLATE, DEFLATE, STATS, REPORTING_LINUX, REPORTING, QUEUES };
enum { F_MUST_TELL_HOST = 0, F_STATS = 1, F_DEFLATE_ON_OOM = 2, F_POISON = 4, F_REPORTING = 5 };
enum { PAGE_SHIFT = 12, PAGE = 1 << PAGE_SHIFT };

/* A buffer names at most this many pages (Linux: 256): a hart waits for it. */
enum { MAX_PAGES = 4096 };

/* 5.5.6.4, by tag. */
static const char *const stat_names[] = {
    "swap-in", "swap-out", "major-faults", "minor-faults", "free", "total", "available", "caches",
};

typedef struct VirtioBalloon {
    VirtioDevice dev;
    bool deflate_on_oom, reporting;

    u32 target; /* pages in the balloon that we want */
    u32 actual; /* that the driver says there are */
    u32 poison;
    u64 discarded; /* bytes so far, by inflation and reports */
    VirtqElement *stats_buffer;
    u64 stats[ARRAY_LEN(stat_names)];
    u32 stats_seen; /* bit by tag */
} VirtioBalloon;

static const PropDesc balloon_props[] = {
    {"deflate-on-oom", PROP_BOOL, offsetof(VirtioBalloon, deflate_on_oom), "off",
     "the guest may take memory back when it runs out"},
    {"free-page-reporting", PROP_BOOL, offsetof(VirtioBalloon, reporting), "off",
     "the guest's free memory goes back to the host"},
};

/* ---- Pages ---------------------------------------------------------------------------------- */

/* Pages that lie side by side are discarded at once. */
typedef struct Run {
    u64 first, count;
} Run;

static void discard_run(VirtioBalloon *b, Run *run)
{
    if (run->count) {
        u64 done = bus_discard(b->dev.env.bus, run->first << PAGE_SHIFT, run->count << PAGE_SHIFT);
        if (done == 0) {
            log_guest_error("virtio-balloon: 0x%" PRIx64 " pages at 0x%" PRIx64 " are not RAM\n",
                            run->count, run->first << PAGE_SHIFT);
        }
        b->discarded += done;
        run->count = 0;
    }
}

static void inflate(VirtioBalloon *b, const VirtqElement *e)
{
    Run run = {0};
    u32 pages[256];
    size_t n;
    for (size_t at = 0; at < MAX_PAGES * sizeof(u32); at += n) {
        n = virtq_read(e, at, pages, sizeof(pages));
        for (size_t i = 0; i < n / sizeof(u32); i++) {
            u64 page = pages[i];
            if (run.count && page == run.first + run.count) {
                run.count++;
            } else if (run.count && page + 1 == run.first) {
                run = (Run){page, run.count + 1};
            } else {
                discard_run(b, &run);
                run = (Run){page, 1};
            }
        }
        if (n < sizeof(pages)) {
            break;
        }
    }
    discard_run(b, &run);
}

/* Pages with a value that the driver counts on finding again have to stay (5.5.6.7). */
static void report(VirtioBalloon *b, const VirtqElement *e)
{
    if (virtio_has(&b->dev, F_POISON) && b->poison != 0) {
        return;
    }
    for (unsigned i = 0; i < e->in_segments; i++) {
        b->discarded += bus_discard(b->dev.env.bus, e->in_addr[i], e->in_len[i]);
    }
}

/* ---- Statistics ----------------------------------------------------------------------------- */

static void take_stats(VirtioBalloon *b, VirtqElement *e)
{
    struct __attribute__((packed)) {
        u16 tag;
        u64 value;
    } entry;
    b->stats_seen = 0;
    for (size_t at = 0; at < 64 * sizeof(entry); at += sizeof(entry)) {
        if (virtq_read(e, at, &entry, sizeof(entry)) < sizeof(entry)) {
            break;
        }
        if (entry.tag < ARRAY_LEN(stat_names)) {
            b->stats[entry.tag] = entry.value;
            b->stats_seen |= 1u << entry.tag;
        }
    }
    if (b->stats_buffer) {
        virtio_broken(&b->dev, "more than one buffer of statistics");
        virtq_free(e);
    } else {
        b->stats_buffer = e;
    }
}

/* The buffer goes back, and another with newer figures comes. */
static void ask_for_stats(VirtioBalloon *b)
{
    if (b->stats_buffer) {
        VirtQueue *q = b->stats_buffer->queue;
        virtq_push(b->stats_buffer, 0);
        b->stats_buffer = NULL;
        virtq_notify(q);
    }
}

/* ---- The class ------------------------------------------------------------------------------ */

static void balloon_notify(VirtioDevice *d, unsigned queue)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    VirtQueue *q = virtio_queue(d, queue);
    VirtqElement *e;
    while ((e = virtq_pop(q, 0))) {
        if (queue == STATS) {
            take_stats(b, e);
            continue;
        }
        if (queue == INFLATE) {
            inflate(b, e);
        } else if (queue != DEFLATE) {
            report(b, e);
        }
        virtq_push(e, 0);
    }
    virtq_notify(q);
}

static bool balloon_init(VirtioDevice *d, GError **err G_GNUC_UNUSED)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    d->features |= b->deflate_on_oom ? VIRTIO_BIT(F_DEFLATE_ON_OOM) : 0;
    if (b->reporting) {
        d->features |= VIRTIO_BIT(F_REPORTING) | VIRTIO_BIT(F_POISON);
    } else {
        d->queue_count = STATS + 1;
    }
    return true;
}

static void drop_stats(VirtioBalloon *b)
{
    if (b->stats_buffer) {
        virtq_free(b->stats_buffer);
        b->stats_buffer = NULL;
    }
}

/* The target is the user's and stays. */
static void balloon_reset(VirtioDevice *d)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    drop_stats(b);
    b->actual = 0;
    b->poison = 0;
    b->stats_seen = 0;
}

static void balloon_queue_reset(VirtioDevice *d, unsigned queue)
{
    if (queue == STATS) {
        drop_stats((VirtioBalloon *)d);
    }
}

static void balloon_get_config(VirtioDevice *d, u8 *config)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    const u32 words[] = {b->target, b->actual, 0, b->poison};
    memcpy(config, words, sizeof(words));
}

static void balloon_set_config(VirtioDevice *d, u32 offset, unsigned size, u32 value)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    u32 words[4];
    balloon_get_config(d, (u8 *)words);
    memcpy((u8 *)words + offset, &value, size);
    b->actual = words[1];
    b->poison = words[3];
}

static void balloon_info(VirtioDevice *d, GString *out)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    g_string_append_printf(out,
                           "    balloon: %u pages of %u asked for; %" PRIu64 " MiB given back\n",
                           b->actual, b->target, b->discarded >> 20);
    for (unsigned i = 0; i < ARRAY_LEN(stat_names); i++) {
        if (b->stats_seen >> i & 1) {
            g_string_append_printf(out, "    guest's %s: %" PRIu64 "\n", stat_names[i],
                                   b->stats[i]);
        }
    }
    ask_for_stats(b);
}

static u64 ram_pages(const VirtioDevice *d)
{
    const GPtrArray *regions = bus_regions(d->env.bus);
    u64 pages = 0;
    for (unsigned i = 0; i < regions->len; i++) {
        const Region *r = g_ptr_array_index(regions, i);
        pages += r->kind == REGION_RAM ? r->size >> PAGE_SHIFT : 0;
    }
    return pages;
}

void virtio_balloon_set(VirtioDevice *d, u64 bytes)
{
    VirtioBalloon *b = (VirtioBalloon *)d;
    u64 pages = ram_pages(d);
    g_mutex_lock(&d->lock);
    b->target = (u32)(pages - MIN(bytes >> PAGE_SHIFT, pages));
    virtio_config_changed(d);
    ask_for_stats(b);
    g_mutex_unlock(&d->lock);
}

u64 virtio_balloon_get(VirtioDevice *d)
{
    u64 pages = ram_pages(d);
    g_mutex_lock(&d->lock);
    pages -= MIN(((VirtioBalloon *)d)->actual, pages);
    g_mutex_unlock(&d->lock);
    return pages << PAGE_SHIFT;
}

const VirtioClass virtio_balloon_class = {
    .name = "virtio-balloon",
    .help = "gives the guest's memory back to the host",
    .id = VIRTIO_ID_BALLOON,
    .instance_size = sizeof(VirtioBalloon),
    .features = VIRTIO_BIT(F_MUST_TELL_HOST) | VIRTIO_BIT(F_STATS),
    .queue_count = QUEUES,
    .queue_size = 128,
    .config_size = 16,
    .pci_class = 0x00ff,
    .props = balloon_props,
    .prop_count = ARRAY_LEN(balloon_props),
    .init = balloon_init,
    .reset = balloon_reset,
    .queue_reset = balloon_queue_reset,
    .queue_notify = balloon_notify,
    .get_config = balloon_get_config,
    .set_config = balloon_set_config,
    .info = balloon_info,
};
