//! A generation, token by token: the prompt is read, then each step reads the token that the one before chose.

use std::collections::VecDeque;

use super::TokenLogprobs;
use super::speculation::{Speculated, Speculation};
use crate::backend::Outputs;
use crate::runtime::{Cancel, Engine, EngineError, PREFILL_ROWS, Purpose, Running, watched};
use crate::state::{Sampler, SlotId};
use crate::text::Grammar;

/// Reason for the end of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model chose a stop token.
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

/// Options of a generation.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The sampler. The model's own stop tokens are added to its `stop_token_ids`, which may be any number here; its `limit` is
    /// `max_tokens`.
    pub sampler: Sampler,
    /// Most tokens to make.
    pub max_tokens: usize,
    /// Rows of a step while the prompt is read.
    pub chunk: usize,
    /// What the text keeps to; `None`: anything.
    pub grammar: Option<Grammar>,
    /// Tokens beside each chosen one whose probabilities are wanted; `None`: no probabilities. While they are, no step runs
    /// ahead of its tokens.
    pub logprobs: Option<usize>,
    /// Stops early.
    pub cancel: Cancel,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            sampler: Sampler::default(),
            max_tokens: usize::MAX,
            chunk: PREFILL_ROWS,
            grammar: None,
            logprobs: None,
            cancel: Cancel::default(),
        }
    }
}

/// A generation in one slot.
///
/// While a token travels to the host, the steps that read it and those after it may be in flight already: they
/// take the token on the device. A slot that chose a stop token is frozen there, so that when a generation ends, its
/// slot has read the prompt and every token but the last; [`Engine::length`] tells.
#[derive(Debug)]
pub struct Generation {
    slot: SlotId,
    in_flight: VecDeque<Running>,
    left: usize,
    /// All of them; a device watches for the first ones only.
    stop_token_ids: Vec<u32>,
    grammar: Option<Grammar>,
    /// As in the options, and those of the token that came last.
    wants_logprobs: Option<usize>,
    logprobs: Option<TokenLogprobs>,
    cancel: Cancel,
    /// Where drafts are made: then nothing is in flight.
    speculation: Option<Speculation>,
    finished: Option<FinishReason>,
    /// The logits were not finite: nothing comes any more.
    failed: bool,
}

impl Generation {
    /// Reads the prompt into a slot. The first token is on its way afterwards.
    pub async fn start(
        engine: &mut Engine,
        slot: SlotId,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self, EngineError> {
        Self::resume(engine, slot, prompt, 0, options).await
    }

    /// The same where the slot has read the first `read` tokens of the text already.
    pub(super) async fn resume(
        engine: &mut Engine,
        slot: SlotId,
        text: &[u32],
        read: usize,
        options: &GenerateOptions,
    ) -> Result<Self, EngineError> {
        let (left, cancel) = (options.max_tokens, options.cancel.clone());
        let mut sampler = engine.complete(&options.sampler, left);
        let stop_token_ids = sampler.stop_token_ids.clone();
        sampler.stop_token_ids = watched(&stop_token_ids).to_vec();
        sampler.check()?;
        let mut this = Self {
            slot,
            in_flight: VecDeque::new(),
            left,
            stop_token_ids,
            grammar: options.grammar.clone(),
            wants_logprobs: options.logprobs,
            logprobs: None,
            cancel,
            speculation: None,
            finished: None,
            failed: false,
        };
        // A grammar tells after each token which may come next, penalties count it, and probabilities are read after each step:
        // such texts are made without drafts.
        let alone = options.grammar.is_none() && options.logprobs.is_none() && !options.sampler.penalises();
        let speculates = alone && engine.most_drafts() > 0 && left > 0;
        if left == 0 {
            this.finished = Some(FinishReason::Length);
        }
        let prompt = text.get(read..).unwrap_or_default();
        Purpose::Generate.check(&engine.model().head)?;
        engine.check_prompt(slot, prompt)?;
        // Spans before the last choose a token too, which nobody wants: the sampler is not told of those.
        let before_last = prompt.len().saturating_sub(1) / options.chunk.max(1) * options.chunk.max(1);
        let (head, last) = prompt.split_at(before_last);
        if !head.is_empty() {
            let next = last.first().copied();
            match engine.prefill_drafting(slot, head, options.chunk, &this.cancel, Some(next)).await? {
                Some(running) => drop(engine.sampled(&running).await?),
                None => this.finished = Some(FinishReason::Cancelled),
            }
        }
        if this.finished != Some(FinishReason::Cancelled) {
            engine.set_sampler(slot, &sampler, text)?;
            this.mask(engine)?;
            if speculates {
                engine.set_verifying(slot, true)?;
            }
            let running = engine.enqueue(slot, last, Outputs::Last)?;
            if speculates {
                let (step, stops) = ((running, text.len() - last.len()), &this.stop_token_ids);
                this.speculation = Some(Speculation::begin(engine, slot, text, step, stops, &mut this.left).await?);
            } else if this.left > 0 {
                this.in_flight.push_back(running);
                this.left -= 1;
            }
        }
        engine.pause();
        Ok(this)
    }

    /// The next token, stop tokens included; `None` when there are no more. After [`Cancel`] the tokens that
    /// are in flight still come. After [`EngineError::NotFinite`] there are no more: what the slot remembers is not
    /// finite either, so it is of no use until it is opened anew or gets a memory that was saved before.
    pub async fn next(&mut self, engine: &mut Engine) -> Result<Option<u32>, EngineError> {
        if self.finished.is_some() || self.failed {
            return Ok(None);
        }
        let cancelled = self.cancel.is_cancelled();
        if self.speculation.is_some() {
            return self.next_speculated(engine, cancelled).await;
        }
        // An end that the device does not watch for freezes nothing: no step may be under way behind it.
        let unwatched = self.stop_token_ids.len() > watched(&self.stop_token_ids).len();
        // Nor where a token tells which may come next. Logits are there until the next step.
        let waits = unwatched || self.grammar.is_some() || self.wants_logprobs.is_some();
        let depth = if waits { 1 } else { engine.steps_in_flight() };
        while !cancelled && self.in_flight.len() < depth && self.left > 0 && engine.room(self.slot)? > 0 {
            self.mask(engine)?;
            self.in_flight.push_back(engine.decode(self.slot)?);
            self.left -= 1;
        }
        let Some(step) = self.in_flight.pop_front() else {
            self.finished = Some(match self.left {
                0 => FinishReason::Length,
                _ if cancelled => FinishReason::Cancelled,
                _ => FinishReason::Context,
            });
            return Ok(None);
        };
        let logits = match self.wants_logprobs {
            // What is not finite, the token tells.
            Some(_) if self.in_flight.is_empty() => match engine.logits(&step).await {
                Err(EngineError::NotFinite { .. }) => None,
                logits => Some(logits?),
            },
            _ => None,
        };
        let sampled = engine.sampled(&step).await;
        self.failed = matches!(sampled, Err(EngineError::NotFinite { .. }));
        if self.failed {
            // The steps under way found the slot frozen.
            engine.rewind(self.slot, self.in_flight.len())?;
            self.in_flight.clear();
        }
        let token = sampled?.first().copied();
        engine.token_came();
        let scored = self.wants_logprobs.zip(logits).zip(token);
        self.logprobs = scored.map(|((count, logits), token)| TokenLogprobs::of(&logits, token, count));
        if token.is_some_and(|token| self.stop_token_ids.contains(&token)) {
            self.finished = Some(FinishReason::Stop);
            // The steps under way found the slot frozen.
            engine.rewind(self.slot, self.in_flight.len())?;
            self.in_flight.clear();
        } else if let Some((grammar, token)) = self.grammar.as_mut().zip(token) {
            let over = grammar.push(token);
            self.failed = over.is_err();
            if over? {
                self.finished = Some(FinishReason::Stop);
            }
        }
        Ok(token)
    }

    async fn next_speculated(&mut self, engine: &mut Engine, cancelled: bool) -> Result<Option<u32>, EngineError> {
        let Some(speculation) = &mut self.speculation else { return Ok(None) };
        loop {
            if let Some((token, end)) = speculation.take() {
                self.finished = end.then_some(FinishReason::Stop);
                return Ok(Some(token));
            }
            let reason = match self.left {
                0 => Some(FinishReason::Length),
                _ if cancelled => Some(FinishReason::Cancelled),
                _ if !speculation.has_room(engine) => Some(FinishReason::Context),
                _ => None,
            };
            if reason.is_some() {
                speculation.end(engine)?;
                self.finished = reason;
                return Ok(None);
            }
            let stepped = speculation.step(engine, &self.stop_token_ids, &mut self.left).await;
            self.failed = matches!(stepped, Err(EngineError::NotFinite { .. }));
            stepped?;
        }
    }

    /// Drafts and what became of them, where the generation speculates: not with a grammar, penalties or probabilities, and
    /// not where the engine was loaded without ([`EngineOptions::speculate`](crate::runtime::EngineOptions::speculate)).
    pub fn speculated(&self) -> Option<Speculated> {
        self.speculation.as_ref().map(Speculation::counts)
    }

    /// Tells the device which tokens may come next.
    fn mask(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        let Some(grammar) = &mut self.grammar else { return Ok(()) };
        let mask = grammar.mask();
        self.failed = mask.is_err();
        let mask = mask?;
        engine.set_mask(self.slot, mask.as_deref())
    }

    /// Probability of the token that came last, where that is wanted.
    pub fn logprobs(&self) -> Option<&TokenLogprobs> {
        self.logprobs.as_ref()
    }

    /// Ends the generation. Gives the tokens that were in flight: the slot has read all but the last of them.
    pub async fn stop(&mut self, engine: &mut Engine) -> Result<Vec<u32>, EngineError> {
        self.left = 0;
        let mut rest = vec![];
        while let Some(token) = self.next(engine).await? {
            rest.push(token);
        }
        Ok(rest)
    }

    /// Reason for the end; `None` before it.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finished
    }
}
