/*
 * The privileged architecture, without a machine: a hart alone, with a softmmu that only remembers
 * what it was told. Tables of expectations are written from the specification's point of view, not
 * derived from csr.c.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "frontend-riscv/csr.h"
#include "frontend-riscv/frontend.h"
#include "frontend-riscv/system.h"
#include "frontend-riscv/translate.h"
#include "softmmu/softmmu.h"

/* The softmmu and the machine that the hart sees. */

static struct {
    TranslationRegime regime;
    unsigned regimes;
    PmpState pmp;
    unsigned pmps;
    unsigned fences, fence_is, cbos;
    bool fence_has_va, fence_has_asid, cbo_zero;
    u64 fence_va, cbo_va;
    u16 fence_asid;
    u64 time, deadline;
    unsigned arms;
    u32 code; /* what mmu_debug_read finds */
} seen;

void mmu_set_regime(CpuState *cpu, const TranslationRegime *regime)
{
    (void)cpu;
    seen.regime = *regime;
    seen.regimes++;
}

void mmu_set_mode(CpuState *cpu, u8 fetch_priv, u8 data_priv, bool sum, bool mxr)
{
    (void)cpu;
    seen.regime.fetch_priv = fetch_priv;
    seen.regime.data_priv = data_priv;
    seen.regime.sum = sum;
    seen.regime.mxr = mxr;
    seen.regimes++;
}

void mmu_set_pmp(CpuState *cpu, const PmpState *pmp)
{
    (void)cpu;
    seen.pmp = *pmp;
    seen.pmps++;
}

void mmu_flush_all(CpuState *cpu)
{
    (void)cpu;
}

void mmu_fence(CpuState *cpu, const u64 *va, const u16 *asid)
{
    (void)cpu;
    seen.fences++;
    seen.fence_has_va = va != NULL;
    seen.fence_has_asid = asid != NULL;
    seen.fence_va = va ? *va : 0;
    seen.fence_asid = asid ? *asid : 0;
}

bool mmu_cbo(CpuState *cpu, u64 va, unsigned size, bool zero)
{
    (void)cpu;
    ck_assert_uint_eq(size, 64);
    seen.cbos++;
    seen.cbo_va = va;
    seen.cbo_zero = zero;
    return true;
}

bool mmu_zero(CpuState *cpu, u64 va)
{
    return mmu_cbo(cpu, va, 64, true);
}

bool mmu_debug_read(CpuState *cpu, u64 va, void *buf, u64 len)
{
    memcpy(buf, (char *)&seen.code + (va - cpu->pc), len);
    return true;
}

bool mmu_amo_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    (void)cpu, (void)va, (void)size_log2, (void)host;
    return false;
}

static u64 read_time(void *opaque)
{
    (void)opaque;
    return seen.time;
}

static void arm_stimer(void *opaque, CpuState *cpu, u64 deadline)
{
    (void)opaque, (void)cpu;
    seen.arms++;
    seen.deadline = deadline;
}

static void fence_i(void *opaque, CpuState *cpu)
{
    (void)opaque, (void)cpu;
    seen.fence_is++;
}

static const HartCallbacks callbacks = {read_time, arm_stimer, fence_i};

/* A hart of a model, just reset. */
static Hart *new_hart(const char *cpu)
{
    memset(&seen, 0, sizeof(seen));
    HartModel *model = riscv_model_new(cpu, NULL);
    ck_assert_ptr_nonnull(model);
    Hart *hart = riscv_hart_new(model, 3, &callbacks, NULL);
    riscv_hart_reset(hart, 0x1000);
    return hart;
}

static void drop(Hart *hart)
{
    g_free((void *)hart->model);
    riscv_hart_free(hart);
}

static unsigned number(const char *name)
{
    int n = riscv_csr_number(name);
    ck_assert_msg(n >= 0, "%s", name);
    return (unsigned)n;
}

static bool try_read(Hart *hart, unsigned n, u64 *value)
{
    bool leave = false;
    bool ok = riscv_csr_access(hart, n, CSR_OP_SET, false, 0, value, &leave);
    ck_assert(!leave);
    return ok;
}

static bool can_read(Hart *hart, const char *name)
{
    u64 v;
    return try_read(hart, number(name), &v);
}

static u64 get_csr(Hart *hart, const char *name)
{
    u64 v = 0;
    ck_assert_msg(try_read(hart, number(name), &v), "%s", name);
    return v;
}

/* Returns whether the write asked to leave the block. */
static bool op_csr(Hart *hart, const char *name, CsrOp op, u64 value)
{
    bool leave = false;
    ck_assert_msg(riscv_csr_access(hart, number(name), op, true, value, NULL, &leave), "%s", name);
    return leave;
}

static bool set_csr(Hart *hart, const char *name, u64 value)
{
    return op_csr(hart, name, CSR_OP_WRITE, value);
}

static bool can_write(Hart *hart, const char *name)
{
    bool leave = false;
    return riscv_csr_access(hart, number(name), CSR_OP_SET, true, 0, NULL, &leave);
}

/* Changes the mode as an xRET would. */
static void set_priv(Hart *hart, u8 priv)
{
    hart->priv = priv;
    riscv_update_regime(hart);
}

/* Existence: every number, in every mode, on both widths. Everything that has a condition is
 * allowed. */

enum { BOTH, ONLY32, EVEN64 };
static const struct {
    u16 first, last;
    u8 width;
} existing[] = {
    {0x001, 0x003, BOTH},   {0xc00, 0xc02, BOTH},   {0xc80, 0xc82, ONLY32}, {0x100, 0x100, BOTH},
    {0x104, 0x106, BOTH},   {0x10a, 0x10a, BOTH},   {0x140, 0x144, BOTH},   {0x14d, 0x14d, BOTH},
    {0x15d, 0x15d, ONLY32}, {0x180, 0x180, BOTH},   {0xf11, 0xf15, BOTH},   {0x300, 0x306, BOTH},
    {0x30a, 0x30a, BOTH},   {0x310, 0x310, ONLY32}, {0x312, 0x312, ONLY32}, {0x31a, 0x31a, ONLY32},
    {0x320, 0x320, BOTH},   {0x323, 0x33f, BOTH},   {0x340, 0x344, BOTH},   {0x3a0, 0x3a3, EVEN64},
    {0x3b0, 0x3bf, BOTH},   {0x747, 0x747, BOTH},   {0x757, 0x757, ONLY32}, {0x7a0, 0x7a3, BOTH},
    {0xb00, 0xb00, BOTH},   {0xb02, 0xb1f, BOTH},   {0xb80, 0xb80, ONLY32}, {0xb82, 0xb9f, ONLY32},
};
/* Readable in M mode only, since no counter is there to be enabled. */
static bool is_hpm(unsigned n)
{
    return (n >= 0xc03 && n <= 0xc1f) || (n >= 0xc83 && n <= 0xc9f);
}

START_TEST(existence)
{
    bool rv32 = _i & 1;
    static const u8 modes[] = {PRIV_U, PRIV_S, PRIV_M};
    u8 priv = modes[_i >> 1];
    for (unsigned n = 0; n < CSR_COUNT; n++) {
        Hart *hart = new_hart(rv32 ? "max32" : "max");
        bool there = is_hpm(n) && priv == PRIV_M && (rv32 || n < 0xc80);
        for (unsigned i = 0; i < ARRAY_LEN(existing); i++) {
            if (n >= existing[i].first && n <= existing[i].last &&
                (rv32 || existing[i].width == BOTH ||
                 (existing[i].width == EVEN64 && n % 2 == 0))) {
                there = true;
            }
        }
        set_csr(hart, "mcounteren", ~(u64)0);
        set_csr(hart, "scounteren", ~(u64)0);
        set_csr(hart, rv32 ? "menvcfgh" : "menvcfg", rv32 ? 0x80000000 : (u64)1 << 63);
        set_csr(hart, "mstatus", (u64)3 << MSTATUS_FS);
        set_priv(hart, priv);

        u64 v;
        bool leave = false;
        bool readable = there && priv >= (n >> 8 & 3);
        bool writable = readable && n >> 10 != 3;
        ck_assert_msg(try_read(hart, n, &v) == readable, "read %#x in mode %d", n, priv);
        ck_assert_msg(riscv_csr_access(hart, n, CSR_OP_SET, true, 0, &v, &leave) == writable,
                      "set %#x in mode %d", n, priv);
        ck_assert_msg(riscv_csr_access(hart, n, CSR_OP_CLEAR, true, 0, &v, &leave) == writable,
                      "clear %#x", n);
        ck_assert_msg(riscv_csr_access(hart, n, CSR_OP_WRITE, true, 0, NULL, &leave) == writable,
                      "write %#x", n);
        drop(hart);
    }
}
END_TEST

START_TEST(names)
{
    char buf[CSR_NAME_MAX];
    ck_assert_str_eq(riscv_csr_name(0x300, buf), "mstatus");
    ck_assert_str_eq(riscv_csr_name(0xc1f, buf), "hpmcounter31");
    ck_assert_str_eq(riscv_csr_name(0xb83, buf), "mhpmcounter3h");
    ck_assert_str_eq(riscv_csr_name(0x3ef, buf), "pmpaddr63");
    ck_assert_ptr_null(riscv_csr_name(0x800, buf));
    ck_assert_int_eq(riscv_csr_number("pmpcfg3"), 0x3a3);
    ck_assert_int_eq(riscv_csr_number("mhpmevent3"), 0x323);
    ck_assert_int_eq(riscv_csr_number("nonsense"), -1);
    for (unsigned n = 0; n < CSR_COUNT; n++) {
        const char *name = riscv_csr_name(n, buf);
        ck_assert((name != NULL) == ((riscv_csr_traits(n) & CSR_EXISTS) != 0));
        if (name) {
            ck_assert_int_eq(riscv_csr_number(name), (int)n);
        }
    }
}
END_TEST

/* Legal values: what M mode reads after writing, on a hart just reset. */
#define ALL (~(u64)0)
static const struct {
    const char *cpu, *csr;
    u64 write, read;
} warl[] = {
    {"max", "fflags", ALL, 31},
    {"max", "frm", ALL, 7},
    {"max", "fcsr", ALL, 255},
    {"max", "sstatus", ALL, 0x80000002000c6122},
    {"max32", "sstatus", ALL, 0x800c6122},
    {"max", "mstatus", ALL, 0x8000000a007e79aa},
    {"max32", "mstatus", ALL, 0x807e79aa},
    {"max", "mstatus", 0, 0xa00000000},
    {"max", "mstatus", 0x800, 0xa00000800},  /* MPP = S */
    {"max", "mstatus", 0x1000, 0xa00000000}, /* MPP = 2 is no mode: stays U */
    {"max", "mstatus", 0x2000, 0xa00002000}, /* FS initial: SD is 0 */
    {"max,f=off", "mstatus", 0x6000, 0xa00000000},
    {"max32", "mstatush", ALL, 0},
    {"max,s=off,u=off", "mstatus", ALL, 0x8000000000007888},
    {"max,s=off,u=off", "mstatus", 0, 0x1800},
    {"max", "misa", 0, 0x800000000014112d},
    {"max32", "misa", 0, 0x4014112d},
    {"max,c=off", "misa", 0, 0x8000000000141129},
    {"max", "medeleg", ALL, 0xb3ff},
    {"max32", "medelegh", ALL, 0},
    {"max", "mideleg", ALL, 0x222},
    {"max", "mie", ALL, 0xaaa},
    {"max,s=off", "mie", ALL, 0x888},
    {"max", "mip", ALL, 0x222},
    {"max", "sie", ALL, 0}, /* nothing is delegated */
    {"max", "sip", ALL, 0},
    {"max", "mtvec", 0x80000001, 0x80000001},
    {"max", "mtvec", 0x80000002, 0},
    {"max", "mtvec", ALL, 0},
    {"max", "stvec", 0x7ffffffffffffffd, 0x7ffffffffffffffd},
    {"max", "stvec", ALL, 0},
    {"max", "mepc", ALL, ALL - 1},
    {"max,c=off", "mepc", ALL, ALL - 3},
    {"max", "sepc", ALL, ALL - 1},
    {"max32,c=off", "sepc", ALL, 0xfffffffc},
    {"max", "mcause", ALL, ALL},
    {"max32", "scause", ALL, 0xffffffff},
    {"max", "mtval", ALL, ALL},
    {"max", "stval", ALL, ALL},
    {"max", "mscratch", ALL, ALL},
    {"max32", "sscratch", ALL, 0xffffffff},
    {"max", "mcounteren", ALL, 7},
    {"max", "scounteren", ALL, 7},
    {"max", "mcountinhibit", ALL, 5},
    {"max", "menvcfg", ALL, 0xe0000000000000f1},
    {"max", "menvcfg", 0x20, 0}, /* CBIE = 2 is reserved */
    {"max,zicbom=off", "menvcfg", 0xff, 0x81},
    {"max,zicboz=off", "menvcfg", 0xff, 0x71},
    {"max,sstc=off", "menvcfg", ALL, 0x60000000000000f1},
    {"max,svadu=off", "menvcfg", ALL, 0xc0000000000000f1},
    {"max,svpbmt=off", "menvcfg", ALL, 0xa0000000000000f1},
    {"max32", "menvcfg", ALL, 0xf1},
    {"max32", "menvcfgh", ALL, 0xe0000000},
    {"max", "senvcfg", ALL, 0xf1},
    {"max", "senvcfg", 0x20, 0},
    {"max", "stimecmp", 0x123456789abcdef0, 0x123456789abcdef0},
    {"max", "satp", 0x8ffff12345678abc, 0x8ffff12345678abc},
    {"max", "satp", 0x9000000000000001, 0}, /* Sv48 */
    {"max", "satp", 0xa000000000000001, 0}, /* Sv57 */
    {"max", "satp", 0x1000000000000001, 0},
    {"max", "satp", 0, 0},
    {"max32", "satp", 0xffffffff, 0xffffffff},
    {"max", "mseccfg", ALL, 7},
    {"max32", "mseccfgh", ALL, 0},
    {"max", "pmpaddr0", ALL, 0x3fffffffffffff},
    {"max32", "pmpaddr15", ALL, 0xffffffff},
    {"max", "pmpcfg0", 0x0706050403020100, 0x0704050403000100}, /* W without R */
    {"max", "pmpcfg2", ALL, 0x9f9f9f9f9f9f9f9f},
    {"max32", "pmpcfg3", 0x1f000102, 0x1f000100},
    {"max", "mhpmcounter3", ALL, 0},
    {"max", "mhpmevent31", ALL, 0},
    {"max32", "mhpmcounter31h", ALL, 0},
    {"max", "tselect", ALL, 0},
    {"max", "tdata1", ALL, 0},
    {"max", "tdata2", ALL, 0},
    {"max", "tdata3", ALL, 0},
};

START_TEST(legal_values)
{
    Hart *hart = new_hart(warl[_i].cpu);
    if (!strncmp(warl[_i].csr, "f", 1)) {
        set_csr(hart, "mstatus", (u64)FS_INITIAL << MSTATUS_FS);
    }
    set_csr(hart, warl[_i].csr, warl[_i].write);
    u64 got = get_csr(hart, warl[_i].csr);
    ck_assert_msg(got == warl[_i].read, "%s on %s: wrote %llx, read %llx, expected %llx",
                  warl[_i].csr, warl[_i].cpu, (unsigned long long)warl[_i].write,
                  (unsigned long long)got, (unsigned long long)warl[_i].read);
    drop(hart);
}
END_TEST

START_TEST(set_and_clear)
{
    Hart *hart = new_hart("max");
    set_csr(hart, "mscratch", 0xf0);
    op_csr(hart, "mscratch", CSR_OP_SET, 0x0f);
    ck_assert_uint_eq(get_csr(hart, "mscratch"), 0xff);
    op_csr(hart, "mscratch", CSR_OP_CLEAR, 0x3c);
    ck_assert_uint_eq(get_csr(hart, "mscratch"), 0xc3);
    u64 old;
    bool leave = false;
    ck_assert(riscv_csr_access(hart, number("mscratch"), CSR_OP_WRITE, true, 5, &old, &leave));
    ck_assert_uint_eq(old, 0xc3);
    ck_assert_uint_eq(get_csr(hart, "mscratch"), 5);
    drop(hart);
}
END_TEST

START_TEST(constants)
{
    Hart *hart = new_hart("max");
    ck_assert_uint_eq(get_csr(hart, "mhartid"), 3);
    ck_assert_uint_eq(get_csr(hart, "mvendorid"), 0);
    ck_assert_uint_eq(get_csr(hart, "mconfigptr"), 0);
    ck_assert_uint_eq(hart->priv, PRIV_M);
    ck_assert_uint_eq(hart->cpu.pc, 0x1000);
    ck_assert_uint_eq(get_csr(hart, "mcause"), 0);
    drop(hart);
}
END_TEST

START_TEST(without_extensions)
{
    Hart *hart = new_hart("max,s=off,f=off,smepmp=off,zihpm=off");
    static const char *const gone[] = {"sstatus",  "satp", "medeleg", "mideleg",
                                       "stimecmp", "fcsr", "mseccfg", "hpmcounter3"};
    for (unsigned i = 0; i < ARRAY_LEN(gone); i++) {
        ck_assert_msg(!can_read(hart, gone[i]), "%s", gone[i]);
    }
    ck_assert(can_read(hart, "mcounteren"));
    drop(hart);
    hart = new_hart("max,s=off,u=off");
    ck_assert(!can_read(hart, "mcounteren"));
    ck_assert(!can_read(hart, "menvcfg"));
    drop(hart);
}
END_TEST

START_TEST(tvm_guards_satp)
{
    Hart *hart = new_hart("max");
    set_priv(hart, PRIV_S);
    ck_assert(can_read(hart, "satp") && can_write(hart, "satp"));
    hart->mstatus |= (u64)1 << MSTATUS_TVM;
    ck_assert(!can_read(hart, "satp") && !can_write(hart, "satp"));
    set_priv(hart, PRIV_M);
    ck_assert(can_read(hart, "satp"));
    drop(hart);
}
END_TEST

/* The counter-enable bits: cycle 0, time 1, instret 2; S needs mcounteren, U both. */
START_TEST(counter_enables)
{
    static const char *const names[] = {"cycle", "time", "instret"};
    for (unsigned m = 0; m < 8; m++) {
        for (unsigned s = 0; s < 8; s++) {
            Hart *hart = new_hart("max");
            set_csr(hart, "mcounteren", m);
            set_csr(hart, "scounteren", s);
            for (unsigned i = 0; i < 3; i++) {
                set_priv(hart, PRIV_M);
                ck_assert(can_read(hart, names[i]));
                set_priv(hart, PRIV_S);
                ck_assert_int_eq(can_read(hart, names[i]), m >> i & 1);
                set_priv(hart, PRIV_U);
                ck_assert_int_eq(can_read(hart, names[i]), (m & s) >> i & 1);
                ck_assert(!can_write(hart, names[i]));
            }
            drop(hart);
        }
    }
    Hart *hart = new_hart("max,s=off"); /* no S mode: mcounteren alone decides for U */
    set_csr(hart, "mcounteren", 1);
    set_priv(hart, PRIV_U);
    ck_assert(can_read(hart, "cycle") && !can_read(hart, "time"));
    drop(hart);
}
END_TEST

START_TEST(stimecmp_enables)
{
    for (unsigned i = 0; i < 4; i++) {
        Hart *hart = new_hart("max");
        set_csr(hart, "menvcfg", (u64)(i & 1) << ENVCFG_STCE);
        set_csr(hart, "mcounteren", i & 2);
        ck_assert(can_read(hart, "stimecmp"));
        set_priv(hart, PRIV_S);
        ck_assert_int_eq(can_read(hart, "stimecmp"), i == 3);
        ck_assert_int_eq(can_write(hart, "stimecmp"), i == 3);
        set_priv(hart, PRIV_U);
        ck_assert(!can_read(hart, "stimecmp"));
        drop(hart);
    }
}
END_TEST

START_TEST(counters)
{
    Hart *hart = new_hart("max32");
    hart->cpu.insn_base = 1000; /* budget 0: 1000 instructions have completed */
    set_csr(hart, "minstret", 0xfffffff0);
    hart->cpu.insn_base += 1;
    set_csr(hart, "minstreth", 7);
    hart->cpu.insn_base += 1; /* the instruction after the last write sees just what was written */
    ck_assert_uint_eq(get_csr(hart, "instreth"), 7);
    ck_assert_uint_eq(get_csr(hart, "instret"), 0xfffffff0);
    hart->cpu.insn_base += 16;
    ck_assert_uint_eq(get_csr(hart, "minstreth"), 8);
    ck_assert_uint_eq(get_csr(hart, "minstret"), 0);
    hart->cpu.refund = 4; /* counted with their block, but not run */
    ck_assert_uint_eq(get_csr(hart, "minstret"), 0xfffffffc);
    hart->cpu.refund = 0;

    set_csr(hart, "mcountinhibit", 1); /* stops mcycle, not minstret */
    u64 cycle = get_csr(hart, "mcycle"), instret = get_csr(hart, "minstret");
    hart->cpu.insn_base += 100;
    ck_assert_uint_eq(get_csr(hart, "cycle"), cycle);
    ck_assert_uint_eq(get_csr(hart, "instret"), instret + 100);
    set_csr(hart, "mcycle", 5);
    ck_assert_uint_eq(get_csr(hart, "mcycle"), 5);
    set_csr(hart, "mcountinhibit", 0);
    hart->cpu.insn_base += 11;
    ck_assert_uint_eq(get_csr(hart, "mcycle"), 15);
    seen.time = 0x123456789;
    ck_assert_uint_eq(get_csr(hart, "time"), 0x23456789);
    ck_assert_uint_eq(get_csr(hart, "timeh"), 1);
    drop(hart);
}
END_TEST

START_TEST(high_halves)
{
    Hart *hart = new_hart("max32");
    set_csr(hart, "stimecmp", 0x11111111);
    set_csr(hart, "stimecmph", 0x22222222);
    ck_assert_uint_eq(hart->stimecmp, 0x2222222211111111);
    set_csr(hart, "stimecmp", 0x33333333);
    ck_assert_uint_eq(hart->stimecmp, 0x2222222233333333);
    op_csr(hart, "stimecmph", CSR_OP_CLEAR, 0x20000000);
    ck_assert_uint_eq(hart->stimecmp, 0x0222222233333333);
    drop(hart);
}
END_TEST

/* Floating point state. */

START_TEST(fp_state)
{
    Hart *hart = new_hart("max");
    CpuState *cpu = &hart->cpu;
    ck_assert(!can_read(hart, "fcsr") && !can_read(hart, "frm") && !can_write(hart, "fflags"));
    ck_assert_int_eq(cpu->fp_ready, 0);
    for (unsigned fs = FS_INITIAL; fs <= FS_CLEAN; fs++) {
        set_csr(hart, "mstatus", (u64)fs << MSTATUS_FS);
        ck_assert_int_eq(cpu->fp_ready, 0);
        ck_assert(can_read(hart, "fcsr"));
        ck_assert_uint_eq(mstatus_field(hart, MSTATUS_FS, 2), fs); /* reading does not dirty */
    }
    set_csr(hart, "fcsr", 0x45); /* RDN, NX | OF */
    ck_assert_uint_eq(mstatus_field(hart, MSTATUS_FS, 2), FS_DIRTY);
    ck_assert_int_eq(cpu->fp_ready, 1);
    ck_assert_uint_eq(cpu->frm, 2);
    ck_assert_uint_eq(cpu->fflags, 5);
    ck_assert(!set_csr(hart, "frm", 3));
    ck_assert_int_eq(cpu->fp_ready, 1);
    ck_assert(set_csr(hart, "frm", 4)); /* RMM: generated FP code must stop */
    ck_assert_int_eq(cpu->fp_ready, 0);
    ck_assert_uint_eq(get_csr(hart, "fcsr"), 0x85);
    set_csr(hart, "fflags", 0);
    ck_assert_uint_eq(get_csr(hart, "fcsr"), 0x80);
    set_csr(hart, "frm", 0);
    ck_assert_int_eq(cpu->fp_ready, 1);
    ck_assert_uint_eq(get_csr(hart, "mstatus") >> 63, 1);
    ck_assert(set_csr(hart, "sstatus", (u64)FS_CLEAN << MSTATUS_FS));
    ck_assert_int_eq(cpu->fp_ready, 0);
    drop(hart);
}
END_TEST

START_TEST(fp_guards)
{
    Hart *hart = new_hart("max");
    CpuState *cpu = &hart->cpu;
    seen.code = 0xe0000553;
    ck_assert(!riscv_guard_failed(cpu, GUARD_FP)); /* FS off */
    ck_assert_uint_eq(cpu->trap_cause, CAUSE_ILLEGAL);
    ck_assert_uint_eq(cpu->trap_value, 0xe0000553);
    ck_assert_uint_eq(cpu->status, CPU_TRAP);
    seen.code = 0xffff2108; /* compressed: only its 16 bits */
    ck_assert(!riscv_guard_failed(cpu, GUARD_FP));
    ck_assert_uint_eq(cpu->trap_value, 0x2108);

    set_csr(hart, "mstatus", (u64)FS_CLEAN << MSTATUS_FS);
    ck_assert(riscv_guard_failed(cpu, GUARD_FP));
    ck_assert_uint_eq(mstatus_field(hart, MSTATUS_FS, 2), FS_DIRTY);
    ck_assert_int_eq(cpu->fp_ready, 1);
    for (unsigned rm = 4; rm < 8; rm++) {
        set_csr(hart, "frm", rm);
        ck_assert(riscv_guard_failed(cpu, GUARD_FP));
        ck_assert_int_eq(riscv_guard_failed(cpu, GUARD_FP_RM), rm == 4);
        ck_assert_int_eq(cpu->fp_ready, 0);
    }
    drop(hart);
}
END_TEST

/* Address translation: what the softmmu hears. */

START_TEST(regimes)
{
    Hart *hart = new_hart("max");
    ck_assert_uint_eq(seen.regime.fetch_priv, PRIV_M);
    ck_assert_uint_eq(seen.regime.mode, PAGING_BARE);
    ck_assert(seen.regime.napot && !seen.regime.rv32);

    ck_assert(set_csr(hart, "satp", (u64)8 << 60 | (u64)0x1234 << 44 | 0x80123));
    ck_assert_uint_eq(seen.regime.mode, PAGING_SV39);
    ck_assert_uint_eq(seen.regime.asid, 0x1234);
    ck_assert_uint_eq(seen.regime.root, 0x80123000);
    unsigned n = seen.regimes;
    ck_assert(!set_csr(hart, "satp", (u64)8 << 60 | (u64)0x1234 << 44 | 0x80123)); /* nothing new */
    ck_assert(!set_csr(hart, "satp", (u64)9 << 60));
    ck_assert_uint_eq(seen.regimes, n);

    set_csr(hart, "mstatus",
            (u64)1 << MSTATUS_MPRV | (u64)PRIV_S << MSTATUS_MPP | (u64)1 << MSTATUS_SUM);
    ck_assert_uint_eq(seen.regime.fetch_priv, PRIV_M);
    ck_assert_uint_eq(seen.regime.data_priv, PRIV_S);
    ck_assert(seen.regime.sum && !seen.regime.mxr);
    ck_assert(set_csr(hart, "sstatus", (u64)1 << MSTATUS_MXR));
    ck_assert(!seen.regime.sum && seen.regime.mxr);
    ck_assert(set_csr(hart, "menvcfg", (u64)1 << ENVCFG_ADUE));
    ck_assert(seen.regime.adue && !seen.regime.pbmte);
    set_csr(hart, "menvcfg", (u64)1 << ENVCFG_PBMTE);
    ck_assert(!seen.regime.adue && seen.regime.pbmte);
    drop(hart);

    hart = new_hart("max32");
    set_csr(hart, "satp", 0x80000000 | 0x155u << 22 | 0x3fffff);
    ck_assert_uint_eq(seen.regime.mode, PAGING_SV32);
    ck_assert_uint_eq(seen.regime.asid, 0x155);
    ck_assert_uint_eq(seen.regime.root, 0x3fffff000);
    ck_assert(seen.regime.rv32);
    drop(hart);
}
END_TEST

/* Traps. */

static void raise_trap(Hart *hart, u64 pc, u64 cause, u64 value)
{
    hart->cpu.pc = pc;
    cpu_trap(&hart->cpu, cause, value);
    riscv_take_trap(&hart->cpu);
    ck_assert_uint_eq(hart->cpu.status, CPU_OK);
}

START_TEST(delegation)
{
    static const u8 modes[] = {PRIV_U, PRIV_S, PRIV_M};
    for (unsigned cause = 0; cause < 16; cause++) {
        for (unsigned m = 0; m < 3; m++) {
            for (unsigned delegated = 0; delegated < 2; delegated++) {
                Hart *hart = new_hart("max");
                bool deleg = delegated && (0xb3ff >> cause & 1);
                bool to_s = deleg && modes[m] != PRIV_M;
                set_csr(hart, "mtvec", 0x80000101); /* vectored, which exceptions ignore */
                set_csr(hart, "stvec", 0x90000201);
                set_csr(hart, "medeleg", delegated ? (u64)1 << cause : 0);
                hart->mstatus |= (u64)1 << MSTATUS_MIE | (u64)1 << MSTATUS_SIE;
                hart->cpu.res_host = 1;
                set_priv(hart, modes[m]);
                raise_trap(hart, 0x4444, cause, 0x5555);

                ck_assert_uint_eq(hart->priv, to_s ? PRIV_S : PRIV_M);
                ck_assert_uint_eq(seen.regime.fetch_priv, hart->priv);
                ck_assert_uint_eq(hart->cpu.pc, to_s ? 0x90000200 : 0x80000100);
                ck_assert_uint_eq(to_s ? hart->scause : hart->mcause, cause);
                ck_assert_uint_eq(to_s ? hart->sepc : hart->mepc, 0x4444);
                ck_assert_uint_eq(to_s ? hart->stval : hart->mtval, 0x5555);
                ck_assert_uint_eq(to_s ? hart->mepc | hart->mtval | hart->mcause
                                       : hart->sepc | hart->stval | hart->scause,
                                  0);
                ck_assert_uint_eq(mstatus_field(hart, MSTATUS_SIE, 1), !to_s);
                ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MIE, 1), to_s);
                ck_assert_uint_eq(mstatus_field(hart, MSTATUS_SPIE, 1), to_s);
                ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MPIE, 1), !to_s);
                ck_assert_uint_eq(
                    mstatus_field(hart, to_s ? MSTATUS_SPP : MSTATUS_MPP, to_s ? 1 : 2), modes[m]);
                drop(hart);
            }
        }
    }
}
END_TEST

START_TEST(trap_on_rv32)
{
    Hart *hart = new_hart("max32");
    hart->mie = 1 << IRQ_MTI;
    hart->mstatus |= (u64)1 << MSTATUS_MIE;
    atomic_store(&hart->cpu.irq_lines, 1 << IRQ_MTI);
    set_csr(hart, "mtvec", 0xfffffff1);
    ck_assert(riscv_take_interrupt(&hart->cpu));
    ck_assert_uint_eq(get_csr(hart, "mcause"), 0x80000007);
    ck_assert_uint_eq(hart->cpu.pc, 0xc); /* wraps */
    drop(hart);
}
END_TEST

START_TEST(returns)
{
    static const u8 modes[] = {PRIV_U, PRIV_S, PRIV_M};
    for (unsigned m = 0; m < 3; m++) {
        for (unsigned pie = 0; pie < 2; pie++) {
            Hart *hart = new_hart("max");
            set_csr(hart, "mepc", 0x80001235);
            set_csr(hart, "mstatus",
                    (u64)modes[m] << MSTATUS_MPP | (u64)pie << MSTATUS_MPIE |
                        (u64)1 << MSTATUS_MPRV | (u64)!pie << MSTATUS_MIE);
            hart->cpu.res_host = 1;
            riscv_mret(hart);
            ck_assert_uint_eq(hart->cpu.pc, 0x80001234);
            ck_assert_uint_eq(hart->priv, modes[m]);
            ck_assert_uint_eq(seen.regime.fetch_priv, modes[m]);
            ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MIE, 1), pie);
            ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MPIE, 1), 1);
            ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MPP, 2), PRIV_U);
            ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MPRV, 1), modes[m] == PRIV_M);
            drop(hart);
        }
    }
    for (unsigned spp = 0; spp < 2; spp++) {
        Hart *hart = new_hart("max");
        set_csr(hart, "sepc", 0x1236);
        set_csr(hart, "mstatus",
                (u64)spp << MSTATUS_SPP | (u64)spp << MSTATUS_SPIE | (u64)1 << MSTATUS_MPRV |
                    (u64)!spp << MSTATUS_SIE | (u64)PRIV_M << MSTATUS_MPP);
        riscv_sret(hart);
        ck_assert_uint_eq(hart->cpu.pc, 0x1236);
        ck_assert_uint_eq(hart->priv, spp ? PRIV_S : PRIV_U);
        ck_assert_uint_eq(mstatus_field(hart, MSTATUS_SIE, 1), spp);
        ck_assert_uint_eq(mstatus_field(hart, MSTATUS_SPIE, 1), 1);
        ck_assert_uint_eq(mstatus_field(hart, MSTATUS_SPP, 1), 0);
        ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MPRV, 1), 0);
        ck_assert_uint_eq(mstatus_field(hart, MSTATUS_MPP, 2), PRIV_M); /* not S's business */
        drop(hart);
    }
}
END_TEST

/* Interrupts. */

/* The hart of the interrupt tests: everything enabled, in `priv`, with these lines up. */
static Hart *interrupted(u8 priv, u64 lines, u64 mideleg, bool mie, bool sie)
{
    Hart *hart = new_hart("max");
    set_csr(hart, "mtvec", 0x80000001);
    set_csr(hart, "stvec", 0x90000001);
    set_csr(hart, "mideleg", mideleg);
    set_csr(hart, "mie", 0xaaa);
    set_csr(hart, "mstatus", (u64)mie << MSTATUS_MIE | (u64)sie << MSTATUS_SIE);
    set_priv(hart, priv);
    hart->cpu.pc = 0x4000;
    atomic_store(&hart->cpu.irq_lines, lines);
    return hart;
}

START_TEST(interrupt_priority)
{
    static const u8 order[] = {11, 3, 7, 9, 1, 5};
    for (unsigned hi = 0; hi < 6; hi++) {
        for (unsigned lo = hi; lo < 6; lo++) {
            Hart *hart = interrupted(PRIV_M, 1u << order[hi] | 1u << order[lo], 0, true, false);
            ck_assert(riscv_take_interrupt(&hart->cpu));
            ck_assert_uint_eq(hart->mcause, (u64)1 << 63 | order[hi]);
            ck_assert_uint_eq(hart->mepc, 0x4000);
            ck_assert_uint_eq(hart->mtval, 0);
            ck_assert_uint_eq(hart->cpu.pc, 0x80000000 + 4 * order[hi]);
            ck_assert(!riscv_take_interrupt(&hart->cpu)); /* MIE is 0 now */
            drop(hart);
        }
    }
    /* What goes to M mode comes before what goes to S mode, whatever its number. */
    Hart *hart = interrupted(PRIV_U, 1 << IRQ_STI | 1 << IRQ_SEI, 1 << IRQ_SEI, false, false);
    ck_assert(riscv_take_interrupt(&hart->cpu));
    ck_assert_uint_eq(hart->priv, PRIV_M);
    ck_assert_uint_eq(hart->mcause, (u64)1 << 63 | IRQ_STI);
    drop(hart);
}
END_TEST

START_TEST(interrupt_enables)
{
    static const u8 modes[] = {PRIV_U, PRIV_S, PRIV_M};
    for (unsigned i = 0; i < 3 * 2 * 2 * 2; i++) {
        u8 priv = modes[i / 8];
        bool deleg = i & 1, mie = i & 2, sie = i & 4;
        Hart *hart = interrupted(priv, 1 << IRQ_SEI, deleg ? 1 << IRQ_SEI : 0, mie, sie);
        bool taken = deleg ? priv == PRIV_U || (priv == PRIV_S && sie) : priv != PRIV_M || mie;
        ck_assert_int_eq(riscv_check_interrupt(hart), taken);
        ck_assert_int_eq(riscv_take_interrupt(&hart->cpu), taken);
        if (taken) {
            ck_assert_uint_eq(hart->priv, deleg ? PRIV_S : PRIV_M);
            ck_assert_uint_eq(hart->cpu.pc, deleg ? 0x90000024 : 0x80000024);
            ck_assert_uint_eq(deleg ? hart->scause : hart->mcause, (u64)1 << 63 | 9);
        } else {
            ck_assert_uint_eq(hart->cpu.pc, 0x4000);
        }
        ck_assert(riscv_wfi_wakes(&hart->cpu)); /* whatever the global enables and delegation */
        hart->mie = 0;
        ck_assert(!riscv_wfi_wakes(&hart->cpu));
        drop(hart);
    }
}
END_TEST

START_TEST(pending_views)
{
    Hart *hart = new_hart("max");
    atomic_store(&hart->cpu.irq_lines, 1 << IRQ_SEI | 1 << IRQ_MTI);
    ck_assert_uint_eq(get_csr(hart, "mip"), 1 << IRQ_SEI | 1 << IRQ_MTI);
    /* The line does not leak into the software bit. */
    op_csr(hart, "mip", CSR_OP_SET, 1 << IRQ_SSI);
    ck_assert_uint_eq(hart->mip_soft, 1 << IRQ_SSI);
    op_csr(hart, "mip", CSR_OP_CLEAR, 1 << IRQ_SEI | 1 << IRQ_MTI);
    ck_assert_uint_eq(get_csr(hart, "mip"), 1 << IRQ_SSI | 1 << IRQ_SEI | 1 << IRQ_MTI);
    set_csr(hart, "mip", 1 << IRQ_SEI);
    atomic_store(&hart->cpu.irq_lines, 0);
    ck_assert_uint_eq(get_csr(hart, "mip"), 1 << IRQ_SEI);

    /* sip and sie show what is delegated; only SSIP can be written through sip. */
    set_csr(hart, "mip", 0x222);
    ck_assert_uint_eq(get_csr(hart, "sip"), 0);
    set_csr(hart, "mideleg", 0x22);
    ck_assert_uint_eq(get_csr(hart, "sip"), 0x22);
    set_csr(hart, "sip", 0);
    ck_assert_uint_eq(get_csr(hart, "sip"), 0x20);
    set_csr(hart, "sie", ~(u64)0);
    ck_assert_uint_eq(get_csr(hart, "mie"), 0x22);
    ck_assert_uint_eq(get_csr(hart, "sie"), 0x22);
    set_csr(hart, "mie", 0x888);
    ck_assert_uint_eq(get_csr(hart, "sie"), 0);

    /* A device's SSIP is software's to clear. */
    set_csr(hart, "mip", 0);
    atomic_store(&hart->cpu.irq_lines, 1 << IRQ_SSI);
    ck_assert_uint_eq(get_csr(hart, "sip"), 1 << IRQ_SSI);
    op_csr(hart, "sip", CSR_OP_CLEAR, 1 << IRQ_SSI);
    ck_assert_uint_eq(get_csr(hart, "sip"), 0);
    drop(hart);
}
END_TEST

/* A write that makes an interrupt takeable leaves the block; others do not. */
START_TEST(enabling_leaves)
{
    Hart *hart = interrupted(PRIV_S, 0, 0x222, false, false);
    ck_assert(!op_csr(hart, "sstatus", CSR_OP_SET, 1 << MSTATUS_SIE));
    ck_assert_uint_eq(atomic_load(&hart->cpu.pending), 0);
    ck_assert(!op_csr(hart, "sstatus", CSR_OP_CLEAR, 1 << MSTATUS_SIE));
    atomic_store(&hart->cpu.irq_lines, 1 << IRQ_SEI);
    ck_assert(op_csr(hart, "sstatus", CSR_OP_SET, 1 << MSTATUS_SIE));
    ck_assert_uint_eq(atomic_load(&hart->cpu.pending), PENDING_INTERRUPT);
    ck_assert(!set_csr(hart, "sie", 0));
    ck_assert(set_csr(hart, "sie", 1 << IRQ_SEI));
    ck_assert(!set_csr(hart, "sscratch", 1));
    drop(hart);

    hart = interrupted(PRIV_M, 1 << IRQ_MTI, 0, false, false);
    set_csr(hart, "mstatus", (u64)PRIV_U << MSTATUS_MPP);
    ck_assert_uint_eq(atomic_load(&hart->cpu.pending), 0);
    riscv_mret(hart);
    ck_assert_uint_eq(atomic_load(&hart->cpu.pending), PENDING_INTERRUPT);
    drop(hart);
}
END_TEST

START_TEST(supervisor_timer)
{
    Hart *hart = new_hart("max");
    seen.time = 100;
    set_csr(hart, "mideleg", 0x222);
    set_csr(hart, "mie", 0x222);
    set_csr(hart, "mcounteren", 7);
    set_csr(hart, "mip", 1 << IRQ_STI); /* without STCE software's bit counts */
    ck_assert_uint_eq(get_csr(hart, "mip"), 1 << IRQ_STI);
    set_csr(hart, "stimecmp", 150);
    ck_assert_uint_eq(seen.arms, 0);
    set_csr(hart, "menvcfg", (u64)1 << ENVCFG_STCE);
    ck_assert_uint_eq(seen.arms, 1);
    ck_assert_uint_eq(seen.deadline, 150);
    ck_assert_uint_eq(get_csr(hart, "mip"), 0);
    set_csr(hart, "mip", 1 << IRQ_STI); /* read-only now */
    ck_assert_uint_eq(get_csr(hart, "sip"), 0);

    set_csr(hart, "mstatus", 1 << MSTATUS_SIE);
    set_priv(hart, PRIV_S);
    ck_assert(!riscv_take_interrupt(&hart->cpu));
    ck_assert(!set_csr(hart, "stimecmp", 200));
    ck_assert_uint_eq(seen.deadline, 200);
    seen.time = 199;
    ck_assert(!riscv_wfi_wakes(&hart->cpu));
    seen.time = 200;
    ck_assert(riscv_wfi_wakes(&hart->cpu));
    ck_assert_uint_eq(get_csr(hart, "sip"), 1 << IRQ_STI);
    ck_assert(riscv_take_interrupt(&hart->cpu));
    ck_assert_uint_eq(hart->scause, (u64)1 << 63 | IRQ_STI);
    set_csr(hart, "stimecmp", ~(u64)0);
    ck_assert_uint_eq(get_csr(hart, "sip"), 0);
    set_csr(hart, "sstatus", 1 << MSTATUS_SIE);
    ck_assert(set_csr(hart, "stimecmp", 10)); /* at once */
    set_priv(hart, PRIV_M);
    set_csr(hart, "menvcfg", 0);
    ck_assert_uint_eq(seen.deadline, ~(u64)0);
    ck_assert_uint_eq(get_csr(hart, "mip"), 1 << IRQ_STI); /* software's bit is back */
    drop(hart);
}
END_TEST

/* Physical memory protection. */

static void check_range(unsigned i, u64 first, u64 last)
{
    ck_assert_msg(seen.pmp.range[i].first == first && seen.pmp.range[i].last == last,
                  "entry %u: %llx-%llx, not %llx-%llx", i,
                  (unsigned long long)seen.pmp.range[i].first,
                  (unsigned long long)seen.pmp.range[i].last, (unsigned long long)first,
                  (unsigned long long)last);
}

static bool empty_range(unsigned i)
{
    return seen.pmp.range[i].first > seen.pmp.range[i].last;
}

START_TEST(pmp_ranges)
{
    enum { OFF = 0, TOR = 8, NA4 = 16, NAPOT = 24 };
    Hart *hart = new_hart("max");
    ck_assert_uint_eq(seen.pmp.count, 16);
    ck_assert_uint_eq(seen.pmp.default_m, 7);
    ck_assert_uint_eq(seen.pmp.default_su, 0);
    for (unsigned i = 0; i < 16; i++) {
        ck_assert(empty_range(i));
    }
    set_csr(hart, "pmpaddr0", 0x1000 >> 2);
    set_csr(hart, "pmpaddr1", 0x3000 >> 2);
    set_csr(hart, "pmpaddr2", 0x2000 >> 2); /* below entry 1 */
    set_csr(hart, "pmpaddr3", 0x80000000 >> 2);
    set_csr(hart, "pmpaddr4", 0x80000000 >> 2);
    set_csr(hart, "pmpaddr5", 0x80000000 >> 2 | 1);
    set_csr(hart, "pmpaddr6", 0x80000000 >> 2 | 0x1ff);
    set_csr(hart, "pmpaddr7", ~(u64)0);
    u8 cfg[8] = {TOR | PMP_R, TOR | PMP_R | PMP_W, TOR,  NA4 | PMP_X, NAPOT,
                 NAPOT,       NAPOT | 7,           NAPOT};
    u64 word;
    memcpy(&word, cfg, 8);
    ck_assert(set_csr(hart, "pmpcfg0", word));
    check_range(0, 0, 0xfff);
    check_range(1, 0x1000, 0x2fff);
    ck_assert(empty_range(2));
    check_range(3, 0x80000000, 0x80000003);
    check_range(4, 0x80000000, 0x80000007);
    check_range(5, 0x80000000, 0x8000000f);
    check_range(6, 0x80000000, 0x80000fff);
    check_range(7, 0, ((u64)1 << 57) - 1);
    ck_assert_uint_eq(seen.pmp.range[0].perms_m, 7); /* not locked: M mode is free */
    ck_assert_uint_eq(seen.pmp.range[0].perms_su, PMP_R);
    ck_assert_uint_eq(seen.pmp.range[1].perms_su, PMP_R | PMP_W);
    ck_assert_uint_eq(seen.pmp.range[3].perms_su, PMP_X);
    set_csr(hart, "pmpcfg0", 0x80 | TOR | PMP_X);
    ck_assert_uint_eq(seen.pmp.range[0].perms_m, PMP_X);
    drop(hart);

    hart = new_hart("max32");
    set_csr(hart, "pmpaddr15", 0xffffffff);
    set_csr(hart, "pmpcfg3", 0x1f000000);
    check_range(15, 0, ((u64)1 << 35) - 1);
    drop(hart);
}
END_TEST

START_TEST(pmp_locks)
{
    Hart *hart = new_hart("max");
    set_csr(hart, "pmpaddr0", 0x400);
    set_csr(hart, "pmpaddr1", 0x800);
    set_csr(hart, "pmpaddr2", 0xc00);
    set_csr(hart, "pmpcfg0", 0x8900); /* entry 1: locked, TOR, R */
    set_csr(hart, "pmpcfg0", 0x1f1f1f);
    ck_assert_uint_eq(get_csr(hart, "pmpcfg0"), 0x1f891f);
    set_csr(hart, "pmpaddr0", 1); /* the bottom of a locked TOR */
    set_csr(hart, "pmpaddr1", 1);
    set_csr(hart, "pmpaddr2", 1);
    ck_assert_uint_eq(get_csr(hart, "pmpaddr0"), 0x400);
    ck_assert_uint_eq(get_csr(hart, "pmpaddr1"), 0x800);
    ck_assert_uint_eq(get_csr(hart, "pmpaddr2"), 1);
    riscv_hart_reset(hart, 0);
    ck_assert_uint_eq(get_csr(hart, "pmpcfg0"), 0);

    /* Locked, but not TOR: the entry before stays free. An entry that is off can be locked, too. */
    set_csr(hart, "pmpcfg0", 0x8000);
    set_csr(hart, "pmpaddr0", 5);
    set_csr(hart, "pmpaddr1", 5);
    ck_assert_uint_eq(get_csr(hart, "pmpaddr0"), 5);
    ck_assert_uint_eq(get_csr(hart, "pmpaddr1"), 0);
    drop(hart);
}
END_TEST

/* The truth table of the chapter on Smepmp: L R W X, then what M and S/U may do. */
static const struct {
    u8 l, r, w, x;
    u8 m, su;
} mml_rules[] = {
    {0, 0, 0, 0, 0, 0},
    {0, 0, 0, 1, 0, PMP_X},
    {0, 0, 1, 0, PMP_R | PMP_W, PMP_R},
    {0, 0, 1, 1, PMP_R | PMP_W, PMP_R | PMP_W},
    {0, 1, 0, 0, 0, PMP_R},
    {0, 1, 0, 1, 0, PMP_R | PMP_X},
    {0, 1, 1, 0, 0, PMP_R | PMP_W},
    {0, 1, 1, 1, 0, PMP_R | PMP_W | PMP_X},
    {1, 0, 0, 0, 0, 0},
    {1, 0, 0, 1, PMP_X, 0},
    {1, 0, 1, 0, PMP_X, PMP_X},
    {1, 0, 1, 1, PMP_R | PMP_X, PMP_X},
    {1, 1, 0, 0, PMP_R, 0},
    {1, 1, 0, 1, PMP_R | PMP_X, 0},
    {1, 1, 1, 0, PMP_R | PMP_W, 0},
    {1, 1, 1, 1, PMP_R, PMP_R},
};

START_TEST(smepmp_rules)
{
    u8 cfg = mml_rules[_i].l << 7 | 3 << 3 | mml_rules[_i].x << 2 | mml_rules[_i].w << 1 |
             mml_rules[_i].r;
    Hart *hart = new_hart("max");
    set_csr(hart, "mseccfg", 1 << MSECCFG_MML | 1 << MSECCFG_RLB);
    set_csr(hart, "pmpcfg0", cfg);
    ck_assert_uint_eq(get_csr(hart, "pmpcfg0"), cfg);
    ck_assert_uint_eq(seen.pmp.range[0].perms_m, mml_rules[_i].m);
    ck_assert_uint_eq(seen.pmp.range[0].perms_su, mml_rules[_i].su);
    ck_assert_uint_eq(seen.pmp.default_m, PMP_R | PMP_W);
    drop(hart);

    /* Without RLB no rule that lets M mode execute can be added. */
    hart = new_hart("max");
    set_csr(hart, "mseccfg", 1 << MSECCFG_MML);
    set_csr(hart, "pmpcfg0", cfg);
    bool refused = mml_rules[_i].l && (mml_rules[_i].m & PMP_X);
    ck_assert_uint_eq(get_csr(hart, "pmpcfg0"), refused ? 0 : cfg);
    drop(hart);
}
END_TEST

START_TEST(smepmp_sticky)
{
    Hart *hart = new_hart("max");
    set_csr(hart, "mseccfg", 1 << MSECCFG_MMWP);
    ck_assert_uint_eq(seen.pmp.default_m, 0);
    set_csr(hart, "mseccfg", 0);
    ck_assert_uint_eq(get_csr(hart, "mseccfg"), 1 << MSECCFG_MMWP);
    set_csr(hart, "mseccfg", 7);
    set_csr(hart, "mseccfg", 0); /* RLB goes, MML and MMWP stay */
    ck_assert_uint_eq(get_csr(hart, "mseccfg"), 3);
    set_csr(hart, "mseccfg", 4);
    ck_assert_uint_eq(get_csr(hart, "mseccfg"), 7);
    set_csr(hart, "pmpcfg0", 0x98); /* locked */
    set_csr(hart, "pmpcfg0", 0x1b); /* ... but RLB lifts that */
    ck_assert_uint_eq(get_csr(hart, "pmpcfg0"), 0x1b);
    set_csr(hart, "pmpcfg0", 0x98);
    set_csr(hart, "mseccfg", 0);
    set_csr(hart, "mseccfg", 4); /* a locked rule: RLB can't come back */
    ck_assert_uint_eq(get_csr(hart, "mseccfg"), 3);
    set_csr(hart, "pmpcfg0", 0);
    ck_assert_uint_eq(get_csr(hart, "pmpcfg0"), 0x98);
    drop(hart);
}
END_TEST

/* The helpers behind the instructions. */

enum {
    INSN_MRET = 0x30200073,
    INSN_SRET = 0x10200073,
    INSN_WFI = 0x10500073,
    INSN_SFENCE = 0x12000073,
};

/* Runs a helper at pc 0x2000 and returns the status, which it clears. */
#define RUN(hart, fn, ...) \
    ((hart)->cpu.pc = 0x2000, helper_##fn(&(hart)->cpu, __VA_ARGS__), take_status(hart))

static u32 take_status(Hart *hart)
{
    u32 status = hart->cpu.status;
    hart->cpu.status = CPU_OK;
    return status;
}

static u32 csr_insn(const char *name, unsigned funct3, unsigned rd, unsigned rs1)
{
    return (u32)number(name) << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x73;
}

START_TEST(csr_helpers)
{
    Hart *hart = new_hart("max");
    u32 insn = csr_insn("mscratch", 1, 5, 6);
    ck_assert_uint_eq(helper_csr_swap(&hart->cpu, 77, insn, 0, 0), 0);
    ck_assert_uint_eq(helper_csr_read(&hart->cpu, csr_insn("mscratch", 2, 5, 0), 0, 0, 0), 77);
    ck_assert_uint_eq(take_status(hart), CPU_OK);

    /* Leaving: pc is the next instruction, rd is written. */
    ck_assert_uint_eq(RUN(hart, csr_full, (u64)8 << 60, csr_insn("satp", 1, 5, 6), 0, 0), CPU_NEXT);
    ck_assert_uint_eq(hart->cpu.pc, 0x2004);
    ck_assert_uint_eq(RUN(hart, csr_full, 0, csr_insn("satp", 1, 5, 6), 0, 0), CPU_NEXT);
    ck_assert_uint_eq(hart->cpu.x[5], (u64)8 << 60);
    ck_assert_uint_eq(RUN(hart, csr_full, 0, csr_insn("satp", 1, 5, 6), 0, 0), CPU_OK);
    ck_assert_uint_eq(hart->cpu.x[5], 0);
    ck_assert_uint_eq(RUN(hart, csr_write, (u64)8 << 60, csr_insn("satp", 1, 0, 6), 0, 0),
                      CPU_NEXT);
    ck_assert_uint_eq(hart->cpu.pc, 0x2004);

    /* Illegal: the instruction is the value, nothing changed. */
    set_priv(hart, PRIV_U);
    insn = csr_insn("satp", 1, 5, 6);
    ck_assert_uint_eq(RUN(hart, csr_full, 9, insn, 0, 0), CPU_TRAP);
    ck_assert_uint_eq(hart->cpu.trap_cause, CAUSE_ILLEGAL);
    ck_assert_uint_eq(hart->cpu.trap_value, insn);
    ck_assert_uint_eq(hart->satp, (u64)8 << 60);

    /* csrrs with x0 does not write: allowed on a read-only register; with another register it is
     * not. */
    set_priv(hart, PRIV_M);
    ck_assert_uint_eq(RUN(hart, csr_read, csr_insn("mhartid", 2, 5, 0), 0, 0, 0), CPU_OK);
    ck_assert_uint_eq(RUN(hart, csr_full, 0, csr_insn("mhartid", 2, 5, 6), 0, 0), CPU_TRAP);
    ck_assert_uint_eq(RUN(hart, csr_full, 0, csr_insn("mhartid", 1, 0, 0), 0, 0), CPU_TRAP);
    drop(hart);
}
END_TEST

/* Runs one instruction at pc 0x2000 as the translator makes it, by the interpreter. */
static CpuExit run_insn(Hart *hart, u32 insn)
{
    static IrInsn records[IR_MAX_INSNS];
    u8 page[4096] = {0};
    IrBlock block = {.insns = records};
    const IrInterpreter callbacks = {.guard_failed = riscv_guard_failed, .zero = mmu_zero};
    memcpy(page, &insn, 4);
    seen.code = insn;
    hart->cpu.pc = 0x2000;
    cpu_set_budget(&hart->cpu, 100);
    const TranslateInput in = {hart->model, page, 0, NULL, 1};
    ck_assert_int_eq(riscv_translate(&in, &block), TRANSLATE_OK);
    return ir_interpret(&block, &hart->cpu, &callbacks);
}

/* What translated code does to CSRs by itself is what riscv_csr_access would have done. */
START_TEST(inline_accesses)
{
    static const char *const names[] = {"sstatus", "sscratch", "sepc",       "scause",
                                        "stval",   "stvec",    "scounteren", "mscratch"};
    static const char *const models[] = {"max", "rv32", "rv64,c=off,f=off,d=off"};
    const unsigned shifts[] = {MSTATUS_SIE, MSTATUS_SPIE, MSTATUS_SPP, MSTATUS_FS, MSTATUS_FS + 1,
                               MSTATUS_SUM, MSTATUS_MXR,  31,          63};
    const size_t csrs = offsetof(Hart, priv);
    u64 random = 12345;
    Hart *hart = new_hart(models[_i]), *before = g_new(Hart, 1), *after = g_new(Hart, 1);

    for (unsigned round = 0; round < 60000; round++) {
        u64 word = 0;
        random = random * 6364136223846793005 + 1442695040888963407;
        u64 r = random >> 20;
        for (unsigned i = 0; i < ARRAY_LEN(shifts); i++) {
            word |= (r >> i & 1) << shifts[i];
        }
        const unsigned n = number(names[r >> 10 & 7]), funct3 = (1 + (r >> 13) % 3) | (r >> 15 & 4);
        const unsigned rs1 = r >> 18 & 1 ? 0 : funct3 & 4 ? (unsigned)(r >> 19) & 31 : 6;
        const unsigned rd = r >> 24 & 1 ? 0 : r >> 25 & 1 ? 6 : 5;
        const u32 insn = n << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x73;
        const u64 xlen = hart_xlen_mask(hart), operand = (r >> 26 & 1 ? word : ~word) & xlen;

        hart->priv = (u8[]){PRIV_U, PRIV_S, PRIV_S, PRIV_M}[r >> 27 & 3];
        hart->cpu.x[6] = operand;
        hart->cpu.x[5] = 0x55;
        hart->mideleg = r >> 29 & 1 ? 0x222 : 0;
        hart->mie = 0x222;
        atomic_store(&hart->cpu.irq_lines, r >> 30 & 1 ? 1 << IRQ_SEI : 0);
        riscv_update_regime(hart);
        riscv_update_fp(hart);
        atomic_store(&hart->cpu.pending, 0);
        if (riscv_check_interrupt(hart)) {
            hart->mstatus &= ~((u64)1 << MSTATUS_SIE); /* it would have been taken before */
            continue;
        }
        *before = *hart;

        const CpuExit exit = run_insn(hart, insn);
        *after = *hart;
        *hart = *before;
        static const CsrOp ops[4] = {CSR_OP_WRITE, CSR_OP_WRITE, CSR_OP_SET, CSR_OP_CLEAR};
        const CsrOp op = ops[funct3 & 3];
        const bool write = op == CSR_OP_WRITE || rs1;
        u64 old = 0;
        bool leave = false;
        const bool legal = riscv_csr_access(hart, n, op, write, funct3 & 4 ? rs1 : rs1 ? operand : 0,
                                            rd || op != CSR_OP_WRITE ? &old : NULL, &leave);
        ck_assert_msg((exit == EXIT_TRAP) == !legal, "%08x in mode %u", insn, hart->priv);
        if (!legal) {
            ck_assert_uint_eq(after->cpu.trap_value, insn);
            after->cpu.status = CPU_OK;
        } else {
            ck_assert_uint_eq(after->cpu.pc, 0x2004);
        }
        ck_assert_uint_eq(after->cpu.x[5], legal && rd == 5 ? old : 0x55);
        ck_assert_uint_eq(after->cpu.x[6], legal && rd == 6 ? old : operand);
        ck_assert_uint_eq(after->cpu.pending, hart->cpu.pending);
        ck_assert_uint_eq(after->cpu.fp_ready, hart->cpu.fp_ready);
        ck_assert_msg(!memcmp((u8 *)after + csrs, (u8 *)hart + csrs, sizeof(Hart) - csrs),
                      "%08x with %llx: mstatus %llx and %llx", insn, (unsigned long long)operand,
                      (unsigned long long)after->mstatus, (unsigned long long)hart->mstatus);
    }
    g_free(before);
    g_free(after);
    drop(hart);
}
END_TEST

/* A timer interrupt that sip shows already comes right when it is enabled. */
START_TEST(enabling_the_timer)
{
    Hart *hart = new_hart("max");
    const u32 enable = csr_insn("sstatus", 6, 0, 1 << MSTATUS_SIE);
    set_csr(hart, "mideleg", 0x222);
    set_csr(hart, "mie", 0x222);
    set_csr(hart, "menvcfg", (u64)1 << ENVCFG_STCE);
    set_csr(hart, "stimecmp", 300);
    set_priv(hart, PRIV_S);
    ck_assert_uint_ne(run_insn(hart, enable), EXIT_NEXT);
    ck_assert_uint_eq(atomic_load(&hart->cpu.pending), 0);
    set_csr(hart, "sstatus", 0);
    seen.time = 300;
    ck_assert_uint_eq(get_csr(hart, "sip"), 1 << IRQ_STI);
    ck_assert_uint_eq(run_insn(hart, enable), EXIT_NEXT);
    ck_assert_uint_eq(hart->cpu.pc, 0x2004);
    ck_assert_uint_eq(atomic_load(&hart->cpu.pending), PENDING_INTERRUPT);
    drop(hart);
}
END_TEST

/* `time` has a helper of its own. */
START_TEST(reading_the_time)
{
    for (unsigned c = 0; c < 12; c++) {
        static const u8 modes[] = {PRIV_U, PRIV_S, PRIV_M};
        Hart *hart = new_hart("max");
        const u32 insn = csr_insn("time", 2, 5, 0);
        u64 value;
        set_csr(hart, "mcounteren", c & 1 ? 2 : 5);
        set_csr(hart, "scounteren", c & 2 ? 2 : 5);
        set_priv(hart, modes[c / 4]);
        seen.time = 1234567;
        const bool legal = try_read(hart, number("time"), &value);
        ck_assert_uint_eq(run_insn(hart, insn) != EXIT_TRAP, legal);
        ck_assert_uint_eq(legal ? hart->cpu.x[5] : hart->cpu.trap_value, legal ? seen.time : insn);
        drop(hart);
    }
}
END_TEST

START_TEST(calls_and_returns)
{
    static const struct {
        u8 priv;
        bool tsr;
        bool mret, sret; /* allowed */
        u8 ecall;
    } cases[] = {
        {PRIV_U, false, false, false, 8}, {PRIV_S, false, false, true, 9},
        {PRIV_S, true, false, false, 9},  {PRIV_M, false, true, true, 11},
        {PRIV_M, true, true, true, 11},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        for (unsigned what = 0; what < 3; what++) {
            Hart *hart = new_hart("max");
            set_csr(hart, "mstatus", (u64)cases[i].tsr << MSTATUS_TSR);
            set_csr(hart, "mepc", 0x6000);
            set_csr(hart, "sepc", 0x7000);
            set_priv(hart, cases[i].priv);
            if (what == 0) {
                ck_assert_uint_eq(RUN(hart, mret, INSN_MRET, 0, 0, 0),
                                  cases[i].mret ? CPU_NEXT : CPU_TRAP);
                ck_assert_uint_eq(hart->cpu.pc, cases[i].mret ? 0x6000 : 0x2000);
            } else if (what == 1) {
                ck_assert_uint_eq(RUN(hart, sret, INSN_SRET, 0, 0, 0),
                                  cases[i].sret ? CPU_NEXT : CPU_TRAP);
                ck_assert_uint_eq(hart->cpu.pc, cases[i].sret ? 0x7000 : 0x2000);
                ck_assert(cases[i].sret || hart->cpu.trap_value == INSN_SRET);
            } else {
                ck_assert_uint_eq(run_insn(hart, 0x73), EXIT_TRAP);
                ck_assert_uint_eq(hart->cpu.pc, 0x2000);
                ck_assert_uint_eq(hart->cpu.trap_cause, cases[i].ecall);
                ck_assert_uint_eq(hart->cpu.trap_value, 0);
            }
            drop(hart);
        }
    }
}
END_TEST

START_TEST(wait_for_interrupt)
{
    static const struct {
        u8 priv;
        bool tw, legal;
    } cases[] = {
        {PRIV_M, false, true}, {PRIV_M, true, true},   {PRIV_S, false, true},
        {PRIV_S, true, false}, {PRIV_U, false, false}, {PRIV_U, true, false},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        Hart *hart = new_hart("max");
        set_csr(hart, "mstatus", (u64)cases[i].tw << MSTATUS_TW);
        set_csr(hart, "mie", 1 << IRQ_MTI);
        set_priv(hart, cases[i].priv);
        ck_assert_uint_eq(RUN(hart, wfi, INSN_WFI, 0, 0, 0), cases[i].legal ? CPU_HALT : CPU_TRAP);
        ck_assert_uint_eq(hart->cpu.pc, cases[i].legal ? 0x2004 : 0x2000);
        if (cases[i].legal) {
            atomic_store(&hart->cpu.irq_lines, 1 << IRQ_MTI);
            ck_assert_uint_eq(RUN(hart, wfi, INSN_WFI, 0, 0, 0), CPU_NEXT);
            ck_assert_uint_eq(hart->cpu.pc, 0x2004);
        }
        drop(hart);
    }
    Hart *hart = new_hart("max,s=off");
    set_priv(hart, PRIV_U);
    ck_assert_uint_eq(RUN(hart, wfi, INSN_WFI, 0, 0, 0), CPU_HALT);
    drop(hart);
}
END_TEST

START_TEST(fences)
{
    static const struct {
        u8 priv;
        bool tvm, legal, inval_legal;
    } cases[] = {
        {PRIV_M, true, true, true},
        {PRIV_S, false, true, true},
        {PRIV_S, true, false, true},
        {PRIV_U, false, false, false},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        Hart *hart = new_hart("max");
        set_csr(hart, "mstatus", (u64)cases[i].tvm << MSTATUS_TVM);
        set_priv(hart, cases[i].priv);
        ck_assert_uint_eq(RUN(hart, sfence_vma, 1, 2, INSN_SFENCE, 0),
                          cases[i].legal ? CPU_NEXT : CPU_TRAP);
        ck_assert_uint_eq(seen.fences, cases[i].legal);
        ck_assert(!seen.fence_has_va && !seen.fence_has_asid);
        ck_assert_uint_eq(RUN(hart, sfence_inval, 0x18000073, 0, 0, 0),
                          cases[i].inval_legal ? CPU_OK : CPU_TRAP);
        drop(hart);
    }
    Hart *hart = new_hart("max32");
    RUN(hart, sfence_vma, 0xffffffff80001234, 0xfffff, INSN_SFENCE | 5 << 15, 0);
    ck_assert(seen.fence_has_va && !seen.fence_has_asid);
    ck_assert_uint_eq(seen.fence_va, 0x80001234);
    RUN(hart, sfence_vma, 0, 0xfffff, INSN_SFENCE | 5 << 20, 0);
    ck_assert(!seen.fence_has_va && seen.fence_has_asid);
    ck_assert_uint_eq(seen.fence_asid, 0x1ff);
    ck_assert_uint_eq(RUN(hart, fence_i, 0x100f, 0, 0, 0), CPU_NEXT);
    ck_assert_uint_eq(hart->cpu.pc, 0x2004);
    ck_assert_uint_eq(seen.fence_is, 1);
    drop(hart);
}
END_TEST

/* cbo.inval, clean, flush, zero with the field that enables them in menvcfg and senvcfg. */
START_TEST(cache_blocks)
{
    static const struct {
        u32 op;
        u64 enable;
    } ops[] = {{0, 1 << ENVCFG_CBIE},
               {0, 3 << ENVCFG_CBIE},
               {1, 1 << ENVCFG_CBCFE},
               {2, 1 << ENVCFG_CBCFE},
               {4, 1 << ENVCFG_CBZE}};
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++) {
        for (unsigned c = 0; c < 4; c++) {
            Hart *hart = new_hart("max");
            u32 insn = ops[i].op << 20 | 5 << 15 | 2 << 12 | 0xf;
            set_csr(hart, "menvcfg",
                    c & 1 ? ops[i].enable : 0xf1 & ~(ops[i].enable | (u64)3 << ENVCFG_CBIE));
            set_csr(hart, "senvcfg", c & 2 ? ops[i].enable : 0);
            unsigned count = 0;
            static const u8 modes[] = {PRIV_M, PRIV_S, PRIV_U};
            for (unsigned m = 0; m < 3; m++) {
                set_priv(hart, modes[m]);
                bool legal = modes[m] == PRIV_M || ((c & 1) && (modes[m] == PRIV_S || (c & 2)));
                if (ops[i].op == 0 && !(c & 1)) {
                    legal = modes[m] == PRIV_M;
                }
                hart->cpu.x[5] = 0x1234;
                ck_assert_uint_eq(run_insn(hart, insn) != EXIT_TRAP, legal);
                count += legal;
                ck_assert_uint_eq(seen.cbos, count);
                if (legal) {
                    ck_assert_int_eq(seen.cbo_zero, ops[i].op == 4);
                    ck_assert_uint_eq(seen.cbo_va, 0x1234);
                } else {
                    ck_assert_uint_eq(hart->cpu.trap_value, insn);
                }
            }
            drop(hart);
        }
    }
}
END_TEST

START_TEST(dump)
{
    Hart *hart = new_hart("max");
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    hart->cpu.x[10] = 0xdeadbeef;
    riscv_dump_state(f, &hart->cpu);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, " pc       0000000000001000\n"));
    ck_assert_ptr_nonnull(strstr(text, "x10/a0   00000000deadbeef"));
    ck_assert_ptr_nonnull(strstr(text, " mhartid  0000000000000003\n"));
    free(text);
    drop(hart);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("csr");
    TCase *tc = tcase_create("csr");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, existence, 0, 6);
    tcase_add_test(tc, names);
    tcase_add_loop_test(tc, legal_values, 0, ARRAY_LEN(warl));
    tcase_add_test(tc, set_and_clear);
    tcase_add_test(tc, constants);
    tcase_add_test(tc, without_extensions);
    tcase_add_test(tc, tvm_guards_satp);
    tcase_add_test(tc, counter_enables);
    tcase_add_test(tc, stimecmp_enables);
    tcase_add_test(tc, counters);
    tcase_add_test(tc, high_halves);
    tcase_add_test(tc, fp_state);
    tcase_add_test(tc, fp_guards);
    tcase_add_test(tc, regimes);
    tcase_add_test(tc, delegation);
    tcase_add_test(tc, trap_on_rv32);
    tcase_add_test(tc, returns);
    tcase_add_test(tc, interrupt_priority);
    tcase_add_test(tc, interrupt_enables);
    tcase_add_test(tc, pending_views);
    tcase_add_test(tc, enabling_leaves);
    tcase_add_test(tc, supervisor_timer);
    tcase_add_test(tc, pmp_ranges);
    tcase_add_test(tc, pmp_locks);
    tcase_add_loop_test(tc, smepmp_rules, 0, ARRAY_LEN(mml_rules));
    tcase_add_test(tc, smepmp_sticky);
    tcase_add_test(tc, csr_helpers);
    tcase_add_loop_test(tc, inline_accesses, 0, 3);
    tcase_add_test(tc, enabling_the_timer);
    tcase_add_test(tc, reading_the_time);
    tcase_add_test(tc, calls_and_returns);
    tcase_add_test(tc, wait_for_interrupt);
    tcase_add_test(tc, fences);
    tcase_add_test(tc, cache_blocks);
    tcase_add_test(tc, dump);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
