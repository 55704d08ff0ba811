/*
 * virtio-net (5.1): a network card. Queue 0 has buffers for frames that arrive, queue 1 frames to
 * send, queue 2 commands.
 *
 * Frames move on the thread of the Net that the card is plugged into. A hart that rings a doorbell
 * wakes that thread, which takes the device's lock, copies a batch of frames out of guest memory
 * and gives their buffers back, so that no buffer is ever held while the lock is not, and a reset
 * has nothing to wait for. While it is at work it asks the guest for no notifications.
 *
 * Each frame has a header that says what is left to do with it: the checksum, or to cut it into
 * segments. A guest may send such frames whatever the card is plugged into; the Net does the rest.
 */
#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/net/net.h"
#include "devices/virtio/devices.h"

enum NetFeature { /* 5.1.3 */
    F_CSUM = 0,
    F_GUEST_CSUM = 1,
    F_CTRL_GUEST_OFFLOADS = 2,
    F_MTU = 3,
    F_MAC = 5,
    F_GUEST_TSO4 = 7,
    F_GUEST_TSO6 = 8,
    F_GUEST_ECN = 9,
    F_HOST_TSO4 = 11,
    F_HOST_TSO6 = 12,
    F_HOST_ECN = 13,
    F_MRG_RXBUF = 15,
    F_STATUS = 16,
    F_CTRL_VQ = 17,
    F_CTRL_RX = 18,
    F_CTRL_VLAN = 19,
    F_CTRL_RX_EXTRA = 20,
    F_CTRL_MAC_ADDR = 23,
    FEATURE_BITS = 24,
};

enum { QUEUE_RX, QUEUE_TX, QUEUE_CTRL, QUEUES };

enum { /* commands, 5.1.6.5: class, then command */
       CTRL_RX = 0,
       RX_PROMISC = 0,
       RX_ALLMULTI = 1,
       RX_ALLUNI = 2,
       RX_NOMULTI = 3,
       RX_NOUNI = 4,
       RX_NOBCAST = 5,
       RX_MODES = 6,
       CTRL_MAC = 1,
       MAC_TABLE_SET = 0,
       MAC_ADDR_SET = 1,
       CTRL_VLAN = 2,
       VLAN_ADD = 0,
       VLAN_DEL = 1,
       CTRL_GUEST_OFFLOADS = 5,
       GUEST_OFFLOADS_SET = 0,
       CTRL_OK = 0,
       CTRL_ERR = 1,
};

enum {
    LINK_UP = 1,
    MAC_SIZE = 6,
    TABLE_MAX = 64,     /* addresses of a kind; more means all */
    VLANS = 4096,
    ETHER_VLAN = 0x8100,
    FETCH_FRAMES = 64,  /* taken from the guest with the lock held */
    COMMAND_MAX = 8192, /* bytes of a command's data that are looked at */
};

/* 5.1.6: what is in front of each frame. */
typedef struct Header {
    NetHdr hdr;
    u16 num_buffers;
} Header;
_Static_assert(sizeof(Header) == 12, "the layout is the guest's");

/* 5.1.4 */
typedef struct NetConfig {
    u8 mac[MAC_SIZE];
    u16 status, max_virtqueue_pairs, mtu;
} NetConfig;
_Static_assert(sizeof(NetConfig) == 12, "the layout is the guest's");

/* Addresses that a driver wants frames for. */
typedef struct MacTable {
    unsigned count;
    bool overflow; /* there are more: take all */
    u8 mac[TABLE_MAX][MAC_SIZE];
} MacTable;

typedef struct VirtioNet {
    VirtioDevice dev;
    /* Properties. */
    char *netdev;
    u8 mac[MAC_SIZE]; /* as the user or the default has it */
    u64 host_mtu;
    u64 rx_queue_size, tx_queue_size;
    bool on[FEATURE_BITS]; /* by number of the feature */

    Net *net;
    bool link_up;
    /* What the driver has asked for since the last reset. */
    unsigned offloads; /* NET_OFFLOAD_* */
    bool modes[RX_MODES];
    u8 current_mac[MAC_SIZE];
    MacTable unicast, multicast;
    u8 vlans[VLANS / 8];
    bool starved; /* a frame waits for buffers */
    u64 filtered, dropped;
} VirtioNet;

#define AT(f) .at = offsetof(VirtioNet, f)
#define FEATURE(key, bit, text) {key, PROP_BOOL, AT(on[bit]), "on", text}

static const PropDesc net_props[] = {
    {"netdev", PROP_STRING, AT(netdev), .help = "id of the -netdev"},
    {"mac", PROP_MAC, AT(mac), .help = "address (default: 52:54:00:12:34:56 and up)"},
    {"host_mtu", PROP_UINT, AT(host_mtu), "0", "MTU that the guest is told; 0: none", 0, 65535},
    {"rx_queue_size", PROP_UINT, AT(rx_queue_size), "256", "largest, a power of two", 64,
     VIRTQ_MAX_SIZE},
    {"tx_queue_size", PROP_UINT, AT(tx_queue_size), "256", "largest, a power of two", 64,
     VIRTQ_MAX_SIZE},
    FEATURE("csum", F_CSUM, "take frames without checksums"),
    FEATURE("guest_csum", F_GUEST_CSUM, "give frames without checksums"),
    FEATURE("ctrl_guest_offloads", F_CTRL_GUEST_OFFLOADS, "the driver may switch these"),
    FEATURE("guest_tso4", F_GUEST_TSO4, "give large TCP segments over IPv4"),
    FEATURE("guest_tso6", F_GUEST_TSO6, "give large TCP segments over IPv6"),
    FEATURE("guest_ecn", F_GUEST_ECN, "the same with ECN"),
    FEATURE("host_tso4", F_HOST_TSO4, "take large TCP segments over IPv4"),
    FEATURE("host_tso6", F_HOST_TSO6, "take large TCP segments over IPv6"),
    FEATURE("host_ecn", F_HOST_ECN, "the same with ECN"),
    FEATURE("mrg_rxbuf", F_MRG_RXBUF, "frames over several buffers"),
    FEATURE("status", F_STATUS, "the state of the link"),
    FEATURE("ctrl_vq", F_CTRL_VQ, "have the queue of commands"),
    FEATURE("ctrl_rx", F_CTRL_RX, "filter by address"),
    FEATURE("ctrl_rx_extra", F_CTRL_RX_EXTRA, "more ways to do that"),
    FEATURE("ctrl_vlan", F_CTRL_VLAN, "filter by VLAN"),
    FEATURE("ctrl_mac_addr", F_CTRL_MAC_ADDR, "the driver may set the address"),
};

static bool is_link_up(const VirtioNet *n)
{
    return n->link_up || !virtio_has(&n->dev, F_STATUS);
}

/* ---- From the guest ------------------------------------------------------------------------- */

/* Copies a frame to where it fits. False: it is none. */
static bool copy_frame(VirtioNet *n, const VirtqElement *e, NetHdr *hdr, u8 *frame, size_t *len)
{
    if (e->out_bytes < sizeof(Header) + NET_HEADER ||
        e->out_bytes - sizeof(Header) > NET_FRAME_MAX) {
        log_guest_error("virtio-net %s: a frame of %zu bytes with its header\n", n->netdev,
                        e->out_bytes);
        return false;
    }
    *len = e->out_bytes - sizeof(Header);
    virtq_read(e, 0, hdr, sizeof(*hdr));
    virtq_read(e, sizeof(Header), frame, *len);
    return true;
}

static bool net_fetch(void *opaque, NetBatch *batch)
{
    VirtioNet *n = opaque;
    VirtQueue *q = virtio_queue(&n->dev, QUEUE_TX);
    bool more = true;
    u8 *room;
    g_mutex_lock(&n->dev.lock);
    virtq_set_notifications(q, false);
    for (unsigned i = 0; i < FETCH_FRAMES && (room = net_batch_room(batch)); i++) {
        NetHdr hdr;
        size_t len;
        VirtqElement *e = virtq_pop(q, 0);
        if (!e) {
            more = virtq_set_notifications(q, true);
            break;
        }
        if (copy_frame(n, e, &hdr, room, &len)) {
            net_batch_add(batch, &hdr, len);
        } else {
            n->dropped++;
        }
        virtq_push(e, 0);
    }
    virtq_notify(q);
    g_mutex_unlock(&n->dev.lock);
    return more;
}

/* ---- For the guest -------------------------------------------------------------------------- */

static bool in_table(const MacTable *t, const u8 *mac)
{
    for (unsigned i = 0; i < t->count; i++) {
        if (memcmp(t->mac[i], mac, MAC_SIZE) == 0) {
            return true;
        }
    }
    return t->overflow;
}

/* Whether the driver wants this frame (5.1.6.5.1 to 5.1.6.5.3). */
static bool is_wanted(const VirtioNet *n, const u8 *frame, size_t len)
{
    static const u8 broadcast[MAC_SIZE] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    const bool *modes = n->modes;
    if (virtio_has(&n->dev, F_CTRL_VLAN) && len >= NET_HEADER + 4 &&
        ((unsigned)frame[12] << 8 | frame[13]) == ETHER_VLAN) {
        const unsigned vlan = ((unsigned)frame[14] << 8 | frame[15]) & (VLANS - 1);
        if (!(n->vlans[vlan / 8] >> vlan % 8 & 1)) {
            return false;
        }
    }
    if (modes[RX_PROMISC]) {
        return true;
    }
    if (memcmp(frame, broadcast, MAC_SIZE) == 0) {
        return !modes[RX_NOBCAST];
    }
    if (frame[0] & 1) {
        return !modes[RX_NOMULTI] && (modes[RX_ALLMULTI] || in_table(&n->multicast, frame));
    }
    return !modes[RX_NOUNI] && (modes[RX_ALLUNI] || memcmp(frame, n->current_mac, MAC_SIZE) == 0 ||
                                in_table(&n->unicast, frame));
}

/* Whether the header asks for no more than the driver has agreed to: its wishes may have changed
 * since the Net made the frame. */
static bool is_understood(const VirtioNet *n, const NetHdr *hdr)
{
    static const unsigned needs[] = {
        [NET_GSO_NONE] = 0,
        [NET_GSO_TCPV4] = NET_OFFLOAD_TSO4,
        [NET_GSO_TCPV6] = NET_OFFLOAD_TSO6,
    };
    const unsigned gso = hdr->gso_type & ~NET_GSO_ECN;
    const unsigned need = (gso < ARRAY_LEN(needs) ? needs[gso] : ~0u) |
                          (hdr->gso_type & NET_GSO_ECN ? NET_OFFLOAD_ECN : 0) |
                          (hdr->flags & NET_HDR_NEEDS_CSUM ? NET_OFFLOAD_CSUM : 0);
    return !(need & ~n->offloads);
}

/* Takes buffers for `need` bytes: one, or with MRG_RXBUF as many as it takes. Returns how many, 0
 * if there are not enough; *never: there cannot be. */
static unsigned take_buffers(VirtioNet *n, size_t need, void **elements, bool *never)
{
    VirtQueue *q = virtio_queue(&n->dev, QUEUE_RX);
    const bool many = virtio_has(&n->dev, F_MRG_RXBUF);
    unsigned count = 0;
    size_t got = 0;
    VirtqElement *e;
    *never = false;
    while (got < need && !*never && (e = virtq_pop(q, 0))) {
        elements[count++] = e;
        got += e->in_bytes;
        *never = got < need && (!many || count == q->size || count == VIRTQ_MAX_SIZE);
    }
    if (got < need) {
        while (count) {
            virtq_unpop(elements[--count]);
        }
    }
    return count;
}

static bool put_frame(VirtioNet *n, const NetHdr *hdr, const u8 *frame, size_t len, bool *never)
{
    void *elements[VIRTQ_MAX_SIZE];
    size_t written[VIRTQ_MAX_SIZE];
    const unsigned count = take_buffers(n, sizeof(Header) + len, elements, never);
    if (!count) {
        return false;
    }
    Header h = {.hdr = *hdr, .num_buffers = (u16)count};
    h.hdr.flags &= n->offloads & NET_OFFLOAD_CSUM ? 0xff : 0;
    size_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        size_t here = 0;
        if (at < sizeof(h)) {
            here = virtq_write(elements[i], 0, (u8 *)&h + at, sizeof(h) - at);
        }
        if (at + here >= sizeof(h)) {
            const size_t done = at + here - sizeof(h);
            here += virtq_write(elements[i], here, frame + done, len - done);
        }
        written[i] = here;
        at += here;
    }
    virtq_push_many(elements, written, count);
    return true;
}

static bool net_receive(void *opaque, const NetHdr *hdr, const u8 *frame, size_t len)
{
    VirtioNet *n = opaque;
    VirtQueue *q = virtio_queue(&n->dev, QUEUE_RX);
    bool taken = true, never = false;
    g_mutex_lock(&n->dev.lock);
    if (!virtio_running(&n->dev) || !q->ready || !is_link_up(n) || !is_understood(n, hdr)) {
        n->dropped++;
    } else if (!is_wanted(n, frame, len)) {
        n->filtered++;
    } else {
        taken = put_frame(n, hdr, frame, len, &never);
        if (!taken && !never && virtio_running(&n->dev)) {
            /* Ask to be told of buffers, and look again for those that came before that. Asked for
             * or not, they are announced later: `starved` makes a kick of that. */
            n->starved = true;
            if (virtq_set_notifications(q, true)) {
                taken = put_frame(n, hdr, frame, len, &never);
            }
        }
        if (never || !virtio_running(&n->dev)) {
            log_guest_error("virtio-net %s: no buffers that hold a frame of %zu bytes\n", n->netdev,
                            len);
            n->dropped++;
            taken = true;
        }
        if (taken && n->starved) {
            n->starved = false;
            virtq_set_notifications(q, false);
        }
    }
    g_mutex_unlock(&n->dev.lock);
    return taken;
}

static void net_received(void *opaque)
{
    VirtioNet *n = opaque;
    g_mutex_lock(&n->dev.lock);
    virtq_notify(virtio_queue(&n->dev, QUEUE_RX));
    g_mutex_unlock(&n->dev.lock);
}

static void net_link_changed(void *opaque, bool up)
{
    VirtioNet *n = opaque;
    g_mutex_lock(&n->dev.lock);
    n->link_up = up;
    if (virtio_running(&n->dev) && virtio_has(&n->dev, F_STATUS)) {
        virtio_config_changed(&n->dev);
    }
    g_mutex_unlock(&n->dev.lock);
}

static const NetClient net_client = {
    .fetch = net_fetch,
    .receive = net_receive,
    .received = net_received,
    .link_changed = net_link_changed,
};

/* ---- Commands ------------------------------------------------------------------------------- */

/* What of `features` (bits by F_GUEST_*) the driver wants frames to use. */
static void set_offloads(VirtioNet *n, u64 features)
{
    static const struct {
        unsigned feature, offload;
    } rows[] = {
        {F_GUEST_CSUM, NET_OFFLOAD_CSUM},
        {F_GUEST_TSO4, NET_OFFLOAD_TSO4},
        {F_GUEST_TSO6, NET_OFFLOAD_TSO6},
        {F_GUEST_ECN, NET_OFFLOAD_ECN},
    };
    n->offloads = 0;
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        n->offloads |= features >> rows[i].feature & 1 ? rows[i].offload : 0;
    }
    if (!(n->offloads & NET_OFFLOAD_CSUM)) {
        n->offloads = 0; /* 5.1.3.1: the others need it */
    }
    net_set_offloads(n->net, n->offloads);
}

/* One list of addresses: their number in 32 bits, then they. Returns the bytes taken, 0 if they are
 * not all there. */
static size_t read_table(MacTable *t, const u8 *data, size_t len)
{
    u32 count;
    if (len < sizeof(count)) {
        return 0;
    }
    memcpy(&count, data, sizeof(count));
    if (count > (len - sizeof(count)) / MAC_SIZE) {
        return 0;
    }
    t->overflow = count > TABLE_MAX;
    t->count = t->overflow ? 0 : count;
    memcpy(t->mac, data + sizeof(count), t->count * MAC_SIZE);
    return sizeof(count) + (size_t)count * MAC_SIZE;
}

static bool command_rx(VirtioNet *n, u8 command, const u8 *data, size_t len)
{
    const unsigned feature = command <= RX_ALLMULTI ? F_CTRL_RX : F_CTRL_RX_EXTRA;
    if (command >= RX_MODES || len != 1 || !virtio_has(&n->dev, feature)) {
        return false;
    }
    n->modes[command] = data[0];
    return true;
}

static bool command_mac(VirtioNet *n, u8 command, const u8 *data, size_t len)
{
    if (command == MAC_ADDR_SET && len == MAC_SIZE && virtio_has(&n->dev, F_CTRL_MAC_ADDR)) {
        memcpy(n->current_mac, data, MAC_SIZE);
        return true;
    }
    if (command == MAC_TABLE_SET && virtio_has(&n->dev, F_CTRL_RX)) {
        MacTable unicast = {0}, multicast = {0};
        const size_t first = read_table(&unicast, data, len);
        if (first && first + read_table(&multicast, data + first, len - first) == len &&
            first < len) {
            n->unicast = unicast;
            n->multicast = multicast;
            return true;
        }
    }
    return false;
}

static bool command_vlan(VirtioNet *n, u8 command, const u8 *data, size_t len)
{
    const unsigned vlan = len == 2 ? data[0] | (unsigned)data[1] << 8 : VLANS;
    if (vlan >= VLANS || command > VLAN_DEL || !virtio_has(&n->dev, F_CTRL_VLAN)) {
        return false;
    }
    const u8 bit = (u8)(1 << vlan % 8);
    n->vlans[vlan / 8] = command == VLAN_ADD ? n->vlans[vlan / 8] | bit : n->vlans[vlan / 8] & ~bit;
    return true;
}

static bool command_offloads(VirtioNet *n, u8 command, const u8 *data, size_t len)
{
    const u64 all = VIRTIO_BIT(F_GUEST_CSUM) | VIRTIO_BIT(F_GUEST_TSO4) |
                    VIRTIO_BIT(F_GUEST_TSO6) | VIRTIO_BIT(F_GUEST_ECN);
    u64 wanted;
    if (command != GUEST_OFFLOADS_SET || len != sizeof(wanted) ||
        !virtio_has(&n->dev, F_CTRL_GUEST_OFFLOADS)) {
        return false;
    }
    memcpy(&wanted, data, sizeof(wanted));
    if (wanted & ~(all & n->dev.negotiated)) {
        return false;
    }
    set_offloads(n, wanted);
    return true;
}

static bool run_command(VirtioNet *n, const VirtqElement *e)
{
    u8 buffer[2 + COMMAND_MAX];
    const size_t len = virtq_read(e, 0, buffer, sizeof(buffer));
    if (len < 2 || e->out_bytes > sizeof(buffer)) {
        return false;
    }
    const u8 command = buffer[1];
    switch (buffer[0]) {
    case CTRL_RX:
        return command_rx(n, command, buffer + 2, len - 2);
    case CTRL_MAC:
        return command_mac(n, command, buffer + 2, len - 2);
    case CTRL_VLAN:
        return command_vlan(n, command, buffer + 2, len - 2);
    case CTRL_GUEST_OFFLOADS:
        return command_offloads(n, command, buffer + 2, len - 2);
    default:
        return false;
    }
}

static void run_commands(VirtioNet *n)
{
    VirtQueue *q = virtio_queue(&n->dev, QUEUE_CTRL);
    VirtqElement *e;
    while ((e = virtq_pop(q, 0))) {
        const u8 ack = run_command(n, e) ? CTRL_OK : CTRL_ERR;
        virtq_push(e, virtq_write(e, 0, &ack, sizeof(ack)));
    }
    virtq_notify(q);
}

/* ---- Hooks ---------------------------------------------------------------------------------- */

static void net_notify(VirtioDevice *d, unsigned queue)
{
    VirtioNet *n = (VirtioNet *)d;
    if (queue == QUEUE_CTRL) {
        run_commands(n);
    } else if (queue == QUEUE_TX || n->starved) {
        net_kick(n->net);
    }
}

static void net_driver_ok(VirtioDevice *d)
{
    VirtioNet *n = (VirtioNet *)d;
    set_offloads(n, d->negotiated);
    n->starved = false;
    virtq_set_notifications(virtio_queue(d, QUEUE_RX), false);
    net_kick(n->net);
}

static void net_reset(VirtioDevice *d)
{
    VirtioNet *n = (VirtioNet *)d;
    n->offloads = 0;
    n->starved = false;
    memset(n->modes, 0, sizeof(n->modes));
    n->modes[RX_PROMISC] = true; /* until the driver says what it wants */
    memcpy(n->current_mac, n->mac, MAC_SIZE);
    n->unicast = n->multicast = (MacTable){0};
    memset(n->vlans, 0, sizeof(n->vlans));
    if (n->net) {
        net_set_offloads(n->net, 0);
    }
}

/* No element is held between calls. A frame that waits for buffers goes on waiting. */
static void net_queue_reset(VirtioDevice *d G_GNUC_UNUSED, unsigned queue G_GNUC_UNUSED)
{
}

static void net_get_config(VirtioDevice *d, u8 *config)
{
    const VirtioNet *n = (const VirtioNet *)d;
    NetConfig c = {
        .status = n->link_up ? LINK_UP : 0,
        .max_virtqueue_pairs = 1,
        .mtu = (u16)n->host_mtu,
    };
    memcpy(c.mac, n->current_mac, MAC_SIZE);
    memcpy(config, &c, sizeof(c));
}

static void net_show(VirtioDevice *d, GString *out)
{
    const VirtioNet *n = (const VirtioNet *)d;
    const u8 *m = n->current_mac;
    g_string_append_printf(out, "    mac %02x:%02x:%02x:%02x:%02x:%02x, netdev %s, link %s\n", m[0],
                           m[1], m[2], m[3], m[4], m[5], n->netdev, n->link_up ? "up" : "down");
    g_string_append_printf(out,
                           "    %" G_GUINT64_FORMAT " frames not wanted, %" G_GUINT64_FORMAT
                           " dropped\n",
                           n->filtered, n->dropped);
}

static bool net_init(VirtioDevice *d, GError **err)
{
    VirtioNet *n = (VirtioNet *)d;
    if (!n->netdev) {
        return stag_error(err, "a network card needs netdev=ID, with a -netdev user,id=ID before it");
    }
    if (!is_pow2(n->rx_queue_size) || !is_pow2(n->tx_queue_size)) {
        return stag_error(err, "rx_queue_size and tx_queue_size are powers of two");
    }
    if (n->host_mtu && n->host_mtu < 68) {
        return stag_error(err, "host_mtu is at least 68");
    }
    Net *net = d->env.net_find(d->env.opaque, n->netdev, err);
    if (!net) {
        return false;
    }
    for (unsigned i = 0; i < FEATURE_BITS; i++) {
        d->features &= n->on[i] || !(d->class->features >> i & 1) ? ~(u64)0 : ~VIRTIO_BIT(i);
    }
    /* What needs another feature is not offered without it (5.1.3.1). */
    if (!n->on[F_CSUM]) {
        d->features &= ~(VIRTIO_BIT(F_HOST_TSO4) | VIRTIO_BIT(F_HOST_TSO6) | VIRTIO_BIT(F_HOST_ECN));
    }
    if (!n->on[F_GUEST_CSUM]) {
        d->features &= ~(VIRTIO_BIT(F_GUEST_TSO4) | VIRTIO_BIT(F_GUEST_TSO6) | VIRTIO_BIT(F_GUEST_ECN));
    }
    d->features |= VIRTIO_BIT(F_MAC) | (n->host_mtu ? VIRTIO_BIT(F_MTU) : 0);
    if (!n->on[F_CTRL_VQ]) {
        d->features &= ~(VIRTIO_BIT(F_CTRL_RX) | VIRTIO_BIT(F_CTRL_RX_EXTRA) |
                         VIRTIO_BIT(F_CTRL_VLAN) | VIRTIO_BIT(F_CTRL_MAC_ADDR) |
                         VIRTIO_BIT(F_CTRL_GUEST_OFFLOADS));
        d->queue_count = QUEUE_CTRL;
    }
    virtio_queue(d, QUEUE_RX)->max = (u16)n->rx_queue_size;
    virtio_queue(d, QUEUE_TX)->max = (u16)n->tx_queue_size;
    if (d->queue_count > QUEUE_CTRL) {
        virtio_queue(d, QUEUE_CTRL)->max = 64;
    }
    net_mac_take(n->mac);
    memcpy(n->current_mac, n->mac, MAC_SIZE);
    n->modes[RX_PROMISC] = true;
    n->link_up = net_link(net);
    n->net = net;
    if (!net_connect(net, &net_client, n)) {
        net_mac_release(n->mac);
        n->net = NULL;
        return stag_error(err, "netdev '%s' has a network card already", n->netdev);
    }
    return true;
}

static void net_finalize(VirtioDevice *d)
{
    VirtioNet *n = (VirtioNet *)d;
    if (n->net) {
        net_disconnect(n->net);
        net_mac_release(n->mac);
    }
}

const VirtioClass virtio_net_class = {
    .name = "virtio-net",
    .help = "network card",
    .id = VIRTIO_ID_NET,
    .instance_size = sizeof(VirtioNet),
    .features = VIRTIO_BIT(F_CSUM) | VIRTIO_BIT(F_GUEST_CSUM) | VIRTIO_BIT(F_CTRL_GUEST_OFFLOADS) |
                VIRTIO_BIT(F_GUEST_TSO4) | VIRTIO_BIT(F_GUEST_TSO6) | VIRTIO_BIT(F_GUEST_ECN) |
                VIRTIO_BIT(F_HOST_TSO4) | VIRTIO_BIT(F_HOST_TSO6) | VIRTIO_BIT(F_HOST_ECN) |
                VIRTIO_BIT(F_MRG_RXBUF) | VIRTIO_BIT(F_STATUS) | VIRTIO_BIT(F_CTRL_VQ) |
                VIRTIO_BIT(F_CTRL_RX) | VIRTIO_BIT(F_CTRL_VLAN) | VIRTIO_BIT(F_CTRL_RX_EXTRA) |
                VIRTIO_BIT(F_CTRL_MAC_ADDR),
    .queue_count = QUEUES,
    .config_size = sizeof(NetConfig),
    .pci_class = 0x0200,
    .props = net_props,
    .prop_count = ARRAY_LEN(net_props),
    .init = net_init,
    .finalize = net_finalize,
    .reset = net_reset,
    .queue_reset = net_queue_reset,
    .driver_ok = net_driver_ok,
    .queue_notify = net_notify,
    .get_config = net_get_config,
    .info = net_show,
};
