//! Softmax attention.

use selvedge_cuda::Launch;
use selvedge_cuda::ops::{self as kernels, NO_WINDOW};

use super::Lowering;
use crate::backend::Result;
use crate::backend::checks::misuse;
use crate::graph::ops::Attention;

impl Lowering<'_> {
    pub(super) fn attention(&self, op: &Attention) -> Result<Launch> {
        let Some(kv) = self.graph.kv(op.state) else { return misuse("attention over what is not KV".into()) };
        let pools = self.memory.pools(op.state, kv)?;
        let window_of = |window: Option<usize>| window.map_or(NO_WINDOW, |window| window as u32);
        let kernel = kernels::Attention {
            step: self.step,
            q: self.view(op.q),
            k: self.view(op.k),
            v: self.view(op.v),
            out: self.whole(op.out),
            keys: pools.keys,
            values: pools.values,
            kv: pools.rows,
            heads: op.heads as u32,
            kv_heads: kv.heads as u32,
            key_width: kv.key_width as u32,
            value_width: kv.value_width as u32,
            window: window_of(op.window),
            decode_window: window_of(op.decode_window),
            scale: op.scale,
        };
        Ok(kernel.launch(self.device, pools.format, self.all())?)
    }
}
