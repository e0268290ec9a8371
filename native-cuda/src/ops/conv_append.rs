use super::{COLUMN_THREADS, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// Leaves the last rows of every span in a convolution's state. Runs after [`Conv`](super::Conv).
    pub struct ConvAppend {
        /// The step.
        pub step: Step,
        /// A column a channel.
        pub x: View,
        /// Of `f32 [slots + 1, kept, channels]`, oldest first.
        pub state: u64,
        /// Rows kept: d_conv - 1.
        pub kept: u32,
    }
}

impl ConvAppend {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        let grid = columns_by_rows(self.x.width, rows);
        Launch::new(device, "conv_append", "conv_append_f32", grid, COLUMN_THREADS, self)
    }
}
