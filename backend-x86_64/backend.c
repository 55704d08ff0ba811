/*
 * The backend's face: makes a backend, compiles blocks, enters code, patches links. Nothing here
 * changes after backend_new but code and links, so any thread may call it; each thread has its own
 * compiler state.
 */
#include <cpuid.h>

#include "backend-x86_64/compiler.h"
#include "core/base/bits.h"

bool backend_host_ok(GError **err)
{
    static const struct {
        const char *name;
        u32 leaf;
        u8 reg; /* 1 = ebx, 2 = ecx */
        u8 bit;
    } needed[] = {
        {"SSE4.2", 1, 2, 20}, {"PCLMULQDQ", 1, 2, 1},      {"FMA", 1, 2, 12}, {"MOVBE", 1, 2, 22},
        {"POPCNT", 1, 2, 23}, {"AVX", 1, 2, 28},           {"BMI1", 7, 1, 3}, {"AVX2", 7, 1, 5},
        {"BMI2", 7, 1, 8},    {"LZCNT", 0x80000001, 2, 5},
    };
    for (unsigned i = 0; i < ARRAY_LEN(needed); i++) {
        u32 r[4] = {0};
        if (!__get_cpuid_count(needed[i].leaf, 0, &r[0], &r[1], &r[2], &r[3]) ||
            !(r[needed[i].reg] >> needed[i].bit & 1)) {
            return stag_error(
                err,
                "This host's CPU lacks %s, which the translator needs (x86-64-v3); use "
                "-accel interp.",
                needed[i].name);
        }
    }
    /* The operating system has to save the AVX registers. */
    u32 a = 0, b = 0, c = 0, d = 0;
    __get_cpuid(1, &a, &b, &c, &d);
    u32 xcr0 = 0, high;
    if (c >> 27 & 1) {
        __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(high) : "c"(0));
    }
    if ((xcr0 & 6) != 6) {
        return stag_error(err, "The host's kernel has AVX switched off; use -accel interp.");
    }
    return true;
}

static void map_registers(Backend *b)
{
    static const u8 ints[MAPPED_INTS] = {RAX, RBX, RCX, RDX, R8, R9, R10, R11, R12};
    for (unsigned i = 0; i < SLOTS; i++) {
        b->homes[i] =
            (Home){.kind = HOME_MEM, .opnd_kind = O_MEM, .reg = RBP,
                   .disp = (s16)cpu_disp(CPU_OFFSET_X(i))};
    }
    unsigned int_count = 0, float_count = 0;
    for (unsigned i = 0; i < b->config.hot_count; i++) {
        const IrHotReg *hot = &b->config.hot[i];
        Home *home = &b->homes[(hot->offset - CPU_OFFSET_X(0)) / 8];
        if (hot->is_float && float_count < MAPPED_FLOATS) {
            home->kind = HOME_XMM;
            home->opnd_kind = O_XMM;
            home->reg = (u8)float_count++;
        } else if (!hot->is_float && int_count < MAPPED_INTS) {
            home->kind = HOME_INT;
            home->opnd_kind = O_REG;
            home->reg = ints[int_count++];
        }
    }
}

static u8 flags_of(IrOp op)
{
    const IrOpInfo *info = &ir_op_info[op];
    if (info->may_trap || info->ends || info->leaves) {
        return OP_BARRIER;
    }
    if ((op >= IR_add && op < IR_select) || op == IR_box) {
        return OP_DROPS | OP_PROPAGATES;
    }
    return info->pure || op == IR_getstate || op == IR_pcrel ? OP_DROPS : 0;
}

static void describe_ops(Backend *b)
{
    for (unsigned op = 0; op < IR_OP_COUNT; op++) {
        b->info[op] = (OpInfo){flags_of((IrOp)op), (u8)strlen(ir_op_info[op].operands)};
    }
}

Backend *backend_new(const BackendConfig *config, GError **err)
{
    if (!backend_host_ok(err)) {
        return NULL;
    }
    Backend *b = g_new0(Backend, 1);
    b->config = *config;
    map_registers(b);
    b->config.hot = NULL; /* the caller's */
    describe_ops(b);
    if (!make_stubs(b, err) || !fault_register(b, err)) {
        g_free(b);
        return NULL;
    }
    return b;
}

void backend_free(Backend *backend)
{
    if (backend) {
        fault_unregister(backend);
        g_free(backend);
    }
}

void backend_set_find_block(Backend *backend, BackendFindBlock fn, void *opaque)
{
    backend->find_opaque = opaque;
    backend->find_block = fn;
}

bool backend_compile(Backend *backend, const IrBlock *block, u32 next_page_expected,
                     const CodeRoom *room, CompiledBlock *out)
{
    static GPrivate compiler_key = G_PRIVATE_INIT(free);
    Compiler *c = g_private_get(&compiler_key);
    if (!c) {
        c = aligned_alloc(64, ALIGN_UP(sizeof(Compiler), 64));
        g_assert(c);
        g_private_set(&compiler_key, c);
    }
    memset(c, 0, offsetof(Compiler, val));
    memset(c->owner, 0xff, sizeof(c->owner));
    memset(c->ghost, 0xff, sizeof(c->ghost));
    memset(c->xghost, 0xff, sizeof(c->xghost));
    memset(c->xowner, 0xff, sizeof(c->xowner));
    memset(c->home_value, 0xff, sizeof(c->home_value));
    c->backend = backend;
    c->block = block;
    c->out = out;
    c->start = code_writable(&backend->config.space, room->at);
    c->limit = c->start + room->size;
    c->room = room;
    c->a = (Asm){.p = c->start, .exec_delta = (u64)backend->config.space.write_delta};
    c->next_page_expected = next_page_expected;
    c->offset = block->page_offset;
    c->guarded = -1;
    c->group.slot = -1;
    c->next_int = 0;
    c->next_xmm = 12;
    c->x64 = block->xlen == IR_I64;
    out->start = room->at;
    out->link_count = 0;
    return compile_block(c);
}

u32 backend_miss_stub(const Backend *backend)
{
    return backend->stubs.miss;
}

CpuExit backend_enter(Backend *backend, CpuState *cpu, u32 entry, u32 *link_jump)
{
    typedef u64 (*EnterFn)(CpuState *, u32);
    const EnterFn enter = (EnterFn)(uintptr_t)backend->stubs.enter;
    const u64 result = enter(cpu, entry);
    *link_jump = (u32)(result >> 32);
    return (CpuExit)(u32)result;
}

/* Stores a word of code that other threads may be running. */
static void patch(const Backend *backend, u32 address, u32 value)
{
    __atomic_store_n((u32 *)code_writable(&backend->config.space, address), value,
                     __ATOMIC_SEQ_CST);
}

void backend_link(const Backend *backend, const CodeLink *link, u32 target, u32 page)
{
    patch(backend, link->jump, target - (link->jump + 4));
    if (link->expect) {
        patch(backend, link->expect, page);
    }
}

void backend_unlink(const Backend *backend, const CodeLink *link)
{
    if (link->expect) {
        patch(backend, link->expect, CODE_NO_PAGE);
    }
    patch(backend, link->jump, link->stub - (link->jump + 4));
}

void backend_for_each_stub(const Backend *backend,
                           void (*fn)(void *opaque, const char *name, u32 start, u32 size),
                           void *opaque)
{
    const Stubs *s = &backend->stubs;
    /* In the order in which stubs.c lays them out. */
    const struct {
        const char *name;
        u32 start;
    } stubs[] = {
        {"leave", s->leave}, {"miss", s->miss}, {"dispatch", s->dispatch}, {"enter", s->enter},
        {"exit", s->exit_packed[EXIT_BUDGET]}, {"memory", s->load[0]}, {"atomic", s->atomic},
        {"call", s->call[0][0][0]}, {"eval_fp", s->eval_fp}, {"eval_int", s->eval_int},
        {NULL, s->end},
    };
    for (unsigned i = 0; stubs[i].name; i++) {
        fn(opaque, stubs[i].name, stubs[i].start, stubs[i + 1].start - stubs[i].start);
    }
}
