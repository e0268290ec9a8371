//! Softmax attention.

use super::Lowering;
use crate::backend::webgpu::kernels::{attention, params};
use crate::backend::webgpu::program::Grid;
use crate::backend::{BackendError, Result};
use crate::constants::{NO_WINDOW, WIDEST_HEAD};
use crate::graph::ops::Attention;
use crate::graph::{KvSpec, Rows};

impl Lowering<'_> {
    pub(super) fn attention(&mut self, op: &Attention) -> Result<()> {
        let pools = self.pools(op.state)?;
        let KvSpec { heads: kv_heads, key_width, value_width, pinned, .. } = pools.spec;
        if key_width.max(value_width) > WIDEST_HEAD as usize {
            let what = format!("heads of {key_width} and {value_width} columns (at most {WIDEST_HEAD})");
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        let (q, q_pitch, q_offset) = self.source(op.q)?;
        let (k, k_pitch, k_offset) = self.source(op.k)?;
        let (v, v_pitch, v_offset) = self.source(op.v)?;
        let to = self.place(op.out)?;
        let reach = |window: Option<usize>| window.map_or(NO_WINDOW, |w| w as u32);
        let params = params::Attention {
            heads: op.heads as u32,
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
            window: reach(op.window),
            decode_window: reach(op.decode_window),
            pages_per_slot: pools.pages_per_slot,
            scale: op.scale,
        };
        let buffers = attention::Buffers {
            pages: &pools.pages,
            q: &q,
            k: &k,
            v: &v,
            key_pool: &pools.keys,
            value_pool: &pools.values,
            out: &to.buffer,
        };
        let shader = attention::shader(pools.format, self.reduce());
        let grid = Grid::Workgroups(self.rows(Rows::All) * op.heads);
        self.dispatch("attention", &shader, &params, buffers, grid)
    }
}
