//! Named tensors plus `config.json` plus tokenizer, wherever they lie.
//!
//! A [`Source`] gives bytes of files; a [`Checkpoint`] knows which tensors lie where in them; [`load`]
//! applies a graph's weight recipes and hands rows, block by block, to a [`WeightSink`] (a backend).
//! Headers are read when a checkpoint is opened, rows when they are loaded, and never a whole file.

pub mod adapter;
mod base_names;
mod convert;
mod error;
mod finite;
pub mod gguf;
mod kind;
mod loader;
mod numbers;
mod planes;
mod rows;
pub mod safetensors;
mod scaled;
mod source;
mod unread;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use serde::Deserialize;

use crate::formats::Quantised;
use crate::graph::WeightFormat;

pub use crate::graph::{RowQuantiser, SinkError, WeightSink};
pub use convert::{COMPANIONS, ConvertOptions, FileSink, convert};
pub use error::CheckpointError;
pub use kind::CONVERSION_RECORD;
pub use loader::{LoadProgress, LoadReport, Storage, WeightChoice, load, stored};
pub use scaled::{Codes, Scaled};
#[cfg(feature = "native")]
pub use source::Folder;
pub use source::{Memory, Source, SourceError};
pub use unread::notices;

const CONFIG: &str = "config.json";
/// File in which sentence-transformers keeps how embeddings are pooled: the only one in a folder of its own.
pub const POOLING: &str = "1_Pooling/config.json";
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Largest `config.json`, in bytes. Real ones take kilobytes.
const LARGEST_CONFIG: u64 = 1 << 20;
/// Largest index of shards, in bytes.
const LARGEST_INDEX: u64 = 1 << 26;

/// Names that an error about tensors lists.
const LISTED: usize = 5;

/// Bytes of the largest small file of a name. Published tokenizers have up to 35 MB, templates 20 kB, configs with
/// added tokens 2 MB.
fn largest(name: &str) -> u64 {
    match name {
        "tokenizer.json" => 1 << 27,
        name if name.ends_with(".jinja") => 1 << 20,
        _ => 1 << 24,
    }
}

/// Type of a tensor's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// 8 bits, 4 of them exponent, with one scale for the tensor (Model-Optimizer's FP8).
    F8E4m3,
    /// 8 or 4 bits with several scales, as other quantisers write them.
    Scaled(Scaled),
    /// Codes, with scales in a tensor beside it.
    Quantised(Quantised),
    /// Those of a tensor that an adapter changes, in f32; stored by default in the base's format.
    Merged(WeightFormat),
    /// One that cannot be read, by its name in the file. Refused only when the tensor is needed.
    Other(String),
}

impl Dtype {
    fn named(name: String) -> Self {
        match name.as_str() {
            "F32" => Self::F32,
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F8_E4M3" => Self::F8E4m3,
            _ => Self::Other(name),
        }
    }

    /// The format in which such numbers are stored by default; `None` when they cannot be read. Numbers go through unchanged, but for
    /// scales of FP8, which become f16, for NVFP4, and for FP8 with a scale for fewer columns than a group has.
    pub fn format(&self) -> Option<WeightFormat> {
        match self {
            Self::F32 => Some(WeightFormat::F32),
            Self::F16 => Some(WeightFormat::F16),
            Self::Bf16 => Some(WeightFormat::Bf16),
            Self::F8E4m3 => Some(WeightFormat::FP8),
            Self::Scaled(scaled) if scaled.is_grouped() => Some(WeightFormat::FP8),
            Self::Scaled(scaled) if scaled.codes == Codes::E4m3 => Some(WeightFormat::Bf16),
            Self::Scaled(_) => Some(WeightFormat::Q8),
            Self::Quantised(format) => Some(WeightFormat::Quantised(*format)),
            Self::Merged(format) => Some(*format),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F8E4m3 => "F8_E4M3",
            Self::Scaled(scaled) => scaled.name(),
            Self::Quantised(format) => format.name(),
            Self::Merged(format) => return write!(f, "{} with an adapter", format.name()),
            Self::Other(name) => name,
        })
    }
}

/// Place, type and shape of a tensor's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of its numbers.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// The file.
    pub file: String,
    /// Bytes of that file; as many as dtype and shape take, and inside the file. Of a quantised tensor, its codes.
    pub range: Range<u64>,
    /// The scales and then the minimums of a quantised tensor; the scale of an FP8 one, if it has one; of one with several,
    /// the scales and then the factor of the whole, if it has one.
    pub planes: Vec<Plane>,
    /// Storage in a GGUF file, whose rows lie otherwise than one after the other in `range`; `None` in other containers.
    pub packed: Option<Box<gguf::Packed>>,
    /// The adapter that changes it, and the tensor without it.
    pub merged: Option<Box<adapter::Merged>>,
}

/// Place of numbers that belong to a tensor: scales, minimums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    /// The file.
    pub file: String,
    /// Bytes of that file.
    pub range: Range<u64>,
}

/// An opened model: its config, and where its tensors lie.
pub struct Checkpoint {
    source: Box<dyn Source>,
    config: String,
    tensors: BTreeMap<String, TensorInfo>,
    /// Small files that a GGUF file stands for, by name.
    files: BTreeMap<String, Vec<u8>>,
    /// Files of the adapters that are merged into it, in order.
    adapters: Vec<Box<dyn Source>>,
}

impl Checkpoint {
    /// Reads `config.json` and the headers of `model.safetensors`, or of the shards that
    /// `model.safetensors.index.json` names; or the heads of GGUF files, where one was named or they are all that is there.
    pub async fn open(source: impl Source + 'static) -> Result<Self, CheckpointError> {
        let source: Box<dyn Source> = Box::new(source);
        if let Some(file) = gguf_file(&source).await? {
            let gguf::Opened { config, files, tensors } = gguf::open(&source, &file).await?;
            return Ok(Self { source, config, tensors, files, adapters: vec![] });
        }
        let config = read_config(&source).await?;
        let mut tensors = BTreeMap::new();
        if source.size(SINGLE).await?.is_some() {
            tensors.extend(safetensors::read_header(&source, SINGLE).await?);
        } else if let Some(index) = read_whole(&source, INDEX, LARGEST_INDEX).await? {
            tensors = read_shards(&source, &index).await?;
        } else {
            let found = kind::what_lies_there(&source).await?;
            return Err(CheckpointError::NoWeights { place: source.describe(""), found });
        }
        planes::join(&config, &mut tensors, &source)?;
        base_names::complete(&mut tensors);
        Ok(Self { source, config, tensors, files: BTreeMap::new(), adapters: vec![] })
    }

    /// The text of `config.json`.
    pub fn config(&self) -> &str {
        &self.config
    }

    /// Names and shapes of all tensors.
    pub fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.tensors.iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect()
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    /// Place, type and shape of a tensor.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(name)
    }

    /// A whole small file (`tokenizer.json` and the like); `None` when there is no such file.
    pub async fn file(&self, name: &str) -> Result<Option<Vec<u8>>, CheckpointError> {
        if let Some(bytes) = self.files.get(name) {
            return Ok(Some(bytes.clone()));
        }
        Ok(read_whole(&self.source, name, largest(name)).await?.map(Cow::into_owned))
    }

    /// A file's full name for people.
    pub fn describe(&self, file: &str) -> String {
        self.source.describe(file)
    }
}

/// The GGUF file to read: the one that was named, or the only one beside no other weights.
async fn gguf_file(source: &dyn Source) -> Result<Option<String>, CheckpointError> {
    if source.gguf().is_none() {
        for weights in [SINGLE, INDEX] {
            if source.size(weights).await?.is_some() {
                return Ok(None);
            }
        }
    }
    gguf::only(source)
}

/// The text of `config.json`, which is all that a model without weights has; of a GGUF file, what it would be.
pub async fn read_config(source: &dyn Source) -> Result<String, CheckpointError> {
    if let Some(file) = gguf_file(source).await? {
        return gguf::read_config(source, &file).await;
    }
    let Some(bytes) = read_whole(source, CONFIG, LARGEST_CONFIG).await? else {
        let found = kind::what_lies_there(source).await?;
        return Err(CheckpointError::NoConfig { place: source.describe(""), found });
    };
    let text = |what: String| CheckpointError::Text { file: source.describe(CONFIG), what };
    // Some editors put a mark of their own in front of UTF-8.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    Ok(std::str::from_utf8(bytes).map_err(|e| text(format!("is not UTF-8: {e}")))?.to_owned())
}

async fn read_whole<'a>(
    source: &'a dyn Source,
    file: &'a str,
    largest: u64,
) -> Result<Option<Cow<'a, [u8]>>, CheckpointError> {
    let Some(size) = check_size(source, file, largest).await? else { return Ok(None) };
    let bytes = source.read(file, 0..size).await?;
    if bytes.starts_with(kind::LFS) {
        let what = format!("cannot be read: {}", kind::POINTER);
        return Err(CheckpointError::Text { file: source.describe(file), what });
    }
    Ok(Some(bytes))
}

/// The size of a file that is to be read whole; `None` when there is no such file.
async fn check_size(source: &dyn Source, file: &str, largest: u64) -> Result<Option<u64>, CheckpointError> {
    let size = source.size(file).await?;
    match size.filter(|&size| size > largest) {
        Some(size) => {
            let what = format!("has {size} bytes; at most {largest} are read");
            Err(CheckpointError::Text { file: source.describe(file), what })
        }
        None => Ok(size),
    }
}

/// Reads the headers of all shards that the index names. A tensor that several shards hold is that of the shard which the
/// index names for it; one that the index places where it is not is missed when a model needs it.
async fn read_shards(source: &dyn Source, index: &[u8]) -> Result<BTreeMap<String, TensorInfo>, CheckpointError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let fail = |what: String| CheckpointError::Text { file: source.describe(INDEX), what };
    let Index { mut weight_map } = serde_json::from_slice(index).map_err(|e| fail(format!("is not an index: {e}")))?;
    for shard in weight_map.values_mut() {
        if let Some(beside) = shard.strip_prefix("./") {
            *shard = beside.to_owned();
        }
    }
    let mut tensors: BTreeMap<String, TensorInfo> = BTreeMap::new();
    for shard in BTreeSet::from_iter(weight_map.values()) {
        if shard.contains(['/', '\\']) || !shard.ends_with(".safetensors") {
            return Err(fail(format!("names the shard `{shard}`, which is not a safetensors file beside it")));
        }
        if source.size(shard).await?.is_none() {
            return Err(fail(format!("names the shard `{shard}`, which is not there; is the download complete?")));
        }
        for (name, info) in safetensors::read_header(source, shard).await? {
            let Some(first) = tensors.get(&name) else {
                tensors.insert(name, info);
                continue;
            };
            let both = format!("names `{}` and `{shard}`, which both hold tensor `{name}`", first.file);
            if (&first.dtype, &first.shape) != (&info.dtype, &info.shape) {
                return Err(fail(format!("{both}, in different shapes or dtypes")));
            }
            match weight_map.get(&name) {
                Some(place) if *place == first.file => {}
                Some(place) if place == shard => _ = tensors.insert(name, info),
                _ => return Err(fail(format!("{both}, and does not say which counts"))),
            }
        }
    }
    Ok(tensors)
}
