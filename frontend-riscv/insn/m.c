/*
 * M: multiplication and division. Division by zero and overflow have defined results and never trap; the IR's
 * operations have RISC-V's (unprivileged spec, chapter "M" Extension).
 */
#include "frontend-riscv/translate.h"

INSN(mul, M, R, "0000001 ..... ..... 000 ..... 0110011")
{
    put(t, o->rd, mul(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(mulh, M, R, "0000001 ..... ..... 001 ..... 0110011")
{
    put(t, o->rd, mulhs(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(mulhsu, M, R, "0000001 ..... ..... 010 ..... 0110011")
{
    put(t, o->rd, mulhsu(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(mulhu, M, R, "0000001 ..... ..... 011 ..... 0110011")
{
    put(t, o->rd, mulhu(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(div, M, R, "0000001 ..... ..... 100 ..... 0110011")
{
    put(t, o->rd, divs(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(divu, M, R, "0000001 ..... ..... 101 ..... 0110011")
{
    put(t, o->rd, divu(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(rem, M, R, "0000001 ..... ..... 110 ..... 0110011")
{
    put(t, o->rd, rems(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(remu, M, R, "0000001 ..... ..... 111 ..... 0110011")
{
    put(t, o->rd, remu(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(mulw, M, R, "0000001 ..... ..... 000 ..... 0111011", "rv64")
{
    put_w(t, o->rd, mul32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(divw, M, R, "0000001 ..... ..... 100 ..... 0111011", "rv64")
{
    put_w(t, o->rd, divs32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(divuw, M, R, "0000001 ..... ..... 101 ..... 0111011", "rv64")
{
    put_w(t, o->rd, divu32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(remw, M, R, "0000001 ..... ..... 110 ..... 0111011", "rv64")
{
    put_w(t, o->rd, rems32(t, get(t, o->rs1), get(t, o->rs2)));
}

INSN(remuw, M, R, "0000001 ..... ..... 111 ..... 0111011", "rv64")
{
    put_w(t, o->rd, remu32(t, get(t, o->rs1), get(t, o->rs2)));
}
