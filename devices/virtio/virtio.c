/*
 * What all virtio devices have in common besides rings: properties, negotiation, status, reset, the
 * configuration space, and interrupts on their way to the transport.
 *
 * A driver goes through the status bits in order (3.1.1): ACKNOWLEDGE, DRIVER, features and
 * FEATURES_OK, queues, DRIVER_OK. Bits are only ever added; writing zero resets. A driver that
 * leaves VIRTIO_F_VERSION_1 out gets the modern device all the same: small teaching systems do so,
 * and there is no other here.
 */
#include <inttypes.h>
#include <string.h>

#include "core/base/error.h"
#include "devices/virtio/internal.h"

/* ---- Properties ----------------------------------------------------------------------------- */

static const PropDesc common_props[] = {
    {"id", PROP_STRING, offsetof(VirtioDevice, id), .help = "name of this device"},
    {"bus", PROP_STRING, offsetof(VirtioDevice, bus), .help = "the bus it is plugged into"},
    {"event_idx", PROP_BOOL, offsetof(VirtioDevice, event_idx), "on",
     "fewer interrupts and notifications"},
    {"indirect_desc", PROP_BOOL, offsetof(VirtioDevice, indirect_desc), "on",
     "buffers with many pieces take one place in a queue"},
    {"packed", PROP_BOOL, offsetof(VirtioDevice, packed), "off", "packed queues"},
    {"queue_reset", PROP_BOOL, offsetof(VirtioDevice, queue_reset), "on",
     "queues can be reset one by one"},
};

PropDesc *virtio_props(const VirtioClass *class, const PropDesc *extra, unsigned extra_count,
                       unsigned *count)
{
    GArray *all = g_array_new(false, false, sizeof(PropDesc));
    g_array_append_vals(all, class->props, class->prop_count);
    g_array_append_vals(all, extra, extra_count);
    g_array_append_vals(all, common_props, ARRAY_LEN(common_props));
    *count = all->len;
    return (PropDesc *)g_array_free(all, false);
}

/* ---- Life ----------------------------------------------------------------------------------- */

static void offer_features(VirtioDevice *d)
{
    d->features |= VIRTIO_BIT(VIRTIO_F_VERSION_1);
    d->features |= d->event_idx ? VIRTIO_BIT(VIRTIO_F_EVENT_IDX) : 0;
    d->features |= d->indirect_desc ? VIRTIO_BIT(VIRTIO_F_INDIRECT_DESC) : 0;
    d->features |= d->packed ? VIRTIO_BIT(VIRTIO_F_RING_PACKED) : 0;
    if (d->queue_reset && d->class->queue_reset) {
        d->features |= VIRTIO_BIT(VIRTIO_F_RING_RESET);
    }
}

VirtioDevice *virtio_new(const VirtioClass *class, const char *text, const PropDesc *extra,
                         unsigned extra_count, const VirtioEnv *env, GError **err)
{
    VirtioDevice *d = g_malloc0(class->instance_size);
    d->class = class;
    d->env = *env;
    d->props = virtio_props(class, extra, extra_count, &d->prop_count);
    if (!props_parse(d->props, d->prop_count, class->name, text, d, err)) {
        g_free(d->props);
        g_free(d);
        return NULL;
    }
    g_mutex_init(&d->lock);
    d->features = class->features;
    d->queue_count = class->queue_count;
    d->config_size = class->config_size;
    d->queues = g_new0(VirtQueue, VIRTIO_MAX_QUEUES);
    if (class->init && !class->init(d, err)) {
        virtio_free(d);
        return NULL;
    }
    g_assert(d->queue_count <= VIRTIO_MAX_QUEUES && d->config_size <= VIRTIO_MAX_CONFIG);
    g_mutex_lock(&d->lock);
    offer_features(d);
    for (unsigned i = 0; i < d->queue_count; i++) {
        VirtQueue *q = &d->queues[i];
        q->dev = d;
        q->index = (u16)i;
        if (q->max == 0) {
            q->max = (u16)(class->queue_size ? class->queue_size : VIRTQ_MAX_SIZE);
        }
        g_assert(is_pow2(q->max) && q->max <= VIRTQ_MAX_SIZE);
        virtq_init(q);
    }
    d->ready = true;
    g_mutex_unlock(&d->lock);
    return d;
}

static void cancel_deferred(VirtioDevice *d)
{
    d->deferred = 0;
    if (d->defer_source) {
        g_source_remove(d->defer_source);
        d->defer_source = 0;
    }
}

void virtio_free(VirtioDevice *d)
{
    if (!d) {
        return;
    }
    g_mutex_lock(&d->lock);
    d->interrupt = NULL;
    if (d->ready) {
        virtio_reset(d);
    }
    g_mutex_unlock(&d->lock);
    if (d->class->finalize) {
        d->class->finalize(d);
    }
    cancel_deferred(d);
    g_mutex_clear(&d->lock);
    props_clear(d->props, d->prop_count, d);
    g_free(d->props);
    g_free(d->queues);
    g_free(d);
}

/* ---- Interrupts ----------------------------------------------------------------------------- */

void virtio_interrupt(VirtioDevice *d, u8 isr, int queue)
{
    d->isr |= isr;
    if (d->interrupt) {
        d->interrupt(d->interrupt_opaque, queue);
    }
}

void virtio_isr_ack(VirtioDevice *d, u8 bits)
{
    d->isr &= ~bits;
}

void virtio_config_changed(VirtioDevice *d)
{
    d->config_generation++;
    if (virtio_running(d)) {
        virtio_interrupt(d, VIRTIO_ISR_CONFIG, -1);
    }
}

void virtio_broken(VirtioDevice *d, const char *format, ...)
{
    if (d->status & VIRTIO_NEEDS_RESET || d->resetting) {
        return;
    }
    va_list args;
    va_start(args, format);
    g_autofree char *what = g_strdup_vprintf(format, args);
    va_end(args);
    log_guest_error("%s%s%s: %s; the device needs a reset\n", d->class->name, d->id ? " " : "",
                    d->id ? d->id : "", what);
    d->status |= VIRTIO_NEEDS_RESET;
    if (d->status & VIRTIO_DRIVER_OK) {
        virtio_interrupt(d, VIRTIO_ISR_CONFIG, -1);
    }
}

/* ---- Features and status -------------------------------------------------------------------- */

u32 virtio_features_read(const VirtioDevice *d, u32 page)
{
    return page < 2 ? (u32)(d->features >> (32 * page)) : 0;
}

u32 virtio_driver_features_read(const VirtioDevice *d, u32 page)
{
    return page < 2 ? (u32)(d->negotiated >> (32 * page)) : 0;
}

void virtio_driver_features_write(VirtioDevice *d, u32 page, u32 word)
{
    if (d->resetting || page >= 2) {
        return;
    }
    if (d->status & VIRTIO_FEATURES_OK) {
        log_guest_error("%s: features are written after FEATURES_OK\n", d->class->name);
        return;
    }
    d->negotiated = set_bits(d->negotiated, 32 * page, 32, word);
}

static bool features_work(VirtioDevice *d)
{
    if (d->negotiated & ~d->features) {
        log_guest_error("%s: the driver takes features 0x%" PRIx64 ", which are not offered\n",
                        d->class->name, d->negotiated & ~d->features);
        return false;
    }
    d->negotiated |= VIRTIO_BIT(VIRTIO_F_VERSION_1);
    return !d->class->check_features || d->class->check_features(d);
}

/* No more than two rings' worth of buffers can be popped at once. */
void virtio_process(VirtioDevice *d, unsigned queue)
{
    VirtQueue *q = &d->queues[queue];
    if (q->ready && virtio_running(d) && d->class->queue_notify) {
        q->bounded = true;
        q->budget = 2u * q->size;
        d->class->queue_notify(d, q->index);
        q->bounded = false;
    }
}

void virtio_status_write(VirtioDevice *d, u8 status)
{
    enum { WRITABLE = VIRTIO_ACKNOWLEDGE | VIRTIO_DRIVER | VIRTIO_FAILED };
    if (d->resetting) {
        return;
    }
    if (status == 0) {
        virtio_reset(d);
        return;
    }
    u8 added = status & ~d->status;
    d->status |= added & WRITABLE;
    if (added & VIRTIO_FEATURES_OK && features_work(d)) {
        d->status |= VIRTIO_FEATURES_OK;
    }
    if (!(added & VIRTIO_DRIVER_OK)) {
        return;
    }
    if (!(d->status & VIRTIO_FEATURES_OK)) {
        log_guest_error("%s: DRIVER_OK without FEATURES_OK\n", d->class->name);
        return;
    }
    d->status |= VIRTIO_DRIVER_OK;
    if (!(d->status & VIRTIO_NEEDS_RESET) && d->class->driver_ok) {
        d->class->driver_ok(d);
    }
    for (unsigned i = 0; i < d->queue_count; i++) {
        virtio_process(d, i);
    }
}

void virtio_reset(VirtioDevice *d)
{
    if (d->resetting) {
        return;
    }
    d->resetting = true;
    if (d->class->reset) {
        d->class->reset(d);
    }
    d->resetting = false;
    d->status = 0;
    d->isr = 0;
    d->negotiated = 0;
    d->deferred = 0;
    for (unsigned i = 0; i < d->queue_count; i++) {
        virtq_init(&d->queues[i]);
    }
}

/* ---- Queues as the transport sees them ------------------------------------------------------ */

VirtQueue *virtio_queue(VirtioDevice *d, u32 n)
{
    return n < d->queue_count ? &d->queues[n] : NULL;
}

VirtQueue *virtio_queue_setup(VirtioDevice *d, u32 n)
{
    VirtQueue *q = virtio_queue(d, n);
    if (q && !q->ready && !d->resetting) {
        return q;
    }
    log_guest_error("%s: set-up of queue %u, which %s\n", d->class->name, n,
                    q ? "is in use" : "is none");
    return NULL;
}

u32 virtio_queue_address_read(const VirtQueue *q, unsigned word)
{
    const u64 at[] = {q->desc, q->driver, q->device};
    return (u32)bits(at[word / 2], word % 2 * 32, 32);
}

void virtio_queue_address_write(VirtioDevice *d, u32 n, unsigned word, u32 value, u32 mask)
{
    VirtQueue *q = virtio_queue_setup(d, n);
    if (!q) {
        return;
    }
    u64 *at[] = {&q->desc, &q->driver, &q->device};
    u32 kept = virtio_queue_address_read(q, word) & ~mask;
    *at[word / 2] = set_bits(*at[word / 2], word % 2 * 32, 32, kept | (value & mask));
}

void virtio_let_go(VirtQueue *q)
{
    VirtioDevice *d = q->dev;
    if (d->class->queue_reset) {
        d->resetting = true;
        d->resetting_queue = q;
        d->class->queue_reset(d, q->index);
        d->resetting_queue = NULL;
        d->resetting = false;
    }
}

void virtio_queue_reset(VirtQueue *q)
{
    VirtioDevice *d = q->dev;
    if (d->resetting) {
        return;
    }
    if (!virtio_has(d, VIRTIO_F_RING_RESET) || !(d->status & VIRTIO_FEATURES_OK)) {
        log_guest_error("%s: reset of queue %u, which was not negotiated\n", d->class->name,
                        q->index);
        return;
    }
    virtio_let_go(q);
    virtq_init(q);
}

void virtio_queue_notify(VirtioDevice *d, u32 n)
{
    if (n < d->queue_count) {
        virtio_process(d, n);
    } else {
        log_guest_error("%s: notification of queue %u, of %u\n", d->class->name, n, d->queue_count);
    }
}

static gboolean go_on(gpointer opaque)
{
    VirtioDevice *d = opaque;
    g_mutex_lock(&d->lock);
    u64 queues = d->deferred;
    d->deferred = 0;
    d->defer_source = 0;
    for (unsigned i = 0; i < d->queue_count; i++) {
        if (queues >> i & 1) {
            virtio_process(d, i);
        }
    }
    g_mutex_unlock(&d->lock);
    return G_SOURCE_REMOVE;
}

void virtio_defer(VirtQueue *q)
{
    VirtioDevice *d = q->dev;
    d->deferred |= (u64)1 << q->index;
    if (!d->defer_source) {
        d->defer_source = g_idle_add(go_on, d);
    }
}

/* ---- Configuration space -------------------------------------------------------------------- */

static bool in_config(const VirtioDevice *d, u64 offset, unsigned size, const char *what)
{
    if (offset < d->config_size && size <= d->config_size - offset) {
        return true;
    }
    log_guest_error("%s: %s of %u bytes at 0x%" PRIx64 " of a configuration of %u\n",
                    d->class->name, what, size, offset, d->config_size);
    return false;
}

u32 virtio_config_read(VirtioDevice *d, u32 word)
{
    u8 config[VIRTIO_MAX_CONFIG + 4] = {0};
    u32 value = 0;
    if (d->class->get_config && in_config(d, word * (u64)4, 1, "read")) {
        d->class->get_config(d, config);
        memcpy(&value, config + word * 4, 4);
    }
    return value;
}

void virtio_config_write(VirtioDevice *d, u32 word, u32 value, u32 mask)
{
    unsigned first = (unsigned)__builtin_ctz(mask) / 8,
             size = (unsigned)__builtin_popcount(mask) / 8;
    u64 offset = word * (u64)4 + first;
    if (!d->resetting && in_config(d, offset, size, "write") && d->class->set_config) {
        d->class->set_config(d, (u32)offset, size, value >> (8 * first));
    }
}

/* ---- Listing -------------------------------------------------------------------------------- */

void virtio_info(VirtioDevice *d, GString *out)
{
    g_mutex_lock(&d->lock);
    g_string_append_printf(
        out, "    features 0x%" PRIx64 ", negotiated 0x%" PRIx64 ", status 0x%02x%s, isr %u\n",
        d->features, d->negotiated, d->status,
        d->status & VIRTIO_NEEDS_RESET ? " (needs reset)" : "", d->isr);
    for (unsigned i = 0; i < d->queue_count; i++) {
        const VirtQueue *q = &d->queues[i];
        if (q->ready && q->next_avail) { /* a queue that nothing has come through is not listed */
            g_string_append_printf(out, "    queue %u: %u entries, %s, %u in use\n", i, q->size,
                                   virtio_has(d, VIRTIO_F_RING_PACKED) ? "packed" : "split",
                                   q->in_use);
        }
    }
    if (d->class->info) {
        d->class->info(d, out);
    }
    g_mutex_unlock(&d->lock);
}
