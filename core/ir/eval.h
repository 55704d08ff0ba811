/*
 * The arithmetic behind the table of operations. The value expressions in core/ir/ops.def name
 * these helpers; the interpreter, ir_eval_int and, through it, the constant folder expand the
 * expressions with IR_EVAL, so that an operation's meaning is written once.
 *
 * In all helpers w is the operation's width, 32 or 64; unsigned operands are zero-extended from it
 * and signed ones sign-extended; bits of the result above w are the caller's to drop.
 */
#ifndef STAG_CORE_IR_EVAL_H
#define STAG_CORE_IR_EVAL_H

#include "core/base/bits.h"
#include "core/ir/ir.h"

static inline u64 ir_rol(u64 a, u64 b, unsigned w)
{
    unsigned n = b & (w - 1);
    return n ? a << n | a >> (w - n) : a;
}

static inline u64 ir_ror(u64 a, u64 b, unsigned w)
{
    return ir_rol(a, w - (b & (w - 1)), w);
}

static inline u64 ir_mulhs(s64 a, s64 b, unsigned w)
{
    return (u64)((s128)a * b >> w);
}

static inline u64 ir_mulhu(u64 a, u64 b, unsigned w)
{
    return (u64)((u128)a * b >> w);
}

static inline u64 ir_mulhsu(s64 a, u64 b, unsigned w)
{
    return (u64)((s128)a * (s128)b >> w);
}

static inline u64 ir_divs(s64 a, s64 b, unsigned w)
{
    (void)w;
    if (b == 0) {
        return ~(u64)0;
    }
    return b == -1 ? 0 - (u64)a : (u64)(a / b); /* the smallest number / -1 is itself, modulo 2^w */
}

static inline u64 ir_rems(s64 a, s64 b, unsigned w)
{
    (void)w;
    if (b == 0) {
        return (u64)a;
    }
    return b == -1 ? 0 : (u64)(a % b);
}

static inline u64 ir_clz(u64 a, unsigned w)
{
    return a ? (u64)__builtin_clzll(a) - (64 - w) : w;
}

static inline u64 ir_ctz(u64 a, unsigned w)
{
    return a ? (u64)__builtin_ctzll(a) : w;
}

static inline u64 ir_bswap(u64 a, unsigned w)
{
    return __builtin_bswap64(a) >> (64 - w);
}

static inline u64 ir_orcb(u64 a)
{
    const u64 low7 = 0x7f7f7f7f7f7f7f7f;
    u64 top = (((a & low7) + low7) | a) & ~low7; /* bit 7 of each byte that is not 0 */
    return (top >> 7) * 0xff;
}

static inline u64 ir_brev8(u64 a)
{
    a = (a & 0x5555555555555555) << 1 | (a >> 1 & 0x5555555555555555);
    a = (a & 0x3333333333333333) << 2 | (a >> 2 & 0x3333333333333333);
    return (a & 0x0f0f0f0f0f0f0f0f) << 4 | (a >> 4 & 0x0f0f0f0f0f0f0f0f);
}

static inline u128 ir_clmul_wide(u64 a, u64 b)
{
    u128 product = 0;
    for (; b; b &= b - 1) {
        product ^= (u128)a << __builtin_ctzll(b);
    }
    return product;
}

static inline u64 ir_clmul(u64 a, u64 b)
{
    return (u64)ir_clmul_wide(a, b);
}

static inline u64 ir_clmulh(u64 a, u64 b, unsigned w)
{
    return (u64)(ir_clmul_wide(a, b) >> w);
}

static inline u64 ir_xperm(u64 a, u64 b, unsigned n, unsigned w)
{
    unsigned lane = n == 4 ? 4 : 8;
    u64 result = 0;
    for (unsigned pos = 0; pos < w; pos += lane) {
        u64 from = bits(b, pos, lane) * lane;
        if (from < w) {
            result |= bits(a, (unsigned)from, lane) << pos;
        }
    }
    return result;
}

static inline bool ir_cond(unsigned cond, u64 a, u64 b, s64 sa, s64 sb)
{
    switch (cond) {
    case IR_EQ: return a == b;
    case IR_NE: return a != b;
    case IR_LT: return sa < sb;
    case IR_GE: return sa >= sb;
    case IR_LTU: return a < b;
    default: return a >= b;
    }
}

/* The low bits of a value that belong to its type; the bits above are cleared. */
static inline u64 ir_truncate(IrType type, u64 v)
{
    return type == IR_I32 || type == IR_F32 ? (u32)v : type == IR_F16 ? (u16)v : v;
}

/* The same, but an I32 is sign-extended: how const keeps its value. */
static inline s64 ir_const_value(IrType type, u64 v)
{
    return type == IR_I32 ? (s32)v : (s64)v;
}

/* The type that an integer op computes in: the operands' where the result has its own. */
static inline IrType ir_width_type(const IrInsn *insn)
{
    return insn->op == IR_setcc || insn->op == IR_br ? insn->src : insn->type;
}

/* True if a cond b at `type`'s width, on operands with unspecified upper bits. */
static inline bool ir_compare(unsigned cond, IrType type, u64 a, u64 b)
{
    if (type == IR_I32) {
        return ir_cond(cond, (u32)a, (u32)b, (s32)a, (s32)b);
    }
    return ir_cond(cond, a, b, (s64)a, (s64)b);
}

/*
 * Statement: *(OUT) = VALUE, a table expression, for the record INSN_ with the operands' words A, B
 * and C. Words that the operation does not have (by its operand string) are not evaluated.
 */
#define IR_EVAL(INSN_, OPERANDS, VALUE, A, B, C, OUT)                                              \
    do {                                                                                           \
        const IrInsn *const in_ = (INSN_);                                                         \
        const bool narrow_ = ir_width_type(in_) == IR_I32;                                         \
        const unsigned w = narrow_ ? 32 : 64, n = in_->aux;                                        \
        const u64 word_a_ = sizeof(OPERANDS) > 1 ? (A) : 0;                                        \
        const u64 word_b_ = sizeof(OPERANDS) > 2 ? (B) : 0;                                        \
        const u64 word_c_ = sizeof(OPERANDS) > 3 ? (C) : 0;                                        \
        const u64 a = narrow_ ? (u32)word_a_ : word_a_;                                            \
        const u64 b = narrow_ ? (u32)word_b_ : word_b_;                                            \
        const u64 c = narrow_ ? (u32)word_c_ : word_c_;                                            \
        const s64 sa = narrow_ ? (s32)a : (s64)a, sb = narrow_ ? (s32)b : (s64)b;                  \
        const s64 imm = in_->imm64;                                                                \
        (void)w, (void)n, (void)a, (void)b, (void)c, (void)sa, (void)sb, (void)imm;                \
        *(OUT) = ir_truncate(in_->type, (VALUE));                                                  \
    } while (0)

/*
 * IR_IF_VALUE(MACRO, name, operands, value) is MACRO(name, operands, value) for rows of the table
 * that have a value expression, and nothing for the others. NONE expands to two more arguments,
 * which move a macro that swallows everything to where MACRO stands otherwise. The one who includes
 * the table defines NONE as IR_NO_VALUE around it.
 */
#define IR_NO_VALUE 0, IR_SWALLOW
#define IR_SWALLOW(...)
#define IR_IF_VALUE(MACRO, name, operands, ...) IR_IF_VALUE_(name, operands, __VA_ARGS__, MACRO, )
#define IR_IF_VALUE_(name, operands, value, macro, ...) macro(name, operands, value)

#endif
