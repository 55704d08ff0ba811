/*
 * From records to host code: one pass backward that counts uses, one forward that emits a record at
 * a time, then the cold parts and the table of accesses that may fault. The switch below names
 * every IR operation, so a new one without a pattern does not compile.
 *
 * What becomes of the operations (a, b, d: wherever operands and result are):
 *
 *   const, getreg, box of a boxed value, ...  nothing: a new name for a place
 *   setreg             mov to the register's place, or nothing if the value was computed there
 *   getstate, setstate mov, movzx; for fflags MXCSR is looked at, too
 *   pcrel              mov d, [rbp + code_page]; add d, imm
 *   add                lea d, [a + b] if d is neither, else add; for x = x + b with x in memory
 *                      add [rbp + x], b
 *   sub and or xor     mov + op, or op on memory as for add; sub of an immediate is add
 *   andn orn xnor      andn; andn + not; xor + not
 *   not neg            mov + not, neg
 *   shl shr sar        mov + shift by a constant; shlx, shrx, sarx
 *   rol ror            rorx by a constant; else neg + shlx + shrx + or
 *   mul                imul
 *   mulhu mulhs        mulx; imul of rdx:rax; 32 bits: extend, imul, shr 32
 *   mulhsu             ir_eval_int; 32 bits as the others
 *   div* rem*          div, idiv; divisors 0 and -1 are cold
 *   min* max*          cmp + cmov
 *   clz ctz popcnt     lzcnt, tzcnt, popcnt
 *   bswap orcb brev8   bswap; vpcmpeqb + not; three steps of masks and shifts
 *   clmul clmulh       vpclmulqdq
 *   xperm              vpaddusb + vpshufb for bytes, ir_eval_int for nibbles
 *   sext* zext*        movsx, movzx, movsxd, mov
 *   setcc              xor d, d; cmp; setcc          select    test + cmov
 *   ld st              memory.c: lea, bextr, mov, test, test, mov; group.c: mov
 *   amo                lock xadd, xchg, or a loop of lock cmpxchg;  cas, sc  lock cmpxchg;  lr  mov
 *   fence              lock or [rsp], 0
 *   fadd .. fnmadd     vadds[sd] .. vfnmsub; ucomis + jp to the canonical NaN
 *   fmin fmax          vucomis; vmins[sd]; equal and NaN are cold
 *   feq flt fle        vcmpeq + and; vcomis + seta, setae;  fltq, fleq  vucomis
 *   fcvt_*             vcvt* with out-of-range values cold
 *   fsgnj*             vandps, vandnps, vorps, vxorps
 *   unbox box          vptest; vorps                     fbits ffrom   vmovd, vmovq
 *   the other FP operations, F16, and rounding modes that are not frm's: ir_eval_fp
 *   call               arguments into the frame, call through a stub
 *   callif             test; jne to such a call behind the block
 *   guard              cmp byte [rbp + x], 0; je
 *   guard_next_page    the execute entry against an immediate
 *   br goto jump       control.c
 */
#include "backend-x86_64/compiler.h"

#pragma GCC diagnostic error "-Wswitch"

/* getstate and setstate go to memory; it is never a guest register's mapped copy. Only fflags is
 * special: MXCSR holds a part of it. */
static bool is_fflags(const IrInsn *in)
{
    return in->imm == offsetof(CpuState, fflags) && in->aux == 2;
}

/* The flags so far: what is in memory and what MXCSR has collected since. MXCSR is left in the
 * frame. */
static void all_fflags(Compiler *c, unsigned d)
{
    Asm *a = &c->a;
    vex(a, V_STMXCSR, 3, 0, rm_frame(FRAME_RESULT), 0);
    x86(a, X_MOV_LOAD, d, rm_frame(FRAME_RESULT), 0);
    alu_mi(a, false, ALU_AND, rm_reg(d), 63);
    x86(a, X_MOVZX8, d, rm_mem(d, (s32)c->backend->stubs.fold), 0);
    alu_rm(a, false, ALU_OR, d, rm_cpu(offsetof(CpuState, fflags)));
}

static void sel_getstate(Compiler *c, const IrInsn *in)
{
    static const u32 load[] = {X_MOVZX8, X_MOVZX16, X_MOV_LOAD, X_MOV_LOAD | X_W};
    const int d = dest_int(c, NULL, NULL);
    if (is_fflags(in)) {
        all_fflags(c, (unsigned)d);
    } else {
        x86(&c->a, load[in->aux], (unsigned)d, rm_cpu((u32)in->imm), 0);
    }
    define_int(c, d, in->aux < 3 ? VAL_ZX : 0);
}

static void sel_setstate(Compiler *c, const IrInsn *in)
{
    static const u32 store[] = {X_MOV_STORE8, X_MOV_STORE | X_66, X_MOV_STORE, X_MOV_STORE | X_W};
    Opnd o = opnd(c, in->a);
    c->guarded = is_fflags(in) ? c->guarded : -1;
    need_reg(c, in->aux == 3, &o);
    release(c, in->a);
    if (is_fflags(in)) {
        /* Loading MXCSR is slow, and mostly the flags that are written are those that are there. */
        Asm *a = &c->a;
        const unsigned t = (unsigned)alloc_int(c);
        all_fflags(c, t);
        alu_rm(a, false, ALU_CMP, t, rm_reg(o.reg));
        u8 *same = jcc8_fwd(a, CC_E);
        x86(a, X_MOV_STORE, o.reg, rm_cpu(offsetof(CpuState, fflags)), 0);
        alu_mi(a, false, ALU_AND, rm_frame(FRAME_RESULT), -64);
        vex(a, V_LDMXCSR, 2, 0, rm_frame(FRAME_RESULT), 0);
        bind8(a, same);
        return;
    }
    x86(&c->a, store[in->aux], o.reg, rm_cpu((u32)in->imm), 0);
}

static void sel_pcrel(Compiler *c, const IrInsn *in)
{
    const bool w = in->type == IR_I64;
    const int d = dest_int(c, NULL, NULL);
    x86(&c->a, X_MOV_LOAD | w_if(w), (unsigned)d, RM_PAGE, 0);
    if (in->imm) {
        alu_mi(&c->a, w, ALU_ADD, rm_reg((unsigned)d), in->imm);
    }
    define_int(c, d, w ? 0 : VAL_ZX);
}

static void select_record(Compiler *c, const IrInsn *in)
{
    switch ((IrOp)in->op) {
    case IR_insn: case IR_const: break; /* emits_nothing, backward_pass */
    case IR_getreg: sel_getreg(c, in); break;
    case IR_setreg: sel_setreg(c, in); break;
    case IR_getstate: sel_getstate(c, in); break;
    case IR_setstate: sel_setstate(c, in); break;
    case IR_pcrel: sel_pcrel(c, in); break;

    case IR_add: case IR_sub: case IR_and: case IR_or: case IR_xor: case IR_andn: case IR_orn:
    case IR_xnor: case IR_not: case IR_neg: case IR_shl: case IR_shr: case IR_sar: case IR_rol:
    case IR_ror: case IR_mul: case IR_mulhs: case IR_mulhu: case IR_mulhsu: case IR_divs:
    case IR_divu: case IR_rems: case IR_remu: case IR_min: case IR_max: case IR_minu: case IR_maxu:
    case IR_clz: case IR_ctz: case IR_popcnt: case IR_bswap: case IR_orcb: case IR_brev8:
    case IR_clmul: case IR_clmulh: case IR_xperm: case IR_sext8: case IR_sext16: case IR_sext32:
    case IR_zext8: case IR_zext16: case IR_zext32: case IR_setcc: case IR_select:
        select_int(c, in);
        break;

    case IR_ld: sel_ld(c, in); break;
    case IR_st: sel_st(c, in); break;
    case IR_amo: sel_amo(c, in); break;
    case IR_cas: sel_cas(c, in); break;
    case IR_lr: sel_lr(c, in); break;
    case IR_sc: sel_sc(c, in); break;
    case IR_zero: sel_zero(c, in); break;
    case IR_fence:
        emit8(&c->a, 0xf0);
        alu_mi(&c->a, false, ALU_OR, rm_mem(RSP, 0), 0);
        break;

    case IR_fadd: case IR_fsub: case IR_fmul: case IR_fdiv: case IR_fsqrt: case IR_fmadd:
    case IR_fmsub: case IR_fnmsub: case IR_fnmadd: case IR_fmin: case IR_fmax: case IR_fminm:
    case IR_fmaxm:
    case IR_feq:
    case IR_flt:
    case IR_fle:
    case IR_fltq:
    case IR_fleq:
    case IR_fclass:
    case IR_fround:
    case IR_fcvt_ff:
    case IR_fcvt_if:
    case IR_fcvt_fi:
    case IR_fcvtmod:
    case IR_fsgnj:
    case IR_fsgnjn: case IR_fsgnjx: case IR_unbox: case IR_box: case IR_fbits: case IR_ffrom:
        select_fp(c, in);
        break;

    case IR_call: sel_call(c, in); break;
    case IR_callif: sel_callif(c, in); break;
    case IR_guard: sel_guard(c, in); break;
    case IR_guard_next_page: sel_guard_next_page(c); break;
    case IR_br: sel_br(c, in); break;
    case IR_goto: sel_goto(c, in); break;
    case IR_jump: sel_jump(c, in); break;
    case IR_next: sel_next(c, in); break;
    case IR_leave: sel_leave(c); break;
    case IR_trap: sel_trap(c, in); break;
    case IR_OP_COUNT: break;
    }
}

static void emit_cold(Compiler *c, const Cold *k)
{
    switch ((ColdKind)k->kind) {
    case COLD_BUDGET: cold_budget(c, k); break;
    case COLD_EXIT: cold_exit(c, k); break;
    case COLD_LOAD: cold_load(c, k); break;
    case COLD_STORE: cold_store(c, k); break;
    case COLD_ATOMIC: cold_atomic(c, k); break;
    case COLD_LINK: cold_link(c, k); break;
    case COLD_BRANCH: cold_branch(c, k); break;
    case COLD_DIV: cold_div(c, k); break;
    case COLD_EVAL: cold_eval(c, k); break;
    case COLD_GROUP: cold_group(c, k); break;
    case COLD_NAN: cold_nan(c, k); break;
    case COLD_FMA_NAN: cold_fma_nan(c, k); break;
    case COLD_MINMAX: cold_minmax(c, k); break;
    case COLD_UNBOX: cold_unbox(c, k); break;
    case COLD_CALL: cold_call(c, k); break;
    case COLD_ZERO: cold_zero(c, k); break;
    case COLD_STACK: cold_stack(c, k); break;
    }
}

/* A getreg of 64 bits whose value is where the register is, or where another record's is that
 * stands for the register: what sel_getreg does with most of them. */
static inline bool only_names_register(Compiler *c, const IrInsn *in, u32 i)
{
    const int slot = slot_of(in->imm);
    if (in->type != IR_I64 || slot < 0 || c->backend->homes[slot].kind == HOME_XMM) {
        return false;
    }
    Val *v = &c->val[i];
    const IrValue current = c->home_value[slot];
    if (current != IR_NONE) {
        Val *known = &c->val[current];
        if (known->uses && ir_type_is_int((IrType)c->block->insns[current].type)) {
            v->rep = current;
            known->uses += v->uses;
            return true;
        }
        if (known->uses || known->loc != LOC_HOME) {
            return false;
        }
    }
    v->loc = LOC_HOME;
    v->home = (s8)slot;
    v->flags = c->home_flags[slot];
    c->home_value[slot] = (IrValue)i;
    return true;
}

/* A setreg of 64 bits whose value has been computed into the register. */
static inline bool is_set_already(Compiler *c, const IrInsn *in)
{
    Val *v = &c->val[rep(c, in->a)];
    const int slot = slot_of(in->imm);
    if (in->type != IR_I64 || slot < 0 || v->loc != LOC_HOME || v->home != slot) {
        return false;
    }
    if (c->group.slot == slot) {
        group_end(c);
    }
    c->home_flags[slot] = v->flags;
    v->uses--;
    return true;
}

/* More than half of the records lead to no code; they are done with here. */
static inline bool emits_nothing(Compiler *c, const IrInsn *in, u32 i)
{
    Val *v = &c->val[i];
    if (in->op == IR_insn) {
        c->insns_started++;
        c->offset = (u32)in->imm;
        return true;
    }
    if (v->loc != LOC_NONE) { /* a constant, or dead */
        return true;
    }
    if (in->op == IR_getreg) {
        return only_names_register(c, in, i);
    }
    if (in->op == IR_setreg) {
        return is_set_already(c, in);
    }
    return false;
}

/* The hot part is written; what follows goes to the cold one's place, if it has one. */
static void begin_cold(Compiler *c)
{
    CompiledBlock *out = c->out;
    out->size = asm_here(&c->a) - out->start;
    out->cold = out->cold_size = 0;
    if (c->room->cold_size) {
        out->cold = c->room->cold_at;
        c->a.p = code_writable(&c->backend->config.space, out->cold);
        c->limit = c->a.p + c->room->cold_size;
    }
}

bool compile_block(Compiler *c)
{
    const IrBlock *block = c->block;
    backward_pass(c);
    if (c->limit - c->a.p < HOT_MARGIN) {
        return false;
    }
    emit_entry(c);
    const u8 *const last_start = c->limit - HOT_MARGIN;
    const IrInsn *in = block->insns;
    for (u32 i = 0, count = block->count; i < count; i++, in++) {
        if (emits_nothing(c, in, i)) {
            continue;
        }
        if (unlikely(c->a.p > last_start) ||
            (unlikely(in->op == IR_call) && c->limit - c->a.p < CALL_MARGIN)) {
            return false;
        }
        c->index = i;
        op_begin(c);
        select_record(c, in);
        op_end(c);
    }
    begin_cold(c);
    for (u32 i = 0; i < c->cold_count; i++) {
        if (c->limit - c->a.p < COLD_MARGIN) {
            return false;
        }
        emit_cold(c, &c->cold[i]);
    }
    /* A breakpoint marks the end of the code; the table of accesses that may fault follows. */
    if ((u64)(c->limit - c->a.p) < 16 + sizeof(Fault) * c->fault_count) {
        return false;
    }
    do {
        emit8(&c->a, 0xcc);
    } while (asm_here(&c->a) & 3);
    c->out->tables = 0;
    if (c->fault_count) {
        c->out->tables = asm_here(&c->a);
        emit32(&c->a, c->fault_count);
        memcpy(c->a.p, c->faults, sizeof(Fault) * c->fault_count);
        c->a.p += sizeof(Fault) * c->fault_count;
    }
    if (c->room->cold_size) {
        c->out->cold_size = asm_here(&c->a) - c->out->cold;
    } else {
        c->out->size = asm_here(&c->a) - c->out->start;
    }
    return true;
}
