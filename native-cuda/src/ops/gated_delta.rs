use super::{Step, View, at_most};
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

parameters! {
    /// The gated delta rule over every span; reads and writes the state.
    pub struct GatedDelta {
        /// The step.
        pub step: Step,
        /// `key_heads * keys` columns, normed.
        pub q: View,
        /// `key_heads * keys` columns, normed.
        pub k: View,
        /// `heads * values` columns.
        pub v: View,
        /// `heads` columns, before the sigmoid.
        pub beta: View,
        /// `heads` columns, before bias and softplus.
        pub dt: View,
        /// The result.
        pub out: View,
        /// Of `f32 [heads]`, negative.
        pub a: u64,
        /// Of `f32 [heads]`.
        pub dt_bias: u64,
        /// Of `f32 [slots + 1, heads, keys, values]`.
        pub state: u64,
        /// Value heads.
        pub heads: u32,
        /// Query and key heads.
        pub key_heads: u32,
        /// Factor on the queries.
        pub scale: f32,
    }
}

/// Threads of a block: eight warps share the keys of 32 value columns.
pub(super) const THREADS: u32 = 256;
/// Value columns of a block.
pub(super) const COLUMNS: u32 = 32;
/// Widest key: every thread has room for 32 states.
pub(super) const MOST_KEYS: u32 = 8 * 32;

impl GatedDelta {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        let (keys, values) = (self.q.width / self.key_heads.max(1), self.v.width / self.heads.max(1));
        at_most("gated_delta_f32", "the width of a key", keys, MOST_KEYS)?;
        let grid = [self.heads * values.div_ceil(COLUMNS), rows.min(MOST_ROWS_OF_BLOCKS)];
        Launch::new(device, "gated_delta", "gated_delta_f32", grid, THREADS, self)
    }
}
