/*
 * The loader's input: program files. Whatever parses keeps to the rules of machine/image.h, and
 * placing it touches the guest's memory only.
 */
#include <elf.h>
#include <string.h>
#include <zlib.h>

#include "machine/loader.h"
#include "softmmu/softmmu.h"
#include "tests/fuzz/fuzz.h"

#define RAM_BASE 0x80000000ull
#define RAM_SIZE (256u << 10)

static void place(Bus *bus, const Image *image)
{
    GError *err = NULL;
    Loader *loader = loader_new(bus, RAM_BASE, RAM_SIZE);
    gsize size = g_bytes_get_size(image->data);
    u64 first, end;
    for (unsigned i = 0; i < image->segments->len; i++) {
        const ImageSegment *s = image_segment(image, i);
        g_assert(s->offset <= size && s->file_size <= size - s->offset && s->file_size <= s->size);
    }
    loader_extent(image, RAM_BASE, &first, &end);
    g_assert(first <= end);
    if (loader_place_image(loader, image, "image", RAM_BASE, &err)) {
        g_assert(!err && first >= RAM_BASE && end <= RAM_BASE + RAM_SIZE);
    } else {
        g_assert(err && strlen(err->message) > 10);
        g_error_free(err);
    }
    loader_free(loader);
}

/* The first byte chooses: raw or not. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Bus *bus;
    GError *err = NULL;
    if (!bus) {
        mmu_layout_init(true);
        bus = bus_new();
        g_assert(bus_add_memory(bus, "ram", REGION_RAM, RAM_BASE, RAM_SIZE, &err));
    }
    if (size == 0) {
        return 0;
    }
    GBytes *bytes = image_unpack(g_bytes_new(data + 1, size - 1), "input", RAM_SIZE, &err);
    Image *image = bytes ? image_parse(bytes, "input", data[0] & 1, &err) : NULL;
    if (image) {
        g_assert(!err);
        place(bus, image);
        image_free(image);
    } else {
        g_assert(err && strlen(err->message) > 10);
        g_error_free(err);
    }
    return 0;
}

#define ELF_SAMPLE(n)                                                                              \
    static void add_elf##n(GPtrArray *samples)                                                     \
    {                                                                                              \
        static const char names[] = "\0tohost\0fromhost\0begin_signature";                         \
        u8 file[1024] = {0};                                                                       \
        Elf##n##_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS##n, ELFDATA2LSB, 1},          \
                           .e_type = ET_EXEC,                                                      \
                           .e_machine = EM_RISCV,                                                  \
                           .e_entry = 0x80000000,                                                  \
                           .e_phoff = sizeof(e),                                                   \
                           .e_phentsize = sizeof(Elf##n##_Phdr),                                   \
                           .e_phnum = 2,                                                           \
                           .e_shoff = 512,                                                         \
                           .e_shentsize = sizeof(Elf##n##_Shdr),                                   \
                           .e_shnum = 3};                                                          \
        Elf##n##_Phdr p[2] = {{.p_type = PT_LOAD,                                                  \
                               .p_offset = 768,                                                    \
                               .p_vaddr = 0x80000000,                                              \
                               .p_paddr = 0x80000000,                                              \
                               .p_filesz = 64,                                                     \
                               .p_memsz = 8192},                                                   \
                              {.p_type = PT_LOAD,                                                  \
                               .p_offset = 800,                                                    \
                               .p_vaddr = 0xc0000000,                                              \
                               .p_paddr = 0x80010000,                                              \
                               .p_filesz = 200,                                                    \
                               .p_memsz = 200}};                                                   \
        Elf##n##_Shdr sh[3] = {                                                                    \
            {0},                                                                                   \
            {.sh_type = SHT_SYMTAB,                                                                \
             .sh_offset = 832,                                                                     \
             .sh_link = 2,                                                                         \
             .sh_size = 3 * sizeof(Elf##n##_Sym),                                                  \
             .sh_entsize = sizeof(Elf##n##_Sym)},                                                  \
            {.sh_type = SHT_STRTAB, .sh_offset = 704, .sh_size = sizeof(names)}};                  \
        Elf##n##_Sym sym[3] = {{.st_name = 1, .st_value = 0x80001000, .st_shndx = 1},              \
                               {.st_name = 8, .st_value = 0x80001040, .st_shndx = 1},              \
                               {.st_name = 17, .st_value = 0x80002000, .st_shndx = 1}};            \
        memcpy(file + 1, &e, sizeof(e));                                                           \
        memcpy(file + 1 + sizeof(e), p, sizeof(p));                                                \
        memcpy(file + 1 + 512, sh, sizeof(sh));                                                    \
        memcpy(file + 1 + 704, names, sizeof(names));                                              \
        memcpy(file + 1 + 832, sym, sizeof(sym));                                                  \
        g_ptr_array_add(samples, g_bytes_new(file, sizeof(file)));                                 \
    }
ELF_SAMPLE(32)
ELF_SAMPLE(64)

void fuzz_samples(GPtrArray *samples)
{
    add_elf32(samples);
    add_elf64(samples);

    u8 linux_image[200] = {0};
    u64 image_size = 4096;
    memcpy(linux_image + 1, "MZ", 2);
    memcpy(linux_image + 1 + 16, &image_size, 8);
    memcpy(linux_image + 1 + 0x30, "RISCV\0\0", 8);
    g_ptr_array_add(samples, g_bytes_new(linux_image, sizeof(linux_image)));

    /* Both ELFs packed, and one of them as an EFI image that unpacks itself. */
    for (unsigned i = 0; i < 3; i++) {
        u8 packed[2048] = {0};
        gsize size, start = i == 2 ? 65 : 1;
        const u8 *elf = g_bytes_get_data(samples->pdata[i % 2], &size);
        z_stream z = {.next_in = (u8 *)elf + 1,
                      .avail_in = (uInt)size - 1,
                      .next_out = packed + start,
                      .avail_out = (uInt)(sizeof(packed) - start)};
        g_assert(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        g_assert(deflate(&z, Z_FINISH) == Z_STREAM_END);
        u32 payload[2] = {64, (u32)z.total_out};
        if (i == 2) {
            memcpy(packed + 1, "MZ\0\0zimg", 8);
            memcpy(packed + 1 + 8, payload, 8);
            memcpy(packed + 1 + 24, "gzip", 5);
        }
        g_ptr_array_add(samples, g_bytes_new(packed, start + z.total_out));
        deflateEnd(&z);
    }
}
