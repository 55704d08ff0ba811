/*
 * The x86-64 backend against the IR interpreter: small blocks are compiled, run, and the whole
 * CpuState, guest memory and the kind of exit compared with what T0 makes of the same block and
 * state. Guest memory is a few pages behind view tables that the test fills itself; the softmmu's
 * functions are replaced by simple ones below, used by both sides.
 *
 * STAG_FUZZ=n in the environment makes the random tests n times as long.
 */
#include <check.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend-x86_64/backend.h"
#include "core/ir/builder.h"
#include "softmmu/softmmu.h"

/* Address sanitizer's shadow stands where aliases of guest memory have to be unmapped. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { CODE_BYTES = 4 << 20, PAGES = 8, RAM_BYTES = PAGES * 4096 };

/* Guest pages from DATA_VA on: 0..3 plain memory, 4 without table entries, 5 read-only, 6 unmapped,
 * 7 plain. The last page also stands at the top of the address space. */
#define DATA_VA 0x40000000u
#define CODE_VA 0x50000000u
#define HOST_RAM ((u8 *)0x201000000000)

static struct World {
    Backend *backend;
    CodeSpace space;
    u32 next_code;
    IrType xlen;
    u8 *tables; /* reservation */
    void *view;
    u8 *ram, *ram_copy;
    u32 block_start, block_tables;
    u64 slow_calls;
} w;

static u32 below(u32 n);

/* ---- Guest memory ------------------------------------------------------------------------------
 */

static u8 *host_of(u64 va, bool write)
{
    if (w.xlen == IR_I64 && !view_canonical(va)) {
        return NULL;
    }
    const u64 top = w.xlen == IR_I64 ? ~(u64)0xfff : 0xfffff000;
    if ((va & ~(u64)0xfff) == top) {
        return w.ram + 7 * 4096 + (va & 0xfff);
    }
    const u64 offset = va - DATA_VA;
    if (va < DATA_VA || offset >= RAM_BYTES) {
        return NULL;
    }
    const u64 page = offset / 4096;
    return page == 6 || (page == 5 && write) ? NULL : w.ram + offset;
}

/* The first byte of an access that faults, or ~0 minus 1 shape: found by the flag. */
static bool access_ok(CpuState *cpu, u64 va, unsigned size_log2, bool write, u64 cause)
{
    for (unsigned i = 0; i < 1u << size_log2; i++) {
        u64 at = va + i;
        if (w.xlen == IR_I32) {
            at = (u32)at;
        }
        if (!host_of(at, write)) {
            return cpu_trap(cpu, cause, at);
        }
    }
    return true;
}

bool mmu_load(CpuState *cpu, u64 va, unsigned size_log2, u64 *value)
{
    w.slow_calls++;
    if (!access_ok(cpu, va, size_log2, false, 13)) {
        return false;
    }
    *value = 0;
    for (unsigned i = 0; i < 1u << size_log2; i++) {
        *value |= (u64)*host_of(w.xlen == IR_I32 ? (u32)(va + i) : va + i, false) << 8 * i;
    }
    return true;
}

bool mmu_store(CpuState *cpu, u64 va, unsigned size_log2, u64 value)
{
    w.slow_calls++;
    if (!access_ok(cpu, va, size_log2, true, 15)) {
        return false;
    }
    for (unsigned i = 0; i < 1u << size_log2; i++) {
        *host_of(w.xlen == IR_I32 ? (u32)(va + i) : va + i, true) = (u8)(value >> 8 * i);
    }
    return true;
}

static void set_entry(s64 table, u64 va, const u8 *host)
{
    *view_entry(w.view, table, va) = host ? (u64)(uintptr_t)host - va : 0;
}

bool mmu_prepare(CpuState *cpu, u64 va, unsigned size_log2, bool store, bool *ready)
{
    w.slow_calls++;
    *ready = false;
    if ((va & 0xfff) + (1u << size_log2) > 0x1000) {
        return true;
    }
    if (!access_ok(cpu, va, size_log2, store, store ? 15 : 13)) {
        return false;
    }
    if (below(2)) { /* as if the page had not been used so far, else as if it were a device's */
        const u64 page = va & ~(u64)0xfff;
        set_entry(store ? VIEW_WRITE_OFFSET : VIEW_READ_OFFSET, page, host_of(page, store));
        *ready = true;
    }
    return true;
}

bool mmu_amo_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    w.slow_calls++;
    if (va & ((1u << size_log2) - 1)) {
        return cpu_trap(cpu, 6, va);
    }
    *host = host_of(va, true);
    return *host || cpu_trap(cpu, 15, va);
}

bool mmu_zero(CpuState *cpu, u64 va)
{
    w.slow_calls++;
    u8 *host = host_of(w.xlen == IR_I32 ? (u32)va & ~63u : va & ~(u64)63, true);
    if (!host) {
        return cpu_trap(cpu, 15, va);
    }
    memset(host, 0, 64);
    return true;
}

bool mmu_lr_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    w.slow_calls++;
    if (va & ((1u << size_log2) - 1)) {
        return cpu_trap(cpu, 4, va);
    }
    *host = host_of(va, false);
    return *host || cpu_trap(cpu, 13, va);
}

static void fill_tables(void)
{
    for (unsigned i = 0; i < PAGES; i++) {
        const u64 va = DATA_VA + 4096 * i;
        const bool none = i == 4 || i == 6;
        set_entry(VIEW_READ_OFFSET, va, none ? NULL : w.ram + 4096 * i);
        set_entry(VIEW_WRITE_OFFSET, va, none || i == 5 ? NULL : w.ram + 4096 * i);
    }
    const u64 top = w.xlen == IR_I64 ? ~(u64)0xfff : 0xfffff000;
    set_entry(VIEW_READ_OFFSET, top, w.ram + 7 * 4096);
    set_entry(VIEW_WRITE_OFFSET, top, w.ram + 7 * 4096);
}

/* ---- The world ---------------------------------------------------------------------------------
 */

static bool find_block(void *opaque, u32 address, u32 *start, u32 *tables)
{
    (void)opaque;
    (void)address;
    *start = w.block_start;
    *tables = w.block_tables;
    return true;
}

/* a0-a5, sp, s0, s1, then others; f10-f17, f0-f3, then others. */
static const IrHotReg hot[] = {
    {CPU_OFFSET_X(10), false}, {CPU_OFFSET_X(11), false}, {CPU_OFFSET_X(12), false},
    {CPU_OFFSET_X(13), false}, {CPU_OFFSET_X(14), false}, {CPU_OFFSET_X(15), false},
    {CPU_OFFSET_X(2), false},  {CPU_OFFSET_X(8), false},  {CPU_OFFSET_X(9), false},
    {CPU_OFFSET_X(1), false},  {CPU_OFFSET_X(16), false}, {CPU_OFFSET_F(10), true},
    {CPU_OFFSET_F(11), true},  {CPU_OFFSET_F(12), true},  {CPU_OFFSET_F(13), true},
    {CPU_OFFSET_F(14), true},  {CPU_OFFSET_F(15), true},  {CPU_OFFSET_F(16), true},
    {CPU_OFFSET_F(17), true},  {CPU_OFFSET_F(0), true},   {CPU_OFFSET_F(1), true},
    {CPU_OFFSET_F(2), true},   {CPU_OFFSET_F(3), true},   {CPU_OFFSET_F(4), true},
};

static void world_open(IrType xlen, bool canonical_test)
{
    w.xlen = xlen;
    int fd = memfd_create("code", 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, CODE_BYTES), 0);
    w.space.exec = mmap(NULL, CODE_BYTES, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_32BIT, fd, 0);
    u8 *write = mmap(NULL, CODE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(w.space.exec, MAP_FAILED);
    ck_assert_ptr_ne(write, MAP_FAILED);
    close(fd);
    w.space.size = CODE_BYTES;
    w.space.write_delta = write - w.space.exec;

    w.tables = mmap(NULL, 3 * VIEW_TABLE_BYTES, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ck_assert_ptr_ne(w.tables, MAP_FAILED);
    w.view = w.tables + VIEW_TABLE_BYTES;
    w.ram = mmap(HOST_RAM, RAM_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_ptr_eq(w.ram, HOST_RAM);
    w.ram_copy = g_malloc(RAM_BYTES);
    fill_tables();

    BackendConfig config = {
        .space = w.space,
        .stub_area = (u32)(uintptr_t)w.space.exec,
        .stub_area_size = BACKEND_STUB_AREA,
        .hot = hot,
        .hot_count = ARRAY_LEN(hot),
        .canonical_test = canonical_test || SANITIZED,
        .xlen = xlen,
    };
    GError *err = NULL;
    w.backend = backend_new(&config, &err);
    ck_assert_msg(w.backend != NULL, "%s", err ? err->message : "");
    backend_set_find_block(w.backend, find_block, NULL);
    w.next_code = config.stub_area + BACKEND_STUB_AREA;
}

static void world_close(void)
{
    backend_free(w.backend);
    munmap(w.space.exec, CODE_BYTES);
    munmap(w.space.exec + w.space.write_delta, CODE_BYTES);
    munmap(w.tables, 3 * VIEW_TABLE_BYTES);
    munmap(w.ram, RAM_BYTES);
    g_free(w.ram_copy);
}

/* ---- Building and running ----------------------------------------------------------------------
 */

static u64 helper_mix(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)cpu;
    return (u32)a * 3 + (u32)b * 5 + (u32)c * 7 + d;
}

static u64 helper_pc(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)b; (void)c; (void)d;
    if (a & 1) {
        cpu->pc += 1000; /* nobody may rely on what a trapping helper did to pc */
        cpu_trap(cpu, 2, a & 0xff);
    }
    return cpu->pc * 8 + cpu->refund + cpu_insns(cpu);
}

static u64 helper_regs(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)b; (void)c; (void)d;
    u64 sum = 0;
    for (unsigned i = 1; i < 32; i++) {
        sum = sum * 3 + cpu->x[i] + cpu->f[i];
    }
    cpu->x[10] = (u32)(cpu->x[10] + (u32)a);
    cpu->x[20] = (u32)(sum >> 7);
    cpu->f[11] ^= sum;
    cpu->f[25] = cpu->f[10];
    return sum;
}

static u64 helper_fp(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)a; (void)b; (void)c; (void)d;
    const u64 old = cpu->fflags;
    cpu->fflags = 1;
    cpu->frm = (cpu->frm + 1) & 3;
    return old;
}

static u64 helper_next(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)b; (void)c; (void)d;
    if (a & 2) {
        cpu->pc = CODE_VA + (a & 0xffc);
        cpu->status = a & 4 ? CPU_HALT : CPU_NEXT;
    }
    return a;
}

enum { H_MIX, H_PC, H_REGS, H_FP, H_NEXT, H_MAYBE, H_COUNT };
static const IrHelper helpers[H_COUNT] = {
    [H_MIX] = {"mix", helper_mix, 3, HELPER_IMM},
    [H_PC] = {"pc", helper_pc, 1, HELPER_TRAPS | HELPER_PC},
    [H_REGS] = {"regs", helper_regs, 1, HELPER_REGS},
    [H_FP] = {"fp", helper_fp, 0, HELPER_FP},
    [H_NEXT] = {"next", helper_next, 1, HELPER_TRAPS | HELPER_PC | HELPER_IMM},
    [H_MAYBE] = {"maybe", helper_next, 0, HELPER_TRAPS | HELPER_PC | HELPER_IMM},
};

static IrInsn insns[IR_MAX_INSNS];
static IrBlock block;

static IrBlock *begin(u32 offset)
{
    block = (IrBlock){.insns = insns, .page_offset = offset, .xlen = w.xlen, .helpers = helpers};
    return &block;
}

static void mark(IrBlock *b, s32 offset)
{
    ir_0(b, IR_insn, IR_NOTYPE, 4, offset);
    b->guest_insns++;
}

static CompiledBlock compiled;

static void compile(const IrBlock *b)
{
    char *error = ir_check(b);
    if (error) {
        ir_print(stderr, b);
        ck_abort_msg("bad block: %s", error);
    }
    if (w.next_code + (256 << 10) > (u32)(uintptr_t)w.space.exec + CODE_BYTES) {
        w.next_code = (u32)(uintptr_t)w.space.exec + BACKEND_STUB_AREA;
    }
    ck_assert(backend_compile(w.backend, b, 0, &(CodeRoom){w.next_code, 256 << 10, 0, 0}, &compiled));
    ck_assert_uint_le(compiled.size, 256 << 10);
    w.block_start = compiled.start;
    w.block_tables = compiled.tables;
    w.next_code += (compiled.size + 15) & ~15u;
}

static bool next_page_no(CpuState *cpu, const void *expected)
{
    (void)cpu; (void)expected;
    return false;
}

static const IrInterpreter callbacks = {
    .next_page_ok = next_page_no,
    .load = mmu_load, .store = mmu_store, .amo_host = mmu_amo_host, .lr_host = mmu_lr_host,
    .zero = mmu_zero,
};

static CpuState start_state(void)
{
    CpuState cpu = {.view = w.view, .budget = 100000, .insn_base = 100000, .fp_ready = 1};
    return cpu;
}

static const char *reg_name(unsigned word)
{
    static char name[16];
    word -= CPU_OFFSET_X(0) / 8;
    snprintf(name, sizeof(name), word < 32 ? "x%u" : word < 64 ? "f%u" : "word %u",
             word < 32 ? word : word < 64 ? word - 32 : word);
    return name;
}

static bool same_state(const CpuState *t0, const CpuState *t1)
{
    return memcmp(t0, t1, offsetof(CpuState, host_stack)) == 0 && memcmp(w.ram, w.ram_copy, RAM_BYTES) == 0;
}

/* Generated code has left with EXIT_SPLIT: the interpreter comes to the same state when it stops
 * before one of the accesses of the instruction at pc. Memory is as `before` when it begins. */
static bool split_right(const IrBlock *b, const CpuState *start, const CpuState *t1, const u8 *before)
{
    static IrInsn cut_insns[IR_MAX_INSNS];
    static u8 after[RAM_BYTES];
    IrBlock cut = *b;
    bool right = false;
    memcpy(after, w.ram, RAM_BYTES);
    cut.insns = cut_insns; /* guest_insns stays: helpers see what is to be refunded */
    for (u32 i = 0; i < b->count && !right; i++) {
        cut.insns[i] = b->insns[i];
        if (b->insns[i].op != IR_ld && b->insns[i].op != IR_st) {
            continue;
        }
        /* A trap instead of the access shows the state before it. */
        CpuState t0 = *start;
        IrBlock until = cut;
        until.count = i;
        ir_1(&until, IR_trap, w.xlen, w.xlen, 2, b->insns[i].a);
        memcpy(w.ram, before, RAM_BYTES);
        const CpuExit e = ir_interpret(&until, &t0, &callbacks);
        cut.insns[i] = b->insns[i];
        t0.trap_cause = t1->trap_cause; /* the trap was ours */
        t0.trap_value = t1->trap_value;
        t0.code_page = t1->code_page; /* generated code's own */
        memcpy(w.ram_copy, w.ram, RAM_BYTES);
        memcpy(w.ram, after, RAM_BYTES);
        right = e == EXIT_TRAP && same_state(&t0, t1);
    }
    memcpy(w.ram, after, RAM_BYTES);
    return right;
}

/* Runs the block that was compiled last and the interpreter from *start and compares. Returns the
 * exit; the state afterwards is in *end. */
static CpuExit run_compare(const IrBlock *b, const CpuState *start, CpuState *end)
{
    static _Alignas(64) u8 before[RAM_BYTES];
    static CpuState t0, t1;
    memcpy(before, w.ram, RAM_BYTES);
    t0 = *start;
    t0.pc = (t0.pc & ~(u64)0xfff) | b->page_offset;
    t1 = t0;

    const CpuExit e0 = ir_interpret(b, &t0, &callbacks);
    memcpy(w.ram_copy, w.ram, RAM_BYTES);
    memcpy(w.ram, before, RAM_BYTES);

    u32 link;
    const u32 mxcsr = __builtin_ia32_stmxcsr();
    const CpuState begin = t1;
    fill_tables();
    const CpuExit e1 = backend_enter(w.backend, &t1, compiled.start, &link);
    ck_assert_uint_eq(__builtin_ia32_stmxcsr(), mxcsr);

    t0.code_page = t1.code_page; /* generated code's own, and all from host_stack on */
    const bool same = e1 == EXIT_SPLIT ? split_right(b, &begin, &t1, before)
                                       : e0 == e1 && same_state(&t0, &t1);
    if (!same) {
        fprintf(stderr, "xlen %u: T0 exit %d pc %lx, T1 exit %d pc %lx\n", ir_type_bits(w.xlen), e0,
                t0.pc, e1, t1.pc);
        ir_print(stderr, b);
        backend_disassemble(stderr, w.backend, compiled.start, compiled.size);
        const u64 *p0 = (const u64 *)&t0, *p1 = (const u64 *)&t1, *ps = (const u64 *)start;
        for (unsigned i = 0; i < offsetof(CpuState, host_stack) / 8; i++) {
            if (p0[i] != p1[i]) {
                fprintf(stderr, "%s: was %016lx, T0 %016lx, T1 %016lx\n", reg_name(i), ps[i], p0[i],
                        p1[i]);
            } else if (i < CPU_OFFSET_F(32) / 8 && ps[i]) {
                fprintf(stderr, "%s: was %016lx, now %016lx\n", reg_name(i), ps[i], p0[i]);
            }
        }
        for (unsigned i = 0; i < RAM_BYTES; i++) {
            if (w.ram[i] != w.ram_copy[i]) {
                fprintf(stderr, "memory %x: was %02x, T0 %02x, T1 %02x\n", DATA_VA + i, before[i],
                        w.ram_copy[i], w.ram[i]);
            }
        }
        ck_abort_msg("T0 and T1 differ");
    }
    *end = t1;
    if (e1 == EXIT_LINK || e1 == EXIT_SPLIT) {
        bool known = false;
        for (u32 i = 0; i < compiled.link_count; i++) {
            known |= compiled.links[i].jump == link;
        }
        ck_assert(known);
    } else {
        ck_assert_uint_eq(link, 0);
    }
    return e1;
}

/* ---- Random numbers ----------------------------------------------------------------------------
 */

static u64 seed;

static u64 rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed * 0x2545f4914f6cdd1d;
}

static u32 below(u32 n)
{
    return (u32)(rnd() >> 33) % n;
}

static unsigned fuzz_factor(void)
{
    const char *s = getenv("STAG_FUZZ");
    return s ? (unsigned)atoi(s) : 1;
}

static const u64 edges[] = {
    0,
    1,
    2,
    3,
    7,
    8,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fffffff,
    0x80000000,
    0x80000001,
    0xffffffff,
    0x100000000,
    0x7fffffffffffffff,
    0x8000000000000000,
    0x8000000000000001,
    ~(u64)0,
    ~(u64)1,
    0xffffffff80000000,
    0xffffffff7fffffff,
    0x0102030405060708,
    0xff00ff0080017f80,
    0x5555555555555555,
};

static u64 random_word(void)
{
    switch (below(4)) {
    case 0: return edges[below(ARRAY_LEN(edges))];
    case 1: return (u64)(s64)(s8)rnd();
    case 2: return rnd() >> below(64);
    default: return rnd();
    }
}

static const u32 f32_edges[] = {
    0,          0x80000000, 1,          0x80000001, 0x007fffff, 0x00800000, 0x3f800000,
    0xbf800000, 0x3f000000, 0x3f7fffff, 0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000,
    0x7fc00000, 0xffc00000, 0x7f800001, 0x7fa00000, 0x4f000000, 0xcf000000, 0x4effffff,
    0x4f800000, 0x4f7fffff, 0x5f000000, 0x5effffff, 0xdf000000, 0x5f800000, 0x40490fdb,
    0x3dcccccd, 0xbf7fffff, 0x3fc00000, 0x40200000, 0xbf000000,
};
static const u64 f64_edges[] = {
    0,
    0x8000000000000000,
    1,
    0x8000000000000001,
    0x000fffffffffffff,
    0x0010000000000000,
    0x3ff0000000000000,
    0xbff0000000000000,
    0x3fe0000000000000,
    0x3fefffffffffffff,
    0x7fefffffffffffff,
    0xffefffffffffffff,
    0x7ff0000000000000,
    0xfff0000000000000,
    0x7ff8000000000000,
    0xfff8000000000000,
    0x7ff0000000000001,
    0x7ff4000000000000,
    0x41dfffffffc00000,
    0xc1e0000000000000,
    0x41e0000000000000,
    0x41efffffffe00000,
    0x41efffffffefffff,
    0x41f0000000000000,
    0x43e0000000000000,
    0xc3e0000000000000,
    0x43dfffffffffffff,
    0x43f0000000000000,
    0x36a0000000000000,
    0x380fffffffffffff,
    0x47efffffe0000000,
    0x47effffff0000000,
    0x400921fb54442d18,
    0x3fb999999999999a,
    0x3ff8000000000000,
    0x4004000000000000,
    0xbfe0000000000000,
    0x41dfffffffe00000,
    0xc1e0000000100000,
    0x3690000000000000,
};

/* A container: mostly interesting numbers of both widths, sometimes an F32 that is not boxed. */
static u64 random_float(void)
{
    switch (below(8)) {
    case 0:
    case 1: return f64_edges[below(ARRAY_LEN(f64_edges))];
    case 2:
    case 3: return f32_edges[below(ARRAY_LEN(f32_edges))] | 0xffffffff00000000;
    case 4: return (u32)rnd() | 0xffffffff00000000;
    case 5: return (rnd() & 0x800fffffffffffff) | (u64)(0x3c0 + below(0x80)) << 52;
    case 6: return (u16)rnd() | 0xffffffffffff0000;
    default: return rnd();
    }
}

static void random_registers(CpuState *cpu)
{
    for (unsigned i = 1; i < 32; i++) {
        cpu->x[i] = random_word();
        if (w.xlen == IR_I32) {
            cpu->x[i] = (u32)cpu->x[i];
        }
    }
    for (unsigned i = 0; i < 32; i++) {
        cpu->f[i] = random_float();
    }
    cpu->frm = (u8)below(4);
    cpu->fflags = 0;
}

/* ---- Integer operations, every placement -------------------------------------------------------
 */

enum Place { P_MAPPED1, P_MAPPED2, P_MEM1, P_MEM2, P_CONST, P_TEMP, PLACES };

static const u8 place_reg[] = {10, 11, 20, 21};

static IrValue place(IrBlock *b, IrType type, unsigned p, u64 constant)
{
    const IrType x = type == IR_I64 && b->xlen == IR_I32 ? IR_I32 : type;
    if (p == P_CONST || x != type) {
        return ir_const(b, type, (s64)constant);
    }
    if (p == P_TEMP) {
        return ir_1(b, IR_not, type, type, 0, ir_getreg(b, type, CPU_OFFSET_X(12)));
    }
    return ir_getreg(b, type, CPU_OFFSET_X(place_reg[p]));
}

static void put(IrBlock *b, unsigned reg, IrType type, IrValue v)
{
    if (type == IR_I32 && b->xlen == IR_I64) {
        v = ir_1(b, below(2) ? IR_sext32 : IR_zext32, IR_I64, IR_I64, 0, v);
    }
    ir_setreg(b, b->xlen, CPU_OFFSET_X(reg), v);
}

static void one_int_op(IrOp op, IrType type, IrType src, u16 aux, unsigned pa, unsigned pb,
                       unsigned pc, unsigned dest, bool keep)
{
    const unsigned n = (unsigned)strlen(ir_op_info[op].operands);
    IrBlock *b = begin(16);
    mark(b, 16);
    const IrValue va = place(b, src, pa, random_word());
    const IrValue vb = n > 1 ? place(b, src, pb, random_word()) : IR_NONE;
    const IrValue vc = n > 2 ? place(b, src, pc, random_word()) : IR_NONE;
    const IrValue v = n == 1   ? ir_1(b, op, type, src, aux, va)
                      : n == 2 ? ir_2(b, op, type, src, aux, va, vb)
                               : ir_3(b, op, type, src, aux, va, vb, vc);
    if (type == IR_I32 || w.xlen == IR_I64) {
        put(b, dest, type, v);
    }
    if (keep) {
        /* The operands and the result live on after the destination was overwritten. */
        if (type == IR_I32 || w.xlen == IR_I64) {
            put(b, 22, type, v);
        }
        if (src == IR_I32 || w.xlen == IR_I64) {
            put(b, 13, src, va);
            if (n > 1) {
                put(b, 23, src, vb);
            }
            if (n > 2) {
                put(b, 14, src, vc);
            }
        }
    }
    ir_0(b, IR_goto, IR_NOTYPE, 0, 20);
    compile(b);
    CpuState end;
    for (unsigned i = 0; i < 4; i++) {
        CpuState cpu = start_state();
        cpu.pc = CODE_VA;
        random_registers(&cpu);
        ck_assert_int_eq(run_compare(b, &cpu, &end), EXIT_LINK);
    }
}

static void int_ops(void)
{
    static const u8 dests[] = {10, 11, 15, 20, 25};
    for (IrOp op = IR_add; op <= IR_select; op++) {
        const unsigned n = (unsigned)strlen(ir_op_info[op].operands);
        for (IrType type = IR_I32; type <= (w.xlen == IR_I64 ? IR_I64 : IR_I32); type++) {
            const unsigned variants = op == IR_setcc ? 6 : op == IR_xperm ? 2 : 1;
            for (unsigned k = 0; k < variants; k++) {
                const u16 aux = (u16)(op == IR_xperm ? 4 + 4 * k : k);
                const IrType result = op == IR_setcc ? w.xlen : type;
                for (unsigned pa = 0; pa < PLACES; pa++) {
                    for (unsigned pb = 0; pb < (n > 1 ? (unsigned)PLACES : 1u); pb++) {
                        for (unsigned d = 0; d < ARRAY_LEN(dests); d++) {
                            one_int_op(op, result, type, aux, pa, pb, below(PLACES), dests[d],
                                       false);
                            one_int_op(op, result, type, aux, pa, pb, below(PLACES), dests[d],
                                       true);
                        }
                    }
                }
            }
        }
    }
}

START_TEST(test_int_ops_64)
{
    seed = 1;
    world_open(IR_I64, false);
    int_ops();
    world_close();
}
END_TEST

START_TEST(test_int_ops_32)
{
    seed = 2;
    world_open(IR_I32, false);
    int_ops();
    world_close();
}
END_TEST

/* ---- Floating point, every operation and mode --------------------------------------------------
 */

static IrValue float_operand(IrBlock *b, IrType type, unsigned reg)
{
    const IrValue v = ir_getreg(b, IR_F64, CPU_OFFSET_F(reg));
    return type == IR_F64 ? v : ir_1(b, IR_unbox, type, IR_F64, 0, v);
}

static void put_float(IrBlock *b, IrType type, unsigned reg, IrValue v)
{
    if (type != IR_F64) {
        v = ir_1(b, IR_box, IR_F64, type, 0, v);
    }
    ir_setreg(b, IR_F64, CPU_OFFSET_F(reg), v);
}

static void one_fp_op(IrOp op, IrType type, IrType src, u16 aux, const u8 *regs, unsigned dest,
                      bool keep)
{
    const IrOpInfo *info = &ir_op_info[op];
    const unsigned n = (unsigned)strlen(info->operands);
    IrBlock *b = begin(0);
    mark(b, 0);
    IrValue v[3] = {IR_NONE, IR_NONE, IR_NONE};
    for (unsigned i = 0; i < n; i++) {
        if (op == IR_fcvt_fi) {
            v[i] = ir_getreg(b, aux & IR_CVT_32 ? IR_I32 : IR_I64, CPU_OFFSET_X(regs[i]));
        } else {
            v[i] = float_operand(b, src, regs[i]);
        }
    }
    const IrValue r = ir_emit(b, (IrInsn){.op = (u8)op,
                                          .type = (u8)type,
                                          .src = (u8)src,
                                          .aux = aux,
                                          .a = v[0],
                                          .b = v[1],
                                          .c = v[2]});
    if (ir_type_is_int(type)) {
        put(b, dest, type, r);
    } else {
        put_float(b, type, dest, r);
        if (keep) {
            put_float(b, type, 5, r);
        }
    }
    if (keep && op != IR_fcvt_fi) {
        for (unsigned i = 0; i < n; i++) {
            put_float(b, src, 16 + i, v[i]);
        }
    }
    ir_0(b, IR_goto, IR_NOTYPE, 0, 4);
    compile(b);
    CpuState end;
    for (unsigned i = 0; i < 24; i++) {
        CpuState cpu = start_state();
        cpu.pc = CODE_VA;
        random_registers(&cpu);
        for (unsigned k = 0; k < n; k++) {
            if (op == IR_fcvt_fi) {
                continue;
            }
            if (src == IR_F32 && below(8)) {
                cpu.f[regs[k]] = 0xffffffff00000000 | f32_edges[below(ARRAY_LEN(f32_edges))];
            } else if (src == IR_F64 && below(4)) {
                cpu.f[regs[k]] = f64_edges[below(ARRAY_LEN(f64_edges))];
            }
        }
        cpu.frm = (u8)(i & 3);
        ck_assert_int_eq(run_compare(b, &cpu, &end), EXIT_LINK);
    }
}

static void fp_op(IrOp op, IrType type, IrType src, u16 aux)
{
    static const u8 regs[][3] = {
        {10, 11, 12}, {10, 10, 10}, {10, 20, 21}, {20, 10, 10},
        {10, 11, 10}, {11, 10, 10}, {20, 20, 11}, {10, 10, 11},
    };
    static const u8 dests[] = {10, 11, 12, 15, 20, 26};
    for (unsigned k = 0; k < ARRAY_LEN(regs); k++) {
        for (unsigned d = 0; d < ARRAY_LEN(dests); d++) {
            one_fp_op(op, type, src, aux, regs[k], dests[d], (k + d) & 1);
        }
    }
}

static void fp_ops(void)
{
    static const IrOp arith[] = {IR_fadd,  IR_fsub,  IR_fmul,   IR_fdiv,   IR_fsqrt,
                                 IR_fmadd, IR_fmsub, IR_fnmsub, IR_fnmadd, IR_fround};
    static const IrOp plain[] = {IR_fmin,  IR_fmax,   IR_fminm, IR_fmaxm,
                                 IR_fsgnj, IR_fsgnjn, IR_fsgnjx};
    static const IrOp to_int[] = {IR_feq, IR_flt, IR_fle, IR_fltq, IR_fleq, IR_fclass};
    static const u8 modes[] = {0, 1, 2, 3, 4, 7};
    for (IrType type = IR_F16; type <= IR_F64; type++) {
        for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
            for (unsigned i = 0; i < ARRAY_LEN(arith); i++) {
                fp_op(arith[i], type, type, modes[m]);
            }
            fp_op(IR_fround, type, type, modes[m] | IR_ROUND_EXACT);
            for (IrType to = IR_F16; to <= IR_F64; to++) {
                if (to != type) {
                    fp_op(IR_fcvt_ff, to, type, modes[m]);
                }
            }
            for (unsigned k = 0; k < 4; k++) {
                const u16 aux =
                    (u16)(modes[m] | (k & 1 ? IR_CVT_UNSIGNED : 0) | (k & 2 ? IR_CVT_32 : 0));
                if (w.xlen == IR_I64 || (k & 2)) {
                    fp_op(IR_fcvt_if, w.xlen, type, aux);
                    fp_op(IR_fcvt_fi, type, k & 2 ? IR_I32 : IR_I64, aux);
                }
            }
        }
        for (unsigned i = 0; i < ARRAY_LEN(plain); i++) {
            fp_op(plain[i], type, type, 0);
        }
        for (unsigned i = 0; i < ARRAY_LEN(to_int); i++) {
            fp_op(to_int[i], w.xlen, type, 0);
        }
    }
    fp_op(IR_fcvtmod, w.xlen, IR_F64, 0);
}

START_TEST(test_fp_ops_64)
{
    seed = 3;
    world_open(IR_I64, false);
    fp_ops();
    world_close();
}
END_TEST

START_TEST(test_fp_ops_32)
{
    seed = 4;
    world_open(IR_I32, false);
    fp_ops();
    world_close();
}
END_TEST

/* ---- Random blocks -----------------------------------------------------------------------------
 */

typedef struct Pool {
    IrValue v[64];
    unsigned count;
} Pool;

static Pool pool[IR_TYPE_COUNT];

static void remember(IrType type, IrValue v)
{
    Pool *p = &pool[type];
    p->v[p->count < 64 ? p->count++ : below(64)] = v;
}

static unsigned random_reg(void)
{
    return below(2) ? 8 + below(8) : 1 + below(31);
}

/* A value of the type: mostly an existing one. */
static IrValue some(IrBlock *b, IrType type)
{
    Pool *p = &pool[type];
    if (p->count && below(4)) {
        return p->v[below(2) ? p->count - 1 : below(p->count)];
    }
    IrValue v;
    switch (type) {
    case IR_I32:
        v = below(3) ? ir_getreg(b, IR_I32, CPU_OFFSET_X(random_reg()))
                     : ir_const(b, IR_I32, (s64)random_word());
        break;
    case IR_I64:
        if (w.xlen == IR_I64 && below(3)) {
            v = ir_getreg(b, IR_I64, CPU_OFFSET_X(random_reg()));
        } else {
            v = ir_const(b, IR_I64, (s64)random_word());
        }
        break;
    case IR_F64: v = ir_getreg(b, IR_F64, CPU_OFFSET_F(random_reg())); break;
    default: v = ir_1(b, IR_unbox, type, IR_F64, 0, some(b, IR_F64)); break;
    }
    remember(type, v);
    return v;
}

/* An address, mostly of mapped memory, in x7, x12 or x18 plus a displacement; these registers hold
 * such addresses at the start. */
static IrValue some_address(IrBlock *b, s32 *disp)
{
    static const u8 bases[] = {7, 12, 18};
    *disp = below(2) ? 0 : (s32)below(64) - 32;
    switch (below(4)) {
    case 0: {
        const IrValue base = ir_const(b, w.xlen, DATA_VA + below(3 * 4096));
        return below(2) ? base
                        : ir_2(b, IR_add, w.xlen, w.xlen, 0, base,
                               ir_2(b, IR_and, w.xlen, w.xlen, 0, some(b, w.xlen),
                                    ir_const(b, w.xlen, 0xff)));
    }
    case 1: return some(b, w.xlen);
    default: return ir_getreg(b, w.xlen, CPU_OFFSET_X(bases[below(3)]));
    }
}

static IrType int_type(void)
{
    return below(2) ? w.xlen : IR_I32;
}

static IrType float_type(void)
{
    return (IrType)(below(8) ? IR_F32 + below(2) : IR_F16);
}

static u16 some_rm(void)
{
    static const u8 modes[] = {7, 7, 7, 7, 0, 1, 2, 3, 4};
    return modes[below(ARRAY_LEN(modes))];
}

static void random_record(IrBlock *b)
{
    const IrType t = int_type(), f = float_type();
    IrValue v;
    s32 disp;
    switch (below(30)) {
    default: {
        IrOp op = (IrOp)(IR_add + below(IR_select - IR_add + 1));
        const unsigned n = (unsigned)strlen(ir_op_info[op].operands);
        if (op == IR_setcc) {
            v = ir_setcc(b, (IrCond)below(6), t, some(b, t), some(b, t));
            remember(w.xlen, v);
            break;
        }
        const u16 aux = op == IR_xperm ? (u16)(4 + 4 * below(2)) : 0;
        const IrValue x = some(b, t), y = n > 1 ? some(b, t) : IR_NONE,
                      z = n > 2 ? some(b, t) : IR_NONE;
        v = ir_emit(
            b, (IrInsn){
                   .op = (u8)op, .type = (u8)t, .src = (u8)t, .aux = aux, .a = x, .b = y, .c = z});
        remember(t, v);
        break;
    }
    case 8:
    case 9:
    case 10:
    case 11: ir_setreg(b, w.xlen, CPU_OFFSET_X(random_reg()), some(b, w.xlen)); break;
    case 12: ir_setreg(b, IR_F64, CPU_OFFSET_F(random_reg()), some(b, IR_F64)); break;
    case 13: put_float(b, f, random_reg(), some(b, f)); break;
    case 14: {
        const IrValue base = some_address(b, &disp);
        const unsigned size = below(w.xlen == IR_I64 ? 4 : 3);
        v = ir_ld(b, w.xlen, size, below(2), base, disp);
        remember(w.xlen, v);
        break;
    }
    case 15: {
        const IrValue base = some_address(b, &disp);
        v = ir_ld(b, f, f == IR_F16 ? 1 : f == IR_F32 ? 2 : 3, false, base, disp);
        remember(f, v);
        break;
    }
    case 16: {
        const IrValue base = some_address(b, &disp);
        ir_st(b, w.xlen, below(w.xlen == IR_I64 ? 4 : 3), base, disp, some(b, w.xlen));
        break;
    }
    case 17: {
        const IrValue base = some_address(b, &disp);
        ir_st(b, f, f == IR_F16 ? 1 : f == IR_F32 ? 2 : 3, base, disp, some(b, f));
        break;
    }
    case 18: {
        const IrValue base =
            ir_2(b, IR_and, w.xlen, w.xlen, 0, some_address(b, &disp), ir_const(b, w.xlen, -8));
        const u16 size = (u16)below(w.xlen == IR_I64 ? 4 : 3);
        if (!below(8)) {
            ir_1(b, IR_zero, IR_NOTYPE, IR_NOTYPE, 0, some_address(b, &disp));
            break;
        }
        switch (below(4)) {
        case 0:
            v = ir_3(b, IR_cas, w.xlen, w.xlen, size, base, some(b, w.xlen), some(b, w.xlen));
            break;
        case 1: v = ir_1(b, IR_lr, w.xlen, w.xlen, size, base); break;
        case 2: v = ir_2(b, IR_sc, w.xlen, w.xlen, size, base, some(b, w.xlen)); break;
        default:
            v = ir_2(b, IR_amo, w.xlen, w.xlen, (u16)(size | below(9) << IR_AMO_SHIFT), base,
                     some(b, w.xlen));
            break;
        }
        remember(w.xlen, v);
        break;
    }
    case 19:
    case 20: {
        const IrOp op = (IrOp)(IR_fadd + below(IR_fnmadd - IR_fadd + 1));
        const unsigned n = (unsigned)strlen(ir_op_info[op].operands);
        const IrValue x = some(b, f), y = n > 1 ? some(b, f) : IR_NONE,
                      z = n > 2 ? some(b, f) : IR_NONE;
        v = ir_emit(b, (IrInsn){.op = (u8)op,
                                .type = (u8)f,
                                .src = (u8)f,
                                .aux = some_rm(),
                                .a = x,
                                .b = y,
                                .c = z});
        remember(f, v);
        break;
    }
    case 21: {
        static const IrOp ops[] = {IR_fmin,  IR_fmax,   IR_fminm, IR_fmaxm,
                                   IR_fsgnj, IR_fsgnjn, IR_fsgnjx};
        const IrValue x = some(b, f), y = some(b, f);
        v = ir_2(b, ops[below(ARRAY_LEN(ops))], f, f, 0, x, y);
        remember(f, v);
        break;
    }
    case 22: {
        const IrValue x = some(b, f), y = some(b, f);
        v = ir_2(b, (IrOp)(IR_feq + below(5)), w.xlen, f, 0, x, y);
        remember(w.xlen, v);
        break;
    }
    case 23: {
        u16 aux = some_rm() | (below(2) ? IR_CVT_UNSIGNED : 0);
        if (w.xlen == IR_I32 || below(2)) {
            aux |= IR_CVT_32;
        }
        if (below(2)) {
            v = ir_1(b, IR_fcvt_if, w.xlen, f, aux, some(b, f));
            remember(w.xlen, v);
        } else {
            const IrType from = aux & IR_CVT_32 ? IR_I32 : IR_I64;
            v = ir_1(b, IR_fcvt_fi, f, from, aux, some(b, from));
            remember(f, v);
        }
        break;
    }
    case 24: {
        const IrType to = float_type();
        if (to != f) {
            v = ir_1(b, IR_fcvt_ff, to, f, some_rm(), some(b, f));
            remember(to, v);
        }
        break;
    }
    case 25:
        if (f == IR_F64) {
            v = ir_1(b, IR_fbits, IR_I64, f, 0, some(b, f));
            remember(IR_I64, v);
            v = ir_1(b, IR_ffrom, f, IR_I64, 0, some(b, IR_I64));
        } else {
            v = ir_1(b, IR_fbits, IR_I32, f, 0, some(b, f));
            remember(IR_I32, v);
            v = ir_1(b, IR_ffrom, f, IR_I32, 0, some(b, IR_I32));
        }
        remember(f, v);
        break;
    case 26: {
        const unsigned h = below(H_COUNT);
        const IrValue x = some(b, w.xlen), y = some(b, w.xlen), z = some(b, w.xlen);
        v = ir_call(b, w.xlen, h, helpers[h].args > 0 ? x : IR_NONE,
                    helpers[h].args > 1 ? y : IR_NONE, helpers[h].args > 2 ? z : IR_NONE,
                    (s32)rnd());
        if (h != H_PC && h != H_NEXT && h != H_MAYBE) {
            remember(w.xlen, v);
        } else {
            ir_setreg(b, w.xlen, CPU_OFFSET_X(random_reg()), v);
        }
        break;
    }
    case 27:
        if (!below(3)) {
            const IrType test = int_type();
            const IrValue x = below(4) ? some(b, test) : ir_const(b, test, (s64)below(2));
            ir_callif(b, test, below(2) ? H_FP : H_MAYBE, x, (s32)rnd());
        } else if (!below(4)) {
            const IrType bt = int_type();
            const IrValue x = some(b, bt), y = some(b, bt);
            ir_br(b, (IrCond)below(6), bt, x, y, (s32)below(3 * 2048) * 2 - 4096);
        } else if (!below(8)) {
            ir_0(b, IR_guard, IR_NOTYPE, 0, offsetof(CpuState, fp_ready));
        }
        break;
    case 28:
        switch (below(4)) {
        case 0:
            remember(IR_I32, ir_0(b, IR_getstate, IR_I32, 2, offsetof(CpuState, fflags)));
            break;
        case 1:
            v = ir_2(b, IR_and, IR_I32, IR_I32, 0, some(b, IR_I32), ir_const(b, IR_I32, 31));
            v = ir_1(b, IR_setstate, IR_I32, IR_I32, 2, v);
            b->insns[v].imm = offsetof(CpuState, fflags);
            break;
        case 2:
            v = ir_1(b, IR_setstate, w.xlen, w.xlen, (u16)below(w.xlen == IR_I64 ? 4 : 3),
                     some(b, w.xlen));
            b->insns[v].imm = offsetof(CpuState, trap_value);
            v = ir_0(b, IR_getstate, w.xlen, (u16)below(w.xlen == IR_I64 ? 4 : 3),
                     offsetof(CpuState, trap_value));
            remember(w.xlen, v);
            break;
        default:
            v = ir_0(b, IR_pcrel, w.xlen, 0, (s32)rnd());
            remember(w.xlen, v);
            break;
        }
        break;
    case 29: {
        /* Classes crossed on purpose. */
        switch (below(6)) {
        case 0: ir_setreg(b, IR_I64, CPU_OFFSET_F(random_reg()), some(b, IR_I64)); break;
        case 1: remember(IR_I64, ir_getreg(b, IR_I64, CPU_OFFSET_F(random_reg()))); break;
        case 2: ir_setreg(b, IR_I32, CPU_OFFSET_X(random_reg()), some(b, IR_I32)); break;
        case 3: remember(IR_I64, ir_1(b, IR_sext32, IR_I64, IR_I64, 0, some(b, IR_I32))); break;
        case 4: remember(IR_I32, ir_getreg(b, IR_I32, CPU_OFFSET_X(random_reg()))); break;
        default: remember(IR_I64, ir_1(b, IR_zext32, IR_I64, IR_I64, 0, some(b, IR_I32))); break;
        }
        break;
    }
    }
}

static void random_block(IrBlock *b, unsigned instructions)
{
    memset(pool, 0, sizeof(pool));
    s32 offset = (s32)b->page_offset;
    for (unsigned i = 0; i < instructions; i++) {
        mark(b, offset);
        offset += 4;
        const unsigned n = 1 + below(5);
        for (unsigned k = 0; k < n; k++) {
            random_record(b);
        }
    }
    switch (below(8)) {
    case 0: ir_1(b, IR_jump, w.xlen, w.xlen, 0, ir_2(b, IR_and, w.xlen, w.xlen, 0, some(b, w.xlen),
                                                     ir_const(b, w.xlen, -2)));
        break;
    case 1: ir_0(b, IR_next, IR_NOTYPE, 0, offset); break;
    case 2: ir_1(b, IR_trap, w.xlen, w.xlen, 2, some(b, w.xlen)); break;
    case 3:
        ir_call(b, w.xlen, H_NEXT, some(b, w.xlen), IR_NONE, IR_NONE, 0);
        ir_0(b, IR_leave, IR_NOTYPE, 0, 0);
        break;
    default: ir_0(b, IR_goto, IR_NOTYPE, 0, (s32)below(3 * 2048) * 2 - 4096); break;
    }
    b->guest_bytes = (u32)offset - b->page_offset;
}

static void fuzz(unsigned blocks)
{
    for (unsigned n = 0; n < blocks * fuzz_factor(); n++) {
        IrBlock *b = begin(below(512) * 4);
        random_block(b, 1 + below(n % 16 == 0 ? 120 : 12));
        compile(b);
        CpuState end;
        for (unsigned i = 0; i < 4; i++) {
            for (unsigned k = 0; k < RAM_BYTES / 8; k += 1 + below(100)) {
                ((u64 *)w.ram)[k] = random_word();
            }
            CpuState cpu = start_state();
            cpu.pc = CODE_VA;
            cpu.fp_ready = below(16) != 0;
            random_registers(&cpu);
            static const u8 bases[] = {7, 12, 18};
            for (unsigned k = 0; k < ARRAY_LEN(bases); k++) {
                cpu.x[bases[k]] =
                    DATA_VA + below(4) * 4096 + (below(4) ? below(4096) : 4096 - below(8));
                if (!below(24)) {
                    cpu.x[bases[k]] += 4096 * 4;
                }
                if (!below(24) && w.xlen == IR_I64) {
                    cpu.x[bases[k]] += (u64)(1 + below(1 << 20)) << 39;
                }
            }
            run_compare(b, &cpu, &end);
        }
    }
}

START_TEST(test_fuzz_64)
{
    seed = 5;
    world_open(IR_I64, false);
    fuzz(20000);
    world_close();
}
END_TEST

START_TEST(test_fuzz_64_explicit)
{
    seed = 6;
    world_open(IR_I64, true);
    fuzz(10000);
    world_close();
}
END_TEST

START_TEST(test_fuzz_32)
{
    seed = 7;
    world_open(IR_I32, false);
    fuzz(20000);
    world_close();
}
END_TEST

/* ---- Memory: the fast path is taken, and left, where it should be ------------------------------
 */

/* Loads and stores of every size at an address in a register; returns slow calls that the block
 * made. */
static u64 slow_calls_of(bool store, unsigned size, unsigned base_reg, unsigned value_reg, s32 disp,
                         u64 va, CpuExit expected)
{
    IrBlock *b = begin(8);
    mark(b, 8);
    const IrValue a = ir_getreg(b, w.xlen, CPU_OFFSET_X(base_reg));
    if (store) {
        ir_st(b, w.xlen, size, a, disp, ir_getreg(b, w.xlen, CPU_OFFSET_X(value_reg)));
    } else {
        ir_setreg(b, w.xlen, CPU_OFFSET_X(value_reg), ir_ld(b, w.xlen, size, size & 1, a, disp));
    }
    ir_0(b, IR_goto, IR_NOTYPE, 0, 12);
    compile(b);
    CpuState cpu = start_state(), end;
    random_registers(&cpu);
    cpu.pc = CODE_VA;
    cpu.x[base_reg] = w.xlen == IR_I32 ? (u32)(va - (u64)(s64)disp) : va - (u64)(s64)disp;
    w.slow_calls = 0;
    CpuState t0 = cpu;
    t0.pc += 8;
    ir_interpret(b, &t0, &callbacks);
    const u64 t0_calls = w.slow_calls;
    const CpuExit e = run_compare(b, &cpu, &end);
    ck_assert_int_eq(e, expected);
    if (e == EXIT_TRAP) {
        ck_assert_uint_eq(end.pc, CODE_VA + 8);
        ck_assert_uint_eq(cpu_insns(&end), 0);
        ck_assert_uint_eq(end.status, CPU_OK);
    } else {
        ck_assert_uint_eq(cpu_insns(&end), 1);
    }
    return w.slow_calls - 2 * t0_calls;
}

static void memory(void)
{
    static const u8 regs[] = {10, 11, 20, 21};
    for (unsigned i = 0; i < 2 * 4 * 4 * 4; i++) {
        const bool store = i & 1;
        const unsigned size = i >> 1 & 3, base = regs[i >> 3 & 3], value = regs[i >> 5 & 3];
        if (size == 3 && w.xlen == IR_I32) {
            continue;
        }
        for (s32 disp = -8; disp <= 8; disp += 8) {
#define CALLS(va, expected) slow_calls_of(store, size, base, value, disp, va, expected)
            ck_assert_uint_eq(CALLS(DATA_VA + 64, EXIT_LINK), 0);
            ck_assert_uint_eq(CALLS(DATA_VA + 4096 - (1u << size), EXIT_LINK), 0);
            if (size) {
                ck_assert_uint_eq(CALLS(DATA_VA + 65, EXIT_LINK), 0);
                ck_assert_uint_eq(CALLS(DATA_VA + 4095, EXIT_LINK), 1);
                ck_assert_uint_eq(CALLS(DATA_VA + 6 * 4096 - 1, EXIT_TRAP), 1);
            }
            ck_assert_uint_eq(CALLS(DATA_VA + 4 * 4096 + 8, EXIT_LINK), 1);
            ck_assert_uint_eq(CALLS(DATA_VA + 6 * 4096 + 8, EXIT_TRAP), 1);
            ck_assert_uint_eq(CALLS(DATA_VA + 5 * 4096 + 8, store ? EXIT_TRAP : EXIT_LINK), store);
            ck_assert_uint_eq(CALLS((u64)-16, EXIT_LINK), 0);
            if (w.xlen == IR_I64) {
                ck_assert_uint_eq(CALLS(DATA_VA + 64 + ((u64)1 << 39), EXIT_TRAP), 1);
                ck_assert_uint_eq(CALLS(DATA_VA + 64 + ((u64)5 << 45), EXIT_TRAP), 1);
                ck_assert_uint_eq(CALLS(DATA_VA + 64 + ((u64)1 << 63), EXIT_TRAP), 1);
                ck_assert_uint_eq(CALLS(DATA_VA + 64 - ((u64)1 << 39), EXIT_TRAP), 1);
            }
#undef CALLS
        }
    }
}

START_TEST(test_memory_64)
{
    seed = 8;
    world_open(IR_I64, false);
    memory();
    world_close();
}
END_TEST

START_TEST(test_memory_64_explicit)
{
    seed = 9;
    world_open(IR_I64, true);
    memory();
    world_close();
}
END_TEST

START_TEST(test_memory_32)
{
    seed = 10;
    world_open(IR_I32, false);
    memory();
    world_close();
}
END_TEST

/* ---- Control: links, budget, execute table -----------------------------------------------------
 */

/* A block at `offset` that adds `n` to x10 and goes on at `target`. */
static CompiledBlock adder(u32 offset, s64 n, s32 target)
{
    IrBlock *b = begin(offset);
    mark(b, (s32)offset);
    const u32 a0 = CPU_OFFSET_X(10);
    ir_setreg(b, w.xlen, a0,
              ir_2(b, IR_add, w.xlen, w.xlen, 0, ir_getreg(b, w.xlen, a0), ir_const(b, w.xlen, n)));
    ir_0(b, IR_goto, IR_NOTYPE, 0, target);
    compile(b);
    return compiled;
}

static CodePageEntries *make_page(u32 at)
{
    /* Descriptors live in the code space here, in its last part. */
    CodePageEntries *page = code_writable(&w.space, at);
    for (unsigned i = 0; i < 2048; i++) {
        page->entry[i] = backend_miss_stub(w.backend);
    }
    return page;
}

static void control(void)
{
    u32 link;
    CompiledBlock first = adder(0, 1, 64), second = adder(64, 100, 0);
    ck_assert_uint_eq(first.link_count, 1);
    ck_assert_uint_eq(first.links[0].jump & 3, 0);
    ck_assert_uint_eq(first.links[0].expect, 0);
    ck_assert_int_eq(first.links[0].target, 64);

    CpuState cpu = start_state();
    cpu.pc = CODE_VA;
    ck_assert_int_eq(backend_enter(w.backend, &cpu, first.start, &link), EXIT_LINK);
    ck_assert_uint_eq(link, first.links[0].jump);
    ck_assert_uint_eq(cpu.pc, CODE_VA + 64);
    ck_assert_uint_eq(cpu.x[10], 1);
    ck_assert_int_eq(cpu.budget, 99999);

    /* Linked to each other they run until the budget is gone; the block that does not run is not
     * counted. */
    backend_link(w.backend, &first.links[0], second.start, 0);
    backend_link(w.backend, &second.links[0], first.start, 0);
    cpu = start_state();
    cpu.pc = CODE_VA;
    cpu_set_budget(&cpu, 10);
    const u64 insns = cpu_insns(&cpu);
    ck_assert_int_eq(backend_enter(w.backend, &cpu, first.start, &link), EXIT_BUDGET);
    ck_assert_uint_eq(link, 0);
    ck_assert_uint_eq(cpu.pc, CODE_VA);
    ck_assert_uint_eq(cpu.x[10], 505);
    ck_assert_int_eq(cpu.budget, 0);
    ck_assert_uint_eq(cpu_insns(&cpu) - insns, 10);
    cpu.budget = CPU_BUDGET_KICKED;
    ck_assert_int_eq(backend_enter(w.backend, &cpu, first.start, &link), EXIT_BUDGET);
    ck_assert_uint_eq(cpu.x[10], 505);
    ck_assert_int_eq(cpu.budget, CPU_BUDGET_KICKED);

    backend_unlink(w.backend, &second.links[0]);
    cpu_set_budget(&cpu, 100);
    ck_assert_int_eq(backend_enter(w.backend, &cpu, first.start, &link), EXIT_LINK);
    ck_assert_uint_eq(link, second.links[0].jump);
    ck_assert_uint_eq(cpu.pc, CODE_VA);

    /* Across pages: only while the execute entry is the expected one. */
    const u32 end = (u32)(uintptr_t)w.space.exec + CODE_BYTES;
    const u32 pages[2] = {end - 0x8000, end - 0x4000};
    make_page(pages[0])->entry[8] = 0;
    make_page(pages[1]);
    CompiledBlock far = adder(4, 1, 4096 + 16), near = adder(16, 1000, 4 - 4096),
                  back = adder(4, 7, 20);
    const CodeLink *l = &far.links[0];
    ck_assert_uint_ne(l->expect, 0);
    ck_assert_uint_eq(l->expect & 3, 0);
    ck_assert_uint_eq(l->jump & 3, 0);
    const u64 va = CODE_VA + 4096;
    for (unsigned state = 0; state < 4; state++) {
        /* 0: no entry, 1: the wrong page, 2: right, 3: right but not linked any more. */
        *view_entry(w.view, VIEW_EXEC_OFFSET, va) =
            state == 0 ? 0 : (u64)pages[state != 1] - 2 * va;
        if (state < 3) {
            backend_link(w.backend, l, near.start, pages[1]);
        } else {
            backend_unlink(w.backend, l);
        }
        cpu = start_state();
        cpu.pc = CODE_VA + 4;
        ck_assert_int_eq(backend_enter(w.backend, &cpu, far.start, &link), EXIT_LINK);
        if (state == 2) {
            ck_assert_uint_eq(cpu.x[10], 1001);
            ck_assert_uint_eq(link, near.links[0].jump);
            ck_assert_uint_eq(cpu.pc, CODE_VA + 4);
        } else {
            ck_assert_uint_eq(cpu.x[10], 1);
            ck_assert_uint_eq(link, l->jump);
            ck_assert_uint_eq(cpu.pc, va + 16);
        }
    }
    /* There and back, the page has to follow. */
    backend_link(w.backend, l, near.start, pages[1]);
    *view_entry(w.view, VIEW_EXEC_OFFSET, va) = (u64)pages[1] - 2 * va;
    *view_entry(w.view, VIEW_EXEC_OFFSET, CODE_VA) = (u64)pages[0] - 2 * (u64)CODE_VA;
    backend_link(w.backend, &near.links[0], back.start, pages[0]);
    cpu = start_state();
    cpu.pc = CODE_VA + 4;
    ck_assert_int_eq(backend_enter(w.backend, &cpu, far.start, &link), EXIT_LINK);
    ck_assert_uint_eq(cpu.x[10], 1008);
    ck_assert_uint_eq(cpu.pc, CODE_VA + 20);

    /* Indirect jumps: a block at page offset 16 of page 1; everything else misses. */
    ((CodePageEntries *)code_writable(&w.space, pages[1]))->entry[8] = near.start;
    IrBlock *b = begin(0);
    mark(b, 0);
    ir_1(b, IR_jump, w.xlen, w.xlen, 0, ir_getreg(b, w.xlen, CPU_OFFSET_X(11)));
    compile(b);
    backend_unlink(w.backend, &near.links[0]);
    const u64 targets[] = {va + 16,
                           va + 18,
                           va + 4096,
                           va + 16 + ((u64)1 << 39),
                           va + 16 + ((u64)1 << 63),
                           va + 16 + ((u64)3 << 50),
                           ((u64)1 << 38) + 16,
                           (u64)-4096};
    for (unsigned i = 0; i < ARRAY_LEN(targets); i++) {
        cpu = start_state();
        cpu.pc = CODE_VA;
        cpu.x[11] = w.xlen == IR_I32 ? (u32)targets[i] : targets[i];
        const CpuExit e = backend_enter(w.backend, &cpu, compiled.start, &link);
        if (cpu.x[11] == 0 || i == 0 || cpu.x[11] == targets[0]) {
            ck_assert_int_eq(e, EXIT_LINK);
            ck_assert_uint_eq(cpu.pc, CODE_VA + 4);
            ck_assert_uint_eq(cpu.x[10], 1000);
        } else {
            ck_assert_int_eq(e, EXIT_NEXT);
            ck_assert_uint_eq(cpu.pc, cpu.x[11]);
            ck_assert_uint_eq(cpu_insns(&cpu), 1);
        }
    }

    /* The next page's execute entry has to be the expected one. */
    for (unsigned state = 0; state < 3; state++) {
        *view_entry(w.view, VIEW_EXEC_OFFSET, va) =
            state == 0 ? 0 : (u64)pages[state == 2] - 2 * va;
        b = begin(4094);
        b->straddles = true;
        mark(b, 4094);
        ir_0(b, IR_guard_next_page, IR_NOTYPE, 0, 0);
        ir_0(b, IR_goto, IR_NOTYPE, 0, 4098);
        ck_assert(backend_compile(w.backend, b, pages[1], &(CodeRoom){w.next_code, 64 << 10, 0, 0},
                                  &compiled));
        cpu = start_state();
        cpu.pc = CODE_VA + 4094;
        const CpuExit e = backend_enter(w.backend, &cpu, compiled.start, &link);
        ck_assert_int_eq(e, state == 2 ? EXIT_LINK : EXIT_NEXT_PAGE);
        ck_assert_uint_eq(cpu.pc, CODE_VA + (state == 2 ? 4098 : 4094));
        ck_assert_uint_eq(cpu_insns(&cpu), state == 2);
    }
    *view_entry(w.view, VIEW_EXEC_OFFSET, va) = 0;
    *view_entry(w.view, VIEW_EXEC_OFFSET, CODE_VA) = 0;
}

START_TEST(test_control_64)
{
    world_open(IR_I64, false);
    control();
    world_close();
}
END_TEST

START_TEST(test_control_32)
{
    world_open(IR_I32, false);
    control();
    world_close();
}
END_TEST

/* A block at `offset` that calls `target` from an instruction of 4 bytes. */
static CompiledBlock caller(u32 offset, s32 target)
{
    IrBlock *b = begin(offset);
    mark(b, (s32)offset);
    ir_setreg(b, w.xlen, CPU_OFFSET_X(1), ir_0(b, IR_pcrel, w.xlen, 0, (s32)offset + 4));
    ir_0(b, IR_goto, IR_NOTYPE, 4, target);
    compile(b);
    return compiled;
}

/* ... that adds 1 to x10 and returns to x1. */
static CompiledBlock returner(u32 offset)
{
    IrBlock *b = begin(offset);
    mark(b, (s32)offset);
    const u32 a0 = CPU_OFFSET_X(10);
    ir_setreg(b, w.xlen, a0,
              ir_2(b, IR_add, w.xlen, w.xlen, 0, ir_getreg(b, w.xlen, a0), ir_const(b, w.xlen, 1)));
    ir_1(b, IR_jump, w.xlen, w.xlen, IR_RETURN, ir_getreg(b, w.xlen, CPU_OFFSET_X(1)));
    compile(b);
    return compiled;
}

/* Calls are links, and so are their landing pads, which say again which page is running. */
static void calls(void)
{
    u32 link;
    const u32 end = (u32)(uintptr_t)w.space.exec + CODE_BYTES, page = end - 0x4000;
    const u64 va = CODE_VA + 4096;
    make_page(page);
    for (unsigned far = 0; far < 2; far++) {
        const s32 target = far ? 4096 + 64 : 64;
        CompiledBlock from = caller(0, target), function = returner(64), after = adder(4, 1000, 200);
        ck_assert_uint_eq(from.link_count, 2);
        ck_assert_int_eq(from.links[0].target, target);
        ck_assert_int_eq(from.links[1].target, 4);
        *view_entry(w.view, VIEW_EXEC_OFFSET, va) = (u64)page - 2 * va;
        for (unsigned links = 0; links < 3; links++) {
            if (links) {
                const CompiledBlock *to = links == 1 ? &function : &after;
                backend_link(w.backend, &from.links[links - 1], to->start, page);
            }
            CpuState cpu = start_state();
            cpu.pc = CODE_VA;
            ck_assert_int_eq(backend_enter(w.backend, &cpu, from.start, &link), EXIT_LINK);
            ck_assert_uint_eq(link, links == 2 ? after.links[0].jump : from.links[links].jump);
            ck_assert_uint_eq(cpu.pc, CODE_VA + (links == 0 ? (u32)target : links == 1 ? 4 : 200));
            ck_assert_uint_eq(cpu.x[1], CODE_VA + 4);
            ck_assert_uint_eq(cpu.x[10], (links > 0) + (links > 1 ? 1000 : 0));
            ck_assert_uint_eq(cpu_insns(&cpu), links + 1);
        }
        /* Without a call it is an indirect jump. */
        CpuState cpu = start_state();
        cpu.pc = CODE_VA + 64;
        cpu.x[1] = CODE_VA + 4 + 1; /* bit 0 does not count */
        ck_assert_int_eq(backend_enter(w.backend, &cpu, function.start, &link), EXIT_NEXT);
        ck_assert_uint_eq(cpu.pc, CODE_VA + 4);
        *view_entry(w.view, VIEW_EXEC_OFFSET, va) = 0;
    }
    /* Calls that never return. */
    CompiledBlock endless = caller(0, 0);
    backend_link(w.backend, &endless.links[0], endless.start, 0);
    CpuState cpu = start_state();
    cpu.pc = CODE_VA;
    ck_assert_int_eq(backend_enter(w.backend, &cpu, endless.start, &link), EXIT_BUDGET);
    ck_assert_uint_eq(cpu_insns(&cpu), 100000);
}

START_TEST(test_calls_64)
{
    world_open(IR_I64, false);
    calls();
    world_close();
}
END_TEST

START_TEST(test_calls_32)
{
    world_open(IR_I32, false);
    calls();
    world_close();
}
END_TEST

/* A kick that arrives while a block runs is not lost when a branch in its middle gives instructions
 * back. */
START_TEST(test_kick_in_block)
{
    world_open(IR_I64, false);
    IrBlock *b = begin(0);
    mark(b, 0);
    ir_1(b, IR_setstate, IR_I64, IR_I64, 3, ir_const(b, IR_I64, CPU_BUDGET_KICKED));
    b->insns[b->count - 1].imm = offsetof(CpuState, budget);
    const IrValue x = ir_getreg(b, IR_I64, CPU_OFFSET_X(10));
    ir_br(b, IR_EQ, IR_I64, x, x, 0);
    mark(b, 4);
    ir_0(b, IR_goto, IR_NOTYPE, 0, 8);
    compile(b);
    ck_assert_uint_eq(compiled.link_count, 2);
    backend_link(w.backend, &compiled.links[0], compiled.start, 0);
    backend_link(w.backend, &compiled.links[1], compiled.start, 0);
    CpuState cpu = start_state();
    cpu.pc = CODE_VA;
    u32 link;
    ck_assert_int_eq(backend_enter(w.backend, &cpu, compiled.start, &link), EXIT_BUDGET);
    ck_assert_uint_eq(cpu.pc, CODE_VA);
    world_close();
}
END_TEST

/* Too little room is noticed, whatever the room, and nothing is written behind it. */
START_TEST(test_room)
{
    seed = 11;
    world_open(IR_I64, false);
    IrBlock *b = begin(0);
    random_block(b, 40);
    compile(b);
    const u32 size = compiled.size, at = w.next_code;
    bool fits = false;
    for (u32 room = 0; room < size + 4096; room += 61) {
        u8 *behind = code_writable(&w.space, at + room);
        memset(behind, 0x5a, 4096);
        CompiledBlock out;
        fits = backend_compile(w.backend, b, 0, &(CodeRoom){at, room, 0, 0}, &out);
        ck_assert(!fits || out.size <= room);
        for (unsigned i = 0; i < 4096; i++) {
            ck_assert_uint_eq(behind[i], 0x5a);
        }
    }
    ck_assert(fits);
    world_close();
}
END_TEST

/* A block as long as the IR allows, with hundreds of values alive at once. */
START_TEST(test_large)
{
    seed = 12;
    world_open(IR_I64, false);
    IrBlock *b = begin(0);
    mark(b, 0);
    IrValue v[600];
    for (unsigned i = 0; i < ARRAY_LEN(v); i++) {
        v[i] = ir_2(b, IR_add, IR_I64, IR_I64, 0, ir_getreg(b, IR_I64, CPU_OFFSET_X(1 + i % 31)),
                    ir_const(b, IR_I64, i));
    }
    for (unsigned i = 0; i < ARRAY_LEN(v); i++) {
        const u32 r = CPU_OFFSET_X(1 + i % 31);
        ir_setreg(b, IR_I64, r, ir_2(b, IR_xor, IR_I64, IR_I64, 0, v[i], ir_getreg(b, IR_I64, r)));
    }
    for (s32 offset = 4; b->count < IR_MAX_INSNS - 16 && offset < 4000; offset += 4) {
        mark(b, offset);
        ir_st(b, IR_I64, 3, ir_getreg(b, IR_I64, CPU_OFFSET_X(12)), 0,
              ir_getreg(b, IR_I64, CPU_OFFSET_X(10)));
    }
    ir_0(b, IR_goto, IR_NOTYPE, 0, 4000);
    compile(b);
    CpuState cpu = start_state(), end;
    random_registers(&cpu);
    cpu.pc = CODE_VA;
    run_compare(b, &cpu, &end);
    world_close();
}
END_TEST

/* More direct jumps than a block may have links. */
START_TEST(test_many_links)
{
    world_open(IR_I64, false);
    IrBlock *b = begin(0);
    for (s32 i = 0; i < 100; i++) {
        mark(b, 4 * i);
        const IrValue x = ir_getreg(b, IR_I64, CPU_OFFSET_X(10));
        ir_br(b, IR_EQ, IR_I64, x, ir_const(b, IR_I64, i), 4096 * (i & 1) + i * 8);
    }
    ir_0(b, IR_goto, IR_NOTYPE, 0, 400);
    compile(b);
    ck_assert_uint_eq(compiled.link_count, CODE_MAX_LINKS);
    for (u64 i = 0; i <= 100; i++) {
        CpuState cpu = start_state();
        u32 link;
        cpu.pc = CODE_VA;
        cpu.x[10] = i;
        const CpuExit e = backend_enter(w.backend, &cpu, compiled.start, &link);
        ck_assert_int_eq(e, link ? EXIT_LINK : EXIT_NEXT);
        ck_assert_uint_eq(cpu.pc, CODE_VA + (i == 100 ? 400 : 4096 * (i & 1) + i * 8));
        ck_assert_uint_eq(cpu_insns(&cpu), i == 100 ? 100 : i + 1);
    }
    world_close();
}
END_TEST

/* The reservation is lost to another writer's value, to another size and to another address. */
START_TEST(test_reservation)
{
    world_open(IR_I64, false);
    for (unsigned k = 0; k < 5; k++) {
        IrBlock *b = begin(0);
        mark(b, 0);
        const IrValue a = ir_getreg(b, IR_I64, CPU_OFFSET_X(10));
        const IrValue v = ir_1(b, IR_lr, IR_I64, IR_I64, 3, a);
        ir_setreg(b, IR_I64, CPU_OFFSET_X(11), v);
        mark(b, 4);
        if (k == 1) {
            ir_st(b, IR_I64, 0, a, 1, ir_const(b, IR_I64, 0x77));
        }
        const IrValue to =
            k == 2 ? ir_2(b, IR_add, IR_I64, IR_I64, 0, a, ir_const(b, IR_I64, 8)) : a;
        ir_setreg(b, IR_I64, CPU_OFFSET_X(12),
                  ir_2(b, IR_sc, IR_I64, IR_I64, k == 3 ? 2 : 3, to, ir_const(b, IR_I64, 5)));
        if (k == 4) {
            mark(b, 8);
            ir_setreg(b, IR_I64, CPU_OFFSET_X(13),
                      ir_2(b, IR_sc, IR_I64, IR_I64, 3, to, ir_const(b, IR_I64, 6)));
        }
        ir_0(b, IR_goto, IR_NOTYPE, 0, 12);
        compile(b);
        CpuState cpu = start_state(), end;
        cpu.pc = CODE_VA;
        cpu.x[10] = DATA_VA + 256;
        run_compare(b, &cpu, &end);
        ck_assert_uint_eq(end.x[12], k >= 1 && k <= 3);
        ck_assert_uint_eq(end.x[13], k == 4);
        ck_assert_uint_eq(end.res_host, 0);
    }
    world_close();
}
END_TEST

START_TEST(test_disassemble)
{
    world_open(IR_I64, false);
    adder(0, 1, 64);
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    backend_disassemble(out, w.backend, compiled.start, compiled.size);
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "add rax, 1"));
    ck_assert_ptr_nonnull(strstr(text, "exit"));
    free(text);
    world_close();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("backend");
    TCase *t = tcase_create("backend");
    tcase_set_timeout(t, 0);
    tcase_add_test(t, test_int_ops_64);
    tcase_add_test(t, test_int_ops_32);
    tcase_add_test(t, test_memory_64);
    tcase_add_test(t, test_memory_64_explicit);
    tcase_add_test(t, test_memory_32);
    tcase_add_test(t, test_control_64);
    tcase_add_test(t, test_control_32);
    tcase_add_test(t, test_calls_64);
    tcase_add_test(t, test_calls_32);
    tcase_add_test(t, test_kick_in_block);
    tcase_add_test(t, test_room);
    tcase_add_test(t, test_large);
    tcase_add_test(t, test_many_links);
    tcase_add_test(t, test_reservation);
    tcase_add_test(t, test_disassemble);
    tcase_add_test(t, test_fp_ops_64);
    tcase_add_test(t, test_fp_ops_32);
    tcase_add_test(t, test_fuzz_64);
    tcase_add_test(t, test_fuzz_64_explicit);
    tcase_add_test(t, test_fuzz_32);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    const int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
