#!/usr/bin/env python3
"""Kills the emulator in the middle of writes, again and again, and looks at the disk: kill9.py [--kills N].

A guest program fsyncs numbered records and says which are safe, while others write and remove files without any
fsync. At a random moment the emulator gets SIGKILL. Then the file system has to recover by its journal, and every
record that was said to be safe has to be there, bit by bit. Every second time the guest's kernel does the recovery,
else e2fsck here. Nobody formats the disk again in between, so damage adds up.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time

from console import TIMEOUT, ConsoleError
from diskguest import Guest, SmallDisk, fsck, read_file, tool
from setting import Emulator, cross_compiler, guest

RECORD = 128
OWN_FILE = 16

AUTORUN = """#!/bin/sh
(i=0; while :; do
    dd if=/dev/zero of=/data/junk.$((i % 3)) bs=16k count=$((i % 97 + 1)) 2>/dev/null
    i=$((i + 1)); [ $((i % 5)) != 0 ] || rm -f /data/junk.*
done) &
/bin/records /data &
"""

# What an image may be opened with; a kill takes the next in turn.
DRIVES = ["", ",cache=none", ",cache=writethrough", ",aio=io_uring", ",cache=directsync,aio=threads"]


def permitted(emulator, disk, drive):
    """Whether an image may be opened like that here: containers often forbid io_uring, and not every file system has
    direct I/O. Any other refusal is left for the run to fail on."""
    command = [emulator.path, "-S", "-nographic", "-bios", guest("opensbi/fw_dynamic.bin"), "-serial", "null",
               "-monitor", "stdio", "-drive", f"file={disk},format=raw,if=virtio{drive}"]
    done = subprocess.run(command, input=b"quit\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=TIMEOUT, check=False)
    refused = re.search(rb".*(?:does not permit io_uring|has no direct I/O).*", done.stdout)
    if refused:
        print(f"left out: {drive[1:]}: {refused.group().decode(errors='replace').strip()}")
    return not refused


def records_program(folder):
    out = os.path.join(folder, "records")
    source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "records.c")
    subprocess.run([cross_compiler(), "-O1", "-march=rv64gc", "-mabi=lp64d", "-ffreestanding", "-fno-builtin",
                    "-nostdlib", "-static", "-Wl,--build-id=none", "-o", out, source], check=True)
    with open(out, "rb") as file:
        return file.read()


def record(n):
    digits = f"{n * 2654435761 % 2**32:08x}"
    return (f"{n:010d}" + digits * RECORD)[:RECORD - 1].encode() + b"\n"


def run_and_kill(emulator, disk, drive, smp, noise):
    """Boots, lets it write for a while, kills. Returns the last record that was said to be safe."""
    with Guest(emulator, disk, smp=smp, network=False, drive=drive) as console:
        console.expect(rb"synced \d{10}\r*\n")
        console.quiet(noise.uniform(0.05, 1.5))
        console.process.kill()
        console.process.wait()
        console.quiet(0.2)
        if b"records: " in console.output or re.search(rb"EXT4-fs error|I/O error", console.output):
            console.fail("the guest had trouble with its disk")
        return int(re.findall(rb"synced (\d{10})\r*\n", console.output)[-1])


def check_disk(disk, safe):
    """The file system is sound and holds records 0 to `safe`."""
    fsck(disk)
    data = read_file(disk, "/data/records")
    assert len(data) >= (safe + 1) * RECORD, f"{len(data) // RECORD} records are there, {safe + 1} were safe"
    for n in range(safe + 1):
        assert data[n * RECORD:(n + 1) * RECORD] == record(n), f"record {n} of {safe + 1} is damaged"
    for n in range(0, safe + 1, max(OWN_FILE, safe // 40 // OWN_FILE * OWN_FILE)):
        assert read_file(disk, f"/data/files/{n:010d}") == record(n), f"the file of record {n} is damaged"
    last = safe // OWN_FILE * OWN_FILE
    assert read_file(disk, f"/data/files/{last:010d}") == record(last), f"the file of record {last} is damaged"


def recover(disk):
    """By e2fsck: 1 says that it replayed the journal, 0 that there was nothing to do."""
    tool("e2fsck", "-p", disk, statuses=(0, 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", default="build/stag")
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    emulator = Emulator(args.emulator)
    noise = random.Random(args.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as folder:
        disk = os.path.join(folder, "disk.img")
        SmallDisk(disk, {"/etc/autorun": (AUTORUN.encode(), 0o755),
                         "/bin/records": (records_program(folder), 0o755)}, size="128M")
        drives = [""] if emulator.is_qemu else [drive for drive in DRIVES if permitted(emulator, disk, drive)]
        try:
            for kill in range(args.kills):
                safe = run_and_kill(emulator, disk, drives[kill % len(drives)], 1 + kill // 2 % 2, noise)
                print(f"kill {kill + 1}: {safe + 1} records safe", flush=True)
                if kill % 2 or kill + 1 == args.kills:
                    recover(disk)
                    check_disk(disk, safe)
                else:
                    # The guest's kernel recovers at the next start; what is safe is looked at in a copy.
                    copy = os.path.join(folder, "copy.img")
                    subprocess.run(["cp", "--sparse=always", disk, copy], check=True)
                    recover(copy)
                    check_disk(copy, safe)
        except (ConsoleError, AssertionError) as error:
            print(f"FAILED  {error}")
            return 1
    print(f"ok      {args.kills} kills in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
