use super::{COLUMN_THREADS, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// Rotates the first `2 * pairs` columns of every head by the angle of the row's position.
    pub struct Rope {
        /// The step.
        pub step: Step,
        /// Heads side by side.
        pub x: View,
        /// The result.
        pub out: View,
        /// Of `f32 [positions, pairs, 2]`, cosines and sines.
        pub table: u64,
        /// Columns of a head.
        pub head_dim: u32,
        /// Pairs rotated.
        pub pairs: u32,
        /// Weight of the growth with the position; 0: none.
        pub beta: f32,
        /// Positions of the context behind which it begins, at least 1.
        pub original: u32,
    }
}

impl Rope {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        Launch::new(device, "rope", "rope_f32", columns_by_rows(self.x.width, rows), COLUMN_THREADS, self)
    }
}
