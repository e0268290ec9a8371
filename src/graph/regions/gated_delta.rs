//! The mixer of gated delta networks.

use super::{Region, is_all_of, wired};
use crate::graph::ops::{Conv, ConvAppend, Function, Gate, GatedDelta, Norm, NormKind};
use crate::graph::{GraphBuilder, Node, OpId, Rows, StateId, Uses, ValueId, View, WeightId};

/// A gated delta network between its projections: `conv` of q, k and v together, L2 norms of the heads of q and k, the
/// rule, a norm of each head, and `norm * silu(z)`. Yang, Kautz and Hatamizadeh 2024, arXiv 2412.06464.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the ops of the block are, in their order")]
pub struct GatedDeltaMixer {
    pub conv: OpId,
    pub append: OpId,
    pub q_norm: OpId,
    pub k_norm: OpId,
    pub rule: OpId,
    pub norm: OpId,
    pub gate: OpId,
}

/// The ops of a [`GatedDeltaMixer`].
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "named as the ops of the block are, in their order")]
pub struct GatedDeltaOps<'a> {
    pub conv: Node<'a, Conv>,
    pub append: Node<'a, ConvAppend>,
    pub q_norm: Node<'a, Norm>,
    pub k_norm: Node<'a, Norm>,
    pub rule: Node<'a, GatedDelta>,
    pub norm: Node<'a, Norm>,
    pub gate: Node<'a, Gate>,
}

impl GatedDeltaMixer {
    /// The ops, wired as the block is.
    ///
    /// # Errors
    /// The part that is missing, of another kind, or wired in another way.
    pub fn ops<'a>(&self, uses: &Uses<'a>) -> Result<GatedDeltaOps<'a>, String> {
        let (conv, append) = uses.conv_parts(self.conv, self.append)?;
        let ops = GatedDeltaOps {
            conv,
            append,
            q_norm: uses.part("norm of queries", self.q_norm)?,
            k_norm: uses.part("norm of keys", self.k_norm)?,
            rule: uses.part("delta rule", self.rule)?,
            norm: uses.part("norm of heads", self.norm)?,
            gate: uses.part("gate", self.gate)?,
        };
        let GatedDeltaOps { q_norm, k_norm, rule, norm, gate, .. } = ops;
        let all_of = |view, value| is_all_of(uses.graph(), view, value);
        for (what, norm) in [("the norm of queries", q_norm), ("the norm of keys", k_norm)] {
            let bare = norm.kind == NormKind::L2 && norm.weight.is_none() && norm.bias.is_none();
            wired(what, bare && norm.groups == rule.key_heads && norm.x.value == conv.out)?;
        }
        let keys = all_of(rule.q, q_norm.out) && all_of(rule.k, k_norm.out);
        wired("the delta rule", keys && rule.v.value == conv.out)?;
        wired("the norm of heads", all_of(norm.x, rule.out) && norm.groups == rule.heads)?;
        wired("the gate", all_of(gate.x, norm.out) && gate.span() == 1)?;
        uses.own_memory(rule.state, &[rule.index])?;
        uses.inner(conv.out, &[q_norm.index, k_norm.index, rule.index])?;
        uses.inner(q_norm.out, &[rule.index])?;
        uses.inner(k_norm.out, &[rule.index])?;
        uses.inner(rule.out, &[norm.index])?;
        uses.inner(norm.out, &[gate.index])?;
        Ok(ops)
    }
}

/// Weights, memory and sizes of a gated delta network. Its convolution has `2 * key_heads * key_width +
/// heads * value_width` channels.
#[derive(Clone, Debug)]
pub struct GatedDeltaSpec {
    /// `[channels, d_conv]`
    pub conv: WeightId,
    /// Memory of the convolution.
    pub conv_state: StateId,
    /// Added below the root in the norms of queries and keys.
    pub key_eps: f32,
    /// `[heads]`, negative.
    pub a: WeightId,
    /// `[heads]`
    pub dt_bias: WeightId,
    /// Factor on the queries.
    pub scale: f32,
    /// Heads of v, of the state and of the result.
    pub heads: usize,
    /// Heads of q and k.
    pub key_heads: usize,
    /// `[heads, key_width, value_width]`
    pub state: StateId,
    /// `[value_width]`, shared by all heads.
    pub norm: WeightId,
    /// Added below the root in the norm of heads.
    pub eps: f32,
}

impl GraphBuilder {
    /// A gated delta network over q, k and v side by side, its gate `z` `[heads * value_width]`, and beta and dt
    /// `[heads]`; gives as much as `z`. `prefix` stands in front of the names of its values: `layers.3`.
    pub fn gated_delta_mixer(&mut self, prefix: &str, [qkv, z, beta, dt]: [View; 4], spec: &GatedDeltaSpec) -> ValueId {
        let name = |what: &str| format!("{prefix}.{what}");
        let &GatedDeltaSpec { a, dt_bias, scale, heads, key_heads, state, .. } = spec;
        let conv = self.next_op();
        let convolved = self.conv(name("conv_silu"), qkv, spec.conv, None, spec.conv_state, Function::Silu);
        let append = OpId(conv.0 + 1);
        let keys = qkv.width.saturating_sub(z.width) / 2;
        let [q, k, v] = self.split(convolved, [keys, keys, z.width]);
        let (kind, eps) = (NormKind::L2, spec.key_eps);
        let q_norm = self.next_op();
        let q = self.norm(name("q"), q, kind, key_heads, eps, None, None);
        let k_norm = self.next_op();
        let k = self.norm(name("k"), k, kind, key_heads, eps, None, None);
        let (q, k) = (self.whole(q), self.whole(k));
        let rule = self.next_op();
        let out = self.value(name("delta"), z.width, Rows::All);
        self.push(GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads, state, out });
        let norm = self.next_op();
        let y = self.whole(out);
        let y = self.norm(name("delta_norm"), y, NormKind::Rms, heads, spec.eps, Some(spec.norm), None);
        let gate = self.next_op();
        let gated = self.gate(name("delta_gated"), z, self.whole(y), Function::Silu);
        let mixer = GatedDeltaMixer { conv, append, q_norm, k_norm, rule, norm, gate };
        self.region(Region::GatedDeltaMixer(mixer));
        gated
    }
}
