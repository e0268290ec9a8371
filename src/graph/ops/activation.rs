//! Pointwise activations.

use super::{Function, Primitive};
use crate::graph::checks::equal;
use crate::graph::{Graph, GraphBuilder, ValueId, View};

/// `out = function(x) * scale`.
#[derive(Clone, Debug)]
pub struct Activation {
    /// `[width]`
    pub x: View,
    /// The function.
    pub function: Function,
    /// Factor on the result.
    pub scale: f32,
    /// `[width]`
    pub out: ValueId,
}

impl Primitive for Activation {
    const NAME: &'static str = "activation";

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}

impl GraphBuilder {
    /// See [`Activation`].
    pub fn activation(&mut self, name: impl Into<String>, x: View, function: Function, scale: f32) -> ValueId {
        let out = self.value(name, x.width, self.rows_of(x));
        self.push(Activation { x, function, scale, out });
        out
    }
}
