//! `out = a + scale * b`. See [`ops::Add`].

use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::graph::ops;

/// A scaled sum.
pub(super) struct Add<'a> {
    /// Taken as it is.
    pub a: Input<'a>,
    /// As wide as `a`; scaled.
    pub b: Input<'a>,
    /// Factor on `b`.
    pub scale: f32,
}

impl Add<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        out.fill(fast, |r, out| {
            for ((out, &a), &b) in out.iter_mut().zip(self.a.row(r)).zip(self.b.row(r)) {
                *out = a + self.scale * b;
            }
        });
    }
}

impl Run for ops::Add {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        Add { a: step.input(self.a), b: step.input(self.b), scale: self.scale }.run(step.fast, out);
        Ok(())
    }
}
