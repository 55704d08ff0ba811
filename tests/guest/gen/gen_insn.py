#!/usr/bin/env python3
"""Writes the program that tests one group of instructions on one XLEN, as assembly.

    gen_insn.py GROUP XLEN OUTPUT

Each case is one instruction with one choice of registers (hot ones, which the translator keeps in host registers, cold
ones, the same register twice, x0) and runs over a table of operands and expected results, from isa.py and ieee.py. Integer
cases come in two forms: with operands that are loaded, and with constants, which the optimiser sees. vectors.c drives them.

A record of a table is the operands, then the expected results; a case that finds a difference stores what it got and
where (case_got, case_at).
"""

import random
import sys

import ieee
from isa import Isa

HOT = ["a0", "a1", "a2", "a3", "a4", "a5", "sp", "s0", "s1"]
COLD = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "ra", "gp",
        "tp", "a6", "a7"]
# rd, rs1, rs2
PLACES3 = [("a0", "a1", "a2"), ("a3", "a3", "a4"), ("s1", "s0", "s1"), ("a5", "a5", "a5"), ("a0", "sp", "sp"),
           ("t0", "t1", "t2"), ("s11", "s11", "s2"), ("t6", "s5", "t6"), ("ra", "ra", "ra"), ("sp", "t3", "a2"), ("gp", "a1", "tp"),
           ("zero", "a0", "s3"), ("a2", "zero", "a1"), ("t4", "s0", "zero"), ("s8", "zero", "zero")]
PLACES2 = [("a0", "a1"), ("a4", "a4"), ("t0", "t5"), ("s6", "s6"), ("sp", "s9"), ("a7", "s1"), ("zero", "a3"), ("a3", "zero")]
NUMBER = {name: i for i, name in enumerate(
    "zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6".split())}
F_NUMBER = {name: i for i, name in enumerate(
    "ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 "
    "ft8 ft9 ft10 ft11".split())}
GARBAGE = 0x5A5A5A5B


def word_r(opcode, funct3, funct7, rd, rs1, rs2):
    """An R-type instruction that assemblers may not know."""
    return f".word {funct7 << 25 | rs2 << 20 | rs1 << 15 | funct3 << 12 | rd << 7 | opcode:#010x}"


class Program:
    def __init__(self, xlen):
        self.xlen = xlen
        self.bytes = xlen // 8
        self.load, self.store = ("ld", "sd") if xlen == 64 else ("lw", "sw")
        self.data = ".dword" if xlen == 64 else ".word"
        self.mask = (1 << xlen) - 1
        self.random = random.Random(xlen)
        self.text, self.tables, self.cases = [], [], []

    def scratch(self, used, n):
        """n registers that the case doesn't use."""
        return [r for r in ("s2", "t1", "a6", "s7", "t4", "a4", "s10", "a7", "t3", "a1") if r not in used][:n]

    def emit(self, text):
        self.text.append(text)

    def case(self, name, records, width, body, used):
        """body(P, T, U, fail) writes the loop's inside; records are tuples of data words (`width` bytes each) or strings."""
        if not records:
            return
        i = len(self.cases)
        pointer, end, t, u = self.scratch(used, 4)
        stride = width * len(records[0])
        self.emit(f"case_{i}:")
        self.emit(f"    la {pointer}, table_{i}\n    la {end}, table_{i}_end\n    la {t}, case_at\n"
                  f"    {self.store} {end}, {self.bytes}({t})")
        self.emit("1:")
        body(pointer, t, u)
        self.emit(f"    addi {pointer}, {pointer}, {stride}\n    la {t}, case_at\n    {self.load} {t}, {self.bytes}({t})\n"
                  f"    bne {pointer}, {t}, 1b\n    la {t}, case_done\n    jr {t}")
        # A difference: `u` holds what was found.
        self.emit(f"9:  la {t}, case_at\n    {self.store} {pointer}, 0({t})\n    la {t}, case_got\n"
                  f"    {self.store} {u}, 0({t})\n    la {t}, case_failed\n    jr {t}")
        directive = {8: ".dword", 4: ".word"}[width]
        self.tables.append(f"table_{i}:")
        mask = (1 << (8 * width)) - 1
        for r in records:
            self.tables.append(f"    {directive} " + ", ".join(x if isinstance(x, str) else hex(x & mask) for x in r))
        self.tables.append(f"table_{i}_end:")
        self.cases.append((name, f"case_{i}", f"table_{i}", f"table_{i}_end", stride, len(records)))

    def constants(self, name, checks, used):
        """checks: (text that computes, register, expected value)."""
        i = len(self.cases)
        t, u = self.scratch(used, 2)
        self.emit(f"case_{i}:")
        for k, (text, reg, want) in enumerate(checks):
            self.emit(f"    {text}\n    li {t}, {want & self.mask:#x}\n    beq {reg}, {t}, 1f\n    mv {u}, {reg}\n"
                      f"    la {t}, case_got\n    {self.store} {u}, 0({t})\n    la {t}, case_at\n    li {u}, {k}\n"
                      f"    {self.store} {u}, 0({t})\n    la {t}, case_failed\n    jr {t}\n1:")
        self.emit(f"    la {t}, case_done\n    jr {t}")
        self.cases.append((name, f"case_{i}", "0", "0", 0, len(checks)))

    # -- integer cases ---------------------------------------------------------------------------

    def operands(self, reg, offset, p):
        return "" if reg == "zero" else f"    {self.load} {reg}, {offset}({p})\n"

    def compare(self, reg, offset, p, t, u):
        """Compares reg with the record's word at offset; the difference goes to 9:."""
        move = "" if reg == u else f"mv {u}, {reg}\n    "
        self.emit(f"    {self.load} {t}, {offset}({p})\n    {move}bne {u}, {t}, 9f")

    def binary(self, name, text, model, values, places=PLACES3, pairs=None, few=24, compressed=False):
        """`text` has {d} {a} {b} for the registers."""
        all_pairs = pairs or [(a, b) for a in values for b in values]
        for n, (d, a, b) in enumerate(places):
            chosen = all_pairs if n == 0 else self.random.sample(all_pairs, min(few, len(all_pairs)))
            records = []
            for x, y in chosen:
                x = 0 if a == "zero" else x
                y = 0 if b == "zero" else x if a == b else y
                records.append((x, y, 0 if d == "zero" else model(x, y)))
            w = self.bytes

            def body(p, t, u):
                fresh = f"    li {d}, {GARBAGE}\n" if d not in (a, b, "zero") else ""
                loads = self.operands(a, 0, p) + (self.operands(b, w, p) if b != a else "")
                self.emit(f"{fresh}{loads}    {self.fill(text, d, a, b)}")
                self.compare(d, 2 * w, p, t, u)

            self.case(self.title(text, d, a, b), records, w, body, {d, a, b})
        # Constants: what is known when the block is translated.
        d, a, b = "a0", "a1", "a2" if compressed else "t0"
        checks = []
        for x, y in self.random.sample(all_pairs, min(40, len(all_pairs))):
            checks.append((f"li {a}, {x:#x}\n    li {b}, {y:#x}\n    {self.fill(text, d, a, b)}", d, model(x, y)))
            if not compressed:
                checks.append((f"li {a}, {x:#x}\n    {self.fill(text, d, a, 'zero')}", d, model(x, 0)))
        self.constants(f"{name} of constants", checks, {d, a, b})

    def unary(self, name, text, model, values, places=PLACES2, few=12, constants=True):
        for n, (d, a) in enumerate(places):
            chosen = values if n == 0 else self.random.sample(values, min(few, len(values)))
            records = [(0 if a == "zero" else x, 0 if d == "zero" else model(0 if a == "zero" else x)) for x in chosen]

            def body(p, t, u):
                fresh = f"    li {d}, {GARBAGE}\n" if d not in (a, "zero") else ""
                self.emit(f"{fresh}{self.operands(a, 0, p)}    {self.fill(text, d, a, 'zero')}")
                self.compare(d, self.bytes, p, t, u)

            self.case(self.title(text, d, a, ""), records, self.bytes, body, {d, a})
        if constants:
            self.constants(f"{name} of constants", [
                (f"li a1, {x:#x}\n    {self.fill(text, 'a0', 'a1', 'zero')}", "a0", model(x)) for x in values], {"a0", "a1"})

    def fill(self, text, d, a, b):
        if callable(text):
            return text(NUMBER[d], NUMBER[a], NUMBER[b])
        return text.format(d=d, a=a, b=b)

    def title(self, text, d, a, b):
        if callable(text):
            return f"{text.name} {d}, {a}, {b}"
        return text.split("\n")[0].strip().format(d=d, a=a, b=b)

    # -- the file --------------------------------------------------------------------------------

    def write(self, path):
        label = self.data
        with open(path, "w", encoding="ascii") as f:
            f.write("    .option arch, +zba, +zbb, +zbc, +zbs, +zbkb, +zbkc, +zbkx\n    .text\n    .option norvc\n    .option norelax\n" + "\n".join(self.text) + "\n")
            f.write("    .section .rodata\n    .balign 8\n" + "\n".join(self.tables) + "\n")
            f.write("    .balign 8\n    .global cases\ncases:\n")
            for i, (name, code, table, end, stride, count) in enumerate(self.cases):
                f.write(f"    {label} name_{i}, {code}, {table}, {end}, {stride}, {count}\n")
            f.write(f"    {label} 0\n")
            for i, case in enumerate(self.cases):
                f.write(f'name_{i}: .asciz "{case[0]}"\n')


class Encoded:
    """Text for fill(): an R-type word, by register numbers."""

    def __init__(self, name, opcode, funct3, funct7):
        self.name, self.fields = name, (opcode, funct3, funct7)

    def __call__(self, d, a, b):
        return word_r(*self.fields, d, a, b)


IMMEDIATES = [0, 1, -1, 2, 31, 32, 127, -128, 255, 1024, 2047, -2048, -2047]


def group_i(p, isa):
    values = isa.edges()
    for name, model in {**isa.r, **isa.m}.items():
        p.binary(name, name + " {d}, {a}, {b}", model, values)
    few = [("a0", "a1"), ("s2", "s2"), ("t0", "sp"), ("a5", "zero")]
    for name, model in isa.i.items():
        for n, imm in enumerate(IMMEDIATES):
            p.unary(name, f"{name} {{d}}, {{a}}, {imm}", lambda a, imm=imm: model(a, imm), values,
                    PLACES2 if n == 2 else few, constants=n % 3 == 0)
    amounts = sorted({0, 1, 7, 8, 15, 16, 30, 31, isa.X // 2, isa.X - 2, isa.X - 1})
    for table, limit in ((isa.shift, isa.X), (isa.shift_w, 32)):
        for name, model in table.items():
            for k in (k for k in amounts if k < limit):
                p.unary(name, f"{name} {{d}}, {{a}}, {k}", lambda a, k=k: model(a, k), values, few, constants=k % 8 == 0)
    for imm in (0, 1, 0x7ffff, 0x80000, 0xfffff, 0x12345):
        p.constants(f"lui {imm:#x}", [(f"lui {d}, {imm:#x}", d, (imm << 12) - ((imm & 0x80000) << 13))
                                      for d in ("a0", "t2", "sp", "s11")], {"a0", "t2", "sp", "s11"})
        for d in ("a3", "gp"):
            label = f"auipc_{imm}_{d}"

            def body(pointer, t, u):
                p.emit(f"{label}: auipc {d}, {imm:#x}")
                p.compare(d, 0, pointer, t, u)
            offset = (imm << 12) - ((imm & 0x80000) << 13)
            p.case(f"auipc {d}, {imm:#x}", [(f"{label}+({offset})",)], p.bytes, body, {d})
    forward = "li {d}, 1\n    %s {a}, {b}, 2f\n    li {d}, 0\n2:"
    backward = "j 3f\n2:  li {d}, 1\n    j 4f\n3:  %s {a}, {b}, 2b\n    li {d}, 0\n4:"
    places = [("a0", "a1", "a2"), ("t0", "t1", "t2"), ("t0", "a1", "s2"), ("a0", "s3", "sp"), ("s2", "a3", "zero"), ("a0", "zero", "s4"),
              ("a0", "a5", "a5"), ("t0", "zero", "zero")]
    for name, model in isa.branch.items():
        p.binary(name, forward % name, lambda a, b: int(model(a, b)), values, places)
        p.binary(name + " back", backward % name, lambda a, b: int(model(a, b)), values, places)
    group_jumps(p)


def group_jumps(p):
    """jal and jalr: link registers, rd = rs1, bit 0, offsets of both signs; through tables of one record."""
    def case(name, text, reg, want, used):
        def body(pointer, t, u):
            p.emit(f"    {text}")
            p.compare(reg, 0, pointer, t, u)
        p.case(name, [(want,)], p.bytes, body, used)

    for n, rd in enumerate(("ra", "t0", "a0", "s0", "s5")):
        case(f"jal {rd}", f"jal {rd}, 2f\nlink_{n}: li {rd}, 0\n2:", rd, f"link_{n}", {rd})
        case(f"jalr {rd}, {rd}", f"la {rd}, 2f\n    jalr {rd}, 0({rd})\nlinkr_{n}: li {rd}, 0\n2:", rd, f"linkr_{n}", {rd})
        case(f"jalr {rd}, odd", f"la a5, 2f+1\n    jalr {rd}, 0(a5)\nlinko_{n}: li {rd}, 0\n2:", rd, f"linko_{n}", {rd, "a5"})
        for k, offset in enumerate((-2048, 2047, -1, 16)):
            case(f"jalr {rd}, {offset}", f"la t2, 2f - ({offset})\n    jalr {rd}, {offset}(t2)\nlinki_{n}_{k}: li {rd}, 0\n2:", rd,
                 f"linki_{n}_{k}", {rd, "t2"})
    case("jalr zero", "la a3, 2f\n    li a4, 1\n    jr a3\n    li a4, 0\n2:", "a4", 1, {"a3", "a4"})
    # Forth and back, near the ends of what jal and branches reach.
    case("jal far", "j 3f\n2:  li a4, 77\n    j 4f\n    .space 0xfff00 - 64, 0\n3:  li a4, 0\n    j 2b\n4:", "a4", 77, {"a4"})
    case("branch far", "li a4, 1\n    bnez a4, 3f\n2:  li a4, 78\n    j 4f\n    .space 4000, 0\n3:  bnez a4, 2b\n4:", "a4", 78, {"a4"})


def group_b(p, isa):
    values = isa.edges()
    for name, model in isa.b.items():
        p.binary(name, name + " {d}, {a}, {b}", model, values)
    for name, model in isa.r1.items():
        p.unary(name, name + " {d}, {a}", model, values)
    few = [("a0", "a1"), ("s2", "s2"), ("t0", "sp"), ("a5", "zero")]
    amounts = sorted({0, 1, 7, 8, 31, isa.X // 2, isa.X - 2, isa.X - 1})
    for table, limit in ((isa.b_shift, isa.X), (isa.b_shift_w, 32)):
        for name, model in table.items():
            for k in (k for k in amounts if k < limit):
                p.unary(name, f"{name} {{d}}, {{a}}, {k}", lambda a, k=k: model(a, k), values, few, constants=k % 8 == 0)


def group_c(p, isa):
    """Compressed forms: the same functions, two-operand."""
    values = isa.edges()

    def rvc(text):
        return f".option push\n    .option rvc\n    {text}\n    .option pop"
    X = isa.X
    w_ops = ["addw", "subw"] if isa.rv64 else []
    for name in ["sub", "xor", "or", "and"] + w_ops:
        model = isa.r[name]
        # The destination is the first operand: it gets it by a move.
        p.binary("c." + name, "mv {d}, {a}\n    " + rvc(f"c.{name} {{d}}, {{b}}"), model, values,
                 [("a0", "a1", "a2"), ("s1", "s1", "s0"), ("a5", "t0", "a4"), ("a3", "a3", "a3")], compressed=True)
    p.binary("c.add", "mv {d}, {a}\n    " + rvc("c.add {d}, {b}"), isa.r["add"], values,
             [("a0", "a1", "a2"), ("t6", "t5", "t4"), ("sp", "sp", "s11"), ("ra", "ra", "ra")], compressed=True)
    p.unary("c.mv", rvc("c.mv {d}, {a}"), lambda a: a, values, [("a0", "a1"), ("t3", "sp"), ("s2", "s3")])
    places = [("a0", "a1"), ("t6", "t5"), ("sp", "sp"), ("s2", "a2")]
    low = [("a0", "a1"), ("s0", "s0"), ("a5", "t5")]
    for imm in (1, -1, 31, -32, 7):
        p.unary("c.addi", "mv {d}, {a}\n    " + rvc(f"c.addi {{d}}, {imm}"), lambda a: a + imm, values, places)
        if isa.rv64:
            p.unary("c.addiw", "mv {d}, {a}\n    " + rvc(f"c.addiw {{d}}, {imm}"), lambda a: isa.i["addiw"](a, imm), values, places)
        p.unary("c.andi", "mv {d}, {a}\n    " + rvc(f"c.andi {{d}}, {imm}"), lambda a: a & imm, values, low)
        p.constants(f"c.li {imm}", [(rvc(f"c.li {d}, {imm}"), d, imm) for d in ("a0", "t6", "sp")], {"a0", "t6", "sp"})
    if isa.rv64:
        p.unary("c.addiw", "mv {d}, {a}\n    " + rvc("c.addiw {d}, 0"), lambda a: isa.i["addiw"](a, 0), values, places)
    for k in sorted({1, 7, 16, 31, X - 1}):
        p.unary("c.slli", "mv {d}, {a}\n    " + rvc(f"c.slli {{d}}, {k}"), lambda a: a << k, values, places)
        p.unary("c.srli", "mv {d}, {a}\n    " + rvc(f"c.srli {{d}}, {k}"), lambda a: a >> k, values, low)
        p.unary("c.srai", "mv {d}, {a}\n    " + rvc(f"c.srai {{d}}, {k}"), lambda a: isa.shift["srai"](a, k), values, low)
    for imm in (1, 31, 0xfffe0, 0xfffff):
        value = (imm << 12) - ((imm & 0x80000) << 13)
        p.constants(f"c.lui {imm:#x}", [(rvc(f"c.lui {d}, {imm:#x}"), d, value) for d in ("a0", "t6", "ra")], {"a0", "t6", "ra"})
    for imm in (16, -16, 496, -512):
        p.unary("c.addi16sp", "mv sp, {a}\n    " + rvc(f"c.addi16sp sp, {imm}") + "\n    mv {d}, sp", lambda a: a + imm, values,
                [("a0", "a1"), ("sp", "sp")])
    for imm in (4, 8, 64, 1020, 512):
        p.unary("c.addi4spn", "mv sp, {a}\n    " + rvc(f"c.addi4spn {{d}}, sp, {imm}"), lambda a: a + imm, values,
                [("a0", "a1"), ("s1", "t0")])
    forward = "li {d}, 1\n    " + rvc("c.%s {a}, 2f") + "\n    li {d}, 0\n2:"
    for name, test in (("beqz", lambda a: a == 0), ("bnez", lambda a: a != 0)):
        p.unary("c." + name, forward % name, lambda a: int(test(a)), values, [("a0", "a1"), ("t0", "s0"), ("s2", "a5")])

    def jump(name, text, reg, want, used):
        def body(pointer, t, u):
            p.emit(f"    {text}")
            p.compare(reg, 0, pointer, t, u)
        p.case(name, [(want,)], p.bytes, body, used)
    jump("c.j", "li a0, 1\n    " + rvc("c.j 2f") + "\n    li a0, 0\n2:", "a0", 1, {"a0"})
    jump("c.jr", "li a0, 1\n    la t5, 2f\n    " + rvc("c.jr t5") + "\n    li a0, 0\n2:", "a0", 1, {"a0", "t5"})
    jump("c.jalr", "la t5, 2f\n    " + rvc("c.jalr t5") + "\nclink: li a0, 0\n2:", "ra", "clink", {"a0", "t5", "ra"})
    jump("c.jalr ra", "la ra, 2f\n    " + rvc("c.jalr ra") + "\nclink_ra: li a0, 0\n2:", "ra", "clink_ra", {"a0", "ra"})
    if not isa.rv64:
        jump("c.jal", rvc("c.jal 2f") + "\nclink_j: li a0, 0\n2:", "ra", "clink_j", {"a0", "ra"})
    # An instruction of 4 bytes on an odd halfword, all along a loop.
    jump("odd halfwords", "li a0, 0\n    li a2, 100\n    " + rvc("c.nop") + "\n2:  addi a0, a0, 3\n    addi a2, a2, -1\n    bnez a2, 2b\n    "
         + rvc("c.nop"), "a0", 300, {"a0", "a2"})


class Zcb:
    def __init__(self, name, half, binary=False):
        self.name, self.half, self.binary = name, half, binary

    def __call__(self, d, a, b):
        operand = (b & 7) << 2 if self.binary else 0
        return f"mv x{d}, x{a}\n    .half {self.half | (d & 7) << 7 | operand:#x}\n    .balign 4"


def group_new(p, isa):
    """Zicond, and Zcb's arithmetic."""
    values = isa.edges()
    for name, (funct3, model) in isa.zicond.items():
        p.binary(name, Encoded(name, 0x33, funct3, 7), model, values)
    # .balign pads with a nop of 2 bytes: what follows is aligned again.
    unary = {"c.zext.b": (0x9c61, lambda a: a & 0xff), "c.sext.b": (0x9c65, isa.r1["sext.b"]),
             "c.zext.h": (0x9c69, lambda a: a & 0xffff), "c.sext.h": (0x9c6d, isa.r1["sext.h"]), "c.not": (0x9c75, lambda a: ~a)}
    if isa.rv64:
        unary["c.zext.w"] = (0x9c71, lambda a: a & 0xffffffff)
    for name, (half, model) in unary.items():
        p.unary(name, Zcb(name, half), model, values, [("a0", "a1"), ("s0", "s0"), ("a5", "t3")])
    p.binary("c.mul", Zcb("c.mul", 0x9c41, True), isa.m["mul"], values,
             [("a0", "a1", "a2"), ("s1", "s1", "s0"), ("a5", "t0", "a4"), ("a3", "a3", "a3")], compressed=True)


AMO_NUMBER = {"amoadd": 0, "amoswap": 1, "amoxor": 4, "amoor": 8, "amoand": 12, "amomin": 16, "amomax": 20, "amominu": 24,
              "amomaxu": 28, "amocas": 5}
# rd, rs1 (address), rs2
AMO_PLACES = [("a0", "a1", "a2"), ("t0", "t1", "t2"), ("a3", "s2", "a3"), ("s1", "s1", "s0"), ("zero", "a0", "s5"), ("s6", "a5", "zero"),
              ("s11", "s10", "s11"), ("a4", "a0", "t6")]


def amo_cases(p, isa, sizes):
    X = isa.X
    values = isa.edges()
    pairs = [(a, b) for a in values for b in values]

    def extend(v, n):
        v &= (1 << n) - 1
        return v - (1 << n) if v >> (n - 1) else v

    for letter, funct3, n in sizes:
        for name, model in list(isa.amo.items()) + [("amocas", None)]:
            if letter not in (p.cas_sizes if name == "amocas" else p.amo_sizes):
                continue
            for k, (d, a, b) in enumerate(AMO_PLACES):
                lane = (k * n) % X  # the place in the cell
                aqrl = k % 4
                records = []
                for cell, v in p.random.sample(pairs, 60 if k == 0 else 16):
                    v = 0 if b == "zero" else v
                    old = cell >> lane & ((1 << n) - 1)
                    if name == "amocas":
                        if d in (a, b):
                            continue
                        expected = p.random.choice([old, old, v, extend(old, n), old | 1 << n, old ^ 1])
                        expected = 0 if d == "zero" else expected
                        new = v if extend(expected, n) == extend(old, n) else old
                    else:
                        expected, new = GARBAGE, model(old, v, n)
                    after = cell & ~(((1 << n) - 1) << lane) | (new & ((1 << n) - 1)) << lane
                    records.append((cell, v, expected, 0 if d == "zero" else extend(old, n), after))
                w = p.bytes
                word = AMO_NUMBER[name] << 2 | aqrl

                def body(pointer, t, u):
                    p.emit(f"    la {u}, amo_cell\n    {p.load} {t}, 0({pointer})\n    {p.store} {t}, 0({u})\n"
                           + p.operands(b, w, pointer)
                           + (p.operands(d, 2 * w, pointer) if d not in (a, b) else "")
                           + f"    addi {a}, {u}, {lane // 8}\n    "
                           + word_r(0x2f, funct3, word, NUMBER[d], NUMBER[a], NUMBER[b]))
                    p.compare(d, 3 * w, pointer, t, u)
                    p.emit(f"    la {u}, amo_cell\n    {p.load} {u}, 0({u})")
                    p.compare(u, 4 * w, pointer, t, u)
                    if name != "amocas" and b not in ("zero", d, a):  # the operand is as it was
                        p.compare(b, w, pointer, t, u)

                p.case(f"{name}.{letter} {d}, {b}, ({a}) lane {lane} aqrl {aqrl}", records, w, body, {d, a, b})


def group_a(p, isa):
    p.cas_sizes, p.amo_sizes = "", "wd"
    amo_cases(p, isa, [("w", 2, 32)] + ([("d", 3, 64)] if isa.rv64 else []))


def group_acas(p, isa):
    """Zabha, Zacas."""
    p.cas_sizes, p.amo_sizes = "bhwd", "bh"
    amo_cases(p, isa, [("b", 0, 8), ("h", 1, 16), ("w", 2, 32)] + ([("d", 3, 64)] if isa.rv64 else []))
    # Pairs of registers: amocas.q, and amocas.d on RV32.
    values, w = isa.edges(), p.bytes
    for d, d1, a, b, b1 in (("a2", "a3", "a0", "a4", "a5"), ("s2", "s3", "t0", "s4", "s5"), ("s0", "s1", "s10", "t3", "t4"),
                            ("zero", "zero", "a1", "a2", "a3"), ("a2", "a3", "s0", "zero", "zero")):
        records = []
        for k in range(60):
            lo, hi, new_lo, new_hi = (p.random.choice(values) for _ in range(4))
            want = {0: (lo, hi), 1: (lo, hi ^ 1), 2: (lo ^ 1, hi), 3: (0, 0)}[k % 4]
            if k % 4 == 3 and k % 8 == 3:
                lo, hi = 0, 0
            want = (0, 0) if d == "zero" else want
            new = (0, 0) if b == "zero" else (new_lo, new_hi)
            after = new if want == (lo, hi) else (lo, hi)
            got = (0, 0) if d == "zero" else (lo, hi)
            records.append((lo, hi, *want, *new, *got, *after))

        def body(pointer, t, u):
            p.emit(f"    la {u}, amo_cell\n    {p.load} {t}, 0({pointer})\n    {p.store} {t}, 0({u})\n"
                   f"    {p.load} {t}, {w}({pointer})\n    {p.store} {t}, {w}({u})\n"
                   + p.operands(d, 2 * w, pointer) + p.operands(d1, 3 * w, pointer)
                   + p.operands(b, 4 * w, pointer) + p.operands(b1, 5 * w, pointer)
                   + f"    mv {a}, {u}\n    " + word_r(0x2f, 4 if isa.rv64 else 3, 5 << 2, NUMBER[d], NUMBER[a], NUMBER[b]))
            p.compare(d, 6 * w, pointer, t, u)
            p.compare(d1, 7 * w, pointer, t, u)
            for half in range(2):
                p.emit(f"    la {u}, amo_cell\n    {p.load} {u}, {half * w}({u})")
                p.compare(u, (8 + half) * w, pointer, t, u)

        p.case(f"amocas pair {d}, {b}, ({a})", records, w, body, {d, d1, a, b, b1})


# -- floating point ------------------------------------------------------------------------------

F_PLACES = [("fa0", "fa1", "fa2", "fa3"), ("fs11", "ft0", "fs5", "ft11"), ("fa5", "fa5", "ft8", "fa5"), ("ft3", "fa4", "ft3", "ft3"),
            ("fs0", "fs0", "fs0", "fs0")]
I_PLACES = ["a0", "t3", "zero", "s1"]
W = 8  # bytes of a word in the records of floating point


class Floats:
    """Records are [a, b, c, frm << 5, expected, expected fcsr], 8 bytes each."""

    def __init__(self, p, isa):
        self.p, self.isa = p, isa

    def box(self, fmt, bits):
        return bits | (((1 << 64) - 1) ^ fmt.mask)

    def unbox(self, fmt, image):
        return image & fmt.mask if image >> fmt.width == (1 << (64 - fmt.width)) - 1 else fmt.nan

    def images(self, fmt):
        """Register contents: boxed values, and some that are not boxed."""
        out = [self.box(fmt, x) for x in ieee.edges(fmt)]
        if fmt.width < 64:
            one = fmt.bias << fmt.fbits
            out += [one, one | 0xffffffff << 32 if fmt.width == 16 else one | 0xfffffffe << 32, 0x7ff0000000000000]
        return out

    def case(self, title, encode, places, records, result, sources):
        """result: 'f' or 'x'; sources: 'f', 'ff', 'fff', 'x' or 'xx'. encode(rd, rs1, rs2, rs3) gives the text."""
        p = self.p
        used = {"s2", "s3", "s4"}
        d, a, b, c = places

        def body(pointer, t, u):
            text = ""
            for k, (kind, reg) in enumerate(zip(sources, (a, b, c))):
                if kind == "f":
                    text += f"    fld {reg}, {k * W}({pointer})\n"
                elif reg != "zero":
                    text += f"    {p.load} {reg}, {k * W}({pointer})\n"
            text += f"    lw {t}, {3 * W}({pointer})\n    csrw fcsr, {t}\n    {encode(d, a, b, c)}\n"
            p.emit(text.rstrip())
            if result == "f":
                p.emit(f"    la {u}, float_result\n    fsd {d}, 0({u})")
                if p.xlen == 64:
                    p.emit(f"    ld {u}, 0({u})\n    ld {t}, {4 * W}({pointer})\n    bne {u}, {t}, 9f")
                else:
                    p.emit(f"    lw {u}, 4({u})\n    lw {t}, {4 * W + 4}({pointer})\n    bne {u}, {t}, 9f\n"
                           f"    la {u}, float_result\n    lw {u}, 0({u})\n    lw {t}, {4 * W}({pointer})\n    bne {u}, {t}, 9f")
            else:
                p.compare(d, 4 * W, pointer, t, u)
            p.emit(f"    csrr {u}, fcsr\n    lw {t}, {5 * W}({pointer})\n    bne {u}, {t}, 9f")

        p.case(title, records, W, body, used | {d, a, b, c})

    def sweep(self, name, fmt, sources, model, encode, rm_matters, result="f", out=None, images=None, limit=500, dynamic=True):
        """Runs `encode(mode)` over operands x rounding modes, in several places. model(operands, rm) -> (value, flags);
        the value is a number of format `out`, or an integer."""
        p = self.p
        images = images or self.images(fmt)
        n = len(sources)
        tuples = [(x,) for x in images] if n == 1 else [(x, y) for x in images for y in images]
        if n == 3:
            tuples = [tuple(p.random.choice(images) for _ in range(3)) for _ in range(limit)]
            tuples += [(x, y, self.negate_product(fmt, x, y)) for x in images for y in p.random.sample(images, 2)]

        def record(operands, rm, frm):
            operands = list(operands)
            value, flags = model([self.unbox(fmt, x) if kind == "f" else x for x, kind in zip(operands, sources)], rm)
            if result == "f":
                value = self.box(out or fmt, value)
            return (*operands, *[0] * (3 - n), frm << 5, value & ((1 << 64) - 1), flags | frm << 5)

        f_places = F_PLACES if "f" in sources else [(d, "", "", "") for d in ("fa0", "fs11", "ft3", "fa5")]
        for k, (d, a, b, c) in enumerate(f_places):
            places = [d, a, b, c]
            if "x" in sources:
                places[1] = ("a0", "t3", "sp", "zero")[k % 4]
                if sources == "xx":
                    places[2] = ("a1", "t4", "s0", "a5")[k % 4]
            if result == "x":
                places[0] = I_PLACES[k % 4]
            chosen = tuples if k == 0 else p.random.sample(tuples, min(len(tuples), 40))
            fixed = []
            for t in chosen:  # operands in one register are one operand
                t = list(t)
                for i in range(1, n):
                    for j in range(i):
                        if places[1 + i] == places[1 + j]:
                            t[i] = t[j]
                if sources[0] == "x" and places[1] == "zero":
                    t[0] = 0
                fixed.append(tuple(t))
            modes = range(5) if rm_matters else (0,)
            records = []
            for rm in modes:
                part = fixed if rm == 0 or n == 1 else p.random.sample(fixed, min(len(fixed), limit // 2))
                records += [record(t, rm, rm) for t in part]
            if result == "x" and places[0] == "zero":
                records = [(*r[:4], 0, r[5]) for r in records]
            self.case(f"{name} {places[0]}, {', '.join(x for x in places[1:1 + n])}", encode(7 if dynamic else 0), places, records, result, sources)
            if rm_matters and k < 2:
                for rm in range(5):
                    other = p.random.sample(fixed, min(len(fixed), 60 if k == 0 else 10))
                    records = [record(t, rm, (rm + 2) % 5) for t in other]
                    if result == "x" and places[0] == "zero":
                        continue
                    self.case(f"{name} {ieee.ROUNDINGS[rm]} {places[0]}", encode(rm), places, records, result, sources)

    def negate_product(self, fmt, x, y):
        """An addend close to -x * y: where one rounding differs from two."""
        bits, _ = ieee.mul(fmt, self.unbox(fmt, x), self.unbox(fmt, y), ieee.RNE)
        return self.box(fmt, bits ^ fmt.sign_bit)


def assembled(text, rounds):
    """encode for an instruction that assemblers know; text has {d} {a} {b} {c}."""
    def with_mode(rm):
        mode = ", " + ("dyn" if rm == 7 else ieee.ROUNDINGS[rm]) if rounds else ""
        return lambda d, a, b, c: text.format(d=d, a=a, b=b, c=c) + mode
    return with_mode


def encoded(funct7, rs2=None, funct3=None):
    """encode for OP-FP words; funct3 None: the rounding mode; rs2 None: a register."""
    def number(reg):
        return F_NUMBER[reg] if reg in F_NUMBER else NUMBER[reg]

    def with_mode(rm):
        return lambda d, a, b, c: word_r(0x53, rm if funct3 is None else funct3, funct7, number(d), number(a),
                                         number(b) if rs2 is None else rs2)
    return with_mode


def group_fp(p, isa, fmt):
    f = Floats(p, isa)
    x = fmt.letter
    for name, op in (("fadd", ieee.add), ("fsub", ieee.sub), ("fmul", ieee.mul), ("fdiv", ieee.div)):
        f.sweep(f"{name}.{x}", fmt, "ff", lambda o, rm: op(fmt, *o, rm), assembled(f"{name}.{x} {{d}}, {{a}}, {{b}}", True), True)
    f.sweep(f"fsqrt.{x}", fmt, "f", lambda o, rm: ieee.sqrt(fmt, *o, rm), assembled(f"fsqrt.{x} {{d}}, {{a}}", True), True)
    for name, product, total in (("fmadd", 0, 0), ("fmsub", 0, 1), ("fnmsub", 1, 0), ("fnmadd", 1, 1)):
        f.sweep(f"{name}.{x}", fmt, "fff", lambda o, rm: ieee.fma(fmt, *o, rm, product, total),
                assembled(f"{name}.{x} {{d}}, {{a}}, {{b}}, {{c}}", True), True)
    s = fmt.sign_bit
    for name, op in (("fsgnj", lambda a, b: a & ~s | b & s), ("fsgnjn", lambda a, b: a & ~s | ~b & s), ("fsgnjx", lambda a, b: a ^ b & s)):
        f.sweep(f"{name}.{x}", fmt, "ff", lambda o, rm: (op(*o), 0), assembled(f"{name}.{x} {{d}}, {{a}}, {{b}}", False), False)
    for name, largest in (("fmin", False), ("fmax", True)):
        f.sweep(f"{name}.{x}", fmt, "ff", lambda o, rm: ieee.minmax(fmt, *o, largest, True),
                assembled(f"{name}.{x} {{d}}, {{a}}, {{b}}", False), False)
    for name in ("eq", "lt", "le"):
        f.sweep(f"f{name}.{x}", fmt, "ff", lambda o, rm: ieee.compare(fmt, *o, name, name == "eq"),
                assembled(f"f{name}.{x} {{d}}, {{a}}, {{b}}", False), False, "x")
    f.sweep(f"fclass.{x}", fmt, "f", lambda o, rm: (ieee.classify(fmt, *o), 0), assembled(f"fclass.{x} {{d}}, {{a}}", False), False, "x")
    # To and from integers.
    integers = [("w", 32, True), ("wu", 32, False)] + ([("l", 64, True), ("lu", 64, False)] if isa.rv64 else [])
    near = []
    for bits in (31, 32, 63, 64):
        for delta in (-1, -0.5, 0, 0.5, 1):
            for sign in (0, fmt.sign_bit):
                near.append(f.box(fmt, ieee.round_to(fmt, ieee.Fraction(2) ** bits + ieee.Fraction(delta), False, ieee.RTZ)[0] | sign))
    for letter, bits, signed in integers:
        def to_int(o, rm, bits=bits, signed=signed):
            n, flags = ieee.to_integer(fmt, *o, rm, bits, signed)
            return (n & 0xffffffff ^ 0x80000000) - 0x80000000 if bits == 32 else n, flags
        f.sweep(f"fcvt.{letter}.{x}", fmt, "f", to_int, assembled(f"fcvt.{letter}.{x} {{d}}, {{a}}", True), True, "x", images=f.images(fmt) + near)

        def from_int(o, rm, bits=bits, signed=signed):
            n = o[0] & ((1 << bits) - 1)
            n = n - (1 << bits) if signed and n >> (bits - 1) else n
            return ieee.round_to(fmt, ieee.Fraction(n), False, rm)
        exact = fmt is ieee.D and bits == 32
        f.sweep(f"fcvt.{x}.{letter}", fmt, "x", from_int, assembled(f"fcvt.{x}.{letter} {{d}}, {{a}}", not exact), not exact,
                images=isa.edges() + [0x3ff << 20, 0x7fffffffffffffff & isa.mask, 0x1000001, 0x1ffffff & isa.mask, 2049, 65519, 65520])
    # Moves: bits, not numbers.
    if fmt is not ieee.D or isa.rv64:
        letter = {"h": "h", "s": "w", "d": "d"}[x]
        sign = 1 << (fmt.width - 1)
        f.sweep(f"fmv.x.{letter}", ieee.D, "f", lambda o, rm: (((o[0] & fmt.mask) ^ sign) - sign, 0),
                assembled(f"fmv.x.{letter} {{d}}, {{a}}", False), False, "x", images=f.images(fmt))
        f.sweep(f"fmv.{letter}.x", fmt, "x", lambda o, rm: (o[0] & fmt.mask, 0), assembled(f"fmv.{letter}.x {{d}}, {{a}}", False), False,
                images=isa.edges())
    # Between formats: to this one.
    for other in (ieee.H, ieee.S, ieee.D):
        wanted = {ieee.H: (), ieee.S: (ieee.D,), ieee.D: (ieee.S,)}[fmt] if fmt is not ieee.H else (ieee.S, ieee.D)
        if other not in wanted:
            continue
        y = other.letter
        pairs = [(fmt, other)] + ([(other, fmt)] if fmt is ieee.H else [])
        for to, source in pairs:
            narrows = to.width < source.width
            extra = []
            if narrows:  # values that round, overflow and underflow in the narrower format
                for e in ieee.edges(to):
                    if not to.is_nan(e) and not to.is_inf(e):
                        wide = ieee.convert(source, to, e, 0)[0]
                        extra += [f.box(source, wide + k) for k in (-1, 1, 1 << (source.fbits - to.fbits - 1))
                                  if not source.is_zero(wide)]
            f.sweep(f"fcvt.{to.letter}.{source.letter}", source, "f", lambda o, rm: ieee.convert(to, source, *o, rm),
                    assembled(f"fcvt.{to.letter}.{source.letter} {{d}}, {{a}}", narrows), narrows, out=to,
                    images=f.images(source) + extra)


FLI = [None, None, "0x1p-16", "0x1p-15", "0x1p-8", "0x1p-7", "0.0625", "0.125", "0.25", "0.3125", "0.375", "0.4375", "0.5", "0.625",
       "0.75", "0.875", "1", "1.25", "1.5", "1.75", "2", "2.5", "3", "4", "8", "16", "128", "256", "32768", "65536", "inf", "nan"]


def group_zfa(p, isa):
    f = Floats(p, isa)
    for fmt, number in ((ieee.S, 0), (ieee.D, 1), (ieee.H, 2)):
        x = fmt.letter
        # fli: 32 constants (unprivileged spec, "Zfa", the table of fli.s)
        for k, text in enumerate(FLI):
            if k == 0:
                bits = fmt.sign_bit | fmt.bias << fmt.fbits
            elif k == 1:
                bits = 1 << fmt.fbits
            elif text == "inf":
                bits = fmt.inf
            elif text == "nan":
                bits = fmt.nan
            else:
                bits, _ = ieee.round_to(fmt, ieee.Fraction(float.fromhex(text) if "x" in text else float(text)), False, ieee.RNE)
            for d in ("fa0", "fs7"):
                f.case(f"fli.{x} {d}, #{k}", lambda d, a, b, c, k=k: word_r(0x53, 0, 0x78 | number, F_NUMBER[d], k, 1),
                       (d, "", "", ""), [(0, 0, 0, 0, f.box(fmt, bits), 0)], "f", "")
        for name, funct3, largest in (("fminm", 2, False), ("fmaxm", 3, True)):
            f.sweep(f"{name}.{x}", fmt, "ff", lambda o, rm: ieee.minmax(fmt, *o, largest, False), encoded(0x14 | number, None, funct3), False)
        halves = [f.box(fmt, ieee.round_to(fmt, ieee.Fraction(n, 4), False, ieee.RNE)[0] | s)
                  for n in (1, 2, 3, 5, 6, 7, 9, 10, 11, 4095, 4097, 4098) for s in (0, fmt.sign_bit)]
        for name, rs2, exact in (("fround", 4, False), ("froundnx", 5, True)):
            f.sweep(f"{name}.{x}", fmt, "f", lambda o, rm: ieee.round_integral(fmt, *o, rm, exact), encoded(0x20 | number, rs2), True,
                    images=f.images(fmt) + halves)
        for name, operation, funct3 in (("fleq", "le", 4), ("fltq", "lt", 5)):
            f.sweep(f"{name}.{x}", fmt, "ff", lambda o, rm: ieee.compare(fmt, *o, operation, True), encoded(0x50 | number, None, funct3),
                    False, "x")
    big = [f.box(ieee.D, ieee.round_to(ieee.D, ieee.Fraction(2) ** e + k, False, 0)[0] | s)
           for e in (30, 31, 32, 33, 52, 53, 60, 84, 85, 90) for k in (-3, 0, 1, 5) for s in (0, ieee.D.sign_bit)]
    f.sweep("fcvtmod.w.d", ieee.D, "f", lambda o, rm: ieee.to_integer_modular(ieee.D, *o, 32), encoded(0x61, 8, 1), False, "x",
            images=f.images(ieee.D) + big)
    if not isa.rv64:
        f.sweep("fmvh.x.d", ieee.D, "f", lambda o, rm: (o[0] >> 32, 0), encoded(0x71, 1, 0), False, "x")
        f.sweep("fmvp.d.x", ieee.D, "xx", lambda o, rm: (o[0] | o[1] << 32, 0), encoded(0x59, None, 0), False, images=isa.edges())


GROUPS = {
    "i": group_i, "b": group_b, "c": group_c, "a": group_a, "new": group_new, "acas": group_acas,
    "fp_h": lambda p, isa: group_fp(p, isa, ieee.H), "fp_s": lambda p, isa: group_fp(p, isa, ieee.S),
    "fp_d": lambda p, isa: group_fp(p, isa, ieee.D), "zfa": group_zfa,
}


def main():
    group, xlen, output = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    program = Program(xlen)
    GROUPS[group](program, Isa(xlen))
    program.write(output)


if __name__ == "__main__":
    main()
