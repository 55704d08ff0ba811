/*
 * Properties: the `key=value,key=value` lists of -device, -drive, -netdev and the like. What takes
 * such a list states its keys in a table; from the table come parsing into a struct, defaults,
 * the text of `-device NAME,help`, and the error for a misspelt key.
 *
 * A comma within a value is written twice. Of a key that comes several times the last counts,
 * except PROP_LIST, which collects them.
 */
#ifndef STAG_DEVICES_PROPS_H
#define STAG_DEVICES_PROPS_H

#include <glib.h>
#include <stdio.h>

#include "core/base/types.h"

typedef enum PropType {
    PROP_STRING, /* char *, NULL: not given */
    PROP_LIST,   /* GPtrArray * of char *, empty: not given */
    PROP_BOOL,   /* bool: on, off, yes, no, true, false; a key without value is on */
    PROP_UINT,   /* u64: decimal or 0x..., between min and max */
    PROP_SIZE,   /* u64: bytes, with suffix K M G T, between min and max */
    PROP_ENUM,   /* unsigned: index into `choices` */
    PROP_MAC,    /* u8[6]: 52:54:00:12:34:56 */
} PropType;

typedef struct PropDesc {
    const char *name;
    PropType type;
    size_t at;                  /* offset of the value in the struct */
    const char *standard;       /* as if the user had given it; NULL: zero bytes */
    const char *help;
    u64 min, max;               /* PROP_UINT, PROP_SIZE; max 0: no limit */
    const char *const *choices; /* PROP_ENUM, NULL-terminated */
} PropDesc;

/* Fills the struct *out (the values' places are overwritten, nothing else): defaults first, then
 * `text` (NULL or "": only defaults). `what` begins the error's sentence: "-device virtio-net-pci".
 * False with a sentence; nothing is left to free then. */
bool props_parse(const PropDesc *props, unsigned count, const char *what, const char *text,
                 void *out, GError **err);
/* Frees strings and lists, and zeroes their places. */
void props_clear(const PropDesc *props, unsigned count, void *out);
/* One line each: "  name=<type>  help (default)". */
void props_print(const PropDesc *props, unsigned count, FILE *out);

/* Splits "first,rest": returns `first` (commas doubled in it are undone), *rest points behind the
 * comma or at the end. g_free. */
char *props_head(const char *text, const char **rest);
/* The value of one key in such a list, NULL if it is not there. g_free. */
char *props_find(const char *text, const char *key);

/* A size such as "512M", "1.5G", "64K" in bytes; a plain number counts `unit`s. False if it is none
 * or 0 or above 2^62. */
bool parse_size(const char *text, u64 unit, u64 *bytes);
/* on, yes, true; off, no, false. */
bool parse_switch(const char *text, bool *on);
/* The fewest insertions, deletions, replacements and swaps of neighbours that turn a into b. */
unsigned edit_distance(const char *a, const char *b);

#endif
