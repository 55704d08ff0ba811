/*
 * The loader: what it makes of sound files, and that damaged ones give a sentence and never more.
 * Files are made here, in memory, by a writer for tiny ELFs that knows nothing of the code under
 * test.
 */
#include <check.h>
#include <elf.h>
#include <glib/gstdio.h>
#include <libfdt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "machine/loader.h"
#include "softmmu/softmmu.h"

#define RAM_BASE 0x80000000ull
#define RAM_SIZE (1ull << 20)

/* ---- Making files --------------------------------------------------------------------------- */

static const char strtab[] = "\0tohost\0fromhost\0begin_signature\0end_signature\0other";
static const char code[] = "code of the program";
enum {
    CODE_AT = 0x200,
    SYMTAB_AT = 0x300,
    STRTAB_AT = 0x400,
    SECTIONS_AT = 0x500,
    FILE_SIZE = 0x600
};

/* An executable whose one segment is linked at VADDR and loaded at RAM_BASE + 0x1000, with 64 bytes
 * of bss. */
#define VADDR 0xc0001000u
#define ELF_WRITER(n)                                                                              \
    static GByteArray *make_elf##n(void)                                                           \
    {                                                                                              \
        u8 file[FILE_SIZE] = {0};                                                                  \
        Elf##n##_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS##n, ELFDATA2LSB, EV_CURRENT}, \
                           .e_type = ET_EXEC,                                                      \
                           .e_machine = EM_RISCV,                                                  \
                           .e_version = EV_CURRENT,                                                \
                           .e_entry = VADDR + 4,                                                   \
                           .e_phoff = sizeof(e),                                                   \
                           .e_ehsize = sizeof(e),                                                  \
                           .e_phentsize = sizeof(Elf##n##_Phdr),                                   \
                           .e_phnum = 2,                                                           \
                           .e_shoff = SECTIONS_AT,                                                 \
                           .e_shentsize = sizeof(Elf##n##_Shdr),                                   \
                           .e_shnum = 2};                                                          \
        Elf##n##_Phdr p[2] = {{.p_type = PT_NOTE, .p_offset = 0xffffffff, .p_filesz = 0xffffffff}, \
                              {.p_type = PT_LOAD,                                                  \
                               .p_offset = CODE_AT,                                                \
                               .p_vaddr = VADDR,                                                   \
                               .p_paddr = RAM_BASE + 0x1000,                                       \
                               .p_filesz = sizeof(code),                                           \
                               .p_memsz = sizeof(code) + 64}};                                     \
        Elf##n##_Sym sym[4] = {{0},                                                                \
                               {.st_name = 1, .st_value = 0x80001010, .st_shndx = 1},              \
                               {.st_name = 8, .st_value = 0x80001018, .st_shndx = SHN_UNDEF},      \
                               {.st_name = 17, .st_value = 0x80001020, .st_shndx = SHN_ABS}};      \
        Elf##n##_Shdr sh[2] = {                                                                    \
            {.sh_type = SHT_SYMTAB,                                                                \
             .sh_offset = SYMTAB_AT,                                                               \
             .sh_size = sizeof(sym),                                                               \
             .sh_link = 1,                                                                         \
             .sh_entsize = sizeof(sym[0])},                                                        \
            {.sh_type = SHT_STRTAB, .sh_offset = STRTAB_AT, .sh_size = sizeof(strtab)}};           \
        memcpy(file, &e, sizeof(e));                                                               \
        memcpy(file + sizeof(e), p, sizeof(p));                                                    \
        memcpy(file + CODE_AT, code, sizeof(code));                                                \
        memcpy(file + SYMTAB_AT, sym, sizeof(sym));                                                \
        memcpy(file + STRTAB_AT, strtab, sizeof(strtab));                                          \
        memcpy(file + SECTIONS_AT, sh, sizeof(sh));                                                \
        return g_byte_array_append(g_byte_array_new(), file, sizeof(file));                        \
    }
ELF_WRITER(32)
ELF_WRITER(64)

static GByteArray *make_linux(u64 text_offset, u64 image_size)
{
    u8 file[256] = "MZ";
    memcpy(file + 8, &text_offset, 8);
    memcpy(file + 16, &image_size, 8);
    memcpy(file + 0x30, "RISCV\0\0", 8);
    memcpy(file + 0x38, "RSC\5", 4);
    return g_byte_array_append(g_byte_array_new(), file, sizeof(file));
}

static GByteArray *gzip(const void *data, gsize size)
{
    gsize room = size + 1024;
    GByteArray *out = g_byte_array_new();
    g_byte_array_set_size(out, (guint)room);
    z_stream z = {.next_in = (u8 *)data,
                  .avail_in = (uInt)size,
                  .next_out = out->data,
                  .avail_out = (uInt)room};
    ck_assert(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    ck_assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
    g_byte_array_set_size(out, (guint)z.total_out);
    deflateEnd(&z);
    return out;
}

/* ---- Using them ----------------------------------------------------------------------------- */

/* Parses a copy of exactly `size` bytes, so that a sanitizer sees reads beyond them. */
static Image *parse(const void *data, gsize size, bool raw, GError **err)
{
    return image_parse(g_bytes_new(data, size), "file", raw, err);
}

static void check_sentence(GError **err)
{
    ck_assert_ptr_nonnull(*err);
    ck_assert(strlen((*err)->message) > 10);
    ck_assert(!strchr((*err)->message, '\n'));
    g_clear_error(err);
}

/* What every image keeps to, whatever it was made from. */
static void check_image(const Image *image)
{
    gsize size = g_bytes_get_size(image->data);
    ck_assert(image->segments->len > 0);
    for (unsigned i = 0; i < image->segments->len; i++) {
        const ImageSegment *s = image_segment(image, i);
        ck_assert(s->offset <= size && s->file_size <= size - s->offset);
        ck_assert(s->file_size <= s->size);
        ck_assert(s->size - 1 <= ~(u64)0 - s->address);
    }
}

typedef struct Memory {
    Bus *bus;
    Loader *loader;
} Memory;

static Memory memory_new(void)
{
    Memory m = {.bus = bus_new()};
    GError *err = NULL;
    ck_assert(bus_add_memory(m.bus, "rom", REGION_ROM, 0x1000, 0x1000, &err));
    ck_assert(bus_add_memory(m.bus, "ram", REGION_RAM, RAM_BASE, RAM_SIZE, &err));
    m.loader = loader_new(m.bus, RAM_BASE, RAM_SIZE);
    return m;
}

static void memory_free(Memory *m)
{
    loader_free(m->loader);
    bus_free(m->bus);
}

/* ---- ELF ------------------------------------------------------------------------------------ */

static void check_elf(GByteArray *file, bool is64)
{
    GError *err = NULL;
    Image *image = parse(file->data, file->len, false, &err);
    ck_assert_ptr_nonnull(image);
    check_image(image);
    ck_assert(image->kind == IMAGE_ELF && image->is64 == is64);
    ck_assert_uint_eq(image->segments->len, 1);
    ck_assert_uint_eq(image->entry, RAM_BASE + 0x1004); /* from virtual to physical */
    ck_assert(image->symbols[IMAGE_TOHOST].present);
    ck_assert_uint_eq(image->symbols[IMAGE_TOHOST].value, 0x80001010);
    ck_assert(!image->symbols[IMAGE_FROMHOST].present); /* undefined */
    ck_assert_uint_eq(image->symbols[IMAGE_BEGIN_SIGNATURE].value, 0x80001020);
    ck_assert(!image->symbols[IMAGE_END_SIGNATURE].present);

    Memory m = memory_new();
    u8 dirty[128], now[sizeof(dirty)];
    memset(dirty, 0xee, sizeof(dirty));
    ck_assert(bus_load(m.bus, RAM_BASE + 0x1000, dirty, sizeof(dirty)));
    ck_assert(loader_place_image(m.loader, image, "kernel", 0, &err));
    ck_assert(bus_dma_read(m.bus, RAM_BASE + 0x1000, now, sizeof(now)));
    ck_assert(memcmp(now, code, sizeof(code)) == 0);
    for (unsigned i = sizeof(code); i < sizeof(now); i++) {
        ck_assert_uint_eq(now[i], i < sizeof(code) + 64 ? 0 : 0xee);
    }
    memory_free(&m);
    image_free(image);
    g_byte_array_unref(file);
}

START_TEST(elf)
{
    check_elf(make_elf64(), true);
    check_elf(make_elf32(), false);
}
END_TEST

/* Every prefix: without the segment's bytes it is an error, with them the symbols may be missing.
 */
START_TEST(elf_truncated)
{
    GByteArray *files[] = {make_elf32(), make_elf64()};
    for (unsigned f = 0; f < 2; f++) {
        for (unsigned size = 1; size < files[f]->len; size++) {
            GError *err = NULL;
            Image *image = parse(files[f]->data, size, false, &err);
            if (size < 4) {
                ck_assert(image && image->kind == IMAGE_RAW);
            } else if (size < CODE_AT + sizeof(code)) {
                ck_assert_ptr_null(image);
                check_sentence(&err);
            } else {
                ck_assert_ptr_nonnull(image);
                check_image(image);
                ck_assert(size < SECTIONS_AT + 80 ? !image->symbols[IMAGE_TOHOST].present : true);
            }
            image_free(image);
        }
        g_byte_array_unref(files[f]);
    }
}
END_TEST

/* Every bit flipped, and every 32-bit word replaced by a nasty one: an image that keeps the rules,
 * or a sentence; loading it succeeds or gives a sentence. */
START_TEST(elf_damaged)
{
    static const u32 nasty[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0};
    GByteArray *files[] = {make_elf32(), make_elf64()};
    Memory m = memory_new();
    for (unsigned f = 0; f < 2; f++) {
        u8 *data = files[f]->data;
        for (unsigned at = 0; at + 4 <= files[f]->len; at++) {
            u32 old, flip;
            memcpy(&old, data + at, 4);
            for (unsigned k = 0; k < 8 + ARRAY_LEN(nasty); k++) {
                flip = k < 8 ? old ^ 1u << k : nasty[k - 8];
                memcpy(data + at, &flip, 4);
                GError *err = NULL;
                Image *image = parse(data, files[f]->len, false, &err);
                if (image) {
                    check_image(image);
                    Loader *l = loader_new(m.bus, RAM_BASE, RAM_SIZE);
                    if (!loader_place_image(l, image, "kernel", RAM_BASE, &err)) {
                        check_sentence(&err);
                    }
                    loader_free(l);
                    image_free(image);
                } else {
                    check_sentence(&err);
                }
            }
            memcpy(data + at, &old, 4);
        }
        g_byte_array_unref(files[f]);
    }
    memory_free(&m);
}
END_TEST

/* As many symbol tables as a header can name, each of them the whole file: only the first counts, or
 * reading would take minutes. */
START_TEST(elf_many_symbols)
{
    enum { SECTIONS = 60000 };
    GByteArray *file = make_elf64();
    Elf64_Shdr sh = {.sh_type = SHT_SYMTAB, .sh_link = 1, .sh_entsize = sizeof(Elf64_Sym)};
    u16 count = SECTIONS;
    sh.sh_size = SECTIONS_AT + SECTIONS * sizeof(sh);
    memcpy(file->data + offsetof(Elf64_Ehdr, e_shnum), &count, sizeof(count));
    g_byte_array_set_size(file, SECTIONS_AT + 2 * sizeof(sh));
    for (unsigned i = 2; i < SECTIONS; i++) {
        g_byte_array_append(file, (const u8 *)&sh, sizeof(sh));
    }
    check_elf(file, true);
}
END_TEST

START_TEST(elf_refused)
{
    static const struct {
        unsigned at, value;
        const char *word;
    } cases[] = {
        {EI_CLASS, 3, "class"},     {EI_DATA, ELFDATA2MSB, "byte order"},
        {18, EM_X86_64, "another"}, {16, ET_REL, "not an executable"},
        {56, 0, "nothing to load"}, {54, 1, "program headers"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        GByteArray *file = make_elf64();
        GError *err = NULL;
        file->data[cases[i].at] = (u8)cases[i].value;
        ck_assert_ptr_null(parse(file->data, file->len, false, &err));
        ck_assert_ptr_nonnull(strstr(err->message, cases[i].word));
        check_sentence(&err);
        /* As raw bytes they are fine. */
        Image *raw = parse(file->data, file->len, true, &err);
        ck_assert(raw && raw->kind == IMAGE_RAW && image_segment(raw, 0)->size == file->len);
        image_free(raw);
        g_byte_array_unref(file);
    }
}
END_TEST

/* ---- Linux, raw, gzip ----------------------------------------------------------------------- */

START_TEST(linux_image)
{
    GError *err = NULL;
    GByteArray *file = make_linux(0x200000, 0x5000);
    Image *image = parse(file->data, file->len, false, &err);
    ck_assert(image && image->kind == IMAGE_LINUX);
    ck_assert_uint_eq(image->text_offset, 0x200000);
    ck_assert_uint_eq(image_segment(image, 0)->size, 0x5000);
    ck_assert_uint_eq(image_segment(image, 0)->file_size, file->len);
    u64 first, end;
    loader_extent(image, RAM_BASE, &first, &end);
    ck_assert(first == RAM_BASE && end == RAM_BASE + 0x5000);
    image_free(image);
    g_byte_array_unref(file);

    /* A size that wraps or that the machine does not have is found out when it is placed. */
    static const u64 sizes[] = {RAM_SIZE + 1, 1ull << 63, ~0ull};
    Memory m = memory_new();
    for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
        file = make_linux(~0ull, sizes[i]);
        image = parse(file->data, file->len, false, &err);
        ck_assert_ptr_nonnull(image);
        ck_assert(!loader_place_image(m.loader, image, "kernel", RAM_BASE, &err));
        ck_assert_ptr_nonnull(strstr(err->message, "does not fit"));
        check_sentence(&err);
        loader_extent(image, RAM_BASE, &first, &end);
        ck_assert(first == RAM_BASE && end > RAM_BASE);
        image_free(image);
        g_byte_array_unref(file);
    }
    memory_free(&m);
    ck_assert_ptr_null(parse("", 0, false, &err));
    check_sentence(&err);
}
END_TEST

START_TEST(unpack)
{
    GError *err = NULL;
    GByteArray *plain = make_elf64();
    GByteArray *packed = gzip(plain->data, plain->len);
    GBytes *out = image_unpack(g_bytes_new(packed->data, packed->len), "file", 1 << 20, &err);
    ck_assert_ptr_nonnull(out);
    ck_assert_uint_eq(g_bytes_get_size(out), plain->len);
    ck_assert(memcmp(g_bytes_get_data(out, NULL), plain->data, plain->len) == 0);
    g_bytes_unref(out);

    /* Cut off anywhere, flipped anywhere, or larger than allowed. */
    for (unsigned size = 3; size < packed->len; size++) {
        ck_assert_ptr_null(image_unpack(g_bytes_new(packed->data, size), "file", 1 << 20, &err));
        check_sentence(&err);
    }
    for (unsigned bit = 24; bit < packed->len * 8; bit++) {
        packed->data[bit / 8] ^= 1 << bit % 8;
        out = image_unpack(g_bytes_new(packed->data, packed->len), "file", 1 << 20, &err);
        if (out) {
            g_bytes_unref(out);
        } else {
            check_sentence(&err);
        }
        packed->data[bit / 8] ^= 1 << bit % 8;
    }
    ck_assert_ptr_null(
        image_unpack(g_bytes_new(packed->data, packed->len), "file", plain->len - 1, &err));
    ck_assert_ptr_nonnull(strstr(err->message, "larger"));
    check_sentence(&err);

    /* An EFI image that unpacks itself. */
    GByteArray *zimg = g_byte_array_new();
    g_byte_array_set_size(zimg, 64);
    memset(zimg->data, 0, 64);
    memcpy(zimg->data, "MZ\0\0zimg", 8);
    u32 place[2] = {64, packed->len};
    memcpy(zimg->data + 8, place, 8);
    memcpy(zimg->data + 24, "gzip", 5);
    g_byte_array_append(zimg, packed->data, packed->len);
    out = image_unpack(g_bytes_new(zimg->data, zimg->len), "file", 1 << 20, &err);
    ck_assert(out && g_bytes_get_size(out) == plain->len);
    g_bytes_unref(out);
    zimg->data[9] = 0xff; /* the payload's offset */
    ck_assert_ptr_null(image_unpack(g_bytes_new(zimg->data, zimg->len), "file", 1 << 20, &err));
    check_sentence(&err);
    memcpy(zimg->data + 24, "zstd", 5);
    ck_assert_ptr_null(image_unpack(g_bytes_new(zimg->data, zimg->len), "file", 1 << 20, &err));
    check_sentence(&err);
    g_byte_array_unref(zimg);
    g_byte_array_unref(packed);
    g_byte_array_unref(plain);
}
END_TEST

START_TEST(reading)
{
    GError *err = NULL;
    static const char *const bad[] = {"/nonexistent/file", "/", "/dev/zero"};
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_ptr_null(image_read_file(bad[i], "kernel", 1 << 20, &err));
        ck_assert_ptr_nonnull(strstr(err->message, "kernel"));
        check_sentence(&err);
    }
    /* The limit is inclusive, and a file of odd size comes whole. */
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("loader-XXXXXX", &path, &err);
    ck_assert(fd >= 0);
    g_autofree char *bytes = g_malloc0(100001);
    ck_assert(g_file_set_contents(path, bytes, 100001, &err));
    GBytes *data = image_read_file(path, "kernel", 100001, &err);
    ck_assert(data && g_bytes_get_size(data) == 100001);
    g_bytes_unref(data);
    ck_assert_ptr_null(image_read_file(path, "kernel", 100000, &err));
    check_sentence(&err);
    g_unlink(path);
    close(fd);
}
END_TEST

/* ---- Placing -------------------------------------------------------------------------------- */

START_TEST(placing)
{
    GError *err = NULL;
    Memory m = memory_new();
    u8 bytes[4096];
    memset(bytes, 0x5a, sizeof(bytes));
    ck_assert(loader_is_free(m.loader, RAM_BASE, RAM_SIZE));
    ck_assert(!loader_is_free(m.loader, RAM_BASE, RAM_SIZE + 1));
    ck_assert(!loader_is_free(m.loader, RAM_BASE - 1, 2));
    ck_assert(!loader_is_free(m.loader, 0x1000, 16)); /* ROM */
    ck_assert(!loader_is_free(m.loader, ~0ull, 16));
    ck_assert(loader_place_bytes(m.loader, "first", RAM_BASE + 0x100, bytes, 0x100, &err));
    ck_assert(!loader_is_free(m.loader, RAM_BASE + 0x1ff, 1));
    ck_assert(loader_is_free(m.loader, RAM_BASE + 0x200, 1));
    ck_assert(!loader_place_bytes(m.loader, "second", RAM_BASE + 0x1ff, bytes, 2, &err));
    ck_assert(strstr(err->message, "first") && strstr(err->message, "second"));
    check_sentence(&err);
    ck_assert(loader_place_bytes(m.loader, "the ROM", 0x1000, bytes, 4096, &err));
    ck_assert(!loader_place_bytes(m.loader, "behind the ROM", 0x2000 - 1, bytes, 2, &err));
    check_sentence(&err);
    ck_assert(
        !loader_place_bytes(m.loader, "across the end", RAM_BASE + RAM_SIZE - 1, bytes, 2, &err));
    check_sentence(&err);
    ck_assert(
        loader_place_bytes(m.loader, "the last byte", RAM_BASE + RAM_SIZE - 1, bytes, 1, &err));
    memory_free(&m);
}
END_TEST

static u8 overlay[16];
static bool write_overlay(void *opaque, u64 offset, const void *bytes, u64 n)
{
    ck_assert(opaque == overlay && offset + n <= sizeof(overlay));
    memcpy(overlay + offset, bytes, n);
    return true;
}

/* A device in the midst of memory gets its part of what lies across it. */
/* Programs linked to the start of RAM have their ELF headers in the page below it. */
START_TEST(headers_below)
{
    u8 file[0x1040] = {0};
    Elf64_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
                    .e_type = ET_EXEC, .e_machine = EM_RISCV, .e_version = EV_CURRENT,
                    .e_entry = RAM_BASE, .e_phoff = sizeof(e), .e_ehsize = sizeof(e),
                    .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 1};
    Elf64_Phdr p = {.p_type = PT_LOAD, .p_offset = 0, .p_vaddr = RAM_BASE - 0x1000,
                    .p_paddr = RAM_BASE - 0x1000, .p_filesz = sizeof(file), .p_memsz = 0x1080};
    memcpy(file, &e, sizeof(e));
    memcpy(file + sizeof(e), &p, sizeof(p));
    memcpy(file + 0x1000, code, sizeof(code));

    for (unsigned lower = 0; lower < 2; lower++) { /* one page lower there is no excuse */
        Bus *bus = bus_new();
        ck_assert(bus_add_memory(bus, "ram", REGION_RAM, RAM_BASE, RAM_SIZE, NULL));
        Loader *loader = loader_new(bus, RAM_BASE, RAM_SIZE);
        p.p_paddr = RAM_BASE - 0x1000 - 0x1000 * lower;
        memcpy(file + sizeof(e), &p, sizeof(p));
        GError *err = NULL;
        Image *image = image_parse(g_bytes_new(file, sizeof(file)), "program", false, &err);
        ck_assert(image && !err);
        ck_assert_int_eq(loader_place_image(loader, image, "kernel", 0, &err), !lower);
        ck_assert_int_eq(err != NULL, lower);
        char got[sizeof(code)] = "";
        ck_assert(bus_dma_read(bus, RAM_BASE, got, sizeof(got)));
        ck_assert_int_eq(memcmp(got, code, sizeof(code)) == 0, !lower);
        g_clear_error(&err);
        image_free(image);
        loader_free(loader);
        bus_free(bus);
    }
}
END_TEST

START_TEST(overlays)
{
    GError *err = NULL;
    Memory m = {.bus = bus_new()};
    ck_assert(bus_add_memory(m.bus, "low", REGION_RAM, RAM_BASE, 4096, &err));
    ck_assert(bus_add_memory(m.bus, "high", REGION_RAM, RAM_BASE + 8192, 4096, &err));
    m.loader = loader_new(m.bus, RAM_BASE, 12288);
    u8 bytes[12288], now[4096];
    for (unsigned i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (u8)(i * 7 + i / 256);
    }
    ck_assert(!loader_place_bytes(m.loader, "across", RAM_BASE, bytes, sizeof(bytes), &err));
    check_sentence(&err);
    loader_set_overlay(m.loader, RAM_BASE + 4096, sizeof(overlay), write_overlay, overlay);
    ck_assert(loader_place_bytes(m.loader, "into it", RAM_BASE + 4096 - 100, bytes, 116, &err));
    ck_assert(memcmp(overlay, bytes + 100, sizeof(overlay)) == 0);
    ck_assert(bus_dma_read(m.bus, RAM_BASE + 4096 - 100, now, 100) && memcmp(now, bytes, 100) == 0);
    memory_free(&m);
}
END_TEST

/* ---- -device loader ------------------------------------------------------------------------- */

START_TEST(devices)
{
    GError *err = NULL;
    static const char *const bad[] = {
        "",
        "load",
        "loader",
        "loader,addr",
        "loader,addr=",
        "loader,addr=-1",
        "loader,addr=1x",
        "loader,addr=0x10000000000000000",
        "loader,addr=1",
        "loader,addr=1,data=1",
        "loader,addr=1,data=1,data-len=9",
        "loader,data=1,data-len=4",
        "loader,addr=1,data-len=1,file=x",
        "loader,file=x,data=1,data-len=1,addr=1",
        "loader,cpu-num=0",
        "loader,file=x,force-raw=maybe",
        "loader,file=x,speed=1",
        "loader,cpu-num=4096,addr=0",
        "loader,,",
    };
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_msg(!loader_device_parse(bad[i], &err), "%s was taken", bad[i]);
        check_sentence(&err);
    }
    LoaderDevice *d =
        loader_device_parse("loader,file=/x=y,addr=0x80000000,cpu-num=3,force-raw=on", &err);
    ck_assert(d && d->has_address && d->has_cpu && d->force_raw && !d->has_data);
    ck_assert_str_eq(d->file, "/x=y");
    ck_assert(d->address == 0x80000000 && d->cpu == 3);
    loader_device_free(d);

    static const struct {
        const char *text;
        u8 bytes[8];
    } data[] = {
        {"loader,addr=0x80000010,data=0x01020304,data-len=4", {4, 3, 2, 1}},
        {"loader,addr=0x80000010,data=0x01020304,data-len=4,data-be=on", {1, 2, 3, 4}},
        {"loader,addr=0x80000010,data=0x0102030405060708,data-len=8", {8, 7, 6, 5, 4, 3, 2, 1}},
        {"loader,addr=0x80000010,data=0x1ff,data-len=1", {0xff}},
    };
    for (unsigned i = 0; i < ARRAY_LEN(data); i++) {
        Memory m = memory_new();
        u64 pc;
        u8 now[8];
        d = loader_device_parse(data[i].text, &err);
        ck_assert(d && loader_device_load(m.loader, d, &pc, &err));
        ck_assert(bus_dma_read(m.bus, 0x80000010, now, 8));
        ck_assert(memcmp(now, data[i].bytes, 8) == 0);
        loader_device_free(d);
        memory_free(&m);
    }
}
END_TEST

/* ---- Device trees --------------------------------------------------------------------------- */

START_TEST(device_trees)
{
    u8 blob[1024];
    GError *err = NULL;
    ck_assert(fdt_create_empty_tree(blob, sizeof(blob)) == 0);
    ck_assert(fdt_setprop_string(blob, 0, "model", "m") == 0 &&
              fdt_add_subnode(blob, 0, "a@1") > 0);
    ck_assert(fdt_pack(blob) == 0);
    u32 size = fdt_totalsize(blob);
    ck_assert(loader_check_dtb(blob, size, "tree", &err));
    for (u32 n = 0; n < size; n++) {
        g_autofree void *part = g_memdup2(blob, n); /* exactly n bytes, for a sanitizer to watch */
        ck_assert(!loader_check_dtb(part, n, "tree", &err));
        check_sentence(&err);
    }
    for (u32 bit = 0; bit < size * 8; bit++) {
        g_autofree u8 *flipped = g_memdup2(blob, size);
        flipped[bit / 8] ^= 1 << bit % 8;
        if (!loader_check_dtb(flipped, size, "tree", &err)) {
            check_sentence(&err);
        }
    }
}
END_TEST

int main(void)
{
    mmu_layout_init(true);
    Suite *s = suite_create("loader");
    TCase *t = tcase_create("loader");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, elf);
    tcase_add_test(t, elf_truncated);
    tcase_add_test(t, elf_damaged);
    tcase_add_test(t, elf_many_symbols);
    tcase_add_test(t, elf_refused);
    tcase_add_test(t, linux_image);
    tcase_add_test(t, unpack);
    tcase_add_test(t, reading);
    tcase_add_test(t, placing);
    tcase_add_test(t, headers_below);
    tcase_add_test(t, overlays);
    tcase_add_test(t, devices);
    tcase_add_test(t, device_trees);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
