/*
 * System instructions: Zicsr, environment calls, trap returns, WFI, fences of address translation
 * and of instruction fetch, cache blocks. Nearly all are helpers (system.c); what the rows choose
 * is the leanest helper that tells generated code enough of what may happen.
 */
#include "frontend-riscv/csr.h"
#include "frontend-riscv/translate.h"

enum { CSR_FFLAGS = 0x001, CSR_TIME = 0xc01, FUNCT3_WRITES = 1 /* csrrw, csrrwi; the low two bits of funct3 */ };

/* fflags is read and replaced around every comparison that must not raise flags: inline, as state that generated
 * code knows. Bits set or cleared one by one are rarer and take the helper. */
static bool csr_fflags(Tr *t, const Operands *o, bool write, IrValue operand)
{
    if (o->imm != CSR_FFLAGS || !has(t, RISCV_EXT_F) || (write && (t->insn >> 12 & 3) != FUNCT3_WRITES)) {
        return false;
    }
    fp_guard(t, false);
    IrValue old = ir_0(t->b, IR_getstate, t->x, 2, (s32)offsetof(CpuState, fflags));
    if (write) {
        ir_emit(t->b, (IrInsn){.op = IR_setstate, .type = t->x, .src = t->x, .aux = 2,
                               .a = and(t, operand, imm(t, 31)), .b = IR_NONE, .c = IR_NONE,
                               .imm = (s32)offsetof(CpuState, fflags)});
    }
    put(t, o->rd, old);
    return true;
}

static CsrOp csr_op(const Tr *t)
{
    static const CsrOp ops[4] = {CSR_OP_WRITE, CSR_OP_WRITE, CSR_OP_SET, CSR_OP_CLEAR};
    return ops[t->insn >> 12 & 3];
}

/* What a register that held `old` holds afterwards, if only the bits of `mask` can be written. */
static IrValue written(Tr *t, IrValue old, IrValue operand, u64 mask)
{
    if (csr_op(t) == CSR_OP_WRITE) {
        return mask == ~(u64)0 ? operand
                               : or(t, and(t, old, imm(t, (s64)~mask)),
                                    and(t, operand, imm(t, (s64)mask)));
    }
    operand = and(t, operand, imm(t, (s64)mask));
    return csr_op(t) == CSR_OP_SET ? or(t, old, operand) : andn(t, old, operand);
}

/* Registers without effects, which every trap handler reads and writes: sscratch, sepc, scause... */
static bool csr_field(Tr *t, const Operands *o, bool write, IrValue operand)
{
    size_t offset;
    u64 mask;
    if (!riscv_csr_field((unsigned)o->imm, t->ext, &offset, &mask)) {
        return false;
    }
    priv_guard(t);
    IrValue old = get_state(t, offset);
    if (write) {
        set_state(t, offset, written(t, old, operand, mask));
    }
    put(t, o->rd, old);
    return true;
}

/* sstatus, which kernels write whenever they disable and enable interrupts and touch user memory. A
 * helper follows up only if the view or FP code is concerned, or an interrupt waits. */
static bool csr_sstatus(Tr *t, const Operands *o, bool write, IrValue operand)
{
    enum { NUMBER = 0x100 };
    const u64 sie = (u64)1 << MSTATUS_SIE, writable = riscv_sstatus_writable(t->ext);
    const u64 followed =
        writable & ((u64)1 << MSTATUS_SUM | (u64)1 << MSTATUS_MXR | (u64)3 << MSTATUS_FS);

    if (o->imm != NUMBER || !has(t, RISCV_EXT_S)) {
        return false;
    }
    priv_guard(t);
    IrValue old = get_state(t, offsetof(Hart, mstatus));
    if (o->rd) {
        /* SD: FS is dirty, both its bits are 1. */
        IrValue both = and(t, and(t, old, shl(t, old, imm(t, 1))), imm(t, 2 << MSTATUS_FS));
        IrValue sd = shl(t, both, imm(t, xlen(t) - 1 - (MSTATUS_FS + 1)));
        IrValue seen = and(t, old, imm(t, (s64)riscv_sstatus_readable()));
        seen = is_rv32(t) ? seen : or(t, seen, imm(t, (s64)SSTATUS_UXL_64));
        put(t, o->rd, or(t, seen, sd));
    }
    if (write) {
        IrValue part = and(t, operand, imm(t, (s64)followed)); /* often a constant, often 0 */
        IrValue follow = csr_op(t) == CSR_OP_WRITE
                             ? xor(t, part, and(t, old, imm(t, (s64)followed)))
                         : csr_op(t) == CSR_OP_SET ? andn(t, part, old)
                                                   : and(t, part, old);
        if (csr_op(t) != CSR_OP_CLEAR) {
            IrValue enables = and(t, operand, imm(t, (s64)sie));
            follow = or(t, follow, and(t, enables, get_state(t, offsetof(Hart, waits_for_sie))));
        }
        set_state(t, offsetof(Hart, mstatus), written(t, old, operand, writable));
        call_if(t, H_sstatus_changed, follow);
    }
    return true;
}

/* What the block has to do around a CSR instruction depends on the register's traits. A number that
 * no hart has is illegal at once; whether this hart has it, in this mode, is found when it runs. */
static void csr(Tr *t, const Operands *o, bool write, IrValue operand)
{
    unsigned traits = riscv_csr_traits((unsigned)o->imm);
    s32 insn = (s32)t->insn;

    if (csr_fflags(t, o, write, operand) || csr_field(t, o, write, operand) ||
        csr_sstatus(t, o, write, operand)) {
        return;
    }
    if (!(traits & CSR_EXISTS)) {
        end_illegal(t);
    } else if (!write) {
        /* Programs ask for the time often. */
        bool time = o->imm == CSR_TIME && !is_rv32(t) && has(t, RISCV_EXT_Zicntr);
        RiscvHelper h = time                  ? H_rdtime
                        : traits & CSR_FP     ? H_csr_read_fp
                        : traits & CSR_COUNTS ? H_csr_read_counter
                                              : H_csr_read;
        put(t, o->rd, call_imm(t, h, IR_NONE, IR_NONE, IR_NONE, insn));
    } else if (!(traits & (CSR_FP | CSR_COUNTS | CSR_WRITE_LEAVES))) {
        put(t, o->rd, call_imm(t, H_csr_swap, operand, IR_NONE, IR_NONE, insn));
    } else if (!(traits & CSR_FP) && !o->rd) {
        call_imm(t, H_csr_write, operand, IR_NONE, IR_NONE, insn);
    } else {
        call_imm(t, H_csr_full, operand, IR_NONE, IR_NONE, insn);
    }
}

INSN(csrrw, Zicsr, CSR, "............ ..... 001 ..... 1110011")
{
    csr(t, o, true, get(t, o->rs1));
}

INSN(csrrs, Zicsr, CSR, "............ ..... 010 ..... 1110011")
{
    csr(t, o, o->rs1 != 0, get(t, o->rs1));
}

INSN(csrrc, Zicsr, CSR, "............ ..... 011 ..... 1110011")
{
    csr(t, o, o->rs1 != 0, get(t, o->rs1));
}

INSN(csrrwi, Zicsr, CSRI, "............ ..... 101 ..... 1110011")
{
    csr(t, o, true, imm(t, o->rs1));
}

INSN(csrrsi, Zicsr, CSRI, "............ ..... 110 ..... 1110011")
{
    csr(t, o, o->rs1 != 0, imm(t, o->rs1));
}

INSN(csrrci, Zicsr, CSRI, "............ ..... 111 ..... 1110011")
{
    csr(t, o, o->rs1 != 0, imm(t, o->rs1));
}

/* For helpers that always set status and, unless they trap, pc. */
static void leave_by(Tr *t, RiscvHelper h, IrValue a, IrValue b)
{
    call_imm(t, h, a, b, IR_NONE, (s32)t->insn);
    end_leave(t);
}

/* The cause depends on the mode: the trap is put together here. */
INSN(ecall, I, N, "000000000000 00000 000 00000 1110011")
{
    IrValue priv = ir_0(t->b, IR_getstate, IR_I64, 0, (s32)offsetof(Hart, priv));
    set_state_of(t, IR_I64, offsetof(CpuState, trap_cause), add64(t, priv, imm64(t, CAUSE_ECALL_U)));
    set_state_of(t, IR_I64, offsetof(CpuState, trap_value), imm64(t, 0));
    set_state_of(t, IR_I32, offsetof(CpuState, status), imm32(t, CPU_TRAP));
    end_leave(t);
}

INSN(ebreak, I, N, "000000000001 00000 000 00000 1110011")
{
    end_trap(t, CAUSE_BREAKPOINT, pc_plus(t, 0));
}

INSN_AS(c_ebreak, ebreak, C, CN, "100 1 00000 00000 10");

INSN(mret, I, N, "001100000010 00000 000 00000 1110011")
{
    leave_by(t, H_mret, IR_NONE, IR_NONE);
}

INSN(sret, S, N, "000100000010 00000 000 00000 1110011")
{
    leave_by(t, H_sret, IR_NONE, IR_NONE);
}

INSN(wfi, I, N, "000100000101 00000 000 00000 1110011")
{
    leave_by(t, H_wfi, IR_NONE, IR_NONE);
}

/* A stall that may end at any time for any reason: no stall is one of the choices. */
INSN(wrs_nto, Zawrs, N, "000000001101 00000 000 00000 1110011")
{
    call(t, H_wrs, IR_NONE, IR_NONE, IR_NONE);
}

INSN_AS(wrs_sto, wrs_nto, Zawrs, N, "000000011101 00000 000 00000 1110011");

INSN(sfence_vma, S, S12, "0001001 ..... ..... 000 00000 1110011")
{
    leave_by(t, H_sfence_vma, get(t, o->rs1), get(t, o->rs2));
}

INSN(sinval_vma, Svinval, S12, "0001011 ..... ..... 000 00000 1110011")
{
    leave_by(t, H_sfence_vma, get(t, o->rs1), get(t, o->rs2));
}

INSN(sfence_w_inval, Svinval, N, "000110000000 00000 000 00000 1110011")
{
    call_imm(t, H_sfence_inval, IR_NONE, IR_NONE, IR_NONE, (s32)t->insn);
}

INSN(sfence_inval_ir, Svinval, N, "000110000001 00000 000 00000 1110011")
{
    call_imm(t, H_sfence_inval, IR_NONE, IR_NONE, IR_NONE, (s32)t->insn);
}

/* The other fields are reserved for finer fences and ignored. */
INSN(fence_i, Zifencei, N, "............ ..... 001 ..... 0001111")
{
    leave_by(t, H_fence_i, IR_NONE, IR_NONE);
}

static void cbo(Tr *t, const Operands *o)
{
    call_imm(t, H_cbo, get(t, o->rs1), IR_NONE, IR_NONE, (s32)t->insn);
}

INSN(cbo_inval, Zicbom, S1P, "000000000000 ..... 010 00000 0001111")
{
    cbo(t, o);
}

INSN(cbo_clean, Zicbom, S1P, "000000000001 ..... 010 00000 0001111")
{
    cbo(t, o);
}

INSN(cbo_flush, Zicbom, S1P, "000000000010 ..... 010 00000 0001111")
{
    cbo(t, o);
}

/* Kernels clear pages with it, 64 times each: inline, where the mode may. */
INSN(cbo_zero, Zicboz, S1P, "000000000100 ..... 010 00000 0001111")
{
    ir_0(t->b, IR_guard, IR_NOTYPE, GUARD_ILLEGAL, (s32)offsetof(Hart, may_zero));
    ir_1(t->b, IR_zero, IR_NOTYPE, IR_NOTYPE, 0, get(t, o->rs1));
}
