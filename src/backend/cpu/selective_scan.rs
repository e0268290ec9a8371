//! The Mamba-1 recurrence. See [`ops::SelectiveScan`].
//!
//! The fast path gives each thread some channels of a span and walks the rows; a channel's `N` states
//! are updated side by side.

use super::math::softplus;
use super::memory::SlotStates;
use super::parallel;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::simd::{Kernel, LANES, Lanes, vectorised};
use super::spans::{SpanRows, Task, tasks};
use crate::backend::Result;
use crate::graph::ops;

/// Channels of one task.
const CHANNELS: usize = 32;

/// A scan over the rows of every span.
pub(super) struct SelectiveScan<'a> {
    /// `[count, channels]`
    pub x: Input<'a>,
    /// `[count, channels]`, before softplus.
    pub dt: Input<'a>,
    /// `[count, N]`
    pub b: Input<'a>,
    /// `[count, N]`
    pub c: Input<'a>,
    /// `[channels, N]`, negative.
    pub a: &'a [f32],
    /// `[channels]`
    pub d: &'a [f32],
}

impl SelectiveScan<'_> {
    /// The formula.
    pub fn reference(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
        let (channels, n) = (self.x.width, self.b.width);
        for span in spans {
            let state = states.of_mut(span.slot);
            for row in span.row..span.row + span.count {
                let (x, dt, b, c) = (self.x.row(row), self.dt.row(row), self.b.row(row), self.c.row(row));
                let out = out.row(row);
                for channel in 0..channels {
                    let delta = softplus(dt[channel]);
                    let mut y = f64::from(self.d[channel] * x[channel]);
                    for i in 0..n {
                        let s = &mut state[channel * n + i];
                        *s = (delta * self.a[channel * n + i]).exp() * *s + delta * x[channel] * b[i];
                        y += f64::from(*s) * f64::from(c[i]);
                    }
                    out[channel] = y as f32;
                }
            }
        }
    }

    /// The same in f32, in lanes and on all threads.
    pub fn fast(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
        let n = self.b.width;
        let cost = 16 * CHANNELS * n * out.count / spans.len().max(1);
        parallel::for_each(tasks(spans, states, CHANNELS * n, out, CHANNELS), cost, |task| {
            vectorised(Channels { scan: self, task });
        });
    }
}

/// Some channels of one span.
struct Channels<'a> {
    scan: &'a SelectiveScan<'a>,
    /// State `[channels, N]`, out `[rows][channels]`.
    task: Task<'a>,
}

impl Kernel for Channels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Self { scan, task: Task { span, block, state, out } } = self;
        let (first, n) = (block * CHANNELS, scan.b.width);
        let a = &scan.a[first * n..][..state.len()];
        for (row, out) in (span.row..).zip(out) {
            let (x, dt) = (&scan.x.row(row)[first..], &scan.dt.row(row)[first..]);
            let (b, c) = (scan.b.row(row), scan.c.row(row));
            let channels = state.chunks_exact_mut(n).zip(a.chunks_exact(n));
            for (i, (out, (state, a))) in out.iter_mut().zip(channels).enumerate() {
                *out = scan.d[first + i] * x[i] + step::<V>(state, a, b, c, softplus(dt[i]), x[i]);
            }
        }
    }
}

/// One row of one channel: updates its states and reads them through `c`.
#[inline(always)]
fn step<V: Lanes>(state: &mut [f32], a: &[f32], b: &[f32], c: &[f32], delta: f32, x: f32) -> f32 {
    let (state, state_rest) = state.as_chunks_mut::<LANES>();
    let ((a, a_rest), (b, b_rest), (c, c_rest)) = (a.as_chunks(), b.as_chunks(), c.as_chunks());
    let (steps, inputs) = (V::splat(delta), V::splat(delta * x));
    let mut sum = V::splat(0.0);
    for (((s, a), b), c) in state.iter_mut().zip(a).zip(b).zip(c) {
        let decay = steps.mul(V::load(a)).exp();
        let next = decay.mul_add(V::load(s), inputs.mul(V::load(b)));
        next.store(s);
        sum = next.mul_add(V::load(c), sum);
    }
    let mut sum = sum.sum();
    for (((s, a), b), c) in state_rest.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest) {
        *s = (delta * a).exp() * *s + delta * x * b;
        sum += *s * c;
    }
    sum
}

impl Run for ops::SelectiveScan {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (x, dt, b, c) = (step.input(self.x), step.input(self.dt), step.input(self.b), step.input(self.c));
        let (a, d) = (step.weights.vector(self.a)?, step.weights.vector(self.d)?);
        let scan = SelectiveScan { x, dt, b, c, a, d };
        let states = step.memory.slots_mut(self.state)?;
        if step.fast {
            scan.fast(step.spans, states, out);
        } else {
            scan.reference(step.spans, states, out);
        }
        Ok(())
    }
}
