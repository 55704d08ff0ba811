/*
 * Threads of host ends (disks, networks, the console's output): they take no signals. Handlers run
 * on threads that expect them, and what a write runs into (a peer that has gone, a limit on the size
 * of files) is an error from write().
 */
#ifndef STAG_CORE_BASE_THREAD_H
#define STAG_CORE_BASE_THREAD_H

#include <glib.h>
#include <signal.h>

/* As g_thread_new: join or unref it. */
static inline GThread *thread_without_signals(const char *name, GThreadFunc fn, gpointer opaque)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    GThread *thread = g_thread_new(name, fn, opaque);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return thread;
}

#endif
