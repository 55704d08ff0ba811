/*
 * What a compiled block is: the contract between the backend, which makes code, and core/exec,
 * which stores, finds, links and evicts it. Neither includes the other; both include this.
 *
 * Code lives in one code cache that is mapped twice, once writable and once executable, below 2 GiB
 * of address space, so that every code address fits 31 bits ("code address" below: a u32, the
 * executable address). The difference between the two mappings is constant: CodeSpace.write_delta.
 *
 * A block's outgoing direct jumps, calls among them, are its links. An unlinked jump leads to a
 * stub of the block that leaves with EXIT_LINK; linking patches it by aligned 4-byte stores. Within
 * the page that is the jump's 32-bit displacement. Across pages it is first the displacement, then
 * the 32-bit address of the CodePage descriptor that the code compares the target page's execute
 * entry with (CODE_NO_PAGE never compares equal). Unlinking writes the original values back, in the
 * opposite order.
 */
#ifndef STAG_CORE_IR_CODE_H
#define STAG_CORE_IR_CODE_H

#include "core/ir/ir.h"

typedef struct CodeSpace {
    u8 *exec;        /* start of the executable mapping, below 2 GiB */
    u64 size;
    s64 write_delta; /* writable address = executable address + write_delta */
} CodeSpace;

static inline void *code_writable(const CodeSpace *s, u64 exec_address)
{
    return (void *)(exec_address + (u64)s->write_delta);
}

enum { CODE_NO_PAGE = 1, CODE_MAX_LINKS = 64 };

/* One direct jump of a block. */
typedef struct CodeLink {
    u32 jump;   /* code address of the jump's 4-byte displacement field (aligned to 4) */
    u32 stub;   /* code address that it leads to when unlinked */
    u32 expect; /* cross-page: code address of the 4-byte immediate to compare with (aligned to 4);
                   else 0 */
    s32 target; /* guest target as an offset from the block's page */
    bool ungrouped; /* leads to a block without groups of accesses (IrBlock.ungrouped); unlinked, it
                       leaves with EXIT_SPLIT */
} CodeLink;

/* Where a block may be written. What seldom runs, the cold part, stands apart, so that the code
 * that runs is close together. */
typedef struct CodeRoom {
    u32 at, size; /* code address, aligned to 4, and bytes */
    u32 cold_at, cold_size; /* above; size 0: the cold part follows the hot one */
} CodeRoom;

/* Result of a compilation: the code is at [start, start + size) and [cold, cold + cold_size). */
typedef struct CompiledBlock {
    u32 start, size;
    u32 cold, cold_size; /* with the backend's own tables; 0, 0 if all is in the first part */
    u32 tables;       /* code address of those tables (backend's format), 0: none */
    u32 link_count;
    CodeLink links[CODE_MAX_LINKS];
} CompiledBlock;

/* Guest code addresses to host entry points: one per 4 KiB physical page that holds translated
 * code, allocated below 2 GiB, aligned to 16. entry[i] is the code address for the instruction at
 * page offset 2*i; where there is no block it is the backend's `miss` stub, which leaves with
 * EXIT_NEXT. Their addresses are odd multiples of 4096, half their size: so none is twice the
 * address of a guest page, which an execute entry of 0 would be taken for. The execute table leads
 * here (softmmu/view.h). */
typedef struct CodePageEntries {
    u32 entry[2048];
} CodePageEntries;

#endif
