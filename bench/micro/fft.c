// The fast Fourier transform of complex doubles, forwards and back: multiplications, additions, strided access.
#include <math.h>

#include "bench.h"

enum { BITS = 13, SIZE = 1 << BITS };
typedef struct {
    double re, im;
} Complex;
static Complex data[SIZE], root[SIZE / 2];

static void setup(void)
{
    for (int i = 0; i < SIZE; i++) {
        data[i] = (Complex){(double)(next_random() >> 44) / 1024, (double)(next_random() >> 44) / 1024};
    }
    // Roots by repeated rotation, so that no library function has a say in the result.
    double re = 1, im = 0, c = 1 - 1e-7, s = 7.6e-4;
    for (int i = 0; i < SIZE / 2; i++) {
        root[i] = (Complex){re, im};
        double next = re * c - im * s;
        im = re * s + im * c;
        re = next;
    }
}

static void transform(double sign)
{
    for (u32 i = 0, k = 0; i < SIZE; i++) {
        if (i < k) {
            Complex swap = data[i];
            data[i] = data[k];
            data[k] = swap;
        }
        u32 bit = SIZE >> 1;
        while (k & bit) {
            k ^= bit;
            bit >>= 1;
        }
        k |= bit;
    }
    for (u32 half = 1; half < SIZE; half *= 2) {
        for (u32 start = 0; start < SIZE; start += 2 * half) {
            for (u32 i = 0; i < half; i++) {
                Complex w = root[i * (SIZE / 2 / half)], *a = &data[start + i], *b = a + half;
                w.im *= sign;
                Complex t = {b->re * w.re - b->im * w.im, b->re * w.im + b->im * w.re};
                *b = (Complex){a->re - t.re, a->im - t.im};
                *a = (Complex){a->re + t.re, a->im + t.im};
            }
        }
    }
}

static u64 run(void)
{
    for (int round = 0; round < 800; round++) {
        transform(round & 1 ? -1 : 1);
        for (int i = 0; i < SIZE; i++) {
            data[i].re *= 1.0 / 90.5;
            data[i].im *= 1.0 / 90.5;
        }
    }
    u64 sum = 0, bits;
    for (int i = 0; i < SIZE; i += 37) {
        memcpy(&bits, &data[i].re, sizeof bits);
        sum = sum * 31 + bits;
    }
    return sum;
}
