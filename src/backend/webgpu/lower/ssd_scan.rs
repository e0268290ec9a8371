//! Mamba-2's recurrence: one row after the other for short spans, in chunks for long ones, and a decode step with its
//! gate.

use super::{Lowering, SPANS_AT_ONCE, finite, number, read};
use crate::backend::webgpu::forms::Form;
use crate::backend::webgpu::kernels::{params, ssd_columns as columns, ssd_scan as shaders};
use crate::backend::webgpu::limits::MATVEC_ROWS;
use crate::backend::webgpu::program::Grid;
use crate::backend::{CHUNK_ROWS, Result};
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
        if rows <= MATVEC_ROWS {
            let (read, numbers) = read(&[x_pitch, x_offset, head_dim as u32, to.pitch as u32]);
            let buffers = shaders::few::Buffers { x, dt, b, c, vectors, state, out };
            let grid = Grid::Invocations(rows * heads * head_dim / numbers as usize);
            return self.dispatch(name, &shaders::few::shader(read, at_least(rows)), &params, buffers, grid);
        }
        let spans = if long > 0 { rows.min(SPANS_AT_ONCE) } else { rows };
        let buffers = shaders::step::Buffers { x, dt, b, c, vectors, state, out };
        let grid = Grid::Invocations(spans * heads * head_dim);
        self.dispatch(name, &shaders::step::shader(), &params, buffers, grid)?;
        if long == 0 {
            return Ok(());
        }
        let (columns_of_head, states) = (head_dim as u32, d_state as u32);
        let fours =
            [x_pitch, x_offset, b_pitch, b_offset, c_pitch, c_offset, columns_of_head, states, params.out_pitch];
        let (how, numbers) = read(&fours);
        let (chunk_state, steps) = (&self.scratch(0)?, &self.scratch(1)?);
        let carry = shaders::carry::Buffers { state, chunk_state };
        let blocks = heads * (head_dim * d_state).div_ceil(shaders::carry::CARRIED);
        let carried = Grid::Workgroups(blocks);

        let of_group = heads / op.groups * head_dim;
        let fits = d_state.is_multiple_of(columns::chunk_state::STATES)
            && of_group.is_multiple_of(columns::chunk_state::COLUMNS);
        if numbers > 1 && fits && self.gpu.forms.get().has(Form::Columns) {
            let buffers = columns::steps::Buffers { dt, vectors, steps, chunk_state };
            self.dispatch(name, &columns::steps::shader(), &params, buffers, Grid::Workgroups(long * heads))?;
            let eights = long * (CHUNK_ROWS as usize / columns::products::ROWS);
            let buffers = columns::products::Buffers { b, c, steps };
            self.dispatch(name, &columns::products::shader(), &params, buffers, Grid::Tiles(op.groups, eights))?;
            let across = heads * head_dim / columns::chunk_state::COLUMNS;
            let down = long * d_state / columns::chunk_state::STATES;
            let buffers = columns::chunk_state::Buffers { x, b, steps, chunk_state };
            self.dispatch(name, &columns::chunk_state::shader(), &params, buffers, Grid::Tiles(across, down))?;
            self.dispatch(name, &shaders::carry::shader(), &params, carry, carried)?;
            let buffers = columns::chunk_output::Buffers { x, c, steps, chunk_state, vectors, out };
            return self.dispatch(
                name,
                &columns::chunk_output::shader(),
                &params,
                buffers,
                Grid::Tiles(across, eights),
            );
        }
        let chunks = Grid::Workgroups(long * heads);
        let buffers = shaders::chunk_state::Buffers { x, dt, b, vectors, chunk_state };
        self.dispatch(name, &shaders::chunk_state::shader(how), &params, buffers, chunks)?;
        self.dispatch(name, &shaders::carry::shader(), &params, carry, carried)?;
        let buffers = shaders::chunk_output::Buffers { x, dt, b, c, vectors, chunk_state, out };
        self.dispatch(name, &shaders::chunk_output::shader(how), &params, buffers, chunks)
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
        let (x, dt, out) = (&source, &projected, &to.buffer);
        let buffers = shaders::decode::Buffers { x, b_and_c: x, dt, z: dt, vectors: &vectors, state: &state, out };
        let counts = [x_pitch, x_offset, head_dim as u32, projected_pitch, params.z_offset, params.out_pitch];
        let (how, numbers) = read(&counts);
        let grid = self.elements(Rows::All, heads * head_dim / numbers as usize);
        let shader = shaders::decode::shader(how, at_least(self.rows(Rows::All)));
        self.dispatch("ssd_scan+gate", &shader, &params, buffers, grid)
    }
}

/// Rows of a span that the kernels of few rows are made for: one, or the most.
fn at_least(rows: usize) -> usize {
    if rows > 1 { MATVEC_ROWS } else { 1 }
}
