//! Mamba-2's recurrence: one row after the other for short spans, in chunks for long ones, and a decode step with its
//! gate.

use super::{ELEMENTS, Lowering, finite, number, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::fuse::SsdDecode;
use crate::backend::webgpu::params;
use crate::graph::Rows;
use crate::graph::ops::SsdScan;

/// Spans of up to a chunk that one start of `ssd_scan/step.wgsl` has invocations for; where there are more, each
/// serves several.
const SPANS_AT_ONCE: usize = 16;
/// Numbers of a head's state that a workgroup of `ssd_scan/carry.wgsl` hands on.
const CARRIED: usize = 256;

impl Lowering<'_> {
    pub(super) fn ssd_scan(&mut self, op: &SsdScan) -> Result<()> {
        let [heads, head_dim, d_state] = self.recurrent(op.state)?;
        let long = self.long_chunks();
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let (dt, dt_pitch, dt_offset) = self.source(op.dt)?;
        let (b, b_pitch, b_offset) = self.source(op.b)?;
        let (c, c_pitch, c_offset) = self.source(op.c)?;
        let (to, memory, vectors) = (self.place(op.out)?, self.fixed(op.state)?, self.vectors.clone());
        let chunk_states = heads * head_dim * d_state;
        let params = params::SsdScan {
            heads: heads as u32,
            groups: op.groups as u32,
            columns: head_dim as u32,
            states: d_state as u32,
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
        let run = |lowering: &mut Self, shader: &str, buffers: &[&wgpu::Buffer], workgroups: usize| {
            lowering.dispatch("ssd_scan", &format!("ssd_scan.{shader}"), &[], &params, buffers, wrapped(workgroups))
        };
        let spans = if long > 0 { rows.min(SPANS_AT_ONCE) } else { rows };
        let step = (spans * heads * head_dim).div_ceil(ELEMENTS);
        run(self, "step", &[&x, &dt, &b, &c, &vectors, &memory, &to.buffer], step)?;
        if long > 0 {
            let fours = [x_pitch, x_offset, b_pitch, b_offset, c_pitch, c_offset, head_dim as u32, d_state as u32];
            let read = if fours.iter().all(|n| n.is_multiple_of(4)) { "vector" } else { "scalar" };
            let handed = self.scratch(0)?;
            run(self, &format!("chunk_state.{read}"), &[&x, &dt, &b, &vectors, &handed], long * heads)?;
            let blocks = heads * (head_dim * d_state).div_ceil(CARRIED);
            run(self, "carry", &[&memory, &handed], blocks)?;
            let buffers = [&x, &dt, &b, &c, &vectors, &handed, &to.buffer];
            run(self, &format!("chunk_output.{read}"), &buffers, long * heads)?;
        }
        Ok(())
    }

    /// A Mamba-2 decode step with its gate.
    pub(super) fn ssd_decode(&mut self, group: &SsdDecode<'_>) -> Result<()> {
        let SsdDecode { scan, gate } = group;
        let [heads, head_dim, d_state] = self.recurrent(scan.state)?;
        let (source, x_pitch, x_offset) = self.source(scan.x)?;
        let (projected, projected_pitch, dt_offset) = self.source(scan.dt)?;
        let (to, memory, vectors) = (self.place(gate.out)?, self.fixed(scan.state)?, self.vectors.clone());
        let params = params::SsdDecode {
            heads: heads as u32,
            groups: scan.groups as u32,
            columns: head_dim as u32,
            states: d_state as u32,
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
        let buffers = [&source, &projected, &vectors, &memory, &to.buffer];
        let invocations = self.rows(Rows::All) * heads * head_dim;
        let workgroups = wrapped(invocations.div_ceil(ELEMENTS));
        self.dispatch("ssd_scan+gate", "ssd_scan.decode", &[], &params, &buffers, workgroups)
    }
}
