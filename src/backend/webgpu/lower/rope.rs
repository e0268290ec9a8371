//! Rotary embeddings, alone or together with norms and with the memory of attention.

use super::Lowering;
use crate::backend::Result;
use crate::backend::webgpu::fuse::{RopeAppend, RopeNormed};
use crate::backend::webgpu::kernels::{params, rope, rope_append, rope_normed};
use crate::backend::webgpu::program::Grid;
use crate::graph::Rows;
use crate::graph::ops::{Growth, Rope};

impl Lowering<'_> {
    fn pairs(&self, op: &Rope) -> u32 {
        self.graph.rotary(op.rotary).inverse_frequencies.len() as u32
    }

    pub(super) fn rope(&mut self, op: &Rope) -> Result<()> {
        let (x, x_pitch, x_offset) = self.source(op.x)?;
        let (to, angles) = (self.place(op.out)?, self.angles(op.rotary)?);
        let (beta, original) = Growth::numbers(op.growth);
        let params = params::Rope {
            width: op.x.width as u32,
            head_dim: op.head_dim() as u32,
            pairs: self.pairs(op),
            x_pitch,
            x_offset,
            out_pitch: to.pitch as u32,
            beta,
            original,
        };
        let buffers = rope::Buffers { x: &x, angles: &angles, out: &to.buffer };
        self.dispatch("rope", &rope::shader(), &params, buffers, self.elements(Rows::All, op.x.width))
    }

    /// Norms and rotates every head of queries and keys.
    pub(super) fn rope_normed(&mut self, group: &RopeNormed<'_>) -> Result<()> {
        let RopeNormed { norm, rope, append } = group;
        let pools = self.pools(append.state)?;
        let head = rope.head_dim();
        let (key_heads, value_pairs) = (append.k.width / head, append.v.width / 2);
        let (from, pitch, offset) = self.source(norm.x)?;
        let (to, angles, vectors) = (self.place(rope.out)?, self.angles(rope.rotary)?, self.vectors.clone());
        let params = params::RopeNormed {
            heads: (rope.heads - key_heads) as u32,
            key_heads: key_heads as u32,
            value_pairs: value_pairs as u32,
            head_dim: head as u32,
            pairs: self.pairs(rope),
            pitch,
            offset,
            value_offset: append.v.offset as u32,
            out_pitch: to.pitch as u32,
            norm_at: self.vector_at(norm.weight)?,
            norm_pitch: norm.weight_pitch(self.graph) as u32,
            pinned: pools.spec.pinned as u32,
            ring: pools.ring,
            pages_per_slot: pools.pages_per_slot,
            eps: norm.eps,
        };
        let buffers = rope_normed::Buffers {
            pages: &pools.pages,
            key_pool: &pools.keys,
            value_pool: &pools.values,
            x: &from,
            angles: &angles,
            vectors: &vectors,
            out: &to.buffer,
        };
        let each = rope.heads + value_pairs.div_ceil(rope_normed::LANES);
        let (shader, grid) = (rope_normed::shader(pools.format, self.reduce()), self.rows(Rows::All) * each);
        self.dispatch("norm+rope+kv_append", &shader, &params, buffers, Grid::Workgroups(grid))
    }

    /// Rotates queries and keys and puts keys and values into the pools.
    pub(super) fn rope_append(&mut self, group: &RopeAppend<'_>) -> Result<()> {
        let RopeAppend { query, key, append } = group;
        let pools = self.pools(append.state)?;
        let (x, pitch, query_offset) = self.source(query.x)?;
        let (beta, original) = Growth::numbers(query.growth);
        let (queries, keys, angles) = (self.place(query.out)?, self.place(key.out)?, self.angles(query.rotary)?);
        let params = params::RopeAppend {
            query_pairs: (query.x.width / 2) as u32,
            key_pairs: (key.x.width / 2) as u32,
            value_pairs: (append.v.width / 2) as u32,
            head_dim: query.head_dim() as u32,
            pairs: self.pairs(query),
            pitch,
            query_offset,
            key_offset: key.x.offset as u32,
            value_offset: append.v.offset as u32,
            query_pitch: queries.pitch as u32,
            key_pitch: keys.pitch as u32,
            pinned: pools.spec.pinned as u32,
            ring: pools.ring,
            pages_per_slot: pools.pages_per_slot,
            beta,
            original,
        };
        let buffers = rope_append::Buffers {
            pages: &pools.pages,
            key_pool: &pools.keys,
            value_pool: &pools.values,
            x: &x,
            angles: &angles,
            queries: &queries.buffer,
            keys: &keys.buffer,
        };
        let grid = self.elements(Rows::All, (query.x.width + key.x.width + append.v.width) / 2);
        self.dispatch("rope+kv_append", &rope_append::shader(pools.format), &params, buffers, grid)
    }
}
