// Maps a few pages, touches one, protects it and unmaps them: the kernel's bookkeeping, and TLB flushes by address.
#include <sys/mman.h>

#include "bench.h"

enum { PAGE = 4096, PAGES = 4 };

static void setup(void)
{
}

static u64 run(void)
{
    u64 sum = 0;
    for (u32 i = 0; i < 20000; i++) {
        u8 *memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            return 0;
        }
        memory[i % PAGES * PAGE] = (u8)i;
        mprotect(memory, PAGES * PAGE, PROT_READ);
        sum = sum * 3 + memory[i % PAGES * PAGE];
        munmap(memory, PAGES * PAGE);
    }
    return sum;
}
