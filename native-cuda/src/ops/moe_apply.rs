use super::{Count, Format, Function, Step, View, WARP};
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

parameters! {
    /// One half of the chosen experts' feed-forward: from `x` to what is hidden, or from there to `out`.
    pub struct MoeApply {
        /// The step.
        pub step: Step,
        /// Rows begin on 32-byte boundaries.
        pub x: View,
        /// Ids, then weights: `2 * top` columns.
        pub routes: View,
        /// The result.
        pub out: View,
        /// Of `[experts * width, inputs]`; rows begin on 16-byte boundaries.
        pub weight: u64,
        /// Of `f32 [rows * top, hidden_pitch]`.
        pub hidden: u64,
        /// Numbers from row to row of the weight.
        pub weight_pitch: u32,
        /// Numbers from pair to pair of what is hidden.
        pub hidden_pitch: u32,
        /// Experts.
        pub experts: u32,
        /// Rows of the weight an expert has.
        pub width: u32,
        /// Columns of the weight.
        pub inputs: u32,
        /// Which rows.
        pub count: Count,
        /// Between the two halves.
        pub function: Function,
        /// 1: the second half of what is hidden is multiplied with.
        pub gated: u32,
    }
}

/// Threads of a block.
pub(super) const THREADS: u32 = 256;
/// Outputs of a block: one a warp.
const WARPS: u32 = THREADS / WARP;

impl MoeApply {
    /// From `x` to what is hidden, for at most `rows` rows and a weight stored in `format`.
    pub fn launch_up(self, device: &Device, format: Format, rows: u32) -> Result<Launch> {
        let pairs = rows.saturating_mul(self.routes.width / 2);
        self.launch(device, ["moe_up_f32", "moe_up_f16", "moe_up_bf16"], format, pairs)
    }

    /// From what is hidden to the result.
    pub fn launch_down(self, device: &Device, format: Format, rows: u32) -> Result<Launch> {
        self.launch(device, ["moe_down_f32", "moe_down_f16", "moe_down_bf16"], format, rows)
    }

    fn launch(self, device: &Device, entries: [&'static str; 3], format: Format, rows: u32) -> Result<Launch> {
        let [f32, f16, bf16] = entries;
        let entry = match format {
            Format::F32 => f32,
            Format::F16 => f16,
            Format::Bf16 => bf16,
        };
        let grid = [self.width.div_ceil(WARPS), rows.min(MOST_ROWS_OF_BLOCKS)];
        Launch::new(device, "moe_apply", entry, grid, THREADS, self)
    }
}
