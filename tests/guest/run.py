#!/usr/bin/env python3
"""Runs a guest program on Stag, or on another emulator with QEMU's options, and judges it.

    run.py [--qemu] EMULATOR XLEN PROGRAM [OPTION]...

The program passed if the exit status is 0 and its last line says so. With --qemu, EMULATOR is QEMU,
which gets the extensions that QEMU 7.2 has by name: a second opinion while a test is written.
"""

import subprocess
import sys

RAM = {"64": "2G", "32": "256M"}  # RV64 programs map gigapages
QEMU_BOTH = "h=off,x-epmp=on,Zfh=on,zbkb=on,zbkc=on,zbkx=on"
QEMU_CPU = {"64": f"rv64,{QEMU_BOTH},svinval=on,svnapot=on,svpbmt=on", "32": f"rv32,{QEMU_BOTH}"}
STAG_CPU = {"64": "max", "32": "max32"}
SECONDS = 240


def main():
    words = sys.argv[1:]
    qemu = words[0] == "--qemu"
    emulator, xlen, program, *options = words[qemu:]
    cpu = (QEMU_CPU if qemu else STAG_CPU)[xlen]
    command = [emulator, "-M", "virt", "-cpu", cpu, "-m", RAM[xlen], "-nographic",
               "-bios", program] + options
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=SECONDS)
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b"").decode(errors="replace"))
        sys.exit(f"no end after {SECONDS} s: {' '.join(command)}")
    output = done.stdout.decode(errors="replace")
    print(output, end="")
    lines = output.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("passed: "):
        sys.exit(f"exit status {done.returncode}: {' '.join(command)}")
    if "interpreting instead" in output:
        sys.exit(77)  # this host can't run T1: what passed is T0


if __name__ == "__main__":
    main()
