//! Errors of a checkpoint.

use super::{SinkError, SourceError};
use crate::graph::WeightFormat;

/// A checkpoint that cannot be opened or loaded.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Not a model folder.
    #[error("{place}: there is no config.json; a model folder holds config.json and model.safetensors{found}")]
    NoConfig {
        /// The place that was searched.
        place: String,
        /// Description of the files that lie there instead, behind a semicolon; may be empty.
        found: String,
    },
    /// A config without weights.
    #[error(
        "{place}: there are no weights; neither model.safetensors nor model.safetensors.index.json is there{found}"
    )]
    NoWeights {
        /// The place that was searched.
        place: String,
        /// Description of the files that lie there instead, behind a semicolon; may be empty.
        found: String,
    },
    /// A text file that is not what it should be.
    #[error("{file} {what}")]
    Text {
        /// The file.
        file: String,
        /// The fault.
        what: String,
    },
    /// A safetensors file that contradicts itself.
    #[error("{file} is not a sound safetensors file: {what}")]
    Header {
        /// The file.
        file: String,
        /// The fault, and the tensor.
        what: String,
    },
    /// A GGUF file that contradicts itself, or holds something that is not read.
    #[error("{file} cannot be read as GGUF: {what}")]
    Gguf {
        /// The file.
        file: String,
        /// The fault, and the tensor or the key.
        what: String,
    },
    /// Tensors that the model needs are not there.
    #[error(
        "the checkpoint lacks {count} of the tensors that its config.json calls for: {}; do config and weights belong together?",
        shorten(names, *count)
    )]
    Missing {
        /// The first few.
        names: Vec<String>,
        /// All of them.
        count: usize,
    },
    /// Tensors that the model does not read, though they change what it gives.
    #[error("{file}: tensor {} {why}", shorten(names, *count))]
    Unread {
        /// The file of the first one.
        file: String,
        /// The first few.
        names: Vec<String>,
        /// All of them.
        count: usize,
        /// Kind of the first one, and advice.
        why: String,
    },
    /// An adapter that cannot be merged into the checkpoint.
    #[error("{place}: {what}")]
    Adapter {
        /// The adapter's folder or file.
        place: String,
        /// The fault, and advice.
        what: String,
    },
    /// A tensor of another shape than the config promises.
    #[error("{file}: tensor `{tensor}` has shape {got:?}, config.json calls for {wanted:?}")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The file it lies in.
        file: String,
        /// Its shape in the file.
        got: Vec<usize>,
        /// The shape that the config calls for.
        wanted: Vec<usize>,
    },
    /// A tensor whose numbers cannot be read.
    #[error(
        "{file}: tensor `{tensor}` holds {dtype}; F32, F16, BF16, F8_E4M3 and NVFP4 can be read, Selvedge's own quantised formats, and of GGUF Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K"
    )]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The file it lies in.
        file: String,
        /// Its dtype as the file names it.
        dtype: String,
    },
    /// Weights quantised in a way that cannot be read.
    #[error(
        "{file}: the weights are quantised as {method}; supported are `selvedge` (Selvedge's own formats), and FP8 and NVFP4 of `modelopt`, `compressed-tensors` and `fp8`; take the checkpoint that this one was made from, which can be quantised while it loads"
    )]
    Quantisation {
        /// The config.
        file: String,
        /// The method it names.
        method: String,
    },
    /// A quantised tensor whose parts do not fit together.
    #[error("{file}: tensor `{tensor}` {what}")]
    Planes {
        /// The tensor.
        tensor: String,
        /// The file it lies in.
        file: String,
        /// The fault.
        what: String,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "{file}: tensor `{tensor}` holds {value} at {index:?}, and weights must be finite numbers; the file is damaged, or was written after a training or a conversion had failed: take another copy of the checkpoint"
    )]
    NotFinite {
        /// The tensor.
        tensor: String,
        /// The file it lies in.
        file: String,
        /// The place of the first such number, in every dimension.
        index: Vec<usize>,
        /// The number.
        value: f32,
    },
    /// A number too large for the format in which it should be stored.
    #[error(
        "{file}: tensor `{tensor}` holds {value:e} in row {row}, which {} cannot hold; {advice}",
        format.name()
    )]
    Overflow {
        /// The tensor.
        tensor: String,
        /// The file it lies in.
        file: String,
        /// The row of the tensor.
        row: usize,
        /// The number, after the recipe's map and scale.
        value: f32,
        /// The format asked for.
        format: WeightFormat,
        /// Advice.
        advice: &'static str,
    },
    /// A recipe that contradicts itself: a fault of the architecture.
    #[error("weight `{weight}`: {what}")]
    Recipe {
        /// The weight.
        weight: String,
        /// The fault.
        what: String,
    },
    /// A converted file could not be written.
    #[error("{file}: {source}")]
    Write {
        /// The file.
        file: String,
        /// The fault.
        source: SinkError,
    },
    /// The conversion was stopped.
    #[error("stopped; finished files stay, and the same conversion goes on from there")]
    Stopped,
    /// The backend refused a weight.
    #[error("weight `{weight}`: {source}")]
    Sink {
        /// The weight.
        weight: String,
        /// The backend's own error.
        source: SinkError,
    },
}

/// `a, b and 7 more`
pub(super) fn shorten(names: &[String], count: usize) -> String {
    let list: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let more = if count > names.len() { format!(" and {} more", count - names.len()) } else { String::new() };
    list.join(", ") + &more
}
