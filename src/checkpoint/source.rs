//! Where the files of a checkpoint lie. Byte ranges, never whole files: the same trait serves a folder, an
//! embedded model, and HTTP ranges in a browser.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use futures::future::{LocalBoxFuture, ready};

/// A file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// There is no such file.
    #[error("{file}: there is no such file")]
    Missing {
        /// As [`Source::describe`] calls it.
        file: String,
    },
    /// A range that the file does not have.
    #[error("{file}: bytes {}..{} are wanted, but the file has {size}; is it complete?", range.start, range.end)]
    Range {
        /// As [`Source::describe`] calls it.
        file: String,
        /// What was asked for.
        range: Range<u64>,
        /// What there is.
        size: u64,
    },
    /// The system or the network failed.
    #[error("{file}: {message}")]
    Io {
        /// As [`Source::describe`] calls it.
        file: String,
        /// The system's words.
        message: String,
    },
}

/// Gives bytes of named files. Object-safe; futures are not `Send`, because in a browser they wait for promises.
pub trait Source {
    /// A file's full name for people: a path, an address. The empty name is the place itself.
    fn describe(&self, file: &str) -> String;

    /// The length of a file in bytes; `None` when there is no such file.
    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>>;

    /// Exactly the bytes of a range, or an error.
    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>>;
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn describe(&self, file: &str) -> String {
        (**self).describe(file)
    }

    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
        (**self).size(file)
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
        (**self).read(file, range)
    }
}

/// The bytes of a range of a file that lies in memory.
fn slice<'a>(source: &dyn Source, file: &str, bytes: &'a [u8], range: Range<u64>) -> Result<&'a [u8], SourceError> {
    let index = |at: u64| usize::try_from(at).ok();
    let found = index(range.start).zip(index(range.end)).and_then(|(from, to)| bytes.get(from..to));
    found.ok_or_else(|| SourceError::Range { file: source.describe(file), range, size: bytes.len() as u64 })
}

/// Files held in memory: embedded models, tests, bytes that a page already has.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    files: BTreeMap<String, Cow<'static, [u8]>>,
}

impl Memory {
    /// No files yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same files and one more (or another under the same name).
    pub fn with(mut self, file: impl Into<String>, bytes: impl Into<Cow<'static, [u8]>>) -> Self {
        self.files.insert(file.into(), bytes.into());
        self
    }
}

impl Source for Memory {
    fn describe(&self, file: &str) -> String {
        if file.is_empty() { "the model in memory".into() } else { file.into() }
    }

    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
        Box::pin(ready(Ok(self.files.get(file).map(|bytes| bytes.len() as u64))))
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
        let found = match self.files.get(file) {
            Some(bytes) => slice(self, file, bytes, range).map(Cow::Borrowed),
            None => Err(SourceError::Missing { file: self.describe(file) }),
        };
        Box::pin(ready(found))
    }
}

#[cfg(feature = "native")]
pub use folder::Folder;

#[cfg(feature = "native")]
mod folder {
    use std::cell::OnceCell;
    use std::path::{Path, PathBuf};

    use memmap2::Mmap;

    use super::*;

    /// A folder's files, memory-mapped when they are first read. Names are those of files directly in the
    /// folder, so no name that a checkpoint mentions leads out of it. The files must not be cut while in use.
    #[derive(Debug)]
    pub struct Folder {
        path: PathBuf,
        files: BTreeMap<String, OnceCell<Mmap>>,
    }

    impl Folder {
        /// Lists the folder; nothing is read yet.
        pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
            let path = path.as_ref().to_path_buf();
            let io = |e: std::io::Error| SourceError::Io { file: path.display().to_string(), message: e.to_string() };
            let mut files = BTreeMap::new();
            for entry in std::fs::read_dir(&path).map_err(io)? {
                let entry = entry.map_err(io)?;
                // Through links: the hub's cache consists of them.
                let is_file = std::fs::metadata(entry.path()).is_ok_and(|m| m.is_file());
                if let (true, Ok(name)) = (is_file, entry.file_name().into_string()) {
                    files.insert(name, OnceCell::new());
                }
            }
            Ok(Self { path, files })
        }

        fn map(&self, file: &str) -> Result<Option<&Mmap>, SourceError> {
            let Some(cell) = self.files.get(file) else { return Ok(None) };
            if let Some(map) = cell.get() {
                return Ok(Some(map));
            }
            let open = || {
                let file = std::fs::File::open(self.path.join(file))?;
                // SAFETY: the map is read-only, and its bytes are only ever read as plain numbers or checked as
                // text, for which any value is valid. That nobody cuts the file meanwhile is asked of the caller.
                unsafe { Mmap::map(&file) }
            };
            let map = open().map_err(|e| SourceError::Io { file: self.describe(file), message: e.to_string() })?;
            Ok(Some(cell.get_or_init(|| map)))
        }
    }

    impl Source for Folder {
        fn describe(&self, file: &str) -> String {
            let path = if file.is_empty() { self.path.clone() } else { self.path.join(file) };
            path.display().to_string()
        }

        fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
            Box::pin(ready(self.map(file).map(|map| map.map(|map| map.len() as u64))))
        }

        fn read<'a>(
            &'a self,
            file: &'a str,
            range: Range<u64>,
        ) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
            let found = match self.map(file) {
                Ok(Some(map)) => slice(self, file, map, range).map(Cow::Borrowed),
                Ok(None) => Err(SourceError::Missing { file: self.describe(file) }),
                Err(error) => Err(error),
            };
            Box::pin(ready(found))
        }
    }
}
