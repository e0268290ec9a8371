//! Products with a gate.

use super::{Lowering, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::params;
use crate::graph::ops::Gate;

impl Lowering<'_> {
    pub(super) fn gate(&mut self, op: &Gate) -> Result<()> {
        let (gate, gate_pitch, gate_offset) = self.source(op.gate)?;
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
        let workgroups = self.elements(to.rows, op.x.width);
        self.dispatch("gate", "gate", &[], &params, &[&gate, &x, &to.buffer], workgroups)
    }
}
