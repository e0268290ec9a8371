//! One sequence as a value: its slot and every token of its text. It goes on, is forked, goes back, is saved.

use std::collections::VecDeque;

use super::{GenerateOptions, Generation};
use crate::runtime::{Cancel, Engine, EngineError, PREFILL_ROWS, StateCheckpoint};
use crate::state::{SavedCheckpoint, SlotId, Snapshot};

/// Recent checkpoints that are kept: those made ahead of a text's end may be of no use.
const RECENT: usize = 3;

/// A sequence: a slot, and the ids that led to what it remembers.
#[derive(Debug)]
pub struct Session {
    slot: SlotId,
    /// What the slot has read, and behind it what was chosen and not read yet.
    tokens: Vec<u32>,
    /// Tokens between two recent checkpoints; 0: none are made.
    stride: usize,
    /// The last of them, with the count of tokens read.
    recent: VecDeque<(usize, StateCheckpoint)>,
}

impl Session {
    /// Takes a slot.
    pub fn open(engine: &mut Engine) -> Result<Self, EngineError> {
        Ok(Self::of(engine.open()?))
    }

    fn of(slot: SlotId) -> Self {
        Self { slot, tokens: vec![], stride: 0, recent: VecDeque::new() }
    }

    /// Gives the slot back.
    pub fn close(mut self, engine: &mut Engine) -> Result<(), EngineError> {
        self.forget_recent(engine, 0..=0);
        engine.close(self.slot)
    }

    /// The slot.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// Tokens that the slot has read.
    pub fn length(&self, engine: &Engine) -> Result<usize, EngineError> {
        engine.length(self.slot)
    }

    /// All tokens: what the slot has read, and behind it what was chosen and not read yet.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens that the slot has read. [`EngineError::NotRead`] while steps are under way whose tokens are not known
    /// yet: ask between two turns, after the end of a generation or [`stop`](Self::stop).
    pub fn read_tokens(&self, engine: &Engine) -> Result<&[u32], EngineError> {
        let read = engine.length(self.slot)?;
        self.tokens.get(..read).ok_or(EngineError::NotRead { asked: read, read: self.tokens.len() })
    }

    /// Begins a turn: the whole text is given, and what the slot has not read of it is read. Gives the generation and
    /// how many tokens were read. A slot that has read anything else begins anew.
    pub async fn begin(
        &mut self,
        engine: &mut Engine,
        text: &[u32],
        options: &GenerateOptions,
    ) -> Result<(Generation, usize), EngineError> {
        // What is refused leaves the slot as it is.
        engine.check_length(text.len())?;
        // After a turn that was left amid its steps, nobody knows what the slot has read.
        let read = self.read_tokens(engine).unwrap_or_default();
        // The last token must be read even if it was before: the reply comes from its row.
        let kept = if text.len() > read.len() && text.starts_with(read) { read.len() } else { 0 };
        engine.check_text(&text[kept..])?;
        if kept == 0 {
            self.clear(engine)?;
        }
        self.tokens = text.to_vec();
        let generation = Generation::resume(engine, self.slot, text, kept, options).await;
        let generation = self.unless_spoilt(engine, generation)?;
        self.check_recent(engine)?;
        Ok((generation, text.len() - kept))
    }

    /// The next token of a turn.
    pub async fn next(&mut self, engine: &mut Engine, generation: &mut Generation) -> Result<Option<u32>, EngineError> {
        let token = generation.next(engine).await;
        let token = self.unless_spoilt(engine, token)?;
        self.tokens.extend(token);
        if generation.finish_reason().is_some() {
            // A slot that had ended was no longer where the steps under way would have been.
            self.forget_recent(engine, 0..=self.length(engine)?);
        } else {
            self.check_recent(engine)?;
        }
        Ok(token)
    }

    /// Makes a recent checkpoint where it is time for one.
    fn check_recent(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        let length = self.length(engine)?;
        if self.stride == 0 || self.recent.back().is_some_and(|last| length < last.0 + self.stride) {
            return Ok(());
        }
        match engine.checkpoint(self.slot) {
            Ok(checkpoint) => {
                // Whoever needs its pages may have them: going back then reads more.
                engine.set_worth(checkpoint, Some(0.0));
                self.recent.push_back((length, checkpoint));
            }
            Err(error) if error.lacks_memory() => {}
            Err(error) => return Err(error),
        }
        if self.recent.len() > RECENT
            && let Some((_, oldest)) = self.recent.pop_front()
        {
            engine.discard(oldest);
        }
        Ok(())
    }

    /// Ends a turn before its end. Tokens under way become part of the text.
    pub async fn stop(&mut self, engine: &mut Engine, generation: &mut Generation) -> Result<(), EngineError> {
        let rest = generation.stop(engine).await;
        let rest = self.unless_spoilt(engine, rest)?;
        self.tokens.extend(rest);
        let length = self.length(engine)?;
        self.forget_recent(engine, 0..=length);
        Ok(())
    }

    /// A second sequence that has read the same: pages are shared, the rest is copied on the device.
    pub fn fork(&self, engine: &mut Engine) -> Result<Self, EngineError> {
        let tokens = self.read_tokens(engine)?.to_vec();
        Ok(Self { tokens, ..Self::of(engine.fork(self.slot)?) })
    }

    /// Makes a checkpoint at the beginning of a turn and every `stride` tokens of it, and keeps the last three, so that
    /// [`rollback`](Self::rollback) by up to `stride` tokens reads a few times as many again at most, in one step and
    /// without a copy to the host, unless other sequences needed their pages. 0: none.
    pub fn keep_recent(&mut self, engine: &mut Engine, stride: usize) {
        self.stride = stride;
        if stride == 0 {
            self.forget_recent(engine, 0..=0);
        }
    }

    /// Takes the last `tokens` tokens that were read back. Gives the count of tokens that had to be read again for it.
    /// Where that fails for want of pages, the sequence has read less.
    pub async fn rollback(&mut self, engine: &mut Engine, tokens: usize) -> Result<usize, EngineError> {
        let read = self.length(engine)?;
        let length = read.checked_sub(tokens).ok_or(EngineError::NotRead { asked: tokens, read })?;
        self.rewind_from(engine, length, None).await
    }

    /// Goes back to where `length` tokens had been read: from the deepest checkpoint, a recent one or that which is
    /// given with its depth, the rest is read again.
    pub(super) async fn rewind_from(
        &mut self,
        engine: &mut Engine,
        length: usize,
        kept: Option<(usize, StateCheckpoint)>,
    ) -> Result<usize, EngineError> {
        let read = self.length(engine)?;
        if length > read || self.tokens.len() < read {
            return Err(EngineError::NotRead { asked: length, read: read.min(self.tokens.len()) });
        }
        if length == read {
            return Ok(0);
        }
        self.forget_recent(engine, 0..=length);
        let fits = |(depth, checkpoint): &(usize, StateCheckpoint)| *depth <= length && engine.holds(*checkpoint);
        let nearest = self.recent.iter().copied().chain(kept).filter(fits);
        let at = match nearest.max_by_key(|(depth, _)| *depth) {
            Some((depth, checkpoint)) => {
                engine.resume(self.slot, checkpoint)?;
                depth
            }
            None => {
                engine.clear(self.slot)?;
                0
            }
        };
        let mut text = std::mem::take(&mut self.tokens);
        text.truncate(length);
        self.tokens = text[..at].to_vec();
        self.read(engine, &text, &Cancel::default()).await?;
        Ok(length - at)
    }

    /// Reads a text on from where the slot is, and chooses nothing. False when it was cancelled.
    pub(super) async fn read(
        &mut self,
        engine: &mut Engine,
        text: &[u32],
        cancel: &Cancel,
    ) -> Result<bool, EngineError> {
        let read = self.length(engine)?;
        if text.len() <= read {
            return Ok(true);
        }
        let rest = &text[read..];
        let done = match engine.prefill_drafting(self.slot, rest, PREFILL_ROWS, cancel, Some(None)).await {
            Ok(Some(running)) => engine.sampled(&running).await.map(|_| true),
            Ok(None) => Ok(false),
            Err(error) => Err(error),
        };
        // Also what was read before it failed.
        self.tokens = text[..self.length(engine)?].to_vec();
        self.unless_spoilt(engine, done)
    }

    /// Makes the slot remember what it did at a checkpoint, after `tokens`.
    pub(super) fn resume(
        &mut self,
        engine: &mut Engine,
        checkpoint: StateCheckpoint,
        tokens: &[u32],
    ) -> Result<(), EngineError> {
        engine.resume(self.slot, checkpoint)?;
        self.tokens = tokens.to_vec();
        Ok(())
    }

    /// Takes note of tokens that are read, or under way, in steps of others.
    pub(super) fn note(&mut self, tokens: &[u32]) {
        self.tokens.extend(tokens);
    }

    /// Takes a slot and puts a snapshot into it, see [`Engine::restore`]. Gives the sentence about converted keys and
    /// values too.
    pub fn restore(engine: &mut Engine, snapshot: &Snapshot) -> Result<(Self, Option<String>), EngineError> {
        let this = Self::open(engine)?;
        match engine.restore(this.slot, snapshot) {
            Ok(notice) => Ok((Self { tokens: snapshot.tokens.clone(), ..this }, notice)),
            Err(error) => {
                this.close(engine)?;
                Err(error)
            }
        }
    }

    /// Goes back to a checkpoint of the snapshot from which the slot was restored.
    pub(super) fn restore_earlier(&mut self, engine: &mut Engine, saved: &SavedCheckpoint) -> Result<(), EngineError> {
        engine.restore_earlier(self.slot, saved)?;
        self.tokens.truncate(saved.read);
        Ok(())
    }

    /// Copies the sequence out, between two turns.
    pub async fn snapshot(&self, engine: &mut Engine) -> Result<Snapshot, EngineError> {
        engine.snapshot(self.slot, &self.tokens).await
    }

    /// Forgets everything that was read.
    fn clear(&mut self, engine: &mut Engine) -> Result<(), EngineError> {
        self.tokens.clear();
        self.forget_recent(engine, 0..=0);
        engine.clear(self.slot)
    }

    /// Discards the recent checkpoints whose count of tokens is not in `but`.
    fn forget_recent(&mut self, engine: &mut Engine, but: std::ops::RangeInclusive<usize>) {
        self.recent.retain(|(length, checkpoint)| {
            let keep = *length > 0 && but.contains(length);
            if !keep {
                engine.discard(*checkpoint);
            }
            keep
        });
    }

    /// Forgets what was read where it led to what is not finite: the next turn reads its whole text.
    fn unless_spoilt<T>(&mut self, engine: &mut Engine, result: Result<T, EngineError>) -> Result<T, EngineError> {
        if matches!(result, Err(EngineError::NotFinite { .. })) {
            self.clear(engine)?;
        }
        result
    }
}
