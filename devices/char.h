/*
 * A CharDev is a device's end of a serial line. The host's end is the terminal that Stag runs in,
 * a file, a pseudo-terminal, a socket, or nothing.
 *
 * The device pulls and pushes bytes at its own pace. Input is read by the process's main loop into
 * a bounded buffer, from which the device takes what it has room for; when the buffer is full, a
 * pipe or socket is left unread until there is room (a terminal is always read, so that the escape
 * keys keep working; what doesn't fit is lost, as on a real line). Output goes into a bounded
 * buffer that a thread of its own writes out, so that a slow or stopped reader never blocks a hart:
 * the device sees that nothing more is accepted, and is told when there is room again.
 *
 * Several CharDevs can share one line: each has its own input buffer, and the keys go to the one
 * that is in focus. Ctrl-A c moves the focus to the next. So the serial port and the monitor share
 * a terminal.
 *
 *   device -- CharDev --+
 *                       +-- line -- descriptor (and the thread that writes to it)
 *   monitor - CharDev --+
 */
#ifndef STAG_DEVICES_CHAR_H
#define STAG_DEVICES_CHAR_H

#include <glib.h>
#include <stdio.h>

#include "core/base/types.h"

typedef struct CharDev CharDev;

enum {
    CHAR_NONE = -1,   /* char_get: no input at the moment */
    CHAR_BREAK = 256, /* char_get: a break condition on the line */
    CHAR_OPEN,        /* char_get after char_want_events: a client has come, or the focus has */
    CHAR_CLOSE,       /* ...: they have gone */
};

/* What the escape keys ask for. Callbacks run on the main loop; one that is NULL does not exist. */
typedef struct CharEscapes {
    void (*quit)(void *opaque); /* Ctrl-A x */
    void *opaque;
} CharEscapes;

/* Opens a line by its name on the command line, as -serial takes it:
 *   stdio                               the terminal; Ctrl-C and Ctrl-Z act on Stag
 *   null, none                          output is dropped, no input
 *   file:PATH                           output to a file, which is truncated; no input
 *   pty                                 a new pseudo-terminal, whose name goes to stderr
 *   unix:PATH[,server][,nowait]         a socket: connects, or waits for clients, one at a time
 *   tcp:HOST:PORT[,server][,nowait]
 * "mon:" in front, as `mux=on` behind, makes Ctrl-A the escape key, with Ctrl-C the guest's.
 * `escapes` is copied and may be NULL; `label` names the line in messages. NULL with a sentence in
 * *err if that fails. Waits for a client if it is a server without wait=off. */
CharDev *char_new(const char *spec, const char *label, const CharEscapes *escapes, GError **err);
/* As -chardev takes it: BACKEND,id=ID[,mux=on][,...]. The id is its label. */
CharDev *char_new_chardev(const char *text, const CharEscapes *escapes, GError **err);
/* Whether both would take the text; opens nothing. */
bool char_check(const char *spec, GError **err);
bool char_check_chardev(const char *text, GError **err);
/* The text of -chardev help. */
void char_print_backends(FILE *out);

/* A line on two open descriptors, either may be -1. They stay the caller's, who keeps `in` open
 * until char_free. With `escapes` Ctrl-A is the escape key. If `in` is a terminal it is in raw mode
 * from now on; `signals` leaves Ctrl-C and the like to the host. One terminal at a time. */
CharDev *char_new_fds(int in, int out, const CharEscapes *escapes, bool signals);

/* Another end of the same line. The first one has the focus. Both are freed one by one. */
CharDev *char_share(CharDev *c);
/* Gives it the keys. */
void char_focus(CharDev *c);

/* Writes out what is buffered (as char_flush) and frees; the last of a line closes it and restores
 * the terminal. Main loop's thread. */
void char_free(CharDev *c);

/* The device's end. `notify` is called, from the main loop or the output thread and without locks
 * held, when input has arrived, room for output has come back or the terminal's size has changed;
 * NULL disconnects and waits for a running call to end. */
void char_connect(CharDev *c, void (*notify)(void *opaque), void *opaque);
/* char_get gives CHAR_OPEN and CHAR_CLOSE, too; a CHAR_OPEN at once if it is open. */
void char_want_events(CharDev *c);

/* Any thread. The next byte of input, CHAR_BREAK or CHAR_NONE. `c` may be NULL. */
int char_get(CharDev *c);
/* Any thread. Takes up to n bytes and returns how many it took; if fewer than n, notify will be
 * called. Never blocks. A NULL `c` takes all; so does a line whose other end is not there. */
size_t char_write(CharDev *c, const void *data, size_t n);

/* Waits until the output so far has been written, but gives up on a reader that takes nothing for
 * a second. */
void char_flush(CharDev *c);

/* Any thread. The terminal's columns and rows; false if it has none. */
bool char_get_size(CharDev *c, u16 *columns, u16 *rows);
/* Whether somebody is at the other end. */
bool char_is_open(CharDev *c);
/* "serial0: unix:/x,server (connected)"; g_free. */
char *char_describe(CharDev *c);

#endif
