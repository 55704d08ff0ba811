/* The monitor's commands: one table, from which come help, unique prefixes and the suggestion for a
 * misspelt name. */
#ifndef STAG_DEBUG_COMMANDS_H
#define STAG_DEBUG_COMMANDS_H

#include <glib.h>

#include "machine/machine.h"

/* What one monitor remembers between commands. */
typedef struct Session {
    Machine *machine;
    const char *version;
    unsigned hart;        /* that commands look at */
    char format;          /* of x, xp and p */
    unsigned format_size; /* bytes */
    bool ended;           /* there was a `quit`: no further prompt */
} Session;

void session_init(Session *s, Machine *machine, const char *version);

/* Carries a line out and appends what there is to say, whole lines, to `out`. */
void command_run(Session *s, const char *line, GString *out);
/* The names that the last word of `line` can become (of commands, or of `info`'s subjects);
 * NULL-terminated, g_free, the names are static. *length: of the word so far. */
const char **command_complete(const char *line, gsize *length);

#endif
