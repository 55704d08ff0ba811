/*
 * Runs a fuzz target on mutated samples: TARGET [RUNS [SEED]]. When a run dies, the input is in
 * fuzz-crash.bin of the current folder; TARGET FILE runs it again.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/types.h"
#include "tests/fuzz/fuzz.h"

enum { DEFAULT_RUNS = 20000, MAX_MUTATIONS = 12, MAX_SIZE = 1 << 16 };

static u64 state;

static u64 rnd(u64 below) /* splitmix64 */
{
    u64 z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return below ? z % below : 0;
}

static void mutate(GByteArray *a, const GPtrArray *samples)
{
    static const u64 nasty[] = {0,
                                1,
                                0x7f,
                                0x80,
                                0xff,
                                0x7fff,
                                0x8000,
                                0xffff,
                                0x7fffffff,
                                0x80000000,
                                0xffffffff,
                                0x7fffffffffffffff,
                                0x8000000000000000,
                                ~0ull};
    u64 at = rnd(a->len), value;
    guint n = 1 + (guint)rnd(16);
    GBytes *other;
    switch (a->len ? rnd(8) : 7) {
    case 0:
        a->data[at] ^= 1 << rnd(8);
        break;
    case 1:
        a->data[at] = (u8)rnd(256);
        break;
    case 2: /* a number of 1, 2, 4 or 8 bytes, of either byte order */
        value = nasty[rnd(ARRAY_LEN(nasty))] + rnd(3) - 1;
        value = rnd(2) ? value : __builtin_bswap64(value);
        n = 1u << rnd(4);
        memcpy(a->data + at, &value, MIN(n, a->len - at));
        break;
    case 3: /* a small change of a word */
        if (a->len - at >= 4) {
            u32 word;
            memcpy(&word, a->data + at, 4);
            word += (u32)rnd(64) - 32;
            memcpy(a->data + at, &word, 4);
        }
        break;
    case 4:
        g_byte_array_set_size(a, (guint)at);
        break;
    case 5:
        g_byte_array_remove_range(a, (guint)at, MIN(n, a->len - (guint)at));
        break;
    case 6: /* repeat a piece elsewhere */
        n = MIN(n, a->len - (guint)at);
        memmove(a->data + rnd(a->len - n + 1), a->data + at, n);
        break;
    default: /* a piece of another sample behind it */
        other = samples->pdata[rnd(samples->len)];
        if (a->len < MAX_SIZE && g_bytes_get_size(other)) {
            value = rnd(g_bytes_get_size(other));
            g_byte_array_append(a, (const u8 *)g_bytes_get_data(other, NULL) + value,
                                (guint)rnd(g_bytes_get_size(other) - value));
        }
    }
}

static GByteArray *now;

static void on_crash(int sig)
{
    FILE *f = fopen("fuzz-crash.bin", "w");
    if (f) {
        fwrite(now->data, 1, now->len, f);
        fclose(f);
    }
    signal(sig, SIG_DFL);
    raise(sig);
}

static void run(const void *data, size_t size)
{
    void *copy = g_memdup2(data, size); /* exactly as large, for a sanitizer to watch */
    LLVMFuzzerTestOneInput(copy ? copy : (const uint8_t *)"", size);
    g_free(copy);
}

int main(int argc, char **argv)
{
    char *file = NULL;
    gsize size;
    if (argc > 1 && g_file_get_contents(argv[1], &file, &size, NULL)) {
        run(file, size);
        g_free(file);
        return 0;
    }
    u64 runs = argc > 1 ? strtoull(argv[1], NULL, 0) : DEFAULT_RUNS;
    state = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL, SIGALRM};
    for (unsigned i = 0; i < ARRAY_LEN(fatal); i++) {
        signal(fatal[i], on_crash);
    }

    g_autoptr(GPtrArray) samples = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    fuzz_samples(samples);
    now = g_byte_array_new();
    for (u64 i = 0; i < samples->len + runs; i++) {
        GBytes *sample = samples->pdata[i < samples->len ? i : rnd(samples->len)];
        gconstpointer bytes = g_bytes_get_data(sample, &size);
        g_byte_array_set_size(now, 0);
        g_byte_array_append(now, bytes, (guint)size);
        for (u64 n = i < samples->len ? 0 : 1 + rnd(MAX_MUTATIONS); n; n--) {
            mutate(now, samples);
        }
        alarm(20); /* a run that takes longer hangs */
        run(now->data, now->len);
    }
    alarm(0);
    g_byte_array_unref(now);
    return 0;
}
