/*
 * A CharDev is the host's end of a serial line: the terminal that Stag runs in, a file, or
 * nothing.
 *
 * The device pulls and pushes bytes at its own pace. Input is read by the process's main loop into
 * a bounded buffer, from which the device takes what it has room for; when the buffer is full, a
 * pipe is left unread until there is room (a terminal is always read, so that the escape keys keep
 * working; what doesn't fit is lost, as on a real line). Output goes into a bounded buffer that a
 * thread of its own writes out, so that a slow or stopped reader never blocks a hart: the device
 * sees that nothing more is accepted, and is told when there is room again.
 *
 * The terminal is put in raw mode while a console is open and restored on every way out of the
 * process: exit, signals that end it, crashes, and while it is stopped. Terminal state belongs to
 * the process, so this is the one place where it is kept.
 */
#ifndef STAG_DEVICES_CHAR_H
#define STAG_DEVICES_CHAR_H

#include <glib.h>

#include "core/base/types.h"

typedef struct CharDev CharDev;

enum {
    CHAR_NONE = -1,   /* char_get: no input at the moment */
    CHAR_BREAK = 256, /* char_get: a break condition on the line */
};

/* What the escape keys ask for. Callbacks run on the main loop; one that is NULL does not exist. */
typedef struct CharEscapes {
    void (*quit)(void *opaque);    /* Ctrl-A x */
    void (*monitor)(void *opaque); /* Ctrl-A c; without it a line says that there is no monitor */
    void *opaque;
} CharEscapes;

/* Opens a backend by its name on the command line:
 *   mon:stdio     the terminal, with escape keys
 *   stdio         the terminal without them; Ctrl-C and Ctrl-Z act on Stag
 *   null, none    output is dropped, no input
 *   file:PATH     output to a file, which is truncated; no input
 * `escapes` is copied (mon:stdio only; may be NULL). NULL with a sentence in *err if that fails. */
CharDev *char_new(const char *spec, const CharEscapes *escapes, GError **err);

/* A console on two open descriptors, either may be -1. They stay the caller's,
 * who keeps `in` open until char_free. With `escapes`
 * Ctrl-A is the escape key. If `in` is a terminal it is in raw mode from now on; `signals` leaves
 * Ctrl-C and the like to the host. One terminal at a time. */
CharDev *char_new_fds(int in, int out, const CharEscapes *escapes, bool signals);

/* Writes out what is buffered (as char_flush), restores the terminal and frees. Main loop's
 * thread. */
void char_free(CharDev *c);

/* The device's end. `notify` is called, from the main loop or the output thread and without locks
 * held, when input has arrived or room for output has come back; NULL disconnects and waits for a
 * running call to end. */
void char_connect(CharDev *c, void (*notify)(void *opaque), void *opaque);

/* Any thread. The next byte of input, CHAR_BREAK or CHAR_NONE. `c` may be NULL. */
int char_get(CharDev *c);
/* Any thread. Takes up to n bytes and returns how many it took; if fewer than n, notify will be
 * called. Never blocks. A NULL `c` takes all. */
size_t char_write(CharDev *c, const void *data, size_t n);

/* Waits until the output so far has been written, but gives up on a reader that takes nothing for
 * a second. */
void char_flush(CharDev *c);

/* Puts the terminal back as it was. Async-signal-safe; harmless if there is nothing to restore.
 * Exit, SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGABRT, and the fault signals where nobody else
 * handled them when the console was opened, do this by themselves; a handler for fault signals
 * calls it before it lets the process die. */
void console_restore(void);

#endif
