"""How much host memory an emulator needs besides the guest's own memory."""

import re


def above_guest(pid, guest_mib):
    """MiB of a process without its guest's RAM. RAM is the mapping of that size, or of a little more where the
    emulator keeps ROMs beside it. What counts is Pss: a page that is mapped twice counts once."""
    total = ram = size = 0
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                size = end - start
            elif line.startswith("Pss:"):
                kib = int(line.split()[1])
                total += kib
                if guest_mib <= size >> 20 <= guest_mib + 32:
                    ram = max(ram, kib)
    if not ram:
        raise ValueError(f"process {pid} has no mapping that could be {guest_mib} MiB of guest memory")
    return (total - ram) / 1024
