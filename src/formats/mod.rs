//! The quantised formats: what their bytes mean.
//!
//! The numbers of a row are cut into groups of [`GROUP`], the last of which may be shorter. A group has a scale,
//! and in `q4m` a minimum, in f16; a number is a code of 8 or 4 bits:
//!
//! | format | number | codes | bits a number |
//! |---|---|---|---|
//! | `q8` | `scale * code` | -128 ... 127, a byte each | 8.5 |
//! | `q4` | `scale * (code - 8)` | 0 ... 15, two a byte | 4.5 |
//! | `q4m` | `scale * code + minimum` | 0 ... 15, two a byte | 5 |
//! | `fp8` | `scale * code / 4096` | FP8 ([`e4m3`]), a byte each | 8.5 |
//!
//! `fp8` is for checkpoints in FP8, whose codes go through unchanged; nothing else is rounded to it. Their scales are small,
//! 1/448 of the largest number of a tensor, a row or a block; 4096 times that is in f16's normal range where the largest number
//! is from 6.7e-6 to 7,165.
//!
//! Of the two codes in a byte, the lower four bits are the first. A 4-bit row has an even number of columns.
//! A row's bytes are its planes one after the other: the codes, the scales, the minimums. In files every plane
//! is a tensor of its own (see [`checkpoint`](crate::checkpoint)). Backends pack both into what they read fastest.

mod fp8;
mod round;

use half::f16;

pub(crate) use fp8::nearest_e4m3;
pub use fp8::{FP8_DIVISOR, e4m3};
pub(crate) use round::TRIED;
pub use round::{ROUNDING_VERSION, Rounding, quantise_row};

/// Numbers that share a scale.
pub const GROUP: usize = 32;

/// A quantised format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantised {
    /// 8 bits and a scale.
    Q8,
    /// 4 bits and a scale.
    Q4,
    /// 4 bits, a scale and a minimum.
    Q4m,
    /// FP8 and a scale.
    Fp8,
}

impl Quantised {
    /// `q8`, `q4`, `q4m`, `fp8`
    pub fn name(self) -> &'static str {
        match self {
            Self::Q8 => "q8",
            Self::Q4 => "q4",
            Self::Q4m => "q4m",
            Self::Fp8 => "fp8",
        }
    }

    /// True if a row can have so many columns.
    pub fn holds(self, columns: usize) -> bool {
        self.code_bits() == 8 || columns.is_multiple_of(2)
    }

    /// Bits of a code.
    pub fn code_bits(self) -> usize {
        match self {
            Self::Q8 | Self::Fp8 => 8,
            Self::Q4 | Self::Q4m => 4,
        }
    }

    /// Bytes of the codes of a row.
    pub fn code_bytes(self, columns: usize) -> usize {
        columns * self.code_bits() / 8
    }

    /// True if groups have a minimum.
    pub fn has_minimums(self) -> bool {
        self == Self::Q4m
    }

    /// Bytes of the planes of a row: codes, scales, minimums. A format without minimums has 0 of them.
    pub fn planes(self, columns: usize) -> [usize; 3] {
        let scales = 2 * columns.div_ceil(GROUP);
        [self.code_bytes(columns), scales, if self.has_minimums() { scales } else { 0 }]
    }

    /// Bytes of a row.
    pub fn row_bytes(self, columns: usize) -> usize {
        self.planes(columns).iter().sum()
    }

    /// The planes of a row of [`row_bytes`](Self::row_bytes) bytes.
    pub fn split(self, row: &[u8], columns: usize) -> QuantisedRow<'_> {
        let [codes, scales, _] = self.planes(columns);
        let (codes, rest) = row.split_at(codes);
        let (scales, minimums) = rest.split_at(scales);
        QuantisedRow { format: self, codes, scales, minimums }
    }
}

/// The planes of a row.
#[derive(Clone, Copy, Debug)]
pub struct QuantisedRow<'a> {
    format: Quantised,
    /// A byte for every number of `q8` and `fp8`, for every two of the others.
    pub codes: &'a [u8],
    /// An f16 for every group.
    pub scales: &'a [u8],
    /// The same, or nothing.
    pub minimums: &'a [u8],
}

impl QuantisedRow<'_> {
    /// Factor and addend of a group: a number is `factor * code + addend`, where the codes of `q8` and `fp8` have a
    /// sign and the others have none.
    #[inline(always)]
    pub fn group(&self, group: usize) -> (f32, f32) {
        self.group_with(group, f16::to_f32)
    }

    /// The same with a conversion that suits the caller's loop.
    #[inline(always)]
    pub fn group_with(&self, group: usize, widen: impl Fn(f16) -> f32) -> (f32, f32) {
        let half = |plane: &[u8]| widen(f16::from_le_bytes([plane[2 * group], plane[2 * group + 1]]));
        let scale = half(self.scales);
        match self.format {
            Quantised::Q8 => (scale, 0.0),
            Quantised::Fp8 => (scale / FP8_DIVISOR, 0.0),
            Quantised::Q4 => (scale, -8.0 * scale),
            Quantised::Q4m => (scale, half(self.minimums)),
        }
    }

    /// The code of a column, as a number.
    #[inline(always)]
    fn code(&self, column: usize) -> f32 {
        match self.format {
            Quantised::Q8 => f32::from(self.codes[column] as i8),
            Quantised::Fp8 => e4m3(self.codes[column]),
            Quantised::Q4 | Quantised::Q4m => f32::from(self.codes[column / 2] >> (4 * (column % 2)) & 15),
        }
    }

    /// One number.
    pub fn at(&self, column: usize) -> f32 {
        let (factor, addend) = self.group(column / GROUP);
        factor * self.code(column) + addend
    }

    /// All numbers, as many as `out` takes.
    pub fn decode(&self, out: &mut [f32]) {
        for (group, out) in out.chunks_mut(GROUP).enumerate() {
            let (factor, addend) = self.group(group);
            for (i, x) in out.iter_mut().enumerate() {
                *x = factor * self.code(group * GROUP + i) + addend;
            }
        }
    }
}
