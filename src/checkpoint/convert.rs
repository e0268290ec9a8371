//! Numbers from a checkpoint's dtype to a stored format: decode to f32, map, scale, round to nearest even.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::graph::{Part, WeightFormat};

/// A finite number that the stored format holds only as an infinity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Overflow {
    /// Which number of the bytes given.
    pub index: usize,
    /// Its value after map and scale.
    pub value: f32,
}

/// Numbers converted at a time; their f32 stay in the nearest cache.
const CHUNK: usize = 1024;

/// Appends the numbers of `bytes` (little-endian, as `from`), changed as `part` says, to `out` as `to`.
pub(super) fn convert(
    bytes: &[u8],
    from: WeightFormat,
    to: WeightFormat,
    part: &Part,
    out: &mut Vec<u8>,
) -> Result<(), Overflow> {
    let mut numbers = [0f32; CHUNK];
    for (chunk, bytes) in bytes.chunks(CHUNK * from.bytes()).enumerate() {
        let numbers = &mut numbers[..bytes.len() / from.bytes()];
        decode(bytes, from, numbers);
        if !part.is_verbatim() {
            numbers.iter_mut().for_each(|x| *x = part.map.apply(*x) * part.scale);
        }
        if !encode(numbers, to, out) {
            // Infinities and NaN that the checkpoint itself holds pass.
            let mut source = [0f32; CHUNK];
            decode(bytes, from, &mut source[..numbers.len()]);
            let lost = |i: &usize| source[*i].is_finite() && !fits(numbers[*i], to);
            if let Some(i) = (0..numbers.len()).find(lost) {
                return Err(Overflow { index: chunk * CHUNK + i, value: numbers[i] });
            }
        }
    }
    Ok(())
}

fn decode(bytes: &[u8], from: WeightFormat, out: &mut [f32]) {
    let pair = |b: &[u8]| u16::from_le_bytes([b[0], b[1]]);
    match from {
        WeightFormat::F32 => {
            for (x, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *x = f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        WeightFormat::F16 => {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..out.len()];
            halves.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(x, b)| *x = f16::from_bits(pair(b)));
            halves.convert_to_f32_slice(out);
        }
        WeightFormat::Bf16 => {
            for (x, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *x = bf16::from_bits(pair(b)).to_f32();
            }
        }
    }
}

/// Appends numbers; `false` when some of them are not finite in the format.
fn encode(numbers: &[f32], to: WeightFormat, out: &mut Vec<u8>) -> bool {
    match to {
        WeightFormat::F32 => {
            out.extend(numbers.iter().flat_map(|x| x.to_le_bytes()));
            numbers.iter().all(|x| x.is_finite())
        }
        WeightFormat::F16 => {
            let mut halves = [f16::ZERO; CHUNK];
            let halves = &mut halves[..numbers.len()];
            halves.convert_from_f32_slice(numbers);
            out.extend(halves.iter().flat_map(|x| x.to_le_bytes()));
            halves.iter().all(|x| x.is_finite())
        }
        WeightFormat::Bf16 => {
            let start = out.len();
            out.extend(numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()));
            out[start..].chunks_exact(2).all(|b| bf16::from_le_bytes([b[0], b[1]]).is_finite())
        }
    }
}

fn fits(x: f32, format: WeightFormat) -> bool {
    match format {
        WeightFormat::F32 => x.is_finite(),
        WeightFormat::F16 => f16::from_f32(x).is_finite(),
        WeightFormat::Bf16 => bf16::from_f32(x).is_finite(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Map;

    fn part(map: Map, scale: f32) -> Part {
        Part::all("t", &[1]).mapped(map).scaled(scale)
    }

    fn bytes(numbers: &[f32]) -> Vec<u8> {
        numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    #[test]
    fn halves_are_rounded_to_nearest_even() {
        // Above 2048 an f16 counts in steps of 2, above 256 a bf16 does.
        for (to, ulp, even) in [(WeightFormat::F16, 2049.0, [0x00, 0x68]), (WeightFormat::Bf16, 257.0, [0x80, 0x43])] {
            let mut out = vec![];
            convert(&bytes(&[ulp]), WeightFormat::F32, to, &part(Map::Identity, 1.0), &mut out).expect("it fits");
            assert_eq!(out, even, "{}: a tie goes to the even neighbour", to.name());
        }
    }

    #[test]
    fn every_half_survives_the_way_through_f32() {
        let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        for format in [WeightFormat::F16, WeightFormat::Bf16] {
            let (mut wide, mut back) = (vec![], vec![]);
            convert(&all, format, WeightFormat::F32, &part(Map::Identity, 1.0), &mut wide).expect("all fit in f32");
            convert(&wide, WeightFormat::F32, format, &part(Map::Identity, 1.0), &mut back).expect("all came from it");
            let numbers = |bytes: &[u8], i: usize| u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
            for i in 0..=usize::from(u16::MAX) {
                let (a, b) = (numbers(&all, i), numbers(&back, i));
                let nan = match format {
                    WeightFormat::F16 => f16::from_bits(a).is_nan() && f16::from_bits(b).is_nan(),
                    _ => bf16::from_bits(a).is_nan() && bf16::from_bits(b).is_nan(),
                };
                assert!(a == b || nan, "{}: {a:#06x} became {b:#06x}", format.name());
            }
        }
    }

    #[test]
    fn the_map_comes_before_the_scale() {
        let mut out = vec![];
        convert(&bytes(&[0.5]), WeightFormat::F32, WeightFormat::F32, &part(Map::AddOne, 3.0), &mut out).expect("fits");
        assert_eq!(out, 4.5f32.to_le_bytes());
        out.clear();
        convert(&bytes(&[2.0]), WeightFormat::F32, WeightFormat::F32, &part(Map::NegExp, 0.5), &mut out).expect("fits");
        assert_eq!(out, (-(2f32.exp()) * 0.5).to_le_bytes());
    }

    #[test]
    fn a_finite_number_never_becomes_an_infinity() {
        let mut numbers = vec![1.0; 2000];
        numbers[7] = f32::INFINITY;
        numbers[1500] = 65520.0;
        let identity = part(Map::Identity, 1.0);
        let error = convert(&bytes(&numbers), WeightFormat::F32, WeightFormat::F16, &identity, &mut vec![]);
        assert_eq!(error, Err(Overflow { index: 1500, value: 65520.0 }));
        numbers[1500] = 65519.0;
        convert(&bytes(&numbers), WeightFormat::F32, WeightFormat::F16, &identity, &mut vec![])
            .expect("65504 is the largest");
        let error = convert(&bytes(&[f32::MAX]), WeightFormat::F32, WeightFormat::Bf16, &identity, &mut vec![]);
        assert_eq!(error, Err(Overflow { index: 0, value: f32::MAX }));
        let error =
            convert(&bytes(&[90.0]), WeightFormat::F32, WeightFormat::F32, &part(Map::NegExp, 1.0), &mut vec![]);
        assert_eq!(error, Err(Overflow { index: 0, value: f32::NEG_INFINITY }));
    }
}
