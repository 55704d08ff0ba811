/*
 * -netdev tap: a network interface of the host, whose other end is the guest's card. What the
 * guest sends arrives at the interface, and what the host routes or bridges to it goes to the
 * guest. With vnet_hdr the kernel takes and gives large segments and frames without checksums
 * (Linux: Documentation/networking/tuntap.rst, linux/if_tun.h).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/error.h"
#include "devices/net/kind.h"

enum { FRAMES = 64 }; /* read in a row before the guest's frames get a turn */

typedef struct Tap {
    Net net;
    /* Properties. */
    char *ifname, *script, *downscript, *fd_text;
    bool want_vnet_hdr, vhost;
    u64 queues;

    bool is_open, up_done;
    bool gone; /* somebody has deleted the interface */
    int fd;
    bool vnet_hdr;
    char name[IFNAMSIZ];
    unsigned index; /* in the poll */
    u8 buffer[NET_FRAME_MAX];
} Tap;

#define AT(field) offsetof(Tap, field)

static const PropDesc tap_props[] = {
    NET_PROP_ID,
    {"ifname", PROP_STRING, AT(ifname), NULL,
     "the interface; made if there is none (default: tap0, tap1, ...)"},
    {"fd", PROP_STRING, AT(fd_text), NULL, "an open descriptor of /dev/net/tun, instead of ifname"},
    {"vnet_hdr", PROP_BOOL, AT(want_vnet_hdr), "on",
     "let the kernel do checksums and segmentation"},
    {"script", PROP_STRING, AT(script), "no", "a program to run with the interface's name at start"},
    {"downscript", PROP_STRING, AT(downscript), "no", "the same at the end"},
    {"vhost", PROP_BOOL, AT(vhost), "off", "only off: Stag has no vhost"},
    {"queues", PROP_UINT, AT(queues), "1", "only 1", .min = 1, .max = 1},
};

static bool run_script(const char *script, const char *name, GError **err)
{
    const char *const argv[] = {script, name, NULL};
    int status;
    g_autoptr(GError) failed = NULL;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_CHILD_INHERITS_STDIN, NULL, NULL, NULL,
                      NULL, &status, &failed)) {
        return stag_error(err, "-netdev tap: cannot run %s: %s", script, failed->message);
    }
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
           stag_error(err, "-netdev tap: %s %s failed", script, name);
}

static bool has_script(const char *script)
{
    return script && *script && !g_str_equal(script, "no");
}

static bool open_interface(Tap *t, GError **err)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    unsigned features = 0;
    if (t->ifname && (strlen(t->ifname) >= IFNAMSIZ || strchr(t->ifname, '%'))) {
        return stag_error(err, "-netdev tap: ifname=%.40s: names have up to %d characters, no %%",
                          t->ifname, IFNAMSIZ - 1);
    }
    t->fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
    t->is_open = t->fd >= 0;
    if (!t->is_open) {
        return stag_error(err, "-netdev tap: cannot open /dev/net/tun: %s%s", strerror(errno),
                          errno == ENOENT ? "; 'modprobe tun' may help" : "");
    }
    if (t->want_vnet_hdr && ioctl(t->fd, TUNGETFEATURES, &features) == 0 &&
        (features & IFF_VNET_HDR)) {
        request.ifr_flags |= IFF_VNET_HDR;
    }
    g_strlcpy(request.ifr_name, t->ifname ? t->ifname : "tap%d", IFNAMSIZ);
    if (ioctl(t->fd, TUNSETIFF, &request) < 0) {
        const int error = errno;
        return stag_error(
            err, "-netdev tap: cannot use the interface '%s': %s%s",
            t->ifname ? t->ifname : "tap", strerror(error),
            error == EPERM
                ? "; as root, make it yours: ip tuntap add NAME mode tap user YOU, and give ifname=NAME"
            : error == EBUSY ? "; somebody else has it open"
                             : "");
    }
    g_strlcpy(t->name, request.ifr_name, IFNAMSIZ);
    t->vnet_hdr = request.ifr_flags & IFF_VNET_HDR;
    return true;
}

/* A descriptor that somebody has opened for us, say macvtap's or a helper's. */
static bool take_fd(Tap *t, GError **err)
{
    char *end;
    const guint64 number = g_ascii_strtoull(t->fd_text, &end, 10);
    struct ifreq request = {0};
    if (!g_ascii_isdigit(*t->fd_text) || *end || number > G_MAXINT) {
        return stag_error(err, "-netdev tap: fd=%.40s: it takes the number of a descriptor",
                          t->fd_text);
    }
    t->fd = (int)number;
    if (ioctl(t->fd, TUNGETIFF, &request) < 0) {
        return stag_error(err, "-netdev tap: fd=%s is no descriptor of a tap interface: %s",
                          t->fd_text, strerror(errno));
    }
    t->is_open = true;
    if (!(request.ifr_flags & IFF_TAP) || !(request.ifr_flags & IFF_NO_PI)) {
        return stag_error(err, "-netdev tap: fd=%s has to be made with IFF_TAP and IFF_NO_PI",
                          t->fd_text);
    }
    fcntl(t->fd, F_SETFL, O_NONBLOCK);
    fcntl(t->fd, F_SETFD, FD_CLOEXEC);
    g_strlcpy(t->name, request.ifr_name, IFNAMSIZ);
    t->vnet_hdr = request.ifr_flags & IFF_VNET_HDR;
    return true;
}

static bool tap_open(Net *n, GError **err)
{
    Tap *t = (Tap *)n;
    if (t->vhost) {
        return stag_error(err, "-netdev tap: Stag has no vhost; leave out vhost=on");
    }
    if (t->fd_text && (t->ifname || has_script(t->script) || has_script(t->downscript))) {
        return stag_error(err, "-netdev tap: fd= goes without ifname=, script= and downscript=");
    }
    if (!(t->fd_text ? take_fd(t, err) : open_interface(t, err))) {
        return false;
    }
    if (t->vnet_hdr) {
        int size = sizeof(NetHdr);
        if (ioctl(t->fd, TUNSETVNETHDRSZ, &size) < 0) {
            return stag_error(err, "-netdev tap: the kernel refuses the header's size: %s",
                              strerror(errno));
        }
        n->can = NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN;
        ioctl(t->fd, TUNSETOFFLOAD, 0);
    }
    t->up_done = true;
    return !has_script(t->script) || run_script(t->script, t->name, err);
}

static void tap_close(Net *n)
{
    Tap *t = (Tap *)n;
    if (t->up_done && has_script(t->downscript)) {
        g_autoptr(GError) err = NULL;
        if (!run_script(t->downscript, t->name, &err)) {
            fprintf(stderr, "stag: %s\n", err->message);
        }
    }
    if (t->is_open) {
        close(t->fd);
    }
}

static void tap_offloads_changed(Net *n)
{
    static const struct {
        unsigned net, tun;
    } bits[] = {
        {NET_OFFLOAD_CSUM, TUN_F_CSUM},
        {NET_OFFLOAD_TSO4, TUN_F_TSO4},
        {NET_OFFLOAD_TSO6, TUN_F_TSO6},
        {NET_OFFLOAD_ECN, TUN_F_TSO_ECN},
    };
    Tap *t = (Tap *)n;
    unsigned long offloads = 0;
    for (unsigned i = 0; i < ARRAY_LEN(bits); i++) {
        offloads |= n->offloads & bits[i].net ? bits[i].tun : 0;
    }
    if (t->vnet_hdr) {
        ioctl(t->fd, TUNSETOFFLOAD, offloads); /* refused: frames come whole and with checksums */
    }
}

static void tap_fill(Net *n, NetPoll *poll)
{
    Tap *t = (Tap *)n;
    t->index = net_poll_add(poll, t->gone ? -1 : t->fd,
                            (short)((net_guest_ready(n) ? POLLIN : 0) | (n->blocked ? POLLOUT : 0)));
}

static void tap_dispatch(Net *n, const NetPoll *poll)
{
    Tap *t = (Tap *)n;
    if (!(net_poll_ready(poll, t->index) & (POLLIN | POLLERR))) {
        return;
    }
    for (unsigned i = 0; i < FRAMES && net_guest_ready(n); i++) {
        NetHdr hdr = {0};
        struct iovec iov[] = {{&hdr, sizeof(hdr)}, {t->buffer, sizeof(t->buffer)}};
        const unsigned skip = t->vnet_hdr ? 0 : 1;
        const ssize_t got = readv(t->fd, iov + skip, (int)(2 - skip));
        const ssize_t header = t->vnet_hdr ? (ssize_t)sizeof(hdr) : 0;
        if (got < header) {
            t->gone = got < 0 && errno == EBADFD;
            break;
        }
        net_deliver(n, &hdr, t->buffer, (size_t)(got - header));
    }
}

static bool tap_send(Net *n, const NetHdr *hdr, u8 *frame, size_t len)
{
    Tap *t = (Tap *)n;
    const struct iovec iov[] = {{(void *)hdr, sizeof(*hdr)}, {frame, len}};
    const unsigned skip = t->vnet_hdr ? 0 : 1;
    ssize_t done;
    do {
        done = writev(t->fd, iov + skip, (int)(2 - skip));
    } while (done < 0 && errno == EINTR);
    /* The queue is full: wait. An interface that is down or a header that the kernel does not like
     * loses the frame. */
    return done >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

static void tap_info(Net *n, GString *out)
{
    const Tap *t = (const Tap *)n;
    g_string_append_printf(out, "  interface %s%s, vnet_hdr=%s\n", t->name,
                           t->gone ? " (deleted)" : "", t->vnet_hdr ? "on" : "off");
}

const NetKind net_tap = {
    .name = "tap",
    .help = "a network interface of the host",
    .props = tap_props,
    .prop_count = ARRAY_LEN(tap_props),
    .size = sizeof(Tap),
    .open = tap_open,
    .close = tap_close,
    .fill = tap_fill,
    .dispatch = tap_dispatch,
    .send = tap_send,
    .offloads_changed = tap_offloads_changed,
    .info = tap_info,
};
