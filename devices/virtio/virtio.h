/*
 * Virtio 1.2 devices, whatever bus they sit on. Three parts meet here:
 *
 * A *class* (VirtioClass) is data: name, device ID, features, queues, configuration space,
 * properties, and a few hooks. One class serves both `-device NAME-device` (mmio) and `-device
 * NAME-pci`.
 *
 * A *transport* (mmio.c, pci.c) is the registers through which a driver reaches a device. It keeps
 * nothing but its own selectors: negotiation, status and queues live in the VirtioDevice.
 *
 * A *queue* (VirtQueue) is a ring in guest memory, split or packed (2.7, 2.8). A device pops
 * elements, which are lists of host memory, and pushes them back; it never sees which kind of ring
 * it is.
 *
 * The guest writes rings and registers as it likes, also while the device reads them. Every address
 * goes through bus_dma_map, every word is read once, every loop is bounded by the queue's size. A
 * ring that makes no sense puts the device into DEVICE_NEEDS_RESET and logs a guest error; from
 * then on pops find nothing and pushes do nothing until the driver resets it.
 *
 * Everything about a device runs under its `lock`: hooks and transport calls have it held, host
 * threads take it for completions. The transport may have an outer lock of its own; interrupts are
 * raised with the lock held. No hook may block on host I/O, except `reset`, `queue_reset` and
 * `finalize`, which wait for requests under way.
 */
#ifndef STAG_DEVICES_VIRTIO_VIRTIO_H
#define STAG_DEVICES_VIRTIO_VIRTIO_H

#include <glib.h>
#include <sys/uio.h>

#include "core/base/types.h"
#include "devices/props.h"
#include "softmmu/bus.h"

typedef struct VirtioDevice VirtioDevice;
typedef struct VirtioClass VirtioClass;
typedef struct VirtQueue VirtQueue;
typedef struct Block Block;     /* devices/block/block.h */
typedef struct Net Net;         /* devices/net/net.h */
typedef struct CharDev CharDev; /* devices/char.h */

/* ---- Numbers of the specification ----------------------------------------------------------- */

/* chapter 5 */
enum VirtioId {
    VIRTIO_ID_NET = 1,
    VIRTIO_ID_BLOCK = 2,
    VIRTIO_ID_CONSOLE = 3,
    VIRTIO_ID_RNG = 4,
    VIRTIO_ID_BALLOON = 5,
    VIRTIO_ID_INPUT = 18,
};

/* 2.1 */
enum VirtioStatus {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128,
};

/* chapter 6: bit numbers */
enum VirtioFeature {
    VIRTIO_F_INDIRECT_DESC = 28,
    VIRTIO_F_EVENT_IDX = 29,
    VIRTIO_F_VERSION_1 = 32,
    VIRTIO_F_RING_PACKED = 34,
    VIRTIO_F_RING_RESET = 40,
};

enum VirtioIsr { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 }; /* 4.2.2, 4.1.4.5 */

#define VIRTIO_BIT(n) ((u64)1 << (n))

enum { VIRTQ_MAX_SIZE = 1024, VIRTIO_MAX_QUEUES = 64, VIRTIO_MAX_CONFIG = 256 };

/* ---- Classes -------------------------------------------------------------------------------- */

/* How devices find what is outside of them: the bus they reach guest memory by, and their host ends
 * by the name the user gave. A host end serves one device: a find hands it out once, and returns
 * NULL with a sentence when there is none of this name or it is taken. Host ends outlive devices.
 * The functions that the device's class does not call may be NULL. */
typedef struct VirtioEnv {
    Bus *bus;
    Block *(*block_find)(void *opaque, const char *id, GError **err);
    Net *(*net_find)(void *opaque, const char *id, GError **err);
    CharDev *(*char_find)(void *opaque, const char *id, GError **err);
    void *opaque;
} VirtioEnv;

struct VirtioClass {
    const char *name; /* "virtio-blk" */
    const char *help; /* for -device help */
    u16 id;           /* enum VirtioId */
    size_t instance_size;
    u64 features;          /* device features always offered (bits 0 to 23, 50 and up) */
    unsigned queue_count;  /* init may set another in the device */
    unsigned queue_size;   /* largest size of a queue, a power of 2; 0: VIRTQ_MAX_SIZE */
    unsigned config_size;  /* bytes of the configuration space; init may set another */
    u32 pci_class;         /* base class and subclass, such as 0x0100; 0: 0x00ff */
    const PropDesc *props; /* places in the instance */
    unsigned prop_count;

    /* All hooks may be NULL. They run with the lock held, except init and finalize. */

    /* The properties are in the instance. May change d->features, queue_count, queues' max,
     * config_size. Host ends may call in from other threads from here on. */
    bool (*init)(VirtioDevice *d, GError **err);
    /* Before the instance is freed: disconnects from host ends. `reset` has been called. Runs as
     * well after a failed init (on an instance that is zero where init did not get to). */
    void (*finalize)(VirtioDevice *d);
    /* When it returns, no request touches guest memory any more and no element is held; it may give
     * up the lock while it waits for that. Elements can still be given back (virtq_push,
     * virtq_free) meanwhile: the guest does not see them. Also runs when the machine is reset. */
    void (*reset)(VirtioDevice *d);
    /* As reset, for one queue (VIRTIO_F_RING_RESET; offered by classes that have the hook). */
    void (*queue_reset)(VirtioDevice *d, unsigned queue);
    /* The driver is ready: DRIVER_OK was set. Buffers may be there already, or memory may be out of
     * reach yet (no_dma). */
    void (*driver_ok)(VirtioDevice *d);
    /* The driver says that a queue has new buffers; only while DRIVER_OK is set. Also called for
     * every queue after driver_ok. Pops here are bounded: when a driver adds buffers as fast as the
     * device takes them, pop finds nothing after a while, and the hook is called again from the
     * main loop. */
    void (*queue_notify)(VirtioDevice *d, unsigned queue);
    /* FEATURES_OK is about to be set; d->negotiated is what the driver chose, within what is
     * offered. False: this combination does not work, FEATURES_OK stays clear. */
    bool (*check_features)(VirtioDevice *d);
    /* Fills the configuration space, d->config_size bytes, little-endian, zeroed before. */
    void (*get_config)(VirtioDevice *d, u8 *config);
    /* The driver wrote `size` bytes (1, 2 or 4; within config_size) at `offset`. */
    void (*set_config)(VirtioDevice *d, u32 offset, unsigned size, u32 value);
    /* Appends lines "    ..." for info qtree. */
    void (*info)(VirtioDevice *d, GString *out);
};

/* Every class that -device offers, NULL-terminated. */
extern const VirtioClass *const virtio_classes[];

/* The class that a -device name means: "virtio-blk-device", "virtio-blk-pci" or "virtio-blk" (pci).
 * NULL if there is none. */
const VirtioClass *virtio_class_find(const char *device_name, bool *is_pci);

/* ---- Devices -------------------------------------------------------------------------------- */

struct VirtioDevice {
    const VirtioClass *class;
    GMutex lock;
    VirtioEnv env;
    PropDesc *props; /* all of this instance's */
    unsigned prop_count;
    bool ready; /* made whole */

    /* Properties that all have: those of virtio_props. */
    char *id, *bus;
    bool packed, event_idx, indirect_desc, queue_reset;
    /* Properties of PCI; rows are added by the transport (virtio_new's `extra`). */
    struct {
        char *addr;
        u64 vectors;
        unsigned disable_legacy;
        bool disable_modern, multifunction;
        char *romfile;
    } pci;

    u64 features;   /* offered */
    u64 negotiated; /* chosen by the driver so far; final once FEATURES_OK is set */
    u8 status;      /* enum VirtioStatus */
    u8 isr;         /* enum VirtioIsr: events not acknowledged yet */
    u8 config_generation;
    bool resetting;             /* a reset hook is running: registers ignore writes */
    VirtQueue *resetting_queue; /* the one that it is for; NULL: all */
    unsigned queue_count, config_size;
    VirtQueue *queues;  /* VIRTIO_MAX_QUEUES */
    u64 deferred;       /* queues to go on with in the main loop */
    guint defer_source; /* that does so; 0: none */

    /* Set by the transport. `queue` is the queue that has used buffers, -1 when the configuration
     * changed. The isr bit is set already. */
    void (*interrupt)(void *opaque, int queue);
    void *interrupt_opaque;
    /* The bus keeps the device from memory (PCI: no bus mastering): queues are left alone. */
    bool no_dma;
};

/* Makes a device from the text behind its name in -device ("drive=d0,serial=1"; NULL: none).
 * `extra` are the transport's own properties, whose places are in the VirtioDevice. NULL with a
 * sentence. The properties are freed with the device. */
VirtioDevice *virtio_new(const VirtioClass *class, const char *text, const PropDesc *extra,
                         unsigned extra_count, const VirtioEnv *env, GError **err);
/* Resets and frees; on the main loop's thread, when no hart runs. The transport is gone before. */
void virtio_free(VirtioDevice *d);
/* All properties of a class on mmio (or with a transport's), for help. g_free. */
PropDesc *virtio_props(const VirtioClass *class, const PropDesc *extra, unsigned extra_count,
                       unsigned *count);
/* For info qtree: features, status, queues and what the class adds. Takes the lock. */
void virtio_info(VirtioDevice *d, GString *out);

/* ---- For transports: the lock is held ------------------------------------------------------- */

/* Bits 32 * page to 32 * page + 31. Pages beyond 1 are zero. */
u32 virtio_features_read(const VirtioDevice *d, u32 page);
u32 virtio_driver_features_read(const VirtioDevice *d, u32 page);
/* Ignored once FEATURES_OK is set. */
void virtio_driver_features_write(VirtioDevice *d, u32 page, u32 bits);
/* Zero resets the device (d->status is 0 then, and the transport resets its own state). */
void virtio_status_write(VirtioDevice *d, u8 status);
/* Reset as by power-on or the machine's reset. */
void virtio_reset(VirtioDevice *d);
/* Takes events off d->isr; the transport lowers its line if that leaves none. */
void virtio_isr_ack(VirtioDevice *d, u8 bits);

/* Queue n, NULL if there is none. */
VirtQueue *virtio_queue(VirtioDevice *d, u32 n);
/* Queue n while its size and addresses may change; else NULL, and a guest error in the log. */
VirtQueue *virtio_queue_setup(VirtioDevice *d, u32 n);
/* The three addresses as both transports have them: six words of 32 bits, the low half first, of
 * descriptors, driver area and device area. `mask` has ones for the bits that are written, to queue
 * n while its set-up may change. */
u32 virtio_queue_address_read(const VirtQueue *q, unsigned word);
void virtio_queue_address_write(VirtioDevice *d, u32 n, unsigned word, u32 value, u32 mask);
/* Begins to use the queue (or stops), as size and addresses say. A queue that is set up wrongly
 * does not become ready, and the device needs a reset. */
void virtio_queue_set_ready(VirtQueue *q, bool ready);
/* RING_RESET: resets one queue; ignored unless negotiated. */
void virtio_queue_reset(VirtQueue *q);
/* QueueNotify was written with n. */
void virtio_queue_notify(VirtioDevice *d, u32 n);

/* The configuration space in words of 32 bits. `mask` covers the 1, 2 or 4 bytes of one access, as
 * in RegDesc.write. Bytes beyond the end read as zero; writes there are ignored. */
u32 virtio_config_read(VirtioDevice *d, u32 word);
void virtio_config_write(VirtioDevice *d, u32 word, u32 value, u32 mask);

/* ---- Queues: the lock is held --------------------------------------------------------------- */

typedef struct VirtqUsed {
    u16 id, count; /* of the buffer, and of its descriptors in the ring */
} VirtqUsed;

struct VirtQueue {
    VirtioDevice *dev;
    u16 index;
    u16 max; /* largest size that the driver may choose */

    /* Written by the driver through the transport while the queue is not ready. */
    u16 size;
    u64 desc, driver, device; /* guest addresses of the three areas */
    bool ready;               /* written by virtio_queue_set_ready */

    /* Of queue.c: where the areas are on the host, and how far we are. */
    void *desc_host, *driver_host, *device_host;
    u16 next_avail;             /* split: index, runs free; packed: slot */
    u16 next_used;              /* the same */
    bool avail_wrap, used_wrap; /* packed */
    u16 in_use;                 /* descriptors (packed) or buffers (split) popped and not pushed */
    u32 unsignalled; /* pushed (as in_use counts) since we last looked whether to interrupt */
    bool notify_off; /* we asked the driver not to notify */
    bool bounded;    /* queue_notify runs: at most `budget` pops more */
    u32 budget;
    u32 epoch; /* counts resets: elements of an earlier one are stale */
};

/* One buffer of the driver's: segments to read (out) come before segments to write (in). All of
 * them are guest RAM. in_addr are the guest addresses of the `in` segments. The device may advance
 * or cut `out` and `in` as it uses them up. */
typedef struct VirtqElement {
    VirtQueue *queue;
    VirtqUsed used;
    u32 epoch;
    unsigned out_count, in_count;
    size_t out_bytes, in_bytes;
    struct iovec *out, *in;
    const u64 *in_addr;
    const u32 *in_len; /* as popped */
    unsigned in_segments;
} VirtqElement;

/* Takes the next buffer. `size` is that of the device's own request struct, which begins with a
 * VirtqElement (0: just the element); what follows the element is zero. NULL: there is none at the
 * moment; then the driver has been asked to notify when there is (unless notifications are off).
 */
void *virtq_pop(VirtQueue *q, size_t size);
/* Whether a pop would find something. */
bool virtq_has_buffer(VirtQueue *q);
/* Puts back the element that was popped last, as if it never was. Frees it. */
void virtq_unpop(void *element);
/* Gives a buffer back to the driver, of whose `in` segments the first `written` bytes have been
 * written (more is cut to what there is). Frees it. The driver sees it at once; virtq_notify tells
 * it. */
void virtq_push(void *element, size_t written);
/* The same for n buffers, which become visible to the driver all at once (mergeable buffers). */
void virtq_push_many(void *const *elements, const size_t *written, unsigned n);
/* Interrupts the driver if it wants to know about what has been pushed since the last time. */
void virtq_notify(VirtQueue *q);
/* Frees an element that the driver shall not get back (in `reset`, or a device that is broken). */
void virtq_free(void *element);
/* Tells the driver whether notifications of new buffers are welcome; they are after a reset. Off is
 * a hint. Switching on returns whether buffers are there already, of which no notification comes.
 */
bool virtq_set_notifications(VirtQueue *q, bool on);

/* Copies from the `out` segments (to the `in` segments) at byte `offset`. Returns how many of the n
 * bytes there were. They look at the segments as they are now. */
size_t virtq_read(const VirtqElement *e, size_t offset, void *buf, size_t n);
size_t virtq_write(const VirtqElement *e, size_t offset, const void *buf, size_t n);

/* ---- For device classes: the lock is held --------------------------------------------------- */

static inline bool virtio_has(const VirtioDevice *d, unsigned feature)
{
    return d->negotiated >> feature & 1;
}

/* DRIVER_OK is set, the device works and reaches memory: queues may be used. */
static inline bool virtio_running(const VirtioDevice *d)
{
    return (d->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK &&
           (!d->resetting || d->resetting_queue) && !d->no_dma;
}

/* The configuration space changed: generation and interrupt. */
void virtio_config_changed(VirtioDevice *d);

/* Calls queue_notify if the device runs, with pops bounded as always: for host threads that found
 * something to go on with. */
void virtio_process(VirtioDevice *d, unsigned queue);

/* The driver did what it must not: logs, DEVICE_NEEDS_RESET (2.1.1). The device's requests under
 * way may end as usual. */
void virtio_broken(VirtioDevice *d, const char *format, ...) G_GNUC_PRINTF(2, 3);

#endif
