//! The gated delta rule.

use super::Primitive;
use crate::graph::checks::{divides, equal};
use crate::graph::{Graph, StateId, ValueId, View, WeightId};

/// The gated delta rule. Value head `h` reads query and key head `g = h / (heads / key_heads)`. With
/// `D = exp(a[h] * softplus(dt[t, h] + dt_bias[h]))` and `B = sigmoid(beta[t, h])`, in this order:
/// `s[h, i, j] <- D s[h, i, j]`, `e[j] = B (v[t, h, j] - sum_i s[h, i, j] k[t, g, i])`,
/// `s[h, i, j] <- s[h, i, j] + k[t, g, i] e[j]`, `out[t, h, j] = scale * sum_i s[h, i, j] q[t, g, i]`.
///
/// Queries and keys come normed. Reads and writes the state. Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464.
#[derive(Clone, Debug)]
pub struct GatedDelta {
    /// `[key_heads * key_width]`
    pub q: View,
    /// `[key_heads * key_width]`
    pub k: View,
    /// `[heads * value_width]`
    pub v: View,
    /// `[heads]`, before the sigmoid.
    pub beta: View,
    /// `[heads]`, before bias and softplus.
    pub dt: View,
    /// `[heads]`, negative.
    pub a: WeightId,
    /// `[heads]`
    pub dt_bias: WeightId,
    /// Factor on the queries.
    pub scale: f32,
    /// Value heads.
    pub heads: usize,
    /// Query and key heads.
    pub key_heads: usize,
    /// `[heads, key_width, value_width]`
    pub state: StateId,
    /// `[heads * value_width]`
    pub out: ValueId,
}

impl Primitive for GatedDelta {
    const NAME: &'static str = "gated_delta";

    fn reads(&self) -> Vec<View> {
        vec![self.q, self.k, self.v, self.beta, self.dt]
    }

    fn writes(&self) -> Option<ValueId> {
        Some(self.out)
    }

    fn weights(&self) -> Vec<WeightId> {
        vec![self.a, self.dt_bias]
    }

    fn state(&self) -> Option<StateId> {
        Some(self.state)
    }

    fn check(&self, graph: &Graph) -> Result<(), String> {
        let [state_heads, key_width, value_width] = graph.check_recurrent(self.state)?;
        let (heads, key_heads) = (self.heads, self.key_heads);
        equal("heads of the state", state_heads, heads)?;
        divides("key heads", key_heads, heads)?;
        equal("width of q", self.q.width, key_heads * key_width)?;
        equal("width of k", self.k.width, key_heads * key_width)?;
        equal("width of v", self.v.width, heads * value_width)?;
        equal("width of beta", self.beta.width, heads)?;
        equal("width of dt", self.dt.width, heads)?;
        graph.check_length("a", self.a, heads)?;
        graph.check_length("dt_bias", self.dt_bias, heads)?;
        equal("width of the result", graph.width(self.out), self.v.width)
    }
}
