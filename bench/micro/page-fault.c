// Touches fresh anonymous memory page by page, and gives it back: one page fault each, and a page to clear.
#include <sys/mman.h>

#include "bench.h"

enum { SIZE = 16 << 20, PAGE = 4096 };

static void setup(void)
{
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 round = 0; round < 15; round++) {
        u8 *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || madvise(memory, SIZE, MADV_NOHUGEPAGE)) {
            return 0;
        }
        for (u32 at = 0; at < SIZE; at += PAGE) {
            memory[at] = (u8)(at / PAGE + round);
        }
        for (u32 at = 0; at < SIZE; at += 16 * PAGE) {
            sum = sum * 3 + memory[at];
        }
        munmap(memory, SIZE);
    }
    return sum;
}
