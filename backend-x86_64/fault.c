/*
 * Host faults. Under the aliasing layout (softmmu/view.h) an access to a guest address that is not
 * canonical faults on the host. The handler looks the instruction up in its block's table of
 * accesses and goes on at that access's slow path, which raises the guest's fault. Every other
 * fault is a bug of ours and goes to whoever handled the signal before, so that it is seen.
 */
#include <signal.h>
#include <stdatomic.h>
#include <ucontext.h>

#include "backend-x86_64/compiler.h"

enum { MAX_BACKENDS = 16 };

/* Process-wide, as signal handlers are. */
static _Atomic(Backend *) backends[MAX_BACKENDS];
static struct sigaction previous_segv, previous_bus;
static GMutex install_lock;
static bool installed;

/* The code address to go on at, or 0. */
static u32 redirect(u64 address)
{
    for (unsigned i = 0; i < MAX_BACKENDS; i++) {
        const Backend *b = atomic_load(&backends[i]);
        if (!b || !b->find_block ||
            address - (u64)(uintptr_t)b->config.space.exec >= b->config.space.size) {
            continue;
        }
        u32 start, tables;
        if (!b->find_block(b->find_opaque, (u32)address, &start, &tables) || !tables) {
            return 0;
        }
        const u32 *table = (const u32 *)(uintptr_t)tables;
        const Fault *faults = (const Fault *)(table + 1);
        for (u32 n = 0; n < table[0]; n++) {
            if (start + faults[n].access == address) {
                return start + faults[n].cold;
            }
        }
        return 0;
    }
    return 0;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    const u32 target = redirect((u64)uc->uc_mcontext.gregs[REG_RIP]);
    if (target) {
        uc->uc_mcontext.gregs[REG_RIP] = target;
        return;
    }
    const struct sigaction *previous = sig == SIGBUS ? &previous_bus : &previous_segv;
    if (previous->sa_flags & SA_SIGINFO) {
        previous->sa_sigaction(sig, info, context);
    } else if (previous->sa_handler == SIG_DFL || previous->sa_handler == SIG_IGN) {
        /* Dies of the same fault when the instruction runs again. */
        signal(sig, SIG_DFL);
    } else {
        previous->sa_handler(sig);
    }
}

bool fault_register(Backend *backend, GError **err)
{
    g_mutex_lock(&install_lock);
    if (!installed) {
        struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
        sigemptyset(&action.sa_mask);
        installed = sigaction(SIGSEGV, &action, &previous_segv) == 0 &&
                    sigaction(SIGBUS, &action, &previous_bus) == 0;
    }
    const bool ok = installed;
    g_mutex_unlock(&install_lock);
    if (!ok) {
        return stag_error(err, "Cannot install the handler for host faults.");
    }
    for (unsigned i = 0; i < MAX_BACKENDS; i++) {
        Backend *none = NULL;
        if (atomic_compare_exchange_strong(&backends[i], &none, backend)) {
            return true;
        }
    }
    return stag_error(err, "Too many machines in one process.");
}

void fault_unregister(Backend *backend)
{
    for (unsigned i = 0; i < MAX_BACKENDS; i++) {
        Backend *b = backend;
        atomic_compare_exchange_strong(&backends[i], &b, NULL);
    }
}
