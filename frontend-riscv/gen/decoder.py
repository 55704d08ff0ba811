#!/usr/bin/env python3
"""Writes the decoder from the rows in insn/*.c (what a row says: translate.h; operand formats: formats.py).

  decoder.py rows     OUTPUT.c  INSN.c...    the table of rows, the decoder, operand extraction
  decoder.py markdown OUTPUT.md INSN.c...    a table of all instructions, for the documentation

The decoder is nested switches: among rows that have fixed bits in common, switch on those; among the rest,
test one after the other, the more specific first. Two rows that the same bits could mean at the same XLEN are an
error, unless the more specific one says "over=" the other.
"""

import re
import sys

from formats import FORMATS

ROW = re.compile(r'^(INSN|INSN_AS)\(([^;{]*?)\)\s*[;{]', re.M | re.S)
MAX_SWITCH_BITS = 7


class RowError(Exception):
    pass


class Field:
    """An operand's place: kind 'reg' (lo, width, plus), 'const' (value) or 'imm' (signed, pieces)."""

    def __init__(self, text):
        self.name, spec = text.split("=", 1)
        self.pieces = []  # (instruction bit, operand bit), highest operand bit not first
        self.add = 0
        self.signed = False
        self.const = None
        if spec[0] == "#":
            self.const = int(spec[1:])
        elif self.name == "imm":
            self.signed = spec[0] == "s"
            for span, bits in re.findall(r"\[([\d:]+)\]([\d:|]+)", spec[1:]):
                hi, lo = (int(x) for x in (span.split(":") * 2)[:2])
                numbers = []
                for part in bits.split("|"):
                    b_hi, b_lo = (int(x) for x in (part.split(":") * 2)[:2])
                    numbers += range(b_hi, b_lo - 1, -1)
                if len(numbers) != hi - lo + 1:
                    raise RowError(f"immediate {spec}: [{span}] and {bits} differ in width")
                self.pieces += zip(range(hi, lo - 1, -1), numbers)
        else:
            if spec[0] == "c":
                self.add, spec = 8, spec[1:]
            hi, lo = (int(x) for x in spec.split(":"))
            self.pieces = [(lo + i, i) for i in range(hi - lo + 1)]

    def mask(self):
        return sum(1 << i for i, _ in self.pieces)

    def top(self):
        return max(b for _, b in self.pieces)

    def encode(self, value):
        return sum(1 << i for i, b in self.pieces if value >> b & 1)

    def c_value(self):
        """A C expression for the value, from u32 `insn`."""
        if self.const is not None:
            return str(self.const)
        runs = []  # (instruction lo, operand lo, width)
        for i, b in sorted(self.pieces):
            if runs and runs[-1][0] + runs[-1][2] == i and runs[-1][1] + runs[-1][2] == b:
                runs[-1][2] += 1
            else:
                runs.append([i, b, 1])
        terms = []
        for i, b, n in runs:
            if self.signed and b + n - 1 == self.top():
                # The top run: move it to bit 31, then shift right arithmetically.
                left = 32 - (i + n)
                term = f"(s32)(insn << {left}) >> {32 - n}" if left else f"(s32)insn >> {32 - n}"
                terms.append(f"(s32)((u32)({term}) << {b})" if b else f"({term})")
            else:
                term = f"(insn >> {i} & {hex((1 << n) - 1)})"
                terms.append(f"(s32)({term} << {b})" if b else f"(s32){term}")
        value = " | ".join(terms)
        return f"({value}) + {self.add}" if self.add else value


class Format:
    def __init__(self, name, number):
        fields, self.asm, options = FORMATS[name]
        self.name = name
        self.number = number
        self.fields = {f.name: f for f in map(Field, fields.split())}
        self.rm = "rm" in options.split()
        match = re.search(r"shamt=(\d+)", options)
        self.shamt_bit = int(match.group(1)) if match else None


class Row:
    def __init__(self, text, is_alias, formats, where):
        self.where = where
        args = [a.strip() for a in text.split(",")]
        # Strings may hold commas ("rd!=0,2"): rejoin.
        joined = []
        for a in args:
            if joined and joined[-1].count('"') % 2:
                joined[-1] += "," + a
            else:
                joined.append(a)
        args = joined
        self.id = args.pop(0)
        self.body = args.pop(0) if is_alias else self.id
        self.name = self.id.split("__")[0].replace("_", ".")
        ext = args.pop(0)
        self.ext_any = "|" in ext
        self.ext = [e.strip() for e in re.split(r"[|&]", ext)]
        if "|" in ext and "&" in ext:
            raise RowError(f"{self.id}: | and & in one condition")
        name = args.pop(0)
        if name not in formats:
            raise RowError(f"{self.id}: no format {name}")
        self.format = formats[name]
        strings = [a.strip('"') for a in args]
        pattern = strings.pop(0).replace(" ", "")
        self.length = len(pattern) // 8
        if len(pattern) not in (16, 32) or set(pattern) - set("01."):
            raise RowError(f"{self.id}: the encoding is not 16 or 32 of 0, 1 and .")
        if (pattern[-2:] == "11") != (self.length == 4) or "." in pattern[-2:]:
            raise RowError(f"{self.id}: bits 1:0 contradict the length")
        self.mask = int(re.sub("[01]", "1", pattern).replace(".", "0"), 2)
        self.match = int(pattern.replace(".", "0"), 2)
        self.rv32 = self.rv64 = True
        self.over = None
        self.excluded = {}
        for s in strings:
            if s in ("rv32", "rv64"):
                self.rv32, self.rv64 = s == "rv32", s == "rv64"
            elif s.startswith("over="):
                self.over = s[5:]
            elif "!=" in s:
                field, values = s.split("!=")
                if field not in self.format.fields:
                    raise RowError(f"{self.id}: format {self.format.name} has no {field}")
                self.excluded[field] = [int(v) for v in values.split(",")]
            else:
                raise RowError(f"{self.id}: what is \"{s}\"?")

    def fixed_value(self, bits):
        """The row's value of these bits, or None if some are free."""
        return self.match & bits if self.mask & bits == bits else None

    def excludes(self, other):
        """Whether a constraint of this row keeps it apart from another."""
        for name, values in self.excluded.items():
            field = self.format.fields[name]
            theirs = other.fixed_value(field.mask())
            if theirs is not None and any(theirs == field.encode(v) for v in values):
                return True
        shamt = self.format.shamt_bit
        return (shamt is not None and not other.rv64
                and other.fixed_value(1 << shamt) == 1 << shamt)

    def overlaps(self, other):
        if self.length != other.length or self.mask & other.mask & (self.match ^ other.match):
            return False
        if not (self.rv32 and other.rv32 or self.rv64 and other.rv64):
            return False
        return not self.excludes(other) and not other.excludes(self)

    def condition(self, known):
        """C conditions, beyond the bits in `known`, for this row to be meant."""
        result = []
        rest = self.mask & ~known
        if rest:
            result.append(f"(insn & {rest:#x}) == {self.match & rest:#x}")
        for name, values in self.excluded.items():
            mask = self.format.fields[name].mask() & ~self.mask
            for v in values:
                encoded = self.format.fields[name].encode(v)
                if mask != self.format.fields[name].mask():
                    raise RowError(f"{self.id}: {name} is both fixed and constrained")
                result.append(f"(insn & {mask:#x}) != {encoded:#x}")
        if not (self.rv32 and self.rv64):
            result.append("rv32" if self.rv32 else "!rv32")
        if self.format.shamt_bit is not None and self.rv32 and not self.mask >> self.format.shamt_bit & 1:
            result.append(f"!(rv32 && insn >> {self.format.shamt_bit} & 1)")
        if self.format.rm and not self.mask & 0x7000:
            result.append("static_rm_ok(insn)")
        if self.ext != ["I"]:
            bits = ext_bits(self.ext)
            if len(self.ext) > 1 and not self.ext_any:
                result.append(f"(ext & ({bits})) == ({bits})")
            else:
                result.append(f"(ext & ({bits}))")
        return " && ".join(result) or "true"


def ext_bits(names):
    return " | ".join(f"RISCV_EXT_BIT({e})" for e in names)


def read_rows(paths):
    formats = {name: Format(name, i) for i, name in enumerate(FORMATS)}
    rows = []
    for path in paths:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for m in ROW.finditer(text):
            where = f"{path}:{text.count(chr(10), 0, m.start()) + 1}"
            try:
                rows.append(Row(" ".join(m.group(2).split()), m.group(1) == "INSN_AS", formats, where))
            except (RowError, IndexError, ValueError) as e:
                sys.exit(f"{where}: {e}")
    by_id = {}
    for r in rows:
        if r.id in by_id:
            sys.exit(f"{r.where}: {r.id} is also at {by_id[r.id].where}")
        by_id[r.id] = r
    for r in rows:
        if r.over and r.over not in by_id:
            sys.exit(f"{r.where}: over={r.over}: no such row")
    check_overlaps(rows)
    return rows, list(formats.values())


def check_overlaps(rows):
    for i, a in enumerate(rows):
        for b in rows[i + 1:]:
            if not a.overlaps(b):
                continue
            for x, y in ((a, b), (b, a)):
                if x.over == y.id and y.mask & ~x.mask == 0:
                    break
            else:
                sys.exit(f"{a.where}: {a.id} overlaps {b.id} ({b.where}); if one is a more specific form, "
                         f"say \"over=\" in its row")


def runs_of(mask):
    """The runs of adjacent ones in a mask, as (lo, width)."""
    lo = 0
    while mask >> lo:
        if not mask >> lo & 1:
            lo += 1
            continue
        n = 1
        while mask >> (lo + n) & 1:
            n += 1
        yield lo, n
        lo += n


class Writer:
    def __init__(self, rows):
        self.number = {r.id: i for i, r in enumerate(rows)}
        self.lines = []

    def put(self, depth, line):
        self.lines.append("    " * depth + line)

    def chain(self, rows, known, depth):
        """Tests rows one after the other, the more specific ones first and behind one common test."""
        special = [r for r in rows if any(r.over == other.id for other in rows)]
        special.sort(key=lambda r: -bin(r.mask).count("1"))
        general = [r for r in rows if r not in special]
        if len(special) > 1:
            first = special[0]
            common = ~known
            for r in special:
                common &= r.mask & ~(r.match ^ first.match)
            if common:
                self.put(depth, f"if ((insn & {common:#x}) == {first.match & common:#x}) {{")
                for r in special:
                    self.test(r, known | common, depth + 1)
                self.put(depth, "}")
                special = []
        for r in special + general:
            self.test(r, known, depth)
        self.put(depth, "return -1;")

    def test(self, row, known, depth):
        self.put(depth, f"if ({row.condition(known)}) {{")
        self.put(depth + 1, f"return {self.number[row.id]}; /* {row.name} */")
        self.put(depth, "}")

    def switch(self, rows, known, depth):
        common = ~known & 0xffffffff
        for r in rows:
            common &= r.mask
        best = None
        for lo, n in runs_of(common):
            for start in range(lo, lo + max(1, n - MAX_SWITCH_BITS + 1)):
                width = min(n, MAX_SWITCH_BITS)
                values = {r.match >> start & ((1 << width) - 1) for r in rows}
                key = (len(values), -width)
                if len(values) > 1 and (best is None or key > best[0]):
                    best = key, start, width
        if best is None:
            self.chain(rows, known, depth)
            return
        _, lo, width = best
        ones = (1 << width) - 1
        self.put(depth, f"switch (insn >> {lo} & {ones:#x}) {{")
        for value in sorted({r.match >> lo & ones for r in rows}):
            self.put(depth, f"case {value:#x}:")
            self.switch([r for r in rows if r.match >> lo & ones == value], known | ones << lo, depth + 1)
        self.put(depth, "}")
        self.put(depth, "return -1;")


def write_rows(out, rows, formats):
    w = Writer(rows)
    w.put(0, "/* Written by frontend-riscv/gen/decoder.py from the rows in frontend-riscv/insn. */")
    w.put(0, '#include "frontend-riscv/decode.h"')
    w.put(0, '#include "frontend-riscv/extensions.h"')
    w.put(0, "")
    for body in sorted({r.body for r in rows}):
        w.put(0, f"void riscv_insn_{body}(Tr *t, const Operands *o);")
    w.put(0, "")
    for f in formats:
        w.put(0, f"static inline void extract_{f.name}(u32 insn, Operands *o)")
        w.put(0, "{")
        w.put(1, "*o = (Operands){0};")
        w.put(1, "(void)insn;")
        for field in f.fields.values():
            cast = "" if field.name == "imm" else "(u8)"
            value = field.c_value()
            w.put(1, f"o->{field.name} = {cast}({value});" if cast else f"o->imm = {value};")
        w.put(0, "}")
        w.put(0, "")
    for body, form in sorted({(r.body, r.format.name) for r in rows}):
        w.put(0, f"static void translate_{body}_{form}(Tr *t, u32 insn)")
        w.put(0, "{")
        w.put(1, "Operands o;")
        w.put(1, f"extract_{form}(insn, &o);")
        w.put(1, f"riscv_insn_{body}(t, &o);")
        w.put(0, "}")
        w.put(0, "")
    w.put(0, "const RiscvRow riscv_rows[] = {")
    for r in rows:
        w.put(1, f'{{"{r.name}", translate_{r.body}_{r.format.name}, {r.mask:#x}, {r.match:#x}, {r.length}, '
                 f"{r.format.number}, "
                 f"{int(r.rv32)}, {int(r.rv64)}, {ext_bits(r.ext)}, {int(r.ext_any)}}},")
    w.put(0, "};")
    w.put(0, f"const unsigned riscv_row_count = {len(rows)};")
    w.put(0, "")
    for what in ("name", "asm"):
        w.put(0, f"const char *const riscv_format_{what}[] = {{")
        for f in formats:
            w.put(1, f'"{getattr(f, what)}",')
        w.put(0, "};")
        w.put(0, "")
    if any(r.format.rm for r in rows):
        w.put(0, "/* Rounding modes 5 and 6 are reserved. */")
        w.put(0, "static bool static_rm_ok(u32 insn)")
        w.put(0, "{")
        w.put(1, "return !(0x60 >> (insn >> 12 & 7) & 1);")
        w.put(0, "}")
        w.put(0, "")
    for length in (2, 4):
        w.put(0, f"static int decode{length * 8}(u32 insn, u64 ext, bool rv32)")
        w.put(0, "{")
        w.switch([r for r in rows if r.length == length], 3 if length == 4 else 0, 1)
        w.put(0, "}")
        w.put(0, "")
    w.put(0, "int riscv_decode(u32 insn, u64 ext, bool rv32)")
    w.put(0, "{")
    w.put(1, "return riscv_insn_length((u16)insn) == 4 ? decode32(insn, ext, rv32)")
    w.put(1, "                                         : decode16(insn & 0xffff, ext, rv32);")
    w.put(0, "}")
    w.put(0, "")
    w.put(0, "void riscv_extract(unsigned format, u32 insn, Operands *o)")
    w.put(0, "{")
    w.put(1, "switch (format) {")
    for f in formats:
        w.put(1, f"case {f.number}: extract_{f.name}(insn, o); break;")
    w.put(1, "default: *o = (Operands){0}; break;")
    w.put(1, "}")
    w.put(0, "}")
    out.write("\n".join(w.lines) + "\n")


def write_markdown(out, rows):
    out.write("| instruction | extension | XLEN | format | encoding |\n|---|---|---|---|---|\n")
    for r in rows:
        width = r.length * 8
        bits = "".join(str(r.match >> i & 1) if r.mask >> i & 1 else "." for i in range(width - 1, -1, -1))
        xlen = "32, 64" if r.rv32 and r.rv64 else "32" if r.rv32 else "64"
        out.write(f"| {r.name} | {(' or ' if r.ext_any else ' and ').join(r.ext)} | {xlen} | {r.format.name} "
                  f"| `{bits}` |\n")


def main():
    kind, output, *paths = sys.argv[1:]
    rows, formats = read_rows(paths)
    with open(output, "w", encoding="utf-8") as out:
        if kind == "rows":
            write_rows(out, rows, formats)
        else:
            write_markdown(out, rows)


if __name__ == "__main__":
    main()
