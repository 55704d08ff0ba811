/*
 * Litmus tests for RVWMO across harts: the tests that gen/gen_litmus.py writes, each on thousands of instances of its
 * variables. The harts go through an array of instances side by side, each waiting a little for the others before
 * each instance, in various layouts of the variables: in one word, in one line, in different pages, and seen at
 * different virtual addresses. A forbidden outcome fails; one that is allowed is counted.
 */
#include "guest.h"

enum { THREADS = 4, VARIABLES = 3, INSTANCES = 256, PATIENCE = 60, OUTCOMES = 2 * THREADS + VARIABLES };

/* What a thread's loop is given; gen_litmus.py knows the order. */
typedef struct Run {
    ulong n, variable[VARIABLES], stride;
    u32 *results;
    volatile u32 *turn;
    ulong patience, skew;
    volatile u32 *turns[THREADS - 1]; /* the others' */
} Run;

typedef struct Litmus {
    const char *name; /* family, orders of the threads, size */
    void (*code[THREADS])(Run *run);
    u8 threads, size;
    bool forbidden, plain;
    s8 wants[OUTCOMES + 1]; /* two results per thread, final values; -1: anything */
} Litmus;
extern const Litmus litmus_tests[], litmus_tests_end[];

typedef struct Layout {
    unsigned stride, y, z;
    bool plain; /* y and z in sizes of the access: nothing for AMOs, which are words */
} Layout;
static const Layout layouts[] = {
    {64, 8, 16, false},           /* in one line */
    {192, 64, 128, false},        /* a line each */
    {24, 8, 16, false},           /* lines shared with the neighbours */
    {64, 0x10040, 0x20080, false}, /* in pages far apart */
    {4096 + 64, 128, 4096, false}, /* a new page each time */
    {32, 1, 2, true},
    {64, 1, 2, true},
};

#define ARENA 0x81000000
enum { ARENA_SIZE = 4 << 20 };
#if XLEN == 64
#define ALIAS(hart) (0x100000000 + (ulong)(hart) * ARENA_SIZE)
#else
#define ALIAS(hart) (0x40000000 + (ulong)(hart) * ARENA_SIZE)
#endif

SNIPPET(call, "jalr a1\n ecall");

static const Litmus *test;
static ulong test_seen;
static ulong *space;
static bool paged;
static Run runs[THREADS];
static u32 results[THREADS][2 * INSTANCES];
static struct {
    volatile u32 turn;
    u32 pad[31];
} turns[THREADS];
static ulong at[VARIABLES], stride; /* physical addresses */
static u32 seed = 2463534242;

static void make_space(void)
{
    space = new_space();
    for (ulong pa = 0x80000000; pa < 0x90000000; pa += LEVEL_SIZE(1)) {
        if (pa > (ulong)snippets_end) {
            map_level(space, pa, pa, PTE_KERNEL, 1);
        }
    }
    /* The image itself, by small pages: those that new_space() has not mapped. */
    for (ulong pa = 0x80000000; pa < ((ulong)image_end | (LEVEL_SIZE(1) - 1)); pa += PAGE) {
        map(space, pa, pa, PTE_KERNEL);
    }
    for (unsigned hart = 0; hart < THREADS; hart++) {
        for (ulong offset = 0; offset < ARENA_SIZE; offset += PAGE) {
            map(space, ALIAS(hart) + offset, ARENA + offset, PTE_KERNEL & ~PTE_X);
        }
    }
}

static void prepare(void)
{
    const Layout *layout;
    do {
        layout = &layouts[random_next(&seed) % ARRAY_LEN(layouts)];
    } while (layout->plain && !test->plain);
    unsigned unit = layout->plain ? test->size : 1;
    unsigned offset = random_next(&seed) % 64 * 64 + random_next(&seed) % 8 * 8;
    stride = layout->stride;
    at[0] = ARENA + offset;
    at[1] = at[0] + layout->y * unit;
    at[2] = at[0] + layout->z * unit;
    if (random_next(&seed) & 1) {
        ulong x = at[0];
        at[0] = at[1];
        at[1] = x;
    }
    for (unsigned v = 0; v < VARIABLES; v++) {
        for (ulong i = 0, a = at[v] & ~(ulong)7; i < INSTANCES; i++, a += stride) {
            *(u64 *)a = 0;
        }
    }
    paged = random_next(&seed) & 1;
    for (unsigned t = 0; t < test->threads; t++) {
        Run *run = &runs[t];
        *run = (Run){INSTANCES, {0}, stride, results[t], &turns[t].turn, PATIENCE, 0, {0}};
        for (unsigned v = 0; v < VARIABLES; v++) {
            run->variable[v] = paged ? at[v] - ARENA + ALIAS(t) : at[v];
        }
        run->skew = random_next(&seed) % 6;
        turns[t].turn = 0;
        for (unsigned other = 0, i = 0; other < test->threads; other++) {
            if (other != t) {
                run->turns[i++] = &turns[other].turn;
            }
        }
    }
}

static ulong value_of(ulong address)
{
    switch (test->size) {
    case 1:
        return *(u8 *)address;
    case 2:
        return *(u16 *)address;
    case 4:
        return *(u32 *)address;
    default:
        return (ulong)*(u64 *)address;
    }
}

static void evaluate(void)
{
    for (unsigned i = 0; i < INSTANCES; i++) {
        bool seen = true;
        for (unsigned k = 0; seen && k < OUTCOMES; k++) {
            ulong got = k < 2 * THREADS ? results[k / 2][2 * i + k % 2] : value_of(at[k - 2 * THREADS] + i * stride);
            seen = test->wants[k] < 0 || got == (ulong)test->wants[k];
        }
        test_seen += seen;
    }
}

/* A round on one hart. The harts begin together, if all of them come in a while. */
static volatile u32 here;
static void work(unsigned hart)
{
    if (paged) {
        use_space(space, 1);
    }
    ADD(&here, 1);
    for (unsigned polls = 0; polls < 20000 && ACQUIRE(&here) != test->threads; polls++) {
    }
    if (paged) {
        Trap t = run(PRIV_S, call, (ulong)&runs[hart], (ulong)test->code[hart]);
        if (t.cause != CAUSE_ECALL_S) {
            EXPECT_DONE(t);
        }
        use_bare();
    } else {
        test->code[hart](&runs[hart]);
    }
}

static bool same_family(const char *a, const char *b)
{
    for (; *a == *b && *a != ' '; a++, b++) {
    }
    return *a == *b;
}

static void put_family(const char *name)
{
    char text[2] = "";
    for (; *name != ' '; name++) {
        text[0] = *name;
        put_text(text);
    }
}

/* The tests of one family, and how often its allowed outcome was seen. */
static const Litmus *family;
static void run_family(void)
{
    ulong seen = 0, loose = 0;
    const char *name = family->name;
    for (; family < litmus_tests_end && same_family(family->name, name); family++) {
        test = family;
        unsigned test_rounds = rounds(test->threads == 2 ? 4 : 2);
        test_seen = 0;
        if (test->threads > harts) {
            continue;
        }
        for (unsigned r = 0; r < test_rounds; r++) {
            prepare();
            here = 0;
            on_harts(test->threads, work);
            evaluate();
        }
        if (!test->forbidden) {
            seen += test_seen;
            loose += test_rounds * INSTANCES;
            continue;
        }
        count_checks(test_rounds * INSTANCES - 1);
        if (test_seen) {
            put_text("forbidden: ");
            put_text(test->name);
            put_text("\n");
        }
        CHECK_EQ(test_seen, 0);
    }
    if (loose) {
        put_family(name);
        put_text(": allowed outcome seen ");
        put_number((unsigned)seen);
        put_text(" times of ");
        put_number((unsigned)loose);
        put_text("\n");
    }
}

int main(void)
{
    harts_start(2);
    make_space();
    for (family = litmus_tests; family < litmus_tests_end;) {
        char name[16];
        unsigned n = 0;
        for (; family->name[n] != ' '; n++) {
            name[n] = family->name[n];
        }
        name[n] = 0;
        run_test(name, run_family);
    }
    return 0;
}
