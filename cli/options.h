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
    char *log_file;    /* -D */
    bool serial_given; /* -serial */
    bool done; /* something was printed because the user asked for it (--help): end with status 0 */
} Cli;

void cli_init(Cli *cli);
void cli_clear(Cli *cli);

/* Parses argv[1..]. Text that the user asked for goes to `out`. False with a sentence. */
bool cli_parse(Cli *cli, int argc, char **argv, FILE *out, GError **err);

void cli_print_help(FILE *out);
const char *cli_version(void);

#endif
