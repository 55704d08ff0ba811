/*
 * The shared stubs, written once into the stub area: the way into generated code and out of it, and
 * the calls from it into C. They alone know how to save and restore the mapped registers, so blocks
 * stay small.
 *
 * In a block rsp is 8 below a multiple of 16, so that a called stub can call C as it is; guest
 * calls that are in progress (control.c) take 16 bytes each. C that may compute with floating point
 * (helpers that say so, and devices behind loads and stores) runs with the host's MXCSR, and the
 * guest's, with its sticky exception flags, waits in the frame: changing it costs as much as the
 * rest of a call, so other helpers and the taking of traps leave it alone.
 *
 * Where a helper has set pc (a trap return, a write to satp), and where a trap was raised and taken
 * by the frontend, the hart does not have to leave: `dispatch` looks pc up in the execute table of
 * the view that is current now and goes on there. Only a page without execute entry, an
 * instruction without block, and something pending lead back to C. Guest calls in progress are
 * forgotten in any case.
 */
#include "backend-x86_64/compiler.h"
#include "softmmu/softmmu.h"

/* Host MXCSR, all exceptions masked, for each frm. The values that are no host mode never run host
 * code. */
enum { MXCSR_MASKED = 0x1f80, MXCSR_DOWN = 1 << 13, MXCSR_UP = 2 << 13, MXCSR_ZERO = 3 << 13 };
static const u32 mxcsr_of_frm[8] = {
    MXCSR_MASKED, MXCSR_MASKED | MXCSR_ZERO, MXCSR_MASKED | MXCSR_DOWN, MXCSR_MASKED | MXCSR_UP,
    MXCSR_MASKED, MXCSR_MASKED, MXCSR_MASKED, MXCSR_MASKED,
};

/* MXCSR bits 5:0 are PE UE OE ZE DE IE; fflags bits 4:0 are NV DZ OF UF NX. */
static u8 fflags_of_mxcsr(unsigned m)
{
    return (u8)((m & 1) << 4 | (m >> 2 & 1) << 3 | (m >> 3 & 1) << 2 | (m >> 4 & 1) << 1 |
                (m >> 5 & 1));
}

static const u64 data_words[DATA_COUNT][2] = {
    [DATA_ZERO] = {0, 0},
    [DATA_UPPER32] = {0xffffffff00000000, 0},
    [DATA_UPPER48] = {0xffffffffffff0000, 0},
    [DATA_SIGN64] = {0x8000000000000000, 0},
    [DATA_ABS64] = {0x7fffffffffffffff, 0},
    [DATA_SIGN32] = {0x80000000, 0},
    [DATA_ABS32] = {0xffffffff7fffffff, 0},
    [DATA_LOW32] = {0xffffffff, 0},
    [DATA_LOW16] = {0xffff, 0},
    [DATA_NAN64] = {0x7ff8000000000000, 0},
    [DATA_NAN32] = {0xffffffff7fc00000, 0},
    [DATA_NAN16] = {0xffffffffffff7e00, 0},
    [DATA_F64_U32_MAX] = {0x41efffffffe00000, 0},
    [DATA_F32_U32_MAX] = {0x4f7fffff, 0},
    [DATA_F64_2P63] = {0x43e0000000000000, 0},
    [DATA_F32_2P63] = {0x5f000000, 0},
    [DATA_M55] = {0x5555555555555555, 0},
    [DATA_M33] = {0x3333333333333333, 0},
    [DATA_M0F] = {0x0f0f0f0f0f0f0f0f, 0},
    [DATA_70] = {0x7070707070707070, 0x7070707070707070},
};

enum { NO_ADDRESS = 3 }; /* no instruction has an odd address */

typedef struct StubMaker {
    Asm a;
    Backend *b;
    u32 mxcsr; /* code address of the table */
    /* All registers in memory, as for dispatch: */
    u32 leave_spilled;  /* as leave */
    u32 trap_spilled;   /* esi = packed: a trap was recorded */
    u32 status_spilled; /* esi = packed: the helper's status decides */
} StubMaker;

static void spill(StubMaker *s)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const Home *h = &s->b->homes[i];
        if (h->kind == HOME_INT) {
            x86(&s->a, X_MOV_STORE | X_W, h->reg, rm_mem(RBP, h->disp), 0);
        } else if (h->kind == HOME_XMM) {
            vex2(&s->a, V_MOVSD_STORE, h->reg, rm_mem(RBP, h->disp));
        }
    }
}

static void reload(StubMaker *s)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        const Home *h = &s->b->homes[i];
        if (h->kind == HOME_INT) {
            x86(&s->a, X_MOV_LOAD | X_W, h->reg, rm_mem(RBP, h->disp), 0);
        } else if (h->kind == HOME_XMM) {
            vex2(&s->a, V_MOVSD_LOAD, h->reg, rm_mem(RBP, h->disp));
        }
    }
    x86(&s->a, X_MOV_LOAD | X_W, R15, rm_cpu(offsetof(CpuState, view)), 0);
}

/* ors the exceptions in the guest's saved MXCSR into fflags. Clobbers eax, rcx. */
static void fold_flags(StubMaker *s)
{
    Asm *a = &s->a;
    x86(a, X_MOV_LOAD, RAX, rm_frame(FRAME_GUEST_MXCSR), 0);
    alu_mi(a, false, ALU_AND, rm_reg(RAX), 63);
    x86(a, X_LEA | X_W, RCX, rm_code(s->b->stubs.fold), 0);
    x86(a, X_MOVZX8, RAX, rm_index(RCX, RAX, 0, 0), 0);
    alu_mr(a, false, ALU_OR, rm_cpu(offsetof(CpuState, fflags)), RAX);
}

/* MXCSR for the guest's frm, no exceptions. Clobbers reg1, reg2. */
static void mxcsr_of_cpu(StubMaker *s, unsigned reg1, unsigned reg2)
{
    Asm *a = &s->a;
    x86(a, X_MOVZX8, reg1, rm_cpu(offsetof(CpuState, frm)), 0);
    alu_mi(a, false, ALU_AND, rm_reg(reg1), 7);
    x86(a, X_LEA | X_W, reg2, rm_code(s->mxcsr), 0);
    vex(a, V_LDMXCSR, 2, 0, rm_index(reg2, reg1, 2, 0), 0);
}

/* What every call into C begins and ends with. */
static void c_begin(StubMaker *s, bool fp)
{
    Asm *a = &s->a;
    spill(s);
    for (unsigned x = 12; x < 16; x++) {
        vex2(a, V_MOVSD_STORE, x, rm_frame(FRAME_XSAVED + 8 * (s32)(x - 12)));
    }
    if (fp) {
        vex(a, V_STMXCSR, 3, 0, rm_frame(FRAME_GUEST_MXCSR), 0);
        vex(a, V_LDMXCSR, 2, 0, rm_frame(FRAME_HOST_MXCSR), 0);
    }
}

static void guest_mxcsr(StubMaker *s)
{
    vex(&s->a, V_LDMXCSR, 2, 0, rm_frame(FRAME_GUEST_MXCSR), 0);
}

static void c_call(StubMaker *s, const void *fn)
{
    mov_ri(&s->a, RAX, (u64)(uintptr_t)fn);
    x86(&s->a, 0xff, 2, rm_reg(RAX), 0);
}

static void c_reload(StubMaker *s)
{
    reload(s);
    for (unsigned x = 12; x < 16; x++) {
        vex2(&s->a, V_MOVSD_LOAD, x, rm_frame(FRAME_XSAVED + 8 * (s32)(x - 12)));
    }
}

static void cpu_pointer(StubMaker *s)
{
    x86(&s->a, X_LEA | X_W, RDI, rm_mem(RBP, cpu_disp(0)), 0);
}

/* al = whether the C function succeeded; if not, leaves with its trap. */
static void c_end(StubMaker *s, bool fp)
{
    Asm *a = &s->a;
    if (fp) {
        guest_mxcsr(s);
    }
    x86(a, 0x84, RAX, rm_reg(RAX), 0);
    u8 *ok = jcc8_fwd(a, CC_NE);
    x86(a, X_MOV_LOAD, RSI, rm_frame(FRAME_PACKED), 0);
    jmp_to(a, s->trap_spilled);
    bind8(a, ok);
    c_reload(s);
}

/* esi = packed: pc and budget as before the instruction. `via` is a free register. */
static void before_instruction(StubMaker *s, unsigned via)
{
    Asm *a = &s->a;
    const bool w = s->b->config.xlen == IR_I64;
    mov_rr(a, false, via, RSI);
    alu_mi(a, false, ALU_AND, rm_reg(via), (s32)VIEW_PAGE_SIZE - 1);
    alu_rm(a, w, ALU_ADD, via, RM_PAGE);
    x86(a, X_MOV_STORE | X_W, via, rm_cpu(offsetof(CpuState, pc)), 0);
    shift_i(a, false, 5, RSI, VIEW_PAGE_SHIFT);
}

static void refund_rsi(StubMaker *s)
{
    alu_mr(&s->a, true, ALU_ADD, RM_BUDGET, RSI);
}

static void leave_with(StubMaker *s, CpuExit why, bool link, u32 to)
{
    Asm *a = &s->a;
    mov_ri(a, RSI, why);
    if (!link) {
        x86(a, 0x33, RDI, rm_reg(RDI), 0);
    }
    jmp_to(a, to);
}

static void make_leave(StubMaker *s)
{
    static const u8 saved[] = {R15, R14, R13, R12, RBX, RBP};
    Asm *a = &s->a;
    s->b->stubs.leave = asm_here(a);
    spill(s);
    s->leave_spilled = asm_here(a);
    vex(a, V_STMXCSR, 3, 0, rm_frame(FRAME_GUEST_MXCSR), 0);
    vex(a, V_LDMXCSR, 2, 0, rm_frame(FRAME_HOST_MXCSR), 0);
    fold_flags(s);
    shift_i(a, true, 4, RDI, 32);
    mov_rr(a, false, RAX, RSI);
    alu_rm(a, true, ALU_OR, RAX, rm_reg(RDI));
    x86(a, X_MOV_LOAD | X_W, RSP, rm_cpu(offsetof(CpuState, host_stack)), 0);
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++) {
        pop(a, saved[i]);
    }
    ret(a);

    s->b->stubs.miss = asm_here(a);
    x86(a, X_MOV_STORE | X_W, RDI, rm_cpu(offsetof(CpuState, pc)), 0);
    leave_with(s, EXIT_NEXT, false, s->b->stubs.leave);
}

/* From here on the hart is in the view that is current now. */
static void make_dispatch(StubMaker *s)
{
    Asm *a = &s->a;
    s->b->stubs.dispatch = asm_here(a);
    forget_calls(a);
    alu_mi(a, false, ALU_CMP, rm_cpu(offsetof(CpuState, pending)), 0);
    u8 *pending = jcc_fwd(a, CC_NE);
    reload(s);
    x86(a, X_MOV_LOAD | X_W, RDI, rm_cpu(offsetof(CpuState, pc)), 0);
    jump_to_rdi(a, s->b->config.xlen == IR_I64, s->b->stubs.miss, false);
    bind(a, pending);
    leave_with(s, EXIT_NEXT, false, s->leave_spilled);
}

static void make_status(StubMaker *s)
{
    Asm *a = &s->a;
    s->trap_spilled = asm_here(a);
    before_instruction(s, RDI);
    refund_rsi(s);
    mov_mi(a, false, rm_cpu(offsetof(CpuState, status)), CPU_OK);
    if (s->b->config.take_trap) {
        forget_calls(a);
        cpu_pointer(s);
        alu_mi(a, true, ALU_SUB, rm_reg(RSP), 8);
        c_call(s, (const void *)(uintptr_t)s->b->config.take_trap);
        jmp_to(a, s->b->stubs.dispatch);
    } else {
        leave_with(s, EXIT_TRAP, false, s->leave_spilled);
    }

    /* rax becomes the status, which is cleared. */
    s->b->stubs.exit_status = asm_here(a);
    spill(s);
    s->status_spilled = asm_here(a);
    x86(a, X_MOV_LOAD, RAX, rm_cpu(offsetof(CpuState, status)), 0);
    alu_mi(a, false, ALU_CMP, rm_reg(RAX), CPU_TRAP);
    jcc_to(a, CC_E, s->trap_spilled);
    mov_mi(a, false, rm_cpu(offsetof(CpuState, status)), CPU_OK);
    shift_i(a, false, 5, RSI, VIEW_PAGE_SHIFT);
    alu_mi(a, false, ALU_SUB, rm_reg(RSI), 1); /* the instruction itself has retired */
    refund_rsi(s);
    alu_mi(a, false, ALU_CMP, rm_reg(RAX), CPU_HALT);
    jcc_to(a, CC_NE, s->b->stubs.dispatch);
    leave_with(s, EXIT_HALT, false, s->leave_spilled);
}

static void make_enter(StubMaker *s)
{
    static const u8 saved[] = {RBP, RBX, R12, R13, R14, R15};
    Asm *a = &s->a;
    s->b->stubs.enter = asm_here(a);
    for (unsigned i = 0; i < ARRAY_LEN(saved); i++) {
        push(a, saved[i]);
    }
    x86(a, X_LEA | X_W, RBP, rm_mem(RDI, -cpu_disp(0)), 0);
    x86(a, X_MOV_STORE | X_W, RSP, rm_cpu(offsetof(CpuState, host_stack)), 0);
    alu_mi(a, true, ALU_AND, rm_reg(RSP), -2 * STACK_DEPTH);
    mov_ri(a, RDI, NO_ADDRESS);
    for (unsigned i = 0; i < 3; i++) {
        push(a, RDI);
    }
    x86(a, X_MOV_STORE | X_W, RSP, rm_cpu(offsetof(CpuState, stack_base)), 0);
    mov_rr(a, false, RSI, RSI);
    vex(a, V_STMXCSR, 3, 0, rm_frame(FRAME_HOST_MXCSR), 0);
    mxcsr_of_cpu(s, RDI, R13);
    reload(s);
    mov_ri(a, R14, BEXTR_INDEX);
    x86(a, X_MOV_LOAD | X_W, RDI, rm_cpu(offsetof(CpuState, pc)), 0);
    mov_rr(a, true, R13, RDI);
    alu_mi(a, true, ALU_AND, rm_reg(R13), -(s32)VIEW_PAGE_SIZE);
    x86(a, X_MOV_STORE | X_W, R13, RM_PAGE, 0);
    x86(a, 0xff, 4, rm_reg(RSI), 0);
}

static void make_exits(StubMaker *s)
{
    static const u8 packed[] = {EXIT_BUDGET, EXIT_GUARD, EXIT_NEXT_PAGE};
    static const u8 after[] = {EXIT_NEXT, EXIT_LINK, EXIT_SPLIT};
    Asm *a = &s->a;
    Stubs *stubs = &s->b->stubs;
    const bool w = s->b->config.xlen == IR_I64;
    for (unsigned i = 0; i < ARRAY_LEN(packed); i++) {
        stubs->exit_packed[packed[i]] = asm_here(a);
        before_instruction(s, RDI);
        refund_rsi(s);
        leave_with(s, (CpuExit)packed[i], false, stubs->leave);
    }
    stubs->exit_packed[EXIT_TRAP] = asm_here(a);
    spill(s);
    jmp_to(a, s->trap_spilled);
    for (unsigned i = 0; i < ARRAY_LEN(after); i++) {
        stubs->exit_after[after[i]] = asm_here(a);
        x86(a, X_MOVSXD, RSI, rm_reg(RSI), 0);
        alu_rm(a, w, ALU_ADD, RSI, RM_PAGE);
        x86(a, X_MOV_STORE | X_W, RSI, rm_cpu(offsetof(CpuState, pc)), 0);
        leave_with(s, (CpuExit)after[i], true, stubs->leave);
    }
    stubs->return_miss = asm_here(a);
    forget_calls(a);
    alu_mi(a, true, ALU_AND, rm_reg(RDI), -2);
    jump_to_rdi(a, w, stubs->miss, false);
}

static void make_memory(StubMaker *s)
{
    Asm *a = &s->a;
    Stubs *stubs = &s->b->stubs;
    const Rm result = rm_frame(FRAME_RESULT);
    for (unsigned size = 0; size < 4; size++) {
        stubs->load[size] = asm_here(a);
        c_begin(s, true);
        mov_rr(a, true, RSI, RDI);
        cpu_pointer(s);
        mov_ri(a, RDX, size);
        x86(a, X_LEA | X_W, RCX, result, 0);
        c_call(s, (const void *)(uintptr_t)mmu_load);
        c_end(s, true);
        x86(a, X_MOV_LOAD | X_W, RDI, result, 0);
        ret(a);

        stubs->store[size] = asm_here(a);
        c_begin(s, true);
        mov_rr(a, true, RCX, RSI);
        mov_rr(a, true, RSI, RDI);
        cpu_pointer(s);
        mov_ri(a, RDX, size);
        c_call(s, (const void *)(uintptr_t)mmu_store);
        c_end(s, true);
        ret(a);

        for (unsigned store = 0; store < 2; store++) {
            stubs->prepare[store][size] = asm_here(a);
            c_begin(s, false);
            mov_rr(a, true, RSI, RDI);
            cpu_pointer(s);
            mov_ri(a, RDX, size);
            mov_ri(a, RCX, store);
            x86(a, X_LEA | X_W, R8, result, 0);
            c_call(s, (const void *)(uintptr_t)mmu_prepare);
            c_end(s, false);
            x86(a, X_MOVZX8, RDI, result, 0);
            ret(a);
        }

        stubs->crosses[size] = asm_here(a);
        alu_mi(a, false, ALU_AND, rm_reg(R14), (s32)VIEW_PAGE_SIZE - 1);
        alu_mi(a, false, ALU_CMP, rm_reg(R14), (s32)(VIEW_PAGE_SIZE - (1u << size)));
        mov_ri(a, R14, BEXTR_INDEX);
        ret(a);
    }
    stubs->zero = asm_here(a);
    c_begin(s, false);
    mov_rr(a, true, RSI, RDI);
    cpu_pointer(s);
    c_call(s, (const void *)(uintptr_t)mmu_zero);
    c_end(s, false);
    ret(a);

    static const u8 args[] = {RSI, RDX, RCX, R8};
    stubs->atomic = asm_here(a);
    c_begin(s, false);
    for (unsigned i = 0; i < ARRAY_LEN(args); i++) {
        x86(a, X_MOV_LOAD | X_W, args[i], rm_frame(FRAME_ARG + 8 * (s32)i), 0);
    }
    x86(a, X_LEA | X_W, R9, result, 0);
    cpu_pointer(s);
    c_call(s, (const void *)(uintptr_t)atomic_slow);
    c_end(s, false);
    ret(a);
}

/* rdi = the helper, arguments in the frame. */
static void make_call(StubMaker *s, bool fp, bool pc, bool traps)
{
    static const u8 args[] = {RSI, RDX, RCX, R8};
    Asm *a = &s->a;
    s->b->stubs.call[fp][pc][traps] = asm_here(a);
    c_begin(s, fp);
    if (pc) {
        x86(a, X_MOV_LOAD, RSI, rm_frame(FRAME_PACKED), 0);
        before_instruction(s, RDX);
        x86(a, X_MOV_STORE, RSI, rm_cpu(offsetof(CpuState, refund)), 0);
    }
    if (fp) {
        fold_flags(s);
    }
    mov_rr(a, true, RAX, RDI);
    cpu_pointer(s);
    for (unsigned i = 0; i < ARRAY_LEN(args); i++) {
        x86(a, X_MOV_LOAD | X_W, args[i], rm_frame(FRAME_ARG + 8 * (s32)i), 0);
    }
    x86(a, 0xff, 2, rm_reg(RAX), 0);
    x86(a, X_MOV_STORE | X_W, RAX, rm_frame(FRAME_RESULT), 0);
    if (fp) {
        mxcsr_of_cpu(s, RAX, RCX);
    }
    if (pc) {
        mov_mi(a, false, rm_cpu(offsetof(CpuState, refund)), 0);
    }
    if (traps) {
        alu_mi(a, false, ALU_CMP, rm_cpu(offsetof(CpuState, status)), CPU_OK);
        u8 *ok = jcc8_fwd(a, CC_E);
        x86(a, X_MOV_LOAD, RSI, rm_frame(FRAME_PACKED), 0);
        jmp_to(a, s->status_spilled);
        bind8(a, ok);
    }
    c_reload(s);
    ret(a);
}

static u64 eval_fp(CpuState *cpu, const void *record, u64 x, u64 y, u64 z)
{
    IrInsn insn;
    memcpy(&insn, record, sizeof(insn));
    return ir_eval_fp(cpu, &insn, x, y, z);
}

static u64 eval_int(CpuState *cpu G_GNUC_UNUSED, const void *record, u64 x, u64 y, u64 z)
{
    IrInsn insn;
    memcpy(&insn, record, sizeof(insn));
    u64 result = 0;
    ir_eval_int(&insn, x, y, z, &result);
    return result;
}

/* The record follows the call, behind a two-byte jump. Keeps every register; r13 is one that C
 * keeps. */
static u32 make_eval(StubMaker *s, const void *fn)
{
    static const u8 args[] = {RDX, RCX, R8};
    Asm *a = &s->a;
    const u32 start = asm_here(a);
    x86(a, X_MOV_STORE | X_W, RDI, rm_frame(FRAME_SAVED), 0);
    x86(a, X_MOV_STORE | X_W, RSI, rm_frame(FRAME_SAVED + 8), 0);
    c_begin(s, true);
    x86(a, X_MOV_LOAD | X_W, RSI, rm_mem(RSP, 0), 0);
    alu_mi(a, true, ALU_ADD, rm_reg(RSI), 2);
    cpu_pointer(s);
    for (unsigned i = 0; i < ARRAY_LEN(args); i++) {
        x86(a, X_MOV_LOAD | X_W, args[i], rm_frame(FRAME_ARG + 8 * (s32)i), 0);
    }
    c_call(s, fn);
    x86(a, X_MOV_STORE | X_W, RAX, rm_frame(FRAME_RESULT), 0);
    guest_mxcsr(s);
    c_reload(s);
    x86(a, X_MOV_LOAD | X_W, RDI, rm_frame(FRAME_SAVED), 0);
    x86(a, X_MOV_LOAD | X_W, RSI, rm_frame(FRAME_SAVED + 8), 0);
    ret(a);
    return start;
}

bool make_stubs(Backend *b, GError **err)
{
    const BackendConfig *config = &b->config;
    if (config->stub_area_size < BACKEND_STUB_AREA) {
        return stag_error(err, "The backend's stub area of %u bytes is too small.",
                          config->stub_area_size);
    }
    u8 *start = code_writable(&config->space, config->stub_area);
    StubMaker s = {.b = b, .a = {.p = start, .exec_delta = (u64)config->space.write_delta}};
    Asm *a = &s.a;
    b->stubs.data = (config->stub_area + 15) & ~15u;
    a->p += b->stubs.data - config->stub_area;
    memcpy(a->p, data_words, sizeof(data_words));
    a->p += sizeof(data_words);
    s.mxcsr = asm_here(a);
    memcpy(a->p, mxcsr_of_frm, sizeof(mxcsr_of_frm));
    a->p += sizeof(mxcsr_of_frm);
    b->stubs.fold = asm_here(a);
    for (unsigned m = 0; m < 64; m++) {
        emit8(a, fflags_of_mxcsr(m));
    }
    make_leave(&s);
    make_dispatch(&s);
    make_status(&s);
    make_enter(&s);
    make_exits(&s);
    make_memory(&s);
    for (unsigned i = 0; i < 8; i++) {
        make_call(&s, i & 1, i & 2, i & 4);
    }
    b->stubs.eval_fp = make_eval(&s, (const void *)(uintptr_t)eval_fp);
    b->stubs.eval_int = make_eval(&s, (const void *)(uintptr_t)eval_int);
    b->stubs.end = asm_here(a);
    g_assert(b->stubs.end - config->stub_area <= BACKEND_STUB_AREA);
    return true;
}
