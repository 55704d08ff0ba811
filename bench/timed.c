// Runs one program and says how long it took and what it wrote: timed NAME PROGRAM [ARGUMENT]... Its lines are those
// of the micro programs (micro/bench.h); the checksum is of the program's standard output, which goes to a file first
// so that reading it costs the program nothing. TMPDIR says where that file is. A program that fails has its
// status for a checksum.

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

// FNV-1a over the whole file, and its length.
static uint64_t checksum(int file)
{
    static unsigned char buffer[1 << 16];
    uint64_t hash = 0xcbf29ce484222325, length = 0;
    ssize_t got;

    lseek(file, 0, SEEK_SET);
    while ((got = read(file, buffer, sizeof buffer)) > 0) {
        for (ssize_t i = 0; i < got; i++) {
            hash = (hash ^ buffer[i]) * 0x100000001b3;
        }
        length += (uint64_t)got;
    }
    return hash ^ length;
}

int main(int argc, char **argv)
{
    char path[4096];
    const char *folder = getenv("TMPDIR");
    int status;

    if (argc < 3) {
        fprintf(stderr, "usage: timed NAME PROGRAM [ARGUMENT]...\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s/timed-XXXXXX", folder ? folder : "/tmp");
    int file = mkstemp(path);
    if (file < 0) {
        perror(path);
        return 1;
    }
    unlink(path);
    dprintf(1, "BENCH START %s\n", argv[1]);
    double before = seconds();
    pid_t child = fork();
    if (child == 0) {
        dup2(file, 1);
        execvp(argv[2], argv + 2);
        perror(argv[2]);
        _exit(127);
    }
    waitpid(child, &status, 0);
    double after = seconds();
    if (status) {
        dprintf(1, "BENCH END %s failed-%x %.6f\n", argv[1], (unsigned)status, after - before);
    } else {
        dprintf(1, "BENCH END %s %016llx %.6f\n", argv[1], (unsigned long long)checksum(file), after - before);
    }
    return 0;
}
