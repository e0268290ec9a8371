//! The choice of tokens, and what follows from it for the next step.

use super::Lowering;
use crate::backend::webgpu::kernels::{params, sample};
use crate::backend::webgpu::program::Grid;
use crate::backend::{Result, StepTable};
use crate::graph::Rows;
use crate::graph::ops::Sample;

impl Lowering<'_> {
    /// Keeps the step from changing what finished slots remember.
    pub(super) fn freeze(&mut self) -> Result<()> {
        let params = params::SampleFreeze { spans_at: (StepTable::spans_at(self.spec.rows) / 4) as u32 };
        let samplers = self.memory.samplers.clone();
        let buffers = sample::freeze::Buffers { samplers: &samplers };
        self.dispatch("freeze", &sample::freeze::shader(), &params, buffers, Grid::Invocations(self.spec.rows))
    }

    pub(super) fn sample(&mut self, op: &Sample) -> Result<()> {
        let from = self.place(op.logits)?;
        let rows = self.rows(Rows::Outputs);
        let sampled = self.gpu.storage("sampled", (rows * 4) as u64)?;
        let memory = &self.memory;
        let (samplers, counts) = (memory.samplers.clone(), memory.counts.clone());
        let (biases, masks) = (memory.biases.clone(), memory.masks.clone());
        let (vocabulary, pitch, draft) = (from.width as u32, from.pitch as u32, u32::from(op.draft));
        let params = params::Sample { vocabulary, pitch, draft };
        let (logits, sampled_to) = (&from.buffer, &sampled);
        let (samplers, counts, biases, masks) = (&samplers, &counts, &biases, &masks);
        let buffers = sample::Buffers { logits, sampled: sampled_to, samplers, counts, biases, masks };
        self.dispatch("sample", &sample::shader(), &params, buffers, Grid::Tiles(rows, 1))?;
        self.sampled = Some(sampled);
        Ok(())
    }
}
