"""Guests with a disk, for the tests that need one.

SmallDisk is a system of a few files: busybox on an ext4 file system, made in a second, with a login on the console
and no network configured. What boots it is Debian's kernel with an initramfs that only loads the modules and
switches to the disk.

Guest runs an emulator on any disk, with the console on a pseudo-terminal and a port of this machine that leads to
the guest's ssh: for a Debian that scripts/debian made, ssh() and the others work in it once wait_ssh() has come back.
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time

from console import TIMEOUT, Console, ConsoleError
from setting import SCRIPTS, guest, skip

import initramfs

# mke2fs and its relatives are where only root's PATH leads.
os.environ["PATH"] += ":/usr/sbin:/sbin"

PASSWORD = "hart"
PASSWORD_HASH = "$6$stagstag$ZuEviaPAnngfJqfZzqmhP3W..v/q/11MgM7Vw5oAoLJeSaYWMiygbkhXjObw67TINiCePBANVJdj/mLXkJGez0"

# The initramfs of a small system: the modules, then the disk.
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /dev /sys /disk
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs devtmpfs /dev
while read -r module; do /bin/busybox insmod /modules/$module.ko; done </modules/order
tries=0
while [ ! -b /dev/vda ] && [ $tries -lt 100 ]; do /bin/busybox usleep 50000; tries=$((tries + 1)); done
/bin/busybox mount -t ext4 /dev/vda /disk || echo "the disk does not mount"
/bin/busybox mount --move /dev /disk/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /disk /sbin/init
"""

INITTAB = """::sysinit:/etc/rc
ttyS0::respawn:/sbin/getty -L ttyS0 115200 vt100
::ctrlaltdel:/sbin/reboot
::shutdown:/bin/umount -a -r
"""

RC = """#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /tmp
hostname guest
ifconfig lo 127.0.0.1
[ ! -x /etc/autorun ] || /etc/autorun
"""

# Sets up eth0 with what udhcpc was told.
UDHCPC = """#!/bin/sh
[ "$1" = bound ] || exit 0
ifconfig $interface $ip netmask $subnet
route add default gw $router
for server in $dns; do echo nameserver $server; done >/etc/resolv.conf
"""


def free_port():
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            digest.update(data)
    return digest.hexdigest()


def tool(*words, statuses=(0,)):
    """Runs a program of e2fsprogs and gives what it prints; skips the test where it is missing."""
    if not shutil.which(words[0]):
        skip(f"there is no {words[0]}; scripts/lib/install-deps test brings it")
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          text=True, errors="replace", check=False)
    if done.returncode not in statuses:
        raise AssertionError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-3000:]}")
    return done.stdout


def fsck(disk):
    """Says what is wrong with the file system of `disk`; changes nothing. The journal has to be empty."""
    tool("e2fsck", "-fn", disk)


def read_file(disk, name):
    """The bytes of a file in the file system of `disk`, read without mounting it."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "file")
        said = tool("debugfs", "-R", f"dump {name} {out}", disk)
        if not os.path.exists(out):
            raise AssertionError(f"{name} is not on the disk: {said}")
        with open(out, "rb") as file:
            return file.read()


class SmallDisk:
    """An ext4 file system with busybox on it at `path`. `files` has contents by name: bytes, or (bytes, mode)."""

    def __init__(self, path, files=None, size="64M"):
        self.path = path
        with tempfile.TemporaryDirectory() as tree:
            def put(name, data, mode=0o644):
                where = os.path.join(tree, name.strip("/"))
                os.makedirs(os.path.dirname(where), exist_ok=True)
                with open(where, "wb") as file:
                    file.write(data if isinstance(data, bytes) else data.encode())
                os.chmod(where, mode)

            for name in ("bin", "sbin", "usr/bin", "usr/sbin", "proc", "sys", "dev", "tmp", "root", "data", "etc"):
                os.makedirs(os.path.join(tree, name))
            os.chmod(tree, 0o755)
            with open(guest("busybox"), "rb") as file:
                put("bin/busybox", file.read(), 0o755)
            # Every applet is a link; the host can't run this busybox to ask for its list, so the guest does it.
            for name in ("bin/sh", "bin/mount", "bin/umount", "sbin/init", "sbin/getty", "bin/login"):
                os.symlink("/bin/busybox", os.path.join(tree, name))
            put("etc/passwd", f"root:{PASSWORD_HASH}:0:0:root:/root:/bin/sh\n")
            put("etc/group", "root:x:0:\n")
            put("etc/inittab", INITTAB)
            put("etc/rc", RC.replace("mount -t proc", "/bin/busybox --install -s\nmount -t proc", 1), 0o755)
            put("etc/udhcpc/default.script", UDHCPC, 0o755)
            with open(os.path.join(SCRIPTS, "guest", "profile"), "rb") as file:
                put("etc/profile", file.read())
            for name, data in (files or {}).items():
                put(name, *(data if isinstance(data, tuple) else (data,)))
            with open(path, "wb") as file:
                file.truncate({"M": 1 << 20, "G": 1 << 30}[size[-1]] * int(size[:-1]))
            tool("mke2fs", "-q", "-F", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=0", "-d", tree, path)


def small_initramfs(path):
    """Writes the initramfs that boots a SmallDisk, and gives its path."""
    archive = initramfs.Archive()
    archive.chardev("/dev/console", 5, 1)
    archive.add("/bin/busybox", guest("busybox"))
    archive.file("/init", INIT.encode(), 0o755)
    folder = guest("modules")
    for name in os.listdir(folder):
        archive.add(f"/modules/{name}", os.path.join(folder, name))
    with open(path, "wb") as out:
        out.write(archive.bytes())
    return path


class Guest(Console):
    """An emulator running on a disk.

    `kernel`, `initrd`, `append` say what boots, as the options of these names; without a kernel it is what a SmallDisk
    needs, with an initramfs made here.
    `forward` maps names to ports of the guest; self.ports has the host's port of each. `ssh` is one of them where
    the guest has a secure shell; `key` is the file of the private key, `user` who logs in.
    """

    def __init__(self, emulator, disk, *, smp=1, memory="512M", kernel=None, initrd=None, append=None, forward=None,
                 key=None, user="root", network=True, drive="", options=(), tee=None):
        self.folder = tempfile.mkdtemp(prefix="stag-guest.")
        self.key, self.user = key, user
        self.ports = {name: free_port() for name in (forward or {})}
        if not kernel:
            kernel = guest("Image")
            initrd = initrd or small_initramfs(os.path.join(self.folder, "initrd"))
            append = append or "console=ttyS0 quiet"
        command = [emulator.path, "-M", "virt", "-m", memory, "-smp", str(smp), "-nographic",
                   "-bios", guest("opensbi/fw_dynamic.bin"), "-kernel", kernel]
        command += ["-initrd", initrd] if initrd else []
        command += ["-append", append] if append else []
        command += ["-drive", f"file={disk},format=raw,if=virtio{drive}"]
        if network:
            forwards = "".join(f",hostfwd=tcp:127.0.0.1:{self.ports[name]}-:{port}"
                               for name, port in (forward or {}).items())
            command += ["-netdev", f"user,id=n0{forwards}", "-device", "virtio-net-device,netdev=n0"]
        super().__init__([*command, *options], tee=tee)

    def __exit__(self, *args):
        super().__exit__(*args)
        shutil.rmtree(self.folder, ignore_errors=True)

    def login(self, name="root", password=PASSWORD, prompt=rb"[#$] ", timeout=TIMEOUT):
        """Logs in on the console."""
        self.expect(rb"login: ", timeout)
        self.send(name + "\n")
        self.expect(rb"Password: ", timeout)
        self.send(password + "\n")
        self.expect(prompt, timeout)

    def quiet(self, seconds):
        """Lets the guest run for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._read(0.2)

    def ssh_options(self):
        return ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=30", "-o", "ServerAliveInterval=30",
                "-o", f"IdentityFile={self.key}", "-o", "IdentitiesOnly=yes"]

    def ssh(self, command, timeout=TIMEOUT, data=None):
        """Runs a shell command in the guest; gives its exit status and what it printed. Keeps reading the console,
        so that the guest never waits for somebody to look at it."""
        words = ["ssh", *self.ssh_options(), "-p", str(self.ports["ssh"]), f"{self.user}@127.0.0.1", command]
        return self.host(words, timeout, data)

    def host(self, words, timeout=TIMEOUT, data=None):
        """Runs a program here while the guest runs; gives its exit status and what it printed."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as into:
            into.write(data or b"")
            into.seek(0)
            process = subprocess.Popen(words, stdin=into, stdout=out, stderr=subprocess.STDOUT)
            end = time.monotonic() + timeout
            while process.poll() is None:
                self._read(0.1)
                if time.monotonic() > end or self.process.poll() is not None:
                    process.kill()
                    process.wait()
                    why = "the guest ended" if self.process.poll() is not None else f"{timeout:.0f} seconds passed"
                    self.fail(f"{why} during: {' '.join(words[-1:])}")
            out.seek(0)
            return process.returncode, out.read().decode(errors="replace")

    def check(self, command, timeout=TIMEOUT, data=None):
        """As ssh(), for a command that has to succeed; gives what it printed."""
        status, said = self.ssh(command, timeout, data)
        if status:
            raise ConsoleError(f"this ended with {status} in the guest: {command}\n{said[-4000:]}")
        return said

    def wait_ssh(self, timeout=TIMEOUT):
        """Waits until the guest takes a command by ssh."""
        end = time.monotonic() + timeout
        while True:
            status, said = self.ssh("true", timeout)
            if not status:
                return
            if time.monotonic() > end:
                self.fail(f"no ssh within {timeout:.0f} seconds: {said}")
            time.sleep(0.5)

    def copy(self, source, dest, timeout=TIMEOUT):
        """scp; a path that begins with : is the guest's."""
        ends = [f"{self.user}@127.0.0.1{path}" if path.startswith(":") else path for path in (source, dest)]
        status, said = self.host(["scp", "-q", *self.ssh_options(), "-P", str(self.ports["ssh"]), *ends], timeout)
        if status:
            raise ConsoleError(f"scp {source} {dest} ended with {status}: {said}")

    def poweroff(self, timeout=TIMEOUT):
        """Shuts the guest down by ssh and waits for the emulator's end, whose status has to be 0."""
        self.ssh("systemctl poweroff", timeout)
        if self.wait(timeout) != 0:
            self.fail(f"it should end with status 0, not {self.process.returncode}")


def debian_files(disk):
    """The kernel, initramfs and append line of a disk that scripts/debian made, as keywords of Guest."""
    folder = os.path.dirname(os.path.abspath(disk))
    return {"kernel": os.path.join(folder, "vmlinuz"), "initrd": os.path.join(folder, "initrd.img"),
            "append": "root=/dev/vda console=ttyS0"}


def iperf_rates(guest, seconds=10):
    """Gbit/s into a Debian guest and out of it, by iperf3; `forward` has to have an `iperf` for port 5201."""
    guest.check("pkill iperf3; iperf3 -s -D; sleep 1")
    rates = []
    for options in ([], ["-R"]):
        status, said = guest.host(["iperf3", "-c", "127.0.0.1", "-p", str(guest.ports["iperf"]), "-t", str(seconds),
                                   "-J", *options], timeout=seconds * 10 + 60)
        if status:
            raise ConsoleError(f"iperf3 ended with {status}: {said[-1000:]}")
        rates.append(json.loads(said)["end"]["sum_received"]["bits_per_second"] / 1e9)
    return rates


FIO = {"4k random read": "--rw=randread --bs=4k --iodepth=32", "4k random write": "--rw=randwrite --bs=4k --iodepth=32",
       "1M read": "--rw=read --bs=1M --iodepth=8", "1M write": "--rw=write --bs=1M --iodepth=8"}


def fio_rates(guest, file, size="1G", seconds=10):
    """(MiB/s, operations a second) in a Debian guest by fio, for each of FIO; `file` is a file there, or a disk."""
    rates = {}
    for name, options in FIO.items():
        said = guest.check(f"fio --name=t --filename={file} --size={size} --ioengine=libaio --direct=1 "
                           f"--runtime={seconds} --time_based --output-format=json {options} 2>/dev/null",
                           timeout=seconds * 20 + 300)
        job = json.loads(said[said.index("{"):])["jobs"][0]
        if job["error"]:
            raise ConsoleError(f"fio {name} ended with error {job['error']}")
        side = job["read" if name.endswith("read") else "write"]
        rates[name] = (side["bw"] / 1024, side["iops"])
    return rates
