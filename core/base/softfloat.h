/*
 * IEEE 754 binary floating point in integer arithmetic, with RISC-V's choices where the standard
 * leaves one open.
 *
 * This is the reference for floating point: the IR interpreter computes with it, generated code
 * calls it for what the host's SSE can't do (round to nearest with ties away, half precision), and
 * tests hold the fast paths to it. It never touches the host's floating-point state, so it may be
 * called with any MXCSR, from any thread; it keeps no state.
 *
 * Values are raw bit patterns in the low 16, 32 or 64 bits of a u64. Bits above the format's width
 * are ignored in operands (NaN boxing is the caller's) and zero in results.
 *
 * What RISC-V chooses (unprivileged spec, chapters F, D, Zfh, Zfa):
 *  - an operation that yields a NaN yields the canonical NaN: positive, quiet, payload zero;
 *  - tininess is detected after rounding; underflow is raised when a result is tiny and inexact;
 *  - a fused multiply-add of infinity and zero is invalid even if the addend is a quiet NaN;
 *  - conversions to integers saturate, a NaN becomes the largest integer, and invalid replaces
 *    inexact.
 *
 * `flags` points to exception flags in the layout of fflags; what an operation raises is or-ed in,
 * nothing is cleared.
 */
#ifndef STAG_CORE_BASE_SOFTFLOAT_H
#define STAG_CORE_BASE_SOFTFLOAT_H

#include "core/base/types.h"

typedef enum { SF_F16, SF_F32, SF_F64 } SfFormat;

/* Rounding modes, numbered as in the rm field and frm. Callers resolve "dynamic" and trap on
 * reserved modes first. */
enum {
    SF_RNE = 0, /* to nearest, ties to even */
    SF_RTZ = 1, /* towards zero */
    SF_RDN = 2, /* down */
    SF_RUP = 3, /* up */
    SF_RMM = 4, /* to nearest, ties away from zero */
};

/* Exception flags, as in fflags. */
enum {
    SF_NX = 1,  /* inexact */
    SF_UF = 2,  /* underflow */
    SF_OF = 4,  /* overflow */
    SF_DZ = 8,  /* divide by zero */
    SF_NV = 16, /* invalid operation */
};

/* The canonical NaN: 0x7e00, 0x7fc00000 or 0x7ff8000000000000. */
u64 sf_canonical_nan(SfFormat f);

/* a + b, a - b, a * b, a / b, the square root of a, and a * b + c with one rounding. The negated
 * forms of the fused operation are had by flipping the sign bits of a and c beforehand. */
u64 sf_add(SfFormat f, u64 a, u64 b, int rm, u32 *flags);
u64 sf_sub(SfFormat f, u64 a, u64 b, int rm, u32 *flags);
u64 sf_mul(SfFormat f, u64 a, u64 b, int rm, u32 *flags);
u64 sf_div(SfFormat f, u64 a, u64 b, int rm, u32 *flags);
u64 sf_sqrt(SfFormat f, u64 a, int rm, u32 *flags);
u64 sf_fma(SfFormat f, u64 a, u64 b, u64 c, int rm, u32 *flags);

/* minimumNumber and maximumNumber of IEEE 754-2019 (fmin, fmax): one NaN yields the other operand,
 * two the canonical NaN. -0 is below +0. A signalling NaN raises NV. */
u64 sf_min(SfFormat f, u64 a, u64 b, u32 *flags);
u64 sf_max(SfFormat f, u64 a, u64 b, u32 *flags);

/* minimum and maximum (Zfa fminm, fmaxm): as above, but any NaN yields the canonical NaN. */
u64 sf_minm(SfFormat f, u64 a, u64 b, u32 *flags);
u64 sf_maxm(SfFormat f, u64 a, u64 b, u32 *flags);

/* Comparisons, 1 or 0; with a NaN always 0. sf_lt and sf_le raise NV for any NaN; sf_eq and Zfa's
 * sf_ltq and sf_leq only for a signalling one. */
u64 sf_eq(SfFormat f, u64 a, u64 b, u32 *flags);
u64 sf_lt(SfFormat f, u64 a, u64 b, u32 *flags);
u64 sf_le(SfFormat f, u64 a, u64 b, u32 *flags);
u64 sf_ltq(SfFormat f, u64 a, u64 b, u32 *flags);
u64 sf_leq(SfFormat f, u64 a, u64 b, u32 *flags);

/* a in another format (fcvt.s.d and the like). A NaN becomes the canonical one. */
u64 sf_convert(SfFormat from, SfFormat to, u64 a, int rm, u32 *flags);

/* a as an integer of `width` bits, 32 or 64 (fcvt.w, fcvt.wu, fcvt.l, fcvt.lu). Out of range
 * saturates with NV alone. A 32-bit result is sign-extended to 64 bits even if it is unsigned, as
 * RV64 keeps it in a register. */
u64 sf_to_int(SfFormat f, u64 a, int width, bool is_signed, int rm, u32 *flags);

/* The integer in the low `width` bits, 32 or 64, of a, as a float. */
u64 sf_from_int(SfFormat f, u64 a, int width, bool is_signed, int rm, u32 *flags);

/* a rounded to an integral value, still a float (Zfa fround; with `exact` NX is raised if that
 * changed it: froundnx). */
u64 sf_round_to_int(SfFormat f, u64 a, int rm, bool exact, u32 *flags);

/* Zfa fcvtmod.w.d: the double a towards zero, modulo 2^32, sign-extended; 0 for infinities and
 * NaNs. Flags are those of fcvt.w.d. */
u64 sf_cvtmod_w_d(u64 a, u32 *flags);

/* The class of a as fclass's one-hot mask: bits 0 to 9 are -inf, -normal, -subnormal, -0, +0,
 * +subnormal, +normal, +inf, signalling NaN, quiet NaN. */
u32 sf_classify(SfFormat f, u64 a);

#endif
