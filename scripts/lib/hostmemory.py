"""What an emulator's process costs the host: memory besides the guest's own, generated code, processor time."""

import os
import re


def mappings(pid):
    """Yields (size in MiB, permissions, file name or "", {"Pss": KiB, "Rss": KiB...}) for every mapping."""
    head, fields = None, {}
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            words = line.split(maxsplit=5)
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                if head:
                    yield (*head, fields)
                start, end = (int(word, 16) for word in words[0].split("-"))
                head, fields = ((end - start) >> 20, words[1], words[5].strip() if len(words) > 5 else ""), {}
            elif words[-1] == "kB":
                fields[words[0][:-1]] = int(words[1])
    if head:
        yield (*head, fields)


def above_guest(pid, guest_mib):
    """MiB of a process without its guest's RAM. RAM is the mapping of that size, or of a little more where the
    emulator keeps ROMs beside it. What counts is Pss: a page that is mapped twice counts once."""
    total = ram = 0
    for size, _, _, fields in mappings(pid):
        total += fields["Pss"]
        if guest_mib <= size <= guest_mib + 32:
            ram = max(ram, fields["Pss"])
    if not ram:
        raise ValueError(f"process {pid} has no mapping that could be {guest_mib} MiB of guest memory")
    return (total - ram) / 1024


def generated_code(pid):
    """MiB of resident pages that may be executed and do not come from a program or library: translated code, in
    whole pages, with what an emulator keeps between the pieces of it."""
    return sum(fields["Rss"] for _, permissions, name, fields in mappings(pid)
               if "x" in permissions and not os.path.exists(name) and name not in ("[vdso]", "[vsyscall]")) / 1024


def processor_seconds(pid):
    """The time that all threads of a process have run so far; threads that ended are not in it."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                total += int(file.read().split()[0])
        except FileNotFoundError:
            pass
    return total / 1e9
