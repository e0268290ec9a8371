#!/usr/bin/env python3
"""llama.cpp and Selvedge in turn: the same random models, formats and prompt, on the same Vulkan driver and on the CPU.

    npm install --prefix tools/bench/llama --no-save --omit=optional --ignore-scripts
    pip install -r tools/bench/llama/requirements.txt
    cargo build --release && python3 tools/bench/llama/compare.py [OPTIONS]

Which Vulkan driver both take is the environment's choice (VK_DRIVER_FILES); a software one runs with --threads of its own.
SELVEDGE_BINARY names another binary. A pair is a process of each program, the second of a pair first in the next; each
process makes a run that is not counted, then reads the prompt in one batch and writes the tokens one at a time. Prints a
table in Markdown for each model, device and format: tokens a second, their medians, and Selvedge's rate by llama.cpp's.
Before the pairs it is counted in how many places both hold the same token for the most probable.

On the CPU a thread of llama.cpp that waits for another spins: with more --threads than cores that are free its rates fall
by tens. --devices cpu --threads 1 is what a machine with other work can measure.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

import checkpoint

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BINARY = os.environ.get("SELVEDGE_BINARY", str(ROOT / "target/release/selvedge"))
RATES = ("prompt_tps", "generate_tps")
# Tokens that are compared, after a prompt of so many.
COMPARED, BEFORE = 24, 64


def output(command: list[str], options: argparse.Namespace) -> str:
    """What a command prints. Its errors are shown only where it fails."""
    threads = str(options.threads)
    # Without the first llama.cpp passes a software GPU by.
    environment = os.environ | dict(GGML_VK_VISIBLE_DEVICES="0", LP_NUM_THREADS=threads, RAYON_NUM_THREADS=threads)
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-4000:]}")
    return done.stdout


def llama(folder: pathlib.Path, device: str, weights: str, prompt: int, last: str, options: argparse.Namespace) -> dict:
    """One run of llama.cpp, on the device that was asked for or not at all."""
    command = ["node", str(HERE / "decode.mjs"), str(folder / f"{weights}.gguf"), device, str(options.threads), str(prompt), last]
    result = json.loads(output(command, options))
    layers = (result["offloaded"] or "0/1").split("/")
    if device == "vulkan" and not (result["devices"] and layers[0] == layers[1]):
        sys.exit(f"llama.cpp does not run on a Vulkan device: {result}")
    if device == "cpu" and result["devices"]:
        sys.exit(f"llama.cpp does not run on the CPU alone: {result}")
    return result


def selvedge(command: str, folder: pathlib.Path, device: str, weights: str, rest: list[str], options: argparse.Namespace) -> dict:
    """One run of Selvedge. Its scales are chosen as those of the GGUF are."""
    longest = -(-(options.prompt + options.generate) // 256) * 256
    line = [BINARY, command, str(folder), "--json", "--device", "gpu" if device == "vulkan" else "cpu", "--weights", weights]
    line += ["--rounding", "absmax", "--kv", options.kv, "--context", str(longest)]
    result = json.loads(output(line + rest, options))
    return result[0] if isinstance(result, list) else result


def agreement(folder: pathlib.Path, device: str, weights: str, options: argparse.Namespace) -> int:
    """In how many places llama.cpp would go on as Selvedge did."""
    ids = ",".join(str(index * 7919 % checkpoint.VOCABULARY) for index in range(BEFORE))
    written = selvedge("generate", folder, device, weights, ["--tokens", ids, "--max-tokens", str(COMPARED)], options)["tokens"]
    judged = llama(folder, device, weights, BEFORE, ",".join(map(str, written)), options)["tokens"]
    return sum(one == other for one, other in zip(written, judged))


def pair(run: int, folder: pathlib.Path, device: str, weights: str, options: argparse.Namespace) -> dict:
    """One run of each."""
    load = os.getloadavg()[0]
    sides = {
        "llama": lambda: llama(folder, device, weights, options.prompt, str(options.generate), options),
        "selvedge": lambda: selvedge("bench", folder, device, weights,
                                     ["--prompt", str(options.prompt), "--generate", str(options.generate)], options),
    }
    order = sorted(sides, reverse=run % 2 == 0)
    results = {side: sides[side]() for side in order}
    ratios = [results["selvedge"][rate] / results["llama"][rate] for rate in RATES]
    return dict(run=run, first=order[0], load=load, ratios=ratios, **results)


def compare(model: str, device: str, weights: str, options: argparse.Namespace) -> dict:
    """All pairs of a model, a device and a format; prints their table."""
    folder = options.folder / model
    parameters = checkpoint.make(folder, model, weights)
    same = agreement(folder, device, weights, options)
    print(f"\n{model}, {parameters:,} parameters, {device}, {weights}: the same token in {same} of {COMPARED} places\n")
    pp, tg = f"pp{options.prompt}", f"tg{options.generate}"
    print(f"| run | load | llama.cpp: {pp} | {tg} | Selvedge: {pp} | {tg} | ratio, {pp} | ratio, {tg} |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    pairs = []
    for run in range(1, options.pairs + 1):
        pairs.append(pair(run, folder, device, weights, options))
        rates = [f"{pairs[-1][side][rate]:.1f}" for side in ("llama", "selvedge") for rate in RATES]
        ratios = [f"{ratio:.2f}" for ratio in pairs[-1]["ratios"]]
        print(f"| {run} | {pairs[-1]['load']:.1f} | {' | '.join(rates + ratios)} |", flush=True)
    medians = {side: {rate: statistics.median(one[side][rate] for one in pairs) for rate in RATES}
               for side in ("llama", "selvedge")}
    of_medians = [medians["selvedge"][rate] / medians["llama"][rate] for rate in RATES]
    of_ratios = [statistics.median(column) for column in zip(*(one["ratios"] for one in pairs))]
    rates = [f"{medians[side][rate]:.1f}" for side in ("llama", "selvedge") for rate in RATES]
    print(f"| median | | {' | '.join(rates)} | **{of_medians[0]:.2f}** | **{of_medians[1]:.2f}** |")
    print(f"| median of the ratios | | | | | | {of_ratios[0]:.2f} | {of_ratios[1]:.2f} |\n")
    theirs, ours = pairs[-1]["llama"], pairs[-1]["selvedge"]
    where = f"{theirs['devices'][0]}, {theirs['offloaded']} layers" if theirs["devices"] else f"{options.threads} threads"
    print(f"llama.cpp {theirs['release']} of node-llama-cpp {theirs['package']}: {where}, flash attention {theirs['flash']}, "
          f"keys and values {theirs['kv']}. Selvedge: {ours['adapter']}"
          + (f", forms {ours['forms']}" if ours.get("forms") else "") + f", keys and values {options.kv}.", flush=True)
    return dict(model=model, parameters=parameters, device=device, weights=weights, kv=options.kv, threads=options.threads,
                prompt=options.prompt, generate=options.generate, same_tokens=same, compared_tokens=COMPARED, pairs=pairs,
                medians=medians, ratio_of_medians=of_medians, median_of_ratios=of_ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=checkpoint.MODELS, default=list(checkpoint.MODELS))
    parser.add_argument("--devices", nargs="+", choices=["vulkan", "cpu"], default=["vulkan", "cpu"])
    parser.add_argument("--weights", nargs="+", choices=checkpoint.FORMATS, default=["f16", "q8", "q4"])
    parser.add_argument("--kv", choices=["f32", "f16"], default="f32", help="Selvedge's keys and values; llama.cpp's are f16")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prompt", type=int, default=256)
    parser.add_argument("--generate", type=int, default=16)
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "target/llama", help="where the models are kept")
    parser.add_argument("--json", type=pathlib.Path, help="file for everything that was measured")
    options = parser.parse_args()
    print(output([BINARY, "devices"], options).strip())
    results = []
    for device in options.devices:
        for weights in options.weights:
            for model in options.models:
                results.append(compare(model, device, weights, options))
                if options.json:
                    options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
