/*
 * What instruction bodies are written with. A body gets the translation's context `t` and the decoded operands
 * `o`, and appends IR that has the instruction's effect:
 *
 *   INSN(sh1add, Zba, R, "0010000 ..... ..... 010 ..... 0110011")
 *   {
 *       put(t, o->rd, add(t, shl(t, get(t, o->rs1), imm(t, 1)), get(t, o->rs2)));
 *   }
 *
 * A row says: mnemonic (underscores are dots), extension condition (words of extensions.def; `A|B` any of, `A&B`
 * all of), operand format (gen/formats.py), encoding from the highest bit down (blanks are ignored, `.` is free), then
 * any number of strings:
 *   "rv32", "rv64"   exists at that XLEN only
 *   "rd!=0"          an operand's value that the row does not cover (also imm, rs1, rs2; also several: "rd!=0,2")
 *   "over=add"       the row is a more specific form of that other row, and is tried first
 * (Where one mnemonic has two rows, __ and a word end the row's name: rev8__32.)
 * gen/decoder.py reads the rows out of insn/ and writes the decoder from them; a row covers RV32 and RV64 unless it
 * says otherwise, and its body takes the width from t->x.
 *
 * Functions named after an operation work at XLEN; with 32 or 64 appended, at that width. Values of 32 bits have
 * unspecified upper bits on RV64: sext32 or put_w before they become registers.
 */
#ifndef STAG_FRONTEND_RISCV_TRANSLATE_H
#define STAG_FRONTEND_RISCV_TRANSLATE_H

#include "core/ir/builder.h"
#include "frontend-riscv/decode.h"
#include "frontend-riscv/frontend.h"

struct Tr {
    IrBlock *b;
    IrType x;     /* IR_I32 or IR_I64: an integer register */
    u64 ext;      /* the model's extensions */
    s32 pc;       /* of this instruction, as an offset from the block's page */
    u32 insn;     /* its bits */
    u8 length;    /* 2 or 4 */
    bool ended;   /* the body has ended the block */
    u8 branches;  /* conditional branches that the block goes on behind */
    bool fp_ok;   /* a guard for FP state has been passed since fp_ready could change */
    bool fp_rm_ok; /* ... one for the dynamic rounding mode, too */
    bool priv_ok; /* a guard for S or M mode has been passed; a block does not outlive its mode */
};

#define INSN(name, ext, format, ...)                                                               \
    void riscv_insn_##name(Tr *t G_GNUC_UNUSED, const Operands *o G_GNUC_UNUSED);                  \
    void riscv_insn_##name(Tr *t G_GNUC_UNUSED, const Operands *o G_GNUC_UNUSED)

/* A row that has the body of another: INSN_AS(c_add, add, C, CR, "..."); */
#define INSN_AS(name, body, ext, format, ...) struct RiscvInsnAs##name

/* Numbers of the helpers, and their functions. */
typedef enum RiscvHelper {
#define HELPER(name, args, flags) H_##name,
#include "frontend-riscv/helpers.def"
    RISCV_HELPER_COUNT
} RiscvHelper;
#define HELPER(name, args, flags) u64 helper_##name(CpuState *cpu, u64 a, u64 b, u64 c, u64 d);
#include "frontend-riscv/helpers.def"
extern const IrHelper riscv_helpers[RISCV_HELPER_COUNT + 1];

/* waits.c: whether the block is a loop that waits for a change of memory and does nothing else. */
bool riscv_waits(const IrBlock *b);

static inline bool has(const Tr *t, RiscvExt ext)
{
    return t->ext >> ext & 1;
}

static inline bool is_rv32(const Tr *t)
{
    return t->x == IR_I32;
}

static inline unsigned xlen(const Tr *t)
{
    return is_rv32(t) ? 32 : 64;
}

/* Constants and addresses. */
static inline IrValue imm(Tr *t, s64 v)
{
    return ir_const(t->b, t->x, v);
}

static inline IrValue imm32(Tr *t, s32 v)
{
    return ir_const(t->b, IR_I32, v);
}

static inline IrValue imm64(Tr *t, s64 v)
{
    return ir_const(t->b, IR_I64, v);
}

/* The address `displacement` bytes from this instruction. */
static inline IrValue pc_plus(Tr *t, s32 displacement)
{
    return ir_0(t->b, IR_pcrel, t->x, 0, t->pc + displacement);
}

/* Integer registers. */
static inline IrValue get(Tr *t, unsigned r)
{
    return r ? ir_getreg(t->b, t->x, CPU_OFFSET_X(r)) : imm(t, 0);
}

static inline void put(Tr *t, unsigned r, IrValue v)
{
    if (r) {
        ir_setreg(t->b, t->x, CPU_OFFSET_X(r), v);
    }
}

static inline IrValue sext32(Tr *t, IrValue v)
{
    return is_rv32(t) ? v : ir_1(t->b, IR_sext32, IR_I64, IR_I64, 0, v);
}

static inline IrValue zext32(Tr *t, IrValue v)
{
    return is_rv32(t) ? v : ir_1(t->b, IR_zext32, IR_I64, IR_I64, 0, v);
}

/* A 32-bit result into a register, sign-extended. */
static inline void put_w(Tr *t, unsigned r, IrValue v)
{
    if (r) {
        put(t, r, sext32(t, v));
    }
}

/* Integer operations: op at XLEN, op32, op64. */
#define TR_UNARY(op)                                                                               \
    static inline IrValue op(Tr *t, IrValue a)                                                     \
    {                                                                                              \
        return ir_1(t->b, IR_##op, t->x, t->x, 0, a);                                              \
    }                                                                                              \
    static inline IrValue op##32(Tr * t, IrValue a)                                                \
    {                                                                                              \
        return ir_1(t->b, IR_##op, IR_I32, IR_I32, 0, a);                                          \
    }                                                                                              \
    static inline IrValue op##64(Tr * t, IrValue a)                                                \
    {                                                                                              \
        return ir_1(t->b, IR_##op, IR_I64, IR_I64, 0, a);                                          \
    }
#define TR_BINARY(op)                                                                              \
    static inline IrValue op(Tr *t, IrValue a, IrValue b)                                          \
    {                                                                                              \
        return ir_2(t->b, IR_##op, t->x, t->x, 0, a, b);                                           \
    }                                                                                              \
    static inline IrValue op##32(Tr * t, IrValue a, IrValue b)                                     \
    {                                                                                              \
        return ir_2(t->b, IR_##op, IR_I32, IR_I32, 0, a, b);                                       \
    }                                                                                              \
    static inline IrValue op##64(Tr * t, IrValue a, IrValue b)                                     \
    {                                                                                              \
        return ir_2(t->b, IR_##op, IR_I64, IR_I64, 0, a, b);                                       \
    }
TR_UNARY(not)
TR_UNARY(neg)
TR_UNARY(clz)
TR_UNARY(ctz)
TR_UNARY(popcnt)
TR_UNARY(bswap)
TR_UNARY(orcb)
TR_UNARY(brev8)
TR_UNARY(sext8)
TR_UNARY(sext16)
TR_UNARY(zext8)
TR_UNARY(zext16)
TR_BINARY(add)
TR_BINARY(sub)
TR_BINARY(and)
TR_BINARY(or)
TR_BINARY(xor)
TR_BINARY(andn)
TR_BINARY(orn)
TR_BINARY(xnor)
TR_BINARY(shl)
TR_BINARY(shr)
TR_BINARY(sar)
TR_BINARY(rol)
TR_BINARY(ror)
TR_BINARY(mul)
TR_BINARY(mulhs)
TR_BINARY(mulhu)
TR_BINARY(mulhsu)
TR_BINARY(divs)
TR_BINARY(divu)
TR_BINARY(rems)
TR_BINARY(remu)
TR_BINARY(min)
TR_BINARY(max)
TR_BINARY(minu)
TR_BINARY(maxu)
TR_BINARY(clmul)
TR_BINARY(clmulh)
#undef TR_UNARY
#undef TR_BINARY

/* 1 if a cond b, else 0. */
static inline IrValue compare(Tr *t, IrCond cond, IrValue a, IrValue b)
{
    return ir_setcc(t->b, cond, t->x, a, b);
}

/* test != 0 ? a : b. */
static inline IrValue choose(Tr *t, IrValue test, IrValue a, IrValue b)
{
    return ir_3(t->b, IR_select, t->x, t->x, 0, test, a, b);
}

/* Memory: at register rs1 + displacement. */
static inline IrValue load(Tr *t, unsigned size_log2, bool is_signed, unsigned rs1, s32 displacement)
{
    return ir_ld(t->b, t->x, size_log2, is_signed, get(t, rs1), displacement);
}

static inline void store(Tr *t, unsigned size_log2, unsigned rs1, s32 displacement, IrValue v)
{
    ir_st(t->b, t->x, size_log2, get(t, rs1), displacement, v);
}

/* Control flow: everything here ends the block, passed_branch perhaps. */

/* Goes on at `displacement` bytes from this instruction, by a direct jump. */
static inline void end_goto(Tr *t, s32 displacement)
{
    ir_0(t->b, IR_goto, IR_NOTYPE, 0, t->pc + displacement);
    t->ended = true;
}

/* Behind a conditional branch by `displacement`. A branch ahead is often not taken, so the block goes on with the
 * next instruction; one backward closes a loop and is mostly taken. The code behind a branch is made again for
 * whatever jumps there, hence the limit. */
enum { MAX_BRANCHES = 4 };

static inline void passed_branch(Tr *t, s32 displacement)
{
    if (displacement < 0 || ++t->branches > MAX_BRANCHES) {
        end_goto(t, t->length);
    }
}

/* Whether an instruction that leaves its return address in rd is a call, which the register tells. */
static inline u16 call_hint(const Tr *t, unsigned rd)
{
    return rd == 1 || rd == 5 ? (u16)t->length : 0;
}

static inline void put_return(Tr *t, unsigned rd)
{
    if (rd) {
        put(t, rd, pc_plus(t, t->length));
    }
}

/* ... by a jump that leaves its return address in rd. */
static inline void end_jal(Tr *t, unsigned rd, s32 displacement)
{
    put_return(t, rd);
    ir_0(t->b, IR_goto, IR_NOTYPE, call_hint(t, rd), t->pc + displacement);
    t->ended = true;
}

/* Goes on at address v, whose bit 0 does not count, and which comes from register rs1. */
static inline void end_jalr(Tr *t, unsigned rd, unsigned rs1, IrValue v)
{
    const u16 call = call_hint(t, rd);
    const u16 hint = call ? call : rs1 == 1 || rs1 == 5 ? IR_RETURN : 0;
    if (hint != IR_RETURN) {
        v = and(t, v, imm(t, -2));
    }
    put_return(t, rd);
    ir_1(t->b, IR_jump, t->x, t->x, hint, v);
    t->ended = true;
}

/* Goes on at the next instruction, by way of the run loop: for instructions that change what is fetched or which
 * interrupts are enabled. */
static inline void end_next(Tr *t)
{
    ir_0(t->b, IR_next, IR_NOTYPE, 0, t->pc + t->length);
    t->ended = true;
}

/* Leaves after a helper that has always set pc and status. */
static inline void end_leave(Tr *t)
{
    ir_0(t->b, IR_leave, IR_NOTYPE, 0, 0);
    t->ended = true;
}

/* Raises an exception on this instruction. */
static inline void end_trap(Tr *t, unsigned cause, IrValue value)
{
    ir_1(t->b, IR_trap, t->x, t->x, (u16)cause, value);
    t->ended = true;
}

/* Illegal instruction, with the instruction's bits as the trap value. */
static inline void end_illegal(Tr *t)
{
    end_trap(t, CAUSE_ILLEGAL, imm(t, t->insn));
}

/* Helpers: a, b, c as many as the helper's args, IR_NONE beyond; `immediate` for those with HELPER_IMM. The result is an
 * integer of XLEN bits. */
static inline IrValue call_imm(Tr *t, RiscvHelper h, IrValue a, IrValue b, IrValue c, s32 immediate)
{
    if (riscv_helpers[h].flags & HELPER_FP) {
        t->fp_ok = t->fp_rm_ok = false;
    }
    return ir_call(t->b, t->x, h, a, b, c, immediate);
}

/* A helper that may change whether FP code can run, called if `test` is not 0. */
static inline void call_if(Tr *t, RiscvHelper h, IrValue test)
{
    t->fp_ok = t->fp_rm_ok = false;
    ir_callif(t->b, t->x, h, test, 0);
}

static inline IrValue call(Tr *t, RiscvHelper h, IrValue a, IrValue b, IrValue c)
{
    return call_imm(t, h, a, b, c, 0);
}

/* Floating point. Every instruction that uses f registers or FP state begins with fp_guard; `rounding` says that it
 * rounds by the dynamic mode (rm = 7). */
enum { RM_DYNAMIC = 7 };

static inline void fp_guard(Tr *t, bool rounding)
{
    if (rounding ? !t->fp_rm_ok : !t->fp_ok) {
        ir_0(t->b, IR_guard, IR_NOTYPE, rounding ? GUARD_FP_RM : GUARD_FP,
             (s32)offsetof(CpuState, fp_ready));
        t->fp_ok = true;
        t->fp_rm_ok |= rounding;
    }
}

/* State of Hart, a u64 of which a value of XLEN bits is read and written. */
static inline IrValue get_state(Tr *t, size_t offset)
{
    return ir_0(t->b, IR_getstate, t->x, is_rv32(t) ? 2 : 3, (s32)offset);
}

static inline void set_state_of(Tr *t, IrType type, size_t offset, IrValue v)
{
    ir_emit(t->b, (IrInsn){.op = IR_setstate, .type = type, .src = type, .aux = type == IR_I32 ? 2 : 3,
                           .a = v, .b = IR_NONE, .c = IR_NONE, .imm = (s32)offset});
}

static inline void set_state(Tr *t, size_t offset, IrValue v)
{
    set_state_of(t, t->x, offset, v);
}

/* Illegal in U mode. */
static inline void priv_guard(Tr *t)
{
    if (!t->priv_ok) {
        ir_0(t->b, IR_guard, IR_NOTYPE, GUARD_ILLEGAL, (s32)offsetof(Hart, priv));
        t->priv_ok = true;
    }
}

/* An f register as a value of `type` (F16, F32, F64): unboxed. */
static inline IrValue get_f(Tr *t, IrType type, unsigned r)
{
    IrValue v = ir_getreg(t->b, IR_F64, CPU_OFFSET_F(r));
    return type == IR_F64 ? v : ir_1(t->b, IR_unbox, type, IR_F64, 0, v);
}

/* Sets an f register from a value of `type`, boxed. */
static inline void put_f(Tr *t, IrType type, unsigned r, IrValue v)
{
    if (type != IR_F64) {
        v = ir_1(t->b, IR_box, IR_F64, type, 0, v);
    }
    ir_setreg(t->b, IR_F64, CPU_OFFSET_F(r), v);
}

/* Floating-point operations of one to three operands with rounding mode rm (0..4, 7; 0 where it does not matter). */
static inline IrValue fp1(Tr *t, IrOp op, IrType type, u16 rm, IrValue a)
{
    return ir_1(t->b, op, type, type, rm, a);
}

static inline IrValue fp2(Tr *t, IrOp op, IrType type, u16 rm, IrValue a, IrValue b)
{
    return ir_2(t->b, op, type, type, rm, a, b);
}

static inline IrValue fp3(Tr *t, IrOp op, IrType type, u16 rm, IrValue a, IrValue b, IrValue c)
{
    return ir_3(t->b, op, type, type, rm, a, b, c);
}

#endif
