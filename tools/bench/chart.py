"""What the pictures of measurements share: the frame, the lines across it, and the way from a file to a picture.

Standard library only.
"""

import sys
from pathlib import Path

WIDTH, RIGHT = 640, 600  # of every picture, and where its plotted area ends


def frame(height, left, title, below, *inside):
    """A picture of such a height, with a title and a line below it. Words are escaped already."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title"',
        "     font-family=\"system-ui, 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#555\">",
        f'  <title id="title">{title}</title>',
        f'  <rect width="{WIDTH}" height="{height}" fill="#fdfcf9"/>',
        f'  <text x="{left}" y="24" font-size="15" font-weight="600" fill="#222">{title}</text>',
        f'  <text x="{left}" y="42">{below}</text>',
    ]
    return "\n".join([*lines, *inside, "</svg>", ""])


def level(left, y, value):
    """A line across the plotted area at height `y`, and the value that it stands for."""
    return [
        f'  <path d="M{left} {y:.1f} H{RIGHT}" stroke="#d9d2c3"/>',
        f'  <text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
    ]


def main(draw, source, meaning):
    """Writes the picture that `draw` makes of a file's text. `source` names the file, `meaning` says what it is."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {Path(sys.argv[0]).name} {source} PICTURE.svg")
    path, picture = map(Path, sys.argv[1:])
    try:
        svg = draw(path.read_text())
    except (OSError, ValueError, LookupError, TypeError) as problem:
        sys.exit(f"{path}: not {meaning}: {problem!r}")
    picture.write_text(svg)
