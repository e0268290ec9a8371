//! The gated delta rule: one row after the other for short spans, in chunks for long ones, and a decode step
//! with everything around it.

use super::{ELEMENTS, Lowering, Rows, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::fuse::DeltaDecode;
use crate::backend::webgpu::{params, scratch};
use crate::graph::Op;

/// Value columns of one workgroup of `gated_delta/step.wgsl`.
const STEP_COLUMNS: usize = 32;
/// Of `gated_delta/carry.wgsl`.
const CARRY_COLUMNS: usize = 16;

impl Lowering<'_> {
    pub(super) fn gated_delta(&mut self, op: &Op) -> Result<()> {
        let &Op::GatedDelta { q, k, v, beta, dt, a, dt_bias, scale, heads, key_heads, state, out } = op else {
            return Ok(());
        };
        let &[_, keys, values] = self.shape(state)? else { return Ok(()) };
        let [inverses_at, gates_at, _] = scratch::delta(self.graph, self.spec, state, heads).map(|at| at as u32);
        let (q, q_pitch, q_offset) = self.source(q)?;
        let (k, k_pitch, k_offset) = self.source(k)?;
        let (v, v_pitch, v_offset) = self.source(v)?;
        let (beta, beta_pitch, beta_offset) = self.source(beta)?;
        let (dt, dt_pitch, dt_offset) = self.source(dt)?;
        let (to, memory, vectors) = (self.place(out)?, self.fixed(state)?, self.vectors.clone());
        let scratch = self.scratch(0)?;
        let params = params::GatedDelta {
            heads: heads as u32,
            key_heads: key_heads as u32,
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
            a_at: self.weights.vector(a)?,
            dt_bias_at: self.weights.vector(dt_bias)?,
            chunks_at: self.chunks_at(),
            inverses_at,
            gates_at,
            scale,
        };
        let (rows, long) = (super::capacity(self.spec, Rows::All), self.long_chunks());
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
    pub(super) fn delta_decode(&mut self, ops: DeltaDecode) -> Result<()> {
        let op = |index: usize| &self.graph.ops[index];
        let (
            &Op::Norm { x: q, eps: key_eps, .. },
            &Op::Norm { x: k, .. },
            &Op::GatedDelta { v, beta, dt, a, dt_bias, scale, heads, key_heads, state, .. },
            &Op::Norm { weight: Some(weight), eps, .. },
            &Op::Gate { gate: z, function, out, .. },
        ) = (op(ops.q_norm), op(ops.k_norm), op(ops.rule), op(ops.norm), op(ops.gate))
        else {
            return Ok(());
        };
        let &[_, keys, values] = self.shape(state)? else { return Ok(()) };
        let (x, x_pitch, q_offset) = self.source(q)?;
        let (projected, projected_pitch, beta_offset) = self.source(beta)?;
        let (to, memory, vectors) = (self.place(out)?, self.fixed(state)?, self.vectors.clone());
        let shared = self.graph.weight(weight).len() == values;
        let params = params::DeltaDecode {
            heads: heads as u32,
            key_heads: key_heads as u32,
            keys: keys as u32,
            values: values as u32,
            x_pitch,
            q_offset,
            k_offset: k.offset as u32,
            v_offset: v.offset as u32,
            projected_pitch,
            beta_offset,
            dt_offset: dt.offset as u32,
            z_offset: z.offset as u32,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(a)?,
            dt_bias_at: self.weights.vector(dt_bias)?,
            norm_at: self.weights.vector(weight)?,
            norm_pitch: if shared { 0 } else { values as u32 },
            function: super::pointwise::number(function),
            scale,
            key_eps,
            eps,
        };
        let shader = format!("gated_delta.decode.{}", self.reduce());
        let buffers = [&x, &projected, &vectors, &memory, &to.buffer];
        let workgroups = wrapped(super::capacity(self.spec, Rows::All) * heads);
        self.dispatch("norms+gated_delta+norm+gate", &shader, &[], &params, &buffers, workgroups)
    }
}
