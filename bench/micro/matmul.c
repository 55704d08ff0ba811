// The product of two matrices of REAL, float or double, as one writes it first.
#include "bench.h"

enum { SIZE = 200 };
static REAL a[SIZE][SIZE], b[SIZE][SIZE], c[SIZE][SIZE];

static void setup(void)
{
    for (int i = 0; i < SIZE; i++) {
        for (int k = 0; k < SIZE; k++) {
            a[i][k] = (REAL)(next_random() >> 40) / 65536;
            b[i][k] = (REAL)(next_random() >> 40) / 65536 - 100;
        }
    }
}

static u64 run(void)
{
    u64 total = 0, bits = 0;
    for (int round = 0; round < 16; round++) {
        for (int i = 0; i < SIZE; i++) {
            for (int k = 0; k < SIZE; k++) {
                REAL sum = round;
                for (int j = 0; j < SIZE; j++) {
                    sum += a[i][j] * b[j][k];
                }
                c[i][k] = sum;
            }
        }
        memcpy(&bits, &c[round][SIZE - 1], sizeof c[0][0]);
        total = total * 31 + bits;
    }
    return total;
}
