//! A generation that speculates: tokens are drafted by the model's own heads, verified by the model in one step, and those
//! that it chooses too are given.
//!
//! A step reads the tokens that the slot has not read (those that a refusal took back, and the one chosen last) and the
//! drafts behind them, and chooses from every row from the last chosen token's on, each with the draw that it would have had
//! without drafts. Up to the first choice that is no draft, the rows have read what the text turns out to be. Where all
//! drafts were chosen the slot stays as it is, and where not it goes back to where the step began. So a step never gives
//! less than one token, and a text is what it is without speculation. Where nothing is accepted there are drafts in one step
//! of seventeen.

use std::collections::VecDeque;
use std::fmt;

use crate::backend::Outputs;
use crate::runtime::{Engine, EngineError, Running, VERIFIED_ROWS};
use crate::state::SlotId;

/// Steps one after the other whose first draft was refused, after which there are no drafts for a while.
const MISSES: usize = 4;
/// Steps without drafts. Where the first draft after them is refused, as many follow.
const REST: usize = 16;

/// Counts of a generation that speculates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Speculated {
    /// Steps of the model behind the prompt.
    pub steps: usize,
    /// Tokens that those gave.
    pub tokens: usize,
    /// Tokens drafted for them.
    pub drafted: usize,
    /// Of these, tokens that became part of the text.
    pub accepted: usize,
}

impl Speculated {
    /// Part of the drafts that was accepted; 0 where there were none.
    pub fn acceptance(&self) -> f64 {
        self.accepted as f64 / self.drafted.max(1) as f64
    }

    /// Tokens that a step of the model gave in the mean.
    pub fn tokens_per_step(&self) -> f64 {
        self.tokens as f64 / self.steps.max(1) as f64
    }

    /// Adds another generation's.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.tokens += other.tokens;
        self.drafted += other.drafted;
        self.accepted += other.accepted;
    }
}

impl fmt::Display for Speculated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { drafted, accepted, .. } = self;
        let (part, mean) = (100.0 * self.acceptance(), self.tokens_per_step());
        write!(f, "{accepted} of {drafted} drafts accepted ({part:.0} %), {mean:.2} tokens a step")
    }
}

/// A slot's text while drafts are made for it.
#[derive(Debug)]
pub(super) struct Speculation {
    slot: SlotId,
    /// All that was read or chosen since the prompt began; the slot has read all but the last at most.
    text: Vec<u32>,
    /// Tokens that the slot had read before.
    before: usize,
    /// Tokens chosen.
    chosen: usize,
    /// Tokens that were read at the slot's mark.
    mark: Option<usize>,
    /// Tokens from which on the draft has read nothing.
    drafted: usize,
    drafts: Vec<u32>,
    /// Steps in a row that accepted no draft.
    misses: usize,
    /// Steps still to come without drafts.
    rest: usize,
    /// Chosen, and not given yet.
    ready: VecDeque<u32>,
    /// A stop token was chosen.
    stopped: bool,
    counts: Speculated,
}

/// A step that verifies.
struct Verified {
    running: Running,
    /// Token of its first row.
    first: usize,
    drafts: Vec<u32>,
}

impl Speculation {
    /// Goes on behind a prompt, of which `step` read the tokens from `first` on.
    pub async fn begin(
        engine: &mut Engine,
        slot: SlotId,
        text: &[u32],
        (running, first): (Running, usize),
        stop_token_ids: &[u32],
        left: &mut usize,
    ) -> Result<Self, EngineError> {
        let before = engine.length(slot)? - text.len();
        let mut this = Self { drafted: first, ..Self::new(slot, text, before) };
        this.finish_step(engine, Verified { running, first, drafts: vec![] }, stop_token_ids, left).await?;
        Ok(this)
    }

    /// Goes on with a text of which the slot has read all but the last token, with `chosen` tokens of it chosen since the
    /// slot's sampler was set.
    pub fn enter(engine: &mut Engine, slot: SlotId, text: &[u32], chosen: usize) -> Result<Self, EngineError> {
        engine.set_verifying(slot, true)?;
        let last = text.len().saturating_sub(1);
        let before = engine.length(slot)?.saturating_sub(last);
        Ok(Self { chosen, drafted: last, ..Self::new(slot, text, before) })
    }

    /// Behind a text of a slot that had read `before` tokens: nothing chosen, marked or drafted yet.
    fn new(slot: SlotId, text: &[u32], before: usize) -> Self {
        Self {
            slot,
            text: text.to_vec(),
            before,
            chosen: 0,
            mark: None,
            drafted: 0,
            drafts: vec![],
            misses: 0,
            rest: 0,
            ready: VecDeque::new(),
            stopped: false,
            counts: Speculated::default(),
        }
    }

    /// The next token that was chosen already, and whether it ends the text.
    pub fn take(&mut self) -> Option<(u32, bool)> {
        let token = self.ready.pop_front()?;
        Some((token, self.stopped && self.ready.is_empty()))
    }

    /// Counts so far.
    pub fn counts(&self) -> Speculated {
        self.counts
    }

    /// Whether the context has room for the token chosen last.
    pub fn has_room(&self, engine: &Engine) -> bool {
        self.before + self.text.len() <= engine.context()
    }

    /// Tokens of the text that the slot has read.
    fn read(&self, engine: &Engine) -> Result<usize, EngineError> {
        Ok(engine.length(self.slot)?.saturating_sub(self.before))
    }

    /// One step of the model, and the drafts for the next. `left` is how many tokens are still wanted.
    pub async fn step(
        &mut self,
        engine: &mut Engine,
        stop_token_ids: &[u32],
        left: &mut usize,
    ) -> Result<(), EngineError> {
        let first = self.read(engine)?;
        let mut drafts = std::mem::take(&mut self.drafts);
        if !drafts.is_empty() && self.mark != Some(first) {
            self.mark = None;
            match engine.mark(self.slot) {
                Ok(()) => self.mark = Some(first),
                // Without a mark there is no way back: no drafts for a while.
                Err(error) if error.lacks_memory() => {
                    drafts.clear();
                    self.rest = REST;
                }
                Err(error) => return Err(error),
            }
        }
        let rows = [&self.text[first..], &drafts].concat();
        let running = match engine.enqueue(self.slot, &rows, Outputs::Tail(drafts.len() + 1)) {
            // Drafts are no reason to end for want of a page.
            Err(EngineError::Pages(_)) if !drafts.is_empty() => {
                drafts.clear();
                engine.enqueue(self.slot, &self.text[first..], Outputs::Last)?
            }
            running => running?,
        };
        let before = self.text.len();
        self.counts.steps += 1;
        self.counts.drafted += drafts.len();
        self.finish_step(engine, Verified { running, first, drafts }, stop_token_ids, left).await?;
        self.counts.tokens += self.text.len() - before;
        Ok(())
    }

    /// Takes what a step chose into the text, goes back where a draft was refused, and drafts anew.
    async fn finish_step(
        &mut self,
        engine: &mut Engine,
        Verified { running, first, drafts }: Verified,
        stop_token_ids: &[u32],
        left: &mut usize,
    ) -> Result<(), EngineError> {
        let mut chosen = vec![];
        for (row, token) in engine.sampled_each(&running).await?.into_iter().enumerate() {
            let token = match token {
                Ok(token) => token,
                Err(error) if row == 0 => return Err(error),
                // The next step comes upon it in its first row.
                Err(_) => break,
            };
            chosen.push(token);
            self.counts.accepted += usize::from(drafts.get(row) == Some(&token));
            self.stopped = stop_token_ids.contains(&token);
            if self.stopped || drafts.get(row) != Some(&token) {
                break;
            }
        }
        if chosen.len() <= drafts.len()
            && let Some(mark) = self.mark
        {
            engine.rewind_to_mark(self.slot, self.before + mark)?;
        }
        match (drafts.is_empty(), chosen.len()) {
            (true, _) => self.rest = self.rest.saturating_sub(1),
            (false, 1) => self.misses += 1,
            (false, _) => self.misses = 0,
        }
        if self.misses == MISSES {
            (self.misses, self.rest) = (MISSES - 1, REST);
        }
        *left = left.saturating_sub(chosen.len());
        self.chosen += chosen.len();
        self.text.extend(&chosen);
        self.ready.extend(chosen);
        let newest = self.text.len() - 1;
        engine.set_chosen(self.slot, self.chosen, self.text[newest], self.stopped || *left == 0)?;
        if self.stopped {
            return self.end(engine);
        }
        // As many drafts as are wanted, as fit into the next step's rows, and as the context has room for.
        let unread = self.text.len() - self.read(engine)?;
        let room = engine.room(self.slot)?.min(VERIFIED_ROWS).saturating_sub(unread);
        let wanted = if self.rest > 0 { 0 } else { engine.most_drafts() };
        let count = wanted.min(room).min(left.saturating_sub(1));
        let from = self.drafted.max(first);
        let tokens = &self.text[from + 1..];
        self.drafts = engine.draft(self.slot, &running, from - first, self.before + from, tokens, count).await?;
        self.drafted = newest;
        Ok(())
    }

    /// Ends the speculation: the slot has read all but the last token afterwards, and chooses for itself.
    pub fn end(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        let (read, last) = (self.read(engine)?, self.text.len() - 1);
        if read < last {
            engine.enqueue(self.slot, &self.text[read..last], Outputs::None)?;
        }
        engine.forget_mark(self.slot);
        self.mark = None;
        engine.set_verifying(self.slot, false)
    }
}
