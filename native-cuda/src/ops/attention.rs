use super::{KvFormat, KvRows, Step, View, at_most};
use crate::constants::WIDEST_HEAD;
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

parameters! {
    /// Softmax attention over the keys before every span and the span's own; reads the pools only.
    pub struct Attention {
        /// The step.
        pub step: Step,
        /// `heads * key_width` columns.
        pub q: View,
        /// `kv_heads * key_width` columns, rotated.
        pub k: View,
        /// `kv_heads * value_width` columns.
        pub v: View,
        /// `heads * value_width` columns.
        pub out: View,
        /// Of the pool of keys: `[rows, kv_heads * key_width]`.
        pub keys: u64,
        /// Of the pool of values: `[rows, kv_heads * value_width]`.
        pub values: u64,
        /// Where a position's row lies in both.
        pub kv: KvRows,
        /// Query heads.
        pub heads: u32,
        /// KV heads; they divide the query heads.
        pub kv_heads: u32,
        /// Columns of a head of keys.
        pub key_width: u32,
        /// Columns of a head of values.
        pub value_width: u32,
        /// Keys seen before a row's own, besides the pinned ones; or [`NO_WINDOW`](super::NO_WINDOW).
        pub window: u32,
        /// The same for spans of one row.
        pub decode_window: u32,
        /// Factor on the scores.
        pub scale: f32,
    }
}

/// Threads of a block.
pub(super) const THREADS: u32 = 128;

impl Attention {
    /// For at most `rows` rows and pools stored in `format`.
    pub fn launch(self, device: &Device, format: KvFormat, rows: u32) -> Result<Launch> {
        let entry = match format {
            KvFormat::F32 => "attention_f32",
            KvFormat::F16 => "attention_f16",
        };
        at_most(entry, "the width of a head of keys", self.key_width, WIDEST_HEAD)?;
        at_most(entry, "the width of a head of values", self.value_width, WIDEST_HEAD)?;
        at_most(entry, "the number of heads", self.heads, MOST_ROWS_OF_BLOCKS)?;
        Launch::new(device, "attention", entry, [rows, self.heads], THREADS, self)
    }
}
