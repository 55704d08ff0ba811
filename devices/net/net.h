/*
 * A Net is the host's end of a network card: user-mode networking (libslirp), a tap interface, or
 * a socket to another emulator. It is opened from the text of -netdev, and one network device
 * connects to it.
 *
 * Every Net has one thread, which sleeps until its descriptors are ready, a timer is due or the
 * device has rung (net_kick). That thread alone moves frames, in both directions: it asks the
 * device for the frames that the guest wants sent (`fetch`), and hands over frames for the guest
 * (`receive`). So the guest's ring is the only queue on the way out, a hart that rings the
 * doorbell does nothing but wake the thread, and a host that takes nothing leaves the ring full
 * instead of losing frames.
 *
 * Frames are Ethernet frames without FCS, each with a NetHdr that says what is left to do with it:
 * compute a checksum, cut a large TCP segment into pieces. Every Net takes every such frame: what
 * its host end cannot do is done here in software. Frames for the guest ask for nothing beyond
 * what net_set_offloads allows.
 */
#ifndef STAG_DEVICES_NET_NET_H
#define STAG_DEVICES_NET_NET_H

#include <glib.h>
#include <stdio.h>
#include <sys/uio.h>

#include "core/base/types.h"

typedef struct Net Net;

/* virtio 1.2, 5.1.6: struct virtio_net_hdr without num_buffers, in the host's byte order, which is
 * the guest's as well. */
typedef struct NetHdr {
    u8 flags;    /* NET_HDR_* */
    u8 gso_type; /* NET_GSO_* */
    u16 hdr_len;
    u16 gso_size;
    u16 csum_start, csum_offset;
} NetHdr;

enum {
    NET_HDR_NEEDS_CSUM = 1, /* sum from csum_start to the end, to csum_start + csum_offset */
    NET_HDR_DATA_VALID = 2, /* the checksum is known to be right */
    NET_GSO_NONE = 0,
    NET_GSO_TCPV4 = 1,
    NET_GSO_UDP = 3,
    NET_GSO_TCPV6 = 4,
    NET_GSO_ECN = 0x80,
};

enum {
    NET_HEADER = 14,        /* Ethernet: destination, source, type */
    NET_FRAME_MAX = 65550,  /* the longest frame: 64 KiB of IP with its Ethernet header */
    NET_MTU = 1500,
};

/* What a guest is able to take: bits of net_set_offloads. */
enum {
    NET_OFFLOAD_CSUM = 1, /* NEEDS_CSUM and DATA_VALID; the others need it */
    NET_OFFLOAD_TSO4 = 2,
    NET_OFFLOAD_TSO6 = 4,
    NET_OFFLOAD_ECN = 8,
};

/* Frames on their way from the guest, many at a time. `fetch` fills it with net_batch_room and
 * net_batch_add. */
typedef struct NetBatch {
    u8 *data;
    size_t used, size;
} NetBatch;

/* Room for the longest frame, NULL when the batch is full: write up to NET_FRAME_MAX bytes there,
 * then call net_batch_add with their number. */
u8 *net_batch_room(NetBatch *b);
void net_batch_add(NetBatch *b, const NetHdr *hdr, size_t len);

/* The network device. All run on the Net's thread, without locks of the Net that a hart may want;
 * they may take the device's lock. */
typedef struct NetClient {
    /* Moves frames that the guest wants sent into the batch, as many as fit. Returns true if there
     * are more; if it returns false, net_kick tells of the next. */
    bool (*fetch)(void *opaque, NetBatch *batch);
    /* A frame for the guest, len <= NET_FRAME_MAX. False: the guest has no buffer; the frame is
     * kept and given again after net_kick. What the device drops for other reasons it has taken. */
    bool (*receive)(void *opaque, const NetHdr *hdr, const u8 *frame, size_t len);
    /* After some frames were received: time to interrupt the guest. */
    void (*received)(void *opaque);
    /* The link went up or down (net_set_link). May be NULL. */
    void (*link_changed)(void *opaque, bool up);
} NetClient;

/* Opens what `-netdev text` describes: "user,id=n0,hostfwd=tcp::2222-:22", "tap,id=n0,ifname=tap0",
 * "socket,id=n0,listen=:1234". NULL with a sentence in *err. */
Net *net_new(const char *text, GError **err);
/* Ends the thread, closes connections. The device has disconnected. NULL is allowed. */
void net_free(Net *n);

const char *net_id(const Net *n);   /* of id=; never NULL */
const char *net_kind(const Net *n); /* "user", "tap", "socket" */

/* The device's side. One client at a time: false if there is one already. After net_disconnect
 * returns none of its functions runs; it waits for them, so the caller holds no lock that they
 * take. */
bool net_connect(Net *n, const NetClient *client, void *opaque);
void net_disconnect(Net *n);
/* The guest has frames to send or new buffers. Any thread, any lock, never blocks. */
void net_kick(Net *n);
/* NET_OFFLOAD_* bits that frames for the guest may use; none at first. Any thread, any lock. */
void net_set_offloads(Net *n, unsigned offloads);
/* As if the cable were pulled or plugged in: a link that is down takes and drops everything from
 * the guest. Main thread. */
void net_set_link(Net *n, bool up);
bool net_link(const Net *n);

/* "user,restrict=off", then indented lines on addresses, forwardings, frames and bytes each way. */
void net_info(Net *n, GString *out);
/* Adds or removes a forwarding of -netdev user while it runs, in the words of hostfwd= ("tcp::2222-:22"; to
 * remove, the part before the last '-' is enough). */
bool net_hostfwd_add(Net *n, const char *text, GError **err);
bool net_hostfwd_remove(Net *n, const char *text, GError **err);

/* `-nic text` in terms of -netdev and -device: number `index` of its kind gets the id
 * "__nic<index>" unless text has one. Both g_free. For "none" both are NULL. */
bool net_nic_split(const char *text, unsigned index, char **netdev, char **device, GError **err);
/* `-net text`: only "none" and what helps with the others. */
bool net_net_parse(const char *text, GError **err);
/* For -netdev help: the kinds and their properties. */
void net_print_help(FILE *out);

/* Default addresses as QEMU's: the lowest of 52:54:00:12:34:56, :57, ... that is not taken. A mac of
 * zeroes is replaced by one; another one is noted as taken. */
void net_mac_take(u8 mac[6]);
void net_mac_release(const u8 mac[6]);

#endif
