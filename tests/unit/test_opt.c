/*
 * The optimiser, twice over: what it makes of small blocks, rule by rule, in text; and that random
 * blocks leave the same state, memory and exit with and without it when the interpreter runs them.
 */
#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "core/ir/builder.h"
#include "core/ir/ir.h"
#include "core/opt/opt.h"

/* a is an I64, b an I32: its upper bits are unspecified. */
static u64 help_add(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)cpu, (void)c;
    return a + (u32)b + d;
}

static u64 help_regs(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)a, (void)b, (void)c, (void)d;
    cpu->x[5] = (u32)cpu->x[6] ^ 0x55;
    cpu->f[1] ^= cpu->x[5];
    return cpu->x[5];
}

static u64 help_fp(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    cpu->fp_ready = a & 1;
    return cpu->fflags;
}

static u64 help_trap(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    if ((a & 7) == 0) {
        cpu_trap(cpu, 11, a);
    }
    return cpu->pc;
}

enum { HELP_ADD, HELP_REGS, HELP_FP, HELP_TRAP };
static const IrHelper helpers[] = {
    [HELP_ADD] = {"add2", help_add, 2, HELPER_IMM},
    [HELP_REGS] = {"regs", help_regs, 0, HELPER_REGS},
    [HELP_FP] = {"fp", help_fp, 1, HELPER_FP},
    [HELP_TRAP] = {"trap", help_trap, 1, HELPER_TRAPS | HELPER_PC},
    {NULL, NULL, 0, 0},
};

static char *print(const IrBlock *block)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    ir_print(out, block);
    fclose(out);
    return text;
}

static void check_block(const IrBlock *block, const char *what)
{
    char *error = ir_check(block);
    if (error) {
        char *text = print(block);
        ck_abort_msg("%s: %s\n%s", what, error, text);
    }
}

/* Parses into records of its own; an operation that ends the block is added if there is none. */
static IrBlock parse(const char *body, IrInsn *records)
{
    char *text = g_strconcat("block i64 @0x10\ninsn @0x10 4\n", body, "\n", NULL), *error = NULL;
    IrBlock block = {.insns = records, .helpers = helpers};
    ck_assert_msg(ir_parse(text, &block, &error), "%s: %s", body, error);
    if (!ir_op_info[records[block.count - 1].op].ends) {
        records[block.count++] = (IrInsn){.op = IR_goto, .a = IR_NONE, .b = IR_NONE, .c = IR_NONE,
                                          .imm = 0x14};
    }
    check_block(&block, body);
    g_free(text);
    return block;
}

/* Short names for what most goldens need: an unknown value p, and a way to look at v9. */
#define P "v0 = getreg.i64 x10\n"
#define Q "v1 = getreg.i64 x11\n"
#define LOOK "\nsetreg.i64 x12, v9"
#define LOOK32 "\nsetreg.i32 x12, v9"
#define K(n) "v2 = const.i64 #" #n "\n"

static const struct {
    const char *before, *after;
} goldens[] = {
    /* Constants. */
    {K(5) "v9 = add.i64 v2, v2" LOOK, "v9 = const.i64 #10" LOOK},
    {"v2 = const.i32 #0x7fffffff\nv9 = add.i32 v2, v2" LOOK32, "v9 = const.i32 #-2" LOOK32},
    {K(5) "v3 = const.i64 #0\nv9 = divu.i64 v2, v3" LOOK, "v9 = const.i64 #-1" LOOK},
    {K(-1) "v9 = zext32.i64 v2" LOOK, "v9 = const.i64 #0xffffffff" LOOK},
    {K(3) "v9 = setcc.i64:i32 lt v2, v2" LOOK, "v9 = const.i64 #0" LOOK},
    {P K(3) "v9 = add.i64 v2, v0" LOOK, P K(3) "v9 = add.i64 v0, v2" LOOK},
    /* Identities. */
    {P K(0) "v9 = add.i64 v0, v2" LOOK, "v9 = getreg.i64 x10" LOOK},
    {P K(0) "v9 = sub.i64 v0, v2" LOOK, "v9 = getreg.i64 x10" LOOK},
    {P K(0) "v9 = or.i64 v2, v0" LOOK, "v9 = getreg.i64 x10" LOOK},
    {P K(-1) "v9 = or.i64 v2, v0" LOOK, "v9 = const.i64 #-1" LOOK},
    {P K(-1) "v9 = and.i64 v2, v0" LOOK, "v9 = getreg.i64 x10" LOOK},
    {P K(0) "v9 = and.i64 v2, v0" LOOK, "v9 = const.i64 #0" LOOK},
    {P K(-1) "v9 = xor.i64 v0, v2" LOOK, P "v9 = not.i64 v0" LOOK},
    {P "v9 = xor.i64 v0, v0" LOOK, "v9 = const.i64 #0" LOOK},
    {P "v9 = sub.i32 v0, v0" LOOK32, "v9 = const.i32 #0" LOOK32},
    {P "v1 = getreg.i64 x10\nv9 = sub.i64 v0, v1" LOOK, "v9 = const.i64 #0" LOOK},
    {P "v9 = and.i64 v0, v0" LOOK, P "setreg.i64 x12, v0"},
    {P "v3 = not.i64 v0\nv9 = not.i64 v3" LOOK, P "setreg.i64 x12, v0"},
    {P K(64) "v9 = shl.i64 v0, v2" LOOK, P "setreg.i64 x12, v0"},
    {P K(64) "v9 = shl.i32 v0, v2" LOOK32, P "setreg.i32 x12, v0"},
    {P K(2) "v9 = mul.i64 v0, v2" LOOK, P "v9 = add.i64 v0, v0" LOOK},
    {P K(1) "v9 = mul.i64 v0, v2" LOOK, P "setreg.i64 x12, v0"},
    {P K(1) "v9 = remu.i64 v0, v2" LOOK, "v9 = const.i64 #0" LOOK},
    {P Q K(1) "v9 = select.i64 v2, v0, v1" LOOK, P "setreg.i64 x12, v0"},
    {P Q "v9 = select.i64 v0, v1, v1" LOOK, Q "setreg.i64 x12, v1"},
    {P K(0) "v9 = setcc.i64 ltu v0, v2" LOOK, "v9 = const.i64 #0" LOOK},
    {P Q K(0) "v3 = setcc.i64 lt v0, v1\nv9 = setcc.i64 eq v3, v2" LOOK,
     P Q "v9 = setcc.i64 ge v0, v1" LOOK},
    /* Extensions. */
    {P "v3 = sext32.i64 v0\nv9 = sext32.i64 v3" LOOK, P "v9 = sext32.i64 v0" LOOK},
    {P "v3 = zext32.i64 v0\nv9 = sext32.i64 v3" LOOK, P "v9 = sext32.i64 v0" LOOK},
    {P "v3 = zext16.i64 v0\nv9 = sext8.i64 v3" LOOK, P "v9 = sext8.i64 v0" LOOK},
    {P "v3 = zext8.i64 v0\nv9 = zext16.i64 v3" LOOK, P "v9 = zext8.i64 v0" LOOK},
    {P "v3 = sext8.i64 v0\nv9 = zext16.i64 v3" LOOK,
     P "v3 = sext8.i64 v0\nv9 = zext16.i64 v3" LOOK},
    {P "v3 = ld.i64 s4 [v0]\nv9 = sext32.i64 v3" LOOK, P "v9 = ld.i64 s4 [v0]" LOOK},
    {P "v3 = ld.i64 u4 [v0]\nv9 = sext32.i64 v3" LOOK,
     P "v3 = ld.i64 u4 [v0]\nv9 = sext32.i64 v3" LOOK},
    {P "v3 = sext32.i64 v0\nsetreg.i64 x5, v3\ninsn @0x14 4\nv4 = getreg.i64 x5\n"
       "v9 = sext32.i64 v4" LOOK,
     P "v3 = sext32.i64 v0\nsetreg.i64 x5, v3\ninsn @0x14 4\nv9 = getreg.i64 x5" LOOK},
    /* Registers that hold constants and addresses: li, lui + addi, auipc + jalr. */
    {K(0x1000) "setreg.i64 x5, v2\ninsn @0x14 4\nv3 = getreg.i64 x5\nv4 = const.i64 #-1\n"
               "v5 = add.i64 v3, v4\nsetreg.i64 x5, v5",
     "insn @0x14 4\nv5 = const.i64 #0xfff\nsetreg.i64 x5, v5"},
    {"v2 = pcrel.i64 @0x3010\nsetreg.i64 x1, v2\ninsn @0x14 4\nv3 = getreg.i64 x1\n"
     "v4 = const.i64 #-16\nv5 = add.i64 v3, v4\nv6 = const.i64 #-2\nv7 = and.i64 v5, v6\n"
     "v8 = pcrel.i64 @0x18\nsetreg.i64 x1, v8\njump v7",
     "insn @0x14 4\nv8 = pcrel.i64 @0x18\nsetreg.i64 x1, v8\ngoto @0x3000"},
    {"v2 = pcrel.i64 @0x7fffffff\nv3 = const.i64 #1\nv9 = add.i64 v2, v3" LOOK,
     "v2 = pcrel.i64 @0x7fffffff\nv3 = const.i64 #1\nv9 = add.i64 v2, v3" LOOK},
    {"v3 = getreg.i64 x0\nsetreg.i64 x12, v3", "v3 = const.i64 #0\nsetreg.i64 x12, v3"},
    /* ... but not other values, and not over a helper that changes registers. */
    {P Q "v3 = add.i64 v0, v1\nsetreg.i64 x5, v3\nv4 = getreg.i64 x5\nsetreg.i64 x12, v4",
     P Q "v3 = add.i64 v0, v1\nsetreg.i64 x5, v3\nv4 = getreg.i64 x5\nsetreg.i64 x12, v4"},
    {K(1) "setreg.i64 x5, v2\nv3 = call.i64 regs\nv9 = getreg.i64 x5" LOOK,
     K(1) "setreg.i64 x5, v2\nv3 = call.i64 regs\nv9 = getreg.i64 x5" LOOK},
    {K(1) "setreg.i64 x5, v2\nv3 = call.i64 fp(v2)\nv9 = getreg.i64 x5" LOOK,
     K(1) "setreg.i64 x5, v2\nv3 = call.i64 fp(v2)\nv9 = const.i64 #1" LOOK},
    /* Extensions made of two shifts, in one instruction or two. */
    {P K(32) "v3 = shl.i64 v0, v2\nv9 = shr.i64 v3, v2" LOOK, P "v9 = zext32.i64 v0" LOOK},
    {P K(48) "v3 = shl.i64 v0, v2\nsetreg.i64 x12, v3\ninsn @0x14 4\nv4 = getreg.i64 x12\n"
     "v9 = sar.i64 v4, v2" LOOK,
     P "insn @0x14 4\nv9 = sext16.i64 v0" LOOK},
    {P K(56) "v3 = shl.i64 v0, v2\nv9 = shr.i64 v3, v2" LOOK, P "v9 = zext8.i64 v0" LOOK},
    {P "v2 = const.i64 #33\nv3 = shl.i64 v0, v2\nv9 = shr.i64 v3, v2" LOOK,
     P "v2 = const.i64 #33\nv3 = shl.i64 v0, v2\nv9 = shr.i64 v3, v2" LOOK},
    {P "v2 = const.i64 #32\nv3 = shl.i64 v0, v2\nv4 = const.i64 #31\nv9 = shr.i64 v3, v4" LOOK,
     P "v2 = const.i64 #32\nv3 = shl.i64 v0, v2\nv4 = const.i64 #31\nv9 = shr.i64 v3, v4" LOOK},
    /* An extension of a register that holds a wider one. */
    {P "v3 = sext32.i64 v0\nsetreg.i64 x12, v3\ninsn @0x14 4\nv4 = getreg.i64 x12\n"
     "v9 = zext32.i64 v4" LOOK,
     P "insn @0x14 4\nv9 = zext32.i64 v0" LOOK},
    /* Addresses. */
    {P K(16) "v3 = add.i64 v0, v2\nv9 = ld.i64 u8 [v3+8]" LOOK, P "v9 = ld.i64 u8 [v0+24]" LOOK},
    {P K(-16) "v3 = add.i64 v0, v2\nv4 = add.i64 v3, v2\nst.i64 u8 [v4], v0",
     P "st.i64 u8 [v0-32], v0"},
    {P K(0x7fffffff) "v3 = add.i64 v0, v2\nst.i64 u8 [v3+1], v0",
     P K(0x7fffffff) "v3 = add.i64 v0, v2\nst.i64 u8 [v3+1], v0"},
    /* NaN boxes. */
    {"v2 = getreg.f64 f1\nv3 = unbox.f32:f64 v2\nv4 = box.f64:f32 v3\nsetreg.f64 f2, v4\n"
     "insn @0x14 4\nv5 = getreg.f64 f2\nv6 = unbox.f32:f64 v5\nv7 = fbits.i32:f32 v6\n"
     "setreg.i32 x12, v7",
     "v2 = getreg.f64 f1\nv3 = unbox.f32:f64 v2\nv4 = box.f64:f32 v3\nsetreg.f64 f2, v4\n"
     "insn @0x14 4\nv7 = fbits.i32:f32 v3\nsetreg.i32 x12, v7"},
    {"v2 = getreg.f64 f1\nv3 = unbox.f32:f64 v2\nv4 = unbox.f32:f64 v2\nv5 = fsgnj.f32 v3, v4\n"
     "v6 = box.f64:f32 v5\nsetreg.f64 f2, v6",
     "v2 = getreg.f64 f1\nv3 = unbox.f32:f64 v2\nv6 = box.f64:f32 v3\nsetreg.f64 f2, v6"},
    {"v2 = getreg.f64 f1\nv3 = unbox.f16:f64 v2\nv4 = box.f64:f16 v3\nv5 = unbox.f32:f64 v4\n"
     "v7 = fbits.i32:f32 v5\nsetreg.i32 x12, v7",
     "v2 = getreg.f64 f1\nv3 = unbox.f16:f64 v2\nv4 = box.f64:f16 v3\nv5 = unbox.f32:f64 v4\n"
     "v7 = fbits.i32:f32 v5\nsetreg.i32 x12, v7"},
    /* Guards. */
    {"guard $0x240 1\ninsn @0x14 4\nguard $0x240 0\nguard $0x240 1",
     "guard $0x240 1\ninsn @0x14 4"},
    {"guard $0x240 0\nguard $0x240 1", "guard $0x240 0\nguard $0x240 1"},
    {"guard $0x240 0\nguard $0x241 0\nguard $0x240 0", "guard $0x240 0\nguard $0x241 0"},
    {"guard $0x240 1\nv2 = call regs\nguard $0x240 1", "guard $0x240 1\nv2 = call regs"},
    {P "guard $0x240 1\nv2 = call fp(v0)\nguard $0x240 1",
     P "guard $0x240 1\nv2 = call fp(v0)\nguard $0x240 1"},
    {P "guard $0x240 1\nv2 = call trap(v0)\nguard $0x240 1",
     P "guard $0x240 1\nv2 = call trap(v0)\nguard $0x240 1"},
    /* Dead code. */
    {P Q "v3 = mul.i64 v0, v1\nv4 = ld.i64 u8 [v0]", P "v4 = ld.i64 u8 [v0]"},
    {"v2 = getreg.f64 f1\nv3 = fadd.f64 rne v2, v2",
     "v2 = getreg.f64 f1\nv3 = fadd.f64 rne v2, v2"},
    {P Q "setreg.i64 x12, v0\ninsn @0x14 4\nsetreg.i64 x12, v1",
     Q "insn @0x14 4\nsetreg.i64 x12, v1"},
    {P Q "setreg.i64 x12, v0\nv3 = ld.i64 u8 [v1]\nsetreg.i64 x12, v3",
     P Q "setreg.i64 x12, v0\nv3 = ld.i64 u8 [v1]\nsetreg.i64 x12, v3"},
    {P Q "setreg.i64 x12, v0\nv3 = getreg.i64 x12\nsetreg.i64 x12, v1\nsetreg.i64 x13, v3",
     P Q "setreg.i64 x12, v0\nv3 = getreg.i64 x12\nsetreg.i64 x12, v1\nsetreg.i64 x13, v3"},
    {P Q "setreg.i64 x12, v0\nbr.i64 eq v0, v1, @4\nsetreg.i64 x12, v1",
     P Q "setreg.i64 x12, v0\nbr.i64 eq v0, v1, @4\nsetreg.i64 x12, v1"},
    {P K(0) "v3 = add.i64 v0, v2\nsetreg.i64 x10, v3", ""},
    /* Branches. */
    {P "br.i64 ne v0, v0, @0x40\nsetreg.i64 x12, v0", P "setreg.i64 x12, v0"},
    {P K(3) "br.i64 ltu v2, v2, @0x40\nsetreg.i64 x12, v0", P "setreg.i64 x12, v0"},
    {P "br.i64 geu v0, v0, @0x40\ninsn @0x14 4\nsetreg.i64 x12, v0", "goto @0x40"},
    {P Q K(0) "v3 = setcc.i64:i32 lt v0, v1\nbr.i64 eq v3, v2, @0x40",
     P Q "br.i32 ge v0, v1, @0x40"},
};

START_TEST(rules)
{
    static IrInsn before[IR_MAX_INSNS], after[IR_MAX_INSNS];
    for (unsigned i = 0; i < ARRAY_LEN(goldens); i++) {
        IrBlock block = parse(goldens[i].before, before);
        opt_run(&block);
        check_block(&block, goldens[i].before);
        const IrBlock wanted = parse(goldens[i].after, after);
        char *got = print(&block), *want = print(&wanted);
        ck_assert_msg(!strcmp(got, want), "%s\ngives\n%s\nnot\n%s", goldens[i].before, got, want);
        free(got);
        free(want);
    }
}
END_TEST

/* ---- Random blocks ---- */

typedef struct World {
    CpuState cpu;
    u8 memory[256]; /* at guest addresses 0..255, repeated */
} World;

/* Every 5th 16-byte line of addresses traps, so that state is seen in the middle of blocks. */
static bool reach(CpuState *cpu, u64 va, unsigned size_log2, u64 cause, u8 **host)
{
    const unsigned at = va & 0xff;
    if (va / 16 % 5 == 0 || at + (1u << size_log2) > 256) {
        return cpu_trap(cpu, cause, va);
    }
    *host = container_of(cpu, World, cpu)->memory + at;
    return true;
}

static bool load(CpuState *cpu, u64 va, unsigned size_log2, u64 *value)
{
    u8 *host;
    *value = 0;
    return reach(cpu, va, size_log2, 13, &host) && memcpy(value, host, (size_t)1 << size_log2);
}

static bool store(CpuState *cpu, u64 va, unsigned size_log2, u64 value)
{
    u8 *host;
    return reach(cpu, va, size_log2, 15, &host) && memcpy(host, &value, (size_t)1 << size_log2);
}

static bool guard_failed(CpuState *cpu, unsigned guard)
{
    return guard == 0 ? true : cpu_trap(cpu, 2, guard);
}

static const IrInterpreter callbacks = {.guard_failed = guard_failed, .load = load, .store = store};

typedef struct Maker {
    IrBlock *block;
    GRand *rand;
    IrType type_of[IR_MAX_INSNS];
} Maker;

static u32 below(Maker *m, u32 n)
{
    return (u32)g_rand_int_range(m->rand, 0, (s32)n);
}

static u64 interesting(Maker *m)
{
    static const u64 values[] = {
        0, 1, 2, 8, 31, 32, 64, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, ~(u64)0,
        ~(u64)1, 0xffffffff80000000, 0x8000000000000000, 0x7fffffffffffffff, 0xffffffff3f800000,
    };
    return below(m, 4) ? values[below(m, ARRAY_LEN(values))]
                       : (u64)g_rand_int(m->rand) << 32 | g_rand_int(m->rand);
}

/* A value that exists and has (for integers: at least) the type; made if there is none. */
static IrValue value(Maker *m, IrType type)
{
    IrBlock *b = m->block;
    for (unsigned tries = 0; tries < 12 && b->count; tries++) {
        const u32 near = b->count < 12 || !below(m, 8) ? b->count : 12;
        const IrValue v = (IrValue)(b->count - 1 - below(m, near));
        const IrType t = ir_op_info[b->insns[v].op].result == '-' ? IR_NOTYPE : b->insns[v].type;
        if (t == type || (type == IR_I32 && t == IR_I64)) {
            return v;
        }
    }
    switch (type) {
    case IR_I32: return ir_const(b, type, (s64)interesting(m));
    case IR_I64:
        return b->xlen == IR_I64 && below(m, 2)
                   ? ir_getreg(b, type, (u32)CPU_OFFSET_X(below(m, 8)))
                   : ir_const(b, type, (s64)interesting(m));
    case IR_F64: return ir_getreg(b, type, (u32)CPU_OFFSET_F(below(m, 4)));
    default:
        return ir_1(b, IR_unbox, type, IR_F64, 0, value(m, IR_F64));
    }
}

static void make_pure(Maker *m)
{
    u32 op;
    do {
        op = below(m, IR_OP_COUNT);
    } while (!ir_op_info[op].pure || ir_op_info[op].operands[0] == 'f' ||
             !ir_op_info[op].operand_count || op == IR_ffrom);
    const IrType type = below(m, 3) ? m->block->xlen : below(m, 2) ? IR_I32 : IR_I64;
    const IrType src = op != IR_setcc ? type : below(m, 2) ? IR_I32 : IR_I64;
    const u16 aux = op == IR_xperm ? (below(m, 2) ? 4 : 8) : op == IR_setcc ? (u16)below(m, 6) : 0;
    const bool extends = ir_op_info[op].operand_count == 1 && op >= IR_sext8 && op <= IR_zext32;
    IrValue v[3] = {IR_NONE, IR_NONE, IR_NONE};
    for (unsigned k = 0; k < ir_op_info[op].operand_count; k++) {
        v[k] = k && !below(m, 6) ? v[0] : value(m, extends ? IR_I32 : op == IR_setcc ? src : type);
    }
    ir_3(m->block, (IrOp)op, type, src, aux, v[0], v[1], v[2]);
}

static void make_fp(Maker *m)
{
    IrBlock *b = m->block;
    const IrType narrow = below(m, 2) ? IR_F32 : IR_F16;
    IrValue v;
    switch (below(m, 8)) {
    case 0: v = value(m, narrow); ir_1(b, IR_box, IR_F64, narrow, 0, v); break;
    case 1: v = value(m, IR_F64); ir_1(b, IR_unbox, narrow, IR_F64, 0, v); break;
    case 2: v = value(m, narrow); ir_1(b, IR_fbits, IR_I32, narrow, 0, v); break;
    case 3: v = value(m, IR_I32); ir_1(b, IR_ffrom, narrow, IR_I32, 0, v); break;
    case 4: v = value(m, IR_I64); ir_1(b, IR_ffrom, IR_F64, IR_I64, 0, v); break;
    case 5: {
        const IrOp op = IR_fsgnj + below(m, 3);
        v = value(m, narrow);
        const IrValue w = below(m, 2) ? v : value(m, narrow);
        ir_2(b, op, narrow, narrow, 0, v, w);
        break;
    }
    case 6: v = value(m, narrow); ir_2(b, IR_fadd, narrow, narrow, 7, v, v); break;
    default: v = value(m, IR_F64); ir_2(b, IR_fmul, IR_F64, IR_F64, 0, v, v); break;
    }
}

static void make_record(Maker *m)
{
    IrBlock *b = m->block;
    const IrType x = b->xlen;
    const u32 guard = offsetof(CpuState, fp_ready);
    IrValue v, w;
    switch (below(m, 24)) {
    case 0: ir_const(b, below(m, 2) ? IR_I32 : IR_I64, (s64)interesting(m)); break;
    case 1: case 2: ir_getreg(b, x, (u32)CPU_OFFSET_X(below(m, 8))); break;
    case 3: ir_getreg(b, IR_F64, (u32)CPU_OFFSET_F(below(m, 4))); break;
    case 4: case 5: case 6:
        v = value(m, x);
        ir_setreg(b, x, (u32)CPU_OFFSET_X(1 + below(m, 7)), v);
        break;
    case 7:
        v = value(m, IR_F64);
        ir_setreg(b, IR_F64, (u32)CPU_OFFSET_F(below(m, 4)), v);
        break;
    case 8: ir_0(b, IR_pcrel, x, 0, (s32)interesting(m)); break;
    case 9: {
        const unsigned size = below(m, 4);
        const IrType type = size == 3 || below(m, 2) ? IR_I64 : IR_I32;
        v = value(m, x);
        ir_ld(b, type, size, below(m, 2), v, (s32)interesting(m));
        break;
    }
    case 10: {
        const unsigned size = below(m, 3);
        v = value(m, x);
        w = value(m, IR_I32);
        ir_st(b, IR_I32, size, v, (s32)interesting(m), w);
        break;
    }
    case 11: ir_0(b, IR_guard, IR_NOTYPE, (u16)!below(m, 3), (s32)guard); break;
    case 12:
        v = value(m, IR_I64);
        w = value(m, IR_I32);
        ir_call(b, IR_I64, HELP_ADD, v, w, IR_NONE, (s32)interesting(m));
        break;
    case 13:
        switch (below(m, 4)) {
        case 0: ir_call(b, IR_I32, HELP_REGS, IR_NONE, IR_NONE, IR_NONE, 0); break;
        case 1: v = value(m, IR_I32); ir_call(b, IR_I64, HELP_FP, v, IR_NONE, IR_NONE, 0); break;
        case 2: v = value(m, IR_I64); ir_call(b, x, HELP_TRAP, v, IR_NONE, IR_NONE, 0); break;
        default:
            v = value(m, IR_I32);
            ir_emit(b, (IrInsn){.op = IR_setstate, .type = IR_I32, .aux = 0, .a = v, .b = IR_NONE,
                                .c = IR_NONE, .imm = (s32)guard});
            break;
        }
        break;
    case 14: {
        const IrType width = below(m, 2) ? IR_I32 : IR_I64;
        v = value(m, width);
        w = below(m, 8) ? value(m, width) : v;
        ir_br(b, (IrCond)below(m, 6), width, v, w, (s32)(below(m, 0x2000) & ~1u));
        break;
    }
    case 15: case 16:
        ir_0(b, IR_insn, IR_NOTYPE, 4, (s32)(0x10 + 4 * b->guest_insns++));
        break;
    case 17: case 18: case 19: make_fp(m); break;
    default: make_pure(m); break;
    }
}

static void make_block(Maker *m)
{
    IrBlock *b = m->block;
    IrValue v;
    ir_0(b, IR_insn, IR_NOTYPE, 4, 0x10);
    b->guest_insns = 1;
    const u32 length = 4 + below(m, 80);
    while (b->count < length) {
        make_record(m);
    }
    switch (below(m, 3)) {
    case 0: ir_0(b, IR_goto, IR_NOTYPE, 0, (s32)(interesting(m) & ~(u64)1)); break;
    case 1: v = value(m, b->xlen); ir_1(b, IR_jump, b->xlen, b->xlen, 0, v); break;
    default: v = value(m, b->xlen); ir_1(b, IR_trap, b->xlen, b->xlen, 5, v); break;
    }
}

START_TEST(same_result)
{
    static IrInsn original[IR_MAX_INSNS], optimised[IR_MAX_INSNS];
    Maker m = {.rand = g_rand_new_with_seed(20240229)};
    u64 records_before = 0, records_after = 0;
    unsigned exits[EXIT_HALT + 1] = {0};
    for (unsigned round = 0; round < 30000; round++) {
        IrBlock before = {.insns = original, .xlen = round & 1 ? IR_I32 : IR_I64,
                          .page_offset = 0x10, .helpers = helpers};
        m.block = &before;
        make_block(&m);
        check_block(&before, "as made");
        IrBlock after = before;
        after.insns = optimised;
        memcpy(optimised, original, before.count * sizeof(IrInsn));
        opt_run(&after);
        check_block(&after, "optimised");
        records_before += before.count;
        records_after += after.count;

        for (unsigned k = 0; k < 3; k++) {
            World a = {.cpu = {.pc = round & 1 ? 0xfffff010 : 0x7fff5010, .budget = 1000}}, b;
            for (unsigned r = 1; r < 32; r++) {
                a.cpu.x[r] = ir_type_bits(before.xlen) == 32 ? (u32)interesting(&m)
                                                             : interesting(&m);
                a.cpu.f[r - 1] = interesting(&m);
            }
            a.cpu.fp_ready = (u8)below(&m, 2);
            for (unsigned i = 0; i < sizeof(a.memory); i++) {
                a.memory[i] = (u8)below(&m, 256);
            }
            memcpy(&b, &a, sizeof(a));
            const CpuExit exit_a = ir_interpret(&before, &a.cpu, &callbacks);
            const CpuExit exit_b = ir_interpret(&after, &b.cpu, &callbacks);
            exits[exit_a]++;
            /* A jump to a known address becomes a goto. */
            const bool same_exit = exit_a == exit_b || (exit_a == EXIT_NEXT && exit_b == EXIT_LINK);
            if (!same_exit || memcmp(&a, &b, sizeof(a))) {
                char *x = print(&before), *y = print(&after);
                ck_abort_msg("round %u: exits %d, %d\n%s\n%s", round, exit_a, exit_b, x, y);
            }
        }
    }
    /* The blocks were worth making: all ways out were taken, and there was something to remove. */
    ck_assert_uint_gt(exits[EXIT_LINK], 1000);
    ck_assert_uint_gt(exits[EXIT_NEXT], 1000);
    ck_assert_uint_gt(exits[EXIT_TRAP], 1000);
    ck_assert_uint_lt(records_after, records_before - records_before / 10);
    g_rand_free(m.rand);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("opt");
    TCase *tcase = tcase_create("opt");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, rules);
    tcase_add_test(tcase, same_result);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
