/* Monitors on their lines: input to the line editor, lines to commands, output back. See monitor.h.
 */
#include "debug/monitor.h"

#include <string.h>

#include "debug/commands.h"
#include "debug/lineedit.h"
#include "machine/internal.h"

typedef struct Monitor {
    CharDev *chr;
    Session session;
    LineEdit edit;
    GString *output; /* that the line has not taken yet; while there is some, input waits */
    bool greeted, pumping;
    GThread *main_thread;
    _Atomic bool scheduled;
    GSource *source;
} Monitor;

struct Monitors {
    GPtrArray *list;
};

/* As terminals want it. */
static void say(Monitor *m, const char *text)
{
    for (; *text; text++) {
        if (*text == '\n') {
            g_string_append_c(m->output, '\r');
        }
        g_string_append_c(m->output, *text);
    }
}

static bool flush(Monitor *m)
{
    gsize done = char_write(m->chr, m->output->str, m->output->len);
    g_string_erase(m->output, 0, (gssize)done);
    return m->output->len == 0;
}

static void complete(Monitor *m, GString *echo)
{
    gsize length;
    g_autofree char *line = g_strndup(m->edit.line->str, m->edit.cursor);
    g_autofree const char **names = command_complete(line, &length);
    if (!names[0]) {
        return;
    }
    if (!names[1]) {
        g_autofree char *word = g_strconcat(names[0], " ", NULL);
        lineedit_complete(&m->edit, length, word, echo);
        return;
    }
    g_string_append(echo, "\n");
    for (const char **n = names; *n; n++) {
        g_string_append_printf(echo, "%s%s", *n, n[1] ? "  " : "\n");
    }
    lineedit_show(&m->edit, echo);
}

static void on_open(Monitor *m, GString *echo)
{
    if (!m->greeted) {
        m->greeted = true;
        g_string_append_printf(echo, "Stag %s monitor - type 'help' for more information",
                               m->session.version);
    }
    g_string_append_c(echo, '\n');
    lineedit_show(&m->edit, echo);
}

static void on_key(Monitor *m, int key)
{
    g_autoptr(GString) echo = g_string_new(NULL);
    if (key == CHAR_OPEN) {
        on_open(m, echo);
    } else if (key == CHAR_CLOSE) {
        m->greeted = char_is_open(m->chr); /* else the next client is another one */
        lineedit_restart(&m->edit);
    } else if (key == '\t') {
        complete(m, echo);
    } else if (key < CHAR_BREAK) {
        g_autofree char *line = lineedit_key(&m->edit, (u8)key, echo);
        if (line) {
            command_run(&m->session, line, echo);
            if (!m->session.ended) {
                lineedit_show(&m->edit, echo);
            }
        }
    }
    say(m, echo->str);
}

/* Main loop's thread. */
static void pump(Monitor *m)
{
    int key;
    if (m->pumping) { /* a command wrote to this line */
        return;
    }
    m->pumping = true;
    while (flush(m) && (key = char_get(m->chr)) != CHAR_NONE) {
        /* What a client that has gone asked for and did not wait for is not done. */
        if (key >= CHAR_BREAK || char_is_open(m->chr)) {
            on_key(m, key);
        }
    }
    m->pumping = false;
}

static gboolean pump_later(gpointer opaque)
{
    Monitor *m = opaque;
    m->scheduled = false;
    pump(m);
    return G_SOURCE_CONTINUE;
}

static gboolean source_ready(GSource *source G_GNUC_UNUSED)
{
    return FALSE;
}

static gboolean source_dispatch(GSource *source, GSourceFunc callback, gpointer opaque)
{
    g_source_set_ready_time(source, -1);
    return callback(opaque);
}

/* From the main loop, or from the line's own thread when it has room again. */
static void on_notify(void *opaque)
{
    Monitor *m = opaque;
    if (g_thread_self() == m->main_thread) {
        pump(m);
    } else if (!atomic_exchange(&m->scheduled, true)) {
        g_source_set_ready_time(m->source, 0);
    }
}

static Monitor *monitor_new(Machine *machine, CharDev *chr, const char *version)
{
    static GSourceFuncs funcs = {.check = source_ready, .dispatch = source_dispatch};
    Monitor *m = g_new0(Monitor, 1);
    m->chr = chr;
    m->output = g_string_new(NULL);
    m->main_thread = g_thread_self();
    session_init(&m->session, machine, version);
    lineedit_init(&m->edit, "(stag) ");
    m->source = g_source_new(&funcs, sizeof(GSource));
    g_source_set_callback(m->source, pump_later, m, NULL);
    g_source_attach(m->source, NULL);
    char_connect(chr, on_notify, m);
    char_want_events(chr);
    pump(m);
    return m;
}

static void monitor_free(gpointer opaque)
{
    Monitor *m = opaque;
    char_connect(m->chr, NULL, NULL);
    g_source_destroy(m->source);
    g_source_unref(m->source);
    flush(m);
    lineedit_clear(&m->edit);
    g_string_free(m->output, TRUE);
    g_free(m);
}

Monitors *monitors_new(Machine *machine, const char *version)
{
    Monitors *all = g_new0(Monitors, 1);
    all->list = g_ptr_array_new_with_free_func(monitor_free);
    const GPtrArray *lines = machine->peripherals ? peripherals_monitors(machine->peripherals) : NULL;
    for (unsigned i = 0; lines && i < lines->len; i++) {
        g_ptr_array_add(all->list, monitor_new(machine, lines->pdata[i], version));
    }
    return all;
}

void monitors_free(Monitors *all)
{
    if (all) {
        g_ptr_array_unref(all->list);
        g_free(all);
    }
}
