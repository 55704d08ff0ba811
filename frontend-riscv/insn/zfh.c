/*
 * Zfh and its subset Zfhmin (moves and conversions only): half precision (unprivileged spec,
 * chapters "Zfh", "Zfhmin").
 */
#include "frontend-riscv/insn/fp.h"

INSN(flh, Zfhmin, FLOAD, "............ ..... 001 ..... 0000111")
{
    fp_load(t, o, IR_F16, 1);
}

INSN(fsh, Zfhmin, FSTORE, "....... ..... ..... 001 ..... 0100111")
{
    fp_store(t, o, IR_F16, 1);
}

INSN(fmadd_h, Zfh, FR4, "..... 10 ..... ..... ... ..... 1000011")
{
    fp_arith3(t, o, IR_fmadd, IR_F16);
}

INSN(fmsub_h, Zfh, FR4, "..... 10 ..... ..... ... ..... 1000111")
{
    fp_arith3(t, o, IR_fmsub, IR_F16);
}

INSN(fnmsub_h, Zfh, FR4, "..... 10 ..... ..... ... ..... 1001011")
{
    fp_arith3(t, o, IR_fnmsub, IR_F16);
}

INSN(fnmadd_h, Zfh, FR4, "..... 10 ..... ..... ... ..... 1001111")
{
    fp_arith3(t, o, IR_fnmadd, IR_F16);
}

INSN(fadd_h, Zfh, FRM, "0000010 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fadd, IR_F16);
}

INSN(fsub_h, Zfh, FRM, "0000110 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fsub, IR_F16);
}

INSN(fmul_h, Zfh, FRM, "0001010 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fmul, IR_F16);
}

INSN(fdiv_h, Zfh, FRM, "0001110 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fdiv, IR_F16);
}

INSN(fsqrt_h, Zfh, F1M, "0101110 00000 ..... ... ..... 1010011")
{
    fp_arith1(t, o, IR_fsqrt, IR_F16);
}

INSN(fsgnj_h, Zfh, FR, "0010010 ..... ..... 000 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnj, IR_F16);
}

INSN(fsgnjn_h, Zfh, FR, "0010010 ..... ..... 001 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnjn, IR_F16);
}

INSN(fsgnjx_h, Zfh, FR, "0010010 ..... ..... 010 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnjx, IR_F16);
}

INSN(fmin_h, Zfh, FR, "0010110 ..... ..... 000 ..... 1010011")
{
    fp_exact2(t, o, IR_fmin, IR_F16);
}

INSN(fmax_h, Zfh, FR, "0010110 ..... ..... 001 ..... 1010011")
{
    fp_exact2(t, o, IR_fmax, IR_F16);
}

INSN(feq_h, Zfh, XFF, "1010010 ..... ..... 010 ..... 1010011")
{
    fp_compare(t, o, IR_feq, IR_F16);
}

INSN(flt_h, Zfh, XFF, "1010010 ..... ..... 001 ..... 1010011")
{
    fp_compare(t, o, IR_flt, IR_F16);
}

INSN(fle_h, Zfh, XFF, "1010010 ..... ..... 000 ..... 1010011")
{
    fp_compare(t, o, IR_fle, IR_F16);
}

INSN(fclass_h, Zfh, XF, "1110010 00000 ..... 001 ..... 1010011")
{
    fp_class(t, o, IR_F16);
}

INSN(fcvt_w_h, Zfh, XFM, "1100010 00000 ..... ... ..... 1010011")
{
    fp_to_int(t, o, IR_F16, IR_CVT_32);
}

INSN(fcvt_wu_h, Zfh, XFM, "1100010 00001 ..... ... ..... 1010011")
{
    fp_to_int(t, o, IR_F16, IR_CVT_32 | IR_CVT_UNSIGNED);
}

INSN(fcvt_l_h, Zfh, XFM, "1100010 00010 ..... ... ..... 1010011", "rv64")
{
    fp_to_int(t, o, IR_F16, 0);
}

INSN(fcvt_lu_h, Zfh, XFM, "1100010 00011 ..... ... ..... 1010011", "rv64")
{
    fp_to_int(t, o, IR_F16, IR_CVT_UNSIGNED);
}

INSN(fcvt_h_w, Zfh, FXM, "1101010 00000 ..... ... ..... 1010011")
{
    fp_from_int(t, o, IR_F16, IR_CVT_32);
}

INSN(fcvt_h_wu, Zfh, FXM, "1101010 00001 ..... ... ..... 1010011")
{
    fp_from_int(t, o, IR_F16, IR_CVT_32 | IR_CVT_UNSIGNED);
}

INSN(fcvt_h_l, Zfh, FXM, "1101010 00010 ..... ... ..... 1010011", "rv64")
{
    fp_from_int(t, o, IR_F16, 0);
}

INSN(fcvt_h_lu, Zfh, FXM, "1101010 00011 ..... ... ..... 1010011", "rv64")
{
    fp_from_int(t, o, IR_F16, IR_CVT_UNSIGNED);
}

INSN(fcvt_s_h, Zfhmin, F1E, "0100000 00010 ..... ... ..... 1010011")
{
    fp_convert(t, o, IR_F32, IR_F16);
}

INSN(fcvt_h_s, Zfhmin, F1M, "0100010 00000 ..... ... ..... 1010011")
{
    fp_convert(t, o, IR_F16, IR_F32);
}

INSN(fcvt_d_h, Zfhmin&D, F1E, "0100001 00010 ..... ... ..... 1010011")
{
    fp_convert(t, o, IR_F64, IR_F16);
}

INSN(fcvt_h_d, Zfhmin&D, F1M, "0100010 00001 ..... ... ..... 1010011")
{
    fp_convert(t, o, IR_F16, IR_F64);
}

INSN(fmv_x_h, Zfhmin, XF, "1110010 00000 ..... 000 ..... 1010011")
{
    fp_guard(t, false);
    put(t, o->rd, sext16(t, get_f_bits(t, o->rs1)));
}

INSN(fmv_h_x, Zfhmin, FX, "1111010 00000 ..... 000 ..... 1010011")
{
    fp_guard(t, false);
    put_f(t, IR_F16, o->rd, from_bits(t, IR_F16, IR_I32, get(t, o->rs1)));
}
