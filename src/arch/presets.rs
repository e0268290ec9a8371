//! Published configurations by name, for sizes and for benchmarks with random weights. Written down here from
//! the models' descriptions; only the fields that are read.

use serde_json::{Value, json};

type Preset = fn() -> Value;

const PRESETS: &[(&str, Preset)] = &[("hymba-1.5b", hymba_1_5b)];

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
