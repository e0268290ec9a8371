//! Mixtures of experts. Few rows read the rows of their experts' weights; many rows are first sorted by expert.

use super::linear::FEW_ROWS;
use super::{ELEMENTS, Lowering, outputs, wrapped};
use crate::backend::webgpu::params;
use crate::backend::webgpu::scratch::{TILE_WORDS, most_tiles};
use crate::backend::{BackendError, Result};
use crate::graph::{Op, Routing, pitch};

/// Most experts that `moe_route` and `moe_apply/group` keep in workgroup memory.
const MOST_EXPERTS: usize = 1024;
/// Outputs of one workgroup of the kernels for few rows.
const OUTS: usize = 4;
/// Outputs of one workgroup of `moe_apply/tile.wgsl`.
const TILE_OUTS: usize = 64;

fn check(experts: usize) -> Result<()> {
    if experts > MOST_EXPERTS {
        let what = format!("{experts} experts (at most {MOST_EXPERTS})");
        return Err(BackendError::Unsupported { backend: "webgpu", what });
    }
    Ok(())
}

impl Lowering<'_> {
    pub(super) fn moe_route(&mut self, op: &Op) -> Result<()> {
        let &Op::MoeRoute { logits, bias, routing, groups, top_groups, top, out } = op else { return Ok(()) };
        check(logits.width)?;
        let (source, logits_pitch, logits_offset) = self.source(logits)?;
        let to = self.place(out)?;
        let (sigmoid, normed, scale) = match routing {
            Routing::Softmax => (0, 0, 1.0),
            Routing::Sigmoid { normed, scale } => (1, u32::from(normed), scale),
        };
        let params = params::MoeRoute {
            experts: logits.width as u32,
            groups: groups as u32,
            top_groups: top_groups as u32,
            top: top as u32,
            logits_pitch,
            logits_offset,
            out_pitch: to.pitch as u32,
            bias_at: self.vector_at(bias)?,
            sigmoid,
            normed,
            outputs: outputs(to.rows),
            scale,
        };
        let (vectors, workgroups) = (self.vectors.clone(), wrapped(self.rows(to.rows)));
        self.dispatch("moe_route", "moe_route", &[], &params, &[&source, &vectors, &to.buffer], workgroups)
    }

    pub(super) fn moe_apply(&mut self, op: &Op) -> Result<()> {
        let &Op::MoeApply { x, routes, up, down, experts, function, gated, out } = op else { return Ok(()) };
        check(experts)?;
        let (source, routes, to) = (self.place(x)?, self.place(routes)?, self.place(out)?);
        let weights = self.weights;
        let (up, down) = (weights.matrix(up)?, weights.matrix(down)?);
        let (rows, top, hidden_width) = (self.rows(to.rows), routes.width / 2, up.rows / experts);
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
            function: super::pointwise::number(function),
            gated: u32::from(gated),
            outputs: outputs(to.rows),
            pairs_at: (TILE_WORDS * (1 + tiles)) as u32,
            ..Default::default()
        };
        let few = rows <= FEW_ROWS;
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
                    self.dispatch(
                        "moe_apply",
                        &shader,
                        &[],
                        &params,
                        &[&segment.buffer, lists, from, into],
                        workgroups,
                    )?;
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
            self.dispatch(
                "moe_apply",
                "moe_apply.combine",
                &[],
                &params,
                &[sums, &routes.buffer, &to.buffer],
                workgroups,
            )?;
        }
        Ok(())
    }
}
