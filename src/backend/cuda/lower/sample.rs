//! The choice of tokens.

use selvedge_cuda::Launch;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::Sample;

impl Lowering<'_> {
    pub(super) fn sample(&self, op: &Sample) -> Result<Launch> {
        Ok(self.choice(self.whole(op.logits)).launch(self.device, self.spec.outputs as u32)?)
    }
}
