use super::{COLUMN_THREADS, Count, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// `out = a + scale * b`
    pub struct Add {
        /// The step.
        pub step: Step,
        /// As wide as `out`.
        pub a: View,
        /// As wide as `out`.
        pub b: View,
        /// The result.
        pub out: View,
        /// Which rows.
        pub count: Count,
        /// Factor on `b`.
        pub scale: f32,
    }
}

impl Add {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        Launch::new(device, "add", "add_f32", columns_by_rows(self.out.width, rows), COLUMN_THREADS, self)
    }
}
