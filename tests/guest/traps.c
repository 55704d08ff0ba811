/* Every exception, from every mode, with its exact epc and tval; delegation; trap returns; what is
 * illegal. */
#include "guest.h"

SNIPPET(do_ecall, "ecall");
SNIPPET(do_ebreak, ".option push\n.option norvc\n ebreak\n.option pop\n ecall");
SNIPPET(do_c_ebreak, ".half 0x9002\n ecall");
SNIPPET(do_load, "nop\n lw a0, 0(a0)\n ecall");
SNIPPET(do_store, "nop\n sw a1, 0(a0)\n ecall");
SNIPPET(do_jump, "nop\n jr a0\n ecall");

static const unsigned modes[] = {PRIV_U, PRIV_S, PRIV_M};
#define EACH_MODE(m) for (unsigned i_ = 0, m; i_ < 3 && (m = modes[i_], true); i_++)

/* The second instruction of a snippet that starts with a 2-byte nop. */
#define AFTER_NOP(snippet) ((snippet) + 2)

static void environment_calls(void)
{
    EACH_MODE (m) {
        Trap t = run(m, do_ecall, 1, 2);
        EXPECT_TRAP(t, CAUSE_ECALL_U + m, do_ecall, 0);
        CHECK_EQ(t.from, m);
        CHECK_EQ(t.by, PRIV_M);
        CHECK_EQ(t.a0, 1);
        CHECK_EQ(t.a1, 2);
    }
}

static void breakpoints(void)
{
    EACH_MODE (m) {
        Trap t = run(m, do_ebreak, 0, 0);
        EXPECT_TRAP(t, CAUSE_BREAKPOINT, do_ebreak, t.tval ? (ulong)do_ebreak : 0);
        t = run(m, do_c_ebreak, 0, 0);
        EXPECT_TRAP(t, CAUSE_BREAKPOINT, do_c_ebreak, t.tval ? (ulong)do_c_ebreak : 0);
    }
}

static void access_faults(void)
{
    EACH_MODE (m) {
        EXPECT_TRAP(run(m, do_load, HOLE + 4, 0), CAUSE_LOAD_ACCESS, AFTER_NOP(do_load), HOLE + 4);
        EXPECT_TRAP(run(m, do_store, HOLE + 8, 0), CAUSE_STORE_ACCESS, AFTER_NOP(do_store),
                    HOLE + 8);
        EXPECT_TRAP(run(m, do_jump, HOLE, 0), CAUSE_FETCH_ACCESS, HOLE, HOLE);
        /* jalr clears bit 0 of its target. */
        EXPECT_TRAP(run(m, do_jump, HOLE | 1, 0), CAUSE_FETCH_ACCESS, HOLE, HOLE);
        if (IS64) {
            ulong far = (ulong)1 << (XLEN - 1);
            EXPECT_TRAP(run(m, do_load, far, 0), CAUSE_LOAD_ACCESS, AFTER_NOP(do_load), far);
            EXPECT_TRAP(run(m, do_store, far, 0), CAUSE_STORE_ACCESS, AFTER_NOP(do_store), far);
            EXPECT_TRAP(run(m, do_jump, far, 0), CAUSE_FETCH_ACCESS, far, far);
            far = ~(ulong)0 - 7;
            EXPECT_TRAP(run(m, do_load, far, 0), CAUSE_LOAD_ACCESS, AFTER_NOP(do_load), far);
            EXPECT_TRAP(run(m, do_jump, far, 0), CAUSE_FETCH_ACCESS, far, far);
        }
    }
}

/* Registers keep their values when a load faults; so does memory. */
static void state_after_faults(void)
{
    Trap t = run(PRIV_S, do_load, HOLE, 77);
    CHECK_EQ(t.a0, HOLE);
    CHECK_EQ(t.a1, 77);
    for (unsigned i = 1; i < 32; i++) {
        context.x[i] = i * (ulong)0x01010101;
    }
    run(PRIV_U, do_store, HOLE, 5);
    for (unsigned i = 1; i < 32; i++) {
        if (i != 10 && i != 11) {
            check_about = i;
            CHECK_EQ(context.x[i], i * (ulong)0x01010101);
        }
    }
}

/* Atomics need alignment: a misaligned-address or an access-fault exception (unprivileged spec,
 * "A"). */
static void misaligned_atomics(void)
{
    static const struct {
        u32 insn;
        u8 size;
        bool load;
    } table[] = {
        {0x1005252f, 4, true},  /* lr.w a0, (a0) */
        {0x18b5252f, 4, false}, /* sc.w a0, a1, (a0) */
        {0x00b5252f, 4, false}, /* amoadd.w a0, a1, (a0) */
        {0x08b5252f, 4, false}, /* amoswap.w */
        {0xe0b5252f, 4, false}, /* amomaxu.w */
#if XLEN == 64
        {0x1005352f, 8, true},
        {0x18b5352f, 8, false},
        {0x00b5352f, 8, false},
        {0xc0b5352f, 8, false}, /* amominu.d */
#endif
    };
    static u64 memory[2];
    EACH_MODE (m) {
        for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
            for (unsigned offset = 1; offset < table[i].size; offset++) {
                check_about = table[i].insn;
                ulong at = (ulong)memory + offset,
                      cause = table[i].load ? CAUSE_LOAD_MISALIGNED : CAUSE_STORE_MISALIGNED;
                Trap t = run_insn(m, table[i].insn, at, 1);
                if (t.cause == cause + 1) {
                    cause++;
                }
                EXPECT_TRAP(t, cause, insn_buffer, at);
                CHECK_EQ(memory[0] | memory[1], 0);
            }
            check_about = table[i].insn;
            if (table[i].insn >> 28 == 1 && !table[i].load) {
                continue; /* sc without a reservation may fail before it looks at the address */
            }
            Trap t = run_insn(m, table[i].insn, HOLE, 1);
            EXPECT_TRAP(t, table[i].load ? CAUSE_LOAD_ACCESS : CAUSE_STORE_ACCESS, insn_buffer,
                        HOLE);
        }
    }
    check_about = 0;
}

/* Encodings that are illegal on every hart that has what Stag has. */
static const u32 illegal_words[] = {
    0x00000000,           0xffffffff,             /* all zeros, all ones */
    0x0000001f,           0x0000003f, 0x0000007f, /* prefixes of longer instructions */
    0x40051073,                                   /* csrw of a number that no hart has: 0x400 */
    0x00007003,                                   /* load, funct3 = 7 */
    0x00004023,           0x00007023,             /* store, funct3 = 4, 7 */
    0x00002063,           0x00003063,             /* branch, funct3 = 2, 3 */
    0x00001067,                                   /* jalr, funct3 = 1 */
    0x8000101b,                                   /* OP-IMM-32: slliw with bit 31 */
    0x0400403b,                                   /* OP-32 with a funct7 that is nobody's */
    0x06000033,                                   /* OP, funct7 = 3 */
    0x00000057,           0x02007057, 0x80007057, /* OP-V: vadd.vv, vsetvli, vsetvl */
    0x02050007,           0x02056007,             /* vle8.v, vle32.v */
    0x02050027,                                   /* vse8.v */
    0x0000000b,           0x0000002b, 0x0000005b, 0x0000007b, /* custom-0 to custom-3 */
    0x0000006b,                                               /* a reserved major opcode */
    0xa800402f,                                               /* AMO, funct3 = 4 */
    0x0000702f,                                               /* AMO, funct3 = 7 */
    0x1015252f,                                               /* lr.w with rs2 = 1 */
    0x001000f3,                                               /* ebreak with rd = 1 */
    0x00200073,                                               /* uret */
    0x7b200073,                                               /* dret */
    0x22000073,           0x62000073,                         /* hfence.vvma, hfence.gvma */
    0x60054573,                                               /* hlv.b */
    0x02005053,           0x02006053, /* fadd.d with the rounding modes 5 and 6 */
    0x06000053,                       /* fadd.q */
    0x00054007,                       /* flq */
    0xe4107053,                       /* fclass.h's neighbour: rs2 = 1, funct3 = 7 */
    0x00050007 | 5 << 12,             /* load-fp, a vector width */
    0x0000400f,                       /* MISC-MEM, funct3 = 4 */
    0x0035200f | 1 << 28,             /* cbo with an unknown number */
};
static const u16 illegal_halves[] = {
    0x0000, 0x0004, /* c.addi4spn with immediate 0 */
    0x6081,         /* c.lui with immediate 0 */
    0x6101,         /* c.addi16sp with immediate 0 */
    0x8002,         /* c.jr with rs1 = 0 */
    0x4002,         /* c.lwsp with rd = 0 */
#if XLEN == 64
    0x6002, /* c.ldsp with rd = 0 */
    0x2001, /* c.addiw with rd = 0 */
#else
    0x9001, 0x9401, /* c.srli, c.srai by 32 and more */
    0x9c01, 0x9c21, /* c.subw, c.addw */
#endif
    0x9c79, 0x9c7d, /* 100 111 ... 11 110 and 111 01 */
};

static void expect_illegal(unsigned mode, u32 insn)
{
    check_about = insn;
    ulong tval = (insn & 3) == 3 ? insn : (u16)insn;
    EXPECT_TRAP(run_insn(mode, insn, 0, 0), CAUSE_ILLEGAL, insn_buffer, tval);
    check_about = 0;
}

static void illegal_encodings(void)
{
    EACH_MODE (m) {
        for (unsigned i = 0; i < ARRAY_LEN(illegal_words); i++) {
            expect_illegal(m, illegal_words[i]);
        }
        for (unsigned i = 0; i < ARRAY_LEN(illegal_halves); i++) {
            expect_illegal(m, illegal_halves[i]);
        }
    }
#if XLEN == 32
    static const u32 rv64_only[] = {
        0x00003003, 0x00006003, 0x00003023,             /* ld, lwu, sd */
        0x0000001b, 0x0000101b, 0x0000501b,             /* addiw, slliw, srliw */
        0x0000003b, 0x4000003b, 0x0200003b,             /* addw, subw, mulw */
        0x02001013, 0x02005013, 0x42005013,             /* shifts by 32 */
        0x1000302f, 0x0000302f,                         /* lr.d, amoadd.d */
        0xe2000053, 0xf2000053, 0xc2200053, 0xd2200053, /* fmv.x.d, fmv.d.x, fcvt.l.d, fcvt.d.l */
        0x0800003b,                                     /* add.uw */
    };
    for (unsigned i = 0; i < ARRAY_LEN(rv64_only); i++) {
        expect_illegal(PRIV_S, rv64_only[i]);
    }
#endif
}

enum { SRET = 0x10200073, MRET = 0x30200073, WFI = 0x10500073, SFENCE_VMA = 0x12000073 };

static void privileged_instructions(void)
{
    expect_illegal(PRIV_U, SRET);
    expect_illegal(PRIV_U, MRET);
    expect_illegal(PRIV_S, MRET);
    expect_illegal(PRIV_U, SFENCE_VMA);
    EXPECT_DONE(run_insn(PRIV_S, SFENCE_VMA, 0, 0));
    EXPECT_DONE(run_insn(PRIV_M, SFENCE_VMA, 0, 0));

    csr_set(CSR_MSTATUS, MSTATUS_TVM);
    expect_illegal(PRIV_S, SFENCE_VMA);
    expect_illegal(PRIV_S, insn_csr(CSRRS, CSR_SATP, 10, 0));
    expect_illegal(PRIV_S, insn_csr(CSRRW, CSR_SATP, 10, 10));
    EXPECT_DONE(run_insn(PRIV_M, SFENCE_VMA, 0, 0));
    EXPECT_DONE(run_insn(PRIV_M, insn_csr(CSRRS, CSR_SATP, 10, 0), 0, 0));
    csr_clear(CSR_MSTATUS, MSTATUS_TVM);
    EXPECT_DONE(run_insn(PRIV_S, insn_csr(CSRRS, CSR_SATP, 10, 0), 0, 0));

    csr_set(CSR_MSTATUS, MSTATUS_TSR);
    expect_illegal(PRIV_S, SRET);
    csr_clear(CSR_MSTATUS, MSTATUS_TSR);

    /* wfi: an interrupt that is pending and enabled, but globally off, lets it end at once. */
    csr_write(CSR_MIE, 1 << IRQ_SSI);
    csr_write(CSR_MIP, 1 << IRQ_SSI);
    csr_write(CSR_MIDELEG, 1 << IRQ_SSI);
    csr_clear(CSR_MSTATUS, MSTATUS_SIE);
    EXPECT_DONE(run_insn(PRIV_S, WFI, 0, 0));
    EXPECT_DONE(run_insn(PRIV_M, WFI, 0, 0));
    csr_set(CSR_MSTATUS, MSTATUS_TW);
    EXPECT_DONE(run_insn(PRIV_M, WFI, 0, 0));
    csr_write(CSR_MIP, 0);
    csr_write(CSR_MIE, 0);
    csr_write(CSR_MIDELEG, 0);
    expect_illegal(PRIV_S, WFI);
    expect_illegal(PRIV_U, WFI);
    csr_clear(CSR_MSTATUS, MSTATUS_TW);
}

/* Delegated exceptions go to S mode from U and S, never from M. */
static void delegation(void)
{
    csr_write(CSR_MEDELEG, ~(ulong)(1 << CAUSE_ECALL_S));
    csr_write(CSR_STVAL, 0x55);
    EACH_MODE (m) {
        unsigned by = m == PRIV_M ? PRIV_M : PRIV_S;
        csr_set(CSR_MSTATUS, MSTATUS_SIE);
        Trap t = run(m, do_load, HOLE, 0);
        EXPECT_TRAP(t, CAUSE_LOAD_ACCESS, AFTER_NOP(do_load), HOLE);
        CHECK_EQ(t.by, by);
        CHECK_EQ(t.from, m);
        ulong status = csr_read(CSR_MSTATUS);
        if (by == PRIV_S) {
            CHECK_EQ(status & MSTATUS_SIE, 0);
            CHECK_EQ(status & MSTATUS_SPIE, MSTATUS_SPIE);
            CHECK_EQ(status & MSTATUS_SPP, m == PRIV_S ? MSTATUS_SPP : 0);
            CHECK_EQ(csr_read(CSR_MCAUSE), CAUSE_ECALL_S); /* from stvec */
        } else {
            CHECK_EQ(csr_read(CSR_SCAUSE),
                     CAUSE_BREAKPOINT); /* as the last delegated trap left it */
        }
        t = run(m, do_jump, HOLE, 0);
        EXPECT_TRAP(t, CAUSE_FETCH_ACCESS, HOLE, HOLE);
        CHECK_EQ(t.by, by);
        t = run_insn(m, 0xffffffff, 0, 0);
        EXPECT_TRAP(t, CAUSE_ILLEGAL, insn_buffer, (u32)0xffffffff);
        CHECK_EQ(t.by, by);
        t = run(m, do_store, HOLE, 0);
        EXPECT_TRAP(t, CAUSE_STORE_ACCESS, AFTER_NOP(do_store), HOLE);
        CHECK_EQ(t.by, by);
        t = run(m, do_ebreak, 0, 0);
        CHECK_EQ(t.cause, CAUSE_BREAKPOINT);
        CHECK_EQ(t.by, by);
    }
    Trap t = run(PRIV_U, do_ecall, 0, 0);
    EXPECT_TRAP(t, CAUSE_ECALL_U, do_ecall, 0);
    CHECK_EQ(t.by, PRIV_S);
    /* Exceptions are not vectored. */
    run_vectored = true;
    t = run(PRIV_U, do_load, HOLE, 0);
    EXPECT_TRAP(t, CAUSE_LOAD_ACCESS, AFTER_NOP(do_load), HOLE);
    CHECK_EQ(t.vector, 0);
    CHECK_EQ(t.by, PRIV_S);
    csr_write(CSR_MEDELEG, 0);
    t = run(PRIV_U, do_load, HOLE, 0);
    CHECK_EQ(t.vector, 0);
    CHECK_EQ(t.by, PRIV_M);
    run_vectored = false;
}

SNIPPET(read_status, "csrr a0, mstatus\n ecall");
SNIPPET(set_mprv, "csrs mstatus, a1\n ecall");
SNIPPET(mret_to_u, "csrw mepc, a0\n li a0, 0x1800\n csrc mstatus, a0\n csrs mstatus, a1\n mret");
SNIPPET(mret_to_s, "csrw mepc, a0\n li a0, 0x1800\n csrc mstatus, a0\n li a0, 0x800\n csrs "
                   "mstatus, a0\n csrs mstatus, a1\n mret");
SNIPPET(mret_to_m, "csrw mepc, a0\n li a0, 0x1800\n csrs mstatus, a0\n csrs mstatus, a1\n mret");
SNIPPET(sret_to, "csrw sepc, a0\n csrw sstatus, a1\n sret");

/* mret and sret: the new mode, the interrupt enables, MPP and SPP afterwards, MPRV. */
static void trap_returns(void)
{
    static char *const to[] = {[PRIV_U] = mret_to_u, [PRIV_S] = mret_to_s, [PRIV_M] = mret_to_m};
    EACH_MODE (m) {
        Trap t = run(PRIV_M, to[m], (ulong)do_ecall, MSTATUS_MPIE);
        EXPECT_TRAP(t, CAUSE_ECALL_U + m, do_ecall, 0);
        ulong status = csr_read(CSR_MSTATUS);
        /* MIE became 1 by mret, and moved to MPIE by the ecall. */
        CHECK_EQ(status & MSTATUS_MPIE, MSTATUS_MPIE);
        CHECK_EQ(status & MSTATUS_MIE, 0);
        CHECK_EQ(status & MSTATUS_MPP, (ulong)m << 11);
    }
    /* MPRV is cleared by a return to a lower mode only. */
    Trap t = run(PRIV_M, mret_to_m, (ulong)read_status, MSTATUS_MPRV);
    CHECK_EQ(t.a0 & MSTATUS_MPRV, MSTATUS_MPRV);
    CHECK_EQ(t.a0 & MSTATUS_MPP, 0); /* mret leaves the least privileged mode there */
    run(PRIV_M, mret_to_s, (ulong)do_ecall, MSTATUS_MPRV);
    CHECK_EQ(run_mprv, 0);
    run(PRIV_M, sret_to, (ulong)do_ecall, MSTATUS_SPP | MSTATUS_FS);
    CHECK_EQ(run_mprv, 0);
    run(PRIV_M, read_status, 0, 0);
    CHECK_EQ(run_mprv, 0);
    run(PRIV_M, set_mprv, 0, MSTATUS_MPRV);
    CHECK_EQ(run_mprv, 1);

    static const struct {
        ulong status;
        unsigned mode;
    } srets[] = {{0, PRIV_U},
                 {MSTATUS_SPP, PRIV_S},
                 {MSTATUS_SPIE, PRIV_U},
                 {MSTATUS_SPP | MSTATUS_SPIE, PRIV_S}};
    for (unsigned i = 0; i < ARRAY_LEN(srets); i++) {
        for (unsigned from = PRIV_S; from <= PRIV_M; from += 2) {
            t = run(from, sret_to, (ulong)do_ecall, srets[i].status | MSTATUS_FS);
            EXPECT_TRAP(t, CAUSE_ECALL_U + srets[i].mode, do_ecall, 0);
            ulong status = csr_read(CSR_SSTATUS);
            CHECK_EQ(status & MSTATUS_SIE, srets[i].status & MSTATUS_SPIE ? MSTATUS_SIE : 0);
            CHECK_EQ(status & MSTATUS_SPIE, MSTATUS_SPIE);
            CHECK_EQ(status & MSTATUS_SPP, 0);
        }
    }
    csr_clear(CSR_MSTATUS, MSTATUS_SIE);
    /* epc has no bit 0. */
    t = run(PRIV_S, sret_to, (ulong)do_ecall | 1, MSTATUS_SPP | MSTATUS_FS);
    EXPECT_TRAP(t, CAUSE_ECALL_S, do_ecall, 0);
}

/* FS: floating point is illegal while it is off, and dirties it. */
static void floating_point_state(void)
{
    enum {
        FADD_D = 0x02007053,
        FLD = 0x00053007,
        FMV_W_X = 0xf0000053,
        FSD = 0x00053027,
        C_FLD = 0x2108
    };
    static u64 memory;
    static const u32 insns[] = {FADD_D, FLD, FMV_W_X, FSD, C_FLD};
    EACH_MODE (m) {
        csr_clear(CSR_MSTATUS, MSTATUS_FS);
        CHECK_EQ(csr_read(CSR_MSTATUS) & MSTATUS_SD, 0);
        for (unsigned i = 0; i < ARRAY_LEN(insns); i++) {
            expect_illegal(m, insns[i]);
        }
        for (unsigned n = CSR_FFLAGS; n <= CSR_FCSR; n++) {
            expect_illegal(m, insn_csr(CSRRS, n, 10, 0));
            expect_illegal(m, insn_csr(CSRRW, n, 10, 10));
        }
        CHECK_EQ(csr_read(CSR_MSTATUS) & MSTATUS_FS, 0);
        for (unsigned i = 0; i < ARRAY_LEN(insns); i++) {
            check_about = insns[i];
            for (unsigned fs = 1; fs <= 2; fs++) { /* initial, clean */
                csr_clear(CSR_MSTATUS, MSTATUS_FS);
                csr_set(CSR_MSTATUS, fs << 13);
                EXPECT_DONE(run_insn(m, insns[i], (ulong)&memory, 0));
                ulong now = csr_read(CSR_MSTATUS);
                if (insns[i] != FSD) { /* a store may, and needn't */
                    CHECK_EQ(now & MSTATUS_FS, MSTATUS_FS);
                }
                CHECK_EQ(!!(now & MSTATUS_SD), (now & MSTATUS_FS) == MSTATUS_FS);
            }
        }
        check_about = 0;
        csr_clear(CSR_MSTATUS, MSTATUS_FS);
        csr_set(CSR_MSTATUS, 1 << 13);
        EXPECT_DONE(run_insn(m, insn_csr(CSRRWI, CSR_FRM, 0, 1), 0, 0));
        CHECK_EQ(csr_read(CSR_MSTATUS) & MSTATUS_FS, MSTATUS_FS);
        CHECK_EQ(csr_read(CSR_SSTATUS) & MSTATUS_SD, MSTATUS_SD);
    }
    /* A dynamic rounding mode that is reserved is illegal when it is used, not when it is written.
     */
    for (unsigned frm = 5; frm < 8; frm++) {
        csr_write(CSR_FRM, frm);
        CHECK_EQ(csr_read(CSR_FRM), frm);
        expect_illegal(PRIV_S, FADD_D);
        EXPECT_DONE(run_insn(PRIV_S, FADD_D & ~0x7000, 0, 0)); /* RNE is static */
        EXPECT_DONE(run_insn(PRIV_S, FLD, (ulong)&memory, 0));
    }
    csr_write(CSR_FRM, 4);
    EXPECT_DONE(run_insn(PRIV_S, FADD_D, 0, 0));
    csr_write(CSR_FRM, 0);
}

int main(void)
{
    RUN(environment_calls);
    RUN(breakpoints);
    RUN(access_faults);
    RUN(state_after_faults);
    RUN(misaligned_atomics);
    RUN(illegal_encodings);
    RUN(privileged_instructions);
    RUN(delegation);
    RUN(trap_returns);
    RUN(floating_point_state);
    return 0;
}
