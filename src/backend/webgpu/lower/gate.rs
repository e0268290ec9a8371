//! Products with a gate.

use super::{Lowering, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{gate, params};
use crate::graph::ops::Gate;

impl Lowering<'_> {
    pub(super) fn gate(&mut self, op: &Gate) -> Result<()> {
        let (first, gate_pitch, gate_offset) = self.source(op.gate)?;
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let params = params::Gate {
            width: op.x.width as u32,
            gate_pitch,
            gate_offset,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            function: number(op.function),
            outputs: outputs(to.rows),
        };
        let buffers = gate::Buffers { gate: &first, x: &x, out: &to.buffer };
        self.dispatch("gate", &gate::shader(), &params, buffers, self.elements(to.rows, op.x.width))
    }
}
