"""Makes the goldens of heads for later tokens (MTP): tiny random models with `mtp.*` tensors, and what those draft.

    python tools/goldens/drafts.py TO [CASE ...]

The model's own numbers are transformers'. transformers leaves the heads out, so what they compute is written here from
vLLM's description of them (`qwen3_5_mtp`, `nemotron_h_mtp`), over transformers' own layers, norms and experts: the token
behind a row and the row of the model's last norm, each normed, side by side through one matrix, the family's layers, a norm,
and the model's head. See `tests/goldens/README.md` for the tensors. Needs what `families.py` needs.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import families

PROMPT, CHAIN = 45, 4

SMALL = dict(vocab_size=61, hidden_size=24, intermediate_size=28, num_attention_heads=4, num_key_value_heads=2)
CASES = {
    "draft_qwen3_5": ("qwen3_5_text", dict(layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
                                           linear_num_value_heads=2, linear_key_head_dim=12, linear_value_head_dim=12,
                                           **families.QWEN | SMALL)),
    "draft_qwen3_5_moe": ("qwen3_5_moe_text", dict(layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2,
                                                   linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
                                                   shared_expert_intermediate_size=12, tie_word_embeddings=True,
                                                   **families.QWEN_EXPERTS | families.QWEN | SMALL)),
    "draft_nemotron_h": ("nemotron_h", dict(layers_block_type=["mamba", "attention", "moe"], n_group=2, topk_group=1,
                                            **families.EXPERTS | families.NEMOTRON_H | SMALL)),
}


class Qwen:
    """One layer of full attention behind the model."""

    def __init__(self, model):
        self.text, self.config = model.model, model.config
        index = self.config.layer_types.index("full_attention")
        layer = type(self.text.layers[index])(self.config, index)
        norm = type(self.text.norm)
        self.parts = torch.nn.ModuleDict(dict(
            fc=torch.nn.Linear(2 * self.config.hidden_size, self.config.hidden_size, bias=False),
            layers=torch.nn.ModuleList([layer]),
            **{name: norm(self.config.hidden_size, eps=self.config.rms_norm_eps)
               for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden")}))

    def names(self):
        return {f"mtp.{name}": tensor for name, tensor in self.parts.state_dict().items()}

    def run(self, embedded, rows):
        parts, count = self.parts, rows.shape[1]
        x = parts["fc"](torch.cat([parts["pre_fc_norm_embedding"](embedded), parts["pre_fc_norm_hidden"](rows)], -1))
        positions = torch.arange(count)[None]
        angles = self.text.rotary_emb(x, positions[None].expand(3, 1, -1))
        x = parts["layers"][0](x, position_embeddings=angles, attention_mask=causal(count), position_ids=positions)
        return parts["norm"](x)


class NemotronH:
    """A block of attention and one of experts; the first holds the norms and the matrix in front, the second the last norm."""

    def __init__(self, model):
        self.text, self.config = model.model, model.config
        types = self.config.layers_block_type
        block = type(self.text.layers[0])
        norm = lambda: type(self.text.norm_f)(self.config.hidden_size, eps=self.config.layer_norm_epsilon)
        attention, experts = block(self.config, types.index("full_attention")), block(self.config, types.index("moe"))
        attention.enorm, attention.hnorm, experts.final_layernorm = norm(), norm(), norm()
        attention.eh_proj = torch.nn.Linear(2 * self.config.hidden_size, self.config.hidden_size, bias=False)
        self.parts = torch.nn.ModuleDict(dict(layers=torch.nn.ModuleList([attention, experts])))

    def names(self):
        found = {}
        for name, tensor in self.parts.state_dict().items():
            # An expert each, as the released files have them.
            if name.endswith(("experts.up_proj", "experts.down_proj")):
                head, part = name.rsplit(".", 1)
                found |= {f"mtp.{head}.{expert}.{part}.weight": matrix for expert, matrix in enumerate(tensor)}
            else:
                found[f"mtp.{name}"] = tensor
        return found

    def run(self, embedded, rows):
        attention, experts = self.parts["layers"]
        x = attention.eh_proj(torch.cat([attention.enorm(embedded), attention.hnorm(rows)], -1))
        x = experts(attention(x, attention_mask=causal(rows.shape[1])))
        return experts.final_layernorm(x)


def causal(count):
    return torch.full((count, count), float("-inf")).triu(1)[None, None]


def embed(model, ids):
    return model.get_input_embeddings()(ids)


@torch.no_grad()
def make(name, target):
    model_type, settings = CASES[name]
    seed = 4001 + 100 * list(CASES).index(name)
    while True:
        torch.manual_seed(seed)
        model, dtype = families.build(AutoModelForCausalLM, model_type, settings)
        draft = (NemotronH if model_type == "nemotron_h" else Qwen)(model)
        draft.parts.config = model.config
        families.randomise(draft.parts)
        ids = torch.randint(7, model.config.vocab_size, (1, PROMPT))
        logits, hidden = families.inside(model, ids)
        rows = hidden["hidden.final_norm"].reshape(1, PROMPT, -1)
        # Row i has read the token at i + 1, and guesses that at i + 2.
        drafted = model.lm_head(draft.run(embed(model, ids[:, 1:]), rows[:, :-1]))[0]
        # Behind the whole prompt: the token that the model chooses, and guesses one behind the other.
        tokens, states, chain, gaps = torch.cat([ids[:, 1:], logits[-1:].argmax(-1)[None]], 1), rows, [], []
        for _ in range(CHAIN):
            own = draft.run(embed(model, tokens), states)
            best = model.lm_head(own[0, -1]).topk(2)
            chain.append(best.indices[0])
            gaps.append((best.values[0] - best.values[1]).item())
            tokens = torch.cat([tokens, chain[-1].reshape(1, 1)], 1)
            states = torch.cat([states, own[:, -1:]], 1)
        margin = families.margin(model, ids)
        if min(gaps) >= families.LEAST_GAP and margin >= families.LEAST_MARGIN and len(set(map(int, chain))) > 2:
            break
        seed += 1
    target.mkdir(parents=True, exist_ok=True)
    families.save(model, dtype, target)
    (target / "generation_config.json").unlink(missing_ok=True)
    (target / "config.v5.json").unlink()
    config = json.loads((target / "config.json").read_text())
    if model_type == "nemotron_h":
        config |= dict(num_nextn_predict_layers=1, mtp_hybrid_override_pattern="*E")
    (target / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    file = target / "model.safetensors"
    tensors = load_file(file) | {name: tensor.contiguous().clone() for name, tensor in draft.names().items()}
    save_file(tensors, file, metadata=dict(format="pt"))
    golden = dict(input_ids=ids[0], logits=logits, draft_logits=drafted, next_token=logits[-1:].argmax(-1), drafts=torch.stack(chain))
    save_file({name: tensor.contiguous() for name, tensor in golden.items()}, target / "golden.safetensors")
    meta = dict(seed=seed, transformers=transformers.__version__, torch=torch.__version__, model_type=model_type, smallest_gap=min(gaps))
    (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    print(name, sum(file.stat().st_size for file in target.iterdir()), meta, flush=True)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    for name in sys.argv[2:] or CASES:
        make(name, Path(sys.argv[1]) / name)


if __name__ == "__main__":
    main()
