// Runs a great many small functions, each for the first time in its life: what a translator's work costs. The
// functions come from once.py. All of their pages are read first, so that the kernel's page faults are over.
// Later passes find everything translated.
#include "bench.h"

typedef u64 Function(u64 *numbers, u64 zero);
extern Function *const once_functions[];
extern const u32 once_count;
extern const u8 once_start[], once_end[];

static u64 numbers[64];
static volatile u64 zero, touched;

static void setup(void)
{
    for (int i = 0; i < 64; i++) {
        numbers[i] = next_random();
    }
    for (const u8 *page = once_start; page < once_end; page += 4096) {
        touched += *page;
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 i = 0; i < once_count; i++) {
        sum = sum * 31 + once_functions[i](numbers, zero);
    }
    return sum;
}
