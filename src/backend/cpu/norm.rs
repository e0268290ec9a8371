//! RMS, Layer and L2 norms over groups of columns. See [`ops::Norm`].

use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::graph::NormKind;
use crate::graph::ops;

/// A norm of every row.
pub(super) struct Norm<'a> {
    /// What is normed.
    pub x: Input<'a>,
    /// Which statistics.
    pub kind: NormKind,
    /// Equal runs of columns, each normed for itself.
    pub groups: usize,
    /// Added below the root.
    pub eps: f32,
    /// As wide as `x`, or as one group.
    pub weight: Option<&'a [f32]>,
    /// As wide as `x`, or as one group.
    pub bias: Option<&'a [f32]>,
}

impl Norm<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        let group = self.x.width / self.groups;
        out.fill(fast, |r, out| {
            for (g, (x, out)) in self.x.row(r).chunks_exact(group).zip(out.chunks_exact_mut(group)).enumerate() {
                let (mean, factor) = self.statistics(x);
                for (i, (x, out)) in x.iter().zip(out).enumerate() {
                    let normed = ((f64::from(*x) - mean) * factor) as f32;
                    // A weight as wide as one group is shared by all of them.
                    let column = g * group + i;
                    let weight = self.weight.map_or(1.0, |w| w[column % w.len()]);
                    let bias = self.bias.map_or(0.0, |b| b[column % b.len()]);
                    *out = normed * weight + bias;
                }
            }
        });
    }

    /// What is subtracted, and what is multiplied with.
    fn statistics(&self, x: &[f32]) -> (f64, f64) {
        let (n, eps) = (x.len() as f64, f64::from(self.eps));
        let squares = |mean: f64| x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>();
        match self.kind {
            NormKind::Rms => (0.0, 1.0 / (squares(0.0) / n + eps).sqrt()),
            NormKind::L2 => (0.0, 1.0 / (squares(0.0) + eps).sqrt()),
            NormKind::Layer => {
                let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
                (mean, 1.0 / (squares(mean) / n + eps).sqrt())
            }
        }
    }
}

impl Run for ops::Norm {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (weight, bias) = (step.weights.vector_opt(self.weight)?, step.weights.vector_opt(self.bias)?);
        let (x, kind, groups, eps) = (step.input(self.x), self.kind, self.groups, self.eps);
        Norm { x, kind, groups, eps, weight, bias }.run(step.fast, out);
        Ok(())
    }
}
