//! Numbers from a checkpoint's dtype to a stored format: decode to f32, map, scale, encode. Halves are rounded to
//! nearest even.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use super::{Checkpoint, CheckpointError, Dtype, TensorInfo};
use crate::formats::{FP8_DIVISOR, GROUP, Quantised, Rounding, e4m3};
use crate::graph::{Map, Part, WeightFormat};

/// A finite number that is not finite any more, or not in f16 where it is quantised, once it is mapped, scaled and
/// stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overflow {
    /// Which number of the rows given.
    pub index: usize,
    /// Its value after map and scale.
    pub value: f32,
}

/// Numbers converted at a time where rows mean nothing to the formats; their f32 stay in the nearest cache.
const CHUNK: usize = 1024;

/// Conversion of the numbers of a part of a weight.
pub(super) struct Conversion {
    from: Dtype,
    to: WeightFormat,
    columns: usize,
    map: Map,
    /// The part's factor, and before the map that of FP8.
    scale: f32,
    fp8_scale: f32,
    rounding: Rounding,
}

impl Conversion {
    /// That of rows of a tensor to a format.
    pub async fn new(
        checkpoint: &Checkpoint,
        tensor: &str,
        info: &TensorInfo,
        to: WeightFormat,
        rounding: Rounding,
    ) -> Result<Self, CheckpointError> {
        let (from, fp8_scale) = (info.dtype.clone(), checkpoint.fp8_scale(tensor, info).await?);
        Ok(Self { from, to, columns: info.columns(), map: Map::Identity, scale: 1.0, fp8_scale, rounding })
    }

    /// That of single numbers of 16 or 32 bits to f32.
    pub fn plain(from: Dtype) -> Self {
        let (to, rounding) = (WeightFormat::F32, Rounding::default());
        Self { from, to, columns: 1, map: Map::Identity, scale: 1.0, fp8_scale: 1.0, rounding }
    }

    /// Numbers in f32.
    pub fn decoded(&self, bytes: &[u8]) -> Vec<f32> {
        let mut numbers = vec![0.0; bytes.len() / self.source_bytes(1).max(1)];
        self.decode(bytes, &mut numbers);
        numbers
    }

    /// The same with what a part of a weight does to its numbers.
    pub fn of_part(self, part: &Part) -> Self {
        Self { map: part.map, scale: part.scale, ..self }
    }

    /// True if numbers go through unchanged when the formats are the same.
    pub fn is_verbatim(&self) -> bool {
        self.map == Map::Identity
            && self.scale == 1.0
            && !matches!(self.from, Dtype::F8E4m3 | Dtype::Scaled(_) | Dtype::Merged(_))
    }

    /// Factor of the checkpoint on all numbers of the tensor: 1 for all but FP8.
    pub fn source_scale(&self) -> f32 {
        self.fp8_scale
    }

    /// Format and factor of numbers of 16 or 32 bits that are only scaled and quantised; `None` for others.
    pub fn of_many_bits(&self) -> Option<(WeightFormat, f32)> {
        let from = match self.from {
            Dtype::F32 | Dtype::Merged(_) => WeightFormat::F32,
            Dtype::F16 => WeightFormat::F16,
            Dtype::Bf16 => WeightFormat::Bf16,
            _ => return None,
        };
        let rounded = matches!(self.to, WeightFormat::Quantised(format) if format != Quantised::Fp8);
        let quantised = rounded && self.map == Map::Identity;
        quantised.then_some((from, self.scale))
    }

    /// Looks for numbers that the stored format does not hold once they are scaled, as [`run`](Self::run) does.
    pub fn check(&self, bytes: &[u8]) -> Result<(), Overflow> {
        let mut numbers = [0.0; CHUNK];
        for (index, bytes) in bytes.chunks(self.source_bytes(CHUNK).max(1)).enumerate() {
            let numbers = &mut numbers[..bytes.len() / self.source_bytes(1).max(1)];
            self.decode(bytes, numbers);
            if let Some(at) = numbers.iter().position(|x| !fits(x * self.scale, self.to)) {
                return Err(Overflow { index: index * CHUNK + at, value: numbers[at] * self.scale });
            }
        }
        Ok(())
    }

    /// Converts whole rows; `out` has room for as many.
    pub fn run(&self, bytes: &[u8], out: &mut [u8]) -> Result<(), Overflow> {
        if let (Dtype::Quantised(from), Map::Identity) = (&self.from, self.map)
            && self.to == WeightFormat::Quantised(*from)
        {
            return self.rescale(*from, bytes, out);
        }
        if self.to == WeightFormat::FP8 && self.map == Map::Identity && self.from.format() == Some(WeightFormat::FP8) {
            return self.keep_fp8(bytes, out);
        }
        let quantised = |dtype: &Dtype| matches!(dtype, Dtype::Quantised(_) | Dtype::Scaled(_));
        let by_rows = quantised(&self.from) || matches!(self.to, WeightFormat::Quantised(_));
        let width = if by_rows { self.columns } else { CHUNK };
        let (from, to) = (self.source_bytes(width), self.to.row_bytes(width));
        let pieces = bytes.chunks(from.max(1)).zip(out.chunks_mut(to.max(1))).enumerate();
        let piece = |numbers: &mut Vec<f32>, (index, (bytes, out)): (usize, (&[u8], &mut [u8]))| {
            numbers.resize(if by_rows { width } else { bytes.len() / self.source_bytes(1) }, 0.0);
            self.piece(bytes, numbers, out).map_err(|at| Overflow { index: index * width + at.index, ..at })
        };
        #[cfg(feature = "native")]
        if let WeightFormat::Quantised(_) = self.to {
            use rayon::iter::{IntoParallelIterator, ParallelIterator};
            // Rounding takes much longer than reading. The first fault in order is the one that is told.
            let found = pieces.collect::<Vec<_>>().into_par_iter().map_init(Vec::new, piece);
            return found.find_first(Result::is_err).unwrap_or(Ok(()));
        }
        let mut numbers = vec![];
        for found in pieces {
            piece(&mut numbers, found)?;
        }
        Ok(())
    }

    /// Quantised numbers times a factor, in the same format: only scales and minimums change.
    fn rescale(&self, format: Quantised, bytes: &[u8], out: &mut [u8]) -> Result<(), Overflow> {
        out.copy_from_slice(bytes);
        let [codes, ..] = format.planes(self.columns);
        for (row, planes) in out.chunks_exact_mut(format.row_bytes(self.columns).max(1)).enumerate() {
            for half in planes[codes..].chunks_exact_mut(2) {
                let value = f16::from_le_bytes([half[0], half[1]]).to_f32() * self.scale;
                let scaled = f16::from_f32(value);
                if !scaled.is_finite() {
                    return Err(Overflow { index: row * self.columns, value });
                }
                half.copy_from_slice(&scaled.to_le_bytes());
            }
        }
        Ok(())
    }

    /// Rows in FP8, whose codes go through unchanged. Scales that f16 does not hold to its usual precision are refused.
    fn keep_fp8(&self, bytes: &[u8], out: &mut [u8]) -> Result<(), Overflow> {
        let columns = self.columns;
        let (from, to) = (self.source_bytes(columns).max(1), Quantised::Fp8.row_bytes(columns).max(1));
        for (row, (bytes, out)) in bytes.chunks_exact(from).zip(out.chunks_exact_mut(to)).enumerate() {
            let (codes, scales) = out.split_at_mut(columns);
            codes.copy_from_slice(&bytes[..columns]);
            for (group, out) in scales.as_chunks_mut::<2>().0.iter_mut().enumerate() {
                let scale = self.scale
                    * match &self.from {
                        Dtype::Scaled(scaled) => scaled.scale(bytes, columns, group * GROUP),
                        _ => self.fp8_scale,
                    };
                let of_group = &codes[group * GROUP..columns.min((group + 1) * GROUP)];
                let zeros = scale == 0.0 || of_group.iter().all(|code| code & 0x7f == 0);
                let half = if zeros { f16::ZERO } else { f16::from_f32(scale * FP8_DIVISOR) };
                if !half.is_finite() || !(half.is_normal() || zeros) {
                    let at = of_group.iter().position(|code| code & 0x7f != 0).unwrap_or(0);
                    return Err(Overflow {
                        index: row * columns + group * GROUP + at,
                        value: scale * e4m3(of_group[at]),
                    });
                }
                *out = half.to_le_bytes();
            }
        }
        Ok(())
    }

    fn source_bytes(&self, columns: usize) -> usize {
        match &self.from {
            Dtype::F8E4m3 => columns,
            Dtype::Merged(_) => 4 * columns,
            Dtype::Scaled(scaled) => scaled.row_bytes(columns),
            dtype => dtype.format().map_or(0, |format| format.row_bytes(columns)),
        }
    }

    fn piece(&self, bytes: &[u8], numbers: &mut [f32], out: &mut [u8]) -> Result<(), Overflow> {
        self.decode(bytes, numbers);
        if self.map != Map::Identity || self.scale != 1.0 {
            numbers.iter_mut().for_each(|x| *x = self.map.apply(*x) * self.scale);
        }
        let quantised = matches!(self.to, WeightFormat::Quantised(_));
        // Scales are fractions of the numbers: where those fit, so do the scales.
        let held =
            self.to.encode(numbers, self.rounding, out) && (!quantised || numbers.iter().all(|&x| fits(x, self.to)));
        let lost = || numbers.iter().position(|&x| !fits(x, self.to));
        match if held { None } else { lost() } {
            Some(index) => Err(Overflow { index, value: numbers[index] }),
            None => Ok(()),
        }
    }

    fn decode(&self, bytes: &[u8], out: &mut [f32]) {
        let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
        match &self.from {
            Dtype::F32 | Dtype::Merged(_) => {
                for (x, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
                }
            }
            Dtype::F16 => {
                let halves: Vec<f16> = bytes.chunks_exact(2).map(|b| f16::from_bits(pair(b))).collect();
                halves.convert_to_f32_slice(&mut out[..halves.len()]);
            }
            Dtype::Bf16 => {
                for (x, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                    *x = bf16::from_bits(pair(b)).to_f32();
                }
            }
            Dtype::F8E4m3 => {
                for (x, &b) in out.iter_mut().zip(bytes) {
                    *x = e4m3(b) * self.fp8_scale;
                }
            }
            Dtype::Quantised(format) => format.split(bytes, self.columns).decode(out),
            Dtype::Scaled(scaled) => scaled.decode(bytes, out),
            // Refused before anything is converted.
            Dtype::Other(_) => out.fill(f32::NAN),
        }
    }
}

/// True if a format holds a number as a finite one. A group's minimum may be the number itself, in f16, and a device
/// that searches for a scale is asked to stand no more than that, so all quantised formats have the one limit.
fn fits(x: f32, format: WeightFormat) -> bool {
    match format {
        WeightFormat::F32 => x.is_finite(),
        WeightFormat::Quantised(_) => x.abs() <= f32::from(f16::MAX),
        WeightFormat::F16 => f16::from_f32(x).is_finite(),
        WeightFormat::Bf16 => bf16::from_f32(x).is_finite(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(
        bytes: &[u8],
        from: WeightFormat,
        to: WeightFormat,
        map: Map,
        scale: f32,
    ) -> Result<Vec<u8>, Overflow> {
        let from = match from {
            WeightFormat::F32 => Dtype::F32,
            WeightFormat::F16 => Dtype::F16,
            WeightFormat::Bf16 => Dtype::Bf16,
            WeightFormat::Quantised(format) => Dtype::Quantised(format),
        };
        convert(bytes, from, to, map, scale, 1)
    }

    fn convert(
        bytes: &[u8],
        from: Dtype,
        to: WeightFormat,
        map: Map,
        scale: f32,
        columns: usize,
    ) -> Result<Vec<u8>, Overflow> {
        let (fp8_scale, rounding) = (if from == Dtype::F8E4m3 { 0.5 } else { 1.0 }, Rounding::default());
        let conversion = Conversion { from, to, columns, map, scale, fp8_scale, rounding };
        let rows = bytes.len() / conversion.source_bytes(columns);
        let mut out = vec![0; rows * to.row_bytes(columns)];
        conversion.run(bytes, &mut out).map(|()| out)
    }

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn halves_are_rounded_to_nearest_even() {
        // Above 2048 an f16 counts in steps of 2, above 256 a bf16 does.
        for (to, ulp, even) in [(WeightFormat::F16, 2049.0, [0x00, 0x68]), (WeightFormat::Bf16, 257.0, [0x80, 0x43])] {
            let out = converted(&bytes(&[ulp]), WeightFormat::F32, to, Map::Identity, 1.0).expect("it fits");
            assert_eq!(out, even, "{}: a tie goes to the even neighbour", to.name());
        }
    }

    #[test]
    fn every_half_survives_the_way_through_f32() {
        for format in [WeightFormat::F16, WeightFormat::Bf16] {
            let exponent = if format == WeightFormat::F16 { 0x7c00 } else { 0x7f80 };
            let finite = (0..=u16::MAX).filter(|bits| bits & exponent != exponent);
            let all: Vec<u8> = finite.flat_map(u16::to_le_bytes).collect();
            let wide = converted(&all, format, WeightFormat::F32, Map::Identity, 1.0).expect("all fit in f32");
            let back = converted(&wide, WeightFormat::F32, format, Map::Identity, 1.0).expect("all came from it");
            assert_eq!(back, all, "{}", format.name());
        }
    }

    #[test]
    fn the_map_comes_before_the_scale() {
        let one = |x: f32, map, scale| converted(&bytes(&[x]), WeightFormat::F32, WeightFormat::F32, map, scale);
        assert_eq!(one(0.5, Map::AddOne, 3.0).expect("fits"), 4.5f32.to_le_bytes());
        assert_eq!(one(2.0, Map::NegExp, 0.5).expect("fits"), (-(2f32.exp()) * 0.5).to_le_bytes());
    }

    #[test]
    fn a_finite_number_never_becomes_an_infinity() {
        let mut numbers = vec![1.0; 2000];
        numbers[1500] = 65520.0;
        let to = |numbers: &[f32], to, map| converted(&bytes(numbers), WeightFormat::F32, to, map, 1.0);
        let error = to(&numbers, WeightFormat::F16, Map::Identity).expect_err("65504 is the largest");
        assert_eq!(error, Overflow { index: 1500, value: 65520.0 });
        numbers[1500] = 65519.0;
        to(&numbers, WeightFormat::F16, Map::Identity).expect("65504 is the largest");
        let error = to(&[f32::MAX], WeightFormat::Bf16, Map::Identity).expect_err("too large");
        assert_eq!(error, Overflow { index: 0, value: f32::MAX });
        let error = to(&[90.0], WeightFormat::F32, Map::NegExp).expect_err("too large");
        assert_eq!(error, Overflow { index: 0, value: f32::NEG_INFINITY });
        // A group has no place for what is not finite: the first such number is named.
        let mut rows = vec![0.5; 3 * 40];
        (rows[85], rows[90]) = (f32::NAN, f32::INFINITY);
        for format in [WeightFormat::Q8, WeightFormat::Q4, WeightFormat::Q4M] {
            let error = convert(&bytes(&rows), Dtype::F32, format, Map::Identity, 1.0, 40).expect_err("a NaN");
            assert!(error.index == 85 && error.value.is_nan(), "{error:?}");
            let huge = convert(&bytes(&[1e7; 40]), Dtype::F32, format, Map::Identity, 1.0, 40).expect_err("too large");
            assert_eq!(huge, Overflow { index: 0, value: 1e7 });
            // One limit for all of them, on the host and for a device.
            let of = |x: f32| {
                let conversion = Conversion {
                    from: Dtype::F32,
                    to: format,
                    columns: 40,
                    map: Map::Identity,
                    scale: 2.0,
                    fp8_scale: 1.0,
                    rounding: Rounding::default(),
                };
                let (bytes, mut out) = (bytes(&[x; 40]), vec![0; format.row_bytes(40)]);
                let (host, device) = (conversion.run(&bytes, &mut out), conversion.check(&bytes));
                assert_eq!(host, device, "{}", format.name());
                host
            };
            assert_eq!(of(32752.0), Ok(()), "{}", format.name());
            assert_eq!(of(-32753.0), Err(Overflow { index: 0, value: -65506.0 }), "{}", format.name());
        }
    }
}
