/*
 * The program: options in, a machine made and run, its exit status out. Whatever a user can get
 * wrong ends here as one sentence on stderr and exit status 1.
 */
#include <signal.h>
#include <stdio.h>

#include "cli/options.h"
#include "core/base/log.h"
#include "debug/monitor.h"

int main(int argc, char **argv)
{
    Cli cli;
    GError *err = NULL;
    Machine *machine = NULL;
    int status = 0;

    signal(SIGPIPE, SIG_IGN); /* who writes finds out, and the terminal is put back */
    cli_init(&cli);
    if (cli_parse(&cli, argc, argv, stdout, &err) && !cli.done) {
        machine = machine_new(&cli.machine, &err);
        if (machine) {
            Monitors *monitors = monitors_new(machine, cli_version());
            machine_run(machine, &status, &err);
            monitors_free(monitors);
        }
    }
    machine_free(machine);
    log_flush();
    if (err) {
        fprintf(stderr, "stag: %s\n", err->message);
        g_error_free(err);
        status = 1;
    }
    cli_clear(&cli);
    return status;
}
