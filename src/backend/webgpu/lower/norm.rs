//! Norms.

use super::{Lowering, outputs, read};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{norm, params};
use crate::backend::webgpu::program::Grid;
use crate::constants::{NONE, NORM_L2, NORM_LAYER, NORM_RMS};
use crate::graph::ops::Norm;
use crate::graph::{NormKind, WeightId};

impl Lowering<'_> {
    pub(super) fn norm(&mut self, op: &Norm) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let length = |vector: Option<WeightId>| vector.map_or(0, |vector| self.graph.weight(vector).len() as u32);
        let params = params::Norm {
            kind: match op.kind {
                NormKind::Rms => NORM_RMS,
                NormKind::Layer => NORM_LAYER,
                NormKind::L2 => NORM_L2,
            },
            groups: op.groups as u32,
            width: op.group() as u32,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            weight_at: self.vector_at(op.weight)?,
            weight_len: length(op.weight),
            bias_at: self.vector_at(op.bias)?,
            bias_len: length(op.bias),
            outputs: outputs(to.rows),
            eps: op.eps,
        };
        let vectors = self.vectors.clone();
        let buffers = norm::Buffers { x: &source, vectors: &vectors, out: &to.buffer };
        // What there is not has no place.
        let [weight_at, bias_at] = [params.weight_at, params.bias_at].map(|at| if at == NONE { 0 } else { at });
        let vectors_at = [weight_at, params.weight_len, bias_at, params.bias_len];
        let places = [params.width, x_pitch, x_offset, params.out_pitch];
        let grid = Grid::Workgroups(self.rows(to.rows) * op.groups);
        self.dispatch(
            "norm",
            &norm::shader(read(&[places, vectors_at].concat()).0, self.reduce()),
            &params,
            buffers,
            grid,
        )
    }
}
