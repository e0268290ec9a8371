//! Published configurations by name, for sizes and for benchmarks with random weights. Written down here from
//! the models' descriptions; only the fields that are read.

use serde_json::{Value, json};

type Preset = fn() -> Value;

const PRESETS: &[(&str, Preset)] = &[
    ("bamba-9b", bamba_9b),
    ("falcon-h1-0.5b", falcon_h1_0_5b),
    ("falcon-h1-1.5b", falcon_h1_1_5b),
    ("granite-4.0-h-1b", granite_4_0_h_1b),
    ("hymba-1.5b", hymba_1_5b),
    ("jamba-v0.1", jamba_v0_1),
    ("lfm2-350m", lfm2_350m),
    ("lfm2-8b-a1b", lfm2_8b_a1b),
    ("lfm3-1.7b", lfm3_1_7b),
    ("llama-3.2-1b", || llama_3_2(16, 2048, 32, 64)),
    ("llama-3.2-3b", || llama_3_2(28, 3072, 24, 128)),
    ("ministral-3-3b", || ministral_3(26, 3072, 9216, true)),
    ("ministral-3-8b", || ministral_3(34, 4096, 14336, false)),
    ("nemotron-3-nano-30b-a3b", nemotron_3_nano_30b),
    ("nemotron-3-nano-4b", nemotron_3_nano_4b),
    ("nemotron-4-340b", nemotron_4_340b),
    ("nemotron-h-4b", || nemotron_h(NEMOTRON_H_8B, 3072, 12288, 112, 64)),
    ("nemotron-h-56b", nemotron_h_56b),
    ("nemotron-h-8b", || nemotron_h(NEMOTRON_H_8B, 4096, 21504, 128, 64)),
    ("qwen2.5-1.5b", qwen2_5_1_5b),
    ("qwen3-30b-a3b", qwen3_30b_a3b),
    ("qwen3-next-80b-a3b", qwen3_next_80b_a3b),
    ("qwen3.5-0.8b", qwen3_5_0_8b),
    ("qwen3.6-35b-a3b", qwen3_6_35b_a3b),
];

/// The names that [`preset`] knows.
pub fn presets() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _)| *name).collect()
}

/// The text of a `config.json` for a published model; `None` when the name is not known.
pub fn preset(name: &str) -> Option<String> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, config)| config().to_string())
}

/// Hymba-1.5B: 32 layers, three of them with global attention; the windowed ones share keys and values in pairs,
/// and once in three (arXiv 2411.13676, appendix E).
fn hymba_1_5b() -> Value {
    let pairs = |layers: std::ops::Range<usize>| layers.step_by(2).map(|first| vec![first, first + 1]);
    let groups: Vec<Vec<usize>> = pairs(1..15).chain([vec![16, 17, 18]]).chain(pairs(19..31)).collect();
    json!({
        "model_type": "hymba",
        "torch_dtype": "bfloat16",
        "vocab_size": 32001,
        "hidden_size": 1600,
        "num_hidden_layers": 32,
        "num_attention_heads": 25,
        "num_key_value_heads": 5,
        "intermediate_size": 5504,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_dt_rank": 100,
        "num_memory_tokens": 128,
        "sliding_window": 1024,
        "global_attn_idx": [0, 15, 31],
        "kv_reuse_group": groups,
        "rope_type": "ntk",
        "rope_theta": 10000.0,
        "max_position_embeddings": 8192,
        "orig_max_position_embeddings": 2048,
        "tie_word_embeddings": true,
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

/// The blocks of Nemotron-H 4B and 8B: 24 Mamba-2, 24 feed-forward, 4 attention.
const NEMOTRON_H_8B: &str = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-";
/// Of Nemotron-H-56B: 54, 54 and 10 (NVIDIA's Megatron-Bridge, `nemotron_h_provider.py`).
const NEMOTRON_H_56B: &str = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-\
    M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-";
/// Of Nemotron-3-Nano-30B-A3B: 23, 23 mixtures of experts, and 6 (arXiv 2512.20848).
const NEMOTRON_3_NANO_30B: &str = "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME";
/// Of Nemotron-3-Nano-4B: 21, 17 and 4.
const NEMOTRON_3_NANO_4B: &str = "M-M-M-MM-M-M*-M-M*-M-M-M*-M-M-MM*-MMM-M-M-";

/// Nemotron-H and its descendants (arXiv 2504.03624): Mamba-2 heads of `columns`, 8 groups, 128 states.
fn nemotron_h(pattern: &str, hidden: usize, width: usize, mamba_heads: usize, columns: usize) -> Value {
    json!({
        "model_type": "nemotron_h",
        "torch_dtype": "bfloat16",
        "vocab_size": 131072,
        "hidden_size": hidden,
        "intermediate_size": width,
        "hybrid_override_pattern": pattern,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "mamba_num_heads": mamba_heads,
        "mamba_head_dim": columns,
        "n_groups": 8,
        "ssm_state_size": 128,
        "conv_kernel": 4,
        "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

fn nemotron_3_nano_4b() -> Value {
    let mut config = nemotron_h(NEMOTRON_3_NANO_4B, 3136, 12544, 96, 80);
    config["num_attention_heads"] = json!(40);
    config
}

fn nemotron_h_56b() -> Value {
    let mut config = nemotron_h(NEMOTRON_H_56B, 8192, 32768, 256, 64);
    config["num_attention_heads"] = json!(64);
    config["ssm_state_size"] = json!(256);
    config["max_position_embeddings"] = json!(8192);
    config
}

fn nemotron_3_nano_30b() -> Value {
    let mut config = nemotron_h(NEMOTRON_3_NANO_30B, 2688, 1856, 64, 64);
    config["num_key_value_heads"] = json!(2);
    config["max_position_embeddings"] = json!(262_144);
    let experts = json!({
        "n_routed_experts": 128,
        "num_experts_per_tok": 6,
        "n_group": 1,
        "topk_group": 1,
        "n_shared_experts": 1,
        "moe_intermediate_size": 1856,
        "moe_shared_expert_intermediate_size": 3712,
        "norm_topk_prob": true,
        "routed_scaling_factor": 2.5,
    });
    if let (Some(config), Value::Object(experts)) = (config.as_object_mut(), experts) {
        config.extend(experts);
    }
    config
}

/// Nemotron-4-340B (arXiv 2406.11704).
fn nemotron_4_340b() -> Value {
    json!({
        "model_type": "nemotron",
        "torch_dtype": "bfloat16",
        "vocab_size": 256000,
        "hidden_size": 18432,
        "intermediate_size": 73728,
        "num_hidden_layers": 96,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "head_dim": 192,
        "partial_rotary_factor": 0.5,
        "rope_theta": 10000.0,
        "norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": false,
        "bos_token_id": 2,
        "eos_token_id": 3,
    })
}

/// Falcon-H1-0.5B; the multipliers do not change a size or a speed.
fn falcon_h1_0_5b() -> Value {
    json!({
        "model_type": "falcon_h1",
        "torch_dtype": "bfloat16",
        "vocab_size": 32784,
        "hidden_size": 1024,
        "intermediate_size": 2048,
        "num_hidden_layers": 36,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "mamba_d_ssm": 1536,
        "mamba_n_heads": 24,
        "mamba_d_head": 64,
        "mamba_n_groups": 1,
        "mamba_d_state": 128,
        "mamba_d_conv": 4,
        "mamba_rms_norm": false,
        "rope_theta": 1e11,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 16384,
        "tie_word_embeddings": false,
        "eos_token_id": 11,
    })
}

/// Falcon-H1-1.5B: depth, width, heads and states from the table in transformers' documentation; the rest is what
/// adds up to the published 1,554,859,392 parameters.
fn falcon_h1_1_5b() -> Value {
    let mut config = falcon_h1_0_5b();
    for (field, value) in [
        ("vocab_size", 65536),
        ("hidden_size", 2048),
        ("intermediate_size", 4608),
        ("num_hidden_layers", 24),
        ("head_dim", 128),
        ("mamba_d_ssm", 3072),
        ("mamba_n_heads", 48),
        ("mamba_d_state", 256),
        ("max_position_embeddings", 131_072),
    ] {
        config[field] = json!(value);
    }
    config["mamba_rms_norm"] = json!(true);
    config["mamba_norm_before_gate"] = json!(false);
    config
}

/// Granite-4.0-H-1B: attention in 4 of 40 layers.
fn granite_4_0_h_1b() -> Value {
    let layer = |i: usize| if i % 10 == 5 { "attention" } else { "mamba" };
    json!({
        "model_type": "granitemoehybrid",
        "torch_dtype": "bfloat16",
        "vocab_size": 100352,
        "hidden_size": 1536,
        "num_local_experts": 0,
        "shared_intermediate_size": 4096,
        "num_hidden_layers": 40,
        "layer_types": (0..40).map(layer).collect::<Vec<_>>(),
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "mamba_expand": 2,
        "mamba_n_heads": 48,
        "mamba_d_head": 64,
        "mamba_n_groups": 1,
        "mamba_d_state": 128,
        "mamba_d_conv": 4,
        "position_embedding_type": "nope",
        "embedding_multiplier": 12,
        "attention_multiplier": 0.0078125,
        "residual_multiplier": 0.22,
        "logits_scaling": 6,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": true,
    })
}

/// LFM2-350M: ten short convolutions, six attention layers.
fn lfm2_350m() -> Value {
    json!({
        "model_type": "lfm2",
        "torch_dtype": "bfloat16",
        "vocab_size": 65536,
        "hidden_size": 1024,
        "block_ff_dim": 6656,
        "block_auto_adjust_ff_dim": true,
        "block_ffn_dim_multiplier": 1.0,
        "block_multiple_of": 256,
        "num_hidden_layers": 16,
        "full_attn_idxs": [2, 5, 8, 10, 12, 14],
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "conv_L_cache": 3,
        "conv_bias": false,
        "rope_theta": 1e6,
        "norm_eps": 1e-5,
        "max_position_embeddings": 128000,
        "bos_token_id": 1,
        "eos_token_id": 7,
    })
}

/// LFM2-8B-A1B: 18 short convolutions, six attention layers, experts behind the first two.
fn lfm2_8b_a1b() -> Value {
    let layer = |i: usize| if [2, 6, 10, 14, 18, 21].contains(&i) { "full_attention" } else { "conv" };
    json!({
        "model_type": "lfm2_moe",
        "torch_dtype": "bfloat16",
        "vocab_size": 65536,
        "hidden_size": 2048,
        "intermediate_size": 7168,
        "num_hidden_layers": 24,
        "layer_types": (0..24).map(layer).collect::<Vec<_>>(),
        "num_dense_layers": 2,
        "num_experts": 32,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 1792,
        "norm_topk_prob": true,
        "routed_scaling_factor": 1.0,
        "use_expert_bias": true,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "conv_L_cache": 3,
        "conv_bias": false,
        "rope_theta": 1e6,
        "norm_eps": 1e-5,
        "max_position_embeddings": 128000,
        "bos_token_id": 1,
        "eos_token_id": 7,
    })
}

/// LFM3-1.7B: 13 short convolutions, 5 layers that attend within a window, 6 that attend to all.
fn lfm3_1_7b() -> Value {
    let layer = |i: usize| match i % 4 {
        2 => "full_attention",
        0 if i > 0 => "sliding_attention",
        _ => "conv",
    };
    json!({
        "model_type": "lfm3",
        "torch_dtype": "bfloat16",
        "vocab_size": 128_000,
        "hidden_size": 2048,
        "intermediate_size": 7680,
        "num_hidden_layers": 24,
        "layer_types": (0..24).map(layer).collect::<Vec<_>>(),
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "sliding_window": 256,
        "conv_L_cache": 7,
        "conv_bias": false,
        "use_sandwich_norm": true,
        "use_attention_gate": true,
        "rope_parameters": {
            "sliding_attention": { "rope_type": "default", "rope_theta": 1e4 },
            "full_attention": { "rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.5 },
        },
        "norm_eps": 1e-5,
        "max_position_embeddings": 128_000,
        "tie_word_embeddings": true,
        "bos_token_id": 124_894,
        "eos_token_id": 124_900,
    })
}

/// Bamba-9B: attention in 3 of 32 layers.
fn bamba_9b() -> Value {
    json!({
        "model_type": "bamba",
        "torch_dtype": "bfloat16",
        "vocab_size": 128_256,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "attn_layer_indices": [9, 18, 27],
        "attn_rotary_emb": 64,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "mamba_expand": 2,
        "mamba_n_heads": 128,
        "mamba_d_head": 64,
        "mamba_n_groups": 1,
        "mamba_d_state": 128,
        "mamba_d_conv": 4,
        "rope_theta": 10000.0,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 262_144,
        "tie_word_embeddings": false,
    })
}

/// Jamba-v0.1 (arXiv 2403.19887): attention in 4 of 32 layers, experts behind every second.
fn jamba_v0_1() -> Value {
    json!({
        "model_type": "jamba",
        "torch_dtype": "bfloat16",
        "vocab_size": 65536,
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "attn_layer_period": 8,
        "attn_layer_offset": 4,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "num_experts": 16,
        "num_experts_per_tok": 2,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "mamba_expand": 2,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_dt_rank": 256,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262_144,
        "tie_word_embeddings": false,
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

/// Ministral 3, its language model.
fn ministral_3(layers: usize, hidden: usize, width: usize, tied: bool) -> Value {
    json!({
        "model_type": "ministral3",
        "torch_dtype": "bfloat16",
        "vocab_size": 131_072,
        "hidden_size": hidden,
        "intermediate_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 16.0,
            "original_max_position_embeddings": 16384,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "llama_4_scaling_beta": 0.1,
        },
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 262_144,
        "tie_word_embeddings": tied,
        "bos_token_id": 1,
        "eos_token_id": 2,
    })
}

/// Llama-3.2, dense.
fn llama_3_2(layers: usize, hidden: usize, heads: usize, head: usize) -> Value {
    json!({
        "model_type": "llama",
        "torch_dtype": "bfloat16",
        "vocab_size": 128256,
        "hidden_size": hidden,
        "intermediate_size": 8192,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": 8,
        "head_dim": head,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": true,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
    })
}

/// Qwen2.5-1.5B, dense.
fn qwen2_5_1_5b() -> Value {
    json!({
        "model_type": "qwen2",
        "torch_dtype": "bfloat16",
        "vocab_size": 151936,
        "hidden_size": 1536,
        "intermediate_size": 8960,
        "num_hidden_layers": 28,
        "num_attention_heads": 12,
        "num_key_value_heads": 2,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": true,
        "eos_token_id": 151643,
    })
}

/// Qwen3.5-0.8B, its language model: every fourth layer attends.
fn qwen3_5_0_8b() -> Value {
    json!({
        "model_type": "qwen3_5_text",
        "torch_dtype": "bfloat16",
        "vocab_size": 248_320,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "num_hidden_layers": 24,
        "full_attention_interval": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "mtp_num_hidden_layers": 1,
        "rope_parameters": { "rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25 },
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262_144,
        "tie_word_embeddings": true,
    })
}

/// Qwen3-30B-A3B: experts in every layer.
fn qwen3_30b_a3b() -> Value {
    json!({
        "model_type": "qwen3_moe",
        "torch_dtype": "bfloat16",
        "vocab_size": 151_936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 768,
        "norm_topk_prob": true,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 40_960,
        "tie_word_embeddings": false,
    })
}

/// Experts beside a shared one behind gated delta rules and gated attention, every fourth layer of which attends.
fn qwen_hybrid(model_type: &str, vocabulary: usize, layers: usize, [experts, top]: [usize; 2]) -> Value {
    json!({
        "model_type": model_type,
        "torch_dtype": "bfloat16",
        "vocab_size": vocabulary,
        "hidden_size": 2048,
        "num_hidden_layers": layers,
        "full_attention_interval": 4,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "num_experts": experts,
        "num_experts_per_tok": top,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
        "rms_norm_eps": 1e-6,
        "max_position_embeddings": 262_144,
        "tie_word_embeddings": false,
    })
}

/// Qwen3.6-35B-A3B, its language model.
fn qwen3_6_35b_a3b() -> Value {
    qwen_hybrid("qwen3_5_moe_text", 248_320, 40, [256, 8])
}

/// Qwen3-Next-80B-A3B.
fn qwen3_next_80b_a3b() -> Value {
    qwen_hybrid("qwen3_next", 151_936, 48, [512, 10])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{ArchOptions, Config, build};

    #[test]
    fn presets_have_the_published_number_of_parameters() {
        // Exact where the sum of the published shapes is known, else to the digits published; of Granite only the
        // shapes are, so that this holds the sum as it is.
        let published: [(&str, u64, u64); 24] = [
            ("hymba-1.5b", 1_522_797_824, 0),
            ("llama-3.2-1b", 1_235_814_400, 0),
            ("llama-3.2-3b", 3_212_749_824, 0),
            ("lfm2-350m", 354_483_968, 0),
            ("lfm2-8b-a1b", 8_339_930_560, 0),
            ("lfm3-1.7b", 1_700_000_000, 50_000_000),
            ("bamba-9b", 9_780_000_000, 5_000_000),
            ("jamba-v0.1", 51_570_323_328, 0),
            ("ministral-3-3b", 3_400_000_000, 50_000_000),
            ("ministral-3-8b", 8_400_000_000, 100_000_000),
            ("qwen2.5-1.5b", 1_540_000_000, 5_000_000),
            ("nemotron-h-8b", 8_100_000_000, 10_000_000),
            ("nemotron-h-4b", 4_490_000_000, 10_000_000),
            ("nemotron-3-nano-4b", 3_970_000_000, 10_000_000),
            ("nemotron-4-340b", 341_000_000_000, 50_000_000),
            ("falcon-h1-0.5b", 521_000_000, 1_000_000),
            ("granite-4.0-h-1b", 1_460_000_000, 30_000_000),
            ("falcon-h1-1.5b", 1_554_859_392, 0),
            ("qwen3.5-0.8b", 752_393_024, 0),
            ("qwen3.6-35b-a3b", 34_660_610_688, 0),
            ("qwen3-30b-a3b", 30_532_122_624, 0),
            ("qwen3-next-80b-a3b", 79_674_391_296, 0),
            ("nemotron-h-56b", 56_000_000_000, 500_000_000),
            ("nemotron-3-nano-30b-a3b", 31_600_000_000, 50_000_000),
        ];
        assert_eq!(published.len(), PRESETS.len());
        for (name, parameters, tolerance) in published {
            let config = Config::parse(&preset(name).expect("a preset")).expect("a config");
            let model = build(&config, None, &ArchOptions::default()).expect("a model");
            let got = model.graph.parameters();
            assert!(got.abs_diff(parameters) <= tolerance, "{name}: {got}, published {parameters}");
        }
    }
}
