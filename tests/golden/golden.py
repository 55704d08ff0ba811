#!/usr/bin/env python3
"""Compares what golden prints for files of cases with the committed text.

    golden.py [--bless] GOLDEN CASES.txt...

The text for CASES.txt is CASES.golden beside it. --bless writes it: read the difference before committing.
"""

import difflib
import subprocess
import sys
from pathlib import Path


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
        if bless:
            golden.write_text(done.stdout, encoding="utf-8")
            continue
        wanted = golden.read_text(encoding="utf-8") if golden.exists() else ""
        if wanted != done.stdout:
            different = True
            sys.stdout.writelines(difflib.unified_diff(wanted.splitlines(True), done.stdout.splitlines(True),
                                                       golden.name, "now"))
    if different:
        sys.exit("The translation has changed. If that is meant: ninja -C BUILD bless-golden, and review the diff.")


if __name__ == "__main__":
    main()
