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

/// Changes of a slot's pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reserved {
    /// A page whose rows the slot needs in a page of its own: from, to.
    pub copy: Option<(u32, u32)>,
    /// The slot has other pages than before.
    pub changed: bool,
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
        self.release(&slot.pages);
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

    /// Moves a slot's next position to `end` without a span. Pages behind it are given back.
    pub(super) fn skip(&mut self, slot: SlotId, end: usize) -> Result<(), EngineError> {
        let needed = self.pages_of(end);
        let slot = self.get_mut(slot)?;
        slot.position = end;
        let behind = slot.pages.split_off(needed.min(slot.pages.len()));
        self.release(&behind);
        Ok(())
    }

    /// Moves a slot's next position back to `end`. It keeps its pages, in which it will write again.
    pub(super) fn go_back(&mut self, slot: SlotId, end: usize) -> Result<(), EngineError> {
        self.get_mut(slot)?.position = end;
        Ok(())
    }

    /// Notes whether a token was chosen in a slot.
    pub(super) fn set_sampled(&mut self, slot: SlotId, sampled: bool) -> Result<(), EngineError> {
        self.get_mut(slot)?.sampled = sampled;
        Ok(())
    }

    /// Pages that [`reserve`](Self::reserve) takes for positions up to `end`.
    pub(super) fn missing(&self, slot: SlotId, end: usize) -> Result<usize, EngineError> {
        let Slot { pages, position, .. } = self.get(slot)?;
        let copies = usize::from(self.shared_page(pages, *position, end).is_some());
        Ok(self.pages_of(end).saturating_sub(pages.len()) + copies)
    }

    /// Pages that are free.
    pub(super) fn free_pages(&self) -> usize {
        self.pages.available()
    }

    /// Takes the pages that positions up to `end` need. Where the slot would write into a page that others see, it
    /// gets a page of its own in place of that.
    pub(super) fn reserve(&mut self, slot: SlotId, end: usize) -> Result<Reserved, EngineError> {
        let missing = self.missing(slot, end)?;
        if missing > self.pages.available() {
            return Err(self.pages.exhausted().into());
        }
        let Slot { pages, position, .. } = self.get(slot)?;
        if end <= *position {
            return Ok(Reserved { copy: None, changed: false });
        }
        let (shared, held, position) = (self.shared_page(pages, *position, end), pages.len(), *position);
        let mut copy = None;
        if let Some(index) = shared {
            let own = self.pages.take()?;
            let shared = std::mem::replace(&mut self.get_mut(slot)?.pages[index], own);
            self.pages.release(shared);
            copy = Some((shared, own));
        }
        for _ in held..self.pages_of(end) {
            let page = self.pages.take()?;
            self.get_mut(slot)?.pages.push(page);
        }
        // The pages in which the new positions lie.
        for index in self.pages_before(position)..self.pages_of(end) {
            let (page, begin) = (self.get(slot)?.pages[index], self.first + index * PAGE_ROWS);
            self.pages.fill(page, (end - begin).min(PAGE_ROWS));
        }
        Ok(Reserved { copy, changed: missing > 0 })
    }

    /// The pages of a slot, in order.
    pub(super) fn pages(&self, slot: SlotId) -> Result<&[u32], EngineError> {
        Ok(&self.get(slot)?.pages)
    }

    /// The pages that hold a slot's positions so far, each with one holder more.
    pub(super) fn share(&mut self, slot: SlotId) -> Result<Vec<u32>, EngineError> {
        let Slot { pages, position, .. } = self.get(slot)?;
        let held = pages[..self.pages_of(*position).min(pages.len())].to_vec();
        held.iter().for_each(|&page| self.pages.share(page));
        Ok(held)
    }

    /// Gives a slot these pages, with one holder more each, in place of its own, and makes `end` its next position.
    pub(super) fn adopt(&mut self, slot: SlotId, pages: &[u32], end: usize) -> Result<(), EngineError> {
        self.get(slot)?;
        pages.iter().for_each(|&page| self.pages.share(page));
        let adopted = Slot { open: true, position: end, sampled: false, pages: pages.to_vec() };
        let before = std::mem::replace(self.get_mut(slot)?, adopted);
        self.release(&before.pages);
        Ok(())
    }

    /// Takes a holder from each of these pages.
    pub(super) fn release(&mut self, pages: &[u32]) {
        pages.iter().for_each(|&page| self.pages.release(page));
    }

    /// Index of the page in which a slot at `position` would write and may not.
    fn shared_page(&self, pages: &[u32], position: usize, end: usize) -> Option<usize> {
        let index = self.pages_before(position);
        let row = position.saturating_sub(self.first) % PAGE_ROWS;
        let page = pages.get(index).filter(|_| end > position)?;
        (!self.pages.may_write(*page, row)).then_some(index)
    }

    /// Count of the pages that positions up to `end` need.
    fn pages_of(&self, end: usize) -> usize {
        end.saturating_sub(self.first).div_ceil(PAGE_ROWS)
    }

    /// Count of the pages that lie before `position` as a whole.
    fn pages_before(&self, position: usize) -> usize {
        position.saturating_sub(self.first) / PAGE_ROWS
    }

    fn get(&self, slot: SlotId) -> Result<&Slot, EngineError> {
        self.slots.get(slot.0 as usize).filter(|s| s.open).ok_or(EngineError::SlotClosed(slot.0))
    }

    fn get_mut(&mut self, slot: SlotId) -> Result<&mut Slot, EngineError> {
        self.slots.get_mut(slot.0 as usize).filter(|s| s.open).ok_or(EngineError::SlotClosed(slot.0))
    }
}
