//! The gated delta rule.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::GatedDelta;

impl Lowering<'_> {
    pub(super) fn gated_delta(&self, op: &GatedDelta) -> Result<Launch> {
        let kernel = kernels::GatedDelta {
            step: self.step,
            q: self.view(op.q),
            k: self.view(op.k),
            v: self.view(op.v),
            beta: self.view(op.beta),
            dt: self.view(op.dt),
            out: self.whole(op.out),
            a: self.weights.vector(op.a)?,
            dt_bias: self.weights.vector(op.dt_bias)?,
            state: self.memory.slots(op.state)?,
            heads: op.heads as u32,
            key_heads: op.key_heads as u32,
            scale: op.scale,
        };
        Ok(kernel.launch(self.device, self.all())?)
    }
}
