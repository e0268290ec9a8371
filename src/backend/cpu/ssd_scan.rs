//! The Mamba-2 recurrence. See [`Op::SsdScan`](crate::graph::Op::SsdScan).

use super::math::softplus;
use super::memory::SlotStates;
use super::rows::{Input, Output};
use super::spans::SpanRows;

/// A scan over the rows of every span.
pub(super) struct SsdScan<'a> {
    /// `[count, heads * P]`
    pub x: Input<'a>,
    /// `[count, heads]`, before bias and softplus.
    pub dt: Input<'a>,
    /// `[count, groups * N]`
    pub b: Input<'a>,
    /// `[count, groups * N]`
    pub c: Input<'a>,
    /// `[heads]`, negative.
    pub a: &'a [f32],
    /// `[heads]`
    pub d: &'a [f32],
    /// `[heads]`
    pub dt_bias: &'a [f32],
    /// Least and largest step.
    pub limit: (f32, f32),
    /// Heads.
    pub heads: usize,
    /// Groups of heads that share `b` and `c`.
    pub groups: usize,
}

impl SsdScan<'_> {
    /// The step of a head in a row.
    fn delta(&self, row: usize, head: usize) -> f32 {
        softplus(self.dt.row(row)[head] + self.dt_bias[head]).max(self.limit.0).min(self.limit.1)
    }

    /// The formula.
    pub fn twin(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
        let (p, n) = (self.x.width / self.heads, self.b.width / self.groups);
        for span in spans {
            let state = states.of_mut(span.slot);
            for row in span.row..span.row + span.count {
                let (x, out) = (self.x.row(row), out.row(row));
                for h in 0..self.heads {
                    let group = h / (self.heads / self.groups);
                    let (b, c) = (&self.b.row(row)[group * n..][..n], &self.c.row(row)[group * n..][..n]);
                    let delta = self.delta(row, h);
                    let decay = (delta * self.a[h]).exp();
                    for i in 0..p {
                        let x = x[h * p + i];
                        let mut y = f64::from(self.d[h] * x);
                        for (s, (&b, &c)) in state[(h * p + i) * n..][..n].iter_mut().zip(b.iter().zip(c)) {
                            *s = decay * *s + delta * x * b;
                            y += f64::from(*s) * f64::from(c);
                        }
                        out[h * p + i] = y as f32;
                    }
                }
            }
        }
    }
}
