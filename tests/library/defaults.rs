//! Fields that a config lacks have the values of transformers 5.24's configuration classes, in every family.

use serde_json::{Value, json};

use crate::foreign_models::{built, with};

/// Fields of a family: what transformers 5.24's configuration class has for a missing one, and another value that makes
/// another model.
type Defaults = Vec<(&'static str, Value, Value)>;

/// Ministral 3's rotary fields, with this growth of the queries.
fn ministral_rotary(beta: f64) -> Value {
    json!({
        "type": "yarn", "rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 16384, "beta_fast": 32.0,
        "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": beta,
    })
}

/// LFM3's rotary fields, with this part of a head rotated.
fn lfm3_rotary(part: f64) -> Value {
    json!({
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": part},
    })
}

/// Sizes that every config has, and what makes every field of the family count.
fn families() -> Vec<(Value, Defaults)> {
    let base = |family: &str, more: Value| {
        let mut config = json!({
            "model_type": family, "vocab_size": 50, "hidden_size": 128, "intermediate_size": 48,
            "num_attention_heads": 32, "num_hidden_layers": 2,
        });
        config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        config
    };
    let mamba = || -> Defaults {
        vec![
            ("mamba_n_heads", json!(128), json!(64)),
            ("mamba_n_groups", json!(1), json!(2)),
            ("mamba_d_state", json!(256), json!(16)),
            ("mamba_d_conv", json!(4), json!(3)),
            ("mamba_conv_bias", json!(true), json!(false)),
            ("time_step_limit", json!([0.0, {"__float__": "Infinity"}]), json!([0.0, 0.5])),
        ]
    };
    let ones = |names: &[&'static str]| names.iter().map(|&name| (name, json!(1.0), json!(1.5))).collect::<Defaults>();
    let usual = |context: usize| -> Defaults {
        vec![("max_position_embeddings", json!(context), json!(77)), ("tie_word_embeddings", json!(false), json!(true))]
    };
    let rotary = || -> Defaults { vec![("rope_theta", json!(10000.0), json!(500.0))] };
    let eps = |eps: f64| -> Defaults { vec![("rms_norm_eps", json!(eps), json!(0.1))] };
    let sliding = || -> Defaults { vec![("num_key_value_heads", json!(32), json!(8))] };
    let lfm2 = |more: Defaults| -> Defaults {
        let common: Defaults = vec![
            ("max_position_embeddings", json!(128_000), json!(77)),
            ("tie_word_embeddings", json!(true), json!(false)),
            ("rope_theta", json!(1e6), json!(500.0)),
            ("norm_eps", json!(1e-5), json!(0.1)),
            ("num_key_value_heads", json!(8), json!(4)),
            ("conv_L_cache", json!(3), json!(4)),
            ("conv_bias", json!(false), json!(true)),
        ];
        [common, more].concat()
    };
    let gated_delta = || -> Defaults {
        vec![
            ("head_dim", json!(256), json!(32)),
            ("partial_rotary_factor", json!(0.25), json!(0.5)),
            ("full_attention_interval", json!(4), json!(2)),
            ("linear_conv_kernel_dim", json!(4), json!(3)),
            ("linear_key_head_dim", json!(128), json!(8)),
            ("linear_value_head_dim", json!(128), json!(8)),
            ("linear_num_key_heads", json!(16), json!(8)),
            ("linear_num_value_heads", json!(32), json!(16)),
        ]
    };
    let shared = |[experts, top]: [usize; 2]| -> Defaults {
        vec![
            ("num_key_value_heads", json!(2), json!(8)),
            ("num_experts", json!(experts), json!(16)),
            ("num_experts_per_tok", json!(top), json!(2)),
            ("moe_intermediate_size", json!(512), json!(8)),
            ("shared_expert_intermediate_size", json!(512), json!(8)),
        ]
    };
    vec![
        (
            base("llama", json!({})),
            [usual(2048), rotary(), eps(1e-6), sliding(), vec![("head_dim", json!(4), json!(8))]].concat(),
        ),
        (
            base("qwen2", json!({})),
            [usual(32768), rotary(), eps(1e-6), sliding(), vec![("head_dim", json!(4), json!(8))]].concat(),
        ),
        (
            base("qwen3", json!({})),
            [usual(32768), rotary(), eps(1e-6), sliding(), vec![("head_dim", json!(128), json!(8))]].concat(),
        ),
        (
            base("nemotron", json!({"head_dim": 16})),
            [
                usual(4096),
                rotary(),
                sliding(),
                vec![("norm_eps", json!(1e-5), json!(0.1)), ("partial_rotary_factor", json!(0.5), json!(0.25))],
            ]
            .concat(),
        ),
        (
            base("nemotron_h", json!({"hybrid_override_pattern": "M*-E"})),
            [
                usual(4096),
                vec![
                    ("num_key_value_heads", json!(8), json!(4)),
                    ("head_dim", json!(128), json!(8)),
                    ("mamba_num_heads", json!(128), json!(64)),
                    ("mamba_head_dim", json!(64), json!(8)),
                    ("n_groups", json!(8), json!(4)),
                    ("ssm_state_size", json!(128), json!(16)),
                    ("conv_kernel", json!(4), json!(3)),
                    ("use_conv_bias", json!(true), json!(false)),
                    ("use_bias", json!(false), json!(true)),
                    ("layer_norm_epsilon", json!(1e-5), json!(0.1)),
                    ("n_routed_experts", json!(8), json!(4)),
                    ("num_experts_per_tok", json!(2), json!(1)),
                    ("moe_intermediate_size", json!(7688), json!(8)),
                    ("moe_shared_expert_intermediate_size", json!(7688), json!(8)),
                    ("moe_latent_size", json!(null), json!(8)),
                    ("norm_topk_prob", json!(true), json!(false)),
                    ("routed_scaling_factor", json!(1.0), json!(2.5)),
                    ("n_group", json!(1), json!(2)),
                ],
            ]
            .concat(),
        ),
        (base("nemotron_h", json!({"hybrid_override_pattern": "-"})), vec![("mlp_bias", json!(false), json!(true))]),
        (
            base("falcon_h1", json!({"mamba_norm_before_gate": false})),
            [
                usual(8192),
                rotary(),
                eps(1e-5),
                mamba(),
                ones(&[
                    "attention_in_multiplier",
                    "attention_out_multiplier",
                    "embedding_multiplier",
                    "key_multiplier",
                    "lm_head_multiplier",
                    "ssm_in_multiplier",
                    "ssm_out_multiplier",
                ]),
                vec![
                    ("num_key_value_heads", json!(8), json!(4)),
                    ("mamba_d_ssm", json!(1024), json!(128)),
                    ("mamba_rms_norm", json!(false), json!(true)),
                    ("mlp_multipliers", json!([1.0, 1.0]), json!([1.0, 2.0])),
                    ("ssm_multipliers", json!([1.0, 1.0, 1.0, 1.0, 1.0]), json!([1.0, 1.0, 1.0, 1.0, 2.0])),
                ],
            ]
            .concat(),
        ),
        (base("falcon_h1", json!({"mamba_d_ssm": null})), vec![("mamba_expand", json!(2), json!(4))]),
        (
            base("granitemoehybrid", json!({"layer_types": ["mamba", "attention"], "position_embedding_type": "rope"})),
            [
                usual(2048),
                rotary(),
                eps(1e-6),
                mamba().into_iter().filter(|(field, ..)| *field != "mamba_n_heads").collect(),
                ones(&["attention_multiplier", "embedding_multiplier", "logits_scaling", "residual_multiplier"]),
                vec![
                    ("mamba_n_heads", json!(128), json!(64)),
                    ("mamba_expand", json!(2), json!(4)),
                    ("num_key_value_heads", json!(32), json!(8)),
                    ("num_local_experts", json!(8), json!(0)),
                    ("num_experts_per_tok", json!(2), json!(3)),
                    ("shared_intermediate_size", json!(1024), json!(16)),
                ],
            ]
            .concat(),
        ),
        (
            base("granitemoehybrid", json!({})),
            vec![("layer_types", json!(["linear_attention", "linear_attention"]), json!(["attention", "mamba"]))],
        ),
        (
            base("granitemoehybrid", json!({"layer_types": ["attention", "attention"]})),
            vec![("position_embedding_type", json!(null), json!("rope"))],
        ),
        (
            base("lfm2", json!({"layer_types": ["conv", "full_attention"]})),
            lfm2(vec![
                ("block_auto_adjust_ff_dim", json!(true), json!(false)),
                ("block_ffn_dim_multiplier", json!(1.0), json!(20.0)),
                ("block_multiple_of", json!(256), json!(16)),
            ]),
        ),
        (base("lfm2", json!({})), vec![("full_attn_idxs", json!([0, 1]), json!([1]))]),
        (
            with(
                &base("lfm2_moe", json!({"layer_types": ["conv", "full_attention", "conv"]})),
                "num_hidden_layers",
                json!(3),
            ),
            lfm2(vec![
                ("num_dense_layers", json!(2), json!(0)),
                ("num_experts", json!(32), json!(8)),
                ("num_experts_per_tok", json!(4), json!(2)),
                ("moe_intermediate_size", json!(1792), json!(8)),
                ("norm_topk_prob", json!(true), json!(false)),
                ("routed_scaling_factor", json!(1.0), json!(2.5)),
                ("use_expert_bias", json!(true), json!(false)),
            ]),
        ),
        (
            with(&base("qwen3_5_text", json!({})), "num_hidden_layers", json!(4)),
            [usual(32768), rotary(), eps(1e-6), gated_delta(), vec![("num_key_value_heads", json!(4), json!(8))]]
                .concat(),
        ),
        (
            with(&base("qwen3_5_moe_text", json!({})), "num_hidden_layers", json!(4)),
            [usual(32768), rotary(), eps(1e-6), gated_delta(), shared([256, 8])].concat(),
        ),
        (
            with(&base("qwen3_next", json!({})), "num_hidden_layers", json!(4)),
            [
                usual(32768),
                rotary(),
                eps(1e-6),
                gated_delta(),
                shared([512, 10]),
                vec![
                    ("norm_topk_prob", json!(true), json!(false)),
                    ("decoder_sparse_step", json!(1), json!(2)),
                    ("mlp_only_layers", json!([]), json!([0])),
                ],
            ]
            .concat(),
        ),
        (
            with(&base("qwen3_next", json!({"mlp_only_layers": [0]})), "intermediate_size", json!(null)),
            vec![("intermediate_size", json!(5632), json!(8))],
        ),
        (
            base("qwen3_moe", json!({})),
            [
                usual(32768),
                rotary(),
                eps(1e-6),
                vec![
                    ("num_key_value_heads", json!(4), json!(8)),
                    ("head_dim", json!(4), json!(8)),
                    ("num_experts", json!(128), json!(16)),
                    ("num_local_experts", json!(128), json!(16)),
                    ("num_experts_per_tok", json!(8), json!(2)),
                    ("moe_intermediate_size", json!(768), json!(8)),
                    ("norm_topk_prob", json!(false), json!(true)),
                    ("decoder_sparse_step", json!(1), json!(2)),
                    ("mlp_only_layers", json!([]), json!([0])),
                ],
            ]
            .concat(),
        ),
        (
            with(&base("qwen3_moe", json!({"mlp_only_layers": [0]})), "intermediate_size", json!(null)),
            vec![("intermediate_size", json!(6144), json!(8))],
        ),
        (
            with(&base("granitemoe", json!({})), "intermediate_size", json!(null)),
            [
                usual(2048),
                rotary(),
                eps(1e-6),
                sliding(),
                ones(&["attention_multiplier", "embedding_multiplier", "logits_scaling", "residual_multiplier"]),
                vec![
                    ("intermediate_size", json!(11008), json!(8)),
                    ("num_local_experts", json!(8), json!(4)),
                    ("num_experts_per_tok", json!(2), json!(3)),
                ],
            ]
            .concat(),
        ),
        (base("granitemoeshared", json!({})), vec![("shared_intermediate_size", json!(0), json!(8))]),
        (
            base("ministral3", json!({})),
            [
                usual(262_144),
                eps(1e-5),
                vec![
                    ("num_key_value_heads", json!(8), json!(4)),
                    ("head_dim", json!(128), json!(8)),
                    ("sliding_window", json!(null), json!(9)),
                    ("rope_parameters", ministral_rotary(0.1), ministral_rotary(0.2)),
                ],
            ]
            .concat(),
        ),
        (
            json!({"model_type": "mistral3", "text_config": base("ministral3", json!({}))}),
            vec![("tie_word_embeddings", json!(true), json!(false))],
        ),
        (
            base("bamba", json!({"attn_layer_indices": [1], "head_dim": 8})),
            [
                usual(262_144),
                rotary(),
                eps(1e-5),
                mamba(),
                vec![
                    ("mamba_expand", json!(2), json!(4)),
                    ("mamba_proj_bias", json!(false), json!(true)),
                    ("num_key_value_heads", json!(8), json!(4)),
                ],
            ]
            .concat(),
        ),
        (
            with(&base("bamba", json!({})), "intermediate_size", json!(null)),
            vec![("attn_layer_indices", json!([]), json!([0])), ("intermediate_size", json!(14336), json!(8))],
        ),
        (
            with(&base("jamba", json!({"num_hidden_layers": 10})), "intermediate_size", json!(null)),
            [
                usual(262_144),
                eps(1e-6),
                vec![
                    ("intermediate_size", json!(14336), json!(8)),
                    ("num_key_value_heads", json!(8), json!(4)),
                    ("attn_layer_period", json!(8), json!(5)),
                    ("attn_layer_offset", json!(4), json!(3)),
                    ("expert_layer_period", json!(2), json!(3)),
                    ("expert_layer_offset", json!(1), json!(0)),
                    ("num_experts", json!(16), json!(1)),
                    ("num_local_experts", json!(16), json!(4)),
                    ("num_experts_per_tok", json!(2), json!(3)),
                    ("mamba_d_state", json!(16), json!(8)),
                    ("mamba_d_conv", json!(4), json!(3)),
                    ("mamba_expand", json!(2), json!(4)),
                    ("mamba_dt_rank", json!("auto"), json!(3)),
                    ("mamba_conv_bias", json!(true), json!(false)),
                    ("mamba_proj_bias", json!(false), json!(true)),
                ],
            ]
            .concat(),
        ),
        (
            with(&base("lfm3", json!({"num_hidden_layers": 6})), "intermediate_size", json!(null)),
            vec![
                ("intermediate_size", json!(7680), json!(8)),
                ("max_position_embeddings", json!(128_000), json!(77)),
                ("tie_word_embeddings", json!(true), json!(false)),
                ("norm_eps", json!(1e-5), json!(0.1)),
                ("rms_norm_eps", json!(1e-5), json!(0.1)),
                ("num_key_value_heads", json!(4), json!(8)),
                ("head_dim", json!(128), json!(8)),
                ("conv_L_cache", json!(7), json!(3)),
                ("conv_bias", json!(false), json!(true)),
                ("sliding_window", json!(256), json!(9)),
                ("use_sandwich_norm", json!(true), json!(false)),
                ("use_attention_gate", json!(true), json!(false)),
                (
                    "layer_types",
                    json!(["conv", "conv", "full_attention", "conv", "sliding_attention", "conv"]),
                    json!(["conv", "conv", "sliding_attention", "conv", "sliding_attention", "conv"]),
                ),
                ("rope_parameters", lfm3_rotary(0.5), lfm3_rotary(0.25)),
            ],
        ),
    ]
}

#[test]
fn a_missing_field_has_the_value_of_transformers() {
    let mut wrong = vec![];
    for (config, defaults) in families() {
        let family = config["model_type"].as_str().expect("a family");
        let plain = built(&config).unwrap_or_else(|error| panic!("{family}: {error}"));
        for (field, default, other) in defaults {
            match (built(&with(&config, field, default)), built(&with(&config, field, other))) {
                (Ok(default), _) if default != plain => wrong.push(format!("{family}: {field} has another default")),
                (_, Ok(other)) if other == plain => wrong.push(format!("{family}: {field} does not count")),
                (Ok(_), Ok(_)) => {}
                (Err(error), _) | (_, Err(error)) => wrong.push(format!("{family}: {field}: {error}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
