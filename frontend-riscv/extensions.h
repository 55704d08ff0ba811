/*
 * RISC-V extensions as numbers and sets, derived from extensions.def. A set is a u64 with bit RISCV_EXT_x.
 */
#ifndef STAG_FRONTEND_RISCV_EXTENSIONS_H
#define STAG_FRONTEND_RISCV_EXTENSIONS_H

#include "core/base/types.h"

typedef enum RiscvExt {
#define X(id, name, implies, models, help) RISCV_EXT_##id,
#include "frontend-riscv/extensions.def"
    RISCV_EXT_COUNT
} RiscvExt;
_Static_assert(RISCV_EXT_COUNT <= 64, "a set of extensions is a u64");

#define RISCV_EXT_BIT(id) ((u64)1 << RISCV_EXT_##id)

typedef struct RiscvExtInfo {
    const char *name;
    u64 implies;    /* directly; riscv_ext_closure() follows the chain */
    bool in_rv;     /* part of the models rv64 and rv32 */
    const char *help;
} RiscvExtInfo;
extern const RiscvExtInfo riscv_ext_info[RISCV_EXT_COUNT];

/* `set` with everything that its members imply. */
u64 riscv_ext_closure(u64 set);

/* The extension bits of misa for a set: one per single-letter extension, bit 0 = A. */
u32 riscv_misa_letters(u64 set);

#endif
