//! Weights that are not finite numbers, and numbers that a format cannot hold.

use crate::checkpoint::{Keep, f32s, load, memory, one_matrix, open};
use crate::support::files::file;
use futures::future::LocalBoxFuture;
use half::{bf16, f16};
use selvedge::checkpoint::{self, CheckpointError, SinkError, WeightChoice, WeightSink};
use selvedge::graph::{Graph, Part, RowBlock, SourceBlock, WeightClass, WeightDesc, WeightId, WeightRecipe};

/// A dtype's name, a finite number, and those that are not.
type NotFinite = (&'static str, Vec<u8>, Vec<Vec<u8>>);

/// What is not finite, in every dtype that holds numbers: its name, a finite number, and those that are not.
fn not_finite() -> [NotFinite; 4] {
    let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
    let (f16s, bf16s) = (values.map(f16::from_f32), values.map(bf16::from_f32));
    let bytes = |x: f32| x.to_le_bytes().to_vec();
    [
        ("F32", bytes(0.5), values.map(bytes).to_vec()),
        ("F16", f16::from_f32(0.5).to_le_bytes().to_vec(), f16s.map(|x| x.to_le_bytes().to_vec()).to_vec()),
        ("BF16", bf16::from_f32(0.5).to_le_bytes().to_vec(), bf16s.map(|x| x.to_le_bytes().to_vec()).to_vec()),
        ("F8_E4M3", vec![0x30], vec![vec![0x7f], vec![0xff]]),
    ]
}

/// A device that quantises rows itself.
struct Quantises(Keep);

impl WeightSink for Quantises {
    type Error = SinkError;

    fn create_weight(&mut self, id: WeightId, desc: &WeightDesc) -> Result<(), SinkError> {
        self.0.create_weight(id, desc)
    }

    fn write_weight<'a>(&'a mut self, id: WeightId, block: RowBlock<'a>) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        self.0.write_weight(id, block)
    }

    fn quantises(&self) -> bool {
        true
    }

    fn quantise_weight<'a>(
        &'a mut self,
        _: WeightId,
        block: SourceBlock<'a>,
    ) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        assert!(block.bytes.len() >= 40 * 2, "whole rows");
        Box::pin(std::future::ready(Ok(())))
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name_and_place() {
    const CHOICES: [WeightChoice; 7] = [
        WeightChoice::Auto,
        WeightChoice::F32,
        WeightChoice::F16,
        WeightChoice::Bf16,
        WeightChoice::Q8,
        WeightChoice::Q4,
        WeightChoice::Q4m,
    ];
    let graph = |class| Graph {
        weights: vec![WeightRecipe::new("w", class, vec![Part::all("layer.weight", &[3, 40])])],
        ..Graph::default()
    };
    for (dtype, good, bad) in not_finite() {
        let of = |bytes: Vec<u8>| {
            // Nobody reads the other one.
            let tensors = [("layer.weight", dtype, &[3, 40][..], bytes), ("mask", "F32", &[1], f32s([f32::NAN]))];
            open(memory(file(&tensors))).expect("a sound file")
        };
        for class in [WeightClass::Matrix, WeightClass::HighPrecision, WeightClass::Embedding, WeightClass::Vector] {
            for choice in CHOICES {
                load(&of(good.repeat(120)), &graph(class), choice).expect("all are finite");
                for (x, place) in bad.iter().flat_map(|x| [0, 47, 119].map(|place| (x, place))) {
                    let mut bytes = good.repeat(120);
                    bytes[place * x.len()..][..x.len()].copy_from_slice(x);
                    let (checkpoint, mut device) = (of(bytes), Quantises(Keep::default()));
                    let loaded = load(&checkpoint, &graph(class), choice).map(|_| ());
                    let (graph, mut progress) = (graph(class), |_: checkpoint::LoadProgress| {});
                    let told = checkpoint::load(&checkpoint, &graph, choice, &mut device, &mut progress);
                    for result in [loaded, pollster::block_on(told).map(|_| ())] {
                        let error = result.expect_err("no number");
                        let said = error.to_string();
                        assert!(
                            matches!(&error, CheckpointError::NotFinite { index, .. } if *index == [place / 40, place % 40]),
                            "{dtype} as {}: {said}",
                            choice.name()
                        );
                        assert!(said.contains("`layer.weight`") && said.contains("model.safetensors"), "{said}");
                    }
                }
            }
        }
    }
}

#[test]
fn numbers_that_a_format_cannot_hold_are_refused_with_those_that_can() {
    let tensor = |dtype: &'static str, bytes| open(memory(file(&[("w", dtype, &[1, 4], bytes)]))).expect("a file");
    let bf16s = [1.0, 1e38, 2.0, 3.0].map(bf16::from_f32).map(bf16::to_le_bytes).concat();
    let graph = one_matrix(vec![Part::all("w", &[1, 4])]);
    for (choice, advice) in [
        (WeightChoice::F16, "bf16 or f32"),
        (WeightChoice::Q8, "bf16 or f32"),
        (WeightChoice::Q4, "bf16 or f32"),
        (WeightChoice::Q4m, "bf16 or f32"),
    ] {
        let error =
            load(&tensor("BF16", bf16s.clone()), &graph, choice).map(|_| ()).expect_err("too large").to_string();
        assert!(error.contains("`w`") && error.contains("row 0") && error.contains(advice), "{error}");
    }
    for choice in [WeightChoice::Auto, WeightChoice::Bf16, WeightChoice::F32] {
        load(&tensor("BF16", bf16s.clone()), &graph, choice).expect("it has the range");
    }
    let f32s = f32s([1.0, 2.0, -f32::MAX, 3.0]);
    let error = load(&tensor("F32", f32s), &graph, WeightChoice::Bf16).map(|_| ()).expect_err("rounds up").to_string();
    assert!(error.contains("`w`") && error.contains("f32"), "{error}");
    // A factor that is folded in.
    let scaled = one_matrix(vec![Part::all("w", &[1, 4]).scaled(1e10)]);
    let error =
        load(&tensor("BF16", bf16s), &scaled, WeightChoice::F32).map(|_| ()).expect_err("too large").to_string();
    assert!(error.contains("`w`") && error.contains("inf"), "{error}");
}
