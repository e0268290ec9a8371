//! The cold tier: checkpoints that are on no device.
//!
//! A file is a snapshot of one place of a text, with the keys and values since the checkpoint before it only
//! ([`Snapshot::first`]), so that a conversation of twenty turns is written once and not twenty times. Its place in the
//! text is its tokens; a second trie holds those. What is read back is checked by its checksum and by the model's
//! fingerprint; what fails is removed, told, and read anew from its tokens.

#[cfg(feature = "native")]
mod folder;
mod store;

use crate::graph::Op;
use crate::hash::Hasher;
use crate::runtime::{Engine, EngineError, StateCheckpoint};
use crate::state::{CheckpointKind, Snapshot, SnapshotError, SnapshotSummary, SnapshotText, StateTensor};

use super::trie::{NodeId, Trie};

#[cfg(feature = "native")]
pub use folder::FolderStore;
pub use store::{MemoryStore, StateStore, StoreError, StoreOptions, StoredState};

#[derive(Debug)]
struct Entry {
    name: String,
    bytes: u64,
    /// When it was used: a higher number is later.
    used: u64,
}

/// A text with its tokens.
type Text = (SnapshotText, Vec<u32>);

/// Why a file is of no use.
enum Fault {
    /// It cannot be read, now at least.
    Store(StoreError),
    /// Its content is wrong.
    File(String),
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<SnapshotError> for Fault {
    fn from(error: SnapshotError) -> Self {
        Self::File(error.to_string())
    }
}

/// States in a store.
pub(super) struct Cold {
    store: Box<dyn StateStore>,
    trie: Trie<Entry>,
    /// Files of other models: name, bytes; the one used longest ago first.
    others: Vec<StoredState>,
    options: StoreOptions,
    uses: u64,
    /// The last write failed, and that was told.
    failing: bool,
    /// What went wrong since it was asked last.
    notices: Vec<String>,
}

impl std::fmt::Debug for Cold {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Cold").field("trie", &self.trie).field("options", &self.options).finish_non_exhaustive()
    }
}

impl Cold {
    /// Looks through a store. Gives the texts that it knows too, the newest last.
    pub async fn open(
        mut store: Box<dyn StateStore>,
        options: StoreOptions,
        engine: &Engine,
    ) -> Result<(Self, Vec<Text>), StoreError> {
        // A router may choose another expert for the least of differences.
        let routes = engine.model().graph.ops.iter().any(|op| matches!(op, Op::MoeRoute(_)));
        let options = StoreOptions { exact: options.exact || routes, ..options };
        let files = store.list().await?;
        let mut this =
            Self { store, trie: Trie::default(), others: vec![], options, uses: 0, failing: false, notices: vec![] };
        let mut texts = vec![];
        for file in files {
            match this.look(&file, engine).await {
                Ok(Some(text)) => texts.extend(text),
                Ok(None) => this.others.push(file),
                Err(Fault::Store(error)) => {
                    this.notices.push(format!("{error}; it is passed over"));
                    this.others.push(file);
                }
                Err(Fault::File(what)) => {
                    this.notices.push(format!("{}: {what}; it is removed", file.name));
                    this.store.remove(&file.name).await?;
                }
            }
        }
        this.shrink(0, &[]).await?;
        Ok((this, texts))
    }

    /// Reads the beginning of a file; `None` where it is another model's, another version's, or one of two of a place.
    async fn look(&mut self, file: &StoredState, engine: &Engine) -> Result<Option<Option<Text>>, Fault> {
        let first = self.store.read(&file.name, 0..8).await?;
        let header = SnapshotSummary::header_bytes(&first)?;
        let header = self.store.read(&file.name, 0..header).await?;
        let summary = match SnapshotSummary::parse(&header) {
            Err(SnapshotError::Version { .. }) => return Ok(None),
            summary => summary?,
        };
        if !fits(&summary, engine) {
            return Ok(None);
        }
        let bytes = self.store.read(&file.name, summary.tokens.clone()).await?;
        let tokens = bytemuck::pod_collect_to_vec::<u8, u32>(&bytes);
        let read = tokens.get(..summary.read).filter(|read| !read.is_empty() && summary.first < summary.read);
        let read = read.filter(|_| summary.is_whole(&bytes) && engine.check_tokens(&tokens).is_ok());
        let read = read.ok_or_else(|| Fault::File("its text was cut or changed".into()))?;
        if self.depth(read) == read.len() {
            return Ok(None);
        }
        self.note(read, Entry { name: file.name.clone(), used: 0, bytes: file.bytes });
        Ok(Some(summary.text.map(|text| (text, tokens))))
    }

    fn note(&mut self, tokens: &[u32], entry: Entry) {
        self.uses += 1;
        let entry = Entry { used: self.uses, ..entry };
        self.trie.insert(tokens, || entry);
    }

    /// What went wrong since this was asked last.
    pub fn take_notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Files, and bytes of all of them.
    pub fn size(&self) -> (usize, u64) {
        let (count, bytes) = self.trie.entries().fold((0, 0), |(n, sum), (.., entry)| (n + 1, sum + entry.bytes));
        (count + self.others.len(), bytes + self.others.iter().map(|file| file.bytes).sum::<u64>())
    }

    /// Depth of the deepest state on the way of a text.
    pub fn depth(&self, tokens: &[u32]) -> usize {
        self.trie.walk(tokens).entries.last().map_or(0, |(depth, _)| *depth)
    }

    /// The deepest state on the way of a text, whole; `None` where there is none that can be read.
    pub async fn load(&mut self, engine: &Engine, tokens: &[u32]) -> Option<Snapshot> {
        loop {
            let (_, id) = self.trie.walk(tokens).entries.last().copied()?;
            match self.chain(engine, tokens, id).await {
                Ok(snapshot) => return Some(snapshot),
                Err((depth, fault)) => self.forget_from(tokens, depth, fault).await,
            }
        }
    }

    /// A state with the rows of all states before it; the depth of the one that cannot be used, and why.
    async fn chain(&mut self, engine: &Engine, tokens: &[u32], id: NodeId) -> Result<Snapshot, (usize, Fault)> {
        let (mut parts, mut next) = (vec![], Some((self.depth(tokens), id)));
        while let Some((depth, id)) = next {
            let part = self.read(engine, id, &tokens[..depth]).await.map_err(|fault| (depth, fault))?;
            next = match part.first {
                0 => None,
                first => {
                    let before = self.trie.walk(&tokens[..first]).entries.last().copied();
                    let before = before.filter(|(depth, _)| *depth == first);
                    let missing = || Fault::File("the state before it, whose rows it needs, is missing".into());
                    Some(before.ok_or_else(|| (depth, missing()))?)
                }
            };
            parts.push(part);
        }
        join(parts).ok_or_else(|| (self.depth(tokens), Fault::File("its rows are not those that it says".into())))
    }

    async fn read(&mut self, engine: &Engine, id: NodeId, tokens: &[u32]) -> Result<Snapshot, Fault> {
        self.uses += 1;
        let now = self.uses;
        let Some(entry) = self.trie.entry_mut(id) else { return Err(Fault::File("it is gone".into())) };
        entry.used = now;
        let name = entry.name.clone();
        // Another process may have written it anew, in another length.
        let snapshot = Snapshot::from_bytes(&self.store.read(&name, 0..u64::MAX).await?)?;
        snapshot.check(engine.fingerprint(), engine.weights_name())?;
        if snapshot.tokens[..snapshot.read] != *tokens || snapshot.first >= snapshot.read {
            return Err(Fault::File("it is the state of another text".into()));
        }
        self.store.touch(&name).await;
        Ok(snapshot)
    }

    /// A state that was whole could not be restored: its file is removed.
    pub async fn cannot_restore(&mut self, tokens: &[u32], what: &str) {
        self.forget_from(tokens, tokens.len(), Fault::File(what.into())).await;
    }

    /// Keeps a checkpoint, if it is not kept yet. States before it on the way of its text must be kept before.
    pub async fn keep(
        &mut self,
        engine: &mut Engine,
        tokens: &[u32],
        (checkpoint, kind): (StateCheckpoint, CheckpointKind),
        text: Option<(SnapshotText, &[u32])>,
    ) -> Result<(), EngineError> {
        let before = self.depth(tokens);
        if before == tokens.len() {
            return Ok(());
        }
        let state = engine.read_checkpoint(checkpoint, before).await?;
        let mut snapshot =
            Snapshot { first: before, kind, rounded: !self.options.exact, ..engine.snapshot_of(state, tokens) };
        if let Some((text, all)) = text {
            (snapshot.text, snapshot.tokens) = (Some(text), all.to_vec());
        }
        let bytes = snapshot.to_bytes()?;
        let name = format!("{}.state", name(&snapshot, tokens));
        // A full disk takes nothing from the conversation.
        let kept = self.write(&name, &bytes, tokens).await;
        let failed_before = std::mem::replace(&mut self.failing, kept.is_err());
        if let Err(StoreError { name, what }) = kept
            && !failed_before
        {
            self.notices.push(format!("{name}: {what}; states are not kept until there is room"));
        }
        Ok(())
    }

    /// Writes a file, at the cost of others where there are too many of them or the place is full.
    async fn write(&mut self, name: &str, bytes: &[u8], tokens: &[u32]) -> Result<(), StoreError> {
        let (more, limit) = (bytes.len() as u64, self.options.limit);
        let way = self.trie.walk(tokens).entries.into_iter().filter_map(|(_, id)| self.trie.entry(id));
        let needed = way.map(|entry| entry.bytes).sum::<u64>() + more;
        if needed > limit {
            // Nobody else's memory goes for one that does not fit in any case.
            let what = format!("the memory of the text takes {needed} bytes, and all may take {limit}");
            return Err(StoreError { name: name.into(), what });
        }
        self.shrink(more, tokens).await?;
        if let Err(error) = self.store.write(name, bytes).await {
            // The disk, or what a browser gives, may be full before the limit is reached.
            let mut freed = 0;
            while freed < more {
                match self.drop_oldest(tokens).await? {
                    Some(bytes) => freed += bytes,
                    None => return Err(error),
                }
            }
            self.store.write(name, bytes).await?;
        }
        self.note(tokens, Entry { name: name.into(), bytes: more, used: 0 });
        Ok(())
    }

    /// Removes files until there is room for `more` bytes.
    async fn shrink(&mut self, more: u64, tokens: &[u32]) -> Result<(), StoreError> {
        while self.size().1 + more > self.options.limit && self.drop_oldest(tokens).await?.is_some() {}
        Ok(())
    }

    /// Removes the file used longest ago, of a text from its end, and none on the way of `tokens`. Gives its bytes.
    async fn drop_oldest(&mut self, tokens: &[u32]) -> Result<Option<u64>, StoreError> {
        if !self.others.is_empty() {
            let other = self.others.remove(0);
            self.store.remove(&other.name).await?;
            return Ok(Some(other.bytes));
        }
        let spared: Vec<NodeId> = self.trie.walk(tokens).entries.into_iter().map(|(_, id)| id).collect();
        let ends = self.trie.entries().filter(|(_, _, id, _)| self.trie.is_end(*id) && !spared.contains(id));
        let Some(id) = ends.min_by_key(|(.., entry)| entry.used).map(|(_, _, id, _)| id) else { return Ok(None) };
        let Some(entry) = self.trie.remove(id) else { return Ok(None) };
        self.store.remove(&entry.name).await?;
        Ok(Some(entry.bytes))
    }

    /// Forgets the states of a text from a depth on. The file at that depth is removed if its content is wrong; the
    /// others need it.
    async fn forget_from(&mut self, tokens: &[u32], depth: usize, fault: Fault) {
        let entries = self.trie.walk(tokens).entries;
        let (what, removed) = match fault {
            Fault::Store(error) => (error.to_string(), false),
            Fault::File(what) => (what, true),
        };
        for (at, id) in entries.into_iter().filter(|(at, _)| *at >= depth) {
            let Some(entry) = self.trie.remove(id) else { continue };
            if at == depth {
                self.notices.push(format!("{}: {what}; its text is read again", entry.name));
            }
            if (at > depth || removed)
                && let Err(error) = self.store.remove(&entry.name).await
            {
                self.notices.push(error.to_string());
            }
        }
    }
}

/// Whether a file is of an engine's model, in its formats.
fn fits(summary: &SnapshotSummary, engine: &Engine) -> bool {
    summary.fingerprint == *engine.fingerprint()
        && summary.weights == engine.weights_name()
        && summary.kv_format == engine.layout().kv_format
}

/// The name of a text's state, of its rows from `snapshot.first` on.
fn name(snapshot: &Snapshot, tokens: &[u32]) -> crate::hash::Hash {
    let mut hash = Hasher::default();
    let print = &snapshot.fingerprint;
    for part in [&print.architecture, &snapshot.weights, &snapshot.kv_format.to_string()] {
        hash.name(part);
    }
    for part in [Some(print.config), Some(print.weights), print.tokenizer].into_iter().flatten() {
        hash.add(&part.0.to_le_bytes());
    }
    hash.add(&(snapshot.first as u64).to_le_bytes());
    hash.add(bytemuck::cast_slice(tokens));
    hash.finish()
}

/// The parts of a text, the last first, as one; `None` where they do not meet.
fn join(mut parts: Vec<Snapshot>) -> Option<Snapshot> {
    if parts.windows(2).any(|pair| pair[1].read != pair[0].first) {
        return None;
    }
    parts.reverse();
    let mut whole = parts.pop()?;
    for tensor in &mut whole.state.tensors {
        let mut rows = Vec::with_capacity(parts.len() + 1);
        for part in &parts {
            rows.push(part.state.tensor(&tensor.name)?);
        }
        let own = tensor.clone();
        rows.push(&own);
        // Rings have all their rows in every part, and states have none.
        let ascends = |pair: &[&StateTensor]| match (pair[0].positions.last(), pair[1].positions.first()) {
            (Some(last), Some(first)) => last < first,
            _ => false,
        };
        if rows.len() < 2 || !rows.windows(2).all(ascends) {
            continue;
        }
        tensor.positions = rows.iter().flat_map(|part| part.positions.iter().copied()).collect();
        tensor.data = rows.iter().flat_map(|part| part.data.iter().copied()).collect();
        *tensor.shape.first_mut()? = tensor.positions.len();
    }
    whole.first = 0;
    whole.tokens.truncate(whole.read);
    Some(whole)
}
