/*
 * The host's ends of network cards: arithmetic on frames against slow references, user networking
 * with a guest made of prepared frames and real sockets of the host, sockets between two Nets, a
 * tap interface in a network namespace of its own, and hostile input from both sides.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/device/net_guest.h"
#include "devices/net/fragments.h"
#include "devices/net/packet.h"

enum { WAIT = 10000 }; /* ms: when something counts as never */

/* ---- Arithmetic ----------------------------------------------------------------------------- */

static void fill_random(GRand *r, u8 *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        p[i] = (u8)g_rand_int(r);
    }
}

START_TEST(sums)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(1);
    u8 data[3000];
    for (unsigned round = 0; round < 2000; round++) {
        fill_random(r, data, sizeof(data));
        if (round % 3 == 0) {
            memset(data, 0xff, sizeof(data)); /* carries everywhere */
        }
        const size_t at = g_rand_int(r) % 64, n = g_rand_int(r) % (sizeof(data) - 64);
        const size_t half = n / 2 & ~(size_t)1;
        const unsigned sum = slow_sum(data + at, n, 0);
        ck_assert_uint_eq(packet_fold(packet_sum(data + at, n, 0)), sum);
        const u64 first = packet_sum(data + at, half, 0);
        ck_assert_uint_eq(packet_fold(packet_sum(data + at + half, n - half, first)), sum);
    }
    /* The longest frame of ones: no carry is lost. */
    g_autofree u8 *ones = g_malloc(NET_FRAME_MAX);
    memset(ones, 0xff, NET_FRAME_MAX);
    ck_assert_uint_eq(packet_fold(packet_sum(ones, NET_FRAME_MAX, 0)), 0xffff);
}
END_TEST

/* A TCP segment over IPv4 or IPv6 with `n` random bytes and 12 bytes of options. */
static Frame *large_segment(GRand *r, unsigned version, size_t n)
{
    const unsigned l4 = 14 + (version == 4 ? 20 : 40);
    Frame *f = g_malloc0(sizeof(Frame));
    fill_random(r, f->data, 12);
    fill_random(r, f->data + l4, 32 + n);
    u8 *ip = f->data + 14;
    if (version == 4) {
        set16(f->data + 12, 0x0800);
        ip[0] = 0x45;
        set16(ip + 2, (unsigned)(52 + n));
        set16(ip + 4, 0xfffe); /* identification wraps */
        ip[8] = 64;
        ip[9] = 6;
        fill_random(r, ip + 12, 8);
    } else {
        set16(f->data + 12, 0x86dd);
        ip[0] = 0x60;
        set16(ip + 4, (unsigned)(32 + n));
        ip[6] = 6;
        ip[7] = 64;
        fill_random(r, ip + 8, 32);
    }
    set32(f->data + l4 + 4, 0xffffff00); /* sequence numbers wrap */
    f->data[l4 + 12] = 8 << 4;
    f->data[l4 + 13] = ACK | PSH | FIN | 0x80;
    memset(f->data + l4 + 20, 1, 12);
    f->len = l4 + 32 + n;
    f->hdr = (NetHdr){.flags = NET_HDR_NEEDS_CSUM,
                      .gso_type = version == 4 ? NET_GSO_TCPV4 : NET_GSO_TCPV6,
                      .gso_size = 1448,
                      .csum_start = (u16)l4,
                      .csum_offset = 16};
    return f;
}

typedef struct Pieces {
    const Frame *whole;
    unsigned version;
    size_t done;
    unsigned count;
} Pieces;

static void check_piece(void *opaque, const u8 *piece, size_t len)
{
    Pieces *p = opaque;
    const Frame *whole = p->whole;
    const unsigned l4 = whole->hdr.csum_start, headers = l4 + 32;
    const size_t data = len - headers, all = whole->len - headers;
    const bool last = p->done + data == all;
    ck_assert_uint_le(data, whole->hdr.gso_size);
    ck_assert(last || data == whole->hdr.gso_size);
    ck_assert_mem_eq(piece, whole->data, 14);
    ck_assert_mem_eq(piece + headers, whole->data + headers + p->done, data);
    ck_assert_uint_eq(be32(piece + l4 + 4), (u32)(0xffffff00 + p->done));
    ck_assert_uint_eq(piece[l4 + 13],
                      ACK | (last ? PSH | FIN : 0) | (p->done ? 0 : 0x80));
    if (p->version == 4) {
        ck_assert_uint_eq(be16(piece + 16), len - 14);
        ck_assert_uint_eq(be16(piece + 18), (0xfffe + p->count) & 0xffff);
        ck_assert_uint_eq(slow_sum(piece + 14, 20, 0), 0xffff);
    } else {
        ck_assert_uint_eq(be16(piece + 18), len - 54);
    }
    ck_assert_uint_eq(slow_l4_sum(piece, 6), 0xffff);
    p->done += data;
    p->count++;
}

START_TEST(segments)
{
    static const size_t sizes[] = {0, 1, 1447, 1448, 1449, 2896, 10000, 60001};
    const unsigned version = _i ? 6 : 4;
    g_autoptr(GRand) r = g_rand_new_with_seed(2);
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        g_autofree Frame *f = large_segment(r, version, sizes[i]);
        Pieces p = {.whole = f, .version = version};
        ck_assert(packet_check(&f->hdr, f->data, f->len));
        packet_segment(&f->hdr, f->data, f->len, check_piece, &p);
        ck_assert_uint_eq(p.done, sizes[i]);
        ck_assert_uint_eq(p.count, MAX(1, (sizes[i] + 1447) / 1448));
        /* Whole, with its checksum; and turned back into what asks for segmentation. */
        NetHdr hdr = f->hdr;
        packet_complete(&hdr, f->data, f->len);
        ck_assert_uint_eq(slow_l4_sum(f->data, 6), 0xffff);
        ck_assert_uint_eq(hdr.flags | hdr.gso_type | hdr.gso_size, 0);
        ck_assert(packet_make_gso(&hdr, f->data, f->len, 1500));
        ck_assert_uint_eq(hdr.gso_type, f->hdr.gso_type);
        ck_assert_uint_eq(hdr.gso_size, version == 4 ? 1448 : 1428);
        ck_assert_uint_eq(hdr.csum_start, f->hdr.csum_start);
        ck_assert_uint_eq(hdr.csum_offset, 16);
        hdr.gso_type = hdr.gso_size = 0;
        packet_complete(&hdr, f->data, f->len);
        ck_assert_uint_eq(slow_l4_sum(f->data, 6), 0xffff);
    }
}
END_TEST

typedef struct Collected {
    u8 data[NET_FRAME_MAX];
    size_t end;
    bool last;
    unsigned count;
} Collected;

static void collect_fragment(void *opaque, const u8 *frame, size_t len)
{
    Collected *f = opaque;
    const unsigned field = be16(frame + 20), at = (field & 0x1fff) * 8, packet = be16(frame + 16);
    ck_assert_uint_le(len, 1514);
    /* Newer versions of libslirp fill short frames up. */
    ck_assert(packet == len - 14 || (packet >= 20 && packet < len - 14 && len == 60));
    ck_assert_uint_eq(slow_sum(frame + 14, 20, 0), 0xffff);
    memcpy(f->data + at, frame + 34, packet - 20);
    f->end = MAX(f->end, at + packet - 20);
    f->last |= !(field & 0x2000);
    f->count++;
}

START_TEST(fragments)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(3);
    const Guest g = {.ip = 0x01020304};
    u8 data[9000];
    fill_random(r, data, sizeof(data));
    g_autofree Frame *f = udp_frame(&g, 0x05060708, 1, 2, data, sizeof(data));
    Collected *c = g_new0(Collected, 1);
    ck_assert(packet_fragment(f->data, f->len, 1500, collect_fragment, c));
    ck_assert_uint_eq(c->end, 9008);
    ck_assert_uint_eq(c->count, 7);
    ck_assert(c->last);
    ck_assert_mem_eq(c->data + 8, data, sizeof(data));
    set16(f->data + 20, 0x4000);
    ck_assert(!packet_fragment(f->data, f->len, 1500, collect_fragment, c));
    ck_assert_uint_eq(c->count, 7);
    g_free(c);
}
END_TEST

static void keep_fragment(void *opaque, const u8 *frame, size_t len)
{
    Frame *f = g_malloc0(sizeof(Frame));
    f->len = len;
    memcpy(f->data, frame, len);
    g_ptr_array_add(opaque, f);
}

static u8 *add_fragment(Fragments *pool, const Frame *f, size_t *len)
{
    const Packet p = packet_parse(f->data, f->len);
    return fragments_add(pool, f->data, &p, len);
}

/* What packet_fragment cuts comes together again in any order, among others, with some twice; what overlaps or goes
 * beyond the end does not. */
START_TEST(reassembly)
{
    enum { AT_ONCE = 10 };
    g_autoptr(GRand) r = g_rand_new_with_seed(14);
    const Guest g = {.ip = 0x01020304};
    g_autofree u8 *data = g_malloc(60000);
    Fragments *pool = fragments_new();
    for (unsigned round = 0; round < 40; round++) {
        Frame *whole[AT_ONCE];
        bool done[AT_ONCE] = {false};
        g_autoptr(GPtrArray) pieces = g_ptr_array_new_with_free_func(g_free);
        for (unsigned i = 0; i < AT_ONCE; i++) {
            const size_t n = 1473 + g_rand_int(r) % (i ? 5000 : 58000);
            fill_random(r, data, n);
            whole[i] = udp_frame(&g, 0x05060708, i, 2, data, n);
            set16(whole[i]->data + 18, round * AT_ONCE + i);
            ck_assert(packet_fragment(whole[i]->data, whole[i]->len, 1500, keep_fragment, pieces));
        }
        for (guint left = pieces->len; left > 1; left--) {
            const guint other = g_rand_int(r) % left;
            gpointer swap = pieces->pdata[other];
            pieces->pdata[other] = pieces->pdata[left - 1];
            pieces->pdata[left - 1] = swap;
        }
        for (guint k = 0; k < pieces->len; k++) {
            const Frame *f = pieces->pdata[k];
            const unsigned i = be16(f->data + 18) - round * AT_ONCE;
            size_t len = 0;
            if (g_rand_int(r) % 4 == 0 && k) { /* again what has come already */
                const Frame *old = pieces->pdata[g_rand_int(r) % k];
                const unsigned old_i = be16(old->data + 18) - round * AT_ONCE;
                if (!done[old_i]) {
                    ck_assert_ptr_null(add_fragment(pool, old, &len));
                }
            }
            const u8 *got = add_fragment(pool, f, &len);
            if (got) {
                ck_assert(!done[i]);
                done[i] = true;
                ck_assert_uint_eq(len, whole[i]->len);
                ck_assert_uint_eq(slow_sum(got + 14, 20, 0), 0xffff);
                ck_assert_mem_eq(got + 34, whole[i]->data + 34, len - 34);
            }
        }
        for (unsigned i = 0; i < AT_ONCE; i++) {
            ck_assert_msg(done[i], "round %u, datagram %u", round, i);
            g_free(whole[i]);
        }
    }
    /* {offset / 8, more, bytes}: none of these makes a datagram. */
    static const struct {
        unsigned at, more, n;
    } rows[][4] = {
        {{0, 1, 16}, {1, 0, 16}},                       /* overlap */
        {{0, 1, 12}, {2, 0, 4}},                        /* not a multiple of 8 */
        {{3, 1, 8}, {2, 0, 8}, {0, 1, 8}},              /* behind the end, a hole */
        {{1, 0, 8}, {3, 1, 8}, {0, 0, 8}},              /* the same, and two ends */
        {{8190, 0, 16}, {8191, 0, 100}, {8189, 1, 8}},  /* too long */
        {{0, 1, 0}, {0, 0, 0}},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        for (unsigned k = 0; k < 4; k++) {
            size_t len;
            g_autofree Frame *f = ipv4_frame(&g, 0x05060708, 17, rows[i][k].n);
            set16(f->data + 18, 60000 + i);
            set16(f->data + 20, rows[i][k].at | rows[i][k].more << 13);
            ck_assert_msg(!add_fragment(pool, f, &len), "row %u, fragment %u", i, k);
        }
    }
    /* Many that never end: the newest still comes together. */
    for (unsigned i = 0; i < 1000; i++) {
        size_t len;
        g_autofree Frame *f = ipv4_frame(&g, 0x05060708, 17, 8);
        set16(f->data + 18, i);
        set16(f->data + 20, 0x2000);
        ck_assert_ptr_null(add_fragment(pool, f, &len));
    }
    size_t len;
    g_autofree Frame *f = ipv4_frame(&g, 0x05060708, 17, 8);
    set16(f->data + 18, 999);
    set16(f->data + 20, 1);
    ck_assert_ptr_nonnull(add_fragment(pool, f, &len));
    ck_assert_uint_eq(len, 50);
    fragments_free(pool);
}
END_TEST

START_TEST(checksums_of_guests)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(4);
    const Guest g = {.ip = 0x01020304};
    for (unsigned n = 0; n < 300; n++) {
        u8 data[300];
        fill_random(r, data, n);
        g_autofree Frame *f = udp_frame(&g, 0x05060708, 1, 2, data, n);
        const unsigned right = be16(f->data + 40);
        set16(f->data + 40, slow_sum(f->data + 26, 8, 17 + 8 + n)); /* the pseudo header's */
        NetHdr hdr = {.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
        ck_assert(packet_check(&hdr, f->data, f->len));
        packet_complete(&hdr, f->data, f->len);
        ck_assert_uint_eq(be16(f->data + 40), right ? right : 0xffff);
        ck_assert_uint_eq(hdr.flags, 0);
    }
}
END_TEST

START_TEST(mss)
{
    const Guest g = {.ip = 0x01020304};
    g_autofree Frame *f = tcp_frame(&g, 0x05060708, 1, 2, 3, 4, SYN, NULL, 0);
    packet_raise_mss(f->data, f->len, 1461, 16000);
    ck_assert_uint_eq(be16(f->data + 56), 1460);
    packet_raise_mss(f->data, f->len, 1460, 16000);
    ck_assert_uint_eq(be16(f->data + 56), 16000);
    ck_assert_uint_eq(slow_l4_sum(f->data, 6), 0xffff);
    /* A wrong checksum stays one, and a segment without SYN is left alone. */
    f->data[50] ^= 1;
    packet_raise_mss(f->data, f->len, 1460, 20000);
    ck_assert_uint_eq(be16(f->data + 56), 16000);
    g_autofree Frame *other = tcp_frame(&g, 0x05060708, 1, 2, 3, 4, ACK, "\2\4\5\264", 4);
    packet_raise_mss(other->data, other->len, 1460, 20000);
    ck_assert_uint_eq(be16(other->data + 56), 1460);
}
END_TEST

START_TEST(impossible_headers)
{
    static const struct {
        NetHdr hdr;
        bool possible;
    } rows[] = {
        {{0}, true},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 16}, true},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 118}, true},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 119}, false},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 152, .csum_offset = 0}, true},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 153, .csum_offset = 0}, false},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 13, .csum_offset = 0}, false},
        {{.flags = NET_HDR_NEEDS_CSUM, .csum_start = 0xffff, .csum_offset = 0xffff}, false},
        {{.gso_type = NET_GSO_TCPV4, .gso_size = 1}, true},
        {{.gso_type = NET_GSO_TCPV4 | NET_GSO_ECN, .gso_size = 1}, true},
        {{.gso_type = NET_GSO_TCPV4, .gso_size = 0}, false},
        {{.gso_type = NET_GSO_TCPV6, .gso_size = 1448}, false},
        {{.gso_type = NET_GSO_UDP, .gso_size = 1448}, false},
        {{.gso_type = NET_GSO_ECN}, false},
        {{.gso_type = 0x7f, .gso_size = 100}, false},
    };
    const Guest g = {.ip = 0x01020304};
    u8 data[100] = {0};
    g_autofree Frame *f = tcp_frame(&g, 0x05060708, 1, 2, 3, 4, ACK, data, sizeof(data));
    ck_assert_uint_eq(f->len, 154);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        ck_assert_msg(packet_check(&rows[i].hdr, f->data, f->len) == rows[i].possible, "row %u", i);
    }
    ck_assert(!packet_check(&rows[0].hdr, f->data, 13));
    ck_assert(!packet_check(&rows[0].hdr, f->data, NET_FRAME_MAX + 1));
    /* Headers that are cut off, or lengths that lead out of the frame. */
    const NetHdr gso = {.gso_type = NET_GSO_TCPV4, .gso_size = 10};
    for (size_t n = 0; n < 154; n++) {
        ck_assert(!packet_check(&gso, f->data, n));
    }
    for (unsigned size = 0; size < 20; size += 4) {
        f->data[46] = (u8)(size / 4 << 4);
        ck_assert(!packet_check(&gso, f->data, f->len));
    }
    f->data[46] = 5 << 4;
    ck_assert(packet_check(&gso, f->data, f->len));
    f->data[47] = SYN;
    ck_assert(!packet_check(&gso, f->data, f->len));
}
END_TEST

/* Frames with random damage: nothing here may read or write outside (the sanitizers watch). */
static void use_piece(void *opaque, const u8 *piece, size_t len)
{
    *(u64 *)opaque += packet_sum(piece, len, 0);
}

START_TEST(damaged_frames)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(5);
    u64 sum = 0;
    for (unsigned round = 0; round < 60000; round++) {
        g_autofree Frame *f = large_segment(r, g_rand_boolean(r) ? 4 : 6, g_rand_int(r) % 200);
        for (unsigned i = g_rand_int(r) % 6; i; i--) {
            f->data[12 + g_rand_int(r) % 60] = (u8)g_rand_int(r);
        }
        f->len = g_rand_int(r) % 3 ? f->len : g_rand_int(r) % f->len;
        f->hdr.gso_size = g_rand_boolean(r) ? 1 : (u16)g_rand_int(r);
        if (g_rand_boolean(r)) {
            f->hdr.gso_type = (u8)g_rand_int(r) & 0x85;
            f->hdr.csum_start = (u16)(g_rand_int(r) % 256);
            f->hdr.csum_offset = (u16)(g_rand_int(r) % 256);
        }
        g_autofree u8 *exact = g_memdup2(f->data, f->len); /* no byte more: overruns show */
        NetHdr hdr = f->hdr;
        if (packet_check(&hdr, exact, f->len)) {
            if (hdr.gso_type) {
                packet_segment(&hdr, exact, f->len, use_piece, &sum);
            }
            packet_complete(&hdr, exact, f->len);
        }
        packet_raise_mss(exact, f->len, 0, 1000);
        packet_fragment(exact, f->len, 68 + g_rand_int(r) % 100, use_piece, &sum);
        if (packet_make_gso(&hdr, exact, f->len, 68 + g_rand_int(r) % 1000)) {
            packet_segment(&hdr, exact, f->len, use_piece, &sum);
        }
    }
    ck_assert_uint_ne(sum, 0);
}
END_TEST

/* ---- Texts ---------------------------------------------------------------------------------- */

START_TEST(wrong_texts)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "there are user, tap and socket"},
        {"usr,id=n", "no kind 'usr'"},
        {"user", "id="},
        {"user,id=", "id="},
        {"user,id=n,hostfw=tcp::1-:2", "hostfwd"},
        {"user,id=n,hostfwd=tcp::70000-:22", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=2222:22", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=tcp::2222", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=tcp::2222-:0", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=tcp::2222-", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=sctp::2222-:22", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=tcp:300.0.0.1:2222-:22", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=tcp::-22-:22", "[tcp|udp]:[HOSTADDR]:HOSTPORT"},
        {"user,id=n,hostfwd=tcp:203.0.113.1:0-:22", "cannot listen"},
        {"user,id=n,guestfwd=tcp:10.0.2.100:80", "cmd:COMMAND"},
        {"user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:", "cmd:COMMAND"},
        {"user,id=n,guestfwd=tcp:10.0.2.100:80-tcp:localhost:80", "cmd:nc"},
        {"user,id=n,guestfwd=udp:10.0.2.100:80-cmd:cat", "cmd:COMMAND"},
        {"user,id=n,guestfwd=tcp:10.0.3.100:80-cmd:cat", "in the network"},
        {"user,id=n,guestfwd=tcp:10.0.2.2:80-cmd:cat", "in the network"},
        {"user,id=n,net=10.0.2", "ADDRESS/BITS"},
        {"user,id=n,net=10.0.2.0/33", "ADDRESS/BITS"},
        {"user,id=n,net=10.0.2.0/255.0.255.0", "ADDRESS/BITS"},
        {"user,id=n,net=10.0.2.0/30", "8 to 28"},
        {"user,id=n,host=10.0.3.1", "outside"},
        {"user,id=n,host=x", "IPv4 address"},
        {"user,id=n,dns=10.0.2.2", "three different"},
        {"user,id=n,ipv6-net=fec0::/200", "ADDRESS/BITS"},
        {"user,id=n,ipv6-host=1.2.3.4", "IPv6 address"},
        {"user,id=n,ipv4=off,ipv6=off", "nothing"},
        {"user,id=n,smb=/tmp", "SMB"},
        {"user,id=n,tftp=/nonexistent/folder", "no such folder"},
        {"user,id=n,hostname=a23456789012345678901234567890123456789", "at most"},
        {"tap,id=n,ifname=a-name-that-is-far-too-long", "up to 15 characters"},
        {"tap,id=n,fd=1000", "no descriptor"},
        {"tap,id=n,fd=x", "number"},
        {"tap,id=n,fd=0,ifname=tap0", "without ifname"},
        {"tap,id=n,vhost=on", "vhost"},
        {"socket,id=n", "one of listen="},
        {"socket,id=n,listen=:1,connect=:1", "one of listen="},
        {"socket,id=n,listen=1234", "HOST:PORT"},
        {"socket,id=n,listen=:123456", "HOST:PORT"},
        {"socket,id=n,connect=no.such.host.invalid:1", "cannot find"},
        {"socket,id=n,mcast=10.0.0.1:1234", "groups are"},
        {"socket,id=n,udp=127.0.0.1:1234", "localaddr"},
        {"socket,id=n,fd=1000", "stream socket"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        g_autoptr(GError) err = NULL;
        Net *n = net_new(rows[i].text, &err);
        ck_assert_msg(!n, "'%s' is accepted", rows[i].text);
        ck_assert_ptr_nonnull(err);
        ck_assert_msg(strstr(err->message, rows[i].says), "'%s' gives '%s', which does not say '%s'",
                      rows[i].text, err->message, rows[i].says);
    }
}
END_TEST

START_TEST(right_texts)
{
    static const char *const texts[] = {
        "user,id=n",
        "type=user,id=n,hostfwd=tcp::0-:22,hostfwd=udp:127.0.0.1:0-10.0.2.16:53,hostfwd=::0-:80",
        "user,id=n,net=192.168.76.0/24,dhcpstart=192.168.76.9,host=192.168.76.1,dns=192.168.76.4",
        "user,id=n,net=172.16.0.0/255.255.0.0,restrict=on,hostname=guest,domainname=example.org",
        "user,id=n,dnssearch=a.example,dnssearch=b.example,tftp=/,bootfile=/boot",
        "user,id=n,guestfwd=tcp:10.0.2.100:80-cmd:cat,guestfwd=:10.0.2.100:81-unix:/nowhere",
        "user,id=n,ipv6=off",
        "user,id=n,ipv4=off,ipv6-net=fd00::/64,ipv6-host=fd00::1,ipv6-dns=fd00::5",
        "socket,id=n,listen=127.0.0.1:0",
        "socket,id=n,connect=127.0.0.1:1",
        "socket,id=n,udp=127.0.0.1:1234,localaddr=127.0.0.1:0",
    };
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        g_autoptr(GError) err = NULL;
        g_autoptr(GString) info = g_string_new(NULL);
        Net *n = net_new(texts[i], &err);
        ck_assert_msg(n != NULL, "'%s': %s", texts[i], err ? err->message : "");
        ck_assert_str_eq(net_id(n), "n");
        ck_assert_msg(g_str_has_prefix(strstr(texts[i], net_kind(n)), net_kind(n)), "%s", texts[i]);
        net_info(n, info);
        ck_assert_msg(g_str_has_prefix(info->str, "n: "), "%s", info->str);
        net_free(n);
    }
}
END_TEST

START_TEST(port_in_use)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, size), 0);
    ck_assert_int_eq(listen(fd, 1), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    static const char *const forms[] = {"user,id=n,hostfwd=tcp:127.0.0.1:%u-:22",
                                        "socket,id=n,listen=127.0.0.1:%u"};
    for (unsigned i = 0; i < ARRAY_LEN(forms); i++) {
        g_autoptr(GError) err = NULL;
        char text[80];
        g_snprintf(text, sizeof(text), i ? forms[1] : forms[0], ntohs(a.sin_port));
        ck_assert_ptr_null(net_new(text, &err));
        ck_assert_msg(strstr(err->message, "choose another port"), "%s", err->message);
    }
    close(fd);
}
END_TEST

START_TEST(nic_texts)
{
    static const struct {
        const char *text, *netdev, *device, *says;
    } rows[] = {
        {"none", NULL, NULL, NULL},
        {"user", "user,id=__nic3", "virtio-net-device,netdev=__nic3", NULL},
        {"type=user,model=virtio", "user,id=__nic3", "virtio-net-device,netdev=__nic3", NULL},
        {"user,mac=52:54:00:00:00:01,model=virtio-net-pci,id=x,hostfwd=tcp::1-:2",
         "user,id=x,hostfwd=tcp::1-:2", "virtio-net-pci,netdev=x,mac=52:54:00:00:00:01", NULL},
        {"user,guestfwd=tcp:10.0.2.9:1-cmd:a,,b", "user,id=__nic3,guestfwd=tcp:10.0.2.9:1-cmd:a,,b",
         "virtio-net-device,netdev=__nic3", NULL},
        {"tap,ifname=t,addr=5", "tap,id=__nic3,ifname=t", "virtio-net-device,netdev=__nic3,addr=5",
         NULL},
        {"bridge", NULL, NULL, "there are user, tap, socket and none"},
        {"none,mac=1", NULL, NULL, "takes no properties"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        g_autoptr(GError) err = NULL;
        g_autofree char *netdev = NULL, *device = NULL;
        const bool ok = net_nic_split(rows[i].text, 3, &netdev, &device, &err);
        ck_assert_int_eq(ok, !rows[i].says);
        if (!ok) {
            ck_assert_msg(strstr(err->message, rows[i].says), "%s", err->message);
        }
        ck_assert_msg(g_strcmp0(netdev, rows[i].netdev) == 0, "%s: %s", rows[i].text, netdev);
        ck_assert_msg(g_strcmp0(device, rows[i].device) == 0, "%s: %s", rows[i].text, device);
    }
    g_autoptr(GError) err = NULL;
    ck_assert(net_net_parse("none", NULL));
    ck_assert(!net_net_parse("user,hostfwd=x", &err));
    ck_assert_msg(strstr(err->message, "-nic user"), "%s", err->message);
}
END_TEST

START_TEST(macs)
{
    u8 a[6] = {0}, b[6] = {0}, c[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x58}, d[6] = {0};
    net_mac_take(a);
    ck_assert_mem_eq(a, guest_mac, 6);
    net_mac_take(c);
    net_mac_take(b);
    ck_assert_uint_eq(b[5], 0x57);
    net_mac_take(d);
    ck_assert_uint_eq(d[5], 0x59);
    net_mac_release(a);
    memset(d, 0, 6);
    net_mac_take(d);
    ck_assert_uint_eq(d[5], 0x56);
}
END_TEST

/* ---- User networking ------------------------------------------------------------------------ */

/* A host port that nobody uses at the moment. */
static unsigned free_port(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    close(fd);
    return ntohs(a.sin_port);
}

static int connect_to(unsigned port)
{
    const struct sockaddr_in a = {.sin_family = AF_INET,
                                  .sin_port = htons((u16)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_msg(connect(fd, (const struct sockaddr *)&a, sizeof(a)) == 0, "connect: %s",
                  strerror(errno));
    return fd;
}

/* A server's or datagram socket on the loopback interface. */
static int bound_socket(int type, unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(a);
    const int fd = socket(AF_INET, type, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, size), 0);
    ck_assert(type == SOCK_DGRAM || listen(fd, 5) == 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&a, &size), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static Frame *dhcp_frame(const Guest *g, unsigned kind)
{
    u8 m[300] = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
    memcpy(m + 28, g->mac, 6);
    static const u8 cookie[] = {0x63, 0x82, 0x53, 0x63, 53, 1};
    memcpy(m + 236, cookie, sizeof(cookie));
    m[242] = (u8)kind;
    m[243] = 255;
    return udp_frame(g, 0xffffffff, 68, 67, m, sizeof(m));
}

/* The value of a DHCP option, NULL if it is not there. */
static const u8 *dhcp_option(const Frame *f, unsigned option)
{
    for (size_t at = 42 + 240; at + 1 < f->len && f->data[at] != 255; at += 2 + f->data[at + 1]) {
        if (f->data[at] == option) {
            return f->data + at + 2;
        }
    }
    return NULL;
}

START_TEST(dhcp)
{
    Guest *g = guest_new("user,id=n,net=10.9.0.0/16,dhcpstart=10.9.0.20,hostname=buck,dnssearch=x.example");
    g->ip = 0;
    guest_send(g, dhcp_frame(g, 1));
    g_autofree Frame *offer = guest_wait_for(g, 17, 68, WAIT);
    ck_assert_ptr_nonnull(offer);
    ck_assert_uint_eq(be32(offer->data + 42 + 16), 0x0a090014);
    ck_assert_uint_eq(*dhcp_option(offer, 53), 2);
    ck_assert_uint_eq(be32(dhcp_option(offer, 1)), 0xffff0000);
    ck_assert_uint_eq(be32(dhcp_option(offer, 3)), 0x0a090002);
    ck_assert_uint_eq(be32(dhcp_option(offer, 6)), 0x0a090003);
    ck_assert_mem_eq(dhcp_option(offer, 12), "buck", 4);
    guest_send(g, dhcp_frame(g, 3));
    g_autofree Frame *ack = guest_wait_for(g, 17, 68, WAIT);
    ck_assert_ptr_nonnull(ack);
    ck_assert_uint_eq(*dhcp_option(ack, 53), 5);
    g_mutex_lock(&g->lock);
    ck_assert_uint_ge(g->interrupts, 1);
    g_mutex_unlock(&g->lock);
    guest_free(g);
}
END_TEST

/* One end of a TCP connection in the guest; nothing is lost or reordered on this network. */
typedef struct Tcp {
    Guest *g;
    u32 peer;
    unsigned port, peer_port;
    u32 seq, ack;
    bool open, closed, peer_closed, reset;
} Tcp;

static void tcp_send(Tcp *t, unsigned flags, const void *data, size_t n)
{
    guest_send(t->g, tcp_frame(t->g, t->peer, t->port, t->peer_port, t->seq, t->ack, flags, data, n));
    t->seq += (u32)n + (flags & (SYN | FIN) ? 1 : 0);
}

/* What a segment means for the connection; returns the data in it. The checksum has to be right, or
 * left to be computed. */
static const u8 *tcp_take(Tcp *t, const Frame *f, size_t *n)
{
    const u8 *tcp = f->data + 34;
    const unsigned header = (tcp[12] >> 4) * 4u;
    *n = be16(f->data + 16) - 20 - header;
    if (f->hdr.flags & NET_HDR_NEEDS_CSUM) {
        ck_assert_uint_eq(be16(tcp + 16), slow_sum(f->data + 26, 8, 6 + header + (u32)*n));
    } else {
        ck_assert_uint_eq(slow_l4_sum(f->data, 6), 0xffff);
    }
    if (tcp[13] & RST) {
        t->reset = true;
        return NULL;
    }
    if (tcp[13] & SYN) {
        t->ack = be32(tcp + 4) + 1;
        t->open = true;
        return NULL;
    }
    if (be32(tcp + 4) != t->ack) { /* sent again, since our answer was late */
        *n = 0;
        return NULL;
    }
    t->ack += (u32)*n + (tcp[13] & FIN ? 1 : 0);
    t->peer_closed |= tcp[13] & FIN;
    return tcp + header;
}

/* The guest connects to the host's loopback interface. */
static Tcp *tcp_connect(Guest *g, unsigned port, unsigned host_port, u32 host)
{
    Tcp *t = g_new(Tcp, 1);
    size_t n;
    *t = (Tcp){.g = g, .peer = host, .port = port, .peer_port = host_port, .seq = 1000};
    tcp_send(t, SYN, NULL, 0);
    g_autofree Frame *f = guest_wait_for(g, 6, port, WAIT);
    ck_assert_ptr_nonnull(f);
    tcp_take(t, f, &n);
    if (!t->open) {
        g_free(t);
        return NULL;
    }
    tcp_send(t, ACK, NULL, 0);
    return t;
}

static void read_all(int fd, u8 *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_msg(poll(&p, 1, WAIT) == 1, "only %zu of %zu bytes", done, n);
        const ssize_t got = read(fd, data + done, n - done);
        ck_assert_int_gt(got, 0);
        done += (size_t)got;
    }
}

/* The guest connects, sends a large segment in one frame, and receives 300 KB, which come in large frames if it can
 * take them. */
START_TEST(large_segments)
{
    enum { BIG = 50000, MUCH = 300000 };
    const bool takes_large = _i;
    g_autoptr(GRand) r = g_rand_new_with_seed(6);
    g_autofree u8 *data = g_malloc(MUCH), *got = g_malloc(MUCH);
    unsigned port;
    const int server = bound_socket(SOCK_STREAM, &port);
    Guest *g = guest_new("user,id=n");
    net_set_offloads(g->net, takes_large ? NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 : 0);
    guest_announce(g);
    Tcp *t = tcp_connect(g, 4000, port, g->router);
    ck_assert_ptr_nonnull(t);
    const int fd = accept(server, NULL, NULL);
    ck_assert_int_ge(fd, 0);

    fill_random(r, data, MUCH);
    Frame *f = tcp_frame(g, t->peer, t->port, t->peer_port, t->seq, t->ack, ACK | PSH, data, BIG);
    set16(f->data + 50, slow_sum(f->data + 26, 8, 6 + 20 + BIG));
    f->hdr = (NetHdr){.flags = NET_HDR_NEEDS_CSUM, .gso_type = NET_GSO_TCPV4, .hdr_len = 54,
                      .gso_size = 1460, .csum_start = 34, .csum_offset = 16};
    guest_send(g, f);
    t->seq += BIG;
    read_all(fd, got, BIG);
    ck_assert_mem_eq(got, data, BIG);

    fcntl(fd, F_SETFL, O_NONBLOCK);
    size_t written = 0, received = 0, largest = 0;
    while (received < MUCH) {
        const ssize_t done = write(fd, data + written, MUCH - written);
        written += done > 0 ? (size_t)done : 0;
        g_autofree Frame *in = guest_wait_for(g, 6, 4000, WAIT);
        size_t n;
        ck_assert_ptr_nonnull(in);
        const u8 *bytes = tcp_take(t, in, &n);
        if (n) {
            memcpy(got + received, bytes, n);
            received += n;
            largest = MAX(largest, n);
            ck_assert_uint_eq(in->hdr.gso_type, n > 1460 ? NET_GSO_TCPV4 : 0);
            tcp_send(t, ACK, NULL, 0);
        }
    }
    ck_assert_mem_eq(got, data, MUCH);
    if (takes_large) {
        ck_assert_uint_gt(largest, 10000);
    } else {
        ck_assert_uint_le(largest, 1460);
    }
    close(fd);
    close(server);
    g_free(t);
    guest_free(g);
}
END_TEST

/* Many connections at once from the host to the guest, which sends everything back, inverted. */
START_TEST(forwarded_connections)
{
    enum { COUNT = 200, SIZE = 2000 };
    g_autoptr(GRand) r = g_rand_new_with_seed(7);
    g_autofree char *text = NULL;
    const unsigned port = free_port();
    text = g_strdup_printf("user,id=n,hostfwd=tcp:127.0.0.1:%u-:7", port);
    Guest *g = guest_new(text);
    Tcp tcps[COUNT] = {0};
    struct {
        int fd;
        size_t got;
        u8 sent[SIZE];
        bool ended;
    } *hosts = g_malloc0(COUNT * sizeof(*hosts));
    unsigned known = 0, ended = 0;

    for (unsigned i = 0; i < COUNT; i++) {
        fill_random(r, hosts[i].sent, SIZE);
        hosts[i].fd = connect_to(port);
        ck_assert_int_eq(write(hosts[i].fd, hosts[i].sent, SIZE), SIZE);
        fcntl(hosts[i].fd, F_SETFL, O_NONBLOCK);
    }
    const gint64 end = g_get_monotonic_time() + 30 * G_TIME_SPAN_SECOND;
    while (ended < COUNT) {
        ck_assert_msg(g_get_monotonic_time() < end, "%u of %u connections ended", ended, COUNT);
        for (Frame *f; (f = guest_wait(g, 1)); g_free(f)) {
            if (guest_arp(g, f) || be16(f->data + 12) != 0x0800 || f->data[23] != 6) {
                continue;
            }
            const unsigned peer_port = be16(f->data + 34);
            unsigned i = 0;
            while (i < known && tcps[i].peer_port != peer_port) {
                i++;
            }
            if (i == known) {
                ck_assert_uint_lt(known, COUNT);
                ck_assert_uint_eq(f->data[47], SYN);
                tcps[known++] = (Tcp){.g = g, .peer = be32(f->data + 26), .port = 7,
                                      .peer_port = peer_port, .seq = 5000 * i};
            }
            size_t n;
            const bool is_new = !tcps[i].open;
            const u8 *data = tcp_take(&tcps[i], f, &n);
            ck_assert(!tcps[i].reset);
            if (is_new) {
                tcp_send(&tcps[i], SYN | ACK, NULL, 0);
            } else if (n) {
                u8 back[2000];
                ck_assert_uint_le(n, sizeof(back));
                for (size_t k = 0; k < n; k++) {
                    back[k] = (u8)~data[k];
                }
                tcp_send(&tcps[i], ACK | PSH, back, n);
            }
            if (tcps[i].peer_closed && !tcps[i].closed) {
                tcps[i].closed = true;
                tcp_send(&tcps[i], ACK | FIN, NULL, 0);
            }
        }
        for (unsigned i = 0; i < COUNT; i++) {
            u8 back[SIZE];
            const ssize_t n = hosts[i].ended ? -1 : read(hosts[i].fd, back, SIZE);
            for (ssize_t k = 0; k < n; k++) {
                ck_assert_uint_eq(back[k], (u8)~hosts[i].sent[hosts[i].got]);
                hosts[i].got++;
            }
            if (n > 0 && hosts[i].got == SIZE) {
                shutdown(hosts[i].fd, SHUT_WR);
            } else if (n == 0) {
                ck_assert_uint_eq(hosts[i].got, SIZE);
                hosts[i].ended = true;
                ended++;
            }
        }
    }
    for (unsigned i = 0; i < COUNT; i++) {
        close(hosts[i].fd);
    }
    g_free(hosts);
    guest_free(g);
}
END_TEST

START_TEST(restricted)
{
    unsigned port;
    const int server = bound_socket(SOCK_STREAM, &port);
    const unsigned forwarded = free_port();
    g_autofree char *text = g_strdup_printf(
        "user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:%u-:7,"
        "guestfwd=tcp:10.0.2.100:80-cmd:tr a-z A-Z",
        forwarded);
    Guest *g = guest_new(text);
    guest_announce(g);
    Tcp *t = g_new(Tcp, 1);
    *t = (Tcp){.g = g, .peer = g->router, .port = 4000, .peer_port = port, .seq = 1};
    tcp_send(t, SYN, NULL, 0);
    Frame *f = guest_wait_for(g, 6, 4000, 500);
    ck_assert(!f || f->data[47] & RST); /* no answer or a refusal */
    g_free(f);
    g_free(t);
    struct pollfd p = {.fd = server, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, 0), 0);

    t = tcp_connect(g, 4001, 80, 0x0a000264); /* guestfwd works nevertheless */
    ck_assert_ptr_nonnull(t);
    tcp_send(t, ACK | PSH, "stag\n", 5);
    tcp_send(t, ACK | FIN, NULL, 0);
    size_t n = 0;
    while (!n) {
        f = guest_wait_for(g, 6, 4001, WAIT);
        ck_assert_ptr_nonnull(f);
        const u8 *data = tcp_take(t, f, &n);
        if (n) {
            ck_assert_uint_eq(n, 5);
            ck_assert_mem_eq(data, "STAG\n", 5);
        }
        g_free(f);
    }
    const int fd = connect_to(forwarded); /* and so does hostfwd */
    f = guest_wait_for(g, 6, 7, WAIT);
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(f->data[47], SYN);
    g_free(f);
    close(fd);
    close(server);
    g_free(t);
    guest_free(g);
}
END_TEST

START_TEST(forwarding_while_it_runs)
{
    const unsigned port = free_port();
    g_autofree char *rule = g_strdup_printf("tcp:127.0.0.1:%u-:7", port);
    g_autofree char *host = g_strdup_printf("tcp:127.0.0.1:%u", port);
    g_autoptr(GError) err = NULL;
    Guest *g = guest_new("user,id=n");
    ck_assert(net_hostfwd_add(g->net, rule, NULL));
    ck_assert(!net_hostfwd_add(g->net, rule, &err));
    ck_assert_msg(strstr(err->message, "choose another port"), "%s", err->message);
    const int fd = connect_to(port);
    g_autofree Frame *f = guest_wait_for(g, 6, 7, WAIT);
    ck_assert_ptr_nonnull(f);
    close(fd);
    g_autoptr(GString) info = g_string_new(NULL);
    g_autofree char *number = g_strdup_printf("%u", port);
    net_info(g->net, info);
    ck_assert_msg(strstr(info->str, number), "%s", info->str);
    ck_assert(net_hostfwd_remove(g->net, host, NULL));
    ck_assert(!net_hostfwd_remove(g->net, host, NULL));
    guest_free(g);
}
END_TEST

/* Answers to the guest's datagrams of every size and content, as from a hostile name server; large
 * ones come as fragments. */
START_TEST(hostile_answers)
{
    static const size_t sizes[] = {0, 1, 11, 12, 512, 1472, 1473, 4096, 30000, 65507};
    g_autoptr(GRand) r = g_rand_new_with_seed(8);
    g_autofree u8 *data = g_malloc(65507);
    Collected *c = g_new0(Collected, 1);
    unsigned port;
    const int server = bound_socket(SOCK_DGRAM, &port);
    Guest *g = guest_new("user,id=n");
    guest_announce(g);
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        struct sockaddr_in from;
        socklen_t size = sizeof(from);
        u8 byte;
        guest_send(g, udp_frame(g, g->router, 5000, port, "?", 1));
        struct pollfd p = {.fd = server, .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, WAIT), 1);
        ck_assert_int_eq(recvfrom(server, &byte, 1, 0, (struct sockaddr *)&from, &size), 1);
        fill_random(r, data, sizes[i]);
        ck_assert_int_eq(sendto(server, data, sizes[i], 0, (struct sockaddr *)&from, size),
                         (ssize_t)sizes[i]);
        memset(c, 0, sizeof(*c));
        while (c->end < sizes[i] + 8 && sizes[i]) {
            g_autofree Frame *f = guest_wait_for(g, 17, 0, WAIT);
            ck_assert_msg(f != NULL, "%zu of %zu bytes", c->end, sizes[i]);
            collect_fragment(c, f->data, f->len);
        }
        ck_assert_mem_eq(c->data + 8, data, sizes[i]);
    }
    /* A flood while the guest has no buffers: memory stays bounded, and the network lives on. */
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    guest_send(g, udp_frame(g, g->router, 5001, port, "?", 1));
    ck_assert_int_eq(recvfrom(server, data, 1, 0, (struct sockaddr *)&from, &size), 1);
    guest_is_full(g, true);
    for (unsigned i = 0; i < 5000; i++) {
        sendto(server, data, 4000, MSG_DONTWAIT, (struct sockaddr *)&from, size);
    }
    g_usleep(100000);
    guest_is_full(g, false);
    unsigned arrived = 0;
    for (Frame *f; arrived < 10 && (f = guest_wait_for(g, 17, 0, WAIT)); arrived++) {
        g_free(f);
    }
    ck_assert_uint_eq(arrived, 10);
    g_mutex_lock(&g->lock);
    ck_assert_uint_gt(g->refused, 0);
    g_mutex_unlock(&g->lock);
    guest_send(g, dhcp_frame(g, 1));
    g_autofree Frame *offer = guest_wait_for(g, 17, 68, WAIT);
    ck_assert_ptr_nonnull(offer);
    close(server);
    g_free(c);
    guest_free(g);
}
END_TEST

/* Random frames and damaged good ones from the guest: user networking goes on. */
START_TEST(hostile_guest)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(9);
    unsigned port;
    const int server = bound_socket(SOCK_STREAM, &port);
    Guest *g = guest_new("user,id=n,restrict=on");
    guest_announce(g);
    for (unsigned round = 0; round < 20000; round++) {
        u8 data[400];
        fill_random(r, data, sizeof(data));
        const unsigned n = g_rand_int(r) % sizeof(data);
        Frame *f;
        switch (g_rand_int(r) % 6) {
        case 4: /* fragments that overlap, of a few datagrams */
            f = ipv4_frame(g, g->router, g_rand_boolean(r) ? 17 : 1, n);
            memcpy(f->data + 34, data, n);
            set16(f->data + 18, g_rand_int(r) % 4);
            set16(f->data + 20, g_rand_int(r) % 64 | (g_rand_int(r) & 0x2000));
            set16(f->data + 24, 0);
            set16(f->data + 24, 0xffff & ~slow_sum(f->data + 14, 20, 0));
            break;
        case 0:
            f = tcp_frame(g, g->router, 4000, port, g_rand_int(r), g_rand_int(r),
                          g_rand_int(r) & 0x3f, data, n); /* URG as well */
            set16(f->data + 52, g_rand_int(r) & 0xfff);
            set16(f->data + 50, 0);
            set16(f->data + 50, 0xffff & ~slow_l4_sum(f->data, 6));
            break;
        case 1:
            f = udp_frame(g, g_rand_boolean(r) ? g->router : g->router + 1, g_rand_int(r) % 100,
                          g_rand_boolean(r) ? 53 : 67 + g_rand_int(r) % 3, data, n);
            break;
        case 2:
            f = dhcp_frame(g, g_rand_int(r) % 9);
            break;
        case 3: /* IPv6 with all kinds of next headers, ICMPv6 first */
            f = large_segment(r, 6, n);
            f->hdr = (NetHdr){0};
            f->data[14 + 6] = g_rand_boolean(r) ? 58 : (u8)g_rand_int(r);
            f->data[54] = (u8)(128 + g_rand_int(r) % 12);
            break;
        default:
            f = g_malloc0(sizeof(Frame));
            f->len = 14 + n;
            memcpy(f->data + 14, data, n);
            set16(f->data + 12, g_rand_boolean(r) ? 0x0800 : 0x0806);
            break;
        }
        for (unsigned i = g_rand_int(r) % 4; i; i--) {
            f->data[12 + g_rand_int(r) % 50] ^= (u8)(1 << g_rand_int(r) % 8);
        }
        if (g_rand_int(r) % 4 == 0) {
            fill_random(r, (u8 *)&f->hdr, sizeof(f->hdr));
        }
        if (g_rand_int(r) % 8 == 0) {
            f->len = g_rand_int(r) % (f->len + 1);
        }
        guest_send(g, f);
        for (Frame *in; (in = guest_wait(g, 0));) {
            g_free(in);
        }
    }
    guest_announce(g);
    guest_send(g, dhcp_frame(g, 1));
    g_autofree Frame *offer = guest_wait_for(g, 17, 68, WAIT);
    ck_assert_ptr_nonnull(offer);
    close(server);
    guest_free(g);
}
END_TEST

START_TEST(cable)
{
    Guest *g = guest_new("user,id=n");
    ck_assert(net_link(g->net));
    net_set_link(g->net, false);
    ck_assert(!net_link(g->net));
    guest_send(g, dhcp_frame(g, 1));
    ck_assert_ptr_null(guest_wait_for(g, 17, 68, 300));
    g_mutex_lock(&g->lock);
    ck_assert_uint_eq(g->out.length, 0); /* taken and dropped */
    g_mutex_unlock(&g->lock);
    net_set_link(g->net, true);
    guest_send(g, dhcp_frame(g, 1));
    g_autofree Frame *offer = guest_wait_for(g, 17, 68, WAIT);
    ck_assert_ptr_nonnull(offer);
    ck_assert(!net_connect(g->net, &guest_client, g)); /* one card at a time */
    guest_free(g);
}
END_TEST

/* ---- Sockets -------------------------------------------------------------------------------- */

/* A frame that no IP stack knows, with a number in it. */
static Frame *numbered(u32 number, size_t len)
{
    Frame *f = g_malloc0(sizeof(Frame));
    memset(f->data, 0x55, len);
    set16(f->data + 12, 0x88b5); /* IEEE: for local experiments */
    set32(f->data + 14, number);
    f->len = len;
    return f;
}

/* A frame of ours arrives: sent again and again, since cables that are not plugged in lose them. */
static void until_connected(Guest *from, Guest *to)
{
    const gint64 end = g_get_monotonic_time() + WAIT * 1000;
    for (;;) {
        ck_assert_msg(g_get_monotonic_time() < end, "no connection");
        guest_send(from, numbered(0xffffffff, 60));
        g_autofree Frame *f = guest_wait(to, 50);
        if (f) {
            break;
        }
    }
    for (Frame *f; (f = guest_wait(to, 100));) {
        g_free(f);
    }
}

static void in_order(Guest *from, Guest *to, unsigned count)
{
    g_autoptr(GRand) r = g_rand_new_with_seed(10);
    for (u32 i = 0; i < count; i++) {
        guest_send(from, numbered(i, 60 + g_rand_int(r) % 1400));
    }
    for (u32 i = 0; i < count; i++) {
        g_autofree Frame *f = guest_wait(to, WAIT);
        ck_assert_msg(f != NULL, "frame %u never came", i);
        ck_assert_uint_eq(be32(f->data + 14), i);
        ck_assert_uint_eq(f->data[f->len - 1], 0x55);
    }
}

START_TEST(two_sockets)
{
    const unsigned port = free_port();
    g_autofree char *listen_text = g_strdup_printf("socket,id=a,listen=127.0.0.1:%u", port);
    g_autofree char *connect_text = g_strdup_printf("socket,id=b,connect=127.0.0.1:%u", port);
    g_autoptr(GRand) r = g_rand_new_with_seed(11);
    Guest *b = guest_new(connect_text); /* its peer does not exist yet */
    guest_send(b, numbered(1, 60));     /* lost */
    g_usleep(50000);
    Guest *a = guest_new(listen_text);
    until_connected(b, a);
    until_connected(a, b);
    in_order(a, b, 3000);
    in_order(b, a, 3000);

    /* A large segment is cut for the peer, which promised nothing. */
    Frame *whole = large_segment(r, 4, 20000);
    g_autofree Frame *copy = g_memdup2(whole, sizeof(*whole));
    Pieces p = {.whole = copy, .version = 4};
    guest_send(a, whole);
    while (p.done < 20000) {
        g_autofree Frame *f = guest_wait(b, WAIT);
        ck_assert_ptr_nonnull(f);
        check_piece(&p, f->data, f->len);
    }

    /* The peer has no buffers: frames wait, none is lost. */
    guest_is_full(b, true);
    for (u32 i = 0; i < 2000; i++) {
        guest_send(a, numbered(i, 1514));
    }
    g_usleep(100000);
    guest_is_full(b, false);
    for (u32 i = 0; i < 2000; i++) {
        g_autofree Frame *f = guest_wait(b, WAIT);
        ck_assert_msg(f != NULL, "frame %u never came", i);
        ck_assert_uint_eq(be32(f->data + 14), i);
    }

    /* The listener goes and comes back; then the one who connects. */
    guest_free(a);
    guest_send(b, numbered(1, 60));
    a = guest_new(listen_text);
    until_connected(b, a);
    in_order(a, b, 10);
    guest_free(b);
    b = guest_new(connect_text);
    until_connected(a, b);
    in_order(b, a, 10);
    guest_free(a);
    guest_free(b);
}
END_TEST

/* A peer that speaks no protocol: it is cut off, and the next one is served. */
START_TEST(hostile_peer)
{
    const unsigned port = free_port();
    g_autofree char *text = g_strdup_printf("socket,id=a,listen=127.0.0.1:%u", port);
    g_autoptr(GRand) r = g_rand_new_with_seed(12);
    Guest *a = guest_new(text);
    for (unsigned round = 0; round < 60; round++) {
        u8 data[5000];
        fill_random(r, data, sizeof(data));
        if (round % 3 == 0) {
            memset(data, 0, sizeof(data)); /* empty frames */
        } else if (round % 3 == 1) {
            set32(data, 4996);
            set16(data + 4 + 12, 0x0800);
        }
        const int fd = connect_to(port);
        const ssize_t done = send(fd, data, 1 + g_rand_int(r) % sizeof(data), MSG_NOSIGNAL);
        ck_assert_int_gt(done, 0);
        if (round % 3 == 2 && done >= 4 && be32(data) > 69632) {
            struct pollfd p = {.fd = fd, .events = POLLIN};
            ck_assert_int_eq(poll(&p, 1, WAIT), 1);
            ck_assert_int_le(read(fd, data, 1), 0);
        }
        close(fd);
    }
    for (Frame *f; (f = guest_wait(a, 50));) {
        ck_assert_uint_ge(f->len, 14);
        g_free(f);
    }
    const int fd = connect_to(port);
    const u8 frame[] = {0, 0, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0x88, 0xb5, 1, 2, 3, 4, 5, 6};
    ck_assert_int_eq(write(fd, frame, 10), 10);
    g_usleep(20000);
    ck_assert_int_eq(write(fd, frame + 10, 14), 14);
    g_autofree Frame *f = guest_wait(a, WAIT);
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(f->len, 20);
    ck_assert_mem_eq(f->data, frame + 4, 20);
    guest_send(a, numbered(7, 60));
    u8 got[64];
    read_all(fd, got, 64);
    ck_assert_uint_eq(be32(got), 60);
    ck_assert_uint_eq(be32(got + 18), 7);
    close(fd);
    guest_free(a);
}
END_TEST

START_TEST(datagrams)
{
    const unsigned one = free_port(), two = free_port();
    g_autofree char *a_text = g_strdup_printf(
        "socket,id=a,udp=127.0.0.1:%u,localaddr=127.0.0.1:%u", two, one);
    g_autofree char *b_text = g_strdup_printf(
        "socket,id=b,udp=127.0.0.1:%u,localaddr=127.0.0.1:%u", one, two);
    Guest *a = guest_new(a_text), *b = guest_new(b_text);
    in_order(a, b, 50);
    in_order(b, a, 50);
    guest_free(a);
    guest_free(b);
}
END_TEST

START_TEST(multicast)
{
    g_autofree char *text = g_strdup_printf("socket,id=a,mcast=239.192.7.%u:%u,localaddr=127.0.0.1",
                                            1 + getpid() % 250, free_port());
    g_autoptr(GError) err = NULL;
    Net *probe = net_new(text, &err);
    if (!probe) {
        return; /* a host without multicast on its loopback interface */
    }
    net_free(probe);
    Guest *a = guest_new(text), *b = guest_new(text), *c = guest_new(text);
    in_order(a, b, 50);
    for (u32 i = 0; i < 50; i++) {
        g_autofree Frame *f = guest_wait(c, WAIT);
        ck_assert_ptr_nonnull(f);
        ck_assert_uint_eq(be32(f->data + 14), i);
    }
    ck_assert_ptr_null(guest_wait(a, 100)); /* not our own */
    guest_free(a);
    guest_free(b);
    guest_free(c);
}
END_TEST

/* ---- Tap ------------------------------------------------------------------------------------ */

/* A network namespace of this process's own, in which everything is allowed. */
static bool enter_namespace(void)
{
    return unshare(CLONE_NEWNET) == 0 && access("/dev/net/tun", R_OK | W_OK) == 0;
}

static void interface_up(const char *name, const char *address)
{
    struct ifreq r = {0};
    struct sockaddr_in *a = (struct sockaddr_in *)&r.ifr_addr;
    const int fd = socket(AF_INET, SOCK_DGRAM, 0);
    g_strlcpy(r.ifr_name, name, IFNAMSIZ);
    a->sin_family = AF_INET;
    ck_assert_int_eq(inet_pton(AF_INET, address, &a->sin_addr), 1);
    ck_assert_msg(ioctl(fd, SIOCSIFADDR, &r) == 0, "%s: %s", name, strerror(errno));
    ck_assert_int_eq(inet_pton(AF_INET, "255.255.255.0", &a->sin_addr), 1);
    ck_assert_int_eq(ioctl(fd, SIOCSIFNETMASK, &r), 0);
    ck_assert_int_eq(ioctl(fd, SIOCGIFFLAGS, &r), 0);
    r.ifr_flags |= IFF_UP | IFF_RUNNING;
    ck_assert_int_eq(ioctl(fd, SIOCSIFFLAGS, &r), 0);
    close(fd);
}

/* The host's kernel is the peer: datagrams and a TCP connection with large segments both ways. */
START_TEST(tap)
{
    enum { MUCH = 200000 };
    static const char *const texts[] = {"tap,id=n,ifname=stag0,script=no,downscript=no,vnet_hdr=off",
                                        "tap,id=n,ifname=stag0,script=no,downscript=no"};
    const bool with_headers = _i;
    g_autoptr(GRand) r = g_rand_new_with_seed(13);
    if (!enter_namespace()) {
        return;
    }
    Guest *g = guest_new(texts[_i]);
    g->ip = 0xc0a80702;
    g->router = 0xc0a80701;
    net_set_offloads(g->net, with_headers ? NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 : 0);
    g_usleep(20000);
    interface_up("stag0", "192.168.7.1");

    const struct sockaddr_in here = {.sin_family = AF_INET,
                                     .sin_port = htons(5000),
                                     .sin_addr.s_addr = htonl(g->router)};
    const int udp = socket(AF_INET, SOCK_DGRAM, 0), server = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(udp, (const struct sockaddr *)&here, sizeof(here)), 0);
    ck_assert_int_eq(bind(server, (const struct sockaddr *)&here, sizeof(here)), 0);
    ck_assert_int_eq(listen(server, 1), 0);
    /* Without a checksum, if the kernel is to compute it, which it cannot if it is not asked to. */
    guest_announce(g);
    Frame *f = udp_frame(g, g->router, 6000, 5000, "hello", 5);
    memcpy(f->data, "\xff\xff\xff\xff\xff\xff", 6);
    set16(f->data + 40, slow_sum(f->data + 26, 8, 17 + 13));
    f->hdr = (NetHdr){.flags = NET_HDR_NEEDS_CSUM, .csum_start = 34, .csum_offset = 6};
    guest_send(g, f);
    struct pollfd p = {.fd = udp, .events = POLLIN};
    char text[16];
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    ck_assert_int_eq(poll(&p, 1, WAIT), 1);
    ck_assert_int_eq(recvfrom(udp, text, sizeof(text), 0, (struct sockaddr *)&from, &size), 5);
    ck_assert_int_eq(sendto(udp, "HELLO", 5, 0, (struct sockaddr *)&from, size), 5);
    f = guest_wait_for(g, 17, 6000, WAIT);
    ck_assert_ptr_nonnull(f);
    ck_assert_mem_eq(f->data + 42, "HELLO", 5);
    memcpy(g->router_mac, f->data + 6, 6);
    g_free(f);

    Tcp *t = tcp_connect(g, 4000, 5000, g->router);
    ck_assert_ptr_nonnull(t);
    const int fd = accept(server, NULL, NULL);
    g_autofree u8 *data = g_malloc(MUCH), *got = g_malloc(MUCH);
    fill_random(r, data, MUCH);
    f = tcp_frame(g, t->peer, t->port, t->peer_port, t->seq, t->ack, ACK | PSH, data, 20000);
    set16(f->data + 50, slow_sum(f->data + 26, 8, 6 + 20 + 20000));
    f->hdr = (NetHdr){.flags = NET_HDR_NEEDS_CSUM, .gso_type = NET_GSO_TCPV4, .hdr_len = 54,
                      .gso_size = 1460, .csum_start = 34, .csum_offset = 16};
    guest_send(g, f);
    t->seq += 20000;
    read_all(fd, got, 20000);
    ck_assert_mem_eq(got, data, 20000);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    size_t written = 0, received = 0, largest = 0;
    while (received < MUCH) {
        const ssize_t done = write(fd, data + written, MUCH - written);
        written += done > 0 ? (size_t)done : 0;
        f = guest_wait_for(g, 6, 4000, WAIT);
        size_t n;
        ck_assert_ptr_nonnull(f);
        const u8 *bytes = tcp_take(t, f, &n);
        if (n) {
            memcpy(got + received, bytes, n);
            received += n;
            largest = MAX(largest, n);
            tcp_send(t, ACK, NULL, 0);
        }
        g_free(f);
    }
    ck_assert_mem_eq(got, data, MUCH);
    ck_assert_msg(with_headers ? largest > 1460 : largest <= 1460, "%zu", largest);
    close(fd);
    close(server);
    close(udp);
    g_free(t);

    /* Somebody else cannot have it; and it goes with its owner. */
    g_autoptr(GError) err = NULL;
    ck_assert_ptr_null(net_new(texts[_i], &err));
    ck_assert_msg(strstr(err->message, "somebody else"), "%s", err->message);
    guest_free(g);
    ck_assert_uint_eq(if_nametoindex("stag0"), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("network");
    TCase *t = tcase_create("frames");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sums);
    tcase_add_loop_test(t, segments, 0, 2);
    tcase_add_test(t, fragments);
    tcase_add_test(t, reassembly);
    tcase_add_test(t, checksums_of_guests);
    tcase_add_test(t, mss);
    tcase_add_test(t, impossible_headers);
    tcase_add_test(t, damaged_frames);
    tcase_add_test(t, wrong_texts);
    tcase_add_test(t, right_texts);
    tcase_add_test(t, port_in_use);
    tcase_add_test(t, nic_texts);
    tcase_add_test(t, macs);
    suite_add_tcase(s, t);
    t = tcase_create("user");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, dhcp);
    tcase_add_loop_test(t, large_segments, 0, 2);
    tcase_add_test(t, forwarded_connections);
    tcase_add_test(t, restricted);
    tcase_add_test(t, forwarding_while_it_runs);
    tcase_add_test(t, cable);
    suite_add_tcase(s, t);
    t = tcase_create("hostile");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, hostile_answers);
    tcase_add_test(t, hostile_guest);
    suite_add_tcase(s, t);
    t = tcase_create("socket and tap");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, two_sockets);
    tcase_add_test(t, hostile_peer);
    tcase_add_test(t, datagrams);
    tcase_add_test(t, multicast);
    tcase_add_loop_test(t, tap, 0, 2);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
