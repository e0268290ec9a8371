//! Slots of an engine: open or free, next position, pages.

use super::EngineError;
use crate::backend::{Outputs, Span};
use crate::state::{PAGE_ROWS, PageAllocator, SlotId, StateLayout};

#[derive(Clone, Debug, Default)]
struct Slot {
    open: bool,
    position: usize,
    /// True once a token was chosen in the slot.
    sampled: bool,
    pages: Vec<u32>,
}

/// All slots of an engine but the initial state's.
#[derive(Debug)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    pages: PageAllocator,
    /// Position at which every sequence begins, and from which pages are counted.
    first: usize,
}

impl Slots {
    pub(super) fn new(layout: &StateLayout) -> Self {
        let slots = vec![Slot::default(); layout.slots];
        Self { slots, pages: PageAllocator::new(layout.pages), first: layout.pinned }
    }

    /// Takes a free slot.
    pub(super) fn open(&mut self) -> Result<SlotId, EngineError> {
        let free = self.slots.iter().position(|slot| !slot.open).ok_or(EngineError::NoSlot(self.slots.len()))?;
        self.slots[free] = Slot { open: true, position: self.first, ..Slot::default() };
        Ok(SlotId(free as u32))
    }

    /// Gives a slot and its pages back.
    pub(super) fn close(&mut self, slot: SlotId) -> Result<(), EngineError> {
        let slot = std::mem::take(self.get_mut(slot)?);
        slot.pages.into_iter().for_each(|page| self.pages.release(page));
        Ok(())
    }

    /// The next position of a slot.
    pub(super) fn position(&self, slot: SlotId) -> Result<usize, EngineError> {
        Ok(self.get(slot)?.position)
    }

    /// True once a token was chosen in the slot, so that the next step may read it.
    pub(super) fn sampled(&self, slot: SlotId) -> Result<bool, EngineError> {
        Ok(self.get(slot)?.sampled)
    }

    /// Moves a slot's next position to the end of a span.
    pub(super) fn advance(&mut self, span: &Span) -> Result<(), EngineError> {
        let slot = self.get_mut(span.slot)?;
        slot.position = span.first + span.tokens.len();
        slot.sampled |= span.outputs != Outputs::None;
        Ok(())
    }

    /// Moves a slot's next position to `end` without a span.
    pub(super) fn skip(&mut self, slot: SlotId, end: usize) -> Result<(), EngineError> {
        self.get_mut(slot)?.position = end;
        Ok(())
    }

    /// Makes `end` a slot's next position, with a token chosen in it or none.
    pub(super) fn restore(&mut self, slot: SlotId, end: usize, sampled: bool) -> Result<(), EngineError> {
        let slot = self.get_mut(slot)?;
        (slot.position, slot.sampled) = (end, sampled);
        Ok(())
    }

    /// Takes the pages that positions up to `end` need; all of the slot's pages when there are new ones.
    pub(super) fn reserve(&mut self, slot: SlotId, end: usize) -> Result<Option<&[u32]>, EngineError> {
        let needed = end.saturating_sub(self.first).div_ceil(PAGE_ROWS);
        let missing = needed.saturating_sub(self.get(slot)?.pages.len());
        if missing == 0 {
            return Ok(None);
        }
        if missing > self.pages.available() {
            return Err(self.pages.exhausted().into());
        }
        for _ in 0..missing {
            let page = self.pages.take()?;
            self.get_mut(slot)?.pages.push(page);
        }
        Ok(Some(&self.get(slot)?.pages))
    }

    fn get(&self, slot: SlotId) -> Result<&Slot, EngineError> {
        self.slots.get(slot.0 as usize).filter(|s| s.open).ok_or(EngineError::SlotClosed(slot.0))
    }

    fn get_mut(&mut self, slot: SlotId) -> Result<&mut Slot, EngineError> {
        self.slots.get_mut(slot.0 as usize).filter(|s| s.open).ok_or(EngineError::SlotClosed(slot.0))
    }
}
