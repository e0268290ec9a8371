//! The model's folder as a conversion reads it: without links that would bring a file from elsewhere into the result.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use futures::future::{LocalBoxFuture, ready};
use selvedge::checkpoint::{COMPANIONS, Folder, Source, SourceError};

use crate::part_file::{self, kind};

/// A folder without those small files (tokenizer, licence, …) that are not regular files of its own.
pub(super) struct OwnFiles {
    folder: Folder,
    left_out: Vec<&'static str>,
}

impl OwnFiles {
    /// Opens the folder; `notice` is called for every file that is left out.
    pub(super) fn open(path: &Path, mut notice: impl FnMut(&str)) -> Result<Self, SourceError> {
        let place = if path.is_file() { part_file::folder(path) } else { path };
        let folder = Folder::open(path)?;
        let mut left_out = vec![];
        for name in COMPANIONS {
            if let Some(what) = not_own(place, name) {
                notice(&format!("{}: {what} and is not copied; put the file itself there", folder.describe(name)));
                left_out.push(name);
            }
        }
        Ok(Self { folder, left_out })
    }
}

/// The reason why a file is not copied.
fn not_own(folder: &Path, name: &str) -> Option<String> {
    let path = folder.join(name);
    let found = fs::symlink_metadata(&path).ok()?;
    if found.is_file() {
        return None;
    }
    if !found.is_symlink() {
        return Some(format!("is {}", kind(&found)));
    }
    let to = fs::read_link(&path).unwrap_or_default();
    let inside = path.canonicalize().is_ok_and(|to| own_roots(folder).iter().any(|root| to.starts_with(root)));
    (!inside).then(|| format!("is a symbolic link out of the model's folder (to {})", to.display()))
}

/// The folder itself and, of a snapshot in the hub's cache, the folder of the files that it consists of.
fn own_roots(folder: &Path) -> Vec<PathBuf> {
    let Ok(real) = folder.canonicalize() else { return vec![] };
    // GGUF files may lie in a folder of the snapshot, whose name is a commit.
    let is_commit = |name: &OsStr| name.len() == 40 && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
    let snapshot = real.ancestors().find(|folder| folder.file_name().is_some_and(is_commit)).unwrap_or(&real);
    let snapshots = snapshot.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|repo| repo.join("blobs"));
    [real].into_iter().chain(blobs).collect()
}

impl Source for OwnFiles {
    fn describe(&self, file: &str) -> String {
        self.folder.describe(file)
    }

    fn size<'a>(&'a self, file: &'a str) -> LocalBoxFuture<'a, Result<Option<u64>, SourceError>> {
        if self.left_out.contains(&file) { Box::pin(ready(Ok(None))) } else { self.folder.size(file) }
    }

    fn list(&self) -> Vec<String> {
        self.folder.list()
    }

    fn gguf(&self) -> Option<&str> {
        self.folder.gguf()
    }

    fn read<'a>(&'a self, file: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Cow<'a, [u8]>, SourceError>> {
        if self.left_out.contains(&file) {
            return Box::pin(ready(Err(SourceError::Missing { file: self.describe(file) })));
        }
        self.folder.read(file, range)
    }
}
