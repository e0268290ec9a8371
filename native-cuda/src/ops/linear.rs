use super::{Count, Format, Step, View, WARP};
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

parameters! {
    /// `out[r, o] = sum_i weight[o, i] * x[r, i] + bias[o]`
    pub struct Linear {
        /// The step.
        pub step: Step,
        /// Rows begin on 32-byte boundaries.
        pub x: View,
        /// The result.
        pub out: View,
        /// Of `[at least out.width, x.width]`; rows begin on 16-byte boundaries.
        pub weight: u64,
        /// Of `f32 [out.width]`, or 0.
        pub bias: u64,
        /// Numbers from row to row of the weight.
        pub weight_pitch: u32,
        /// Which rows.
        pub count: Count,
    }
}

/// Threads of a block, in all variants.
pub(super) const THREADS: u32 = 256;
/// Outputs of a block of the variants for few rows: one a warp.
const WARPS: u32 = THREADS / WARP;
/// Rows that the variant for few rows takes at a time.
pub(super) const FEW: u32 = 4;
/// Rows, and outputs, of a block of the variant for many rows.
pub(super) const TILE: u32 = 64;
/// Up to here, reading the weights again for every [`FEW`] rows (from the cache) beats half-empty tiles.
/// A guess: to be measured on a GPU.
const MOST_OF_FEW: u32 = 16;

impl Linear {
    /// For at most `rows` rows and a weight stored in `format`.
    pub fn launch(self, device: &Device, format: Format, rows: u32) -> Result<Launch> {
        let (entries, grid) = if rows <= MOST_OF_FEW {
            let (entries, rows_at_once) = match rows {
                0..=1 => (["linear_one_f32", "linear_one_f16", "linear_one_bf16"], 1),
                _ => (["linear_few_f32", "linear_few_f16", "linear_few_bf16"], FEW),
            };
            (entries, [self.out.width.div_ceil(WARPS), rows.div_ceil(rows_at_once)])
        } else {
            let entries = ["linear_many_f32", "linear_many_f16", "linear_many_bf16"];
            (entries, [self.out.width.div_ceil(TILE), rows.div_ceil(TILE)])
        };
        let [f32, f16, bf16] = entries;
        let entry = match format {
            Format::F32 => f32,
            Format::F16 => f16,
            Format::Bf16 => bf16,
        };
        super::at_most(entry, "the number of tiles of rows", grid[1], MOST_ROWS_OF_BLOCKS)?;
        Launch::new(device, "linear", entry, grid, THREADS, self)
    }
}
