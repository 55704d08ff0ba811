/*
 * Prints instructions for check_rows.py: for every row of the decoder that exists at an XLEN, some random
 * encodings that mean this row, laid out one after the other from address 0.
 *
 *   print_rows 32|64 SEED PER_ROW
 *
 * A line: row index, mnemonic, extensions (joined by & or |), format, length, hexadecimal bits, address, text.
 */
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>

#include "frontend-riscv/decode.h"
#include "frontend-riscv/frontend.h"

enum { MAX_TRIES = 10000 };

static void print_extensions(const RiscvRow *row)
{
    const char *separator = "";
    for (unsigned i = 0; i < RISCV_EXT_COUNT; i++) {
        if (row->ext >> i & 1) {
            printf("%s%s", separator, riscv_ext_info[i].name);
            separator = row->ext_any ? "|" : "&";
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: print_rows 32|64 SEED PER_ROW\n");
        return 2;
    }
    bool rv32 = atoi(argv[1]) == 32;
    GRand *random = g_rand_new_with_seed((guint32)strtoul(argv[2], NULL, 0));
    int per_row = atoi(argv[3]);
    HartModel *model = riscv_model_new(rv32 ? "max32" : "max", NULL);
    u64 pc = 0;

    for (unsigned i = 0; i < riscv_row_count; i++) {
        const RiscvRow *row = &riscv_rows[i];
        if (!(rv32 ? row->rv32 : row->rv64)) {
            continue;
        }
        for (int n = 0; n < per_row; n++) {
            u32 insn;
            int tries = 0;
            do {
                if (tries++ == MAX_TRIES) {
                    fprintf(stderr, "%s: no encoding means this row\n", row->name);
                    return 1;
                }
                insn = (g_rand_int(random) & ~row->mask) | row->match;
                insn &= row->length == 2 ? 0xffff : 0xffffffff;
            } while (riscv_decode(insn, model->ext, rv32) != (int)i);
            char text[128];
            riscv_disassemble(model, insn, pc, text, sizeof(text));
            printf("%u\t%s\t", i, row->name);
            print_extensions(row);
            printf("\t%s\t%u\t%x\t%" G_GINT64_MODIFIER "x\t%s\n", riscv_format_name[row->format], row->length,
                   insn, pc, text);
            pc += row->length;
        }
    }
    g_rand_free(random);
    g_free(model);
    return 0;
}
