//! The Mamba-2 recurrence. See [`ops::SsdScan`].
//!
//! The fast path gives each thread a head of a span and walks the rows; the `N` states of a column are
//! updated side by side.

use super::math::softplus;
use super::memory::SlotStates;
use super::parallel;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::simd::{Kernel, LANES, Lanes, vectorised};
use super::spans::{SpanRows, Task, tasks};
use crate::backend::Result;
use crate::graph::ops;

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
        let step = softplus(self.dt.row(row)[head] + self.dt_bias[head]);
        // NaN stays NaN.
        match step {
            _ if step < self.limit.0 => self.limit.0,
            _ if step > self.limit.1 => self.limit.1,
            _ => step,
        }
    }

    /// The formula.
    pub fn reference(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
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

    /// The same in f32, in lanes and on all threads.
    pub fn fast(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
        let (p, n) = (self.x.width / self.heads, self.b.width / self.groups);
        let cost = 4 * p * n * out.count / spans.len().max(1);
        parallel::for_each(tasks(spans, states, p * n, out, p), cost, |task| vectorised(Head { scan: self, task }));
    }
}

/// One head of one span.
struct Head<'a> {
    scan: &'a SsdScan<'a>,
    /// State `[P, N]`, out `[rows][P]`.
    task: Task<'a>,
}

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Self { scan, task: Task { span, block: head, state, out } } = self;
        let n = scan.b.width / scan.groups;
        let group = head / (scan.heads / scan.groups);
        for (row, out) in (span.row..).zip(out) {
            let x = &scan.x.row(row)[head * out.len()..];
            let (b, c) = (&scan.b.row(row)[group * n..][..n], &scan.c.row(row)[group * n..][..n]);
            let delta = scan.delta(row, head);
            let decay = (delta * scan.a[head]).exp();
            for ((out, state), &x) in out.iter_mut().zip(state.chunks_exact_mut(n)).zip(x) {
                *out = scan.d[head] * x + step::<V>(state, decay, delta * x, b, c);
            }
        }
    }
}

/// One row of one column of a head: updates its states and reads them through `c`.
#[inline(always)]
fn step<V: Lanes>(state: &mut [f32], decay: f32, input: f32, b: &[f32], c: &[f32]) -> f32 {
    let (state, state_rest) = state.as_chunks_mut::<LANES>();
    let ((b, b_rest), (c, c_rest)) = (b.as_chunks(), c.as_chunks());
    let (decays, inputs) = (V::splat(decay), V::splat(input));
    let mut sum = V::splat(0.0);
    for ((s, b), c) in state.iter_mut().zip(b).zip(c) {
        let next = decays.mul_add(V::load(s), inputs.mul(V::load(b)));
        next.store(s);
        sum = next.mul_add(V::load(c), sum);
    }
    let mut sum = sum.sum();
    for ((s, b), c) in state_rest.iter_mut().zip(b_rest).zip(c_rest) {
        *s = decay * *s + input * b;
        sum += *s * c;
    }
    sum
}

impl Run for ops::SsdScan {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (x, dt, b, c) = (step.input(self.x), step.input(self.dt), step.input(self.b), step.input(self.c));
        let [a, d, dt_bias] = [self.a, self.d, self.dt_bias].map(|weight| step.weights.vector(weight));
        let &Self { limit, heads, groups, .. } = self;
        let scan = SsdScan { x, dt, b, c, a: a?, d: d?, dt_bias: dt_bias?, limit, heads, groups };
        let states = step.memory.slots_mut(self.state)?;
        if step.fast {
            scan.fast(step.spans, states, out);
        } else {
            scan.reference(step.spans, states, out);
        }
        Ok(())
    }
}
