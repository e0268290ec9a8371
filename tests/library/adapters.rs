//! LoRA adapters that PEFT wrote: logits of the merged models, and adapters that are damaged or another model's.

use std::collections::BTreeMap;
use std::path::Path;

use crate::support::files::file;
use crate::support::{Golden, Setting, Worst, checkpoint, cpu, folder, load, read, tolerance, wait};
use safetensors::SafeTensors;
use selvedge::checkpoint::{Checkpoint, Folder, LoadProgress, Memory, WeightChoice, adapter};
use selvedge::runtime::{Engine, EngineOptions, Purpose};
use serde_json::{Value, json};

fn adapter(name: &str) -> Folder {
    Folder::open(folder("adapters").join(name)).expect("a folder")
}

/// The model that an adapter is for.
fn base(name: &str) -> String {
    let path = folder("adapters").join(name).join(adapter::CONFIG);
    let config: Value = serde_json::from_slice(&std::fs::read(path).expect("a config")).expect("JSON");
    let base = config["base_model_name_or_path"].as_str().expect("a name");
    Path::new(base).file_name().and_then(|name| name.to_str()).expect("a name").to_owned()
}

fn logits(checkpoint: &Checkpoint, ids: &[u32]) -> Vec<f32> {
    let mut engine = load(&cpu(), checkpoint, Setting::default());
    let slot = engine.open().expect("a slot");
    read(&mut engine, slot, ids, 64)
}

/// Adapters make numbers larger, and so what rounding does: twice the tolerance of the base.
fn near(what: &str, found: &[f32], wanted: &[f32], base: &str) {
    let mut worst = Worst::new(what, 2.0 * tolerance(base));
    worst.compare("logits", found, wanted);
    worst.finish();
}

#[test]
fn every_adapter_gives_what_peft_gives() {
    for name in [
        "falcon_h1",
        "lfm2",
        "llama",
        "llama_reward",
        "nemotron_h_bias",
        "qwen2_lora_bias",
        "qwen3_5_gva",
        "qwen3_embedding",
    ] {
        let base = base(name);
        let merged = wait(checkpoint(&base).with_adapter(adapter(name))).unwrap_or_else(|error| panic!("{error}"));
        let expected = Golden::read(&folder("adapters").join(name).join("golden.safetensors"));
        let (ids, wanted) = (expected.ids("input_ids"), &expected.get("logits").data);
        let found = if base.ends_with("reward") {
            let mut engine = load(&cpu(), &merged, Setting { purpose: Purpose::Score, ..Setting::default() });
            let slot = engine.open().expect("a slot");
            wait(engine.score(slot, &ids)).expect("scores")
        } else {
            logits(&merged, &ids)
        };
        near(&format!("{name} on {base}"), &found, wanted, &base);
    }
}

#[test]
fn adapters_come_one_after_the_other_and_go_onto_a_gguf_file() {
    let expected = Golden::read(&folder("adapters/llama/golden.safetensors"));
    let (ids, wanted) = (expected.ids("input_ids"), &expected.get("logits").data);
    let file = Folder::open(folder("gguf/llama/model.gguf")).expect("a folder");
    let of_file = wait(Checkpoint::open(file)).expect("a checkpoint");
    let of_file = wait(of_file.with_adapter(adapter("llama"))).expect("the same names");
    near("GGUF", &logits(&of_file, &ids), wanted, "llama");

    // Twice is W + 2 s B A, as is once with twice the alpha.
    let once = wait(checkpoint("llama").with_adapter(changed("llama", |config| {
        config["lora_alpha"] = (2.0 * config["lora_alpha"].as_f64().expect("a number")).into();
        for alpha in config["alpha_pattern"].as_object_mut().expect("a table").values_mut() {
            *alpha = (2.0 * alpha.as_f64().expect("a number")).into();
        }
    })));
    let twice = wait(checkpoint("llama").with_adapter(adapter("llama"))).expect("an adapter");
    let twice = wait(twice.with_adapter(adapter("llama"))).expect("another");
    assert_eq!(twice.adapters(), 2);
    let once = logits(&once.expect("an adapter"), &ids);
    near("two adapters", &logits(&twice, &ids), &once, "llama");
}

#[test]
fn a_merged_model_is_stored_as_its_base_and_is_another_model() {
    let merged = || wait(checkpoint("nemotron_h_bias").with_adapter(adapter("nemotron_h_bias"))).expect("an adapter");
    let (plain, with) = (checkpoint("nemotron_h_bias"), merged());
    let [plain, with] = [plain, with].map(|checkpoint| load(&cpu(), &checkpoint, Setting::default()));
    assert_eq!(plain.weight_bytes(), with.weight_bytes());
    assert_ne!(plain.fingerprint().weights, with.fingerprint().weights);

    // In a format that rounds, what is rounded is the sum.
    let mut progress = |_: LoadProgress| {};
    let mut options = EngineOptions::new(&mut progress);
    options.weights = WeightChoice::Bf16;
    let mut small = wait(Engine::load(&merged(), (cpu().open)(), options)).expect("it loads");
    let expected = Golden::read(&folder("adapters/nemotron_h_bias/golden.safetensors"));
    let slot = small.open().expect("a slot");
    let found = read(&mut small, slot, &expected.ids("input_ids"), 64);
    let far = found.iter().zip(&expected.get("logits").data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far > 0.0 && far < 0.5, "{far}");
}

/// An adapter in memory, with another config.
fn changed(name: &str, change: impl Fn(&mut Value)) -> Memory {
    let read = |file: &str| std::fs::read(folder("adapters").join(name).join(file)).expect("a file");
    let mut config: Value = serde_json::from_slice(&read(adapter::CONFIG)).expect("JSON");
    change(&mut config);
    Memory::new().with(adapter::CONFIG, config.to_string().into_bytes()).with(adapter::WEIGHTS, read(adapter::WEIGHTS))
}

/// An adapter in memory, with other tensors.
fn retold(name: &str, change: impl Fn(&mut BTreeMap<String, (Vec<usize>, Vec<u8>)>)) -> Memory {
    let bytes = std::fs::read(folder("adapters").join(name).join(adapter::WEIGHTS)).expect("a file");
    let tensors = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut table: BTreeMap<String, (Vec<usize>, Vec<u8>)> = tensors
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, (view.shape().to_vec(), view.data().to_vec())))
        .collect();
    change(&mut table);
    let list: Vec<(&str, &str, &[usize], Vec<u8>)> =
        table.iter().map(|(name, (shape, data))| (name.as_str(), "F32", shape.as_slice(), data.clone())).collect();
    changed(name, |_| {}).with(adapter::WEIGHTS, file(&list))
}

fn refusal(base: &str, adapter: Memory) -> String {
    match wait(checkpoint(base).with_adapter(adapter)) {
        Ok(merged) => {
            let mut progress = |_: LoadProgress| {};
            let options = EngineOptions::new(&mut progress);
            let loaded = wait(Engine::load(&merged, (cpu().open)(), options));
            loaded.map(|_| ()).expect_err("a fault").to_string()
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    for (base, name, words) in [
        ("qwen3", "llama", "is it an adapter of this model?"),
        ("nemotron_h", "falcon_h1", "is it an adapter of this model?"),
        ("llama", "nemotron_h_bias", "which is for `tests/goldens/nemotron_h_bias`"),
    ] {
        let error = refusal(base, changed(name, |_| {}));
        assert!(error.contains(words), "{name} on {base}: {error}");
    }
    // A tied head would be changed with the embedding.
    let error = refusal(
        "llama",
        retold("llama", |tensors| {
            tensors.clear();
            let rank = |rows: usize, columns: usize| (vec![rows, columns], vec![0; 4 * rows * columns]);
            tensors.insert("base_model.model.model.embed_tokens.lora_embedding_A".into(), rank(4, 101));
            tensors.insert("base_model.model.model.embed_tokens.lora_embedding_B".into(), rank(40, 4));
        }),
    );
    assert!(error.contains("head of this model too"), "{error}");
}

#[test]
fn what_was_trained_counts_beside_what_was_not() {
    // PEFT writes a head as it was trained, the same for programs without PEFT, and, where dtypes differ, as it was before.
    let head = |what: &str| format!("base_model.model.lm_head{what}.weight");
    let expected = Golden::read(&folder("adapters/qwen3_embedding/golden.safetensors"));
    for plain in [false, true] {
        let adapter = retold("qwen3_embedding", |tensors| {
            let (shape, trained) = tensors.remove(&head("")).expect("the head");
            let untrained = vec![0; trained.len()];
            if plain {
                tensors.insert(head(""), (shape.clone(), untrained.clone()));
            }
            tensors.insert(head(".modules_to_save"), (shape.clone(), trained));
            tensors.insert(head(".original_module"), (shape, untrained));
        });
        let merged = wait(checkpoint("qwen3").with_adapter(adapter)).unwrap_or_else(|error| panic!("{error}"));
        near("a head", &logits(&merged, &expected.ids("input_ids")), &expected.get("logits").data, "qwen3");
    }
}

#[test]
fn damaged_adapters_are_errors_that_say_where() {
    const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
    const B: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";
    let module = "layers.0.self_attn.q_proj";
    for (adapter, words) in [
        (retold("llama", |tensors| _ = tensors.remove(A)), [module, "`lora_A`"]),
        (retold("llama", |tensors| _ = tensors.remove(B)), [module, "`lora_B`"]),
        (
            retold("llama", |tensors| tensors.get_mut(A).expect("A").1[..4].copy_from_slice(&f32::NAN.to_le_bytes())),
            [module, "NaN"],
        ),
        (retold("llama", |tensors| tensors.get_mut(A).expect("A").0 = vec![2, 80]), [module, "shapes"]),
        (retold("llama", |tensors| tensors.get_mut(A).expect("A").0 = vec![160]), [module, "rank 160"]),
        (retold("llama", |tensors| tensors.clear()), [adapter::WEIGHTS, "no tensors"]),
        (changed("llama", |config| config["rank_pattern"] = Value::Null), ["rank 2", "`r` is 4"]),
        (changed("llama", |config| config["use_dora"] = true.into()), ["DoRA", "lora_magnitude_vector"]),
        (changed("llama", |config| config["lora_alpha"] = json!("x")), [adapter::CONFIG, "lora_alpha"]),
        (changed("llama", |config| config["peft_type"] = json!("LOHA")), ["LOHA", "LORA"]),
        (changed("llama", |_| {}).with(adapter::CONFIG, &b"{"[..]), [adapter::CONFIG, "cannot be read"]),
        (changed("llama", |_| {}).with(adapter::WEIGHTS, &b"\x08"[..]), [adapter::WEIGHTS, ""]),
        (Memory::new(), ["there is no adapter_config.json", "PEFT"]),
        (Memory::new().with(adapter::CONFIG, &b"{\"peft_type\": \"LORA\"}"[..]), ["there is no", adapter::WEIGHTS]),
        (changed("llama", |config| config["lora_alpha"] = json!(1e300)), ["no f32", "1e300"]),
        (
            retold("llama", |tensors| {
                let huge = |data: &mut Vec<u8>| data.as_chunks_mut::<4>().0.fill(1e30f32.to_le_bytes());
                huge(&mut tensors.get_mut(A).expect("A").1);
                huge(&mut tensors.get_mut(B).expect("B").1);
            }),
            ["in row 0", "factors are too large"],
        ),
        (
            retold("llama", |tensors| {
                let a = tensors[A].clone();
                tensors.insert(A.replace("lora_A", "lora_A.default"), a);
            }),
            [module, "there twice"],
        ),
    ] {
        let error = refusal("llama", adapter);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    }
    // Cut anywhere, and with any byte of the header changed: an error or a model, and never a panic.
    let whole = std::fs::read(folder("adapters/llama_reward").join(adapter::WEIGHTS)).expect("a file");
    for at in (0..whole.len().min(2000)).step_by(23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 7);
        for bytes in [bytes, whole[..at].to_vec()] {
            let adapter = changed("llama_reward", |_| {}).with(adapter::WEIGHTS, bytes);
            if let Ok(merged) = wait(checkpoint("llama_reward").with_adapter(adapter)) {
                for (name, info) in merged.tensors() {
                    let _ = wait(merged.rows(name, info, 0..info.shape.first().copied().unwrap_or(0)));
                }
            }
        }
    }
}
