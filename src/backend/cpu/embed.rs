//! `out[r] = table[token(r)] * scale`. See [`Op::Embed`](crate::graph::Op::Embed).

use super::rows::Output;
use super::weights::Weight;

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
