//! Mamba-1's recurrence.

use super::Primitive;
use crate::graph::checks::equal;
use crate::graph::{Graph, StateId, ValueId, View, WeightId};

/// The selective scan of Mamba-1. With `D = softplus(dt[t, c])`:
/// `s[c, n] <- exp(D a[c, n]) s[c, n] + D x[t, c] b[t, n]`,
/// `out[t, c] = sum_n s[c, n] c[t, n] + d[c] x[t, c]`.
///
/// Reads and writes the state. Gu and Dao 2023, arXiv 2312.00752.
#[derive(Clone, Debug)]
pub struct SelectiveScan {
    /// `[channels]`
    pub x: View,
    /// `[channels]`, before softplus.
    pub dt: View,
    /// `[d_state]`
    pub b: View,
    /// `[d_state]`
    pub c: View,
    /// `[channels, d_state]`, negative.
    pub a: WeightId,
    /// `[channels]`
    pub d: WeightId,
    /// `[channels, d_state]`
    pub state: StateId,
    /// `[channels]`
    pub out: ValueId,
}

impl Primitive for SelectiveScan {
    const NAME: &'static str = "selective_scan";

    fn reads(&self) -> Vec<View> {
        vec![self.x, self.dt, self.b, self.c]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.a, self.d]
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let [channels, d_state] = graph.check_recurrent(self.state)?;
        let width = self.x.width;
        equal("channels of the state", channels, width)?;
        equal("width of dt", self.dt.width, width)?;
        equal("width of b", self.b.width, d_state)?;
        equal("width of c", self.c.width, d_state)?;
        graph.check_length("a", self.a, width * d_state)?;
        graph.check_length("d", self.d, width)?;
        equal("width of the result", graph.width(self.out), width)
    }
}
