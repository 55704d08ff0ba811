/*
 * Accesses off one base. A function's prologue stores six registers to the stack, a method reads
 * four fields of an object: such accesses have a base register in common that is not set between
 * them, and nearly always lie in one page. The first of them, the leader, checks for all:
 *
 *     lea   rdi, [base + lo]           lo, hi: the bytes that the accesses from here on touch
 *     mov   esi, edi
 *     shl   esi, 20
 *     cmp   esi, 0x1000 - (hi - lo) << 20
 *     ja    split                      not all in one page
 *     bextr rsi, rdi, r14
 *     mov   rsi, [r15 + rsi*8]         (+ 1 GiB for stores)
 *     test  rsi, rsi
 *     jz    miss
 *     lea   r13, [rdi + rsi]           the host address of base + lo
 *
 * and each access is then one instruction at [r13 + disp - lo]. Alignment does not matter within a
 * page. A leader that is a load checks for loads; the first store then tests the write entry, too
 * (widen). The rest follows from what softmmu/view.h promises about entries. Only helper calls end
 * it; what is in r13 goes when the base is set or when something else needs the register more.
 *
 * On a miss mmu_prepare takes the trap, or fills the tables and the leader tries again, or says
 * that there is no entry to be had (a device, a page that PMP cuts). Then, and when the accesses
 * are not in one page, the block is left before the instruction for one that is compiled from there
 * on without groups (EXIT_SPLIT), to which the jump is linked as any other.
 *
 * Which accesses belong together is found by the backward pass: a leader has to know how far those
 * behind it reach.
 */
#include "backend-x86_64/compiler.h"

enum {
    /* A group's bytes, at most. The wider it is, the more often it is not in one page. */
    GROUP_SPAN = 256,
    GROUP_DISP = 8192, /* displacements up to here belong to groups */
    MAX_REST = 255,
};

/* Backward pass: record i is a load or store. */
void group_reach(Compiler *c, ReachBehind *behind, u32 i, int slot)
{
    const IrInsn *in = &c->block->insns[i];
    const u32 bit = (u32)1 << slot;
    const s32 lo = in->imm, hi = lo + (1 << (in->aux & IR_MEM_SIZE));
    Reach *r = &behind->reach[slot];
    if (lo < -GROUP_DISP || lo > GROUP_DISP) {
        return;
    }
    const s32 all_lo = MIN(lo, r->lo), all_hi = MAX(hi, r->hi);
    if (behind->open & bit && all_hi - all_lo <= GROUP_SPAN) {
        *r = (Reach){(s16)all_lo, (s16)all_hi, (u8)(r->rest < MAX_REST ? r->rest + 1 : MAX_REST)};
    } else {
        *r = (Reach){(s16)lo, (s16)hi, 0};
        behind->open |= bit;
    }
    c->reach[i] = *r;
}

/* The integer register whose contents the base is, or -1. */
static int base_slot(const Compiler *c, const IrInsn *in)
{
    const Val *v = &c->val[rep(c, in->a)];
    return v->loc == LOC_HOME || v->loc == LOC_TEMP ? v->home : -1;
}

/* rdi = the base + disp, from the guest register itself. */
static void base_address(Compiler *c, int slot, s32 disp)
{
    const Home *home = &c->backend->homes[slot];
    if (home->kind == HOME_INT) {
        if (disp) {
            x86(&c->a, X_LEA | w_if(c->x64), RDI, rm_mem(home->reg, disp), 0);
        } else {
            mov_rr(&c->a, c->x64, RDI, home->reg);
        }
        return;
    }
    x86(&c->a, X_MOV_LOAD | w_if(c->x64), RDI, rm_mem(RBP, home->disp), 0);
    if (disp) {
        alu_mi(&c->a, c->x64, ALU_ADD, rm_reg(RDI), disp);
    }
}

static Cold *new_miss(Compiler *c, const IrInsn *in, bool store)
{
    Cold *k = new_cold(c, COLD_GROUP);
    k->size = in->aux & IR_MEM_SIZE;
    k->flag = store;
    k->packed = packed_before(c);
    k->reg = (u8)c->group.slot;
    k->target = c->group.lo;
    return k;
}

/* The group in r13 is for loads: tests whether it may be stored to, too. */
static void widen(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    c->busy |= 1u << R13;
    flush_ints(c);
    Cold *k = new_miss(c, in, true);
    base_address(c, c->group.slot, c->group.lo);
    k->back = a->p;
    vex(a, V_BEXTR | X_W, RSI, R14, rm_reg(RDI), 0);
    x86(a, 0x83 | X_W, ALU_CMP, rm_index(R15, RSI, 3, (s32)VIEW_WRITE_OFFSET), 1);
    emit8(a, 0);
    k->slow[0] = jcc_fwd(a, CC_E);
    c->group.writable = true;
}

/* Begins a group with the record, whose base is in guest register `slot`. */
static Cold *lead(Compiler *c, const IrInsn *in, int slot, bool store)
{
    Asm *a = &c->a;
    const Reach *r = &c->reach[c->index];
    c->group = (Group){(s8)slot, store, r->rest, r->lo, r->hi};
    c->ghost[R13] = IR_NONE;
    c->busy |= 1u << R13;
    flush_ints(c);
    Cold *k = new_miss(c, in, store);
    base_address(c, slot, r->lo);
    k->back = a->p;
    mov_rr(a, false, RSI, RDI);
    shift_i(a, false, 4, RSI, 32 - VIEW_PAGE_SHIFT); /* shorter than and */
    alu_mi(a, false, ALU_CMP, rm_reg(RSI),
           (s32)((VIEW_PAGE_SIZE - (u32)(r->hi - r->lo)) << (32 - VIEW_PAGE_SHIFT)));
    k->slow[2] = jcc_fwd(a, CC_A);
    if (c->x64 && c->backend->config.canonical_test) {
        canonical_test(c, k, RDI, RSI);
    }
    vex(a, V_BEXTR | X_W, RSI, R14, rm_reg(RDI), 0);
    x86(a, X_MOV_LOAD | X_W, RSI, rm_index(R15, RSI, 3, (s32)(store ? VIEW_WRITE_OFFSET
                                                                    : VIEW_READ_OFFSET)), 0);
    x86(a, X_TEST | X_W, RSI, rm_reg(RSI), 0);
    k->slow[0] = jcc_fwd(a, CC_E);
    x86(a, X_LEA | X_W, R13, rm_index(RDI, RSI, 0, 0), 0);
    return k;
}

bool group_access(Compiler *c, const IrInsn *in, bool store, Rm *m, Cold **leader)
{
    const int slot = base_slot(c, in);
    const Reach *r = &c->reach[c->index];
    Group *g = &c->group;
    *leader = NULL;
    if (slot < 0 || c->block->ungrouped) {
        return false;
    }
    const s32 end = in->imm + (1 << (in->aux & IR_MEM_SIZE));
    if (g->slot == slot && in->imm >= g->lo && end <= g->hi) {
        if (store && !g->writable) {
            widen(c, in);
        }
    } else if (r->rest && c->owner[R13] == IR_NONE && !(c->busy >> R13 & 1) &&
               (g->slot < 0 || g->rest < r->rest)) {
        *leader = lead(c, in, slot, store);
    } else {
        return false;
    }
    c->busy |= 1u << R13;
    g->rest = r->rest;
    *m = rm_mem(R13, in->imm - g->lo);
    return true;
}

void group_accessed(Compiler *c)
{
    if (!c->group.rest) {
        group_end(c);
    }
}

void cold_group(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    const IrInsn *in = &c->block->insns[k->ir];
    for (unsigned i = 0; i < 2; i++) {
        if (k->slow[i]) {
            bind(a, k->slow[i]);
        }
    }
    if (k->access && c->x64 && !c->backend->config.canonical_test) {
        add_fault(c, k->access); /* not canonical */
    }
    mov_mi(a, false, rm_frame(FRAME_PACKED), (s32)k->packed);
    base_address(c, k->reg, in->imm);
    call_to(a, c->backend->stubs.prepare[k->flag][k->size]);
    x86(a, X_TEST, RDI, rm_reg(RDI), 0);
    u8 *split = jcc8_fwd(a, CC_E);
    base_address(c, k->reg, k->target);
    bind_to(jmp_fwd(a), k->back);
    bind8(a, split);
    if (k->slow[2]) {
        bind(a, k->slow[2]);
    }
    jump_ungrouped(c, k->packed);
}
