#!/usr/bin/env python3
"""Measures emulators side by side on the same kernel, initramfs and programs. bench/run is the way to start it.

workloads.py says what runs, prepare.py makes it. In every round each emulator boots once and its guest runs every
program, so that all emulators meet the same disturbances. A program tells its result and its time by the guest's
clock; this side notes when the lines arrive, and a guest whose clock says something else in sum is not believed but
named. Results have to be the native ones. Times are medians; ratios are of times in the same run; nothing here passes
or fails by a time.

What is measured besides: seconds from the emulator's start to the first line of the guest's /init; host memory
above the guest's own after a boot; and what it costs to run code for the first time, by functions that run
once, and then again.
"""

import argparse
import json
import math
import os
import platform
import re
import select
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "scripts", "lib"))

import hostmemory
import plot
import prepare
import report
from workloads import CLASSES, WORKLOADS

MEMORY = 1536       # the guest's, in MiB
HANG = 300          # seconds without output after which an emulator is killed


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def progress(words):
    print(f"==> {words}", file=sys.stderr, flush=True)


def lines_with_times(process):
    """Yields every line that a process prints, with the time of its arrival."""
    buffer = b""
    while True:
        if not select.select([process.stdout], [], [], HANG)[0]:
            process.kill()
        data = os.read(process.stdout.fileno(), 65536)
        at = time.monotonic()
        if not data:
            return
        *lines, buffer = (buffer + data).split(b"\n")
        for line in lines:
            yield at, line.decode(errors="replace").strip("\r")


class Measurement:
    """What the programs of one machine printed: name -> lists of seconds, and checksums."""

    def __init__(self, processor_time=False):
        self.seconds, self.sums, self.other = {}, {}, []
        self.memory, self.code = [], []         # MiB at the end of each round
        self.by_guest = self.by_host = 0.0      # the same times in sum, by either clock
        self.processor_time = processor_time    # seconds are the emulator's processor time

    def take(self, lines, pid=None):
        """Reads lines up to the last one; False if that never came. pid is an emulator's, not a native program's."""
        started, used = {}, {}
        for at, line in lines:
            words = line.split()
            if words[:2] == ["BENCH", "START"] and len(words) == 3:
                started[words[2]] = at
                if pid and self.processor_time:
                    used[words[2]] = hostmemory.processor_seconds(pid)
            elif words[:2] == ["BENCH", "END"] and len(words) == 5 and words[2] in started:
                name, took = words[2], float(words[4])
                self.by_host += at - started[name]
                self.by_guest += took
                if name in used:
                    took = hostmemory.processor_seconds(pid) - used[name]
                self.seconds.setdefault(name, []).append(took)
                self.sums.setdefault(name, []).append(words[3])
            elif line.startswith("BENCH DONE"):
                self.memory.append(hostmemory.above_guest(pid, MEMORY))
                self.code.append(hostmemory.generated_code(pid))
                return True
            else:
                self.other.append(line)
        return False

    def clock_lies(self):
        return abs(self.by_guest - self.by_host) > 0.2 + 0.05 * self.by_host


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

    def boot(self, processor_time):
        """Seconds from the start to the first line of /init, and MiB of host memory above the guest's later."""
        before = time.monotonic()
        process = self.start(os.path.join(self.guest, "initramfs.cpio.gz"))
        took = None
        try:
            for at, line in lines_with_times(process):
                if "Stag guest: init" in line:
                    took = hostmemory.processor_seconds(process.pid) if processor_time else at - before
                elif "shell ready" in line:
                    return took, hostmemory.above_guest(process.pid, MEMORY)
        finally:
            process.kill()
            process.wait()
        raise SystemExit(f"bench: {self.path} did not boot to a shell")

    def run(self, initrd, measurement):
        """Boots, and takes what the programs print; False if the guest ended before they did."""
        process = self.start(initrd)
        try:
            if not measurement.take(lines_with_times(process), process.pid):
                return False
            process.wait(HANG)
            return True
        finally:
            process.kill()
            process.wait()

    def version(self):
        return prepare.run(self.path, "--version").splitlines()[0]


def parse_arguments():
    groups = ", ".join(group.name for group in CLASSES)
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Measures Stag beside QEMU and native code, checks that every result is native's, "
        "and prints and stores the times.",
        epilog="STAG_BIN names an emulator to measure as 'stag' instead of the build's. Packages, inputs and compiled "
        "programs lie below ${XDG_CACHE_HOME:-~/.cache}/stag; the first run downloads about 150 MB. With --disk DISK it "
        "measures a whole Debian instead; bench/run --disk --help tells more.")
    parser.add_argument("--quick", action="store_true",
                        help="under three minutes: a selection of the workloads (unless --filter makes another), one "
                        "round, the newest QEMU only")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds: runs of every program, and boots (3, or 1)")
    parser.add_argument("--filter", action="append", default=[], metavar="NAME",
                        help=f"only workloads whose name contains NAME, or of the class NAME ({groups}); repeatable")
    parser.add_argument("--emulator", action="append", default=[], metavar="NAME=FILE",
                        help="one more emulator; FILE takes QEMU's options. Names that begin with 'qemu' count as QEMU")
    parser.add_argument("--only", action="append", default=[], metavar="NAME",
                        help="only emulators of this name (stag, qemu, qemu-newest); repeatable")
    parser.add_argument("--processor-time", action="store_true",
                        help="take the emulators' processor time for the programs' times: coarser, and blind to waiting, "
                        "but fair on a machine that has other work")
    parser.add_argument("--against", metavar="FILE",
                        help="take the emulators that are not measured now from these stored results")
    parser.add_argument("--no-boot", action="store_true", help="leave out the measurement of boots")
    parser.add_argument("--list", action="store_true", help="list the workloads, and end")
    parser.add_argument("--json", metavar="FILE", help="where the results go (build/bench.json)")
    parser.add_argument("--svg", metavar="FILE", help="where the plot goes (beside the results)")
    parser.add_argument("--guest", help=argparse.SUPPRESS)
    return parser.parse_args()


def chosen_workloads(args):
    chosen = [workload for workload in WORKLOADS
              if not args.filter or any(part in workload.name or part == workload.group for part in args.filter)]
    if args.quick and not args.filter:
        chosen = [workload for workload in chosen if workload.quick]
    if not chosen:
        raise SystemExit("bench: no workload has such a name; --list shows them")
    return chosen


def chosen_emulators(args):
    """{name: path} in the order of the command line; and a sentence for each that is not available."""
    emulators = dict(item.split("=", 1) for item in args.emulator)
    missing = []
    if not args.only or any(name.startswith("qemu") for name in args.only):
        path, why = prepare.newest_qemu()
        if path:
            emulators["qemu-newest"] = path
            if args.quick and not args.only:
                emulators.pop("qemu", None)
        else:
            missing.append(f"qemu-newest is not available: {why}")
    unknown = [name for name in args.only if name not in emulators]
    if unknown:
        raise SystemExit(f"bench: there is no emulator '{unknown[0]}'; there are {', '.join(emulators)}")
    return {name: path for name, path in emulators.items() if not args.only or name in args.only}, missing


def stored_emulators(args, measured):
    """The emulators of --against's results, without those that are measured now."""
    if not args.against:
        return {}
    with open(args.against) as file:
        stored = json.load(file)
    if stored.get("recipe") != prepare.recipe():
        raise SystemExit(f"bench: {args.against} holds times of other workloads; measure again without --against")
    if stored["times"] != ("processor" if args.processor_time else "wall"):
        raise SystemExit(f"bench: {args.against} holds {stored['times']} time, which compares with no other")
    return {name: {**values, "version": values["version"] + ", stored"}
            for name, values in stored["emulators"].items() if name not in measured}


def summary(measurement, boots, version):
    """What the results say of one emulator."""
    once = [name for name in measurement.seconds if re.fullmatch(r"once\d+", name)]
    passes = prepare.ONCE_PASSES
    cold = [took for name in once for took in measurement.seconds[name][::passes]]
    warm = [took for name in once for took in measurement.seconds[name][passes - 1::passes]]
    per_instruction = 1e9 / (prepare.ONCE_FUNCTIONS * prepare.ONCE_LENGTH)
    return {
        "version": version,
        "seconds": {name: median(values) for name, values in measurement.seconds.items() if name not in once},
        "all_seconds": measurement.seconds,
        "boot_seconds": median([took for took, _ in boots]) if boots else None,
        "memory_mib": median([above for _, above in boots]) if boots else None,
        "memory_after_mib": median(measurement.memory) if measurement.memory else None,
        "code_mib": median(measurement.code) if measurement.code else None,
        "once_ns": median(cold) * per_instruction if cold else None,
        "again_ns": median(warm) * per_instruction if warm else None,
    }


def main():
    args = parse_arguments()
    if args.list:
        report.list_workloads()
        return 0
    workloads = chosen_workloads(args)
    repeats = args.repeats or (1 if args.quick else 3)
    emulators, missing = chosen_emulators(args)
    machines = {name: Machine(path, args.guest) for name, path in emulators.items()}
    stored = stored_emulators(args, machines)
    wrong = []

    progress("Preparing the programs")
    with tempfile.TemporaryDirectory() as folder:
        initrd = os.path.join(folder, "initramfs")
        with prepare.alone():
            programs = prepare.compile_all(workloads)
            trees = prepare.Trees(WORKLOADS)
            prepare.guest_initramfs(initrd, os.path.join(args.guest, "initramfs.cpio.gz"), workloads, programs, trees)
        native = Measurement()
        measured = {name: Measurement(args.processor_time) for name in machines}
        booted = {name: [] for name in machines}
        for i in range(repeats):
            progress(f"Round {i + 1} of {repeats}: native")
            for workload in workloads:
                with prepare.start_native(workload, programs, trees) as process:
                    native.take(lines_with_times(process))
            for name, machine in machines.items():
                progress(f"Round {i + 1} of {repeats}: {name}")
                if not args.no_boot:
                    booted[name].append(machine.boot(args.processor_time))
                if not machine.run(initrd, measured[name]):
                    wrong.append(f"{name}: the guest ended before its programs did; its last lines: "
                                 + " | ".join(measured[name].other[-5:]))

    results = {
        "cpu": next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo")
                     if line.startswith("model name")), ""),
        "host_kernel": platform.release(), "repeats": repeats, "quick": args.quick,
        "times": "processor" if args.processor_time else "wall", "missing": missing,
        "classes": {group.name: [workload.name for workload in workloads if workload.group == group.name]
                    for group in CLASSES},
        "native": {name: median(values) for name, values in native.seconds.items()},
        "emulators": {name: summary(measured[name], booted[name], machine.version())
                      for name, machine in machines.items()} | stored,
        "recipe": prepare.recipe(),
    }
    for workload in workloads:
        if native.sums.get(workload.name, ["failed"])[0].startswith("failed"):
            wrong.append(f"native: {workload.name} failed")
    for name, measurement in measured.items():
        if measurement.clock_lies():
            wrong.append(f"{name}: the guest's clock says {measurement.by_guest:.3f} s for what took "
                         f"{measurement.by_host:.3f} s")
        for program in {**{workload.name: 0 for workload in workloads}, **measurement.sums}:
            sums = measurement.sums.get(program, ["nothing"])
            expected = native.sums.get(program) or next(iter(measured.values())).sums.get(program, sums)
            if set(sums) != set(expected):
                wrong.append(f"{name}: {program} gave {' '.join(sorted(set(sums)))}, expected {expected[0]}"
                             + "".join(f" | {line}" for line in measurement.other[-3:] if "failed" in " ".join(sums)))
    results["wrong"] = wrong
    results["verdicts"] = report.verdicts(results)

    report.show(results)
    path = args.json or os.path.join(HERE, "..", "build", "bench.json")
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w") as out:
        json.dump(results, out, indent=1)
    picture = args.svg or os.path.splitext(path)[0] + ".svg"
    drawn = plot.write(picture, results)
    print("\nStored:", *map(os.path.relpath, [path, picture] if drawn else [path]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
