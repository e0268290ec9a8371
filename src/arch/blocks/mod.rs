//! Blocks that families are made of. Each takes what differs as data; none asks which family it serves.

mod attention;
mod draft;
mod gated_delta;
mod head;
mod mamba1;
mod mamba2;
mod mlp;
mod moe;
mod rotary;
mod short_conv;
mod softmax_moe;

use crate::graph::{GraphBuilder, Part, WeightClass, WeightId, WeightRecipe};

pub(crate) use attention::{Attention, HeadDefaults, attend, attention_layers, head_sizes};
pub(crate) use draft::{DraftBuilder, DraftTensors};
pub(crate) use gated_delta::{GatedDelta, RowOrder};
pub use head::Head;
pub(crate) use head::{LM_HEAD, Tie, logits};
pub(crate) use mamba1::{Mamba1, Mamba1Sizes};
pub(crate) use mamba2::{Mamba2, at_least_two, time_step_limit};
pub(crate) use mlp::{GATE_UP_DOWN, plain_swiglu, squared_relu, swiglu};
pub(crate) use moe::{Experts, expert_counts, gated_experts, router};
pub(crate) use rotary::{RotaryDefaults, RotaryFields, rotary};
pub(crate) use short_conv::ShortConv;
pub(crate) use softmax_moe::{MixtureDefaults, SoftmaxMixture, sparse_layers};

/// Names of a layer's tensors and values.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    /// Index of the layer.
    pub layer: usize,
    /// In front of the tensors' names, with the dot: `model.layers.3.`
    pub prefix: String,
}

impl Names {
    /// The layer's name, in front of its values' and weights'.
    pub fn block(&self) -> String {
        format!("layers.{}", self.layer)
    }

    /// A value's or a weight's name.
    pub fn value(&self, what: &str) -> String {
        format!("layers.{}.{what}", self.layer)
    }

    /// A tensor's name.
    pub fn tensor(&self, what: &str) -> String {
        format!("{}{what}", self.prefix)
    }

    /// All rows of a tensor `[rows, columns]` of the layer.
    pub fn matrix(&self, what: &str, rows: usize, columns: usize) -> Part {
        Part::all(self.tensor(what), &[rows, columns])
    }

    /// A vector of the layer.
    pub fn vector(&self, what: &str, length: usize) -> Part {
        Part::all(self.tensor(what), &[length])
    }
}

/// A vector made of parts, one after the other.
pub(crate) fn vectors(g: &mut GraphBuilder, name: String, parts: Vec<Part>) -> WeightId {
    g.weight(WeightRecipe::new(name, WeightClass::Vector, parts))
}
