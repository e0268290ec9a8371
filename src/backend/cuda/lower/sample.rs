//! The choice of tokens.

use selvedge_cuda::Launch;

use super::Lowering;
use crate::backend::{BackendKind, Result, no_speculation};
use crate::graph::ops::Sample;

impl Lowering<'_> {
    pub(super) fn sample(&self, op: &Sample) -> Result<Launch> {
        if op.draft {
            return Err(no_speculation(BackendKind::Cuda));
        }
        Ok(self.choice(self.whole(op.logits)).launch(self.device, self.spec.outputs as u32)?)
    }
}
