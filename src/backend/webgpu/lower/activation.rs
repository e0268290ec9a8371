//! Pointwise activations.

use super::{Lowering, in_words, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{activation, params};
use crate::graph::ops::Activation;

impl Lowering<'_> {
    pub(super) fn activation(&mut self, op: &Activation) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let (read, [width, x_pitch, x_offset, out_pitch]) =
            in_words([op.x.width as u32, x_pitch, x_offset, to.pitch as u32]);
        let params = params::Activation {
            width,
            x_pitch,
            x_offset,
            out_pitch,
            function: number(op.function),
            outputs: outputs(to.rows),
            scale: op.scale,
        };
        let buffers = activation::Buffers { x: &x, out: &to.buffer };
        let grid = self.elements(to.rows, width as usize);
        self.dispatch("activation", &activation::shader(read), &params, buffers, grid)
    }
}
