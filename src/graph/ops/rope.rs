//! Rotary embeddings.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, GraphBuilder, RotaryId, Rows, ValueId, View};

/// Rotates the first `2 * pairs` columns of every head by the angle of the row's position, pairing column `j` with
/// `j + pairs` (half-split), and multiplies them by the rotary's scale; the other columns pass through. Then all columns
/// are multiplied by the growth at the row's position.
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
    /// Growth with the position; `None`: none.
    pub growth: Option<Growth>,
    /// `[heads * head_dim]`
    pub out: ValueId,
}

/// A factor that grows with the position, so that queries stay as sharp over long texts as over short ones:
/// `1 + beta * ln(1 + floor(position / original))`. Source: Llama 4's and Ministral 3's code in transformers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Weight of the logarithm.
    pub beta: f32,
    /// Positions of the context that the model was first made for, at least 1.
    pub original: u32,
}

impl Growth {
    /// The factor at a position.
    pub fn at(&self, position: u32) -> f32 {
        let contexts = f64::from(position / self.original);
        (1.0 + f64::from(self.beta) * contexts.ln_1p()) as f32
    }

    /// Its two numbers, as kernels take them; those of no growth are 0 and 1.
    pub fn numbers(growth: Option<Self>) -> (f32, u32) {
        growth.map_or((0.0, 1), |growth| (growth.beta, growth.original))
    }
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
        if self.growth.is_some_and(|growth| growth.original == 0 || !growth.beta.is_finite()) {
            return Err(format!("{:?} is no growth", self.growth));
        }
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}

impl GraphBuilder {
    /// See [`Rope`].
    pub fn rope(&mut self, name: impl Into<String>, x: View, heads: usize, rotary: RotaryId) -> ValueId {
        self.rope_growing(name, x, heads, rotary, None)
    }

    /// See [`Rope`].
    pub fn rope_growing(
        &mut self,
        name: impl Into<String>,
        x: View,
        heads: usize,
        rotary: RotaryId,
        growth: Option<Growth>,
    ) -> ValueId {
        let out = self.value(name, x.width, Rows::All);
        self.push(Rope { x, heads, rotary, growth, out });
        out
    }
}
