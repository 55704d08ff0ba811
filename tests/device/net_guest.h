/*
 * A guest that is small enough for tests of networks: it hands prepared frames to a Net and keeps
 * what it receives; builds frames; answers ARP; and speaks enough TCP for connections over a
 * network that loses nothing. All of this is independent of the code under test: the checksums
 * are computed byte by byte.
 */
#ifndef STAG_TESTS_DEVICE_NET_GUEST_H
#define STAG_TESTS_DEVICE_NET_GUEST_H

#include <check.h>
#include <string.h>

#include "devices/net/net.h"

typedef struct Frame {
    NetHdr hdr;
    size_t len;
    u8 data[NET_FRAME_MAX + 64];
} Frame;

typedef struct Guest {
    Net *net;
    GMutex lock;
    GCond arrived;
    GQueue out, in; /* of Frame */
    bool full;      /* no buffers for receiving */
    unsigned interrupts, refused;
    u8 mac[6], router_mac[6];
    u32 ip, router; /* host byte order */
} Guest;

static const u8 guest_mac[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};

/* ---- Reference sums and fields -------------------------------------------------------------- */

static inline unsigned be16(const u8 *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static inline u32 be32(const u8 *p)
{
    return (u32)be16(p) << 16 | be16(p + 2);
}

static inline void set16(u8 *p, unsigned v)
{
    p[0] = (u8)(v >> 8);
    p[1] = (u8)v;
}

static inline void set32(u8 *p, u32 v)
{
    set16(p, v >> 16);
    set16(p + 2, v & 0xffff);
}

/* The sum, folded, not inverted. */
static inline unsigned slow_sum(const u8 *p, size_t n, u32 sum)
{
    for (size_t i = 0; i < n; i++) {
        sum += i % 2 ? p[i] : (u32)p[i] << 8;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

/* Of TCP or UDP behind an IPv4 header without options at data + 14, or an IPv6 header: 0xffff means that the checksum is right. */
static inline unsigned slow_l4_sum(const u8 *frame, unsigned protocol)
{
    const u8 *ip = frame + 14;
    if (ip[0] >> 4 == 4) {
        unsigned n = be16(ip + 2) - 20;
        return slow_sum(ip + 20, n, slow_sum(ip + 12, 8, protocol + n));
    }
    unsigned n = be16(ip + 4);
    return slow_sum(ip + 40, n, slow_sum(ip + 8, 32, protocol + n));
}

/* ---- The client ----------------------------------------------------------------------------- */

static bool guest_fetch(void *opaque, NetBatch *batch)
{
    Guest *g = opaque;
    bool more = false;
    g_mutex_lock(&g->lock);
    for (Frame *f; (f = g_queue_peek_head(&g->out));) {
        u8 *room = net_batch_room(batch);
        if (!room) {
            more = true;
            break;
        }
        memcpy(room, f->data, MIN(f->len, NET_FRAME_MAX));
        net_batch_add(batch, &f->hdr, MIN(f->len, NET_FRAME_MAX));
        g_free(g_queue_pop_head(&g->out));
    }
    g_mutex_unlock(&g->lock);
    return more;
}

static bool guest_receive(void *opaque, const NetHdr *hdr, const u8 *data, size_t len)
{
    Guest *g = opaque;
    g_mutex_lock(&g->lock);
    const bool takes = !g->full;
    g->refused += !takes;
    if (takes) {
        Frame *f = g_malloc(sizeof(Frame));
        f->hdr = *hdr;
        f->len = len;
        memcpy(f->data, data, len);
        g_queue_push_tail(&g->in, f);
        g_cond_broadcast(&g->arrived);
    }
    g_mutex_unlock(&g->lock);
    return takes;
}

static void guest_received(void *opaque)
{
    Guest *g = opaque;
    g_mutex_lock(&g->lock);
    g->interrupts++;
    g_mutex_unlock(&g->lock);
}

static const NetClient guest_client = {
    .fetch = guest_fetch,
    .receive = guest_receive,
    .received = guest_received,
};

static inline Guest *guest_new(const char *netdev)
{
    g_autoptr(GError) err = NULL;
    Guest *g = g_new0(Guest, 1);
    g_mutex_init(&g->lock);
    g_cond_init(&g->arrived);
    g->net = net_new(netdev, &err);
    ck_assert_msg(g->net != NULL, "%s", err ? err->message : "");
    memcpy(g->mac, guest_mac, 6);
    memset(g->router_mac, 0xff, 6);
    g->ip = 0x0a00020f;
    g->router = 0x0a000202;
    ck_assert(net_connect(g->net, &guest_client, g));
    return g;
}

static inline void guest_free(Guest *g)
{
    net_disconnect(g->net);
    net_free(g->net);
    g_queue_clear_full(&g->in, g_free);
    g_queue_clear_full(&g->out, g_free);
    g_mutex_clear(&g->lock);
    g_cond_clear(&g->arrived);
    g_free(g);
}

/* Takes over f. */
static inline void guest_send(Guest *g, Frame *f)
{
    g_mutex_lock(&g->lock);
    g_queue_push_tail(&g->out, f);
    g_mutex_unlock(&g->lock);
    net_kick(g->net);
}

/* Whether it is out of buffers. */
static inline void guest_is_full(Guest *g, bool full)
{
    g_mutex_lock(&g->lock);
    g->full = full;
    g_mutex_unlock(&g->lock);
    net_kick(g->net);
}

/* The next frame, NULL if none comes in time. g_free. */
static inline Frame *guest_wait(Guest *g, unsigned milliseconds)
{
    const gint64 end = g_get_monotonic_time() + milliseconds * 1000;
    g_mutex_lock(&g->lock);
    while (!g->in.length && g_cond_wait_until(&g->arrived, &g->lock, end)) {
    }
    Frame *f = g_queue_pop_head(&g->in);
    g_mutex_unlock(&g->lock);
    return f;
}

/* ---- Frames --------------------------------------------------------------------------------- */

/* An IPv4 frame with room for `n` bytes of payload at data + 34. */
static inline Frame *ipv4_frame(const Guest *g, u32 to, unsigned protocol, size_t n)
{
    Frame *f = g_malloc0(sizeof(Frame));
    memcpy(f->data, g->router_mac, 6);
    memcpy(f->data + 6, g->mac, 6);
    set16(f->data + 12, 0x0800);
    u8 *ip = f->data + 14;
    ip[0] = 0x45;
    set16(ip + 2, (unsigned)(20 + n));
    ip[8] = 64;
    ip[9] = (u8)protocol;
    set32(ip + 12, g->ip);
    set32(ip + 16, to);
    set16(ip + 10, 0xffff & ~slow_sum(ip, 20, 0));
    f->len = 34 + n;
    return f;
}

static inline Frame *udp_frame(const Guest *g, u32 to, unsigned from_port, unsigned to_port,
                               const void *data, size_t n)
{
    Frame *f = ipv4_frame(g, to, 17, 8 + n);
    u8 *udp = f->data + 34;
    set16(udp, from_port);
    set16(udp + 2, to_port);
    set16(udp + 4, (unsigned)(8 + n));
    memcpy(udp + 8, data, n);
    set16(udp + 6, 0xffff & ~slow_l4_sum(f->data, 17));
    return f;
}

enum { FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16 };

/* With SYN an MSS option of 1460 is added. */
static inline Frame *tcp_frame(const Guest *g, u32 to, unsigned from_port, unsigned to_port,
                               u32 seq, u32 ack, unsigned flags, const void *data, size_t n)
{
    const unsigned header = flags & SYN ? 24 : 20;
    Frame *f = ipv4_frame(g, to, 6, header + n);
    u8 *tcp = f->data + 34;
    set16(tcp, from_port);
    set16(tcp + 2, to_port);
    set32(tcp + 4, seq);
    set32(tcp + 8, ack);
    tcp[12] = (u8)(header / 4 << 4);
    tcp[13] = (u8)flags;
    set16(tcp + 14, 0xffff);
    if (flags & SYN) {
        set32(tcp + 20, 0x020405b4);
    }
    if (n) {
        memcpy(tcp + header, data, n);
    }
    set16(tcp + 16, 0xffff & ~slow_l4_sum(f->data, 6));
    return f;
}

/* Answers requests for our address. True if the frame was ARP. */
static inline bool guest_arp(Guest *g, const Frame *f)
{
    const u8 *arp = f->data + 14;
    if (f->len < 42 || be16(f->data + 12) != 0x0806) {
        return false;
    }
    if (be16(arp + 6) == 1 && be32(arp + 24) == g->ip) {
        Frame *r = g_malloc0(sizeof(Frame));
        memcpy(r->data, f->data + 6, 6);
        memcpy(r->data + 6, g->mac, 6);
        set16(r->data + 12, 0x0806);
        memcpy(r->data + 14, arp, 6);
        set16(r->data + 20, 2);
        memcpy(r->data + 22, g->mac, 6);
        set32(r->data + 28, g->ip);
        memcpy(r->data + 32, arp + 8, 10);
        r->len = 42;
        guest_send(g, r);
    }
    return true;
}

/* Tells the network where we are, so that it need not ask. */
static inline void guest_announce(Guest *g)
{
    Frame *r = g_malloc0(sizeof(Frame));
    memset(r->data, 0xff, 6);
    memcpy(r->data + 6, g->mac, 6);
    set16(r->data + 12, 0x0806);
    set32(r->data + 14, 0x00010800);
    set32(r->data + 18, 0x06040001);
    memcpy(r->data + 22, g->mac, 6);
    set32(r->data + 28, g->ip);
    set32(r->data + 38, g->router);
    r->len = 42;
    guest_send(g, r);
}

/* The next IPv4 frame of this protocol whose destination port is this (0: any); all others are
 * dropped, ARP is answered. */
static inline Frame *guest_wait_for(Guest *g, unsigned protocol, unsigned port, unsigned milliseconds)
{
    const gint64 end = g_get_monotonic_time() + milliseconds * 1000;
    while (g_get_monotonic_time() < end) {
        Frame *f = guest_wait(g, 100);
        if (!f) {
            continue;
        }
        if (!guest_arp(g, f) && f->len >= 34 && be16(f->data + 12) == 0x0800 &&
            f->data[14] == 0x45 && f->data[23] == protocol &&
            (!port || be16(f->data + 36) == port)) {
            return f;
        }
        g_free(f);
    }
    return NULL;
}

#endif
