/* A device tree of the user's: it is refused, or -append and -initrd can be written into it and the
 * result is sound. */
#include <libfdt.h>
#include <string.h>

#include "machine/board.h"
#include "machine/loader.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    GError *err = NULL;
    if (!loader_check_dtb(data, size, "input", &err)) {
        g_assert(err && strlen(err->message) > 10);
        g_error_free(err);
        return 0;
    }
    BoardTree tree = {.append = "console=ttyS0", .initrd_start = 1, .initrd_end = 2};
    u64 patched_size = 0;
    void *patched =
        board_patch_tree(g_memdup2(data, fdt_totalsize(data)), &tree, &patched_size, &err);
    if (patched) {
        g_assert(!err && fdt_check_full(patched, patched_size) == 0);
        const char *words =
            fdt_getprop(patched, fdt_path_offset(patched, "/chosen"), "bootargs", NULL);
        g_assert(words && strcmp(words, tree.append) == 0);
        g_free(patched);
    } else {
        g_assert(err && strlen(err->message) > 10);
        g_error_free(err);
    }
    return 0;
}

void fuzz_samples(GPtrArray *samples)
{
    for (unsigned i = 0; i < 3; i++) {
        u8 fdt[2048];
        g_assert(fdt_create_empty_tree(fdt, sizeof(fdt)) == 0);
        fdt_setprop_string(fdt, 0, "compatible", "riscv-virtio");
        fdt_setprop_u32(fdt, 0, "#address-cells", 2);
        if (i > 0) {
            int chosen = fdt_add_subnode(fdt, 0, "chosen");
            fdt_setprop_string(fdt, chosen, "bootargs", "quiet");
        }
        for (unsigned k = 0; i == 2 && k < 8; k++) {
            char name[] = "soc@0";
            name[4] = (char)('0' + k);
            int node = fdt_add_subnode(fdt, 0, name);
            fdt_setprop_u64(fdt, node, "reg", k);
            fdt_add_subnode(fdt, node, "inner");
        }
        fdt_add_mem_rsv(fdt, 0x1000, 0x1000);
        g_assert(fdt_pack(fdt) == 0);
        g_ptr_array_add(samples, g_bytes_new(fdt, fdt_totalsize(fdt)));
    }
}
