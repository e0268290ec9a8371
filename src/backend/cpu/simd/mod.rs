//! Inner loops of eight numbers at a time.
//!
//! A [`Kernel`] is written once for any [`Lanes`]; [`vectorised`] runs it with the widest ones the
//! processor has. A kernel and all it calls must be `#[inline(always)]`: only then is its body compiled
//! with the instructions of the function it ends up in. So lanes never go through closures, nor through
//! the library's functions that take closures: loops are written out.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod integer;
mod multiply;
mod portable;

use half::{bf16, f16};

pub(super) use integer::{COLUMNS, Integers, QuantisedRows, Rounded};
pub(super) use multiply::{TILE_OUTPUTS, multiply};
pub(super) use portable::Portable;

/// Added to a small number, it leaves that number's nearest integer in the lowest bits.
const ROUND: f32 = 12_582_912.0;

/// Numbers in a [`Lanes`].
pub(super) const LANES: usize = 8;

/// Eight f32.
pub(super) trait Lanes: Copy {
    /// Eight equal ones.
    fn splat(x: f32) -> Self;
    /// Eight from memory.
    fn load(from: &[f32; LANES]) -> Self;
    /// Eight halves.
    fn load_f16(from: &[f16; LANES]) -> Self;
    /// Eight upper halves of singles.
    fn load_bf16(from: &[bf16; LANES]) -> Self;
    /// Eight bytes with a sign.
    fn load_i8(from: &[u8; LANES]) -> Self;
    /// Numbers of FP8, none of them NaN.
    fn load_e4m3(from: &[u8; LANES]) -> Self;
    /// Eight times four bits without a sign, the lower ones of a byte first.
    fn load_u4(from: &[u8; LANES / 2]) -> Self;
    /// Eight to memory.
    fn store(self, to: &mut [f32; LANES]);
    /// `self + b`
    fn add(self, b: Self) -> Self;
    /// `self - b`
    fn sub(self, b: Self) -> Self;
    /// `self * b`
    fn mul(self, b: Self) -> Self;
    /// `self / b`
    fn div(self, b: Self) -> Self;
    /// `self * b + c`, with one rounding where the processor has it.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The larger ones; those of `b` where either is NaN.
    fn max(self, b: Self) -> Self;
    /// The smaller ones; those of `b` where either is NaN.
    fn min(self, b: Self) -> Self;
    /// `2^n`, where `n` is the signed integer in the lowest bits of each number.
    fn power_of_two(self) -> Self;
    /// Sum of all eight.
    fn sum(self) -> f32;

    /// `exp(x)` within two units in the last place, for `x` clamped to -87.3 ... 88: `2^n * exp(r)` with
    /// `|r| <= ln(2) / 2`, where `ln(2)` is taken as `355 / 512 - 2.12e-4` lest digits are lost, and the
    /// polynomial of the Cephes library for `exp(r)`. NaN stays NaN.
    #[inline(always)]
    fn exp(self) -> Self {
        let x = Self::splat(88.0).min(Self::splat(-87.3).max(self));
        let rounded = x.mul_add(Self::splat(std::f32::consts::LOG2_E), Self::splat(ROUND));
        let n = rounded.sub(Self::splat(ROUND));
        let r = n.mul_add(Self::splat(-355.0 / 512.0), x);
        let r = n.mul_add(Self::splat(2.121_944_4e-4), r);
        let mut p = Self::splat(1.987_569_2e-4);
        for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
            p = p.mul_add(r, Self::splat(coefficient));
        }
        p.mul_add(r.mul(r), r.add(Self::splat(1.0))).mul(rounded.power_of_two())
    }
}

/// Work whose inner loops are worth wide registers.
pub(super) trait Kernel {
    /// What it gives.
    type Output;
    /// The work.
    fn run<V: Lanes>(self) -> Self::Output;
}

/// Runs a kernel with the widest lanes there are.
pub(super) fn vectorised<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    if avx2::available() {
        // SAFETY: the processor has the instructions.
        return unsafe { avx2::run(kernel) };
    }
    kernel.run::<Portable>()
}

/// A stored number.
pub(super) trait Number: Copy + Send + Sync {
    /// As f32, exactly.
    fn widen(self) -> f32;
    /// Eight of them.
    fn load<V: Lanes>(from: &[Self; LANES]) -> V;

    /// Many of them as f32: themselves, or a copy in `room`.
    #[inline(always)]
    fn widened<'a, V: Lanes>(from: &'a [Self], room: &'a mut Vec<f32>) -> &'a [f32] {
        room.resize(from.len(), 0.0);
        widen::<V, Self>(from, room);
        room
    }
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn load<V: Lanes>(from: &[Self; LANES]) -> V {
        V::load(from)
    }

    #[inline(always)]
    fn widened<'a, V: Lanes>(from: &'a [Self], _: &'a mut Vec<f32>) -> &'a [f32] {
        from
    }
}

impl Number for f16 {
    /// Moves exponent and mantissa to their places; the product corrects the bias, and makes
    /// subnormals normal.
    #[inline(always)]
    fn widen(self) -> f32 {
        /// 2^(127 - 15)
        const BIAS: f32 = f32::from_bits((254 - 15) << 23);
        let bits = u32::from(self.to_bits());
        let (sign, rest) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
        let special = if rest >= 0x0f80_0000 { 0x7f80_0000 } else { 0 };
        f32::from_bits((f32::from_bits(rest) * BIAS).to_bits() | special | sign)
    }

    #[inline(always)]
    fn load<V: Lanes>(from: &[Self; LANES]) -> V {
        V::load_f16(from)
    }
}

impl Number for bf16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn load<V: Lanes>(from: &[Self; LANES]) -> V {
        V::load_bf16(from)
    }
}

/// Stored numbers to f32.
#[inline(always)]
pub(super) fn widen<V: Lanes, N: Number>(from: &[N], to: &mut [f32]) {
    let ((from, from_rest), (to, to_rest)) = (from.as_chunks(), to.as_chunks_mut());
    for (to, from) in to.iter_mut().zip(from) {
        N::load::<V>(from).store(to);
    }
    to_rest.iter_mut().zip(from_rest).for_each(|(to, from)| *to = from.widen());
}

/// Sum of products.
#[inline(always)]
pub(super) fn dot<V: Lanes, N: Number>(a: &[N], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    // Four sums, lest each addition waits for the one before.
    let ((a_fours, a), (b_fours, b)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [V::splat(0.0); 4];
    for (a, b) in a_fours.iter().zip(b_fours) {
        for i in 0..4 {
            sums[i] = N::load::<V>(&a[i]).mul_add(V::load(&b[i]), sums[i]);
        }
    }
    for (a, b) in a.iter().zip(b) {
        sums[0] = N::load::<V>(a).mul_add(V::load(b), sums[0]);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a.widen() * b).sum();
    (sums[0].add(sums[1])).add(sums[2].add(sums[3])).sum() + rest
}

/// `y[c] += sum_r weights[r] * rows[r * y.len() + c]`
#[inline(always)]
pub(super) fn add_weighted<V: Lanes>(y: &mut [f32], weights: &[f32], rows: &[f32]) {
    let width = y.len();
    let (y, y_rest) = y.as_chunks_mut::<LANES>();
    let rest = y.len() * LANES;
    // Four sums stay in registers while the rows go by.
    let (fours, ones) = y.as_chunks_mut::<4>();
    for (i, y) in fours.iter_mut().enumerate() {
        columns::<V, 4>(y, 4 * LANES * i, width, weights, rows);
    }
    let from = 4 * LANES * fours.len();
    for (i, y) in ones.iter_mut().enumerate() {
        columns::<V, 1>(std::array::from_mut(y), from + LANES * i, width, weights, rows);
    }
    for (weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        y_rest.iter_mut().zip(&row[rest..]).for_each(|(y, x)| *y += weight * x);
    }
}

/// The part of [`add_weighted`] for the columns from `from` on.
#[inline(always)]
fn columns<V: Lanes, const N: usize>(
    y: &mut [[f32; LANES]; N],
    from: usize,
    width: usize,
    weights: &[f32],
    rows: &[f32],
) {
    let mut sums = [V::splat(0.0); N];
    for i in 0..N {
        sums[i] = V::load(&y[i]);
    }
    for (&weight, row) in weights.iter().zip(rows.chunks_exact(width)) {
        let weight = V::splat(weight);
        let chunks = &row[from..].as_chunks().0[..N];
        for i in 0..N {
            sums[i] = weight.mul_add(V::load(&chunks[i]), sums[i]);
        }
    }
    for i in 0..N {
        sums[i].store(&mut y[i]);
    }
}

/// `y = decay * y + factor * x`
#[inline(always)]
pub(super) fn decay_and_add<V: Lanes>(y: &mut [f32], decay: f32, factor: f32, x: &[f32]) {
    let ((y, y_rest), (x, x_rest)) = (y.as_chunks_mut(), x.as_chunks());
    for (y, x) in y.iter_mut().zip(x) {
        let kept = V::splat(decay).mul(V::load(y));
        V::splat(factor).mul_add(V::load(x), kept).store(y);
    }
    for (y, x) in y_rest.iter_mut().zip(x_rest) {
        *y = decay * *y + factor * x;
    }
}

/// A function of one number.
pub(super) trait Pointwise: Copy {
    /// Of eight at a time.
    fn of<V: Lanes>(self, x: V) -> V;
}

/// Replaces every number by a function of it.
#[inline(always)]
pub(super) fn map<V: Lanes>(numbers: &mut [f32], function: impl Pointwise) {
    let (chunks, rest) = numbers.as_chunks_mut();
    for chunk in chunks {
        function.of(V::load(chunk)).store(chunk);
    }
    // The last, incomplete eight are filled up with zeros.
    if !rest.is_empty() {
        let mut chunk = [0.0; LANES];
        chunk[..rest.len()].copy_from_slice(rest);
        function.of(V::load(&chunk)).store(&mut chunk);
        rest.copy_from_slice(&chunk[..rest.len()]);
    }
}

/// `exp(x - largest)`
#[derive(Clone, Copy)]
pub(super) struct ExpBelow {
    /// What is subtracted.
    pub largest: f32,
}

impl Pointwise for ExpBelow {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        x.sub(V::splat(self.largest)).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::e4m3;

    /// What every implementation of [`Lanes`] must do.
    struct Check;

    impl Kernel for Check {
        type Output = f64;

        fn run<V: Lanes>(self) -> f64 {
            let of = |v: V| {
                let mut out = [0.0; LANES];
                v.store(&mut out);
                out
            };
            let a = [-3.5, 0.0, 1.25, 7.0, -0.5, 2.0, 100.0, 3.0];
            let b = [2.0, 4.0, -8.0, 0.5, 16.0, 1.0, 0.25, -2.0];
            let (x, y) = (V::load(&a), V::load(&b));
            let each = |f: fn(f32, f32) -> f32| -> [f32; LANES] { std::array::from_fn(|i| f(a[i], b[i])) };
            assert_eq!(of(x.add(y)), each(|a, b| a + b));
            assert_eq!(of(x.sub(y)), each(|a, b| a - b));
            assert_eq!(of(x.mul(y)), each(|a, b| a * b));
            assert_eq!(of(x.div(y)), each(|a, b| a / b));
            assert_eq!(of(x.max(y)), each(f32::max));
            assert_eq!(of(x.min(y)), each(f32::min));
            assert_eq!(of(x.mul_add(y, V::splat(1.0))), each(|a, b| a * b + 1.0));
            assert_eq!(x.sum(), a.iter().sum::<f32>());

            for bits in (0..=u16::MAX).step_by(LANES) {
                let halves: [f16; LANES] = std::array::from_fn(|i| f16::from_bits(bits + i as u16));
                let upper: [bf16; LANES] = std::array::from_fn(|i| bf16::from_bits(bits + i as u16));
                let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                for (i, (h, u)) in of(V::load_f16(&halves)).into_iter().zip(of(V::load_bf16(&upper))).enumerate() {
                    assert!(same(h, halves[i].to_f32()) && same(halves[i].widen(), h), "{:?}: {h}", halves[i]);
                    assert!(same(u, upper[i].to_f32()) && same(upper[i].widen(), u), "{:?}: {u}", upper[i]);
                }
            }

            for byte in 0..=u8::MAX {
                let bytes: [u8; LANES] = std::array::from_fn(|i| byte.wrapping_add(29 * i as u8));
                assert_eq!(of(V::load_i8(&bytes)), bytes.map(|b| f32::from(b as i8)));
                let finite = bytes.map(|b| if b & 0x7f == 0x7f { b ^ 1 } else { b });
                assert_eq!(of(V::load_e4m3(&finite)), finite.map(e4m3));
                let halves: [u8; LANES / 2] = std::array::from_fn(|i| bytes[i]);
                let wanted = std::array::from_fn(|i| f32::from(halves[i / 2] >> (4 * (i % 2)) & 15));
                assert_eq!(of(V::load_u4(&halves)), wanted);
            }

            for len in [1, 5, 8, 31, 32, 33, 97, 200] {
                let x: Vec<f32> = (0..len).map(|i| i as f32).collect();
                let exact: f32 = (0..len).map(|i| (i * i) as f32).sum();
                assert_eq!(dot::<V, f32>(&x, &x), exact, "{len}");
                let mut y = x.clone();
                add_weighted::<V>(&mut y, &[2.0, -4.0], &[x.clone(), x.clone()].concat());
                assert!(y.iter().zip(&x).all(|(y, x)| *y == -x));
                let mut z = y.clone();
                decay_and_add::<V>(&mut z, 0.5, 4.0, &x);
                assert!(z.iter().zip(&x).all(|(z, x)| *z == 3.5 * x));
                map::<V>(&mut y, ExpBelow { largest: 0.0 });
                assert!(y.iter().zip(&x).all(|(y, x)| (y - (-x).exp()).abs() <= 1e-7));
            }

            for (rows, columns, outputs) in [(1, 5, 1), (2, 8, 3), (3, 13, 4), (4, 97, 6), (5, 64, 7), (300, 16, 2)] {
                let x: Vec<f32> = (0..rows * columns).map(|i| (i % 11) as f32 - 5.0).collect();
                let weights: Vec<f32> = (0..outputs * columns).map(|i| (i % 7) as f32 - 3.0).collect();
                let mut stored = 0;
                multiply::<V>(
                    rows,
                    columns,
                    |r| &x[r * columns..],
                    &weights,
                    |r, o, got| {
                        let pairs = x[r * columns..].iter().zip(&weights[o * columns..][..columns]);
                        assert_eq!(got, pairs.map(|(x, w)| x * w).sum::<f32>(), "{rows} {columns} {outputs}: {r} {o}");
                        stored += 1;
                    },
                );
                assert_eq!(stored, rows * outputs);
            }

            let mut worst = 0.0_f64;
            for from in (-87_200..88_000).step_by(LANES) {
                let x: [f32; LANES] = std::array::from_fn(|i| (from + i as i32) as f32 * 1e-3);
                for (got, x) in of(V::load(&x).exp()).into_iter().zip(x) {
                    let exact = f64::from(x).exp();
                    worst = worst.max((f64::from(got) - exact).abs() / exact);
                }
            }
            let ends = of(V::load(&[-1000.0, 1000.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]).exp());
            assert!(ends[0] < 1.3e-38 && ends[1].is_finite() && ends[2] == 1.0, "{ends:?}");
            let nan = V::splat(f32::NAN);
            assert!(of(nan.exp()).into_iter().all(f32::is_nan), "NaN is not hidden");
            assert_eq!((of(nan.max(x)), of(nan.min(x))), (a, a));
            assert!(of(x.max(nan)).into_iter().chain(of(x.min(nan))).all(f32::is_nan));
            worst
        }
    }

    #[test]
    fn every_implementation_does_what_it_says() {
        for worst in [vectorised(Check), Check.run::<Portable>()] {
            println!("largest relative error of exp: {worst:e}");
            assert!(worst < 2.4e-7, "{worst:e}");
        }
    }
}
