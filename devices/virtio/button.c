/*
 * Queue 0 takes events to the driver, 8 bytes each; pressing the button is four of them. If the
 * driver has not enough buffers there, the rest waits until it has. Queue 1 brings events from the
 * driver (lamps and sounds), of which a button makes nothing.
 */
#include "devices/virtio/button.h"

#include <string.h>

enum { EVENTS, STATUS, QUEUES };

/* What the configuration space shows is selected by its first two bytes (5.8.4). */
enum { SELECT, SUBSELECT, SIZE, DATA = 8, CONFIG_SIZE = 136 };
enum { SELECT_NAME = 1, SELECT_IDS = 3, SELECT_EVENTS = 0x11 };
enum { BUS_VIRTUAL = 0x06 };

/* Linux's input events, which virtio-input takes over. */
enum { EV_SYN = 0, EV_KEY = 1, KEY_POWER = 116 };

typedef struct InputEvent {
    u16 type, code;
    u32 value;
} InputEvent;

static const InputEvent press[] = {
    {EV_KEY, KEY_POWER, 1},
    {EV_SYN, 0, 0},
    {EV_KEY, KEY_POWER, 0},
    {EV_SYN, 0, 0},
};

typedef struct Button {
    VirtioDevice dev;
    u8 select, subselect;
    unsigned pending; /* events of `press`, from its end, that the driver has not got */
} Button;

static void send_pending(Button *b)
{
    VirtQueue *q = virtio_queue(&b->dev, EVENTS);
    VirtqElement *e;
    while (b->pending && (e = virtq_pop(q, 0))) {
        const InputEvent *event = &press[ARRAY_LEN(press) - b->pending--];
        virtq_push(e, virtq_write(e, 0, event, sizeof(*event)));
    }
    virtq_notify(q);
}

bool virtio_button_press(VirtioDevice *d)
{
    Button *b = (Button *)d;
    g_mutex_lock(&d->lock);
    bool heard = virtio_running(d) && virtio_queue(d, EVENTS)->ready;
    if (heard) {
        b->pending = b->pending ? b->pending : ARRAY_LEN(press);
        send_pending(b);
    }
    g_mutex_unlock(&d->lock);
    return heard;
}

static void button_notify(VirtioDevice *d, unsigned queue)
{
    if (queue == EVENTS) {
        send_pending((Button *)d);
        return;
    }
    VirtQueue *q = virtio_queue(d, queue);
    VirtqElement *e;
    while ((e = virtq_pop(q, 0))) {
        virtq_push(e, 0);
    }
    virtq_notify(q);
}

static void button_reset(VirtioDevice *d)
{
    Button *b = (Button *)d;
    b->select = b->subselect = 0;
    b->pending = 0;
}

static void button_queue_reset(VirtioDevice *d, unsigned queue)
{
    Button *b = (Button *)d;
    b->pending = queue == EVENTS ? 0 : b->pending;
}

static void button_get_config(VirtioDevice *d, u8 *config)
{
    static const char name[] = "Power Button";
    static const u16 ids[] = {BUS_VIRTUAL, 0, 0, 1}; /* bus, vendor, product, version */
    const Button *b = (Button *)d;
    config[SELECT] = b->select;
    config[SUBSELECT] = b->subselect;
    if (b->select == SELECT_NAME && b->subselect == 0) {
        config[SIZE] = sizeof(name) - 1;
        memcpy(config + DATA, name, sizeof(name) - 1);
    } else if (b->select == SELECT_IDS && b->subselect == 0) {
        config[SIZE] = sizeof(ids);
        memcpy(config + DATA, ids, sizeof(ids));
    } else if (b->select == SELECT_EVENTS && b->subselect == EV_KEY) {
        config[SIZE] = KEY_POWER / 8 + 1;
        config[DATA + KEY_POWER / 8] = 1u << KEY_POWER % 8;
    }
}

static void button_set_config(VirtioDevice *d, u32 offset, unsigned size, u32 value)
{
    Button *b = (Button *)d;
    for (unsigned i = 0; i < size; i++, offset++, value >>= 8) {
        if (offset == SELECT) {
            b->select = (u8)value;
        } else if (offset == SUBSELECT) {
            b->subselect = (u8)value;
        }
    }
}

const VirtioClass virtio_button_class = {
    .name = "virtio-power-button",
    .help = "button that asks the guest to power down",
    .id = VIRTIO_ID_INPUT,
    .instance_size = sizeof(Button),
    .queue_count = QUEUES,
    .queue_size = 64,
    .config_size = CONFIG_SIZE,
    .pci_class = 0x0980,
    .reset = button_reset,
    .queue_reset = button_queue_reset,
    .queue_notify = button_notify,
    .get_config = button_get_config,
    .set_config = button_set_config,
};
