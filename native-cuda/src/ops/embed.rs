use super::{COLUMN_THREADS, Format, Step, View, columns_by_rows};
use crate::{Device, Launch, Result};

parameters! {
    /// `out[r] = table[token(r)] * scale`
    pub struct Embed {
        /// The step.
        pub step: Step,
        /// Of `[ids, width]`, rows `table_pitch` numbers apart.
        pub table: u64,
        /// Of the slots' samplers: `u32 [slots + 1, SAMPLER_WORDS]`.
        pub samplers: u64,
        /// The result.
        pub out: View,
        /// Rows of the table; an id past them reads as zeros.
        pub ids: u32,
        /// Numbers from row to row.
        pub table_pitch: u32,
        /// Factor on every number.
        pub scale: f32,
    }
}

impl Embed {
    /// For at most `rows` rows and a table stored in `format`.
    pub fn launch(self, device: &Device, format: Format, rows: u32) -> Result<Launch> {
        let entry = match format {
            Format::F32 => "embed_f32",
            Format::F16 => "embed_f16",
            Format::Bf16 => "embed_bf16",
        };
        Launch::new(device, "embed", entry, columns_by_rows(self.out.width, rows), COLUMN_THREADS, self)
    }
}
