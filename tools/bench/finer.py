"""Which matrices are worth more than 4 bits: quantises the demo model to q4 with absmax scales, but for one kind of matrix at a
time in q8 or as it is, and has `selvedge perplexity` tell how far each is from the model in f32.

    python3 tools/bench/finer.py target/release/selvedge TEXT

Needs numpy. The folders it makes are what `selvedge convert` could have written with other choices.
"""

import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MODEL = Path(__file__).resolve().parents[2] / "assets/demo"
GROUP = 32
KINDS = {
    "embedding and head": lambda name: "embed_tokens" in name or "lm_head" in name,
    "time steps (dt_proj)": lambda name: "dt_proj" in name,
    "x_proj (dt, B and C)": lambda name: "x_proj" in name,
    "in_proj": lambda name: "in_proj" in name,
    "out_proj": lambda name: "out_proj" in name,
    "feed-forward": lambda name: "moe" in name or "mlp" in name or "experts" in name,
}


def tensors():
    """The demo model's tensors, bf16 as f32."""
    data = (MODEL / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        begin, end = (8 + length + at for at in entry["data_offsets"])
        raw = data[begin:end]
        numbers = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        yield name, raw, numbers.reshape(entry["shape"])


def quantised(numbers, bits):
    """Codes and absmax scales."""
    rows, columns = numbers.shape
    groups = -(-columns // GROUP)
    padded = np.zeros((rows, groups * GROUP), np.float32)
    padded[:, :columns] = numbers
    padded = padded.reshape(rows, groups, GROUP)
    most = 127 if bits == 8 else 7
    scales = (np.abs(padded).max(2) / most).astype(np.float16)
    divisor = np.where(scales == 0, np.float32(1), scales.astype(np.float32))
    low = -127 if bits == 8 else -8
    codes = np.clip(np.rint(padded / divisor[:, :, None]), low, most).reshape(rows, -1)[:, :columns]
    if bits == 8:
        return "I8", codes.astype(np.int8), scales
    codes = (codes + 8).astype(np.uint8)
    return "U8", codes[:, 0::2] | codes[:, 1::2] << 4, scales


def write(folder, bits_of):
    """The model with each matrix in the bits that `bits_of(name)` says; 16: as it is."""
    entries, blobs, at = {}, [], 0

    def add(name, dtype, shape, raw):
        nonlocal at
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(raw)]}
        blobs.append(raw)
        at += len(raw)

    for name, raw, numbers in tensors():
        matrix = numbers.ndim == 2 and name.endswith("weight") and min(numbers.shape) > 1
        bits = bits_of(name) if matrix else 16
        if bits == 16:
            add(name, "BF16", numbers.shape, raw)
            continue
        dtype, codes, scales = quantised(numbers, bits)
        add(name, dtype, codes.shape, codes.tobytes())
        add(name + ".scales", "F16", scales.shape, scales.tobytes())
    header = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"".join(blobs))
    config = json.loads((MODEL / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "selvedge"}
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((MODEL / name).read_bytes())
    return at


def main():
    binary, text = sys.argv[1:]
    settings = {"all matrices in q4": lambda name: 4}
    for bits in (8, 16):
        for kind, member in KINDS.items():
            settings[f"{kind}: {'q8' if bits == 8 else 'bf16'}"] = lambda name, m=member, b=bits: b if m(name) else 4
    print("| | MB | mean KL | top-1 |\n|---|---:|---:|---:|")
    for what, bits_of in settings.items():
        with tempfile.TemporaryDirectory() as folder:
            size = write(Path(folder), bits_of)
            command = [binary, "perplexity", folder, "--text", text, "--reference", str(MODEL)]
            command += ["--reference-weights", "f32", "--device", "cpu", "--json"]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"| {what} | {size / 1e6:.2f} | {found['mean_kl']:.5f} | {100 * found['top1_agreement']:.2f} % |", flush=True)


main()
