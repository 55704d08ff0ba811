/* The test finisher: one write-only register. Its device-tree nodes are built from the same table.
 * See sifive_test.h. */
#include "devices/sifive_test.h"

#include <inttypes.h>
#include <libfdt.h>

#include "core/base/log.h"

typedef struct SifiveTest {
    Device dev;
    SifiveTestConfig config;
} SifiveTest;

static const struct {
    u16 command;
    FinishKind kind;
    const char *syscon; /* name of the node that tells Linux which value to write; NULL: none */
    const char *compatible;
} commands[] = {
    {0x5555, FINISH_POWEROFF, "poweroff", "syscon-poweroff"},
    {0x3333, FINISH_FAIL, NULL, NULL},
    {0x7777, FINISH_RESET, "reboot", "syscon-reboot"},
};

static void finisher_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value,
                           u64 mask G_GNUC_UNUSED)
{
    SifiveTest *t = (SifiveTest *)d;
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        if ((value & 0xffff) == commands[i].command) {
            int code = commands[i].kind == FINISH_FAIL ? value >> 16 : 0;
            if (t->config.finish) {
                t->config.finish(t->config.opaque, commands[i].kind, code);
            }
            return;
        }
    }
    log_guest_error("%s: 0x%" PRIx64 " is no command\n", d->name, value);
}

static u64 finisher_read(Device *d G_GNUC_UNUSED, unsigned index G_GNUC_UNUSED)
{
    return 0;
}

static const RegDesc sifive_test_regs[] = {
    {.name = "finisher", .offset = 0, .width = 4, .read = finisher_read, .write = finisher_write},
};

static bool sifive_test_init(Device *d, const void *config, GError **err G_GNUC_UNUSED)
{
    if (config) {
        ((SifiveTest *)d)->config = *(const SifiveTestConfig *)config;
    }
    return true;
}

/* The nodes that point back here stand at the root and need this node's phandle. */
static int sifive_test_fdt(Device *d G_GNUC_UNUSED, void *fdt, int node G_GNUC_UNUSED,
                           const DeviceFdt *env)
{
    for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
        if (!commands[i].syscon || !env->phandle) {
            continue;
        }
        int n = fdt_add_subnode(fdt, 0, commands[i].syscon);
        int error = n < 0 ? n : fdt_setprop_string(fdt, n, "compatible", commands[i].compatible);
        error = error ? error : fdt_setprop_u32(fdt, n, "regmap", env->phandle);
        error = error ? error : fdt_setprop_u32(fdt, n, "offset", 0);
        error = error ? error : fdt_setprop_u32(fdt, n, "value", commands[i].command);
        if (error) {
            return error;
        }
    }
    return 0;
}

const DeviceClass sifive_test_class = {
    .name = "sifive_test",
    .instance_size = sizeof(SifiveTest),
    .region_size = 0x1000,
    .min_access = 2,
    .max_access = 4,
    .regs = sifive_test_regs,
    .reg_count = ARRAY_LEN(sifive_test_regs),
    .fdt_name = "test",
    .compatible = (const char *const[]){"sifive,test1", "sifive,test0", "syscon", NULL},
    .init = sifive_test_init,
    .fdt = sifive_test_fdt,
};
