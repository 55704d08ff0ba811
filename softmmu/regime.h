/*
 * What the softmmu knows of a hart: the plain description of how addresses are translated right
 * now. The frontend derives it from satp, mstatus, menvcfg and the privilege mode, and hands it
 * over with mmu_set_regime() whenever one of them changes. (RISC-V privileged spec, chapters
 * "Supervisor-Level ISA", "Machine-Level ISA" / physical memory protection.)
 */
#ifndef STAG_SOFTMMU_REGIME_H
#define STAG_SOFTMMU_REGIME_H

#include <string.h>

#include "core/base/types.h"

enum { PAGING_BARE, PAGING_SV32, PAGING_SV39 };
enum { PRIV_U = 0, PRIV_S = 1, PRIV_M = 3 };

typedef struct TranslationRegime {
    u64 root;        /* guest physical address of the root page table */
    u16 asid;
    u8 mode;         /* PAGING_*, of satp; it applies below M mode only (use fetch_priv, data_priv) */
    u8 fetch_priv;   /* privilege of instruction fetches: the hart's mode */
    u8 data_priv;    /* of loads and stores: differs when mstatus.MPRV is in effect */
    bool sum, mxr;   /* of mstatus (sum for data_priv == S) */
    bool adue;       /* menvcfg.ADUE: hardware updates A and D; else they fault (Svade) */
    bool pbmte;      /* Svpbmt is on: PTE bits 62:61 are not reserved */
    bool napot;      /* Svnapot is there */
    bool rv32;       /* XLEN 32: addresses are 32 bits, zero-extended */
    u8 unused[5];    /* 0 */
} TranslationRegime;

/* It is compared whenever the mode changes, so it has no padding. */
static inline bool regime_equal(const TranslationRegime *a, const TranslationRegime *b)
{
    _Static_assert(sizeof(TranslationRegime) == 3 * sizeof(u64), "three words");
    u64 x[3], y[3];
    memcpy(x, a, sizeof(x));
    memcpy(y, b, sizeof(y));
    return !((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2]));
}

/* One physical memory protection entry, already decoded to a byte range (TOR, NA4, NAPOT); entries
 * that are off are empty ranges (first > last). Lowest index wins. */
typedef struct PmpRange {
    u64 first, last; /* inclusive */
    u8 perms_m;      /* PMP_R|W|X that M mode has in it */
    u8 perms_su;     /* that S and U mode have */
} PmpRange;
enum { PMP_R = 1, PMP_W = 2, PMP_X = 4 };

typedef struct PmpState {
    unsigned count;
    PmpRange range[64];
    u8 default_m;  /* permissions where no entry matches: M mode (0 or X.. with mseccfg.MMWP/MML) */
    u8 default_su; /* S and U: 0 when any entry is implemented */
} PmpState;

#endif
