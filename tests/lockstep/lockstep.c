/*
 * Lockstep: random programs run by T0 (the IR interpreter) and T1 (generated code) side by side in
 * one process, each with memory of its own. Both run the same number of instructions, a few at a
 * time; after each step all registers, the CSRs that traps write, and the instruction count must
 * agree, and now and then all of memory. T0 and T1 share the frontend, so this tests the optimiser,
 * the backend and the linking of blocks; the frontend is compared with QEMU (qemu_compare.py, on
 * the same programs).
 *
 *   lockstep [--seed N] [--insns MILLIONS] [--cpu MODEL] [--body N] [--rounds N] [--image FILE] [--singlestep]
 * [-v]
 *
 * --image writes the first program to a file and ends. Prints the seed of a program that differs;
 * running it alone with that seed, it stops at the same place.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend-riscv/frontend.h"
#include "core/base/log.h"
#include "machine/translator.h"
#include "softmmu/softmmu.h"
#include "tests/lockstep/randprog.h"

/* One emulated machine: memory, UART and finisher, one hart, T0 or T1. */
typedef struct Rig {
    Bus *bus;
    Hart *hart;
    Translator *translator;
    u8 *memory;
    bool finished;
    GString *output;
} Rig;

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
    Rig *rig = opaque;
    exec_fence_i(translator_exec(rig->translator), cpu);
}

static const HartCallbacks hart_callbacks = {no_time, no_timer, fence_i};

static bool read_zero(void *opaque, u64 offset, unsigned size, u64 *value)
{
    (void)opaque, (void)offset, (void)size;
    *value = 0;
    return true;
}

static bool uart_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    (void)offset, (void)size;
    g_string_append_c(((Rig *)opaque)->output, (char)value);
    return true;
}

static bool finisher_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    (void)offset, (void)size, (void)value;
    Rig *rig = opaque;
    rig->finished = true;
    cpu_post(&rig->hart->cpu, PENDING_STOP);
    return true;
}

static void kick(CpuState *cpu)
{
    cpu_stop_budget(cpu);
}

static void die(GError *err)
{
    fprintf(stderr, "lockstep: %s\n", err->message);
    exit(2);
}

static Rig *rig_new(Accel accel, const HartModel *model, unsigned max_insns)
{
    static const MmioOps uart = {read_zero, uart_write, 1, 8};
    static const MmioOps finisher = {read_zero, finisher_write, 1, 8};
    GError *err = NULL;
    Rig *rig = g_new0(Rig, 1);
    rig->output = g_string_new(NULL);
    rig->bus = bus_new();
    Region *ram = bus_add_memory(rig->bus, "ram", REGION_RAM, RANDPROG_BASE, RANDPROG_SIZE, &err);
    if (!ram || !bus_add_mmio(rig->bus, "uart", RANDPROG_UART, 0x100, &uart, rig, NULL, &err) ||
        !bus_add_mmio(rig->bus, "finisher", RANDPROG_FINISHER, 0x1000, &finisher, rig, NULL,
                      &err)) {
        die(err);
    }
    rig->memory = ram->host;
    rig->hart = riscv_hart_new(model, 0, &hart_callbacks, rig);
    rig->hart->cpu.kick = kick;
    if (!mmu_new(&rig->hart->cpu, rig->bus, &err)) {
        die(err);
    }
    TranslatorConfig config = {.accel = accel, .cache_size = 4 << 20, .max_insns = max_insns};
    rig->translator = translator_new(&config, model, rig->bus, &err);
    if (!rig->translator) {
        die(err);
    }
    exec_add_hart(translator_exec(rig->translator), &rig->hart->cpu);
    return rig;
}

static void rig_free(Rig *rig)
{
    exec_remove_hart(translator_exec(rig->translator), &rig->hart->cpu);
    translator_free(rig->translator);
    mmu_free(rig->hart->cpu.mmu);
    riscv_hart_free(rig->hart);
    bus_free(rig->bus);
    g_string_free(rig->output, TRUE);
    g_free(rig);
}

static void rig_load(Rig *rig, const u8 *image)
{
    exec_flush(translator_exec(rig->translator));
    memcpy(rig->memory, image, RANDPROG_SIZE);
    riscv_hart_reset(rig->hart, RANDPROG_BASE);
    atomic_store(&rig->hart->cpu.pending, 0);
    rig->finished = false;
    g_string_truncate(rig->output, 0);
}

static void rig_step(Rig *rig, u64 insns)
{
    if (exec_run(translator_exec(rig->translator), &rig->hart->cpu, insns) == EXIT_HALT) {
        fprintf(stderr, "lockstep: a program without WFI halted\n");
        exit(1);
    }
}

/* What is compared after each step, by name. */
static const struct {
    const char *name;
    size_t offset, size, count;
} fields[] = {
#define FIELD(name, member, count)                                                                 \
    {name, offsetof(Hart, member), sizeof(((Hart *)0)->member) / (count), count}
    FIELD("x", cpu.x, 32),
    FIELD("f", cpu.f, 32),
    FIELD("pc", cpu.pc, 1),
    FIELD("fflags", cpu.fflags, 1),
    FIELD("frm", cpu.frm, 1),
    FIELD("status", cpu.status, 1),
    FIELD("fp_ready", cpu.fp_ready, 1),
    FIELD("priv", priv, 1),
    FIELD("mstatus", mstatus, 1),
    FIELD("mepc", mepc, 1),
    FIELD("mcause", mcause, 1),
    FIELD("mtval", mtval, 1),
    FIELD("mscratch", mscratch, 1),
#undef FIELD
};

static bool same_state(const Rig *a, const Rig *b)
{
    bool same = true;
    for (unsigned i = 0; i < ARRAY_LEN(fields); i++) {
        for (size_t k = 0; k < fields[i].count; k++) {
            size_t at = fields[i].offset + k * fields[i].size;
            if (memcmp((u8 *)a->hart + at, (u8 *)b->hart + at, fields[i].size) != 0) {
                u64 va = 0, vb = 0;
                memcpy(&va, (u8 *)a->hart + at, fields[i].size);
                memcpy(&vb, (u8 *)b->hart + at, fields[i].size);
                printf("  %s[%zu]: T0 %016" PRIx64 ", T1 %016" PRIx64 "\n", fields[i].name, k, va,
                       vb);
                same = false;
            }
        }
    }
    u64 na = cpu_insns(&a->hart->cpu), nb = cpu_insns(&b->hart->cpu);
    if (na != nb) {
        printf("  instructions: T0 %" PRIu64 ", T1 %" PRIu64 "\n", na, nb);
        same = false;
    }
    return same;
}

static bool same_memory(const Rig *a, const Rig *b)
{
    for (size_t i = 0; i < RANDPROG_SIZE; i += 8) {
        u64 va, vb;
        memcpy(&va, a->memory + i, 8);
        memcpy(&vb, b->memory + i, 8);
        if (va != vb) {
            printf("  memory at %08zx: T0 %016" PRIx64 ", T1 %016" PRIx64 "\n", RANDPROG_BASE + i,
                   va, vb);
            return false;
        }
    }
    return true;
}

static void disassemble_range(const Rig *rig, const HartModel *model, u64 from, u64 to)
{
    for (u64 pc = from; pc < to;) {
        if (pc - RANDPROG_BASE >= RANDPROG_DATA - 4) {
            return;
        }
        u32 insn;
        char text[96];
        memcpy(&insn, rig->memory + (pc - RANDPROG_BASE), 4);
        unsigned n = riscv_disassemble(model, insn, pc, text, sizeof(text));
        printf("    %08" PRIx64 ": %s\n", pc, text);
        pc += n;
    }
}

/* Runs one program on both. Returns the instructions run, 0 if they differ. */
static u64 run_program(Rig *t0, Rig *t1, const RandOptions *options, const u8 *image)
{
    u64 total = 0, rng = options->seed | 1;
    rig_load(t0, image);
    rig_load(t1, image);
    u64 start = cpu_insns(&t0->hart->cpu), start1 = cpu_insns(&t1->hart->cpu);
    /* Counts go on over resets: make them equal. */
    t1->hart->cpu.insn_base += start - start1;
    for (unsigned step = 0; !t0->finished && !t1->finished; step++) {
        rng ^= rng << 13, rng ^= rng >> 7, rng ^= rng << 17;
        u64 n = rng % 16 ? 1 + (rng >> 8) % 120 : 1 + (rng >> 8) % 5000;
        u64 pc = t0->hart->cpu.pc;
        rig_step(t0, n);
        rig_step(t1, n);
        bool same = same_state(t0, t1);
        if (same && step % 512 == 0) {
            same = same_memory(t0, t1);
        }
        if (!same) {
            printf("seed %" PRIu64 ": T0 and T1 differ after %" PRIu64
                   " instructions, in a step of %" PRIu64 " from pc %016" PRIx64 " (now %016" PRIx64
                   ")\n",
                   options->seed, cpu_insns(&t0->hart->cpu) - start, n, pc, t0->hart->cpu.pc);
            if (t0->hart->cpu.pc > pc && t0->hart->cpu.pc - pc < 600) {
                disassemble_range(t0, options->model, pc, t0->hart->cpu.pc + 4);
            }
            return 0;
        }
        total = cpu_insns(&t0->hart->cpu) - start;
        if (total > 400000000u) {
            printf("seed %" PRIu64 ": does not end\n", options->seed);
            return 0;
        }
    }
    if (t0->finished != t1->finished || !same_memory(t0, t1) ||
        strcmp(t0->output->str, t1->output->str) != 0) {
        printf("seed %" PRIu64 ": the ends differ: T0 %s T1 %s", options->seed, t0->output->str,
               t1->output->str);
        return 0;
    }
    return total;
}

int main(int argc, char **argv)
{
    gint64 seed = 1, body = 0, rounds = 0;
    gdouble millions = 1;
    gchar *cpu = NULL, *image_file = NULL, *log = NULL, *leave_out = NULL;
    gboolean single = FALSE, verbose = FALSE, portable = FALSE;
    const GOptionEntry entries[] = {
        {"seed", 0, 0, G_OPTION_ARG_INT64, &seed, "seed of the first program", "N"},
        {"insns", 0, 0, G_OPTION_ARG_DOUBLE, &millions, "stop after so many million instructions",
         "MILLIONS"},
        {"cpu", 0, 0, G_OPTION_ARG_STRING, &cpu, "hart model as for -cpu (max)", "MODEL"},
        {"body", 0, 0, G_OPTION_ARG_INT64, &body, "instructions in a program's body (0: varies)",
         "N"},
        {"rounds", 0, 0, G_OPTION_ARG_INT64, &rounds, "how often the body runs (0: varies)", "N"},
        {"image", 0, 0, G_OPTION_ARG_STRING, &image_file, "write the first program there and end",
         "FILE"},
        {"portable", 0, 0, G_OPTION_ARG_NONE, &portable, "only what all emulators do alike", NULL},
        {"leave-out", 0, 0, G_OPTION_ARG_STRING, &leave_out, "instructions not to use", "NAME,..."},
        {"singlestep", 0, 0, G_OPTION_ARG_NONE, &single, "blocks of one instruction", NULL},
        {"log", 0, 0, G_OPTION_ARG_STRING, &log, "log categories, as for -d", "LIST"},
        {"verbose", 'v', 0, G_OPTION_ARG_NONE, &verbose, "name each program", NULL},
        {NULL},
    };
    g_autoptr(GOptionContext) context = g_option_context_new("- T0 against T1 on random programs");
    GError *err = NULL;
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &err) ||
        (log && !log_set_categories(log, &err))) {
        die(err);
    }
    mmu_layout_init(false);
    HartModel *model = riscv_model_new(cpu ? cpu : "max", &err);
    if (!model) {
        die(err);
    }
    g_auto(GStrv) without = leave_out ? g_strsplit(leave_out, ",", -1) : NULL;
    u8 *image = g_malloc(RANDPROG_SIZE);
    Rig *t0 = image_file ? NULL : rig_new(ACCEL_INTERP, model, single ? 1 : 0);
    Rig *t1 = image_file ? NULL : rig_new(ACCEL_JIT, model, single ? 1 : 0);

    u64 total = 0, programs = 0;
    for (u64 s = (u64)seed; total < (u64)(millions * 1e6); s++, programs++) {
        RandOptions options = {
            .seed = s,
            .model = model,
            .ext = model->ext,
            .body = body ? (unsigned)body : 50 + (unsigned)(s * 2654435761u % 4000),
            .rounds = rounds ? (unsigned)rounds : 1 + (unsigned)(s * 40503u % 40),
            .mode = s % 4 == 1 ? RAND_PAGED_S : s % 4 == 2 ? RAND_PAGED_U : RAND_BARE_M,
            .portable = portable,
            .leave_out = without,
        };
        randprog_generate(&options, image);
        if (image_file) {
            if (!g_file_set_contents(image_file, (char *)image, RANDPROG_SIZE, &err)) {
                die(err);
            }
            break;
        }
        if (verbose) {
            printf("seed %" PRIu64 "\n", s);
            fflush(stdout);
        }
        u64 n = run_program(t0, t1, &options, image);
        if (!n) {
            return 1;
        }
        total += n;
    }
    if (!image_file) {
        printf("%" PRIu64 " programs, %.1f million instructions, no difference\n", programs,
               total / 1e6);
        rig_free(t0);
        rig_free(t1);
    }
    g_free(model);
    g_free(image);
    g_free(cpu);
    g_free(image_file);
    g_free(leave_out);
    g_free(log);
    return 0;
}
