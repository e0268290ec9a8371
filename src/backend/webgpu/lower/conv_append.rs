//! Memory of short convolutions.

use super::{Lowering, SPANS_AT_ONCE, in_words};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{conv_append, params};
use crate::backend::webgpu::program::Grid;
use crate::graph::Rows;
use crate::graph::ops::ConvAppend;

impl Lowering<'_> {
    pub(super) fn conv_append(&mut self, op: &ConvAppend) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let state = self.fixed(op.state)?;
        let before = self.d_conv(op.state)? - 1;
        let (read, [channels, x_pitch, x_offset]) = in_words([op.x.width as u32, x_pitch, x_offset]);
        let params = params::ConvAppend { channels, before, x_pitch, x_offset };
        let buffers = conv_append::Buffers { x: &x, state: &state };
        let grid = Grid::Invocations(self.rows(Rows::All).min(SPANS_AT_ONCE) * channels as usize);
        self.dispatch("conv_append", &conv_append::shader(read), &params, buffers, grid)
    }
}
