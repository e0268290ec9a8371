//! Jobs of the engine's thread: what is asked, and what becomes of it.

use std::time::{Duration, Instant};

use selvedge::generate::scheduler::PoolingTask;
use selvedge::generate::{ChatRequest, FinishReason, GenerateOptions};
use selvedge::runtime::{Cancel, EngineError};
use selvedge::state::Snapshot;
use tokio::sync::{mpsc as tokio_mpsc, oneshot};

use crate::reader::Part;

/// Why a job was not done.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// What was asked for cannot be.
    #[error("{0}")]
    Bad(String),
    /// A text that is longer than the context.
    #[error("{0}")]
    TooLong(String),
    /// As many requests wait as may.
    #[error("{0} requests are waiting already: try again later")]
    Busy(usize),
    /// A slot is needed that is at work.
    #[error("{0}: try again when its reply has ended")]
    AtWork(String),
    /// A model finds no memory beside those that are in use.
    #[error("the models in use leave no room: {0}")]
    NoRoom(String),
    /// The device failed.
    #[error("{0}")]
    Failed(String),
}

impl Refused {
    pub fn of(error: &EngineError) -> Self {
        let text = error.to_string();
        match error {
            EngineError::ContextFull { .. } => Self::TooLong(text),
            EngineError::NotFinite { .. } => Self::Failed(text),
            EngineError::Sampler(_)
            | EngineError::NoTokenizer
            | EngineError::NotCausalLm(_)
            | EngineError::NotClassification
            | EngineError::Snapshot(_) => Self::Bad(text),
            EngineError::NoSlot(_) => Self::AtWork("all slots are at work".into()),
            error if error.refuses_text() => Self::Bad(text),
            _ => Self::Failed(text),
        }
    }
}

/// What becomes of a reply.
#[derive(Debug)]
pub(crate) enum ReplyEvent {
    /// Its prompt is being read. The ids are there where they are wanted.
    Begun { prompt_tokens: usize, cached_tokens: usize, ids: Option<Vec<u32>> },
    /// Text of it.
    Part(Part),
    /// The vector that was asked for.
    Pooled(Vec<f32>),
    /// It is over.
    Ended { reason: FinishReason, made_tokens: usize, timings: Timings },
    /// There is no more of it.
    Refused(Refused),
}

/// Times of a reply.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timings {
    /// From when it was taken until its prompt was begun.
    pub queued: Duration,
    /// From then until its first token.
    pub prompt: Duration,
    /// From the first token to the last.
    pub made: Duration,
}

/// A text that is to be gone on with.
#[derive(Clone, Debug)]
pub(crate) enum Prompt {
    /// A text; the tokenizer's own beginning is put in front.
    Text(String),
    /// Ids.
    Tokens(Vec<u32>),
}

/// A reply that is asked for.
pub(crate) enum Ask {
    /// A reply in a conversation.
    Chat {
        request: Box<ChatRequest>,
        /// Token ids are wanted too.
        ids: bool,
        events: tokio_mpsc::UnboundedSender<ReplyEvent>,
    },
    /// A vector of a text or a conversation.
    Pool { text: PooledText, task: PoolingTask, cancel: Cancel, events: tokio_mpsc::UnboundedSender<ReplyEvent> },
    /// The continuation of a text.
    Complete {
        prompt: Prompt,
        options: Box<GenerateOptions>,
        stops: Vec<String>,
        /// Token ids are wanted too.
        ids: bool,
        events: tokio_mpsc::UnboundedSender<ReplyEvent>,
    },
}

/// A text of which a vector is wanted.
#[derive(Clone)]
pub(crate) enum PooledText {
    /// As it is.
    Plain(Prompt),
    /// Up to the end of its last message.
    Conversation(Box<ChatRequest>),
}

impl Ask {
    pub fn events(&self) -> &tokio_mpsc::UnboundedSender<ReplyEvent> {
        match self {
            Self::Chat { events, .. } | Self::Pool { events, .. } | Self::Complete { events, .. } => events,
        }
    }
}

/// Jobs of the worker.
pub(crate) enum Job {
    /// Replies of one request: all of them are taken, or none is.
    Replies(Vec<Ask>),
    /// The prompt of a conversation and its ids.
    Render { request: Box<ChatRequest>, answer: oneshot::Sender<Result<Vec<u32>, Refused>> },
    /// What the slots are at.
    Slots { answer: oneshot::Sender<Vec<SlotAt>> },
    /// Refused where a slot is at work, or not there.
    CheckIdle { slot: usize, answer: oneshot::Sender<Result<(), Refused>> },
    /// What was read in a slot is copied out.
    Save { slot: usize, answer: oneshot::Sender<Result<Snapshot, Refused>> },
    /// What was copied out is remembered again, as if it had been read in the slot. Gives its tokens.
    Restore { slot: usize, snapshot: Box<Snapshot>, answer: oneshot::Sender<Result<usize, Refused>> },
    /// What was read in a slot is forgotten. Gives the tokens that were.
    Erase { slot: usize, answer: oneshot::Sender<Result<usize, Refused>> },
}

/// What a slot is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotAt {
    /// A sequence has it.
    pub at_work: bool,
    /// Tokens of that sequence's prompt, or of what was read last.
    pub tokens: usize,
    /// Tokens that the sequence has made.
    pub made: usize,
}

/// Moments of a reply.
pub(crate) struct Clock {
    taken: Instant,
    pub begun: Option<Instant>,
    pub first: Option<Instant>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { taken: Instant::now(), begun: None, first: None }
    }
}

impl Clock {
    /// The times until now.
    pub fn timings(&self) -> Timings {
        let now = Instant::now();
        let begun = self.begun.unwrap_or(now);
        let first = self.first.unwrap_or(now);
        Timings { queued: begun - self.taken, prompt: first - begun, made: now - first }
    }
}
