/*
 * The clock is the host's plus an offset, which the guest changes by setting the time. Reading the
 * low half latches the high half. Writing the low half of the alarm arms it; the wait is a GLib
 * timeout on the main loop, which is only a wake-up call: whether the alarm is due is decided by
 * the clock.
 */
#include "devices/goldfish_rtc.h"

#include "core/base/bits.h"

typedef struct Rtc {
    Device dev;
    RtcConfig config;
    guint timer; /* the GSource that waits for the alarm; 0: none */

    u64 offset;    /* guest time minus host time, modulo 2^64 */
    u32 high;      /* latched by reading time_low */
    u32 alarm[2];  /* low half, high half */
    u32 irq_enabled;
    u8 armed;
    u8 irq_pending;
} Rtc;

static u64 guest_time(const Rtc *r)
{
    u64 now = r->config.now ? r->config.now(r->config.opaque) : (u64)g_get_real_time() * 1000;
    return now + r->offset;
}

static void update_irq(Rtc *r)
{
    device_set_irq(&r->dev, 0, r->irq_pending & r->irq_enabled);
}

static gboolean on_timer(gpointer opaque);

/* Raises the alarm if it is due, else waits for it. */
static void watch_alarm(Rtc *r)
{
    if (r->timer) {
        g_source_remove(r->timer);
        r->timer = 0;
    }
    if (r->armed) {
        u64 now = guest_time(r), due = (u64)r->alarm[1] << 32 | r->alarm[0];
        if (due <= now) {
            r->armed = 0;
            r->irq_pending = 1;
        } else {
            r->timer = g_timeout_add(MIN((due - now) / 1000000 + 1, G_MAXINT), on_timer, r);
        }
    }
    update_irq(r);
}

static gboolean on_timer(gpointer opaque)
{
    Rtc *r = opaque;
    g_mutex_lock(&r->dev.lock);
    /* A hart may have replaced this timer while it waited for the lock. */
    if (g_source_get_id(g_main_current_source()) == r->timer) {
        r->timer = 0;
        watch_alarm(r);
    }
    g_mutex_unlock(&r->dev.lock);
    return G_SOURCE_REMOVE;
}

static u64 time_low_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    Rtc *r = (Rtc *)d;
    u64 t = guest_time(r);
    r->high = t >> 32;
    return (u32)t;
}

static u64 time_high_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    return ((Rtc *)d)->high;
}

/* Setting one half of the time. */
static void set_time(Rtc *r, unsigned shift, u64 value)
{
    u64 t = guest_time(r);
    r->offset += set_bits(t, shift, 32, value) - t;
    watch_alarm(r);
}

static void time_low_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value,
                           u64 mask G_GNUC_UNUSED)
{
    set_time((Rtc *)d, 0, value);
}

static void time_high_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value,
                            u64 mask G_GNUC_UNUSED)
{
    set_time((Rtc *)d, 32, value);
}

static void alarm_low_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                            u64 mask G_GNUC_UNUSED)
{
    Rtc *r = (Rtc *)d;
    r->armed = 1;
    watch_alarm(r);
}

static void irq_enabled_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                              u64 mask G_GNUC_UNUSED)
{
    update_irq((Rtc *)d);
}

static void clear_alarm_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                              u64 mask G_GNUC_UNUSED)
{
    Rtc *r = (Rtc *)d;
    r->armed = 0;
    watch_alarm(r);
}

static u64 alarm_status_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    return ((Rtc *)d)->armed;
}

static void clear_interrupt_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value G_GNUC_UNUSED,
                                  u64 mask G_GNUC_UNUSED)
{
    Rtc *r = (Rtc *)d;
    r->irq_pending = 0;
    update_irq(r);
}

static const RegDesc rtc_regs[] = {
    {.name = "time_low", .offset = 0x00, .width = 4, .read = time_low_read,
     .write = time_low_write},
    {.name = "time_high", .offset = 0x04, .width = 4, .read = time_high_read,
     .write = time_high_write},
    {.name = "alarm_low", .offset = 0x08, .width = 4, .at = offsetof(Rtc, alarm[0]),
     .wmask = UINT32_MAX, .write = alarm_low_write},
    {.name = "alarm_high", .offset = 0x0c, .width = 4, .at = offsetof(Rtc, alarm[1]),
     .wmask = UINT32_MAX},
    {.name = "irq_enabled", .offset = 0x10, .width = 4, .at = offsetof(Rtc, irq_enabled),
     .wmask = 1, .write = irq_enabled_write},
    {.name = "clear_alarm", .offset = 0x14, .width = 4, .write = clear_alarm_write},
    {.name = "alarm_status", .offset = 0x18, .width = 4, .read = alarm_status_read},
    {.name = "clear_interrupt", .offset = 0x1c, .width = 4, .write = clear_interrupt_write},
};

static const StateField rtc_fields[] = {
    FIELD(Rtc, offset, .kind = FIELD_KEPT),
    FIELD(Rtc, high),
    FIELD(Rtc, armed, .max = 1),
    FIELD(Rtc, irq_pending, .max = 1),
};

static bool rtc_init(Device *d, const void *config, GError **err G_GNUC_UNUSED)
{
    if (config) {
        ((Rtc *)d)->config = *(const RtcConfig *)config;
    }
    device_make_outputs(d, 1);
    return true;
}

static void rtc_finalize(Device *d)
{
    Rtc *r = (Rtc *)d;
    if (r->timer) {
        g_source_remove(r->timer);
    }
}

static void rtc_update(Device *d)
{
    watch_alarm((Rtc *)d);
}

const DeviceClass goldfish_rtc_class = {
    .name = "goldfish_rtc",
    .instance_size = sizeof(Rtc),
    .region_size = 0x1000,
    .min_access = 4,
    .max_access = 4,
    .regs = rtc_regs,
    .reg_count = ARRAY_LEN(rtc_regs),
    .fields = rtc_fields,
    .field_count = ARRAY_LEN(rtc_fields),
    .fdt_name = "rtc",
    .compatible = (const char *const[]){"google,goldfish-rtc", NULL},
    .init = rtc_init,
    .finalize = rtc_finalize,
    .update = rtc_update,
};
