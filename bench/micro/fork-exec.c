// Starts a small static program (this one), waits for it, and starts the next one: what a shell or make does.
#include <sys/wait.h>

#include "bench.h"

static void setup(void)
{
    // A child that only gives a status back.
    const char *status = getenv("FORK_EXEC_STATUS");
    if (status) {
        _exit(atoi(status));
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 i = 0; i < 400; i++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            char text[] = "FORK_EXEC_STATUS=00";
            text[sizeof text - 3] += i / 10 % 10;
            text[sizeof text - 2] += i % 10;
            execle("/proc/self/exe", "fork-exec", NULL, (char *[]){text, NULL});
            _exit(127);
        }
        if (waitpid(child, &status, 0) == child && WIFEXITED(status)) {
            sum = sum * 3 + (u64)WEXITSTATUS(status);
        }
    }
    return sum;
}
