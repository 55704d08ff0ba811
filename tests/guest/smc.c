/*
 * Code that changes: by stores, with and without fence.i, in one page with data, seen at several
 * addresses, across pages, and by new mappings of the page that a jump leads to.
 */
#include "guest.h"

SNIPPET(jump, "jr a0");

static u32 addi_a0(int n)
{
    return (u32)n << 20 | 10 << 15 | 10 << 7 | 0x13;
}

/* jal x0, offset */
static u32 insn_j(int offset)
{
    u32 o = (u32)offset;
    return (o >> 20 & 1) << 31 | (o >> 1 & 0x3ff) << 21 | (o >> 11 & 1) << 20 |
           (o >> 12 & 0xff) << 12 | 0x6f;
}

static u32 insn_jal_ra(int offset)
{
    return insn_j(offset) | 1 << 7;
}

static void begin(void)
{
    use_bare();
    free_pages();
    csr_write(CSR_MEDELEG, 0);
}

static void with_fence_i(void)
{
    begin();
    volatile u32 *code = new_page();
    static const unsigned modes[] = {PRIV_U, PRIV_S, PRIV_M};
    for (unsigned i = 0; i < 300; i++) {
        code[0] = insn_li_a0((int)i);
        code[1] = ECALL;
        fence_i();
        for (unsigned m = 0; m < 3; m++) {
            Trap t = run(modes[m], (void *)code, 0, 0);
            CHECK_EQ(t.a0, i);
        }
    }
}

/* Two programs one after the other in the same frames, and never a fence.i: the return to U mode is
 * all there is. */
static void without_fence_i(void)
{
    begin();
    volatile u32 *code = new_page();
    new_page();
    for (unsigned i = 0; i < 600; i++) {
        unsigned length = 3 + i % 7 * 50;
        code[0] = insn_li_a0((int)(i & 0x3ff));
        for (unsigned k = 1; k < length; k++) {
            code[k] = addi_a0((int)(i % 3));
        }
        code[length] = ECALL;
        Trap t = run(i & 1 ? PRIV_U : PRIV_S, (void *)code, 0, 0);
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, (i & 0x3ff) + (length - 1) * (i % 3));
        CHECK_EQ(t.epc, &code[length]);
    }
}

/* The same as a kernel does it: in S mode with paging, it copies a program into frames that it sees
 * at one address, and the process at another, and goes there by sret. */
SNIPPET(kernel_exec, "1: lw t0, 0(a0)\n sw t0, 0(a1)\n addi a0, a0, 4\n addi a1, a1, 4\n addi a2, "
                     "a2, -1\n bnez a2, 1b\n"
                     "csrw sepc, a3\n li t0, 0x100\n csrc sstatus, t0\n li a0, 0\n sret");

static void kernel_without_fence_i(void)
{
    enum { WORDS = 40 };
    static u32 programs[8][WORDS];
    begin();
    ulong *root = new_space();
    ulong frame = (ulong)new_page(), store = (ulong)new_page(), user = 0x10000, kernel = 0x40000000,
          source = 0x41000000;
    map(root, user, frame, PTE_USER & ~PTE_W);
    map(root, kernel, frame, PTE_KERNEL & ~PTE_X);
    map(root, source, store, PTE_KERNEL & ~PTE_X);
    use_space(root, 3);
    for (unsigned p = 0; p < 8; p++) {
        for (unsigned k = 0; k < WORDS; k++) {
            /* Odd programs jump about, so that blocks begin in other places. */
            programs[p][k] = k == WORDS - 1        ? ECALL
                             : p & 1 && k % 5 == 3 ? insn_j(4)
                                                   : addi_a0((int)(p + k));
        }
    }
    for (unsigned i = 0; i < 400; i++) {
        unsigned p = (i * 5 + i / 7) % 8;
        check_about = i;
        ulong want = 0;
        for (unsigned k = 0; k < WORDS; k++) {
            ((volatile u32 *)store)[k] = programs[p][k];
            if (k < WORDS - 1 && !(p & 1 && k % 5 == 3)) {
                want += p + k;
            }
        }
        context.x[12] = WORDS;
        context.x[13] = user;
        Trap t = run(PRIV_S, kernel_exec, source, kernel);
        EXPECT_TRAP(t, CAUSE_ECALL_U, user + 4 * (WORDS - 1), 0);
        CHECK_EQ(t.a0, want);
    }
    check_about = 0;
    use_bare();
}

/* A counter in the page of the code that counts. */
static void data_beside_code(void)
{
    begin();
    volatile u32 *page = new_page();
    static const u32 program[] = {
        0x00000597 | 0 << 12, /* auipc a1, 0 */
        0x0805a603,           /* 1: lw a2, 128(a1) */
        0x00160613,           /* addi a2, a2, 1 */
        0x08c5a023,           /* sw a2, 128(a1) */
        0xfff50513,           /* addi a0, a0, -1 */
        0xfe0518e3,           /* bnez a0, 1b */
        ECALL,
    };
    for (unsigned fences = 0; fences < 2; fences++) {
        for (unsigned i = 0; i < ARRAY_LEN(program); i++) {
            page[i] = program[i];
        }
        page[32] = 0;
        if (fences) {
            page[1] = 0x0000100f; /* fence.i in the loop, in place of the load: it counts with a2 as
                                     it was */
        }
        fence_i();
        for (unsigned i = 1; i <= 40; i++) {
            context.x[12] = (i - 1) * 50;
            EXPECT_DONE(run(PRIV_S, (void *)page, 50, 0));
            CHECK_EQ(page[32], i * 50);
        }
    }
}

/* Code that writes the instruction ahead, then fence.i, then runs it; in a loop. */
static void writes_itself(void)
{
    begin();
    volatile u32 *page = new_page();
    static const u32 program[] = {
        0x00000597,                          /* auipc a1, 0 */
        0x00c5a023,                          /* 1: sw a2, 0x20(a1) -- patched below */
        0x0000100f,                          /* fence.i */
        NOP,        NOP, NOP, NOP, NOP, NOP, /* becomes addi a0, a0, n */
        0x00d60633,                          /* add a2, a2, a3: n + 1 */
        0xfff70713,                          /* addi a4, a4, -1 */
        0xfc071ce3,                          /* bnez a4, 1b */
        ECALL,
    };
    for (unsigned i = 0; i < ARRAY_LEN(program); i++) {
        page[i] = program[i];
    }
    page[1] = 0x02c5a023;
    fence_i();
    for (unsigned round = 0; round < 5; round++) {
        context.x[12] = addi_a0(1);
        context.x[13] = 1 << 20;
        context.x[14] = 100;
        Trap t = run(PRIV_M, (void *)page, 0, 0);
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, 100 * 101 / 2);
    }
}

/* An instruction on two pages; either half changes. */
static void straddling(void)
{
    begin();
    u16 *page = new_page();
    new_page();
    volatile u16 *code = page + PAGE / 2 - 1;
    for (unsigned i = 0; i < 200; i++) {
        u32 insn = i & 1 ? insn_li_a0((int)i)
                         : 0x00000513 | (i & 0x7ff) << 20 | 1 << 14; /* li, or xori a0, x0 */
        code[0] = (u16)insn;
        code[1] = insn >> 16;
        code[2] = (u16)ECALL;
        code[3] = 0;
        if (i % 3) {
            fence_i();
        }
        Trap t = run(i % 3 ? PRIV_M : PRIV_U, (void *)code, 0, 0);
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, i);
    }
    for (unsigned i = 0; i < 100; i++) { /* the second half alone: the immediate */
        code[0] = (u16)insn_li_a0(0);
        code[1] = insn_li_a0((int)i) >> 16;
        Trap t = run(PRIV_S, (void *)code, 0, 0);
        CHECK_EQ(t.a0, i);
    }
    /* The first half alone: addi a0, x0, 5 or lui a0. (The low half of lui and addi differ, the
     * high half is the same.) */
    for (unsigned i = 0; i < 100; i++) {
        code[1] = 0x0050;
        code[0] = i & 1 ? 0x0513 : 0x0537;
        Trap t = run(PRIV_S, (void *)code, 100, 0);
        CHECK_EQ(t.a0, i & 1 ? 5 : 0x500000);
    }
}

/* A run of instructions over three pages, of which one changes. */
static void across_pages(void)
{
    begin();
    volatile u32 *code = new_page();
    new_page();
    new_page();
    enum { N = 3 * PAGE / 4 };
    ulong sum = 0;
    for (unsigned i = 0; i < N - 1; i++) {
        code[i] = addi_a0(1);
        sum++;
    }
    code[N - 1] = ECALL;
    fence_i();
    for (unsigned i = 0; i < 60; i++) {
        Trap t = run(i & 1 ? PRIV_U : PRIV_M, (void *)code, 0, 0);
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, sum);
        unsigned at = (i % 3) * PAGE / 4 + i * 7;
        sum += i + 2 - (code[at] >> 20);
        code[at] = addi_a0((int)(i + 2));
        fence_i();
    }
}

/* One frame at three addresses: two that execute, one that writes. */
static void aliases(void)
{
    begin();
    ulong *root = new_space();
    ulong frame = (ulong)new_page(), a = 0x10000000, b = 0x10400000, c = 0x10801000;
    map(root, a, frame, PTE_KERNEL & ~PTE_W);
    map(root, b, frame, PTE_KERNEL & ~PTE_W);
    map(root, c, frame, PTE_KERNEL & ~PTE_X);
    use_space(root, 1);
    SNIPPET(write_both,
            "sw a1, 0(a0)\n fence.i\n jalr a2\n mv s0, a0\n jalr a3\n add a0, a0, s0\n ecall");
    volatile u32 *code = (volatile u32 *)frame;
    code[1] = RET;
    for (unsigned i = 0; i < 200; i++) {
        context.x[12] = a;
        context.x[13] = b;
        Trap t = run(PRIV_S, write_both, c, insn_li_a0((int)i));
        EXPECT_DONE(t);
        CHECK_EQ(t.a0, 2 * i);
    }
    use_bare();
}

/* Direct jumps and calls into the next page, which is mapped elsewhere meanwhile. */
static void remapped_targets(void)
{
    begin();
    ulong *root = new_space();
    ulong va = 0x20000000;
    u32 *from[2] = {new_page(), new_page()},
        *to[4] = {new_page(), new_page(), new_page(), new_page()};
    for (unsigned i = 0; i < 2; i++) {
        /* a0 = 0, then ten times: a0 += i + 1, call the next page; then jump to its end */
        u32 *p = from[i];
        *p++ = insn_li_a0(0);
        *p++ = 0x00a00593; /* li a1, 10 */
        *p++ = addi_a0((int)i + 1);
        *p++ = insn_jal_ra(PAGE - 12);
        *p++ = 0xfff58593; /* addi a1, a1, -1 */
        *p++ = 0xfe059ae3; /* bnez a1, -12 */
        *p++ = insn_j(PAGE - 24 + 0x800);
    }
    for (unsigned i = 0; i < 4; i++) {
        to[i][0] = addi_a0((int)(100 * (i + 1)));
        to[i][1] = RET;
        to[i][0x200] = addi_a0((int)i);
        to[i][0x201] = ECALL;
    }
    fence_i();
    use_space(root, 1);
    for (unsigned i = 0; i < 60; i++) {
        unsigned f = i / 4 % 2, t = i * 3 % 4;
        check_about = i;
        map(root, va, (ulong)from[f], PTE_KERNEL);
        map(root, va + PAGE, (ulong)to[t], PTE_KERNEL);
        if (i & 1) {
            fence_all();
        } else {
            fence_address(va);
            fence_address(va + PAGE);
        }
        for (unsigned again = 0; again < 2; again++) {
            Trap trap = run(PRIV_S, jump, va, 0);
            EXPECT_TRAP(trap, CAUSE_ECALL_S, va + PAGE + 0x804, 0);
            CHECK_EQ(trap.a0, 10 * (f + 1 + 100 * (t + 1)) + t);
        }
        if (i % 5 == 0) { /* the page of the target goes away: the fault is at the target */
            map(root, va + PAGE, (ulong)to[t], PTE_KERNEL & ~PTE_X);
            fence_address(va + PAGE);
            EXPECT_TRAP(run(PRIV_S, jump, va, 0), CAUSE_FETCH_PAGE, va + PAGE, va + PAGE);
        }
    }
    check_about = 0;
    use_bare();
}

/* More code than a small code cache holds, all of it run, twice, and changed in between. */
static void much_code(void)
{
    enum { FUNCTIONS = 3000, LENGTH = 40 };
    begin();
    volatile u32 *code = (volatile u32 *)0x80400000;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned f = 0; f < FUNCTIONS; f++) {
            for (unsigned k = 0; k < LENGTH - 1; k++) {
                code[f * LENGTH + k] = addi_a0((int)((f + k + round) % 16));
            }
            code[f * LENGTH + LENGTH - 1] = insn_j(4); /* on to the next one */
        }
        code[FUNCTIONS * LENGTH] = ECALL;
        fence_i();
        for (unsigned again = 0; again < 3; again++) {
            ulong want = 0;
            for (unsigned f = 0; f < FUNCTIONS; f++) {
                for (unsigned k = 0; k < LENGTH - 1; k++) {
                    want += (f + k + round) % 16;
                }
            }
            Trap t = run(PRIV_M, (void *)code, 0, 0);
            EXPECT_DONE(t);
            CHECK_EQ(t.a0, want);
        }
    }
}

int main(void)
{
    RUN(with_fence_i);
    RUN(without_fence_i);
    RUN(kernel_without_fence_i);
    RUN(data_beside_code);
    RUN(writes_itself);
    RUN(straddling);
    RUN(across_pages);
    RUN(aliases);
    RUN(remapped_targets);
    RUN(much_code);
    return 0;
}
