//! GGUF files that llama.cpp wrote: what their types become, several files of one model, conversions, damage.
//! `tests/gpu/gguf.rs` compares whole models with their sources.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::fuzz_checkpoint::{Random, Reached, run};
use crate::support::{Golden, Setting, cpu, folder, load, read, wait};
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{
    self, Checkpoint, ConvertOptions, Dtype, FileSink, Folder, LoadProgress, Memory, SinkError, WeightChoice,
};
use selvedge::formats::Quantised;

fn open(file: &str) -> Checkpoint {
    let path = folder("gguf").join(file);
    wait(Checkpoint::open(Folder::open(&path).expect("a folder"))).unwrap_or_else(|error| panic!("{error}"))
}

fn bytes(file: &str) -> Vec<u8> {
    std::fs::read(folder("gguf").join(file)).expect("a GGUF file")
}

/// A file alone in memory.
fn alone(bytes: Vec<u8>) -> Result<Checkpoint, String> {
    wait(Checkpoint::open(Memory::new().with("model.gguf", bytes))).map_err(|error| error.to_string())
}

/// All numbers of a tensor, by rows.
fn numbers(checkpoint: &Checkpoint, tensor: &str) -> Vec<Vec<f32>> {
    let info = checkpoint.tensor(tensor).expect("a tensor");
    let rows = wait(checkpoint.rows(tensor, info, 0..info.shape[0])).expect("rows");
    let decode = |row: &[u8]| -> Vec<f32> {
        let mut out = vec![0.0; info.columns()];
        match &info.dtype {
            Dtype::Quantised(format) => format.split(row, info.columns()).decode(&mut out),
            Dtype::F16 => {
                out.iter_mut().zip(row.as_chunks().0).for_each(|(x, b)| *x = half::f16::from_le_bytes(*b).to_f32());
            }
            Dtype::Bf16 => {
                out.iter_mut().zip(row.as_chunks().0).for_each(|(x, b)| *x = half::bf16::from_le_bytes(*b).to_f32());
            }
            Dtype::F32 => out.iter_mut().zip(row.as_chunks().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b)),
            other => panic!("{other}"),
        }
        out
    };
    rows.chunks(info.row_bytes()).map(decode).collect()
}

/// Rows of heads whose pairs lie side by side, in the model's order: the reference has them as they lie in the file.
fn pairs_apart(rows: &[Vec<f32>], heads: usize) -> Vec<Vec<f32>> {
    let head = rows.len() / heads;
    let place = |row: usize| row / head * head + row % head % (head / 2) * 2 + row % head / (head / 2);
    (0..rows.len()).map(|row| rows[place(row)].clone()).collect()
}

#[test]
fn every_type_holds_the_numbers_that_ggml_reads() {
    let reference = Golden::read(&folder("gguf/types/numbers.safetensors"));
    // Largest error by the largest number: 0 where codes and scales go through; scales of Q4_K are rounded to f16; the others
    // get new codes of 8 bits.
    for (file, tensor, name, dtype, allowed) in [
        ("f16", "attn_k", "k_proj", Dtype::F16, 0.0),
        ("bf16", "attn_k", "k_proj", Dtype::Bf16, 0.0),
        ("q8_0", "attn_k", "k_proj", Dtype::Quantised(Quantised::Q8), 0.0),
        ("q4_0", "attn_k", "k_proj", Dtype::Quantised(Quantised::Q4), 0.0),
        ("q4_1", "attn_k", "k_proj", Dtype::Quantised(Quantised::Q4m), 0.0),
        ("q4_k_m", "attn_k", "k_proj", Dtype::Quantised(Quantised::Q4m), 0.0015),
        ("q5_k_m", "attn_k", "k_proj", Dtype::Quantised(Quantised::Q8), 0.005),
        ("q4_k_m", "attn_v", "v_proj", Dtype::Quantised(Quantised::Q8), 0.005),
    ] {
        let checkpoint = open(&format!("types/{file}.gguf"));
        let own = format!("model.layers.0.self_attn.{name}.weight");
        assert_eq!(checkpoint.tensor(&own).expect("a tensor").dtype, dtype, "{file}");
        let wanted = reference.get(&format!("{file}.blk.0.{tensor}.weight"));
        let columns = wanted.shape[1];
        let mut wanted: Vec<Vec<f32>> = wanted.data.chunks(columns).map(<[f32]>::to_vec).collect();
        if tensor == "attn_k" {
            let config: serde_json::Value = serde_json::from_str(checkpoint.config()).expect("JSON");
            wanted = pairs_apart(&wanted, config["num_key_value_heads"].as_u64().expect("heads") as usize);
        }
        let (got, wanted) = (numbers(&checkpoint, &own).concat(), wanted.concat());
        let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let off = got.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| f64::from(x).powi(2)).sum::<f64>();
        let error = squares(&mut got.iter().zip(&wanted).map(|(a, b)| a - b)) / squares(&mut wanted.iter().copied());
        println!("{file} {tensor}: largest error {:.5} of the largest number, rms {:.5}", off / most, error.sqrt());
        assert!(off <= allowed * most, "{file} {tensor}: {off} of {most}");
        assert!(got.len() == wanted.len() && most > 0.0);
    }
}

#[test]
fn several_files_are_one_model() {
    let ids: Vec<u32> = (0..39).map(|i| i * 7 % 24).collect();
    let logits = |checkpoint: &Checkpoint| {
        let mut engine = load(&cpu(), checkpoint, Setting::default());
        let slot = engine.open().expect("a slot");
        read(&mut engine, slot, &ids, 16)
    };
    let whole = logits(&open("types/f16.gguf"));
    for part in ["types/split-00001-of-00002.gguf", "types/split-00002-of-00002.gguf"] {
        assert_eq!(logits(&open(part)), whole, "{part}");
    }
    let first = bytes("types/split-00001-of-00002.gguf");
    let error = |name: &str| {
        let memory = Memory::new().with(name.to_owned(), first.clone());
        wait(Checkpoint::open(memory)).map(|_| ()).expect_err("one of two").to_string()
    };
    let missing = error("split-00001-of-00002.gguf");
    assert!(missing.contains("`split-00002-of-00002.gguf` is not there"), "{missing}");
    let renamed = error("split.gguf");
    assert!(renamed.contains("one of 2 files") && renamed.contains("-00001-of-00002.gguf"), "{renamed}");
    let other = error("split-00001-of-00003.gguf");
    assert!(other.contains("by its name of 3"), "{other}");
}

#[test]
fn a_mixture_of_types_gives_what_the_source_gives() {
    // The wide model in f32 is not stored: the finest of its files stands for it.
    let ids: Vec<u32> = (0..39).map(|i| i * 7 % 24).collect();
    let logits = |file: &str, choice| {
        let mut progress = |_: LoadProgress| {};
        let mut options = selvedge::runtime::EngineOptions::new(&mut progress);
        options.weights = choice;
        let mut engine = wait(selvedge::runtime::Engine::load(&open(file), (cpu().open)(), options)).expect("it loads");
        let notices = engine.notices().join("; ");
        let slot = engine.open().expect("a slot");
        (read(&mut engine, slot, &ids, 16), notices)
    };
    let (fine, notice) = logits("types/q5_k_m.gguf", WeightChoice::Auto);
    assert!(notice.contains("in Q5_K and Q6_K are rounded again"), "{notice}");
    let (coarse, notice) = logits("types/q4_k_m.gguf", WeightChoice::Auto);
    assert!(notice.contains("in Q6_K are rounded again"), "{notice}");
    let distance = |a: &[f32], b: &[f32]| {
        let squares = |numbers: &mut dyn Iterator<Item = f32>| numbers.map(|x| f64::from(x).powi(2)).sum::<f64>();
        (squares(&mut a.iter().zip(b).map(|(a, b)| a - b)) / squares(&mut a.iter().copied())).sqrt()
    };
    // q, k and v are one matrix here, whose types differ: all are stored in 8 bits.
    let widened = distance(&coarse, &logits("types/q4_k_m.gguf", WeightChoice::F32).0);
    // Four bits beside five: a few per cent.
    let types = distance(&fine, &coarse);
    println!("q4_k_m in planes and in f32: {widened:.4}; q4_k_m and q5_k_m: {types:.4}");
    assert!(widened < 0.03 && widened < types / 2.0, "{widened}, {types}");
    assert!(types < 0.4, "{types}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let checkpoint = open("types/iq4_nl.gguf");
    let config = Config::parse(checkpoint.config()).expect("a config");
    let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model");
    let error =
        checkpoint::stored(&checkpoint, &model.graph, WeightChoice::Auto).expect_err("no such type").to_string();
    assert!(error.contains("embed_tokens") && error.contains("IQ4_NL"), "{error}");

    let sound = bytes("llama/model.gguf");
    let find = |text: &str| {
        let at = sound.windows(text.len()).position(|window| window == text.as_bytes());
        at.unwrap_or_else(|| panic!("no {text}"))
    };
    let with = |at: usize, new: &[u8]| {
        let mut changed = sound.clone();
        changed[at..at + new.len()].copy_from_slice(new);
        alone(changed).map(|_| ()).expect_err("damaged")
    };
    // Behind a tensor's name: dimensions, their lengths, the type, the offset.
    let tensor = find("blk.0.attn_q.weight") + "blk.0.attn_q.weight".len();
    for (at, new, words) in [
        (0, b"GGML".as_slice(), &["GGUF"][..]),
        (4, &[1, 0, 0, 0], &["version 1"]),
        (4, &[0, 0, 0, 3], &["big-endian"]),
        (8, &[255; 8], &["tensors", "is it complete?"]),
        (16, &[255; 8], &["metadata", "is it complete?"]),
        (find("general.architecture") + 20, &[77, 0, 0, 0], &["`general.architecture`", "type 77"]),
        (find("llama.block_count"), b"llama.block_kount", &["`llama.block_count` is missing"]),
        (tensor, &[9, 0, 0, 0], &["`blk.0.attn_q.weight`", "9 dimensions"]),
        (tensor + 4, &[255; 8], &["`blk.0.attn_q.weight`", "no tensor that can be read"]),
        (tensor + 4, &[0; 8], &["`blk.0.attn_q.weight`", "no tensor that can be read"]),
        (tensor + 20, &[12, 0, 0, 0], &["`blk.0.attn_q.weight`", "Q4_K", "blocks of 256"]),
        (tensor + 24, &[1, 0, 0, 0], &["`blk.0.attn_q.weight`", "alignment"]),
        (tensor + 24, &[0, 0, 0, 0, 0, 0, 0, 127], &["`blk.0.attn_q.weight`", "is it complete?"]),
        (tensor + 24, &[0; 8], &["begins within"]),
    ] {
        let error = with(at, new);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    }
    let cut = alone(sound[..sound.len() - 1].to_vec()).map(|_| ()).expect_err("cut");
    assert!(cut.contains("is it complete?") && cut.contains("tensor `"), "{cut}");
    // Another architecture, of as many letters.
    let mut other = sound.clone();
    let at = find("llama");
    other[at..at + 5].copy_from_slice(b"gemma");
    let error = alone(other).map(|_| ()).expect_err("another family");
    assert!(error.contains("`gemma`") && error.contains("llama") && error.contains("qwen35"), "{error}");
}

/// A file with one more value in its metadata: type and bytes as the format has them.
fn with_key(file: &str, key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut more = [text(key), kind.to_le_bytes().to_vec(), value.to_vec()].concat();
    // Data begins on a border of 32 bytes: a text fills up to the next one.
    let filler = 32 - (more.len() + 8 + 1 + 4 + 8) % 32;
    more.extend([text("x"), 8_u32.to_le_bytes().to_vec(), text(&" ".repeat(filler))].concat());
    let mut file = bytes(file);
    let count = u64::from_le_bytes(*file[16..].first_chunk().expect("a count")) + 2;
    file[16..24].copy_from_slice(&count.to_le_bytes());
    file.splice(24..24, more);
    file
}

#[test]
fn metadata_that_would_change_the_result_is_read_or_refused() {
    for (file, key, kind, value, words) in [
        ("llama/model.gguf", "llama.attention.causal", 7, &[0][..], &["looks ahead"][..]),
        (
            "qwen2/model.gguf",
            "qwen2.attention.sliding_window",
            4,
            &[16, 0, 0, 0],
            &["`qwen2.attention.sliding_window`"],
        ),
        ("qwen2/model.gguf", "qwen2.expert_count", 4, &[255; 4], &["`qwen2.expert_count`", "at most"]),
        ("qwen2/model.gguf", "qwen2.expert_count", 4, &[4, 0, 0, 0], &["experts are not read of `qwen2`"]),
        ("qwen2/model.gguf", "qwen2.attention.value_length", 4, &[9, 0, 0, 0], &["keys have", "9"]),
        ("qwen2/model.gguf", "qwen2.attention.value_length", 4, &[0, 0, 0, 2], &["at most"]),
        ("qwen2/model.gguf", "qwen2.rope.scaling.type", 8, &[2, 0, 0, 0, 0, 0, 0, 0, b's', b'u'], &["`su`", "yarn"]),
        ("qwen2/model.gguf", "qwen2.rope.scaling.attn_factor", 6, &[0, 0, 0, 64], &["attn_factor` is 2"]),
        ("qwen2/model.gguf", "qwen2.block_count", 4, &[1, 0, 0, 0], &["twice"]),
        ("qwen2/model.gguf", "general.alignment", 4, &[3, 0, 0, 0], &["power of two"]),
    ] {
        let error = alone(with_key(file, key, kind, value)).map(|_| ()).expect_err(key);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    }
    // A factor of the older kind, which says no form.
    let linear = with_key("qwen2/model.gguf", "qwen2.rope.scale_linear", 6, &4.0_f32.to_le_bytes());
    let config = alone(linear).expect("a model").config().to_owned();
    assert!(config.contains(r#""rope_type": "linear""#) && config.contains(r#""factor": 4.0"#), "{config}");
    // What was there before is still read so.
    let plain = alone(with_key("qwen2/model.gguf", "qwen2.attention.causal", 7, &[1])).expect("a model");
    assert_eq!(plain.config(), open("qwen2/model.gguf").config());

    // Fewer layers than the file holds.
    let mut fewer = bytes("llama/model.gguf");
    let key = b"llama.block_count";
    let at = fewer.windows(key.len()).position(|window| window == key).expect("the key") + key.len() + 4;
    fewer[at..at + 4].copy_from_slice(&2_u32.to_le_bytes());
    let checkpoint = alone(fewer).expect("it opens");
    let config = Config::parse(checkpoint.config()).expect("a config");
    let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model");
    let error =
        checkpoint::stored(&checkpoint, &model.graph, WeightChoice::Auto).expect_err("a third layer").to_string();
    assert!(error.contains("lies in layer 2") && error.contains("is 1"), "{error}");
}

/// A folder in memory.
#[derive(Default)]
pub struct Files {
    pub done: BTreeMap<String, Vec<u8>>,
    name: String,
}

impl FileSink for Files {
    fn has<'a>(
        &'a mut self,
        _: &'a str,
        _: u64,
        _: &'a [u8],
    ) -> futures::future::LocalBoxFuture<'a, Result<bool, SinkError>> {
        Box::pin(async { Ok(false) })
    }

    fn begin<'a>(&'a mut self, name: &'a str, _: u64) -> futures::future::LocalBoxFuture<'a, Result<(), SinkError>> {
        self.name = name.into();
        self.done.insert(name.into(), vec![]);
        Box::pin(async { Ok(()) })
    }

    fn append<'a>(&'a mut self, bytes: &'a [u8]) -> futures::future::LocalBoxFuture<'a, Result<(), SinkError>> {
        self.done.entry(self.name.clone()).or_default().extend(bytes);
        Box::pin(async { Ok(()) })
    }

    fn finish(&mut self) -> futures::future::LocalBoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async { Ok(()) })
    }
}

#[test]
fn a_converted_file_is_the_folder_that_it_was_made_from() {
    // Every change that a converter makes: rotated pairs, value heads, decays, norms, joined and stacked tensors.
    for name in ["llama", "qwen35", "falcon_h1", "granitehybrid_moe", "nemotron_h_moe", "lfm2"] {
        let checkpoint = open(&format!("{name}/model.gguf"));
        let config = Config::parse(checkpoint.config()).expect("a config");
        let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model");
        let mut files = Files::default();
        let options = ConvertOptions { storage: WeightChoice::Auto.into(), shard: 1 << 30 };
        let mut progress = |_: LoadProgress| true;
        let converted = checkpoint::convert(&checkpoint, &model.graph, options, None, &mut files, &mut progress);
        wait(converted).expect("converted");
        let memory = files.done.into_iter().fold(Memory::new(), |memory, (name, bytes)| memory.with(name, bytes));
        let again = wait(Checkpoint::open(memory)).expect("a folder of safetensors");
        assert_eq!(again.shapes(), checkpoint.shapes());
        let ids: Vec<u32> = (0..29).map(|i| i * 7 % 24).collect();
        let mut both = [&checkpoint, &again].map(|checkpoint| {
            let mut engine = load(&cpu(), checkpoint, Setting::default());
            let slot = engine.open().expect("a slot");
            read(&mut engine, slot, &ids, 16)
        });
        assert_eq!(std::mem::take(&mut both[0]), both[1], "{name}");
    }
}

#[test]
fn damaged_files_are_errors_and_never_panics() {
    let seeds: Vec<Vec<u8>> =
        ["llama/model.gguf", "qwen35/model.gguf", "nemotron_h_moe/model.gguf", "types/q4_k_m.gguf"].map(bytes).into();
    let mut reached = BTreeMap::new();
    for seed in 1..=600 {
        let mut random = Random(seed);
        let mut file = random.pick(&seeds).clone();
        // The head is where the sense is.
        let head = 6000.min(file.len());
        for _ in 0..=random.below(3) {
            match random.below(5) {
                0 => {
                    let at = random.below(head);
                    file[at] ^= 1 << random.below(8);
                }
                1 => {
                    let at = random.below(head - 8);
                    let values = [0, 1, 7, 31, 32, 255, 1 << 16, 1 << 31, 1 << 32, u64::MAX >> 1, u64::MAX];
                    let value = random.pick(&values).to_le_bytes();
                    let count = *random.pick(&[1, 4, 8]);
                    file[at..at + count].copy_from_slice(&value[..count]);
                }
                2 => {
                    let (from, to) = (random.below(head), random.below(head));
                    let piece = file[from..file.len().min(from + random.below(60))].to_vec();
                    let end = file.len().min(to + if random.below(2) == 0 { piece.len() } else { 0 });
                    file.splice(to..end, piece);
                }
                3 => file.truncate(random.below(file.len())),
                _ => {
                    let at = random.below(file.len());
                    file[at] = random.next() as u8;
                }
            }
            if file.len() <= head {
                break;
            }
        }
        let memory = Memory::new().with("model.gguf", file);
        let outcome = catch_unwind(AssertUnwindSafe(|| run(memory, WeightChoice::Auto)));
        let Ok(outcome) = outcome else { panic!("a panic with seed {seed}") };
        *reached.entry(outcome).or_insert(0) += 1;
    }
    println!("{reached:?}");
    assert!(reached.contains_key(&Reached::Nothing) && reached.contains_key(&Reached::Loaded), "{reached:?}");
}
