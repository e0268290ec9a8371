//! Rows of a tensor with an adapter merged into them, in f32.

use std::borrow::Cow;
use std::ops::Range;

use crate::checkpoint::numbers::Conversion;
use crate::checkpoint::{Checkpoint, CheckpointError, Dtype, TensorInfo};
use crate::formats::Rounding;
use crate::graph::WeightFormat;

/// A tensor of the base, and what an adapter does to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Which of the checkpoint's adapters.
    adapter: usize,
    base: TensorInfo,
    change: Change,
}

/// What an adapter does to a tensor; its own tensors lie in its file.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// Other numbers stand in its place.
    Replaced(TensorInfo),
    /// A vector is added, times a factor.
    Added { values: TensorInfo, scale: f32 },
    /// A product of two thin matrices is added.
    LowRank(Box<Factors>),
}

impl Eq for Change {}

/// The two thin matrices of a module.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Factors {
    /// `[rank, inputs]`, of an embedding `[rank, tokens]`.
    pub a: TensorInfo,
    /// `[outputs, rank]`, of an embedding `[hidden, rank]`.
    pub b: TensorInfo,
    /// Their common dimension.
    pub rank: usize,
    /// The product is added transposed.
    pub of_embedding: bool,
    /// Factor of the product.
    pub scale: f32,
    /// DoRA: lengths of the rows of the sum, `[outputs]`.
    pub magnitude: Option<TensorInfo>,
}

impl Merged {
    /// The base's tensor with a change. Its dtype tells the format that it is stored in by default, that of the base.
    pub(super) fn join(adapter: usize, base: TensorInfo, change: Change) -> TensorInfo {
        // Sums are not on FP8's grid.
        let format = base.dtype.format().map(WeightFormat::without_fp8);
        TensorInfo {
            dtype: format.map_or_else(|| base.dtype.clone(), Dtype::Merged),
            shape: base.shape.clone(),
            file: base.file.clone(),
            range: base.range.clone(),
            planes: base.planes.clone(),
            packed: base.packed.clone(),
            merged: Some(Box::new(Self { adapter, base, change })),
        }
    }
}

/// Numbers in a row-major matrix.
struct Matrix {
    numbers: Vec<f32>,
    columns: usize,
}

impl Matrix {
    fn row(&self, row: usize) -> &[f32] {
        &self.numbers[row * self.columns..][..self.columns]
    }

    fn transposed(&self) -> Self {
        let rows = self.numbers.len() / self.columns.max(1);
        let at = |i: usize| self.numbers[i % rows * self.columns + i / rows];
        Self { numbers: (0..self.numbers.len()).map(at).collect(), columns: rows }
    }
}

impl Checkpoint {
    /// Rows with the change made, as f32 in bytes.
    pub(in crate::checkpoint) async fn merged_rows(
        &self,
        tensor: &str,
        merged: &Merged,
        rows: Range<usize>,
    ) -> Result<Cow<'_, [u8]>, CheckpointError> {
        let Merged { adapter, base, change } = merged;
        let columns = base.columns();
        let mut numbers = if let Change::Replaced(info) = change {
            self.adapter_rows(*adapter, tensor, info, rows.start * columns..rows.end * columns).await?
        } else {
            // A base may be merged itself.
            let bytes = Box::pin(self.rows(tensor, base, rows.clone())).await?;
            let mut decoded = vec![0; 4 * rows.len() * columns];
            let conversion = Conversion::new(self, tensor, base, WeightFormat::F32, Rounding::default()).await?;
            let fault =
                |fault| super::super::loader::overflow(self, tensor, base, rows.start, WeightFormat::F32, fault);
            conversion.run(&bytes, &mut decoded).map_err(fault)?;
            decoded.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        match change {
            Change::Replaced(_) => {}
            Change::Added { values, scale } => {
                let values = self.adapter_rows(*adapter, tensor, values, rows.clone()).await?;
                numbers.iter_mut().zip(values).for_each(|(x, value)| *x += scale * value);
            }
            Change::LowRank(factors) => {
                self.add_product(*adapter, tensor, factors, rows.clone(), columns, &mut numbers).await?;
            }
        }
        if let Some(at) = numbers.iter().position(|x| !x.is_finite()) {
            let row = rows.start + at / columns.max(1);
            let what =
                format!("gives {} in row {row} of `{tensor}`: its factors are too large, or damaged", numbers[at]);
            return Err(CheckpointError::Adapter { place: self.adapters[*adapter].describe(""), what });
        }
        Ok(Cow::Owned(numbers.iter().flat_map(|x| x.to_le_bytes()).collect()))
    }

    async fn add_product(
        &self,
        adapter: usize,
        tensor: &str,
        factors: &Factors,
        rows: Range<usize>,
        columns: usize,
        numbers: &mut [f32],
    ) -> Result<(), CheckpointError> {
        let Factors { a, b, rank, of_embedding, scale, magnitude } = factors;
        let whole = |info: &TensorInfo| 0..info.shape.iter().product();
        // One row of `left` for each row of the weight, `right` for all of them.
        let (left, right) = if *of_embedding {
            let tokens = a.columns();
            let mut down = vec![];
            for factor in 0..*rank {
                let of_rows = factor * tokens + rows.start..factor * tokens + rows.end;
                down.extend(self.adapter_rows(adapter, tensor, a, of_rows).await?);
            }
            let up = Matrix { numbers: self.adapter_rows(adapter, tensor, b, whole(b)).await?, columns: *rank };
            (Matrix { numbers: down, columns: rows.len() }.transposed(), up.transposed())
        } else {
            let up = self.adapter_rows(adapter, tensor, b, rows.start * rank..rows.end * rank).await?;
            let down = self.adapter_rows(adapter, tensor, a, whole(a)).await?;
            (Matrix { numbers: up, columns: *rank }, Matrix { numbers: down, columns })
        };
        let lengths = match magnitude {
            Some(magnitude) => Some(self.adapter_rows(adapter, tensor, magnitude, rows).await?),
            None => None,
        };
        let change = |(row, numbers): (usize, &mut [f32])| {
            for (k, &factor) in left.row(row).iter().enumerate() {
                let factor = factor * scale;
                for (x, y) in numbers.iter_mut().zip(right.row(k)) {
                    *x += factor * y;
                }
            }
            if let Some(lengths) = &lengths {
                let norm = numbers.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt() as f32;
                for x in numbers.iter_mut() {
                    *x *= lengths[row] / norm;
                }
            }
        };
        #[cfg(feature = "native")]
        {
            use rayon::iter::{IndexedParallelIterator, ParallelIterator};
            use rayon::slice::ParallelSliceMut;
            numbers.par_chunks_mut(columns.max(1)).enumerate().for_each(change);
        }
        #[cfg(not(feature = "native"))]
        numbers.chunks_mut(columns.max(1)).enumerate().for_each(change);
        Ok(())
    }

    /// Numbers of a tensor of an adapter, in f32.
    async fn adapter_rows(
        &self,
        adapter: usize,
        tensor: &str,
        info: &TensorInfo,
        numbers: Range<usize>,
    ) -> Result<Vec<f32>, CheckpointError> {
        let source = &self.adapters[adapter];
        let width = info.dtype.format().map_or(0, |format| format.row_bytes(1)) as u64;
        let at = |number: usize| info.range.start + number as u64 * width;
        let bytes = source.read(&info.file, at(numbers.start)..at(numbers.end)).await?;
        let decoded = Conversion::plain(info.dtype.clone()).decoded(&bytes);
        if let Some(at) = decoded.iter().position(|x| !x.is_finite()) {
            let what = format!("holds {} where it changes `{tensor}`: the file is damaged", decoded[at]);
            return Err(CheckpointError::Adapter { place: source.describe(&info.file), what });
        }
        Ok(decoded)
    }
}
