"""A small reward model: random numbers, with the demo model's tokenizer and chat template."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path

from conftest import ROOT

HIDDEN, HEADS, WIDTH, LAYERS = 32, 4, 48, 2


def make(folder: Path, labels: list[str], width: int = WIDTH) -> Path:
    """Writes a checkpoint as transformers names its tensors, with a score for each label."""
    folder.mkdir()
    demo = ROOT / "assets/demo"
    for file in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(demo / file, folder)
    vocabulary = json.loads((demo / "config.json").read_text())["vocab_size"]
    config = {
        "architectures": ["LlamaForSequenceClassification"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": width,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
        "id2label": {str(number): label for number, label in enumerate(labels)},
    }
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": [vocabulary, HIDDEN], "model.norm.weight": [HIDDEN], "score.weight": [len(labels), HIDDEN]}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{at}{name}.weight"] = [HIDDEN]
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            shapes[f"{at}self_attn.{name}.weight"] = [HIDDEN, HIDDEN]
        for name, shape in (("gate_proj", [width, HIDDEN]), ("up_proj", [width, HIDDEN]), ("down_proj", [HIDDEN, width])):
            shapes[f"{at}mlp.{name}.weight"] = shape
    chance, header, data = random.Random(5), {}, bytearray()
    for name, shape in shapes.items():
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        # The same numbers again and again: large models are made quickly.
        some = [1.0] if len(shape) == 1 else [chance.gauss(0, 0.3) for _ in range(min(count, 10_007))]
        begin = len(data)
        data += (struct.pack(f"<{len(some)}f", *some) * (count // len(some) + 1))[: 4 * count]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(data))
    return folder
