/*
 * Reads program files; see image.h. Everything here works on a Span, bytes with a length: the few
 * accessors below are the only ones that look at a file's bytes, and they check.
 */
#include "machine/image.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "core/base/bits.h"
#include "core/base/error.h"

#ifndef EM_RISCV
#define EM_RISCV 243
#endif

enum { HUGE_PAGE = 2 << 20 };

typedef struct Span {
    const u8 *bytes;
    u64 size;
} Span;

/* Whether `count` things of `each` bytes from `offset` on lie within the span. */
static bool span_has(Span s, u64 offset, u64 count, u64 each)
{
    return offset <= s.size && (each == 0 || count <= (s.size - offset) / each);
}

/* The little-endian number of `size` bytes at `offset`, which the caller knows to be inside. */
static u64 span_le(Span s, u64 offset, unsigned size)
{
    u64 value = 0;
    g_assert(span_has(s, offset, size, 1));
    memcpy(&value, s.bytes + offset, size);
    return value;
}

static Span span_of(GBytes *data)
{
    gsize size;
    const u8 *bytes = g_bytes_get_data(data, &size);
    return (Span){bytes, size};
}

GBytes *image_read_file(const char *path, const char *what, u64 limit, GError **err)
{
    static const char *const too_large = "it is larger than the guest's memory";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        stag_error(err, "%s %s can't be opened: %s", what, path, g_strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return NULL;
    }
    if (S_ISDIR(st.st_mode)) {
        close(fd);
        stag_error(err, "%s %s is a directory", what, path);
        return NULL;
    }

    /* The size that fstat gives is only a hint: pipes have none, and files grow. One byte more than
     * expected is asked for, so that the end is seen without growing the buffer. */
    u64 room = S_ISREG(st.st_mode) && (u64)st.st_size <= limit ? (u64)st.st_size + 1 : 65536;
    u64 size = 0;
    u8 *buffer = g_try_malloc(room);
    if (buffer && room > 2 * HUGE_PAGE) { /* a kernel: spare it some thousand page faults */
        u64 first = ALIGN_UP((u64)(uintptr_t)buffer, HUGE_PAGE);
        u64 end = ALIGN_DOWN((u64)(uintptr_t)buffer + room, HUGE_PAGE);
        madvise((void *)(uintptr_t)first, end - first, MADV_HUGEPAGE);
    }
    const char *problem = buffer ? NULL : "there is not enough memory for it";
    if (S_ISREG(st.st_mode) && (u64)st.st_size > limit) {
        problem = too_large;
    }
    while (!problem) {
        if (size == room) {
            u8 *more = g_try_realloc(buffer, room * 2);
            if (!more) {
                problem = "there is not enough memory for it";
                break;
            }
            buffer = more;
            room *= 2;
        }
        ssize_t n = read(fd, buffer + size, room - size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            problem = g_strerror(errno);
        } else if (n == 0) {
            break;
        } else {
            size += (u64)n;
            if (size > limit) {
                problem = too_large;
            }
        }
    }
    close(fd);
    if (problem) {
        g_free(buffer);
        stag_error(err, "%s %s can't be read: %s", what, path, problem);
        return NULL;
    }
    return g_bytes_new_take(buffer, size);
}

/* Unpacks the gzip stream that starts at `s`. NULL with a sentence. */
static GBytes *gunzip(Span s, const char *name, u64 limit, GError **err)
{
    z_stream z = {0};
    if (inflateInit2(&z, 16 + MAX_WBITS) != Z_OK) {
        stag_error(err, "%s can't be unpacked: zlib does not start", name);
        return NULL;
    }
    GByteArray *out = g_byte_array_new();
    u8 *chunk = g_malloc(1 << 18);
    const char *problem = NULL;
    int status = Z_OK;
    u64 used = 0;
    while (status != Z_STREAM_END && !problem) {
        u32 step = (u32)MIN(s.size - used, (u64)1 << 24);
        z.next_in = (u8 *)s.bytes + used;
        z.avail_in = step;
        z.next_out = chunk;
        z.avail_out = 1 << 18;
        status = inflate(&z, Z_NO_FLUSH);
        used += step - z.avail_in;
        u32 got = (1u << 18) - z.avail_out;
        if (status != Z_OK && status != Z_STREAM_END) {
            problem =
                used == s.size && status == Z_BUF_ERROR ? "it ends too early" : "it is damaged";
        } else if (out->len + (u64)got > MIN(limit, G_MAXUINT32 / 2)) {
            problem = "what it holds is larger than the guest's memory";
        } else {
            g_byte_array_append(out, chunk, got);
        }
    }
    inflateEnd(&z);
    g_free(chunk);
    if (problem) {
        g_byte_array_unref(out);
        stag_error(err, "%s can't be unpacked: %s", name, problem);
        return NULL;
    }
    return g_byte_array_free_to_bytes(out);
}

static bool is_gzip(Span s)
{
    return span_has(s, 0, 3, 1) && s.bytes[0] == 0x1f && s.bytes[1] == 0x8b && s.bytes[2] == 8;
}

GBytes *image_unpack(GBytes *data, const char *name, u64 limit, GError **err)
{
    Span s = span_of(data);
    GBytes *out = NULL;
    if (is_gzip(s)) {
        out = gunzip(s, name, limit, err);
    } else if (span_has(s, 0, 32, 1) && memcmp(s.bytes, "MZ", 2) == 0 &&
               memcmp(s.bytes + 4, "zimg", 4) == 0) {
        /* Linux's self-unpacking EFI image: the payload's offset and size, then the name of the
         * compression. */
        u64 offset = span_le(s, 8, 4), size = span_le(s, 12, 4);
        if (memcmp(s.bytes + 24, "gzip", 5) != 0) {
            stag_error(
                err, "%s is an EFI image compressed with something else than gzip; unpack it first",
                name);
        } else if (!span_has(s, offset, size, 1)) {
            stag_error(err, "%s is damaged: its payload lies outside the file", name);
        } else {
            out = gunzip((Span){s.bytes + offset, size}, name, limit, err);
        }
    } else {
        return data;
    }
    g_bytes_unref(data);
    return out;
}

/* Where the fields of the two classes of ELF stand: offset and size of each. */
typedef struct ElfField {
    u8 offset, size;
} ElfField;
#define FIELD(type, member)                                                                        \
    {                                                                                              \
        offsetof(type, member), sizeof(((type *)0)->member)                                        \
    }
typedef struct ElfClass {
    ElfField entry, phoff, phentsize, phnum, shoff, shentsize, shnum;
    u8 header_size;
    ElfField p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
    u8 p_bytes;
    ElfField sh_type, sh_offset, sh_size, sh_link, sh_entsize;
    u8 sh_bytes;
    ElfField st_name, st_value, st_shndx;
    u8 st_bytes;
} ElfClass;
#define ELF_CLASS(n)                                                                               \
    {                                                                                              \
        FIELD(Elf##n##_Ehdr, e_entry), FIELD(Elf##n##_Ehdr, e_phoff),                              \
            FIELD(Elf##n##_Ehdr, e_phentsize), FIELD(Elf##n##_Ehdr, e_phnum),                      \
            FIELD(Elf##n##_Ehdr, e_shoff), FIELD(Elf##n##_Ehdr, e_shentsize),                      \
            FIELD(Elf##n##_Ehdr, e_shnum), sizeof(Elf##n##_Ehdr), FIELD(Elf##n##_Phdr, p_type),    \
            FIELD(Elf##n##_Phdr, p_offset), FIELD(Elf##n##_Phdr, p_vaddr),                         \
            FIELD(Elf##n##_Phdr, p_paddr), FIELD(Elf##n##_Phdr, p_filesz),                         \
            FIELD(Elf##n##_Phdr, p_memsz), sizeof(Elf##n##_Phdr), FIELD(Elf##n##_Shdr, sh_type),   \
            FIELD(Elf##n##_Shdr, sh_offset), FIELD(Elf##n##_Shdr, sh_size),                        \
            FIELD(Elf##n##_Shdr, sh_link), FIELD(Elf##n##_Shdr, sh_entsize),                       \
            sizeof(Elf##n##_Shdr), FIELD(Elf##n##_Sym, st_name), FIELD(Elf##n##_Sym, st_value),    \
            FIELD(Elf##n##_Sym, st_shndx), sizeof(Elf##n##_Sym)                                    \
    }
static const ElfClass elf_class[2] = {ELF_CLASS(32), ELF_CLASS(64)};

static u64 elf_get(Span s, u64 at, ElfField field)
{
    return span_le(s, at + field.offset, field.size);
}

static const char *const symbol_names[] = {
#define X(id, name) name,
    IMAGE_SYMBOLS(X)
#undef X
};

/* Collects the symbols of interest. A damaged or missing symbol table is no error: the program can
 * run without. */
static void parse_symbols(Image *image, Span s, const ElfClass *c)
{
    u64 shoff = elf_get(s, 0, c->shoff), shnum = elf_get(s, 0, c->shnum);
    u64 shentsize = elf_get(s, 0, c->shentsize);
    if (shoff == 0 || shentsize < c->sh_bytes || !span_has(s, shoff, shnum, shentsize)) {
        return;
    }
    for (u64 i = 0; i < shnum; i++) {
        u64 sh = shoff + i * shentsize;
        u64 link = elf_get(s, sh, c->sh_link);
        if (elf_get(s, sh, c->sh_type) != SHT_SYMTAB || link >= shnum) {
            continue;
        }
        u64 str = shoff + link * shentsize;
        u64 offset = elf_get(s, sh, c->sh_offset), size = elf_get(s, sh, c->sh_size);
        u64 each = elf_get(s, sh, c->sh_entsize);
        u64 names = elf_get(s, str, c->sh_offset), names_size = elf_get(s, str, c->sh_size);
        if (each < c->st_bytes || !span_has(s, offset, size, 1) ||
            !span_has(s, names, names_size, 1)) {
            continue;
        }
        for (u64 k = 0; k < size / each; k++) {
            u64 symbol = offset + k * each;
            u64 name = elf_get(s, symbol, c->st_name);
            if (name >= names_size || elf_get(s, symbol, c->st_shndx) == SHN_UNDEF) {
                continue;
            }
            for (unsigned n = 0; n < IMAGE_SYMBOL_COUNT; n++) {
                u64 length = strlen(symbol_names[n]) + 1;
                if (names_size - name >= length &&
                    memcmp(s.bytes + names + name, symbol_names[n], length) == 0) {
                    image->symbols[n] = (ImageSymbol){true, elf_get(s, symbol, c->st_value)};
                }
            }
        }
        return; /* a file has one symbol table */
    }
}

static bool parse_elf(Image *image, Span s, GError **err)
{
    const char *name = image->name;
    if (!span_has(s, 0, sizeof(Elf32_Ehdr), 1)) {
        return stag_error(err, "%s is damaged: its ELF header is cut off", name);
    }
    u8 class = s.bytes[EI_CLASS];
    if ((class != ELFCLASS32 && class != ELFCLASS64) || s.bytes[EI_DATA] != ELFDATA2LSB) {
        return stag_error(
            err, "%s is an ELF of an unknown class or byte order, not a RISC-V program", name);
    }
    const ElfClass *c = &elf_class[class == ELFCLASS64];
    image->is64 = class == ELFCLASS64;
    if (s.size < c->header_size) {
        return stag_error(err, "%s is damaged: its ELF header is cut off", name);
    }
    u64 machine = span_le(s, offsetof(Elf64_Ehdr, e_machine), 2);
    u64 type = span_le(s, offsetof(Elf64_Ehdr, e_type), 2);
    if (machine != EM_RISCV) {
        return stag_error(err, "%s is an ELF for another processor (e_machine %u), not for RISC-V",
                          name, (unsigned)machine);
    }
    if (type != ET_EXEC && type != ET_DYN) {
        return stag_error(
            err, "%s is not an executable ELF but an object or core file; link it first", name);
    }
    u64 phoff = elf_get(s, 0, c->phoff), phnum = elf_get(s, 0, c->phnum);
    u64 phentsize = elf_get(s, 0, c->phentsize);
    if (phnum && (phentsize < c->p_bytes || !span_has(s, phoff, phnum, phentsize))) {
        return stag_error(err, "%s is damaged: its program headers lie outside the file", name);
    }

    u64 top = image->is64 ? ~(u64)0 : 0xffffffff;
    u64 entry = elf_get(s, 0, c->entry);
    bool entry_found = false;
    for (u64 i = 0; i < phnum; i++) {
        u64 ph = phoff + i * phentsize;
        ImageSegment seg = {
            .address = elf_get(s, ph, c->p_paddr),
            .size = elf_get(s, ph, c->p_memsz),
            .offset = elf_get(s, ph, c->p_offset),
            .file_size = elf_get(s, ph, c->p_filesz),
        };
        u64 vaddr = elf_get(s, ph, c->p_vaddr);
        if (elf_get(s, ph, c->p_type) != PT_LOAD || seg.size == 0) {
            continue;
        }
        if (seg.file_size > seg.size || !span_has(s, seg.offset, seg.file_size, 1)) {
            return stag_error(err, "%s is damaged: segment %u lies outside the file", name,
                              (unsigned)i);
        }
        if (seg.size - 1 > top - seg.address) {
            return stag_error(err, "%s is damaged: segment %u wraps around the address space", name,
                              (unsigned)i);
        }
        /* The entry is a virtual address; execution starts at the same place in physical memory. */
        if (!entry_found && entry - vaddr < seg.size) {
            image->entry = entry - vaddr + seg.address;
            entry_found = true;
        }
        g_array_append_val(image->segments, seg);
    }
    if (image->segments->len == 0) {
        return stag_error(err, "%s has nothing to load: no PT_LOAD segment", name);
    }
    if (!entry_found) {
        image->entry = entry;
    }
    parse_symbols(image, s, c);
    return true;
}

enum { LINUX_MAGIC_AT = 0x30, LINUX_MAGIC2_AT = 0x38, LINUX_HEADER_SIZE = 0x40 };

Image *image_parse(GBytes *data, const char *name, bool raw, GError **err)
{
    Image *image = g_new0(Image, 1);
    Span s = span_of(data);
    image->name = g_strdup(name);
    image->data = data;
    image->segments = g_array_new(FALSE, TRUE, sizeof(ImageSegment));

    if (!raw && span_has(s, 0, SELFMAG, 1) && memcmp(s.bytes, ELFMAG, SELFMAG) == 0) {
        image->kind = IMAGE_ELF;
        if (!parse_elf(image, s, err)) {
            image_free(image);
            return NULL;
        }
        return image;
    }

    if (s.size == 0) {
        stag_error(err, "%s is empty", name);
        image_free(image);
        return NULL;
    }
    ImageSegment all = {.size = s.size, .file_size = s.size};
    if (!raw && s.size >= LINUX_HEADER_SIZE &&
        (memcmp(s.bytes + LINUX_MAGIC_AT, "RISCV\0\0", 8) == 0 ||
         memcmp(s.bytes + LINUX_MAGIC2_AT, "RSC\5", 4) == 0)) {
        image->kind = IMAGE_LINUX;
        image->text_offset = span_le(s, 8, 8);
        image->image_size = span_le(s, 16, 8);
        if (image->image_size < s.size) {
            image->image_size = s.size;
        }
        all.size = image->image_size;
    }
    g_array_append_val(image->segments, all);
    return image;
}

Image *image_open(const char *path, const char *what, u64 limit, bool raw, GError **err)
{
    GBytes *data = image_read_file(path, what, limit, err);
    if (data && !raw) {
        data = image_unpack(data, path, limit, err);
    }
    return data ? image_parse(data, path, raw, err) : NULL;
}

void image_free(Image *image)
{
    if (image) {
        g_array_unref(image->segments);
        g_bytes_unref(image->data);
        g_free(image->name);
        g_free(image);
    }
}
