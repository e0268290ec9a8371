//! Products with a gate.

use super::{Function, Primitive};
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, GraphBuilder, ValueId, View};

/// `out[c] = function(gate[c / (width / gates)]) * x[c]`: a gate for each column where there are as many (Shazeer 2020,
/// arXiv 2002.05202), else one for as many equal runs of columns, be they heads or the whole row. Without `x` it is an
/// [`Activation`](super::Activation).
#[derive(Clone, Debug)]
pub struct Gate {
    /// `[gates]`, a divisor of `width`.
    pub gate: View,
    /// `[width]`
    pub x: View,
    /// Applied to the gate.
    pub function: Function,
    /// `[width]`
    pub out: ValueId,
}

impl Gate {
    /// Columns that a gate is multiplied with.
    pub fn span(&self) -> usize {
        self.x.width / self.gate.width
    }
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
        divides("gates", self.gate.width, self.x.width)?;
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
