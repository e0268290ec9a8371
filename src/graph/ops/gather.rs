//! The rows that logits are wanted of.

use super::Primitive;
use crate::graph::checks::equal;
use crate::graph::{Graph, ValueId, View};

/// `out[o] = x[output_row(o)]`: the rows whose logits are wanted.
#[derive(Clone, Debug)]
pub struct Gather {
    /// `[width]`
    pub x: View,
    /// `[outputs, width]`
    pub out: ValueId,
}

impl Primitive for Gather {
    const NAME: &'static str = "gather";

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        graph.check_outputs(self.out)?;
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}
