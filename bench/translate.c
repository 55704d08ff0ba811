/*
 * What translation costs, by stage: translates the code of a guest program from its first byte to
 * its last, block after block, without running any of it, and prints nanoseconds of this thread's
 * time per guest instruction for
 *   decode   fetch, decoding and IR (frontend)
 *   passes   folding (core/opt)
 *   emit     selection and emission (backend)
 * Each stage's figure is the difference of the times with it and without it; of several rounds the
 * fastest counts. What core/exec adds, and what leaving generated code for a new block costs, shows
 * in the run-once code of bench/run.
 *
 *   translate FILE [ROUNDS]
 *
 * FILE is an ELF file, whose executable sections are taken, or raw code. The input stays the same
 * over time if it is kept, and so do the numbers of instructions that callgrind counts here.
 */
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "backend-x86_64/backend.h"
#include "core/exec/exec.h"
#include "core/opt/opt.h"
#include "frontend-riscv/frontend.h"

enum { PAGE = 4096, SPACE = 4 << 20, MAX_INSNS = 128 };

typedef enum Stage { DECODE, PASSES, EMIT, STAGES } Stage;

typedef struct Work {
    const HartModel *model;
    Backend *backend;
    u32 first_code;
    u64 insns, blocks, records, bytes;
} Work;

static CodeSpace space;

static Backend *new_backend(const HartModel *model)
{
    unsigned count;
    const IrHotReg *hot = riscv_hot_regs(&count);
    BackendConfig config = {
        .space = space,
        .stub_area = (u32)(uintptr_t)space.exec,
        .stub_area_size = EXEC_STUB_AREA,
        .hot = hot,
        .hot_count = count,
        .xlen = model->rv32 ? IR_I32 : IR_I64,
    };
    GError *err = NULL;
    Backend *backend = backend_new(&config, &err);
    if (!backend) {
        g_error("%s", err->message);
    }
    return backend;
}

/* Translates [code, code + size), which begins at a page, as far as stage `last`. */
static void translate_all(Work *w, const u8 *code, size_t size, Stage last)
{
    static IrInsn insns[IR_MAX_INSNS];
    static CompiledBlock out;
    u32 at = w->first_code;
    const u32 end = (u32)(uintptr_t)space.exec + SPACE;

    w->insns = w->blocks = w->records = w->bytes = 0;
    for (size_t pos = 0; pos + 2 * PAGE <= size;) {
        const u8 *page = code + pos / PAGE * PAGE;
        TranslateInput in = {w->model, page, (u32)(pos % PAGE), NULL, MAX_INSNS};
        IrBlock block = {.insns = insns};
        if (riscv_translate(&in, &block) != TRANSLATE_OK) {
            in.next_page = page + PAGE;
            in.max_insns = 1;
            riscv_translate(&in, &block);
        }
        pos += block.guest_bytes;
        w->insns += block.guest_insns;
        w->blocks++;
        if (last >= PASSES) {
            opt_fold(&block);
        }
        w->records += block.count;
        if (last >= EMIT) {
            while (!backend_compile(w->backend, &block, 0, &(CodeRoom){.at = at, .size = end - at}, &out)) {
                at = w->first_code;
            }
            w->bytes += out.size;
            at = (out.start + out.size + 15) & ~15u;
        }
    }
}

static double thread_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The file's executable sections, each from a page's start, or all of it if it is no ELF file. */
static u8 *read_code(const char *path, size_t *size)
{
    gchar *file;
    gsize length;
    GError *err = NULL;
    if (!g_file_get_contents(path, &file, &length, &err)) {
        g_error("%s", err->message);
    }
    u8 *code = aligned_alloc(PAGE, (length + 64 * PAGE) / PAGE * PAGE);
    *size = 0;
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
    if (length < sizeof(*header) || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0) {
        memcpy(code, file, length);
        *size = length;
    } else {
        const Elf64_Shdr *section = (const Elf64_Shdr *)(file + header->e_shoff);
        const Elf64_Shdr *largest = NULL;
        for (unsigned i = 0; i < header->e_shnum; i++, section++) {
            if (section->sh_type == SHT_PROGBITS && section->sh_flags & SHF_EXECINSTR &&
                (!largest || section->sh_size > largest->sh_size)) {
                largest = section;
            }
        }
        if (largest) {
            memcpy(code, file + largest->sh_offset, largest->sh_size);
            *size = largest->sh_size;
        }
    }
    g_free(file);
    return code;
}

int main(int argc, char **argv)
{
    static const char *const names[STAGES] = {"decode", "passes", "emit"};
    if (argc < 2) {
        fprintf(stderr, "usage: translate FILE [ROUNDS]\n");
        return 1;
    }
    size_t size;
    u8 *code = read_code(argv[1], &size);
    const int rounds = argc > 2 ? atoi(argv[2]) : 10;
    GError *err = NULL;
    HartModel *model = riscv_model_new("rv64", &err);
    if (!model) {
        g_error("%s", err->message);
    }
    if (!exec_code_space_new(SPACE, &space, &err)) {
        g_error("%s", err->message);
    }
    Work w = {.model = model, .backend = new_backend(model)};
    w.first_code = (u32)(uintptr_t)space.exec + EXEC_STUB_AREA;

    double best[STAGES];
    for (Stage stage = DECODE; stage < STAGES; stage++) {
        best[stage] = 1e30;
        for (int i = 0; i < rounds; i++) {
            const double before = thread_ns();
            translate_all(&w, code, size, stage);
            best[stage] = MIN(best[stage], thread_ns() - before);
        }
    }
    const double n = (double)w.insns;
    printf("%.0f instructions, %.1f a block, %.2f records and %.1f bytes of host code each\n", n,
           n / (double)w.blocks, (double)w.records / n, (double)w.bytes / n);
    for (Stage stage = DECODE; stage < STAGES; stage++) {
        printf("%-8s %6.1f ns\n", names[stage],
               (best[stage] - (stage ? best[stage - 1] : 0)) / n);
    }
    printf("%-8s %6.1f ns\n", "all", best[EMIT] / n);
    backend_free(w.backend);
    g_free(model);
    free(code);
    return 0;
}
