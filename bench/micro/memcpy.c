// Copies blocks of many sizes, from a few bytes to half a megabyte, with the C library's memcpy.
#include "bench.h"

enum { SIZE = 1 << 20 };
static u8 from[SIZE + 64], to[SIZE + 64];

static void setup(void)
{
    for (int i = 0; i < SIZE; i++) {
        from[i] = (u8)next_random();
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 round = 0; round < 40; round++) {
        for (u32 size = 8; size <= SIZE / 2; size *= 4) {
            for (u32 at = 0, copied = 0; copied < SIZE * 2; copied += size) {
                memcpy(to + at + (round & 7), from + at, size);
                at = (at + size) & (SIZE - 1);
                at = at + size > SIZE ? 0 : at;
            }
            sum = sum * 31 + to[round * 1000 + size / 3];
        }
    }
    return sum;
}
