//! The recurrences: one row after the other for short spans, in chunks for long ones.

use super::{ELEMENTS, Lowering, Rows, wrapped};
use crate::backend::webgpu::fuse::ScanDecode;
use crate::backend::webgpu::{params, scratch};
use crate::backend::{BackendError, Result, StepTable};
use crate::graph::{Op, StateId, StateKind};

/// States of a channel that `selective_scan` keeps in registers.
const MOST_STATES: usize = 16;

/// Spans of up to a chunk that one start of `ssd_scan/step.wgsl` has invocations for; where there are more, each
/// serves several.
const SPANS_AT_ONCE: usize = 16;
/// Numbers of a head's state that a workgroup of `ssd_scan/carry.wgsl` hands on.
const CARRIED: usize = 256;

impl Lowering<'_> {
    /// Chunks of spans that have several, at most.
    pub(super) fn long_chunks(&self) -> usize {
        scratch::long_chunks(self.spec)
    }

    pub(super) fn chunks_at(&self) -> u32 {
        (StepTable::chunks_at(self.spec.rows, self.spec.outputs) / 4) as u32
    }

    pub(super) fn shape(&self, state: StateId) -> Result<&[usize]> {
        match &self.graph.state(state).kind {
            StateKind::Recurrent { shape, .. } => Ok(shape),
            _ => Err(BackendError::Misuse(format!("`{}` is not recurrent", self.graph.state(state).name))),
        }
    }

    pub(super) fn selective_scan(&mut self, op: &Op) -> Result<()> {
        let &Op::SelectiveScan { x, dt, b, c, a, d, state, out } = op else { return Ok(()) };
        let states = self.shape(state)?[1];
        if states > MOST_STATES {
            let what = format!("{states} states a channel (at most {MOST_STATES})");
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        let channels = x.width;
        let long = self.long_chunks();
        let (x, x_pitch, x_offset) = self.source(x)?;
        let (dt, dt_pitch, dt_offset) = self.source(dt)?;
        let (b, b_pitch, b_offset) = self.source(b)?;
        let (c, c_pitch, c_offset) = self.source(c)?;
        let (to, memory, vectors) = (self.place(out)?, self.fixed(state)?, self.vectors.clone());
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
            a_at: self.weights.vector(a)?,
            d_at: self.weights.vector(d)?,
            chunks_at: self.chunks_at(),
            chunk_states: (states * channels) as u32,
            decays_at: (long * states * channels) as u32,
        };
        let constants = [("STATES", states as f64)];
        let rows = super::capacity(self.spec, Rows::All);
        let run = |lowering: &mut Self, shader: &str, buffers: &[&wgpu::Buffer], invocations: usize| {
            let (shader, workgroups) = (format!("selective_scan.{shader}"), wrapped(invocations.div_ceil(ELEMENTS)));
            lowering.dispatch("selective_scan", &shader, &constants, &params, buffers, workgroups)
        };
        run(self, "step", &[&x, &dt, &b, &c, &vectors, &memory, &to.buffer], rows * channels)?;
        if long > 0 {
            let handed = self.scratch(0)?;
            run(self, "chunk_state", &[&x, &dt, &b, &vectors, &handed], long * channels)?;
            run(self, "carry", &[&vectors, &memory, &handed], states * channels)?;
            run(self, "chunk_output", &[&x, &dt, &b, &c, &vectors, &handed, &to.buffer], long * channels)?;
        }
        Ok(())
    }

    /// A whole Mamba-1 decode step behind x_proj.
    pub(super) fn scan_decode(&mut self, ops: ScanDecode) -> Result<()> {
        let op = |index: usize| &self.graph.ops[index];
        let (
            &Op::Conv { x, weight: kernel, bias: kernel_bias, state: columns, function, .. },
            &Op::Norm { x: dt, weight: dt_norm, eps: dt_eps, .. },
            &Op::Norm { x: b, weight: b_norm, eps: b_eps, .. },
            &Op::Norm { x: c, weight: c_norm, eps: c_eps, .. },
            &Op::Linear { weight, bias, .. },
            &Op::SelectiveScan { a, d, state, .. },
            &Op::Gate { gate: z, function: gate_function, out, .. },
        ) = (op(ops.conv), op(ops.dt_norm), op(ops.b_norm), op(ops.c_norm), op(ops.linear), op(ops.scan), op(ops.gate))
        else {
            return Ok(());
        };
        let weights = self.weights;
        let matrix = weights.matrix(weight)?;
        let [segment] = matrix.segments.as_slice() else {
            let what = "a dt projection of several segments".to_owned();
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        };
        let (source, x_pitch, x_offset) = self.source(x)?;
        let (selection, selection_pitch, dt_offset) = self.source(dt)?;
        let to = self.place(out)?;
        let params = params::ScanDecode {
            channels: x.width as u32,
            rank: dt.width as u32,
            chunks: matrix.chunks as u32,
            x_pitch,
            x_offset,
            z_offset: z.offset as u32,
            selection_pitch,
            dt_offset,
            b_offset: b.offset as u32,
            c_offset: c.offset as u32,
            out_pitch: to.pitch as u32,
            dt_norm_at: self.vector_at(dt_norm)?,
            b_norm_at: self.vector_at(b_norm)?,
            c_norm_at: self.vector_at(c_norm)?,
            dt_bias_at: self.vector_at(bias)?,
            a_at: weights.vector(a)?,
            d_at: weights.vector(d)?,
            taps: self.taps(columns)?,
            kernel_at: weights.vector(kernel)?,
            kernel_bias_at: self.vector_at(kernel_bias)?,
            function: super::pointwise::number(function),
            gate_function: super::pointwise::number(gate_function),
            dt_eps,
            b_eps,
            c_eps,
        };
        let constants = [("STATES", b.width as f64)];
        let shader = format!("selective_scan.decode.{}.{}", matrix.format.name(), self.reduce());
        let (columns, memory, vectors) = (self.fixed(columns)?, self.fixed(state)?, self.vectors.clone());
        let buffers = [&segment.buffer, &vectors, &to.buffer, &selection, &source, &columns, &memory];
        let workgroups = wrapped(super::capacity(self.spec, Rows::All) * x.width.div_ceil(ELEMENTS));
        self.dispatch("conv+norms+linear+selective_scan+gate", &shader, &constants, &params, &buffers, workgroups)
    }

    /// A Mamba-2 decode step with its gate.
    pub(super) fn ssd_decode(&mut self, scan: usize, gate: usize) -> Result<()> {
        let graph = self.graph;
        let &Op::SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, .. } = &graph.ops[scan] else {
            return Ok(());
        };
        let &Op::Gate { gate: z, function, out, .. } = &graph.ops[gate] else { return Ok(()) };
        let &[_, columns, states] = self.shape(state)? else { return Ok(()) };
        let (source, x_pitch, x_offset) = self.source(x)?;
        let (projected, projected_pitch, dt_offset) = self.source(dt)?;
        let (to, memory, vectors) = (self.place(out)?, self.fixed(state)?, self.vectors.clone());
        let params = params::SsdDecode {
            heads: heads as u32,
            groups: groups as u32,
            columns: columns as u32,
            states: states as u32,
            x_pitch,
            x_offset,
            b_offset: b.offset as u32,
            c_offset: c.offset as u32,
            projected_pitch,
            dt_offset,
            z_offset: z.offset as u32,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(a)?,
            d_at: self.weights.vector(d)?,
            dt_bias_at: self.weights.vector(dt_bias)?,
            function: super::pointwise::number(function),
            dt_low: limit.0,
            // WGSL has no infinity to compare with.
            dt_high: limit.1.min(f32::MAX),
        };
        let buffers = [&source, &projected, &vectors, &memory, &to.buffer];
        let invocations = super::capacity(self.spec, Rows::All) * heads * columns;
        let workgroups = wrapped(invocations.div_ceil(ELEMENTS));
        self.dispatch("ssd_scan+gate", "ssd_scan.decode", &[], &params, &buffers, workgroups)
    }

    pub(super) fn ssd_scan(&mut self, op: &Op) -> Result<()> {
        let &Op::SsdScan { x, dt, b, c, a, d, dt_bias, limit, heads, groups, state, out } = op else { return Ok(()) };
        let &[_, columns, states] = self.shape(state)? else { return Ok(()) };
        let long = self.long_chunks();
        let (x, x_pitch, x_offset) = self.source(x)?;
        let (dt, dt_pitch, dt_offset) = self.source(dt)?;
        let (b, b_pitch, b_offset) = self.source(b)?;
        let (c, c_pitch, c_offset) = self.source(c)?;
        let (to, memory, vectors) = (self.place(out)?, self.fixed(state)?, self.vectors.clone());
        let chunk_states = heads * columns * states;
        let params = params::SsdScan {
            heads: heads as u32,
            groups: groups as u32,
            columns: columns as u32,
            states: states as u32,
            x_pitch,
            x_offset,
            dt_pitch,
            dt_offset,
            b_pitch,
            b_offset,
            c_pitch,
            c_offset,
            out_pitch: to.pitch as u32,
            a_at: self.weights.vector(a)?,
            d_at: self.weights.vector(d)?,
            dt_bias_at: self.weights.vector(dt_bias)?,
            chunks_at: self.chunks_at(),
            chunk_states: chunk_states as u32,
            decays_at: (long * chunk_states) as u32,
            dt_low: limit.0,
            // WGSL has no infinity to compare with.
            dt_high: limit.1.min(f32::MAX),
        };
        let rows = super::capacity(self.spec, Rows::All);
        let run = |lowering: &mut Self, shader: &str, buffers: &[&wgpu::Buffer], workgroups: usize| {
            lowering.dispatch("ssd_scan", &format!("ssd_scan.{shader}"), &[], &params, buffers, wrapped(workgroups))
        };
        let spans = if long > 0 { rows.min(SPANS_AT_ONCE) } else { rows };
        let step = (spans * heads * columns).div_ceil(ELEMENTS);
        run(self, "step", &[&x, &dt, &b, &c, &vectors, &memory, &to.buffer], step)?;
        if long > 0 {
            let fours = [x_pitch, x_offset, b_pitch, b_offset, c_pitch, c_offset, columns as u32, states as u32];
            let read = if fours.iter().all(|n| n.is_multiple_of(4)) { "vector" } else { "scalar" };
            let handed = self.scratch(0)?;
            run(self, &format!("chunk_state.{read}"), &[&x, &dt, &b, &vectors, &handed], long * heads)?;
            let blocks = heads * (columns * states).div_ceil(CARRIED);
            run(self, "carry", &[&memory, &handed], blocks)?;
            let buffers = [&x, &dt, &b, &c, &vectors, &handed, &to.buffer];
            run(self, &format!("chunk_output.{read}"), &buffers, long * heads)?;
        }
        Ok(())
    }
}
