//! Leaves the last rows of every span in a convolution's state. See
//! [`ops::ConvAppend`].

use super::memory::SlotStates;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::spans::SpanRows;
use crate::backend::Result;
use crate::graph::ops;

/// An update of `[d_conv - 1, channels]`, oldest first.
pub(super) struct ConvAppend<'a> {
    /// `[count, channels]`
    pub x: Input<'a>,
}

impl ConvAppend<'_> {
    /// The formula.
    pub fn reference(&self, spans: &[SpanRows], state: &mut SlotStates) {
        let channels = self.x.width;
        for span in spans {
            let rows = state.of_mut(span.slot);
            let kept = rows.len() / channels;
            let fresh = span.count.min(kept);
            rows.copy_within(fresh * channels.., 0);
            for (i, row) in rows[(kept - fresh) * channels..].chunks_exact_mut(channels).enumerate() {
                row.copy_from_slice(self.x.row(span.row + span.count - fresh + i));
            }
        }
    }
}

impl Run for ops::ConvAppend {
    fn run(&self, step: &mut Operands<'_>, _: &mut Output<'_>) -> Result<()> {
        ConvAppend { x: step.input(self.x) }.reference(step.spans, step.memory.slots_mut(self.state)?);
        Ok(())
    }
}
