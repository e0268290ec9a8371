//! The closed set of primitive ops, one file each: the struct with its formula, its checks, and the methods of
//! [`GraphBuilder`](super::GraphBuilder) that append it. Every backend implements each in a file of the same name,
//! with a kernel of that name in `shaders/` and in `native-cuda/kernels`.
//!
//! In formulas `r` is a row, `t` its place in its span and `p` its position. Values are f32 `[rows, width]`; the
//! shapes of fields leave the rows out where there is one for every row of the step.

mod activation;
mod add;
mod attention;
mod conv;
mod conv_append;
mod embed;
mod function;
mod gate;
mod gated_delta;
mod gather;
mod kv_append;
mod linear;
mod moe_apply;
mod moe_route;
mod norm;
mod rope;
mod sample;
mod selective_scan;
mod ssd_scan;

pub use activation::Activation;
pub use add::Add;
pub use attention::Attention;
pub use conv::Conv;
pub use conv_append::ConvAppend;
pub use embed::Embed;
pub use function::Function;
pub use gate::Gate;
pub use gated_delta::GatedDelta;
pub use gather::Gather;
pub use kv_append::KvAppend;
pub use linear::Linear;
pub use moe_apply::MoeApply;
pub use moe_route::{ExpertChoice, MoeRoute, Routing};
pub use norm::{Norm, NormKind};
pub use rope::{Growth, Rope};
pub use sample::Sample;
pub use selective_scan::SelectiveScan;
pub use ssd_scan::SsdScan;

use super::{Graph, StateId, ValueId, View, WeightId};

/// The properties of an op that do not depend on a backend.
pub trait Primitive {
    /// Name of the op, and of the files that implement it.
    const NAME: &'static str;

    /// Columns read, one view for each operand.
    fn reads(&self) -> Vec<View>;

    /// Value made; `None` for an op that only changes memory.
    fn writes(&self) -> Option<ValueId>;

    /// Weights read.
    fn weights(&self) -> Vec<WeightId> {
        vec![]
    }

    /// State read or changed.
    fn state(&self) -> Option<StateId> {
        None
    }

    /// Checks the shapes of values, weights and states against one another.
    ///
    /// # Errors
    /// The sentence for a [`GraphError`](super::GraphError), which adds where the op stands.
    fn check(&self, graph: &Graph) -> Result<(), String>;
}
