#!/usr/bin/env python3
"""Forms of a GPU's kernels against one another, in turn: those that run everywhere, and those that are measured to be fastest.

    cargo build --release && python3 tools/bench/forms.py MODEL [PAIRS] [WEIGHTS ...]

MODEL as `selvedge bench` takes it: a folder with a config.json is enough, its weights are random. Which device runs is the
environment's choice (VK_DRIVER_FILES, LP_NUM_THREADS). Prints a table in Markdown: tokens a second, and the medians of the
pairs' ratios.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("SELVEDGE_BINARY", str(ROOT / "target/release/selvedge"))
BASIC = "tile,rows,query,head,heads,apart"
PROMPT, GENERATE = 256, 16


def measure(model: str, weights: str, forms: str) -> dict:
    """One run of `selvedge bench`."""
    command = [BINARY, "bench", model, "--random-weights", "--json", "--device", "gpu", "--weights", weights]
    command += ["--prompt", str(PROMPT), "--generate", str(GENERATE), "--forms", forms]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return json.loads(done.stdout)[0]


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    model = sys.argv[1]
    pairs = int(sys.argv[2]) if len(sys.argv) > 2 else 7
    print(f"| weights | run | {BASIC}: pp{PROMPT} | tg{GENERATE} | measured: pp{PROMPT} | tg{GENERATE} | ratio, pp | ratio, tg |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for weights in sys.argv[3:] or ["f16"]:
        ratios = []
        for run in range(1, pairs + 1):
            basic, chosen = measure(model, weights, BASIC), measure(model, weights, "measured")
            ratios.append([chosen[rate] / basic[rate] for rate in ("prompt_tps", "generate_tps")])
            rates = [f"{one[rate]:.1f}" for one in (basic, chosen) for rate in ("prompt_tps", "generate_tps")]
            print(f"| {weights} | {run} | {' | '.join(rates)} | {ratios[-1][0]:.2f} | {ratios[-1][1]:.2f} |", flush=True)
        prompt, generate = (statistics.median(column) for column in zip(*ratios))
        print(f"| {weights} | median | | | | | **{prompt:.2f}** | **{generate:.2f}** |")
    print(f"\n{chosen['adapter']}, forms {chosen['forms']}, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
