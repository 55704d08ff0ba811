/*
 * Control and status registers: access by number with all of the architecture's checks, and what
 * the translator and the disassembler want to know about a number. (Privileged spec, chapter
 * "Control and Status Registers".)
 */
#ifndef STAG_FRONTEND_RISCV_CSR_H
#define STAG_FRONTEND_RISCV_CSR_H

#include "frontend-riscv/hart.h"

enum { CSR_COUNT = 4096, CSR_NAME_MAX = 20 };

typedef enum CsrOp { CSR_OP_WRITE, CSR_OP_SET, CSR_OP_CLEAR } CsrOp;

/* One CSR instruction: reads the register if `old` is not NULL, then, if `write`, replaces it by
 * `operand`, or sets or clears the bits that are 1 in `operand`. What the instruction does not read
 * or write has no side effects. False: it is illegal in the hart's state (nothing changed). *leave
 * is set to true if generated code must not go on in the block: the regime changed, an interrupt
 * became takeable, FP code lost its ground. Call with the exact cpu_insns() where
 * riscv_csr_traits() says CSR_COUNTS. */
bool riscv_csr_access(Hart *hart, unsigned number, CsrOp op, bool write, u64 operand, u64 *old,
                      bool *leave);

/* Reads for a debugger or a dump: no privilege checks; false if the hart has no such register. */
bool riscv_csr_peek(Hart *hart, unsigned number, u64 *value);

/* What accesses need of generated code, for any hart. 0 for numbers that don't exist. */
enum {
    CSR_EXISTS = 1 << 0,
    CSR_COUNTS = 1 << 1,       /* depends on the instruction count */
    CSR_FP = 1 << 2,           /* holds fflags or frm */
    CSR_WRITE_LEAVES = 1 << 3, /* a write may ask to leave the block */
};
unsigned riscv_csr_traits(unsigned number);

/* A register of S mode that is no more than a u64 in Hart, on a hart with extensions `ext`: where,
 * and which bits a write changes. */
bool riscv_csr_field(unsigned number, u64 ext, size_t *offset, u64 *mask);

/* Whether the hart's mode may read the counter `time`, on a hart that has it. */
bool riscv_time_enabled(const Hart *hart);

/* sstatus is bits of Hart.mstatus: those that are seen, but for SD, and those that a write changes,
 * on a hart with extensions `ext`; and what is seen besides on RV64. */
u64 riscv_sstatus_readable(void);
u64 riscv_sstatus_writable(u64 ext);
#define SSTATUS_UXL_64 ((u64)2 << MSTATUS_UXL)

/* The name of a register in `buf`, or NULL if no hart has it. */
const char *riscv_csr_name(unsigned number, char buf[CSR_NAME_MAX]);
/* The number of a name, or -1. */
int riscv_csr_number(const char *name);

#endif
