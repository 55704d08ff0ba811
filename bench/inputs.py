"""Writes the files that Debian's programs work on: the same bytes on every machine, from fixed seeds.

  text          lines of words whose frequencies fall as in a language, 1.2 MB
  records.csv   number, name, two whole numbers, a date, a remark: 24,000 lines, 1.2 MB
  mixed         text, records, source code, numbers in binary and noise, in pieces, 0.7 MB
  mixed-large   more of the same, 6 MB
  work.*        the scripts below programs/
"""

import os
import random
import shutil
import struct

HERE = os.path.dirname(os.path.abspath(__file__))
SYLLABLES = "ba ke ti lo mu ra se ni do pu th an er st in on al re ou is ch ing or at es".split()


def vocabulary(rng, size):
    words = {}          # in order of arrival
    while len(words) < size:
        length = 1 + int(rng.random() ** 2 * 5)
        words["".join(SYLLABLES[int(rng.random() * len(SYLLABLES))] for _ in range(length))] = None
    return ["the", "of", "and", "this", "that", "to", "in", "those", *words]


def word(rng, words):
    # The n-th word is about 1/n as likely as the first.
    return words[int(len(words) ** rng.random()) - 1]


def text(rng, words, size):
    lines, length = [], 0
    while length < size:
        line = [word(rng, words) for _ in range(4 + int(rng.random() * 12))]
        line[0] = line[0].capitalize()
        if rng.random() < 0.5:
            line[len(line) // 2] += ","
        lines.append(" ".join(line) + ("." if rng.random() < 0.7 else "") + "\n")
        length += len(lines[-1])
    return "".join(lines)


def records(rng, words, count):
    lines = []
    for number in range(count):
        date = f"{1970 + int(rng.random() * 55)}-{1 + int(rng.random() * 12):02}-{1 + int(rng.random() * 28):02}"
        remark = " ".join(word(rng, words) for _ in range(1 + int(rng.random() * 5)))
        lines.append(f"{number},{word(rng, words)},{int(rng.random() * 10000)},"
                     f"{int(rng.random() ** 3 * 1000000)},{date},{remark}\n")
    return "".join(lines)


def mixed(rng, parts, size):
    """Pieces of the parts, of numbers that grow slowly, and of noise, until there are size bytes."""
    out, length = [], 0
    while length < size:
        kind = int(rng.random() * 8)
        piece = 2000 + int(rng.random() * 20000)
        if kind < 6:
            part = parts[kind % len(parts)]
            start = int(rng.random() * max(1, len(part) - piece))
            data = part[start:start + piece]
        elif kind == 6:
            value, data = 1000, bytearray()
            for _ in range(piece // 8):
                value += int(rng.random() * 50)
                data += struct.pack("<IHH", value, value >> 3 & 0xff, 7)
        else:
            data = bytes(int(rng.random() * 256) for _ in range(piece // 6))
        out.append(bytes(data))
        length += len(data)
    return b"".join(out)[:size]


def write_all(folder):
    """Fills a folder; random() alone is drawn from, for it gives the same numbers in every version of Python."""
    rng = random.Random(1)
    words = vocabulary(rng, 6000)
    prose = text(rng, words, 1_200_000)
    table = records(rng, words, 24000)
    files = {"text": prose.encode(), "records.csv": table.encode()}
    programs = os.path.join(HERE, "programs")
    with open(os.path.join(programs, "work.c"), "rb") as source:
        parts = [files["text"], files["records.csv"], source.read()]
    files["mixed"] = mixed(rng, parts, 700_000)
    files["mixed-large"] = mixed(rng, parts, 6_000_000)
    os.makedirs(folder, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as out:
            out.write(data)
    for name in sorted(os.listdir(programs)):
        shutil.copy(os.path.join(programs, name), folder)
