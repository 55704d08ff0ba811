/*
 * The optimiser: two cheap passes over a block, in place, between frontend and backend. It takes a
 * block that ir_check accepts and leaves one that computes the same: the same guest state at every
 * point where code may leave, the same accesses to memory in the same order, the same traps.
 */
#ifndef STAG_CORE_OPT_OPT_H
#define STAG_CORE_OPT_OPT_H

#include "core/ir/ir.h"

/* Linear in the number of records; allocates nothing. A branch on constants that is always taken
 * ends the block there, so guest_insns may shrink; guest_bytes stays. */
void opt_run(IrBlock *block);

/* Its two halves: the second takes out what has no effect, in itself or since the first. */
void opt_fold(IrBlock *block);
void opt_drop_dead(IrBlock *block);

#endif
