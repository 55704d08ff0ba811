/*
 * T0: a block is run by looking at one record after the other. This is the oracle that generated
 * code is held to, so it does what core/ir/ops.def says and nothing clever: values stand in an
 * array that is indexed like the records, guest registers are always in memory, integer operations
 * are the table's expressions, floating point is soft float.
 *
 * Counting: the whole block is paid for on entry. Wherever it is left early, the instructions that
 * did not retire are paid back. An instruction begins at its `insn` record; while it runs, it has
 * not retired; a taken branch has.
 */
#include <stdatomic.h>
#include <string.h>

#include "core/ir/eval.h"
#include "core/ir/ir.h"

static u64 host_load(void *host, unsigned size_log2)
{
    switch (size_log2) {
    case 0: return __atomic_load_n((u8 *)host, __ATOMIC_SEQ_CST);
    case 1: return __atomic_load_n((u16 *)host, __ATOMIC_SEQ_CST);
    case 2: return __atomic_load_n((u32 *)host, __ATOMIC_SEQ_CST);
    default: return __atomic_load_n((u64 *)host, __ATOMIC_SEQ_CST);
    }
}

/* Replaces *host by `desired` if it holds *expected; else sets *expected to what it holds. */
static bool host_cas(void *host, unsigned size_log2, u64 *expected, u64 desired)
{
    switch (size_log2) {
#define CAS(T)                                                                                     \
    {                                                                                              \
        T old = (T)*expected;                                                                      \
        bool done = __atomic_compare_exchange_n((T *)host, &old, (T)desired, false,                \
                                                __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);               \
        *expected = old;                                                                           \
        return done;                                                                               \
    }
    case 0: CAS(u8)
    case 1: CAS(u16)
    case 2: CAS(u32)
    default: CAS(u64)
#undef CAS
    }
}

/* What an AMO stores, from the old value and the operand; bits above the size do not matter. */
static u64 amo_value(IrAmo op, u64 old, u64 b, unsigned size_log2)
{
    const unsigned w = 8u << size_log2;
    const u64 uo = old & mask64(w), ub = b & mask64(w);
    const s64 so = sext(old, w), sb = sext(b, w);
    switch (op) {
    case IR_AMO_SWAP: return b;
    case IR_AMO_ADD: return old + b;
    case IR_AMO_XOR: return old ^ b;
    case IR_AMO_AND: return old & b;
    case IR_AMO_OR: return old | b;
    case IR_AMO_MIN: return so < sb ? old : b;
    case IR_AMO_MAX: return so > sb ? old : b;
    case IR_AMO_MINU: return uo < ub ? old : b;
    default: return uo > ub ? old : b;
    }
}

/* A block in progress, for the ways out of it. */
typedef struct Run {
    const IrBlock *block;
    CpuState *cpu;
    u64 pc;      /* of the current instruction */
    u32 started; /* instructions begun, the current one included */
} Run;

/* Instructions that have not retired while the current one runs, itself included. */
static u32 left_with_current(const Run *r)
{
    return r->block->guest_insns - (r->started ? r->started - 1 : 0);
}

/* Leaves after the current instruction retired; the next one is at `pc`. */
static CpuExit leave_after(const Run *r, u64 pc, CpuExit why)
{
    r->cpu->pc = pc;
    cpu_spend_budget(r->cpu, (s64)r->started - r->block->guest_insns);
    return why;
}

/* Leaves before the current instruction has done anything. */
static CpuExit leave_before(const Run *r, CpuExit why)
{
    r->cpu->pc = r->pc;
    cpu_spend_budget(r->cpu, -(s64)left_with_current(r));
    return why;
}

/* Leaves because of the current instruction's trap, which is recorded. */
static CpuExit leave_trap(const Run *r)
{
    r->cpu->status = CPU_OK;
    return leave_before(r, EXIT_TRAP);
}

/* Leaves as cpu->status, which a helper set, demands. */
static CpuExit leave_status(const Run *r)
{
    const u32 status = r->cpu->status;
    r->cpu->status = CPU_OK;
    if (status == CPU_TRAP) {
        return leave_before(r, EXIT_TRAP);
    }
    return leave_after(r, r->cpu->pc, status == CPU_HALT ? EXIT_HALT : EXIT_NEXT);
}

CpuExit ir_interpret(const IrBlock *block, CpuState *cpu, const IrInterpreter *callbacks)
{
    u64 v[IR_MAX_INSNS];
    u8 *const state = (u8 *)cpu;
    const u64 page = cpu->pc & ~(u64)0xfff;
    const u64 address_mask = block->xlen == IR_I32 ? 0xffffffff : ~(u64)0;
    Run r = {.block = block, .cpu = cpu, .pc = cpu->pc};

    cpu_spend_budget(cpu, block->guest_insns);
    if (cpu->budget < 0 || atomic_load_explicit(&cpu->pending, memory_order_relaxed)) {
        cpu_spend_budget(cpu, -(s64)block->guest_insns);
        return EXIT_BUDGET;
    }

    u64 *out = v; /* where the current record's value goes */
    for (const IrInsn *i = block->insns;; i++, out++) {
#define A v[i->a]
#define B v[i->b]
#define C v[i->c]
        switch ((IrOp)i->op) {
            /* The pure integer operations, from the table. */
#define NONE IR_NO_VALUE
#define EVAL(name, operands, value)                                                                \
        case IR_##name: IR_EVAL(i, operands, value, A, B, C, out); break;
#define OP(name, operands, res, f, value) IR_IF_VALUE(EVAL, name, operands, value)
#include "core/ir/ops.def"
#undef EVAL
#undef NONE

        case IR_getreg:
            memcpy(out, state + i->imm, sizeof(u64));
            *out = ir_truncate(i->type, *out);
            break;
        case IR_setreg: {
            const u64 value = ir_truncate(i->type, A);
            memcpy(state + i->imm, &value, sizeof(value));
            break;
        }
        case IR_getstate:
            *out = 0;
            memcpy(out, state + i->imm, (size_t)1 << i->aux);
            break;
        case IR_setstate: memcpy(state + i->imm, &A, (size_t)1 << i->aux); break;
        case IR_pcrel: *out = ir_truncate(i->type, page + (u64)(s64)i->imm); break;

        case IR_ld: {
            const unsigned size_log2 = i->aux & IR_MEM_SIZE;
            const u64 va = ir_truncate(i->src, A + (u64)(s64)i->imm);
            if (!callbacks->load(cpu, va, size_log2, out)) {
                return leave_trap(&r);
            }
            if (i->aux & IR_MEM_SIGNED) {
                *out = ir_truncate(i->type, (u64)sext(*out, 8u << size_log2));
            }
            break;
        }
        case IR_st: {
            const unsigned size_log2 = i->aux & IR_MEM_SIZE;
            const u64 va = ir_truncate(i->src, A + (u64)(s64)i->imm);
            if (!callbacks->store(cpu, va, size_log2, B & mask64(8u << size_log2))) {
                return leave_trap(&r);
            }
            break;
        }
        case IR_zero:
            if (!callbacks->zero(cpu, A & address_mask)) {
                return leave_trap(&r);
            }
            break;
        case IR_amo:
        case IR_cas: {
            const unsigned size_log2 = i->aux & IR_MEM_SIZE, w = 8u << size_log2;
            void *host;
            if (!callbacks->amo_host(cpu, A & address_mask, size_log2, &host)) {
                return leave_trap(&r);
            }
            u64 old;
            if (i->op == IR_cas) {
                old = B;
                host_cas(host, size_log2, &old, C);
            } else {
                const IrAmo op = i->aux >> IR_AMO_SHIFT;
                old = host_load(host, size_log2);
                while (!host_cas(host, size_log2, &old, amo_value(op, old, B, size_log2))) {
                }
            }
            *out = ir_truncate(i->type, (u64)sext(old, w));
            break;
        }
        case IR_lr: {
            const unsigned size_log2 = i->aux & IR_MEM_SIZE, w = 8u << size_log2;
            void *host;
            if (!callbacks->lr_host(cpu, A & address_mask, size_log2, &host)) {
                return leave_trap(&r);
            }
            cpu->res_host = (u64)(uintptr_t)host;
            cpu->res_value = host_load(host, size_log2);
            cpu->res_size_log2 = (u8)size_log2;
            *out = ir_truncate(i->type, (u64)sext(cpu->res_value, w));
            break;
        }
        case IR_sc: {
            const unsigned size_log2 = i->aux & IR_MEM_SIZE;
            void *host;
            if (!callbacks->amo_host(cpu, A & address_mask, size_log2, &host)) {
                return leave_trap(&r);
            }
            u64 expected = cpu->res_value;
            const bool done = cpu->res_host == (u64)(uintptr_t)host &&
                              cpu->res_size_log2 == size_log2 &&
                              host_cas(host, size_log2, &expected, B);
            cpu->res_host = 0;
            *out = !done;
            break;
        }
        case IR_fence: atomic_thread_fence(memory_order_seq_cst); break;

        case IR_fadd: case IR_fsub: case IR_fmul: case IR_fdiv: case IR_fmin: case IR_fmax:
        case IR_fminm: case IR_fmaxm: case IR_feq: case IR_flt: case IR_fle: case IR_fltq:
        case IR_fleq: case IR_fsgnj: case IR_fsgnjn: case IR_fsgnjx:
            *out = ir_eval_fp(cpu, i, A, B, 0);
            break;
        case IR_fmadd: case IR_fmsub: case IR_fnmsub: case IR_fnmadd:
            *out = ir_eval_fp(cpu, i, A, B, C);
            break;
        case IR_fsqrt: case IR_fclass: case IR_fround: case IR_fcvt_ff: case IR_fcvt_if:
        case IR_fcvt_fi: case IR_fcvtmod: case IR_unbox: case IR_box: case IR_fbits: case IR_ffrom:
            *out = ir_eval_fp(cpu, i, A, 0, 0);
            break;

        case IR_callif:
            if (!ir_truncate(i->type, A)) {
                break;
            }
            /* fall through */
        case IR_call: {
            const IrHelper *helper = &block->helpers[i->aux];
            u64 args[4] = {0};
            for (unsigned k = 0; k < helper->args; k++) {
                args[k] = v[ir_operand(i, k)];
            }
            if (helper->flags & HELPER_IMM) {
                args[helper->args] = (u64)(s64)i->imm;
            }
            if (helper->flags & HELPER_PC) {
                cpu->pc = r.pc;
                cpu->refund = left_with_current(&r);
            }
            *out = ir_truncate(i->type, helper->fn(cpu, args[0], args[1], args[2], args[3]));
            cpu->refund = 0;
            if ((helper->flags & HELPER_TRAPS) && cpu->status != CPU_OK) {
                return leave_status(&r);
            }
            break;
        }

        case IR_insn:
            r.pc = (page + (u64)(s64)i->imm) & address_mask;
            r.started++;
            break;
        case IR_guard:
            if (!state[i->imm]) {
                cpu->exit_arg = i->aux;
                if (!callbacks->guard_failed) {
                    return leave_before(&r, EXIT_GUARD);
                }
                cpu->pc = r.pc;
                if (!callbacks->guard_failed(cpu, i->aux)) {
                    return leave_trap(&r);
                }
            }
            break;
        case IR_guard_next_page:
            if (!callbacks->next_page_ok || !callbacks->next_page_ok(cpu, callbacks->expected)) {
                return leave_before(&r, EXIT_NEXT_PAGE);
            }
            break;

        case IR_br:
            if (ir_compare(i->aux, i->src, A, B)) {
                return leave_after(&r, (page + (u64)(s64)i->imm) & address_mask, EXIT_LINK);
            }
            break;
        case IR_goto: return leave_after(&r, (page + (u64)(s64)i->imm) & address_mask, EXIT_LINK);
        case IR_next: return leave_after(&r, (page + (u64)(s64)i->imm) & address_mask, EXIT_NEXT);
        case IR_jump: return leave_after(&r, A & address_mask & ~(u64)1, EXIT_NEXT);
        case IR_leave: return leave_status(&r);
        case IR_trap:
            cpu->trap_cause = i->aux;
            cpu->trap_value = A & address_mask;
            return leave_trap(&r);

        case IR_OP_COUNT: break;
        }
#undef A
#undef B
#undef C
    }
}
