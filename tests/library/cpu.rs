//! What the CPU backend refuses.

use crate::common::checks;
use selvedge::backend::Backend;
use selvedge::backend::cpu::CpuBackend;

fn open() -> Box<dyn Backend> {
    Box::new(CpuBackend::new())
}

#[test]
fn steps_that_do_not_fit_are_refused() {
    checks::steps(open);
}

#[test]
fn values_that_are_not_kept_are_refused() {
    checks::values(open);
}

#[test]
fn weights_that_do_not_fit_are_refused() {
    checks::weights(open);
}

#[test]
fn slots_that_do_not_fit_are_refused() {
    checks::slots(open);
}

#[test]
fn memories_that_do_not_fit_are_refused() {
    checks::memories(open);
}

#[test]
fn no_step_table_is_fatal() {
    checks::tables(open);
}
