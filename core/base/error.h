/*
 * Errors that a user can cause come back as a GError of this one domain, with one sentence that
 * says what is wrong and, where it helps, what to do. Nobody switches on the code.
 */
#ifndef STAG_CORE_BASE_ERROR_H
#define STAG_CORE_BASE_ERROR_H

#include <glib.h>

#define STAG_ERROR (g_quark_from_static_string("stag"))

/* Sets *err (if err is not NULL) to a sentence without a final newline. Always returns false, so
 * that callers can write `return stag_error(err, ...)`. */
#define stag_error(err, ...) (g_set_error((err), STAG_ERROR, 1, __VA_ARGS__), false)

#endif
