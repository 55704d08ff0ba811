#!/usr/bin/env python3
"""Runs a guest that works by itself, and shows how far it is: unattended.py --log LOG -- EMULATOR OPTION...

Everything the guest prints goes to LOG. What is shown are its own headings ("Stag debian: WORDS") and debootstrap's
("I: Configuring the base system..."), each with the time since the start, and what dpkg does: as it happens on a
terminal, now and then otherwise. The exit status is 0 when the guest said "Stag debian: done" and the emulator ended
with status 0. A guest that says nothing at all for --silence seconds is ended.
"""

import argparse
import collections
import os
import re
import select
import signal
import subprocess
import sys
import time

from child import die_with_parent

HEADING = re.compile(r"^Stag debian: (.*)|^I: ((?:Installing core packages|(?:Unpacking|Configuring) (?:required "
                     r"packages|the base system)|Base system installed).*)")
DETAIL = re.compile(r"^((?:Unpacking|Setting up|Processing triggers for) .*)|^(update-initramfs: .*)")
TROUBLE = re.compile(r"^(?:W: |E: |dpkg: error|\[ *\d+\.\d+\] (?:.*(?:BUG:|Oops|rcu: INFO|soft lockup|I/O error|"
                     r"EXT4-fs error|hung task|Unable to handle|Kernel panic)))")


class Progress:
    def __init__(self):
        self.start = time.monotonic()
        self.live = sys.stderr.isatty()
        self.packages = 0
        self.told = self.start
        self.done = False

    def clock(self):
        seconds = int(time.monotonic() - self.start)
        return f"{seconds // 60:2}:{seconds % 60:02}"

    def show(self, words, keep):
        if self.live:
            print(f"\r\033[K{self.clock()}  {words[:90]}", end="\n" if keep else "", file=sys.stderr, flush=True)
        elif keep or time.monotonic() - self.told > 30:
            self.told = time.monotonic()
            print(f"{self.clock()}  {words}", file=sys.stderr, flush=True)

    def line(self, line):
        heading = HEADING.match(line)
        detail = DETAIL.match(line)
        if heading:
            words = heading.group(1) or heading.group(2)
            self.done = self.done or words == "done"
            self.packages = 0
            self.show(words.rstrip("."), True)
        elif TROUBLE.match(line):
            self.show(line, True)
        elif detail:
            self.packages += 1
            words = re.sub(r" (?:over )?\(.*", "", detail.group(1) or detail.group(2))
            self.show(f"    {words} ({self.packages})", False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", required=True)
    parser.add_argument("--silence", type=float, default=900)
    parser.add_argument("command", nargs="+")
    args = parser.parse_args()
    # A session of its own: Ctrl-C is for this program, which then ends the emulator at once. The emulator would ask
    # the guest to power down, and this guest does not listen. Left alone it would go on writing to the disk.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    process = subprocess.Popen(args.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent)
    progress = Progress()
    last = collections.deque(maxlen=40)
    rest = b""
    try:
        with open(args.log, "wb") as log:
            while True:
                ready, _, _ = select.select([process.stdout], [], [], args.silence)
                if not ready:
                    sys.exit(f"unattended.py: the guest said nothing for {args.silence:.0f} seconds (log: {args.log})")
                data = os.read(process.stdout.fileno(), 65536)
                if not data:
                    break
                log.write(data)
                log.flush()
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    line = line.decode(errors="replace").replace("\r", "")
                    last.append(line)
                    progress.line(line)
        status = process.wait()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if progress.live:
            print(file=sys.stderr)
    if status or not progress.done:
        print("\n".join(last), file=sys.stderr)
        print(f"unattended.py: the emulator ended with status {status} (log: {args.log})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
