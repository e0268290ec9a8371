//! One conversation: a slot that is kept from turn to turn, so that a turn reads its own tokens only.

use super::{GenerateOptions, Generation};
use crate::runtime::{Engine, EngineError};
use crate::state::{SlotId, SlotState};

/// A slot and the history of token ids that it has read.
#[derive(Debug)]
pub struct Session {
    slot: SlotId,
    /// The prompt and every token chosen since; cut to what the slot has read when a turn begins.
    history: Vec<u32>,
    /// Tokens of the last turn's prompt.
    prompt: usize,
    /// The slot's memory after those, where a reply may have to be taken back.
    checkpoint: Option<SlotState>,
}

impl Session {
    /// Takes a slot.
    pub fn open(engine: &mut Engine) -> Result<Self, EngineError> {
        Ok(Self { slot: engine.open()?, history: vec![], prompt: 0, checkpoint: None })
    }

    /// Gives the slot back.
    pub fn close(self, engine: &mut Engine) -> Result<(), EngineError> {
        engine.close(self.slot)
    }

    /// Tokens that the slot has read.
    pub fn length(&self, engine: &Engine) -> Result<usize, EngineError> {
        engine.length(self.slot)
    }

    /// Tokens of a prompt that the slot has read; 0 when it has read anything else.
    pub fn kept(&self, engine: &Engine, prompt: &[u32]) -> Result<usize, EngineError> {
        let read = engine.length(self.slot)?.min(self.history.len());
        // The last token must be read even if it was before: the reply comes from its row.
        Ok(if prompt.len() > read && prompt.starts_with(&self.history[..read]) { read } else { 0 })
    }

    /// Begins a turn: the whole prompt is given, and what the slot has not read of it is read. Gives the
    /// generation and how many tokens were read. A slot that holds anything else begins anew.
    ///
    /// With `undo` the reply can be taken back later, which costs a copy of the slot's memory.
    pub async fn begin(
        &mut self,
        engine: &mut Engine,
        prompt: &[u32],
        options: &GenerateOptions,
        undo: bool,
    ) -> Result<(Generation, usize), EngineError> {
        // What is refused leaves the slot as it is.
        if prompt.len() > engine.context() {
            return Err(EngineError::ContextFull { tokens: prompt.len(), used: 0, context: engine.context() });
        }
        engine.check_text(prompt)?;
        let kept = self.kept(engine, prompt)?;
        if kept == 0 {
            engine.close(self.slot)?;
            self.slot = engine.open()?;
        }
        (self.history, self.prompt, self.checkpoint) = (prompt.to_vec(), prompt.len(), None);
        let generation = Generation::resume(engine, self.slot, prompt, kept, options).await;
        let generation = self.unless_spoilt(generation)?;
        if undo && engine.length(self.slot)? == prompt.len() {
            self.checkpoint = Some(engine.snapshot(self.slot).await?);
        }
        Ok((generation, prompt.len() - kept))
    }

    /// The next token of a turn.
    pub async fn next(&mut self, engine: &mut Engine, generation: &mut Generation) -> Result<Option<u32>, EngineError> {
        let token = generation.next(engine).await;
        let token = self.unless_spoilt(token)?;
        self.history.extend(token);
        Ok(token)
    }

    /// Forgets what the slot has read, after a turn that ended amid a fault.
    pub(super) fn forget(&mut self) {
        self.history.clear();
    }

    /// Forgets what was read where it led to what is not finite: the next turn reads its whole prompt.
    fn unless_spoilt<T>(&mut self, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(result, Err(EngineError::NotFinite { .. })) {
            self.history.clear();
            self.checkpoint = None;
        }
        result
    }

    /// Ends a turn before its end, at a stop string: what was chosen beyond is taken back with the rest of the
    /// reply, so that the slot has read the turn's prompt and nothing else.
    pub async fn take_back(&mut self, engine: &mut Engine, generation: &mut Generation) -> Result<(), EngineError> {
        let rest = generation.stop(engine).await;
        let rest = self.unless_spoilt(rest)?;
        self.history.extend(rest);
        if let Some(state) = self.checkpoint.take() {
            engine.restore(self.slot, &state, self.prompt)?;
            self.history.truncate(self.prompt);
        }
        Ok(())
    }
}
