//! A reply under way.

use super::super::prompt_cache::Reuse;
use super::super::{FinishReason, Generation, ScoredToken, Session, Speculated};
use super::reply_reader::{Delta, ReplyReader};
use crate::runtime::{Engine, EngineError};

/// A reply under way.
pub struct Turn {
    pub(super) session: Session,
    /// As in the request.
    pub(super) conversation: Option<u64>,
    pub(super) keep: bool,
    pub(super) generation: Generation,
    pub(super) reader: ReplyReader,
    pub(super) reuse: Reuse,
}

impl Turn {
    /// The next token's pieces; `None` when the reply is over.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<Delta>, EngineError> {
        if self.reader.ended() {
            return Ok(None);
        }
        let over = self.reader.stopped();
        let token = if over { None } else { self.session.next(engine, &mut self.generation).await? };
        let Some(token) = token else { return Ok(self.reader.end()?) };
        let delta = self.reader.push(token)?;
        if self.reader.stopped() {
            self.session.stop(engine, &mut self.generation).await?;
        }
        Ok(Some(delta))
    }

    /// The token that came last with its probability, where that is wanted. What ends a text is no part of it.
    pub fn scored(&self, engine: &Engine) -> Result<Option<ScoredToken>, EngineError> {
        let token = self.session.tokens().last().filter(|&&token| !self.reader.ended() && !engine.is_stop_token(token));
        let Some((&token, logprobs)) = token.zip(self.generation.logprobs()) else { return Ok(None) };
        Ok(Some(ScoredToken::of(&*engine.tokenizer()?, token, logprobs)))
    }

    /// Tokens of the prompt, and how many of them were not read again.
    pub fn reuse(&self) -> &Reuse {
        &self.reuse
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.reuse.prompt_tokens
    }

    /// Tokens of the prompt that were read in this turn; the others were known.
    pub fn read_tokens(&self) -> usize {
        self.reuse.read_tokens()
    }

    /// Drafts and what became of them, where the reply speculates: see [`Generation::speculated`].
    pub fn speculated(&self) -> Option<Speculated> {
        self.generation.speculated()
    }

    /// Tokens of the reply, stop tokens included.
    pub fn made_tokens(&self) -> usize {
        self.reader.made_tokens()
    }

    /// Reason for the end of the reply; `None` while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        match self.reader.ended() {
            true if self.reader.stopped() => Some(FinishReason::Stop),
            true => self.generation.finish_reason(),
            false => None,
        }
    }
}
