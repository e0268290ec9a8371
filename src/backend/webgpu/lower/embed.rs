//! Lookup of tokens.

use super::Lowering;
use crate::backend::Result;
use crate::backend::webgpu::kernels::{embed, params};
use crate::graph::Rows;
use crate::graph::ops::Embed;

impl Lowering<'_> {
    pub(super) fn embed(&mut self, op: &Embed) -> Result<()> {
        let weights = self.weights;
        let matrix = weights.matrix(op.table)?;
        let to = self.place(op.out)?;
        let samplers = self.memory.samplers.clone();
        let shader = embed::shader(matrix.format.name());
        let grid = self.elements(Rows::All, matrix.chunks);
        for segment in &matrix.segments {
            let params = params::Embed {
                chunks: matrix.chunks as u32,
                columns: matrix.columns as u32,
                pitch: to.pitch as u32,
                first: segment.first as u32,
                rows: segment.rows as u32,
                scale: op.scale,
            };
            let buffers = embed::Buffers { weight: &segment.buffer, samplers: &samplers, out: &to.buffer };
            self.dispatch("embed", &shader, &params, buffers, grid)?;
        }
        Ok(())
    }
}
