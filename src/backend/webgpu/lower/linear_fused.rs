//! Linear layers of few rows, together with the ops that make their input and with the addition of their results.

use super::linear::{MadeInput, Sources};
use super::{Lowering, number};
use crate::backend::Result;
use crate::backend::checks::misuse;
use crate::backend::webgpu::fuse::{FusedLinear, Input, LinearPair, PairInput};
use crate::backend::webgpu::kernels::{linear_pair, linear_pair_quads, params};
use crate::backend::webgpu::packing::QUAD;
use crate::backend::webgpu::program::Grid;

impl Lowering<'_> {
    /// A linear layer together with the ops that make its input.
    pub(super) fn fused_linear(&mut self, group: &FusedLinear<'_>) -> Result<()> {
        let FusedLinear { input, linear, add } = group;
        let input = match input {
            Input::Plain => self.plain_input(linear)?,
            made => self.made_input(made)?,
        };
        self.linear_rows(input, linear, add.as_ref().map(|add| add.op))
    }

    fn made_input(&self, input: &Input<'_>) -> Result<MadeInput> {
        let mut params = params::LinearFew { scale: 1.0, ..Default::default() };
        let (name, sources) = match input {
            Input::Plain => return misuse("an input that nothing makes".into()),
            Input::Norm(norm) | Input::GroupNorm(norm) => {
                let (x, pitch, offset) = self.source(norm.x)?;
                (params.x_pitch, params.x_offset, params.eps) = (pitch, offset, norm.eps);
                params.norm_at = self.vector_at(norm.weight)?;
                let grouped = matches!(input, Input::GroupNorm(_));
                params.groups = if grouped { norm.groups as u32 } else { 0 };
                ("norm+linear", if grouped { Sources::GroupNorm { x } } else { Sources::Norm { x } })
            }
            Input::AddNorm { add, norm } => {
                let (x, pitch, offset) = self.source(add.a)?;
                let (second, second_pitch, second_offset) = self.source(add.b)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                (params.eps, params.scale, params.norm_at) = (norm.eps, add.scale, self.vector_at(norm.weight)?);
                // A sum that nobody reads again has no place, and is not kept.
                let kept = self.places.get(&add.out).cloned();
                params.sum_pitch = kept.as_ref().map_or(0, |p| p.pitch as u32);
                let sum = match kept {
                    Some(place) => place.buffer,
                    None => self.nowhere()?,
                };
                ("add+norm+linear", Sources::AddNorm { x, second, sum })
            }
            Input::Norms { first, second, add } => {
                let (x, pitch, offset) = self.source(first.x)?;
                let (other, second_pitch, second_offset) = self.source(second.x)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                (params.norm_at, params.second_norm_at) =
                    (self.vector_at(first.weight)?, self.vector_at(second.weight)?);
                (params.eps, params.scale) = (first.eps, add.scale);
                ("norm+norm+add+linear", Sources::Norms { x, second: other })
            }
            Input::Gate(gate) => {
                let (first, pitch, offset) = self.source(gate.gate)?;
                let (x, second_pitch, second_offset) = self.source(gate.x)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                params.function = number(gate.function);
                ("gate+linear", Sources::Gate { x: first, second: x })
            }
            Input::Activation(activation) => {
                let (x, pitch, offset) = self.source(activation.x)?;
                (params.x_pitch, params.x_offset, params.scale) = (pitch, offset, activation.scale);
                params.function = number(activation.function);
                ("activation+linear", Sources::Activation { x })
            }
            Input::Conv(conv) => {
                let (x, pitch, offset) = self.source(conv.x)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.d_conv, params.function) = (self.d_conv(conv.state)?, number(conv.function));
                (params.kernel_at, params.kernel_bias_at) =
                    (self.weights.vector(conv.weight)?, self.vector_at(conv.bias)?);
                ("conv+linear", Sources::Conv { x, state: self.fixed(conv.state)? })
            }
        };
        Ok(MadeInput { name, params, sources })
    }

    /// Two linear layers whose results are added.
    pub(super) fn linear_pair(&mut self, pair: &LinearPair<'_>) -> Result<()> {
        let weights = self.weights;
        let (first, second) = (weights.matrix(pair.first.weight)?, weights.matrix(pair.second.weight)?);
        let (y, to) = (self.place(pair.second.x)?, self.place(pair.add.out)?);
        let mut params = params::LinearPairFew {
            chunks: first.chunks as u32,
            columns: first.columns as u32,
            y_chunks: second.chunks as u32,
            y_columns: second.columns as u32,
            out_pitch: to.pitch as u32,
            y_pitch: y.pitch as u32,
            scale: pair.add.scale,
            ..Default::default()
        };
        let (name, x, gated) = match &pair.input {
            PairInput::Gate(gate) => {
                let (first, pitch, offset) = self.source(gate.gate)?;
                let (x, second_pitch, second_offset) = self.source(gate.x)?;
                (params.x_pitch, params.x_offset) = (pitch, offset);
                (params.second_pitch, params.second_offset) = (second_pitch, second_offset);
                params.function = number(gate.function);
                ("gate+linear+linear+add", first, Some(x))
            }
            PairInput::Plain => {
                let x = self.place(pair.first.x)?;
                params.x_pitch = x.pitch as u32;
                ("linear+linear+add", x.buffer, None)
            }
        };
        let rows = self.rows(to.rows);
        let (format, reduction) = (first.format.name(), self.reduce());
        let quads = self.in_quads([params.x_offset, params.second_offset]);
        // One dispatch for the outputs up to where a segment of either matrix ends.
        let mut at = 0;
        while at < to.width {
            let (Some(one), Some(other)) = (first.segment(at), second.segment(at)) else {
                return misuse(format!("two linear layers of {} outputs, one without row {at}", to.width));
            };
            let end = to.width.min(one.first + one.rows).min(other.first + other.rows);
            params.rows = (end - at) as u32;
            params.out_offset = at as u32;
            params.quad = ((at - one.first) / QUAD) as u32;
            params.second_quad = ((at - other.first) / QUAD) as u32;
            let (weight, second_weight, out) = (&one.buffer, &other.buffer, &to.buffer);
            let (x, y, grid) = (&x, &y.buffer, Grid::Workgroups((end - at).div_ceil(QUAD)));
            if quads {
                let grid = self.quads(end - at);
                if let Some(second) = &gated {
                    let buffers = linear_pair_quads::gate::Buffers { weight, second_weight, out, y, x, second };
                    self.dispatch(name, &linear_pair_quads::gate::shader(format, rows), &params, buffers, grid)?;
                } else {
                    let buffers = linear_pair_quads::plain::Buffers { weight, second_weight, out, y, x };
                    self.dispatch(name, &linear_pair_quads::plain::shader(format, rows), &params, buffers, grid)?;
                }
                at = end;
                continue;
            }
            if let Some(second) = &gated {
                let buffers = linear_pair::gate::Buffers { weight, second_weight, out, y, x, second };
                let shader = linear_pair::gate::shader(format, reduction, rows);
                self.dispatch(name, &shader, &params, buffers, grid)?;
            } else {
                let buffers = linear_pair::plain::Buffers { weight, second_weight, out, y, x };
                let shader = linear_pair::plain::shader(format, reduction, rows);
                self.dispatch(name, &shader, &params, buffers, grid)?;
            }
            at = end;
        }
        Ok(())
    }
}
