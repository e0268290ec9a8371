//! Scaled sums.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::Add;

impl Lowering<'_> {
    pub(super) fn add(&self, op: &Add) -> Result<Launch> {
        let (count, rows) = self.rows(op.out);
        let (a, b, out) = (self.view(op.a), self.view(op.b), self.whole(op.out));
        let kernel = kernels::Add { step: self.step, a, b, out, count, scale: op.scale };
        Ok(kernel.launch(self.device, rows)?)
    }
}
