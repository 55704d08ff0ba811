/*
 * Errors that a user can cause come back as a GError of this one domain, with one sentence that
 * says what is wrong and, where it helps, what to do. Nobody switches on the code.
 */
#ifndef STAG_CORE_BASE_ERROR_H
#define STAG_CORE_BASE_ERROR_H

#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>

#define STAG_ERROR (g_quark_from_static_string("stag"))

/* Sets *err (if err is not NULL) to a sentence without a final newline. Always returns false, so
 * that callers can write `return stag_error(err, ...)`. */
static inline G_GNUC_PRINTF(2, 3) bool stag_error(GError **err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (err) {
        *err = g_error_new_valist(STAG_ERROR, 1, format, args);
    }
    va_end(args);
    return false;
}

#endif
