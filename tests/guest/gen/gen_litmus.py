#!/usr/bin/env python3
"""Writes litmus tests for RISC-V's memory model (unprivileged spec, chapter "RVWMO") as assembly for litmus.c.

    gen_litmus.py XLEN OUTPUT

A litmus test is a cycle: each thread makes two accesses to different variables, and each thread's second access and
the next one's first meet at one variable in a way that only a write becoming visible early or late could explain.
If the two accesses of every thread are held in order (by a fence, an annotation, a dependency), the cycle cannot be: its
outcome is forbidden. With one pair left loose it is allowed. But a host with total store order, like x86, shows
only those in which a store and a later load are loose: litmus.c counts these. All others would be a mistake of the
emulator's, too.

FAMILIES has the cycles, ORDERS the ways in which a pair is held in order, `tests()` what is combined with what.
"""

import itertools
import sys

# Ways to make an access: (kind, annotation). AMOs and LR/SC are 4 or 8 bytes wide.
PLAIN = ("plain", "")


def amo(annotation):
    return ("amo", annotation)


def lrsc(annotation):
    return ("lrsc", annotation)


class Order:
    """How a thread's two accesses are made, and what stands between them."""

    def __init__(self, name, between="", first=PLAIN, second=PLAIN, forbids=True):
        self.name, self.between, self.first, self.second, self.forbids = name, between, first, second, forbids


LOOSE = Order("-", forbids=False)
FULL = Order("rw,rw", "fence rw, rw")
TSO = Order("tso", "fence.tso")

# By the kinds of the two accesses. What the spec's preserved program order says: a fence between them; the first is an
# acquire; the second is a release (which an LR with both bits is, too); an address, data or control dependency.
ORDERS = {
    "WW": [FULL, TSO, Order("w,w", "fence w, w"), Order("rw,w", "fence rw, w"),
           Order("amo.rl", second=amo(".rl")), Order("amo.aqrl", second=amo(".aqrl")), Order("amo.aq-", first=amo(".aq")),
           Order("sc.rl", second=lrsc(".rl"))],
    "WR": [FULL, Order("w,r", "fence w, r"), Order("w,rw", "fence w, rw"), Order("iorw", "fence iorw, iorw"),
           Order("amo.aq-", first=amo(".aq")), Order("amo.aqrl-", first=amo(".aqrl")),
           Order("amo.rl", second=amo(".rl")), Order("amo.aqrl", second=amo(".aqrl")),
           Order("amo.rl-lr.aqrl", first=amo(".rl"), second=lrsc(".aqrl")),
           Order("lr.aqrl", second=lrsc(".aqrl")), Order("sc.aqrl-", first=lrsc(".aqrl")),
           Order("sc.aqrl-lr.aqrl", first=lrsc(".aqrl"), second=lrsc(".aqrl"))],
    "RR": [FULL, TSO, Order("r,r", "fence r, r"), Order("r,rw", "fence r, rw"), Order("lr.aq-", first=lrsc(".aq")),
           Order("amo.aq-", first=amo(".aq")), Order("amo.rl", second=amo(".rl")), Order("addr", "addr"),
           Order("lr.aqrl", second=lrsc(".aqrl"))],
    "RW": [FULL, TSO, Order("r,w", "fence r, w"), Order("rw,w", "fence rw, w"), Order("addr", "addr"), Order("data", "data"),
           Order("ctrl", "ctrl"), Order("lr.aq-", first=lrsc(".aq")), Order("amo.aq-", first=amo(".aq")),
           Order("amo.rl", second=amo(".rl")), Order("sc.rl", second=lrsc(".rl"))],
}

# name: (threads, outcome). A thread: its two accesses, W with variable and value, R with variable and the value that
# the cycle wants to see. The outcome adds final values of variables.
FAMILIES = {
    "MP": (["Wx1 Wy1", "Ry1 Rx0"], {}),
    "SB": (["Wx1 Ry0", "Wy1 Rx0"], {}),
    "LB": (["Rx1 Wy1", "Ry1 Wx1"], {}),
    "S": (["Wx2 Wy1", "Ry1 Wx1"], {"x": 2}),
    "R": (["Wx1 Wy1", "Wy2 Rx0"], {"y": 2}),
    "2+2W": (["Wx2 Wy1", "Wy2 Wx1"], {"x": 2, "y": 2}),
    "WRC": (["Wx1", "Rx1 Wy1", "Ry1 Rx0"], {}),
    "ISA2": (["Wx1 Wy1", "Ry1 Wz1", "Rz1 Rx0"], {}),
    "RWC": (["Wx1", "Rx1 Ry0", "Wy1 Rx0"], {}),
    "3.SB": (["Wx1 Ry0", "Wy1 Rz0", "Wz1 Rx0"], {}),
    "3.LB": (["Rx1 Wy1", "Ry1 Wz1", "Rz1 Wx1"], {}),
    "Z6": (["Wx1 Wy1", "Wy2 Wz1", "Rz1 Rx0"], {"y": 2}),
    "IRIW": (["Wx1", "Rx1 Ry0", "Wy1", "Ry1 Rx0"], {}),
    # One variable: forbidden without any help.
    "CoRR": (["Wx1", "Rx1 Rx0"], {}),
    "CoWW": (["Wx1 Wx2"], {"x": 1}),
    "CoRW1": (["Rx1 Wx1"], {}),
    "CoRW2": (["Rx2 Wx1", "Wx2"], {"x": 2}),
    "CoWR": (["Wx1 Rx2", "Wx2"], {"x": 1}),
    "CoMP": (["Wx1 Wx2", "Rx2 Rx1"], {}),
    "CoIRIW": (["Wx1", "Rx1 Rx2", "Wx2", "Rx2 Rx1"], {}),
}


def pairs(family):
    """The kinds of the threads' pairs, of threads that make two accesses."""
    return ["".join(a[0] for a in t.split()) for t in FAMILIES[family][0] if " " in t]


def combinations(family):
    kinds = [ORDERS[k] for k in pairs(family)]
    if family.startswith("Co"):
        return [[LOOSE] * len(kinds)] + [list(c) for c in zip(*kinds)]
    if len(kinds) == 2:
        held = [list(c) for c in itertools.product(*kinds)]
        if pairs(family)[0] == pairs(family)[1]: # symmetric
            held = [c for c in held if kinds[0].index(c[0]) <= kinds[1].index(c[1])]
    else: # each order of a thread once, with the others' in turn
        longest = max(len(k) for k in kinds)
        held = [[k[(i * step) % len(k)] for k, step in zip(kinds, (1, 1, 3))] for i in range(longest)]
    loose = [[LOOSE if i == at else k[0] for i, k in enumerate(kinds)] for at in range(len(kinds))]
    return held + [[LOOSE] * len(kinds)] + loose


class Writer:
    """Assembly of one thread's loop. Registers: a0 the Run, a1 to a3 addresses of x, y, z, a4 stride, a5 where
    results go, a6 rounds, a7 the round; t0 and t1 results, t2 and t3 the numbers 1 and 2, t4 to t6 for anything."""

    ADDRESS = {"x": "a1", "y": "a2", "z": "a3"}
    VALUE = {"1": "t2", "2": "t3"}

    def __init__(self, xlen):
        self.xlen, self.lines, self.labels = xlen, [], 0
        self.ld, self.sd, self.bytes = ("ld", "sd", 8) if xlen == 64 else ("lw", "sw", 4)

    def __call__(self, text):
        self.lines.append("    " + text)

    def access(self, text, how, size, result, address=None, value=None):
        kind, annotation = how
        address = address or self.ADDRESS[text[1]]
        letter = "d" if size == 8 else "w"
        if text[0] == "W":
            value = value or self.VALUE[text[2]]
            if kind == "plain":
                self(f"s{'bhwd'[size.bit_length() - 1]} {value}, ({address})")
            elif kind == "amo":
                self(f"amoswap.{letter}{annotation} x0, {value}, ({address})")
            else: # the LR needs no annotation
                self(f"9: lr.{letter} t5, ({address})")
                self(f"sc.{letter}{annotation} t5, {value}, ({address})")
                self("bnez t5, 9b")
        elif kind == "plain":
            self(f"l{'bhwd'[size.bit_length() - 1]} {result}, ({address})")
        elif kind == "amo":
            self(f"amoor.{letter}{annotation} {result}, x0, ({address})")
        else:
            self(f"lr.{letter}{annotation} {result}, ({address})")

    def thread(self, label, accesses, order, others, sizes):
        self.lines.append(f"    .balign 4\n{label}:")
        for i, register in enumerate(("a6", "a1", "a2", "a3", "a4", "a5")):
            self(f"{self.ld} {register}, {i * self.bytes}(a0)")
        self("li t2, 1")
        self("li t3, 2")
        self("li a7, 0")
        self("1: addi a7, a7, 1")
        # Say which round this is, and wait a while for the others to be there.
        self(f"{self.ld} t4, {6 * self.bytes}(a0)")
        self("sw a7, (t4)")
        self(f"{self.ld} t6, {7 * self.bytes}(a0)") # patience
        for i in range(others):
            self(f"{self.ld} t4, {(9 + i) * self.bytes}(a0)")
            self("2: lw t5, (t4)")
            self("sub t5, t5, a7")
            self("bgez t5, 3f")
            self("addi t6, t6, -1")
            self("bgtz t6, 2b")
            self("3:")
        self(f"{self.ld} t6, {8 * self.bytes}(a0)") # skew
        self("4: addi t6, t6, -1")
        self("bgtz t6, 4b")
        first = accesses[0]
        results = iter(("t0", "t1"))
        result = next(results) if first[0] == "R" else None
        self.access(first, order.first, sizes[0], result)
        if len(accesses) == 2:
            second = accesses[1]
            address = value = None
            if order.between == "addr":
                self("xor t5, t0, t0")
                self(f"add t5, t5, {self.ADDRESS[second[1]]}")
                address = "t5"
            elif order.between == "data":
                self("xor t6, t0, t0")
                self(f"add t6, t6, {self.VALUE[second[2]]}")
                value = "t6"
            elif order.between == "ctrl":
                self("bnez t0, 5f")
                self("5:")
            elif order.between:
                self(order.between)
            self.access(second, order.second, sizes[1], next(results) if second[0] == "R" else None, address, value)
        self("sw t0, (a5)")
        self("sw t1, 4(a5)")
        self("addi a5, a5, 8")
        for register in ("a1", "a2", "a3"):
            self(f"add {register}, {register}, a4")
        self("bltu a7, a6, 1b")
        self("ret")


def tests():
    """(family, orders of its threads, access size), every family in turn."""
    for family in FAMILIES:
        for i, orders in enumerate(combinations(family)):
            simple = all(o.first == o.second == PLAIN for o in orders)
            if family.startswith("Co") and orders[0] is LOOSE or simple and len(set(orders)) == 1:
                for size in (1, 2, 4, 8):
                    yield family, orders, size
            else:
                yield family, orders, (4, 8, 1, 2)[i % 4]


def main():
    xlen, path = int(sys.argv[1]), sys.argv[2]
    code, rows, names = Writer(xlen), [], []
    for number, (family, orders, size) in enumerate(tests()):
        if size * 8 > xlen:
            size = 4
        threads, final = FAMILIES[family]
        left = iter(orders)
        entries, wants, held = [], [-1] * 11, True
        for t, thread in enumerate(threads):
            accesses = thread.split()
            order = next(left) if len(accesses) == 2 else LOOSE
            if len(accesses) == 2:
                held = held and (order.forbids or accesses[0][0] + accesses[1][0] != "WR")
            label = f"litmus_{number}_{t}"
            code.thread(label, accesses, order, len(threads) - 1, (size, size))
            entries.append(label)
            for k, a in enumerate(a for a in accesses if a[0] == "R"):
                wants[2 * t + k] = int(a[2])
        for i, variable in enumerate("xyz"):
            wants[8 + i] = final.get(variable, -1)
        forbidden = family.startswith("Co") or held
        plain = all(o.first == o.second == PLAIN for o in orders)
        name = f"{family} {' '.join(o.name for o in orders)} {size}"
        names.append(f'name_{number}: .string "{name}"')
        word = ".dword" if xlen == 64 else ".word"
        rows += [f"    {word} name_{number}",
                 f"    {word} " + ", ".join(entries + ["0"] * (4 - len(entries))),
                 f"    .byte {len(threads)}, {size}, {int(forbidden)}, {int(plain)}",
                 "    .byte " + ", ".join(map(str, wants)) + ", 0"]
    with open(path, "w", encoding="ascii") as out:
        print("    .option norvc\n    .text", *code.lines, "    .data\n    .balign 8", file=out, sep="\n")
        print("    .global litmus_tests, litmus_tests_end\nlitmus_tests:", *rows, "litmus_tests_end:",
              "    .section .rodata", *names, file=out, sep="\n")


if __name__ == "__main__":
    main()
