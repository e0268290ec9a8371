//! ggml's types of numbers: blocks, and the planes of [`Quantised`] that they become.
//!
//! | type | numbers a block | a number | becomes | |
//! |---|---|---|---|---|
//! | `F32`, `F16`, `BF16` | 1 | itself | itself | exact |
//! | `Q8_0` | 32 | `d * q`, 8 bits | `q8` | exact |
//! | `Q5_0` | 32 | `d * (q - 16)`, 5 bits | `q8` | exact |
//! | `Q4_0` | 32 | `d * (q - 8)`, 4 bits | `q4` | exact |
//! | `Q4_1` | 32 | `d * q + m`, 4 bits | `q4m` | exact |
//! | `Q4_K` | 256 | `d s q - e m`, 4 bits; `s`, `m` of 6 bits for each 32 | `q4m` | scale and minimum rounded to f16 |
//! | `Q5_1`, `Q5_K` | 32, 256 | the same with 5 bits | `q8` | rounded again |
//! | `Q6_K` | 256 | `d s (q - 32)`, 6 bits; `s` of 8 bits for each 16 | `q8` | rounded again |
//!
//! What rounding again costs is measured in `docs/quantisation.md`. Others are refused by name when a model needs them.
//! Source: ggml's block structures (`ggml-common.h`) and their dequantisation (`ggml-quants.c`), as PyPI's `gguf` 0.19
//! computes it too.

use std::fmt;

use half::f16;

use crate::checkpoint::Dtype;
use crate::formats::{GROUP, Quantised, Rounding, quantise_row};

/// Numbers of a block of the `K` types.
const SUPER: usize = 256;

/// A type of numbers, by its number in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GgmlType(u32);

/// Number in the format, name, numbers and bytes of a block of every type that is read.
const READ: [(u32, &str, usize, usize); 11] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (30, "BF16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (12, "Q4_K", SUPER, 144),
    (13, "Q5_K", SUPER, 176),
    (14, "Q6_K", SUPER, 210),
];
/// Names of the others, for errors.
const OTHERS: [(u32, &str); 24] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
    (41, "Q1_0"),
    (42, "Q2_0"),
];

impl GgmlType {
    /// That of a number in the format.
    pub(super) fn new(number: u32) -> Self {
        Self(number)
    }

    fn entry(self) -> Option<&'static (u32, &'static str, usize, usize)> {
        READ.iter().find(|(number, ..)| *number == self.0)
    }

    /// Numbers and bytes of a block; `None` of a type that is not read.
    pub fn block(self) -> Option<(usize, usize)> {
        self.entry().map(|&(_, _, numbers, bytes)| (numbers, bytes))
    }

    /// Bytes of a row of whole blocks; 0 of a type that is not read.
    pub(crate) fn row_bytes(self, columns: usize) -> usize {
        self.block().map_or(0, |(numbers, bytes)| columns / numbers * bytes)
    }

    /// The dtype that its rows are given in.
    pub(super) fn dtype(self) -> Dtype {
        match self.entry().map(|entry| entry.1) {
            Some("F32") => Dtype::F32,
            Some("F16") => Dtype::F16,
            Some("BF16") => Dtype::Bf16,
            Some("Q4_0") => Dtype::Quantised(Quantised::Q4),
            Some("Q4_1" | "Q4_K") => Dtype::Quantised(Quantised::Q4m),
            Some(_) => Dtype::Quantised(Quantised::Q8),
            None => Dtype::Other(self.to_string()),
        }
    }

    /// True if the numbers are rounded again on the way into planes.
    pub fn is_rounded(self) -> bool {
        matches!(self.entry().map(|entry| entry.1), Some("Q5_1" | "Q5_K" | "Q6_K"))
    }

    /// Rows as [`dtype`](Self::dtype) has them, from `rows` of whole blocks: the planes of each row, one after the other.
    /// `None`: a number or a scale that f16 does not hold.
    pub(crate) fn unpack(self, rows: &[u8], columns: usize) -> Option<Vec<u8>> {
        let (Dtype::Quantised(format), Some((numbers, bytes))) = (self.dtype(), self.block()) else {
            return Some(rows.to_vec());
        };
        let row_bytes = format.row_bytes(columns);
        let mut out = vec![0; rows.len() / self.row_bytes(columns).max(1) * row_bytes];
        let mut decoded = vec![0.0; columns];
        for (row, out) in rows.chunks_exact(self.row_bytes(columns).max(1)).zip(out.chunks_exact_mut(row_bytes.max(1)))
        {
            if self.is_rounded() {
                for (block, decoded) in row.chunks_exact(bytes).zip(decoded.chunks_exact_mut(numbers)) {
                    self.decode(block, decoded);
                }
                if !quantise_row(&decoded, format, Rounding::Absmax, out) {
                    return None;
                }
            } else {
                let mut planes = Planes::new(format, columns, out);
                for (index, block) in row.chunks_exact(bytes).enumerate() {
                    self.regroup(block, index * numbers / GROUP, &mut planes)?;
                }
            }
        }
        Some(out)
    }

    /// A block's groups as they are, into planes from `group` on.
    fn regroup(self, block: &[u8], group: usize, planes: &mut Planes) -> Option<()> {
        match self.0 {
            2 => planes.set(group, half(block, 0), None, nibbles(&block[2..])),
            3 => planes.set(group, half(block, 0), Some(half(block, 2)), nibbles(&block[4..])),
            6 => {
                let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
                let mut codes = nibbles(&block[6..]);
                for (j, code) in codes.iter_mut().enumerate() {
                    *code = (*code | ((high >> j & 1) as u8) << 4).wrapping_sub(16);
                }
                planes.set(group, half(block, 0), None, codes)
            }
            8 => {
                let mut codes = [0; GROUP];
                codes.copy_from_slice(&block[2..]);
                planes.set(group, half(block, 0), None, codes)
            }
            _ => {
                let (d, e) = (half(block, 0).to_f32(), half(block, 2).to_f32());
                for j in 0..SUPER / GROUP {
                    let (scale, minimum) = six_bits(&block[4..16], j);
                    let codes = half_bytes(&block[16 + j / 2 * GROUP..][..GROUP], j % 2);
                    let (scale, minimum) = (f16::from_f32(d * scale), f16::from_f32(-e * minimum));
                    planes.set(group + j, scale, Some(minimum), codes)?;
                }
                Some(())
            }
        }
    }

    /// A block's numbers.
    fn decode(self, block: &[u8], out: &mut [f32]) {
        match self.0 {
            7 => {
                let (d, m) = (half(block, 0).to_f32(), half(block, 2).to_f32());
                let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
                for (j, (x, code)) in out.iter_mut().zip(nibbles(&block[8..])).enumerate() {
                    *x = d * f32::from(code | ((high >> j & 1) as u8) << 4) + m;
                }
            }
            13 => {
                let (d, e) = (half(block, 0).to_f32(), half(block, 2).to_f32());
                let high = &block[16..48];
                for (j, out) in out.chunks_exact_mut(GROUP).enumerate() {
                    let (scale, minimum) = six_bits(&block[4..16], j);
                    let codes = half_bytes(&block[48 + j / 2 * GROUP..][..GROUP], j % 2);
                    for (i, x) in out.iter_mut().enumerate() {
                        *x = d * scale * f32::from(codes[i] | (high[i] >> j & 1) << 4) - e * minimum;
                    }
                }
            }
            _ => {
                // Halves of 128: 64 bytes of low bits, 32 of high bits, eight scales.
                let d = half(block, 208).to_f32();
                for (part, out) in out.chunks_exact_mut(128).enumerate() {
                    let (low, high) = (&block[64 * part..][..64], &block[128 + 32 * part..][..32]);
                    let scales = &block[192 + 8 * part..][..8];
                    for (i, x) in out.iter_mut().enumerate() {
                        let (quarter, l) = (i / 32, i % 32);
                        let bits = low[32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                        let code = i32::from(bits | (high[l] >> (2 * quarter) & 3) << 4) - 32;
                        *x = d * f32::from(scales[2 * quarter + l / 16] as i8) * code as f32;
                    }
                }
            }
        }
    }
}

impl fmt::Display for GgmlType {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let read = self.entry().map(|entry| entry.1);
        match read.or_else(|| OTHERS.iter().find(|(number, _)| *number == self.0).map(|&(_, name)| name)) {
            Some(name) => f.write_str(name),
            None => write!(f, "ggml's type {}", self.0),
        }
    }
}

fn half(block: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([block[at], block[at + 1]])
}

/// 32 codes of 16 bytes, whose lower halves come first.
fn nibbles(bytes: &[u8]) -> [u8; GROUP] {
    std::array::from_fn(|j| bytes[j % 16] >> (4 * (j / 16)) & 15)
}

/// 32 codes of the lower or the upper halves of as many bytes.
fn half_bytes(bytes: &[u8], upper: usize) -> [u8; GROUP] {
    std::array::from_fn(|j| bytes[j] >> (4 * upper) & 15)
}

/// Scale and minimum of a group of 32 of a block of 256, from 12 bytes that hold 16 numbers of 6 bits.
fn six_bits(bytes: &[u8], group: usize) -> (f32, f32) {
    let (scale, minimum) = if group < 4 {
        (bytes[group] & 63, bytes[group + 4] & 63)
    } else {
        (bytes[group + 4] & 15 | bytes[group - 4] >> 6 << 4, bytes[group + 4] >> 4 | bytes[group] >> 6 << 4)
    };
    (scale.into(), minimum.into())
}

/// The planes of a row, written group by group.
struct Planes<'a> {
    format: Quantised,
    codes: &'a mut [u8],
    scales: &'a mut [u8],
    minimums: &'a mut [u8],
}

impl<'a> Planes<'a> {
    fn new(format: Quantised, columns: usize, row: &'a mut [u8]) -> Self {
        let [codes, scales, _] = format.planes(columns);
        let (codes, rest) = row.split_at_mut(codes);
        let (scales, minimums) = rest.split_at_mut(scales);
        Self { format, codes, scales, minimums }
    }

    /// Writes a group; `None` if scale or minimum is not finite.
    fn set(&mut self, group: usize, scale: f16, minimum: Option<f16>, codes: [u8; GROUP]) -> Option<()> {
        self.scales[2 * group..][..2].copy_from_slice(&scale.to_le_bytes());
        if let Some(minimum) = minimum {
            self.minimums[2 * group..][..2].copy_from_slice(&minimum.to_le_bytes());
        }
        if self.format == Quantised::Q8 {
            self.codes[GROUP * group..][..GROUP].copy_from_slice(&codes);
        } else {
            let (pairs, _) = codes.as_chunks::<2>();
            for (byte, [low, high]) in self.codes[GROUP / 2 * group..].iter_mut().zip(pairs) {
                *byte = low | high << 4;
            }
        }
        (scale.is_finite() && minimum.is_none_or(f16::is_finite)).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a block that are as good as random, with scales of `d` and `m`.
    fn block(kind: GgmlType, halves: &[f32]) -> Vec<u8> {
        let (_, bytes) = kind.block().expect("a type that is read");
        let scales: Vec<u8> = halves.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let rest = (0..bytes - scales.len()).map(|i| (i * 151 + i * i * 37 + 11) as u8);
        scales.iter().copied().chain(rest).collect()
    }

    #[test]
    fn codes_of_five_bits_go_through_unchanged() {
        let kind = GgmlType::new(6);
        let block = block(kind, &[0.5]);
        let planes = kind.unpack(&block, GROUP).expect("finite");
        let mut numbers = [0.0; GROUP];
        Quantised::Q8.split(&planes, GROUP).decode(&mut numbers);
        for (j, x) in numbers.into_iter().enumerate() {
            let low = block[6 + j % 16] >> (4 * (j / 16)) & 15;
            let high = block[2 + j / 8] >> (j % 8) & 1;
            assert_eq!(x, 0.5 * (f32::from(low) + 16.0 * f32::from(high) - 16.0), "number {j}");
        }
    }

    #[test]
    fn what_is_rounded_again_is_within_half_a_step() {
        let kind = GgmlType::new(7);
        let block = block(kind, &[0.25, -3.0]);
        let planes = kind.unpack(&block, GROUP).expect("finite");
        let mut numbers = [0.0; GROUP];
        Quantised::Q8.split(&planes, GROUP).decode(&mut numbers);
        let wanted: Vec<f32> = (0..GROUP)
            .map(|j| {
                let low = block[8 + j % 16] >> (4 * (j / 16)) & 15;
                let high = block[4 + j / 8] >> (j % 8) & 1;
                0.25 * (f32::from(low) + 16.0 * f32::from(high)) - 3.0
            })
            .collect();
        let most = wanted.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (x, wanted) in numbers.into_iter().zip(wanted) {
            // Half a step, and the rounding of the scale to f16.
            assert!((x - wanted).abs() <= most / 127.0 * 0.5 + most / 2048.0, "{x} for {wanted}");
        }
    }

    #[test]
    fn a_scale_that_is_not_finite_is_told() {
        for number in [2, 3, 6, 8, 12] {
            let kind = GgmlType::new(number);
            let (numbers, _) = kind.block().expect("a type that is read");
            assert!(kind.unpack(&block(kind, &[0.5]), numbers).is_some(), "{kind}");
            assert!(kind.unpack(&block(kind, &[f32::INFINITY]), numbers).is_none(), "{kind}");
        }
        // The scale itself is in f16, its product with six bits is not.
        let kind = GgmlType::new(12);
        let mut large = block(kind, &[60000.0, 0.0]);
        large[4] = 63;
        assert!(kind.unpack(&large, SUPER).is_none());
    }

    #[test]
    fn names_are_those_of_ggml() {
        for (number, name) in [(0, "F32"), (12, "Q4_K"), (20, "IQ4_NL"), (39, "MXFP4"), (99, "ggml's type 99")] {
            assert_eq!(GgmlType::new(number).to_string(), name);
        }
        assert_eq!(GgmlType::new(20).dtype(), Dtype::Other("IQ4_NL".into()));
    }
}
