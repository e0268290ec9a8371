//! A sequence of the scheduler: how far it is, and what it takes from the next step.

use std::collections::VecDeque;
use std::ops::Range;

use super::super::prompt_cache::Mark;
use super::super::speculation::{Speculated, Speculation};
use super::super::{FinishReason, GenerateOptions, Session};
use super::pooling::{Pool, PoolingTask};
use super::{CUT, SequenceId, SequenceRequest};
use crate::runtime::{Cancel, Engine, EngineError, Purpose, watched};
use crate::state::{CheckpointKind, Sampler};
use crate::text::Grammar;

/// How a sequence chooses its tokens, and which of them end it.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// With the stop token ids that a device watches for.
    pub sampler: Sampler,
    /// All of them.
    pub stop_token_ids: Vec<u32>,
}

impl Ends {
    /// Of a request, if the model makes tokens and the sampler can be.
    pub fn of(engine: &Engine, options: &GenerateOptions) -> Result<Self, EngineError> {
        Purpose::Generate.check(&engine.model().head)?;
        let mut sampler = engine.complete(&options.sampler, options.max_tokens);
        let stop_token_ids = sampler.stop_token_ids.clone();
        sampler.stop_token_ids = watched(&stop_token_ids).to_vec();
        sampler.check()?;
        Ok(Self { sampler, stop_token_ids })
    }
}

#[derive(Debug)]
pub(super) struct Sequence {
    pub id: SequenceId,
    pub session: Session,
    pub prompt: Vec<u32>,
    pub ends: Ends,
    /// As in the request.
    pub logprobs: Option<usize>,
    /// As in the request.
    pooling: Option<PoolingTask>,
    /// Rows of the last norm so far, where an embedding is wanted.
    pub pool: Option<Pool>,
    /// Steps under way.
    pub in_flight: usize,
    /// The device goes on no more in its slot.
    pub frozen: bool,
    /// What was wrong with its numbers.
    pub failed: Option<EngineError>,
    /// The end of its text is worth a checkpoint.
    pub remembers_end: bool,
    /// Where reading began: parts are cut from there.
    pub first: usize,
    /// Tokens of the prompt that are read or under way.
    read: usize,
    /// Places of the prompt that are worth a checkpoint, the next one first.
    stops: VecDeque<Mark>,
    /// Tokens that may still be asked for.
    left: usize,
    grammar: Option<Grammar>,
    /// While it is alone and drafts are made for it.
    speculation: Option<Speculation>,
    cancel: Cancel,
    end: Option<FinishReason>,
}

impl Sequence {
    /// A sequence that has read the beginning of its prompt.
    pub fn new(id: SequenceId, session: Session, ends: Ends, stops: Vec<Mark>, request: SequenceRequest) -> Self {
        let SequenceRequest { prompt, options, pooling, .. } = request;
        let first = session.tokens().len();
        Self {
            id,
            session,
            prompt,
            ends,
            logprobs: options.logprobs.filter(|_| pooling.is_none()),
            pooling,
            pool: match pooling {
                Some(PoolingTask::Embed(pooling)) => Some(Pool::new(pooling)),
                Some(PoolingTask::Score) | None => None,
            },
            in_flight: 0,
            frozen: false,
            failed: None,
            remembers_end: pooling.is_none(),
            first,
            read: first,
            stops: stops.into(),
            left: if pooling.is_some() { 0 } else { options.max_tokens },
            grammar: options.grammar.filter(|_| pooling.is_none()),
            speculation: None,
            cancel: options.cancel,
            end: None,
        }
    }

    /// Whether values of its steps are read, beside its tokens.
    pub fn reads_values(&self) -> bool {
        self.logprobs.is_some() || self.pooling.is_some()
    }

    /// Ends it; the first reason counts.
    pub fn end(&mut self, reason: FinishReason) {
        self.end.get_or_insert(reason);
    }

    fn goes_on(&mut self) -> bool {
        if self.cancel.is_cancelled() {
            self.end(FinishReason::Cancelled);
        }
        self.end.is_none() && self.failed.is_none()
    }

    /// Whether its prompt is still to be read.
    pub fn is_reading(&mut self) -> bool {
        self.goes_on() && self.read < self.prompt.len()
    }

    /// Whether the next step reads the token that it chose last; then one less is left.
    pub fn takes_token(&mut self, engine: &Engine) -> Result<bool, EngineError> {
        if !self.goes_on() || self.read < self.prompt.len() {
            return Ok(false);
        }
        // An end that the device does not watch for freezes nothing: no step may be under way behind it.
        let unwatched = self.ends.stop_token_ids.len() > self.ends.sampler.stop_token_ids.len();
        // Nor where a token tells which may come next.
        let waits = (unwatched || self.grammar.is_some()) && self.in_flight > 0;
        let takes = self.left > 0 && engine.room(self.session.slot())? > 0 && !waits;
        self.left -= usize::from(takes);
        Ok(takes)
    }

    /// Whether drafts can be made for its reply, which is under way: no token says which may come next but by the model.
    pub fn could_speculate(&self) -> bool {
        let by_model = self.grammar.is_none() && !self.ends.sampler.penalises();
        by_model && !self.reads_values() && self.read == self.prompt.len()
    }

    /// Whether they can be made now: nothing of it is under way.
    pub fn may_speculate(&mut self) -> bool {
        let begun = self.session.tokens().len() > self.prompt.len() && self.in_flight == 0;
        begun && self.could_speculate() && self.goes_on()
    }

    /// Takes a step with drafts: its tokens, and whether the last of them ends the text.
    pub async fn speculate(&mut self, engine: &mut Engine) -> Result<(Vec<u32>, bool), EngineError> {
        if self.left == 0 {
            return Ok((vec![], false));
        }
        let mut speculation = match self.speculation.take() {
            Some(speculation) => speculation,
            None => {
                let chosen = self.session.tokens().len() - self.prompt.len();
                Speculation::enter(engine, self.session.slot(), self.session.tokens(), chosen)?
            }
        };
        let mut made = (vec![], false);
        if speculation.has_room(engine) {
            speculation.step(engine, &self.ends.stop_token_ids, &mut self.left).await?;
            while let Some((token, end)) = speculation.take() {
                made.0.push(token);
                made.1 |= end;
            }
        }
        self.session.note(&made.0);
        self.speculation = Some(speculation);
        Ok(made)
    }

    /// Ends its speculation, if it has one: it goes on beside others, or is over.
    pub fn speculate_no_more(&mut self, engine: &mut Engine) -> Result<Option<Speculated>, EngineError> {
        let Some(mut speculation) = self.speculation.take() else { return Ok(None) };
        speculation.end(engine)?;
        Ok(Some(speculation.counts()))
    }

    /// Tells the device which tokens may come next. False where none may: the sequence has failed then.
    pub fn mask(&mut self, engine: &mut Engine) -> Result<bool, EngineError> {
        let Some(grammar) = &mut self.grammar else { return Ok(true) };
        match grammar.mask() {
            Ok(mask) => engine.set_mask(self.session.slot(), mask.as_deref()).map(|()| true),
            Err(error) => {
                self.failed = Some(error.into());
                Ok(false)
            }
        }
    }

    /// The text goes on with a token, and may end by it.
    pub fn advance(&mut self, token: u32) {
        match self.grammar.as_mut().map(|grammar| grammar.push(token)) {
            Some(Ok(true)) => self.end(FinishReason::Stop),
            Some(Err(error)) => self.failed = Some(error.into()),
            Some(Ok(false)) | None => {}
        }
    }

    /// The next part of the prompt, of at most `rows` tokens.
    pub fn part(&self, rows: usize) -> Range<usize> {
        let stop = self.stops.front().map_or(self.prompt.len(), |stop| stop.length);
        let cut = self.first + (self.read - self.first + rows) / CUT * CUT;
        self.read..stop.min(cut).max(self.read)
    }

    /// A part of the prompt is under way. True where its token is the first one of the reply.
    pub fn read(&mut self, part: Range<usize>, last: bool) -> bool {
        self.session.note(&self.prompt[part.clone()]);
        self.read = part.end;
        self.in_flight += 1;
        let wanted = last && self.left > 0;
        self.left -= usize::from(wanted);
        wanted
    }

    /// The place of the first of the `rows` tokens of the prompt that were read last, and the tokens that follow each of them,
    /// as far as the prompt goes.
    pub fn following(&self, rows: usize) -> Option<(usize, &[u32])> {
        // Values of a step are there until the next one.
        let first = self.read.checked_sub(rows).filter(|_| !self.reads_values())?;
        Some((first, self.prompt.get(first + 1..self.prompt.len().min(first + 1 + rows))?))
    }

    /// The kind of the stop that was reached; it is the last time that it is asked for.
    pub fn take_stop(&mut self) -> Option<CheckpointKind> {
        let stop = self.stops.front().filter(|stop| stop.length == self.read)?.kind;
        self.stops.pop_front();
        Some(stop)
    }

    /// The device has frozen its slot: what is under way finds it so.
    pub fn freeze(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        self.frozen = true;
        engine.rewind(self.session.slot(), self.in_flight)
    }

    /// Why it is over, where it is and nothing of it is under way.
    pub fn over(&mut self, engine: &Engine) -> Result<Option<FinishReason>, EngineError> {
        if self.in_flight > 0 {
            return Ok(None);
        }
        if self.failed.is_some() || !self.goes_on() {
            return Ok(Some(self.end.unwrap_or(FinishReason::Stop)));
        }
        if self.read < self.prompt.len() {
            return Ok(None);
        }
        Ok(match self.left {
            0 => Some(FinishReason::Length),
            _ if engine.room(self.session.slot())? == 0 => Some(FinishReason::Context),
            _ => None,
        })
    }
}
