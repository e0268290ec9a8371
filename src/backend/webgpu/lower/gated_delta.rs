//! The gated delta rule: one row after the other for short spans, in chunks for long ones, and a decode step
//! with everything around it.

use super::{ELEMENTS, Lowering, number, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::fuse::DeltaDecode;
use crate::backend::webgpu::{params, scratch};
use crate::graph::Rows;
use crate::graph::ops::GatedDelta;

/// Value columns of one workgroup of `gated_delta/step.wgsl`.
const STEP_COLUMNS: usize = 32;
/// Of `gated_delta/carry.wgsl`.
const CARRY_COLUMNS: usize = 16;

impl Lowering<'_> {
    pub(super) fn gated_delta(&mut self, op: &GatedDelta) -> Result<()> {
        let heads = op.heads;
        let [_, keys, values] = self.recurrent(op.state)?;
        let places = scratch::delta(self.graph, self.spec, op);
        let (q, q_pitch, q_offset) = self.source(op.q)?;
        let (k, k_pitch, k_offset) = self.source(op.k)?;
        let (v, v_pitch, v_offset) = self.source(op.v)?;
        let (beta, beta_pitch, beta_offset) = self.source(op.beta)?;
        let (dt, dt_pitch, dt_offset) = self.source(op.dt)?;
        let (to, memory, vectors) = (self.place(op.out)?, self.fixed(op.state)?, self.vectors.clone());
        let scratch = self.scratch(0)?;
        let params = params::GatedDelta {
            heads: heads as u32,
            key_heads: op.key_heads as u32,
            keys: keys as u32,
            values: values as u32,
            q_pitch,
            q_offset,
            k_pitch,
            k_offset,
            v_pitch,
            v_offset,
            beta_pitch,
            beta_offset,
            dt_pitch,
            dt_offset,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(op.a)?,
            dt_bias_at: self.weights.vector(op.dt_bias)?,
            chunks_at: self.chunks_at(),
            inverses_at: places.inverses as u32,
            gates_at: places.gates as u32,
            scale: op.scale,
        };
        let (rows, long) = (self.rows(Rows::All), self.long_chunks());
        let run = |lowering: &mut Self, shader: &str, buffers: &[&wgpu::Buffer], workgroups: usize| {
            let shader = format!("gated_delta.{shader}");
            lowering.dispatch("gated_delta", &shader, &[], &params, buffers, wrapped(workgroups))
        };
        run(self, "gates", &[&beta, &dt, &vectors, &scratch], (rows * heads).div_ceil(ELEMENTS))?;
        let blocks = heads * values.div_ceil(STEP_COLUMNS);
        run(self, "step", &[&q, &k, &v, &scratch, &memory, &to.buffer], rows * blocks)?;
        if long > 0 {
            run(self, "inverse", &[&k, &scratch], long * heads)?;
            let blocks = heads * values.div_ceil(CARRY_COLUMNS);
            run(self, "carry", &[&k, &v, &scratch, &memory, &to.buffer], blocks)?;
            run(self, "output", &[&q, &k, &scratch, &to.buffer], long * heads)?;
        }
        Ok(())
    }

    /// The rule with its norms and gates.
    pub(super) fn delta_decode(&mut self, group: &DeltaDecode<'_>) -> Result<()> {
        let DeltaDecode { q_norm, k_norm, rule, norm, gate } = group;
        let [_, keys, values] = self.recurrent(rule.state)?;
        let (x, x_pitch, q_offset) = self.source(q_norm.x)?;
        let (projected, projected_pitch, beta_offset) = self.source(rule.beta)?;
        let (to, memory, vectors) = (self.place(gate.out)?, self.fixed(rule.state)?, self.vectors.clone());
        let params = params::DeltaDecode {
            heads: rule.heads as u32,
            key_heads: rule.key_heads as u32,
            keys: keys as u32,
            values: values as u32,
            x_pitch,
            q_offset,
            k_offset: k_norm.x.offset as u32,
            v_offset: rule.v.offset as u32,
            projected_pitch,
            beta_offset,
            dt_offset: rule.dt.offset as u32,
            z_offset: gate.gate.offset as u32,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(rule.a)?,
            dt_bias_at: self.weights.vector(rule.dt_bias)?,
            norm_at: self.vector_at(norm.weight)?,
            norm_pitch: norm.weight_pitch(self.graph) as u32,
            function: number(gate.function),
            scale: rule.scale,
            key_eps: q_norm.eps,
            eps: norm.eps,
        };
        let shader = format!("gated_delta.decode.{}", self.reduce());
        let buffers = [&x, &projected, &vectors, &memory, &to.buffer];
        let workgroups = wrapped(self.rows(Rows::All) * rule.heads);
        self.dispatch("norms+gated_delta+norm+gate", &shader, &[], &params, &buffers, workgroups)
    }
}
