/* The monitor's commands. See commands.h; what they print follows QEMU's monitor where somebody may
 * parse it. */
#include "debug/commands.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/net/net.h"
#include "devices/plic.h"
#include "devices/props.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/mmio.h"
#include "machine/internal.h"

enum { MAX_WORDS = 8, MAX_DUMP_BYTES = 1 << 20, MAX_DUMP_INSNS = 10000 };

/* One command on its way: words[0] is its name as typed, `rest` what follows the name. */
typedef struct Call {
    Session *s;
    Machine *m;
    const char *format; /* what stood behind / in the name, or "" */
    const char *rest;
    const char *const *words; /* of rest */
    unsigned count;
    GString *out;
} Call;

typedef struct Command {
    const char *name, *alias; /* alias may be NULL */
    const char *arguments, *help;
    unsigned min, max; /* number of words it takes */
    bool (*run)(Call *c, GError **err);
    bool holds; /* harts stand still meanwhile */
} Command;

/* ---- Expressions -------------------------------------------------------------------------------- */

static CpuState *current_cpu(const Session *s)
{
    return s->machine->harts[s->hart].cpu;
}

/* One number or $register; *text is left behind it. */
static bool parse_term(const Session *s, const char **text, u64 *value, GError **err)
{
    const char *p = *text;
    if (*p == '$') {
        gsize n = 1;
        while (g_ascii_isalnum(p[n]) || p[n] == '_') {
            n++;
        }
        g_autofree char *name = g_ascii_strdown(p + 1, (gssize)n - 1);
        *text = p + n;
        return riscv_register_find(current_cpu(s), name, value) ||
               stag_error(err, "there is no register '$%.40s'", name);
    }
    bool hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
    const char *digits = hex ? p + 2 : p;
    char *end = (char *)digits;
    *value = hex ? g_ascii_strtoull(digits, &end, 16)
                 : g_ascii_isdigit(*p) ? g_ascii_strtoull(p, &end, 10) : 0;
    if (end == digits || (hex && !g_ascii_isxdigit(*digits))) {
        return stag_error(err, "'%.40s' is neither a number nor a $register", p);
    }
    *text = end;
    return true;
}

/* TERM {+|- TERM}. */
static bool parse_expression(const Session *s, const char *text, u64 *value, GError **err)
{
    *value = 0;
    for (char sign = '+';;) {
        u64 term;
        while (*text == ' ') {
            text++;
        }
        if (!parse_term(s, &text, &term, err)) {
            return false;
        }
        *value = sign == '+' ? *value + term : *value - term;
        while (*text == ' ') {
            text++;
        }
        if (!*text) {
            return true;
        }
        sign = *text++;
        if (sign != '+' && sign != '-') {
            return stag_error(err, "'%c%.40s': an address is numbers and $registers with + and -",
                              sign, text);
        }
    }
}

/* "[COUNT][FORMAT][SIZE]" as QEMU's and gdb's. What is not said is as the last time. */
static bool parse_format(Session *s, const char *text, u64 *count, GError **err)
{
    static const char sizes[] = "bhwg";
    char *end = (char *)text;
    *count = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 1;
    for (; *end; end++) {
        const char *size = strchr(sizes, *end);
        if (size) {
            s->format_size = 1u << (size - sizes);
        } else if (strchr("xduoci", *end)) {
            s->format = *end;
        } else {
            return stag_error(err, "/%.20s: there is no '%c'; formats are x d u o c i, sizes b h w g",
                              text, *end);
        }
    }
    return true;
}

/* ---- Memory ----------------------------------------------------------------------------------- */

typedef struct Reader {
    CpuState *cpu;
    Bus *bus;
    bool physical;
    int digits; /* of an address */
} Reader;

static bool read_memory(const Reader *r, u64 address, void *buf, u64 n)
{
    return r->physical ? bus_dma_read(r->bus, address, buf, n)
                       : mmu_debug_read(r->cpu, address, buf, n);
}

/* As QEMU prints a byte in quotes. */
static void append_char(GString *out, u8 c)
{
    static const char codes[] = "\n\r\t\b\a\f\v\\'", names[] = "nrtbafv\\'";
    const char *at = c ? strchr(codes, c) : NULL;
    if (at) {
        g_string_append_printf(out, " '\\%c'", names[at - codes]);
    } else if (c >= ' ' && c < 127) {
        g_string_append_printf(out, " '%c'", c);
    } else {
        g_string_append_printf(out, " '\\x%02x'", c);
    }
}

static void append_value(GString *out, char format, unsigned size, u64 value)
{
    const unsigned width = size * 8;
    const s64 sign = (s64)(value << (64 - width)) >> (64 - width);
    switch (format) {
    case 'o':
        g_string_append_printf(out, " %#*" PRIo64, (int)(width + 2) / 3, value);
        break;
    case 'u':
        g_string_append_printf(out, " %*" PRIu64, (int)(width * 10 + 32) / 33, value);
        break;
    case 'd':
        g_string_append_printf(out, " %*" PRId64, (int)(width * 10 + 32) / 33, sign);
        break;
    case 'c':
        append_char(out, (u8)value);
        break;
    default:
        g_string_append_printf(out, " 0x%0*" PRIx64, (int)width / 4, value);
    }
}

static bool dump_insns(Call *c, const Reader *r, u64 address, u64 count, GError **err)
{
    if (count > MAX_DUMP_INSNS) {
        return stag_error(err, "at most %d instructions at a time", MAX_DUMP_INSNS);
    }
    for (u64 i = 0; i < count; i++) {
        u16 half[2] = {0};
        char text[128];
        if (!read_memory(r, address, &half[0], 2) ||
            ((half[0] & 3) == 3 && !read_memory(r, address + 2, &half[1], 2))) {
            return stag_error(err, "Cannot access memory at 0x%" PRIx64, address);
        }
        u32 insn = half[0] | (u32)half[1] << 16;
        unsigned size = riscv_disassemble(c->m->model, insn, address, text, sizeof(text));
        g_string_append_printf(c->out, size == 2 ? "0x%0*" PRIx64 ":  %04x      %s\n"
                                                 : "0x%0*" PRIx64 ":  %08x  %s\n",
                               r->digits, address, insn, text);
        address += size;
    }
    return true;
}

static bool dump_memory(Call *c, bool physical, GError **err)
{
    Session *s = c->s;
    Reader r = {current_cpu(s), c->m->bus, physical, c->m->model->rv32 ? 8 : 16};
    u64 count, address;
    if (!parse_format(s, c->format, &count, err) ||
        !parse_expression(s, c->rest, &address, err)) {
        return false;
    }
    if (s->format == 'i') {
        return dump_insns(c, &r, address, count, err);
    }
    unsigned size = s->format == 'c' ? 1 : s->format_size;
    if (count > MAX_DUMP_BYTES / size) {
        return stag_error(err, "at most %d bytes at a time", MAX_DUMP_BYTES);
    }
    const unsigned per_line = size == 1 ? 8 : 16 / size;
    for (u64 i = 0; i < count; i++, address += size) {
        u64 value = 0;
        if (i % per_line == 0) {
            g_string_append_printf(c->out, "%s%0*" PRIx64 ":", i ? "\n" : "", r.digits, address);
        }
        if (!read_memory(&r, address, &value, size)) {
            g_string_append(c->out, "\n");
            return stag_error(err, "Cannot access memory at 0x%" PRIx64, address);
        }
        append_value(c->out, s->format, size, value);
    }
    g_string_append(c->out, count ? "\n" : "");
    return true;
}

static bool run_x(Call *c, GError **err)
{
    return dump_memory(c, false, err);
}

static bool run_xp(Call *c, GError **err)
{
    return dump_memory(c, true, err);
}

static bool run_print(Call *c, GError **err)
{
    u64 count, value;
    Session copy = *c->s;
    copy.format_size = 8;
    if (!parse_format(&copy, c->format, &count, err) ||
        !parse_expression(c->s, c->rest, &value, err)) {
        return false;
    }
    if (copy.format == 'x' || copy.format == 'i') {
        g_string_append_printf(c->out, "0x%" PRIx64 "\n", value);
    } else {
        g_autoptr(GString) text = g_string_new(NULL);
        append_value(text, copy.format, copy.format == 'c' ? 1 : 8, value);
        g_string_append_printf(c->out, "%s\n", g_strstrip(text->str));
    }
    return true;
}

/* ---- The machine's life ------------------------------------------------------------------------- */

static bool run_stop(Call *c, GError **err G_GNUC_UNUSED)
{
    machine_stop(c->m);
    return true;
}

static bool run_cont(Call *c, GError **err G_GNUC_UNUSED)
{
    machine_cont(c->m);
    return true;
}

static bool run_quit(Call *c, GError **err G_GNUC_UNUSED)
{
    c->s->ended = true;
    machine_request(c->m, REQUEST_QUIT, 0);
    return true;
}

static bool run_reset(Call *c, GError **err G_GNUC_UNUSED)
{
    machine_reset_button(c->m);
    return true;
}

static bool run_powerdown(Call *c, GError **err)
{
    return machine_power_button(c->m) ||
           stag_error(err, "the guest has no driver for the power button (yet)");
}

static bool parse_hart(Call *c, const char *word, unsigned *hart, GError **err)
{
    char *end;
    u64 n = g_ascii_strtoull(word, &end, 10);
    if (!g_ascii_isdigit(word[0]) || *end || n >= c->m->hart_count) {
        return stag_error(err, "there is no hart '%.20s'; there are 0 to %u", word,
                          c->m->hart_count - 1);
    }
    *hart = (unsigned)n;
    return true;
}

static bool run_hart(Call *c, GError **err)
{
    return parse_hart(c, c->words[0], &c->s->hart, err);
}

static VirtioDevice *find_balloon(Call *c, GError **err)
{
    VirtioDevice *d = peripherals_find(c->m->peripherals, virtio_balloon_class.name);
    if (!d) {
        stag_error(err, "there is no balloon; it is -device virtio-balloon-device");
    }
    return d;
}

static bool run_balloon(Call *c, GError **err)
{
    u64 bytes;
    VirtioDevice *d = find_balloon(c, err);
    if (!d) {
        return false;
    }
    if (!parse_size(c->words[0], (u64)1 << 20, &bytes)) {
        return stag_error(err, "balloon %.20s: give a size of memory such as 512M", c->words[0]);
    }
    virtio_balloon_set(d, bytes);
    return true;
}

static bool info_balloon(Call *c, GError **err)
{
    VirtioDevice *d = find_balloon(c, err);
    if (d) {
        g_string_append_printf(c->out, "balloon: actual=%" PRIu64 "\n", virtio_balloon_get(d) >> 20);
    }
    return d != NULL;
}

static bool run_log(Call *c, GError **err)
{
    if (strcmp(c->words[0], "none") == 0) {
        log_mask = 0;
        return true;
    }
    u32 before = log_mask;
    if (!log_set_categories(c->words[0], err)) {
        return false;
    }
    if (log_mask & ~before & (LOG_EXEC | LOG_CPU)) {
        log_mask &= before | ~(u32)(LOG_EXEC | LOG_CPU);
        return stag_error(err, "exec and cpu have to be there from the start: -d %s", c->words[0]);
    }
    exec_flush(c->m->exec); /* what is logged at translation appears for all code */
    return true;
}

/* ---- Networks ----------------------------------------------------------------------------------- */

/* [ID] WORDS. */
static bool forward(Call *c, bool (*change)(Net *, const char *, GError **), GError **err)
{
    Net *n = peripherals_net(c->m->peripherals, c->count == 2 ? c->words[0] : NULL, err);
    return n && change(n, c->words[c->count - 1], err);
}

static bool run_hostfwd_add(Call *c, GError **err)
{
    return forward(c, net_hostfwd_add, err);
}

static bool run_hostfwd_remove(Call *c, GError **err)
{
    return forward(c, net_hostfwd_remove, err);
}

static bool run_set_link(Call *c, GError **err)
{
    bool up;
    Net *n = peripherals_net(c->m->peripherals, c->words[0], err);
    if (!n) {
        return false;
    }
    if (!parse_switch(c->words[1], &up)) {
        return stag_error(err, "set_link %s: it goes on or off", c->words[0]);
    }
    net_set_link(n, up);
    return true;
}

/* ---- info --------------------------------------------------------------------------------------- */

static void dump_hart(Call *c, unsigned n)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    fprintf(f, "hart %u, %s mode\n", n, riscv_mode_name(c->m->cpus[n]));
    riscv_dump_state(f, c->m->cpus[n]);
    fclose(f);
    g_string_append(c->out, text);
    free(text);
}

static bool info_registers(Call *c, GError **err)
{
    if (c->count == 1 && strcmp(c->words[0], "-a") != 0) {
        return stag_error(err, "info registers takes -a for all harts, not '%.20s'", c->words[0]);
    }
    for (unsigned i = 0; i < c->m->hart_count; i++) {
        if (c->count || i == c->s->hart) {
            dump_hart(c, i);
        }
    }
    return true;
}

static bool info_harts(Call *c, GError **err G_GNUC_UNUSED)
{
    for (unsigned i = 0; i < c->m->hart_count; i++) {
        CpuState *cpu = c->m->cpus[i];
        g_string_append_printf(c->out,
                               "%c hart %u: %s mode, pc 0x%" PRIx64 ", %" PRIu64 " instructions%s\n",
                               i == c->s->hart ? '*' : ' ', i, riscv_mode_name(cpu), cpu->pc,
                               cpu_insns(cpu),
                               c->m->harts[i].halted ? ", waits for an interrupt" : "");
    }
    return true;
}

static bool info_mtree(Call *c, GError **err G_GNUC_UNUSED)
{
    static const char *const kinds[] = {
        [REGION_RAM] = "RAM", [REGION_ROM] = "ROM", [REGION_MMIO] = "device"};
    const GPtrArray *regions = bus_regions(c->m->bus);
    for (unsigned i = 0; i < regions->len; i++) {
        const Region *r = regions->pdata[i];
        g_string_append_printf(c->out, "%016" PRIx64 "-%016" PRIx64 "  %-6s  %s\n", r->base,
                               r->base + r->size - 1, kinds[r->kind], r->name);
    }
    return true;
}

static bool info_qtree(Call *c, GError **err G_GNUC_UNUSED)
{
    u32 irq;
    g_string_append_printf(c->out, "machine: %s (%s)\n", c->m->board->name, c->m->board->help);
    for (unsigned n = 0; board_devices_get(c->m->devices, n, &irq); n++) {
        Device *d = board_devices_get(c->m->devices, n, &irq);
        if (d->class == &virtio_mmio_class) {
            continue; /* peripherals_info_devices shows those that hold something */
        }
        g_string_append_printf(c->out, "  dev: %s at 0x%" PRIx64, d->name, d->base);
        g_string_append_printf(c->out, irq ? ", PLIC source %u\n" : "\n", irq);
    }
    peripherals_info_devices(c->m->peripherals, c->out);
    return true;
}

static bool info_device(Call *c, GError **err)
{
    u32 irq;
    Device *d;
    for (unsigned n = 0; (d = board_devices_get(c->m->devices, n, &irq)); n++) {
        if (g_str_has_prefix(d->name, c->words[0])) {
            device_info(d, c->out);
            return true;
        }
    }
    return stag_error(err, "there is no device '%.40s'; info qtree lists them", c->words[0]);
}

static bool info_pic(Call *c, GError **err)
{
    u32 irq;
    Device *d;
    for (unsigned n = 0; (d = board_devices_get(c->m->devices, n, &irq)); n++) {
        if (d->class == &plic_class) {
            device_info(d, c->out);
            return true;
        }
    }
    return stag_error(err, "the machine '%s' has no PLIC", c->m->board->name);
}

static bool info_block(Call *c, GError **err G_GNUC_UNUSED)
{
    peripherals_info_block(c->m->peripherals, c->out);
    return true;
}

static bool info_network(Call *c, GError **err G_GNUC_UNUSED)
{
    peripherals_info_network(c->m->peripherals, c->out);
    return true;
}

static bool info_usernet(Call *c, GError **err)
{
    Net *n = peripherals_net(c->m->peripherals, c->count ? c->words[0] : NULL, err);
    if (n) {
        net_info(n, c->out);
    }
    return n != NULL;
}

static bool info_chardev(Call *c, GError **err G_GNUC_UNUSED)
{
    peripherals_info_char(c->m->peripherals, c->out);
    return true;
}

static bool info_status(Call *c, GError **err G_GNUC_UNUSED)
{
    g_string_append(c->out, c->m->stopped ? "VM status: paused\n" : "VM status: running\n");
    return true;
}

static bool info_version(Call *c, GError **err G_GNUC_UNUSED)
{
    g_string_append_printf(c->out, "%s\n", c->s->version);
    return true;
}

static bool info_jit(Call *c, GError **err G_GNUC_UNUSED)
{
    ExecStats st;
    exec_stats(c->m->exec, &st);
    g_string_append_printf(c->out,
                           "engine        %s\n"
                           "code cache    %" PRIu64 " of %" PRIu64 " KiB used, %u of %u regions\n"
                           "blocks        %" PRIu64 "\n"
                           "code pages    %" PRIu64 "\n"
                           "translated    %" PRIu64 " blocks since the start\n"
                           "evictions     %" PRIu64 " regions\n"
                           "flushes       %" PRIu64 "\n",
                           c->m->options->interp ? "interp (T0)" : "jit (T1)",
                           st.code_used >> 10, st.code_size >> 10, st.regions_used, st.regions,
                           st.blocks, st.pages, st.translated, st.evictions, st.flushes);
    return true;
}

static const Command subjects[] = {
    {"balloon", NULL, "", "how many MiB the guest has left", 0, 0, info_balloon},
    {"block", NULL, "", "disks' host ends and what went through them", 0, 0, info_block},
    {"chardev", NULL, "", "lines of -chardev, -serial and -monitor", 0, 0, info_chardev},
    {"device", NULL, "NAME", "the registers of a device of the board", 1, 1, info_device, true},
    {"harts", "cpus", "", "where each hart is", 0, 0, info_harts, true},
    {"jit", NULL, "", "the translator's code cache", 0, 0, info_jit},
    {"mtree", NULL, "", "the guest's physical addresses", 0, 0, info_mtree},
    {"network", NULL, "", "networks' host ends and what went through them", 0, 0, info_network},
    {"pic", NULL, "", "the PLIC's registers", 0, 0, info_pic, true},
    {"qtree", NULL, "", "devices and what they negotiated", 0, 0, info_qtree},
    {"registers", NULL, "[-a]", "registers of this hart, or of all", 0, 1, info_registers, true},
    {"status", NULL, "", "whether the guest runs", 0, 0, info_status},
    {"usernet", NULL, "[NETDEV]", "connections of -netdev user", 0, 1, info_usernet},
    {"version", NULL, "", "Stag's version", 0, 0, info_version},
};

/* ---- The table -------------------------------------------------------------------------------- */

static bool run_help(Call *c, GError **err);
static bool run_info(Call *c, GError **err);

static const Command commands[] = {
    {"balloon", NULL, "MIB", "ask the guest to make do with so much memory", 1, 1, run_balloon},
    {"cont", NULL, "", "let the guest run on", 0, 0, run_cont},
    {"hart", "cpu", "N", "which hart `info registers`, x and p look at", 1, 1, run_hart},
    {"help", "?", "[COMMAND]", "this list", 0, 2, run_help},
    {"hostfwd_add", NULL, "[NETDEV] tcp|udp:[ADDR]:PORT-[ADDR]:PORT",
     "forward a port of the host to the guest", 1, 2, run_hostfwd_add},
    {"hostfwd_remove", NULL, "[NETDEV] tcp|udp:[ADDR]:PORT", "undo it", 1, 2, run_hostfwd_remove},
    {"info", NULL, "SUBJECT", "what there is to know; `help info` lists the subjects", 0, 2,
     run_info},
    {"log", NULL, "ITEM,...|none", "as -d", 1, 1, run_log, true},
    {"print", "p", "/FORMAT EXPRESSION", "numbers and $registers with + and -", 1, MAX_WORDS,
     run_print, true},
    {"quit", "q", "", "end Stag at once", 0, 0, run_quit},
    {"set_link", NULL, "NETDEV on|off", "plug the network in or out", 2, 2, run_set_link},
    {"stop", NULL, "", "stop the guest", 0, 0, run_stop},
    {"system_powerdown", NULL, "", "the power button: ask the guest to power down", 0, 0,
     run_powerdown},
    {"system_reset", NULL, "", "the reset button", 0, 0, run_reset},
    {"x", NULL, "/FORMAT ADDRESS", "memory at a virtual address: x /8xg $sp, x /4i $pc", 1,
     MAX_WORDS, run_x, true},
    {"xp", NULL, "/FORMAT ADDRESS", "memory at a physical address", 1, MAX_WORDS, run_xp, true},
};

/* ---- Finding ------------------------------------------------------------------------------------ */

/* By its name, its alias or a unique beginning. NULL with a sentence. */
static const Command *find(const Command *table, unsigned count, const char *kind, const char *name,
                           GError **err)
{
    const Command *found = NULL, *nearest = &table[0];
    g_autoptr(GString) list = g_string_new(NULL);
    unsigned matches = 0;
    for (unsigned i = 0; i < count; i++) {
        const Command *c = &table[i];
        if (strcmp(name, c->name) == 0 || (c->alias && strcmp(name, c->alias) == 0)) {
            return c;
        }
        if (g_str_has_prefix(c->name, name)) {
            found = c;
            g_string_append_printf(list, "%s%s", matches++ ? ", " : "", c->name);
        }
        if (edit_distance(name, c->name) < edit_distance(name, nearest->name)) {
            nearest = c;
        }
    }
    if (matches == 1) {
        return found;
    }
    if (matches) {
        stag_error(err, "'%.40s' may mean %s", name, list->str);
    } else {
        stag_error(err, "there is no %s '%.40s'; the nearest is '%s' (`help%s` lists them)", kind,
                   name, nearest->name, table == subjects ? " info" : "");
    }
    return NULL;
}

static const Command *find_command(const char *name, GError **err)
{
    return find(commands, ARRAY_LEN(commands), "command", name, err);
}

static const Command *find_subject(const char *name, GError **err)
{
    return find(subjects, ARRAY_LEN(subjects), "subject", name, err);
}

static void print_command(GString *out, const char *before, const Command *c)
{
    g_autofree char *left = g_strdup_printf("%s%s%s%s %s", before, c->name, c->alias ? "|" : "",
                                            c->alias ? c->alias : "", c->arguments);
    if (strlen(left) > 30) {
        g_string_append_printf(out, "%s\n%31s%s\n", left, "", c->help);
    } else {
        g_string_append_printf(out, "%-30s %s\n", left, c->help);
    }
}

static void print_subjects(GString *out)
{
    for (unsigned i = 0; i < ARRAY_LEN(subjects); i++) {
        print_command(out, "info ", &subjects[i]);
    }
}

static bool run_help(Call *c, GError **err)
{
    if (c->count == 0) {
        for (unsigned i = 0; i < ARRAY_LEN(commands); i++) {
            print_command(c->out, "", &commands[i]);
        }
        g_string_append(c->out, "Names may be cut as long as they are unique.\n");
        return true;
    }
    const Command *command = find_command(c->words[0], err);
    if (!command) {
        return false;
    }
    if (command->run != run_info) {
        print_command(c->out, "", command);
    } else if (c->count == 1) {
        print_subjects(c->out);
    } else {
        const Command *subject = find_subject(c->words[1], err);
        if (!subject) {
            return false;
        }
        print_command(c->out, "info ", subject);
    }
    return true;
}

/* ---- Running ------------------------------------------------------------------------------------ */

static bool run(const Command *command, Call *c, GError **err)
{
    if (c->count < command->min || c->count > command->max) {
        return stag_error(err, "%s%s takes %s", command >= subjects && command < subjects + ARRAY_LEN(subjects) ? "info " : "",
                          command->name,
                          command->max ? command->arguments : "nothing");
    }
    if (command->holds) {
        machine_hold(c->m);
    }
    bool ok = command->run(c, err);
    if (command->holds) {
        machine_release(c->m);
    }
    return ok;
}

static bool run_info(Call *c, GError **err)
{
    if (c->count == 0) {
        print_subjects(c->out);
        return true;
    }
    const Command *subject = find_subject(c->words[0], err);
    Call inner = *c;
    inner.words++;
    inner.count--;
    return subject && run(subject, &inner, err);
}

static void run_line(Session *s, char *line, GString *out, GError **err)
{
    /* The name ends at a blank or at a slash, behind which stands a format. */
    gsize n = strcspn(line, " /");
    g_autofree char *name = g_strndup(line, n);
    const Command *command = find_command(name, err);
    if (!command) {
        return;
    }
    const char *rest = line + n;
    rest += strspn(rest, " ");
    g_autofree char *format = NULL;
    if (*rest == '/' && (command->run == run_x || command->run == run_xp ||
                         command->run == run_print)) {
        gsize m = strcspn(rest, " ");
        format = g_strndup(rest + 1, m - 1);
        rest += m;
        rest += strspn(rest, " ");
    }
    g_auto(GStrv) words = g_strsplit(rest, " ", -1);
    const char *some[MAX_WORDS + 1] = {NULL};
    unsigned count = 0;
    for (char **w = words; *w && count <= MAX_WORDS; w++) {
        if (**w) {
            some[count++] = *w; /* one too many at most: run() notices */
            if (count > MAX_WORDS) {
                break;
            }
        }
    }
    Call c = {s, s->machine, format ? format : "", rest, some, count, out};
    run(command, &c, err);
}

void command_run(Session *s, const char *line, GString *out)
{
    GError *err = NULL;
    g_autofree char *copy = g_strstrip(g_strdup(line));
    if (copy[0]) {
        run_line(s, copy, out, &err);
    }
    if (err) {
        g_string_append_printf(out, "%s\n", err->message);
        g_error_free(err);
    }
}

const char **command_complete(const char *line, gsize *length)
{
    const Command *table = commands;
    unsigned count = ARRAY_LEN(commands);
    line += strspn(line, " ");
    gsize first = strcspn(line, " ");
    if (line[first]) {
        g_autofree char *name = g_strndup(line, first);
        const Command *command = find_command(name, NULL);
        line += first;
        line += strspn(line, " ");
        if (command && command->run == run_info && !strchr(line, ' ')) {
            table = subjects;
            count = ARRAY_LEN(subjects);
        } else if (!command || command->run != run_help || strchr(line, ' ')) {
            count = 0;
        }
    }
    *length = strlen(line);
    GPtrArray *names = g_ptr_array_new();
    for (unsigned i = 0; i < count; i++) {
        if (g_str_has_prefix(table[i].name, line)) {
            g_ptr_array_add(names, (gpointer)table[i].name);
        }
    }
    g_ptr_array_add(names, NULL);
    return (const char **)g_ptr_array_free(names, FALSE);
}

void session_init(Session *s, Machine *machine, const char *version)
{
    *s = (Session){.machine = machine, .version = version, .format = 'x', .format_size = 4};
}
