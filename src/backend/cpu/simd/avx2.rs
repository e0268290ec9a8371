//! AVX2 with FMA and F16C: every x86 processor since about 2013.

use std::arch::x86_64::*;

use half::{bf16, f16};

use super::{Kernel, LANES, Lanes};

/// Whether the processor has the instructions of [`run`].
#[inline]
pub(super) fn available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
}

/// Runs a kernel with [`Avx2`] lanes.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// Eight f32 in a register. Only [`run`] uses it, so the processor has the instructions: this is what
/// makes the calls below safe.
#[derive(Clone, Copy)]
pub(super) struct Avx2(pub(super) __m256);

impl Lanes for Avx2 {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_set1_ps(x) })
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        // SAFETY: see `Avx2`; 32 bytes are there, and need no alignment.
        Self(unsafe { _mm256_loadu_ps(from.as_ptr()) })
    }

    #[inline(always)]
    fn load_f16(from: &[f16; LANES]) -> Self {
        // SAFETY: see `Avx2`; 16 bytes are there, and need no alignment.
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())) })
    }

    #[inline(always)]
    fn load_bf16(from: &[bf16; LANES]) -> Self {
        // SAFETY: see `Avx2`; 16 bytes are there, and need no alignment.
        Self(unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.as_ptr().cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        })
    }

    #[inline(always)]
    fn load_i8(from: &[u8; LANES]) -> Self {
        // SAFETY: see `Avx2`; 8 bytes are there, and need no alignment.
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.as_ptr().cast()))) })
    }

    #[inline(always)]
    fn load_e4m3(from: &[u8; LANES]) -> Self {
        // As `Portable` has it. SAFETY: see `Avx2`; 8 bytes are there, and need no alignment.
        Self(unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.as_ptr().cast()));
            let of_magnitude = _mm256_and_si256(bytes, _mm256_set1_epi32(0x7f));
            let bits = _mm256_slli_epi32::<20>(_mm256_add_epi32(of_magnitude, _mm256_set1_epi32(120 << 3)));
            let magnitude = _mm256_castsi256_ps(bits);
            let small = _mm256_sub_ps(_mm256_add_ps(magnitude, magnitude), _mm256_set1_ps(1.0 / 64.0));
            let is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), of_magnitude);
            let magnitude = _mm256_blendv_ps(magnitude, small, _mm256_castsi256_ps(is_small));
            let sign = _mm256_slli_epi32::<24>(_mm256_and_si256(bytes, _mm256_set1_epi32(0x80)));
            _mm256_or_ps(magnitude, _mm256_castsi256_ps(sign))
        })
    }

    #[inline(always)]
    fn load_u4(from: &[u8; LANES / 2]) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe {
            let word = _mm256_set1_epi32(i32::from_le_bytes(*from));
            let shifted = _mm256_srlv_epi32(word, _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28));
            _mm256_cvtepi32_ps(_mm256_and_si256(shifted, _mm256_set1_epi32(15)))
        })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        // SAFETY: see `Avx2`; 32 bytes are there, and need no alignment.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), self.0) }
    }

    #[inline(always)]
    fn add(self, b: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_add_ps(self.0, b.0) })
    }

    #[inline(always)]
    fn sub(self, b: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_sub_ps(self.0, b.0) })
    }

    #[inline(always)]
    fn mul(self, b: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_mul_ps(self.0, b.0) })
    }

    #[inline(always)]
    fn div(self, b: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_div_ps(self.0, b.0) })
    }

    #[inline(always)]
    fn mul_add(self, b: Self, c: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
    }

    #[inline(always)]
    fn max(self, b: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_max_ps(self.0, b.0) })
    }

    #[inline(always)]
    fn min(self, b: Self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe { _mm256_min_ps(self.0, b.0) })
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        // SAFETY: see `Avx2`.
        Self(unsafe {
            let exponents = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
            _mm256_castsi256_ps(_mm256_add_epi32(exponents, _mm256_set1_epi32(127 << 23)))
        })
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        // SAFETY: see `Avx2`.
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
}
