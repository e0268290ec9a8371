//! Mamba-2's recurrence.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, StateId, ValueId, View, WeightId};

/// The scan of Mamba-2 (SSD). With `D = clamp(softplus(dt[t, h] + dt_bias[h]), limit)` and group
/// `g = h / (heads / groups)`: `s[h, p, n] <- exp(D a[h]) s[h, p, n] + D x[t, h, p] b[t, g, n]`,
/// `out[t, h, p] = sum_n s[h, p, n] c[t, g, n] + d[h] x[t, h, p]`.
///
/// Reads and writes the state. Dao and Gu 2024, arXiv 2405.21060.
#[derive(Clone, Debug)]
pub struct SsdScan {
    /// `[heads * head_dim]`
    pub x: View,
    /// `[heads]`, before bias and softplus.
    pub dt: View,
    /// `[groups * d_state]`
    pub b: View,
    /// `[groups * d_state]`
    pub c: View,
    /// `[heads]`, negative.
    pub a: WeightId,
    /// `[heads]`
    pub d: WeightId,
    /// `[heads]`
    pub dt_bias: WeightId,
    /// Least and largest step.
    pub limit: (f32, f32),
    /// Heads.
    pub heads: usize,
    /// Groups of heads that share `b` and `c`.
    pub groups: usize,
    /// `[heads, head_dim, d_state]`
    pub state: StateId,
    /// `[heads * head_dim]`
    pub out: ValueId,
}

impl Primitive for SsdScan {
    const NAME: &'static str = "ssd_scan";

    fn reads(&self) -> Vec<View> {
        vec![self.x, self.dt, self.b, self.c]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.a, self.d, self.dt_bias]
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let [state_heads, head_dim, d_state] = graph.check_recurrent(self.state)?;
        let (heads, groups) = (self.heads, self.groups);
        equal("heads of the state", state_heads, heads)?;
        divides("groups", groups, heads)?;
        equal("width of x", self.x.width, heads * head_dim)?;
        equal("width of dt", self.dt.width, heads)?;
        equal("width of b", self.b.width, groups * d_state)?;
        equal("width of c", self.c.width, groups * d_state)?;
        for (what, weight) in [("a", self.a), ("d", self.d), ("dt_bias", self.dt_bias)] {
            graph.check_length(what, weight, heads)?;
        }
        equal("width of the result", graph.width(self.out), self.x.width)
    }
}
