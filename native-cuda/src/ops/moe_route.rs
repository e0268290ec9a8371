use super::{Count, Step, View, at_most};
use crate::constants::MOST_EXPERTS;
use crate::{Device, Launch, Result};

parameters! {
    /// The choice of experts of every row, and their weights.
    pub struct MoeRoute {
        /// The step.
        pub step: Step,
        /// A column an expert.
        pub logits: View,
        /// Ids, then weights.
        pub out: View,
        /// Of `f32 [experts]`, or 0.
        pub bias: u64,
        /// Which rows.
        pub count: Count,
        /// Equal runs of experts.
        pub n_group: u32,
        /// Groups that are looked at.
        pub topk_group: u32,
        /// 1: weights are sigmoids, 0: a softmax.
        pub sigmoid: u32,
        /// 1: the chosen ones' weights are divided by their sum; 0: sigmoids are not, a softmax is over all.
        pub normed: u32,
        /// Added to the sum of sigmoids that is divided by.
        pub epsilon: f32,
        /// Factor on sigmoids.
        pub scale: f32,
    }
}

/// Threads of a block.
pub(super) const THREADS: u32 = 128;

impl MoeRoute {
    /// For at most `rows` rows.
    pub fn launch(self, device: &Device, rows: u32) -> Result<Launch> {
        at_most("moe_route_f32", "the number of experts", self.logits.width, MOST_EXPERTS)?;
        Launch::new(device, "moe_route", "moe_route_f32", [rows, 1], THREADS, self)
    }
}
