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
    /// The formula.
    pub fn twin(&self, out: &mut Output<'_>) {
        for (row, &token) in out.rows().zip(self.tokens) {
            for (column, out) in row.iter_mut().enumerate() {
                *out = self.table.at(token as usize, column) * self.scale;
            }
        }
    }
}
