/*
 * What every device class must hold to, whatever it models: tests that know a device only by its
 * tables. A new class is under test as soon as it is in the registry.
 */
#include <check.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bits.h"
#include "devices/device.h"
#include "devices/goldfish_rtc.h"
#include "devices/plic.h"

static u64 fixed_time(void *opaque G_GNUC_UNUSED)
{
    return 0x123456789abcdef;
}

static void drive_source(Device *d, u64 random)
{
    IrqLine line = plic_source(d, random % 100);
    line.set(line.opaque, line.n, random >> 32 & 1);
}

/* What a device needs besides its tables to be exercised, and to behave the same twice: a
 * configuration, and something that happens at its other end, chosen by a random number. */
static const struct {
    const DeviceClass *class;
    const void *config;
    void (*poke)(Device *d, u64 random);
} surroundings[] = {
    {&goldfish_rtc_class, &(const RtcConfig){.now = fixed_time}, NULL},
    {&plic_class, NULL, drive_source},
};

static Device *make(int n)
{
    g_autoptr(GError) err = NULL;
    const DeviceClass *c = device_classes[n];
    const void *config = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(surroundings); i++) {
        config = surroundings[i].class == c ? surroundings[i].config : config;
    }
    Device *d = device_new(c, c->name, config, &err);
    ck_assert_msg(d != NULL, "%s: %s", c->name, err ? err->message : "");
    ck_assert_ptr_eq(device_class_find(c->name), c);
    return d;
}

static u64 reg_read(Device *d, u64 offset, unsigned size)
{
    u64 v = ~(u64)0;
    g_mutex_lock(&d->lock);
    bool ok = d->ops.read(d, offset, size, &v);
    g_mutex_unlock(&d->lock);
    if (!ok) { /* not ck_assert, which is slow: it tells the runner each time */
        ck_abort_msg("%s: read of 0x%x failed", d->name, (unsigned)offset);
    }
    return v;
}

static void reg_write(Device *d, u64 offset, unsigned size, u64 v)
{
    g_mutex_lock(&d->lock);
    bool ok = d->ops.write(d, offset, size, v);
    g_mutex_unlock(&d->lock);
    if (!ok) {
        ck_abort_msg("%s: write of 0x%x failed", d->name, (unsigned)offset);
    }
}

/* A small generator of its own, so that a failure repeats. */
static u64 random_state;
static u64 rnd(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Random accesses of every size, aligned to it as the bus does, near registers more often than not.
 * Returns a hash of all that was read. */
static u64 fuzz(Device *d, unsigned accesses)
{
    u64 hash = 0;
    for (unsigned i = 0; i < accesses; i++) {
        unsigned size = 1u << (rnd() % 4);
        u64 offset = rnd() % d->class->region_size;
        if (d->class->reg_count && rnd() % 4) {
            const RegDesc *r = &d->class->regs[rnd() % d->class->reg_count];
            offset = r->offset + rnd() % 8;
            if (r->stride) {
                offset += r->stride * (rnd() % r->count);
            }
            if (r->row_stride) {
                offset += (u64)r->row_stride * (rnd() % 4 ? rnd() % 4 : rnd() % r->rows);
            }
        }
        offset = ALIGN_DOWN(MIN(offset, d->class->region_size - size), size);
        if (rnd() % 2) {
            reg_write(d, offset, size, rnd() % 3 ? rnd() : rnd() % 128);
        } else {
            u64 v = reg_read(d, offset, size);
            if (v & ~mask64(8 * size)) {
                ck_abort_msg("%s: more than %u bytes at 0x%x", d->name, size, (unsigned)offset);
            }
            hash = hash * 0x100000001b3 + v;
        }
        u64 random = rnd();
        for (unsigned n = 0; n < ARRAY_LEN(surroundings); n++) {
            if (surroundings[n].class == d->class && surroundings[n].poke && random % 4 == 0) {
                surroundings[n].poke(d, rnd());
            }
        }
    }
    return hash;
}

static GByteArray *save(Device *d)
{
    GByteArray *a = g_byte_array_new();
    device_save(d, a);
    return a;
}

static void assert_same(const Device *d, const GByteArray *a, const GByteArray *b)
{
    ck_assert_msg(a->len == b->len && memcmp(a->data, b->data, a->len) == 0,
                  "%s: the states differ", d->class->name);
}

START_TEST(tables_are_sound)
{
    Device *d = make(_i);
    const DeviceClass *c = d->class;
    ck_assert_uint_gt(c->region_size, 0);
    ck_assert_uint_le(c->min_access, c->max_access);
    ck_assert(!c->fdt_name || c->compatible[0]);
    for (unsigned i = 0; i < c->reg_count; i++) {
        const RegDesc *r = &c->regs[i];
        u64 elements = (u64)MAX(r->count, 1) * MAX(r->rows, 1);
        ck_assert_msg(r->width == 1 || r->width == 2 || r->width == 4 || r->width == 8, "%s.%s",
                      c->name, r->name);
        ck_assert_uint_eq(r->offset % r->width, 0);
        u64 end = r->offset + (u64)(MAX(r->rows, 1) - 1) * r->row_stride +
                  (u64)(MAX(r->count, 1) - 1) * r->stride + r->width;
        ck_assert_msg(end <= c->region_size, "%s.%s lies outside", c->name, r->name);
        ck_assert_msg(r->at || r->read || r->write, "%s.%s does nothing", c->name, r->name);
        if (r->at) {
            ck_assert_uint_ge(r->at, sizeof(Device));
            ck_assert_uint_le(r->at + elements * r->width, c->instance_size);
            ck_assert_uint_eq((r->reset | r->wmask | r->w1c) & ~mask64(8 * r->width), 0);
            ck_assert_uint_eq(r->wmask & r->w1c, 0);
        }
        for (unsigned j = 0; j < i; j++) {
            ck_assert_str_ne(r->name, c->regs[j].name);
        }
    }
    for (unsigned i = 0; i < c->field_count; i++) {
        const StateField *f = &c->fields[i];
        ck_assert_uint_ge(f->at, sizeof(Device));
        ck_assert_uint_le(f->at + (u64)f->size * f->count, c->instance_size);
        ck_assert(f->size == 1 || f->size == 2 || f->size == 4 || f->size == 8);
        ck_assert(!f->max || f->reset <= f->max);
    }
    device_free(d);
}
END_TEST

/* Address of an element, or false if this device does not have it. */
static bool element(const Device *d, const RegDesc *r, unsigned row, unsigned column, u64 *offset)
{
    *offset = r->offset + (u64)row * r->row_stride + (u64)column * r->stride;
    return row < device_reg_rows(d, r) && column < device_reg_count(d, r);
}

START_TEST(registers_reset_and_mask)
{
    static const u64 patterns[] = {UINT64_MAX, 0, 0xa5a5a5a5a5a5a5a5, 0x5a5a5a5a5a5a5a5a};
    Device *d = make(_i);
    for (unsigned i = 0; i < d->class->reg_count; i++) {
        const RegDesc *r = &d->class->regs[i];
        unsigned rows = MIN(device_reg_rows(d, r), 3), columns = MIN(device_reg_count(d, r), 5);
        for (unsigned n = 0; r->at && !r->read && n < rows * columns; n++) {
            u64 offset;
            ck_assert(element(d, r, n / columns, n % columns, &offset));
            device_reset(d);
            ck_assert_msg(reg_read(d, offset, r->width) == r->reset, "%s.%s reset", d->name,
                          r->name);
            u64 value = r->reset;
            for (unsigned p = 0; p < ARRAY_LEN(patterns); p++) {
                u64 w = patterns[p] & mask64(8 * r->width);
                value = ((value & ~r->wmask) | (w & r->wmask)) & ~(w & r->w1c);
                reg_write(d, offset, r->width, w);
                u64 got = reg_read(d, offset, r->width);
                if (r->write) { /* effects may change more, but not what no write may change */
                    u64 fixed = ~(r->wmask | r->w1c);
                    ck_assert_msg((got & fixed) == (r->reset & fixed), "%s.%s mask", d->name,
                                  r->name);
                    value = got;
                } else {
                    ck_assert_msg(got == value, "%s.%s mask", d->name, r->name);
                }
            }
        }
    }
    device_free(d);
}
END_TEST

/* Narrow accesses reach their part of a register and leave the rest. */
START_TEST(narrow_accesses)
{
    Device *d = make(_i);
    for (unsigned i = 0; i < d->class->reg_count; i++) {
        const RegDesc *r = &d->class->regs[i];
        if (!r->at || r->read || r->write) {
            continue;
        }
        device_reset(d);
        u64 value = r->reset;
        for (unsigned b = 0; b < r->width; b++) {
            reg_write(d, r->offset + b, 1, 0xff);
            value |= r->wmask & (u64)0xff << (8 * b);
            value &= ~(r->w1c & (u64)0xff << (8 * b));
            ck_assert_uint_eq(reg_read(d, r->offset, r->width), value);
            ck_assert_uint_eq(reg_read(d, r->offset + b, 1), value >> (8 * b) & 0xff);
        }
    }
    device_free(d);
}
END_TEST

/* After any history, reset gives the state of a new device, up to what it is said to keep. */
START_TEST(reset_forgets)
{
    Device *used = make(_i), *fresh = make(_i);
    for (unsigned i = 0; i < used->class->field_count; i++) {
        if (used->class->fields[i].kind == FIELD_KEPT) {
            const StateField *f = &used->class->fields[i];
            memset((u8 *)used + f->at, 0x11, f->size * f->count);
            memset((u8 *)fresh + f->at, 0x11, f->size * f->count);
        }
    }
    GByteArray *b = save(fresh);
    device_reset(fresh);
    GByteArray *kept = save(fresh);
    assert_same(fresh, b, kept);

    random_state = 0x1234567;
    for (unsigned i = 0; i < 20; i++) {
        fuzz(used, 100);
        for (unsigned n = 0; n < used->class->field_count; n++) {
            const StateField *f = &used->class->fields[n];
            if (f->kind == FIELD_KEPT) {
                memset((u8 *)used + f->at, 0x11, f->size * f->count);
            }
        }
        device_reset(used);
        GByteArray *a = save(used);
        assert_same(used, a, b);
        g_byte_array_unref(a);
    }
    g_byte_array_unref(b);
    g_byte_array_unref(kept);
    device_free(used);
    device_free(fresh);
}
END_TEST

START_TEST(snapshot_round_trip)
{
    Device *a = make(_i), *b = make(_i);
    random_state = 0x9876543;
    for (unsigned i = 0; i < 20; i++) {
        g_autoptr(GError) err = NULL;
        fuzz(a, 200);
        fuzz(b, 20);
        GByteArray *sa = save(a);
        ck_assert_msg(device_load(b, sa->data, sa->len, &err), "%s", err ? err->message : "");
        GByteArray *sb = save(b);
        assert_same(a, sa, sb);
        /* The same state gives the same listing. */
        GString *la = g_string_new(NULL), *lb = g_string_new(NULL);
        device_info(a, la);
        device_info(b, lb);
        ck_assert_str_eq(la->str, lb->str);
        g_string_free(la, TRUE);
        g_string_free(lb, TRUE);
        g_byte_array_unref(sa);
        g_byte_array_unref(sb);
        /* Both behave alike from here on: nothing that matters was left out of the snapshot. */
        u64 start = random_state;
        u64 read_from_a = fuzz(a, 200);
        random_state = start;
        ck_assert_msg(fuzz(b, 200) == read_from_a, "%s reads differ", a->name);
        sa = save(a);
        sb = save(b);
        assert_same(a, sa, sb);
        g_byte_array_unref(sa);
        g_byte_array_unref(sb);
    }
    device_free(a);
    device_free(b);
}
END_TEST

/* Stored registers hold nothing that no write could have put there, fields nothing beyond their
 * limit. */
static void assert_in_range(const Device *d)
{
    for (unsigned i = 0; i < d->class->reg_count; i++) {
        const RegDesc *r = &d->class->regs[i];
        u64 elements = r->at ? (u64)MAX(r->count, 1) * MAX(r->rows, 1) : 0;
        for (u64 n = 0; n < elements; n++) {
            u64 v = 0;
            memcpy(&v, (const u8 *)d + r->at + n * r->width, r->width);
            bool in_use = n % MAX(r->count, 1) < device_reg_count(d, r) &&
                          n / MAX(r->count, 1) < device_reg_rows(d, r);
            if (in_use && (v ^ r->reset) & ~(r->wmask | r->w1c) & mask64(8 * r->width)) {
                ck_abort_msg("%s.%s is 0x%lx", d->name, r->name, (unsigned long)v);
            }
        }
    }
    for (unsigned i = 0; i < d->class->field_count; i++) {
        const StateField *f = &d->class->fields[i];
        for (u64 n = 0; f->max && n < f->count; n++) {
            u64 v = 0;
            memcpy(&v, (const u8 *)d + f->at + n * f->size, f->size);
            if (v > f->max) {
                ck_abort_msg("%s.%s is 0x%lx", d->name, f->name, (unsigned long)v);
            }
        }
    }
}

/* A refused snapshot changes nothing; an accepted one leaves a device that works. */
static void try_load(Device *d, const GByteArray *bad)
{
    g_autoptr(GError) err = NULL;
    GByteArray *before = save(d);
    /* An exact copy, so that a sanitizer sees reads beyond it. */
    u8 *copy = g_memdup2(bad->data, bad->len);
    if (device_load(d, copy, bad->len, &err)) {
        ck_assert_ptr_null(err);
        assert_in_range(d);
        fuzz(d, 50);
        assert_in_range(d);
    } else {
        ck_assert_ptr_nonnull(err);
        ck_assert_uint_gt(strlen(err->message), 10);
        GByteArray *after = save(d);
        assert_same(d, before, after);
        g_byte_array_unref(after);
    }
    g_free(copy);
    g_byte_array_unref(before);
}

START_TEST(snapshot_hostile)
{
    Device *d = make(_i);
    random_state = 0xabcdef01;
    fuzz(d, 500);
    GByteArray *good = save(d);

    for (unsigned i = 0; i < 400; i++) { /* truncated: always refused */
        g_autoptr(GError) err = NULL;
        unsigned len = i < 200 ? i % good->len : rnd() % good->len;
        u8 *copy = g_memdup2(good->data, len);
        ck_assert_msg(!device_load(d, copy, len, &err), "%s took %u bytes", d->name, len);
        ck_assert_ptr_nonnull(err);
        g_free(copy);
    }
    for (unsigned i = 0; i < MIN(good->len, 2000); i++) { /* one byte is as large as can be */
        u8 was = good->data[i];
        good->data[i] = 0xff;
        try_load(d, good);
        good->data[i] = was;
    }
    for (unsigned i = 0; i < 600; i++) { /* damaged, or too long */
        GByteArray *bad = g_byte_array_new();
        g_byte_array_append(bad, good->data, good->len);
        for (unsigned n = rnd() % 8 + 1; n; n--) {
            /* Often near the beginning and the end, where the structure is dense. */
            u64 where = rnd() % 3 == 0 ? rnd() % bad->len
                        : rnd() % 2    ? rnd() % MIN(bad->len, 64)
                                       : bad->len - 1 - rnd() % MIN(bad->len, 256);
            bad->data[where] = rnd();
        }
        if (rnd() % 10 == 0) {
            g_byte_array_append(bad, (const u8 *)"x", 1);
        }
        try_load(d, bad);
        g_byte_array_unref(bad);
    }
    g_autoptr(GError) err = NULL;
    ck_assert(device_load(d, good->data, good->len, &err));
    g_byte_array_append(good, (const u8 *)"", 1);
    ck_assert(!device_load(d, good->data, good->len, &err));
    g_byte_array_unref(good);

    /* Another class's. */
    for (unsigned n = 0; device_classes[n]; n++) {
        Device *other = make(n);
        GByteArray *s = save(other);
        g_autoptr(GError) e = NULL;
        ck_assert_int_eq(device_load(d, s->data, s->len, &e), (int)n == _i);
        g_byte_array_unref(s);
        device_free(other);
    }
    device_free(d);
}
END_TEST

START_TEST(mmio_fuzz)
{
    Device *d = make(_i);
    random_state = 0x5eed5eed;
    fuzz(d, 20000);
    /* Every offset at the ends of the region, every size. */
    for (u64 edge = 0; edge < 64; edge++) {
        for (unsigned size = 1; size <= 8; size *= 2) {
            u64 low = ALIGN_DOWN(edge, size);
            u64 high = ALIGN_DOWN(d->class->region_size - size - edge, size);
            reg_read(d, low, size);
            reg_write(d, low, size, rnd());
            reg_read(d, high, size);
            reg_write(d, high, size, rnd());
        }
    }
    device_free(d);
}
END_TEST

/* Lines follow the state: after connecting, reset and load they are driven as the state says. */
static void record(void *opaque, unsigned n, bool level)
{
    ((s8 *)opaque)[n] = level;
}

START_TEST(outputs_are_driven)
{
    Device *a = make(_i), *b = make(_i);
    s8 *la = g_malloc(a->output_count + 1), *lb = g_malloc(a->output_count + 1);
    memset(la, -1, a->output_count + 1);
    for (unsigned i = 0; i < a->output_count; i++) {
        device_connect(a, i, (IrqLine){record, la, i});
        device_connect(b, i, (IrqLine){record, lb, i});
        ck_assert_int_eq(la[i], 0);
    }
    random_state = 0xfeedface;
    for (unsigned round = 0; round < 50; round++) {
        fuzz(a, 50);
        GByteArray *s = save(a);
        memset(lb, -1, b->output_count + 1);
        ck_assert(device_load(b, s->data, s->len, NULL));
        for (unsigned i = 0; i < a->output_count; i++) {
            ck_assert_int_eq(la[i], lb[i]);
        }
        g_byte_array_unref(s);
        memset(lb, 1, b->output_count + 1);
        device_reset(b);
        for (unsigned i = 0; i < b->output_count; i++) {
            ck_assert_int_eq(lb[i], 0);
        }
    }
    device_free(a);
    device_free(b);
    g_free(la);
    g_free(lb);
}
END_TEST

START_TEST(fdt_node)
{
    static const u32 phandles[] = {21, 22};
    const DeviceFdt env = {
        .phandle = 5, .irq_parent = 9, .irq = 3, .hart_phandles = phandles, .hart_count = 2};
    u8 tree[4096];
    Device *d = make(_i);
    if (!d->class->fdt_name) { /* the bus finds it without the tree */
        device_free(d);
        return;
    }
    d->base = 0x12340000;
    ck_assert_int_eq(fdt_create_empty_tree(tree, sizeof(tree)), 0);
    ck_assert_int_eq(fdt_setprop_u32(tree, 0, "#address-cells", 2), 0);
    ck_assert_int_eq(fdt_setprop_u32(tree, 0, "#size-cells", 2), 0);
    int soc = fdt_add_subnode(tree, 0, "soc");
    ck_assert_int_gt(soc, 0);
    ck_assert_int_eq(device_fdt(d, tree, soc, &env), 0);
    ck_assert_int_eq(fdt_pack(tree), 0);
    ck_assert_int_eq(fdt_check_full(tree, fdt_totalsize(tree)), 0);

    g_autofree char *path = g_strdup_printf("/soc/%s@12340000", d->class->fdt_name);
    int node = fdt_path_offset(tree, path);
    ck_assert_msg(node > 0, "%s", path);
    int len;
    for (int i = 0; d->class->compatible[i]; i++) {
        const char *s = fdt_stringlist_get(tree, node, "compatible", i, &len);
        ck_assert_str_eq(s, d->class->compatible[i]);
    }
    const u8 *reg = fdt_getprop(tree, node, "reg", &len);
    ck_assert(reg && len >= 16 && len % 16 == 0);
    for (int i = 0; i < len; i += 16) {
        fdt64_t pair[2];
        memcpy(pair, reg + i, 16);
        u64 base = fdt64_to_cpu(pair[0]), size = fdt64_to_cpu(pair[1]);
        ck_assert(base >= d->base && base + size <= d->base + d->class->region_size && size > 0);
    }
    ck_assert_uint_eq(fdt_get_phandle(tree, node), 5);

    /* Too small a buffer, of any size: an error, not an overrun. */
    for (int size = 64; size < 1024; size += 4) {
        u8 *small = g_malloc(size);
        if (fdt_create_empty_tree(small, size) == 0) {
            int error = device_fdt(d, small, 0, &env);
            ck_assert(error == 0 || error == -FDT_ERR_NOSPACE);
        }
        g_free(small);
    }
    device_free(d);
}
END_TEST

int main(void)
{
    int classes = 0;
    while (device_classes[classes]) {
        classes++;
    }
    Suite *s = suite_create("devices, generic");
    TCase *t = tcase_create("every class");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, tables_are_sound, 0, classes);
    tcase_add_loop_test(t, registers_reset_and_mask, 0, classes);
    tcase_add_loop_test(t, narrow_accesses, 0, classes);
    tcase_add_loop_test(t, reset_forgets, 0, classes);
    tcase_add_loop_test(t, snapshot_round_trip, 0, classes);
    tcase_add_loop_test(t, snapshot_hostile, 0, classes);
    tcase_add_loop_test(t, mmio_fuzz, 0, classes);
    tcase_add_loop_test(t, outputs_are_driven, 0, classes);
    tcase_add_loop_test(t, fdt_node, 0, classes);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
