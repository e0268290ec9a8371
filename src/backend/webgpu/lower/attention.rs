//! Softmax attention.

use super::{Lowering, read};
use crate::backend::webgpu::forms::Form;
use crate::backend::webgpu::kernels::{attention, attention_flash, attention_merge, attention_split, params};
use crate::backend::webgpu::limits::{MATVEC_ROWS, MOST_SLICES};
use crate::backend::webgpu::program::{Grid, MOST_WORKGROUPS};
use crate::backend::{BackendError, Result};
use crate::constants::{NO_WINDOW, WIDEST_HEAD};
use crate::graph::ops::Attention;
use crate::graph::{KvSpec, Rows};

/// Keys for which decode has a slice, and so a workgroup for the heads that share them.
const KEYS_OF_SLICE: usize = 512;

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
            slices: 1,
            scale: op.scale,
        };
        let (how, _) = read(&[q_pitch, q_offset, k_pitch, k_offset, key_width as u32]);
        let rows = self.rows(Rows::All);
        let form = if rows > MATVEC_ROWS { Form::Flash } else { Form::Split };
        if how == "vector" && self.gpu.forms.get().has(form) {
            let widest = op.window.max(op.decode_window).filter(|_| op.window.is_some() && op.decode_window.is_some());
            let context = self.memory.layout.context;
            let seen = widest.map_or(context, |window| context.min(pinned + window));
            let slices = if form == Form::Split { (seen / KEYS_OF_SLICE).clamp(1, MOST_SLICES) } else { 1 };
            let params = params::Attention { slices: slices as u32, ..params };
            let tiles = (rows * op.heads / kv_heads).div_ceil(attention_flash::up_to_64::QUERIES).min(MOST_WORKGROUPS);
            let grid = Grid::Tiles(tiles, kv_heads * slices);
            let (pages, key_pool, value_pool) = (&pools.pages, &pools.keys, &pools.values);
            let (q, k, v, out) = (&q, &k, &v, &to.buffer);
            let parts = if slices > 1 { &self.scratch(0)? } else { out };
            macro_rules! start {
                ($width:ident) => {
                    if slices > 1 {
                        let buffers = attention_split::$width::Buffers { pages, q, k, v, key_pool, value_pool, parts };
                        let shader = attention_split::$width::shader(pools.format);
                        self.dispatch("attention", &shader, &params, buffers, grid)
                    } else {
                        let buffers = attention_flash::$width::Buffers { pages, q, k, v, key_pool, value_pool, out };
                        let shader = attention_flash::$width::shader(pools.format);
                        self.dispatch("attention", &shader, &params, buffers, grid)
                    }
                };
            }
            match value_width {
                0..=64 => start!(up_to_64),
                65..=128 => start!(up_to_128),
                _ => start!(up_to_256),
            }?;
            if slices == 1 {
                return Ok(());
            }
            let buffers = attention_merge::Buffers { parts, out };
            let grid = self.elements(Rows::All, op.heads * value_width);
            return self.dispatch("attention", &attention_merge::shader(), &params, buffers, grid);
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
