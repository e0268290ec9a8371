use super::{Step, View, WARP, at_most};
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

parameters! {
    /// The Mamba-2 recurrence over every span; reads and writes the state.
    pub struct SsdScan {
        /// The step.
        pub step: Step,
        /// `heads * P` columns.
        pub x: View,
        /// `heads` columns, before bias and softplus.
        pub dt: View,
        /// `groups * N` columns.
        pub b: View,
        /// `groups * N` columns.
        pub c: View,
        /// The result.
        pub out: View,
        /// Of `f32 [heads]`, negative.
        pub a: u64,
        /// Of `f32 [heads]`.
        pub d: u64,
        /// Of `f32 [heads]`.
        pub dt_bias: u64,
        /// Of `f32 [slots + 1, heads, P, N]`.
        pub state: u64,
        /// Heads.
        pub heads: u32,
        /// Groups of heads that share `b` and `c`.
        pub groups: u32,
        /// Least step.
        pub least: f32,
        /// Largest step.
        pub most: f32,
    }
}

/// Threads of a block.
pub(super) const THREADS: u32 = 128;
/// Columns of a block: one a warp.
const WARPS: u32 = THREADS / WARP;
/// Largest `N`: every thread has room for eight states.
pub(super) const MOST_STATES: u32 = 8 * WARP;

impl SsdScan {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        let states = self.b.width / self.groups.max(1);
        at_most("ssd_scan_f32", "the size of a column's state", states, MOST_STATES)?;
        let grid = [self.x.width.div_ceil(WARPS), rows.min(MOST_ROWS_OF_BLOCKS)];
        Launch::new(device, "ssd_scan", "ssd_scan_f32", grid, THREADS, self)
    }
}
