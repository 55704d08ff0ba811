/*
 * What the files of machine/ share: the Machine itself and the harts' run loop.
 */
#ifndef STAG_MACHINE_INTERNAL_H
#define STAG_MACHINE_INTERNAL_H

#include <pthread.h>
#include <time.h>

#include "core/exec/exec.h"
#include "devices/device.h"
#include "frontend-riscv/frontend.h"
#include "machine/board.h"
#include "machine/image.h"
#include "machine/loader.h"
#include "machine/machine.h"
#include "machine/peripherals.h"
#include "machine/translator.h"
#include "softmmu/bus.h"

/* A hart has two deadlines in ticks of the time CSR: mtimecmp of the CLINT and its own stimecmp. */
enum { TIMER_M, TIMER_S, TIMER_COUNT };

typedef struct MachineHart {
    Machine *machine;
    Hart *hart;
    CpuState *cpu;
    u64 reset_pc;

    GThread *thread; /* NULL for all but the first when they take turns */
    _Atomic pid_t tid; /* host thread id; 0 when it does not run */
    bool halted;       /* by WFI: nothing to do until an interrupt is pending */
    bool waits;        /* has sent an interrupt, and waits in M mode for its effect, perhaps */
    u32 relaxes;       /* calls of hart_relax in a row */
    u64 relaxed_at;    /* the last one, in instructions */

    /* Deadlines may be set from any thread, the host timers exist while the hart's thread does. */
    GMutex timer_lock;
    bool timers_exist;
    timer_t timers[TIMER_COUNT];
    u64 deadlines[TIMER_COUNT];
} MachineHart;

typedef enum MachineRequest { REQUEST_NONE, REQUEST_RESET, REQUEST_QUIT } MachineRequest;

struct Machine {
    const MachineOptions *options;
    const Board *board;
    HartModel *model;
    HartCallbacks callbacks;
    u64 start_ns;            /* of CLOCK_MONOTONIC when the machine was made */
    u64 tick_ns;             /* of the time CSR */
    _Atomic s64 time_offset; /* the time CSR is the ticks since then plus this */

    Bus *bus;
    Peripherals *peripherals; /* NULL with dump_dtb */
    BoardDevices *devices;
    MachineHart *harts;
    unsigned hart_count;

    Translator *translator;
    Exec *exec; /* the translator's */

    /* Read by machine_new, which has to look into them, for the first loading. NULL later. */
    Image *kernel, *firmware;
    bool no_firmware;
    ImageSymbol symbols[IMAGE_SYMBOL_COUNT]; /* of the kernel, else of the firmware */
    CpuState **cpus;
    guint signal_sources[3];

    /* Of control.c. */
    unsigned holds;  /* the harts run while it is 0 */
    bool stopped;    /* by the user; one of the holds */
    u64 stop_time;   /* of the time CSR */
    bool asked;      /* the guest was asked to power down, by a signal, since it was started */
    gint64 asked_at; /* monotonic time, µs */

    GMutex request_lock; /* down to `error` */
    GCond threads_changed;
    unsigned threads, paused_threads; /* of harts: that there are, that wait in a pause */
    bool paused;
    _Atomic u32 wakeups; /* what harts that take turns sleep on */
    MachineRequest request;
    int status;    /* exit status that goes with REQUEST_QUIT */
    GError *error; /* of machine_fail */
};

/* ---- run.c ---- */

/* Process-wide: the handler of the kick signal. */
void run_init(void);
void hart_init(MachineHart *h, Machine *machine, unsigned index);
void hart_clear(MachineHart *h);
/* CpuState.kick. */
void hart_kick(CpuState *cpu);
/* BoardEnv.ipi_sent. */
void hart_sent_ipi(Machine *machine);
/* HartCallbacks.relax. */
void hart_relax(void *machine, CpuState *cpu);
/* Any thread: PENDING_TIMER is posted to the hart once the time CSR reaches `deadline`; ~0 means
 * never. */
void hart_arm_timer(MachineHart *h, unsigned timer, u64 deadline);
/* Hart's mtimecmp: drives MTIP now and when the time comes. */
void hart_set_timecmp(MachineHart *h, u64 ticks);
/* Runs all harts until there is a request; then none of them runs. */
void machine_run_harts(Machine *machine);
/* Main loop's thread: after the first no hart runs guest code, and registers are in Hart, until the
 * second. Interrupts collect. A reset in between ends with the harts paused before their first
 * instruction. */
void machine_pause_harts(Machine *machine);
void machine_resume_harts(Machine *machine);
/* Any thread: asks for the end or a reset. The first request wins, but an end beats a reset. */
void machine_request(Machine *machine, MachineRequest request, int status);
/* The time CSR, and setting it. */
u64 machine_time(Machine *machine);
void machine_set_time(Machine *machine, u64 ticks);
/* A hart's thread can't go on: the end, with a sentence that machine_run returns. Takes `error`
 * over. */
void machine_fail(Machine *machine, GError *error);

/* ---- control.c: main loop's thread ---- */

/* Harts stand still between these; they nest. */
void machine_hold(Machine *machine);
void machine_release(Machine *machine);
/* The user's stop and go. Nothing if it is so already. */
void machine_stop(Machine *machine);
void machine_cont(Machine *machine);
/* As the reset button: a restart, or with -no-reboot the end. */
void machine_reset_button(Machine *machine);
/* Asks the guest to power down. False: it has no driver for the button, or the board has none. */
bool machine_power_button(Machine *machine);
/* SIGINT and the like arrived. */
void machine_signal(Machine *machine, int number);

#endif
