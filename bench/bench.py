#!/usr/bin/env python3
"""Measures emulators side by side on the same kernel, initramfs and programs. bench/run is the way to start it.

The micro programs are compiled for the guest and for this machine from the same sources. In every round each
emulator boots once and its guest runs every program, so that all emulators meet the same disturbances. A
program tells its result and its time by the guest's clock; this side notes when the lines arrive, and a guest
whose clock says something else in sum is not believed but named. Results have to be the native ones. Times are
medians; ratios are of times in the same run; nothing here passes or fails by a time.

What is measured besides: seconds from the emulator's start to the first line of the guest's /init; host memory
above the guest's own after a boot; and what it costs to run code for the first time, by functions that run
once, and then again.
"""

import argparse
import concurrent.futures
import json
import math
import os
import platform
import select
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scripts", "lib"))

import hostmemory
import initramfs

CLASSES = {
    "integer": ["loop", "fib", "sieve", "qsort", "interp-switch", "interp-pointer", "chase"],
    "floating point": ["nbody", "matmul", "mandelbrot"],
}
# Work of busybox in the guest; has no native counterpart.
SYSTEM = {
    "exec": "i=0; while [ $i -lt 300 ]; do /bin/busybox true; i=$((i+1)); done; sum=$i",
    "sha256sum": "sum=$(cat $(for i in 1 2 3 4 5 6 7 8; do echo /bin/busybox; done) | sha256sum | cut -c1-16)",
    "gzip": "sum=$(cat /bin/busybox /bin/busybox | gzip | sha256sum | cut -c1-16)",
}
ONCE_PROGRAMS, ONCE_FUNCTIONS = 3, 6000
# The first pass translates; the last one is measured beside it. The one between lets an emulator whose
# translations depend on the state of the floating-point unit (printing a time turns it on) translate again.
ONCE_PASSES = 3
FLAGS = ["-O2", "-fno-tree-vectorize", "-static", "-Wall"]
GUEST_CC = ["riscv64-linux-gnu-gcc", *FLAGS]
# The guest's processor has fused multiply-add, so the native one gets it too: else the results differ.
NATIVE_CC = ["gcc", "-march=x86-64-v3", *FLAGS]
MEMORY = 512        # the guest's, in MiB
HANG = 600          # seconds without output after which an emulator is killed


def run(*command, **options):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, **options).stdout


def build_programs(folder):
    """Compiles everything; returns the names of the programs by whether they are the run-once ones."""
    jobs = []
    micro = [name for names in CLASSES.values() for name in names]
    once = [f"once{i}" for i in range(ONCE_PROGRAMS)]
    os.makedirs(os.path.join(folder, "guest"))
    os.makedirs(os.path.join(folder, "native"))
    for name in micro:
        source = os.path.join(HERE, "micro", name + ".c")
        jobs.append([*GUEST_CC, "-o", os.path.join(folder, "guest", name), source, "-lm"])
        jobs.append([*NATIVE_CC, "-o", os.path.join(folder, "native", name), source, "-lm"])
    length = 0
    for seed, name in enumerate(once):
        assembly = os.path.join(folder, name + ".S")
        with open(assembly, "w") as out:
            out.write(run(sys.executable, os.path.join(HERE, "once.py"), str(seed), str(ONCE_FUNCTIONS)))
        jobs.append([*GUEST_CC, "-o", os.path.join(folder, "guest", name), os.path.join(HERE, "once.c"), assembly])
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: run(*job), jobs))
    return micro, once


def guest_initramfs(folder, base, micro, once):
    """The base system, and /etc/autorun that runs everything and powers off."""
    archive = initramfs.Archive()
    script = ["#!/bin/sh"]
    for name in once:
        script.append(f"/bench/{name} {ONCE_PASSES}")
    script += [f"/bench/{name}" for name in micro]
    for name, work in SYSTEM.items():
        script.append(f"echo BENCH START {name}; {work}; echo BENCH END {name} $sum -")
    script.append("echo BENCH DONE; poweroff -f")
    for name in micro + once:
        archive.add(f"/bench/{name}", os.path.join(folder, "guest", name))
    archive.file("/etc/autorun", "\n".join(script).encode() + b"\n", 0o755)
    path = os.path.join(folder, "initramfs")
    with open(base, "rb") as source, open(path, "wb") as out:
        out.write(source.read() + archive.bytes())
    return path


def lines_with_times(process):
    """Yields every line that a process prints, with the time of its arrival."""
    buffer = b""
    while True:
        if not select.select([process.stdout], [], [], HANG)[0]:
            process.kill()
        data = os.read(process.stdout.fileno(), 65536)
        now = time.monotonic()
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield now, line.decode(errors="replace").strip("\r")


class Measurement:
    """What the programs of one machine printed: name -> lists of seconds, and checksums."""

    def __init__(self):
        self.seconds, self.sums = {}, {}
        self.by_guest = self.by_host = 0.0      # the same times in sum, by either clock

    def take(self, lines):
        """Reads lines up to the last one; False if that never came."""
        started = {}
        for now, line in lines:
            words = line.split()
            if words[:2] == ["BENCH", "START"] and len(words) == 3:
                started[words[2]] = now
            elif words[:2] == ["BENCH", "END"] and len(words) == 5 and words[2] in started:
                name, took = words[2], now - started[words[2]]
                if words[4] != "-":
                    self.by_host += took
                    took = float(words[4])
                    self.by_guest += took
                self.seconds.setdefault(name, []).append(took)
                self.sums.setdefault(name, []).append(words[3])
            elif line.startswith("BENCH DONE"):
                return True
        return False

    def clock_lies(self):
        return abs(self.by_guest - self.by_host) > 0.2 + 0.05 * self.by_host


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


class Machine:
    """An emulator with the kernel that all of them boot."""

    def __init__(self, path, guest):
        self.path = path
        self.guest = guest

    def start(self, initrd):
        return subprocess.Popen(
            [self.path, "-M", "virt", "-m", f"{MEMORY}M", "-nographic",
             "-bios", os.path.join(self.guest, "opensbi/fw_dynamic.bin"),
             "-kernel", os.path.join(self.guest, "Image"), "-initrd", initrd],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def boot(self):
        """Seconds from the start to the first line of /init, and MiB of host memory above the guest's later."""
        before = time.monotonic()
        process = self.start(os.path.join(self.guest, "initramfs.cpio.gz"))
        took = None
        try:
            for now, line in lines_with_times(process):
                if "Stag guest: init" in line:
                    took = now - before
                elif "shell ready" in line:
                    return took, hostmemory.above_guest(process.pid, MEMORY)
        finally:
            process.kill()
            process.wait()
        raise SystemExit(f"bench: {self.path} did not boot to a shell")

    def version(self):
        return run(self.path, "--version").splitlines()[0]


def table(rows):
    widths = [max(len(row[i]) for row in rows if row) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))) if row else "")


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}f}"


def report(results):
    """Prints the table: one row a program, for each emulator its seconds, and ratios."""
    names = list(results["emulators"])
    first, others = names[0], names[1:]
    head = ["program", "native s", *(f"{name} s" for name in names),
            *(f"{other}/{first}" for other in others), *(f"{name}/native" for name in names)]
    rows = [head]
    for group, programs in results["classes"].items():
        rows.append([])
        for program in [*programs, None]:
            def seconds(who):
                if program:
                    return results["native"].get(program) if who is None else \
                        results["emulators"][who]["seconds"].get(program)
                return None

            def ratio(above, below):
                pairs = [(results["native"] if who is None else results["emulators"][who]["seconds"])
                         for who in (above, below)]
                values = [pairs[0][name] / pairs[1][name] for name in ([program] if program else programs)
                          if pairs[0].get(name) and pairs[1].get(name)]
                return geomean(values)

            rows.append([program or f"geomean, {group}", number(seconds(None)),
                         *(number(seconds(name)) for name in names),
                         *(number(ratio(other, first), 2) for other in others),
                         *(number(ratio(name, None), 2) for name in names)])
    rows.append([])
    for label, key, digits in (("boot to /init, s", "boot_seconds", 3), ("memory above guest RAM, MiB", "memory_mib", 0),
                               ("run-once code, ns/instruction", "once_ns", 0),
                               ("the same, third pass", "again_ns", 1)):
        values = [results["emulators"][name].get(key) for name in names]
        rows.append([label, "-", *(number(value, digits) for value in values),
                     *(number(value / values[0] if value and values[0] else None, 2) for value in values[1:]),
                     *("-" for _ in names)])
    table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="every program once, one boot")
    parser.add_argument("--repeats", type=int, help="rounds: runs of every program (5, or 1)")
    parser.add_argument("--boots", type=int, help="boots of every emulator (5, or 1)")
    parser.add_argument("--json", metavar="FILE", help="where the results go (build/bench.json)")
    parser.add_argument("--emulator", action="append", default=[], metavar="NAME=FILE",
                        help="one more emulator; the ratios are the others' times over the first one's")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="only emulators of this name")
    parser.add_argument("--guest", help="the folder with the guest's files")
    args = parser.parse_args()
    repeats = args.repeats or (1 if args.quick else 5)
    boots = args.boots or (1 if args.quick else 5)
    chosen = [item.split("=", 1) for item in args.emulator if not args.only or item.split("=", 1)[0] in args.only]
    machines = {name: Machine(path, args.guest) for name, path in chosen}

    results = {"kernel": platform.release(),
               "cpu": next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                            if line.startswith("model name")), ""),
               "repeats": repeats, "classes": {**CLASSES, "system": list(SYSTEM)}, "native": {}, "emulators": {}}
    wrong = []

    def progress(words):
        print(f"==> {words}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        progress("Compiling the programs")
        micro, once = build_programs(folder)
        progress("Running them natively")
        native = Measurement()
        for _ in range(repeats):
            for name in micro:
                with subprocess.Popen([os.path.join(folder, "native", name)], stdout=subprocess.PIPE) as process:
                    native.take(lines_with_times(process))
        results["native"] = {name: median(values) for name, values in native.seconds.items()}

        for name, machine in machines.items():
            progress(f"Booting {name}: {machine.version()}")
        booted = {name: [] for name in machines}
        for _ in range(boots):
            for name, machine in machines.items():
                booted[name].append(machine.boot())

        initrd = guest_initramfs(folder, os.path.join(args.guest, "initramfs.cpio.gz"), micro, once)
        measured = {name: Measurement() for name in machines}
        for i in range(repeats):
            for name, machine in machines.items():
                progress(f"Round {i + 1} of {repeats}: {name}")
                process = machine.start(initrd)
                try:
                    if not measured[name].take(lines_with_times(process)):
                        wrong.append(f"{name}: the guest ended before its programs did")
                    process.wait(HANG)
                finally:
                    process.kill()
                    process.wait()
        for name, machine in machines.items():
            measurement = measured[name]
            if measurement.clock_lies():
                wrong.append(f"{name}: the guest's clock says {measurement.by_guest:.3f} s for what took "
                             f"{measurement.by_host:.3f} s")
            cold = [took for program in once for took in measurement.seconds.get(program, [])[::ONCE_PASSES]]
            warm = [took for program in once for took in measurement.seconds.get(program, [])[ONCE_PASSES - 1::ONCE_PASSES]]
            from_once = 1e9 / (ONCE_FUNCTIONS * 60)
            results["emulators"][name] = {
                "version": machine.version(),
                "seconds": {program: median(values) for program, values in measurement.seconds.items()
                            if program not in once},
                "all_seconds": measurement.seconds,
                "boot_seconds": median([took for took, _ in booted[name]]),
                "memory_mib": median([above for _, above in booted[name]]),
                "once_ns": median(cold) * from_once if cold else None,
                "again_ns": median(warm) * from_once if warm else None,
            }

    reference = {**next(iter(measured.values())).sums, **native.sums} if measured else native.sums
    for name, measurement in measured.items():
        for program, sums in measurement.sums.items():
            expected = reference[program]
            if set(sums) != set(expected):
                wrong.append(f"{name}: {program} gave {sums}, expected {expected}")

    report(results)
    print(f"\n{results['cpu']}; medians of {repeats} runs and {boots} boots")
    for machine in results["emulators"].values():
        print(machine["version"])
    for line in wrong:
        print(f"WRONG  {line}")
    results["wrong"] = wrong
    path = args.json or os.path.join(HERE, "..", "build", "bench.json")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as out:
        json.dump(results, out, indent=1)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
