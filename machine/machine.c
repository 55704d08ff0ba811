/*
 * Assembles a machine, loads it, and sees it through resets to its end. See machine.h; the harts'
 * run loop is in run.c.
 */
#include "machine/machine.h"

#include <errno.h>
#include <glib-unix.h>
#include <inttypes.h>
#include <libfdt.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "backend-x86_64/backend.h"
#include "core/base/error.h"
#include "devices/htif.h"
#include "machine/internal.h"

#define MIB ((u64)1 << 20)

/* Bare addressing reaches physical addresses below 2^39, RV32 all of 32 bits. */
#define RAM_END_RV64 ((u64)1 << 39)
#define RAM_END_RV32 ((u64)1 << 32)

void machine_options_init(MachineOptions *o)
{
    *o = (MachineOptions){
        .board = g_strdup("virt"),
        .ram_size = DEFAULT_RAM_MIB * MIB,
        .harts = 1,
        .loaders = g_ptr_array_new_with_free_func((GDestroyNotify)loader_device_free),
        .serial = g_strdup("mon:stdio"),
        .chardevs = g_ptr_array_new_with_free_func(g_free),
        .drives = g_ptr_array_new_with_free_func(g_free),
        .netdevs = g_ptr_array_new_with_free_func(g_free),
        .nics = g_ptr_array_new_with_free_func(g_free),
        .devices = g_ptr_array_new_with_free_func(g_free),
        .monitors = g_ptr_array_new_with_free_func(g_free),
        .code_cache = DEFAULT_CODE_CACHE_MIB * MIB,
    };
}

void machine_options_clear(MachineOptions *o)
{
    g_free(o->board);
    g_free(o->cpu);
    g_free(o->bios);
    g_free(o->kernel);
    g_free(o->initrd);
    g_free(o->append);
    g_free(o->dtb);
    g_free(o->dump_dtb);
    g_free(o->serial);
    g_free(o->signature);
    g_ptr_array_unref(o->loaders);
    g_ptr_array_unref(o->chardevs);
    g_ptr_array_unref(o->drives);
    g_ptr_array_unref(o->netdevs);
    g_ptr_array_unref(o->nics);
    g_ptr_array_unref(o->devices);
    g_ptr_array_unref(o->monitors);
}

void machine_print_boards(FILE *out)
{
    for (unsigned i = 0; i < board_count; i++) {
        fprintf(out, "%-8s%s\n", boards[i].name, boards[i].help);
    }
}

/* ---- Callbacks of the parts ----------------------------------------------------------------- */

static u64 read_time(void *opaque)
{
    return machine_time(opaque);
}

static void set_time(void *opaque, u64 ticks)
{
    machine_set_time(opaque, ticks);
}

static void set_timecmp(void *opaque, unsigned hart, u64 ticks)
{
    hart_set_timecmp(&((Machine *)opaque)->harts[hart], ticks);
}

static void ipi_sent(void *opaque)
{
    hart_sent_ipi(opaque);
}

static void arm_stimer(void *opaque, CpuState *cpu, u64 deadline)
{
    hart_arm_timer(&((Machine *)opaque)->harts[cpu->index], TIMER_S, deadline);
}

static void fence_i(void *opaque, CpuState *cpu)
{
    exec_fence_i(((Machine *)opaque)->exec, cpu);
}

static void trap_return(void *opaque, CpuState *cpu)
{
    exec_trap_return(((Machine *)opaque)->exec, cpu);
}

static void finish(void *opaque, FinishKind kind, int code)
{
    Machine *m = opaque;
    if (kind == FINISH_RESET && !m->options->no_reboot) {
        machine_request(m, REQUEST_RESET, 0);
    } else {
        /* An exit status has 8 bits; a failure never looks like success. */
        int status = kind == FINISH_FAIL ? code & 0xff : 0;
        machine_request(m, REQUEST_QUIT, kind == FINISH_FAIL && status == 0 ? 1 : status);
    }
}

static VirtioDevice *virtio_slot(void *opaque, unsigned n)
{
    const Machine *m = opaque;
    return m->peripherals ? peripherals_slot(m->peripherals, n) : NULL;
}

static void quit_key(void *opaque)
{
    machine_request(opaque, REQUEST_QUIT, 0);
}

/* ---- Assembly ------------------------------------------------------------------------------- */

/* How large a file may be: an ELF may hold more than is loaded. */
static u64 file_limit(const Machine *m)
{
    return m->options->ram_size + (MIB << 10);
}

static bool is_word(const char *text, const char *word)
{
    return text && strcmp(text, word) == 0;
}

/* Opens kernel and firmware and decides whether there is a firmware. */
static bool open_images(Machine *m, GError **err)
{
    const MachineOptions *o = m->options;
    if (o->kernel && !m->kernel) {
        m->kernel = image_open(o->kernel, "kernel", file_limit(m), false, err);
        if (!m->kernel) {
            return false;
        }
    }
    m->no_firmware = is_word(o->bios, "none");
    if (!o->bios && m->kernel && m->kernel->kind == IMAGE_ELF) {
        u64 first, end;
        loader_extent(m->kernel, 0, &first, &end);
        m->no_firmware = first <= m->board->ram_base && m->board->ram_base < end;
    }
    if (o->bios && !m->no_firmware && !is_word(o->bios, "default") && !m->firmware) {
        m->firmware = image_open(o->bios, "firmware", file_limit(m), false, err);
        return m->firmware != NULL;
    }
    return true;
}

/* The hart model: -cpu's, else what the class of the program's ELF asks for. */
static bool make_model(Machine *m, GError **err)
{
    const Image *elf = m->firmware && m->firmware->kind == IMAGE_ELF ? m->firmware : NULL;
    if (m->kernel && m->kernel->kind == IMAGE_ELF) {
        elf = m->kernel;
    }
    const char *cpu = m->options->cpu ? m->options->cpu : elf && !elf->is64 ? "rv32" : "rv64";
    m->model = riscv_model_new(cpu, err);
    if (!m->model) {
        return false;
    }
    const Image *both[] = {m->kernel, m->firmware};
    for (unsigned i = 0; i < ARRAY_LEN(both); i++) {
        if (both[i] && both[i]->kind == IMAGE_ELF && both[i]->is64 == m->model->rv32) {
            return stag_error(
                err, "%s is a %u-bit program, but the machine's harts are %u-bit (see -cpu)",
                both[i]->name, both[i]->is64 ? 64 : 32, m->model->rv32 ? 32 : 64);
        }
    }
    return true;
}

static BoardEnv board_env(Machine *m)
{
    const ImageSymbol *to = &m->symbols[IMAGE_TOHOST], *from = &m->symbols[IMAGE_FROMHOST];
    return (BoardEnv){
        .bus = m->bus,
        .model = m->model,
        .harts = m->cpus,
        .hart_count = m->hart_count,
        .console = m->peripherals ? peripherals_serial(m->peripherals) : NULL,
        .virtio_slot = virtio_slot,
        .has_htif_words = to->present,
        .tohost = to->value,
        .fromhost = from->present ? from->value : to->value ^ 8,
        .finish = finish,
        .get_time = read_time,
        .set_time = set_time,
        .set_timecmp = set_timecmp,
        .ipi_sent = ipi_sent,
        .opaque = m,
    };
}

/* Boot ROM and RAM, with a hole where HTIF's page stands in for RAM. */
static bool make_memory(Machine *m, GError **err)
{
    const Board *board = m->board;
    u64 base = board->ram_base, size = m->options->ram_size;
    u64 end = m->model->rv32 ? RAM_END_RV32 : RAM_END_RV64;
    if (size < 4096 || size % 4096 || size > end - base) {
        return stag_error(
            err, "-m: the machine takes 4 KiB to %" PRIu64 " MiB of memory, in multiples of 4 KiB",
            (end - base) >> 20);
    }
    if (!bus_add_memory(m->bus, "boot ROM", REGION_ROM, board->rom_base, board->rom_size, err)) {
        return false;
    }
    BoardEnv env = board_env(m);
    GError *problem = NULL;
    u64 page;
    if (board_htif_page(board, &env, &page, &problem) && page >= base && page - base < size) {
        u64 below = page - base, above = size - below - HTIF_PAGE_SIZE;
        return (!below || bus_add_memory(m->bus, "RAM", REGION_RAM, base, below, err)) &&
               (!above ||
                bus_add_memory(m->bus, "RAM", REGION_RAM, page + HTIF_PAGE_SIZE, above, err));
    }
    if (problem) {
        g_propagate_error(err, problem);
        return false;
    }
    return bus_add_memory(m->bus, "RAM", REGION_RAM, base, size, err) != NULL;
}

static bool make_harts(Machine *m, GError **err)
{
    m->hart_count = m->options->harts;
    m->harts = g_new0(MachineHart, m->hart_count);
    m->cpus = g_new0(CpuState *, m->hart_count);
    m->callbacks = (HartCallbacks){read_time, arm_stimer, fence_i, trap_return,
                                   m->hart_count > 1 ? hart_relax : NULL};
    for (unsigned i = 0; i < m->hart_count; i++) {
        hart_init(&m->harts[i], m, i);
        m->cpus[i] = m->harts[i].cpu;
    }
    for (unsigned i = 0; i < m->hart_count; i++) {
        if (!mmu_new(m->cpus[i], m->bus, err)) {
            return false;
        }
    }
    return true;
}

/* T1 where the host can, unless T0 was asked for. */
static bool make_translator(Machine *m, GError **err)
{
    g_autoptr(GError) problem = NULL;
    TranslatorConfig config = {
        .accel = m->options->interp ? ACCEL_INTERP : ACCEL_JIT,
        .cache_size = m->options->code_cache,
        .max_insns = m->options->single_step ? 1 : 0,
        .harts = m->hart_count,
        .perf_map = m->options->perf_map,
    };
    if (config.accel == ACCEL_JIT && !backend_host_ok(&problem)) {
        fprintf(stderr, "stag: %s; interpreting instead, which is slow\n", problem->message);
        config.accel = ACCEL_INTERP;
    }
    m->translator = translator_new(&config, m->model, m->bus, err);
    if (!m->translator) {
        return false;
    }
    m->exec = translator_exec(m->translator);
    for (unsigned i = 0; i < m->hart_count; i++) {
        exec_add_hart(m->exec, m->cpus[i]);
    }
    return true;
}

static gboolean on_signal(gpointer opaque)
{
    struct {
        Machine *machine;
        int signal;
    } *s = opaque;
    machine_signal(s->machine, s->signal);
    return G_SOURCE_CONTINUE;
}

static void watch_signals(Machine *m)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++) {
        struct {
            Machine *machine;
            int signal;
        } *s = g_malloc(sizeof(*s));
        s->machine = m;
        s->signal = signals[i];
        GSource *source = g_unix_signal_source_new(signals[i]);
        g_source_set_callback(source, on_signal, s, g_free);
        m->signal_sources[i] = g_source_attach(source, NULL);
        g_source_unref(source);
    }
}

static bool assemble(Machine *m, GError **err)
{
    const MachineOptions *o = m->options;
    static gsize once;
    if (g_once_init_enter(&once)) {
        mmu_layout_init(false);
        run_init();
        g_once_init_leave(&once, 1);
    }

    m->board = board_find(o->board, err);
    if (!m->board || !open_images(m, err) || !make_model(m, err)) {
        return false;
    }
    if (!o->kernel && !o->dump_dtb && o->loaders->len == 0 && (!o->bios || m->no_firmware)) {
        return stag_error(
            err, "there is nothing to run: give a program with -kernel FILE or a firmware with "
                 "-bios FILE (--help lists all options)");
    }
    if (o->initrd && !o->kernel) {
        return stag_error(err, "-initrd without -kernel: there is nobody to hand it to");
    }
    const Image *named = m->kernel && m->kernel->kind == IMAGE_ELF ? m->kernel : m->firmware;
    if (named) {
        memcpy(m->symbols, named->symbols, sizeof(m->symbols));
    }
    if (o->signature &&
        !(m->symbols[IMAGE_BEGIN_SIGNATURE].present && m->symbols[IMAGE_END_SIGNATURE].present)) {
        return stag_error(
            err,
            "-signature needs a kernel ELF with the symbols begin_signature and end_signature");
    }

    m->tick_ns = 1000000000 / m->model->timebase_hz;
    m->start_ns = 0;
    m->start_ns = machine_time(m) * m->tick_ns;
    m->bus = bus_new();
    if (!make_memory(m, err) || !make_harts(m, err)) {
        return false;
    }
    /* The console's handlers of fatal signals come before the backend's, which chains to them. */
    if (!o->dump_dtb) {
        CharEscapes escapes = {.quit = quit_key, .opaque = m};
        m->peripherals = peripherals_new(o, m->board, m->bus, &escapes, err);
        if (!m->peripherals) {
            return false;
        }
    }
    BoardEnv env = board_env(m);
    m->devices = board_devices_new(m->board, &env, err);
    return m->devices &&
           (!m->peripherals || peripherals_plug(m->peripherals, m->devices, err)) &&
           make_translator(m, err);
}

Machine *machine_new(const MachineOptions *options, GError **err)
{
    Machine *m = g_new0(Machine, 1);
    m->options = options;
    g_mutex_init(&m->request_lock);
    g_cond_init(&m->threads_changed);
    if (!assemble(m, err)) {
        machine_free(m);
        return NULL;
    }
    watch_signals(m);
    return m;
}

void machine_free(Machine *m)
{
    if (!m) {
        return;
    }
    if (m->peripherals) {
        peripherals_unplug(m->peripherals);
    }
    board_devices_free(m->devices);
    peripherals_free(m->peripherals);
    /* Only now may a signal end the process: disks are closed, and the terminal is as it was. */
    for (unsigned i = 0; i < ARRAY_LEN(m->signal_sources); i++) {
        if (m->signal_sources[i]) {
            g_source_remove(m->signal_sources[i]);
        }
    }
    if (m->translator) {
        translator_free(m->translator);
    }
    for (unsigned i = 0; i < m->hart_count; i++) {
        if (m->cpus[i]->mmu) {
            mmu_free(m->cpus[i]->mmu);
        }
        hart_clear(&m->harts[i]);
    }
    if (m->bus) {
        bus_free(m->bus);
    }
    image_free(m->kernel);
    image_free(m->firmware);
    g_free(m->harts);
    g_free(m->cpus);
    g_free(m->model);
    g_clear_error(&m->error);
    g_mutex_clear(&m->request_lock);
    g_cond_clear(&m->threads_changed);
    g_free(m);
}

/* ---- Loading -------------------------------------------------------------------------------- */

enum { TREE_ALIGN = 2 << 20 };

/* OpenSBI's fw_dynamic reads where to go next from this, at a2: include/sbi/fw_dynamic.h of
 * OpenSBI. Five words of XLEN. */
enum { FW_DYNAMIC_MAGIC = 0x4942534f, FW_DYNAMIC_VERSION = 2, FW_DYNAMIC_NEXT_S = 1 };

typedef struct Boot {
    u64 start;  /* where the reset vector jumps */
    u64 kernel; /* where firmware goes next; 0: no kernel */
    u64 tree;
} Boot;

/* The reset vector, as QEMU's: a0 = mhartid, a1 = device tree, a2 = fw_dynamic_info, and jump. */
static bool place_reset_vector(Machine *m, Loader *l, const Boot *boot, GError **err)
{
    bool rv32 = m->model->rv32;
    u32 code[] = {
        0x00000297,                     /* auipc t0, 0 */
        0x02828613,                     /* addi  a2, t0, 40 */
        0xf1402573,                     /* csrr  a0, mhartid */
        rv32 ? 0x0202a583 : 0x0202b583, /* lw/ld a1, 32(t0) */
        rv32 ? 0x0182a283 : 0x0182b283, /* lw/ld t0, 24(t0) */
        0x00028067,                     /* jr    t0 */
        (u32)boot->start,
        (u32)(boot->start >> 32),
        (u32)boot->tree,
        (u32)(boot->tree >> 32),
    };
    u64 info[] = {FW_DYNAMIC_MAGIC, FW_DYNAMIC_VERSION, boot->kernel, FW_DYNAMIC_NEXT_S, 0, 0};
    u8 bytes[sizeof(code) + sizeof(info)];
    u64 size = sizeof(code);
    memcpy(bytes, code, sizeof(code));
    for (unsigned i = 0; i < ARRAY_LEN(info); i++) {
        memcpy(bytes + size, &info[i], rv32 ? 4 : 8);
        size += rv32 ? 4 : 8;
    }
    return loader_place_bytes(l, "the reset vector", m->board->rom_base, bytes, size, err);
}

static bool place_firmware(Machine *m, Loader *l, Boot *boot, u64 *end, GError **err)
{
    u64 base = m->board->ram_base, first;
    boot->start = *end = base;
    if (m->no_firmware) {
        return true;
    }
    g_autoptr(Image) image = g_steal_pointer(&m->firmware);
    if (!image) {
        const char *name = m->options->bios;
        g_autofree char *found = NULL;
        if (!name || strcmp(name, "default") == 0) {
            /* For a look at the device tree it need not be there. */
            name = found = loader_find_firmware(m->model->rv32, m->options->dump_dtb ? NULL : err);
            if (!name) {
                return m->options->dump_dtb != NULL;
            }
        }
        image = image_open(name, "firmware", file_limit(m), false, err);
        if (!image) {
            return false;
        }
    }
    boot->start = image->kind == IMAGE_ELF ? image->entry : base;
    loader_extent(image, base, &first, end);
    return loader_place_image(l, image, "firmware", base, err);
}

static bool place_kernel(Machine *m, Loader *l, Boot *boot, u64 after, u64 *end, GError **err)
{
    *end = after;
    if (!m->options->kernel) {
        return true;
    }
    g_autoptr(Image) image = g_steal_pointer(&m->kernel);
    if (!image) {
        image = image_open(m->options->kernel, "kernel", file_limit(m), false, err);
        if (!image) {
            return false;
        }
    }
    /* Behind the firmware, on a boundary that the kernel's large pages like; a Linux image may want
     * to be further up. */
    u64 base = m->board->ram_base, first;
    u64 align = m->model->rv32 ? 4 * MIB : 2 * MIB;
    u64 address = ALIGN_UP(after, align);
    if (image->kind == IMAGE_LINUX && image->text_offset % align == 0 &&
        image->text_offset < m->options->ram_size) {
        address = MAX(address, base + image->text_offset);
    }
    boot->kernel = image->kind == IMAGE_ELF ? image->entry : address;
    if (m->no_firmware) {
        boot->start = boot->kernel;
    }
    loader_extent(image, address, &first, end);
    return loader_place_image(l, image, "kernel", address, err);
}

static bool place_initrd(Machine *m, Loader *l, u64 kernel, u64 kernel_end, BoardTree *tree,
                         GError **err)
{
    const MachineOptions *o = m->options;
    if (!o->initrd) {
        return true;
    }
    g_autoptr(GBytes) data = image_read_file(o->initrd, "initrd", o->ram_size, err);
    if (!data) {
        return false;
    }
    gsize size;
    const void *bytes = g_bytes_get_data(data, &size);
    if (size == 0) {
        return stag_error(err, "initrd %s is empty", o->initrd);
    }
    /* Well away from the kernel, which may unpack itself upwards; in small machines right behind
     * it. */
    u64 address = ALIGN_UP(MAX(kernel_end, kernel + MIN(o->ram_size / 2, 128 * MIB)), 4096);
    if (!loader_is_free(l, address, size + 2 * TREE_ALIGN)) {
        address = ALIGN_UP(kernel_end, 2 * MIB);
    }
    if (!loader_is_free(l, address, size)) {
        address = ALIGN_UP(kernel_end, 4096);
    }
    tree->initrd_start = address;
    tree->initrd_end = address + size;
    g_autofree char *name = g_strdup_printf("initrd %s", o->initrd);
    return loader_place_bytes(l, name, address, bytes, size, err);
}

/* The blob that the guest gets: its own, or the user's with -append's and -initrd's entries. */
static void *make_tree(Machine *m, const BoardTree *tree, u64 *size, GError **err)
{
    if (!m->options->dtb) {
        return board_render_tree(m->devices, tree, size, err);
    }
    void *blob = loader_read_dtb(m->options->dtb, size, err);
    return blob && (tree->append || tree->initrd_end) ? board_patch_tree(blob, tree, size, err)
                                                      : blob;
}

/* Near the top of RAM, but below 3 GiB where 32-bit kernels reach it. */
static bool place_tree(Machine *m, Loader *l, const void *blob, u64 size, u64 *address,
                       GError **err)
{
    u64 base = m->board->ram_base, end = base + m->options->ram_size;
    u64 room = ALIGN_UP(size, 4096);
    end = MIN(end, (u64)3 << 30);
    if (room > end - base) {
        return stag_error(err, "the device tree does not fit into memory (see -m)");
    }
    *address = ALIGN_DOWN(end - room, TREE_ALIGN);
    if (!loader_is_free(l, *address, room)) {
        *address = ALIGN_DOWN(end - room, 4096);
    }
    return loader_place_bytes(l, "the device tree", *address, blob, size, err);
}

static bool write_htif(void *opaque, u64 offset, const void *bytes, u64 n)
{
    return htif_load_bytes(opaque, offset, bytes, n);
}

static bool dump_tree(Machine *m, const void *blob, u64 size, GError **err)
{
    GError *problem = NULL;
    if (!g_file_set_contents(m->options->dump_dtb, blob, (gssize)size, &problem)) {
        stag_error(err, "-machine dumpdtb: %s", problem->message);
        g_error_free(problem);
        return false;
    }
    return true;
}

/* Puts everything into memory that is there when the machine is switched on, and sets the harts'
 * first pc. */
static bool load(Machine *m, GError **err)
{
    const MachineOptions *o = m->options;
    g_autoptr(Loader) l = loader_new(m->bus, m->board->ram_base, o->ram_size);
    BoardTree tree = {.ram_size = o->ram_size, .append = o->append};
    Boot boot = {0};
    u64 firmware_end, kernel_end, page, size;
    Device *htif = board_devices_htif(m->devices, &page);
    if (htif) {
        loader_set_overlay(l, page, HTIF_PAGE_SIZE, write_htif, htif);
    }
    for (unsigned i = 0; i < m->hart_count; i++) {
        m->harts[i].reset_pc = m->board->rom_base;
    }

    if (!place_firmware(m, l, &boot, &firmware_end, err) ||
        !place_kernel(m, l, &boot, firmware_end, &kernel_end, err)) {
        return false;
    }
    for (unsigned i = 0; i < o->loaders->len; i++) {
        const LoaderDevice *d = o->loaders->pdata[i];
        u64 pc;
        if (d->has_cpu && d->cpu >= m->hart_count) {
            return stag_error(err, "-device loader: there is no hart %u", d->cpu);
        }
        if (!loader_device_load(l, d, &pc, err)) {
            return false;
        }
        if (d->has_cpu) {
            m->harts[d->cpu].reset_pc = pc;
        }
    }
    if (!place_initrd(m, l, boot.kernel, kernel_end, &tree, err)) {
        return false;
    }
    g_autofree void *blob = make_tree(m, &tree, &size, err);
    if (!blob || (o->dump_dtb && !dump_tree(m, blob, size, err))) {
        return false;
    }
    return o->dump_dtb ||
           (place_tree(m, l, blob, size, &boot.tree, err) && place_reset_vector(m, l, &boot, err));
}

/* ---- Running -------------------------------------------------------------------------------- */

/* Power on, or again: harts are stopped. */
static bool reset(Machine *m, GError **err)
{
    exec_flush(m->exec);
    machine_set_time(m, 0);
    m->stop_time = 0;
    m->asked = false;
    peripherals_reset(m->peripherals); /* lowers wires, so that the PLIC does not see them */
    board_devices_reset(m->devices);
    if (!load(m, err)) {
        return false;
    }
    for (unsigned i = 0; i < m->hart_count; i++) {
        riscv_hart_reset(m->harts[i].hart, m->harts[i].reset_pc);
        hart_arm_timer(&m->harts[i], TIMER_S, ~(u64)0);
    }
    return true;
}

/* Four bytes a line, as Spike's +signature with a granularity of 4. */
static bool write_signature(Machine *m, GError **err)
{
    u64 address = m->symbols[IMAGE_BEGIN_SIGNATURE].value,
        end = m->symbols[IMAGE_END_SIGNATURE].value;
    FILE *f = fopen(m->options->signature, "we");
    if (!f) {
        return stag_error(err, "-signature: %s can't be written: %s", m->options->signature,
                          g_strerror(errno));
    }
    bool ok = true;
    for (; ok && address < end; address += 4) {
        u32 word = 0;
        ok = bus_dma_read(m->bus, address, &word, MIN(end - address, 4));
        fprintf(f, "%08x\n", word);
    }
    ok = !ferror(f) && ok;
    return (fclose(f) == 0 && ok) ||
           stag_error(err, "-signature: the signature can't be read from memory or written to %s",
                      m->options->signature);
}

bool machine_run(Machine *m, int *status, GError **err)
{
    *status = 0;
    if (m->options->dump_dtb) {
        return load(m, err);
    }
    if (m->options->start_stopped) {
        machine_stop(m);
    }
    do {
        m->request = REQUEST_NONE;
        for (unsigned i = 0; i < m->hart_count; i++) {
            atomic_fetch_and(&m->cpus[i]->pending, ~(u32)(PENDING_STOP | PENDING_SENT));
        }
        if (!reset(m, err)) {
            return false;
        }
        machine_run_harts(m);
    } while (m->request == REQUEST_RESET);

    *status = m->status;
    if (m->error) {
        g_propagate_error(err, g_steal_pointer(&m->error));
        return false;
    }
    return !m->options->signature || write_signature(m, err);
}
