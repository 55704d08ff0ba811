/* The thread of a Net, and what all kinds have in common. See net.h and kind.h. */
#include "devices/net/net.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/thread.h"
#include "devices/net/kind.h"
#include "devices/net/packet.h"

enum {
    BATCH_SIZE = 512 * 1024,
    BACKLOG_FULL = 128 * 1024,        /* read nothing more from the host */
    BACKLOG_MAX = 4 * 1024 * 1024,    /* what comes nevertheless is dropped */
    ROUNDS = 8,                       /* batches sent before the host's side gets a turn */
};

static const NetKind *const kinds[] = {&net_user, &net_tap, &net_socket};

/* Frames in a row in memory: each has this before it and begins at a multiple of 8. */
typedef struct Record {
    u32 len;
    NetHdr hdr;
} Record;

static size_t record_size(size_t len)
{
    return (sizeof(Record) + len + 7) & ~(size_t)7;
}

u8 *net_batch_room(NetBatch *b)
{
    return b->size - b->used < record_size(NET_FRAME_MAX) ? NULL
                                                          : b->data + b->used + sizeof(Record);
}

void net_batch_add(NetBatch *b, const NetHdr *hdr, size_t len)
{
    const Record r = {.len = (u32)len, .hdr = *hdr};
    memcpy(b->data + b->used, &r, sizeof(r));
    b->used += record_size(len);
}

/* ---- Waiting -------------------------------------------------------------------------------- */

unsigned net_poll_add(NetPoll *p, int fd, short events)
{
    const struct pollfd entry = {.fd = fd, .events = events};
    g_array_append_val(p->fds, entry);
    return p->fds->len - 1;
}

short net_poll_ready(const NetPoll *p, unsigned index)
{
    return g_array_index(p->fds, struct pollfd, index).revents;
}

/* ---- From the guest ------------------------------------------------------------------------- */

static unsigned offload_of(const NetHdr *hdr)
{
    switch (hdr->gso_type & ~NET_GSO_ECN) {
    case NET_GSO_TCPV4:
        return NET_OFFLOAD_TSO4 | (hdr->gso_type & NET_GSO_ECN ? NET_OFFLOAD_ECN : 0);
    case NET_GSO_TCPV6:
        return NET_OFFLOAD_TSO6 | (hdr->gso_type & NET_GSO_ECN ? NET_OFFLOAD_ECN : 0);
    default:
        return 0;
    }
}

static void add_piece(void *opaque, const u8 *frame, size_t len)
{
    static const u8 padding[8];
    Net *n = opaque;
    const Record r = {.len = (u32)len};
    g_byte_array_append(n->pieces, (const guint8 *)&r, sizeof(r));
    g_byte_array_append(n->pieces, frame, (guint)len);
    g_byte_array_append(n->pieces, padding, (guint)(record_size(len) - sizeof(r) - len));
}

static bool send_frame(Net *n, const NetHdr *hdr, u8 *frame, size_t len)
{
    if (!n->kind->send(n, hdr, frame, len)) {
        return false;
    }
    n->sent.frames++;
    n->sent.bytes += len;
    return true;
}

/* False: no room; the frame is as it was. */
static bool send_from_guest(Net *n, NetHdr *hdr, u8 *frame, size_t len)
{
    if (!n->link_up || !packet_check(hdr, frame, len)) {
        if (n->link_up) {
            log_guest_error("net %s: a frame of %zu bytes whose header asks for the impossible\n",
                            n->id, len);
        }
        n->sent.dropped++;
        return true;
    }
    if (offload_of(hdr) & ~n->can) {
        g_byte_array_set_size(n->pieces, 0);
        n->pieces_at = 0;
        packet_segment(hdr, frame, len, add_piece, n);
        return true;
    }
    if (!(n->can & NET_OFFLOAD_CSUM)) {
        /* Done in place: a second attempt finds a frame that asks for nothing. */
        packet_complete(hdr, frame, len);
    }
    return send_frame(n, hdr, frame, len);
}

/* Sends what lies there from *at on. False: no room. */
static bool send_records(Net *n, u8 *data, size_t used, size_t *at,
                         bool (*send)(Net *n, NetHdr *hdr, u8 *frame, size_t len))
{
    while (*at < used) {
        Record *r = (Record *)(data + *at);
        if (!send(n, &r->hdr, data + *at + sizeof(*r), r->len)) {
            return false;
        }
        *at += record_size(r->len);
        if (n->pieces_at < n->pieces->len && data == n->batch.data) {
            return true; /* the pieces come before the next frame */
        }
    }
    return true;
}

static bool send_piece(Net *n, NetHdr *hdr, u8 *frame, size_t len)
{
    return send_frame(n, hdr, frame, len);
}

/* Everything fetched so far. False: no room. */
static bool send_batch(Net *n)
{
    do {
        if (!send_records(n, n->pieces->data, n->pieces->len, &n->pieces_at, send_piece) ||
            !send_records(n, n->batch.data, n->batch.used, &n->batch_at, send_from_guest)) {
            return false;
        }
    } while (n->pieces_at < n->pieces->len || n->batch_at < n->batch.used);
    return true;
}

static void transmit(Net *n)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        n->blocked = !send_batch(n);
        if (n->blocked) {
            break;
        }
        n->batch.used = n->batch_at = 0;
        if (!n->client || !n->more) {
            break;
        }
        n->more = n->client->fetch(n->opaque, &n->batch);
    }
    if (n->kind->flush) {
        n->kind->flush(n);
    }
}

/* ---- For the guest -------------------------------------------------------------------------- */

typedef struct Waiting {
    NetHdr hdr;
    size_t len;
    u8 frame[];
} Waiting;

bool net_guest_ready(const Net *n)
{
    return n->backlog_bytes < BACKLOG_FULL;
}

static bool give(Net *n, const NetHdr *hdr, const u8 *frame, size_t len)
{
    if (!n->client->receive(n->opaque, hdr, frame, len)) {
        return false;
    }
    n->delivered = true;
    n->received.frames++;
    n->received.bytes += len;
    return true;
}

/* The guest takes what the header asks for. */
static void deliver_ready(Net *n, const NetHdr *hdr, const u8 *frame, size_t len)
{
    if (!n->client || !n->link_up) {
        n->received.dropped++;
    } else if (n->backlog.length || !give(n, hdr, frame, len)) {
        if (n->backlog_bytes + len > BACKLOG_MAX) {
            n->received.dropped++;
            return;
        }
        Waiting *w = g_malloc(sizeof(Waiting) + len);
        w->hdr = *hdr;
        w->len = len;
        memcpy(w->frame, frame, len);
        g_queue_push_tail(&n->backlog, w);
        n->backlog_bytes += sizeof(Waiting) + len;
    }
}

static void deliver_piece(void *opaque, const u8 *frame, size_t len)
{
    static const NetHdr nothing;
    Net *n = opaque;
    deliver_ready(n, &nothing, frame, len);
}

void net_deliver(Net *n, const NetHdr *hdr, const u8 *frame, size_t len)
{
    if (!packet_check(hdr, frame, len)) {
        n->received.dropped++;
    } else if (offload_of(hdr) & ~n->offloads) {
        packet_segment(hdr, frame, len, deliver_piece, n);
    } else if ((hdr->flags & NET_HDR_NEEDS_CSUM) && !(n->offloads & NET_OFFLOAD_CSUM)) {
        NetHdr plain = *hdr;
        g_autofree u8 *copy = g_memdup2(frame, len);
        packet_complete(&plain, copy, len);
        deliver_ready(n, &plain, copy, len);
    } else {
        NetHdr valid = *hdr;
        valid.flags &= n->offloads & NET_OFFLOAD_CSUM ? 0xff : 0;
        deliver_ready(n, &valid, frame, len);
    }
}

static void drop_backlog(Net *n)
{
    n->received.dropped += n->backlog.length;
    g_queue_clear_full(&n->backlog, g_free);
    n->backlog_bytes = 0;
}

static void deliver_backlog(Net *n)
{
    Waiting *w;
    while (n->client && (w = g_queue_peek_head(&n->backlog))) {
        if (offload_of(&w->hdr) & ~n->offloads ||
            (w->hdr.flags && !(n->offloads & NET_OFFLOAD_CSUM))) {
            n->received.dropped++; /* the driver has changed since */
        } else if (!give(n, &w->hdr, w->frame, w->len)) {
            break;
        }
        g_queue_pop_head(&n->backlog);
        n->backlog_bytes -= sizeof(Waiting) + w->len;
        g_free(w);
    }
}

static void tell_received(Net *n)
{
    if (n->delivered && n->client) {
        n->client->received(n->opaque);
    }
    n->delivered = false;
}

/* ---- The thread ----------------------------------------------------------------------------- */

static gpointer net_thread(gpointer opaque)
{
    Net *n = opaque;
    NetPoll poll = {.fds = g_array_new(FALSE, FALSE, sizeof(struct pollfd))};

    g_mutex_lock(&n->lock);
    while (!g_atomic_int_get(&n->closing)) {
        g_array_set_size(poll.fds, 0);
        poll.wake = G_MAXINT64;
        net_poll_add(&poll, n->event, POLLIN);
        n->kind->fill(n, &poll);
        if (n->more && n->client && !n->blocked) {
            poll.wake = 0;
        }
        g_mutex_unlock(&n->lock);

        int timeout = -1;
        if (poll.wake != G_MAXINT64) {
            const gint64 left = poll.wake - g_get_monotonic_time();
            timeout = left <= 0 ? 0 : (int)MIN((left + 999) / 1000, 3600 * 1000);
        }
        int ready;
        do {
            ready = ppoll((struct pollfd *)poll.fds->data, poll.fds->len,
                          timeout < 0 ? NULL
                                      : &(struct timespec){.tv_sec = timeout / 1000,
                                                           .tv_nsec = timeout % 1000 * 1000000},
                          NULL);
        } while (ready < 0 && errno == EINTR);

        g_mutex_lock(&n->lock);
        if (net_poll_ready(&poll, 0)) {
            u64 count;
            const ssize_t got = read(n->event, &count, sizeof(count));
            (void)got;
            g_atomic_int_set(&n->kicked, 0);
            n->more = true;
        }
        const unsigned offloads = (unsigned)g_atomic_int_get(&n->wanted_offloads);
        if (offloads != n->offloads) {
            n->offloads = offloads;
            if (n->kind->offloads_changed) {
                n->kind->offloads_changed(n);
            }
        }
        deliver_backlog(n);
        n->kind->dispatch(n, &poll);
        tell_received(n);
        transmit(n);
        tell_received(n);
    }
    g_mutex_unlock(&n->lock);
    g_array_free(poll.fds, TRUE);
    return NULL;
}

void net_kick(Net *n)
{
    if (g_atomic_int_compare_and_exchange(&n->kicked, 0, 1)) {
        const u64 one = 1;
        const ssize_t done = write(n->event, &one, sizeof(one));
        (void)done;
    }
}

void net_set_offloads(Net *n, unsigned offloads)
{
    if (!(offloads & NET_OFFLOAD_CSUM)) {
        offloads = 0;
    }
    g_atomic_int_set(&n->wanted_offloads, (gint)offloads);
    net_kick(n);
}

bool net_connect(Net *n, const NetClient *client, void *opaque)
{
    g_mutex_lock(&n->lock);
    const bool is_free = !n->client;
    if (is_free) {
        n->client = client;
        n->opaque = opaque;
    }
    g_mutex_unlock(&n->lock);
    net_kick(n);
    return is_free;
}

void net_disconnect(Net *n)
{
    g_mutex_lock(&n->lock);
    n->client = NULL;
    n->batch.used = n->batch_at = 0;
    n->pieces_at = n->pieces->len;
    n->more = false;
    drop_backlog(n);
    g_mutex_unlock(&n->lock);
}

void net_set_link(Net *n, bool up)
{
    g_mutex_lock(&n->lock);
    if (n->link_up != up) {
        n->link_up = up;
        if (n->client && n->client->link_changed) {
            n->client->link_changed(n->opaque, up);
        }
        drop_backlog(n);
    }
    g_mutex_unlock(&n->lock);
    net_kick(n);
}

bool net_link(const Net *n)
{
    GMutex *lock = (GMutex *)&n->lock;
    g_mutex_lock(lock);
    const bool up = n->link_up;
    g_mutex_unlock(lock);
    return up;
}

/* ---- Opening and closing -------------------------------------------------------------------- */

const char *net_id(const Net *n)
{
    return n->id;
}

const char *net_kind(const Net *n)
{
    return n->kind->name;
}

static const NetKind *find_kind(const char *name, GError **err)
{
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        if (g_str_equal(kinds[i]->name, name)) {
            return kinds[i];
        }
    }
    stag_error(err, "-netdev: there is no kind '%.40s'; there are user, tap and socket", name);
    return NULL;
}

Net *net_new(const char *text, GError **err)
{
    const char *rest;
    g_autofree char *head = props_head(text, &rest);
    const char *name = g_str_has_prefix(head, "type=") ? head + strlen("type=") : head;
    const NetKind *kind = find_kind(name, err);
    if (!kind) {
        return NULL;
    }
    g_autofree char *what = g_strdup_printf("-netdev %s", kind->name);
    Net *n = g_malloc0(kind->size);
    if (!props_parse(kind->props, kind->prop_count, what, rest, n, err)) {
        g_free(n);
        return NULL;
    }
    n->kind = kind;
    n->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    n->link_up = true;
    g_mutex_init(&n->lock);
    g_queue_init(&n->backlog);
    n->pieces = g_byte_array_new();
    n->batch.size = BATCH_SIZE;
    n->batch.data = g_malloc(BATCH_SIZE);
    if (n->event < 0) {
        stag_error(err, "%s: cannot make an event descriptor: %s", what, strerror(errno));
    } else if (!n->id || !*n->id) {
        stag_error(err, "%s: it needs id=NAME, which a device's netdev= refers to", what);
    } else if (kind->open(n, err)) {
        g_autofree char *thread_name = g_strdup_printf("net %.10s", n->id);
        n->thread = thread_without_signals(thread_name, net_thread, n);
        return n;
    }
    net_free(n);
    return NULL;
}

void net_free(Net *n)
{
    if (!n) {
        return;
    }
    if (n->thread) {
        g_atomic_int_set(&n->closing, 1);
        net_kick(n);
        g_thread_join(n->thread);
    }
    n->kind->close(n);
    if (n->event >= 0) {
        close(n->event);
    }
    drop_backlog(n);
    g_byte_array_unref(n->pieces);
    g_free(n->batch.data);
    g_mutex_clear(&n->lock);
    props_clear(n->kind->props, n->kind->prop_count, n);
    g_free(n);
}

/* ---- For the user --------------------------------------------------------------------------- */

void net_info(Net *n, GString *out)
{
    g_mutex_lock(&n->lock);
    g_string_append_printf(out, "%s: %s%s\n", n->id, n->kind->name,
                           n->link_up ? "" : ", link down");
    g_string_append_printf(out,
                           "  from the guest: %" G_GUINT64_FORMAT " frames, %" G_GUINT64_FORMAT
                           " bytes, %" G_GUINT64_FORMAT " dropped\n",
                           n->sent.frames, n->sent.bytes, n->sent.dropped);
    g_string_append_printf(out,
                           "  to the guest: %" G_GUINT64_FORMAT " frames, %" G_GUINT64_FORMAT
                           " bytes, %" G_GUINT64_FORMAT " dropped, %u waiting\n",
                           n->received.frames, n->received.bytes, n->received.dropped,
                           n->backlog.length);
    n->kind->info(n, out);
    g_mutex_unlock(&n->lock);
}

static bool hostfwd(Net *n, const char *text, bool add, GError **err)
{
    if (n->kind != &net_user) {
        return stag_error(err, "net '%s' is not of kind user, so it forwards no ports", n->id);
    }
    g_mutex_lock(&n->lock);
    const bool ok = net_user_hostfwd(n, text, add, err);
    g_mutex_unlock(&n->lock);
    net_kick(n);
    return ok;
}

bool net_hostfwd_add(Net *n, const char *text, GError **err)
{
    return hostfwd(n, text, true, err);
}

bool net_hostfwd_remove(Net *n, const char *text, GError **err)
{
    return hostfwd(n, text, false, err);
}

/* Appends ",key=value" with commas doubled, or ",item". */
static void append_item(GString *out, const char *item)
{
    g_string_append_c(out, ',');
    for (; *item; item++) {
        g_string_append_c(out, *item);
        if (*item == ',') {
            g_string_append_c(out, ',');
        }
    }
}

bool net_nic_split(const char *text, unsigned index, char **netdev, char **device, GError **err)
{
    /* What -nic has for the card; everything else is the netdev's. */
    static const char *const card_keys[] = {"mac", "addr", "vectors"};
    const char *rest;
    g_autofree char *head = props_head(text, &rest);
    const char *name = g_str_has_prefix(head, "type=") ? head + strlen("type=") : head;
    *netdev = *device = NULL;
    if (g_str_equal(name, "none")) {
        return *rest ? stag_error(err, "-nic none: takes no properties, so not '%.60s'", rest)
                     : true;
    }
    if (!find_kind(name, NULL)) {
        return stag_error(err, "-nic: there is no kind '%.40s'; there are user, tap, socket and none",
                          name);
    }
    g_autoptr(GString) net_items = g_string_new(NULL);
    g_autoptr(GString) card_items = g_string_new(NULL);
    g_autofree char *id = props_find(rest, "id");
    g_autofree char *model = props_find(rest, "model");
    if (!id) {
        id = g_strdup_printf("__nic%u", index);
    }
    while (*rest) {
        g_autofree char *item = props_head(rest, &rest);
        bool is_card = false;
        for (unsigned i = 0; i < ARRAY_LEN(card_keys) && !is_card; i++) {
            const size_t len = strlen(card_keys[i]);
            is_card = strncmp(item, card_keys[i], len) == 0 && item[len] == '=';
        }
        if (!g_str_has_prefix(item, "id=") && !g_str_has_prefix(item, "model=")) {
            append_item(is_card ? card_items : net_items, item);
        }
    }
    g_autoptr(GString) id_item = g_string_new(NULL);
    g_autofree char *id_text = g_strdup_printf("id=%s", id);
    append_item(id_item, id_text);
    *netdev = g_strdup_printf("%s%s%s", name, id_item->str, net_items->str);
    if (!model || g_str_equal(model, "virtio")) {
        g_free(model);
        model = g_strdup("virtio-net-device");
    }
    *device = g_strdup_printf("%s,netdev%s%s", model, id_item->str + strlen(",id"), card_items->str);
    return true;
}

bool net_net_parse(const char *text, GError **err)
{
    return g_str_equal(text, "none") ||
           stag_error(err, "-net %.40s: of the old -net there is only 'none'; use -nic %s, or -netdev with -device virtio-net-device",
                      text, g_str_has_prefix(text, "tap") ? "tap" : "user");
}

void net_print_help(FILE *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        fprintf(out, "%s%s: %s\n", i ? "\n" : "", kinds[i]->name, kinds[i]->help);
        props_print(kinds[i]->props, kinds[i]->prop_count, out);
    }
}

bool net_parse_address(const char *text, const char *what, struct sockaddr_in *out, GError **err)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    const guint64 port = colon ? g_ascii_strtoull(colon + 1, &end, 10) : 0;
    if (!colon || !g_ascii_isdigit(colon[1]) || *end || port > 65535) {
        return stag_error(err, "%s=%.60s: it takes HOST:PORT (or :PORT)", what, text);
    }
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((u16)port)};
    g_autofree char *host = g_strndup(text, (gsize)(colon - text));
    if (!*host) {
        return true; /* INADDR_ANY */
    }
    const struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    const int failed = getaddrinfo(host, NULL, &hints, &found);
    if (failed) {
        return stag_error(err, "%s=%.60s: cannot find '%s': %s", what, text, host,
                          gai_strerror(failed));
    }
    out->sin_addr = ((struct sockaddr_in *)found->ai_addr)->sin_addr;
    freeaddrinfo(found);
    return true;
}

/* ---- MAC addresses -------------------------------------------------------------------------- */

/* QEMU's range: the last byte of the default address. Main thread only. */
static u8 mac_taken[256];

static const u8 mac_default[5] = {0x52, 0x54, 0x00, 0x12, 0x34};
enum { MAC_FIRST = 0x56 };

void net_mac_take(u8 mac[6])
{
    static const u8 zero[6];
    if (memcmp(mac, zero, 6) == 0) {
        unsigned last = MAC_FIRST;
        while (last < 0xff && mac_taken[last]) {
            last++;
        }
        memcpy(mac, mac_default, 5);
        mac[5] = (u8)last;
    }
    if (memcmp(mac, mac_default, 5) == 0 && mac_taken[mac[5]] < 0xff) {
        mac_taken[mac[5]]++;
    }
}

void net_mac_release(const u8 mac[6])
{
    if (memcmp(mac, mac_default, 5) == 0 && mac_taken[mac[5]]) {
        mac_taken[mac[5]]--;
    }
}
