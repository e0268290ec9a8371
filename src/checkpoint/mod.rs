//! Named tensors plus `config.json` plus tokenizer, wherever they lie.
//!
//! A [`Source`] gives bytes of files; a [`Checkpoint`] knows which tensors lie where in them; [`load`]
//! applies a graph's weight recipes and hands rows, block by block, to a [`WeightSink`] (a backend).

mod loader;
mod safetensors;
mod source;

use std::collections::BTreeMap;
use std::ops::Range;

pub use loader::{LoadProgress, LoadReport, WeightChoice, WeightSink, load};
pub use source::{Memory, Source, SourceError};
#[cfg(feature = "native")]
pub use source::Folder;

/// Dtypes that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
}

/// Where a tensor's bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The file.
    pub file: String,
    /// Bytes of that file.
    pub range: Range<u64>,
}
