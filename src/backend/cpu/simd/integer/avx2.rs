//! AVX2: 32 products in an instruction, two of which make a sum of 16 bits.
//!
//! The sums of two fit 16 bits: they are at most `2 * 128 * 127`.
//!
//! Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, VPMADDUBSW and VPSIGNB.

use std::arch::x86_64::*;

use super::super::Lanes;
use super::super::avx2::Avx2;
use super::{QuantisedRows, RoundedRow};
use crate::formats::{GROUP, Quantised, QuantisedRow};

/// Groups whose factors are widened at once.
const GROUPS: usize = 8;

/// A strip of products, see [`QuantisedRows::each`].
#[target_feature(enable = "avx2,f16c,fma")]
pub(super) fn strip<const N: usize>(weight: &QuantisedRows<'_>, x: &[RoundedRow<'_>; N], out: &mut [&mut [f32]]) {
    weight.each(x, out, |row| dots(weight.format, row, x));
}

/// The products of the groups that are full, and how many those are.
#[inline]
#[target_feature(enable = "avx2,f16c,fma")]
fn dots<const N: usize>(format: Quantised, row: &QuantisedRow<'_>, x: &[RoundedRow<'_>; N]) -> ([f32; N], usize) {
    let groups = x[0].columns / GROUP;
    let code_bytes = format.code_bytes(GROUP);
    assert!(row.codes.len() >= groups * code_bytes && row.scales.len() >= 2 * groups);
    // Of `x` there are as many codes, and a multiple of sixteen scales and sums: see `Rounded::row`.
    let mut sums = [_mm256_setzero_ps(); N];
    let mut minimums = [_mm256_setzero_ps(); N];
    for first in (0..groups).step_by(GROUPS) {
        let count = (groups - first).min(GROUPS);
        let halves = |plane: &[u8]| {
            let mut halves = [0; 2 * GROUPS];
            halves[..2 * count].copy_from_slice(&plane[2 * first..][..2 * count]);
            // SAFETY: 16 bytes are there, and need no alignment.
            unsafe { _mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())) }
        };
        let factors = halves(row.scales);
        let mut products = [[0.0; GROUPS]; N];
        for r in 0..N {
            // SAFETY: scales are a multiple of eight.
            let scales = unsafe { _mm256_loadu_ps(x[r].scales.as_ptr().add(first)) };
            // SAFETY: `products` has room for eight.
            unsafe { _mm256_storeu_ps(products[r].as_mut_ptr(), _mm256_mul_ps(factors, scales)) };
            if format.has_minimums() {
                // SAFETY: sums are a multiple of eight.
                let codes = unsafe { _mm256_loadu_si256(x[r].sums.as_ptr().add(first).cast()) };
                let codes = _mm256_mul_ps(scales, _mm256_cvtepi32_ps(codes));
                minimums[r] = _mm256_fmadd_ps(halves(row.minimums), codes, minimums[r]);
            }
        }
        for group in first..first + count {
            // SAFETY: the codes of `groups` groups are there: 32 bytes of each, or 16.
            let w = unsafe {
                let codes = row.codes.as_ptr().add(group * code_bytes);
                if format == Quantised::Q8 {
                    _mm256_loadu_si256(codes.cast())
                } else {
                    let bytes = _mm_loadu_si128(codes.cast());
                    let halves = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
                    let codes = _mm256_and_si256(halves, _mm256_set1_epi8(15));
                    _mm256_sub_epi8(codes, _mm256_set1_epi8(super::offset(format)))
                }
            };
            let size = _mm256_abs_epi8(w);
            for r in 0..N {
                // SAFETY: the codes of `groups` groups are there.
                let codes = unsafe { _mm256_loadu_si256(x[r].codes.as_ptr().add(group * GROUP).cast()) };
                let twos = _mm256_maddubs_epi16(size, _mm256_sign_epi8(codes, w));
                let integers = _mm256_madd_epi16(twos, _mm256_set1_epi16(1));
                let product = _mm256_set1_ps(products[r][group - first]);
                sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(integers), product, sums[r]);
            }
        }
    }
    let mut out = [0.0; N];
    for r in 0..N {
        out[r] = Avx2(_mm256_add_ps(sums[r], minimums[r])).sum();
    }
    (out, groups)
}
