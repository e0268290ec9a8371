//! Functions that several ops share.

use super::simd::{self, Kernel, Lanes, Pointwise, vectorised};
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
    match function {
        Function::Identity => {}
        Function::Silu => vectorised(Apply { function: Silu, x }),
        Function::SquaredRelu => vectorised(Apply { function: SquaredRelu, x }),
        Function::Sigmoid => vectorised(Apply { function: Sigmoid, x }),
    }
}

struct Apply<'a, F> {
    function: F,
    x: &'a mut [f32],
}

impl<F: Pointwise> Kernel for Apply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        simd::map::<V>(self.x, self.function);
    }
}

#[derive(Clone, Copy)]
struct Silu;

impl Pointwise for Silu {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        x.mul(Sigmoid.of(x))
    }
}

#[derive(Clone, Copy)]
struct Sigmoid;

impl Pointwise for Sigmoid {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        let one = V::splat(1.0);
        one.div(one.add(V::splat(0.0).sub(x).exp()))
    }
}

#[derive(Clone, Copy)]
struct SquaredRelu;

impl Pointwise for SquaredRelu {
    #[inline(always)]
    fn of<V: Lanes>(self, x: V) -> V {
        // NaN stays NaN: it is the second of the two.
        let positive = V::splat(0.0).max(x);
        positive.mul(positive)
    }
}
