/*
 * The common head of every hart: what the frontend, the backend, the softmmu and the run loop all
 * have to agree on. The frontend's Hart begins with a CpuState and adds its CSRs.
 *
 * Generated code holds an address within CpuState in rbp, such that the words it uses most, the
 * first 256 bytes, take an 8-bit displacement. While generated code runs, some registers live in
 * host registers (see `backend-x86_64`); they are in memory again whenever C code runs that may
 * look at them.
 *
 * Everything here belongs to the hart's own thread, except the words marked "any thread".
 */
#ifndef STAG_CORE_CPU_H
#define STAG_CORE_CPU_H

#include <stdatomic.h>

#include "core/base/types.h"

typedef struct CpuState CpuState;
typedef struct Mmu Mmu;

/* Why code stopped running and C has to decide what comes next. In every case `cpu->pc` is the
 * address of the next instruction to run and all guest registers are in memory. */
typedef enum CpuExit {
    EXIT_NEXT,   /* go on at pc; nothing special (also: indirect jump to a page without entry) */
    EXIT_LINK,   /* a direct jump that is not linked yet; pc is its target */
    EXIT_BUDGET, /* the budget ran out, or somebody kicked the hart; no instruction of the block ran
                  */
    EXIT_TRAP,   /* trap_cause and trap_value are set, pc is the instruction that trapped */
    EXIT_GUARD,  /* a guard's state byte was 0; exit_arg is the guard's number (see IR op guard) */
    EXIT_NEXT_PAGE, /* the straddling instruction's second page changed (IR op guard_next_page) */
    EXIT_SPLIT,     /* a group of accesses has to be checked one by one: go on at pc in a block
                       without groups; else as EXIT_LINK */
    EXIT_HALT,      /* WFI: sleep until an interrupt is pending */
} CpuExit;

/* What a helper leaves in cpu->status. Generated code tests it after helpers that may leave. */
enum {
    CPU_OK = 0,   /* go on after the helper */
    CPU_TRAP = 1, /* trap_cause, trap_value are set; pc of the current instruction is restored */
    CPU_NEXT =
        2, /* the helper wrote pc (xRET) or changed what pc means (satp): leave, go on at pc */
    CPU_HALT = 3, /* leave with EXIT_HALT; the helper has set pc to the next instruction */
};

/* Bits of cpu->pending. Nonzero makes the hart leave generated code at the next block. */
enum {
    PENDING_INTERRUPT = 1 << 0, /* an interrupt may have become takeable: re-evaluate */
    PENDING_STOP = 1 << 1,      /* the run loop must return (reset, shutdown, debugger) */
    PENDING_TIMER = 1 << 2,     /* a timer deadline of this hart may have passed */
    PENDING_FLUSH = 1 << 3,     /* the translator wants this hart outside generated code */
    PENDING_PAUSE = 1 << 4,     /* the run loop must stop until it may go on (debugger, monitor) */
    PENDING_SENT = 1 << 5,      /* the hart has sent another one an interrupt */
};

/* What the thread of a hart is about, so that others know what it takes to be noticed. */
typedef enum CpuPlace {
    CPU_OUTSIDE, /* C code that looks at `pending` before it sleeps or enters generated code */
    CPU_ASLEEP,  /* waiting, or about to wait, for `pending` to change */
    CPU_INSIDE,  /* generated code may be running: only a signal makes it look */
} CpuPlace;

enum { CPU_FRAME_WORDS = 4096 + 16 };

/* A kicked hart's budget: so far below 0 that nothing a block gives back makes it positive again.
 */
#define CPU_BUDGET_KICKED (-((s64)1 << 62))

struct CpuState {
    /* Counting. The number of instructions run so far is insn_base - budget (see cpu_insns).
     * Each block subtracts its length from budget when entered and leaves when it is negative. */
    volatile s64 budget;

    /* The guest virtual page that generated code runs in; only it uses this word. */
    u64 code_page;

    /* Register file as the IR names it: by byte offset from the start of CpuState. */
    u64 x[32]; /* integer registers; x[0] stays 0. On RV32 values are kept zero-extended */
    u64 f[32]; /* floating-point registers, narrower values NaN-boxed */
    u64 pc;

    volatile u64 insn_base; /* see budget */
    volatile bool in_code; /* generated code may be running: only then a kick writes budget */

    /* Softmmu: the current view's read table; the write and execute tables stand at fixed
     * distances from it (softmmu/view.h). */
    void *view;
    Mmu *mmu;

    /* Traps and helper results. */
    u32 status;     /* CPU_*; 0 whenever generated code runs */
    u32 exit_arg;   /* argument of the last exit */
    u64 trap_cause; /* mcause code without the interrupt bit */
    u64 trap_value; /* for xtval */
    u32 refund;     /* set with pc for helpers that need it: instructions of the block, counted in
                     * budget already, that have not run: the current one and those after it */

    /* Floating point. */
    u8 fp_ready; /* 1: FS is dirty and frm is a host rounding mode (RNE RTZ RDN RUP), so that FP
                  * code may run as it is; 0: the guard fails and the frontend decides */
    u8 frm;      /* rounding mode, 0..7 (5..7 are reserved) */
    u32 fflags;  /* accrued exceptions NX=1 UF=2 OF=4 DZ=8 NV=16. Generated code also accrues in
                  * MXCSR; the backend folds that in at every exit, around HELPER_FP helpers
                  * and for getstate and setstate of this word */

    /* LR/SC reservation: host address of the reserved word (0: none) and the value LR saw. */
    u64 res_host;
    u64 res_value;
    u8 res_size_log2;

    /* Any thread. Written by cpu_post(). */
    _Atomic u32 pending;
    /* Interrupt lines driven by devices: bits as in mip (MSIP 3, MTIP 7, SEIP 9, MEIP 11, STIP 5).
     */
    _Atomic u64 irq_lines;

    u32 index;      /* 0.. within the machine; equals mhartid */
    _Atomic u32 place; /* CpuPlace; written by the hart's thread, read by any */
    void *machine;  /* owner's pointer, for the callbacks below */
    void *exec;     /* the translator's per-hart state */

    /* Interrupts the hart's thread wherever it is: in generated code or asleep in WFI.
     * Callable from any thread. Set by the machine. */
    void (*kick)(CpuState *cpu);

    /* Generated code's own while it runs: the host stack as it was entered with, where its own part
     * begins, and words for what does not fit into registers. */
    u64 host_stack, stack_base;
    u64 frame[CPU_FRAME_WORDS];
};

#define CPU_OFFSET_X(n) (offsetof(CpuState, x) + 8 * (n))
#define CPU_OFFSET_F(n) (offsetof(CpuState, f) + 8 * (n))

/* Instructions retired so far. Exact where pc is exact: outside generated code, and in helpers with
 * HELPER_PC. */
static inline u64 cpu_insns(const CpuState *cpu)
{
    u64 base, count;
    do { /* a kick may move the budget into the base between the two reads */
        base = cpu->insn_base;
        count = base - (u64)cpu->budget - cpu->refund;
    } while (base != cpu->insn_base);
    return count;
}

/* Gives the hart a new budget of `n` instructions without changing its count. Own thread only,
 * while in_code is false. */
static inline void cpu_set_budget(CpuState *cpu, s64 n)
{
    cpu->insn_base += (u64)(n - cpu->budget);
    cpu->budget = n;
}

/* Own thread only, also while in_code is true: takes `n` instructions off the budget, or gives some
 * back. In one instruction of the host, so that a kick's signal comes before or after it. */
static inline void cpu_spend_budget(CpuState *cpu, s64 n)
{
    __atomic_fetch_sub(&cpu->budget, n, __ATOMIC_RELAXED);
}

/* Own thread only (async-signal-safe): makes generated code leave at its next block. A signal that
 * comes in the middle finds in_code false and has nothing to do, as the budget ends anyway. */
static inline void cpu_stop_budget(CpuState *cpu)
{
    const bool in_code = cpu->in_code;
    cpu->in_code = false;
    if (in_code && cpu->budget >= 0) {
        cpu_set_budget(cpu, CPU_BUDGET_KICKED);
    }
    cpu->in_code = in_code;
}

/* Records a trap for the instruction that is running. Always returns false, for tail calls. */
static inline bool cpu_trap(CpuState *cpu, u64 cause, u64 value)
{
    cpu->trap_cause = cause;
    cpu->trap_value = value;
    cpu->status = CPU_TRAP;
    return false;
}

/* Any thread: raises bits of `pending` and makes the hart see them soon. (Whoever raised them
 * before has seen to that already.) */
static inline void cpu_post(CpuState *cpu, u32 pending_bits)
{
    const u32 before = atomic_fetch_or(&cpu->pending, pending_bits);
    if ((before & pending_bits) != pending_bits && cpu->kick) {
        cpu->kick(cpu);
    }
}

/* Any thread: sets or clears one interrupt line (a bit number of mip). */
static inline void cpu_set_irq(CpuState *cpu, unsigned bit, bool level)
{
    u64 m = (u64)1 << bit;
    u64 old = level ? atomic_fetch_or(&cpu->irq_lines, m) : atomic_fetch_and(&cpu->irq_lines, ~m);
    if (level && !(old & m)) {
        cpu_post(cpu, PENDING_INTERRUPT);
    }
}

#endif
