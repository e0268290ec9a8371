//! Pointwise functions.

/// A pointwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// `x`
    Identity,
    /// `x / (1 + exp(-x))`. Elfwing et al. 2017, arXiv 1702.03118.
    Silu,
    /// `max(x, 0)^2`. So et al. 2021, arXiv 2109.08668.
    SquaredRelu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
}

impl Function {
    /// The function itself, in f32.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Self::Identity => x,
            Self::Silu => x / (1.0 + (-x).exp()),
            // NaN stays NaN.
            Self::SquaredRelu => (if x < 0.0 { 0.0 } else { x }).powi(2),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        }
    }
}
