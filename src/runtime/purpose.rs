//! Purpose of a loaded model: text or scores.

use super::EngineError;
use crate::arch::Head;

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
    pub(crate) fn check(self, head: &Head) -> Result<(), EngineError> {
        match (self, head) {
            (Self::Write, Head::Words) | (Self::Score, Head::Scores(_)) => Ok(()),
            (Self::Write, Head::Scores(labels)) => Err(EngineError::GivesScores(labels.join(", "))),
            (Self::Score, Head::Words) => Err(EngineError::GivesWords),
        }
    }
}
