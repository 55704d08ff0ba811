/*
 * The terminal that Stag runs in. It is put in raw mode while a console is open and restored on
 * every way out of the process: exit, signals that end it, crashes, and while it is stopped.
 * Terminal state belongs to the process, so this is the one place where it is kept.
 */
#ifndef STAG_DEVICES_TERMINAL_H
#define STAG_DEVICES_TERMINAL_H

#include "core/base/types.h"

/* Raw mode from now on; `signals` leaves Ctrl-C and the like to the host. False, with nothing
 * changed, if `fd` is no terminal or a console is open. */
bool console_start(int fd, bool signals);
void console_stop(void);

/* Puts the terminal back as it was. Async-signal-safe; harmless if there is nothing to restore.
 * Exit, SIGTERM, SIGINT, SIGHUP, SIGQUIT and SIGABRT, and the fault signals where nobody else
 * handled them when the console was opened, do this by themselves; a handler for fault signals
 * calls it before it lets the process die. */
void console_restore(void);

#endif
