/* MSWI and MTIMER (RISC-V ACLINT specification, chapters 2 and 3) at a CLINT's offsets. See
 * aclint.h. */
#include "devices/aclint.h"

#include <libfdt.h>

#include "core/base/error.h"

enum { IRQ_M_SOFTWARE = 3, IRQ_M_TIMER = 7 }; /* of the harts' own interrupt controllers */

typedef struct Clint {
    Device dev;
    ClintConfig config;
    u32 harts;
    u32 msip[CLINT_MAX_HARTS];
    u64 mtimecmp[CLINT_MAX_HARTS];
} Clint;

static void msip_write(Device *d, unsigned hart, u64 value, u64 mask G_GNUC_UNUSED)
{
    device_set_irq(d, hart, value & 1);
}

static void mtimecmp_write(Device *d, unsigned hart, u64 value, u64 mask G_GNUC_UNUSED)
{
    const ClintConfig *c = &((Clint *)d)->config;
    if (c->set_timecmp) {
        c->set_timecmp(c->opaque, hart, value);
    }
}

static u64 mtime_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    const ClintConfig *c = &((Clint *)d)->config;
    return c->get_time ? c->get_time(c->opaque) : 0;
}

static void mtime_write(Device *d, unsigned index, u64 value, u64 mask)
{
    const ClintConfig *c = &((Clint *)d)->config;
    if (c->set_time) {
        c->set_time(c->opaque, (mtime_read(d, index) & ~mask) | value);
    }
}

static const RegDesc clint_regs[] = {
    {.name = "msip", .offset = 0, .width = 4, .count = CLINT_MAX_HARTS, .stride = 4,
     .count_at = offsetof(Clint, harts), .at = offsetof(Clint, msip), .wmask = 1,
     .write = msip_write},
    {.name = "mtimecmp", .offset = 0x4000, .width = 8, .count = CLINT_MAX_HARTS, .stride = 8,
     .count_at = offsetof(Clint, harts), .at = offsetof(Clint, mtimecmp), .reset = UINT64_MAX,
     .wmask = UINT64_MAX, .write = mtimecmp_write},
    {.name = "mtime", .offset = 0xbff8, .width = 8, .read = mtime_read, .write = mtime_write},
};

static const StateField clint_fields[] = {
    FIELD(Clint, harts, .kind = FIELD_CONFIG),
};

static bool clint_init(Device *d, const void *config, GError **err)
{
    static const ClintConfig standard = {.harts = 1};
    Clint *c = (Clint *)d;
    c->config = *(const ClintConfig *)(config ? config : &standard);
    c->harts = c->config.harts;
    if (c->harts < 1 || c->harts > CLINT_MAX_HARTS) {
        return stag_error(err, "a CLINT has 1 to %d harts, not %u", CLINT_MAX_HARTS, c->harts);
    }
    device_make_outputs(d, c->harts);
    return true;
}

static void clint_update(Device *d)
{
    Clint *c = (Clint *)d;
    for (unsigned h = 0; h < c->harts; h++) {
        msip_write(d, h, c->msip[h], 0);
        mtimecmp_write(d, h, c->mtimecmp[h], 0);
    }
}

static int clint_fdt(Device *d G_GNUC_UNUSED, void *fdt, int node, const DeviceFdt *env)
{
    int error = 0;
    for (unsigned h = 0; !error && h < env->hart_count; h++) {
        const fdt32_t cells[] = {
            cpu_to_fdt32(env->hart_phandles[h]), cpu_to_fdt32(IRQ_M_SOFTWARE),
            cpu_to_fdt32(env->hart_phandles[h]), cpu_to_fdt32(IRQ_M_TIMER),
        };
        error = fdt_appendprop(fdt, node, "interrupts-extended", cells, sizeof(cells));
    }
    return error;
}

const DeviceClass clint_class = {
    .name = "clint",
    .instance_size = sizeof(Clint),
    .region_size = 0x10000,
    .min_access = 4,
    .max_access = 8,
    .regs = clint_regs,
    .reg_count = ARRAY_LEN(clint_regs),
    .fields = clint_fields,
    .field_count = ARRAY_LEN(clint_fields),
    .fdt_name = "clint",
    .compatible = (const char *const[]){"sifive,clint0", "riscv,clint0", NULL},
    .init = clint_init,
    .update = clint_update,
    .fdt = clint_fdt,
};
