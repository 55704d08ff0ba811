/*
 * The frontend's face to the rest: what machine/ wires into core/exec.
 *
 * translate.c turns guest bytes into IR and is pure: the same bytes and model give the same IR.
 * hart.c, csr.c, trap.c hold the privileged architecture.
 */
#ifndef STAG_FRONTEND_RISCV_FRONTEND_H
#define STAG_FRONTEND_RISCV_FRONTEND_H

#include "core/ir/ir.h"
#include "frontend-riscv/hart.h"

/* Guards (IR op guard): on cpu.fp_ready, and on what the hart's mode allows. */
enum {
    GUARD_FP = 0,    /* an instruction that uses f registers or FP CSR state */
    GUARD_FP_RM = 1, /* one that also rounds with the dynamic mode */
    GUARD_ILLEGAL = 2,  /* one that this mode does not have */
};

typedef enum TranslateResult {
    TRANSLATE_OK,
    TRANSLATE_NEED_NEXT, /* the first instruction straddles the page's end: call again with
                            next_page */
} TranslateResult;

typedef struct TranslateInput {
    const HartModel *model;
    const u8 *page;      /* 4096 bytes of host memory; other harts may write to it meanwhile: each
                            halfword is read once */
    u32 offset;          /* of the first instruction, even, 0..4094 */
    const u8 *next_page; /* the next virtual page's bytes, or NULL */
    unsigned max_insns;  /* guest instructions in the block, >= 1 */
} TranslateInput;

/* Fills `out` (whose insns has room for IR_MAX_INSNS records). Illegal encodings become code that
 * raises illegal instruction; nothing fails. A block ends at jumps, branches backward, instructions that
 * change the mode, the page's end or max_insns. */
TranslateResult riscv_translate(const TranslateInput *in, IrBlock *out);

/* The guest registers in the order in which they deserve a host register. */
const IrHotReg *riscv_hot_regs(unsigned *count);

/* Disassembles one instruction (2 or 4 bytes in `insn`) at pc into buf, objdump's syntax with plain
 * aliases resolved as objdump -M no-aliases prints them. Returns its length in bytes. Unknown
 * encodings print as ".insn". */
unsigned riscv_disassemble(const HartModel *model, u32 insn, u64 pc, char *buf, size_t size);

/* -cpu MODEL[,ext=on|off...]. NULL with a sentence; "help" is the caller's business. The model is
 * owned by the caller (g_free). */
HartModel *riscv_model_new(const char *cpu, GError **err);
void riscv_model_print_help(FILE *out);
/* The device tree's strings: "rv64imafdc_zicsr_..." and the NULL-terminated list for
 * riscv,isa-extensions (free with g_strfreev). */
char *riscv_isa_string(const HartModel *model);
char **riscv_isa_extensions(const HartModel *model);

/* Harts. Reset: M mode, pc as given, everything else as the spec says at reset. */
Hart *riscv_hart_new(const HartModel *model, unsigned index, const HartCallbacks *callbacks,
                     void *machine);
void riscv_hart_free(Hart *hart);
void riscv_hart_reset(Hart *hart, u64 pc);

/* Takes the trap in cpu->trap_cause/trap_value for the instruction at cpu->pc: updates CSRs, mode,
 * regime and pc. */
void riscv_take_trap(CpuState *cpu);
/* If an enabled interrupt is pending, takes it (cpu->pc is then the handler) and returns true.
 * Re-evaluates timers. */
bool riscv_take_interrupt(CpuState *cpu);
/* Whether WFI may end: some interrupt is pending that mie enables, whatever the delegation and
 * global enables. */
bool riscv_wfi_wakes(CpuState *cpu);

/* After EXIT_GUARD: true: go on (never for GUARD_ILLEGAL). Either fp_ready is 1 now, or (FS is dirty, rounding mode not the
 * host's) the instruction has to be run by the interpreter. false: a trap was recorded. */
bool riscv_guard_failed(CpuState *cpu, unsigned guard);

/* Prints pc, registers and the main CSRs, for -d cpu and the monitor. */
void riscv_dump_state(FILE *out, CpuState *cpu);
/* The value of a register by its name: "pc", "x10", "a0", "f1", "fa0", "mstatus". The hart stands
 * still. False if there is none. */
bool riscv_register_find(CpuState *cpu, const char *name, u64 *value);
/* "U", "S", "M": the hart's privilege mode. */
const char *riscv_mode_name(CpuState *cpu);

#endif
