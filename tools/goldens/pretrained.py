"""Random models of every family as transformers itself writes them: `save_pretrained`, nothing changed afterwards.

    python tools/goldens/pretrained.py TO

Each folder below TO/words gets a checkpoint and `expected.safetensors`: `input_ids` [T], `logits` [T, vocabulary], and
the tokens chosen greedily afterwards, as the model in memory gave them. Those below TO/scores get models for sequence
classification, and `input_ids.K` with the `scores.K` [labels] of texts of several lengths. `tests/pretrained.rs` reads
them all; TO/scores/nemotron is also `tests/goldens/nemotron_reward`. Needs transformers 5, torch and safetensors.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

PROMPT, DECODED = 37, 8
COMMON = dict(vocab_size=131, hidden_size=48, intermediate_size=80, num_attention_heads=6, num_key_value_heads=2,
              max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)
MAMBA = dict(mamba_n_heads=8, mamba_d_head=12, mamba_n_groups=2, mamba_d_state=10, mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=16)
GRANITE = dict(layer_types=["mamba", "attention", "mamba"], num_hidden_layers=3, shared_intermediate_size=56, embedding_multiplier=2.0,
               attention_multiplier=0.3, residual_multiplier=0.4, logits_scaling=2.0, position_embedding_type="nope")
NEMOTRON_H = dict(head_dim=8, mamba_num_heads=8, mamba_head_dim=12, n_groups=2, ssm_state_size=10, conv_kernel=4, expand=2, chunk_size=16)
EXPERTS = dict(n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, moe_shared_expert_intermediate_size=40,
               n_group=1, topk_group=1, n_shared_experts=1, norm_topk_prob=True, routed_scaling_factor=1.5)
QWEN = dict(head_dim=16, linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=12, linear_value_head_dim=12,
            linear_conv_kernel_dim=4)
FAMILIES = {
    "falcon_h1": ("falcon_h1", dict(num_hidden_layers=2, head_dim=8, mamba_d_ssm=96, **MAMBA)),
    "granite_dense": ("granitemoehybrid", dict(num_local_experts=0, **GRANITE, **MAMBA)),
    "granite_experts": ("granitemoehybrid", dict(num_local_experts=6, num_experts_per_tok=2, **GRANITE, **MAMBA)),
    "nemotron_h": ("nemotron_h", dict(layers_block_type=["mamba", "mlp", "attention", "mamba"], **NEMOTRON_H)),
    "nemotron_h_experts": ("nemotron_h", dict(layers_block_type=["mamba", "moe", "attention", "moe"], **EXPERTS, **NEMOTRON_H)),
    "nemotron": ("nemotron", dict(num_hidden_layers=2, head_dim=8)),
    "qwen3_5": ("qwen3_5_text", dict(num_hidden_layers=4, **QWEN)),
    "lfm2": ("lfm2", dict(num_hidden_layers=4, layer_types=["conv", "full_attention", "conv", "full_attention"], conv_L_cache=3)),
    "llama": ("llama", dict(num_hidden_layers=2)),
    "qwen2": ("qwen2", dict(num_hidden_layers=2)),
    "qwen3": ("qwen3", dict(num_hidden_layers=2, head_dim=8)),
    "nemotron_h_latent": ("nemotron_h", dict(layers_block_type=["mamba", "moe", "attention", "moe"], moe_latent_size=20,
                                             **EXPERTS | dict(n_group=4, topk_group=2), **NEMOTRON_H)),
}
# What Nemotron-4-340B-Reward judges, in its order.
LABELS = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
# Sizes of a published kind: several named labels, one, and transformers' own two.
JUDGES = {
    "nemotron": (FAMILIES["nemotron"], dict(id2label=dict(enumerate(LABELS)))),
    "llama": (FAMILIES["llama"], dict(num_labels=1)),
    "qwen2": (FAMILIES["qwen2"], {}),
    "qwen3": (FAMILIES["qwen3"], dict(num_labels=3)),
}
LENGTHS = [1, 5, PROMPT]


@torch.no_grad()
def randomise(model):
    """Numbers of a size that makes every part of the model matter."""
    for name, tensor in model.named_parameters():
        if name.endswith("A_log"):
            tensor.uniform_(-1.0, 1.5)
        elif name.endswith("dt_bias"):
            tensor.uniform_(-4.0, 0.5)
        elif tensor.dim() == 1:
            tensor.normal_(1.0 if "norm" in name or name.endswith(".D") else 0.0, 0.2)
        elif "conv" in name and tensor.dim() == 3:
            tensor.normal_(0.0, 0.5)
        elif "embed" in name:
            tensor.normal_(0.0, 0.7)
        else:
            tensor.normal_(0.0, 1.2 * tensor.shape[-1] ** -0.5)


@torch.no_grad()
def make(model_type, settings, target):
    config = AutoConfig.for_model(model_type, **COMMON | settings, attn_implementation="eager")
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    randomise(model)
    model.save_pretrained(target)
    ids = torch.randint(3, COMMON["vocab_size"], (1, PROMPT))
    logits = model(ids, use_cache=False).logits[0]
    text, tokens, gaps = ids, [], []
    for _ in range(DECODED):
        last = model(text, use_cache=False).logits[0, -1]
        top = last.topk(2)
        tokens.append(top.indices[0])
        gaps.append(top.values[0] - top.values[1])
        text = torch.cat([text, top.indices[:1][None]], 1)
    expected = dict(input_ids=ids[0], logits=logits, tokens=torch.stack(tokens), gaps=torch.stack(gaps))
    save_file({name: tensor.contiguous() for name, tensor in expected.items()}, target / "expected.safetensors")


@torch.no_grad()
def make_judge(model_type, settings, target):
    config = AutoConfig.for_model(model_type, **COMMON | settings, attn_implementation="eager")
    model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32).eval()
    randomise(model)
    model.save_pretrained(target)
    expected = {}
    for index, length in enumerate(LENGTHS):
        ids = torch.randint(3, COMMON["vocab_size"], (1, length))
        expected[f"input_ids.{index}"] = ids[0]
        expected[f"scores.{index}"] = model(ids, use_cache=False).logits[0].contiguous()
    save_file(expected, target / "expected.safetensors")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    target = Path(sys.argv[1])
    for index, (name, (model_type, settings)) in enumerate(FAMILIES.items()):
        torch.manual_seed(7001 + index)
        make(model_type, settings, target / "words" / name)
        print(name, flush=True)
    for index, (name, ((model_type, settings), labels)) in enumerate(JUDGES.items()):
        torch.manual_seed(8001 + index)
        make_judge(model_type, settings | labels, target / "scores" / name)
        print(name, "for scores", flush=True)


if __name__ == "__main__":
    main()
