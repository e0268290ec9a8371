//! Weights as they pass from a checkpoint to a backend.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::WeightClass;
use crate::formats::{Quantised, Rounding, quantise_row};

/// How a weight's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
    /// A few bits a number, with a scale for every 32 of them.
    Quantised(Quantised),
}

impl WeightFormat {
    /// `q8`
    pub const Q8: Self = Self::Quantised(Quantised::Q8);
    /// `q4`
    pub const Q4: Self = Self::Quantised(Quantised::Q4);
    /// `q4m`
    pub const Q4M: Self = Self::Quantised(Quantised::Q4m);
    /// `fp8`
    pub const FP8: Self = Self::Quantised(Quantised::Fp8);
    /// Every one.
    pub const ALL: [Self; 7] = [Self::F32, Self::F16, Self::Bf16, Self::Q8, Self::Q4, Self::Q4M, Self::FP8];

    /// The same, but 16 bits for FP8, where its codes are not kept.
    pub fn without_fp8(self) -> Self {
        if self == Self::FP8 { Self::Bf16 } else { self }
    }

    /// Bytes of a row of so many numbers, as it passes from a checkpoint to a backend.
    pub fn row_bytes(self, columns: usize) -> usize {
        match self {
            Self::F32 => 4 * columns,
            Self::F16 | Self::Bf16 => 2 * columns,
            Self::Quantised(format) => format.row_bytes(columns),
        }
    }

    /// Writes a row of numbers as the [`row_bytes`](Self::row_bytes) of `out`; where rows mean nothing to the format,
    /// any numbers. `false` when some of them are not finite in the format.
    pub fn encode(self, numbers: &[f32], rounding: Rounding, out: &mut [u8]) -> bool {
        match self {
            Self::F32 => {
                out.chunks_exact_mut(4).zip(numbers).for_each(|(b, x)| b.copy_from_slice(&x.to_le_bytes()));
                numbers.iter().all(|x| x.is_finite())
            }
            Self::F16 => {
                let mut halves = vec![f16::ZERO; numbers.len()];
                halves.convert_from_f32_slice(numbers);
                out.chunks_exact_mut(2).zip(&halves).for_each(|(b, x)| b.copy_from_slice(&x.to_le_bytes()));
                halves.iter().all(|x| x.is_finite())
            }
            Self::Bf16 => {
                let halves = out.chunks_exact_mut(2).zip(numbers);
                halves.for_each(|(b, &x)| b.copy_from_slice(&bf16::from_f32(x).to_le_bytes()));
                out.chunks_exact(2).all(|b| bf16::from_le_bytes([b[0], b[1]]).is_finite())
            }
            Self::Quantised(format) => quantise_row(numbers, format, rounding, out),
        }
    }

    /// `f32`, `f16`, `bf16`, `q8`, `q4`, `q4m`, `fp8`
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Quantised(format) => format.name(),
        }
    }
}

/// The shape and storage of a weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightDesc {
    /// For errors.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub columns: usize,
    /// Storage.
    pub format: WeightFormat,
    /// What it is for. Vectors are always f32.
    pub class: WeightClass,
}

impl WeightDesc {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.format.row_bytes(self.columns)
    }

    /// Bytes of all rows.
    pub fn bytes(&self) -> u64 {
        self.rows as u64 * self.row_bytes() as u64
    }
}

/// Consecutive rows of a weight, row-major, little-endian, without gaps, in the weight's format.
#[derive(Clone, Copy, Debug)]
pub struct RowBlock<'a> {
    /// First row.
    pub first: usize,
    /// [`WeightDesc::row_bytes`] for every row.
    pub bytes: &'a [u8],
}

/// Consecutive rows of a quantised weight as a checkpoint has them: row-major, little-endian, without gaps.
#[derive(Clone, Copy, Debug)]
pub struct SourceBlock<'a> {
    /// First row.
    pub first: usize,
    /// [`WeightFormat::row_bytes`] of `format` for every row.
    pub bytes: &'a [u8],
    /// Of the numbers: 16 or 32 bits.
    pub format: WeightFormat,
    /// What every number is multiplied with before it is rounded.
    pub scale: f32,
    /// How scales of groups are chosen.
    pub rounding: Rounding,
}
