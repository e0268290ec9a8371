//! `out[r] = table[token(r)] * scale`. See [`ops::Embed`].

use super::program::{Operands, Run};
use super::rows::Output;
use super::weights::Weight;
use crate::backend::Result;
use crate::graph::ops;

/// One lookup a row.
pub(super) struct Embed<'a> {
    /// `[ids, width]`
    pub table: &'a Weight,
    /// Id of every row, all of them inside the table.
    pub tokens: &'a [u32],
    /// Factor on every number.
    pub scale: f32,
}

impl Embed<'_> {
    /// The formula, row by row; with `fast` on all threads.
    pub fn run(&self, fast: bool, out: &mut Output<'_>) {
        out.fill(fast, |r, out| {
            for (column, out) in out.iter_mut().enumerate() {
                *out = self.table.at(self.tokens[r] as usize, column) * self.scale;
            }
        });
    }
}

impl Run for ops::Embed {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        Embed { table: step.weights.get(self.table)?, tokens: step.tokens, scale: self.scale }.run(step.fast, out);
        Ok(())
    }
}
