//! Files that have been held to their hashes. To hash some gigabytes takes seconds, so it is remembered: in
//! `models--owner--name/.selvedge/verified/HASH` stands what the file was like when its bytes were read.

use std::fs::Metadata;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::cache::Repo;
use super::digest::Digest;
use super::files::{in_place, length, open_to_read, read_small, write_new};
use super::{FetchEvent, HubError};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 20;
/// Bytes from which on the caller is notified that a file is being read.
const LONG: u64 = 1 << 28;
/// Longest note of what a file was like, in bytes.
const LONGEST_NOTE: u64 = 256;

impl Repo {
    /// True if a file's bytes have the hash that its entity tag tells. The file is read for that the first time, and
    /// whenever it has changed. A tag that is not a hash holds for any bytes.
    pub(super) fn is_sound(
        &self,
        file: &Path,
        etag: &str,
        events: &mut dyn FnMut(FetchEvent),
    ) -> Result<bool, HubError> {
        let Some(size) = length(file) else { return Ok(false) };
        let mut digest = Digest::of(etag, size);
        if matches!(digest, Digest::Unknown) {
            return Ok(true);
        }
        let mut open = open_to_read(file)?;
        let io = HubError::io(file);
        let before = note(&open.metadata().map_err(&io)?);
        if self.noted(etag).is_some_and(|noted| noted == before) {
            return Ok(true);
        }
        if size >= LONG {
            events(FetchEvent::Notice(&format!("checking {} bytes that another program left: {etag}", size)));
        }
        let mut block = vec![0; BLOCK];
        loop {
            match open.read(&mut block) {
                Ok(0) => break,
                Ok(count) => digest.update(&block[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
        }
        let sound = digest.matches(etag);
        let after = open.metadata().map_err(&io)?;
        if sound && note(&after) == before {
            self.note_sound(etag, &after);
        }
        Ok(sound)
    }

    /// Remembers that a file has the bytes that its entity tag tells.
    pub(super) fn note_sound(&self, etag: &str, metadata: &Metadata) {
        let note = note(metadata);
        // A cache that cannot be written to is one whose files are read again the next time, and no more.
        let _ = in_place(self.root(), &self.note_of(etag), |part| write_new(part, &note));
    }

    /// The note that this user left when the file was last found sound.
    fn noted(&self, etag: &str) -> Option<String> {
        let path = self.note_of(etag);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let owner = std::fs::symlink_metadata(&path).ok()?.uid();
            if owner != rustix::process::geteuid().as_raw() {
                return None;
            }
        }
        String::from_utf8(read_small(&path, LONGEST_NOTE).ok()?).ok()
    }

    fn note_of(&self, etag: &str) -> PathBuf {
        self.folder().join(".selvedge/verified").join(etag)
    }
}

/// Text that changes when a file's bytes do: size, time of writing and, as that can be set at will, inode number and
/// the time of the last change of any kind.
#[cfg(unix)]
fn note(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt;
    let (written, changed) = ((metadata.mtime(), metadata.mtime_nsec()), (metadata.ctime(), metadata.ctime_nsec()));
    format!("{} {}.{:09} {} {}.{:09}", metadata.len(), written.0, written.1, metadata.ino(), changed.0, changed.1)
}

#[cfg(not(unix))]
fn note(metadata: &Metadata) -> String {
    let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    let written = metadata.modified().map(since).unwrap_or_default();
    format!("{} {written} {}", metadata.len(), metadata.created().map(since).unwrap_or_default())
}
