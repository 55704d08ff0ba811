/*
 * Guest memory. The fast path takes the page's addend from the view's read or write table and
 * accesses `va + addend`; all that is not plain (no entry, an access across a page's end, an
 * address that is not canonical) goes to the cold part of the block and from there through a shared
 * stub to the softmmu.
 *
 *     lea   rdi, [base + disp]         (base itself is used where disp is 0)
 *     bextr rsi, rdi, r14              index = va[38:12]
 *     mov   rsi, [r15 + rsi*8]         (+ 1 GiB for stores)
 *     test  rsi, rsi
 *     jz    slow
 *     test  dil, 7                     (by size; none for bytes)
 *     jnz   misaligned                 -> back here if it stays in the page
 *     mov   dst, [rdi + rsi]
 *
 * Accesses off one base are checked together (group.c); this is for those that are alone.
 *
 * Where the address space is laid out for it, an address that is not canonical faults at the access
 * itself and the host-fault handler goes on at the slow entry; so up to the access nothing may be
 * changed that the slow path needs. Else it is tested first.
 */
#include <stdatomic.h>

#include "backend-x86_64/compiler.h"
#include "core/base/bits.h"
#include "softmmu/softmmu.h"

/* An address being translated: in register va (rdi or a mapped one); the entry comes in `entry`. */
typedef struct Access {
    unsigned va, entry;
} Access;

/* Brings base + disp into a register: the base's own if it is mapped and disp is 0. */
static unsigned address(Compiler *c, const Opnd *base, bool zero_extended, s32 disp)
{
    Asm *a = &c->a;
    const bool w = c->x64;
    if (base->kind == O_REG) {
        if (disp == 0 && base->reg != RSI && (w || zero_extended)) {
            return base->reg;
        }
        if (disp == 0) {
            mov_rr(a, w, RDI, base->reg);
        } else {
            x86(a, X_LEA | w_if(w), RDI, rm_mem(base->reg, disp), 0);
        }
    } else if (base->kind == O_IMM) {
        const u64 va = (u64)base->imm + (u64)(s64)disp;
        mov_ri(a, RDI, w ? va : (u32)va);
    } else {
        load_int(c, w, RDI, base);
        if (disp) {
            alu_mi(a, w, ALU_ADD, rm_reg(RDI), disp);
        }
    }
    return RDI;
}

/* The explicit test, for hosts where the layout does not do it. */
void canonical_test(Compiler *c, Cold *k, unsigned va, unsigned via)
{
    Asm *a = &c->a;
    mov_rr(a, true, via, va);
    shift_i(a, true, 4, via, 64 - VIEW_PAGE_SHIFT - VIEW_INDEX_BITS);
    shift_i(a, true, 7, via, 64 - VIEW_PAGE_SHIFT - VIEW_INDEX_BITS);
    alu_rm(a, true, ALU_CMP, via, rm_reg(va));
    k->slow[1] = jcc_fwd(a, CC_NE);
}

/* Table lookup up to the point where va + entry is the host address. The jumps to slow and
 * misaligned code are noted in k. */
static void lookup(Compiler *c, Cold *k, unsigned va, unsigned entry, s64 table, unsigned size_log2)
{
    Asm *a = &c->a;
    if (c->x64 && c->backend->config.canonical_test) {
        canonical_test(c, k, va, entry);
    }
    vex(a, V_BEXTR | X_W, entry, R14, rm_reg(va), 0);
    x86(a, X_MOV_LOAD | X_W, entry, rm_index(R15, entry, 3, (s32)table), 0);
    x86(a, X_TEST | X_W, entry, rm_reg(entry), 0);
    k->slow[0] = jcc_fwd(a, CC_E);
    if (size_log2) {
        x86(a, 0xf6 | X_BYTE_RM, 0, rm_reg(va), 1);
        emit8(a, (1u << size_log2) - 1);
        k->mis = jcc_fwd(a, CC_NE);
    }
}

/* Loads `size_log2` bytes from m, extended as the record wants. */
static void load_sized(Asm *a, const IrInsn *in, unsigned dst, Rm m)
{
    const bool is_signed = in->aux & IR_MEM_SIGNED, w = is_signed && in->type == IR_I64;
    switch (in->aux & IR_MEM_SIZE) {
    case 0: x86(a, is_signed ? X_MOVSX8 | w_if(w) : X_MOVZX8, dst, m, 0); break;
    case 1: x86(a, is_signed ? X_MOVSX16 | w_if(w) : X_MOVZX16, dst, m, 0); break;
    case 2:
        if (w) {
            x86(a, X_MOVSXD, dst, m, 0);
        } else {
            x86(a, X_MOV_LOAD, dst, m, 0);
        }
        break;
    default: x86(a, X_MOV_LOAD | X_W, dst, m, 0); break;
    }
}

static u8 loaded_flags(const IrInsn *in)
{
    if (in->type == IR_I32) {
        return VAL_ZX;
    }
    return (in->aux & IR_MEM_SIZE) < 3 && !(in->aux & IR_MEM_SIGNED) ? VAL_ZX : 0;
}

/* The access itself: d, an integer or xmm register, becomes what is at m. */
static void load_into(Compiler *c, const IrInsn *in, unsigned d, Rm m)
{
    Asm *a = &c->a;
    if (ir_type_is_int((IrType)in->type)) {
        load_sized(a, in, d, m);
        define_int(c, (int)d, loaded_flags(in));
    } else if (in->type == IR_F64) {
        vex2(a, V_MOVSD_LOAD, d, m);
        define_xmm(c, (int)d, 0);
    } else if (in->type == IR_F32) {
        vex2(a, V_MOVSS_LOAD, d, m);
        define_xmm(c, (int)d, VAL_ZX);
    } else {
        vex_imm(a, V_PINSRW, d, XSCRATCH, m, 0);
        define_xmm(c, (int)d, VAL_BOX16 | VAL_BOX32);
    }
}

static bool grouped_load(Compiler *c, const IrInsn *in)
{
    Rm m;
    Cold *leader;
    if (!group_access(c, in, false, &m, &leader)) {
        return false;
    }
    release(c, in->a);
    const unsigned d = (unsigned)(ir_type_is_int((IrType)in->type) ? dest_int(c, NULL, NULL)
                                                                   : dest_xmm(c, NULL));
    if (in->type == IR_F16) {
        vex(&c->a, V_PCMPEQD, XSCRATCH, XSCRATCH, rm_reg(XSCRATCH), 0);
    }
    if (leader) {
        leader->access = c->a.p;
    }
    load_into(c, in, d, m);
    group_accessed(c);
    return true;
}

void sel_ld(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const unsigned size = in->aux & IR_MEM_SIZE;
    if (grouped_load(c, in)) {
        return;
    }
    const Opnd base = opnd(c, in->a);
    const bool zx = c->val[rep(c, in->a)].flags & VAL_ZX;
    release(c, in->a);
    flush_ints(c);
    /* All that needs code of its own comes before the lookup: the cold paths come back at the
     * access. */
    const bool is_int = ir_type_is_int((IrType)in->type);
    const unsigned d = (unsigned)(is_int ? dest_after_flush(c) : dest_xmm(c, NULL));
    if (in->type == IR_F16) {
        vex(a, V_PCMPEQD, XSCRATCH, XSCRATCH, rm_reg(XSCRATCH), 0);
    }
    Cold *k = new_cold(c, COLD_LOAD);
    const unsigned va = address(c, &base, zx, in->imm);
    lookup(c, k, va, RSI, VIEW_READ_OFFSET, size);
    k->size = (u8)size;
    k->reg = (u8)va;
    k->reg2 = (u8)d;
    k->packed = packed_before(c);
    k->access = a->p;
    load_into(c, in, d, rm_index(va, RSI, 0, 0));
    k->back = a->p;
}

/* The misaligned entry, which falls into the slow one. */
static void cold_entries(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    if (k->mis) {
        bind(a, k->mis);
        mov_rr(a, false, R14, k->reg);
        call_to(a, c->backend->stubs.crosses[k->size]);
        bind_to(jcc_fwd(a, CC_BE), k->access);
    }
    for (unsigned i = 0; i < ARRAY_LEN(k->slow); i++) {
        if (k->slow[i]) {
            bind(a, k->slow[i]);
        }
    }
    if (c->x64 && !c->backend->config.canonical_test) {
        add_fault(c, k->access);
    }
}

void cold_load(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    const IrInsn *in = &c->block->insns[k->ir];
    cold_entries(c, k);
    mov_mi(a, false, rm_frame(FRAME_PACKED), (s32)k->packed);
    load_int(c, true, RDI, &(Opnd){.kind = O_REG, .reg = k->reg});
    call_to(a, c->backend->stubs.load[k->size]);
    /* rdi = the bytes, zero-extended. */
    const unsigned d = k->reg2;
    if (ir_type_is_int((IrType)in->type)) {
        if (d != RDI || (in->aux & IR_MEM_SIGNED)) {
            load_sized(a, in, d, rm_reg(RDI));
        }
    } else {
        vex2(a, V_MOVD_LOAD | X_W, d, rm_reg(RDI));
        if (in->type == IR_F16) {
            vex(a, V_ORPS, d, d, rm_data(c, DATA_UPPER48), 0);
        }
    }
    bind_to(jmp_fwd(a), k->back);
}

/* Brings an operand into a register that the address does not need. */
static void elsewhere(Compiler *c, Opnd *o)
{
    if (take_r13(c)) {
        load_int(c, true, R13, o);
        *o = (Opnd){.kind = O_REG, .reg = R13};
    } else {
        load_xmm(c, XSCRATCH, o);
        *o = (Opnd){.kind = O_XMM, .reg = XSCRATCH};
    }
}

/* The access itself: v, not in memory, to m. */
static void store_from(Compiler *c, unsigned size, const Opnd *v, Rm m)
{
    Asm *a = &c->a;
    if (v->kind == O_REG) {
        switch (size) {
        case 0: x86(a, X_MOV_STORE8, v->reg, m, 0); break;
        case 1: x86(a, X_MOV_STORE | X_66, v->reg, m, 0); break;
        case 2: x86(a, X_MOV_STORE, v->reg, m, 0); break;
        default: x86(a, X_MOV_STORE | X_W, v->reg, m, 0); break;
        }
    } else if (v->kind == O_IMM) {
        switch (size) {
        case 0:
            x86(a, 0xc6, 0, m, 1);
            emit8(a, (u8)v->imm);
            break;
        case 1:
            x86(a, 0xc7 | X_66, 0, m, 2);
            emit8(a, (u8)v->imm);
            emit8(a, (u8)(v->imm >> 8));
            break;
        default: mov_mi(a, size == 3, m, (s32)v->imm); break;
        }
    } else {
        switch (size) {
        case 0: vex_imm(a, V_PEXTRB, v->reg, 0, m, 0); break;
        case 1: vex_imm(a, V_PEXTRW, v->reg, 0, m, 0); break;
        case 2: vex2(a, V_MOVSS_STORE, v->reg, m); break;
        default: vex2(a, V_MOVSD_STORE, v->reg, m); break;
        }
    }
}

static bool grouped_store(Compiler *c, const IrInsn *in)
{
    const unsigned size = in->aux & IR_MEM_SIZE;
    Rm m;
    Cold *leader;
    if (!group_access(c, in, true, &m, &leader)) {
        return false;
    }
    Opnd v = opnd(c, in->b); /* where it is after the check */
    if (v.kind == O_MEM || (v.kind == O_IMM && size == 3 && !fits32(v.imm))) {
        need_reg(c, size == 3, &v);
    }
    release(c, in->a);
    release(c, in->b);
    if (leader) {
        leader->access = c->a.p;
    }
    store_from(c, size, &v, m);
    group_accessed(c);
    return true;
}

void sel_st(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const unsigned size = in->aux & IR_MEM_SIZE;
    if (grouped_store(c, in)) {
        return;
    }
    const Opnd base = opnd(c, in->a);
    Opnd v = opnd(c, in->b);
    const bool zx = c->val[rep(c, in->a)].flags & VAL_ZX;
    release(c, in->a);
    release(c, in->b);
    flush_ints(c);
    if (is_reg(&v, RDI) || is_reg(&v, RSI)) {
        v.reg = c->val[rep(c, in->b)].reg; /* it may be in r13 now */
    }
    /* The address takes rdi unless it is in a mapped register already. The entry takes rsi, or rdi
     * if the value is in rsi. A value that then has no integer register goes through r13 or
     * xmm15. */
    const bool mapped = base.kind == O_REG && base.reg != RDI && base.reg != RSI && in->imm == 0 &&
                        (c->x64 || zx);
    unsigned entry = RSI;
    if (v.kind == O_REG && (v.reg == RDI || v.reg == RSI)) {
        if (mapped) {
            entry = v.reg == RSI ? RDI : RSI;
        } else {
            elsewhere(c, &v);
        }
    } else if (v.kind == O_MEM || (v.kind == O_IMM && size == 3 && !fits32(v.imm))) {
        if (mapped) {
            load_int(c, size == 3, RDI, &v);
            v = (Opnd){.kind = O_REG, .reg = RDI};
        } else {
            elsewhere(c, &v);
        }
    }
    Cold *k = new_cold(c, COLD_STORE);
    const unsigned va = address(c, &base, zx, in->imm);
    lookup(c, k, va, entry, VIEW_WRITE_OFFSET, size);
    k->size = (u8)size;
    k->reg = (u8)va;
    k->packed = packed_before(c);
    k->opnd[0] = v;
    k->access = a->p;
    store_from(c, size, &v, rm_index(va, entry, 0, 0));
    k->back = a->p;
}

void cold_store(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    cold_entries(c, k);
    mov_mi(a, false, rm_frame(FRAME_PACKED), (s32)k->packed);
    load_int(c, true, RSI, &k->opnd[0]);
    load_int(c, true, RDI, &(Opnd){.kind = O_REG, .reg = k->reg});
    call_to(a, c->backend->stubs.store[k->size]);
    bind_to(jmp_fwd(a), k->back);
}

/*
 * Atomics. The alignment test is mandatory, the slow path does the whole operation in C
 * (atomic_slow). On the fast path rsi becomes the host address; the first access to it is a plain
 * load into r14 at which an address that is not canonical faults, before anything else is changed.
 * rax, where cmpxchg needs it, waits in xmm15.
 */
enum { INFO_OP = 16 };

static u64 atomic_info(const IrInsn *in)
{
    return in->aux | (u64)in->op << INFO_OP;
}

/* Everything up to the probing load; operands b and c stand in the frame afterwards. */
static Cold *atomic_begin(Compiler *c, const IrInsn *in, s64 table)
{
    Asm *a = &c->a;
    const unsigned size = in->aux & IR_MEM_SIZE, n = c->backend->info[in->op].operands;
    const Opnd base = opnd(c, in->a);
    const bool zx = c->val[rep(c, in->a)].flags & VAL_ZX;
    Opnd args[3];
    for (unsigned i = 1; i < n; i++) {
        args[i] = opnd(c, ir_operand(in, i));
    }
    for (unsigned i = 0; i < n; i++) {
        release(c, ir_operand(in, i));
    }
    flush_ints(c);
    for (unsigned i = 1; i < n; i++) {
        const Rm m = rm_frame(FRAME_ARG + 8 * (s32)i);
        if (args[i].kind == O_IMM) {
            mov_mi(a, false, m, (s32)args[i].imm);
            mov_mi(a, false, rm_frame(FRAME_ARG + 8 * (s32)i + 4), (s32)(args[i].imm >> 32));
        } else if (args[i].kind == O_REG) {
            x86(a, X_MOV_STORE | X_W, args[i].reg, m, 0);
        } else {
            load_xmm(c, XSCRATCH, &args[i]);
            vex2(a, V_MOVSD_STORE, XSCRATCH, m);
        }
    }
    Cold *k = new_cold(c, COLD_ATOMIC);
    const unsigned va = address(c, &base, zx, 0);
    lookup(c, k, va, RSI, table, size);
    if (k->mis) {
        k->slow[2] = k->mis;
        k->mis = NULL;
    }
    k->size = (u8)size;
    k->reg = (u8)va;
    k->packed = packed_before(c);
    alu_rm(a, true, ALU_ADD, RSI, rm_reg(va));
    k->access = a->p;
    switch (size) {
    case 0: x86(a, X_MOVZX8, R14, rm_mem(RSI, 0), 0); break;
    case 1: x86(a, X_MOVZX16, R14, rm_mem(RSI, 0), 0); break;
    default: x86(a, X_MOV_LOAD | w_if(size == 3), R14, rm_mem(RSI, 0), 0); break;
    }
    c->r14_dirty = true;
    return k;
}

static u32 sized(u32 opcode, unsigned size)
{
    switch (size) {
    case 0: return (opcode & ~1u) | X_BYTE;
    case 1: return opcode | X_66;
    case 2: return opcode;
    default: return opcode | X_W;
    }
}

/* A memory operation on [rsi] that is locked. */
static void locked(Asm *a, u32 opcode, unsigned size, unsigned reg)
{
    emit8(a, 0xf0);
    x86(a, sized(opcode, size), reg, rm_mem(RSI, 0), 0);
}

/* The old value in `from`, sign-extended from its size, becomes the record's value. */
static void atomic_end(Compiler *c, const IrInsn *in, Cold *k, unsigned from)
{
    Asm *a = &c->a;
    const bool w = in->type == IR_I64;
    const unsigned d = (unsigned)dest_after_flush(c);
    switch (k->size) {
    case 0: x86(a, X_MOVSX8 | w_if(w), d, rm_reg(from), 0); break;
    case 1: x86(a, X_MOVSX16 | w_if(w), d, rm_reg(from), 0); break;
    case 2: x86(a, w ? (u32)X_MOVSXD : (u32)X_MOV_LOAD, d, rm_reg(from), 0); break;
    default: load_int(c, true, d, &(Opnd){.kind = O_REG, .reg = (u8)from}); break;
    }
    k->reg2 = (u8)d;
    define_int(c, (int)d, w ? 0 : VAL_ZX);
    op_end(c);
    k->back = a->p;
}

static void save_rax(Asm *a)
{
    vex2(a, V_MOVD_LOAD | X_W, XSCRATCH, rm_reg(RAX));
}

static void restore_rax(Asm *a)
{
    vex2(a, V_MOVD_STORE | X_W, XSCRATCH, rm_reg(RAX));
}

void sel_amo(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const IrAmo op = (IrAmo)(in->aux >> IR_AMO_SHIFT);
    const unsigned size = in->aux & IR_MEM_SIZE;
    const bool w = size == 3;
    const Rm b = rm_frame(FRAME_ARG + 8);
    Cold *k = atomic_begin(c, in, VIEW_WRITE_OFFSET);
    if (op == IR_AMO_SWAP || op == IR_AMO_ADD) {
        x86(a, X_MOV_LOAD | X_W, R14, b, 0);
        if (op == IR_AMO_ADD) {
            locked(a, X_XADD, size, R14);
        } else {
            x86(a, sized(X_XCHG, size), R14, rm_mem(RSI, 0), 0);
        }
        atomic_end(c, in, k, R14);
        return;
    }
    /* rdi = what is to be stored, rax = what is expected. The address is not needed any more. */
    save_rax(a);
    mov_rr(a, true, RAX, R14);
    u8 *loop = a->p;
    static const u8 take_b[] = {CC_G, CC_L, CC_A, CC_B};
    switch (op) {
    case IR_AMO_XOR:
    case IR_AMO_AND:
    case IR_AMO_OR:
        mov_rr(a, true, RDI, RAX);
        alu_rm(a, true, op == IR_AMO_XOR ? ALU_XOR : op == IR_AMO_AND ? ALU_AND : ALU_OR, RDI, b);
        break;
    default: {
        /* Both sides extended to 32 bits if they are smaller. */
        const bool is_signed = op == IR_AMO_MIN || op == IR_AMO_MAX;
        const u32 extend = size == 0 ? (is_signed ? X_MOVSX8 : X_MOVZX8)
                           : size == 1 ? (is_signed ? X_MOVSX16 : X_MOVZX16)
                                       : X_MOV_LOAD | w_if(w);
        x86(a, extend, R14, b, 0);
        x86(a, extend, RDI, rm_reg(RAX), 0);
        alu_rm(a, w, ALU_CMP, RDI, rm_reg(R14));
        x86(a, 0x40 | X_0F | take_b[op - IR_AMO_MIN] | w_if(w), RDI, rm_reg(R14), 0);
        break;
    }
    }
    locked(a, X_CMPXCHG, size, RDI);
    bind_to(jcc_fwd(a, CC_NE), loop);
    mov_rr(a, true, R14, RAX);
    restore_rax(a);
    atomic_end(c, in, k, R14);
}

void sel_cas(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const unsigned size = in->aux & IR_MEM_SIZE;
    Cold *k = atomic_begin(c, in, VIEW_WRITE_OFFSET);
    x86(a, X_MOV_LOAD | X_W, RDI, rm_frame(FRAME_ARG + 16), 0);
    save_rax(a);
    x86(a, X_MOV_LOAD | X_W, RAX, rm_frame(FRAME_ARG + 8), 0);
    locked(a, X_CMPXCHG, size, RDI);
    mov_rr(a, true, R14, RAX);
    restore_rax(a);
    atomic_end(c, in, k, R14);
}

void sel_lr(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    Cold *k = atomic_begin(c, in, VIEW_READ_OFFSET);
    x86(a, X_MOV_STORE | X_W, RSI, rm_cpu(offsetof(CpuState, res_host)), 0);
    x86(a, X_MOV_STORE | X_W, R14, rm_cpu(offsetof(CpuState, res_value)), 0);
    x86(a, 0xc6, 0, rm_cpu(offsetof(CpuState, res_size_log2)), 1);
    emit8(a, k->size);
    atomic_end(c, in, k, R14);
}

void sel_sc(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const unsigned size = in->aux & IR_MEM_SIZE;
    Cold *k = atomic_begin(c, in, VIEW_WRITE_OFFSET);
    mov_ri(a, R14, 1);
    alu_rm(a, true, ALU_CMP, RSI, rm_cpu(offsetof(CpuState, res_host)));
    u8 *fail1 = jcc8_fwd(a, CC_NE);
    x86(a, 0x80, ALU_CMP, rm_cpu(offsetof(CpuState, res_size_log2)), 1);
    emit8(a, size);
    u8 *fail2 = jcc8_fwd(a, CC_NE);
    x86(a, X_MOV_LOAD | X_W, RDI, rm_frame(FRAME_ARG + 8), 0);
    save_rax(a);
    x86(a, X_MOV_LOAD | X_W, RAX, rm_cpu(offsetof(CpuState, res_value)), 0);
    locked(a, X_CMPXCHG, size, RDI);
    x86(a, 0x90 | X_0F | X_BYTE_RM | CC_NE, 0, rm_reg(R14), 0);
    restore_rax(a);
    bind8(a, fail1);
    bind8(a, fail2);
    mov_mi(a, true, rm_cpu(offsetof(CpuState, res_host)), 0);
    const unsigned d = (unsigned)dest_after_flush(c);
    mov_rr(a, false, d, R14);
    k->reg2 = (u8)d;
    define_int(c, (int)d, VAL_ZX);
    op_end(c);
    k->back = a->p;
}

void cold_atomic(Compiler *c, const Cold *k)
{
    Asm *a = &c->a;
    const IrInsn *in = &c->block->insns[k->ir];
    cold_entries(c, k);
    mov_ri(a, R14, BEXTR_INDEX);
    mov_mi(a, false, rm_frame(FRAME_PACKED), (s32)k->packed);
    x86(a, X_MOV_STORE | X_W, k->reg, rm_frame(FRAME_ARG), 0);
    mov_mi(a, true, rm_frame(FRAME_ARG + 24), (s32)atomic_info(in));
    call_to(a, c->backend->stubs.atomic);
    x86(a, X_MOV_LOAD | w_if(in->type == IR_I64), k->reg2, rm_frame(FRAME_RESULT), 0);
    bind_to(jmp_fwd(a), k->back);
}

static u64 host_load(const void *host, unsigned size)
{
    switch (size) {
    case 0: return __atomic_load_n((const u8 *)host, __ATOMIC_SEQ_CST);
    case 1: return __atomic_load_n((const u16 *)host, __ATOMIC_SEQ_CST);
    case 2: return __atomic_load_n((const u32 *)host, __ATOMIC_SEQ_CST);
    default: return __atomic_load_n((const u64 *)host, __ATOMIC_SEQ_CST);
    }
}

/* If *host holds `expected`, stores `value`. Returns what *host held. */
static u64 host_cas(void *host, unsigned size, u64 expected, u64 value)
{
    switch (size) {
    case 0: return __sync_val_compare_and_swap((u8 *)host, (u8)expected, (u8)value);
    case 1: return __sync_val_compare_and_swap((u16 *)host, (u16)expected, (u16)value);
    case 2: return __sync_val_compare_and_swap((u32 *)host, (u32)expected, (u32)value);
    default: return __sync_val_compare_and_swap((u64 *)host, expected, value);
    }
}

static u64 amo_result(IrAmo op, u64 old, u64 b, unsigned bits_)
{
    const s64 so = sext(old, bits_), sb = sext(b, bits_);
    const u64 uo = bits(old, 0, bits_), ub = bits(b, 0, bits_);
    switch (op) {
    case IR_AMO_SWAP: return b;
    case IR_AMO_ADD: return old + b;
    case IR_AMO_XOR: return old ^ b;
    case IR_AMO_AND: return old & b;
    case IR_AMO_OR: return old | b;
    case IR_AMO_MIN: return so <= sb ? old : b;
    case IR_AMO_MAX: return so >= sb ? old : b;
    case IR_AMO_MINU: return uo <= ub ? old : b;
    case IR_AMO_MAXU: return uo >= ub ? old : b;
    }
    return old;
}

/* The slow path of amo, cas, lr and sc, called by a stub: `info` as made by atomic_info. False:
 * trap recorded. */
bool atomic_slow(CpuState *cpu, u64 va, u64 b, u64 d, u64 info, u64 *result)
{
    const unsigned size = info & IR_MEM_SIZE, width = 8u << size;
    const IrOp op = (IrOp)(info >> INFO_OP);
    void *host;
    if (op == IR_lr) {
        if (!mmu_lr_host(cpu, va, size, &host)) {
            return false;
        }
        const u64 value = host_load(host, size);
        cpu->res_host = (u64)(uintptr_t)host;
        cpu->res_value = value;
        cpu->res_size_log2 = (u8)size;
        *result = (u64)sext(value, width);
        return true;
    }
    if (!mmu_amo_host(cpu, va, size, &host)) {
        return false;
    }
    if (op == IR_sc) {
        const bool held = cpu->res_host == (u64)(uintptr_t)host && cpu->res_size_log2 == size;
        cpu->res_host = 0;
        *result = !(held && host_cas(host, size, cpu->res_value, b) == cpu->res_value);
        return true;
    }
    if (op == IR_cas) {
        *result = (u64)sext(host_cas(host, size, b, d), width);
        return true;
    }
    for (u64 old = host_load(host, size);;) {
        const u64 value = amo_result((IrAmo)((info & 0xffff) >> IR_AMO_SHIFT), old, b, width);
        const u64 seen = host_cas(host, size, old, value);
        if (seen == old) {
            *result = (u64)sext(old, width);
            return true;
        }
        old = seen;
    }
}

/* 64 bytes of zeros, aligned: va + addend has va's place in the page. */
void sel_zero(Compiler *c, const IrInsn *in)
{
    Asm *a = &c->a;
    const Opnd base = opnd(c, in->a);
    const bool zx = c->val[rep(c, in->a)].flags & VAL_ZX;
    release(c, in->a);
    flush_ints(c);
    Cold *k = new_cold(c, COLD_ZERO);
    const unsigned va = address(c, &base, zx, 0);
    lookup(c, k, va, RSI, VIEW_WRITE_OFFSET, 0);
    k->reg = (u8)va;
    k->packed = packed_before(c);
    alu_rm(a, true, ALU_ADD, RSI, rm_reg(va));
    alu_mi(a, true, ALU_AND, rm_reg(RSI), -64);
    vex(a, V_XORPS, XSCRATCH, XSCRATCH, rm_reg(XSCRATCH), 0);
    k->access = a->p;
    for (s32 at = 0; at < 64; at += 16) {
        vex2(a, V_MOVAPS_STORE, XSCRATCH, rm_mem(RSI, at));
    }
    k->back = a->p;
}

void cold_zero(Compiler *c, const Cold *k)
{
    cold_entries(c, k);
    mov_mi(&c->a, false, rm_frame(FRAME_PACKED), (s32)k->packed);
    load_int(c, true, RDI, &(Opnd){.kind = O_REG, .reg = k->reg});
    call_to(&c->a, c->backend->stubs.zero);
    bind_to(jmp_fwd(&c->a), k->back);
}
