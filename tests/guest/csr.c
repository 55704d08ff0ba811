/* CSRs: which exist, for whom, what their fields hold after writes of all kinds, and what the
 * instructions do. */
#include "guest.h"

enum { A0 = 10, A1 = 11 };

static Trap read(unsigned mode, unsigned number)
{
    return run_insn(mode, insn_csr(CSRRS, number, A0, 0), 0, 0);
}

static bool done(Trap t)
{
    return t.cause == CAUSE_ECALL_U + t.from;
}

/* Writes, and gives what is read back before a trap can change it. */
static ulong written(unsigned number, ulong value)
{
    insn_buffer[0] = insn_csr(CSRRW, number, 0, A0);
    insn_buffer[1] = insn_csr(CSRRS, number, A0, 0);
    insn_buffer[2] = ECALL;
    fence_i();
    Trap t = run(PRIV_M, insn_buffer, value, 0);
    EXPECT_DONE(t);
    return t.a0;
}

static const ulong patterns[] = {
    0,
    ~(ulong)0,
    (ulong)0x5555555555555555,
    (ulong)0xaaaaaaaaaaaaaaaa,
    1,
    (ulong)1 << (XLEN - 1),
    (ulong)0x123456789abcdef0,
    (ulong)0xfedcba9876543210,
};

/* Registers that are a mask of plain bits: exact where the mask is, either way in `may`, 0
 * elsewhere. */
static void plain_registers(void)
{
    static const struct {
        u16 number;
        ulong bits, may;
    } table[] = {
        {CSR_SSCRATCH, ~(ulong)0, 0},
        {CSR_MTVAL, ~(ulong)0, 0},
        {CSR_STVAL, ~(ulong)0, 0},
        {CSR_MEPC, ~(ulong)1, 0},
        {CSR_SEPC, ~(ulong)1, 0},
        {CSR_MCAUSE, INTERRUPT | 15, ~(ulong)0},
        {CSR_SCAUSE, INTERRUPT | 15, ~(ulong)0},
        {CSR_MEDELEG, 0xb3ff, ~(ulong)0xffff}, /* never ecall from M; 10 and 14 are nobody's */
        {CSR_MIDELEG, 0x222, ~(ulong)0xfff},
        {CSR_MIE, 0xaaa, ~(ulong)0xfff},
        {CSR_MCOUNTEREN, 7, 0xfffffff8},
        {CSR_SCOUNTEREN, 7, 0xfffffff8},
        {CSR_MCOUNTINHIBIT, 5, 0xfffffff8},
    };
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        ulong before = read(PRIV_M, table[i].number).a0;
        for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
            check_about = table[i].number;
            ulong got = written(table[i].number, patterns[p]);
            CHECK_EQ(got & table[i].bits, patterns[p] & table[i].bits);
            CHECK_EQ(got & ~(table[i].bits | table[i].may), 0);
        }
        written(table[i].number, before);
    }
    check_about = CSR_MSCRATCH; /* run() needs it */
    for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
        csr_write(CSR_MSCRATCH, patterns[p]);
        CHECK_EQ(csr_read(CSR_MSCRATCH), patterns[p]);
    }
}

static void status(void)
{
    ulong before = csr_read(CSR_MSTATUS);
    /* With the interrupts off, since a write is tried for all patterns. */
    csr_write(CSR_MIE, 0);
    ulong fields = MSTATUS_SPIE | MSTATUS_MPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM |
                   MSTATUS_MXR | MSTATUS_TVM | MSTATUS_TW | MSTATUS_TSR | MSTATUS_SIE;
    for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
        check_about = patterns[p];
        ulong value = patterns[p] & ~MSTATUS_MPRV;
        csr_write(CSR_MSTATUS, value);
        ulong got = csr_read(CSR_MSTATUS);
        CHECK_EQ(got & fields, value & fields);
        ulong mpp = got >> 11 & 3;
        CHECK(mpp != 2);
        if ((value >> 11 & 3) != 2) {
            CHECK_EQ(mpp, value >> 11 & 3);
        }
        CHECK_EQ(got >> 15 & 3, 0); /* XS */
        CHECK_EQ(got >> 9 & 3, 0);  /* VS: no vectors */
        CHECK_EQ(!!(got & MSTATUS_SD), (got & MSTATUS_FS) == MSTATUS_FS);
        CHECK_EQ(got & (1 << 0 | 1 << 2 | 1 << 4 | 1 << 6),
                 0); /* UIE and WPRI; UBE: little-endian */
#if XLEN == 64
        CHECK_EQ(got >> 32 & 0xf, 0xa); /* UXL, SXL: 64 */
        CHECK_EQ(got >> 36 & 3, 0);     /* SBE, MBE */
#else
        CHECK_EQ(csr_read(CSR_MSTATUSH), 0);
#endif
        /* sstatus is a view of it. */
        ulong s = csr_read(CSR_SSTATUS);
        ulong view = MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP | MSTATUS_FS | MSTATUS_SUM |
                     MSTATUS_MXR | MSTATUS_SD;
#if XLEN == 64
        view |= (ulong)3 << 32;
#endif
        CHECK_EQ(s, got & view);
    }
    csr_write(CSR_MSTATUS, MSTATUS_MPP | MSTATUS_MPIE | MSTATUS_TVM | MSTATUS_TW | MSTATUS_TSR);
    ulong kept = csr_read(CSR_MSTATUS);
    csr_write(CSR_SSTATUS, ~(ulong)0);
    csr_write(CSR_SSTATUS, 0);
    CHECK_EQ(csr_read(CSR_MSTATUS), kept);
    csr_write(CSR_MSTATUS, before);
    check_about = 0;
}

static void misa(void)
{
    ulong got = csr_read(CSR_MISA);
    CHECK_EQ(got >> (XLEN - 2), XLEN / 32);
    for (const char *c = "acdfimsu"; *c; c++) {
        check_about = (ulong)*c;
        CHECK(got >> (*c - 'a') & 1);
    }
    for (const char *c = "eghv"; *c; c++) {
        check_about = (ulong)*c;
        if (*c != 'g') {
            CHECK(!(got >> (*c - 'a') & 1));
        }
    }
    check_about = 0;
    csr_write(CSR_MISA, got); /* no change */
    CHECK_EQ(csr_read(CSR_MISA), got);
    csr_write(CSR_MISA, 0);
    CHECK_EQ(csr_read(CSR_MISA) >> (XLEN - 2), XLEN / 32);
    csr_write(CSR_MISA, got);
}

static void trap_vectors_registers(void)
{
    for (unsigned number = CSR_STVEC; number <= CSR_MTVEC; number += CSR_MTVEC - CSR_STVEC) {
        check_about = number;
        ulong before = read(PRIV_M, number).a0;
        for (ulong mode = 0; mode < 4; mode++) {
            ulong base = (ulong)trap_vectors, got;
            if (number == CSR_MTVEC) {
                ulong old;
                csr_write(CSR_MTVEC, before);
                asm volatile("csrrw %0, mtvec, %2\n csrrw %1, mtvec, %0"
                             : "=&r"(old), "=&r"(got)
                             : "r"(base | mode));
            } else {
                csr_write(CSR_STVEC, base | mode);
                got = csr_read(CSR_STVEC);
            }
            CHECK((got & 3) <= 1);
            if (mode <= 1) {
                CHECK_EQ(got, base | mode);
            }
        }
    }
    check_about = 0;
}

static void satp(void)
{
    static ulong *root;
    root = new_space();
    csr_write(CSR_SATP, 0);
    CHECK_EQ(csr_read(CSR_SATP), 0);
#if XLEN == 64
    for (ulong mode = 1; mode < 16; mode++) {
        check_about = mode;
        csr_write(CSR_SATP, mode << 60 | 0x1234);
        CHECK_EQ(csr_read(CSR_SATP), mode == 8 ? mode << 60 | 0x1234 : 0);
        csr_write(CSR_SATP, 0);
    }
    check_about = 0;
    csr_write(CSR_SATP, satp_of(root, 5));
    csr_write(CSR_SATP, (ulong)3 << 60); /* not legal: nothing changes */
    CHECK_EQ(csr_read(CSR_SATP), satp_of(root, 5));
    csr_write(CSR_SATP, satp_of(0, 0xffff));
    /* ASIDs: as many as there are, from bit 0 up; here all 16. */
    CHECK_EQ(csr_read(CSR_SATP) >> 44 & 0xffff, 0xffff);
    csr_write(CSR_SATP, (ulong)8 << 60 | (((ulong)1 << 44) - 1));
    CHECK_EQ(csr_read(CSR_SATP), (ulong)8 << 60 | (((ulong)1 << 44) - 1));
#else
    csr_write(CSR_SATP, satp_of(root, 0x1ff));
    CHECK_EQ(csr_read(CSR_SATP), satp_of(root, 0x1ff));
    csr_write(CSR_SATP, ~(ulong)0);
    CHECK_EQ(csr_read(CSR_SATP), ~(ulong)0);
#endif
    csr_write(CSR_SATP, 0);
}

/* FIOM, CBIE, CBCFE, CBZE; in menvcfg also ADUE, PBMTE, STCE. */
static void envcfg(void)
{
    for (unsigned number = CSR_SENVCFG; number <= CSR_MENVCFG;
         number += CSR_MENVCFG - CSR_SENVCFG) {
        check_about = number;
        ulong before = read(PRIV_M, number).a0;
        ulong bits = 0xc1; /* without CBIE */
        for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
            ulong got = written(number, patterns[p]);
            CHECK_EQ(got & bits, patterns[p] & bits);
            CHECK_EQ(got & 0xffffff0e, 0);
        }
        for (ulong cbie = 0; cbie < 4; cbie++) {
            ulong got = written(number, cbie << 4);
            CHECK((got >> 4 & 3) != 2);
            if (cbie != 2) {
                CHECK_EQ(got, cbie << 4);
            }
        }
        written(number, before);
    }
    unsigned top = IS64 ? CSR_MENVCFG : CSR_MENVCFGH;
    check_about = top;
    ulong bits = (ulong)7 << (XLEN - 3), before = read(PRIV_M, top).a0;
    for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
        ulong got = written(top, patterns[p]);
        CHECK_EQ(got & bits, patterns[p] & bits);
        CHECK_EQ(got >> (XLEN - 32) & 0x1fffffff, 0);
    }
    written(top, before);
    check_about = 0;
}

static void interrupt_registers(void)
{
    ulong soft = 1 << IRQ_SSI | 1 << IRQ_STI | 1 << IRQ_SEI;
    csr_write(CSR_MIE, 0);
    csr_clear(CSR_MSTATUS, MSTATUS_SIE);
    menvcfg_clear(ENVCFG_STCE);
    csr_write(CSR_MIP, ~(ulong)0);
    CHECK_EQ(csr_read(CSR_MIP) & 0xaaa,
             soft | (csr_read(CSR_MIP) & (1 << IRQ_MSI | 1 << IRQ_MTI | 1 << IRQ_MEI)));
    csr_write(CSR_MIDELEG, 0x222);
    CHECK_EQ(csr_read(CSR_SIP), soft);
    csr_write(CSR_SIP, 0); /* of sip, only SSIP is writable */
    CHECK_EQ(csr_read(CSR_SIP), 1 << IRQ_STI | 1 << IRQ_SEI);
    csr_write(CSR_SIP, ~(ulong)0);
    CHECK_EQ(csr_read(CSR_SIP), soft);
    csr_write(CSR_MIDELEG, 1 << IRQ_STI);
    CHECK_EQ(csr_read(CSR_SIP), 1 << IRQ_STI);
    csr_write(CSR_SIP, 0);
    csr_write(CSR_MIDELEG, 0);
    CHECK_EQ(csr_read(CSR_SIP), 0);
    CHECK_EQ(csr_read(CSR_MIP) & soft, soft);
    csr_write(CSR_MIP, 0);
    CHECK_EQ(csr_read(CSR_MIP) & soft, 0);

    csr_write(CSR_MIDELEG, 1 << IRQ_SSI);
    csr_write(CSR_MIE, 0xaaa);
    CHECK_EQ(csr_read(CSR_SIE), 1 << IRQ_SSI);
    csr_write(CSR_SIE, 0);
    CHECK_EQ(csr_read(CSR_MIE), 0xaaa & ~(1 << IRQ_SSI));
    csr_write(CSR_MIE, 0);
    csr_write(CSR_SIE, ~(ulong)0);
    CHECK_EQ(csr_read(CSR_MIE), 1 << IRQ_SSI);
    csr_write(CSR_MIE, 0);
    csr_write(CSR_MIDELEG, 0);

    /* With Sstc on, STIP is not software's. */
    csr_write(CSR_STIMECMP, ~(ulong)0);
#if XLEN == 32
    csr_write(CSR_STIMECMPH, ~(ulong)0);
#endif
    menvcfg_set(ENVCFG_STCE);
    csr_write(CSR_MIP, 1 << IRQ_STI);
    CHECK_EQ(csr_read(CSR_MIP) & 1 << IRQ_STI, 0);
    menvcfg_clear(ENVCFG_STCE);
    csr_write(CSR_MIP, 0);
}

/* The number of a CSR says who may access it: bits 9:8 the mode, bits 11:10 = 3 that it can't be
 * written. */
static void numbers(void)
{
    for (unsigned number = 0; number < 4096; number++) {
        unsigned needs = number >> 8 & 3;
        check_about = number;
        for (unsigned mode = PRIV_U; mode < needs && mode <= PRIV_S; mode++) {
            u32 insn = insn_csr(CSRRS, number, A0, 0);
            EXPECT_TRAP(run_insn(mode, insn, 0, 0), CAUSE_ILLEGAL, insn_buffer, insn);
        }
        Trap t = read(PRIV_M, number);
        CHECK(t.cause == CAUSE_ILLEGAL || done(t));
        if (number >> 10 == 3) {
            CHECK_EQ(run_insn(PRIV_M, insn_csr(CSRRW, number, 0, 0), 0, 0).cause, CAUSE_ILLEGAL);
            CHECK_EQ(run_insn(PRIV_M, insn_csr(CSRRSI, number, A0, 1), 0, 0).cause, CAUSE_ILLEGAL);
            /* No bit to set: that is not a write. But a register counts by its number, not by its
             * value. */
            CHECK_EQ(run_insn(PRIV_M, insn_csr(CSRRC, number, A0, A1), 0, 0).cause, CAUSE_ILLEGAL);
            CHECK_EQ(done(run_insn(PRIV_M, insn_csr(CSRRCI, number, A0, 0), 0, 0)), done(t));
        }
    }
    check_about = 0;
}

static void existence(void)
{
    static const u16 present[] = {
        CSR_FFLAGS,
        CSR_FRM,
        CSR_FCSR,
        CSR_CYCLE,
        CSR_TIME,
        CSR_INSTRET,
        CSR_HPMCOUNTER3,
        0xc1f,
        CSR_SSTATUS,
        CSR_SIE,
        CSR_STVEC,
        CSR_SCOUNTEREN,
        CSR_SENVCFG,
        CSR_SSCRATCH,
        CSR_SEPC,
        CSR_SCAUSE,
        CSR_STVAL,
        CSR_SIP,
        CSR_STIMECMP,
        CSR_SATP,
        CSR_MSTATUS,
        CSR_MISA,
        CSR_MEDELEG,
        CSR_MIDELEG,
        CSR_MIE,
        CSR_MTVEC,
        CSR_MCOUNTEREN,
        CSR_MENVCFG,
        CSR_MCOUNTINHIBIT,
        CSR_MHPMEVENT3,
        0x33f,
        CSR_MSCRATCH,
        CSR_MEPC,
        CSR_MCAUSE,
        CSR_MTVAL,
        CSR_MIP,
        CSR_PMPCFG0,
        CSR_PMPCFG0 + 2,
        CSR_PMPADDR0,
        CSR_PMPADDR0 + 15,
        CSR_MCYCLE,
        CSR_MINSTRET,
        CSR_MHPMCOUNTER3,
        0xb1f,
        CSR_MVENDORID,
        CSR_MARCHID,
        CSR_MIMPID,
        CSR_MHARTID,
        CSR_MCONFIGPTR,
    };
    static const u16 high[] = {
        /* on RV32 */
        CSR_CYCLEH, 0xc81,        0xc82,        0xc83,         CSR_MCYCLEH,     CSR_MINSTRETH,
        0xb83,      CSR_MSTATUSH, CSR_MENVCFGH, CSR_STIMECMPH, CSR_PMPCFG0 + 1, CSR_PMPCFG0 + 3,
    };
    static const u16 absent[] = {
        0x000, 0x004, 0x005, 0x040, 0x044,                   /* the N extension's */
        0x008, 0x009, 0x00a, 0x00f, 0xc20,     0xc21, 0xc22, /* V */
        0x015, 0x017,                                        /* seed, jvt */
        0x102, 0x103,                                        /* sedeleg, sideleg */
        0x200, 0x240, 0x280, 0x600, 0x602,     0x680, 0xe12, /* H */
        0x400, 0x5a8, 0x7b0, 0x7b1, 0x7b2,     0xb01, 0xb81,
        0x321, 0x380, 0xf00, 0xfff, 0x306 + 2, 0x30e, 0x34b + 3,
    };
    for (unsigned i = 0; i < ARRAY_LEN(present); i++) {
        check_about = present[i];
        EXPECT_DONE(read(PRIV_M, present[i]));
    }
    for (unsigned i = 0; i < ARRAY_LEN(high); i++) {
        check_about = high[i];
        CHECK_EQ(done(read(PRIV_M, high[i])), XLEN == 32);
    }
    for (unsigned i = 0; i < ARRAY_LEN(absent); i++) {
        check_about = absent[i];
        CHECK_EQ(read(PRIV_M, absent[i]).cause, CAUSE_ILLEGAL);
    }
    check_about = 0;
    CHECK_EQ(csr_read(CSR_MHARTID), 0);
}

/* What the six instructions write and what they give. */
static void instructions(void)
{
    ulong old = (ulong)0x0123456789abcdef, v = (ulong)0xff00ff00ff00ff00;
    static const struct {
        u8 funct3, rd, rs1;
        u8 writes; /* 'v' operand, 's' set, 'c' clear, '-' nothing */
    } table[] = {
        {CSRRW, A0, A1, 'v'},  {CSRRW, 0, A1, 'v'},   {CSRRW, A0, 0, '0'},  {CSRRW, A1, A1, 'v'},
        {CSRRS, A0, A1, 's'},  {CSRRS, 0, A1, 's'},   {CSRRS, A0, 0, '-'},  {CSRRS, A1, A1, 's'},
        {CSRRC, A0, A1, 'c'},  {CSRRC, 0, A1, 'c'},   {CSRRC, A0, 0, '-'},  {CSRRC, A1, A1, 'c'},
        {CSRRWI, A0, 0, '0'},  {CSRRWI, A0, 21, 'i'}, {CSRRWI, 0, 31, 'i'}, {CSRRSI, A0, 0, '-'},
        {CSRRSI, A0, 18, 'S'}, {CSRRSI, 0, 31, 'S'},  {CSRRCI, A0, 0, '-'}, {CSRRCI, A0, 14, 'C'},
        {CSRRCI, 0, 31, 'C'},
    };
    for (unsigned i = 0; i < ARRAY_LEN(table); i++) {
        unsigned rd = table[i].rd, rs1 = table[i].rs1;
        u32 insn = insn_csr(table[i].funct3, CSR_SSCRATCH, rd, rs1);
        check_about = insn;
        csr_write(CSR_SSCRATCH, old);
        Trap t = run_insn(PRIV_S, insn, 99, v);
        EXPECT_DONE(t);
        ulong want = old;
        switch (table[i].writes) {
        case 'v':
            want = v;
            break;
        case 's':
            want = old | v;
            break;
        case 'c':
            want = old & ~v;
            break;
        case '0':
            want = 0;
            break;
        case 'i':
            want = rs1;
            break;
        case 'S':
            want = old | rs1;
            break;
        case 'C':
            want = old & ~(ulong)rs1;
            break;
        }
        CHECK_EQ(csr_read(CSR_SSCRATCH), want);
        CHECK_EQ(t.a0, rd == A0 ? old : 99);
        CHECK_EQ(t.a1, rd == A1 ? old : v);
    }
    check_about = 0;
}

/* mcounteren opens counters to S, mcounteren and scounteren to U. */
static void counter_enables(void)
{
    static const u16 numbers[] = {
        CSR_CYCLE,
        CSR_TIME,
        CSR_INSTRET,
        CSR_HPMCOUNTER3,
#if XLEN == 32
        CSR_CYCLEH,
        0xc81,
        0xc82,
        0xc83,
#endif
    };
    for (unsigned i = 0; i < ARRAY_LEN(numbers); i++) {
        ulong bit = (ulong)1 << (numbers[i] & 31);
        for (unsigned combination = 0; combination < 4; combination++) {
            check_about = numbers[i] << 8 | combination;
            csr_write(CSR_MCOUNTEREN, combination & 1 ? bit : ~bit);
            csr_write(CSR_SCOUNTEREN, combination & 2 ? bit : ~bit);
            ulong m = csr_read(CSR_MCOUNTEREN), s = csr_read(CSR_SCOUNTEREN);
            CHECK(done(read(PRIV_M, numbers[i])));
            CHECK_EQ(done(read(PRIV_S, numbers[i])), !!(m & bit));
            CHECK_EQ(done(read(PRIV_U, numbers[i])), !!(m & s & bit));
        }
    }
    check_about = 0;
    /* stimecmp for S needs STCE and mcounteren.TM. */
    for (unsigned combination = 0; combination < 4; combination++) {
        check_about = combination;
        csr_write(CSR_MCOUNTEREN, combination & 1 ? 2 : 0);
        if (combination & 2) {
            menvcfg_set(ENVCFG_STCE);
        } else {
            menvcfg_clear(ENVCFG_STCE);
        }
        CHECK_EQ(done(read(PRIV_S, CSR_STIMECMP)), combination == 3);
        CHECK(done(read(PRIV_M, CSR_STIMECMP)));
        CHECK_EQ(read(PRIV_U, CSR_STIMECMP).cause, CAUSE_ILLEGAL);
    }
    check_about = 0;
    menvcfg_clear(ENVCFG_STCE);
    csr_write(CSR_MCOUNTEREN, 7);
    csr_write(CSR_SCOUNTEREN, 7);
    u64 before = mtime();
    u64 now = read(PRIV_U, CSR_TIME).a0;
    u64 after = mtime();
    if (IS64) {
        CHECK(before <= now && now <= after);
    } else {
        CHECK((u32)now - (u32)before <= (u32)(after - before));
    }
}

static void floating_point_registers(void)
{
    for (unsigned p = 0; p < 256; p += 5) {
        csr_write(CSR_FCSR, p | 0xffffff00);
        CHECK_EQ(csr_read(CSR_FCSR), p);
        CHECK_EQ(csr_read(CSR_FFLAGS), p & 31);
        CHECK_EQ(csr_read(CSR_FRM), p >> 5);
    }
    csr_write(CSR_FCSR, 0);
    csr_write(CSR_FFLAGS, ~(ulong)0);
    CHECK_EQ(csr_read(CSR_FCSR), 31);
    csr_write(CSR_FRM, ~(ulong)0);
    CHECK_EQ(csr_read(CSR_FCSR), 0xff);
    csr_write(CSR_FFLAGS, 0);
    CHECK_EQ(csr_read(CSR_FCSR), 0xe0);
    csr_clear(CSR_FCSR, 0x20);
    CHECK_EQ(csr_read(CSR_FRM), 6);
    csr_write(CSR_FCSR, 0);
}

int main(void)
{
    RUN(plain_registers);
    RUN(status);
    RUN(misa);
    RUN(trap_vectors_registers);
    RUN(satp);
    RUN(envcfg);
    RUN(interrupt_registers);
    RUN(numbers);
    RUN(existence);
    RUN(instructions);
    RUN(counter_enables);
    RUN(floating_point_registers);
    return 0;
}
