//! Products with a gate for each column or for several. See [`ops::Gate`].

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
    /// `span` columns for each gate.
    pub x: Input<'a>,
    /// Columns that a gate is multiplied with.
    pub span: usize,
    /// The function.
    pub function: Function,
}

impl Gate<'_> {
    /// The formula.
    pub fn reference(&self, out: &mut Output<'_>) {
        for (r, out) in out.rows().enumerate() {
            for (c, (out, &x)) in out.iter_mut().zip(self.x.row(r)).enumerate() {
                *out = self.function.apply(self.gate.row(r)[c / self.span]) * x;
            }
        }
    }

    /// The same, rows on all threads.
    pub fn fast(&self, out: &mut Output<'_>) {
        out.fill(true, |r, out| {
            if self.span == 1 {
                out.copy_from_slice(self.gate.row(r));
                math::apply(self.function, out);
            } else {
                for (out, &gate) in out.chunks_exact_mut(self.span).zip(self.gate.row(r)) {
                    out.fill(self.function.apply(gate));
                }
            }
            out.iter_mut().zip(self.x.row(r)).for_each(|(out, x)| *out *= x);
        });
    }
}

impl Run for ops::Gate {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (gate, x) = (step.input(self.gate), step.input(self.x));
        let gate = Gate { gate, x, span: self.span(), function: self.function };
        if step.fast {
            gate.fast(out);
        } else {
            gate.reference(out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_for_one_column_or_for_several() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        for (gates, wanted) in [
            (&[1.0, 2.0, 3.0, -1.0, -2.0, -3.0][..], [1.0, 4.0, 9.0, -4.0, -10.0, -18.0]),
            (&[2.0, -1.0], [2.0, 4.0, 6.0, -4.0, -5.0, -6.0]),
            (&[0.5], [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]),
        ] {
            let gate = Gate {
                gate: Input::new(gates, gates.len(), 0, gates.len()),
                x: Input::new(&x, 6, 0, 6),
                span: 6 / gates.len(),
                function: Function::Identity,
            };
            let mut out = [[0.0; 6]; 2];
            gate.reference(&mut Output::new(&mut out[0], 6, 6, 1));
            gate.fast(&mut Output::new(&mut out[1], 6, 6, 1));
            assert_eq!(out, [wanted; 2]);
        }
    }
}
