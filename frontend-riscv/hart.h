/*
 * The state of a RISC-V hart: the common CpuState, the CSRs, and what the hart model has (XLEN,
 * extensions). CSR fields are kept in the form that makes the hot users cheap; csr.c knows
 * how each CSR is read and written (privileged spec 1.13, chapter "Control and Status Registers").
 */
#ifndef STAG_FRONTEND_RISCV_HART_H
#define STAG_FRONTEND_RISCV_HART_H

#include <glib.h>

#include "core/base/bits.h"
#include "core/cpu.h"
#include "softmmu/regime.h"

/* Trap causes (mcause without the interrupt bit). */
enum {
    CAUSE_FETCH_MISALIGNED = 0,
    CAUSE_FETCH_ACCESS = 1,
    CAUSE_ILLEGAL = 2,
    CAUSE_BREAKPOINT = 3,
    CAUSE_LOAD_MISALIGNED = 4,
    CAUSE_LOAD_ACCESS = 5,
    CAUSE_STORE_MISALIGNED = 6,
    CAUSE_STORE_ACCESS = 7,
    CAUSE_ECALL_U = 8,
    CAUSE_ECALL_S = 9,
    CAUSE_ECALL_M = 11,
    CAUSE_FETCH_PAGE = 12,
    CAUSE_LOAD_PAGE = 13,
    CAUSE_STORE_PAGE = 15,
};

/* Interrupt numbers = bit numbers of mip, mie and CpuState.irq_lines. */
enum { IRQ_SSI = 1, IRQ_MSI = 3, IRQ_STI = 5, IRQ_MTI = 7, IRQ_SEI = 9, IRQ_MEI = 11 };

/* mstatus fields: position and width. SXL, UXL are constants of the hart. */
enum {
    MSTATUS_SIE = 1, MSTATUS_MIE = 3, MSTATUS_SPIE = 5, MSTATUS_MPIE = 7, MSTATUS_SPP = 8,
    MSTATUS_MPP = 11, MSTATUS_FS = 13, MSTATUS_MPRV = 17, MSTATUS_SUM = 18, MSTATUS_MXR = 19,
    MSTATUS_TVM = 20, MSTATUS_TW = 21, MSTATUS_TSR = 22, MSTATUS_UXL = 32, MSTATUS_SXL = 34,
};
/* Bits of menvcfg and (the low ones) senvcfg; of mseccfg; fields of a pmpcfg byte. */
enum {
    ENVCFG_FIOM = 0, ENVCFG_CBIE = 4, ENVCFG_CBCFE = 6, ENVCFG_CBZE = 7,
    ENVCFG_ADUE = 61, ENVCFG_PBMTE = 62, ENVCFG_STCE = 63,
};
enum { MSECCFG_MML = 0, MSECCFG_MMWP = 1, MSECCFG_RLB = 2 };
enum {
    PMPCFG_A = 3, /* two bits, PMP_OFF .. */
    PMPCFG_L = 7,
};
enum { PMP_OFF, PMP_TOR, PMP_NA4, PMP_NAPOT };
enum { FS_OFF = 0, FS_INITIAL = 1, FS_CLEAN = 2, FS_DIRTY = 3 };

/* A set of extensions: bit numbers are RiscvExt (generated from the table in extensions.def). */
#include "frontend-riscv/extensions.h"

/* What kind of hart: shared by all harts of a machine, constant while it runs. */
typedef struct HartModel {
    bool rv32;
    u64 ext;              /* RISCV_EXT_BIT(...) of what is there */
    unsigned pmp_entries; /* 0, 16 or 64 */
    u64 timebase_hz;      /* of the time CSR */
} HartModel;

/* Callbacks into the machine. `opaque` is cpu->machine. */
typedef struct HartCallbacks {
    u64 (*read_time)(void *opaque); /* the time CSR, in timebase ticks */
    /* stimecmp changed (Sstc): arm a timer that posts PENDING_TIMER to the hart when time >=
     * deadline (all ones: never). The frontend re-evaluates STIP itself. */
    void (*arm_stimer)(void *opaque, CpuState *cpu, u64 deadline);
    /* FENCE.I: make this hart see all stores as code. */
    void (*fence_i)(void *opaque, CpuState *cpu);
    /* MRET or SRET to a lower mode. Not demanded by the architecture; may be NULL. */
    void (*trap_return)(void *opaque, CpuState *cpu);
    /* The hart waits for another one, in a loop. May be NULL. */
    void (*relax)(void *opaque, CpuState *cpu);
} HartCallbacks;

typedef struct Hart {
    CpuState cpu; /* first: generated code and the softmmu see only this */

    const HartModel *model;
    const HartCallbacks *callbacks;

    u8 priv;      /* PRIV_U, PRIV_S, PRIV_M */
    bool stip;    /* Sstc: time >= stimecmp, as of the last time that somebody had to know */
    /* The bit of mstatus.SIE if an interrupt of S mode may be waiting for it to be set, else 0. A
     * line that rises later is seen because its device posts PENDING_INTERRUPT. */
    u64 waits_for_sie;
    u8 may_zero;  /* whether the current mode may use cbo.zero, */
    u8 zero_by_mode[4]; /* and each */
    u64 mstatus;  /* fields above, FS included; SD, SXL, UXL are computed on reading */
    u64 misa;
    u64 mtvec, mepc, mcause, mtval, mscratch, medeleg, mideleg, mie;
    u64 mip_soft; /* software-writable bits of mip (SSIP, SEIP; STIP without Sstc) */
    u64 stvec, sepc, scause, stval, sscratch, satp;
    u64 stimecmp;
    u64 menvcfg, senvcfg, mseccfg;
    u64 mcounteren, scounteren, mcountinhibit;
    /* Counters are the instruction count plus an offset; while mcountinhibit stops one, its offset
     * is its value. */
    u64 mcycle_offset, minstret_offset;
    u8 pmpcfg[64];
    u64 pmpaddr[64];

    /* What the softmmu was told last: derived from the above, see system.h. */
    TranslationRegime regime;
} Hart;

static inline bool hart_has(const Hart *hart, RiscvExt ext)
{
    return hart->model->ext >> ext & 1;
}

/* Keeps a value to the hart's XLEN. */
static inline u64 hart_xlen_mask(const Hart *hart)
{
    return hart->model->rv32 ? 0xffffffff : ~(u64)0;
}

static inline u64 mstatus_field(const Hart *hart, unsigned lo, unsigned width)
{
    return bits(hart->mstatus, lo, width);
}


static inline Hart *hart_of(CpuState *cpu)
{
    return container_of(cpu, Hart, cpu);
}

#endif
