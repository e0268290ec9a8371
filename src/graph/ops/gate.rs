//! Products with a gate.

use super::{Function, Primitive};
use crate::graph::checks::equal;
use crate::graph::{Graph, GraphBuilder, ValueId, View};

/// `out = function(gate) * x`. Shazeer 2020, arXiv 2002.05202. Without `x` it is an [`Activation`](super::Activation).
#[derive(Clone, Debug)]
pub struct Gate {
    /// `[width]`
    pub gate: View,
    /// `[width]`
    pub x: View,
    /// Applied to the gate.
    pub function: Function,
    /// `[width]`
    pub out: ValueId,
}

impl Primitive for Gate {
    const NAME: &'static str = "gate";

    fn reads(&self) -> Vec<View> {
        vec![self.gate, self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        equal("width of the gate", self.gate.width, self.x.width)?;
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}

impl GraphBuilder {
    /// See [`Gate`].
    pub fn gate(&mut self, name: impl Into<String>, gate: View, x: View, function: Function) -> ValueId {
        let out = self.value(name, x.width, self.rows_of(x));
        self.push(Gate { gate, x, function, out });
        out
    }
}
