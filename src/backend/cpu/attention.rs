//! Softmax attention over the keys before a span and the span's own. See
//! [`ops::Attention`].
//!
//! The fast path gives each thread one KV head and up to [`QUERIES`] rows of a span. It walks the keys
//! in tiles of [`KEYS`], each loaded once for all rows and all query heads of the KV head, and keeps a
//! running maximum and a running sum of every query (the *online softmax*), so that scores are never stored
//! for more than one tile.

use super::program::{Operands, Run};
use crate::backend::Result;
use crate::graph::ops;
use std::ops::Range;

use super::math::dot_f64;
use super::memory::KvPools;
use super::parallel;
use super::rows::{Input, Output};
use super::simd::{self, ExpBelow, Kernel, Lanes, Portable, multiply, vectorised};
use super::spans::SpanRows;
use crate::state::SlotId;

/// Rows of a span in one task.
const QUERIES: usize = 16;
/// Keys of a tile.
const KEYS: usize = 32;

/// Attention of every row of every span.
pub(super) struct Attention<'a> {
    /// `[count, heads * key_width]`
    pub q: Input<'a>,
    /// `[count, kv_heads * key_width]`, rotated.
    pub k: Input<'a>,
    /// `[count, kv_heads * value_width]`
    pub v: Input<'a>,
    /// Keys and values before the spans.
    pub pools: &'a KvPools,
    /// Page table of every slot.
    pub pages: &'a [Vec<u32>],
    /// Query heads.
    pub heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Keys seen before a row's own, besides the pinned ones; `None`: all.
    pub window: Option<usize>,
    /// The same for spans of one row.
    pub decode_window: Option<usize>,
}

impl Attention<'_> {
    /// The window of a span.
    fn window_of(&self, span: &SpanRows) -> Option<usize> {
        if span.count == 1 { self.decode_window } else { self.window }
    }

    /// Copies the key or value of head `head` at position `j` to `out`, as `span` sees it: from the
    /// state when it lies before the span, else from the span's own rows.
    #[inline(always)]
    fn load<V: Lanes>(&self, span: &SpanRows, j: usize, head: usize, value: bool, out: &mut [f32]) {
        let (own, pool) = if value { (&self.v, &self.pools.values) } else { (&self.k, &self.pools.keys) };
        let from = head * out.len();
        match j.checked_sub(span.position) {
            Some(t) => out.copy_from_slice(&own.row(span.row + t)[from..][..out.len()]),
            None => {
                let row = self.pools.layout.row(SlotId(span.slot as u32), &self.pages[span.slot], j);
                pool.read::<V>(row, from, out);
            }
        }
    }

    /// The formula, in f64.
    pub fn reference(&self, spans: &[SpanRows], out: &mut Output<'_>) {
        let pinned = self.pools.layout.pinned;
        let group = self.heads / self.pools.heads;
        let mut key = vec![0.0; self.q.width / self.heads];
        let mut value = vec![0.0; out.width / self.heads];
        for span in spans {
            let window = self.window_of(span);
            for t in 0..span.count {
                let i = span.position + t;
                let seen: Vec<usize> = (0..=i).filter(|&j| window.is_none_or(|w| i - j <= w) || j < pinned).collect();
                for h in 0..self.heads {
                    let q = &self.q.row(span.row + t)[h * key.len()..][..key.len()];
                    let mut score = |&j: &usize| {
                        self.load::<Portable>(span, j, h / group, false, &mut key);
                        dot_f64(q, &key) * f64::from(self.scale)
                    };
                    let mut weights: Vec<f64> = seen.iter().map(&mut score).collect();
                    let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
                    let total: f64 = weights.iter().sum();

                    let mut sum = vec![0.0; value.len()];
                    for (&j, weight) in seen.iter().zip(&weights) {
                        self.load::<Portable>(span, j, h / group, true, &mut value);
                        sum.iter_mut().zip(&value).for_each(|(sum, &v)| *sum += weight * f64::from(v));
                    }
                    let out = &mut out.row(span.row + t)[h * value.len()..][..value.len()];
                    out.iter_mut().zip(&sum).for_each(|(out, sum)| *out = (sum / total) as f32);
                }
            }
        }
    }

    /// The same in f32, in lanes and on all threads.
    pub fn fast(&self, spans: &[SpanRows], out: &mut Output<'_>) {
        let key_width = self.q.width / self.heads;
        let group = self.heads / self.pools.heads;
        let value_width = out.width / self.heads;
        let mut tasks = Vec::new();
        for (head, rows) in out.blocks(group * value_width).into_iter().enumerate() {
            let mut rows = rows.into_iter();
            for &span in spans {
                for first in (0..span.count).step_by(QUERIES) {
                    let out: Vec<_> = rows.by_ref().take(QUERIES.min(span.count - first)).collect();
                    tasks.push(Queries { attention: self, span, head, group, key_width, value_width, first, out });
                }
            }
        }
        let keys = spans.iter().map(|span| span.position + span.count).max().unwrap_or(0);
        let keys = self.window.map_or(keys, |window| keys.min(self.pools.layout.pinned + window + QUERIES));
        parallel::for_each(tasks, keys * group * (key_width + value_width), vectorised);
    }
}

/// Some rows of one span, all query heads of one KV head.
struct Queries<'a> {
    attention: &'a Attention<'a>,
    span: SpanRows,
    /// The KV head.
    head: usize,
    /// Query heads that read it.
    group: usize,
    key_width: usize,
    value_width: usize,
    /// First row of the span.
    first: usize,
    /// `[rows][group * value_width]`
    out: Vec<&'a mut [f32]>,
}

/// What a query has seen so far: the sum of values is `out`, not yet divided by `total`.
#[derive(Clone, Copy)]
struct Seen {
    largest: f32,
    total: f32,
}

impl Kernel for Queries<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let Attention { pools, .. } = self.attention;
        let (first, last) = (self.span.position + self.first, self.span.position + self.first + self.out.len() - 1);
        let window = self.attention.window_of(&self.span);
        let pinned = pools.layout.pinned.min(last + 1);
        let oldest = window.map_or(0, |window| first.saturating_sub(window)).max(pinned);

        let mut keys = vec![0.0; KEYS * self.key_width];
        let mut values = vec![0.0; KEYS * self.value_width];
        // `[rows * group, KEYS]`
        let mut scores = vec![0.0; self.out.len() * self.group * KEYS];
        let mut seen = vec![Seen { largest: f32::NEG_INFINITY, total: 0.0 }; self.out.len() * self.group];
        self.out.iter_mut().for_each(|out| out.fill(0.0));
        for (range, window) in [(0..pinned, None), (oldest..last + 1, window)] {
            for from in range.clone().step_by(KEYS) {
                let tile = from..range.end.min(from + KEYS);
                for (slot, j) in tile.clone().enumerate() {
                    let (dk, dv) = (self.key_width, self.value_width);
                    self.attention.load::<V>(&self.span, j, self.head, false, &mut keys[slot * dk..][..dk]);
                    self.attention.load::<V>(&self.span, j, self.head, true, &mut values[slot * dv..][..dv]);
                }
                self.tile::<V>(tile, window, &keys, &values, &mut scores, &mut seen);
            }
        }
        for (out, seen) in self.out.iter_mut().zip(seen.chunks_exact(self.group)) {
            for (out, seen) in out.chunks_exact_mut(self.value_width).zip(seen) {
                out.iter_mut().for_each(|out| *out /= seen.total);
            }
        }
    }
}

impl Queries<'_> {
    /// Adds the keys at positions `tile` to every query that sees some of them.
    #[inline(always)]
    fn tile<V: Lanes>(
        &mut self,
        tile: Range<usize>,
        window: Option<usize>,
        keys: &[f32],
        values: &[f32],
        scores: &mut [f32],
        seen: &mut [Seen],
    ) {
        let Self { attention, span, head, group, key_width, value_width, first, ref mut out } = *self;
        let query = |i: usize| {
            let column = (head * group + i % group) * key_width;
            &attention.q.row(span.row + first + i / group)[column..][..key_width]
        };
        let keys = &keys[..tile.len() * key_width];
        multiply::<V>(out.len() * group, key_width, query, keys, |i, key, score| {
            scores[i * KEYS + key] = score * attention.scale;
        });

        let heads = out.iter_mut().flat_map(|out| out.chunks_exact_mut(value_width));
        for (i, ((out, scores), seen)) in heads.zip(scores.chunks_exact_mut(KEYS)).zip(seen).enumerate() {
            let position = span.position + first + i / group;
            let from = window.map_or(tile.start, |window| tile.start.max(position.saturating_sub(window)));
            let until = tile.end.min(position + 1);
            if from >= until {
                continue;
            }
            let visible = from - tile.start..until - tile.start;
            let scores = &mut scores[visible.clone()];
            let largest = scores.iter().copied().fold(seen.largest, f32::max);
            if largest > seen.largest {
                let factor = (seen.largest - largest).exp();
                out.iter_mut().for_each(|out| *out *= factor);
                *seen = Seen { largest, total: seen.total * factor };
            }
            simd::map::<V>(scores, ExpBelow { largest });
            seen.total += scores.iter().sum::<f32>();
            simd::add_weighted::<V>(out, scores, &values[visible.start * value_width..]);
        }
    }
}

impl Run for ops::Attention {
    fn run(&self, step: &mut Operands<'_>, out: &mut Output<'_>) -> Result<()> {
        let (q, k, v) = (step.input(self.q), step.input(self.k), step.input(self.v));
        let (pools, pages) = (step.memory.kv(self.state)?, step.memory.pages());
        let &Self { heads, scale, window, decode_window, .. } = self;
        let attention = Attention { q, k, v, pools, pages, heads, scale, window, decode_window };
        if step.fast {
            attention.fast(step.spans, out);
        } else {
            attention.reference(step.spans, out);
        }
        Ok(())
    }
}
