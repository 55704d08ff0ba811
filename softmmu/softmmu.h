/*
 * The softmmu of one hart: page walks, PMP, and the flat tables (view.h) that remember their
 * results. Generated code uses the tables directly; everything else, and every miss, comes here.
 *
 * All functions run on the hart's own thread unless said otherwise. Translation failures are
 * recorded with cpu_trap(): cause 0/4/6 misaligned, 1/5/7 access fault, 12/13/15 page fault for
 * fetch, load, store/AMO; value = the guest virtual address (for accesses that cross a page: of the
 * first byte in the page that faults).
 */
#ifndef STAG_SOFTMMU_SOFTMMU_H
#define STAG_SOFTMMU_SOFTMMU_H

#include "core/cpu.h"
#include "softmmu/bus.h"
#include "softmmu/regime.h"
#include "softmmu/view.h"

/* Process-wide, once, before any memory is made: reserves the aliasing layout (view.h).
 * `explicit_test` forces the other way (also chosen by itself in sanitizer builds or when address
 * space is short). */
void mmu_layout_init(bool explicit_test);

/* Makes the softmmu of `cpu`, sets cpu->mmu and cpu->view. NULL with a sentence when the host's
 * address space is too small. Until told otherwise the hart is in M mode, RV64, and PMP allows
 * everything. The bus has to outlive the softmmu. */
Mmu *mmu_new(CpuState *cpu, Bus *bus, GError **err);
void mmu_free(Mmu *mmu);

/* Selects the view that fits the regime (made or recycled as needed) and sets cpu->view. Cheap when
 * the view exists. */
void mmu_set_regime(CpuState *cpu, const TranslationRegime *regime);
/* The same where only these fields change: fast, for every trap and every access to user memory. */
void mmu_set_mode(CpuState *cpu, u8 fetch_priv, u8 data_priv, bool sum, bool mxr);
/* Replaces the PMP state and flushes all views of the hart if it changed. Copies *pmp. */
void mmu_set_pmp(CpuState *cpu, const PmpState *pmp);

/* sfence.vma: NULL address or ASID means all. With an ASID, global mappings stay. */
void mmu_fence(CpuState *cpu, const u64 *va, const u16 *asid);
void mmu_flush_all(CpuState *cpu);

/* Data accesses under the current regime, size_log2 0..3, any alignment, MMIO too. Loads are
 * zero-extended. They use and fill the tables. false: trap recorded, nothing was written. (A store
 * that crosses a page writes both parts or none; for that both pages have to be memory, so accesses
 * that cross a page and touch MMIO are access faults.) */
bool mmu_load(CpuState *cpu, u64 va, unsigned size_log2, u64 *value);
bool mmu_store(CpuState *cpu, u64 va, unsigned size_log2, u64 value);
/* What an access of 1 << size_log2 bytes does before it touches memory. false: trap recorded. Else
 * *ready tells whether the page has an entry now (it has none if it is no memory, or not as a
 * whole, or if the access crosses the page's end); then the access works by the table. */
bool mmu_prepare(CpuState *cpu, u64 va, unsigned size_log2, bool store, bool *ready);
/* Host address of a naturally aligned memory word for atomics: AMO, CAS and SC (store permission,
 * cause 6/7/15) or LR (load permission, cause 4/5/13). MMIO gives an access fault. For stores, code
 * pages are reported first. 16-byte words: size_log2 4. */
bool mmu_amo_host(CpuState *cpu, u64 va, unsigned size_log2, void **host);
bool mmu_lr_host(CpuState *cpu, u64 va, unsigned size_log2, void **host);

/* Cache-block operations (Zicbom/Zicboz): checks a block of `size` bytes (power of two) that holds
 * va; `zero` needs store permission and clears it, management needs load or store permission.
 * Faults are store faults on va. */
bool mmu_cbo(CpuState *cpu, u64 va, unsigned size, bool zero);
/* Clears the 64 bytes around va, for the IR op zero. */
bool mmu_zero(CpuState *cpu, u64 va);

/* Instruction fetch: translates va for execution. On success the page's physical address and its
 * host memory (whole page, 4 KiB). Code can only run from RAM and ROM; elsewhere, and where PMP
 * allows only part of the page, see `limited`. */
typedef struct MmuFetch {
    u64 page_pa;
    const u8 *host;   /* of the page's first byte */
    bool limited;     /* PMP covers the page partially: the translation may be used for this one
                       * instruction only and must not enter the execute table; each fetch has
                       * to be checked */
} MmuFetch;
bool mmu_fetch(CpuState *cpu, u64 va, unsigned size, MmuFetch *out);

/* Reads guest memory for a debugger or log, ignoring permissions and not changing any state. false:
 * unmapped. */
bool mmu_debug_read(CpuState *cpu, u64 va, void *buf, u64 len);
/* Translates without side effect. false: unmapped. */
bool mmu_debug_translate(CpuState *cpu, u64 va, u64 *pa);

/* Execute entries, for the translator. Sets the entry of va's page in the current view to lead to
 * `desc` (see view.h). The softmmu drops it by itself when the mapping goes (fence, flush, PMP). */
void mmu_set_exec_entry(CpuState *cpu, u64 va, u64 page_pa, const void *desc);
/* Removes all execute entries of this hart, in all views, that lead to physical page page_pa. */
void mmu_drop_exec_entries(CpuState *cpu, u64 page_pa);
/* Removes all write entries of this hart, in all views, to page_pa: stores take the slow call and,
 * while the page is a code page of the bus (bus_set_code_page), call the bus's dirty callback.
 * True if the hart may have written to the page since its last safepoint. */
bool mmu_drop_write_entries(CpuState *cpu, u64 page_pa);
/* The hart is between instructions, and has dropped what it was asked to drop. */
void mmu_safepoint(CpuState *cpu);
/* Drops every execute entry of every view of this hart. */
void mmu_drop_all_exec_entries(CpuState *cpu);

/* Whether a host address faulted inside memory reserved by the aliasing layout; async-signal-safe.
 * Most aliases are not canonical for the host; for these the CPU reports no address: si_addr is 0
 * and si_code SI_KERNEL. */
bool mmu_is_alias_address(const void *host);

#endif
