//! Products with a gate.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::{Lowering, pointwise};
use crate::backend::Result;
use crate::graph::ops::Gate;

impl Lowering<'_> {
    pub(super) fn gate(&self, op: &Gate) -> Result<Launch> {
        let (count, rows) = self.rows(op.out);
        let (gate, x, out) = (self.view(op.gate), self.view(op.x), self.whole(op.out));
        let kernel = kernels::Gate { step: self.step, gate, x, out, count, function: pointwise(op.function) };
        Ok(kernel.launch(self.device, rows)?)
    }
}
