//! Memory of short convolutions.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::ConvAppend;

impl Lowering<'_> {
    pub(super) fn conv_append(&self, op: &ConvAppend) -> Result<Launch> {
        let (kept, state) = (self.d_conv(op.state)? - 1, self.memory.slots(op.state)?);
        let kernel = kernels::ConvAppend { step: self.step, x: self.view(op.x), state, kept };
        Ok(kernel.launch(self.device, self.all())?)
    }
}
