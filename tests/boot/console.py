#!/usr/bin/env python3
"""Drives an emulator's console as a person would: reads what it prints, types when the prompt is there.

A Console starts a program on a pseudo-terminal of its own and keeps everything it printed. expect() waits until
a pattern appears after the last one that was found; send() types. Timeouts are only there so that a hang ends:
no test says anything about speed, and STAG_TEST_TIMEOUT (seconds) widens them all.

As a program it types lines at a guest's shell prompts and shows the console meanwhile:

    console.py --type 'uname -a' --type poweroff -- build/stag -M virt ...
"""

import argparse
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "scripts", "lib"))

from child import die_with_parent       # noqa: E402

PROMPT = rb"guest:[^ \r\n]*# "
TIMEOUT = float(os.environ.get("STAG_TEST_TIMEOUT", "600"))


class ConsoleError(Exception):
    """The console did not do what was expected of it."""


class Console:
    """A program on a pseudo-terminal. `argv` is run as it is; `tee` is a file that gets all output."""

    def __init__(self, argv, tee=None, **popen):
        self.argv = argv
        self.tee = tee
        self.output = bytearray()   # everything that was printed
        self.seen = 0               # expect() has consumed output[:seen]
        self.master, self.slave = pty.openpty()
        self.termios = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        start_new_session=True, preexec_fn=die_with_parent, **popen)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def _read(self, seconds):
        """Takes what is there to be read within so many seconds; False if that was nothing."""
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return False
        data = os.read(self.master, 65536)
        self.output += data
        if self.tee:
            self.tee.write(data)
            self.tee.flush()
        return True

    def fail(self, why):
        tail = bytes(self.output[-3000:]).decode(errors="replace").replace("\r", "")
        raise ConsoleError(f"{why}\ncommand: {' '.join(self.argv)}\nlast output:\n{tail}")

    def expect(self, pattern, timeout=TIMEOUT):
        """Waits for the regular expression `pattern` and returns its match."""
        pattern = re.compile(pattern)
        end = time.monotonic() + timeout
        while True:
            match = pattern.search(self.output, self.seen)
            if match:
                self.seen = match.end()
                return match
            dead = self.process.poll() is not None
            if not self._read(0.05 if dead else min(1.0, max(0.0, end - time.monotonic()))):
                if dead:
                    self.fail(f"it ended with status {self.process.returncode}, waiting for {pattern.pattern!r}")
                if time.monotonic() > end:
                    self.fail(f"no {pattern.pattern!r} within {timeout:.0f} seconds")

    def send(self, data):
        """Types `data`, which may hold control characters; reads meanwhile, so that neither side blocks."""
        data = data.encode() if isinstance(data, str) else data
        while data:
            self._read(0)
            data = data[os.write(self.master, data[:16]):]

    def run(self, command, timeout=TIMEOUT):
        """Types a command at a shell prompt, waits for the next prompt and returns what came between."""
        self.send(command + "\n")
        # The echo ends with a line break. A line that is wider than the terminal is wrapped by the guest's shell.
        self.expect(rb"\r*\n", timeout)
        start = self.seen
        match = self.expect(PROMPT, timeout)
        return bytes(self.output[start:match.start()]).decode(errors="replace").replace("\r", "")

    def wait(self, timeout=TIMEOUT):
        """Waits for the program's end and returns its exit status (negative: the signal that killed it)."""
        end = time.monotonic() + timeout
        while self.process.poll() is None:
            self._read(0.2)
            if time.monotonic() > end:
                self.fail(f"it did not end within {timeout:.0f} seconds")
        while self._read(0):
            pass
        return self.process.returncode

    def terminal(self):
        """The terminal's settings now, and as they were before the program started."""
        return termios.tcgetattr(self.slave), self.termios

    def text(self):
        return bytes(self.output).decode(errors="replace").replace("\r", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--type", action="append", default=[], metavar="LINE", help="typed at the next prompt")
    parser.add_argument("command", nargs="+", help="the emulator and its options, after --")
    args = parser.parse_args()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with Console(args.command, tee=sys.stdout.buffer) as console:
            for line in args.type:
                console.expect(PROMPT)
                console.send(line + "\n")
            return console.wait()
    except ConsoleError as error:
        print(f"\nconsole.py: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
