//! Speculation: a model's heads for later tokens draft what may come, one step of the model verifies all of it, and where a
//! draft is refused the slot's memory goes back on the device.
//!
//! Leviathan et al. 2023, arXiv 2211.17192; with the model's own heads DeepSeek-V3, arXiv 2412.19437. A token that was
//! drafted counts only where the model chooses the same, so no text depends on drafts. Attention forgets by a shorter length
//! alone. Of rings, convolution columns and recurrent states a **mark** is kept, one block a sequence; the tokens that were
//! accepted behind it are read again as the first rows of the next step.

use std::collections::BTreeMap;

use super::programs::Programs;
use super::{Engine, EngineError, Running};
use crate::backend::{BlockId, Outputs, ProgramId, Span, Step, StepTable, Ticket, Tokens};
use crate::graph::ValueId;
use crate::state::{NO_TOKEN, SlotId};

/// Rows of a step that verifies: tokens that are read again, the token chosen last, drafts. Every backend reads its weights
/// once for so many.
pub(crate) const VERIFIED_ROWS: usize = 8;
/// Most tokens that are drafted ahead of a step.
pub const MOST_DRAFTS: usize = VERIFIED_ROWS - 1;

/// What an engine that speculates has beside its model.
#[derive(Debug)]
pub(super) struct Drafter {
    /// Most tokens drafted ahead of a step.
    most: usize,
    programs: Programs,
    /// The mark of each sequence that has one, by slot.
    marks: BTreeMap<u32, BlockId>,
}

impl Drafter {
    /// One whose programs keep `last`, the draft's own last norm.
    pub(super) fn new(most: usize, last: ValueId) -> Self {
        Self { most, programs: Programs::new([last].into()), marks: BTreeMap::new() }
    }
}

/// Where rows of hidden states lie: a value of a program, as its last step left it.
#[derive(Clone, Copy)]
struct Rows {
    place: (ProgramId, ValueId),
    first: usize,
}

impl Engine {
    /// Most tokens that are drafted ahead of a step; 0 where the engine does not speculate.
    pub fn most_drafts(&self) -> usize {
        self.drafter.as_ref().map_or(0, |drafter| drafter.most)
    }

    /// Keeps what a sequence remembers outside its pages on the device, in place of its mark before. One copy of a block.
    pub(crate) fn mark(&mut self, slot: SlotId) -> Result<(), EngineError> {
        self.forget_mark(slot);
        let block = self.backend.save_block(slot)?;
        match &mut self.drafter {
            Some(drafter) => drop(drafter.marks.insert(slot.0, block)),
            None => self.backend.free_block(block),
        }
        Ok(())
    }

    /// Makes a sequence remember again what it did at its mark, after `length` tokens. Its pages and its sampler stay. One copy
    /// of a block.
    pub(crate) fn rewind_to_mark(&mut self, slot: SlotId, length: usize) -> Result<(), EngineError> {
        let mark = self.drafter.as_ref().and_then(|drafter| drafter.marks.get(&slot.0));
        let block = *mark.ok_or(EngineError::NoCheckpoint)?;
        self.backend.rewind(slot, block)?;
        self.slots.go_back(slot, self.model.prefix_tokens.len() + length)
    }

    /// Ends a sequence's mark, if it has one.
    pub(crate) fn forget_mark(&mut self, slot: SlotId) {
        if let Some(block) = self.drafter.as_mut().and_then(|drafter| drafter.marks.remove(&slot.0)) {
            self.backend.free_block(block);
        }
    }

    /// See [`Backend::set_verifying`](crate::backend::Backend::set_verifying).
    pub(crate) fn set_verifying(&mut self, slot: SlotId, verifying: bool) -> Result<(), EngineError> {
        Ok(self.backend.set_verifying(slot, verifying)?)
    }

    /// Tells a sequence that verifies how many tokens it has chosen, the last of them, and whether it is finished.
    pub(crate) fn set_chosen(&mut self, slot: SlotId, chosen: usize, last: u32, end: bool) -> Result<(), EngineError> {
        let chosen = u32::try_from(chosen).unwrap_or(u32::MAX);
        Ok(self.backend.set_chosen(slot, chosen, last, end)?)
    }

    /// Lets the draft read what a step has read, from the step's row `row` on, which is the sequence's token `first`.
    /// `tokens` are those that follow each row's. Ask before the next step is run. Nothing happens where the engine does not
    /// speculate.
    pub(crate) fn draft_reads(
        &mut self,
        slot: SlotId,
        step: &Running,
        row: usize,
        first: usize,
        tokens: &[u32],
    ) -> Result<(), EngineError> {
        let Some(from) = self.source(step, row).filter(|_| !tokens.is_empty()) else { return Ok(()) };
        self.draft_step(slot, from, first, tokens, Outputs::None)?;
        Ok(())
    }

    /// The draft's logits of the rows of a step, `f32 [rows, vocabulary]`, where `tokens` are those that follow each row and
    /// `first` is the sequence's token in the first one. Ask before the next step is run.
    /// [`EngineError::NoValue`] where the engine does not speculate.
    pub async fn draft_logits(
        &mut self,
        slot: SlotId,
        step: &Running,
        first: usize,
        tokens: &[u32],
    ) -> Result<Vec<f32>, EngineError> {
        let logits = self.model.draft.as_ref().and_then(|draft| draft.graph.logits);
        let missing = || EngineError::NoValue("draft".into());
        let (from, logits) = self.source(step, 0).zip(logits).ok_or_else(missing)?;
        let (read, asked) = (self.length(slot)?, first.saturating_add(tokens.len()));
        if asked > read {
            return Err(EngineError::NotRead { asked, read });
        }
        let (program, _) = self.draft_step(slot, from, first, tokens, Outputs::All)?;
        Ok(self.backend.read(program, logits, tokens.len()).await?)
    }

    /// The same, and drafts up to `count` tokens that may come behind the last of `tokens`. The first costs one step of the
    /// draft over all rows, each further one a step of one row; the host waits for each.
    pub async fn draft(
        &mut self,
        slot: SlotId,
        step: &Running,
        row: usize,
        first: usize,
        tokens: &[u32],
        count: usize,
    ) -> Result<Vec<u32>, EngineError> {
        let (Some(mut from), Some(last)) = (self.source(step, row), self.model.draft.as_ref().map(|draft| draft.last))
        else {
            return Ok(vec![]);
        };
        if count == 0 || tokens.is_empty() {
            self.draft_reads(slot, step, row, first, tokens)?;
            return Ok(vec![]);
        }
        let (mut drafts, mut read, mut first) = (vec![], tokens.to_vec(), first);
        loop {
            let (program, ticket) = self.draft_step(slot, from, first, &read, Outputs::Last)?;
            let guess = self.backend.sampled(ticket).await?.first().copied();
            // A draft that is not finite drafts nothing.
            let Some(guess) = guess.filter(|&id| id != NO_TOKEN && (id as usize) < self.model.vocabulary) else {
                break;
            };
            drafts.push(guess);
            if drafts.len() == count {
                break;
            }
            (from, first) = (Rows { place: (program, last), first: read.len() - 1 }, first + read.len());
            read = vec![guess];
            // The step that verifies needs the page too.
            match self.reserve(slot, self.model.prefix_tokens.len() + first + 1) {
                Err(EngineError::Pages(_)) => break,
                reserved => reserved?,
            }
        }
        Ok(drafts)
    }

    fn source(&self, step: &Running, first: usize) -> Option<Rows> {
        let draft = self.model.draft.as_ref().filter(|_| self.drafter.is_some())?;
        Some(Rows { place: (step.program, draft.source), first })
    }

    fn draft_step(
        &mut self,
        slot: SlotId,
        from: Rows,
        first: usize,
        tokens: &[u32],
        outputs: Outputs,
    ) -> Result<(ProgramId, Ticket), EngineError> {
        let (Some(drafter), Some(draft)) = (&mut self.drafter, &self.model.draft) else {
            return Err(EngineError::NoValue("draft".into()));
        };
        let first = self.model.prefix_tokens.len() + first;
        let span = Span { slot, first, tokens: Tokens::Given(tokens.to_vec()), outputs };
        let table = StepTable::new(&Step { spans: vec![span] }, &self.layout)?;
        let program = drafter.programs.get(&mut *self.backend, &draft.graph, &table, None)?;
        self.backend.copy_rows(from.place, from.first..from.first + tokens.len(), (program, draft.hidden))?;
        Ok((program, self.backend.step(program, &table)?))
    }
}
