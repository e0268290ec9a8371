//! The gated delta rule: one row after the other for short spans, in chunks for long ones, and a decode step
//! with everything around it.

use super::{Lowering, number};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{gated_delta as shaders, params};
use crate::backend::webgpu::program::Grid;
use crate::backend::webgpu::scratch;
use crate::graph::Rows;
use crate::graph::ops::GatedDelta;
use crate::graph::regions::GatedDeltaOps;

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
        let (to, state, vectors) = (self.place(op.out)?, self.fixed(op.state)?, self.vectors.clone());
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
        let (q, k, v, beta, dt) = (&q, &k, &v, &beta, &dt);
        let (state, scratch, vectors, out) = (&state, &scratch, &vectors, &to.buffer);
        let name = "gated_delta";
        let buffers = shaders::gates::Buffers { beta, dt, vectors, scratch };
        self.dispatch(name, &shaders::gates::shader(), &params, buffers, Grid::Invocations(rows * heads))?;
        let buffers = shaders::step::Buffers { q, k, v, scratch, state, out };
        let blocks = heads * values.div_ceil(shaders::step::COLUMNS);
        self.dispatch(name, &shaders::step::shader(), &params, buffers, Grid::Workgroups(rows * blocks))?;
        if long > 0 {
            let chunks = Grid::Workgroups(long * heads);
            let buffers = shaders::inverse::Buffers { k, scratch };
            self.dispatch(name, &shaders::inverse::shader(), &params, buffers, chunks)?;
            let buffers = shaders::carry::Buffers { k, v, scratch, state, out };
            let blocks = heads * values.div_ceil(shaders::carry::COLUMNS);
            self.dispatch(name, &shaders::carry::shader(), &params, buffers, Grid::Workgroups(blocks))?;
            let buffers = shaders::output::Buffers { q, k, scratch, out };
            self.dispatch(name, &shaders::output::shader(), &params, buffers, chunks)?;
        }
        Ok(())
    }

    /// The rule with its norms and gates.
    pub(super) fn delta_decode(&mut self, mixer: &GatedDeltaOps<'_>) -> Result<()> {
        let GatedDeltaOps { q_norm, k_norm, rule, norm, gate, .. } = mixer;
        let [_, keys, values] = self.recurrent(rule.state)?;
        let (x, x_pitch, q_offset) = self.source(q_norm.x)?;
        let (projected, projected_pitch, beta_offset) = self.source(rule.beta)?;
        let (to, state, vectors) = (self.place(gate.out)?, self.fixed(rule.state)?, self.vectors.clone());
        let params = params::GatedDeltaDecode {
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
        let shader = shaders::decode::shader(self.reduce());
        let buffers = shaders::decode::Buffers {
            x: &x,
            projected: &projected,
            vectors: &vectors,
            state: &state,
            out: &to.buffer,
        };
        let grid = Grid::Workgroups(self.rows(Rows::All) * rule.heads);
        self.dispatch("norms+gated_delta+norm+gate", &shader, &params, buffers, grid)
    }
}
