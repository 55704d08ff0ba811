/*
 * A port has two queues: the guest puts empty buffers into one and gets input in them, and puts
 * output into the other. Input stays in the CharDev until there is a buffer; output that the
 * CharDev does not take stays in its buffer until there is room. So neither side can be flooded.
 *
 * With one nameless console there is nothing to say about ports, and VIRTIO_CONSOLE_F_MULTIPORT is
 * not offered: the driver reads the terminal's size from the configuration space. With more ports
 * two control queues carry messages about which there are and which are open (5.3.6.2).
 */
#include "devices/virtio/console.h"

#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "devices/char.h"
#include "devices/virtio/devices.h"

enum { F_SIZE = 0, F_MULTIPORT = 1, F_EMERG_WRITE = 2 };
enum { CONTROL_IN = 2, CONTROL_OUT = 3 };
enum { MAX_PORTS = 31, ANY_NR = UINT32_MAX };

/* The control queue holds at most this many messages back for a driver that takes none. */
enum { MAX_MESSAGES = 256 };

enum Event {
    DEVICE_READY = 0,
    DEVICE_ADD = 1,
    PORT_READY = 3,
    CONSOLE_PORT = 4,
    RESIZE = 5,
    PORT_OPEN = 6,
    PORT_NAME = 7,
};

typedef struct Message {
    u32 id;
    u16 event, value;
} Message;

typedef struct VirtioSerial VirtioSerial;

typedef struct Port {
    char *id, *bus, *chardev, *name;
    u64 nr;

    VirtioSerial *serial; /* NULL: there is no such port */
    bool is_console;
    CharDev *chr; /* NULL: output is dropped, no input */
    u16 columns, rows;
    bool host_open;
    bool guest_ready; /* the driver knows the port */
    bool guest_open;
    VirtqElement *output; /* the CharDev has not taken all of it yet */
} Port;

struct VirtioSerial {
    VirtioDevice dev;
    u64 max_ports;
    Port ports[MAX_PORTS];
    GQueue messages; /* of GByteArray, for the driver */
};

static const PropDesc serial_props[] = {
    {"max_ports", PROP_UINT, offsetof(VirtioSerial, max_ports), "31", "ports at most", 1,
     MAX_PORTS},
};

const PropDesc virtio_port_props[] = {
    {"bus", PROP_STRING, offsetof(Port, bus), .help = "the virtio-serial device"},
    {"chardev", PROP_STRING, offsetof(Port, chardev), .help = "the host's end"},
    {"id", PROP_STRING, offsetof(Port, id), .help = "name of this device"},
    {"name", PROP_STRING, offsetof(Port, name), .help = "what the guest calls it"},
    {"nr", PROP_UINT, offsetof(Port, nr), "4294967295", "number of the port", 0, ANY_NR},
};
const unsigned virtio_port_prop_count = ARRAY_LEN(virtio_port_props);

/* ---- Ports and queues ----------------------------------------------------------------------- */

static unsigned number(const Port *p)
{
    return (unsigned)(p - p->serial->ports);
}

/* Port 0 comes before the control queues, the others after. */
static unsigned input_queue(const Port *p)
{
    return number(p) ? 2 * number(p) + 2 : 0;
}

static Port *port_of_queue(VirtioSerial *s, unsigned queue)
{
    Port *p = &s->ports[queue < 2 ? 0 : (queue - 2) / 2];
    return p->serial ? p : NULL;
}

static bool multiport(const VirtioSerial *s)
{
    return virtio_has(&s->dev, F_MULTIPORT);
}

/* ---- Control messages ----------------------------------------------------------------------- */

static void flush_messages(VirtioSerial *s)
{
    VirtQueue *q = virtio_queue(&s->dev, CONTROL_IN);
    VirtqElement *e;
    while (!g_queue_is_empty(&s->messages) && (e = virtq_pop(q, 0))) {
        GByteArray *m = g_queue_pop_head(&s->messages);
        virtq_push(e, virtq_write(e, 0, m->data, m->len));
        g_byte_array_unref(m);
    }
    virtq_notify(q);
}

static void send(Port *p, enum Event event, u16 value, const void *data, size_t n)
{
    VirtioSerial *s = p->serial;
    if (!multiport(s)) {
        return;
    }
    if (g_queue_get_length(&s->messages) >= MAX_MESSAGES) {
        log_guest_error("virtio-serial: the driver takes no control messages\n");
        return;
    }
    Message m = {number(p), (u16)event, value};
    GByteArray *a = g_byte_array_new();
    g_byte_array_append(a, (const u8 *)&m, sizeof(m));
    g_byte_array_append(a, data, (guint)n);
    g_queue_push_tail(&s->messages, a);
    flush_messages(s);
}

/* Columns first (5.3.6.2), as Linux reads them in Debian's 6.12; older ones read rows first. */
static void send_size(Port *p)
{
    if (p->columns) {
        const u16 size[] = {p->columns, p->rows};
        send(p, RESIZE, 0, size, sizeof(size));
    }
}

static void handle_input(Port *p);

static void handle_message(VirtioSerial *s, const Message *m)
{
    if (m->event == DEVICE_READY) {
        for (unsigned i = 0; i < s->max_ports && m->value == 1; i++) {
            if (s->ports[i].serial) {
                send(&s->ports[i], DEVICE_ADD, 1, NULL, 0);
            }
        }
        return;
    }
    Port *p = m->id < s->max_ports ? &s->ports[m->id] : NULL;
    if (!p || !p->serial) {
        log_guest_error("virtio-serial: message %u about port %u, which is none\n", m->event,
                        m->id);
        return;
    }
    switch (m->event) {
    case PORT_READY:
        p->guest_ready = m->value == 1;
        if (!p->guest_ready) {
            break;
        }
        if (p->is_console) {
            send(p, CONSOLE_PORT, 1, NULL, 0);
        }
        if (p->name) {
            send(p, PORT_NAME, 1, p->name, strlen(p->name));
        }
        if (p->host_open) {
            send(p, PORT_OPEN, 1, NULL, 0);
        }
        if (p->is_console) {
            send_size(p);
        }
        break;
    case PORT_OPEN:
        p->guest_open = m->value != 0;
        handle_input(p);
        break;
    default:
        log_guest_error("virtio-serial: message %u is not the driver's\n", m->event);
    }
}

static void handle_control(VirtioSerial *s)
{
    VirtQueue *q = virtio_queue(&s->dev, CONTROL_OUT);
    VirtqElement *e;
    while ((e = virtq_pop(q, 0))) {
        Message m;
        if (virtq_read(e, 0, &m, sizeof(m)) == sizeof(m)) {
            handle_message(s, &m);
        }
        virtq_push(e, 0);
    }
    virtq_notify(q);
}

/* ---- Bytes ---------------------------------------------------------------------------------- */

static void set_host_open(Port *p, bool open)
{
    if (p->host_open != open) {
        p->host_open = open;
        if (p->guest_ready) {
            send(p, PORT_OPEN, open, NULL, 0);
        }
    }
}

/* Takes up to n bytes of input; sees to what else has happened on the line meanwhile. */
static size_t take_input(Port *p, u8 *data, size_t n)
{
    size_t got = 0;
    while (got < n) {
        int c = char_get(p->chr);
        if (c == CHAR_NONE) {
            break;
        }
        if (c == CHAR_OPEN || c == CHAR_CLOSE) {
            set_host_open(p, c == CHAR_OPEN);
        } else if (c < 256) {
            data[got++] = (u8)c;
        }
    }
    return got;
}

static void handle_input(Port *p)
{
    VirtQueue *q = virtio_queue(&p->serial->dev, input_queue(p));
    VirtqElement *e;
    while (p->guest_open && p->chr && (e = virtq_pop(q, 0))) {
        u8 data[512];
        size_t done = 0, n;
        if (e->in_bytes == 0) {
            virtio_broken(&p->serial->dev, "port %u: a buffer for input without room", number(p));
            virtq_free(e);
            return;
        }
        do {
            n = take_input(p, data, MIN(sizeof(data), e->in_bytes - done));
            done += virtq_write(e, done, data, n);
        } while (n == sizeof(data) && done < e->in_bytes);
        if (done == 0) {
            virtq_unpop(e);
            break;
        }
        virtq_push(e, done);
    }
    virtq_notify(q);
}

/* Hands the buffer to the CharDev; false if it has not taken all. */
static bool write_output(Port *p)
{
    VirtqElement *e = p->output;
    while (e->out_count) {
        size_t n = char_write(p->chr, e->out->iov_base, e->out->iov_len);
        if (n < e->out->iov_len) {
            e->out->iov_base = (u8 *)e->out->iov_base + n;
            e->out->iov_len -= n;
            return false;
        }
        e->out++;
        e->out_count--;
    }
    p->output = NULL;
    virtq_push(e, 0);
    return true;
}

static void handle_output(Port *p)
{
    VirtQueue *q = virtio_queue(&p->serial->dev, input_queue(p) + 1);
    while (p->output || (p->output = virtq_pop(q, 0))) {
        if (!write_output(p)) {
            break;
        }
    }
    virtq_notify(q);
}

/* Input, room for output, or another size. */
static void on_char(void *opaque)
{
    Port *p = opaque;
    VirtioSerial *s = p->serial;
    u16 columns = 0, rows = 0;
    g_mutex_lock(&s->dev.lock);
    if (char_get_size(p->chr, &columns, &rows) && (columns != p->columns || rows != p->rows)) {
        p->columns = columns;
        p->rows = rows;
        if (number(p) == 0) {
            virtio_config_changed(&s->dev);
        }
        if (p->guest_ready && p->is_console) {
            send_size(p);
        }
    }
    virtio_process(&s->dev, input_queue(p));
    virtio_process(&s->dev, input_queue(p) + 1);
    g_mutex_unlock(&s->dev.lock);
}

/* ---- The class ------------------------------------------------------------------------------ */

static void serial_notify(VirtioDevice *d, unsigned queue)
{
    VirtioSerial *s = (VirtioSerial *)d;
    if (queue == CONTROL_IN || queue == CONTROL_OUT) {
        if (multiport(s)) {
            flush_messages(s);
            handle_control(s);
        }
        return;
    }
    Port *p = port_of_queue(s, queue);
    if (!p || (number(p) && !multiport(s))) {
        return;
    }
    if (queue % 2) {
        handle_output(p);
    } else {
        handle_input(p);
    }
}

static void serial_driver_ok(VirtioDevice *d)
{
    VirtioSerial *s = (VirtioSerial *)d;
    s->ports[0].guest_open = s->ports[0].serial && !multiport(s);
}

static void drop_output(Port *p)
{
    if (p->output) {
        virtq_free(p->output);
        p->output = NULL;
    }
}

static void serial_reset(VirtioDevice *d)
{
    VirtioSerial *s = (VirtioSerial *)d;
    for (unsigned i = 0; i < MAX_PORTS; i++) {
        drop_output(&s->ports[i]);
        s->ports[i].guest_ready = s->ports[i].guest_open = false;
    }
    g_queue_clear_full(&s->messages, (GDestroyNotify)g_byte_array_unref);
}

static void serial_queue_reset(VirtioDevice *d, unsigned queue)
{
    Port *p = port_of_queue((VirtioSerial *)d, queue);
    if (p && queue % 2 && queue != CONTROL_OUT) {
        drop_output(p);
    }
}

static bool serial_init(VirtioDevice *d, GError **err G_GNUC_UNUSED)
{
    d->queue_count = 2 * ((unsigned)((VirtioSerial *)d)->max_ports + 1);
    d->features |= VIRTIO_BIT(F_MULTIPORT);
    return true;
}

static void serial_finalize(VirtioDevice *d)
{
    VirtioSerial *s = (VirtioSerial *)d;
    for (unsigned i = 0; i < MAX_PORTS; i++) {
        Port *p = &s->ports[i];
        if (p->serial) {
            char_connect(p->chr, NULL, NULL);
            props_clear(virtio_port_props, virtio_port_prop_count, p);
        }
    }
}

static void serial_get_config(VirtioDevice *d, u8 *config)
{
    const VirtioSerial *s = (VirtioSerial *)d;
    const u16 size[] = {s->ports[0].columns, s->ports[0].rows};
    const u32 ports = (u32)s->max_ports;
    memcpy(config, size, sizeof(size));
    memcpy(config + 4, &ports, sizeof(ports));
}

/* emerg_wr: a byte of output that needs no queue. */
static void serial_set_config(VirtioDevice *d, u32 offset, unsigned size G_GNUC_UNUSED, u32 value)
{
    Port *p = &((VirtioSerial *)d)->ports[0];
    if (offset == 8 && p->chr) {
        u8 byte = (u8)value;
        char_write(p->chr, &byte, 1);
    }
}

static void serial_info(VirtioDevice *d, GString *out)
{
    const VirtioSerial *s = (VirtioSerial *)d;
    for (unsigned i = 0; i < MAX_PORTS; i++) {
        const Port *p = &s->ports[i];
        if (p->serial) {
            g_string_append_printf(
                out, "    port %u: %s%s%s, chardev %s, guest %s, host %s\n", i,
                p->is_console ? "virtconsole" : "virtserialport", p->name ? " " : "",
                p->name ? p->name : "", p->chardev ? p->chardev : "none",
                p->guest_open ? "open" : "closed", p->host_open ? "open" : "closed");
        }
    }
}

/* Where a port goes; -1 with a sentence if it can't go there. */
static int choose_number(const VirtioSerial *s, bool is_console, u64 wanted, GError **err)
{
    u64 n = wanted;
    if (wanted == ANY_NR) {
        for (n = is_console ? 0 : 1; n < s->max_ports && s->ports[n].serial; n++) {
        }
    }
    if (n >= s->max_ports) {
        stag_error(err, "the virtio-serial device has room for %u ports", (unsigned)s->max_ports);
    } else if (s->ports[n].serial) {
        stag_error(err, "the virtio-serial device has a port %u already", (unsigned)n);
    } else if (n == 0 && !is_console) {
        stag_error(err, "port 0 of a virtio-serial device is for a virtconsole");
    } else {
        return (int)n;
    }
    return -1;
}

bool virtio_serial_add_port(VirtioDevice *serial, bool is_console, const char *text, GError **err)
{
    VirtioSerial *s = (VirtioSerial *)serial;
    Port port = {0};
    if (!props_parse(virtio_port_props, virtio_port_prop_count,
                     is_console ? "virtconsole" : "virtserialport", text, &port, err)) {
        return false;
    }
    int n = choose_number(s, is_console, port.nr, err);
    if (n >= 0 && port.chardev) {
        port.chr = serial->env.char_find(serial->env.opaque, port.chardev, err);
        n = port.chr ? n : -1;
    }
    if (n < 0) {
        props_clear(virtio_port_props, virtio_port_prop_count, &port);
        return false;
    }
    port.serial = s;
    port.is_console = is_console;
    port.host_open = is_console || (port.chr && char_is_open(port.chr));
    char_get_size(port.chr, &port.columns, &port.rows);
    g_mutex_lock(&serial->lock);
    s->ports[n] = port;
    bool several = s->ports[0].name || !s->ports[0].serial;
    for (unsigned i = 1; i < MAX_PORTS; i++) {
        several |= s->ports[i].serial != NULL;
    }
    serial->features = set_bits(serial->features, F_MULTIPORT, 1, several);
    g_mutex_unlock(&serial->lock);
    if (port.chr && !is_console) {
        char_want_events(port.chr);
    }
    char_connect(port.chr, on_char, &s->ports[n]);
    return true;
}

const VirtioClass virtio_serial_class = {
    .name = "virtio-serial",
    .help = "consoles and byte streams; its ports are virtconsole and virtserialport",
    .id = VIRTIO_ID_CONSOLE,
    .instance_size = sizeof(VirtioSerial),
    .features = VIRTIO_BIT(F_SIZE) | VIRTIO_BIT(F_EMERG_WRITE),
    .queue_size = 128,
    .config_size = 12,
    .pci_class = 0x0780,
    .props = serial_props,
    .prop_count = ARRAY_LEN(serial_props),
    .init = serial_init,
    .finalize = serial_finalize,
    .reset = serial_reset,
    .queue_reset = serial_queue_reset,
    .driver_ok = serial_driver_ok,
    .queue_notify = serial_notify,
    .get_config = serial_get_config,
    .set_config = serial_set_config,
    .info = serial_info,
};
