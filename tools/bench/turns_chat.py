"""The conversation of turns.py with `selvedge chat`: how many tokens of a prompt it reads at each turn.

    python3 tools/bench/turns_chat.py target/release/selvedge MODEL --json turns.json

One run has the chat, the repeat of its last request, an edit of its third question and the return to the unedited chat. Then
the chat is kept in a file and goes on in other processes: with the next turn, with the repeat, with the edit and the next
turn. Standard library only; MODEL is the folder of which the peer's file was made.
"""

import argparse
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from turns import SYSTEM, question, show

READ = re.compile(r"(\d+) tokens read, (\d+) made(?:; (\d+) remembered)?")


def chat(args, session, lines):
    """One process that is told these lines; a row for each answer."""
    command = [args.selvedge, "chat", args.model, "--device", args.device, "--verbose", "--temperature", "0"]
    command += ["--context", "16384", "--max-tokens", str(args.tokens), "--system", SYSTEM, "--session", session]
    done = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True, check=True)
    rows, texts = [], done.stdout.splitlines()
    for line in done.stderr.splitlines():
        if found := READ.fullmatch(line):
            read, made, cached = (int(number or 0) for number in found.groups())
            rows.append({"prompt": read + cached, "cached": cached, "read": read, "reply": made})
    assert len(rows) == len(texts), done.stderr
    return [{**row, "text": text} for row, text in zip(rows, texts)]


def edited(turns):
    """Back to turn 3, with another question."""
    return ["/fork", f"/back {turns - 2}", "I meant another plant. " + question(3), "/switch 1"]


def run(args, folder):
    """All scenarios: the rows of each."""
    turns, kept = args.turns, Path(folder) / "kept.state"
    lines = [question(turn) for turn in range(1, turns + 1)]
    one = chat(args, str(Path(folder) / "one.state"), [*lines, "/regenerate", *edited(turns), question(turns + 1)])
    steps = [f"turn {turn}" for turn in range(1, turns + 1)] + ["repeat", "turn 3 edited", f"turn {turns + 1}"]
    rows = {"in one run": [{"step": step, **row} for step, row in zip(steps, one)]}
    chat(args, str(kept), lines)
    later = {
        "restart, next turn": ([question(turns + 1)], [f"turn {turns + 1}"]),
        "restart, repeat": (["/regenerate"], ["repeat"]),
        "restart, edit": ([*edited(turns), question(turns + 1)], ["turn 3 edited", f"turn {turns + 1}"]),
    }
    for name, (lines, steps) in later.items():
        copy = Path(folder) / "copy.state"
        shutil.copy(kept, copy)
        rows[name] = [{"step": step, **row} for step, row in zip(steps, chat(args, str(copy), lines))]
    rows["size"] = kept.stat().st_size
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("selvedge", help="the command")
    parser.add_argument("model", help="the model's folder")
    parser.add_argument("--device", default="cpu", help="cpu, gpu or cuda (cpu)")
    parser.add_argument("--turns", type=int, default=20, help="turns of the chat (20)")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of each reply (32)")
    parser.add_argument("--json", help="also write the rows to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = run(args, folder)
    size = rows.pop("size")
    for name, table in rows.items():
        print(f"\n{name}")
        show(table)
    print(f"\nthe file of the conversation: {size} bytes")
    if args.json:
        Path(args.json).write_text(json.dumps({**rows, "size": size}, indent=1))


if __name__ == "__main__":
    main()
