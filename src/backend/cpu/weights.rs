//! Weights in their own formats.

use half::{bf16, f16};

use super::memory::zeros;
use crate::backend::checks::misuse;
use crate::backend::{BackendError, Result};
use crate::formats::{Quantised, QuantisedRow};
use crate::graph::{RowBlock, WeightClass, WeightDesc, WeightFormat, WeightId, WeightRecipe};

/// The numbers of a weight.
pub(super) enum Numbers {
    /// IEEE single.
    F32(Vec<f32>),
    /// IEEE half.
    F16(Vec<f16>),
    /// The upper half of a single.
    Bf16(Vec<bf16>),
    /// Rows of codes, scales and minimums.
    Quantised(Quantised, Vec<u8>),
}

/// A matrix `[rows, columns]`, row-major.
pub(super) struct Weight {
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// Row-major.
    pub numbers: Numbers,
    name: String,
}

impl Weight {
    /// A weight of zeros.
    pub fn new(desc: &WeightDesc) -> Result<Self> {
        let WeightDesc { name, rows, columns, .. } = desc;
        let numbers = match desc.format {
            WeightFormat::F32 => Numbers::F32(zeros(*rows, *columns, name)?),
            WeightFormat::F16 => Numbers::F16(zeros(*rows, *columns, name)?),
            WeightFormat::Bf16 => Numbers::Bf16(zeros(*rows, *columns, name)?),
            WeightFormat::Quantised(format) if format.holds(*columns) => {
                Numbers::Quantised(format, zeros(*rows, format.row_bytes(*columns), name)?)
            }
            WeightFormat::Quantised(format) => {
                let what = format!("weight `{name}`: {} cannot hold rows of {columns} numbers", format.name());
                return Err(BackendError::Misuse(what));
            }
        };
        Ok(Self { rows: *rows, columns: *columns, numbers, name: name.clone() })
    }

    /// Fills rows.
    pub fn write(&mut self, block: RowBlock<'_>) -> Result<()> {
        let bytes: &mut [u8] = match &mut self.numbers {
            Numbers::F32(n) => bytemuck::cast_slice_mut(n),
            Numbers::F16(n) => bytemuck::cast_slice_mut(n),
            Numbers::Bf16(n) => bytemuck::cast_slice_mut(n),
            Numbers::Quantised(_, n) => n,
        };
        let row = bytes.len() / self.rows.max(1);
        let from = block.first.saturating_mul(row);
        let target = bytes.get_mut(from..from.saturating_add(block.bytes.len()));
        let whole_rows = row > 0 && block.bytes.len().is_multiple_of(row);
        let Some(target) = target.filter(|_| whole_rows) else {
            return Err(BackendError::Misuse(format!(
                "{} bytes from row {} do not fit weight `{}` of {} rows of {row} bytes",
                block.bytes.len(),
                block.first,
                self.name,
                self.rows
            )));
        };
        target.copy_from_slice(block.bytes);
        Ok(())
    }

    /// Numbers in it.
    pub fn len(&self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of its numbers.
    pub fn bytes(&self) -> usize {
        match &self.numbers {
            Numbers::F32(n) => size_of_val(n.as_slice()),
            Numbers::F16(n) => size_of_val(n.as_slice()),
            Numbers::Bf16(n) => size_of_val(n.as_slice()),
            Numbers::Quantised(_, n) => n.len(),
        }
    }

    /// One number.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        let index = row * self.columns + column;
        match &self.numbers {
            Numbers::F32(n) => n[index],
            Numbers::F16(n) => n[index].to_f32(),
            Numbers::Bf16(n) => n[index].to_f32(),
            Numbers::Quantised(format, n) => self.quantised_row(*format, n, row).at(column),
        }
    }

    /// The planes of a row.
    fn quantised_row<'a>(&self, format: Quantised, bytes: &'a [u8], row: usize) -> QuantisedRow<'a> {
        let row_bytes = format.row_bytes(self.columns);
        format.split(&bytes[row * row_bytes..][..row_bytes], self.columns)
    }
}

/// All weights, by id.
#[derive(Default)]
pub(super) struct Weights(Vec<Option<Weight>>);

impl Weights {
    /// Puts a weight in its place.
    pub fn insert(&mut self, id: WeightId, weight: Weight) {
        let index = id.0 as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(weight);
    }

    /// A weight.
    pub fn get(&self, id: WeightId) -> Result<&Weight> {
        let found = self.0.get(id.0 as usize).and_then(Option::as_ref);
        found.ok_or_else(|| BackendError::Misuse(format!("weight {} was not created", id.0)))
    }

    /// A weight to be written.
    pub fn get_mut(&mut self, id: WeightId) -> Result<&mut Weight> {
        let found = self.0.get_mut(id.0 as usize).and_then(Option::as_mut);
        found.ok_or_else(|| BackendError::Misuse(format!("weight {} was not created", id.0)))
    }

    /// Refuses a weight that does not have the shape of its recipe, or that should be a vector and is none.
    pub fn check(&self, id: WeightId, recipe: &WeightRecipe) -> Result<()> {
        let weight = self.get(id)?;
        if weight.len() != recipe.len() || weight.rows != recipe.rows {
            let (got, wanted) = ([weight.rows, weight.columns], [recipe.rows, recipe.columns]);
            return misuse(format!("weight `{}` was created as {got:?}, its recipe says {wanted:?}", recipe.name));
        }
        if recipe.class == WeightClass::Vector {
            self.vector(id)?;
        }
        Ok(())
    }

    /// A weight that must be stored in f32: norms, biases, decay and skip terms.
    pub fn vector(&self, id: WeightId) -> Result<&[f32]> {
        let weight = self.get(id)?;
        match &weight.numbers {
            Numbers::F32(numbers) => Ok(numbers),
            _ => Err(BackendError::Misuse(format!("weight `{}` is a vector and must be f32", weight.name))),
        }
    }

    /// The same for a weight that may be absent.
    pub fn vector_opt(&self, id: Option<WeightId>) -> Result<Option<&[f32]>> {
        id.map(|id| self.vector(id)).transpose()
    }

    /// Bytes of all weights.
    pub fn bytes(&self) -> usize {
        self.0.iter().flatten().map(Weight::bytes).sum()
    }
}
