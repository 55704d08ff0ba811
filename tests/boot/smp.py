#!/usr/bin/env python3
"""Linux on several harts: smp.py --emulator FILE [--harts N] [--times N] [--rounds N]
       [--option OPTION]... CASE

    boots    the kernel boots so many times, restarts by itself, and is powered off
    storm    so many rounds of processes that start, compute, talk and end on all harts at once, under memory pressure
    hotplug  harts are stopped and started again (SBI's HSM) while the others work

A run fails, too, if the kernel complains: of stalls, lockups, oopses, warnings.
"""

import argparse
import hashlib
import os
import re
import sys
import tempfile

from cases import check
from console import PROMPT, Console, ConsoleError
from setting import Emulator, guest

import initramfs

INIT = rb"Stag guest: init runs"
TROUBLE = re.compile(r"^.*(?:stall|lockup|LOCKUP|Oops|BUG|WARNING:|panic|Unable to handle|blocked for more|unhandled signal"
                     r"|scheduling while atomic|unstable|failed to come online|did not (?:stop|start)).*$", re.M)

# Each hart's share: processes of busybox, pipes, sums of files in a tmpfs, of which some are kept.
STORM = """#!/bin/sh
work() {
    i=0
    while [ $i -lt ROUNDS ]; do
        i=$((i+1))
        [ "$(/bin/busybox echo $i | /bin/busybox cat | /bin/busybox cat)" = $i ] || echo wrong echo
        [ "$(/bin/busybox seq 1 2000 | /bin/busybox sha256sum)" = "SUM  -" ] || echo wrong sum
        /bin/busybox dd if=/dev/urandom of=/tmp/f$1 bs=64k count=24 2>/dev/null
        /bin/busybox cp /tmp/f$1 /tmp/g$1 && /bin/busybox cmp /tmp/f$1 /tmp/g$1 || echo wrong copy
        ( exit $((i % 200)) )
        [ $? = $((i % 200)) ] || echo wrong status
    done
    echo worker $1 ended
}
for k in $(seq 1 $1); do
    work $k &
done
wait
"""


def check_kernel(console):
    """No complaints so far, on the console or in the kernel's log."""
    console.run("dmesg")
    found = TROUBLE.search(console.text())
    check(not found, console, f"the kernel complains: {found and found.group()}")


def start(args, **rest):
    return Console(Emulator(args.emulator).linux("-smp", str(args.harts), *args.option, **rest))


def wait_for_shell(console, harts):
    console.expect(INIT)
    console.expect(PROMPT)
    said = console.run("grep -c ^processor /proc/cpuinfo; cat /sys/devices/system/cpu/online")
    check(said.split()[:2] == [str(harts), f"0-{harts - 1}"], console, f"{harts} harts should be online")


def boots(args):
    for time in range(args.times):
        with start(args) as console:
            wait_for_shell(console, args.harts)
            check_kernel(console)
            if time % 2:
                console.send("reboot\n")
                wait_for_shell(console, args.harts)
                check_kernel(console)
            console.send("poweroff\n")
            check(console.wait() == 0, console, "poweroff should end it with status 0")
        print(f"boot {time + 1} on {args.harts} harts", flush=True)


def storm(args):
    total = hashlib.sha256("".join(f"{i}\n" for i in range(1, 2001)).encode()).hexdigest()
    workers = 2 * args.harts
    with tempfile.TemporaryDirectory() as folder:
        extra = initramfs.Archive()
        extra.file("/bin/storm", STORM.replace("SUM", total).replace("ROUNDS", str(args.rounds)).encode(), 0o755)
        initrd = os.path.join(folder, "initramfs")
        with open(guest("initramfs.cpio.gz"), "rb") as base, open(initrd, "wb") as out:
            out.write(base.read() + extra.bytes())
        # So little memory that the page cache has to give way.
        with start(args, append="quiet", memory="160M", initrd=initrd) as console:
            wait_for_shell(console, args.harts)
            for time in range(args.times):
                said = console.run(f"storm {workers}")
                for k in range(1, workers + 1):
                    check(f"worker {k} ended" in said, console, f"worker {k} did not end")
                check("wrong" not in said, console, "a worker saw something wrong")
                check_kernel(console)
                print(f"storm {time + 1} of {workers} workers on {args.harts} harts", flush=True)
            console.send("poweroff\n")
            check(console.wait() == 0, console, "poweroff should end it with status 0")


def hotplug(args):
    with start(args, append="quiet") as console:
        wait_for_shell(console, args.harts)
        console.run("(while :; do /bin/busybox seq 1 3000 | /bin/busybox sha256sum >/dev/null; done) &")
        for time in range(args.times):
            for hart in range(1, args.harts):
                cpu = f"/sys/devices/system/cpu/cpu{hart}/online"
                said = console.run(f"echo 0 > {cpu}; cat {cpu} /sys/devices/system/cpu/online")
                check(re.search(r"^0$", said, re.M), console, f"hart {hart} should be off")
            check(re.search(r"^0$", console.run("cat /sys/devices/system/cpu/online"), re.M), console,
                  "hart 0 should be alone")
            for hart in range(1, args.harts):
                cpu = f"/sys/devices/system/cpu/cpu{hart}/online"
                said = console.run(f"echo 1 > {cpu}; cat {cpu}")
                check(re.search(r"^1$", said, re.M), console, f"hart {hart} should be on")
                said = console.run(f"taskset {1 << hart:x} /bin/busybox seq 1 100 | tail -n 1")
                check(re.search(r"^100$", said, re.M), console, f"hart {hart} should work")
        check_kernel(console)
        console.send("poweroff\n")
        check(console.wait() == 0, console, "poweroff should end it with status 0")


CASES = {"boots": boots, "storm": storm, "hotplug": hotplug}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", default="build/stag")
    parser.add_argument("--harts", type=int, default=2)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=40, help="of each worker in a storm")
    parser.add_argument("--option", action="append", default=[], help="for the emulator: --option=-tb-size --option=1")
    parser.add_argument("case", choices=CASES)
    args = parser.parse_args()
    try:
        CASES[args.case](args)
    except ConsoleError as error:
        print(f"{args.case}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
