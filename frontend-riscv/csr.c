/*
 * Control and status registers. Everything that is particular to a register stands in its row of
 * the table below: the numbers and the name, the extensions that bring it, a condition on the
 * hart's state, and either the field of Hart that holds it with a mask of its writable bits, or
 * functions. What is common to all is in riscv_csr_access(): existence, privilege (bits 9:8 of the
 * number), read-only numbers (bits 11:10 = 3), XLEN, the high halves of RV32.
 *
 * Fields are WARL: writes of what is not legal leave the field as it was, unless said otherwise.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bits.h"
#include "frontend-riscv/csr.h"
#include "frontend-riscv/system.h"

/* Reads need not be limited to XLEN bits; written values are. Writers return whether to leave the
 * block. */
typedef bool (*CsrCheck)(const Hart *hart, unsigned number, u8 priv);
typedef u64 (*CsrRead)(Hart *hart, unsigned number);
typedef bool (*CsrWrite)(Hart *hart, unsigned number, u64 value);

enum {
    ROW_RV32 = 1 << 8,       /* exists on RV32 only */
    ROW_WIDE = 1 << 9,       /* 64 bits on RV32 too: the register is the low half there */
    ROW_SOFT_BASE = 1 << 10, /* set and clear start from the software-writable bits of mip */
};

typedef struct CsrRow {
    u16 first, last;  /* numbers; a family's members are numbered in the name from `name_base` */
    u16 flags;        /* CSR_* traits and ROW_* */
    u16 high_of;      /* not 0: this is the high half of the register this much below */
    const char *name; /* '#' stands for the number in the family */
    u8 name_base;
    u64 ext;        /* all of these have to be there */
    CsrCheck check; /* further conditions, or NULL */
    CsrRead read;   /* or NULL: the u64 at `field` */
    CsrWrite write; /* or NULL: `mask` of the u64 at `field` */
    size_t field;
    u64 mask;
} CsrRow;

static u64 time_now(Hart *hart)
{
    return hart->callbacks->read_time(hart->cpu.machine);
}

/* Writes the bits of `mask` in *field. */
static void write_masked(u64 *field, u64 value, u64 mask)
{
    *field = (*field & ~mask) | (value & mask);
}

/* Floating point: any write makes FS dirty. */

static bool fp_written(Hart *hart)
{
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_FS, 2, FS_DIRTY);
    return riscv_update_fp(hart);
}

static u64 read_fflags(Hart *hart, unsigned number)
{
    (void)number;
    return hart->cpu.fflags & 31;
}

static bool write_fflags(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->cpu.fflags = value & 31;
    return fp_written(hart);
}

static u64 read_frm(Hart *hart, unsigned number)
{
    (void)number;
    return hart->cpu.frm;
}

static bool write_frm(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->cpu.frm = value & 7;
    return fp_written(hart);
}

static u64 read_fcsr(Hart *hart, unsigned number)
{
    (void)number;
    return (u64)hart->cpu.frm << 5 | (hart->cpu.fflags & 31);
}

static bool write_fcsr(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->cpu.fflags = value & 31;
    hart->cpu.frm = value >> 5 & 7;
    return fp_written(hart);
}

/* Counters. mcycle counts instructions too. The unprivileged numbers are gated by the
 * counter-enable registers of all higher modes; a counter's bit there is the low part of its
 * number. */

enum {
    COUNTER_CY = 0,
    COUNTER_TM = 1,
    COUNTER_IR = 2,
    COUNTERS = 1 << COUNTER_CY | 1 << COUNTER_TM | 1 << COUNTER_IR
};

static inline bool counter_enabled(const Hart *hart, unsigned n, u8 priv)
{
    return priv == PRIV_M ||
           ((hart->mcounteren >> n & 1) &&
            (priv == PRIV_S || !hart_has(hart, RISCV_EXT_S) || (hart->scounteren >> n & 1)));
}

static bool check_counter(const Hart *hart, unsigned number, u8 priv)
{
    return counter_enabled(hart, number & 31, priv);
}

bool riscv_time_enabled(const Hart *hart)
{
    return counter_enabled(hart, COUNTER_TM, hart->priv);
}

static u64 *counter_offset(Hart *hart, unsigned n)
{
    return n == COUNTER_CY ? &hart->mcycle_offset : &hart->minstret_offset;
}

static u64 read_counter(Hart *hart, unsigned number)
{
    unsigned n = number & 31;
    return *counter_offset(hart, n) + (hart->mcountinhibit >> n & 1 ? 0 : cpu_insns(&hart->cpu));
}

/* The value is there when the writing instruction has completed, which therefore doesn't count. */
static bool write_counter(Hart *hart, unsigned number, u64 value)
{
    unsigned n = number & 31;
    *counter_offset(hart, n) =
        value - (hart->mcountinhibit >> n & 1 ? 0 : cpu_insns(&hart->cpu) + 1);
    return false;
}

static bool write_mcountinhibit(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    u64 new = value & (1 << COUNTER_CY | 1 << COUNTER_IR);
    for (unsigned n = 0; n < 32; n++) {
        if ((new ^ hart->mcountinhibit) >> n & 1) {
            u64 now = cpu_insns(&hart->cpu) + 1;
            *counter_offset(hart, n) += new >> n & 1 ? now : 0 - now;
        }
    }
    hart->mcountinhibit = new;
    return false;
}

static u64 read_time(Hart *hart, unsigned number)
{
    (void)number;
    return time_now(hart);
}

static u64 read_zero(Hart *hart, unsigned number)
{
    (void)hart;
    (void)number;
    return 0;
}

static bool write_ignored(Hart *hart, unsigned number, u64 value)
{
    (void)hart;
    (void)number;
    (void)value;
    return false;
}

/* Status. */

enum { SSTATUS_SD_32 = 31, SSTATUS_SD_64 = 63 };

static u64 mstatus_writable(u64 ext)
{
    u64 m = (u64)1 << MSTATUS_MIE | (u64)1 << MSTATUS_MPIE;
    if (ext & RISCV_EXT_BIT(F)) {
        m |= (u64)3 << MSTATUS_FS;
    }
    if (ext & RISCV_EXT_BIT(U)) {
        m |= (u64)1 << MSTATUS_MPRV | (u64)1 << MSTATUS_TW;
    }
    if (ext & RISCV_EXT_BIT(S)) {
        m |= (u64)1 << MSTATUS_SIE | (u64)1 << MSTATUS_SPIE | (u64)1 << MSTATUS_SPP |
             (u64)1 << MSTATUS_SUM | (u64)1 << MSTATUS_MXR | (u64)1 << MSTATUS_TVM |
             (u64)1 << MSTATUS_TSR;
    }
    return m;
}

u64 riscv_sstatus_readable(void)
{
    return (u64)1 << MSTATUS_SIE | (u64)1 << MSTATUS_SPIE | (u64)1 << MSTATUS_SPP |
           (u64)3 << MSTATUS_FS | (u64)1 << MSTATUS_SUM | (u64)1 << MSTATUS_MXR;
}

u64 riscv_sstatus_writable(u64 ext)
{
    return riscv_sstatus_readable() & mstatus_writable(ext);
}

static u64 read_mstatus(Hart *hart, unsigned number)
{
    (void)number;
    u64 v = hart->mstatus;
    bool sd = mstatus_field(hart, MSTATUS_FS, 2) == FS_DIRTY;
    if (hart->model->rv32) {
        return v | (u64)sd << SSTATUS_SD_32;
    }
    if (hart_has(hart, RISCV_EXT_U)) {
        v |= (u64)2 << MSTATUS_UXL;
    }
    if (hart_has(hart, RISCV_EXT_S)) {
        v |= (u64)2 << MSTATUS_SXL;
    }
    return v | (u64)sd << SSTATUS_SD_64;
}

static u64 read_sstatus(Hart *hart, unsigned number)
{
    u64 mask = riscv_sstatus_readable() | (u64)1 << (hart->model->rv32 ? SSTATUS_SD_32 : SSTATUS_SD_64) |
               (u64)3 << MSTATUS_UXL;
    return read_mstatus(hart, number) & mask;
}

/* All of it may have changed: what is derived from mstatus follows. */
static bool mstatus_written(Hart *hart)
{
    bool leave = riscv_update_regime(hart);
    leave |= riscv_update_fp(hart);
    leave |= riscv_check_interrupt(hart);
    return leave;
}

static bool write_mstatus(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    write_masked(&hart->mstatus, value, mstatus_writable(hart->model->ext));
    u64 mpp = bits(value, MSTATUS_MPP, 2);
    if (mpp == PRIV_M || (mpp == PRIV_S && hart_has(hart, RISCV_EXT_S)) ||
        (mpp == PRIV_U && hart_has(hart, RISCV_EXT_U))) {
        hart->mstatus = set_bits(hart->mstatus, MSTATUS_MPP, 2, mpp);
    }
    return mstatus_written(hart);
}

static bool write_sstatus(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    write_masked(&hart->mstatus, value, riscv_sstatus_writable(hart->model->ext));
    return mstatus_written(hart);
}

/* Traps. */

enum {
    INTS_M = 1 << IRQ_MSI | 1 << IRQ_MTI | 1 << IRQ_MEI,
    INTS_S = 1 << IRQ_SSI | 1 << IRQ_STI | 1 << IRQ_SEI,
    DELEGABLE = 1 << CAUSE_FETCH_MISALIGNED | 1 << CAUSE_FETCH_ACCESS | 1 << CAUSE_ILLEGAL |
                1 << CAUSE_BREAKPOINT | 1 << CAUSE_LOAD_MISALIGNED | 1 << CAUSE_LOAD_ACCESS |
                1 << CAUSE_STORE_MISALIGNED | 1 << CAUSE_STORE_ACCESS | 1 << CAUSE_ECALL_U |
                1 << CAUSE_ECALL_S | 1 << CAUSE_FETCH_PAGE | 1 << CAUSE_LOAD_PAGE |
                1 << CAUSE_STORE_PAGE,
};

static bool write_mideleg(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->mideleg = value & INTS_S;
    return riscv_check_interrupt(hart);
}

static bool write_mie(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->mie = value & (INTS_M | (hart_has(hart, RISCV_EXT_S) ? INTS_S : 0));
    return riscv_check_interrupt(hart);
}

static u64 read_sie(Hart *hart, unsigned number)
{
    (void)number;
    return hart->mie & hart->mideleg;
}

static bool write_sie(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    write_masked(&hart->mie, value, hart->mideleg);
    return riscv_check_interrupt(hart);
}

static u64 read_mip(Hart *hart, unsigned number)
{
    (void)number;
    riscv_update_stip(hart);
    return riscv_mip(hart);
}

static u64 read_sip(Hart *hart, unsigned number)
{
    return read_mip(hart, number) & hart->mideleg;
}

/* A device may set SSIP, but clearing it is software's: from its line it moves to where software
 * reaches it. */
static void take_over_ssip(Hart *hart)
{
    u64 ssip = (u64)1 << IRQ_SSI;
    if (atomic_load(&hart->cpu.irq_lines) & ssip) {
        atomic_fetch_and(&hart->cpu.irq_lines, ~ssip);
        hart->mip_soft |= ssip;
    }
}

static bool write_mip(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    u64 mask = hart_has(hart, RISCV_EXT_S) ? 1 << IRQ_SSI | 1 << IRQ_SEI : 0;
    if (mask && !(hart->menvcfg >> ENVCFG_STCE & 1)) {
        mask |= 1 << IRQ_STI;
    }
    take_over_ssip(hart);
    write_masked(&hart->mip_soft, value, mask);
    return riscv_check_interrupt(hart);
}

static bool write_sip(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    take_over_ssip(hart);
    write_masked(&hart->mip_soft, value, hart->mideleg & 1 << IRQ_SSI);
    return riscv_check_interrupt(hart);
}

static bool write_tvec(Hart *hart, unsigned number, u64 value)
{
    if ((value & 3) <= 1) { /* direct, vectored; a reserved mode: the whole write is ignored */
        *(number == 0x105 ? &hart->stvec : &hart->mtvec) = value;
    }
    return false;
}

static u64 epc_mask(u64 ext)
{
    return ~(u64)(ext & RISCV_EXT_BIT(C) ? 1 : 3);
}

static bool write_epc(Hart *hart, unsigned number, u64 value)
{
    *(number == 0x141 ? &hart->sepc : &hart->mepc) = value & epc_mask(hart->model->ext);
    return false;
}

/* Timer compare. */

static bool check_stimecmp(const Hart *hart, unsigned number, u8 priv)
{
    (void)number;
    return priv == PRIV_M ||
           ((hart->menvcfg >> ENVCFG_STCE & 1) && (hart->mcounteren >> COUNTER_TM & 1));
}

/* stimecmp, or whether it counts, changed. */
static bool stimer_changed(Hart *hart)
{
    bool on = hart->menvcfg >> ENVCFG_STCE & 1;
    hart->callbacks->arm_stimer(hart->cpu.machine, &hart->cpu, on ? hart->stimecmp : ~(u64)0);
    riscv_update_stip(hart);
    return riscv_check_interrupt(hart);
}

static bool write_stimecmp(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->stimecmp = value;
    return hart->menvcfg >> ENVCFG_STCE & 1 ? stimer_changed(hart) : false;
}

/* Environment configuration. */

/* CBIE = 2 is reserved. */
static u64 legal_envcfg(u64 old, u64 value, u64 mask)
{
    if (bits(value, ENVCFG_CBIE, 2) == 2) {
        mask &= ~((u64)3 << ENVCFG_CBIE);
    }
    return (old & ~mask) | (value & mask);
}

static u64 senvcfg_writable(const Hart *hart)
{
    u64 m = (u64)1 << ENVCFG_FIOM;
    if (hart_has(hart, RISCV_EXT_Zicbom)) {
        m |= (u64)3 << ENVCFG_CBIE | (u64)1 << ENVCFG_CBCFE;
    }
    if (hart_has(hart, RISCV_EXT_Zicboz)) {
        m |= (u64)1 << ENVCFG_CBZE;
    }
    return m;
}

static bool write_senvcfg(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    hart->senvcfg = legal_envcfg(hart->senvcfg, value, senvcfg_writable(hart));
    riscv_update_zero(hart);
    return false;
}

static bool write_menvcfg(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    u64 m = senvcfg_writable(hart), old = hart->menvcfg;
    if (hart_has(hart, RISCV_EXT_Svadu)) {
        m |= (u64)1 << ENVCFG_ADUE;
    }
    if (hart_has(hart, RISCV_EXT_Svpbmt)) {
        m |= (u64)1 << ENVCFG_PBMTE;
    }
    if (hart_has(hart, RISCV_EXT_Sstc)) {
        m |= (u64)1 << ENVCFG_STCE;
    }
    hart->menvcfg = legal_envcfg(old, value, m);
    bool leave = riscv_update_regime(hart);
    riscv_update_zero(hart);
    if ((old ^ hart->menvcfg) >> ENVCFG_STCE & 1) {
        leave |= stimer_changed(hart);
    }
    return leave;
}

/* Address translation. */

static bool check_satp(const Hart *hart, unsigned number, u8 priv)
{
    (void)number;
    return priv == PRIV_M || !mstatus_field(hart, MSTATUS_TVM, 1);
}

static bool write_satp(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    u64 mode = value >> 60;
    if (!hart->model->rv32 && mode != 0 &&
        mode != 8) { /* Bare and Sv39; else the whole write is ignored */
        return false;
    }
    hart->satp = value;
    return riscv_update_regime(hart);
}

/* Physical memory protection (machine.adoc "Physical Memory Protection", smepmp.adoc). */

static bool pmp_rlb(const Hart *hart)
{
    return hart->mseccfg >> MSECCFG_RLB & 1;
}

static bool pmp_locked(const Hart *hart, unsigned i)
{
    return (hart->pmpcfg[i] >> PMPCFG_L & 1) && !pmp_rlb(hart);
}

static bool check_pmpcfg(const Hart *hart, unsigned number, u8 priv)
{
    (void)priv;
    unsigned n = number & 15;
    return n * 4 < hart->model->pmp_entries && (hart->model->rv32 || n % 2 == 0);
}

static bool check_pmpaddr(const Hart *hart, unsigned number, u8 priv)
{
    (void)priv;
    return number - 0x3b0 < hart->model->pmp_entries;
}

static u64 read_pmpcfg(Hart *hart, unsigned number)
{
    u64 v;
    memcpy(&v, &hart->pmpcfg[number % 16 / 2 * 8], 8);
    return number % 2 ? v >> 32 : v;
}

static void write_pmpcfg_byte(Hart *hart, unsigned i, u8 value)
{
    value &= 0x9f;
    if (pmp_locked(hart, i)) {
        return;
    }
    if (!(hart->mseccfg >> MSECCFG_MML & 1)) {
        if (!(value & PMP_R)) { /* write without read is reserved */
            value &= ~PMP_W;
        }
    } else if (!pmp_rlb(hart) && value >> PMPCFG_L) {
        /* No new rules that let M mode execute: X but for the shared data region RWX, and the
         * shared code regions. */
        unsigned rwx = value & 7;
        if (((rwx & PMP_X) && rwx != 7) || rwx == PMP_W) {
            return;
        }
    }
    hart->pmpcfg[i] = value;
}

static bool write_pmpcfg(Hart *hart, unsigned number, u64 value)
{
    for (unsigned i = 0; i < (hart->model->rv32 ? 4 : 8); i++) {
        write_pmpcfg_byte(hart, (number & 15) * 4 + i, (u8)(value >> 8 * i));
    }
    riscv_update_pmp(hart);
    return true;
}

static u64 read_pmpaddr(Hart *hart, unsigned number)
{
    return hart->pmpaddr[number - 0x3b0];
}

static bool write_pmpaddr(Hart *hart, unsigned number, u64 value)
{
    unsigned i = number - 0x3b0;
    bool next_tor = i + 1 < hart->model->pmp_entries && pmp_locked(hart, i + 1) &&
                    bits(hart->pmpcfg[i + 1], PMPCFG_A, 2) == PMP_TOR;
    if (pmp_locked(hart, i) || next_tor) {
        return false;
    }
    hart->pmpaddr[i] = value & mask64(hart->model->rv32 ? 32 : 54);
    riscv_update_pmp(hart);
    return true;
}

static bool write_mseccfg(Hart *hart, unsigned number, u64 value)
{
    (void)number;
    u64 sticky = (u64)1 << MSECCFG_MML | (u64)1 << MSECCFG_MMWP, rlb = (u64)1 << MSECCFG_RLB;
    u64 new = (hart->mseccfg & sticky) | (value & (sticky | rlb));
    for (unsigned i = 0; i < hart->model->pmp_entries; i++) {
        if (pmp_locked(hart, i)) { /* a locked rule, RLB is 0: it stays 0 */
            new &= ~rlb;
        }
    }
    hart->mseccfg = new;
    riscv_update_pmp(hart);
    return true;
}

static u64 read_mhartid(Hart *hart, unsigned number)
{
    (void)number;
    return hart->cpu.index;
}

/*
 * The table. FIELD: the u64 in Hart is the register, `mask` what can be written; FIELD_W and
 * FIELD_L: written by a function, which in the latter may ask to leave the block. CALC, FAMILY:
 * read and written by functions. ZERO: reads as 0, writes (where the number allows them) are
 * ignored. HIGH: the upper half of the register `below` numbers lower.
 */
#define X(id) RISCV_EXT_BIT(id)
#define FIELD(num, name, ext, field, mask) \
    { \
        num, num, CSR_EXISTS, 0, name, 0, ext, NULL, NULL, NULL, offsetof(Hart, field), mask \
    }
#define FIELD_W(num, name, ext, field, write) \
    { \
        num, num, CSR_EXISTS, 0, name, 0, ext, NULL, NULL, write, offsetof(Hart, field), 0 \
    }
#define FIELD_L(num, name, ext, field, flags, check, write) \
    { \
        num, num, CSR_EXISTS | CSR_WRITE_LEAVES | (flags), 0, name, 0, ext, check, NULL, write, \
            offsetof(Hart, field), 0 \
    }
#define CALC(num, name, ext, flags, check, read, write) \
    { \
        num, num, CSR_EXISTS | (flags), 0, name, 0, ext, check, read, write, 0, 0 \
    }
#define FAMILY(first, last, name, base, ext, flags, check, read, write) \
    { \
        first, last, CSR_EXISTS | (flags), 0, name, base, ext, check, read, write, 0, 0 \
    }
#define ZERO(num, name, ext) CALC(num, name, ext, 0, NULL, read_zero, write_ignored)
#define HIGH(first, last, name, base, below) \
    { \
        first, last, CSR_EXISTS | ROW_RV32, below, name, base, 0, NULL, NULL, NULL, 0, 0 \
    }
#define LEAVES CSR_WRITE_LEAVES
static const CsrRow rows[] = {
    CALC(0x001, "fflags", X(F), CSR_FP | LEAVES, NULL, read_fflags, write_fflags),
    CALC(0x002, "frm", X(F), CSR_FP | LEAVES, NULL, read_frm, write_frm),
    CALC(0x003, "fcsr", X(F), CSR_FP | LEAVES, NULL, read_fcsr, write_fcsr),

    CALC(0xc00, "cycle", X(Zicntr), CSR_COUNTS | ROW_WIDE, check_counter, read_counter, NULL),
    CALC(0xc01, "time", X(Zicntr), CSR_COUNTS | ROW_WIDE, check_counter, read_time, NULL),
    CALC(0xc02, "instret", X(Zicntr), CSR_COUNTS | ROW_WIDE, check_counter, read_counter, NULL),
    FAMILY(0xc03, 0xc1f, "hpmcounter#", 3, X(Zihpm), ROW_WIDE, check_counter, read_zero, NULL),
    HIGH(0xc80, 0xc80, "cycleh", 0, 0x80),
    HIGH(0xc81, 0xc81, "timeh", 0, 0x80),
    HIGH(0xc82, 0xc82, "instreth", 0, 0x80),
    HIGH(0xc83, 0xc9f, "hpmcounter#h", 3, 0x80),

    CALC(0x100, "sstatus", X(S), LEAVES, NULL, read_sstatus, write_sstatus),
    CALC(0x104, "sie", X(S), LEAVES, NULL, read_sie, write_sie),
    FIELD_W(0x105, "stvec", X(S), stvec, write_tvec),
    FIELD(0x106, "scounteren", X(S), scounteren, COUNTERS),
    FIELD_W(0x10a, "senvcfg", X(S), senvcfg, write_senvcfg),
    FIELD(0x140, "sscratch", X(S), sscratch, ~(u64)0),
    FIELD_W(0x141, "sepc", X(S), sepc, write_epc),
    FIELD(0x142, "scause", X(S), scause, ~(u64)0),
    FIELD(0x143, "stval", X(S), stval, ~(u64)0),
    CALC(0x144, "sip", X(S), CSR_COUNTS | LEAVES | ROW_SOFT_BASE, NULL, read_sip, write_sip),
    FIELD_L(0x14d, "stimecmp", X(Sstc), stimecmp, CSR_COUNTS | ROW_WIDE, check_stimecmp,
            write_stimecmp),
    HIGH(0x15d, 0x15d, "stimecmph", 0, 0x10),
    FIELD_L(0x180, "satp", X(S), satp, 0, check_satp, write_satp),

    ZERO(0xf11, "mvendorid", 0),
    ZERO(0xf12, "marchid", 0),
    ZERO(0xf13, "mimpid", 0),
    CALC(0xf14, "mhartid", 0, 0, NULL, read_mhartid, NULL),
    ZERO(0xf15, "mconfigptr", 0),

    CALC(0x300, "mstatus", 0, LEAVES, NULL, read_mstatus, write_mstatus),
    CALC(0x310, "mstatush", 0, ROW_RV32, NULL, read_zero, write_ignored),
    FIELD(0x301, "misa", 0, misa, 0),
    {0x302, 0x302, CSR_EXISTS | ROW_WIDE, 0, "medeleg", 0, X(S), NULL, NULL, NULL,
     offsetof(Hart, medeleg), DELEGABLE},
    HIGH(0x312, 0x312, "medelegh", 0, 0x10),
    FIELD_L(0x303, "mideleg", X(S), mideleg, 0, NULL, write_mideleg),
    FIELD_L(0x304, "mie", 0, mie, 0, NULL, write_mie),
    FIELD_W(0x305, "mtvec", 0, mtvec, write_tvec),
    FIELD(0x306, "mcounteren", X(U), mcounteren, COUNTERS),
    FIELD_L(0x30a, "menvcfg", X(U), menvcfg, CSR_COUNTS | ROW_WIDE, NULL, write_menvcfg),
    HIGH(0x31a, 0x31a, "menvcfgh", 0, 0x10),
    FIELD(0x340, "mscratch", 0, mscratch, ~(u64)0),
    FIELD_W(0x341, "mepc", 0, mepc, write_epc),
    FIELD(0x342, "mcause", 0, mcause, ~(u64)0),
    FIELD(0x343, "mtval", 0, mtval, ~(u64)0),
    CALC(0x344, "mip", 0, CSR_COUNTS | LEAVES | ROW_SOFT_BASE, NULL, read_mip, write_mip),
    FIELD_L(0x747, "mseccfg", X(Smepmp), mseccfg, ROW_WIDE, NULL, write_mseccfg),
    HIGH(0x757, 0x757, "mseccfgh", 0, 0x10),
    FAMILY(0x3a0, 0x3af, "pmpcfg#", 0, 0, LEAVES, check_pmpcfg, read_pmpcfg, write_pmpcfg),
    FAMILY(0x3b0, 0x3ef, "pmpaddr#", 0, 0, LEAVES, check_pmpaddr, read_pmpaddr, write_pmpaddr),

    CALC(0xb00, "mcycle", 0, CSR_COUNTS | ROW_WIDE, NULL, read_counter, write_counter),
    CALC(0xb02, "minstret", 0, CSR_COUNTS | ROW_WIDE, NULL, read_counter, write_counter),
    FAMILY(0xb03, 0xb1f, "mhpmcounter#", 3, 0, ROW_WIDE, NULL, read_zero, write_ignored),
    HIGH(0xb80, 0xb80, "mcycleh", 0, 0x80),
    HIGH(0xb82, 0xb82, "minstreth", 0, 0x80),
    HIGH(0xb83, 0xb9f, "mhpmcounter#h", 3, 0x80),
    {0x320, 0x320, CSR_EXISTS | CSR_COUNTS, 0, "mcountinhibit", 0, 0, NULL, NULL,
     write_mcountinhibit, offsetof(Hart, mcountinhibit), 0},
    FAMILY(0x323, 0x33f, "mhpmevent#", 3, 0, 0, NULL, read_zero, write_ignored),

    /* No triggers: tselect holds only 0, and type 0 in tdata1 says that there is none. */
    ZERO(0x7a0, "tselect", 0),
    ZERO(0x7a1, "tdata1", 0),
    ZERO(0x7a2, "tdata2", 0),
    ZERO(0x7a3, "tdata3", 0),
};
#undef X
#undef FIELD
#undef FIELD_W
#undef FIELD_L
#undef CALC
#undef FAMILY
#undef ZERO
#undef HIGH
#undef LEAVES

/* By number: index in rows + 1. Made once, before main(). */
static u8 row_of[CSR_COUNT];
_Static_assert(ARRAY_LEN(rows) < 256, "rows are numbered by bytes");

__attribute__((constructor)) static void index_rows(void)
{
    for (unsigned r = 0; r < ARRAY_LEN(rows); r++) {
        for (unsigned n = rows[r].first; n <= rows[r].last; n++) {
            if (row_of[n]) {
                abort(); /* two rows for one number */
            }
            row_of[n] = (u8)(r + 1);
        }
    }
}

static const CsrRow *find_row(unsigned number)
{
    return number < CSR_COUNT && row_of[number] ? &rows[row_of[number] - 1] : NULL;
}

/* The register as a whole behind a number: its row and number; *high: this is the upper half. NULL:
 * not on this hart. */
static const CsrRow *find_on(const Hart *hart, unsigned *number, bool *high)
{
    const CsrRow *row = find_row(*number);
    if (!row || ((row->flags & ROW_RV32) && !hart->model->rv32)) {
        return NULL;
    }
    *high = row->high_of != 0;
    if (*high) {
        *number -= row->high_of;
        row = find_row(*number);
    }
    return (hart->model->ext & row->ext) == row->ext ? row : NULL;
}

static u64 read_row(Hart *hart, const CsrRow *row, unsigned number)
{
    return row->read ? row->read(hart, number) : *(u64 *)((char *)hart + row->field);
}

static bool write_row(Hart *hart, const CsrRow *row, unsigned number, u64 value)
{
    if (row->write) {
        return row->write(hart, number, value);
    }
    write_masked((u64 *)((char *)hart + row->field), value, row->mask);
    return false;
}

bool riscv_csr_access(Hart *hart, unsigned number, CsrOp op, bool write, u64 operand, u64 *old,
                      bool *leave)
{
    u8 needs_priv = number >> 8 & 3;
    bool read_only = number >> 10 == 3, high;
    const CsrRow *row = find_on(hart, &number, &high);

    if (!row || hart->priv < needs_priv || (write && read_only) ||
        ((row->flags & CSR_FP) && mstatus_field(hart, MSTATUS_FS, 2) == FS_OFF) ||
        (row->check && !row->check(hart, number, hart->priv))) {
        return false;
    }
    bool half = hart->model->rv32 && (row->flags & ROW_WIDE);
    unsigned shift = high ? 32 : 0;
    u64 xlen = hart_xlen_mask(hart);
    operand &= xlen;

    u64 whole = 0;
    if (old || half || op != CSR_OP_WRITE) {
        whole = read_row(hart, row, number);
    }
    if (old) {
        *old = whole >> shift & xlen;
    }
    if (write) {
        u64 base = whole >> shift & xlen;
        if (row->flags & ROW_SOFT_BASE) {
            take_over_ssip(hart);
            base = hart->mip_soft;
        }
        u64 value = op == CSR_OP_WRITE ? operand
                    : op == CSR_OP_SET ? base | operand
                                       : base & ~operand;
        if (half) {
            value = set_bits(whole, shift, 32, value);
        }
        *leave |= write_row(hart, row, number, value);
    }
    return true;
}

bool riscv_csr_peek(Hart *hart, unsigned number, u64 *value)
{
    bool high;
    const CsrRow *row = find_on(hart, &number, &high);
    if (!row || (row->check && !row->check(hart, number, PRIV_M))) {
        return false;
    }
    *value = read_row(hart, row, number) >> (high ? 32 : 0) & hart_xlen_mask(hart);
    return true;
}

unsigned riscv_csr_traits(unsigned number)
{
    const CsrRow *row = find_row(number);
    if (row && row->high_of) {
        row = find_row(number - row->high_of);
    }
    return row ? row->flags & (CSR_EXISTS | CSR_COUNTS | CSR_FP | CSR_WRITE_LEAVES) : 0;
}

bool riscv_csr_field(unsigned number, u64 ext, size_t *offset, u64 *mask)
{
    const CsrRow *row = find_row(number);
    if (!row || row->flags != CSR_EXISTS || row->high_of || (number >> 8 & 3) != PRIV_S ||
        (ext & row->ext) != row->ext || row->check || row->read ||
        (row->write && row->write != write_epc)) {
        return false;
    }
    *offset = row->field;
    *mask = row->write ? epc_mask(ext) : row->mask;
    return true;
}

const char *riscv_csr_name(unsigned number, char buf[CSR_NAME_MAX])
{
    const CsrRow *row = find_row(number);
    if (!row) {
        return NULL;
    }
    const char *mark = strchr(row->name, '#');
    if (mark) {
        snprintf(buf, CSR_NAME_MAX, "%.*s%u%s", (int)(mark - row->name), row->name,
                 number - row->first + row->name_base, mark + 1);
    } else {
        snprintf(buf, CSR_NAME_MAX, "%s", row->name);
    }
    return buf;
}

int riscv_csr_number(const char *name)
{
    char buf[CSR_NAME_MAX];
    for (unsigned n = 0; n < CSR_COUNT; n++) {
        if (riscv_csr_name(n, buf) && !strcmp(buf, name)) {
            return (int)n;
        }
    }
    return -1;
}
