// Sums an array that fits the first-level cache, over and over: loads, adds and a counted loop.
#include "bench.h"

static u32 numbers[4096];

static void setup(void)
{
    for (int i = 0; i < 4096; i++) {
        numbers[i] = (u32)next_random();
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 round = 0; round < 80000; round++) {
        for (int i = 0; i < 4096; i++) {
            sum += numbers[i] ^ round;
        }
    }
    return sum;
}
