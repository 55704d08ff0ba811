// The shortest system call, over and over: from user mode to the kernel and back.
#include <sys/syscall.h>

#include "bench.h"

static void setup(void)
{
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 i = 0; i < 1000000; i++) {
        sum += syscall(SYS_getppid) > 0;
    }
    return sum;
}
