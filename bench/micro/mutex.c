// Takes and releases a mutex that nobody else wants: an atomic operation each, and the library's code around it.
#include <pthread.h>

#include "bench.h"

static pthread_mutex_t locks[16];
static u64 counters[16];

static void setup(void)
{
    for (int i = 0; i < 16; i++) {
        pthread_mutex_init(&locks[i], NULL);
    }
}

static u64 run(void)
{
    for (u32 i = 0; i < 6000000; i++) {
        pthread_mutex_lock(&locks[i & 15]);
        counters[i & 15] += i;
        pthread_mutex_unlock(&locks[i & 15]);
    }
    u64 sum = 0;
    for (int i = 0; i < 16; i++) {
        sum = sum * 31 + counters[i];
    }
    return sum;
}
