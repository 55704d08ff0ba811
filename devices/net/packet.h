/*
 * What network cards do to frames in hardware: checksums, cutting large TCP segments into frames,
 * and what user networking needs besides: IP fragments and a larger MSS.
 *
 * Frames come from guests and from networks, so nothing in them can be trusted: every length is
 * checked against the frame's, and a frame that makes no sense is refused, not repaired.
 */
#ifndef STAG_DEVICES_NET_PACKET_H
#define STAG_DEVICES_NET_PACKET_H

#include "devices/net/net.h"

/* Where the headers of a frame are. */
typedef struct Packet {
    unsigned version;      /* of IP: 4 or 6; 0: something else, the rest is zero then */
    unsigned l3, l4;       /* offsets of the IP header and of what follows it (and its extensions) */
    unsigned end;          /* of the IP datagram: l3 + its length, <= the frame's length */
    unsigned protocol;     /* IPPROTO_*; of fragments: 0 */
    unsigned payload;      /* TCP: offset of the data; others: l4 */
} Packet;

/* Looks through Ethernet (with VLAN tags), IP and TCP headers. */
Packet packet_parse(const u8 *frame, size_t len);

/* One's complement sum (RFC 1071) of `len` bytes as big-endian 16-bit words, on top of `sum`; not
 * folded, for the next call or packet_fold. `len` is even except in the last call. */
u64 packet_sum(const void *data, size_t len, u64 sum);
u16 packet_fold(u64 sum);
/* The sum of TCP's and UDP's pseudo header for `length` bytes of TCP or UDP. */
u64 packet_pseudo_sum(const u8 *frame, const Packet *p, unsigned length);

/* False: the header asks for something that this frame cannot have. */
bool packet_check(const NetHdr *hdr, const u8 *frame, size_t len);

/* Does what `hdr` asks for with checksums, also in a segment larger than the network's MTU, and
 * takes it off `hdr`. The header has passed packet_check. */
void packet_complete(NetHdr *hdr, u8 *frame, size_t len);

/* Gets the pieces of a frame, in order, complete with checksums. They are gone after the call. */
typedef void (*PacketFn)(void *opaque, const u8 *frame, size_t len);

/* Cuts the TCP segment into frames with at most hdr->gso_size bytes of data (RFC 9293: sequence
 * numbers and flags; IPv4: identification and header checksum). The header has passed
 * packet_check and has a gso_type. */
void packet_segment(const NetHdr *hdr, const u8 *frame, size_t len, PacketFn fn, void *opaque);
/* Cuts an IPv4 datagram into fragments that fit `mtu` (RFC 791). False, with fn not called, if it
 * cannot be: not IPv4 or a "don't fragment". */
bool packet_fragment(const u8 *frame, size_t len, unsigned mtu, PacketFn fn, void *opaque);

/* In a TCP SYN whose MSS option is at least `from`: makes that `to`, and puts the checksum right
 * (which is complete; if it is wrong, nothing changes). */
void packet_raise_mss(u8 *frame, size_t len, unsigned from, unsigned to);
/* Takes the urgent pointer out of a TCP segment, so that all its data are plain. */
void packet_clear_urgent(u8 *frame, const Packet *p);
/* Turns a complete, large TCP segment into one that asks for segmentation: fills *hdr and leaves the
 * pseudo header's sum in the checksum's place. False if it is no plain TCP segment. */
bool packet_make_gso(NetHdr *hdr, u8 *frame, size_t len, unsigned mtu);

#endif
