/*
 * T0 as a backend: a "compiled" block is the block's IR itself, copied into the code cache. See
 * interp.h.
 *
 * So T0 shares everything with T1 but the last step: finding, invalidation and eviction of blocks
 * work on copied IR as they do on machine code. Blocks are never linked; each returns to C.
 */
#include "machine/interp.h"

#include <string.h>

#include "core/base/bits.h"
#include "core/opt/opt.h"

/* What stands in the code cache; the block's records follow. */
typedef struct InterpBlock {
    u32 next_page_expected;
    IrBlock block; /* insns is set when it runs, as the cache's two mappings have two addresses */
} __attribute__((aligned(16))) InterpBlock;

struct Interp {
    CodeSpace space;
    bool (*guard_failed)(CpuState *cpu, unsigned guard);
};

Interp *interp_new(const CodeSpace *space, bool (*guard_failed)(CpuState *cpu, unsigned guard))
{
    Interp *interp = g_new0(Interp, 1);
    interp->space = *space;
    interp->guard_failed = guard_failed;
    return interp;
}

void interp_free(Interp *interp)
{
    g_free(interp);
}

static bool interp_compile(void *opaque, const IrBlock *block, u32 next_page_expected,
                           const CodeRoom *room, CompiledBlock *out)
{
    Interp *interp = opaque;
    u32 start = (u32)ALIGN_UP((u64)room->at, 16);
    if (start - room->at + sizeof(InterpBlock) + block->count * sizeof(IrInsn) > room->size) {
        return false;
    }
    InterpBlock *copy = code_writable(&interp->space, start);
    copy->next_page_expected = next_page_expected;
    copy->block = *block;
    copy->block.insns = (IrInsn *)(copy + 1);
    memcpy(copy->block.insns, block->insns, block->count * sizeof(IrInsn));
    opt_drop_dead(&copy->block);
    *out = (CompiledBlock){
        .start = start,
        .size = (u32)(sizeof(InterpBlock) + copy->block.count * sizeof(IrInsn)),
    };
    copy->block.insns = NULL;
    return true;
}

/* The stub area's first address is entered where a page has no block. */
static u32 interp_miss_stub(const void *opaque)
{
    const Interp *interp = opaque;
    return (u32)(uintptr_t)interp->space.exec;
}

/* Whether the next virtual page's execute entry leads to the expected descriptor (softmmu/view.h).
 */
static bool next_page_ok(CpuState *cpu, const void *expected)
{
    u64 va = ALIGN_DOWN(cpu->pc, VIEW_PAGE_SIZE) + VIEW_PAGE_SIZE;
    return view_canonical(va) &&
           *view_entry(cpu->view, VIEW_EXEC_OFFSET, va) + 2 * va == (uintptr_t)expected;
}

static CpuExit interp_enter(void *opaque, CpuState *cpu, u32 entry, u32 *link_jump)
{
    Interp *interp = opaque;
    *link_jump = 0;
    if (entry == interp_miss_stub(interp)) {
        return EXIT_NEXT;
    }
    InterpBlock *copy = (InterpBlock *)(uintptr_t)entry;
    IrBlock block = copy->block;
    block.insns = (IrInsn *)(copy + 1);
    IrInterpreter callbacks = {
        .guard_failed = interp->guard_failed,
        .next_page_ok = next_page_ok,
        .expected = (const void *)(uintptr_t)copy->next_page_expected,
        .load = mmu_load,
        .store = mmu_store,
        .amo_host = mmu_amo_host,
        .lr_host = mmu_lr_host,
        .zero = mmu_zero,
    };
    return ir_interpret(&block, cpu, &callbacks);
}

static void interp_link(const void *opaque, const CodeLink *link, u32 target, u32 page)
{
    (void)opaque, (void)link, (void)target, (void)page;
}

static void interp_unlink(const void *opaque, const CodeLink *link)
{
    (void)opaque, (void)link;
}

static void interp_disassemble(FILE *out, const void *opaque, u32 start, u32 size)
{
    (void)opaque, (void)size;
    InterpBlock *copy = (InterpBlock *)(uintptr_t)start;
    IrBlock block = copy->block;
    block.insns = (IrInsn *)(copy + 1);
    ir_print(out, &block);
}

void interp_fill_ops(Interp *interp, ExecOps *ops)
{
    ops->backend = interp;
    ops->compile = interp_compile;
    ops->miss_stub = interp_miss_stub;
    ops->enter = interp_enter;
    ops->link = interp_link;
    ops->unlink = interp_unlink;
    ops->disassemble_host = interp_disassemble;
}
