/* Zicond: a register or zero, by whether another is zero (unprivileged spec, chapter "Zicond"). */
#include "frontend-riscv/translate.h"

INSN(czero_eqz, Zicond, R, "0000111 ..... ..... 101 ..... 0110011")
{
    IrValue a = get(t, o->rs1);
    put(t, o->rd, choose(t, get(t, o->rs2), a, imm(t, 0)));
}

INSN(czero_nez, Zicond, R, "0000111 ..... ..... 111 ..... 0110011")
{
    IrValue a = get(t, o->rs1);
    put(t, o->rd, choose(t, get(t, o->rs2), imm(t, 0), a));
}
