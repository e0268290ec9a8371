//! Pointwise activations.

use super::{Lowering, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{activation, params};
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
        let buffers = activation::Buffers { x: &x, out: &to.buffer };
        let grid = self.elements(to.rows, op.x.width);
        self.dispatch("activation", &activation::shader(), &params, buffers, grid)
    }
}
