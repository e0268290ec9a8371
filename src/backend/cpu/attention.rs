//! Softmax attention over the keys before a span and the span's own. See
//! [`Op::Attention`](crate::graph::Op::Attention).

use super::math::dot_f64;
use super::memory::KvPools;
use super::rows::{Input, Output};
use super::spans::SpanRows;
use crate::state::SlotId;

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
    fn load(&self, span: &SpanRows, j: usize, head: usize, value: bool, out: &mut [f32]) {
        let (own, pool) = if value { (&self.v, &self.pools.values) } else { (&self.k, &self.pools.keys) };
        let from = head * out.len();
        match j.checked_sub(span.position) {
            Some(t) => out.copy_from_slice(&own.row(span.row + t)[from..][..out.len()]),
            None => {
                let row = self.pools.layout.row(SlotId(span.slot as u32), &self.pages[span.slot], j);
                pool.read(row, from, out);
            }
        }
    }

    /// The formula, in f64.
    pub fn twin(&self, spans: &[SpanRows], out: &mut Output<'_>) {
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
                        self.load(span, j, h / group, false, &mut key);
                        dot_f64(q, &key) * f64::from(self.scale)
                    };
                    let mut weights: Vec<f64> = seen.iter().map(&mut score).collect();
                    let largest = weights.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    weights.iter_mut().for_each(|w| *w = (*w - largest).exp());
                    let total: f64 = weights.iter().sum();

                    let mut sum = vec![0.0; value.len()];
                    for (&j, weight) in seen.iter().zip(&weights) {
                        self.load(span, j, h / group, true, &mut value);
                        sum.iter_mut().zip(&value).for_each(|(sum, &v)| *sum += weight * f64::from(v));
                    }
                    let out = &mut out.row(span.row + t)[h * value.len()..][..value.len()];
                    out.iter_mut().zip(&sum).for_each(|(out, sum)| *out = (sum / total) as f32);
                }
            }
        }
    }
}
