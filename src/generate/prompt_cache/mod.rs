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

use std::collections::VecDeque;

use crate::runtime::{Cancel, Engine, EngineError, StateCheckpoint};
use crate::state::{CheckpointKind, SavedCheckpoint, Snapshot};

use super::Session;
use cold::Cold;
use trie::{NodeId, Trie};

#[cfg(feature = "native")]
pub use cold::FolderStore;
pub use cold::{MemoryStore, StateStore, StoreError, StoreOptions, StoredState};
pub use policy::Mark;
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

/// Conversations whose ends are dropped when nothing else is left to drop: those with the last turns.
const MOST_TAILS: usize = 8;

#[derive(Debug)]
struct Entry {
    checkpoint: StateCheckpoint,
    kind: CheckpointKind,
    /// The turn in which it was used last.
    used: u64,
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
    /// The ends of conversations by their numbers, that of the last turn behind.
    tails: VecDeque<(u64, StateCheckpoint)>,
    /// The device had no room for a checkpoint, and that was told.
    no_room: bool,
    /// What went wrong since it was asked last.
    notices: Vec<String>,
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
        Self {
            trie: Trie::default(),
            bytes,
            turn: 0,
            counts: CacheCounts::default(),
            tails: VecDeque::new(),
            no_room: false,
            notices: vec![],
            cold: None,
        }
    }

    /// Keeps all checkpoints in a store too, and finds those there that earlier runs of the
    /// same model left. Gives the texts of those, the newest last.
    pub(super) async fn keep_in(
        &mut self,
        engine: &Engine,
        store: Box<dyn StateStore>,
        options: StoreOptions,
    ) -> Result<Vec<KnownText>, StoreError> {
        let (cold, texts) = Cold::open(store, options, engine).await?;
        self.cold = Some(cold);
        Ok(texts.iter().filter_map(|(text, tokens)| KnownText::from_snapshot(text, tokens)).collect())
    }

    /// What went wrong since this was asked last, with the store or for want of memory: sentences without a full stop.
    pub fn take_notices(&mut self) -> Vec<String> {
        let mut notices = std::mem::take(&mut self.notices);
        notices.extend(self.cold.as_mut().map_or(vec![], Cold::take_notices));
        notices
    }

    /// Files of the store, and bytes of all of them; `None` without a store.
    pub fn stored(&self) -> Option<(usize, u64)> {
        self.cold.as_ref().map(Cold::size)
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
            cold.keep(engine, &tokens[..depth], (entry.checkpoint, entry.kind), text).await?;
        }
        Ok(())
    }

    /// A sequence that has read the beginning of a text, from the store, if that has more of it than the device.
    async fn load(&mut self, engine: &mut Engine, tokens: &[u32]) -> Result<Option<Session>, EngineError> {
        let depth = self.held(engine, tokens);
        let Some(cold) = self.cold.as_mut().filter(|cold| cold.depth(tokens) > depth) else { return Ok(None) };
        let Some(snapshot) = cold.load(engine, tokens).await else { return Ok(None) };
        if snapshot.read <= depth {
            return Ok(None);
        }
        let session = match Session::restore(engine, &snapshot) {
            Ok((session, _)) => session,
            // The text is read again.
            Err(EngineError::Snapshot(error)) => {
                cold.cannot_restore(&snapshot.tokens, &error.to_string()).await;
                return Ok(None);
            }
            Err(EngineError::Pages(_) | EngineError::ContextFull { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.counts.stored_tokens += snapshot.read as u64;
        match self.keep(engine, &session, snapshot.kind) {
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

    /// Depths of a text at which there are checkpoints, ascending.
    pub(super) fn depths(&self, engine: &Engine, tokens: &[u32]) -> Vec<usize> {
        let held = |id| self.trie.entry(id).is_some_and(|entry| engine.holds(entry.checkpoint));
        self.trie.walk(tokens).entries.into_iter().filter(|(_, id)| held(*id)).map(|(depth, _)| depth).collect()
    }

    /// Tokens of a text that need not be read: at most all but one, as a reply comes from the last token's row.
    pub fn cached(&self, engine: &Engine, tokens: &[u32]) -> usize {
        self.held(engine, tokens.get(..tokens.len().saturating_sub(1)).unwrap_or_default())
    }

    /// Tokens of a text that are remembered on the device.
    pub fn held(&self, engine: &Engine, tokens: &[u32]) -> usize {
        self.find(engine, tokens).map_or(0, |found| found.0)
    }

    /// Tokens of a text that are remembered, on the device or in the store.
    pub(super) fn remembered(&self, engine: &Engine, tokens: &[u32]) -> usize {
        let stored = self.cold.as_ref().map_or(0, |cold| cold.depth(tokens));
        self.held(engine, tokens).max(stored)
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
        let (mut session, stops) = self.enter(engine, prompt, marks).await?;
        let cached = session.tokens().len();
        match self.read(engine, &mut session, prompt, &stops, cancel).await {
            Ok(()) => Ok((session, cached)),
            Err(error) => {
                session.close(engine)?;
                Err(error)
            }
        }
    }

    /// Opens a sequence that remembers the beginning of a prompt as far as it is kept, on the device or in the store. Gives
    /// it with the places at which the reading of the rest stops for checkpoints.
    ///
    /// What is refused changes nothing.
    pub(super) async fn enter(
        &mut self,
        engine: &mut Engine,
        prompt: &[u32],
        marks: &[Mark],
    ) -> Result<(Session, Vec<Mark>), EngineError> {
        engine.check_length(prompt.len())?;
        let known = self.cold.as_ref().map_or(0, |cold| cold.depth(&prompt[..prompt.len().saturating_sub(1)]));
        engine.check_text(&prompt[self.cached(engine, prompt).max(known)..])?;
        self.turn += 1;
        self.forget_dropped(engine);
        let beginning = &prompt[..prompt.len() - 1];
        let mut session = match self.load(engine, beginning).await? {
            Some(session) => session,
            None => Session::open(engine)?,
        };
        if let Some((depth, id, checkpoint)) = self.find(engine, beginning)
            && depth > session.tokens().len()
        {
            if let Err(error) = session.resume(engine, checkpoint, &prompt[..depth]) {
                session.close(engine)?;
                return Err(error);
            }
            if let Some(entry) = self.trie.entry_mut(id) {
                entry.used = self.turn;
            }
        }
        let cached = session.tokens().len();
        self.counts.prompt_tokens += prompt.len() as u64;
        self.counts.cached_tokens += cached as u64;
        let matched = self.trie.walk(prompt).matched;
        let stops = policy::stops(prompt.len(), cached, matched, marks, policy::stride(engine.layout()));
        Ok((session, stops))
    }

    async fn read(
        &mut self,
        engine: &mut Engine,
        session: &mut Session,
        prompt: &[u32],
        stops: &[Mark],
        cancel: &Cancel,
    ) -> Result<(), EngineError> {
        for mark in stops {
            if !session.read(engine, &prompt[..mark.length], cancel).await? {
                break;
            }
            self.keep(engine, session, mark.kind)?;
        }
        Ok(())
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
        self.trie.insert(tokens, || Entry { checkpoint, kind, used: turn });
        self.rank(engine);
        Ok(())
    }

    /// A checkpoint, at the cost of another one where the device has no room; `None` where it still has none.
    fn checkpoint(&mut self, engine: &mut Engine, session: &Session) -> Result<Option<StateCheckpoint>, EngineError> {
        loop {
            match engine.checkpoint(session.slot()) {
                Ok(checkpoint) => return Ok(Some(checkpoint)),
                Err(error) if error.lacks_memory() => {
                    if !self.drop_least(engine) {
                        if !std::mem::replace(&mut self.no_room, true) {
                            let what = "texts are read again that might have been remembered";
                            self.notices.push(format!("{error}: {what}"));
                        }
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Copies a text out as far as it is kept, with all checkpoints on its way; `None` where nothing of it is.
    pub async fn snapshot(&self, engine: &mut Engine, tokens: &[u32]) -> Result<Option<Snapshot>, EngineError> {
        let Some((depth, id, deepest)) = self.find(engine, tokens) else { return Ok(None) };
        let state = engine.read_checkpoint(deepest, 0).await?;
        let kind = self.trie.entry(id).map_or_else(CheckpointKind::default, |entry| entry.kind);
        let mut snapshot = Snapshot { kind, ..engine.snapshot_of(state, &tokens[..depth]) };
        for (depth, id) in self.trie.walk(&tokens[..depth - 1]).entries {
            let Some(entry) = self.trie.entry(id).filter(|entry| engine.holds(entry.checkpoint)) else { continue };
            let mut tensors = engine.read_checkpoint(entry.checkpoint, depth).await?.tensors;
            // The keys and values of global attention are rows of the whole text's.
            tensors.retain(|tensor| tensor.shape.first() != Some(&0));
            snapshot.checkpoints.push(SavedCheckpoint { read: depth, kind: entry.kind, tensors });
        }
        Ok(Some(snapshot))
    }

    /// Keeps what a snapshot holds, its checkpoints included, see [`Engine::restore`].
    pub fn restore(&mut self, engine: &mut Engine, snapshot: &Snapshot) -> Result<Option<String>, EngineError> {
        let (mut session, notice) = Session::restore(engine, snapshot)?;
        self.turn += 1;
        let mut kept = self.keep(engine, &session, snapshot.kind);
        for saved in snapshot.checkpoints.iter().rev() {
            kept = kept.and_then(|()| {
                session.restore_earlier(engine, saved)?;
                self.keep(engine, &session, saved.kind)
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

    /// Says how far a conversation has come: its last checkpoint is dropped when nothing else is left, as long as it is
    /// one of the eight conversations with the last turns. `conversation` is any number that no other one has.
    pub fn set_tail(&mut self, engine: &mut Engine, conversation: u64, tokens: &[u32]) {
        self.tails.retain(|(other, _)| *other != conversation);
        let found = self.find(engine, tokens);
        self.tails.extend(found.map(|(_, _, checkpoint)| (conversation, checkpoint)));
        if self.tails.len() > MOST_TAILS {
            self.tails.pop_front();
        }
        self.rank(engine);
    }

    /// Changes the bytes that checkpoints may take; those that are too many are dropped.
    pub fn set_bytes(&mut self, engine: &mut Engine, bytes: u64) {
        self.bytes = bytes;
        if bytes == 0 {
            self.clear(engine);
        }
        self.drop_down_to(engine, self.most(engine));
    }

    /// Drops the checkpoints of a text behind its first `depth` tokens.
    pub(super) fn forget(&mut self, engine: &mut Engine, tokens: &[u32], depth: usize) {
        for (_, id) in self.trie.walk(tokens).entries.into_iter().filter(|(at, _)| *at > depth) {
            if let Some(entry) = self.trie.remove(id) {
                engine.discard(entry.checkpoint);
            }
        }
    }

    /// Drops the checkpoints of a text, but for those from which other texts go on. Gives the count of its tokens that are
    /// still remembered on the device.
    pub fn erase(&mut self, engine: &mut Engine, tokens: &[u32]) -> usize {
        self.forget_dropped(engine);
        while let Some((_, id, checkpoint)) = self.find(engine, tokens).filter(|(_, id, _)| self.trie.is_end(*id)) {
            self.trie.remove(id);
            engine.discard(checkpoint);
        }
        self.held(engine, tokens)
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

    /// Drops the checkpoint of least worth; false where there is none.
    fn drop_least(&mut self, engine: &mut Engine) -> bool {
        let least = self.worths(engine).into_iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((id, _)) = least else { return false };
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
                engine.set_worth(entry.checkpoint, Some(worth));
            }
        }
    }

    /// Worth of every checkpoint. The newest system prompt and the newest end are worth more than all others, and then
    /// the ends of conversations.
    fn worths(&self, engine: &Engine) -> Vec<(NodeId, f64)> {
        let bytes = engine.layout().block_bytes();
        let newest = |system: bool| {
            let of_kind = self.trie.entries().filter(|(.., entry)| (entry.kind == CheckpointKind::System) == system);
            of_kind.max_by_key(|(depth, _, _, entry)| (entry.used, *depth)).map(|(_, _, id, _)| id)
        };
        let spared = [newest(true), newest(false)];
        let worth = |(_, saved, id, entry): (usize, usize, NodeId, &Entry)| {
            let worth = policy::score(entry.kind, self.trie.is_end(id), saved, bytes, self.turn - entry.used);
            let tail = self.tails.iter().any(|(_, checkpoint)| *checkpoint == entry.checkpoint);
            let worth = match () {
                () if spared.contains(&Some(id)) => f64::MAX,
                // Those used last go last.
                () if tail => f64::MAX / 2.0 / (1 + self.turn - entry.used) as f64,
                () => worth,
            };
            (id, worth)
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
