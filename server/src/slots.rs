//! Slots by their numbers: what each is at, and what was read last in it copied out, restored and erased.
//!
//! A slot has a sequence only while its reply is made; then what it has read is a checkpoint of the prompt cache. So a slot
//! is saved and erased through the cache, by the ids that were read last in it, and a restored text is there for whichever
//! slot gets its next request.

use selvedge::state::Snapshot;

use crate::jobs::{Refused, SlotAt};
use crate::worker::{Desk, Task};

impl Desk {
    /// Refuses a slot that is at work, or not there.
    pub fn check_idle(&mut self, slot: usize) -> Result<(), Refused> {
        self.read_in(slot).map(drop)
    }

    /// What each slot is at.
    pub fn slots(&self) -> Vec<SlotAt> {
        let idle = |read: &Vec<u32>| SlotAt { tokens: read.len(), ..SlotAt::default() };
        let mut slots: Vec<SlotAt> = self.read.iter().map(idle).collect();
        for Task { slot, prompt_tokens, made_tokens, .. } in self.tasks.values() {
            if let Some(at) = slot.and_then(|slot| slots.get_mut(slot.0 as usize)) {
                *at = SlotAt { at_work: true, tokens: *prompt_tokens, made: *made_tokens };
            }
        }
        slots
    }

    /// Copies out what was read last in a slot, with its checkpoints.
    pub async fn save(&mut self, slot: usize) -> Result<Snapshot, Refused> {
        let read = self.read_in(slot)?.clone();
        let engine = &mut self.model.engine;
        let snapshot = match &self.model.chat {
            Some(chat) => chat.snapshot_of(engine, &read).await,
            None => self.cache.snapshot(engine, &read).await,
        };
        let snapshot = snapshot.map_err(|error| Refused::of(&error))?;
        snapshot.ok_or_else(|| Refused::Bad(format!("nothing that slot {slot} has read is remembered")))
    }

    /// Remembers what was copied out. Gives its tokens.
    pub async fn restore(&mut self, slot: usize, snapshot: &Snapshot) -> Result<usize, Refused> {
        self.read_in(slot)?;
        let engine = &mut self.model.engine;
        let restored = match &mut self.model.chat {
            Some(chat) => chat.restore(engine, snapshot).await,
            None => self.cache.restore(engine, snapshot),
        };
        if let Some(notice) = restored.map_err(|error| Refused::of(&error))? {
            (self.tell)(&notice);
        }
        let tokens = snapshot.tokens[..snapshot.read].to_vec();
        let (engine, cache) = self.engine_and_cache();
        if cache.held(engine, &tokens) < snapshot.read {
            return Err(Refused::NoRoom("there is no memory on the device for what was saved".into()));
        }
        self.read[slot] = tokens;
        Ok(snapshot.read)
    }

    /// Forgets what was read last in a slot, as far as no other text needs it. Gives the count of tokens.
    pub fn erase(&mut self, slot: usize) -> Result<usize, Refused> {
        let mut read = std::mem::take(self.read_in(slot)?);
        let engine = &mut self.model.engine;
        let left = match &mut self.model.chat {
            Some(chat) => chat.erase(engine, &read),
            None => self.cache.erase(engine, &read),
        };
        let erased = read.len() - left;
        read.truncate(left);
        self.read[slot] = read;
        Ok(erased)
    }

    /// The ids that were read last in a slot that is not at work.
    fn read_in(&mut self, slot: usize) -> Result<&mut Vec<u32>, Refused> {
        if self.slots().get(slot).is_some_and(|slot| slot.at_work) {
            return Err(Refused::AtWork(format!("slot {slot} is at work")));
        }
        let slots = self.read.len();
        self.read
            .get_mut(slot)
            .ok_or_else(|| Refused::Bad(format!("there is no slot {slot}: they are 0 to {}", slots - 1)))
    }
}
