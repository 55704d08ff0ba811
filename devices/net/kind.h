/*
 * What a kind of Net (user, tap, socket) is made of, and what net.c does for it. Everything here
 * runs on the Net's thread with n->lock held, except open and close.
 */
#ifndef STAG_DEVICES_NET_KIND_H
#define STAG_DEVICES_NET_KIND_H

#include <poll.h>

#include "devices/net/net.h"
#include "devices/props.h"

/* The descriptors to wait for in this round. */
typedef struct NetPoll {
    GArray *fds; /* of struct pollfd */
    gint64 wake; /* g_get_monotonic_time at which to wake up at the latest */
} NetPoll;

/* Adds a descriptor; returns its index for net_poll_ready. */
unsigned net_poll_add(NetPoll *p, int fd, short events);
/* The events that came for the descriptor of this index. */
short net_poll_ready(const NetPoll *p, unsigned index);

typedef struct NetKind {
    const char *name, *help;
    const PropDesc *props; /* places in the instance; one of them is NET_PROP_ID */
    unsigned prop_count;
    size_t size; /* of the instance, a struct that begins with a Net */
    /* The properties are in the instance. On the opener's thread, before there is another. */
    bool (*open)(Net *n, GError **err);
    /* The thread has ended. Also after a failed open. */
    void (*close)(Net *n);
    /* Before and after each wait. */
    void (*fill)(Net *n, NetPoll *poll);
    void (*dispatch)(Net *n, const NetPoll *poll);
    /* A frame from the guest, which may be changed; the header asks for nothing beyond n->can. False: no room; it
     * comes again after the next dispatch (fill asks for what makes room). */
    bool (*send)(Net *n, const NetHdr *hdr, u8 *frame, size_t len);
    /* After frames have been sent, before the thread sleeps. May be NULL. */
    void (*flush)(Net *n);
    /* n->offloads has changed. May be NULL. */
    void (*offloads_changed)(Net *n);
    void (*info)(Net *n, GString *out);
} NetKind;

extern const NetKind net_user, net_tap, net_socket;

typedef struct NetCount {
    u64 frames, bytes, dropped;
} NetCount;

struct Net {
    const NetKind *kind;
    char *id;
    unsigned can; /* NET_OFFLOAD_* that `send` takes; the rest is done before */

    GThread *thread;
    int event;            /* eventfd that wakes the thread */
    gint kicked;          /* atomic: it has been written to and not been read */
    gint wanted_offloads; /* atomic: of net_set_offloads */
    gint closing;         /* atomic */

    GMutex lock; /* all below; held by the thread except while it sleeps */
    const NetClient *client;
    void *opaque;
    bool link_up;
    unsigned offloads; /* as the thread knows them */

    /* From the guest: frames fetched and not yet sent, first whole ones, then those made of them. */
    NetBatch batch;
    size_t batch_at;
    GByteArray *pieces;
    size_t pieces_at;
    bool more, blocked; /* fetch has more; send had no room */
    /* For the guest: frames that it had no buffer for. */
    GQueue backlog;
    size_t backlog_bytes;
    bool delivered; /* something was, since the last `received` */
    NetCount sent, received;
};

#define NET_PROP_ID {"id", PROP_STRING, offsetof(Net, id), NULL, "name for -device's netdev="}

/* A frame for the guest. */
void net_deliver(Net *n, const NetHdr *hdr, const u8 *frame, size_t len);
/* Nothing waits for the guest to give buffers: read on from the host. */
bool net_guest_ready(const Net *n);
/* The loop wakes at `when` (monotonic time, us) at the latest. */
static inline void net_poll_at(NetPoll *p, gint64 when)
{
    p->wake = MIN(p->wake, when);
}

/* user.c */
bool net_user_hostfwd(Net *n, const char *text, bool add, GError **err);

/* A socket address of "host:port" (numeric or a name, host may be empty). False with a sentence that begins with
 * `what`. */
struct sockaddr_in;
bool net_parse_address(const char *text, const char *what, struct sockaddr_in *out, GError **err);

#endif
