//! Rotary embeddings.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::{Growth, Rope};

impl Lowering<'_> {
    pub(super) fn rope(&self, op: &Rope) -> Result<Launch> {
        let (beta, original) = Growth::numbers(op.growth);
        let kernel = kernels::Rope {
            step: self.step,
            x: self.view(op.x),
            out: self.whole(op.out),
            table: self.rotaries[op.rotary.0 as usize].address(),
            head_dim: op.head_dim() as u32,
            pairs: self.graph.rotary(op.rotary).inverse_frequencies.len() as u32,
            beta,
            original,
        };
        Ok(kernel.launch(self.device, self.all())?)
    }
}
