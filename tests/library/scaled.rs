//! FP8 and NVFP4 in every spelling, against the same numbers in f32.

use half::bf16;
use serde_json::{Value, json};

use crate::gguf::Files;
use crate::support::{cpu, files, folder, read, wait};
use selvedge::arch::{self, ArchOptions, Config};
use selvedge::checkpoint::{self, Checkpoint, ConvertOptions, LoadProgress, Memory, Storage, WeightChoice};
use selvedge::graph::{WeightClass, WeightFormat};
use selvedge::runtime::{Engine, EngineOptions};

/// A tensor of a file: name, dtype, shape, bytes.
type Tensor = (String, &'static str, Vec<usize>, Vec<u8>);

/// A spelling of a matrix: the tensors that stand for it, and the numbers that they mean.
type Spelling = fn(&str, &[f32], usize) -> (Vec<Tensor>, Vec<f32>);

/// Magnitude of a code of FP8 without its sign.
fn magnitude(bits: u8) -> f32 {
    match (bits >> 3, f32::from(bits & 7)) {
        (0, mantissa) => mantissa / 8.0 * 2f32.powi(-6),
        (exponent, mantissa) => (1.0 + mantissa / 8.0) * 2f32.powi(i32::from(exponent) - 7),
    }
}

/// The nearest code of FP8, and its number.
pub fn e4m3(x: f32) -> (u8, f32) {
    let off = |bits: u8| (magnitude(bits) - x.abs()).abs();
    let nearest = (0..0x7f).min_by(|&a, &b| off(a).total_cmp(&off(b))).expect("codes");
    (nearest | u8::from(x < 0.0) << 7, magnitude(nearest).copysign(x))
}

/// The nearest code of 4 bits, and its number.
fn e2m1(x: f32) -> (u8, f32) {
    const NUMBERS: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    let off = |code: &usize| (NUMBERS[*code] - x.abs()).abs();
    let nearest = (0..8).min_by(|a, b| off(a).total_cmp(&off(b))).expect("codes");
    (nearest as u8 | u8::from(x < 0.0) << 3, NUMBERS[nearest].copysign(x))
}

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn largest(numbers: impl Iterator<Item = f32>) -> f32 {
    numbers.fold(1e-3, |most, x| most.max(x.abs()))
}

/// FP8 in blocks of so many rows and columns, with scales that `store` rounds.
fn in_blocks(x: &[f32], columns: usize, block: [usize; 2], store: fn(f32) -> f32) -> (Vec<u8>, Vec<f32>, Vec<f32>) {
    let (down, across) = ((x.len() / columns).div_ceil(block[0]), columns.div_ceil(block[1]));
    let of = |index: usize| index / columns / block[0] * across + index % columns / block[1];
    let scale = |b: usize| store(largest((0..x.len()).filter(|&i| of(i) == b).map(|i| x[i])) / 448.0);
    let scales: Vec<f32> = (0..down * across).map(scale).collect();
    let coded: Vec<(u8, f32)> = (0..x.len()).map(|i| e4m3(x[i] / scales[of(i)])).collect();
    let numbers = coded.iter().enumerate().map(|(i, (_, number))| number * scales[of(i)]).collect();
    (coded.iter().map(|(code, _)| *code).collect(), scales, numbers)
}

fn fp8(
    name: &str,
    x: &[f32],
    columns: usize,
    block: [usize; 2],
    (end, dtype): (&str, &'static str),
    shape: Vec<usize>,
) -> (Vec<Tensor>, Vec<f32>) {
    let store: fn(f32) -> f32 = if dtype == "F32" { |x| x } else { |x| bf16::from_f32(x).to_f32() };
    let (codes, scales, numbers) = in_blocks(x, columns, block, store);
    let bytes = match dtype {
        "F32" => f32s(&scales),
        _ => scales.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
    };
    let codes = (name.to_owned(), "F8_E4M3", vec![x.len() / columns, columns], codes);
    (vec![codes, (format!("{name}{end}"), dtype, shape, bytes)], numbers)
}

/// NVFP4: codes, scales of 16 in FP8, and the factor of all.
fn nvfp4(x: &[f32], columns: usize) -> (Vec<u8>, Vec<u8>, f32, Vec<f32>) {
    let factor = largest(x.iter().copied()) / (6.0 * 448.0);
    let (mut codes, mut scales, mut numbers) = (vec![], vec![], vec![]);
    for group in x.chunks(16) {
        let (scale, value) = e4m3(largest(group.iter().copied()) / 6.0 / factor);
        scales.push(scale);
        let value = factor * value;
        let coded: Vec<(u8, f32)> = group.iter().map(|x| e2m1(x / value)).collect();
        codes.extend(coded.chunks(2).map(|pair| pair[0].0 | pair[1].0 << 4));
        numbers.extend(coded.iter().map(|(_, number)| value * number));
    }
    assert_eq!(columns % 16, 0);
    (codes, scales, factor, numbers)
}

const BLOCK: usize = 32;

/// Every spelling, by name.
const SPELLINGS: [(&str, Spelling); 9] = [
    ("one scale in f32", |name, x, columns| fp8(name, x, columns, [x.len(), columns], ("_scale", "F32"), vec![])),
    ("one scale in bf16", |name, x, columns| fp8(name, x, columns, [x.len(), columns], ("_scale", "BF16"), vec![1])),
    ("a scale a row, [rows, 1]", |name, x, columns| {
        fp8(name, x, columns, [1, columns], ("_scale", "F32"), vec![x.len() / columns, 1])
    }),
    ("a scale a row, [rows], in bf16", |name, x, columns| {
        fp8(name, x, columns, [1, columns], ("_scale", "BF16"), vec![x.len() / columns])
    }),
    ("blocks", |name, x, columns| {
        let shape = vec![(x.len() / columns).div_ceil(BLOCK), columns.div_ceil(BLOCK)];
        fp8(name, x, columns, [BLOCK; 2], ("_scale_inv", "F32"), shape)
    }),
    ("blocks, in bf16", |name, x, columns| {
        let shape = vec![(x.len() / columns).div_ceil(BLOCK), columns.div_ceil(BLOCK)];
        fp8(name, x, columns, [BLOCK; 2], ("_scale_inv", "BF16"), shape)
    }),
    ("blocks of four dimensions", |name, x, columns| {
        let shape = vec![(x.len() / columns).div_ceil(BLOCK), 1, columns.div_ceil(BLOCK), 1];
        fp8(name, x, columns, [BLOCK; 2], ("_scale", "F32"), shape)
    }),
    ("NVFP4 of Model-Optimizer", |name, x, columns| {
        let (codes, scales, factor, numbers) = nvfp4(x, columns);
        let rows = x.len() / columns;
        let tensors = vec![
            (name.to_owned(), "U8", vec![rows, columns / 2], codes),
            (format!("{name}_scale"), "F8_E4M3", vec![rows, columns / 16], scales),
            (format!("{name}_scale_2"), "F32", vec![], f32s(&[factor])),
        ];
        (tensors, numbers)
    }),
    ("NVFP4 of compressed-tensors", |name, x, columns| {
        let (codes, scales, factor, numbers) = nvfp4(x, columns);
        let rows = x.len() / columns;
        let tensors = vec![
            (format!("{name}_packed"), "U8", vec![rows, columns / 2], codes),
            (format!("{name}_scale"), "F8_E4M3", vec![rows, columns / 16], scales),
            (format!("{name}_global_scale"), "F32", vec![1], f32s(&[1.0 / factor])),
        ];
        (tensors, numbers)
    }),
];

/// A golden whose projections are spelled so, and the same in f32.
fn spelled(golden: &str, spelling: Spelling, method: Value) -> [Memory; 2] {
    let bytes = |file: &str| std::fs::read(folder(golden).join(file)).expect("a golden's file");
    let weights = bytes("model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&weights).expect("safetensors");
    let (mut scaled, mut plain): (Vec<Tensor>, Vec<Tensor>) = (vec![], vec![]);
    for (name, view) in tensors.tensors() {
        let numbers: Vec<f32> = view.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let shape = view.shape().to_vec();
        if name.ends_with("_proj.weight") && shape[1].is_multiple_of(16) {
            let (tensors, numbers) = spelling(&name, &numbers, shape[1]);
            scaled.extend(tensors);
            plain.push((name, "F32", shape, f32s(&numbers)));
        } else {
            scaled.push((name.clone(), "F32", shape.clone(), f32s(&numbers)));
            plain.push((name, "F32", shape, f32s(&numbers)));
        }
    }
    let file = |tensors: &[Tensor]| {
        let tensors: Vec<(&str, &str, &[usize], Vec<u8>)> = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| (name.as_str(), *dtype, &shape[..], bytes.clone()))
            .collect();
        files::file(&tensors)
    };
    let mut config: Value = serde_json::from_slice(&bytes("config.json")).expect("JSON");
    let plain =
        Memory::new().with("config.json", config.to_string().into_bytes()).with("model.safetensors", file(&plain));
    config["quantization_config"] = method;
    let scaled =
        Memory::new().with("config.json", config.to_string().into_bytes()).with("model.safetensors", file(&scaled));
    [scaled, plain]
}

fn logits(memory: Memory, choice: WeightChoice) -> Vec<f32> {
    let checkpoint = wait(Checkpoint::open(memory)).unwrap_or_else(|error| panic!("{error}"));
    let mut progress = |_: LoadProgress| {};
    let mut options = EngineOptions::new(&mut progress);
    options.weights = choice;
    let mut engine = wait(Engine::load(&checkpoint, (cpu().open)(), options)).expect("it loads");
    let slot = engine.open().expect("a slot");
    read(&mut engine, slot, &[1, 5, 9, 2, 7, 3], 4)
}

/// Formats of the matrices as they are stored by default.
fn formats(memory: Memory, widens_fp8: bool) -> Vec<WeightFormat> {
    let checkpoint = wait(Checkpoint::open(memory)).unwrap_or_else(|error| panic!("{error}"));
    let config = Config::parse(checkpoint.config()).expect("a config");
    let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model");
    let storage = Storage { widens_fp8, ..Storage::default() };
    let descs = checkpoint::stored(&checkpoint, &model.graph, storage).expect("weights");
    descs.iter().filter(|desc| desc.class == WeightClass::Matrix).map(|desc| desc.format).collect()
}

#[test]
fn every_spelling_means_its_numbers() {
    let mut seen = 0;
    for (what, spelling) in SPELLINGS {
        for method in [
            json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}),
            json!({"quant_method": "compressed-tensors", "format": "mixed-precision"}),
            json!({"quant_method": "fp8"}),
            Value::Null,
        ] {
            let [scaled, plain] = spelled("falcon_h1_rms", spelling, method);
            let (got, wanted) = (logits(scaled, WeightChoice::F32), logits(plain, WeightChoice::F32));
            let off = got.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            // A factor and its reciprocal may differ in the last bit.
            assert!(off <= 1e-4, "{what}: {off}");
            seen += 1;
        }
        // As they are stored by default, FP8's codes are what they were and scales within f16, NVFP4 within 8 bits.
        let [scaled, plain] = spelled("falcon_h1_rms", spelling, Value::Null);
        let kept = formats(scaled.clone(), false).contains(&WeightFormat::FP8);
        assert_eq!(kept, !what.contains("NVFP4"), "{what}");
        let wide = formats(scaled.clone(), true);
        assert!(!wide.contains(&WeightFormat::FP8) && (!kept || wide.contains(&WeightFormat::Bf16)), "{what}");
        let (got, wanted) = (logits(scaled, WeightChoice::Auto), logits(plain, WeightChoice::F32));
        let off = got.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(off < if kept { 0.01 } else { 0.3 }, "{what}: {off}");
    }
    assert_eq!(seen, 4 * SPELLINGS.len());
}

/// Blocks of which the first has no number but zero, and the scale that a quantiser gave it all the same.
fn dead_block(name: &str, x: &[f32], columns: usize) -> (Vec<Tensor>, Vec<f32>) {
    let (mut tensors, mut numbers) = SPELLINGS[4].1(name, x, columns);
    for at in 0..numbers.len() {
        if at / columns < BLOCK && at % columns < BLOCK {
            (tensors[0].3[at], numbers[at]) = (0, 0.0);
        }
    }
    tensors[1].3[..4].copy_from_slice(&1e-12_f32.to_le_bytes());
    (tensors, numbers)
}

#[test]
fn dead_blocks_and_conversions_keep_their_numbers() {
    let [scaled, plain] = spelled("falcon_h1_rms", dead_block, json!({"quant_method": "fp8"}));
    let wanted = logits(plain, WeightChoice::F32);
    let near = |what: &str, got: Vec<f32>, most: f32| {
        let off = got.iter().zip(&wanted).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(off < most, "{what}: {off}");
    };
    near("a dead block", logits(scaled.clone(), WeightChoice::Auto), 0.01);

    let checkpoint = wait(Checkpoint::open(scaled)).expect("a checkpoint");
    let config = Config::parse(checkpoint.config()).expect("a config");
    let model = arch::build(&config, Some(&checkpoint.shapes()), &ArchOptions::default()).expect("a model");
    let (mut files, mut progress) = (Files::default(), |_: LoadProgress| true);
    let options = ConvertOptions { storage: Storage::default(), shard: 1 << 30 };
    wait(checkpoint::convert(&checkpoint, &model.graph, options, None, &mut files, &mut progress)).expect("converted");
    let memory = files.done.into_iter().fold(Memory::new(), |memory, (name, bytes)| memory.with(name, bytes));
    near("a converted folder, in bf16", logits(memory, WeightChoice::Auto), 0.3);
}

#[test]
fn a_scale_beyond_the_format_is_told() {
    let tiny: Spelling = |name, x, columns| {
        let (mut tensors, numbers) = SPELLINGS[4].1(name, x, columns);
        tensors[1].3[..4].copy_from_slice(&1e-12_f32.to_le_bytes());
        (tensors, numbers)
    };
    let [scaled, _] = spelled("falcon_h1_rms", tiny, Value::Null);
    let checkpoint = wait(Checkpoint::open(scaled.clone())).expect("a checkpoint");
    let mut progress = |_: LoadProgress| {};
    let loaded = wait(Engine::load(&checkpoint, (cpu().open)(), EngineOptions::new(&mut progress)));
    let error = loaded.map(|_| ()).expect_err("no f16").to_string();
    assert!(error.contains("fp8 cannot hold") && error.contains("load with bf16"), "{error}");
    assert!(logits(scaled, WeightChoice::Bf16).iter().all(|x| x.is_finite()));
}

#[test]
fn what_does_not_fit_is_named() {
    let error = |spelling: Spelling, method: Value| {
        let [scaled, _] = spelled("falcon_h1_rms", spelling, method);
        let checkpoint = match wait(Checkpoint::open(scaled)) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return error.to_string(),
        };
        let mut progress = |_: LoadProgress| {};
        match wait(Engine::load(&checkpoint, (cpu().open)(), EngineOptions::new(&mut progress))) {
            Ok(_) => panic!("it loads"),
            Err(error) => error.to_string(),
        }
    };
    let cases: [(Spelling, Value, &[&str]); 6] = [
        (
            SPELLINGS[0].1,
            json!({"quant_method": "modelopt", "quant_algo": "NVFP4_AWQ"}),
            &["`modelopt` with `NVFP4_AWQ`"],
        ),
        (
            SPELLINGS[0].1,
            json!({"quant_method": "compressed-tensors", "format": "pack-quantized"}),
            &["pack-quantized"],
        ),
        (SPELLINGS[0].1, json!({"quant_method": "gptq"}), &["`gptq`", "compressed-tensors"]),
        (
            |name, x, columns| {
                let (mut tensors, numbers) = SPELLINGS[2].1(name, x, columns);
                (tensors[1].2, tensors[1].3) = (vec![7, 1], vec![0; 28]);
                (tensors, numbers)
            },
            Value::Null,
            &["_proj.weight", "no blocks of one size"],
        ),
        (
            |name, x, columns| {
                let (mut tensors, numbers) = SPELLINGS[2].1(name, x, columns);
                tensors[1].3[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                (tensors, numbers)
            },
            Value::Null,
            &["_proj.weight", "scale in row 0", "no finite number"],
        ),
        (
            |name, x, columns| {
                let (mut tensors, numbers) = SPELLINGS[7].1(name, x, columns);
                tensors.pop();
                (tensors, numbers)
            },
            Value::Null,
            &["_proj.weight", "NVFP4"],
        ),
    ];
    for (spelling, method, words) in cases {
        let error = error(spelling, method);
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    }
}
