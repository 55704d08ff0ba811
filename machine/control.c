/*
 * Stopping and going on, from outside of the guest: all on the main loop's thread. Harts are held
 * by the user's `stop` and, for a moment, by whoever looks at them; they run when nobody holds
 * them. While the user has stopped the machine its time stands still.
 *
 * A signal that ends other programs presses the power button, if the guest has a driver for it: the
 * guest shuts down in order and what it has in memory gets onto its disks. A second signal ends
 * Stag at once, and so does the first if nobody would hear the button.
 */
#include <signal.h>
#include <string.h>

#include "machine/internal.h"

enum { HANGUP_US = 2000000 };

void machine_hold(Machine *m)
{
    if (m->holds++ == 0) {
        machine_pause_harts(m);
    }
}

void machine_release(Machine *m)
{
    if (--m->holds == 0) {
        machine_resume_harts(m);
    }
}

void machine_stop(Machine *m)
{
    if (!m->stopped) {
        machine_hold(m);
        m->stopped = true;
        m->stop_time = machine_time(m);
    }
}

void machine_cont(Machine *m)
{
    if (m->stopped) {
        m->stopped = false;
        machine_set_time(m, m->stop_time);
        machine_release(m);
    }
}

void machine_reset_button(Machine *m)
{
    if (m->options->no_reboot) {
        machine_request(m, REQUEST_QUIT, 0);
    } else {
        machine_request(m, REQUEST_RESET, 0);
    }
}

bool machine_power_button(Machine *m)
{
    return board_devices_press_power(m->devices);
}

void machine_signal(Machine *m, int number)
{
    const gint64 now = g_get_monotonic_time();
    if (!m->asked && !m->stopped && machine_power_button(m)) {
        m->asked = true;
        m->asked_at = now;
        fprintf(stderr,
                "stag: signal %d (%s): the guest is asked to power down; another one ends Stag at "
                "once\n",
                number, strsignal(number));
        return;
    }
    if (m->asked && number == SIGHUP && now - m->asked_at < HANGUP_US) {
        return; /* the kernel and the shell both tell of a terminal that is closed */
    }
    machine_request(m, REQUEST_QUIT, 128 + number);
}
