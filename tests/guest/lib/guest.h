/*
 * What the guest programs are written with. A program is a controller in machine mode, in C, that
 * runs small pieces of code ("snippets") in any mode and looks at how they ended:
 *
 *     SNIPPET(load, "lw a0, (a0)\n ecall");
 *     Trap t = run(PRIV_U, load, 0x1000, 0);
 *     EXPECT_TRAP(t, CAUSE_LOAD_PAGE, load, 0x1000);
 *
 * Every snippet ends by a trap: an ecall when all went well. Traps that are delegated to S mode
 * reach an ecall at stvec, by which they come to the controller too; Trap.by says which mode the
 * hart chose.
 *
 * A program prints one line per test, the failed checks with the line of their source, and ends by
 * virt's finisher: exit status 0, or 1 if a check failed. It runs on anything that looks like
 * QEMU's virt.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "limits.h"

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef unsigned long ulong; /* XLEN bits */

#define XLEN __riscv_xlen
#define IS64 (XLEN == 64)
#if XLEN == 64
#define STR_LOAD "ld"
#define STR_STORE "sd"
#else
#define STR_LOAD "lw"
#define STR_STORE "sw"
#endif
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define STR_(x) #x
#define STR(x) STR_(x)

/* ---- Checks ---------------------------------------------------------------------------------- */

void check_eq(const char *file, int line, const char *what, ulong got, ulong want);
#define CHECK_EQ(got, want) check_eq(__FILE__, __LINE__, #got, (ulong)(got), (ulong)(want))
#define CHECK(condition) check_eq(__FILE__, __LINE__, #condition, !!(condition), 1)
void count_checks(unsigned n); /* that were made without check_eq() */
/* A circumstance to print with failed checks: a CSR's number, a row of a table. */
extern ulong check_about;

void run_test(const char *name, void (*test)(void));
#define RUN(test) run_test(#test, test)

void put_text(const char *text);
void put_hex(ulong value);
void finish(void) __attribute__((noreturn));
void panic(ulong cause, ulong epc, ulong tval) __attribute__((noreturn));

/* ---- Modes, causes, interrupts, status ------------------------------------------------------- */

enum { PRIV_U = 0, PRIV_S = 1, PRIV_M = 3 };
enum {
    CAUSE_FETCH_MISALIGNED,
    CAUSE_FETCH_ACCESS,
    CAUSE_ILLEGAL,
    CAUSE_BREAKPOINT,
    CAUSE_LOAD_MISALIGNED,
    CAUSE_LOAD_ACCESS,
    CAUSE_STORE_MISALIGNED,
    CAUSE_STORE_ACCESS,
    CAUSE_ECALL_U,
    CAUSE_ECALL_S,
    CAUSE_ECALL_M = 11,
    CAUSE_FETCH_PAGE,
    CAUSE_LOAD_PAGE,
    CAUSE_STORE_PAGE = 15,
};
#define INTERRUPT ((ulong)1 << (XLEN - 1))
enum { IRQ_SSI = 1, IRQ_MSI = 3, IRQ_STI = 5, IRQ_MTI = 7, IRQ_SEI = 9, IRQ_MEI = 11 };

#define MSTATUS_SIE ((ulong)1 << 1)
#define MSTATUS_MIE ((ulong)1 << 3)
#define MSTATUS_SPIE ((ulong)1 << 5)
#define MSTATUS_MPIE ((ulong)1 << 7)
#define MSTATUS_SPP ((ulong)1 << 8)
#define MSTATUS_MPP ((ulong)3 << 11)
#define MSTATUS_FS ((ulong)3 << 13)
#define MSTATUS_MPRV ((ulong)1 << 17)
#define MSTATUS_SUM ((ulong)1 << 18)
#define MSTATUS_MXR ((ulong)1 << 19)
#define MSTATUS_TVM ((ulong)1 << 20)
#define MSTATUS_TW ((ulong)1 << 21)
#define MSTATUS_TSR ((ulong)1 << 22)
#define MSTATUS_SD ((ulong)1 << (XLEN - 1))

/* ---- CSRs: by number, since the assembler may not know the names ------------------------------
 */

enum {
    CSR_FFLAGS = 1,
    CSR_FRM,
    CSR_FCSR,
    CSR_CYCLE = 0xc00,
    CSR_TIME,
    CSR_INSTRET,
    CSR_HPMCOUNTER3,
    CSR_CYCLEH = 0xc80,
    CSR_SSTATUS = 0x100,
    CSR_SIE = 0x104,
    CSR_STVEC,
    CSR_SCOUNTEREN,
    CSR_SENVCFG = 0x10a,
    CSR_SSCRATCH = 0x140,
    CSR_SEPC,
    CSR_SCAUSE,
    CSR_STVAL,
    CSR_SIP,
    CSR_STIMECMP = 0x14d,
    CSR_STIMECMPH = 0x15d,
    CSR_SATP = 0x180,
    CSR_MSTATUS = 0x300,
    CSR_MISA,
    CSR_MEDELEG,
    CSR_MIDELEG,
    CSR_MIE,
    CSR_MTVEC,
    CSR_MCOUNTEREN,
    CSR_MENVCFG = 0x30a,
    CSR_MSTATUSH = 0x310,
    CSR_MENVCFGH = 0x31a,
    CSR_MCOUNTINHIBIT = 0x320,
    CSR_MHPMEVENT3 = 0x323,
    CSR_MSCRATCH = 0x340,
    CSR_MEPC,
    CSR_MCAUSE,
    CSR_MTVAL,
    CSR_MIP,
    CSR_PMPCFG0 = 0x3a0,
    CSR_PMPADDR0 = 0x3b0,
    CSR_MSECCFG = 0x747,
    CSR_MSECCFGH = 0x757,
    CSR_TSELECT = 0x7a0,
    CSR_MCYCLE = 0xb00,
    CSR_MINSTRET = 0xb02,
    CSR_MHPMCOUNTER3,
    CSR_MCYCLEH = 0xb80,
    CSR_MINSTRETH = 0xb82,
    CSR_MVENDORID = 0xf11,
    CSR_MARCHID,
    CSR_MIMPID,
    CSR_MHARTID,
    CSR_MCONFIGPTR,
};
#define csr_read(n)                                                                                \
    ({                                                                                             \
        ulong v_;                                                                                  \
        asm volatile("csrr %0, %1" : "=r"(v_) : "i"(n) : "memory");                                \
        v_;                                                                                        \
    })
#define csr_write(n, v)                                                                            \
    ({                                                                                             \
        ulong v_ = (ulong)(v);                                                                     \
        asm volatile("csrw %0, %1" : : "i"(n), "r"(v_) : "memory");                                \
    })
#define csr_set(n, v)                                                                              \
    ({                                                                                             \
        ulong v_ = (ulong)(v);                                                                     \
        asm volatile("csrs %0, %1" : : "i"(n), "r"(v_) : "memory");                                \
    })
#define csr_clear(n, v)                                                                            \
    ({                                                                                             \
        ulong v_ = (ulong)(v);                                                                     \
        asm volatile("csrc %0, %1" : : "i"(n), "r"(v_) : "memory");                                \
    })

/* menvcfg is 64 bits wide; on RV32 in two halves. */
#define ENVCFG_ADUE ((u64)1 << 61)
#define ENVCFG_PBMTE ((u64)1 << 62)
#define ENVCFG_STCE ((u64)1 << 63)
void menvcfg_set(u64 bits);
void menvcfg_clear(u64 bits);

/* ---- Snippets -------------------------------------------------------------------------------- */

/* Position-independent code; on pages that can be mapped for any mode. */
#define SNIPPET(name, text)                                                                        \
    asm(".pushsection .snippets, \"ax\"\n.balign 4\n" #name ":\n" text "\n.popsection\n");         \
    extern char name[]

typedef struct Context {
    ulong x[32];  /* x[0] is not used */
    ulong vector; /* of trap_vectors */
    ulong sp;     /* the controller's, meanwhile */
} Context;

typedef struct Trap {
    ulong cause, epc, tval;
    unsigned from;   /* the mode that was interrupted */
    unsigned by;     /* the mode that the trap was delegated to */
    unsigned vector; /* entered: base + 4 * vector */
    ulong a0, a1;    /* as the snippet left them */
} Trap;

/* The hart's own, of its last run; set other registers than a0 and a1 before run() */
extern Context contexts[MAX_HARTS];
#define context contexts[hart_id()]
extern bool run_vectored; /* mtvec's and stvec's mode for run() */
extern bool run_mprv;     /* mstatus.MPRV at the end of the last run */
extern bool run_with_mie; /* mstatus.MIE = 1 in the snippet */
extern u32 run_instret;   /* instructions of the last run, and a constant for the switch */
extern char trap_vectors[], s_vectors[], snippets[], snippets_end[], image_end[];

/* Runs code at pc in `mode` with a0 and a1 until it traps. The other bits of mstatus are the
 * caller's. Harts may run at the same time; the variables above are for programs of one hart. */
Trap run(unsigned mode, const void *pc, ulong a0, ulong a1);
/* Goes on behind an interrupt, or retries what trapped, with the registers as in `context`. */
Trap resume(Trap t);

void expect_trap(const char *file, int line, Trap t, ulong cause, ulong epc, ulong tval);
#define EXPECT_TRAP(t, cause, epc, tval)                                                           \
    expect_trap(__FILE__, __LINE__, t, cause, (ulong)(epc), (ulong)(tval))
/* It ran to its ecall. */
void expect_done(const char *file, int line, Trap t);
#define EXPECT_DONE(t) expect_done(__FILE__, __LINE__, t)

/* Runs one instruction, then an ecall, from a buffer. */
Trap run_insn(unsigned mode, u32 insn, ulong a0, ulong a1);
extern u32 insn_buffer[]; /* where: the trap's epc */

/* Instructions as words. */
static inline u32 insn_csr(unsigned funct3, unsigned number, unsigned rd, unsigned rs1)
{
    return number << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | 0x73;
}
enum { CSRRW = 1, CSRRS, CSRRC, CSRRWI = 5, CSRRSI, CSRRCI };
enum { ECALL = 0x73, EBREAK = 0x100073, NOP = 0x13, RET = 0x8067, C_NOP = 1, C_EBREAK = 0x9002 };
/* li a0, n (-2048 .. 2047) */
static inline u32 insn_li_a0(int n)
{
    return (u32)n << 20 | 10 << 7 | 0x13;
}

static inline void fence_i(void)
{
    asm volatile("fence.i" ::: "memory");
}

/* ---- Paging ---------------------------------------------------------------------------------- */

enum {
    PTE_V = 1,
    PTE_R = 2,
    PTE_W = 4,
    PTE_X = 8,
    PTE_U = 16,
    PTE_G = 32,
    PTE_A = 64,
    PTE_D = 128,
    PTE_RWX = PTE_R | PTE_W | PTE_X,
    PTE_AD = PTE_A | PTE_D,
    PTE_KERNEL = PTE_V | PTE_RWX | PTE_AD,
    PTE_USER = PTE_KERNEL | PTE_U,
};
#if XLEN == 64
enum { LEVELS = 3, VPN_BITS = 9 };
#define PTE_N ((ulong)1 << 63)
#define PTE_PBMT(x) ((ulong)(x) << 61)
#define SATP_MODE ((ulong)8 << 60)
#define SATP_ASID_SHIFT 44
#else
enum { LEVELS = 2, VPN_BITS = 10 };
#define SATP_MODE ((ulong)1 << 31)
#define SATP_ASID_SHIFT 22
#endif
enum { PAGE = 4096 };
#define LEVEL_SIZE(level) ((ulong)PAGE << (VPN_BITS * (level)))

void *new_page(void);   /* zeroed, from the end of the image on */
void free_pages(void);  /* all of them: tests start afresh */
ulong *new_space(void); /* a root table that maps the snippets for S at their physical addresses */
ulong *pte_at(ulong *root, ulong va, unsigned level);   /* makes the tables on the way */
void map(ulong *root, ulong va, ulong pa, ulong flags); /* a page of 4 KiB */
void map_level(ulong *root, ulong va, ulong pa, ulong flags, unsigned level);
/* Maps the snippets for U mode too, this much above their physical addresses. */
#define U_OFFSET ((ulong)0x20000000)
void map_user_snippets(ulong *root);
#define USER(snippet) ((char *)(snippet) + U_OFFSET)
static inline ulong pte_make(ulong pa, ulong flags)
{
    return pa >> 12 << 10 | flags;
}
ulong satp_of(ulong *root, unsigned asid);
void use_space(ulong *root, unsigned asid); /* writes satp and fences everything */
void use_bare(void);
static inline void fence_all(void)
{
    asm volatile("sfence.vma" ::: "memory");
}
static inline void fence_address(ulong va)
{
    asm volatile("sfence.vma %0, zero" : : "r"(va) : "memory");
}
static inline void fence_asid(ulong asid)
{
    asm volatile("sfence.vma zero, %0" : : "r"(asid) : "memory");
}
static inline void fence_address_asid(ulong va, ulong asid)
{
    asm volatile("sfence.vma %0, %1" : : "r"(va), "r"(asid) : "memory");
}

/* ---- The machine ------------------------------------------------------------------------------
 */

#define FINISHER ((volatile u32 *)0x100000)
#define CLINT_MSIP ((volatile u32 *)0x2000000) /* of hart 0; the others' follow */
#define CLINT_MTIMECMP ((volatile u32 *)0x2004000)
#define CLINT_MTIME ((volatile u32 *)0x200bff8)
#define PLIC_PRIORITY(irq) ((volatile u32 *)(ulong)(0xc000000 + 4 * (irq)))
#define PLIC_PENDING ((volatile u32 *)0xc001000)
#define PLIC_ENABLE(ctx) ((volatile u32 *)(ulong)(0xc002000 + 0x80 * (ctx)))
#define PLIC_THRESHOLD(ctx) ((volatile u32 *)(ulong)(0xc200000 + 0x1000 * (ctx)))
#define PLIC_CLAIM(ctx) ((volatile u32 *)(ulong)(0xc200004 + 0x1000 * (ctx)))
#define UART ((volatile u8 *)0x10000000)
enum { UART_IRQ = 10 };
#define HOLE ((ulong)0x5000000) /* nothing is there */
u64 mtime(void);
void set_mtimecmp(u64 when); /* hart 0's */
void set_mtimecmp_of(unsigned hart, u64 when);

/* PMP entry i: pmpcfg byte and pmpaddr register. */
enum { PMP_R = 1, PMP_W = 2, PMP_X = 4, PMP_TOR = 8, PMP_NA4 = 16, PMP_NAPOT = 24, PMP_L = 128 };
void pmp_set(unsigned i, u8 cfg, ulong addr);
u8 pmp_cfg(unsigned i);
ulong pmp_addr(unsigned i);
void pmp_open(void); /* entry 0: everything to everybody */

/* ---- Several harts -----------------------------------------------------------------------------
 *
 * Hart 0 is in main(), the others sleep. on_harts() has a function run on several at once:
 *
 *     static void work(unsigned hart) { ... barrier(); ... }
 *     int main(void) { harts_start(2); RUN(test); return 0; }     // test() calls on_harts(2, work)
 *
 * A hart starts with an open PMP, mstatus.MIE = 0 and, but for hart 0, mie = 0 and no software interrupt. A function may leave
 * mie and its own software interrupt as it likes (but mstatus.MIE = 0), and nobody sends one to a hart that may have returned.
 */

static inline unsigned hart_id(void)
{
    return (unsigned)csr_read(CSR_MHARTID);
}
extern unsigned harts; /* that there are, at most MAX_HARTS */
/* main() calls it first of all. The program fails if there are fewer than `need`. */
void harts_start(unsigned need);
void on_harts(unsigned n, void (*work)(unsigned hart)); /* on harts 0 to n - 1; returns when all have */
void barrier(void);                                     /* of the harts that on_harts() started */
/* Rounds of a loop: so many, times the word that `-device loader,addr=0x8f000000,data=N,data-len=4` leaves. */
#define SCALE ((volatile u32 *)0x8f000000)
unsigned rounds(unsigned n);

void put_number(unsigned n);
void put_lock(void); /* around several put_*() that belong together */
void put_unlock(void);

/* A random number; each hart has a state of its own, never 0. */
static inline u32 random_next(u32 *state)
{
    u32 x = *state;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    return *state = x;
}

#define ACQUIRE(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define RELEASE(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define RELAXED(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define ADD(p, v) __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST)
static inline void pause(void)
{
    asm volatile(".word 0x0100000f" ::: "memory");
}
/* Lets some time pass without giving it to other harts, as pause() may. */
static inline void delay(unsigned n)
{
    for (; n; n--) {
        asm volatile("nop");
    }
}
static inline void fence_rw_rw(void)
{
    asm volatile("fence rw, rw" ::: "memory");
}
static inline void wait_for_interrupt(void)
{
    asm volatile("wfi" ::: "memory");
}
/* Waits until condition holds. */
#define UNTIL(condition)                                                                           \
    do {                                                                                           \
        while (!(condition)) {                                                                     \
            pause();                                                                               \
        }                                                                                          \
    } while (0)

void *memset(void *to, int byte, __SIZE_TYPE__ size);
void *memcpy(void *to, const void *from, __SIZE_TYPE__ size);

#endif
