/*
 * A hart's life: made, reset, dumped; and the state that is derived from its CSRs for those who
 * can't look at CSRs: the translation regime and PMP ranges for the softmmu, fp_ready for generated
 * code.
 */
#include <stdlib.h>
#include <string.h>

#include "frontend-riscv/csr.h"
#include "frontend-riscv/frontend.h"
#include "frontend-riscv/system.h"
#include "softmmu/softmmu.h"

enum { HART_ALIGN = 64 };

Hart *riscv_hart_new(const HartModel *model, unsigned index, const HartCallbacks *callbacks,
                     void *machine)
{
    Hart *hart = aligned_alloc(HART_ALIGN, ALIGN_UP(sizeof(Hart), HART_ALIGN));
    g_assert(hart);
    memset(hart, 0, sizeof(*hart));
    hart->cpu.index = index;
    hart->cpu.machine = machine;
    hart->model = model;
    hart->callbacks = callbacks;
    return hart;
}

void riscv_hart_free(Hart *hart)
{
    free(hart);
}

void riscv_hart_reset(Hart *hart, u64 pc)
{
    CpuState *cpu = &hart->cpu;

    memset(cpu->x, 0, sizeof(cpu->x));
    memset(cpu->f, 0, sizeof(cpu->f));
    cpu->pc = pc & hart_xlen_mask(hart) & ~(u64)(hart_has(hart, RISCV_EXT_C) ? 1 : 3);
    cpu->status = CPU_OK;
    cpu->refund = 0;
    cpu->frm = 0;
    cpu->fflags = 0;
    cpu->res_host = 0;

    /* Everything from priv up to the end is CSR state, and 0 after reset but for what follows. */
    memset((char *)hart + offsetof(Hart, priv), 0, sizeof(*hart) - offsetof(Hart, priv));
    hart->priv = PRIV_M;
    hart->mstatus = hart_has(hart, RISCV_EXT_U) ? 0 : (u64)PRIV_M << MSTATUS_MPP;
    hart->misa =
        riscv_misa_letters(hart->model->ext) | (hart->model->rv32 ? (u64)1 << 30 : (u64)2 << 62);
    hart->stimecmp = ~(u64)0;
    hart->mcycle_offset = hart->minstret_offset = 0 - cpu_insns(cpu);

    mmu_flush_all(cpu);
    riscv_update_pmp(hart);
    riscv_update_regime(hart);
    riscv_update_fp(hart);
    riscv_update_zero(hart);
}

static u8 data_priv(const Hart *hart)
{
    return mstatus_field(hart, MSTATUS_MPRV, 1) ? (u8)mstatus_field(hart, MSTATUS_MPP, 2)
                                                : hart->priv;
}

void riscv_update_zero(Hart *hart)
{
    bool s = hart->menvcfg >> ENVCFG_CBZE & 1;
    hart->zero_by_mode[PRIV_M] = true;
    hart->zero_by_mode[PRIV_S] = s;
    hart->zero_by_mode[PRIV_U] =
        s && (!hart_has(hart, RISCV_EXT_S) || (hart->senvcfg >> ENVCFG_CBZE & 1));
    hart->may_zero = hart->zero_by_mode[hart->priv];
}

/* (No copy of the whole: words read just after bytes in them were written stall the host.) */
void riscv_update_mode(Hart *hart)
{
    TranslationRegime *r = &hart->regime;
    const u8 data = data_priv(hart);
    const bool sum = mstatus_field(hart, MSTATUS_SUM, 1), mxr = mstatus_field(hart, MSTATUS_MXR, 1);

    hart->may_zero = hart->zero_by_mode[hart->priv];
    if (r->fetch_priv != hart->priv || r->data_priv != data || r->sum != sum || r->mxr != mxr) {
        r->fetch_priv = hart->priv;
        r->data_priv = data;
        r->sum = sum;
        r->mxr = mxr;
        mmu_set_mode(&hart->cpu, hart->priv, data, sum, mxr);
    }
}

bool riscv_update_regime(Hart *hart)
{
    TranslationRegime r = {0};
    bool rv32 = hart->model->rv32;
    u64 satp = hart->satp;

    if (rv32) {
        r.mode = satp >> 31 & 1 ? PAGING_SV32 : PAGING_BARE;
        r.asid = (u16)bits(satp, 22, 9);
        r.root = bits(satp, 0, 22) << 12;
    } else {
        r.mode = satp >> 60 ? PAGING_SV39 : PAGING_BARE;
        r.asid = (u16)bits(satp, 44, 16);
        r.root = bits(satp, 0, 44) << 12;
    }
    r.fetch_priv = hart->priv;
    r.data_priv = data_priv(hart);
    r.sum = mstatus_field(hart, MSTATUS_SUM, 1);
    r.mxr = mstatus_field(hart, MSTATUS_MXR, 1);
    r.adue = hart->menvcfg >> ENVCFG_ADUE & 1;
    r.pbmte = hart->menvcfg >> ENVCFG_PBMTE & 1;
    r.napot = hart_has(hart, RISCV_EXT_Svnapot);
    r.rv32 = rv32;

    hart->may_zero = hart->zero_by_mode[hart->priv];
    if (regime_equal(&r, &hart->regime)) {
        return false;
    }
    hart->regime = r;
    mmu_set_regime(&hart->cpu, &r);
    return true;
}

bool riscv_update_fp(Hart *hart)
{
    bool ready = mstatus_field(hart, MSTATUS_FS, 2) == FS_DIRTY && hart->cpu.frm <= 3;
    bool lost = hart->cpu.fp_ready && !ready;
    hart->cpu.fp_ready = ready;
    return lost;
}

/* What one PMP entry allows. With mseccfg.MML the bits L, R, W, X are looked up in the table of the
 * chapter on Smepmp; without, M mode is bound by locked entries only. */
static void pmp_permissions(const Hart *hart, u8 cfg, PmpRange *range)
{
    static const struct {
        u8 m, su;
    } mml[16] = {
        /* index: L, then X, W, R as in the register: bit 0 = R, 1 = W, 2 = X */
        [0] = {0, 0},
        [PMP_X] = {0, PMP_X},
        [PMP_W] = {PMP_R | PMP_W, PMP_R},
        [PMP_W | PMP_X] = {PMP_R | PMP_W, PMP_R | PMP_W},
        [PMP_R] = {0, PMP_R},
        [PMP_R | PMP_X] = {0, PMP_R | PMP_X},
        [PMP_R | PMP_W] = {0, PMP_R | PMP_W},
        [PMP_R | PMP_W | PMP_X] = {0, PMP_R | PMP_W | PMP_X},
        [8] = {0, 0},
        [8 | PMP_X] = {PMP_X, 0},
        [8 | PMP_W] = {PMP_X, PMP_X},
        [8 | PMP_W | PMP_X] = {PMP_R | PMP_X, PMP_X},
        [8 | PMP_R] = {PMP_R, 0},
        [8 | PMP_R | PMP_X] = {PMP_R | PMP_X, 0},
        [8 | PMP_R | PMP_W] = {PMP_R | PMP_W, 0},
        [8 | PMP_R | PMP_W | PMP_X] = {PMP_R, PMP_R},
    };
    bool locked = cfg >> PMPCFG_L & 1;
    u8 rwx = cfg & 7;

    if (hart->mseccfg >> MSECCFG_MML & 1) {
        range->perms_m = mml[rwx | (locked ? 8 : 0)].m;
        range->perms_su = mml[rwx | (locked ? 8 : 0)].su;
    } else {
        range->perms_m = locked ? rwx : PMP_R | PMP_W | PMP_X;
        range->perms_su = rwx;
    }
}

void riscv_decode_pmp(const Hart *hart, PmpState *out)
{
    memset(out, 0, sizeof(*out));
    out->count = hart->model->pmp_entries;
    for (unsigned i = 0; i < out->count; i++) {
        PmpRange *range = &out->range[i];
        u64 addr = hart->pmpaddr[i], below = i ? hart->pmpaddr[i - 1] : 0, size;

        range->first = 1; /* empty */
        range->last = 0;
        pmp_permissions(hart, hart->pmpcfg[i], range);
        switch (bits(hart->pmpcfg[i], PMPCFG_A, 2)) {
        case PMP_TOR:
            if (below < addr) {
                range->first = below << 2;
                range->last = (addr << 2) - 1;
            }
            break;
        case PMP_NA4:
            range->first = addr << 2;
            range->last = range->first + 3;
            break;
        case PMP_NAPOT:
            size = (addr ^ (addr + 1)) + 1; /* in words of 4 bytes: 2 << number of trailing ones */
            range->first = (addr & ~(size - 1)) << 2;
            range->last = range->first + (size << 2) - 1;
            break;
        }
    }
    bool mml = hart->mseccfg >> MSECCFG_MML & 1, mmwp = hart->mseccfg >> MSECCFG_MMWP & 1;
    out->default_m = mmwp ? 0 : mml ? PMP_R | PMP_W : PMP_R | PMP_W | PMP_X;
    out->default_su = out->count ? 0 : PMP_R | PMP_W | PMP_X;
}

void riscv_update_pmp(Hart *hart)
{
    PmpState state;
    riscv_decode_pmp(hart, &state);
    mmu_set_pmp(&hart->cpu, &state);
}

bool riscv_guard_failed(CpuState *cpu, unsigned guard)
{
    Hart *hart = hart_of(cpu);

    if (guard == GUARD_ILLEGAL || mstatus_field(hart, MSTATUS_FS, 2) == FS_OFF ||
        (guard == GUARD_FP_RM && cpu->frm > 4)) {
        u16 half[2] = {0, 0};
        u32 insn = 0;
        if (mmu_debug_read(cpu, cpu->pc, &half[0], 2)) {
            insn = half[0];
            if ((half[0] & 3) == 3 && mmu_debug_read(cpu, cpu->pc + 2, &half[1], 2)) {
                insn |= (u32)half[1] << 16;
            }
        }
        return cpu_trap(cpu, CAUSE_ILLEGAL, insn);
    }
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_FS, 2, FS_DIRTY);
    riscv_update_fp(hart);
    return true;
}

static const char *const x_names[32] = {
    "zero", "ra", "sp", "gp", "tp",  "t0",  "t1", "t2", "s0", "s1", "a0",
    "a1",   "a2", "a3", "a4", "a5",  "a6",  "a7", "s2", "s3", "s4", "s5",
    "s6",   "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
};
static const char *const f_names[32] = {
    "ft0", "ft1", "ft2", "ft3", "ft4",  "ft5",  "ft6", "ft7", "fs0",  "fs1",  "fa0",
    "fa1", "fa2", "fa3", "fa4", "fa5",  "fa6",  "fa7", "fs2", "fs3",  "fs4",  "fs5",
    "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
};

static void dump_registers(FILE *out, char letter, const char *const *names, const u64 *values,
                           int digits)
{
    for (unsigned i = 0; i < 32; i++) {
        char name[16];
        snprintf(name, sizeof(name), "%c%u/%s", letter, i, names[i]);
        fprintf(out, " %-8s %0*llx%s", name, digits, (unsigned long long)values[i],
                i % 4 == 3 ? "\n" : "");
    }
}

void riscv_dump_state(FILE *out, CpuState *cpu)
{
    static const char *const shown[] = {
        "mhartid", "mstatus", "mip",    "mie",   "mideleg", "medeleg",  "mtvec",    "stvec", "mepc",
        "sepc",    "mcause",  "scause", "mtval", "stval",   "mscratch", "sscratch", "satp",
    };
    Hart *hart = hart_of(cpu);
    int digits = hart->model->rv32 ? 8 : 16;

    fprintf(out, " pc       %0*llx\n", digits, (unsigned long long)cpu->pc);
    for (unsigned i = 0; i < ARRAY_LEN(shown); i++) {
        u64 value;
        if (riscv_csr_peek(hart, (unsigned)riscv_csr_number(shown[i]), &value)) {
            fprintf(out, " %-8s %0*llx\n", shown[i], digits, (unsigned long long)value);
        }
    }
    dump_registers(out, 'x', x_names, cpu->x, digits);
    if (hart_has(hart, RISCV_EXT_F)) {
        dump_registers(out, 'f', f_names, cpu->f, 16);
    }
}

bool riscv_register_find(CpuState *cpu, const char *name, u64 *value)
{
    if (strcmp(name, "pc") == 0) {
        *value = cpu->pc;
        return true;
    }
    if (strcmp(name, "fp") == 0) {
        name = "s0";
    }
    for (unsigned i = 0; i < 32; i++) {
        char x[4], f[4];
        snprintf(x, sizeof(x), "x%u", i);
        snprintf(f, sizeof(f), "f%u", i);
        if (strcmp(name, x) == 0 || strcmp(name, x_names[i]) == 0) {
            *value = cpu->x[i];
            return true;
        }
        if (strcmp(name, f) == 0 || strcmp(name, f_names[i]) == 0) {
            *value = cpu->f[i];
            return true;
        }
    }
    int number = riscv_csr_number(name);
    return number >= 0 && riscv_csr_peek(hart_of(cpu), (unsigned)number, value);
}

const char *riscv_mode_name(CpuState *cpu)
{
    static const char *const names[] = {"U", "S", "?", "M"};
    return names[hart_of(cpu)->priv & 3];
}
