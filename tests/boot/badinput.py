#!/usr/bin/env python3
"""Files that are missing, cut short or hostile, and options that make no sense: badinput.py --emulator FILE.

The rule for all of them: exit status 1 and one sentence on standard error that starts with the program's name,
never a signal, never a hang. What happens once a guest runs is the guest's affair, so files that could be
meant (any bytes are a raw kernel, any RAM is large enough for something) only have to run without a crash.
"""

import argparse
import gzip
import os
import re
import struct
import subprocess
import sys
import tempfile

from setting import Emulator, cross_compiler, assemble

TIMEOUT = float(os.environ.get("STAG_TEST_TIMEOUT", "60"))

# A guest that powers the machine off at once, whatever its memory is.
OFF = """
        .globl _start
_start: li    a0, 0x100000
        li    a1, 0x5555
        sw    a1, 0(a0)
1:      j     1b
"""


def elf(machine=243, bits=64, phoff=None, phnum=1, phentsize=None, entry=0x80000000, vaddr=0x80000000,
        filesz=8, memsz=None, offset=None, data=b"\x6f\0\0\0" * 2, kind=2, segment=1, endian="<", shoff=0, shnum=0):
    """An ELF file with one segment, every field of which may be wrong."""
    wide = bits == 64
    header, program = (64, 56) if wide else (52, 32)
    phoff = header if phoff is None else phoff
    phentsize = program if phentsize is None else phentsize
    memsz = filesz if memsz is None else memsz
    offset = header + program if offset is None else offset
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if endian == "<" else 2, 1]) + bytes(9)
    word = "Q" if wide else "I"
    out = ident + struct.pack(endian + "HHI" + word * 3 + "IHHHHHH", kind, machine, 1, entry, phoff, shoff, 0,
                              header, phentsize, phnum, 64, shnum, 0)
    if wide:
        out += struct.pack(endian + "IIQQQQQQ", segment, 7, offset, vaddr, vaddr, filesz, memsz, 4096)
    else:
        out += struct.pack(endian + "IIIIIIII", segment, offset, vaddr, vaddr, filesz, memsz, 7, 4096)
    return out + data


def image(size=None, offset=0x200000, magic=0x05435352, body=b"\x6f\0\0\0" * 16, magic1=0x5643534952):
    """A Linux Image: a jump, the load offset, the size, and the magics."""
    size = 64 + len(body) if size is None else size
    return struct.pack("<IIQQQIIQQII", 0x0400006f, 0, offset, size, 0, 2, 0, 0, magic1, magic, 0) + body


def dtb(total=None, version=17, structure=None, off_struct=None, off_strings=None, off_rsv=40, magic=0xd00dfeed,
        size_struct=None):
    """A device tree with an empty root node, every field of which may be wrong."""
    structure = struct.pack(">IIII", 1, 0, 2, 9) if structure is None else structure
    off_struct = 56 if off_struct is None else off_struct
    end = 56 + len(structure)
    return struct.pack(">10I", magic, end if total is None else total, off_struct,
                       end if off_strings is None else off_strings, off_rsv, version, 16, 0, 0,
                       len(structure) if size_struct is None else size_struct) + bytes(16) + structure


def cases(folder, emulator):
    """Yields (name, options, what is expected): 'error', 'runs' (guest output or a time limit end it), 'off' (the
    guest powers off), or a pattern that the error must hold."""

    def put(name, data):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(data)
        return path

    def sparse(name, size, start=b""):
        path = put(name, start)
        os.truncate(path, size)
        return path

    off = assemble(OFF, os.path.join(folder, "off"))
    with open(off, "rb") as file:
        off_bytes = file.read()
    missing = os.path.join(folder, "no-such-file")
    bare = ["-bios", "none", "-kernel"]
    nobody = os.path.join(folder, "unreadable")
    os.mkdir(nobody)

    yield "a guest that powers off", [*bare, off], "off"

    # Files that are not there, or no files.
    for option in ("-kernel", "-bios", "-initrd", "-dtb"):
        words = ["-kernel", off] if option in ("-initrd", "-dtb") else []
        yield f"{option} missing", [*words, option, missing], "no-such-file"
        yield f"{option} a folder", [*words, option, nobody], "unreadable"
    yield "-kernel empty", [*bare, put("empty", b"")], "error"
    yield "-bios empty", ["-bios", put("empty", b"")], "error"
    yield "-dtb empty", [*bare, off, "-dtb", put("empty", b"")], "error"
    yield "-device loader missing", [*bare, off, "-device", f"loader,file={missing},addr=0x81000000"], "no-such-file"
    yield "-device loader outside RAM", [*bare, off, "-device", f"loader,file={off},addr=0x10"], "error"
    yield "-device loader raw outside RAM", [*bare, off, "-device",
                                             f"loader,file={put('raw', b'x' * 64)},addr=0xfffffffffffffff0"], "error"
    yield "-device loader without a file", [*bare, off, "-device", "loader,addr=0x81000000"], "error"
    yield "-device loader with a bad address", [*bare, off, "-device", f"loader,file={off},addr=here"], "error"
    yield "-device unknown", [*bare, off, "-device", "flux-capacitor"], "flux-capacitor"

    # ELF files: cut short at every interesting length, then each field wrong.
    for length in (1, 3, 4, 15, 16, 40, 63, 64, 65, 100, 119):
        yield f"ELF cut at {length}", [*bare, put(f"cut-{length}", off_bytes[:length])], \
            "runs" if length < 4 else "error"
    big = (1 << 64) - 1
    for name, data in {
            "other machine": elf(machine=62), "big-endian": elf(endian=">"), "no segments": elf(phnum=0),
            "headers beyond the end": elf(phoff=1 << 40), "headers wrap": elf(phoff=big - 8),
            "65535 headers": elf(phnum=65535), "tiny header entries": elf(phentsize=1),
            "zero header entries": elf(phentsize=0), "segment beyond the file": elf(filesz=1 << 20),
            "segment offset wraps": elf(offset=big - 3), "segment size wraps": elf(filesz=big, memsz=big),
            "smaller in memory than in the file": elf(filesz=8, memsz=4),
            "memory size huge": elf(memsz=1 << 62), "memory size wraps": elf(memsz=big - 7),
            "outside RAM": elf(vaddr=0x4000_0000), "over the end of RAM": elf(vaddr=0x87ff_fffc),
            "address wraps": elf(vaddr=big - 3), "relocatable": elf(kind=1), "core file": elf(kind=4),
            "sections beyond the end": None,
            "32-bit, memory size huge": elf(bits=32, memsz=0xffff_fff0), "32-bit, outside RAM": elf(bits=32, vaddr=0x100),
            "32-bit, headers wrap": elf(bits=32, phoff=0xffff_fff0)}.items():
        if data:
            yield f"ELF {name}", [*bare, put("elf", data)], "error"
    yield "ELF sections beyond the end", [*bare, put("elf", elf(shoff=big - 8, shnum=9))], "runs"
    yield "ELF entry outside RAM", [*bare, put("elf", elf(entry=0x40))], "runs"
    yield "32-bit ELF", [*bare, put("elf", elf(bits=32))], "runs"
    yield "32-bit ELF on -cpu rv64", ["-cpu", "rv64", *bare, put("elf", elf(bits=32))], "error"
    yield "64-bit ELF on -cpu rv32", ["-cpu", "rv32", *bare, put("elf", elf(bits=64))], "error"
    yield "-signature without symbols", [*bare, put("elf", elf()), "-signature", os.path.join(folder, "sig")], "error"
    yield "-signature into nowhere", [*bare, off, "-signature", os.path.join(missing, "sig")], "error"

    # Linux Images.
    yield "Image size beyond RAM", [*bare, put("Image", image(size=1 << 40))], "error"
    yield "Image size wraps", [*bare, put("Image", image(size=big))], "error"
    yield "Image offset beyond RAM", [*bare, put("Image", image(offset=1 << 40))], "runs"
    yield "Image offset wraps", [*bare, put("Image", image(offset=big - 0xfff))], "runs"
    yield "Image without a body", [*bare, put("Image", image(body=b""))], "runs"
    yield "Image cut short", [*bare, put("Image", image()[:60])], "runs"
    yield "kernel larger than RAM", ["-m", "64M", *bare, sparse("large", 65 << 20)], "error"
    yield "Image larger than RAM", ["-m", "64M", *bare, sparse("large", 65 << 20, image(size=65 << 20))], "error"
    yield "kernel of 1 TiB", ["-m", "64M", *bare, sparse("large", 1 << 40)], "error"
    yield "-bios larger than RAM", ["-m", "64M", "-bios", sparse("large", 65 << 20)], "error"
    yield "-initrd larger than RAM", ["-m", "64M", *bare, off, "-initrd", sparse("large", 65 << 20)], "error"
    yield "-initrd of 1 TiB", ["-m", "64M", *bare, off, "-initrd", sparse("large", 1 << 40)], "error"
    yield "-initrd empty", [*bare, off, "-initrd", put("empty", b"")], "off|error"
    yield "-initrd of noise", [*bare, off, "-initrd", put("noise", bytes(range(256)) * 64)], "off"

    # gzip: cut short, damaged, a bomb.
    packed = gzip.compress(image(body=bytes(range(256)) * 4096))
    yield "gzip cut in its header", [*bare, put("gz", packed[:6])], "error"
    yield "gzip cut", [*bare, put("gz", packed[:len(packed) // 2])], "error"
    yield "gzip without its end", [*bare, put("gz", packed[:-4])], "error"
    yield "gzip damaged", [*bare, put("gz", packed[:40] + b"\xff" * 40 + packed[80:])], "error"
    yield "gzip bomb", ["-m", "64M", *bare, put("gz", gzip.compress(bytes(200 << 20), 9))], "error"
    yield "gzip of nothing", [*bare, put("gz", gzip.compress(b""))], "error"

    # Device trees. The guest powers off before it looks at them, so only what Stag itself reads matters.
    for name, data in {
            "noise": bytes(range(256)) * 4, "cut header": dtb()[:20], "wrong magic": dtb(magic=0xd00dfeee),
            "too long": dtb(total=1 << 30), "negative length": dtb(total=0xffff_ffff), "too short": dtb(total=8),
            "structure beyond the end": dtb(off_struct=1 << 20), "structure at -1": dtb(off_struct=0xffff_fffc),
            "structure cut": dtb(structure=struct.pack(">I", 1)), "unknown token": dtb(structure=b"\0\0\0\7" * 4),
            "property too long": dtb(structure=struct.pack(">IIIII", 1, 0, 3, 0xffff_fff0, 0)),
            "future version": dtb(version=99, structure=b""),
            "deep": dtb(structure=struct.pack(">II", 1, 0) * 200000)}.items():
        yield f"dtb {name}", [*bare, off, "-dtb", put("dtb", data)], "error"
    yield "dtb with an empty root", [*bare, off, "-dtb", put("dtb", dtb())], "off|error"

    # Sizes of memory.
    yield "-m 0", ["-m", "0", *bare, off], "error"
    yield "-m -1", ["-m", "-1", *bare, off], "error"
    yield "-m of words", ["-m", "plenty", *bare, off], "plenty"
    yield "-m with nothing", [*bare, off, "-m"], "error"
    yield "-m 99999999999999999999", ["-m", "99999999999999999999", *bare, off], "error"
    yield "-m 16E", ["-m", "16E", *bare, off], "error"
    yield "-m 1T", ["-m", "1T", *bare, off], "off|error"
    for size in ("64M", "128M", "1G", "8G"):
        yield f"-m {size}", ["-m", size, *bare, off], "off"
    yield "-smp 0", ["-smp", "0", *bare, off], "error"
    yield "-smp 1000000", ["-smp", "1000000", *bare, off], "error"

    # Options.
    yield "unknown option", ["-kernle", off], r"-kernle.*-kernel"
    yield "unknown option, two dashes", ["--initdr", off], r"-initdr.*-initrd"
    yield "unknown option, far from all", ["-qqqqqqqqqqqq"], "qqqqqqqqqqqq"
    yield "a word that is no option", [*bare, off, "kernel"], "kernel"
    yield "an option without its value", [*bare, off, "-initrd"], "-initrd"
    yield "unknown machine", ["-M", "vurt", *bare, off], r"vurt"
    yield "unknown cpu", ["-cpu", "rv46", *bare, off], r"rv46"
    yield "unknown extension", ["-cpu", "rv64,zbz=on", *bare, off], r"zbz"
    yield "extension neither on nor off", ["-cpu", "rv64,zba=perhaps", *bare, off], r"perhaps"
    yield "unknown -accel", ["-accel", "magic", *bare, off], "magic"
    yield "-tb-size 0", ["-tb-size", "0", *bare, off], "error"
    yield "-tb-size of words", ["-tb-size", "large", *bare, off], "large"
    yield "-tb-size 1000000", ["-tb-size", "1000000", *bare, off], "error"
    yield "unknown -d item", ["-d", "everything-else", *bare, off], "everything-else"
    yield "-D into nowhere", ["-d", "exec", "-D", os.path.join(missing, "log"), *bare, off], "no-such-file"
    yield "-D a folder", ["-d", "exec", "-D", nobody, *bare, off], "unreadable"
    yield "dumpdtb into nowhere", ["-machine", f"virt,dumpdtb={missing}/dtb"], "no-such-file"
    yield "unknown machine property", ["-machine", "virt,colour=red"], "colour"
    yield "unknown -serial", ["-serial", "carrier-pigeon", *bare, off], "carrier-pigeon"
    yield "unknown -monitor", ["-monitor", "carrier-pigeon", *bare, off], "carrier-pigeon"
    for option, word in (
            ("-device virtio-rng-device,colour=red", "colour"), ("-device virtio-rng-device,bus=pcie.0", "pcie.0"),
            ("-device virtio-rng-device,bus=virtio-mmio-bus.9", "bus.9"), ("-device virtio-rgn-device", "virtio-rng"),
            ("-device virtio-rng-device -device virtio-rng-device " * 5, "in use"),
            ("-serial chardev:nobody", "nobody"), ("-monitor chardev:nobody", "nobody"),
            ("-chardev file,id=c,path=" + os.path.join(missing, "x"), "no-such-file"),
            ("-chardev null,id=c -chardev null,id=c", "two"), ("-chardev socket,id=c,path=" + missing, "no-such-file"),
            ("-chardev socket,id=c,server=on,path=/" + "x" * 200, "107"), ("-chardev null", "id="),
            ("-chardev socket,id=c,port=99999999,host=localhost", "port"), ("-serial unix:" + missing, "no-such-file"),
            ("-serial tcp:localhost:", "HOST:PORT"), ("-serial mon:stdio -monitor stdio", "twice"),
            ("-chardev stdio,id=c", "twice"), ("-global virtio-mmio.force-legacy=perhaps", "false"),
            ("-device virtconsole", "virtio-serial"), ("-device virtio-serial-device -device virtconsole,chardev=x", "x"),
            ("-drive if=none,file=" + missing, "no-such-file"), ("-drive if=none,file=" + nobody, "unreadable"),
            ("-drive if=none,id=a,file={0} -drive if=none,id=a,file={0},readonly=on".format(off), "error"),
            ("-drive if=none,index=1,file={0} -drive if=none,index=1,file={0}".format(off), "error"),
            ("-drive if=none,colour=red,file=" + off, "colour"), ("-drive if=none", "file"),
            ("-netdev user", "id"), ("-netdev pigeon,id=n", "pigeon"), ("-netdev user,id=n,colour=red", "colour"),
            ("-netdev user,id=n -netdev user,id=n", "two"), ("-netdev user,id=n,hostfwd=tcp:x", "error"),
            ("-netdev tap,id=n,ifname=no-such-interface-at-all", "error"), ("-nic pigeon", "pigeon"), ("-net nic", "none"),
            ("-device virtio-blk-device", "drive"), ("-device virtio-blk-device,drive=x", "x"),
            ("-drive if=none,id=x,file={0},readonly=on -device virtio-blk-device,drive=x "
             "-device virtio-blk-device,drive=x".format(off), "use"),
            ("-device virtio-net-device,netdev=x", "x"), ("-device virtio-net-device,mac=1:2", "mac"),
            ("-netdev user,id=x -device virtio-net-device,netdev=x -device virtio-net-device,netdev=x", "use"),
            ("-drive file=" + missing, "no-such-file"), ("-hda " + missing, "no-such-file"),
            ("-mon chardev", "error"), ("-mon mode=control,chardev=c", "control"), ("-chardev", "needs a value")):
        yield f"{option[:60]} ", [*bare, off, *option.split()], word
    yield "nothing to run", ["-bios", "none"], "error"
    yield "-append without a kernel", ["-bios", "none", "-append", "quiet"], "error"


def judge(emulator, options, expected):
    """Runs one case; returns what is wrong with it, or None."""
    command = [emulator.path, "-nographic"]
    if not {"-M", "-machine"} & set(options):
        command += ["-M", "virt"]
    if "-accel" not in options:
        command += emulator.options(accel="interp")
    command += options
    limit = 2 if expected == "runs" else TIMEOUT
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return None if expected == "runs" else f"it did not end within {limit:.0f} seconds"
    said = done.stderr.decode(errors="replace")
    if done.returncode < 0:
        return f"signal {-done.returncode} ended it: {said}"
    if expected == "runs" and done.returncode in (0, 1) and (done.returncode == 0 or said):
        return None
    if expected in ("off", "off|error") and done.returncode == 0:
        return None
    if expected in ("off", "runs"):
        return f"exit status {done.returncode}, though this should run: {said}"
    if done.returncode != 1:
        return f"exit status {done.returncode} instead of 1: {said}"
    lines = said.strip().splitlines()
    if len(lines) != 1:
        return f"{len(lines)} lines of error instead of one: {said}"
    if not re.match(r"(stag|qemu-system-riscv64): \S.*\S", lines[0]):
        return f"the error should start with the program's name: {said}"
    if expected not in ("error", "off|error") and not re.search(expected, lines[0]):
        return f"the error should hold {expected!r}: {said}"
    return None


def limited_memory(emulator, folder):
    """Little address space is a sentence too."""
    off = assemble(OFF, os.path.join(folder, "off"))
    for kib in (1 << 20, 256 << 10, 64 << 10):
        for memory in ("64M", "4G"):
            shell = f"ulimit -v {kib}; exec \"$@\""
            done = subprocess.run(["sh", "-c", shell, "sh", emulator.path, "-M", "virt", "-nographic", "-m", memory,
                                   "-bios", "none", "-kernel", off,
                                   *emulator.options(accel="interp")], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False)
            said = done.stderr.decode(errors="replace").strip()
            yield f"ulimit -v {kib} -m {memory}", None if done.returncode == 0 or (
                done.returncode == 1 and len(said.splitlines()) == 1) else f"status {done.returncode}: {said}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", default="build/stag")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--no-limits", action="store_true", help="no cases with little address space")
    args = parser.parse_args()
    emulator = Emulator(args.emulator)
    cross_compiler()
    count = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        results = ((name, judge(emulator, options, expected)) for name, options, expected in cases(folder, emulator)
                   if args.only in name)
        limited = [] if args.no_limits else limited_memory(emulator, folder)
        for part in (results, limited):
            for name, wrong in part:
                count += 1
                if wrong:
                    failed += 1
                    print(f"FAILED  {name}: {wrong.strip()}", flush=True)
    print(f"{count - failed} of {count} inputs were handled as they should be")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
