//! The rows that logits are wanted of.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::Gather;

impl Lowering<'_> {
    pub(super) fn gather(&self, op: &Gather) -> Result<Launch> {
        let kernel = kernels::Gather { step: self.step, x: self.view(op.x), out: self.whole(op.out) };
        Ok(kernel.launch(self.device, self.spec.outputs as u32)?)
    }
}
