/*
 * Building IR: one inline function per operation, appending a record and returning its value.
 * `b` is always the block under construction. XLEN is the block's: ir_x() is the type of an integer
 * register.
 */
#ifndef STAG_CORE_IR_BUILDER_H
#define STAG_CORE_IR_BUILDER_H

#include "core/ir/ir.h"

static inline IrValue ir_emit(IrBlock *b, IrInsn insn)
{
    b->insns[b->count] = insn;
    return (IrValue)b->count++;
}

static inline IrType ir_x(const IrBlock *b)
{
    return b->xlen;
}

static inline IrValue ir_const(IrBlock *b, IrType type, s64 value)
{
    return ir_emit(b, (IrInsn){.op = IR_const, .type = type, .a = IR_NONE,
                               .imm64 = type == IR_I32 ? (s32)value : value});
}

static inline IrValue ir_0(IrBlock *b, IrOp op, IrType type, u16 aux, s32 imm)
{
    return ir_emit(b, (IrInsn){.op = op,
                               .type = type,
                               .src = type,
                               .aux = aux,
                               .a = IR_NONE,
                               .b = IR_NONE,
                               .c = IR_NONE,
                               .imm = imm});
}

static inline IrValue ir_1(IrBlock *b, IrOp op, IrType type, IrType src, u16 aux, IrValue a)
{
    return ir_emit(b, (IrInsn){.op = op, .type = type, .src = src, .aux = aux, .a = a, .b = IR_NONE,
                               .c = IR_NONE});
}

static inline IrValue ir_2(IrBlock *b, IrOp op, IrType type, IrType src, u16 aux, IrValue a,
                           IrValue v)
{
    return ir_emit(b, (IrInsn){.op = op, .type = type, .src = src, .aux = aux, .a = a, .b = v,
                               .c = IR_NONE});
}

static inline IrValue ir_3(IrBlock *b, IrOp op, IrType type, IrType src, u16 aux, IrValue a,
                           IrValue v, IrValue w)
{
    return ir_emit(b, (IrInsn){.op = op, .type = type, .src = src, .aux = aux, .a = a, .b = v,
                               .c = w});
}

/* Guest registers by offset in CpuState. */
static inline IrValue ir_getreg(IrBlock *b, IrType type, u32 offset)
{
    return ir_0(b, IR_getreg, type, 0, (s32)offset);
}

static inline void ir_setreg(IrBlock *b, IrType type, u32 offset, IrValue v)
{
    ir_emit(b, (IrInsn){.op = IR_setreg,
                        .type = type,
                        .src = type,
                        .a = v,
                        .b = IR_NONE,
                        .c = IR_NONE,
                        .imm = (s32)offset});
}

/* Memory: address a + disp, wrapped at XLEN. */
static inline IrValue ir_ld(IrBlock *b, IrType type, unsigned size_log2, bool is_signed, IrValue a,
                            s32 disp)
{
    return ir_emit(b, (IrInsn){.op = IR_ld, .type = type, .src = b->xlen,
                               .aux = (u16)(size_log2 | (is_signed ? IR_MEM_SIGNED : 0)), .a = a,
                               .b = IR_NONE, .c = IR_NONE, .imm = disp});
}

static inline void ir_st(IrBlock *b, IrType type, unsigned size_log2, IrValue a, s32 disp,
                         IrValue v)
{
    ir_emit(b, (IrInsn){.op = IR_st,
                        .type = type,
                        .src = b->xlen,
                        .aux = (u16)size_log2,
                        .a = a,
                        .b = v,
                        .c = IR_NONE,
                        .imm = disp});
}

/* Calls helper `index` of the frontend's table. */
static inline IrValue ir_call(IrBlock *b, IrType type, unsigned index, IrValue a, IrValue v,
                              IrValue w, s32 imm)
{
    return ir_emit(b, (IrInsn){.op = IR_call,
                               .type = type,
                               .src = type,
                               .aux = (u16)index,
                               .a = a,
                               .b = v,
                               .c = w,
                               .imm = imm});
}

/* The same for a helper without operands, where `test` (of `type`) is not 0. */
static inline void ir_callif(IrBlock *b, IrType type, unsigned index, IrValue test, s32 imm)
{
    ir_emit(b, (IrInsn){.op = IR_callif,
                        .type = type,
                        .src = type,
                        .aux = (u16)index,
                        .a = test,
                        .b = IR_NONE,
                        .c = IR_NONE,
                        .imm = imm});
}

static inline IrValue ir_setcc(IrBlock *b, IrCond cond, IrType width, IrValue a, IrValue v)
{
    return ir_2(b, IR_setcc, b->xlen, width, (u16)cond, a, v);
}

/* If (a cond v) at `width` go to page offset `target`. */
static inline void ir_br(IrBlock *b, IrCond cond, IrType width, IrValue a, IrValue v, s32 target)
{
    ir_emit(b, (IrInsn){.op = IR_br, .type = width, .src = width, .aux = (u16)cond, .a = a, .b = v,
                        .c = IR_NONE, .imm = target});
}

#endif
