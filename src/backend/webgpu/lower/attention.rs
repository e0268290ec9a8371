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

/// Positions of the context, or of a window, for which decode has a slice, and so a workgroup for the heads that share keys.
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
        let mut params = params::Attention {
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
        let (_, numbers) = read(&[q_pitch, q_offset, k_pitch, k_offset, key_width as u32]);
        let rows = self.rows(Rows::All);
        let form = if rows > MATVEC_ROWS { Form::Flash } else { Form::Split };
        if numbers > 1 && self.gpu.forms.get().has(form) {
            let slices = if form == Form::Split { self.slices(op, pinned) } else { 1 };
            params.slices = slices as u32;
            let (queries, group) = (attention_flash::up_to_64::QUERIES, op.heads / kv_heads);
            // Few rows may be spans of one each, which share no tile.
            let tiles =
                if form == Form::Split { rows * group.div_ceil(queries) } else { (rows * group).div_ceil(queries) };
            let grid = Grid::Tiles(tiles.min(MOST_WORKGROUPS), kv_heads * slices);
            let (pages, key_pool, value_pool) = (&pools.pages, &pools.keys, &pools.values);
            let (q, k, v, out) = (&q, &k, &v, &to.buffer);
            macro_rules! start {
                ($form:ident, $result:ident) => {
                    match value_width {
                        0..=64 => start!($form, up_to_64, $result),
                        65..=128 => start!($form, up_to_128, $result),
                        _ => start!($form, up_to_256, $result),
                    }
                };
                ($form:ident, $width:ident, $result:ident) => {{
                    let buffers = $form::$width::Buffers { pages, q, k, v, key_pool, value_pool, $result };
                    self.dispatch("attention", &$form::$width::shader(pools.format), &params, buffers, grid)
                }};
            }
            if slices == 1 {
                return start!(attention_flash, out);
            }
            let parts = &self.scratch(0)?;
            start!(attention_split, parts)?;
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

    /// Slices of the keys that a few rows may see.
    fn slices(&self, op: &Attention, pinned: usize) -> usize {
        let context = self.memory.layout.context;
        let seen = match (op.window, op.decode_window) {
            (Some(window), Some(decode_window)) => context.min(pinned + window.max(decode_window)),
            _ => context,
        };
        (seen / KEYS_OF_SLICE).clamp(1, MOST_SLICES)
    }
}
