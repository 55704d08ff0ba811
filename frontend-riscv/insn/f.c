/*
 * F: single precision (unprivileged spec, chapter "F"), and the compressed loads and stores that
 * RV32 has for it.
 */
#include "frontend-riscv/insn/fp.h"

INSN(flw, F, FLOAD, "............ ..... 010 ..... 0000111")
{
    fp_load(t, o, IR_F32, 2);
}

INSN(fsw, F, FSTORE, "....... ..... ..... 010 ..... 0100111")
{
    fp_store(t, o, IR_F32, 2);
}

INSN(fmadd_s, F, FR4, "..... 00 ..... ..... ... ..... 1000011")
{
    fp_arith3(t, o, IR_fmadd, IR_F32);
}

INSN(fmsub_s, F, FR4, "..... 00 ..... ..... ... ..... 1000111")
{
    fp_arith3(t, o, IR_fmsub, IR_F32);
}

INSN(fnmsub_s, F, FR4, "..... 00 ..... ..... ... ..... 1001011")
{
    fp_arith3(t, o, IR_fnmsub, IR_F32);
}

INSN(fnmadd_s, F, FR4, "..... 00 ..... ..... ... ..... 1001111")
{
    fp_arith3(t, o, IR_fnmadd, IR_F32);
}

INSN(fadd_s, F, FRM, "0000000 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fadd, IR_F32);
}

INSN(fsub_s, F, FRM, "0000100 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fsub, IR_F32);
}

INSN(fmul_s, F, FRM, "0001000 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fmul, IR_F32);
}

INSN(fdiv_s, F, FRM, "0001100 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fdiv, IR_F32);
}

INSN(fsqrt_s, F, F1M, "0101100 00000 ..... ... ..... 1010011")
{
    fp_arith1(t, o, IR_fsqrt, IR_F32);
}

INSN(fsgnj_s, F, FR, "0010000 ..... ..... 000 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnj, IR_F32);
}

INSN(fsgnjn_s, F, FR, "0010000 ..... ..... 001 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnjn, IR_F32);
}

INSN(fsgnjx_s, F, FR, "0010000 ..... ..... 010 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnjx, IR_F32);
}

INSN(fmin_s, F, FR, "0010100 ..... ..... 000 ..... 1010011")
{
    fp_exact2(t, o, IR_fmin, IR_F32);
}

INSN(fmax_s, F, FR, "0010100 ..... ..... 001 ..... 1010011")
{
    fp_exact2(t, o, IR_fmax, IR_F32);
}

INSN(feq_s, F, XFF, "1010000 ..... ..... 010 ..... 1010011")
{
    fp_compare(t, o, IR_feq, IR_F32);
}

INSN(flt_s, F, XFF, "1010000 ..... ..... 001 ..... 1010011")
{
    fp_compare(t, o, IR_flt, IR_F32);
}

INSN(fle_s, F, XFF, "1010000 ..... ..... 000 ..... 1010011")
{
    fp_compare(t, o, IR_fle, IR_F32);
}

INSN(fclass_s, F, XF, "1110000 00000 ..... 001 ..... 1010011")
{
    fp_class(t, o, IR_F32);
}

INSN(fcvt_w_s, F, XFM, "1100000 00000 ..... ... ..... 1010011")
{
    fp_to_int(t, o, IR_F32, IR_CVT_32);
}

INSN(fcvt_wu_s, F, XFM, "1100000 00001 ..... ... ..... 1010011")
{
    fp_to_int(t, o, IR_F32, IR_CVT_32 | IR_CVT_UNSIGNED);
}

INSN(fcvt_l_s, F, XFM, "1100000 00010 ..... ... ..... 1010011", "rv64")
{
    fp_to_int(t, o, IR_F32, 0);
}

INSN(fcvt_lu_s, F, XFM, "1100000 00011 ..... ... ..... 1010011", "rv64")
{
    fp_to_int(t, o, IR_F32, IR_CVT_UNSIGNED);
}

INSN(fcvt_s_w, F, FXM, "1101000 00000 ..... ... ..... 1010011")
{
    fp_from_int(t, o, IR_F32, IR_CVT_32);
}

INSN(fcvt_s_wu, F, FXM, "1101000 00001 ..... ... ..... 1010011")
{
    fp_from_int(t, o, IR_F32, IR_CVT_32 | IR_CVT_UNSIGNED);
}

INSN(fcvt_s_l, F, FXM, "1101000 00010 ..... ... ..... 1010011", "rv64")
{
    fp_from_int(t, o, IR_F32, 0);
}

INSN(fcvt_s_lu, F, FXM, "1101000 00011 ..... ... ..... 1010011", "rv64")
{
    fp_from_int(t, o, IR_F32, IR_CVT_UNSIGNED);
}

INSN(fmv_x_w, F, XF, "1110000 00000 ..... 000 ..... 1010011")
{
    fp_guard(t, false);
    put(t, o->rd, sext32(t, get_f_bits(t, o->rs1)));
}

INSN(fmv_w_x, F, FX, "1111000 00000 ..... 000 ..... 1010011")
{
    fp_guard(t, false);
    put_f(t, IR_F32, o->rd, from_bits(t, IR_F32, IR_I32, get(t, o->rs1)));
}

INSN_AS(c_flw, flw, C&F, CFLW, "011 ... ... .. ... 00", "rv32");
INSN_AS(c_fsw, fsw, C&F, CFSW, "111 ... ... .. ... 00", "rv32");
INSN_AS(c_flwsp, flw, C&F, CFLWSP, "011 . ..... ..... 10", "rv32");
INSN_AS(c_fswsp, fsw, C&F, CFSWSP, "111 ...... ..... 10", "rv32");
