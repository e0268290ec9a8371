"""Makes the goldens of every family but Hymba: tiny random models, saved and run by transformers.

    python tools/goldens/families.py TO [CASE ...]

Each case becomes a folder TO/CASE; `tests/goldens/README.md` says what is in it. With TO = tests/goldens this writes the
folders of the repository anew. Needs transformers 5, torch and safetensors. A case has the first seed from its own on
with which no greedy choice and no choice of experts is a close one, and no logit far from that in f64: rounding decides
nothing.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSequenceClassification

# Rows of the prompt: more than two chunks of 32 and one of 64 of the parallel scans. Tokens decoded after it.
PROMPT, DECODED = 71, 12
# Smallest distance of the two best logits, and of the last expert chosen and the first left out.
LEAST_GAP, LEAST_MARGIN = 1e-2, 3e-4
# Largest error of a logit in f32, so that rounding tells nothing about a port: a norm may divide by small numbers.
MOST_ROUNDING = 2e-4
# Different tokens among the decoded: a text that says one thing again and again tests little.
LEAST_TOKENS = 4
# Tokens of the texts that a model for sequence classification judges.
TEXTS = [1, 5, 37]

COMMON = dict(vocab_size=101, hidden_size=36, intermediate_size=52, num_attention_heads=6, num_key_value_heads=2,
              max_position_embeddings=4096, bos_token_id=1, eos_token_id=2, pad_token_id=0)
MAMBA = dict(mamba_n_heads=8, mamba_d_head=9, mamba_n_groups=2, mamba_d_state=10, mamba_d_conv=4, mamba_expand=2, mamba_chunk_size=16)
FALCON = dict(attention_in_multiplier=0.9, attention_out_multiplier=0.7, embedding_multiplier=1.6, key_multiplier=0.55,
              lm_head_multiplier=0.6, mlp_multipliers=[0.8, 0.45], ssm_in_multiplier=1.3, ssm_out_multiplier=0.65,
              ssm_multipliers=[0.7, 0.85, 0.6, 1.2, 0.75], mamba_norm_before_gate=False, rope_theta=1e11)
GRANITE = dict(shared_intermediate_size=44, embedding_multiplier=2.0, attention_multiplier=0.3, residual_multiplier=0.6,
               logits_scaling=1.5, tie_word_embeddings=True, num_local_experts=0)
# transformers clamps dt to `time_step_min` in prompts, not while decoding; NVIDIA's own code, which Selvedge follows, only to
# `time_step_limit`, which is no limit. Below every dt that occurs, both are the same.
UNCLAMPED = dict(time_step_min=1e-6)
NEMOTRON_H = dict(**UNCLAMPED, head_dim=8, mamba_num_heads=8, mamba_head_dim=9, n_groups=2, ssm_state_size=10, conv_kernel=4, expand=2, chunk_size=16)
EXPERTS = dict(n_routed_experts=8, num_experts_per_tok=3, moe_intermediate_size=20, moe_shared_expert_intermediate_size=28,
               n_shared_experts=1, norm_topk_prob=True, routed_scaling_factor=2.5)
LLAMA3 = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
QWEN = dict(head_dim=16, linear_conv_kernel_dim=4, num_attention_heads=4,
            rope_parameters=dict(rope_type="default", rope_theta=1e7, partial_rotary_factor=0.25, mrope_interleaved=True, mrope_section=[1, 1, 0]))
QWEN_EXPERTS = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=14)
VISION = dict(depth=1, hidden_size=16, intermediate_size=24, num_heads=2, num_position_embeddings=16, patch_size=4,
              temporal_patch_size=2, spatial_merge_size=2)
# Stretched, and queries that grow behind every 16 positions.
MINISTRAL = dict(rope_type="yarn", rope_theta=1e6, factor=8.0, original_max_position_embeddings=16, beta_fast=32.0, beta_slow=1.0,
                 mscale=1.0, mscale_all_dim=1.0, llama_4_scaling_beta=0.3)
# What Nemotron-4-340B-Reward judges, in its order.
LABELS = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]

WORDS = {
    "falcon_h1": ("falcon_h1", dict(num_hidden_layers=2, head_dim=14, mamba_d_ssm=84, **FALCON, **MAMBA
                                    | dict(mamba_n_heads=12, mamba_d_head=7, mamba_n_groups=3))),
    "falcon_h1_rms": ("falcon_h1", dict(vocab_size=149, hidden_size=48, intermediate_size=100, num_hidden_layers=3, head_dim=16,
                                        num_attention_heads=4, mamba_d_ssm=72, mamba_rms_norm=True, tie_word_embeddings=True,
                                        **FALCON, **MAMBA | dict(mamba_d_state=12))),
    "granite_h": ("granitemoehybrid", dict(layer_types=["mamba", "attention", "mamba"], position_embedding_type="nope", **GRANITE, **MAMBA)),
    "granite_moe": ("granitemoehybrid", dict(layer_types=["mamba", "attention"], position_embedding_type="rope", **MAMBA,
                                             **GRANITE | dict(num_local_experts=6, num_experts_per_tok=3, intermediate_size=20))),
    "granite_rope": ("granitemoehybrid", dict(layer_types=["attention"] * 3, position_embedding_type="rope", rope_theta=1e7, **GRANITE, **MAMBA)),
    "lfm2": ("lfm2", dict(layer_types=["conv", "full_attention", "conv"], conv_L_cache=3, intermediate_size=90,
                          block_auto_adjust_ff_dim=True, block_multiple_of=16, block_ffn_dim_multiplier=1.0)),
    "lfm2_25": ("lfm2", dict(layer_types=["conv", "full_attention", "conv", "full_attention"], conv_L_cache=3, intermediate_size=50,
                             num_key_value_heads=1, block_auto_adjust_ff_dim=False)),
    "lfm2_bias": ("lfm2", dict(vocab_size=131, hidden_size=40, num_attention_heads=4, layer_types=["conv", "full_attention", "conv"],
                               conv_L_cache=4, conv_bias=True, intermediate_size=90, block_auto_adjust_ff_dim=True,
                               block_multiple_of=8, block_ffn_dim_multiplier=1.3)),
    "lfm2_moe": ("lfm2_moe", dict(layer_types=["conv", "full_attention", "conv"], num_dense_layers=1, num_experts=7, num_experts_per_tok=3,
                                  moe_intermediate_size=20, routed_scaling_factor=1.5)),
    "llama": ("llama", dict(num_hidden_layers=3, hidden_size=40, head_dim=14, num_attention_heads=8, rope_parameters=LLAMA3, tie_word_embeddings=True,
                            eos_token_id=[2, 5, 6])),
    "granite": ("granite", dict(num_hidden_layers=3, embedding_multiplier=2.0, attention_multiplier=0.3, residual_multiplier=0.6,
                                logits_scaling=1.5, rope_parameters=dict(rope_type="default", rope_theta=1e7))),
    "mistral": ("mistral", dict(num_hidden_layers=3, head_dim=14, sliding_window=24)),
    "smollm3": ("smollm3", dict(num_hidden_layers=4, tie_word_embeddings=True)),
    "nemotron": ("nemotron", dict(num_hidden_layers=3, head_dim=12, hidden_act="relu2",
                                  rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5))),
    "nemotron_h": ("nemotron_h", dict(layers_block_type=["mamba", "mlp", "mamba", "attention", "mlp"], **NEMOTRON_H)),
    "nemotron_h_bf16": ("nemotron_h", dict(layers_block_type=["mamba", "mlp", "attention", "mamba"], dtype="bfloat16", **NEMOTRON_H)),
    "nemotron_h_bias": ("nemotron_h", dict(vocab_size=97, hidden_size=40, intermediate_size=70, num_attention_heads=4, num_key_value_heads=1,
                                           layers_block_type=["mamba", "mlp", "attention", "mlp"], use_bias=True, mlp_bias=True, **UNCLAMPED,
                                           head_dim=12, mamba_num_heads=4, mamba_head_dim=9, n_groups=2, ssm_state_size=6,
                                           conv_kernel=3, expand=2, chunk_size=8)),
    "nemotron_h_latent": ("nemotron_h", dict(layers_block_type=["mamba", "moe", "attention", "moe"], moe_latent_size=20,
                                             n_group=4, topk_group=2, **EXPERTS, **NEMOTRON_H)),
    "nemotron_h_moe": ("nemotron_h", dict(layers_block_type=["mamba", "moe", "attention", "moe"], n_group=2, topk_group=1,
                                          **EXPERTS, **NEMOTRON_H)),
    "qwen2": ("qwen2", dict(num_hidden_layers=3, hidden_size=42, num_attention_heads=7, num_key_value_heads=1, tie_word_embeddings=True)),
    "qwen3": ("qwen3", dict(num_hidden_layers=3, head_dim=14)),
    "qwen3_5": ("qwen3_5", dict(text_config=dict(layer_types=["linear_attention", "linear_attention", "full_attention"],
                                                 linear_num_key_heads=3, linear_num_value_heads=3, linear_key_head_dim=12,
                                                 linear_value_head_dim=12, tie_word_embeddings=True, **QWEN),
                                vision_config=VISION | dict(out_hidden_size=COMMON["hidden_size"]), tie_word_embeddings=True,
                                image_token_id=3, video_token_id=4, vision_start_token_id=5, vision_end_token_id=6)),
    "qwen3_5_gva": ("qwen3_5_text", dict(layer_types=["linear_attention", "full_attention", "linear_attention"],
                                         linear_num_key_heads=2, linear_num_value_heads=6, linear_key_head_dim=12,
                                         linear_value_head_dim=10, **QWEN)),
    "qwen3_5_moe": ("qwen3_5_moe", dict(text_config=dict(layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
                                                         linear_num_value_heads=4, linear_key_head_dim=12, linear_value_head_dim=10,
                                                         shared_expert_intermediate_size=18, **QWEN_EXPERTS, **QWEN),
                                        vision_config=VISION | dict(out_hidden_size=COMMON["hidden_size"]),
                                        image_token_id=3, video_token_id=4, vision_start_token_id=5, vision_end_token_id=6)),
    "qwen3_5_moe_text": ("qwen3_5_moe_text", dict(layer_types=["full_attention", "linear_attention"], linear_num_key_heads=3,
                                                  linear_num_value_heads=3, linear_key_head_dim=8, linear_value_head_dim=12,
                                                  shared_expert_intermediate_size=12, tie_word_embeddings=True, **QWEN_EXPERTS, **QWEN)),
    "qwen3_moe": ("qwen3_moe", dict(num_hidden_layers=3, head_dim=14, mlp_only_layers=[1], norm_topk_prob=True, **QWEN_EXPERTS)),
    "qwen3_moe_all": ("qwen3_moe", dict(num_hidden_layers=2, num_key_value_heads=3, decoder_sparse_step=2, **QWEN_EXPERTS)),
    "qwen3_next": ("qwen3_next", dict(layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
                                      linear_num_value_heads=6, linear_key_head_dim=12, linear_value_head_dim=10,
                                      shared_expert_intermediate_size=18, **QWEN_EXPERTS, **QWEN)),
    "ministral3": ("ministral3", dict(num_hidden_layers=3, head_dim=14, rope_parameters=MINISTRAL)),
    "mistral3": ("mistral3", dict(text_config=dict(model_type="ministral3", num_hidden_layers=2, head_dim=12, sliding_window=24,
                                                   tie_word_embeddings=True, rope_parameters=MINISTRAL),
                                  vision_config=dict(model_type="pixtral", hidden_size=16, intermediate_size=24, num_hidden_layers=1,
                                                     num_attention_heads=2, head_dim=8, image_size=32, patch_size=16),
                                  image_token_index=3, tie_word_embeddings=True)),
    "bamba": ("bamba", dict(num_hidden_layers=3, attn_layer_indices=[1], num_attention_heads=3, num_key_value_heads=1, **MAMBA)),
    "jamba": ("jamba", dict(num_hidden_layers=4, hidden_size=32, attn_layer_period=3, attn_layer_offset=1, num_attention_heads=4, num_key_value_heads=2,
                            intermediate_size=20, num_experts=6, num_experts_per_tok=3, mamba_d_state=10)),
    "granitemoe": ("granitemoe", dict(num_hidden_layers=2, num_local_experts=6, num_experts_per_tok=3, intermediate_size=20,
                                      embedding_multiplier=2.0, attention_multiplier=0.3, residual_multiplier=0.6, logits_scaling=1.5)),
    "granitemoeshared": ("granitemoeshared", dict(num_hidden_layers=2, num_local_experts=5, num_experts_per_tok=2, intermediate_size=14,
                                                  shared_intermediate_size=22, attention_multiplier=0.3, tie_word_embeddings=True)),
    "lfm3": ("lfm3", dict(layer_types=["conv", "sliding_attention", "full_attention", "conv"], head_dim=12, sliding_window=24, conv_L_cache=5)),
}
# Sizes of a published kind: several named labels, one, and transformers' own two.
SCORES = {
    "llama_reward": ("llama", dict(num_hidden_layers=2, rope_parameters=LLAMA3, num_labels=1)),
    "nemotron_reward": ("nemotron", dict(num_hidden_layers=2, head_dim=8, id2label=dict(enumerate(LABELS)))),
    "qwen2_reward": ("qwen2", dict(num_hidden_layers=2)),
    "qwen3_reward": ("qwen3", dict(num_hidden_layers=2, head_dim=8, num_labels=3)),
}


@torch.no_grad()
def randomise(model):
    """Numbers of a size that makes every part of the model matter."""
    tied = model.config.get_text_config().tie_word_embeddings
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
            # A tied table that outweighs the layers says each token again.
            tensor.normal_(0.0, 0.25 if tied else 0.7)
        else:
            tensor.normal_(0.0, 1.6 * tensor.shape[-1] ** -0.5)
    # Added to the experts' scores, and no parameter.
    for name, tensor in model.named_buffers():
        if name.endswith(("e_score_correction_bias", "expert_bias")):
            tensor.normal_(0.0, 0.1)


def build(auto, model_type, settings):
    """A model in f32, and the dtype that it is saved in."""
    settings = dict(settings)
    dtype = getattr(torch, settings.pop("dtype", "float32"))
    if "text_config" in settings:
        settings["text_config"] = COMMON | settings["text_config"]
    else:
        settings = COMMON | settings
    kinds = settings.get("layer_types") or settings.get("text_config", {}).get("layer_types")
    if kinds:
        settings.get("text_config", settings)["num_hidden_layers"] = len(kinds)
    config = AutoConfig.for_model(model_type, **settings, attn_implementation="eager", experts_implementation="eager")
    model = auto.from_config(config, dtype=torch.float32).eval()
    randomise(model)
    # What is rounded is rounded before anything is computed.
    return model.to(dtype).float(), dtype


def save(model, dtype, target):
    """Writes the checkpoint as `save_pretrained` does, and its config in both dialects."""
    model.to(dtype).save_pretrained(target)
    model.float()
    saved = target / "config.json"
    config = json.loads(saved.read_text())
    saved.rename(target / "config.v5.json")
    saved.write_text(json.dumps(released(config), indent=1) + "\n")


def released(config):
    """A config as models are published with: with the keys of transformers 4, or of the family's own code."""
    config = dict(config)
    if "text_config" in config:
        return config | dict(text_config=released(config["text_config"]))
    rope = config.pop("rope_parameters", None)
    kind = config["model_type"]
    if rope and kind not in ("qwen3_5_text", "qwen3_5_moe_text", "ministral3", "lfm3"):
        config["rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    elif rope:
        config["rope_parameters"] = rope | (dict(type=rope["rope_type"]) if kind == "ministral3" else {})
    layers = config.pop("layer_types", None)
    if kind == "granitemoehybrid":
        config["layer_types"] = ["attention" if "attention" in layer and "linear" not in layer else "mamba" for layer in layers]
        config["position_embedding_type"] = config.get("position_embedding_type") or "nope"
    elif kind == "lfm2" and config["block_auto_adjust_ff_dim"]:
        width = config.pop("intermediate_size")
        config |= dict(block_ff_dim=width, block_dim=config["hidden_size"], conv_dim=config["hidden_size"], block_use_swiglu=True,
                       full_attn_idxs=[index for index, layer in enumerate(layers) if layer == "full_attention"],
                       tie_embedding=config.pop("tie_word_embeddings", True))
    elif kind == "lfm2":
        config |= dict(layer_types=layers, block_ff_dim=config["intermediate_size"], tie_embedding=True)
    elif kind in ("lfm2_moe", "lfm3"):
        config |= dict(layer_types=layers)
    elif kind in ("qwen3_5_text", "qwen3_5_moe_text"):
        config |= dict(layer_types=layers, attn_output_gate=True, mtp_num_hidden_layers=1, mtp_use_dedicated_embeddings=False)
    elif kind == "qwen3_next":
        config |= dict(layer_types=layers)
    elif kind in ("qwen2", "qwen3", "qwen3_moe"):
        # A window that is not used.
        config |= dict(sliding_window=16, use_sliding_window=False, max_window_layers=config["num_hidden_layers"])
        if "num_local_experts" in config:
            config["num_experts"] = config.pop("num_local_experts")
    elif kind == "nemotron_h":
        letters = dict(linear_attention="M", mamba="M", mlp="-", full_attention="*", attention="*", moe="E")
        pattern = [letters[layer] for layer in config.pop("layers_block_type")]
        config.pop("mtp_layers_block_type", None)
        config |= dict(hybrid_override_pattern="".join(pattern), num_hidden_layers=len(pattern),
                       # As Python writes it: no JSON.
                       time_step_limit=[0.0, float("inf")])
    config["torch_dtype"] = config.pop("dtype")
    return config


def hooked(modules, into):
    """Appends what each module leaves to a list."""
    def keep(_module, _inputs, output):
        into.append(output[0] if isinstance(output, tuple) else output)
    return [module.register_forward_hook(keep) for module in modules]


def inside(model, ids):
    """Logits of every row, and the stream: before the first layer, after each, after the last norm."""
    text = getattr(model.model, "language_model", model.model)
    first, layers = [], []
    hooks = hooked(text.layers, layers)
    hooks.append(text.layers[0].register_forward_pre_hook(
        lambda _module, inputs, more: first.append(inputs[0] if inputs else more["hidden_states"]), with_kwargs=True))
    whole = model(input_ids=ids, use_cache=False, output_hidden_states=True)
    for hook in hooks:
        hook.remove()
    hidden = {f"hidden.{index}": value for index, value in enumerate(first + layers)}
    return whole.logits[0], hidden | {"hidden.final_norm": whole.hidden_states[-1]}


def decode(model, ids):
    """Greedy tokens, the logits after each, the smallest gap between two best, and what the cache holds in the end."""
    step = model(input_ids=ids, use_cache=True)
    tokens, rows, gaps = [], [], []
    for position in range(ids.shape[1], ids.shape[1] + DECODED):
        top = step.logits[0, -1].topk(2)
        gaps.append((top.values[0] - top.values[1]).item())
        tokens.append(top.indices[:1])
        # Bamba's model counts from 0 in every call that names no positions; `generate` names them.
        places = dict(position_ids=torch.tensor([[position]])) if model.config.model_type == "bamba" else {}
        step = model(input_ids=tokens[-1][None], past_key_values=step.past_key_values, use_cache=True, **places)
        rows.append(step.logits[0, -1])
    golden = {"decode_tokens": torch.cat(tokens), "decode_logits": torch.stack(rows)}
    for index, layer in enumerate(step.past_key_values.layers):
        for name, field in dict(k="keys", v="values", conv="conv_states", ssm="recurrent_states").items():
            state = getattr(layer, field, None)
            state = next(iter(state.values())) if isinstance(state, dict) and state else state
            if isinstance(state, torch.Tensor):
                golden[f"cache_final.{index}.{name}"] = state
    return golden, min(gaps)


def margin(model, ids):
    """How far the choice of experts is from another, over every router and row; infinite without experts."""
    closest = [float("inf")]

    def gap(scores, count):
        top = scores.sort(-1, descending=True).values
        if count < scores.shape[-1]:
            closest.append((top[:, count - 1] - top[:, count]).min().item())

    def judge(router, inputs, output):
        scores = output[0].flatten(0, -2)
        if getattr(router, "use_expert_bias", False):
            scores = scores.sigmoid() + inputs[1]
        if hasattr(router, "e_score_correction_bias"):
            # First the best groups by the sum of their two best, then experts of those.
            scores = scores.sigmoid() + router.e_score_correction_bias
            groups = scores.unflatten(-1, (router.num_group, -1))
            sums = groups.topk(2, dim=-1).values.sum(-1)
            gap(sums, router.topk_group)
            best = torch.zeros_like(sums).scatter(1, sums.topk(router.topk_group, dim=-1).indices, 1.0).bool()
            scores = groups.masked_fill(~best[..., None], float("-inf")).flatten(1)
        gap(scores, router.top_k)

    routers = [module for name, module in model.named_modules() if name.endswith((".gate", ".router"))]
    hooks = [module.register_forward_hook(judge) for module in routers]
    model(input_ids=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    return min(closest)


@torch.no_grad()
def make(name, target):
    model_type, settings = (WORDS | SCORES)[name]
    seed = 7001 + 100 * list(WORDS | SCORES).index(name)
    judges = name in SCORES
    auto = AutoModelForSequenceClassification if judges else AutoModelForImageTextToText if "text_config" in settings else AutoModelForCausalLM
    while True:
        torch.manual_seed(seed)
        model, dtype = build(auto, model_type, settings)
        golden, meta = {}, dict(seed=seed, transformers=transformers.__version__, torch=torch.__version__, model_type=model_type,
                                parameters=sum(tensor.numel() for tensor in model.parameters()))
        vocabulary = model.config.get_text_config().vocab_size
        if judges:
            for index, length in enumerate(TEXTS):
                ids = torch.randint(3, vocabulary, (1, length))
                golden |= {f"input_ids.{index}": ids[0], f"scores.{index}": model(input_ids=ids, use_cache=False).logits[0]}
            break
        ids = torch.randint(7, vocabulary, (1, PROMPT))
        logits, hidden = inside(model, ids)
        decoded, gap = decode(model, ids)
        together = model(input_ids=torch.cat([ids, decoded["decode_tokens"][None]], 1), use_cache=False).logits[0]
        meta |= dict(smallest_gap=gap, smallest_routing_margin=margin(model, ids), logits_std=logits.std().item(),
                     with_and_without_cache=(together[PROMPT:] - decoded["decode_logits"]).abs().max().item())
        meta["largest_rounding"] = (model.double()(input_ids=ids, use_cache=False).logits[0] - logits).abs().max().item()
        model.float()
        golden = dict(input_ids=ids[0], logits=logits) | hidden | decoded
        certain = (gap >= LEAST_GAP and meta["smallest_routing_margin"] >= LEAST_MARGIN
                   and meta["largest_rounding"] <= MOST_ROUNDING)
        if certain and len(set(decoded["decode_tokens"].tolist())) >= LEAST_TOKENS:
            break
        seed += 1
    target.mkdir(parents=True, exist_ok=True)
    save(model, dtype, target)
    if model_type.startswith("qwen") and "text_config" in settings:
        as_published(target / "model.safetensors")
    (target / "generation_config.json").unlink(missing_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, target / "golden.safetensors")
    if meta.get("smallest_routing_margin") == float("inf"):
        del meta["smallest_routing_margin"]
    (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    size = sum(file.stat().st_size for file in target.iterdir())
    print(f"{name:20} {size / 1e6:.2f} MB {meta}", flush=True)


def as_published(file):
    """Experts in one tensor, which `save_pretrained` takes apart; and what published checkpoints have besides, and no
    language model reads: layers that predict one token more."""
    tensors = load_file(file)
    width = COMMON["hidden_size"]
    layers = sorted({name.split("0.gate_proj")[0] for name in tensors if "experts.0.gate_proj" in name})
    for layer in layers:
        experts = range(sum(name.startswith(layer) and name.endswith("gate_proj.weight") for name in tensors))
        gate, up, down = (torch.stack([tensors.pop(f"{layer}{expert}.{part}_proj.weight") for expert in experts])
                          for part in ("gate", "up", "down"))
        tensors |= {f"{layer}gate_up_proj": torch.cat([gate, up], 1), f"{layer}down_proj": down}
    tensors |= {"mtp.fc.weight": torch.randn(width, 2 * width), "mtp.norm.weight": torch.randn(width)}
    save_file(tensors, file, metadata=dict(format="pt"))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    # Tensors this small are slower on several threads, and their sums depend on how many there are.
    torch.set_num_threads(1)
    for name in sys.argv[2:] or [*WORDS, *SCORES]:
        make(name, Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()
