"""Draws what scans cost by their length, from `cargo run --example scan`, and prints the table for docs/benchmarks.md.

    cargo run --example scan > scan.json
    python3 tools/bench/scan.py scan.json docs/scan.svg

Of several rounds the best counts, as in plot.py. Both axes are logarithmic: what costs the same for every row is a
straight line that rises by one doubling for each doubling. Standard library only.
"""

import json
import math
from xml.sax.saxutils import escape

from chart import RIGHT, frame, level, main

HEIGHT = 340
LEFT, TOP, BOTTOM = 70, 84, 290  # the plotted area
COLOURS = ["#35607f", "#a3562a", "#4f7a3a"]


def by_scan(measurements):
    """{scan: {rows: best milliseconds}}"""
    scans = {}
    for m in measurements:
        scans.setdefault(m["scan"], {})[m["rows"]] = min(m["ms"])
    return scans


def plot(scans, device):
    """The picture."""
    rows = sorted(next(iter(scans.values())))
    every = [ms for lengths in scans.values() for ms in lengths.values()]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))

    def x(count):
        return LEFT + (RIGHT - LEFT) * math.log2(count / rows[0]) / math.log2(rows[-1] / rows[0])

    def y(ms):
        return BOTTOM - (BOTTOM - TOP) * (math.log10(ms) - low) / (high - low)

    lines = [line for power in range(low, high + 1) for line in level(LEFT, y(10**power), 10**power)]
    for count in rows:
        lines.append(f'  <text x="{x(count):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{count}</text>')
    for index, (name, lengths) in enumerate(scans.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " L".join(f"{x(count):.1f} {y(ms):.1f}" for count, ms in sorted(lengths.items()))
        lines.append(f'  <path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'  <circle cx="{x(c):.1f}" cy="{y(ms):.1f}" r="3.5" fill="{colour}"/>' for c, ms in lengths.items()]
        at = LEFT + index * 205
        lines.append(f'  <circle cx="{at + 4}" cy="60" r="4" fill="{colour}"/>')
        lines.append(f'  <text x="{at + 14}" y="64" font-size="10">{escape(name)}</text>')
    lines.append(f'  <text x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 42}" text-anchor="middle">rows of one step</text>')
    below = f"{escape(device)}; both axes are logarithmic"
    return frame(HEIGHT, LEFT, "Milliseconds of one scan by rows", below, *lines)


def table(scans):
    """Milliseconds, and in brackets microseconds a row, as Markdown."""
    names = list(scans)
    lines = ["| rows | " + " | ".join(names) + " |", "|---:" * (len(names) + 1) + "|"]
    for count in sorted(scans[names[0]]):
        cells = [f"{scans[name][count]:.1f} ({scans[name][count] / count * 1e3:.0f})" for name in names]
        lines.append(f"| {count:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(text):
    """The picture of what was measured; the table is printed."""
    measurements = json.loads(text)
    scans = by_scan(measurements)
    print(table(scans))
    return plot(scans, measurements[0]["device"])


if __name__ == "__main__":
    main(draw, "SCAN.json", "what the example `scan` prints")
