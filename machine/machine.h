/*
 * The machine: memory, devices and harts of a board, the translator that runs them, and what is
 * loaded before the first instruction. Everything below meets here, and only here.
 *
 *   options -> machine_new: board -> bus, devices, harts, translator
 *           -> machine_run: load images, reset, one thread per hart, main loop -> exit status
 *
 * The main thread runs glib's main loop (console input, signals). Each hart runs on a thread of its
 * own, or all take turns on one (run.c).
 */
#ifndef STAG_MACHINE_MACHINE_H
#define STAG_MACHINE_MACHINE_H

#include <glib.h>
#include <stdio.h>

#include "core/base/types.h"

typedef struct Machine Machine;

/* What the command line says. Strings are owned by the struct. */
typedef struct MachineOptions {
    char *board;  /* "virt" */
    char *cpu;    /* -cpu MODEL,...; NULL: rv64, or what the kernel's ELF class says */
    u64 ram_size; /* bytes */
    unsigned harts;
    char *bios; /* FILE, "none", "default"; NULL: see machine_new */
    char *kernel, *initrd, *append, *dtb;
    char *dump_dtb;     /* write the device tree there and end */
    GPtrArray *loaders; /* LoaderDevice */
    char *serial;       /* as char_new takes it, or chardev:ID */

    /* Arrays of texts (char *) as the options have them; see peripherals.h. */
    GPtrArray *chardevs, *drives, *netdevs, *nics, *devices;
    GPtrArray *monitors; /* where monitors listen, as `serial` */
    bool no_monitor;     /* not even on mon: lines */
    bool monitor_first;  /* the monitor has the keys, if it shares its line */
    bool snapshot;       /* all drives' images stay as they are */
    bool start_stopped;  /* harts wait for `cont` */

    bool interp;        /* T0 instead of T1 */
    bool one_thread;    /* all harts take turns on one host thread */
    u64 code_cache;     /* bytes */
    bool single_step;   /* one instruction a block */
    bool no_reboot;     /* a guest's reset ends the machine */
    bool perf_map;      /* write /tmp/perf-PID.map */
    char *signature;    /* write the kernel's signature there at the end */
} MachineOptions;

enum { MACHINE_MAX_HARTS = 32 };
enum { DEFAULT_RAM_MIB = 128, DEFAULT_CODE_CACHE_MIB = 256, MIN_CODE_CACHE_MIB = 1 };

void machine_options_init(MachineOptions *options);
void machine_options_clear(MachineOptions *options);

/* Assembles the machine; `options` is kept and must outlive it. Without `bios` the firmware is
 * OpenSBI, or none if the kernel is an ELF that itself lies where firmware does. NULL with a
 * sentence. Once per process at a time: signals and the console are process-wide. */
Machine *machine_new(const MachineOptions *options, GError **err);
void machine_free(Machine *machine);

/* Loads and runs. False with a sentence if it could not start or restart; else the exit status is
 * in *status: the guest's code, 0 after power off, 128 + n when ended by signal n. With dump_dtb it
 * writes the tree instead of running. */
bool machine_run(Machine *machine, int *status, GError **err);

/* "name  description" lines of all boards, for -M help. */
void machine_print_boards(FILE *out);

#endif
