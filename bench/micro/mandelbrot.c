// How long points stay near zero under z*z + c: a chain of dependent additions and multiplications, and a compare.
// REAL is float or double.
#include "bench.h"

static void setup(void)
{
}

static u64 run(void)
{
    u64 sum = 0;
    for (int row = 0; row < 640; row++) {
        for (int column = 0; column < 640; column++) {
            REAL cx = column / (REAL)256 - (REAL)1.8, cy = row / (REAL)256 - (REAL)1.25, x = 0, y = 0;
            int i = 0;
            while (i < 400 && x * x + y * y < 4) {
                REAL next = x * x - y * y + cx;
                y = 2 * x * y + cy;
                x = next;
                i++;
            }
            sum = sum * 7 + (u64)i;
        }
    }
    return sum;
}
