"""Test programs that are made of cases: each case is a function that takes the emulator, marked with @case and named
after the function; main() runs those that the command line names, or all."""

import argparse
import signal
import subprocess
import sys

from console import ConsoleError
from setting import Emulator

CASES = {}


def case(function):
    CASES[function.__name__.replace("_", "-")] = function
    return function


def check(condition, console, why):
    if not condition:
        console.fail(why)


def main(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--emulator", default="build/stag")
    parser.add_argument("--list", action="store_true", help="list the cases")
    parser.add_argument("case", nargs="*", choices=[[], *CASES], help="which to run; all, if none is named")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))     # ends the emulator, too
    if args.list:
        print("\n".join(CASES))
        return 0
    emulator = Emulator(args.emulator)
    failed = 0
    for name in args.case or CASES:
        try:
            CASES[name](emulator)
            print(f"ok      {name}", flush=True)
        except (ConsoleError, AssertionError, OSError, subprocess.TimeoutExpired) as error:
            print(f"FAILED  {name}: {error}", flush=True)
            failed += 1
    return 1 if failed else 0
