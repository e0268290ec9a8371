//! Rotary embeddings.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, GraphBuilder, RotaryId, Rows, ValueId, View};

/// Rotates the first `2 * pairs` columns of every head by the angle of the row's position, pairing column `j` with
/// `j + pairs` (half-split), and multiplies them by the rotary's scale; the other columns pass through.
///
/// Su et al. 2021, arXiv 2104.09864.
#[derive(Clone, Debug)]
pub struct Rope {
    /// `[heads * head_dim]`
    pub x: View,
    /// Heads.
    pub heads: usize,
    /// Frequencies, one a pair.
    pub rotary: RotaryId,
    /// `[heads * head_dim]`
    pub out: ValueId,
}

impl Rope {
    /// Columns of a head.
    pub fn head_dim(&self) -> usize {
        self.x.width / self.heads
    }
}

impl Primitive for Rope {
    const NAME: &'static str = "rope";

    fn reads(&self) -> Vec<View> {
        vec![self.x]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        divides("heads", self.heads, self.x.width)?;
        let (rotated, head_dim) = (2 * graph.rotary(self.rotary).inverse_frequencies.len(), self.head_dim());
        if rotated == 0 || rotated > head_dim {
            return Err(format!("{rotated} rotated columns do not fit a head of {head_dim}"));
        }
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}

impl GraphBuilder {
    /// See [`Rope`].
    pub fn rope(&mut self, name: impl Into<String>, x: View, heads: usize, rotary: RotaryId) -> ValueId {
        let out = self.value(name, x.width, Rows::All);
        self.push(Rope { x, heads, rotary, out });
        out
    }
}
