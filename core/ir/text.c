/*
 * The text form of IR, for the log, for golden tests, and for writing blocks by hand.
 *
 *     block i64 @0x10 bytes=8          xlen, page_offset, guest_bytes; "straddles" may follow
 *     insn @0x10 4
 *     v1 = getreg.i64 x10              guest state by name, or by offset as $0x218
 *     v2 = const.i64 #-5
 *     v3 = setcc.i64:i32 lt v1, v2     operands of another type than the result: after a colon
 *     v4 = ld.i64 s4 [v1+16]           sign-extended, 4 bytes
 *     setreg.i64 x11, v4
 *     guard $0x230 1
 *     v7 = call.i64 csr_read(v4, #5)
 *     goto call4 @0x18                 a call, from an instruction of 4 bytes
 *
 * Each token shows by itself what it is: vN a value, $ x f a state offset, @ an offset from the
 * page, # a constant, + - a displacement; everything else says what aux holds. So their order,
 * commas and brackets are for the reader only. What aux means depends on the operation:
 * fields_of(). vN is defined by the record that has it on the left; numbers need not be record
 * indices. A ; begins a comment.
 */
#include <errno.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "core/ir/ir.h"

/* What aux and imm hold. */
typedef enum {
    AUX_NONE,
    AUX_NUMBER,
    AUX_COND,
    AUX_SIZE, /* IR_MEM_SIZE and IR_MEM_SIGNED: u1 .. u8, s1 .. s8 */
    AUX_AMO,  /* a size and an IrAmo */
    AUX_RM,   /* rounding mode and "exact" */
    AUX_CVT,  /* rounding mode and s32, u32, s64, u64 */
    AUX_STATE_SIZE, /* plain log2, written as u1 .. u8 */
    AUX_FLOW,       /* ret, call2, call4, or nothing */
    AUX_HELPER,
} AuxKind;
typedef enum { IMM_NONE, IMM_CONST, IMM_NUMBER, IMM_STATE, IMM_PAGE, IMM_DISP } ImmKind;

typedef struct Fields {
    AuxKind aux;
    ImmKind imm;
} Fields;

static Fields fields_of(IrOp op)
{
    switch (op) {
    case IR_const: return (Fields){AUX_NONE, IMM_CONST};
    case IR_getreg:
    case IR_setreg: return (Fields){AUX_NONE, IMM_STATE};
    case IR_getstate:
    case IR_setstate: return (Fields){AUX_STATE_SIZE, IMM_STATE};
    case IR_pcrel: return (Fields){AUX_NONE, IMM_PAGE};
    case IR_xperm: return (Fields){AUX_NUMBER, IMM_NONE};
    case IR_setcc: return (Fields){AUX_COND, IMM_NONE};
    case IR_ld:
    case IR_st: return (Fields){AUX_SIZE, IMM_DISP};
    case IR_amo: return (Fields){AUX_AMO, IMM_NONE};
    case IR_cas:
    case IR_lr:
    case IR_sc: return (Fields){AUX_SIZE, IMM_NONE};
    case IR_fadd:
    case IR_fsub:
    case IR_fmul:
    case IR_fdiv:
    case IR_fsqrt:
    case IR_fmadd:
    case IR_fmsub:
    case IR_fnmsub:
    case IR_fnmadd:
    case IR_fround:
    case IR_fcvt_ff: return (Fields){AUX_RM, IMM_NONE};
    case IR_fcvt_if:
    case IR_fcvt_fi: return (Fields){AUX_CVT, IMM_NONE};
    case IR_call:
    case IR_callif: return (Fields){AUX_HELPER, IMM_NUMBER};
    case IR_insn: return (Fields){AUX_NUMBER, IMM_PAGE};
    case IR_guard: return (Fields){AUX_NUMBER, IMM_STATE};
    case IR_br: return (Fields){AUX_COND, IMM_PAGE};
    case IR_goto: return (Fields){AUX_FLOW, IMM_PAGE};
    case IR_jump: return (Fields){AUX_FLOW, IMM_NONE};
    case IR_next: return (Fields){AUX_NONE, IMM_PAGE};
    case IR_trap: return (Fields){AUX_NUMBER, IMM_NONE};
    default: return (Fields){AUX_NONE, IMM_NONE};
    }
}

static const char *const type_names[] = {"none", "i32", "i64", "f16", "f32", "f64"};
static const char *const cond_names[] = {"eq", "ne", "lt", "ge", "ltu", "geu"};
static const char *const amo_names[] = {"swap", "add",  "xor",  "and", "or",
                                        "min",  "max", "minu", "maxu"};
static const char *const rm_names[] = {"rne", "rtz", "rdn", "rup", "rmm", "rm5", "rm6", "dyn"};
static const char *const size_names[] = {"u1", "u2", "u4", "u8", "s1", "s2", "s4", "s8"};
static const char *const flow_names[] = {"ret", "call2", "call4"}; /* by bit */
static const char *const cvt_names[] = {"s64", "u64", "s32", "u32"}; /* by IR_CVT_* >> 4 */

/* Bits of aux that a kind gives a meaning to; others are written as aux=N. */
static u16 known_aux(AuxKind kind)
{
    static const u16 masks[] = {
        [AUX_NUMBER] = 0xffff,
        [AUX_COND] = 0xffff,
        [AUX_SIZE] = 7,
        [AUX_AMO] = 0xff07,
        [AUX_RM] = IR_RM_MASK | IR_ROUND_EXACT,
        [AUX_CVT] = IR_RM_MASK | IR_CVT_UNSIGNED | IR_CVT_32,
        [AUX_STATE_SIZE] = 3,
        [AUX_FLOW] = IR_RETURN | IR_CALL_BYTES,
        [AUX_HELPER] = 0xffff,
    };
    return masks[kind];
}

static const char *name_in(const char *const *names, unsigned count, unsigned i)
{
    return i < count ? names[i] : "?";
}
#define NAME(names, i) name_in(names, ARRAY_LEN(names), i)

static void print_aux(FILE *out, AuxKind kind, u16 aux)
{
    switch (kind) {
    case AUX_COND: fprintf(out, " %s", NAME(cond_names, aux)); break;
    case AUX_SIZE: fprintf(out, " %s", size_names[aux & 7]); break;
    case AUX_STATE_SIZE: fprintf(out, " %s", size_names[aux & 3]); break;
    case AUX_AMO:
        fprintf(out, " %s %s", NAME(amo_names, aux >> IR_AMO_SHIFT), size_names[aux & 7]);
        break;
    case AUX_RM:
        fprintf(out, " %s%s", rm_names[aux & IR_RM_MASK], aux & IR_ROUND_EXACT ? " exact" : "");
        break;
    case AUX_CVT:
        fprintf(out, " %s %s", rm_names[aux & IR_RM_MASK], cvt_names[aux >> 4 & 3]);
        break;
    case AUX_FLOW:
        for (unsigned k = 0; k < ARRAY_LEN(flow_names); k++) {
            if (aux >> k & 1) {
                fprintf(out, " %s", flow_names[k]);
            }
        }
        break;
    default: break;
    }
    if (aux & ~known_aux(kind)) {
        fprintf(out, " aux=%u", aux & ~known_aux(kind));
    }
}

static void print_state(FILE *out, s32 offset)
{
    const s32 x = (s32)CPU_OFFSET_X(0), f = (s32)CPU_OFFSET_F(0);
    if (offset >= x && offset < x + 256 && offset % 8 == 0) {
        fprintf(out, "x%d", (offset - x) / 8);
    } else if (offset >= f && offset < f + 256 && offset % 8 == 0) {
        fprintf(out, "f%d", (offset - f) / 8);
    } else {
        fprintf(out, "$0x%x", (u32)offset);
    }
}

static void print_page(FILE *out, s32 offset)
{
    fprintf(out, offset < 0 ? "@-0x%llx" : "@0x%llx", (unsigned long long)llabs((s64)offset));
}

void ir_print_insn(FILE *out, const IrBlock *block, u32 index)
{
    const IrInsn *i = &block->insns[index];
    const IrOpInfo *info = &ir_op_info[i->op];
    const Fields fields = fields_of(i->op);

    if (info->result != '-') {
        fprintf(out, "v%u = ", index);
    }
    const bool has_src = i->op != IR_const && i->src != i->type;
    fputs(info->name, out);
    if (i->type != IR_NOTYPE || has_src) {
        fprintf(out, ".%s", NAME(type_names, i->type));
    }
    if (has_src) {
        fprintf(out, ":%s", NAME(type_names, i->src));
    }
    if (fields.aux == AUX_HELPER) {
        fprintf(out, " %s", block->helpers[i->aux].name);
    }
    print_aux(out, fields.aux, i->aux);

    const char *separator = " ";
    if (fields.imm == IMM_STATE) {
        fputs(separator, out);
        print_state(out, i->imm);
        separator = ", ";
    }
    const unsigned operands = ir_operand_count(block, i);
    for (unsigned k = 0; k < operands; k++) {
        fprintf(out, "%s%sv%u", separator, fields.imm == IMM_DISP && k == 0 ? "[" : "",
                ir_operand(i, k));
        if (fields.imm == IMM_DISP && k == 0) {
            i->imm ? fprintf(out, "%+d]", i->imm) : fprintf(out, "]");
        }
        separator = ", ";
    }
    if (fields.imm == IMM_PAGE) {
        fputs(separator, out);
        print_page(out, i->imm);
    } else if (fields.imm == IMM_CONST) {
        fprintf(out, " #%lld", (long long)i->imm64);
    } else if (fields.imm == IMM_NUMBER && i->imm) {
        fprintf(out, "%s#%d", separator, i->imm);
    }
    if (fields.aux == AUX_NUMBER) {
        fprintf(out, " %u", i->aux);
    }
    fputc('\n', out);
}

void ir_print(FILE *out, const IrBlock *block)
{
    fprintf(out, "block %s @0x%x bytes=%u%s\n", NAME(type_names, block->xlen), block->page_offset,
            block->guest_bytes, block->straddles ? " straddles" : "");
    for (u32 i = 0; i < block->count; i++) {
        ir_print_insn(out, block, i);
    }
}

/* A block being read. */
typedef struct Parser {
    IrBlock *block;
    u16 *index_of; /* record that defines vN, by N */
    unsigned line;
    char *error;
} Parser;

static bool fail(Parser *p, const char *message, const char *token)
{
    p->error = g_strdup_printf("line %u: %s: %s", p->line, message, token);
    return false;
}

/* The index of `word` in a list of names, -1 if it is not there. */
static int find_name(const char *const *names, unsigned count, const char *word)
{
    for (unsigned i = 0; i < count; i++) {
        if (!strcmp(names[i], word)) {
            return (int)i;
        }
    }
    return -1;
}
#define FIND(names, word) find_name(names, ARRAY_LEN(names), word)

/* A whole decimal or 0x number with an optional sign; constants may use all 64 bits. */
static bool parse_number(const char *s, s64 *value)
{
    char *end;
    errno = 0;
    *value = *s == '-' ? strtoll(s, &end, 0) : (s64)strtoull(s, &end, 0);
    return *s && !*end && !errno;
}

static bool parse_unsigned(const char *s, u64 max, u64 *value)
{
    s64 number;
    if (!g_ascii_isdigit(*s) || !parse_number(s, &number) || (u64)number > max) {
        return false;
    }
    *value = (u64)number;
    return true;
}

/* A word that says what aux holds. */
static bool parse_aux(const Parser *p, AuxKind kind, const char *word, IrInsn *i)
{
    u64 number;
    int k;
    if (g_str_has_prefix(word, "aux=") && parse_unsigned(word + 4, 0xffff, &number)) {
        i->aux |= (u16)number;
        return true;
    }
    switch (kind) {
    case AUX_NUMBER:
        if (!parse_unsigned(word, 0xffff, &number)) {
            return false;
        }
        i->aux = (u16)number;
        return true;
    case AUX_COND:
        k = FIND(cond_names, word);
        i->aux |= (u16)k;
        return k >= 0;
    case AUX_AMO:
        if ((k = FIND(amo_names, word)) >= 0) {
            i->aux |= (u16)(k << IR_AMO_SHIFT);
            return true;
        }
        /* fall through */
    case AUX_SIZE:
    case AUX_STATE_SIZE:
        k = FIND(size_names, word);
        i->aux |= (u16)k;
        return k >= 0;
    case AUX_CVT:
        if ((k = FIND(cvt_names, word)) >= 0) {
            i->aux |= (u16)(k << 4);
            return true;
        }
        /* fall through */
    case AUX_RM:
        if (!strcmp(word, "exact")) {
            i->aux |= IR_ROUND_EXACT;
            return true;
        }
        k = FIND(rm_names, word);
        i->aux |= (u16)k;
        return k >= 0;
    case AUX_FLOW:
        k = FIND(flow_names, word);
        i->aux |= (u16)(1 << (k & 3));
        return k >= 0;
    case AUX_HELPER:
        for (unsigned h = 0; p->block->helpers && p->block->helpers[h].name; h++) {
            if (!strcmp(p->block->helpers[h].name, word)) {
                i->aux = (u16)h;
                return true;
            }
        }
        return false;
    default: return false;
    }
}

/* One token after the operation's name. */
static bool parse_token(Parser *p, const char *t, Fields fields, IrInsn *i, unsigned *operands)
{
    u64 number;
    s64 value;
    if (*t == 'v' && parse_unsigned(t + 1, IR_NONE - 1, &number)) {
        if (p->index_of[number] == IR_NONE || *operands == 3) {
            return fail(p, "value is not defined, or one too many", t);
        }
        const IrValue operand = p->index_of[number];
        *(*operands == 0 ? &i->a : *operands == 1 ? &i->b : &i->c) = operand;
        ++*operands;
        return true;
    }
    if (fields.imm == IMM_STATE) {
        if ((*t == 'x' || *t == 'f') && parse_unsigned(t + 1, 31, &number)) {
            i->imm = (s32)(*t == 'x' ? CPU_OFFSET_X(number) : CPU_OFFSET_F(number));
            return true;
        }
        if (*t == '$' && parse_unsigned(t + 1, INT32_MAX, &number)) {
            i->imm = (s32)number;
            return true;
        }
    }
    if (*t == '#' && fields.imm == IMM_CONST && parse_number(t + 1, &value)) {
        i->imm64 = value;
        return true;
    }
    const bool signed_token = *t == '+' || *t == '-';
    if ((*t == '@' && fields.imm == IMM_PAGE) || (*t == '#' && fields.imm == IMM_NUMBER) ||
        (signed_token && fields.imm == IMM_DISP)) {
        if (!parse_number(signed_token ? t : t + 1, &value) || value != (s32)value) {
            return fail(p, "not a 32-bit number", t);
        }
        i->imm = (s32)value;
        return true;
    }
    return parse_aux(p, fields.aux, t, i) || fail(p, "does not fit here", t);
}

/* "name", "name.type" or "name.type:src". */
static bool parse_op(Parser *p, const char *t, IrInsn *i)
{
    char **part = g_strsplit_set(t, ".:", 3);
    int op = 0, type = IR_NOTYPE, src;
    while (op < IR_OP_COUNT && strcmp(ir_op_info[op].name, part[0])) {
        op++;
    }
    if (part[1]) {
        type = FIND(type_names, part[1]);
    }
    src = part[1] && part[2] ? FIND(type_names, part[2]) : type;
    g_strfreev(part);
    if (op == IR_OP_COUNT || type < 0 || src < 0) {
        return fail(p, "no such operation or type", t);
    }
    *i = (IrInsn){.op = (u8)op, .type = (u8)type, .src = (u8)src, .a = IR_NONE};
    if (op != IR_const) {
        i->b = i->c = IR_NONE;
    }
    return true;
}

static bool parse_header(Parser *p, char **tokens)
{
    for (char **t = tokens; *t; t++) {
        u64 number;
        const int type = FIND(type_names, *t);
        if (type == IR_I32 || type == IR_I64) {
            p->block->xlen = (IrType)type;
        } else if (**t == '@' && parse_unsigned(*t + 1, 0xfff, &number)) {
            p->block->page_offset = (u32)number;
        } else if (g_str_has_prefix(*t, "bytes=") && parse_unsigned(*t + 6, UINT32_MAX, &number)) {
            p->block->guest_bytes = (u32)number;
        } else if (!strcmp(*t, "straddles")) {
            p->block->straddles = true;
        } else {
            return fail(p, "does not belong to a block's head", *t);
        }
    }
    return true;
}

static bool parse_line(Parser *p, char **t)
{
    u64 label = IR_NONE;
    if (!t[0]) {
        return true;
    }
    if (!strcmp(t[0], "block")) {
        return parse_header(p, t + 1);
    }
    if (t[1] && !strcmp(t[1], "=")) {
        if (t[0][0] != 'v' || !parse_unsigned(t[0] + 1, IR_NONE - 1, &label) || !t[2]) {
            return fail(p, "not the name of a value", t[0]);
        }
        t += 2;
    }
    if (p->block->count == IR_MAX_INSNS) {
        return fail(p, "too many records", t[0]);
    }
    IrInsn *i = &p->block->insns[p->block->count];
    if (!parse_op(p, t[0], i)) {
        return false;
    }
    unsigned operands = 0;
    const Fields fields = fields_of(i->op);
    for (char **token = t + 1; *token; token++) {
        if (!parse_token(p, *token, fields, i, &operands)) {
            return false;
        }
    }
    if (operands != ir_operand_count(p->block, i)) {
        return fail(p, "wrong number of operands", t[0]);
    }
    if (label != IR_NONE) {
        p->index_of[label] = (u16)p->block->count;
    }
    p->block->guest_insns += i->op == IR_insn;
    p->block->count++;
    return true;
}

/* Splits a line into tokens; a sign begins one unless it follows @ or #. NULL-terminated. */
static GPtrArray *tokenize(const char *line)
{
    GPtrArray *tokens = g_ptr_array_new_with_free_func(g_free);
    while (*line && *line != ';') {
        if (strchr(" \t\r,()[]", *line)) {
            line++;
            continue;
        }
        size_t n = 1;
        if ((*line == '@' || *line == '#') && line[1] == '-') {
            n = 2;
        }
        n += strcspn(line + n, " \t\r,()[];+-");
        g_ptr_array_add(tokens, g_strndup(line, n));
        line += n;
    }
    g_ptr_array_add(tokens, NULL);
    return tokens;
}

bool ir_parse(const char *text, IrBlock *block, char **error)
{
    Parser p = {.block = block, .index_of = g_new(u16, IR_NONE)};
    memset(p.index_of, 0xff, IR_NONE * sizeof(u16));
    block->count = block->guest_insns = block->guest_bytes = 0;
    block->straddles = false;

    char **lines = g_strsplit(text, "\n", -1);
    bool ok = true;
    for (char **line = lines; ok && *line; line++) {
        p.line++;
        GPtrArray *tokens = tokenize(*line);
        ok = parse_line(&p, (char **)tokens->pdata);
        g_ptr_array_free(tokens, true);
    }
    g_strfreev(lines);
    g_free(p.index_of);
    *error = p.error;
    return ok;
}
