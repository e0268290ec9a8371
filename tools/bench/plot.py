"""Draws how a rate falls with depth, from `selvedge bench ... --depth N,N --json`: that of writing, or with the word
`prompt` in front that of reading.

    selvedge bench hymba-1.5b --random-weights --depth 512,4096,8192 --json > depth.json
    python3 tools/bench/plot.py depth.json docs/depth.svg
    python3 tools/bench/plot.py prompt depth.json docs/depth-prompt.svg

Of a depth that was measured several times the best counts: on a machine with other work, the one that was
disturbed least. Standard library only. The axis of rates begins at 0: a curve that looks flat is flat.
"""

import json
import sys
from xml.sax.saxutils import escape

from chart import RIGHT, frame, level, main

HEIGHT = 300
LEFT, TOP, BOTTOM = 70, 60, 240  # the plotted area


def axis_step(limit):
    """The 1, 2 or 5 times a power of ten that cuts `limit` into at most five steps."""
    power = 1e-3
    while True:
        for step in (power, 2 * power, 5 * power):
            if limit <= 5 * step:
                return step
        power *= 10


def plot(measurements, kind):
    """The picture of one model's measurements, of the rate of `generate` or of `prompt`."""
    best = {}
    for m in measurements:
        best[m["depth"]] = max(best.get(m["depth"], 0), m[f"{kind}_tps"])
    points = sorted(best.items())
    (first, first_rate), (last, last_rate) = points[0], points[-1]
    step = axis_step(max(rate for _, rate in points))
    top = 5 * step

    def x(depth):
        return LEFT + (RIGHT - LEFT) * depth / last if last else LEFT

    def y(rate):
        return BOTTOM - (BOTTOM - TOP) * rate / top

    model, backend, adapter = (escape(measurements[0][key]) for key in ("model", "backend", "adapter"))
    title = f"{model}: tokens {'read' if kind == 'prompt' else 'written'} a second by depth"
    below = f"{backend}, {adapter}; at {last} the rate is {last_rate / first_rate:.2f} of that at {first}"
    middle = (LEFT + RIGHT) // 2
    lines = [line for i in range(6) for line in level(LEFT, y(i * step), i * step)]
    path = " L".join(f"{x(depth):.1f} {y(rate):.1f}" for depth, rate in points)
    lines.append(f'  <path d="M{path}" fill="none" stroke="#35607f" stroke-width="2"/>')
    for depth, rate in points:
        lines += [
            f'  <circle cx="{x(depth):.1f}" cy="{y(rate):.1f}" r="4" fill="#35607f"/>',
            f'  <text x="{x(depth):.1f}" y="{y(rate) - 10:.1f}" text-anchor="middle" fill="#222">{rate:.2f}</text>',
            f'  <text x="{x(depth):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{depth}</text>',
        ]
    lines.append(
        f'  <text x="{middle}" y="{BOTTOM + 42}" text-anchor="middle">tokens that the sequence holds already</text>'
    )
    return frame(HEIGHT, LEFT, title, below, *lines)


if __name__ == "__main__":
    kind = "prompt" if sys.argv[1:2] == ["prompt"] else "generate"
    if kind == "prompt":
        del sys.argv[1]
    main(lambda text: plot(json.loads(text), kind), "BENCH.json", "what `selvedge bench --json` prints")
