use super::{Count, Step, View, WARP, at_most};
use crate::constants::{NORM_L2, NORM_LAYER, NORM_RMS};
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

/// Which statistics a norm takes, as its kernel numbers them.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// `x / sqrt(mean(x^2) + eps)`
    Rms = NORM_RMS,
    /// `(x - mean(x)) / sqrt(var(x) + eps)`
    Layer = NORM_LAYER,
    /// `x / sqrt(sum(x^2) + eps)`
    L2 = NORM_L2,
}

parameters! {
    /// Each group of columns normed for itself, times `weight`, plus `bias`.
    pub struct Norm {
        /// The step.
        pub step: Step,
        /// As wide as `out`.
        pub x: View,
        /// The result.
        pub out: View,
        /// Of `f32 [weight_width]`, or 0.
        pub weight: u64,
        /// Of `f32 [bias_width]`, or 0.
        pub bias: u64,
        /// Which rows.
        pub count: Count,
        /// Columns of a group; they divide the width.
        pub group: u32,
        /// All columns, or one group's.
        pub weight_width: u32,
        /// All columns, or one group's.
        pub bias_width: u32,
        /// Which statistics.
        pub kind: NormKind,
        /// Added below the root.
        pub eps: f32,
    }
}

/// Most threads of a block.
pub(super) const MOST_THREADS: u32 = 512;

impl Norm {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        let groups = self.x.width / self.group.max(1);
        at_most("norm_f32", "the number of groups", groups, MOST_ROWS_OF_BLOCKS)?;
        // Whole warps, about four columns a thread.
        let threads = self.group.div_ceil(4).next_multiple_of(WARP).clamp(WARP, MOST_THREADS);
        Launch::new(device, "norm", "norm_f32", [rows, groups], threads, self)
    }
}
