//! Every op, storage format and odd shape on every backend, against the twins.

mod common;
mod support;

use std::collections::BTreeSet;

use common::cases::{cases, looking_back};
use common::{CaseResult, OpCase, run_case};
use proptest::prelude::*;
use selvedge::backend::cpu::CpuBackend;
use selvedge::backend::{Backend, BackendError};

/// Runs the whole table on a backend and prints the largest difference of each row.
fn compare(name: &str, slack: f32, backend: &mut dyn Backend, cases: &[OpCase]) {
    let (mut faults, mut unsupported) = (vec![], 0);
    for case in cases {
        let wanted = run_case(&mut CpuBackend::twins(), case).expect("the twins run everything");
        assert!(wanted.values.iter().any(|(_, numbers)| !numbers.is_empty()), "{case}: nothing is compared");
        let got = match run_case(backend, case) {
            Err(error @ BackendError::Unsupported { .. }) => {
                println!("{name:8} {case:95} {error}");
                unsupported += 1;
                continue;
            }
            got => got.map_err(|error| error.to_string()),
        };
        let tolerance = case.tolerance * slack;
        match got.and_then(|got| got.difference(&wanted)) {
            Ok((largest, place)) => {
                println!("{name:8} {case:95} {largest:.1e} of {tolerance:.0e}");
                if largest > tolerance {
                    faults.push(format!("{name} {case}: off by {largest:e} at {place}"));
                }
            }
            Err(error) => faults.push(format!("{name} {case}: {error}")),
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), cases.len(), faults.join("\n"));
    assert!(unsupported * 20 <= cases.len(), "{name} leaves out {unsupported} of {} cases", cases.len());
}

#[test]
fn every_op_agrees_with_its_twin() {
    let cases = cases();
    for place in support::places() {
        compare(place.name, place.slack, &mut *(place.open)(), &cases);
    }
}

#[test]
fn the_table_has_every_op() {
    let all = [
        "activation",
        "add",
        "attention",
        "conv",
        "conv_append",
        "embed",
        "gate",
        "gather",
        "kv_append",
        "linear",
        "norm",
        "rope",
        "sample",
        "selective_scan",
        "ssd_scan",
    ];
    let cases = cases();
    let of_cases: BTreeSet<&str> = cases.iter().map(|case| case.op).collect();
    assert_eq!(of_cases.into_iter().collect::<Vec<_>>(), all);
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
            // The twins walk row by row, so nothing at all may differ.
            for (mut backend, tolerance) in [(CpuBackend::twins(), 0.0), (CpuBackend::new(), 2e-6)] {
                let whole = rows(run_case(&mut backend, &case).expect("a case that runs"), &case);
                let parts = rows(run_case(&mut backend, &cut).expect("a case that runs"), &case);
                let (largest, place) = parts.difference(&whole).expect("the same shapes");
                prop_assert!(largest <= tolerance, "{case}: off by {largest:e} at {place}");
            }
        }
    }
}
