"""Draws the results as an SVG: for each class a group of bars, one a workload, as long as its factor over the faster
QEMU on a logarithmic scale; a dark bar for the class's geomean; and a line where the class must be.

The picture is light or dark as its reader's system is. It holds no script and refers to nothing outside.
"""

import math
from html import escape

import report
from workloads import BOOT_MUST, CLASSES

LEFT, RIGHT, WIDTH = 190, 60, 600       # room for names and numbers, and for the bars
ROW, GAP, TOP = 18, 34, 76

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 }
  .title { font-size: 17px; font-weight: 600 }
  .group { font-weight: 600 }
  .name { text-anchor: end }
  .axis { text-anchor: middle; fill: #777 }
  .small { fill: #777 }
  .value { fill: #666; stroke: #fff; stroke-width: 3; paint-order: stroke }
  .grid { stroke: #ddd }
  .one { stroke: #888 }
  .bar { fill: #7aa6c8 }
  .slow { fill: #d9826b }
  .mean { fill: #2d6389 }
  .must { stroke: #c2410c; stroke-width: 2; stroke-dasharray: 5 3 }
  .mustname { fill: #c2410c }
  .back { fill: #fff }
  @media (prefers-color-scheme: dark) {
    text { fill: #ddd } .back { fill: #1b1d20 } .grid { stroke: #383b40 } .one { stroke: #777 }
    .bar { fill: #47718f } .mean { fill: #8dc0e4 } .small, .axis { fill: #999 }
    .value { fill: #aaa; stroke: #1b1d20 }
    .must { stroke: #fb923c } .mustname { fill: #fb923c }
  }
"""


def groups_of(results):
    """[(title, must, [(name, factor)], geomean)] of what has a factor."""
    groups = []
    for group in CLASSES:
        bars = [(name, value) for name in results["classes"][group.name]
                if (value := report.factor(results, name))]
        if bars:
            groups.append((group.title, group.must, bars, report.class_factor(results, group.name)))
    boot = report.boot_factor(results)
    if boot:
        groups.append(("boot", BOOT_MUST, [("to /init", boot)], None))
    return groups


def write(path, results):
    """Writes the picture; none if nothing has a factor. Returns whether it did."""
    groups = groups_of(results)
    if not groups:
        return False
    values = [value for _, must, bars, _ in groups for value in (must, *(value for _, value in bars))]
    low, high = min(0.8, *values) * 0.95, max(values) * 1.05
    scale = WIDTH / math.log(high / low)

    def x(value):
        return LEFT + math.log(value / low) * scale

    height = TOP + sum(GAP + ROW * (len(bars) + (mean is not None)) for _, _, bars, mean in groups) + 40
    first, qemus = report.split_names(results)
    versions = ", ".join(results["emulators"][name]["version"].split(" (")[0].replace("emulator version ", "")
                         for name in qemus)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" '
           f'width="{LEFT + WIDTH + RIGHT}" height="{height}">', f"<style>{STYLE}</style>",
           '<rect class="back" width="100%" height="100%"/>',
           f'<text class="title" x="16" y="28">{escape(first)}: how many times as fast as QEMU</text>',
           f'<text class="small" x="16" y="48">over the faster of {escape(versions)}, workload by workload; '
           f'medians of {results["repeats"]}; {escape(results["cpu"])}</text>']
    for tick in (0.25, 0.5, 1, 2, 3, 5, 10, 20, 50, 100):
        if low <= tick <= high:
            out.append(f'<line class="{"one" if tick == 1 else "grid"}" x1="{x(tick):.1f}" x2="{x(tick):.1f}" '
                       f'y1="{TOP - 4}" y2="{height - 30}"/>')
            out.append(f'<text class="axis" x="{x(tick):.1f}" y="{height - 14}">{tick:g}x</text>')
    y = TOP
    for title, must, bars, mean in groups:
        out.append(f'<text class="group" x="16" y="{y + 14}">{escape(title)}</text>')
        out.append(f'<text class="mustname" x="{x(must) + 5:.1f}" y="{y + 14}">must {must:g}x</text>')
        y += 20
        rows = [*bars, *([("geomean", mean)] if mean else [])]
        for i, (name, value) in enumerate(rows):
            kind = "mean" if name == "geomean" else "slow" if value < 1 else "bar"
            left, right = sorted((x(1), x(value)))
            out.append(f'<rect class="{kind}" x="{left:.1f}" y="{y + i * ROW + 2}" width="{max(1, right - left):.1f}" '
                       f'height="{ROW - 5}" rx="2"/>')
            out.append(f'<text class="name" x="{LEFT - 8}" y="{y + i * ROW + 13}">{escape(name)}</text>')
        end = y + len(rows) * ROW
        out.append(f'<line class="must" x1="{x(must):.1f}" x2="{x(must):.1f}" y1="{y - 2}" y2="{end}"/>')
        for i, (_, value) in enumerate(rows):
            out.append(f'<text class="value" x="{max(x(1), x(value)) + 5:.1f}" y="{y + i * ROW + 13}">{value:.2f}</text>')
        y = end + GAP - 20
    out.append("</svg>")
    with open(path, "w") as file:
        file.write("\n".join(out) + "\n")
    return True
