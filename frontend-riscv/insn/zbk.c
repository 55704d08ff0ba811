/*
 * Bit manipulation for cryptography: Zbkb and Zbkx; what they share with Zbb and Zbc is in zb.c (unprivileged spec,
 * chapter "Cryptography Extensions: Scalar & Entropy Source").
 */
#include "frontend-riscv/translate.h"

/* The low halves of two registers side by side. */

INSN(pack, Zbkb, R, "0000100 ..... ..... 100 ..... 0110011")
{
    unsigned half = xlen(t) / 2;
    IrValue low = half == 16 ? zext16(t, get(t, o->rs1)) : zext32(t, get(t, o->rs1));
    put(t, o->rd, or(t, low, shl(t, get(t, o->rs2), imm(t, half))));
}

INSN(packh, Zbkb, R, "0000100 ..... ..... 111 ..... 0110011")
{
    put(t, o->rd, or(t, zext8(t, get(t, o->rs1)), shl(t, zext8(t, get(t, o->rs2)), imm(t, 8))));
}

INSN(packw, Zbkb, R, "0000100 ..... ..... 100 ..... 0111011", "rv64")
{
    put_w(t, o->rd, or32(t, and32(t, get(t, o->rs1), imm32(t, 0xffff)), shl32(t, get(t, o->rs2), imm32(t, 16))));
}

INSN(brev8, Zbkb, R1, "0110100 00111 ..... 101 ..... 0010011")
{
    put(t, o->rd, brev8(t, get(t, o->rs1)));
}

/* Bit i of the low half goes to bit 2i, of the high half to bit 2i + 1. */
u64 helper_zip(CpuState *cpu G_GNUC_UNUSED, u64 a, u64 b G_GNUC_UNUSED, u64 c G_GNUC_UNUSED,
               u64 d G_GNUC_UNUSED)
{
    u32 r = 0;
    for (unsigned i = 0; i < 16; i++) {
        r |= (u32)(a >> i & 1) << (2 * i) | (u32)(a >> (i + 16) & 1) << (2 * i + 1);
    }
    return r;
}

u64 helper_unzip(CpuState *cpu G_GNUC_UNUSED, u64 a, u64 b G_GNUC_UNUSED, u64 c G_GNUC_UNUSED,
                 u64 d G_GNUC_UNUSED)
{
    u32 r = 0;
    for (unsigned i = 0; i < 16; i++) {
        r |= (u32)(a >> (2 * i) & 1) << i | (u32)(a >> (2 * i + 1) & 1) << (i + 16);
    }
    return r;
}

INSN(zip, Zbkb, R1, "0000100 01111 ..... 001 ..... 0010011", "rv32")
{
    put(t, o->rd, call(t, H_zip, get(t, o->rs1), IR_NONE, IR_NONE));
}

INSN(unzip, Zbkb, R1, "0000100 01111 ..... 101 ..... 0010011", "rv32")
{
    put(t, o->rd, call(t, H_unzip, get(t, o->rs1), IR_NONE, IR_NONE));
}

/* Zbkx: each lane of rs2 picks a lane of rs1. */

INSN(xperm4, Zbkx, R, "0010100 ..... ..... 010 ..... 0110011")
{
    put(t, o->rd, ir_2(t->b, IR_xperm, t->x, t->x, 4, get(t, o->rs1), get(t, o->rs2)));
}

INSN(xperm8, Zbkx, R, "0010100 ..... ..... 100 ..... 0110011")
{
    put(t, o->rd, ir_2(t->b, IR_xperm, t->x, t->x, 8, get(t, o->rs1), get(t, o->rs2)));
}
