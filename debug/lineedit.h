/*
 * A line of input, edited on a raw terminal or by a script at the other end of a socket: printable
 * characters, Backspace, Ctrl-U, Ctrl-W, Ctrl-K, arrows, Home, End, Delete, and a history. What is
 * typed in order at the end is echoed as it is, so that a script gets back no control sequences.
 */
#ifndef STAG_DEBUG_LINEEDIT_H
#define STAG_DEBUG_LINEEDIT_H

#include <glib.h>

#include "core/base/types.h"

enum { LINE_MAX_LENGTH = 1024, LINE_MAX_HISTORY = 100 };

typedef struct LineEdit {
    const char *prompt;
    GString *line;
    gsize cursor;
    GPtrArray *history; /* char *, oldest first */
    guint browsing;     /* index into the history; its length: the new line */
    GString *kept;      /* the new line, while the history is shown */
    u8 last;            /* to take \r\n as one */
    enum { KEY_PLAIN, KEY_ESCAPE, KEY_CSI } state;
    u8 number; /* of a sequence such as ESC [ 3 ~ */
} LineEdit;

void lineedit_init(LineEdit *e, const char *prompt);
void lineedit_clear(LineEdit *e);
/* Takes a byte and appends what the terminal has to show to `echo`. Returns the line (g_free) when
 * it is complete, else NULL. */
char *lineedit_key(LineEdit *e, u8 key, GString *echo);
/* Drops what was typed so far (a client left). */
void lineedit_restart(LineEdit *e);
/* Prompt and line, as after output from elsewhere. */
void lineedit_show(LineEdit *e, GString *echo);
/* Replaces the word that ends at the cursor and has `length` characters by `word`. */
void lineedit_complete(LineEdit *e, gsize length, const char *word, GString *echo);

#endif
