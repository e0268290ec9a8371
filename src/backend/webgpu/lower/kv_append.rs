//! Memory of attention.

use super::Lowering;
use crate::backend::Result;
use crate::backend::webgpu::kernels::{kv_append, params};
use crate::graph::Rows;
use crate::graph::ops::KvAppend;

impl Lowering<'_> {
    pub(super) fn kv_append(&mut self, op: &KvAppend) -> Result<()> {
        let pools = self.pools(op.state)?;
        let (keys, k_pitch, k_offset) = self.source(op.k)?;
        let (values, v_pitch, v_offset) = self.source(op.v)?;
        let params = params::KvAppend {
            key_pairs: (op.k.width / 2) as u32,
            value_pairs: (op.v.width / 2) as u32,
            k_pitch,
            k_offset,
            v_pitch,
            v_offset,
            pinned: pools.spec.pinned as u32,
            ring: pools.ring,
            pages_per_slot: pools.pages_per_slot,
        };
        let buffers = kv_append::Buffers {
            pages: &pools.pages,
            key_pool: &pools.keys,
            value_pool: &pools.values,
            k: &keys,
            v: &values,
        };
        let grid = self.elements(Rows::All, (op.k.width + op.v.width) / 2);
        self.dispatch("kv_append", &kv_append::shader(pools.format), &params, buffers, grid)
    }
}
