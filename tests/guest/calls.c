/*
 * Calls and returns, matched and not. A translator that predicts where returns go, or keeps a stack of
 * its own for them, must not rely on either: recursion deeper than any such stack, stacks left by
 * longjmp and switched by coroutines, changed return addresses, callers that change or go away before
 * the return.
 */
#include "guest.h"

static const unsigned modes[] = {PRIV_M, PRIV_S, PRIV_U};
#define EACH_MODE(m) for (unsigned i_ = 0, m; i_ < 3 && (m = modes[i_], true); i_++)

enum { REG_RA = 1, REG_SP = 2, REG_S0 = 8, REG_S1 = 9, REG_A2 = 12, REG_A3, REG_A4, REG_S2 = 18 };

static u64 stack[2 * 9000]; /* 16 bytes a level */
#define STACK_TOP ((ulong)(stack + 2 * 9000))

static void begin(void)
{
    use_bare();
    free_pages();
    csr_write(CSR_MEDELEG, 0);
    context.x[REG_SP] = context.x[REG_S2] = STACK_TOP;
}

#define ENTER(size) "addi sp, sp, -" size "\n"
#define LEAVE(size) "addi sp, sp, " size "\n"

/* s1 times: the sum of 1 to s0, by recursion; 11 instructions a level. */
SNIPPET(deep, "1: mv a0, s0\n jal ra, 2f\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
              "2: bnez a0, 3f\n ret\n"
              "3: " ENTER("16") STR_STORE " ra, 0(sp)\n" STR_STORE " a0, 8(sp)\n"
              "addi a0, a0, -1\n jal ra, 2b\n" STR_LOAD " t1, 8(sp)\n add a0, a0, t1\n"
              STR_LOAD " ra, 0(sp)\n" LEAVE("16") "ret");

static u32 run_deep(unsigned mode, ulong depth, ulong times)
{
    context.x[REG_SP] = STACK_TOP;
    context.x[REG_S0] = depth;
    context.x[REG_S1] = times;
    Trap t = run(mode, deep, 0, 0);
    EXPECT_DONE(t);
    CHECK_EQ(t.a0, depth * (depth + 1) / 2);
    CHECK_EQ(context.x[REG_SP], STACK_TOP);
    return run_instret;
}

static void recursion(void)
{
    static const u16 depths[] = {0, 1, 2, 31, 32, 33, 63, 64, 65, 1022, 1023, 1024, 1025, 2047, 2048, 2049, 8000};
    begin();
    EACH_MODE (m) {
        for (unsigned i = 0; i < ARRAY_LEN(depths); i++) {
            check_about = depths[i];
            run_deep(m, depths[i], 1);
            run_deep(m, depths[i], 4);
        }
        check_about = 0;
        u32 shallow = run_deep(m, 1000, 3);
        CHECK_EQ(run_deep(m, 6000, 3) - shallow, 3 * 5000 * 11);
    }
}

/* s1 times: s0 levels down, from there back to the top at once by a return, and a call that is
 * matched. */
SNIPPET(unwind, "la s3, 4f\n li a5, 0\n"
                "1: mv a0, s0\n jal ra, 2f\n li a5, 9999\n"
                "4: mv sp, s2\n addi a5, a5, 1\n jal ra, 5f\n addi s1, s1, -1\n bnez s1, 1b\n"
                "mv a0, a5\n ecall\n"
                "5: addi a5, a5, 1\n ret\n"
                "2: bnez a0, 3f\n mv ra, s3\n ret\n"
                "3: " ENTER("16") STR_STORE " ra, 0(sp)\n addi a0, a0, -1\n jal ra, 2b\n"
                STR_LOAD " ra, 0(sp)\n" LEAVE("16") "ret");

static void unwinding(void)
{
    begin();
    EACH_MODE (m) {
        for (ulong depth = 0; depth < 2000; depth = depth * 3 + 1) {
            context.x[REG_S0] = depth;
            context.x[REG_S1] = 30;
            Trap t = run(m, unwind, 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, 60);
        }
    }
}

/* Two threads of control that return into each other's calls. */
SNIPPET(coroutines, "la s2, 4f\n"
                    "1: jal ra, 2f\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
                    "2: mv s4, ra\n addi a0, a0, 1\n jal ra, 3f\n mv ra, s4\n ret\n"
                    "3: mv t1, ra\n mv ra, s2\n mv s2, t1\n ret\n"
                    "4: jal ra, 5f\n j 4b\n"
                    "5: mv s5, ra\n addi a0, a0, 100\n jal ra, 3b\n mv ra, s5\n ret");
/* The same with one jump that is a return and a call. */
SNIPPET(swapped, "la t0, 2f\n"
                 "1: addi a0, a0, 1\n jalr ra, 0(t0)\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
                 "2: addi a0, a0, 100\n jalr t0, 0(ra)\n j 2b");

static void coroutine_switches(void)
{
    begin();
    EACH_MODE (m) {
        for (ulong n = 1; n < 200; n = n * 2 + 1) {
            context.x[REG_S1] = n;
            Trap t = run(m, coroutines, 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, 101 * n);
            context.x[REG_S1] = n;
            t = run(m, swapped, 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, 101 * n);
        }
    }
}

/* x5 is a link register, too; and a function may end in a jump to another one. */
SNIPPET(link_x5, "1: jal ra, 2f\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
                 "2: mv s4, ra\n jal t0, 3f\n addi a0, a0, 1\n mv ra, s4\n ret\n"
                 "3: addi a0, a0, 10\n jr t0");
SNIPPET(tail_call, "la s3, 3f\n"
                   "1: jal ra, 2f\n jalr ra, 0(s3)\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
                   "2: addi a0, a0, 1\n j 3f\n nop\n"
                   "3: addi a0, a0, 2\n la t1, 4f\n jr t1\n nop\n"
                   "4: addi a0, a0, 2\n ret");
/* Another link register: no call, but it returns. */
SNIPPET(link_x7, "1: jal t2, 2f\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
                 "2: addi a0, a0, 5\n mv ra, t2\n ret");

static void link_registers(void)
{
    begin();
    EACH_MODE (m) {
        static const struct {
            char *code;
            unsigned each;
        } ways[] = {{link_x5, 11}, {tail_call, 9}, {link_x7, 5}};
        for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
            context.x[REG_S1] = 40;
            Trap t = run(m, ways[i].code, 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, 40 * ways[i].each);
        }
    }
}

/* s1 times: a call to a function that comes back by a way of its own and skips an instruction. */
#define SKIPPING(name, way)                                                                        \
    SNIPPET(name, "1: jal ra, 2f\n .option push\n .option norvc\n addi a0, a0, 1000\n"             \
                  ".option pop\n addi a0, a0, 1\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n 2: " way)
SKIPPING(skip_ra, "addi ra, ra, 4\n ret");
SKIPPING(skip_odd, "addi ra, ra, 5\n ret");
SKIPPING(skip_offset, "jalr x0, 4(ra)");
SKIPPING(skip_other, "addi t1, ra, 4\n jr t1");

static void changed_addresses(void)
{
    static char *const ways[] = {skip_ra, skip_odd, skip_offset, skip_other};
    begin();
    EACH_MODE (m) {
        for (unsigned i = 0; i < ARRAY_LEN(ways); i++) {
            context.x[REG_S1] = 40;
            Trap t = run(m, ways[i], 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, 40);
        }
    }
}

/* The last of s1 returns goes elsewhere: the address with bits of a1 changed. */
SNIPPET(wrong, "li t1, 1\n 1: jal ra, 2f\n wrong_return: addi s1, s1, -1\n bnez s1, 1b\n ecall\n"
               "2: bne s1, t1, 3f\n xor ra, ra, a1\n 3: ret");
extern char wrong_return[];

static void wrong_addresses(void)
{
    begin();
    EACH_MODE (m) {
        for (unsigned bit = 31; bit < XLEN; bit++) {
            /* On RV32 there is a hole only. */
            ulong flip = bit == 31 ? HOLE ^ 0x80000000 : (ulong)1 << bit;
            check_about = bit;
            context.x[REG_S1] = 20;
            Trap t = run(m, wrong, 0, flip);
            CHECK_EQ(t.cause, CAUSE_FETCH_ACCESS);
            CHECK_EQ(t.epc, (ulong)wrong_return ^ flip);
            CHECK_EQ(t.tval, (ulong)wrong_return ^ flip);
        }
    }
    /* With paging: everything but the snippets is unmapped, or no address at all. */
    ulong *root = new_space();
    use_space(root, 1);
    for (unsigned bit = 24; bit < XLEN; bit++) {
        ulong flip = (ulong)1 << bit;
        check_about = bit;
        context.x[REG_S1] = 20;
        Trap t = run(PRIV_S, wrong, 0, flip);
        EXPECT_TRAP(t, CAUSE_FETCH_PAGE, (ulong)wrong_return ^ flip, (ulong)wrong_return ^ flip);
    }
    check_about = 0;
    use_bare();
}

static u32 insn_call_a2(void)
{
    return 12 << 15 | 1 << 7 | 0x67; /* jalr ra, 0(a2) */
}

/* A function that changes the instruction that it returns to; most of the time to what it is, so that
 * the way back gets used to it. */
SNIPPET(patch_caller, "sw a1, 0(ra)\n fence.i\n ret");

static void changed_callers(void)
{
    begin();
    volatile u32 *code = new_page();
    code[0] = insn_call_a2();
    code[1] = insn_li_a0(2000);
    code[2] = ECALL;
    fence_i();
    EACH_MODE (m) {
        for (unsigned i = 0; i < 400; i++) {
            check_about = i;
            context.x[REG_A2] = (ulong)patch_caller;
            Trap t = run(m, (void *)code, 0, insn_li_a0((int)i / 5));
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, i / 5);
        }
    }
}

/* Functions that change the page table entry at a1, which the caller's page at a4 is mapped by, to
 * a3. */
SNIPPET(remap_caller, STR_STORE " a3, 0(a1)\n sfence.vma a4, zero\n ret");
SNIPPET(remap_all, STR_STORE " a3, 0(a1)\n sfence.vma\n ret");

static void remapped_callers(void)
{
    enum { ENTRIES = 0x30000000, CALLER = 0x20000000 };
    begin();
    ulong *root = new_space();
    volatile u32 *code[2] = {new_page(), new_page()};
    for (unsigned i = 0; i < 2; i++) {
        code[i][0] = insn_call_a2();
        code[i][1] = insn_li_a0((int)i + 1);
        code[i][2] = ECALL;
    }
    fence_i();
    ulong *pte = pte_at(root, CALLER, 0);
    map(root, ENTRIES, (ulong)pte & ~(ulong)(PAGE - 1), PTE_KERNEL & ~PTE_X);
    use_space(root, 1);
    for (unsigned i = 0; i < 240; i++) {
        unsigned from = i / 5 & 1, to = i % 5 < 3 ? from : i / 5 % 3;
        check_about = i;
        *pte = pte_make((ulong)code[from], PTE_KERNEL);
        fence_all();
        context.x[REG_A2] = (ulong)(i / 30 & 1 ? remap_all : remap_caller);
        context.x[REG_A4] = CALLER;
        context.x[REG_A3] = to == 2 ? 0 : pte_make((ulong)code[to], PTE_KERNEL);
        Trap t = run(PRIV_S, (void *)CALLER, 0, ENTRIES + ((ulong)pte & (PAGE - 1)));
        if (to == 2) {
            EXPECT_TRAP(t, CAUSE_FETCH_PAGE, CALLER + 4, CALLER + 4);
        } else {
            EXPECT_TRAP(t, CAUSE_ECALL_S, CALLER + 8, 0);
            CHECK_EQ(t.a0, to + 1);
        }
    }
    check_about = 0;
    use_bare();
}

/* Calls that end a page, or stand across its end, and so come back to the next one, which is mapped
 * elsewhere from time to time. */
SNIPPET(add_one, "addi a0, a0, 1\n ret");

static void across_pages(void)
{
    enum { CALLER = 0x20000000 };
    begin();
    ulong *root = new_space();
    u8 *first = new_page(), *second[2] = {new_page(), new_page()};
    map(root, CALLER, (ulong)first, PTE_KERNEL);
    use_space(root, 1);
    for (unsigned at = PAGE - 4; at < PAGE; at += 2) {
        u32 call = insn_call_a2();
        *(volatile u16 *)(first + at) = (u16)call;
        for (unsigned i = 0; i < 2; i++) {
            volatile u16 *p = (volatile u16 *)second[i];
            if (at + 2 == PAGE) {
                *p++ = call >> 16;
            } else {
                *(volatile u16 *)(first + at + 2) = call >> 16;
            }
            /* addi a0, a0, 10 (i + 1); addi a1, a1, -1; bnez a1, to the call; ecall */
            u32 rest[] = {(10 * (i + 1)) << 20 | 0x00050513, 0xfff58593, 0, ECALL};
            ulong d = (ulong)-12 & 0x1fff;
            rest[2] = (u32)(d >> 12 << 31 | (d >> 5 & 0x3f) << 25 | (d >> 1 & 15) << 8 |
                            (d >> 11 & 1) << 7) |
                      11 << 15 | 1 << 12 | 0x63;
            for (unsigned k = 0; k < ARRAY_LEN(rest); k++) {
                *p++ = (u16)rest[k];
                *p++ = rest[k] >> 16;
            }
        }
        fence_i();
        for (unsigned i = 0; i < 40; i++) {
            unsigned which = i / 3 % 2;
            check_about = i;
            map(root, CALLER + PAGE, (ulong)second[which], PTE_KERNEL);
            fence_address(CALLER + PAGE);
            context.x[REG_A2] = (ulong)add_one;
            Trap t = run(PRIV_S, (void *)(ulong)(CALLER + at), 0, 20);
            EXPECT_TRAP(t, CAUSE_ECALL_S, CALLER + at + 16, 0);
            CHECK_EQ(t.a0, 20 * (1 + 10 * (which + 1)));
        }
    }
    check_about = 0;
    use_bare();
}

int main(void)
{
    RUN(recursion);
    RUN(unwinding);
    RUN(coroutine_switches);
    RUN(link_registers);
    RUN(changed_addresses);
    RUN(wrong_addresses);
    RUN(changed_callers);
    RUN(remapped_callers);
    RUN(across_pages);
    return 0;
}
