/*
 * Zfa: constants, IEEE 754-2019 minimum and maximum, rounding to integral values, quiet
 * comparisons, modular conversion (unprivileged spec, chapter "Zfa").
 */
#include "core/base/bits.h"
#include "core/base/softfloat.h"
#include "frontend-riscv/insn/fp.h"

/* The constants of fli. The smallest normal number and the canonical NaN depend on the format; what
 * a format can't hold becomes infinity. */
enum { FLI_MIN_NORMAL = 1, FLI_NAN = 31 };
static const double fli_values[32] = {
    -1.0, 0.0,    0x1p-16, 0x1p-15, 0x1p-8, 0x1p-7, 0.0625,          0.125,
    0.25, 0.3125, 0.375,   0.4375,  0.5,    0.625,  0.75,            0.875,
    1.0,  1.25,   1.5,     1.75,    2.0,    2.5,    3.0,             4.0,
    8.0,  16.0,   128.0,   256.0,   0x1p15, 0x1p16, __builtin_inf(), 0.0,
};

/* The f register's 64 bits for constant `n`: boxed. */
static u64 fli_bits(IrType type, unsigned n)
{
    SfFormat format = type == IR_F64 ? SF_F64 : type == IR_F32 ? SF_F32 : SF_F16;
    unsigned width = ir_type_bits(type);
    u64 v;
    if (n == FLI_MIN_NORMAL) {
        v = type == IR_F64 ? (u64)1 << 52 : type == IR_F32 ? (u64)1 << 23 : (u64)1 << 10;
    } else if (n == FLI_NAN) {
        v = sf_canonical_nan(format);
    } else {
        union {
            double d;
            u64 u;
        } value = {fli_values[n]};
        u32 flags = 0;
        v = type == IR_F64 ? value.u : sf_convert(SF_F64, format, value.u, SF_RNE, &flags);
    }
    return v | ~mask64(width);
}

static void fli(Tr *t, const Operands *o, IrType type)
{
    fp_guard(t, false);
    put_f(t, IR_F64, o->rd, from_bits(t, IR_F64, IR_I64, imm64(t, (s64)fli_bits(type, o->rs1))));
}

static void fround(Tr *t, const Operands *o, IrType type, u16 exact)
{
    fp_guard_rm(t, o);
    put_f(t, type, o->rd, fp1(t, IR_fround, type, o->rm | exact, get_f(t, type, o->rs1)));
}

INSN(fli_s, Zfa, FLI, "1111000 00001 ..... 000 ..... 1010011")
{
    fli(t, o, IR_F32);
}

INSN(fminm_s, Zfa, FR, "0010100 ..... ..... 010 ..... 1010011")
{
    fp_exact2(t, o, IR_fminm, IR_F32);
}

INSN(fmaxm_s, Zfa, FR, "0010100 ..... ..... 011 ..... 1010011")
{
    fp_exact2(t, o, IR_fmaxm, IR_F32);
}

INSN(fround_s, Zfa, F1M, "0100000 00100 ..... ... ..... 1010011")
{
    fround(t, o, IR_F32, 0);
}

INSN(froundnx_s, Zfa, F1M, "0100000 00101 ..... ... ..... 1010011")
{
    fround(t, o, IR_F32, IR_ROUND_EXACT);
}

INSN(fleq_s, Zfa, XFF, "1010000 ..... ..... 100 ..... 1010011")
{
    fp_compare(t, o, IR_fleq, IR_F32);
}

INSN(fltq_s, Zfa, XFF, "1010000 ..... ..... 101 ..... 1010011")
{
    fp_compare(t, o, IR_fltq, IR_F32);
}

INSN(fli_d, Zfa&D, FLI, "1111001 00001 ..... 000 ..... 1010011")
{
    fli(t, o, IR_F64);
}

INSN(fminm_d, Zfa&D, FR, "0010101 ..... ..... 010 ..... 1010011")
{
    fp_exact2(t, o, IR_fminm, IR_F64);
}

INSN(fmaxm_d, Zfa&D, FR, "0010101 ..... ..... 011 ..... 1010011")
{
    fp_exact2(t, o, IR_fmaxm, IR_F64);
}

INSN(fround_d, Zfa&D, F1M, "0100001 00100 ..... ... ..... 1010011")
{
    fround(t, o, IR_F64, 0);
}

INSN(froundnx_d, Zfa&D, F1M, "0100001 00101 ..... ... ..... 1010011")
{
    fround(t, o, IR_F64, IR_ROUND_EXACT);
}

INSN(fleq_d, Zfa&D, XFF, "1010001 ..... ..... 100 ..... 1010011")
{
    fp_compare(t, o, IR_fleq, IR_F64);
}

INSN(fltq_d, Zfa&D, XFF, "1010001 ..... ..... 101 ..... 1010011")
{
    fp_compare(t, o, IR_fltq, IR_F64);
}

INSN(fli_h, Zfa&Zfh, FLI, "1111010 00001 ..... 000 ..... 1010011")
{
    fli(t, o, IR_F16);
}

INSN(fminm_h, Zfa&Zfh, FR, "0010110 ..... ..... 010 ..... 1010011")
{
    fp_exact2(t, o, IR_fminm, IR_F16);
}

INSN(fmaxm_h, Zfa&Zfh, FR, "0010110 ..... ..... 011 ..... 1010011")
{
    fp_exact2(t, o, IR_fmaxm, IR_F16);
}

INSN(fround_h, Zfa&Zfh, F1M, "0100010 00100 ..... ... ..... 1010011")
{
    fround(t, o, IR_F16, 0);
}

INSN(froundnx_h, Zfa&Zfh, F1M, "0100010 00101 ..... ... ..... 1010011")
{
    fround(t, o, IR_F16, IR_ROUND_EXACT);
}

INSN(fleq_h, Zfa&Zfh, XFF, "1010010 ..... ..... 100 ..... 1010011")
{
    fp_compare(t, o, IR_fleq, IR_F16);
}

INSN(fltq_h, Zfa&Zfh, XFF, "1010010 ..... ..... 101 ..... 1010011")
{
    fp_compare(t, o, IR_fltq, IR_F16);
}

INSN(fcvtmod_w_d, Zfa&D, XFM, "1100001 01000 ..... 001 ..... 1010011")
{
    fp_guard(t, false);
    put(t, o->rd, ir_1(t->b, IR_fcvtmod, t->x, IR_F64, 0, get_f(t, IR_F64, o->rs1)));
}

INSN(fmvh_x_d, Zfa&D, XF, "1110001 00001 ..... 000 ..... 1010011", "rv32")
{
    fp_guard(t, false);
    put(t, o->rd, shr64(t, get_f_bits(t, o->rs1), imm64(t, 32)));
}

INSN(fmvp_d_x, Zfa&D, FXX, "1011001 ..... ..... 000 ..... 1010011", "rv32")
{
    fp_guard(t, false);
    IrValue low = ir_1(t->b, IR_zext32, IR_I64, IR_I64, 0, get(t, o->rs1));
    IrValue high = ir_1(t->b, IR_zext32, IR_I64, IR_I64, 0, get(t, o->rs2));
    IrValue both = or64(t, low, shl64(t, high, imm64(t, 32)));
    put_f(t, IR_F64, o->rd, from_bits(t, IR_F64, IR_I64, both));
}
