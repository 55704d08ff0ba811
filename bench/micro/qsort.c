// Sorts by quicksort with a comparison function that it is given: indirect calls, unpredictable branches.
#include "bench.h"

enum { COUNT = 1 << 18 };
typedef int Compare(const void *, const void *);
static u64 original[COUNT];
static u64 items[COUNT];

static __attribute__((noinline)) int ascending(const void *a, const void *b)
{
    u64 x = *(const u64 *)a, y = *(const u64 *)b;
    return x < y ? -1 : x > y;
}

static __attribute__((noinline)) int by_low_half(const void *a, const void *b)
{
    u32 x = (u32)*(const u64 *)a, y = (u32)*(const u64 *)b;
    return x < y ? -1 : x > y;
}

static Compare *volatile orders[2] = {ascending, by_low_half};

static void setup(void)
{
    for (int i = 0; i < COUNT; i++) {
        original[i] = next_random();
    }
}

static void sort(u64 *first, u64 *last, Compare *compare)
{
    while (last - first > 12) {
        u64 pivot = first[(last - first) / 2];
        u64 *low = first, *high = last - 1;
        for (;;) {
            while (compare(low, &pivot) < 0) {
                low++;
            }
            while (compare(high, &pivot) > 0) {
                high--;
            }
            if (low >= high) {
                break;
            }
            u64 swap = *low;
            *low++ = *high;
            *high-- = swap;
        }
        sort(first, high + 1, compare);
        first = high + 1;
    }
    for (u64 *next = first + 1; next < last; next++) {
        u64 value = *next, *hole = next;
        while (hole > first && compare(hole - 1, &value) > 0) {
            *hole = hole[-1];
            hole--;
        }
        *hole = value;
    }
}

static u64 run(void)
{
    u64 sum = 0;
    for (int round = 0; round < 12; round++) {
        memcpy(items, original, sizeof items);
        sort(items, items + COUNT, orders[round & 1]);
        for (int i = 0; i < COUNT; i += 97) {
            sum = sum * 31 + items[i];
        }
    }
    return sum;
}
