//! `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]`. See [`Op::Linear`](crate::graph::Op::Linear).

use super::rows::{Input, Output};
use super::weights::Weight;

/// A product with the first rows of a weight.
pub(super) struct Linear<'a> {
    /// `[count, columns of the weight]`
    pub x: Input<'a>,
    /// At least as many rows as the result has columns.
    pub weight: &'a Weight,
    /// One number a column of the result.
    pub bias: Option<&'a [f32]>,
}

impl Linear<'_> {
    /// The formula.
    pub fn twin(&self, out: &mut Output<'_>) {
        for (r, row) in out.rows().enumerate() {
            let x = self.x.row(r);
            for (o, out) in row.iter_mut().enumerate() {
                let products = x.iter().enumerate().map(|(i, &x)| f64::from(self.weight.at(o, i)) * f64::from(x));
                let bias = self.bias.map_or(0.0, |bias| f64::from(bias[o]));
                *out = (products.sum::<f64>() + bias) as f32;
            }
        }
    }
}
