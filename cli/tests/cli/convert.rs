//! `selvedge convert`, and what is read back: the same bytes twice, the weights that `--weights` makes on the way,
//! a conversion that goes on where it was cut, folders that lie.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::files::file;
use crate::support::{repository, wait};
use futures::future::LocalBoxFuture;
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{self, Checkpoint, CheckpointError, Folder, Memory, SinkError, WeightChoice, WeightSink};
use selvedge::graph::{Graph, Part, RowBlock, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe};
use serde_json::{Value, json};
use tempfile::tempdir;

fn convert(model: &Path, out: &Path, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvedge"));
    command.arg("convert").arg(model).arg(out).args(more);
    command.output().expect("the binary runs")
}

fn converted(model: &Path, out: &Path, more: &[&str]) {
    let output = convert(model, out, more);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn refused(model: &Path, out: &Path, more: &[&str], code: i32) -> String {
    let output = convert(model, out, more);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// The demo model, of two MB in 8 bits.
fn demo() -> PathBuf {
    repository().join("assets/demo")
}

/// Every file of a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
    entries.map(|path| (name(&path), fs::read(&path).expect("a file"))).collect()
}

/// Keeps what a load brings.
#[derive(Default)]
struct Keep(Vec<(WeightDesc, Vec<u8>)>);

impl WeightSink for Keep {
    type Error = SinkError;

    fn create_weight(&mut self, _: WeightId, desc: &WeightDesc) -> Result<(), SinkError> {
        self.0.push((desc.clone(), vec![]));
        Ok(())
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        self.0[id.0 as usize].1.extend(block.bytes);
        Box::pin(std::future::ready(Ok(())))
    }
}

fn load(checkpoint: &Checkpoint, graph: &Graph, choice: WeightChoice) -> Result<Keep, CheckpointError> {
    let mut keep = Keep::default();
    wait(checkpoint::load(checkpoint, graph, choice, &mut keep, &mut |_| {}))?;
    Ok(keep)
}

fn open(folder: &Path) -> Result<Checkpoint, CheckpointError> {
    wait(Checkpoint::open(Folder::open(folder).expect("a folder")))
}

fn graph(checkpoint: &Checkpoint) -> Graph {
    let config = Config::parse(checkpoint.config()).expect("a config");
    arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model").graph
}

/// The numbers of a weight.
fn numbers((desc, bytes): &(WeightDesc, Vec<u8>)) -> Vec<f32> {
    let mut out = vec![0.0; desc.rows * desc.columns];
    for (row, out) in bytes.chunks(desc.row_bytes()).zip(out.chunks_mut(desc.columns)) {
        match desc.format {
            WeightFormat::Quantised(format) => format.split(row, desc.columns).decode(out),
            WeightFormat::F32 => {
                out.iter_mut().zip(row.as_chunks().0).for_each(|(x, b)| *x = f32::from_le_bytes(*b));
            }
            WeightFormat::F16 => {
                out.iter_mut().zip(row.as_chunks().0).for_each(|(x, b)| *x = half::f16::from_le_bytes(*b).to_f32());
            }
            WeightFormat::Bf16 => {
                out.iter_mut().zip(row.as_chunks().0).for_each(|(x, b)| *x = half::bf16::from_le_bytes(*b).to_f32());
            }
        }
    }
    out
}

#[test]
fn what_is_written_is_what_would_be_loaded() {
    for (case, choices) in [
        ("hymba/caseA", &[WeightChoice::Q8, WeightChoice::Q4, WeightChoice::Q4m, WeightChoice::F16][..]),
        ("falcon_h1", &[WeightChoice::Q4]),
        ("nemotron_h_bias", &[WeightChoice::Q4m]),
    ] {
        let source = crate::support::checkpoint(case);
        let graph = graph(&source);
        for &choice in choices {
            let name = choice.name();
            let out = tempdir().expect("a folder");
            converted(&crate::support::folder(case), out.path(), &["--weights", &name]);
            let written = open(out.path()).expect("a checkpoint");
            let on_the_way = load(&source, &graph, choice).expect("it loads");
            let read_back = load(&written, &graph, WeightChoice::Auto).expect("it loads");
            for ((wanted, got), recipe) in on_the_way.0.iter().zip(&read_back.0).zip(&graph.weights) {
                assert_eq!(wanted.0.format, got.0.format, "{case} {name} {}", recipe.name);
                if recipe
                    .parts
                    .iter()
                    .all(|part| part.is_verbatim() || part.map == selvedge::graph::Map::Identity && part.scale == 1.0)
                {
                    assert!(wanted.1 == got.1, "{case} {name} {}: other bytes", recipe.name);
                    continue;
                }
                // Factors are folded into numbers before they are quantised, or into scales afterwards.
                let (wanted, got) = (numbers(wanted), numbers(got));
                let largest = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                let off = wanted.iter().zip(&got).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off <= 0.2 * largest, "{case} {name} {}: off by {off} of {largest}", recipe.name);
            }
        }
    }
}

#[test]
fn other_libraries_read_what_is_written() {
    let out = tempdir().expect("a folder");
    converted(&demo(), out.path(), &["--weights", "q4m", "--shard", "1"]);
    let files = files(out.path());
    let index: Value = serde_json::from_slice(&files["model.safetensors.index.json"]).expect("an index");
    let map = index["weight_map"].as_object().expect("a map");
    let mut seen = 0;
    for (name, bytes) in files.iter().filter(|(name, _)| name.ends_with(".safetensors")) {
        for tensor in safetensors::SafeTensors::deserialize(bytes).expect("a shard").names() {
            assert_eq!(map[tensor], json!(name), "{tensor}");
            seen += 1;
        }
    }
    assert!(seen == map.len() && seen > 100, "{seen} tensors, {} in the index", map.len());
    let config: Value = serde_json::from_slice(&files["config.json"]).expect("JSON");
    assert_eq!(config["quantization_config"]["quant_method"], "selvedge");
    assert_eq!(config["quantization_config"]["weights"], "q4m");
    assert_eq!(config["model_type"], "hymba");
}

#[test]
fn a_conversion_goes_on_where_it_was_cut() {
    let (source, whole, cut) = (demo(), tempdir().expect("a"), tempdir().expect("b"));
    let before = files(&source);
    let options = ["--weights", "q8", "--shard", "1"];
    converted(&source, whole.path(), &options);
    converted(&source, cut.path(), &options);
    let wanted = files(whole.path());
    assert!(wanted == files(cut.path()), "the same source and options give the same bytes");
    let shards: Vec<&String> = wanted.keys().filter(|name| name.ends_with(".safetensors")).collect();
    assert!(shards.len() >= 3, "{shards:?}");
    // As if it had stopped inside the second shard; the third is of another conversion.
    let path = |name: &str| cut.path().join(name);
    fs::remove_file(path("config.json")).expect("it was there");
    fs::rename(path(shards[1]), path(".selvedge-convert-1a2b3c4d.part")).expect("it was there");
    fs::write(path(shards[2]), &wanted[shards[0]]).expect("it can be written");
    let modified = |name: &str| fs::metadata(path(name)).expect("a file").modified().expect("a time");
    let first = modified(shards[0]);
    converted(&source, cut.path(), &options);
    assert!(wanted == files(cut.path()), "nothing else remains");
    assert_eq!(modified(shards[0]), first, "a finished shard stays");
    assert!(before == files(&source), "the source is as it was");
}

#[test]
fn misuse_is_told() {
    let (source, out) = (crate::support::folder("hymba/caseA"), tempdir().expect("a folder"));
    assert!(refused(&source, &source, &["--weights", "q8"], 2).contains("own folder"));
    assert!(refused(&source, out.path(), &["--weights", "auto"], 2).contains("possible values: f32,"));
    assert!(refused(&source, out.path(), &["--weights", "q5"], 2).contains("q4m"));
    assert!(refused(&source, out.path(), &[], 2).contains("--weights"));
    converted(&source, out.path(), &["--weights", "q8"]);
    assert!(refused(&source, out.path(), &["--weights", "q8"], 2).contains("holds a model already"));
    assert!(refused(Path::new("nowhere at all"), &out.path().join("b"), &["--weights", "q8"], 1).contains("nowhere"));
}

fn memory(config: &Value, tensors: &[(&str, &str, &[usize], Vec<u8>)]) -> Result<Checkpoint, CheckpointError> {
    let source = Memory::new().with("config.json", config.to_string().into_bytes());
    wait(Checkpoint::open(source.with("model.safetensors", file(tensors))))
}

/// A graph of nothing but one matrix, `w [2, 34]`.
fn one_matrix() -> Graph {
    let recipe = WeightRecipe::new("w", WeightClass::Matrix, vec![Part::all("w", &[2, 34])]);
    Graph { weights: vec![recipe], ..Graph::default() }
}

#[test]
fn folders_that_lie_are_refused_by_name() {
    let config = json!({"quantization_config": {"quant_method": "selvedge"}});
    let one = [0x00, 0x3c];
    let halves = |count: usize| one.repeat(count);
    let codes = || ("w", "U8", &[2_usize, 17][..], vec![0x11; 34]);
    let fault = |tensors: &[(&str, &str, &[usize], Vec<u8>)]| {
        let loaded = memory(&config, tensors).and_then(|it| load(&it, &one_matrix(), WeightChoice::Auto).map(|_| ()));
        loaded.expect_err("a lie").to_string()
    };
    let sound = [codes(), ("w.scales", "F16", &[2, 2], halves(4))];
    let loaded = load(&memory(&config, &sound).expect("sound"), &one_matrix(), WeightChoice::Auto).expect("sound");
    assert_eq!(numbers(&loaded.0[0])[..2], [-7.0, -7.0]);
    for (what, tensors) in [
        ("not there", vec![("w.scales", "F16", &[2_usize, 2][..], halves(4))]),
        ("[2, 1]", vec![codes(), ("w.scales", "F16", &[2, 1], halves(2))]),
        ("BF16", vec![codes(), ("w.scales", "BF16", &[2, 2], halves(4))]),
        ("I16", vec![("w", "I16", &[2, 17], vec![0; 68]), ("w.scales", "F16", &[2, 2], halves(4))]),
        ("minimums", vec![codes(), ("w.scales", "F16", &[2, 2], halves(4)), ("w.minimums", "F16", &[4], halves(4))]),
        ("matrix", vec![("w", "U8", &[34], vec![0; 34]), ("w.scales", "F16", &[34, 1], halves(34))]),
        ("row 1", vec![codes(), ("w.scales", "F16", &[2, 2], [halves(2), vec![0x00, 0x7c, 0, 0]].concat())]),
        ("U8", vec![codes()]),
    ] {
        let said = fault(&tensors);
        assert!(said.contains("`w`") && said.contains(what), "{what}: {said}");
    }
    // One of the checkpoint's tensors is of another shape than the model's.
    let wide = [("w", "U8", &[2_usize, 18][..], vec![0x11; 36]), ("w.scales", "F16", &[2, 2], halves(4))];
    assert!(fault(&wide).contains("[2, 36]"), "{}", fault(&wide));
    // A file that ends too early.
    let bytes = file(&sound);
    let cut = Memory::new().with("config.json", config.to_string().into_bytes());
    let cut = cut.with("model.safetensors", bytes[..bytes.len() - 1].to_vec());
    let said = wait(Checkpoint::open(cut)).map(|_| ()).expect_err("cut").to_string();
    assert!(said.contains("w.scales"), "{said}");
    for (method, named) in [
        (json!({"quant_method": "gptq"}), "`gptq`"),
        (json!({"quant_method": "modelopt", "quant_algo": "W4A8_AWQ"}), "`W4A8_AWQ`"),
        (json!({"bits": 4}), "quant_method"),
    ] {
        let said =
            memory(&json!({"quantization_config": method}), &sound).map(|_| ()).expect_err("unknown").to_string();
        assert!(said.contains(named) && said.contains("quantised while it loads"), "{said}");
    }
}

#[test]
fn fp8_is_read_with_its_scale() {
    let config = json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}});
    let codes: Vec<u8> = (0..68).map(|i| (i * 3 % 0x7f) | ((i % 2) << 7)).collect();
    let scale = |x: f32| x.to_le_bytes().to_vec();
    let tensors = |of: f32| {
        [
            ("w", "F8_E4M3", &[2_usize, 34][..], codes.clone()),
            ("w_scale", "F32", &[][..], scale(of)),
            ("w.input_scale", "F32", &[][..], scale(9.0)),
        ]
    };
    let load = |of: f32, choice| load(&memory(&config, &tensors(of))?, &one_matrix(), choice);
    let exact = numbers(&load(0.25, WeightChoice::F32).expect("FP8").0[0]);
    let wanted = |code: u8| {
        let (exponent, mantissa) = (i32::from(code >> 3 & 15), f32::from(code & 7) / 8.0);
        let x = if exponent == 0 { mantissa * 2f32.powi(-6) } else { (1.0 + mantissa) * 2f32.powi(exponent - 7) };
        0.25 * if code & 0x80 == 0 { x } else { -x }
    };
    assert_eq!(exact, codes.iter().map(|&code| wanted(code)).collect::<Vec<_>>());
    // `auto` keeps the codes, and a scale that is a power of two is as exact in f16.
    let auto = &load(0.25, WeightChoice::Auto).expect("FP8").0[0];
    assert_eq!((auto.0.format, numbers(auto)), (WeightFormat::FP8, exact.clone()));
    // Four bits of mantissa and a power of two fit bf16.
    let bf16 = &load(0.25, WeightChoice::Bf16).expect("FP8").0[0];
    assert_eq!((bf16.0.format, numbers(bf16)), (WeightFormat::Bf16, exact.clone()));
    let q8 = numbers(&load(0.25, WeightChoice::Q8).expect("FP8").0[0]);
    let largest = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
    assert!(q8.iter().zip(&exact).all(|(a, b)| (a - b).abs() <= largest / 200.0));
    assert!(load(f32::NAN, WeightChoice::F32).map(|_| ()).expect_err("no scale").to_string().contains("`w`"));
    // A block that holds the whole matrix is one scale too.
    let block = [("w", "F8_E4M3", &[2_usize, 34][..], codes.clone()), ("w_scale_inv", "F32", &[1, 1], scale(0.25))];
    let block = memory(&config, &block).expect("a block");
    let block = self::load(&block, &one_matrix(), WeightChoice::F32).expect("FP8");
    assert_eq!(numbers(&block.0[0]), exact);
}

#[test]
fn what_is_not_finite_is_not_converted() {
    let options = ["--weights", "q8"];
    // A matrix that is quantised, a vector that is copied, and a tensor that nobody reads.
    for (tensor, refused_as) in [
        ("lm_head.weight", Some("at [0, 3]")),
        ("model.final_layernorm.weight", Some("at [3]")),
        ("model.layers.0.self_attn.rotary_emb.inv_freq", None),
    ] {
        let (source, out) = (tempdir().expect("a folder"), tempdir().expect("a folder"));
        let weights = fs::read(crate::support::folder("falcon_h1").join("model.safetensors")).expect("a golden");
        let sound = safetensors::SafeTensors::deserialize(&weights).expect("a sound file");
        let mut tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)> =
            sound.iter().map(|(name, it)| (name.to_owned(), (it.shape().to_vec(), it.data().to_vec()))).collect();
        let changed = tensors.entry(tensor.into()).or_insert_with(|| (vec![8], vec![0; 32]));
        changed.1[12..16].copy_from_slice(&f32::NAN.to_le_bytes());
        let list: Vec<_> = tensors.iter().map(|(name, (shape, b))| (&name[..], "F32", &shape[..], b.clone())).collect();
        fs::write(source.path().join("model.safetensors"), file(&list)).expect("it can be written");
        fs::copy(crate::support::folder("falcon_h1").join("config.json"), source.path().join("config.json"))
            .expect("a config");
        match refused_as {
            None => converted(source.path(), out.path(), &options),
            Some(place) => {
                let said = refused(source.path(), out.path(), &options, 1);
                assert!(said.contains(tensor) && said.contains("NaN") && said.contains(place), "{said}");
                assert!(!out.path().join("config.json").exists(), "no model");
            }
        }
    }
}
