#!/usr/bin/env python3
"""Compares what golden prints for files of cases with the committed text.

    golden.py [--bless] GOLDEN CASES.txt...

The text for CASES.txt is CASES.golden beside it. --bless writes it: read the difference before committing.
"""

import difflib
import re
import subprocess
import sys
from pathlib import Path


def negative(match):
    value = int(match[0], 16) - (1 << 4 * (len(match[0]) - 2))
    return str(value) if value > -10 else hex(value)


def normal(text):
    """Capstone 5 writes negative immediates as unsigned numbers of the operand's width, capstone 4 with a sign."""
    return re.sub(r"\b0xf(?:[0-9a-f]{15}|[0-9a-f]{7})\b", negative, text)


def main():
    words = sys.argv[1:]
    bless = "--bless" in words
    program, *files = [w for w in words if w != "--bless"]
    different = False
    for cases in map(Path, files):
        done = subprocess.run([program, cases], stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode == 77:
            print(done.stdout)
            sys.exit(77)
        if done.returncode:
            sys.exit(f"{program} {cases}: exit status {done.returncode}")
        golden = cases.with_suffix(".golden")
        text = normal(done.stdout)
        if bless:
            golden.write_text(text, encoding="utf-8")
            continue
        wanted = normal(golden.read_text(encoding="utf-8")) if golden.exists() else ""
        if wanted != text:
            different = True
            sys.stdout.writelines(difflib.unified_diff(wanted.splitlines(True), text.splitlines(True),
                                                       golden.name, "now"))
    if different:
        sys.exit("The translation has changed. If that is meant: ninja -C BUILD bless-golden, and review the diff.")


if __name__ == "__main__":
    main()
