//! Pointwise activations.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::{Lowering, pointwise};
use crate::backend::Result;
use crate::graph::ops::Activation;

impl Lowering<'_> {
    pub(super) fn activation(&self, op: &Activation) -> Result<Launch> {
        let (count, rows) = self.rows(op.out);
        let (x, out, function) = (self.view(op.x), self.whole(op.out), pointwise(op.function));
        let kernel = kernels::Activation { step: self.step, x, out, count, function, scale: op.scale };
        Ok(kernel.launch(self.device, rows)?)
    }
}
