#!/usr/bin/env python3
"""Takes kernel modules, and the modules they need, out of an unpacked kernel package.

    modules.py FOLDER OUT NAME...

Debian ships modules packed by xz and lets depmod work out their dependencies where a kernel is installed; a
module carries the names of what it needs in its own .modinfo section, which is enough here. OUT gets NAME.ko for
each of them, unpacked, and a file `order` that lists them so that each comes after what it needs: the small
systems of the tests load them in that order.
"""

import lzma
import os
import re
import sys


def main():
    folder, out, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    packed = {}
    for where, _, files in os.walk(folder):
        for name in files:
            match = re.fullmatch(r"(.+)\.ko(\.xz)?", name)
            if match:
                # The kernel takes - and _ in the name of a module for the same.
                packed[match.group(1).replace("-", "_")] = os.path.join(where, name)
    os.makedirs(out, exist_ok=True)
    order = []

    def take(name):
        if name in order:
            return
        if name not in packed:
            sys.exit(f"modules.py: there is no module {name} below {folder}")
        with open(packed[name], "rb") as file:
            data = file.read()
        if packed[name].endswith(".xz"):
            data = lzma.decompress(data)
        for needed in re.search(rb"\0depends=([^\0]*)", data).group(1).decode().split(","):
            if needed:
                take(needed.replace("-", "_"))
        with open(os.path.join(out, name + ".ko"), "wb") as file:
            file.write(data)
        order.append(name)

    for name in names:
        take(name.replace("-", "_"))
    with open(os.path.join(out, "order"), "w") as file:
        file.write("".join(name + "\n" for name in order))


if __name__ == "__main__":
    main()
