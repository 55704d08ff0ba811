/* The raw mode of the terminal that Stag runs in. See terminal.h. */
#include "devices/terminal.h"

#include <errno.h>
#include <glib.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

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

bool console_start(int fd, bool signals)
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

void console_stop(void)
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
