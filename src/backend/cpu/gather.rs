//! The rows whose logits are wanted. See [`ops::Gather`].

use super::program::{Operands, Run};
use super::rows::{Input, Output};
use crate::backend::Result;
use crate::graph::ops;

/// A copy of some rows.
pub(super) struct Gather<'a> {
    /// Where they are copied from.
    pub x: Input<'a>,
    /// The row of each output.
    pub rows: &'a [u32],
}

impl Gather<'_> {
    /// The formula.
    pub fn reference(&self, out: &mut Output<'_>) {
        for (out, &row) in out.rows().zip(self.rows) {
            out.copy_from_slice(self.x.row(row as usize));
        }
    }
}

impl Run for ops::Gather {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        Gather { x: step.input(self.x), rows: &step.table.outputs }.reference(out);
        Ok(())
    }
}
