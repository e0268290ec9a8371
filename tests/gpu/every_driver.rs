//! The part of a model's computation that a driver can get wrong: `cargo xtask test` runs these tests on every driver,
//! the others on one.

use crate::common::cases::{cases, fewer};
use crate::common::{compare, not_finite};
use crate::support::{Place, adapter_or_skipped, wait, webgpu_basic, webgpu_or_skipped};
use crate::{goldens, quantise_on_device};
use selvedge::backend::Backend;
use selvedge::backend::webgpu::{WebGpuBackend, WebGpuOptions};

#[test]
fn the_self_test_passes_with_and_without_more_than_the_defaults() {
    let Some(place) = webgpu_or_skipped() else { return };
    // Limits and subgroups; where kernels take seconds to compile, each with and without, not every pair.
    let pairs = [(false, true), (true, false), (false, false), (true, true)];
    for &(default_limits, subgroups) in if place.slow { &pairs[..2] } else { &pairs } {
        let options = WebGpuOptions { default_limits, subgroups, ..Default::default() };
        let backend = wait(WebGpuBackend::new(&options)).expect("a device that computes rightly");
        println!("{:?}", backend.info());
        assert!(subgroups || !backend.info().subgroups);
        assert!(!default_limits || backend.info().max_binding == 128 << 20);
    }
}

/// Ops with a matrix of weights: half of the table.
const WITH_MATRICES: [&str; 3] = ["embed", "linear", "moe_apply"];

/// Holds the cases of some ops to the CPU references.
fn agree(of: impl Fn(&str) -> bool) {
    let Some(place) = webgpu_or_skipped() else { return };
    let mut cases = if place.slow { fewer() } else { cases() };
    cases.retain(|case| of(case.op));
    assert!(!cases.is_empty());
    compare(place.name, place.slack, &mut *(place.open)(), &cases);
}

#[test]
fn every_op_with_a_matrix_agrees_with_its_reference() {
    agree(|op| WITH_MATRICES.contains(&op));
}

#[test]
fn every_other_op_agrees_with_its_reference() {
    agree(|op| !WITH_MATRICES.contains(&op));
}

/// The other tests run the forms of many lanes, as far as the driver has those.
#[test]
fn the_forms_that_run_everywhere_agree_with_the_reference() {
    let Some(place) = webgpu_or_skipped() else { return };
    let mut cases = if place.slow { fewer() } else { cases() };
    cases.retain(|case| ["linear", "attention"].contains(&case.op));
    compare(&format!("{} (basic forms)", place.name), place.slack, &mut *webgpu_basic(), &cases);
    if !place.slow {
        goldens::every_kind_of_block(&Place { open: webgpu_basic, ..place });
    }
}

#[test]
fn what_is_not_finite_is_the_same_here() {
    let Some(place) = webgpu_or_skipped() else { return };
    for open in [place.open, webgpu_basic] {
        not_finite::logits(&mut *open());
        not_finite::keys_and_values(&mut *open());
        not_finite::experts(&mut *open());
        not_finite::norms(&mut *open());
        not_finite::convolutions(&mut *open());
        not_finite::pointwise(&mut *open());
    }
}

#[test]
fn every_kind_of_block_agrees_with_the_reference() {
    let Some(place) = webgpu_or_skipped() else { return };
    goldens::every_kind_of_block(&place);
}

#[test]
fn hymba_needs_no_more_than_webgpu_promises_everywhere() {
    let Some(place) = webgpu_or_skipped() else { return };
    goldens::hymba_with_defaults(&place);
}

#[test]
fn the_device_rounds_as_the_host_does() {
    if adapter_or_skipped() {
        quantise_on_device::rounds_as_the_host_does();
    }
}
