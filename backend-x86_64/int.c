/*
 * Selection for the pure integer operations. Every function gets the operands wherever they are
 * (host register, memory, immediate) and picks the x86 form that needs the least moving; the
 * result's register may be that of an operand, which each sequence minds.
 */
#include "backend-x86_64/compiler.h"

bool fits32(s64 v)
{
    return v == (s32)v;
}

/* An immediate of an operation of 32 bits may be given in any form. */
static void normalise(const IrInsn *in, Opnd *o)
{
    if (o->kind == O_IMM && in->type == IR_I32) {
        o->imm = (s32)o->imm;
    }
}

/* Makes an immediate that x86 can't encode a register. */
static void encodable(Compiler *c, bool w, Opnd *o)
{
    if (o->kind == O_IMM && !fits32(o->imm)) {
        need_reg(c, w, o);
    }
}

/* op dst, o */
static void alu(Compiler *c, bool w, HostAlu op, unsigned dst, const Opnd *o)
{
    if (o->kind == O_IMM) {
        alu_mi(&c->a, w, op, rm_reg(dst), (s32)o->imm);
    } else {
        alu_rm(&c->a, w, op, dst, opnd_rm(o));
    }
}

/* 64-bit values in guest registers and 32-bit results are known to be zero-extended. */
static u8 zx_if_32(const IrInsn *in)
{
    return in->type == IR_I32 ? VAL_ZX : 0;
}

/* Whether the record may be done on the guest register's memory: x = x op something, with x not
 * mapped. */
static bool rmw_ok(Compiler *c, const IrInsn *in, const Opnd *a, const Opnd *b)
{
    const Val *v = &c->val[c->index];
    const Val *va = &c->val[rep(c, in->a)];
    return v->hint >= 0 && v->uses == 1 && a->kind == O_MEM && va->loc == LOC_HOME &&
           va->home == v->hint && va->uses == 1 && b->kind != O_MEM &&
           (in->type == IR_I64 || !c->x64);
}

static void sel_alu(Compiler *c, const IrInsn *in, HostAlu op, bool complement)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    IrValue vx = in->a, vy = in->b;
    normalise(in, &x);
    normalise(in, &y);
    encodable(c, w, &x);
    encodable(c, w, &y);
    if (!complement && rmw_ok(c, in, &x, &y)) {
        const int slot = c->val[c->index].hint;
        release(c, vx);
        release(c, vy);
        if (y.kind == O_IMM) {
            alu_mi(a, w, op, opnd_rm(&x), (s32)y.imm);
        } else {
            alu_mr(a, w, op, opnd_rm(&x), y.reg);
        }
        set_home_alias(c, (unsigned)slot, zx_if_32(in));
        return;
    }
    release(c, vx);
    release(c, vy);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    if (op != ALU_SUB && (x.kind == O_IMM || (is_reg(&y, d) && !is_reg(&x, d)))) {
        const Opnd t = x;
        x = y;
        y = t;
    }
    if (op == ALU_SUB && y.kind == O_IMM && y.imm != INT32_MIN) {
        op = ALU_ADD;
        y.imm = -y.imm;
    }
    if (op == ALU_ADD && x.kind == O_REG && x.reg != d && y.kind == O_IMM) {
        x86(a, X_LEA | w_if(w), d, rm_mem(x.reg, (s32)y.imm), 0);
    } else if (op == ALU_ADD && x.kind == O_REG && x.reg != d && y.kind == O_REG && y.reg != d) {
        x86(a, X_LEA | w_if(w), d, rm_index(x.reg, y.reg, 0, 0), 0);
    } else if (op == ALU_SUB && is_reg(&y, d) && !is_reg(&x, d)) {
        x86(a, 0xf7 | w_if(w), 3, rm_reg(d), 0);
        if (x.kind != O_IMM || x.imm) {
            alu(c, w, ALU_ADD, d, &x);
        }
    } else {
        load_int(c, w, d, &x);
        alu(c, w, op, d, &y);
    }
    if (complement) {
        x86(a, 0xf7 | w_if(w), 2, rm_reg(d), 0);
    }
    define_int(c, (int)d, zx_if_32(in));
}

/* a & ~b, a | ~b */
static void sel_andn(Compiler *c, const IrInsn *in)
{
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    if (in->op == IR_andn) {
        need_rm(c, w, &x);
        need_reg(c, w, &y);
    } else {
        need_reg(c, w, &x);
        need_rm(c, w, &y);
    }
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    if (in->op == IR_andn) {
        vex(&c->a, V_ANDN | w_if(w), d, y.reg, opnd_rm(&x), 0);
    } else {
        vex(&c->a, V_ANDN | w_if(w), d, x.reg, opnd_rm(&y), 0);
        x86(&c->a, 0xf7 | w_if(w), 2, rm_reg(d), 0);
    }
    define_int(c, (int)d, zx_if_32(in));
}

/* not 2, neg 3 */
static void sel_unary(Compiler *c, const IrInsn *in, unsigned digit)
{
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, &x, NULL);
    load_int(c, w, d, &x);
    x86(&c->a, 0xf7 | w_if(w), digit, rm_reg(d), 0);
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_shift(Compiler *c, const IrInsn *in, u32 variable, unsigned digit)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    if (y.kind == O_IMM) {
        const unsigned n = (unsigned)y.imm & (w ? 63 : 31);
        release(c, in->a);
        release(c, in->b);
        const unsigned d = (unsigned)dest_int(c, &x, NULL);
        if (digit == 4 && n == 1 && x.kind == O_REG && x.reg != d) {
            x86(a, X_LEA | w_if(w), d, rm_index(x.reg, x.reg, 0, 0), 0);
        } else {
            load_int(c, w, d, &x);
            if (n) {
                shift_i(a, w, digit, d, n);
            } else if (!w) {
                mov_rr(a, false, d, d);
            }
        }
        define_int(c, (int)d, zx_if_32(in) | (!w && digit == 5 && n ? VAL_POS : 0));
        return;
    }
    need_rm(c, w, &x);
    need_reg(c, w, &y);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    vex(a, variable | w_if(w), d, y.reg, opnd_rm(&x), 0);
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_rotate(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64, left = in->op == IR_rol;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    need_rm(c, w, &x);
    if (y.kind == O_IMM) {
        const unsigned n = (left ? 0u - (unsigned)y.imm : (unsigned)y.imm) & (w ? 63 : 31);
        release(c, in->a);
        release(c, in->b);
        const unsigned d = (unsigned)dest_int(c, &x, NULL);
        rorx(a, w, d, opnd_rm(&x), n);
        define_int(c, (int)d, zx_if_32(in));
        return;
    }
    const unsigned t = (unsigned)alloc_int(c);
    load_int(c, w, t, &y);
    x86(a, 0xf7 | w_if(w), 3, rm_reg(t), 0);
    vex(a, (left ? V_SHRX : V_SHLX) | w_if(w), t, t, opnd_rm(&x), 0);
    need_reg(c, w, &y);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    vex(a, (left ? V_SHLX : V_SHRX) | w_if(w), d, y.reg, opnd_rm(&x), 0);
    alu_rm(a, w, ALU_OR, d, rm_reg(t));
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_mul(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    if (x.kind == O_IMM) {
        const Opnd t = x;
        x = y;
        y = t;
    }
    normalise(in, &y);
    encodable(c, w, &y);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    if (y.kind == O_IMM) {
        const bool byte = y.imm == (s8)y.imm;
        x86(a, (byte ? 0x6bu : 0x69u) | w_if(w), d, opnd_rm(&x), byte ? 1 : 4);
        if (byte) {
            emit8(a, (u8)y.imm);
        } else {
            emit32(a, (u32)y.imm);
        }
    } else if (is_reg(&y, d)) {
        x86(a, X_IMUL | w_if(w), d, opnd_rm(&x), 0);
    } else {
        load_int(c, w, d, &x);
        x86(a, X_IMUL | w_if(w), d, opnd_rm(&y), 0);
    }
    define_int(c, (int)d, zx_if_32(in));
}

/* An operand extended from 32 to 64 bits. */
static void load_extended(Compiler *c, bool is_signed, unsigned dst, const Opnd *o)
{
    if (o->kind == O_IMM) {
        mov_ri(&c->a, dst, is_signed ? (u64)(s32)o->imm : (u32)o->imm);
    } else {
        x86(&c->a, is_signed ? (u32)X_MOVSXD : (u32)X_MOV_LOAD, dst, opnd_rm(o), 0);
    }
}

static void sel_mulh32(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    const unsigned t = (unsigned)alloc_int(c);
    load_extended(c, in->op != IR_mulhu, t, &x);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &y, &x);
    load_extended(c, in->op == IR_mulhs, d, &y);
    x86(a, X_IMUL | X_W, d, rm_reg(t), 0);
    shift_i(a, true, 5, d, 32);
    define_int(c, (int)d, VAL_ZX);
}

static void sel_mulhu64(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    if (is_reg(&y, RDX)) {
        const Opnd t = x;
        x = y;
        y = t;
    }
    need_rm(c, true, &y);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    if (is_reg(&x, RDX)) {
        vex(a, V_MULX | X_W, d, d, opnd_rm(&y), 0);
    } else {
        const bool save = d != RDX;
        if (save) {
            mov_rr(a, true, R14, RDX);
            c->r14_dirty = true;
        }
        load_int(c, true, RDX, &x);
        vex(a, V_MULX | X_W, d, d, opnd_rm(&y), 0);
        if (save) {
            mov_rr(a, true, RDX, R14);
        }
    }
    define_int(c, (int)d, 0);
}

static void sel_mulhs64(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    if (is_reg(&y, RAX)) {
        const Opnd t = x;
        x = y;
        y = t;
    }
    need_rm(c, true, &y);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    /* rax and rdx belong to the guest: keep them in r14 and xmm15. */
    mov_rr(a, true, R14, RAX);
    c->r14_dirty = true;
    vex2(a, V_MOVD_LOAD | X_W, XSCRATCH, rm_reg(RDX));
    load_int(c, true, RAX, &x);
    x86(a, 0xf7 | X_W, 5, opnd_rm(&y), 0);
    if (d != RDX) {
        load_int(c, true, d, &(Opnd){.kind = O_REG, .reg = RDX});
        vex2(a, V_MOVD_STORE | X_W, XSCRATCH, rm_reg(RDX));
    }
    if (d != RAX) {
        mov_rr(a, true, RAX, R14);
    }
    define_int(c, (int)d, 0);
}

/*
 * Division. Divisors 0 and -1 are RISC-V's own business and take the cold path; the rest is what
 * x86 does. rdi = divisor, the guest's rax and rdx stand in r14 and rsi meanwhile.
 */
static void sel_div(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64, is_signed = in->op == IR_divs || in->op == IR_rems;
    const bool remainder = in->op == IR_rems || in->op == IR_remu;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    normalise(in, &x);
    release(c, in->a);
    release(c, in->b);
    flush_ints(c);
    if (x.kind == O_REG && (x.reg == RDI || x.reg == RSI)) {
        x86(a, X_MOV_STORE | X_W, x.reg, rm_frame(FRAME_ARG), 0);
        x = opnd_frame(FRAME_ARG);
    }
    load_int(c, w, RDI, &y);
    Cold *k = new_cold(c, COLD_DIV);
    k->flag = w;
    k->reg2 = remainder;
    k->reg3 = is_signed;
    k->opnd[0] = x;
    if (is_signed) {
        x86(a, X_LEA | w_if(w), RSI, rm_mem(RDI, 1), 0);
        alu_mi(a, w, ALU_CMP, rm_reg(RSI), 1);
        k->slow[0] = jcc_fwd(a, CC_BE);
    } else {
        x86(a, X_TEST | w_if(w), RDI, rm_reg(RDI), 0);
        k->slow[0] = jcc_fwd(a, CC_E);
    }
    const unsigned d = (unsigned)dest_after_flush(c);
    k->reg = (u8)d;
    if (d != RAX) {
        mov_rr(a, true, R14, RAX);
        c->r14_dirty = true;
    }
    if (d != RDX) {
        mov_rr(a, true, RSI, RDX);
    }
    load_int(c, w, RAX, &x);
    if (is_signed) {
        if (w) {
            emit8(a, 0x48);
        }
        emit8(a, 0x99); /* cdq, cqo */
        x86(a, 0xf7 | w_if(w), 7, rm_reg(RDI), 0);
    } else {
        x86(a, 0x33, RDX, rm_reg(RDX), 0);
        x86(a, 0xf7 | w_if(w), 6, rm_reg(RDI), 0);
    }
    const unsigned result = remainder ? RDX : RAX;
    if (d != result) {
        mov_rr(a, w, d, result);
    }
    if (d != RDX) {
        mov_rr(a, true, RDX, RSI);
    }
    if (d != RAX) {
        mov_rr(a, true, RAX, R14);
    }
    op_end(c);
    k->back = a->p;
    define_int(c, (int)d, zx_if_32(in));
}

/* rdi = divisor, 0 or (signed) -1. */
void cold_div(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    const bool w = k->flag;
    const unsigned d = k->reg;
    bind(a, k->slow[0]);
    u8 *minus_one = NULL;
    if (k->reg3) {
        x86(a, X_TEST | w_if(w), RDI, rm_reg(RDI), 0);
        minus_one = jcc8_fwd(a, CC_NE);
    }
    if (k->reg2) {
        load_int(c, w, d, &k->opnd[0]); /* the remainder is the dividend */
        if (!w) {
            mov_rr(a, false, d, d);
        }
    } else {
        mov_ri(a, d, w ? ~(u64)0 : 0xffffffff);
    }
    bind_to(jmp_fwd(a), k->back);
    if (minus_one) {
        bind8(a, minus_one);
        if (k->reg2) {
            mov_ri(a, d, 0);
        } else {
            load_int(c, w, d, &k->opnd[0]);
            x86(a, 0xf7 | w_if(w), 3, rm_reg(d), 0);
        }
        bind_to(jmp_fwd(a), k->back);
    }
}

/* cmp or test for the condition of `in` on operands x and y; returns the condition. */
static HostCond compare(Compiler *c, const IrInsn *in, Opnd x, Opnd y)
{
    static const u8 code[] = {CC_E, CC_NE, CC_L, CC_GE, CC_B, CC_AE};
    static const u8 swapped[] = {CC_E, CC_NE, CC_G, CC_LE, CC_A, CC_BE};
    Asm *a = &c->a;
    const bool w = in->src == IR_I64;
    HostCond cc = (HostCond)code[in->aux];
    if (x.kind == O_IMM && y.kind != O_IMM) {
        const Opnd t = x;
        x = y;
        y = t;
        cc = (HostCond)swapped[in->aux];
    }
    if (y.kind == O_IMM && !w) {
        y.imm = (s32)y.imm;
    }
    encodable(c, w, &y);
    if (x.kind == O_IMM || (x.kind == O_MEM && y.kind == O_MEM)) {
        need_reg(c, w, &x);
    }
    if (y.kind == O_IMM && y.imm == 0 && x.kind == O_REG) {
        x86(a, X_TEST | w_if(w), x.reg, rm_reg(x.reg), 0);
    } else if (y.kind == O_IMM) {
        alu_mi(a, w, ALU_CMP, opnd_rm(&x), (s32)y.imm);
    } else if (x.kind == O_MEM) {
        alu_mr(a, w, ALU_CMP, opnd_rm(&x), y.reg);
    } else {
        alu_rm(a, w, ALU_CMP, x.reg, opnd_rm(&y));
    }
    return cc;
}

HostCond emit_compare(Compiler *c, const IrInsn *in)
{
    const Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    return compare(c, in, x, y);
}

static void sel_setcc(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    c->busy |= 1u << d;
    /* A fresh register is cleared first; an operand's has to be after the comparison. */
    const bool clear_first = !is_reg(&x, d) && !is_reg(&y, d);
    if (clear_first) {
        x86(a, 0x33, d, rm_reg(d), 0);
    }
    const HostCond cc = compare(c, in, x, y);
    if (!clear_first) {
        mov_ri(a, d, 0);
    }
    x86(a, 0x90 | X_0F | X_BYTE_RM | (u32)cc, 0, rm_reg(d), 0);
    define_int(c, (int)d, VAL_ZX | VAL_POS);
}

static void cmov(Compiler *c, bool w, HostCond cc, unsigned dst, const Opnd *o)
{
    x86(&c->a, 0x40 | X_0F | (u32)cc | w_if(w), dst, opnd_rm(o), 0);
}

/* a ? b : c */
static void sel_select(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b), z = opnd(c, in->c);
    /* The test comes first; nothing until the cmov touches the flags. Scratch registers run short
     * if all three are in some, so the condition is done with before others are loaded. */
    if (x.kind == O_IMM) {
        need_reg(c, w, &x);
    }
    if (x.kind == O_REG) {
        x86(a, X_TEST | w_if(w), x.reg, rm_reg(x.reg), 0);
    } else {
        alu_mi(a, w, ALU_CMP, opnd_rm(&x), 0);
    }
    release(c, in->a);
    release(c, in->b);
    release(c, in->c);
    const unsigned d = (unsigned)dest_int(c, &z, &y);
    if (is_reg(&y, d) && !is_reg(&z, d)) {
        need_rm(c, w, &z);
        cmov(c, w, CC_E, d, &z);
    } else {
        c->busy |= 1u << d;
        need_rm(c, w, &y);
        load_int(c, w, d, &z);
        cmov(c, w, CC_NE, d, &y);
    }
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_minmax(Compiler *c, const IrInsn *in)
{
    static const u8 take_b[] = {CC_G, CC_L, CC_A, CC_B}; /* condition on a, b to take b */
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    HostCond cc = (HostCond)take_b[in->op - IR_min];
    if (x.kind != O_REG) {
        need_reg(c, w, &x);
    }
    need_rm(c, w, &y);
    alu_rm(a, w, ALU_CMP, x.reg, opnd_rm(&y));
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    if (is_reg(&y, d)) {
        /* Keep b unless a is to be taken: the condition without "equal", operands turned round. */
        static const u8 take_a[] = {CC_L, CC_G, CC_B, CC_A};
        cc = (HostCond)take_a[in->op - IR_min];
        cmov(c, w, cc, d, &x);
    } else {
        load_int(c, w, d, &x);
        cmov(c, w, cc, d, &y);
    }
    define_int(c, (int)d, zx_if_32(in));
}

/* lzcnt, tzcnt, popcnt: clearing the destination cuts a false dependency on older hosts. */
static void sel_count(Compiler *c, const IrInsn *in, u32 opcode)
{
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    need_rm(c, w, &x);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, &x, NULL);
    if (!is_reg(&x, d)) {
        x86(&c->a, 0x33, d, rm_reg(d), 0);
    }
    x86(&c->a, opcode | w_if(w), d, opnd_rm(&x), 0);
    define_int(c, (int)d, VAL_ZX | VAL_POS);
}

static void sel_bswap(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, &x, NULL);
    load_int(c, w, d, &x);
    if (w || d >= 8) {
        emit8(a, 0x40 | (w ? 8 : 0) | d >> 3);
    }
    emit8(a, 0x0f);
    emit8(a, 0xc8 | (d & 7));
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_orcb(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    need_rm(c, w, &x);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, &x, NULL);
    vex2(a, V_MOVD_LOAD | w_if(w), XSCRATCH, opnd_rm(&x));
    vex(a, V_PCMPEQB, XSCRATCH, XSCRATCH, rm_data(c, DATA_ZERO), 0);
    vex2(a, V_MOVD_STORE | w_if(w), XSCRATCH, rm_reg(d));
    x86(a, 0xf7 | w_if(w), 2, rm_reg(d), 0);
    define_int(c, (int)d, zx_if_32(in));
}

/* Swaps neighbouring bits, then pairs, then nibbles. */
static void sel_brev8(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, &x, NULL);
    c->busy |= 1u << d;
    const unsigned t = (unsigned)alloc_int(c);
    load_int(c, w, d, &x);
    for (unsigned i = 0; i < 3; i++) {
        mov_rr(a, w, t, d);
        shift_i(a, w, 5, t, 1u << i);
        alu_rm(a, w, ALU_AND, t, rm_data(c, (Data)(DATA_M55 + i)));
        alu_rm(a, w, ALU_AND, d, rm_data(c, (Data)(DATA_M55 + i)));
        shift_i(a, w, 4, d, 1u << i);
        alu_rm(a, w, ALU_OR, d, rm_reg(t));
    }
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_clmul(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    need_rm(c, w, &x);
    const unsigned t = (unsigned)alloc_xmm(c);
    vex2(a, V_MOVD_LOAD | w_if(w), XSCRATCH, opnd_rm(&x));
    need_rm(c, w, &y);
    vex2(a, V_MOVD_LOAD | w_if(w), t, opnd_rm(&y));
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    vex_imm(a, 0x44 | X_0F3A | X_66, XSCRATCH, XSCRATCH, rm_reg(t), 0);
    if (in->op == IR_clmul) {
        vex2(a, V_MOVD_STORE | w_if(w), XSCRATCH, rm_reg(d));
    } else if (w) {
        vex_imm(a, 0x16 | X_0F3A | X_66 | X_W, XSCRATCH, 0, rm_reg(d), 1); /* vpextrq */
    } else {
        vex2(a, V_MOVD_STORE | X_W, XSCRATCH, rm_reg(d));
        shift_i(a, true, 5, d, 32);
    }
    define_int(c, (int)d, zx_if_32(in));
}

/* Calls ir_eval_fp or ir_eval_int through a stub that keeps every register; the result is in the
 * frame. */
void eval_call(Compiler *c, u32 stub, const IrInsn *in, const Opnd *args, unsigned count)
{
    Asm *a = &c->a;
    for (unsigned i = 0; i < count; i++) {
        const Rm m = rm_frame(FRAME_ARG + 8 * (s32)i);
        switch ((OpndKind)args[i].kind) {
        case O_REG: x86(a, X_MOV_STORE | X_W, args[i].reg, m, 0); break;
        case O_XMM: vex2(a, V_MOVSD_STORE, args[i].reg, m); break;
        case O_IMM:
            mov_mi(a, false, m, (s32)args[i].imm);
            mov_mi(a, false, rm_frame(FRAME_ARG + 8 * (s32)i + 4), (s32)(args[i].imm >> 32));
            break;
        case O_MEM:
            vex2(a, V_MOVSD_LOAD, XSCRATCH, opnd_rm(&args[i]));
            vex2(a, V_MOVSD_STORE, XSCRATCH, m);
            break;
        }
    }
    /* The record itself is the last argument; it stands behind the call. */
    call_to(a, stub);
    u64 words[2];
    memcpy(words, in, sizeof(words));
    u8 *skip = jmp8_fwd(a);
    emit64(a, words[0]);
    emit64(a, words[1]);
    bind8(a, skip);
}

static void sel_eval_int(Compiler *c, const IrInsn *in)
{
    Opnd args[3] = {opnd(c, in->a), opnd(c, in->b)};
    eval_call(c, c->backend->stubs.eval_int, in, args, 2);
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &args[0], &args[1]);
    x86(&c->a, X_MOV_LOAD | X_W, d, rm_frame(FRAME_RESULT), 0);
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_xperm(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    if (in->aux != 8) {
        sel_eval_int(c, in);
        return;
    }
    /* pshufb wants bit 7 set where the lane does not exist: a saturating add brings indices above
     * 15 there, and those from 8 (or 4) to 15 read zeros. */
    Opnd x = opnd(c, in->a), y = opnd(c, in->b);
    need_rm(c, w, &x);
    const unsigned t = (unsigned)alloc_xmm(c);
    vex2(a, V_MOVD_LOAD | w_if(w), t, opnd_rm(&x));
    need_rm(c, w, &y);
    vex2(a, V_MOVD_LOAD | w_if(w), XSCRATCH, opnd_rm(&y));
    release(c, in->a);
    release(c, in->b);
    const unsigned d = (unsigned)dest_int(c, &x, &y);
    vex(a, 0xdc | X_0F | X_66, XSCRATCH, XSCRATCH, rm_data(c, DATA_70), 0); /* vpaddusb */
    vex(a, 0x00 | X_0F38 | X_66, t, t, rm_reg(XSCRATCH), 0);                 /* vpshufb */
    vex2(a, V_MOVD_STORE | w_if(w), t, rm_reg(d));
    define_int(c, (int)d, zx_if_32(in));
}

static void sel_extend(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    Opnd x = opnd(c, in->a);
    if (in->op == IR_zext32 && (c->val[rep(c, in->a)].flags & VAL_ZX) && x.kind != O_MEM &&
        c->val[c->index].hint < 0) {
        alias_of(c, in->a);
        return;
    }
    need_rm(c, w, &x);
    const u8 known = c->val[rep(c, in->a)].flags;
    release(c, in->a);
    const unsigned d = (unsigned)dest_int(c, &x, NULL);
    u8 flags = zx_if_32(in);
    if (x.kind == O_REG && ((in->op == IR_sext32 && (known & VAL_POS)) ||
                            (in->op == IR_zext32 && (known & VAL_ZX)))) {
        load_int(c, true, d, &x);
        define_int(c, (int)d, known & (VAL_ZX | VAL_POS));
        return;
    }
    switch ((IrOp)in->op) {
    case IR_sext8: x86(a, X_MOVSX8 | w_if(w), d, opnd_rm(&x), 0); break;
    case IR_sext16: x86(a, X_MOVSX16 | w_if(w), d, opnd_rm(&x), 0); break;
    case IR_sext32:
        if (w) {
            x86(a, X_MOVSXD, d, opnd_rm(&x), 0);
        } else {
            x86(a, X_MOV_LOAD, d, opnd_rm(&x), 0);
        }
        break;
    case IR_zext8: x86(a, X_MOVZX8, d, opnd_rm(&x), 0); flags = VAL_ZX | VAL_POS; break;
    case IR_zext16: x86(a, X_MOVZX16, d, opnd_rm(&x), 0); flags = VAL_ZX | VAL_POS; break;
    default: x86(a, X_MOV_LOAD, d, opnd_rm(&x), 0); flags = VAL_ZX; break;
    }
    define_int(c, (int)d, flags);
}

void select_int(Compiler *c, const IrInsn *in)
{
    /* Constants only: the optimiser mostly leaves none of these. */
    const unsigned n = c->backend->info[in->op].operands;
    bool constant = true;
    u64 v[3] = {0};
    for (unsigned i = 0; i < n; i++) {
        const IrValue r = rep(c, ir_operand(in, i));
        constant = constant && c->val[r].loc == LOC_CONST;
        v[i] = constant ? (u64)c->konst[r] : 0;
    }
    u64 result;
    if (constant && ir_eval_int(in, v[0], v[1], v[2], &result)) {
        for (unsigned i = 0; i < n; i++) {
            release(c, ir_operand(in, i));
        }
        c->val[c->index].loc = LOC_CONST;
        c->konst[c->index] = in->type == IR_I32 ? (s32)result : (s64)result;
        return;
    }
    const bool w = in->type == IR_I64;
    switch ((IrOp)in->op) {
    case IR_add: sel_alu(c, in, ALU_ADD, false); break;
    case IR_sub: sel_alu(c, in, ALU_SUB, false); break;
    case IR_and: sel_alu(c, in, ALU_AND, false); break;
    case IR_or: sel_alu(c, in, ALU_OR, false); break;
    case IR_xor: sel_alu(c, in, ALU_XOR, false); break;
    case IR_xnor: sel_alu(c, in, ALU_XOR, true); break;
    case IR_andn:
    case IR_orn: sel_andn(c, in); break;
    case IR_not: sel_unary(c, in, 2); break;
    case IR_neg: sel_unary(c, in, 3); break;
    case IR_shl: sel_shift(c, in, V_SHLX, 4); break;
    case IR_shr: sel_shift(c, in, V_SHRX, 5); break;
    case IR_sar: sel_shift(c, in, V_SARX, 7); break;
    case IR_rol:
    case IR_ror: sel_rotate(c, in); break;
    case IR_mul: sel_mul(c, in); break;
    case IR_mulhs:
        if (w) {
            sel_mulhs64(c, in);
        } else {
            sel_mulh32(c, in);
        }
        break;
    case IR_mulhu:
        if (w) {
            sel_mulhu64(c, in);
        } else {
            sel_mulh32(c, in);
        }
        break;
    case IR_mulhsu:
        if (w) {
            sel_eval_int(c, in);
        } else {
            sel_mulh32(c, in);
        }
        break;
    case IR_divs: case IR_divu: case IR_rems: case IR_remu: sel_div(c, in); break;
    case IR_min: case IR_max: case IR_minu: case IR_maxu: sel_minmax(c, in); break;
    case IR_clz: sel_count(c, in, X_LZCNT); break;
    case IR_ctz: sel_count(c, in, X_TZCNT); break;
    case IR_popcnt: sel_count(c, in, X_POPCNT); break;
    case IR_bswap: sel_bswap(c, in); break;
    case IR_orcb: sel_orcb(c, in); break;
    case IR_brev8: sel_brev8(c, in); break;
    case IR_clmul: case IR_clmulh: sel_clmul(c, in); break;
    case IR_xperm: sel_xperm(c, in); break;
    case IR_setcc: sel_setcc(c, in); break;
    case IR_select: sel_select(c, in); break;
    default: sel_extend(c, in); break;
    }
}
