"""Makes the goldens of LoRA adapters: PEFT's own folders for models of the other goldens, and the logits with each merged.

    python tools/goldens/adapters.py TO [CASE ...]

TO is the folder of the goldens (tests/goldens). Each case becomes a folder TO/adapters/CASE with `adapter_config.json` and
`adapter_model.safetensors` as PEFT's `save_pretrained` writes them, and `golden.safetensors`: `logits`, those of the first
prompt of the base's golden from the model that `merge_and_unload` gives. Needs transformers 5, PEFT 0.21 and safetensors.
"""

import sys
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]

# Base, options of LoRA. Biases and heads are random as well, so that nothing of an adapter has no effect.
CASES = {
    "llama": ("llama", dict(r=4, lora_alpha=6, target_modules=ATTENTION + MLP,
                            alpha_pattern={"layers.1.self_attn.q_proj": 1, "up_proj": 11}, rank_pattern={"k_proj": 2})),
    "llama_reward": ("llama_reward", dict(r=3, lora_alpha=4, target_modules=ATTENTION, modules_to_save=["score"], task_type="SEQ_CLS")),
    "falcon_h1": ("falcon_h1", dict(r=3, lora_alpha=5, target_modules=ATTENTION + MLP + ["in_proj", "lm_head"], use_rslora=True)),
    "nemotron_h_bias": ("nemotron_h_bias", dict(r=2, lora_alpha=3, target_modules=ATTENTION + ["in_proj", "up_proj", "down_proj"],
                                                use_dora=True, bias="all")),
    "qwen2_lora_bias": ("qwen2", dict(r=2, lora_alpha=3, target_modules=["q_proj", "k_proj"], lora_bias=True)),
    "lfm2": ("lfm2", dict(r=2, lora_alpha=3, target_modules=["in_proj", "out_proj", "w1", "w2", "w3"])),
    "qwen3_embedding": ("qwen3", dict(r=3, lora_alpha=3, target_modules=["embed_tokens", "k_proj"], modules_to_save=["lm_head"])),
    "qwen3_5_gva": ("qwen3_5_gva", dict(r=4, lora_alpha=2, target_modules="all-linear")),
}


def make(to: Path, case: str) -> None:
    name, options = CASES[case]
    torch.manual_seed(sum(case.encode()))
    classify = options.get("task_type") == "SEQ_CLS"
    load = AutoModelForSequenceClassification if classify else AutoModelForCausalLM
    base = load.from_pretrained(to / name, dtype=torch.float32, attn_implementation="eager").eval()
    model = get_peft_model(base, LoraConfig(**options))
    with torch.no_grad():
        for parameter in (p for p in model.parameters() if p.requires_grad):
            spread = parameter.std() if parameter.numel() > 1 else torch.tensor(0.0)
            parameter.add_(0.2 * torch.randn_like(parameter) * torch.where(spread > 0, spread, torch.tensor(1.0)))
    folder = to / "adapters" / case
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    # Where it was made is nobody's business.
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace(str(to / name), f"tests/goldens/{name}"))
    # As anybody loads it, from the files alone.
    base = load.from_pretrained(to / name, dtype=torch.float32, attn_implementation="eager").eval()
    model = PeftModel.from_pretrained(base, folder)
    golden = load_file(to / name / "golden.safetensors")
    prompt = next(golden[key] for key in ("input_ids", "prompt", "input_ids.2") if key in golden)
    with torch.no_grad():
        before = load.from_pretrained(to / name, dtype=torch.float32, attn_implementation="eager").eval()(prompt.reshape(1, -1)).logits[0]
        apart = model.eval()(prompt.reshape(1, -1)).logits[0]
        merged = model.merge_and_unload().eval()(prompt.reshape(1, -1)).logits[0]
    print(f"{case}: moves logits by {(merged - before).abs().max():.3f}, merged and not differ by {(merged - apart).abs().max():.2e}")
    save_file({"input_ids": prompt.reshape(-1).contiguous(), "logits": merged.contiguous()}, folder / "golden.safetensors")


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    for chosen in sys.argv[2:] or CASES:
        make(target, chosen)
