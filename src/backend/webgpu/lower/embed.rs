//! Lookup of tokens.

use super::{ELEMENTS, Lowering, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::params;
use crate::graph::Rows;
use crate::graph::ops::Embed;

impl Lowering<'_> {
    pub(super) fn embed(&mut self, op: &Embed) -> Result<()> {
        let weights = self.weights;
        let matrix = weights.matrix(op.table)?;
        let to = self.place(op.out)?;
        let samplers = self.memory.samplers.clone();
        let shader = format!("embed.{}", matrix.format.name());
        let workgroups = wrapped((self.rows(Rows::All) * matrix.chunks).div_ceil(ELEMENTS));
        for segment in &matrix.segments {
            let params = params::Embed {
                chunks: matrix.chunks as u32,
                columns: matrix.columns as u32,
                pitch: to.pitch as u32,
                first: segment.first as u32,
                rows: segment.rows as u32,
                scale: op.scale,
            };
            self.dispatch("embed", &shader, &[], &params, &[&segment.buffer, &samplers, &to.buffer], workgroups)?;
        }
        Ok(())
    }
}
