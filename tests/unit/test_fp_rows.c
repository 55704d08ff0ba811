/*
 * The floating-point rows: each instruction, translated alone and run by the interpreter, on
 * operands that tell it from its neighbours (formats, rounding modes, signs, boxing, widths). What
 * the operations compute is softfloat's test; here it is whether a row asks for the right one.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "frontend-riscv/frontend.h"
#include "frontend-riscv/system.h"
#include "softmmu/softmmu.h"

/* No softmmu: memory is a few bytes at address 0, and code is never read back. */
static u8 memory[64];

void mmu_set_mode(CpuState *cpu, u8 fetch_priv, u8 data_priv, bool sum, bool mxr)
{
    (void)cpu, (void)fetch_priv, (void)data_priv, (void)sum, (void)mxr;
}

void mmu_set_regime(CpuState *cpu, const TranslationRegime *regime)
{
    (void)cpu, (void)regime;
}

void mmu_set_pmp(CpuState *cpu, const PmpState *pmp)
{
    (void)cpu, (void)pmp;
}

void mmu_flush_all(CpuState *cpu)
{
    (void)cpu;
}

void mmu_fence(CpuState *cpu, const u64 *va, const u16 *asid)
{
    (void)cpu, (void)va, (void)asid;
}

bool mmu_cbo(CpuState *cpu, u64 va, unsigned size, bool zero)
{
    (void)cpu, (void)va, (void)size, (void)zero;
    return true;
}

bool mmu_debug_read(CpuState *cpu, u64 va, void *buf, u64 len)
{
    (void)cpu, (void)va;
    memset(buf, 0, len);
    return true;
}

bool mmu_amo_host(CpuState *cpu, u64 va, unsigned size_log2, void **host)
{
    (void)cpu, (void)va, (void)size_log2, (void)host;
    return false;
}

static bool load(CpuState *cpu, u64 va, unsigned size_log2, u64 *value)
{
    (void)cpu;
    ck_assert_uint_le(va + (1u << size_log2), sizeof(memory));
    *value = 0;
    memcpy(value, memory + va, 1u << size_log2);
    return true;
}

static bool store(CpuState *cpu, u64 va, unsigned size_log2, u64 value)
{
    (void)cpu;
    ck_assert_uint_le(va + (1u << size_log2), sizeof(memory));
    memcpy(memory + va, &value, 1u << size_log2);
    return true;
}

static const HartCallbacks no_callbacks = {0};

/* Translates one instruction and runs it; returns how it ended. */
static CpuExit run(Hart *hart, u32 insn)
{
    static const IrInterpreter callbacks = {
        .guard_failed = riscv_guard_failed, .load = load, .store = store};
    static IrInsn records[IR_MAX_INSNS];
    static u8 page[4096];
    IrBlock block = {.insns = records};

    memcpy(page, &insn, 4);
    TranslateInput in = {.model = hart->model, .page = page, .offset = 0, .max_insns = 1};
    ck_assert_int_eq(riscv_translate(&in, &block), TRANSLATE_OK);
    char *error = ir_check(&block);
    ck_assert_msg(!error, "%08x: %s", insn, error);
    hart->cpu.pc = 0;
    hart->cpu.status = CPU_OK;
    cpu_set_budget(&hart->cpu, 1000);
    return ir_interpret(&block, &hart->cpu, &callbacks);
}

/* A hart with FS dirty. */
static Hart *new_hart(const char *cpu)
{
    HartModel *model = riscv_model_new(cpu, NULL);
    ck_assert_ptr_nonnull(model);
    Hart *hart = riscv_hart_new(model, 0, &no_callbacks, NULL);
    riscv_hart_reset(hart, 0);
    hart->mstatus |= (u64)FS_DIRTY << MSTATUS_FS;
    riscv_update_fp(hart);
    memset(memory, 0, sizeof(memory));
    return hart;
}

static void drop(Hart *hart)
{
    g_free((void *)hart->model);
    riscv_hart_free(hart);
}

/* Encodings: rd = 10, rs1 = 11, rs2 = 12 unless it is part of the code, rs3 = 13. */
#define OP2(funct7, funct3) \
    ((u32)(funct7) << 25 | 12u << 20 | 11u << 15 | (u32)(funct3) << 12 | 10u << 7 | 0x53)
#define OP1(funct7, rs2, funct3) \
    ((u32)(funct7) << 25 | (u32)(rs2) << 20 | 11u << 15 | (u32)(funct3) << 12 | 10u << 7 | 0x53)
#define OP3(opcode, format, rm) \
    (13u << 27 | (u32)(format) << 25 | 12u << 20 | 11u << 15 | (u32)(rm) << 12 | 10u << 7 | \
     (opcode))
enum { RNE, RTZ, RDN, RUP, RMM, DYN = 7 };
enum { NX = 1, UF = 2, OF = 4, DZ = 8, NV = 16 };

/* Values: boxed singles and halves, doubles. */
#define S(bits) (0xffffffff00000000 | (bits))
#define H(bits) (0xffffffffffff0000 | (bits))
#define S_NAN S(0x7fc00000)
#define D_NAN 0x7ff8000000000000

static const struct {
    const char *name;
    u32 insn;
    u64 f11, f12, f13, x11; /* operands */
    u64 f10, x10; /* results; whichever of the two the instruction does not write stays 0 */
    u32 flags;
    u8 frm;
} cases[] = {
    /* Single: 1.5 = 3fc00000, 2.0 = 40000000, 0.25 = 3e800000, 3.0 = 40400000. */
    {"fadd.s", OP2(0x00, DYN), S(0x3fc00000), S(0x40000000), 0, 0, S(0x40600000), 0, 0, 0},
    {"fsub.s", OP2(0x04, DYN), S(0x3fc00000), S(0x40000000), 0, 0, S(0xbf000000), 0, 0, 0},
    {"fmul.s", OP2(0x08, DYN), S(0x3fc00000), S(0x40000000), 0, 0, S(0x40400000), 0, 0, 0},
    {"fdiv.s", OP2(0x0c, DYN), S(0x3fc00000), S(0x40000000), 0, 0, S(0x3f400000), 0, 0, 0},
    {"fdiv.s 1/3 rtz", OP2(0x0c, RTZ), S(0x3f800000), S(0x40400000), 0, 0, S(0x3eaaaaaa), 0, NX,
     RUP},
    {"fdiv.s 1/3 rne", OP2(0x0c, RNE), S(0x3f800000), S(0x40400000), 0, 0, S(0x3eaaaaab), 0, NX,
     RDN},
    {"fdiv.s 1/3 dyn", OP2(0x0c, DYN), S(0x3f800000), S(0x40400000), 0, 0, S(0x3eaaaaaa), 0, NX,
     RDN},
    {"fdiv.s 1/3 dyn rmm", OP2(0x0c, DYN), S(0x3f800000), S(0x40400000), 0, 0, S(0x3eaaaaab), 0, NX,
     RMM},
    {"fdiv.s 1/0", OP2(0x0c, DYN), S(0x3f800000), S(0), 0, 0, S(0x7f800000), 0, DZ, 0},
    {"fsqrt.s", OP1(0x2c, 0, DYN), S(0x40800000), 0, 0, 0, S(0x40000000), 0, 0, 0},
    {"fadd.s unboxed", OP2(0x00, DYN), 0x3fc00000, S(0x40000000), 0, 0, S_NAN, 0, 0, 0},
    {"fmadd.s", OP3(0x43, 0, DYN), S(0x3fc00000), S(0x40000000), S(0x3e800000), 0, S(0x40500000), 0,
     0, 0},
    {"fmsub.s", OP3(0x47, 0, DYN), S(0x3fc00000), S(0x40000000), S(0x3e800000), 0, S(0x40300000), 0,
     0, 0},
    {"fnmsub.s", OP3(0x4b, 0, DYN), S(0x3fc00000), S(0x40000000), S(0x3e800000), 0, S(0xc0300000),
     0, 0, 0},
    {"fnmadd.s", OP3(0x4f, 0, DYN), S(0x3fc00000), S(0x40000000), S(0x3e800000), 0, S(0xc0500000),
     0, 0, 0},
    {"fsgnj.s", OP2(0x10, 0), S(0x3fc00000), S(0xc0000000), 0, 0, S(0xbfc00000), 0, 0, 0},
    {"fsgnjn.s", OP2(0x10, 1), S(0xbfc00000), S(0xc0000000), 0, 0, S(0x3fc00000), 0, 0, 0},
    {"fsgnjx.s", OP2(0x10, 2), S(0xbfc00000), S(0xc0000000), 0, 0, S(0x3fc00000), 0, 0, 0},
    {"fmin.s", OP2(0x14, 0), S(0x3fc00000), S_NAN, 0, 0, S(0x3fc00000), 0, 0, 0},
    {"fmax.s", OP2(0x14, 1), S(0x3fc00000), S(0x40000000), 0, 0, S(0x40000000), 0, 0, 0},
    {"feq.s", OP2(0x50, 2), S(0), S(0x80000000), 0, 0, 0, 1, 0, 0},
    {"feq.s nan", OP2(0x50, 2), S(0), S_NAN, 0, 0, 0, 0, 0, 0},
    {"flt.s", OP2(0x50, 1), S(0x3fc00000), S(0x40000000), 0, 0, 0, 1, 0, 0},
    {"flt.s nan", OP2(0x50, 1), S(0), S_NAN, 0, 0, 0, 0, NV, 0},
    {"fle.s", OP2(0x50, 0), S(0x40000000), S(0x40000000), 0, 0, 0, 1, 0, 0},
    {"fclass.s", OP1(0x70, 0, 1), S(0xff800000), 0, 0, 0, 0, 1, 0, 0},
    {"fclass.s unboxed", OP1(0x70, 0, 1), 0x3f800000, 0, 0, 0, 0, 1 << 9, 0, 0},
    {"fcvt.w.s", OP1(0x60, 0, RTZ), S(0xc0200000), 0, 0, 0, 0, (u64)-2, NX, 0},
    {"fcvt.w.s rdn", OP1(0x60, 0, RDN), S(0xc0200000), 0, 0, 0, 0, (u64)-3, NX, 0},
    {"fcvt.wu.s", OP1(0x60, 1, RTZ), S(0x4f7fffff), 0, 0, 0, 0, 0xffffffffffffff00, 0, 0},
    {"fcvt.wu.s -1", OP1(0x60, 1, RTZ), S(0xbf800000), 0, 0, 0, 0, 0, NV, 0},
    {"fcvt.l.s", OP1(0x60, 2, RTZ), S(0x4f800000), 0, 0, 0, 0, 0x100000000, 0, 0},
    {"fcvt.lu.s", OP1(0x60, 3, RTZ), S(0x5f000000), 0, 0, 0, 0, (u64)1 << 63, 0, 0},
    {"fcvt.s.w", OP1(0x68, 0, DYN), 0, 0, 0, 0xfffffffe, S(0xc0000000), 0, 0, 0},
    {"fcvt.s.wu", OP1(0x68, 1, DYN), 0, 0, 0, 0x1fffffffe, S(0x4f800000), 0, NX, 0},
    {"fcvt.s.l", OP1(0x68, 2, DYN), 0, 0, 0, (u64)-4, S(0xc0800000), 0, 0, 0},
    {"fcvt.s.lu", OP1(0x68, 3, RTZ), 0, 0, 0, ~(u64)0, S(0x5f7fffff), 0, NX, 0},
    {"fmv.x.w", OP1(0x70, 0, 0), 0x1234567880000001, 0, 0, 0, 0, 0xffffffff80000001, 0, 0},
    {"fmv.w.x", OP1(0x78, 0, 0), 0, 0, 0, 0x1234567887654321, S(0x87654321), 0, 0, 0},
    /* Double: 1.5 = 3ff8..., 2.0 = 4000..., 0.25 = 3fd0.... */
    {"fadd.d", OP2(0x01, DYN), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0x400c000000000000, 0,
     0, 0},
    {"fsub.d", OP2(0x05, DYN), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0xbfe0000000000000, 0,
     0, 0},
    {"fmul.d", OP2(0x09, DYN), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0x4008000000000000, 0,
     0, 0},
    {"fdiv.d", OP2(0x0d, DYN), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0x3fe8000000000000, 0,
     0, 0},
    {"fsqrt.d", OP1(0x2d, 0, DYN), 0x4010000000000000, 0, 0, 0, 0x4000000000000000, 0, 0, 0},
    {"fmadd.d", OP3(0x43, 1, DYN), 0x3ff8000000000000, 0x4000000000000000, 0x3fd0000000000000, 0,
     0x400a000000000000, 0, 0, 0},
    {"fmsub.d", OP3(0x47, 1, DYN), 0x3ff8000000000000, 0x4000000000000000, 0x3fd0000000000000, 0,
     0x4006000000000000, 0, 0, 0},
    {"fnmsub.d", OP3(0x4b, 1, DYN), 0x3ff8000000000000, 0x4000000000000000, 0x3fd0000000000000, 0,
     0xc006000000000000, 0, 0, 0},
    {"fnmadd.d", OP3(0x4f, 1, DYN), 0x3ff8000000000000, 0x4000000000000000, 0x3fd0000000000000, 0,
     0xc00a000000000000, 0, 0, 0},
    {"fsgnj.d", OP2(0x11, 0), 0x3ff8000000000000, 0xc000000000000000, 0, 0, 0xbff8000000000000, 0,
     0, 0},
    {"fsgnjn.d", OP2(0x11, 1), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0xbff8000000000000, 0,
     0, 0},
    {"fsgnjx.d", OP2(0x11, 2), 0xbff8000000000000, 0xc000000000000000, 0, 0, 0x3ff8000000000000, 0,
     0, 0},
    {"fmin.d", OP2(0x15, 0), 0, 0x8000000000000000, 0, 0, 0x8000000000000000, 0, 0, 0},
    {"fmax.d", OP2(0x15, 1), 0, 0x8000000000000000, 0, 0, 0x0000000000000000, 0, 0, 0},
    {"feq.d", OP2(0x51, 2), 0x3ff8000000000000, 0x3ff8000000000000, 0, 0, 0, 1, 0, 0},
    {"flt.d", OP2(0x51, 1), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0, 1, 0, 0},
    {"fle.d", OP2(0x51, 0), D_NAN, 0x4000000000000000, 0, 0, 0, 0, NV, 0},
    {"fclass.d", OP1(0x71, 0, 1), 0x0008000000000000, 0, 0, 0, 0, 1 << 5, 0, 0},
    {"fcvt.s.d", OP1(0x20, 1, RUP), 0x3ff0000000000001, 0, 0, 0, S(0x3f800001), 0, NX, 0},
    {"fcvt.d.s", OP1(0x21, 0, RNE), S(0x3fc00000), 0, 0, 0, 0x3ff8000000000000, 0, 0, 0},
    {"fcvt.w.d", OP1(0x61, 0, RTZ), 0xc1f0000000000000, 0, 0, 0, 0, 0xffffffff80000000, NV, 0},
    {"fcvt.wu.d", OP1(0x61, 1, RTZ), 0x41effffffff00000, 0, 0, 0, 0, ~(u64)0, NX, 0},
    {"fcvt.l.d", OP1(0x61, 2, RMM), 0x4004000000000000, 0, 0, 0, 0, 3, NX, 0},
    {"fcvt.lu.d", OP1(0x61, 3, RTZ), 0x43e0000000000000, 0, 0, 0, 0, (u64)1 << 63, 0, 0},
    {"fcvt.d.w", OP1(0x69, 0, RNE), 0, 0, 0, 0x1ffffffff, 0xbff0000000000000, 0, 0, 0},
    {"fcvt.d.wu", OP1(0x69, 1, RNE), 0, 0, 0, 0x1ffffffff, 0x41efffffffe00000, 0, 0, 0},
    {"fcvt.d.l", OP1(0x69, 2, RNE), 0, 0, 0, ~(u64)0, 0xbff0000000000000, 0, 0, 0},
    {"fcvt.d.lu", OP1(0x69, 3, RNE), 0, 0, 0, ~(u64)0, 0x43f0000000000000, 0, NX, 0},
    {"fmv.x.d", OP1(0x71, 0, 0), 0x8123456789abcdef, 0, 0, 0, 0, 0x8123456789abcdef, 0, 0},
    {"fmv.d.x", OP1(0x79, 0, 0), 0, 0, 0, 0x8123456789abcdef, 0x8123456789abcdef, 0, 0, 0},
    /* Half: 1.5 = 3e00, 2.0 = 4000, 0.25 = 3400. */
    {"fadd.h", OP2(0x02, DYN), H(0x3e00), H(0x4000), 0, 0, H(0x4300), 0, 0, 0},
    {"fsub.h", OP2(0x06, DYN), H(0x3e00), H(0x4000), 0, 0, H(0xb800), 0, 0, 0},
    {"fmul.h", OP2(0x0a, DYN), H(0x3e00), H(0x4000), 0, 0, H(0x4200), 0, 0, 0},
    {"fdiv.h", OP2(0x0e, DYN), H(0x3e00), H(0x4000), 0, 0, H(0x3a00), 0, 0, 0},
    {"fsqrt.h", OP1(0x2e, 0, DYN), H(0x4400), 0, 0, 0, H(0x4000), 0, 0, 0},
    {"fmadd.h", OP3(0x43, 2, DYN), H(0x3e00), H(0x4000), H(0x3400), 0, H(0x4280), 0, 0, 0},
    {"fmsub.h", OP3(0x47, 2, DYN), H(0x3e00), H(0x4000), H(0x3400), 0, H(0x4180), 0, 0, 0},
    {"fnmsub.h", OP3(0x4b, 2, DYN), H(0x3e00), H(0x4000), H(0x3400), 0, H(0xc180), 0, 0, 0},
    {"fnmadd.h", OP3(0x4f, 2, DYN), H(0x3e00), H(0x4000), H(0x3400), 0, H(0xc280), 0, 0, 0},
    {"fsgnjn.h", OP2(0x12, 1), H(0x3e00), H(0x4000), 0, 0, H(0xbe00), 0, 0, 0},
    {"fmin.h unboxed", OP2(0x16, 0), S(0x3e00), H(0x4000), 0, 0, H(0x4000), 0, 0, 0},
    {"fmax.h", OP2(0x16, 1), H(0x3e00), H(0x4000), 0, 0, H(0x4000), 0, 0, 0},
    {"flt.h", OP2(0x52, 1), H(0x3e00), H(0x4000), 0, 0, 0, 1, 0, 0},
    {"fclass.h", OP1(0x72, 0, 1), H(0x7c00), 0, 0, 0, 0, 1 << 7, 0, 0},
    {"fcvt.w.h", OP1(0x62, 0, RTZ), H(0xc100), 0, 0, 0, 0, (u64)-2, NX, 0},
    {"fcvt.lu.h", OP1(0x62, 3, RTZ), H(0x7bff), 0, 0, 0, 0, 65504, 0, 0},
    {"fcvt.h.w", OP1(0x6a, 0, DYN), 0, 0, 0, (u64)-2, H(0xc000), 0, 0, 0},
    {"fcvt.h.lu", OP1(0x6a, 3, RTZ), 0, 0, 0, ~(u64)0, H(0x7bff), 0, OF | NX, 0},
    {"fcvt.s.h", OP1(0x20, 2, RNE), H(0x3e00), 0, 0, 0, S(0x3fc00000), 0, 0, 0},
    {"fcvt.h.s", OP1(0x22, 0, RNE), S(0x3fc00000), 0, 0, 0, H(0x3e00), 0, 0, 0},
    {"fcvt.d.h", OP1(0x21, 2, RNE), H(0x3e00), 0, 0, 0, 0x3ff8000000000000, 0, 0, 0},
    {"fcvt.h.d", OP1(0x22, 1, RNE), 0x3ff8000000000000, 0, 0, 0, H(0x3e00), 0, 0, 0},
    {"fmv.x.h", OP1(0x72, 0, 0), 0x12348001, 0, 0, 0, 0, 0xffffffffffff8001, 0, 0},
    {"fmv.h.x", OP1(0x7a, 0, 0), 0, 0, 0, 0x12345678, H(0x5678), 0, 0, 0},
    /* Zfa. */
    {"fminm.s", OP2(0x14, 2), S(0x3fc00000), S_NAN, 0, 0, S_NAN, 0, 0, 0},
    {"fmaxm.d", OP2(0x15, 3), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0x4000000000000000, 0,
     0, 0},
    {"fround.s", OP1(0x20, 4, RUP), S(0x3fc00000), 0, 0, 0, S(0x40000000), 0, 0, 0},
    {"froundnx.s", OP1(0x20, 5, RDN), S(0x3fc00000), 0, 0, 0, S(0x3f800000), 0, NX, 0},
    {"fround.d", OP1(0x21, 4, DYN), 0x4004000000000000, 0, 0, 0, 0x4000000000000000, 0, 0, RNE},
    {"froundnx.d", OP1(0x21, 5, DYN), 0x4004000000000000, 0, 0, 0, 0x4008000000000000, 0, NX, RMM},
    {"fround.h", OP1(0x22, 4, RTZ), H(0x3e00), 0, 0, 0, H(0x3c00), 0, 0, 0},
    {"fleq.s nan", OP2(0x50, 4), S(0), S_NAN, 0, 0, 0, 0, 0, 0},
    {"fltq.d", OP2(0x51, 5), 0x3ff8000000000000, 0x4000000000000000, 0, 0, 0, 1, 0, 0},
    {"fltq.d nan", OP2(0x51, 5), 0x3ff8000000000000, D_NAN, 0, 0, 0, 0, 0, 0},
    {"fcvtmod.w.d", OP1(0x61, 8, RTZ), 0x41f0000000180000, 0, 0, 0, 0, 1, NV, 0},
};

START_TEST(instructions)
{
    Hart *hart = new_hart("max");
    CpuState *cpu = &hart->cpu;
    cpu->frm = cases[_i].frm;
    riscv_update_fp(hart);
    cpu->f[11] = cases[_i].f11;
    cpu->f[12] = cases[_i].f12;
    cpu->f[13] = cases[_i].f13;
    cpu->x[11] = cases[_i].x11;
    CpuExit exit = run(hart, cases[_i].insn);
    ck_assert_msg(exit == EXIT_NEXT || exit == EXIT_LINK, "%s: exit %d", cases[_i].name, exit);
    ck_assert_uint_eq(cpu->pc, 4);
    ck_assert_msg(cpu->f[10] == cases[_i].f10, "%s: f10 is %016llx, not %016llx", cases[_i].name,
                  (unsigned long long)cpu->f[10], (unsigned long long)cases[_i].f10);
    ck_assert_msg(cpu->x[10] == cases[_i].x10, "%s: x10 is %016llx, not %016llx", cases[_i].name,
                  (unsigned long long)cpu->x[10], (unsigned long long)cases[_i].x10);
    ck_assert_msg(cpu->fflags == cases[_i].flags, "%s: flags %x, not %x", cases[_i].name,
                  cpu->fflags, cases[_i].flags);

    /* With FS off each is illegal and changes nothing. */
    u64 before = cpu->f[10];
    hart->mstatus = 0;
    riscv_update_fp(hart);
    cpu->f[11] = ~cpu->f[11];
    ck_assert_int_eq(run(hart, cases[_i].insn), EXIT_TRAP);
    ck_assert_uint_eq(cpu->trap_cause, CAUSE_ILLEGAL);
    ck_assert_uint_eq(cpu->f[10], before);
    drop(hart);
}
END_TEST

START_TEST(rounding_mode_checks)
{
    for (unsigned rm = 0; rm < 8; rm++) {
        for (unsigned frm = 0; frm < 8; frm++) {
            Hart *hart = new_hart("max");
            hart->cpu.frm = (u8)frm;
            riscv_update_fp(hart);
            bool legal = rm == DYN ? frm <= RMM : rm <= RMM;
            ck_assert_int_eq(run(hart, OP2(0x01, rm)) == EXIT_TRAP, !legal);
            ck_assert_int_ne(run(hart, OP2(0x11, 0)), EXIT_TRAP); /* fsgnj does not round */
            drop(hart);
        }
    }
}
END_TEST

START_TEST(constants)
{
    static const u64 single[32] = {
        0xbf800000, 0x00800000, 0x37800000, 0x38000000, 0x3b800000, 0x3c000000, 0x3d800000,
        0x3e000000, 0x3e800000, 0x3ea00000, 0x3ec00000, 0x3ee00000, 0x3f000000, 0x3f200000,
        0x3f400000, 0x3f600000, 0x3f800000, 0x3fa00000, 0x3fc00000, 0x3fe00000, 0x40000000,
        0x40200000, 0x40400000, 0x40800000, 0x41000000, 0x41800000, 0x43000000, 0x43800000,
        0x47000000, 0x47800000, 0x7f800000, 0x7fc00000,
    };
    Hart *hart = new_hart("max");
    for (unsigned i = 0; i < 32; i++) {
        run(hart, 0xf0100553 | i << 15);
        ck_assert_uint_eq(hart->cpu.f[10], S(single[i]));
    }
    run(hart, 0xf2100553 | 1u << 15);
    ck_assert_uint_eq(hart->cpu.f[10], 0x0010000000000000);
    run(hart, 0xf2100553 | 9u << 15);
    ck_assert_uint_eq(hart->cpu.f[10], 0x3fd4000000000000);
    run(hart, 0xf2100553 | 31u << 15);
    ck_assert_uint_eq(hart->cpu.f[10], D_NAN);
    run(hart, 0xf4100553 | 1u << 15);
    ck_assert_uint_eq(hart->cpu.f[10], H(0x0400));
    run(hart, 0xf4100553 | 2u << 15);
    ck_assert_uint_eq(hart->cpu.f[10], H(0x0100));
    run(hart, 0xf4100553 | 29u << 15);
    ck_assert_uint_eq(hart->cpu.f[10], H(0x7c00));
    ck_assert_uint_eq(hart->cpu.fflags, 0);
    drop(hart);
}
END_TEST

/* Loads box, stores take the low bits as they are; x11 = 16 is the base. */
START_TEST(memory_accesses)
{
    static const struct {
        u32 load, store; /* f10, 8(x11) and f12, -8(x11) */
        unsigned size;
    } kinds[] = {
        {0x00859507, 0xfec59c27, 2}, {0x0085a507, 0xfec5ac27, 4}, {0x0085b507, 0xfec5bc27, 8}};
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        for (unsigned rv32 = 0; rv32 < 2; rv32++) {
            Hart *hart = new_hart(rv32 ? "max32" : "max");
            u64 value = 0xfedcba9876543210, boxed = ~(u64)0, stored = 0;
            hart->cpu.x[11] = 16;
            memcpy(memory + 24, &value, 8);
            memcpy(&boxed, &value, kinds[i].size);
            run(hart, kinds[i].load);
            ck_assert_uint_eq(hart->cpu.f[10], boxed);
            hart->cpu.f[12] = value; /* not boxed: stored all the same */
            run(hart, kinds[i].store);
            memcpy(&stored, &value, kinds[i].size);
            ck_assert_int_eq(memcmp(memory + 8, &stored, 8), 0);
            drop(hart);
        }
    }
}
END_TEST

START_TEST(compressed)
{
    Hart *hart = new_hart("max");
    u64 value = 0x0123456789abcdef;
    memcpy(memory + 24, &value, 8);
    hart->cpu.x[10] = 8;
    hart->cpu.x[2] = 16;
    run(hart, 0x2908); /* c.fld fa0, 16(a0) */
    ck_assert_uint_eq(hart->cpu.f[10], value);
    run(hart, 0x25a2); /* c.fldsp fa1, 8(sp) */
    ck_assert_uint_eq(hart->cpu.f[11], value);
    hart->cpu.f[10] = ~value;
    run(hart, 0xa508); /* c.fsd fa0, 8(a0) */
    ck_assert_int_eq(memcmp(memory + 16, &hart->cpu.f[10], 8), 0);
    run(hart, 0xa02e); /* c.fsdsp fa1, 0(sp) */
    ck_assert_int_eq(memcmp(memory + 16, &value, 8), 0);
    drop(hart);
}
END_TEST

START_TEST(on_rv32)
{
    Hart *hart = new_hart("max32");
    CpuState *cpu = &hart->cpu;
    cpu->f[11] = 0x87654321fedcba98;
    run(hart, OP1(0x70, 0, 0)); /* fmv.x.w: registers are zero-extended here */
    ck_assert_uint_eq(cpu->x[10], 0xfedcba98);
    run(hart, OP1(0x71, 1, 0)); /* fmvh.x.d */
    ck_assert_uint_eq(cpu->x[10], 0x87654321);
    cpu->x[11] = 0xfedcba98;
    cpu->x[12] = 0x87654321;
    run(hart, OP2(0x59, 0)); /* fmvp.d.x */
    ck_assert_uint_eq(cpu->f[10], 0x87654321fedcba98);
    cpu->f[11] = 0xc000000000000000;
    run(hart, OP1(0x61, 0, RTZ)); /* fcvt.w.d of -2 */
    ck_assert_uint_eq(cpu->x[10], 0xfffffffe);
    cpu->x[11] = 0xfffffffe;
    run(hart, OP1(0x69, 0, RNE)); /* fcvt.d.w */
    ck_assert_uint_eq(cpu->f[10], 0xc000000000000000);
    static const u32 rv64_only[] = {OP1(0x60, 2, 0), OP1(0x61, 3, 0), OP1(0x68, 2, 0),
                                    OP1(0x71, 0, 0), OP1(0x79, 0, 0)};
    for (unsigned i = 0; i < ARRAY_LEN(rv64_only); i++) {
        ck_assert_int_eq(run(hart, rv64_only[i]), EXIT_TRAP);
    }
    cpu->x[10] = 8;
    cpu->x[2] = 16;
    u32 value = 0x89abcdef;
    memcpy(memory + 24, &value, 4);
    run(hart, 0x6908); /* c.flw fa0, 16(a0) */
    ck_assert_uint_eq(cpu->f[10], S(value));
    run(hart, 0x65a2); /* c.flwsp fa1, 8(sp) */
    ck_assert_uint_eq(cpu->f[11], S(value));
    cpu->f[10] = 5;
    run(hart, 0xe508); /* c.fsw fa0, 8(a0) */
    ck_assert_uint_eq(memory[16], 5);
    run(hart, 0xe02e); /* c.fswsp fa1, 0(sp) */
    ck_assert_int_eq(memcmp(memory + 16, &value, 4), 0);
    ck_assert_uint_eq(memory[20], 0);
    drop(hart);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fp_rows");
    TCase *tc = tcase_create("fp_rows");
    tcase_add_loop_test(tc, instructions, 0, ARRAY_LEN(cases));
    tcase_add_test(tc, rounding_mode_checks);
    tcase_add_test(tc, constants);
    tcase_add_test(tc, memory_accesses);
    tcase_add_test(tc, compressed);
    tcase_add_test(tc, on_rv32);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
