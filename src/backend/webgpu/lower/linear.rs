//! Linear layers: a kernel for few rows, and tiles for many.

use super::{Lowering, outputs};
use crate::backend::Result;
use crate::backend::webgpu::forms::Form;
use crate::backend::webgpu::kernels::{linear_lanes, linear_quads, linear_rows, linear_tile, params};
use crate::backend::webgpu::limits::MATVEC_ROWS;
use crate::backend::webgpu::packing::QUAD;
use crate::backend::webgpu::program::Grid;
use crate::graph::ops::{Add, Linear};

/// The input of a linear layer of few rows, as its kernel makes it.
pub(super) struct MadeInput {
    /// The ops that the kernel runs, but for an addition behind.
    pub name: &'static str,
    /// Parameters of the parts that make it; the others are filled in.
    pub params: params::LinearFew,
    /// Buffers it is made from.
    pub sources: Sources,
}

/// What an input is made from: a variant for each interface of `linear_rows`.
pub(super) enum Sources {
    Plain { x: wgpu::Buffer },
    Norm { x: wgpu::Buffer },
    GroupNorm { x: wgpu::Buffer },
    AddNorm { x: wgpu::Buffer, second: wgpu::Buffer, sum: wgpu::Buffer },
    Norms { x: wgpu::Buffer, second: wgpu::Buffer },
    Gate { x: wgpu::Buffer, second: wgpu::Buffer },
    Activation { x: wgpu::Buffer },
    Conv { x: wgpu::Buffer, state: wgpu::Buffer },
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
        let format = matrix.format.name();
        let lanes = self.gpu.forms.get().has(Form::Lanes);
        for segment in matrix.segments.iter().filter(|s| s.first < to.width) {
            let used = segment.rows.min(to.width - segment.first);
            let params = params::LinearMany {
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
            let (weight, x, out) = (&segment.buffer, &source.buffer, &to.buffer);
            if lanes {
                let buffers = linear_lanes::Buffers { weight, x, vectors: &vectors, out };
                let grid = Grid::Tiles(used.div_ceil(4 * linear_lanes::LANES), rows.div_ceil(linear_lanes::ROWS));
                self.dispatch("linear", &linear_lanes::shader(format), &params, buffers, grid)?;
                continue;
            }
            let shader = linear_tile::shader(format);
            let buffers = linear_tile::Buffers { weight, x, vectors: &vectors, out };
            let grid = Grid::Tiles(used.div_ceil(linear_tile::TILE_OUTS), rows.div_ceil(linear_tile::TILE_ROWS));
            self.dispatch("linear", &shader, &params, buffers, grid)?;
        }
        Ok(())
    }

    /// An input that lies there as it is.
    pub(super) fn plain_input(&self, op: &Linear) -> Result<MadeInput> {
        let x = self.place(op.x)?;
        let params = params::LinearFew { x_pitch: x.pitch as u32, scale: 1.0, ..Default::default() };
        Ok(MadeInput { name: "linear", params, sources: Sources::Plain { x: x.buffer } })
    }

    /// A linear layer of few rows, with an addition of its result where one follows.
    pub(super) fn linear_rows(&mut self, input: MadeInput, op: &Linear, add: Option<&Add>) -> Result<()> {
        let MadeInput { name, mut params, sources } = input;
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
        let (format, reduction) = (matrix.format.name(), self.reduce());
        params.chunks = matrix.chunks as u32;
        params.columns = matrix.columns as u32;
        params.out_pitch = to.pitch as u32;
        params.bias_at = self.vector_at(op.bias)?;
        // Inputs that the other form can make.
        let inputs = !matches!(sources, Sources::GroupNorm { .. } | Sources::Norms { .. } | Sources::Conv { .. });
        let quads = inputs && self.in_quads([params.x_offset, params.second_offset]);
        for segment in matrix.segments.iter().filter(|s| s.first < to.width) {
            let used = segment.rows.min(to.width - segment.first);
            params.rows = used as u32;
            params.out_offset = segment.first as u32;
            let (weight, vectors, out, addend) = (&segment.buffer, &vectors, &to.buffer, &added);
            macro_rules! start {
                ($interface:ident { $($source:ident),* }) => {{
                    let shader = linear_rows::$interface::shader(format, reduction, rows);
                    let buffers = linear_rows::$interface::Buffers { weight, vectors, out, addend, $($source),* };
                    self.dispatch(name, &shader, &params, buffers, Grid::Workgroups(used.div_ceil(QUAD)))
                }};
            }
            macro_rules! start_either {
                ($interface:ident { $($source:ident),* }) => {{
                    if quads {
                        let shader = linear_quads::$interface::shader(format, rows);
                        let buffers = linear_quads::$interface::Buffers { weight, vectors, out, addend, $($source),* };
                        self.dispatch(name, &shader, &params, buffers, self.quads(used))
                    } else {
                        start!($interface { $($source),* })
                    }
                }};
            }
            match &sources {
                Sources::Plain { x } => start_either!(plain { x }),
                Sources::Norm { x } => start_either!(norm { x }),
                Sources::GroupNorm { x } => start!(group_norm { x }),
                Sources::AddNorm { x, second, sum } => start_either!(add_norm { x, second, sum }),
                Sources::Norms { x, second } => start!(norms { x, second }),
                Sources::Gate { x, second } => start_either!(gate { x, second }),
                Sources::Activation { x } => start_either!(activation { x }),
                Sources::Conv { x, state } => start!(conv { x, state }),
            }?;
        }
        Ok(())
    }

    /// Whether linear layers of few rows run in quads: inputs that begin elsewhere than at a word of four columns do not.
    pub(super) fn in_quads(&self, offsets: [u32; 2]) -> bool {
        self.gpu.forms.get().has(Form::Quads) && offsets.iter().all(|offset| offset.is_multiple_of(QUAD as u32))
    }

    /// Workgroups for so many outputs: a subgroup for each quad of them, even where all are the largest.
    pub(super) fn quads(&self, outputs: usize) -> Grid {
        let lanes = linear_quads::plain::LANES;
        let subgroups = lanes / (self.gpu.info.most_subgroup as usize).clamp(1, lanes);
        Grid::Workgroups(outputs.div_ceil(QUAD).div_ceil(subgroups))
    }
}
