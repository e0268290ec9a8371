//! The chosen experts' feed-forward. Few rows read the rows of their experts' weights; many rows are first sorted by
//! expert.

use super::moe_route::check_experts;
use super::{Lowering, number, outputs};
use crate::backend::Result;
use crate::backend::webgpu::kernels::{moe_apply as shaders, params};
use crate::backend::webgpu::limits::MATVEC_ROWS;
use crate::backend::webgpu::packing::Segment;
use crate::backend::webgpu::program::Grid;
use crate::backend::webgpu::scratch::most_tiles;
use crate::backend::webgpu::weights::Matrix;
use crate::graph::ops::MoeApply;
use crate::graph::pitch;

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
            top_k: top as u32,
            x_pitch: source.pitch as u32,
            routes_pitch: routes.pitch as u32,
            hidden_pitch: pitch(hidden_width) as u32,
            sums_pitch: pitch(to.width) as u32,
            out_pitch: to.pitch as u32,
            function: number(op.function),
            gated: u32::from(op.gated),
            outputs: outputs(to.rows),
            pairs_at: (shaders::group::TILE_WORDS * (1 + tiles)) as u32,
            ..Default::default()
        };
        let tiled = rows > MATVEC_ROWS;
        let (lists, sums) = if tiled { (Some(self.scratch(2)?), Some(self.scratch(1)?)) } else { (None, None) };
        let (x, hidden, routes, out) = (&source.buffer, &hidden, &routes.buffer, &to.buffer);
        let name = "moe_apply";
        if let Some(lists) = &lists {
            let buffers = shaders::group::Buffers { lists, routes };
            self.dispatch(name, &shaders::group::shader(), &params, buffers, Grid::Workgroups(1))?;
        }
        let of_segment = |matrix: &Matrix, segment: &Segment, width: usize| params::MoeApply {
            width: width as u32,
            chunks: matrix.chunks as u32,
            columns: matrix.columns as u32,
            first: segment.first as u32,
            rows: segment.rows as u32,
            added: u32::from(segment.first > 0),
            ..params
        };
        for segment in &up.segments {
            let (params, format, weight) = (of_segment(up, segment, hidden_width), up.format.name(), &segment.buffer);
            if let Some(lists) = &lists {
                let buffers = shaders::up_tile::Buffers { weight, lists, x, hidden };
                let grid = Grid::Tiles(hidden_width.div_ceil(shaders::up_tile::TILE_OUTS), tiles);
                self.dispatch(name, &shaders::up_tile::shader(format), &params, buffers, grid)?;
            } else {
                let buffers = shaders::up_rows::Buffers { weight, routes, x, hidden };
                let grid = Grid::Workgroups(hidden_width.div_ceil(shaders::up_rows::OUTS) * pairs);
                self.dispatch(name, &shaders::up_rows::shader(format, self.reduce()), &params, buffers, grid)?;
            }
        }
        for segment in &down.segments {
            let (params, format, weight) = (of_segment(down, segment, to.width), down.format.name(), &segment.buffer);
            if let (Some(lists), Some(sums)) = (&lists, &sums) {
                let buffers = shaders::down_tile::Buffers { weight, lists, hidden, sums };
                let grid = Grid::Tiles(to.width.div_ceil(shaders::down_tile::TILE_OUTS), tiles);
                self.dispatch(name, &shaders::down_tile::shader(format), &params, buffers, grid)?;
            } else {
                let buffers = shaders::down_rows::Buffers { weight, routes, hidden, out };
                let grid = Grid::Workgroups(to.width.div_ceil(shaders::down_rows::OUTS) * rows);
                self.dispatch(name, &shaders::down_rows::shader(format, self.reduce()), &params, buffers, grid)?;
            }
        }
        if let Some(sums) = &sums {
            let params = params::MoeApply { width: to.width as u32, ..params };
            let buffers = shaders::combine::Buffers { sums, routes, out };
            self.dispatch(name, &shaders::combine::shader(), &params, buffers, self.elements(to.rows, to.width))?;
        }
        Ok(())
    }
}
