//! Inner loops that the compiler vectorises, compiled a second time for wider vectors where the
//! processor has them.
//!
//! A [`Kernel`] and all it calls must be `#[inline(always)]`: only then is its body compiled with the
//! instructions of the function it is inlined into. Sums run in several lanes, because the order of a
//! sum is part of its meaning and the compiler keeps it.

use half::{bf16, f16};

/// Work whose inner loops are worth wide vectors.
pub(super) trait Kernel {
    /// What it gives.
    type Output;
    /// The work. `FMA`: [`mul_add`] is one instruction.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs a kernel with the widest vectors there are.
pub(super) fn vectorised<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the processor has both.
        return unsafe { avx2(kernel) };
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// `a * b + c`
#[inline(always)]
pub(super) fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// A stored number.
pub(super) trait Number: Copy + Send + Sync {
    /// As f32, exactly.
    fn widen(self) -> f32;

    /// Many, as f32: themselves, or a copy in `room`.
    #[inline(always)]
    fn widened<'a>(from: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
        room.resize(from.len(), 0.0);
        widen(from, room);
        room
    }
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn widened<'a>(from: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        from
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

impl Number for f16 {
    /// Moves exponent and mantissa to their places; the product corrects the bias, and makes
    /// subnormals normal. Without a branch, so that it vectorises.
    #[inline(always)]
    fn widen(self) -> f32 {
        /// 2^(127 - 15)
        const BIAS: f32 = f32::from_bits((254 - 15) << 23);
        let bits = u32::from(self.to_bits());
        let (sign, rest) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        let special = if rest >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
        f32::from_bits((f32::from_bits(rest) * BIAS).to_bits() | special | sign)
    }
}

/// Stored numbers to f32.
#[inline(always)]
pub(super) fn widen<N: Number>(from: &[N], to: &mut [f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.widen();
    }
}

/// Sum of products of long vectors: enough partial sums to wait for memory, not for the additions.
#[inline(always)]
pub(super) fn dot<const FMA: bool, N: Number>(a: &[N], b: &[f32]) -> f32 {
    dot_in::<32, FMA, N>(a, b)
}

/// Sum of products of vectors as short as a head.
#[inline(always)]
pub(super) fn dot_short<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    dot_in::<8, FMA, f32>(a, b)
}

#[inline(always)]
fn dot_in<const LANES: usize, const FMA: bool, N: Number>(a: &[N], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            sums[lane] = mul_add::<FMA>(a[lane].widen(), b[lane], sums[lane]);
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a.widen() * b).sum();
    total(sums) + rest
}

/// Sum of lanes, pairwise. Their number is a power of two.
#[inline(always)]
pub(super) fn total<const N: usize>(mut lanes: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// `y += factor * x`
#[inline(always)]
pub(super) fn add_scaled<const FMA: bool>(y: &mut [f32], factor: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = mul_add::<FMA>(factor, *x, *y);
    }
}

/// `exp(x)` within two units in the last place, for `x` clamped to -87.3 ... 88: `2^n * exp(r)` with
/// `|r| <= ln(2) / 2`, where `ln(2)` is taken as `355 / 512 - 2.12e-4` lest digits are lost, and the
/// polynomial of the Cephes library for `exp(r)`.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    /// Added to a small number, it leaves that number's nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.0);
    let rounded = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = mul_add::<FMA>(n, 2.121_944_4e-4, mul_add::<FMA>(n, -355.0 / 512.0, x));
    let mut p = 1.987_569_2e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = mul_add::<FMA>(p, r, coefficient);
    }
    let power = f32::from_bits((rounded.to_bits() << 23).wrapping_add(127 << 23));
    mul_add::<FMA>(p, r * r, r + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Exp(f32);

    impl Kernel for Exp {
        type Output = f32;

        #[inline(always)]
        fn run<const FMA: bool>(self) -> f32 {
            exp::<FMA>(self.0)
        }
    }

    #[test]
    fn exp_is_accurate_over_its_range() {
        let mut worst = 0.0_f64;
        for i in -87_200..88_000 {
            let x = i as f32 * 1e-3;
            for got in [exp::<false>(x), vectorised(Exp(x))] {
                let exact = f64::from(x).exp();
                worst = worst.max((f64::from(got) - exact).abs() / exact);
            }
        }
        println!("largest relative error of exp: {worst:e}");
        assert!(worst < 2.4e-7, "{worst:e}");
        assert!(exp::<false>(-1000.0) < 1.3e-38 && exp::<false>(1000.0).is_finite());
    }

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (got, wanted) = (Number::widen(f16::from_bits(bits)), f16::from_bits(bits).to_f32());
            assert!(got.to_bits() == wanted.to_bits() || got.is_nan() && wanted.is_nan(), "{bits:#x}: {got} {wanted}");
        }
    }

    #[test]
    fn a_dot_product_takes_every_element() {
        for len in [1, 5, 31, 32, 33, 97, 200] {
            let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let exact: f32 = (0..len).map(|i| (i * i) as f32).sum();
            assert_eq!(dot::<false, f32>(&x, &x), exact, "{len}");
        }
    }
}
