//! Scores of a text, from a model whose head gives one number for each label instead of logits over a vocabulary.

use crate::backend::Outputs;
use crate::runtime::{Engine, EngineError, PREFILL_ROWS, Purpose};
use crate::state::SlotId;

impl Engine {
    /// Reads a text that continues the slot's, and gives the score of each of the model's labels after its last
    /// token. Nothing is read unless the whole text can be.
    pub async fn score(&mut self, slot: SlotId, text: &[u32]) -> Result<Vec<f32>, EngineError> {
        Purpose::Score.check(&self.model().head)?;
        self.check_prompt(slot, text)?;
        let mut scores = vec![];
        for ids in text.chunks(PREFILL_ROWS) {
            // Waiting for the scores of every span keeps no more than one step on the device.
            let step = self.enqueue(slot, ids, Outputs::Last)?;
            scores = self.logits(&step).await?;
        }
        Ok(scores)
    }
}
