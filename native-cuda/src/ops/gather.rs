use super::{COLUMN_THREADS, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// The rows whose logits are wanted.
    pub struct Gather {
        /// The step.
        pub step: Step,
        /// As wide as `out`.
        pub x: View,
        /// One row an output.
        pub out: View,
    }
}

impl Gather {
    /// For at most `outputs` outputs.
    pub fn launch(self, device: &Device, outputs: u32) -> Result<Launch> {
        Launch::new(device, "gather", "gather_f32", columns_by_rows(self.out.width, outputs), COLUMN_THREADS, self)
    }
}
