//! Reading and writing below a folder that other people may write to, without being led out of it.
//!
//! Writes go into folders that are folders and not links to some, and into regular files with one name; reads
//! are of regular files of a bounded size. The folder's own path is its user's choice and
//! may hold links.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::HubError;

/// Makes `folder` with all that is missing between it and `root`. A link on the way is an error.
pub(super) fn make_folder(root: &Path, folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(root).map_err(HubError::io(root))?;
    let mut path = root.to_owned();
    for part in folder.strip_prefix(root).map_err(|error| HubError::io(folder)(io::Error::other(error)))? {
        path.push(part);
        match fs::create_dir(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(HubError::io(&path)(error)),
            _ => {}
        }
        if !fs::symlink_metadata(&path).map_err(HubError::io(&path))?.is_dir() {
            return Err(HubError::Planted { path, expected: "a folder" });
        }
    }
    Ok(())
}

/// Opens a file to read it and to append to it, and makes it if there is none. The folder is there.
pub(super) fn open_to_append(path: &Path) -> Result<File, HubError> {
    open(path, File::options().read(true).append(true).create(true))
}

/// Opens a file to read it.
pub(super) fn open_to_read(path: &Path) -> Result<File, HubError> {
    open(path, File::options().read(true))
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<File, HubError> {
    let planted = || HubError::Planted { path: path.to_owned(), expected: "a file" };
    // Before it is opened: devices and pipes act on that alone.
    if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
        return Err(planted());
    }
    // And again while it is opened, for whoever is quick.
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path).map_err(HubError::io(path))?;
    let metadata = file.metadata().map_err(HubError::io(path))?;
    if metadata.is_file() { Ok(file) } else { Err(planted()) }
}

/// True for a file with other names (hard links), under which its bytes would change too.
#[cfg(unix)]
pub(super) fn has_other_names(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

/// The system does not tell.
#[cfg(not(unix))]
pub(super) fn has_other_names(_metadata: &Metadata) -> bool {
    false
}

/// A regular file's bytes, of which there are at most so many.
pub(super) fn read_small(path: &Path, most: u64) -> Result<Vec<u8>, HubError> {
    let mut bytes = vec![];
    open_to_read(path)?.take(most + 1).read_to_end(&mut bytes).map_err(HubError::io(path))?;
    if bytes.len() as u64 > most {
        return Err(HubError::io(path)(io::Error::other(format!("it is larger than {most} bytes"))));
    }
    Ok(bytes)
}

/// The length of a regular file.
pub(super) fn length(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().filter(Metadata::is_file).map(|file| file.len())
}

/// Makes a file under another name and moves it to its own, which it so has whole or not at all. `make` must not
/// write to what is there already.
pub(super) fn in_place(root: &Path, file: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<(), HubError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    make_folder(root, file.parent().unwrap_or(root))?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let part = file.with_added_extension(format!("part-{}-{count}", std::process::id()));
    let make = || {
        match make(&part) {
            // Of a program that is no more and had this number, or planted.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&part)?;
                make(&part)?;
            }
            other => other?,
        }
        fs::rename(&part, file)
    };
    make().map_err(|error| {
        let _ = fs::remove_file(&part);
        HubError::io(file)(error)
    })
}

/// Writes a file that was not there.
pub(super) fn write_new(path: &Path, text: &str) -> io::Result<()> {
    io::Write::write_all(&mut File::create_new(path)?, text.as_bytes())
}

/// Names in a folder, in order; none if there is no such folder.
pub(super) fn names(folder: &Path) -> Result<Vec<String>, HubError> {
    let io = HubError::io(folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(vec![]);
        }
        other => other.map_err(&io)?,
    };
    let mut names = vec![];
    for entry in entries {
        names.extend(entry.map_err(&io)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Bytes of the files below a folder. Links are not followed, so that each file counts once.
pub(super) fn size_of(folder: &Path) -> Result<u64, HubError> {
    let (mut bytes, mut folders) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in names(&folder)?.into_iter().map(|name| folder.join(name)) {
            let metadata = fs::symlink_metadata(&path).map_err(HubError::io(&path))?;
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() {
                bytes = bytes.saturating_add(metadata.len());
            }
        }
    }
    Ok(bytes)
}

/// True for a path that is a folder and not a link to one.
pub(super) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|there| there.is_dir())
}

/// The folder and the name of the file that a path leads to in the end, if it leads to a regular file.
pub(super) fn resolved(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let path = fs::canonicalize(path).ok()?;
    length(&path)?;
    Some((path.parent()?.to_owned(), path))
}
