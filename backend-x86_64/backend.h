/*
 * The x86-64 backend's face: compile a block of IR to host code, run code, and the few facts that
 * linking needs.
 *
 * Register assignment, the same at every block boundary (so a jump between blocks moves nothing):
 *   rbp       cpu + 128 bytes           r15      cpu->view
 *   r14       the translator's own      rdi rsi r13  scratch      rsp  guest calls in progress
 *   rax rbx rcx rdx r8-r12              nine hot integer registers
 *   xmm0-11   hot f registers           xmm12-15 scratch
 */
#ifndef STAG_BACKEND_X86_64_BACKEND_H
#define STAG_BACKEND_X86_64_BACKEND_H

#include <glib.h>

#include "core/ir/code.h"

typedef struct Backend Backend;

enum { BACKEND_STUB_AREA = 16 << 10 }; /* bytes that the shared stubs may take */

typedef struct BackendConfig {
    CodeSpace space;
    u32 stub_area; /* code address of stub_area_size bytes at the start of the space, for the
                      backend's shared stubs */
    u32 stub_area_size;
    const IrHotReg *hot; /* hot_count guest registers, hottest first; used by backend_new only */
    unsigned hot_count;
    bool canonical_test; /* view_needs_canonical_test() */
    IrType xlen;
    /* Takes the trap in cpu->trap_cause and trap_value and sets cpu->pc to its handler; called with
     * the state of EXIT_TRAP. NULL: generated code leaves with EXIT_TRAP instead. */
    void (*take_trap)(CpuState *cpu);
} BackendConfig;

/* Whether this host has what generated code needs (x86-64-v3: AVX2, BMI1/2, FMA). false with a
 * sentence. */
bool backend_host_ok(GError **err);

/* Writes the shared stubs and installs the host-fault handler (SIGSEGV/SIGBUS, chained) for
 * accesses through the aliasing layout. *config is copied. */
Backend *backend_new(const BackendConfig *config, GError **err);
void backend_free(Backend *backend);

/* Compiles `block` into `room` (writable through the write mapping). Returns false if the room does
 * not suffice (nothing is published; try elsewhere). Any thread; two threads may compile at once.
 * `next_page_expected`: for blocks with guard_next_page: the address that the next page's execute
 * entry must lead to. */
bool backend_compile(Backend *backend, const IrBlock *block, u32 next_page_expected,
                     const CodeRoom *room, CompiledBlock *out);

/* The code address to put where a page has no block (leaves with EXIT_NEXT; pc = the address that
 * was jumped to). */
u32 backend_miss_stub(const Backend *backend);

/* Whoever jumps to a block's entry has put its page's guest virtual address into cpu->code_page,
 * and the target's into rdi; the miss stub relies on that. */

/* Runs code at code address `entry` for the block at cpu->pc until it leaves. MXCSR, callee-saved
 * registers and signal state are the host's again afterwards; fflags are folded into cpu->fflags.
 * For EXIT_LINK, *link_jump is the CodeLink.jump of the jump that was taken (0 otherwise). */
CpuExit backend_enter(Backend *backend, CpuState *cpu, u32 entry, u32 *link_jump);

/* Patches a link of a block to code address `target` (and descriptor `page`, ignored within a
 * page), or undoes it. */
void backend_link(const Backend *backend, const CodeLink *link, u32 target, u32 page);
void backend_unlink(const Backend *backend, const CodeLink *link);

/* Finds the tables of the block that holds a host code address, for host faults; set by the
 * translator. Async-signal-safe. Returns the CompiledBlock.start and tables; false: not in a block.
 */
typedef bool (*BackendFindBlock)(void *opaque, u32 address, u32 *start, u32 *tables);
void backend_set_find_block(Backend *backend, BackendFindBlock fn, void *opaque);

/* Host disassembly of [start, start+size) with capstone, for -d out_asm. */
void backend_disassemble(FILE *out, const Backend *backend, u32 start, u32 size);

/* printf-able name of a shared stub that holds this address, or NULL: for -perfmap. */
void backend_for_each_stub(const Backend *backend,
                           void (*fn)(void *opaque, const char *name, u32 start, u32 size),
                           void *opaque);

#endif
