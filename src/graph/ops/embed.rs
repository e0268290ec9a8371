//! Lookup of tokens.

use super::Primitive;
use crate::graph::checks::equal;
use crate::graph::{Graph, GraphBuilder, Rows, ValueId, View, WeightId};

/// `out[r] = table[token(r)] * scale`.
///
/// Ids go up to the rows of the table, so that learned rows that are not tokens of the vocabulary (meta tokens) have
/// ids behind it.
#[derive(Clone, Debug)]
pub struct Embed {
    /// `[ids, width]`
    pub table: WeightId,
    /// Factor on every number.
    pub scale: f32,
    /// `[width]`
    pub out: ValueId,
}

impl Primitive for Embed {
    const NAME: &'static str = "embed";

    fn reads(&self) -> Vec<View> {
        vec![]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.table]
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        equal("width of the table", graph.weight(self.table).columns, graph.width(self.out))
    }
}

impl GraphBuilder {
    /// See [`Embed`].
    pub fn embed(&mut self, name: impl Into<String>, table: WeightId, scale: f32) -> ValueId {
        let out = self.value(name, self.graph.weight(table).columns, Rows::All);
        self.push(Embed { table, scale, out });
        out
    }
}
