//! Configs and checkpoints as other programs write them: what they leave out means what it means to transformers, what
//! would change the result is refused by name, and what is harmless is a notice.

use std::collections::BTreeMap;
use std::path::Path;

use selvedge::arch::{self, ArchOptions, Config};
use selvedge::backend::Outputs;
use selvedge::backend::cpu::CpuBackend;
use selvedge::checkpoint::{Checkpoint, Folder, Memory};
use selvedge::runtime::{Engine, EngineError, EngineOptions};
use serde_json::{Value, json};

use crate::support::files::file;
use crate::support::wait;

/// A model, by its debug form: everything that a config decides.
pub fn built(config: &Value) -> Result<String, String> {
    let config = Config::parse(&config.to_string()).expect("JSON");
    match arch::build(&config, None, &ArchOptions::default()) {
        Ok(model) => Ok(format!("{model:?}")),
        Err(error) => Err(error.to_string()),
    }
}

/// A config with one field changed.
pub fn with(config: &Value, field: &str, value: Value) -> Value {
    let mut config = config.clone();
    config[field] = value;
    config
}

#[test]
fn numbers_and_nulls_are_read_as_python_writes_them() {
    let llama = json!({
        "model_type": "llama", "vocab_size": 50, "hidden_size": 64, "intermediate_size": 48, "num_attention_heads": 4,
        "num_hidden_layers": 2,
    });
    let plain = built(&llama).expect("a model");
    for (field, value) in [
        ("hidden_size", json!(64.0)),
        ("num_hidden_layers", json!(2.0)),
        ("head_dim", json!(null)),
        ("head_dim", json!(16.0)),
        ("num_key_value_heads", json!(null)),
        ("max_position_embeddings", json!(null)),
        ("rope_scaling", json!(null)),
        ("architectures", json!(null)),
        ("torch_dtype", json!("float8_e4m3fn")),
        ("dtype", json!("auto")),
        ("pad_token_id", json!(-1)),
        ("pad_token_id", json!(60)),
        ("bos_token_id", json!(60)),
        ("bos_token_id", json!(null)),
        ("tie_word_embeddings", json!(null)),
        ("quantization_config", json!(null)),
        ("id2label", json!(null)),
    ] {
        assert_eq!(built(&with(&llama, field, value.clone())).as_ref(), Ok(&plain), "{field}: {value}");
    }
    // A missing number of heads is the class's, a `null` is one for each head.
    let qwen = with(&llama, "model_type", json!("qwen2"));
    assert!(built(&qwen).is_err_and(|error| error.contains("`num_key_value_heads`") && error.contains("32")));
    let of_heads = built(&with(&qwen, "num_key_value_heads", json!(4))).expect("a model");
    assert_eq!(built(&with(&qwen, "num_key_value_heads", json!(null))), Ok(of_heads));
    for (field, value) in
        [("hidden_size", json!(64.5)), ("hidden_size", json!("64")), ("tie_word_embeddings", json!("true"))]
    {
        let error = built(&with(&llama, field, value)).expect_err(field);
        assert!(error.contains(&format!("`{field}`")), "{error}");
    }
}

#[test]
fn a_width_may_be_a_fraction_of_another() {
    let mut hymba: Value = serde_json::from_str(&arch::preset("hymba-1.5b").expect("a preset")).expect("JSON");
    let inner = |config: &Value| built(config).map(|model| model.contains("[2400, 1, 4]"));
    assert_eq!(inner(&hymba), Ok(false));
    hymba["mamba_expand"] = json!(1.5);
    assert_eq!(inner(&hymba), Ok(true), "1.5 * 1600 = 2400 = 25 * 96");
    for expand in [1.0003, 1.01] {
        hymba["mamba_expand"] = json!(expand);
        let error = built(&hymba).expect_err("not an integer, or none for each head");
        assert!(error.contains("`mamba_expand`"), "{error}");
    }
}

/// Tensors by name: dtype, shape, bytes.
type Tensors = BTreeMap<String, (&'static str, Vec<usize>, Vec<u8>)>;

fn numbers(shape: &[usize], seed: usize) -> (&'static str, Vec<usize>, Vec<u8>) {
    let count: usize = shape.iter().product();
    let number = |i: usize| ((i * 37 + seed * 101) % 29) as f32 / 29.0 - 0.5;
    ("F32", shape.to_vec(), (0..count).flat_map(|i| number(i).to_le_bytes()).collect())
}

/// A llama of two layers, tied, and its tensors.
fn llama() -> (Value, Tensors) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 10, "hidden_size": 8,
        "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "tie_word_embeddings": true,
    });
    let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![10, 8]), ("model.norm.weight".into(), vec![8])];
    for layer in 0..2 {
        for (name, shape) in [
            ("self_attn.q_proj", vec![8, 8]),
            ("self_attn.k_proj", vec![4, 8]),
            ("self_attn.v_proj", vec![4, 8]),
            ("self_attn.o_proj", vec![8, 8]),
            ("mlp.gate_proj", vec![12, 8]),
            ("mlp.up_proj", vec![12, 8]),
            ("mlp.down_proj", vec![8, 12]),
            ("input_layernorm", vec![8]),
            ("post_attention_layernorm", vec![8]),
        ] {
            shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
        }
    }
    let tensors = shapes.into_iter().enumerate().map(|(seed, (name, shape))| (name, numbers(&shape, seed)));
    (config, tensors.collect())
}

fn weights(tensors: &Tensors) -> Vec<u8> {
    let list: Vec<_> = tensors
        .iter()
        .map(|(name, (dtype, shape, bytes))| (name.as_str(), *dtype, shape.as_slice(), bytes.clone()))
        .collect();
    file(&list)
}

fn memory(config: &Value, tensors: &Tensors) -> Memory {
    Memory::new().with("config.json", config.to_string().into_bytes()).with("model.safetensors", weights(tensors))
}

fn load(source: Memory) -> Result<Engine, EngineError> {
    let checkpoint = wait(Checkpoint::open(source))?;
    let mut progress = |_: selvedge::checkpoint::LoadProgress| {};
    wait(Engine::load(&checkpoint, Box::new(CpuBackend::new()), EngineOptions::new(&mut progress)))
}

/// The logits of a short text.
fn logits(source: Memory) -> Vec<f32> {
    let mut engine = load(source).expect("a model");
    let slot = engine.open().expect("a slot");
    let step = engine.enqueue(slot, &[3, 1, 4, 1, 5], Outputs::All).expect("a step");
    wait(engine.logits(&step)).expect("logits")
}

fn refused(source: Memory, wanted: &[&str]) {
    let error = load(source).err().unwrap_or_else(|| panic!("refused: {wanted:?}")).to_string();
    for part in wanted {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}

#[test]
fn a_head_is_tied_by_the_config_and_by_what_is_there() {
    const HEAD: &str = "lm_head.weight";
    const TABLE: &str = "model.embed_tokens.weight";
    let (config, tensors) = llama();
    let tied = logits(memory(&config, &tensors));
    // Both are there: each is what it is, whatever the config says.
    let mut both = tensors.clone();
    both.insert(HEAD.into(), tensors[TABLE].clone());
    assert_eq!(logits(memory(&config, &both)), tied);
    both.insert(HEAD.into(), numbers(&[10, 8], 99));
    let own = logits(memory(&config, &both));
    assert!(own != tied);
    let untied = with(&config, "tie_word_embeddings", json!(false));
    assert_eq!(logits(memory(&untied, &both)), own);
    // One for both, under either name.
    let mut head = tensors.clone();
    let table = head.remove(TABLE).expect("a table");
    head.insert(HEAD.into(), table);
    assert_eq!(logits(memory(&config, &head)), tied);
    refused(memory(&untied, &head), &[TABLE]);
    // None: said by the config, or by the family where the config says nothing.
    refused(memory(&untied, &tensors), &["`lm_head.weight`", "`tie_word_embeddings`"]);
    let mut silent = config.clone();
    silent.as_object_mut().expect("an object").remove("tie_word_embeddings");
    refused(memory(&silent, &tensors), &["`lm_head.weight`", "`tie_word_embeddings`"]);
}

#[test]
fn tensors_that_would_change_the_result_are_refused() {
    let (config, tensors) = llama();
    let q = "model.layers.1.self_attn.q_proj";
    for (name, shape, why) in [
        (format!("{q}.bias"), vec![8], "bias"),
        ("model.norm.bias".into(), vec![8], "bias"),
        ("lm_head.bias".into(), vec![10], ""),
        (format!("{q}.lora_A.weight"), vec![2, 8], "merge_and_unload"),
        (format!("{q}.lora_A.default.weight"), vec![2, 8], "merge_and_unload"),
        (format!("base_model.model.{q}.lora_B.weight"), vec![8, 2], "merge_and_unload"),
        (format!("{q}.lora_magnitude_vector"), vec![8], "merge_and_unload"),
        (format!("{q}.base_layer.weight"), vec![8, 8], "merge_and_unload"),
        ("model.layers.2.mlp.up_proj.weight".into(), vec![12, 8], "layer 2"),
        ("model.layers.0.self_attn.q_norm.weight".into(), vec![4], "part of a layer"),
        ("model.layers.0.mlp.shared_expert.weight".into(), vec![4, 4], "part of a layer"),
        (format!("{q}.weight_scale"), vec![1], "part of a layer"),
    ] {
        let mut more = tensors.clone();
        more.insert(name.clone(), numbers(&shape, 5));
        if name == "lm_head.bias" {
            more.insert("lm_head.weight".into(), numbers(&[10, 8], 6));
        }
        refused(memory(&config, &more), &[&format!("`{name}`"), why, "model.safetensors"]);
    }
    let mut many = tensors.clone();
    many.extend((0..9).map(|i| (format!("model.layers.{}.mlp.up_proj.weight", 2 + i), numbers(&[12, 8], i))));
    refused(memory(&config, &many), &["layer 10", "and 4 more"]);
}

#[test]
fn harmless_tensors_are_passed_over_or_named() {
    let (config, tensors) = llama();
    let plain = logits(memory(&config, &tensors));
    let mut idle = tensors.clone();
    idle.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), numbers(&[2], 1));
    idle.insert("model.layers.0.self_attn.q_proj.input_scale".into(), numbers(&[1], 1));
    idle.insert("model.layers.0.self_attn.q_proj.activation_scale".into(), numbers(&[1], 1));
    idle.insert("model.norm.num_batches_tracked".into(), ("I64", vec![], vec![0; 8]));
    idle.insert("model.layers.0.nothing".into(), ("F32", vec![0, 4], vec![]));
    assert_eq!(logits(memory(&config, &idle)), plain);
    assert_eq!(load(memory(&config, &idle)).expect("a model").notices(), [] as [String; 0]);

    let mut named = tensors.clone();
    for i in 0..7 {
        named.insert(format!("value_head.{i}.weight"), numbers(&[1], i));
    }
    named.insert("model.step".into(), ("I64", vec![], vec![0; 8]));
    named.insert("model.layers.0.self_attn.k_proj.k_scale".into(), numbers(&[1], 1));
    named.insert("model.visual.patch_embed.weight".into(), numbers(&[4], 1));
    named.insert("mtp.layers.0.mlp.up_proj.weight".into(), numbers(&[4], 1));
    named.insert("mtp.layers.7.mlp.up_proj.weight".into(), numbers(&[4], 1));
    assert_eq!(logits(memory(&config, &named)), plain);
    let engine = load(memory(&config, &named)).expect("a model");
    let said = |parts: &[&str]| engine.notices().iter().any(|notice| parts.iter().all(|part| notice.contains(part)));
    assert!(said(&["8 tensors", "`model.step`", "`value_head.0.weight`", "and 3 more"]), "{:?}", engine.notices());
    assert!(said(&["1 tensor ", "vision tower"]), "{:?}", engine.notices());
    assert!(said(&["2 tensors", "later tokens"]), "{:?}", engine.notices());
    assert!(said(&["1 tensor ", "keys and values in FP8"]), "{:?}", engine.notices());
    assert_eq!(engine.notices().len(), 4);
}

#[test]
fn weights_quantised_by_others_are_named() {
    let (config, tensors) = llama();
    let q = "model.layers.0.self_attn.q_proj";
    for (field, value, method) in [
        ("quantization", json!({"group_size": 64, "bits": 4}), "MLX"),
        ("quantization_config", json!({"quant_method": "awq"}), "`awq`"),
        (
            "quantization_config",
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
            "`pack-quantized`",
        ),
        ("quantization_config", json!({"load_in_8bit": true}), "bitsandbytes"),
        ("quantization_config", json!({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}), "NVFP4_AWQ"),
        ("compression_config", json!({"format": "float-quantized"}), "compressed-tensors"),
    ] {
        let config = with(&config, field, value);
        refused(memory(&config, &tensors), &["config.json", "quantised as", method]);
    }
    let mlx = with(&config, "quantization", json!({"bits": 4}));
    refused(memory(&with(&mlx, "quantization_config", json!({"bits": 4})), &tensors), &["MLX"]);
    for (end, method) in [
        ("qweight", "GPTQ or AWQ"),
        ("weight_packed", "compressed-tensors"),
        ("weight.absmax", "bitsandbytes"),
        ("weight_scale_2", "NVFP4"),
    ] {
        let mut codes = tensors.clone();
        codes.insert(format!("{q}.{end}"), ("I32", vec![2], vec![0; 8]));
        refused(memory(&config, &codes), &[&format!("`{q}.{end}`"), method]);
    }
    // Nothing is quantised here.
    for value in [json!({}), json!(null)] {
        let plain = logits(memory(&config, &tensors));
        assert_eq!(logits(memory(&with(&config, "quantization_config", value), &tensors)), plain);
    }
}

#[test]
fn an_index_may_say_too_much_but_not_contradict_itself() {
    let (config, tensors) = llama();
    let plain = logits(memory(&config, &tensors));
    let names: Vec<&String> = tensors.keys().collect();
    let (a, b) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let half = |keep: &dyn Fn(usize) -> bool| -> Tensors {
        names
            .iter()
            .enumerate()
            .filter(|&(i, _)| keep(i))
            .map(|(_, &name)| (name.clone(), tensors[name].clone()))
            .collect()
    };
    let (first, mut second) = (half(&|i| i < 9), half(&|i| i >= 9));
    let map = |place: &dyn Fn(&str) -> String| -> Value {
        let entry = |name: &String| (name.clone(), place(if first.contains_key(name) { a } else { b }).into());
        Value::Object(names.iter().map(|&name| entry(name)).collect())
    };
    let sharded = |second: &Tensors, index: Value| {
        Memory::new()
            .with("config.json", config.to_string().into_bytes())
            .with(a, weights(&first))
            .with(b, weights(second))
            .with("model.safetensors.index.json", index.to_string().into_bytes())
    };
    let index = json!({"metadata": null, "weight_map": map(&|shard| shard.to_owned())});
    assert_eq!(logits(sharded(&second, index.clone())), plain);
    let dotted = json!({"weight_map": map(&|shard| format!("./{shard}"))});
    assert_eq!(logits(sharded(&second, dotted)), plain);
    let mut more = index.clone();
    more["weight_map"]["lm_head.weight"] = b.into();
    more["weight_map"]["model.layers.0.self_attn.rotary_emb.inv_freq"] = a.into();
    assert_eq!(logits(sharded(&second, more)), plain);
    // What a needed tensor's shard does not hold is missed by name.
    let mut less = second.clone();
    let lost = less.pop_last().expect("a tensor").0;
    refused(sharded(&less, index.clone()), &["lacks 1 ", &format!("`{lost}`")]);
    // A stale copy in another shard: the index tells which one counts, in either order.
    let doubled = first.keys().next().expect("a tensor").clone();
    second.insert(doubled.clone(), numbers(&tensors[&doubled].1, 77));
    assert_eq!(logits(sharded(&second, index.clone())), plain);
    let mut other = index;
    other["weight_map"][&doubled] = b.into();
    assert!(logits(sharded(&second, other)) != plain);
}

#[test]
fn folders_and_files_of_other_kinds_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let error_of = |path: &Path| match Folder::open(path) {
        Ok(folder) => wait(Checkpoint::open(folder)).err().expect("no model").to_string(),
        Err(error) => error.to_string(),
    };
    let mut count = 0;
    let mut says = |files: &[(&str, &[u8])], wanted: &[&str]| {
        count += 1;
        let place = folder.path().join(count.to_string());
        std::fs::create_dir(&place).expect("made");
        for (name, bytes) in files {
            let file = place.join(name);
            std::fs::create_dir_all(file.parent().expect("a folder")).expect("made");
            std::fs::write(file, bytes).expect("written");
        }
        let error = error_of(&place);
        for part in wanted {
            assert!(error.contains(part), "no {part} in: {error}");
        }
    };
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 99\n".as_slice();
    let adapter = br#"{"peft_type": "LORA", "base_model_name_or_path": "them/base"}"#.as_slice();
    says(&[], &["no config.json", "no file is there"]);
    says(&[("tiny.Q4_K_M.gguf", b"GGUF")], &["tiny.Q4_K_M.gguf", "is it complete?"]);
    says(&[("tiny.gguf", pointer)], &["tiny.gguf", "git lfs pull"]);
    says(&[("a.gguf", b"GGUF"), ("b.gguf", b"GGUF")], &["2 GGUF models", "a.gguf, b.gguf"]);
    says(&[("config.json", b"{}"), ("pytorch_model.bin", b"PK")], &["no weights", "`pytorch_model.bin`", "pickles"]);
    says(&[("adapter_config.json", adapter), ("adapter_model.safetensors", b"")], &["adapter", "`them/base`"]);
    says(&[("config.json", b"{}"), ("model-00001-of-00001.safetensors", b"")], &["rename"]);
    says(&[("config.json", b"{}"), ("model-00001-of-00004.safetensors", b"")], &["index.json"]);
    says(&[("config.json", b"{}"), ("onnx/model.onnx", b"")], &["no weights", "`config.json`"]);
    says(&[("inner/config.json", b"{}")], &["`inner` within"]);
    says(&[("snapshots/abc/config.json", b"{}"), ("refs/main", b"abc")], &["`snapshots/abc` within"]);
    says(&[("config.json", pointer)], &["config.json", "git lfs pull"]);
    says(&[("config.json", b"{}"), ("model.safetensors", pointer)], &["model.safetensors", "git lfs pull"]);
    says(&[("config.json", b"{}"), ("model.safetensors.index.json", pointer)], &["index.json", "git lfs pull"]);
    says(&[("config.json", b"{}"), ("model.safetensors", b"<!DOCTYPE html><title>401</title>")], &["web page"]);
    says(&[("config.json", b"{}"), ("model.safetensors", b"GGUF\x03\0\0\0\0\0\0\0")], &["GGUF"]);
    says(&[("config.json", b"{}"), ("model.safetensors", &[0; 100])], &["zeros"]);
    std::fs::write(folder.path().join("tiny.bin"), b"GGUF").expect("written");
    let error = error_of(&folder.path().join("tiny.bin"));
    assert!(error.contains("is a file") && error.contains("GGUF"), "{error}");
    // A mark in front of the text is no part of it.
    let (config, tensors) = llama();
    let marked = format!("\u{feff}{config}").into_bytes();
    assert_eq!(
        logits(Memory::new().with("config.json", marked).with("model.safetensors", weights(&tensors))),
        logits(memory(&config, &tensors))
    );
}
