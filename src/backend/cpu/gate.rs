//! `out = function(gate) * x`. See [`Op::Gate`](crate::graph::Op::Gate).

use super::rows::{Input, Output};
use crate::graph::Function;

/// A pointwise product with an activated gate.
pub(super) struct Gate<'a> {
    /// Goes through the function.
    pub gate: Input<'a>,
    /// As wide as the gate.
    pub x: Input<'a>,
    /// The function.
    pub function: Function,
}

impl Gate<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        out.fill(fast, |r, out| {
            for ((out, &gate), &x) in out.iter_mut().zip(self.gate.row(r)).zip(self.x.row(r)) {
                *out = self.function.apply(gate) * x;
            }
        });
    }
}
