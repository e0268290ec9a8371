//! Configs that no model is built from, refused by the field that is wrong.

use crate::checkpoint::{golden, open, text};
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::Folder;
use serde_json::{Value, json};

#[test]
fn bad_configs_are_refused_by_field() {
    let both = &["hymba/caseA", "falcon_h1"][..];
    let (hymba, falcon) = (&both[..1], &both[1..]);
    let huge = json!(1u64 << 28);
    let bad: &[(&[&str], &str, Value)] = &[
        (both, "model_type", json!("gpt2")),
        (both, "model_type", json!(null)),
        (both, "hidden_size", json!(0)),
        (both, "hidden_size", json!(-80)),
        (both, "hidden_size", json!(80.5)),
        (both, "hidden_size", json!("80")),
        (both, "hidden_size", json!(null)),
        (both, "hidden_size", huge.clone()),
        (both, "vocab_size", json!(1e300)),
        (both, "vocab_size", huge.clone()),
        (both, "num_hidden_layers", json!(0)),
        (both, "num_hidden_layers", huge.clone()),
        (both, "num_hidden_layers", json!([8])),
        (both, "num_attention_heads", huge.clone()),
        (both, "num_key_value_heads", json!(0)),
        (both, "num_key_value_heads", json!(4)),
        (both, "num_key_value_heads", huge.clone()),
        (both, "intermediate_size", huge.clone()),
        (both, "mamba_d_state", huge.clone()),
        (both, "mamba_d_conv", json!(1)),
        (both, "mamba_d_conv", huge.clone()),
        (both, "rms_norm_eps", json!(0)),
        (both, "rms_norm_eps", json!(1e-60)),
        (both, "rms_norm_eps", json!({"__float__": "NaN"})),
        (both, "rms_norm_eps", json!({"__float__": "7"})),
        (both, "hidden_act", json!("gelu")),
        (both, "tie_word_embeddings", json!("yes")),
        (both, "max_position_embeddings", json!(0)),
        (both, "eos_token_id", json!([1, -7])),
        (hymba, "num_attention_heads", json!(7)),
        (hymba, "num_attention_heads", json!(80)),
        (hymba, "mamba_expand", huge.clone()),
        (hymba, "mamba_dt_rank", huge.clone()),
        (hymba, "num_memory_tokens", huge.clone()),
        (hymba, "sliding_window", json!(0)),
        (hymba, "global_attn_idx", json!([8])),
        (hymba, "global_attn_idx", json!("all")),
        (hymba, "kv_reuse_group", json!("pairs")),
        (hymba, "kv_reuse_group", json!([[2, 1]])),
        (hymba, "kv_reuse_group", json!([[1, 8]])),
        (hymba, "kv_reuse_group", json!([[0, 1]])),
        (hymba, "kv_reuse_group", json!([[5, 6], [4, 5]])),
        (hymba, "kv_reuse_group", json!([[1, 1]])),
        (hymba, "rope_type", json!("yarn")),
        (hymba, "rope_theta", json!(-1)),
        (hymba, "orig_max_position_embeddings", json!(1 << 20)),
        (hymba, "layer_type", json!(["h", "m"])),
        (hymba, "num_experts", json!(8)),
        (falcon, "head_dim", json!(13)),
        (falcon, "head_dim", huge.clone()),
        (falcon, "mamba_n_heads", json!(5)),
        (falcon, "mamba_n_groups", json!(5)),
        (falcon, "mamba_n_groups", huge.clone()),
        (falcon, "mamba_d_ssm", huge.clone()),
        (falcon, "mamba_d_head", json!(9)),
        (falcon, "time_step_limit", json!([0.0])),
        (falcon, "time_step_limit", json!([1.0, 0.0])),
        (falcon, "time_step_limit", json!([{"__float__": "Infinity"}, {"__float__": "Infinity"}])),
        (falcon, "ssm_multipliers", json!([1.0])),
        (falcon, "ssm_out_multiplier", json!(1e40)),
        (falcon, "rope_scaling", json!({"factor": 2.0})),
        (falcon, "attention_bias", json!(true)),
    ];
    for (cases, field, value) in bad {
        for case in *cases {
            let mut config: Value = serde_json::from_str(&text(case, "config.json")).expect("JSON");
            config[*field] = value.clone();
            let config = Config::parse(&config.to_string()).expect("JSON");
            let built = arch::build(&config, None, &ArchOptions::default());
            let error = built.err().unwrap_or_else(|| panic!("{case}: {field} = {value} is refused")).to_string();
            assert!(error.contains(&format!("`{field}`")) || error.contains("model_type"), "{case}: {error}");
        }
    }
}

/// What a family does not do is refused by its name and with what there is instead; nothing is passed over.
#[test]
fn options_that_are_not_there_are_refused_with_those_that_are() {
    let refused: &[(&str, &str, Value, &str)] = &[
        ("bamba-9b", "attention_bias", json!(true), "false"),
        ("bamba-9b", "partial_rotary_factor", json!(0.25), "0.5"),
        ("bamba-9b", "attn_rotary_emb", json!(128), "64"),
        ("falcon-h1-1.5b", "hidden_act", json!("gelu"), "silu"),
        ("falcon-h1-1.5b", "architectures", json!(["FalconH1ForSequenceClassification"]), "nemotron"),
        ("granite-4.0-h-1b", "hidden_act", json!("relu"), "silu"),
        ("granite-4.0-h-1b", "position_embedding_type", json!("alibi"), "nope"),
        ("hymba-1.5b", "mlp_hidden_act", json!("gelu"), "silu"),
        ("jamba-v0.1", "hidden_act", json!("relu"), "silu"),
        ("lfm3-1.7b", "attention_bias", json!(true), "false"),
        ("lfm3-1.7b", "layer_types", json!(vec!["mamba"; 24]), "conv, sliding_attention, full_attention"),
        ("lfm2-350m", "architectures", json!(["Lfm2ForTokenClassification"]), "ForCausalLM"),
        ("lfm2-350m", "layer_types", json!(vec!["mamba"; 16]), "conv, full_attention"),
        ("lfm2-8b-a1b", "layer_types", json!(vec!["mamba"; 24]), "conv, full_attention"),
        ("llama-3.2-1b", "hidden_act", json!("gelu_pytorch_tanh"), "silu"),
        ("llama-3.2-1b", "rope_scaling", json!({"rope_type": "su", "factor": 4.0}), "llama3"),
        ("llama-3.2-1b", "architectures", json!(["LlamaForQuestionAnswering"]), "ForSequenceClassification"),
        ("ministral-3-3b", "layer_types", json!(vec!["sliding_attention"; 26]), "full_attention"),
        ("nemotron-4-340b", "hidden_act", json!("silu"), "relu2"),
        ("nemotron-h-8b", "mlp_hidden_act", json!("gelu"), "relu2"),
        ("nemotron-3-nano-4b", "num_nextn_predict_layers", json!(2), "0"),
        ("qwen2.5-1.5b", "use_sliding_window", json!(true), "false"),
        ("qwen3.5-0.8b", "mtp_num_hidden_layers", json!(3), "0, 1"),
        ("qwen3.6-35b-a3b", "mtp_num_hidden_layers", json!(3), "0, 1"),
        ("qwen3.6-35b-a3b", "norm_topk_prob", json!(false), "true"),
        ("qwen3-30b-a3b", "use_sliding_window", json!(true), "false"),
        ("qwen3-next-80b-a3b", "hidden_act", json!("gelu"), "silu"),
    ];
    for (preset, field, value, supported) in refused {
        let mut config: Value = serde_json::from_str(&arch::preset(preset).expect("a preset")).expect("JSON");
        let text = if config["text_config"].is_object() { &mut config["text_config"] } else { &mut config };
        text[*field] = value.clone();
        let config = Config::parse(&config.to_string()).expect("JSON");
        let built = arch::build(&config, None, &ArchOptions::default());
        let error = built.err().unwrap_or_else(|| panic!("{preset}: {field} = {value} is refused")).to_string();
        let field = if *field == "rope_scaling" { "rope_type" } else { field };
        let (named, said) = (error.contains(&format!("`{field}`")), error.split("supported: ").nth(1));
        assert!(named && said.is_some_and(|said| said.contains(supported)), "{preset}: {error}");
    }
    let unknown = Config::parse(r#"{"model_type": "gpt2"}"#).expect("JSON");
    let error = arch::build(&unknown, None, &ArchOptions::default()).expect_err("unknown").to_string();
    assert!(error.contains("`gpt2`"), "{error}");
    for family in arch::supported() {
        assert!(error.contains(family), "{family} is not named: {error}");
    }
}

#[test]
fn models_that_no_machine_holds_are_refused() {
    let mut config: Value = serde_json::from_str(&text("hymba/caseA", "config.json")).expect("JSON");
    config["layer_type"] = Value::Null;
    config["num_hidden_layers"] = 4096.into();
    let build = |config: &Value| {
        let config = Config::parse(&config.to_string()).expect("JSON");
        arch::build(&config, None, &ArchOptions::default())
    };
    assert_eq!(build(&config).expect("many small layers").layers, 4096);
    config["intermediate_size"] = (1 << 20).into();
    config["hidden_size"] = (5 << 16).into();
    let error = build(&config).expect_err("3 * 2^20 * 5 * 2^16 * 2^12 parameters").to_string();
    assert!(error.contains("parameters"), "{error}");
}

#[test]
fn factors_too_large_are_refused_before_they_overflow() {
    let config = json!({
        "model_type": "lfm2", "vocab_size": 8, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 8, "block_ffn_dim_multiplier": 1e38, "full_attn_idxs": [0], "conv_L_cache": 3,
    });
    let config = Config::parse(&config.to_string()).expect("JSON");
    let error = arch::build(&config, None, &ArchOptions::default()).expect_err("1e38 columns").to_string();
    assert!(error.contains("`block_ffn_dim_multiplier`"), "{error}");
}

#[test]
fn a_head_of_its_own_is_taken_where_the_checkpoint_has_one() {
    let mut shapes = open(Folder::open(golden("hymba/caseA")).expect("a folder")).expect("a checkpoint").shapes();
    let config = Config::parse(&text("hymba/caseA", "config.json")).expect("a config");
    let tied = arch::build(&config, Some(&shapes), &ArchOptions::default()).expect("a model");
    shapes.insert("lm_head.weight".into(), vec![97, 80]);
    let untied = arch::build(&config, Some(&shapes), &ArchOptions::default()).expect("a model");
    assert_eq!(untied.graph.weights.len(), tied.graph.weights.len() + 1);
}
