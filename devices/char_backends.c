/* What a character device's line can be connected to: a table of backends with their properties,
 * and how each is opened. See char.h. */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include "core/base/error.h"
#include "devices/char.h"
#include "devices/char_line.h"
#include "devices/props.h"

enum { PTY_POLL_MS = 200, LISTEN_BACKLOG = 4 };

typedef struct CharConfig {
    char *id, *path, *host, *port;
    bool mux, server, wait, nodelay, signal, append;
} CharConfig;

typedef struct Backend {
    const char *name, *help;
    const PropDesc *props; /* beyond those that all have */
    unsigned prop_count;
    bool (*check)(const CharConfig *config, GError **err); /* NULL: always right */
    CharDev *(*open)(const CharConfig *config, const char *label, const char *about,
                     const CharEscapes *escapes, GError **err);
} Backend;

#define AT(member) offsetof(CharConfig, member)

/* ---- Terminal, nothing, files --------------------------------------------------------------- */

static const PropDesc stdio_props[] = {
    {"signal", PROP_BOOL, AT(signal), "on", "Ctrl-C and Ctrl-Z act on Stag (never with mux=on)"},
};

static CharDev *open_stdio(const CharConfig *config, const char *label,
                           const char *about G_GNUC_UNUSED, const CharEscapes *escapes,
                           GError **err)
{
    if (line_stdio_taken()) {
        stag_error(err, "the terminal (stdio) is taken twice; give one of the two another line, "
                        "or let them share it with mux=on");
        return NULL;
    }
    CharDev *c = char_new_fds(STDIN_FILENO, STDOUT_FILENO, escapes, config->signal && !escapes);
    g_free(c->line->label);
    c->line->label = g_strdup(label);
    return c;
}

static CharDev *open_null(const CharConfig *config G_GNUC_UNUSED, const char *label,
                          const char *about, const CharEscapes *escapes,
                          GError **err G_GNUC_UNUSED)
{
    Line *l = line_new(label, about, escapes);
    line_connect(l, -1, -1, false);
    return l->ends[0];
}

static const PropDesc file_props[] = {
    {"path", PROP_STRING, AT(path), NULL, "the file"},
    {"append", PROP_BOOL, AT(append), "off", "keep what is in it"},
};

static bool check_file(const CharConfig *config, GError **err)
{
    return (config->path && config->path[0]) ||
           stag_error(err, "a character device that is a file needs its path");
}

static CharDev *open_file(const CharConfig *config, const char *label, const char *about,
                          const CharEscapes *escapes, GError **err)
{
    int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (config->append ? O_APPEND : O_TRUNC);
    int fd = open(config->path, flags, 0666);
    if (fd < 0) {
        stag_error(err, "cannot write the serial output to '%s': %s", config->path,
                   strerror(errno));
        return NULL;
    }
    Line *l = line_new(label, about, escapes);
    line_connect(l, -1, fd, false);
    return l->ends[0];
}

/* ---- Pseudo-terminals ------------------------------------------------------------------------- */

/* There is no word when a program opens the other side: the master is asked from time to time. */
static gboolean look_for_program(gpointer opaque)
{
    Line *l = opaque;
    struct pollfd p = {.fd = l->listener, .events = POLLOUT};
    if (poll(&p, 1, 0) < 0 || p.revents & POLLHUP) {
        return G_SOURCE_CONTINUE;
    }
    l->timer = 0;
    int fd = fcntl(l->listener, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) {
        line_connect(l, fd, fd, true);
    }
    return G_SOURCE_REMOVE;
}

static void pty_lost(Line *l)
{
    l->timer = g_timeout_add(PTY_POLL_MS, look_for_program, l);
}

static void clear_fds(Line *l)
{
    if (l->listener >= 0) {
        close(l->listener);
        l->listener = -1;
    }
    if (l->unlink) {
        unlink(l->unlink);
        g_clear_pointer(&l->unlink, g_free);
    }
}

static CharDev *open_pty(const CharConfig *config G_GNUC_UNUSED, const char *label,
                         const char *about G_GNUC_UNUSED, const CharEscapes *escapes, GError **err)
{
    char name[128];
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    int slave = -1;
    if (fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0 &&
        ptsname_r(fd, name, sizeof(name)) == 0) {
        slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    }
    if (slave < 0) {
        stag_error(err, "the host gives no pseudo-terminal: %s", strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    /* Raw, so that nothing is echoed before a program has set it up. From this close on the master
     * reports whether somebody has the other side open. */
    struct termios raw;
    tcgetattr(slave, &raw);
    cfmakeraw(&raw);
    tcsetattr(slave, TCSANOW, &raw);
    close(slave);
    fprintf(stderr, "char device redirected to %s (label %s)\n", name, label);

    g_autofree char *where = g_strdup_printf("pty %s", name);
    Line *l = line_new(label, where, escapes);
    l->comes_goes = true;
    l->listener = fd;
    l->lost = pty_lost;
    l->clear = clear_fds;
    pty_lost(l);
    return l->ends[0];
}

/* ---- Sockets ---------------------------------------------------------------------------------- */

static const PropDesc socket_props[] = {
    {"path", PROP_STRING, AT(path), NULL, "of a Unix socket"},
    {"host", PROP_STRING, AT(host), NULL, "name or address for TCP"},
    {"port", PROP_STRING, AT(port), NULL, "TCP port"},
    {"server", PROP_BOOL, AT(server), "off", "wait for clients, one at a time"},
    {"wait", PROP_BOOL, AT(wait), "on", "a server: start the guest when the first has come"},
    {"nodelay", PROP_BOOL, AT(nodelay), "on", "TCP: send small packets at once"},
};

static bool check_socket(const CharConfig *config, GError **err)
{
    if (config->path ? config->host || config->port : !config->port) {
        return stag_error(err, "a socket takes either path= or host= and port=");
    }
    if (config->path && strlen(config->path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
        return stag_error(err, "the path of a Unix socket may have up to %zu characters",
                          sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    }
    if (config->port && strspn(config->port, "0123456789") == strlen(config->port) &&
        g_ascii_strtoull(config->port, NULL, 10) > 65535) {
        return stag_error(err, "%s is no TCP port: they go up to 65535", config->port);
    }
    return !config->path || config->path[0] || stag_error(err, "a Unix socket needs its path");
}

/* Binds or connects a new socket to one address; -1 with errno. */
static int try_address(const CharConfig *config, int family, const struct sockaddr *address,
                       socklen_t length)
{
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    const int yes = 1;
    bool ok;
    if (config->server) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        ok = bind(fd, address, length) == 0 && listen(fd, LISTEN_BACKLOG) == 0;
    } else {
        ok = connect(fd, address, length) == 0;
    }
    if (!ok) {
        int error = errno;
        close(fd);
        errno = error;
        return -1;
    }
    return fd;
}

static int open_unix(const CharConfig *config)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, config->path); /* its length was checked */
    const struct sockaddr *a = (const struct sockaddr *)&address;
    struct stat st;
    int fd = try_address(config, AF_UNIX, a, sizeof(address));
    if (fd < 0 && config->server && errno == EADDRINUSE && stat(config->path, &st) == 0 &&
        S_ISSOCK(st.st_mode)) {
        /* What an earlier process has left goes; a server that lives stays. */
        const CharConfig client = {0};
        int other = try_address(&client, AF_UNIX, a, sizeof(address));
        if (other >= 0) {
            close(other);
            errno = EADDRINUSE;
            return -1;
        }
        unlink(config->path);
        fd = try_address(config, AF_UNIX, a, sizeof(address));
    }
    return fd;
}

static int open_tcp(const CharConfig *config, GError **err)
{
    const struct addrinfo hints = {
        .ai_socktype = SOCK_STREAM,
        .ai_flags = config->server ? AI_PASSIVE : 0,
    };
    struct addrinfo *list;
    const char *host = config->host && config->host[0] ? config->host : NULL;
    int error = getaddrinfo(host, config->port, &hints, &list);
    if (error) {
        stag_error(err, "there is no address %s port %s: %s", host ? host : "(any)", config->port,
                   gai_strerror(error));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = try_address(config, a->ai_family, a->ai_addr, a->ai_addrlen);
    }
    int saved = errno;
    freeaddrinfo(list);
    errno = saved;
    return fd;
}

static gboolean on_client(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer opaque)
{
    Line *l = opaque;
    int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (client < 0) {
        return G_SOURCE_CONTINUE;
    }
    const int yes = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes)); /* fails on Unix sockets */
    l->listen_watch = 0; /* one at a time: the others wait in the backlog */
    line_connect(l, client, client, true);
    return G_SOURCE_REMOVE;
}

static void server_lost(Line *l)
{
    l->listen_watch = g_unix_fd_add(l->listener, G_IO_IN, on_client, l);
}

static CharDev *open_socket(const CharConfig *config, const char *label, const char *about,
                            const CharEscapes *escapes, GError **err)
{
    GError *problem = NULL;
    int fd = config->path ? open_unix(config) : open_tcp(config, &problem);
    if (fd < 0) {
        if (problem) {
            g_propagate_error(err, problem);
        } else {
            stag_error(err, "%s: cannot %s: %s", about, config->server ? "listen" : "connect",
                       strerror(errno));
        }
        return NULL;
    }
    Line *l = line_new(label, about, escapes);
    l->comes_goes = true;
    if (!config->server) {
        const int on = config->nodelay;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        line_connect(l, fd, fd, true);
        return l->ends[0];
    }
    l->listener = fd;
    l->unlink = g_strdup(config->path);
    l->lost = server_lost;
    l->clear = clear_fds;
    if (config->wait) {
        fprintf(stderr, "stag: %s waits for a client on %s\n", label, about);
        on_client(fd, G_IO_IN, l);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (!char_is_open(l->ends[0])) {
        server_lost(l);
    }
    return l->ends[0];
}

/* ---- The table ---------------------------------------------------------------------------------- */

static const PropDesc common_props[] = {
    {"id", PROP_STRING, AT(id), NULL, "the name by which others refer to it"},
    {"mux", PROP_BOOL, AT(mux), "off", "several users share it; Ctrl-A c goes to the next"},
};

static const Backend backends[] = {
    {"stdio", "the terminal that Stag runs in", stdio_props, ARRAY_LEN(stdio_props), NULL,
     open_stdio},
    {"null", "nothing: output is dropped", NULL, 0, NULL, open_null},
    {"file", "output to a file", file_props, ARRAY_LEN(file_props), check_file, open_file},
    {"pty", "a new pseudo-terminal", NULL, 0, NULL, open_pty},
    {"socket", "a Unix or TCP socket", socket_props, ARRAY_LEN(socket_props), check_socket,
     open_socket},
};

enum { MAX_PROPS = 10 };

/* All properties of a backend. */
static unsigned backend_props(const Backend *b, PropDesc props[MAX_PROPS])
{
    unsigned n = 0;
    for (unsigned i = 0; i < ARRAY_LEN(common_props); i++) {
        props[n++] = common_props[i];
    }
    for (unsigned i = 0; i < b->prop_count; i++) {
        props[n++] = b->props[i];
    }
    return n;
}

void char_print_backends(FILE *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(backends); i++) {
        PropDesc props[MAX_PROPS];
        fprintf(out, "%-8s%s\n", backends[i].name, backends[i].help);
        props_print(props, backend_props(&backends[i], props), out);
    }
}

static void config_clear(CharConfig *config)
{
    g_free(config->id);
    g_free(config->path);
    g_free(config->host);
    g_free(config->port);
}

/* QEMU's old words without a value: nowait is wait=off. */
static char *modern_words(const char *text)
{
    GString *out = g_string_new(NULL);
    while (*text) {
        g_autofree char *item = props_head(text, &text);
        g_auto(GStrv) commas = g_strsplit(item, ",", -1);
        g_autofree char *doubled = g_strjoinv(",,", commas);
        g_string_append_printf(out, "%s%s", out->len ? "," : "",
                               strcmp(item, "nowait") == 0    ? "wait=off"
                               : strcmp(item, "nodelay") == 0 ? "nodelay=on"
                                                              : doubled);
    }
    return g_string_free(out, FALSE);
}

static const Backend *parse(const char *backend, const char *what, const char *text,
                            CharConfig *config, GError **err)
{
    *config = (CharConfig){0};
    for (unsigned i = 0; i < ARRAY_LEN(backends); i++) {
        if (strcmp(backends[i].name, backend) == 0) {
            PropDesc props[MAX_PROPS];
            unsigned count = backend_props(&backends[i], props);
            g_autofree char *modern = modern_words(text);
            return props_parse(props, count, what, modern, config, err) ? &backends[i] : NULL;
        }
    }
    stag_error(err, "there is no character device '%.60s'; there are stdio, null, file, pty, socket",
               backend);
    return NULL;
}

/* "HOST:PORT", where the host may be in brackets. */
static bool split_address(const char *address, CharConfig *config, GError **err)
{
    const char *colon = strrchr(address, ':');
    if (!colon || !colon[1]) {
        return stag_error(err, "tcp:%s: give it as tcp:HOST:PORT", address);
    }
    bool brackets = address[0] == '[' && colon > address + 1 && colon[-1] == ']';
    config->host = brackets ? g_strndup(address + 1, (gsize)(colon - address) - 2)
                            : g_strndup(address, (gsize)(colon - address));
    config->port = g_strdup(colon + 1);
    return true;
}

/* The short form, without "mon:". */
static const Backend *parse_spec(const char *spec, CharConfig *config, GError **err)
{
    const char *rest;
    const Backend *b = NULL;
    if (strcmp(spec, "stdio") == 0 || strcmp(spec, "pty") == 0 || strcmp(spec, "null") == 0) {
        b = parse(spec, spec, "", config, err);
    } else if (strcmp(spec, "none") == 0) {
        b = parse("null", spec, "", config, err);
    } else if (g_str_has_prefix(spec, "file:")) {
        b = parse("file", spec, "", config, err);
        config->path = g_strdup(spec + strlen("file:"));
    } else if (g_str_has_prefix(spec, "unix:")) {
        g_autofree char *path = props_head(spec + strlen("unix:"), &rest);
        b = parse("socket", "unix:", rest, config, err);
        if (b) {
            g_free(config->path);
            config->path = g_steal_pointer(&path);
        }
    } else if (g_str_has_prefix(spec, "tcp:")) {
        g_autofree char *address = props_head(spec + strlen("tcp:"), &rest);
        b = parse("socket", "tcp:", rest, config, err);
        if (b) {
            g_clear_pointer(&config->host, g_free);
            g_clear_pointer(&config->port, g_free);
            b = split_address(address, config, err) ? b : NULL;
        }
    } else {
        stag_error(err,
                   "there is no character device '%.60s'; use stdio, mon:stdio, null, file:PATH, "
                   "pty, unix:PATH or tcp:HOST:PORT",
                   spec);
    }
    return b;
}

static const Backend *parse_chardev(const char *text, CharConfig *config, GError **err)
{
    const char *rest;
    g_autofree char *backend = props_head(text, &rest);
    g_autofree char *what = g_strdup_printf("-chardev %.60s", backend);
    const Backend *b = parse(backend, what, rest, config, err);
    if (b && (!config->id || !config->id[0])) {
        stag_error(err, "-chardev %.60s: it needs a name, id=NAME", backend);
        return NULL;
    }
    return b;
}

static CharDev *open_backend(const Backend *b, CharConfig *config, const char *label,
                             const char *about, const CharEscapes *escapes, GError **err)
{
    static const CharEscapes none;
    CharDev *c = NULL;
    if (b && (!b->check || b->check(config, err))) {
        escapes = config->mux ? (escapes ? escapes : &none) : NULL;
        c = b->open(config, label, about, escapes, err);
    }
    return c;
}

/* Without the "mon:" in front. */
static const char *strip_mon(const char *spec, bool *mux)
{
    *mux = g_str_has_prefix(spec, "mon:");
    return *mux ? spec + strlen("mon:") : spec;
}

CharDev *char_new(const char *spec, const char *label, const CharEscapes *escapes, GError **err)
{
    CharConfig config = {0};
    bool mux;
    const char *bare = strip_mon(spec, &mux);
    const Backend *b = parse_spec(bare, &config, err);
    config.mux |= mux;
    CharDev *c = open_backend(b, &config, label, bare, escapes, err);
    config_clear(&config);
    return c;
}

CharDev *char_new_chardev(const char *text, const CharEscapes *escapes, GError **err)
{
    CharConfig config = {0};
    const Backend *b = parse_chardev(text, &config, err);
    g_autofree char *label = g_strdup(config.id);
    g_autofree char *about =
        !b            ? NULL
        : config.path ? g_strdup_printf("%s:%s%s", strcmp(b->name, "socket") ? b->name : "unix",
                                        config.path, config.server ? ",server=on" : "")
        : config.port ? g_strdup_printf("tcp:%s:%s%s", config.host ? config.host : "", config.port,
                                        config.server ? ",server=on" : "")
                      : g_strdup(b->name);
    CharDev *c = open_backend(b, &config, label, about, escapes, err);
    config_clear(&config);
    return c;
}

bool char_check(const char *spec, GError **err)
{
    CharConfig config = {0};
    bool mux;
    const Backend *b = parse_spec(strip_mon(spec, &mux), &config, err);
    bool ok = b && (!b->check || b->check(&config, err));
    config_clear(&config);
    return ok;
}

bool char_check_chardev(const char *text, GError **err)
{
    CharConfig config = {0};
    const Backend *b = parse_chardev(text, &config, err);
    bool ok = b && (!b->check || b->check(&config, err));
    config_clear(&config);
    return ok;
}
