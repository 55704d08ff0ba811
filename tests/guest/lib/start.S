# Start-up of all harts, and the switch between the controller and the code under test (see guest.h: run()).

#include "limits.h"

#if __riscv_xlen == 64
#define LOAD ld
#define STORE sd
#define BYTES 8
#else
#define LOAD lw
#define STORE sw
#define BYTES 4
#endif

    .section .text.start, "ax"
    .global _start
_start:
    csrr t0, mhartid
    bnez t0, other_hart
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, stack_top
    la t0, controller_trap
    csrw mtvec, t0
    la t0, bss
    la t1, bss_end
1:  bgeu t0, t1, 2f
    STORE zero, (t0)
    addi t0, t0, BYTES
    j 1b
2:  li t0, 0x6000           # FS: on
    csrs mstatus, t0
    call guest_init
    call main
    tail finish

# The other harts wait for hart 0's software interrupt (see guest.h: harts_start()), so that a program for one hart
# never meets them.
other_hart:
    li t1, MAX_HARTS
    bgeu t0, t1, 2f
    li t1, 1 << 3           # software interrupt: it only wakes, since mstatus.MIE is 0
    csrw mie, t1
1:  wfi
    csrr t1, mip
    andi t1, t1, 1 << 3
    beqz t1, 1b
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la t1, controller_trap
    csrw mtvec, t1
    li t1, 0x6000           # FS: on
    csrs mstatus, t1
    la sp, stack_top
    slli t1, t0, STACK_SHIFT
    add sp, sp, t1
    mv a0, t0
    tail hart_main
2:  csrw mie, zero
    wfi
    j 2b

    .text
# Traps of the controller itself: nothing is expected there.
    .balign 4
controller_trap:
    la sp, stack_top
    csrr a0, mhartid
    slli a0, a0, STACK_SHIFT
    add sp, sp, a0
    csrr a0, mcause
    csrr a1, mepc
    csrr a2, mtval
    tail panic

# void enter(Context *a0): loads all registers, goes to mepc by mret, and returns when a trap reaches M mode.
    .global enter
enter:
    addi sp, sp, -16 * BYTES
    STORE ra, 0 * BYTES(sp)
    STORE gp, 1 * BYTES(sp)
    STORE tp, 2 * BYTES(sp)
    STORE s0, 3 * BYTES(sp)
    STORE s1, 4 * BYTES(sp)
    STORE s2, 5 * BYTES(sp)
    STORE s3, 6 * BYTES(sp)
    STORE s4, 7 * BYTES(sp)
    STORE s5, 8 * BYTES(sp)
    STORE s6, 9 * BYTES(sp)
    STORE s7, 10 * BYTES(sp)
    STORE s8, 11 * BYTES(sp)
    STORE s9, 12 * BYTES(sp)
    STORE s10, 13 * BYTES(sp)
    STORE s11, 14 * BYTES(sp)
    STORE sp, 33 * BYTES(a0)
    csrw mscratch, a0
    .altmacro
    .macro load_reg n
    LOAD x\n, \n * BYTES(a0)
    .endm
    .set i, 1
    .rept 31
    .if i != 10
    load_reg %i
    .endif
    .set i, i + 1
    .endr
    load_reg 10
    mret

# One entry per vector; direct mode uses the first. Each notes its number in Context.vector.
    .balign 256
    .global trap_vectors
trap_vectors:
    .macro entry n
    .option push
    .option norvc
    j vector_\n
    .option pop
    .endm
    .set i, 0
    .rept 16
    entry %i
    .set i, i + 1
    .endr

    .macro stub n
vector_\n:
    csrrw a0, mscratch, a0
    STORE t0, 5 * BYTES(a0)
    li t0, \n
    STORE t0, 32 * BYTES(a0)
    j trapped
    .endm
    .set i, 0
    .rept 16
    stub %i
    .set i, i + 1
    .endr

trapped:
    .macro store_reg n
    STORE x\n, \n * BYTES(a0)
    .endm
    .set i, 1
    .rept 31
    .if i != 5 && i != 10
    store_reg %i
    .endif
    .set i, i + 1
    .endr
    csrr t0, mscratch
    STORE t0, 10 * BYTES(a0)
    la t0, controller_trap
    csrw mtvec, t0
    LOAD sp, 33 * BYTES(a0)
    LOAD ra, 0 * BYTES(sp)
    LOAD gp, 1 * BYTES(sp)
    LOAD tp, 2 * BYTES(sp)
    LOAD s0, 3 * BYTES(sp)
    LOAD s1, 4 * BYTES(sp)
    LOAD s2, 5 * BYTES(sp)
    LOAD s3, 6 * BYTES(sp)
    LOAD s4, 7 * BYTES(sp)
    LOAD s5, 8 * BYTES(sp)
    LOAD s6, 9 * BYTES(sp)
    LOAD s7, 10 * BYTES(sp)
    LOAD s8, 11 * BYTES(sp)
    LOAD s9, 12 * BYTES(sp)
    LOAD s10, 13 * BYTES(sp)
    LOAD s11, 14 * BYTES(sp)
    addi sp, sp, 16 * BYTES
    ret

# What stvec points to: an ecall in every vector hands the trap on to the controller with all registers as they were.
    .section .snippets, "ax"
    .balign 256
    .global s_vectors
s_vectors:
    .option push
    .option norvc
    .rept 16
    ecall
    .endr
    .option pop
