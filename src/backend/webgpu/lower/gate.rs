//! Products with a gate.

use super::{Lowering, in_words, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{gate, params};
use crate::graph::ops::Gate;

impl Lowering<'_> {
    pub(super) fn gate(&mut self, op: &Gate) -> Result<()> {
        let (first, gate_pitch, gate_offset) = self.source(op.gate)?;
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let counts = [op.x.width as u32, gate_pitch, gate_offset, x_pitch, x_offset, to.pitch as u32];
        let (read, [width, gate_pitch, gate_offset, x_pitch, x_offset, out_pitch]) = in_words(counts);
        let params = params::Gate {
            width,
            gate_pitch,
            gate_offset,
            x_pitch,
            x_offset,
            out_pitch,
            function: number(op.function),
            outputs: outputs(to.rows),
        };
        let buffers = gate::Buffers { gate: &first, x: &x, out: &to.buffer };
        self.dispatch("gate", &gate::shader(read), &params, buffers, self.elements(to.rows, width as usize))
    }
}
