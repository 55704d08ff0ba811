/*
 * Inside character devices: the line that one or several CharDevs stand on (char.c), as the
 * backends that open it see it (char_backends.c).
 */
#ifndef STAG_DEVICES_CHAR_LINE_H
#define STAG_DEVICES_CHAR_LINE_H

#include "devices/char.h"

enum {
    CHAR_INPUT_SIZE = 4096,     /* a terminal's own line buffer is that long */
    CHAR_OUTPUT_SIZE = 1 << 20, /* the log of a whole boot, for readers that pause */
    CHAR_MAX_ENDS = 4,          /* that share a line */
};

typedef struct Line Line;

struct CharDev {
    Line *line;

    GMutex notify_lock; /* held while notify runs; taken before the line's lock */
    void (*notify)(void *opaque);
    void *opaque;

    /* The line's lock. */
    u16 input[CHAR_INPUT_SIZE]; /* bytes and CHAR_BREAK, CHAR_OPEN, CHAR_CLOSE */
    unsigned input_head, input_count;
    bool wants_events;
    bool refused; /* was refused room for output and waits for a notification */
    bool freed;
};

struct Line {
    char *label, *about; /* for messages; set once */
    bool has_escapes;
    CharEscapes escapes;
    bool in_tty;     /* `in` is the terminal, in raw mode */
    bool comes_goes; /* other ends come and go: a socket's clients, a pty's programs */
    bool is_stdio;
    /* Main loop: the other end has gone, `in` and `out` are closed. NULL: it does not come back. */
    void (*lost)(Line *l);
    /* On the way out, main loop. */
    void (*clear)(Line *l);
    int listener; /* sockets; -1: none */
    char *unlink; /* path of a socket to remove at the end */
    int slave;    /* pty: -1, or our own end of the other side */

    GMutex lock; /* all below, and the ends' buffers */
    GCond written;
    GCond filled;

    CharDev *ends[CHAR_MAX_ENDS]; /* live as long as the line */
    unsigned end_count, focus;

    int in, out;      /* -1: none. Closed by the line, except an `in` that is not its own */
    bool owns_in;
    bool open;        /* somebody is at the other end */
    bool escape_seen; /* the escape key was the last one */
    bool at_end;      /* of the input */
    guint watch;      /* the GSource that reads `in`; 0: not reading */
    guint timer, listen_watch, size_watch;
    gint64 drain_until; /* the other end sends no more: until then it may read what is buffered */

    u8 output[CHAR_OUTPUT_SIZE];
    size_t output_head, output_count;
    u64 output_total; /* bytes written so far */
    bool writing;     /* the writer is in write() */
    bool dead;        /* nobody reads any more: drop output */
    bool closing;
    unsigned owners; /* the ends that are not freed, and the writer thread */
};

/* A line without descriptors, with one end. */
Line *line_new(const char *label, const char *about, const CharEscapes *escapes);
/* Both on the main loop's thread: descriptors arrive (the line owns `out`, and `in` if it says so)
 * and input is read; or they are closed, and `lost` is called. */
void line_connect(Line *l, int in, int out, bool owns_in);
void line_disconnect(Line *l);
/* Whether some line reads the process's standard input. */
bool line_stdio_taken(void);

#endif
