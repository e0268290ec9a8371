//! Scores of a text, from a model whose head gives one number a label instead of words.

use super::{Engine, EngineError, PREFILL_ROWS};
use crate::arch::Head;
use crate::backend::Outputs;
use crate::state::SlotId;

/// What an engine is loaded for. A model that cannot do it is refused before its weights are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To choose words.
    #[default]
    Write,
    /// To give scores.
    Score,
}

impl Purpose {
    /// Refuses the other kind of head.
    pub(super) fn check(self, head: &Head) -> Result<(), EngineError> {
        match (self, head) {
            (Self::Write, Head::Words) | (Self::Score, Head::Scores(_)) => Ok(()),
            (Self::Write, Head::Scores(labels)) => Err(EngineError::GivesScores(labels.join(", "))),
            (Self::Score, Head::Words) => Err(EngineError::GivesWords),
        }
    }
}

impl Engine {
    /// Reads a text that continues the slot's, and gives the score of each of the model's labels after its last
    /// token. Nothing is read unless the whole text can be.
    pub async fn score(&mut self, slot: SlotId, text: &[u32]) -> Result<Vec<f32>, EngineError> {
        Purpose::Score.check(&self.model.head)?;
        self.check_prompt(slot, text)?;
        let mut scores = vec![];
        for ids in text.chunks(PREFILL_ROWS) {
            // Waiting for the scores of every span keeps no more than one step on the device.
            let step = self.feed(slot, ids, Outputs::Last)?;
            scores = self.logits(&step).await?;
        }
        Ok(scores)
    }
}
