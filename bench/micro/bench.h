// What every micro program shares. A program is one function, run(), that works for a while and returns a
// checksum; main() is here. It says START, runs, and says END with the checksum and the seconds that its own
// clock saw, so that the host can put its own clock beside: a guest's clock may lie.

#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

static void setup(void);
static u64 run(void);

static u64 random_state = 88172645463325252ull;

// Pseudo-random numbers (xorshift), the same everywhere.
static inline u64 next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static inline double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

// The first argument says how many times to run; once, if there is none.
int main(int argc, char **argv)
{
    char line[160];
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];

    setup();
    for (int left = argc > 1 ? atoi(argv[1]) : 1; left > 0; left--) {
        int n = snprintf(line, sizeof line, "BENCH START %s\n", name);
        if (write(1, line, n) != n) {
            return 1;
        }
        double before = seconds();
        u64 sum = run();
        double after = seconds();
        n = snprintf(line, sizeof line, "BENCH END %s %016llx %.6f\n", name, (unsigned long long)sum,
                     after - before);
        if (write(1, line, n) != n) {
            return 1;
        }
    }
    return 0;
}

#endif
