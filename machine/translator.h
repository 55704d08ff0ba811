/*
 * The translator of a machine, put together: frontend, core/exec and one of the two ways to run IR
 * (T0 the interpreter, T1 the x86-64 backend), wired by core/exec's callbacks.
 */
#ifndef STAG_MACHINE_TRANSLATOR_H
#define STAG_MACHINE_TRANSLATOR_H

#include "core/exec/exec.h"
#include "frontend-riscv/frontend.h"

typedef enum Accel { ACCEL_JIT, ACCEL_INTERP } Accel;

typedef struct TranslatorConfig {
    Accel accel;
    u64 cache_size;     /* bytes; 0: the default */
    unsigned max_insns; /* in a block; 0: the default */
    unsigned harts;     /* 0: one */
    bool perf_map;      /* write /tmp/perf-PID.map */
} TranslatorConfig;

enum {
    TRANSLATOR_CACHE_SIZE = 64 << 20,
    TRANSLATOR_CACHE_MIN = 1 << 20,
    TRANSLATOR_MAX_INSNS = 64,
};

typedef struct Translator Translator;

/* Call mmu_layout_init() before. The model and the bus must outlive the translator. NULL with a
 * sentence if the host lacks address space or CPU features. */
Translator *translator_new(const TranslatorConfig *config, const HartModel *model, Bus *bus,
                           GError **err);
void translator_free(Translator *translator);
Exec *translator_exec(Translator *translator);

#endif
