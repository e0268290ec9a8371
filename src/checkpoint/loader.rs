//! The loader: applies a graph's weight recipes to blocks of rows of the checkpoint, and writes them to a sink.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::numbers::{Conversion, Overflow};
use super::{Checkpoint, CheckpointError, Dtype, LISTED, TensorInfo, unread};
use crate::graph::{
    Graph, NotQuantised, Part, RowBlock, SinkError, SourceBlock, WeightClass, WeightDesc, WeightFormat, WeightId,
    WeightRecipe, WeightSink,
};

use crate::formats::{GROUP, Quantised, Rounding};
use crate::hash::{Hash, Hasher};

/// Bytes read or written at once, unless a single row is larger: what a browser's heap is planned for.
pub(super) const BLOCK: usize = 16 << 20;

/// Storage format of matrices. Vectors are always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightChoice {
    /// As the checkpoint has them; where the parts of a matrix differ, f32, or q8 if all are quantised, or bf16 beside FP8.
    #[default]
    Auto,
    /// 4 bytes a number.
    F32,
    /// 2 bytes, 11 bits of precision, up to 65504.
    F16,
    /// 2 bytes, 8 bits of precision, the range of f32.
    Bf16,
    /// 8 bits, and a scale for every 32 numbers: 8.5 bits a number.
    Q8,
    /// 4 bits, and a scale for every 32 numbers: 4.5 bits a number.
    Q4,
    /// 4 bits, a scale and a minimum for every 32 numbers: 5 bits a number.
    Q4m,
}

impl WeightChoice {
    /// `auto`, `f32`, `f16`, `bf16`, `q8`, `q4`, `q4m`
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The format of a weight of so many columns whose parts lie in the checkpoint as `sources`.
    pub fn format(
        self,
        class: WeightClass,
        columns: usize,
        sources: impl IntoIterator<Item = WeightFormat>,
    ) -> WeightFormat {
        let common = common(sources);
        let quantised = match (class, self) {
            (WeightClass::Vector, _) | (_, Self::F32) => return WeightFormat::F32,
            (_, Self::Auto) => return common,
            (_, Self::F16) => return WeightFormat::F16,
            (_, Self::Bf16) => return WeightFormat::Bf16,
            (_, Self::Q8) => Quantised::Q8,
            (_, Self::Q4) => Quantised::Q4,
            (_, Self::Q4m) => Quantised::Q4m,
        };
        match class {
            // Sixteen bits: those that it has, if it has no more.
            WeightClass::HighPrecision if common.without_fp8() == WeightFormat::Bf16 => WeightFormat::Bf16,
            WeightClass::HighPrecision => WeightFormat::F16,
            WeightClass::Matrix if quantised.holds(columns) => WeightFormat::Quantised(quantised),
            _ => WeightFormat::Q8,
        }
    }
}

/// The format that parts of a weight share, or one that holds them all: of quantised ones 8 bits, beside FP8 16.
fn common(sources: impl IntoIterator<Item = WeightFormat>) -> WeightFormat {
    let wider = |a: WeightFormat, b: WeightFormat| match (a, b) {
        (a, b) if a == b => a,
        (WeightFormat::FP8, WeightFormat::Bf16 | WeightFormat::Quantised(_))
        | (WeightFormat::Bf16 | WeightFormat::Quantised(_), WeightFormat::FP8) => WeightFormat::Bf16,
        (WeightFormat::Quantised(_), WeightFormat::Quantised(_)) => WeightFormat::Q8,
        _ => WeightFormat::F32,
    };
    sources.into_iter().reduce(wider).unwrap_or(WeightFormat::F32)
}

/// Storage of weights: format and rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
    /// Format of matrices.
    pub choice: WeightChoice,
    /// Choice of scales where numbers are quantised.
    pub rounding: Rounding,
    /// FP8 is stored in 16 bits where `choice` leaves it as it is: for devices that take no codes.
    pub widens_fp8: bool,
}

impl From<WeightChoice> for Storage {
    fn from(choice: WeightChoice) -> Self {
        Self { choice, rounding: Rounding::default(), widens_fp8: false }
    }
}

impl Storage {
    fn format(
        self,
        class: WeightClass,
        columns: usize,
        sources: impl IntoIterator<Item = WeightFormat>,
    ) -> WeightFormat {
        let format = self.choice.format(class, columns, sources);
        if self.widens_fp8 { format.without_fp8() } else { format }
    }
}

/// Progress of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress<'a> {
    /// Bytes of the checkpoint done.
    pub done: u64,
    /// Bytes of the checkpoint that the model needs.
    pub total: u64,
    /// The tensor of the last block.
    pub tensor: &'a str,
}

/// Report of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Bytes of the checkpoint read.
    pub read: u64,
    /// Bytes of the weights as stored.
    pub stored: u64,
    /// Tensors of the checkpoint that the model does not use, sorted.
    pub unused: Vec<String>,
    /// Hash of the rows read, as they lie in the checkpoint, under the names of their tensors.
    pub weights: Hash,
}

/// Storage of each weight of a graph, in the graph's order. Checks everything that can be checked without
/// reading rows: that all tensors are there, with the right shapes, and can be read, and that none is there that would
/// change the result.
pub fn stored(
    checkpoint: &Checkpoint,
    graph: &Graph,
    storage: impl Into<Storage>,
) -> Result<Vec<WeightDesc>, CheckpointError> {
    let storage = storage.into();
    unread::refuse_adapters(checkpoint)?;
    let parts = || graph.weights.iter().flat_map(|weight| &weight.parts);
    let missing: BTreeSet<&str> =
        parts().map(|part| part.tensor.as_str()).filter(|name| checkpoint.tensor(name).is_none()).collect();
    if !missing.is_empty() {
        let names = missing.iter().take(LISTED).map(|&name| name.to_owned()).collect();
        return Err(CheckpointError::Missing { names, count: missing.len() });
    }
    let stored = graph.weights.iter().map(|recipe| describe(checkpoint, recipe, storage)).collect::<Result<_, _>>()?;
    unread::refuse_needed(checkpoint, graph)?;
    Ok(stored)
}

fn describe(checkpoint: &Checkpoint, recipe: &WeightRecipe, storage: Storage) -> Result<WeightDesc, CheckpointError> {
    let mut formats = Vec::with_capacity(recipe.parts.len());
    let mut rows = 0;
    for part in &recipe.parts {
        let (info, format) = find(checkpoint, part)?;
        if info.shape != part.shape {
            return Err(CheckpointError::Shape {
                tensor: part.tensor.clone(),
                file: checkpoint.describe(&info.file),
                got: info.shape.clone(),
                wanted: part.shape.clone(),
            });
        }
        let within = part.rows.start < part.rows.end && part.rows.end <= part.height();
        if !within || part.columns() != recipe.columns || recipe.columns == 0 {
            let what = format!(
                "rows {:?} of `{}` {:?} do not fit its {} columns",
                part.rows, part.tensor, part.shape, recipe.columns
            );
            return Err(CheckpointError::Recipe { weight: recipe.name.clone(), what });
        }
        rows += part.rows.len();
        formats.push(format);
    }
    if rows != recipe.rows || rows == 0 {
        let what = format!("its parts have {rows} rows, it has {}", recipe.rows);
        return Err(CheckpointError::Recipe { weight: recipe.name.clone(), what });
    }
    let format = storage.format(recipe.class, recipe.columns, formats);
    Ok(WeightDesc {
        name: recipe.name.clone(),
        rows: recipe.rows,
        columns: recipe.columns,
        format,
        class: recipe.class,
    })
}

/// A part's tensor and the format its numbers are in. Where a part sees the rows of a matrix cut into several, so does what
/// comes back.
fn find<'a>(checkpoint: &'a Checkpoint, part: &Part) -> Result<(Cow<'a, TensorInfo>, WeightFormat), CheckpointError> {
    let info = checkpoint
        .tensor(&part.tensor)
        .ok_or_else(|| CheckpointError::Missing { names: vec![part.tensor.clone()], count: 1 })?;
    let format = info.dtype.format().ok_or_else(|| CheckpointError::Dtype {
        tensor: part.tensor.clone(),
        file: checkpoint.describe(&info.file),
        dtype: info.dtype.to_string(),
    })?;
    let info = match part.shape[..] {
        [rows, cuts, columns] if info.shape == [rows, cuts * columns] && can_be_cut(info, columns) => {
            Cow::Owned(TensorInfo { shape: part.shape.clone(), ..info.clone() })
        }
        _ => Cow::Borrowed(info),
    };
    Ok((info, format))
}

/// Whether pieces of so many columns of a tensor's rows lie one after the other, as rows of their own would.
fn can_be_cut(info: &TensorInfo, columns: usize) -> bool {
    let plain = match info.dtype {
        Dtype::F32 | Dtype::F16 | Dtype::Bf16 | Dtype::F8E4m3 => true,
        Dtype::Quantised(_) => columns.is_multiple_of(GROUP),
        Dtype::Scaled(_) | Dtype::Merged(_) | Dtype::Other(_) => false,
    };
    plain && info.packed.is_none()
}

/// Hands all weights of a graph to a sink, in order, in blocks of at most 16 MiB (or one row). Nothing is created
/// before everything has been checked that the headers can tell.
pub async fn load<E: From<NotQuantised> + Into<SinkError> + 'static>(
    checkpoint: &Checkpoint,
    graph: &Graph,
    storage: impl Into<Storage>,
    sink: &mut dyn WeightSink<Error = E>,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<LoadReport, CheckpointError> {
    let storage = storage.into();
    let (rounding, descs) = (storage.rounding, stored(checkpoint, graph, storage)?);
    let mut total = 0;
    for part in graph.weights.iter().flat_map(|weight| &weight.parts) {
        total += part.rows.len() as u64 * find(checkpoint, part)?.0.row_bytes() as u64;
    }
    let mut report = LoadReport::default();
    let mut weights = Hasher::default();
    let mut converted = vec![];
    for (index, (recipe, desc)) in graph.weights.iter().zip(&descs).enumerate() {
        let id = WeightId(index as u32);
        let refused = |source: E| CheckpointError::Sink { weight: recipe.name.clone(), source: source.into() };
        sink.create_weight(id, desc).map_err(refused)?;
        report.stored += desc.bytes();
        let mut first = 0;
        let mut conversions = vec![];
        for part in &recipe.parts {
            let (info, _) = find(checkpoint, part)?;
            let conversion = Conversion::new(checkpoint, &part.tensor, &info, desc.format, rounding).await?;
            conversions.push(conversion.of_part(part));
        }
        // All of a weight or nothing: rows of two parts may share what a device writes at once.
        let by_sink = sink.quantises() && conversions.iter().all(|conversion| conversion.of_many_bits().is_some());
        for (part, conversion) in recipe.parts.iter().zip(conversions) {
            let (info, format) = find(checkpoint, part)?;
            weights.name(&part.tensor);
            weights.add(&conversion.source_scale().to_le_bytes());
            let by_sink = conversion.of_many_bits().filter(|_| by_sink);
            let widest_row = info.row_bytes().max(desc.row_bytes());
            let block_rows = (BLOCK / widest_row.max(1)).max(1);
            for start in part.rows.clone().step_by(block_rows) {
                let rows = start..part.rows.end.min(start + block_rows);
                let (from, count) = (rows.start, rows.len());
                let source = checkpoint.rows(&part.tensor, &info, rows).await?;
                weights.add(&source);
                let fault = |fault| overflow(checkpoint, &part.tensor, &info, from, desc.format, fault);
                if let Some((format, scale)) = by_sink {
                    conversion.check(&source).map_err(fault)?;
                    let block = SourceBlock { first, bytes: &source, format, scale, rounding };
                    sink.quantise_weight(id, block).await.map_err(refused)?;
                } else {
                    let bytes = if format == desc.format && conversion.is_verbatim() {
                        source.as_ref()
                    } else {
                        converted.clear();
                        converted.resize(count * desc.row_bytes(), 0);
                        conversion.run(&source, &mut converted).map_err(fault)?;
                        &converted
                    };
                    sink.write_weight(id, RowBlock { first, bytes }).await.map_err(refused)?;
                }
                first += count;
                report.read += source.len() as u64;
                progress(LoadProgress { done: report.read, total, tensor: &part.tensor });
            }
        }
    }
    let used: BTreeSet<&str> =
        graph.weights.iter().flat_map(|weight| &weight.parts).map(|part| part.tensor.as_str()).collect();
    report.weights = weights.finish();
    report.unused = checkpoint.tensors().keys().filter(|name| !used.contains(name.as_str())).cloned().collect();
    Ok(report)
}

/// A number of the rows from `first` on of a tensor that does not fit a format.
pub(super) fn overflow(
    checkpoint: &Checkpoint,
    tensor: &str,
    info: &TensorInfo,
    first: usize,
    format: WeightFormat,
    fault: Overflow,
) -> CheckpointError {
    CheckpointError::Overflow {
        tensor: tensor.to_owned(),
        file: checkpoint.describe(&info.file),
        row: first + fault.index / info.columns().max(1),
        value: fault.value,
        format,
        advice: advice(format),
    }
}

fn advice(format: WeightFormat) -> &'static str {
    match format {
        WeightFormat::F16 => "load with bf16 or f32 weights",
        WeightFormat::Bf16 => "load with f32 weights",
        WeightFormat::FP8 => "load with bf16 weights",
        WeightFormat::F32 => "the checkpoint is damaged",
        WeightFormat::Quantised(_) => "the checkpoint is damaged, or must be loaded with bf16 or f32 weights",
    }
}
