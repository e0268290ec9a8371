use super::{Step, View, at_most};
use crate::launch::MOST_ROWS_OF_BLOCKS;
use crate::{Device, Launch, Result};

parameters! {
    /// The Mamba-1 recurrence over every span; reads and writes the state.
    pub struct SelectiveScan {
        /// The step.
        pub step: Step,
        /// A column a channel.
        pub x: View,
        /// A column a channel, before softplus.
        pub dt: View,
        /// `N` columns.
        pub b: View,
        /// `N` columns.
        pub c: View,
        /// The result.
        pub out: View,
        /// Of `f32 [channels, N]`, negative.
        pub a: u64,
        /// Of `f32 [channels]`.
        pub d: u64,
        /// Of `f32 [slots + 1, channels, N]`.
        pub state: u64,
    }
}

/// Threads of a block.
pub(super) const THREADS: u32 = 128;
/// Threads that share a channel.
pub(super) const LANES: u32 = 8;
/// Largest `N`: every thread has room for eight states.
pub(super) const MOST_STATES: u32 = 8 * LANES;

impl SelectiveScan {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        at_most("selective_scan_f32", "the size of a channel's state", self.b.width, MOST_STATES)?;
        let grid = [self.x.width.div_ceil(THREADS / LANES), rows.min(MOST_ROWS_OF_BLOCKS)];
        Launch::new(device, "selective_scan", "selective_scan_f32", grid, THREADS, self)
    }
}
