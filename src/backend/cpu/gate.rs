//! `out = function(gate) * x`. See [`ops::Gate`].

use super::math;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::graph::Function;
use crate::graph::ops;

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
    /// The formula.
    pub fn reference(&self, out: &mut Output<'_>) {
        for (r, out) in out.rows().enumerate() {
            for ((out, &gate), &x) in out.iter_mut().zip(self.gate.row(r)).zip(self.x.row(r)) {
                *out = self.function.apply(gate) * x;
            }
        }
    }

    /// The same, rows on all threads.
    pub fn fast(&self, out: &mut Output<'_>) {
        out.fill(true, |r, out| {
            out.copy_from_slice(self.gate.row(r));
            math::apply(self.function, out);
            out.iter_mut().zip(self.x.row(r)).for_each(|(out, x)| *out *= x);
        });
    }
}

impl Run for ops::Gate {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let gate = Gate { gate: step.input(self.gate), x: step.input(self.x), function: self.function };
        if step.fast {
            gate.fast(out);
        } else {
            gate.reference(out);
        }
        Ok(())
    }
}
