#!/usr/bin/env python3
"""Runs a guest program on Stag, or on another emulator with QEMU's options, and judges it.

    run.py [--qemu] [--scale N] EMULATOR XLEN PROGRAM [OPTION]...

The program passed if the exit status is 0 and its last line says so. With --qemu, EMULATOR is QEMU,
which gets the extensions that QEMU 7.2 has by name: a second opinion while a test is written. --scale makes the loops of
programs for several harts so many times longer (guest.h: rounds()).
"""

import argparse
import subprocess
import sys

RAM = {"64": "2G", "32": "256M"}  # RV64 programs map gigapages
QEMU_BOTH = "h=off,x-epmp=on,Zfh=on,zbkb=on,zbkc=on,zbkx=on"
QEMU_CPU = {"64": f"rv64,{QEMU_BOTH},svinval=on,svnapot=on,svpbmt=on", "32": f"rv32,{QEMU_BOTH}"}
STAG_CPU = {"64": "max", "32": "max32"}
SECONDS, SCALED_SECONDS = 240, 3600
SCALE = 0x8f000000 # guest.h


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--qemu", action="store_true")
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("emulator")
    parser.add_argument("xlen", choices=RAM)
    parser.add_argument("program")
    parser.add_argument("options", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    command = [args.emulator, "-M", "virt", "-cpu", (QEMU_CPU if args.qemu else STAG_CPU)[args.xlen],
               "-m", RAM[args.xlen], "-nographic", "-bios", args.program] + args.options
    seconds = SECONDS
    if args.scale > 1:
        command += ["-device", f"loader,addr={SCALE:#x},data={args.scale},data-len=4"]
        seconds = SCALED_SECONDS
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=seconds)
    except subprocess.TimeoutExpired as late:
        print((late.stdout or b"").decode(errors="replace"))
        sys.exit(f"no end after {seconds} s: {' '.join(command)}")
    output = done.stdout.decode(errors="replace")
    print(output, end="")
    lines = output.splitlines()
    if done.returncode or not lines or not lines[-1].startswith("passed: "):
        sys.exit(f"exit status {done.returncode}: {' '.join(command)}")
    if "interpreting instead" in output:
        sys.exit(77)  # this host can't run T1: what passed is T0


if __name__ == "__main__":
    main()
