/*
 * The decoder and translator without a machine: any bits make IR that passes the checker, reserved and disabled
 * encodings make an illegal-instruction trap, blocks end where they must, and -cpu's switches do what they say.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "frontend-riscv/decode.h"
#include "frontend-riscv/translate.h"

enum { PAGE = 4096 };

static u8 page[PAGE] __attribute__((aligned(PAGE))), next_page[PAGE] __attribute__((aligned(PAGE)));
static IrInsn records[IR_MAX_INSNS];

static HartModel *model_of(const char *cpu)
{
    GError *err = NULL;
    HartModel *model = riscv_model_new(cpu, &err);
    ck_assert_msg(model != NULL, "%s: %s", cpu, err ? err->message : "no message");
    return model;
}

static void put16(u32 offset, u16 v)
{
    memcpy(page + offset, &v, 2);
}

static void put32(u32 offset, u32 v)
{
    put16(offset, (u16)v);
    put16(offset + 2, (u16)(v >> 16));
}

static IrBlock translate(const HartModel *model, u32 offset, unsigned max_insns)
{
    IrBlock block = {.insns = records};
    TranslateInput in = {
        .model = model, .page = page, .offset = offset, .next_page = next_page, .max_insns = max_insns,
    };
    ck_assert_int_eq(riscv_translate(&in, &block), TRANSLATE_OK);
    char *message = ir_check(&block);
    if (message) {
        ir_print(stderr, &block);
        ck_abort_msg("offset %u, first bits %02x%02x%02x%02x: %s", offset, page[(offset + 3) % PAGE],
                     page[(offset + 2) % PAGE], page[(offset + 1) % PAGE], page[offset], message);
    }
    return block;
}

static const IrInsn *last(const IrBlock *block)
{
    return &block->insns[block->count - 1];
}

/* Whether the bits, alone, raise illegal instruction with the bits as trap value. */
static bool is_illegal(const HartModel *model, u32 insn)
{
    put32(0, insn);
    IrBlock b = translate(model, 0, 1);
    const IrInsn *end = last(&b);
    if (end->op != IR_trap || end->aux != CAUSE_ILLEGAL) {
        return false;
    }
    u64 value = (u64)records[end->a].imm64;
    u32 bits = riscv_insn_length((u16)insn) == 2 ? insn & 0xffff : insn;
    ck_assert_uint_eq((u32)value, bits);
    return true;
}

START_TEST(any_bits_translate)
{
    static const char *const cpus[] = {"max", "max32", "rv64", "rv32,c=off", "rv64,f=off,a=off,c=off,u=off"};
    HartModel *model = model_of(cpus[_i]);
    GRand *random = g_rand_new_with_seed(7);
    for (int n = 0; n < 100; n++) {
        for (unsigned i = 0; i < PAGE; i += 4) {
            /* Full-length encodings half of the time, else any. */
            put32(i, g_rand_int(random) | (g_rand_int(random) & 1 ? 3 : 0));
        }
        for (u32 offset = 0; offset < PAGE;) {
            IrBlock b = translate(model, offset, 1 + g_rand_int(random) % 64);
            ck_assert_uint_gt(b.guest_bytes, 0);
            offset += b.guest_bytes;
            char text[16];
            riscv_disassemble(model, g_rand_int(random), 0, text, sizeof(text));
            ck_assert_uint_lt(strlen(text), sizeof(text));
        }
    }
    g_rand_free(random);
    g_free(model);
}
END_TEST

START_TEST(all_compressed_translate)
{
    HartModel *model = model_of(_i ? "max32" : "max");
    for (u32 insn = 0; insn < 0x10000; insn++) {
        if (riscv_insn_length((u16)insn) == 2) {
            put32(0, insn);
            translate(model, 0, 1);
        }
    }
    g_free(model);
}
END_TEST

/* Every row, with random operands: it decodes as itself, and is illegal with its extensions off. */
START_TEST(rows_need_their_extensions)
{
    bool rv32 = _i;
    HartModel *all = model_of(rv32 ? "max32" : "max");
    HartModel *without = model_of(rv32 ? "max32" : "max");
    GRand *random = g_rand_new_with_seed(3);
    unsigned tested = 0;
    for (unsigned i = 0; i < riscv_row_count; i++) {
        const RiscvRow *row = &riscv_rows[i];
        if (!(rv32 ? row->rv32 : row->rv64)) {
            continue;
        }
        u32 insn;
        unsigned tries = 0;
        do {
            insn = (g_rand_int(random) & ~row->mask) | row->match;
            insn &= row->length == 2 ? 0xffff : 0xffffffff;
            ck_assert_msg(tries++ < 10000, "no encoding means %s", row->name);
        } while (riscv_decode(insn, all->ext, rv32) != (int)i);
        if (row->ext & RISCV_EXT_BIT(I)) {
            continue;
        }
        without->ext = all->ext & ~row->ext;
        int other = riscv_decode(insn, without->ext, rv32);
        ck_assert_int_ne(other, (int)i);
        if (other < 0) {
            ck_assert_msg(is_illegal(without, insn), "%s is not illegal without its extension", row->name);
        }
        tested++;
    }
    ck_assert_uint_gt(tested, 100);
    g_rand_free(random);
    g_free(all);
    g_free(without);
}
END_TEST

START_TEST(reserved_is_illegal)
{
    static const struct {
        u32 insn;
        bool rv32, rv64; /* illegal there */
        const char *what;
    } cases[] = {
        {0x00000000, true, true, "zeros"},
        {0xffffffff, true, true, "ones"},
        {0x0000, true, true, "c.addi4spn of 0"},
        {0x8000, true, true, "quadrant 0, funct3 4 (with Zcb: c.lbu)"},
        {0x6101, true, true, "c.addi16sp of 0"},
        {0x6081, true, true, "c.lui of 0"},
        {0x4002, true, true, "c.lwsp to x0"},
        {0x6002, false, true, "c.ldsp to x0"},
        {0x8002, true, true, "c.jr x0"},
        {0x2001, false, true, "c.addiw x0"},
        {0x1082, true, false, "c.slli by 32"},
        {0x9c01, true, false, "c.subw"},
        {0x9c41, true, true, "c.mul"},
        {0x02051513, true, false, "slli by 32"},
        {0x02055513, true, false, "srli by 32"},
        {0x42055513, true, false, "srai by 32"},
        {0x0205151b, true, true, "slliw by 32"},
        {0x00003003, true, false, "ld"},
        {0x00006003, true, false, "lwu"},
        {0x00007003, true, true, "load of funct3 7"},
        {0x00003023, true, false, "sd"},
        {0x0000001b, true, false, "addiw"},
        {0x00002063, true, true, "branch of funct3 2"},
        {0x00001067, true, true, "jalr of funct3 1"},
        {0x0000200f, true, false, "cbo.inval needs Zicbom"},
        {0x1010202f, true, true, "lr.w with rs2"},
        {0x0000302f, true, false, "amoadd.d"},
        {0x0000702f, true, true, "AMO of funct3 7"},
        {0x80000033, true, true, "add with an unknown funct7"},
        {0x02000033 | 0x4000 << 12, true, true, "mul with an unknown funct7"},
        {0x00005053, true, true, "fadd.s with rounding mode 5"},
        {0x00006053, true, true, "fadd.s with rounding mode 6"},
    };
    HartModel *rv32 = model_of("rv32,zicbom=off"), *rv64 = model_of("rv64");
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_msg(is_illegal(rv32, cases[i].insn) == cases[i].rv32, "RV32: %s", cases[i].what);
        ck_assert_msg(is_illegal(rv64, cases[i].insn) == cases[i].rv64, "RV64: %s", cases[i].what);
    }
    g_free(rv32);
    g_free(rv64);
}
END_TEST

enum { NOP = 0x13, C_NOP = 1 };

START_TEST(blocks_end)
{
    HartModel *model = model_of("rv64");
    for (unsigned i = 0; i < PAGE; i += 4) {
        put32(i, NOP);
    }
    /* At the limit. */
    IrBlock b = translate(model, 0, 10);
    ck_assert_uint_eq(b.guest_insns, 10);
    ck_assert_uint_eq(b.guest_bytes, 40);
    ck_assert_int_eq(last(&b)->op, IR_goto);
    ck_assert_int_eq(last(&b)->imm, 40);
    /* At the page's end. */
    b = translate(model, 4088, 100);
    ck_assert_uint_eq(b.guest_insns, 2);
    ck_assert_int_eq(last(&b)->imm, PAGE);
    ck_assert(!b.straddles);
    /* Before an instruction that straddles. */
    put16(4090, C_NOP);
    put32(4092, NOP);
    put16(4094, 0x0013);
    put16(4092, C_NOP);
    b = translate(model, 4088 - 4, 100);
    ck_assert_int_eq(last(&b)->op, IR_goto);
    ck_assert_int_eq(last(&b)->imm, 4094);
    ck_assert(!b.straddles);
    /* That instruction itself: addi a0, zero, 1 in two halves. */
    put16(4094, 0x0513);
    next_page[0] = 0x10;
    next_page[1] = 0x00;
    b = translate(model, 4094, 100);
    ck_assert(b.straddles);
    ck_assert_uint_eq(b.guest_insns, 1);
    ck_assert_uint_eq(b.guest_bytes, 4);
    ck_assert_int_eq(b.insns[0].op, IR_insn);
    ck_assert_int_eq(b.insns[1].op, IR_guard_next_page);
    ck_assert_int_eq(last(&b)->op, IR_goto);
    ck_assert_int_eq(last(&b)->imm, PAGE + 2);
    IrBlock none = {.insns = records};
    TranslateInput in = {.model = model, .page = page, .offset = 4094, .max_insns = 1};
    ck_assert_int_eq(riscv_translate(&in, &none), TRANSLATE_NEED_NEXT);
    g_free(model);
}
END_TEST

START_TEST(jump_targets)
{
    HartModel *with_c = model_of("rv64"), *without_c = model_of("rv64,c=off");
    /* jal zero, +6 */
    put32(0, 0x0060006f);
    IrBlock b = translate(with_c, 0, 5);
    ck_assert_int_eq(last(&b)->op, IR_goto);
    ck_assert_int_eq(last(&b)->imm, 6);
    b = translate(without_c, 0, 5);
    ck_assert_int_eq(last(&b)->op, IR_trap);
    ck_assert_int_eq(last(&b)->aux, CAUSE_FETCH_MISALIGNED);
    ck_assert_int_eq(records[last(&b)->a].op, IR_pcrel);
    ck_assert_int_eq(records[last(&b)->a].imm, 6);
    /* beq a0, a1, +6: traps only if taken. */
    put32(0, 0x00b50363);
    b = translate(without_c, 0, 5);
    ck_assert_int_eq(last(&b)->op, IR_trap);
    const IrInsn *br = NULL;
    for (u32 i = 0; i < b.count; i++) {
        br = b.insns[i].op == IR_br ? &b.insns[i] : br;
    }
    ck_assert_ptr_nonnull(br);
    ck_assert_int_eq(br->aux, IR_NE);
    ck_assert_int_eq(br->imm, 4);
    b = translate(with_c, 0, 1);
    ck_assert_int_eq(last(&b)->op, IR_goto);
    ck_assert_int_eq(last(&b)->imm, 4);
    ck_assert(is_illegal(without_c, C_NOP));
    g_free(with_c);
    g_free(without_c);
}
END_TEST

/* A block goes on behind branches ahead, up to a number of them, and ends at one backward. */
START_TEST(behind_branches)
{
    HartModel *model = model_of("rv64");
    const u32 ahead = 0x00b50463 /* beq a0, a1, +8 */, back = 0xfeb50ee3 /* beq a0, a1, -4 */;
    for (unsigned i = 0; i < 20; i++) {
        put32(4 * i, ahead);
    }
    IrBlock b = translate(model, 0, 20);
    ck_assert_uint_eq(b.guest_insns, MAX_BRANCHES + 1);
    ck_assert_uint_eq(b.guest_bytes, 4 * (MAX_BRANCHES + 1));
    ck_assert_int_eq(last(&b)->op, IR_goto);
    ck_assert_int_eq(last(&b)->imm, 4 * (MAX_BRANCHES + 1));
    put32(4, back);
    b = translate(model, 0, 20);
    ck_assert_uint_eq(b.guest_insns, 2);
    ck_assert_int_eq(last(&b)->imm, 8);
    g_free(model);
}
END_TEST

/* Within a block each kind of guard is passed once; after a write of mstatus again. */
START_TEST(fp_guards)
{
    HartModel *model = model_of("rv64");
    const u32 code[] = {
        0x00a57553, /* fadd.s fa0, fa0, fa0, dyn */
        0x00a57553,
        0x00a50553, /* fadd.s fa0, fa0, fa0, rne */
        0x0000006f, /* j . */
    };
    for (unsigned i = 0; i < ARRAY_LEN(code); i++) {
        put32(4 * i, code[i]);
    }
    IrBlock b = translate(model, 0, 10);
    unsigned guards = 0;
    for (u32 i = 0; i < b.count; i++) {
        guards += b.insns[i].op == IR_guard;
        if (b.insns[i].op == IR_guard) {
            ck_assert_int_eq(b.insns[i].aux, GUARD_FP_RM);
            ck_assert_int_eq(b.insns[i].imm, offsetof(CpuState, fp_ready));
        }
    }
    ck_assert_uint_eq(guards, 1);
    g_free(model);
}
END_TEST

START_TEST(models)
{
    HartModel *m = model_of("rv64");
    ck_assert(!m->rv32);
    char *isa = riscv_isa_string(m);
    ck_assert_msg(g_str_has_prefix(isa, "rv64imafdc_zicbom_"), "%s", isa);
    ck_assert_ptr_nonnull(strstr(isa, "_zba_zbb_zbc_zbs_"));
    ck_assert_ptr_null(strstr(isa, "zicond"));
    g_free(isa);
    char **list = riscv_isa_extensions(m);
    ck_assert_str_eq(list[0], "i");
    ck_assert(g_strv_contains((const char *const *)list, "sstc"));
    ck_assert(!g_strv_contains((const char *const *)list, "s"));
    g_strfreev(list);
    u32 letters = 0;
    for (const char *c = "acdfimsu"; *c; c++) {
        letters |= 1u << (*c - 'a');
    }
    ck_assert_uint_eq(riscv_misa_letters(m->ext), letters);
    g_free(m);

    /* What needs an extension goes with it, what it needs comes with it. */
    m = model_of("max,f=off");
    ck_assert(!(m->ext & (RISCV_EXT_BIT(F) | RISCV_EXT_BIT(D) | RISCV_EXT_BIT(Zfh) | RISCV_EXT_BIT(Zfa))));
    g_free(m);
    m = model_of("rv32,+zfh,-c,zba=false");
    ck_assert(m->rv32);
    ck_assert(m->ext & RISCV_EXT_BIT(Zfhmin));
    ck_assert(!(m->ext & (RISCV_EXT_BIT(C) | RISCV_EXT_BIT(Zba))));
    g_free(m);
    m = model_of("rv64,pmp=off");
    ck_assert_uint_eq(m->pmp_entries, 0);
    g_free(m);
    ck_assert_uint_eq(riscv_ext_closure(RISCV_EXT_BIT(D)),
                      RISCV_EXT_BIT(D) | RISCV_EXT_BIT(F) | RISCV_EXT_BIT(Zicsr));

    static const char *const bad[] = {"", "rv65", "rv64,zqq=on", "rv64,zba=maybe", "rv64,i=off", "rv64,", "rv64,+zba=on"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        GError *err = NULL;
        ck_assert_msg(riscv_model_new(bad[i], &err) == NULL, "%s", bad[i]);
        ck_assert_ptr_nonnull(err);
        g_error_free(err);
    }
}
END_TEST

START_TEST(disassembly)
{
    static const struct {
        u32 insn;
        const char *text;
    } cases[] = {
        {0x00a50533, "add     a0,a0,a0"},
        {0x0000006f, "jal     zero,0x80000000"},
        {0x30052573, "csrrs   a0,mstatus,a0"},
        {0x8082, "c.jr    ra"},
        {0x0001, "c.nop"},
        {0x0000, ".insn   0x0000"},
        {0xffffffff, ".insn   0xffffffff"},
    };
    HartModel *model = model_of("rv64");
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        char text[64];
        unsigned length = riscv_disassemble(model, cases[i].insn, 0x80000000, text, sizeof(text));
        ck_assert_str_eq(text, cases[i].text);
        ck_assert_uint_eq(length, (cases[i].insn & 3) == 3 ? 4 : 2);
    }
    g_free(model);
}
END_TEST

/* Every register is in the list of hot ones once, but x0. */
START_TEST(hot_registers)
{
    unsigned count, x = 0, f = 0;
    const IrHotReg *hot = riscv_hot_regs(&count);
    u32 seen_x = 1, seen_f = 0;
    for (unsigned i = 0; i < count; i++) {
        if (hot[i].is_float) {
            seen_f |= 1u << (hot[i].offset - CPU_OFFSET_F(0)) / 8;
            f++;
        } else {
            seen_x |= 1u << (hot[i].offset - CPU_OFFSET_X(0)) / 8;
            x++;
        }
    }
    ck_assert_uint_eq(x, 31);
    ck_assert_uint_eq(f, 32);
    ck_assert_uint_eq(seen_x, ~0u);
    ck_assert_uint_eq(seen_f, ~0u);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decode");
    TCase *c = tcase_create("decode");
    tcase_set_timeout(c, 240);
    tcase_add_loop_test(c, any_bits_translate, 0, 5);
    tcase_add_loop_test(c, all_compressed_translate, 0, 2);
    tcase_add_loop_test(c, rows_need_their_extensions, 0, 2);
    tcase_add_test(c, reserved_is_illegal);
    tcase_add_test(c, blocks_end);
    tcase_add_test(c, jump_targets);
    tcase_add_test(c, behind_branches);
    tcase_add_test(c, fp_guards);
    tcase_add_test(c, models);
    tcase_add_test(c, disassembly);
    tcase_add_test(c, hot_registers);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
