//! The Mamba-1 mixer.

use super::{Region, is_all_of, wired};
use crate::graph::ops::{Conv, ConvAppend, Function, Gate, Linear, Norm, SelectiveScan};
use crate::graph::{GraphBuilder, Node, OpId, Rows, StateId, Uses, ValueId, View, WeightId};

/// Mamba-1 between its outer projections, with norms of dt, B and C: `conv(x)`, the selection `x_proj` of it, its
/// norms, `dt_proj`, the scan, and `scan * silu(z)`. Gu and Dao 2023, arXiv 2312.00752.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as the ops of the block are, in their order")]
pub struct Mamba1Mixer {
    pub conv: OpId,
    pub append: OpId,
    pub x_proj: OpId,
    pub dt_norm: OpId,
    pub b_norm: OpId,
    pub c_norm: OpId,
    pub dt_proj: OpId,
    pub scan: OpId,
    pub gate: OpId,
}

/// The ops of a [`Mamba1Mixer`].
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "named as the ops of the block are, in their order")]
pub struct Mamba1Ops<'a> {
    pub conv: Node<'a, Conv>,
    pub append: Node<'a, ConvAppend>,
    pub x_proj: Node<'a, Linear>,
    pub dt_norm: Node<'a, Norm>,
    pub b_norm: Node<'a, Norm>,
    pub c_norm: Node<'a, Norm>,
    pub dt_proj: Node<'a, Linear>,
    pub scan: Node<'a, SelectiveScan>,
    pub gate: Node<'a, Gate>,
}

impl Mamba1Mixer {
    /// The ops, wired as the block is.
    ///
    /// # Errors
    /// The part that is missing, of another kind, or wired in another way.
    pub fn ops<'a>(&self, uses: &Uses<'a>) -> Result<Mamba1Ops<'a>, String> {
        let (conv, append) = uses.conv_parts(self.conv, self.append)?;
        let ops = Mamba1Ops {
            conv,
            append,
            x_proj: uses.part("x_proj", self.x_proj)?,
            dt_norm: uses.part("norm of dt", self.dt_norm)?,
            b_norm: uses.part("norm of B", self.b_norm)?,
            c_norm: uses.part("norm of C", self.c_norm)?,
            dt_proj: uses.part("dt_proj", self.dt_proj)?,
            scan: uses.part("scan", self.scan)?,
            gate: uses.part("gate", self.gate)?,
        };
        let Mamba1Ops { x_proj, dt_norm, b_norm, c_norm, dt_proj, scan, gate, .. } = ops;
        let all_of = |view, value| is_all_of(uses.graph(), view, value);
        wired("x_proj", x_proj.x == conv.out)?;
        wired("a norm", [dt_norm, b_norm, c_norm].iter().all(|norm| norm.x.value == x_proj.out))?;
        wired("dt_proj", dt_proj.x == dt_norm.out)?;
        let inputs = [(scan.x, conv.out), (scan.dt, dt_proj.out), (scan.b, b_norm.out), (scan.c, c_norm.out)];
        wired("the scan", inputs.into_iter().all(|(view, value)| all_of(view, value)))?;
        wired("the gate", all_of(gate.x, scan.out))?;
        uses.own_memory(scan.state, &[scan.index])?;
        uses.inner(conv.out, &[x_proj.index, scan.index])?;
        uses.inner(x_proj.out, &[dt_norm.index, b_norm.index, c_norm.index])?;
        uses.inner(dt_norm.out, &[dt_proj.index])?;
        for value in [b_norm.out, c_norm.out, dt_proj.out] {
            uses.inner(value, &[scan.index])?;
        }
        uses.inner(scan.out, &[gate.index])?;
        Ok(ops)
    }
}

/// Weights and memory of a Mamba-1 mixer.
#[derive(Clone, Debug)]
pub struct Mamba1Spec {
    /// `[d_inner, d_conv]`
    pub conv: WeightId,
    /// `[d_inner]`
    pub conv_bias: Option<WeightId>,
    /// Memory of the convolution.
    pub conv_state: StateId,
    /// `[rank + 2 * d_state, d_inner]`: dt, B, C.
    pub x_proj: WeightId,
    /// Norms of dt `[rank]`, B `[d_state]` and C `[d_state]`, each with its eps.
    pub norms: [(WeightId, f32); 3],
    /// `[d_inner, rank]`
    pub dt_proj: WeightId,
    /// `[d_inner]`
    pub dt_bias: WeightId,
    /// `[d_inner, d_state]`, negative.
    pub a: WeightId,
    /// `[d_inner]`
    pub d: WeightId,
    /// `[d_inner, d_state]`
    pub state: StateId,
}

impl GraphBuilder {
    /// A Mamba-1 mixer over `x` and its gate `z`, both `[d_inner]`; gives `[d_inner]`. `prefix` stands in front of the
    /// names of its values: `layers.3`.
    pub fn mamba1_mixer(&mut self, prefix: &str, x: View, z: View, spec: &Mamba1Spec) -> ValueId {
        let name = |what: &str| format!("{prefix}.{what}");
        let conv = self.next_op();
        let convolved = self.conv(name("conv_silu"), x, spec.conv, spec.conv_bias, spec.conv_state, Function::Silu);
        let append = OpId(conv.0 + 1);
        let x_proj = self.next_op();
        let selection = self.linear(name("x_proj"), convolved, spec.x_proj, None);
        let widths = spec.norms.map(|(weight, _)| self.graph.weight(weight).len());
        let [dt, b, c] = self.split(selection, widths);
        let [(dt_weight, dt_eps), (b_weight, b_eps), (c_weight, c_eps)] = spec.norms;
        let dt_norm = self.next_op();
        let dt = self.rms_norm(name("dt_norm"), dt, dt_weight, dt_eps);
        let b_norm = self.next_op();
        let b = self.rms_norm(name("B_norm"), b, b_weight, b_eps);
        let c_norm = self.next_op();
        let c = self.rms_norm(name("C_norm"), c, c_weight, c_eps);
        let dt_proj = self.next_op();
        let dt = self.linear(name("dt"), dt, spec.dt_proj, Some(spec.dt_bias));
        let scan = self.next_op();
        let out = self.value(name("ssm"), x.width, Rows::All);
        let [x, dt, b, c] = [convolved, dt, b, c].map(|value| self.whole(value));
        self.push(SelectiveScan { x, dt, b, c, a: spec.a, d: spec.d, state: spec.state, out });
        let gate = self.next_op();
        let gated = self.gate(name("ssm_gated"), z, self.whole(out), Function::Silu);
        let mixer = Mamba1Mixer { conv, append, x_proj, dt_norm, b_norm, c_norm, dt_proj, scan, gate };
        self.region(Region::Mamba1Mixer(mixer));
        gated
    }
}
