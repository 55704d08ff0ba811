#!/usr/bin/env python3
"""Holds the decoder's rows to GNU binutils, both ways.

print_rows gives random encodings of every row with our disassembly. Our text, assembled, must give the same bits; objdump's
text for the bits must be ours. Rows whose extension the assembler does not know are skipped, by name.

  check_rows.py PRINT_ROWS 32|64 [--seed N] [--per-row N]
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

PREFIX = "riscv64-linux-gnu-"
SKIPPED = 77  # meson's exit status for a skipped test

# Bits that rows ignore, as the specification asks, but binutils wants to be zero: cleared before the comparison.
IGNORED_BITS = {"fence": 0xF00F8F80, "fence.i": 0xFFFF8F80}
# ... which makes these of a fence.
FENCE_FORMS = (0x0100000F, 0x8330000F)
# Formats whose last operand is a jump target.
TARGET_FORMATS = ("B", "J", "CB", "CJ", "CJAL")
# Formats of conversions that never round: binutils knows them with rounding mode 0 only.
EXACT_FORMATS = ("F1E", "FXE")
RM_BITS = 0x7000
SLOT = 4  # bytes from one instruction to the next in the objects, so that one error does not move the rest


def run(*command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False,
                          **options)


class Binutils:
    def __init__(self, xlen, folder):
        self.xlen = xlen
        self.folder = folder
        self.march = f"rv{xlen}imafdc"
        self.known = set("imafdcsu")

    def assemble(self, text, march=None):
        """Returns (path of the object or None, {line: error})."""
        source = os.path.join(self.folder, "in.s")
        output = os.path.join(self.folder, "out.o")
        with open(source, "w", encoding="utf-8") as f:
            f.write(text)
        abi = "lp64d" if self.xlen == 64 else "ilp32d"
        r = run(PREFIX + "as", f"-march={march or self.march}", f"-mabi={abi}", "-mno-relax", "-o", output, source)
        errors = {int(m.group(1)): m.group(2) for m in re.finditer(r"in\.s:(\d+): Error: (.*)", r.stderr)}
        if r.returncode and not errors:
            errors[0] = r.stderr
        return (None if errors else output), errors

    def probe(self, extensions):
        """Adds to -march what this assembler knows."""
        for e in sorted(extensions - self.known):
            march = f"{self.march}_{e}"
            if self.assemble("nop\n", march)[0]:
                self.march = march
                self.known.add(e)

    def code(self, path):
        binary = path + ".bin"
        run(PREFIX + "objcopy", "-O", "binary", "-j", ".text", path, binary)
        with open(binary, "rb") as f:
            return f.read()

    def disassemble(self, path):
        """{address: text}"""
        r = run(PREFIX + "objdump", "-d", "-M", "no-aliases", path)
        result = {}
        for line in r.stdout.splitlines():
            m = re.match(r"\s*([0-9a-f]+):\t[0-9a-f ]+\t(.*)", line)
            if m:
                result[int(m.group(1), 16)] = m.group(2)
        return result


class Sample:
    def __init__(self, line):
        index, self.name, ext, self.format, length, bits, pc, text = line.rstrip("\n").split("\t")
        self.index, self.length, self.bits, self.pc = int(index), int(length), int(bits, 16), int(pc, 16)
        self.ext_any = "|" in ext
        self.ext = re.split(r"[|&]", ext)
        self.text = " ".join(text.split())
        self.bits &= ~IGNORED_BITS.get(self.name, 0)
        if self.format in EXACT_FORMATS:
            self.text = re.sub(r",\w+$", "", self.text) if self.bits & RM_BITS else self.text
            self.bits &= ~RM_BITS

    def comparable(self):
        """Whether all versions of binutils have one spelling for it."""
        if self.name == "fence":
            return self.bits not in FENCE_FORMS
        return not re.match(r"c\.(slli|srli|srai) \w+,0x0$", self.text)

    def known_to(self, tools):
        test = any if self.ext_any else all
        return test(e in tools.known for e in self.ext)

    def assembler_text(self):
        """Our text, jump targets as an offset from here."""
        if self.format in TARGET_FORMATS:
            head, target = self.text.rsplit("0x", 1)
            distance = int(target, 16) - self.pc
            distance = (distance + (1 << 31)) % (1 << 32) - (1 << 31)  # addresses wrap
            return f"{head}. + ({distance})"
        return self.text


# What some versions of objdump print, and what others do.
SPELLINGS = {"c.addi zero,0": "c.nop"}
for register, hint in (("sp", "p1"), ("gp", "pall"), ("tp", "s1"), ("t0", "all")):
    SPELLINGS[f"add zero,zero,{register}"] = "ntl." + hint
    SPELLINGS[f"c.add zero,{register}"] = "c.ntl." + hint


def number(match):
    """A number in decimal. A decimal one may start with zeros: the exponent of 1.5e-05."""
    text = match.group(0)
    return str(int(text, 16 if "x" in text else 10))


def float_value(text):
    if text in ("min", "inf", "nan"):
        return text
    return float.fromhex(text) if "0x" in text else float(text)


def normal(text, format_name):
    """Text with what does not matter taken away: blanks, symbols, how numbers are written."""
    text = re.sub(r"\s*#.*", "", text)
    text = re.sub(r"\s*<.*>", "", text)
    text = " ".join(text.split())
    if format_name in TARGET_FORMATS and not re.search(r"0x[0-9a-f]+$", text):
        text = re.sub(r"([0-9a-f]+)$", r"0x\1", text)
    if format_name == "FLI":
        text = re.sub(r"[-\w.+]+$", lambda m: str(float_value(m.group(0))), text)
    text = SPELLINGS.get(text, text)
    return re.sub(r"(?<![\w.])-?(0x[0-9a-f]+|\d+)(?![\w.])", number, text)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("print_rows")
    parser.add_argument("xlen", type=int)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--per-row", default="12")
    args = parser.parse_args()

    if not shutil.which(PREFIX + "as"):
        print(f"skipped: no {PREFIX}as (Debian's binutils-riscv64-linux-gnu)")
        return SKIPPED
    listing = run(args.print_rows, str(args.xlen), args.seed, args.per_row)
    if listing.returncode:
        print(listing.stderr)
        return 1
    samples = [Sample(line) for line in listing.stdout.splitlines()]

    failures = []
    with tempfile.TemporaryDirectory() as folder:
        tools = Binutils(args.xlen, folder)
        tools.probe({e for s in samples for e in s.ext})
        skipped = {}
        for s in samples:
            if not s.known_to(tools):
                skipped[s.name] = " ".join(e for e in s.ext if e not in tools.known)
        samples = [s for s in samples if s.known_to(tools) and s.comparable()]

        # The bits, disassembled.
        lines = []
        for i, s in enumerate(samples):
            s.moved = i * SLOT
            lines.append(f".org {s.moved}\n.insn {s.length}, {s.bits:#x}")
        path, errors = tools.assemble("\n".join(lines) + "\n")
        if errors:
            failures += [f"assembling bits: {e}" for e in errors.values()]
        else:
            theirs = tools.disassemble(path)
            for s in samples:
                text = theirs.get(s.moved, "(nothing)")
                if s.format in TARGET_FORMATS:
                    # Targets are relative to where the instruction now stands.
                    wrap = (1 << args.xlen) - 1
                    head, target = s.text.rsplit("0x", 1)
                    ours = f"{head}{(int(target, 16) - s.pc + s.moved) & wrap:#x}"
                else:
                    ours = s.text
                ours, text = normal(ours, s.format), normal(text, s.format)
                if s.format.startswith("CSR"):
                    # Binutils has names for registers that no hart of ours has: then we print numbers.
                    unnamed = re.match(r"\S+ \w+,(\d+),", ours)
                    if unnamed:
                        text = re.sub(r"^(\S+ \w+),\w+,", rf"\1,{unnamed.group(1)},", text)
                if ours != text:
                    failures.append(f"{s.bits:0{2 * s.length}x}: ours \"{ours}\", objdump's \"{text}\"")

        # The text, assembled. Lines with errors are taken out, then the rest is compared.
        # (The empty set of a fence has no spelling: those lines stay empty.)
        lines = ["" if s.name == "fence" and "unknown" in s.text else
                 f".org {s.moved}; .option {'rvc' if s.length == 2 else 'norvc'}; {s.assembler_text()}"
                 for s in samples]
        path, errors = tools.assemble("\n".join(lines) + "\n")
        if errors:
            failures += [f"assembling \"{samples[line - 1].assembler_text()}\": {e}" for line, e in errors.items()]
            lines = ["" if i + 1 in errors else line for i, line in enumerate(lines)]
            path, _ = tools.assemble("\n".join(lines) + "\n")
        code = tools.code(path)
        for i, s in enumerate(samples):
            bits = int.from_bytes(code[s.moved:s.moved + s.length], "little")
            if lines[i] and bits != s.bits:
                failures.append(f"\"{s.assembler_text()}\": ours {s.bits:x}, the assembler's {bits:x}")

    for name, ext in skipped.items():
        print(f"skipped {name}: the assembler does not know {ext}")
    for f in failures:
        print("FAILED", f)
    rows = len({s.index for s in samples})
    print(f"RV{args.xlen}: {rows} rows, {len(samples)} encodings compared, {len(skipped)} rows skipped, "
          f"{len(failures)} failures (march={tools.march})")
    return 1 if failures or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
