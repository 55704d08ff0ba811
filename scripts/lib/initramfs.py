#!/usr/bin/env python3
"""Makes the guest's initramfs: a cpio archive in the "newc" format that the Linux kernel unpacks at boot.

The format is a list of records, each a header of 110 ASCII characters (a magic and thirteen 8-digit hex
numbers), a name and the contents, all padded to four bytes. Writing it here, rather than by cpio(1), allows
device nodes without being root, and the same input always gives the same bytes: owners, times and inode
numbers are ours. The kernel also accepts several archives one after the other, so a test or a benchmark adds
its own files by appending a second archive.

As a program:  initramfs.py --out FILE [--busybox FILE --files DIR] [--add DEST=FILE]...
"""

import argparse
import gzip
import os
import stat


class Archive:
    """A newc archive in the making. Names are absolute paths in the guest; parents come by themselves."""

    def __init__(self):
        self.records = []
        self.seen = set()

    def _record(self, name, mode, data=b"", device=(0, 0)):
        name = name.strip("/")
        parent = os.path.dirname(name)
        if parent and parent not in self.seen:
            self.directory(parent)
        if name in self.seen:
            raise ValueError(f"{name} is in the archive twice")
        self.seen.add(name)
        self._append(name, mode, data, device, len(self.records) + 1)

    def _append(self, name, mode, data, device, inode):
        raw = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        numbers = [inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(raw), 0]
        record = b"070701" + b"".join(b"%08X" % n for n in numbers) + raw
        record += b"\0" * (-len(record) % 4) + data
        self.records.append(record + b"\0" * (-len(record) % 4))

    def directory(self, name):
        self._record(name, stat.S_IFDIR | 0o755)

    def file(self, name, data, mode=0o644):
        self._record(name, stat.S_IFREG | mode, data)

    def symlink(self, name, target):
        self._record(name, stat.S_IFLNK | 0o777, target.encode())

    def chardev(self, name, major, minor, mode=0o600):
        self._record(name, stat.S_IFCHR | mode, device=(major, minor))

    def add(self, name, path):
        """Copies a host file; it is executable in the guest if it is here."""
        with open(path, "rb") as source:
            self.file(name, source.read(), 0o755 if os.access(path, os.X_OK) else 0o644)

    def raw(self):
        """The whole archive. The kernel takes it as it is, at an address that is a multiple of four."""
        self._append("TRAILER!!!", 0, b"", (0, 0), 0)
        try:
            return b"".join(self.records)
        finally:
            self.records.pop()

    def bytes(self):
        """The whole archive, gzipped, without a time stamp in it."""
        return gzip.compress(self.raw(), 6, mtime=0)


def busybox_system(archive, busybox, files):
    """Adds the small system that boots to a shell: busybox, device nodes, and the files of scripts/guest."""
    for name in ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/proc", "/sys", "/tmp", "/root"):
        archive.directory(name)
    archive.chardev("/dev/console", 5, 1)
    archive.chardev("/dev/null", 1, 3, 0o666)
    with open(busybox, "rb") as source:
        archive.file("/bin/busybox", source.read(), 0o755)
    archive.symlink("/bin/sh", "busybox")
    for name, dest, mode in (("init", "/init", 0o755), ("rc", "/etc/rc", 0o755),
                             ("inittab", "/etc/inittab", 0o644), ("profile", "/etc/profile", 0o644)):
        with open(os.path.join(files, name), "rb") as source:
            archive.file(dest, source.read(), mode)
    archive.file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.file("/etc/group", b"root:x:0:\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="the archive to write")
    parser.add_argument("--busybox", help="a static riscv64 busybox; adds the system that boots to a shell")
    parser.add_argument("--files", default=os.path.join(os.path.dirname(__file__), "../guest"),
                        help="where that system's init and its other files are")
    parser.add_argument("--add", action="append", default=[], metavar="DEST=FILE", help="one more file")
    args = parser.parse_args()
    archive = Archive()
    if args.busybox:
        busybox_system(archive, args.busybox, args.files)
    for item in args.add:
        dest, path = item.split("=", 1)
        archive.add(dest, path)
    with open(args.out + ".new", "wb") as out:
        out.write(archive.bytes())
    os.replace(args.out + ".new", args.out)


if __name__ == "__main__":
    main()
