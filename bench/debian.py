#!/usr/bin/env python3
"""Measures a whole Debian under each emulator: bench/run --disk DISK is the way to start it.

DISK is what scripts/debian made, with fio and iperf3 on it (--packages fio,iperf3). It is used with snapshot=on and
stays as it is; fio gets a scratch disk of its own, whose blocks are all allocated. The emulators take turns in every
round, with the same options: two harts, 2 GiB, virtio over mmio, a raw file with the host's cache.

  boot        seconds from the emulator's start to the login prompt, with one hart and with two
  fio, iperf  as the tables say; both sides of iperf3 are on this machine
  scaling     a loop of Perl's in one process, and in two at once: twice the first time over the second
  idle        the processor time that a guest takes that waits at its login prompt, in percent of one core
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scripts", "lib"))
sys.path.insert(0, os.path.join(HERE, "..", "tests", "boot"))

import hostmemory                                                       # noqa: E402
import prepare                                                          # noqa: E402
from bench import median, progress                                      # noqa: E402
from console import ConsoleError                                        # noqa: E402
from diskguest import FIO, Guest, debian_files, fio_rates, iperf_rates  # noqa: E402
from setting import Emulator                                            # noqa: E402

LOGIN = rb"login: "
PROMPT = rb"[#$] "
LOOP = "perl -e '$x = 1; for (1 .. {n}) {{ $x = ($x * 69069 + 5) % 1000003 }} print \"$x\\n\"'"
ROUNDS = 5_000_000

# name, unit, the larger the better, and what Stag has to reach: a factor over the faster QEMU, or a plain figure
ROWS = [("boot to login, 2 harts", "s", False, ("factor", 2.0)), ("boot to login, 1 hart", "s", False, ("factor", 2.0)),
        *((f"fio {name}", "MiB/s", True, ("factor", 1.0)) for name in FIO),
        ("iperf3 into the guest", "Gbit/s", True, ("factor", 1.0)),
        ("iperf3 out of the guest", "Gbit/s", True, ("factor", 1.0)),
        ("two harts, times one hart", "", True, ("least", 1.8)), ("idle", "% of a core", False, ("most", 2.0))]


class Bench:
    def __init__(self, args, folder):
        self.disk, self.password, self.seconds = args.disk, args.password, args.seconds
        self.scratch = os.path.join(os.path.dirname(os.path.abspath(args.disk)), "bench-scratch.img")
        self.key = os.path.join(folder, "key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        with open(self.key + ".pub") as file:
            self.public = file.read().strip()
        with open(self.scratch, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, 1 << 30)

    def guest(self, emulator, harts):
        """The disk itself is left alone. Which of two disks becomes /dev/vda is not the order of the options in every
        emulator, so the file system is called by its name."""
        files = dict(debian_files(self.disk), append="root=LABEL=debian console=ttyS0")
        return Guest(emulator, self.disk, smp=harts, memory="2G", key=self.key, forward={"ssh": 22, "iperf": 5201},
                     drive=",snapshot=on", options=["-drive", f"file={self.scratch},format=raw,if=virtio"], **files)

    def boot(self, emulator, harts):
        start = time.monotonic()
        with self.guest(emulator, harts) as guest:
            guest.expect(LOGIN)
            return time.monotonic() - start

    def measure(self, emulator):
        """One round of one emulator: figures by the names in ROWS."""
        figures = {"boot to login, 1 hart": self.boot(emulator, 1)}
        start = time.monotonic()
        with self.guest(emulator, 2) as guest:
            guest.expect(LOGIN)
            figures["boot to login, 2 harts"] = time.monotonic() - start
            # What starts after the login prompt is over by then.
            guest.quiet(20)
            before = hostmemory.processor_seconds(guest.process.pid)
            guest.quiet(20)
            figures["idle"] = (hostmemory.processor_seconds(guest.process.pid) - before) / 20 * 100
            guest.send("root\n")
            guest.expect(rb"Password: ")
            guest.send(self.password + "\n")
            guest.expect(PROMPT)
            guest.send(f"mkdir -p -m 700 .ssh; echo '{self.public}' >>.ssh/authorized_keys; echo there\"\"by\n")
            guest.expect(rb"thereby")
            guest.wait_ssh()
            for program in ("fio", "iperf3"):
                if guest.ssh(f"command -v {program}")[0]:
                    sys.exit(f"bench: the disk has no {program}; make one by scripts/debian --packages fio,iperf3")
            scratch = guest.check("lsblk -dnbo NAME,SIZE | awk '$2 == 1073741824 { print \"/dev/\" $1 }'").strip()
            for name, (rate, _) in fio_rates(guest, scratch, seconds=self.seconds).items():
                figures[f"fio {name}"] = rate
            into, out = iperf_rates(guest, self.seconds)
            figures["iperf3 into the guest"], figures["iperf3 out of the guest"] = into, out
            loop = LOOP.format(n=ROUNDS)
            timed = "s=$(date +%s%N); {{ {0}; }} >/dev/null; e=$(date +%s%N); echo $(((e - s) / 1000))"
            guest.check(loop)
            one = min(int(guest.check(timed.format(loop))) for _ in range(3))
            two = min(int(guest.check(timed.format(f"{loop} & {loop}; wait"))) for _ in range(3))
            figures["two harts, times one hart"] = 2 * one / two
        return figures


def verdict(row, figures, qemus):
    """(what Stag's figure is worth, whether that is enough), or (None, None) where there is nothing to compare."""
    name, _, larger, (kind, bound) = row
    stag = figures["stag"][name]
    if kind == "least":
        return stag, stag >= bound
    if kind == "most":
        return stag, stag <= bound
    if not qemus:
        return None, None
    best = (max if larger else min)(figures[qemu][name] for qemu in qemus)
    factor = stag / best if larger else best / stag
    return factor, factor >= bound


def main():
    parser = argparse.ArgumentParser(prog="bench/run --disk DISK", description=__doc__.splitlines()[0])
    parser.add_argument("--disk", required=True)
    parser.add_argument("--password", default="stag", help="root's, on the disk")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="how long each of fio's and iperf3's runs takes")
    parser.add_argument("--emulator", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--json", default=os.path.join(HERE, "..", "build", "bench-debian.json"))
    parser.add_argument("--guest", help=argparse.SUPPRESS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # ends the emulator, too
    emulators = dict(item.split("=", 1) for item in args.emulator)
    if not args.only or "qemu-newest" in args.only:
        path, why = prepare.newest_qemu()
        if path:
            emulators["qemu-newest"] = path
        else:
            progress(f"qemu-newest is not available: {why}")
    emulators = {name: path for name, path in emulators.items() if not args.only or name in args.only}
    rounds = {name: [] for name in emulators}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder)
        try:
            for i in range(args.repeats):
                for name, path in emulators.items():
                    progress(f"Round {i + 1} of {args.repeats}: {name}")
                    emulator = Emulator(path)
                    emulator.is_qemu = name.startswith("qemu")
                    rounds[name].append(bench.measure(emulator))
                    progress("; ".join(f"{row[0]} {rounds[name][-1][row[0]]:.4g} {row[1]}" for row in ROWS))
        except ConsoleError as error:
            sys.exit(f"bench: {error}")
        finally:
            os.unlink(bench.scratch)
    figures = {name: {row[0]: median([one[row[0]] for one in values]) for row in ROWS}
               for name, values in rounds.items()}
    qemus = [name for name in figures if name.startswith("qemu")]
    print(f"\n| | {' | '.join(figures)} | Stag's | has to be |\n|---|{'---|' * (len(figures) + 2)}")
    verdicts = {}
    for row in ROWS:
        name, unit, _, (kind, bound) = row
        worth, enough = verdict(row, figures, qemus) if "stag" in figures else (None, None)
        verdicts[name] = enough
        said = "" if worth is None else f"{worth:.2f}{' times QEMU' if kind == 'factor' else ''}"
        limit = {"factor": f"{bound:g} times", "least": f"at least {bound:g}", "most": f"at most {bound:g}"}[kind]
        mark = {True: "", False: " (missed)", None: ""}[enough]
        print(f"| {name}{', ' + unit if unit else ''} | {' | '.join(f'{f[name]:.4g}' for f in figures.values())} | "
              f"{said}{mark} | {limit} |")
    os.makedirs(os.path.dirname(os.path.abspath(args.json)), exist_ok=True)
    with open(args.json, "w") as out:
        json.dump({"rounds": rounds, "figures": figures, "verdicts": verdicts}, out, indent=1)
    print(f"\nStored: {os.path.relpath(args.json)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
