// The spectral norm of an infinite matrix, cut to SIZE: divisions, and conversions from integers.
#include <math.h>

#include "bench.h"

enum { SIZE = 350 };
static double u[SIZE], v[SIZE], w[SIZE];

static void setup(void)
{
}

static __attribute__((noinline)) double element(u32 i, u32 k)
{
    return 1.0 / ((i + k) * (i + k + 1) / 2 + i + 1);
}

static void multiply(const double *in, double *out, int transposed)
{
    for (u32 i = 0; i < SIZE; i++) {
        double sum = 0;
        for (u32 k = 0; k < SIZE; k++) {
            sum += (transposed ? element(k, i) : element(i, k)) * in[k];
        }
        out[i] = sum;
    }
}

static u64 run(void)
{
    for (int i = 0; i < SIZE; i++) {
        u[i] = 1;
    }
    for (int round = 0; round < 60; round++) {
        multiply(u, w, 0);
        multiply(w, v, 1);
        multiply(v, w, 0);
        multiply(w, u, 1);
    }
    double uv = 0, vv = 0;
    for (int i = 0; i < SIZE; i++) {
        uv += u[i] * v[i];
        vv += v[i] * v[i];
    }
    double norm = sqrt(uv / vv);
    u64 bits;
    memcpy(&bits, &norm, sizeof bits);
    return bits;
}
