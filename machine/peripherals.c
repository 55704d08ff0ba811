/* From the texts of -chardev, -drive, -netdev, -nic and -device to objects. See peripherals.h. */
#include "machine/peripherals.h"

#include <string.h>

#include "core/base/error.h"
#include "devices/block/block.h"
#include "devices/net/net.h"
#include "devices/virtio/console.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"
#include "machine/loader.h"

enum { MAX_SLOTS = 32 };

/* A host end: known by its name, used by one device. */
typedef struct HostEnd {
    char *id;
    void *end; /* Block, Net or CharDev */
    bool taken;
    bool shared; /* CharDev with mux=on: several users */
} HostEnd;

typedef struct HostKind {
    const char *option; /* as in messages */
    GPtrArray *ends;    /* HostEnd */
    void (*close)(void *end);
} HostKind;

struct Peripherals {
    const MachineOptions *options;
    const Board *board;
    CharEscapes escapes;
    VirtioEnv env;
    HostKind chars, drives, nets;
    GPtrArray *own_lines; /* CharDev: lines of -serial and -monitor that are not of -chardev */
    GPtrArray *shared;    /* further CharDevs on these lines and on those of -chardev mux=on */
    CharDev *serial;
    GPtrArray *monitors; /* CharDev */

    GPtrArray *made; /* VirtioDevice, in the order of their making */
    VirtioDevice *slots[MAX_SLOTS];
    unsigned slot_count;
    GPtrArray *pci_devices;   /* VirtioDevice, in order */
    GPtrArray *pci_functions; /* Device: what they look like on the bus, once plugged in */
};

/* ---- Host ends -------------------------------------------------------------------------------- */

static HostEnd *find_end(const HostKind *kind, const char *id)
{
    for (unsigned i = 0; i < kind->ends->len; i++) {
        HostEnd *e = kind->ends->pdata[i];
        if (strcmp(e->id, id) == 0) {
            return e;
        }
    }
    return NULL;
}

/* False, and closed, if the name is taken. */
static HostEnd *add_end(HostKind *kind, const char *id, void *end, GError **err)
{
    if (find_end(kind, id)) {
        stag_error(err, "%s: there are two with the id '%s'", kind->option, id);
        kind->close(end);
        return NULL;
    }
    HostEnd *e = g_new0(HostEnd, 1);
    e->id = g_strdup(id);
    e->end = end;
    g_ptr_array_add(kind->ends, e);
    return e;
}

/* Hands a host end out, once. */
static void *take_end(const HostKind *kind, const char *id, GError **err)
{
    HostEnd *e = find_end(kind, id);
    if (!e) {
        stag_error(err, "there is no %s with id=%s", kind->option, id);
    } else if (e->taken) {
        stag_error(err, "the %s with id=%s is in use already", kind->option, id);
    } else {
        e->taken = true;
        return e->end;
    }
    return NULL;
}

static void close_ends(HostKind *kind)
{
    for (unsigned i = kind->ends->len; i-- > 0;) {
        HostEnd *e = kind->ends->pdata[i];
        kind->close(e->end);
        g_free(e->id);
        g_free(e);
    }
    g_ptr_array_unref(kind->ends);
}

static void close_char(void *end)
{
    char_free(end);
}

static void close_drive(void *end)
{
    block_close(end);
}

static void close_net(void *end)
{
    net_free(end);
}

static Block *find_block(void *opaque, const char *id, GError **err)
{
    return take_end(&((Peripherals *)opaque)->drives, id, err);
}

static Net *find_net(void *opaque, const char *id, GError **err)
{
    return take_end(&((Peripherals *)opaque)->nets, id, err);
}

/* As take_end, but a line with mux=on has an end for everybody who asks. */
static CharDev *find_char(void *opaque, const char *id, GError **err)
{
    Peripherals *p = opaque;
    HostEnd *e = find_end(&p->chars, id);
    if (!e || !e->taken || !e->shared) {
        return take_end(&p->chars, id, err);
    }
    CharDev *c = char_share(e->end);
    if (!c) {
        stag_error(err, "the -chardev with id=%s has too many users", id);
        return NULL;
    }
    g_ptr_array_add(p->shared, c);
    return c;
}

/* ---- Character devices, serial port, monitors ------------------------------------------------ */

static bool open_chardevs(Peripherals *p, GError **err)
{
    for (unsigned i = 0; i < p->options->chardevs->len; i++) {
        const char *text = p->options->chardevs->pdata[i];
        g_autofree char *id = props_find(text, "id");
        g_autofree char *mux = props_find(text, "mux");
        bool on = false;
        CharDev *c = char_new_chardev(text, &p->escapes, err);
        HostEnd *e = c ? add_end(&p->chars, id, c, err) : NULL;
        if (!e) {
            return false;
        }
        e->shared = mux && parse_switch(mux, &on) && on;
    }
    return true;
}

/* What -serial and -monitor take: a line of its own, or one of -chardev's. */
static CharDev *open_line(Peripherals *p, const char *spec, const char *label, GError **err)
{
    if (g_str_has_prefix(spec, "chardev:")) {
        return find_char(p, spec + strlen("chardev:"), err);
    }
    CharDev *c = char_new(spec, label, &p->escapes, err);
    if (c) {
        g_ptr_array_add(p->own_lines, c);
    }
    return c;
}

/* A line "mon:..." has a monitor behind its first user. */
static bool add_monitor_behind(Peripherals *p, const char *spec, CharDev *c, GError **err)
{
    if (g_str_has_prefix(spec, "mon:") && !p->options->no_monitor) {
        CharDev *end = char_share(c);
        if (!end) {
            return stag_error(err, "%s has too many users", spec);
        }
        g_ptr_array_add(p->shared, end);
        g_ptr_array_add(p->monitors, end);
    }
    return true;
}

static bool open_lines(Peripherals *p, GError **err)
{
    p->serial = open_line(p, p->options->serial, "serial0", err);
    if (!p->serial || !add_monitor_behind(p, p->options->serial, p->serial, err)) {
        return false;
    }
    for (unsigned i = 0; i < p->options->monitors->len; i++) {
        const char *spec = p->options->monitors->pdata[i];
        g_autofree char *label = g_strdup_printf("monitor%u", i);
        bool bare = g_str_has_prefix(spec, "mon:"); /* a monitor already */
        CharDev *c = open_line(p, bare ? spec + strlen("mon:") : spec, label, err);
        if (!c) {
            return false;
        }
        g_ptr_array_add(p->monitors, c);
    }
    if (p->options->monitor_first && p->monitors->len) {
        char_focus(p->monitors->pdata[0]);
    }
    return true;
}

/* ---- Drives and networks ---------------------------------------------------------------------- */

/* Ids are made from the drive's index among those of its interface: the given one, or the lowest
 * that is free. */
static bool name_drive(BlockDrive *d, bool *used, u64 count, GError **err)
{
    u64 index = 0;
    if (d->has_index) {
        index = d->index;
    } else {
        while (used[index]) { /* there are more places than drives */
            index++;
        }
    }
    if (index < count) {
        if (used[index]) {
            return stag_error(err, "-drive: there are two with index=%u", (unsigned)index);
        }
        used[index] = true;
    }
    if (!d->id) {
        d->id = g_strdup_printf("%s%u", d->interface == BLOCK_IF_VIRTIO ? "virtio" : "none",
                                (unsigned)index);
    }
    return true;
}

/* *devices collects the devices that drives make themselves. */
static bool open_drives(Peripherals *p, GPtrArray *devices, GError **err)
{
    const GPtrArray *texts = p->options->drives;
    u64 count = texts->len + 1;
    g_autofree bool *used = g_new0(bool, 2 * count);
    for (unsigned i = 0; i < texts->len; i++) {
        BlockDrive d;
        if (!block_drive_parse(texts->pdata[i], &d, err)) {
            return false;
        }
        d.snapshot |= p->options->snapshot;
        bool is_virtio = d.interface == BLOCK_IF_VIRTIO;
        Block *b = name_drive(&d, used + (is_virtio ? 0 : count), count, err) ? block_open(&d, err)
                                                                              : NULL;
        bool ok = b && add_end(&p->drives, d.id, b, err);
        if (ok && is_virtio) {
            g_ptr_array_add(devices, g_strdup_printf("virtio-blk-device,drive=%s", d.id));
        }
        block_drive_clear(&d);
        if (!ok) {
            return false;
        }
    }
    return true;
}

static bool open_net(Peripherals *p, const char *text, GError **err)
{
    Net *n = net_new(text, err);
    return n && add_end(&p->nets, net_id(n), n, err);
}

/* *devices collects what -nic makes. */
static bool open_nets(Peripherals *p, GPtrArray *devices, GError **err)
{
    const MachineOptions *o = p->options;
    for (unsigned i = 0; i < o->netdevs->len; i++) {
        if (!open_net(p, o->netdevs->pdata[i], err)) {
            return false;
        }
    }
    for (unsigned i = 0; i < o->nics->len; i++) {
        char *netdev = NULL, *device = NULL;
        bool ok = net_nic_split(o->nics->pdata[i], i, &netdev, &device, err) &&
                  (!netdev || open_net(p, netdev, err));
        g_free(netdev);
        if (ok && device) {
            g_ptr_array_add(devices, device);
        } else {
            g_free(device);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* ---- Devices ------------------------------------------------------------------------------------ */

static const VirtioClass *device_class(const char *name, bool *is_pci, GError **err)
{
    const VirtioClass *class = virtio_class_find(name, is_pci);
    if (class) {
        return class;
    }
    g_autofree char *best = g_strdup("loader");
    for (const VirtioClass *const *c = virtio_classes; *c; c++) {
        static const char *const endings[] = {"-device", "-pci"};
        for (unsigned i = 0; i < ARRAY_LEN(endings); i++) {
            g_autofree char *full = g_strconcat((*c)->name, endings[i], NULL);
            if (edit_distance(name, full) < edit_distance(name, best)) {
                g_free(best);
                best = g_steal_pointer(&full);
            }
        }
    }
    stag_error(err, "-device %.60s: there is no such device; the nearest is %s (-device help lists "
                    "them all)",
               name, best);
    return NULL;
}

/* The mmio slot that bus= names, or the highest free one, as QEMU's: there the search for a bus
 * finds the one that was made last. -1 with a sentence. */
static int choose_slot(const Peripherals *p, const char *bus, const char *name, GError **err)
{
    static const char prefix[] = "virtio-mmio-bus.";
    if (bus) {
        char *end = NULL;
        u64 n = g_str_has_prefix(bus, prefix)
                    ? g_ascii_strtoull(bus + strlen(prefix), &end, 10)
                    : MAX_SLOTS;
        if (!end || end == bus + strlen(prefix) || *end || n >= p->slot_count) {
            stag_error(err, "-device %s: there is no bus '%.60s' for it; there are %s0 to %u", name,
                       bus, prefix, p->slot_count - 1);
            return -1;
        }
        if (p->slots[n]) {
            stag_error(err, "-device %s: bus %s holds a device already", name, bus);
            return -1;
        }
        return (int)n;
    }
    for (unsigned n = p->slot_count; n-- > 0;) {
        if (!p->slots[n]) {
            return (int)n;
        }
    }
    stag_error(err, "-device %s: all %u slots of virtio-mmio are in use; take the -pci one", name,
               p->slot_count);
    return -1;
}

/* The ports of a virtio-serial device are devices on the command line. */
static const struct {
    const char *name, *help;
    bool is_console;
} ports[] = {
    {"virtconsole", "a console, port of a virtio-serial device", true},
    {"virtserialport", "a stream of bytes, port of a virtio-serial device", false},
};

/* Index into `ports`, -1: none. */
static int find_port(const char *name)
{
    for (unsigned i = 0; i < ARRAY_LEN(ports); i++) {
        if (strcmp(name, ports[i].name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Behind the virtio-serial device that bus=ID.0 names, or the one that was made last. */
static bool make_port(Peripherals *p, const char *name, const char *text, GError **err)
{
    VirtioDevice *serial = NULL;
    g_autofree char *bus = props_find(text, "bus");
    for (unsigned i = 0; i < p->made->len; i++) {
        VirtioDevice *d = p->made->pdata[i];
        g_autofree char *own = g_strdup_printf("%s.0", d->id ? d->id : "");
        if (d->class == &virtio_serial_class && (!bus || strcmp(bus, own) == 0)) {
            serial = d;
        }
    }
    if (!serial) {
        return stag_error(err, "-device %s: it needs a virtio-serial-device before it%s%.60s", name,
                          bus ? ", with a bus " : "", bus ? bus : "");
    }
    GError *problem = NULL;
    if (!virtio_serial_add_port(serial, ports[find_port(name)].is_console, text, &problem)) {
        stag_error(err, "-device %s: %s", name, problem->message);
        g_error_free(problem);
        return false;
    }
    return true;
}

bool peripherals_check_device(const char *text, GError **err)
{
    const char *rest;
    bool is_pci;
    g_autofree char *name = props_head(text, &rest);
    return find_port(name) >= 0 || device_class(name, &is_pci, err) != NULL;
}

static bool make_device(Peripherals *p, const char *text, GError **err)
{
    const char *rest;
    bool is_pci;
    g_autofree char *name = props_head(text, &rest);
    if (find_port(name) >= 0) {
        return make_port(p, name, rest, err);
    }
    const VirtioClass *class = device_class(name, &is_pci, err);
    if (!class) {
        return false;
    }
    if (!is_pci && !p->slot_count) {
        return stag_error(err, "-device %s: the machine '%s' has no place for it", name,
                          p->board->name);
    }
    g_autofree char *bus = props_find(rest, "bus");
    int slot = is_pci ? 0 : choose_slot(p, bus, name, err);
    if (slot < 0) {
        return false;
    }
    GError *problem = NULL;
    VirtioDevice *d = virtio_new(class, rest, is_pci ? virtio_pci_props : NULL,
                                 is_pci ? virtio_pci_prop_count : 0, &p->env, &problem);
    if (!d) {
        g_autofree char *own = g_strconcat(class->name, ": ", NULL); /* said by `name` already */
        const bool twice = g_str_has_prefix(problem->message, own);
        stag_error(err, "-device %s: %s", name, problem->message + (twice ? strlen(own) : 0));
        g_error_free(problem);
        return false;
    }
    g_ptr_array_add(p->made, d);
    if (is_pci) {
        g_ptr_array_add(p->pci_devices, d);
    } else {
        p->slots[slot] = d;
    }
    return true;
}

static bool make_devices(Peripherals *p, const GPtrArray *texts, GError **err)
{
    for (unsigned i = 0; i < texts->len; i++) {
        if (!make_device(p, texts->pdata[i], err)) {
            return false;
        }
    }
    return true;
}

/* ---- Life --------------------------------------------------------------------------------------- */

static HostKind host_kind(const char *option, void (*close)(void *end))
{
    return (HostKind){option, g_ptr_array_new(), close};
}

Peripherals *peripherals_new(const MachineOptions *options, const Board *board, Bus *bus,
                             const CharEscapes *escapes, GError **err)
{
    Peripherals *p = g_new0(Peripherals, 1);
    p->options = options;
    p->board = board;
    p->escapes = *escapes;
    p->env = (VirtioEnv){
        .bus = bus,
        .block_find = find_block,
        .net_find = find_net,
        .char_find = find_char,
        .opaque = p,
    };
    p->chars = host_kind("-chardev", close_char);
    p->drives = host_kind("-drive", close_drive);
    p->nets = host_kind("-netdev", close_net);
    p->own_lines = g_ptr_array_new_with_free_func(close_char);
    p->shared = g_ptr_array_new_with_free_func(close_char);
    p->monitors = g_ptr_array_new();
    p->made = g_ptr_array_new();
    p->pci_devices = g_ptr_array_new_with_free_func((GDestroyNotify)virtio_free);
    p->pci_functions = g_ptr_array_new_with_free_func((GDestroyNotify)device_free);
    p->slot_count = board_mmio_slots(board);
    g_assert(p->slot_count <= MAX_SLOTS);
    g_autoptr(GPtrArray) nics = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) disks = g_ptr_array_new_with_free_func(g_free);
    if (open_chardevs(p, err) && open_lines(p, err) && open_drives(p, disks, err) &&
        open_nets(p, nics, err) && make_devices(p, options->devices, err) &&
        make_devices(p, nics, err) && make_devices(p, disks, err)) {
        return p;
    }
    peripherals_free(p);
    return NULL;
}

static void warn_unused(const HostKind *kind)
{
    for (unsigned i = 0; i < kind->ends->len; i++) {
        const HostEnd *e = kind->ends->pdata[i];
        if (!e->taken) {
            fprintf(stderr, "stag: warning: %s id=%s is not used by any device\n", kind->option,
                    e->id);
        }
    }
}

static bool plug_pci(Peripherals *p, VirtioDevice *d, PciBus *bus, GError **err)
{
    GError *problem = NULL;
    if (!bus) {
        return stag_error(err, "-device %s-pci: the machine '%s' has no PCI", d->class->name,
                          p->board->name);
    }
    Device *function = virtio_pci_plug(d, bus, &problem);
    if (!function) {
        stag_error(err, "-device %s-pci: %s", d->class->name, problem->message);
        g_error_free(problem);
        return false;
    }
    g_ptr_array_add(p->pci_functions, function);
    return true;
}

bool peripherals_plug(Peripherals *p, const BoardDevices *devices, GError **err)
{
    PciBus *bus = board_devices_pci(devices);
    for (unsigned i = 0; i < p->pci_devices->len; i++) {
        if (!plug_pci(p, p->pci_devices->pdata[i], bus, err)) {
            return false;
        }
    }
    warn_unused(&p->drives);
    warn_unused(&p->nets);
    warn_unused(&p->chars);
    return true;
}

void peripherals_unplug(Peripherals *p)
{
    g_ptr_array_set_size(p->pci_functions, 0);
}

void peripherals_free(Peripherals *p)
{
    if (!p) {
        return;
    }
    for (unsigned n = 0; n < p->slot_count; n++) {
        virtio_free(p->slots[n]);
    }
    g_ptr_array_unref(p->pci_functions);
    g_ptr_array_unref(p->pci_devices);
    g_ptr_array_unref(p->made);
    close_ends(&p->nets);
    close_ends(&p->drives);
    g_ptr_array_unref(p->monitors);
    g_ptr_array_unref(p->shared);
    g_ptr_array_unref(p->own_lines);
    close_ends(&p->chars);
    g_free(p);
}

void peripherals_reset(Peripherals *p)
{
    g_ptr_array_foreach(p->pci_functions, (GFunc)(void (*)(void))device_reset, NULL);
}

VirtioDevice *peripherals_slot(const Peripherals *p, unsigned n)
{
    return n < p->slot_count ? p->slots[n] : NULL;
}

CharDev *peripherals_serial(const Peripherals *p)
{
    return p->serial;
}

const GPtrArray *peripherals_monitors(const Peripherals *p)
{
    return p->monitors;
}

/* ---- Listings ----------------------------------------------------------------------------------- */

void peripherals_info_block(Peripherals *p, GString *out)
{
    for (unsigned i = 0; i < p->drives.ends->len; i++) {
        block_info(((HostEnd *)p->drives.ends->pdata[i])->end, out);
    }
}

void peripherals_info_network(Peripherals *p, GString *out)
{
    for (unsigned i = 0; i < p->nets.ends->len; i++) {
        net_info(((HostEnd *)p->nets.ends->pdata[i])->end, out);
    }
}

void peripherals_info_char(Peripherals *p, GString *out)
{
    for (unsigned i = 0; i < p->chars.ends->len; i++) {
        g_autofree char *text = char_describe(((HostEnd *)p->chars.ends->pdata[i])->end);
        g_string_append_printf(out, "%s\n", text);
    }
    for (unsigned i = 0; i < p->own_lines->len; i++) {
        g_autofree char *text = char_describe(p->own_lines->pdata[i]);
        g_string_append_printf(out, "%s\n", text);
    }
}

void peripherals_info_devices(Peripherals *p, GString *out)
{
    for (unsigned n = p->slot_count; n-- > 0;) {
        if (p->slots[n]) {
            g_string_append_printf(out, "virtio-mmio-bus.%u: %s-device\n", n,
                                   p->slots[n]->class->name);
            virtio_info(p->slots[n], out);
        }
    }
    for (unsigned i = 0; i < p->pci_functions->len; i++) {
        const PciDevice *function = p->pci_functions->pdata[i];
        VirtioDevice *d = p->pci_devices->pdata[i];
        g_string_append_printf(out, "pcie.0, addr %02x.0: %s-pci\n", function->slot,
                               d->class->name);
        virtio_info(d, out);
    }
}

Net *peripherals_net(Peripherals *p, const char *id, GError **err)
{
    Net *found = NULL;
    for (unsigned i = 0; i < p->nets.ends->len; i++) {
        const HostEnd *e = p->nets.ends->pdata[i];
        if (id ? strcmp(id, e->id) == 0 : strcmp(net_kind(e->end), "user") == 0) {
            if (found) {
                stag_error(err, "there are several -netdev user; say which one");
                return NULL;
            }
            found = e->end;
        }
    }
    if (!found) {
        stag_error(err, id ? "there is no -netdev with id=%s" : "there is no -netdev user%s",
                   id ? id : "");
    }
    return found;
}

VirtioDevice *peripherals_find(const Peripherals *p, const char *class_name)
{
    for (unsigned i = 0; i < p->made->len; i++) {
        VirtioDevice *d = p->made->pdata[i];
        if (strcmp(d->class->name, class_name) == 0) {
            return d;
        }
    }
    return NULL;
}

/* ---- Help ----------------------------------------------------------------------------------- */

static const struct {
    u8 pci_base_class;
    const char *title;
} groups[] = {
    {0x01, "Storage devices"},
    {0x02, "Network devices"},
    {0x07, "Serial devices"},
    {0xff, "Other devices"}, /* all the rest */
};

static unsigned group_of(const VirtioClass *class)
{
    unsigned g = 0;
    while (g < ARRAY_LEN(groups) - 1 && groups[g].pci_base_class != class->pci_class >> 8) {
        g++;
    }
    return g;
}

void peripherals_print_devices(FILE *out)
{
    for (unsigned g = 0; g < ARRAY_LEN(groups); g++) {
        const char *title = groups[g].title;
        for (const VirtioClass *const *c = virtio_classes; *c; c++) {
            if (group_of(*c) == g) {
                g_autofree char *mmio = g_strdup_printf("%s-device", (*c)->name);
                g_autofree char *pci = g_strdup_printf("%s-pci", (*c)->name);
                if (title) {
                    fprintf(out, "%s:\n", title);
                    title = NULL;
                }
                fprintf(out, "  %-22s %s\n  %-22s the same on PCI\n", mmio, (*c)->help, pci);
            }
        }
        for (unsigned i = 0; i < ARRAY_LEN(ports) && g == group_of(&virtio_serial_class); i++) {
            fprintf(out, "  %-22s %s\n", ports[i].name, ports[i].help);
        }
    }
}

bool peripherals_print_device(const char *name, FILE *out, GError **err)
{
    bool is_pci;
    unsigned count;
    int port = find_port(name);
    if (port >= 0) {
        fprintf(out, "%s: %s\n", name, ports[port].help);
        props_print(virtio_port_props, virtio_port_prop_count, out);
        return true;
    }
    const VirtioClass *class = device_class(name, &is_pci, err);
    if (!class) {
        return false;
    }
    g_autofree PropDesc *props = virtio_props(class, is_pci ? virtio_pci_props : NULL,
                                              is_pci ? virtio_pci_prop_count : 0, &count);
    fprintf(out, "%s: %s\n", name, class->help);
    props_print(props, count, out);
    return true;
}
