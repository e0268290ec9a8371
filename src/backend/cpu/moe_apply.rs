//! The chosen experts' feed-forward. See [`ops::MoeApply`].
//!
//! The fast path goes from expert to expert and runs all rows that chose it together, as two [`Linear`]s over
//! the expert's rows of the weights: an expert's weights are read once a step.

use super::linear::Linear;
use super::math;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::simd::Integers;
use super::weights::Weight;
use crate::backend::Result;
use crate::graph::Function;
use crate::graph::ops;

/// A weighted sum of experts for every row.
pub(super) struct MoeApply<'a> {
    /// `[count, inputs]`
    pub x: Input<'a>,
    /// `[count, 2 * top]`: ids, then weights.
    pub routes: Input<'a>,
    /// `[experts * (hidden or 2 * hidden), inputs]`
    pub up: &'a Weight,
    /// `[experts * outputs, hidden]`
    pub down: &'a Weight,
    /// Experts.
    pub experts: usize,
    /// Between the two.
    pub function: Function,
    /// `up` has two halves: what goes through the function, and what the result is multiplied with.
    pub gated: bool,
    /// What quantised weights are multiplied by in the fast path.
    pub integers: Option<Integers>,
}

impl MoeApply<'_> {
    /// The experts of a row with their weights. What is no expert is left out.
    fn chosen(&self, row: usize) -> impl Iterator<Item = (usize, f32)> {
        let (ids, weights) = self.routes.row(row).split_at(self.routes.width / 2);
        let pairs = ids.iter().zip(weights).map(|(&id, &weight)| (id as usize, weight));
        pairs.filter(|&(expert, _)| expert < self.experts)
    }

    /// The formula.
    pub fn reference(&self, out: &mut Output<'_>) {
        let (ups, hidden, outputs) = (self.up.rows / self.experts, self.down.columns, out.width);
        for (r, out) in out.rows().enumerate() {
            let x = self.x.row(r);
            let mut sums = vec![0.0; outputs];
            for (expert, weight) in self.chosen(r) {
                let up = |row: usize| -> f32 {
                    let row = expert * ups + row;
                    (0..x.len()).map(|i| f64::from(self.up.at(row, i)) * f64::from(x[i])).sum::<f64>() as f32
                };
                let inner = |i: usize| {
                    let active = self.function.apply(up(i));
                    if self.gated { active * up(hidden + i) } else { active }
                };
                let inner: Vec<f32> = (0..hidden).map(inner).collect();
                for (o, sum) in sums.iter_mut().enumerate() {
                    let row = expert * outputs + o;
                    let down = (0..hidden).map(|i| f64::from(self.down.at(row, i)) * f64::from(inner[i]));
                    *sum += f64::from(weight) * down.sum::<f64>();
                }
            }
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out = sum as f32);
        }
    }

    /// The same in f32, in lanes and on all threads.
    pub fn fast(&self, out: &mut Output<'_>) {
        let (ups, hidden, outputs) = (self.up.rows / self.experts, self.down.columns, out.width);
        let mut readers: Vec<Vec<(usize, f32)>> = vec![vec![]; self.experts];
        for row in 0..out.count {
            for (expert, weight) in self.chosen(row) {
                readers[expert].push((row, weight));
            }
        }
        out.rows().for_each(|out| out.fill(0.0));
        for (expert, readers) in readers.iter().enumerate().filter(|(_, readers)| !readers.is_empty()) {
            let count = readers.len();
            let x: Vec<f32> = readers.iter().flat_map(|&(row, _)| self.x.row(row)).copied().collect();
            let up = self.product(&x, self.up, expert * ups, ups, count);
            let inner: Vec<f32> =
                up.chunks_exact(ups).flat_map(|up| self.inner(&up[..hidden], &up[hidden..])).collect();
            let down = self.product(&inner, self.down, expert * outputs, outputs, count);
            for (&(row, weight), down) in readers.iter().zip(down.chunks_exact(outputs)) {
                out.row(row).iter_mut().zip(down).for_each(|(out, down)| *out += weight * down);
            }
        }
    }

    /// What goes into `down`.
    fn inner(&self, first: &[f32], second: &[f32]) -> Vec<f32> {
        let mut inner = first.to_vec();
        math::apply(self.function, &mut inner);
        if self.gated {
            inner.iter_mut().zip(second).for_each(|(inner, second)| *inner *= second);
        }
        inner
    }

    /// `count` rows of `x` times `rows` rows of a weight from `first` on.
    fn product(&self, x: &[f32], weight: &Weight, first: usize, rows: usize, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count * rows];
        let x = Input::new(x, weight.columns, 0, weight.columns);
        let linear = Linear { x, weight, first, bias: None, integers: self.integers };
        linear.fast(&mut Output::new(&mut out, rows, rows, count));
        out
    }
}

impl Run for ops::MoeApply {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (x, routes) = (step.whole(self.x), step.whole(self.routes));
        let (up, down) = (step.weights.get(self.up)?, step.weights.get(self.down)?);
        let &Self { experts, function, gated, .. } = self;
        let apply = MoeApply { x, routes, up, down, experts, function, gated, integers: step.integers };
        if step.fast {
            apply.fast(out);
        } else {
            apply.reference(out);
        }
        Ok(())
    }
}
