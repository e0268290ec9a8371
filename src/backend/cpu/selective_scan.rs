//! The Mamba-1 recurrence. See [`Op::SelectiveScan`](crate::graph::Op::SelectiveScan).

use super::math::softplus;
use super::memory::SlotStates;
use super::rows::{Input, Output};
use super::spans::SpanRows;

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
}
