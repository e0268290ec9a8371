//! Pointwise activations.

use super::{Lowering, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::params;
use crate::graph::ops::Activation;

impl Lowering<'_> {
    pub(super) fn activation(&mut self, op: &Activation) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let params = params::Activation {
            width: op.x.width as u32,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            function: number(op.function),
            outputs: outputs(to.rows),
            scale: op.scale,
        };
        let workgroups = self.elements(to.rows, op.x.width);
        self.dispatch("activation", "activation", &[], &params, &[&x, &to.buffer], workgroups)
    }
}
