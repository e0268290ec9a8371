//! Where states are kept that are on no device: named files, written whole.

use std::collections::BTreeMap;
use std::ops::Range;

use futures::future::{LocalBoxFuture, ready};

/// Error of a store, in the words of whoever keeps it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {what}")]
pub struct StoreError {
    /// The file, or the place of all of them.
    pub name: String,
    /// What is wrong.
    pub what: String,
}

/// How states are kept in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Most bytes of all files.
    pub limit: u64,
    /// Recurrent states are written in f32, so that a text goes on as if it had never been left; else in int8 with a scale a
    /// row, a quarter of the bytes. Those of models with experts are always written in f32. Keys and values are written as
    /// the device has them.
    pub exact: bool,
}

/// A file of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A place for states: memory of the host, a folder, a browser's private files.
///
/// A file is there as a whole or not at all, also after the process was killed amid writing it.
pub trait StateStore {
    /// All files, the one used longest ago first.
    fn list(&mut self) -> LocalBoxFuture<'_, Result<Vec<StoredState>, StoreError>>;

    /// Bytes of a file, fewer where it ends before.
    fn read<'a>(&'a mut self, name: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Vec<u8>, StoreError>>;

    /// Makes a file, in place of one of that name. It is safe when this returns.
    fn write<'a>(&'a mut self, name: &'a str, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), StoreError>>;

    /// Removes a file, if it is there.
    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<(), StoreError>>;

    /// Notes that a file is used now.
    fn touch<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, ()>;
}

/// The host's memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    files: BTreeMap<String, (u64, Vec<u8>)>,
    uses: u64,
}

impl MemoryStore {
    fn used(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }
}

impl StateStore for MemoryStore {
    fn list(&mut self) -> LocalBoxFuture<'_, Result<Vec<StoredState>, StoreError>> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(_, (used, _))| *used);
        let of = |(name, (_, bytes)): (&String, &(u64, Vec<u8>))| StoredState {
            name: name.clone(),
            bytes: bytes.len() as u64,
        };
        Box::pin(ready(Ok(files.into_iter().map(of).collect())))
    }

    fn read<'a>(&'a mut self, name: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Vec<u8>, StoreError>> {
        let read = self.files.get(name).map(|(_, bytes)| {
            let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
            bytes[within(range.start)..within(range.end).max(within(range.start))].to_vec()
        });
        let missing = || StoreError { name: name.into(), what: "is not there".into() };
        Box::pin(ready(read.ok_or_else(missing)))
    }

    fn write<'a>(&'a mut self, name: &'a str, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        let used = self.used();
        self.files.insert(name.into(), (used, bytes.to_vec()));
        Box::pin(ready(Ok(())))
    }

    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        self.files.remove(name);
        Box::pin(ready(Ok(())))
    }

    fn touch<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, ()> {
        let now = self.used();
        if let Some((used, _)) = self.files.get_mut(name) {
            *used = now;
        }
        Box::pin(ready(()))
    }
}
