/*
 * The IR's own tests: the table's value expressions against plain bit-by-bit C, the text form, the
 * checker, and the interpreter on small blocks written as text, over a memory of 64 bytes.
 */
#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/softfloat.h"
#include "core/ir/builder.h"
#include "core/ir/eval.h"
#include "core/ir/ir.h"

/* ---- Pure operations, by definition rather than by trick ---- */

static const u64 edge[] = {
    0, 1, 2, 3, 31, 32, 33, 63, 64, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff,
    0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000,
    0xffffffffffffffff, 0xfffffffffffffffe, 0xffffffff80000000, 0x0123456789abcdef,
    0xdeadbeef00c0ffee, 0x00ff00ff00ff00ff,
};

static int bit(u64 v, unsigned i)
{
    return (int)(v >> i & 1);
}

static s64 as_signed(u64 v, unsigned w)
{
    return w == 32 ? (s64)(s32)(u32)v : (s64)v;
}

static u64 as_unsigned(u64 v, unsigned w)
{
    return w == 32 ? (u32)v : v;
}

/* The 2w-bit product, schoolbook, of two's complement numbers extended to 2w bits. */
static u64 high_product(u64 a, u64 b, unsigned w, bool a_signed, bool b_signed)
{
    u128 x = a_signed ? (u128)(s128)as_signed(a, w) : (u128)as_unsigned(a, w);
    u128 y = b_signed ? (u128)(s128)as_signed(b, w) : (u128)as_unsigned(b, w);
    u128 sum = 0;
    for (unsigned i = 0; i < 2 * w; i++) {
        if (y >> i & 1) {
            sum += x << i;
        }
    }
    return (u64)(sum >> w);
}

/* What `op` should give; false if this function does not know it. */
static bool expected(const IrInsn *insn, u64 ra, u64 rb, u64 rc, u64 *out)
{
    const unsigned w = insn->op == IR_setcc ? ir_type_bits(insn->src) : ir_type_bits(insn->type);
    const u64 a = as_unsigned(ra, w), b = as_unsigned(rb, w), c = as_unsigned(rc, w);
    const s64 sa = as_signed(a, w), sb = as_signed(b, w);
    const unsigned n = b % w;
    const s64 least = w == 32 ? INT32_MIN : INT64_MIN;
    u64 r = 0;
    switch ((IrOp)insn->op) {
    case IR_const: r = (u64)insn->imm64; break;
    case IR_add: r = a + b; break;
    case IR_sub: r = a - b; break;
    case IR_and: r = a & b; break;
    case IR_or: r = a | b; break;
    case IR_xor: r = a ^ b; break;
    case IR_andn: r = a & ~b; break;
    case IR_orn: r = a | ~b; break;
    case IR_xnor: r = ~a ^ b; break;
    case IR_not: r = ~a; break;
    case IR_neg: r = ~a + 1; break;
    case IR_shl:
        for (unsigned i = n; i < w; i++) {
            r |= (u64)bit(a, i - n) << i;
        }
        break;
    case IR_shr:
        for (unsigned i = 0; i + n < w; i++) {
            r |= (u64)bit(a, i + n) << i;
        }
        break;
    case IR_sar:
        for (unsigned i = 0; i < w; i++) {
            r |= (u64)bit(a, i + n < w ? i + n : w - 1) << i;
        }
        break;
    case IR_rol:
        for (unsigned i = 0; i < w; i++) {
            r |= (u64)bit(a, i) << ((i + n) % w);
        }
        break;
    case IR_ror:
        for (unsigned i = 0; i < w; i++) {
            r |= (u64)bit(a, (i + n) % w) << i;
        }
        break;
    case IR_mul:
        for (unsigned i = 0; i < w; i++) {
            r += bit(b, i) ? a << i : 0;
        }
        break;
    case IR_mulhs: r = high_product(a, b, w, true, true); break;
    case IR_mulhu: r = high_product(a, b, w, false, false); break;
    case IR_mulhsu: r = high_product(a, b, w, true, false); break;
    case IR_divs: r = !b ? ~(u64)0 : sa == least && sb == -1 ? a : (u64)(sa / sb); break;
    case IR_divu: r = !b ? ~(u64)0 : a / b; break;
    case IR_rems: r = !b ? a : sa == least && sb == -1 ? 0 : (u64)(sa % sb); break;
    case IR_remu: r = !b ? a : a % b; break;
    case IR_min: r = sa <= sb ? a : b; break;
    case IR_max: r = sa >= sb ? a : b; break;
    case IR_minu: r = a <= b ? a : b; break;
    case IR_maxu: r = a >= b ? a : b; break;
    case IR_clz:
        while (r < w && !bit(a, w - 1 - (unsigned)r)) {
            r++;
        }
        break;
    case IR_ctz:
        while (r < w && !bit(a, (unsigned)r)) {
            r++;
        }
        break;
    case IR_popcnt:
        for (unsigned i = 0; i < w; i++) {
            r += (u64)bit(a, i);
        }
        break;
    case IR_bswap:
        for (unsigned i = 0; i < w; i++) {
            r |= (u64)bit(a, i) << (w - 8 - i / 8 * 8 + i % 8);
        }
        break;
    case IR_orcb:
        for (unsigned i = 0; i < w; i += 8) {
            r |= (a >> i & 0xff) ? (u64)0xff << i : 0;
        }
        break;
    case IR_brev8:
        for (unsigned i = 0; i < w; i++) {
            r |= (u64)bit(a, i) << (i / 8 * 8 + 7 - i % 8);
        }
        break;
    case IR_clmul:
    case IR_clmulh:
        for (unsigned i = 0; i < w; i++) {
            for (unsigned j = 0; j < w; j++) {
                const unsigned at = insn->op == IR_clmul ? i + j : i + j - w;
                if ((insn->op == IR_clmul ? i + j < w : i + j >= w) && bit(a, i) && bit(b, j)) {
                    r ^= (u64)1 << at;
                }
            }
        }
        break;
    case IR_xperm: {
        const unsigned lane = insn->aux;
        for (unsigned i = 0; i < w / lane; i++) {
            const u64 from = b >> (i * lane) & mask64(lane);
            if (from < w / lane) {
                r |= (a >> (from * lane) & mask64(lane)) << (i * lane);
            }
        }
        break;
    }
    case IR_sext8: r = ra & 0x80 ? ra | ~(u64)0xff : ra & 0xff; break;
    case IR_sext16: r = ra & 0x8000 ? ra | ~(u64)0xffff : ra & 0xffff; break;
    case IR_sext32: r = ra & 0x80000000 ? ra | ~(u64)0xffffffff : ra & 0xffffffff; break;
    case IR_zext8: r = ra & 0xff; break;
    case IR_zext16: r = ra & 0xffff; break;
    case IR_zext32: r = ra & 0xffffffff; break;
    case IR_setcc:
        r = insn->aux == IR_EQ    ? a == b
            : insn->aux == IR_NE  ? a != b
            : insn->aux == IR_LT  ? sa < sb
            : insn->aux == IR_GE  ? sa >= sb
            : insn->aux == IR_LTU ? a < b
                                  : a >= b;
        break;
    case IR_select: r = a ? b : c; break;
    default: return false;
    }
    *out = as_unsigned(r, ir_type_bits(insn->type));
    return true;
}

START_TEST(pure_operations)
{
    const IrType types[] = {IR_I32, IR_I64};
    unsigned known = 0;
    for (unsigned op = 0; op < IR_OP_COUNT; op++) {
        IrInsn insn = {.op = (u8)op, .type = IR_I64, .src = IR_I64, .aux = 4};
        u64 value, want;
        const bool is_int = ir_eval_int(&insn, 1, 1, 1, &value);
        ck_assert_msg(is_int == expected(&insn, 1, 1, 1, &want), "%s", ir_op_info[op].name);
        if (!is_int) {
            continue;
        }
        known++;
        const u16 first = op == IR_xperm ? 4 : 0, step = op == IR_xperm ? 4 : 1;
        const u16 last = op == IR_xperm ? 8 : op == IR_setcc ? IR_GEU : 0;
        const unsigned nb = ir_op_info[op].operand_count > 1 ? ARRAY_LEN(edge) : 1;
        for (u16 aux = first; aux <= last; aux += step) {
            for (unsigned t = 0; t < 4; t++) {
                insn.type = types[t & 1];
                insn.src = types[op == IR_setcc ? t >> 1 : t & 1];
                insn.aux = aux;
                for (unsigned i = 0; i < ARRAY_LEN(edge); i++) {
                    for (unsigned j = 0; j < nb; j++) {
                        const u64 a = edge[i], b = edge[j], c = edge[(i + j) % ARRAY_LEN(edge)];
                        if (op == IR_const) {
                            insn.imm64 = (s64)a;
                        }
                        ck_assert(ir_eval_int(&insn, a, b, c, &value));
                        ck_assert(expected(&insn, a, b, c, &want));
                        ck_assert_msg(value == want,
                                      "%s.%d:%d %d of %llx, %llx, %llx: %llx, not %llx",
                                      ir_op_info[op].name, insn.type, insn.src, aux,
                                      (unsigned long long)a, (unsigned long long)b,
                                      (unsigned long long)c, (unsigned long long)value,
                                      (unsigned long long)want);
                    }
                }
            }
        }
    }
    ck_assert_uint_eq(known, 45);
}
END_TEST

START_TEST(floating_point)
{
    CpuState cpu = {.frm = SF_RUP};
    IrInsn insn = {.op = IR_fadd, .type = IR_F32, .src = IR_F32};
    const u64 one = 0x3f800000, tiny = 1;
    ck_assert_uint_eq(ir_eval_fp(&cpu, &insn, one, tiny, 0), one);
    ck_assert_uint_eq(cpu.fflags, SF_NX);
    insn.aux = 7; /* dynamic: up */
    ck_assert_uint_eq(ir_eval_fp(&cpu, &insn, one, tiny, 0), one + 1);
    cpu.frm = 6; /* reserved: some value, no crash */
    ck_assert_uint_eq(ir_eval_fp(&cpu, &insn, one, tiny, 0), one);

    /* The four fused forms on 2, 3, 1. */
    const struct { IrOp op; u64 want; } fused[] = {
        {IR_fmadd, 0x401c000000000000}, {IR_fmsub, 0x4014000000000000},
        {IR_fnmsub, 0xc014000000000000}, {IR_fnmadd, 0xc01c000000000000},
    };
    for (unsigned i = 0; i < ARRAY_LEN(fused); i++) {
        IrInsn f = {.op = fused[i].op, .type = IR_F64, .src = IR_F64};
        ck_assert_uint_eq(ir_eval_fp(&cpu, &f, 0x4000000000000000, 0x4008000000000000,
                                     0x3ff0000000000000), fused[i].want);
    }

    const struct { IrInsn insn; u64 a, b, want; } cases[] = {
        {{.op = IR_unbox, .type = IR_F32, .src = IR_F64}, 0xffffffff3f800000, 0, 0x3f800000},
        {{.op = IR_unbox, .type = IR_F32, .src = IR_F64}, 0xfffffffe3f800000, 0, 0x7fc00000},
        {{.op = IR_unbox, .type = IR_F16, .src = IR_F64}, 0xffffffffffff3c00, 0, 0x3c00},
        {{.op = IR_unbox, .type = IR_F16, .src = IR_F64}, 0xfffffffffffe3c00, 0, 0x7e00},
        {{.op = IR_box, .type = IR_F64, .src = IR_F32}, 0x3f800000, 0, 0xffffffff3f800000},
        {{.op = IR_box, .type = IR_F64, .src = IR_F16}, 0x3c00, 0, 0xffffffffffff3c00},
        {{.op = IR_fsgnj, .type = IR_F32, .src = IR_F32}, 0x3f800000, 0x80000000, 0xbf800000},
        {{.op = IR_fsgnjn, .type = IR_F32, .src = IR_F32}, 0xbf800000, 0x80000000, 0x3f800000},
        {{.op = IR_fsgnjx, .type = IR_F16, .src = IR_F16}, 0xbc00, 0x8000, 0x3c00},
        {{.op = IR_fbits, .type = IR_I32, .src = IR_F16}, 0xbc00, 0, 0xbc00},
        {{.op = IR_ffrom, .type = IR_F16, .src = IR_I32}, 0x1234bc00, 0, 0xbc00},
        {{.op = IR_fclass, .type = IR_I64, .src = IR_F32}, 0x3f800000, 0, 1 << 6},
        {{.op = IR_feq, .type = IR_I64, .src = IR_F32}, 0x3f800000, 0x3f800000, 1},
        {{.op = IR_fle, .type = IR_I64, .src = IR_F32}, 0x3f800000, 0, 0},
        {{.op = IR_fcvt_ff, .type = IR_F64, .src = IR_F32}, 0x3f800000, 0, 0x3ff0000000000000},
        {{.op = IR_fcvt_if, .type = IR_I64, .src = IR_F32, .aux = IR_CVT_32 | IR_CVT_UNSIGNED},
         0x4f800000, 0, ~(u64)0},
        {{.op = IR_fcvt_if, .type = IR_I32, .src = IR_F32, .aux = IR_CVT_32}, 0xbf800000, 0,
         0xffffffff},
        {{.op = IR_fcvt_if, .type = IR_I64, .src = IR_F64, .aux = SF_RTZ}, 0xbffe000000000000, 0,
         ~(u64)0},
        {{.op = IR_fcvt_fi, .type = IR_F32, .src = IR_I64, .aux = IR_CVT_32}, 0xffffffff, 0,
         0xbf800000},
        {{.op = IR_fcvt_fi, .type = IR_F64, .src = IR_I64, .aux = IR_CVT_32 | IR_CVT_UNSIGNED},
         0xffffffff, 0, 0x41efffffffe00000},
        {{.op = IR_fcvtmod, .type = IR_I64, .src = IR_F64}, 0x41f0000000100000, 0, 1},
        {{.op = IR_fround, .type = IR_F32, .src = IR_F32}, 0x3fc00000, 0, 0x40000000},
        {{.op = IR_fmin, .type = IR_F32, .src = IR_F32}, 0x3f800000, 0x7fc00000, 0x3f800000},
        {{.op = IR_fminm, .type = IR_F32, .src = IR_F32}, 0x3f800000, 0x7fc00000, 0x7fc00000},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        const u64 got = ir_eval_fp(&cpu, &cases[i].insn, cases[i].a, cases[i].b, 0);
        ck_assert_msg(got == cases[i].want, "case %u (%s): %llx", i,
                      ir_op_info[cases[i].insn.op].name, (unsigned long long)got);
    }
}
END_TEST

/* ---- Blocks ---- */

typedef struct Fixture {
    CpuState cpu;
    u64 memory[8]; /* at guest address 0x1000 */
    u64 other;     /* written by helpers */
} Fixture;

enum { MEMORY = 0x1000 };

static bool reach(CpuState *cpu, u64 va, unsigned size_log2, u64 cause, void **host)
{
    Fixture *f = container_of(cpu, Fixture, cpu);
    if (va < MEMORY || va + (1u << size_log2) > MEMORY + sizeof(f->memory)) {
        return cpu_trap(cpu, cause, va);
    }
    *host = (u8 *)f->memory + (va - MEMORY);
    return true;
}

static bool load(CpuState *cpu, u64 va, unsigned size_log2, u64 *value)
{
    void *host;
    if (!reach(cpu, va, size_log2, 13, &host)) {
        return false;
    }
    *value = 0;
    memcpy(value, host, (size_t)1 << size_log2);
    return true;
}

static bool store(CpuState *cpu, u64 va, unsigned size_log2, u64 value)
{
    void *host;
    ck_assert(size_log2 == 3 || value >> (8 << size_log2) == 0);
    if (!reach(cpu, va, size_log2, 15, &host)) {
        return false;
    }
    memcpy(host, &value, (size_t)1 << size_log2);
    return true;
}

static bool aligned_host(CpuState *cpu, u64 va, unsigned size_log2, u64 cause, void **host)
{
    return va % (1u << size_log2) ? cpu_trap(cpu, cause - 1, va)
                                  : reach(cpu, va, size_log2, cause, host);
}

static bool amo_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    return aligned_host(cpu, va, size_log2, 7, host);
}

static bool lr_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    return aligned_host(cpu, va, size_log2, 5, host);
}

static bool zero(CpuState *cpu, u64 va)
{
    for (u64 at = va & ~(u64)63; at <= (va | 63); at += 8) {
        if (!store(cpu, at, 3, 0)) {
            return cpu_trap(cpu, 7, va);
        }
    }
    return true;
}

/* Guard 0 lets the block go on, others trap. */
static bool guard_failed(CpuState *cpu, unsigned guard)
{
    return guard == 0 ? true : cpu_trap(cpu, 2, 0xbad);
}

static bool next_page_ok(CpuState *cpu, const void *wanted)
{
    (void)cpu;
    return wanted != NULL;
}

static const IrInterpreter callbacks = {
    .guard_failed = guard_failed, .next_page_ok = next_page_ok, .load = load, .store = store,
    .amo_host = amo_host, .lr_host = lr_host, .zero = zero,
};

static u64 help_sum(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)cpu;
    return a + 10 * b + 100 * c + 1000 * d;
}

static u64 help_look(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)a, (void)b, (void)c, (void)d;
    container_of(cpu, Fixture, cpu)->other = cpu->pc << 32 | (u32)cpu_insns(cpu);
    return cpu->refund;
}

/* Sets status to its operand; 2 and 3 move pc as xRET and WFI do. */
static u64 help_status(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    if (a == CPU_TRAP) {
        cpu_trap(cpu, 8, 0x77);
    } else if (a) {
        cpu->status = (u32)a;
        cpu->pc = a == CPU_NEXT ? 0x123456 : cpu->pc + 4;
    }
    return 42;
}

static const IrHelper helpers[] = {
    {"sum", help_sum, 3, HELPER_IMM},
    {"sum0", help_sum, 0, HELPER_IMM},
    {"look", help_look, 0, HELPER_PC},
    {"status", help_status, 1, HELPER_PC | HELPER_TRAPS},
    {"quiet_status", help_status, 1, HELPER_PC},
    {NULL, NULL, 0, 0},
};

static IrInsn records[IR_MAX_INSNS];

static IrBlock parse(const char *text)
{
    IrBlock block = {.insns = records, .xlen = IR_I64, .helpers = helpers};
    char *error = NULL;
    ck_assert_msg(ir_parse(text, &block, &error), "%s", error);
    error = ir_check(&block);
    ck_assert_msg(!error, "%s", error);
    return block;
}

static Fixture start(u64 pc)
{
    return (Fixture){.cpu = {.pc = pc, .budget = 100, .insn_base = 100}};
}

static CpuExit run(Fixture *f, const char *text)
{
    const IrBlock block = parse(text);
    return ir_interpret(&block, &f->cpu, &callbacks);
}

/* Checks pc and the number of instructions retired. */
#define ASSERT_AT(f, wanted_pc, retired)                                                           \
    do {                                                                                           \
        ck_assert_uint_eq((f).cpu.pc, wanted_pc);                                                  \
        ck_assert_uint_eq(cpu_insns(&(f).cpu), retired);                                           \
        ck_assert_uint_eq((f).cpu.status, CPU_OK);                                                 \
        ck_assert_uint_eq((f).cpu.refund, 0);                                                      \
    } while (0)

/* Three instructions at page offset 0x10; the middle one is the body. */
#define THREE(body)                                                                                \
    "block i64 @0x10\ninsn @0x10 4\nv100 = const.i64 #7\nsetreg.i64 x5, v100\ninsn @0x14 4\n" body \
    "\ninsn @0x18 4\nv101 = const.i64 #9\nsetreg.i64 x6, v101\ngoto @0x1c\n"

START_TEST(straight_line)
{
    Fixture f = start(0x5010);
    f.cpu.x[10] = 5;
    ck_assert_int_eq(run(&f, THREE("v1 = getreg.i64 x10\nv2 = add.i64 v1, v100\n"
                                   "setreg.i64 x11, v2\nv3 = pcrel.i64 @0x2020\n"
                                   "setreg.i64 x12, v3")), EXIT_LINK);
    ASSERT_AT(f, 0x501c, 3);
    ck_assert_uint_eq(f.cpu.x[11], 12);
    ck_assert_uint_eq(f.cpu.x[12], 0x7020);
    ck_assert_uint_eq(f.cpu.x[6], 9);
}
END_TEST

START_TEST(budget_and_pending)
{
    Fixture f = start(0x5010);
    f.cpu.budget = 2;
    f.cpu.insn_base = 2;
    ck_assert_int_eq(run(&f, THREE("")), EXIT_BUDGET);
    ASSERT_AT(f, 0x5010, 0);
    ck_assert_int_eq(f.cpu.budget, 2);
    ck_assert_uint_eq(f.cpu.x[5], 0);
    cpu_set_budget(&f.cpu, 3); /* just enough */
    ck_assert_int_eq(run(&f, THREE("")), EXIT_LINK);
    ASSERT_AT(f, 0x501c, 3);
    f = start(0x5010);
    f.cpu.pending = PENDING_TIMER;
    ck_assert_int_eq(run(&f, THREE("")), EXIT_BUDGET);
    ASSERT_AT(f, 0x5010, 0);
}
END_TEST

START_TEST(leaving_early)
{
    Fixture f = start(0x5010);
    /* A taken branch retires, what follows it does not run. */
    ck_assert_int_eq(run(&f, THREE("br.i64 eq v100, v100, @-0x20")), EXIT_LINK);
    ASSERT_AT(f, 0x4fe0, 2);
    ck_assert_uint_eq(f.cpu.x[5], 7);
    ck_assert_uint_eq(f.cpu.x[6], 0);
    /* One that is not taken goes on; only the low 32 bits count. */
    f = start(0x5010);
    ck_assert_int_eq(run(&f, THREE("v1 = const.i64 #0x100000007\nbr.i32 ne v1, v100, @0x40")),
                     EXIT_LINK);
    ASSERT_AT(f, 0x501c, 3);
    /* A trapping load does not retire. */
    f = start(0x5010);
    ck_assert_int_eq(run(&f, THREE("v1 = ld.i64 u8 [v100+100]")), EXIT_TRAP);
    ASSERT_AT(f, 0x5014, 1);
    ck_assert_uint_eq(f.cpu.trap_cause, 13);
    ck_assert_uint_eq(f.cpu.trap_value, 107);
    f = start(0x5010);
    ck_assert_int_eq(run(&f, THREE("st.i64 u4 [v100+8], v100")), EXIT_TRAP);
    ASSERT_AT(f, 0x5014, 1);
    ck_assert_uint_eq(f.cpu.trap_cause, 15);
}
END_TEST

START_TEST(guards)
{
    char *text = g_strdup_printf(THREE("guard $%zu 0\nguard $%zu 1"), offsetof(CpuState, fp_ready),
                                 offsetof(CpuState, fp_ready));
    Fixture f = start(0x5010);
    ck_assert_int_eq(run(&f, text), EXIT_TRAP); /* 0 goes on, 1 traps */
    ASSERT_AT(f, 0x5014, 1);
    ck_assert_uint_eq(f.cpu.trap_value, 0xbad);
    ck_assert_uint_eq(f.cpu.exit_arg, 1);
    f = start(0x5010);
    f.cpu.fp_ready = 1;
    ck_assert_int_eq(run(&f, text), EXIT_LINK);
    ASSERT_AT(f, 0x501c, 3);

    IrInterpreter none = callbacks;
    none.guard_failed = NULL;
    const IrBlock block = parse(text);
    f = start(0x5010);
    ck_assert_int_eq(ir_interpret(&block, &f.cpu, &none), EXIT_GUARD);
    ASSERT_AT(f, 0x5014, 1);
    ck_assert_uint_eq(f.cpu.exit_arg, 0);
    g_free(text);

    const IrBlock straddle = parse("block i64 @0xffe straddles\nguard_next_page\ninsn @0xffe 4\n"
                                   "goto @0x1002");
    f = start(0x5ffe);
    ck_assert_int_eq(ir_interpret(&straddle, &f.cpu, &callbacks), EXIT_NEXT_PAGE);
    ASSERT_AT(f, 0x5ffe, 0);
    IrInterpreter holds = callbacks;
    holds.expected = &f;
    ck_assert_int_eq(ir_interpret(&straddle, &f.cpu, &holds), EXIT_LINK);
    ASSERT_AT(f, 0x6002, 1);
}
END_TEST

START_TEST(ways_out)
{
    Fixture f = start(0x5010);
    ck_assert_int_eq(run(&f, "block i64 @0x10\ninsn @0x10 2\nv1 = const.i64 #-4096\njump v1"),
                     EXIT_NEXT);
    ASSERT_AT(f, 0xfffffffffffff000, 1);
    f = start(0x5010);
    ck_assert_int_eq(run(&f, "block i64 @0x10\ninsn @0x10 2\nnext @0x1000"), EXIT_NEXT);
    ASSERT_AT(f, 0x6000, 1);
    f = start(0x5010);
    ck_assert_int_eq(run(&f, "block i64 @0x10\ninsn @0x10 2\nv1 = const.i64 #77\ntrap v1 3"),
                     EXIT_TRAP);
    ASSERT_AT(f, 0x5010, 0);
    ck_assert_uint_eq(f.cpu.trap_cause, 3);
    ck_assert_uint_eq(f.cpu.trap_value, 77);
    /* On RV32 addresses wrap. */
    f = start(0xfffff010);
    ck_assert_int_eq(run(&f, "block i32 @0x10\ninsn @0x10 2\nv1 = pcrel.i32 @0x1008\n"
                             "setreg.i32 x1, v1\ngoto @0x1004"), EXIT_LINK);
    ASSERT_AT(f, 4, 1);
    ck_assert_uint_eq(f.cpu.x[1], 8);
    f = start(0x10);
    ck_assert_int_eq(run(&f, "block i32 @0x10\ninsn @0x10 2\nv1 = const.i32 #-8\ntrap v1 2"),
                     EXIT_TRAP);
    ck_assert_uint_eq(f.cpu.trap_value, 0xfffffff8);
}
END_TEST

START_TEST(calls)
{
    Fixture f = start(0x5010);
    ck_assert_int_eq(run(&f, THREE("v1 = const.i64 #2\nv2 = call.i64 sum(v100, v1, v1, #-3)\n"
                                   "setreg.i64 x10, v2\nv3 = call.i32 sum0(#5)\n"
                                   "setreg.i32 x11, v3\nv4 = call.i64 look\nsetreg.i64 x12, v4")),
                     EXIT_LINK);
    ASSERT_AT(f, 0x501c, 3);
    ck_assert_int_eq((s64)f.cpu.x[10], 7 + 20 + 200 - 3000);
    ck_assert_uint_eq(f.cpu.x[11], 5);
    ck_assert_uint_eq(f.cpu.x[12], 2);                     /* the current one and one after it */
    ck_assert_uint_eq(f.other, (u64)0x5014 << 32 | 1); /* one has retired */

    const struct { const char *text; CpuExit why; u64 pc, retired; } cases[] = {
        {THREE("v1 = const.i64 #0\nv2 = call.i64 status(v1)"), EXIT_LINK, 0x501c, 3},
        {THREE("v1 = const.i64 #1\nv2 = call.i64 status(v1)"), EXIT_TRAP, 0x5014, 1},
        {THREE("v1 = const.i64 #2\nv2 = call.i64 status(v1)"), EXIT_NEXT, 0x123456, 2},
        {THREE("v1 = const.i64 #3\nv2 = call.i64 status(v1)"), EXIT_HALT, 0x5018, 2},
        {"block i64 @0x10\ninsn @0x10 4\nv1 = const.i64 #2\nv2 = call.i64 quiet_status(v1)\nleave",
         EXIT_NEXT, 0x123456, 1},
        {"block i64 @0x10\ninsn @0x10 4\nv1 = const.i64 #3\nv2 = call.i64 quiet_status(v1)\nleave",
         EXIT_HALT, 0x5014, 1},
        {"block i64 @0x10\ninsn @0x10 4\nv1 = const.i64 #1\nv2 = call.i64 quiet_status(v1)\nleave",
         EXIT_TRAP, 0x5010, 0},
        {"block i64 @0x10\ninsn @0x10 4\nv1 = const.i64 #0\nv2 = call.i64 quiet_status(v1)\nleave",
         EXIT_NEXT, 0x5010, 1},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        f = start(0x5010);
        ck_assert_int_eq(run(&f, cases[i].text), cases[i].why);
        ASSERT_AT(f, cases[i].pc, cases[i].retired);
    }
}
END_TEST

START_TEST(memory_access)
{
    Fixture f = start(0x5010);
    f.memory[0] = 0x8182838485868788;
    ck_assert_int_eq(run(&f, THREE("v0 = const.i64 #0x1000\n"
                                   "v1 = ld.i64 s1 [v0]\nsetreg.i64 x10, v1\n"
                                   "v2 = ld.i64 u2 [v0+2]\nsetreg.i64 x11, v2\n"
                                   "v3 = ld.i64 s4 [v0+3]\nsetreg.i64 x12, v3\n"
                                   "v4 = ld.i32:i64 s2 [v0]\nsetreg.i32 x13, v4\n"
                                   "v5 = ld.f32:i64 u4 [v0]\nv6 = box.f64:f32 v5\n"
                                   "setreg.f64 f1, v6\nst.f32:i64 u4 [v0+16], v5\n"
                                   "st.i64 u2 [v0+9], v3\n")), EXIT_LINK);
    ck_assert_uint_eq(f.cpu.x[10], (u64)(s64)(s8)0x88);
    ck_assert_uint_eq(f.cpu.x[11], 0x8586);
    ck_assert_uint_eq(f.cpu.x[12], (u64)(s64)(s32)0x82838485);
    ck_assert_uint_eq(f.cpu.x[13], 0xffff8788);
    ck_assert_uint_eq(f.cpu.f[1], 0xffffffff85868788);
    ck_assert_uint_eq(f.memory[1], 0x848500);
    ck_assert_uint_eq(f.memory[2], 0x85868788);
    /* On RV32 the address wraps. */
    f = start(0x10);
    f.memory[0] = 0x1234;
    ck_assert_int_eq(run(&f, "block i32 @0x10\ninsn @0x10 4\nv0 = const.i32 #-16\n"
                             "v1 = ld.i32 u4 [v0+4112]\nsetreg.i32 x1, v1\ngoto @0x14"), EXIT_LINK);
    ck_assert_uint_eq(f.cpu.x[1], 0x1234);
}
END_TEST

START_TEST(state_access)
{
    Fixture f = start(0x5010);
    f.cpu.exit_arg = 0xfedcba98;
    char *text = g_strdup_printf(THREE("v1 = getstate.i64 u2 $%zu\nsetreg.i64 x10, v1\n"
                                       "setstate.i64 u4 $%zu, v100\nsetreg.i32 x11, v100"),
                                 offsetof(CpuState, exit_arg), offsetof(CpuState, fflags));
    f.cpu.x[11] = ~(u64)0;
    ck_assert_int_eq(run(&f, text), EXIT_LINK);
    ck_assert_uint_eq(f.cpu.x[10], 0xba98);
    ck_assert_uint_eq(f.cpu.fflags, 7);
    ck_assert_uint_eq(f.cpu.x[11], 7); /* an I32 clears the upper half */
    g_free(text);
}
END_TEST

START_TEST(atomics)
{
    const u64 old = 0x80000005, operand = 7;
    const struct { const char *name; u64 want; } amos[] = {
        {"swap", 7}, {"add", 0x8000000c}, {"xor", 0x80000002}, {"and", 5}, {"or", 0x80000007},
        {"min", old}, {"max", 7}, {"minu", 7}, {"maxu", old},
    };
    for (unsigned i = 0; i < ARRAY_LEN(amos); i++) {
        Fixture f = start(0x5010);
        f.memory[1] = old | 0xabcd00000000;
        f.cpu.x[11] = operand | 0xff00000000;
        char *text = g_strdup_printf(THREE("v0 = const.i64 #0x1008\nv1 = getreg.i64 x11\n"
                                           "v2 = amo.i64 %s u4 v0, v1\nsetreg.i64 x10, v2"),
                                     amos[i].name);
        ck_assert_int_eq(run(&f, text), EXIT_LINK);
        ck_assert_uint_eq(f.cpu.x[10], (u64)(s64)(s32)old);
        ck_assert_msg(f.memory[1] == (amos[i].want | 0xabcd00000000), "%s", amos[i].name);
        g_free(text);
    }
    /* A byte in the middle; a compare-and-swap that hits and one that misses. */
    Fixture f = start(0x5010);
    f.memory[0] = 0x1122334455667788;
    ck_assert_int_eq(run(&f, THREE("v0 = const.i64 #0x1003\nv1 = const.i64 #-1\n"
                                   "v2 = amo.i64 add u1 v0, v1\nsetreg.i64 x10, v2\n"
                                   "v3 = const.i64 #0x1006\nv4 = const.i64 #0x1122\n"
                                   "v5 = cas.i64 u2 v3, v4, v1\nsetreg.i64 x11, v5\n"
                                   "v6 = cas.i64 u2 v3, v4, v0\nsetreg.i64 x12, v6")), EXIT_LINK);
    ck_assert_uint_eq(f.memory[0], 0xffff334454667788);
    ck_assert_uint_eq(f.cpu.x[10], 0x55);
    ck_assert_uint_eq(f.cpu.x[11], 0x1122);
    ck_assert_uint_eq(f.cpu.x[12], ~(u64)0);
    /* Misaligned. */
    f = start(0x5010);
    ck_assert_int_eq(run(&f, THREE("v0 = const.i64 #0x1002\nv1 = amo.i64 add u4 v0, v0")),
                     EXIT_TRAP);
    ASSERT_AT(f, 0x5014, 1);
    ck_assert_uint_eq(f.cpu.trap_cause, 6);
}
END_TEST

#define LR "v0 = const.i64 #0x1000\nv1 = lr.i64 u4 v0\nsetreg.i64 x10, v1\n"
#define SC "v2 = const.i64 #99\nv3 = sc.i64 u4 v0, v2\nsetreg.i64 x11, v3\n"

START_TEST(reservations)
{
    const u64 word = 0x1111111180000000;
    const struct { const char *text; u64 fails, left; } cases[] = {
        {THREE(LR SC), 0, 0x1111111100000063},
        {THREE("v0 = const.i64 #0x1000\n" SC), 1, word},
        /* elsewhere, with another size, or after the word has changed */
        {THREE(LR "v5 = const.i64 #0x1004\nv2 = const.i64 #99\nv3 = sc.i64 u4 v5, v2\n"
                  "setreg.i64 x11, v3"), 1, word},
        {THREE(LR "v2 = const.i64 #99\nv3 = sc.i64 u8 v0, v2\nsetreg.i64 x11, v3"), 1, word},
        {THREE(LR "v5 = const.i64 #1\nst.i64 u1 [v0], v5\n" SC), 1, word + 1},
        /* the second sc finds no reservation */
        {THREE(LR "v5 = const.i64 #0\nv6 = sc.i64 u4 v0, v5\nst.i64 u4 [v0], v1\n" SC), 1, word},
        /* the reservation is for the address, whatever else is stored */
        {THREE(LR "st.i64 u4 [v0+8], v1\n" SC), 0, 0x1111111100000063},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        Fixture f = start(0x5010);
        f.memory[0] = word;
        ck_assert_int_eq(run(&f, cases[i].text), EXIT_LINK);
        ck_assert_msg(f.cpu.x[11] == cases[i].fails, "case %u", i);
        ck_assert_msg(f.memory[0] == cases[i].left, "case %u", i);
        ck_assert_uint_eq(f.cpu.res_host, 0);
        if (i != 1) {
            ck_assert_uint_eq(f.cpu.x[10], 0xffffffff80000000);
        }
    }
    /* Without a reservation the address is still checked. */
    Fixture f = start(0x5010);
    ck_assert_int_eq(run(&f, THREE("v0 = const.i64 #0x1002\n" SC)), EXIT_TRAP);
    ck_assert_uint_eq(f.cpu.trap_cause, 6);
    ck_assert_int_eq(run(&f, "block i64 @0x14\ninsn @0x14 4\nv0 = const.i64 #0x2000\n" SC
                             "goto @0"),
                     EXIT_TRAP);
    ck_assert_uint_eq(f.cpu.trap_cause, 7);
}
END_TEST

/* ---- Text form and checker ---- */

/* Values of every type that the lines below may use, and one line for each operation. */
#define VALUES                                                                                     \
    "block i64 @0x10 bytes=4\ninsn @0x10 4\nv1 = const.i64 #-5\nv2 = const.i32 #5\n"               \
    "v3 = ffrom.f64:i64 v1\nv4 = ffrom.f32:i32 v2\nv5 = ffrom.f16:i32 v2\n"
static const char *const lines[] = {
    "v6 = const.i64 #-9223372036854775808", "v6 = getreg.i64 x10", "setreg.f64 f31, v3",
    "v6 = getstate.i64 u1 $0x308", "setstate.i32 u4 $0x308, v2", "v6 = pcrel.i64 @-0x1000",
    "v6 = add.i64 v1, v1", "v6 = sub.i32 v1, v2", "v6 = and.i64 v1, v1", "v6 = or.i64 v1, v1",
    "v6 = xor.i64 v1, v1", "v6 = andn.i64 v1, v1", "v6 = orn.i64 v1, v1", "v6 = xnor.i64 v1, v1",
    "v6 = not.i64 v1", "v6 = neg.i64 v1", "v6 = shl.i64 v1, v1", "v6 = shr.i64 v1, v1",
    "v6 = sar.i64 v1, v1", "v6 = rol.i64 v1, v1", "v6 = ror.i64 v1, v1", "v6 = mul.i64 v1, v1",
    "v6 = mulhs.i64 v1, v1", "v6 = mulhu.i64 v1, v1", "v6 = mulhsu.i64 v1, v1",
    "v6 = divs.i64 v1, v1", "v6 = divu.i64 v1, v1", "v6 = rems.i64 v1, v1", "v6 = remu.i64 v1, v1",
    "v6 = min.i64 v1, v1", "v6 = max.i64 v1, v1", "v6 = minu.i64 v1, v1", "v6 = maxu.i64 v1, v1",
    "v6 = clz.i64 v1", "v6 = ctz.i64 v1", "v6 = popcnt.i64 v1", "v6 = bswap.i64 v1",
    "v6 = orcb.i64 v1", "v6 = brev8.i64 v1", "v6 = clmul.i64 v1, v1", "v6 = clmulh.i64 v1, v1",
    "v6 = xperm.i64 v1, v1 4", "v6 = sext8.i64 v2", "v6 = sext16.i64 v2", "v6 = sext32.i64 v2",
    "v6 = zext8.i64 v2", "v6 = zext16.i64 v2", "v6 = zext32.i64 v2",
    "v6 = setcc.i64:i32 ltu v1, v2", "v6 = select.i64 v1, v1, v1", "v6 = ld.i64 s4 [v1-2048]",
    "v6 = ld.f32:i64 u4 [v1]", "st.i64 u8 [v1+2147483647], v1", "st.f16:i64 u2 [v1], v5",
    "v6 = amo.i64 maxu u8 v1, v1", "v6 = cas.i64 u1 v1, v2, v1", "v6 = lr.i64 u4 v1",
    "v6 = sc.i64 u4 v1, v2", "fence", "v6 = fadd.f32 rne v4, v4", "v6 = fsub.f64 dyn v3, v3",
    "v6 = fmul.f32 rmm v4, v4", "v6 = fdiv.f32 rup v4, v4", "v6 = fsqrt.f16 rdn v5",
    "v6 = fmadd.f32 rne v4, v4, v4", "v6 = fmsub.f32 rne v4, v4, v4",
    "v6 = fnmsub.f32 rne v4, v4, v4", "v6 = fnmadd.f32 rne v4, v4, v4", "v6 = fmin.f32 v4, v4",
    "v6 = fmax.f32 v4, v4", "v6 = fminm.f32 v4, v4", "v6 = fmaxm.f32 v4, v4",
    "v6 = feq.i64:f32 v4, v4", "v6 = flt.i64:f32 v4, v4", "v6 = fle.i64:f64 v3, v3",
    "v6 = fltq.i64:f32 v4, v4", "v6 = fleq.i64:f32 v4, v4", "v6 = fclass.i64:f16 v5",
    "v6 = fround.f32 dyn exact v4", "v6 = fcvt_ff.f32:f64 rtz v3",
    "v6 = fcvt_if.i64:f32 rtz u32 v4",
    "v6 = fcvt_if.i64:f32 dyn s64 v4", "v6 = fcvt_fi.f32:i64 rne s64 v1",
    "v6 = fcvtmod.i64:f64 v3", "v6 = fsgnj.f32 v4, v4", "v6 = fsgnjn.f32 v4, v4",
    "v6 = fsgnjx.f32 v4, v4", "v6 = unbox.f32:f64 v3", "v6 = box.f64:f16 v5",
    "v6 = fbits.i32:f32 v4", "v6 = ffrom.f64:i64 v1", "v6 = call.i64 sum v1, v2, v3, #-7",
    "v6 = call look", "callif.i32 sum0 v2, #5", "zero v1", "insn @0x14 2", "guard $0x230 1", "guard_next_page",
    "br.i32 geu v1, v2, @0x20", "goto @-0x7ffffffe", "goto call2 @0x20",
    "jump v1", "jump ret v1", "jump call4 v1", "next @0x1000", "leave",
    "trap v1 2",
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

START_TEST(text_round_trip)
{
    bool seen[IR_OP_COUNT] = {0};
    seen[IR_ffrom] = true;
    for (unsigned i = 0; i < ARRAY_LEN(lines); i++) {
        char *body = g_strconcat(VALUES, lines[i], "\n", NULL);
        char *error = NULL;
        IrBlock block = {.insns = records, .helpers = helpers};
        ck_assert_msg(ir_parse(body, &block, &error), "%s: %s", lines[i], error);
        const u8 op = records[block.count - 1].op;
        seen[op] = true;
        char *text = g_strconcat(body, ir_op_info[op].ends ? "" : "goto @0x14\n", NULL);
        ck_assert_msg(ir_parse(text, &block, &error), "%s: %s", lines[i], error);
        error = ir_check(&block);
        ck_assert_msg(!error, "%s: %s", lines[i], error);

        char *printed = print(&block);
        ck_assert_str_eq(printed, text);
        IrInsn first[16];
        const u32 count = block.count;
        memcpy(first, records, count * sizeof(IrInsn));
        ck_assert(ir_parse(printed, &block, &error));
        ck_assert_uint_eq(block.count, count);
        ck_assert(!memcmp(first, records, count * sizeof(IrInsn)));
        free(printed);
        g_free(text);
        g_free(body);
    }
    for (unsigned op = 0; op < IR_OP_COUNT; op++) {
        ck_assert_msg(seen[op], "no line for %s", ir_op_info[op].name);
    }
}
END_TEST

START_TEST(text_errors)
{
    static const char *const bad[] = {
        "v1 = nonsense.i64 v0", "v1 = add.i99 v0, v0", "v1 = add.i64 v0, v7", "v1 = not.i64",
        "v1 = not.i64 v0, v0", "v1 = not.i64 v0, v0, v0, v0", "v1 = const.i64 5",
        "v1 = const.i64 #5x", "v1 = const.i64 #",
        "goto @0x100000000", "v1 = getreg.i64 x32", "v1 = call.i64 nobody", "v1 = ld.i64 s3 [v0]",
        "br.i64 less v0, v0, @4", "v65535 = not.i64 v0", "q1 = not.i64 v0", "v1 =",
        "block i64 sideways", "v1 = fadd.f32 odd v0, v0", "insn @0x10 99999999", "@", "+ - ,",
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        char *text = g_strconcat("v0 = const.i64 #1\n", bad[i], NULL), *error = NULL;
        IrBlock block = {.insns = records, .xlen = IR_I64, .helpers = helpers};
        ck_assert_msg(!ir_parse(text, &block, &error), "%s", bad[i]);
        ck_assert_msg(error && g_str_has_prefix(error, "line 2: "), "%s: %s", bad[i], error);
        g_free(error);
        g_free(text);
    }
}
END_TEST

/* As VALUES, but without a way out. Each body breaks one rule. */
START_TEST(checker)
{
    static const struct { const char *body, *message; } cases[] = {
        {"goto @0x14", NULL},
        {"v6 = not.i64 v1", "does not end"},
        {"goto @0\ngoto @0", "before its last"},
        {"insn @0x14 4\nfence", "does not end"},
        {"v6 = add.i64 v1, v2\ngoto @0", "operand's type"},
        {"v6 = add.i32 v1, v2\ngoto @0", NULL},
        {"v6 = add.f32 v4, v4\ngoto @0", "must be an integer"},
        {"v6 = add.none v1, v1\ngoto @0", "must be an integer"},
        {"v6 = const.f32 #0\ngoto @0", "must be an integer"},
        {"v6 = const.i32 #0x80000000\ngoto @0", "not sign-extended"},
        {"v6 = sext32.i64 v2\ngoto @0", NULL},
        {"v6 = setcc.i64:f64 eq v3, v3\ngoto @0", "operands' type"},
        {"v6 = fadd.i64 rne v1, v1\ngoto @0", "must be floating-point"},
        {"v6 = fadd.f64 rne v3, v4\ngoto @0", "operand's type"},
        {"v6 = fadd.f64 rm5 v3, v3\ngoto @0", "rounding mode"},
        {"v6 = feq.f32 v4, v4\ngoto @0", "must be an integer"},
        {"v6 = getreg.i64 $12\ngoto @0", "not a register"},
        {"v6 = getreg.i64 $0x300\ngoto @0", "not a register"},
        {"v6 = getreg.f32 f1\ngoto @0", "I32, I64 or F64"},
        {"setreg.i64 x0, v1\ngoto @0", "x0"},
        {"setreg.i64 x1, v2\ngoto @0", "operand's type"},
        {"v6 = getstate.i64 u8 $0x10\ngoto @0", "getreg"},
        {"v6 = getstate.i64 u8 $0x204\ngoto @0", "state offset"},
        {"v6 = getstate.i32 u8 $0x308\ngoto @0", "do not fit"},
        {"setstate.i64 u8 $0x308, v2\ngoto @0", "operand's type"},
        {"v6 = xperm.i64 v1, v1 5\ngoto @0", "lanes"},
        {"v6 = ld.i32 u8 [v1]\ngoto @0", "XLEN"},
        {"v6 = ld.i32:i64 u8 [v1]\ngoto @0", "too narrow"},
        {"v6 = ld.f32:i64 u8 [v1]\ngoto @0", "format's size"},
        {"v6 = ld.f32:i64 s4 [v1]\ngoto @0", "format's size"},
        {"v6 = ld.i64 u8 [v2]\ngoto @0", "operand's type"},
        {"st.i64 u8 [v1], v2\ngoto @0", "operand's type"},
        {"st.f32:i64 u4 [v1], v3\ngoto @0", "operand's type"},
        {"v6 = amo.i64 add u8 v1, v2\ngoto @0", "operand's type"},
        {"v6 = amo.i32 add u8 v1, v1\ngoto @0", "too narrow"},
        {"v6 = lr.f64 u8 v1\ngoto @0", "too narrow"},
        {"v6 = fcvt_if.i32:f32 rne s64 v4\ngoto @0", "too narrow"},
        {"v6 = fcvt_fi.f32:i32 rne s64 v2\ngoto @0", "operand's type"},
        {"v6 = unbox.f64 v3\ngoto @0", "from F64"},
        {"v6 = box.f64 v3\ngoto @0", "to F64"},
        {"v6 = fbits.i64:f32 v4\ngoto @0", "widths"},
        {"v6 = ffrom.f32:i64 v1\ngoto @0", "widths"},
        {"v6 = call look\nv7 = not.i64 v6\ngoto @0", "without a value"},
        {"insn @0xffe 4\ngoto @0", "leaves the page"},
        {"insn @0xffe 2\ngoto @0", NULL},
        {"insn @0x11 2\ngoto @0", "bad offset"},
        {"insn @0x12 3\ngoto @0", "bad offset"},
        {"goto @0x13", "odd"},
        {"br.i64 eq v1, v1, @1\ngoto @0", "odd"},
        {"br.f64 eq v3, v3, @2\ngoto @0", "operands' type"},
        {"jump v2", "operand's type"},
        {"jump ret call4 v1", "hint"},
        {"goto ret @0", "hint"},
        {"goto call2 call4 @0", "hint"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        char *text = g_strconcat(VALUES, cases[i].body, "\n", NULL), *error = NULL;
        IrBlock block = {.insns = records, .helpers = helpers};
        ck_assert_msg(ir_parse(text, &block, &error), "%s: %s", cases[i].body, error);
        error = ir_check(&block);
        if (cases[i].message) {
            ck_assert_msg(error && strstr(error, cases[i].message), "%s: %s", cases[i].body, error);
        } else {
            ck_assert_msg(!error, "%s: %s", cases[i].body, error);
        }
        g_free(error);
        g_free(text);
    }
}
END_TEST

/* What text cannot say. */
START_TEST(checker_records)
{
    const IrBlock good = parse(VALUES "v6 = add.i64 v1, v1\ngoto @0x14\n");
    const u32 add = good.count - 2;
    const struct { IrInsn insn; const char *message; } cases[] = {
        {{.op = IR_add, .type = IR_I64, .src = IR_I64, .a = (u16)add, .b = 1},
         "not defined before"},
        {{.op = IR_add, .type = IR_I64, .src = IR_I64, .a = IR_NONE, .b = 1}, "not defined before"},
        {{.op = IR_add, .type = IR_I64, .src = IR_I64, .a = 0, .b = 1}, "without a value"},
        {{.op = IR_OP_COUNT, .type = IR_I64}, "no such operation"},
        {{.op = IR_fence, .type = IR_TYPE_COUNT}, "no such operation"},
        {{.op = IR_setcc, .type = IR_I64, .src = IR_I64, .aux = 6, .a = 1, .b = 1}, "condition"},
        {{.op = IR_br, .type = IR_I64, .src = IR_I64, .aux = 9, .a = 1, .b = 1}, "condition"},
        {{.op = IR_amo, .type = IR_I64, .aux = 9 << 8, .a = 1, .b = 1}, "no such AMO"},
        {{.op = IR_lr, .type = IR_I64, .aux = 8, .a = 1}, "bad size"},
        {{.op = IR_call, .type = IR_I64, .aux = 5}, "no such helper"},
        {{.op = IR_callif, .type = IR_I64, .aux = 5, .a = 1}, "no such helper"},
        {{.op = IR_callif, .type = IR_I64, .aux = 3, .a = 1}, "no operands"},
        {{.op = IR_guard, .imm = -1}, "state offset"},
        {{.op = IR_insn, .imm = 4096, .aux = 2}, "bad offset"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        records[add] = cases[i].insn;
        char *error = ir_check(&good);
        ck_assert_msg(error && strstr(error, cases[i].message), "case %u: %s", i, error);
        g_free(error);
    }
    const struct { IrBlock block; const char *message; } blocks[] = {
        {{.insns = records, .count = 0, .xlen = IR_I64}, "1 to 4096"},
        {{.insns = records, .count = 4097, .xlen = IR_I64}, "1 to 4096"},
        {{.insns = records, .count = good.count, .xlen = IR_F64}, "xlen"},
        {{.insns = records, .count = good.count, .xlen = IR_I64, .page_offset = 0x10,
          .guest_insns = 2}, "guest_insns"},
        {{.insns = records, .count = good.count, .xlen = IR_I64, .page_offset = 0x12,
          .guest_insns = 1}, "page_offset"},
    };
    records[add] = (IrInsn){.op = IR_fence};
    for (unsigned i = 0; i < ARRAY_LEN(blocks); i++) {
        char *error = ir_check(&blocks[i].block);
        ck_assert_msg(error && strstr(error, blocks[i].message), "block %u: %s", i, error);
        g_free(error);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ir");
    TCase *values = tcase_create("values");
    tcase_add_test(values, pure_operations);
    tcase_add_test(values, floating_point);
    suite_add_tcase(suite, values);
    TCase *interpreter = tcase_create("interpreter");
    tcase_add_test(interpreter, straight_line);
    tcase_add_test(interpreter, budget_and_pending);
    tcase_add_test(interpreter, leaving_early);
    tcase_add_test(interpreter, guards);
    tcase_add_test(interpreter, ways_out);
    tcase_add_test(interpreter, calls);
    tcase_add_test(interpreter, memory_access);
    tcase_add_test(interpreter, state_access);
    tcase_add_test(interpreter, atomics);
    tcase_add_test(interpreter, reservations);
    suite_add_tcase(suite, interpreter);
    TCase *form = tcase_create("form");
    tcase_add_test(form, text_round_trip);
    tcase_add_test(form, text_errors);
    tcase_add_test(form, checker);
    tcase_add_test(form, checker_records);
    suite_add_tcase(suite, form);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
