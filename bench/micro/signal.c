// Sends itself a signal and handles it: the kernel builds a frame, the handler runs, sigreturn takes it back.
#include <signal.h>

#include "bench.h"

static volatile u64 handled;

static void on_signal(int number)
{
    handled = handled * 3 + (u64)number;
}

static void setup(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
}

static u64 run(void)
{
    for (u32 i = 0; i < 100000; i++) {
        raise(i & 1 ? SIGUSR1 : SIGUSR2);
    }
    return handled;
}
