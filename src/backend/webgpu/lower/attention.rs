//! Softmax attention.

use super::{Lowering, wrapped};
use crate::backend::webgpu::params;
use crate::backend::{BackendError, Result};
use crate::graph::ops::Attention;
use crate::graph::{KvSpec, Rows};

/// Widest key or value that `attention/attention.wgsl` holds.
const WIDEST_HEAD: usize = 256;

impl Lowering<'_> {
    pub(super) fn attention(&mut self, op: &Attention) -> Result<()> {
        let pools = self.pools(op.state)?;
        let KvSpec { heads: kv_heads, key_width, value_width, pinned, .. } = pools.spec;
        if key_width.max(value_width) > WIDEST_HEAD {
            let what = format!("heads of {key_width} and {value_width} columns (at most {WIDEST_HEAD})");
            return Err(BackendError::Unsupported { backend: "webgpu", what });
        }
        let (q, q_pitch, q_offset) = self.source(op.q)?;
        let (k, k_pitch, k_offset) = self.source(op.k)?;
        let (v, v_pitch, v_offset) = self.source(op.v)?;
        let to = self.place(op.out)?;
        let reach = |window: Option<usize>| window.map_or(u32::MAX, |w| w as u32);
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
        let shader = format!("attention.{}.{}", pools.format, self.reduce());
        let buffers = [&pools.pages, &q, &k, &v, &pools.keys, &pools.values, &to.buffer];
        let workgroups = wrapped(self.rows(Rows::All) * op.heads);
        self.dispatch("attention", &shader, &[], &params, &buffers, workgroups)
    }
}
