//! Errors of an engine.

use super::MOST_DRAFTS;
use crate::arch::{ArchError, ConfigError};
use crate::backend::{BackendError, StepError};
use crate::checkpoint::{CheckpointError, WeightChoice};
use crate::state::{KvFormat, PagesExhausted, SamplerError, SnapshotError};
use crate::text::TextError;

/// Error of an engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// The model cannot be built.
    #[error(transparent)]
    Arch(#[from] ArchError),
    /// The tokenizer fails.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The device fails.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The KV pool is too small for all that is going on.
    #[error(transparent)]
    Pages(#[from] PagesExhausted),
    /// A step that cannot be run.
    #[error("a step cannot be run: {0}")]
    Step(#[from] StepError),
    /// A model that gives scores, loaded to generate.
    #[error(
        "the model has a classification head (labels: {0}) and no language-model head, so it cannot generate text; load it to score"
    )]
    NotCausalLm(String),
    /// A model that gives logits, loaded to score.
    #[error(
        "the model has a language-model head and no classification head, so it gives no scores; load it to generate"
    )]
    NotClassification,
    /// Text without a tokenizer.
    #[error("the checkpoint has no tokenizer.json, so it takes and gives token ids only")]
    NoTokenizer,
    /// A conversation for a model without a chat template.
    #[error(
        "{0} has no chat template, neither in tokenizer_config.json nor as chat_template.jinja, so it can continue plain text only"
    )]
    NoTemplate(String),
    /// More memory than may be taken.
    #[error(
        "the model needs {needed} bytes of memory ({weights} for weights, {state} for {slots} conversations of {context} tokens, {workspace} for work), and {budget} may be taken; choose a shorter context, smaller weights, or a smaller model"
    )]
    Budget {
        /// All of it.
        needed: u64,
        /// Bytes that may be taken.
        budget: u64,
        /// Weights as stored.
        weights: u64,
        /// The slots' memory.
        state: u64,
        /// Activations of a step, before fusion.
        workspace: u64,
        /// Slots.
        slots: usize,
        /// Tokens of each.
        context: usize,
    },
    /// A prompt without tokens.
    #[error("the prompt is empty, and the model adds no token of its own; give it at least one")]
    EmptyPrompt,
    /// An id beyond the vocabulary.
    #[error("token id {id} is not in the model's vocabulary of {vocabulary} (ids 0 to {})", vocabulary - 1)]
    UnknownToken {
        /// The id.
        id: u32,
        /// Size of the vocabulary, in tokens.
        vocabulary: usize,
    },
    /// A placeholder for an image or a video.
    #[error(
        "token id {id} is the `{field}` of config.json, a placeholder for an image or a video; only text is supported"
    )]
    Placeholder {
        /// The id.
        id: u32,
        /// The config's name for it.
        field: &'static str,
    },
    /// More tokens than a sequence can hold.
    #[error(
        "{tokens} tokens do not fit: the context holds {context}, {used} of them in use; shorten the text or load with a larger context"
    )]
    ContextFull {
        /// Tokens to be read.
        tokens: usize,
        /// Tokens read before.
        used: usize,
        /// Tokens a sequence can hold.
        context: usize,
    },
    /// A context that the model was not made for.
    #[error("a context of {asked} tokens was asked for, and the model allows 1 to {limit}")]
    Context {
        /// The context asked for, in tokens.
        asked: usize,
        /// The longest context by the config, in tokens.
        limit: usize,
    },
    /// More drafts than a step verifies.
    #[error("{asked} tokens cannot be drafted ahead of a step: at most {MOST_DRAFTS} are verified in one")]
    Drafts {
        /// Drafts asked for.
        asked: usize,
    },
    /// All slots are taken.
    #[error("all {0} slots are in use; close one or load with more")]
    NoSlot(usize),
    /// A place in a sequence that it has not reached.
    #[error("the sequence cannot go back to or by {asked} tokens: it has read {read}")]
    NotRead {
        /// Tokens asked for.
        asked: usize,
        /// Tokens that were read.
        read: usize,
    },
    /// A state checkpoint that was discarded, or dropped for want of room.
    #[error("the state checkpoint is gone: it was discarded, or its pages were needed")]
    NoCheckpoint,
    /// A saved state that cannot be restored here.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// A sampler with a parameter out of range.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// A slot that is not open.
    #[error("slot {0} is not open")]
    SlotClosed(u32),
    /// A span that does not begin where its slot ends.
    #[error("a span for slot {slot} begins at position {got}, the slot is at {position}")]
    Position {
        /// The slot.
        slot: u32,
        /// First position of the span.
        got: usize,
        /// Position at which it must begin.
        position: usize,
    },
    /// The last chosen token of a slot in which none was chosen.
    #[error("slot {0} cannot go on with the token it chose last: it has not chosen one yet")]
    NothingSampled(u32),
    /// Logits, or scores, of which at least one is NaN or plus infinity, or that are all minus infinity.
    #[error(
        "the model's outputs at position {position} are not finite numbers: {}",
        overflow_advice(*kv, *weights)
    )]
    NotFinite {
        /// Tokens of the sequence before the one at which they came.
        position: usize,
        /// Storage format of keys and values.
        kv: KvFormat,
        /// Storage format of the matrices.
        weights: WeightChoice,
    },
    /// A value that the graph does not have, or that the engine was not asked to keep.
    #[error("the engine keeps no value `{0}`")]
    NoValue(String),
}

impl EngineError {
    /// The device has no room for what was asked.
    pub fn lacks_memory(&self) -> bool {
        matches!(self, Self::Backend(BackendError::OutOfMemory { .. } | BackendError::Limit { .. }))
    }

    /// A text was refused: the engine and its other conversations are as they were, and another text may pass.
    pub fn refuses_text(&self) -> bool {
        matches!(
            self,
            Self::Text(_)
                | Self::ContextFull { .. }
                | Self::UnknownToken { .. }
                | Self::Placeholder { .. }
                | Self::EmptyPrompt
                | Self::NotFinite { .. }
        )
    }
}

/// The likeliest cause of outputs that are not finite, where all weights are.
fn overflow_advice(kv: KvFormat, weights: WeightChoice) -> &'static str {
    match (kv, weights) {
        (KvFormat::F16, _) => {
            "a key or a value is probably beyond what f16 holds (65504); load with keys and values in f32"
        }
        (_, WeightChoice::F32) => {
            "activations overflowed f32, so the checkpoint's weights are probably broken; take another copy of it"
        }
        _ => {
            "activations overflowed; load with weights in f32, and if that does not help, the checkpoint's weights are probably broken"
        }
    }
}

/// An error of the device stays one, even if the loader reports it.
impl From<CheckpointError> for EngineError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Sink { weight, source } => match source.downcast::<BackendError>() {
                Ok(error) => Self::Backend(*error),
                Err(source) => Self::Checkpoint(CheckpointError::Sink { weight, source }),
            },
            error => Self::Checkpoint(error),
        }
    }
}

impl From<ConfigError> for EngineError {
    fn from(error: ConfigError) -> Self {
        Self::Arch(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_device_stays_one() {
        let reported = |source| EngineError::from(CheckpointError::Sink { weight: "w".into(), source });
        let lost = reported(BackendError::DeviceLost("it is gone".into()).into());
        assert!(matches!(lost, EngineError::Backend(BackendError::DeviceLost(_))), "{lost}");
        let other = reported("no room".into());
        assert!(matches!(other, EngineError::Checkpoint(CheckpointError::Sink { .. })), "{other}");
    }
}
