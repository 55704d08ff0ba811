/*
 * Two passes and a compaction. Only the first is for everybody: the backend has its own walk back
 * over the records, which finds the dead ones by the way.
 *
 * Forward: each record, its operands already replaced, is tried against the rules of its operation
 * (fold_* below, a line above each rule says it as a rewrite). It stays, becomes another record in
 * the same place, turns out to be a value that exists, or vanishes. What the block has put into
 * guest registers is remembered so that constants and pc-relative addresses (lui + addi, auipc +
 * jalr) are seen across instructions. Other values are not carried from setreg to getreg: the
 * backend keeps guest registers in host registers, and a fresh getreg costs it nothing.
 *
 * Backward: values nobody uses go, and so do setregs that are overwritten before anything can look.
 *
 * Records only ever move down, so all of this happens in the block's own array.
 */
#include "core/opt/opt.h"

#include <string.h>

#include "core/ir/eval.h"

enum {
    SLOTS = 64,       /* guest registers: x, then f */
    GUARDS_KNOWN = 4, /* guards remembered; blocks have one or two kinds */
};
_Static_assert(CPU_OFFSET_F(0) == CPU_OFFSET_X(32), "slot_of takes the register files as one");

static inline unsigned slot_of(const IrInsn *insn)
{
    return ((u32)insn->imm - (u32)CPU_OFFSET_X(0)) / 8 % SLOTS;
}

typedef struct Opt {
    IrBlock *block;
    IrInsn *insns;
    bool ended; /* the rest of the block cannot run */

    /* By guest register, IR_NONE if unknown: the value last set; the getreg that has read it since
     * then, within this instruction. */
    IrValue last_set[SLOTS];
    IrValue last_read[SLOTS];
    u64 read_mask;  /* slots whose last_read is meaningful */
    u64 known_mask; /* slots that hold a constant or a pc-relative address; and x0 */

    /* Guards that have held since the last helper that may change what they test. */
    unsigned guards;
    IrInsn guard[GUARDS_KNOWN];

    IrValue map[IR_MAX_INSNS];    /* new index of the value of an old record */
    IrValue origin[IR_MAX_INSNS]; /* by new index, for getregs: what was last set */
} Opt;

/* What becomes of a record: KEEP, DROP, or the value that stands for it. */
enum { KEEP = 0x10000, DROP = 0x10000 | IR_NONE };

static inline bool is_const(const Opt *o, IrValue v)
{
    return o->insns[v].op == IR_const;
}

static inline bool is_const_of(const Opt *o, IrValue v, IrType type, s64 value)
{
    return is_const(o, v) && ir_const_value(type, (u64)o->insns[v].imm64) == value;
}

static u32 make_const(IrInsn *insn, IrType type, u64 value)
{
    *insn = (IrInsn){.op = IR_const, .type = (u8)type, .a = IR_NONE,
                     .imm64 = ir_const_value(type, value)};
    return KEEP;
}

static u32 make_pcrel(IrInsn *insn, s32 offset)
{
    *insn = (IrInsn){.op = IR_pcrel, .type = insn->type, .src = insn->type, .a = IR_NONE,
                     .b = IR_NONE, .c = IR_NONE, .imm = offset};
    return KEEP;
}

/* Turns a record into a unary operation of its type. */
static u32 make_unary(IrInsn *insn, IrOp op, IrValue a)
{
    *insn = (IrInsn){.op = (u8)op, .type = insn->type, .src = insn->type, .a = a, .b = IR_NONE,
                     .c = IR_NONE};
    return KEEP;
}

/* The record that tells what a value is: for a getreg, what was last put into the register. */
static const IrInsn *definition(const Opt *o, IrValue v)
{
    const IrInsn *def = &o->insns[v];
    if (def->op == IR_getreg && o->origin[v] != IR_NONE &&
        o->insns[o->origin[v]].type == def->type) {
        return &o->insns[o->origin[v]];
    }
    return def;
}

/* The same value, perhaps computed twice. */
static bool same(const Opt *o, IrValue x, IrValue y)
{
    const IrInsn *p = &o->insns[x], *q = &o->insns[y];
    return x == y || (p->op == IR_unbox && q->op == IR_unbox && p->type == q->type && p->a == q->a);
}

/* A 64-bit value whose bits 63..31 are known to be equal. */
static bool is_sext32(const Opt *o, IrValue v)
{
    const IrInsn *def = definition(o, v);
    if (def->type != IR_I64) {
        return false;
    }
    switch ((IrOp)def->op) {
    case IR_sext8:
    case IR_sext16:
    case IR_sext32:
    case IR_zext8:
    case IR_zext16:
    case IR_setcc: return true;
    case IR_const: return def->imm64 == (s32)def->imm64;
    case IR_ld:
        return (def->aux & IR_MEM_SIZE) < 2 || def->aux == (2 | IR_MEM_SIGNED);
    case IR_fcvt_if: return def->aux & IR_CVT_32;
    default: return false;
    }
}

/* A value whose bits from `bits` on are known to be 0, up to its type's width. */
static bool is_zext(const Opt *o, IrValue v, unsigned bits)
{
    const IrInsn *def = definition(o, v);
    switch ((IrOp)def->op) {
    case IR_zext8: return bits >= 8;
    case IR_zext16: return bits >= 16;
    case IR_zext32: return bits >= 32;
    case IR_setcc: return true;
    case IR_const: return !((u64)def->imm64 & ~mask64(bits));
    case IR_ld: return !(def->aux & IR_MEM_SIGNED) && bits >= 8u << (def->aux & IR_MEM_SIZE);
    default: return false;
    }
}

/* Width that an extension extends from; 0 if it is another operation. */
static unsigned extended_from(IrOp op)
{
    switch (op) {
    case IR_sext8:
    case IR_zext8: return 8;
    case IR_sext16:
    case IR_zext16: return 16;
    case IR_sext32:
    case IR_zext32: return 32;
    default: return 0;
    }
}

/* Sign and zero extensions. */
static u32 fold_extend(Opt *o, IrInsn *insn)
{
    const unsigned from = extended_from(insn->op);
    const bool is_signed = insn->op == IR_sext8 || insn->op == IR_sext16 || insn->op == IR_sext32;

    /* ext_N(ext_M x), M >= N -> ext_N x: the low N bits went through */
    while (extended_from(o->insns[insn->a].op) >= from) {
        insn->a = o->insns[insn->a].a;
    }
    /* ext32.i32 x -> x */
    if (from == 32 && insn->type == IR_I32) {
        return insn->a;
    }
    if (o->insns[insn->a].type != insn->type) {
        return KEEP;
    }
    /* sext32 x -> x where x is sign-extended already */
    if (insn->op == IR_sext32 && is_sext32(o, insn->a)) {
        return insn->a;
    }
    /* zextN x -> x where x is zero-extended already */
    if (!is_signed && is_zext(o, insn->a, from)) {
        return insn->a;
    }
    /* ... and with ext_M x in a register, the same */
    while (extended_from(definition(o, insn->a)->op) >= from) {
        insn->a = definition(o, insn->a)->a;
    }
    return KEEP;
}

/* (x << k) >> k -> an extension of x's low bits, which is how compilers write it without Zba and
 * Zbb. The shift to the left is mostly an instruction of its own. */
static bool fold_shifts(const Opt *o, IrInsn *insn, unsigned k)
{
    const unsigned bits = ir_type_bits(insn->type), left = bits - k;
    const IrInsn *shl = definition(o, insn->a);
    if (shl->op != IR_shl || shl->type != insn->type || !is_const(o, shl->b) ||
        ((u64)o->insns[shl->b].imm64 & (bits - 1)) != k) {
        return false;
    }
    const bool is_signed = insn->op == IR_sar;
    if (left == 32 && bits == 64) {
        make_unary(insn, is_signed ? IR_sext32 : IR_zext32, shl->a);
    } else if (left == 16) {
        make_unary(insn, is_signed ? IR_sext16 : IR_zext16, shl->a);
    } else if (left == 8) {
        make_unary(insn, is_signed ? IR_sext8 : IR_zext8, shl->a);
    } else {
        return false;
    }
    return true;
}

/* A constant operand on the right: x op k. */
static u32 fold_right_const(Opt *o, IrInsn *insn)
{
    const IrInsn *x = &o->insns[insn->a];
    const IrType type = insn->type;
    const s64 k = ir_const_value(type, (u64)o->insns[insn->b].imm64);
    s32 sum;

    switch ((IrOp)insn->op) {
    case IR_add:
        /* pcrel + k -> pcrel */
        if (x->op == IR_pcrel && x->type == type && k == (s32)k &&
            !__builtin_add_overflow(x->imm, (s32)k, &sum)) {
            return make_pcrel(insn, sum);
        }
        /* x + 0 -> x */
        return k == 0 ? insn->a : KEEP;
    case IR_sub:
    case IR_or:
        /* x - 0 -> x, x | 0 -> x */
        if (k == 0) {
            return insn->a;
        }
        /* x | -1 -> -1 */
        return insn->op == IR_or && k == -1 ? make_const(insn, type, ~(u64)0) : KEEP;
    case IR_xor:
        /* x ^ -1 -> not x */
        if (k == -1) {
            return make_unary(insn, IR_not, insn->a);
        }
        /* x ^ 0 -> x */
        return k == 0 ? insn->a : KEEP;
    case IR_and:
        /* even pcrel & -2 -> pcrel (a page begins at an even address) */
        if (x->op == IR_pcrel && x->type == type && k == -2 && x->imm % 2 == 0) {
            return insn->a;
        }
        /* x & 0 -> 0 */
        if (k == 0) {
            return make_const(insn, type, 0);
        }
        /* x & -1 -> x */
        return k == -1 ? insn->a : KEEP;
    case IR_andn:
        /* even pcrel & ~1 -> pcrel */
        if (x->op == IR_pcrel && x->type == type && k == 1 && x->imm % 2 == 0) {
            return insn->a;
        }
        /* x & ~0 -> x, x & ~-1 -> 0 */
        return k == 0 ? insn->a : k == -1 ? make_const(insn, type, 0) : KEEP;
    case IR_orn:
        /* x | ~-1 -> x, x | ~0 -> -1 */
        return k == -1 ? insn->a : k == 0 ? make_const(insn, type, ~(u64)0) : KEEP;
    case IR_shr:
    case IR_sar:
        if (fold_shifts(o, insn, (unsigned)k & (ir_type_bits(type) - 1))) {
            return fold_extend(o, insn);
        }
        /* fall through */
    case IR_shl:
    case IR_rol:
    case IR_ror:
        /* x shifted by 0 -> x */
        return (k & (ir_type_bits(type) - 1)) == 0 ? insn->a : KEEP;
    case IR_mul:
        /* x * 0 -> 0 */
        if (k == 0) {
            return make_const(insn, type, 0);
        }
        /* x * 2 -> x + x */
        if (k == 2) {
            insn->op = IR_add;
            insn->b = insn->a;
            return KEEP;
        }
        /* x * -1 -> neg x */
        if (k == -1) {
            return make_unary(insn, IR_neg, insn->a);
        }
        /* x * 1 -> x */
        return k == 1 ? insn->a : KEEP;
    case IR_divu:
    case IR_divs:
        /* x / 1 -> x */
        return k == 1 ? insn->a : KEEP;
    case IR_remu:
    case IR_rems:
        /* x % 1 -> 0 */
        return k == 1 ? make_const(insn, type, 0) : KEEP;
    default: return KEEP;
    }
}

/* Both operands the same: x op x. */
static u32 fold_same(IrInsn *insn)
{
    switch ((IrOp)insn->op) {
    /* x - x, x ^ x, x & ~x -> 0 */
    case IR_sub:
    case IR_xor:
    case IR_andn: return make_const(insn, insn->type, 0);
    /* x | ~x, ~(x ^ x) -> -1 */
    case IR_orn:
    case IR_xnor: return make_const(insn, insn->type, ~(u64)0);
    /* x & x, x | x, min and max of x and x -> x */
    case IR_and:
    case IR_or:
    case IR_min:
    case IR_max:
    case IR_minu:
    case IR_maxu: return insn->a;
    /* x cond x -> 0 or 1 */
    case IR_setcc: return make_const(insn, insn->type, ir_cond(insn->aux, 0, 0, 0, 0));
    /* magnitude and sign of x -> x */
    case IR_fsgnj: return insn->a;
    default: return KEEP;
    }
}

/* IR_EQ <-> IR_NE, IR_LT <-> IR_GE, IR_LTU <-> IR_GEU. */
static u16 inverted(u16 cond)
{
    return cond ^ 1;
}

/* setcc or br on (setcc ...) != 0 or == 0 -> on that comparison or its inverse */
static bool fold_compare_setcc(const Opt *o, IrInsn *insn)
{
    const IrInsn *inner = &o->insns[insn->a];
    if (insn->aux > IR_NE || inner->op != IR_setcc || !is_const_of(o, insn->b, insn->src, 0)) {
        return false;
    }
    insn->aux = insn->aux == IR_NE ? inner->aux : inverted(inner->aux);
    insn->src = inner->src;
    if (insn->op == IR_br) {
        insn->type = inner->src;
    }
    insn->a = inner->a;
    insn->b = inner->b;
    return true;
}

static void swap_operands(IrInsn *insn)
{
    const IrValue a = insn->a;
    insn->a = insn->b;
    insn->b = a;
}

/* A pure operation. */
static u32 fold_pure(Opt *o, IrInsn *insn)
{
    const unsigned operands = ir_op_info[insn->op].operand_count;
    const IrInsn *x = &o->insns[insn->a];

    /* op(k, k, ...) -> k, by the table's value */
    if (is_const(o, insn->a) && (operands < 2 || is_const(o, insn->b)) &&
        (operands < 3 || is_const(o, insn->c))) {
        u64 value;
        if (ir_eval_int(insn, (u64)x->imm64, operands > 1 ? (u64)o->insns[insn->b].imm64 : 0,
                        operands > 2 ? (u64)o->insns[insn->c].imm64 : 0, &value)) {
            return make_const(insn, insn->type, value);
        }
    }

    switch ((IrOp)insn->op) {
    case IR_sext8:
    case IR_sext16:
    case IR_sext32:
    case IR_zext8:
    case IR_zext16:
    case IR_zext32: return fold_extend(o, insn);
    case IR_not:
    case IR_neg:
        /* not (not x) -> x, neg (neg x) -> x */
        return x->op == insn->op && x->type == insn->type ? x->a : KEEP;
    case IR_select:
        /* k ? x : y -> x or y */
        if (is_const(o, insn->a)) {
            return is_const_of(o, insn->a, insn->type, 0) ? insn->c : insn->b;
        }
        /* x ? y : y -> y */
        return insn->b == insn->c ? insn->b : KEEP;
    case IR_unbox: {
        /* unbox (box x) -> x, also through a register */
        const IrInsn *box = definition(o, insn->a);
        return box->op == IR_box && box->src == insn->type ? box->a : KEEP;
    }
    case IR_fbits:
        /* fbits (ffrom x) -> x where no bits are cut off */
        return x->op == IR_ffrom && insn->src != IR_F16 ? x->a : KEEP;
    case IR_ffrom:
        /* ffrom (fbits x) -> x */
        return x->op == IR_fbits && x->src == insn->type ? x->a : KEEP;
    default: break;
    }
    if (operands != 2) {
        return KEEP;
    }

    /* k op x -> x op k */
    const bool symmetric = ir_op_info[insn->op].commutative ||
                           (insn->op == IR_setcc && insn->aux <= IR_NE);
    if (symmetric && is_const(o, insn->a)) {
        swap_operands(insn);
    }
    if (same(o, insn->a, insn->b)) {
        return fold_same(insn);
    }
    if (insn->op == IR_setcc) {
        /* x <u 0 -> 0, x >=u 0 -> 1 */
        if (insn->aux >= IR_LTU && is_const_of(o, insn->b, insn->src, 0)) {
            return make_const(insn, insn->type, insn->aux == IR_GEU);
        }
        fold_compare_setcc(o, insn);
        return KEEP;
    }
    return is_const(o, insn->b) ? fold_right_const(o, insn) : KEEP;
}

/* Reading a guest register that something is known about. */
static u32 fold_known_getreg(Opt *o, IrInsn *insn)
{
    const unsigned slot = slot_of(insn);
    const IrValue set = o->last_set[slot];

    /* x0 -> 0 */
    if (slot == 0 && ir_type_is_int(insn->type)) {
        return make_const(insn, insn->type, 0);
    }
    if (set != IR_NONE) {
        const IrInsn *def = &o->insns[set];
        /* the register holds k -> k */
        if (def->op == IR_const && ir_type_is_int(insn->type)) {
            return make_const(insn, insn->type, ir_truncate(def->type, (u64)def->imm64));
        }
        /* the register holds a pc-relative address -> that address */
        if (def->op == IR_pcrel && def->type == insn->type) {
            return make_pcrel(insn, def->imm);
        }
    }
    /* a register read twice in one instruction -> the first value */
    if (o->read_mask >> slot & 1 && o->insns[o->last_read[slot]].type == insn->type) {
        return o->last_read[slot];
    }
    return KEEP;
}

static inline u32 fold_getreg(Opt *o, IrInsn *insn, u32 index)
{
    const unsigned slot = slot_of(insn);
    u32 becomes = KEEP;

    if (unlikely((o->known_mask | o->read_mask) >> slot & 1)) {
        becomes = fold_known_getreg(o, insn);
    }
    if (becomes == KEEP) {
        o->origin[index] = o->last_set[slot];
        o->last_read[slot] = (IrValue)index;
        o->read_mask |= (u64)1 << slot;
    }
    return becomes;
}

static inline u32 fold_setreg(Opt *o, IrInsn *insn)
{
    const unsigned slot = slot_of(insn);
    const u64 bit = (u64)1 << slot;
    const IrInsn *def = &o->insns[insn->a];
    const bool same_type = def->type == insn->type;

    /* r = r -> nothing */
    if (def->op == IR_getreg && o->read_mask & bit && o->last_read[slot] == insn->a && same_type &&
        insn->type != IR_I32) {
        return DROP;
    }
    /* What the register now holds is of the set's type; a wider value would need cutting. */
    const bool known = same_type & ((def->op == IR_const) | (def->op == IR_pcrel));
    o->last_set[slot] = same_type ? insn->a : IR_NONE;
    o->known_mask = (o->known_mask & ~bit) | (u64)known << slot;
    o->read_mask &= ~bit;
    return KEEP;
}

/* ld and st: address (x + k) + disp -> x + disp' */
static inline u32 fold_address(Opt *o, IrInsn *insn)
{
    for (;;) {
        const IrInsn *add = &o->insns[insn->a];
        s64 disp;
        if (likely(add->op != IR_add) || ir_type_bits(add->type) < ir_type_bits(insn->src) ||
            !is_const(o, add->b)) {
            return KEEP;
        }
        if (__builtin_add_overflow(ir_const_value(insn->src, (u64)o->insns[add->b].imm64),
                                   (s64)insn->imm, &disp) ||
            disp != (s32)disp) {
            return KEEP;
        }
        insn->imm = (s32)disp;
        insn->a = add->a;
    }
}

static u32 fold_guard(Opt *o, const IrInsn *insn)
{
    /* a guard that held at least as strictly (1 is stricter than 0) -> nothing */
    for (unsigned k = 0; k < o->guards; k++) {
        if (o->guard[k].imm == insn->imm && o->guard[k].aux >= insn->aux) {
            return DROP;
        }
    }
    if (o->guards < GUARDS_KNOWN) {
        o->guard[o->guards++] = *insn;
    }
    return KEEP;
}

static u32 fold_call(Opt *o, const IrInsn *insn)
{
    /* callif 0 -> nothing */
    if (insn->op == IR_callif && is_const_of(o, insn->a, (IrType)insn->type, 0)) {
        return DROP;
    }
    const unsigned flags = o->block->helpers[insn->aux].flags;
    if (flags & HELPER_REGS) {
        memset(o->last_set, 0xff, sizeof(o->last_set));
        o->read_mask = 0;
        o->known_mask = 1;
    }
    if (flags & (HELPER_FP | HELPER_TRAPS)) {
        o->guards = 0;
    }
    return KEEP;
}

static u32 fold_br(Opt *o, IrInsn *insn)
{
    if (insn->aux <= IR_NE && is_const(o, insn->a)) {
        swap_operands(insn);
    }
    const bool constant = is_const(o, insn->a) && is_const(o, insn->b);
    if (constant || insn->a == insn->b) {
        const u64 a = constant ? (u64)o->insns[insn->a].imm64 : 0;
        const u64 b = constant ? (u64)o->insns[insn->b].imm64 : 0;
        /* never taken -> nothing */
        if (!ir_compare(insn->aux, insn->src, a, b)) {
            return DROP;
        }
        /* always taken -> goto, and the block ends here */
        *insn = (IrInsn){.op = IR_goto, .a = IR_NONE, .b = IR_NONE, .c = IR_NONE,
                         .imm = insn->imm};
        o->ended = true;
        return KEEP;
    }
    /* br (setcc ...) != 0 -> br on the comparison */
    fold_compare_setcc(o, insn);
    return KEEP;
}

/* jump to a pc-relative address -> goto, which can be linked */
static u32 fold_jump(Opt *o, IrInsn *insn)
{
    const IrInsn *target = &o->insns[insn->a];
    if (target->op == IR_pcrel && target->type == o->block->xlen && target->imm % 2 == 0) {
        *insn = (IrInsn){.op = IR_goto, .aux = insn->aux & IR_CALL_BYTES, .a = IR_NONE,
                         .b = IR_NONE, .c = IR_NONE, .imm = target->imm};
    }
    return KEEP;
}

/* The rarer records. */
static u32 fold_other(Opt *o, IrInsn *insn)
{
    switch ((IrOp)insn->op) {
    case IR_call:
    case IR_callif: return fold_call(o, insn);
    case IR_guard: return fold_guard(o, insn);
    case IR_setstate: o->guards = 0; return KEEP; /* it may be what a guard tests */
    case IR_br: return fold_br(o, insn);
    case IR_jump: return fold_jump(o, insn);
    default: return ir_op_info[insn->op].pure ? fold_pure(o, insn) : KEEP;
    }
}

/* Whether no rule can apply to a pure operation of two operands, as mostly. */
static inline bool nothing_known(const Opt *o, const IrInsn *insn)
{
    const unsigned x = o->insns[insn->a].op, y = o->insns[insn->b].op;
    return !((x == IR_const) | (y == IR_const) | (x == IR_unbox) | (insn->a == insn->b));
}

/* Gives a record's operands their new indices. */
static inline void map_operands(IrInsn *insn, unsigned operands, const IrValue *map)
{
    if (operands > 0) {
        insn->a = map[insn->a];
        if (operands > 1) {
            insn->b = map[insn->b];
            if (operands > 2) {
                insn->c = map[insn->c];
            }
        }
    }
}

/* Tries the rules on the record that will be at `index`; its operands are still the old block's. */
static inline u32 fold(Opt *o, IrInsn *insn, u32 index)
{
    switch ((IrOp)insn->op) {
    case IR_const:
    case IR_pcrel: return KEEP;
    case IR_insn: o->read_mask = 0; return KEEP;
    case IR_getreg: return fold_getreg(o, insn, index);
    case IR_setreg: map_operands(insn, 1, o->map); return fold_setreg(o, insn);
    case IR_ld: map_operands(insn, 1, o->map); return fold_address(o, insn);
    case IR_st: map_operands(insn, 2, o->map); return fold_address(o, insn);
    default: break;
    }
    const IrOpInfo *info = &ir_op_info[insn->op];
    if (info->operand_count == 2 && info->pure) {
        map_operands(insn, 2, o->map);
        return nothing_known(o, insn) ? KEEP : fold_pure(o, insn);
    }
    map_operands(insn, ir_operand_count(o->block, insn), o->map);
    return fold_other(o, insn);
}

static void forward(Opt *o)
{
    IrBlock *const block = o->block;
    IrInsn *const insns = o->insns;
    const u32 old_count = block->count;
    u32 count = 0;
    for (u32 i = 0; i < old_count && likely(!o->ended); i++) {
        /* It is edited where it is and not in a local copy: reading 16 bytes just after writing 2
         * of them stalls the host. */
        insns[count] = insns[i];
        const u32 becomes = fold(o, &insns[count], count);
        o->map[i] = (IrValue)(becomes == KEEP ? count : becomes);
        count += becomes == KEEP;
    }
    block->count = count;
    if (o->ended) {
        block->guest_insns = 0;
        for (u32 i = 0; i < count; i++) {
            block->guest_insns += insns[i].op == IR_insn;
        }
    }
}

/* Marks what has to stay in keep[]; false if everything has. */
static bool backward(const IrBlock *block, bool *keep)
{
    bool dropped = false;
    u64 overwritten = 0; /* slots that are set again before anything looks */
    memset(keep, 0, block->count);
    for (u32 i = block->count; i-- > 0;) {
        const IrInsn *insn = &block->insns[i];
        const IrOpInfo *info = &ir_op_info[insn->op];
        const u64 slot = (u64)1 << slot_of(insn);
        bool stays = keep[i] || info->side_effect || info->may_trap || info->ends ||
                     info->leaves || info->fp_state;
        if (insn->op == IR_setreg) {
            stays = !(overwritten & slot);
            overwritten |= slot;
        } else if (insn->op == IR_getreg) {
            overwritten &= stays ? ~slot : ~(u64)0;
        } else if (info->may_trap || info->leaves || info->ends) {
            overwritten = 0;
        }
        keep[i] = stays;
        if (!stays) {
            dropped = true;
            continue;
        }
        const unsigned operands = ir_operand_count(block, insn);
        if (operands > 0) {
            keep[insn->a] = true;
        }
        if (operands > 1) {
            keep[insn->b] = true;
        }
        if (operands > 2) {
            keep[insn->c] = true;
        }
    }
    return dropped;
}

/* Moves the kept records together; map is scratch for the new indices. */
static void compact(IrBlock *block, const bool *keep, IrValue *map)
{
    u32 count = 0;
    for (u32 i = 0; i < block->count; i++) {
        if (keep[i]) {
            IrInsn *insn = &block->insns[count];
            *insn = block->insns[i];
            map_operands(insn, ir_operand_count(block, insn), map);
            map[i] = (IrValue)count++;
        }
    }
    block->count = count;
}

void opt_fold(IrBlock *block)
{
    Opt o; /* map and origin are written before they are read */

    o.block = block;
    o.insns = block->insns;
    o.ended = false;
    o.read_mask = 0;
    o.known_mask = 1;
    o.guards = 0;
    memset(o.last_set, 0xff, sizeof(o.last_set));
    forward(&o);
}

void opt_drop_dead(IrBlock *block)
{
    bool keep[IR_MAX_INSNS];
    IrValue map[IR_MAX_INSNS]; /* written before it is read */

    if (backward(block, keep)) {
        compact(block, keep, map);
    }
}

void opt_run(IrBlock *block)
{
    opt_fold(block);
    opt_drop_dead(block);
}
