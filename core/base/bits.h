/*
 * Bit manipulation on whole words: extraction, insertion, sign extension. Widths are in bits,
 * positions count from bit 0, the least significant.
 */
#ifndef STAG_CORE_BASE_BITS_H
#define STAG_CORE_BASE_BITS_H

#include "core/base/types.h"

/* A mask of `n` ones, 0 <= n <= 64. */
static inline u64 mask64(unsigned n)
{
    return n >= 64 ? ~(u64)0 : ((u64)1 << n) - 1;
}

/* The `n` bits of `v` that start at bit `lo`. */
static inline u64 bits(u64 v, unsigned lo, unsigned n)
{
    return (v >> lo) & mask64(n);
}

/* `v` with its `n` bits from `lo` on replaced by the low bits of `field`. */
static inline u64 set_bits(u64 v, unsigned lo, unsigned n, u64 field)
{
    u64 m = mask64(n) << lo;
    return (v & ~m) | ((field << lo) & m);
}

/* The low `n` bits of `v` as a signed number, 1 <= n <= 64. */
static inline s64 sext(u64 v, unsigned n)
{
    return (s64)(v << (64 - n)) >> (64 - n);
}

static inline bool is_pow2(u64 v)
{
    return v && !(v & (v - 1));
}

#define ALIGN_DOWN(v, a) ((v) & ~((u64)(a) - 1))
#define ALIGN_UP(v, a) ALIGN_DOWN((v) + (u64)(a) - 1, a)

#endif
