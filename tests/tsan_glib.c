/*
 * GLib as it is installed is not built for the thread sanitizer, which therefore does not see that
 * its locks order accesses. These stand in front of GLib's own and say so. Linked into test
 * programs of builds with -Db_sanitize=thread.
 */
#include <dlfcn.h>
#include <glib.h>
#include <sanitizer/tsan_interface.h>

#define REAL(name) ((__typeof__(&name))real(&name##_real, #name))
#define DECLARE(name) static void *name##_real

DECLARE(g_mutex_lock);
DECLARE(g_mutex_trylock);
DECLARE(g_mutex_unlock);
DECLARE(g_cond_wait);
DECLARE(g_cond_wait_until);

static void *real(void **place, const char *name)
{
    void *p = __atomic_load_n(place, __ATOMIC_RELAXED);
    if (!p) {
        p = dlsym(RTLD_NEXT, name);
        __atomic_store_n(place, p, __ATOMIC_RELAXED);
    }
    return p;
}

void g_mutex_lock(GMutex *m)
{
    REAL(g_mutex_lock)(m);
    __tsan_acquire(m);
}

gboolean g_mutex_trylock(GMutex *m)
{
    gboolean got = REAL(g_mutex_trylock)(m);
    if (got) {
        __tsan_acquire(m);
    }
    return got;
}

void g_mutex_unlock(GMutex *m)
{
    __tsan_release(m);
    REAL(g_mutex_unlock)(m);
}

void g_cond_wait(GCond *c, GMutex *m)
{
    __tsan_release(m);
    REAL(g_cond_wait)(c, m);
    __tsan_acquire(m);
}

gboolean g_cond_wait_until(GCond *c, GMutex *m, gint64 end)
{
    __tsan_release(m);
    gboolean signalled = REAL(g_cond_wait_until)(c, m, end);
    __tsan_acquire(m);
    return signalled;
}
