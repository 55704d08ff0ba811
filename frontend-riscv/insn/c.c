/*
 * C and Zcb: compressed instructions. Each is a shorter form of another instruction, whose body it shares; the
 * format fills in the implied operands. Those of F and D are in f.c and d.c, c.ebreak in priv.c (unprivileged spec, chapters
 * "C" Extension, "Zc").
 */
#include "frontend-riscv/translate.h"

/* Quadrant 0. A word of zeros is illegal by c.addi4spn's rule. */
INSN_AS(c_addi4spn, addi, C, CIW, "000 ........ ... 00", "imm!=0");
INSN_AS(c_lw, lw, C, CLW, "010 ... ... .. ... 00");
INSN_AS(c_ld, ld, C, CLD, "011 ... ... .. ... 00", "rv64");
INSN_AS(c_sw, sw, C, CSW, "110 ... ... .. ... 00");
INSN_AS(c_sd, sd, C, CSD, "111 ... ... .. ... 00", "rv64");

/* Quadrant 1. */
INSN_AS(c_nop, addi, C, CN, "000 0 00000 00000 01", "over=c_addi");
INSN_AS(c_addi, addi, C, CI, "000 . ..... ..... 01");
INSN_AS(c_jal, jal, C, CJAL, "001 ........... 01", "rv32");
INSN_AS(c_addiw, addiw, C, CI, "001 . ..... ..... 01", "rv64", "rd!=0");
INSN_AS(c_li, addi, C, CLI, "010 . ..... ..... 01");
INSN_AS(c_addi16sp, addi, C, CI16SP, "011 . 00010 ..... 01", "imm!=0");
INSN_AS(c_lui, lui, C, CLUI, "011 . ..... ..... 01", "rd!=2", "imm!=0");
INSN_AS(c_srli, srli, C, CBSH, "100 . 00 ... ..... 01");
INSN_AS(c_srai, srai, C, CBSH, "100 . 01 ... ..... 01");
INSN_AS(c_andi, andi, C, CBI, "100 . 10 ... ..... 01");
INSN_AS(c_sub, sub, C, CA, "100 0 11 ... 00 ... 01");
INSN_AS(c_xor, xor, C, CA, "100 0 11 ... 01 ... 01");
INSN_AS(c_or, or, C, CA, "100 0 11 ... 10 ... 01");
INSN_AS(c_and, and, C, CA, "100 0 11 ... 11 ... 01");
INSN_AS(c_subw, subw, C, CA, "100 1 11 ... 00 ... 01", "rv64");
INSN_AS(c_addw, addw, C, CA, "100 1 11 ... 01 ... 01", "rv64");
INSN_AS(c_j, jal, C, CJ, "101 ........... 01");
INSN_AS(c_beqz, beq, C, CB, "110 ... ... ..... 01");
INSN_AS(c_bnez, bne, C, CB, "111 ... ... ..... 01");

/* Quadrant 2. */
INSN_AS(c_slli, slli, C, CISH, "000 . ..... ..... 10");
INSN_AS(c_lwsp, lw, C, CLWSP, "010 . ..... ..... 10", "rd!=0");
INSN_AS(c_ldsp, ld, C, CLDSP, "011 . ..... ..... 10", "rv64", "rd!=0");
INSN_AS(c_jr, jalr, C, CJR, "100 0 ..... 00000 10", "rs1!=0");
INSN_AS(c_mv, add, C, CMV, "100 0 ..... ..... 10", "rs2!=0");
INSN_AS(c_jalr, jalr, C, CJALR, "100 1 ..... 00000 10", "rs1!=0");
INSN_AS(c_add, add, C, CR, "100 1 ..... ..... 10", "rs2!=0");
INSN_AS(c_swsp, sw, C, CSWSP, "110 ...... ..... 10");
INSN_AS(c_sdsp, sd, C, CSDSP, "111 ...... ..... 10", "rv64");

/* Locality hints. */
INSN_AS(c_ntl_p1, ntl_p1, C&Zihintntl, CN, "100 1 00000 00010 10", "over=c_add");
INSN_AS(c_ntl_pall, ntl_pall, C&Zihintntl, CN, "100 1 00000 00011 10", "over=c_add");
INSN_AS(c_ntl_s1, ntl_s1, C&Zihintntl, CN, "100 1 00000 00100 10", "over=c_add");
INSN_AS(c_ntl_all, ntl_all, C&Zihintntl, CN, "100 1 00000 00101 10", "over=c_add");

/* Zcb. */
INSN_AS(c_lbu, lbu, Zcb, CLB, "100 000 ... .. ... 00");
INSN_AS(c_lhu, lhu, Zcb, CLH, "100 001 ... 0 . ... 00");
INSN_AS(c_lh, lh, Zcb, CLH, "100 001 ... 1 . ... 00");
INSN_AS(c_sb, sb, Zcb, CSB, "100 010 ... .. ... 00");
INSN_AS(c_sh, sh, Zcb, CSH, "100 011 ... 0 . ... 00");

INSN(c_zext_b, Zcb, CU, "100 111 ... 11 000 01")
{
    put(t, o->rd, zext8(t, get(t, o->rs1)));
}

INSN(c_sext_b, Zcb&Zbb, CU, "100 111 ... 11 001 01")
{
    put(t, o->rd, sext8(t, get(t, o->rs1)));
}

INSN(c_zext_h, Zcb&Zbb, CU, "100 111 ... 11 010 01")
{
    put(t, o->rd, zext16(t, get(t, o->rs1)));
}

INSN(c_sext_h, Zcb&Zbb, CU, "100 111 ... 11 011 01")
{
    put(t, o->rd, sext16(t, get(t, o->rs1)));
}

INSN(c_zext_w, Zcb&Zba, CU, "100 111 ... 11 100 01", "rv64")
{
    put(t, o->rd, zext32(t, get(t, o->rs1)));
}

INSN(c_not, Zcb, CU, "100 111 ... 11 101 01")
{
    put(t, o->rd, not(t, get(t, o->rs1)));
}

INSN_AS(c_mul, mul, Zcb&M, CA, "100 111 ... 10 ... 01");
