//! Products of quantised weights with activations in integers.
//!
//! The numbers of `x` are rounded to 8 bits, with a scale for each group of 32: `x = scale_x * code_x`. With a weight of
//! the same groups, `w = factor * code_w + minimum` (from the codes of `q4` 8 is subtracted), a group's part of a product is
//!
//! ```text
//! sum_i w[i] * x[i] = scale_x * (factor * sum_i code_w[i] * code_x[i] + minimum * sum_i code_x[i])
//! ```
//!
//! The sums are of small integers, exact, and what processors have instructions for. Those want one side without a sign: the sign
//! of a weight's code goes over to that of `x`.
//! Rounding leaves at most 1/254 of a group's largest number. llama.cpp does the same with its formats of 8 and 4 bits.
//!
//! A row's numbers are added in the same order however many rows are multiplied together, up to the count from which on a weight
//! is unpacked for all of them.

// Other processors have no instructions here.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_variables, unused_mut))]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::ROUND;
use crate::backend::cpu::parallel;
use crate::backend::cpu::rows::Input;
use crate::formats::{GROUP, Quantised, QuantisedRow};

/// Rows of `x` that are multiplied together at most.
const ROWS: usize = 4;
/// Rows from which on a weight is unpacked for all of them.
const MANY: usize = 32;
/// Columns of a result are cut at multiples of so many.
pub(in crate::backend::cpu) const COLUMNS: usize = 16;
/// Scales of a row of `x` are a multiple of so many: as many as are loaded at once.
const SCALES: usize = 16;
/// Largest code of `x`. With -128 there would be no negative of every code.
const LARGEST: f32 = 127.0;

/// Instructions for such products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cpu) enum Integers {
    /// Pairs of bytes to 16 bits: every x86 processor since about 2013.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Fours of bytes to 32 bits, 64 at a time: servers since 2019, desktops since 2021 in part.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Integers {
    /// The widest that the processor has.
    pub fn best() -> Option<Self> {
        Self::all().last().copied()
    }

    /// All that the processor has, the widest last.
    pub fn all() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        return [(Self::Avx2, super::avx2::available()), (Self::Avx512, avx512::available())]
            .into_iter()
            .filter_map(|(this, available)| available.then_some(this))
            .collect();
        #[cfg(not(target_arch = "x86_64"))]
        vec![]
    }

    /// Multiplies all rows of `x`, which are the rows of `out`.
    pub fn multiply(self, weight: &QuantisedRows<'_>, x: &Rounded, out: &mut [&mut [f32]]) {
        let columns = out.first().map_or(0, |row| row.len());
        let mut at = 0;
        #[cfg(target_arch = "x86_64")]
        if self == Self::Avx512 && out.len() >= MANY {
            while at + avx512::OUTPUTS <= columns {
                // SAFETY: there is no value of this type for instructions that the processor does not have.
                unsafe { avx512::wide(weight, at, x, out) };
                at += avx512::OUTPUTS;
            }
        }
        if at < columns {
            let weight = weight.from(at);
            for (strip, out) in out.chunks_mut(ROWS).enumerate() {
                let mut out: Vec<&mut [f32]> = out.iter_mut().map(|row| &mut row[at..]).collect();
                self.few(&weight, x, strip * ROWS, &mut out);
            }
        }
    }

    /// Multiplies up to [`ROWS`] rows of `x` from `first` on, which are the rows of `out`.
    fn few(self, weight: &QuantisedRows<'_>, x: &Rounded, first: usize, out: &mut [&mut [f32]]) {
        match out.len() {
            1 => self.strip::<1>(weight, x, first, out),
            2 => self.strip::<2>(weight, x, first, out),
            3 => self.strip::<3>(weight, x, first, out),
            _ => self.strip::<ROWS>(weight, x, first, out),
        }
    }

    fn strip<const N: usize>(self, weight: &QuantisedRows<'_>, x: &Rounded, first: usize, out: &mut [&mut [f32]]) {
        let x: [RoundedRow<'_>; N] = std::array::from_fn(|r| x.row(first + r));
        // SAFETY: there is no value of this type for instructions that the processor does not have.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            match self {
                Self::Avx2 => avx2::strip(weight, &x, out),
                Self::Avx512 => avx512::strip(weight, &x, out),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        match self {}
    }
}

/// Rows of a quantised weight, and what is added to their products.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct QuantisedRows<'a> {
    /// Their format.
    pub format: Quantised,
    /// The rows one after the other.
    pub bytes: &'a [u8],
    /// Numbers of a row.
    pub columns: usize,
    /// One number for each row.
    pub bias: Option<&'a [f32]>,
}

impl<'a> QuantisedRows<'a> {
    /// The rows from one on.
    fn from(&self, first: usize) -> QuantisedRows<'a> {
        let bytes = &self.bytes[first * self.format.row_bytes(self.columns)..];
        QuantisedRows { bytes, bias: self.bias.map(|bias| &bias[first..]), ..*self }
    }

    /// Hands each row to `dots`, which gives its products with the first groups of `x`, and how many groups those are.
    #[inline(always)]
    fn each<const N: usize>(
        &self,
        x: &[RoundedRow<'_>; N],
        out: &mut [&mut [f32]],
        dots: impl Fn(&QuantisedRow<'_>) -> ([f32; N], usize),
    ) {
        let groups = self.columns.div_ceil(GROUP);
        for (o, row) in self.bytes.chunks_exact(self.format.row_bytes(self.columns)).enumerate() {
            let row = self.format.split(row, self.columns);
            let (mut sums, done) = dots(&row);
            if done < groups {
                sums.iter_mut().zip(x).for_each(|(sum, x)| *sum += x.dot(&row, self.format, done));
            }
            let bias = self.bias.map_or(0.0, |bias| bias[o]);
            out.iter_mut().zip(sums).for_each(|(out, sum)| out[o] = sum + bias);
        }
    }
}

/// Rows of numbers in 8 bits.
pub(in crate::backend::cpu) struct Rounded {
    columns: usize,
    /// `i8 [rows][groups][GROUP]`; for weights of 4 bits the even ones of a group in front of the odd ones, as the lower and
    /// upper halves of the weight's bytes are.
    codes: Vec<i8>,
    /// `[rows][groups]`, up to a multiple of [`SCALES`] of them.
    scales: Vec<f32>,
    /// The sums of the codes of each group, as many.
    sums: Vec<i32>,
}

/// A row of them.
#[derive(Clone, Copy)]
struct RoundedRow<'a> {
    columns: usize,
    codes: &'a [i8],
    scales: &'a [f32],
    sums: &'a [i32],
}

/// Where rounded numbers go.
type Room<'a> = (&'a [f32], (&'a mut [i8], (&'a mut [f32], &'a mut [i32])));

impl Rounded {
    /// The first `rows` rows of `x`, for weights of a format.
    pub fn new(x: Input<'_>, rows: usize, format: Quantised) -> Self {
        let (codes, scales) = (x.width.next_multiple_of(GROUP), x.width.div_ceil(GROUP).next_multiple_of(SCALES));
        let mut this = Self {
            columns: x.width,
            codes: vec![0; rows * codes],
            scales: vec![0.0; rows * scales],
            sums: vec![0; rows * scales],
        };
        let scales = this.scales.chunks_exact_mut(scales).zip(this.sums.chunks_exact_mut(scales));
        let rooms = this.codes.chunks_exact_mut(codes).zip(scales);
        let tasks: Vec<Room<'_>> = (0..rows).map(|row| x.row(row)).zip(rooms).collect();
        parallel::for_each(tasks, 4 * x.width, |(x, (codes, (scales, sums)))| {
            let groups = x.chunks(GROUP).zip(codes.as_chunks_mut().0).zip(scales.iter_mut().zip(sums));
            for ((x, codes), (scale, sum)) in groups {
                (*scale, *sum) = round(x, codes, format != Quantised::Q8);
            }
        });
        this
    }

    /// Codes from a row to the next.
    fn code_pitch(&self) -> usize {
        self.columns.next_multiple_of(GROUP)
    }

    /// Scales, and sums, from a row to the next.
    fn scale_pitch(&self) -> usize {
        self.columns.div_ceil(GROUP).next_multiple_of(SCALES)
    }

    fn row(&self, row: usize) -> RoundedRow<'_> {
        let (codes, scales) = (self.code_pitch(), self.scale_pitch());
        RoundedRow {
            columns: self.columns,
            codes: &self.codes[row * codes..][..codes],
            scales: &self.scales[row * scales..][..scales],
            sums: &self.sums[row * scales..][..scales],
        }
    }
}

impl RoundedRow<'_> {
    /// The product with the columns of a weight from group `from` on, one number after the other.
    fn dot(&self, row: &QuantisedRow<'_>, format: Quantised, from: usize) -> f32 {
        let mut sum = 0.0;
        for group in from..self.columns.div_ceil(GROUP) {
            let codes = &self.codes[group * GROUP..][..GROUP];
            let count = (self.columns - group * GROUP).min(GROUP);
            let mut integers = 0;
            for i in 0..count {
                let at = group * GROUP + i;
                let (w, x) = match format {
                    Quantised::Q8 => (row.codes[at] as i8, codes[i]),
                    _ => ((row.codes[at / 2] >> (4 * (at % 2)) & 15) as i8, codes[halved(i)]),
                };
                integers += i32::from(w - offset(format)) * i32::from(x);
            }
            let (factor, addend) = row.group(group);
            let minimum = if format.has_minimums() { addend } else { 0.0 };
            sum += self.scales[group] * (factor * integers as f32 + minimum * self.sums[group] as f32);
        }
        sum
    }
}

/// Place of a number in its group where the even ones are in front.
fn halved(i: usize) -> usize {
    i % 2 * GROUP / 2 + i / 2
}

/// What is subtracted from the codes of a format.
fn offset(format: Quantised) -> i8 {
    if format == Quantised::Q4 { 8 } else { 0 }
}

/// Rounds a group; gives its scale and the sum of its codes. What is not finite makes the scale NaN.
fn round(x: &[f32], codes: &mut [i8; GROUP], halves: bool) -> (f32, i32) {
    let (mut largest, mut fault) = (0.0f32, 0.0f32);
    for &x in x {
        largest = if x.abs() > largest { x.abs() } else { largest };
        // 0 of every finite number.
        fault += x * 0.0;
    }
    let scale = largest / LARGEST + fault;
    // Of a group of zeros, or of numbers so small that their scale is none.
    let inverse = if scale >= f32::MIN_POSITIVE { scale.recip() } else { 0.0 };
    let mut sum = 0;
    for (i, &x) in x.iter().enumerate() {
        // The lowest bits of this sum are the nearest integer.
        let code = (x * inverse + ROUND).to_bits() as u8 as i8;
        sum += i32::from(code);
        codes[if halves { halved(i) } else { i }] = code;
    }
    (scale, sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::formats::{Rounding, quantise_row};

    const FORMATS: [Quantised; 3] = [Quantised::Q8, Quantised::Q4, Quantised::Q4m];

    /// Small numbers with some large ones among them.
    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next() * if next() > 0.9 { 20.0 } else { 1.0 }).collect()
    }

    fn weight(columns: usize, format: Quantised, seed: u64) -> Vec<u8> {
        let mut bytes = vec![0; format.row_bytes(columns)];
        assert!(quantise_row(&numbers(columns, seed), format, Rounding::Absmax, &mut bytes));
        bytes
    }

    /// The formula in f64, of the numbers that `x` was rounded to; and the size of what is added for it.
    fn exact(row: &QuantisedRow<'_>, format: Quantised, x: &RoundedRow<'_>) -> (f64, f64) {
        let parts = (0..x.columns).map(|i| {
            let (group, within) = (i / GROUP, i % GROUP);
            let code = x.codes[group * GROUP + if format == Quantised::Q8 { within } else { halved(within) }];
            let x = f64::from(x.scales[group]) * f64::from(code);
            let minimum = if format.has_minimums() { f64::from(row.group(group).1) } else { 0.0 };
            let w = f64::from(row.at(i));
            (w * x, (w.abs() + 2.0 * minimum.abs()) * x.abs())
        });
        parts.fold((0.0, 0.0), |(sum, size), (part, parts)| (sum + part, size + parts))
    }

    /// Products of rows `first .. first + N` of `x` with a row of a weight.
    fn dots<const N: usize>(
        integers: Integers,
        format: Quantised,
        bytes: &[u8],
        x: &Rounded,
        first: usize,
    ) -> [f32; N] {
        let mut sums = [[0.0]; N];
        let mut out: Vec<&mut [f32]> = sums.iter_mut().map(|sum| sum.as_mut_slice()).collect();
        let weight = QuantisedRows { format, bytes, columns: x.columns, bias: None };
        integers.few(&weight, x, first, &mut out);
        sums.map(|[sum]| sum)
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_rounded_numbers(columns in (1..700usize).prop_map(|half| 2 * half), rows in 1..=ROWS, seed: u64) {
            for format in FORMATS {
                let (bytes, x) = (weight(columns, format, seed), numbers(rows * columns, !seed));
                let row = format.split(&bytes, columns);
                let rounded = Rounded::new(Input::new(&x, columns, 0, columns), rows, format);
                for integers in Integers::all() {
                    for r in 0..rows {
                        let [got] = dots::<1>(integers, format, &bytes, &rounded, r);
                        let (wanted, size) = exact(&row, format, &rounded.row(r));
                        let off = (f64::from(got) - wanted).abs();
                        prop_assert!(off <= 1e-6 * size + 1e-30, "{integers:?} {format:?} {columns}: {got} is not {wanted}");
                        // The same bits beside others.
                        if r + 2 <= rows {
                            let [first, _] = dots::<2>(integers, format, &bytes, &rounded, r);
                            prop_assert_eq!(first.to_bits(), got.to_bits());
                        }
                        if rows == ROWS {
                            let all = dots::<ROWS>(integers, format, &bytes, &rounded, 0);
                            prop_assert_eq!(all[r].to_bits(), got.to_bits());
                        }
                    }
                }
            }
        }

        #[test]
        fn rounding_leaves_little(columns in 1..200usize, seed: u64) {
            let x = numbers(columns, seed);
            for format in FORMATS {
                let rounded = Rounded::new(Input::new(&x, columns, 0, columns), 1, format);
                let row = rounded.row(0);
                for (group, x) in x.chunks(GROUP).enumerate() {
                    let most = row.scales[group] * 0.501;
                    for (i, x) in x.iter().enumerate() {
                        let at = if format == Quantised::Q8 { i } else { halved(i) };
                        prop_assert!((row.scales[group] * f32::from(row.codes[group * GROUP + at]) - x).abs() <= most);
                    }
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn many_rows_are_multiplied_as_few_are(
            half in 1..90usize, outputs in 1..40usize, rows in 1..70usize, biased: bool, seed: u64,
        ) {
            let columns = 2 * half;
            for format in FORMATS {
                let bytes: Vec<u8> = (0..outputs).flat_map(|o| weight(columns, format, seed ^ o as u64)).collect();
                let (x, bias) = (numbers(rows * columns, !seed), numbers(outputs, seed));
                let rounded = Rounded::new(Input::new(&x, columns, 0, columns), rows, format);
                let bias = biased.then_some(bias.as_slice());
                let all = QuantisedRows { format, bytes: &bytes, columns, bias };
                for integers in Integers::all() {
                    let mut got = vec![f32::NAN; rows * outputs];
                    let mut out: Vec<&mut [f32]> = got.chunks_mut(outputs).collect();
                    integers.multiply(&all, &rounded, &mut out);
                    for (r, got) in got.chunks(outputs).enumerate() {
                        for (o, got) in got.iter().enumerate() {
                            let row = &bytes[o * format.row_bytes(columns)..][..format.row_bytes(columns)];
                            let (wanted, size) = exact(&format.split(row, columns), format, &rounded.row(r));
                            let bias = bias.map_or(0.0, |bias| f64::from(bias[o]));
                            let off = (f64::from(*got) - wanted - bias).abs();
                            prop_assert!(off <= 2e-6 * (size + bias.abs()) + 1e-30, "{integers:?} {format:?} {columns}: {got} is not {wanted}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 31, 40, 200] {
                let mut x = numbers(256, 3);
                x[at] = bad;
                for format in FORMATS {
                    let bytes = weight(256, format, 5);
                    let rounded = Rounded::new(Input::new(&x, 256, 0, 256), 1, format);
                    for integers in Integers::all() {
                        let [sum] = dots(integers, format, &bytes, &rounded, 0);
                        assert!(!sum.is_finite(), "{integers:?} {format:?} {bad} at {at}: {sum}");
                    }
                }
            }
        }
    }

    #[test]
    fn zeros_and_the_smallest_numbers_are_no_fault() {
        for x in [[0.0; 64], [1e-45; 64], [f32::MIN_POSITIVE; 64], [1e35; 64]] {
            let bytes = weight(64, Quantised::Q4, 7);
            let rounded = Rounded::new(Input::new(&x, 64, 0, 64), 1, Quantised::Q4);
            for integers in Integers::all() {
                let [sum] = dots(integers, Quantised::Q4, &bytes, &rounded, 0);
                assert!(sum.is_finite(), "{integers:?}: {sum}");
            }
        }
    }
}
