/*
 * The `-d` log: one mask of categories, one output file. A category that is off costs one test of
 * a global word, which is written only while no hart runs.
 */
#ifndef STAG_CORE_BASE_LOG_H
#define STAG_CORE_BASE_LOG_H

#include <glib.h>
#include <stdio.h>

#include "core/base/types.h"

/* X(enumerator suffix, the name that -d takes, help) */
#define LOG_CATEGORIES(X)                                                                          \
    X(IN_ASM, "in_asm", "guest instructions of each translated block")                             \
    X(OP, "op", "IR of each translated block as the frontend made it")                             \
    X(OP_OPT, "op_opt", "IR of each translated block after the optimiser")                         \
    X(OUT_ASM, "out_asm", "host code of each translated block")                                    \
    X(INT, "int", "traps and interrupts taken by the guest")                                       \
    X(EXEC, "exec", "each block before it runs (slow: blocks are not linked)")                     \
    X(CPU, "cpu", "all registers before each block runs (slow: blocks are not linked)")            \
    X(GUEST_ERRORS, "guest_errors", "things that a correct guest would not do")                    \
    X(UNIMP, "unimp", "guest requests for features that Stag does not have")                       \
    X(MMU, "mmu", "page-table walks that fault, flushes")

enum {
#define X(id, name, help) LOG_BIT_##id,
    LOG_CATEGORIES(X)
#undef X
    LOG_CATEGORY_COUNT
};

enum {
#define X(id, name, help) LOG_##id = 1u << LOG_BIT_##id,
    LOG_CATEGORIES(X)
#undef X
};

extern u32 log_mask; /* LOG_* bits that are on */

static inline bool log_on(u32 categories)
{
    return unlikely((log_mask & categories) != 0);
}

/* Switches categories on from a comma-separated list of names ("help" is the caller's business).
 * False with a sentence in *err when a name is unknown. */
bool log_set_categories(const char *list, GError **err);

/* Sends the log to a file (truncated) instead of stderr. */
bool log_set_file(const char *path, GError **err);

/* Writes "name  help" lines for every category to `out`. */
void log_print_categories(FILE *out);

/* The open log file; callers that print many lines in a row hold log_lock() around them. */
FILE *log_file(void);
void log_lock(void);
void log_unlock(void);
void log_flush(void);

/* printf to the log if any of `categories` is on. Lines end in \n, written by the caller. */
#define log_printf(categories, ...)                                                                \
    do {                                                                                           \
        if (log_on(categories)) {                                                                  \
            log_write(__VA_ARGS__);                                                                \
        }                                                                                          \
    } while (0)
void log_write(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* As log_printf with LOG_GUEST_ERRORS, but rate-limited: after 100 lines per second further ones
 * are counted and summed up in one line, so that a hostile guest cannot fill a disk. */
void log_guest_error(const char *format, ...) G_GNUC_PRINTF(1, 2);

#endif
