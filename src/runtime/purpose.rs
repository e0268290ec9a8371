//! Purpose of a loaded model: text or scores.

use super::EngineError;
use crate::arch::Head;

/// What an engine is loaded for. A model that cannot do it is refused before its weights are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// To choose words.
    #[default]
    Generate,
    /// To give scores.
    Score,
}

impl Purpose {
    /// Refuses the other kind of head.
    pub(crate) fn check(self, head: &Head) -> Result<(), EngineError> {
        match (self, head) {
            (Self::Generate, Head::Words) | (Self::Score, Head::Scores(_)) => Ok(()),
            (Self::Generate, Head::Scores(labels)) => Err(EngineError::NotCausalLm(labels.join(", "))),
            (Self::Score, Head::Words) => Err(EngineError::NotClassification),
        }
    }
}
