/*
 * The checker: everything that the interpreter and the backend take for granted about a block.
 * Debug builds run it on what the frontend built and again on what the optimiser left, so that a
 * broken block is named where it was made and not where it runs.
 *
 * An integer operand has to be at least as wide as the operation looks at; a floating-point operand
 * has exactly the format. What "the operation looks at" is, is in need_of_operand.
 */
#include <glib.h>
#include <stdio.h>

#include "core/ir/ir.h"

enum { MAX_STATE_OFFSET = 1 << 20 }; /* the frontend's hart ends somewhere below */

static bool is_fp(IrType type)
{
    return type == IR_F16 || type == IR_F32 || type == IR_F64;
}

static bool is_register(s32 offset)
{
    return offset >= (s32)CPU_OFFSET_X(0) && offset < (s32)CPU_OFFSET_F(32);
}

/* What an operand must be: a floating-point format, or an integer of at least `bits` bits; if any
 * is set everything will do. */
typedef struct Need {
    IrType format;
    unsigned bits;
    bool any;
} Need;

static Need need_type(IrType type)
{
    return is_fp(type) ? (Need){.format = type} : (Need){.bits = ir_type_bits(type)};
}

static Need need_of_operand(const IrBlock *block, const IrInsn *i, unsigned k)
{
    const unsigned xlen = ir_type_bits(block->xlen);
    const unsigned size_bits = 8u << (i->aux & IR_MEM_SIZE);
    switch ((IrOp)i->op) {
    case IR_sext8:
    case IR_zext8: return (Need){.bits = 8};
    case IR_sext16:
    case IR_zext16: return (Need){.bits = 16};
    case IR_sext32:
    case IR_zext32: return (Need){.bits = 32};
    case IR_setstate: return (Need){.bits = size_bits};
    case IR_st:
        if (k == 1 && is_fp(i->type)) {
            return (Need){.format = i->type};
        }
        /* fall through */
    case IR_ld:
    case IR_amo:
    case IR_cas:
    case IR_lr:
    case IR_sc: return (Need){.bits = k == 0 ? xlen : size_bits};
    case IR_zero:
    case IR_jump:
    case IR_trap: return (Need){.bits = xlen};
    case IR_setcc:
    case IR_br:
    case IR_feq:
    case IR_flt:
    case IR_fle:
    case IR_fltq:
    case IR_fleq:
    case IR_fclass:
    case IR_fcvt_ff:
    case IR_fcvt_if:
    case IR_fcvtmod:
    case IR_box:
    case IR_fbits: return need_type(i->src);
    case IR_fcvt_fi: return (Need){.bits = i->aux & IR_CVT_32 ? 32 : 64};
    case IR_ffrom: return (Need){.bits = ir_type_bits(i->type)};
    case IR_unbox: return (Need){.format = IR_F64};
    case IR_call: return (Need){.any = true};
    default: return need_type(i->type);
    }
}

/* True if raw bits of this integer type and this format may be exchanged. */
static bool same_container(IrType integer, IrType format)
{
    return integer == (format == IR_F64 ? IR_I64 : IR_I32);
}

/* The types and the aux of a record, without its operands: NULL or what is wrong. */
static const char *check_shape(const IrBlock *block, const IrInsn *i)
{
    const IrOpInfo *info = &ir_op_info[i->op];
    const unsigned size_log2 = i->aux & IR_MEM_SIZE;
    const bool int_type = ir_type_is_int(i->type), int_src = ir_type_is_int(i->src);
    const bool fp_operands = info->operand_count && info->operands[0] == 'f';

    /* The result: an integer for I, for T what the operands are. */
    if (info->result == 'I' && !int_type) {
        return "the result must be an integer";
    }
    if (info->pure && info->result == 'T' && info->operand_count && info->operands[0] == 'v' &&
        i->op != IR_ffrom && !int_type) {
        return "the type must be an integer";
    }
    if (info->result == 'T' && fp_operands && !is_fp(i->type)) {
        return "the type must be floating-point";
    }
    if (info->result == 'I' && (fp_operands ? !is_fp(i->src) : !int_src)) {
        return "the operands' type does not fit";
    }
    if (info->fp_state && ((i->aux & IR_RM_MASK) == 5 || (i->aux & IR_RM_MASK) == 6)) {
        return "reserved rounding mode";
    }

    switch ((IrOp)i->op) {
    case IR_const:
        if (!int_type) {
            return "the type must be an integer";
        }
        return i->type == IR_I32 && i->imm64 != (s32)i->imm64 ? "not sign-extended" : NULL;
    case IR_getreg:
    case IR_setreg:
        if (!int_type && i->type != IR_F64) {
            return "a register is I32, I64 or F64";
        }
        if (!is_register(i->imm) || i->imm % 8) {
            return "not a register's offset";
        }
        return i->op == IR_setreg && i->imm == (s32)CPU_OFFSET_X(0) ? "x0 is never set" : NULL;
    case IR_getstate:
    case IR_setstate:
        if (!int_type || i->aux > 3 || (8u << i->aux) > ir_type_bits(i->type)) {
            return "type and size do not fit";
        }
        if (i->imm < 0 || i->imm >= MAX_STATE_OFFSET || i->imm % (1 << i->aux)) {
            return "bad state offset";
        }
        return is_register(i->imm) ? "registers are read and written by getreg and setreg" : NULL;
    case IR_pcrel: return int_type ? NULL : "the type must be an integer";
    case IR_xperm: return i->aux == 4 || i->aux == 8 ? NULL : "lanes have 4 or 8 bits";
    case IR_setcc: return i->aux <= IR_GEU ? NULL : "no such condition";
    case IR_ld:
    case IR_st:
        if (i->aux > (i->op == IR_ld ? 7 : 3) || (i->op == IR_ld && i->type == IR_NOTYPE)) {
            return "bad size or type";
        }
        if (i->src != block->xlen) {
            return "addresses have the block's XLEN";
        }
        if (is_fp(i->type)) {
            return (8u << size_log2) == ir_type_bits(i->type) && !(i->aux & IR_MEM_SIGNED)
                       ? NULL
                       : "a floating-point access has its format's size";
        }
        return (8u << size_log2) <= ir_type_bits(i->type) ? NULL : "the type is too narrow";
    case IR_amo:
        if (i->aux >> IR_AMO_SHIFT > IR_AMO_MAXU) {
            return "no such AMO";
        }
        /* fall through */
    case IR_cas:
    case IR_lr:
    case IR_sc:
        if ((i->aux & 0xff) > 3 || (i->op != IR_amo && i->aux > 3)) {
            return "bad size";
        }
        return int_type && (i->op == IR_sc || (8u << size_log2) <= ir_type_bits(i->type))
                   ? NULL
                   : "the type is too narrow";
    case IR_fcvt_if:
        return i->type == IR_I32 && !(i->aux & IR_CVT_32) ? "the type is too narrow" : NULL;
    case IR_fcvt_ff: return is_fp(i->src) ? NULL : "the source must be floating-point";
    case IR_fcvt_fi: return is_fp(i->type) ? NULL : "the type must be floating-point";
    case IR_fcvtmod: return i->src == IR_F64 ? NULL : "only F64 has it";
    case IR_unbox:
        return i->type != IR_F64 && i->src == IR_F64 ? NULL : "from F64 to F16 or F32 only";
    case IR_box:
        return i->type == IR_F64 && (i->src == IR_F16 || i->src == IR_F32)
                   ? NULL
                   : "from F16 or F32 to F64 only";
    case IR_fbits: return same_container(i->type, i->src) ? NULL : "the widths differ";
    case IR_ffrom:
        return is_fp(i->type) && same_container(i->src, i->type) ? NULL : "the widths differ";
    case IR_call: {
        const IrHelper *helper = &block->helpers[i->aux];
        if (helper->args > 3) {
            return "a helper has at most three operands";
        }
        return helper->name && helper->fn ? NULL : "no such helper";
    }
    case IR_callif: {
        const IrHelper *helper = &block->helpers[i->aux];
        if (!helper->name || !helper->fn) {
            return "no such helper";
        }
        return helper->args == 0 && !(helper->flags & HELPER_REGS) && int_type
                   ? NULL
                   : "a conditional call has no operands and leaves registers alone";
    }
    case IR_insn:
        if (i->imm < 0 || i->imm > 4094 || i->imm % 2 || (i->aux != 2 && i->aux != 4)) {
            return "bad offset or length";
        }
        return i->imm + i->aux > 4096 && !block->straddles ? "leaves the page" : NULL;
    case IR_guard: return i->imm < 0 || i->imm >= MAX_STATE_OFFSET ? "bad state offset" : NULL;
    case IR_br:
        if (i->aux > IR_GEU) {
            return "no such condition";
        }
        if (!int_src) {
            return "the operands' type does not fit";
        }
        return i->imm % 2 ? "odd target" : NULL;
    case IR_jump: return i->aux <= 2 || i->aux == 4 ? NULL : "no such hint";
    case IR_goto:
        if (i->aux & ~IR_CALL_BYTES || i->aux == IR_CALL_BYTES) {
            return "no such hint";
        }
        /* fall through */
    case IR_next: return i->imm % 2 ? "odd target" : NULL;
    default: return NULL;
    }
}

/* NULL or what is wrong with a record's operands. */
static const char *check_operands(const IrBlock *block, u32 index)
{
    const IrInsn *i = &block->insns[index];
    const unsigned count = ir_operand_count(block, i);
    for (unsigned k = 0; k < count; k++) {
        const IrValue operand = ir_operand(i, k);
        if (operand >= index) {
            return "an operand is not defined before";
        }
        const IrInsn *def = &block->insns[operand];
        if (ir_op_info[def->op].result == '-' || def->type == IR_NOTYPE) {
            return "an operand is a record without a value";
        }
        const Need need = need_of_operand(block, i, k);
        if (need.any) {
            continue;
        }
        if (need.format != IR_NOTYPE ? def->type != need.format
                                     : !ir_type_is_int(def->type) ||
                                           ir_type_bits(def->type) < need.bits) {
            return "an operand's type does not fit";
        }
    }
    return NULL;
}

static char *describe(const IrBlock *block, u32 index, const char *message)
{
    return g_strdup_printf("record %u (%s): %s", index, ir_op_info[block->insns[index].op].name,
                           message);
}

char *ir_check(const IrBlock *block)
{
    u32 marks = 0;
    if (block->xlen != IR_I32 && block->xlen != IR_I64) {
        return g_strdup("xlen must be i32 or i64");
    }
    if (block->count == 0 || block->count > IR_MAX_INSNS) {
        return g_strdup("a block has 1 to 4096 records");
    }
    for (u32 index = 0; index < block->count; index++) {
        const IrInsn *i = &block->insns[index];
        if (i->op >= IR_OP_COUNT || i->type >= IR_TYPE_COUNT ||
            (i->src >= IR_TYPE_COUNT && i->op != IR_const)) {
            return g_strdup_printf("record %u: no such operation or type", index);
        }
        const char *message = check_shape(block, i);
        if (!message) {
            message = check_operands(block, index);
        }
        if (!message && ir_op_info[i->op].ends != (index == block->count - 1)) {
            message = ir_op_info[i->op].ends ? "ends the block before its last record"
                                             : "the last record does not end the block";
        }
        if (!message && i->op == IR_insn && marks++ == 0 && (u32)i->imm != block->page_offset) {
            message = "the first instruction is not at page_offset";
        }
        if (message) {
            return describe(block, index, message);
        }
    }
    if (marks != block->guest_insns) {
        return g_strdup_printf("guest_insns is %u, but %u instructions are marked",
                               block->guest_insns, marks);
    }
    return NULL;
}
