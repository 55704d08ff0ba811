// The C library's functions on doubles and floats. Libraries may differ in the last bit of a result, so the checksum
// takes the values rounded to a millionth.
#include <math.h>

#include "bench.h"

static void setup(void)
{
}

static u64 rounded(double value)
{
    return (u64)(long long)floor(value * 1048576 + 0.5);
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 i = 0; i < 500000; i++) {
        double x = (double)(next_random() >> 40) / (1 << 20) + 0.01;
        float f = (float)x;
        sum = sum * 3 + rounded(sin(x)) + rounded(cos(x * 3)) + rounded(exp(-x)) + rounded(log(x));
        sum = sum * 3 + rounded(pow(x, 0.7)) + rounded(atan2(x, 2)) + rounded(sqrt(x)) + rounded(tanh(x));
        sum = sum * 3 + (rounded(sinf(f)) >> 4) + (rounded(expf(-f)) >> 4) + rounded(floor(x) + fmod(x, 0.75));
    }
    return sum;
}
