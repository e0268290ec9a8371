use super::{COLUMN_THREADS, Function, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// Depthwise causal convolution over every span; reads the state only.
    pub struct Conv {
        /// The step.
        pub step: Step,
        /// A column a channel.
        pub x: View,
        /// The result.
        pub out: View,
        /// Of `f32 [channels, d_conv]`.
        pub weight: u64,
        /// Of `f32 [channels]`, or 0.
        pub bias: u64,
        /// Of `f32 [slots + 1, d_conv - 1, channels]`, oldest first.
        pub state: u64,
        /// Rows that a row is made of.
        pub d_conv: u32,
        /// Applied to the sum.
        pub function: Function,
    }
}

impl Conv {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        Launch::new(device, "conv", "conv_f32", columns_by_rows(self.x.width, rows), COLUMN_THREADS, self)
    }
}
