/*
 * The translator's core: find the block for a hart's pc, translate and compile it if there is none,
 * run it, link it, throw it away when its bytes change or the code cache is full.
 *
 * It knows neither RISC-V nor x86: the machine hands it an ExecOps of callbacks into a frontend and
 * a backend. T0 and T1 differ only there.
 *
 * One Exec serves all harts of a machine; one ExecHart belongs to each hart. Harts run on threads of
 * their own or take turns on one; docs/design/threads.md has the rules.
 */
#ifndef STAG_CORE_EXEC_EXEC_H
#define STAG_CORE_EXEC_EXEC_H

#include <glib.h>

#include "core/ir/code.h"
#include "softmmu/softmmu.h"

typedef struct Exec Exec;

/* What the frontend is asked for: see riscv_translate. `next_page` is NULL at first. false: the
 * first instruction needs the next page. */
typedef struct ExecOps {
    void *opaque; /* passed to all of them */

    /* Frontend. */
    bool (*translate)(void *opaque, const u8 *page, u32 offset, const u8 *next_page,
                      unsigned max_insns, IrBlock *out);
    void (*take_trap)(CpuState *cpu);
    bool (*guard_failed)(CpuState *cpu, unsigned guard);
    void (*dump_cpu)(FILE *out, CpuState *cpu);
    void (*disassemble)(void *opaque, FILE *out, const IrBlock *block, const u8 *page,
                        const u8 *next_page, u64 page_va);

    /* Backend; `backend` is passed to them. See backend-x86_64/backend.h for the contracts. */
    void *backend;
    bool (*compile)(void *backend, const IrBlock *block, u32 next_page_expected,
                    const CodeRoom *room, CompiledBlock *out);
    u32 (*miss_stub)(const void *backend);
    CpuExit (*enter)(void *backend, CpuState *cpu, u32 entry, u32 *link_jump);
    void (*link)(const void *backend, const CodeLink *link, u32 target, u32 page);
    void (*unlink)(const void *backend, const CodeLink *link);
    void (*disassemble_host)(FILE *out, const void *backend, u32 start, u32 size);
} ExecOps;

typedef struct ExecConfig {
    unsigned max_insns; /* guest instructions in a block; 1 for -singlestep */
    unsigned harts;     /* how many will be attached at most; 0: one */
    IrType xlen;        /* IR_I32 or IR_I64: where guest addresses wrap */
    bool links;         /* false: every block returns to C (for -d exec,cpu) */
    FILE *perf_map; /* NULL or the open perf-PID.map; blocks are written there as they are made */
} ExecConfig;

/* The code cache's two mappings, below 2 GiB. First of all, as the backend needs it. */
bool exec_code_space_new(u64 size, CodeSpace *space, GError **err);
void exec_code_space_free(const CodeSpace *space);
enum { EXEC_STUB_AREA = 64 << 10 }; /* bytes at the start of the space for the backend's stubs */

/* `ops` and `config` are copied; registers the bus's dirty callback. Owns the space from then on,
 * also when it fails: NULL with a sentence when the host has too little address space. */
Exec *exec_new(const ExecOps *ops, const ExecConfig *config, const CodeSpace *space, Bus *bus,
               GError **err);
void exec_free(Exec *exec); /* the space too; no hart may run */

/* Attaches a hart (sets cpu->exec). */
void exec_add_hart(Exec *exec, CpuState *cpu);
void exec_remove_hart(Exec *exec, CpuState *cpu);

/* Runs the hart on this thread until cpu->pending is nonzero or it halts: returns EXIT_BUDGET (look
 * at pending) or EXIT_HALT. Traps and guards are handled inside. At most `max_insns` instructions
 * when not 0. */
CpuExit exec_run(Exec *exec, CpuState *cpu, u64 max_insns);
/* The same for about `insns` instructions, to the end of a block: for harts that take turns. */
CpuExit exec_run_slice(Exec *exec, CpuState *cpu, u64 insns);

/* FENCE.I on this hart: from now on it runs what the stores so far have written. */
void exec_fence_i(Exec *exec, CpuState *cpu);

/* The hart returned from a trap handler to a lower mode: as FENCE.I, for software that relies on
 * there being nothing stale after an exec. Pages that thrash go on doing so cheaply in between. */
void exec_trap_return(Exec *exec, CpuState *cpu);

/* Forgets all translations (reset, changed options). Harts must be outside generated code. */
void exec_flush(Exec *exec);

/* What `info jit` says. Any thread. */
typedef struct ExecStats {
    u64 code_size, code_used; /* bytes */
    unsigned regions, regions_used;
    u64 blocks, pages;
    u64 translated, evictions, flushes; /* since exec_new: blocks, regions, exec_flush */
} ExecStats;
void exec_stats(Exec *exec, ExecStats *out);

/* Whether `address` is in a block: BackendFindBlock. Async-signal-safe. */
bool exec_find_block(void *exec, u32 address, u32 *start, u32 *tables);

#endif
