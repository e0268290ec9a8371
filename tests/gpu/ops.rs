//! Every op, storage format and odd shape on the CPU, against the CPU references; [`crate::every_driver`] has them on WebGPU.

use std::collections::BTreeSet;

use crate::common::cases::{cases, looking_back};
use crate::common::{CaseResult, OpCase, compare, not_finite, run_case, starts_every_op};
use proptest::prelude::*;
use selvedge::backend::cpu::CpuBackend;
use selvedge::graph::Op;

#[test]
fn every_op_agrees_with_its_reference() {
    compare("cpu", 1.0, &mut CpuBackend::in_floats(), &cases());
}

/// What is rounded to 8 bits is off by at most 1/254 of the largest number of its group.
#[test]
fn quantised_weights_in_integers_agree_with_the_reference() {
    // Where tokens are chosen, it may be another one of two that are about as probable.
    let products = |case: &OpCase| case.is_quantised() && ["linear", "moe_apply"].contains(&case.op);
    let cases: Vec<OpCase> = cases().into_iter().filter(products).collect();
    assert!(cases.len() > 30, "{} cases", cases.len());
    compare("integers", 1e4, &mut CpuBackend::new(), &cases);
}

#[test]
fn what_is_not_finite_is_the_same_here() {
    for mut backend in [CpuBackend::reference(), CpuBackend::new()] {
        not_finite::logits(&mut backend);
        not_finite::experts(&mut backend);
        not_finite::norms(&mut backend);
        not_finite::convolutions(&mut backend);
        not_finite::pointwise(&mut backend);
    }
    not_finite::keys_and_values(&mut CpuBackend::new());
}

#[test]
fn every_op_starts_a_kernel() {
    starts_every_op("reference", &mut CpuBackend::reference(), &cases());
    for place in crate::support::places() {
        starts_every_op(place.name, &mut *(place.open)(), &cases());
    }
}

#[test]
fn the_table_has_every_op() {
    let all: BTreeSet<&str> = Op::NAMES.iter().copied().collect();
    let cases = cases();
    let of_cases: BTreeSet<&str> = cases.iter().map(|case| case.op).collect();
    assert_eq!(of_cases, all);
    for case in &cases {
        assert!(case.graph.ops.iter().any(|op| op.name() == case.op), "{case}: the op is not in its graph");
    }
    let names: BTreeSet<String> = cases.iter().map(OpCase::to_string).collect();
    assert_eq!(names.len(), cases.len(), "two rows of the table have one name");
}

/// The rows of every kept value, one step after the other.
fn rows(result: CaseResult, case: &OpCase) -> CaseResult {
    let mut values = vec![];
    for (i, &id) in case.keep.iter().enumerate() {
        let steps = result.values.iter().skip(i).step_by(case.keep.len());
        let rows: Vec<f32> = steps.flat_map(|(_, rows)| rows).copied().collect();
        values.push((case.graph.value(id).name.clone(), rows));
    }
    CaseResult { values, tokens: vec![], states: result.states }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// However a sequence is cut into spans, every row and what is remembered are the same.
    #[test]
    fn it_does_not_matter_where_spans_are_cut(
        total in 1..80_usize,
        more in 1..9_usize,
        lengths in proptest::collection::vec(1..20_usize, 0..8),
    ) {
        for case in looking_back(total, more) {
            let cut = case.cut(&lengths);
            // The CPU references walk row by row, so nothing at all may differ.
            for (mut backend, tolerance) in [(CpuBackend::reference(), 0.0), (CpuBackend::new(), 2e-6)] {
                let whole = rows(run_case(&mut backend, &case).expect("a case that runs"), &case);
                let parts = rows(run_case(&mut backend, &cut).expect("a case that runs"), &case);
                let (largest, place) = parts.difference(&whole).expect("the same shapes");
                prop_assert!(largest <= tolerance, "{case}: off by {largest:e} at {place}");
            }
        }
    }
}
