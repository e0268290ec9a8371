//! State checkpoints: the memory of a sequence at one place, kept on the device.
//!
//! A checkpoint holds the pages of its sequence, shared and counted, and one block: a copy of the rings and the
//! recurrent states. So it costs one copy of the block on the device, whatever the length of the sequence, and any
//! number of sequences go on from it. How a sequence chooses tokens is no part of it.
//!
//! Checkpoints make room for sequences: where pages run out, the checkpoint of least worth is dropped
//! ([`Engine::set_worth`]), and [`Engine::holds`] is false from then on.

use super::{Engine, EngineError};
use crate::backend::BlockId;
use crate::state::{SlotId, SlotState};

/// Handle of a state checkpoint. It lives until [`Engine::discard`], or until its engine needs the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateCheckpoint(u64);

#[derive(Debug)]
struct Held {
    id: StateCheckpoint,
    block: BlockId,
    pages: Vec<u32>,
    position: usize,
    /// Worth of one that may be dropped.
    worth: Option<f64>,
}

/// All checkpoints of an engine.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    held: Vec<Held>,
    /// Checkpoints made so far: no handle is given twice.
    made: u64,
}

impl Checkpoints {
    fn get(&self, id: StateCheckpoint) -> Result<&Held, EngineError> {
        self.held.iter().find(|held| held.id == id).ok_or(EngineError::NoCheckpoint)
    }
}

impl Engine {
    /// Keeps a sequence's memory as it is now on the device. It is never dropped until [`set_worth`](Self::set_worth)
    /// allows it.
    ///
    /// Errors: a sequence that is not open; a device without room for the block.
    pub fn checkpoint(&mut self, slot: SlotId) -> Result<StateCheckpoint, EngineError> {
        let position = self.slots.position(slot)?;
        let block = self.backend.save_block(slot)?;
        let pages = self.slots.share(slot)?;
        self.checkpoints.made += 1;
        let id = StateCheckpoint(self.checkpoints.made);
        self.checkpoints.held.push(Held { id, block, pages, position, worth: None });
        Ok(id)
    }

    /// Makes a sequence remember what it did at a checkpoint, in place of what it has read. It has chosen no token, and
    /// is greedy until [`set_sampler`](Self::set_sampler).
    pub fn resume(&mut self, slot: SlotId, checkpoint: StateCheckpoint) -> Result<(), EngineError> {
        self.slots.position(slot)?;
        self.forget_mark(slot);
        let held = self.checkpoints.get(checkpoint)?;
        self.backend.load_block(slot, held.block)?;
        self.backend.set_pages(slot, &held.pages)?;
        self.slots.adopt(slot, &held.pages, held.position)
    }

    /// A second sequence that has read the same: pages are shared, the rest is copied on the device.
    pub fn fork(&mut self, slot: SlotId) -> Result<SlotId, EngineError> {
        let checkpoint = self.checkpoint(slot)?;
        let forked = self.open().and_then(|fork| match self.resume(fork, checkpoint) {
            Ok(()) => Ok(fork),
            Err(error) => {
                self.close(fork)?;
                Err(error)
            }
        });
        self.discard(checkpoint);
        forked
    }

    /// Ends a checkpoint.
    pub fn discard(&mut self, checkpoint: StateCheckpoint) {
        if let Some(index) = self.checkpoints.held.iter().position(|held| held.id == checkpoint) {
            self.drop_held(index);
        }
    }

    /// Whether a checkpoint is still there.
    pub fn holds(&self, checkpoint: StateCheckpoint) -> bool {
        self.checkpoints.get(checkpoint).is_ok()
    }

    /// Worth of a checkpoint to its owner: where pages run out, those of least worth are dropped. `None`: it is never
    /// dropped.
    pub fn set_worth(&mut self, checkpoint: StateCheckpoint, worth: Option<f64>) {
        if let Some(held) = self.checkpoints.held.iter_mut().find(|held| held.id == checkpoint) {
            held.worth = worth;
        }
    }

    /// Copies a checkpoint out; of global attention the rows of the tokens from `first` on, and with 0 also those of
    /// the model's prefix tokens.
    pub async fn read_checkpoint(
        &mut self,
        checkpoint: StateCheckpoint,
        first: usize,
    ) -> Result<SlotState, EngineError> {
        let held = self.checkpoints.get(checkpoint)?;
        let first = if first == 0 { 0 } else { first + self.model.prefix_tokens.len() };
        Ok(self.backend.snapshot_block(held.block, &held.pages, first..held.position).await?)
    }

    /// Pages of keys and values: free ones, and all there are.
    pub fn pages(&self) -> (usize, usize) {
        (self.slots.free_pages(), self.layout.pages)
    }

    /// Takes the pages that a sequence needs for positions up to `end`, at the cost of checkpoints where there are too
    /// few.
    pub(super) fn reserve(&mut self, slot: SlotId, end: usize) -> Result<(), EngineError> {
        while self.slots.missing(slot, end)? > self.slots.free_pages() {
            let may_go =
                self.checkpoints.held.iter().enumerate().filter_map(|(index, held)| Some((index, held.worth?)));
            match may_go.min_by(|(_, a), (_, b)| a.total_cmp(b)) {
                Some((index, _)) => self.drop_held(index),
                None => break,
            }
        }
        let reserved = self.slots.reserve(slot, end)?;
        if let Some((from, to)) = reserved.copy {
            self.backend.copy_page(from, to)?;
        }
        if reserved.changed {
            self.backend.set_pages(slot, self.slots.pages(slot)?)?;
        }
        Ok(())
    }

    fn drop_held(&mut self, index: usize) {
        let held = self.checkpoints.held.swap_remove(index);
        self.slots.release(&held.pages);
        self.backend.free_block(held.block);
    }
}
