//! `out = function(x) * scale`. See [`Op::Activation`](crate::graph::Op::Activation).

use super::rows::{Input, Output};
use crate::graph::Function;

/// A pointwise function.
pub(super) struct Activation<'a> {
    /// Its argument.
    pub x: Input<'a>,
    /// The function.
    pub function: Function,
    /// Factor on the result.
    pub scale: f32,
}

impl Activation<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        out.fill(fast, |r, out| {
            for (out, &x) in out.iter_mut().zip(self.x.row(r)) {
                *out = self.function.apply(x) * self.scale;
            }
        });
    }
}
