/* Keys typed into a monitor: the line editor keeps its rules, and every line is carried out or
 * answered with whole lines. The machine stands still. */
#include <string.h>

#include "core/base/log.h"
#include "debug/commands.h"
#include "debug/lineedit.h"
#include "machine/internal.h"
#include "tests/fuzz/fuzz.h"

static Machine *make_machine(void)
{
    static MachineOptions options;
    GError *err = NULL;
    machine_options_init(&options);
    g_free(options.serial);
    options.serial = g_strdup("null");
    options.bios = g_strdup("none");
    options.ram_size = 1 << 20;
    g_ptr_array_add(options.devices, g_strdup("virtio-balloon-device"));
    g_ptr_array_add(options.devices, g_strdup("virtio-rng-pci"));
    g_ptr_array_add(options.netdevs, g_strdup("user,id=n"));
    g_ptr_array_add(options.devices, g_strdup("virtio-net-device,netdev=n"));
    g_ptr_array_add(options.loaders,
                    loader_device_parse("loader,addr=0x80000000,data=0,data-len=4", &err));
    Machine *m = machine_new(&options, &err);
    g_assert_no_error(err);
    machine_stop(m);
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Machine *machine;
    if (!machine) {
        machine = make_machine();
    }
    Session s;
    LineEdit e;
    session_init(&s, machine, "1.0");
    lineedit_init(&e, "> ");
    for (size_t i = 0; i < size; i++) {
        g_autoptr(GString) echo = g_string_new(NULL);
        g_autofree char *line = lineedit_key(&e, data[i], echo);
        g_assert(e.cursor <= e.line->len && e.line->len <= LINE_MAX_LENGTH);
        g_assert(e.history->len <= LINE_MAX_HISTORY && e.browsing <= e.history->len);
        g_autofree char *before = g_strndup(e.line->str, e.cursor);
        gsize length;
        g_free(command_complete(before, &length));
        g_assert(length <= e.cursor);
        /* Ports of the host are others' business. */
        if (line && !strstr(line, "hostfwd_a")) {
            g_autoptr(GString) out = g_string_new(NULL);
            command_run(&s, line, out);
            g_assert(!out->len || out->str[out->len - 1] == '\n');
            g_assert(s.hart < machine->hart_count);
        }
    }
    lineedit_clear(&e);
    log_mask = 0;
    return 0;
}

void fuzz_samples(GPtrArray *samples)
{
    static const char *const texts[] = {
        "info registers -a\rinfo mtree\rinfo qtree\rx /8xg 0x80000000\rx /4i $pc\rp $sp+8-2\r",
        "xp /3dw 0x80000000\r\033[A\b\b4\rx /c $mtvec\rp/o 17\rinfo jit\rinfo harts\rhart 0\r",
        "help\rhelp info\rhelp x\rstop\rcont\rsystem_powerdown\rsystem_reset\rquit\rballoon 1M\r",
        "info network\rset_link n off\rset_link n on\rhostfwd_remove tcp::1\rinfo usernet n\rlog int\r",
        "inf\tsta\033[D\033[D\033[3~\033[Hx\001\005\013\025\027\003abc\177\033[C\n\r\n\r",
        "info balloon\rinfo pic\rinfo device plic\rinfo device serial\rinfo block\rinfo chardev\r",
    };
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        g_ptr_array_add(samples, g_bytes_new_static(texts[i], strlen(texts[i])));
    }
}
