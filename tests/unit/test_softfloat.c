/*
 * Soft float against three judges that share nothing with it.
 *
 * 1. The host's SSE and FMA units, f32 and f64, in the four rounding modes that MXCSR has, results
 * and exception flags. Where x86 and RISC-V differ on purpose (NaN payloads, invalid for inf * 0 +
 * NaN) the expectation says so. 2. A rounding function of our own over x87 extended precision. The
 * x87 computes with 64 bits, truncating; or-ing the inexact flag into the last bit ("rounding to
 * odd") keeps all that a later rounding to 62 bits or fewer can need. The function finds the
 * neighbours in the target format by scaling and floorl, and so knows what every mode, ties away
 * included, and every flag must be, for every format. Half precision is judged this way. 3. Vectors
 * worked out by hand from the RISC-V specification, for what the host has no counterpart of.
 *
 * Operands are edge values, all pairs of them, and random patterns of which most lie close to an
 * edge. The generator has a fixed seed; an argument on the command line multiplies the number of
 * random patterns.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/softfloat.h"

#define ALL_FLAGS (SF_NX | SF_UF | SF_OF | SF_DZ | SF_NV)

static const char *const format_names[] = {"f16", "f32", "f64"};
static const char *const mode_names[] = {"rne", "rtz", "rdn", "rup", "rmm"};
static const int exp_bits[] = {5, 8, 11};
static const int frac_bits[] = {10, 23, 52};
static int effort = 1;

static u64 sign_of(SfFormat f, u64 a)
{
    return a >> (exp_bits[f] + frac_bits[f]) & 1;
}

static u64 sign_bit(SfFormat f)
{
    return 1ull << (exp_bits[f] + frac_bits[f]);
}

static u64 inf_of(SfFormat f)
{
    return ((1ull << exp_bits[f]) - 1) << frac_bits[f];
}

static bool nan_bits(SfFormat f, u64 a)
{
    return (a & (sign_bit(f) - 1)) > inf_of(f);
}

static bool snan_bits(SfFormat f, u64 a)
{
    return nan_bits(f, a) && !(a >> (frac_bits[f] - 1) & 1);
}

/* ---- Operands ---- */

static u64 rng_state = 0x9e3779b97f4a7c15;

static u64 rnd(void)
{
    rng_state ^= rng_state << 13;
    rng_state ^= rng_state >> 7;
    rng_state ^= rng_state << 17;
    return rng_state * 0x2545f4914f6cdd1d;
}

enum { N_EDGES = 44 };

/* Edge values of a format; the second half is the first with the sign set. */
static void edges(SfFormat f, u64 out[N_EDGES])
{
    u64 one_exp = (1ull << (exp_bits[f] - 1)) - 1, ulp_exp = 1ull << frac_bits[f];
    u64 inf = inf_of(f), quiet = 1ull << (frac_bits[f] - 1);
    u64 one = one_exp << frac_bits[f];
    u64 positive[N_EDGES / 2] = {
        0, 1, 2, 3, ulp_exp / 2, ulp_exp - 1, ulp_exp, ulp_exp + 1, 2 * ulp_exp - 1, 2 * ulp_exp,
        one - ulp_exp, one - 1, one, one + 1, one + ulp_exp / 2, one + ulp_exp,
        (one_exp + frac_bits[f]) << frac_bits[f], inf - 1, inf, inf | 1, inf | quiet,
        inf | quiet | 5};
    for (int i = 0; i < N_EDGES / 2; i++) {
        out[i] = positive[i];
        out[i + N_EDGES / 2] = positive[i] | sign_bit(f);
    }
}

/* A random pattern: sometimes an edge or right beside one, mostly a short or sparse significand
 * with an exponent that is near an interesting one, sometimes anything. */
static u64 pick(SfFormat f, const u64 e[N_EDGES])
{
    u64 r = rnd(), all = sign_bit(f) * 2 - 1, frac = rnd() & ((1ull << frac_bits[f]) - 1);
    u64 exp_mask = (1ull << exp_bits[f]) - 1, middle = exp_mask >> 1, exp;

    switch (r & 7) {
    case 0:
        return e[(r >> 8) % N_EDGES];
    case 1:
        return (e[(r >> 8) % N_EDGES] + (r >> 16) % 9 - 4) & all;
    case 2:
    case 3:
        return rnd() & all;
    default:
        break;
    }
    switch (r >> 4 & 3) {
    case 0:
        frac &= rnd() & rnd() & rnd();
        break;
    case 1:
        frac |= rnd() & rnd();
        frac &= (1ull << frac_bits[f]) - 1;
        break;
    case 2:
        frac &= ~0ull << (r >> 16) % (unsigned)frac_bits[f];
        break;
    default:
        break;
    }
    switch (r >> 6 & 3) {
    case 0:
        exp = r >> 24 & 3;
        break;
    case 1:
        exp = exp_mask - (r >> 24 & 3);
        break;
    case 2:
        exp = middle / 2 + (r >> 24) % 5 - 2 + (r & 256 ? middle : 0);
        break;
    default:
        exp = middle + (r >> 24) % 16 - 8;
        break;
    }
    return ((exp & exp_mask) << frac_bits[f] | frac | (r & 512 ? sign_bit(f) : 0)) & all;
}

/* ---- Judge 1: SSE ---- */

typedef enum { ADD, SUB, MUL, DIV, SQRT, FMA, N_OPS } Op;
static const char *const op_names[] = {"add", "sub", "mul", "div", "sqrt", "fma"};

/* MXCSR: all exceptions masked, flags clear, and the rounding control for each of RISC-V's modes.
 */
static const u32 mxcsr_of[] = {0x1f80, 0x7f80, 0x3f80, 0x5f80};

static u32 flags_of_x86(u32 status)
{
    return (status & 0x20 ? SF_NX : 0) | (status & 0x10 ? SF_UF : 0) | (status & 8 ? SF_OF : 0) |
           (status & 4 ? SF_DZ : 0) | (status & 1 ? SF_NV : 0);
}

/* Runs one instruction under `rm` with default MXCSR around it. */
#define SSE(rm, status, ...)                                                                       \
    do {                                                                                           \
        u32 inside = mxcsr_of[rm], saved;                                                          \
        __asm__ volatile("stmxcsr %0" : "=m"(saved));                                              \
        __asm__ volatile("ldmxcsr %1\n\t" __VA_ARGS__);                                            \
        status = inside;                                                                           \
        __asm__ volatile("ldmxcsr %0" : : "m"(saved));                                             \
    } while (0)

#define SSE_OP(insn, acc, b, c)                                                                    \
    SSE(rm, status, insn "\n\tstmxcsr %1" : "+x"(acc), "+m"(inside) : "x"(b), "x"(c))

static u64 host_f64(Op op, u64 a, u64 b, u64 c, int rm, u32 *flags)
{
    double x, y, z;
    u64 r;
    u32 status = 0;

    memcpy(&x, &a, 8);
    memcpy(&y, &b, 8);
    memcpy(&z, &c, 8);
    switch (op) {
    case ADD:
        SSE_OP("addsd %2, %0", x, y, z);
        break;
    case SUB:
        SSE_OP("subsd %2, %0", x, y, z);
        break;
    case MUL:
        SSE_OP("mulsd %2, %0", x, y, z);
        break;
    case DIV:
        SSE_OP("divsd %2, %0", x, y, z);
        break;
    case SQRT:
        SSE_OP("sqrtsd %0, %0", x, y, z);
        break;
    default:
        SSE_OP("vfmadd213sd %3, %2, %0", x, y, z);
        break;
    }
    memcpy(&r, &x, 8);
    *flags = flags_of_x86(status);
    return r;
}

static u64 host_f32(Op op, u64 a, u64 b, u64 c, int rm, u32 *flags)
{
    float x, y, z;
    u32 r, status = 0;

    memcpy(&x, &a, 4);
    memcpy(&y, &b, 4);
    memcpy(&z, &c, 4);
    switch (op) {
    case ADD:
        SSE_OP("addss %2, %0", x, y, z);
        break;
    case SUB:
        SSE_OP("subss %2, %0", x, y, z);
        break;
    case MUL:
        SSE_OP("mulss %2, %0", x, y, z);
        break;
    case DIV:
        SSE_OP("divss %2, %0", x, y, z);
        break;
    case SQRT:
        SSE_OP("sqrtss %0, %0", x, y, z);
        break;
    default:
        SSE_OP("vfmadd213ss %3, %2, %0", x, y, z);
        break;
    }
    memcpy(&r, &x, 4);
    *flags = flags_of_x86(status);
    return r;
}

static u64 soft(SfFormat f, Op op, u64 a, u64 b, u64 c, int rm, u32 *flags)
{
    *flags = 0;
    switch (op) {
    case ADD:
        return sf_add(f, a, b, rm, flags);
    case SUB:
        return sf_sub(f, a, b, rm, flags);
    case MUL:
        return sf_mul(f, a, b, rm, flags);
    case DIV:
        return sf_div(f, a, b, rm, flags);
    case SQRT:
        return sf_sqrt(f, a, rm, flags);
    default:
        return sf_fma(f, a, b, c, rm, flags);
    }
}

static bool invalid_product(SfFormat f, u64 a, u64 b)
{
    u64 x = a & ~sign_bit(f), y = b & ~sign_bit(f);
    return (x == 0 && y == inf_of(f)) || (y == 0 && x == inf_of(f));
}

static void same(SfFormat f, const char *what, u64 a, u64 b, u64 c, int rm, u64 got, u32 got_flags,
                 u64 want, u32 want_flags)
{
    if (got != want || got_flags != want_flags) {
        ck_abort_msg("%s %s %s: %#lx %#lx %#lx: got %#lx flags %#x, expected %#lx flags %#x", what,
                     format_names[f], mode_names[rm], (unsigned long)a, (unsigned long)b,
                     (unsigned long)c, (unsigned long)got, got_flags, (unsigned long)want,
                     want_flags);
    }
}

static void against_sse(SfFormat f, Op op, u64 a, u64 b, u64 c, int rm)
{
    u32 got_flags, want_flags;
    u64 got = soft(f, op, a, b, c, rm, &got_flags);
    u64 want = (f == SF_F64 ? host_f64 : host_f32)(op, a, b, c, rm, &want_flags);

    if (nan_bits(f, want)) {
        want = sf_canonical_nan(f);
    }
    if (op == FMA && invalid_product(f, a, b)) {
        want_flags |= SF_NV;
    }
    same(f, op_names[op], a, b, c, rm, got, got_flags, want, want_flags);
}

/* ---- Judge 2: x87 and explicit rounding ---- */

static long double value_of(SfFormat f, u64 a)
{
    int exp = (int)(a >> frac_bits[f]) & ((1 << exp_bits[f]) - 1);
    u64 frac = a & ((1ull << frac_bits[f]) - 1);
    int scale = 1 - (1 << (exp_bits[f] - 1)) + 1 - frac_bits[f];
    long double v;

    if ((a & ~sign_bit(f)) == inf_of(f)) {
        v = HUGE_VALL;
    } else {
        u64 sig = exp ? frac | 1ull << frac_bits[f] : frac;
        v = ldexpl((long double)sig, exp ? exp - 1 + scale : scale);
    }
    return sign_of(f, a) ? -v : v;
}

/* Runs x87 code that truncates to 64 bits and clears the exceptions first; `odd` gets the inexact
 * flag. */
#define X87(odd, ...)                                                                              \
    do {                                                                                           \
        u16 saved, truncate = 0x0f7f, sw;                                                          \
        __asm__ volatile("fnstcw %0" : "=m"(saved));                                               \
        __asm__ volatile("fnclex\n\tfldcw %0" : : "m"(truncate));                                  \
        __asm__ volatile(__VA_ARGS__);                                                             \
        __asm__ volatile("fnstsw %0" : "=a"(sw));                                                  \
        __asm__ volatile("fldcw %0" : : "m"(saved));                                               \
        odd = (sw & 0x20) != 0;                                                                    \
    } while (0)

/* The result of an operation on finite values, rounded to odd at 64 bits. For fma the product must
 * be exact. */
static long double odd_result(Op op, long double x, long double y, long double z)
{
    long double r = x;
    bool odd = false, product_odd = false;

    switch (op) {
    case ADD:
        X87(odd, "fadd %2, %0" : "=t"(r) : "0"(x), "f"(y));
        break;
    case SUB:
        X87(odd, "fsub %2, %0" : "=t"(r) : "0"(x), "f"(y));
        break;
    case MUL:
        X87(odd, "fmul %2, %0" : "=t"(r) : "0"(x), "f"(y));
        break;
    case DIV:
        X87(odd, "fdiv %2, %0" : "=t"(r) : "0"(x), "f"(y));
        break;
    case SQRT:
        X87(odd, "fsqrt" : "=t"(r) : "0"(x));
        break;
    default:
        X87(product_odd, "fmul %2, %0" : "=t"(r) : "0"(x), "f"(y));
        ck_assert(!product_odd);
        x = r;
        X87(odd, "fadd %2, %0" : "=t"(r) : "0"(x), "f"(z));
        break;
    }
    if (odd) {
        u64 mantissa;
        memcpy(&mantissa, &r, 8);
        mantissa |= 1;
        memcpy(&r, &mantissa, 8);
    }
    return r;
}

/* How many quanta a magnitude of `q` quanta rounds to. */
static long double round_quanta(long double q, bool negative, int rm)
{
    long double down = floorl(q), rest = q - down;
    bool up = false;

    switch (rm) {
    case SF_RNE:
        up = rest > 0.5L || (rest == 0.5L && fmodl(down, 2) != 0);
        break;
    case SF_RDN:
        up = negative && rest > 0;
        break;
    case SF_RUP:
        up = !negative && rest > 0;
        break;
    case SF_RMM:
        up = rest >= 0.5L;
        break;
    default:
        break;
    }
    return down + up;
}

/* Rounds v, finite or infinite but not 0, to a format: the definition, in extended precision. */
static u64 ref_round(SfFormat f, long double v, int rm, u32 *flags)
{
    int emax = (1 << (exp_bits[f] - 1)) - 1, emin = 1 - emax, e;
    bool negative = signbit(v);
    u64 sign = negative ? sign_bit(f) : 0;
    long double m = fabsl(v);

    *flags = 0;
    if (isinf(m)) {
        return sign | inf_of(f);
    }
    frexpl(m, &e);
    e--; /* 2^e <= m < 2^(e+1) */
    int unbounded = e - frac_bits[f];
    int quantum = (e < emin ? emin : e) - frac_bits[f];
    long double q = ldexpl(m, -quantum);
    long double n = round_quanta(q, negative, rm);
    bool inexact = n != q;
    long double as_if = ldexpl(round_quanta(ldexpl(m, -unbounded), negative, rm), unbounded);
    if (inexact && as_if < ldexpl(1, emin)) {
        *flags |= SF_UF;
    }
    if (as_if >= ldexpl(1, emax + 1)) {
        bool away = rm == SF_RNE || rm == SF_RMM || (rm == SF_RUP && !negative) ||
                    (rm == SF_RDN && negative);
        *flags |= SF_OF | SF_NX;
        return sign | (away ? inf_of(f) : inf_of(f) - 1);
    }
    *flags |= inexact ? SF_NX : 0;
    u64 k = (u64)n;
    if (k < 1ull << frac_bits[f]) {
        return sign | k;
    }
    if (k == 2ull << frac_bits[f]) {
        k >>= 1;
        quantum++;
    }
    u64 field = (u64)(quantum + frac_bits[f] + emax);
    return sign | field << frac_bits[f] | (k & ((1ull << frac_bits[f]) - 1));
}

/* What IEEE 754 says for operands that are NaN or infinite, or a result that is exactly 0 or
 * infinite; false if the operands are finite and the result is a matter of rounding. */
static bool special(SfFormat f, Op op, u64 a, u64 b, u64 c, int rm, u64 *want, u32 *flags)
{
    int n = op == SQRT ? 1 : op == FMA ? 3 : 2;
    u64 v[3] = {a, b, c};
    bool nan = false;
    *flags = 0;
    for (int i = 0; i < n; i++) {
        nan |= nan_bits(f, v[i]);
        *flags |= snan_bits(f, v[i]) ? SF_NV : 0;
    }
    long double x = nan_bits(f, a) ? 0 : value_of(f, a), y = nan_bits(f, b) ? 0 : value_of(f, b);
    long double z = nan_bits(f, c) ? 0 : value_of(f, c), product = 0;
    if (op == FMA && invalid_product(f, a, b)) {
        *flags |= SF_NV;
        nan = true;
    }
    if (!nan) {
        bool bad = false;
        if (op == MUL) {
            bad = invalid_product(f, a, b);
        } else if (op == DIV) {
            bad = (x == 0 && y == 0) || (isinf(x) && isinf(y));
        } else if (op == SQRT) {
            bad = x < 0;
        } else {
            product = op == FMA ? x * y : x;
            long double addend = op == FMA ? z : op == SUB ? -y : y;
            bad = isinf(product) && isinf(addend) && product != addend;
        }
        if (bad) {
            *flags |= SF_NV;
            nan = true;
        }
    }
    if (nan) {
        *want = sf_canonical_nan(f);
        return true;
    }
    long double r;
    u64 sign = sign_of(f, a) ^ sign_of(f, b);
    switch (op) {
    case ADD:
    case SUB:
    case FMA: {
        u64 p = op == FMA ? sign : sign_of(f, a);
        u64 q = op == FMA ? sign_of(f, c) : sign_of(f, b) ^ (op == SUB);
        r = product + (op == FMA ? z : op == SUB ? -y : y);
        sign = isinf(r) ? signbit(r) != 0 : p == q ? p : rm == SF_RDN;
        break;
    }
    case MUL:
        r = x * y;
        break;
    case DIV:
        r = isinf(y) ? 0 : y == 0 ? HUGE_VALL : x / y;
        *flags |= y == 0 && !isinf(x) ? SF_DZ : 0;
        break;
    default:
        r = x;
        sign = sign_of(f, a);
        break;
    }
    if (r != 0 && !isinf(r)) {
        return false;
    }
    *want = (sign ? sign_bit(f) : 0) | (isinf(r) ? inf_of(f) : 0);
    return true;
}

static void against_x87(SfFormat f, Op op, u64 a, u64 b, u64 c, int rm)
{
    u32 got_flags, want_flags;
    u64 want, got = soft(f, op, a, b, c, rm, &got_flags);

    if (!special(f, op, a, b, c, rm, &want, &want_flags)) {
        long double r = odd_result(op, value_of(f, a), value_of(f, b), value_of(f, c));
        want = ref_round(f, r, rm, &want_flags);
    }
    same(f, op_names[op], a, b, c, rm, got, got_flags, want, want_flags);
}

/* ---- Arithmetic ---- */

static void judge(SfFormat f, Op op, u64 a, u64 b, u64 c, bool sse)
{
    for (int rm = SF_RNE; rm <= SF_RMM; rm++) {
        if (sse && rm != SF_RMM) {
            against_sse(f, op, a, b, c, rm);
        } else if (!sse) {
            against_x87(f, op, a, b, c, rm);
        }
    }
}

static void arithmetic(SfFormat f, bool sse, bool with_fma, int count)
{
    u64 e[N_EDGES];
    edges(f, e);
    for (int op = ADD; op < N_OPS; op++) {
        int n_b = op == SQRT ? 1 : N_EDGES, n_c = op == FMA ? N_EDGES : 1;
        if (op == FMA && !with_fma) {
            continue;
        }
        for (int i = 0; i < N_EDGES; i++) {
            for (int j = 0; j < n_b; j++) {
                for (int k = 0; k < n_c; k++) {
                    if (op != FMA || (i + j + k) % 3 == 0) {
                        judge(f, op, e[i], e[j], e[k], sse);
                    }
                }
            }
        }
        for (int i = 0; i < count * effort; i++) {
            u64 a = pick(f, e), b = pick(f, e), c = pick(f, e);
            if (op == FMA && (i & 3) == 0) {
                /* An addend close to minus the product: cancellation leaves the product's low bits.
                 */
                u32 ignored = 0;
                c = sf_mul(f, a, b, i >> 2 & 3, &ignored) ^ sign_bit(f);
                c = nan_bits(f, c) ? c : (c + (rnd() & 3) * (rnd() & 1)) & (sign_bit(f) * 2 - 1);
            } else if (op == ADD && (i & 3) == 0) {
                b = (a ^ sign_bit(f)) ^ (rnd() & 7);
            }
            judge(f, op, a, b, c, sse);
        }
    }
}

static bool host_has_fma(void)
{
    return __builtin_cpu_supports("fma");
}

START_TEST(arithmetic_f32_matches_sse)
{
    arithmetic(SF_F32, true, host_has_fma(), 60000);
}
END_TEST

START_TEST(arithmetic_f64_matches_sse)
{
    arithmetic(SF_F64, true, host_has_fma(), 60000);
}
END_TEST

START_TEST(arithmetic_f16_matches_x87)
{
    arithmetic(SF_F16, false, true, 6000);
}
END_TEST

START_TEST(arithmetic_f32_matches_x87)
{
    arithmetic(SF_F32, false, true, 6000);
}
END_TEST

START_TEST(arithmetic_f64_matches_x87)
{
    arithmetic(SF_F64, false, false, 6000);
}
END_TEST

/* The product of two doubles doesn't fit the x87, so ties away in a fused operation are judged by
 * the other modes: the result is the farther neighbour in a tie (seen by constructing one), else
 * the nearest. */
START_TEST(fma_f64_ties_away)
{
    u64 one = 0x3ff0000000000000;
    for (int i = 0; i < 20000; i++) {
        u64 frac = rnd() & 0xfffffffffffff, exp = 1100 + rnd() % 800;
        u64 sign = rnd() & sign_bit(SF_F64);
        u64 a = sign | exp << 52 | frac, half_ulp = sign | (exp - 53) << 52;
        u32 flags = 0;
        /* a * 1 + half an ulp, a little less, a little more */
        ck_assert_uint_eq(sf_fma(SF_F64, a, one, half_ulp, SF_RMM, &flags), a + 1);
        ck_assert_uint_eq(sf_fma(SF_F64, a, one, half_ulp - 1, SF_RMM, &flags), a);
        ck_assert_uint_eq(sf_fma(SF_F64, a, one, half_ulp + 1, SF_RMM, &flags), a + 1);
        ck_assert_uint_eq(sf_fma(SF_F64, a, one, half_ulp, SF_RNE, &flags), a + (a & 1));
        ck_assert_uint_eq(flags, SF_NX);
    }
    u64 e[N_EDGES];
    edges(SF_F64, e);
    for (int i = 0; i < 50000 * effort; i++) {
        u64 a = pick(SF_F64, e), b = pick(SF_F64, e), c = pick(SF_F64, e);
        u32 near_flags = 0, away_flags = 0, out_flags = 0;
        u64 near = sf_fma(SF_F64, a, b, c, SF_RNE, &near_flags);
        u64 away = sf_fma(SF_F64, a, b, c, SF_RMM, &away_flags);
        u64 out = sf_fma(SF_F64, a, b, c, near >> 63 ? SF_RDN : SF_RUP, &out_flags);
        ck_assert(away == near || away == out);
        ck_assert_uint_eq(away_flags & SF_NV, near_flags & SF_NV);
        ck_assert_uint_eq(away_flags & SF_NX, near_flags & SF_NX);
    }
}
END_TEST

/* ---- Comparisons, minimum and maximum, classes ---- */

static void judge_pair(SfFormat f, const char *what, u64 (*op)(SfFormat, u64, u64, u32 *), u64 a,
                       u64 b, u64 want, u32 want_flags)
{
    u32 flags = 0;
    u64 got = op(f, a, b, &flags);
    same(f, what, a, b, 0, 0, got, flags, want, want_flags);
}

/* Expected values from the C operators on exact extended values. */
START_TEST(comparisons)
{
    for (SfFormat f = SF_F16; f <= SF_F64; f++) {
        u64 e[N_EDGES];
        edges(f, e);
        for (int i = 0; i < N_EDGES * N_EDGES + 20000; i++) {
            bool crossed = i < N_EDGES * N_EDGES;
            u64 a = crossed ? e[i / N_EDGES] : pick(f, e);
            u64 b = crossed ? e[i % N_EDGES] : pick(f, e);
            bool nan = nan_bits(f, a) || nan_bits(f, b), snan = snan_bits(f, a) || snan_bits(f, b);
            long double x = nan ? 0 : value_of(f, a), y = nan ? 0 : value_of(f, b);
            u32 quiet = snan ? SF_NV : 0, loud = nan ? SF_NV : 0;

            bool less = !nan && x < y, equal = !nan && x == y;
            judge_pair(f, "eq", sf_eq, a, b, equal, quiet);
            judge_pair(f, "ltq", sf_ltq, a, b, less, quiet);
            judge_pair(f, "leq", sf_leq, a, b, less || equal, quiet);
            judge_pair(f, "lt", sf_lt, a, b, less, loud);
            judge_pair(f, "le", sf_le, a, b, less || equal, loud);

            u64 least, most;
            if (nan) {
                least = nan_bits(f, a) ? b : a;
                least = most = nan_bits(f, least) ? sf_canonical_nan(f) : least;
            } else {
                bool a_less = x < y || (x == y && sign_of(f, a));
                least = a_less ? a : b;
                most = a_less ? b : a;
            }
            judge_pair(f, "min", sf_min, a, b, least, quiet);
            judge_pair(f, "max", sf_max, a, b, most, quiet);
            least = nan ? sf_canonical_nan(f) : least;
            most = nan ? sf_canonical_nan(f) : most;
            judge_pair(f, "minm", sf_minm, a, b, least, quiet);
            judge_pair(f, "maxm", sf_maxm, a, b, most, quiet);
        }
    }
}
END_TEST

START_TEST(classes)
{
    static const struct {
        u64 bits[3];
        u32 mask;
    } rows[] = {
        {{0xfc00, 0xff800000, 0xfff0000000000000}, 1 << 0},
        {{0xfbff, 0xff7fffff, 0xffefffffffffffff}, 1 << 1},
        {{0x8400, 0x80800000, 0x8010000000000000}, 1 << 1},
        {{0x83ff, 0x807fffff, 0x800fffffffffffff}, 1 << 2},
        {{0x8001, 0x80000001, 0x8000000000000001}, 1 << 2},
        {{0x8000, 0x80000000, 0x8000000000000000}, 1 << 3},
        {{0x0000, 0x00000000, 0x0000000000000000}, 1 << 4},
        {{0x0001, 0x00000001, 0x0000000000000001}, 1 << 5},
        {{0x03ff, 0x007fffff, 0x000fffffffffffff}, 1 << 5},
        {{0x0400, 0x00800000, 0x0010000000000000}, 1 << 6},
        {{0x7bff, 0x7f7fffff, 0x7fefffffffffffff}, 1 << 6},
        {{0x7c00, 0x7f800000, 0x7ff0000000000000}, 1 << 7},
        {{0x7c01, 0x7f800001, 0x7ff0000000000001}, 1 << 8},
        {{0xfdff, 0xffbfffff, 0xfff7ffffffffffff}, 1 << 8},
        {{0x7e00, 0x7fc00000, 0x7ff8000000000000}, 1 << 9},
        {{0xffff, 0xffffffff, 0xffffffffffffffff}, 1 << 9},
    };
    for (SfFormat f = SF_F16; f <= SF_F64; f++) {
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            ck_assert_uint_eq(sf_classify(f, rows[i].bits[f]), rows[i].mask);
        }
    }
    ck_assert_uint_eq(sf_canonical_nan(SF_F16), 0x7e00);
    ck_assert_uint_eq(sf_canonical_nan(SF_F32), 0x7fc00000);
    ck_assert_uint_eq(sf_canonical_nan(SF_F64), 0x7ff8000000000000);
}
END_TEST

/* Bits above the format's width play no part, and results have none. */
START_TEST(upper_bits_are_ignored)
{
    for (SfFormat f = SF_F16; f < SF_F64; f++) {
        u64 junk = ~(sign_bit(f) * 2 - 1), one = sf_from_int(f, 1, 64, false, SF_RNE, &(u32){0});
        u64 two = sf_from_int(f, 2, 64, false, SF_RNE, &(u32){0});
        u32 flags = 0;
        ck_assert_uint_eq(sf_add(f, one | junk, one | junk, SF_RNE, &flags), two);
        ck_assert_uint_eq(sf_sub(f, two | junk, one, SF_RNE, &flags), one);
        ck_assert_uint_eq(sf_min(f, one | junk, two | junk, &flags), one);
        ck_assert_uint_eq(sf_max(f, one | junk, two | junk, &flags), two);
        ck_assert_uint_eq(sf_eq(f, one | junk, one, &flags), 1);
        ck_assert_uint_eq(sf_lt(f, one | junk, two, &flags), 1);
        ck_assert_uint_eq(sf_round_to_int(f, one | junk, SF_RNE, true, &flags), one);
        ck_assert_uint_eq(sf_to_int(f, two | junk, 32, true, SF_RNE, &flags), 2);
        ck_assert_uint_eq(sf_classify(f, one | junk), 1 << 6);
        ck_assert_uint_eq(flags, 0);
    }
}
END_TEST

/* ---- Conversions ---- */

START_TEST(between_formats)
{
    for (SfFormat from = SF_F16; from <= SF_F64; from++) {
        u64 e[N_EDGES];
        edges(from, e);
        for (SfFormat to = SF_F16; to <= SF_F64; to++) {
            for (int i = 0; i < N_EDGES + 20000 * effort; i++) {
                u64 a = i < N_EDGES ? e[i] : pick(from, e);
                if (to < from && i >= N_EDGES && i & 1) {
                    /* Most doubles overflow or vanish in a half: start from one, change bits below
                     * its last place. */
                    u64 te[N_EDGES];
                    edges(to, te);
                    a = sf_convert(to, from, pick(to, te), SF_RNE, &(u32){0});
                    u64 place = 1ull << (frac_bits[from] - frac_bits[to] - 1);
                    a = (i & 2 ? a + place : a - place) + (rnd() % 3 - 1) * (rnd() & 1);
                    a &= sign_bit(from) * 2 - 1;
                }
                for (int rm = SF_RNE; rm <= SF_RMM; rm++) {
                    u32 flags = 0, want_flags = 0;
                    u64 got = sf_convert(from, to, a, rm, &flags), want;
                    if (nan_bits(from, a)) {
                        want = sf_canonical_nan(to);
                        want_flags = snan_bits(from, a) ? SF_NV : 0;
                    } else if (!(a & ~sign_bit(from))) {
                        want = a ? sign_bit(to) : 0;
                    } else {
                        want = ref_round(to, value_of(from, a), rm, &want_flags);
                    }
                    same(from, "convert", a, from, to, rm, got, flags, want, want_flags);
                }
            }
        }
    }
}
END_TEST

static const struct {
    int width;
    bool is_signed;
    long double min, max;
    u64 min_bits, max_bits;
} int_types[] = {
    {32, true, -0x1p31L, 0x1p31L - 1, 0xffffffff80000000, 0x7fffffff},
    {32, false, 0, 0x1p32L - 1, 0, 0xffffffffffffffff},
    {64, true, -0x1p63L, 0x1p63L - 1, 0x8000000000000000, 0x7fffffffffffffff},
    {64, false, 0, 0x1p64L - 1, 0, 0xffffffffffffffff},
};

/* Values around the borders of the integer types, as patterns of a format that has them. */
static u64 pick_for_int(SfFormat f, const u64 e[N_EDGES])
{
    static const int borders[] = {0, 1, 8, 15, 16, 31, 32, 33, 52, 63, 64};
    if (rnd() & 1) {
        return pick(f, e);
    }
    u32 ignored;
    long double v = ldexpl(1, borders[rnd() % ARRAY_LEN(borders)]);
    v += ldexpl((long double)(rnd() % 17) - 8, -(int)(rnd() % 3));
    return ref_round(f, v == 0 ? 0.5L : rnd() & 1 ? -v : v, SF_RTZ, &ignored);
}

START_TEST(to_integers)
{
    for (SfFormat f = SF_F16; f <= SF_F64; f++) {
        u64 e[N_EDGES];
        edges(f, e);
        for (int i = 0; i < N_EDGES + 20000 * effort; i++) {
            u64 a = i < N_EDGES ? e[i] : pick_for_int(f, e);
            for (int t = 0; t < 4; t++) {
                int width = int_types[t].width;
                bool is_signed = int_types[t].is_signed;
                for (int rm = SF_RNE; rm <= SF_RMM; rm++) {
                    u32 flags = 0, want_flags = 0;
                    u64 got = sf_to_int(f, a, width, is_signed, rm, &flags);
                    u64 want;
                    long double v = nan_bits(f, a) ? HUGE_VALL : value_of(f, a), r = v;
                    if (!isinf(v)) {
                        r = copysignl(round_quanta(fabsl(v), v < 0, rm), v);
                    }
                    if (r > int_types[t].max || r < int_types[t].min) {
                        want_flags = SF_NV;
                        want = r > 0 ? int_types[t].max_bits : int_types[t].min_bits;
                    } else {
                        want_flags = r != v ? SF_NX : 0;
                        want = r < 0 ? (u64)(s64)r : (u64)r;
                        want = width == 32 ? (u64)(s32)want : want;
                    }
                    same(f, "to_int", a, t, 0, rm, got, flags, want, want_flags);
                }
            }
        }
    }
}
END_TEST

START_TEST(from_integers)
{
    static const u64 borders[] = {
        0,          1,           2,          65504,       65519,      65520,      65535,
        0x7fffffff, 0x80000000,  0xffffffff, 0x100000000, 1ull << 63, ~0ull >> 1, ~0ull,
    };
    for (SfFormat f = SF_F16; f <= SF_F64; f++) {
        for (int i = 0; i < 20000 * effort; i++) {
            u64 a = (rnd() & 3) == 0 ? borders[rnd() % ARRAY_LEN(borders)] + rnd() % 5 - 2
                                     : rnd() >> rnd() % 64;
            a = rnd() & 1 ? -a : a;
            for (int t = 0; t < 4; t++) {
                int width = int_types[t].width;
                bool is_signed = int_types[t].is_signed;
                long double v;
                switch (t) {
                case 0:
                    v = (s32)a;
                    break;
                case 1:
                    v = (u32)a;
                    break;
                case 2:
                    v = (s64)a;
                    break;
                default:
                    v = a;
                    break;
                }
                for (int rm = SF_RNE; rm <= SF_RMM; rm++) {
                    u32 flags = 0, want_flags = 0;
                    u64 want = v == 0 ? 0 : ref_round(f, v, rm, &want_flags);
                    u64 got = sf_from_int(f, a, width, is_signed, rm, &flags);
                    same(f, "from_int", a, t, 0, rm, got, flags, want, want_flags);
                }
            }
        }
    }
}
END_TEST

START_TEST(to_integral_floats)
{
    for (SfFormat f = SF_F16; f <= SF_F64; f++) {
        u64 e[N_EDGES];
        edges(f, e);
        for (int i = 0; i < N_EDGES + 20000 * effort; i++) {
            u64 a = i < N_EDGES ? e[i] : pick_for_int(f, e);
            for (int rm = SF_RNE; rm <= SF_RMM; rm++) {
                u32 flags = 0, want_flags = 0, ignored;
                u64 want = a;
                if (nan_bits(f, a)) {
                    want = sf_canonical_nan(f);
                    want_flags = snan_bits(f, a) ? SF_NV : 0;
                } else if (!isinf(value_of(f, a))) {
                    long double v = value_of(f, a), m = round_quanta(fabsl(v), v < 0, rm);
                    want_flags = m != fabsl(v) ? SF_NX : 0;
                    want = (m == 0 ? 0 : ref_round(f, m, rm, &ignored)) | (a & sign_bit(f));
                }
                u64 got = sf_round_to_int(f, a, rm, true, &flags);
                same(f, "froundnx", a, 0, 0, rm, got, flags, want, want_flags);
                flags = 0;
                got = sf_round_to_int(f, a, rm, false, &flags);
                same(f, "fround", a, 0, 0, rm, got, flags, want, want_flags & ~(u32)SF_NX);
            }
        }
    }
}
END_TEST

static u64 double_bits(double d)
{
    u64 r;
    memcpy(&r, &d, 8);
    return r;
}

START_TEST(modular_conversion)
{
    static const struct {
        double v;
        u64 want;
        u32 flags;
    } rows[] = {
        {0.0, 0, 0},
        {-0.0, 0, 0},
        {0.5, 0, SF_NX},
        {-1.75, 0xffffffffffffffff, SF_NX},
        {2147483647.0, 0x7fffffff, 0},
        {2147483647.5, 0x7fffffff, SF_NX},
        {2147483648.0, 0xffffffff80000000, SF_NV},
        {-2147483648.0, 0xffffffff80000000, 0},
        {-2147483648.5, 0xffffffff80000000, SF_NX},
        {-2147483649.0, 0x7fffffff, SF_NV},
        {4294967295.0, 0xffffffffffffffff, SF_NV},
        {4294967296.0, 0, SF_NV},
        {4294967297.75, 1, SF_NV},
        {-4294967297.0, 0xffffffffffffffff, SF_NV},
        {0x1.0000000000001p52, 1, SF_NV},
        {0x1.0000000000001p83, 0xffffffff80000000, SF_NV},
        {0x1.0000000000001p84, 0, SF_NV},
        {0x1.fffffffffffffp1023, 0, SF_NV},
        {HUGE_VAL, 0, SF_NV},
        {-HUGE_VAL, 0, SF_NV},
        {0x1p-1074, 0, SF_NX},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        u32 flags = 0;
        u64 a = double_bits(rows[i].v), got = sf_cvtmod_w_d(a, &flags);
        same(SF_F64, "cvtmod", a, 0, 0, SF_RTZ, got, flags, rows[i].want, rows[i].flags);
    }
    u32 flags = 0;
    ck_assert_uint_eq(sf_cvtmod_w_d(0x7ff8000000000000, &flags), 0);
    ck_assert_uint_eq(flags, SF_NV);

    /* The exact remainder is what fmod gives. */
    u64 e[N_EDGES];
    edges(SF_F64, e);
    for (int i = 0; i < 20000 * effort; i++) {
        u64 a = pick_for_int(SF_F64, e);
        if (nan_bits(SF_F64, a) || isinf(value_of(SF_F64, a))) {
            continue;
        }
        s64 rest = (s64)fmodl(truncl(value_of(SF_F64, a)), 0x1p32L);
        ck_assert_uint_eq(sf_cvtmod_w_d(a, &flags), (u64)(s32)rest);
    }
}
END_TEST

/* ---- Vectors by hand ---- */

START_TEST(vectors)
{
    static const struct {
        SfFormat f;
        Op op;
        u64 a, b, c;
        int rm;
        u64 want;
        u32 flags;
    } rows[] = {
        /* inf * 0 + quiet NaN is invalid; so is any signalling NaN; a quiet one alone isn't */
        {SF_F64, FMA, 0x7ff0000000000000, 0, 0x7ff8000000000000, SF_RNE, 0x7ff8000000000000, SF_NV},
        {SF_F32, FMA, 0, 0xff800000, 0xffc00001, SF_RNE, 0x7fc00000, SF_NV},
        {SF_F32, FMA, 0x3f800000, 0x3f800000, 0x7f800001, SF_RNE, 0x7fc00000, SF_NV},
        {SF_F32, FMA, 0x7fc12345, 0x3f800000, 0x3f800000, SF_RNE, 0x7fc00000, 0},
        /* exact zeros take RDN's sign; equal signs keep theirs */
        {SF_F32, SUB, 0x3f800000, 0x3f800000, 0, SF_RNE, 0, 0},
        {SF_F32, SUB, 0x3f800000, 0x3f800000, 0, SF_RDN, 0x80000000, 0},
        {SF_F32, ADD, 0x80000000, 0x80000000, 0, SF_RNE, 0x80000000, 0},
        {SF_F32, FMA, 0x3f800000, 0xbf800000, 0x3f800000, SF_RMM, 0, 0},
        {SF_F32, SQRT, 0x80000000, 0, 0, SF_RNE, 0x80000000, 0},
        {SF_F32, SQRT, 0xbf800000, 0, 0, SF_RNE, 0x7fc00000, SF_NV},
        {SF_F32, DIV, 0xbf800000, 0, 0, SF_RNE, 0xff800000, SF_DZ},
        /* 1 + 2^-24 and 1 + 2^-53 are ties */
        {SF_F32, ADD, 0x3f800000, 0x33800000, 0, SF_RNE, 0x3f800000, SF_NX},
        {SF_F32, ADD, 0x3f800000, 0x33800000, 0, SF_RMM, 0x3f800001, SF_NX},
        {SF_F64, ADD, 0x3ff0000000000000, 0x3ca0000000000000, 0, SF_RMM, 0x3ff0000000000001, SF_NX},
        {SF_F64, ADD, 0xbff0000000000000, 0xbca0000000000000, 0, SF_RMM, 0xbff0000000000001, SF_NX},
        /* half the least subnormal: a tie between 0 and it */
        {SF_F64, MUL, 1, 0x3fe0000000000000, 0, SF_RNE, 0, SF_UF | SF_NX},
        {SF_F64, MUL, 1, 0x3fe0000000000000, 0, SF_RMM, 1, SF_UF | SF_NX},
        /* Tininess after rounding. (1 - 2^-24) * 2^-126 rounds to the least normal number, but with
         * an unbounded exponent it would fit exactly: tiny. (1 - 2^-25) * 2^-126 is a tie that
         * would round up to 2^-126: not tiny; truncated it is. */
        {SF_F32, MUL, 0x3f7fffff, 0x00800000, 0, SF_RNE, 0x00800000, SF_UF | SF_NX},
        {SF_F32, FMA, 0x80000001, 0x3e800000, 0x00800000, SF_RNE, 0x00800000, SF_NX},
        {SF_F32, FMA, 0x80000001, 0x3e800000, 0x00800000, SF_RTZ, 0x007fffff, SF_UF | SF_NX},
        {SF_F32, FMA, 0x00800000, 0x3f800000, 0x80000001, SF_RNE, 0x007fffff, 0},
        {SF_F16, MUL, 0x3bff, 0x0400, 0, SF_RNE, 0x0400, SF_UF | SF_NX},
        /* the half-precision overflow threshold is 65520 */
        {SF_F16, ADD, 0x7bff, 0x4c00, 0, SF_RNE, 0x7c00, SF_OF | SF_NX},
        {SF_F16, ADD, 0x7bff, 0x4bff, 0, SF_RNE, 0x7bff, SF_NX},
        {SF_F16, ADD, 0x7bff, 0x7bff, 0, SF_RTZ, 0x7bff, SF_OF | SF_NX},
        {SF_F16, ADD, 0xfbff, 0xfbff, 0, SF_RUP, 0xfbff, SF_OF | SF_NX},
        {SF_F16, ADD, 0xfbff, 0xfbff, 0, SF_RDN, 0xfc00, SF_OF | SF_NX},
        {SF_F16, DIV, 0x3c00, 0x4200, 0, SF_RNE, 0x3555, SF_NX},
        {SF_F16, SQRT, 0x4000, 0, 0, SF_RNE, 0x3da8, SF_NX},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        u32 flags;
        u64 got = soft(rows[i].f, rows[i].op, rows[i].a, rows[i].b, rows[i].c, rows[i].rm, &flags);
        same(rows[i].f, op_names[rows[i].op], rows[i].a, rows[i].b, rows[i].c, rows[i].rm, got,
             flags, rows[i].want, rows[i].flags);
    }
}
END_TEST

/* Flags are sticky: an operation only adds to what is there. */
START_TEST(flags_accumulate)
{
    u32 flags = SF_OF;
    sf_div(SF_F32, 0x3f800000, 0, SF_RNE, &flags);
    ck_assert_uint_eq(flags, SF_OF | SF_DZ);
    sf_add(SF_F32, 0x3f800000, 0x3f800000, SF_RNE, &flags);
    ck_assert_uint_eq(flags, SF_OF | SF_DZ);
    sf_div(SF_F32, 0x3f800000, 0x40400000, SF_RNE, &flags);
    sf_mul(SF_F32, 1, 1, SF_RNE, &flags);
    sf_sqrt(SF_F32, 0xbf800000, SF_RNE, &flags);
    ck_assert_uint_eq(flags, ALL_FLAGS);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1) {
        effort = atoi(argv[1]) > 0 ? atoi(argv[1]) : 1;
    }
    Suite *suite = suite_create("softfloat");
    TCase *tc = tcase_create("softfloat");
    tcase_set_timeout(tc, 0);
    tcase_add_test(tc, vectors);
    tcase_add_test(tc, flags_accumulate);
    tcase_add_test(tc, upper_bits_are_ignored);
    tcase_add_test(tc, classes);
    tcase_add_test(tc, comparisons);
    tcase_add_test(tc, arithmetic_f32_matches_sse);
    tcase_add_test(tc, arithmetic_f64_matches_sse);
    tcase_add_test(tc, arithmetic_f16_matches_x87);
    tcase_add_test(tc, arithmetic_f32_matches_x87);
    tcase_add_test(tc, arithmetic_f64_matches_x87);
    tcase_add_test(tc, fma_f64_ties_away);
    tcase_add_test(tc, between_formats);
    tcase_add_test(tc, to_integers);
    tcase_add_test(tc, from_integers);
    tcase_add_test(tc, to_integral_floats);
    tcase_add_test(tc, modular_conversion);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
