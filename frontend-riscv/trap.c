/*
 * Traps: exceptions and interrupts are entered, and left again by MRET and SRET. The mode that
 * handles one is chosen by delegation; the handler finds cause, pc and value in its CSRs, and the
 * interrupted mode and interrupt enable on the two-deep stack in mstatus. (Privileged spec,
 * "Privilege and Global Interrupt-Enable Stack in mstatus", "Machine Trap Delegation Registers",
 * "Machine Interrupt Registers".)
 */
#include "core/base/log.h"
#include "frontend-riscv/frontend.h"
#include "frontend-riscv/system.h"

/* Highest first. */
static const u8 interrupt_priority[] = {IRQ_MEI, IRQ_MSI, IRQ_MTI, IRQ_SEI, IRQ_SSI, IRQ_STI};

static const char *const exception_names[] = {
    [CAUSE_FETCH_MISALIGNED] = "misaligned_fetch",
    [CAUSE_FETCH_ACCESS] = "fault_fetch",
    [CAUSE_ILLEGAL] = "illegal_instruction",
    [CAUSE_BREAKPOINT] = "breakpoint",
    [CAUSE_LOAD_MISALIGNED] = "misaligned_load",
    [CAUSE_LOAD_ACCESS] = "fault_load",
    [CAUSE_STORE_MISALIGNED] = "misaligned_store",
    [CAUSE_STORE_ACCESS] = "fault_store",
    [CAUSE_ECALL_U] = "user_ecall",
    [CAUSE_ECALL_S] = "supervisor_ecall",
    [CAUSE_ECALL_M] = "machine_ecall",
    [CAUSE_FETCH_PAGE] = "exec_page_fault",
    [CAUSE_LOAD_PAGE] = "load_page_fault",
    [CAUSE_STORE_PAGE] = "store_page_fault",
};
static const char *const interrupt_names[] = {
    [IRQ_SSI] = "s_software", [IRQ_MSI] = "m_software", [IRQ_STI] = "s_timer",
    [IRQ_MTI] = "m_timer",    [IRQ_SEI] = "s_external", [IRQ_MEI] = "m_external",
};

static const char *cause_name(bool interrupt, unsigned code)
{
    const char *name = NULL;
    if (interrupt) {
        name = code < ARRAY_LEN(interrupt_names) ? interrupt_names[code] : NULL;
    } else {
        name = code < ARRAY_LEN(exception_names) ? exception_names[code] : NULL;
    }
    return name ? name : "unknown";
}

static u64 vector(u64 tvec, bool interrupt, unsigned code)
{
    return (tvec & ~(u64)3) + (interrupt && (tvec & 3) == 1 ? 4 * (u64)code : 0);
}

static void enter(Hart *hart, bool to_s, bool interrupt, unsigned code, u64 value)
{
    CpuState *cpu = &hart->cpu;
    u64 xlen = hart_xlen_mask(hart);
    u64 cause = code | (interrupt ? (u64)1 << (hart->model->rv32 ? 31 : 63) : 0);
    u64 tvec;

    value &= xlen;
    log_printf(LOG_INT,
               "riscv_cpu_do_interrupt: hart:%u, async:%d, cause:%016llx, epc:0x%016llx, "
               "tval:0x%016llx, desc=%s\n",
               cpu->index, interrupt, (unsigned long long)code, (unsigned long long)cpu->pc,
               (unsigned long long)value, cause_name(interrupt, code));

    if (to_s) {
        hart->scause = cause;
        hart->sepc = cpu->pc;
        hart->stval = value;
        hart->mstatus =
            set_bits(hart->mstatus, MSTATUS_SPIE, 1, mstatus_field(hart, MSTATUS_SIE, 1));
        hart->mstatus = set_bits(hart->mstatus, MSTATUS_SIE, 1, 0);
        hart->mstatus = set_bits(hart->mstatus, MSTATUS_SPP, 1, hart->priv);
        hart->priv = PRIV_S;
        tvec = hart->stvec;
    } else {
        hart->mcause = cause;
        hart->mepc = cpu->pc;
        hart->mtval = value;
        hart->mstatus =
            set_bits(hart->mstatus, MSTATUS_MPIE, 1, mstatus_field(hart, MSTATUS_MIE, 1));
        hart->mstatus = set_bits(hart->mstatus, MSTATUS_MIE, 1, 0);
        hart->mstatus = set_bits(hart->mstatus, MSTATUS_MPP, 2, hart->priv);
        hart->priv = PRIV_M;
        tvec = hart->mtvec;
    }
    cpu->pc = vector(tvec, interrupt, code) & xlen;
    cpu->res_host = 0;
    riscv_update_mode(hart);
}

void riscv_take_trap(CpuState *cpu)
{
    Hart *hart = hart_of(cpu);
    unsigned code = (unsigned)cpu->trap_cause;
    bool to_s = hart->priv != PRIV_M && code < 64 && (hart->medeleg >> code & 1);

    cpu->status = CPU_OK;
    enter(hart, to_s, false, code, cpu->trap_value);
}

void riscv_update_stip(Hart *hart)
{
    hart->stip = (hart->menvcfg >> ENVCFG_STCE & 1) &&
                 hart->callbacks->read_time(hart->cpu.machine) >= hart->stimecmp;
    if (hart->stip) { /* whoever enables interrupts now has to look */
        hart->waits_for_sie = (u64)1 << MSTATUS_SIE;
    }
}

u64 riscv_mip(Hart *hart)
{
    u64 lines = atomic_load(&hart->cpu.irq_lines), soft = hart->mip_soft;
    if (hart->menvcfg >> ENVCFG_STCE & 1) { /* stimecmp alone makes STIP */
        lines &= ~((u64)1 << IRQ_STI);
        soft &= ~((u64)1 << IRQ_STI);
    }
    return lines | soft | (u64)hart->stip << IRQ_STI;
}

int riscv_pick_interrupt(Hart *hart, bool *to_s)
{
    u64 pending = riscv_mip(hart) & hart->mie;
    hart->waits_for_sie = pending & hart->mideleg ? (u64)1 << MSTATUS_SIE : 0;
    if (!pending) {
        return -1;
    }
    bool m_on = hart->priv != PRIV_M || mstatus_field(hart, MSTATUS_MIE, 1);
    bool s_on =
        hart->priv == PRIV_U || (hart->priv == PRIV_S && mstatus_field(hart, MSTATUS_SIE, 1));
    u64 m = m_on ? pending & ~hart->mideleg : 0;
    u64 s = s_on ? pending & hart->mideleg : 0;
    u64 candidates = m ? m : s;

    *to_s = !m;
    for (unsigned i = 0; i < ARRAY_LEN(interrupt_priority); i++) {
        if (candidates >> interrupt_priority[i] & 1) {
            return interrupt_priority[i];
        }
    }
    return -1;
}

bool riscv_check_interrupt(Hart *hart)
{
    bool to_s;
    if (riscv_pick_interrupt(hart, &to_s) < 0) {
        return false;
    }
    atomic_fetch_or(&hart->cpu.pending, PENDING_INTERRUPT);
    return true;
}

bool riscv_take_interrupt(CpuState *cpu)
{
    Hart *hart = hart_of(cpu);
    bool to_s;

    riscv_update_stip(hart);
    int code = riscv_pick_interrupt(hart, &to_s);
    if (code < 0) {
        return false;
    }
    enter(hart, to_s, true, (unsigned)code, 0);
    return true;
}

bool riscv_wfi_wakes(CpuState *cpu)
{
    Hart *hart = hart_of(cpu);
    riscv_update_stip(hart);
    return (riscv_mip(hart) & hart->mie) != 0;
}

/* What both returns end with: the new mode. */
static void returned(Hart *hart, u8 priv, u64 pc)
{
    if (priv != PRIV_M) {
        hart->mstatus = set_bits(hart->mstatus, MSTATUS_MPRV, 1, 0);
    }
    if (priv < hart->priv && hart->callbacks->trap_return) {
        hart->callbacks->trap_return(hart->cpu.machine, &hart->cpu);
    }
    hart->priv = priv;
    hart->cpu.pc = pc;
    hart->cpu.res_host = 0;
    riscv_update_mode(hart);
    riscv_check_interrupt(hart);
}

void riscv_mret(Hart *hart)
{
    u8 priv = (u8)mstatus_field(hart, MSTATUS_MPP, 2);
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_MIE, 1, mstatus_field(hart, MSTATUS_MPIE, 1));
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_MPIE, 1, 1);
    hart->mstatus =
        set_bits(hart->mstatus, MSTATUS_MPP, 2, hart_has(hart, RISCV_EXT_U) ? PRIV_U : PRIV_M);
    returned(hart, priv, hart->mepc);
}

void riscv_sret(Hart *hart)
{
    u8 priv = mstatus_field(hart, MSTATUS_SPP, 1) ? PRIV_S : PRIV_U;
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_SIE, 1, mstatus_field(hart, MSTATUS_SPIE, 1));
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_SPIE, 1, 1);
    hart->mstatus = set_bits(hart->mstatus, MSTATUS_SPP, 1, 0);
    returned(hart, priv, hart->sepc);
}
