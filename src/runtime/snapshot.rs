//! Snapshots of an engine's sequences: taken from one, restored into another.

use super::{Engine, EngineError};
use crate::backend::Parts;
use crate::checkpoint::WeightChoice;
use crate::formats::Rounding;
use crate::state::{CheckpointKind, Fingerprint, SavedCheckpoint, SlotId, SlotState, Snapshot, SnapshotError};

/// What a model is, for snapshots: they go back only into the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Identity {
    pub fingerprint: Fingerprint,
    /// Formats of the weights, with how they were rounded where they were.
    pub weights: String,
}

/// A name for the formats of weights: `bf16`, `q4 (msesearch)`.
pub(super) fn storage_name(choice: WeightChoice, rounding: Rounding) -> String {
    match choice {
        WeightChoice::Q8 | WeightChoice::Q4 | WeightChoice::Q4m => {
            format!("{} ({})", choice.name(), format!("{rounding:?}").to_lowercase())
        }
        choice => choice.name(),
    }
}

impl Engine {
    /// The model's identity.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.identity.fingerprint
    }

    /// Formats of the weights, with how they were rounded where they were: snapshots go back only into the same.
    pub fn weights_name(&self) -> &str {
        &self.identity.weights
    }

    /// Copies the memory of a sequence out, its sampler included.
    pub async fn read_state(&mut self, slot: SlotId) -> Result<SlotState, EngineError> {
        let position = self.slots.position(slot)?;
        Ok(self.backend.snapshot(slot, position).await?)
    }

    /// Makes a sequence remember a memory of `tokens` tokens, its sampler included, in place of what it has read.
    /// [`EngineError::ContextFull`] where it is longer than the context, and nothing is changed; after any other error
    /// the sequence is empty.
    pub fn write_state(&mut self, slot: SlotId, state: &SlotState, tokens: usize) -> Result<(), EngineError> {
        let prefix = self.model.prefix_tokens.len();
        self.check_length(tokens)?;
        let written = self.replace_state(slot, state, prefix + tokens);
        if written.is_err() {
            // An empty sequence, not one of this and of that.
            self.clear(slot)?;
        }
        written
    }

    fn replace_state(&mut self, slot: SlotId, state: &SlotState, end: usize) -> Result<(), EngineError> {
        // Into pages of its own: those that it has may be shared.
        self.slots.adopt(slot, &[], self.model.prefix_tokens.len())?;
        self.reserve(slot, end)?;
        self.slots.skip(slot, end)?;
        self.backend.restore(slot, state)?;
        self.slots.set_sampled(slot, state.sampler.last.is_some())
    }

    /// Copies a sequence out. `tokens` are the ids that it has read, and after them those that it chose and has not
    /// read yet.
    pub async fn snapshot(&mut self, slot: SlotId, tokens: &[u32]) -> Result<Snapshot, EngineError> {
        let read = self.length(slot)?;
        if tokens.len() < read {
            let what = format!("{} tokens are given, and the sequence has read {read}", tokens.len());
            return Err(SnapshotError::Inconsistent(what).into());
        }
        let state = self.read_state(slot).await?;
        Ok(Snapshot { tokens: tokens.to_vec(), ..self.snapshot_of(state, &tokens[..read]) })
    }

    /// A snapshot of a memory of this engine after some tokens.
    pub(crate) fn snapshot_of(&self, state: SlotState, tokens: &[u32]) -> Snapshot {
        Snapshot {
            fingerprint: self.identity.fingerprint.clone(),
            weights: self.identity.weights.clone(),
            kv_format: self.layout.kv_format,
            tokens: tokens.to_vec(),
            read: tokens.len(),
            first: 0,
            state,
            kind: CheckpointKind::default(),
            rounded: false,
            checkpoints: vec![],
            text: None,
            note: None,
        }
    }

    /// Takes a sequence, into which a snapshot was put, back to a checkpoint of the snapshot. Its rows of keys and
    /// values lie in its pages already.
    pub(crate) fn restore_earlier(&mut self, slot: SlotId, saved: &SavedCheckpoint) -> Result<(), EngineError> {
        let end = self.model.prefix_tokens.len() + saved.read;
        let state = SlotState { position: end, tensors: saved.tensors.clone(), ..SlotState::default() };
        self.slots.skip(slot, end)?;
        self.backend.restore_parts(slot, &state, Parts::OutsidePages)?;
        self.slots.set_sampled(slot, false)
    }

    /// Puts a snapshot into an open sequence, in place of what it has read. The sequence goes on from there as if it had
    /// never stopped, its choice of tokens included. A snapshot of another model is refused, and nothing is changed.
    ///
    /// Keys and values are converted where this engine keeps them in another format; the sentence that comes back says
    /// so.
    pub fn restore(&mut self, slot: SlotId, snapshot: &Snapshot) -> Result<Option<String>, EngineError> {
        snapshot.check(&self.identity.fingerprint, &self.identity.weights)?;
        let (prefix, position) = (self.model.prefix_tokens.len(), snapshot.state.position);
        if position != prefix + snapshot.read {
            let what = format!("{} tokens behind {prefix} of the model's own do not end at {position}", snapshot.read);
            return Err(SnapshotError::Inconsistent(what).into());
        }
        if snapshot.read > snapshot.tokens.len() {
            let what = format!("it has {} tokens, and {} were read", snapshot.tokens.len(), snapshot.read);
            return Err(SnapshotError::Inconsistent(what).into());
        }
        if snapshot.first > 0 {
            let what = format!("it is the part of a text from token {} on", snapshot.first);
            return Err(SnapshotError::Inconsistent(what).into());
        }
        self.check_tokens(&snapshot.tokens)?;
        self.write_state(slot, &snapshot.state, snapshot.read)?;
        let (saved, here) = (snapshot.kv_format, self.layout.kv_format);
        let rounds = if here.bytes() < saved.bytes() { ", rounded" } else { "" };
        Ok((saved != here).then(|| format!("keys and values were kept in {saved} and are now in {here}{rounds}")))
    }
}
