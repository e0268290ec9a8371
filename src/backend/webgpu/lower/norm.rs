//! Norms.

use super::{Lowering, outputs, read};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{norm, params};
use crate::backend::webgpu::program::Grid;
use crate::constants::{NONE, NORM_L2, NORM_LAYER, NORM_RMS};
use crate::graph::NormKind;
use crate::graph::ops::Norm;

impl Lowering<'_> {
    pub(super) fn norm(&mut self, op: &Norm) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(op.x)?;
        let to = self.place(op.out)?;
        let length = op.weight.or(op.bias).map_or(1, |w| self.graph.weight(w).len());
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
            weight_len: length as u32,
            bias_at: self.vector_at(op.bias)?,
            outputs: outputs(to.rows),
            eps: op.eps,
        };
        let vectors = self.vectors.clone();
        let buffers = norm::Buffers { x: &source, vectors: &vectors, out: &to.buffer };
        // What there is not has no place and no length.
        let places = [params.weight_at, params.bias_at].map(|at| if at == NONE { 0 } else { at });
        let length = op.weight.or(op.bias).map_or(0, |_| params.weight_len);
        let counts = [params.width, x_pitch, x_offset, params.out_pitch, length, places[0], places[1]];
        let grid = Grid::Workgroups(self.rows(to.rows) * op.groups);
        self.dispatch("norm", &norm::shader(read(&counts).0, self.reduce()), &params, buffers, grid)
    }
}
