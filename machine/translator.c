/* Wires frontend, core/exec and a backend: see translator.h. */
#include "machine/translator.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "backend-x86_64/backend.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "machine/interp.h"

struct Translator {
    const HartModel *model;
    Backend *backend; /* T1 */
    Interp *interp;   /* T0 */
    Exec *exec;
    FILE *perf_map;
};

static bool translate(void *opaque, const u8 *page, u32 offset, const u8 *next_page,
                      unsigned max_insns, IrBlock *out)
{
    const Translator *t = opaque;
    TranslateInput in = {t->model, page, offset, next_page, max_insns};
    return riscv_translate(&in, out) == TRANSLATE_OK;
}

/* Prints the guest instructions of a block by its `insn` records. */
static void disassemble(void *opaque, FILE *out, const IrBlock *block, const u8 *page,
                        const u8 *next_page, u64 page_va)
{
    const Translator *t = opaque;
    for (u32 i = 0; i < block->count; i++) {
        const IrInsn *insn = &block->insns[i];
        if (insn->op != IR_insn) {
            continue;
        }
        u32 word = 0;
        char text[96];
        for (u32 k = 0; k < insn->aux; k++) {
            u32 offset = (u32)insn->imm + k;
            const u8 *p = offset < VIEW_PAGE_SIZE ? page + offset
                          : next_page             ? next_page + offset - VIEW_PAGE_SIZE
                                                  : NULL;
            word |= p ? (u32)*p << 8 * k : 0;
        }
        u64 pc = page_va + (u64)(s64)insn->imm;
        riscv_disassemble(t->model, word, pc, text, sizeof(text));
        fprintf(out, "0x%016" PRIx64 ":  %0*x%*s  %s\n", pc, insn->aux * 2, word, 8 - insn->aux * 2,
                "", text);
    }
}

static bool t1_compile(void *backend, const IrBlock *block, u32 next_page_expected,
                       const CodeRoom *room, CompiledBlock *out)
{
    return backend_compile(backend, block, next_page_expected, room, out);
}

static u32 t1_miss_stub(const void *backend)
{
    return backend_miss_stub(backend);
}

static CpuExit t1_enter(void *backend, CpuState *cpu, u32 entry, u32 *link_jump)
{
    return backend_enter(backend, cpu, entry, link_jump);
}

static void t1_link(const void *backend, const CodeLink *link, u32 target, u32 page)
{
    backend_link(backend, link, target, page);
}

static void t1_unlink(const void *backend, const CodeLink *link)
{
    backend_unlink(backend, link);
}

static void t1_disassemble(FILE *out, const void *backend, u32 start, u32 size)
{
    backend_disassemble(out, backend, start, size);
}

static void perf_map_line(void *opaque, const char *name, u32 start, u32 size)
{
    fprintf(opaque, "%x %x stub_%s\n", start, size, name);
}

static Backend *t1_new(const HartModel *model, const CodeSpace *space, GError **err)
{
    unsigned count;
    const IrHotReg *hot = riscv_hot_regs(&count);
    BackendConfig config = {
        .space = *space,
        .stub_area = (u32)(uintptr_t)space->exec,
        .stub_area_size = EXEC_STUB_AREA,
        .hot = hot,
        .hot_count = count,
        .canonical_test = view_needs_canonical_test(),
        .xlen = model->rv32 ? IR_I32 : IR_I64,
        .take_trap = riscv_take_trap,
    };
    return backend_new(&config, err);
}

static bool open_perf_map(Translator *t, GError **err)
{
    g_autofree char *path = g_strdup_printf("/tmp/perf-%d.map", (int)getpid());
    t->perf_map = fopen(path, "w");
    if (!t->perf_map) {
        return stag_error(err, "-perfmap: cannot write '%s': %s", path, strerror(errno));
    }
    if (t->backend) {
        backend_for_each_stub(t->backend, perf_map_line, t->perf_map);
    }
    return true;
}

Translator *translator_new(const TranslatorConfig *config, const HartModel *model, Bus *bus,
                           GError **err)
{
    if (config->accel == ACCEL_JIT && !backend_host_ok(err)) {
        return NULL;
    }
    CodeSpace space;
    u64 size = config->cache_size ? config->cache_size : TRANSLATOR_CACHE_SIZE;
    if (!exec_code_space_new(MAX(size, TRANSLATOR_CACHE_MIN) + EXEC_STUB_AREA, &space, err)) {
        return NULL;
    }
    Translator *t = g_new0(Translator, 1);
    t->model = model;
    ExecOps ops = {
        .opaque = t,
        .translate = translate,
        .take_trap = riscv_take_trap,
        .guard_failed = riscv_guard_failed,
        .dump_cpu = riscv_dump_state,
        .disassemble = disassemble,
    };
    if (config->accel == ACCEL_JIT) {
        t->backend = t1_new(model, &space, err);
        if (!t->backend) {
            exec_code_space_free(&space);
            g_free(t);
            return NULL;
        }
        ops.backend = t->backend;
        ops.compile = t1_compile;
        ops.miss_stub = t1_miss_stub;
        ops.enter = t1_enter;
        ops.link = t1_link;
        ops.unlink = t1_unlink;
        ops.disassemble_host = t1_disassemble;
    } else {
        t->interp = interp_new(&space, riscv_guard_failed);
        interp_fill_ops(t->interp, &ops);
    }
    if (config->perf_map && !open_perf_map(t, err)) {
        exec_code_space_free(&space);
        translator_free(t);
        return NULL;
    }
    ExecConfig exec_config = {
        .max_insns = config->max_insns ? config->max_insns : TRANSLATOR_MAX_INSNS,
        .harts = config->harts,
        .xlen = model->rv32 ? IR_I32 : IR_I64,
        .links = !log_on(LOG_EXEC | LOG_CPU),
        .perf_map = t->perf_map,
    };
    t->exec = exec_new(&ops, &exec_config, &space, bus, err);
    if (!t->exec) {
        translator_free(t);
        return NULL;
    }
    if (t->backend) {
        backend_set_find_block(t->backend, exec_find_block, t->exec);
    }
    return t;
}

void translator_free(Translator *t)
{
    if (t->exec) {
        exec_free(t->exec);
    }
    if (t->backend) {
        backend_free(t->backend);
    }
    if (t->interp) {
        interp_free(t->interp);
    }
    if (t->perf_map) {
        fclose(t->perf_map);
    }
    g_free(t);
}

Exec *translator_exec(Translator *t)
{
    return t->exec;
}
