//! Linear layers.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::Linear;

impl Lowering<'_> {
    pub(super) fn linear(&self, op: &Linear) -> Result<Launch> {
        let (count, rows) = self.rows(op.out);
        let weight = self.weights.get(op.weight)?;
        let kernel = kernels::Linear {
            step: self.step,
            x: self.whole(op.x),
            out: self.whole(op.out),
            weight: weight.address(),
            bias: self.weights.vector_or_null(op.bias)?,
            weight_pitch: weight.pitch as u32,
            count,
        };
        Ok(kernel.launch(self.device, weight.format(), rows)?)
    }
}
