/*
 * The monitor: a command line to the machine itself, on the terminal (Ctrl-A c), a socket or a
 * character device. It runs on the main loop's thread, which no hart waits for; harts pause while a
 * command looks at them. Output goes into the line's buffer, and a client that does not read only
 * keeps its own next command waiting.
 */
#ifndef STAG_DEBUG_MONITOR_H
#define STAG_DEBUG_MONITOR_H

#include <glib.h>

#include "machine/machine.h"

typedef struct Monitors Monitors;

/* One on each line that the machine has for it. `version` is for its greeting; it stays the
 * caller's. */
Monitors *monitors_new(Machine *machine, const char *version);
void monitors_free(Monitors *m); /* before the machine */

#endif
