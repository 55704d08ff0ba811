/* Puts images, device tree and initrd into guest memory. See loader.h. */
#include "machine/loader.h"

#include <errno.h>
#include <inttypes.h>
#include <libfdt.h>
#include <string.h>
#include <unistd.h>

#include "core/base/bits.h"
#include "core/base/error.h"

typedef struct Placed {
    char *name;
    u64 first, last; /* inclusive */
} Placed;

struct Loader {
    Bus *bus;
    u64 ram_base, ram_size;
    GArray *placed; /* Placed */

    u64 overlay_base, overlay_size;
    bool (*overlay_write)(void *opaque, u64 offset, const void *bytes, u64 n);
    void *overlay;
};

static void placed_clear(void *p)
{
    g_free(((Placed *)p)->name);
}

Loader *loader_new(Bus *bus, u64 ram_base, u64 ram_size)
{
    Loader *l = g_new0(Loader, 1);
    l->bus = bus;
    l->ram_base = ram_base;
    l->ram_size = ram_size;
    l->placed = g_array_new(FALSE, FALSE, sizeof(Placed));
    g_array_set_clear_func(l->placed, placed_clear);
    return l;
}

void loader_free(Loader *loader)
{
    if (loader) {
        g_array_unref(loader->placed);
        g_free(loader);
    }
}

void loader_set_overlay(Loader *l, u64 base, u64 size,
                        bool (*write)(void *opaque, u64 offset, const void *bytes, u64 n),
                        void *opaque)
{
    l->overlay_base = base;
    l->overlay_size = size;
    l->overlay_write = write;
    l->overlay = opaque;
}

/* What has been placed in [first, last], or NULL. */
static const Placed *find_placed(const Loader *l, u64 first, u64 last)
{
    for (unsigned i = 0; i < l->placed->len; i++) {
        const Placed *p = &g_array_index(l->placed, Placed, i);
        if (p->first <= last && first <= p->last) {
            return p;
        }
    }
    return NULL;
}

/* How many bytes from `address` on, at most `size`, lie in one piece of memory; 0 if that is no
 * memory. */
static u64 piece_at(const Loader *l, u64 address, u64 size, bool *overlay)
{
    *overlay = address - l->overlay_base < l->overlay_size;
    if (*overlay) {
        return MIN(size, l->overlay_base + l->overlay_size - address);
    }
    const Region *r = bus_find(l->bus, address);
    return r && r->kind != REGION_MMIO ? MIN(size, r->size - (address - r->base)) : 0;
}

/* Whether all of [address, address + size) is memory. */
static bool is_memory(const Loader *l, u64 address, u64 size)
{
    bool overlay;
    u64 n;
    for (; size; address += n, size -= n) {
        n = piece_at(l, address, size, &overlay);
        if (!n) {
            return false;
        }
    }
    return true;
}

/* Writes memory: [address, address + size) is claimed. */
static bool write_memory(Loader *l, u64 address, const u8 *bytes, u64 size)
{
    while (size) {
        bool overlay;
        u64 n = piece_at(l, address, size, &overlay);
        if (!n || !(overlay ? l->overlay_write(l->overlay, address - l->overlay_base, bytes, n)
                            : bus_load(l->bus, address, bytes, n))) {
            return false;
        }
        address += n;
        bytes += n;
        size -= n;
    }
    return true;
}

bool loader_is_free(const Loader *l, u64 address, u64 size)
{
    return size && address >= l->ram_base && address - l->ram_base < l->ram_size &&
           size <= l->ram_size - (address - l->ram_base) && is_memory(l, address, size) &&
           !find_placed(l, address, address + size - 1);
}

/* Reserves [address, address + size) for `name`. */
static bool claim(Loader *l, const char *name, u64 address, u64 size, GError **err)
{
    if (size == 0) {
        return true;
    }
    if (!is_memory(l, address, size)) {
        return stag_error(err,
                          "%s does not fit: it needs %" PRIu64 " KiB of memory at 0x%" PRIx64
                          ", and the machine has %" PRIu64 " KiB at 0x%" PRIx64 " (see -m)",
                          name, size / 1024 + (size % 1024 != 0), address, l->ram_size >> 10,
                          l->ram_base);
    }
    const Placed *other = find_placed(l, address, address + size - 1);
    if (other) {
        return stag_error(err, "%s overlaps %s, which lies at 0x%" PRIx64 "-0x%" PRIx64, name,
                          other->name, other->first, other->last);
    }
    Placed p = {g_strdup(name), address, address + size - 1};
    g_array_append_val(l->placed, p);
    return true;
}

/* Makes claimed memory zero. Pages that are zero already are only read, so untouched ones cost no
 * host memory. */
static void clear(Loader *l, u64 address, u64 size)
{
    static const u8 zeros[4096];
    u8 now[sizeof(zeros)];
    while (size) {
        u64 n = MIN(size, sizeof(zeros) - (address & (sizeof(zeros) - 1)));
        if (!bus_dma_read(l->bus, address, now, n) || memcmp(now, zeros, n) != 0) {
            write_memory(l, address, zeros, n);
        }
        address += n;
        size -= n;
    }
}

bool loader_place_bytes(Loader *l, const char *name, u64 address, const void *bytes, u64 size,
                        GError **err)
{
    return claim(l, name, address, size, err) &&
           (write_memory(l, address, bytes, size) ||
            stag_error(err, "%s can't be written to memory at 0x%" PRIx64, name, address));
}

enum { LINKER_PAGE = 4096 };

/* The bytes at the start of a segment that need no memory. Linkers put the ELF's own headers into
 * the first segment: for a program linked to the start of RAM they come to lie in the page below
 * it, where nobody needs them. */
static u64 headers_below_memory(const Loader *l, const Image *image, const ImageSegment *s)
{
    u64 skip = LINKER_PAGE - s->address % LINKER_PAGE;
    return image->kind == IMAGE_ELF && s->offset == 0 && s->file_size >= skip &&
                   !is_memory(l, s->address, 1) && is_memory(l, s->address + skip, s->size - skip)
               ? skip
               : 0;
}

bool loader_place_image(Loader *l, const Image *image, const char *what, u64 address, GError **err)
{
    g_autofree char *name = g_strdup_printf("%s %s", what, image->name);
    const u8 *bytes = g_bytes_get_data(image->data, NULL);
    for (unsigned i = 0; i < image->segments->len; i++) {
        const ImageSegment *s = image_segment(image, i);
        u64 skip = headers_below_memory(l, image, s);
        u64 at = (image->kind == IMAGE_ELF ? s->address : address) + skip;
        if (!claim(l, name, at, s->size - skip, err)) {
            return false;
        }
        if (!write_memory(l, at, bytes + s->offset + skip, s->file_size - skip)) {
            return stag_error(err, "%s can't be written to memory at 0x%" PRIx64, name, at);
        }
        /* A Linux image's size beyond the file is memory that the kernel clears itself. */
        if (image->kind == IMAGE_ELF) {
            clear(l, at + s->file_size - skip, s->size - s->file_size);
        }
    }
    return true;
}

void loader_extent(const Image *image, u64 address, u64 *first, u64 *end)
{
    *first = ~(u64)0;
    *end = 0;
    for (unsigned i = 0; i < image->segments->len; i++) {
        const ImageSegment *s = image_segment(image, i);
        u64 at = image->kind == IMAGE_ELF ? s->address : address;
        *first = MIN(*first, at);
        *end = MAX(*end, s->size > ~(u64)0 - at ? ~(u64)0 : at + s->size);
    }
}

char *loader_find_firmware(bool rv32, GError **err)
{
    unsigned xlen = rv32 ? 32 : 64;
    g_autofree char *package =
        g_strdup_printf("/usr/lib/riscv%u-linux-gnu/opensbi/generic/fw_dynamic.bin", xlen);
    /* Where scripts/lib/guest-files unpacks the same package. */
    g_autofree char *cache =
        g_build_filename(g_get_user_cache_dir(), "stag", "guest", rv32 ? "opensbi32" : "opensbi",
                         "fw_dynamic.bin", NULL);
    if (access(package, R_OK) == 0) {
        return g_steal_pointer(&package);
    }
    if (access(cache, R_OK) == 0) {
        return g_steal_pointer(&cache);
    }
    stag_error(err,
               "the default firmware, OpenSBI for RV%u, is not there: install Debian's package "
               "'opensbi', or name a firmware with -bios FILE, or use -bios none",
               xlen);
    return NULL;
}

/* ---- -device loader ------------------------------------------------------------------------- */

static bool parse_u64(const char *key, const char *value, u64 max, u64 *out, GError **err)
{
    char *end;
    errno = 0;
    *out = g_ascii_strtoull(value, &end, 0);
    if (!g_ascii_isdigit(value[0]) || *end || errno || *out > max) {
        return stag_error(err, "-device loader: %s=%s is not a number from 0 to 0x%" PRIx64, key,
                          value, max);
    }
    return true;
}

static bool parse_bool(const char *key, const char *value, bool *out, GError **err)
{
    static const char *const words[2][3] = {{"off", "no", "false"}, {"on", "yes", "true"}};
    for (unsigned i = 0; i < 6; i++) {
        if (strcmp(value, words[i / 3][i % 3]) == 0) {
            *out = i / 3;
            return true;
        }
    }
    return stag_error(err, "-device loader: %s=%s must be on or off", key, value);
}

void loader_device_free(LoaderDevice *device)
{
    if (device) {
        g_free(device->file);
        g_free(device);
    }
}

LoaderDevice *loader_device_parse(const char *text, GError **err)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);
    if (!parts[0] || strcmp(parts[0], "loader") != 0) {
        stag_error(err, "-device: there is no device '%s' (-device help lists them)",
                   parts[0] ? parts[0] : "");
        return NULL;
    }
    LoaderDevice *d = g_new0(LoaderDevice, 1);
    bool ok = true;
    for (char **p = parts + 1; ok && *p; p++) {
        char *value = strchr(*p, '=');
        u64 number = 0;
        if (!value) {
            ok = stag_error(err, "-device loader: '%s' has no value (write %s=...)", *p, *p);
            break;
        }
        *value++ = '\0';
        const char *key = *p;
        if (strcmp(key, "file") == 0) {
            g_free(d->file);
            d->file = g_strdup(value);
        } else if (strcmp(key, "addr") == 0) {
            d->has_address = ok = parse_u64(key, value, G_MAXUINT64, &d->address, err);
        } else if (strcmp(key, "cpu-num") == 0) {
            d->has_cpu = ok = parse_u64(key, value, 4095, &number, err);
            d->cpu = (unsigned)number;
        } else if (strcmp(key, "data") == 0) {
            d->has_data = ok = parse_u64(key, value, G_MAXUINT64, &d->data, err);
        } else if (strcmp(key, "data-len") == 0) {
            ok = parse_u64(key, value, 8, &number, err);
            d->data_len = (unsigned)number;
        } else if (strcmp(key, "data-be") == 0) {
            ok = parse_bool(key, value, &d->data_be, err);
        } else if (strcmp(key, "force-raw") == 0) {
            ok = parse_bool(key, value, &d->force_raw, err);
        } else {
            ok = stag_error(
                err,
                "-device loader: there is no property '%s' (it takes file, addr, cpu-num, "
                "force-raw, data, data-len, data-be)",
                key);
        }
    }
    if (ok && d->has_data && (d->file || !d->has_address || d->data_len == 0)) {
        ok = stag_error(err, "-device loader: data needs addr and data-len (1 to 8), and no file");
    } else if (ok && !d->has_data && d->data_len) {
        ok = stag_error(err, "-device loader: data-len needs data");
    } else if (ok && !d->has_data && !d->file && !(d->has_address && d->has_cpu)) {
        ok = stag_error(err, "-device loader: give a file, or addr and data, or addr and cpu-num");
    }
    if (!ok) {
        loader_device_free(d);
        return NULL;
    }
    return d;
}

bool loader_device_load(Loader *l, const LoaderDevice *d, u64 *pc, GError **err)
{
    *pc = d->address;
    if (d->has_data) {
        u8 bytes[8];
        for (unsigned i = 0; i < d->data_len; i++) {
            unsigned at = d->data_be ? d->data_len - 1 - i : i;
            bytes[at] = (u8)(d->data >> (8 * i));
        }
        return loader_place_bytes(l, "-device loader's data", d->address, bytes, d->data_len, err);
    }
    if (!d->file) {
        return true;
    }
    g_autoptr(Image) image = image_open(d->file, "-device loader: file",
                                        l->ram_size + ((u64)1 << 30), d->force_raw, err);
    if (!image) {
        return false;
    }
    if (image->kind == IMAGE_ELF) {
        *pc = image->entry;
    } else if (!d->has_address) {
        return stag_error(err, "-device loader: %s is no ELF, so it needs addr=", d->file);
    }
    return loader_place_image(l, image, "-device loader: file", d->address, err);
}

/* ---- Device trees --------------------------------------------------------------------------- */

enum { DTB_LIMIT = 2 << 20 }; /* what Linux maps for it */
enum { FDT_VERSION_WITH_SIZES = 17 };

bool loader_check_dtb(const void *blob, u64 size, const char *name, GError **err)
{
    int e = size < sizeof(struct fdt_header) ? -FDT_ERR_TRUNCATED : fdt_check_header(blob);
    /* Older versions do not say how long their parts are, and libfdt reads beyond them. Nobody
     * writes them. */
    if (e == 0 && fdt_version(blob) < FDT_VERSION_WITH_SIZES) {
        e = -FDT_ERR_BADVERSION;
    }
    e = e ? e : fdt_check_full(blob, size);
    return e == 0 ||
           stag_error(err, "%s is not a sound device tree blob: %s", name, fdt_strerror(e));
}

void *loader_read_dtb(const char *path, u64 *size, GError **err)
{
    g_autoptr(GBytes) data = image_read_file(path, "device tree", DTB_LIMIT, err);
    if (!data) {
        return NULL;
    }
    gsize length;
    const void *bytes = g_bytes_get_data(data, &length);
    if (!loader_check_dtb(bytes, length, path, err)) {
        return NULL;
    }
    *size = fdt_totalsize(bytes);
    return g_memdup2(bytes, *size);
}
