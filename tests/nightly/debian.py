#!/usr/bin/env python3
"""A whole Debian at work, check by check: debian.py --emulator FILE --folder FOLDER [CHECK]... (or --list).

FOLDER keeps the disk between runs; it takes about 10 GiB. `make` installs Debian there by scripts/debian; every
other check boots that disk. Several checks in a row share one boot if they want the same number of harts. A check
passes when nothing in it went wrong and the guest's kernel did not complain; its figures and verdict go to
FOLDER/results.json and, as a table, to FOLDER/results.md.

What the guest is compared with is this machine: the same Debian release's packages for amd64, in a chroot.
"""

import argparse
import concurrent.futures
import contextlib
import fcntl
import functools
import hashlib
import http.server
import io
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tarfile
import termios
import threading
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(TOP, "tests", "boot"))

from console import ConsoleError                                            # noqa: E402
from diskguest import (Guest, debian_files, fio_rates, free_port, fsck,     # noqa: E402
                       iperf_rates, tool)
from setting import Emulator, guest as guest_file                           # noqa: E402

CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "stag")

# Kernel messages that mean that time, memory or a device went wrong.
COMPLAINTS = re.compile(r"BUG:|WARNING: CPU|rcu: INFO|rcu_sched|soft lockup|hard LOCKUP|hung_task|"
                        r"blocked for more than|Oops|Unable to handle kernel|Kernel panic|I/O error|"
                        r"EXT4-fs (?:error|warning)|NETDEV WATCHDOG|clocksource: .*unstable|segfault|unhandled signal")
# Programs of the tests that are meant to die by a signal say so in the kernel's log too.
EXPECTED = re.compile(r"(?:stress-ng|python3)\S*\[\d+\]: unhandled signal")

PACKAGES = ["gcc", "libc6-dev", "fio", "iperf3", "stress-ng", "sqlite3", "perl", "libpython3.13-testsuite"]
INSTALLER = "debian-installer-13-netboot-riscv64"
# Parts of Python's own tests that need no display and no other machine, and end in minutes.
PYTHON_TESTS = ["test_int", "test_float", "test_long", "test_math", "test_cmath", "test_decimal", "test_fractions",
                "test_struct", "test_json", "test_re", "test_str", "test_zlib", "test_hashlib", "test_sqlite3",
                "test_subprocess", "test_threading", "test_queue", "test_socket", "test_select", "test_mmap",
                "test_os", "test_signal", "test_fork1", "test_wait4", "test_pickle", "test_generators", "test_gc",
                "test_ctypes", "test_array", "test_bytes", "test_set", "test_dict", "test_list", "test_tempfile"]
PERL_TESTS = ["base/*.t", "cmd/*.t", "op/*.t", "re/pat*.t", "re/reg*.t", "re/sub*.t"]

# A program that uses integers, floats, processes and the C library; it prints what this machine prints, too.
PROGRAM = r"""
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(void)
{
    uint64_t state = 88172645463325252u, hash = 14695981039346656037u;
    static double values[20000];
    for (int i = 0; i < 20000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        values[i] = sqrt((double)(state >> 11)) / 3.0 + (double)(int64_t)state / 1e9;
    }
    qsort(values, 20000, sizeof(values[0]), compare);
    for (int i = 0; i < 20000; i += 97) {
        char text[64];
        snprintf(text, sizeof(text), "%.17g %a", values[i], values[i]);
        for (size_t n = 0; n < strlen(text); n++) {
            hash = (hash ^ (unsigned char)text[n]) * 1099511628211u;
        }
    }
    int total = 0;
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            _exit(i * 3);
        }
        int status;
        waitpid(child, &status, 0);
        total += WEXITSTATUS(status);
    }
    printf("%016llx %.17g %d\n", (unsigned long long)hash, values[777], total);
    return 0;
}
"""

# Sends back whatever comes, to any number of clients.
ECHO = """
import asyncio
async def serve(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 7000, backlog=512)
    async with server:
        await server.serve_forever()
asyncio.run(main())
"""

# Fetches from the host over many connections at once, and says how many were right.
CLIENT = """
import hashlib, sys, threading, urllib.request
port, count, want = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
good = []
def fetch():
    with urllib.request.urlopen(f"http://10.0.2.2:{port}/", timeout=300) as reply:
        good.append(hashlib.sha256(reply.read()).hexdigest() == want)
threads = [threading.Thread(target=fetch) for _ in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(sum(good))
"""

STRESS = {
    "cpu": "--cpu {n} --cpu-method all",
    "vm": "--vm {n} --vm-bytes 256M",
    "hdd": "--hdd {n} --hdd-bytes 256M",
    "fork": "--fork {n}",
    "futex": "--futex {n}",
    "switch": "--switch {n}",
    "memory": "--memcpy {n} --malloc {n} --memthrash {n} --mmap {n} --mmap-bytes 64M",
    "atomic": "--atomic {n}",
}


class Wrong(Exception):
    """A check that did not give what it should."""


CHECKS = {}


def check(name, harts=2):
    """A check that works in a booted guest. It gives its figures as a text."""
    def register(function):
        CHECKS[name] = (function, harts)
        return function
    return register


def want(condition, why):
    if not condition:
        raise Wrong(why)


def complaints(log):
    """The lines of a kernel's log that mean trouble."""
    return [line for line in log.splitlines() if COMPLAINTS.search(line) and not EXPECTED.search(line)]


class Setting:
    """What all checks share: the emulator, the folder, the guest that runs now."""

    def __init__(self, args):
        self.emulator = Emulator(args.emulator)
        self.folder = os.path.abspath(args.folder)
        self.disk = os.path.join(self.folder, "disk.img")
        self.key = os.path.join(self.folder, "key")
        self.seconds = args.seconds
        self.mirror = args.mirror
        self.harts_wanted = args.harts
        self.guest = None
        self.harts = 0
        os.makedirs(self.folder, exist_ok=True)
        if not os.path.exists(self.key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)

    def start(self, harts):
        """The guest with so many harts; one that runs already is kept if it fits."""
        if self.guest and self.harts == harts:
            return self.guest
        self.stop()
        log = open(os.path.join(self.folder, "console.log"), "ab")
        self.guest = Guest(self.emulator, self.disk, smp=harts, memory="2G", key=self.key, tee=log,
                           forward={"ssh": 22, "iperf": 5201, "echo": 7000}, **debian_files(self.disk))
        self.harts = harts
        self.guest.wait_ssh()
        return self.guest

    def stop(self):
        """Shuts the guest down and looks at the file system."""
        if not self.guest:
            return
        guest, self.guest = self.guest, None
        with guest:
            guest.poweroff()
        fsck(self.disk)

    def kill(self):
        if self.guest:
            self.guest.__exit__()
            self.guest = None

    def complaints(self):
        """What the guest's kernel complained about since the last call."""
        return complaints(self.guest.check("dmesg; dmesg -C"))


def machine_mirror():
    """The archive that this machine takes Debian from."""
    script = f". {TOP}/scripts/lib/common.sh; . {TOP}/scripts/lib/apt.sh; apt_mirrors"
    said = subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    if not said:
        sys.exit("debian.py: this machine's apt sources name no archive of Debian")
    return said[0]


@functools.lru_cache
def native():
    """A chroot with the same release's packages for this machine, and how to run a command there; None where that
    can't be had."""
    if os.getuid():
        return None
    done = subprocess.run([f"{TOP}/scripts/lib/debian-tree", "trixie", "amd64", "nightly-native", "coreutils", "bash",
                           "perl", "gawk", "sqlite3", "python3", "libpython3.13-testsuite", "net-tools", "procps",
                           "libc-bin", "sed", "grep", "dash", "findutils", "tar", "passwd", "base-passwd", "login"],
                          stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        return None
    root = os.path.join(done.stdout.strip(), "root")
    for name in ("proc", "dev", "tmp", "root"):
        os.makedirs(os.path.join(root, name), exist_ok=True)
    os.chmod(os.path.join(root, "tmp"), 0o1777)
    for name in ("passwd", "group"):
        shutil.copy(os.path.join(root, "usr/share/base-passwd", f"{name}.master"), os.path.join(root, "etc", name))
    with open(os.path.join(root, "etc/hosts"), "w") as file:
        file.write("127.0.0.1 localhost\n")
    return root


def native_run(command, timeout=3600, statuses=(0,)):
    root = native()
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c",
             'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; mount --make-rslave "$1/dev"; '
             'exec chroot "$1" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin LC_ALL=C.UTF-8 bash -c "$2"',
             "bash", root, command]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                          text=True, errors="replace", timeout=timeout, check=False)
    want(done.returncode in statuses,
         f"natively this ended with {done.returncode}: {command[:200]}\n{done.stdout[-1000:]}")
    return done.stdout


def kept(setting, name, command):
    """What a native command printed when it ran first: with the same packages it says the same each time, and takes its
    minutes. A test program ends with a status of its own, so the caller looks at what it said."""
    with open(os.path.join(native(), os.pardir, "versions"), "rb") as file:
        head = f"{hashlib.sha256(file.read()).hexdigest()} {command}\n"
    path = os.path.join(setting.folder, name)
    if os.path.exists(path):
        with open(path) as file:
            text = file.read()
        if text.startswith(head):
            return text[len(head):]
    said = native_run(command, statuses=range(128))
    with open(path, "w") as file:
        file.write(head + said)
    return said


class Folder(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class Web:
    """A web server on the loopback interface, which the guest reaches as 10.0.2.2, for a folder or some bytes."""

    def __init__(self, folder=None, data=None):
        class Bytes(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 512
            daemon_threads = True

        handler = functools.partial(Folder, directory=folder) if folder else Bytes
        self.server = Server(("127.0.0.1", 0), handler)
        self.port = self.server.server_address[1]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def make(setting):
    """scripts/debian, with the second stage in the emulator; killed in the middle of it, and started again."""
    for name in os.listdir(setting.folder):
        if name.startswith("disk.img"):
            os.unlink(os.path.join(setting.folder, name))
    which = "qemu" if setting.emulator.is_qemu else "stag"
    command = [f"{TOP}/scripts/debian", "--no-boot", "--emulator", which, "--size", "10G", "--smp", "2",
               "--ssh-key", setting.key + ".pub", *(["--mirror", setting.mirror] if setting.mirror else []), setting.disk]
    log = os.path.join(CACHE, "log", "debian-disk.img-second.log")

    def run(end):
        """Runs it in a session of its own until a line of its output matches `end`; gives the seconds since its second
        stage began, and whether it has ended by itself."""
        began = 0
        with subprocess.Popen(command, env=dict(os.environ, STAG_BIN=setting.emulator.path), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True,
                              start_new_session=True) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                began = time.monotonic() if "Second stage: " in line else began
                if re.search(end, line):
                    os.killpg(process.pid, signal.SIGTERM)
                    process.wait()
                    return time.monotonic() - began, False
        want(process.returncode == 0, "scripts/debian failed")
        return time.monotonic() - began, True

    took, ended = run("Unpacking the base system")
    want(not ended, "the second stage should have been interrupted")
    took, ended = run("(?!)")
    with open(log, errors="replace") as file:
        text = file.read()
    bad = complaints(text)
    want(not bad, f"the kernel complained: {bad[:3]}")
    fsck(setting.disk)
    packages = re.search(r"(\d+) packages are installed", text)
    want(packages, f"{log} does not say how many packages there are")
    return (f"interrupted and begun again; {packages.group(1)} packages in {took / 60:.1f} minutes, dpkg --audit empty, "
            "no kernel warning, e2fsck clean")


def boot(setting):
    """From power on to the login prompt, by the host's clock; then a look at all units."""
    setting.stop()
    times = []
    for _ in range(3):
        start = time.monotonic()
        with Guest(setting.emulator, setting.disk, smp=setting.harts_wanted or 2, memory="2G", key=setting.key,
                   forward={"ssh": 22}, **debian_files(setting.disk)) as console:
            console.expect(rb"debian login: ")
            times.append(time.monotonic() - start)
            console.wait_ssh()
            said = console.ssh("systemctl is-system-running --wait; systemctl --failed --plain --no-legend")[1]
            want(said.strip() == "running", f"the system is not just running: {said[-2000:]}")
            said = console.check("dpkg --audit")
            want(not said, f"dpkg --audit: {said[-2000:]}")
            bad = complaints(console.check("dmesg"))
            want(not bad, f"the kernel complains: {bad[:3]}")
            analyze = console.check("systemd-analyze | head -n 1").strip()
            console.poweroff()
        fsck(setting.disk)
    return (f"login after {statistics.median(times):.1f} s (of {', '.join(f'{t:.1f}' for t in times)}), no failed "
            f"units, e2fsck clean; {analyze}")


@check("apt")
def apt(setting, guest):
    """Packages through user networking: from the machine's archive, else from a folder served here."""
    mirror = setting.mirror or machine_mirror()
    # Only the release itself: a private archive need not carry its updates.
    guest.check(f"rm -f /etc/apt/sources.list.d/debian.sources; echo 'deb [signed-by=/usr/share/keyrings/"
                f"debian-archive-keyring.gpg] {mirror} trixie main' >/etc/apt/sources.list")
    start = time.monotonic()
    status, said = guest.ssh("apt-get -q update")
    # apt calls a list that it could not fetch a warning.
    if not status and "Failed to fetch" not in said:
        said = guest.check("DEBIAN_FRONTEND=noninteractive apt-get -q install -y --no-install-recommends "
                           + " ".join(PACKAGES), timeout=3600)
        guest.check("sync; test -z \"$(dpkg --audit)\"")
        size = re.search(r"Need to get ([^/\n]*?)(?:/[^\n]*)? of archives", said)
        count = re.search(r"(\d+) newly installed", said)
        return (f"{count.group(1) if count else '?'} packages, {size.group(1) if size else '?'}, in "
                f"{time.monotonic() - start:.0f} s, dpkg --audit empty")
    try:
        with urllib.request.urlopen(f"{mirror.rstrip('/')}/dists/trixie/Release", timeout=60):
            pass
        raise Wrong(f"the guest does not reach the archive, but this machine does: {said[-1000:]}")
    except OSError:
        pass
    # No archive: what debootstrap left in the cache is one, with a list that says so.
    debs = os.path.join(CACHE, "debian", "debs")
    listing = subprocess.run(["dpkg-scanpackages", "-m", "."], cwd=debs, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, check=True).stdout
    with open(os.path.join(debs, "Packages"), "wb") as file:
        file.write(listing)
    with Web(folder=debs) as web:
        guest.check(f"mkdir -p /tmp/l && echo 'deb [trusted=yes] http://10.0.2.2:{web.port} ./' >/tmp/l/s.list && "
                    "o='-o Dir::Etc::SourceList=/tmp/l/s.list -o Dir::Etc::SourceParts=/dev/null' && "
                    "apt-get $o update && apt-get $o install -y --reinstall less && less --version")
    return f"less, from a folder served on the host (the archive did not answer: {said.strip().splitlines()[-1]})"


@check("gcc")
def gcc(setting, guest):
    """The guest's compiler makes a program that prints what the same program prints here."""
    start = time.monotonic()
    said = guest.check("cat >/tmp/p.c && gcc -O2 -ffp-contract=off -Wall -o /tmp/p /tmp/p.c -lm && /tmp/p",
                       data=PROGRAM.encode())
    took = time.monotonic() - start
    path = os.path.join(setting.folder, "program")
    subprocess.run(["gcc", "-O2", "-ffp-contract=off", "-x", "c", "-o", path, "-", "-lm"], input=PROGRAM.encode(),
                   check=True)
    here = subprocess.run([path], stdout=subprocess.PIPE, text=True, check=True).stdout
    want(said == here, f"the guest says {said!r}, this machine {here!r}")
    return f"{said.strip()}, as native; {took:.1f} s"


def python_results(said):
    """The result of each of Python's test files, and the sum, from the output of `python3 -m test -j1`."""
    results = dict(re.findall(r"\] (test_\w+) (passed|failed|skipped|timed out|crashed|\w+)", said))
    total = re.search(r"Total tests: run=.*", said)
    return results, total.group(0) if total else "no sum"


@check("python-tests")
def python_tests(setting, guest):
    """Python's own tests give the result that they give natively."""
    command = f"export LC_ALL=C.UTF-8; cd /tmp && python3 -m test -j1 --timeout 1200 {' '.join(PYTHON_TESTS)} 2>&1"
    start = time.monotonic()
    said = guest.ssh(command, timeout=7200)[1]
    took = time.monotonic() - start
    with open(os.path.join(setting.folder, "python-guest.log"), "w") as file:
        file.write(said)
    results, total = python_results(said)
    want(set(results) == set(PYTHON_TESTS), f"these did not run: {set(PYTHON_TESTS) - set(results)}")
    native_results, native_total = {}, "nothing to compare with"
    if native():
        native_results, native_total = python_results(kept(setting, "python-native.log", command))
        want(set(native_results) == set(PYTHON_TESTS), "not all of them ran natively")
    # A file may be skipped where it is natively, too.
    bad = {name: result for name, result in results.items()
           if result != "passed" and not (result == "skipped" == native_results.get(name))}
    want(not bad, f"these do not pass: {bad}")
    return f"{total}; natively: {native_total}; {took:.0f} s"


@check("perl-tests")
def perl_tests(setting, guest):
    """Perl's own tests, from its source package, with the installed perl: each file says the same as natively."""
    version = guest.check("perl -e 'printf \"%vd\", $^V'").strip()
    tar = os.path.join(setting.folder, f"perl-{version}-tests.tar")
    if not os.path.exists(tar):
        mirror = setting.mirror or machine_mirror()
        source = f"{mirror.rstrip('/')}/pool/main/p/perl/perl_{version}.orig.tar.xz"
        with urllib.request.urlopen(source) as reply:
            data = io.BytesIO(reply.read())
        # The tests, and of the library only the tables that some of them read: the rest is the installed perl's.
        with tarfile.open(fileobj=data) as whole, tarfile.open(tar + ".new", "w") as part:
            for member in whole:
                if re.match(r"[^/]+/(t|lib/unicore)/", member.name) and member.isfile():
                    member.name = re.sub(r"^[^/]+", "perl", member.name)
                    part.addfile(member, whole.extractfile(member))
        os.rename(tar + ".new", tar)
    # On a file system of a disk, with hashes in the same order and without a terminal, as some tests depend on that.
    lines = "s/^(ok|not ok)( [0-9]+)?.*/\\1\\2/p; s/^(1\\.\\.[0-9]+).*/\\1/p"
    run = (f"export PERL_HASH_SEED=0 PERL_SKIP_TTY_TEST=1; cd /var/tmp/perl/t && for f in {' '.join(PERL_TESTS)}; do "
           f"timeout 300 perl -I../lib $f 2>/dev/null </dev/null | sed -nE '{lines}' >/var/tmp/perl.out; "
           "echo $f $(grep -c ^ok /var/tmp/perl.out) ok, $(grep -c ^not /var/tmp/perl.out) not ok, "
           "$(md5sum </var/tmp/perl.out); done")
    # The tests look for the library and the program beside them only.
    unpack = ("rm -rf /var/tmp/perl; tar -C /var/tmp -xf /var/tmp/perl.tar; cd /var/tmp/perl && for d in $(perl -e "
              "'print join \" \", grep { m,^/usr/(lib|share)/, && -d } @INC'); do cp -an $d/. lib/; done; "
              "ln -s /usr/bin/perl t/perl")
    guest.copy(tar, ":/var/tmp/perl.tar")
    guest.check(unpack)
    start = time.monotonic()
    said = guest.check(run, timeout=7200)
    took = time.monotonic() - start
    with open(os.path.join(setting.folder, "perl-guest.log"), "w") as file:
        file.write(said)
    here = dict(line.split(" ", 1) for line in said.splitlines() if " " in line)
    good = sum(map(int, re.findall(r" (\d+) ok,", said)))
    want(len(here) > 200 and good > 50_000, f"{len(here)} files with {good} tests are too few")
    if not native():
        return f"{len(here)} files, {good} tests ok; {took:.0f} s, nothing to compare with"
    shutil.copy(tar, os.path.join(native(), "var/tmp/perl.tar"))
    native_run(unpack)
    there = kept(setting, "perl-native.log", run)
    there = dict(line.split(" ", 1) for line in there.splitlines() if " " in line)
    differ = {name: (here[name], there.get(name)) for name in here if here[name] != there.get(name)}
    want(not differ, f"{len(differ)} of {len(here)} files differ from native: {dict(list(differ.items())[:8])}")
    return f"{len(here)} files, {good} tests ok, each file as natively; {took:.0f} s"


@check("sqlite")
def sqlite(setting, guest):
    """A database of 200,000 rows, with indexes, transactions and integrity check, gives the same sums as here."""
    script = """
create table t(id integer primary key, k integer, v text, r real);
begin;
with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000)
insert into t select i, (i * 7919) % 100003, printf('%x-%d', i * 2654435761 % 4294967296, i), i / 7.0 from n;
commit;
create index tk on t(k); create index tv on t(v);
update t set v = v || '!' where k % 3 = 0;
delete from t where k % 11 = 5;
select count(*), sum(k), sum(length(v)), round(sum(r), 3), min(v), max(v) from t;
select k / 10000, count(*), round(avg(r), 6) from t group by 1 order by 1;
vacuum;
pragma integrity_check;
"""
    start = time.monotonic()
    said = guest.check("rm -f /root/t.db; sqlite3 /root/t.db; rm -f /root/t.db", data=script.encode())
    took = time.monotonic() - start
    want(said.rstrip().endswith("ok"), f"the integrity check says {said[-200:]}")
    import sqlite3
    here = sqlite3.connect(":memory:", isolation_level=None)
    lines = []
    for statement in script.strip().split(";"):
        if statement.strip():
            for row in here.execute(statement):
                lines.append("|".join(str(value) for value in row))
    want(said.split() == "\n".join(lines).split(), f"the guest says {said!r}, this machine {lines!r}")
    return f"same sums as native, integrity ok; {took:.1f} s"


def stress(kind, harts):
    def run(setting, guest):
        options = STRESS[kind].format(n=harts)
        said = guest.ssh(f"cd /root && stress-ng --verify --metrics-brief --timeout {setting.seconds}s {options} 2>&1",
                         timeout=setting.seconds * 10 + 600)
        want(said[0] == 0, f"stress-ng ended with {said[0]}: {said[1][-1500:]}")
        want(not re.search(r"fail(?:ed|ure)?: [1-9]|error:", said[1]) and "successful run completed" in said[1],
             f"stress-ng is not content: {said[1][-1500:]}")
        figures = re.findall(r"metrc: \[\d+\] ([a-z]\S*) +(\d+) +\S+ +\S+ +\S+ +(\S+)", said[1])
        return "; ".join(f"{name} {operations} operations, {rate}/s" for name, operations, rate in figures)
    return run


for _harts in (1, 2):
    for _kind in STRESS:
        CHECKS[f"stress-{_kind}-{_harts}"] = (stress(_kind, _harts), _harts)


@check("scp")
def scp(setting, guest):
    """1 GiB each way, with its hash."""
    path = os.path.join(setting.folder, "gigabyte")
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for _ in range(1024):
            piece = os.urandom(1 << 20)
            digest.update(piece)
            file.write(piece)
    start = time.monotonic()
    guest.copy(path, ":/root/gigabyte", timeout=3600)
    there = time.monotonic() - start
    want(digest.hexdigest() in guest.check("sync; echo 3 >/proc/sys/vm/drop_caches; sha256sum /root/gigabyte"),
         "the hash in the guest is another")
    os.unlink(path)
    start = time.monotonic()
    guest.copy(":/root/gigabyte", path, timeout=3600)
    back = time.monotonic() - start
    again = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            again.update(piece)
    os.unlink(path)
    guest.check("rm /root/gigabyte; fstrim /")
    want(again.digest() == digest.digest(), "the hash of what came back is another")
    return f"into the guest {1024 / there:.0f} MiB/s, out of it {1024 / back:.0f} MiB/s, hashes right"


@check("iperf3")
def iperf3(setting, guest):
    into, out = iperf_rates(guest)
    return f"into the guest {into:.2f} Gbit/s, out of it {out:.2f} Gbit/s"


@check("connections")
def connections(setting, guest, count=200):
    """So many TCP connections at once, into the guest and out of it."""
    guest.check("cat >/root/echo.py; systemd-run --unit=echo -p LimitNOFILE=4096 python3 /root/echo.py; sleep 3",
                data=ECHO.encode())
    data = os.urandom(256 << 10)
    gate = threading.Barrier(count)

    def talk(_):
        try:
            with socket.create_connection(("127.0.0.1", guest.ports["echo"]), timeout=300) as connection:
                connection.sendall(data[:1])
                want(connection.recv(1) == data[:1], "the first byte came back wrong")
                gate.wait(300)      # all of them are open now
                sender = threading.Thread(target=connection.sendall, args=(data,))
                sender.start()
                back = bytearray()
                while len(back) < len(data):
                    piece = connection.recv(65536)
                    if not piece:
                        break
                    back += piece
                sender.join()
                return back == data
        except Exception:
            gate.abort()            # nobody waits for one that failed
            raise

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        good = sum(pool.map(talk, range(count)))
    took = time.monotonic() - start
    guest.check("systemctl stop echo")
    want(good == count, f"{good} of {count} connections into the guest gave back what they got")
    piece = data[:64 << 10]
    with Web(data=piece) as web:
        start = time.monotonic()
        said = guest.check(f"cat >/root/client.py; python3 /root/client.py {web.port} {count} "
                           f"{hashlib.sha256(piece).hexdigest()}", data=CLIENT.encode())
        out = time.monotonic() - start
    want(said.strip() == str(count), f"{said.strip()} of {count} connections out of the guest were right")
    return (f"{count} into the guest with 256 KiB both ways in {took:.1f} s, {count} out of it with 64 KiB in "
            f"{out:.1f} s")


@check("fio")
def fio(setting, guest):
    """Throughput, and then a pass in which fio checks every block that it wrote."""
    rates = fio_rates(guest, "/root/fio.dat")
    guest.check("fio --name=v --filename=/root/fio.dat --size=256M --ioengine=libaio --direct=1 --rw=randwrite --bs=4k "
                "--iodepth=32 --verify=crc32c --verify_fatal=1 >/root/fio.log 2>&1 || { cat /root/fio.log; false; }; "
                "rm /root/fio.dat; fstrim /", timeout=3600)
    return "; ".join(f"{name} {rate:.0f} MiB/s, {operations:.0f}/s" for name, (rate, operations) in rates.items())


@check("shutdown")
def shutdown(setting, guest):
    """Writes until the moment of the shutdown; the file system is clean afterwards and what was synced is there."""
    guest.check("systemd-run --unit=writer sh -c 'i=0; while :; do i=$((i+1)); dd if=/dev/urandom of=/root/w.$((i%20)) "
                "bs=64k count=16 2>/dev/null; done'; sleep 5; echo kept >/root/kept; sync")
    setting.stop()
    want("kept" in tool("debugfs", "-R", "cat /root/kept", setting.disk), "what was synced is not there")
    return "e2fsck -fn finds nothing"


# Makes of the second disk what other distributions' images are: a partition for the firmware with GRUB, and one with
# the system.
BOOTABLE = r"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -q install -y --no-install-recommends grub-efi-riscv64-bin grub2-common grub-common dosfstools fdisk
disk=/dev/$(lsblk -dnbo NAME,SIZE | awk '$2 == 3221225472 { print $1 }')
printf 'label: gpt
size=64MiB, type=uefi
type=linux
' | sfdisk -q $disk
udevadm settle
mkfs.vfat -F 32 ${disk}1
mkfs.ext4 -q -L system ${disk}2
mount ${disk}2 /mnt
tar -C / --one-file-system --exclude=./var/cache/apt -cf - . | tar -C /mnt -xf -
mkdir -p /mnt/boot/efi
mount ${disk}1 /mnt/boot/efi
for where in dev proc sys; do mount --bind /$where /mnt/$where; done
printf 'LABEL=system / ext4 defaults 0 1
' >/mnt/etc/fstab
printf 'GRUB_TIMEOUT=1
GRUB_CMDLINE_LINUX="console=ttyS0"
GRUB_TERMINAL=console
' >/mnt/etc/default/grub
chroot /mnt grub-install --target=riscv64-efi --efi-directory=/boot/efi --removable --no-nvram
chroot /mnt update-grub
umount -R /mnt
"""


def efi(setting):
    """A disk with a partition table, U-Boot as the firmware, GRUB and the kernel from the disk."""
    setting.stop()
    image = os.path.join(setting.folder, "efi.img")
    with open(image, "wb") as file:
        file.truncate(3 << 30)
    files = dict(debian_files(setting.disk), append="root=LABEL=debian console=ttyS0")
    with Guest(setting.emulator, setting.disk, smp=setting.harts_wanted or 2, memory="2G", key=setting.key,
               forward={"ssh": 22}, options=["-drive", f"file={image},format=raw,if=virtio"],
               **files) as console:
        console.wait_ssh()
        console.check("cat >/tmp/b.sh; apt-get -q update && bash /tmp/b.sh", data=BOOTABLE.encode(), timeout=3600)
        console.poweroff()
    start = time.monotonic()
    with Guest(setting.emulator, image, memory="2G", key=setting.key, forward={"ssh": 22},
               kernel=guest_file("u-boot/s-u-boot.bin")) as console:
        console.expect(rb"U-Boot 20\d\d\.\d\d")
        console.expect(rb"GRUB")
        console.expect(rb"Linux version|EFI stub")
        console.expect(rb"debian login: ")
        took = time.monotonic() - start
        console.wait_ssh()
        want("vda2" in console.check("findmnt -no SOURCE /"), "the root is not the second partition")
        console.poweroff()
    os.unlink(image)
    return f"U-Boot, GRUB and login after {took:.1f} s"


def netboot(setting):
    """Debian's own installer as its package has it, by U-Boot, DHCP, TFTP and GRUB, until it has found the network and
    asks for the host's name."""
    setting.stop()
    tree = subprocess.run([f"{TOP}/scripts/lib/debian-tree", "trixie", "riscv64", "netboot", INSTALLER],
                          stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    files = os.path.join(tree, "root", "usr/lib/debian-installer/images/13/riscv64/text")
    image = os.path.join(setting.folder, "empty.img")
    with open(image, "wb") as file:
        file.truncate(1 << 30)
    network = f"user,id=n0,tftp={files},bootfile=/debian-installer/riscv64/bootnetriscv64.efi"
    start = time.monotonic()
    with Guest(setting.emulator, image, smp=setting.harts_wanted or 2, memory="2G", network=False,
               options=["-netdev", network, "-device", "virtio-net-device,netdev=n0"],
               kernel=guest_file("u-boot/s-u-boot.bin")) as console:
        for screen in (rb"DHCP client bound", rb"GNU GRUB", rb"Select a language", rb"Select your location",
                       rb"Configure the keyboard"):
            console.expect(screen)
            if b"DHCP" not in screen:
                console.quiet(1)
                console.send("\r")
        console.expect(rb"enter the hostname")
        took = time.monotonic() - start
    os.unlink(image)
    return f"the installer has its address after {took:.1f} s"


def link(setting):
    """Two guests joined by -netdev socket, from a copy-on-write view of the disk each; then one of them in QEMU, where
    there is one. Each has user networking besides, for ssh."""
    setting.stop()
    figures = []
    qemu = shutil.which("qemu-system-riscv64")
    for name, peer in [("Stag", setting.emulator), *([("QEMU", Emulator(qemu))] if qemu else [])]:
        port = free_port()
        with contextlib.ExitStack() as stack:
            guests = []
            for side, emulator in (("listen", setting.emulator), ("connect", peer)):
                card = ["-netdev", f"socket,id=n1,{side}=127.0.0.1:{port}",
                        "-device", f"virtio-net-device,netdev=n1,mac=52:54:00:00:00:{len(guests) + 1:02x}"]
                guests.append(stack.enter_context(
                    Guest(emulator, setting.disk, memory="1G", key=setting.key, forward={"ssh": 22}, drive=",snapshot=on",
                          options=card, **debian_files(setting.disk))))
            for number, guest in enumerate(guests, 1):
                guest.wait_ssh()
                guest.check(f"card=$(grep -l 52:54:00:00:00:{number:02x} /sys/class/net/*/address | cut -d/ -f5); "
                            f"ip link set $card up; ip addr flush dev $card; ip addr add 10.9.8.{number}/24 dev $card")
            guests[0].check("iperf3 -s -D; sleep 1")
            said = guests[1].check("ping -q -c 20 -i 0.2 -s 1400 10.9.8.1")
            want(" 0% packet loss" in said, f"{name}: {said}")
            rates = []
            for options in ("", "-R"):
                said = json.loads(guests[1].check(f"iperf3 -J -t 5 -c 10.9.8.1 {options}"))
                rates.append(f"{said['end']['sum_received']['bits_per_second'] / 1e9:.2f}")
            for guest in reversed(guests):
                guest.poweroff()
        figures.append(f"with {name}: no packet lost, {' and '.join(rates)} Gbit/s")
    return "; ".join(figures)


def console(setting):
    """A virtio console on this side's terminal, alone and beside another port: the guest sees the terminal's size, and
    sees it change."""
    setting.stop()
    for more in ([], ["-chardev", "null,id=p", "-device", "virtserialport,chardev=p,name=port"]):
        line = ["-serial", "null", "-monitor", "none", "-chardev", "stdio,id=c", "-device", "virtio-serial-device",
                "-device", "virtconsole,chardev=c", *more]
        with Guest(setting.emulator, setting.disk, memory="1G", key=setting.key, forward={"ssh": 22},
                   drive=",snapshot=on", options=line, **debian_files(setting.disk)) as guest:
            guest.wait_ssh()
            for rows, columns in ((50, 132), (24, 80), (61, 200)):
                fcntl.ioctl(guest.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
                guest.process.send_signal(signal.SIGWINCH)
                for _ in range(100):
                    said = guest.check("stty size </dev/hvc0").split()
                    if said == [str(rows), str(columns)]:
                        break
                want(said == [str(rows), str(columns)],
                     f"{rows} rows of {columns} here, {' of '.join(said)} there ({len(more) // 4 + 1} ports)")
            guest.poweroff()
    return "three sizes, with one port and with two"


SPECIAL = {"make": make, "boot": boot, "efi": efi, "netboot": netboot, "link": link, "console": console}
ORDER = ["make", "boot", "apt", *(name for name in CHECKS if name != "apt"), "efi", "netboot", "link", "console"]


def report(path, rows):
    with open(path, "w") as file:
        json.dump({"host": platform.platform(), "checks": rows}, file, indent=1)
    with open(os.path.splitext(path)[0] + ".md", "w") as file:
        file.write("| check | result | figures |\n|---|---|---|\n")
        for row in rows:
            file.write(f"| `{row['name']}` | {'passed' if row['passed'] else '**failed**'} | "
                       f"{row['figures'].splitlines()[0] if row['figures'] else ''} |\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--emulator", default=os.path.join(TOP, "build", "stag"))
    parser.add_argument("--folder", default=os.path.join(CACHE, "nightly"), help="where disk and results are kept")
    parser.add_argument("--mirror", help="the archive to use, instead of this machine's")
    parser.add_argument("--seconds", type=int, default=60, help="how long each of stress-ng's classes runs")
    parser.add_argument("--harts", type=int, help="of the guest in all checks but stress-ng's, instead of 2")
    parser.add_argument("--list", action="store_true", help="list the checks")
    parser.add_argument("check", nargs="*", help="which to run; all, if none is named; * at the end of one stands for "
                        "anything")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # ends the emulator, too
    if args.list:
        print("\n".join(ORDER))
        return 0
    chosen = []
    for word in args.check or ["*"]:
        found = [name for name in ORDER if name == word or (word.endswith("*") and name.startswith(word[:-1]))]
        if not found:
            parser.error(f"there is no check {word}; --list shows them")
        chosen += [name for name in found if name not in chosen]
    setting = Setting(args)
    if "make" not in chosen and not os.path.exists(setting.disk):
        parser.error(f"{setting.disk} is not there; the check `make` makes it")
    # What earlier runs found out about the other checks stays.
    rows = {}
    path = os.path.join(setting.folder, "results.json")
    if "make" not in chosen and os.path.exists(path):
        with open(path) as file:
            rows = {row["name"]: row for row in json.load(file)["checks"]}
    ran = {}
    for name in chosen:
        start = time.monotonic()
        try:
            if name in SPECIAL:
                setting.stop()
                figures = SPECIAL[name](setting)
            else:
                function, harts = CHECKS[name]
                guest = setting.start(harts if name.startswith("stress-") else setting.harts_wanted or harts)
                figures = function(setting, guest)
                if setting.guest:
                    bad = setting.complaints()
                    want(not bad, f"the guest's kernel complained: {bad[:5]}")
            passed = True
        except Exception as error:      # whatever it was, the other checks run
            passed, figures = False, f"{type(error).__name__}: {error}"
            # The next check begins with a guest that nobody has doubts about.
            setting.kill()
            if os.path.exists(setting.disk):
                subprocess.run(["e2fsck", "-fy", setting.disk], stdout=subprocess.DEVNULL, check=False)
        took = time.monotonic() - start
        print(f"{'ok    ' if passed else 'FAILED'}  {name} ({took:.0f} s): {figures}", flush=True)
        ran[name] = {"name": name, "passed": passed, "seconds": round(took, 1), "figures": figures,
                     "date": time.strftime("%Y-%m-%d"), "emulator": setting.emulator.path}
        rows.update(ran)
        report(path, [rows[name] for name in ORDER if name in rows])
    try:
        setting.stop()
    except (ConsoleError, AssertionError) as error:
        print(f"FAILED  the last shutdown: {error}", flush=True)
        setting.kill()
        return 1
    failed = [row["name"] for row in ran.values() if not row["passed"]]
    print(f"{len(ran) - len(failed)} passed, {len(failed)} failed {' '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
