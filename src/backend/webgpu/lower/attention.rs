//! Softmax attention.

use super::Lowering;
use crate::backend::webgpu::forms::Form;
use crate::backend::webgpu::kernels::{attention, attention_flash, params};
use crate::backend::webgpu::limits::MATVEC_ROWS;
use crate::backend::webgpu::program::{Grid, MOST_WORKGROUPS};
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
            chunks_at: self.chunks_at(),
            scale: op.scale,
        };
        let words = [q_pitch, q_offset, k_pitch, k_offset, key_width as u32].iter().all(|n| n.is_multiple_of(4));
        let rows = self.rows(Rows::All);
        if self.gpu.forms.get().has(Form::Flash) && words && rows > MATVEC_ROWS {
            let group = op.heads / kv_heads;
            let grid =
                Grid::Tiles((rows * group).div_ceil(attention_flash::up_to_64::QUERIES).min(MOST_WORKGROUPS), kv_heads);
            let (pages, key_pool, value_pool) = (&pools.pages, &pools.keys, &pools.values);
            let (q, k, v, out) = (&q, &k, &v, &to.buffer);
            macro_rules! start {
                ($width:ident) => {{
                    let buffers = attention_flash::$width::Buffers { pages, q, k, v, key_pool, value_pool, out };
                    let shader = attention_flash::$width::shader(pools.format);
                    self.dispatch("attention", &shader, &params, buffers, grid)
                }};
            }
            return match value_width {
                0..=64 => start!(up_to_64),
                65..=128 => start!(up_to_128),
                _ => start!(up_to_256),
            };
        }
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
