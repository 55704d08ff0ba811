/*
 * virtio-net from both sides: a driver on rings, split and packed, and a peer at the other end of a
 * stream socket (-netdev socket,fd=), which sees frames with their lengths before them.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/log.h"
#include "devices/virtio/devices.h"
#include "tests/device/net_guest.h"
#include "tests/device/virtio_driver.h"

enum { WAIT = 10000 }; /* ms: when something counts as never */

enum { CSUM = 0, GUEST_CSUM = 1, GUEST_OFFLOADS = 2, MTU = 3, MAC = 5, GUEST_TSO4 = 7, HOST_TSO4 = 11,
       MRG = 15, STATUS = 16, CTRL = 17, CTRL_RX = 18, CTRL_VLAN = 19, CTRL_RX_EXTRA = 20, CTRL_MAC = 23 };

#define BIT(n) VIRTIO_BIT(n)
#define VERSION_1 VIRTIO_BIT(VIRTIO_F_VERSION_1)

static const u64 ways[] = {
    0,
    BIT(VIRTIO_F_EVENT_IDX),
    BIT(VIRTIO_F_RING_PACKED),
    BIT(VIRTIO_F_RING_PACKED) | BIT(VIRTIO_F_EVENT_IDX),
};

typedef struct Header {
    NetHdr hdr;
    u16 num_buffers;
} Header;

/* A card with its cable: the peer's end is `fd`. */
typedef struct Card {
    Driver *driver;
    Net *net;
    int fd;
    Ring *rx, *tx, *ctrl;
    u64 tx_at, rx_at; /* guest memory for a frame to send and for rx_count buffers */
    u32 rx_size;
    unsigned rx_count;
    u64 rx_of[1024]; /* by ID: the buffer's address */
} Card;

static Net *find_net(void *opaque, const char *id, GError **err G_GNUC_UNUSED)
{
    ck_assert_str_eq(id, "n0");
    return opaque;
}

static Card *card_new(const char *more)
{
    g_autoptr(GError) err = NULL;
    Card *c = g_new0(Card, 1);
    int fds[2];
    const int size = 1 << 20;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    c->fd = fds[0];
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    g_autofree char *netdev = g_strdup_printf("socket,id=n0,fd=%d", fds[1]);
    c->net = net_new(netdev, &err);
    ck_assert_msg(c->net != NULL, "%s", err ? err->message : "");
    const VirtioEnv env = {.net_find = find_net, .opaque = c->net};
    g_autofree char *text = g_strdup_printf("netdev=n0,packed=on%s%s", more ? "," : "", more ? more : "");
    c->driver = driver_new(&virtio_net_class, text, &env);
    return c;
}

static void card_free(Card *c)
{
    ring_free(c->rx);
    ring_free(c->tx);
    ring_free(c->ctrl);
    driver_free(c->driver);
    net_free(c->net);
    close(c->fd);
    g_free(c);
}

/* Starts the driver with `count` buffers of `size` bytes for frames. */
static void card_start(Card *c, u64 features, unsigned count, u32 size)
{
    ring_free(c->rx);
    ring_free(c->tx);
    ring_free(c->ctrl);
    c->driver->free = DRIVER_RAM + 0x10000; /* memory of the last run */
    ck_assert(driver_negotiate(c->driver, features));
    c->rx = ring_new(c->driver, 0, 64);
    c->tx = ring_new(c->driver, 1, 64);
    c->ctrl = c->driver->virtio->queue_count > 2 ? ring_new(c->driver, 2, 8) : NULL;
    c->tx_at = driver_alloc(c->driver, 70000);
    c->rx_size = size;
    c->rx_count = count;
    c->rx_at = count ? driver_alloc(c->driver, (u64)count * size) : 0;
    driver_go(c->driver);
    for (unsigned i = 0; i < count; i++) {
        const u64 at = c->rx_at + (u64)i * size;
        c->rx_of[ring_add(c->rx, &(Piece){at, size}, 0, 1)] = at;
    }
    if (count) {
        ring_kick(c->rx);
    }
}

/* ---- Frames --------------------------------------------------------------------------------- */

/* Sends a frame in three pieces and waits for its buffer. */
static void card_send(Card *c, const NetHdr *hdr, const u8 *frame, size_t len)
{
    const u32 header = sizeof(Header);
    Header h = {.hdr = hdr ? *hdr : (NetHdr){0}, .num_buffers = 0xabcd};
    driver_put(c->driver, c->tx_at, &h, header);
    driver_put(c->driver, c->tx_at + 16, frame, len);
    const u32 n = (u32)MIN(len, 20);
    ck_assert_uint_eq(ring_do(c->tx, (Piece[]){{c->tx_at, header}, {c->tx_at + 16, n}, {c->tx_at + 16 + n, (u32)len - n}},
                              len > n ? 3 : 2, 0), 0);
}

static bool readable(int fd, int milliseconds)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, milliseconds) == 1;
}

static void peer_read(int fd, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ck_assert_msg(readable(fd, WAIT), "only %zu of %zu bytes", done, n);
        const ssize_t got = read(fd, (u8 *)data + done, n - done);
        ck_assert_int_gt(got, 0);
        done += (size_t)got;
    }
}

/* The next frame at the peer; returns its length. */
static size_t peer_frame(Card *c, u8 *frame)
{
    u8 length[4];
    peer_read(c->fd, length, 4);
    ck_assert_uint_le(be32(length), 2000);
    peer_read(c->fd, frame, be32(length));
    return be32(length);
}

static void peer_send(Card *c, const u8 *frame, size_t len)
{
    u8 length[4];
    set32(length, (u32)len);
    ck_assert_int_eq(send(c->fd, length, 4, MSG_NOSIGNAL), 4);
    for (size_t done = 0; done < len;) {
        const ssize_t n = send(c->fd, frame + done, len - done, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        done += (size_t)n;
    }
}

/* The next frame that the guest received, put together from its buffers, which are given back.
 * Returns its length, 0 if there is none in time. */
static size_t card_receive(Card *c, Header *h, u8 *frame, unsigned milliseconds)
{
    const gint64 end = g_get_monotonic_time() + milliseconds * 1000;
    const size_t header = sizeof(Header);
    g_autofree u8 *all = g_malloc(80000);
    size_t got = 0;
    for (unsigned i = 0, n = 1; i < n; i++) {
        u16 id;
        u32 len;
        while (!ring_get(c->rx, &id, &len)) {
            if (g_get_monotonic_time() >= end) {
                ck_assert_uint_eq(i, 0);
                return 0;
            }
            g_usleep(100);
        }
        ck_assert_uint_le(len, c->rx_size);
        driver_get(c->driver, c->rx_of[id], all + got, len);
        got += len;
        if (i == 0) {
            ck_assert_uint_ge(len, header);
            *h = (Header){.num_buffers = 1};
            memcpy(h, all, header);
            n = h->num_buffers;
            ck_assert_uint_ge(n, 1);
        }
        const u64 at = c->rx_of[id];
        c->rx_of[ring_add(c->rx, &(Piece){at, c->rx_size}, 0, 1)] = at;
        ring_kick(c->rx);
    }
    memcpy(frame, all + header, got - header);
    return got - header;
}

static void fill(u8 *frame, size_t len, unsigned seed);

/* Receives what is under way, up to a frame that is sent now. */
static void drain(Card *c)
{
    static unsigned number;
    u8 frame[60], got[80000];
    Header h;
    fill(frame, sizeof(frame), 0);
    set32(frame + 20, ++number);
    peer_send(c, frame, sizeof(frame));
    do {
        ck_assert_uint_ne(card_receive(c, &h, got, WAIT), 0);
    } while (memcmp(got, frame, sizeof(frame)) != 0);
}

static void fill(u8 *frame, size_t len, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        frame[i] = (u8)(i * 7 + seed);
    }
    memset(frame, 0xff, 6);
    memcpy(frame + 6, guest_mac, 6);
    set16(frame + 12, 0x88b5);
}

/* ---- Tests ---------------------------------------------------------------------------------- */

START_TEST(configuration)
{
    Card *c = card_new("host_mtu=1400,mac=02:00:00:00:00:07");
    const u64 offered = driver_offered(c->driver);
    static const unsigned bits[] = {CSUM, GUEST_CSUM, GUEST_OFFLOADS, MTU, MAC, GUEST_TSO4, HOST_TSO4,
                                    MRG, STATUS, CTRL, CTRL_RX, CTRL_VLAN, CTRL_RX_EXTRA, CTRL_MAC};
    for (unsigned i = 0; i < ARRAY_LEN(bits); i++) {
        ck_assert_msg(offered >> bits[i] & 1, "bit %u", bits[i]);
    }
    ck_assert_uint_eq(driver_config(c->driver, 0, 4), 0x00000002);
    ck_assert_uint_eq(driver_config(c->driver, 4, 2), 0x0700);
    ck_assert_uint_eq(driver_config(c->driver, 6, 2), 1);
    ck_assert_uint_eq(driver_config(c->driver, 8, 2), 1);
    ck_assert_uint_eq(driver_config(c->driver, 10, 2), 1400);
    g_autoptr(GString) info = g_string_new(NULL);
    virtio_info(c->driver->virtio, info);
    ck_assert_msg(strstr(info->str, "mac 02:00:00:00:00:07, netdev n0, link up"), "%s", info->str);
    card_free(c);

    c = card_new("csum=off,mrg_rxbuf=off,ctrl_vq=off,status=off");
    const u64 less = driver_offered(c->driver);
    ck_assert_uint_eq(less & (BIT(CSUM) | BIT(MRG) | BIT(STATUS) | BIT(CTRL) | BIT(CTRL_RX) |
                              BIT(CTRL_MAC) | BIT(MTU) | BIT(GUEST_OFFLOADS)), 0);
    ck_assert_uint_eq(driver_config(c->driver, 0, 4), 0x12005452);
    ck_assert_uint_eq(c->driver->virtio->queue_count, 2);
    card_start(c, VERSION_1, 4, 2000);
    ck_assert(!driver_is_broken(c->driver));
    card_free(c);
}
END_TEST

START_TEST(refused)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {NULL, "netdev="},
        {"netdev=n0,rx_queue_size=100", "powers of two"},
        {"netdev=n0,host_mtu=20", "68"},
        {"netdev=n0,mac=1:2:3", "mac"},
        {"netdev=n0,tso=on", "tso"},
    };
    const VirtioEnv env = {.net_find = find_net, .bus = bus_new()};
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        g_autoptr(GError) err = NULL;
        ck_assert_ptr_null(virtio_new(&virtio_net_class, rows[i].text, NULL, 0, &env, &err));
        ck_assert_msg(strstr(err->message, rows[i].says), "%s", err->message);
    }
    bus_free(env.bus);
    /* A Net has one card. */
    Card *c = card_new(NULL);
    const VirtioEnv taken = {.net_find = find_net, .opaque = c->net, .bus = c->driver->bus};
    g_autoptr(GError) err = NULL;
    ck_assert_ptr_null(virtio_new(&virtio_net_class, "netdev=n0", NULL, 0, &taken, &err));
    ck_assert_msg(strstr(err->message, "already"), "%s", err->message);
    card_free(c);
}
END_TEST

/* Frames of many lengths, both ways, with each kind of ring. */
START_TEST(frames)
{
    static const size_t sizes[] = {14, 15, 60, 61, 1000, 1514};
    Card *c = card_new(NULL);
    for (unsigned way = 0; way < ARRAY_LEN(ways); way++) {
        card_start(c, ways[way] | VERSION_1, 16, 1600);
        for (unsigned i = 0; i < 60; i++) {
            const size_t n = sizes[i % ARRAY_LEN(sizes)];
            u8 frame[2000], got[80000];
            Header h;
            fill(frame, n, i);
            card_send(c, NULL, frame, n);
            ck_assert_uint_eq(peer_frame(c, got), n);
            ck_assert_mem_eq(got, frame, n);
            fill(frame, n, i + 1);
            peer_send(c, frame, n);
            ck_assert_uint_eq(card_receive(c, &h, got, WAIT), n);
            ck_assert_mem_eq(got, frame, n);
            ck_assert_uint_eq(h.num_buffers, 1);
            ck_assert_uint_eq(h.hdr.flags | h.hdr.gso_type | h.hdr.gso_size, 0);
        }
        ck_assert(c->driver->interrupts > 0);
        ck_assert(!driver_is_broken(c->driver));
    }
    card_free(c);
}
END_TEST

START_TEST(offloads)
{
    const Guest g = {.ip = 0x0a000001, .mac = {2, 0, 0, 0, 0, 1}, .router_mac = {2, 0, 0, 0, 0, 2}};
    g_autofree u8 *data = g_malloc(30000);
    u8 got[2000];
    fill(data, 30000, 5);
    Card *c = card_new(NULL);
    card_start(c, VERSION_1 | BIT(CSUM) | BIT(HOST_TSO4), 4, 2000);

    g_autofree Frame *f = udp_frame(&g, 0x0a000002, 1, 2, data, 500);
    const unsigned right = be16(f->data + 40);
    set16(f->data + 40, slow_sum(f->data + 26, 8, 17 + 508));
    const NetHdr csum = {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
    card_send(c, &csum, f->data, f->len);
    ck_assert_uint_eq(peer_frame(c, got), f->len);
    ck_assert_uint_eq(be16(got + 40), right);

    g_autofree Frame *large = tcp_frame(&g, 0x0a000002, 1, 2, 1000, 2, ACK, data, 30000);
    set16(large->data + 50, slow_sum(large->data + 26, 8, 6 + 20 + 30000));
    const NetHdr gso = {.flags = NET_HDR_NEEDS_CSUM, .gso_type = NET_GSO_TCPV4, .hdr_len = 54,
                        .gso_size = 1460, .csum_start = 34, .csum_offset = 16};
    card_send(c, &gso, large->data, large->len);
    size_t done = 0;
    while (done < 30000) {
        const size_t n = peer_frame(c, got) - 54;
        ck_assert_uint_le(n, 1460);
        ck_assert_uint_eq(be32(got + 38), 1000 + done);
        ck_assert_uint_eq(slow_l4_sum(got, 6), 0xffff);
        ck_assert_mem_eq(got + 54, data + done, n);
        done += n;
    }
    /* Impossible wishes and lengths lose their frame and nothing else. */
    const NetHdr bad[] = {
        {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 0xfff0, .csum_offset = 16},
        {.gso_type = NET_GSO_TCPV6, .gso_size = 1460},
        {.gso_type = 0x42},
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        card_send(c, &bad[i], f->data, f->len);
    }
    card_send(c, NULL, data, 13);
    ck_assert_uint_eq(ring_do(c->tx, &(Piece){c->tx_at, 5}, 1, 0), 0);
    ck_assert_uint_eq(ring_do(c->tx, &(Piece){c->tx_at, 70000}, 1, 0), 0);
    ck_assert_uint_eq(ring_do(c->tx, &(Piece){c->tx_at, 70000}, 0, 1), 0);
    ck_assert(!readable(c->fd, 100));
    card_send(c, NULL, data, 100);
    ck_assert_uint_eq(peer_frame(c, got), 100);
    ck_assert(!driver_is_broken(c->driver));
    card_free(c);
}
END_TEST

/* Frames over many small buffers; and what does not fit. */
START_TEST(mergeable_buffers)
{
    Card *c = card_new(NULL);
    u8 frame[1600], got[80000];
    Header h;
    for (unsigned way = 0; way < ARRAY_LEN(ways); way++) {
        for (u32 size = 12; size < 700; size = size * 3 / 2) {
            card_start(c, ways[way] | VERSION_1 | BIT(MRG), 60, 2000);
            drain(c);
            card_start(c, ways[way] | VERSION_1 | BIT(MRG), 60, size);
            for (unsigned i = 0; i < 20; i++) {
                const size_t n = 60 + i * 10 + (size > 100 ? 1000 : 0);
                const unsigned count = (unsigned)((n + 12 + size - 1) / size);
                fill(frame, n, i);
                peer_send(c, frame, n);
                if (count > 60) {
                    break; /* waits for more buffers than this driver will give */
                }
                ck_assert_uint_eq(card_receive(c, &h, got, WAIT), n);
                ck_assert_mem_eq(got, frame, n);
                ck_assert_uint_eq(h.num_buffers, count);
            }
            ck_assert(!driver_is_broken(c->driver));
            driver_reset(c->driver);
            peer_send(c, frame, 60); /* nobody is there to take it */
        }
        card_start(c, VERSION_1 | BIT(MRG), 60, 2000);
        drain(c);
    }
    /* Without MRG_RXBUF a frame that is too long for the buffer is lost, and the buffer is not. */
    card_start(c, VERSION_1, 4, 500);
    fill(frame, 1000, 0);
    peer_send(c, frame, 1000);
    peer_send(c, frame, 100);
    ck_assert_uint_eq(card_receive(c, &h, got, WAIT), 100);
    /* A ring that cannot hold the frame with all its buffers. */
    card_start(c, VERSION_1 | BIT(MRG), 64, 4);
    peer_send(c, frame, 1000);
    g_usleep(50000);
    ck_assert(!driver_is_broken(c->driver));
    card_start(c, VERSION_1, 4, 2000);
    fill(frame, 300, 9);
    peer_send(c, frame, 300);
    ck_assert_uint_eq(card_receive(c, &h, got, WAIT), 300);
    ck_assert_mem_eq(got, frame, 300);
    card_free(c);
}
END_TEST

/* No frame is lost when the guest is slow to give buffers. */
START_TEST(back_pressure)
{
    enum { FRAMES = 500 };
    Card *c = card_new(NULL);
    u8 frame[2000], got[80000];
    Header h;
    for (unsigned way = 0; way < ARRAY_LEN(ways); way++) {
        card_start(c, ways[way] | VERSION_1 | BIT(MRG), 0, 0);
        for (unsigned i = 0; i < FRAMES; i++) {
            fill(frame, 1400, i);
            set32(frame + 14, i);
            peer_send(c, frame, 1400);
        }
        g_usleep(20000);
        c->rx_size = 2000;
        c->rx_at = driver_alloc(c->driver, 4 * 2000);
        for (unsigned i = 0; i < 4; i++) {
            const u64 at = c->rx_at + i * 2000;
            c->rx_of[ring_add(c->rx, &(Piece){at, 2000}, 0, 1)] = at;
        }
        ring_kick(c->rx);
        for (unsigned i = 0; i < FRAMES; i++) {
            ck_assert_msg(card_receive(c, &h, got, WAIT) == 1400, "way %u, frame %u", way, i);
            ck_assert_uint_eq(be32(got + 14), i);
        }
    }
    card_free(c);
}
END_TEST

/* ---- Commands ------------------------------------------------------------------------------- */

static u8 command(Card *c, u8 class, u8 what, const void *data, u32 len)
{
    const u64 at = driver_alloc(c->driver, len + 16);
    driver_put(c->driver, at, (u8[]){class, what}, 2);
    driver_put(c->driver, at + 2, data, len);
    driver_put(c->driver, at + 2 + len, (u8[]){0x55}, 1);
    ck_assert_uint_eq(ring_do(c->ctrl, (Piece[]){{at, 2}, {at + 2, len ? len : 1}, {at + 2 + len, 1}},
                              len ? 2 : 1, len ? 1 : 2), 1);
    u8 ack;
    driver_get(c->driver, at + 2 + len, &ack, 1);
    return ack;
}

/* Whether a frame to this address, in this VLAN (0: none), gets through. */
static bool arrives(Card *c, const char *mac, unsigned vlan)
{
    u8 frame[100], last[60], got[80000];
    unsigned m[6];
    Header h;
    fill(frame, sizeof(frame), 1);
    ck_assert_int_eq(sscanf(mac, "%x:%x:%x:%x:%x:%x", &m[0], &m[1], &m[2], &m[3], &m[4], &m[5]), 6);
    for (unsigned i = 0; i < 6; i++) {
        frame[i] = (u8)m[i];
    }
    if (vlan) {
        set16(frame + 12, 0x8100);
        set16(frame + 14, 0xe000 | vlan);
    }
    peer_send(c, frame, sizeof(frame));
    /* To the card's own address: this always arrives, and shows that the other did not. */
    fill(last, sizeof(last), 2);
    memcpy(last, guest_mac, 6);
    peer_send(c, last, sizeof(last));
    const size_t n = card_receive(c, &h, got, WAIT);
    if (n == sizeof(frame)) {
        ck_assert_mem_eq(got, frame, n);
        ck_assert_uint_eq(card_receive(c, &h, got, WAIT), sizeof(last));
        return true;
    }
    ck_assert_uint_eq(n, sizeof(last));
    return false;
}

START_TEST(filters)
{
    static const u8 yes = 1, no = 0;
    static const char own[] = "52:54:00:12:34:56", other[] = "02:00:00:00:00:01",
                      group[] = "01:00:5e:00:00:01", all[] = "ff:ff:ff:ff:ff:ff";
    Card *c = card_new(NULL);
    card_start(c, VERSION_1 | BIT(CTRL) | BIT(CTRL_RX) | BIT(CTRL_RX_EXTRA) | BIT(CTRL_VLAN) | BIT(CTRL_MAC), 16, 2000);
    ck_assert(arrives(c, other, 0) && arrives(c, group, 0) && arrives(c, all, 0));
    ck_assert_uint_eq(command(c, 0, 0, &no, 1), 0); /* promiscuous no more */
    ck_assert(arrives(c, own, 0) && arrives(c, all, 0));
    ck_assert(!arrives(c, other, 0) && !arrives(c, group, 0));
    ck_assert_uint_eq(command(c, 0, 1, &yes, 1), 0);
    ck_assert(arrives(c, group, 0) && !arrives(c, other, 0));
    ck_assert_uint_eq(command(c, 0, 1, &no, 1), 0);
    ck_assert_uint_eq(command(c, 0, 2, &yes, 1), 0);
    ck_assert(!arrives(c, group, 0) && arrives(c, other, 0));
    ck_assert_uint_eq(command(c, 0, 2, &no, 1), 0);
    ck_assert_uint_eq(command(c, 0, 5, &yes, 1), 0);
    ck_assert(!arrives(c, all, 0));
    ck_assert_uint_eq(command(c, 0, 5, &no, 1), 0);

    u8 table[4 + 6 + 4 + 6] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1};
    ck_assert_uint_eq(command(c, 1, 0, table, sizeof(table)), 0);
    ck_assert(arrives(c, other, 0) && arrives(c, group, 0));
    ck_assert(!arrives(c, "02:00:00:00:00:02", 0) && !arrives(c, "01:00:5e:00:00:02", 0));
    /* Wrong tables change nothing. */
    table[0] = 2;
    ck_assert_uint_eq(command(c, 1, 0, table, sizeof(table)), 1);
    table[3] = 0xff;
    ck_assert_uint_eq(command(c, 1, 0, table, sizeof(table)), 1);
    ck_assert_uint_eq(command(c, 1, 0, table, 10), 1);
    ck_assert_uint_eq(command(c, 1, 0, table, 3), 1);
    ck_assert(arrives(c, other, 0) && !arrives(c, "02:00:00:00:00:02", 0));
    /* More addresses than the card has room for: all. */
    u8 many[8 + 100 * 6] = {100};
    ck_assert_uint_eq(command(c, 1, 0, many, sizeof(many)), 0);
    ck_assert(arrives(c, "02:00:00:00:00:02", 0) && !arrives(c, group, 0));
    ck_assert_uint_eq(command(c, 1, 0, (u8[8]){0}, 8), 0);
    ck_assert(!arrives(c, "02:00:00:00:00:02", 0));

    ck_assert(!arrives(c, own, 5));
    ck_assert_uint_eq(command(c, 2, 0, (u8[]){5, 0}, 2), 0);
    ck_assert(arrives(c, own, 5) && !arrives(c, own, 6));
    ck_assert_uint_eq(command(c, 2, 1, (u8[]){5, 0}, 2), 0);
    ck_assert(!arrives(c, own, 5));
    ck_assert_uint_eq(command(c, 2, 0, (u8[]){0, 0x10}, 2), 1);
    ck_assert_uint_eq(command(c, 2, 2, (u8[]){5, 0}, 2), 1);

    ck_assert_uint_eq(command(c, 1, 1, (u8[]){2, 0, 0, 0, 0, 1}, 6), 0);
    ck_assert_uint_eq(driver_config(c->driver, 4, 2), 0x0100);
    ck_assert_uint_eq(command(c, 1, 1, guest_mac, 6), 0);
    ck_assert_uint_eq(command(c, 1, 1, guest_mac, 5), 1);
    ck_assert_uint_eq(command(c, 0, 6, &yes, 1), 1);
    ck_assert_uint_eq(command(c, 0, 0, "\1\1", 2), 1);
    ck_assert_uint_eq(command(c, 9, 0, &yes, 1), 1);
    ck_assert_uint_eq(command(c, 4, 0, "\2\0", 2), 1);
    ck_assert_uint_eq(command(c, 5, 0, (u8[8]){2}, 8), 1); /* not negotiated */
    g_autofree u8 *huge = g_malloc0(20000);
    ck_assert_uint_eq(command(c, 1, 0, huge, 20000), 1);
    ck_assert(!driver_is_broken(c->driver));

    /* A reset lets all in again. */
    card_start(c, VERSION_1, 16, 2000);
    ck_assert(arrives(c, other, 0) && arrives(c, other, 7));
    card_free(c);
}
END_TEST

/* ---- Link and resets ------------------------------------------------------------------------ */

START_TEST(link_state)
{
    Card *c = card_new(NULL);
    u8 frame[60], got[80000];
    Header h;
    fill(frame, sizeof(frame), 1);
    card_start(c, VERSION_1 | BIT(STATUS), 4, 2000);
    driver_ack(c->driver);
    net_set_link(c->net, false);
    ck_assert_uint_eq(driver_config(c->driver, 6, 2), 0);
    ck_assert_uint_eq(driver_ack(c->driver), VIRTIO_ISR_CONFIG);
    card_send(c, NULL, frame, sizeof(frame));
    peer_send(c, frame, sizeof(frame));
    ck_assert_uint_eq(card_receive(c, &h, got, 100), 0);
    ck_assert(!readable(c->fd, 0));
    net_set_link(c->net, true);
    ck_assert_uint_eq(driver_config(c->driver, 6, 2), 1);
    ck_assert_uint_eq(driver_ack(c->driver) & VIRTIO_ISR_CONFIG, VIRTIO_ISR_CONFIG);
    peer_send(c, frame, sizeof(frame));
    ck_assert_uint_eq(card_receive(c, &h, got, WAIT), sizeof(frame));
    card_free(c);
}
END_TEST

typedef struct Flood {
    Card *card;
    gint stop;
} Flood;

/* A peer that sends and receives as fast as it can, small and large frames. */
static gpointer flood(gpointer opaque)
{
    Flood *f = opaque;
    u8 data[64 * 1024], frame[1600];
    size_t done = 0, len = 0;
    for (unsigned n = 60; !g_atomic_int_get(&f->stop);) {
        if (done == len) {
            n = n * 5 / 4 > 1500 ? 60 : n * 5 / 4;
            fill(frame + 4, n, n);
            set32(frame, n);
            done = 0;
            len = n + 4;
        }
        const ssize_t sent = send(f->card->fd, frame + done, len - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        ck_assert(sent >= 0 || errno == EAGAIN);
        done += sent > 0 ? (size_t)sent : 0;
        while (recv(f->card->fd, data, sizeof(data), MSG_DONTWAIT) > 0) {
        }
    }
    return NULL;
}

/* Resets while frames come and go; guest memory that the card had is not touched afterwards. */
START_TEST(resets_in_mid_flight)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(1);
    Card *c = card_new(NULL);
    Flood f = {.card = c};
    GThread *peer = g_thread_new("peer", flood, &f);
    u8 frame[1500], got[80000];
    fill(frame, sizeof(frame), 1);
    for (unsigned round = 0; round < 150; round++) {
        card_start(c, VERSION_1 | BIT(MRG) | ways[g_rand_int(r) % ARRAY_LEN(ways)], 40, 300);
        Header h = {0};
        driver_put(c->driver, c->tx_at, &h, sizeof(h));
        driver_put(c->driver, c->tx_at + sizeof(h), frame, sizeof(frame));
        for (unsigned i = 0; i < 40; i++) {
            ring_add(c->tx, &(Piece){c->tx_at, 60 + g_rand_int(r) % 1400}, 1, 0);
        }
        ring_kick(c->tx);
        if (round % 4 == 0) {
            card_receive(c, &h, got, 1);
        }
        g_usleep(g_rand_int(r) % 300);
        if (round % 5 == 0) {
            driver_machine_reset(c->driver);
        } else {
            driver_reset(c->driver);
        }
        const u64 size = 40 * 300;
        g_autofree u8 *before = g_malloc(size), *after = g_malloc(size);
        driver_get(c->driver, c->rx_at, before, size);
        g_usleep(g_rand_int(r) % 300);
        driver_get(c->driver, c->rx_at, after, size);
        ck_assert_mem_eq(before, after, size);
    }
    g_atomic_int_set(&f.stop, 1);
    g_thread_join(peer);
    card_free(c);
}
END_TEST

/* Headers and lengths at random, with buffers of odd shapes: the card goes on. */
START_TEST(hostile_frames)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(2);
    const Guest g = {.ip = 0x0a000001};
    Card *c = card_new(NULL);
    Flood f = {.card = c};
    card_start(c, VERSION_1 | BIT(CSUM) | BIT(HOST_TSO4) | BIT(MRG), 40, 100);
    GThread *peer = g_thread_new("peer", flood, &f);
    u8 data[3000] = {0};
    for (unsigned round = 0; round < 5000; round++) {
        g_autofree Frame *t = tcp_frame(&g, 0x0a000002, 1, 2, 3, 4, ACK, data, g_rand_int(r) % 3000);
        Header h = {.hdr = {.flags = (u8)g_rand_int(r) & 3,
                            .gso_type = g_rand_boolean(r) ? NET_GSO_TCPV4 : (u8)g_rand_int(r),
                            .gso_size = (u16)(g_rand_int(r) % (g_rand_boolean(r) ? 4 : 2000)),
                            .csum_start = (u16)(g_rand_int(r) % 60),
                            .csum_offset = (u16)(g_rand_int(r) % 60)}};
        for (unsigned i = g_rand_int(r) % 4; i; i--) {
            t->data[g_rand_int(r) % 60] = (u8)g_rand_int(r);
        }
        driver_put(c->driver, c->tx_at, &h, sizeof(h));
        driver_put(c->driver, c->tx_at + sizeof(h), t->data, t->len);
        const u32 all = (u32)(sizeof(h) + t->len), first = g_rand_int(r) % all;
        ring_do(c->tx, (Piece[]){{c->tx_at, first ? first : 1}, {c->tx_at + first, all - first}}, 2, 0);
    }
    ck_assert(!driver_is_broken(c->driver));
    g_atomic_int_set(&f.stop, 1);
    g_thread_join(peer);
    card_free(c);
}
END_TEST

int main(int argc, char **argv G_GNUC_UNUSED)
{
    driver_over_pci = argc > 1;
    Suite *s = suite_create("virtio-net");
    TCase *t = tcase_create("card");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, configuration);
    tcase_add_test(t, refused);
    tcase_add_test(t, frames);
    tcase_add_test(t, offloads);
    tcase_add_test(t, mergeable_buffers);
    tcase_add_test(t, back_pressure);
    tcase_add_test(t, filters);
    tcase_add_test(t, link_state);
    tcase_add_test(t, resets_in_mid_flight);
    tcase_add_test(t, hostile_frames);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
