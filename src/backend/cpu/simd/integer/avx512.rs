//! AVX-512 with VNNI: 64 products in an instruction, four of which make a sum of 32 bits.
//!
//! A pair of groups fills a register: its lanes 0 to 7 are sums of the first group, 8 to 15 of the second. Sixteen factors are
//! widened at once, and every pair picks its two.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPDPBUSD.

use std::arch::x86_64::*;

use super::{QuantisedRows, Rounded, RoundedRow};
use crate::formats::{GROUP, Quantised, QuantisedRow};

/// Pairs of groups whose factors are widened at once.
const PAIRS: usize = 8;

/// Columns of a result that [`wide`] makes.
pub(super) const OUTPUTS: usize = 16;

/// Whether the processor has the instructions of [`strip`].
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("f16c")
        && is_x86_feature_detected!("fma")
}

/// A strip of products, see [`QuantisedRows::each`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
pub(super) fn strip<const N: usize>(weight: &QuantisedRows<'_>, x: &[RoundedRow<'_>; N], out: &mut [&mut [f32]]) {
    weight.each(x, out, |row| dots(weight.format, row, x));
}

/// The products of the groups that make pairs, and how many groups those are.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
fn dots<const N: usize>(format: Quantised, row: &QuantisedRow<'_>, x: &[RoundedRow<'_>; N]) -> ([f32; N], usize) {
    let pairs = x[0].columns / (2 * GROUP);
    let code_bytes = format.code_bytes(2 * GROUP);
    assert!(row.codes.len() >= pairs * code_bytes && row.scales.len() >= 4 * pairs);
    assert!(!format.has_minimums() || row.minimums.len() >= 4 * pairs);
    // Of `x` there are as many codes, and a multiple of sixteen scales and sums: see `Rounded::row`.
    let zero = _mm512_setzero_si512();
    let mut sums = [_mm512_setzero_ps(); N];
    let mut minimums = [_mm512_setzero_ps(); N];
    for first in (0..pairs).step_by(PAIRS) {
        let count = (pairs - first).min(PAIRS);
        let mask = ((1u32 << (2 * count)) - 1) as __mmask16;
        // SAFETY: the mask leaves out what is behind `pairs`, up to which all planes reach.
        let halves = |plane: &[u8]| unsafe {
            _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, plane.as_ptr().add(4 * first).cast()))
        };
        let factors = halves(row.scales);
        let mut products = [_mm512_setzero_ps(); N];
        for r in 0..N {
            // SAFETY: scales and sums are a multiple of sixteen.
            let scales = unsafe { _mm512_loadu_ps(x[r].scales.as_ptr().add(2 * first)) };
            products[r] = _mm512_mul_ps(factors, scales);
            if format.has_minimums() {
                // SAFETY: the same.
                let codes = unsafe { _mm512_loadu_si512(x[r].sums.as_ptr().add(2 * first).cast()) };
                let codes = _mm512_mul_ps(scales, _mm512_cvtepi32_ps(codes));
                minimums[r] = _mm512_fmadd_ps(halves(row.minimums), codes, minimums[r]);
            }
        }
        for pair in first..first + count {
            // SAFETY: the codes of `pairs` pairs are there.
            let codes = unsafe { row.codes.as_ptr().add(pair * code_bytes) };
            let w = if format == Quantised::Q8 {
                // SAFETY: 64 bytes of them.
                unsafe { _mm512_loadu_si512(codes.cast()) }
            } else {
                // SAFETY: 32 bytes of them.
                let bytes = unsafe { _mm512_castsi256_si512(_mm256_loadu_si256(codes.cast())) };
                // A group's bytes twice, for the lower and the upper halves.
                let twice = _mm512_shuffle_i64x2::<0b01_01_00_00>(bytes, bytes);
                let shifted = _mm512_srlv_epi64(twice, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4));
                let codes = _mm512_and_si512(shifted, _mm512_set1_epi8(15));
                _mm512_sub_epi8(codes, _mm512_set1_epi8(super::offset(format)))
            };
            let (size, negative) = (_mm512_abs_epi8(w), _mm512_movepi8_mask(w));
            let of_first = _mm512_set1_epi32((2 * (pair - first)) as i32);
            let lanes = _mm512_mask_add_epi32(of_first, 0xff00, of_first, _mm512_set1_epi32(1));
            for r in 0..N {
                // SAFETY: the codes of `pairs` pairs are there.
                let codes = unsafe { _mm512_loadu_si512(x[r].codes.as_ptr().add(2 * GROUP * pair).cast()) };
                let signed = _mm512_mask_sub_epi8(codes, negative, zero, codes);
                let integers = _mm512_cvtepi32_ps(_mm512_dpbusd_epi32(zero, size, signed));
                sums[r] = _mm512_fmadd_ps(integers, _mm512_permutexvar_ps(lanes, products[r]), sums[r]);
            }
        }
    }
    let mut out = [0.0; N];
    for r in 0..N {
        out[r] = _mm512_reduce_add_ps(_mm512_add_ps(sums[r], minimums[r]));
    }
    (out, 2 * pairs)
}

/// Columns `at .. at + OUTPUTS` of `out`: a register has a column a lane, so a group's sum stays one of integers up to its end,
/// and a factor is multiplied with once a group. The weight's codes are gathered from sixteen rows, four columns at a time, and
/// serve all rows of `x`. Those of `q8` get 128 added, which the beginning of each sum takes back.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,f16c,fma")]
pub(super) fn wide(weight: &QuantisedRows<'_>, at: usize, x: &Rounded, out: &mut [&mut [f32]]) {
    let (format, groups) = (weight.format, weight.columns / GROUP);
    let row_bytes = format.row_bytes(weight.columns);
    let bytes = &weight.bytes[at * row_bytes..][..OUTPUTS * row_bytes];
    let rows: [QuantisedRow<'_>; OUTPUTS] =
        std::array::from_fn(|o| format.split(&bytes[o * row_bytes..][..row_bytes], weight.columns));
    let places: [i32; OUTPUTS] = std::array::from_fn(|o| (o * row_bytes) as i32);
    // SAFETY: sixteen numbers of 32 bits are there.
    let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
    let offset = match format {
        Quantised::Q8 => 128,
        _ => i32::from(super::offset(format)),
    };
    let low = _mm512_set1_epi8(15);
    let mut sums = vec![_mm512_setzero_ps(); out.len()];
    for group in 0..groups {
        // SAFETY: every row has the codes of `groups` groups: 32 bytes of each, or 16.
        let codes = |dword: usize| unsafe {
            let from = bytes.as_ptr().add(group * format.code_bytes(GROUP) + 4 * dword);
            _mm512_i32gather_epi32::<1>(places, from.cast())
        };
        let mut w = [_mm512_setzero_si512(); GROUP / 4];
        for i in 0..w.len() / 2 {
            if format == Quantised::Q8 {
                let sign = _mm512_set1_epi8(-128);
                (w[i], w[i + 4]) = (_mm512_xor_si512(codes(i), sign), _mm512_xor_si512(codes(i + 4), sign));
            } else {
                let both = codes(i);
                let high = _mm512_srli_epi32::<4>(both);
                (w[i], w[i + 4]) = (_mm512_and_si512(both, low), _mm512_and_si512(high, low));
            }
        }
        let halves = |plane: fn(&QuantisedRow<'_>, usize) -> [u8; 2]| {
            let halves: [[u8; 2]; OUTPUTS] = std::array::from_fn(|o| plane(&rows[o], 2 * group));
            // SAFETY: 32 bytes are there, and need no alignment.
            unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(halves.as_ptr().cast())) }
        };
        let factors = halves(|row, at| [row.scales[at], row.scales[at + 1]]);
        let minimums = match format.has_minimums() {
            true => halves(|row, at| [row.minimums[at], row.minimums[at + 1]]),
            false => _mm512_setzero_ps(),
        };
        for (r, sum) in sums.iter_mut().enumerate() {
            let (scale, codes_sum) = (x.scales[r * x.scale_pitch() + group], x.sums[r * x.scale_pitch() + group]);
            let codes = &x.codes[r * x.code_pitch() + group * GROUP..][..GROUP].as_chunks::<4>().0;
            let mut integers = _mm512_set1_epi32(-offset * codes_sum);
            for i in 0..w.len() {
                let four = i32::from_le_bytes(codes[i].map(|code| code as u8));
                integers = _mm512_dpbusd_epi32(integers, w[i], _mm512_set1_epi32(four));
            }
            let product = _mm512_mul_ps(factors, _mm512_set1_ps(scale));
            *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(integers), product, *sum);
            if format.has_minimums() {
                *sum = _mm512_fmadd_ps(minimums, _mm512_set1_ps(scale * codes_sum as f32), *sum);
            }
        }
    }
    for (r, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
        let out = &mut out[at..][..OUTPUTS];
        // SAFETY: sixteen numbers have room in sixteen.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
        if groups * GROUP < weight.columns {
            let x = x.row(r);
            out.iter_mut().zip(&rows).for_each(|(out, row)| *out += x.dot(row, format, groups));
        }
        if let Some(bias) = weight.bias {
            out.iter_mut().zip(&bias[at..]).for_each(|(out, bias)| *out += bias);
        }
    }
}
