#!/usr/bin/env python3
"""Holds the code to the layers: which folder may include which. The table below is the rule; an include that it does not
allow is an error. Run with no arguments from anywhere; exits 1 and names each line that breaks the rule."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# folder: the folders (or single headers) that its files may include, beyond itself and core/base.
ALLOWED = {
    "core/base": [],
    "core/cpu.h": [],
    "core/ir": ["core/cpu.h"],
    "core/opt": ["core/ir"],
    "softmmu": ["core/cpu.h"],
    "core/exec": ["core/ir", "core/opt", "core/cpu.h", "softmmu"],
    "frontend-riscv": ["core/ir", "core/cpu.h", "softmmu"],
    "backend-x86_64": ["core/ir", "core/cpu.h", "softmmu"],
    "devices": ["softmmu/bus.h"],
    "machine": ["core", "softmmu", "frontend-riscv", "backend-x86_64", "devices"],
    "debug": ["core", "softmmu", "frontend-riscv", "devices", "machine"],
    "cli": ["core", "machine", "devices", "frontend-riscv", "debug"],
    "tests": ["core", "softmmu", "frontend-riscv", "backend-x86_64", "devices", "machine", "debug", "cli"],
}
# Programs that run in the guest: not part of Stag.
GUEST_PROGRAMS = ("tests/guest/", "bench/")
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)


def within(path, folder):
    return path == folder or path.startswith(folder + "/")


def room_of(path):
    """The longest entry of the table that holds the path."""
    rooms = [room for room in ALLOWED if within(path, room)]
    return max(rooms, key=len) if rooms else None


def main():
    errors = []
    files = 0
    for suffix in ("*.c", "*.h", "*.def"):
        for file in sorted(ROOT.rglob(suffix)):
            path = file.relative_to(ROOT).as_posix()
            if path.split("/")[0].startswith((".", "build")):
                continue
            if path.startswith(GUEST_PROGRAMS):
                continue
            room = room_of(path)
            if room is None:
                errors.append(f"{path}: this folder is not in the table of layers")
                continue
            files += 1
            allowed = ["core/base", room] + ALLOWED[room]
            for included in INCLUDE.findall(file.read_text()):
                if (ROOT / included).exists():
                    if not any(within(included, place) for place in allowed):
                        errors.append(f"{path}: {room} may not include {included}")
                elif "/" in included:
                    # generated headers live in a build folder under the same name
                    if not any(within(included, place) for place in allowed):
                        errors.append(f"{path}: {included} does not exist")
                else:
                    errors.append(f'{path}: "{included}" is not written from the root of the repository')
    for error in errors:
        print(error)
    print(f"{files} files, {len(errors)} errors")
    return 1 if errors or not files else 0


if __name__ == "__main__":
    sys.exit(main())
