/*
 * The machine as a whole: the command line, the boards' device trees, and small programs that are
 * loaded, run by T0 and T1, and end with an exit status. The programs are written as instruction
 * words by the macros below.
 */
#include <check.h>
#include <elf.h>
#include <glib/gstdio.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/options.h"
#include "devices/props.h"
#include "machine/internal.h"

/* ---- Options -------------------------------------------------------------------------------- */

static bool parse(Cli *cli, const char *line, FILE *out, GError **err)
{
    char **argv;
    int argc;
    g_autofree char *whole = g_strdup_printf("stag %s", line);
    ck_assert(g_shell_parse_argv(whole, &argc, &argv, NULL));
    cli_init(cli);
    bool ok = cli_parse(cli, argc, argv, out, err);
    g_strfreev(argv);
    return ok;
}

START_TEST(options_good)
{
    Cli cli;
    GError *err = NULL;
    ck_assert(
        parse(&cli,
              "-M virt,dumpdtb=/d -cpu rv64,zba=off --m 2G -bios=none --kernel=/k=1 -initrd /i "
              "-append 'a b=c' -dtb /t -nographic -serial null -monitor none -display none "
              "-accel interp,thread=single,tb-size=8 --no-reboot -singlestep -signature /s "
              "-device loader,file=/f -device loader,addr=0,cpu-num=0 -smp 1",
              stdout, &err));
    const MachineOptions *o = &cli.machine;
    ck_assert_str_eq(o->board, "virt");
    ck_assert_str_eq(o->dump_dtb, "/d");
    ck_assert_str_eq(o->cpu, "rv64,zba=off");
    ck_assert_uint_eq(o->ram_size, 2ull << 30);
    ck_assert_str_eq(o->bios, "none");
    ck_assert_str_eq(o->kernel, "/k=1");
    ck_assert_str_eq(o->initrd, "/i");
    ck_assert_str_eq(o->append, "a b=c");
    ck_assert_str_eq(o->dtb, "/t");
    ck_assert_str_eq(o->serial, "null");
    ck_assert_str_eq(o->signature, "/s");
    ck_assert(o->interp && o->no_reboot && o->single_step && !o->perf_map);
    ck_assert_uint_eq(o->code_cache, 8 << 20);
    ck_assert(o->one_thread && o->harts == 1);
    ck_assert_uint_eq(o->loaders->len, 2);
    ck_assert(!cli.done);
    cli_clear(&cli);

    ck_assert(parse(&cli, "-device virtio-rng-device,id=a -chardev null,id=c -chardev pty,id=d "
                          "-device virtio-rng-pci -serial chardev:c -monitor unix:/m,server,nowait "
                          "-mon chardev=d -mon c -global virtio-mmio.force-legacy=false -S",
                    stdout, &err));
    ck_assert_uint_eq(o->devices->len, 2);
    ck_assert_str_eq(o->devices->pdata[0], "virtio-rng-device,id=a");
    ck_assert_uint_eq(o->chardevs->len, 2);
    ck_assert_str_eq(o->chardevs->pdata[1], "pty,id=d");
    ck_assert_str_eq(o->serial, "chardev:c");
    ck_assert_uint_eq(o->monitors->len, 3);
    ck_assert_str_eq(o->monitors->pdata[0], "unix:/m,server,nowait");
    ck_assert_str_eq(o->monitors->pdata[1], "chardev:d");
    ck_assert_str_eq(o->monitors->pdata[2], "chardev:c");
    ck_assert(o->start_stopped && !o->monitor_first);
    cli_clear(&cli);

    ck_assert(parse(&cli, "-drive file=/x,if=none,id=d -hda /a,b -hdb /c -snapshot", stdout, &err));
    ck_assert_uint_eq(o->drives->len, 3);
    ck_assert_str_eq(o->drives->pdata[0], "file=/x,if=none,id=d");
    ck_assert_ptr_nonnull(strstr(o->drives->pdata[1], "/a,,b"));
    ck_assert(o->snapshot);
    cli_clear(&cli);

    ck_assert(parse(&cli, "-netdev user,id=n -nic user,hostfwd=tcp::1-:2 -net none -nic none",
                    stdout, &err));
    ck_assert_uint_eq(o->netdevs->len, 1);
    ck_assert_uint_eq(o->nics->len, 2);
    ck_assert_str_eq(o->nics->pdata[0], "user,hostfwd=tcp::1-:2");
    cli_clear(&cli);

    /* The terminal's monitor and a serial port that was not spoken of share it. */
    ck_assert(parse(&cli, "-monitor stdio", stdout, &err));
    ck_assert(o->monitor_first && o->monitors->len == 0);
    ck_assert_str_eq(o->serial, "mon:stdio");
    cli_clear(&cli);
    ck_assert(parse(&cli, "-monitor stdio -serial null", stdout, &err));
    ck_assert(!o->monitor_first && o->monitors->len == 1);
    cli_clear(&cli);

    ck_assert(parse(&cli, "-smp 32", stdout, &err));
    ck_assert(!cli.machine.one_thread && cli.machine.harts == 32);
    cli_clear(&cli);

    ck_assert(parse(&cli, "", stdout, &err));
    ck_assert_str_eq(cli.machine.board, "virt");
    ck_assert_uint_eq(cli.machine.ram_size, 128 << 20);
    ck_assert(!cli.machine.bios && !cli.machine.interp && cli.machine.harts == 1);
    cli_clear(&cli);
}
END_TEST

START_TEST(options_bad)
{
    static const struct {
        const char *line, *word;
    } cases[] = {
        {"-kernal x", "-kernel"},
        {"--initrdd=x", "-initrd"},
        {"-noreboot", "-no-reboot"},
        {"-apend", "-append"},
        {"-kernel", "needs a value"},
        {"image", "-kernel FILE"},
        {"-", "not an option"},
        {"--", "nearest"},
        {"-nographic=1", "no value"},
        {"-m 0", "size"},
        {"-m 12Q", "size"},
        {"-m -1", "size"},
        {"-m 1e3", "size"},
        {"-m ''", "size"},
        {"-smp 0", "number"},
        {"-smp 33", "32 harts"},
        {"-smp x", "number"},
        {"-accel kvm", "engine"},
        {"-accel jit,x=1", "property"},
        {"-tb-size 0", "1 to 1024"},
        {"-tb-size 9999", "1 to 1024"},
        {"-d in_asm,nothing", "nothing"},
        {"-device e1000", "e1000"},
        {"-device loader,x=1", "x"},
        {"-device virtio-rng-devise", "virtio-rng-device"},
        {"-device nothing,help", "nearest"},
        {"-device virtconsol", "virt"},
        {"-drive file=/x,formt=raw", "format"},
        {"-drive if=ide,file=/x", "virtio"},
        {"-drive /x", "/x"},
        {"-hda", "needs a value"},
        {"-nic pigeon", "pigeon"},
        {"-net nic", "none"},
        {"-monitor pigeon", "pigeon"},
        {"-monitor unix:/x,servr", "servr"},
        {"-mon mode=control", "control"},
        {"-serial tcp:host", "HOST:PORT"},
        {"-serial telnet:host:1", "telnet"},
        {"-chardev socket,id=c", "host="},
        {"-chardev socket,path=/x", "id=NAME"},
        {"-chardev pigeon,id=c", "pigeon"},
        {"-global virtio-mmio.force-legacy=true", "modern"},
        {"-global cfi.pflash01.secure=on", "force-legacy"},
        {"-display gtk", "display"},
        {"-M virt,x=1", "property"},
        {"-D /nonexistent/log", "/nonexistent/log"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        Cli cli;
        GError *err = NULL;
        ck_assert_msg(!parse(&cli, cases[i].line, stdout, &err), "'%s' was taken", cases[i].line);
        ck_assert_msg(strstr(err->message, cases[i].word) != NULL, "'%s' gives: %s", cases[i].line,
                      err->message);
        ck_assert(!strchr(err->message, '\n'));
        g_error_free(err);
        cli_clear(&cli);
    }
}
END_TEST

START_TEST(options_help)
{
    static const struct {
        const char *line, *word;
    } cases[] = {
        {"-help", "-kernel FILE"},  {"--h", "-append"},        {"-version", "stag "},
        {"-M help", "spike"},       {"-cpu help", "rv32"},     {"-d help", "exec"},
        {"-device help", "loader"}, {"-accel help", "interp"},
        {"-chardev help", "socket"}, {"-device help", "virtio-rng-pci"},
        {"-netdev help", "hostfwd"}, {"-drive help", "cache=<"}, {"-device virtconsole,help", "chardev=<"},
        {"-device virtio-rng-device,help", "max-bytes=<"}, {"-device loader,help", "cpu-num"},
        {"-device virtio-rng-pci,help", "addr=<"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        Cli cli;
        GError *err = NULL;
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        ck_assert(parse(&cli, cases[i].line, out, &err));
        fclose(out);
        ck_assert(cli.done);
        ck_assert_msg(strstr(text, cases[i].word) != NULL, "'%s' prints: %s", cases[i].line, text);
        free(text);
        cli_clear(&cli);
    }
}
END_TEST

START_TEST(values)
{
    static const struct {
        const char *a, *b;
        unsigned distance;
    } pairs[] = {{"", "", 0},
                 {"a", "", 1},
                 {"kernel", "kernal", 1},
                 {"kernel", "kenrel", 1},
                 {"abc", "xyz", 3},
                 {"serial", "aerials", 2},
                 {"d", "help", 4}};
    for (unsigned i = 0; i < ARRAY_LEN(pairs); i++) {
        ck_assert_uint_eq(edit_distance(pairs[i].a, pairs[i].b), pairs[i].distance);
        ck_assert_uint_eq(edit_distance(pairs[i].b, pairs[i].a), pairs[i].distance);
    }
    static const struct {
        const char *text;
        u64 bytes; /* 0: refused */
    } sizes[] = {{"128", 128 << 20},
                 {"1G", 1 << 30},
                 {"64k", 65536},
                 {"1.5M", 3 << 19},
                 {"4T", 4ull << 40},
                 {"512B", 512},
                 {"", 0},
                 {"0", 0},
                 {"M", 0},
                 {"1GG", 0},
                 {"0x10", 0},
                 {"-1", 0},
                 {"nan", 0},
                 {"inf", 0},
                 {"99999999999T", 0},
                 {"1 G", 0},
                 {"12e3", 0},
                 {"1P", 1ull << 50},
                 {"1..5M", 0}};
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        u64 bytes = 0;
        bool ok = parse_size(sizes[i].text, 1 << 20, &bytes);
        ck_assert_msg(ok == (sizes[i].bytes != 0), "'%s'", sizes[i].text);
        ck_assert(!ok || bytes == sizes[i].bytes);
    }
}
END_TEST

/* ---- Device trees --------------------------------------------------------------------------- */

static void *dump_tree(const char *line, GError **err)
{
    Cli cli;
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("tree-XXXXXX", &path, NULL);
    g_autofree char *whole = g_strdup_printf("-accel interp -M dumpdtb=%s %s", path, line);
    char *blob = NULL;
    gsize size;
    int status;
    ck_assert(parse(&cli, whole, stdout, err));
    Machine *m = machine_new(&cli.machine, err);
    if (m && machine_run(m, &status, err)) {
        ck_assert(g_file_get_contents(path, &blob, &size, NULL));
        ck_assert_int_eq(fdt_check_full(blob, size), 0);
    }
    machine_free(m);
    cli_clear(&cli);
    close(fd);
    g_unlink(path);
    return blob;
}

static u32 tree_u32(const void *fdt, int node, const char *name, unsigned index)
{
    int size;
    const fdt32_t *cells = fdt_getprop(fdt, node, name, &size);
    ck_assert_msg(cells && size >= (int)(4 * (index + 1)), "%s", name);
    return fdt32_to_cpu(cells[index]);
}

/* A row of what the tree must say: the value of a 32-bit cell of a property. */
typedef struct TreeCell {
    const char *path, *property;
    unsigned index;
    u32 value;
} TreeCell;

static void check_cells(const void *fdt, const TreeCell *cells, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int node = fdt_path_offset(fdt, cells[i].path);
        ck_assert_msg(node >= 0, "there is no %s", cells[i].path);
        ck_assert_msg(tree_u32(fdt, node, cells[i].property, cells[i].index) == cells[i].value,
                      "%s %s", cells[i].path, cells[i].property);
    }
}

/* The addresses and interrupt numbers are QEMU's, as its documentation and its own tree state them.
 */
/* The bridge's windows and wires, which QEMU's virt has, too. */
static void check_pci(const void *fdt, u32 high_base, u32 high_size)
{
    const u32 ranges[] = {
        0x01000000, 0, 0, 0, 0x03000000, 0, 0x10000,
        0x02000000, 0, 0x40000000, 0, 0x40000000, 0, 0x40000000,
        0x03000000, high_base, 0, high_base, 0, high_size, 0,
    };
    int pci = fdt_path_offset(fdt, "/soc/pci@30000000"), size;
    u32 plic = fdt_get_phandle(fdt, fdt_path_offset(fdt, "/soc/plic@c000000"));
    fdt_getprop(fdt, pci, "ranges", &size);
    ck_assert_int_eq(size, sizeof(ranges));
    for (unsigned i = 0; i < ARRAY_LEN(ranges); i++) {
        ck_assert_uint_eq(tree_u32(fdt, pci, "ranges", i), ranges[i]);
    }
    fdt_getprop(fdt, pci, "interrupt-map", &size);
    ck_assert_int_eq(size, 16 * 6 * 4);
    for (unsigned i = 0; i < 16; i++) {
        const u32 entry[] = {i / 4 << 11, 0, 0, i % 4 + 1, plic, 32 + (i / 4 + i) % 4};
        for (unsigned cell = 0; cell < ARRAY_LEN(entry); cell++) {
            ck_assert_uint_eq(tree_u32(fdt, pci, "interrupt-map", 6 * i + cell), entry[cell]);
        }
    }
    ck_assert_str_eq(fdt_getprop(fdt, pci, "device_type", NULL), "pci");
    ck_assert_ptr_nonnull(fdt_getprop(fdt, pci, "dma-coherent", NULL));
    ck_assert_ptr_null(fdt_getprop(fdt, pci, "interrupts", NULL));
    ck_assert_int_eq(fdt_node_check_compatible(fdt, pci, "pci-host-ecam-generic"), 0);
}

START_TEST(virt_tree)
{
    static const TreeCell cells[] = {
        {"/", "#address-cells", 0, 2},
        {"/", "#size-cells", 0, 2},
        {"/cpus", "timebase-frequency", 0, 10000000},
        {"/cpus/cpu@0", "reg", 0, 0},
        {"/memory@80000000", "reg", 1, 0x80000000},
        {"/memory@80000000", "reg", 2, 1}, /* 5 GiB */
        {"/memory@80000000", "reg", 3, 0x40000000},
        {"/soc/test@100000", "reg", 1, 0x100000},
        {"/soc/rtc@101000", "reg", 1, 0x101000},
        {"/soc/rtc@101000", "interrupts", 0, 11},
        {"/soc/clint@2000000", "reg", 3, 0x10000},
        {"/soc/clint@2000000", "interrupts-extended", 1, 3},
        {"/soc/clint@2000000", "interrupts-extended", 3, 7},
        {"/soc/plic@c000000", "interrupts-extended", 1, 11},
        {"/soc/plic@c000000", "interrupts-extended", 3, 9},
        {"/soc/serial@10000000", "reg", 1, 0x10000000},
        {"/soc/serial@10000000", "interrupts", 0, 10},
        /* QEMU's, cell for cell: the 64-bit window stands behind the memory. */
        {"/soc/pci@30000000", "#address-cells", 0, 3},
        {"/soc/pci@30000000", "#size-cells", 0, 2},
        {"/soc/pci@30000000", "#interrupt-cells", 0, 1},
        {"/soc/pci@30000000", "linux,pci-domain", 0, 0},
        {"/soc/pci@30000000", "bus-range", 1, 0xff},
        {"/soc/pci@30000000", "reg", 1, 0x30000000},
        {"/soc/pci@30000000", "reg", 3, 0x10000000},
        {"/soc/pci@30000000", "interrupt-map-mask", 0, 0x1800},
        {"/soc/pci@30000000", "interrupt-map-mask", 3, 7},
        {"/poweroff", "value", 0, 0x5555},
        {"/reboot", "value", 0, 0x7777},
    };
    GError *err = NULL;
    void *fdt = dump_tree("-m 5G -append 'a b'", &err);
    ck_assert_ptr_nonnull(fdt);
    check_cells(fdt, cells, ARRAY_LEN(cells));
    check_pci(fdt, 4, 4);

    int intc = fdt_path_offset(fdt, "/cpus/cpu@0/interrupt-controller");
    int plic = fdt_path_offset(fdt, "/soc/plic@c000000");
    int uart = fdt_path_offset(fdt, "/soc/serial@10000000");
    int clint = fdt_path_offset(fdt, "/soc/clint@2000000");
    int cpu = fdt_path_offset(fdt, "/cpus/cpu@0");
    int chosen = fdt_path_offset(fdt, "/chosen");
    ck_assert_uint_eq(tree_u32(fdt, uart, "interrupt-parent", 0), fdt_get_phandle(fdt, plic));
    ck_assert_uint_eq(tree_u32(fdt, plic, "interrupts-extended", 0), fdt_get_phandle(fdt, intc));
    ck_assert_uint_eq(tree_u32(fdt, clint, "interrupts-extended", 0), fdt_get_phandle(fdt, intc));
    ck_assert_uint_eq(tree_u32(fdt, fdt_path_offset(fdt, "/poweroff"), "regmap", 0),
                      fdt_get_phandle(fdt, fdt_path_offset(fdt, "/soc/test@100000")));
    ck_assert_str_eq(fdt_getprop(fdt, cpu, "mmu-type", NULL), "riscv,sv39");
    ck_assert(strncmp(fdt_getprop(fdt, cpu, "riscv,isa", NULL), "rv64imafdc", 10) == 0);
    ck_assert_int_ge(fdt_stringlist_search(fdt, cpu, "riscv,isa-extensions", "zicsr"), 0);
    ck_assert_str_eq(fdt_getprop(fdt, chosen, "bootargs", NULL), "a b");
    ck_assert_str_eq(fdt_getprop(fdt, chosen, "stdout-path", NULL), "/soc/serial@10000000");
    ck_assert_ptr_null(fdt_getprop(fdt, chosen, "linux,initrd-start", NULL));
    int size;
    u8 seed[32];
    const void *now = fdt_getprop(fdt, chosen, "rng-seed", &size);
    ck_assert_int_eq(size, 32);
    memcpy(seed, now, 32);
    g_free(fdt);

    fdt = dump_tree("-cpu rv32", &err);
    ck_assert_ptr_nonnull(fdt);
    cpu = fdt_path_offset(fdt, "/cpus/cpu@0");
    ck_assert_str_eq(fdt_getprop(fdt, cpu, "mmu-type", NULL), "riscv,sv32");
    ck_assert_str_eq(fdt_getprop(fdt, cpu, "riscv,isa-base", NULL), "rv32i");
    check_pci(fdt, 3, 1);
    now = fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), "rng-seed", NULL);
    ck_assert(memcmp(now, seed, 32) != 0);
    g_free(fdt);

    fdt = dump_tree("-cpu rv64,s=off,zicboz=off", &err);
    ck_assert_ptr_nonnull(fdt);
    cpu = fdt_path_offset(fdt, "/cpus/cpu@0");
    ck_assert_str_eq(fdt_getprop(fdt, cpu, "mmu-type", NULL), "riscv,none");
    ck_assert_ptr_null(fdt_getprop(fdt, cpu, "riscv,cboz-block-size", NULL));
    g_free(fdt);

    fdt = dump_tree("-m 20G", &err);
    ck_assert_ptr_nonnull(fdt);
    check_pci(fdt, 8, 4);
    g_free(fdt);

    fdt = dump_tree("-M spike", &err);
    ck_assert_ptr_nonnull(fdt);
    ck_assert(fdt_node_offset_by_compatible(fdt, -1, "ucb,htif0") > 0);
    ck_assert(fdt_node_offset_by_compatible(fdt, -1, "sifive,clint0") > 0);
    ck_assert(fdt_node_offset_by_compatible(fdt, -1, "ns16550a") < 0);
    g_free(fdt);

    ck_assert_ptr_null(dump_tree("-m 1T", &err));
    ck_assert_ptr_nonnull(strstr(err->message, "-m"));
    g_clear_error(&err);
    ck_assert_ptr_null(dump_tree("-cpu rv32 -m 4G", &err));
    ck_assert_ptr_nonnull(strstr(err->message, "-m"));
    g_clear_error(&err);
    g_autofree char *words = g_strnfill(3 << 20, 'x');
    g_autofree char *line = g_strdup_printf("-append %s", words);
    ck_assert_ptr_null(dump_tree(line, &err));
    ck_assert_ptr_nonnull(strstr(err->message, "2 MiB"));
    g_clear_error(&err);
}
END_TEST

/* A tree of the user's own is passed on as it is, but for what the command line says. */
START_TEST(own_tree)
{
    GError *err = NULL;
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("own-XXXXXX", &path, NULL);
    u8 own[512];
    ck_assert(fdt_create_empty_tree(own, sizeof(own)) == 0);
    ck_assert(fdt_setprop_string(own, 0, "model", "mine") == 0 && fdt_pack(own) == 0);
    ck_assert(g_file_set_contents(path, (char *)own, (gssize)fdt_totalsize(own), NULL));

    g_autofree char *line = g_strdup_printf("-dtb %s", path);
    void *fdt = dump_tree(line, &err);
    ck_assert(fdt && fdt_totalsize(fdt) == fdt_totalsize(own));
    ck_assert(memcmp(fdt, own, fdt_totalsize(own)) == 0);
    g_free(fdt);

    g_autofree char *words = g_strnfill(20000, 'x');
    g_autofree char *more = g_strdup_printf("-dtb %s -append %s", path, words);
    fdt = dump_tree(more, &err);
    ck_assert_ptr_nonnull(fdt);
    ck_assert_str_eq(fdt_getprop(fdt, 0, "model", NULL), "mine");
    ck_assert_str_eq(fdt_getprop(fdt, fdt_path_offset(fdt, "/chosen"), "bootargs", NULL), words);
    g_free(fdt);
    close(fd);
    g_unlink(path);
}
END_TEST

/* ---- Programs ------------------------------------------------------------------------------- */

enum { ZERO, RA, SP, GP, TP, T0, T1, T2, S0, S1, A0, A1, A2, A3, A4, A5 };
#define I_TYPE(op, f3, rd, rs1, imm)                                                               \
    ((u32)(imm) << 20 | (rs1) << 15 | (f3) << 12 | (rd) << 7 | (op))
#define LUI(rd, upper) ((u32)(upper) << 12 | (rd) << 7 | 0x37)
#define ADDI(rd, rs1, imm) I_TYPE(0x13, 0, rd, rs1, imm)
#define LW(rd, imm, rs1) I_TYPE(0x03, 2, rd, rs1, imm)
#define SW(rs2, imm, rs1)                                                                          \
    ((u32)((imm) >> 5 & 0x7f) << 25 | (rs2) << 20 | (rs1) << 15 | 2 << 12 | ((imm)&0x1f) << 7 |    \
     0x23)
#define SD(rs2, imm, rs1) (SW(rs2, imm, rs1) | 1 << 12)
#define ADD(rd, rs1, rs2) (I_TYPE(0x33, 0, rd, rs1, 0) | (u32)(rs2) << 20)
#define SLLI(rd, rs1, n) I_TYPE(0x13, 1, rd, rs1, n)
#define ANDI(rd, rs1, imm) I_TYPE(0x13, 7, rd, rs1, imm)
#define BRANCH(f3, rs1, rs2, offset)                                                               \
    ((u32)((offset) >> 12 & 1) << 31 | (u32)((offset) >> 5 & 0x3f) << 25 | (rs2) << 20 |           \
     (rs1) << 15 | (f3) << 12 | ((offset) >> 1 & 0xf) << 8 | ((offset) >> 11 & 1) << 7 | 0x63)
#define BEQ(a, b, offset) BRANCH(0, a, b, offset)
#define BNE(a, b, offset) BRANCH(1, a, b, offset)
#define JUMP_SELF 0x0000006f
#define WFI 0x10500073
#define CSRW(csr, rs1) I_TYPE(0x73, 1, ZERO, rs1, csr)
#define CSRR(rd, csr) I_TYPE(0x73, 2, rd, ZERO, csr)
#define AUIPC(rd, upper) ((u32)(upper) << 12 | (rd) << 7 | 0x17)
enum {
    CSR_MSTATUS = 0x300,
    CSR_MIE = 0x304,
    CSR_MTVEC = 0x305,
    CSR_MCAUSE = 0x342,
    CSR_MIP = 0x344,
    CSR_STIMECMP = 0x14d,
    CSR_MENVCFG = 0x30a,
    CSR_TIME = 0xc01
};

/* Writes `command` to the test finisher; 0x3333 takes a code from A0. */
#define FINISH(command)                                                                            \
    LUI(T0, 0x100), LUI(T1, ((command) + 0x800) >> 12), ADDI(T1, T1, (command)&0xfff),             \
        SW(T1, 0, T0), JUMP_SELF
/* Ends with A0 as the exit code, which is not 0. */
#define FAIL_A0                                                                                    \
    LUI(T0, 0x100), LUI(T1, 3), ADDI(T1, T1, 0x333), SLLI(A0, A0, 16), ADD(T1, T1, A0),            \
        SW(T1, 0, T0), JUMP_SELF

/* Runs a raw program at the start of RAM with the given options; -1 with an error. */
static int run_file(const char *path, const char *line, gboolean (*later)(gpointer), GError **err)
{
    Cli cli;
    int status = -1;
    g_autofree char *whole =
        g_strdup_printf("-bios none -serial null -m 16M -kernel %s %s", path, line);
    ck_assert(parse(&cli, whole, stdout, err));
    Machine *m = machine_new(&cli.machine, err);
    if (m) {
        if (later) {
            g_timeout_add(50, later, m);
        }
        if (!machine_run(m, &status, err)) {
            status = -1;
        }
    }
    machine_free(m);
    cli_clear(&cli);
    return status;
}

static int run_bytes(const void *bytes, gsize size, const char *line, gboolean (*later)(gpointer),
                     GError **err)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("program-XXXXXX", &path, NULL);
    ck_assert(fd >= 0 && g_file_set_contents(path, bytes, (gssize)size, NULL));
    int status = run_file(path, line, later, err);
    close(fd);
    g_unlink(path);
    return status;
}

#define RUN(program, line) run_bytes(program, sizeof(program), line, NULL, &err)

static const char *const engines[] = {"-accel interp", "-accel jit", "-accel jit -cpu rv32",
                                      "-accel interp -cpu rv32 -singlestep"};
enum { ENGINES = ARRAY_LEN(engines) };

START_TEST(endings)
{
    static const u32 off[] = {FINISH(0x5555)};
    static const u32 fail[] = {ADDI(A0, ZERO, 42), FAIL_A0};
    static const u32 fail0[] = {FINISH(0x3333)};
    static const u32 again[] = {FINISH(0x7777)};
    GError *err = NULL;
    const char *e = engines[_i];
    g_autofree char *no_reboot = g_strdup_printf("%s -no-reboot", e);
    g_autofree char *odd = g_strdup_printf("%s -device loader,addr=0x80000001,cpu-num=0", e);
    ck_assert_int_eq(RUN(off, e), 0);
    ck_assert_int_eq(RUN(fail, e), 42);
    ck_assert_int_eq(RUN(fail0, e), 1); /* a failure is never success */
    ck_assert_int_eq(RUN(again, no_reboot), 0);
    ck_assert_int_eq(RUN(off, odd), 0); /* there is no instruction at an odd address */
}
END_TEST

/* The third time through the program ends: RAM that nothing is loaded to survives a reset, loaded
 * memory does not. */
START_TEST(resets)
{
    static const u32 program[] = {
        AUIPC(A1, 0x800),
        LW(A0, 0, A1),
        ADDI(A0, A0, 1),
        SW(A0, 0, A1), /* a count outside the program */
        AUIPC(A2, 0),
        LW(A3, 4 * 30 - 16, A2),
        BNE(A3, ZERO, 4 * 10), /* a word inside, which changes */
        ADDI(T1, ZERO, 1),
        SW(T1, 4 * 30 - 16, A2),
        ADDI(T2, ZERO, 3),
        BEQ(A0, T2, 4 * 6),
        FINISH(0x7777),
        FAIL_A0, /* with the count */
        [30] = 0,
    };
    GError *err = NULL;
    ck_assert_int_eq(RUN(program, engines[_i]), 3);
}
END_TEST

/* a0 = hart, a1 = device tree with its magic, a2 = fw_dynamic_info with its magic. */
START_TEST(reset_vector)
{
    static const u32 program[] = {
        BNE(A0, ZERO, 4 * 14), LW(A3, 0, A1),  LUI(A4, 0xedfe1),  ADDI(A4, A4, 0xdd0 - 0x1000),
        BNE(A3, A4, 4 * 10),   LW(A3, 0, A2),  LUI(A4, 0x49425),  ADDI(A4, A4, 0x34f),
        BNE(A3, A4, 4 * 6),    FINISH(0x5555), ADDI(A0, ZERO, 9), FAIL_A0,
    };
    GError *err = NULL;
    ck_assert_int_eq(RUN(program, engines[_i]), 0);
}
END_TEST

/* WFI sleeps until mtimecmp has passed, then the handler runs with the timer's cause. */
START_TEST(machine_timer)
{
    static const u32 program[] = {
        AUIPC(T0, 0),
        ADDI(T0, T0, 4 * 20),
        CSRW(CSR_MTVEC, T0),
        LUI(T0, 0x200c),
        ADDI(T0, T0, 0xff8 - 0x1000),
        LW(T1, 0, T0), /* mtime */
        LUI(T2, 0x50),
        ADD(T1, T1, T2), /* 33 ms later */
        LUI(T0, 0x2004),
        SW(T1, 0, T0),
        SW(ZERO, 4, T0), /* mtimecmp */
        ADDI(T1, ZERO, 0x80),
        CSRW(CSR_MIE, T1),
        ADDI(T1, ZERO, 8),
        CSRW(CSR_MSTATUS, T1),
        WFI,
        ADDI(A0, ZERO, 99),
        JUMP_SELF,
        ADDI(ZERO, ZERO, 0),
        ADDI(ZERO, ZERO, 0),
        CSRR(A0, CSR_MCAUSE), /* 7 in the low bits */
        ANDI(A0, A0, 0xff),
        FAIL_A0,
    };
    GError *err = NULL;
    gint64 began = g_get_monotonic_time();
    ck_assert_int_eq(RUN(program, engines[_i]), 7);
    ck_assert(g_get_monotonic_time() - began >= 30000);
}
END_TEST

/* The same by stimecmp, after a reset has set the time back. */
START_TEST(supervisor_timer)
{
    static const u32 program[] = {
        AUIPC(A1, 0x800),     LW(A0, 0, A1),         ADDI(A0, A0, 1),
        SW(A0, 0, A1),        ADDI(T2, ZERO, 2),     BEQ(A0, T2, 4 * 6),
        FINISH(0x7777),       ADDI(T0, ZERO, 1),     SLLI(T0, T0, 31),
        SLLI(T0, T0, 32),     CSRW(CSR_MENVCFG, T0), CSRR(T1, CSR_TIME),
        LUI(T2, 0x50),        ADD(T1, T1, T2),       CSRW(CSR_STIMECMP, T1),
        ADDI(T1, ZERO, 0x20), CSRW(CSR_MIE, T1),     WFI,
        CSRR(A0, CSR_MIP),    ANDI(A0, A0, 0xff),    FAIL_A0,
    };
    GError *err = NULL;
    ck_assert_int_eq(RUN(program, _i ? "-accel jit" : "-accel interp"), 0x20);
}
END_TEST

static gboolean stop_it(gpointer machine)
{
    machine_request(machine, REQUEST_QUIT, 17);
    return G_SOURCE_REMOVE;
}

/* Another thread ends a hart that loops and one that sleeps. */
START_TEST(stopping)
{
    static const u32 loop[] = {JUMP_SELF};
    static const u32 count[] = {ADDI(A0, A0, 1), BNE(A0, ZERO, -4), JUMP_SELF};
    static const u32 sleep[] = {WFI, 0xffdff06f};
    GError *err = NULL;
    ck_assert_int_eq(run_bytes(loop, sizeof(loop), engines[_i], stop_it, &err), 17);
    ck_assert_int_eq(run_bytes(count, sizeof(count), engines[_i], stop_it, &err), 17);
    ck_assert_int_eq(run_bytes(sleep, sizeof(sleep), engines[_i], stop_it, &err), 17);
}
END_TEST

static gboolean terminate(gpointer machine G_GNUC_UNUSED)
{
    kill(getpid(), SIGTERM);
    return G_SOURCE_REMOVE;
}

START_TEST(signals)
{
    static const u32 sleep[] = {WFI, 0xffdff06f};
    GError *err = NULL;
    ck_assert_int_eq(run_bytes(sleep, sizeof(sleep), engines[_i], terminate, &err), 128 + SIGTERM);
}
END_TEST

/* An ELF64 of `program` at the start of RAM, entered at its first word, with symbols at multiples
 * of 0x1000 behind it. */
static GByteArray *make_elf(const void *program, gsize size, bool with_htif)
{
    static const char names[] = "\0tohost\0fromhost\0begin_signature\0end_signature";
    static const struct {
        u32 name;
        u64 value;
    } symbols[] = {{0, 0}, {17, 0x80002000}, {33, 0x8000200c}, {1, 0x80001000}, {8, 0x80001040}};
    u8 file[4096] = {0};
    Elf64_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                    .e_type = ET_EXEC,
                    .e_machine = EM_RISCV,
                    .e_entry = 0x80000000,
                    .e_phoff = 64,
                    .e_ehsize = 64,
                    .e_phentsize = 56,
                    .e_phnum = 1,
                    .e_shoff = 0x200,
                    .e_shentsize = sizeof(Elf64_Shdr),
                    .e_shnum = 2};
    Elf64_Phdr p = {.p_type = PT_LOAD,
                    .p_offset = 0x800,
                    .p_vaddr = 0x80000000,
                    .p_paddr = 0x80000000,
                    .p_filesz = size,
                    .p_memsz = 0x3000};
    unsigned count = with_htif ? 5 : 3;
    Elf64_Shdr sh[2] = {{.sh_type = SHT_SYMTAB,
                         .sh_offset = 0x400,
                         .sh_size = count * sizeof(Elf64_Sym),
                         .sh_link = 1,
                         .sh_entsize = sizeof(Elf64_Sym)},
                        {.sh_type = SHT_STRTAB, .sh_offset = 0x600, .sh_size = sizeof(names)}};
    memcpy(file, &e, sizeof(e));
    memcpy(file + 64, &p, sizeof(p));
    memcpy(file + 0x200, sh, sizeof(sh));
    for (unsigned i = 1; i < count; i++) {
        Elf64_Sym s = {.st_name = symbols[i].name, .st_value = symbols[i].value, .st_shndx = 1};
        memcpy(file + 0x400 + i * sizeof(s), &s, sizeof(s));
    }
    memcpy(file + 0x600, names, sizeof(names));
    memcpy(file + 0x800, program, size);
    return g_byte_array_append(g_byte_array_new(), file, sizeof(file));
}

/* HTIF in the midst of RAM: `tohost` ends the machine; the signature is what the program left in
 * memory. */
START_TEST(htif_and_signature)
{
    static const u32 program[] = {
        AUIPC(T0, 2), /* begin_signature */
        LUI(T1, 0x12345),
        ADDI(T1, T1, 0x678),
        SW(T1, 0, T0),
        ADDI(T1, ZERO, 1),
        SW(T1, 8, T0),
        LUI(T2, 0xfffff),
        ADD(T0, T0, T2), /* a page below: tohost */
        ADDI(T1, ZERO, 5 << 1 | 1),
        SD(T1, 0, T0),
        JUMP_SELF,
    };
    GError *err = NULL;
    g_autofree char *signature = NULL;
    g_autofree char *text = NULL;
    close(g_file_open_tmp("signature-XXXXXX", &signature, NULL));
    GByteArray *elf = make_elf(program, sizeof(program), true);
    g_autofree char *line = g_strdup_printf("-M spike %s -signature %s",
                                            _i ? "-accel jit" : "-accel interp", signature);
    ck_assert_int_eq(run_bytes(elf->data, elf->len, line, NULL, &err), 5);
    ck_assert(g_file_get_contents(signature, &text, NULL, NULL));
    ck_assert_str_eq(text, "12345678\n00000000\n00000001\n");
    g_byte_array_unref(elf);
    g_unlink(signature);
}
END_TEST

START_TEST(refusals)
{
    static const u32 program[] = {JUMP_SELF};
    GByteArray *elf = make_elf(program, sizeof(program), false);
    static const struct {
        const char *line, *word;
    } cases[] = {
        {"-cpu rv32", "64-bit"},
        {"-M nothing", "there is no machine"},
        {"-m 8K", "does not fit"},
        {"-m 5K", "multiples"},
        {"-cpu rv65", "rv65"},
        {"-initrd /nonexistent", "/nonexistent"},
        {"-dtb /dev/null", "device tree"},
        {"-bios /nonexistent", "/nonexistent"},
        {"-serial file:/nonexistent/x", "/nonexistent"},
        {"-device loader,addr=0x80000000,data=1,data-len=4", "overlaps"},
        {"-device loader,addr=0,data=1,data-len=4", "does not fit"},
        {"-device loader,addr=0,cpu-num=1", "no hart"},
        {"-device loader,file=/dev/null,addr=0x80100000", "empty"},
        {"-device virtio-rng-pci,addr=20", "no PCI slot"},
        {"-device virtio-rng-pci,addr=0", "the host bridge"},
        {"-device virtio-rng-pci,addr=1 -device virtio-rng-pci,addr=1", "taken"},
        {"-device virtio-rng-pci,bus=pci.1", "pcie.0"},
        {"-device virtio-rng-pci,disable-legacy=off", "disable-legacy"},
        {"-device virtio-rng-pci,disable-modern=on", "disable-modern"},
        {"-device virtio-rng-pci,romfile=x", "romfile"},
        {"-device virtio-rng-pci -M spike -bios none", "no PCI"},
        {"-signature /nonexistent/file -no-reboot -M nothing", "machine"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        GError *err = NULL;
        int status = run_bytes(elf->data, elf->len, cases[i].line, NULL, &err);
        ck_assert_msg(status == -1 && err, "'%s' was taken", cases[i].line);
        ck_assert_msg(strstr(err->message, cases[i].word) != NULL, "'%s' gives: %s", cases[i].line,
                      err->message);
        ck_assert(!strchr(err->message, '\n'));
        g_error_free(err);
    }
    g_byte_array_unref(elf);
}
END_TEST

/* Devices take the slots from the highest on, as QEMU's do, or the one they ask for. */
START_TEST(mmio_slots)
{
    static const struct {
        const char *line;
        int slots[4]; /* that are taken, then -1 */
        const char *error;
    } cases[] = {
        {"", {-1}, NULL},
        {"-device virtio-rng-device -device virtio-rng-device", {7, 6, -1}, NULL},
        {"-device virtio-rng-device,bus=virtio-mmio-bus.0 -device virtio-rng-device", {0, 7, -1},
         NULL},
        {"-device virtio-rng-device,bus=virtio-mmio-bus.7 -device virtio-rng-device", {7, 6, -1},
         NULL},
        {"-device virtio-rng-device,bus=virtio-mmio-bus.8", {-1}, "0 to 7"},
        {"-device virtio-rng-device,bus=virtio-mmio-bus.", {-1}, "no bus"},
        {"-device virtio-rng-device,bus=scsi.0", {-1}, "no bus"},
        {"-device virtio-rng-device,bus=virtio-mmio-bus.1 "
         "-device virtio-rng-device,bus=virtio-mmio-bus.1",
         {-1},
         "already"},
        {"-device virtio-rng-device,colour=red", {-1}, "colour"},
        {"-M spike -device virtio-rng-device", {-1}, "no place"},
        {"-chardev null,id=a -chardev null,id=a", {-1}, "two with the id"},
        {"-serial chardev:a", {-1}, "no -chardev with id=a"},
        {"-chardev null,id=a -serial chardev:a -monitor chardev:a", {-1}, "in use"},
        {"-chardev null,id=a,mux=on -serial chardev:a -monitor chardev:a", {-1}, NULL},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        Cli cli;
        GError *err = NULL;
        g_autofree char *line = g_strdup_printf(
            "-device loader,addr=0x80000000,data=0,data-len=4 -bios none %s%s",
            strstr(cases[i].line, "-serial") ? "" : "-serial null ", cases[i].line);
        ck_assert(parse(&cli, line, stdout, &err));
        Machine *m = machine_new(&cli.machine, &err);
        if (cases[i].error) {
            ck_assert_msg(!m, "'%s' was taken", cases[i].line);
            ck_assert_msg(strstr(err->message, cases[i].error), "'%s' gives: %s", cases[i].line,
                          err->message);
            g_clear_error(&err);
            cli_clear(&cli);
            continue;
        }
        ck_assert_msg(m != NULL, "'%s' gives: %s", cases[i].line, err ? err->message : "");
        unsigned found = 0, wanted = 0;
        for (unsigned n = 0; n < 8; n++) {
            Region *r = bus_find(m->bus, 0x10001000 + 0x1000 * n);
            u64 id;
            ck_assert_ptr_nonnull(r);
            ck_assert(bus_read(m->bus, r->base + 8, 4, &id));
            found += id != 0;
        }
        for (const int *n = cases[i].slots; *n >= 0; n++, wanted++) {
            u64 id;
            ck_assert(bus_read(m->bus, 0x10001000 + 0x1000 * (u64)*n + 8, 4, &id));
            ck_assert_uint_eq(id, VIRTIO_ID_RNG);
        }
        ck_assert_uint_eq(found, wanted);
        machine_free(m);
        cli_clear(&cli);
    }
}
END_TEST

/* -device, then -nic, then -drive: QEMU's order, which decides which disk a guest calls vda. */
START_TEST(device_order)
{
    static const struct {
        u64 id, sectors;
    } slots[] = {{VIRTIO_ID_RNG, 0}, {VIRTIO_ID_BLOCK, 4096}, {VIRTIO_ID_NET, 0},
                 {VIRTIO_ID_BLOCK, 2048}, {VIRTIO_ID_BLOCK, 6144}, {0, 0}};
    g_autofree char *folder = g_dir_make_tmp("stag-machine-XXXXXX", NULL);
    char *files[3];
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *name = g_strdup_printf("%u", i);
        g_autofree char *content = g_malloc0((i + 1) << 20);
        files[i] = g_build_filename(folder, name, NULL);
        ck_assert(g_file_set_contents(files[i], content, (i + 1) << 20, NULL));
    }
    g_autofree char *line = g_strdup_printf(
        "-serial null -bios none -device loader,addr=0x80000000,data=0,data-len=4 -nic user "
        "-drive file=%s,format=raw -device virtio-rng-device -drive if=none,id=x,file=%s,format=raw "
        "-hdb %s -device virtio-blk-device,drive=x",
        files[0], files[1], files[2]);
    Cli cli;
    GError *err = NULL;
    ck_assert(parse(&cli, line, stdout, &err));
    Machine *m = machine_new(&cli.machine, &err);
    ck_assert_msg(m != NULL, "%s", err ? err->message : "");
    for (unsigned i = 0; i < ARRAY_LEN(slots); i++) {
        u64 base = 0x10008000 - 0x1000 * i, id, sectors;
        ck_assert(bus_read(m->bus, base + 8, 4, &id));
        ck_assert_uint_eq(id, slots[i].id);
        ck_assert(bus_read(m->bus, base + 0x100, 4, &sectors));
        if (slots[i].sectors) {
            ck_assert_uint_eq(sectors, slots[i].sectors);
        }
    }
    machine_free(m);
    cli_clear(&cli);
    for (unsigned i = 0; i < 3; i++) {
        g_remove(files[i]);
        g_free(files[i]);
    }
    g_rmdir(folder);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("machine");
    TCase *t = tcase_create("machine");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, options_good);
    tcase_add_test(t, options_bad);
    tcase_add_test(t, options_help);
    tcase_add_test(t, mmio_slots);
    tcase_add_test(t, device_order);
    tcase_add_test(t, values);
    tcase_add_test(t, virt_tree);
    tcase_add_test(t, own_tree);
    tcase_add_loop_test(t, endings, 0, ENGINES);
    tcase_add_loop_test(t, resets, 0, ENGINES);
    tcase_add_loop_test(t, reset_vector, 0, ENGINES);
    tcase_add_loop_test(t, machine_timer, 0, ENGINES);
    tcase_add_loop_test(t, supervisor_timer, 0, 2);
    tcase_add_loop_test(t, stopping, 0, ENGINES);
    tcase_add_loop_test(t, signals, 0, ENGINES);
    tcase_add_loop_test(t, htif_and_signature, 0, 2);
    tcase_add_test(t, refusals);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
