//! The rows that logits are wanted of.

use super::Lowering;
use crate::backend::Result;
use crate::backend::webgpu::kernels::{gather, params};
use crate::graph::Rows;
use crate::graph::ops::Gather;

impl Lowering<'_> {
    pub(super) fn gather(&mut self, op: &Gather) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let params = params::Gather { width: op.x.width as u32, x_pitch, x_offset, out_pitch: to.pitch as u32 };
        let buffers = gather::Buffers { x: &x, out: &to.buffer };
        self.dispatch("gather", &gather::shader(), &params, buffers, self.elements(Rows::Outputs, op.x.width))
    }
}
