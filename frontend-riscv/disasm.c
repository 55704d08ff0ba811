/*
 * Disassembly: the row's mnemonic, then the operands as the format's assembly string says (gen/formats.py), whose
 * words are looked up here. The syntax is objdump's with -M no-aliases, so that its output and
 * assemblers' input can be compared with ours.
 */
#include <string.h>

#include "core/base/bits.h"
#include "frontend-riscv/csr.h"
#include "frontend-riscv/decode.h"
#include "frontend-riscv/frontend.h"

static const char *const x_names[32] = {
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5",
    "a6", "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};
static const char *const f_names[32] = {
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0",
    "fa1", "fa2", "fa3", "fa4", "fa5", "fa6", "fa7", "fs2", "fs3", "fs4", "fs5",
    "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
};
static const char *const rm_names[8] = {"rne", "rtz", "rdn", "rup", "rmm", "5", "6", "dyn"};
static const char *const aqrl_suffix[4] = {"", ".rl", ".aq", ".aqrl"};

/* The constants of fli.s and its like; the second is the format's smallest normal number. */
static const char *const fli_names[32] = {
    "-1.0",   "min",  "0x1p-16", "0x1p-15", "0x1p-8", "0x1p-7", "0.0625", "0.125",
    "0.25",   "0.3125", "0.375", "0.4375",  "0.5",    "0.625",  "0.75",   "0.875",
    "1.0",    "1.25", "1.5",     "1.75",    "2.0",    "2.5",    "3.0",    "4.0",
    "8.0",    "16.0", "128.0",   "256.0",   "32768.0", "65536.0", "inf",  "nan",
};

typedef struct Operand {
    const Operands *o;
    u64 pc;
    bool rv32;
} Operand;

/* The I, O, R, W set of a fence. */
static void write_fence_set(GString *out, unsigned set)
{
    if (!set) {
        g_string_append(out, "unknown");
    }
    for (unsigned i = 0; i < 4; i++) {
        if (set >> (3 - i) & 1) {
            g_string_append_c(out, "iorw"[i]);
        }
    }
}

/* Appends what a word of an assembly string stands for. */
static void write_word(GString *out, const char *word, const Operand *x)
{
    const Operands *o = x->o;
    const struct {
        const char *word;
        const char *text;
    } names[] = {
        {"rd", x_names[o->rd]},    {"rs1", x_names[o->rs1]},   {"rs2", x_names[o->rs2]},
        {"frd", f_names[o->rd]},   {"frs1", f_names[o->rs1]},  {"frs2", f_names[o->rs2]},
        {"frs3", f_names[o->rs3]}, {"rm", rm_names[o->rm & 7]}, {"exact", rm_names[o->rm & 7]}, {"fli", fli_names[o->rs1]},
    };
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (!strcmp(word, names[i].word)) {
            g_string_append(out, names[i].text);
            return;
        }
    }
    if (!strcmp(word, "imm")) {
        g_string_append_printf(out, "%d", o->imm);
    } else if (!strcmp(word, "shamt")) {
        g_string_append_printf(out, "0x%x", (unsigned)o->imm);
    } else if (!strcmp(word, "upper20")) {
        g_string_append_printf(out, "0x%x", (unsigned)bits((u32)o->imm, 12, 20));
    } else if (!strcmp(word, "uimm")) {
        g_string_append_printf(out, "%u", o->rs1);
    } else if (!strcmp(word, "target")) {
        u64 target = x->pc + (u64)(s64)o->imm;
        g_string_append_printf(out, "0x%" G_GINT64_MODIFIER "x", x->rv32 ? (u32)target : target);
    } else if (!strcmp(word, "pred")) {
        write_fence_set(out, (unsigned)o->imm >> 4 & 15);
    } else if (!strcmp(word, "succ")) {
        write_fence_set(out, (unsigned)o->imm & 15);
    } else if (!strcmp(word, "csr")) {
        char name[CSR_NAME_MAX];
        const char *known = riscv_csr_name((unsigned)o->imm, name);
        if (known) {
            g_string_append(out, known);
        } else {
            g_string_append_printf(out, "0x%x", (unsigned)o->imm);
        }
    } else {
        g_assert_not_reached();
    }
}

/* Appends the operands: words are replaced, other characters copied. A dynamic rounding mode is left out, and so is
 * mode 0 of instructions that don't round. */
static void write_operands(GString *out, const char *format, const Operand *x)
{
    for (const char *p = format; *p;) {
        size_t n = 0;
        char word[16];
        while (g_ascii_isalnum(p[n]) && n < sizeof(word) - 1) {
            word[n] = p[n];
            n++;
        }
        word[n] = 0;
        if (n) {
            write_word(out, word, x);
            p += n;
        } else if ((!strcmp(p, ",rm") && x->o->rm == 7) || (!strcmp(p, ",exact") && x->o->rm == 0)) {
            break;
        } else {
            g_string_append_c(out, *p++);
        }
    }
}

unsigned riscv_disassemble(const HartModel *model, u32 insn, u64 pc, char *buf, size_t size)
{
    unsigned length = riscv_insn_length((u16)insn);
    if (length == 2) {
        insn &= 0xffff;
    }
    GString *out = g_string_new(NULL);
    int index = riscv_decode(insn, model->ext, model->rv32);
    if (index < 0) {
        g_string_printf(out, ".insn   0x%0*x", (int)(2 * length), insn);
    } else {
        const RiscvRow *row = &riscv_rows[index];
        Operands o;
        riscv_extract(row->format, insn, &o);
        g_string_printf(out, "%s%s", row->name, aqrl_suffix[o.aqrl & 3]);
        const char *format = riscv_format_asm[row->format];
        if (*format) {
            for (size_t n = out->len; n < 7; n++) {
                g_string_append_c(out, ' ');
            }
            g_string_append_c(out, ' ');
            write_operands(out, format, &(Operand){.o = &o, .pc = pc, .rv32 = model->rv32});
            g_strchomp(out->str);
        }
    }
    g_strlcpy(buf, out->str, size);
    g_string_free(out, TRUE);
    return length;
}
