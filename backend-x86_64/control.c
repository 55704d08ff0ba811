/*
 * How a block is entered and left: the budget, direct jumps that are linked by patching, indirect
 * jumps through the execute table, guards, traps and helper calls.
 *
 * Instructions are counted for the whole block on entry. Every way out gives back those that did
 * not run, so the count is exact there. A taken branch in the middle of a block gives back before
 * it jumps; a kick has made the budget so negative that this does not make it forgotten.
 *
 * cpu->code_page is the virtual page of the running code: jumps to other pages change it.
 */
#include "backend-x86_64/compiler.h"

u32 packed_before(const Compiler *c)
{
    const u32 started = c->insns_started;
    const u32 unfinished = c->block->guest_insns - (started ? started - 1 : 0);
    return c->offset | unfinished << VIEW_PAGE_SHIFT;
}

u32 unfinished_after(const Compiler *c)
{
    return c->block->guest_insns - c->insns_started;
}

static bool in_page(s32 target)
{
    return target >= 0 && target < (s32)VIEW_PAGE_SIZE;
}

void emit_entry(Compiler *c)
{
    alu_mi(&c->a, true, ALU_SUB, RM_BUDGET, (s32)c->block->guest_insns);
    Cold *k = new_cold(c, COLD_BUDGET);
    k->slow[0] = jcc_fwd(&c->a, CC_S);
    k->packed = c->block->page_offset | c->block->guest_insns << VIEW_PAGE_SHIFT;
}

void cold_budget(Compiler *c, const Cold *k)
{
    bind(&c->a, k->slow[0]);
    mov_ri(&c->a, RSI, k->packed);
    jmp_to(&c->a, c->backend->stubs.exit_packed[EXIT_BUDGET]);
}

/* Leaves with EXIT_NEXT, EXIT_LINK or EXIT_SPLIT at page offset `target`. */
static void leave_at(Compiler *c, CpuExit why, s32 target, u32 link)
{
    mov_ri(&c->a, RDI, link);
    mov_ri(&c->a, RSI, (u32)target);
    jmp_to(&c->a, c->backend->stubs.exit_after[why]);
}

/* Gives `n` instructions back. */
static void refund(Compiler *c, u32 n)
{
    if (n) {
        alu_mi(&c->a, true, ALU_ADD, RM_BUDGET, (s32)n);
    }
}

/* reg = the running code's page + delta. */
static void load_page(Compiler *c, unsigned reg, s32 delta)
{
    x86(&c->a, X_MOV_LOAD | w_if(c->x64), reg, RM_PAGE, 0);
    alu_mi(&c->a, c->x64, ALU_ADD, rm_reg(reg), delta);
}

/* Makes the byte `ahead` bytes from here one whose address is a multiple of 4. */
static void align_ahead(Compiler *c, unsigned ahead)
{
    nops(&c->a, -(asm_here(&c->a) + ahead) & 3);
}

/* Notes a link whose displacement field is at `field`; its stub comes with the cold code. */
static Cold *new_link(Compiler *c, const u8 *field, s32 target)
{
    CompiledBlock *out = c->out;
    Cold *k = new_cold(c, COLD_LINK);
    k->packed = out->link_count;
    k->target = target;
    CodeLink *link = &out->links[out->link_count++];
    link->jump = asm_here(&c->a) - (u32)(c->a.p - field);
    link->stub = 0;
    link->expect = 0;
    link->target = target;
    link->ungrouped = false;
    return k;
}

static bool links_left(const Compiler *c, u32 n)
{
    return c->out->link_count + n <= CODE_MAX_LINKS;
}

/* rdi = the running code's page + delta; compares what its execute entry leads to with a
 * descriptor's address, the last four bytes, at a multiple of 4. (Where there is no entry, it is 0,
 * and no descriptor's address is twice that of a page: core/ir/code.h.) */
static void compare_page(Compiler *c, s32 delta, u32 descriptor)
{
    Asm *a = &c->a;
    load_page(c, RDI, delta);
    vex(a, V_BEXTR | X_W, RSI, R14, rm_reg(RDI), 0);
    x86(a, X_MOV_LOAD | X_W, RSI, rm_index(R15, RSI, 3, (s32)VIEW_EXEC_OFFSET), 0);
    x86(a, X_LEA | X_W, RSI, rm_index(RSI, RDI, 1, 0), 0);
    align_ahead(c, 3);
    x86(a, 0x81 | X_W, ALU_CMP, rm_reg(RSI), 4);
    emit32(a, descriptor);
}

/* A direct jump (or call) to page offset `target`, unconditional. */
static void direct_jump(Compiler *c, s32 target, bool call)
{
    Asm *a = &c->a;
    if (!links_left(c, 1)) {
        leave_at(c, EXIT_NEXT, target, 0);
        return;
    }
    if (in_page(target)) {
        align_ahead(c, 1);
        u8 *field = call ? call_fwd(a) : jmp_fwd(a);
        new_link(c, field, target)->slow[0] = field;
        return;
    }
    /* The target page's execute entry has to be the one that was linked. */
    compare_page(c, (s32)((u32)target & ~(u32)(VIEW_PAGE_SIZE - 1)), CODE_NO_PAGE);
    const u32 expect = asm_here(a) - 4;
    u8 *other = jcc_fwd(a, CC_NE);
    x86(a, X_MOV_STORE | X_W, RDI, RM_PAGE, 0);
    align_ahead(c, 1);
    u8 *field = call ? call_fwd(a) : jmp_fwd(a);
    Cold *k = new_link(c, field, target);
    k->slow[0] = field;
    k->slow[1] = other;
    c->out->links[k->packed].expect = expect;
}

/* Where an unlinked jump leads. */
void cold_link(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    CodeLink *link = &c->out->links[k->packed];
    link->stub = asm_here(a);
    bind(a, k->slow[0]);
    if (k->slow[1]) {
        /* Reached with the page changed already when the link is undone by another thread at the
         * wrong moment. */
        const s32 delta = (s32)((u32)k->target & ~(u32)(VIEW_PAGE_SIZE - 1));
        alu_mi(a, c->x64, ALU_SUB, RM_PAGE, delta);
        bind(a, k->slow[1]);
    }
    leave_at(c, link->ungrouped ? EXIT_SPLIT : EXIT_LINK, k->target, link->jump);
}

/*
 * Guest calls in progress, on the host stack. A call pushes the guest's return address and does a
 * host call: so the host predicts the return. At the return address stands the landing pad, which
 * takes the guest's address away again, says which page is running, and goes on by a link like any
 * other. A return whose target is the guest address on top is a host return; another one (longjmp,
 * another coroutine, the first return after code was left) forgets all calls and is an indirect
 * jump. At the bottom stands an address that no return has.
 *
 * Leaving generated code forgets them, too. So mappings, privilege and code may change there
 * without a thought for the landing pads.
 */
static bool calls(const Compiler *c, const IrInsn *in)
{
    return (in->aux & IR_CALL_BYTES) && links_left(c, 2);
}

static s32 return_offset(const Compiler *c, const IrInsn *in)
{
    return (s32)c->offset + (in->aux & IR_CALL_BYTES);
}

/* Pushes the return address; `spare` is a register for it unless it still is in one. */
static void push_return(Compiler *c, const IrInsn *in, unsigned spare)
{
    Asm *a = &c->a;
    const s32 offset = return_offset(c, in);
    x86(a, 0xf7, 0, rm_reg(RSP), 4);
    emit32(a, STACK_DEPTH);
    Cold *k = new_cold(c, COLD_STACK);
    k->slow[0] = jcc_fwd(a, CC_E);
    k->back = a->p;
    for (unsigned i = 0; i < SCRATCH_INTS; i++) {
        const unsigned r = scratch_ints[i];
        const IrValue v = c->owner[r] != IR_NONE ? c->owner[r] : c->ghost[r];
        if (v != IR_NONE && c->block->insns[v].op == IR_pcrel &&
            c->block->insns[v].type == c->block->xlen && c->block->insns[v].imm == offset) {
            push(a, r);
            return;
        }
    }
    load_page(c, spare, offset);
    push(a, spare);
}

void forget_calls(Asm *a)
{
    x86(a, X_MOV_LOAD | X_W, RSP, rm_cpu(offsetof(CpuState, stack_base)), 0);
}

void cold_stack(Compiler *c, const Cold *k)
{
    bind(&c->a, k->slow[0]);
    forget_calls(&c->a);
    bind_to(jmp_fwd(&c->a), k->back);
}

/* What stands behind a host call. */
static void landing_pad(Compiler *c, const IrInsn *in)
{
    const s32 offset = return_offset(c, in);
    pop(&c->a, RDI);
    alu_mi(&c->a, c->x64, ALU_SUB, rm_reg(RDI), offset);
    x86(&c->a, X_MOV_STORE | X_W, RDI, RM_PAGE, 0);
    direct_jump(c, offset, false);
}

void sel_goto(Compiler *c, const IrInsn *in)
{
    refund(c, unfinished_after(c));
    if (calls(c, in)) {
        push_return(c, in, RDI);
        direct_jump(c, in->imm, true);
        landing_pad(c, in);
    } else {
        direct_jump(c, in->imm, false);
    }
}

void sel_br(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    u8 *begin = a->p;
    const HostCond cc = emit_compare(c, in);
    release(c, in->a);
    release(c, in->b);
    op_end(c);
    const u32 n = unfinished_after(c);
    if (in_page(in->imm) && n == 0 && links_left(c, 1)) {
        /* Padding goes in front of the comparison, so that it fuses with the jump. */
        const unsigned pad = -(asm_here(a) + 2) & 3;
        if (pad) {
            const size_t length = (size_t)(a->p - begin);
            memmove(begin + pad, begin, length);
            a->p = begin;
            nops(a, pad);
            a->p += length;
        }
        u8 *field = jcc_fwd(a, cc);
        new_link(c, field, in->imm)->slow[0] = field;
        return;
    }
    Cold *k = new_cold(c, COLD_BRANCH);
    k->slow[0] = jcc_fwd(a, cc);
    k->target = in->imm;
    k->packed = n;
}

void cold_branch(Compiler *c, const Cold *k)
{
    bind(&c->a, k->slow[0]);
    refund(c, k->packed);
    direct_jump(c, k->target, false);
}

void jump_ungrouped(Compiler *c, u32 packed)
{
    Asm *a = &c->a;
    const s32 target = (s32)(packed & (VIEW_PAGE_SIZE - 1));
    refund(c, packed >> VIEW_PAGE_SHIFT);
    if (!links_left(c, 1)) {
        leave_at(c, EXIT_SPLIT, target, 0);
        return;
    }
    align_ahead(c, 1);
    u8 *field = jmp_fwd(a);
    Cold *k = new_link(c, field, target);
    k->slow[0] = field;
    c->out->links[k->packed].ungrouped = true;
}

/*
 * The target's bits 63:38 must all be the same. The entry leads to the page's descriptor: its word
 * for the target is the code address.
 */
void jump_to_rdi(Asm *a, bool x64, u32 none, bool call)
{
    if (x64) {
        mov_rr(a, true, RSI, RDI);
        shift_i(a, true, 7, RSI, VIEW_PAGE_SHIFT + VIEW_INDEX_BITS - 1);
        alu_mi(a, true, ALU_ADD, rm_reg(RSI), 1);
        alu_mi(a, true, ALU_CMP, rm_reg(RSI), 1);
        jcc_to(a, CC_A, none);
    }
    vex(a, V_BEXTR | X_W, RSI, R14, rm_reg(RDI), 0);
    x86(a, X_MOV_LOAD | X_W, RSI, rm_index(R15, RSI, 3, (s32)VIEW_EXEC_OFFSET), 0);
    x86(a, X_TEST | X_W, RSI, rm_reg(RSI), 0);
    jcc_to(a, CC_E, none);
    x86(a, X_MOV_LOAD, RSI, rm_index(RSI, RDI, 1, 0), 0);
    mov_rr(a, x64, R13, RDI);
    alu_mi(a, x64, ALU_AND, rm_reg(R13), -(s32)VIEW_PAGE_SIZE);
    x86(a, X_MOV_STORE | X_W, R13, RM_PAGE, 0);
    x86(a, 0xff, call ? 2 : 4, rm_reg(RSI), 0);
}

void sel_jump(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const Stubs *stubs = &c->backend->stubs;
    const Opnd target = opnd(c, in->a);
    const bool call = calls(c, in);
    release(c, in->a);
    refund(c, unfinished_after(c));
    if (call) {
        push_return(c, in, is_reg(&target, R13) ? RDI : R13);
    }
    if (target.kind == O_REG && !c->x64) {
        mov_rr(a, false, RDI, target.reg); /* clears bits 63:32, too */
    } else {
        load_int(c, c->x64, RDI, &target);
    }
    if (in->aux & IR_RETURN) {
        alu_rm(a, true, ALU_CMP, RDI, rm_mem(RSP, 8));
        jcc_to(a, CC_NE, stubs->return_miss);
        ret(a);
        return;
    }
    jump_to_rdi(a, c->x64, stubs->miss, call);
    if (call) {
        landing_pad(c, in);
    }
}

void sel_next(Compiler *c, const IrInsn *in)
{
    refund(c, unfinished_after(c));
    leave_at(c, EXIT_NEXT, in->imm, 0);
}

void sel_leave(Compiler *c)
{
    mov_ri(&c->a, RSI, packed_before(c));
    jmp_to(&c->a, c->backend->stubs.exit_status);
}

void sel_trap(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const Opnd value = opnd(c, in->a);
    release(c, in->a);
    if (value.kind == O_REG) {
        mov_rr(a, c->x64, RDI, value.reg);
    } else {
        load_int(c, c->x64, RDI, &value);
    }
    x86(a, X_MOV_STORE | X_W, RDI, rm_cpu(offsetof(CpuState, trap_value)), 0);
    mov_mi(a, true, rm_cpu(offsetof(CpuState, trap_cause)), in->aux);
    mov_ri(a, RSI, packed_before(c));
    jmp_to(a, c->backend->stubs.exit_packed[EXIT_TRAP]);
}

static Cold *new_exit(Compiler *c, CpuExit why)
{
    Cold *k = new_cold(c, COLD_EXIT);
    k->size = (u8)why;
    k->packed = packed_before(c);
    k->target = 0;
    return k;
}

void cold_exit(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    bind(a, k->slow[0]);
    if (k->slow[1]) {
        bind(a, k->slow[1]);
    }
    if (k->size == EXIT_GUARD) {
        mov_mi(a, false, rm_cpu(offsetof(CpuState, exit_arg)), k->target);
    }
    mov_ri(a, RSI, k->packed);
    jmp_to(a, c->backend->stubs.exit_packed[k->size]);
}

void sel_guard(Compiler *c, const IrInsn *in)
{
    if (c->guarded == in->imm) {
        return;
    }
    c->guarded = in->imm;
    x86(&c->a, 0x80, ALU_CMP, rm_cpu((u32)in->imm), 1);
    emit8(&c->a, 0);
    Cold *k = new_exit(c, EXIT_GUARD);
    k->target = in->aux;
    k->slow[0] = jcc_fwd(&c->a, CC_E);
}

void sel_guard_next_page(Compiler *c)
{
    Asm *a = &c->a;
    flush_ints(c);
    Cold *k = new_exit(c, EXIT_NEXT_PAGE);
    compare_page(c, (s32)VIEW_PAGE_SIZE, c->next_page_expected);
    k->slow[0] = jcc_fwd(a, CC_NE);
}

/* Arguments are in the frame, and no value is in a scratch register. */
static void call_helper(Compiler *c, const IrHelper *helper, u32 packed)
{
    Asm *a = &c->a;
    mov_mi(a, false, rm_frame(FRAME_PACKED), (s32)packed);
    mov_ri(a, RDI, (u64)(uintptr_t)helper->fn);
    call_to(a, c->backend->stubs.call[!!(helper->flags & HELPER_FP)][!!(helper->flags & HELPER_PC)]
                                     [!!(helper->flags & HELPER_TRAPS)]);
}

void sel_call(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrHelper *helper = &c->block->helpers[in->aux];
    c->guarded = -1;
    group_end(c);
    for (unsigned i = 0; i < helper->args; i++) {
        const Opnd o = opnd(c, ir_operand(in, i));
        const Rm m = rm_frame(FRAME_ARG + 8 * (s32)i);
        switch ((OpndKind)o.kind) {
        case O_REG: x86(a, X_MOV_STORE | X_W, o.reg, m, 0); break;
        case O_XMM: vex2(a, V_MOVSD_STORE, o.reg, m); break;
        case O_IMM:
            mov_mi(a, false, m, (s32)o.imm);
            mov_mi(a, false, rm_frame(FRAME_ARG + 8 * (s32)i + 4), (s32)(o.imm >> 32));
            break;
        case O_MEM:
            vex2(a, V_MOVSD_LOAD, XSCRATCH, opnd_rm(&o));
            vex2(a, V_MOVSD_STORE, XSCRATCH, m);
            break;
        }
    }
    for (unsigned i = 0; i < helper->args; i++) {
        release(c, ir_operand(in, i));
    }
    if (helper->flags & HELPER_IMM) {
        mov_mi(a, true, rm_frame(FRAME_ARG + 8 * helper->args), in->imm);
    }
    flush_ints(c);
    if (helper->flags & HELPER_REGS) {
        detach_all_homes(c);
    }
    call_helper(c, helper, packed_before(c));
    if (!c->val[c->index].uses) {
        return;
    }
    const Opnd result = opnd_frame(FRAME_RESULT);
    if (ir_type_is_int((IrType)in->type)) {
        const int d = dest_int(c, NULL, NULL);
        load_int(c, in->type == IR_I64, (unsigned)d, &result);
        define_int(c, d, in->type == IR_I32 ? VAL_ZX : 0);
    } else {
        const int d = dest_xmm(c, NULL);
        load_xmm(c, (unsigned)d, &result);
        define_xmm(c, d, 0);
    }
}

/* The state that the call meets is made in the fast path, so that both ways go on alike. */
void sel_callif(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    Opnd test = opnd(c, in->a);
    const bool w = in->type == IR_I64;
    const unsigned reg = need_reg(c, w, &test);
    release(c, in->a);
    flush_ints(c);
    c->guarded = -1;
    group_end(c);
    x86(a, X_TEST | w_if(w), reg, rm_reg(reg), 0);
    Cold *k = new_cold(c, COLD_CALL);
    k->slow[0] = jcc_fwd(a, CC_NE);
    k->back = a->p;
    k->packed = packed_before(c);
}

void cold_call(Compiler *c, const Cold *k)
{
    const IrInsn *in = &c->block->insns[k->ir];
    const IrHelper *helper = &c->block->helpers[in->aux];
    bind(&c->a, k->slow[0]);
    if (helper->flags & HELPER_IMM) {
        mov_mi(&c->a, true, rm_frame(FRAME_ARG), in->imm);
    }
    call_helper(c, helper, k->packed);
    bind_to(jmp_fwd(&c->a), k->back);
}
