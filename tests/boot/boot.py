#!/usr/bin/env python3
"""Boots real software and works with it as its user would: boot.py --emulator FILE CASE (or --list).

Each case is one function below. A case returns when all is well and raises ConsoleError or AssertionError,
with the console's last lines, when not.
"""

import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile

from cases import case, check, main
from console import PROMPT, TIMEOUT, Console, ConsoleError
from setting import assemble, guest, skip

import hostmemory
import initramfs

INIT = rb"Stag guest: init runs"


def end_by_key(console):
    """Ctrl-A x ends the emulator, with status 0."""
    console.send(b"\x01x")
    check(console.wait() == 0, console, "Ctrl-A x should end it with status 0")


def opensbi_banner(emulator, firmware):
    with Console([emulator.path, "-M", "virt", "-nographic", "-bios", guest(firmware)]) as console:
        console.expect(rb"OpenSBI v\d+\.\d+")
        console.expect(rb"Platform Name +: riscv-virtio")
        console.expect(rb"Boot HART MEDELEG +: 0x[0-9a-f]{16}")
        end_by_key(console)


@case
def opensbi_jump(emulator):
    opensbi_banner(emulator, "opensbi/fw_jump.bin")


@case
def opensbi_dynamic(emulator):
    opensbi_banner(emulator, "opensbi/fw_dynamic.bin")


@case
def opensbi_default(emulator):
    """Without -bios, OpenSBI is found by itself."""
    with Console([emulator.path, "-M", "virt", "-nographic", "-kernel", guest("u-boot/s-u-boot.bin")]) as console:
        console.expect(rb"OpenSBI v\d+\.\d+")
        console.expect(rb"U-Boot 20\d\d\.\d\d")
        end_by_key(console)


def u_boot(emulator, options):
    prompt = rb"\n=> "
    with Console([emulator.path, "-M", "virt", "-m", "256M", "-nographic", *options]) as console:
        for _ in range(2):
            console.expect(rb"U-Boot 20\d\d\.\d\d")
            console.expect(rb"Hit any key to stop autoboot")
            console.send(b" ")
            console.expect(prompt)
            console.send("setexpr x 0x1200 + 0x34; printenv x\n")
            console.expect(rb"\nx=1234")
            console.expect(prompt)
            # A mebibyte of one byte, and the crc32 of it that zlib gives.
            console.send("mw.b 0x84000000 0x5a 0x100000; crc32 0x84000000 0x100000\n")
            console.expect(rb"==> 8d02798e")
            console.expect(prompt)
            console.send("reset\n")
        console.expect(rb"Hit any key to stop autoboot")
        console.send(b" ")
        console.expect(prompt)
        console.send("poweroff\n")
        check(console.wait() == 0, console, "poweroff should end it with status 0")


@case
def u_boot_supervisor(emulator):
    u_boot(emulator, ["-bios", guest("opensbi/fw_dynamic.bin"), "-kernel", guest("u-boot/s-u-boot.bin")])


@case
def u_boot_machine(emulator):
    u_boot(emulator, ["-bios", guest("u-boot/m-u-boot.bin")])


def session(console, reboots=1):
    """Works in the guest's shell, restarts the machine, and powers it off."""
    console.expect(INIT)
    console.expect(PROMPT)
    mounts = console.run("mount")
    for where in ("/proc", "/sys", "/dev", "/tmp"):
        check(f" on {where} type " in mounts, console, f"{where} should be mounted")
    listing = console.run("ls /")
    for name in ("bin", "dev", "init", "proc", "sys"):
        check(re.search(rf"\b{name}\b", listing), console, f"ls / should show {name}")
    check(re.search(r"^isa\s*: rv64i", console.run("cat /proc/cpuinfo"), re.M), console, "cpuinfo: no rv64 isa")
    check("riscv64" in console.run("uname -a"), console, "uname should say riscv64")

    block = hashlib.sha256(bytes(8 << 20)).hexdigest()
    check(block in console.run("dd if=/dev/zero bs=64k count=128 2>/dev/null | sha256sum"), console,
          "wrong sha256 of 8 MiB of zeros")
    lines = hashlib.sha256("".join(f"{i}\n" for i in range(1, 50001)).encode()).hexdigest()
    check(lines in console.run("seq 1 50000 >/tmp/n; sha256sum </tmp/n"), console, "wrong sha256 of 50000 lines")
    console.run("gzip -k /tmp/n; gzip -dc /tmp/n.gz | cmp - /tmp/n && echo same-\"\"bytes")
    check("same-bytes" in console.text(), console, "gzip should bring back what it packed")

    total = console.run("i=0; s=0; while [ $i -lt 2000 ]; do i=$((i+1)); s=$((s+i)); done; echo sum $s")
    check("sum 2001000" in total, console, "a loop in the shell counted wrong")
    total = console.run("i=0; while [ $i -lt 100 ]; do i=$((i+1)); /bin/busybox echo $i; done | wc -l")
    check(re.search(r"^\s*100\s*$", total, re.M), console, "100 processes should print 100 lines")
    floats = console.run("awk 'BEGIN { for (i = 1; i < 5000; i++) s += 1 / (i * i); printf \"%.12f %.5e\\n\", s, s / 7e9 }'")
    basel = sum(1 / (i * i) for i in range(1, 5000))
    check("%.12f %.5e" % (basel, basel / 7e9) in floats, console, "awk's floating point is wrong")

    # Job control: Ctrl-C ends a program, not the shell, the guest or the emulator.
    console.send("sh -c 'echo slee\"\"ping; exec sleep 100000'\n")
    console.expect(rb"sleeping")
    console.send(b"\x03")
    console.expect(PROMPT)
    check("1234321" in console.run("echo $((1111 * 1111))"), console, "the shell should live on after Ctrl-C")
    # Ctrl-A twice is one Ctrl-A for the guest: "start of line" to the shell, so `echo` ends up in front.
    console.send(b"typed-here\x01\x01echo \n")
    console.expect(rb"\n(\x1b\[[0-9;]*[A-Za-z])*typed-here\r*\n")
    console.expect(PROMPT)

    if reboots:
        console.send("reboot\n")
        session(console, reboots - 1)
        return
    console.send("poweroff\n")
    check(console.wait() == 0, console, "poweroff should end it with status 0")


@case
def linux(emulator):
    with Console(emulator.linux()) as console:
        session(console)


@case
def linux_small_cache(emulator):
    """A code cache of 2 MiB is full many times over during a boot."""
    with Console(emulator.linux(*emulator.options(tb_size=2))) as console:
        session(console)


@case
def linux_gzip(emulator):
    """A gzipped Image, little memory, kernel parameters that reach /proc/cmdline."""
    command = emulator.linux(append="quiet stag.test=1", memory="256M")
    if not emulator.is_qemu:    # Debian 12's QEMU takes no gzipped Image for RISC-V
        command[command.index("-kernel") + 1] = guest("Image.gz")
    with Console(command) as console:
        console.expect(PROMPT)
        check("quiet stag.test=1" in console.run("cat /proc/cmdline"), console, "-append should reach the kernel")
        memory = int(re.search(r"MemTotal: +(\d+) kB", console.run("grep MemTotal /proc/meminfo")).group(1))
        check(150 << 10 < memory < 256 << 10, console, "-m 256M should give the guest less than that, not much")
        console.send("poweroff\n")
        check(console.wait() == 0, console, "poweroff should end it with status 0")


def initrd_with(folder, files):
    """The guest's initramfs with further files, {name in the guest: file here}, in `folder`."""
    more = initramfs.Archive()
    for name, path in files.items():
        more.add(name, path)
    path = os.path.join(folder, "initramfs")
    with open(guest("initramfs.cpio.gz"), "rb") as first, open(path, "wb") as out:
        out.write(first.read() + more.bytes())
    return path


PCI_LIST = "for d in /sys/bus/pci/devices/*; do echo \"${d##*/} $(cat $d/vendor $d/device $d/class | tr '\\n' ' ')\"; done"


@case
def pci(emulator):
    """Linux finds what stands on the PCI bus, and works with virtio devices there, also after a restart."""
    devices = ["-device", "virtio-rng-pci,disable-legacy=on,addr=0x5", "-device", "virtio-rng-pci,disable-legacy=on",
               "-device", "virtio-blk-pci,disable-legacy=on,drive=d,bus=pcie.0"]
    with tempfile.TemporaryDirectory() as folder:
        initrd = initrd_with(folder, {f"/{m}.ko": guest(f"modules/{m}.ko") for m in ("virtio_rng", "virtio_blk")})
        image = os.path.join(folder, "disk")
        disk = bytearray(os.urandom(4 << 20))
        with open(image, "wb") as file:
            file.write(disk)
        devices += ["-drive", f"file={image},format=raw,if=none,id=d"]
        with Console(emulator.linux(*devices, initrd=initrd)) as console:
            for last in (False, True):
                console.expect(INIT)
                console.expect(PROMPT)
                listing = console.run(PCI_LIST)
                for line in ("0000:00:00.0 0x1b36 0x0008 0x060000", "0000:00:01.0 0x1af4 0x1044 0x00ff00",
                             "0000:00:02.0 0x1af4 0x1042 0x010000", "0000:00:05.0 0x1af4 0x1044 0x00ff00"):
                    check(line in listing, console, f"PCI should have {line}")
                check(len(re.findall(r"^0000:", listing, re.M)) == 4, console, "there should be four PCI functions")
                console.run("insmod /virtio_rng.ko; insmod /virtio_blk.ko")
                for slot in ("01", "05"):
                    check("virtio_rng" in console.run(f"ls -l /sys/bus/pci/devices/0000:00:{slot}.0/virtio*/driver"),
                          console, f"the device in slot {slot} should have a driver")
                check("virtio_rng" in console.run("cat /sys/class/misc/hw_random/rng_current"), console,
                      "the kernel should have chosen a virtio-rng")
                count = console.run("dd if=/dev/hwrng bs=512 count=64 2>/dev/null | wc -c")
                check(re.search(r"^32768\s*$", count, re.M), console, "64 blocks should come from the virtio-rng")
                # Slot 1's INTA is number 33, slot 5's as well.
                check(re.search(r"^\s*\d+:\s+[1-9]\d*\s+.*PLIC.* 33 .*virtio\d", console.run("cat /proc/interrupts"), re.M),
                      console, "interrupts should have come by wire 33")
                check(hashlib.sha256(disk).hexdigest() in console.run("sha256sum /dev/vda"), console,
                      "the disk should read as it is")
                console.run("dd if=/dev/zero of=/dev/vda bs=64k seek=16 count=16 conv=fsync")
                disk[1 << 20:2 << 20] = bytes(1 << 20)
                console.send("poweroff\n" if last else "reboot\n")
            check(console.wait() == 0, console, "poweroff should end it with status 0")
            with open(image, "rb") as file:
                check(file.read() == disk, console, "what the guest wrote should be on the disk")


@case
def no_reboot(emulator):
    """-no-reboot turns the guest's reboot into an end with status 0."""
    with Console(emulator.linux("-no-reboot")) as console:
        console.expect(PROMPT)
        console.send("reboot\n")
        check(console.wait() == 0, console, "-no-reboot should end it with status 0")
        check(len(re.findall(INIT.decode(), console.text())) == 1, console, "it should not have started again")


# A machine-mode program: prints a line on the UART, counts instructions, and tells the finisher how it went.
HELLO = r"""
        .globl _start
_start: la    a0, text
        li    a1, 0x10000000
1:      lbu   a2, 0(a0)
        beqz  a2, 2f
wait:   lbu   a3, 5(a1)
        andi  a3, a3, 0x20
        beqz  a3, wait
        sb    a2, 0(a1)
        addi  a0, a0, 1
        j     1b
2:      li    a0, 0
        li    a1, 100000
        li    a2, 1
3:      add   a0, a0, a2
        addi  a2, a2, 1
        ble   a2, a1, 3b
        li    a1, 5000050000
        li    a2, 0x100000
        li    a3, 0x5555
        li    a4, (7 << 16) | 0x3333
        beq   a0, a1, 4f
        mv    a4, a3
4:      csrr  a5, mhartid
        beqz  a5, 5f
        mv    a4, a3
5:      mv    a3, FINISH
        sw    a3, 0(a2)
6:      j     6b
text:   .asciz "hello from machine mode\n"
"""


def machine_mode(emulator, accel):
    with tempfile.TemporaryDirectory() as folder:
        for register, status in (("a3", 0), ("a4", 7)):
            program = assemble(HELLO.replace("FINISH", register), os.path.join(folder, f"hello-{status}"))
            command = [emulator.path, "-M", "virt", "-nographic", "-bios", "none", "-kernel", program]
            with Console(command + emulator.options(accel=accel)) as console:
                ended = console.wait()
                check("hello from machine mode\n" in console.text(), console, "the program should print its line")
                check(ended == status, console, f"it ended with status {ended}, the guest said {status}")


@case
def machine_mode_jit(emulator):
    machine_mode(emulator, "jit")


@case
def machine_mode_interp(emulator):
    machine_mode(emulator, "interp")


def autorun(folder, script):
    """An initramfs whose guest runs `script` instead of waiting for somebody to type."""
    extra = initramfs.Archive()
    extra.file("/etc/autorun", b"#!/bin/sh\n" + script.encode(), 0o755)
    path = os.path.join(folder, "initramfs")
    with open(guest("initramfs.cpio.gz"), "rb") as base, open(path, "wb") as out:
        out.write(base.read() + extra.bytes())
    return path


@case
def stdin_pipe(emulator):
    """Commands that wait in a pipe reach the guest, though the pipe's other end is closed by then."""
    # The kernel's console discards nothing, but the shell that starts may flush what came before it.
    process = subprocess.Popen(emulator.linux(append="quiet"), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    output = b""
    while not re.search(PROMPT, output):
        data = os.read(process.stdout.fileno(), 65536)
        assert data, f"it ended before the prompt: {output[-2000:]!r}"
        output += data
    process.stdin.write(b"echo $((271 * 2))-piped\npoweroff\n")
    process.stdin.close()
    rest = process.stdout.read()
    assert b"542-piped" in rest, f"the command should have run: {rest[-2000:]!r}"
    assert process.wait(TIMEOUT) == 0, f"status {process.returncode}"


@case
def stdin_null(emulator):
    """With nothing to read at all the guest runs on and its output arrives."""
    with tempfile.TemporaryDirectory() as folder:
        initrd = autorun(folder, "echo $((271 * 3))-alone; poweroff -f\n")
        done = subprocess.run(emulator.linux(initrd=initrd, append="quiet"), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, timeout=TIMEOUT, check=False)
    assert b"813-alone" in done.stdout, f"the command should have run: {done.stdout[-2000:]!r}"
    assert done.returncode == 0, f"status {done.returncode}"


def at_firmware(emulator):
    """A console with OpenSBI running: the shortest way to an emulator that is up."""
    console = Console([emulator.path, "-M", "virt", "-nographic", "-bios", guest("opensbi/fw_jump.bin")])
    console.expect(rb"OpenSBI v\d")
    now, before = console.terminal()
    check(now != before, console, "the terminal should be raw while the guest runs")
    return console


def check_restored(console):
    now, before = console.terminal()
    check(now == before, console, "the terminal's settings should be as they were")


@case
def keys(emulator):
    """Ctrl-A h lists the keys, Ctrl-A x ends, and the terminal is as it was."""
    with at_firmware(emulator) as console:
        console.send(b"\x01h")
        console.expect(rb"(?i)(C-a|Ctrl-A|\^A) x")
        end_by_key(console)
        check_restored(console)


@case
def sigterm(emulator):
    """SIGTERM ends it, and the terminal is as it was."""
    with at_firmware(emulator) as console:
        console.process.send_signal(signal.SIGTERM)
        console.wait()
        check_restored(console)


@case
def crash(emulator):
    """Even a crash of the emulator leaves the terminal as it was, and is not reported as success."""
    if emulator.is_qemu:
        skip("QEMU leaves the terminal raw when it crashes")
    with at_firmware(emulator) as console:
        console.process.send_signal(signal.SIGSEGV)
        check(console.wait() != 0, console, "a crash should not end with status 0")
        check_restored(console)


@case
def many_execs(emulator):
    """10,000 new processes leave the emulator below 400 MiB above the guest's memory."""
    memory = 256
    with Console(emulator.linux(memory=f"{memory}M", append="quiet")) as console:
        console.expect(PROMPT)
        for thousand in range(1, 11):
            said = console.run("i=0; while [ $i -lt 1000 ]; do /bin/busybox true || echo bad; i=$((i+1)); done; "
                               "echo done $i")
            check("done 1000" in said and "bad" not in said, console, "a process failed")
            above = hostmemory.above_guest(console.process.pid, memory)
            print(f"after {thousand},000 execs: {above:.0f} MiB above the guest's {memory}", flush=True)
            check(above < 400, console, f"{above:.0f} MiB above the guest's memory")
        console.send("poweroff\n")
        check(console.wait() == 0, console, "poweroff should end it with status 0")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0]))
