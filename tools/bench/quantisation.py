"""Draws how far quantised weights are from f32, by size, from the first table of docs/quantisation.md that has a
column `mean KL`.

    python3 tools/bench/quantisation.py docs/quantisation.md docs/quantisation.svg

Standard library only. The axis of divergence is logarithmic, the axis of sizes begins at 0.
"""

import math

from chart import RIGHT, frame, level, main

HEIGHT = 300
LEFT, TOP, BOTTOM = 80, 60, 240  # the plotted area
LEAST, MOST = 1e-4, 1e-1  # of divergence


def rows(text):
    """Weights, megabytes and divergence of every line of the table that diverges at all."""
    table = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 6 and " of " in cells[2] and float(cells[4]) > 0:
            table.append((cells[0], float(cells[1]), float(cells[4])))
    return table


def draw(text):
    """The picture."""
    largest = 3.0

    def x(size):
        return LEFT + (RIGHT - LEFT) * size / largest

    def y(divergence):
        share = math.log10(divergence / LEAST) / math.log10(MOST / LEAST)
        return BOTTOM - (BOTTOM - TOP) * share

    lines = [line for power in range(-4, 0) for line in level(LEFT, y(10.0**power), 10.0**power)]
    for size in range(4):
        lines.append(f'  <text x="{x(size):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{size} MB</text>')
    for name, size, divergence in rows(text):
        fill = "#fdfcf9" if "absmax" in name else "#2b4c8c"
        left = "q4," in name
        at = x(size) + (-10 if left else 10)
        lines += [
            f'  <circle cx="{x(size):.1f}" cy="{y(divergence):.1f}" r="5" fill="{fill}" stroke="#2b4c8c" stroke-width="2"/>',
            f'  <text x="{at:.1f}" y="{y(divergence) + (-2 if "absmax" in name else 11):.1f}"'
            f' text-anchor="{"end" if left else "start"}">{name}</text>',
        ]
    title = "The demo model in 8 and 4 bits: mean divergence from f32"
    below = "nats, by megabytes of weights; hollow: absmax, full: MSE search"
    return frame(HEIGHT, LEFT, title, below, *lines)


if __name__ == "__main__":
    main(draw, "QUANTISATION.md", "what has a table with `mean KL`")
