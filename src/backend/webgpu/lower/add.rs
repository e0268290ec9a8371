//! Scaled sums.

use super::{Lowering, in_words, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{add, params};
use crate::graph::ops::Add;

impl Lowering<'_> {
    pub(super) fn add(&mut self, op: &Add) -> Result<()> {
        let (a, a_pitch, a_offset) = self.source(op.a)?;
        let (b, b_pitch, b_offset) = self.source(op.b)?;
        let to = self.place(op.out)?;
        let counts = [op.a.width as u32, a_pitch, a_offset, b_pitch, b_offset, to.pitch as u32];
        let (read, [width, a_pitch, a_offset, b_pitch, b_offset, out_pitch]) = in_words(counts);
        let params = params::Add {
            width,
            a_pitch,
            a_offset,
            b_pitch,
            b_offset,
            out_pitch,
            outputs: outputs(to.rows),
            scale: op.scale,
        };
        let buffers = add::Buffers { a: &a, b: &b, out: &to.buffer };
        self.dispatch("add", &add::shader(read), &params, buffers, self.elements(to.rows, width as usize))
    }
}
