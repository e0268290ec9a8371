//! Speculation on a GPU: rows verified by the kernels of several rows, states that go back on the device.

use crate::support::{drafts, webgpu_or_skipped};

#[test]
fn drafts_are_the_references() {
    if let Some(place) = webgpu_or_skipped() {
        drafts::are_the_references(&place);
    }
}

#[test]
fn texts_are_those_without_drafts() {
    if let Some(place) = webgpu_or_skipped() {
        drafts::texts_are_the_same(&place);
    }
}

#[test]
fn a_draft_that_is_always_right_fills_every_step() {
    if let Some(place) = webgpu_or_skipped() {
        drafts::always_right(&place);
    }
}

#[test]
fn sessions_go_on_after_drafts() {
    if let Some(place) = webgpu_or_skipped() {
        drafts::sessions_go_on(&place);
    }
}

#[test]
fn a_request_alone_speculates_in_the_scheduler() {
    if let Some(place) = webgpu_or_skipped() {
        drafts::scheduled(&place);
    }
}
