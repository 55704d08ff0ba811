/*
 * The host's end of serial lines: pipes, files, and a terminal, which is a pty here. Tests of
 * signals and job control run the console in a child process and watch the pty's settings from
 * outside.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "devices/char.h"
#include "devices/terminal.h"

/* Runs the main loop until `done`, or fails after ten seconds. */
#define RUN_UNTIL(done)                                                                            \
    do {                                                                                           \
        gint64 end_ = g_get_monotonic_time() + 10 * G_TIME_SPAN_SECOND;                            \
        while (!(done)) {                                                                          \
            ck_assert_msg(g_get_monotonic_time() < end_, "never: %s", #done);                      \
            if (!g_main_context_iteration(NULL, FALSE)) {                                          \
                g_usleep(500);                                                                     \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static void settle(void)
{
    for (int i = 0; i < 100; i++) {
        while (g_main_context_iteration(NULL, FALSE)) {
        }
        g_usleep(200);
    }
}

static void write_all(int fd, const void *data, size_t n)
{
    ck_assert_int_eq(write(fd, data, n), (ssize_t)n);
}

static void read_all(int fd, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_msg(poll(&p, 1, 10000) == 1, "only %zu of %zu bytes", done, n);
        ssize_t got = read(fd, (char *)data + done, n - done);
        ck_assert_int_gt(got, 0);
        done += got;
    }
}

/* ---- Pipes and files
 * ----------------------------------------------------------------------------- */

typedef struct Counter {
    _Atomic unsigned calls;
} Counter;

static void count_call(void *opaque)
{
    ((Counter *)opaque)->calls++;
}

START_TEST(pipe_input)
{
    int p[2];
    Counter n = {0};
    ck_assert_int_eq(pipe(p), 0);
    CharDev *c = char_new_fds(p[0], -1, NULL, true);
    char_connect(c, count_call, &n);
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    write_all(p[1], "a\001x\377", 4); /* no escape key here */
    RUN_UNTIL(n.calls);
    ck_assert_int_eq(char_get(c), 'a');
    ck_assert_int_eq(char_get(c), 1);
    ck_assert_int_eq(char_get(c), 'x');
    ck_assert_int_eq(char_get(c), 0xff);
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    /* The end of the input: what came before is there, then there is no more, and no spinning. */
    write_all(p[1], "z", 1);
    close(p[1]);
    settle();
    ck_assert_int_eq(char_get(c), 'z');
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    ck_assert(!g_main_context_pending(NULL));
    char_free(c);
    close(p[0]);
}
END_TEST

/* More than the buffer holds waits in the pipe; all of it arrives in order. */
START_TEST(pipe_flow_control)
{
    enum { TOTAL = 40000 };
    int p[2];
    u8 data[TOTAL];
    for (unsigned i = 0; i < TOTAL; i++) {
        data[i] = i * 7 % 253;
    }
    ck_assert_int_eq(pipe(p), 0);
    write_all(p[1], data, TOTAL);
    CharDev *c = char_new_fds(p[0], -1, NULL, true);
    settle();
    int left = 0;
    ck_assert_int_eq(ioctl(p[0], FIONREAD, &left), 0);
    ck_assert_int_gt(left, TOTAL / 2);
    ck_assert(!g_main_context_pending(NULL)); /* nobody spins on the full buffer */
    for (unsigned i = 0; i < TOTAL; i++) {
        int v = char_get(c);
        for (int tries = 0; v == CHAR_NONE && tries < 10000; tries++) {
            g_main_context_iteration(NULL, FALSE);
            v = char_get(c);
        }
        if (v != data[i]) {
            ck_abort_msg("byte %u is %d", i, v);
        }
    }
    char_free(c);
    close(p[0]);
    close(p[1]);
}
END_TEST

START_TEST(odd_inputs)
{
    static const char *const paths[] = {"/dev/null", "/dev/zero"};
    for (unsigned i = 0; i < ARRAY_LEN(paths); i++) {
        int fd = open(paths[i], O_RDONLY);
        CharDev *c = char_new_fds(fd, -1, NULL, true);
        settle();
        ck_assert_int_eq(char_get(c), i == 0 ? CHAR_NONE : 0);
        char_free(c);
        close(fd);
    }
    CharDev *c = char_new_fds(999, -1, NULL, true); /* stdin was closed */
    settle();
    ck_assert(!g_main_context_pending(NULL));
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    char_free(c);
    ck_assert_int_eq(char_get(NULL), CHAR_NONE);
    ck_assert_uint_eq(char_write(NULL, "abc", 3), 3);
    char_free(NULL);
}
END_TEST

START_TEST(output_is_bounded)
{
    int p[2];
    Counter n = {0};
    u8 block[1000];
    ck_assert_int_eq(pipe(p), 0);
    CharDev *c = char_new_fds(-1, p[1], NULL, true);
    char_connect(c, count_call, &n);
    size_t sent = 0, taken;
    do { /* an uneven block size, so that the ring wraps within one */
        for (size_t i = 0; i < sizeof(block); i++) {
            block[i] = (sent + i) % 251;
        }
        taken = char_write(c, block, sizeof(block));
        sent += taken;
    } while (taken == sizeof(block) && sent < 100 << 20);
    ck_assert_uint_lt(sent, 100 << 20);
    g_usleep(1000);
    ck_assert_uint_eq(n.calls, 0);
    for (size_t done = 0; done < sent;) {
        u8 buf[5000];
        ssize_t got = read(p[0], buf, MIN(sizeof(buf), sent - done));
        ck_assert_int_gt(got, 0);
        for (ssize_t i = 0; i < got; i++, done++) {
            if (buf[i] != done % 251) {
                ck_abort_msg("byte %u is wrong", (unsigned)done);
            }
        }
    }
    RUN_UNTIL(n.calls == 1); /* room again */
    ck_assert_uint_eq(char_write(c, "x", 1), 1);
    char_flush(c);
    u8 x;
    read_all(p[0], &x, 1);
    ck_assert_int_eq(x, 'x');
    /* A reader that has stopped for good does not keep us from ending. */
    while (char_write(c, block, sizeof(block)) == sizeof(block)) {
    }
    char_free(c);
    close(p[0]);
    close(p[1]);
}
END_TEST

START_TEST(output_without_reader)
{
    int p[2];
    ck_assert_int_eq(pipe(p), 0);
    CharDev *c = char_new_fds(-1, p[1], NULL, true);
    close(p[0]);
    ck_assert_uint_eq(char_write(c, "lost", 4), 4); /* neither SIGPIPE nor a stall */
    char_flush(c);
    u8 block[4096] = {0};
    for (int i = 0; i < 1000; i++) {
        ck_assert_uint_eq(char_write(c, block, sizeof(block)), sizeof(block));
    }
    char_free(c);
    close(p[1]);
}
END_TEST

START_TEST(backends)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("stag-char-XXXXXX", &path, &err);
    ck_assert_int_ge(fd, 0);
    g_autofree char *spec = g_strdup_printf("file:%s", path);
    CharDev *c = char_new(spec, "test", NULL, &err);
    ck_assert_ptr_nonnull(c);
    for (int i = 0; i < 1000; i++) {
        ck_assert_uint_eq(char_write(c, "0123456789", 10), 10);
    }
    char_free(c); /* writes all */
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10000);
    close(fd);
    unlink(path);

    static const char *const nothing[] = {"null", "none"};
    for (unsigned i = 0; i < ARRAY_LEN(nothing); i++) {
        c = char_new(nothing[i], "test", NULL, &err);
        ck_assert_ptr_nonnull(c);
        ck_assert_uint_eq(char_write(c, "abc", 3), 3);
        ck_assert_int_eq(char_get(c), CHAR_NONE);
        char_free(c);
    }
    static const char *const bad[] = {"file:/nonexistent/file", "file:", "", "stdiox", "telnet:"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_ptr_null(char_new(bad[i], "test", NULL, &err));
        ck_assert_ptr_nonnull(err);
        g_clear_error(&err);
    }
}
END_TEST

/* ---- The terminal
 * ---------------------------------------------------------------------------------- */

typedef struct Pty {
    int master, slave;
    struct termios before;
} Pty;

static Pty pty_open(void)
{
    Pty p;
    struct winsize size = {.ws_row = 33, .ws_col = 77};
    ck_assert_int_eq(openpty(&p.master, &p.slave, NULL, NULL, &size), 0);
    ck_assert_int_eq(tcgetattr(p.slave, &p.before), 0);
    ck_assert_uint_ne(p.before.c_lflag & ICANON, 0);
    return p;
}

static bool is_raw(const Pty *p)
{
    struct termios t;
    return tcgetattr(p->slave, &t) == 0 && !(t.c_lflag & (ICANON | ECHO));
}

static bool is_restored(const Pty *p)
{
    struct termios t;
    struct winsize size;
    return tcgetattr(p->slave, &t) == 0 && t.c_lflag == p->before.c_lflag &&
           t.c_iflag == p->before.c_iflag && t.c_oflag == p->before.c_oflag &&
           t.c_cflag == p->before.c_cflag && memcmp(t.c_cc, p->before.c_cc, sizeof(t.c_cc)) == 0 &&
           ioctl(p->slave, TIOCGWINSZ, &size) == 0 && size.ws_row == 33 && size.ws_col == 77;
}

/* Waits for a state that another process brings about. */
static bool comes_true(bool (*test)(const Pty *), const Pty *p)
{
    for (int i = 0; i < 10000; i++) {
        if (test(p)) {
            return true;
        }
        g_usleep(1000);
    }
    return false;
}

static void expect_text(int fd, const char *part)
{
    char buf[1024] = {0};
    for (size_t n = 0; !strstr(buf, part);) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_msg(poll(&p, 1, 10000) == 1, "no '%s' in '%s'", part, buf);
        ssize_t got = read(fd, buf + n, sizeof(buf) - 1 - n);
        ck_assert_int_gt(got, 0);
        n += got;
    }
}

static void set_flag(void *opaque)
{
    *(bool *)opaque = true;
}

START_TEST(escape_keys)
{
    bool quit = false;
    Pty p = pty_open();
    CharEscapes e = {.quit = set_flag, .opaque = &quit};
    CharDev *c = char_new_fds(p.slave, p.slave, &e, false);
    ck_assert(is_raw(&p));

    write_all(p.master, "\003\032\r", 3); /* Ctrl-C, Ctrl-Z, Enter are the guest's */
    settle();
    ck_assert_int_eq(char_get(c), 3);
    ck_assert_int_eq(char_get(c), 26);
    ck_assert_int_eq(char_get(c), '\r');

    write_all(p.master, "\001", 1); /* the two keys need not come together */
    settle();
    write_all(p.master, "h", 1);
    settle();
    expect_text(p.master, "Ctrl-A x");
    write_all(p.master, "\001c", 2);
    settle();
    expect_text(p.master, "no monitor");
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    write_all(p.master, "\001\001\001a\001b\001s\001zq", 11);
    settle();
    ck_assert_int_eq(char_get(c), 1);
    ck_assert_int_eq(char_get(c), 1);
    ck_assert_int_eq(char_get(c), CHAR_BREAK);
    ck_assert_int_eq(char_get(c), 'q');
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    ck_assert(!quit);

    /* However much is typed ahead of a guest that doesn't read, Ctrl-A x ends. */
    for (int i = 0; i < 20; i++) {
        char line[1000];
        memset(line, 'k', sizeof(line));
        write_all(p.master, line, sizeof(line));
        settle();
    }
    write_all(p.master, "\001x", 2);
    RUN_UNTIL(quit);
    char_free(c);
    ck_assert(is_restored(&p));
    close(p.master);
    close(p.slave);
}
END_TEST

/* Two ends of one line: Ctrl-A c moves the keys from one to the other, which hears of it. */
START_TEST(monitor_key)
{
    int in[2], out[2];
    ck_assert_int_eq(pipe(in), 0);
    ck_assert_int_eq(pipe(out), 0);
    CharDev *c = char_new_fds(in[0], out[1], &(CharEscapes){0}, false);
    CharDev *m = char_share(c);
    char_want_events(m);
    write_all(in[1], "\001xa\001cb\001cd", 9); /* no quit callback: nothing happens */
    settle();
    ck_assert_int_eq(char_get(c), 'a');
    ck_assert_int_eq(char_get(c), 'd');
    ck_assert_int_eq(char_get(c), CHAR_NONE);
    ck_assert_int_eq(char_get(m), CHAR_OPEN);
    ck_assert_int_eq(char_get(m), 'b');
    ck_assert_int_eq(char_get(m), CHAR_CLOSE);
    ck_assert_int_eq(char_get(m), CHAR_NONE);
    /* Both write to the line. */
    ck_assert_uint_eq(char_write(c, "one", 3), 3);
    ck_assert_uint_eq(char_write(m, "two", 3), 3);
    expect_text(out[0], "onetwo");
    char_focus(m);
    write_all(in[1], "e", 1);
    settle();
    ck_assert_int_eq(char_get(m), CHAR_OPEN);
    ck_assert_int_eq(char_get(m), 'e');
    /* The line lives as long as one of its ends, and the keys have somewhere to go. */
    char_free(m);
    write_all(in[1], "\001cf", 3);
    settle();
    ck_assert_int_eq(char_get(c), 'f');
    char_free(c);
    close(in[0]), close(in[1]), close(out[0]), close(out[1]);
}
END_TEST

/* ---- Sockets and pseudo-terminals --------------------------------------------------------------- */

static char *temporary_folder(void)
{
    char *folder = g_dir_make_tmp("stag-char-XXXXXX", NULL);
    ck_assert_ptr_nonnull(folder);
    return folder;
}

static int client_of(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static int next_value(CharDev *c)
{
    int v = char_get(c);
    for (int i = 0; v == CHAR_NONE && i < 10000; i++) {
        g_main_context_iteration(NULL, FALSE);
        g_usleep(100);
        v = char_get(c);
    }
    return v;
}

START_TEST(unix_server)
{
    g_autofree char *folder = temporary_folder();
    g_autofree char *path = g_build_filename(folder, "s", NULL);
    g_autofree char *spec = g_strdup_printf("unix:%s,server,nowait", path);
    g_autoptr(GError) err = NULL;
    CharDev *c = char_new(spec, "test", NULL, &err);
    ck_assert_msg(c != NULL, "%s", err ? err->message : "");
    char_want_events(c);
    ck_assert(!char_is_open(c));
    u8 block[1000] = {0};
    for (int i = 0; i < 3000; i++) { /* nobody is there: it goes nowhere, and nothing stalls */
        ck_assert_uint_eq(char_write(c, block, sizeof(block)), sizeof(block));
    }
    /* The place is taken while this one lives. */
    ck_assert_ptr_null(char_new(spec, "test", NULL, &err));
    g_clear_error(&err);
    next_value(c); /* the attempt came as a client that left at once */
    next_value(c);
    for (int round = 0; round < 3; round++) {
        int fd = client_of(path);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(next_value(c), CHAR_OPEN);
        ck_assert(char_is_open(c));
        write_all(fd, "hi\001", 3);
        ck_assert_int_eq(next_value(c), 'h');
        ck_assert_int_eq(next_value(c), 'i');
        ck_assert_int_eq(next_value(c), 1);
        if (round == 0) {
            ck_assert_uint_eq(char_write(c, "hello", 5), 5);
            expect_text(fd, "hello");
            close(fd);
        } else if (round == 1) { /* one that has sent all and still reads */
            shutdown(fd, SHUT_WR);
            ck_assert_uint_eq(char_write(c, "answer", 6), 6);
            expect_text(fd, "answer");
            while (next_value(c) != CHAR_CLOSE) {
            }
            u8 x;
            ck_assert_int_eq(read(fd, &x, 1), 0);
            close(fd);
            continue;
        } else { /* one that reads nothing and leaves in the middle of it */
            while (char_write(c, block, sizeof(block)) == sizeof(block)) {
            }
            close(fd);
        }
        ck_assert_int_eq(next_value(c), CHAR_CLOSE);
        ck_assert(!char_is_open(c));
    }
    char_free(c);
    ck_assert_int_ne(access(path, F_OK), 0);

    /* What a process that was killed has left behind is no obstacle. */
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    g_strlcpy(a.sun_path, path, sizeof(a.sun_path));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    close(fd);
    c = char_new(spec, "test", NULL, &err);
    ck_assert_ptr_nonnull(c);

    /* And the other way round: as a client. */
    g_autofree char *as_client = g_strdup_printf("socket,id=x,path=%s", path);
    CharDev *d = char_new_chardev(as_client, NULL, &err);
    ck_assert_ptr_nonnull(d);
    char_want_events(c);
    ck_assert_int_eq(next_value(c), CHAR_OPEN);
    char_write(d, "q", 1);
    ck_assert_int_eq(next_value(c), 'q');
    char_write(c, "r", 1);
    ck_assert_int_eq(next_value(d), 'r');
    g_autofree char *about = char_describe(d);
    ck_assert_ptr_nonnull(strstr(about, "x: unix:"));
    char_free(d);
    ck_assert_int_eq(next_value(c), CHAR_CLOSE);
    char_free(c);
    ck_assert_ptr_null(char_new_chardev(as_client, NULL, &err)); /* nobody listens */
    ck_assert_ptr_nonnull(strstr(err->message, "cannot connect"));
    rmdir(folder);
}
END_TEST

START_TEST(pty_line)
{
    g_autoptr(GError) err = NULL;
    CharDev *c = char_new("pty", "test", NULL, &err);
    ck_assert_ptr_nonnull(c);
    g_autofree char *about = char_describe(c);
    const char *name = strstr(about, "/dev/");
    ck_assert_ptr_nonnull(name);
    g_autofree char *path = g_strndup(name, strcspn(name, " "));
    char_want_events(c);
    for (int round = 0; round < 2; round++) {
        ck_assert_uint_eq(char_write(c, "lost", 4), 4);
        int fd = open(path, O_RDWR | O_NOCTTY);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(next_value(c), CHAR_OPEN);
        write_all(fd, "k\003", 2);
        ck_assert_int_eq(next_value(c), 'k');
        ck_assert_int_eq(next_value(c), 3);
        char_write(c, "to you\n", 7);
        char got[8] = {0};
        read_all(fd, got, 7);
        ck_assert_str_eq(got, "to you\n");
        close(fd);
        ck_assert_int_eq(next_value(c), CHAR_CLOSE);
    }
    char_free(c);
}
END_TEST

START_TEST(bad_lines)
{
    static const char *const bad[] = {
        "unix:", "unix:/x,servr", "tcp:", "tcp:localhost", "tcp:localhost:", "telnet:localhost:1",
        "mon:", "mon:mon:stdio", "unix:/nonexistent/socket", "tcp:localhost:notaport",
        ("unix:/tmp/this-path-is-longer-than-a-socket-address-may-be-because-it-has-more-than-a-"
         "hundred-and-seven-characters"),
    };
    static const char *const bad_chardevs[] = {
        "", "stdio", "null,id=", "socket,id=a", "socket,id=a,path=/x,port=3", "file,id=a",
        "socket,id=a,path=/nonexistent/x", "null,id=a,path=/x", "pipe,id=a", "null,id=a,mux=maybe",
    };
    g_autoptr(GError) err = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_ptr_null(char_new(bad[i], "test", NULL, &err));
        ck_assert_ptr_nonnull(err);
        g_clear_error(&err);
    }
    for (unsigned i = 0; i < ARRAY_LEN(bad_chardevs); i++) {
        ck_assert_ptr_null(char_new_chardev(bad_chardevs[i], NULL, &err));
        ck_assert_ptr_nonnull(err);
        g_clear_error(&err);
    }
}
END_TEST

/* `signals`: raw, but Ctrl-C reaches the host. */
START_TEST(host_signals)
{
    Pty p = pty_open();
    struct termios t;
    CharDev *c = char_new_fds(p.slave, p.slave, NULL, true);
    ck_assert(is_raw(&p));
    tcgetattr(p.slave, &t);
    ck_assert_uint_ne(t.c_lflag & ISIG, 0);
    char_free(c);
    ck_assert(is_restored(&p));
}
END_TEST

enum { END_EXIT = -1, EXIT_LINES = 20000 };

/* The process of a console on the pty: says so on the line, then runs its main loop. */
static void console_process(const Pty *p, int how)
{
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTERM, SIGINT};
    for (unsigned i = 0; i < ARRAY_LEN(faults); i++) {
        signal(faults[i], SIG_DFL); /* a sanitizer or the test runner may have set them */
    }
    CharDev *c = char_new_fds(p->slave, p->slave, &(CharEscapes){0}, false);
    if (how == END_EXIT) {
        for (int i = 0; i < EXIT_LINES; i++) { /* more than a pty holds */
            char_write(c, "0123456789", 10);
        }
        char_write(c, "end", 3);
        exit(7);
    }
    char_write(c, "ready", 5);
    for (;;) {
        g_main_context_iteration(NULL, TRUE);
    }
}

static const int endings[] = {SIGTERM, SIGINT,  SIGHUP, SIGQUIT,
                              SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE};

START_TEST(restored_on_signal)
{
    Pty p = pty_open();
    pid_t pid = fork();
    if (pid == 0) {
        console_process(&p, 0);
    }
    expect_text(p.master, "ready");
    ck_assert(is_raw(&p));
    kill(pid, endings[_i]);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == endings[_i]);
    ck_assert(is_restored(&p));
}
END_TEST

START_TEST(restored_and_flushed_at_exit)
{
    Pty p = pty_open();
    pid_t pid = fork();
    if (pid == 0) {
        console_process(&p, END_EXIT);
    }
    enum { LENGTH = 10 * EXIT_LINES + 3 };
    g_autofree char *text = g_malloc(LENGTH);
    g_usleep(100000); /* the process is at its exit by now */
    read_all(p.master, text, LENGTH);
    ck_assert_mem_eq(text + LENGTH - 13, "0123456789end", 13);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    ck_assert(is_restored(&p));
}
END_TEST

/* A handler that was there first keeps its signal. */
static volatile sig_atomic_t caught;

static void catch(int sig)
{
    caught = sig;
}

START_TEST(others_handlers_stay)
{
    Pty p = pty_open();
    signal(SIGTERM, catch);
    signal(SIGHUP, SIG_IGN);
    CharDev *c = char_new_fds(p.slave, p.slave, NULL, false);
    raise(SIGTERM);
    raise(SIGHUP);
    ck_assert_int_eq(caught, SIGTERM);
    ck_assert(is_raw(&p));
    console_restore();
    ck_assert(is_restored(&p));
    console_restore();
    char_free(c);
    ck_assert(is_restored(&p));
}
END_TEST

/* The shell of the job-control test: leads a session on the pty, and runs the console as a job.
 * Returns 0, or the number of the step that went wrong. */
static int shell(const Pty *p)
{
    int status;
    setsid();
    ioctl(p->slave, TIOCSCTTY, 0);
    signal(SIGTTOU, SIG_IGN);
    pid_t job = fork();
    if (job == 0) {
        setpgid(0, 0);
        tcsetpgrp(p->slave, getpid());
        signal(SIGTTOU, SIG_DFL);
        console_process(p, 0);
    }
    setpgid(job, job);
    tcsetpgrp(p->slave, job);
    if (!comes_true(is_raw, p)) {
        return 1;
    }
    for (int round = 0; round < 2; round++) {
        kill(job, SIGTSTP); /* stop: the terminal is the shell's */
        if (waitpid(job, &status, WUNTRACED) != job || !WIFSTOPPED(status)) {
            return 2;
        }
        tcsetpgrp(p->slave, getpgrp());
        if (!is_restored(p)) {
            return 3;
        }
        kill(job, SIGCONT); /* bg: it stays so */
        g_usleep(100000);
        if (waitpid(job, &status, WUNTRACED | WNOHANG) != 0 || !is_restored(p)) {
            return 4;
        }
        tcsetpgrp(p->slave, job); /* fg: it is the console's again */
        kill(job, SIGCONT);
        if (!comes_true(is_raw, p)) {
            return 5;
        }
    }
    kill(job, SIGTERM);
    if (waitpid(job, &status, 0) != job || !WIFSIGNALED(status)) {
        return 6;
    }
    tcsetpgrp(p->slave, getpgrp());
    return is_restored(p) ? 0 : 7;
}

START_TEST(job_control)
{
    Pty p = pty_open();
    pid_t pid = fork();
    if (pid == 0) {
        _exit(shell(&p));
    }
    expect_text(p.master, "ready");
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("character devices");
    TCase *t = tcase_create("char");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, pipe_input);
    tcase_add_test(t, pipe_flow_control);
    tcase_add_test(t, odd_inputs);
    tcase_add_test(t, output_is_bounded);
    tcase_add_test(t, output_without_reader);
    tcase_add_test(t, backends);
    tcase_add_test(t, escape_keys);
    tcase_add_test(t, monitor_key);
    tcase_add_test(t, unix_server);
    tcase_add_test(t, pty_line);
    tcase_add_test(t, bad_lines);
    tcase_add_test(t, host_signals);
    tcase_add_loop_test(t, restored_on_signal, 0, ARRAY_LEN(endings));
    tcase_add_test(t, restored_and_flushed_at_exit);
    tcase_add_test(t, others_handlers_stay);
    tcase_add_test(t, job_control);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
