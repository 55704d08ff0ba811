#!/usr/bin/env python3
"""Works with the monitor as a user or a script would, with a small machine-mode guest beside it:
monitor.py --emulator FILE CASE (or --list).

The guest says ready, counts in memory, and answers every character on its serial port with that character in
brackets: so a test sees whether it runs, and who gets the keys.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time

from cases import case, check, main
from console import TIMEOUT, Console
from setting import assemble

PROMPT = rb"\(stag\) "

# The count is at COUNT, 64 bits.
COUNT = 0x80010000
ECHO = r"""
        .globl _start
_start: li    s0, 0x10000000
        li    s1, 0x80010000
        li    s2, 0
        la    s3, text
1:      lbu   a0, 0(s3)
        beqz  a0, loop
        jal   put
        addi  s3, s3, 1
        j     1b
loop:   addi  s2, s2, 1
        sd    s2, 0(s1)
        lbu   a1, 5(s0)
        andi  a1, a1, 1
        beqz  a1, loop
        lbu   s4, 0(s0)
        li    a0, '['
        jal   put
        mv    a0, s4
        jal   put
        li    a0, ']'
        jal   put
        j     loop
put:    lbu   a1, 5(s0)
        andi  a1, a1, 0x20
        beqz  a1, put
        sb    a0, 0(s0)
        ret
text:   .asciz "ready\n"
"""


# A driver for the power button, a virtio-input device at 0x10009000: eight buffers in one queue, and when the first
# comes back, the end, or not.
BUTTON = r"""
        .macro reg offset, value
        li    t0, \value
        sw    t0, \offset(s1)
        .endm
        .globl _start
_start: li    s0, 0x10000000
        li    s1, 0x10009000
        reg   0x70, 0
        reg   0x70, 3
        reg   0x24, 1
        reg   0x20, 1
        reg   0x70, 11
        reg   0x30, 0
        reg   0x38, 8
        li    s2, 0x80020000            # descriptors, then available ring, used ring, buffers
        sw    s2, 0x80(s1)
        li    s3, 0x80021000
        sw    s3, 0x90(s1)
        li    s4, 0x80022000
        sw    s4, 0xa0(s1)
        reg   0x44, 1
        li    t1, 0
        li    t2, 0x80023000
1:      sd    t2, 0(s2)                 # address
        li    t0, 0x200000008           # flags: write, length 8
        sd    t0, 8(s2)
        slli  t0, t1, 1
        add   t0, t0, s3
        sh    t1, 4(t0)
        addi  s2, s2, 16
        addi  t2, t2, 8
        addi  t1, t1, 1
        li    t0, 8
        bne   t1, t0, 1b
        fence
        sh    t1, 2(s3)                 # eight are available
        reg   0x70, 15
        reg   0x50, 0
        li    a0, 'r'
        jal   put
2:      lhu   t0, 2(s4)
        beqz  t0, 2b
        li    a0, 'p'
        jal   put
        li    t0, 0x100000
        li    t1, END
        sw    t1, 0(t0)
        sh    zero, 2(s4)
        j     2b
put:    lbu   a1, 5(s0)
        andi  a1, a1, 0x20
        beqz  a1, put
        sb    a0, 0(s0)
        ret
"""


class Guest:
    """The program, and the command that runs it."""

    def __init__(self, emulator):
        self.emulator = emulator
        self.folder = tempfile.TemporaryDirectory()
        self.program = assemble(ECHO, self.path("echo"))

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def command(self, *options):
        return [self.emulator.path, "-M", "virt", "-nographic", "-bios", "none", "-kernel", self.program, *options]


def ask(console, command):
    """Types a command at the monitor's prompt; returns what it says."""
    console.send(command + "\r")
    console.expect(re.escape(command.encode()) + rb"\r*\n")
    start = console.seen
    match = console.expect(PROMPT)
    return bytes(console.output[start:match.start()]).decode().replace("\r", "")


def count(said):
    return int(re.search(r": (0x[0-9a-f]{16})", said).group(1), 16)


@case
def key(emulator):
    """Ctrl-A c takes the keys to the monitor and back."""
    guest = Guest(emulator)
    with Console(guest.command()) as console:
        console.expect(rb"ready")
        console.send("a")
        console.expect(rb"\[a\]")
        console.send(b"\x01c")
        console.expect(PROMPT)
        check("running" in ask(console, "info status"), console, "the guest should run")
        before = count(ask(console, f"xp /1xg {COUNT:#x}"))
        while count(ask(console, f"xp /1xg {COUNT:#x}")) == before:     # for ever, if the guest doesn't count on
            time.sleep(0.01)
        # Editing: Backspace, Ctrl-U, the arrows, and a command from the history.
        console.send("zzz\x15infq\x7fo staxus\x1b[D\x1b[D\x1b[D\x1b[3~t\r")
        console.expect(rb"there is no|VM status")
        console.expect(PROMPT)
        check("VM status: running" in ask(console, "info st"), console, "a unique beginning should do")
        console.send("\x1b[A\r")
        console.expect(rb"VM status: running")
        console.expect(PROMPT)
        check("[i]" not in console.text(), console, "the guest should have got no keys")
        console.send(b"\x01c")
        console.send("b")
        console.expect(rb"\[b\]")
        console.send(b"\x01x")
        check(console.wait() == 0, console, "Ctrl-A x should end it with status 0")
        now, then = console.terminal()
        check(now == then, console, "the terminal's settings should be as they were")


@case
def stop(emulator):
    """stop and cont, and a stopped guest can be looked at, reset and ended."""
    guest = Guest(emulator)
    log = guest.path("serial")

    def said():
        with open(log, "rb") as file:
            return file.read()

    with Console(guest.command("-monitor", "stdio", "-serial", "file:" + log)) as console:
        console.expect(PROMPT)
        while b"ready" not in said():
            time.sleep(0.01)
        ask(console, "stop")
        check("paused" in ask(console, "info status"), console, "the guest should be paused")
        ask(console, "stop")
        first = ask(console, f"x /1xg {COUNT:#x}")
        pc = ask(console, "p $pc")
        time.sleep(0.1)
        check(ask(console, f"x /1xg {COUNT:#x}") == first, console, "a stopped guest should not count")
        check(ask(console, "p $pc") == pc, console, "its pc should stay")
        ask(console, "cont")
        while ask(console, f"x /1xg {COUNT:#x}") == first:
            time.sleep(0.01)
        for _ in range(200):
            ask(console, "stop")
            ask(console, "cont")
        ask(console, "stop")
        console.send("system_reset\r")
        console.expect(PROMPT)
        check("paused" in ask(console, "info status"), console, "a reset should leave it paused")
        check("0x1000\n" in ask(console, "p $pc"), console, "nothing should have run since")
        ask(console, "cont")
        while said().count(b"ready") < 2:
            time.sleep(0.01)
        ask(console, "stop")
        console.send("quit\r")
        check(console.wait() == 0, console, "quit should end it with status 0")


@case
def start_stopped(emulator):
    """-S: nothing runs before cont. The monitor has the keys at first, if -monitor names the terminal."""
    guest = Guest(emulator)
    with Console(guest.command("-S", "-monitor", "stdio")) as console:
        console.expect(PROMPT)
        check("0x1000\n" in ask(console, "p $pc"), console, "pc should be at the reset vector")
        check("ready" not in console.text(), console, "the guest should not have run")
        console.send("cont\r")
        console.expect(rb"ready")
        console.send("system_reset\r")
        console.expect(rb"ready")
        console.send(b"\x01x")
        check(console.wait() == 0, console, "Ctrl-A x should end it with status 0")


@case
def pipe(emulator):
    """A script on standard input: its commands come back with their answers, and no control sequences."""
    guest = Guest(emulator)
    log = guest.path("serial")
    process = subprocess.Popen(guest.command("-monitor", "stdio", "-serial", "file:" + log),
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    out, _ = process.communicate(b"info status\ninfo mtree\nhelp\nnonsense\nx /2i $pc\nquit\n", TIMEOUT)
    text = out.decode().replace("\r", "")
    assert process.returncode == 0, f"status {process.returncode}: {text}"
    for line in ("(stag) info status\nVM status: running\n", "RAM", "system_reset", "nearest is", "(stag) quit\n"):
        assert line in text, f"{line!r} should be in {text}"
    assert "\x1b" not in text, f"no control sequences, please: {text!r}"


class Client:
    """A client of a monitor on a socket."""

    def __init__(self, family, address):
        end = time.monotonic() + TIMEOUT
        while True:
            self.socket = socket.socket(family)
            try:
                self.socket.connect(address)
                break
            except (FileNotFoundError, ConnectionRefusedError):
                self.socket.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.socket.settimeout(TIMEOUT)
        self.output = b""

    def expect(self, pattern):
        while not re.search(pattern, self.output):
            data = self.socket.recv(65536)
            assert data, f"it closed the line, waiting for {pattern!r}: {self.output!r}"
            self.output += data
        found, self.output = self.output, b""
        return found.decode().replace("\r", "")

    def ask(self, command):
        self.socket.sendall(command.encode() + b"\n")
        return self.expect(PROMPT)


def monitor_on_socket(console, connect):
    """Clients come and go, one at a time; one that does not read harms nobody."""
    console.expect(rb"ready")
    for _ in range(3):
        client = connect()
        assert "Stag" in client.expect(PROMPT), "it should greet"
        assert "VM status: running" in client.ask("info status")
        client.socket.close()
    # All at once, with its writing side closed: the answers still come, then the end.
    client = connect()
    client.socket.sendall(b"info version\ninfo status\nx /4xw 0x80000000\n")
    client.socket.shutdown(socket.SHUT_WR)
    text = b""
    while data := client.socket.recv(65536):
        text += data
    assert b"VM status: running" in text and b"0000000080000000: 0x" in text, text
    # A client that asks for megabytes and reads none of it.
    deaf = connect()
    deaf.expect(PROMPT)
    deaf.socket.setblocking(False)
    try:
        for _ in range(2000):
            deaf.socket.sendall(b"xp /100000xb 0x80000000\n" * 100)
    except BlockingIOError:
        pass
    console.send("d")
    console.expect(rb"\[d\]")
    waiting = connect()      # behind it in the queue
    assert not select.select([waiting.socket], [], [], 0.2)[0], "one client at a time"
    deaf.socket.close()
    waiting.expect(PROMPT)
    assert "paused" in (waiting.ask("stop") and waiting.ask("info status"))
    waiting.ask("cont")
    waiting.socket.sendall(b"quit\n")
    check(console.wait() == 0, console, "quit should end it with status 0")


@case
def unix(emulator):
    guest = Guest(emulator)
    path = guest.path("monitor")
    with Console(guest.command("-monitor", f"unix:{path},server,nowait")) as console:
        monitor_on_socket(console, lambda: Client(socket.AF_UNIX, path))
    assert not os.path.exists(path), "the socket should be gone"


@case
def tcp(emulator):
    guest = Guest(emulator)
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    with Console(guest.command("-chardev", f"socket,id=m,host=localhost,port={port},server=on,wait=off",
                               "-mon", "chardev=m,mode=readline")) as console:
        monitor_on_socket(console, lambda: Client(socket.AF_INET, ("127.0.0.1", port)))


@case
def serial_on_socket(emulator):
    """The serial port and a monitor share a socket: mon: in front, and Ctrl-A c; the first client starts the guest."""
    guest = Guest(emulator)
    path = guest.path("serial")
    process = subprocess.Popen(guest.command("-serial", f"mon:unix:{path},server"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert b"waits for a client" in process.stderr.readline()
        client = Client(socket.AF_UNIX, path)
        client.expect(rb"ready")
        client.socket.sendall(b"a")
        client.expect(rb"\[a\]")
        client.socket.sendall(b"\x01c")
        client.expect(PROMPT)
        assert "VM status: running" in client.ask("info status")
        client.socket.sendall(b"\x01cb")
        client.expect(rb"\[b\]")
        client.socket.close()
        client = Client(socket.AF_UNIX, path)    # the guest runs on meanwhile
        client.socket.sendall(b"c")
        client.expect(rb"\[c\]")
        client.socket.sendall(b"\x01x")
        assert process.wait(TIMEOUT) == 0, f"status {process.returncode}"
    finally:
        process.kill()
        process.wait()


@case
def signals(emulator):
    """A guest without a driver for the power button ends at the first signal, with its number."""
    guest = Guest(emulator)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        for options in ([], ["-S"]):
            with Console(guest.command("-monitor", "unix:" + guest.path("m") + ",server,nowait", *options)) as console:
                if options:
                    Client(socket.AF_UNIX, guest.path("m")).expect(PROMPT)
                else:
                    console.expect(rb"ready")
                console.process.send_signal(number)
                ended = console.wait()
                check(ended == 128 + number, console, f"status {ended} instead of {128 + number}")


@case
def power_button(emulator):
    """A guest with a driver for the power button is asked to power down; a second signal ends it."""
    guest = Guest(emulator)
    obeys = assemble(BUTTON.replace("END", "0x5555"), guest.path("obeys"))
    ignores = assemble(BUTTON.replace("END", "0"), guest.path("ignores"))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        with Console(guest.command("-kernel", obeys)) as console:
            console.expect(rb"r")
            console.process.send_signal(number)
            check(console.wait() == 0, console, "the guest should power down, with status 0")
            check("asked to power down" in console.text(), console, "Stag should say what it does")
        with Console(guest.command("-kernel", ignores)) as console:
            console.expect(rb"r")
            console.process.send_signal(number)
            console.expect(rb"asked to power down")
            time.sleep(0.1)
            console.process.send_signal(signal.SIGHUP)      # a closed terminal makes several
            time.sleep(0.1)
            check(console.process.poll() is None, console, "the guest decides")
            console.process.send_signal(signal.SIGTERM)
            ended = console.wait()
            check(ended == 128 + signal.SIGTERM, console, f"status {ended}")
    with Console(guest.command("-kernel", obeys)) as console:
        console.expect(rb"r")
        console.send(b"\x01c")
        console.expect(PROMPT)
        console.send("system_powerdown\r")
        check(console.wait() == 0, console, "system_powerdown should end it with status 0")
    with Console(guest.command()) as console:
        console.expect(rb"ready")
        console.send(b"\x01c")
        console.expect(PROMPT)
        check("no driver" in ask(console, "system_powerdown"), console, "nobody hears the button")
        console.send("quit\r")
        check(console.wait() == 0, console, "quit should end it with status 0")


if __name__ == "__main__":
    sys.exit(main(__doc__.splitlines()[0]))
