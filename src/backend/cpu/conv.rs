//! Depthwise causal convolution. See [`ops::Conv`].

use super::math;
use super::memory::SlotStates;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::spans::SpanRows;
use crate::backend::Result;
use crate::graph::Function;
use crate::graph::ops;

/// A convolution of every span, the columns before it taken from the slot's state.
pub(super) struct Conv<'a> {
    /// `[count, channels]`
    pub x: Input<'a>,
    /// `[channels, d_conv]`; the last tap belongs to the row itself.
    pub weight: &'a [f32],
    /// One number a channel.
    pub bias: Option<&'a [f32]>,
    /// `[d_conv - 1, channels]` a slot, oldest first.
    pub state: &'a SlotStates,
    /// Applied to the sum.
    pub function: Function,
}

impl Conv<'_> {
    fn d_conv(&self) -> usize {
        self.weight.len() / self.x.width
    }

    /// The formula.
    pub fn reference(&self, spans: &[SpanRows], out: &mut Output<'_>) {
        let (channels, d_conv) = (self.x.width, self.d_conv());
        for span in spans {
            let before = self.state.of(span.slot);
            for t in 0..span.count {
                let row = out.row(span.row + t);
                for c in 0..channels {
                    let mut sum = self.bias.map_or(0.0, |bias| bias[c]);
                    for j in 0..d_conv {
                        // Row `t - (d_conv - 1) + j` of the span, or one of the rows before it.
                        let x = match (t + j).checked_sub(d_conv - 1) {
                            Some(t) => self.x.row(span.row + t)[c],
                            None => before[(t + j) * channels + c],
                        };
                        sum += self.weight[c * d_conv + j] * x;
                    }
                    row[c] = self.function.apply(sum);
                }
            }
        }
    }

    /// The same, rows on all threads.
    pub fn fast(&self, spans: &[SpanRows], out: &mut Output<'_>) {
        let (channels, d_conv) = (self.x.width, self.d_conv());
        out.fill(true, |row, out| {
            let span = spans[spans.partition_point(|span| span.row <= row) - 1];
            let (t, before) = (row - span.row, self.state.of(span.slot));
            match self.bias {
                Some(bias) => out.copy_from_slice(bias),
                None => out.fill(0.0),
            }
            for j in 0..d_conv {
                let x = match (t + j).checked_sub(d_conv - 1) {
                    Some(t) => self.x.row(span.row + t),
                    None => &before[(t + j) * channels..][..channels],
                };
                for ((out, weights), x) in out.iter_mut().zip(self.weight.chunks_exact(d_conv)).zip(x) {
                    *out += weights[j] * x;
                }
            }
            math::apply(self.function, out);
        });
    }
}

impl Run for ops::Conv {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (weight, bias) = (step.weights.vector(self.weight)?, step.weights.vector_opt(self.bias)?);
        let (x, state, function) = (step.input(self.x), step.memory.slots(self.state)?, self.function);
        let conv = Conv { x, weight, bias, state, function };
        if step.fast {
            conv.fast(step.spans, out);
        } else {
            conv.reference(step.spans, out);
        }
        Ok(())
    }
}
