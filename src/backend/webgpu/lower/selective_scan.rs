//! Mamba-1's recurrence: one row after the other for short spans, in chunks for long ones, and a decode step with
//! everything between the projections of its block.

use super::{Lowering, number};
use crate::backend::webgpu::kernels::selective_scan::step::MOST_STATES;
use crate::backend::webgpu::kernels::{params, selective_scan as shaders};
use crate::backend::webgpu::program::Grid;
use crate::backend::{BackendError, Result};
use crate::graph::Rows;
use crate::graph::ops::SelectiveScan;
use crate::graph::regions::Mamba1Ops;

impl Lowering<'_> {
    pub(super) fn selective_scan(&mut self, op: &SelectiveScan) -> Result<()> {
        let [channels, d_state] = self.recurrent(op.state)?;
        if d_state > MOST_STATES {
            let what = format!("{d_state} states a channel (at most {MOST_STATES})");
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        let long = self.long_chunks();
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let (dt, dt_pitch, dt_offset) = self.source(op.dt)?;
        let (b, b_pitch, b_offset) = self.source(op.b)?;
        let (c, c_pitch, c_offset) = self.source(op.c)?;
        let (to, state, vectors) = (self.place(op.out)?, self.fixed(op.state)?, self.vectors.clone());
        let params = params::SelectiveScan {
            channels: channels as u32,
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
            chunks_at: self.chunks_at(),
            chunk_states: (d_state * channels) as u32,
            decays_at: (long * d_state * channels) as u32,
        };
        let (x, dt, b, c, vectors, state, out) = (&x, &dt, &b, &c, &vectors, &state, &to.buffer);
        let name = "selective_scan";
        let buffers = shaders::step::Buffers { x, dt, b, c, vectors, state, out };
        let grid = self.elements(Rows::All, channels);
        self.dispatch(name, &shaders::step::shader(d_state), &params, buffers, grid)?;
        if long > 0 {
            let chunk_state = &self.scratch(0)?;
            let (chunks, states) = (Grid::Invocations(long * channels), Grid::Invocations(d_state * channels));
            let buffers = shaders::chunk_state::Buffers { x, dt, b, vectors, chunk_state };
            self.dispatch(name, &shaders::chunk_state::shader(d_state), &params, buffers, chunks)?;
            let buffers = shaders::carry::Buffers { vectors, state, chunk_state };
            self.dispatch(name, &shaders::carry::shader(d_state), &params, buffers, states)?;
            let buffers = shaders::chunk_output::Buffers { x, dt, b, c, vectors, chunk_state, out };
            self.dispatch(name, &shaders::chunk_output::shader(d_state), &params, buffers, chunks)?;
        }
        Ok(())
    }

    /// A whole Mamba-1 decode step behind x_proj.
    pub(super) fn scan_decode(&mut self, mixer: &Mamba1Ops<'_>) -> Result<()> {
        let Mamba1Ops { conv, dt_norm, b_norm, c_norm, dt_proj, scan, gate, .. } = mixer;
        let weights = self.weights;
        let matrix = weights.matrix(dt_proj.weight)?;
        let [segment] = matrix.segments.as_slice() else {
            let what = "a dt projection of several segments".to_owned();
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        };
        let (source, x_pitch, x_offset) = self.source(conv.x)?;
        let (selection, selection_pitch, dt_offset) = self.source(dt_norm.x)?;
        let to = self.place(gate.out)?;
        let params = params::SelectiveScanDecode {
            channels: conv.x.width as u32,
            rank: dt_norm.x.width as u32,
            chunks: matrix.chunks as u32,
            x_pitch,
            x_offset,
            z_offset: gate.gate.offset as u32,
            selection_pitch,
            dt_offset,
            b_offset: b_norm.x.offset as u32,
            c_offset: c_norm.x.offset as u32,
            out_pitch: to.pitch as u32,
            dt_norm_at: self.vector_at(dt_norm.weight)?,
            b_norm_at: self.vector_at(b_norm.weight)?,
            c_norm_at: self.vector_at(c_norm.weight)?,
            dt_bias_at: self.vector_at(dt_proj.bias)?,
            a_at: weights.vector(scan.a)?,
            d_at: weights.vector(scan.d)?,
            d_conv: self.d_conv(conv.state)?,
            kernel_at: weights.vector(conv.weight)?,
            kernel_bias_at: self.vector_at(conv.bias)?,
            function: number(conv.function),
            gate_function: number(gate.function),
            dt_eps: dt_norm.eps,
            b_eps: b_norm.eps,
            c_eps: c_norm.eps,
        };
        let shader = shaders::decode::shader(matrix.format.name(), self.reduce(), b_norm.x.width);
        let (columns, state, vectors) = (self.fixed(conv.state)?, self.fixed(scan.state)?, self.vectors.clone());
        let buffers = shaders::decode::Buffers {
            weight: &segment.buffer,
            vectors: &vectors,
            out: &to.buffer,
            selection: &selection,
            x: &source,
            columns: &columns,
            state: &state,
        };
        let blocks = conv.x.width.div_ceil(shaders::decode::LANES);
        let grid = Grid::Workgroups(self.rows(Rows::All) * blocks);
        self.dispatch("conv+norms+linear+selective_scan+gate", &shader, &params, buffers, grid)
    }
}
