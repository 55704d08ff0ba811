/*
 * Soft float: one implementation for all formats.
 *
 * Every operation unpacks its operands into one form, computes there, and packs the result. The
 * form of a finite, non-zero number is
 *
 *     (-1)^sign * sig * 2^(exp - TOP)        with 2^TOP <= sig < 2^(TOP + 1)
 *
 * so sig is the significand 1.xxx as a fixed-point number, and subnormals look like any other
 * number. sig has 128 bits, TOP is 125: the two bits above take the carries of an addition or a
 * product. A product of two doubles has 106 bits and is exact in it, which makes a fused
 * multiply-add a multiplication and an addition.
 *
 * A result that doesn't fit is "jammed": if any bit that was dropped below bit 0 was 1, bit 0 is 1.
 * Rounding needs to know only whether the rest is zero, below half, half, or above half, and no
 * format's last place is anywhere near bit 0, so a jammed significand rounds as the exact one
 * would.
 *
 * All rounding happens in round_sig, all range handling (subnormal, underflow, overflow) in pack.
 */
#include "core/base/softfloat.h"

enum { TOP = 125 };

typedef struct {
    int exp_bits;
    int frac_bits;
} Layout;

static const Layout layouts[] = {
    [SF_F16] = {5, 10},
    [SF_F32] = {8, 23},
    [SF_F64] = {11, 52},
};

typedef enum { ZERO, FINITE, INFINITE, QUIET_NAN, SIGNALLING_NAN } Kind;

typedef struct {
    Kind kind;
    bool sign;
    int exp; /* exp and sig only mean something if kind is FINITE */
    u128 sig;
} Unpacked;

/* ---- Raw patterns ---- */

static u64 sign_mask(const Layout *l)
{
    return 1ull << (l->exp_bits + l->frac_bits);
}

static u64 frac_mask(const Layout *l)
{
    return (1ull << l->frac_bits) - 1;
}

static int exp_max(const Layout *l)
{
    return (1 << l->exp_bits) - 1;
}

static int bias(const Layout *l)
{
    return exp_max(l) >> 1;
}

static u64 pack_zero(const Layout *l, bool sign)
{
    return sign ? sign_mask(l) : 0;
}

static u64 pack_inf(const Layout *l, bool sign)
{
    return pack_zero(l, sign) | ((u64)exp_max(l) << l->frac_bits);
}

static u64 pack_nan(const Layout *l)
{
    return pack_inf(l, false) | (1ull << (l->frac_bits - 1));
}

/* ---- Significands ---- */

/* Shifts right by n >= 0; bit 0 of the result also says whether any 1 was shifted out. */
static u128 shift_right_jam(u128 sig, int n)
{
    if (n == 0) {
        return sig;
    }
    if (n > 127) {
        return sig != 0;
    }
    return (sig >> n) | ((sig << (128 - n)) != 0);
}

/* Moves the leading 1 of a non-zero significand to TOP, keeping the value. */
static void normalise(Unpacked *u)
{
    u64 high = (u64)(u->sig >> 64);
    int lead = high ? 127 - __builtin_clzll(high) : 63 - __builtin_clzll((u64)u->sig);
    if (lead > TOP) {
        u->sig = shift_right_jam(u->sig, lead - TOP);
    } else {
        u->sig <<= TOP - lead;
    }
    u->exp += lead - TOP;
}

/* Divides by 2^drop, 1 <= drop <= 127, and rounds to an integer. */
static u128 round_sig(u128 sig, int drop, bool sign, int rm, bool *inexact)
{
    u128 half = (u128)1 << (drop - 1);
    u128 rest = sig & (half | (half - 1));
    u128 kept = sig >> drop;
    bool up;

    *inexact = rest != 0;
    switch (rm) {
    case SF_RTZ:
        up = false;
        break;
    case SF_RDN:
        up = sign && rest;
        break;
    case SF_RUP:
        up = !sign && rest;
        break;
    case SF_RMM:
        up = rest >= half;
        break;
    default:
        up = rest > half || (rest == half && (kept & 1));
        break;
    }
    return kept + up;
}

/* ---- Unpack and pack ---- */

static Unpacked unpack(const Layout *l, u64 a)
{
    Unpacked u = {.sign = (a & sign_mask(l)) != 0};
    int exp = (int)(a >> l->frac_bits) & exp_max(l);
    u64 frac = a & frac_mask(l);

    if (exp == exp_max(l)) {
        if (!frac) {
            u.kind = INFINITE;
        } else {
            u.kind = frac >> (l->frac_bits - 1) ? QUIET_NAN : SIGNALLING_NAN;
        }
    } else if (exp) {
        u.kind = FINITE;
        u.exp = exp - bias(l);
        u.sig = (u128)(frac | (1ull << l->frac_bits)) << (TOP - l->frac_bits);
    } else if (frac) {
        u.kind = FINITE;
        u.exp = 1 - bias(l);
        u.sig = (u128)frac << (TOP - l->frac_bits);
        normalise(&u);
    } else {
        u.kind = ZERO;
    }
    return u;
}

/* Rounds u, which is not a NaN, to the format. */
static u64 pack(const Layout *l, Unpacked u, int rm, u32 *flags)
{
    if (u.kind == ZERO) {
        return pack_zero(l, u.sign);
    }
    if (u.kind == INFINITE) {
        return pack_inf(l, u.sign);
    }

    int drop = TOP - l->frac_bits;
    int exp = u.exp + bias(l);
    bool inexact;
    u64 kept;
    if (exp >= 1) {
        kept = (u64)round_sig(u.sig, drop, u.sign, rm, &inexact);
    } else {
        /* Tiny after rounding: would still be below the smallest normal number if the exponent had
         * no lower bound. Just below it, that is a question of whether rounding carries into the
         * next power of two. */
        u128 two = (u128)2 << l->frac_bits;
        bool tiny = exp < 0 || round_sig(u.sig, drop, u.sign, rm, &inexact) < two;
        kept = (u64)round_sig(shift_right_jam(u.sig, 1 - exp), drop, u.sign, rm, &inexact);
        if (tiny && inexact) {
            *flags |= SF_UF;
        }
        exp = 1;
    }

    /* The integer bit of kept adds 1 to the exponent field; so does a carry out of the fraction.
     * Without an integer bit the number is subnormal, and its field is 0. */
    u64 magnitude = ((u64)(exp - 1) << l->frac_bits) + kept;
    if (exp >= exp_max(l) || magnitude >= pack_inf(l, false)) {
        *flags |= SF_OF | SF_NX;
        bool to_inf = rm == SF_RNE || rm == SF_RMM || rm == (u.sign ? SF_RDN : SF_RUP);
        return to_inf ? pack_inf(l, u.sign) : pack_inf(l, u.sign) - 1;
    }
    if (inexact) {
        *flags |= SF_NX;
    }
    return pack_zero(l, u.sign) | magnitude;
}

/* ---- NaNs ---- */

static bool is_nan(Unpacked u)
{
    return u.kind >= QUIET_NAN;
}

static bool any_nan(Unpacked a, Unpacked b)
{
    return is_nan(a) || is_nan(b);
}

static void raise_if_signalling(Unpacked u, u32 *flags)
{
    if (u.kind == SIGNALLING_NAN) {
        *flags |= SF_NV;
    }
}

static u64 invalid(const Layout *l, u32 *flags)
{
    *flags |= SF_NV;
    return pack_nan(l);
}

u64 sf_canonical_nan(SfFormat f)
{
    return pack_nan(&layouts[f]);
}

/* ---- Arithmetic ---- */

/* The product of two operands that are neither NaNs nor zero times infinity; finite products are
 * exact. */
static Unpacked multiply(Unpacked a, Unpacked b)
{
    Unpacked r = {.sign = a.sign != b.sign};
    if (a.kind == INFINITE || b.kind == INFINITE) {
        r.kind = INFINITE;
    } else if (a.kind == ZERO || b.kind == ZERO) {
        r.kind = ZERO;
    } else {
        /* Operands straight from unpack have no bits below bit 73: the upper halves are all there
         * is. */
        enum { CUT = TOP - 63 };
        r.kind = FINITE;
        r.sig = (u128)(u64)(a.sig >> CUT) * (u64)(b.sig >> CUT);
        r.exp = a.exp + b.exp + TOP - 126;
        normalise(&r);
    }
    return r;
}

/* The sum of two operands that are neither NaNs nor opposite infinities. */
static Unpacked sum(Unpacked a, Unpacked b, int rm)
{
    if (a.kind == INFINITE || b.kind == ZERO) {
        if (a.kind == ZERO && a.sign != b.sign) {
            a.sign = rm == SF_RDN;
        }
        return a;
    }
    if (b.kind == INFINITE || a.kind == ZERO) {
        return b;
    }

    if (a.exp < b.exp) {
        Unpacked t = a;
        a = b;
        b = t;
    }
    b.sig = shift_right_jam(b.sig, a.exp - b.exp);
    if (a.sign == b.sign) {
        a.sig += b.sig;
    } else if (a.sig > b.sig) {
        a.sig -= b.sig;
    } else if (a.sig < b.sig) {
        a.sig = b.sig - a.sig;
        a.sign = b.sign;
    } else {
        a.kind = ZERO;
        a.sign = rm == SF_RDN;
        return a;
    }
    normalise(&a);
    return a;
}

static bool opposite_infinities(Unpacked a, Unpacked b)
{
    return a.kind == INFINITE && b.kind == INFINITE && a.sign != b.sign;
}

static bool zero_times_infinity(Unpacked a, Unpacked b)
{
    return (a.kind == ZERO && b.kind == INFINITE) || (a.kind == INFINITE && b.kind == ZERO);
}

u64 sf_add(SfFormat f, u64 a, u64 b, int rm, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a), y = unpack(l, b);

    raise_if_signalling(x, flags);
    raise_if_signalling(y, flags);
    if (any_nan(x, y)) {
        return pack_nan(l);
    }
    if (opposite_infinities(x, y)) {
        return invalid(l, flags);
    }
    return pack(l, sum(x, y, rm), rm, flags);
}

u64 sf_sub(SfFormat f, u64 a, u64 b, int rm, u32 *flags)
{
    return sf_add(f, a, b ^ sign_mask(&layouts[f]), rm, flags);
}

u64 sf_mul(SfFormat f, u64 a, u64 b, int rm, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a), y = unpack(l, b);

    raise_if_signalling(x, flags);
    raise_if_signalling(y, flags);
    if (any_nan(x, y)) {
        return pack_nan(l);
    }
    if (zero_times_infinity(x, y)) {
        return invalid(l, flags);
    }
    return pack(l, multiply(x, y), rm, flags);
}

u64 sf_fma(SfFormat f, u64 a, u64 b, u64 c, int rm, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a), y = unpack(l, b), z = unpack(l, c);

    raise_if_signalling(x, flags);
    raise_if_signalling(y, flags);
    raise_if_signalling(z, flags);
    if (zero_times_infinity(x, y)) {
        return invalid(l, flags);
    }
    if (any_nan(x, y) || is_nan(z)) {
        return pack_nan(l);
    }
    Unpacked product = multiply(x, y);
    if (opposite_infinities(product, z)) {
        return invalid(l, flags);
    }
    return pack(l, sum(product, z, rm), rm, flags);
}

u64 sf_div(SfFormat f, u64 a, u64 b, int rm, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a), y = unpack(l, b);
    bool sign = x.sign != y.sign;

    raise_if_signalling(x, flags);
    raise_if_signalling(y, flags);
    if (any_nan(x, y)) {
        return pack_nan(l);
    }
    if (x.kind == y.kind && x.kind != FINITE) {
        return invalid(l, flags); /* 0/0, inf/inf */
    }
    if (x.kind == INFINITE) {
        return pack_inf(l, sign);
    }
    if (x.kind == ZERO || y.kind == INFINITE) {
        return pack_zero(l, sign);
    }
    if (y.kind == ZERO) {
        *flags |= SF_DZ;
        return pack_inf(l, sign);
    }

    /* A divisor of 64 bits gives a quotient of 62 or 63: enough for any format, and the remainder
     * jams it. */
    enum { CUT = TOP - 63 };
    u64 divisor = (u64)(y.sig >> CUT);
    u64 quotient = (u64)(x.sig / divisor);
    bool rest = (u128)quotient * divisor != x.sig;
    Unpacked r = {
        .kind = FINITE, .sign = sign, .exp = x.exp - y.exp + TOP - CUT, .sig = quotient | rest};
    normalise(&r);
    return pack(l, r, rm, flags);
}

u64 sf_sqrt(SfFormat f, u64 a, int rm, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a);

    raise_if_signalling(x, flags);
    if (is_nan(x)) {
        return pack_nan(l);
    }
    if (x.kind == ZERO) {
        return pack_zero(l, x.sign);
    }
    if (x.sign) {
        return invalid(l, flags);
    }
    if (x.kind == INFINITE) {
        return pack_inf(l, false);
    }

    /* One bit of the root for every two bits of the radicand, most significant first, as by hand:
     * root^2 + rest is always the part of the radicand seen so far. The radicand has its point
     * after the first two bits, which hold 1 to 3, so the root starts with a 1. It ends with one
     * bit more than the format has; by then the radicand is used up, and the rest jams it. Bits of
     * a root are as good as random, so there is no branch on them. */
    u128 radicand = x.sig << ((x.exp & 1) + 1);
    int bits = l->frac_bits + 2;
    u64 root = 0, rest = 0;
    for (int i = 0; i < bits; i++) {
        rest = rest << 2 | (u64)(radicand >> 126);
        radicand <<= 2;
        u64 trial = root << 2 | 1;
        u64 fits = rest >= trial;
        rest -= trial & -fits;
        root = root << 1 | fits;
    }
    Unpacked r = {.kind = FINITE, .exp = (x.exp - (x.exp & 1)) / 2};
    r.sig = (u128)root << (TOP + 1 - bits) | (rest != 0);
    return pack(l, r, rm, flags);
}

/* ---- Comparisons ---- */

/* Orders patterns that are not NaNs as integers: -0 comes right before +0. */
static s64 order(const Layout *l, u64 a)
{
    s64 magnitude = (s64)(a & (sign_mask(l) - 1));
    return a & sign_mask(l) ? -1 - magnitude : magnitude;
}

static u64 select_number(SfFormat f, u64 a, u64 b, bool larger, bool keep_nan, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a), y = unpack(l, b);
    u64 all = sign_mask(l) * 2 - 1;

    raise_if_signalling(x, flags);
    raise_if_signalling(y, flags);
    if (any_nan(x, y)) {
        if (keep_nan || (is_nan(x) && is_nan(y))) {
            return pack_nan(l);
        }
        return (is_nan(x) ? b : a) & all;
    }
    return ((order(l, a) > order(l, b)) == larger ? a : b) & all;
}

u64 sf_min(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return select_number(f, a, b, false, false, flags);
}

u64 sf_max(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return select_number(f, a, b, true, false, flags);
}

u64 sf_minm(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return select_number(f, a, b, false, true, flags);
}

u64 sf_maxm(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return select_number(f, a, b, true, true, flags);
}

enum { LESS = 1, EQUAL = 2 };

/* Whether a stands to b in one of the relations `accept`. */
static u64 compare(SfFormat f, u64 a, u64 b, int accept, bool quiet, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a), y = unpack(l, b);

    if (any_nan(x, y)) {
        if (!quiet) {
            *flags |= SF_NV;
        }
        raise_if_signalling(x, flags);
        raise_if_signalling(y, flags);
        return 0;
    }
    s64 i = order(l, a), j = order(l, b);
    if (i == j || (x.kind == ZERO && y.kind == ZERO)) {
        return (accept & EQUAL) != 0;
    }
    return i < j && (accept & LESS);
}

u64 sf_eq(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return compare(f, a, b, EQUAL, true, flags);
}

u64 sf_lt(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return compare(f, a, b, LESS, false, flags);
}

u64 sf_le(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return compare(f, a, b, LESS | EQUAL, false, flags);
}

u64 sf_ltq(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return compare(f, a, b, LESS, true, flags);
}

u64 sf_leq(SfFormat f, u64 a, u64 b, u32 *flags)
{
    return compare(f, a, b, LESS | EQUAL, true, flags);
}

u32 sf_classify(SfFormat f, u64 a)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a);
    int rank; /* distance from zero: 0 zero, 1 subnormal, 2 normal, 3 infinity */

    switch (x.kind) {
    case SIGNALLING_NAN:
        return 1u << 8;
    case QUIET_NAN:
        return 1u << 9;
    case INFINITE:
        rank = 3;
        break;
    case FINITE:
        rank = x.exp < 1 - bias(l) ? 1 : 2;
        break;
    default:
        rank = 0;
        break;
    }
    return 1u << (x.sign ? 3 - rank : 4 + rank);
}

/* ---- Conversions ---- */

u64 sf_convert(SfFormat from, SfFormat to, u64 a, int rm, u32 *flags)
{
    Unpacked x = unpack(&layouts[from], a);

    raise_if_signalling(x, flags);
    return is_nan(x) ? pack_nan(&layouts[to]) : pack(&layouts[to], x, rm, flags);
}

/* The magnitude of a finite number below 2^TOP, rounded to an integer. */
static u128 round_magnitude(Unpacked u, int rm, bool *inexact)
{
    /* Any number below a half rounds like every other one. */
    int drop = TOP - u.exp < 127 ? TOP - u.exp : 127;
    return round_sig(u.sig, drop, u.sign, rm, inexact);
}

u64 sf_to_int(SfFormat f, u64 a, int width, bool is_signed, int rm, u32 *flags)
{
    Unpacked x = unpack(&layouts[f], a);
    u64 ones = width == 64 ? ~0ull : (1ull << width) - 1;
    u64 max = is_signed ? ones >> 1 : ones;
    u64 min_magnitude = is_signed ? max + 1 : 0;
    u64 result;

    if (x.kind == ZERO) {
        return 0;
    }
    if (is_nan(x)) {
        x.sign = false;
    }
    bool inexact = false;
    u128 magnitude = (u128)1 << 64; /* stands for all that is too large */
    if (x.kind == FINITE && x.exp < 64) {
        magnitude = round_magnitude(x, rm, &inexact);
    }
    if (magnitude > (x.sign ? min_magnitude : max)) {
        *flags |= SF_NV;
        result = x.sign ? min_magnitude : max;
    } else {
        *flags |= inexact ? SF_NX : 0;
        result = (u64)magnitude;
    }
    if (x.sign) {
        result = -result;
    }
    return width == 32 ? (u64)(s32)result : result;
}

u64 sf_from_int(SfFormat f, u64 a, int width, bool is_signed, int rm, u32 *flags)
{
    if (width == 32) {
        a = is_signed ? (u64)(s32)a : (u32)a;
    }
    Unpacked x = {.kind = a ? FINITE : ZERO, .sign = is_signed && (s64)a < 0, .exp = TOP};
    if (a) {
        x.sig = x.sign ? -a : a;
        normalise(&x);
    }
    return pack(&layouts[f], x, rm, flags);
}

u64 sf_round_to_int(SfFormat f, u64 a, int rm, bool exact, u32 *flags)
{
    const Layout *l = &layouts[f];
    Unpacked x = unpack(l, a);

    raise_if_signalling(x, flags);
    if (is_nan(x)) {
        return pack_nan(l);
    }
    if (x.kind == FINITE && x.exp < l->frac_bits) {
        bool inexact;
        x.sig = round_magnitude(x, rm, &inexact);
        x.exp = TOP;
        if (x.sig) {
            normalise(&x);
        } else {
            x.kind = ZERO;
        }
        if (inexact && exact) {
            *flags |= SF_NX;
        }
    }
    return pack(l, x, rm, flags);
}

u64 sf_cvtmod_w_d(u64 a, u32 *flags)
{
    Unpacked x = unpack(&layouts[SF_F64], a);

    sf_to_int(SF_F64, a, 32, true, SF_RTZ, flags);
    /* From 2^84 on, all 53 bits of the significand stand above bit 31. */
    if (x.kind != FINITE || x.exp >= 84) {
        return 0;
    }
    bool inexact;
    u32 low = (u32)round_magnitude(x, SF_RTZ, &inexact);
    return (u64)(s32)(x.sign ? -low : low);
}
