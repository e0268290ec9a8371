//! Softmax attention.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, StateId, ValueId, View};

/// Softmax attention over the keys before the span (from `state`) and the span's own (`k`, `v`):
/// `out[i, h] = sum_j softmax_j(scale * q[i, h] . k[j, g]) v[j, g]` with KV head `g = h / (heads / kv_heads)`.
///
/// A key at `j` is seen from `i` when `j <= i` and (the window is `None`, or `i - j <= window`, or `j < pinned`).
/// Reads the state only; [`KvAppend`](super::KvAppend) renews it. Vaswani et al. 2017, arXiv 1706.03762; shared KV
/// heads: Ainslie et al. 2023, arXiv 2305.13245.
#[derive(Clone, Debug)]
pub struct Attention {
    /// `[heads * key_width]`
    pub q: View,
    /// `[kv_heads * key_width]`
    pub k: View,
    /// `[kv_heads * value_width]`
    pub v: View,
    /// [`StateKind::Kv`](crate::graph::StateKind::Kv), which knows the KV heads and the widths.
    pub state: StateId,
    /// Query heads.
    pub heads: usize,
    /// Factor on the scores.
    pub scale: f32,
    /// Positions seen before a row's own, besides the pinned ones; `None`: all.
    pub window: Option<usize>,
    /// The same for spans of one row.
    pub decode_window: Option<usize>,
    /// `[heads * value_width]`
    pub out: ValueId,
}

impl Primitive for Attention {
    const NAME: &'static str = "attention";

    fn reads(&self) -> Vec<View> {
        vec![self.q, self.k, self.v]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let (kv, heads) = (graph.check_kv(self.state)?, self.heads);
        for window in [self.window, self.decode_window] {
            if kv.window.is_some_and(|kept| window.is_none_or(|seen| seen > kept)) {
                let (name, kept) = (&graph.state(self.state).name, kv.window);
                return Err(format!("looks back {window:?} positions, `{name}` remembers {kept:?}"));
            }
        }
        divides("KV heads", kv.heads, heads)?;
        equal("width of q", self.q.width, heads * kv.key_width)?;
        equal("width of k", self.k.width, kv.heads * kv.key_width)?;
        equal("width of v", self.v.width, kv.heads * kv.value_width)?;
        equal("width of the result", graph.width(self.out), heads * kv.value_width)
    }
}

#[cfg(test)]
mod tests {
    use super::Attention;
    use crate::graph::{GraphBuilder, GraphError, KvSpec, Rows};

    fn attention(kept: Option<usize>, window: Option<usize>, decode_window: Option<usize>) -> Result<(), GraphError> {
        let mut b = GraphBuilder::new();
        let x = b.input("x", 8);
        let state = b.kv(3, KvSpec { heads: 1, key_width: 8, value_width: 8, pinned: 0, window: kept });
        let (q, k, v, out) = (b.whole(x), b.whole(x), b.whole(x), b.value("out", 8, Rows::All));
        b.push(Attention { q, k, v, state, heads: 1, scale: 1.0, window, decode_window, out });
        b.finish().map(|_| ())
    }

    #[test]
    fn attention_looks_back_no_further_than_its_state_remembers() {
        for seen in [(None, None), (Some(5), Some(4))] {
            attention(None, seen.0, seen.1).expect("everything is remembered");
        }
        attention(Some(5), Some(5), Some(4)).expect("as much as is remembered");
        for seen in [(None, Some(5)), (Some(5), None), (Some(6), Some(5)), (Some(5), Some(6))] {
            let error = attention(Some(5), seen.0, seen.1).expect_err("more than is remembered").to_string();
            assert!(error.contains("`layers.3.kv` remembers Some(5)"), "{error}");
        }
    }
}
