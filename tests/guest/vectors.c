/* Drives the cases that gen/gen_insn.py writes: see there. */
#include "guest.h"

typedef struct Case {
    const char *name;
    void (*code)(void);
    const char *table, *end; /* of constants: none */
    ulong stride, count;
} Case;
extern const Case cases[]; /* ends with a nameless one */

/* A failed case leaves its record (or check number) in case_at and what it found in case_got. */
u64 case_at[2], case_got[1], float_result[1];
u64 amo_cell[2] __attribute__((aligned(16))); /* for 16-byte operands */
bool run_case(void (*code)(void)); /* true: no difference */

/* Cases use every register, sp, gp and tp included. */
asm(".text\n.balign 4\n"
    "run_case:\n"
    "    la t0, saved\n"
    ".macro save op\n"
    "    \\op ra, 0*(" STR(
        __riscv_xlen) "/8)(t0)\n    \\op sp, 1*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                    "    \\op gp, 2*(" STR(
                                                                        __riscv_xlen) "/8)(t0)\n   "
                                                                                      " \\op tp, "
                                                                                      "3*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                              "    \\op s0, 4*(" STR(
                                                                                                                  __riscv_xlen) "/8)(t0)\n    \\op s1, 5*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                                                                                              "    \\op s2, 6*(" STR(__riscv_xlen) "/8)(t0)\n    \\op s3, 7*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                                                                                                                                                                                 "    \\op s4, 8*(" STR(__riscv_xlen) "/8)(t0)\n    \\op s5, 9*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                                                                                                                                                                                                                                                                    "    \\op s6, 10*(" STR(__riscv_xlen) "/8)(t0)\n    \\op s7, 11*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                         "    \\op s8, 12*(" STR(__riscv_xlen) "/8)(t0)\n    \\op s9, 13*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                              "    \\op s10, 14*(" STR(__riscv_xlen) "/8)(t0)\n    \\op s11, 15*(" STR(__riscv_xlen) "/8)(t0)\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     ".endm\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "    save " STR_STORE
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "    jr a0\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     ".global case_done, case_failed\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "case_failed:\n    li a0, 0\n    j 1f\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "case_done:\n    li a0, 1\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "1:  .option push\n    .option norelax\n    la t0, saved\n    .option pop\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "    save " STR_LOAD
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     "\n    ret\n"
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                     ".bss\n.balign 8\nsaved: .space 128\n.text\n");

static const Case *current;

static void case_test(void)
{
    const Case *c = current;
    bool ok = run_case(c->code);
    count_checks((unsigned)c->count);
    if (ok) {
        return;
    }
    check_eq(c->name, 0, "a case", 0, 1);
    put_text("     found ");
    put_hex((ulong)case_got[0]);
    if (c->table) {
        ulong at = *(ulong *)case_at - (ulong)c->table;
        put_text(", record ");
        put_hex(at / c->stride);
        put_text(":");
        const ulong *word = (const ulong *)(c->table + at);
        for (unsigned i = 0; i < c->stride / sizeof(ulong); i++) {
            put_text(" ");
            put_hex(word[i]);
        }
    } else {
        put_text(", check ");
        put_hex(*(ulong *)case_at);
    }
    put_text("\n");
}

static void all_cases(void)
{
    for (current = cases; current->name; current++) {
        case_test();
    }
}

int main(void)
{
    RUN(all_cases);
    return 0;
}
