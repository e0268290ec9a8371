//! `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]`. See [`Op::Linear`](crate::graph::Op::Linear).
//!
//! The fast path gives each thread a block of the weight's rows. For one row of `x` it reads the stored
//! numbers as they are, once: decoding is as fast as memory. For more rows it widens the block to f32
//! first.

use super::parallel;
use super::rows::{Input, Output};
use super::simd::{self, Kernel, Lanes, Number, TILE_OUTPUTS, multiply, vectorised};
use super::weights::{Numbers, Weight};

/// Rows of the weight that one task takes at most. Widened they should fit a core's second cache.
const BLOCK: usize = 10 * TILE_OUTPUTS;
/// A product with some rows of a weight.
pub(super) struct Linear<'a> {
    /// `[count, columns of the weight]`
    pub x: Input<'a>,
    /// From `first` on at least as many rows as the result has columns.
    pub weight: &'a Weight,
    /// First row of the weight that is used.
    pub first: usize,
    /// One number a column of the result.
    pub bias: Option<&'a [f32]>,
}

impl Linear<'_> {
    /// The formula.
    pub fn twin(&self, out: &mut Output<'_>) {
        for (r, row) in out.rows().enumerate() {
            let x = self.x.row(r);
            for (o, out) in row.iter_mut().enumerate() {
                let products =
                    x.iter().enumerate().map(|(i, &x)| f64::from(self.weight.at(self.first + o, i)) * f64::from(x));
                let bias = self.bias.map_or(0.0, |bias| f64::from(bias[o]));
                *out = (products.sum::<f64>() + bias) as f32;
            }
        }
    }

    /// The same in f32, in lanes and on all threads.
    pub fn fast(&self, out: &mut Output<'_>) {
        match &self.weight.numbers {
            Numbers::F32(numbers) => self.fast_with(numbers, out),
            Numbers::F16(numbers) => self.fast_with(numbers, out),
            Numbers::Bf16(numbers) => self.fast_with(numbers, out),
        }
    }

    fn fast_with<N: Number>(&self, numbers: &[N], out: &mut Output<'_>) {
        if out.count == 0 {
            return;
        }
        let (columns, cost) = (self.weight.columns, self.weight.columns * out.count);
        // A narrow result is still cut into enough blocks for all threads.
        let block = (out.width / (2 * parallel::threads())).next_multiple_of(TILE_OUTPUTS).clamp(TILE_OUTPUTS, BLOCK);
        let tasks: Vec<_> = out.blocks(block).into_iter().enumerate().collect();
        parallel::for_each(tasks, cost * block, |(index, out)| {
            let first = index * block;
            let count = out[0].len();
            let weights = &numbers[(self.first + first) * columns..][..count * columns];
            let bias = self.bias.map(|bias| &bias[first..][..count]);
            vectorised(Block { x: self.x, columns, weights, bias, out });
        });
    }
}

/// Some rows of a weight times all rows of `x`.
struct Block<'a, N> {
    x: Input<'a>,
    columns: usize,
    /// `[outputs, columns]`
    weights: &'a [N],
    /// `[outputs]`
    bias: Option<&'a [f32]>,
    /// `[rows of x][outputs]`
    out: Vec<&'a mut [f32]>,
}

impl<N: Number> Kernel for Block<'_, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        if let [out] = self.out.as_mut_slice() {
            let x = self.x.row(0);
            for (out, weights) in out.iter_mut().zip(self.weights.chunks_exact(self.columns)) {
                *out = simd::dot::<V, N>(weights, x);
            }
        } else {
            let mut room = Vec::new();
            let weights = N::widened::<V>(self.weights, &mut room);
            let out = &mut self.out;
            multiply::<V>(out.len(), self.columns, |r| self.x.row(r), weights, |r, o, sum| out[r][o] = sum);
        }
        if let Some(bias) = self.bias {
            for out in self.out {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}
