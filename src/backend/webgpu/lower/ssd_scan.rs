//! Mamba-2's recurrence: one row after the other for short spans, in chunks for long ones, and a decode step with its
//! gate.

use super::{Lowering, SPANS_AT_ONCE, finite, number, read};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{params, ssd_scan as shaders};
use crate::backend::webgpu::program::Grid;
use crate::graph::Rows;
use crate::graph::ops::SsdScan;
use crate::graph::regions::Mamba2Ops;

impl Lowering<'_> {
    pub(super) fn ssd_scan(&mut self, op: &SsdScan) -> Result<()> {
        let [heads, head_dim, d_state] = self.recurrent(op.state)?;
        let long = self.long_chunks();
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let (dt, dt_pitch, dt_offset) = self.source(op.dt)?;
        let (b, b_pitch, b_offset) = self.source(op.b)?;
        let (c, c_pitch, c_offset) = self.source(op.c)?;
        let (to, state, vectors) = (self.place(op.out)?, self.fixed(op.state)?, self.vectors.clone());
        let chunk_states = heads * head_dim * d_state;
        let params = params::SsdScan {
            heads: heads as u32,
            groups: op.groups as u32,
            head_dim: head_dim as u32,
            d_state: d_state as u32,
            x_pitch,
            x_offset,
            dt_pitch,
            dt_offset,
            b_pitch,
            b_offset,
            c_pitch,
            c_offset,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(op.a)?,
            d_at: self.weights.vector(op.d)?,
            dt_bias_at: self.weights.vector(op.dt_bias)?,
            chunks_at: self.chunks_at(),
            chunk_states: chunk_states as u32,
            decays_at: (long * chunk_states) as u32,
            dt_low: op.limit.0,
            dt_high: finite(op.limit.1),
        };
        let rows = self.rows(Rows::All);
        let (x, dt, b, c, vectors, state, out) = (&x, &dt, &b, &c, &vectors, &state, &to.buffer);
        let name = "ssd_scan";
        let spans = if long > 0 { rows.min(SPANS_AT_ONCE) } else { rows };
        let buffers = shaders::step::Buffers { x, dt, b, c, vectors, state, out };
        let grid = Grid::Invocations(spans * heads * head_dim);
        self.dispatch(name, &shaders::step::shader(), &params, buffers, grid)?;
        if long > 0 {
            let fours = [x_pitch, x_offset, b_pitch, b_offset, c_pitch, c_offset, head_dim as u32, d_state as u32];
            let (read, _) = read(&fours);
            let (chunk_state, chunks) = (&self.scratch(0)?, Grid::Workgroups(long * heads));
            let buffers = shaders::chunk_state::Buffers { x, dt, b, vectors, chunk_state };
            self.dispatch(name, &shaders::chunk_state::shader(read), &params, buffers, chunks)?;
            let buffers = shaders::carry::Buffers { state, chunk_state };
            let blocks = heads * (head_dim * d_state).div_ceil(shaders::carry::CARRIED);
            self.dispatch(name, &shaders::carry::shader(), &params, buffers, Grid::Workgroups(blocks))?;
            let buffers = shaders::chunk_output::Buffers { x, dt, b, c, vectors, chunk_state, out };
            self.dispatch(name, &shaders::chunk_output::shader(read), &params, buffers, chunks)?;
        }
        Ok(())
    }

    /// A Mamba-2 decode step with its gate.
    pub(super) fn ssd_decode(&mut self, mixer: &Mamba2Ops<'_>) -> Result<()> {
        let Mamba2Ops { scan, gate, .. } = mixer;
        let [heads, head_dim, d_state] = self.recurrent(scan.state)?;
        let (source, x_pitch, x_offset) = self.source(scan.x)?;
        let (projected, projected_pitch, dt_offset) = self.source(scan.dt)?;
        let (to, state, vectors) = (self.place(gate.out)?, self.fixed(scan.state)?, self.vectors.clone());
        let params = params::SsdScanDecode {
            heads: heads as u32,
            groups: scan.groups as u32,
            head_dim: head_dim as u32,
            d_state: d_state as u32,
            x_pitch,
            x_offset,
            b_offset: scan.b.offset as u32,
            c_offset: scan.c.offset as u32,
            projected_pitch,
            dt_offset,
            z_offset: gate.gate.offset as u32,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(scan.a)?,
            d_at: self.weights.vector(scan.d)?,
            dt_bias_at: self.weights.vector(scan.dt_bias)?,
            function: number(gate.function),
            dt_low: scan.limit.0,
            dt_high: finite(scan.limit.1),
        };
        let buffers = shaders::decode::Buffers {
            x: &source,
            projected: &projected,
            vectors: &vectors,
            state: &state,
            out: &to.buffer,
        };
        let grid = self.elements(Rows::All, heads * head_dim);
        self.dispatch("ssd_scan+gate", &shaders::decode::shader(), &params, buffers, grid)
    }
}
