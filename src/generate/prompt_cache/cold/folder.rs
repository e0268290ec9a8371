//! A folder of states.
//!
//! A file is written under a temporary name, brought to the disk, and renamed, so that whoever is killed leaves a whole
//! file or a temporary one; those are removed when the folder is opened next. Two processes may share a folder: what
//! one removes, the other reads again from its text. The time of a file's last use is its time of modification.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures::future::{LocalBoxFuture, ready};

use super::store::{StateStore, StoreError, StoredState};

/// End of the names of states.
const STATE: &str = ".state";
/// End of the names of files under way.
const PART: &str = ".part";
/// Age of a file under way at which nobody writes it any more.
const ABANDONED: Duration = Duration::from_secs(60);

/// A folder of states.
#[derive(Debug)]
pub struct FolderStore {
    folder: PathBuf,
    /// Files written by this process so far: part of the names of those under way.
    written: u64,
}

impl FolderStore {
    /// Opens a folder, made if need be, and removes what was left amid writing.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let this = Self { folder: folder.to_owned(), written: 0 };
        fs::create_dir_all(folder).map_err(this.fault(""))?;
        for entry in this.entries().map_err(this.fault(""))? {
            let age = entry.1.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
            let ours = entry.0.strip_prefix('.').and_then(|name| name.get(..32 + STATE.len())).is_some_and(is_state);
            if ours && entry.0.ends_with(PART) && age.is_some_and(|age| age > ABANDONED) {
                // Another process may have been faster.
                let _ = fs::remove_file(folder.join(&entry.0));
            }
        }
        Ok(this)
    }

    /// Names and sizes of the regular files.
    fn entries(&self) -> io::Result<Vec<(String, fs::Metadata)>> {
        let mut entries = vec![];
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            // No link is followed, and what vanishes meanwhile is not there.
            let Ok(found) = entry.metadata() else { continue };
            if let (true, Ok(name)) = (found.is_file(), entry.file_name().into_string()) {
                entries.push((name, found));
            }
        }
        Ok(entries)
    }

    fn fault(&self, name: &str) -> impl Fn(io::Error) -> StoreError + use<> {
        let name = self.folder.join(name).display().to_string();
        move |error| StoreError { name: name.clone(), what: error.to_string() }
    }

    fn write_file(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.written += 1;
        let part = self.folder.join(format!(".{name}.{}-{}{PART}", std::process::id(), self.written));
        let mut file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        let mut finish = || {
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, self.folder.join(name))
        };
        let written = finish();
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written?;
        // The name too has to be on the disk. Windows opens no folders, and keeps names by itself.
        #[cfg(unix)]
        File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    fn read_file(&self, name: &str, range: Range<u64>) -> io::Result<Vec<u8>> {
        let mut file = File::open(self.folder.join(name))?;
        let length = file.metadata()?.len();
        let (start, end) = (range.start.min(length), range.end.min(length));
        let mut bytes = vec![];
        let wanted = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
        bytes.try_reserve_exact(wanted).map_err(io::Error::other)?;
        file.seek(SeekFrom::Start(start))?;
        file.take(end.saturating_sub(start)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// True for the name of a state: 32 hexadecimal digits and its end.
fn is_state(name: &str) -> bool {
    let digits = name.strip_suffix(STATE);
    digits.is_some_and(|digits| digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl StateStore for FolderStore {
    fn list(&mut self) -> LocalBoxFuture<'_, Result<Vec<StoredState>, StoreError>> {
        let list = || {
            let mut entries = self.entries()?;
            // What others have put beside them is theirs.
            entries.retain(|(name, _)| is_state(name));
            entries.sort_by_key(|(name, found)| (found.modified().ok(), name.clone()));
            Ok(entries.into_iter().map(|(name, found)| StoredState { name, bytes: found.len() }).collect())
        };
        Box::pin(ready(list().map_err(self.fault(""))))
    }

    fn read<'a>(&'a mut self, name: &'a str, range: Range<u64>) -> LocalBoxFuture<'a, Result<Vec<u8>, StoreError>> {
        Box::pin(ready(self.read_file(name, range).map_err(self.fault(name))))
    }

    fn write<'a>(&'a mut self, name: &'a str, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        Box::pin(ready(self.write_file(name, bytes).map_err(self.fault(name))))
    }

    fn remove<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, Result<(), StoreError>> {
        let removed = match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fault(name)(error)),
            _ => Ok(()),
        };
        Box::pin(ready(removed))
    }

    fn touch<'a>(&'a mut self, name: &'a str) -> LocalBoxFuture<'a, ()> {
        // Only the order of removal depends on it.
        let _ =
            File::options().append(true).open(self.folder.join(name)).and_then(|f| f.set_modified(SystemTime::now()));
        Box::pin(ready(()))
    }
}
