//! The rows whose logits are wanted. See [`Op::Gather`](crate::graph::Op::Gather).

use super::rows::{Input, Output};

/// A copy of some rows.
pub(super) struct Gather<'a> {
    /// Where they are copied from.
    pub x: Input<'a>,
    /// The row of each output.
    pub rows: &'a [u32],
}

impl Gather<'_> {
    /// The formula.
    pub fn twin(&self, out: &mut Output<'_>) {
        for (out, &row) in out.rows().zip(self.rows) {
            out.copy_from_slice(self.x.row(row as usize));
        }
    }
}
