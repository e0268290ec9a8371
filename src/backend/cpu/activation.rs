//! `out = function(x) * scale`. See [`ops::Activation`].

use super::math;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::graph::Function;
use crate::graph::ops;

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
    /// The formula.
    pub fn reference(&self, out: &mut Output<'_>) {
        for (r, out) in out.rows().enumerate() {
            for (out, &x) in out.iter_mut().zip(self.x.row(r)) {
                *out = self.function.apply(x) * self.scale;
            }
        }
    }

    /// The same, rows on all threads.
    pub fn fast(&self, out: &mut Output<'_>) {
        out.fill(true, |r, out| {
            out.copy_from_slice(self.x.row(r));
            math::apply(self.function, out);
            out.iter_mut().for_each(|out| *out *= self.scale);
        });
    }
}

impl Run for ops::Activation {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let activation = Activation { x: step.input(self.x), function: self.function, scale: self.scale };
        if step.fast {
            activation.fast(out);
        } else {
            activation.reference(out);
        }
        Ok(())
    }
}
