//! Lookup of tokens.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::Embed;

impl Lowering<'_> {
    pub(super) fn embed(&self, op: &Embed) -> Result<Launch> {
        let weight = self.weights.get(op.table)?;
        let kernel = kernels::Embed {
            step: self.step,
            table: weight.address(),
            samplers: self.memory.samplers(),
            out: self.whole(op.out),
            ids: weight.desc.rows as u32,
            table_pitch: weight.pitch as u32,
            scale: op.scale,
        };
        Ok(kernel.launch(self.device, weight.format(), self.all())?)
    }
}
