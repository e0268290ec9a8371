use super::{COLUMN_THREADS, KvFormat, KvRows, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// Puts the keys and values of every row into the pools. Runs after the last reader of the pools.
    pub struct KvAppend {
        /// The step.
        pub step: Step,
        /// `kv_heads * key_width` columns, rotated.
        pub k: View,
        /// `kv_heads * value_width` columns.
        pub v: View,
        /// Of the pool of keys: `[rows, k.width]`.
        pub keys: u64,
        /// Of the pool of values: `[rows, v.width]`.
        pub values: u64,
        /// Where a position's row lies in both.
        pub kv: KvRows,
    }
}

impl KvAppend {
    /// For at most `rows` rows and pools stored in `format`.
    pub fn launch(self, device: &Device, format: KvFormat, rows: u32) -> Result<Launch> {
        let entry = match format {
            KvFormat::F32 => "kv_append_f32",
            KvFormat::F16 => "kv_append_f16",
        };
        let grid = columns_by_rows(self.k.width + self.v.width, rows);
        Launch::new(device, "kv_append", entry, grid, COLUMN_THREADS, self)
    }
}
