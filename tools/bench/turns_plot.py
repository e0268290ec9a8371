"""Draws how many tokens are read again at a turn, from the first table of docs/state.md that has a column `new`.

    python3 tools/bench/turns_plot.py docs/state.md docs/turns.svg

Standard library only. The axis begins at 0.
"""

from xml.sax.saxutils import escape

from chart import RIGHT, frame, main

LEFT, TOP, ROW = 210, 66, 44


def rows(text):
    """Name, tokens that are new, tokens that Selvedge reads, tokens that llama.cpp reads, of every line of the table."""
    table, within = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) == 5 and cells[2] == "new":
            within = True
        elif within and not line.startswith("|"):
            break
        elif within and cells[2].isdigit():
            table.append((cells[0], *(int(cell) for cell in cells[2:])))
    return table


def draw(text):
    """The picture."""
    table = rows(text)
    most = max(max(row[1:]) for row in table)
    lines = []
    for index, (name, new, ours, theirs) in enumerate(table):
        top = TOP + index * ROW
        lines.append(f'  <text x="{LEFT - 10}" y="{top + 20}" text-anchor="end" fill="#222">{escape(name)}</text>')
        for at, read, fill in ((top, ours, "#35607f"), (top + 16, theirs, "#c9b38a")):
            width = max((RIGHT - LEFT - 40) * read / most, 1)
            lines += [
                f'  <rect x="{LEFT}" y="{at}" width="{width:.1f}" height="13" fill="{fill}"/>',
                f'  <text x="{LEFT + width + 6:.1f}" y="{at + 11}">{read}</text>',
            ]
    title = "Tokens read for a turn, of a chat of 20 turns"
    below = "blue: Selvedge; sand: llama.cpp's server"
    return frame(TOP + len(table) * ROW + 16, LEFT - 190, title, below, *lines)


if __name__ == "__main__":
    main(draw, "STATE.md", "what has a table with `new`")
