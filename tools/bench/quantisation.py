"""Draws how far quantised weights are from f32, by size, from the first table of docs/quantisation.md that has a
column `mean KL`.

    python3 tools/bench/quantisation.py docs/quantisation.md docs/quantisation.svg

Standard library only. The axis of divergence is logarithmic, the axis of sizes begins at 0.
"""

import math
import sys
from pathlib import Path

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 80, 600, 60, 240  # the plotted area
LEAST, MOST = 1e-4, 1e-1  # of divergence


def rows(text):
    """Weights, megabytes and divergence of every line of the table that diverges at all."""
    table = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 6 and " of " in cells[2] and float(cells[4]) > 0:
            table.append((cells[0], float(cells[1]), float(cells[4])))
    return table


def main():
    source, target = map(Path, sys.argv[1:])
    points = rows(source.read_text())
    largest = 3.0

    def x(size):
        return LEFT + (RIGHT - LEFT) * size / largest

    def y(divergence):
        share = math.log10(divergence / LEAST) / math.log10(MOST / LEAST)
        return BOTTOM - (BOTTOM - TOP) * share

    title = "The demo model in 8 and 4 bits: mean divergence from f32"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title"',
        "     font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#555\">",
        f'  <title id="title">{title}</title>',
        f'  <rect width="{WIDTH}" height="{HEIGHT}" fill="#fdfcf9"/>',
        f'  <text x="{LEFT}" y="24" font-size="15" font-weight="600" fill="#222">{title}</text>',
        f'  <text x="{LEFT}" y="42">nats, by megabytes of weights; hollow: rounded plainly, full: searched</text>',
    ]
    for power in range(-4, 0):
        at = y(10.0**power)
        lines += [
            f'  <path d="M{LEFT} {at:.1f} H{RIGHT}" stroke="#d9d2c3"/>',
            f'  <text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g}</text>',
        ]
    for size in range(4):
        lines.append(f'  <text x="{x(size):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{size} MB</text>')
    for name, size, divergence in points:
        fill = "#fdfcf9" if "plain" in name else "#2b4c8c"
        left = "q4," in name
        at = x(size) + (-10 if left else 10)
        lines += [
            f'  <circle cx="{x(size):.1f}" cy="{y(divergence):.1f}" r="5" fill="{fill}" stroke="#2b4c8c" stroke-width="2"/>',
            f'  <text x="{at:.1f}" y="{y(divergence) + (-2 if "plain" in name else 11):.1f}"'
            f' text-anchor="{"end" if left else "start"}">{name}</text>',
        ]
    target.write_text("\n".join([*lines, "</svg>", ""]))


main()
