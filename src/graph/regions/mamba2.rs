//! The Mamba-2 mixer.

use super::{Region, is_all_of, wired};
use crate::graph::ops::{Conv, ConvAppend, Function, Gate, SsdScan};
use crate::graph::{GraphBuilder, Node, OpId, Rows, StateId, Uses, ValueId, View, WeightId};

/// Mamba-2 between its projections: `conv` of x, B and C together, the scan, and `scan * silu(z)`. A norm may follow.
/// Dao and Gu 2024, arXiv 2405.21060.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the ops of the block are, in their order")]
pub struct Mamba2Mixer {
    pub conv: OpId,
    pub append: OpId,
    pub scan: OpId,
    pub gate: OpId,
}

/// The ops of a [`Mamba2Mixer`].
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "named as the ops of the block are, in their order")]
pub struct Mamba2Ops<'a> {
    pub conv: Node<'a, Conv>,
    pub append: Node<'a, ConvAppend>,
    pub scan: Node<'a, SsdScan>,
    pub gate: Node<'a, Gate>,
}

impl Mamba2Mixer {
    /// The ops, wired as the block is.
    ///
    /// # Errors
    /// The part that is missing, of another kind, or wired in another way.
    pub fn ops<'a>(&self, uses: &Uses<'a>) -> Result<Mamba2Ops<'a>, String> {
        let (conv, append) = uses.conv_parts(self.conv, self.append)?;
        let (scan, gate): (Node<'_, SsdScan>, Node<'_, Gate>) =
            (uses.part("scan", self.scan)?, uses.part("gate", self.gate)?);
        wired("the scan", [scan.x, scan.b, scan.c].iter().all(|view| view.value == conv.out))?;
        wired("the gate", is_all_of(uses.graph(), gate.x, scan.out))?;
        uses.own_memory(scan.state, &[scan.index])?;
        uses.inner(conv.out, &[scan.index; 3])?;
        uses.inner(scan.out, &[gate.index])?;
        Ok(Mamba2Ops { conv, append, scan, gate })
    }
}

/// Weights, memory and sizes of a Mamba-2 mixer. Its convolution has `heads * head_dim + 2 * groups * d_state`
/// channels.
#[derive(Clone, Debug)]
pub struct Mamba2Spec {
    /// `[channels, d_conv]`
    pub conv: WeightId,
    /// `[channels]`
    pub conv_bias: Option<WeightId>,
    /// Memory of the convolution.
    pub conv_state: StateId,
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
    /// Groups of heads that share B and C.
    pub groups: usize,
    /// `[heads, head_dim, d_state]`
    pub state: StateId,
}

impl GraphBuilder {
    /// A Mamba-2 mixer over x, B and C side by side, its steps `dt` `[heads]` and its gate `z`
    /// `[heads * head_dim]`; gives as much as `z`. `prefix` stands in front of the names of its values: `layers.3`.
    pub fn mamba2_mixer(&mut self, prefix: &str, z: View, xbc: View, dt: View, spec: &Mamba2Spec) -> ValueId {
        let name = |what: &str| format!("{prefix}.{what}");
        let conv = self.next_op();
        let convolved = self.conv(name("conv_silu"), xbc, spec.conv, spec.conv_bias, spec.conv_state, Function::Silu);
        let append = OpId(conv.0 + 1);
        let selection = xbc.width.saturating_sub(z.width) / 2;
        let [x, b, c] = self.split(convolved, [z.width, selection, selection]);
        let scan = self.next_op();
        let out = self.value(name("ssm"), z.width, Rows::All);
        let &Mamba2Spec { a, d, dt_bias, limit, heads, groups, state, .. } = spec;
        self.push(SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, out });
        let gate = self.next_op();
        let gated = self.gate(name("ssm_gated"), z, self.whole(out), Function::Silu);
        self.region(Region::Mamba2Mixer(Mamba2Mixer { conv, append, scan, gate }));
        gated
    }
}
