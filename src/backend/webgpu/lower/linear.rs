//! Linear layers: a kernel for few rows, and tiles for many.

use super::{Lowering, outputs, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::limits::{MATVEC_ROWS, TILE_OUTS, TILE_ROWS};
use crate::backend::webgpu::packing::QUAD;
use crate::backend::webgpu::params;
use crate::graph::ops::{Add, Linear};

/// The input of a linear layer of few rows, as its kernel makes it.
pub(super) struct MadeInput {
    /// The part of the shader's name that says how.
    pub shader: &'static str,
    /// The ops that the kernel runs, but for an addition behind.
    pub name: &'static str,
    /// Parameters of the parts that make it; the others are filled in.
    pub params: params::LinearRows,
    /// Buffers it is made from, in the shader's order.
    pub sources: Vec<wgpu::Buffer>,
}

impl Lowering<'_> {
    /// A linear layer whose input lies there as it is.
    pub(super) fn linear(&mut self, op: &Linear) -> Result<()> {
        let (source, to) = (self.place(op.x)?, self.place(op.out)?);
        let rows = self.rows(to.rows);
        if rows <= MATVEC_ROWS {
            let input = self.plain_input(op)?;
            return self.linear_rows(input, op, None);
        }
        let weights = self.weights;
        let matrix = weights.matrix(op.weight)?;
        let (vectors, bias_at) = (self.vectors.clone(), self.vector_at(op.bias)?);
        let shader = format!("linear_tile.{}", matrix.format.name());
        for segment in matrix.segments.iter().filter(|s| s.first < to.width) {
            let used = segment.rows.min(to.width - segment.first);
            let params = params::LinearTile {
                chunks: matrix.chunks as u32,
                columns: matrix.columns as u32,
                rows: used as u32,
                x_pitch: (source.pitch / 4) as u32,
                out_pitch: to.pitch as u32,
                out_offset: segment.first as u32,
                bias_at,
                capacity: rows as u32,
                outputs: outputs(to.rows),
            };
            let buffers = [&segment.buffer, &source.buffer, &vectors, &to.buffer];
            let workgroups = [used.div_ceil(TILE_OUTS) as u32, rows.div_ceil(TILE_ROWS) as u32, 1];
            self.dispatch("linear", &shader, &[], &params, &buffers, workgroups)?;
        }
        Ok(())
    }

    /// An input that lies there as it is.
    pub(super) fn plain_input(&self, op: &Linear) -> Result<MadeInput> {
        let x = self.place(op.x)?;
        let params = params::LinearRows { x_pitch: x.pitch as u32, scale: 1.0, ..Default::default() };
        Ok(MadeInput { shader: "plain", name: "linear", params, sources: vec![x.buffer] })
    }

    /// A linear layer of few rows, with an addition of its result where one follows.
    pub(super) fn linear_rows(&mut self, input: MadeInput, op: &Linear, add: Option<&Add>) -> Result<()> {
        let MadeInput { shader, name, mut params, sources } = input;
        let weights = self.weights;
        let matrix = weights.matrix(op.weight)?;
        let to = self.place(add.map_or(op.out, |add| add.out))?;
        let vectors = self.vectors.clone();
        let mut added = self.vectors.clone();
        if let Some(add) = add {
            let (buffer, pitch, offset) = self.source(add.a)?;
            (params.addend_pitch, params.addend_offset, params.addend_scale) = (pitch, offset, add.scale);
            added = buffer;
        }
        let rows = self.rows(to.rows);
        let shader = format!("linear_rows.{shader}.{}.{}.{rows}", matrix.format.name(), self.reduce());
        params.chunks = matrix.chunks as u32;
        params.columns = matrix.columns as u32;
        params.out_pitch = to.pitch as u32;
        params.bias_at = self.vector_at(op.bias)?;
        for segment in matrix.segments.iter().filter(|s| s.first < to.width) {
            let used = segment.rows.min(to.width - segment.first);
            params.rows = used as u32;
            params.out_offset = segment.first as u32;
            let mut buffers = vec![&segment.buffer, &vectors, &to.buffer, &added];
            buffers.extend(&sources);
            self.dispatch(name, &shader, &[], &params, &buffers, wrapped(used.div_ceil(QUAD)))?;
        }
        Ok(())
    }
}
