//! The choice of tokens, and what follows from it for the next step.

use super::{ELEMENTS, Lowering, wrapped};
use crate::backend::Result;
use crate::backend::webgpu::params;
use crate::graph::Rows;
use crate::graph::ops::Sample;

impl Lowering<'_> {
    /// Keeps the step from changing what finished slots remember.
    pub(super) fn freeze(&mut self) -> Result<()> {
        let params = params::Freeze { spans_at: 1 + self.spec.rows as u32 };
        let samplers = self.memory.samplers.clone();
        let workgroups = wrapped(self.spec.rows.div_ceil(ELEMENTS));
        self.dispatch("freeze", "sample.freeze", &[], &params, &[&samplers], workgroups)
    }

    pub(super) fn sample(&mut self, op: &Sample) -> Result<()> {
        let from = self.place(op.logits)?;
        let rows = self.rows(Rows::Outputs);
        let sampled = self.gpu.storage("sampled", (rows * 4) as u64)?;
        let (samplers, counts) = (self.memory.samplers.clone(), self.memory.counts.clone());
        let params = params::Sample { vocabulary: from.width as u32, pitch: from.pitch as u32 };
        let buffers = [&from.buffer, &sampled, &samplers, &counts];
        self.dispatch("sample", "sample", &[], &params, &buffers, [rows as u32, 1, 1])?;
        self.sampled = Some(sampled);
        Ok(())
    }
}
