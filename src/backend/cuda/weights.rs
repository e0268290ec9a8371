//! Weights on the device, in their own formats.

use selvedge_cuda::ops::Format;
use selvedge_cuda::{Buffer, Device};

use super::naming;
use crate::backend::checks::misuse;
use crate::backend::{BackendError, Result};
use crate::graph::{RowBlock, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe, pitch};

/// One weight. The rows of a matrix lie `pitch` numbers apart, so that each begins on a 16-byte boundary;
/// those of a vector lie without gaps.
pub(super) struct Weight {
    /// As it was asked for.
    pub desc: WeightDesc,
    /// Numbers from row to row.
    pub pitch: usize,
    format: Format,
    buffer: Buffer,
}

impl Weight {
    /// Where it begins.
    pub fn address(&self) -> u64 {
        self.buffer.address()
    }

    /// Its format as the kernels name it.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// All weights, by id.
#[derive(Default)]
pub(super) struct Weights(Vec<Option<Weight>>);

impl Weights {
    /// Makes room for a weight: zeros.
    pub fn create(&mut self, device: &Device, id: WeightId, desc: &WeightDesc) -> Result<()> {
        let vector = desc.class == WeightClass::Vector;
        if vector && desc.format != WeightFormat::F32 {
            return misuse(format!("weight `{}` is a vector and must be f32", desc.name));
        }
        let format = match desc.format {
            WeightFormat::F32 => Format::F32,
            WeightFormat::F16 => Format::F16,
            WeightFormat::Bf16 => Format::Bf16,
            WeightFormat::Quantised(format) => {
                let what = format!("{} weights yet; load with f16 or bf16", format.name());
                return Err(BackendError::Unsupported { backend: "cuda", what });
            }
        };
        let pitch = if vector { desc.columns } else { pitch(desc.columns) };
        let bytes = desc.rows.checked_mul(desc.format.row_bytes(pitch));
        let bytes =
            bytes.filter(|_| u32::try_from(desc.rows.max(pitch)).is_ok()).ok_or_else(|| BackendError::Limit {
                what: format!("weight `{}`", desc.name),
                needed: format!("{} x {} numbers", desc.rows, desc.columns),
                available: "sides of 32 bits".into(),
            })?;
        let buffer = device.allocate(bytes).map_err(naming(&desc.name))?;
        let index = id.0 as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Weight { desc: desc.clone(), pitch, format, buffer });
        Ok(())
    }

    /// Fills rows.
    pub fn write(&mut self, device: &Device, id: WeightId, block: RowBlock<'_>) -> Result<()> {
        let found = self.0.get_mut(id.0 as usize).and_then(Option::as_mut);
        let Some(Weight { desc, pitch, buffer, .. }) = found else {
            return misuse(format!("weight {} was not created", id.0));
        };
        let (row, stride) = (desc.row_bytes(), desc.format.row_bytes(*pitch));
        let rows = block.bytes.len() / row.max(1);
        let fits = block.first.checked_add(rows).is_some_and(|end| end <= desc.rows);
        if !block.bytes.len().is_multiple_of(row.max(1)) || !fits {
            let (bytes, first) = (block.bytes.len(), block.first);
            return misuse(format!(
                "{bytes} bytes from row {first} do not fit weight `{}` of {} rows of {row} bytes",
                desc.name, desc.rows
            ));
        }
        let start = block.first * stride;
        if row == stride {
            return Ok(device.write(buffer, start, block.bytes)?);
        }
        let mut padded = vec![0; rows * stride];
        for (to, from) in padded.chunks_exact_mut(stride).zip(block.bytes.chunks_exact(row)) {
            to[..row].copy_from_slice(from);
        }
        Ok(device.write(buffer, start, &padded)?)
    }

    /// A weight.
    pub fn get(&self, id: WeightId) -> Result<&Weight> {
        let found = self.0.get(id.0 as usize).and_then(Option::as_ref);
        found.ok_or_else(|| BackendError::Misuse(format!("weight {} was not created", id.0)))
    }

    /// Refuses a weight that does not have the shape and the class of its recipe: the kernels trust them.
    pub fn check(&self, id: WeightId, recipe: &WeightRecipe) -> Result<()> {
        let desc = &self.get(id)?.desc;
        let name = &recipe.name;
        if (desc.rows, desc.columns) != (recipe.rows, recipe.columns) {
            let (got, wanted) = ([desc.rows, desc.columns], [recipe.rows, recipe.columns]);
            return misuse(format!("weight `{name}` was created as {got:?}, its recipe says {wanted:?}"));
        }
        if desc.class != recipe.class {
            let (got, wanted) = (desc.class, recipe.class);
            return misuse(format!("weight `{name}` was created as {got:?}, its recipe says {wanted:?}"));
        }
        Ok(())
    }

    /// The address of a vector.
    pub fn vector(&self, id: WeightId) -> Result<u64> {
        let weight = self.get(id)?;
        if weight.desc.class == WeightClass::Vector {
            Ok(weight.address())
        } else {
            misuse(format!("weight `{}` is a matrix, a vector is wanted", weight.desc.name))
        }
    }

    /// The same for one that may be absent: 0.
    pub fn vector_or_null(&self, id: Option<WeightId>) -> Result<u64> {
        id.map_or(Ok(0), |id| self.vector(id))
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.0.iter().flatten().map(|weight| weight.buffer.len()).sum()
    }
}
