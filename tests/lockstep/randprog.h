/*
 * Random programs that end: the input of the lockstep tests. A program is a raw image for address
 * 0x80000000, to be started there in M mode, that
 *
 *   1. loads every register from a table of seeds,
 *   2. runs a body of random instructions several times: every row of the decoder's table that the
 * options allow, with forward branches and jumps, counted inner loops, loads and stores around page
 * borders, LR/SC pairs, changes of the rounding mode, and instructions that trap (the handler skips
 * them),
 *   3. after each round folds all registers, fcsr and the data area into one hash,
 *   4. prints the hash as hex digits on the UART at 0x10000000 and powers off by the finisher at
 * 0x100000.
 *
 * The same image runs on any machine laid out like QEMU's virt, so its output can be compared.
 */
#ifndef STAG_TESTS_LOCKSTEP_RANDPROG_H
#define STAG_TESTS_LOCKSTEP_RANDPROG_H

#include "frontend-riscv/frontend.h"

enum {
    RANDPROG_BASE = 0x80000000u,
    RANDPROG_SIZE = 0x180000, /* bytes of memory that an image occupies and uses */
    RANDPROG_DATA = 0x100000, /* offset of everything that is not code */
    RANDPROG_DATA_SIZE = 0x40000,
    RANDPROG_UART = 0x10000000,
    RANDPROG_FINISHER = 0x100000,
};

typedef enum RandMode { RAND_BARE_M, RAND_PAGED_S, RAND_PAGED_U } RandMode;

typedef struct RandOptions {
    u64 seed;
    const HartModel *model;
    u64 ext;          /* extensions to draw rows from, a subset of the model's */
    unsigned body;    /* instructions in the body, 1..20000 */
    unsigned rounds;  /* how often the body runs, 1.. */
    RandMode mode;
    u64 base; /* where it runs, a multiple of 4 KiB in the third GiB; 0: RANDPROG_BASE */
    bool portable; /* leave out what emulators may do differently: misaligned atomics, instret,
                      illegal words */
    char **leave_out; /* mnemonics of rows not to draw, NULL-terminated; or NULL */
} RandOptions;

/* Writes the image (RANDPROG_SIZE bytes) into `image`. */
void randprog_generate(const RandOptions *options, u8 *image);

#endif
