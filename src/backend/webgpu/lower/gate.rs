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
        let (width, out_pitch, span) = (op.x.width as u32, to.pitch as u32, op.span() as u32);
        // A gate of several columns is one number, however these are read.
        let (gates, read, [width, x_pitch, x_offset, out_pitch, gate_pitch, gate_offset], span) = if span == 1 {
            let (read, counts) = in_words([width, x_pitch, x_offset, out_pitch, gate_pitch, gate_offset]);
            ("each", read, counts, 1)
        } else {
            let (read, [width, x_pitch, x_offset, out_pitch, span]) =
                in_words([width, x_pitch, x_offset, out_pitch, span]);
            ("spread", read, [width, x_pitch, x_offset, out_pitch, gate_pitch, gate_offset], span)
        };
        let params = params::Gate {
            width,
            span,
            gate_pitch,
            gate_offset,
            x_pitch,
            x_offset,
            out_pitch,
            function: number(op.function),
            outputs: outputs(to.rows),
        };
        let buffers = gate::Buffers { gate: &first, x: &x, out: &to.buffer };
        self.dispatch("gate", &gate::shader(gates, read), &params, buffers, self.elements(to.rows, width as usize))
    }
}
