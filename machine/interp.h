/*
 * T0: runs IR with the interpreter instead of compiling it. To core/exec it looks like any other
 * backend: "compiling" a block copies its records into the code cache, "entering" it interprets
 * them. It is the oracle that T1 is compared with, and what runs on hosts that T1 can't use.
 */
#ifndef STAG_MACHINE_INTERP_H
#define STAG_MACHINE_INTERP_H

#include "core/exec/exec.h"

typedef struct Interp Interp;

/* `guard_failed` as in IrInterpreter. The first bytes of `space` become the miss stub's address. */
Interp *interp_new(const CodeSpace *space, bool (*guard_failed)(CpuState *cpu, unsigned guard));
void interp_free(Interp *interp);

/* Fills the backend's half of `ops`. */
void interp_fill_ops(Interp *interp, ExecOps *ops);

#endif
