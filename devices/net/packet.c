/* Checksums, segmentation and fragments. See packet.h. */
#include "devices/net/packet.h"

#include <netinet/in.h>
#include <string.h>

enum {
    ETHER_IPV4 = 0x0800,
    ETHER_IPV6 = 0x86dd,
    ETHER_VLAN = 0x8100,
    ETHER_QINQ = 0x88a8,
    GSO_HEADERS_MAX = 512, /* of each segment, from the network layer on */
    TCP_HEADER = 20,
    TCP_FIN = 0x01,
    TCP_SYN = 0x02,
    TCP_RST = 0x04,
    TCP_PSH = 0x08,
    TCP_URG = 0x20,
    TCP_CWR = 0x80,
    TCP_FLAGS = 13, /* offsets in the TCP header */
    TCP_CSUM = 16,
    TCP_URGENT = 18,
    UDP_CSUM = 6,
};

static unsigned get16(const u8 *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static u32 get32(const u8 *p)
{
    return (u32)get16(p) << 16 | get16(p + 2);
}

static void put16(u8 *p, unsigned v)
{
    p[0] = (u8)(v >> 8);
    p[1] = (u8)v;
}

static void put32(u8 *p, u32 v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

/* ---- Sums ----------------------------------------------------------------------------------- */

/* Sums 32-bit words as they lie in memory: a one's complement sum does not care about byte order,
 * except that the result comes out swapped. */
u64 packet_sum(const void *data, size_t len, u64 sum)
{
    const u8 *p = data;
    u64 a = 0, b = 0;
    u32 word;
    for (; len >= 32; len -= 32, p += 32) {
        for (unsigned i = 0; i < 32; i += 8) {
            memcpy(&word, p + i, 4);
            a += word;
            memcpy(&word, p + i + 4, 4);
            b += word;
        }
    }
    for (; len >= 4; len -= 4, p += 4) {
        memcpy(&word, p, 4);
        a += word;
    }
    a = (a & 0xffffffff) + (a >> 32) + (b & 0xffffffff) + (b >> 32);
    a = (a & 0xffff) + (a >> 16 & 0xffff) + (a >> 32);
    a = (a & 0xffff) + (a >> 16);
    a = (a & 0xffff) + (a >> 16);
    sum += (a & 0xff) << 8 | a >> 8;
    if (len >= 2) {
        sum += get16(p);
        p += 2;
        len -= 2;
    }
    return len ? sum + ((u64)p[0] << 8) : sum;
}

u16 packet_fold(u64 sum)
{
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (u16)sum;
}

u64 packet_pseudo_sum(const u8 *frame, const Packet *p, unsigned length)
{
    const u8 *ip = frame + p->l3;
    u64 sum = p->version == 4 ? packet_sum(ip + 12, 8, 0) : packet_sum(ip + 8, 32, 0);
    return sum + p->protocol + (length >> 16) + (length & 0xffff);
}

static void ipv4_header_sum(u8 *ip)
{
    const unsigned size = (ip[0] & 15) * 4;
    put16(ip + 10, 0);
    put16(ip + 10, (u16)~packet_fold(packet_sum(ip, size, 0)));
}

static void tcp_sum(u8 *frame, const Packet *p)
{
    put16(frame + p->l4 + TCP_CSUM, 0);
    const u64 sum = packet_sum(frame + p->l4, p->end - p->l4,
                               packet_pseudo_sum(frame, p, p->end - p->l4));
    put16(frame + p->l4 + TCP_CSUM, (u16)~packet_fold(sum));
}

/* A segment that is changed is summed anew only if its checksum was right: wrong has to stay wrong. */
static bool tcp_sum_is_right(const u8 *frame, const Packet *p)
{
    return packet_fold(packet_sum(frame + p->l4, p->end - p->l4,
                                  packet_pseudo_sum(frame, p, p->end - p->l4))) == 0xffff;
}

/* ---- Headers -------------------------------------------------------------------------------- */

/* Fills in l4, end and protocol. False if the header is not whole. */
static bool parse_ipv4(const u8 *frame, size_t len, Packet *p)
{
    const u8 *ip = frame + p->l3;
    if (len < p->l3 + 20) {
        return false;
    }
    const unsigned header = (ip[0] & 15) * 4, total = get16(ip + 2);
    if (ip[0] >> 4 != 4 || header < 20 || total < header || total > len - p->l3) {
        return false;
    }
    p->l4 = p->l3 + header;
    p->end = p->l3 + total;
    p->protocol = get16(ip + 6) & 0x3fff ? 0 : ip[9];
    return true;
}

static bool parse_ipv6(const u8 *frame, size_t len, Packet *p)
{
    const u8 *ip = frame + p->l3;
    if (len < p->l3 + 40 || ip[0] >> 4 != 6 || get16(ip + 4) > len - p->l3 - 40) {
        return false;
    }
    p->l4 = p->l3 + 40;
    p->end = p->l4 + get16(ip + 4);
    p->protocol = ip[6];
    while (p->protocol == IPPROTO_HOPOPTS || p->protocol == IPPROTO_ROUTING ||
           p->protocol == IPPROTO_DSTOPTS) {
        if (p->end - p->l4 < 8 || p->end - p->l4 < frame[p->l4 + 1] * 8u + 8) {
            return false;
        }
        p->protocol = frame[p->l4];
        p->l4 += frame[p->l4 + 1] * 8u + 8;
    }
    if (p->protocol == IPPROTO_FRAGMENT) {
        p->protocol = 0;
    }
    return true;
}

Packet packet_parse(const u8 *frame, size_t len)
{
    static const Packet none;
    Packet p = {.l3 = NET_HEADER};
    if (len < NET_HEADER) {
        return none;
    }
    unsigned type = get16(frame + 12);
    while ((type == ETHER_VLAN || type == ETHER_QINQ) && len >= p.l3 + 4) {
        type = get16(frame + p.l3 + 2);
        p.l3 += 4;
    }
    p.version = type == ETHER_IPV4 ? 4 : type == ETHER_IPV6 ? 6 : 0;
    if (!p.version || !(p.version == 4 ? parse_ipv4 : parse_ipv6)(frame, len, &p)) {
        return none;
    }
    p.payload = p.l4;
    if (p.protocol == IPPROTO_TCP) {
        const unsigned header = p.end - p.l4 >= TCP_HEADER ? (frame[p.l4 + 12] >> 4) * 4u : 0;
        if (header < TCP_HEADER || header > p.end - p.l4) {
            return none;
        }
        p.payload = p.l4 + header;
    }
    return p;
}

bool packet_check(const NetHdr *hdr, const u8 *frame, size_t len)
{
    if (len < NET_HEADER || len > NET_FRAME_MAX) {
        return false;
    }
    if ((hdr->flags & NET_HDR_NEEDS_CSUM) &&
        (hdr->csum_start < NET_HEADER || (size_t)hdr->csum_start + hdr->csum_offset + 2 > len)) {
        return false;
    }
    const unsigned gso = hdr->gso_type & ~NET_GSO_ECN;
    if (gso == NET_GSO_NONE) {
        return hdr->gso_type == NET_GSO_NONE;
    }
    if ((gso != NET_GSO_TCPV4 && gso != NET_GSO_TCPV6) || !hdr->gso_size) {
        return false;
    }
    const Packet p = packet_parse(frame, len);
    if (p.payload - p.l3 > GSO_HEADERS_MAX) {
        return false;
    }
    return p.version == (gso == NET_GSO_TCPV4 ? 4 : 6) && p.protocol == IPPROTO_TCP &&
           !(frame[p.l4 + TCP_FLAGS] & (TCP_SYN | TCP_RST | TCP_URG));
}

void packet_complete(NetHdr *hdr, u8 *frame, size_t len)
{
    if (hdr->gso_type != NET_GSO_NONE) {
        const Packet p = packet_parse(frame, len);
        tcp_sum(frame, &p);
    } else if (hdr->flags & NET_HDR_NEEDS_CSUM) {
        /* The guest has left the sum of the pseudo header in the checksum's place. */
        u16 sum = (u16)~packet_fold(packet_sum(frame + hdr->csum_start, len - hdr->csum_start, 0));
        if (!sum && hdr->csum_offset == UDP_CSUM) {
            sum = 0xffff; /* RFC 768: zero says that there is none */
        }
        put16(frame + hdr->csum_start + hdr->csum_offset, sum);
    }
    memset(hdr, 0, sizeof(*hdr));
}

/* ---- Cutting -------------------------------------------------------------------------------- */

void packet_segment(const NetHdr *hdr, const u8 *frame, size_t len, PacketFn fn, void *opaque)
{
    const Packet p = packet_parse(frame, len);
    const unsigned headers = p.payload, data = p.end - p.payload;
    const u32 sequence = get32(frame + p.l4 + 4);
    const u8 flags = frame[p.l4 + TCP_FLAGS];
    u8 *piece = g_malloc(headers + MIN(data, hdr->gso_size));
    memcpy(piece, frame, headers);
    unsigned done = 0, count = 0;
    do {
        const unsigned n = MIN(data - done, hdr->gso_size);
        const bool first = !done, last = done + n == data;
        memcpy(piece + headers, frame + headers + done, n);
        Packet cut = p;
        cut.end = headers + n;
        if (p.version == 4) {
            put16(piece + p.l3 + 2, cut.end - p.l3);
            put16(piece + p.l3 + 4, get16(frame + p.l3 + 4) + count);
            ipv4_header_sum(piece + p.l3);
        } else {
            put16(piece + p.l3 + 4, cut.end - p.l3 - 40);
        }
        put32(piece + p.l4 + 4, sequence + done);
        piece[p.l4 + TCP_FLAGS] =
            flags & ~((first ? 0 : TCP_CWR) | (last ? 0 : TCP_FIN | TCP_PSH));
        tcp_sum(piece, &cut);
        fn(opaque, piece, cut.end);
        done += n;
        count++;
    } while (done < data);
    g_free(piece);
}

bool packet_fragment(const u8 *frame, size_t len, unsigned mtu, PacketFn fn, void *opaque)
{
    enum { DONT_FRAGMENT = 0x4000, MORE_FRAGMENTS = 0x2000 };
    const Packet p = packet_parse(frame, len);
    if (p.version != 4 || get16(frame + p.l3 + 6) & DONT_FRAGMENT || mtu < p.l4 - p.l3 + 8) {
        return false;
    }
    const unsigned old = get16(frame + p.l3 + 6), data = p.end - p.l4;
    const unsigned most = (mtu - (p.l4 - p.l3)) & ~7u;
    u8 *piece = g_malloc(p.l4 + most);
    memcpy(piece, frame, p.l4);
    for (unsigned done = 0; done < data;) {
        const unsigned n = MIN(data - done, most);
        const bool last = done + n == data;
        memcpy(piece + p.l4, frame + p.l4 + done, n);
        put16(piece + p.l3 + 2, p.l4 - p.l3 + n);
        put16(piece + p.l3 + 6, (old + done / 8) | (last ? 0 : MORE_FRAGMENTS));
        ipv4_header_sum(piece + p.l3);
        fn(opaque, piece, p.l4 + n);
        done += n;
    }
    g_free(piece);
    return true;
}

/* ---- Large segments for user networking ----------------------------------------------------- */

void packet_raise_mss(u8 *frame, size_t len, unsigned from, unsigned to)
{
    enum { OPTION_END, OPTION_NOP, OPTION_MSS };
    const Packet p = packet_parse(frame, len);
    if (p.protocol != IPPROTO_TCP || !(frame[p.l4 + TCP_FLAGS] & TCP_SYN)) {
        return;
    }
    for (unsigned at = p.l4 + TCP_HEADER; at < p.payload && frame[at] != OPTION_END;) {
        if (frame[at] == OPTION_NOP) {
            at++;
            continue;
        }
        if (p.payload - at < 2 || frame[at + 1] < 2 || frame[at + 1] > p.payload - at) {
            return;
        }
        if (frame[at] == OPTION_MSS && frame[at + 1] == 4 && get16(frame + at + 2) >= from) {
            if (tcp_sum_is_right(frame, &p)) {
                put16(frame + at + 2, to);
                tcp_sum(frame, &p);
            }
            return;
        }
        at += frame[at + 1];
    }
}

void packet_clear_urgent(u8 *frame, const Packet *p)
{
    u8 *tcp = frame + p->l4;
    if ((tcp[TCP_FLAGS] & TCP_URG) && tcp_sum_is_right(frame, p)) {
        tcp[TCP_FLAGS] &= ~TCP_URG;
        put16(tcp + TCP_URGENT, 0);
        tcp_sum(frame, p);
    }
}

bool packet_make_gso(NetHdr *hdr, u8 *frame, size_t len, unsigned mtu)
{
    const Packet p = packet_parse(frame, len);
    if (p.protocol != IPPROTO_TCP || mtu <= p.payload - p.l3 ||
        frame[p.l4 + TCP_FLAGS] & (TCP_SYN | TCP_RST | TCP_URG)) {
        return false;
    }
    *hdr = (NetHdr){
        .flags = NET_HDR_NEEDS_CSUM,
        .gso_type = p.version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6,
        .hdr_len = (u16)p.payload,
        .gso_size = (u16)(mtu - (p.payload - p.l3)),
        .csum_start = (u16)p.l4,
        .csum_offset = TCP_CSUM,
    };
    put16(frame + p.l4 + TCP_CSUM, packet_fold(packet_pseudo_sum(frame, &p, p.end - p.l4)));
    return true;
}
