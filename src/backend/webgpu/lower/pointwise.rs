//! Ops whose rows do not look at one another.

use super::{Lowering, outputs, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::params;
use crate::graph::{Function, NormKind, Rows, ValueId, View, WeightId};

/// Functions as the kernels number them.
pub(super) fn number(function: Function) -> u32 {
    match function {
        Function::Identity => 0,
        Function::Silu => 1,
        Function::SquaredRelu => 2,
        Function::Sigmoid => 3,
    }
}

impl Lowering<'_> {
    pub(super) fn norm(
        &mut self,
        x: View,
        kind: NormKind,
        groups: usize,
        eps: f32,
        weight: Option<WeightId>,
        bias: Option<WeightId>,
        out: ValueId,
    ) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(x)?;
        let to = self.place(out)?;
        let length = weight.or(bias).map_or(1, |w| self.graph.weight(w).len());
        let params = params::Norm {
            kind: match kind {
                NormKind::Rms => 0,
                NormKind::Layer => 1,
                NormKind::L2 => 2,
            },
            groups: groups as u32,
            width: (x.width / groups) as u32,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            weight_at: self.vector_at(weight)?,
            weight_len: length as u32,
            bias_at: self.vector_at(bias)?,
            outputs: outputs(to.rows),
            eps,
        };
        let shader = format!("norm.{}", self.reduce());
        let vectors = self.vectors.clone();
        let workgroups = wrapped(self.rows(to.rows) * groups);
        self.dispatch("norm", &shader, &[], &params, &[&source, &vectors, &to.buffer], workgroups)
    }

    /// How reductions over a workgroup are made.
    pub(super) fn reduce(&self) -> &'static str {
        if self.gpu.info.subgroups { "subgroup" } else { "tree" }
    }

    pub(super) fn gate(&mut self, gate: View, x: View, function: Function, out: ValueId) -> Result<()> {
        let (gate_buffer, gate_pitch, gate_offset) = self.source(gate)?;
        let (source, x_pitch, x_offset) = self.source(x)?;
        let to = self.place(out)?;
        let params = params::Gate {
            width: x.width as u32,
            gate_pitch,
            gate_offset,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            function: number(function),
            outputs: outputs(to.rows),
        };
        let workgroups = self.elements(to.rows, x.width);
        self.dispatch("gate", "gate", &[], &params, &[&gate_buffer, &source, &to.buffer], workgroups)
    }

    pub(super) fn activation(&mut self, x: View, function: Function, scale: f32, out: ValueId) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(x)?;
        let to = self.place(out)?;
        let params = params::Activation {
            width: x.width as u32,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            function: number(function),
            outputs: outputs(to.rows),
            scale,
        };
        let workgroups = self.elements(to.rows, x.width);
        self.dispatch("activation", "activation", &[], &params, &[&source, &to.buffer], workgroups)
    }

    pub(super) fn add(&mut self, a: View, b: View, scale: f32, out: ValueId) -> Result<()> {
        let (left, a_pitch, a_offset) = self.source(a)?;
        let (right, b_pitch, b_offset) = self.source(b)?;
        let to = self.place(out)?;
        let params = params::Add {
            width: a.width as u32,
            a_pitch,
            a_offset,
            b_pitch,
            b_offset,
            out_pitch: to.pitch as u32,
            outputs: outputs(to.rows),
            scale,
        };
        let workgroups = self.elements(to.rows, a.width);
        self.dispatch("add", "add", &[], &params, &[&left, &right, &to.buffer], workgroups)
    }

    pub(super) fn gather(&mut self, x: View, out: ValueId) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(x)?;
        let to = self.place(out)?;
        let params = params::Gather { width: x.width as u32, x_pitch, x_offset, out_pitch: to.pitch as u32 };
        let workgroups = self.elements(Rows::Outputs, x.width);
        self.dispatch("gather", "gather", &[], &params, &[&source, &to.buffer], workgroups)
    }
}
