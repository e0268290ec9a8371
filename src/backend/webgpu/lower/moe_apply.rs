//! The chosen experts' feed-forward. Few rows read the rows of their experts' weights; many rows are first sorted by
//! expert.

use super::moe_route::check_experts;
use super::{ELEMENTS, Lowering, number, outputs, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::limits::{MATVEC_ROWS, TILE_OUTS};
use crate::backend::webgpu::params;
use crate::backend::webgpu::scratch::{TILE_WORDS, most_tiles};
use crate::graph::ops::MoeApply;
use crate::graph::pitch;

/// Outputs of one workgroup of the kernels for few rows.
const OUTS: usize = 4;

impl Lowering<'_> {
    pub(super) fn moe_apply(&mut self, op: &MoeApply) -> Result<()> {
        let experts = op.experts;
        check_experts(experts)?;
        let (source, routes, to) = (self.place(op.x)?, self.place(op.routes)?, self.place(op.out)?);
        let weights = self.weights;
        let (up, down) = (weights.matrix(op.up)?, weights.matrix(op.down)?);
        let (rows, top, hidden_width) = (self.rows(to.rows), op.top_k(self.graph), op.up_rows(self.graph));
        let (pairs, hidden) = (rows * top, self.scratch(0)?);
        let tiles = most_tiles(pairs, experts);
        let params = params::MoeApply {
            experts: experts as u32,
            top: top as u32,
            x_pitch: source.pitch as u32,
            routes_pitch: routes.pitch as u32,
            hidden_pitch: pitch(hidden_width) as u32,
            sums_pitch: pitch(to.width) as u32,
            out_pitch: to.pitch as u32,
            function: number(op.function),
            gated: u32::from(op.gated),
            outputs: outputs(to.rows),
            pairs_at: (TILE_WORDS * (1 + tiles)) as u32,
            ..Default::default()
        };
        let few = rows <= MATVEC_ROWS;
        let (lists, sums) = if few { (None, None) } else { (Some(self.scratch(2)?), Some(self.scratch(1)?)) };
        if let Some(lists) = &lists {
            self.dispatch("moe_apply", "moe_apply.group", &[], &params, &[lists, &routes.buffer], [1, 1, 1])?;
        }
        for (name, matrix, width) in [("up", up, hidden_width), ("down", down, to.width)] {
            for segment in &matrix.segments {
                let params = params::MoeApply {
                    width: width as u32,
                    chunks: matrix.chunks as u32,
                    columns: matrix.columns as u32,
                    first: segment.first as u32,
                    rows: segment.rows as u32,
                    added: u32::from(segment.first > 0),
                    ..params
                };
                let (from, into) = match (name, &sums) {
                    ("up", _) => (&source.buffer, &hidden),
                    (_, Some(sums)) => (&hidden, sums),
                    _ => (&hidden, &to.buffer),
                };
                let format = matrix.format.name();
                if let Some(lists) = &lists {
                    let shader = format!("moe_apply.{name}_tile.{format}");
                    let workgroups = [width.div_ceil(TILE_OUTS) as u32, tiles as u32, 1];
                    let buffers = [&segment.buffer, lists, from, into];
                    self.dispatch("moe_apply", &shader, &[], &params, &buffers, workgroups)?;
                } else {
                    let shader = format!("moe_apply.{name}_rows.{format}.{}", self.reduce());
                    let blocks = width.div_ceil(OUTS) * if name == "up" { pairs } else { rows };
                    let buffers = [&segment.buffer, &routes.buffer, from, into];
                    self.dispatch("moe_apply", &shader, &[], &params, &buffers, wrapped(blocks))?;
                }
            }
        }
        if let Some(sums) = &sums {
            let params = params::MoeApply { width: to.width as u32, ..params };
            let workgroups = wrapped((rows * to.width).div_ceil(ELEMENTS));
            let buffers = [sums, &routes.buffer, &to.buffer];
            self.dispatch("moe_apply", "moe_apply.combine", &[], &params, &buffers, workgroups)?;
        }
        Ok(())
    }
}
