/*
 * Random programs on several harts at once: they share one translator and one small code cache, each runs one
 * program after the other in its own part of memory, loaded there as a device would by DMA, and each must
 * end as T0 ends it alone. The programs have nothing to do with each other, so a difference means that harts
 * got in each other's way: by eviction, links, pages that become code and data again, safepoints.
 *
 *   harts [--harts N] [--programs N] [--seed N] [--cpu MODEL] [--singlestep]
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frontend-riscv/frontend.h"
#include "machine/translator.h"
#include "softmmu/softmmu.h"
#include "tests/lockstep/randprog.h"

enum { MAX_HARTS = 16, SPACING = 0x200000, CACHE_SIZE = 1 << 20 };
#define KICK_SIGNAL SIGURG /* not queued, as the machine's */

/* A hart, and what it has printed. */
typedef struct RigHart {
    Hart *hart;
    u64 base;
    u8 *memory; /* at base */
    Translator *translator;
    _Atomic int tid;
    bool finished;
    char output[64];
    unsigned length;
} RigHart;

/* The hart that this thread runs: devices and signals ask. */
static __thread RigHart *current;

static gint64 hart_count = 3, programs = 20, first_seed = 1;
static gboolean single;
static HartModel *model;
static RigHart t1[MAX_HARTS];
static Bus *t1_bus;
static _Atomic unsigned differences;

static void die(GError *err)
{
    fprintf(stderr, "harts: %s\n", err->message);
    exit(2);
}

static u64 no_time(void *opaque)
{
    (void)opaque;
    return 0;
}

static void no_timer(void *opaque, CpuState *cpu, u64 deadline)
{
    (void)opaque, (void)cpu, (void)deadline;
}

static void fence_i(void *opaque, CpuState *cpu)
{
    (void)opaque;
    exec_fence_i(translator_exec(current->translator), cpu);
}

static void trap_return(void *opaque, CpuState *cpu)
{
    (void)opaque;
    exec_trap_return(translator_exec(current->translator), cpu);
}

static const HartCallbacks callbacks = {
    .read_time = no_time, .arm_stimer = no_timer, .fence_i = fence_i, .trap_return = trap_return};

static bool read_zero(void *opaque, u64 offset, unsigned size, u64 *value)
{
    (void)opaque, (void)offset, (void)size;
    *value = 0;
    return true;
}

static bool uart_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    (void)opaque, (void)offset, (void)size;
    if (current->length < sizeof(current->output) - 1) {
        current->output[current->length++] = (char)value;
    }
    return true;
}

static bool finisher_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    (void)opaque, (void)offset, (void)size, (void)value;
    current->finished = true;
    cpu_post(&current->hart->cpu, PENDING_STOP);
    return true;
}

static void on_kick(int signal)
{
    (void)signal;
    if (current) {
        cpu_stop_budget(&current->hart->cpu);
    }
}

/* By any thread. */
static void kick(CpuState *cpu)
{
    if (current && cpu == &current->hart->cpu) {
        cpu_stop_budget(cpu);
        return;
    }
    for (unsigned i = 0; i < (unsigned)hart_count; i++) {
        const int tid = atomic_load(&t1[i].tid);
        if (cpu == &t1[i].hart->cpu && tid) {
            syscall(SYS_tgkill, getpid(), tid, KICK_SIGNAL);
        }
    }
}

static Bus *bus_with_ram(u64 base, u64 size, u8 **memory)
{
    static const MmioOps uart = {read_zero, uart_write, 1, 8};
    static const MmioOps finisher = {read_zero, finisher_write, 1, 8};
    GError *err = NULL;
    Bus *bus = bus_new();
    Region *ram = bus_add_memory(bus, "ram", REGION_RAM, base, size, &err);
    if (!ram || !bus_add_mmio(bus, "uart", RANDPROG_UART, 0x100, &uart, NULL, NULL, &err) ||
        !bus_add_mmio(bus, "finisher", RANDPROG_FINISHER, 0x1000, &finisher, NULL, NULL, &err)) {
        die(err);
    }
    *memory = ram->host;
    return bus;
}

static Translator *translator_for(Accel accel, Bus *bus)
{
    GError *err = NULL;
    TranslatorConfig config = {.accel = accel, .cache_size = CACHE_SIZE, .max_insns = single ? 1 : 0};
    Translator *translator = translator_new(&config, model, bus, &err);
    if (!translator) {
        die(err);
    }
    return translator;
}

static void add_hart(RigHart *h, unsigned index, u64 base, u8 *memory, Bus *bus, Translator *translator)
{
    GError *err = NULL;
    h->hart = riscv_hart_new(model, index, &callbacks, NULL);
    h->hart->cpu.kick = kick;
    h->base = base;
    h->memory = memory;
    h->translator = translator;
    if (!mmu_new(&h->hart->cpu, bus, &err)) {
        die(err);
    }
    exec_add_hart(translator_exec(translator), &h->hart->cpu);
}

static void remove_hart(RigHart *h)
{
    exec_remove_hart(translator_exec(h->translator), &h->hart->cpu);
    mmu_free(h->hart->cpu.mmu);
    riscv_hart_free(h->hart);
}

static void run(RigHart *h, Bus *bus, const u8 *image, u64 seed)
{
    current = h;
    memcpy(h->memory, image, RANDPROG_SIZE);
    bus_dma_dirty(bus, h->base, RANDPROG_SIZE);
    riscv_hart_reset(h->hart, h->base);
    atomic_store(&h->hart->cpu.pending, 0);
    h->finished = false;
    h->length = 0;
    memset(h->output, 0, sizeof(h->output));
    for (u64 rng = seed | 1; !h->finished;) {
        rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
        exec_run(translator_exec(h->translator), &h->hart->cpu, 1 + rng % 200000);
    }
    current = NULL;
}

static bool same(const RigHart *a, const RigHart *b)
{
    const Hart *ha = a->hart, *hb = b->hart;
    return memcmp(ha->cpu.x, hb->cpu.x, sizeof(ha->cpu.x)) == 0 &&
           memcmp(ha->cpu.f, hb->cpu.f, sizeof(ha->cpu.f)) == 0 && ha->cpu.fflags == hb->cpu.fflags &&
           ha->cpu.frm == hb->cpu.frm && ha->mscratch == hb->mscratch && ha->mstatus == hb->mstatus &&
           memcmp(a->memory, b->memory, RANDPROG_SIZE) == 0 && strcmp(a->output, b->output) == 0;
}

/* T0 takes one program at a time (its translator has large tables). `end` gets a copy of what it leaves. */
static GMutex t0_lock;
static RigHart t0;
static Bus *t0_bus;
static u8 *t0_memory;

static void run_alone(u64 base, const u8 *image, u64 seed, RigHart *end)
{
    g_mutex_lock(&t0_lock);
    t0.base = base;
    t0.memory = t0_memory + (base - RANDPROG_BASE);
    run(&t0, t0_bus, image, seed);
    *end->hart = *t0.hart;
    memcpy(end->memory, t0.memory, RANDPROG_SIZE);
    memcpy(end->output, t0.output, sizeof(end->output));
    g_mutex_unlock(&t0_lock);
}

/* Programs of every mode and length, each first alone on T0, then beside the other harts'. */
static gpointer hart_thread(gpointer opaque)
{
    RigHart *h = opaque, alone = {.hart = g_new(Hart, 1), .memory = g_malloc(RANDPROG_SIZE)};
    const unsigned index = h->hart->cpu.index;
    u8 *image = g_malloc(RANDPROG_SIZE);
    atomic_store(&h->tid, (int)syscall(SYS_gettid));
    for (gint64 p = 0; p < programs; p++) {
        const u64 seed = (u64)first_seed + (u64)p * MAX_HARTS + index;
        const RandOptions options = {
            .seed = seed,
            .model = model,
            .ext = model->ext,
            .body = 50 + (unsigned)(seed * 2654435761u % 4000),
            .rounds = 1 + (unsigned)(seed * 40503u % 40),
            .mode = seed % 4 == 1 ? RAND_PAGED_S : seed % 4 == 2 ? RAND_PAGED_U : RAND_BARE_M,
            .base = h->base,
        };
        randprog_generate(&options, image);
        run_alone(h->base, image, seed, &alone);
        /* More than once: the others are somewhere else each time. */
        for (unsigned again = 0; again < 3; again++) {
            run(h, t1_bus, image, seed + again);
            if (!same(&alone, h)) {
                printf("seed %" PRIu64 ", hart %u: T0 alone %s, T1 among others %s", seed, index, alone.output,
                       h->output);
                atomic_fetch_add(&differences, 1);
            }
        }
    }
    atomic_store(&h->tid, 0);
    g_free(image);
    g_free(alone.memory);
    g_free(alone.hart);
    return NULL;
}

int main(int argc, char **argv)
{
    gchar *cpu = NULL;
    const GOptionEntry entries[] = {
        {"harts", 0, 0, G_OPTION_ARG_INT64, &hart_count, "how many (3)", "N"},
        {"programs", 0, 0, G_OPTION_ARG_INT64, &programs, "of each hart (20)", "N"},
        {"seed", 0, 0, G_OPTION_ARG_INT64, &first_seed, "seed of the first program", "N"},
        {"cpu", 0, 0, G_OPTION_ARG_STRING, &cpu, "hart model as for -cpu (max)", "MODEL"},
        {"singlestep", 0, 0, G_OPTION_ARG_NONE, &single, "blocks of one instruction", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- random programs on several harts");
    GError *err = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &err)) {
        die(err);
    }
    hart_count = CLAMP(hart_count, 1, MAX_HARTS);
    mmu_layout_init(false);
    model = riscv_model_new(cpu ? cpu : "max", &err);
    if (!model) {
        die(err);
    }
    struct sigaction action = {.sa_handler = on_kick, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    sigdelset(&action.sa_mask, SIGSEGV); /* faults of generated code are handled even then */
    sigdelset(&action.sa_mask, SIGBUS);
    sigaction(KICK_SIGNAL, &action, NULL);

    u8 *memory;
    const u64 size = (u64)hart_count * SPACING;
    t0_bus = bus_with_ram(RANDPROG_BASE, size, &t0_memory);
    Translator *interpreter = translator_for(ACCEL_INTERP, t0_bus);
    add_hart(&t0, 0, RANDPROG_BASE, t0_memory, t0_bus, interpreter);
    t1_bus = bus_with_ram(RANDPROG_BASE, size, &memory);
    Translator *translator = translator_for(ACCEL_JIT, t1_bus);
    GThread *threads[MAX_HARTS];
    for (unsigned i = 0; i < (unsigned)hart_count; i++) {
        add_hart(&t1[i], i, RANDPROG_BASE + i * SPACING, memory + i * SPACING, t1_bus, translator);
    }
    for (unsigned i = 0; i < (unsigned)hart_count; i++) {
        threads[i] = g_thread_new("hart", hart_thread, &t1[i]);
    }
    for (unsigned i = 0; i < (unsigned)hart_count; i++) {
        g_thread_join(threads[i]);
    }
    ExecStats stats;
    exec_stats(translator_exec(translator), &stats);
    printf("%" PRId64 " harts, %" PRId64 " programs each, %" PRIu64 " blocks, %" PRIu64 " evictions, %u differences\n",
           hart_count, programs, stats.translated, stats.evictions, differences);
    for (unsigned i = 0; i < (unsigned)hart_count; i++) {
        remove_hart(&t1[i]);
    }
    translator_free(translator);
    bus_free(t1_bus);
    remove_hart(&t0);
    translator_free(interpreter);
    bus_free(t0_bus);
    g_free(model);
    g_free(cpu);
    if (stats.evictions == 0) {
        printf("the code cache was never full: more programs, or a smaller cache\n");
        return 1;
    }
    return differences != 0;
}
