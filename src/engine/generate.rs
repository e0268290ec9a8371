//! Text, token by token: a prompt goes in, then each step feeds the token that the one before chose.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Engine, EngineError, PREFILL_ROWS, Running};
use crate::backend::BackendKind;
use crate::state::SlotId;

/// Tells a generation from outside to stop. Clones share the wish.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Stops what looks at this value, at its next step.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether someone wished to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose an end token.
    Stop,
    /// As many tokens as were asked for.
    Length,
    /// The context is full.
    Context,
    /// [`Cancel`].
    Cancelled,
}

impl FinishReason {
    /// `stop`, `length`, `context`, `cancelled`
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How to generate. Greedy: the most probable token each time.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// Most tokens to make.
    pub max_tokens: usize,
    /// Rows of a step while the prompt is read.
    pub chunk: usize,
    /// Whether a step may begin before the host knows the token that it reads. Without, the slot never reads
    /// a token that ends the generation.
    pub ahead: bool,
    /// Stops early.
    pub cancel: Cancel,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self { max_tokens: usize::MAX, chunk: PREFILL_ROWS, ahead: true, cancel: Cancel::default() }
    }
}

/// A generation under way in one slot.
///
/// While a token travels back to the host, the step that reads it may be under way already: the token
/// feeds it on the device. So when a generation ends, its slot has read the prompt and all tokens, or all
/// but the last; [`Engine::length`] tells.
#[derive(Debug)]
pub struct Generation {
    slot: SlotId,
    in_flight: VecDeque<Running>,
    depth: usize,
    left: usize,
    cancel: Cancel,
    finished: Option<FinishReason>,
}

impl Generation {
    /// Reads the prompt into a slot. The first token is on its way afterwards.
    pub async fn start(
        engine: &mut Engine,
        slot: SlotId,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, EngineError> {
        // A CPU has computed a step when `step` returns: nothing is gained by running ahead of it.
        let depth = if engine.info().kind == BackendKind::Cpu || !options.ahead { 1 } else { 2 };
        let cancel = options.cancel.clone();
        let mut this =
            Self { slot, in_flight: VecDeque::new(), depth, left: options.max_tokens, cancel, finished: None };
        match engine.prefill(slot, prompt, options.chunk, &this.cancel).await? {
            Some(running) if this.left > 0 => {
                this.in_flight.push_back(running);
                this.left -= 1;
            }
            Some(_) => this.finished = Some(FinishReason::Length),
            None => this.finished = Some(FinishReason::Cancelled),
        }
        Ok(this)
    }

    /// The next token, end tokens included; `None` when there are no more.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<u32>, EngineError> {
        if self.cancel.is_cancelled() {
            self.finished.get_or_insert(FinishReason::Cancelled);
        }
        if self.finished.is_some() {
            return Ok(None);
        }
        while self.in_flight.len() < self.depth && self.left > 0 && engine.room(self.slot)? > 0 {
            self.in_flight.push_back(engine.decode(self.slot)?);
            self.left -= 1;
        }
        let Some(step) = self.in_flight.pop_front() else {
            self.finished = Some(if self.left == 0 { FinishReason::Length } else { FinishReason::Context });
            return Ok(None);
        };
        let token = engine.sampled(&step).await?.first().copied();
        if token.is_some_and(|token| engine.is_end(token)) {
            self.finished = Some(FinishReason::Stop);
        }
        Ok(token)
    }

    /// Why there are no more tokens; `None` while there may be.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finished
    }
}
