use super::{COLUMN_THREADS, Count, Function, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// `out = function(x) * scale`
    pub struct Activation {
        /// The step.
        pub step: Step,
        /// As wide as `out`.
        pub x: View,
        /// The result.
        pub out: View,
        /// Which rows.
        pub count: Count,
        /// Applied to `x`.
        pub function: Function,
        /// Factor on the result.
        pub scale: f32,
    }
}

impl Activation {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        let grid = columns_by_rows(self.out.width, rows);
        Launch::new(device, "activation", "activation_f32", grid, COLUMN_THREADS, self)
    }
}
