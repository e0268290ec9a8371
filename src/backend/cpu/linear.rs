//! `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]`. See [`Op::Linear`](crate::graph::Op::Linear).
//!
//! The fast path gives each thread a block of the weight's rows. For one row of `x` it reads the stored
//! numbers as they are, once: decoding is as fast as memory. For more rows it widens the block to f32
//! first, and computes tiles of [`TILE_ROWS`] rows by two outputs whose sums stay in registers.

use super::parallel;
use super::rows::{Input, Output};
use super::simd::{self, Kernel, Number, vectorised};
use super::weights::{Numbers, Weight};

/// Rows of the weight that one task takes at most. Widened they should fit a core's second cache.
const BLOCK: usize = 32;
/// Rows of `x` in a tile.
const TILE_ROWS: usize = 4;
/// Partial sums of each product in a tile.
const LANES: usize = 8;

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
        let block = (out.width / (2 * parallel::threads())).clamp(2, BLOCK);
        let tasks: Vec<_> = out.blocks(block).into_iter().enumerate().collect();
        parallel::for_each(tasks, cost * block, |(index, out)| {
            let first = index * block;
            let count = out[0].len();
            let weights = &numbers[first * columns..][..count * columns];
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
    fn run<const FMA: bool>(mut self) {
        if let [out] = self.out.as_mut_slice() {
            let x = self.x.row(0);
            for (out, weights) in out.iter_mut().zip(self.weights.chunks_exact(self.columns)) {
                *out = simd::dot::<FMA, N>(weights, x);
            }
        } else {
            let mut room = Vec::new();
            let weights = N::widened(self.weights, &mut room);
            let mut from = 0;
            for out in self.out.chunks_mut(TILE_ROWS) {
                match out.len() {
                    1 => rows::<FMA, 1>(self.x, from, weights, out),
                    2 => rows::<FMA, 2>(self.x, from, weights, out),
                    3 => rows::<FMA, 3>(self.x, from, weights, out),
                    _ => rows::<FMA, TILE_ROWS>(self.x, from, weights, out),
                }
                from += out.len();
            }
        }
        if let Some(bias) = self.bias {
            for out in self.out {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}

/// `ROWS` rows of `x` times all rows of `weights`, two at a time.
#[inline(always)]
fn rows<const FMA: bool, const ROWS: usize>(x: Input<'_>, from: usize, weights: &[f32], out: &mut [&mut [f32]]) {
    let columns = x.width;
    let x: [&[f32]; ROWS] = std::array::from_fn(|r| x.row(from + r));
    for (pair, weights) in weights.chunks(2 * columns).enumerate() {
        let (first, second) = weights.split_at(columns);
        if second.is_empty() {
            let sums = tile::<FMA, ROWS, 1>(x, [first]);
            (0..ROWS).for_each(|r| out[r][2 * pair] = sums[r][0]);
        } else {
            let sums = tile::<FMA, ROWS, 2>(x, [first, second]);
            (0..ROWS).for_each(|r| out[r][2 * pair..][..2].copy_from_slice(&sums[r]));
        }
    }
}

/// The products of `ROWS` rows of `x` and `OUTS` rows of a weight.
#[inline(always)]
fn tile<const FMA: bool, const ROWS: usize, const OUTS: usize>(
    x: [&[f32]; ROWS],
    weights: [&[f32]; OUTS],
) -> [[f32; OUTS]; ROWS] {
    let x = x.map(|x| x.as_chunks::<LANES>());
    let weights = weights.map(|w| w.as_chunks::<LANES>());
    let chunks = weights[0].0.len();
    let mut sums = [[[0.0; LANES]; OUTS]; ROWS];
    for chunk in 0..chunks {
        let w: [[f32; LANES]; OUTS] = std::array::from_fn(|o| weights[o].0[chunk]);
        for r in 0..ROWS {
            let x = x[r].0[chunk];
            for o in 0..OUTS {
                for lane in 0..LANES {
                    sums[r][o][lane] = simd::mul_add::<FMA>(w[o][lane], x[lane], sums[r][o][lane]);
                }
            }
        }
    }
    std::array::from_fn(|r| {
        std::array::from_fn(|o| {
            let rest: f32 = x[r].1.iter().zip(weights[o].1).map(|(x, w)| x * w).sum();
            simd::total(sums[r][o]) + rest
        })
    })
}
