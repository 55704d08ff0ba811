/*
 * The command line, in QEMU's spelling: one table gives parsing, --help and the suggestions for
 * misspelt names.
 */
#ifndef STAG_CLI_OPTIONS_H
#define STAG_CLI_OPTIONS_H

#include <glib.h>
#include <stdio.h>

#include "machine/machine.h"

typedef struct Cli {
    MachineOptions machine;
    char *log_file; /* -D */
    bool done; /* something was printed because the user asked for it (--help): end with status 0 */
} Cli;

void cli_init(Cli *cli);
void cli_clear(Cli *cli);

/* Parses argv[1..]. Text that the user asked for goes to `out`. False with a sentence. */
bool cli_parse(Cli *cli, int argc, char **argv, FILE *out, GError **err);

void cli_print_help(FILE *out);

/* The fewest insertions, deletions, replacements and swaps of neighbours that turn a into b. */
unsigned edit_distance(const char *a, const char *b);
/* A size such as "512M", "1.5G", "64K" in bytes; a plain number counts `unit`s. False if it is none
 * or 0 or above 2^62. */
bool parse_size(const char *text, u64 unit, u64 *bytes);

#endif
