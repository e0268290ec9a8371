//! The choice of experts.

use super::{Lowering, outputs, wrapped};
use crate::backend::webgpu::params;
use crate::backend::{BackendError, Result};
use crate::graph::ops::{MoeRoute, Routing};

/// Most experts that `moe_route` and `moe_apply/group` keep in workgroup memory.
const MOST_EXPERTS: usize = 1024;

/// Refuses more experts than the kernels have room for.
pub(super) fn check_experts(experts: usize) -> Result<()> {
    if experts > MOST_EXPERTS {
        let what = format!("{experts} experts (at most {MOST_EXPERTS})");
        return Err(BackendError::Unsupported { backend: "webgpu", what });
    }
    Ok(())
}

impl Lowering<'_> {
    pub(super) fn moe_route(&mut self, op: &MoeRoute) -> Result<()> {
        check_experts(op.logits.width)?;
        let (logits, logits_pitch, logits_offset) = self.source(op.logits)?;
        let to = self.place(op.out)?;
        let (sigmoid, normed, scale) = match op.routing {
            Routing::Softmax => (0, 0, 1.0),
            Routing::Sigmoid { normed, scale } => (1, u32::from(normed), scale),
        };
        let params = params::MoeRoute {
            experts: op.logits.width as u32,
            groups: op.choice.n_group as u32,
            top_groups: op.choice.topk_group as u32,
            top: op.choice.top_k as u32,
            logits_pitch,
            logits_offset,
            out_pitch: to.pitch as u32,
            bias_at: self.vector_at(op.bias)?,
            sigmoid,
            normed,
            outputs: outputs(to.rows),
            scale,
        };
        let (vectors, workgroups) = (self.vectors.clone(), wrapped(self.rows(to.rows)));
        self.dispatch("moe_route", "moe_route", &[], &params, &[&logits, &vectors, &to.buffer], workgroups)
    }
}
