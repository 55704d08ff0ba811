/*
 * Finds loops that only wait: a block that jumps to its own start, writes nothing, and whose next
 * round would do the same as this one unless somebody else changed memory. A lock that is taken, a
 * flag of another hart, a device's status register are waited for in such loops, and not everybody
 * puts a PAUSE into them. When harts have fewer CPUs of the host than there are harts, whoever is
 * waited for may need the one that the loop burns.
 *
 * A round is like the one before if no register that it writes depends on itself, around whatever
 * number of rounds: then all that changes from round to round comes from loads, and their addresses
 * stay the same. A loop that walks through memory or counts has such a register.
 */
#include "frontend-riscv/translate.h"

enum { WAIT_INSNS = 16, WAIT_RECORDS = 128, X_REGS = 32 };

/* The number of the x register at this offset in CpuState, -1 if it is none. */
static int x_number(s32 offset)
{
    const s32 n = (offset - (s32)CPU_OFFSET_X(0)) / 8;
    return offset >= (s32)CPU_OFFSET_X(0) && n < X_REGS ? n : -1;
}

static bool may_repeat(const IrInsn *insn)
{
    switch (insn->op) {
    case IR_ld:
    case IR_lr:
    case IR_fence:
    case IR_insn:
    case IR_br:
    case IR_goto:
    case IR_getreg:
    case IR_setreg:
    case IR_pcrel:
        return true;
    case IR_amo:
        return insn->aux >> IR_AMO_SHIFT == IR_AMO_SWAP; /* the same once more */
    default:
        return ir_op_info[insn->op].pure;
    }
}

/* Whether the block jumps to its start: at its end, or by the branch before it. */
static bool is_loop(const IrBlock *b)
{
    const IrInsn *last = &b->insns[b->count - 1];
    const IrInsn *branch = b->count > 1 ? last - 1 : last;
    return last->op == IR_goto && ((last->imm == (s32)b->page_offset && !last->aux) ||
                                   (branch->op == IR_br && branch->imm == (s32)b->page_offset));
}

bool riscv_waits(const IrBlock *b)
{
    /* By bits: the registers at the start of the round that a value, or a register, comes from. */
    u32 from[WAIT_RECORDS], reg_from[X_REGS], written = 0;
    if (b->guest_insns > WAIT_INSNS || b->count > WAIT_RECORDS || !is_loop(b)) {
        return false;
    }
    for (u32 i = 0; i < b->count; i++) {
        const IrInsn *insn = &b->insns[i];
        if (!may_repeat(insn)) {
            return false;
        }
        from[i] = 0;
        for (unsigned k = 0; k < ir_operand_count(b, insn); k++) {
            from[i] |= from[ir_operand(insn, k)];
        }
        if (insn->op == IR_getreg || insn->op == IR_setreg) {
            const int n = x_number(insn->imm);
            if (n < 0) {
                return false;
            }
            if (insn->op == IR_setreg) {
                reg_from[n] = from[i];
                written |= (u32)1 << n;
            } else {
                from[i] = written >> n & 1 ? reg_from[n] : (u32)1 << n;
            }
        }
    }
    /* What comes from no written register is settled; then what comes from the settled ones. */
    for (u32 open = written; open;) {
        u32 left = open;
        for (u32 m = open; m; m &= m - 1) {
            const unsigned n = (unsigned)__builtin_ctz(m);
            if (!(reg_from[n] & open)) {
                left &= ~((u32)1 << n);
            }
        }
        if (left == open) {
            return false; /* around in a circle */
        }
        open = left;
    }
    return true;
}
