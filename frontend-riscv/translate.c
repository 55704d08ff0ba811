/*
 * From guest bytes to a block of IR: fetches instruction after instruction from a page, decodes each with the
 * generated decoder and lets its body (insn/) append what it does, until a body ends the block, the
 * page ends or the block is long enough. Jumps are not followed; behind a conditional branch ahead the block goes
 * on with the next instruction (docs/design/behind-branches.md). A loop that waits for somebody lets others run (waits.c).
 *
 * Guest memory may change under our eyes, so every halfword is read exactly once.
 */
#include "frontend-riscv/translate.h"

/* More records than one instruction ever makes, with room for the block's end. */
enum { RECORDS_PER_INSN = 64, PAGE_BYTES = 4096 };

const IrHelper riscv_helpers[RISCV_HELPER_COUNT + 1] = {
#define HELPER(name, args, flags) {#name, helper_##name, args, flags},
#include "frontend-riscv/helpers.def"
};

static u16 read_half(const u8 *p)
{
    return __atomic_load_n((const u16 *)p, __ATOMIC_RELAXED);
}

/* Appends the instruction in t->insn. */
static void translate_insn(Tr *t)
{
    int row = riscv_decode(t->insn, t->ext, is_rv32(t));
    if (row < 0) {
        end_illegal(t);
        return;
    }
    riscv_rows[row].translate(t, t->insn);
}

/* `gives_way`: the first instruction lets other harts run before it does anything. */
static TranslateResult translate_block(const TranslateInput *in, bool gives_way, IrBlock *out)
{
    Tr t = {
        .b = out,
        .x = in->model->rv32 ? IR_I32 : IR_I64,
        .ext = in->model->ext,
    };
    out->count = 0;
    out->page_offset = in->offset;
    out->guest_insns = 0;
    out->straddles = false;
    out->xlen = t.x;
    out->helpers = riscv_helpers;

    u32 offset = in->offset;
    while (!t.ended) {
        t.insn = read_half(in->page + offset);
        t.length = riscv_insn_length((u16)t.insn);
        t.pc = (s32)offset;
        if (t.length == 4 && offset == PAGE_BYTES - 2) {
            /* It needs the next page's mapping, too: a block of its own. */
            if (out->guest_insns) {
                end_goto(&t, 0);
                break;
            }
            if (!in->next_page) {
                return TRANSLATE_NEED_NEXT;
            }
            out->straddles = true;
            t.insn |= (u32)read_half(in->next_page) << 16;
        } else if (t.length == 4) {
            t.insn |= (u32)read_half(in->page + offset + 2) << 16;
        }

        ir_0(out, IR_insn, IR_NOTYPE, t.length, t.pc);
        if (out->straddles) {
            ir_0(out, IR_guard_next_page, IR_NOTYPE, 0, 0);
        }
        if (gives_way && !out->guest_insns) {
            call(&t, H_pause, IR_NONE, IR_NONE, IR_NONE);
        }
        translate_insn(&t);
        out->guest_insns++;
        offset += t.length;
        if (!t.ended && (offset >= PAGE_BYTES || out->guest_insns >= in->max_insns
                         || out->count > IR_MAX_INSNS - RECORDS_PER_INSN)) {
            end_goto(&t, t.length);
        }
    }
    out->guest_bytes = offset - in->offset;
    return TRANSLATE_OK;
}

TranslateResult riscv_translate(const TranslateInput *in, IrBlock *out)
{
    const TranslateResult result = translate_block(in, false, out);
    return result == TRANSLATE_OK && riscv_waits(out) ? translate_block(in, true, out) : result;
}

/* Arguments and return values, the stack pointer and the first saved registers come first: compiled code lives in them. */
#define HOT_X(n) {CPU_OFFSET_X(n), false}
#define HOT_F(n) {CPU_OFFSET_F(n), true}
static const IrHotReg hot_regs[] = {
    HOT_X(10), HOT_X(11), HOT_X(12), HOT_X(13), HOT_X(14), HOT_X(15), /* a0-a5 */
    HOT_X(2), HOT_X(8), HOT_X(9),                                     /* sp, s0, s1 */
    HOT_X(1), HOT_X(16), HOT_X(17), HOT_X(5), HOT_X(6), HOT_X(7),     /* ra, a6, a7, t0-t2 */
    HOT_X(18), HOT_X(19), HOT_X(20), HOT_X(21), HOT_X(22), HOT_X(23), /* s2-s7 */
    HOT_X(24), HOT_X(25), HOT_X(26), HOT_X(27),                       /* s8-s11 */
    HOT_X(28), HOT_X(29), HOT_X(30), HOT_X(31), HOT_X(4), HOT_X(3),   /* t3-t6, tp, gp */
    HOT_F(10), HOT_F(11), HOT_F(12), HOT_F(13), HOT_F(14), HOT_F(15), /* fa0-fa5 */
    HOT_F(16), HOT_F(17), HOT_F(0), HOT_F(1), HOT_F(2), HOT_F(3),     /* fa6, fa7, ft0-ft3 */
    HOT_F(4), HOT_F(5), HOT_F(6), HOT_F(7), HOT_F(8), HOT_F(9),       /* ft4-ft7, fs0, fs1 */
    HOT_F(28), HOT_F(29), HOT_F(30), HOT_F(31), HOT_F(18), HOT_F(19), /* ft8-ft11, fs2, fs3 */
    HOT_F(20), HOT_F(21), HOT_F(22), HOT_F(23), HOT_F(24), HOT_F(25), /* fs4-fs9 */
    HOT_F(26), HOT_F(27),                                             /* fs10, fs11 */
};

const IrHotReg *riscv_hot_regs(unsigned *count)
{
    *count = ARRAY_LEN(hot_regs);
    return hot_regs;
}
