//! Matrices: embedding, linear layers, and the choice of a token from the logits.

use super::{ELEMENTS, Lowering, outputs, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::fuse::{Input, LinearPair};
use crate::backend::webgpu::packing::QUAD;
use crate::backend::webgpu::params;
use crate::graph::{Op, Rows, ValueId, View, WeightId};

/// Up to so many rows, a kernel reads every weight once and keeps all rows in registers.
pub(in crate::backend::webgpu) const FEW_ROWS: usize = 8;
/// Outputs and rows of one workgroup of `linear/tile.wgsl`.
const TILE_OUTS: usize = 64;
const TILE_ROWS: usize = 32;

impl Lowering<'_> {
    pub(super) fn embed(&mut self, table: WeightId, scale: f32, out: ValueId) -> Result<()> {
        let weights = self.weights;
        let matrix = weights.matrix(table)?;
        let to = self.place(out)?;
        let samplers = self.memory.samplers.clone();
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
            self.dispatch("embed", &shader, &[], &params, &[&segment.buffer, &samplers, &to.buffer], workgroups)?;
        }
        Ok(())
    }

    /// A linear layer whose input lies there as it is.
    pub(super) fn linear(&mut self, x: ValueId, weight: WeightId, bias: Option<WeightId>, out: ValueId) -> Result<()> {
        let (source, to) = (self.place(x)?, self.place(out)?);
        let input = params::LinearRows { x_pitch: source.pitch as u32, ..Default::default() };
        if self.rows(to.rows) <= FEW_ROWS {
            return self.linear_rows("plain", "linear", input, &[&source.buffer], weight, bias, None, out);
        }
        let weights = self.weights;
        let matrix = weights.matrix(weight)?;
        let (vectors, bias_at) = (self.vectors.clone(), self.vector_at(bias)?);
        let rows = self.rows(to.rows);
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
            let shader = format!("linear_tile.{}", matrix.format.name());
            let buffers = [&segment.buffer, &source.buffer, &vectors, &to.buffer];
            let workgroups = [used.div_ceil(TILE_OUTS) as u32, rows.div_ceil(TILE_ROWS) as u32, 1];
            self.dispatch("linear", &shader, &[], &params, &buffers, workgroups)?;
        }
        Ok(())
    }

    /// A linear layer of few rows. `input` names how its input is made, from `sources`; `params` holds
    /// what that needs.
    fn linear_rows(
        &mut self,
        input: &str,
        op: &'static str,
        mut params: params::LinearRows,
        sources: &[&wgpu::Buffer],
        weight: WeightId,
        bias: Option<WeightId>,
        addend: Option<(View, f32)>,
        out: ValueId,
    ) -> Result<()> {
        let weights = self.weights;
        let matrix = weights.matrix(weight)?;
        let to = self.place(out)?;
        let mut added = self.vectors.clone();
        if let Some((view, scale)) = addend {
            let (buffer, pitch, offset) = self.source(view)?;
            (params.addend_pitch, params.addend_offset, params.addend_scale) = (pitch, offset, scale);
            added = buffer;
        }
        let vectors = self.vectors.clone();
        let rows = self.rows(to.rows);
        let shader = format!("linear_rows.{input}.{}.{}.{rows}", matrix.format.name(), self.reduce());
        params.chunks = matrix.chunks as u32;
        params.columns = matrix.columns as u32;
        params.out_pitch = to.pitch as u32;
        params.bias_at = self.vector_at(bias)?;
        for segment in matrix.segments.iter().filter(|s| s.first < to.width) {
            let used = segment.rows.min(to.width - segment.first);
            params.rows = used as u32;
            params.out_offset = segment.first as u32;
            let mut buffers = vec![&segment.buffer, &vectors, &to.buffer, &added];
            buffers.extend_from_slice(sources);
            self.dispatch(op, &shader, &[], &params, &buffers, wrapped(used.div_ceil(QUAD)))?;
        }
        Ok(())
    }

    /// A linear layer together with the ops that make its input.
    pub(super) fn fused_linear(&mut self, linear: usize, input: Input, add: Option<usize>) -> Result<()> {
        let graph = self.graph;
        let &Op::Linear { x, weight, bias, out, .. } = &graph.ops[linear] else { return Ok(()) };
        let (addend, out) = match add.map(|add| &graph.ops[add]) {
            Some(&Op::Add { a, scale, out, .. }) => (Some((a, scale)), out),
            _ => (None, out),
        };
        let mut params = params::LinearRows { scale: 1.0, ..Default::default() };
        match input {
            Input::Plain => {
                let place = self.place(x)?;
                params.x_pitch = place.pitch as u32;
                self.linear_rows("plain", "linear", params, &[&place.buffer], weight, bias, addend, out)
            }
            Input::Norm { norm } => {
                let &Op::Norm { x, eps, weight: scale, .. } = &graph.ops[norm] else { return Ok(()) };
                let (x, pitch, offset) = self.source(x)?;
                (params.x_pitch, params.x_offset, params.eps) = (pitch, offset, eps);
                params.norm_at = self.vector_at(scale)?;
                self.linear_rows("norm", "norm+linear", params, &[&x], weight, bias, addend, out)
            }
            Input::GroupNorm { norm } => {
                let &Op::Norm { x, eps, groups, weight: scale, .. } = &graph.ops[norm] else { return Ok(()) };
                let (x, pitch, offset) = self.source(x)?;
                (params.x_pitch, params.x_offset, params.eps) = (pitch, offset, eps);
                (params.groups, params.norm_at) = (groups as u32, self.vector_at(scale)?);
                self.linear_rows("group_norm", "norm+linear", params, &[&x], weight, bias, addend, out)
            }
            Input::AddNorm { add, norm } => {
                let &Op::Norm { eps, weight: scale, .. } = &graph.ops[norm] else { return Ok(()) };
                let &Op::Add { a, b, scale: factor, out: sum } = &graph.ops[add] else { return Ok(()) };
                let (x, pitch, offset) = self.source(a)?;
                let (second, second_pitch, second_offset) = self.source(b)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                (params.eps, params.scale, params.norm_at) = (eps, factor, self.vector_at(scale)?);
                // Nobody reads the sum again: it has no place, and is not kept.
                let kept = self.places.get(&sum).cloned();
                params.sum_pitch = kept.as_ref().map_or(0, |p| p.pitch as u32);
                let sum = match kept {
                    Some(place) => place.buffer,
                    None => self.nowhere()?,
                };
                self.linear_rows("add_norm", "add+norm+linear", params, &[&x, &second, &sum], weight, bias, addend, out)
            }
            Input::Norms { first, second, add } => {
                let &Op::Norm { x: a, eps, weight: one, .. } = &graph.ops[first] else { return Ok(()) };
                let &Op::Norm { x: b, weight: two, .. } = &graph.ops[second] else { return Ok(()) };
                let &Op::Add { scale, .. } = &graph.ops[add] else { return Ok(()) };
                let (x, pitch, offset) = self.source(a)?;
                let (other, second_pitch, second_offset) = self.source(b)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                (params.norm_at, params.second_norm_at) = (self.vector_at(one)?, self.vector_at(two)?);
                (params.eps, params.scale) = (eps, scale);
                self.linear_rows("norms", "norm+norm+add+linear", params, &[&x, &other], weight, bias, addend, out)
            }
            Input::Gate { gate } => {
                let &Op::Gate { gate, x, function, .. } = &graph.ops[gate] else { return Ok(()) };
                let (gate, pitch, offset) = self.source(gate)?;
                let (other, second_pitch, second_offset) = self.source(x)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                params.function = super::pointwise::number(function);
                self.linear_rows("gate", "gate+linear", params, &[&gate, &other], weight, bias, addend, out)
            }
            Input::Activation { activation } => {
                let &Op::Activation { x, function, scale, .. } = &graph.ops[activation] else { return Ok(()) };
                let (x, pitch, offset) = self.source(x)?;
                (params.x_pitch, params.x_offset, params.scale) = (pitch, offset, scale);
                params.function = super::pointwise::number(function);
                self.linear_rows("activation", "activation+linear", params, &[&x], weight, bias, addend, out)
            }
            Input::Conv { conv } => {
                let &Op::Conv { x, weight: kernel, bias: kernel_bias, state, function, .. } = &graph.ops[conv] else {
                    return Ok(());
                };
                let (x, pitch, offset) = self.source(x)?;
                let columns = self.fixed(state)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.taps, params.function) = (self.taps(state)?, super::pointwise::number(function));
                (params.kernel_at, params.kernel_bias_at) =
                    (self.weights.vector(kernel)?, self.vector_at(kernel_bias)?);
                self.linear_rows("conv", "conv+linear", params, &[&x, &columns], weight, bias, addend, out)
            }
        }
    }

    /// Two linear layers whose results are added.
    pub(super) fn linear_pair(&mut self, pair: LinearPair) -> Result<()> {
        let op = |index: usize| &self.graph.ops[index];
        let (
            &Op::Linear { x, weight, .. },
            &Op::Linear { x: y, weight: second_weight, .. },
            &Op::Add { scale, out, .. },
        ) = (op(pair.first), op(pair.second), op(pair.add))
        else {
            return Ok(());
        };
        let weights = self.weights;
        let (first, second) = (weights.matrix(weight)?, weights.matrix(second_weight)?);
        let (y, to) = (self.place(y)?, self.place(out)?);
        let mut params = params::LinearPair {
            chunks: first.chunks as u32,
            columns: first.columns as u32,
            y_chunks: second.chunks as u32,
            y_columns: second.columns as u32,
            out_pitch: to.pitch as u32,
            y_pitch: y.pitch as u32,
            scale,
            ..Default::default()
        };
        let (input, name, sources) = if let Input::Gate { gate } = pair.input {
            let &Op::Gate { gate, x, function, .. } = op(gate) else { return Ok(()) };
            let (gate, pitch, offset) = self.source(gate)?;
            let (other, second_pitch, second_offset) = self.source(x)?;
            (params.x_pitch, params.x_offset) = (pitch, offset);
            (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
            params.function = super::pointwise::number(function);
            ("gate", "gate+linear+linear+add", vec![gate, other])
        } else {
            let x = self.place(x)?;
            params.x_pitch = x.pitch as u32;
            ("plain", "linear+linear+add", vec![x.buffer])
        };
        let rows = self.rows(to.rows);
        let shader = format!("linear_pair.{input}.{}.{}.{rows}", first.format.name(), self.reduce());
        // One dispatch for the outputs up to where a segment of either matrix ends.
        let mut at = 0;
        while at < to.width {
            let (Some(one), Some(other)) = (first.segment(at), second.segment(at)) else { break };
            let end = to.width.min(one.first + one.rows).min(other.first + other.rows);
            params.rows = (end - at) as u32;
            params.out_offset = at as u32;
            params.quad = ((at - one.first) / QUAD) as u32;
            params.second_quad = ((at - other.first) / QUAD) as u32;
            let mut buffers = vec![&one.buffer, &other.buffer, &to.buffer, &y.buffer];
            buffers.extend(&sources);
            self.dispatch(name, &shader, &[], &params, &buffers, wrapped((end - at).div_ceil(QUAD)))?;
            at = end;
        }
        Ok(())
    }
}
