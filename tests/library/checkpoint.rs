//! Checkpoints: both dialects of configs, loading against an independent reading, and every kind of bad input.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::support::files::{file, raw};
use futures::future::LocalBoxFuture;
use half::{bf16, f16};
use safetensors::SafeTensors;
use selvedge::arch::{self, ArchOptions, Config, Model};
use selvedge::checkpoint::{
    self, Checkpoint, CheckpointError, Folder, LoadReport, Memory, SinkError, Source, SourceError, WeightChoice,
    WeightSink,
};
use selvedge::formats::{Rounding, quantise_row};
use selvedge::graph::{Graph, Part, RowBlock, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe};
use serde_json::{Value, json};

const CASES: [&str; 5] = ["hymba/caseA", "hymba/caseB", "hymba/caseC", "falcon_h1", "falcon_h1_rms"];

pub fn golden(case: &str) -> PathBuf {
    Path::new("tests/goldens").join(case)
}

pub fn text(case: &str, file: &str) -> String {
    std::fs::read_to_string(golden(case).join(file)).expect("a golden")
}

pub fn open(source: impl Source + 'static) -> Result<Checkpoint, CheckpointError> {
    pollster::block_on(Checkpoint::open(source))
}

fn build(checkpoint: &Checkpoint) -> Model {
    let config = Config::parse(checkpoint.config()).expect("a config");
    arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model")
}

/// Keeps what it is given, and holds the loader to the sink's contract.
#[derive(Default)]
pub struct Keep {
    weights: Vec<(WeightDesc, Vec<u8>)>,
    largest: usize,
}

impl WeightSink for Keep {
    type Error = SinkError;

    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<(), SinkError> {
        assert_eq!(id.0 as usize, self.weights.len(), "weights come in order");
        self.weights.push((desc.clone(), vec![]));
        Ok(())
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            assert_eq!(id.0 as usize + 1, self.weights.len(), "one weight at a time");
            let (desc, bytes) = &mut self.weights[id.0 as usize];
            let row = desc.row_bytes();
            assert_eq!(block.first * row, bytes.len(), "blocks come in order, without gaps");
            assert!(!block.bytes.is_empty() && block.bytes.len().is_multiple_of(row), "whole rows");
            bytes.extend(block.bytes);
            assert!(bytes.len() <= desc.rows * row);
            self.largest = self.largest.max(block.bytes.len());
            Ok(())
        })
    }
}

pub fn load(
    checkpoint: &Checkpoint,
    graph: &Graph,
    choice: WeightChoice,
) -> Result<(Keep, LoadReport), CheckpointError> {
    let mut sink = Keep::default();
    let mut last = (0, 0);
    let mut progress = |p: checkpoint::LoadProgress| {
        assert!(p.done > last.0 && p.done <= p.total && (last.1 == 0 || last.1 == p.total), "{p:?} after {last:?}");
        last = (p.done, p.total);
    };
    let report = pollster::block_on(checkpoint::load(checkpoint, graph, choice, &mut sink, &mut progress))?;
    assert_eq!(last, (report.read, report.read), "the progress ends at its total");
    assert!(sink.weights.iter().all(|(d, bytes)| bytes.len() as u64 == d.bytes()));
    assert_eq!(report.stored, sink.weights.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>());
    Ok((sink, report))
}

pub fn f32s(numbers: impl IntoIterator<Item = f32>) -> Vec<u8> {
    numbers.into_iter().flat_map(f32::to_le_bytes).collect()
}

pub fn memory(weights: Vec<u8>) -> Memory {
    Memory::new().with("config.json", b"{}".as_slice()).with("model.safetensors", weights)
}

/// A graph of nothing but one matrix.
pub fn one_matrix(parts: Vec<Part>) -> Graph {
    Graph { weights: vec![WeightRecipe::new("w", WeightClass::Matrix, parts)], ..Graph::default() }
}

#[test]
fn every_golden_builds_in_both_dialects() {
    for case in CASES {
        let checkpoint = open(Folder::open(golden(case)).expect("a folder")).expect(case);
        let model = build(&checkpoint);
        let promised = Config::parse(&text(case, "config.json")).expect(case);
        let promised = arch::build(&promised, None, &ArchOptions::default()).expect(case);
        assert_eq!(format!("{:?}", model.graph), format!("{:?}", promised.graph), "{case}: heads as the config says");
        let held: usize = checkpoint.shapes().values().map(|shape| shape.iter().product::<usize>()).sum();
        assert_eq!(model.graph.parameters(), held as u64, "{case}: every number of the file is used");
        if golden(case).join("config.v5.json").exists() {
            let newer = Config::parse(&text(case, "config.v5.json")).expect(case);
            let newer = arch::build(&newer, Some(&checkpoint.shapes()), &ArchOptions::default()).expect(case);
            assert_eq!(format!("{newer:?}"), format!("{model:?}"), "{case}");
            let bare = text(case, "config.json").replace("{\n   \"__float__\": \"Infinity\"\n  }", "Infinity");
            assert!(bare.contains("0.0,\n  Infinity"), "{case}");
            let bare = Config::parse(&bare).expect(case);
            let bare = arch::build(&bare, Some(&checkpoint.shapes()), &ArchOptions::default()).expect(case);
            assert_eq!(format!("{bare:?}"), format!("{model:?}"), "{case}");
        }
    }
}

#[test]
fn hymba_reads_its_rotary_fields_where_transformers_5_puts_them() {
    let release = text("hymba/caseA", "config.json");
    let mut newer: Value = serde_json::from_str(&release).expect("JSON");
    newer["rope_parameters"] = json!({"rope_type": newer["rope_type"], "rope_theta": newer["rope_theta"]});
    newer["rope_type"] = Value::Null;
    newer["rope_theta"] = Value::Null;
    let build = |text: &str| {
        arch::build(&Config::parse(text).expect("a config"), None, &ArchOptions::default()).map(|m| format!("{m:?}"))
    };
    assert_eq!(build(&newer.to_string()), build(&release));
    newer["rope_parameters"]["rope_type"] = "yarn".into();
    let error = build(&newer.to_string()).expect_err("another kind").to_string();
    assert!(error.contains("`rope_type` = \"yarn\""), "{error}");
}

#[test]
fn weights_are_what_the_recipes_say() {
    for case in CASES {
        let checkpoint = open(Folder::open(golden(case)).expect("a folder")).expect(case);
        let graph = build(&checkpoint).graph;
        let bytes = std::fs::read(golden(case).join("model.safetensors")).expect(case);
        let tensors = SafeTensors::deserialize(&bytes).expect(case);
        use WeightChoice::{Auto, Bf16, F16, F32, Q4, Q4m, Q8};
        for choice in [Auto, F32, F16, Bf16, Q8, Q4, Q4m] {
            let (sink, report) = load(&checkpoint, &graph, choice).expect(case);
            assert_eq!(report.unused, Vec::<String>::new(), "{case}");
            for (recipe, (desc, got)) in graph.weights.iter().zip(&sink.weights) {
                let mut numbers: Vec<f32> = vec![];
                for part in &recipe.parts {
                    let data = tensors.tensor(&part.tensor).expect("it is there").data();
                    let rows = part.rows.start * part.columns() * 4..part.rows.end * part.columns() * 4;
                    let read = data[rows].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("four")));
                    numbers.extend(read.map(|x| part.map.apply(x) * part.scale));
                }
                let format = match (recipe.class, choice) {
                    (WeightClass::Vector, _) | (_, Auto | F32) => WeightFormat::F32,
                    (_, F16) | (WeightClass::HighPrecision, Q8 | Q4 | Q4m) => WeightFormat::F16,
                    (_, Bf16) => WeightFormat::Bf16,
                    (WeightClass::Matrix, Q4) if recipe.columns.is_multiple_of(2) => WeightFormat::Q4,
                    (WeightClass::Matrix, Q4m) if recipe.columns.is_multiple_of(2) => WeightFormat::Q4M,
                    (_, Q8 | Q4 | Q4m) => WeightFormat::Q8,
                };
                assert_eq!(desc.format, format, "{case} {}", recipe.name);
                let wanted: Vec<u8> = match format {
                    WeightFormat::F32 => f32s(numbers),
                    WeightFormat::F16 => numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect(),
                    WeightFormat::Bf16 => numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
                    WeightFormat::Quantised(format) => {
                        let mut bytes = vec![0; desc.bytes() as usize];
                        let rows = numbers.chunks(desc.columns).zip(bytes.chunks_mut(desc.row_bytes()));
                        rows.for_each(|(x, row)| assert!(quantise_row(x, format, Rounding::MseSearch, row)));
                        bytes
                    }
                };
                assert!(*got == wanted, "{case} {} as {}", recipe.name, format.name());
            }
        }
    }
}

#[test]
fn auto_keeps_what_the_checkpoint_has() {
    let halves = |bits: u16| vec![bits as u8, (bits >> 8) as u8];
    let weights = file(&[
        ("half", "F16", &[1, 1], halves(0x3c01)),
        ("brain", "BF16", &[1, 1], halves(0x3f81)),
        ("single", "F32", &[1, 1], f32s([1.5])),
    ]);
    let checkpoint = open(memory(weights)).expect("a checkpoint");
    let stored = |names: &[&str]| {
        let parts = names.iter().map(|&name| Part::all(name, &[1, 1])).collect();
        let (sink, _) = load(&checkpoint, &one_matrix(parts), WeightChoice::Auto).expect("it loads");
        (sink.weights[0].0.format, sink.weights[0].1.clone())
    };
    assert_eq!(stored(&["half"]), (WeightFormat::F16, halves(0x3c01)));
    assert_eq!(stored(&["brain"]), (WeightFormat::Bf16, halves(0x3f81)));
    let wide = f32s([f16::from_bits(0x3c01).to_f32(), bf16::from_bits(0x3f81).to_f32(), 1.5]);
    assert_eq!(stored(&["half", "brain", "single"]), (WeightFormat::F32, wide), "parts that differ meet in f32");
}

/// Counts the bytes read of another source.
struct Counting(Memory, Rc<Cell<u64>>, Rc<Cell<u64>>);

impl Source for Counting {
    fn describe(&self, file: &str) -> String {
        self.0.describe(file)
    }

    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
        self.0.size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
        let length = range.end - range.start;
        self.1.set(self.1.get() + length);
        self.2.set(self.2.get().max(length));
        self.0.read(file, range)
    }
}

#[test]
fn only_headers_and_needed_rows_are_read_and_in_blocks() {
    let (rows, columns) = (3000, 2000);
    let numbers = |seed: usize| f32s((0..rows * columns).map(|i| ((i * 7 + seed) % 1000) as f32));
    let weights = file(&[
        ("first", "F32", &[rows, columns], numbers(1)),
        ("unused", "F32", &[rows, columns], numbers(2)),
        ("last", "F32", &[rows, columns], numbers(3)),
    ]);
    let header = 2 + 8 + u64::from_le_bytes(weights[..8].try_into().expect("eight"));
    let (read, largest) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let checkpoint = open(Counting(memory(weights), read.clone(), largest.clone())).expect("a checkpoint");
    assert_eq!(read.get(), header, "opening reads the config and the header");
    largest.set(0);
    let parts = vec![
        Part::all("last", &[rows, columns]).rows(100..2700),
        Part::all("first", &[rows, columns]).rows(0..1).scaled(2.0),
    ];
    let (sink, report) = load(&checkpoint, &one_matrix(parts), WeightChoice::F32).expect("it loads");
    assert_eq!(report.read, 2601 * columns as u64 * 4);
    assert_eq!(read.get(), header + report.read);
    assert_eq!(report.unused, ["unused"]);
    assert!(sink.largest <= 16 << 20 && largest.get() <= 16 << 20, "{} and {largest:?}", sink.largest);
    let first = 100 * columns * 4;
    assert!(sink.weights[0].1[..2600 * columns * 4] == numbers(3)[first..first + 2600 * columns * 4]);
}

#[test]
fn numbers_too_large_for_a_format_are_refused() {
    let mut numbers = vec![1.0; 40];
    numbers[33] = -70000.0;
    let checkpoint = open(memory(file(&[("big", "F32", &[4, 10], f32s(numbers))]))).expect("a checkpoint");
    let graph = one_matrix(vec![Part::all("big", &[4, 10])]);
    let error = load(&checkpoint, &graph, WeightChoice::F16).err().expect("too large for f16").to_string();
    for part in ["model.safetensors", "`big`", "-7e4", "row 3", "f16", "load with bf16 or f32 weights"] {
        assert!(error.contains(part), "no {part} in: {error}");
    }
    load(&checkpoint, &graph, WeightChoice::Bf16).expect("bf16 has the range of f32");
}

/// Files by name.
type Files = BTreeMap<String, Vec<u8>>;

/// Case A cut into shards, and its index.
fn shards() -> (Files, Value) {
    let bytes = std::fs::read(golden("hymba/caseA").join("model.safetensors")).expect("a golden");
    let tensors = SafeTensors::deserialize(&bytes).expect("a golden");
    let mut names = tensors.names();
    names.sort();
    let mut files = BTreeMap::new();
    let mut map = serde_json::Map::new();
    for (i, names) in names.chunks(60).enumerate() {
        let shard = format!("model-{i}.safetensors");
        let views = names.iter().map(|name| (*name, tensors.tensor(name).expect("it is there")));
        files.insert(shard.clone(), safetensors::serialize(views, None).expect("a shard"));
        map.extend(names.iter().map(|name| ((*name).to_owned(), shard.clone().into())));
    }
    (files, json!({"metadata": {}, "weight_map": map}))
}

fn sharded(files: Files, index: &Value) -> Memory {
    let memory = Memory::new()
        .with("config.json", text("hymba/caseA", "config.json").into_bytes())
        .with("model.safetensors.index.json", index.to_string().into_bytes());
    files.into_iter().fold(memory, |memory, (name, bytes)| memory.with(name, bytes))
}

#[test]
fn shards_are_read_like_one_file() {
    let (files, index) = shards();
    assert_eq!(files.len(), 3);
    let sharded = open(sharded(files, &index)).expect("shards");
    let whole = open(Folder::open(golden("hymba/caseA")).expect("a folder")).expect("one file");
    assert_eq!(sharded.shapes(), whole.shapes());
    let graph = build(&whole).graph;
    let [a, b] = [&sharded, &whole].map(|checkpoint| load(checkpoint, &graph, WeightChoice::F16).expect("it loads").0);
    assert!(a.weights == b.weights);
}

#[test]
fn bad_shards_are_named() {
    let refused = |change: &dyn Fn(&mut Files, &mut Value), wanted: &[&str]| {
        let (mut files, mut index) = shards();
        change(&mut files, &mut index);
        let error = open(sharded(files, &index)).err().unwrap_or_else(|| panic!("refused: {wanted:?}")).to_string();
        for part in wanted {
            assert!(error.contains(part), "no {part} in: {error}");
        }
    };
    refused(
        &|files, _| drop(files.remove("model-1.safetensors")),
        &["index.json", "`model-1.safetensors`", "download"],
    );
    let x = |shape: &[usize]| file(&[("x", "F32", shape, f32s(vec![0.0; shape.iter().product()]))]);
    let twice = |files: &mut Files, index: &mut Value, shapes: [&[usize]; 2]| {
        for (name, shape) in ["model-3.safetensors", "model-4.safetensors"].into_iter().zip(shapes) {
            files.insert(name.into(), x(shape));
            index["weight_map"][name] = name.into();
        }
    };
    let both = ["`model-3.safetensors`", "`model-4.safetensors`", "both hold tensor `x`"];
    refused(&|files, index| twice(files, index, [&[2], &[2]]), &[&both[..], &["does not say which"]].concat());
    refused(
        &|files, index| {
            twice(files, index, [&[2], &[3]]);
            index["weight_map"]["x"] = "model-3.safetensors".into();
        },
        &[&both[..], &["shapes"]].concat(),
    );
    for name in ["../model-0.safetensors", "/etc/model.safetensors", "a\\b.safetensors", "config.json"] {
        refused(&|_, index| index["weight_map"]["x"] = name.into(), &["`", name]);
    }
    refused(&|_, index| *index = json!({"metadata": {}}), &["index.json", "weight_map"]);
    refused(&|_, index| index["weight_map"] = json!([1]), &["index.json"]);
}

#[test]
fn bad_headers_are_named() {
    let refused = |weights: Vec<u8>, wanted: &[&str]| {
        let error = open(memory(weights)).err().unwrap_or_else(|| panic!("refused: {wanted:?}")).to_string();
        assert!(error.contains("model.safetensors"), "{error}");
        for part in wanted {
            assert!(error.contains(part), "no {part} in: {error}");
        }
    };
    let entry = |dtype: &str, shape: Value, from: i64, to: i64| json!({"dtype": dtype, "shape": shape, "data_offsets": [from, to]});
    let two = |a: Value, b: Value, data: usize| raw(&json!({"a": a, "b": b}).to_string(), &vec![0; data]);
    let one = |a: Value, data: usize| raw(&json!({"a": a}).to_string(), &vec![0; data]);

    refused(vec![], &["0 bytes"]);
    refused(vec![1, 2, 3], &["3 bytes"]);
    refused(u64::MAX.to_le_bytes().to_vec(), &["header of 18446744073709551615 bytes"]);
    refused(100_000_001u64.to_le_bytes().to_vec(), &["at most 100000000"]);
    refused(50u64.to_le_bytes().to_vec(), &["byte 58", "has 8"]);
    refused(raw("{\"a\": ", &[]), &["header", "EOF"]);
    refused(raw("[]", &[]), &["object of tensors"]);
    refused([&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), &["header"]);
    refused(raw(&format!("{{\"a\": {}", "[".repeat(10_000)), &[]), &["`a`"]);
    let whole = file(&[("a", "F32", &[2, 3], f32s([0.0; 6]))]);
    refused(whole[..whole.len() - 1].to_vec(), &["`a`", "0..24", "23 of data", "complete"]);
    refused([whole.as_slice(), &[0]].concat(), &["1 bytes after `a`"]);
    refused(one(entry("F32", json!([2, 3]), 0, 20), 20), &["`a`", "[2, 3] takes 24 bytes", "it has 20"]);
    refused(one(entry("F32", json!([1u64 << 40, 1u64 << 40]), 0, 20), 20), &["`a`", "impossible"]);
    refused(one(entry("F4", json!([3]), 0, 2), 2), &["`a`", "impossible"]);
    refused(one(entry("F32", json!([-1]), 0, 4), 4), &["`a`", "-1"]);
    refused(one(entry("F32", json!([1]), -4, 0), 4), &["`a`", "-4"]);
    refused(one(entry("F32", json!([1]), 8, 4), 8), &["`a`", "backwards"]);
    refused(one(json!({"dtype": "F32", "shape": [1], "data_offsets": [u64::MAX - 3, u64::MAX]}), 4), &["`a`"]);
    refused(one(json!({"dtype": 7, "shape": [1], "data_offsets": [0, 4]}), 4), &["`a`", "7"]);
    refused(one(json!({"shape": [1], "data_offsets": [0, 4]}), 4), &["`a`", "dtype"]);
    let single = |from, to| entry("F32", json!([1]), from, to);
    refused(two(single(0, 4), single(2, 6), 6), &["`b` begins at byte", "inside `a`"]);
    refused(two(single(0, 4), single(0, 4), 4), &["inside"]);
    refused(two(single(0, 4), single(8, 12), 12), &["4 bytes between `a` and tensor `b`"]);
    let a = single(0, 4).to_string();
    refused(raw(&format!("{{\"a\": {a}, \"a\": {a}}}"), &[0; 4]), &["`a` twice"]);
}

#[test]
fn odd_dtypes_are_refused_only_when_needed() {
    let weights = file(&[
        ("steps", "I64", &[1], vec![0; 8]),
        ("exotic", "X17", &[3], vec![0; 5]),
        ("w", "F32", &[1, 1], f32s([2.0])),
    ]);
    let checkpoint = open(memory(weights)).expect("the file itself is sound");
    let (_, report) = load(&checkpoint, &one_matrix(vec![Part::all("w", &[1, 1])]), WeightChoice::Auto).expect("w");
    assert_eq!(report.unused, ["exotic", "steps"]);
    for (name, dtype, shape) in [("steps", "I64", 1), ("exotic", "X17", 3)] {
        let graph = one_matrix(vec![Part::all(name, &[shape])]);
        let error = load(&checkpoint, &graph, WeightChoice::Auto).err().expect("not readable").to_string();
        assert!(error.contains(name) && error.contains(dtype) && error.contains("BF16"), "{error}");
    }
}

#[test]
fn weights_that_contradict_the_config_are_named() {
    let mut config: Value = serde_json::from_str(&text("hymba/caseA", "config.json")).expect("JSON");
    config["intermediate_size"] = 200.into();
    let weights = std::fs::read(golden("hymba/caseA").join("model.safetensors")).expect("a golden");
    let other = |config: &Value| {
        let config = config.to_string().into_bytes();
        let checkpoint = Memory::new().with("config.json", config).with("model.safetensors", weights.clone());
        let checkpoint = open(checkpoint).expect("a checkpoint");
        let graph = build(&checkpoint).graph;
        load(&checkpoint, &graph, WeightChoice::Auto).err().expect("they contradict").to_string()
    };
    let error = other(&config);
    for part in ["model.safetensors", "`model.layers.0.moe.experts.0.gate_proj.weight`", "[176, 80]", "[200, 80]"] {
        assert!(error.contains(part), "no {part} in: {error}");
    }
    config["intermediate_size"] = 176.into();
    config["num_hidden_layers"] = 9.into();
    config["layer_type"] = Value::Null;
    let error = other(&config);
    assert!(
        error.contains("lacks 19 ") && error.contains("`model.layers.8.") && error.contains("and 14 more"),
        "{error}"
    );
}

#[test]
fn a_refusing_sink_ends_the_load() {
    struct Full;
    impl WeightSink for Full {
        type Error = SinkError;

        fn create_weight(&mut self, _: WeightId, _: &WeightDesc) -> Result<(), SinkError> {
            Ok(())
        }
        fn write_weight<'a>(&'a mut self, _: WeightId, _: RowBlock<'a>) -> LocalBoxFuture<'a, Result<(), SinkError>> {
            Box::pin(async { Err("no room".into()) })
        }
    }
    let checkpoint = open(memory(file(&[("t", "F32", &[1, 1], f32s([2.0]))]))).expect("a checkpoint");
    let graph = one_matrix(vec![Part::all("t", &[1, 1])]);
    let (mut sink, mut progress) = (Full, |_: checkpoint::LoadProgress| {});
    let loaded = checkpoint::load(&checkpoint, &graph, WeightChoice::Auto, &mut sink, &mut progress);
    let error = pollster::block_on(loaded).expect_err("there is no room").to_string();
    assert!(error.contains("`w`") && error.contains("no room"), "{error}");
}

#[test]
fn recipes_that_do_not_fit_are_refused() {
    let weights = file(&[
        ("t", "F32", &[2, 2], f32s([1.0; 4])),
        ("u", "F32", &[1], f32s([1.0])),
        ("empty", "F32", &[2, 0], vec![]),
    ]);
    let checkpoint = open(memory(weights)).expect("a checkpoint");
    let all = || Part::all("t", &[2, 2]);
    let empty = Part::all("empty", &[2, 0]);
    for parts in
        [vec![all().rows(1..3)], vec![all().rows(1..1)], vec![all(), Part::all("u", &[1])], vec![empty], vec![]]
    {
        let error = load(&checkpoint, &one_matrix(parts), WeightChoice::Auto).err().expect("it cannot fit");
        assert!(matches!(error, CheckpointError::Recipe { .. }), "{error}");
    }
}

#[test]
fn folders_without_a_model_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let place = folder.path().display().to_string();
    let refused = |wanted: &str| {
        let error = open(Folder::open(folder.path()).expect("a folder")).err().expect("no model").to_string();
        assert!(error.contains(wanted) && error.contains(&place), "no {wanted} in: {error}");
    };
    refused("no config.json");
    std::fs::write(folder.path().join("config.json"), [0x7b, 0xff]).expect("written");
    refused("UTF-8");
    std::fs::write(folder.path().join("config.json"), "{}").expect("written");
    refused("no weights");
    std::fs::write(folder.path().join("model.safetensors"), "").expect("written");
    refused("0 bytes");
    std::fs::create_dir(folder.path().join("tokenizer.json")).expect("made");
    std::fs::copy(golden("falcon_h1").join("model.safetensors"), folder.path().join("model.safetensors"))
        .expect("copied");
    let checkpoint = open(Folder::open(folder.path()).expect("a folder")).expect("a checkpoint");
    assert_eq!(pollster::block_on(checkpoint.file("tokenizer.json")).expect("readable"), None);
    assert_eq!(pollster::block_on(checkpoint.file("../x")).expect("readable"), None);
    assert_eq!(pollster::block_on(checkpoint.file("config.json")).expect("readable"), Some(b"{}".to_vec()));
    std::fs::write(folder.path().join("config.json"), vec![b' '; 2 << 20]).expect("written");
    refused("2097152 bytes");
    let error = Folder::open(folder.path().join("nothing")).expect_err("not there").to_string();
    assert!(error.contains("nothing"), "{error}");
}
