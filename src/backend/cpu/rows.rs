//! Activations as the ops see them: rows of columns inside a planned buffer.

use crate::backend::cpu::parallel;

/// Columns of a value that an op reads: `f32 [count, width]`.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    data: &'a [f32],
    pitch: usize,
    offset: usize,
    /// Columns.
    pub width: usize,
}

impl<'a> Input<'a> {
    /// Columns `offset .. offset + width` of the rows of `data`, which are `pitch` apart.
    pub fn new(data: &'a [f32], pitch: usize, offset: usize, width: usize) -> Self {
        Self { data, pitch, offset, width }
    }

    /// One row.
    pub fn row(&self, row: usize) -> &'a [f32] {
        &self.data[row * self.pitch + self.offset..][..self.width]
    }
}

/// A value that an op makes: `f32 [count, width]`.
pub(super) struct Output<'a> {
    data: &'a mut [f32],
    pitch: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub count: usize,
}

impl<'a> Output<'a> {
    /// The first `width` columns of the first `count` rows of `data`, whose rows are `pitch` apart.
    pub fn new(data: &'a mut [f32], pitch: usize, width: usize, count: usize) -> Self {
        Self { data, pitch, width, count }
    }

    /// One row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.pitch..][..self.width]
    }

    /// All rows, in order.
    pub fn rows(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let width = self.width;
        self.data.chunks_exact_mut(self.pitch).take(self.count).map(move |row| &mut row[..width])
    }

    /// Fills every row by itself: one after the other, or on all threads where that pays.
    pub fn fill(&mut self, fast: bool, row: impl Fn(usize, &mut [f32]) + Sync) {
        let cost = if fast { self.width } else { 0 };
        parallel::for_each(self.rows().enumerate().collect(), cost, |(r, out)| row(r, out));
    }

    /// Cuts rows into runs of `columns` columns: `blocks()[b][r]` is run `b` of row `r`. The last run may
    /// be shorter.
    pub fn blocks(&mut self, columns: usize) -> Vec<Vec<&mut [f32]>> {
        let mut blocks: Vec<Vec<&mut [f32]>> = Vec::new();
        blocks.resize_with(self.width.div_ceil(columns), || Vec::with_capacity(self.count));
        for row in self.rows() {
            for (block, run) in blocks.iter_mut().zip(row.chunks_mut(columns)) {
                block.push(run);
            }
        }
        blocks
    }
}
