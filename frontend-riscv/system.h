/*
 * Inside the frontend: what CSR writes, traps and returns share. Some state is derived from CSRs
 * and kept for those who need it fast: the translation regime and the PMP ranges (softmmu),
 * cpu.fp_ready (generated code), stip (interrupts). Whoever changes a CSR calls the function that
 * derives again.
 */
#ifndef STAG_FRONTEND_RISCV_SYSTEM_H
#define STAG_FRONTEND_RISCV_SYSTEM_H

#include "frontend-riscv/hart.h"

enum { RISCV_CACHE_BLOCK = 64 }; /* bytes, Zicbom and Zicboz */

/* From priv, satp, mstatus and menvcfg to the softmmu's view. True if it changed: code that runs
 * has to leave, since the view that it runs in is no longer the current one. */
bool riscv_update_regime(Hart *hart);
/* The same if nothing but priv and mstatus has changed: after traps and returns. */
void riscv_update_mode(Hart *hart);

/* From priv, menvcfg and senvcfg to may_zero. */
void riscv_update_zero(Hart *hart);

/* From pmpcfg, pmpaddr and mseccfg to the softmmu's ranges. */
void riscv_update_pmp(Hart *hart);
void riscv_decode_pmp(const Hart *hart, PmpState *out);

/* From mstatus.FS and frm to cpu.fp_ready. True if generated FP code must not go on: it was 1 and
 * is 0. */
bool riscv_update_fp(Hart *hart);

/* Compares time with stimecmp. */
void riscv_update_stip(Hart *hart);

/* mip: devices' lines, software's bits and stip. */
u64 riscv_mip(Hart *hart);

/* Posts PENDING_INTERRUPT and returns true if an interrupt could be taken now. For after changes of
 * CSRs that enable interrupts; goes by the cached stip. */
bool riscv_check_interrupt(Hart *hart);

/* The number of the interrupt to take now and whether S mode takes it; -1: none. Notes whether one
 * waits for SIE. */
int riscv_pick_interrupt(Hart *hart, bool *to_s);

/* MRET, SRET: leaves cpu->pc at the return address. The privilege checks are the caller's. */
void riscv_mret(Hart *hart);
void riscv_sret(Hart *hart);

#endif
