//! Scaled sums.

use super::Primitive;
use crate::graph::checks::equal;
use crate::graph::{Graph, GraphBuilder, ValueId, View};

/// `out = a + scale * b`.
#[derive(Clone, Debug)]
pub struct Add {
    /// `[width]`
    pub a: View,
    /// `[width]`
    pub b: View,
    /// Factor on `b`.
    pub scale: f32,
    /// `[width]`
    pub out: ValueId,
}

impl Primitive for Add {
    const NAME: &'static str = "add";

    fn reads(&self) -> Vec<View> {
        vec![self.a, self.b]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        equal("width of b", self.b.width, self.a.width)?;
        equal("width of the result", graph.width(self.out), self.a.width)
    }
}

impl GraphBuilder {
    /// See [`Add`].
    pub fn add(&mut self, name: impl Into<String>, a: View, b: View, scale: f32) -> ValueId {
        let out = self.value(name, a.width, self.rows_of(a));
        self.push(Add { a, b, scale, out });
        out
    }
}
