use super::{Step, View};
use crate::{Device, Launch, Result};

parameters! {
    /// A choice from every row of logits: for the host, and for the row's slot.
    pub struct Sample {
        /// The step.
        pub step: Step,
        /// A row an output.
        pub logits: View,
        /// Of the slots' samplers: `u32 [slots + 1, SAMPLER_WORDS]`.
        pub samplers: u64,
        /// Of how often each slot chose each token: `u32 [slots + 1, vocabulary]`.
        pub counts: u64,
        /// Of what is added to each slot's logits: `f32 [slots + 1, vocabulary]`.
        pub biases: u64,
        /// Of which tokens each slot may choose: `u32 [slots + 1, ceil(vocabulary / 32)]`.
        pub masks: u64,
        /// Of `u32 [outputs]`.
        pub results: u64,
    }
}

/// Threads of a block that chooses.
pub(super) const THREADS: u32 = 1024;
/// Threads of a block of `sample_freeze`.
pub(super) const FREEZE_THREADS: u32 = 64;

impl Sample {
    /// For at most `outputs` outputs.
    pub fn launch(self, device: &Device, outputs: u32) -> Result<Launch> {
        Launch::new(device, "sample", "sample_f32", [outputs, 1], THREADS, self)
    }

    /// What keeps a step of at most `spans` spans from changing finished slots; it comes before all others.
    pub fn freeze(self, device: &Device, spans: u32) -> Result<Launch> {
        let grid = [spans.div_ceil(FREEZE_THREADS), 1];
        Launch::new(device, "sample", "sample_freeze", grid, FREEZE_THREADS, self)
    }
}
