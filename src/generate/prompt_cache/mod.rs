//! The prompt cache: what was read once is not read again.
//!
//! A trie over the token ids that were really read has state checkpoints ([`StateCheckpoint`]) at some of its nodes. A
//! prompt goes on from the deepest checkpoint on its way, whatever conversation made it, and leaves new ones: where its
//! caller has marked the ends of messages, where it leaves what is known, within long texts, and at the end of its
//! reply. Checkpoints share the pages of keys and values that their texts have in common, so that a branch takes
//! nothing away from what it branched off, and a checkpoint costs one block ([`StateLayout::block_bytes`]).
//!
//! [`StateLayout::block_bytes`]: crate::state::StateLayout::block_bytes

mod cold;
mod policy;
mod reuse;
mod texts;
mod trie;

use crate::runtime::{Cancel, Engine, EngineError, StateCheckpoint};
use crate::state::{SavedCheckpoint, Snapshot};

use super::Session;
use cold::Cold;
use trie::{NodeId, Trie};

#[cfg(feature = "native")]
pub use cold::FolderStore;
pub use cold::{MemoryStore, StateStore, StoreError, StoredState};
pub use policy::{CheckpointKind, Mark};
pub(super) use reuse::Last;
pub use reuse::{Missed, Reuse};
pub(super) use texts::{KnownText, KnownTexts};
pub(super) use trie::common;

/// Default of the bytes that checkpoints may take on the device.
const DEFAULT_BYTES: u64 = 256 << 20;

/// Checkpoints that are kept however large they are: of a system prompt, of a message, and of a reply.
const FEWEST: u64 = 3;

/// Checkpoints that are kept however small they are.
const MOST: u64 = 512;

#[derive(Debug)]
struct Entry {
    checkpoint: StateCheckpoint,
    kind: CheckpointKind,
    /// The turn in which it was used last.
    used: u64,
    /// Never dropped, until its owner says so.
    pinned: bool,
}

/// Counts of a prompt cache since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were not read again.
    pub cached_tokens: u64,
    /// Those of them that came back from the store.
    pub stored_tokens: u64,
    /// Checkpoints made.
    pub made: u64,
    /// Checkpoints dropped to make room, for others or for sequences.
    pub dropped: u64,
}

/// The checkpoints of an engine's texts.
#[derive(Debug)]
pub struct PromptCache {
    trie: Trie<Entry>,
    /// Bytes that the blocks of all checkpoints may take.
    bytes: u64,
    turn: u64,
    counts: CacheCounts,
    /// What the device said when it had no room for a block.
    no_room: Option<String>,
    /// Checkpoints that outlive the device and the process.
    cold: Option<Cold>,
}

impl Default for PromptCache {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

impl PromptCache {
    /// A cache whose checkpoints take at most `bytes` beside the pages that they share, but for three that every
    /// conversation needs; with 0 bytes nothing is kept.
    pub fn new(bytes: u64) -> Self {
        Self { trie: Trie::default(), bytes, turn: 0, counts: CacheCounts::default(), no_room: None, cold: None }
    }

    /// Keeps all checkpoints in a store too, in at most `limit` bytes, and finds those there that earlier runs of the
    /// same model left. Gives the texts of those, the newest last.
    pub(super) async fn keep_in(
        &mut self,
        engine: &Engine,
        store: Box<dyn StateStore>,
        limit: u64,
    ) -> Result<Vec<KnownText>, StoreError> {
        let (cold, texts) = Cold::open(store, limit, engine).await?;
        self.cold = Some(cold);
        Ok(texts.iter().filter_map(|(text, tokens)| KnownText::from_snapshot(text, tokens)).collect())
    }

    /// What went wrong with the store since this was asked last: sentences without a full stop.
    pub fn take_notices(&mut self) -> Vec<String> {
        self.cold.as_mut().map_or(vec![], Cold::take_notices)
    }

    /// Files of the store, and bytes of all of them.
    pub fn stored(&self) -> (usize, u64) {
        self.cold.as_ref().map_or((0, 0), Cold::size)
    }

    /// Writes the checkpoints of a text to the store, if there is one; the deepest with `known`, the text of its tokens.
    pub(super) async fn store(
        &mut self,
        engine: &mut Engine,
        tokens: &[u32],
        known: &KnownText,
    ) -> Result<(), EngineError> {
        let Some(cold) = &mut self.cold else { return Ok(()) };
        let mut entries = self.trie.walk(tokens).entries.into_iter().peekable();
        while let Some((depth, id)) = entries.next() {
            let Some(entry) = self.trie.entry(id).filter(|entry| engine.holds(entry.checkpoint)) else { continue };
            let last = entries.peek().is_none() && known.tokens.starts_with(&tokens[..depth]);
            let text = last.then(|| (known.to_snapshot(), known.tokens.as_slice()));
            cold.keep(engine, &tokens[..depth], entry.checkpoint, text).await?;
        }
        Ok(())
    }

    /// A sequence that has read the beginning of a text, from the store, if that has more of it than the device.
    async fn load(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<Option<Session>, EngineError> {
        let depth = self.find(engine, tokens).map_or(0, |(depth, ..)| depth);
        let Some(cold) = self.cold.as_mut().filter(|cold| cold.depth(tokens) > depth) else { return Ok(None) };
        let Some(snapshot) = cold.load(engine, tokens).await else { return Ok(None) };
        if snapshot.read <= depth {
            return Ok(None);
        }
        let session = match Session::restore(engine, &snapshot) {
            Ok((session, _)) => session,
            Err(error @ EngineError::NoSlot(_)) => return Err(error),
            // The text is read again.
            Err(error) => {
                cold.cannot_restore(&snapshot.tokens, &error.to_string()).await;
                return Ok(None);
            }
        };
        self.counts.stored_tokens += snapshot.read as u64;
        match self.keep(engine, &session, CheckpointKind::Message) {
            Ok(()) => Ok(Some(session)),
            Err(error) => {
                session.close(engine)?;
                Err(error)
            }
        }
    }

    /// Counts so far.
    pub fn counts(&self) -> CacheCounts {
        self.counts
    }

    /// Checkpoints, and the bytes of their blocks.
    pub fn size(&self, engine: &Engine) -> (usize, u64) {
        let count = self.trie.entries().filter(|(.., entry)| engine.holds(entry.checkpoint)).count();
        (count, count as u64 * engine.layout().block_bytes())
    }

    /// The device's words, when it had no room for a checkpoint.
    pub fn no_room(&self) -> Option<&str> {
        self.no_room.as_deref()
    }

    /// Depths of a text at which there are checkpoints, ascending.
    pub(super) fn depths(&self, engine: &Engine, tokens: &[u32]) -> Vec<usize> {
        let held = |id| self.trie.entry(id).is_some_and(|entry| engine.holds(entry.checkpoint));
        self.trie.walk(tokens).entries.into_iter().filter(|(_, id)| held(*id)).map(|(depth, _)| depth).collect()
    }

    /// Tokens of a text that need not be read: at most all but one, as a reply comes from the last token's row.
    pub fn cached(&self, engine: &Engine, tokens: &[u32]) -> usize {
        self.find(engine, tokens.get(..tokens.len().saturating_sub(1)).unwrap_or_default()).map_or(0, |found| found.0)
    }

    /// The deepest checkpoint on the way of a text, and its depth.
    fn find(&self, engine: &Engine, tokens: &[u32]) -> Option<(usize, NodeId, StateCheckpoint)> {
        self.trie.walk(tokens).entries.into_iter().rev().find_map(|(depth, id)| {
            let checkpoint = self.trie.entry(id)?.checkpoint;
            engine.holds(checkpoint).then_some((depth, id, checkpoint))
        })
    }

    /// Opens a sequence that has read a prompt up to its last stop, so that [`Session::begin`] reads the rest. Gives
    /// it with the count of tokens that were cached. When it was cancelled, the sequence has read less.
    ///
    /// What is refused changes nothing.
    pub async fn open(
        &mut self,
        engine: &mut Engine,
        prompt: &[u32],
        marks: &[Mark],
        cancel: &Cancel,
    ) -> Result<(Session, usize), EngineError> {
        engine.check_length(prompt.len())?;
        let known = self.cold.as_ref().map_or(0, |cold| cold.depth(&prompt[..prompt.len().saturating_sub(1)]));
        engine.check_text(&prompt[self.cached(engine, prompt).max(known)..])?;
        self.turn += 1;
        self.forget_dropped(engine);
        let mut session = match self.load(engine, &prompt[..prompt.len() - 1]).await? {
            Some(session) => session,
            None => Session::open(engine)?,
        };
        let read = self.read(engine, &mut session, prompt, marks, cancel).await;
        match read {
            Ok(cached) => Ok((session, cached)),
            Err(error) => {
                session.close(engine)?;
                Err(error)
            }
        }
    }

    async fn read(
        &mut self,
        engine: &mut Engine,
        session: &mut Session,
        prompt: &[u32],
        marks: &[Mark],
        cancel: &Cancel,
    ) -> Result<usize, EngineError> {
        let loaded = session.length(engine)?;
        let cached = match self.find(engine, &prompt[..prompt.len() - 1]) {
            Some((depth, id, checkpoint)) if depth > loaded => {
                session.resume(engine, checkpoint, &prompt[..depth])?;
                if let Some(entry) = self.trie.entry_mut(id) {
                    entry.used = self.turn;
                }
                depth
            }
            _ => loaded,
        };
        self.counts.prompt_tokens += prompt.len() as u64;
        self.counts.cached_tokens += cached as u64;
        let matched = self.trie.walk(prompt).matched;
        for mark in policy::stops(prompt.len(), cached, matched, marks, policy::stride(engine.layout())) {
            if !session.read(engine, &prompt[..mark.length], cancel).await? {
                break;
            }
            self.keep(engine, session, mark.kind)?;
        }
        Ok(cached)
    }

    /// Makes a checkpoint of what a sequence has read. Nothing happens where there is one, or no room for one.
    pub fn keep(&mut self, engine: &mut Engine, session: &Session, kind: CheckpointKind) -> Result<(), EngineError> {
        let tokens = session.read_tokens(engine)?;
        if tokens.is_empty() || self.bytes == 0 {
            return Ok(());
        }
        self.forget_dropped(engine);
        let (turn, walk) = (self.turn, self.trie.walk(tokens));
        let there = walk.entries.last().filter(|(depth, _)| *depth == tokens.len());
        if let Some(entry) = there.and_then(|(_, id)| self.trie.entry_mut(*id)) {
            entry.used = turn;
            entry.kind = entry.kind.min(kind);
            return Ok(());
        }
        self.drop_down_to(engine, self.most(engine) - 1);
        let Some(checkpoint) = self.checkpoint(engine, session)? else { return Ok(()) };
        self.counts.made += 1;
        self.trie.insert(tokens, || Entry { checkpoint, kind, used: turn, pinned: false });
        self.rank(engine);
        Ok(())
    }

    /// A checkpoint, at the cost of another one where the device has no room; `None` where it still has none.
    fn checkpoint(&mut self, engine: &mut Engine, session: &Session) -> Result<Option<StateCheckpoint>, EngineError> {
        loop {
            match engine.checkpoint(session.slot()) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) if error.lacks_memory() => {
                    self.no_room = Some(error.to_string());
                    if !self.drop_least(engine) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Copies a text out as far as it is kept, with all checkpoints on its way; `None` where nothing of it is.
    pub(super) async fn snapshot(&self, engine: &mut Engine, tokens: &[u32]) -> Result<Option<Snapshot>, EngineError> {
        let Some((depth, _, deepest)) = self.find(engine, tokens) else { return Ok(None) };
        let state = engine.read_checkpoint(deepest, 0).await?;
        let mut snapshot = engine.snapshot_of(state, &tokens[..depth]);
        for (depth, id) in self.trie.walk(&tokens[..depth - 1]).entries {
            let Some(entry) = self.trie.entry(id).filter(|entry| engine.holds(entry.checkpoint)) else { continue };
            let mut tensors = engine.read_checkpoint(entry.checkpoint, depth).await?.tensors;
            // The keys and values of global attention are rows of the whole text's.
            tensors.retain(|tensor| tensor.shape.first() != Some(&0));
            snapshot.checkpoints.push(SavedCheckpoint { read: depth, tensors });
        }
        Ok(Some(snapshot))
    }

    /// Keeps what a snapshot holds, its checkpoints included, see [`Engine::restore`].
    pub fn restore(&mut self, engine: &mut Engine, snapshot: &Snapshot) -> Result<Option<String>, EngineError> {
        let (mut session, notice) = Session::restore(engine, snapshot)?;
        self.turn += 1;
        let mut kept = self.keep(engine, &session, CheckpointKind::Reply);
        for saved in snapshot.checkpoints.iter().rev() {
            kept = kept.and_then(|()| {
                session.restore_earlier(engine, saved)?;
                self.keep(engine, &session, CheckpointKind::Message)
            });
        }
        session.close(engine)?;
        kept.map(|()| notice)
    }

    /// Goes back in a sequence to where it had read `length` tokens: from the nearest checkpoint, of the sequence or of
    /// this cache, the rest is read again. Gives the count of tokens that were.
    pub async fn rewind(
        &mut self,
        engine: &mut Engine,
        session: &mut Session,
        length: usize,
    ) -> Result<usize, EngineError> {
        let tokens = session.read_tokens(engine)?;
        let kept = tokens.get(..length).and_then(|kept| self.find(engine, kept));
        session.rewind_from(engine, length, kept.map(|(depth, _, checkpoint)| (depth, checkpoint))).await
    }

    /// Keeps the deepest checkpoint of a text, or lets it go: a pinned one is dropped for nothing. False where there is
    /// none.
    pub fn pin(&mut self, engine: &mut Engine, tokens: &[u32], pinned: bool) -> bool {
        let Some(entry) = self.find(engine, tokens).and_then(|(_, id, _)| self.trie.entry_mut(id)) else {
            return false;
        };
        entry.pinned = pinned;
        self.rank(engine);
        true
    }

    /// Changes the bytes that checkpoints may take; those that are too many are dropped.
    pub fn set_bytes(&mut self, engine: &mut Engine, bytes: u64) {
        self.bytes = bytes;
        if bytes == 0 {
            self.clear(engine);
        }
        self.drop_down_to(engine, self.most(engine));
    }

    /// Drops every checkpoint.
    pub fn clear(&mut self, engine: &mut Engine) {
        let ids: Vec<NodeId> = self.trie.entries().map(|(_, _, id, _)| id).collect();
        for id in ids {
            if let Some(entry) = self.trie.remove(id) {
                engine.discard(entry.checkpoint);
            }
        }
    }

    /// Drops checkpoints until there are no more than so many.
    fn drop_down_to(&mut self, engine: &mut Engine, most: u64) {
        while self.trie.entries().count() as u64 > most && self.drop_least(engine) {}
    }

    /// Most checkpoints.
    fn most(&self, engine: &Engine) -> u64 {
        (self.bytes / engine.layout().block_bytes().max(1)).clamp(FEWEST, MOST)
    }

    /// Drops the checkpoint of least worth; false where all are pinned.
    fn drop_least(&mut self, engine: &mut Engine) -> bool {
        let least = self.worths(engine).into_iter().filter_map(|(id, worth)| Some((id, worth?)));
        let Some((id, _)) = least.min_by(|(_, a), (_, b)| a.total_cmp(b)) else { return false };
        if let Some(entry) = self.trie.remove(id) {
            engine.discard(entry.checkpoint);
            self.counts.dropped += 1;
        }
        true
    }

    /// Tells the engine which checkpoints to drop first when it runs out of pages.
    fn rank(&mut self, engine: &mut Engine) {
        for (id, worth) in self.worths(engine) {
            if let Some(entry) = self.trie.entry(id) {
                engine.set_worth(entry.checkpoint, worth);
            }
        }
    }

    /// Worth of every checkpoint; `None` for those that are pinned. The newest system prompt and the newest end are
    /// worth more than all others.
    fn worths(&self, engine: &Engine) -> Vec<(NodeId, Option<f64>)> {
        let bytes = engine.layout().block_bytes();
        let newest = |system: bool| {
            let of_kind = self.trie.entries().filter(|(.., entry)| (entry.kind == CheckpointKind::System) == system);
            of_kind.max_by_key(|(depth, _, _, entry)| (entry.used, *depth)).map(|(_, _, id, _)| id)
        };
        let spared = [newest(true), newest(false)];
        let worth = |(_, saved, id, entry): (usize, usize, NodeId, &Entry)| {
            let worth = policy::score(entry.kind, self.trie.is_end(id), saved, bytes, self.turn - entry.used);
            let worth = if spared.contains(&Some(id)) { f64::MAX } else { worth };
            (id, (!entry.pinned).then_some(worth))
        };
        self.trie.entries().map(worth).collect()
    }

    /// Forgets checkpoints that the engine has dropped for want of pages.
    fn forget_dropped(&mut self, engine: &Engine) {
        let gone = self.trie.entries().filter(|(.., entry)| !engine.holds(entry.checkpoint));
        let gone: Vec<NodeId> = gone.map(|(_, _, id, _)| id).collect();
        self.counts.dropped += gone.len() as u64;
        for id in gone {
            self.trie.remove(id);
        }
    }
}
