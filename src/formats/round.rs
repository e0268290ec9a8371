//! From f32 to the quantised formats.
//!
//! A group of 32 numbers `x` becomes codes `q` and a scale `s` (and a minimum `m`). *Absmax* rounding takes the
//! scale that just holds the largest number. That number is rare, and the others pay for it with a coarser grid;
//! so the *MSE search* tries some scales that clip it, for each one rounds, fits `s` (and `m`) to the codes by least
//! squares, and keeps the scale with the smallest squared error. For given codes the best scale is
//! `s = sum x q / sum q^2`, which leaves `sum x^2 - (sum x q)^2 / sum q^2`.
//!
//! 8 bits are fine enough that clipping never pays; they always get absmax scales.

use half::f16;

use super::{FP8_DIVISOR, GROUP, Quantised, nearest_e4m3};

/// Choice of the scale (and the minimum) of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "clap", derive(clap::ValueEnum))]
pub enum Rounding {
    /// MSE search: the scale with the smallest squared error, of some that are tried
    #[default]
    #[cfg_attr(feature = "clap", value(name = "mse", alias = "searched"))]
    MseSearch,
    /// Absmax: the scale that just holds the largest number of a group
    #[cfg_attr(feature = "clap", value(name = "absmax", alias = "plain"))]
    Absmax,
}

impl Rounding {
    /// `mse` or `absmax`.
    pub fn name(self) -> &'static str {
        match self {
            Self::MseSearch => "mse",
            Self::Absmax => "absmax",
        }
    }
}

/// Version of the rounding: raised when the same numbers get other bytes, so that another version does not go on with
/// a conversion that was cut.
pub const ROUNDING_VERSION: u32 = 1;

/// Scales that the search tries in each direction.
pub(crate) const TRIED: usize = 12;

/// Writes a row of numbers into its planes, which lie one after the other in `out`. The row fits the format
/// ([`Quantised::holds`]), `out` has [`Quantised::row_bytes`]. `false` when a number is not finite, or a scale does
/// not fit an f16; what is in `out` then means nothing.
pub fn quantise_row(numbers: &[f32], format: Quantised, rounding: Rounding, out: &mut [u8]) -> bool {
    let [codes, scales, _] = format.planes(numbers.len());
    let (codes, rest) = out.split_at_mut(codes);
    let (scales, minimums) = rest.split_at_mut(scales);
    let mut sound = true;
    for (g, numbers) in numbers.chunks(GROUP).enumerate() {
        // A group that is not full is filled with its last number, which changes no extreme.
        let last = numbers.last().copied().unwrap_or_default();
        let mut x = [last; GROUP];
        x[..numbers.len()].copy_from_slice(numbers);
        // What is beyond the row must not pull at the fit.
        let weights = &WEIGHTS[GROUP - numbers.len()..][..GROUP];
        let weights: &[f32; GROUP] = weights.try_into().unwrap_or(&[1.0; GROUP]);
        let fit = match (format, rounding) {
            (Quantised::Q8, _) => symmetric(&x, largest(&x) / 127.0, -127.0, 127.0),
            (Quantised::Fp8, _) => fp8(&x),
            (Quantised::Q4, Rounding::Absmax) => symmetric(&x, largest(&x) / 7.0, -8.0, 7.0),
            (Quantised::Q4, Rounding::MseSearch) => search_symmetric(&x, weights),
            (Quantised::Q4m, Rounding::Absmax) => affine(&x, extent(&x)),
            (Quantised::Q4m, Rounding::MseSearch) => search_affine(&x, weights),
        };
        sound &= fit.scale.is_finite() && fit.minimum.is_finite() && numbers.iter().all(|x| x.is_finite());
        scales[2 * g..][..2].copy_from_slice(&fit.scale.to_le_bytes());
        if format == Quantised::Q4m {
            minimums[2 * g..][..2].copy_from_slice(&fit.minimum.to_le_bytes());
        }
        match format {
            Quantised::Q8 => {
                for (code, q) in codes[g * GROUP..].iter_mut().zip(&fit.codes[..numbers.len()]) {
                    *code = *q as i8 as u8;
                }
            }
            Quantised::Fp8 => {
                for (code, q) in codes[g * GROUP..].iter_mut().zip(&fit.codes[..numbers.len()]) {
                    *code = nearest_e4m3(*q);
                }
            }
            Quantised::Q4 | Quantised::Q4m => {
                let zero = if format == Quantised::Q4 { 8.0 } else { 0.0 };
                let pairs = fit.codes[..numbers.len()].chunks_exact(2);
                for (code, q) in codes[g * GROUP / 2..].iter_mut().zip(pairs) {
                    *code = (q[0] + zero) as u8 | ((q[1] + zero) as u8) << 4;
                }
            }
        }
    }
    sound
}

/// Ones, then zeros: the weights of the numbers of a group with `n` of them begin at `GROUP - n`.
const WEIGHTS: [f32; 2 * GROUP] = {
    let mut weights = [0.0; 2 * GROUP];
    let mut i = 0;
    while i < GROUP {
        weights[i] = 1.0;
        i += 1;
    }
    weights
};

/// A group's codes, as numbers, and what they are multiplied with.
struct Fit {
    codes: [f32; GROUP],
    scale: f16,
    minimum: f16,
}

/// FP8 with the scale that makes the largest number 448.
fn fp8(x: &[f32; GROUP]) -> Fit {
    let scale = f16::from_f32(largest(x) * (FP8_DIVISOR / 448.0));
    let inverse = if scale == f16::ZERO { 0.0 } else { FP8_DIVISOR / scale.to_f32() };
    Fit { codes: x.map(|x| x * inverse), scale, minimum: f16::ZERO }
}

/// The integer nearest to a number below 2^22, by the rounding of an addition: unlike `f32::round` it becomes one
/// instruction for several numbers wherever this runs.
#[inline(always)]
fn nearest(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    (x + ROUND) - ROUND
}

/// The codes nearest to `(x - minimum) / scale` between two bounds.
#[inline(always)]
fn codes(x: &[f32; GROUP], scale: f32, minimum: f32, low: f32, high: f32) -> [f32; GROUP] {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut codes = [0.0; GROUP];
    for (code, x) in codes.iter_mut().zip(x) {
        *code = nearest(((x - minimum) * inverse).clamp(low, high));
    }
    codes
}

/// Codes for the scale as an f16 holds it.
fn symmetric(x: &[f32; GROUP], scale: f32, low: f32, high: f32) -> Fit {
    let scale = f16::from_f32(scale);
    Fit { codes: codes(x, scale.to_f32(), 0.0, low, high), scale, minimum: f16::ZERO }
}

/// The same with a minimum.
fn affine(x: &[f32; GROUP], (low, high): (f32, f32)) -> Fit {
    let (scale, minimum) = (f16::from_f32((high - low) / 15.0), f16::from_f32(low));
    Fit { codes: codes(x, scale.to_f32(), minimum.to_f32(), 0.0, 15.0), scale, minimum }
}

fn largest(x: &[f32; GROUP]) -> f32 {
    x.iter().fold(0.0, |most, x| x.abs().max(most))
}

fn extent(x: &[f32; GROUP]) -> (f32, f32) {
    x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), &x| (low.min(x), high.max(x)))
}

/// Four sums over a group, each in eight parts, so that they are taken several numbers at a time.
#[inline(always)]
fn sums<const N: usize>(term: impl Fn(usize) -> [f32; N]) -> [f32; N] {
    let mut parts = [[0.0_f32; 8]; N];
    for from in (0..GROUP).step_by(8) {
        for i in 0..8 {
            let terms = term(from + i);
            for n in 0..N {
                parts[n][i] += terms[n];
            }
        }
    }
    parts.map(|part| part.iter().sum())
}

/// The best of the scales tried, of both signs: codes reach from -8 to 7, so a sign has the longer side.
fn search_symmetric(x: &[f32; GROUP], weights: &[f32; GROUP]) -> Fit {
    let most = largest(x);
    let plain = symmetric(x, most / 7.0, -8.0, 7.0);
    let mut best = (0.0, 0.0);
    for step in 0..TRIED {
        // The code that the largest number would have, were there one for it: beyond 7 or 8 it is clipped.
        let code = 6.5 + 0.4 * step as f32;
        for scale in [most / code, -most / code] {
            let q = codes(x, scale, 0.0, -8.0, 7.0);
            let [xq, qq] = sums(|i| [weights[i] * x[i] * q[i], weights[i] * q[i] * q[i]]);
            let gain = if qq > 0.0 { xq * xq / qq } else { 0.0 };
            if gain > best.0 {
                best = (gain, xq / qq);
            }
        }
    }
    let searched = symmetric(x, best.1, -8.0, 7.0);
    if error(x, weights, &searched) < error(x, weights, &plain) { searched } else { plain }
}

/// The squared error that a fit leaves.
fn error(x: &[f32; GROUP], weights: &[f32; GROUP], fit: &Fit) -> f32 {
    let (scale, minimum) = (fit.scale.to_f32(), fit.minimum.to_f32());
    let [error] = sums(|i| {
        let off = scale * fit.codes[i] + minimum - x[i];
        [weights[i] * off * off]
    });
    error
}

/// The best of the ranges tried.
fn search_affine(x: &[f32; GROUP], weights: &[f32; GROUP]) -> Fit {
    let (low, high) = extent(x);
    let plain = affine(x, (low, high));
    let mut best = (error(x, weights, &plain), plain);
    let [n] = sums(|i| [weights[i]]);
    for step in 0..TRIED {
        let cut = 0.5 * (high - low) * 0.25 * step as f32 / TRIED as f32;
        let mut q = codes(x, (high - low - 2.0 * cut) / 15.0, low + cut, 0.0, 15.0);
        // Least squares for scale and minimum, twice: the codes that suit them may differ.
        for _ in 0..2 {
            let [sq, sqq, sx, sxq] =
                sums(|i| [weights[i] * q[i], weights[i] * q[i] * q[i], weights[i] * x[i], weights[i] * x[i] * q[i]]);
            let determinant = n * sqq - sq * sq;
            if determinant <= 0.0 {
                break;
            }
            let (scale, minimum) = ((n * sxq - sq * sx) / determinant, (sqq * sx - sq * sxq) / determinant);
            let (scale, minimum) = (f16::from_f32(scale), f16::from_f32(minimum));
            q = codes(x, scale.to_f32(), minimum.to_f32(), 0.0, 15.0);
            let fit = Fit { codes: q, scale, minimum };
            let error = error(x, weights, &fit);
            if error < best.0 {
                best = (error, fit);
            }
        }
    }
    best.1
}
