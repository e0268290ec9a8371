//! Sources of a checkpoint's files, read in byte ranges, never as whole files: one trait serves a folder, an
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
        /// The bytes asked for.
        range: Range<u64>,
        /// Size of the file in bytes.
        size: u64,
    },
    /// The system or the network failed.
    #[error("{file}: {message}")]
    Io {
        /// As [`Source::describe`] calls it.
        file: String,
        /// The system's error.
        message: String,
    },
}

/// Gives bytes of named files. Object-safe; futures are not `Send`, because in a browser they wait for promises.
pub trait Source {
    /// A file's full name for people: a path, an address. The empty name is the place itself.
    fn describe(&self, file: &str) -> String;

    /// The length of a file in bytes; `None` when there is no such file.
    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>>;

    /// Names of the files, if the source can list them, and of those in folders within (`folder/file`), for errors that
    /// say what is there. None where files cannot be listed.
    fn list(&self) -> Vec<String> {
        vec![]
    }

    /// The GGUF file that was named in the place of a folder, if one was.
    fn gguf(&self) -> Option<&str> {
        None
    }

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

    fn list(&self) -> Vec<String> {
        (**self).list()
    }

    fn gguf(&self) -> Option<&str> {
        (**self).gguf()
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

    fn list(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
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
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom};
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::checkpoint::POOLING;
    use crate::checkpoint::gguf::is_gguf;

    /// A folder's files, opened when they are first read. Names are those of files directly in the folder and
    /// [`POOLING`], so no name that a checkpoint mentions leads out of it.
    ///
    /// Files are read, not mapped: a mapped checkpoint counts as this program's memory as a whole, and one that
    /// is cut while in use would end it.
    #[derive(Debug)]
    pub struct Folder {
        path: PathBuf,
        files: BTreeMap<String, OnceCell<(File, u64)>>,
        gguf: Option<String>,
    }

    impl Folder {
        /// Lists the folder, or that of a GGUF file; nothing is read yet.
        pub fn open(path: impl AsRef<Path>) -> Result<Self, SourceError> {
            let mut path = path.as_ref().to_path_buf();
            let mut gguf = None;
            if path.is_file() {
                gguf = path.file_name().and_then(|name| name.to_str()).filter(|name| is_gguf(name)).map(str::to_owned);
                if gguf.is_none() {
                    let message =
                        "is a file; a model is a folder with config.json and model.safetensors, or a GGUF file";
                    return Err(SourceError::Io { file: path.display().to_string(), message: message.into() });
                }
                path.pop();
                if path.as_os_str().is_empty() {
                    path.push(".");
                }
            }
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
            if path.join(POOLING).is_file() {
                files.insert(POOLING.into(), OnceCell::new());
            }
            Ok(Self { path, files, gguf })
        }

        /// A file and its size.
        fn file(&self, file: &str) -> Result<Option<&(File, u64)>, SourceError> {
            let Some(cell) = self.files.get(file) else { return Ok(None) };
            if let Some(opened) = cell.get() {
                return Ok(Some(opened));
            }
            let open = || {
                let file = File::open(self.path.join(file))?;
                let size = file.metadata()?.len();
                Ok((file, size))
            };
            let opened = open().map_err(|e| self.io(file, &e))?;
            Ok(Some(cell.get_or_init(|| opened)))
        }

        fn bytes(&self, file: &str, range: Range<u64>) -> Result<Vec<u8>, SourceError> {
            let Some((opened, size)) = self.file(file)? else {
                return Err(SourceError::Missing { file: self.describe(file) });
            };
            let length = range.end.checked_sub(range.start).filter(|_| range.end <= *size);
            let Some(length) = length.and_then(|length| usize::try_from(length).ok()) else {
                return Err(SourceError::Range { file: self.describe(file), range, size: *size });
            };
            let mut bytes = vec![0; length];
            let mut read = || {
                let mut opened = opened;
                opened.seek(SeekFrom::Start(range.start))?;
                opened.read_exact(&mut bytes)
            };
            read().map_err(|e| self.io(file, &e))?;
            Ok(bytes)
        }

        fn io(&self, file: &str, error: &std::io::Error) -> SourceError {
            SourceError::Io { file: self.describe(file), message: error.to_string() }
        }
    }

    /// Most names of files in folders within that are listed.
    const MOST_WITHIN: usize = 1000;

    /// Adds the names of the files in the folders of a folder, so many of them deep; what cannot be read is left out.
    fn within(folder: &Path, prefix: &str, depth: usize, names: &mut Vec<String>) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST_WITHIN);
        for entry in entries {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if names.len() > MOST_WITHIN || name.starts_with('.') {
                continue;
            }
            if entry.path().is_dir() && depth > 0 {
                within(&entry.path(), &format!("{prefix}{name}/"), depth - 1, names);
            } else if !prefix.is_empty() {
                names.push(format!("{prefix}{name}"));
            }
        }
    }

    impl Source for Folder {
        fn describe(&self, file: &str) -> String {
            let path = if file.is_empty() { self.path.clone() } else { self.path.join(file) };
            path.display().to_string()
        }

        fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
            Box::pin(ready(self.file(file).map(|opened| opened.map(|(_, size)| *size))))
        }

        fn list(&self) -> Vec<String> {
            let mut names = self.files.keys().cloned().collect();
            within(&self.path, "", 2, &mut names);
            names.sort();
            names
        }

        fn gguf(&self) -> Option<&str> {
            self.gguf.as_deref()
        }

        fn read<'a>(
            &'a self,
            file: &'a str,
            range: Range<u64>,
        ) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
            Box::pin(ready(self.bytes(file, range).map(Cow::Owned)))
        }
    }
}
