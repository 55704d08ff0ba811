// Reads and writes words of 64 MiB at random places, each independent of the one before.
#include "bench.h"

enum { COUNT = (64 << 20) / 8 };
static u64 *words;

static void setup(void)
{
    words = aligned_alloc(4096, COUNT * sizeof *words);
    for (u32 i = 0; i < COUNT; i++) {
        words[i] = i;
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 i = 0; i < 8000000; i++) {
        u64 place = next_random();
        u64 *word = &words[place % COUNT];
        sum += *word;
        *word ^= place;
    }
    return sum;
}
