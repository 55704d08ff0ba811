/*
 * Where values are. The backward pass counts uses, marks records without effect (values nobody
 * uses, setregs that are overwritten before anything looks) and finds values that can be computed
 * straight into a mapped guest register; the functions behind it hand out the few scratch registers
 * during the forward pass, move values out of the way, and implement getreg and setreg, which
 * mostly only rename.
 */
#include "backend-x86_64/compiler.h"

static bool is_scratch(unsigned reg)
{
    return SCRATCH_MASK >> reg & 1;
}

static bool is_x_slot(int slot)
{
    return slot < 32;
}

/* What the backward pass knows at a place of the block about what comes behind it. */
typedef struct Behind {
    u16 next_get[SLOTS], next_set[SLOTS]; /* index of the nearest getreg and setreg */
    u16 barrier;                          /* ... of the nearest record that shows guest state */
    u64 overwritten; /* slots that are set again before anything looks */
    ReachBehind reach;
} Behind;

/* If a setreg of the value follows, and until then nobody looks at the register, the value can be
 * computed there. */
static inline void take_hint(Val *v, const Behind *behind)
{
    const unsigned slot = (u8)v->setslot % SLOTS; /* -1: any, the test says no */
    const bool free = (v->setslot >= 0) & (behind->barrier > v->hint_at) &
                      (behind->next_set[slot] == v->hint_at) &
                      (behind->next_get[slot] > v->hint_at);
    v->hint = free ? v->setslot : -1;
}

static inline void count_uses(Val *val, const IrInsn *in, unsigned operands)
{
    if (operands > 0) {
        val[in->a].uses++;
        if (operands > 1) {
            val[in->b].uses++;
            if (operands > 2) {
                val[in->c].uses++;
            }
        }
    }
}

/* Writes `count` values that nothing is known about yet, each in two words. */
static void new_values(Val *val, u32 count)
{
    static const Val fresh = {.home = -1, .hint = -1, .setslot = -1};
    _Static_assert(offsetof(Val, rep) == 6, "rep is the upper quarter of the first word");
    u64 words[2];
    memcpy(words, &fresh, sizeof(fresh));
    for (u32 i = 0; i < count; i++) {
        memcpy(&val[i], words, sizeof(words));
        words[0] += (u64)1 << 48;
    }
}

void backward_pass(Compiler *c)
{
    const IrBlock *block = c->block;
    const OpInfo *info = c->backend->info;
    Val *const val = c->val;
    Behind behind;
    behind.barrier = 0xffff;
    behind.overwritten = 0;
    behind.reach.open = 0;
    memset(behind.next_get, 0xff, sizeof(behind.next_get));
    memset(behind.next_set, 0xff, sizeof(behind.next_set));

    new_values(val, block->count);
    const IrInsn *in = block->insns + block->count;
    Val *v = val + block->count;
    for (u32 i = block->count; i-- > 0;) {
        in--;
        v--;
        /* The most frequent operations first: a comparison is known sooner than a jump table. */
        if (in->op == IR_insn) {
            continue;
        }
        if (in->op == IR_getreg) {
            const int slot = slot_of(in->imm);
            if (!v->uses) {
                v->loc = LOC_DEAD;
            } else if (slot >= 0) {
                behind.next_get[slot] = (u16)i;
                behind.overwritten &= ~((u64)1 << slot);
            }
            continue;
        }
        if (in->op == IR_setreg) {
            const int slot = slot_of(in->imm);
            Val *x = &val[in->a];
            if (slot >= 0) {
                behind.reach.open &= ~(u32)((u64)1 << slot);
                if (behind.overwritten >> slot & 1) {
                    v->loc = LOC_DEAD;
                    continue;
                }
                behind.overwritten |= (u64)1 << slot;
                behind.next_set[slot] = (u16)i;
                x->setslot = (s8)slot;
                x->hint_at = (u16)i;
            }
            x->uses++;
            continue;
        }
        if (in->op == IR_const) {
            v->loc = v->uses ? LOC_CONST : LOC_DEAD;
            c->konst[i] = in->imm64;
            continue;
        }
        const OpInfo op = info[in->op];
        if ((op.flags & OP_DROPS) && unlikely(!v->uses)) {
            v->loc = LOC_DEAD;
            continue;
        }
        take_hint(v, &behind);
        if (op.flags & OP_BARRIER) {
            count_uses(val, in, in->op == IR_call ? block->helpers[in->aux].args : op.operands);
            behind.barrier = (u16)i;
            behind.overwritten = 0;
            if (in->op == IR_ld || in->op == IR_st) {
                const IrInsn *base = &block->insns[in->a];
                const int slot = base->op == IR_getreg ? slot_of(base->imm) : -1;
                c->reach[i].rest = 0;
                if (slot >= 0 && is_x_slot(slot)) {
                    group_reach(c, &behind.reach, i, slot);
                }
            } else if (in->op == IR_call || in->op == IR_callif) {
                behind.reach.open = 0;
            }
            continue;
        }
        count_uses(val, in, op.operands);
        if ((op.flags & OP_PROPAGATES) && v->hint >= 0 && val[in->a].uses == 1) {
            /* The first operand is in the way of nobody: the same register will do for it. */
            val[in->a].setslot = v->hint;
            val[in->a].hint_at = v->hint_at;
        }
    }
}

static u16 new_spill(Compiler *c)
{
    return c->spill_free_count ? c->spill_free[--c->spill_free_count] : c->spill_count++;
}

static Rm rm_spill(unsigned word)
{
    return rm_frame((s32)(FRAME_SPILL + 8 * word));
}

/* Frees a scratch register whose value is needed later; the register keeps its contents. */
static void evict(Compiler *c, unsigned reg)
{
    const IrValue value = c->owner[reg];
    Val *v = &c->val[value];
    c->owner[reg] = IR_NONE;
    if (v->home >= 0) {
        v->loc = LOC_HOME;
        return;
    }
    if (reg != R13 && take_r13(c)) {
        mov_rr(&c->a, true, R13, reg);
        v->reg = R13;
        c->owner[R13] = value;
        return;
    }
    v->loc = LOC_SPILL;
    v->spill = new_spill(c);
    x86(&c->a, X_MOV_STORE | X_W, reg, rm_spill(v->spill), 0);
}

static void evict_xmm(Compiler *c, unsigned reg)
{
    Val *v = &c->val[c->xowner[reg]];
    c->xowner[reg] = IR_NONE;
    if (v->home >= 0) {
        v->loc = LOC_HOME;
        return;
    }
    v->loc = LOC_SPILL;
    v->spill = new_spill(c);
    vex2(&c->a, V_MOVSD_STORE, reg, rm_spill(v->spill));
}

/* Whether a scratch register holds the address of a group of accesses. */
static inline bool grouped(const Compiler *c, unsigned reg)
{
    return reg == R13 && c->group.slot >= 0;
}

/* Whether r13 is free for something else now; if so, its ghost goes. */
bool take_r13(Compiler *c)
{
    if ((c->busy >> R13 & 1) || c->owner[R13] != IR_NONE || grouped(c, R13)) {
        return false;
    }
    c->ghost[R13] = IR_NONE;
    return true;
}

/* Frees rdi and rsi. The third scratch register is one that C functions keep. */
void flush_ints(Compiler *c)
{
    if (c->owner[RDI] != IR_NONE) {
        evict(c, RDI);
    }
    if (c->owner[RSI] != IR_NONE) {
        evict(c, RSI);
    }
    c->ghost[RDI] = IR_NONE;
    c->ghost[RSI] = IR_NONE;
}

/* The scratch register whose turn it is. */
static unsigned next_scratch(Compiler *c)
{
    const unsigned i = c->next_int;
    c->next_int = (u8)(i + 1 < SCRATCH_INTS ? i + 1 : 0);
    return scratch_ints[i];
}

/* A scratch register for the operation in progress. */
int alloc_int(Compiler *c)
{
    for (unsigned pass = 0; pass < 3; pass++) {
        for (unsigned i = 0; i < SCRATCH_INTS; i++) {
            const unsigned r = next_scratch(c);
            if ((c->busy >> r & 1) || grouped(c, r) || (pass < 2 && c->owner[r] != IR_NONE) ||
                (pass < 1 && c->ghost[r] != IR_NONE)) {
                continue;
            }
            c->busy |= 1u << r;
            if (c->owner[r] != IR_NONE) {
                evict(c, r);
            }
            c->ghost[r] = IR_NONE;
            return (int)r;
        }
    }
    if (c->busy >> R14 & 1) {
        g_assert(grouped(c, R13) && !(c->busy >> R13 & 1));
        group_end(c);
        c->busy |= 1u << R13;
        return R13;
    }
    c->busy |= 1u << R14;
    c->r14_dirty = true;
    return R14;
}

/* An xmm scratch register that no value needs, or -1; the ones with ghosts in turn and last. */
static int find_xmm(Compiler *c)
{
    for (unsigned r = 12; r < XSCRATCH; r++) {
        if (!(c->xbusy >> r & 1) && c->xowner[r] == IR_NONE && c->xghost[r] == IR_NONE) {
            c->xbusy |= 1u << r;
            return (int)r;
        }
    }
    for (unsigned i = 12; i < XSCRATCH; i++) {
        const unsigned r = c->next_xmm;
        c->next_xmm = (u8)(r + 1 < XSCRATCH ? r + 1 : 12);
        if (!(c->xbusy >> r & 1) && c->xowner[r] == IR_NONE) {
            c->xbusy |= 1u << r;
            c->xghost[r] = IR_NONE;
            return (int)r;
        }
    }
    return -1;
}

/* One whose value can move to memory, or -1. */
static int steal_xmm(Compiler *c)
{
    for (unsigned r = 12; r < XSCRATCH; r++) {
        if (!(c->xbusy >> r & 1)) {
            evict_xmm(c, r);
            c->xbusy |= 1u << r;
            c->xghost[r] = IR_NONE;
            return (int)r;
        }
    }
    return -1;
}

int alloc_xmm(Compiler *c)
{
    int r = find_xmm(c);
    if (r < 0) {
        r = steal_xmm(c);
    }
    g_assert(r >= 0); /* no operation needs more */
    return r;
}

/* Whether the hinted guest register may be written now. */
static bool hint_ok(const Compiler *c, HomeKind kind)
{
    const int hint = c->val[c->index].hint;
    if (hint < 0 || c->backend->homes[hint].kind != kind) {
        return false;
    }
    const IrValue old = c->home_value[hint];
    return old == IR_NONE || c->val[old].uses == 0;
}

/* Whether a scratch register's contents may yet be wanted: it holds a guest register that the
 * current record is not about to overwrite. */
static bool haunted(const Compiler *c, unsigned reg)
{
    return c->ghost[reg] != IR_NONE && c->val[c->ghost[reg]].home != c->val[c->index].hint;
}

/* Whether an operand is in a scratch register that nobody needs after this record. */
static bool dies(const Compiler *c, const Opnd *o)
{
    return o && o->kind == O_REG && is_scratch(o->reg) && c->owner[o->reg] == IR_NONE;
}

/* The register for the result, after the operands were released: it may be an operand's. */
int dest_int(Compiler *c, const Opnd *a, const Opnd *b)
{
    if (hint_ok(c, HOME_INT)) {
        return c->backend->homes[c->val[c->index].hint].reg;
    }
    if (dies(c, a) && !haunted(c, a->reg)) {
        return a->reg;
    }
    if (dies(c, b) && !haunted(c, b->reg)) {
        return b->reg;
    }
    for (unsigned i = 0; i < SCRATCH_INTS; i++) {
        const unsigned r = scratch_ints[i];
        if (!(c->busy >> r & 1) && !grouped(c, r) && c->owner[r] == IR_NONE && !haunted(c, r)) {
            c->busy |= 1u << r;
            return (int)r;
        }
    }
    if (dies(c, a) || dies(c, b)) {
        return dies(c, a) ? a->reg : b->reg;
    }
    for (unsigned i = 0; i < SCRATCH_INTS; i++) {
        const unsigned r = next_scratch(c);
        if (!(c->busy >> r & 1) && !grouped(c, r) && c->owner[r] == IR_NONE) {
            c->busy |= 1u << r;
            return (int)r;
        }
    }
    for (unsigned i = 0; i < SCRATCH_INTS; i++) {
        const unsigned r = scratch_ints[i];
        if (!(c->busy >> r & 1) && !grouped(c, r)) {
            c->busy |= 1u << r;
            evict(c, r);
            return (int)r;
        }
    }
    /* All hold operands: take one's place, its value stays in the frame. */
    for (unsigned i = 0; i < SCRATCH_INTS; i++) {
        const unsigned r = scratch_ints[i];
        if (c->owner[r] != IR_NONE) {
            evict(c, r);
            return (int)r;
        }
    }
    return RDI;
}

/* ... of a memory access or division, which rdi and rsi are free after (flush_ints). No code is
 * emitted. r13 comes first: there the value outlives the next access. */
int dest_after_flush(Compiler *c)
{
    if (hint_ok(c, HOME_INT)) {
        return c->backend->homes[c->val[c->index].hint].reg;
    }
    return c->owner[R13] == IR_NONE && !haunted(c, R13) && !grouped(c, R13) ? R13 : RDI;
}

int dest_xmm(Compiler *c, const Opnd *a)
{
    if (hint_ok(c, HOME_XMM)) {
        return c->backend->homes[c->val[c->index].hint].reg;
    }
    if (a && a->kind == O_XMM && a->reg >= 12 && c->xowner[a->reg] == IR_NONE &&
        c->xghost[a->reg] == IR_NONE) {
        return a->reg;
    }
    int r = find_xmm(c);
    if (r >= 0) {
        return r;
    }
    /* An operand's that dies here. */
    for (r = 12; r < XSCRATCH; r++) {
        if (c->xowner[r] == IR_NONE) {
            return r;
        }
    }
    r = steal_xmm(c);
    if (r >= 0) {
        return r;
    }
    /* All hold operands that are needed later: one moves to memory, its register is overwritten in
     * place. */
    evict_xmm(c, 12);
    return 12;
}

/* Records that the current record's value has been computed into `reg`. */
void define_int(Compiler *c, int reg, u8 flags)
{
    Val *v = &c->val[c->index];
    v->flags = flags;
    if (is_scratch((unsigned)reg)) {
        v->loc = LOC_TEMP;
        v->reg = (u8)reg;
        v->home = -1;
        c->ghost[reg] = IR_NONE;
        if (v->uses) {
            c->owner[reg] = (IrValue)c->index;
        }
        return;
    }
    v->loc = LOC_HOME;
    v->home = v->hint;
    c->home_value[v->hint] = (IrValue)c->index;
}

void define_xmm(Compiler *c, int reg, u8 flags)
{
    Val *v = &c->val[c->index];
    v->flags = flags;
    if (reg >= 12) {
        v->loc = LOC_XTEMP;
        v->reg = (u8)reg;
        v->home = -1;
        c->xghost[reg] = IR_NONE;
        if (v->uses) {
            c->xowner[reg] = (IrValue)c->index;
        }
        return;
    }
    v->loc = LOC_HOME;
    v->home = v->hint;
    c->home_value[v->hint] = (IrValue)c->index;
}

/* The current record's value is the contents of a guest register, which the operation has just
 * written to memory. */
void set_home_alias(Compiler *c, unsigned slot, u8 flags)
{
    Val *v = &c->val[c->index];
    v->loc = LOC_HOME;
    v->home = (s8)slot;
    v->flags = flags;
    c->home_value[slot] = (IrValue)c->index;
}

/* The current record's value is that of v, an operand. */
void alias_of(Compiler *c, IrValue v)
{
    v = rep(c, v);
    c->val[c->index].rep = v;
    c->val[v].uses += c->val[c->index].uses;
    release(c, v);
}

void load_int(Compiler *c, bool w, unsigned dst, const Opnd *o)
{
    switch ((OpndKind)o->kind) {
    case O_REG:
        if (o->reg != dst) {
            mov_rr(&c->a, w, dst, o->reg);
        }
        break;
    case O_MEM: x86(&c->a, X_MOV_LOAD | w_if(w), dst, opnd_rm(o), 0); break;
    case O_IMM: mov_ri(&c->a, dst, w ? (u64)o->imm : (u32)o->imm); break;
    case O_XMM: vex2(&c->a, V_MOVD_STORE | w_if(w), o->reg, rm_reg(dst)); break;
    }
}

unsigned need_reg(Compiler *c, bool w, Opnd *o)
{
    if (o->kind != O_REG) {
        const unsigned r = (unsigned)alloc_int(c);
        load_int(c, w, r, o);
        *o = (Opnd){.kind = O_REG, .reg = (u8)r};
    }
    return o->reg;
}

void need_rm(Compiler *c, bool w, Opnd *o)
{
    if (o->kind != O_REG && o->kind != O_MEM) {
        need_reg(c, w, o);
    }
}

void load_xmm(Compiler *c, unsigned dst, const Opnd *o)
{
    switch ((OpndKind)o->kind) {
    case O_REG: vex2(&c->a, V_MOVD_LOAD | X_W, dst, rm_reg(o->reg)); break;
    case O_MEM: vex2(&c->a, V_MOVSD_LOAD, dst, opnd_rm(o)); break;
    case O_IMM:
        if (o->imm == 0) {
            vex(&c->a, V_XORPS, dst, dst, rm_reg(dst), 0);
        } else {
            /* Through the frame: constants of this class are rare. */
            mov_mi(&c->a, false, rm_frame(FRAME_RESULT), (s32)o->imm);
            mov_mi(&c->a, false, rm_frame(FRAME_RESULT + 4), (s32)(o->imm >> 32));
            vex2(&c->a, V_MOVSD_LOAD, dst, rm_frame(FRAME_RESULT));
        }
        break;
    case O_XMM:
        if (o->reg != dst) {
            vex2(&c->a, V_MOVAPS, dst, rm_reg(o->reg));
        }
        break;
    }
}

unsigned need_xmm(Compiler *c, Opnd *o)
{
    if (o->kind != O_XMM) {
        const unsigned r = (unsigned)alloc_xmm(c);
        load_xmm(c, r, o);
        *o = (Opnd){.kind = O_XMM, .reg = (u8)r};
    }
    return o->reg;
}

Opnd xopnd(Compiler *c, IrValue value)
{
    value = rep(c, value);
    Opnd o = opnd(c, value);
    if (o.kind != O_MEM) {
        need_xmm(c, &o);
        return o;
    }
    need_xmm(c, &o);
    Val *v = &c->val[value];
    if (v->loc == LOC_SPILL) {
        c->spill_pending[c->spill_pending_count++] = v->spill;
        v->home = -1;
    } else if (c->home_value[v->home] != value) {
        return o;
    }
    v->loc = LOC_XTEMP;
    v->reg = o.reg;
    c->xowner[o.reg] = value;
    return o;
}

void need_xrm(Compiler *c, Opnd *o)
{
    if (o->kind != O_XMM && o->kind != O_MEM) {
        need_xmm(c, o);
    }
}

/* A value that lives in a guest register is about to lose it: copies it to a scratch register. */
static void move_out(Compiler *c, IrValue value)
{
    Val *v = &c->val[value];
    const Home *home = &c->backend->homes[v->home];
    if (home->kind == HOME_XMM) {
        const unsigned r = (unsigned)alloc_xmm(c);
        vex2(&c->a, V_MOVAPS, r, rm_reg(home->reg));
        v->loc = LOC_XTEMP;
        v->reg = (u8)r;
        c->xowner[r] = value;
    } else {
        const Opnd o = home->kind == HOME_INT
                           ? (Opnd){.kind = O_REG, .reg = home->reg}
                           : (Opnd){.kind = O_MEM, .reg = RBP, .disp = home->disp};
        const unsigned r = (unsigned)alloc_int(c);
        load_int(c, true, r, &o);
        if (r == R14) {
            v->loc = LOC_SPILL;
            v->spill = new_spill(c);
            x86(&c->a, X_MOV_STORE | X_W, r, rm_spill(v->spill), 0);
        } else {
            v->loc = LOC_TEMP;
            v->reg = (u8)r;
            c->owner[r] = value;
        }
    }
    v->home = -1;
}

/* No value relies on any guest register any more. */
void detach_all_homes(Compiler *c)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        const IrValue value = c->home_value[slot];
        c->home_flags[slot] = 0;
        if (value == IR_NONE) {
            continue;
        }
        c->home_value[slot] = IR_NONE;
        Val *v = &c->val[value];
        if (!v->uses || v->home != (s8)slot) {
            continue;
        }
        if (v->loc == LOC_HOME) {
            const Home *home = &c->backend->homes[slot];
            const u16 word = new_spill(c);
            switch ((HomeKind)home->kind) {
            case HOME_INT: x86(&c->a, X_MOV_STORE | X_W, home->reg, rm_spill(word), 0); break;
            case HOME_XMM: vex2(&c->a, V_MOVSD_STORE, home->reg, rm_spill(word)); break;
            case HOME_MEM:
                vex2(&c->a, V_MOVSD_LOAD, XSCRATCH, rm_mem(RBP, home->disp));
                vex2(&c->a, V_MOVSD_STORE, XSCRATCH, rm_spill(word));
                break;
            }
            v->loc = LOC_SPILL;
            v->spill = word;
        }
        v->home = -1;
    }
}

void sel_getreg(Compiler *c, const IrInsn *in)
{
    const int slot = slot_of(in->imm);
    const bool as_int = ir_type_is_int((IrType)in->type);
    Val *v = &c->val[c->index];
    if (slot < 0) {
        const Opnd o = {.kind = O_MEM, .reg = RBP, .disp = cpu_disp((u32)in->imm)};
        if (as_int) {
            const int r = dest_int(c, NULL, NULL);
            load_int(c, in->type == IR_I64, (unsigned)r, &o);
            define_int(c, r, in->type == IR_I64 ? 0 : VAL_ZX);
        } else {
            const int r = dest_xmm(c, NULL);
            load_xmm(c, (unsigned)r, &o);
            define_xmm(c, r, 0);
        }
        return;
    }
    const IrValue current = c->home_value[slot];
    const Home *home = &c->backend->homes[slot];
    if (current != IR_NONE && c->val[current].uses) {
        /* One place for both, unless one is an integer and the other is not: then they may part
         * later. */
        if (ir_type_is_int((IrType)c->block->insns[current].type) == as_int) {
            v->rep = current;
            c->val[current].uses += v->uses;
            return;
        }
    } else if (current != IR_NONE && as_int && c->val[current].loc == LOC_TEMP &&
               c->ghost[c->val[current].reg] == current) {
        /* Still in the scratch register that it was computed in. */
        c->owner[c->val[current].reg] = current;
        c->val[current].uses = v->uses;
        v->rep = current;
        return;
    } else if (current != IR_NONE && !as_int && c->val[current].loc == LOC_XTEMP &&
               c->xghost[c->val[current].reg] == current) {
        c->xowner[c->val[current].reg] = current;
        c->val[current].uses = v->uses;
        v->rep = current;
        return;
    } else if (home->kind == HOME_MEM || (home->kind == HOME_INT) == as_int) {
        v->loc = LOC_HOME;
        v->home = (s8)slot;
        v->flags = c->home_flags[slot];
        if (!c->x64 && is_x_slot(slot)) {
            v->flags |= VAL_ZX;
        }
        c->home_value[slot] = (IrValue)c->index;
        return;
    }
    /* An integer wanted from an f register or the other way round. */
    Opnd o;
    switch ((HomeKind)home->kind) {
    case HOME_INT: o = (Opnd){.kind = O_REG, .reg = home->reg}; break;
    case HOME_XMM: o = (Opnd){.kind = O_XMM, .reg = home->reg}; break;
    default: o = (Opnd){.kind = O_MEM, .reg = RBP, .disp = home->disp}; break;
    }
    if (as_int) {
        const int r = dest_int(c, NULL, NULL);
        load_int(c, true, (unsigned)r, &o);
        define_int(c, r, c->home_flags[slot]);
    } else {
        const int r = dest_xmm(c, NULL);
        load_xmm(c, (unsigned)r, &o);
        define_xmm(c, r, c->home_flags[slot]);
    }
}

/* Brings the low half of *o, zero-extended, into a register of the same class that may be
 * overwritten. */
static void zero_extended(Compiler *c, Opnd *o)
{
    switch ((OpndKind)o->kind) {
    case O_IMM: o->imm = (u32)o->imm; break;
    case O_XMM:
        vex(&c->a, V_ANDPS, XSCRATCH, o->reg, rm_data(c, DATA_LOW32), 0);
        o->reg = XSCRATCH;
        break;
    case O_REG:
    case O_MEM: {
        const unsigned r = (unsigned)alloc_int(c);
        x86(&c->a, X_MOV_LOAD, r, opnd_rm(o), 0);
        *o = (Opnd){.kind = O_REG, .reg = (u8)r};
        break;
    }
    }
}

static void store_home(Compiler *c, const Home *home, bool narrow, Opnd *o)
{
    Asm *a = &c->a;
    const Rm m = rm_mem(RBP, home->disp);
    switch ((HomeKind)home->kind) {
    case HOME_INT:
        if (o->kind == O_IMM && o->imm == 0) {
            x86(a, 0x33, home->reg, rm_reg(home->reg), 0);
        } else {
            load_int(c, true, home->reg, o);
        }
        break;
    case HOME_XMM: load_xmm(c, home->reg, o); break;
    case HOME_MEM:
        if (o->kind == O_XMM) {
            vex2(a, V_MOVSD_STORE, o->reg, m);
        } else if (o->kind == O_IMM && narrow) {
            mov_mi(a, false, m, (s32)o->imm);
        } else if (o->kind == O_IMM && o->imm == (s32)o->imm) {
            mov_mi(a, true, m, (s32)o->imm);
        } else {
            need_reg(c, true, o);
            x86(a, X_MOV_STORE | w_if(!narrow), o->reg, m, 0);
        }
        break;
    }
}

void sel_setreg(Compiler *c, const IrInsn *in)
{
    const int slot = slot_of(in->imm);
    const IrValue value = rep(c, in->a);
    Val *v = &c->val[value];
    Opnd o = opnd(c, value);
    const bool is32 = in->type == IR_I32 || in->type == IR_F32;
    /* An x register's upper half is zero anyway under RV32. */
    const bool narrow = is32 && slot >= 0 && !c->x64 && is_x_slot(slot) &&
                        c->backend->homes[slot].kind == HOME_MEM;
    const bool extend = is32 && !narrow && !(v->flags & VAL_ZX);
    if (in->type == IR_F16) {
        /* Only the low 16 bits count. */
        if (o.kind == O_XMM) {
            vex(&c->a, V_ANDPS, XSCRATCH, o.reg, rm_data(c, DATA_LOW16), 0);
            o.reg = XSCRATCH;
        } else if (o.kind == O_IMM) {
            o.imm = (u16)o.imm;
        } else {
            const unsigned r = (unsigned)alloc_int(c);
            x86(&c->a, X_MOVZX16, r, opnd_rm(&o), 0);
            o = (Opnd){.kind = O_REG, .reg = (u8)r};
        }
    }
    if (slot < 0) {
        if (extend) {
            zero_extended(c, &o);
        }
        const Home home = {.kind = HOME_MEM, .disp = (s16)cpu_disp((u32)in->imm)};
        store_home(c, &home, false, &o);
        release(c, value);
        return;
    }
    if (c->group.slot == slot) {
        group_end(c);
    }
    const bool same = in->type != IR_F16 && !extend;
    if (same && v->loc == LOC_HOME && v->home == slot) {
        c->home_flags[slot] = v->flags;
        release(c, value);
        return;
    }
    if (extend) {
        zero_extended(c, &o);
    }
    const IrValue old = c->home_value[slot];
    c->home_value[slot] = IR_NONE;
    if (old != IR_NONE && c->val[old].home == slot && c->val[old].uses > (old == value)) {
        if (c->val[old].loc == LOC_HOME) {
            move_out(c, old);
        } else {
            c->val[old].home = -1;
        }
    }
    const Home *home = &c->backend->homes[slot];
    store_home(c, home, narrow, &o);
    c->home_flags[slot] = extend ? VAL_ZX : same && v->loc != LOC_CONST ? v->flags : 0;
    if (home->kind == HOME_MEM && same && (v->loc == LOC_TEMP || v->loc == LOC_XTEMP) &&
        v->home < 0 && !(narrow && !(v->flags & VAL_ZX))) {
        v->home = (s8)slot;
        c->home_value[slot] = value;
    }
    release(c, value);
    if (!v->uses || !same) {
        return;
    }
    /* Later uses find the value in the guest register. */
    if (v->loc == LOC_TEMP && home->kind == HOME_INT) {
        c->owner[v->reg] = IR_NONE;
        v->loc = LOC_HOME;
        v->home = (s8)slot;
        c->home_value[slot] = value;
    } else if (v->loc == LOC_XTEMP && home->kind == HOME_XMM) {
        c->xowner[v->reg] = IR_NONE;
        v->loc = LOC_HOME;
        v->home = (s8)slot;
        c->home_value[slot] = value;
    }
}
