//! Norms.

use selvedge_cuda::Launch;
use selvedge_cuda::ops as kernels;

use super::Lowering;
use crate::backend::Result;
use crate::graph::ops::Norm;
use crate::graph::{NormKind, WeightId};

impl Lowering<'_> {
    pub(super) fn norm(&self, op: &Norm) -> Result<Launch> {
        let (count, rows) = self.rows(op.out);
        let width_of = |id: Option<WeightId>| id.map_or(1, |id| self.graph.weight(id).len() as u32);
        let kernel = kernels::Norm {
            step: self.step,
            x: self.view(op.x),
            out: self.whole(op.out),
            weight: self.weights.vector_or_null(op.weight)?,
            bias: self.weights.vector_or_null(op.bias)?,
            count,
            group: op.group() as u32,
            weight_width: width_of(op.weight),
            bias_width: width_of(op.bias),
            kind: match op.kind {
                NormKind::Rms => kernels::NormKind::Rms,
                NormKind::Layer => kernels::NormKind::Layer,
                NormKind::L2 => kernels::NormKind::L2,
            },
            eps: op.eps,
        };
        Ok(kernel.launch(self.device, rows)?)
    }
}
