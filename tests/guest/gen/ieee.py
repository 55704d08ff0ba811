"""IEEE 754 arithmetic, exactly: values are fractions, rounded once, with the flags that RISC-V asks for.

Nothing here is shared with the emulator: this is what its results are compared with. A value is the bits of a format; NaN
results are canonical; underflow is detected after rounding (unprivileged spec, chapter "F").
"""

from fractions import Fraction
from math import isqrt

NX, UF, OF, DZ, NV = 1, 2, 4, 8, 16
RNE, RTZ, RDN, RUP, RMM = range(5)
ROUNDINGS = ("rne", "rtz", "rdn", "rup", "rmm")


class Format:
    def __init__(self, letter, exponent_bits, fraction_bits):
        self.letter = letter
        self.ebits, self.fbits = exponent_bits, fraction_bits
        self.width = 1 + exponent_bits + fraction_bits
        self.bias = (1 << (exponent_bits - 1)) - 1
        self.emin = 1 - self.bias
        self.emax = self.bias
        self.sign_bit = 1 << (self.width - 1)
        self.inf = ((1 << exponent_bits) - 1) << fraction_bits
        self.quiet_bit = 1 << (fraction_bits - 1)
        self.nan = self.inf | self.quiet_bit
        self.max = self.inf - 1
        self.mask = (1 << self.width) - 1

    def is_nan(self, bits):
        return bits & ~self.sign_bit & self.mask > self.inf

    def is_snan(self, bits):
        return self.is_nan(bits) and not bits & self.quiet_bit

    def is_inf(self, bits):
        return bits & ~self.sign_bit == self.inf

    def is_zero(self, bits):
        return not bits & ~self.sign_bit

    def sign(self, bits):
        return bits >> (self.width - 1)

    def value(self, bits):
        """The finite value as a fraction (the sign of zero is lost)."""
        exponent = bits >> self.fbits & ((1 << self.ebits) - 1)
        fraction = bits & ((1 << self.fbits) - 1)
        if exponent:
            fraction |= 1 << self.fbits
        power = max(exponent, 1) - self.bias - self.fbits
        value = fraction * Fraction(2) ** power
        return -value if self.sign(bits) else value


H, S, D = Format("h", 5, 10), Format("s", 8, 23), Format("d", 11, 52)


def log2_floor(f):
    """The e with 2^e <= f < 2^(e+1), of a positive fraction."""
    e = f.numerator.bit_length() - f.denominator.bit_length()
    return e if Fraction(2) ** e <= f else e - 1


def round_integer(f, negative, rm):
    """A fraction >= 0, the magnitude of a number with this sign, to an integer."""
    n, rest = divmod(f.numerator, f.denominator)
    double = 2 * rest - f.denominator
    up = {RNE: double > 0 or (double == 0 and n & 1), RTZ: False, RDN: negative and rest, RUP: not negative and rest,
          RMM: double >= 0}[rm]
    return n + bool(up), bool(rest)


def round_to(fmt, value, negative, rm):
    """Rounds the fraction to fmt; `negative` decides the sign of zero. Returns (bits, flags)."""
    if value == 0:
        return (fmt.sign_bit if negative else 0), 0
    negative = value < 0
    magnitude = abs(value)
    sign = fmt.sign_bit if negative else 0
    exponent = log2_floor(magnitude)
    quantum = Fraction(2) ** (max(exponent, fmt.emin) - fmt.fbits)
    n, inexact = round_integer(magnitude / quantum, negative, rm)
    rounded = n * quantum
    flags = NX if inexact else 0
    if rounded >= Fraction(2) ** (fmt.emax + 1):
        to_inf = rm in (RNE, RMM) or (rm == RUP and not negative) or (rm == RDN and negative)
        return sign | (fmt.inf if to_inf else fmt.max), OF | NX
    if inexact and exponent < fmt.emin:
        unbounded = Fraction(2) ** (exponent - fmt.fbits)
        n2, _ = round_integer(magnitude / unbounded, negative, rm)
        if n2 * unbounded < Fraction(2) ** fmt.emin:
            flags |= UF
    if rounded == 0:
        return sign, flags
    e = log2_floor(rounded)
    if e < fmt.emin:
        return sign | int(rounded / Fraction(2) ** (fmt.emin - fmt.fbits)), flags
    fraction = int(rounded / Fraction(2) ** (e - fmt.fbits)) - (1 << fmt.fbits)
    return sign | (e + fmt.bias) << fmt.fbits | fraction, flags


def nan_result(fmt, *operands):
    """If an operand is a NaN: (canonical NaN, flags)."""
    if any(fmt.is_nan(x) for x in operands):
        return fmt.nan, NV if any(fmt.is_snan(x) for x in operands) else 0
    return None


def add(fmt, a, b, rm):
    nan = nan_result(fmt, a, b)
    if nan:
        return nan
    if fmt.is_inf(a) or fmt.is_inf(b):
        if fmt.is_inf(a) and fmt.is_inf(b) and a != b:
            return fmt.nan, NV
        return (a if fmt.is_inf(a) else b), 0
    total = fmt.value(a) + fmt.value(b)
    if total == 0:
        same = fmt.is_zero(a) and fmt.is_zero(b) and fmt.sign(a) == fmt.sign(b)
        return round_to(fmt, total, fmt.sign(a) if same else rm == RDN, rm)
    return round_to(fmt, total, False, rm)


def sub(fmt, a, b, rm):
    return nan_result(fmt, a, b) or add(fmt, a, b ^ fmt.sign_bit, rm)


def mul(fmt, a, b, rm):
    nan = nan_result(fmt, a, b)
    if nan:
        return nan
    negative = fmt.sign(a) != fmt.sign(b)
    if fmt.is_inf(a) or fmt.is_inf(b):
        if fmt.is_zero(a) or fmt.is_zero(b):
            return fmt.nan, NV
        return fmt.inf | (fmt.sign_bit if negative else 0), 0
    return round_to(fmt, fmt.value(a) * fmt.value(b), negative, rm)


def div(fmt, a, b, rm):
    nan = nan_result(fmt, a, b)
    if nan:
        return nan
    negative = fmt.sign(a) != fmt.sign(b)
    sign = fmt.sign_bit if negative else 0
    if fmt.is_inf(a):
        return (fmt.nan, NV) if fmt.is_inf(b) else (fmt.inf | sign, 0)
    if fmt.is_inf(b):
        return sign, 0
    if fmt.is_zero(b):
        return (fmt.nan, NV) if fmt.is_zero(a) else (fmt.inf | sign, DZ)
    return round_to(fmt, fmt.value(a) / fmt.value(b), negative, rm)


def sqrt(fmt, a, rm):
    nan = nan_result(fmt, a)
    if nan:
        return nan
    if fmt.is_zero(a):
        return a, 0
    if fmt.sign(a):
        return fmt.nan, NV
    if fmt.is_inf(a):
        return a, 0
    value = fmt.value(a)
    # 2^-k is finer than any rounding can see; a remainder is marked by half of it.
    k = 2 * fmt.fbits + fmt.bias
    scaled = value * Fraction(4) ** k
    root = isqrt(int(scaled))
    result = Fraction(root) / 2 ** k
    if Fraction(root) ** 2 != scaled:
        result += Fraction(1, 2 ** (k + 1))
    return round_to(fmt, result, False, rm)


def fma(fmt, a, b, c, rm, negate_product=False, negate_sum=False):
    """a * b + c with one rounding; the product negated, the addend negated."""
    product_is_invalid = (fmt.is_inf(a) and fmt.is_zero(b)) or (fmt.is_zero(a) and fmt.is_inf(b))
    nan = nan_result(fmt, a, b, c)
    if product_is_invalid:
        return fmt.nan, NV
    if nan:
        return nan
    if negate_product:
        a ^= fmt.sign_bit
    if negate_sum:
        c ^= fmt.sign_bit
    negative = fmt.sign(a) != fmt.sign(b)
    if fmt.is_inf(a) or fmt.is_inf(b):
        product = fmt.inf | (fmt.sign_bit if negative else 0)
        if fmt.is_inf(c) and c != product:
            return fmt.nan, NV
        return product, 0
    if fmt.is_inf(c):
        return c, 0
    product = fmt.value(a) * fmt.value(b)
    total = product + fmt.value(c)
    if total == 0:
        same = product == 0 and fmt.is_zero(c) and negative == bool(fmt.sign(c))
        return round_to(fmt, total, negative if same else rm == RDN, rm)
    return round_to(fmt, total, False, rm)


def convert(to, fmt, a, rm):
    if fmt.is_nan(a):
        return to.nan, NV if fmt.is_snan(a) else 0
    if fmt.is_inf(a):
        return to.inf | (to.sign_bit if fmt.sign(a) else 0), 0
    return round_to(to, fmt.value(a), fmt.sign(a), rm)


def to_integer(fmt, a, rm, bits, signed):
    """Saturating conversion: (integer, flags)."""
    low = -(1 << (bits - 1)) if signed else 0
    high = (1 << (bits - signed)) - 1
    if fmt.is_nan(a):
        return high, NV
    negative = bool(fmt.sign(a))
    if fmt.is_inf(a):
        return (low if negative else high), NV
    n, inexact = round_integer(abs(fmt.value(a)), negative, rm)
    n = -n if negative else n
    if not low <= n <= high:
        return (low if n < low else high), NV
    return n, NX if inexact else 0


def to_integer_modular(fmt, a, bits):
    """fcvtmod: truncated, modulo 2^bits."""
    if fmt.is_nan(a) or fmt.is_inf(a):
        return 0, NV
    n, inexact = round_integer(abs(fmt.value(a)), False, RTZ)
    n = -n if fmt.sign(a) else n
    wrapped = (n + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))
    return wrapped, NV if wrapped != n else NX if inexact else 0


def round_integral(fmt, a, rm, exact):
    """fround, froundnx."""
    if fmt.is_nan(a):
        return fmt.nan, NV if fmt.is_snan(a) else 0
    if fmt.is_inf(a) or fmt.is_zero(a):
        return a, 0
    negative = bool(fmt.sign(a))
    n, inexact = round_integer(abs(fmt.value(a)), negative, rm)
    bits, _ = round_to(fmt, Fraction(-n if negative else n), negative, rm)
    return bits, NX if inexact and exact else 0


def order(fmt, a, b):
    """-1, 0, 1 of two numbers."""
    x, y = (fmt.value(v) if not fmt.is_inf(v) else Fraction(2) ** 5000 * (-1 if fmt.sign(v) else 1) for v in (a, b))
    return (x > y) - (x < y)


def minmax(fmt, a, b, largest, numbers_only):
    """fmin, fmax (numbers_only: a NaN operand is ignored), fminm, fmaxm."""
    flags = NV if fmt.is_snan(a) or fmt.is_snan(b) else 0
    if fmt.is_nan(a) or fmt.is_nan(b):
        if not numbers_only or (fmt.is_nan(a) and fmt.is_nan(b)):
            return fmt.nan, flags
        return (b if fmt.is_nan(a) else a), flags
    o = order(fmt, a, b)
    if o == 0 and fmt.is_zero(a):
        o = fmt.sign(b) - fmt.sign(a)
    return (a if (o > 0) == largest or o == 0 else b), flags


def compare(fmt, a, b, operation, quiet):
    """'eq', 'lt', 'le'; not quiet: any NaN is invalid."""
    if fmt.is_nan(a) or fmt.is_nan(b):
        invalid = not quiet or fmt.is_snan(a) or fmt.is_snan(b)
        return 0, NV if invalid else 0
    o = order(fmt, a, b)
    return int({"eq": o == 0, "lt": o < 0, "le": o <= 0}[operation]), 0


def classify(fmt, a):
    negative = fmt.sign(a)
    if fmt.is_nan(a):
        return 1 << (8 if fmt.is_snan(a) else 9)
    if fmt.is_inf(a):
        return 1 << (0 if negative else 7)
    if fmt.is_zero(a):
        return 1 << (3 if negative else 4)
    subnormal = not a & fmt.inf
    return 1 << ({0: 6, 1: 1} if not subnormal else {0: 5, 1: 2})[negative]


def edges(fmt):
    """Bits worth trying: zeros, ends of ranges, neighbours of 1, integers' limits, NaNs of all kinds."""
    one = fmt.bias << fmt.fbits
    ulp = 1
    positive = [0, 1, 2, fmt.quiet_bit, (1 << fmt.fbits) - 1, 1 << fmt.fbits, (1 << fmt.fbits) + 1, 2 << fmt.fbits,
                one - ulp, one, one + ulp, one | fmt.quiet_bit, one - (1 << fmt.fbits), one + (1 << fmt.fbits),
                one + (1 << fmt.fbits) + fmt.quiet_bit, one - (1 << fmt.fbits) | fmt.quiet_bit,
                round_to(fmt, Fraction(1, 3), False, RNE)[0], round_to(fmt, Fraction(1, 10), False, RNE)[0],
                (fmt.bias + fmt.fbits) << fmt.fbits | 1, (fmt.bias + fmt.fbits + 1) << fmt.fbits,
                fmt.max, fmt.max - 1, fmt.inf]
    nans = [fmt.nan, fmt.nan | 3, fmt.inf | 1, fmt.inf | fmt.quiet_bit >> 1]
    both = positive + nans
    return both + [x | fmt.sign_bit for x in both]
