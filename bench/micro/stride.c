// Touches one word in every page of 32 MiB, over and over, at another place of the page each time: more pages than
// a TLB holds.
#include "bench.h"

enum { SIZE = 32 << 20, PAGE = 4096 };
static u8 *memory;

static void setup(void)
{
    memory = aligned_alloc(PAGE, SIZE);
    for (u32 i = 0; i < SIZE; i += 8) {
        *(u64 *)(memory + i) = i;
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 round = 0; round < 3000; round++) {
        for (u32 at = round * 72 % PAGE & ~7u; at < SIZE; at += PAGE) {
            sum += (*(u64 *)(memory + at))++;
        }
    }
    return sum;
}
