//! The choice of experts.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::Routing;
use crate::graph::ops::MoeRoute;

impl Lowering<'_> {
    pub(super) fn moe_route(&self, op: &MoeRoute) -> Result<Launch> {
        let (count, rows) = self.rows(op.out);
        let (sigmoid, normed, epsilon, scale) = match op.routing {
            Routing::Softmax { normed } => (0, u32::from(normed), 0.0, 1.0),
            Routing::Sigmoid { normed, epsilon, scale } => (1, u32::from(normed), epsilon, scale),
        };
        let kernel = kernels::MoeRoute {
            step: self.step,
            logits: self.view(op.logits),
            out: self.whole(op.out),
            bias: self.weights.vector_or_null(op.bias)?,
            count,
            n_group: op.choice.n_group as u32,
            topk_group: op.choice.topk_group as u32,
            sigmoid,
            normed,
            epsilon,
            scale,
        };
        Ok(kernel.launch(self.device, rows)?)
    }
}
