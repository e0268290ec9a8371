//! Ops whose rows look at earlier rows of their span and at the slot: convolution, rope, attention.

use super::{Lowering, wrapped};
use crate::backend::webgpu::memory::Piece;
use crate::backend::webgpu::params;
use crate::backend::{BackendError, Result};
use crate::graph::{KvSpec, Op, RotaryId, Rows, StateId, StateKind, ValueId, View};
use crate::state::{Addressing, KvFormat};

/// Widest key or value that `attention/attention.wgsl` holds.
const WIDEST_HEAD: usize = 256;

/// What kernels need to find the rows of a pool.
struct Pools {
    keys: wgpu::Buffer,
    values: wgpu::Buffer,
    pages: wgpu::Buffer,
    spec: KvSpec,
    /// 0: pages.
    ring: u32,
    pages_per_slot: u32,
    format: &'static str,
}

impl Lowering<'_> {
    fn pools(&self, state: StateId) -> Result<Pools> {
        let (Some(spec), Piece::Kv { keys, values }) = (self.graph.kv(state), self.memory.piece(state)) else {
            return Err(BackendError::Misuse(format!("`{}` is not a KV state", self.graph.state(state).name)));
        };
        let layout = &self.memory.layout;
        Ok(Pools {
            keys: keys.clone(),
            values: values.clone(),
            pages: self.memory.pages.clone(),
            spec: spec.clone(),
            ring: match layout.kv(spec).addressing {
                Addressing::Pages => 0,
                Addressing::Ring { rows } => rows as u32,
            },
            pages_per_slot: layout.pages_per_slot() as u32,
            format: match layout.kv_format {
                KvFormat::F32 => "f32",
                KvFormat::F16 => "f16",
            },
        })
    }

    /// A convolution; one that `renews` its state does what `conv_append` would do behind it.
    pub(super) fn conv(&mut self, op: &Op, renews: bool) -> Result<()> {
        let &Op::Conv { x, weight, bias, state, function, out } = op else { return Ok(()) };
        let (source, x_pitch, x_offset) = self.source(x)?;
        let (to, buffer, vectors) = (self.place(out)?, self.fixed(state)?, self.vectors.clone());
        let params = params::Conv {
            channels: x.width as u32,
            taps: self.taps(state)?,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            kernel_at: self.weights.vector(weight)?,
            bias_at: self.vector_at(bias)?,
            function: super::pointwise::number(function),
        };
        let workgroups = self.elements(Rows::All, x.width);
        let buffers = [&source, &vectors, &buffer, &to.buffer];
        let (name, shader) = if renews { ("conv+conv_append", "conv_decode") } else { ("conv", "conv") };
        self.dispatch(name, shader, &[], &params, &buffers, workgroups)
    }

    pub(super) fn conv_append(&mut self, x: View, state: StateId) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(x)?;
        let buffer = self.fixed(state)?;
        let before = self.taps(state)? - 1;
        let params = params::ConvAppend { channels: x.width as u32, before, x_pitch, x_offset };
        let workgroups = self.elements(Rows::All, x.width);
        self.dispatch("conv_append", "conv_append", &[], &params, &[&source, &buffer], workgroups)
    }

    pub(super) fn taps(&self, state: StateId) -> Result<u32> {
        match self.graph.state(state).kind {
            StateKind::Conv { taps, .. } => Ok(taps as u32),
            _ => Err(BackendError::Misuse(format!("`{}` is not a conv state", self.graph.state(state).name))),
        }
    }

    pub(super) fn rope(&mut self, x: View, heads: usize, rotary: RotaryId, out: ValueId) -> Result<()> {
        let (source, x_pitch, x_offset) = self.source(x)?;
        let (to, angles) = (self.place(out)?, self.angles(rotary)?);
        let params = params::Rope {
            width: x.width as u32,
            head: (x.width / heads) as u32,
            pairs: self.graph.rotary(rotary).inverse_frequencies.len() as u32,
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
        };
        let workgroups = self.elements(Rows::All, x.width);
        self.dispatch("rope", "rope", &[], &params, &[&source, &angles, &to.buffer], workgroups)
    }

    pub(super) fn attention(&mut self, op: &Op) -> Result<()> {
        let &Op::Attention { q, k, v, state, heads, scale, window, decode_window, out } = op else { return Ok(()) };
        let pools = self.pools(state)?;
        let KvSpec { heads: kv_heads, key_width, value_width, pinned, .. } = pools.spec;
        if key_width.max(value_width) > WIDEST_HEAD {
            let what = format!("heads of {key_width} and {value_width} columns (at most {WIDEST_HEAD})");
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        let (q, q_pitch, q_offset) = self.source(q)?;
        let (k, k_pitch, k_offset) = self.source(k)?;
        let (v, v_pitch, v_offset) = self.source(v)?;
        let to = self.place(out)?;
        let reach = |window: Option<usize>| window.map_or(u32::MAX, |w| w as u32);
        let params = params::Attention {
            heads: heads as u32,
            kv_heads: kv_heads as u32,
            key_width: key_width as u32,
            value_width: value_width as u32,
            q_pitch,
            q_offset,
            k_pitch,
            k_offset,
            v_pitch,
            v_offset,
            out_pitch: to.pitch as u32,
            pinned: pinned as u32,
            ring: pools.ring,
            window: reach(window),
            decode_window: reach(decode_window),
            pages_per_slot: pools.pages_per_slot,
            scale,
        };
        let shader = format!("attention.{}.{}", pools.format, self.reduce());
        let buffers = [&pools.pages, &q, &k, &v, &pools.keys, &pools.values, &to.buffer];
        let workgroups = wrapped(self.rows(Rows::All) * heads);
        self.dispatch("attention", &shader, &[], &params, &buffers, workgroups)
    }

    pub(super) fn kv_append(&mut self, k: View, v: View, state: StateId) -> Result<()> {
        let pools = self.pools(state)?;
        let (keys, k_pitch, k_offset) = self.source(k)?;
        let (values, v_pitch, v_offset) = self.source(v)?;
        let params = params::KvAppend {
            key_pairs: (k.width / 2) as u32,
            value_pairs: (v.width / 2) as u32,
            k_pitch,
            k_offset,
            v_pitch,
            v_offset,
            pinned: pools.spec.pinned as u32,
            ring: pools.ring,
            pages_per_slot: pools.pages_per_slot,
        };
        let shader = format!("kv_append.{}", pools.format);
        let buffers = [&pools.pages, &pools.keys, &pools.values, &keys, &values];
        let workgroups = self.elements(Rows::All, (k.width + v.width) / 2);
        self.dispatch("kv_append", &shader, &[], &params, &buffers, workgroups)
    }

    /// Norms and rotates every head of queries and keys.
    pub(super) fn rope_normed(&mut self, norm: usize, rope: usize, append: usize) -> Result<()> {
        let graph = self.graph;
        let &Op::Norm { x, eps, weight: Some(weight), .. } = &graph.ops[norm] else { return Ok(()) };
        let &Op::Rope { heads, rotary, out, .. } = &graph.ops[rope] else { return Ok(()) };
        let &Op::KvAppend { k, v, state } = &graph.ops[append] else { return Ok(()) };
        let pools = self.pools(state)?;
        let head = x.width / heads;
        let (key_heads, value_pairs) = (k.width / head, v.width / 2);
        let (from, pitch, offset) = self.source(x)?;
        let (to, angles, vectors) = (self.place(out)?, self.angles(rotary)?, self.vectors.clone());
        let shared = graph.weight(weight).len() == head;
        let params = params::RopeNormed {
            heads: (heads - key_heads) as u32,
            key_heads: key_heads as u32,
            value_pairs: value_pairs as u32,
            head: head as u32,
            pairs: graph.rotary(rotary).inverse_frequencies.len() as u32,
            pitch,
            offset,
            value_offset: v.offset as u32,
            out_pitch: to.pitch as u32,
            norm_at: self.weights.vector(weight)?,
            norm_pitch: if shared { 0 } else { head as u32 },
            pinned: pools.spec.pinned as u32,
            ring: pools.ring,
            pages_per_slot: pools.pages_per_slot,
            eps,
        };
        let shader = format!("rope_normed.{}.{}", pools.format, self.reduce());
        let buffers = [&pools.pages, &pools.keys, &pools.values, &from, &angles, &vectors, &to.buffer];
        let workgroups = wrapped(self.rows(Rows::All) * (heads + value_pairs.div_ceil(super::ELEMENTS)));
        self.dispatch("norm+rope+kv_append", &shader, &[], &params, &buffers, workgroups)
    }

    /// Rotates queries and keys and puts keys and values into the pools.
    pub(super) fn rope_append(&mut self, query: usize, key: usize, append: usize) -> Result<()> {
        let graph = self.graph;
        let &Op::Rope { x: q, heads, rotary, out: q_out } = &graph.ops[query] else { return Ok(()) };
        let &Op::Rope { x: k, out: k_out, .. } = &graph.ops[key] else { return Ok(()) };
        let &Op::KvAppend { v, state, .. } = &graph.ops[append] else { return Ok(()) };
        let pools = self.pools(state)?;
        let (x, pitch, query_offset) = self.source(q)?;
        let (queries, keys, angles) = (self.place(q_out)?, self.place(k_out)?, self.angles(rotary)?);
        let params = params::RopeAppend {
            query_pairs: (q.width / 2) as u32,
            key_pairs: (k.width / 2) as u32,
            value_pairs: (v.width / 2) as u32,
            head: (q.width / heads) as u32,
            pairs: graph.rotary(rotary).inverse_frequencies.len() as u32,
            pitch,
            query_offset,
            key_offset: k.offset as u32,
            value_offset: v.offset as u32,
            query_pitch: queries.pitch as u32,
            key_pitch: keys.pitch as u32,
            pinned: pools.spec.pinned as u32,
            ring: pools.ring,
            pages_per_slot: pools.pages_per_slot,
        };
        let shader = format!("rope_append.{}", pools.format);
        let buffers = [&pools.pages, &pools.keys, &pools.values, &x, &angles, &queries.buffer, &keys.buffer];
        let workgroups = self.elements(Rows::All, (q.width + k.width + v.width) / 2);
        self.dispatch("rope+kv_append", &shader, &[], &params, &buffers, workgroups)
    }
}
