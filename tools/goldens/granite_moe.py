"""Makes the case `granite_moe`: a tiny random Granite-4.0-H with a mixture of experts, saved and run by transformers.

    python tools/goldens/granite_moe.py TO

Writes the folder TO with `config.json`, `config.v5.json`, `model.safetensors`, `golden.safetensors` and `meta.json`; what
the tensors are tells tests/goldens/README.md. Needs transformers 5.23, torch and safetensors. The same seed gives the
same model, and the same numbers on the same version of torch.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GraniteMoeHybridConfig, GraniteMoeHybridForCausalLM

SEED, PROMPT, DECODED = 43_002, 41, 12
CONFIG = dict(
    vocab_size=97, hidden_size=36, num_hidden_layers=4, layer_types=["mamba", "attention", "mamba", "attention"],
    num_attention_heads=6, num_key_value_heads=2, intermediate_size=20, shared_intermediate_size=28,
    num_local_experts=6, num_experts_per_tok=3, mamba_expand=2, mamba_n_heads=8, mamba_d_head=9, mamba_n_groups=2,
    mamba_d_state=10, mamba_d_conv=4, mamba_chunk_size=16, position_embedding_type="rope", embedding_multiplier=3.0,
    attention_multiplier=0.3, residual_multiplier=0.31, logits_scaling=2.5, rms_norm_eps=1e-5, rope_theta=10000.0,
    max_position_embeddings=512, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    attn_implementation="eager", experts_implementation="eager",
)


def randomise(model: torch.nn.Module) -> None:
    """Numbers of a size that makes every part of the model matter."""
    for name, tensor in model.named_parameters():
        if name.endswith("A_log"):
            tensor.uniform_(-1.0, 1.5)
        elif name.endswith("dt_bias"):
            tensor.uniform_(-5.0, 0.5)
        elif tensor.dim() == 1:
            tensor.normal_(1.0 if "norm" in name or name.endswith(".D") else 0.0, 0.2)
        elif "conv1d" in name:
            tensor.normal_(0.0, 0.5)
        elif "embed" in name:
            tensor.normal_(0.0, 0.7)
        else:
            tensor.normal_(0.0, 1.6 * tensor.shape[-1] ** -0.5)


@torch.no_grad()
def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    torch.manual_seed(SEED)
    model = GraniteMoeHybridForCausalLM(GraniteMoeHybridConfig(**CONFIG)).eval()
    randomise(model)
    model.save_pretrained(target)
    saved = json.loads((target / "config.json").read_text())
    (target / "config.v5.json").write_text(json.dumps(saved, indent=1))
    # As released: the older keys.
    released = {key: value for key, value in saved.items() if key not in ("rope_parameters", "layers_block_type")}
    released |= dict(rope_theta=10000.0, rope_scaling=None, layer_types=CONFIG["layer_types"])
    (target / "config.json").write_text(json.dumps(released, indent=1))

    ids = torch.randint(3, CONFIG["vocab_size"], (1, PROMPT))
    golden = {"input_ids": ids[0].clone()}
    routes = []
    for layer in model.model.layers:
        layer.block_sparse_moe.router.register_forward_hook(lambda _, __, out: routes.append(out[0]))
    final = []
    model.model.norm.register_forward_hook(lambda _, __, out: final.append(out))
    first = model(ids, use_cache=True, output_hidden_states=True)
    # The last of what transformers lists is normed already; the layer's own result comes from a hook.
    last = []
    hook = model.model.layers[-1].register_forward_hook(lambda _, __, out: last.append(out))
    whole = model(ids, use_cache=False)
    hook.remove()
    golden["logits"] = first.logits[0]
    for index, hidden in enumerate(first.hidden_states[:-1]):
        golden[f"hidden.{index}"] = hidden
    golden[f"hidden.{len(model.model.layers)}"] = last[0][0] if isinstance(last[0], tuple) else last[0]
    golden["hidden.final_norm"] = final[0]

    cache, logits, tokens, rows = first.past_key_values, first.logits[0, -1], [], []
    gaps = []
    for _ in range(DECODED):
        top = logits.topk(2).values
        gaps.append((top[0] - top[1]).item())
        tokens.append(int(logits.argmax()))
        logits = model(torch.tensor([[tokens[-1]]]), past_key_values=cache, use_cache=True).logits[0, -1]
        rows.append(logits)
    golden["decode_tokens"], golden["decode_logits"] = torch.tensor(tokens), torch.stack(rows)
    for index, (kind, layer) in enumerate(zip(CONFIG["layer_types"], cache.layers)):
        if kind == "attention":
            golden[f"cache_final.{index}.k"], golden[f"cache_final.{index}.v"] = layer.keys, layer.values
        else:
            golden[f"cache_final.{index}.conv"] = next(iter(layer.conv_states.values()))
            golden[f"cache_final.{index}.ssm"] = next(iter(layer.recurrent_states.values()))
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, target / "golden.safetensors")

    top = [logits.topk(CONFIG["num_experts_per_tok"] + 1).values for logits in routes]
    margin = min((t[..., -2] - t[..., -1]).min().item() for t in top)
    meta = dict(seed=SEED, T=PROMPT, n_decode=DECODED, min_top2_gap=min(gaps), min_routing_margin=margin)
    meta |= dict(with_and_without_cache=(whole.logits - first.logits).abs().max().item(), logits_std=first.logits.std().item())
    (target / "meta.json").write_text(json.dumps(meta, indent=1))
    print(meta)


if __name__ == "__main__":
    main()
