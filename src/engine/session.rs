//! One conversation: a slot that is kept from turn to turn, so that a turn reads its own tokens only.

use super::{Engine, EngineError, GenerateOptions, Generation};
use crate::state::SlotId;

/// A slot and the token ids that were really fed to it.
#[derive(Debug)]
pub struct Session {
    slot: SlotId,
    /// The prompt and every token chosen since; cut to what the slot has read when a turn begins.
    fed: Vec<u32>,
}

impl Session {
    /// Takes a slot.
    pub fn open(engine: &mut Engine) -> Result<Self, EngineError> {
        Ok(Self { slot: engine.open()?, fed: vec![] })
    }

    /// Begins a turn: the whole prompt is given, and what the slot has not read of it is read. Gives the
    /// generation and how many tokens were read. A slot that holds anything else begins anew.
    pub async fn begin(
        &mut self,
        engine: &mut Engine,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<(Generation, usize), EngineError> {
        if prompt.len() > engine.context() {
            return Err(EngineError::ContextFull { tokens: prompt.len(), used: 0, context: engine.context() });
        }
        self.fed.truncate(engine.length(self.slot)?);
        // The last token must be read even if it was before: the reply comes from its row.
        let kept = if prompt.starts_with(&self.fed) && prompt.len() > self.fed.len() { self.fed.len() } else { 0 };
        if kept == 0 {
            engine.close(self.slot)?;
            self.slot = engine.open()?;
        }
        self.fed = prompt.to_vec();
        let generation = Generation::start(engine, self.slot, &prompt[kept..], options).await?;
        Ok((generation, prompt.len() - kept))
    }

    /// The next token of a turn.
    pub async fn next(&mut self, engine: &mut Engine, generation: &mut Generation) -> Result<Option<u32>, EngineError> {
        let token = generation.next(engine).await?;
        self.fed.extend(token);
        Ok(token)
    }
}
