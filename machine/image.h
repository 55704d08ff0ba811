/*
 * Files that hold programs for the guest: ELF, Linux `Image`, raw bytes, and any of these
 * compressed with gzip. This half of the loader only reads: from bytes to a list of what goes
 * where. It touches no guest memory, and takes every offset and count in a file for a lie until it
 * has been checked, so it can be tested and fuzzed alone.
 *
 * Formats: ELF-64/32 object file format (System V ABI, chapters 4 and 5); Linux
 * Documentation/arch/riscv/boot-image-header.rst; RFC 1952 (gzip).
 */
#ifndef STAG_MACHINE_IMAGE_H
#define STAG_MACHINE_IMAGE_H

#include <glib.h>

#include "core/base/types.h"

typedef enum ImageKind { IMAGE_RAW, IMAGE_ELF, IMAGE_LINUX } ImageKind;

/* Symbols of an ELF that mean something to the machine. */
#define IMAGE_SYMBOLS(X)                                                                           \
    X(TOHOST, "tohost")                                                                            \
    X(FROMHOST, "fromhost")                                                                        \
    X(BEGIN_SIGNATURE, "begin_signature")                                                          \
    X(END_SIGNATURE, "end_signature")
enum {
#define X(id, name) IMAGE_##id,
    IMAGE_SYMBOLS(X)
#undef X
        IMAGE_SYMBOL_COUNT
};

typedef struct ImageSymbol {
    bool present;
    u64 value;
} ImageSymbol;

/* `size` bytes at guest physical `address`: file_size bytes of the file from `offset` on, then
 * zeros. offset + file_size lies within the data, file_size <= size, address + size does not wrap.
 */
typedef struct ImageSegment {
    u64 address, size;
    u64 offset, file_size;
} ImageSegment;

typedef struct Image {
    char *name;   /* for messages */
    GBytes *data; /* the file, unpacked */
    ImageKind kind;
    GArray *segments; /* ImageSegment; raw and Linux images: one, at address 0 (to be moved) */

    /* ELF */
    bool is64;
    u64 entry; /* physical */
    ImageSymbol symbols[IMAGE_SYMBOL_COUNT];

    /* Linux */
    u64 text_offset; /* where the image wants to be, from the start of RAM */
    u64 image_size;  /* bytes of memory it takes once it runs; >= the file's size */
} Image;

/* Reads a whole file of at most `limit` bytes. NULL with a sentence, which begins with `what`
 * ("kernel"). */
GBytes *image_read_file(const char *path, const char *what, u64 limit, GError **err);

/* Unpacks `data` if it is gzip, or a compressed EFI image ("zimg") around gzip; else returns it as
 * it is. Takes over the reference. At most `limit` bytes come out. NULL with a sentence. */
GBytes *image_unpack(GBytes *data, const char *name, u64 limit, GError **err);

/* Understands what is in `data`, unpacked already. Takes over the reference. With `raw` it is raw
 * bytes whatever it looks like. NULL with a sentence. */
Image *image_parse(GBytes *data, const char *name, bool raw, GError **err);

/* The three in a row. */
Image *image_open(const char *path, const char *what, u64 limit, bool raw, GError **err);
void image_free(Image *image);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, image_free)

static inline const ImageSegment *image_segment(const Image *image, unsigned i)
{
    return &g_array_index(image->segments, ImageSegment, i);
}

#endif
