/* The `-d` log's state: the mask, the file and the rate limit for guest errors. See log.h. */
#include "core/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "core/base/error.h"

u32 log_mask;

static FILE *file;
static GRecMutex lock;

static const struct {
    const char *name, *help;
} categories[] = {
#define X(id, name, help) {name, help},
    LOG_CATEGORIES(X)
#undef X
};

FILE *log_file(void)
{
    return file ? file : stderr;
}

void log_lock(void)
{
    g_rec_mutex_lock(&lock);
}

void log_unlock(void)
{
    g_rec_mutex_unlock(&lock);
}

void log_flush(void)
{
    fflush(log_file());
}

bool log_set_categories(const char *list, GError **err)
{
    g_auto(GStrv) names = g_strsplit(list, ",", -1);
    for (char **n = names; *n; n++) {
        unsigned i;
        for (i = 0; i < ARRAY_LEN(categories) && strcmp(*n, categories[i].name) != 0; i++) {
        }
        if (i == ARRAY_LEN(categories)) {
            return stag_error(err, "-d: there is no log category '%s' (-d help lists them)", *n);
        }
        log_mask |= 1u << i;
    }
    return true;
}

bool log_set_file(const char *path, GError **err)
{
    FILE *f = fopen(path, "w");
    if (!f) {
        return stag_error(err, "-D: cannot write '%s': %s", path, strerror(errno));
    }
    setvbuf(f, NULL, _IOFBF, 1 << 16);
    if (file) {
        fclose(file);
    }
    file = f;
    return true;
}

void log_print_categories(FILE *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(categories); i++) {
        fprintf(out, "%-14s %s\n", categories[i].name, categories[i].help);
    }
}

void log_write(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    log_lock();
    vfprintf(log_file(), format, args);
    log_unlock();
    va_end(args);
}

void log_guest_error(const char *format, ...)
{
    enum { LINES_PER_SECOND = 100 };
    static gint64 second;
    static unsigned written, dropped;

    if (!log_on(LOG_GUEST_ERRORS)) {
        return;
    }
    log_lock();
    gint64 now = g_get_monotonic_time() / G_USEC_PER_SEC;
    if (now != second) {
        if (dropped) {
            fprintf(log_file(), "(%u more guest errors in that second)\n", dropped);
        }
        second = now;
        written = dropped = 0;
    }
    if (written < LINES_PER_SECOND) {
        va_list args;
        va_start(args, format);
        vfprintf(log_file(), format, args);
        va_end(args);
        written++;
    } else {
        dropped++;
    }
    log_unlock();
}
