use super::{COLUMN_THREADS, Count, Function, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// `out = function(gate) * x`
    pub struct Gate {
        /// The step.
        pub step: Step,
        /// A column for each of `out`, or for each of equal runs of them.
        pub gate: View,
        /// As wide as `out`.
        pub x: View,
        /// The result.
        pub out: View,
        /// Which rows.
        pub count: Count,
        /// Applied to `gate`.
        pub function: Function,
    }
}

impl Gate {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        Launch::new(device, "gate", "gate_f32", columns_by_rows(self.out.width, rows), COLUMN_THREADS, self)
    }
}
