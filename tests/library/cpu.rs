//! What the CPU backend refuses.

use crate::common::refusals;
use selvedge::backend::Backend;
use selvedge::backend::cpu::CpuBackend;

fn open() -> Box<dyn Backend> {
    Box::new(CpuBackend::new())
}

#[test]
fn steps_that_do_not_fit_are_refused() {
    refusals::steps(open);
}

#[test]
fn values_that_are_not_kept_are_refused() {
    refusals::values(open);
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    refusals::weights(open);
}

#[test]
fn slots_that_do_not_fit_are_refused() {
    refusals::slots(open);
}

#[test]
fn memories_that_do_not_fit_are_refused() {
    refusals::memories(open);
}

#[test]
fn no_step_table_is_fatal() {
    refusals::tables(open);
}
