/*
 * The compiler's state while it walks over one block, and the small set of operations on values and
 * registers that selection is written with. Private to the backend.
 *
 * Where a value can be:
 *   LOC_CONST   nowhere: it is an immediate
 *   LOC_HOME    in a guest register: its host register if it is mapped, else its slot in CpuState.
 *               getreg makes such an alias and costs nothing; only when the register is
 *               overwritten while the value is still needed is it copied away
 *   LOC_TEMP    in rdi, rsi or r13; `home` says whether a guest register in memory holds the same
 *   LOC_XTEMP   in xmm12, xmm13 or xmm14
 *   LOC_SPILL   in CpuState's frame
 * Operations compute straight into a mapped guest register when the backward pass has found that a
 * setreg of it follows before anything can observe the register (Val.hint).
 */
#ifndef STAG_BACKEND_X86_64_COMPILER_H
#define STAG_BACKEND_X86_64_COMPILER_H

#include "backend-x86_64/asm.h"
#include "backend-x86_64/backend.h"
#include "core/base/error.h"
#include "softmmu/view.h"

enum {
    SLOTS = 64, /* x0..x31, f0..f31 */
    MAPPED_INTS = 9,
    MAPPED_FLOATS = 12,
    XSCRATCH = 15, /* xmm15 belongs to the operation in progress */
    CPU_ANCHOR = 128, /* rbp - CpuState: what comes first has 8-bit displacements */
    /* Bytes for the guest calls in progress, 16 each: about as many as a CPU remembers the return
     * addresses of. Their addresses have this bit set. */
    STACK_DEPTH = 16384,
    SCRATCH_INTS = 3,
    SCRATCH_MASK = 1 << RDI | 1 << RSI | 1 << R13,
    /* In r14: bextr by it gives the table index of an address. */
    BEXTR_INDEX = VIEW_PAGE_SHIFT | VIEW_INDEX_BITS << 8,
    HOT_MARGIN = 512,   /* more bytes than the code of one record */
    CALL_MARGIN = 2048, /* ... of a call, which may move all guest registers' old values */
    COLD_MARGIN = 256,  /* ... its cold part and tables, each */
    MAX_COLD = 3 * IR_MAX_INSNS,
};

static const u8 scratch_ints[SCRATCH_INTS] = {RDI, RSI, R13};

/* CpuState.frame, by byte offset. */
enum {
    FRAME_PACKED = 0,      /* u32: page offset of the instruction | instructions to refund << 12 */
    FRAME_RESULT = 8,
    FRAME_ARG = 16,        /* four words */
    FRAME_GUEST_MXCSR = 48,
    FRAME_HOST_MXCSR = 52,
    FRAME_SAVED = 56,      /* rdi, rsi; C keeps r13 */
    FRAME_XSAVED = 72,     /* xmm12..15, low halves */
    FRAME_LINK = 104,
    FRAME_SPILL = 112,     /* one word per value, at most */
    FRAME_SIZE = FRAME_SPILL + 8 * IR_MAX_INSNS,
};
_Static_assert(FRAME_SIZE <= 8 * CPU_FRAME_WORDS, "CpuState has room");

static inline s32 cpu_disp(u32 offset)
{
    return (s32)offset - CPU_ANCHOR;
}

static inline Rm rm_cpu(u32 offset)
{
    return rm_mem(RBP, cpu_disp(offset));
}

static inline Rm rm_frame(s32 offset)
{
    return rm_cpu((u32)offsetof(CpuState, frame) + (u32)offset);
}
#define RM_BUDGET rm_cpu(offsetof(CpuState, budget))
#define RM_PAGE rm_cpu(offsetof(CpuState, code_page))

typedef enum HomeKind { HOME_MEM, HOME_INT, HOME_XMM } HomeKind;

/* A guest register's place between blocks. */
typedef struct Home {
    u8 kind;      /* HomeKind */
    u8 opnd_kind; /* OpndKind of a value that is there */
    u8 reg;       /* rbp for HOME_MEM */
    s16 disp;     /* of its slot, from rbp */
} Home;

/* Shared code and data in the stub area, by code address. */
typedef struct Stubs {
    u32 enter;
    u32 miss; /* rdi = address of an instruction without a block or entry: EXIT_NEXT */
    u32 fold;  /* table: MXCSR bits 5:0 to fflags */
    u32 leave; /* esi = CpuExit, edi = link jump; pc and budget are right */
    u32 dispatch; /* registers in memory: goes on at pc */
    /* Before an instruction (budget, trap, guard, next page): esi = packed. */
    u32 exit_packed[EXIT_HALT + 1];
    /* After one (next, link): esi = target as page offset, edi = link. */
    u32 exit_after[EXIT_HALT + 1];
    u32 return_miss;       /* rdi = target address of a return that matches no call */
    u32 exit_status;       /* esi = packed: the helper's status decides (leave) */
    u32 load[4], store[4]; /* rdi = va, rsi = value */
    u32 prepare[2][4]; /* [store][size] rdi = va; edi = whether there is an entry now */
    /* r14 = va: the flags are "be" if an access of the size stays in the page. Restores r14. */
    u32 crosses[4];
    u32 atomic; /* arguments in the frame */
    u32 zero;   /* rdi = va */
    u32 call[2][2][2]; /* [touches FP state][wants pc][may set the status] rdi = helper */
    u32 eval_fp, eval_int;
    u32 data;
    u32 end;
} Stubs;

/* Constants in the stub area: 16-byte entries at Stubs.data, both halves the same unless said
 * otherwise. */
typedef enum Data {
    DATA_ZERO,
    DATA_UPPER32,  /* ones in bits 63:32: what NaN boxing adds to an F32 */
    DATA_UPPER48,
    DATA_SIGN64, DATA_ABS64,
    DATA_SIGN32,   /* bit 31 */
    DATA_ABS32,    /* all but bit 31 */
    DATA_LOW32, DATA_LOW16,
    DATA_NAN64, DATA_NAN32, DATA_NAN16, /* canonical, boxed */
    DATA_F64_U32_MAX, DATA_F32_U32_MAX, /* largest that fits an unsigned 32-bit integer */
    DATA_F64_2P63, DATA_F32_2P63,
    DATA_M55, DATA_M33, DATA_M0F, /* 0x5555..., for brev8 */
    DATA_70,                      /* 0x7070..., for xperm8 */
    DATA_COUNT,
} Data;

/* What the backward pass has to know about an operation other than insn, getreg, setreg. */
enum {
    OP_DROPS = 1,      /* it may be dropped if nobody uses the value */
    OP_PROPAGATES = 2, /* a hint for the result is one for the first operand, too */
    OP_BARRIER = 4,    /* guest state is seen: it must be what has been set before */
};

typedef struct OpInfo {
    u8 flags; /* OP_* */
    u8 operands;
} OpInfo;

struct Backend {
    BackendConfig config;
    Home homes[SLOTS];
    Stubs stubs;
    OpInfo info[IR_OP_COUNT];
    BackendFindBlock find_block;
    void *find_opaque;
};

typedef enum Loc { LOC_NONE, LOC_DEAD, LOC_CONST, LOC_HOME, LOC_TEMP, LOC_XTEMP, LOC_SPILL } Loc;

enum {
    VAL_ZX = 1,    /* bits 63:32 are zero */
    VAL_BOX32 = 2, /* bits 63:32 are ones */
    VAL_BOX16 = 4, /* bits 63:16 are ones */
    VAL_POS = 8,   /* bits 63:31 are zero */
};

typedef struct Val {
    u8 loc;
    u8 reg;      /* LOC_TEMP, LOC_XTEMP */
    s8 home;     /* LOC_HOME: slot; else a slot in memory that holds it, too, or -1 */
    u8 flags;    /* VAL_*, about the 64 bits in its place */
    u16 uses;    /* that are still to come */
    u16 rep;     /* the value that this one is merged with; itself if none */
    u16 spill;   /* LOC_SPILL: word in the frame */
    u16 hint_at; /* index of the setreg, when hint >= 0 */
    s8 hint;     /* slot to compute into, or -1 */
    s8 setslot;  /* during the backward pass: slot of the nearest setreg of this value */
    u16 unused;
} Val;
_Static_assert(sizeof(Val) == 16, "indexed by a shift");

/* Where an operand is, for an instruction. */
typedef enum OpndKind { O_REG, O_MEM, O_IMM, O_XMM } OpndKind;
typedef struct Opnd {
    u8 kind;
    u8 reg;   /* O_REG, O_XMM, O_MEM: base */
    s32 disp; /* O_MEM */
    s64 imm;
} Opnd;

/* Code that is emitted behind the block's hot part. */
typedef enum ColdKind {
    COLD_BUDGET, COLD_EXIT, COLD_LOAD, COLD_STORE, COLD_ATOMIC, COLD_LINK, COLD_BRANCH, COLD_DIV,
    COLD_EVAL, COLD_GROUP, COLD_NAN, COLD_FMA_NAN, COLD_MINMAX, COLD_UNBOX, COLD_CALL, COLD_ZERO,
    COLD_STACK,
} ColdKind;

typedef struct Cold {
    u8 kind;
    u8 size;         /* log2 of an access */
    u8 reg, reg2, reg3; /* meaning by kind */
    u8 type;
    bool flag;
    u16 ir;          /* record */
    u8 *slow[3];     /* displacements of jumps to the (slow) entry */
    u8 *mis;         /* displacement of the jump to the misaligned entry */
    u8 *access;      /* the instruction that may fault, also where the misaligned entry goes on */
    u8 *back;        /* where the fast path goes on */
    u32 packed;
    s32 target;
    Opnd opnd[3];
} Cold;

typedef struct Fault {
    u32 access, cold; /* offsets from the block's start */
} Fault;

/* The bytes, from the base on, that a load or store and those behind it off the same base touch,
 * and how many are behind it (group.c). */
typedef struct Reach {
    s16 lo, hi;
    u8 rest;
} Reach;

/* ... during the backward pass, by integer register. */
typedef struct ReachBehind {
    u32 open; /* registers with a reach */
    Reach reach[32];
} ReachBehind;

/* The group whose host address is in r13. */
typedef struct Group {
    s8 slot;       /* of the base; -1: none */
    bool writable;
    u8 rest;       /* accesses to come */
    s16 lo, hi;    /* bytes from the base on that were checked; r13 is the address of lo */
} Group;

typedef struct Compiler {
    Asm a;
    const Backend *backend;
    const IrBlock *block;
    CompiledBlock *out;
    const CodeRoom *room;
    u8 *start, *limit; /* limit: of the part that is being written */
    u32 index;        /* record in progress */
    u32 next_page_expected;
    u32 insns_started; /* guest instructions begun */
    u32 offset;        /* of the current one in the page */
    bool x64;          /* XLEN is 64 */

    u32 busy;          /* host integer registers that the operation in progress uses */
    u32 xbusy;
    bool r14_dirty;
    Group group;
    IrValue owner[16]; /* value in rdi, rsi, r13 */
    IrValue ghost[16]; /* one that is not needed any more, but equals its guest register's slot */
    IrValue xowner[16];
    IrValue xghost[16];
    u8 next_int, next_xmm; /* scratch registers (the how manieth, which) whose ghosts go next */
    s32 guarded; /* offset of a byte that a guard has found set and that still is; or -1 */
    IrValue home_value[SLOTS]; /* value that stands for a guest register's contents */
    u8 home_flags[SLOTS];

    u16 spill_count, spill_free_count, spill_pending_count;
    u16 spill_pending[4];
    u32 cold_count, fault_count;

    Val val[IR_MAX_INSNS] __attribute__((aligned(sizeof(Val))));
    s64 konst[IR_MAX_INSNS];
    Reach reach[IR_MAX_INSNS]; /* of loads and stores */
    u16 spill_free[IR_MAX_INSNS];
    Fault faults[IR_MAX_INSNS];
    Cold cold[MAX_COLD];
} Compiler;

/* select.c */
bool compile_block(Compiler *c); /* false: not enough room */

/* int.c */
void select_int(Compiler *c, const IrInsn *in);
bool fits32(s64 v);
HostCond emit_compare(Compiler *c, const IrInsn *in); /* does not release the operands */
void cold_div(Compiler *c, const Cold *k);
void eval_call(Compiler *c, u32 stub, const IrInsn *in, const Opnd *args, unsigned count);

/* registers.c */
void backward_pass(Compiler *c);
int alloc_int(Compiler *c);
int alloc_xmm(Compiler *c);
int dest_int(Compiler *c, const Opnd *a, const Opnd *b);
int dest_after_flush(Compiler *c);
int dest_xmm(Compiler *c, const Opnd *a);
void define_int(Compiler *c, int reg, u8 flags);
void define_xmm(Compiler *c, int reg, u8 flags);
void flush_ints(Compiler *c);
bool take_r13(Compiler *c);
void detach_all_homes(Compiler *c);
void sel_getreg(Compiler *c, const IrInsn *in);
void sel_setreg(Compiler *c, const IrInsn *in);
void alias_of(Compiler *c, IrValue v);
void set_home_alias(Compiler *c, unsigned slot, u8 flags);

/* The guest register at an offset in the state, or -1. */
static inline int slot_of(s32 offset)
{
    const u32 o = (u32)offset - (u32)CPU_OFFSET_X(0);
    const u32 slot = o >> 3 | o << 29;
    return slot < SLOTS ? (int)slot : -1;
}

static inline IrValue rep(const Compiler *c, IrValue v)
{
    return c->val[v].rep;
}

/* Around each record. */
static inline void op_begin(Compiler *c)
{
    c->busy = 0;
    c->xbusy = 0;
    /* Words of the frame that the last operation freed were still read by it. */
    while (unlikely(c->spill_pending_count)) {
        c->spill_free[c->spill_free_count++] = c->spill_pending[--c->spill_pending_count];
    }
}

static inline void op_end(Compiler *c)
{
    if (unlikely(c->r14_dirty)) {
        mov_ri(&c->a, R14, BEXTR_INDEX);
        c->r14_dirty = false;
    }
}

static inline Opnd opnd_frame(s32 offset)
{
    return (Opnd){.kind = O_MEM, .reg = RBP, .disp = rm_frame(offset).disp};
}

/* Where a value is. Scratch registers in use count as busy until the operation ends. */
static inline Opnd opnd(Compiler *c, IrValue value)
{
    const IrValue r = rep(c, value);
    const Val *v = &c->val[r];
    if (likely(v->loc == LOC_HOME)) {
        const Home *home = &c->backend->homes[v->home];
        return (Opnd){.kind = home->opnd_kind, .reg = home->reg, .disp = home->disp};
    }
    if (v->loc == LOC_CONST) {
        return (Opnd){.kind = O_IMM, .imm = c->konst[r]};
    }
    if (v->loc == LOC_TEMP) {
        c->busy |= 1u << v->reg;
        return (Opnd){.kind = O_REG, .reg = v->reg};
    }
    if (v->loc == LOC_XTEMP) {
        c->xbusy |= 1u << v->reg;
        return (Opnd){.kind = O_XMM, .reg = v->reg};
    }
    g_assert(v->loc == LOC_SPILL);
    return opnd_frame(FRAME_SPILL + 8 * v->spill);
}

/* One use of a value is done. */
static inline void release(Compiler *c, IrValue value)
{
    const IrValue r = rep(c, value);
    Val *v = &c->val[r];
    if (--v->uses || v->loc == LOC_HOME || v->loc == LOC_CONST) {
        return;
    }
    if (v->loc == LOC_TEMP) {
        if (c->owner[v->reg] == r) {
            c->owner[v->reg] = IR_NONE;
            c->ghost[v->reg] = v->home >= 0 ? r : IR_NONE;
        }
    } else if (v->loc == LOC_XTEMP) {
        if (c->xowner[v->reg] == r) {
            c->xowner[v->reg] = IR_NONE;
            c->xghost[v->reg] = v->home >= 0 ? r : IR_NONE;
        }
    } else if (v->loc == LOC_SPILL) {
        c->spill_pending[c->spill_pending_count++] = v->spill;
    }
}

static inline Rm opnd_rm(const Opnd *o)
{
    return o->kind == O_MEM ? rm_mem(o->reg, o->disp) : rm_reg(o->reg);
}

static inline bool is_reg(const Opnd *o, unsigned reg)
{
    return o->kind == O_REG && o->reg == reg;
}

static inline bool is_xmm(const Opnd *o, unsigned reg)
{
    return o->kind == O_XMM && o->reg == reg;
}

void load_int(Compiler *c, bool w, unsigned dst, const Opnd *o);  /* leaves the flags alone */
unsigned need_reg(Compiler *c, bool w, Opnd *o);                  /* ... in a register: *o's */
void need_rm(Compiler *c, bool w, Opnd *o);                       /* ... in a register or memory */
void load_xmm(Compiler *c, unsigned dst, const Opnd *o);
unsigned need_xmm(Compiler *c, Opnd *o);
Opnd xopnd(Compiler *c, IrValue value); /* an operand in an xmm register, where it stays */
void need_xrm(Compiler *c, Opnd *o);

/* memory.c */
void sel_ld(Compiler *c, const IrInsn *in);
void canonical_test(Compiler *c, Cold *k, unsigned va, unsigned via);
void sel_st(Compiler *c, const IrInsn *in);
void sel_amo(Compiler *c, const IrInsn *in);
void sel_cas(Compiler *c, const IrInsn *in);
void sel_lr(Compiler *c, const IrInsn *in);
void sel_sc(Compiler *c, const IrInsn *in);
void sel_zero(Compiler *c, const IrInsn *in);
void cold_load(Compiler *c, const Cold *k);
void cold_store(Compiler *c, const Cold *k);
void cold_atomic(Compiler *c, const Cold *k);
void cold_zero(Compiler *c, const Cold *k);
bool atomic_slow(CpuState *cpu, u64 va, u64 b, u64 d, u64 info, u64 *result);

/* group.c */
void group_reach(Compiler *c, ReachBehind *behind, u32 i, int slot);
/* If the access belongs to a group that has been checked, or is checked here: where it is, and the
 * check's cold part if it was here (NULL else), whose `access` the caller sets. Takes rdi and rsi
 * if so. Otherwise false, and nothing has happened. */
bool group_access(Compiler *c, const IrInsn *in, bool store, Rm *m, Cold **leader);
void group_accessed(Compiler *c); /* afterwards */
void cold_group(Compiler *c, const Cold *k);
static inline void group_end(Compiler *c)
{
    c->group.slot = -1;
}

/* control.c */
void emit_entry(Compiler *c);
void sel_br(Compiler *c, const IrInsn *in);
void sel_goto(Compiler *c, const IrInsn *in);
void sel_jump(Compiler *c, const IrInsn *in);
void sel_next(Compiler *c, const IrInsn *in);
void sel_leave(Compiler *c);
void sel_trap(Compiler *c, const IrInsn *in);
void sel_guard(Compiler *c, const IrInsn *in);
void sel_guard_next_page(Compiler *c);
void sel_call(Compiler *c, const IrInsn *in);
void sel_callif(Compiler *c, const IrInsn *in);
void cold_budget(Compiler *c, const Cold *k);
void cold_exit(Compiler *c, const Cold *k);
void cold_link(Compiler *c, const Cold *k);
void cold_branch(Compiler *c, const Cold *k);
/* To the same instruction in a block without groups. */
void jump_ungrouped(Compiler *c, u32 packed);
void cold_call(Compiler *c, const Cold *k);
void cold_stack(Compiler *c, const Cold *k);
void forget_calls(Asm *a); /* empties the stack of guest calls in progress */
/* The jump (or call) to guest address rdi through the execute table; `none`: where to go if there
 * is no entry. */
void jump_to_rdi(Asm *a, bool x64, u32 none, bool call);
u32 packed_before(const Compiler *c); /* for leaving before the current instruction */
u32 unfinished_after(const Compiler *c); /* instructions to refund when leaving after it */

/* fp.c */
void select_fp(Compiler *c, const IrInsn *in);
void cold_eval(Compiler *c, const Cold *k);
void cold_nan(Compiler *c, const Cold *k);
void cold_fma_nan(Compiler *c, const Cold *k);
void cold_minmax(Compiler *c, const Cold *k);
void cold_unbox(Compiler *c, const Cold *k);

/* stubs.c */
bool make_stubs(Backend *backend, GError **err);
static inline Rm rm_data(const Compiler *c, Data d)
{
    return rm_code(c->backend->stubs.data + 16 * (u32)d);
}

/* fault.c */
bool fault_register(Backend *backend, GError **err);
void fault_unregister(Backend *backend);

static inline u32 code_offset(const Compiler *c, const u8 *p)
{
    return (u32)(p - c->start);
}

static inline Cold *new_cold(Compiler *c, ColdKind kind)
{
    Cold *k = &c->cold[c->cold_count++];
    k->kind = (u8)kind;
    k->ir = (u16)c->index;
    k->slow[0] = k->slow[1] = k->slow[2] = NULL;
    k->mis = NULL;
    k->access = NULL;
    return k;
}

static inline void add_fault(Compiler *c, const u8 *access)
{
    c->faults[c->fault_count++] = (Fault){code_offset(c, access), code_offset(c, c->a.p)};
}

#endif
