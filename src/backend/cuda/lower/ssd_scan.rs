//! Mamba-2's recurrence.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::SsdScan;

impl Lowering<'_> {
    pub(super) fn ssd_scan(&self, op: &SsdScan) -> Result<Launch> {
        let (least, most) = op.limit;
        let kernel = kernels::SsdScan {
            step: self.step,
            x: self.view(op.x),
            dt: self.view(op.dt),
            b: self.view(op.b),
            c: self.view(op.c),
            out: self.whole(op.out),
            a: self.weights.vector(op.a)?,
            d: self.weights.vector(op.d)?,
            dt_bias: self.weights.vector(op.dt_bias)?,
            state: self.memory.slots(op.state)?,
            heads: op.heads as u32,
            groups: op.groups as u32,
            least,
            most,
        };
        Ok(kernel.launch(self.device, self.all())?)
    }
}
