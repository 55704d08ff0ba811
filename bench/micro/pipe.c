// Two processes hand a number back and forth through two pipes: each turn is two switches of address space.
#include <sys/wait.h>

#include "bench.h"

static void setup(void)
{
}

static u64 run(void)
{
    int to_child[2], to_parent[2];
    u64 value = 1;

    if (pipe(to_child) || pipe(to_parent)) {
        return 0;
    }
    pid_t child = fork();
    if (child == 0) {
        close(to_child[1]);
        while (read(to_child[0], &value, sizeof value) == sizeof value) {
            value = value * 3 + 1;
            if (write(to_parent[1], &value, sizeof value) != sizeof value) {
                break;
            }
        }
        _exit(0);
    }
    close(to_child[0]);
    for (u32 i = 0; i < 40000; i++) {
        if (write(to_child[1], &value, sizeof value) != sizeof value ||
            read(to_parent[0], &value, sizeof value) != sizeof value) {
            return 0;
        }
    }
    close(to_child[1]);
    waitpid(child, NULL, 0);
    return value;
}
