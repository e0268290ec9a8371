//! Short convolutions.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::{Lowering, pointwise};
use crate::backend::Result;
use crate::graph::ops::Conv;

impl Lowering<'_> {
    pub(super) fn conv(&self, op: &Conv) -> Result<Launch> {
        let kernel = kernels::Conv {
            step: self.step,
            x: self.view(op.x),
            out: self.whole(op.out),
            weight: self.weights.vector(op.weight)?,
            bias: self.weights.vector_or_null(op.bias)?,
            state: self.memory.slots(op.state)?,
            d_conv: self.d_conv(op.state)?,
            function: pointwise(op.function),
        };
        Ok(kernel.launch(self.device, self.all())?)
    }
}
