/* Parses the command line. See options.h. */
#include "cli/options.h"

#include <string.h>

#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/block/block.h"
#include "devices/char.h"
#include "devices/net/net.h"
#include "devices/props.h"
#include "frontend-riscv/frontend.h"
#include "machine/loader.h"
#include "machine/peripherals.h"

#define MIB ((u64)1 << 20)

typedef struct Option {
    const char *name, *alias;
    const char *argument; /* as --help shows it; NULL: takes none */
    const char *help;
    bool (*apply)(Cli *cli, const char *value, FILE *out, GError **err);
    size_t text; /* without apply: offset in Cli of the char * that takes the value */
    size_t flag; /* ... or of the bool that becomes true */
} Option;

/* ---- Values --------------------------------------------------------------------------------- */

static void set_text(char **where, const char *value)
{
    g_free(*where);
    *where = g_strdup(value);
}

static bool add_text(GPtrArray *texts, const char *value)
{
    g_ptr_array_add(texts, g_strdup(value));
    return true;
}

/* ---- Options that do more than store their value -------------------------------------------- */

static bool set_code_cache(Cli *cli, const char *option, const char *value, GError **err)
{
    u64 size;
    if (!parse_size(value, MIB, &size) || size < MIN_CODE_CACHE_MIB * MIB || size > 1024 * MIB) {
        return stag_error(err, "%s %s: the code cache takes %u to 1024 MiB", option, value,
                          MIN_CODE_CACHE_MIB);
    }
    cli->machine.code_cache = size;
    return true;
}

static bool apply_tb_size(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    return set_code_cache(cli, "-tb-size", value, err);
}

static bool apply_accel(Cli *cli, const char *value, FILE *out, GError **err)
{
    if (strcmp(value, "help") == 0) {
        fprintf(out, "jit     translate to x86-64 code (T1; also: T1, tcg)\n"
                     "interp  interpret the intermediate representation (T0; also: T0)\n"
                     "properties: tb-size=MIB, one-insn-per-tb=on|off, thread=single|multi\n");
        cli->done = true;
        return true;
    }
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);
    for (char **p = parts; *p; p++) {
        bool on;
        if (p == parts &&
            (!strcmp(*p, "jit") || !strcmp(*p, "tcg") || !g_ascii_strcasecmp(*p, "t1"))) {
            cli->machine.interp = false;
        } else if (p == parts && (!strcmp(*p, "interp") || !g_ascii_strcasecmp(*p, "t0"))) {
            cli->machine.interp = true;
        } else if (p == parts) {
            return stag_error(err, "-accel %s: there is no such engine; take jit or interp", *p);
        } else if (g_str_has_prefix(*p, "tb-size=")) {
            if (!set_code_cache(cli, "-accel tb-size", *p + strlen("tb-size="), err)) {
                return false;
            }
        } else if (g_str_has_prefix(*p, "one-insn-per-tb=") &&
                   parse_switch(*p + strlen("one-insn-per-tb="), &on)) {
            cli->machine.single_step = on;
        } else if (strcmp(*p, "thread=single") == 0 || strcmp(*p, "thread=multi") == 0) {
            cli->machine.one_thread = strcmp(*p, "thread=single") == 0;
        } else {
            return stag_error(err, "-accel: there is no property '%s' (-accel help lists them)",
                              *p);
        }
    }
    return true;
}

static bool apply_machine(Cli *cli, const char *value, FILE *out, GError **err)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);
    for (char **p = parts; *p; p++) {
        if (p == parts && (strcmp(*p, "help") == 0 || strcmp(*p, "?") == 0)) {
            machine_print_boards(out);
            cli->done = true;
            return true;
        }
        if (g_str_has_prefix(*p, "dumpdtb=") && (*p)[strlen("dumpdtb=")]) {
            set_text(&cli->machine.dump_dtb, *p + strlen("dumpdtb="));
        } else if (g_str_has_prefix(*p, "type=")) {
            set_text(&cli->machine.board, *p + strlen("type="));
        } else if (g_str_has_prefix(*p, "accel=")) {
            if (!apply_accel(cli, *p + strlen("accel="), out, err)) {
                return false;
            }
        } else if (p == parts && !strchr(*p, '=')) {
            set_text(&cli->machine.board, *p);
        } else {
            return stag_error(
                err, "-machine: there is no property '%s' (it takes type=, dumpdtb=FILE, accel=)",
                *p);
        }
    }
    return true;
}

static bool apply_cpu(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)err;
    if (strcmp(value, "help") == 0 || strcmp(value, "?") == 0) {
        riscv_model_print_help(out);
        cli->done = true;
    }
    set_text(&cli->machine.cpu, value);
    return true;
}

static bool apply_memory(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    const char *size = g_str_has_prefix(value, "size=") ? value + strlen("size=") : value;
    if (!parse_size(size, MIB, &cli->machine.ram_size)) {
        return stag_error(err, "-m %s: give a size of memory such as 512M or 2G", value);
    }
    return true;
}

static bool apply_smp(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    const char *count = g_str_has_prefix(value, "cpus=") ? value + strlen("cpus=") : value;
    char *end;
    u64 n = g_ascii_strtoull(count, &end, 10);
    if (!g_ascii_isdigit(count[0]) || *end || n == 0) {
        return stag_error(err, "-smp %s: give the number of harts", value);
    }
    if (n > MACHINE_MAX_HARTS) {
        return stag_error(err, "-smp %s: a machine has %d harts at most", value,
                          MACHINE_MAX_HARTS);
    }
    cli->machine.harts = (unsigned)n;
    return true;
}

static bool is_help(const char *value)
{
    return strcmp(value, "help") == 0 || strcmp(value, "?") == 0;
}

static bool apply_device(Cli *cli, const char *value, FILE *out, GError **err)
{
    const char *rest;
    g_autofree char *name = props_head(value, &rest);
    cli->done = is_help(value) || is_help(rest);
    if (is_help(value)) {
        peripherals_print_devices(out);
    }
    if (is_help(value) || strcmp(value, "loader,help") == 0) {
        fprintf(out, "Not devices:\n"
                     "  loader                 puts a file or a number into memory:\n"
                     "                         loader,file=FILE[,addr=A][,cpu-num=N][,force-raw=on]\n"
                     "                         loader,addr=A,data=D,data-len=1..8[,data-be=on]\n"
                     "                         loader,addr=A,cpu-num=N\n");
        return true;
    }
    if (cli->done) {
        return peripherals_print_device(name, out, err);
    }
    if (strcmp(name, "loader") != 0) {
        return peripherals_check_device(value, err) && add_text(cli->machine.devices, value);
    }
    LoaderDevice *device = loader_device_parse(value, err);
    if (device) {
        g_ptr_array_add(cli->machine.loaders, device);
    }
    return device != NULL;
}

static bool apply_drive(Cli *cli, const char *value, FILE *out, GError **err)
{
    BlockDrive drive;
    if (is_help(value)) {
        props_print(block_drive_props, block_drive_prop_count, out);
        cli->done = true;
        return true;
    }
    if (!block_drive_parse(value, &drive, err)) {
        return false;
    }
    block_drive_clear(&drive);
    return add_text(cli->machine.drives, value);
}

static bool apply_hd(Cli *cli, unsigned index, const char *file, GError **err)
{
    g_autofree char *text = block_drive_hd(file, index);
    return apply_drive(cli, text, NULL, err);
}

static bool apply_hda(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    return apply_hd(cli, 0, value, err);
}

static bool apply_hdb(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    return apply_hd(cli, 1, value, err);
}

static bool apply_netdev(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)err;
    if (is_help(value)) {
        net_print_help(out);
        cli->done = true;
        return true;
    }
    return add_text(cli->machine.netdevs, value);
}

static bool apply_nic(Cli *cli, const char *value, FILE *out, GError **err)
{
    char *netdev = NULL, *device = NULL;
    if (is_help(value)) {
        return apply_netdev(cli, value, out, err);
    }
    bool ok = net_nic_split(value, cli->machine.nics->len, &netdev, &device, err);
    g_free(netdev);
    g_free(device);
    return ok && add_text(cli->machine.nics, value);
}

static bool apply_net(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)cli, (void)out;
    return net_net_parse(value, err);
}

static bool apply_chardev(Cli *cli, const char *value, FILE *out, GError **err)
{
    if (is_help(value)) {
        char_print_backends(out);
        cli->done = true;
        return true;
    }
    return char_check_chardev(value, err) && add_text(cli->machine.chardevs, value);
}

static bool check_line(const char *value, GError **err)
{
    return g_str_has_prefix(value, "chardev:") || char_check(value, err);
}

static bool apply_serial(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    set_text(&cli->machine.serial, value);
    cli->serial_given = true;
    return check_line(value, err);
}

static bool apply_monitor(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)out;
    cli->machine.no_monitor = strcmp(value, "none") == 0;
    return cli->machine.no_monitor ||
           (check_line(value, err) && add_text(cli->machine.monitors, value));
}

/* What a monitor on a character device was before -monitor took chardev:. */
static bool apply_mon(Cli *cli, const char *value, FILE *out, GError **err)
{
    typedef struct Mon {
        char *chardev;
        unsigned mode;
    } Mon;
    static const char *const modes[] = {"readline", NULL};
    static const PropDesc props[] = {
        {"chardev", PROP_STRING, offsetof(Mon, chardev), NULL, "the character device"},
        {"mode", PROP_ENUM, offsetof(Mon, mode), "readline", "for people", .choices = modes},
    };
    Mon mon;
    g_autofree char *text =
        strchr(value, '=') ? g_strdup(value) : g_strdup_printf("chardev=%s", value);
    if (!props_parse(props, ARRAY_LEN(props), "-mon", text, &mon, err)) {
        return false;
    }
    g_autofree char *line = g_strdup_printf("chardev:%s", mon.chardev ? mon.chardev : "");
    props_clear(props, ARRAY_LEN(props), &mon);
    return apply_monitor(cli, line, out, err);
}

/* The one global that is on many command lines: whether virtio-mmio is the old one. */
static bool apply_global(Cli *cli, const char *value, FILE *out, GError **err)
{
    static const char key[] = "virtio-mmio.force-legacy=";
    bool on;
    (void)cli, (void)out;
    if (!g_str_has_prefix(value, key) || !parse_switch(value + strlen(key), &on)) {
        return stag_error(err, "-global %.60s: it takes only %sfalse", value, key);
    }
    return !on || stag_error(err, "-global %s: Stag's virtio devices are modern ones; leave it out",
                             value);
}

static bool apply_display(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)cli, (void)out;
    return strcmp(value, "none") == 0 ||
           stag_error(err, "-display %s: Stag has no display; only 'none' is taken", value);
}

static bool apply_nographic(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)cli, (void)value, (void)out, (void)err;
    return true; /* there is no display to switch off */
}

static bool apply_log(Cli *cli, const char *value, FILE *out, GError **err)
{
    if (strcmp(value, "help") == 0 || strcmp(value, "?") == 0) {
        log_print_categories(out);
        cli->done = true;
        return true;
    }
    return log_set_categories(value, err);
}

static bool apply_version(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)value, (void)err;
    fprintf(out, "stag %s\n", STAG_VERSION);
    cli->done = true;
    return true;
}

static bool apply_help(Cli *cli, const char *value, FILE *out, GError **err)
{
    (void)value, (void)err;
    cli_print_help(out);
    cli->done = true;
    return true;
}

/* ---- The table ------------------------------------------------------------------------------ */

#define TEXT(member) .text = offsetof(Cli, member)
#define FLAG(member) .flag = offsetof(Cli, member)
static const Option options[] = {
    {"machine", "M", "BOARD[,dumpdtb=FILE]",
     "the machine: virt (default) or spike; 'help' lists them", apply_machine},
    {"cpu", NULL, "MODEL[,EXT=on|off]", "the harts; 'help' lists models and extensions", apply_cpu},
    {"m", NULL, "SIZE", "guest memory, 128M by default; suffixes K M G T", apply_memory},
    {"smp", NULL, "N", "number of harts (1)", apply_smp},
    {"bios", NULL, "FILE", "firmware: a file, 'none', or 'default' (OpenSBI)", TEXT(machine.bios)},
    {"kernel", NULL, "FILE", "ELF, Linux Image, either gzipped, or raw bytes",
     TEXT(machine.kernel)},
    {"initrd", NULL, "FILE", "initial ramdisk", TEXT(machine.initrd)},
    {"append", NULL, "WORDS", "the kernel's command line", TEXT(machine.append)},
    {"dtb", NULL, "FILE", "device tree for the guest instead of the machine's own",
     TEXT(machine.dtb)},
    {"drive", NULL, "file=FILE[,PROP=VALUE]...", "a disk (if=virtio) or its host end (if=none,id=ID)",
     apply_drive},
    {"hda", NULL, "FILE", "a disk: as -drive file=FILE,index=0", apply_hda},
    {"hdb", NULL, "FILE", "a second one", apply_hdb},
    {"snapshot", NULL, NULL, "leave the disks' files as they are; what is written is lost at the end",
     FLAG(machine.snapshot)},
    {"netdev", NULL, "user|tap|socket,id=ID[,...]", "the host end of a network; 'help' lists properties",
     apply_netdev},
    {"nic", NULL, "user|tap|socket|none[,...]", "a network and a card on it in one", apply_nic},
    {"net", NULL, "none", "accepted for compatibility", apply_net},
    {"chardev", NULL, "BACKEND,id=ID[,...]", "the host end of a serial line; 'help' lists them",
     apply_chardev},
    {"device", NULL, "NAME[,PROP=VALUE]...",
     "plug a device in; 'help' lists them, 'NAME,help' its properties", apply_device},
    {"global", NULL, "virtio-mmio.force-legacy=false", "accepted for compatibility", apply_global},
    {"nographic", NULL, NULL, "serial port on this terminal (so it is anyway)", apply_nographic},
    {"serial", NULL, "LINE",
     "serial port: mon:stdio (default), stdio, null, file:PATH, pty, unix:PATH[,server][,nowait], "
     "tcp:HOST:PORT[,...], chardev:ID",
     apply_serial},
    {"monitor", NULL, "LINE", "a monitor there (Ctrl-A c reaches the terminal's), or 'none'",
     apply_monitor},
    {"mon", NULL, "chardev=ID", "the same as -monitor chardev:ID", apply_mon},
    {"display", NULL, "none", "accepted for compatibility", apply_display},
    {"accel", NULL, "jit|interp[,tb-size=MIB]", "translate to host code (default), or interpret",
     apply_accel},
    {"tb-size", NULL, "MIB", "size of the code cache, 256 by default", apply_tb_size},
    {"singlestep", NULL, NULL, "one guest instruction a block", FLAG(machine.single_step)},
    {"one-insn-per-tb", NULL, NULL, "the same", FLAG(machine.single_step)},
    {"S", NULL, NULL, "start stopped: the monitor's `cont` lets the guest run",
     FLAG(machine.start_stopped)},
    {"no-reboot", NULL, NULL, "end when the guest reboots", FLAG(machine.no_reboot)},
    {"signature", NULL, "FILE", "write begin_signature..end_signature there at the end",
     TEXT(machine.signature)},
    {"perfmap", NULL, NULL, "write /tmp/perf-PID.map for perf", FLAG(machine.perf_map)},
    {"d", NULL, "ITEM,...", "log to stderr; 'help' lists the items", apply_log},
    {"D", NULL, "FILE", "log to a file instead", TEXT(log_file)},
    {"version", NULL, NULL, "print the version", apply_version},
    {"help", "h", NULL, "print this text", apply_help},
};

const char *cli_version(void)
{
    return STAG_VERSION;
}

void cli_print_help(FILE *out)
{
    fprintf(out, "usage: stag [OPTION]...\n"
                 "Runs RISC-V systems. Options are spelt as QEMU's, with one dash or two; "
                 "-OPTION=VALUE works too.\n\n");
    for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
        const Option *o = &options[i];
        g_autofree char *left =
            g_strdup_printf("-%s%s%s%s%s", o->name, o->alias ? ", -" : "", o->alias ? o->alias : "",
                            o->argument ? " " : "", o->argument ? o->argument : "");
        fprintf(out, strlen(left) > 34 ? "  %s\n%38s%s\n" : "  %-35s %s%s\n", left,
                strlen(left) > 34 ? "" : o->help, strlen(left) > 34 ? o->help : "");
    }
    fprintf(
        out,
        "\nCtrl-A x ends Stag, Ctrl-A h shows the other keys. The exit status is the guest's.\n");
}

/* ---- Parsing -------------------------------------------------------------------------------- */

static const Option *find_option(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(options); i++) {
        if (strcmp(name, options[i].name) == 0 ||
            (options[i].alias && strcmp(name, options[i].alias) == 0)) {
            return &options[i];
        }
    }
    return NULL;
}

static const char *nearest_option(const char *name)
{
    const char *best = options[0].name;
    for (unsigned i = 1; i < ARRAY_LEN(options); i++) {
        if (edit_distance(name, options[i].name) < edit_distance(name, best)) {
            best = options[i].name;
        }
    }
    return best;
}

/* A monitor on the terminal, and a serial port about which nothing was said: they share it, and the
 * monitor comes first. */
static void share_terminal(Cli *cli)
{
    GPtrArray *monitors = cli->machine.monitors;
    for (unsigned i = 0; i < monitors->len && !cli->serial_given; i++) {
        const char *line = monitors->pdata[i];
        if (strcmp(line, "stdio") == 0 || strcmp(line, "mon:stdio") == 0) {
            g_ptr_array_remove_index(monitors, i);
            cli->machine.monitor_first = true;
            return;
        }
    }
}

bool cli_parse(Cli *cli, int argc, char **argv, FILE *out, GError **err)
{
    for (int i = 1; i < argc && !cli->done; i++) {
        const char *word = argv[i];
        if (word[0] != '-' || word[1] == '\0') {
            return stag_error(err, "'%s' is not an option; a kernel is named with -kernel FILE",
                              word);
        }
        const char *name = word + (word[1] == '-' ? 2 : 1);
        const char *equals = strchr(name, '=');
        g_autofree char *bare = equals ? g_strndup(name, (gsize)(equals - name)) : g_strdup(name);
        const Option *o = find_option(bare);
        if (!o) {
            return stag_error(
                err, "there is no option '%.60s'; the nearest is -%s (--help lists them all)", word,
                nearest_option(bare));
        }
        const char *value = NULL;
        if (o->argument && equals) {
            value = equals + 1;
        } else if (o->argument) {
            if (i + 1 == argc) {
                return stag_error(err, "-%s needs a value: -%s %s", o->name, o->name, o->argument);
            }
            value = argv[++i];
        } else if (equals) {
            return stag_error(err, "-%s takes no value", o->name);
        }
        if (o->apply) {
            if (!o->apply(cli, value, out, err)) {
                return false;
            }
        } else if (o->argument) {
            set_text((char **)((char *)cli + o->text), value);
        } else {
            *(bool *)((char *)cli + o->flag) = true;
        }
    }
    share_terminal(cli);
    return cli->done || !cli->log_file || log_set_file(cli->log_file, err);
}

void cli_init(Cli *cli)
{
    *cli = (Cli){0};
    machine_options_init(&cli->machine);
}

void cli_clear(Cli *cli)
{
    machine_options_clear(&cli->machine);
    g_free(cli->log_file);
}
