/*
 * Counting: minstret counts exactly the instructions that retire, whatever blocks they are in. A
 * snippet's cost is measured from outside, against that of a snippet that is an ecall alone; what
 * traps does not retire.
 */
#include "guest.h"

static u64 instret(void)
{
#if XLEN == 64
    return csr_read(CSR_MINSTRET);
#else
    u32 high, low;
    do {
        high = csr_read(CSR_MINSTRETH);
        low = csr_read(CSR_MINSTRET);
    } while (high != csr_read(CSR_MINSTRETH));
    return (u64)high << 32 | low;
#endif
}

static u32 cost(unsigned mode, const void *code, ulong a0, ulong a1)
{
    run(mode, code, a0, a1);
    return run_instret;
}

SNIPPET(only_ecall, "ecall");
SNIPPET(seven, "nop\n addi a0, a0, 1\n xor a0, a0, a1\n lui a2, 5\n auipc a3, 0\n mul a0, a0, a1\n "
               "c.nop\n ecall");
SNIPPET(loop, "1: addi a0, a0, -1\n bnez a0, 1b\n ecall");                            /* 2n */
SNIPPET(loop_long, "1: addi a0, a0, -1\n nop\n nop\n beqz a0, 2f\n j 1b\n 2: ecall"); /* 5n - 1 */
SNIPPET(calls, "mv s1, a0\n 1: jal 2f\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n 2: addi a1, a1, "
               "1\n ret"); /* 1 + 5n */
SNIPPET(indirect, "mv s1, a0\n la s0, 2f\n 1: jalr s0\n addi s1, s1, -1\n bnez s1, 1b\n ecall\n 2: "
                  "nop\n jr ra"); /* 3 + 5n */
SNIPPET(memory, "1: " STR_LOAD " a2, 0(a1)\n " STR_STORE
                " a2, 8(a1)\n addi a0, a0, -1\n bnez a0, 1b\n ecall"); /* 4n */
SNIPPET(recursive,
        "mv s1, ra\n jal 1f\n mv ra, s1\n ecall\n" /* f(n): n ? f(n - 1) twice : nothing */
        "1: beqz a0, 2f\n addi sp, sp, -16\n " STR_STORE " ra, 0(sp)\n " STR_STORE
        " a0, 8(sp)\n addi a0, a0, -1\n jal 1b\n" STR_LOAD
        " a0, 8(sp)\n addi a0, a0, -1\n jal 1b\n " STR_LOAD
        " ra, 0(sp)\n addi sp, sp, 16\n 2: ret");
SNIPPET(faulting, "nop\n lw a0, 0(a0)\n ecall");
SNIPPET(illegal, "nop\n nop\n .word 0xffffffff");
SNIPPET(jump_off, "nop\n jr a0");
SNIPPET(breakpoint, "nop\n nop\n nop\n ebreak");
SNIPPET(floats, "fcvt.d.w fa0, a0\n fcvt.s.w fa1, a0\n 1: fadd.d fa0, fa0, fa0\n fmul.s fa1, fa1, "
                "fa1\n addi a0, a0, -1\n bnez a0, 1b\n ecall");
SNIPPET(system, "csrr a1, sscratch\n csrw sscratch, a1\n fence\n fence.i\n sfence.vma\n csrr a2, "
                "sstatus\n csrw sstatus, a2\n ecall");
SNIPPET(atomics, "1: amoadd.w a2, a0, (a1)\n lr.w a3, (a1)\n sc.w a4, a3, (a1)\n addi a0, a0, -1\n "
                 "bnez a0, 1b\n ecall");

static void snippets_cost(void)
{
    static u64 data[4], stack[512];
    static const unsigned modes[] = {PRIV_M, PRIV_S, PRIV_U};
    run(PRIV_M, only_ecall, 0, 0);
    for (unsigned i = 0; i < 3; i++) {
        unsigned m = modes[i];
        check_about = m;
        for (unsigned again = 0; again < 3; again++) {
            context.x[2] = (ulong)(stack + ARRAY_LEN(stack));
            u32 base = cost(m, only_ecall, 0, 0);
            CHECK_EQ(cost(m, only_ecall, 0, 0), base);
            CHECK_EQ(cost(m, seven, 1, 2) - base, 7);
            static const u32 counts[] = {1, 2, 3, 10, 1000, 30000};
            for (unsigned k = 0; k < ARRAY_LEN(counts); k++) {
                u32 n = counts[k];
                check_about = m << 24 | n;
                CHECK_EQ(cost(m, loop, n, 0) - base, 2 * n);
                CHECK_EQ(cost(m, loop_long, n, 0) - base, 5 * n - 1);
                CHECK_EQ(cost(m, calls, n, 0) - base, 1 + 5 * n);
                CHECK_EQ(cost(m, indirect, n, 0) - base, 3 + 5 * n);
                CHECK_EQ(cost(m, memory, n, (ulong)data) - base, 4 * n);
                CHECK_EQ(cost(m, floats, n, 0) - base, 2 + 4 * n);
                CHECK_EQ(cost(m, atomics, n, (ulong)data) - base, 5 * n);
            }
            check_about = m;
            for (unsigned depth = 0; depth < 10; depth++) {
                context.x[2] = (ulong)(stack + ARRAY_LEN(stack));
                /* c(0) = 2, c(n) = 12 + 2 c(n - 1): 14 * 2^n - 12 */
                CHECK_EQ(cost(m, recursive, depth, 0) - base, 3 + (14u << depth) - 12);
            }
            CHECK_EQ(cost(m, faulting, HOLE, 0) - base, 1);
            CHECK_EQ(cost(m, illegal, 0, 0) - base, 2);
            CHECK_EQ(cost(m, jump_off, HOLE, 0) - base,
                     2); /* the jump retires, its target doesn't */
            CHECK_EQ(cost(m, breakpoint, 0, 0) - base, 3);
            if (m != PRIV_U) {
                CHECK_EQ(cost(m, system, 0, 0) - base, 7);
            }
        }
    }
    check_about = 0;
}

/* A delegated trap is two: the one to S, and the ecall at stvec. Neither instruction retires. */
static void delegated(void)
{
    u32 base = cost(PRIV_U, only_ecall, 0, 0);
    csr_write(CSR_MEDELEG, 1 << CAUSE_LOAD_ACCESS);
    for (unsigned i = 0; i < 10; i++) {
        CHECK_EQ(cost(PRIV_U, faulting, HOLE, 0) - base, 1);
    }
    csr_write(CSR_MEDELEG, 0);
}

/* Between two reads: exactly the instructions from one to the other. */
static void inside(void)
{
    SNIPPET(none, "csrr a0, minstret\n csrr a1, minstret\n sub a0, a1, a0\n ecall");
    SNIPPET(five, "csrr a0, minstret\n nop\n nop\n j 1f\n nop\n 1: nop\n csrr a1, minstret\n sub "
                  "a0, a1, a0\n ecall");
    SNIPPET(looped, "li a2, 100\n csrr a0, minstret\n 1: addi a2, a2, -1\n bnez a2, 1b\n csrr a1, "
                    "minstret\n sub a0, a1, a0\n ecall");
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQ(run(PRIV_M, none, 0, 0).a0, 1);
        CHECK_EQ(run(PRIV_M, five, 0, 0).a0, 5);
        CHECK_EQ(run(PRIV_M, looped, 0, 0).a0, 201);
    }
    SNIPPET(from_user, "rdinstret a0\n nop\n nop\n rdinstret a1\n sub a0, a1, a0\n ecall");
    csr_write(CSR_MCOUNTEREN, 7);
    csr_write(CSR_SCOUNTEREN, 7);
    CHECK_EQ(run(PRIV_S, from_user, 0, 0).a0, 3);
    CHECK_EQ(run(PRIV_U, from_user, 0, 0).a0, 3);
}

/* A write takes the place of the writing instruction's own increment. */
static void writes(void)
{
    SNIPPET(write, "csrw minstret, a0\n csrr a0, minstret\n ecall");
    SNIPPET(write_far, "csrw minstret, a0\n nop\n nop\n nop\n csrr a0, minstret\n ecall");
    CHECK_EQ(run(PRIV_M, write, 1000, 0).a0, 1000);
    CHECK_EQ(run(PRIV_M, write_far, 1000, 0).a0, 1003);
    CHECK_EQ(run(PRIV_M, write, ~(ulong)0, 0).a0, ~(ulong)0);
    CHECK_EQ(run(PRIV_M, write_far, ~(ulong)0, 0).a0, 2);
#if XLEN == 32
    SNIPPET(carry, "csrw minstreth, a1\n csrw minstret, a0\n nop\n csrr a0, minstret\n csrr a1, "
                   "minstreth\n ecall");
    Trap t = run(PRIV_M, carry, 0xffffffff, 7);
    CHECK_EQ(t.a0, 0);
    CHECK_EQ(t.a1, 8);
#endif
    csr_write(CSR_MCYCLE, 0);
    CHECK(csr_read(CSR_MCYCLE) < 1000);
}

static void inhibited(void)
{
    csr_write(CSR_MCOUNTINHIBIT, 4);
    u64 before = instret();
    run(PRIV_M, loop, 1000, 0);
    CHECK_EQ(instret(), before);
    u64 cycles = csr_read(CSR_MCYCLE);
    run(PRIV_M, loop, 1000, 0);
    CHECK(csr_read(CSR_MCYCLE) > cycles);
    csr_write(CSR_MINSTRET, 5);
    CHECK_EQ(csr_read(CSR_MINSTRET), 5);
    csr_write(CSR_MCOUNTINHIBIT, 1);
    before = instret();
    cycles = csr_read(CSR_MCYCLE);
    run(PRIV_M, loop, 1000, 0);
    CHECK(instret() >= before + 2000);
    CHECK_EQ(csr_read(CSR_MCYCLE), cycles);
    csr_write(CSR_MCOUNTINHIBIT, 0);
}

int main(void)
{
    RUN(snippets_cost);
    RUN(delegated);
    RUN(inside);
    RUN(writes);
    RUN(inhibited);
    return 0;
}
