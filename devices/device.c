/*
 * What the tables of a device class mean. Register access finds the table row of an offset and
 * applies its masks. Everything else (reset, save, load, listing) walks the same sequence of
 * *items*: first the stored registers, then the state fields, each a rectangle of integers in the
 * instance.
 */
#include "devices/device.h"

#include <inttypes.h>
#include <libfdt.h>
#include <string.h>

#include "core/base/bits.h"
#include "core/base/error.h"
#include "core/base/log.h"

static u64 load_int(const u8 *p, unsigned size)
{
    u64 v = 0;
    memcpy(&v, p, size);
    return v;
}

static void store_int(u8 *p, unsigned size, u64 v)
{
    memcpy(p, &v, size);
}

/* ---- Registers ------------------------------------------------------------------------------ */

static u32 limited(const Device *d, u32 all, u32 limit_at)
{
    u32 n = all ? all : 1;
    if (limit_at) {
        u32 have = load_int((const u8 *)d + limit_at, 4);
        n = MIN(n, have);
    }
    return n;
}

unsigned device_reg_count(const Device *d, const RegDesc *r)
{
    return limited(d, r->count, r->count_at);
}

unsigned device_reg_rows(const Device *d, const RegDesc *r)
{
    return limited(d, r->rows, r->rows_at);
}

/* The register that holds the byte at `offset`, its element and the byte's place in it. */
static const RegDesc *find_reg(const Device *d, u64 offset, unsigned *index, unsigned *byte)
{
    for (unsigned i = 0; i < d->class->reg_count; i++) {
        const RegDesc *r = &d->class->regs[i];
        if (offset < r->offset) {
            continue;
        }
        u64 rest = offset - r->offset, row = 0, column = 0;
        if (r->row_stride) {
            row = rest / r->row_stride;
            rest %= r->row_stride;
        }
        if (r->stride) {
            column = rest / r->stride;
            rest %= r->stride;
        }
        if (rest < r->width && column < device_reg_count(d, r) && row < device_reg_rows(d, r)) {
            *index = row * MAX(r->count, 1) + column;
            *byte = rest;
            return r;
        }
    }
    return NULL;
}

static u8 *stored(Device *d, const RegDesc *r, unsigned index)
{
    return (u8 *)d + r->at + (size_t)index * r->width;
}

static bool mmio_read(void *opaque, u64 offset, unsigned size, u64 *value)
{
    Device *d = opaque;
    unsigned index, byte;
    const RegDesc *r = find_reg(d, offset, &index, &byte);
    u64 v = 0;

    if (!r) {
        log_guest_error("%s: read of %u bytes at 0x%" PRIx64 ", where no register is\n", d->name,
                        size, offset);
    } else if (r->read) {
        v = r->read(d, index);
    } else if (r->at) {
        v = load_int(stored(d, r, index), r->width);
    } else {
        log_guest_error("%s: read of the write-only register %s\n", d->name, r->name);
    }
    *value = r ? (v & mask64(8 * r->width)) >> (8 * byte) & mask64(8 * size) : 0;
    return true;
}

static bool mmio_write(void *opaque, u64 offset, unsigned size, u64 value)
{
    Device *d = opaque;
    unsigned index, byte;
    const RegDesc *r = find_reg(d, offset, &index, &byte);

    if (!r) {
        log_guest_error("%s: write of %u bytes at 0x%" PRIx64 ", where no register is\n", d->name,
                        size, offset);
        return true;
    }
    if (!r->write && !(r->at && (r->wmask | r->w1c))) {
        log_guest_error("%s: write to the read-only register %s\n", d->name, r->name);
        return true;
    }
    u64 mask = mask64(8 * size) << (8 * byte) & mask64(8 * r->width);
    value = value << (8 * byte) & mask;
    if (r->at) {
        u8 *p = stored(d, r, index);
        u64 m = mask & r->wmask;
        u64 cleared = value & r->w1c;
        value = ((load_int(p, r->width) & ~m) | (value & m)) & ~cleared;
        store_int(p, r->width, value);
    }
    if (r->write) {
        r->write(d, index, value, mask);
    }
    return true;
}

/* ---- Items: stored registers and fields alike ------------------------------------------------ */

typedef struct Item {
    const char *name;
    u8 *data;
    unsigned size;       /* bytes of an element */
    unsigned rows;       /* that this device has */
    unsigned count;      /* elements of a row that this device has */
    unsigned row_stride; /* elements from one row to the next */
    u64 reset;
    u64 changeable; /* bits that may differ from reset */
    u64 max;
    FieldKind kind;
} Item;

static bool item_at(Device *d, unsigned n, Item *it)
{
    const DeviceClass *c = d->class;
    for (unsigned i = 0; i < c->reg_count; i++) {
        const RegDesc *r = &c->regs[i];
        if (r->at && n-- == 0) {
            *it = (Item){
                .name = r->name,
                .data = (u8 *)d + r->at,
                .size = r->width,
                .rows = device_reg_rows(d, r),
                .count = device_reg_count(d, r),
                .row_stride = MAX(r->count, 1),
                .reset = r->reset,
                .changeable = r->wmask | r->w1c,
                .max = UINT64_MAX,
            };
            return true;
        }
    }
    if (n >= c->field_count) {
        return false;
    }
    const StateField *f = &c->fields[n];
    *it = (Item){
        .name = f->name,
        .data = (u8 *)d + f->at,
        .size = f->size,
        .rows = 1,
        .count = f->count,
        .reset = f->reset,
        .changeable = UINT64_MAX,
        .max = f->max ? f->max : UINT64_MAX,
        .kind = f->kind,
    };
    return true;
}

static u8 *item_element(const Item *it, unsigned row, unsigned column)
{
    return it->data + ((size_t)row * it->row_stride + column) * it->size;
}

/* ---- Life ----------------------------------------------------------------------------------- */

const DeviceClass *device_class_find(const char *name)
{
    for (const DeviceClass *const *c = device_classes; *c; c++) {
        if (strcmp((*c)->name, name) == 0) {
            return *c;
        }
    }
    return NULL;
}

Device *device_new(const DeviceClass *class, const char *name, const void *config, GError **err)
{
    Device *d = g_malloc0(class->instance_size);
    d->class = class;
    d->name = g_strdup(name);
    d->ops = (MmioOps){mmio_read, mmio_write, class->min_access, class->max_access};
    g_mutex_init(&d->lock);
    if (class->init && !class->init(d, config, err)) {
        device_free(d);
        return NULL;
    }
    device_reset(d);
    return d;
}

void device_free(Device *d)
{
    if (!d) {
        return;
    }
    if (d->class->finalize) {
        d->class->finalize(d);
    }
    g_mutex_clear(&d->lock);
    g_free(d->outputs);
    g_free(d->name);
    g_free(d);
}

bool device_attach(Device *d, Bus *bus, u64 base, GError **err)
{
    d->base = base;
    return d->class->attach ? d->class->attach(d, bus, base, err)
                            : bus_add_mmio(bus, d->name, base, d->class->region_size, &d->ops, d,
                                           &d->lock, err) != NULL;
}

/* ---- Interrupt outputs ------------------------------------------------------------------------
 */

void device_make_outputs(Device *d, unsigned n)
{
    d->outputs = g_new0(struct DeviceOutput, n);
    d->output_count = n;
}

void device_set_irq(Device *d, unsigned n, bool level)
{
    struct DeviceOutput *o = &d->outputs[n];
    if (o->level != level) {
        o->level = level;
        if (o->line.set) {
            o->line.set(o->line.opaque, o->line.n, level);
        }
    }
}

void device_connect(Device *d, unsigned n, IrqLine line)
{
    g_assert(n < d->output_count);
    g_mutex_lock(&d->lock);
    d->outputs[n] = (struct DeviceOutput){line, -1};
    device_set_irq(d, n, false);
    g_mutex_unlock(&d->lock);
}

/* Drives every line anew from the state, whatever the other end remembers. */
static void update_outputs(Device *d, bool lower)
{
    for (unsigned i = 0; i < d->output_count; i++) {
        d->outputs[i].level = -1;
        if (lower) {
            device_set_irq(d, i, false);
        }
    }
    if (d->class->update) {
        d->class->update(d);
    }
}

void device_reset(Device *d)
{
    Item it;
    g_mutex_lock(&d->lock);
    for (unsigned n = 0; item_at(d, n, &it); n++) {
        if (it.kind != FIELD_STATE) {
            continue;
        }
        for (unsigned row = 0; row < it.rows; row++) {
            for (unsigned i = 0; i < it.count; i++) {
                store_int(item_element(&it, row, i), it.size, it.reset);
            }
        }
    }
    if (d->class->reset) {
        d->class->reset(d);
    }
    update_outputs(d, true);
    g_mutex_unlock(&d->lock);
}

/* ---- Snapshots --------------------------------------------------------------------------------
 */

/* Layout, little-endian: the class's name, then per item its name, the size of an element (1 byte),
 * the number of elements (4 bytes) and the elements. A name is a length byte and the characters. */

static void put_name(GByteArray *out, const char *name)
{
    u8 length = strlen(name);
    g_byte_array_append(out, &length, 1);
    g_byte_array_append(out, (const u8 *)name, length);
}

void device_save(Device *d, GByteArray *out)
{
    Item it;
    g_mutex_lock(&d->lock);
    put_name(out, d->class->name);
    for (unsigned n = 0; item_at(d, n, &it); n++) {
        u8 size = it.size;
        u32 elements = it.rows * it.count;
        put_name(out, it.name);
        g_byte_array_append(out, &size, 1);
        g_byte_array_append(out, (const u8 *)&elements, 4);
        for (unsigned row = 0; row < it.rows; row++) {
            g_byte_array_append(out, item_element(&it, row, 0), it.count * it.size);
        }
    }
    g_mutex_unlock(&d->lock);
}

typedef struct Reader {
    const u8 *p, *end;
} Reader;

/* The next n bytes, or NULL if there are not that many. */
static const u8 *take(Reader *r, size_t n)
{
    const u8 *p = r->p;
    if ((size_t)(r->end - p) < n) {
        return NULL;
    }
    r->p += n;
    return p;
}

static bool take_name(Reader *r, const char *expected)
{
    size_t n = strlen(expected);
    const u8 *length = take(r, 1);
    const u8 *name = length && *length == n ? take(r, n) : NULL;
    return name && memcmp(name, expected, n) == 0;
}

/* Where the elements of `it` begin in the snapshot; NULL with a sentence if something is amiss. */
static const u8 *take_item(Reader *r, const Device *d, const Item *it, GError **err)
{
    if (!take_name(r, it->name)) {
        stag_error(err, "snapshot of %s: the state of '%s' is missing", d->name, it->name);
        return NULL;
    }
    const u8 *head = take(r, 5);
    if (!head || head[0] != it->size || load_int(head + 1, 4) != it->rows * it->count) {
        stag_error(err, "snapshot of %s: '%s' has another shape than in this machine", d->name,
                   it->name);
        return NULL;
    }
    const u8 *data = take(r, (size_t)it->rows * it->count * it->size);
    if (!data) {
        stag_error(err, "snapshot of %s ends within '%s'", d->name, it->name);
        return NULL;
    }
    for (unsigned i = 0; i < it->rows * it->count; i++) {
        u64 v = load_int(data + i * it->size, it->size);
        if ((v ^ it->reset) & ~it->changeable & mask64(8 * it->size) || v > it->max) {
            stag_error(err, "snapshot of %s: 0x%" PRIx64 " is no value for '%s'", d->name, v,
                       it->name);
            return NULL;
        }
    }
    if (it->kind == FIELD_CONFIG && memcmp(data, it->data, (size_t)it->count * it->size) != 0) {
        stag_error(err, "snapshot of %s: the machine it was taken from has another '%s'", d->name,
                   it->name);
        return NULL;
    }
    return data;
}

bool device_load(Device *d, const void *data, size_t len, GError **err)
{
    const u8 *bytes = data;
    Reader r = {bytes, bytes + len};
    Item it;

    if (!take_name(&r, d->class->name)) {
        return stag_error(err, "the snapshot of %s is not one of a %s", d->name, d->class->name);
    }
    g_mutex_lock(&d->lock);
    Reader first = r;
    bool ok = true;
    for (unsigned n = 0; ok && item_at(d, n, &it); n++) {
        ok = take_item(&r, d, &it, err) != NULL;
    }
    if (ok && r.p != r.end) {
        ok = stag_error(err, "snapshot of %s: more data than the device has state", d->name);
    }
    if (ok) {
        r = first;
        for (unsigned n = 0; item_at(d, n, &it); n++) {
            const u8 *p = take_item(&r, d, &it, NULL);
            for (unsigned row = 0; row < it.rows; row++) {
                memcpy(item_element(&it, row, 0), p, it.count * it.size);
                p += it.count * it.size;
            }
        }
        update_outputs(d, false);
    }
    g_mutex_unlock(&d->lock);
    return ok;
}

/* ---- Device tree and listing
 * -------------------------------------------------------------------- */

/* Properties one after the other: the first error sticks. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        int error_ = (call);                                                                       \
        if (error_ < 0) {                                                                          \
            return error_;                                                                         \
        }                                                                                          \
    } while (0)

int device_fdt(Device *d, void *fdt, int parent, const DeviceFdt *env)
{
    const DeviceClass *c = d->class;
    g_autofree char *name = g_strdup_printf("%s@%" PRIx64, c->fdt_name, d->base);
    int node = fdt_add_subnode(fdt, parent, name);

    TRY(node);
    for (const char *const *s = c->compatible; *s; s++) {
        TRY(fdt_appendprop_string(fdt, node, "compatible", *s));
    }
    TRY(fdt_appendprop_u64(fdt, node, "reg", d->base));
    TRY(fdt_appendprop_u64(fdt, node, "reg", c->region_size));
    if (env->phandle) {
        TRY(fdt_setprop_u32(fdt, node, "phandle", env->phandle));
    }
    if (env->irq_parent && d->output_count && !c->fdt_maps_interrupts) {
        TRY(fdt_setprop_u32(fdt, node, "interrupt-parent", env->irq_parent));
        for (unsigned i = 0; i < d->output_count; i++) {
            TRY(fdt_appendprop_u32(fdt, node, "interrupts", env->irq + i));
        }
    }
    return c->fdt ? c->fdt(d, fdt, node, env) : 0;
}

void device_info(Device *d, GString *out)
{
    Item it;
    g_mutex_lock(&d->lock);
    g_string_append_printf(out, "%s: %s at 0x%" PRIx64 "\n", d->name, d->class->name, d->base);
    for (unsigned n = 0; item_at(d, n, &it); n++) {
        for (unsigned row = 0; row < it.rows; row++) {
            for (unsigned i = 0; i < it.count; i++) {
                u64 v = load_int(item_element(&it, row, i), it.size);
                if (!v) {
                    continue;
                }
                g_string_append_printf(out, "  %s", it.name);
                if (it.rows > 1) {
                    g_string_append_printf(out, "[%u]", row);
                }
                if (it.count > 1) {
                    g_string_append_printf(out, "[%u]", i);
                }
                g_string_append_printf(out, " = 0x%" PRIx64 "\n", v);
            }
        }
    }
    for (unsigned i = 0; i < d->output_count; i++) {
        if (d->outputs[i].level == 1) {
            g_string_append_printf(out, "  interrupt output %u is high\n", i);
        }
    }
    g_mutex_unlock(&d->lock);
}
