/* The keys of -drive: QEMU's names, each with what Stag does about it. What QEMU knows and Stag does
 * not have is refused by a sentence, so that a command line never means something else. */
#include <string.h>

#include "core/base/error.h"
#include "devices/block/block.h"

static const char *const interfaces[] = {"virtio", "none", NULL};
static const char *const medias[] = {"disk", "cdrom", NULL};
static const char *const caches[] = {"writeback",    "none",       "unsafe",
                                     "writethrough", "directsync", NULL};
static const char *const aios[] = {"auto", "threads", "io_uring", "native", NULL};
static const char *const discards[] = {"unmap", "on", "ignore", "off", NULL};
static const char *const only_off[] = {"off", NULL};
static const char *const only_report[] = {"report", NULL};
static const char *const lockings[] = {"auto", "on", "off", NULL};

enum { MEDIA_CDROM = 1, AIO_NATIVE = 3, MAX_INDEX = 255 };

#define AT(f) .at = offsetof(BlockDrive, f)

const PropDesc block_drive_props[] = {
    {"file", PROP_STRING, AT(file), .help = "the image: a file or a block device"},
    {"format", PROP_STRING, AT(format), .help = "of the image: raw is what there is"},
    {"if", PROP_ENUM, AT(interface), "virtio", "the device to make: none is for -device ...,drive=",
     .choices = interfaces},
    {"id", PROP_STRING, AT(id), .help = "name for drive= and the monitor"},
    {"cache", PROP_ENUM, AT(cache), "writeback", "the host's page cache, and when writes count",
     .choices = caches},
    {"aio", PROP_ENUM, AT(aio), "auto", "who does the I/O", .choices = aios},
    {"discard", PROP_ENUM, AT(discard), "unmap", "unmap: what the guest discards becomes holes",
     .choices = discards},
    {"detect-zeroes", PROP_ENUM, AT(detect_zeroes), "off", "written zeroes stay written",
     .choices = only_off},
    {"readonly", PROP_BOOL, AT(readonly), "off", "the guest can't write"},
    {"read-only", PROP_BOOL, AT(readonly), NULL, "the same"},
    {"snapshot", PROP_BOOL, AT(snapshot), "off", "writes go to a temporary file, lost at the end"},
    {"media", PROP_ENUM, AT(media), "disk", "cdrom: read-only", .choices = medias},
    {"index", PROP_UINT, AT(index), NULL, "place among the drives", 0, MAX_INDEX},
    {"serial", PROP_STRING, AT(serial), .help = "serial number that the guest sees"},
    {"file.locking", PROP_ENUM, AT(locking), "auto", "off: no lock against a second use",
     .choices = lockings},
    {"werror", PROP_ENUM, AT(werror), "report", "failed writes are the guest's to handle",
     .choices = only_report},
    {"rerror", PROP_ENUM, AT(rerror), "report", "failed reads, too", .choices = only_report},
};
const unsigned block_drive_prop_count = ARRAY_LEN(block_drive_props);

void block_drive_clear(BlockDrive *drive)
{
    props_clear(block_drive_props, block_drive_prop_count, drive);
}

/* What the table alone can't say. */
static bool check(const BlockDrive *d, GError **err)
{
    if (!d->file || !*d->file) {
        return stag_error(err, "-drive: there is no file=; say which image, such as "
                               "file=disk.img,format=raw,if=virtio");
    }
    if (d->format && strcmp(d->format, "raw") != 0) {
        return stag_error(err,
                          "-drive: Stag has no format=%s, only raw; convert the image first: "
                          "qemu-img convert -O raw %s disk.raw",
                          d->format, d->file);
    }
    if (d->aio == AIO_NATIVE) {
        return stag_error(err, "-drive: aio=native (Linux AIO) is not in Stag; use aio=io_uring, "
                               "aio=threads, or leave it to Stag");
    }
    return true;
}

bool block_drive_parse(const char *text, BlockDrive *drive, GError **err)
{
    *drive = (BlockDrive){0};
    if (!props_parse(block_drive_props, block_drive_prop_count, "-drive", text, drive, err)) {
        return false;
    }
    if (!check(drive, err)) {
        block_drive_clear(drive);
        return false;
    }
    g_autofree char *index = props_find(text, "index");
    drive->has_index = index != NULL;
    drive->readonly |= drive->media == MEDIA_CDROM;
    return true;
}

char *block_drive_hd(const char *file, unsigned index)
{
    GString *text = g_string_new("file=");
    for (; *file; file++) {
        g_string_append_len(text, ",,", *file == ',');
        g_string_append_c(text, *file);
    }
    g_string_append_printf(text, ",index=%u,media=disk", index);
    return g_string_free(text, FALSE);
}
