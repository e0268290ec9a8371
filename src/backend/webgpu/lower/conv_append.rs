//! Memory of short convolutions.

use super::Lowering;
use crate::backend::Result;
use crate::backend::webgpu::kernels::{conv_append, params};
use crate::graph::Rows;
use crate::graph::ops::ConvAppend;

impl Lowering<'_> {
    pub(super) fn conv_append(&mut self, op: &ConvAppend) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let state = self.fixed(op.state)?;
        let before = self.d_conv(op.state)? - 1;
        let params = params::ConvAppend { channels: op.x.width as u32, before, x_pitch, x_offset };
        let buffers = conv_append::Buffers { x: &x, state: &state };
        let grid = self.elements(Rows::All, op.x.width);
        self.dispatch("conv_append", &conv_append::shader(), &params, buffers, grid)
    }
}
