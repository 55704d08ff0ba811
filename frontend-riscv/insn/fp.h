/*
 * What the floating-point rows of all formats share: the body of each kind of instruction, for a
 * format given as an IR type. A body begins with the guard (translate.h); only instructions that
 * round with the dynamic mode need it to be valid.
 */
#ifndef STAG_FRONTEND_RISCV_INSN_FP_H
#define STAG_FRONTEND_RISCV_INSN_FP_H

#include "frontend-riscv/translate.h"

static inline void fp_guard_rm(Tr *t, const Operands *o)
{
    fp_guard(t, o->rm == RM_DYNAMIC);
}

/* Arithmetic of one, two, three operands, rounding by rm. */
static inline void fp_arith1(Tr *t, const Operands *o, IrOp op, IrType type)
{
    fp_guard_rm(t, o);
    put_f(t, type, o->rd, fp1(t, op, type, o->rm, get_f(t, type, o->rs1)));
}

static inline void fp_arith2(Tr *t, const Operands *o, IrOp op, IrType type)
{
    fp_guard_rm(t, o);
    IrValue a = get_f(t, type, o->rs1);
    put_f(t, type, o->rd, fp2(t, op, type, o->rm, a, get_f(t, type, o->rs2)));
}

static inline void fp_arith3(Tr *t, const Operands *o, IrOp op, IrType type)
{
    fp_guard_rm(t, o);
    IrValue a = get_f(t, type, o->rs1), b = get_f(t, type, o->rs2);
    put_f(t, type, o->rd, fp3(t, op, type, o->rm, a, b, get_f(t, type, o->rs3)));
}

/* Operations of two operands that don't round: sign injection, minimum, maximum. */
static inline void fp_exact2(Tr *t, const Operands *o, IrOp op, IrType type)
{
    fp_guard(t, false);
    IrValue a = get_f(t, type, o->rs1);
    put_f(t, type, o->rd, fp2(t, op, type, 0, a, get_f(t, type, o->rs2)));
}

/* Comparisons and fclass: the result is an integer. */
static inline void fp_compare(Tr *t, const Operands *o, IrOp op, IrType type)
{
    fp_guard(t, false);
    IrValue a = get_f(t, type, o->rs1);
    put(t, o->rd, ir_2(t->b, op, t->x, type, 0, a, get_f(t, type, o->rs2)));
}

static inline void fp_class(Tr *t, const Operands *o, IrType type)
{
    fp_guard(t, false);
    put(t, o->rd, ir_1(t->b, IR_fclass, t->x, type, 0, get_f(t, type, o->rs1)));
}

/* Conversions: to an integer, from one (`how`: IR_CVT_*), between formats. */
static inline void fp_to_int(Tr *t, const Operands *o, IrType type, u16 how)
{
    fp_guard_rm(t, o);
    put(t, o->rd, ir_1(t->b, IR_fcvt_if, t->x, type, o->rm | how, get_f(t, type, o->rs1)));
}

static inline void fp_from_int(Tr *t, const Operands *o, IrType type, u16 how)
{
    fp_guard_rm(t, o);
    put_f(t, type, o->rd, ir_1(t->b, IR_fcvt_fi, type, t->x, o->rm | how, get(t, o->rs1)));
}

static inline void fp_convert(Tr *t, const Operands *o, IrType to, IrType from)
{
    fp_guard_rm(t, o);
    put_f(t, to, o->rd, ir_1(t->b, IR_fcvt_ff, to, from, o->rm, get_f(t, from, o->rs1)));
}

/* The 64 bits of an f register, whatever they mean, as an integer; and the reverse. */
static inline IrValue get_f_bits(Tr *t, unsigned r)
{
    return ir_1(t->b, IR_fbits, IR_I64, IR_F64, 0, ir_getreg(t->b, IR_F64, CPU_OFFSET_F(r)));
}

static inline IrValue from_bits(Tr *t, IrType type, IrType src, IrValue v)
{
    return ir_1(t->b, IR_ffrom, type, src, 0, v);
}

/* Loads and stores move bits; a store takes the low ones without regard to boxing. */
static inline void fp_load(Tr *t, const Operands *o, IrType type, unsigned size_log2)
{
    fp_guard(t, false);
    IrValue v;
    if (type == IR_F16) {
        v = from_bits(t, type, IR_I32,
                      ir_ld(t->b, IR_I32, size_log2, false, get(t, o->rs1), o->imm));
    } else {
        v = ir_ld(t->b, type, size_log2, false, get(t, o->rs1), o->imm);
    }
    put_f(t, type, o->rd, v);
}

static inline void fp_store(Tr *t, const Operands *o, IrType type, unsigned size_log2)
{
    fp_guard(t, false);
    IrValue address = get(t, o->rs1);
    if (type == IR_F64) {
        ir_st(t->b, IR_F64, size_log2, address, o->imm, get_f(t, type, o->rs2));
    } else {
        ir_st(t->b, IR_I32, size_log2, address, o->imm, get_f_bits(t, o->rs2));
    }
}

#endif
