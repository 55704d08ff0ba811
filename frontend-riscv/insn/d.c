/*
 * D: double precision (unprivileged spec, chapter "D"), and the compressed loads and stores.
 */
#include "frontend-riscv/insn/fp.h"

INSN(fld, D, FLOAD, "............ ..... 011 ..... 0000111")
{
    fp_load(t, o, IR_F64, 3);
}

INSN(fsd, D, FSTORE, "....... ..... ..... 011 ..... 0100111")
{
    fp_store(t, o, IR_F64, 3);
}

INSN(fmadd_d, D, FR4, "..... 01 ..... ..... ... ..... 1000011")
{
    fp_arith3(t, o, IR_fmadd, IR_F64);
}

INSN(fmsub_d, D, FR4, "..... 01 ..... ..... ... ..... 1000111")
{
    fp_arith3(t, o, IR_fmsub, IR_F64);
}

INSN(fnmsub_d, D, FR4, "..... 01 ..... ..... ... ..... 1001011")
{
    fp_arith3(t, o, IR_fnmsub, IR_F64);
}

INSN(fnmadd_d, D, FR4, "..... 01 ..... ..... ... ..... 1001111")
{
    fp_arith3(t, o, IR_fnmadd, IR_F64);
}

INSN(fadd_d, D, FRM, "0000001 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fadd, IR_F64);
}

INSN(fsub_d, D, FRM, "0000101 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fsub, IR_F64);
}

INSN(fmul_d, D, FRM, "0001001 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fmul, IR_F64);
}

INSN(fdiv_d, D, FRM, "0001101 ..... ..... ... ..... 1010011")
{
    fp_arith2(t, o, IR_fdiv, IR_F64);
}

INSN(fsqrt_d, D, F1M, "0101101 00000 ..... ... ..... 1010011")
{
    fp_arith1(t, o, IR_fsqrt, IR_F64);
}

INSN(fsgnj_d, D, FR, "0010001 ..... ..... 000 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnj, IR_F64);
}

INSN(fsgnjn_d, D, FR, "0010001 ..... ..... 001 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnjn, IR_F64);
}

INSN(fsgnjx_d, D, FR, "0010001 ..... ..... 010 ..... 1010011")
{
    fp_exact2(t, o, IR_fsgnjx, IR_F64);
}

INSN(fmin_d, D, FR, "0010101 ..... ..... 000 ..... 1010011")
{
    fp_exact2(t, o, IR_fmin, IR_F64);
}

INSN(fmax_d, D, FR, "0010101 ..... ..... 001 ..... 1010011")
{
    fp_exact2(t, o, IR_fmax, IR_F64);
}

INSN(feq_d, D, XFF, "1010001 ..... ..... 010 ..... 1010011")
{
    fp_compare(t, o, IR_feq, IR_F64);
}

INSN(flt_d, D, XFF, "1010001 ..... ..... 001 ..... 1010011")
{
    fp_compare(t, o, IR_flt, IR_F64);
}

INSN(fle_d, D, XFF, "1010001 ..... ..... 000 ..... 1010011")
{
    fp_compare(t, o, IR_fle, IR_F64);
}

INSN(fclass_d, D, XF, "1110001 00000 ..... 001 ..... 1010011")
{
    fp_class(t, o, IR_F64);
}

INSN(fcvt_w_d, D, XFM, "1100001 00000 ..... ... ..... 1010011")
{
    fp_to_int(t, o, IR_F64, IR_CVT_32);
}

INSN(fcvt_wu_d, D, XFM, "1100001 00001 ..... ... ..... 1010011")
{
    fp_to_int(t, o, IR_F64, IR_CVT_32 | IR_CVT_UNSIGNED);
}

INSN(fcvt_l_d, D, XFM, "1100001 00010 ..... ... ..... 1010011", "rv64")
{
    fp_to_int(t, o, IR_F64, 0);
}

INSN(fcvt_lu_d, D, XFM, "1100001 00011 ..... ... ..... 1010011", "rv64")
{
    fp_to_int(t, o, IR_F64, IR_CVT_UNSIGNED);
}

INSN(fcvt_d_w, D, FXE, "1101001 00000 ..... ... ..... 1010011")
{
    fp_from_int(t, o, IR_F64, IR_CVT_32);
}

INSN(fcvt_d_wu, D, FXE, "1101001 00001 ..... ... ..... 1010011")
{
    fp_from_int(t, o, IR_F64, IR_CVT_32 | IR_CVT_UNSIGNED);
}

INSN(fcvt_d_l, D, FXM, "1101001 00010 ..... ... ..... 1010011", "rv64")
{
    fp_from_int(t, o, IR_F64, 0);
}

INSN(fcvt_d_lu, D, FXM, "1101001 00011 ..... ... ..... 1010011", "rv64")
{
    fp_from_int(t, o, IR_F64, IR_CVT_UNSIGNED);
}

INSN(fcvt_s_d, D, F1M, "0100000 00001 ..... ... ..... 1010011")
{
    fp_convert(t, o, IR_F32, IR_F64);
}

INSN(fcvt_d_s, D, F1E, "0100001 00000 ..... ... ..... 1010011")
{
    fp_convert(t, o, IR_F64, IR_F32);
}

INSN(fmv_x_d, D, XF, "1110001 00000 ..... 000 ..... 1010011", "rv64")
{
    fp_guard(t, false);
    put(t, o->rd, get_f_bits(t, o->rs1));
}

INSN(fmv_d_x, D, FX, "1111001 00000 ..... 000 ..... 1010011", "rv64")
{
    fp_guard(t, false);
    put_f(t, IR_F64, o->rd, from_bits(t, IR_F64, IR_I64, get(t, o->rs1)));
}

INSN_AS(c_fld, fld, C&D, CFLD, "001 ... ... .. ... 00");
INSN_AS(c_fsd, fsd, C&D, CFSD, "101 ... ... .. ... 00");
INSN_AS(c_fldsp, fld, C&D, CFLDSP, "001 . ..... ..... 10");
INSN_AS(c_fsdsp, fsd, C&D, CFSDSP, "101 ...... ..... 10");
