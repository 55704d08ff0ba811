/* The boards' tables, and what is made from them. See board.h. */
#include "machine/board.h"

#include <inttypes.h>
#include <libfdt.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "devices/aclint.h"
#include "devices/goldfish_rtc.h"
#include "devices/htif.h"
#include "devices/pci/host.h"
#include "devices/plic.h"
#include "devices/sifive_test.h"
#include "devices/uart16550.h"
#include "devices/virtio/button.h"
#include "devices/virtio/mmio.h"

/* QEMU's virt, address for address and interrupt for interrupt; and a power button, which QEMU's
 * has not, where nothing is there. The tree's nodes come out in the reverse order, which is the
 * order in which a guest finds them. */
static const BoardDevice virt_devices[] = {
    {"sifive,clint0", 0x02000000, 0, NULL},
    {"sifive,plic-1.0.0", 0x0c000000, 0, NULL},
    {"virtio,mmio", 0x10009000, 9, &virtio_button_class},
    {"virtio,mmio", 0x10001000, 1, NULL},
    {"virtio,mmio", 0x10002000, 2, NULL},
    {"virtio,mmio", 0x10003000, 3, NULL},
    {"virtio,mmio", 0x10004000, 4, NULL},
    {"virtio,mmio", 0x10005000, 5, NULL},
    {"virtio,mmio", 0x10006000, 6, NULL},
    {"virtio,mmio", 0x10007000, 7, NULL},
    {"virtio,mmio", 0x10008000, 8, NULL},
    {"pci-host-ecam-generic", 0x30000000, 32, NULL},
    {"sifive,test0", 0x00100000, 0, NULL},
    {"ns16550a", 0x10000000, 10, NULL},
    {"google,goldfish-rtc", 0x00101000, 11, NULL},
};

static const BoardDevice spike_devices[] = {
    {"sifive,clint0", 0x02000000, 0, NULL},
    {"ucb,htif0", 0, 0, NULL},
};

const Board boards[] = {
    {
        .name = "virt",
        .help = "QEMU's virt: PLIC, CLINT, 16550 UART, RTC, test finisher, virtio-mmio, PCI Express",
        .compatible = "riscv-virtio",
        .model = "riscv-virtio,stag",
        .rom_base = 0x1000,
        .rom_size = 0xf000,
        .ram_base = 0x80000000,
        .devices = virt_devices,
        .device_count = ARRAY_LEN(virt_devices),
        .console = "ns16550a",
    },
    {
        .name = "spike",
        .help = "Spike's: CLINT, and HTIF (tohost, fromhost) for the console and the end",
        .compatible = "ucbbar,spike-bare-dev",
        .model = "ucbbar,spike-bare,stag",
        .rom_base = 0x1000,
        .rom_size = 0xf000,
        .ram_base = 0x80000000,
        .devices = spike_devices,
        .device_count = ARRAY_LEN(spike_devices),
        .console = "ucb,htif0",
    },
};
const unsigned board_count = ARRAY_LEN(boards);

enum { PLIC_SOURCES = 95, DEFAULT_HTIF_PAGE = 0x01000000 };
enum { CACHE_BLOCK_BYTES = 64 };

const Board *board_find(const char *name, GError **err)
{
    g_autoptr(GString) names = g_string_new(NULL);
    for (unsigned i = 0; i < board_count; i++) {
        if (strcmp(name, boards[i].name) == 0) {
            return &boards[i];
        }
        g_string_append_printf(names, "%s%s", i ? ", " : "", boards[i].name);
    }
    stag_error(err, "there is no machine '%s'; there are %s", name, names->str);
    return NULL;
}

/* ---- Devices -------------------------------------------------------------------------------- */

typedef struct BoardSlot {
    const BoardDevice *row;
    VirtioDevice *held; /* what is built into a slot of virtio-mmio */
    Device *device;
    u64 base;
} BoardSlot;

struct BoardDevices {
    const Board *board;
    BoardEnv env;
    BoardSlot *slots; /* one a row */
    Device *plic;     /* NULL: none */
};

typedef union DeviceConfig {
    ClintConfig clint;
    HtifConfig htif;
    PciHostConfig pci_host;
    PlicConfig plic;
    SifiveTestConfig test;
    UartConfig uart;
} DeviceConfig;

/* How each class of device is connected to a machine. */
static void configure_clint(const BoardEnv *env, DeviceConfig *c)
{
    c->clint = (ClintConfig){
        .harts = env->hart_count,
        .opaque = env->opaque,
        .get_time = env->get_time,
        .set_time = env->set_time,
        .set_timecmp = env->set_timecmp,
    };
}

static void configure_htif(const BoardEnv *env, DeviceConfig *c)
{
    u64 page = env->has_htif_words ? ALIGN_DOWN(env->tohost, HTIF_PAGE_SIZE) : DEFAULT_HTIF_PAGE;
    c->htif = (HtifConfig){
        .tohost = env->has_htif_words ? (u32)(env->tohost - page) : 8,
        .fromhost = env->has_htif_words ? (u32)(env->fromhost - page) : 0,
        .bus = env->bus,
        .chr = env->console,
        .finish = env->finish,
        .opaque = env->opaque,
    };
}

/* QEMU's places: behind the memory of 64-bit machines, and where 32-bit page tables reach. */
static void configure_pci_host(const BoardEnv *env, DeviceConfig *c)
{
    static const PciHostConfig rv32 = {(u64)12 << 30, (u64)4 << 30};
    const GPtrArray *regions = bus_regions(env->bus);
    u64 size = (u64)16 << 30, end = 0;
    for (unsigned i = 0; i < regions->len; i++) {
        const Region *r = g_ptr_array_index(regions, i);
        end = r->kind == REGION_RAM ? r->base + r->size : end;
    }
    c->pci_host = env->model->rv32 ? rv32 : (PciHostConfig){MAX(ALIGN_UP(end, size), size), size};
}

static void configure_plic(const BoardEnv *env, DeviceConfig *c)
{
    c->plic = (PlicConfig){.sources = PLIC_SOURCES, .harts = env->hart_count};
}

static void configure_test(const BoardEnv *env, DeviceConfig *c)
{
    c->test = (SifiveTestConfig){.finish = env->finish, .opaque = env->opaque};
}

static void configure_uart(const BoardEnv *env, DeviceConfig *c)
{
    c->uart = (UartConfig){.chr = env->console};
}

static const struct {
    const DeviceClass *class;
    void (*configure)(const BoardEnv *env, DeviceConfig *config); /* NULL: takes none */
} makers[] = {
    {&clint_class, configure_clint},       {&htif_class, configure_htif},
    {&pci_host_class, configure_pci_host}, {&plic_class, configure_plic},
    {&sifive_test_class, configure_test},  {&uart16550_class, configure_uart},
    {&goldfish_rtc_class, NULL},           {&virtio_mmio_class, NULL},
};

static bool is_compatible(const DeviceClass *class, const char *compatible)
{
    return g_strv_contains(class->compatible, compatible);
}

static bool is_free_slot(const BoardDevice *row)
{
    return is_compatible(&virtio_mmio_class, row->compatible) && !row->holds;
}

unsigned board_mmio_slots(const Board *board)
{
    unsigned n = 0;
    for (unsigned i = 0; i < board->device_count; i++) {
        n += is_free_slot(&board->devices[i]);
    }
    return n;
}

/* A slot's configuration is the device in it. */
static VirtioDevice *virtio_in_slot(const BoardDevices *b, BoardSlot *slot)
{
    unsigned n = 0;
    if (slot->row->holds) {
        VirtioEnv env = {.bus = b->env.bus};
        slot->held = virtio_new(slot->row->holds, NULL, NULL, 0, &env, NULL);
        return slot->held;
    }
    for (const BoardSlot *s = b->slots; s < slot; s++) {
        n += is_free_slot(s->row);
    }
    return b->env.virtio_slot ? b->env.virtio_slot(b->env.opaque, n) : NULL;
}

static void drive_hart(void *opaque, unsigned bit, bool level)
{
    cpu_set_irq(opaque, bit, level);
}

static void drive_msi(void *opaque, unsigned n, bool level)
{
    const BoardDevices *b = opaque;
    cpu_set_irq(b->env.harts[n], IRQ_MSI, level);
    if (level && b->env.ipi_sent) {
        b->env.ipi_sent(b->env.opaque);
    }
}

/* Where output n of a device leads. */
static IrqLine output_line(BoardDevices *b, const BoardSlot *slot, unsigned n)
{
    const DeviceClass *class = slot->device->class;
    if (class == &plic_class) {
        return (IrqLine){drive_hart, b->env.harts[n / 2], n % 2 ? IRQ_SEI : IRQ_MEI};
    }
    if (class == &clint_class) {
        return (IrqLine){drive_msi, b, n};
    }
    return b->plic && slot->row->irq ? plic_source(b->plic, slot->row->irq + n) : (IrqLine){0};
}

bool board_htif_page(const Board *board, const BoardEnv *env, u64 *page, GError **err)
{
    bool has_htif = false;
    for (unsigned i = 0; i < board->device_count; i++) {
        has_htif |= is_compatible(&htif_class, board->devices[i].compatible);
    }
    if (!has_htif) {
        return false;
    }
    *page = env->has_htif_words ? ALIGN_DOWN(env->tohost, HTIF_PAGE_SIZE) : DEFAULT_HTIF_PAGE;
    if (env->has_htif_words && (ALIGN_DOWN(env->fromhost, HTIF_PAGE_SIZE) != *page ||
                                env->tohost % 8 || env->fromhost % 8)) {
        return stag_error(
            err, "the kernel's tohost and fromhost must be 8-byte aligned words of one 4 KiB page");
    }
    return true;
}

static bool make_device(BoardDevices *b, BoardSlot *slot, GError **err)
{
    const BoardDevice *row = slot->row;
    for (unsigned i = 0; i < ARRAY_LEN(makers); i++) {
        const DeviceClass *class = makers[i].class;
        if (!is_compatible(class, row->compatible)) {
            continue;
        }
        DeviceConfig space;
        const void *config = NULL;
        if (makers[i].configure) {
            makers[i].configure(&b->env, &space);
            config = &space;
        } else if (class == &virtio_mmio_class) {
            config = virtio_in_slot(b, slot);
        }
        g_autofree char *name = g_strdup_printf("%s@%" PRIx64, class->fdt_name, slot->base);
        slot->device = device_new(class, name, config, err);
        if (!slot->device || !device_attach(slot->device, b->env.bus, slot->base, err)) {
            return false;
        }
        for (unsigned n = 0; n < slot->device->output_count; n++) {
            IrqLine line = output_line(b, slot, n);
            if (line.set) {
                device_connect(slot->device, n, line);
            }
        }
        if (class == &plic_class) {
            b->plic = slot->device;
        }
        return true;
    }
    return stag_error(err, "there is no model of the device '%s'", row->compatible);
}

BoardDevices *board_devices_new(const Board *board, const BoardEnv *env, GError **err)
{
    BoardDevices *b = g_new0(BoardDevices, 1);
    b->board = board;
    b->env = *env;
    b->slots = g_new0(BoardSlot, board->device_count);
    for (unsigned i = 0; i < board->device_count; i++) {
        BoardSlot *slot = &b->slots[i];
        slot->row = &board->devices[i];
        slot->base = slot->row->base;
        GError *problem = NULL;
        if (!slot->base) {
            board_htif_page(board, env, &slot->base, &problem);
        }
        if (problem || !make_device(b, slot, &problem)) {
            g_propagate_error(err, problem);
            board_devices_free(b);
            return NULL;
        }
    }
    return b;
}

void board_devices_free(BoardDevices *b)
{
    if (b) {
        for (unsigned i = b->board->device_count; i-- > 0;) {
            if (b->slots[i].device) {
                device_free(b->slots[i].device);
            }
            virtio_free(b->slots[i].held);
        }
        g_free(b->slots);
        g_free(b);
    }
}

void board_devices_reset(BoardDevices *b)
{
    for (unsigned i = 0; i < b->board->device_count; i++) {
        device_reset(b->slots[i].device);
    }
}

Device *board_devices_get(const BoardDevices *b, unsigned n, u32 *irq)
{
    if (n >= b->board->device_count) {
        return NULL;
    }
    *irq = b->slots[n].row->irq;
    return b->slots[n].device;
}

Device *board_devices_htif(const BoardDevices *b, u64 *page)
{
    for (unsigned i = 0; i < b->board->device_count; i++) {
        if (b->slots[i].device->class == &htif_class) {
            *page = b->slots[i].base;
            return b->slots[i].device;
        }
    }
    return NULL;
}

PciBus *board_devices_pci(const BoardDevices *b)
{
    for (unsigned i = 0; i < b->board->device_count; i++) {
        if (b->slots[i].device->class == &pci_host_class) {
            return pci_host_bus(b->slots[i].device);
        }
    }
    return NULL;
}

bool board_devices_press_power(const BoardDevices *b)
{
    for (unsigned i = 0; i < b->board->device_count; i++) {
        if (b->slots[i].row->holds == &virtio_button_class) {
            return virtio_button_press(b->slots[i].held);
        }
    }
    return false;
}

/* ---- The device tree ------------------------------------------------------------------------ */

/* libfdt's functions return negative codes, and go on failing is harmless: after the first failure
 * the rest does nothing. */
typedef struct Tree {
    void *fdt;
    int error;
} Tree;

static int tree_node(Tree *t, int parent, const char *name)
{
    int node = t->error ? t->error : fdt_add_subnode(t->fdt, parent, name);
    t->error = node < 0 ? node : 0;
    return node;
}

static void tree_check(Tree *t, int result)
{
    if (!t->error && result < 0) {
        t->error = result;
    }
}

#define TREE(t, call)                                                                              \
    do {                                                                                           \
        if (!(t)->error) {                                                                         \
            tree_check(t, call);                                                                   \
        }                                                                                          \
    } while (0)

static void tree_string(Tree *t, int node, const char *name, const char *value)
{
    TREE(t, fdt_setprop_string(t->fdt, node, name, value));
}

static void tree_u32(Tree *t, int node, const char *name, u32 value)
{
    TREE(t, fdt_setprop_u32(t->fdt, node, name, value));
}

static void tree_cells(Tree *t, int node, u32 address_cells, u32 size_cells)
{
    tree_u32(t, node, "#address-cells", address_cells);
    tree_u32(t, node, "#size-cells", size_cells);
}

/* A list of phandle numbers for a tree: harts first. */
static u32 cpu_phandle(unsigned hart)
{
    return 1 + 2 * hart;
}

static u32 intc_phandle(unsigned hart)
{
    return 2 + 2 * hart;
}

static u32 device_phandle(const BoardDevices *b, unsigned slot)
{
    return 1 + 2 * b->env.hart_count + slot;
}

static void tree_cpus(Tree *t, const BoardDevices *b)
{
    const HartModel *model = b->env.model;
    g_autofree char *isa = riscv_isa_string(model);
    g_auto(GStrv) extensions = riscv_isa_extensions(model);

    int cpus = tree_node(t, 0, "cpus");
    tree_cells(t, cpus, 1, 0);
    tree_u32(t, cpus, "timebase-frequency", (u32)model->timebase_hz);
    int map = tree_node(t, cpus, "cpu-map");
    int cluster = tree_node(t, map, "cluster0");
    for (unsigned i = b->env.hart_count; i-- > 0;) {
        g_autofree char *name = g_strdup_printf("core%u", i);
        int core = tree_node(t, cluster, name);
        tree_u32(t, core, "cpu", cpu_phandle(i));
    }
    for (unsigned i = b->env.hart_count; i-- > 0;) {
        g_autofree char *name = g_strdup_printf("cpu@%x", i);
        int cpu = tree_node(t, cpus, name);
        tree_u32(t, cpu, "phandle", cpu_phandle(i));
        tree_string(t, cpu, "device_type", "cpu");
        tree_u32(t, cpu, "reg", i);
        tree_string(t, cpu, "status", "okay");
        tree_string(t, cpu, "compatible", "riscv");
        tree_string(t, cpu, "riscv,isa", isa);
        tree_string(t, cpu, "riscv,isa-base", model->rv32 ? "rv32i" : "rv64i");
        for (char **e = extensions; *e; e++) {
            TREE(t, fdt_appendprop_string(t->fdt, cpu, "riscv,isa-extensions", *e));
        }
        bool paged = model->ext & RISCV_EXT_BIT(S);
        tree_string(t, cpu, "mmu-type",
                    !paged        ? "riscv,none"
                    : model->rv32 ? "riscv,sv32"
                                  : "riscv,sv39");
        if (model->ext & RISCV_EXT_BIT(Zicbom)) {
            tree_u32(t, cpu, "riscv,cbom-block-size", CACHE_BLOCK_BYTES);
        }
        if (model->ext & RISCV_EXT_BIT(Zicboz)) {
            tree_u32(t, cpu, "riscv,cboz-block-size", CACHE_BLOCK_BYTES);
        }
        if (model->ext & RISCV_EXT_BIT(Zicbop)) {
            tree_u32(t, cpu, "riscv,cbop-block-size", CACHE_BLOCK_BYTES);
        }
        int intc = tree_node(t, cpu, "interrupt-controller");
        tree_u32(t, intc, "#interrupt-cells", 1);
        TREE(t, fdt_setprop_empty(t->fdt, intc, "interrupt-controller"));
        tree_string(t, intc, "compatible", "riscv,cpu-intc");
        tree_u32(t, intc, "phandle", intc_phandle(i));
    }
}

static void tree_devices(Tree *t, const BoardDevices *b)
{
    int soc = tree_node(t, 0, "soc");
    tree_cells(t, soc, 2, 2);
    tree_string(t, soc, "compatible", "simple-bus");
    TREE(t, fdt_setprop_empty(t->fdt, soc, "ranges"));

    g_autofree u32 *intcs = g_new(u32, b->env.hart_count);
    for (unsigned i = 0; i < b->env.hart_count; i++) {
        intcs[i] = intc_phandle(i);
    }
    u32 plic = 0;
    for (unsigned i = 0; i < b->board->device_count; i++) {
        if (b->slots[i].device == b->plic) {
            plic = device_phandle(b, i);
        }
    }
    for (unsigned i = 0; i < b->board->device_count; i++) {
        const BoardSlot *slot = &b->slots[i];
        DeviceFdt env = {
            .phandle = device_phandle(b, i),
            .irq_parent = slot->row->irq ? plic : 0,
            .irq = slot->row->irq,
            .hart_phandles = intcs,
            .hart_count = b->env.hart_count,
        };
        /* Adding nodes moves others: the offset of /soc is looked up anew. */
        TREE(t, device_fdt(slot->device, t->fdt, fdt_path_offset(t->fdt, "/soc"), &env));
    }
}

static void tree_set_boot(Tree *t, int chosen, const BoardTree *tree)
{
    if (tree->append) {
        tree_string(t, chosen, "bootargs", tree->append);
    }
    if (tree->initrd_end) {
        TREE(t, fdt_setprop_u64(t->fdt, chosen, "linux,initrd-start", tree->initrd_start));
        TREE(t, fdt_setprop_u64(t->fdt, chosen, "linux,initrd-end", tree->initrd_end));
    }
}

static void tree_chosen(Tree *t, const BoardDevices *b, const BoardTree *tree)
{
    int chosen = tree_node(t, 0, "chosen");
    for (unsigned i = 0; i < b->board->device_count; i++) {
        const BoardSlot *slot = &b->slots[i];
        if (strcmp(slot->row->compatible, b->board->console) == 0) {
            g_autofree char *path = g_strdup_printf("/soc/%s", slot->device->name);
            tree_string(t, chosen, "stdout-path", path);
        }
    }
    u8 seed[32];
    if (getrandom(seed, sizeof(seed), 0) == (ssize_t)sizeof(seed)) {
        TREE(t, fdt_setprop(t->fdt, chosen, "rng-seed", seed, sizeof(seed)));
    }
    tree_set_boot(t, chosen, tree);
}

static int render(const BoardDevices *b, const BoardTree *tree, void *fdt, u64 room)
{
    Tree t = {fdt, fdt_create_empty_tree(fdt, (int)room)};
    tree_cells(&t, 0, 2, 2);
    tree_string(&t, 0, "compatible", b->board->compatible);
    tree_string(&t, 0, "model", b->board->model);
    tree_devices(&t, b);
    tree_cpus(&t, b);
    g_autofree char *name = g_strdup_printf("memory@%" PRIx64, b->board->ram_base);
    int memory = tree_node(&t, 0, name);
    tree_string(&t, memory, "device_type", "memory");
    TREE(&t, fdt_appendprop_u64(t.fdt, memory, "reg", b->board->ram_base));
    TREE(&t, fdt_appendprop_u64(t.fdt, memory, "reg", tree->ram_size));
    tree_chosen(&t, b, tree);
    TREE(&t, fdt_pack(t.fdt));
    return t.error;
}

static int patch(const void *old, const BoardTree *tree, void *fdt, u64 room)
{
    Tree t = {fdt, fdt_open_into(old, fdt, (int)room)};
    int chosen = t.error ? t.error : fdt_path_offset(fdt, "/chosen");
    if (chosen == -FDT_ERR_NOTFOUND) {
        chosen = tree_node(&t, 0, "chosen");
    }
    tree_check(&t, chosen);
    tree_set_boot(&t, chosen, tree);
    TREE(&t, fdt_pack(t.fdt));
    return t.error;
}

enum { TREE_ROOM = 16 << 10, TREE_ROOM_MAX = 2 << 20 };

/* Makes a tree in a buffer that grows until it fits. */
static void *make_tree(const BoardDevices *b, const void *old, const BoardTree *tree, u64 *size,
                       GError **err)
{
    int error = -FDT_ERR_NOSPACE;
    for (u64 room = TREE_ROOM; error == -FDT_ERR_NOSPACE && room <= 2 * TREE_ROOM_MAX; room *= 2) {
        void *fdt = g_malloc0(room);
        error = old ? patch(old, tree, fdt, room) : render(b, tree, fdt, room);
        if (!error && fdt_totalsize(fdt) <= TREE_ROOM_MAX) {
            *size = fdt_totalsize(fdt);
            return fdt;
        }
        g_free(fdt);
    }
    if (error == 0 || error == -FDT_ERR_NOSPACE) {
        stag_error(err, "the device tree with -append's words would be larger than 2 MiB");
    } else {
        stag_error(err, "the device tree can't be made: %s", fdt_strerror(error));
    }
    return NULL;
}

void *board_render_tree(const BoardDevices *b, const BoardTree *tree, u64 *size, GError **err)
{
    return make_tree(b, NULL, tree, size, err);
}

void *board_patch_tree(void *blob, const BoardTree *tree, u64 *size, GError **err)
{
    void *patched = make_tree(NULL, blob, tree, size, err);
    g_free(blob);
    return patched;
}
