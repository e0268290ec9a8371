//! Short convolutions, alone or together with the renewal of their memory.

use super::{Lowering, number};
use crate::backend::Result;
use crate::backend::webgpu::fuse::ConvDecode;
use crate::backend::webgpu::kernels::{conv, conv_decode, params};
use crate::graph::Rows;
use crate::graph::ops::Conv;

impl Lowering<'_> {
    pub(super) fn conv(&mut self, op: &Conv) -> Result<()> {
        let (x, state, out) = (self.source(op.x)?.0, self.fixed(op.state)?, self.place(op.out)?.buffer);
        let vectors = self.vectors.clone();
        let buffers = conv::Buffers { x: &x, vectors: &vectors, state: &state, out: &out };
        let (params, grid) = (self.conv_params(op)?, self.elements(Rows::All, op.x.width));
        self.dispatch("conv", &conv::shader(), &params, buffers, grid)
    }

    /// A convolution that renews its state as `conv_append` would behind it.
    pub(super) fn conv_decode(&mut self, group: &ConvDecode<'_>) -> Result<()> {
        let op = group.conv.op;
        let (x, state, out) = (self.source(op.x)?.0, self.fixed(op.state)?, self.place(op.out)?.buffer);
        let vectors = self.vectors.clone();
        let buffers = conv_decode::Buffers { x: &x, vectors: &vectors, state: &state, out: &out };
        let (params, grid) = (self.conv_params(op)?, self.elements(Rows::All, op.x.width));
        self.dispatch("conv+conv_append", &conv_decode::shader(), &params, buffers, grid)
    }

    fn conv_params(&self, op: &Conv) -> Result<params::Conv> {
        let (_, x_pitch, x_offset) = self.source(op.x)?;
        Ok(params::Conv {
            channels: op.x.width as u32,
            d_conv: self.d_conv(op.state)?,
            x_pitch,
            x_offset,
            out_pitch: self.place(op.out)?.pitch as u32,
            kernel_at: self.weights.vector(op.weight)?,
            bias_at: self.vector_at(op.bias)?,
            function: number(op.function),
        })
    }
}
