//! Short convolutions, alone or together with the renewal of their memory.

use super::{Lowering, number};
use crate::backend::Result;
use crate::backend::webgpu::fuse::ConvDecode;
use crate::backend::webgpu::params;
use crate::graph::Rows;
use crate::graph::ops::Conv;

impl Lowering<'_> {
    pub(super) fn conv(&mut self, op: &Conv) -> Result<()> {
        self.convolve(op, "conv", "conv")
    }

    /// A convolution that renews its state as `conv_append` would behind it.
    pub(super) fn conv_decode(&mut self, group: &ConvDecode<'_>) -> Result<()> {
        self.convolve(group.conv.op, "conv+conv_append", "conv_decode")
    }

    fn convolve(&mut self, op: &Conv, name: &'static str, shader: &str) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let (to, state, vectors) = (self.place(op.out)?, self.fixed(op.state)?, self.vectors.clone());
        let params = params::Conv {
            channels: op.x.width as u32,
            taps: self.d_conv(op.state)?,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            kernel_at: self.weights.vector(op.weight)?,
            bias_at: self.vector_at(op.bias)?,
            function: number(op.function),
        };
        let workgroups = self.elements(Rows::All, op.x.width);
        self.dispatch(name, shader, &[], &params, &[&x, &vectors, &state, &to.buffer], workgroups)
    }
}
