#!/usr/bin/env python3
"""Writes the assembly of many distinct small RISC-V functions for once.c: once.py SEED FUNCTIONS >FILE.

Every function executes exactly LENGTH instructions, in blocks as short as compiled code has them: about every
seventh instruction is a branch that is never taken, on a register that is zero, which no translator can know.
"""

import random
import sys

LENGTH = 60
WORK = ["a2", "a3", "a4", "a5", "a6", "a7"]


def function(rng, number):
    """One function: a0 points at 64 numbers, a1 is zero; returns a number in a0."""
    lines = [f"f{number}:"]
    lines += [f"ld {reg}, {8 * rng.randrange(64)}(a0)" for reg in WORK]
    while len(lines) < LENGTH - 1:
        dest, left, right = (rng.choice(WORK) for _ in range(3))
        kind = rng.randrange(28)
        if kind < 4:
            lines.append(f"bnez a1, g{number}")
        elif kind < 12:
            lines.append(f"{rng.choice(['add', 'sub', 'xor', 'or', 'and', 'addw', 'sltu'])} {dest}, {left}, {right}")
        elif kind < 17:
            lines.append(f"{rng.choice(['addi', 'addiw', 'andi', 'xori'])} {dest}, {left}, {rng.randrange(-2048, 2048)}")
        elif kind < 20:
            lines.append(f"{rng.choice(['slli', 'srli', 'srai'])} {dest}, {left}, {rng.randrange(1, 32)}")
        elif kind < 23:
            lines.append(f"{rng.choice(['ld', 'lw', 'lbu'])} {dest}, {8 * rng.randrange(64)}(a0)")
        elif kind < 25:
            lines.append(f"{rng.choice(['sd', 'sw'])} {left}, {8 * rng.randrange(64)}(a0)")
        elif kind < 27:
            lines.append(f"mv {dest}, {left}")
        else:
            lines.append(f"mul {dest}, {left}, {right}")
    lines += ["xor a0, a2, a3", f"g{number}: ret"]
    return lines


def main():
    seed, count = int(sys.argv[1]), int(sys.argv[2])
    rng = random.Random(seed)
    print(".text\n.balign 4096\n.globl once_start, once_end, once_functions, once_count\nonce_start:")
    for number in range(count):
        print("\n".join(function(rng, number)))
    print("once_end:\n.section .rodata\n.balign 8\nonce_functions:")
    for number in range(count):
        print(f".dword f{number}")
    print(f"once_count: .word {count}")


if __name__ == "__main__":
    main()
