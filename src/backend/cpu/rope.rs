//! Rotary embedding, half-split. See [`ops::Rope`].

use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::graph::Rotary;
use crate::graph::ops::{self, Growth};

/// A rotation of every head by the angle of its row's position.
pub(super) struct Rope<'a> {
    /// `[count, heads * head]`
    pub x: Input<'a>,
    /// Heads.
    pub heads: usize,
    /// Radians per position of each pair.
    pub rotary: &'a Rotary,
    /// Growth with the position.
    pub growth: Option<Growth>,
    /// Position of every row.
    pub positions: &'a [u32],
}

impl Rope<'_> {
    /// The formula, row by row, angles in f64; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        let (head, pairs) = (self.x.width / self.heads, self.rotary.inverse_frequencies.len());
        out.fill(fast, |r, out| {
            let position = f64::from(self.positions[r]);
            out.copy_from_slice(self.x.row(r));
            for (j, &frequency) in self.rotary.inverse_frequencies.iter().enumerate() {
                let (sin, cos) = (position * f64::from(frequency)).sin_cos();
                let (sin, cos) = (sin as f32 * self.rotary.scale, cos as f32 * self.rotary.scale);
                for head in out.chunks_exact_mut(head) {
                    let (a, b) = (head[j], head[j + pairs]);
                    head[j] = a * cos - b * sin;
                    head[j + pairs] = b * cos + a * sin;
                }
            }
            if let Some(growth) = self.growth {
                let factor = growth.at(self.positions[r]);
                out.iter_mut().for_each(|x| *x *= factor);
            }
        });
    }
}

impl Run for ops::Rope {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (x, rotary) = (step.input(self.x), step.graph.rotary(self.rotary));
        let &Self { heads, growth, .. } = self;
        Rope { x, heads, rotary, growth, positions: step.positions }.run(step.fast, out);
        Ok(())
    }
}
