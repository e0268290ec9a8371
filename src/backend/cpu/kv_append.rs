//! Puts the keys and values of every span into their pools. See
//! [`ops::KvAppend`].

use super::memory::KvPools;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::spans::SpanRows;
use crate::backend::Result;
use crate::graph::ops;
use crate::state::SlotId;

/// Keys and values to be remembered.
pub(super) struct KvAppend<'a> {
    /// `[count, kv_heads * key_width]`, rotated.
    pub k: Input<'a>,
    /// `[count, kv_heads * value_width]`
    pub v: Input<'a>,
}

impl KvAppend<'_> {
    /// Stores position after position; in a ring a later one takes the row of an earlier one.
    pub fn reference(&self, spans: &[SpanRows], pools: &mut KvPools, pages: &[Vec<u32>]) {
        for span in spans {
            for t in 0..span.count {
                let row = pools.layout.row(SlotId(span.slot as u32), &pages[span.slot], span.position + t);
                pools.keys.write(row, self.k.row(span.row + t));
                pools.values.write(row, self.v.row(span.row + t));
            }
        }
    }
}

impl Run for ops::KvAppend {
    fn run(&self, step: &mut Operands<'_>, _: &mut Output<'_>) -> Result<()> {
        let append = KvAppend { k: step.input(self.k), v: step.input(self.v) };
        let (pools, pages) = step.memory.kv_mut(self.state)?;
        append.reference(step.spans, pools, pages);
        Ok(())
    }
}
