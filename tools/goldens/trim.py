"""Copies Hymba's reference cases into tests/goldens, leaving out the tensors that no test reads.

    python tools/goldens/trim.py FROM [TO]

FROM holds `hymba/case{A,B,C}` as the reference runs wrote them; TO is `tests/goldens` when not given. Models
and configs are copied byte for byte; only `golden.safetensors` loses tensors, and none of the kept ones changes.
Needs numpy and safetensors.
"""

import re
import shutil
import sys
from pathlib import Path

from safetensors.numpy import load_file, save_file

# Tensors that are left out, as regular expressions over the whole name.
# `gen_logits_full` and `full_recompute_logits` repeat other tensors within 5e-5.
DROPPED = {
    "hymba/caseA": [
        r"p1\.hidden\..*",
        r"p.\.final_norm",
        r"p.\.gen_logits_full",
        r"p0\.probe\.\d+\.in_proj",
    ],
    "hymba/caseB": [r"p0\.hidden\.([0-5]|[7-9])", r"p0\.final_norm", r"p0\.gen_logits_full"],
    "hymba/caseC": [
        r"p[1-7]\.hidden\..*",
        r"p.\.final_norm",
        r"p.\.gen_logits_full",
        r"p0\.cache_end\..*",
        # These prompts end before the two decode windows differ.
        r"p[0-2]\.gen_logits_official_cache",
    ],
}
COPIED = ["config.json", "meta.json", "model.safetensors"]


def trim(source: Path, target: Path, dropped: list[str]) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    tensors = load_file(source / "golden.safetensors")
    matched = {pattern: 0 for pattern in dropped}
    for name in list(tensors):
        for pattern in dropped:
            if re.fullmatch(pattern, name):
                matched[pattern] += 1
                tensors.pop(name, None)
    for pattern, count in matched.items():
        if count == 0:
            sys.exit(f"{source}: no tensor is named like {pattern}")
    save_file(tensors, target / "golden.safetensors")


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    source = Path(sys.argv[1])
    target = Path(sys.argv[2] if len(sys.argv) == 3 else "tests/goldens")
    for case, dropped in DROPPED.items():
        trim(source / case, target / case, dropped)
    total = sum(f.stat().st_size for f in target.rglob("*") if f.is_file())
    print(f"{total / 1e6:.2f} MB in {target}")


if __name__ == "__main__":
    main()
