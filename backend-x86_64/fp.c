/*
 * Floating point on the host's SSE and FMA units. MXCSR holds the guest's dynamic rounding mode and
 * collects the exception flags, which are the same five with the same meaning (tininess after
 * rounding, too). What differs:
 *   - results that are NaN have to be the canonical one: tested after the operation, replaced in
 *     cold code;
 *   - inf * 0 + quiet NaN is invalid for RISC-V but not for x86: the cold code of FMA looks at the
 *     product;
 *   - minimum, maximum, conversions to integers: the odd cases are tested first and go to
 *     cold code or ir_eval_fp;
 *   - a rounding mode in the instruction: used as it is if frm has the same, else ir_eval_fp.
 * ir_eval_fp also does F16 and what is too rare for code of its own. It takes the operands' raw
 * bits, so every way to it branches off before the operation has changed anything, its flags
 * included.
 *
 * An F32 in an xmm register mostly still has the upper ones that make it boxed: SSE operations
 * leave the upper bits of their first operand in place. VAL_BOX32 keeps track, and box then costs
 * nothing.
 */
#include "backend-x86_64/compiler.h"

/* A scalar opcode in the 0f map for a format. */
static u32 scalar(IrType type, u32 opcode)
{
    return opcode | X_0F | (type == IR_F64 ? X_F2 : X_F3);
}

static u32 ucomis(IrType type)
{
    return 0x2e | X_0F | (type == IR_F64 ? X_66 : 0u);
}

static Data nan_of(IrType type)
{
    return type == IR_F64 ? DATA_NAN64 : type == IR_F32 ? DATA_NAN32 : DATA_NAN16;
}

static void box_bits(Compiler *c, IrType type, unsigned reg)
{
    if (type != IR_F64) {
        vex(&c->a, V_ORPS, reg, reg, rm_data(c, type == IR_F32 ? DATA_UPPER32 : DATA_UPPER48), 0);
    }
}

static u8 boxed_flags(IrType type)
{
    return type == IR_F64 ? 0 : type == IR_F32 ? VAL_BOX32 : VAL_BOX32 | VAL_BOX16;
}

static u8 flags_of(const Compiler *c, IrValue v)
{
    const Val *val = &c->val[rep(c, v)];
    return val->loc == LOC_CONST ? 0 : val->flags;
}

/* What is known of a result that took its upper bits from operand v. */
static u8 inherited(const Compiler *c, IrType type, IrValue v)
{
    return type == IR_F32 ? flags_of(c, v) & VAL_BOX32 : 0;
}

/* The result of an evaluation into the destination. */
static void take_result(Compiler *c, IrType type, unsigned d)
{
    if (ir_type_is_int(type)) {
        x86(&c->a, X_MOV_LOAD | w_if(type == IR_I64), d, rm_frame(FRAME_RESULT), 0);
    } else {
        vex2(&c->a, V_MOVSD_LOAD, d, rm_frame(FRAME_RESULT));
        box_bits(c, type, d);
    }
}

static void sel_eval_fp(Compiler *c, const IrInsn *in)
{
    const unsigned n = c->backend->info[in->op].operands;
    Opnd args[3] = {{0}};
    for (unsigned i = 0; i < n; i++) {
        args[i] = opnd(c, ir_operand(in, i));
    }
    eval_call(c, c->backend->stubs.eval_fp, in, args, n);
    for (unsigned i = 0; i < n; i++) {
        release(c, ir_operand(in, i));
    }
    if (ir_type_is_int((IrType)in->type)) {
        const int d = dest_int(c, NULL, NULL);
        take_result(c, (IrType)in->type, (unsigned)d);
        define_int(c, d, in->type == IR_I32 ? VAL_ZX : 0);
    } else {
        const int d = dest_xmm(c, NULL);
        take_result(c, (IrType)in->type, (unsigned)d);
        define_xmm(c, d, boxed_flags((IrType)in->type));
    }
}

/* A cold evaluation instead of the host operation; the caller adds the jumps to it. */
static Cold *eval_instead(Compiler *c, unsigned d, const Opnd *x, const Opnd *y, const Opnd *z)
{
    Cold *k = new_cold(c, COLD_EVAL);
    const Opnd *from[3] = {x, y, z};
    k->reg = (u8)d;
    k->size = 0;
    for (unsigned i = 0; i < 3 && from[i]; i++) {
        k->opnd[k->size++] = *from[i];
    }
    return k;
}

void cold_eval(Compiler *c, const Cold *k)
{
    const IrInsn *in = &c->block->insns[k->ir];
    for (unsigned i = 0; i < ARRAY_LEN(k->slow); i++) {
        if (k->slow[i]) {
            bind(&c->a, k->slow[i]);
        }
    }
    eval_call(c, c->backend->stubs.eval_fp, in, k->opnd, k->size);
    take_result(c, (IrType)in->type, k->reg);
    bind_to(jmp_fwd(&c->a), k->back);
}

enum { RM_DYNAMIC = 7, RM_HOST_MODES = 4, RM_RTZ = 1 };

/* Whether the host can round as the record says, at least if frm is its mode. */
static bool host_rounds(const IrInsn *in)
{
    const unsigned rm = in->aux & IR_RM_MASK;
    return rm == RM_DYNAMIC || rm < RM_HOST_MODES;
}

/* A test that frm is the record's static mode, with a jump to evaluation. NULL if the mode is
 * dynamic. */
static Cold *static_mode(Compiler *c, const IrInsn *in, unsigned d, const Opnd *x, const Opnd *y,
                         const Opnd *z)
{
    const unsigned rm = in->aux & IR_RM_MASK;
    if (rm == RM_DYNAMIC) {
        return NULL;
    }
    x86(&c->a, 0x80, ALU_CMP, rm_cpu(offsetof(CpuState, frm)), 1);
    emit8(&c->a, rm);
    Cold *k = eval_instead(c, d, x, y, z);
    k->slow[0] = jcc_fwd(&c->a, CC_NE);
    return k;
}

/* The canonical NaN instead of any other in d. */
static Cold *nan_test(Compiler *c, IrType type, unsigned d, ColdKind kind)
{
    vex2(&c->a, ucomis(type), d, rm_reg(d));
    Cold *k = new_cold(c, kind);
    k->slow[0] = jcc_fwd(&c->a, CC_P);
    k->reg = (u8)d;
    k->type = (u8)type;
    k->back = c->a.p;
    return k;
}

void cold_nan(Compiler *c, const Cold *k)
{
    bind(&c->a, k->slow[0]);
    vex2(&c->a, V_MOVSD_LOAD, k->reg, rm_data(c, nan_of((IrType)k->type)));
    bind_to(jmp_fwd(&c->a), k->back);
}

static void set_back(Compiler *c, Cold *k)
{
    if (k) {
        k->back = c->a.p;
    }
}

static void sel_arith(Compiler *c, const IrInsn *in, u32 opcode)
{
    const IrType type = (IrType)in->type;
    if (type == IR_F16 || !host_rounds(in)) {
        sel_eval_fp(c, in);
        return;
    }
    const bool binary = in->op != IR_fsqrt;
    const Opnd x = xopnd(c, in->a);
    Opnd y = x;
    if (binary) {
        y = opnd(c, in->b);
        need_xrm(c, &y);
    }
    const u8 flags = inherited(c, type, in->a);
    release(c, in->a);
    if (binary) {
        release(c, in->b);
    }
    const unsigned d = (unsigned)dest_xmm(c, &x);
    Cold *k = static_mode(c, in, d, &x, binary ? &y : NULL, NULL);
    vex(&c->a, scalar(type, opcode), d, x.reg, opnd_rm(&y), 0);
    nan_test(c, type, d, COLD_NAN);
    set_back(c, k);
    define_xmm(c, (int)d, flags);
}

/* 231 forms; 213 is 0x10 less. */
static void sel_fma(Compiler *c, const IrInsn *in, u32 opcode231)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->type;
    if (type == IR_F16 || !host_rounds(in)) {
        sel_eval_fp(c, in);
        return;
    }
    const Opnd x = xopnd(c, in->a), y = xopnd(c, in->b);
    Opnd z = opnd(c, in->c);
    need_xrm(c, &z);
    const u8 from_x = inherited(c, type, in->a), from_y = inherited(c, type, in->b),
             from_z = inherited(c, type, in->c);
    release(c, in->a);
    release(c, in->b);
    release(c, in->c);
    const unsigned d = (unsigned)dest_xmm(c, &z);
    Cold *k = static_mode(c, in, d, &x, &y, &z);
    const u32 op = opcode231 | X_0F38 | X_66 | w_if(type == IR_F64);
    unsigned fx = x.reg, fy = y.reg;
    if (d == fx || d == fy) {
        /* The NaN path needs both factors. */
        vex2(a, V_MOVAPS, XSCRATCH, rm_reg(d));
        fx = d == fx ? XSCRATCH : fx;
        fy = d == fy ? XSCRATCH : fy;
    }
    u8 flags;
    if (is_xmm(&z, d)) {
        vex(a, op, d, x.reg, rm_reg(y.reg), 0);
        flags = from_z;
    } else if (d == x.reg) {
        vex(a, op - 0x10, d, y.reg, opnd_rm(&z), 0);
        flags = from_x;
    } else if (d == y.reg) {
        vex(a, op - 0x10, d, x.reg, opnd_rm(&z), 0);
        flags = from_y;
    } else {
        load_xmm(c, d, &z);
        vex(a, op, d, x.reg, rm_reg(y.reg), 0);
        flags = from_z;
    }
    Cold *nan = nan_test(c, type, d, COLD_FMA_NAN);
    nan->reg2 = (u8)fx;
    nan->reg3 = (u8)fy;
    set_back(c, k);
    define_xmm(c, (int)d, flags);
}

/* The product of the factors is a NaN only if that is invalid (which the multiplication raises) or
 * a factor is one; any other flags that it raises are taken back. */
void cold_fma_nan(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    const IrType type = (IrType)k->type;
    bind(a, k->slow[0]);
    vex(a, V_STMXCSR, 3, 0, rm_frame(FRAME_RESULT), 0);
    vex(a, scalar(type, 0x59), XSCRATCH, k->reg2, rm_reg(k->reg3), 0);
    vex2(a, ucomis(type), XSCRATCH, rm_reg(XSCRATCH));
    u8 *keep = jcc8_fwd(a, CC_P);
    vex(a, V_LDMXCSR, 2, 0, rm_frame(FRAME_RESULT), 0);
    bind8(a, keep);
    vex2(a, V_MOVSD_LOAD, k->reg, rm_data(c, nan_of(type)));
    bind_to(jmp_fwd(a), k->back);
}

/* ucomis says "equal" for equal and for unordered operands: one jump for both. */
static void sel_fminmax(Compiler *c, const IrInsn *in)
{
    const IrType type = (IrType)in->type;
    if (type == IR_F16) {
        sel_eval_fp(c, in);
        return;
    }
    const Opnd x = xopnd(c, in->a), y = xopnd(c, in->b);
    const u8 flags = inherited(c, type, in->a) & inherited(c, type, in->b);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_xmm(c, &x);
    vex2(&c->a, ucomis(type), x.reg, rm_reg(y.reg));
    Cold *k = new_cold(c, COLD_MINMAX);
    k->slow[0] = jcc_fwd(&c->a, CC_E);
    k->reg = (u8)d;
    k->reg2 = x.reg;
    k->reg3 = y.reg;
    k->type = (u8)type;
    k->flag = in->op == IR_fmin;
    vex(&c->a, scalar(type, in->op == IR_fmin ? 0x5d : 0x5f), d, x.reg, rm_reg(y.reg), 0);
    k->back = c->a.p;
    define_xmm(c, (int)d, flags);
}

void cold_minmax(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    const IrType type = (IrType)k->type;
    bind(a, k->slow[0]);
    u8 *nan = jcc8_fwd(a, CC_P);
    /* Equal: the same, or zeros, whose signs are joined. */
    vex(a, k->flag ? V_ORPS : V_ANDPS, k->reg, k->reg2, rm_reg(k->reg3), 0);
    bind_to(jmp_fwd(a), k->back);
    bind8(a, nan);
    vex2(a, ucomis(type), k->reg3, rm_reg(k->reg3));
    u8 *y_nan = jcc8_fwd(a, CC_P);
    vex2(a, V_MOVAPS, k->reg, rm_reg(k->reg3));
    bind_to(jmp_fwd(a), k->back);
    bind8(a, y_nan);
    vex2(a, ucomis(type), k->reg2, rm_reg(k->reg2));
    vex2(a, V_MOVAPS, k->reg, rm_reg(k->reg2)); /* leaves the flags alone */
    bind_to(jcc_fwd(a, CC_NP), k->back);
    vex2(a, V_MOVSD_LOAD, k->reg, rm_data(c, nan_of(type)));
    bind_to(jmp_fwd(a), k->back);
}

static void sel_fcompare(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->src;
    if (type == IR_F16) {
        sel_eval_fp(c, in);
        return;
    }
    Opnd x, y;
    if (in->op == IR_feq) {
        x = xopnd(c, in->a);
        y = opnd(c, in->b);
        need_xrm(c, &y);
    } else {
        y = xopnd(c, in->b);
        x = opnd(c, in->a);
        need_xrm(c, &x);
    }
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, NULL, NULL);
    if (in->op == IR_feq) {
        vex_imm(a, scalar(type, 0xc2), XSCRATCH, x.reg, opnd_rm(&y), 0);
        vex2(a, V_MOVD_STORE, XSCRATCH, rm_reg(d));
        alu_mi(a, false, ALU_AND, rm_reg(d), 1);
    } else {
        /* a < b as b > a: false if unordered. */
        const bool quiet = in->op == IR_fltq || in->op == IR_fleq,
                   less = in->op == IR_flt || in->op == IR_fltq;
        x86(a, 0x33, d, rm_reg(d), 0);
        vex2(a, ucomis(type) | (quiet ? 0 : 1), y.reg, opnd_rm(&x));
        x86(a, 0x90 | X_0F | X_BYTE_RM | (less ? CC_A : CC_AE), 0, rm_reg(d), 0);
    }
    define_int(c, (int)d, VAL_ZX);
}

/* The rounding field of vrounds[sd]. */
static unsigned round_field(unsigned rm)
{
    static const u8 field[] = {0, 3, 1, 2};
    return rm == RM_DYNAMIC ? 4 : field[rm];
}

enum { ROUND_QUIET = 8 }; /* no inexact */

static void emit_round(Compiler *c, IrType type, unsigned d, unsigned x, unsigned field)
{
    vex_imm(&c->a, (type == IR_F64 ? 0x0b : 0x0a) | X_0F3A | X_66, d, x, rm_reg(x), field);
}

static void sel_fround(Compiler *c, const IrInsn *in)
{
    const IrType type = (IrType)in->type;
    if (type == IR_F16 || !host_rounds(in)) {
        sel_eval_fp(c, in);
        return;
    }
    const Opnd x = xopnd(c, in->a);
    const u8 flags = inherited(c, type, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_xmm(c, &x);
    emit_round(c, type, d, x.reg,
               round_field(in->aux & IR_RM_MASK) | (in->aux & IR_ROUND_EXACT ? 0 : ROUND_QUIET));
    nan_test(c, type, d, COLD_NAN);
    define_xmm(c, (int)d, flags);
}

static void sel_fcvt_ff(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->type;
    const bool narrow = type == IR_F32;
    if (type == IR_F16 || in->src == IR_F16 || (narrow && !host_rounds(in))) {
        sel_eval_fp(c, in);
        return;
    }
    Opnd x = opnd(c, in->a);
    need_xrm(c, &x);
    release(c, in->a);
    const unsigned d = (unsigned)dest_xmm(c, &x);
    Cold *k = narrow ? static_mode(c, in, d, &x, NULL, NULL) : NULL;
    /* The upper bits come from a register that depends on nothing; ones make the result boxed. */
    vex(a, narrow ? (u32)V_PCMPEQD : (u32)V_XORPS, XSCRATCH, XSCRATCH, rm_reg(XSCRATCH), 0);
    vex(a, scalar((IrType)in->src, 0x5a), d, XSCRATCH, opnd_rm(&x), 0);
    nan_test(c, type, d, COLD_NAN);
    set_back(c, k);
    define_xmm(c, (int)d, narrow ? VAL_BOX32 : 0);
}

static void sel_fcvt_fi(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->type;
    const bool is32 = in->aux & IR_CVT_32, is_unsigned = in->aux & IR_CVT_UNSIGNED;
    const bool exact = is32 && type == IR_F64;
    if (type == IR_F16 || (!exact && !host_rounds(in))) {
        sel_eval_fp(c, in);
        return;
    }
    Opnd x = opnd(c, in->a);
    if (is_unsigned) {
        if (is32 && !(x.kind == O_REG && (flags_of(c, in->a) & VAL_ZX))) {
            const unsigned r = (unsigned)alloc_int(c);
            if (x.kind == O_REG) {
                mov_rr(a, false, r, x.reg);
            } else {
                load_int(c, false, r, &x);
            }
            x = (Opnd){.kind = O_REG, .reg = (u8)r};
        } else {
            need_reg(c, true, &x);
        }
    } else {
        need_rm(c, !is32, &x);
    }
    release(c, in->a);
    const unsigned d = (unsigned)dest_xmm(c, NULL);
    Cold *k = exact ? NULL : static_mode(c, in, d, &x, NULL, NULL);
    if (is_unsigned && !is32) {
        if (!k) {
            k = eval_instead(c, d, &x, NULL, NULL);
        }
        x86(a, X_TEST | X_W, x.reg, rm_reg(x.reg), 0);
        k->slow[1] = jcc_fwd(a, CC_S);
    }
    vex(a, type == IR_F32 ? (u32)V_PCMPEQD : (u32)V_XORPS, XSCRATCH, XSCRATCH, rm_reg(XSCRATCH), 0);
    vex(a, scalar(type, 0x2a) | w_if(!is32 || is_unsigned), d, XSCRATCH, opnd_rm(&x), 0);
    set_back(c, k);
    define_xmm(c, (int)d, boxed_flags(type));
}

static void sel_fcvt_if(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->src;
    const unsigned rm = in->aux & IR_RM_MASK;
    const bool is32 = in->aux & IR_CVT_32, is_unsigned = in->aux & IR_CVT_UNSIGNED,
               f64 = type == IR_F64;
    if (type == IR_F16 || !host_rounds(in) || (in->type == IR_I32 && !is32)) {
        sel_eval_fp(c, in);
        return;
    }
    const Opnd x = xopnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, NULL, NULL);
    Cold *k = eval_instead(c, d, &x, NULL, NULL);
    if (is_unsigned) {
        /* Negative numbers and NaNs, then what a signed conversion can't or must not do. */
        vex2(a, ucomis(type), x.reg, rm_data(c, DATA_ZERO));
        k->slow[0] = jcc_fwd(a, CC_B);
        const Data limit = is32 ? (f64 ? DATA_F64_U32_MAX : DATA_F32_U32_MAX)
                                : (f64 ? DATA_F64_2P63 : DATA_F32_2P63);
        vex2(a, ucomis(type), x.reg, rm_data(c, limit));
        k->slow[1] = jcc_fwd(a, is32 ? CC_A : CC_AE);
    }
    const bool other_mode = rm != RM_DYNAMIC && rm != RM_RTZ;
    unsigned from = x.reg;
    if (other_mode) {
        emit_round(c, type, XSCRATCH, x.reg, round_field(rm) | ROUND_QUIET);
        from = XSCRATCH;
    }
    const bool wide = !is32 || is_unsigned;
    vex2(a, scalar(type, rm == RM_DYNAMIC ? 0x2d : 0x2c) | w_if(wide), d, rm_reg(from));
    if (!is_unsigned) {
        /* The least integer stands for "does not fit", which raises the same flag on both sides. */
        alu_mi(a, wide, ALU_CMP, rm_reg(d), 1);
        k->slow[2] = jcc_fwd(a, CC_O);
    }
    if (other_mode) {
        emit_round(c, type, XSCRATCH, x.reg, round_field(rm)); /* raises inexact */
    }
    if (is32 && in->type == IR_I64) {
        x86(a, X_MOVSXD, d, rm_reg(d), 0);
    }
    k->back = a->p;
    define_int(c, (int)d, in->type == IR_I32 ? VAL_ZX : 0);
}

static void sel_fsgnj(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->type;
    const bool same = rep(c, in->a) == rep(c, in->b);
    if (type == IR_F16) {
        sel_eval_fp(c, in);
        return;
    }
    if (same && in->op == IR_fsgnj) {
        alias_of(c, in->a);
        release(c, in->b);
        return;
    }
    const Rm sign = rm_data(c, type == IR_F64 ? DATA_SIGN64 : DATA_SIGN32);
    const Rm abs = rm_data(c, type == IR_F64 ? DATA_ABS64 : DATA_ABS32);
    const Opnd x = xopnd(c, in->a), y = xopnd(c, in->b);
    const u8 flags = inherited(c, type, in->a);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_xmm(c, &x);
    if (same) {
        if (in->op == IR_fsgnjn) {
            vex(a, V_XORPS, d, x.reg, sign, 0);
        } else {
            vex(a, V_ANDPS, d, x.reg, abs, 0);
        }
    } else if (in->op == IR_fsgnjx) {
        vex(a, V_ANDPS, XSCRATCH, y.reg, sign, 0);
        vex(a, V_XORPS, d, x.reg, rm_reg(XSCRATCH), 0);
    } else {
        vex(a, in->op == IR_fsgnj ? (u32)V_ANDPS : (u32)V_ANDNPS, XSCRATCH, y.reg, sign, 0);
        vex(a, V_ANDPS, d, x.reg, abs, 0);
        vex(a, V_ORPS, d, d, rm_reg(XSCRATCH), 0);
    }
    define_xmm(c, (int)d, flags);
}

static void sel_unbox(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrType type = (IrType)in->type;
    const u8 boxed = type == IR_F32 ? VAL_BOX32 : VAL_BOX16;
    if (type == IR_F64 || (flags_of(c, in->a) & boxed)) {
        alias_of(c, in->a);
        return;
    }
    Opnd x = opnd(c, in->a);
    const bool word_test = x.kind == O_MEM && type == IR_F32;
    if (!word_test) {
        need_xmm(c, &x);
    }
    release(c, in->a);
    const unsigned d = (unsigned)dest_xmm(c, &x);
    load_xmm(c, d, &x);
    Cold *k = new_cold(c, COLD_UNBOX);
    k->reg = (u8)d;
    k->type = (u8)type;
    if (word_test) {
        alu_mi(a, false, ALU_CMP, rm_mem(x.reg, x.disp + 4), -1);
        k->slow[0] = jcc_fwd(a, CC_NE);
    } else {
        vex2(a, V_PTEST, d, rm_data(c, type == IR_F32 ? DATA_UPPER32 : DATA_UPPER48));
        k->slow[0] = jcc_fwd(a, CC_AE);
    }
    k->back = a->p;
    define_xmm(c, (int)d, boxed_flags(type));
}

void cold_unbox(Compiler *c, const Cold *k)
{
    cold_nan(c, k);
}

static void sel_box(Compiler *c, const IrInsn *in)
{
    const IrType type = (IrType)in->src;
    const u8 boxed = type == IR_F32 ? VAL_BOX32 : VAL_BOX16;
    if (type == IR_F64 || (flags_of(c, in->a) & boxed)) {
        alias_of(c, in->a);
        return;
    }
    Opnd x = opnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_xmm(c, &x);
    if (x.kind == O_XMM) {
        vex(&c->a, V_ORPS, d, x.reg, rm_data(c, type == IR_F32 ? DATA_UPPER32 : DATA_UPPER48), 0);
    } else {
        load_xmm(c, d, &x);
        box_bits(c, type, d);
    }
    define_xmm(c, (int)d, boxed_flags(type));
}

static void sel_fbits(Compiler *c, const IrInsn *in)
{
    const bool w = in->src == IR_F64 && in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, NULL, NULL);
    if (in->src == IR_F16 && x.kind == O_MEM) {
        x86(&c->a, X_MOVZX16, d, opnd_rm(&x), 0);
    } else if (x.kind == O_REG) {
        mov_rr(&c->a, w, d, x.reg);
    } else {
        load_int(c, w, d, &x);
    }
    if (in->src == IR_F16 && x.kind != O_MEM) {
        x86(&c->a, X_MOVZX16, d, rm_reg(d), 0);
    }
    define_int(c, (int)d, w ? 0 : VAL_ZX);
}

static void sel_ffrom(Compiler *c, const IrInsn *in)
{
    Opnd x = opnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_xmm(c, NULL);
    if (in->type == IR_F64) {
        load_xmm(c, d, &x);
    } else if (x.kind == O_REG || x.kind == O_MEM) {
        vex2(&c->a, V_MOVD_LOAD, d, opnd_rm(&x));
    } else {
        x.imm = (u32)x.imm;
        load_xmm(c, d, &x);
    }
    define_xmm(c, (int)d, in->type == IR_F32 && x.kind != O_XMM ? VAL_ZX : 0);
}

void select_fp(Compiler *c, const IrInsn *in)
{
    switch ((IrOp)in->op) {
    case IR_fadd: sel_arith(c, in, 0x58); break;
    case IR_fsub: sel_arith(c, in, 0x5c); break;
    case IR_fmul: sel_arith(c, in, 0x59); break;
    case IR_fdiv: sel_arith(c, in, 0x5e); break;
    case IR_fsqrt: sel_arith(c, in, 0x51); break;
    case IR_fmadd: sel_fma(c, in, 0xb9); break;
    case IR_fmsub: sel_fma(c, in, 0xbb); break;
    case IR_fnmsub: sel_fma(c, in, 0xbd); break;
    case IR_fnmadd: sel_fma(c, in, 0xbf); break;
    case IR_fmin:
    case IR_fmax: sel_fminmax(c, in); break;
    case IR_feq: case IR_flt: case IR_fle: case IR_fltq: case IR_fleq: sel_fcompare(c, in); break;
    case IR_fround: sel_fround(c, in); break;
    case IR_fcvt_ff: sel_fcvt_ff(c, in); break;
    case IR_fcvt_fi: sel_fcvt_fi(c, in); break;
    case IR_fcvt_if: sel_fcvt_if(c, in); break;
    case IR_fsgnj: case IR_fsgnjn: case IR_fsgnjx: sel_fsgnj(c, in); break;
    case IR_unbox: sel_unbox(c, in); break;
    case IR_box: sel_box(c, in); break;
    case IR_fbits: sel_fbits(c, in); break;
    case IR_ffrom: sel_ffrom(c, in); break;
    default: sel_eval_fp(c, in); break;
    }
}
