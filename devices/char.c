/* Lines and the character devices on them: two kinds of rings, a writer thread, the escape keys.
 * See char.h; what a line is connected to is the business of char_backends.c. */
#include "devices/char.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/thread.h"
#include "devices/char_line.h"
#include "devices/terminal.h"

enum {
    ESCAPE_KEY = 1, /* Ctrl-A */
    FLUSH_SECONDS = 1,
    WRITE_AT_ONCE = 16 << 10, /* so that a slow reader is seen to read */
    DRAIN_POLL_MS = 10,
    EVENT_ROOM = 4, /* of the input, kept free for events */
};

/* ---- Everything that is open, for exit ------------------------------------------------------ */

static GMutex open_lock;
static GSList *open_list; /* Lines */

static void line_flush(Line *l);

static void at_exit(void)
{
    g_mutex_lock(&open_lock);
    for (GSList *i = open_list; i; i = i->next) {
        line_flush(i->data);
    }
    g_mutex_unlock(&open_lock);
    console_restore();
}

static void remember(Line *l)
{
    static bool registered;
    g_mutex_lock(&open_lock);
    if (!registered) {
        registered = true;
        atexit(at_exit);
    }
    open_list = g_slist_prepend(open_list, l);
    g_mutex_unlock(&open_lock);
}

static void forget(Line *l)
{
    g_mutex_lock(&open_lock);
    open_list = g_slist_remove(open_list, l);
    g_mutex_unlock(&open_lock);
}

bool line_stdio_taken(void)
{
    bool taken = false;
    g_mutex_lock(&open_lock);
    for (GSList *i = open_list; i; i = i->next) {
        taken |= ((Line *)i->data)->is_stdio;
    }
    g_mutex_unlock(&open_lock);
    return taken;
}

/* ---- Output --------------------------------------------------------------------------------- */

static void notify(CharDev *c)
{
    g_mutex_lock(&c->notify_lock);
    if (c->notify) {
        c->notify(c->opaque);
    }
    g_mutex_unlock(&c->notify_lock);
}

/* Ends are only ever added, and live as long as the line. */
static unsigned end_count(Line *l)
{
    g_mutex_lock(&l->lock);
    unsigned n = l->end_count;
    g_mutex_unlock(&l->lock);
    return n;
}

static void notify_all(Line *l)
{
    for (unsigned i = 0, n = end_count(l); i < n; i++) {
        notify(l->ends[i]);
    }
}

static void drop_owner(Line *l)
{
    g_mutex_lock(&l->lock);
    bool last = --l->owners == 0;
    g_mutex_unlock(&l->lock);
    if (last) {
        if (l->out >= 0) {
            close(l->out);
        }
        if (l->in >= 0 && l->owns_in && l->in != l->out) {
            close(l->in);
        }
        for (unsigned i = 0; i < l->end_count; i++) {
            g_mutex_clear(&l->ends[i]->notify_lock);
            g_free(l->ends[i]);
        }
        g_mutex_clear(&l->lock);
        g_cond_clear(&l->written);
        g_cond_clear(&l->filled);
        g_free(l->label);
        g_free(l->about);
        g_free(l);
    }
}

/* write() that outlives interruptions and descriptors that somebody made non-blocking. */
static ssize_t write_some(int fd, const u8 *data, size_t n)
{
    for (;;) {
        ssize_t done = write(fd, data, n);
        if (done >= 0) {
            return done;
        }
        if (errno == EAGAIN) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return -1;
        }
    }
}

static gboolean gone(gpointer opaque);

static gpointer writer(gpointer opaque)
{
    Line *l = opaque;
    g_mutex_lock(&l->lock);
    for (;;) {
        while (!l->output_count && !l->closing) {
            g_cond_wait(&l->filled, &l->lock);
        }
        if (!l->output_count) {
            break;
        }
        /* The bytes stay in the ring while they are written, so nobody else touches them, and the
         * descriptor stays open. */
        size_t n = MIN(MIN(l->output_count, CHAR_OUTPUT_SIZE - l->output_head), WRITE_AT_ONCE);
        int fd = l->out;
        bool gone_already = l->dead || fd < 0;
        l->writing = true;
        g_mutex_unlock(&l->lock);
        ssize_t done = gone_already ? -1 : write_some(fd, l->output + l->output_head, n);
        const int error = errno;
        g_mutex_lock(&l->lock);
        l->writing = false;
        if (done < 0) {
            if (!gone_already && l->comes_goes && l->open && !l->timer && !l->closing) {
                l->timer = g_timeout_add(0, gone, l);
            } else if (!gone_already && !l->comes_goes) {
                fprintf(stderr, "stag: %s: %s; what the guest writes there from now on is lost\n",
                        l->label, strerror(error));
            }
            l->dead = true;
            done = (ssize_t)l->output_count;
        }
        l->output_head = (l->output_head + (size_t)done) % CHAR_OUTPUT_SIZE;
        l->output_count -= (size_t)done;
        l->output_total += (size_t)done;
        g_cond_broadcast(&l->written);
        bool room = l->output_count <= CHAR_OUTPUT_SIZE / 2;
        for (unsigned i = 0; room && i < l->end_count; i++) {
            if (l->ends[i]->refused) {
                l->ends[i]->refused = false;
                g_mutex_unlock(&l->lock);
                notify(l->ends[i]);
                g_mutex_lock(&l->lock);
            }
        }
    }
    g_mutex_unlock(&l->lock);
    drop_owner(l);
    return NULL;
}

size_t char_write(CharDev *c, const void *data, size_t n)
{
    if (!c) {
        return n;
    }
    Line *l = c->line;
    g_mutex_lock(&l->lock);
    if (l->out < 0 || !l->open || l->dead || l->closing) {
        g_mutex_unlock(&l->lock);
        return n;
    }
    size_t taken = MIN(n, CHAR_OUTPUT_SIZE - l->output_count);
    size_t tail = (l->output_head + l->output_count) % CHAR_OUTPUT_SIZE;
    size_t first = MIN(taken, CHAR_OUTPUT_SIZE - tail);
    memcpy(l->output + tail, data, first);
    memcpy(l->output, (const u8 *)data + first, taken - first);
    if (!l->output_count && taken) {
        g_cond_signal(&l->filled);
    }
    l->output_count += taken;
    if (taken < n) {
        c->refused = true;
    }
    g_mutex_unlock(&l->lock);
    return taken;
}

static void line_flush(Line *l)
{
    g_mutex_lock(&l->lock);
    u64 seen = l->output_total, wanted = seen + l->output_count;
    gint64 deadline = g_get_monotonic_time() + FLUSH_SECONDS * G_TIME_SPAN_SECOND;
    while (l->output_total < wanted) {
        bool timed_out = !g_cond_wait_until(&l->written, &l->lock, deadline);
        if (l->output_total != seen) {
            seen = l->output_total;
            deadline = g_get_monotonic_time() + FLUSH_SECONDS * G_TIME_SPAN_SECOND;
        } else if (timed_out) {
            break;
        }
    }
    g_mutex_unlock(&l->lock);
}

void char_flush(CharDev *c)
{
    line_flush(c->line);
}

/* ---- Input ---------------------------------------------------------------------------------- */

static void say(Line *l, const char *text)
{
    char_write(l->ends[l->focus], text, strlen(text));
}

static void help(Line *l)
{
    say(l, "\r\n"
           "Ctrl-A x       end Stag\r\n"
           "Ctrl-A c       switch between console and monitor\r\n"
           "Ctrl-A b       send a break\r\n"
           "Ctrl-A Ctrl-A  send Ctrl-A\r\n"
           "Ctrl-A h       this list\r\n");
}

/* Lock held. */
static void put(CharDev *c, u16 value)
{
    unsigned room = value > CHAR_BREAK ? CHAR_INPUT_SIZE : CHAR_INPUT_SIZE - EVENT_ROOM;
    if (c->input_count < room && (value <= CHAR_BREAK || c->wants_events)) {
        c->input[(c->input_head + c->input_count++) % CHAR_INPUT_SIZE] = value;
    }
}

static void put_input(Line *l, u16 value)
{
    g_mutex_lock(&l->lock);
    put(l->ends[l->focus], value);
    g_mutex_unlock(&l->lock);
}

void char_focus(CharDev *c)
{
    Line *l = c->line;
    g_mutex_lock(&l->lock);
    CharDev *old = l->ends[l->focus];
    for (unsigned i = 0; i < l->end_count; i++) {
        if (l->ends[i] == c) {
            l->focus = i;
        }
    }
    if (old != c) {
        put(old, CHAR_CLOSE);
        put(c, CHAR_OPEN);
    }
    g_mutex_unlock(&l->lock);
    if (old != c) {
        notify(old);
        notify(c);
    }
}

static void next_focus(Line *l)
{
    unsigned n = end_count(l);
    for (unsigned i = 1; i < n; i++) {
        CharDev *next = l->ends[(l->focus + i) % n];
        if (!next->freed) {
            char_focus(next);
            return;
        }
    }
    say(l, "\r\nStag has no monitor on this console.\r\n");
}

/* The key after Ctrl-A. What has no meaning is swallowed. */
static void escape(Line *l, u8 key)
{
    switch (key) {
    case 'x':
        if (l->escapes.quit) {
            l->escapes.quit(l->escapes.opaque);
        }
        break;
    case 'c':
        next_focus(l);
        break;
    case 'h':
    case '?':
        help(l);
        break;
    case 'b':
        put_input(l, CHAR_BREAK);
        break;
    case 'a':
    case ESCAPE_KEY:
        put_input(l, ESCAPE_KEY);
        break;
    }
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer opaque);

/* Lock held. */
static void start_reading(Line *l)
{
    if (l->in >= 0 && !l->watch && !l->at_end && !l->closing) {
        l->watch =
            g_unix_fd_add(l->in, G_IO_IN | G_IO_HUP | G_IO_ERR | G_IO_NVAL, on_input, l);
    }
}

/* The other end of a socket sends no more, but may still read: what is buffered goes out first. */
static gboolean drained(gpointer opaque)
{
    Line *l = opaque;
    g_mutex_lock(&l->lock);
    bool more = l->output_count && g_get_monotonic_time() < l->drain_until;
    if (!more) {
        l->timer = 0;
    }
    g_mutex_unlock(&l->lock);
    if (!more) {
        line_disconnect(l);
    }
    return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* A write failed: whatever it may still send, nobody is there to get an answer. */
static gboolean gone(gpointer opaque)
{
    Line *l = opaque;
    g_mutex_lock(&l->lock);
    l->timer = 0;
    g_mutex_unlock(&l->lock);
    line_disconnect(l);
    return G_SOURCE_REMOVE;
}

/* Lock held. */
static void end_of_input(Line *l)
{
    l->watch = 0;
    l->at_end = true;
    if (l->comes_goes && !l->timer) {
        l->drain_until = g_get_monotonic_time() + FLUSH_SECONDS * G_TIME_SPAN_SECOND;
        l->timer = g_timeout_add(DRAIN_POLL_MS, drained, l);
    }
}

static gboolean on_input(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer opaque)
{
    Line *l = opaque;
    u8 keys[256];

    g_mutex_lock(&l->lock);
    size_t used = l->ends[l->focus]->input_count;
    size_t room = used < CHAR_INPUT_SIZE - EVENT_ROOM ? CHAR_INPUT_SIZE - EVENT_ROOM - used : 0;
    room = l->in_tty ? sizeof(keys) : room;
    if (!room) {
        l->watch = 0; /* char_get starts reading again */
        g_mutex_unlock(&l->lock);
        return G_SOURCE_REMOVE;
    }
    g_mutex_unlock(&l->lock);

    ssize_t n = read(fd, keys, MIN(room, sizeof(keys)));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return G_SOURCE_CONTINUE;
    }
    if (n <= 0) {
        g_mutex_lock(&l->lock);
        end_of_input(l);
        g_mutex_unlock(&l->lock);
        return G_SOURCE_REMOVE;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (l->escape_seen) {
            l->escape_seen = false;
            escape(l, keys[i]);
        } else if (l->has_escapes && keys[i] == ESCAPE_KEY) {
            l->escape_seen = true;
        } else {
            put_input(l, keys[i]);
        }
    }
    notify(l->ends[l->focus]);
    return G_SOURCE_CONTINUE;
}

int char_get(CharDev *c)
{
    if (!c) {
        return CHAR_NONE;
    }
    int value = CHAR_NONE;
    g_mutex_lock(&c->line->lock);
    if (c->input_count) {
        value = c->input[c->input_head];
        c->input_head = (c->input_head + 1) % CHAR_INPUT_SIZE;
        c->input_count--;
        start_reading(c->line);
    }
    g_mutex_unlock(&c->line->lock);
    return value;
}

/* ---- Other ends that come and go ------------------------------------------------------------- */

static gboolean on_resize(gpointer opaque)
{
    notify_all(opaque);
    return G_SOURCE_CONTINUE;
}

void line_connect(Line *l, int in, int out, bool owns_in)
{
    g_mutex_lock(&l->lock);
    l->in = in;
    l->out = out;
    l->owns_in = owns_in;
    l->open = true;
    l->dead = l->at_end = l->escape_seen = false;
    for (unsigned i = 0; i < l->end_count; i++) {
        if (i == l->focus) {
            put(l->ends[i], CHAR_OPEN);
        }
    }
    start_reading(l);
    g_mutex_unlock(&l->lock);
    notify_all(l);
}

void line_disconnect(Line *l)
{
    g_mutex_lock(&l->lock);
    l->open = false;
    l->dead = true;
    if (l->watch) {
        g_source_remove(l->watch);
        l->watch = 0;
    }
    if (l->out >= 0) {
        shutdown(l->out, SHUT_RDWR); /* a write() that waits for the other end returns */
    }
    while (l->output_count) {
        g_cond_wait(&l->written, &l->lock);
    }
    if (l->in >= 0 && l->owns_in && l->in != l->out) {
        close(l->in);
    }
    if (l->out >= 0) {
        close(l->out);
    }
    l->in = l->out = -1;
    put(l->ends[l->focus], CHAR_CLOSE);
    g_mutex_unlock(&l->lock);
    notify_all(l);
    if (l->lost) {
        l->lost(l);
    }
}

/* ---- Life ----------------------------------------------------------------------------------- */

static CharDev *add_end(Line *l)
{
    CharDev *c = g_new0(CharDev, 1);
    c->line = l;
    g_mutex_init(&c->notify_lock);
    g_mutex_lock(&l->lock);
    g_assert(l->end_count < CHAR_MAX_ENDS);
    l->ends[l->end_count++] = c;
    l->owners++;
    g_mutex_unlock(&l->lock);
    return c;
}

Line *line_new(const char *label, const char *about, const CharEscapes *escapes)
{
    Line *l = g_new0(Line, 1);
    l->label = g_strdup(label);
    l->about = g_strdup(about);
    l->in = l->out = l->listener = l->slave = -1;
    if (escapes) {
        l->has_escapes = true;
        l->escapes = *escapes;
    }
    g_mutex_init(&l->lock);
    g_cond_init(&l->written);
    g_cond_init(&l->filled);
    add_end(l);
    remember(l);
    l->owners++;
    g_thread_unref(thread_without_signals("console output", writer, l));
    return l;
}

CharDev *char_new_fds(int in, int out, const CharEscapes *escapes, bool signals)
{
    Line *l = line_new("console", "stdio", escapes);
    l->is_stdio = in == STDIN_FILENO;
    l->in_tty = in >= 0 && isatty(in) && console_start(in, signals);
    if (l->in_tty) {
        l->size_watch = g_unix_signal_add(SIGWINCH, on_resize, l);
    }
    line_connect(l, in, out >= 0 ? fcntl(out, F_DUPFD_CLOEXEC, 0) : -1, false);
    return l->ends[0];
}

CharDev *char_share(CharDev *c)
{
    return c->line->end_count < CHAR_MAX_ENDS ? add_end(c->line) : NULL;
}

void char_connect(CharDev *c, void (*fn)(void *opaque), void *opaque)
{
    if (!c) {
        return;
    }
    g_mutex_lock(&c->notify_lock);
    c->notify = fn;
    c->opaque = opaque;
    g_mutex_unlock(&c->notify_lock);
}

void char_want_events(CharDev *c)
{
    Line *l = c->line;
    g_mutex_lock(&l->lock);
    c->wants_events = true;
    if (l->open && l->ends[l->focus] == c) {
        put(c, CHAR_OPEN);
    }
    g_mutex_unlock(&l->lock);
}

bool char_get_size(CharDev *c, u16 *columns, u16 *rows)
{
    struct winsize size;
    if (!c || !c->line->in_tty || ioctl(c->line->in, TIOCGWINSZ, &size) != 0 || !size.ws_col) {
        return false;
    }
    *columns = size.ws_col;
    *rows = size.ws_row;
    return true;
}

bool char_is_open(CharDev *c)
{
    g_mutex_lock(&c->line->lock);
    bool open = c->line->open;
    g_mutex_unlock(&c->line->lock);
    return open;
}

char *char_describe(CharDev *c)
{
    return g_strdup_printf("%s: %s%s", c->line->label, c->line->about,
                           !c->line->comes_goes ? ""
                           : char_is_open(c)    ? " (connected)"
                                                : " (nobody is connected)");
}

static void remove_source(guint *id)
{
    if (*id) {
        g_source_remove(*id);
        *id = 0;
    }
}

static void close_line(Line *l)
{
    forget(l);
    g_mutex_lock(&l->lock);
    l->closing = true; /* no new sources */
    g_mutex_unlock(&l->lock);
    remove_source(&l->size_watch);
    remove_source(&l->listen_watch);
    remove_source(&l->timer);
    if (l->in_tty) {
        console_stop();
    }
    if (l->clear) {
        l->clear(l);
    }
    g_mutex_lock(&l->lock);
    remove_source(&l->watch);
    g_cond_signal(&l->filled);
    g_mutex_unlock(&l->lock);
}

void char_free(CharDev *c)
{
    if (!c) {
        return;
    }
    Line *l = c->line;
    char_flush(c);
    char_connect(c, NULL, NULL);
    g_mutex_lock(&l->lock);
    c->freed = true;
    bool last = true;
    for (unsigned i = 0; i < l->end_count; i++) {
        last &= l->ends[i]->freed;
    }
    g_mutex_unlock(&l->lock);
    if (last) {
        close_line(l);
    }
    drop_owner(l);
}
