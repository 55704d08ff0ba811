/*
 * RV32I and RV64I, the base integer instructions, and the hints among their encodings (unprivileged spec, chapters
 * "RV32I Base Integer Instruction Set", "RV64I", "Zihintpause", "Zihintntl", "CMO"). ecall and ebreak are in priv.c.
 */
#include "frontend-riscv/translate.h"

/* Upper immediates, jumps and branches. */

INSN(lui, I, U, "..... ..... ..... ..... ..... 0110111")
{
    put(t, o->rd, imm(t, o->imm));
}

INSN(auipc, I, U, "..... ..... ..... ..... ..... 0010111")
{
    put(t, o->rd, pc_plus(t, o->imm));
}

/* Without C, a jump to an address that is not a multiple of 4 is an exception of the jump itself. */
static bool misaligned(const Tr *t, s32 displacement)
{
    return (t->pc + displacement) & 2 && !has(t, RISCV_EXT_C);
}

INSN(jal, I, J, "..... ..... ..... ..... ..... 1101111")
{
    if (misaligned(t, o->imm)) {
        end_trap(t, CAUSE_FETCH_MISALIGNED, pc_plus(t, o->imm));
        return;
    }
    end_jal(t, o->rd, o->imm);
}

/* Only called without C. */
u64 helper_check_target(CpuState *cpu, u64 a, u64 b G_GNUC_UNUSED, u64 c G_GNUC_UNUSED,
                        u64 d G_GNUC_UNUSED)
{
    if (a & 2) {
        cpu_trap(cpu, CAUSE_FETCH_MISALIGNED, a);
    }
    return 0;
}

INSN(jalr, I, LOAD, "............ ..... 000 ..... 1100111")
{
    IrValue target = get(t, o->rs1);
    if (o->imm) {
        target = add(t, target, imm(t, o->imm));
    }
    if (!has(t, RISCV_EXT_C)) {
        target = and(t, target, imm(t, -2));
        /* An RV32 address is handed over zero-extended, as trap values are kept. */
        IrValue address = is_rv32(t) ? ir_1(t->b, IR_zext32, IR_I64, IR_I32, 0, target) : target;
        call(t, H_check_target, address, IR_NONE, IR_NONE);
    }
    end_jalr(t, o->rd, o->rs1, target);
}

static void branch(Tr *t, const Operands *o, IrCond cond)
{
    IrValue a = get(t, o->rs1), b = get(t, o->rs2);
    if (misaligned(t, o->imm)) {
        /* The conditions come in pairs that differ in bit 0: not taken goes on, taken traps. */
        ir_br(t->b, cond ^ 1, t->x, a, b, t->pc + t->length);
        end_trap(t, CAUSE_FETCH_MISALIGNED, pc_plus(t, o->imm));
    } else {
        ir_br(t->b, cond, t->x, a, b, t->pc + o->imm);
        passed_branch(t, o->imm);
    }
}

INSN(beq, I, B, "....... ..... ..... 000 ..... 1100011")
{
    branch(t, o, IR_EQ);
}

INSN(bne, I, B, "....... ..... ..... 001 ..... 1100011")
{
    branch(t, o, IR_NE);
}

INSN(blt, I, B, "....... ..... ..... 100 ..... 1100011")
{
    branch(t, o, IR_LT);
}

INSN(bge, I, B, "....... ..... ..... 101 ..... 1100011")
{
    branch(t, o, IR_GE);
}

INSN(bltu, I, B, "....... ..... ..... 110 ..... 1100011")
{
    branch(t, o, IR_LTU);
}

INSN(bgeu, I, B, "....... ..... ..... 111 ..... 1100011")
{
    branch(t, o, IR_GEU);
}

/* Loads and stores. */

INSN(lb, I, LOAD, "............ ..... 000 ..... 0000011")
{
    put(t, o->rd, load(t, 0, true, o->rs1, o->imm));
}

INSN(lh, I, LOAD, "............ ..... 001 ..... 0000011")
{
    put(t, o->rd, load(t, 1, true, o->rs1, o->imm));
}

INSN(lw, I, LOAD, "............ ..... 010 ..... 0000011")
{
    put(t, o->rd, load(t, 2, true, o->rs1, o->imm));
}

INSN(ld, I, LOAD, "............ ..... 011 ..... 0000011", "rv64")
{
    put(t, o->rd, load(t, 3, true, o->rs1, o->imm));
}

INSN(lbu, I, LOAD, "............ ..... 100 ..... 0000011")
{
    put(t, o->rd, load(t, 0, false, o->rs1, o->imm));
}

INSN(lhu, I, LOAD, "............ ..... 101 ..... 0000011")
{
    put(t, o->rd, load(t, 1, false, o->rs1, o->imm));
}

INSN(lwu, I, LOAD, "............ ..... 110 ..... 0000011", "rv64")
{
    put(t, o->rd, load(t, 2, false, o->rs1, o->imm));
}

INSN(sb, I, S, "....... ..... ..... 000 ..... 0100011")
{
    store(t, 0, o->rs1, o->imm, get(t, o->rs2));
}

INSN(sh, I, S, "....... ..... ..... 001 ..... 0100011")
{
    store(t, 1, o->rs1, o->imm, get(t, o->rs2));
}

INSN(sw, I, S, "....... ..... ..... 010 ..... 0100011")
{
    store(t, 2, o->rs1, o->imm, get(t, o->rs2));
}

INSN(sd, I, S, "....... ..... ..... 011 ..... 0100011", "rv64")
{
    store(t, 3, o->rs1, o->imm, get(t, o->rs2));
}

/* Register with immediate. An addition of 0 is a move; hints with rd = x0 leave no trace. */

INSN(addi, I, I, "............ ..... 000 ..... 0010011")
{
    IrValue a = get(t, o->rs1);
    put(t, o->rd, o->imm ? add(t, a, imm(t, o->imm)) : a);
}

INSN(slti, I, I, "............ ..... 010 ..... 0010011")
{
    put(t, o->rd, compare(t, IR_LT, get(t, o->rs1), imm(t, o->imm)));
}

INSN(sltiu, I, I, "............ ..... 011 ..... 0010011")
{
    put(t, o->rd, compare(t, IR_LTU, get(t, o->rs1), imm(t, o->imm)));
}

INSN(xori, I, I, "............ ..... 100 ..... 0010011")
{
    put(t, o->rd, xor(t, get(t, o->rs1), imm(t, o->imm)));
}

INSN(ori, I, I, "............ ..... 110 ..... 0010011")
{
    put(t, o->rd, or(t, get(t, o->rs1), imm(t, o->imm)));
}

INSN(andi, I, I, "............ ..... 111 ..... 0010011")
{
    put(t, o->rd, and(t, get(t, o->rs1), imm(t, o->imm)));
}

INSN(slli, I, SH, "000000 ...... ..... 001 ..... 0010011")
{
    put(t, o->rd, shl(t, get(t, o->rs1), imm(t, o->imm)));
}

INSN(srli, I, SH, "000000 ...... ..... 101 ..... 0010011")
{
    put(t, o->rd, shr(t, get(t, o->rs1), imm(t, o->imm)));
}

INSN(srai, I, SH, "010000 ...... ..... 101 ..... 0010011")
{
    put(t, o->rd, sar(t, get(t, o->rs1), imm(t, o->imm)));
}

/* Register with register. */

INSN(add, I, R, "0000000 ..... ..... 000 ..... 0110011")
{
    put(t, o->rd, add(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(sub, I, R, "0100000 ..... ..... 000 ..... 0110011")
{
    put(t, o->rd, sub(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(sll, I, R, "0000000 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, shl(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(xor, I, R, "0000000 ..... ..... 100 ..... 0110011")
{
    put(t, o->rd, xor(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(srl, I, R, "0000000 ..... ..... 101 ..... 0110011")
{
    put(t, o->rd, shr(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(sra, I, R, "0100000 ..... ..... 101 ..... 0110011")
{
    put(t, o->rd, sar(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(or, I, R, "0000000 ..... ..... 110 ..... 0110011")
{
    put(t, o->rd, or(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(and, I, R, "0000000 ..... ..... 111 ..... 0110011")
{
    put(t, o->rd, and(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(slt, I, R, "0000000 ..... ..... 010 ..... 0110011")
{
    put(t, o->rd, compare(t, IR_LT, get(t, o->rs1), get(t, o->rs2)));
}

INSN(sltu, I, R, "0000000 ..... ..... 011 ..... 0110011")
{
    put(t, o->rd, compare(t, IR_LTU, get(t, o->rs1), get(t, o->rs2)));
}

/* 32-bit forms of RV64. */

INSN(addiw, I, I, "............ ..... 000 ..... 0011011", "rv64")
{
    IrValue a = get(t, o->rs1);
    put_w(t, o->rd, o->imm ? add32(t, a, imm32(t, o->imm)) : a);
}

INSN(slliw, I, SHW, "0000000 ..... ..... 001 ..... 0011011", "rv64")
{
    put_w(t, o->rd, shl32(t, get(t, o->rs1), imm32(t, o->imm)));
}

INSN(srliw, I, SHW, "0000000 ..... ..... 101 ..... 0011011", "rv64")
{
    put_w(t, o->rd, shr32(t, get(t, o->rs1), imm32(t, o->imm)));
}

INSN(sraiw, I, SHW, "0100000 ..... ..... 101 ..... 0011011", "rv64")
{
    put_w(t, o->rd, sar32(t, get(t, o->rs1), imm32(t, o->imm)));
}

INSN(addw, I, R, "0000000 ..... ..... 000 ..... 0111011", "rv64")
{
    put_w(t, o->rd, add32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(subw, I, R, "0100000 ..... ..... 000 ..... 0111011", "rv64")
{
    put_w(t, o->rd, sub32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(sllw, I, R, "0000000 ..... ..... 001 ..... 0111011", "rv64")
{
    put_w(t, o->rd, shl32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(srlw, I, R, "0000000 ..... ..... 101 ..... 0111011", "rv64")
{
    put_w(t, o->rd, shr32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(sraw, I, R, "0100000 ..... ..... 101 ..... 0111011", "rv64")
{
    put_w(t, o->rd, sar32(t, get(t, o->rs1), get(t, o->rs2)));
}

/*
 * Memory ordering. The host keeps every order but that of a store before a later load, so only a fence
 * with W before and R after does something. Bits of the immediate: fm 11:8, predecessors IORW 7:4, successors IORW 3:0.
 * fence.tso does not order stores before loads. rd, rs1 and unknown fm are ignored, as the specification asks.
 */

INSN(fence, I, FENCE, "............ ..... 000 ..... 0001111")
{
    if (o->imm >> 4 & 1 && o->imm >> 1 & 1) {
        ir_0(t->b, IR_fence, IR_NOTYPE, 0, 0);
    }
}

INSN(fence_tso, I, N, "1000 0011 0011 00000 000 00000 0001111", "over=fence")
{
    /* Nothing to do on this host. */
}

INSN(pause, Zihintpause, N, "0000 0001 0000 00000 000 00000 0001111", "over=fence")
{
    call(t, H_pause, IR_NONE, IR_NONE, IR_NONE);
}

/* Locality hints are additions to x0. */

INSN(ntl_p1, Zihintntl, N, "0000000 00010 00000 000 00000 0110011", "over=add")
{
    /* A hint. */
}

INSN(ntl_pall, Zihintntl, N, "0000000 00011 00000 000 00000 0110011", "over=add")
{
    /* A hint. */
}

INSN(ntl_s1, Zihintntl, N, "0000000 00100 00000 000 00000 0110011", "over=add")
{
    /* A hint. */
}

INSN(ntl_all, Zihintntl, N, "0000000 00101 00000 000 00000 0110011", "over=add")
{
    /* A hint. */
}

/* Prefetches are ori to x0. */

INSN(prefetch_i, Zicbop, PREF, "....... 00000 ..... 110 00000 0010011", "over=ori")
{
    /* A hint. */
}

INSN(prefetch_r, Zicbop, PREF, "....... 00001 ..... 110 00000 0010011", "over=ori")
{
    /* A hint. */
}

INSN(prefetch_w, Zicbop, PREF, "....... 00011 ..... 110 00000 0010011", "over=ori")
{
    /* A hint. */
}
