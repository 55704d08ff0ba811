/*
 * The framework that every device model stands on. A device class is data: a table of registers
 * and a table of the other state. From these two tables come register access with write masks,
 * reset, snapshots, the names in logs and listings, and the generic tests that run over every
 * class. A class adds code only where a register does more than hold bits: its hooks.
 *
 * A device's instance is a struct that begins with a Device. All hooks run with the device's lock
 * held. Locks nest in one direction: a device may raise an interrupt line (which locks the
 * interrupt controller) or use its CharDev while it holds its lock; neither calls back while
 * holding its own.
 */
#ifndef STAG_DEVICES_DEVICE_H
#define STAG_DEVICES_DEVICE_H

#include <glib.h>

#include "core/base/types.h"
#include "softmmu/bus.h"

typedef struct Device Device;
typedef struct DeviceClass DeviceClass;

/* One wire: level-triggered, driven from any thread. An all-zero line is not connected. */
typedef struct IrqLine {
    void (*set)(void *opaque, unsigned n, bool level);
    void *opaque;
    unsigned n;
} IrqLine;

/* How a guest ends or restarts the machine (test finisher, HTIF). `code` is the guest's exit code.
 * Called with the device's lock held, from a hart's thread: it notes the wish and returns. */
typedef enum FinishKind { FINISH_POWEROFF, FINISH_FAIL, FINISH_RESET } FinishKind;
typedef void (*FinishFn)(void *opaque, FinishKind kind, int code);

/* One register, or an array (count, stride), or rows of arrays (rows, row_stride).
 *
 * A register with a place in the instance (`at`) is stored: reads give the stored value, writes
 * change the bits of `wmask`, and ones written to bits of `w1c` clear them; then the write hook
 * sees to the effects. A register without a place exists only through its hooks.
 *
 * Accesses narrower than a register reach a part of it; wider ones reach this register alone (the
 * rest reads as zero). Elements are numbered row * count + column. */
typedef struct RegDesc {
    const char *name;
    u32 offset; /* of the first byte, from the start of the device's region */
    u8 width;   /* bytes: 1, 2, 4 or 8 */
    u32 count, stride;
    u32 rows, row_stride;
    /* Offsets in the instance: of a u32 that says how many of count (rows) this device has (0:
     * all), and of the stored value, `width` bytes an element (0: not stored). */
    u32 count_at, rows_at;
    u32 at;
    u64 reset, wmask, w1c; /* of stored registers */
    /* The whole register's value. NULL: the stored value, or zero. */
    u64 (*read)(Device *d, unsigned index);
    /* Stored: called after storing, `value` is what is stored now. Not stored: `value` is what was
     * written. `mask` has ones for the bits that the access covered. */
    void (*write)(Device *d, unsigned index, u64 value, u64 mask);
} RegDesc;

typedef enum FieldKind {
    FIELD_STATE,  /* saved, set by reset */
    FIELD_KEPT,   /* saved, survives reset */
    FIELD_CONFIG, /* fixed when the device is made; a snapshot with another value is refused */
} FieldKind;

/* State that is not a stored register: one unsigned integer or an array of them. `max` is the
 * largest value that a snapshot may give an element; 0: any. */
typedef struct StateField {
    const char *name;
    u32 at, size, count;
    u64 reset, max;
    FieldKind kind;
} StateField;

#define FIELD(type, f, ...)                                                                        \
    {.name = #f, .at = offsetof(type, f), .size = sizeof(((type *)0)->f), .count = 1, __VA_ARGS__}
#define FIELD_ARRAY(type, f, ...)                                                                  \
    {.name = #f,                                                                                   \
     .at = offsetof(type, f),                                                                      \
     .size = sizeof(((type *)0)->f[0]),                                                            \
     .count = ARRAY_LEN(((type *)0)->f),                                                           \
     __VA_ARGS__}

/* What a device-tree node needs to know about its surroundings. Phandle 0 means none. */
typedef struct DeviceFdt {
    u32 phandle;              /* of this node */
    u32 irq_parent;           /* of the PLIC that the outputs go to; 0: no `interrupts` */
    u32 irq;                  /* its first output's number there; others follow */
    const u32 *hart_phandles; /* of the harts' own interrupt controllers, for PLIC and CLINT */
    unsigned hart_count;
} DeviceFdt;

struct DeviceClass {
    const char *name;
    size_t instance_size;
    u64 region_size;
    u8 min_access, max_access; /* as in MmioOps */
    const RegDesc *regs;
    unsigned reg_count;
    const StateField *fields;
    unsigned field_count;
    const char *fdt_name;          /* of the node, before @; NULL: no node (device_fdt) */
    const char *const *compatible; /* NULL-terminated */
    bool fdt_maps_interrupts;      /* the fdt hook describes them: no `interrupts` */

    /* All hooks may be NULL. */
    /* Takes the configuration (the class's own struct; NULL: defaults that work alone). */
    bool (*init)(Device *d, const void *config, GError **err);
    void (*finalize)(Device *d);
    /* Resets what is not in the tables; they have been reset before. */
    void (*reset)(Device *d);
    /* Derives interrupt lines and host timers from the state, after a reset and after loading. */
    void (*update)(Device *d);
    /* Puts the device on the bus, if there is more to it than one region of registers. */
    bool (*attach)(Device *d, Bus *bus, u64 base, GError **err);
    /* Adds properties beyond compatible, reg, phandle and interrupts. libfdt's error code. */
    int (*fdt)(Device *d, void *fdt, int node, const DeviceFdt *env);
};

struct Device {
    const DeviceClass *class;
    char *name; /* this device's, such as "serial0" */
    u64 base;   /* guest physical address, once attached */
    GMutex lock;
    MmioOps ops; /* register access; opaque is the Device, the lock must be held */
    struct DeviceOutput {
        IrqLine line;
        s8 level; /* last driven; -1: unknown */
    } *outputs;
    unsigned output_count;
};

/* Every class there is, NULL-terminated. */
extern const DeviceClass *const device_classes[];
const DeviceClass *device_class_find(const char *name);

/* Makes a device and resets it. `config` is the class's configuration struct or NULL; what it
 * points to (callbacks' opaques, CharDevs) must outlive the device. NULL with a sentence in *err
 * if the configuration is out of range. Free it on the thread of the main loop, when no hart runs.
 */
Device *device_new(const DeviceClass *class, const char *name, const void *config, GError **err);
void device_free(Device *d);

/* Puts the registers on the bus at `base`. */
bool device_attach(Device *d, Bus *bus, u64 base, GError **err);

/* Connects interrupt output n (0 <= n < output_count) and drives it low. */
void device_connect(Device *d, unsigned n, IrqLine line);

/* Power-on state; lowers all outputs that the reset state does not raise. */
void device_reset(Device *d);

/* Snapshot: appends the device's state to `out`; loads what device_save wrote from exactly `len`
 * bytes. Loading either succeeds or changes nothing: the data may be anything, and is refused with
 * a sentence unless it belongs to this class and configuration and every value is in range. */
void device_save(Device *d, GByteArray *out);
bool device_load(Device *d, const void *data, size_t len, GError **err);

/* Adds the device's node below `parent` (a node whose #address-cells and #size-cells are 2) to a
 * tree that is open for libfdt's read-write functions. Returns 0 or libfdt's negative error code;
 * -FDT_ERR_NOSPACE asks for a larger buffer. Offsets of other nodes are invalid afterwards. */
int device_fdt(Device *d, void *fdt, int parent, const DeviceFdt *env);

/* Appends one line per stored register and field that is not zero, without side effects. */
void device_info(Device *d, GString *out);

/* ---- For device models ---------------------------------------------------------------------- */

/* Gives the device n interrupt outputs; called by init, once. */
void device_make_outputs(Device *d, unsigned n);
/* Drives output n; lock held. */
void device_set_irq(Device *d, unsigned n, bool level);

/* How many elements and rows of a register this device has (1 for plain registers). */
unsigned device_reg_count(const Device *d, const RegDesc *r);
unsigned device_reg_rows(const Device *d, const RegDesc *r);

#endif
