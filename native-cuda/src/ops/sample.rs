use super::{Step, View};
use crate::{Device, Launch, Result};

/// The id of the largest of every row of logits: for the host, and for the row's slot.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// The step.
    pub step: Step,
    /// A row an output.
    pub logits: View,
    /// Of the token last sampled in each slot: `u32 [slots + 1]`.
    pub sampled: u64,
    /// Of `u32 [outputs]`.
    pub results: u64,
}

impl Sample {
    /// For at most `outputs` outputs.
    pub fn launch(self, device: &Device, outputs: u32) -> Result<Launch> {
        Launch::new(device, "sample", "sample_f32", [outputs, 1], 1024, self)
    }
}
