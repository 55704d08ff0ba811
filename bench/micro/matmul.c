// The product of two matrices of doubles, as one writes it first.
#include "bench.h"

enum { SIZE = 200 };
static double a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static void setup(void)
{
    for (int i = 0; i < SIZE; i++) {
        for (int k = 0; k < SIZE; k++) {
            a[i][k] = (double)(next_random() >> 40) / 65536;
            b[i][k] = (double)(next_random() >> 40) / 65536 - 100;
        }
    }
}

static u64 run(void)
{
    u64 total = 0, bits;
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < SIZE; i++) {
            for (int k = 0; k < SIZE; k++) {
                double sum = round;
                for (int j = 0; j < SIZE; j++) {
                    sum += a[i][j] * b[j][k];
                }
                c[i][k] = sum;
            }
        }
        memcpy(&bits, &c[round][SIZE - 1], sizeof bits);
        total = total * 31 + bits;
    }
    return total;
}
