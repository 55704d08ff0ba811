/*
 * What the table of operations says, as data and as functions: properties by operation, the value
 * of the integer ones by the table's own expressions, the value of the floating-point ones by soft
 * float.
 */
#include "core/ir/ir.h"

#include "core/base/softfloat.h"
#include "core/ir/eval.h"

/* True if the flag string f of a row, at most three letters, has the letter. */
#define AT(f, i) ((f)[sizeof(f) > (i) ? (i) : 0])
#define HAS(f, letter) (AT(f, 0) == (letter) || AT(f, 1) == (letter) || AT(f, 2) == (letter))

const IrOpInfo ir_op_info[IR_OP_COUNT] = {
#define OP(opname, ops, res, f, value)                                                             \
    [IR_##opname] = {                                                                              \
        .name = #opname,                                                                           \
        .operands = ops,                                                                           \
        .operand_count = sizeof(ops) - 1,                                                          \
        .result = #res[0],                                                                         \
        .pure = HAS(f, 'P'),                                                                       \
        .commutative = HAS(f, 'C'),                                                                \
        .may_trap = HAS(f, 'T'),                                                                   \
        .ends = HAS(f, 'E'),                                                                       \
        .leaves = HAS(f, 'L'),                                                                     \
        .fp_state = HAS(f, 'F'),                                                                   \
        .side_effect = HAS(f, 'S'),                                                                \
    },
#include "core/ir/ops.def"
};

unsigned ir_type_bits(IrType type)
{
    static const u8 bits_of[IR_TYPE_COUNT] = {
        [IR_I32] = 32, [IR_I64] = 64, [IR_F16] = 16, [IR_F32] = 32, [IR_F64] = 64,
    };
    return bits_of[type];
}

bool ir_eval_int(const IrInsn *insn, u64 x, u64 y, u64 z, u64 *result)
{
    switch (insn->op) {
#define NONE IR_NO_VALUE
#define EVAL(name, operands, value)                                                                \
    case IR_##name: IR_EVAL(insn, operands, value, x, y, z, result); return true;
#define OP(name, operands, res, f, value) IR_IF_VALUE(EVAL, name, operands, value)
#include "core/ir/ops.def"
#undef EVAL
#undef NONE
    default: return false;
    }
}

static SfFormat sf_format(IrType type)
{
    return type == IR_F16 ? SF_F16 : type == IR_F32 ? SF_F32 : SF_F64;
}

u64 ir_eval_fp(CpuState *cpu, const IrInsn *insn, u64 a, u64 b, u64 c)
{
    u32 *flags = &cpu->fflags;
    const SfFormat to = sf_format(insn->type), from = sf_format(insn->src);
    const u64 sign = (u64)1 << (to == SF_F16 ? 15 : to == SF_F32 ? 31 : 63);
    const int width = insn->aux & IR_CVT_32 ? 32 : 64;
    const bool is_signed = !(insn->aux & IR_CVT_UNSIGNED);
    int rm = insn->aux & IR_RM_MASK;
    if (rm == 7) {
        rm = cpu->frm;
    }
    if (rm > SF_RMM) { /* reserved: a guard stops before; only the value must be defined */
        rm = SF_RNE;
    }

    switch (insn->op) {
    case IR_fadd: return sf_add(to, a, b, rm, flags);
    case IR_fsub: return sf_sub(to, a, b, rm, flags);
    case IR_fmul: return sf_mul(to, a, b, rm, flags);
    case IR_fdiv: return sf_div(to, a, b, rm, flags);
    case IR_fsqrt: return sf_sqrt(to, a, rm, flags);
    case IR_fmadd: return sf_fma(to, a, b, c, rm, flags);
    case IR_fmsub: return sf_fma(to, a, b, c ^ sign, rm, flags);
    case IR_fnmsub: return sf_fma(to, a ^ sign, b, c, rm, flags);
    case IR_fnmadd: return sf_fma(to, a ^ sign, b, c ^ sign, rm, flags);
    case IR_fmin: return sf_min(to, a, b, flags);
    case IR_fmax: return sf_max(to, a, b, flags);
    case IR_fminm: return sf_minm(to, a, b, flags);
    case IR_fmaxm: return sf_maxm(to, a, b, flags);
    case IR_feq: return sf_eq(from, a, b, flags);
    case IR_flt: return sf_lt(from, a, b, flags);
    case IR_fle: return sf_le(from, a, b, flags);
    case IR_fltq: return sf_ltq(from, a, b, flags);
    case IR_fleq: return sf_leq(from, a, b, flags);
    case IR_fclass: return sf_classify(from, a);
    case IR_fround: return sf_round_to_int(to, a, rm, insn->aux & IR_ROUND_EXACT, flags);
    case IR_fcvt_ff: return sf_convert(from, to, a, rm, flags);
    case IR_fcvt_if:
        return ir_truncate(insn->type, sf_to_int(from, a, width, is_signed, rm, flags));
    case IR_fcvt_fi: return sf_from_int(to, a, width, is_signed, rm, flags);
    case IR_fcvtmod: return ir_truncate(insn->type, sf_cvtmod_w_d(a, flags));
    case IR_fsgnj: return ir_truncate(insn->type, (a & ~sign) | (b & sign));
    case IR_fsgnjn: return ir_truncate(insn->type, (a & ~sign) | (~b & sign));
    case IR_fsgnjx: return ir_truncate(insn->type, a ^ (b & sign));
    case IR_unbox: {
        const u64 upper = ~mask64(ir_type_bits(insn->type));
        return (a & upper) == upper ? a & ~upper : sf_canonical_nan(to);
    }
    case IR_box: return a | ~mask64(ir_type_bits(insn->src));
    case IR_fbits: return ir_truncate(insn->src, a);
    case IR_ffrom: return ir_truncate(insn->type, a);
    default: return 0;
    }
}
