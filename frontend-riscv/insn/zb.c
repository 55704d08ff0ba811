/*
 * Bit manipulation: Zba, Zbb, Zbc, Zbs (unprivileged spec, chapter "B" Extension for Bit Manipulation).
 */
#include "frontend-riscv/translate.h"

/* Zba: address generation. */

INSN(sh1add, Zba, R, "0010000 ..... ..... 010 ..... 0110011")
{
    put(t, o->rd, add(t, shl(t, get(t, o->rs1), imm(t, 1)), get(t, o->rs2)));
}

INSN(sh2add, Zba, R, "0010000 ..... ..... 100 ..... 0110011")
{
    put(t, o->rd, add(t, shl(t, get(t, o->rs1), imm(t, 2)), get(t, o->rs2)));
}

INSN(sh3add, Zba, R, "0010000 ..... ..... 110 ..... 0110011")
{
    put(t, o->rd, add(t, shl(t, get(t, o->rs1), imm(t, 3)), get(t, o->rs2)));
}

INSN(add_uw, Zba, R, "0000100 ..... ..... 000 ..... 0111011", "rv64")
{
    put(t, o->rd, add(t, zext32(t, get(t, o->rs1)), get(t, o->rs2)));
}

INSN(sh1add_uw, Zba, R, "0010000 ..... ..... 010 ..... 0111011", "rv64")
{
    put(t, o->rd, add(t, shl(t, zext32(t, get(t, o->rs1)), imm(t, 1)), get(t, o->rs2)));
}

INSN(sh2add_uw, Zba, R, "0010000 ..... ..... 100 ..... 0111011", "rv64")
{
    put(t, o->rd, add(t, shl(t, zext32(t, get(t, o->rs1)), imm(t, 2)), get(t, o->rs2)));
}

INSN(sh3add_uw, Zba, R, "0010000 ..... ..... 110 ..... 0111011", "rv64")
{
    put(t, o->rd, add(t, shl(t, zext32(t, get(t, o->rs1)), imm(t, 3)), get(t, o->rs2)));
}

INSN(slli_uw, Zba, SH, "000010 ...... ..... 001 ..... 0011011", "rv64")
{
    put(t, o->rd, shl(t, zext32(t, get(t, o->rs1)), imm(t, o->imm)));
}

/* Zbb: logic with a complement, rotations, minimum and maximum; the first two also in Zbkb. */

INSN(andn, Zbb|Zbkb, R, "0100000 ..... ..... 111 ..... 0110011")
{
    put(t, o->rd, andn(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(orn, Zbb|Zbkb, R, "0100000 ..... ..... 110 ..... 0110011")
{
    put(t, o->rd, orn(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(xnor, Zbb|Zbkb, R, "0100000 ..... ..... 100 ..... 0110011")
{
    put(t, o->rd, xnor(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(rol, Zbb|Zbkb, R, "0110000 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, rol(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(ror, Zbb|Zbkb, R, "0110000 ..... ..... 101 ..... 0110011")
{
    put(t, o->rd, ror(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(rori, Zbb|Zbkb, SH, "011000 ...... ..... 101 ..... 0010011")
{
    put(t, o->rd, ror(t, get(t, o->rs1), imm(t, o->imm)));
}

INSN(rolw, Zbb|Zbkb, R, "0110000 ..... ..... 001 ..... 0111011", "rv64")
{
    put_w(t, o->rd, rol32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(rorw, Zbb|Zbkb, R, "0110000 ..... ..... 101 ..... 0111011", "rv64")
{
    put_w(t, o->rd, ror32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(roriw, Zbb|Zbkb, SHW, "0110000 ..... ..... 101 ..... 0011011", "rv64")
{
    put_w(t, o->rd, ror32(t, get(t, o->rs1), imm32(t, o->imm)));
}

INSN(min, Zbb, R, "0000101 ..... ..... 100 ..... 0110011")
{
    put(t, o->rd, min(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(minu, Zbb, R, "0000101 ..... ..... 101 ..... 0110011")
{
    put(t, o->rd, minu(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(max, Zbb, R, "0000101 ..... ..... 110 ..... 0110011")
{
    put(t, o->rd, max(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(maxu, Zbb, R, "0000101 ..... ..... 111 ..... 0110011")
{
    put(t, o->rd, maxu(t, get(t, o->rs1), get(t, o->rs2)));
}

/* Counting, extending, bytes. */

INSN(clz, Zbb, R1, "0110000 00000 ..... 001 ..... 0010011")
{
    put(t, o->rd, clz(t, get(t, o->rs1)));
}

INSN(ctz, Zbb, R1, "0110000 00001 ..... 001 ..... 0010011")
{
    put(t, o->rd, ctz(t, get(t, o->rs1)));
}

INSN(cpop, Zbb, R1, "0110000 00010 ..... 001 ..... 0010011")
{
    put(t, o->rd, popcnt(t, get(t, o->rs1)));
}

INSN(sext_b, Zbb, R1, "0110000 00100 ..... 001 ..... 0010011")
{
    put(t, o->rd, sext8(t, get(t, o->rs1)));
}

INSN(sext_h, Zbb, R1, "0110000 00101 ..... 001 ..... 0010011")
{
    put(t, o->rd, sext16(t, get(t, o->rs1)));
}

INSN(clzw, Zbb, R1, "0110000 00000 ..... 001 ..... 0011011", "rv64")
{
    put_w(t, o->rd, clz32(t, get(t, o->rs1)));
}

INSN(ctzw, Zbb, R1, "0110000 00001 ..... 001 ..... 0011011", "rv64")
{
    put_w(t, o->rd, ctz32(t, get(t, o->rs1)));
}

INSN(cpopw, Zbb, R1, "0110000 00010 ..... 001 ..... 0011011", "rv64")
{
    put_w(t, o->rd, popcnt32(t, get(t, o->rs1)));
}

/* One instruction, two encodings: a row's id may end in __ and a word that is not part of the mnemonic. */

INSN(zext_h__32, Zbb, R1, "0000100 00000 ..... 100 ..... 0110011", "rv32", "over=pack")
{
    put(t, o->rd, zext16(t, get(t, o->rs1)));
}

INSN(zext_h__64, Zbb, R1, "0000100 00000 ..... 100 ..... 0111011", "rv64", "over=packw")
{
    put(t, o->rd, zext16(t, get(t, o->rs1)));
}

INSN(orc_b, Zbb, R1, "0010100 00111 ..... 101 ..... 0010011")
{
    put(t, o->rd, orcb(t, get(t, o->rs1)));
}

INSN(rev8__32, Zbb|Zbkb, R1, "0110100 11000 ..... 101 ..... 0010011", "rv32")
{
    put(t, o->rd, bswap(t, get(t, o->rs1)));
}

INSN(rev8__64, Zbb|Zbkb, R1, "0110101 11000 ..... 101 ..... 0010011", "rv64")
{
    put(t, o->rd, bswap(t, get(t, o->rs1)));
}

/* Zbc, Zbkc: carry-less multiplication. clmulr is the double-width product from bit XLEN - 1 on. */

INSN(clmul, Zbc|Zbkc, R, "0000101 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, clmul(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(clmulh, Zbc|Zbkc, R, "0000101 ..... ..... 011 ..... 0110011")
{
    put(t, o->rd, clmulh(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(clmulr, Zbc, R, "0000101 ..... ..... 010 ..... 0110011")
{
    IrValue a = get(t, o->rs1), b = get(t, o->rs2);
    IrValue high = shl(t, clmulh(t, a, b), imm(t, 1));
    put(t, o->rd, or(t, high, shr(t, clmul(t, a, b), imm(t, xlen(t) - 1))));
}

/* Zbs: single bits. */

static IrValue one_at(Tr *t, IrValue position)
{
    return shl(t, imm(t, 1), position);
}

/* 1 << n as an immediate, n below XLEN. */
static IrValue one_at_const(Tr *t, s32 n)
{
    return imm(t, is_rv32(t) ? (s32)(1u << n) : (s64)((u64)1 << n));
}

INSN(bset, Zbs, R, "0010100 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, or(t, get(t, o->rs1), one_at(t, get(t, o->rs2))));
}

INSN(bseti, Zbs, SH, "001010 ...... ..... 001 ..... 0010011")
{
    put(t, o->rd, or(t, get(t, o->rs1), one_at_const(t, o->imm)));
}

INSN(bclr, Zbs, R, "0100100 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, andn(t, get(t, o->rs1), one_at(t, get(t, o->rs2))));
}

INSN(bclri, Zbs, SH, "010010 ...... ..... 001 ..... 0010011")
{
    put(t, o->rd, andn(t, get(t, o->rs1), one_at_const(t, o->imm)));
}

INSN(binv, Zbs, R, "0110100 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, xor(t, get(t, o->rs1), one_at(t, get(t, o->rs2))));
}

INSN(binvi, Zbs, SH, "011010 ...... ..... 001 ..... 0010011")
{
    put(t, o->rd, xor(t, get(t, o->rs1), one_at_const(t, o->imm)));
}

INSN(bext, Zbs, R, "0100100 ..... ..... 101 ..... 0110011")
{
    put(t, o->rd, and(t, shr(t, get(t, o->rs1), get(t, o->rs2)), imm(t, 1)));
}

INSN(bexti, Zbs, SH, "010010 ...... ..... 101 ..... 0010011")
{
    put(t, o->rd, and(t, shr(t, get(t, o->rs1), imm(t, o->imm)), imm(t, 1)));
}
