/*
 * The monitor without a guest that runs: line editing key by key, as a terminal would show it, and
 * commands on a machine that stands still.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "debug/commands.h"
#include "debug/lineedit.h"
#include "machine/internal.h"

/* ---- Line editing --------------------------------------------------------------------------- */

/* Types `keys`; returns the lines that were completed, each with a | behind it, and then what is
 * being edited, with ^ at the cursor. */
static char *type(LineEdit *e, const char *keys, GString *echo)
{
    GString *seen = g_string_new(NULL);
    for (const char *k = keys; *k; k++) {
        g_autofree char *line = lineedit_key(e, (u8)*k, echo);
        if (line) {
            g_string_append_printf(seen, "%s|", line);
        }
    }
    g_string_append_len(seen, e->line->str, (gssize)e->cursor);
    g_string_append_printf(seen, "^%s", e->line->str + e->cursor);
    return g_string_free(seen, FALSE);
}

#define UP "\033[A"
#define DOWN "\033[B"
#define RIGHT "\033[C"
#define LEFT "\033[D"

START_TEST(editing)
{
    static const struct {
        const char *keys, *seen;
    } cases[] = {
        {"info\r", "info|^"},
        {"a\r\nb\n", "a|b|^"},
        {"\n\n", "||^"},
        {"stoq\bp", "stop^"},
        {"x\177\177y", "y^"},
        {"abc" LEFT LEFT "X", "aX^bc"},
        {"abc" LEFT LEFT LEFT LEFT "X", "X^abc"},
        {"abc" LEFT RIGHT RIGHT "X", "abcX^"},
        {"abc\001X\005Y", "XabcY^"},
        {"abc\033[HX\033[FY", "XabcY^"},
        {"abc\033[1~X\033[4~Y", "XabcY^"},
        {"abc" LEFT LEFT "\033[3~", "a^c"},
        {"abc" LEFT LEFT "\b", "^bc"},
        {"abc def\025x", "x^"},
        {"abc def" LEFT LEFT "\025", "^ef"},
        {"abc def\027x", "abc x^"},
        {"abc def  \027\027x", "x^"},
        {"abcdef" LEFT LEFT "\013", "abcd^"},
        {"one\rtwo\r" UP UP "\r", "one|two|one|^"},
        {"one\rtwo\rnew" UP UP DOWN DOWN, "one|two|new^"},
        {"one\r" UP UP UP "s", "one|ones^"},
        {"one\rone\r" UP UP, "one|one|one^"}, /* the same twice is kept once */
        {"\r" UP "x", "|x^"},                 /* nothing is not kept */
        {"a\003b", "b^"},
        {"a\033[99999999999;5Xb\033b\033Oc", "ab^"},
        {"a\001\002\003\004\006\007\010\013\014\016\020\021\022\023\024", "^"},
        {"\300\377\200x", "x^"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        LineEdit e;
        g_autoptr(GString) echo = g_string_new(NULL);
        lineedit_init(&e, "> ");
        g_autofree char *seen = type(&e, cases[i].keys, echo);
        ck_assert_msg(strcmp(seen, cases[i].seen) == 0, "%u: %s instead of %s", i, seen,
                      cases[i].seen);
        lineedit_clear(&e);
    }
}
END_TEST

/* What is typed in order comes back as it is; only edits in the middle draw the line anew. */
START_TEST(echo)
{
    LineEdit e;
    g_autoptr(GString) echo = g_string_new(NULL);
    lineedit_init(&e, "> ");
    g_free(type(&e, "info\r", echo));
    ck_assert_str_eq(echo->str, "info\n");
    g_string_truncate(echo, 0);
    g_free(type(&e, "ab\b", echo));
    ck_assert_str_eq(echo->str, "ab\b \b");
    g_string_truncate(echo, 0);
    g_free(type(&e, LEFT "c", echo));
    ck_assert_str_eq(echo->str, "\r> a\033[K\033[1D\r> ca\033[K\033[1D");
    g_string_truncate(echo, 0);
    lineedit_show(&e, echo);
    ck_assert_str_eq(echo->str, "> ca\033[1D");
    lineedit_restart(&e);
    g_string_truncate(echo, 0);
    for (unsigned i = 0; i < 2 * LINE_MAX_LENGTH; i++) {
        g_free(lineedit_key(&e, 'x', echo));
    }
    ck_assert_uint_eq(e.line->len, LINE_MAX_LENGTH);
    for (unsigned i = 0; i < 3 * LINE_MAX_HISTORY; i++) {
        g_autofree char *line = g_strdup_printf("%u\r", i);
        g_free(type(&e, line, echo));
    }
    ck_assert_uint_eq(e.history->len, LINE_MAX_HISTORY);
    lineedit_clear(&e);
}
END_TEST

START_TEST(completion)
{
    static const struct {
        const char *line;
        unsigned names; /* how many */
        const char *first;
        gsize length;
    } cases[] = {
        {"sto", 1, "stop", 3},     {"system_r", 1, "system_reset", 8}, {"info mt", 1, "mtree", 2},
        {"zzz", 0, NULL, 3},       {"stop x", 0, NULL, 1},           {"help sto", 1, "stop", 3},
        {"  inf", 1, "info", 3},   {"info mtree x", 0, NULL, 1},     {"i mt", 1, "mtree", 2},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        gsize length;
        g_autofree const char **names = command_complete(cases[i].line, &length);
        unsigned n = 0;
        while (names[n]) {
            n++;
        }
        ck_assert_msg(n == cases[i].names, "'%s' gives %u names", cases[i].line, n);
        if (n) {
            ck_assert_str_eq(names[0], cases[i].first);
            ck_assert_uint_eq(length, cases[i].length);
        }
    }
}
END_TEST

/* ---- Commands ------------------------------------------------------------------------------- */

static MachineOptions options;
static Machine *machine;

static void set_up(void)
{
    GError *err = NULL;
    machine_options_init(&options);
    g_free(options.serial);
    options.serial = g_strdup("null");
    options.bios = g_strdup("none");
    options.start_stopped = true;
    g_ptr_array_add(options.devices, g_strdup("virtio-rng-device"));
    LoaderDevice *d = loader_device_parse("loader,addr=0x80000000,data=0,data-len=4", &err);
    g_ptr_array_add(options.loaders, d);
    machine = machine_new(&options, &err);
    ck_assert_msg(machine != NULL, "%s", err ? err->message : "");
    machine->stopped = true; /* as machine_run does with start_stopped */
    machine->holds = 1;
    static const u32 code[] = {0x00000297, 0x45850001, 0xdeadbeef, 0x80000000};
    ck_assert(bus_dma_write(machine->bus, 0x80000000, code, sizeof(code)));
    ck_assert(bus_dma_write(machine->bus, 0x80000100, "stag\n\001\377'", 8));
    riscv_hart_reset(machine->harts[0].hart, 0x80000000);
    machine->cpus[0]->x[2] = 0x80000100;
}

static void tear_down(void)
{
    machine_free(machine);
    machine_options_clear(&options);
}

START_TEST(commands)
{
    static const struct {
        const char *line, *output; /* the whole of it, or with * at its end a beginning */
    } cases[] = {
        {"", ""},
        {"   ", ""},
        {"x 0x80000000", "0000000080000000: 0x00000297\n"},
        {"x/4 0x80000000", "0000000080000000: 0x00000297 0x45850001 0xdeadbeef 0x80000000\n"},
        {"x /2xg $pc", "0000000080000000: 0x4585000100000297 0x80000000deadbeef\n"},
        {"x /3xh $pc+8", "0000000080000008: 0xbeef 0xdead 0x0000\n"},
        {"x /9xb $sp - 0x100",
         "0000000080000000: 0x97 0x02 0x00 0x00 0x01 0x00 0x85 0x45\n0000000080000008: 0xef\n"},
        {"xp /8c 0x80000100", "0000000080000100: 's' 't' 'a' 'g' '\\n' '\\x01' '\\xff' '\\''\n"},
        {"x /1dw 0x80000008", "0000000080000008: -559038737\n"},
        {"x /1uw 0x80000008", "0000000080000008: 3735928559\n"},
        {"x /1ow 0x80000000", "0000000080000000:       01227\n"},
        {"x /3i $pc", "0x0000000080000000:  00000297  auipc   t0,0x0\n*"},
        {"x /0x 0", ""},
        {"x 0", "0000000000000000:\nCannot access memory at 0x0\n"},
        {"x /2xw 0x87fffffc", "0000000087fffffc: 0x00000000\nCannot*"},
        {"xp /1xb 0x100000", "0000000000100000:\nCannot access memory at 0x100000\n"},
        {"x /99999999999999999999xg 0", "at most*"},
        {"x /i99 0", "/i99: there is no '9'*"},
        {"x /1i 0x0", "Cannot access memory at 0x0\n"},
        {"x /99999i 0", "at most*"},
        {"x $nothing", "there is no register '$nothing'\n"},
        {"x 0x", "'0x' is neither*"},
        {"x 12z", "'z':*"},
        {"x", "x takes /FORMAT ADDRESS\n"},
        {"p $sp+0x10", "0x80000110\n"},
        {"p /d 5 - 7", "-2\n"},
        {"p/x -1", "'-1' is neither*"},
        {"print /d $x2 - $sp", "0\n"},
        {"p $mhartid", "0x0\n"},
        {"info status", "VM status: paused\n"},
        {"i st", "VM status: paused\n"},
        {"info version", "1.2\n"},
        {"info harts", "* hart 0: M mode, pc 0x80000000, 0 instructions\n"},
        {"info cpus", "* hart 0: M mode*"},
        {"info registers", "hart 0, M mode\n pc       0000000080000000\n*"},
        {"info registers -b", "info registers takes -a*"},
        {"info mtree", "0000000000001000-000000000000ffff  ROM     boot ROM\n*"},
        {"info qtree", "machine: virt*"},
        {"info jit", "engine        jit*"},
        {"info block", ""},
        {"info network", ""},
        {"info usernet", "there is no -netdev user\n"},
        {"info usernet n0", "there is no -netdev with id=n0\n"},
        {"hostfwd_add tcp::1-:2", "there is no -netdev user\n"},
        {"set_link n0 on", "there is no -netdev with id=n0\n"},
        {"info chardev", "serial0: null\n"},
        {"info device plic", "plic@c000000: *"},
        {"info device tape", "there is no device 'tape'*"},
        {"info pic", "plic@c000000: *"},
        {"info balloon", "there is no balloon*"},
        {"balloon 64", "there is no balloon*"},
        {"info nothing", "there is no subject 'nothing'*"},
        {"info status 1", "info status takes nothing\n"},
        {"system_powerdown", "the guest has no driver*"},
        {"stop now", "stop takes nothing\n"},
        {"stpo", "there is no command 'stpo'; the nearest is 'stop'*"},
        {"st", ""},
        {"s", "'s' may mean set_link, stop, system_powerdown, system_reset\n"},
        {"hart 0", ""},
        {"hart 1", "there is no hart '1'*"},
        {"hart -1", "there is no hart '-1'*"},
        {"hart", "hart takes N\n"},
        {"log none", ""},
        {"log everything", "*"},
        {"log cpu", "exec and cpu have to be there from the start*"},
        {"help stop", "stop                           stop the guest\n"},
        {"help info status", "info status *"},
        {"help nothing", "there is no command 'nothing'*"},
        {"a b c d e f g h i j k l m n o p", "there is no command 'a'*"},
        {"x a b c d e f g h i j k l m n o p", "x takes*"},
        {"/", "*"},
        {"quit", ""},
    };
    Session s;
    session_init(&s, machine, "1.2");
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        g_autoptr(GString) out = g_string_new(NULL);
        gsize n = strlen(cases[i].output);
        s.format = 'x';
        s.format_size = 4;
        command_run(&s, cases[i].line, out);
        bool begins = n && cases[i].output[n - 1] == '*';
        ck_assert_msg(begins ? strncmp(out->str, cases[i].output, n - 1) == 0
                             : strcmp(out->str, cases[i].output) == 0,
                      "'%s' says: %s", cases[i].line, out->str);
        ck_assert(!out->len || out->str[out->len - 1] == '\n');
    }
    ck_assert_int_eq(machine->request, REQUEST_QUIT);
    ck_assert_uint_eq(machine->holds, 1);
}
END_TEST

/* The format is kept, as gdb's. */
START_TEST(sticky_format)
{
    Session s;
    session_init(&s, machine, "1.2");
    g_autoptr(GString) out = g_string_new(NULL);
    command_run(&s, "x /1dh 0x80000008", out);
    command_run(&s, "x 0x8000000a", out);
    command_run(&s, "x /2 0x8000000a", out);
    ck_assert_str_eq(out->str, "0000000080000008: -16657\n000000008000000a: -8531\n"
                               "000000008000000a: -8531     0\n");
}
END_TEST

START_TEST(help_names_all)
{
    Session s;
    session_init(&s, machine, "1.2");
    g_autoptr(GString) out = g_string_new(NULL);
    command_run(&s, "help", out);
    command_run(&s, "help info", out);
    static const char *const names[] = {"cont", "quit|q", "system_reset", "x /", "info jit",
                                        "info qtree"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        ck_assert_msg(strstr(out->str, names[i]) != NULL, "no %s", names[i]);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("monitor");
    TCase *t = tcase_create("lines");
    tcase_add_test(t, editing);
    tcase_add_test(t, echo);
    tcase_add_test(t, completion);
    suite_add_tcase(s, t);
    t = tcase_create("commands");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, commands);
    tcase_add_test(t, sticky_format);
    tcase_add_test(t, help_names_all);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
