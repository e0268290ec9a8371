"""Draws the throughput of `selvedge serve` against the count of replies made at once, from the table of docs/benchmarks.md that
`tools/bench/serve.mjs` prints.

    python3 tools/bench/serve_plot.py docs/benchmarks.md docs/serve.svg

Standard library only. The rate is a ratio to that of one reply, and its axis begins at 0; the axis of counts is logarithmic.
"""

from math import log2

from chart import RIGHT, frame, level, main

HEIGHT = 300
LEFT, TOP, BOTTOM = 70, 60, 240  # the plotted area


def rows(text):
    """Replies at once, tokens a second and the ratio to one, of every line of the table."""
    table, within = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if cells[0] == "replies at once":
            within = True
        elif within and not line.startswith("|"):
            break
        elif within and cells[0].isdigit():
            table.append((int(cells[0]), int(cells[1]), float(cells[2])))
    return table


def draw(text):
    """The picture."""
    table = rows(text)
    most = max(ratio for _, _, ratio in table)
    step = next(step for step in (1, 2, 5, 10, 20) if most <= 5 * step)
    last = log2(table[-1][0])

    def x(count):
        return LEFT + (RIGHT - LEFT) * log2(count) / last

    def y(ratio):
        return BOTTOM - (BOTTOM - TOP) * ratio / (5 * step)

    lines = [line for i in range(6) for line in level(LEFT, y(i * step), i * step)]
    path = " L".join(f"{x(count):.1f} {y(ratio):.1f}" for count, _, ratio in table)
    lines.append(f'  <path d="M{path}" fill="none" stroke="#35607f" stroke-width="2"/>')
    for count, _, ratio in table:
        lines += [
            f'  <circle cx="{x(count):.1f}" cy="{y(ratio):.1f}" r="4" fill="#35607f"/>',
            f'  <text x="{x(count):.1f}" y="{y(ratio) - 10:.1f}" text-anchor="middle" fill="#222">{ratio:.2f}</text>',
            f'  <text x="{x(count):.1f}" y="{BOTTOM + 20}" text-anchor="middle">{count}</text>',
        ]
    middle = (LEFT + RIGHT) // 2
    lines.append(f'  <text x="{middle}" y="{BOTTOM + 42}" text-anchor="middle">replies made at once</text>')
    below = f"times the tokens a second of one reply; one reply: {table[0][1]} a second"
    return frame(HEIGHT, LEFT, "Throughput of the server", below, *lines)


if __name__ == "__main__":
    main(draw, "BENCHMARKS.md", "what has a table with `replies at once`")
