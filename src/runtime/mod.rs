//! The engine: a model on a device, with its slots, programs and tokenizer.
//!
//! The low level is a *step*: spans of tokens of several slots, read together ([`Engine::run`]). The high level,
//! a generation in one slot, is [`crate::generate`]. Prefix tokens that a model puts in front of every text (Hymba's
//! meta tokens) are read once, when the engine is loaded, into the initial state; every slot begins as a copy of
//! it, and neither contexts nor lengths count them.

mod cancel;
mod checkpoints;
mod error;
pub(crate) mod generation_config;
mod load;
mod log_softmax;
mod memory_estimate;
mod programs;
mod purpose;
mod slots;
mod snapshot;
mod speculation;
mod steps_in_flight;
mod stop_token_ids;

use std::sync::Arc;

use web_time::Instant;

use crate::arch::{Head, Model};
use crate::backend::{
    Backend, BackendInfo, BackendKind, Counters, KernelTime, Outputs, ProgramId, Span, Step, StepTable, Ticket, Tokens,
};
use crate::checkpoint::WeightChoice;
use crate::graph::{Op, Rows, ValueId};
use crate::state::{NO_TOKEN, Sampler, SlotId, StateLayout, unusable};
use crate::text::{TextError, Tokenizer};

pub use cancel::Cancel;
pub use checkpoints::StateCheckpoint;
pub use error::EngineError;
pub use load::EngineOptions;
pub(crate) use log_softmax::LogSoftmax;
pub use memory_estimate::{transformer_bytes_per_token, weight_bytes, workspace_bytes};
pub use purpose::Purpose;
pub use speculation::MOST_DRAFTS;
pub(crate) use speculation::VERIFIED_ROWS;
pub(crate) use stop_token_ids::watched;

use checkpoints::Checkpoints;
use programs::Programs;
use slots::Slots;
use snapshot::Identity;
use speculation::Drafter;
use steps_in_flight::StepsInFlight;

/// Rows of a step while a prompt is read, by default.
pub const PREFILL_ROWS: usize = 256;

/// Bytes of a text's tokens on average, at the very most: tokens of so many bytes exist, texts of them do not.
const LONGEST_TOKENS: usize = 64;
/// Bytes of a text that are never too many to be looked at.
const SHORTEST_LIMIT: usize = 1 << 18;

/// A loaded model on a device.
pub struct Engine {
    backend: Box<dyn Backend>,
    model: Model,
    layout: StateLayout,
    programs: Programs,
    slots: Slots,
    checkpoints: Checkpoints,
    /// Where it speculates.
    drafter: Option<Drafter>,
    tokenizer: Option<Arc<Tokenizer>>,
    /// Tokens that end a text, each once.
    stop_token_ids: Vec<u32>,
    /// Bytes of each weight, by id.
    weight_bytes: Vec<u64>,
    /// Storage format of the matrices, after `Auto` was decided.
    weights: WeightChoice,
    identity: Identity,
    steps_in_flight: StepsInFlight,
    /// Sentences for the user, in the order in which they came up.
    notices: Vec<String>,
    /// Origin of times.
    begun: Instant,
}

/// A step in flight.
#[derive(Clone, Debug)]
pub struct Running {
    program: ProgramId,
    ticket: Ticket,
    rows: usize,
    /// Position of each row whose logits the step gives, prefix tokens counted.
    outputs: Vec<usize>,
}

impl Running {
    /// Rows whose logits the step gives.
    pub fn outputs(&self) -> usize {
        self.outputs.len()
    }
}

impl Engine {
    /// The device.
    pub fn info(&self) -> &BackendInfo {
        self.backend.info()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Bytes of memory that it takes: weights, slots and workspace.
    pub fn memory_bytes(&self) -> u64 {
        self.weight_bytes() + self.layout.allocated() + workspace_bytes(&self.model.graph)
    }

    /// Whether it generates text: its head gives logits over the vocabulary.
    pub fn makes_tokens(&self) -> bool {
        matches!(self.model.head, Head::CausalLm)
    }

    /// Layout of the slots' memory. Its context counts the prefix tokens.
    pub fn layout(&self) -> &StateLayout {
        &self.layout
    }

    /// The backend, for what it can tell about itself.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Names of the kernels that a step starts, by op, in order.
    pub fn dispatches(&self, step: &Running) -> Vec<String> {
        self.backend.dispatches(step.program)
    }

    /// Time of each kernel since the last call, the longest first: see [`Backend::kernel_times`].
    pub async fn kernel_times(&mut self) -> Result<Vec<KernelTime>, EngineError> {
        Ok(self.backend.kernel_times().await?)
    }

    /// The backend's counts so far.
    pub fn counters(&self) -> Counters {
        self.backend.counters()
    }

    /// Storage format of the matrices: the one asked for, or the one that `Auto` took because the checkpoint's own
    /// does not fit into memory.
    pub fn weights(&self) -> WeightChoice {
        self.weights
    }

    /// Notes for the user about a model that runs: tensors that nothing reads, fields of its files that are passed
    /// over. Whole sentences without a full stop, in the order in which they came up.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Bytes of all weights as stored.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes.iter().sum()
    }

    /// Bytes that one decode step of `batch` sequences of `depth` tokens reads, computed from sizes: every
    /// weight of a layer once, and each sequence's state.
    pub fn bytes_per_step(&self, batch: usize, depth: usize) -> u64 {
        let ops = self.model.graph.ops.iter().filter(|op| !matches!(op, Op::Embed(_)));
        let read: std::collections::BTreeSet<_> = ops.flat_map(Op::weights).collect();
        let weights: u64 = read.into_iter().map(|id| self.weight_bytes[id.0 as usize]).sum();
        let state = self.layout.bytes();
        weights + batch as u64 * (state.pinned + state.at(depth as u64))
    }

    /// The tokenizer, if the checkpoint has one.
    pub fn tokenizer(&self) -> Result<Arc<Tokenizer>, EngineError> {
        self.tokenizer.clone().ok_or(EngineError::NoTokenizer)
    }

    /// True for a token that ends a text.
    pub fn is_stop_token(&self, token: u32) -> bool {
        self.stop_token_ids.contains(&token)
    }

    /// Tokens that one sequence can hold.
    pub fn context(&self) -> usize {
        self.layout.context - self.model.prefix_tokens.len()
    }

    /// Opens a new, empty sequence.
    pub fn open(&mut self) -> Result<SlotId, EngineError> {
        let slot = self.slots.open()?;
        self.backend.reset(slot)?;
        Ok(slot)
    }

    /// Ends a sequence and gives its memory back.
    pub fn close(&mut self, slot: SlotId) -> Result<(), EngineError> {
        self.forget_mark(slot);
        self.slots.close(slot)
    }

    /// Makes a sequence empty.
    pub fn clear(&mut self, slot: SlotId) -> Result<(), EngineError> {
        self.slots.adopt(slot, &[], self.model.prefix_tokens.len())?;
        self.forget_mark(slot);
        Ok(self.backend.reset(slot)?)
    }

    /// Tokens that a sequence has read.
    pub fn length(&self, slot: SlotId) -> Result<usize, EngineError> {
        Ok(self.slots.position(slot)? - self.model.prefix_tokens.len())
    }

    /// Tokens that a sequence can still read.
    pub fn room(&self, slot: SlotId) -> Result<usize, EngineError> {
        Ok(self.context() - self.length(slot)?)
    }

    /// A span that goes on where its slot ends.
    pub fn span(&self, slot: SlotId, tokens: Tokens, outputs: Outputs) -> Result<Span, EngineError> {
        Ok(Span { slot, first: self.slots.position(slot)?, tokens, outputs })
    }

    /// Enqueues a step of spans that begin where their slots end.
    pub fn run(&mut self, step: &Step) -> Result<Running, EngineError> {
        self.enqueue_step(step, None)
    }

    /// The same with a program that keeps a value too, to be read with [`value`](Self::value).
    pub fn run_keeping(&mut self, step: &Step, name: &str) -> Result<Running, EngineError> {
        let value = self.model.graph.find(name).ok_or_else(|| EngineError::NoValue(name.into()))?;
        self.enqueue_step(step, Some(value))
    }

    fn enqueue_step(&mut self, step: &Step, keep: Option<ValueId>) -> Result<Running, EngineError> {
        for span in &step.spans {
            self.check(span)?;
        }
        let table = StepTable::new(step, &self.layout)?;
        let program = self.programs.get(&mut *self.backend, &self.model.graph, &table, keep)?;
        for span in &step.spans {
            self.reserve(span.slot, span.first + span.tokens.len())?;
        }
        let ticket = self.backend.step(program, &table)?;
        for span in &step.spans {
            self.slots.advance(span)?;
        }
        let position = |&row: &u32| table.rows[row as usize][2] as usize;
        let outputs = table.outputs.iter().map(position).collect();
        Ok(Running { program, ticket, rows: table.rows.len(), outputs })
    }

    /// Refuses spans that do not continue their slot, that do not fit, or whose ids are not in the vocabulary.
    fn check(&self, span: &Span) -> Result<(), EngineError> {
        let position = self.slots.position(span.slot)?;
        if span.first != position {
            return Err(EngineError::Position { slot: span.slot.0, got: span.first, position });
        }
        self.check_room(span.slot, span.tokens.len())?;
        match &span.tokens {
            Tokens::Given(ids) => self.check_tokens(ids),
            Tokens::Sampled if self.slots.sampled(span.slot)? => Ok(()),
            Tokens::Sampled => Err(EngineError::NothingSampled(span.slot.0)),
        }
    }

    pub(crate) fn check_room(&self, slot: SlotId, tokens: usize) -> Result<(), EngineError> {
        if tokens > self.room(slot)? {
            return Err(EngineError::ContextFull { tokens, used: self.length(slot)?, context: self.context() });
        }
        Ok(())
    }

    /// Refuses a text that is longer than the context.
    pub fn check_length(&self, tokens: usize) -> Result<(), EngineError> {
        if tokens > self.context() {
            return Err(EngineError::ContextFull { tokens, used: 0, context: self.context() });
        }
        Ok(())
    }

    /// Refuses ids that are not in the vocabulary.
    pub fn check_tokens(&self, ids: &[u32]) -> Result<(), EngineError> {
        let vocabulary = self.model.vocabulary;
        match ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(&id) => Err(EngineError::UnknownToken { id, vocabulary }),
            None => Ok(()),
        }
    }

    /// Refuses a prompt that is empty, that does not fit, or that holds an id that stands for no text.
    pub(crate) fn check_prompt(&self, slot: SlotId, prompt: &[u32]) -> Result<(), EngineError> {
        self.check_text(prompt)?;
        self.check_room(slot, prompt.len())
    }

    /// Refuses a text that no slot can read: one that is empty, or that holds an id that stands for no text.
    pub(crate) fn check_text(&self, ids: &[u32]) -> Result<(), EngineError> {
        self.check_tokens(ids)?;
        if let Some(&(field, id)) = self.model.placeholder_ids.iter().find(|(_, id)| ids.contains(id)) {
            return Err(EngineError::Placeholder { id, field });
        }
        if ids.is_empty() { Err(EngineError::EmptyPrompt) } else { Ok(()) }
    }

    /// Reads a prompt in spans of `chunk` rows; the last row gives logits and the first token. `None`
    /// when it was cancelled halfway. Nothing is read unless the whole prompt can be.
    pub async fn prefill(
        &mut self,
        slot: SlotId,
        prompt: &[u32],
        chunk: usize,
        cancel: &Cancel,
    ) -> Result<Option<Running>, EngineError> {
        self.prefill_drafting(slot, prompt, chunk, cancel, None).await
    }

    /// The same; the draft of an engine that speculates reads the prompt too, `next` being the token behind it where that is
    /// known (`Some(None)`: it is not). Then the logits of the last row are gone.
    pub(crate) async fn prefill_drafting(
        &mut self,
        slot: SlotId,
        prompt: &[u32],
        chunk: usize,
        cancel: &Cancel,
        next: Option<Option<u32>>,
    ) -> Result<Option<Running>, EngineError> {
        if prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        self.check_tokens(prompt)?;
        self.check_room(slot, prompt.len())?;
        let mut before = None;
        let (mut at, begin) = (0, self.length(slot)?);
        for ids in prompt.chunks(chunk.max(1)) {
            if cancel.is_cancelled() {
                return Ok(None);
            }
            // Every span gives a token, though only the last one's is of use: waiting for it keeps at most
            // two steps on the device, so that a cancellation takes effect soon.
            let running = self.enqueue(slot, ids, Outputs::Last)?;
            if let Some(next) = next {
                let behind: Vec<u32> = prompt[at + 1..].iter().copied().take(ids.len()).chain(next).collect();
                self.draft_reads(slot, &running, 0, begin + at, &behind[..behind.len().min(ids.len())])?;
            }
            at += ids.len();
            if let Some(before) = before.replace(running) {
                self.sampled(&before).await?;
            }
        }
        Ok(before)
    }

    /// Sets a sequence's sampler from the next step on, and the tokens that count as seen. A sequence that chose a
    /// stop token or reached its limit is frozen: a step that reads its own token changes nothing that it remembers.
    pub fn set_sampler(&mut self, slot: SlotId, sampler: &Sampler, seen: &[u32]) -> Result<(), EngineError> {
        self.slots.position(slot)?;
        sampler.check()?;
        Ok(self.backend.set_sampler(slot, sampler, seen)?)
    }

    /// Bytes of a text that may fit the context: so many a token no text has.
    pub fn most_bytes(&self) -> usize {
        (self.context() * LONGEST_TOKENS).max(SHORTEST_LIMIT)
    }

    /// Refuses a text that is longer than any of the context's length, before the work of making tokens of it.
    pub fn check_bytes(&self, text: &str) -> Result<(), EngineError> {
        let most = self.most_bytes();
        if text.len() > most {
            let (bytes, context) = (text.len(), self.context());
            let why = format!("it has {bytes} bytes, and may have {most} for a context of {context} tokens");
            return Err(TextError::Encode(why).into());
        }
        Ok(())
    }

    /// Token ids that end a text of this model.
    pub fn stop_token_ids(&self) -> &[u32] {
        &self.stop_token_ids
    }

    /// Tells which tokens a sequence may choose, until its next mask or sampler: a bit a token, the lowest first. `None`: any.
    pub fn set_mask(&mut self, slot: SlotId, mask: Option<&[u32]>) -> Result<(), EngineError> {
        self.slots.position(slot)?;
        Ok(self.backend.set_mask(slot, mask)?)
    }

    /// A sampler with the model's stop tokens added and a limit of `limit` tokens. Its `stop_token_ids` are distinct, and may be
    /// more than a device watches for.
    pub(crate) fn complete(&self, sampler: &Sampler, limit: usize) -> Sampler {
        let mut sampler = sampler.clone();
        sampler.stop_token_ids.extend(&self.stop_token_ids);
        sampler.stop_token_ids = stop_token_ids::distinct(sampler.stop_token_ids);
        sampler.limit = u32::try_from(limit).unwrap_or(0);
        sampler
    }

    /// Steps of a text that should be in flight. A CPU has computed a step once it is enqueued, so one is enough.
    pub(crate) fn steps_in_flight(&self) -> usize {
        if self.info().kind == BackendKind::Cpu { 1 } else { self.steps_in_flight.depth() }
    }

    /// Starts a text: the time until its first token is no measure of a step.
    pub(crate) fn pause(&mut self) {
        self.steps_in_flight.interrupt();
    }

    pub(crate) fn token_came(&mut self) {
        self.steps_in_flight.token(self.begun.elapsed().as_secs_f64());
    }

    /// Takes back the last `steps` steps of one row that found a sequence frozen.
    pub(crate) fn rewind(&mut self, slot: SlotId, steps: usize) -> Result<(), EngineError> {
        let position = self.slots.position(slot)?;
        self.slots.skip(slot, position - steps)
    }

    /// Makes a sequence `tokens` longer without reading anything: its keys, values and states are whatever
    /// the device holds there. For measuring at a depth.
    pub fn skip(&mut self, slot: SlotId, tokens: usize) -> Result<(), EngineError> {
        self.check_room(slot, tokens)?;
        let end = self.slots.position(slot)? + tokens;
        self.reserve(slot, end)?;
        self.slots.skip(slot, end)
    }

    /// Enqueues the next tokens of one sequence.
    pub fn enqueue(&mut self, slot: SlotId, ids: &[u32], outputs: Outputs) -> Result<Running, EngineError> {
        let span = self.span(slot, Tokens::Given(ids.to_vec()), outputs)?;
        self.run(&Step { spans: vec![span] })
    }

    /// Enqueues the token that was last chosen in this sequence; it need not be known to the host.
    pub fn decode(&mut self, slot: SlotId) -> Result<Running, EngineError> {
        let span = self.span(slot, Tokens::Sampled, Outputs::Last)?;
        self.run(&Step { spans: vec![span] })
    }

    /// The token chosen from each output of a step. Waits for the step; it can be asked once, and only of
    /// a step that has outputs. [`EngineError::NotFinite`] where the logits of any are; see
    /// [`sampled_each`](Self::sampled_each).
    pub async fn sampled(&mut self, step: &Running) -> Result<Vec<u32>, EngineError> {
        self.sampled_each(step).await?.into_iter().collect()
    }

    /// The same, each output for itself: a sequence whose logits are not finite is frozen, and those beside it go on.
    pub async fn sampled_each(&mut self, step: &Running) -> Result<Vec<Result<u32, EngineError>>, EngineError> {
        let tokens = self.backend.sampled(step.ticket).await?;
        let each = tokens.into_iter().enumerate();
        Ok(each.map(|(i, token)| if token == NO_TOKEN { Err(self.not_finite(step, i)) } else { Ok(token) }).collect())
    }

    /// The logits of a step's outputs, `f32 [outputs, vocabulary]`. Ask before the next step is run.
    /// [`EngineError::NotFinite`] where no token could be chosen from a row of them.
    pub async fn logits(&mut self, step: &Running) -> Result<Vec<f32>, EngineError> {
        let (logits, columns) = self.read_outputs(step).await?;
        match logits.chunks_exact(columns).position(unusable) {
            Some(output) => Err(self.not_finite(step, output)),
            None => Ok(logits),
        }
    }

    /// The scores of a step's outputs, `f32 [labels]` each, of a model with a classification head; an error for those that are
    /// not finite. Ask before the next step is run.
    pub(crate) async fn scores_each(
        &mut self,
        step: &Running,
    ) -> Result<Vec<Result<Vec<f32>, EngineError>>, EngineError> {
        let (scores, columns) = self.read_outputs(step).await?;
        let rows = scores.chunks_exact(columns).enumerate();
        Ok(rows.map(|(i, row)| if unusable(row) { Err(self.not_finite(step, i)) } else { Ok(row.to_vec()) }).collect())
    }

    pub(crate) fn not_finite(&self, step: &Running, output: usize) -> EngineError {
        let position = step.outputs.get(output).map_or(0, |position| position - self.model.prefix_tokens.len());
        EngineError::NotFinite { position, kv: self.layout.kv_format, weights: self.weights }
    }

    /// A value that the step kept ([`EngineOptions::keep`], [`run_keeping`](Self::run_keeping)), `f32 [rows, width]`. Ask
    /// before the next step is run.
    pub async fn value(&mut self, step: &Running, name: &str) -> Result<Vec<f32>, EngineError> {
        let found = self.model.graph.find(name).filter(|&value| self.programs.keeps(step.program, value));
        self.read(step, found.ok_or_else(|| EngineError::NoValue(name.into()))?).await
    }

    /// What the head gives of a step's outputs, and the numbers of each.
    async fn read_outputs(&mut self, step: &Running) -> Result<(Vec<f32>, usize), EngineError> {
        let value = self.model.graph.logits.ok_or_else(|| EngineError::NoValue("logits".into()))?;
        Ok((self.read(step, value).await?, self.model.graph.value(value).width.max(1)))
    }

    async fn read(&mut self, step: &Running, value: ValueId) -> Result<Vec<f32>, EngineError> {
        let rows = match self.model.graph.value(value).rows {
            Rows::All => step.rows,
            Rows::Outputs => step.outputs.len(),
        };
        Ok(self.backend.read(step.program, value, rows).await?)
    }
}
