//! Weights as they pass from a checkpoint to a backend.

use super::WeightClass;

/// How a weight's numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// IEEE single.
    F32,
    /// IEEE half.
    F16,
    /// The upper half of a single.
    Bf16,
}

impl WeightFormat {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// `f32`, `f16`, `bf16`
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
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

/// Consecutive rows of a weight, row-major, little-endian, without gaps, in the weight's format.
#[derive(Clone, Copy, Debug)]
pub struct RowBlock<'a> {
    /// First row.
    pub first: usize,
    /// `rows * columns * format.bytes()` bytes.
    pub bytes: &'a [u8],
}
