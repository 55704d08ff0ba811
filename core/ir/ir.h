/*
 * The intermediate representation: a block is a straight line of 16-byte records. The value that a
 * record computes is named by the record's index. Guest registers are read and written by
 * getreg/setreg with a byte offset in CpuState; there is no flags object.
 *
 * Blocks are position-independent: a guest address is an offset from the virtual page that the
 * block starts in, so one translation serves every mapping of a physical page.
 *
 * Producers: the frontend, through core/ir/builder.h. Consumers: core/opt, the interpreter (T0),
 * the backend (T1). The operations are in core/ir/ops.def.
 */
#ifndef STAG_CORE_IR_IR_H
#define STAG_CORE_IR_IR_H

#include <stdio.h>

#include "core/base/types.h"
#include "core/cpu.h"

typedef enum IrOp {
#define OP(name, operands, result, flags, value) IR_##name,
#include "core/ir/ops.def"
    IR_OP_COUNT
} IrOp;

typedef enum IrType { IR_NOTYPE, IR_I32, IR_I64, IR_F16, IR_F32, IR_F64, IR_TYPE_COUNT } IrType;

typedef enum IrCond {
    IR_EQ, IR_NE,
    IR_LT, IR_GE,   /* signed */
    IR_LTU, IR_GEU, /* unsigned */
} IrCond;

typedef enum IrAmo {
    IR_AMO_SWAP, IR_AMO_ADD, IR_AMO_XOR, IR_AMO_AND, IR_AMO_OR,
    IR_AMO_MIN, IR_AMO_MAX, IR_AMO_MINU, IR_AMO_MAXU,
} IrAmo;

typedef u16 IrValue; /* index of the record that computes it */
#define IR_NONE ((IrValue)0xffff)

enum {
    IR_MEM_SIZE = 3,      /* aux & IR_MEM_SIZE = log2 of the size in bytes */
    IR_MEM_SIGNED = 4,    /* sign-extend the loaded value */
    IR_AMO_SHIFT = 8,     /* aux >> IR_AMO_SHIFT = IrAmo */
    IR_RM_MASK = 7,       /* aux & IR_RM_MASK = rounding mode of an FP op, 7 = dynamic */
    IR_ROUND_EXACT = 8,   /* fround: raise NX */
    IR_CVT_UNSIGNED = 16, /* fcvt_if, fcvt_fi: the integer is unsigned */
    IR_CVT_32 = 32,       /* ... and has 32 bits, else 64 */
    /* What goto and jump probably are. Hints: what happens is the same. */
    IR_RETURN = 1,     /* jump: the end of a function; bit 0 of its target does not count */
    IR_CALL_BYTES = 6, /* a call that comes back 2 or 4 bytes after the instruction's begin */
};

typedef struct IrInsn {
    u8 op;   /* IrOp */
    u8 type; /* IrType of the result; for ops without one, of the operands */
    u8 src;  /* IrType of the operands where it differs from the result's */
    u8 flags; /* for passes over the block; 0 when built */
    u16 aux;
    IrValue a;
    union {
        struct {
            IrValue b, c;
            s32 imm;
        };
        s64 imm64; /* const only */
    };
} IrInsn;
_Static_assert(sizeof(IrInsn) == 16, "IR records are 16 bytes");

enum {
    HELPER_TRAPS = 1 << 0, /* may set cpu->status: generated code tests it and leaves */
    HELPER_PC = 1 << 1, /* reads or writes cpu->pc: it is set to the instruction's address before */
    HELPER_REGS = 1 << 2, /* reads or writes guest registers other than by operands and result */
    HELPER_FP = 1 << 3,   /* reads or writes fflags, frm or fp_ready, or computes with floating
                           * point: the others may meet the guest's rounding mode on the host */
    HELPER_IMM =
        1 << 4, /* the record's imm (sign-extended) is passed as the argument after the operands */
};

/* Every helper is a C function u64 fn(CpuState *, u64, u64, u64, u64); integers are passed
 * as described by their type with unspecified upper bits, FP values as raw bits. */
typedef u64 (*IrHelperFn)(CpuState *cpu, u64 a, u64 b, u64 c, u64 d);

/* One row of the frontend's table of helpers; a row without a name ends the table. */
typedef struct IrHelper {
    const char *name;
    IrHelperFn fn;
    u8 args;  /* number of operands, 0..3, not counting the immediate */
    u8 flags; /* HELPER_* */
} IrHelper;

/* A guest register that a frontend would like to see in a host register. */
typedef struct IrHotReg {
    u16 offset; /* in CpuState */
    bool is_float;
} IrHotReg;

enum { IR_MAX_INSNS = 4096 }; /* records in a block */

typedef struct IrBlock {
    IrInsn *insns; /* room for IR_MAX_INSNS */
    u32 count;
    u32 page_offset;      /* of the first guest instruction, 0..4094 */
    u32 guest_insns;      /* number of `insn` records */
    u32 guest_bytes;      /* from page_offset on; contiguous unless the block follows jumps */
    bool straddles;       /* the (only) instruction continues in the next page */
    bool ungrouped;       /* the backend must check every access by itself */
    IrType xlen;          /* IR_I32 or IR_I64 */
    const IrHelper *helpers; /* the frontend's table; `call` indexes it */
} IrBlock;

typedef struct IrOpInfo {
    const char *name;
    const char *operands;
    u8 operand_count; /* length of operands; for call see ir_operand_count */
    char result;      /* 'T', 'I' or '-' */
    bool pure : 1, commutative : 1, may_trap : 1, ends : 1, leaves : 1, fp_state : 1;
    bool side_effect : 1;
} IrOpInfo;
extern const IrOpInfo ir_op_info[IR_OP_COUNT];

/* Width in bits: 32 for I32 and F32, 64, 16; 0 for IR_NOTYPE. */
unsigned ir_type_bits(IrType type);
static inline bool ir_type_is_int(IrType type)
{
    return type == IR_I32 || type == IR_I64;
}

/* Number of operands of a record (0..3); calls: the helper's. */
static inline unsigned ir_operand_count(const IrBlock *block, const IrInsn *insn)
{
    return insn->op == IR_call ? block->helpers[insn->aux].args
                               : ir_op_info[insn->op].operand_count;
}
static inline IrValue ir_operand(const IrInsn *insn, unsigned i)
{
    return i == 0 ? insn->a : i == 1 ? insn->b : insn->c;
}

/* The value of a pure integer op (flags P, integer operands): operands as 64-bit words whose bits
 * above the op's width are ignored; the result's bits above the type's width are zero. The
 * interpreter and the constant folder share it. False if the op is not such an op. */
bool ir_eval_int(const IrInsn *insn, u64 a, u64 b, u64 c, u64 *result);

/* The value of a floating-point op (fadd .. ffrom), on raw bits, by soft float, accruing into
 * cpu->fflags and using cpu->frm when dynamic. The interpreter uses it for all, the backend for
 * what the host's FPU does not do as RISC-V wants. */
u64 ir_eval_fp(CpuState *cpu, const IrInsn *insn, u64 a, u64 b, u64 c);

/* Text form, one record a line: "v7 = add.i64 v3, v5". The grammar is described in core/ir/text.c.
 */
void ir_print_insn(FILE *out, const IrBlock *block, u32 index);
void ir_print(FILE *out, const IrBlock *block);

/* Reads what ir_print wrote, helpers by name, into a block whose insns and helpers are set; without
 * a "block" line xlen and page_offset stay as they are. guest_insns is counted. False with a
 * message in *error, to g_free, for text that is not IR; it does not do ir_check's work. */
bool ir_parse(const char *text, IrBlock *block, char **error);

/* Checks a block: operands defined before use and of a fitting type, one `ends` record and it is
 * last, offsets in range, as many guest instruction marks as guest_insns says, the first at
 * page_offset. NULL if it is fine, else a message to g_free. */
char *ir_check(const IrBlock *block);

/*
 * T0: runs a block on the state, as the backend's code would: guards, traps, budget and exits
 * included. cpu->pc is the block's first instruction. Returns why it ended; cpu->pc and the budget
 * are exact then. The block is one that ir_check accepts.
 */
typedef struct IrInterpreter {
    /* A guard's byte is 0; cpu->pc is the guarded instruction. True: go on with the block after it
     * (all rounding modes work here); false: a trap is recorded, leave with EXIT_TRAP. NULL: leave
     * with EXIT_GUARD. */
    bool (*guard_failed)(CpuState *cpu, unsigned guard);
    /* Does a guard_next_page hold? NULL: no. */
    bool (*next_page_ok)(CpuState *cpu, const void *expected);
    const void *expected;
    /* Guest memory, sizes in log2 of bytes. Loaded values are zero-extended, upper bits of stored
     * ones are 0. False: a trap is recorded in *cpu. */
    bool (*load)(CpuState *cpu, u64 va, unsigned size_log2, u64 *value);
    bool (*store)(CpuState *cpu, u64 va, unsigned size_log2, u64 value);
    /* Where the host keeps a naturally aligned word, writable for amo, cas and sc, readable for lr.
     */
    bool (*amo_host)(CpuState *cpu, u64 va, unsigned size_log2, void **host);
    bool (*lr_host)(CpuState *cpu, u64 va, unsigned size_log2, void **host);
    /* Clears the 64 bytes around va. False: a trap is recorded. */
    bool (*zero)(CpuState *cpu, u64 va);
} IrInterpreter;
CpuExit ir_interpret(const IrBlock *block, CpuState *cpu, const IrInterpreter *callbacks);

#endif
