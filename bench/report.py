"""Tables of the results, and what the classes reached of what they must.

A workload's factor is the time under the faster of the QEMUs over the time under the first emulator, a class's
factor the geomean of its workloads'.
"""

import math

from workloads import BOOT_MUST, CLASSES, ONCE_MUST_NS, WORKLOADS


def geomean(values):
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def number(value, digits=3):
    return "-" if value is None else f"{value:.{digits}f}"


def table(rows):
    """Prints rows of cells under each other; an empty row is an empty line."""
    widths = [max(len(row[i]) for row in rows if row) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))).rstrip() if row else "")


def list_workloads():
    rows = [["workload", "class", "quick", "must", "program"]]
    for workload in WORKLOADS:
        program = workload.source or f"{workload.path.split('/')[-1]} {workload.arguments}"
        rows.append([workload.name, workload.group, "quick" if workload.quick else "",
                     number(workload.must, 1) if workload.must else "", program])
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0])).rstrip())


def split_names(results):
    """The emulator that is judged, and the QEMUs."""
    names = list(results["emulators"])
    return names[0], [name for name in names[1:] if name.startswith("qemu")]


def seconds_of(results, name, workload):
    return results["emulators"][name]["seconds"].get(workload)


def factor(results, workload):
    """How many times faster the judged emulator is than the faster of the QEMUs; None if a time is missing."""
    first, qemus = split_names(results)
    mine = seconds_of(results, first, workload)
    theirs = [seconds for name in qemus if (seconds := seconds_of(results, name, workload))]
    return min(theirs) / mine if mine and theirs else None


def over_native(results, name, workload):
    native, seconds = results["native"].get(workload), seconds_of(results, name, workload)
    return seconds / native if native and seconds else None


def class_factor(results, group):
    return geomean([value for name in results["classes"][group] if (value := factor(results, name))])


def boot_factor(results):
    first, qemus = split_names(results)
    mine = results["emulators"][first]["boot_seconds"]
    theirs = [seconds for name in qemus if (seconds := results["emulators"][name]["boot_seconds"])]
    return min(theirs) / mine if mine and theirs else None


def verdicts(results):
    """[what, measured, must, unit, reached] for everything that has a figure to reach and was measured."""
    first, _ = split_names(results)
    out = []

    def judge(what, value, must):
        if value is not None:
            out.append({"what": what, "value": value, "must": must, "unit": "x QEMU", "reached": value >= must})

    for group in CLASSES:
        judge(group.title, class_factor(results, group.name), group.must)
        for workload in WORKLOADS:
            if workload.group == group.name and workload.must and workload.name in results["classes"][group.name]:
                judge(workload.name, factor(results, workload.name), workload.must)
    judge("boot to /init", boot_factor(results), BOOT_MUST)
    slowest = min(((value, name) for names in results["classes"].values() for name in names
                   if (value := factor(results, name))), default=None)
    if slowest:
        judge(f"slowest workload ({slowest[1]})", slowest[0], 1)
    once = results["emulators"][first]["once_ns"]
    if once is not None:
        out.append({"what": "run-once code", "value": once, "must": ONCE_MUST_NS, "unit": "ns/instruction",
                    "reached": once <= ONCE_MUST_NS})
    return out


def show(results):
    """Prints it all."""
    names = list(results["emulators"])
    first, qemus = split_names(results)
    rows = [["workload", "native s", *(f"{name} s" for name in names), "x QEMU",
             *(f"{name}/native" for name in names)]]
    for group in CLASSES:
        workloads = results["classes"][group.name]
        if not workloads:
            continue
        rows.append([])
        for name in workloads:
            rows.append([name, number(results["native"].get(name)),
                         *(number(seconds_of(results, who, name)) for who in names),
                         number(factor(results, name), 2),
                         *(number(over_native(results, who, name), 1) for who in names)])
        rows.append([f"geomean, {group.title}", "", *("" for _ in names),
                     number(class_factor(results, group.name), 2),
                     *(number(geomean([value for name in workloads
                                       if (value := over_native(results, who, name))]), 1) for who in names)])
    rows.append([])
    for label, key, digits in (("boot to /init, s", "boot_seconds", 3),
                               ("memory above guest RAM, booted, MiB", "memory_mib", 0),
                               ("the same, after the workloads", "memory_after_mib", 0),
                               ("generated code then, MiB", "code_mib", 0),
                               ("run-once code, ns/instruction", "once_ns", 0),
                               ("the same, third pass", "again_ns", 1)):
        values = {name: results["emulators"][name].get(key) for name in names}
        theirs = [values[name] for name in qemus if values[name]]
        ratio = min(theirs) / values[first] if theirs and values[first] else None
        rows.append([label, "", *(number(values[name], digits) for name in names), number(ratio, 2),
                     *("" for _ in names)])
    table(rows)
    if results["verdicts"]:
        print()
        table([["must", "factor", "is", ""],
               *([verdict["what"], f"{verdict['must']:g} {verdict['unit']}", number(verdict["value"], 2),
                  "reached" if verdict["reached"] else "NOT REACHED"] for verdict in results["verdicts"])])
    print(f"\n{results['cpu']}; medians of {results['repeats']}; {results['times']} time; x QEMU: over the faster QEMU")
    for name in names:
        print(f"{name}: {results['emulators'][name]['version']}")
    for line in results["missing"]:
        print(line)
    for line in results["wrong"]:
        print(f"WRONG  {line}")
