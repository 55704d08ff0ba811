/*
 * Helpers behind the rows of insn/priv.c: system instructions, whose effects and privilege checks
 * are too intricate for IR. The immediate of a helper is the instruction's bits, from which it
 * takes register numbers and which is the trap value if the instruction is illegal.
 *
 * An instruction after which fetching, views or interrupts may be different ends with status
 * CPU_NEXT and pc at its successor; all of these instructions have 4 bytes.
 */
#include "frontend-riscv/csr.h"
#include "frontend-riscv/system.h"
#include "frontend-riscv/translate.h"
#include "softmmu/softmmu.h"

static u64 illegal(CpuState *cpu, u64 insn)
{
    return cpu_trap(cpu, CAUSE_ILLEGAL, (u32)insn);
}

static u64 leave_next(CpuState *cpu)
{
    cpu->pc = (cpu->pc + 4) & hart_xlen_mask(hart_of(cpu));
    cpu->status = CPU_NEXT;
    return 0;
}

/* Zicsr. csrrw does not read if rd is x0; csrrs and csrrc do not write if rs1 (or the immediate) is
 * x0 (0). */

static bool csr_run(CpuState *cpu, u32 insn, u64 operand, u64 *old, bool *leave)
{
    static const CsrOp ops[4] = {CSR_OP_WRITE, CSR_OP_WRITE, CSR_OP_SET, CSR_OP_CLEAR};
    CsrOp op = ops[insn >> 12 & 3];
    bool write = op == CSR_OP_WRITE || (insn >> 15 & 31);
    bool read = op != CSR_OP_WRITE || (insn >> 7 & 31);

    if (!riscv_csr_access(hart_of(cpu), insn >> 20, op, write, operand, read ? old : NULL, leave)) {
        illegal(cpu, insn);
        return false;
    }
    return true;
}

/* No write. The variants differ in what the helper's flags promise. */
u64 helper_csr_read(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    u64 old = 0;
    bool leave = false;
    csr_run(cpu, (u32)insn, 0, &old, &leave);
    return old;
}

u64 helper_csr_read_counter(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    return helper_csr_read(cpu, insn, b, c, d);
}

u64 helper_rdtime(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    Hart *hart = hart_of(cpu);
    return riscv_time_enabled(hart) ? hart->callbacks->read_time(cpu->machine)
                                    : illegal(cpu, insn);
}

u64 helper_csr_read_fp(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    return helper_csr_read(cpu, insn, b, c, d);
}

/* A register without side effects. */
u64 helper_csr_swap(CpuState *cpu, u64 operand, u64 insn, u64 c, u64 d)
{
    (void)c, (void)d;
    u64 old = 0;
    bool leave = false;
    csr_run(cpu, (u32)insn, operand, &old, &leave);
    return old;
}

/* rd is x0. */
u64 helper_csr_write(CpuState *cpu, u64 operand, u64 insn, u64 c, u64 d)
{
    (void)c, (void)d;
    u64 old = 0;
    bool leave = false;
    if (csr_run(cpu, (u32)insn, operand, &old, &leave) && leave) {
        leave_next(cpu);
    }
    return 0;
}

/* Any register, any rd: rd is written here, since the block may be left. */
u64 helper_csr_full(CpuState *cpu, u64 operand, u64 insn, u64 c, u64 d)
{
    (void)c, (void)d;
    u64 old = 0;
    bool leave = false;
    if (csr_run(cpu, (u32)insn, operand, &old, &leave)) {
        unsigned rd = insn >> 7 & 31;
        if (rd) {
            cpu->x[rd] = old;
        }
        if (leave) {
            leave_next(cpu);
        }
    }
    return 0;
}

/* Generated code has written mstatus. The block goes on in the view that is now current: SUM and MXR
 * are not about fetches. */
u64 helper_sstatus_changed(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)a, (void)b, (void)c, (void)d;
    Hart *hart = hart_of(cpu);
    riscv_update_mode(hart);
    riscv_update_fp(hart);
    return hart->waits_for_sie && riscv_check_interrupt(hart) ? leave_next(cpu) : 0;
}

/* Traps and returns. */

u64 helper_mret(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    Hart *hart = hart_of(cpu);
    if (hart->priv != PRIV_M) {
        return illegal(cpu, insn);
    }
    riscv_mret(hart);
    cpu->status = CPU_NEXT;
    return 0;
}

u64 helper_sret(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    Hart *hart = hart_of(cpu);
    if (hart->priv == PRIV_U || (hart->priv == PRIV_S && mstatus_field(hart, MSTATUS_TSR, 1))) {
        return illegal(cpu, insn);
    }
    riscv_sret(hart);
    cpu->status = CPU_NEXT;
    return 0;
}

/* Sleeping below M mode is bounded by TW; in U mode of a hart that has S mode it always is. */
u64 helper_wfi(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    Hart *hart = hart_of(cpu);
    if (hart->priv != PRIV_M && (mstatus_field(hart, MSTATUS_TW, 1) ||
                                 (hart->priv == PRIV_U && hart_has(hart, RISCV_EXT_S)))) {
        return illegal(cpu, insn);
    }
    leave_next(cpu);
    if (!riscv_wfi_wakes(cpu)) {
        cpu->status = CPU_HALT;
    } else {
        riscv_check_interrupt(hart);
    }
    return 0;
}

/* Fences. */

static bool may_fence(Hart *hart)
{
    return hart->priv == PRIV_M || (hart->priv == PRIV_S && !mstatus_field(hart, MSTATUS_TVM, 1));
}

/* sfence.vma and sinval.vma: rs1 = x0 means all addresses, rs2 = x0 all address spaces. */
u64 helper_sfence_vma(CpuState *cpu, u64 address, u64 space, u64 insn, u64 d)
{
    (void)d;
    Hart *hart = hart_of(cpu);
    if (!may_fence(hart)) {
        return illegal(cpu, insn);
    }
    u64 va = address & hart_xlen_mask(hart);
    u16 asid = (u16)(space & mask64(hart->model->rv32 ? 9 : 16));
    mmu_fence(cpu, insn >> 15 & 31 ? &va : NULL, insn >> 20 & 31 ? &asid : NULL);
    return leave_next(cpu);
}

/* sfence.w.inval, sfence.inval.ir: sinval.vma has done all the work, and TVM does not concern them.
 */
u64 helper_sfence_inval(CpuState *cpu, u64 insn, u64 b, u64 c, u64 d)
{
    (void)b, (void)c, (void)d;
    return hart_of(cpu)->priv == PRIV_U ? illegal(cpu, insn) : 0;
}

u64 helper_fence_i(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)a, (void)b, (void)c, (void)d;
    hart_of(cpu)->callbacks->fence_i(cpu->machine, cpu);
    return leave_next(cpu);
}

/* Spinning harts. */

u64 helper_pause(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    (void)a, (void)b, (void)c, (void)d;
    const HartCallbacks *callbacks = hart_of(cpu)->callbacks;
    if (callbacks->relax) {
        callbacks->relax(cpu->machine, cpu);
    }
    return 0;
}

/* WRS.NTO and WRS.STO (Zawrs): waits a moment for another hart's store to the reserved word. Software looks
 * again in any case. */
u64 helper_wrs(CpuState *cpu, u64 a, u64 b, u64 c, u64 d)
{
    enum { LOOKS = 8 };
    const void *word = (const void *)(uintptr_t)cpu->res_host;
    for (unsigned i = 0; word && i < LOOKS && !atomic_load(&cpu->pending); i++) {
        const u64 now = cpu->res_size_log2 == 2 ? __atomic_load_n((const u32 *)word, __ATOMIC_RELAXED)
                                                : __atomic_load_n((const u64 *)word, __ATOMIC_RELAXED);
        if (now != cpu->res_value) {
            return 0;
        }
        __builtin_ia32_pause();
    }
    return helper_pause(cpu, a, b, c, d);
}

/* Cache blocks: each mode above has to allow what the modes below do. There are no caches, so
 * invalidating, cleaning and flushing come down to the checks. */
u64 helper_cbo(CpuState *cpu, u64 address, u64 insn, u64 c, u64 d)
{
    (void)c, (void)d;
    enum { INVAL = 0 };
    Hart *hart = hart_of(cpu);
    u64 allow = (u32)insn >> 20 == INVAL ? (u64)3 << ENVCFG_CBIE : (u64)1 << ENVCFG_CBCFE;

    if ((hart->priv != PRIV_M && !(hart->menvcfg & allow)) ||
        (hart->priv == PRIV_U && hart_has(hart, RISCV_EXT_S) && !(hart->senvcfg & allow))) {
        return illegal(cpu, insn);
    }
    mmu_cbo(cpu, address & hart_xlen_mask(hart), RISCV_CACHE_BLOCK, false);
    return 0;
}
