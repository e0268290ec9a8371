//! Matrices: embedding, linear layers, and the choice of a token from the logits.

use super::{ELEMENTS, Lowering, outputs, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::params;
use crate::graph::{Rows, ValueId, WeightId};

/// Up to so many rows, a kernel reads every weight once and keeps all rows in registers.
pub(super) const FEW_ROWS: usize = 8;
/// Outputs of one workgroup of `linear/rows.wgsl`.
const OUTS: usize = 4;
/// Outputs and rows of one workgroup of `linear/tile.wgsl`.
const TILE_OUTS: usize = 64;
const TILE_ROWS: usize = 32;

impl Lowering<'_> {
    pub(super) fn embed(&mut self, table: WeightId, scale: f32, out: ValueId) -> Result<()> {
        let weights = self.weights;
        let matrix = weights.matrix(table)?;
        let to = self.place(out)?;
        let last_token = self.memory.last_token.clone();
        let shader = format!("embed.{}", matrix.format.name());
        for segment in &matrix.segments {
            let params = params::Embed {
                chunks: matrix.chunks as u32,
                columns: matrix.columns as u32,
                pitch: to.pitch as u32,
                first: segment.first as u32,
                rows: segment.rows as u32,
                scale,
            };
            let workgroups = wrapped((self.rows(Rows::All) * matrix.chunks).div_ceil(ELEMENTS));
            self.dispatch("embed", &shader, &[], &params, &[&segment.buffer, &last_token, &to.buffer], workgroups)?;
        }
        Ok(())
    }

    pub(super) fn linear(&mut self, x: ValueId, weight: WeightId, bias: Option<WeightId>, out: ValueId) -> Result<()> {
        let weights = self.weights;
        let matrix = weights.matrix(weight)?;
        let (source, to) = (self.place(x)?, self.place(out)?);
        let (vectors, bias_at) = (self.vectors.clone(), self.vector_at(bias)?);
        let rows = self.rows(to.rows);
        for segment in matrix.segments.iter().filter(|s| s.first < to.width) {
            let used = segment.rows.min(to.width - segment.first);
            let common = params::LinearRows {
                chunks: matrix.chunks as u32,
                columns: matrix.columns as u32,
                rows: used as u32,
                x_pitch: (source.pitch / 4) as u32,
                out_pitch: to.pitch as u32,
                out_offset: segment.first as u32,
                bias_at,
            };
            let buffers = [&segment.buffer, &source.buffer, &vectors, &to.buffer];
            let format = matrix.format.name();
            if rows <= FEW_ROWS {
                let shader = format!("linear_rows.{format}.{}.{rows}", self.reduce());
                self.dispatch("linear", &shader, &[], &common, &buffers, wrapped(used.div_ceil(OUTS)))?;
            } else {
                let params::LinearRows { chunks, columns, rows: used_rows, x_pitch, out_pitch, out_offset, bias_at } =
                    common;
                let params = params::LinearTile {
                    chunks,
                    columns,
                    rows: used_rows,
                    x_pitch,
                    out_pitch,
                    out_offset,
                    bias_at,
                    capacity: rows as u32,
                    outputs: outputs(to.rows),
                };
                let workgroups = [used.div_ceil(TILE_OUTS) as u32, rows.div_ceil(TILE_ROWS) as u32, 1];
                self.dispatch("linear", &format!("linear_tile.{format}"), &[], &params, &buffers, workgroups)?;
            }
        }
        Ok(())
    }

    pub(super) fn sample(&mut self, logits: ValueId) -> Result<()> {
        let from = self.place(logits)?;
        let rows = self.rows(Rows::Outputs);
        let sampled = self.gpu.storage("sampled", (rows * 4) as u64)?;
        let last_token = self.memory.last_token.clone();
        let params = params::Greedy { vocabulary: from.width as u32, pitch: from.pitch as u32 };
        let buffers = [&from.buffer, &sampled, &last_token];
        self.dispatch("sample", "sample.greedy", &[], &params, &buffers, [rows as u32, 1, 1])?;
        self.sampled = Some(sampled);
        Ok(())
    }
}
