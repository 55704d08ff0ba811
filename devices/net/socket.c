/*
 * -netdev socket: a cable to another emulator. Over TCP a frame is four bytes with its length (big
 * endian) and its bytes, which is what QEMU does, so that Stag and QEMU can be joined; over UDP, to
 * one peer or to a multicast group, a frame is a datagram.
 *
 * The one who listens serves one peer after another, the one who connects tries again every second
 * when the peer is gone: a missing peer is a cable that leads nowhere.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/error.h"
#include "devices/net/kind.h"

enum {
    FRAMES = 64,             /* read in a row before the guest's frames get a turn */
    OUT_FULL = 256 * 1024,   /* no more frames are taken */
    IN_SIZE = 256 * 1024,
    LENGTH = 4,              /* bytes before each frame */
    PEER_FRAME_MAX = 69632,  /* what a peer may send; longer ones than ours are dropped */
    RETRY = G_TIME_SPAN_SECOND,
};

typedef enum SocketMode { MODE_LISTEN, MODE_CONNECT, MODE_DATAGRAM } SocketMode;

typedef struct SocketNet {
    Net net;
    /* Properties. */
    char *listen, *connect, *mcast, *udp, *localaddr, *fd_text;

    SocketMode mode;
    bool has_listener, has_peer; /* the descriptors are open */
    int listener, peer;
    /* mcast: frames leave by a socket of their own, whose address tells ours from others' when the
     * group sends them back. */
    bool has_sender;
    int sender;
    struct sockaddr_in sender_address;
    bool connecting;
    struct sockaddr_in address; /* to listen on, to connect or to send to */
    gint64 retry;               /* when to connect next */
    int error;                  /* why there is no connection */
    unsigned listener_index, peer_index;
    bool peer_polled, listener_polled;
    /* Bytes of the stream: received and not understood yet, and to be written. */
    u8 *in;
    size_t in_used;
    GByteArray *out;
    size_t out_done;
} SocketNet;

#define AT(field) offsetof(SocketNet, field)

static const PropDesc socket_props[] = {
    NET_PROP_ID,
    {"listen", PROP_STRING, AT(listen), NULL, "[HOST]:PORT, wait there for a peer's connect="},
    {"connect", PROP_STRING, AT(connect), NULL, "HOST:PORT, where a peer listens"},
    {"mcast", PROP_STRING, AT(mcast), NULL, "GROUP:PORT, a bus for any number of peers"},
    {"udp", PROP_STRING, AT(udp), NULL, "HOST:PORT, where frames go as datagrams"},
    {"localaddr", PROP_STRING, AT(localaddr), NULL,
     "with udp: HOST:PORT to receive at; with mcast: the interface's address"},
    {"fd", PROP_STRING, AT(fd_text), NULL, "a connected stream socket"},
};

static bool make_nonblocking(int fd)
{
    return fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

static int make_socket(int type)
{
    return socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* ---- The peer ------------------------------------------------------------------------------- */

static void drop_peer(SocketNet *s, int error)
{
    if (s->has_peer) {
        close(s->peer);
    }
    s->has_peer = s->connecting = s->peer_polled = false;
    s->error = error;
    s->in_used = 0;
    g_byte_array_set_size(s->out, 0);
    s->out_done = 0;
    s->retry = g_get_monotonic_time() + RETRY;
}

static void take_peer(SocketNet *s, int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    s->peer = fd;
    s->has_peer = true;
    s->error = 0;
}

static void start_connecting(SocketNet *s)
{
    const int fd = make_socket(SOCK_STREAM);
    if (fd < 0) {
        s->error = errno;
        s->retry = g_get_monotonic_time() + RETRY;
        return;
    }
    take_peer(s, fd);
    if (connect(fd, (struct sockaddr *)&s->address, sizeof(s->address)) == 0) {
        return;
    }
    if (errno == EINPROGRESS) {
        s->connecting = true;
    } else {
        drop_peer(s, errno);
    }
}

static void finish_connecting(SocketNet *s)
{
    int error = 0;
    socklen_t size = sizeof(error);
    getsockopt(s->peer, SOL_SOCKET, SO_ERROR, &error, &size);
    s->connecting = false;
    if (error) {
        drop_peer(s, error);
    }
}

/* ---- Frames --------------------------------------------------------------------------------- */

static bool has_output(const SocketNet *s)
{
    return s->out_done < s->out->len;
}

static void write_out(SocketNet *s)
{
    while (s->has_peer && !s->connecting && has_output(s)) {
        const ssize_t done = send(s->peer, s->out->data + s->out_done, s->out->len - s->out_done,
                                  MSG_NOSIGNAL);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            if (errno != EAGAIN) {
                drop_peer(s, errno);
            }
            return;
        }
        s->out_done += (size_t)done;
    }
    g_byte_array_set_size(s->out, 0);
    s->out_done = 0;
}

static bool socket_send(Net *n, const NetHdr *hdr G_GNUC_UNUSED, u8 *frame, size_t len)
{
    SocketNet *s = (SocketNet *)n;
    if (s->mode == MODE_DATAGRAM) {
        ssize_t done;
        do {
            done = s->has_sender ? send(s->sender, frame, len, MSG_NOSIGNAL)
                                 : sendto(s->peer, frame, len, MSG_NOSIGNAL,
                                          (struct sockaddr *)&s->address, sizeof(s->address));
        } while (done < 0 && errno == EINTR);
        s->error = done < 0 ? errno : 0;
        return done >= 0 || (errno != EAGAIN && errno != ENOBUFS);
    }
    if (!s->has_peer || s->connecting) {
        return true; /* nobody is there */
    }
    if (s->out->len >= OUT_FULL) {
        write_out(s);
        if (s->out->len >= OUT_FULL) {
            return false;
        }
    }
    const u32 length = htonl((u32)len);
    g_byte_array_append(s->out, (const guint8 *)&length, LENGTH);
    g_byte_array_append(s->out, frame, (guint)len);
    return true;
}

static void socket_flush(Net *n)
{
    SocketNet *s = (SocketNet *)n;
    if (has_output(s)) {
        write_out(s);
    }
}

static void read_stream(SocketNet *s)
{
    static const NetHdr nothing;
    const ssize_t got = recv(s->peer, s->in + s->in_used, IN_SIZE - s->in_used, 0);
    if (got <= 0) {
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            drop_peer(s, got == 0 ? ECONNRESET : errno);
        }
        return;
    }
    s->in_used += (size_t)got;
    size_t at = 0;
    while (s->in_used - at >= LENGTH) {
        u32 length;
        memcpy(&length, s->in + at, LENGTH);
        length = ntohl(length);
        if (length > PEER_FRAME_MAX) {
            drop_peer(s, EPROTO);
            return;
        }
        if (s->in_used - at - LENGTH < length) {
            break;
        }
        net_deliver(&s->net, &nothing, s->in + at + LENGTH, length);
        at += LENGTH + length;
    }
    memmove(s->in, s->in + at, s->in_used - at);
    s->in_used -= at;
}

static void read_datagrams(SocketNet *s)
{
    static const NetHdr nothing;
    for (unsigned i = 0; i < FRAMES && net_guest_ready(&s->net); i++) {
        struct sockaddr_in from = {0};
        socklen_t size = sizeof(from);
        const ssize_t got = recvfrom(s->peer, s->in, IN_SIZE, 0, (struct sockaddr *)&from, &size);
        if (got < 0) {
            break;
        }
        if (s->has_sender && from.sin_port == s->sender_address.sin_port &&
            from.sin_addr.s_addr == s->sender_address.sin_addr.s_addr) {
            continue;
        }
        net_deliver(&s->net, &nothing, s->in, (size_t)got);
    }
}

/* ---- Waiting -------------------------------------------------------------------------------- */

static void socket_fill(Net *n, NetPoll *poll)
{
    SocketNet *s = (SocketNet *)n;
    if (s->mode == MODE_CONNECT && !s->has_peer) {
        if (g_get_monotonic_time() >= s->retry) {
            start_connecting(s);
        }
        if (!s->has_peer) {
            net_poll_at(poll, s->retry);
        }
    }
    s->listener_polled = s->has_listener && !s->has_peer;
    if (s->listener_polled) {
        s->listener_index = net_poll_add(poll, s->listener, POLLIN);
    }
    s->peer_polled = s->has_peer;
    if (s->has_sender && n->blocked) {
        net_poll_add(poll, s->sender, POLLOUT);
    }
    if (s->has_peer) {
        const bool writes = s->connecting || has_output(s) || (n->blocked && !s->has_sender);
        s->peer_index = net_poll_add(
            poll, s->peer,
            (short)((net_guest_ready(n) && !s->connecting ? POLLIN : 0) | (writes ? POLLOUT : 0)));
    }
}

static void socket_dispatch(Net *n, const NetPoll *poll)
{
    SocketNet *s = (SocketNet *)n;
    if (s->listener_polled && net_poll_ready(poll, s->listener_index)) {
        const int fd = accept4(s->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_peer(s, fd);
        }
    }
    const short events = s->peer_polled ? net_poll_ready(poll, s->peer_index) : 0;
    if (!events) {
        return;
    }
    if (s->connecting) {
        finish_connecting(s);
    } else if (s->mode == MODE_DATAGRAM) {
        read_datagrams(s);
    } else {
        if (events & POLLOUT) {
            write_out(s);
        }
        if (s->has_peer && ((events & POLLIN) || !(events & POLLOUT))) {
            read_stream(s); /* errors and the end show there */
        }
    }
}

/* ---- Opening -------------------------------------------------------------------------------- */

static bool failed(const char *doing, const char *text, GError **err)
{
    const int error = errno;
    return stag_error(err, "-netdev socket: cannot %s %s: %s%s", doing, text, strerror(error),
                      error == EADDRINUSE ? "; choose another port or end who uses it" : "");
}

static bool open_listener(SocketNet *s, GError **err)
{
    const int on = 1;
    if (!net_parse_address(s->listen, "-netdev socket: listen", &s->address, err)) {
        return false;
    }
    s->listener = make_socket(SOCK_STREAM);
    s->has_listener = s->listener >= 0;
    if (!s->has_listener) {
        return failed("listen on", s->listen, err);
    }
    setsockopt(s->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    return (bind(s->listener, (struct sockaddr *)&s->address, sizeof(s->address)) == 0 &&
            listen(s->listener, 1) == 0) ||
           failed("listen on", s->listen, err);
}

static bool open_datagrams(SocketNet *s, GError **err)
{
    const int on = 1;
    const bool is_group = s->mcast;
    struct sockaddr_in local = {.sin_family = AF_INET};
    struct in_addr interface = {0};
    const char *what = is_group ? "-netdev socket: mcast" : "-netdev socket: udp";
    const char *text = is_group ? s->mcast : s->udp;
    if (!net_parse_address(text, what, &s->address, err)) {
        return false;
    }
    if (is_group && !IN_MULTICAST(ntohl(s->address.sin_addr.s_addr))) {
        return stag_error(err, "%s=%s: groups are 224.0.0.0 to 239.255.255.255", what, text);
    }
    if (is_group && s->localaddr && inet_pton(AF_INET, s->localaddr, &interface) != 1) {
        return stag_error(err, "-netdev socket: localaddr=%.60s: with mcast it takes an address",
                          s->localaddr);
    }
    if (!is_group &&
        (!s->localaddr ||
         !net_parse_address(s->localaddr, "-netdev socket: localaddr", &local, err))) {
        return s->localaddr ? false
                            : stag_error(err, "-netdev socket: udp= needs localaddr=HOST:PORT");
    }
    s->peer = make_socket(SOCK_DGRAM);
    s->has_peer = s->peer >= 0;
    if (!s->has_peer) {
        return failed("open", text, err);
    }
    setsockopt(s->peer, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (is_group) {
        const struct ip_mreq group = {s->address.sin_addr, interface};
        const u8 loop = 1;
        socklen_t size = sizeof(s->sender_address);
        s->sender = make_socket(SOCK_DGRAM);
        s->has_sender = s->sender >= 0;
        if (!s->has_sender || bind(s->peer, (struct sockaddr *)&s->address, sizeof(s->address)) < 0 ||
            setsockopt(s->peer, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof(group)) < 0 ||
            setsockopt(s->sender, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof(loop)) < 0 ||
            (s->localaddr && setsockopt(s->sender, IPPROTO_IP, IP_MULTICAST_IF, &interface,
                                        sizeof(interface)) < 0) ||
            connect(s->sender, (struct sockaddr *)&s->address, sizeof(s->address)) < 0 ||
            getsockname(s->sender, (struct sockaddr *)&s->sender_address, &size) < 0) {
            return failed("join", text, err);
        }
        return true;
    }
    return bind(s->peer, (struct sockaddr *)&local, sizeof(local)) == 0 ||
           failed("receive at", s->localaddr, err);
}

static bool take_fd(SocketNet *s, GError **err)
{
    char *end;
    int type;
    socklen_t size = sizeof(type);
    const guint64 number = g_ascii_strtoull(s->fd_text, &end, 10);
    if (!g_ascii_isdigit(*s->fd_text) || *end || number > G_MAXINT ||
        getsockopt((int)number, SOL_SOCKET, SO_TYPE, &type, &size) < 0 || type != SOCK_STREAM ||
        !make_nonblocking((int)number)) {
        return stag_error(err,
                          "-netdev socket: fd=%.40s: it takes the number of an open stream socket",
                          s->fd_text);
    }
    take_peer(s, (int)number);
    return true;
}

static bool socket_open(Net *n, GError **err)
{
    SocketNet *s = (SocketNet *)n;
    const unsigned ways =
        !!s->listen + !!s->connect + !!s->mcast + !!s->udp + !!s->fd_text;
    if (ways != 1) {
        return stag_error(err, "-netdev socket: it takes one of listen=, connect=, mcast=, udp= and fd=");
    }
    if (s->localaddr && !s->mcast && !s->udp) {
        return stag_error(err, "-netdev socket: localaddr= goes with mcast= and udp=");
    }
    s->in = g_malloc(IN_SIZE);
    s->out = g_byte_array_new();
    if (s->listen) {
        return open_listener(s, err);
    }
    if (s->connect) {
        s->mode = MODE_CONNECT;
        return net_parse_address(s->connect, "-netdev socket: connect", &s->address, err);
    }
    if (s->fd_text) {
        return take_fd(s, err);
    }
    s->mode = MODE_DATAGRAM;
    return open_datagrams(s, err);
}

static void socket_close(Net *n)
{
    SocketNet *s = (SocketNet *)n;
    if (s->has_peer) {
        close(s->peer);
    }
    if (s->has_listener) {
        close(s->listener);
    }
    if (s->has_sender) {
        close(s->sender);
    }
    g_free(s->in);
    if (s->out) {
        g_byte_array_unref(s->out);
    }
}

static void socket_info(Net *n, GString *out)
{
    const SocketNet *s = (const SocketNet *)n;
    const char *way = s->listen    ? "listen"
                      : s->connect ? "connect"
                      : s->mcast   ? "mcast"
                      : s->udp     ? "udp"
                                   : "fd";
    const char *text = s->listen    ? s->listen
                       : s->connect ? s->connect
                       : s->mcast   ? s->mcast
                       : s->udp     ? s->udp
                                    : s->fd_text;
    g_string_append_printf(out, "  %s=%s, %s%s%s\n", way, text,
                           s->mode == MODE_DATAGRAM         ? "datagrams"
                           : s->has_peer && !s->connecting ? "connected"
                                                           : "no peer",
                           s->error ? ": " : "", s->error ? strerror(s->error) : "");
}

const NetKind net_socket = {
    .name = "socket",
    .help = "a cable to another Stag or QEMU",
    .props = socket_props,
    .prop_count = ARRAY_LEN(socket_props),
    .size = sizeof(SocketNet),
    .open = socket_open,
    .close = socket_close,
    .fill = socket_fill,
    .dispatch = socket_dispatch,
    .send = socket_send,
    .flush = socket_flush,
    .info = socket_info,
};
