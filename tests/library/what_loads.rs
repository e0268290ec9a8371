//! The README's table of what loads: every family in every container and format, each cell from a model that was loaded
//! and has read a text.
//!
//! `SELVEDGE_WRITE_TABLES=1 cargo test --test library what_loads` writes it anew.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::{Setting, cpu, families, files, folder, load, read, repository, wait};
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{self, Checkpoint, ConvertOptions, Folder, LoadProgress, Memory, WeightChoice};

use crate::gguf::Files;
use crate::scaled::e4m3;

const BEGIN: &str = "<!-- made by tests/library/what_loads.rs -->\n";
const END: &str = "<!-- end -->\n";

/// True if a model in memory loads and reads a text.
fn loads(memory: Memory) -> bool {
    let Ok(checkpoint) = wait(Checkpoint::open(memory)) else { return false };
    reads(&checkpoint)
}

fn reads(checkpoint: &Checkpoint) -> bool {
    let Ok(config) = Config::parse(checkpoint.config()) else { return false };
    if arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).is_err() {
        return false;
    }
    let mut engine = load(&cpu(), checkpoint, Setting { context: Some(16), ..Setting::default() });
    let slot = engine.open().expect("a slot");
    read(&mut engine, slot, &[1, 2, 3], 2).iter().all(|logit| logit.is_finite())
}

/// A golden's files with its matrices in another dtype: `BF16`, `F16`, or `F8_E4M3` with a scale each.
fn stored_as(golden: &str, dtype: &str) -> Memory {
    let read = |file: &str| std::fs::read(folder(golden).join(file)).expect("a golden's file");
    let weights = read("model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&weights).expect("safetensors");
    let mut written: Vec<(String, &str, Vec<usize>, Vec<u8>)> = vec![];
    for (name, view) in tensors.tensors() {
        let numbers: Vec<f32> = match view.dtype() {
            safetensors::Dtype::BF16 => {
                view.data().as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            _ => view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        };
        let (matrix, shape) = (view.shape().len() > 1 && !name.contains("conv"), view.shape().to_vec());
        match dtype {
            "BF16" => {
                let bytes = numbers.iter().flat_map(|&x| half::bf16::from_f32(x).to_le_bytes()).collect();
                written.push((name, "BF16", shape, bytes));
            }
            "F16" => {
                let bytes = numbers.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes()).collect();
                written.push((name, "F16", shape, bytes));
            }
            _ if matrix && !name.contains("embed") && !name.contains("head") => {
                let most = numbers.iter().fold(1e-6_f32, |most, x| most.max(x.abs()));
                let bytes = numbers.iter().map(|x| e4m3(x / most * 448.0).0).collect();
                written.push((format!("{name}_scale"), "F32", vec![], (most / 448.0).to_le_bytes().to_vec()));
                written.push((name, "F8_E4M3", shape, bytes));
            }
            _ => written.push((name, "F32", shape, numbers.iter().flat_map(|x| x.to_le_bytes()).collect())),
        }
    }
    let written: Vec<(&str, &str, &[usize], Vec<u8>)> = written
        .iter()
        .map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, shape.as_slice(), bytes.clone()))
        .collect();
    let mut config: Value = selvedge_json(&read("config.json"));
    if dtype == "F8_E4M3" {
        config["quantization_config"] = json!({"quant_method": "modelopt", "quant_algo": "FP8"});
    }
    Memory::new().with("config.json", config.to_string().into_bytes()).with("model.safetensors", files::file(&written))
}

/// A config in JSON; bare infinities become the object that transformers 5 writes.
fn selvedge_json(bytes: &[u8]) -> Value {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let bare = if text.contains("__float__") {
        text.to_owned()
    } else {
        text.replace("Infinity", r#"{"__float__": "Infinity"}"#)
    };
    serde_json::from_str(&bare).expect("JSON")
}

/// A golden converted into one of Selvedge's own formats.
fn converted(golden: &str, choice: WeightChoice) -> Memory {
    let checkpoint = crate::support::checkpoint(golden);
    let config = Config::parse(checkpoint.config()).expect("a config");
    let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model");
    let mut files = Files::default();
    let options = ConvertOptions { storage: choice.into(), shard: 1 << 30 };
    let mut progress = |_: LoadProgress| true;
    let done = checkpoint::convert(&checkpoint, &model.graph, options, None, &mut files, &mut progress);
    wait(done).expect("converted");
    files.done.into_iter().fold(Memory::new(), |memory, (name, bytes)| memory.with(name, bytes))
}

/// Names of the architectures of GGUF files that load, by the family that they are here.
fn architectures() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let entries = std::fs::read_dir(folder("gguf")).expect("the folder of GGUF goldens");
    for file in entries.map(|entry| entry.expect("an entry").path().join("model.gguf")).filter(|file| file.is_file()) {
        let checkpoint = wait(Checkpoint::open(Folder::open(&file).expect("a folder"))).expect("a checkpoint");
        assert!(reads(&checkpoint), "{}", file.display());
        let bytes = std::fs::read(&file).expect("a file");
        let key = b"general.architecture";
        let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 4;
        let length = u64::from_le_bytes(*bytes[at..].first_chunk().expect("a length")) as usize;
        let arch = String::from_utf8(bytes[at + 8..at + 8 + length].to_vec()).expect("UTF-8");
        let family =
            Config::parse(checkpoint.config()).expect("a config").string("model_type").expect("a type").to_owned();
        let archs = found.entry(family.trim_end_matches("_text").to_owned()).or_default();
        if !archs.contains(&arch) {
            archs.push(arch);
        }
    }
    found.values_mut().for_each(|archs| archs.sort());
    found
}

fn table() -> String {
    let mut goldens: BTreeMap<String, &str> = BTreeMap::new();
    for golden in families().chain(["hymba/caseA"]) {
        let config = selvedge_json(&std::fs::read(folder(golden).join("config.json")).expect("a config"));
        let family = config["model_type"].as_str().expect("a type").trim_end_matches("_text").to_owned();
        goldens.entry(family).or_insert(golden);
    }
    let mut architectures = architectures();
    let mut lines = vec![
        "| `model_type` | safetensors: F32, F16, BF16 | FP8 | Selvedge's q8, q4, q4m | GGUF, by its architecture |"
            .to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    let said = |yes: bool| if yes { "yes" } else { "no" };
    for (family, golden) in goldens {
        let plain = reads(&crate::support::checkpoint(golden))
            && ["F16", "BF16"].iter().all(|dtype| loads(stored_as(golden, dtype)));
        let fp8 = loads(stored_as(golden, "F8_E4M3"));
        let own = [WeightChoice::Q8, WeightChoice::Q4, WeightChoice::Q4m]
            .iter()
            .all(|&choice| loads(converted(golden, choice)));
        let gguf = architectures.remove(&family).map_or("no".to_owned(), |archs| {
            archs.iter().map(|arch| format!("`{arch}`")).collect::<Vec<_>>().join(", ")
        });
        lines.push(format!("| `{family}` | {} | {} | {} | {gguf} |", said(plain), said(fp8), said(own)));
    }
    assert!(architectures.is_empty(), "no golden of {architectures:?}");
    lines.join("\n") + "\n"
}

#[test]
fn the_readme_tells_what_loads() {
    let path = repository().join("README.md");
    let readme = std::fs::read_to_string(&path).expect("README.md");
    let begin = readme.find(BEGIN).expect("the table's begin") + BEGIN.len();
    let end = begin + readme[begin..].find(END).expect("the table's end");
    let table = table();
    if std::env::var_os("SELVEDGE_WRITE_TABLES").is_some() {
        std::fs::write(&path, format!("{}{table}{}", &readme[..begin], &readme[end..])).expect("written");
        return;
    }
    assert_eq!(&readme[begin..end], table, "SELVEDGE_WRITE_TABLES=1 writes it anew");
}
