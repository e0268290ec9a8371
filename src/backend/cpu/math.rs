//! Functions that several ops share.

use super::simd::{self, Kernel, vectorised};
use crate::graph::Function;

/// `ln(1 + exp(x))`, linear above 20 where f32 shows no difference.
pub(super) fn softplus(x: f32) -> f32 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// Sum of products, in f64.
pub(super) fn dot_f64(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Applies a function to every number.
pub(super) fn apply(function: Function, x: &mut [f32]) {
    vectorised(Apply { function, x });
}

struct Apply<'a> {
    function: Function,
    x: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        match self.function {
            Function::Identity => {}
            Function::Silu => self.x.iter_mut().for_each(|x| *x /= 1.0 + simd::exp::<FMA>(-*x)),
            Function::SquaredRelu => self.x.iter_mut().for_each(|x| *x = x.max(0.0) * x.max(0.0)),
            Function::Sigmoid => self.x.iter_mut().for_each(|x| *x = 1.0 / (1.0 + simd::exp::<FMA>(-*x))),
        }
    }
}
