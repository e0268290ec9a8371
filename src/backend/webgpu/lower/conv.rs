//! Short convolutions, alone or together with the renewal of their memory.

use super::{Lowering, in_words, number};
use crate::backend::Result;
use crate::backend::webgpu::fuse::ConvDecode;
use crate::backend::webgpu::kernels::{conv, conv_decode, params};
use crate::backend::webgpu::program::Grid;
use crate::graph::Rows;
use crate::graph::ops::Conv;

impl Lowering<'_> {
    pub(super) fn conv(&mut self, op: &Conv) -> Result<()> {
        let (x, state, out) = (self.source(op.x)?.0, self.fixed(op.state)?, self.place(op.out)?.buffer);
        let (x, vectors, state, out) = (&x, &self.vectors.clone(), &state, &out);
        let (read, params) = self.conv_params(op)?;
        let columns = params.channels as usize;
        if params.d_conv as usize > conv::MOST_TAPS {
            let buffers = conv::long::Buffers { x, vectors, state, out };
            let grid = self.elements(Rows::All, columns);
            return self.dispatch("conv", &conv::long::shader(read), &params, buffers, grid);
        }
        let buffers = conv::Buffers { x, vectors, state, out };
        let grid = Grid::Invocations(self.rows(Rows::All).div_ceil(conv::ROWS) * columns);
        self.dispatch("conv", &conv::shader(read), &params, buffers, grid)
    }

    /// A convolution that renews its state as `conv_append` would behind it.
    pub(super) fn conv_decode(&mut self, group: &ConvDecode<'_>) -> Result<()> {
        let op = group.conv.op;
        let (x, state, out) = (self.source(op.x)?.0, self.fixed(op.state)?, self.place(op.out)?.buffer);
        let vectors = self.vectors.clone();
        let buffers = conv_decode::Buffers { x: &x, vectors: &vectors, state: &state, out: &out };
        let (read, params) = self.conv_params(op)?;
        let grid = self.elements(Rows::All, params.channels as usize);
        self.dispatch("conv+conv_append", &conv_decode::shader(read), &params, buffers, grid)
    }

    /// How a convolution reads, and its parameters.
    fn conv_params(&self, op: &Conv) -> Result<(&'static str, params::Conv)> {
        let (_, x_pitch, x_offset) = self.source(op.x)?;
        let out_pitch = self.place(op.out)?.pitch as u32;
        let (read, [channels, x_pitch, x_offset, out_pitch]) =
            in_words([op.x.width as u32, x_pitch, x_offset, out_pitch]);
        let params = params::Conv {
            channels,
            d_conv: self.d_conv(op.state)?,
            x_pitch,
            x_offset,
            out_pitch,
            kernel_at: self.weights.vector(op.weight)?,
            bias_at: self.vector_at(op.bias)?,
            function: number(op.function),
            chunks_at: self.chunks_at(),
        };
        Ok((read, params))
    }
}
