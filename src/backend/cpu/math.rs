//! Scalar functions and conversions that several ops share.

use half::f16;
use half::slice::HalfFloatSliceExt;

/// `ln(1 + exp(x))`, linear above 20 where f32 shows no difference.
pub(super) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// Sum of products, in f64.
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// f16 to f32.
pub(super) fn widen_f16(from: &[f16], to: &mut [f32]) {
    from.convert_to_f32_slice(to);
}
