/*
 * A, Zabha and Zacas: atomic memory operations (unprivileged spec, chapters "A" Extension, "Zabha", "Zacas"). The IR's atomics demand
 * alignment, and those that store are full barriers on the host, so aq and rl need nothing. An LR is a mere load there: before one
 * with rl, which stores may not come behind, stands a fence.
 */
#include "frontend-riscv/translate.h"
#include "softmmu/softmmu.h"

static void amo(Tr *t, const Operands *o, unsigned size_log2, IrAmo op)
{
    put(t, o->rd, ir_2(t->b, IR_amo, t->x, t->x, (u16)(size_log2 | op << IR_AMO_SHIFT), get(t, o->rs1),
                       get(t, o->rs2)));
}

static void load_reserved(Tr *t, const Operands *o, unsigned size_log2)
{
    if (t->insn >> 25 & 1) { /* rl */
        ir_0(t->b, IR_fence, IR_NOTYPE, 0, 0);
    }
    put(t, o->rd, ir_1(t->b, IR_lr, t->x, t->x, (u16)size_log2, get(t, o->rs1)));
}

INSN(lr_w, A, LR, "00010 .. 00000 ..... 010 ..... 0101111")
{
    load_reserved(t, o, 2);
}

INSN(sc_w, A, AMO, "00011 .. ..... ..... 010 ..... 0101111")
{
    put(t, o->rd, ir_2(t->b, IR_sc, t->x, t->x, 2, get(t, o->rs1), get(t, o->rs2)));
}

INSN(amoswap_w, A, AMO, "00001 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_SWAP);
}

INSN(amoadd_w, A, AMO, "00000 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_ADD);
}

INSN(amoxor_w, A, AMO, "00100 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_XOR);
}

INSN(amoand_w, A, AMO, "01100 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_AND);
}

INSN(amoor_w, A, AMO, "01000 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_OR);
}

INSN(amomin_w, A, AMO, "10000 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_MIN);
}

INSN(amomax_w, A, AMO, "10100 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_MAX);
}

INSN(amominu_w, A, AMO, "11000 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_MINU);
}

INSN(amomaxu_w, A, AMO, "11100 .. ..... ..... 010 ..... 0101111")
{
    amo(t, o, 2, IR_AMO_MAXU);
}

INSN(lr_d, A, LR, "00010 .. 00000 ..... 011 ..... 0101111", "rv64")
{
    load_reserved(t, o, 3);
}

INSN(sc_d, A, AMO, "00011 .. ..... ..... 011 ..... 0101111", "rv64")
{
    put(t, o->rd, ir_2(t->b, IR_sc, t->x, t->x, 3, get(t, o->rs1), get(t, o->rs2)));
}

INSN(amoswap_d, A, AMO, "00001 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_SWAP);
}

INSN(amoadd_d, A, AMO, "00000 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_ADD);
}

INSN(amoxor_d, A, AMO, "00100 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_XOR);
}

INSN(amoand_d, A, AMO, "01100 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_AND);
}

INSN(amoor_d, A, AMO, "01000 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_OR);
}

INSN(amomin_d, A, AMO, "10000 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_MIN);
}

INSN(amomax_d, A, AMO, "10100 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_MAX);
}

INSN(amominu_d, A, AMO, "11000 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_MINU);
}

INSN(amomaxu_d, A, AMO, "11100 .. ..... ..... 011 ..... 0101111", "rv64")
{
    amo(t, o, 3, IR_AMO_MAXU);
}

/* Zabha: bytes and halfwords. */

INSN(amoswap_b, Zabha, AMO, "00001 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_SWAP);
}

INSN(amoadd_b, Zabha, AMO, "00000 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_ADD);
}

INSN(amoxor_b, Zabha, AMO, "00100 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_XOR);
}

INSN(amoand_b, Zabha, AMO, "01100 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_AND);
}

INSN(amoor_b, Zabha, AMO, "01000 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_OR);
}

INSN(amomin_b, Zabha, AMO, "10000 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_MIN);
}

INSN(amomax_b, Zabha, AMO, "10100 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_MAX);
}

INSN(amominu_b, Zabha, AMO, "11000 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_MINU);
}

INSN(amomaxu_b, Zabha, AMO, "11100 .. ..... ..... 000 ..... 0101111")
{
    amo(t, o, 0, IR_AMO_MAXU);
}

INSN(amoswap_h, Zabha, AMO, "00001 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_SWAP);
}

INSN(amoadd_h, Zabha, AMO, "00000 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_ADD);
}

INSN(amoxor_h, Zabha, AMO, "00100 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_XOR);
}

INSN(amoand_h, Zabha, AMO, "01100 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_AND);
}

INSN(amoor_h, Zabha, AMO, "01000 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_OR);
}

INSN(amomin_h, Zabha, AMO, "10000 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_MIN);
}

INSN(amomax_h, Zabha, AMO, "10100 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_MAX);
}

INSN(amominu_h, Zabha, AMO, "11000 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_MINU);
}

INSN(amomaxu_h, Zabha, AMO, "11100 .. ..... ..... 001 ..... 0101111")
{
    amo(t, o, 1, IR_AMO_MAXU);
}

/* Zacas. Expected value in rd, new one in rs2. */

static void cas(Tr *t, const Operands *o, unsigned size_log2)
{
    put(t, o->rd, ir_3(t->b, IR_cas, t->x, t->x, (u16)size_log2, get(t, o->rs1), get(t, o->rd),
                       get(t, o->rs2)));
}

INSN(amocas_b, Zacas&Zabha, AMO, "00101 .. ..... ..... 000 ..... 0101111")
{
    cas(t, o, 0);
}

INSN(amocas_h, Zacas&Zabha, AMO, "00101 .. ..... ..... 001 ..... 0101111")
{
    cas(t, o, 1);
}

INSN(amocas_w, Zacas, AMO, "00101 .. ..... ..... 010 ..... 0101111")
{
    cas(t, o, 2);
}

INSN(amocas_d, Zacas, AMO, "00101 .. ..... ..... 011 ..... 0101111", "rv64")
{
    cas(t, o, 3);
}

/*
 * The widest form works on pairs of registers, rd:rd+1 and rs2:rs2+1 (even numbers; x0 stands for a pair of
 * zeros): 8 bytes on RV32, 16 on RV64. One helper does both: imm = rd | rs2 << 8.
 */
__attribute__((target("cx16"))) u64 helper_amocas_pair(CpuState *cpu, u64 a, u64 b,
                                                       u64 c G_GNUC_UNUSED, u64 d G_GNUC_UNUSED)
{
    bool rv32 = hart_of(cpu)->model->rv32;
    unsigned rd = b & 0x1f, rs2 = b >> 8 & 0x1f;
    void *host;
    if (!mmu_amo_host(cpu, rv32 ? (u32)a : a, rv32 ? 3 : 4, &host)) {
        return 0;
    }
    u64 expected[2] = {rd ? cpu->x[rd] : 0, rd ? cpu->x[rd + 1] : 0};
    u64 desired[2] = {rs2 ? cpu->x[rs2] : 0, rs2 ? cpu->x[rs2 + 1] : 0};
    u64 old[2];
    if (rv32) {
        u64 v = __sync_val_compare_and_swap((u64 *)host, expected[0] | expected[1] << 32,
                                            desired[0] | desired[1] << 32);
        old[0] = (u32)v;
        old[1] = v >> 32;
    } else {
        u128 v = __sync_val_compare_and_swap((u128 *)host, (u128)expected[1] << 64 | expected[0],
                                             (u128)desired[1] << 64 | desired[0]);
        old[0] = (u64)v;
        old[1] = (u64)(v >> 64);
    }
    if (rd) {
        cpu->x[rd] = old[0];
        cpu->x[rd + 1] = old[1];
    }
    return 0;
}

static void cas_pair(Tr *t, const Operands *o)
{
    call_imm(t, H_amocas_pair, get(t, o->rs1), IR_NONE, IR_NONE, o->rd | o->rs2 << 8);
}

INSN(amocas_q, Zacas, AMO, "00101 .. ....0 ..... 100 ....0 0101111", "rv64")
{
    cas_pair(t, o);
}

INSN(amocas_d__32, Zacas, AMO, "00101 .. ....0 ..... 011 ....0 0101111", "rv32")
{
    cas_pair(t, o);
}
