/* Character backends: two rings, a writer thread, the escape keys, and the care of the terminal.
 * See char.h. */
#include "devices/char.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "core/base/error.h"

enum {
    INPUT_SIZE = 4096,     /* a terminal's own line buffer is that long */
    OUTPUT_SIZE = 1 << 20, /* the log of a whole boot, for readers that pause */
    ESCAPE_KEY = 1,      /* Ctrl-A */
    FLUSH_SECONDS = 1,
};

struct CharDev {
    int in, out; /* -1: none. `out` is a duplicate of our own: the writer may outlive the original */
    bool in_tty;
    bool has_escapes;
    CharEscapes escapes;

    GMutex notify_lock; /* held while notify runs; taken before `lock` */
    void (*notify)(void *opaque);
    void *opaque;

    GMutex lock; /* all below */
    GCond written;
    GCond filled;

    u16 input[INPUT_SIZE]; /* bytes and CHAR_BREAK */
    unsigned input_head, input_count;
    bool escape_seen; /* the escape key was the last one */
    bool at_end;      /* of the input */
    guint watch;      /* the GSource that reads `in`; 0: not reading */

    u8 output[OUTPUT_SIZE];
    size_t output_head, output_count;
    u64 output_total; /* bytes written so far */
    bool refused;     /* the device was refused room and waits for a notification */
    bool dead;        /* nobody reads any more: drop output */
    bool closing;
    unsigned owners; /* the creator and the writer thread */
};

/* ---- The terminal ---------------------------------------------------------------------------- */

/* Written before the handlers are installed and left alone while they may run. */
static int console_fd = -1;
static struct termios console_saved, console_raw;
static volatile sig_atomic_t console_open; /* a console wants raw mode */
static volatile sig_atomic_t console_is_raw;

void console_restore(void)
{
    if (console_is_raw) {
        int saved_errno = errno;
        console_is_raw = 0;
        tcsetattr(console_fd, TCSANOW, &console_saved);
        errno = saved_errno;
    }
}

/* Raw mode, unless the process is in the background: then the terminal is somebody else's. */
static void console_enter(void)
{
    pid_t foreground = tcgetpgrp(console_fd); /* -1, 0: nobody that this process knows */
    if (console_open && (foreground <= 0 || foreground == getpgrp())) {
        console_is_raw = 1;
        tcsetattr(console_fd, TCSANOW, &console_raw);
    }
}

static void on_fatal_signal(int sig)
{
    console_restore();
    signal(sig, SIG_DFL);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    raise(sig);
}

static void on_stop(int sig);

static void handle(int sig, void (*handler)(int))
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = SA_RESTART};
    sigemptyset(&act.sa_mask);
    sigaction(sig, &act, NULL);
}

/* SIGTSTP: give the terminal back, then stop as anybody would. SIGCONT takes it again. */
static void on_stop(int sig)
{
    int saved_errno = errno;
    on_fatal_signal(sig);
    handle(sig, on_stop);
    errno = saved_errno;
}

static void on_continue(int sig G_GNUC_UNUSED)
{
    int saved_errno = errno;
    console_enter();
    errno = saved_errno;
}

static const struct {
    int sig;
    void (*handler)(int);
} console_signals[] = {
    {SIGTERM, on_fatal_signal}, {SIGINT, on_fatal_signal},  {SIGHUP, on_fatal_signal},
    {SIGQUIT, on_fatal_signal}, {SIGABRT, on_fatal_signal}, {SIGSEGV, on_fatal_signal},
    {SIGBUS, on_fatal_signal},  {SIGILL, on_fatal_signal},  {SIGFPE, on_fatal_signal},
    {SIGTSTP, on_stop},         {SIGCONT, on_continue},
};

static bool console_start(int fd, bool signals)
{
    if (console_open || tcgetattr(fd, &console_saved) < 0) {
        return false;
    }
    console_raw = console_saved;
    console_raw.c_iflag &= ~(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    console_raw.c_lflag &= ~(ECHO | ECHONL | ICANON | IEXTEN | (signals ? 0 : ISIG));
    console_raw.c_cflag = (console_raw.c_cflag & ~(CSIZE | PARENB)) | CS8;
    console_raw.c_cc[VMIN] = 1;
    console_raw.c_cc[VTIME] = 0;
    console_fd = fd;
    console_open = 1;
    for (unsigned i = 0; i < ARRAY_LEN(console_signals); i++) {
        struct sigaction old;
        if (sigaction(console_signals[i].sig, NULL, &old) == 0 && old.sa_handler == SIG_DFL) {
            handle(console_signals[i].sig, console_signals[i].handler);
        }
    }
    console_enter();
    return true;
}

static void console_stop(void)
{
    console_open = 0;
    console_restore();
    for (unsigned i = 0; i < ARRAY_LEN(console_signals); i++) {
        struct sigaction old;
        if (sigaction(console_signals[i].sig, NULL, &old) == 0 &&
            old.sa_handler == console_signals[i].handler) {
            signal(console_signals[i].sig, SIG_DFL);
        }
    }
}

/* ---- Everything that is open, for exit
 * ---------------------------------------------------------- */

static GMutex open_lock;
static GSList *open_list;

static void at_exit(void)
{
    g_mutex_lock(&open_lock);
    for (GSList *l = open_list; l; l = l->next) {
        char_flush(l->data);
    }
    g_mutex_unlock(&open_lock);
    console_restore();
}

static void remember(CharDev *c)
{
    static bool registered;
    g_mutex_lock(&open_lock);
    if (!registered) {
        registered = true;
        atexit(at_exit);
    }
    open_list = g_slist_prepend(open_list, c);
    g_mutex_unlock(&open_lock);
}

static void forget(CharDev *c)
{
    g_mutex_lock(&open_lock);
    open_list = g_slist_remove(open_list, c);
    g_mutex_unlock(&open_lock);
}

/* ---- Output ------------------------------------------------------------------------------------
 */

static void notify(CharDev *c)
{
    g_mutex_lock(&c->notify_lock);
    if (c->notify) {
        c->notify(c->opaque);
    }
    g_mutex_unlock(&c->notify_lock);
}

static void drop_owner(CharDev *c)
{
    g_mutex_lock(&c->lock);
    bool last = --c->owners == 0;
    g_mutex_unlock(&c->lock);
    if (last) {
        if (c->out >= 0) {
            close(c->out);
        }
        g_mutex_clear(&c->lock);
        g_mutex_clear(&c->notify_lock);
        g_cond_clear(&c->written);
        g_cond_clear(&c->filled);
        g_free(c);
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

static gpointer writer(gpointer opaque)
{
    CharDev *c = opaque;
    g_mutex_lock(&c->lock);
    for (;;) {
        while (!c->output_count && !c->closing) {
            g_cond_wait(&c->filled, &c->lock);
        }
        if (!c->output_count) {
            break;
        }
        /* The bytes stay in the ring while they are written, so nobody else touches them. */
        size_t n = MIN(c->output_count, OUTPUT_SIZE - c->output_head);
        g_mutex_unlock(&c->lock);
        ssize_t done = write_some(c->out, c->output + c->output_head, n);
        g_mutex_lock(&c->lock);
        if (done < 0) {
            c->dead = true;
            done = c->output_count;
        }
        c->output_head = (c->output_head + done) % OUTPUT_SIZE;
        c->output_count -= done;
        c->output_total += done;
        g_cond_broadcast(&c->written);
        if (c->refused && c->output_count <= OUTPUT_SIZE / 2) {
            c->refused = false;
            g_mutex_unlock(&c->lock);
            notify(c);
            g_mutex_lock(&c->lock);
        }
    }
    g_mutex_unlock(&c->lock);
    drop_owner(c);
    return NULL;
}

size_t char_write(CharDev *c, const void *data, size_t n)
{
    if (!c || c->out < 0) {
        return n;
    }
    g_mutex_lock(&c->lock);
    if (c->dead || c->closing) {
        g_mutex_unlock(&c->lock);
        return n;
    }
    size_t taken = MIN(n, OUTPUT_SIZE - c->output_count);
    size_t tail = (c->output_head + c->output_count) % OUTPUT_SIZE;
    size_t first = MIN(taken, OUTPUT_SIZE - tail);
    memcpy(c->output + tail, data, first);
    memcpy(c->output, (const u8 *)data + first, taken - first);
    if (!c->output_count && taken) {
        g_cond_signal(&c->filled);
    }
    c->output_count += taken;
    if (taken < n) {
        c->refused = true;
    }
    g_mutex_unlock(&c->lock);
    return taken;
}

void char_flush(CharDev *c)
{
    g_mutex_lock(&c->lock);
    u64 seen = c->output_total, wanted = seen + c->output_count;
    gint64 deadline = g_get_monotonic_time() + FLUSH_SECONDS * G_TIME_SPAN_SECOND;
    while (c->output_total < wanted) {
        bool timed_out = !g_cond_wait_until(&c->written, &c->lock, deadline);
        if (c->output_total != seen) {
            seen = c->output_total;
            deadline = g_get_monotonic_time() + FLUSH_SECONDS * G_TIME_SPAN_SECOND;
        } else if (timed_out) {
            break;
        }
    }
    g_mutex_unlock(&c->lock);
}

/* ---- Input
 * --------------------------------------------------------------------------------------- */

static void say(CharDev *c, const char *text)
{
    char_write(c, text, strlen(text));
}

static void help(CharDev *c)
{
    say(c, "\r\n"
           "Ctrl-A x       end Stag\r\n"
           "Ctrl-A c       switch between console and monitor\r\n"
           "Ctrl-A b       send a break\r\n"
           "Ctrl-A Ctrl-A  send Ctrl-A\r\n"
           "Ctrl-A h       this list\r\n");
}

static void put_input(CharDev *c, u16 value)
{
    g_mutex_lock(&c->lock);
    if (c->input_count < INPUT_SIZE) {
        c->input[(c->input_head + c->input_count++) % INPUT_SIZE] = value;
    }
    g_mutex_unlock(&c->lock);
}

/* The key after Ctrl-A. What has no meaning is swallowed. */
static void escape(CharDev *c, u8 key)
{
    switch (key) {
    case 'x':
        if (c->escapes.quit) {
            c->escapes.quit(c->escapes.opaque);
        }
        break;
    case 'c':
        if (c->escapes.monitor) {
            c->escapes.monitor(c->escapes.opaque);
        } else {
            say(c, "\r\nStag has no monitor on this console.\r\n");
        }
        break;
    case 'h':
    case '?':
        help(c);
        break;
    case 'b':
        put_input(c, CHAR_BREAK);
        break;
    case 'a':
    case ESCAPE_KEY:
        put_input(c, ESCAPE_KEY);
        break;
    }
}

static gboolean on_input(gint fd, GIOCondition condition, gpointer opaque);

/* Lock held. */
static void start_reading(CharDev *c)
{
    if (c->in >= 0 && !c->watch && !c->at_end && !c->closing) {
        c->watch = g_unix_fd_add(c->in, G_IO_IN | G_IO_HUP | G_IO_ERR | G_IO_NVAL,
                                 on_input, c);
    }
}

static gboolean on_input(gint fd, GIOCondition condition G_GNUC_UNUSED, gpointer opaque)
{
    CharDev *c = opaque;
    u8 keys[256];

    g_mutex_lock(&c->lock);
    size_t room = c->in_tty ? sizeof(keys) : INPUT_SIZE - c->input_count;
    if (!room) {
        c->watch = 0; /* char_get starts reading again */
        g_mutex_unlock(&c->lock);
        return G_SOURCE_REMOVE;
    }
    g_mutex_unlock(&c->lock);

    ssize_t n = read(fd, keys, MIN(room, sizeof(keys)));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
        return G_SOURCE_CONTINUE;
    }
    if (n <= 0) {
        g_mutex_lock(&c->lock);
        c->watch = 0;
        c->at_end = true;
        g_mutex_unlock(&c->lock);
        return G_SOURCE_REMOVE;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (c->escape_seen) {
            c->escape_seen = false;
            escape(c, keys[i]);
        } else if (c->has_escapes && keys[i] == ESCAPE_KEY) {
            c->escape_seen = true;
        } else {
            put_input(c, keys[i]);
        }
    }
    notify(c);
    return G_SOURCE_CONTINUE;
}

int char_get(CharDev *c)
{
    if (!c) {
        return CHAR_NONE;
    }
    int value = CHAR_NONE;
    g_mutex_lock(&c->lock);
    if (c->input_count) {
        value = c->input[c->input_head];
        c->input_head = (c->input_head + 1) % INPUT_SIZE;
        c->input_count--;
        start_reading(c);
    }
    g_mutex_unlock(&c->lock);
    return value;
}

/* ---- Life
 * ---------------------------------------------------------------------------------------- */

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

CharDev *char_new_fds(int in, int out, const CharEscapes *escapes, bool signals)
{
    CharDev *c = g_new0(CharDev, 1);
    c->in = in;
    c->out = out >= 0 ? fcntl(out, F_DUPFD_CLOEXEC, 0) : -1;
    c->owners = 1;
    if (escapes) {
        c->has_escapes = true;
        c->escapes = *escapes;
    }
    g_mutex_init(&c->lock);
    g_mutex_init(&c->notify_lock);
    g_cond_init(&c->written);
    g_cond_init(&c->filled);
    remember(c);
    c->in_tty = in >= 0 && isatty(in) && console_start(in, signals);
    if (c->out >= 0) {
        /* The writer takes no signals: handlers run on threads that expect them, and a reader that
         * goes away is an error from write() instead of a SIGPIPE. */
        sigset_t all, old;
        sigfillset(&all);
        pthread_sigmask(SIG_BLOCK, &all, &old);
        c->owners++;
        g_thread_unref(g_thread_new("console output", writer, c));
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    g_mutex_lock(&c->lock);
    start_reading(c);
    g_mutex_unlock(&c->lock);
    return c;
}

CharDev *char_new(const char *spec, const CharEscapes *escapes, GError **err)
{
    static const CharEscapes none;

    if (g_str_equal(spec, "mon:stdio")) {
        return char_new_fds(STDIN_FILENO, STDOUT_FILENO, escapes ? escapes : &none, false);
    }
    if (g_str_equal(spec, "stdio")) {
        return char_new_fds(STDIN_FILENO, STDOUT_FILENO, NULL, true);
    }
    if (g_str_equal(spec, "null") || g_str_equal(spec, "none")) {
        return char_new_fds(-1, -1, NULL, true);
    }
    if (g_str_has_prefix(spec, "file:")) {
        const char *path = spec + strlen("file:");
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0) {
            stag_error(err, "cannot write the serial output to '%s': %s", path, strerror(errno));
            return NULL;
        }
        CharDev *c = char_new_fds(-1, fd, NULL, true);
        close(fd);
        return c;
    }
    stag_error(err, "there is no character device '%s'; use stdio, mon:stdio, null or file:PATH",
               spec);
    return NULL;
}

void char_free(CharDev *c)
{
    if (!c) {
        return;
    }
    char_flush(c);
    char_connect(c, NULL, NULL);
    forget(c);
    if (c->in_tty) {
        console_stop();
    }
    g_mutex_lock(&c->lock);
    if (c->watch) {
        g_source_remove(c->watch);
    }
    c->closing = true;
    g_cond_signal(&c->filled);
    g_mutex_unlock(&c->lock);
    drop_owner(c);
}
