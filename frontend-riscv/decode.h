/*
 * The decoder that gen/decoder.py writes from the rows of insn/: from instruction bits to a row and its operands.
 * It is pure and knows no state but the model's XLEN and extensions.
 */
#ifndef STAG_FRONTEND_RISCV_DECODE_H
#define STAG_FRONTEND_RISCV_DECODE_H

#include "core/base/types.h"

typedef struct Tr Tr;

/* Operands as the format extracts them; those that the format lacks are 0. */
typedef struct Operands {
    u8 rd, rs1, rs2, rs3; /* register numbers; rs1 is the 5-bit immediate of csrr*i and the constant's index of fli */
    u8 rm;                /* rounding mode field */
    u8 aqrl;              /* bit 1: aq, bit 0: rl */
    s32 imm;              /* sign-extended where the format says so; a CSR's number */
} Operands;

typedef struct RiscvRow {
    const char *name;  /* mnemonic */
    void (*translate)(Tr *t, u32 insn); /* takes the operands out of the bits and calls the body */
    u32 mask, match;   /* the fixed bits of the encoding */
    u8 length;         /* 2 or 4 */
    u8 format;         /* for riscv_extract and riscv_format_asm */
    bool rv32, rv64;   /* exists at that XLEN */
    u64 ext;           /* all of these extensions (any of them if ext_any) */
    bool ext_any;
} RiscvRow;

extern const RiscvRow riscv_rows[];
extern const unsigned riscv_row_count;

/* The row of an instruction (16-bit ones in the low half, upper half ignored), or -1: illegal. */
int riscv_decode(u32 insn, u64 ext, bool rv32);

/* Takes the operands out of the bits. */
void riscv_extract(unsigned format, u32 insn, Operands *o);

/* How the operands are written: words (rd, frs1, imm, target, ...) and punctuation; see disasm.c. */
extern const char *const riscv_format_asm[];
/* The formats' names, for tests and the table of rows. */
extern const char *const riscv_format_name[];

/* Bits 1:0 of the first halfword tell the length. */
static inline unsigned riscv_insn_length(u16 first)
{
    return (first & 3) == 3 ? 4 : 2;
}

#endif
