//! The Mamba-1 recurrence. See [`Op::SelectiveScan`](crate::graph::Op::SelectiveScan).
//!
//! The fast path gives each thread some channels of a span and walks the rows; a channel's `N` states
//! are updated side by side.

use super::math::softplus;
use super::memory::SlotStates;
use super::parallel;
use super::rows::{Input, Output};
use super::simd::{self, Kernel, vectorised};
use super::spans::{SpanRows, tasks};

/// Channels of one task.
const CHANNELS: usize = 32;
/// States updated side by side.
const LANES: usize = 8;

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
    pub fn twin(&self, spans: &[SpanRows], states: &mut SlotStates, out: &mut Output<'_>) {
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
            let first = task.block * CHANNELS;
            let a = &self.a[first * n..][..task.state.len()];
            vectorised(Channels { scan: self, first, row: task.span.row, a, state: task.state, out: task.out });
        });
    }
}

/// Some channels of one span.
struct Channels<'a> {
    scan: &'a SelectiveScan<'a>,
    /// First channel.
    first: usize,
    /// First row.
    row: usize,
    /// `[channels, N]`
    a: &'a [f32],
    /// `[channels, N]`
    state: &'a mut [f32],
    /// `[rows][channels]`
    out: Vec<&'a mut [f32]>,
}

impl Kernel for Channels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self { scan, first, row, a, state, out } = self;
        let n = scan.b.width;
        for (row, out) in (row..).zip(out) {
            let (x, dt) = (&scan.x.row(row)[first..], &scan.dt.row(row)[first..]);
            let (b, c) = (scan.b.row(row), scan.c.row(row));
            let channels = state.chunks_exact_mut(n).zip(a.chunks_exact(n));
            for (i, (out, (state, a))) in out.iter_mut().zip(channels).enumerate() {
                let y = step::<FMA>(state, a, b, c, softplus(dt[i]), x[i]);
                *out = simd::mul_add::<FMA>(scan.d[first + i], x[i], y);
            }
        }
    }
}

/// One row of one channel: updates its states and reads them through `c`.
#[inline(always)]
fn step<const FMA: bool>(state: &mut [f32], a: &[f32], b: &[f32], c: &[f32], delta: f32, x: f32) -> f32 {
    let update = |s: &mut f32, a: f32, b: f32| {
        *s = simd::mul_add::<FMA>(simd::exp::<FMA>(delta * a), *s, delta * x * b);
        *s
    };
    let (state, state_rest) = state.as_chunks_mut::<LANES>();
    let ((a, a_rest), (b, b_rest), (c, c_rest)) = (a.as_chunks(), b.as_chunks(), c.as_chunks());
    let mut sums = [0.0; LANES];
    for (((s, a), b), c) in state.iter_mut().zip(a).zip(b).zip(c) {
        let (a, b, c): (&[f32; LANES], &[f32; LANES], &[f32; LANES]) = (a, b, c);
        for lane in 0..LANES {
            sums[lane] = simd::mul_add::<FMA>(update(&mut s[lane], a[lane], b[lane]), c[lane], sums[lane]);
        }
    }
    let rest = state_rest.iter_mut().zip(a_rest).zip(b_rest).zip(c_rest);
    simd::total(sums) + rest.map(|(((s, &a), &b), &c)| update(s, a, b) * c).sum::<f32>()
}
