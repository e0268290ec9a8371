//! The scheduler: many sequences in the same steps (continuous batching).
//!
//! A step has one token of every sequence that makes a reply, and parts of the prompts that are being read, as many rows as
//! [`SchedulerOptions::rows`] allows. So a reply goes on at the same pace while a long prompt is read, and a new request begins
//! with the next step. Requests that find no free slot wait in the order in which they came.
//!
//! Where prompts are cut depends on nothing but the prompt itself: a part ends at a multiple of 32 rows from where its
//! reading began, or where a checkpoint is made. So a request's text does not depend on its neighbours.
//!
//! Source: Yu et al. 2022, "Orca" (OSDI), iteration-level scheduling; Agrawal et al. 2023, "Sarathi" (arXiv 2308.16369), parts of
//! prompts beside decode.

mod pooling;
mod sequence;

use std::collections::VecDeque;
use std::ops::Range;

use web_time::Instant;

use self::pooling::LAST_NORM;
pub use self::pooling::{Pooling, PoolingTask};
use self::sequence::{Ends, Sequence};
use super::prompt_cache::{Mark, PromptCache};
use super::{FinishReason, GenerateOptions, Session, Speculated, TokenLogprobs};
use crate::backend::{CHUNK_ROWS, Outputs, Step, Tokens};
use crate::runtime::{Engine, EngineError, PREFILL_ROWS, Running};
use crate::state::{CheckpointKind, SlotId};

/// A prompt is cut at multiples of so many rows: as many as the scans take together.
const CUT: usize = CHUNK_ROWS as usize;

/// Options of a scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// Most rows of prompts in a step; those of replies come on top.
    pub rows: usize,
    /// Most requests that wait for a slot.
    pub waiting: usize,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self { rows: PREFILL_ROWS, waiting: 256 }
    }
}

/// A request for the continuation of a text, or for a vector of it.
#[derive(Clone, Debug)]
pub struct SequenceRequest {
    /// Token ids.
    pub prompt: Vec<u32>,
    /// Places of the prompt at which checkpoints are worth most.
    pub marks: Vec<Mark>,
    /// How it goes on. Its `chunk` is the scheduler's affair.
    pub options: GenerateOptions,
    /// A vector that is wanted instead of a continuation; `options` are then of no use but for `cancel`.
    pub pooling: Option<PoolingTask>,
}

/// Name of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(u64);

/// What became of a request in a step.
#[derive(Debug)]
pub enum Event {
    /// Its prompt is being read.
    Begun {
        /// Tokens of the prompt that were known.
        cached: usize,
        /// The slot that it has until it is over.
        slot: SlotId,
        /// When.
        at: Instant,
    },
    /// The next token, stop tokens included.
    Token {
        /// Its id.
        token: u32,
        /// How probable it was, where that is wanted.
        logprobs: Option<TokenLogprobs>,
    },
    /// The vector that was wanted.
    Pooled(Vec<f32>),
    /// It is over.
    Ended {
        /// Why.
        reason: FinishReason,
        /// The tokens that were read: prompt and reply, but for the last token.
        read: Vec<u32>,
    },
    /// It is over, and there is no more of it.
    Failed(EngineError),
}

/// A request that is not taken: as many as may wait do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} requests are waiting already")]
pub struct QueueFull {
    /// How many.
    pub waiting: usize,
}

/// A step under way, with its outputs: one a span.
#[derive(Debug)]
struct InFlight {
    step: Running,
    outputs: Vec<Output>,
    /// The rows of the last norm are kept.
    keeps_rows: bool,
}

/// A sequence's part of a step.
#[derive(Clone, Debug)]
struct Output {
    id: SequenceId,
    /// The token is one of the reply.
    wanted: bool,
    /// The prompt ends with it.
    last: bool,
    /// Its rows of the step.
    rows: Range<usize>,
}

/// The sequences of an engine that are made together.
#[derive(Debug, Default)]
pub struct Scheduler {
    options: SchedulerOptions,
    waiting: VecDeque<(SequenceId, SequenceRequest)>,
    running: Vec<Sequence>,
    in_flight: VecDeque<InFlight>,
    requests: u64,
    speculated: Speculated,
}

impl Scheduler {
    /// A scheduler without requests.
    pub fn new(options: SchedulerOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes a request. Those that find a free slot do not wait.
    pub fn submit(&mut self, engine: &Engine, request: SequenceRequest) -> Result<SequenceId, QueueFull> {
        if self.room(engine) == 0 {
            let free = engine.layout().slots.saturating_sub(self.running.len());
            return Err(QueueFull { waiting: self.waiting.len().saturating_sub(free) });
        }
        self.requests += 1;
        let id = SequenceId(self.requests);
        self.waiting.push_back((id, request));
        Ok(id)
    }

    /// Requests that would be taken now.
    pub fn room(&self, engine: &Engine) -> usize {
        let free = engine.layout().slots.saturating_sub(self.running.len());
        self.options.waiting.saturating_add(free).saturating_sub(self.waiting.len())
    }

    /// Ends a sequence whose text is complete, at a text that is no token: it ends as by a stop token, and its end is not
    /// remembered, as more than the text was read.
    pub fn stop(&mut self, id: SequenceId) {
        if let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) {
            sequence.end(FinishReason::Stop);
            sequence.remembers_end = false;
        }
    }

    /// Gives all slots back after an error of the device; nothing more comes of any request.
    pub fn close(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        self.waiting.clear();
        self.in_flight.clear();
        self.running.drain(..).try_for_each(|sequence| sequence.session.close(engine))
    }

    /// Requests that wait for a slot.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that are read or made.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Enqueues a step, and waits for one where enough of them are under way. Gives what became of each request.
    ///
    /// An error is one of the device: nothing goes on. What is wrong with a request is an event of its own.
    pub async fn step(
        &mut self,
        engine: &mut Engine,
        cache: &mut PromptCache,
    ) -> Result<Vec<(SequenceId, Event)>, EngineError> {
        let mut events = vec![];
        self.admit(engine, cache, &mut events).await?;
        // Logits and other values are there until the next step.
        let reads_values = self.running.iter().any(Sequence::reads_values);
        while reads_values && let Some(step) = self.in_flight.pop_front() {
            self.receive(engine, step, &mut events).await?;
        }
        if self.speculate(engine, &mut events).await? {
            self.close_ended(engine, cache, &mut events)?;
            return Ok(events);
        }
        let enqueued = self.enqueue(engine, cache)?;
        let most = if reads_values { 1 } else { engine.steps_in_flight() };
        if (!enqueued || self.in_flight.len() >= most)
            && let Some(step) = self.in_flight.pop_front()
        {
            self.receive(engine, step, &mut events).await?;
        }
        self.close_ended(engine, cache, &mut events)?;
        Ok(events)
    }

    /// Gives free slots to those who wait longest.
    async fn admit(
        &mut self,
        engine: &mut Engine,
        cache: &mut PromptCache,
        events: &mut Vec<(SequenceId, Event)>,
    ) -> Result<(), EngineError> {
        // Those that nobody waits for any more wait no longer.
        let mut left = VecDeque::new();
        for (id, request) in self.waiting.drain(..) {
            match request.options.cancel.is_cancelled() {
                true => events.push((id, Event::Ended { reason: FinishReason::Cancelled, read: vec![] })),
                false => left.push_back((id, request)),
            }
        }
        self.waiting = left;
        while self.running.len() < engine.layout().slots
            && let Some((id, request)) = self.waiting.pop_front()
        {
            match enter(engine, cache, &request).await {
                Ok((ends, session, stops)) => {
                    let (cached, slot) = (session.tokens().len(), session.slot());
                    events.push((id, Event::Begun { cached, slot, at: Instant::now() }));
                    engine.pause();
                    self.running.push(Sequence::new(id, session, ends, stops, request));
                }
                // Somebody else has slots of this engine.
                Err(EngineError::NoSlot(_)) => {
                    self.waiting.push_front((id, request));
                    break;
                }
                Err(EngineError::Backend(error)) => return Err(error.into()),
                Err(error) => events.push((id, Event::Failed(error))),
            }
        }
        Ok(())
    }

    /// Makes a step with drafts where one sequence is alone: beside others its rows would be theirs. False where none was made.
    async fn speculate(
        &mut self,
        engine: &mut Engine,
        events: &mut Vec<(SequenceId, Event)>,
    ) -> Result<bool, EngineError> {
        if engine.most_drafts() == 0 {
            return Ok(false);
        }
        let alone = matches!(&self.running[..], [sequence] if sequence.could_speculate());
        if alone {
            while let Some(step) = self.in_flight.pop_front() {
                self.receive(engine, step, events).await?;
            }
        }
        for sequence in &mut self.running {
            if !alone || !sequence.may_speculate() {
                self.speculated.add(&sequence.speculate_no_more(engine)?.unwrap_or_default());
                continue;
            }
            let id = sequence.id;
            match sequence.speculate(engine).await {
                Ok((tokens, end)) => {
                    let made = !tokens.is_empty();
                    events.extend(tokens.into_iter().map(|token| (id, Event::Token { token, logprobs: None })));
                    if end {
                        sequence.frozen = true;
                        sequence.end(FinishReason::Stop);
                    }
                    if !made || end || sequence.over(engine)?.is_some() {
                        self.speculated.add(&sequence.speculate_no_more(engine)?.unwrap_or_default());
                    }
                    return Ok(made);
                }
                Err(EngineError::Backend(error)) => return Err(error.into()),
                Err(error) => {
                    sequence.failed = Some(error);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Drafts of all sequences so far, and what became of them. Drafts are made for a sequence while it is the only one.
    pub fn speculated(&self) -> Speculated {
        self.speculated
    }

    /// Enqueues a step of all sequences that can go on; false where there is none.
    fn enqueue(&mut self, engine: &mut Engine, cache: &mut PromptCache) -> Result<bool, EngineError> {
        let (mut spans, mut outputs) = (vec![], vec![]);
        for sequence in &mut self.running {
            if sequence.takes_token(engine)? && sequence.mask(engine)? {
                spans.push(engine.span(sequence.session.slot(), Tokens::Sampled, Outputs::Last)?);
                let rows = outputs.len()..outputs.len() + 1;
                outputs.push(Output { id: sequence.id, wanted: true, last: false, rows });
                sequence.in_flight += 1;
            }
        }
        let mut step_rows = outputs.len();
        let mut keeps_rows = false;
        let mut reading: Vec<&mut Sequence> =
            self.running.iter_mut().filter_map(|sequence| sequence.is_reading().then_some(sequence)).collect();
        // Prompts share the rows; those at the front get at least one part.
        let share = (self.options.rows / reading.len().max(1)).max(CUT);
        let mut rows = self.options.rows.max(CUT);
        for sequence in &mut reading {
            let part = sequence.part(share.min(rows));
            if part.is_empty() {
                break;
            }
            rows -= part.len();
            let last = part.end == sequence.prompt.len();
            keeps_rows |= sequence.pool.is_some();
            if last && engine.makes_tokens() {
                engine.set_sampler(sequence.session.slot(), &sequence.ends.sampler, &sequence.prompt)?;
                if !sequence.mask(engine)? {
                    continue;
                }
            }
            let ids = sequence.prompt[part.clone()].to_vec();
            // Every part gives a token, though only the last one's is of use: waiting for it keeps few steps on the device.
            spans.push(engine.span(sequence.session.slot(), Tokens::Given(ids), Outputs::Last)?);
            let rows = step_rows..step_rows + part.len();
            step_rows = rows.end;
            outputs.push(Output { id: sequence.id, wanted: sequence.read(part, last), last, rows });
        }
        if spans.is_empty() {
            return Ok(false);
        }
        let step = Step { spans };
        let step = if keeps_rows { engine.run_keeping(&step, LAST_NORM)? } else { engine.run(&step)? };
        // What a sequence has read alone, the draft reads too; the row whose next token is not chosen yet it goes without.
        if let ([sequence], [Output { rows, .. }]) = (&self.running[..], &outputs[..])
            && let Some((first, following)) = sequence.following(rows.len())
        {
            engine.draft_reads(sequence.session.slot(), &step, rows.start, first, following)?;
        }
        self.in_flight.push_back(InFlight { step, outputs, keeps_rows });
        for sequence in &mut self.running {
            if let Some(kind) = sequence.take_stop() {
                cache.keep(engine, &sequence.session, kind)?;
            }
        }
        Ok(true)
    }

    /// Waits for a step, and gives its tokens to their sequences.
    async fn receive(
        &mut self,
        engine: &mut Engine,
        InFlight { step, outputs, keeps_rows }: InFlight,
        events: &mut Vec<(SequenceId, Event)>,
    ) -> Result<(), EngineError> {
        if !engine.makes_tokens() {
            return self.receive_scores(engine, &step, outputs, events).await;
        }
        let rows = if keeps_rows { engine.value(&step, LAST_NORM).await? } else { vec![] };
        let width = rows.len() / outputs.last().map_or(1, |output| output.rows.end.max(1));
        let wants = |id: &SequenceId| self.running.iter().any(|s| s.id == *id && s.logprobs.is_some());
        let last = self.in_flight.is_empty();
        let logits = if last && outputs.iter().any(|output| output.wanted && wants(&output.id)) {
            match engine.logits(&step).await {
                // Which of them it is, its token tells.
                Err(EngineError::NotFinite { .. }) => None,
                logits => Some(logits?),
            }
        } else {
            None
        };
        let vocabulary = engine.model().vocabulary;
        let row = |output: usize| logits.as_ref().and_then(|logits| logits.chunks_exact(vocabulary).nth(output));
        let tokens = engine.sampled_each(&step).await?;
        engine.token_came();
        for (output, (Output { id, wanted, last, rows: part }, token)) in outputs.into_iter().zip(tokens).enumerate() {
            let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) else { continue };
            sequence.in_flight -= 1;
            // It ended before this step, which found its slot frozen.
            if sequence.frozen {
                continue;
            }
            match token {
                Ok(token) if wanted => {
                    sequence.session.note(&[token]);
                    let scored = sequence.logprobs.zip(row(output));
                    let logprobs = scored.map(|(count, row)| TokenLogprobs::of(row, token, count));
                    events.push((id, Event::Token { token, logprobs }));
                    if sequence.ends.stop_token_ids.contains(&token) {
                        sequence.freeze(engine)?;
                        sequence.end(FinishReason::Stop);
                    } else {
                        sequence.advance(token);
                    }
                }
                Ok(_) => {
                    let Some(pool) = &mut sequence.pool else { continue };
                    pool.add(&rows[part.start * width..part.end * width], width);
                    match last.then(|| pool.finish()).flatten() {
                        Some(vector) => events.push((id, Event::Pooled(vector))),
                        None if last => sequence.failed = Some(engine.not_finite(&step, output)),
                        None => {}
                    }
                }
                Err(error) => {
                    sequence.freeze(engine)?;
                    sequence.failed = Some(error);
                }
            }
        }
        Ok(())
    }

    /// Waits for a step of a model with a classification head, and gives its scores to their sequences.
    async fn receive_scores(
        &mut self,
        engine: &mut Engine,
        step: &Running,
        outputs: Vec<Output>,
        events: &mut Vec<(SequenceId, Event)>,
    ) -> Result<(), EngineError> {
        let scores = engine.scores_each(step).await?;
        for (Output { id, last, .. }, scores) in outputs.into_iter().zip(scores) {
            let Some(sequence) = self.running.iter_mut().find(|sequence| sequence.id == id) else { continue };
            sequence.in_flight -= 1;
            match scores {
                Ok(scores) if last => events.push((id, Event::Pooled(scores))),
                Ok(_) => {}
                Err(error) => sequence.failed = Some(error),
            }
        }
        Ok(())
    }

    /// Closes the sequences that are over and of which nothing is under way.
    fn close_ended(
        &mut self,
        engine: &mut Engine,
        cache: &mut PromptCache,
        events: &mut Vec<(SequenceId, Event)>,
    ) -> Result<(), EngineError> {
        let mut index = 0;
        while index < self.running.len() {
            let Some(reason) = self.running[index].over(engine)? else {
                index += 1;
                continue;
            };
            // In order: those who came first are served first.
            let sequence = self.running.remove(index);
            let event = match sequence.failed {
                Some(error) => {
                    // What it left on its way may not be finite either.
                    if matches!(error, EngineError::NotFinite { .. }) {
                        cache.forget(engine, &sequence.prompt, sequence.first);
                    }
                    Event::Failed(error)
                }
                None => {
                    if sequence.remembers_end {
                        cache.keep(engine, &sequence.session, CheckpointKind::Reply)?;
                    }
                    Event::Ended { reason, read: sequence.session.read_tokens(engine)?.to_vec() }
                }
            };
            sequence.session.close(engine)?;
            events.push((sequence.id, event));
        }
        Ok(())
    }
}

/// Takes a slot for a request; its session remembers the beginning of the prompt as far as the cache does. Gives it with the
/// stops of what is left, and with how the sequence ends.
async fn enter(
    engine: &mut Engine,
    cache: &mut PromptCache,
    request: &SequenceRequest,
) -> Result<(Ends, Session, Vec<Mark>), EngineError> {
    let ends = match request.pooling {
        Some(task) => task.check(engine).map(|()| Ends::default())?,
        None => Ends::of(engine, &request.options)?,
    };
    if request.pooling.is_some_and(PoolingTask::needs_all_rows) {
        engine.check_length(request.prompt.len())?;
        engine.check_text(&request.prompt)?;
        return Ok((ends, Session::open(engine)?, vec![]));
    }
    let (session, mut stops) = cache.enter(engine, &request.prompt, &request.marks).await?;
    if matches!(request.pooling, Some(PoolingTask::Embed(_))) {
        // Texts of which a vector is wanted are many and seldom go on: the room is for those that do.
        stops.clear();
    }
    Ok((ends, session, stops))
}
