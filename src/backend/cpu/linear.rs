//! `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]`. See [`ops::Linear`].
//!
//! The fast path gives each thread a block of the weight's rows. For one row of `x` it reads the stored
//! numbers as they are, once: decoding is as fast as memory. For more rows it widens the block to f32
//! first. Quantised weights are multiplied in integers where the processor has instructions for that.

use super::parallel;
use super::program::{Operands, Run};
use super::rows::{Input, Output};
use super::simd::{
    self, COLUMNS, Integers, Kernel, LANES, Lanes, Number, QuantisedRows, Rounded, TILE_OUTPUTS, multiply, vectorised,
};
use super::weights::{Numbers, Weight};
use crate::backend::Result;
use crate::formats::{GROUP, Quantised, QuantisedRow};
use crate::graph::ops;

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
    /// What a quantised weight is multiplied by in the fast path; `None`: numbers as they are.
    pub integers: Option<Integers>,
}

impl Linear<'_> {
    /// The formula.
    pub fn reference(&self, out: &mut Output<'_>) {
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
        let columns = self.weight.columns;
        match &self.weight.numbers {
            Numbers::F32(numbers) => self.fast_with(Plain { numbers, columns }, out),
            Numbers::F16(numbers) => self.fast_with(Plain { numbers, columns }, out),
            Numbers::Bf16(numbers) => self.fast_with(Plain { numbers, columns }, out),
            Numbers::Quantised(format, bytes) => {
                let stored = Grouped { format: *format, bytes, columns };
                match self.integers {
                    Some(integers) if *format != Quantised::Fp8 => self.fast_in_integers(integers, stored, out),
                    _ => self.fast_with(stored, out),
                }
            }
        }
    }

    fn fast_with<S: Stored>(&self, stored: S, out: &mut Output<'_>) {
        if out.count == 0 {
            return;
        }
        let (columns, cost) = (self.weight.columns, self.weight.columns * out.count);
        let block = block(out.width, TILE_OUTPUTS);
        let tasks: Vec<_> = out.blocks(block).into_iter().enumerate().collect();
        parallel::for_each(tasks, cost * block, |(index, out)| {
            let first = index * block;
            let bias = self.bias.map(|bias| &bias[first..][..out[0].len()]);
            vectorised(Block { x: self.x, columns, stored, first: self.first + first, bias, out });
        });
    }

    /// The same with `x` rounded to 8 bits, where the processor multiplies integers faster.
    fn fast_in_integers(&self, integers: Integers, stored: Grouped<'_>, out: &mut Output<'_>) {
        if out.count == 0 {
            return;
        }
        let x = Rounded::new(self.x, out.count, stored.format);
        let (block, count) = (block(out.width, COLUMNS), out.count);
        let tasks: Vec<_> = out.blocks(block).into_iter().enumerate().collect();
        let row_bytes = stored.format.row_bytes(stored.columns);
        parallel::for_each(tasks, stored.columns * count * block / 2, |(index, mut out)| {
            let (first, rows) = (index * block, out[0].len());
            let weight = QuantisedRows {
                format: stored.format,
                bytes: &stored.bytes[(self.first + first) * row_bytes..][..rows * row_bytes],
                columns: stored.columns,
                bias: self.bias.map(|bias| &bias[first..][..rows]),
            };
            integers.multiply(&weight, &x, &mut out);
        });
    }
}

/// Columns of a result that a task makes, a multiple of `unit`: a narrow one is still cut into enough blocks for all threads.
fn block(width: usize, unit: usize) -> usize {
    (width / (2 * parallel::threads())).next_multiple_of(unit).clamp(unit, BLOCK.next_multiple_of(unit))
}

/// Some rows of a weight times all rows of `x`.
struct Block<'a, S> {
    x: Input<'a>,
    columns: usize,
    stored: S,
    /// Row of the weight that makes the first output.
    first: usize,
    /// `[outputs]`
    bias: Option<&'a [f32]>,
    /// `[rows of x][outputs]`
    out: Vec<&'a mut [f32]>,
}

impl<S: Stored> Kernel for Block<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        if let [out] = self.out.as_mut_slice() {
            let x = self.x.row(0);
            for (o, out) in out.iter_mut().enumerate() {
                *out = self.stored.dot::<V>(self.first + o, x);
            }
        } else {
            let mut room = Vec::new();
            let count = self.out[0].len();
            let weights = self.stored.widened::<V>(self.first, count, &mut room);
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

/// The rows of a weight as they are stored.
trait Stored: Copy + Send + Sync {
    /// A row times `x`.
    fn dot<V: Lanes>(&self, row: usize, x: &[f32]) -> f32;

    /// Some rows in f32: themselves, or a copy in `room`.
    fn widened<'b, V: Lanes>(&'b self, first: usize, count: usize, room: &'b mut Vec<f32>) -> &'b [f32];
}

/// One number after the other.
#[derive(Clone, Copy)]
struct Plain<'a, N> {
    numbers: &'a [N],
    columns: usize,
}

impl<N: Number> Stored for Plain<'_, N> {
    #[inline(always)]
    fn dot<V: Lanes>(&self, row: usize, x: &[f32]) -> f32 {
        simd::dot::<V, N>(&self.numbers[row * self.columns..][..self.columns], x)
    }

    #[inline(always)]
    fn widened<'b, V: Lanes>(&'b self, first: usize, count: usize, room: &'b mut Vec<f32>) -> &'b [f32] {
        N::widened::<V>(&self.numbers[first * self.columns..][..count * self.columns], room)
    }
}

/// Groups of codes with a scale.
#[derive(Clone, Copy)]
struct Grouped<'a> {
    format: Quantised,
    bytes: &'a [u8],
    columns: usize,
}

impl<'a> Grouped<'a> {
    #[inline(always)]
    fn row(&self, row: usize) -> QuantisedRow<'a> {
        let row_bytes = self.format.row_bytes(self.columns);
        self.format.split(&self.bytes[row * row_bytes..][..row_bytes], self.columns)
    }

    /// The numbers of a group that is full.
    #[inline(always)]
    fn group<V: Lanes>(&self, row: &QuantisedRow<'_>, group: usize) -> [V; GROUP / LANES] {
        // The library's own conversion asks each time what the processor can do.
        let (factor, addend) = row.group_with(group, Number::widen);
        let (factor, addend) = (V::splat(factor), V::splat(addend));
        let mut numbers = [V::splat(0.0); GROUP / LANES];
        if self.format.code_bits() == 8 {
            let codes = row.codes[group * GROUP..][..GROUP].as_chunks().0;
            for i in 0..numbers.len() {
                let code = if self.format == Quantised::Q8 { V::load_i8(&codes[i]) } else { V::load_e4m3(&codes[i]) };
                numbers[i] = code.mul(factor);
            }
        } else {
            let codes = row.codes[group * GROUP / 2..][..GROUP / 2].as_chunks().0;
            for i in 0..numbers.len() {
                numbers[i] = V::load_u4(&codes[i]).mul_add(factor, addend);
            }
        }
        numbers
    }
}

impl Stored for Grouped<'_> {
    #[inline(always)]
    fn dot<V: Lanes>(&self, row: usize, x: &[f32]) -> f32 {
        let row = self.row(row);
        let (groups, rest) = x.as_chunks::<GROUP>();
        // A sum for each part of a group, lest each addition waits for the one before.
        let mut sums = [V::splat(0.0); GROUP / LANES];
        for (g, x) in groups.iter().enumerate() {
            let (numbers, x) = (self.group::<V>(&row, g), x.as_chunks().0);
            for i in 0..sums.len() {
                sums[i] = numbers[i].mul_add(V::load(&x[i]), sums[i]);
            }
        }
        let last = groups.len() * GROUP;
        let sum = (sums[0].add(sums[1])).add(sums[2].add(sums[3])).sum();
        sum + rest.iter().enumerate().map(|(i, x)| row.at(last + i) * x).sum::<f32>()
    }

    #[inline(always)]
    fn widened<'b, V: Lanes>(&'b self, first: usize, count: usize, room: &'b mut Vec<f32>) -> &'b [f32] {
        room.resize(count * self.columns, 0.0);
        for (o, numbers) in room.chunks_exact_mut(self.columns).enumerate() {
            let row = self.row(first + o);
            let (groups, rest) = numbers.as_chunks_mut::<GROUP>();
            let last = groups.len() * GROUP;
            for (g, to) in groups.iter_mut().enumerate() {
                let numbers = self.group::<V>(&row, g);
                let to = to.as_chunks_mut().0;
                for i in 0..numbers.len() {
                    numbers[i].store(&mut to[i]);
                }
            }
            rest.iter_mut().enumerate().for_each(|(i, to)| *to = row.at(last + i));
        }
        room
    }
}

impl Run for ops::Linear {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (weight, bias) = (step.weights.get(self.weight)?, step.weights.vector_opt(self.bias)?);
        let linear = Linear { x: step.whole(self.x), weight, first: 0, bias, integers: step.integers };
        if step.fast {
            linear.fast(out);
        } else {
            linear.reference(out);
        }
        Ok(())
    }
}
