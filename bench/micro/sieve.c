// The sieve of Eratosthenes over a megabyte of bytes: stores with a stride, branches on data.
#include "bench.h"

enum { SIZE = 1 << 20 };
static u8 composite[SIZE];

static void setup(void)
{
}

static u64 run(void)
{
    u64 sum = 0;
    for (int round = 0; round < 50; round++) {
        memset(composite, 0, SIZE);
        for (u32 i = 2; i < SIZE; i++) {
            if (!composite[i]) {
                sum += i;
                for (u64 k = (u64)i * i; k < SIZE; k += i) {
                    composite[k] = 1;
                }
            }
        }
    }
    return sum;
}
