/* Reassembly of IPv4 datagrams. See fragments.h. */
#include "devices/net/fragments.h"

#include <string.h>

enum {
    DATAGRAMS = 16,
    HEADERS = NET_HEADER + 20,
    DATA_MAX = 65535 - 20,
    BLOCK = 8, /* offsets of fragments count these */
    BLOCKS = (DATA_MAX + BLOCK - 1) / BLOCK,
    MORE = 0x2000,
};

typedef struct Datagram {
    u64 age; /* of its first fragment; 0: unused */
    u8 source_dest[8], id[2], protocol;
    unsigned total; /* bytes of data, 0: the last fragment has not come yet */
    unsigned bytes; /* that have come */
    unsigned end;   /* of the last byte that has come */
    bool has_header;
    u8 seen[(BLOCKS + 7) / 8];
    u8 frame[HEADERS + BLOCKS * BLOCK];
} Datagram;

struct Fragments {
    u64 clock;
    Datagram *datagrams[DATAGRAMS]; /* made when first needed */
};

Fragments *fragments_new(void)
{
    return g_new0(Fragments, 1);
}

void fragments_free(Fragments *f)
{
    for (unsigned i = 0; f && i < DATAGRAMS; i++) {
        g_free(f->datagrams[i]);
    }
    g_free(f);
}

/* The datagram that the fragment belongs to, a new one if there is none yet. */
static Datagram *find(Fragments *f, const u8 *ip)
{
    Datagram **oldest = &f->datagrams[0];
    for (unsigned i = 0; i < DATAGRAMS; i++) {
        Datagram *d = f->datagrams[i];
        if (d && d->age && memcmp(d->source_dest, ip + 12, 8) == 0 &&
            memcmp(d->id, ip + 4, 2) == 0 && d->protocol == ip[9]) {
            return d;
        }
        if (*oldest && (!d || d->age < (*oldest)->age)) {
            oldest = &f->datagrams[i];
        }
    }
    if (!*oldest) {
        *oldest = g_new(Datagram, 1);
    }
    Datagram *d = *oldest;
    memset(d, 0, offsetof(Datagram, frame));
    d->age = ++f->clock;
    memcpy(d->source_dest, ip + 12, 8);
    memcpy(d->id, ip + 4, 2);
    d->protocol = ip[9];
    return d;
}

u8 *fragments_add(Fragments *f, const u8 *frame, const Packet *p, size_t *len)
{
    const u8 *ip = frame + NET_HEADER;
    const unsigned field = (unsigned)ip[6] << 8 | ip[7];
    const unsigned at = (field & 0x1fff) * BLOCK, n = p->end - p->l4;
    const bool last = !(field & MORE);
    if (p->l4 != HEADERS || !n || at + n > DATA_MAX || (!last && n % BLOCK)) {
        return NULL;
    }
    Datagram *d = find(f, ip);
    if (d->total ? last || at + n > d->total : last && at + n < d->end) {
        return NULL; /* there is no second end, and nothing behind the end */
    }
    for (unsigned b = at / BLOCK; b < (at + n + BLOCK - 1) / BLOCK; b++) {
        if (d->seen[b / 8] >> b % 8 & 1) {
            return NULL;
        }
    }
    for (unsigned b = at / BLOCK; b < (at + n + BLOCK - 1) / BLOCK; b++) {
        d->seen[b / 8] |= (u8)(1 << b % 8);
    }
    memcpy(d->frame + HEADERS + at, frame + HEADERS, n);
    d->bytes += n;
    d->end = MAX(d->end, at + n);
    if (last) {
        d->total = at + n;
    }
    if (!at) {
        memcpy(d->frame, frame, HEADERS);
    }
    d->has_header |= !at;
    if (!d->total || !d->has_header || d->bytes != d->total) {
        return NULL;
    }
    u8 *header = d->frame + NET_HEADER;
    const unsigned length = 20 + d->total;
    header[2] = (u8)(length >> 8);
    header[3] = (u8)length;
    header[6] = header[7] = header[10] = header[11] = 0;
    const u16 sum = (u16)~packet_fold(packet_sum(header, 20, 0));
    header[10] = (u8)(sum >> 8);
    header[11] = (u8)sum;
    d->age = 0;
    *len = HEADERS + d->total;
    return d->frame;
}
