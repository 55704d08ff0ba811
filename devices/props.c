/* Parses lists of properties. See props.h. */
#include "devices/props.h"

#include <string.h>

#include "core/base/error.h"

/* ---- Values --------------------------------------------------------------------------------- */

unsigned edit_distance(const char *a, const char *b)
{
    enum { MAX = 64 };
    unsigned rows[3][MAX + 1];
    unsigned la = (unsigned)MIN(strlen(a), MAX), lb = (unsigned)MIN(strlen(b), MAX);
    for (unsigned j = 0; j <= lb; j++) {
        rows[0][j] = j;
    }
    for (unsigned i = 1; i <= la; i++) {
        unsigned *now = rows[i % 3], *before = rows[(i + 2) % 3], *before2 = rows[(i + 1) % 3];
        now[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned replaced = before[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = MIN(replaced, MIN(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                now[j] = MIN(now[j], before2[j - 2] + 1);
            }
        }
    }
    return rows[la % 3][lb];
}

bool parse_size(const char *text, u64 unit, u64 *bytes)
{
    static const char suffixes[] = "BKMGTPE";
    size_t digits = strspn(text, "0123456789.");
    g_autofree char *head = g_strndup(text, digits);
    char *end;
    double number = g_ascii_strtod(head, &end);
    if (!g_ascii_isdigit(text[0]) || *end) {
        return false;
    }
    if (text[digits]) {
        const char *suffix = strchr(suffixes, g_ascii_toupper(text[digits]));
        if (!suffix || text[digits + 1]) {
            return false;
        }
        unit = (u64)1 << (10 * (suffix - suffixes));
    }
    number *= (double)unit;
    if (!(number >= 1 && number <= (double)((u64)1 << 62))) {
        return false;
    }
    *bytes = (u64)number;
    return true;
}

bool parse_switch(const char *text, bool *on)
{
    *on = strcmp(text, "on") == 0 || strcmp(text, "yes") == 0 || strcmp(text, "true") == 0;
    return *on || strcmp(text, "off") == 0 || strcmp(text, "no") == 0 || strcmp(text, "false") == 0;
}

static bool parse_uint(const char *text, u64 *value)
{
    char *end;
    const unsigned base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    const char *digits = text + (base == 16 ? 2 : 0);
    *value = g_ascii_strtoull(digits, &end, base);
    return g_ascii_isxdigit(digits[0]) && g_ascii_tolower(digits[1]) != 'x' && end != digits && !*end &&
           (*value != G_MAXUINT64 || strcmp(text, "18446744073709551615") == 0);
}

static bool parse_mac(const char *text, u8 mac[6])
{
    for (unsigned i = 0; i < 6; i++) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) ||
            text[2] != (i < 5 ? ':' : '\0')) {
            return false;
        }
        mac[i] = (u8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        text += 3;
    }
    return true;
}

static const char *type_text(const PropDesc *p)
{
    static const char *const names[] = {
        [PROP_STRING] = "text",   [PROP_LIST] = "text, may be repeated",
        [PROP_BOOL] = "on|off",   [PROP_UINT] = "number",
        [PROP_SIZE] = "size",     [PROP_ENUM] = "",
        [PROP_MAC] = "xx:xx:xx:xx:xx:xx",
    };
    return names[p->type];
}

/* What the user may write, for messages. g_free. */
static char *expectation(const PropDesc *p)
{
    if (p->type == PROP_ENUM) {
        return g_strjoinv("|", (char **)p->choices);
    }
    if ((p->type == PROP_UINT || p->type == PROP_SIZE) && p->max) {
        return g_strdup_printf("%s from %" G_GUINT64_FORMAT " to %" G_GUINT64_FORMAT, type_text(p),
                               p->min, p->max);
    }
    return g_strdup(type_text(p));
}

/* `value` NULL: the key stood alone. */
static bool set_value(const PropDesc *p, const char *value, void *out)
{
    void *at = (char *)out + p->at;
    u64 number;
    if (!value) {
        if (p->type == PROP_BOOL) {
            *(bool *)at = true;
        }
        return p->type == PROP_BOOL;
    }
    switch (p->type) {
    case PROP_STRING:
        g_free(*(char **)at);
        *(char **)at = g_strdup(value);
        return true;
    case PROP_LIST:
        g_ptr_array_add(*(GPtrArray **)at, g_strdup(value));
        return true;
    case PROP_BOOL:
        return parse_switch(value, at);
    case PROP_UINT:
    case PROP_SIZE:
        if (!(p->type == PROP_SIZE ? parse_size(value, 1, &number) : parse_uint(value, &number)) ||
            number < p->min || (p->max && number > p->max)) {
            return false;
        }
        *(u64 *)at = number;
        return true;
    case PROP_ENUM:
        for (unsigned i = 0; p->choices[i]; i++) {
            if (strcmp(value, p->choices[i]) == 0) {
                *(unsigned *)at = i;
                return true;
            }
        }
        return false;
    case PROP_MAC:
        return parse_mac(value, at);
    }
    return false;
}

static void set_zero(const PropDesc *p, void *out)
{
    static const size_t sizes[] = {
        [PROP_STRING] = sizeof(char *), [PROP_LIST] = sizeof(GPtrArray *),
        [PROP_BOOL] = sizeof(bool),     [PROP_UINT] = sizeof(u64),
        [PROP_SIZE] = sizeof(u64),      [PROP_ENUM] = sizeof(unsigned),
        [PROP_MAC] = 6,
    };
    memset((char *)out + p->at, 0, sizes[p->type]);
}

/* ---- Lists ---------------------------------------------------------------------------------- */

char *props_head(const char *text, const char **rest)
{
    GString *head = g_string_new(NULL);
    for (; *text && !(text[0] == ',' && text[1] != ','); text++) {
        text += text[0] == ',';
        g_string_append_c(head, *text);
    }
    *rest = *text ? text + 1 : text;
    return g_string_free(head, FALSE);
}

char *props_find(const char *text, const char *key)
{
    char *found = NULL;
    while (*text) {
        g_autofree char *item = props_head(text, &text);
        char *equals = strchr(item, '=');
        if (equals && strncmp(item, key, (size_t)(equals - item)) == 0 &&
            key[equals - item] == '\0') {
            g_free(found);
            found = g_strdup(equals + 1);
        }
    }
    return found;
}

static bool unknown_key(const PropDesc *props, unsigned count, const char *what, const char *key,
                        GError **err)
{
    const PropDesc *best = NULL;
    for (unsigned i = 0; i < count; i++) {
        if (!best || edit_distance(key, props[i].name) < edit_distance(key, best->name)) {
            best = &props[i];
        }
    }
    return best ? stag_error(err, "%s: there is no property '%.60s'; the nearest is '%s'", what,
                             key, best->name)
                : stag_error(err, "%s: takes no properties, so not '%.60s'", what, key);
}

bool props_parse(const PropDesc *props, unsigned count, const char *what, const char *text,
                 void *out, GError **err)
{
    for (unsigned i = 0; i < count; i++) {
        set_zero(&props[i], out);
        if (props[i].type == PROP_LIST) {
            *(GPtrArray **)((char *)out + props[i].at) = g_ptr_array_new_with_free_func(g_free);
        }
        if (props[i].standard) {
            const bool ok = set_value(&props[i], props[i].standard, out);
            g_assert(ok);
        }
    }
    while (text && *text) {
        g_autofree char *item = props_head(text, &text);
        char *value = strchr(item, '=');
        if (value) {
            *value++ = '\0';
        }
        const PropDesc *p = NULL;
        for (unsigned i = 0; i < count && !p; i++) {
            p = strcmp(props[i].name, item) == 0 ? &props[i] : NULL;
        }
        if (!p || !set_value(p, value, out)) {
            if (!p) {
                unknown_key(props, count, what, item, err);
            } else {
                g_autofree char *expected = expectation(p);
                stag_error(err, "%s: %s=%.60s: it takes %s", what, item, value ? value : "",
                           expected);
            }
            props_clear(props, count, out);
            return false;
        }
    }
    return true;
}

void props_clear(const PropDesc *props, unsigned count, void *out)
{
    for (unsigned i = 0; i < count; i++) {
        void *at = (char *)out + props[i].at;
        if (props[i].type == PROP_STRING) {
            g_clear_pointer((char **)at, g_free);
        } else if (props[i].type == PROP_LIST && *(GPtrArray **)at) {
            g_ptr_array_unref(*(GPtrArray **)at);
            *(GPtrArray **)at = NULL;
        }
    }
}

void props_print(const PropDesc *props, unsigned count, FILE *out)
{
    for (unsigned i = 0; i < count; i++) {
        const PropDesc *p = &props[i];
        g_autofree char *expected = expectation(p);
        g_autofree char *left = g_strdup_printf("%s=<%s>", p->name, expected);
        fprintf(out, "  %-34s %s", left, p->help);
        fprintf(out, p->standard ? " (default: %s)\n" : "\n", p->standard);
    }
}
