/*
 * The 16550A, after National Semiconductor's PC16550D data sheet.
 *
 * The line is infinitely fast: a byte leaves the transmit FIFO as soon as the host takes it, and
 * time between received bytes has no meaning. So the receive timeout, which on a real line comes
 * four character times after the last byte, comes at once: bytes below the trigger level raise it
 * as soon as they are there. The interrupt condition is thereby a function of the state, and needs
 * no timer.
 */
#include "devices/uart16550.h"

#include <libfdt.h>

#include "core/base/log.h"

enum { CLOCK_HZ = 3686400, FIFO_SIZE = 16, RX_BREAK = 0x100 };

enum {
    IER_RX = 1,
    IER_THRE = 2,
    IER_LINE = 4,
    IER_MODEM = 8,

    IIR_MODEM = 0x0,
    IIR_NONE = 0x1,
    IIR_THRE = 0x2,
    IIR_RX = 0x4,
    IIR_LINE = 0x6,
    IIR_TIMEOUT = 0xc,
    IIR_FIFO = 0xc0,

    FCR_FIFO = 0x01,
    FCR_RESET_RX = 0x02,
    FCR_RESET_TX = 0x04,
    FCR_KEPT = 0xc9,

    LCR_DLAB = 0x80,

    MCR_LOOP = 0x10,

    LSR_DATA = 0x01,
    LSR_OVERRUN = 0x02,
    LSR_BREAK = 0x10,
    LSR_THRE = 0x20,
    LSR_TEMT = 0x40,
    LSR_FIFO_ERROR = 0x80,
    LSR_ERRORS = 0x1e,

    MSR_DELTAS = 0x0f,
    MSR_RI = 0x40,
    MSR_CONNECTED = 0xb0, /* DCD, DSR, CTS: somebody is there and ready */
};

typedef struct Uart {
    Device dev;
    CharDev *chr;
    u8 ier, fcr, lcr, mcr, msr, scr, dll, dlm;
    u8 overrun;      /* since LSR was read last */
    u8 thre_pending; /* the transmitter became empty and IIR has not said so yet */
    u16 rx[FIFO_SIZE];
    u8 rx_head, rx_count;
    u8 tx[FIFO_SIZE];
    u8 tx_head, tx_count;
} Uart;

static unsigned fifo_size(const Uart *u)
{
    return u->fcr & FCR_FIFO ? FIFO_SIZE : 1;
}

static u8 line_status(const Uart *u)
{
    u8 v = u->overrun ? LSR_OVERRUN : 0;
    if (u->rx_count) {
        v |= LSR_DATA;
        if (u->rx[u->rx_head] & RX_BREAK) {
            v |= LSR_BREAK;
        }
    }
    if (!u->tx_count) {
        v |= LSR_THRE | LSR_TEMT;
    }
    if (u->fcr & FCR_FIFO) {
        for (unsigned i = 0; i < u->rx_count; i++) {
            if (u->rx[(u->rx_head + i) % FIFO_SIZE] & RX_BREAK) {
                v |= LSR_FIFO_ERROR;
            }
        }
    }
    return v;
}

/* The interrupt of the highest priority, as IIR's low four bits. */
static u8 interrupt_id(const Uart *u)
{
    static const u8 triggers[] = {1, 4, 8, 14};

    if (u->ier & IER_LINE && line_status(u) & LSR_ERRORS) {
        return IIR_LINE;
    }
    if (u->ier & IER_RX && u->rx_count) {
        bool reached = !(u->fcr & FCR_FIFO) || u->rx_count >= triggers[u->fcr >> 6];
        return reached ? IIR_RX : IIR_TIMEOUT;
    }
    if (u->ier & IER_THRE && u->thre_pending) {
        return IIR_THRE;
    }
    if (u->ier & IER_MODEM && u->msr & MSR_DELTAS) {
        return IIR_MODEM;
    }
    return IIR_NONE;
}

static void update_irq(Uart *u)
{
    device_set_irq(&u->dev, 0, interrupt_id(u) != IIR_NONE);
}

static void receive_byte(Uart *u, u16 value)
{
    if (u->rx_count >= fifo_size(u)) {
        u->overrun = 1; /* the FIFO keeps what it has */
        return;
    }
    u->rx[(u->rx_head + u->rx_count++) % FIFO_SIZE] = value;
}

/* Moves what can be moved in both directions. */
static void pump(Uart *u)
{
    bool loop = u->mcr & MCR_LOOP;
    unsigned waiting = u->tx_count;

    while (u->tx_count) {
        u8 byte = u->tx[u->tx_head];
        if (loop) {
            receive_byte(u, byte);
        } else if (!char_write(u->chr, &byte, 1)) {
            break;
        }
        u->tx_head = (u->tx_head + 1) % FIFO_SIZE;
        u->tx_count--;
    }
    if (waiting && !u->tx_count) {
        u->thre_pending = 1;
    }
    while (!loop && u->rx_count < fifo_size(u)) {
        int value = char_get(u->chr);
        if (value == CHAR_NONE) {
            break;
        }
        receive_byte(u, value == CHAR_BREAK ? RX_BREAK : value);
    }
    update_irq(u);
}

static void on_char(void *opaque)
{
    Uart *u = opaque;
    g_mutex_lock(&u->dev.lock);
    pump(u);
    g_mutex_unlock(&u->dev.lock);
}

static u64 data_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    if (u->lcr & LCR_DLAB) {
        return u->dll;
    }
    if (!u->rx_count) {
        return 0;
    }
    u8 value = u->rx[u->rx_head];
    u->rx_head = (u->rx_head + 1) % FIFO_SIZE;
    u->rx_count--;
    pump(u);
    return value;
}

static void data_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value, u64 mask G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    if (u->lcr & LCR_DLAB) {
        u->dll = value;
        return;
    }
    u->thre_pending = 0;
    if (u->tx_count < fifo_size(u)) {
        u->tx[(u->tx_head + u->tx_count++) % FIFO_SIZE] = value;
    } else {
        log_guest_error("%s: byte written to a full transmitter is lost\n", d->name);
    }
    pump(u);
}

static u64 ier_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    return u->lcr & LCR_DLAB ? u->dlm : u->ier;
}

static void ier_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value, u64 mask G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    if (u->lcr & LCR_DLAB) {
        u->dlm = value;
        return;
    }
    /* Enabling the interrupt while the transmitter is empty raises it: that is how drivers start.
     */
    if ((value & ~u->ier & IER_THRE) && !u->tx_count) {
        u->thre_pending = 1;
    }
    u->ier = value & 0x0f;
    update_irq(u);
}

static u64 iir_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    u8 id = interrupt_id(u);
    if (id == IIR_THRE) {
        u->thre_pending = 0;
        update_irq(u);
    }
    return id | (u->fcr & FCR_FIFO ? IIR_FIFO : 0);
}

static void fcr_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value, u64 mask G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    bool toggled = (value ^ u->fcr) & FCR_FIFO;
    if (toggled || value & FCR_RESET_RX) {
        u->rx_count = 0;
    }
    if ((toggled || value & FCR_RESET_TX) && u->tx_count) {
        u->tx_count = 0;
        u->thre_pending = 1;
    }
    u->fcr = value & FCR_FIFO ? value & FCR_KEPT : 0;
    pump(u);
}

static u64 lsr_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    u8 v = line_status(u);
    u->overrun = 0;
    if (u->rx_count) {
        u->rx[u->rx_head] &= ~RX_BREAK;
    }
    update_irq(u);
    return v;
}

static void mcr_write(Device *d, unsigned index G_GNUC_UNUSED, u64 value, u64 mask G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    u8 lines = MSR_CONNECTED;
    if (value & MCR_LOOP) {
        /* DTR to DSR, RTS to CTS, OUT1 to RI, OUT2 to DCD. */
        lines = (value & 1) << 5 | (value & 2) << 3 | (value & 4) << 4 | (value & 8) << 4;
    }
    u8 changed = (lines ^ u->msr) & 0xf0;
    if (lines & MSR_RI) {
        changed &= ~MSR_RI; /* only the end of a ring counts */
    }
    u->msr = lines | (u->msr & MSR_DELTAS) | changed >> 4;
    pump(u);
}

static u64 msr_read(Device *d, unsigned index G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    u8 v = u->msr;
    u->msr &= ~MSR_DELTAS;
    update_irq(u);
    return v;
}

static const RegDesc uart_regs[] = {
    {.name = "rbr_thr", .offset = 0, .width = 1, .read = data_read, .write = data_write},
    {.name = "ier", .offset = 1, .width = 1, .read = ier_read, .write = ier_write},
    {.name = "iir_fcr", .offset = 2, .width = 1, .read = iir_read, .write = fcr_write},
    {.name = "lcr", .offset = 3, .width = 1, .at = offsetof(Uart, lcr), .wmask = 0xff},
    {.name = "mcr", .offset = 4, .width = 1, .at = offsetof(Uart, mcr), .wmask = 0x1f,
     .write = mcr_write},
    {.name = "lsr", .offset = 5, .width = 1, .read = lsr_read},
    {.name = "msr", .offset = 6, .width = 1, .read = msr_read},
    {.name = "scr", .offset = 7, .width = 1, .at = offsetof(Uart, scr), .wmask = 0xff},
};

static const StateField uart_fields[] = {
    FIELD(Uart, ier, .max = 0x0f),
    FIELD(Uart, fcr),
    FIELD(Uart, msr, .reset = MSR_CONNECTED),
    FIELD(Uart, dll, .reset = 12), /* 19200 baud */
    FIELD(Uart, dlm),
    FIELD(Uart, overrun, .max = 1),
    FIELD(Uart, thre_pending, .max = 1),
    FIELD_ARRAY(Uart, rx, .max = RX_BREAK | 0xff),
    FIELD(Uart, rx_head, .max = FIFO_SIZE - 1),
    FIELD(Uart, rx_count, .max = FIFO_SIZE),
    FIELD_ARRAY(Uart, tx),
    FIELD(Uart, tx_head, .max = FIFO_SIZE - 1),
    FIELD(Uart, tx_count, .max = FIFO_SIZE),
};

static bool uart_init(Device *d, const void *config, GError **err G_GNUC_UNUSED)
{
    Uart *u = (Uart *)d;
    const UartConfig *c = config;
    u->chr = c ? c->chr : NULL;
    device_make_outputs(d, 1);
    char_connect(u->chr, on_char, u);
    return true;
}

static void uart_finalize(Device *d)
{
    char_connect(((Uart *)d)->chr, NULL, NULL);
}

static void uart_update(Device *d)
{
    pump((Uart *)d);
}

static int uart_fdt(Device *d G_GNUC_UNUSED, void *fdt, int node,
                    const DeviceFdt *env G_GNUC_UNUSED)
{
    return fdt_setprop_u32(fdt, node, "clock-frequency", CLOCK_HZ);
}

const DeviceClass uart16550_class = {
    .name = "uart16550",
    .instance_size = sizeof(Uart),
    .region_size = 0x100,
    .min_access = 1,
    .max_access = 8,
    .regs = uart_regs,
    .reg_count = ARRAY_LEN(uart_regs),
    .fields = uart_fields,
    .field_count = ARRAY_LEN(uart_fields),
    .fdt_name = "serial",
    .compatible = (const char *const[]){"ns16550a", NULL},
    .init = uart_init,
    .finalize = uart_finalize,
    .update = uart_update,
    .fdt = uart_fdt,
};
