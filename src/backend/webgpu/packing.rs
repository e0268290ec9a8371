//! How the rows of a matrix lie on the device. The shaders' side: `shaders/shared/weight_*.wgsl` and
//! `quad_*.wgsl`.
//!
//! Kernels read a *chunk* of eight columns at a time, and those of decode of a *quad*, four consecutive rows: a
//! quad is what a workgroup makes outputs of. Rows are padded to whole chunks and matrices to whole quads, with
//! zeros.
//!
//! Formats of 16 and 32 bits lie row by row. A quantised matrix is a list of records, one a quad, in words of 16
//! bytes:
//!
//! | format | codes: four bytes of each row a word | scales |
//! |---|---|---|
//! | `q8`, `fp8` | a word for every four columns | a word for every two groups: f16 `[group, row]` |
//! | `q4` | a word for every eight columns | the same |
//! | `q4m` | a word for every eight columns | a word for every group: f16 `[scale or minimum, row]` |
//!
//! So one word serves four outputs, and lanes that take chunk after chunk read word after word, of weights and of
//! what they are multiplied with.

use std::borrow::Cow;

use super::kernels::{linear_pair, linear_rows};
use crate::formats::Quantised;
use crate::graph::WeightFormat;

/// Columns that a kernel reads at a time.
pub(super) const CHUNK: usize = 8;
/// Rows that a kernel reads together.
pub(super) const QUAD: usize = 4;
// A workgroup of the kernels for few rows makes the outputs of one quad.
const _: () = assert!(linear_rows::plain::OUTS == QUAD && linear_pair::plain::OUTS == QUAD);

/// Consecutive quads of a matrix in a buffer of their own.
pub(super) struct Segment {
    pub first: usize,
    pub rows: usize,
    pub buffer: wgpu::Buffer,
}

/// Bytes that a kernel reads at a time, of one row's codes and of all.
const CODES: usize = 4;
const WORD: usize = QUAD * CODES;
/// Bytes of an f16.
const HALF: usize = 2;

/// How rows of one width and format are packed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    pub format: WeightFormat,
    pub columns: usize,
}

impl Packing {
    /// Chunks of a row.
    pub fn chunks(self) -> usize {
        self.columns.div_ceil(CHUNK)
    }

    /// Bytes of a row as it comes.
    pub fn row_bytes(self) -> usize {
        self.format.row_bytes(self.columns)
    }

    /// Bytes of a quad on the device.
    pub fn quad_bytes(self) -> usize {
        match self.format {
            WeightFormat::Quantised(format) => {
                let groups = self.chunks().div_ceil(4);
                let scales = if format.has_minimums() { groups } else { groups.div_ceil(2) };
                self.code_bytes(format) + scales * WORD
            }
            format => QUAD * format.row_bytes(self.chunks() * CHUNK),
        }
    }

    /// Bytes of the codes of a quad.
    pub fn code_bytes(self, format: Quantised) -> usize {
        QUAD * format.code_bytes(self.chunks() * CHUNK)
    }

    /// Rows as they come, one after the other from row `first` of a segment, as they lie on the device, and where:
    /// the byte of the segment at which they begin. `None` when they begin within a quantised quad that `open` does
    /// not hold. `open` is the quad within which the rows before ended, or empty.
    pub fn pack<'a>(self, first: usize, rows: &'a [u8], open: &mut Vec<u8>) -> Option<(u64, Cow<'a, [u8]>)> {
        match self.format {
            WeightFormat::Quantised(format) => {
                let start = first / QUAD * self.quad_bytes();
                self.pack_quads(format, first % QUAD, rows, open).map(|quads| (start as u64, Cow::Owned(quads)))
            }
            _ => {
                let pitch = self.quad_bytes() / QUAD;
                Some(((first * pitch) as u64, padded(rows, self.row_bytes(), pitch)))
            }
        }
    }

    /// Whole quads of rows of which the first is row `skipped` of its quad.
    fn pack_quads(self, format: Quantised, skipped: usize, rows: &[u8], open: &mut Vec<u8>) -> Option<Vec<u8>> {
        let (row_bytes, quad_bytes) = (self.row_bytes(), self.quad_bytes());
        let end = skipped + rows.len() / row_bytes;
        let mut quads = std::mem::take(open);
        if skipped == 0 {
            quads.clear();
        } else if quads.len() != quad_bytes {
            return None;
        }
        quads.resize(end.div_ceil(QUAD) * quad_bytes, 0);
        for (index, row) in (skipped..).zip(rows.chunks_exact(row_bytes)) {
            self.place(format, row, index % QUAD, &mut quads[index / QUAD * quad_bytes..][..quad_bytes]);
        }
        if !end.is_multiple_of(QUAD) {
            open.extend_from_slice(&quads[quads.len() - quad_bytes..]);
        }
        Some(quads)
    }

    /// The first rows of quantised quads, as they came.
    pub fn unpack(self, format: Quantised, rows: usize, quads: &[u8]) -> Vec<u8> {
        let mut unpacked = Vec::with_capacity(rows * self.row_bytes());
        for index in 0..rows {
            let quad = &quads[index / QUAD * self.quad_bytes()..][..self.quad_bytes()];
            self.take(format, index % QUAD, quad, &mut unpacked);
        }
        unpacked
    }

    /// Appends one row of a quad.
    fn take(self, format: Quantised, index: usize, quad: &[u8], row: &mut Vec<u8>) {
        let [codes, scales, minimums] = format.planes(self.columns);
        let (words, halves) = quad.split_at(self.code_bytes(format));
        let all = row.len() + codes;
        row.extend(words.chunks_exact(WORD).flat_map(|word| &word[index * CODES..][..CODES]));
        row.truncate(all);
        let kinds = if format.has_minimums() { 2 } else { 1 };
        for (kind, bytes) in [scales, minimums].into_iter().enumerate() {
            for group in 0..bytes / HALF {
                row.extend_from_slice(&halves[((group * kinds + kind) * QUAD + index) * HALF..][..HALF]);
            }
        }
    }

    /// Puts one row into its quad.
    fn place(self, format: Quantised, row: &[u8], index: usize, quad: &mut [u8]) {
        let planes = format.split(row, self.columns);
        let (words, scales) = quad.split_at_mut(self.code_bytes(format));
        for (word, codes) in words.chunks_exact_mut(WORD).zip(planes.codes.chunks(CODES)) {
            word[index * CODES..][..codes.len()].copy_from_slice(codes);
        }
        // Of the halves of four rows: scales, or scales and minimums in turn.
        let kinds = if format.has_minimums() { 2 } else { 1 };
        for (kind, plane) in [planes.scales, planes.minimums].into_iter().enumerate() {
            for (group, half) in plane.chunks_exact(HALF).enumerate() {
                scales[((group * kinds + kind) * QUAD + index) * HALF..][..HALF].copy_from_slice(half);
            }
        }
    }
}

/// Rows of `row` bytes, each padded with zeros to `pitch`.
fn padded(rows: &[u8], row: usize, pitch: usize) -> Cow<'_, [u8]> {
    if row == pitch {
        return Cow::Borrowed(rows);
    }
    let mut padded = vec![0; rows.len() / row * pitch];
    for (to, from) in padded.chunks_exact_mut(pitch).zip(rows.chunks_exact(row)) {
        to[..row].copy_from_slice(from);
    }
    Cow::Owned(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose bytes all differ, as far as bytes can.
    fn rows(packing: Packing, count: usize) -> Vec<u8> {
        (0..count * packing.row_bytes()).map(|i| (i % 251) as u8 + 1).collect()
    }

    fn packings() -> impl Iterator<Item = Packing> {
        let formats = WeightFormat::ALL.into_iter();
        formats.flat_map(|format| [2, 8, 42, 64, 66, 100].map(|columns| Packing { format, columns }))
    }

    #[test]
    fn every_byte_of_a_row_has_a_place_and_the_rest_is_zero() {
        for packing in packings() {
            let mut open = vec![];
            let rows = rows(packing, 7);
            let (start, packed) = packing.pack(0, &rows, &mut open).expect("from the beginning");
            assert_eq!(start, 0);
            let mut found: Vec<u8> = packed.iter().copied().filter(|&byte| byte != 0).collect();
            let mut wanted = rows.clone();
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{packing:?}");
        }
    }

    #[test]
    fn what_was_packed_comes_back() {
        for packing in packings() {
            let WeightFormat::Quantised(format) = packing.format else { continue };
            let rows = rows(packing, 7);
            let (_, packed) = packing.pack(0, &rows, &mut vec![]).expect("from the beginning");
            assert_eq!(packing.unpack(format, 7, &packed), rows, "{packing:?}");
            assert_eq!(packing.unpack(format, 5, &packed), rows[..5 * packing.row_bytes()], "{packing:?}");
        }
    }

    #[test]
    fn blocks_may_end_within_a_quad() {
        for packing in packings() {
            let all = rows(packing, 14);
            let (_, wanted) = packing.pack(0, &all, &mut vec![]).expect("from the beginning");
            for cuts in [vec![1, 2, 3, 13], vec![4, 6], vec![5, 12], vec![7]] {
                let (mut device, mut open, mut from) = (vec![0; wanted.len()], vec![], 0);
                for to in cuts.into_iter().chain([14]) {
                    let block = &all[from * packing.row_bytes()..to * packing.row_bytes()];
                    let (start, packed) = packing.pack(from, block, &mut open).expect("in order");
                    device[start as usize..][..packed.len()].copy_from_slice(&packed);
                    from = to;
                }
                assert_eq!(device, *wanted, "{packing:?}");
            }
        }
    }

    #[test]
    fn a_quantised_block_must_follow_the_one_before() {
        let packing = Packing { format: WeightFormat::Q4, columns: 64 };
        assert!(packing.pack(2, &rows(packing, 3), &mut vec![]).is_none());
    }
}
