//! The choice of experts.

use super::{Lowering, outputs};
use crate::backend::webgpu::kernels::{moe_route, params};
use crate::backend::webgpu::program::Grid;
use crate::backend::{BackendError, Result};
use crate::constants::MOST_EXPERTS;
use crate::graph::ops::{MoeRoute, Routing};

/// Refuses more experts than the kernels have room for.
pub(super) fn check_experts(experts: usize) -> Result<()> {
    if experts > MOST_EXPERTS as usize {
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
        let (sigmoid, normed, epsilon, scale) = match op.routing {
            Routing::Softmax { normed } => (0, u32::from(normed), 0.0, 1.0),
            Routing::Sigmoid { normed, epsilon, scale } => (1, u32::from(normed), epsilon, scale),
        };
        let params = params::MoeRoute {
            experts: op.logits.width as u32,
            n_group: op.choice.n_group as u32,
            topk_group: op.choice.topk_group as u32,
            top_k: op.choice.top_k as u32,
            logits_pitch,
            logits_offset,
            out_pitch: to.pitch as u32,
            bias_at: self.vector_at(op.bias)?,
            sigmoid,
            normed,
            outputs: outputs(to.rows),
            epsilon,
            scale,
        };
        let vectors = self.vectors.clone();
        let buffers = moe_route::Buffers { logits: &logits, vectors: &vectors, out: &to.buffer };
        let grid = Grid::Workgroups(self.rows(to.rows));
        self.dispatch("moe_route", &moe_route::shader(), &params, buffers, grid)
    }
}
