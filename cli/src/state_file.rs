//! Files of saved states, read and written whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::CommandError;
use crate::part_file::{PartFile, check_not_input, check_target};
use selvedge::state::{Snapshot, SnapshotSummary};

/// Most bytes of a file that is read: what a context of a million tokens takes in the largest models.
const LARGEST_FILE: u64 = 64 << 30;

/// A file that a state will be saved in.
pub(crate) struct StateFile(PathBuf);

impl StateFile {
    /// Checks the name before anything is loaded: no link, device or folder, and none of the `inputs` (files, and
    /// folders with all that lies in them).
    pub(crate) fn check(path: PathBuf, inputs: &[&Path]) -> Result<Self, CommandError> {
        let checked = check_target(&path).and_then(|_| check_not_input(&path, inputs));
        checked.map_err(CommandError::file(&path))?;
        Ok(Self(path))
    }

    /// The file's name.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a state, in place of a file of that name. The old file stays as it is until the new one is whole and on
    /// the disk. Gives the bytes written.
    pub(crate) fn write(&self, snapshot: &Snapshot) -> Result<u64, CommandError> {
        let bytes = snapshot.to_bytes().map_err(CommandError::state(&self.0))?;
        let mut part = PartFile::create(&self.0).map_err(CommandError::file(&self.0))?;
        part.write_all(&bytes).and_then(|()| part.finish()).map_err(CommandError::file(&self.0))?;
        Ok(bytes.len() as u64)
    }
}

/// Whether a file begins as a saved state does.
pub(crate) fn is_one(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(false);
    }
    let mut header = vec![];
    File::open(path)?.take(8).read_to_end(&mut header)?;
    let Ok(length) = SnapshotSummary::header_bytes(&header) else { return Ok(false) };
    header.clear();
    File::open(path)?.take(length).read_to_end(&mut header)?;
    Ok(SnapshotSummary::parse(&header).is_ok())
}

/// Reads a state.
pub(crate) fn read(path: &Path) -> Result<Snapshot, CommandError> {
    let fault = CommandError::file(path);
    let bytes = bytes(path).map_err(fault)?;
    Snapshot::from_bytes(&bytes).map_err(CommandError::state(path))
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Devices and FIFOs give bytes without end, or none.
    let found = fs::metadata(path)?;
    let refused = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if !found.is_file() {
        return refused("is no regular file, so it is no saved state".into());
    }
    if found.len() > LARGEST_FILE {
        return refused(format!("has {} bytes; saved states of up to {LARGEST_FILE} bytes are read", found.len()));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(usize::try_from(found.len()).unwrap_or(usize::MAX)).map_err(io::Error::other)?;
    File::open(path)?.take(found.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}
