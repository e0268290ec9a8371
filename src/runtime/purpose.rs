//! Purpose of a loaded model: text or scores.

use super::EngineError;
use crate::arch::Head;

/// Purpose of a loaded model. A model whose head does not serve it is refused before its weights are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Generate text: the head gives logits over the vocabulary.
    #[default]
    Generate,
    /// Score text: the head gives one number for each label.
    Score,
    /// Whatever the model's head serves.
    Any,
}

impl Purpose {
    /// Refuses a model whose head does not serve the purpose.
    pub(crate) fn check(self, head: &Head) -> Result<(), EngineError> {
        match (self, head) {
            (Self::Any, _) | (Self::Generate, Head::CausalLm) | (Self::Score, Head::Classification(_)) => Ok(()),
            (Self::Generate, Head::Classification(labels)) => Err(EngineError::NotCausalLm(labels.join(", "))),
            (Self::Score, Head::CausalLm) => Err(EngineError::NotClassification),
        }
    }
}
