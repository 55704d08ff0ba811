/*
 * A small assembler for the instructions that the backend emits. Each encoder appends one
 * instruction at a->p. An instruction is named by a number that holds its opcode byte, map,
 * mandatory prefix and operand size, as the manual prints them; an operand that may be a register
 * or memory is an Rm.
 *
 * Code is written through the writable mapping; the address that it runs at is `p - exec_delta`.
 */
#ifndef STAG_BACKEND_X86_64_ASM_H
#define STAG_BACKEND_X86_64_ASM_H

#include <string.h>

#include "core/base/types.h"

typedef enum HostReg {
    RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15,
} HostReg;

/* Condition codes, as in the low four bits of jcc, setcc and cmovcc. */
typedef enum HostCond {
    CC_O,
    CC_NO,
    CC_B,
    CC_AE,
    CC_E,
    CC_NE,
    CC_BE,
    CC_A,
    CC_S,
    CC_NS,
    CC_P,
    CC_NP,
    CC_L,
    CC_GE,
    CC_LE,
    CC_G,
} HostCond;

enum {
    X_0F = 1 << 8,
    X_0F38 = 2 << 8,
    X_0F3A = 3 << 8, /* opcode map */
    X_66 = 1 << 16,
    X_F3 = 2 << 16,
    X_F2 = 3 << 16,      /* mandatory prefix, numbered as VEX.pp */
    X_W = 1 << 20,       /* 64-bit operands (VEX.W) */
    X_BYTE = 1 << 21,    /* the register operand is a byte register */
    X_BYTE_RM = 1 << 22, /* ... the Rm operand, if it is a register */
};

/* Opcodes that more than one place uses. */
enum {
    X_MOV_LOAD = 0x8b,
    X_MOV_STORE = 0x89,
    X_MOV_STORE8 = 0x88 | X_BYTE,
    X_LEA = 0x8d,
    X_MOVSXD = 0x63 | X_W,
    X_MOVZX8 = 0xb6 | X_0F | X_BYTE_RM,
    X_MOVZX16 = 0xb7 | X_0F,
    X_MOVSX8 = 0xbe | X_0F | X_BYTE_RM,
    X_MOVSX16 = 0xbf | X_0F,
    X_TEST = 0x85,
    X_IMUL = 0xaf | X_0F,
    X_LZCNT = 0xbd | X_0F | X_F3,
    X_TZCNT = 0xbc | X_0F | X_F3,
    X_POPCNT = 0xb8 | X_0F | X_F3,
    X_XCHG = 0x87,
    X_XADD = 0xc1 | X_0F,
    X_CMPXCHG = 0xb1 | X_0F,
    /* VEX */
    V_SHLX = 0xf7 | X_0F38 | X_66,
    V_SHRX = 0xf7 | X_0F38 | X_F2,
    V_SARX = 0xf7 | X_0F38 | X_F3,
    V_BEXTR = 0xf7 | X_0F38,
    V_ANDN = 0xf2 | X_0F38,
    V_MULX = 0xf6 | X_0F38 | X_F2,
    V_RORX = 0xf0 | X_0F3A | X_F2,
    V_MOVD_LOAD = 0x6e | X_0F | X_66,
    V_MOVD_STORE = 0x7e | X_0F | X_66, /* with X_W: movq */
    V_MOVSD_LOAD = 0x10 | X_0F | X_F2,
    V_MOVSD_STORE = 0x11 | X_0F | X_F2,
    V_MOVSS_LOAD = 0x10 | X_0F | X_F3,
    V_MOVSS_STORE = 0x11 | X_0F | X_F3,
    V_MOVAPS = 0x28 | X_0F,
    V_MOVAPS_STORE = 0x29 | X_0F,
    V_PEXTRW = 0x15 | X_0F3A | X_66,
    V_PEXTRB = 0x14 | X_0F3A | X_66,
    V_PINSRW = 0xc4 | X_0F | X_66,
    V_PCMPEQB = 0x74 | X_0F | X_66,
    V_PCMPEQD = 0x76 | X_0F | X_66,
    V_PTEST = 0x17 | X_0F38 | X_66,
    V_ANDPS = 0x54 | X_0F,
    V_ANDNPS = 0x55 | X_0F,
    V_ORPS = 0x56 | X_0F,
    V_XORPS = 0x57 | X_0F,
    V_STMXCSR = 0xae | X_0F,
    V_LDMXCSR = 0xae | X_0F, /* /3 and /2 */
};

/* Two-operand arithmetic, as in the opcode's bits 5:3 and the immediate form's /digit. */
typedef enum HostAlu {
    ALU_ADD,
    ALU_OR,
    ALU_ADC,
    ALU_SBB,
    ALU_AND,
    ALU_SUB,
    ALU_XOR,
    ALU_CMP
} HostAlu;

typedef enum RmMode { RM_REG, RM_BASE, RM_INDEX, RM_RIP } RmMode;

/* A register or memory operand. */
typedef struct Rm {
    s32 disp; /* RM_RIP: the code address itself */
    u8 mode;
    u8 base;
    u8 index;
    u8 scale; /* log2 */
} Rm;

static inline Rm rm_reg(unsigned reg)
{
    return (Rm){.mode = RM_REG, .base = (u8)reg};
}

static inline Rm rm_mem(unsigned base, s32 disp)
{
    return (Rm){.mode = RM_BASE, .base = (u8)base, .disp = disp};
}

static inline Rm rm_index(unsigned base, unsigned index, unsigned scale, s32 disp)
{
    return (Rm){
        .mode = RM_INDEX, .base = (u8)base, .index = (u8)index, .scale = (u8)scale, .disp = disp};
}

/* Memory within the code space, by its code address. */
static inline Rm rm_code(u32 address)
{
    return (Rm){.mode = RM_RIP, .disp = (s32)address};
}

static inline bool rm_is_reg(Rm m, unsigned reg)
{
    return m.mode == RM_REG && m.base == reg;
}

typedef struct Asm {
    u8 *p;          /* next byte, in the writable mapping */
    u64 exec_delta; /* writable address - executable address */
} Asm;

static inline u32 asm_here(const Asm *a)
{
    return (u32)((u64)(uintptr_t)a->p - a->exec_delta);
}

/* Encoders are expanded where they are used, so that what is constant there costs nothing. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

ALWAYS_INLINE void emit8(Asm *a, unsigned v)
{
    *a->p++ = (u8)v;
}

ALWAYS_INLINE u8 *put32(u8 *p, u32 v)
{
    memcpy(p, &v, 4);
    return p + 4;
}

ALWAYS_INLINE void emit32(Asm *a, u32 v)
{
    a->p = put32(a->p, v);
}

ALWAYS_INLINE void emit64(Asm *a, u64 v)
{
    memcpy(a->p, &v, 8);
    a->p += 8;
}

/* ModRM, SIB and displacement at p. `imm_bytes` follow and end the instruction. */
ALWAYS_INLINE u8 *put_modrm(const Asm *a, u8 *p, unsigned reg, Rm m, unsigned imm_bytes)
{
    const unsigned r = (reg & 7) << 3, b = m.base & 7;
    if (m.mode == RM_REG) {
        *p++ = (u8)(0xc0 | r | b);
        return p;
    }
    if (m.mode == RM_RIP) {
        *p++ = (u8)(r | 5);
        return put32(p, (u32)m.disp - ((u32)((u64)(uintptr_t)p - a->exec_delta) + 4 + imm_bytes));
    }
    unsigned mod;
    if (m.disp == 0 && b != 5) {
        mod = 0;
    } else if (m.disp == (s8)m.disp) {
        mod = 0x40;
    } else {
        mod = 0x80;
    }
    if (m.mode == RM_INDEX) {
        *p++ = (u8)(mod | r | 4);
        *p++ = (u8)((unsigned)m.scale << 6 | (m.index & 7u) << 3 | b);
    } else {
        *p++ = (u8)(mod | r | b);
        if (b == 4) {
            *p++ = 0x24;
        }
    }
    /* Four bytes are written in any case: no branch. */
    put32(p, (u32)m.disp);
    return p + (mod == 0 ? 0 : mod == 0x40 ? 1 : 4);
}

/* A legacy-encoded instruction up to its immediate. */
ALWAYS_INLINE void x86(Asm *a, u32 opcode, unsigned reg, Rm m, unsigned imm_bytes)
{
    const unsigned pp = opcode >> 16 & 3, map = opcode >> 8 & 3;
    u8 *p = a->p;
    if (pp) {
        *p++ = pp == 1 ? 0x66 : pp == 2 ? 0xf3 : 0xf2;
    }
    unsigned rex =
        (opcode & X_W ? 8u : 0u) | (reg >> 3) << 2 | (m.mode == RM_RIP ? 0 : m.base >> 3u);
    if (m.mode == RM_INDEX) {
        rex |= (m.index >> 3u) << 1;
    }
    *p = (u8)(0x40 | rex);
    p += rex || ((opcode & X_BYTE) && reg >= 4) ||
         ((opcode & X_BYTE_RM) && m.mode == RM_REG && m.base >= 4);
    if (map) {
        *p++ = 0x0f;
        if (map > 1) {
            *p++ = map == 2 ? 0x38 : 0x3a;
        }
    }
    *p++ = (u8)opcode;
    a->p = put_modrm(a, p, reg, m, imm_bytes);
}

/* A VEX-encoded one: reg and m as above, v the additional source (0 where there is none). */
ALWAYS_INLINE void vex(Asm *a, u32 opcode, unsigned reg, unsigned v, Rm m, unsigned imm_bytes)
{
    const unsigned map = opcode >> 8 & 3, pp = opcode >> 16 & 3, w = opcode & X_W ? 0x80 : 0;
    const unsigned not_r = reg & 8 ? 0 : 0x80;
    const unsigned x = m.mode == RM_INDEX ? m.index & 8u : 0,
                   b = m.mode == RM_RIP ? 0 : m.base & 8u;
    const unsigned low = (~v & 15) << 3 | pp;
    u8 *p = a->p;
    if (map == 1 && !w && !x && !b) {
        *p++ = 0xc5;
        *p++ = (u8)(not_r | low);
    } else {
        *p++ = 0xc4;
        *p++ = (u8)(not_r | (x ? 0 : 0x40) | (b ? 0 : 0x20) | map);
        *p++ = (u8)(w | low);
    }
    *p++ = (u8)opcode;
    a->p = put_modrm(a, p, reg, m, imm_bytes);
}

/* ... without an additional source. */
ALWAYS_INLINE void vex2(Asm *a, u32 opcode, unsigned reg, Rm m)
{
    vex(a, opcode, reg, 0, m, 0);
}

ALWAYS_INLINE void vex_imm(Asm *a, u32 opcode, unsigned reg, unsigned v, Rm m, unsigned imm)
{
    vex(a, opcode, reg, v, m, 1);
    emit8(a, imm);
}

ALWAYS_INLINE u32 w_if(bool is64)
{
    return is64 ? X_W : 0;
}

ALWAYS_INLINE void mov_rr(Asm *a, bool w, unsigned dst, unsigned src)
{
    x86(a, X_MOV_LOAD | w_if(w), dst, rm_reg(src), 0);
}

/* A 64-bit constant in the shortest form that leaves the flags alone. */
ALWAYS_INLINE void mov_ri(Asm *a, unsigned dst, u64 v)
{
    if (v == (u32)v) {
        if (dst >= 8) {
            emit8(a, 0x41);
        }
        emit8(a, 0xb8 | (dst & 7));
        emit32(a, (u32)v);
    } else if ((s64)v == (s32)v) {
        x86(a, 0xc7 | X_W, 0, rm_reg(dst), 4);
        emit32(a, (u32)v);
    } else {
        emit8(a, dst >= 8 ? 0x49 : 0x48);
        emit8(a, 0xb8 | (dst & 7));
        emit64(a, v);
    }
}

/* mov dword/qword [m], imm32 (sign-extended). */
ALWAYS_INLINE void mov_mi(Asm *a, bool w, Rm m, s32 imm)
{
    x86(a, 0xc7 | w_if(w), 0, m, 4);
    emit32(a, (u32)imm);
}

ALWAYS_INLINE void alu_rm(Asm *a, bool w, HostAlu op, unsigned reg, Rm m)
{
    x86(a, (u32)(0x03 | op << 3) | w_if(w), reg, m, 0);
}

ALWAYS_INLINE void alu_mr(Asm *a, bool w, HostAlu op, Rm m, unsigned reg)
{
    x86(a, (u32)(0x01 | op << 3) | w_if(w), reg, m, 0);
}

ALWAYS_INLINE void alu_mi(Asm *a, bool w, HostAlu op, Rm m, s32 imm)
{
    if (imm == (s8)imm) {
        x86(a, 0x83 | w_if(w), op, m, 1);
        emit8(a, (u8)imm);
    } else {
        x86(a, 0x81 | w_if(w), op, m, 4);
        emit32(a, (u32)imm);
    }
}

/* rol 0, ror 1, shl 4, shr 5, sar 7 by a constant. */
ALWAYS_INLINE void shift_i(Asm *a, bool w, unsigned digit, unsigned reg, unsigned n)
{
    x86(a, 0xc1 | w_if(w), digit, rm_reg(reg), 1);
    emit8(a, n);
}

ALWAYS_INLINE void rorx(Asm *a, bool w, unsigned dst, Rm m, unsigned n)
{
    vex_imm(a, V_RORX | w_if(w), dst, 0, m, n);
}

/* Jumps and calls to a code address. */
ALWAYS_INLINE void jmp_to(Asm *a, u32 target)
{
    emit8(a, 0xe9);
    emit32(a, target - (asm_here(a) + 4));
}

ALWAYS_INLINE void call_to(Asm *a, u32 target)
{
    emit8(a, 0xe8);
    emit32(a, target - (asm_here(a) + 4));
}

ALWAYS_INLINE void jcc_to(Asm *a, HostCond cc, u32 target)
{
    emit8(a, 0x0f);
    emit8(a, 0x80 | cc);
    emit32(a, target - (asm_here(a) + 4));
}

/* Forward jumps: the place of the displacement, for bind(). */
ALWAYS_INLINE u8 *jcc_fwd(Asm *a, HostCond cc)
{
    emit8(a, 0x0f);
    emit8(a, 0x80 | cc);
    emit32(a, 0);
    return a->p - 4;
}

ALWAYS_INLINE u8 *jmp_fwd(Asm *a)
{
    emit8(a, 0xe9);
    emit32(a, 0);
    return a->p - 4;
}

ALWAYS_INLINE u8 *call_fwd(Asm *a)
{
    emit8(a, 0xe8);
    emit32(a, 0);
    return a->p - 4;
}

ALWAYS_INLINE void push(Asm *a, unsigned reg)
{
    if (reg >= 8) {
        emit8(a, 0x41);
    }
    emit8(a, 0x50 | (reg & 7));
}

ALWAYS_INLINE void pop(Asm *a, unsigned reg)
{
    if (reg >= 8) {
        emit8(a, 0x41);
    }
    emit8(a, 0x58 | (reg & 7));
}

ALWAYS_INLINE void ret(Asm *a)
{
    emit8(a, 0xc3);
}

/* Makes the jump whose displacement is at `at` lead to `target` (an address in the writable
 * mapping). */
ALWAYS_INLINE void bind_to(u8 *at, const u8 *target)
{
    const s32 d = (s32)(target - (at + 4));
    memcpy(at, &d, 4);
}

ALWAYS_INLINE void bind(Asm *a, u8 *at)
{
    bind_to(at, a->p);
}

/* Short forward jumps within a sequence: the place of the 8-bit displacement. */
ALWAYS_INLINE u8 *jcc8_fwd(Asm *a, HostCond cc)
{
    emit8(a, 0x70 | cc);
    emit8(a, 0);
    return a->p - 1;
}

ALWAYS_INLINE u8 *jmp8_fwd(Asm *a)
{
    emit8(a, 0xeb);
    emit8(a, 0);
    return a->p - 1;
}

ALWAYS_INLINE void bind8(Asm *a, u8 *at)
{
    *at = (u8)(a->p - (at + 1));
}

/* `n` bytes (0..9) of one instruction that does nothing. */
ALWAYS_INLINE void nops(Asm *a, unsigned n)
{
    static const u8 forms[10][9] = {
        {0},
        {0x90},
        {0x66, 0x90},
        {0x0f, 0x1f, 0x00},
        {0x0f, 0x1f, 0x40, 0x00},
        {0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00},
        {0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00},
        {0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
        {0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00},
    };
    memcpy(a->p, forms[n], n);
    a->p += n;
}

#endif
