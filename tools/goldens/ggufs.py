"""Makes tests/goldens/gguf: GGUF files as llama.cpp's own converter and quantiser write them, with the numbers that they mean.

    PYTHONPATH=LLAMA_CPP:LLAMA_CPP/gguf-py python tools/goldens/ggufs.py BINARIES TO [models] [types] [vocab]

LLAMA_CPP is llama.cpp's source, as `vendor/llama.cpp` of llama-cpp-python's source distribution 0.3.36 holds it (llama.cpp at
0c1e57098): its `conversion` writes every file here. BINARIES is a folder with a built libllama of 0.5.0, as the package
`@node-llama-cpp/linux-x64` 3.22.1 holds it: it quantises, and gives logits and token ids. TO is tests/goldens; the models are
those of its other folders, and where their sizes are none that a GGUF can tell, new ones. `tests/goldens/README.md` says what
is in each folder. Needs torch, transformers 5.24, sentencepiece and safetensors.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers
from conversion import ModelBase, ModelType, get_model_architecture, get_model_class
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

import families
import vocabularies
from libllama import Llama

VERSIONS = dict(converter="llama.cpp 0c1e57098 (llama-cpp-python 0.3.36)", library="llama.cpp 0.5.0 (node-llama-cpp 3.22.1)",
                transformers=transformers.__version__)
# Tokens of the prompt of a new model: more than a chunk of 32.
PROMPT = 40

# Models whose sizes llama.cpp takes, beside those of the other goldens: value heads of the keys' width, hybrids without
# positions, a head of its own. The first number is the seed.
SMALL = dict(vocab_size=61, hidden_size=24, intermediate_size=32, num_attention_heads=4)
QWEN = families.QWEN | dict(head_dim=8, rope_parameters=families.QWEN["rope_parameters"] | dict(partial_rotary_factor=0.5))
SOURCES = {
    "qwen35": (9101, "qwen3_5_text", SMALL | QWEN | dict(
        layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=6,
        linear_key_head_dim=8, linear_value_head_dim=8)),
    "qwen3moe": (9161, "qwen3_moe", SMALL | families.QWEN_EXPERTS | dict(num_hidden_layers=2, head_dim=8, norm_topk_prob=True)),
    "qwen35moe": (9151, "qwen3_5_moe_text", SMALL | QWEN | families.QWEN_EXPERTS | dict(
        layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=4,
        linear_key_head_dim=8, linear_value_head_dim=8, shared_expert_intermediate_size=18)),
    "qwen3next": (9171, "qwen3_next", SMALL | QWEN | families.QWEN_EXPERTS | dict(
        layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=6,
        linear_key_head_dim=8, linear_value_head_dim=8, shared_expert_intermediate_size=18)),
    # A file has no factor on the experts' sum.
    "lfm2moe": (9181, "lfm2_moe", SMALL | dict(layer_types=["conv", "full_attention"], num_dense_layers=1, num_experts=7,
                                               num_experts_per_tok=3, moe_intermediate_size=20, conv_L_cache=3)),
    "granitehybrid_moe": (9201, "granitemoehybrid", SMALL | families.MAMBA | families.GRANITE | dict(
        layer_types=["mamba", "attention"], position_embedding_type="nope", mamba_d_head=6, num_local_experts=4,
        num_experts_per_tok=2, intermediate_size=12, shared_intermediate_size=20)),
    "falcon_h1_rms": (9301, "falcon_h1", SMALL | families.FALCON | families.MAMBA | dict(
        num_hidden_layers=1, head_dim=8, mamba_d_ssm=72, mamba_rms_norm=True)),
}
# Of each: the golden that it is made from, what the converter is told otherwise than that golden's config says, and the
# converter's own switches.
#
# A dense Nemotron-H has none of the keys of experts where it is published, by which the converter knows it; the goldens have
# transformers' defaults. The converter's check that the inner width is a multiple of a head's takes 64 where no `d_head` is.
# A dense Granite has one width for the feed-forward part where it is published, and no experts for a token.
NEMOTRON_H = dict(d_head=9)
GRANITE = dict(num_experts_per_tok=0, intermediate_size=families.GRANITE["shared_intermediate_size"])
MODELS = {
    "llama": ("llama", {}, {}),
    "mistral3": ("ministral3", {}, {}),
    "qwen2": ("qwen2", {}, {}),
    "qwen3": ("qwen3", {}, {}),
    "qwen3moe": (None, {}, {}),
    "qwen3next": (None, {}, dict(no_mtp=True)),
    "qwen35": (None, {}, {}),
    "qwen35moe": (None, {}, {}),
    "smollm3": ("smollm3", {}, {}),
    "lfm2": ("lfm2", {}, {}),
    "lfm2moe": (None, {}, {}),
    "nemotron_h": ("nemotron_h", NEMOTRON_H | dict(num_experts_per_tok=None, n_routed_experts=None, n_group=None, topk_group=None), {}),
    "nemotron_h_moe": ("nemotron_h_moe", NEMOTRON_H, {}),
    "granite": ("granite_rope", GRANITE, {}),
    "granitehybrid": ("granite_h", GRANITE, {}),
    "granitehybrid_moe": (None, {}, {}),
    "granitemoe": ("granitemoe", {}, {}),
    "granitemoeshared": ("granitemoeshared", {}, {}),
    "jamba": ("jamba", {}, {}),
    "falcon_h1": ("falcon_h1", {}, {}),
    "falcon_h1_rms": (None, {}, {}),
}

# What is quantised: one layer in rows of whole groups of 32, and one in rows of whole groups of 256, which the K types want.
QUANTISED = {
    "small": (9401, "llama", dict(num_hidden_layers=1, vocab_size=48, hidden_size=64, intermediate_size=64, num_attention_heads=4,
                                  tie_word_embeddings=True)),
    "wide": (9501, "llama", dict(num_hidden_layers=1, vocab_size=24, hidden_size=256, intermediate_size=256, num_attention_heads=16,
                                 num_key_value_heads=1, tie_word_embeddings=True)),
}
# Of each file: what it is made from, the number of its type in `llama.h`, whether every matrix has that type, and the tensors
# whose numbers are kept. The last is a type that no reader here knows.
TYPES = {
    "f16": ("small", 1, True, ["attn_k"]),
    "bf16": ("small", 32, True, ["attn_k"]),
    "q8_0": ("small", 7, True, ["attn_k"]),
    "q4_0": ("small", 2, True, ["attn_k"]),
    "q4_1": ("small", 3, True, ["attn_k"]),
    "q4_k_m": ("wide", 15, False, ["attn_k", "attn_v"]),
    "q5_k_m": ("wide", 17, False, ["attn_k"]),
    "iq4_nl": ("small", 25, True, []),
}


def no_vocabulary(model):
    """In place of the converter's step that wants a tokenizer: none, and the tokens that the config names."""
    model.gguf_writer.add_tokenizer_model("no_vocab")
    if f"{model.gguf_writer.arch}.vocab_size" not in model.gguf_writer.kv_data[0]:
        model.gguf_writer.add_vocab_size(model.hparams["vocab_size"])
    gguf.SpecialVocab(model.dir_model, load_merges=False, n_vocab=model.hparams["vocab_size"]).add_to_gguf(model.gguf_writer)


def convert(source, target, changes=None, switches=None, vocabulary=no_vocabulary, only=False,
            ftype=gguf.LlamaFileType.ALL_F32, **options):
    """A folder as llama.cpp's converter writes it."""
    config = json.loads((source / "config.json").read_text())
    # The converter knows the kinds of layer of these by the names that they are published with, not by those of transformers 5.
    published = config["model_type"] in ("granitemoehybrid", "nemotron_h")
    hparams = config if published else ModelBase.load_hparams(source, False)
    hparams = {key: value for key, value in (hparams | (changes or {})).items() if value is not None or key not in (changes or {})}
    kind = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    # One class for two kinds, which hands everything on to the one that it finds.
    kind = getattr(kind, "Ministral3Model", kind)
    kind = type(kind.__name__, (kind,), dict(model_arch=kind.model_arch, set_vocab=vocabulary or kind.set_vocab) | (switches or {}))
    with torch.inference_mode():
        model = kind(source, ftype, target, hparams=hparams, model_name=target.parent.name, **options)
        model.write_vocab() if only else model.write()


@torch.no_grad()
def make_source(name, target):
    """A tiny random model, with the prompt and the logits alone."""
    seed, model_type, settings = (SOURCES | QUANTISED)[name]
    while True:
        torch.manual_seed(seed)
        model, dtype = families.build(AutoModelForCausalLM, model_type, settings)
        ids = torch.randint(7, model.config.vocab_size, (1, PROMPT))
        if families.margin(model, ids) >= families.LEAST_MARGIN:
            break
        seed += 1
    logits = model(input_ids=ids, use_cache=False).logits[0]
    families.save(model, dtype, target)
    if model_type in ("qwen3_5_text", "qwen3_5_moe_text"):
        add_prediction(target / "model.safetensors")
    for unread in ("config.v5.json", "generation_config.json"):
        (target / unread).unlink(missing_ok=True)
    save_file(dict(input_ids=ids[0].numpy(), logits=logits.numpy()), target / "golden.safetensors")
    return seed


def add_prediction(file):
    """What published checkpoints have besides: a layer that predicts one token more, which llama.cpp's converter takes along."""
    tensors = load_file(file)
    width = len(tensors["model.norm.weight"])
    shapes = {"fc.weight": (width, 2 * width)} | {f"{name}.weight": (width,) for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")}
    shapes |= {name.replace("model.layers.1", "layers.0"): tensor.shape for name, tensor in tensors.items() if name.startswith("model.layers.1.")}
    tensors |= {f"mtp.{name}": torch.randn(shape).mul(0.2).numpy() for name, shape in shapes.items()}
    save_file(tensors, file, metadata=dict(format="pt"))


def make_models(llama, goldens, to):
    for name, (golden, changes, switches) in MODELS.items():
        target = to / name
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        meta = dict(source=golden or f"gguf/{name}") | VERSIONS
        if golden is None:
            meta["seed"] = make_source(name, target)
        source = goldens / golden if golden else target
        if changes:
            meta["config_changed"] = changes
        convert(source, target / "model.gguf", changes, switches)
        reference = load_file(source / "golden.safetensors")
        logits = llama.logits(target / "model.gguf", reference["input_ids"])
        save_file(dict(logits=logits), target / "llama_cpp.safetensors")
        apart = np.abs(logits - reference["logits"])
        meta |= dict(largest_difference=float(apart.max()), largest_logit=float(np.abs(reference["logits"]).max()),
                     rows_with_another_best=int((logits.argmax(1) != reference["logits"].argmax(1)).sum()))
        (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        size = sum(file.stat().st_size for file in target.iterdir())
        print(f"{name:20} {size / 1e3:.0f} kB, largest difference {apart.max():.2e}", flush=True)


def make_types(llama, _goldens, to):
    to /= "types"
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    numbers, meta = {}, VERSIONS | dict(files={})
    with tempfile.TemporaryDirectory() as folder:
        sources = {name: Path(folder) / name for name in QUANTISED}
        for name, source in sources.items():
            meta[f"seed_{name}"] = make_source(name, source)
            convert(source, source / "types.gguf")
        for name, (source, ftype, pure, kept) in TYPES.items():
            file = to / f"{name}.gguf"
            llama.quantize(sources[source] / "types.gguf", file, ftype, pure)
            tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
            meta["files"][name] = {tensor.name: tensor.tensor_type.name for tensor in tensors.values() if len(tensor.shape) > 1}
            for tensor in (tensors[f"blk.0.{part}.weight"] for part in kept):
                numbers[f"{name}.{tensor.name}"] = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            print(f"{name:20} {file.stat().st_size / 1e3:.0f} kB", flush=True)
        convert(sources["small"], to / "split.gguf", ftype=gguf.LlamaFileType.MOSTLY_F16, split_max_tensors=6)
    save_file(numbers, to / "numbers.safetensors")
    (to / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")


def make_vocabularies(llama, goldens, to):
    to /= "vocab"
    shutil.rmtree(to, ignore_errors=True)
    for kind in [*vocabularies.KINDS, vocabularies.PIECES]:
        target = to / kind
        target.mkdir(parents=True)
        meta = dict(VERSIONS)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            golden = vocabularies.KINDS.get(kind, ["llama"])[0]
            switches = dict(get_vocab_base_pre=lambda _model, _tokenizer, kind=kind: kind)
            if kind == vocabularies.PIECES:
                size, ids, own = vocabularies.pieces(folder)
                meta["sentencepiece_disagrees"] = [index for index, pair in enumerate(zip(ids, own)) if pair[0] != pair[1]]
            else:
                size, ids = vocabularies.bytes_of(kind, folder)
            config = json.loads((goldens / golden / "config.json").read_text())
            # As many rows as a published table has: a few more than there are tokens.
            named = config.get("text_config", config)
            named |= dict(vocab_size=size + -size % 8) | (dict(bos_token_id=0, eos_token_id=1, pad_token_id=2) if kind != vocabularies.PIECES else {})
            (folder / "config.json").write_text(json.dumps(config))
            changes = {golden: changes for golden, changes, _switches in MODELS.values()}.get(golden)
            convert(folder, target / "vocab.gguf", changes, switches, vocabulary=None, only=True)
            shutil.copy(folder / "tokenizer.json", target)
        theirs = llama.tokens(target / "vocab.gguf", vocabularies.TEXTS)
        meta["llama_cpp_disagrees"] = {str(index): pair[1] for index, pair in enumerate(zip(ids, theirs)) if pair[0] != pair[1]}
        rows = [json.dumps(dict(text=text, ids=row), ensure_ascii=False, separators=(",", ":")) for text, row in zip(vocabularies.TEXTS, ids)]
        (target / "texts.json").write_text("[\n" + ",\n".join(rows) + "\n]\n")
        (target / "meta.json").write_text(json.dumps(meta) + "\n")
        size = sum(file.stat().st_size for file in target.iterdir())
        print(f"{kind:20} {size / 1e3:.0f} kB, {len(meta['llama_cpp_disagrees'])} texts of which llama.cpp thinks otherwise", flush=True)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    binaries, goldens = map(Path, sys.argv[1:3])
    torch.set_num_threads(1)
    llama = Llama(binaries)
    parts = dict(models=make_models, types=make_types, vocab=make_vocabularies)
    for part in sys.argv[3:] or parts:
        parts[part](llama, goldens, goldens / "gguf")


if __name__ == "__main__":
    main()
