/* Line editing. See lineedit.h. */
#include "debug/lineedit.h"

#include <string.h>

void lineedit_init(LineEdit *e, const char *prompt)
{
    *e = (LineEdit){
        .prompt = prompt,
        .line = g_string_new(NULL),
        .kept = g_string_new(NULL),
        .history = g_ptr_array_new_with_free_func(g_free),
    };
}

void lineedit_clear(LineEdit *e)
{
    g_string_free(e->line, TRUE);
    g_string_free(e->kept, TRUE);
    g_ptr_array_unref(e->history);
}

void lineedit_restart(LineEdit *e)
{
    g_string_truncate(e->line, 0);
    e->cursor = 0;
    e->browsing = e->history->len;
    e->state = KEY_PLAIN;
    e->last = 0;
}

/* Puts the terminal's cursor where it belongs, coming from the end of the line. */
static void back_to_cursor(const LineEdit *e, GString *echo)
{
    if (e->line->len > e->cursor) {
        g_string_append_printf(echo, "\033[%uD", (unsigned)(e->line->len - e->cursor));
    }
}

void lineedit_show(LineEdit *e, GString *echo)
{
    g_string_append_printf(echo, "%s%s", e->prompt, e->line->str);
    back_to_cursor(e, echo);
}

static void redraw(LineEdit *e, GString *echo)
{
    g_string_append_printf(echo, "\r%s%s\033[K", e->prompt, e->line->str);
    back_to_cursor(e, echo);
}

static void insert(LineEdit *e, u8 key, GString *echo)
{
    if (e->line->len >= LINE_MAX_LENGTH) {
        g_string_append_c(echo, '\a');
        return;
    }
    g_string_insert_c(e->line, (gssize)e->cursor++, (char)key);
    if (e->cursor == e->line->len) {
        g_string_append_c(echo, (char)key);
    } else {
        redraw(e, echo);
    }
}

/* Erases the characters from `start` to `end`; the cursor is in between or at `end`. */
static void erase(LineEdit *e, gsize start, gsize end, GString *echo)
{
    bool last = start + 1 == end && end == e->line->len && e->cursor == end;
    g_string_erase(e->line, (gssize)start, (gssize)(end - start));
    e->cursor = start;
    if (last) {
        g_string_append(echo, "\b \b");
    } else if (end > start) {
        redraw(e, echo);
    }
}

static gsize word_start(const LineEdit *e)
{
    gsize i = e->cursor;
    while (i > 0 && e->line->str[i - 1] == ' ') {
        i--;
    }
    while (i > 0 && e->line->str[i - 1] != ' ') {
        i--;
    }
    return i;
}

static void browse(LineEdit *e, int step, GString *echo)
{
    if ((step < 0 && e->browsing == 0) || (step > 0 && e->browsing >= e->history->len)) {
        return;
    }
    if (e->browsing == e->history->len) {
        g_string_assign(e->kept, e->line->str);
    }
    e->browsing += (guint)step;
    g_string_assign(e->line, e->browsing < e->history->len ? e->history->pdata[e->browsing]
                                                           : e->kept->str);
    e->cursor = e->line->len;
    redraw(e, echo);
}

static void move(LineEdit *e, gsize to, GString *echo)
{
    if (to <= e->line->len && to != e->cursor) {
        e->cursor = to;
        redraw(e, echo);
    }
}

/* The last byte of ESC [ ... or ESC O .... */
static void sequence(LineEdit *e, u8 key, GString *echo)
{
    if (key == 'A') {
        browse(e, -1, echo);
    } else if (key == 'B') {
        browse(e, 1, echo);
    } else if (key == 'C') {
        move(e, e->cursor + 1, echo);
    } else if (key == 'D') {
        move(e, e->cursor - 1, echo); /* wraps at 0, which is beyond the end */
    } else if (key == 'H' || (key == '~' && (e->number == 1 || e->number == 7))) {
        move(e, 0, echo);
    } else if (key == 'F' || (key == '~' && (e->number == 4 || e->number == 8))) {
        move(e, e->line->len, echo);
    } else if (key == '~' && e->number == 3 && e->cursor < e->line->len) {
        erase(e, e->cursor, e->cursor + 1, echo);
    }
}

static char *complete(LineEdit *e, GString *echo)
{
    char *line = g_strdup(e->line->str);
    guint n = e->history->len;
    g_string_append(echo, "\n");
    if (line[0] && (n == 0 || strcmp(e->history->pdata[n - 1], line) != 0)) {
        if (n == LINE_MAX_HISTORY) {
            g_ptr_array_remove_index(e->history, 0);
        }
        g_ptr_array_add(e->history, g_strdup(line));
    }
    lineedit_restart(e);
    return line;
}

enum { CTRL_A = 1, CTRL_B, CTRL_C, CTRL_D, CTRL_E, CTRL_F, CTRL_K = 11, CTRL_L, CTRL_N = 14 };
enum { CTRL_P = 16, CTRL_U = 21, CTRL_W = 23, ESCAPE = 27 };

char *lineedit_key(LineEdit *e, u8 key, GString *echo)
{
    u8 last = e->last;
    e->last = key;
    if (e->state == KEY_ESCAPE) {
        e->state = key == '[' || key == 'O' ? KEY_CSI : KEY_PLAIN;
        e->number = 0;
        return NULL;
    }
    if (e->state == KEY_CSI) {
        if (key >= '0' && key <= '9') {
            e->number = (u8)(e->number * 10 + key - '0');
        } else if (key >= 0x40) {
            e->state = KEY_PLAIN;
            sequence(e, key, echo);
        }
        return NULL;
    }
    switch (key) {
    case '\n':
        if (last == '\r') {
            return NULL;
        }
        /* fall through */
    case '\r': {
        char *line = complete(e, echo);
        e->last = key;
        return line;
    }
    case '\b':
    case 127:
        if (e->cursor > 0) {
            erase(e, e->cursor - 1, e->cursor, echo);
        }
        break;
    case CTRL_A:
        move(e, 0, echo);
        break;
    case CTRL_E:
        move(e, e->line->len, echo);
        break;
    case CTRL_B:
        sequence(e, 'D', echo);
        break;
    case CTRL_F:
        sequence(e, 'C', echo);
        break;
    case CTRL_C:
    case CTRL_U:
        erase(e, 0, e->cursor, echo);
        break;
    case CTRL_D:
        if (e->cursor < e->line->len) {
            erase(e, e->cursor, e->cursor + 1, echo);
        }
        break;
    case CTRL_K:
        erase(e, e->cursor, e->line->len, echo);
        break;
    case CTRL_L:
        g_string_append(echo, "\033[H\033[J");
        redraw(e, echo);
        break;
    case CTRL_N:
        browse(e, 1, echo);
        break;
    case CTRL_P:
        browse(e, -1, echo);
        break;
    case CTRL_W:
        erase(e, word_start(e), e->cursor, echo);
        break;
    case ESCAPE:
        e->state = KEY_ESCAPE;
        break;
    default:
        if (key >= ' ' && key < 127) {
            insert(e, key, echo);
        }
    }
    return NULL;
}

void lineedit_complete(LineEdit *e, gsize length, const char *word, GString *echo)
{
    g_string_erase(e->line, (gssize)(e->cursor - length), (gssize)length);
    g_string_insert(e->line, (gssize)(e->cursor - length), word);
    e->cursor += strlen(word) - length;
    redraw(e, echo);
}
