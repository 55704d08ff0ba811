/*
 * -netdev user: a network inside the process, by libslirp. The guest's TCP connections and UDP
 * datagrams end in libslirp, which opens ordinary sockets of the host for them; DHCP, DNS and TFTP
 * servers are built in.
 *
 * Two things make it fast. The guest's large TCP segments go into libslirp whole. And in the other
 * direction libslirp makes segments as large as the guest's MSS allows, so the MSS in the guest's
 * SYN is raised on the way (if the guest takes segmented frames, NET_OFFLOAD_TSO4 and 6): libslirp's
 * segments then are passed on as one frame with a gso_size of what the guest's MTU allows. For that,
 * libslirp gets the largest MTU; what it sends beyond 1500 bytes is cut here.
 *
 * libslirp keeps a clock and caches of the host's resolver in global variables, so one lock covers
 * all instances. It is taken within n->lock, and the device's lock within it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libslirp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/net/fragments.h"
#include "devices/net/kind.h"
#include "devices/net/packet.h"

enum {
    SLIRP_MTU = 65521,     /* the largest that libslirp takes */
    MSS_IPV4 = NET_MTU - 40, /* what a guest offers on a network with this MTU */
    MSS_IPV6 = NET_MTU - 60,
    /* A quarter of the 64 KiB window that libslirp offers and keeps to: one segment is under way
     * while the next is made, and windows are updated often enough. */
    MSS_RAISED = 11 * MSS_IPV4,
    HOSTNAME_MAX = 32, /* libslirp's */
};

typedef struct User {
    Net net;
    /* Properties. */
    bool ipv4, ipv6, restricted;
    char *network, *host, *dhcpstart, *dns;
    char *ipv6_network, *ipv6_host, *ipv6_dns;
    char *hostname, *domainname, *tftp, *tftp_server, *bootfile, *smb;
    GPtrArray *dnssearch, *hostfwd, *guestfwd;

    Slirp *slirp;
    Fragments *fragments;
    struct in_addr addr, mask, host_addr, dns_addr, dhcp_addr;
    GSList *timers;       /* of Timer */
    const NetPoll *ready; /* while libslirp asks for events */
    NetPoll *filling;     /* while libslirp names its descriptors */
} User;

#define AT(field) offsetof(User, field)

static const PropDesc user_props[] = {
    NET_PROP_ID,
    {"ipv4", PROP_BOOL, AT(ipv4), "on", "have IPv4"},
    {"net", PROP_STRING, AT(network), "10.0.2.0/24", "the network, address/bits or address/mask"},
    {"host", PROP_STRING, AT(host), NULL, "the host as the guest sees it (default: .2)"},
    {"dhcpstart", PROP_STRING, AT(dhcpstart), NULL, "the guest's address by DHCP (default: .15)"},
    {"dns", PROP_STRING, AT(dns), NULL, "the name server as the guest sees it (default: .3)"},
    {"restrict", PROP_BOOL, AT(restricted), "off",
     "no connections from the guest but those of guestfwd"},
    {"hostfwd", PROP_LIST, AT(hostfwd), NULL,
     "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport"},
    {"guestfwd", PROP_LIST, AT(guestfwd), NULL,
     "[tcp]:addr:port-cmd:COMMAND or -unix:PATH, per connection"},
    {"hostname", PROP_STRING, AT(hostname), NULL, "the guest's name, told by DHCP"},
    {"domainname", PROP_STRING, AT(domainname), NULL, "the guest's domain, told by DHCP"},
    {"dnssearch", PROP_LIST, AT(dnssearch), NULL, "a domain to search, told by DHCP"},
    {"tftp", PROP_STRING, AT(tftp), NULL, "a folder to serve by TFTP"},
    {"tftp-server-name", PROP_STRING, AT(tftp_server), NULL, "its name, told by DHCP"},
    {"bootfile", PROP_STRING, AT(bootfile), NULL, "the file to boot, told by DHCP"},
    {"ipv6", PROP_BOOL, AT(ipv6), "on", "have IPv6"},
    {"ipv6-net", PROP_STRING, AT(ipv6_network), "fec0::/64", "the network, address/bits"},
    {"ipv6-host", PROP_STRING, AT(ipv6_host), NULL, "the host as the guest sees it (default: ::2)"},
    {"ipv6-dns", PROP_STRING, AT(ipv6_dns), NULL,
     "the name server as the guest sees it (default: ::3)"},
    {"smb", PROP_STRING, AT(smb), NULL, "refused: Stag runs no SMB server"},
};

static GMutex slirp_lock;

/* ---- What libslirp calls -------------------------------------------------------------------- */

typedef struct Timer {
    SlirpTimerCb fn;
    void *opaque;
    gint64 when; /* g_get_monotonic_time; G_MAXINT64: not set */
} Timer;

static void large_frame(Net *n, const u8 *data, size_t len);

static void deliver_fragment(void *opaque, const u8 *frame, size_t len)
{
    static const NetHdr valid = {.flags = NET_HDR_DATA_VALID};
    net_deliver(opaque, &valid, frame, len);
}

static ssize_t send_packet(const void *data, size_t len, void *opaque)
{
    User *u = opaque;
    if (len <= NET_HEADER + NET_MTU) {
        deliver_fragment(&u->net, data, len);
    } else if (len <= NET_FRAME_MAX) {
        large_frame(&u->net, data, len);
    }
    return (ssize_t)len;
}

/* More than the network's MTU: a TCP segment, an IPv4 datagram, or something of IPv6, which nobody
 * may cut. */
static void large_frame(Net *n, const u8 *data, size_t len)
{
    NetHdr hdr;
    g_autofree u8 *frame = g_memdup2(data, len);
    if (packet_make_gso(&hdr, frame, len, NET_MTU)) {
        net_deliver(n, &hdr, frame, len);
    } else if (!packet_fragment(frame, len, NET_MTU, deliver_fragment, n)) {
        deliver_fragment(n, frame, len);
    }
}

static void guest_error(const char *message, void *opaque)
{
    log_guest_error("net %s: %s\n", ((User *)opaque)->net.id, message);
}

static int64_t clock_get_ns(void *opaque G_GNUC_UNUSED)
{
    return g_get_monotonic_time() * 1000;
}

static void *timer_new(SlirpTimerCb fn, void *fn_opaque, void *opaque)
{
    User *u = opaque;
    Timer *t = g_new(Timer, 1);
    *t = (Timer){.fn = fn, .opaque = fn_opaque, .when = G_MAXINT64};
    u->timers = g_slist_prepend(u->timers, t);
    return t;
}

static void timer_free(void *timer, void *opaque)
{
    User *u = opaque;
    u->timers = g_slist_remove(u->timers, timer);
    g_free(timer);
}

static void timer_mod(void *timer, int64_t milliseconds, void *opaque G_GNUC_UNUSED)
{
    ((Timer *)timer)->when = milliseconds * 1000;
}

/* All descriptors are named anew before each wait, and libslirp is only called by the thread that
 * waits, or just before it is woken. */
static void ignore_fd(int fd G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
}

static void notify(void *opaque G_GNUC_UNUSED)
{
}

static const SlirpCb callbacks = {
    .send_packet = send_packet,
    .guest_error = guest_error,
    .clock_get_ns = clock_get_ns,
    .timer_new = timer_new,
    .timer_free = timer_free,
    .timer_mod = timer_mod,
    .register_poll_fd = ignore_fd,
    .unregister_poll_fd = ignore_fd,
    .notify = notify,
};

/* ---- Waiting -------------------------------------------------------------------------------- */

static const struct {
    int slirp;
    short host;
} poll_bits[] = {
    {SLIRP_POLL_IN, POLLIN},   {SLIRP_POLL_OUT, POLLOUT}, {SLIRP_POLL_PRI, POLLPRI},
    {SLIRP_POLL_ERR, POLLERR}, {SLIRP_POLL_HUP, POLLHUP},
};

static int add_poll(int fd, int events, void *opaque)
{
    User *u = opaque;
    short host = 0;
    /* A guest that takes nothing: the host's data stay in the host's sockets. */
    if (!net_guest_ready(&u->net)) {
        events &= ~(SLIRP_POLL_IN | SLIRP_POLL_PRI);
    }
    if (!(events & (SLIRP_POLL_IN | SLIRP_POLL_PRI | SLIRP_POLL_OUT))) {
        return -1;
    }
    for (unsigned i = 0; i < ARRAY_LEN(poll_bits); i++) {
        host |= events & poll_bits[i].slirp ? poll_bits[i].host : 0;
    }
    return (int)net_poll_add(u->filling, fd, host);
}

static int get_events(int index, void *opaque)
{
    const User *u = opaque;
    int events = 0;
    if (index < 0) {
        return 0;
    }
    const short host = net_poll_ready(u->ready, (unsigned)index);
    for (unsigned i = 0; i < ARRAY_LEN(poll_bits); i++) {
        events |= host & poll_bits[i].host ? poll_bits[i].slirp : 0;
    }
    return events;
}

static void user_fill(Net *n, NetPoll *poll)
{
    User *u = (User *)n;
    uint32_t timeout = UINT32_MAX;
    g_mutex_lock(&slirp_lock);
    u->filling = poll;
    slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
    u->filling = NULL;
    g_mutex_unlock(&slirp_lock);
    if (timeout != UINT32_MAX) {
        net_poll_at(poll, g_get_monotonic_time() + (gint64)timeout * 1000);
    }
    for (const GSList *l = u->timers; l; l = l->next) {
        net_poll_at(poll, ((const Timer *)l->data)->when);
    }
}

static void run_timers(User *u)
{
    const gint64 now = g_get_monotonic_time();
    for (GSList *l = u->timers; l;) {
        Timer *t = l->data;
        l = l->next;
        if (t->when <= now) {
            t->when = G_MAXINT64;
            t->fn(t->opaque);
        }
    }
}

static void user_dispatch(Net *n, const NetPoll *poll)
{
    User *u = (User *)n;
    g_mutex_lock(&slirp_lock);
    u->ready = poll;
    slirp_pollfds_poll(u->slirp, 0, get_events, u);
    u->ready = NULL;
    run_timers(u);
    g_mutex_unlock(&slirp_lock);
}

/* ---- From the guest ------------------------------------------------------------------------- */

/* libslirp trusts a guest more than it deserves: fragments that overlap, urgent data, options and
 * datagrams whose lengths disagree have crashed versions of it that are in use. So it only gets
 * what passes here: plain ARP, and whole IP datagrams with TCP, UDP or ICMP that are what they say,
 * from addresses of this network. */

static unsigned get16(const u8 *p)
{
    return (unsigned)p[0] << 8 | p[1];
}

static bool in_network(const User *u, struct in_addr a)
{
    return (a.s_addr & u->mask.s_addr) == u->addr.s_addr;
}

static bool acceptable_udp(const User *u, const u8 *frame, const Packet *p)
{
    enum { PORT_TFTP = 69 };
    const u8 *udp = frame + p->l4;
    const unsigned n = p->end - p->l4;
    return n >= 8 && get16(udp + 4) >= 8 && get16(udp + 4) <= n &&
           (get16(udp + 2) != PORT_TFTP || u->tftp);
}

/* The sender's address is one that a guest may have, so that answers go to the guest. */
static bool acceptable_source(const User *u, const u8 *frame, const Packet *p)
{
    enum { PORT_DHCP = 67 };
    struct in_addr source;
    if (p->version == 6) {
        return frame[p->l3 + 8] != 0xff; /* multicast */
    }
    memcpy(&source, frame + p->l3 + 12, 4);
    if (!source.s_addr) {
        return p->protocol == IPPROTO_UDP && get16(frame + p->l4 + 2) == PORT_DHCP;
    }
    return in_network(u, source) && source.s_addr != u->addr.s_addr &&
           source.s_addr != (u->addr.s_addr | ~u->mask.s_addr) &&
           source.s_addr != u->host_addr.s_addr && source.s_addr != u->dns_addr.s_addr;
}

static bool acceptable(const User *u, const u8 *frame, const Packet *p)
{
    const unsigned n = p->end - p->l4, headers = p->version == 4 ? 20 : 40;
    const unsigned hops = frame[p->l3 + (p->version == 4 ? 8 : 7)];
    if (p->l3 != NET_HEADER || p->l4 != NET_HEADER + headers || !hops ||
        !acceptable_source(u, frame, p)) {
        return false;
    }
    switch (p->protocol) {
    case IPPROTO_TCP:
        return true; /* packet_parse has looked at its header */
    case IPPROTO_UDP:
        return acceptable_udp(u, frame, p);
    case IPPROTO_ICMP:
        return p->version == 4 && n >= 8;
    case IPPROTO_ICMPV6:
        return p->version == 6 && n >= 8;
    default:
        return false;
    }
}

static void input(User *u, u8 *frame, size_t len)
{
    g_mutex_lock(&slirp_lock);
    slirp_input(u->slirp, frame, (int)len);
    g_mutex_unlock(&slirp_lock);
}

static void input_piece(void *opaque, const u8 *frame, size_t len)
{
    input(opaque, (u8 *)frame, len);
}

static bool user_send(Net *n, const NetHdr *hdr G_GNUC_UNUSED, u8 *frame, size_t len)
{
    enum { ARP = 0x0806, ARP_SIZE = 28 };
    User *u = (User *)n;
    if (get16(frame + 12) == ARP) {
        if (len >= NET_HEADER + ARP_SIZE) {
            input(u, frame, len);
        }
        return true;
    }
    Packet p = packet_parse(frame, len);
    if (p.version == 4 && !p.protocol && p.l3 == NET_HEADER) {
        frame = fragments_add(u->fragments, frame, &p, &len);
        if (!frame) {
            return true;
        }
        p = packet_parse(frame, len);
    }
    if (!p.version || !acceptable(u, frame, &p)) {
        n->sent.dropped++;
        return true;
    }
    len = p.end;
    if (p.protocol == IPPROTO_TCP) {
        packet_clear_urgent(frame, &p);
        if (n->offloads & (p.version == 4 ? NET_OFFLOAD_TSO4 : NET_OFFLOAD_TSO6)) {
            packet_raise_mss(frame, len, p.version == 4 ? MSS_IPV4 : MSS_IPV6, MSS_RAISED);
        }
        if (p.version == 6 && len - NET_HEADER > SLIRP_MTU) {
            /* A large segment that libslirp finds too large by a few bytes. */
            const NetHdr halves = {.gso_type = NET_GSO_TCPV6, .gso_size = SLIRP_MTU / 2};
            if (packet_check(&halves, frame, len)) {
                packet_segment(&halves, frame, len, input_piece, u);
            }
            return true;
        }
    }
    input(u, frame, len);
    return true;
}

/* ---- For the user --------------------------------------------------------------------------- */

static void user_info(Net *n, GString *out)
{
    User *u = (User *)n;
    char net[INET_ADDRSTRLEN], mask[INET_ADDRSTRLEN];
    g_string_append_printf(out, "  net %s mask %s, restrict=%s\n",
                           inet_ntop(AF_INET, &u->addr, net, sizeof(net)),
                           inet_ntop(AF_INET, &u->mask, mask, sizeof(mask)),
                           u->restricted ? "on" : "off");
    g_mutex_lock(&slirp_lock);
    g_autofree char *connections = slirp_connection_info(u->slirp);
    g_mutex_unlock(&slirp_lock);
    g_auto(GStrv) lines = g_strsplit(connections, "\n", -1);
    for (unsigned i = 0; lines[i]; i++) {
        if (*lines[i]) {
            g_string_append_printf(out, "  %s\n", lines[i]);
        }
    }
}

/* ---- Forwarding ----------------------------------------------------------------------------- */

typedef struct Forward {
    bool udp;
    struct in_addr host, guest; /* zero: any, the guest's by DHCP */
    int host_port, guest_port;
} Forward;

/* "addr:port", either may be empty as allowed. */
static bool parse_end(const char *text, bool need_port, struct in_addr *addr, int *port)
{
    const char *colon = strrchr(text, ':');
    char *end;
    if (!colon || !g_ascii_isdigit(colon[1])) {
        return false;
    }
    const guint64 number = g_ascii_strtoull(colon + 1, &end, 10);
    g_autofree char *name = g_strndup(text, (gsize)(colon - text));
    addr->s_addr = 0;
    *port = (int)number;
    return !*end && number <= 65535 && (number || !need_port) &&
           (!*name || inet_pton(AF_INET, name, addr) == 1);
}

/* Takes "tcp:" or "udp:" or ":" off the text. */
static bool parse_protocol(const char **text, bool *udp)
{
    static const char *const prefixes[] = {"tcp:", "udp:", ":"};
    for (unsigned i = 0; i < ARRAY_LEN(prefixes); i++) {
        if (g_str_has_prefix(*text, prefixes[i])) {
            *text += strlen(prefixes[i]);
            *udp = i == 1;
            return true;
        }
    }
    return false;
}

static bool parse_hostfwd(const char *text, bool with_guest, Forward *f, GError **err)
{
    const char *at = text;
    bool ok = parse_protocol(&at, &f->udp);
    const char *dash = strchr(at, '-');
    if (ok && dash) {
        g_autofree char *host = g_strndup(at, (gsize)(dash - at));
        ok = parse_end(host, false, &f->host, &f->host_port) &&
             parse_end(dash + 1, true, &f->guest, &f->guest_port);
    } else {
        ok = ok && !with_guest && parse_end(at, false, &f->host, &f->host_port);
    }
    return ok || stag_error(err,
                            "hostfwd=%.80s: it takes [tcp|udp]:[HOSTADDR]:HOSTPORT-[GUESTADDR]:"
                            "GUESTPORT, such as tcp:127.0.0.1:2222-:22",
                            text);
}

/* libslirp listens with a backlog of one, which makes hosts that connect many times at once wait for
 * seconds. */
static int lengthen_backlog(int fd, int events G_GNUC_UNUSED, void *opaque G_GNUC_UNUSED)
{
    enum { BACKLOG = 1024 };
    int listens = 0;
    socklen_t size = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens) {
        listen(fd, BACKLOG);
    }
    return -1;
}

bool net_user_hostfwd(Net *n, const char *text, bool add, GError **err)
{
    User *u = (User *)n;
    Forward f;
    if (!parse_hostfwd(text, add, &f, err)) {
        return false;
    }
    g_mutex_lock(&slirp_lock);
    const int failed =
        add ? slirp_add_hostfwd(u->slirp, f.udp, f.host, f.host_port, f.guest, f.guest_port)
            : slirp_remove_hostfwd(u->slirp, f.udp, f.host, f.host_port);
    const int error = errno;
    if (!failed && add) {
        uint32_t timeout = 0;
        slirp_pollfds_fill(u->slirp, &timeout, lengthen_backlog, u);
    }
    g_mutex_unlock(&slirp_lock);
    if (failed && add) {
        return stag_error(err, "hostfwd=%.80s: cannot listen on the host's %s port %d: %s%s", text,
                          f.udp ? "UDP" : "TCP", f.host_port, strerror(error),
                          error == EADDRINUSE ? "; choose another port or end who uses it"
                          : error == EACCES   ? "; ports below 1024 are root's"
                                              : "");
    }
    return !failed || stag_error(err, "hostfwd=%.80s: there is no such forwarding", text);
}

static bool add_guestfwd(User *u, const char *text, GError **err)
{
    const char *at = text;
    const char *dash = strchr(text, '-');
    struct in_addr addr;
    bool udp;
    int port, failed;
    g_autofree char *server = dash ? g_strndup(text, (gsize)(dash - text)) : g_strdup("");
    at = server;
    if (!dash || !parse_protocol(&at, &udp) || udp || !parse_end(at, true, &addr, &port) ||
        !addr.s_addr) {
        return stag_error(err,
                          "guestfwd=%.80s: it takes [tcp]:ADDR:PORT-cmd:COMMAND or "
                          "[tcp]:ADDR:PORT-unix:PATH",
                          text);
    }
    dash++;
    g_mutex_lock(&slirp_lock);
    if (g_str_has_prefix(dash, "cmd:") && dash[4]) {
        failed = slirp_add_exec(u->slirp, dash + 4, &addr, port);
    } else if (g_str_has_prefix(dash, "unix:") && dash[5] &&
               strlen(dash + 5) < sizeof(((struct sockaddr_un *)0)->sun_path)) {
        failed = slirp_add_unix(u->slirp, dash + 5, &addr, port);
    } else {
        g_mutex_unlock(&slirp_lock);
        return stag_error(err,
                          "guestfwd=%.80s: what takes the connection is cmd:COMMAND or unix:PATH "
                          "(for a TCP port of the host: cmd:nc HOST PORT)",
                          text);
    }
    g_mutex_unlock(&slirp_lock);
    return !failed || stag_error(err,
                                 "guestfwd=%.80s: the address has to be in the network, other than "
                                 "the host's and the name server's, and the port free",
                                 text);
}

/* ---- Opening -------------------------------------------------------------------------------- */

static bool parse_ipv4(const char *key, const char *text, u32 standard, const User *u,
                       struct in_addr *out, GError **err)
{
    if (!text) {
        out->s_addr = u->addr.s_addr | (htonl(standard) & ~u->mask.s_addr);
    } else if (inet_pton(AF_INET, text, out) != 1) {
        return stag_error(err, "-netdev user: %s=%.40s: it takes an IPv4 address", key, text);
    }
    return in_network(u, *out) ||
           stag_error(err, "-netdev user: %s=%.40s: the address is outside of net=%s", key, text,
                      u->network);
}

static bool parse_network(User *u, GError **err)
{
    g_autofree char *text = g_strdup(u->network);
    char *slash = strchr(text, '/'), *end;
    u32 mask = 0xffffff00;
    bool ok = true;
    if (slash) {
        struct in_addr dotted;
        *slash++ = '\0';
        if (strchr(slash, '.')) {
            ok = inet_pton(AF_INET, slash, &dotted) == 1;
            mask = ntohl(dotted.s_addr);
            ok = ok && !(~mask & (~mask + 1));
        } else {
            const guint64 n = g_ascii_strtoull(slash, &end, 10);
            ok = g_ascii_isdigit(*slash) && !*end && n <= 32;
            mask = n && n <= 32 ? ~(u32)0 << (32 - n) : 0;
        }
    }
    ok = ok && inet_pton(AF_INET, text, &u->addr) == 1;
    u->mask.s_addr = htonl(mask);
    u->addr.s_addr &= u->mask.s_addr;
    return ok ? mask >= 0xff000000 && mask <= 0xfffffff0
                    ? true
                    : stag_error(err, "-netdev user: net=%.40s: it needs 8 to 28 bits of network",
                                 u->network)
              : stag_error(err, "-netdev user: net=%.40s: it takes ADDRESS/BITS, such as 10.0.2.0/24",
                           u->network);
}

/* As parse_ipv4; `standard` is the last byte. */
static bool parse_ipv6(const char *key, const char *text, u8 standard, const SlirpConfig *c,
                       struct in6_addr *out, GError **err)
{
    if (!text) {
        *out = c->vprefix_addr6;
        out->s6_addr[15] |= standard;
    } else if (inet_pton(AF_INET6, text, out) != 1) {
        return stag_error(err, "-netdev user: %s=%.60s: it takes an IPv6 address", key, text);
    }
    return true;
}

static bool parse_ipv6_network(const User *u, SlirpConfig *c, GError **err)
{
    g_autofree char *text = g_strdup(u->ipv6_network);
    char *slash = strchr(text, '/'), *end = NULL;
    guint64 n = 64;
    if (slash) {
        *slash++ = '\0';
        n = g_ascii_isdigit(*slash) ? g_ascii_strtoull(slash, &end, 10) : 0;
    }
    if (n < 1 || n > 126 || (end && *end) || inet_pton(AF_INET6, text, &c->vprefix_addr6) != 1) {
        return stag_error(err, "-netdev user: ipv6-net=%.60s: it takes ADDRESS/BITS, such as fec0::/64",
                          u->ipv6_network);
    }
    c->vprefix_len = (u8)n;
    return parse_ipv6("ipv6-host", u->ipv6_host, 2, c, &c->vhost6, err) &&
           parse_ipv6("ipv6-dns", u->ipv6_dns, 3, c, &c->vnameserver6, err);
}

static void slirp_log(const char *domain G_GNUC_UNUSED, GLogLevelFlags level G_GNUC_UNUSED,
                      const char *message, void *opaque G_GNUC_UNUSED)
{
    log_guest_error("libslirp: %s\n", message);
}

static bool check_texts(const User *u, GError **err)
{
    struct stat st;
    if (u->smb) {
        return stag_error(err, "-netdev user: smb=%.60s: Stag runs no SMB server; scp and sshfs work "
                               "through hostfwd", u->smb);
    }
    if (!u->ipv4 && !u->ipv6) {
        return stag_error(err, "-netdev user: ipv4=off and ipv6=off leave nothing");
    }
    if (u->hostname && strlen(u->hostname) > HOSTNAME_MAX) {
        return stag_error(err, "-netdev user: hostname=%.60s: at most %d characters", u->hostname,
                          HOSTNAME_MAX);
    }
    if (u->domainname && strlen(u->domainname) > 255) {
        return stag_error(err, "-netdev user: domainname=%.60s...: at most 255 characters",
                          u->domainname);
    }
    if (u->bootfile && strlen(u->bootfile) > 127) {
        return stag_error(err, "-netdev user: bootfile=%.60s...: at most 127 characters", u->bootfile);
    }
    if (u->tftp_server && strlen(u->tftp_server) > 255) {
        return stag_error(err, "-netdev user: tftp-server-name=%.60s...: at most 255 characters",
                          u->tftp_server);
    }
    if (u->tftp && (stat(u->tftp, &st) < 0 || !S_ISDIR(st.st_mode))) {
        return stag_error(err, "-netdev user: tftp=%.200s: there is no such folder", u->tftp);
    }
    return true;
}

static bool user_open(Net *n, GError **err)
{
    User *u = (User *)n;
    SlirpConfig c = {
        .version = 1,
        .restricted = u->restricted,
        .in_enabled = u->ipv4,
        .in6_enabled = u->ipv6,
        .vhostname = u->hostname,
        .tftp_server_name = u->tftp_server,
        .tftp_path = u->tftp,
        .bootfile = u->bootfile,
        .vdomainname = u->domainname,
        .if_mtu = SLIRP_MTU,
        .if_mru = SLIRP_MTU,
    };
    if (!check_texts(u, err) || !parse_network(u, err) || !parse_ipv6_network(u, &c, err) ||
        !parse_ipv4("host", u->host, 2, u, &u->host_addr, err) ||
        !parse_ipv4("dns", u->dns, 3, u, &u->dns_addr, err) ||
        !parse_ipv4("dhcpstart", u->dhcpstart, 15, u, &u->dhcp_addr, err)) {
        return false;
    }
    if (u->host_addr.s_addr == u->dns_addr.s_addr || u->host_addr.s_addr == u->dhcp_addr.s_addr ||
        u->dns_addr.s_addr == u->dhcp_addr.s_addr) {
        return stag_error(err, "-netdev user: host, dns and dhcpstart need three different addresses");
    }
    c.vnetwork = u->addr;
    c.vnetmask = u->mask;
    c.vhost = u->host_addr;
    c.vnameserver = u->dns_addr;
    c.vdhcp_start = u->dhcp_addr;
    g_ptr_array_add(u->dnssearch, NULL);
    c.vdnssearch = u->dnssearch->len > 1 ? (const char **)u->dnssearch->pdata : NULL;

    u->fragments = fragments_new();
    n->can = NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN;
    g_mutex_lock(&slirp_lock);
    static guint log_handler;
    if (!log_handler) {
        log_handler = g_log_set_handler("Slirp", G_LOG_LEVEL_MASK, slirp_log, NULL);
    }
    u->slirp = slirp_new(&c, &callbacks, u);
    g_mutex_unlock(&slirp_lock);
    if (!u->slirp) {
        return stag_error(err, "-netdev user: libslirp refuses this configuration");
    }
    bool ok = true;
    for (unsigned i = 0; i < u->hostfwd->len && ok; i++) {
        ok = net_user_hostfwd(n, u->hostfwd->pdata[i], true, err);
    }
    for (unsigned i = 0; i < u->guestfwd->len && ok; i++) {
        ok = add_guestfwd(u, u->guestfwd->pdata[i], err);
    }
    if (!ok) {
        g_prefix_error(err, "-netdev user: ");
    }
    return ok;
}

static void user_close(Net *n)
{
    User *u = (User *)n;
    if (u->slirp) {
        g_mutex_lock(&slirp_lock);
        slirp_cleanup(u->slirp);
        g_mutex_unlock(&slirp_lock);
    }
    fragments_free(u->fragments);
    g_slist_free_full(u->timers, g_free);
}

const NetKind net_user = {
    .name = "user",
    .help = "a network inside of Stag, by libslirp; needs no privileges",
    .props = user_props,
    .prop_count = ARRAY_LEN(user_props),
    .size = sizeof(User),
    .open = user_open,
    .close = user_close,
    .fill = user_fill,
    .dispatch = user_dispatch,
    .send = user_send,
    .info = user_info,
};
