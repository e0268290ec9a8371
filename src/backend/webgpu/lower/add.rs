//! Scaled sums.

use super::{Lowering, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{add, params};
use crate::graph::ops::Add;

impl Lowering<'_> {
    pub(super) fn add(&mut self, op: &Add) -> Result<()> {
        let (a, a_pitch, a_offset) = self.source(op.a)?;
        let (b, b_pitch, b_offset) = self.source(op.b)?;
        let to = self.place(op.out)?;
        let params = params::Add {
            width: op.a.width as u32,
            a_pitch,
            a_offset,
            b_pitch,
            b_offset,
            out_pitch: to.pitch as u32,
            outputs: outputs(to.rows),
            scale: op.scale,
        };
        let buffers = add::Buffers { a: &a, b: &b, out: &to.buffer };
        self.dispatch("add", &add::shader(), &params, buffers, self.elements(to.rows, op.a.width))
    }
}
