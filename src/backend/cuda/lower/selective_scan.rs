//! Mamba-1's recurrence.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::SelectiveScan;

impl Lowering<'_> {
    pub(super) fn selective_scan(&self, op: &SelectiveScan) -> Result<Launch> {
        let kernel = kernels::SelectiveScan {
            step: self.step,
            x: self.view(op.x),
            dt: self.view(op.dt),
            b: self.view(op.b),
            c: self.view(op.c),
            out: self.whole(op.out),
            a: self.weights.vector(op.a)?,
            d: self.weights.vector(op.d)?,
            state: self.memory.slots(op.state)?,
        };
        Ok(kernel.launch(self.device, self.all())?)
    }
}
