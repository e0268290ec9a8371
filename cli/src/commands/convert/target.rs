//! The folder that a conversion fills.
//!
//! It holds finished files and the record of the conversion. A file's hash is in the record before the file has its
//! name, and `config.json` comes last, so that a folder that was cut is no model, and finished files can be told from
//! those that only look finished. One conversion at a time works in a folder. Nothing is removed or replaced that the
//! record does not list.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures::future::{LocalBoxFuture, ready};
use indicatif::ProgressBar;
use selvedge::checkpoint::{FileSink, SinkError};
use sha2::{Digest, Sha256};

use super::record::{LARGEST, RECORD, Record, Written, hexadecimal};
use crate::commands::fetch::say;
use crate::error::CommandError;
use crate::part_file::{PartFile, folder, is_model_file, is_part, is_same, kind};

/// Held as long as a conversion is at work, removed when it is finished. The system frees it when the program ends.
const LOCK: &str = ".selvedge-convert.lock";
/// Beginning of the names of files that are being written.
const PART: &str = ".selvedge-convert-";
const CONFIG: &str = "config.json";
/// Bytes that are hashed at once.
const BLOCK: usize = 1 << 18;

/// A folder that fills with finished files.
pub(super) struct TargetFolder {
    path: PathBuf,
    record: Record,
    /// Holds the lock.
    _lock: File,
    bar: ProgressBar,
    /// The file being written.
    current: Option<Current>,
    /// Names of files that belong to this conversion's result.
    wanted: BTreeSet<String>,
    /// Finished files.
    pub(super) files: usize,
    /// Their bytes.
    pub(super) bytes: u64,
}

struct Current {
    name: String,
    file: PartFile,
    size: u64,
    hash: Sha256,
}

impl TargetFolder {
    /// A new folder, or one that a conversion of the same source with the same options was cut in. `restart` removes
    /// what another conversion left.
    pub(super) fn open(
        path: &Path,
        source: &Path,
        record: Record,
        restart: bool,
        bar: ProgressBar,
    ) -> Result<Self, CommandError> {
        check_apart(path, source)?;
        // Before anything is put into a folder that is not ours.
        check_conversion(path)?;
        fs::create_dir_all(path).map_err(CommandError::file(path))?;
        check_apart(path, source)?;
        let lock = lock(path)?;
        check_conversion(path)?;
        let earlier = read_record(path)?;
        let mut this = Self {
            path: path.to_owned(),
            record,
            _lock: lock,
            bar,
            current: None,
            wanted: BTreeSet::new(),
            files: 0,
            bytes: 0,
        };
        for name in names(path)?.iter().filter(|name| is_part(name, PART)) {
            this.remove(name).map_err(CommandError::file(path))?;
        }
        if let Some(earlier) = earlier {
            this.take_over(earlier, restart)?;
        }
        this.save().map_err(CommandError::file(&path.join(RECORD)))?;
        Ok(this)
    }

    /// Goes on with the files of an earlier conversion, or removes them.
    fn take_over(&mut self, earlier: Record, restart: bool) -> Result<(), CommandError> {
        let place = self.path.display();
        let differences = self.record.differences(&earlier);
        let finished = self.path.join(CONFIG).exists();
        if !restart && finished {
            let other = if differences.is_empty() { String::new() } else { format!(" ({})", differences.join("; ")) };
            return Err(CommandError::Misuse(format!(
                "{place} holds a model already, made by an earlier conversion{other}; name another folder, or let \
                 --restart make this one anew"
            )));
        }
        if !restart && !differences.is_empty() {
            return Err(CommandError::Misuse(format!(
                "{place} holds an unfinished conversion of another kind: {}; go on with that source and those options, \
                 name another folder, or let --restart start over",
                differences.join("; ")
            )));
        }
        self.record.files = earlier.files;
        let fault = CommandError::file(&self.path);
        self.check_foreign().map_err(&fault)?;
        if restart {
            // The config first: what is cut from here on is no model.
            self.remove(CONFIG).map_err(&fault)?;
            for name in self.record.files.keys().filter(|name| *name != CONFIG) {
                self.remove(name).map_err(&fault)?;
            }
            self.record.files.clear();
        }
        Ok(())
    }

    /// Removes a file of the conversion's, if it is there.
    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.path.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if !found.is_file() => Err(foreign(name, kind(&found))),
            Ok(_) => fs::remove_file(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Refuses files that would be read as parts of the model, but are not of this conversion.
    fn check_foreign(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let found = entry.metadata()?;
            if is_model_file(&name) && !(found.is_file() && self.record.files.contains_key(&name)) {
                return Err(foreign(&name, if found.is_file() { "a file" } else { kind(&found) }));
            }
        }
        Ok(())
    }

    fn save(&self) -> io::Result<()> {
        let mut file = PartFile::with_prefix(&self.path.join(RECORD), PART)?;
        file.write_all(&self.record.to_json()?)?;
        file.finish()
    }

    /// Ends the conversion: the folder is a model.
    pub(super) fn close(self) -> Result<(), CommandError> {
        self.remove(LOCK).map_err(CommandError::file(&self.path.join(LOCK)))
    }

    /// True for a file that is the finished one, to the bit.
    fn is_finished(&mut self, name: &str, size: u64, head: &[u8]) -> io::Result<bool> {
        let Some(Some(written)) = self.record.files.get(name) else { return Ok(false) };
        let path = self.path.join(name);
        let intact = match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() == size && written.size == size => {
                let (hash, begins) = hash(&path, head)?;
                begins && hash == written.sha256
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => false,
        };
        if intact {
            self.wanted.insert(name.into());
            (self.files, self.bytes) = (self.files + 1, self.bytes + size);
        } else {
            say(
                &self.bar,
                &format!("{name} is not as this conversion wrote it (by size and SHA-256): making it again"),
            );
        }
        Ok(intact)
    }

    fn begin_file(&mut self, name: &str) -> io::Result<()> {
        self.wanted.insert(name.into());
        if name == CONFIG {
            // From here on the folder is a model: of these files and no others.
            let old: Vec<String> =
                self.record.files.keys().filter(|name| !self.wanted.contains(*name)).cloned().collect();
            for name in old {
                self.remove(&name)?;
                self.record.files.remove(&name);
            }
            self.check_foreign()?;
        }
        if !self.record.files.contains_key(name)
            && let Ok(found) = fs::symlink_metadata(self.path.join(name))
        {
            return Err(foreign(name, if found.is_file() { "a file" } else { kind(&found) }));
        }
        self.record.files.insert(name.into(), None);
        self.save()?;
        let file = PartFile::with_prefix(&self.path.join(name), PART)?;
        self.current = Some(Current { name: name.into(), file, size: 0, hash: Sha256::new() });
        Ok(())
    }

    fn append_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = self.current.as_mut().ok_or_else(|| io::Error::other("no file was begun"))?;
        current.file.write_all(bytes)?;
        current.hash.update(bytes);
        current.size += bytes.len() as u64;
        Ok(())
    }

    fn finish_file(&mut self) -> io::Result<()> {
        let current = self.current.take().ok_or_else(|| io::Error::other("no file was begun"))?;
        let Current { name, file, size, hash } = current;
        self.record.files.insert(name, Some(Written { size, sha256: hexadecimal(hash) }));
        self.save()?;
        file.finish()?;
        (self.files, self.bytes) = (self.files + 1, self.bytes + size);
        Ok(())
    }
}

impl FileSink for TargetFolder {
    fn has<'a>(&'a mut self, name: &'a str, size: u64, head: &'a [u8]) -> LocalBoxFuture<'a, Result<bool, SinkError>> {
        Box::pin(ready(self.is_finished(name, size, head).map_err(Into::into)))
    }

    fn begin<'a>(&'a mut self, name: &'a str, _: u64) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        Box::pin(ready(self.begin_file(name).map_err(Into::into)))
    }

    fn append<'a>(&'a mut self, bytes: &'a [u8]) -> LocalBoxFuture<'a, Result<(), SinkError>> {
        Box::pin(ready(self.append_bytes(bytes).map_err(Into::into)))
    }

    fn finish(&mut self) -> LocalBoxFuture<'_, Result<(), SinkError>> {
        Box::pin(ready(self.finish_file().map_err(Into::into)))
    }
}

/// The SHA-256 of a file, and whether it begins with some bytes.
fn hash(path: &Path, head: &[u8]) -> io::Result<(String, bool)> {
    let mut file = File::open(path)?;
    let (mut hash, mut block, mut at, mut begins) = (Sha256::new(), vec![0; BLOCK], 0, true);
    loop {
        let count = match file.read(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if count == 0 {
            return Ok((hexadecimal(hash), begins && at >= head.len()));
        }
        let rest = &head[at.min(head.len())..];
        let common = rest.len().min(count);
        begins &= rest[..common] == block[..common];
        hash.update(&block[..count]);
        at += count;
    }
}

fn foreign(name: &str, kind: &str) -> io::Error {
    io::Error::other(format!(
        "it holds {name}, {kind} that this conversion did not make and a model's folder would be read with; remove it, or \
         name another folder"
    ))
}

/// Refuses a target that is the source or lies in it; or is the folder of a source that is a file, which may well lie beside
/// the target.
fn check_apart(path: &Path, source: &Path) -> Result<(), CommandError> {
    let is_file = source.is_file();
    let source = if is_file { folder(source) } else { source };
    let source = source.canonicalize().map_err(CommandError::file(source))?;
    let absolute = std::path::absolute(path).map_err(CommandError::file(path))?;
    // As much of the path as is there; the rest is names of new folders.
    let real = absolute.ancestors().find_map(|there| there.canonicalize().ok());
    match real {
        Some(real) if real == source && absolute.exists() => {
            Err(CommandError::Misuse("OUT is the model's own folder; name another".into()))
        }
        Some(real) if !is_file && real.starts_with(&source) => {
            Err(CommandError::Misuse("OUT lies in the model's folder; name one outside of it".into()))
        }
        _ => Ok(()),
    }
}

/// Refuses a folder that holds something, but no conversion's record.
fn check_conversion(path: &Path) -> Result<(), CommandError> {
    if fs::symlink_metadata(path).is_err() {
        return Ok(());
    }
    let names = names(path)?;
    if names.iter().all(|name| name == LOCK || is_part(name, PART)) || names.iter().any(|name| name == RECORD) {
        return Ok(());
    }
    let place = path.display();
    Err(CommandError::Misuse(if names.iter().any(|name| name == CONFIG) {
        format!("{place} holds a model already; remove it first, or name another folder")
    } else {
        let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        let first = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
        format!("{place} is not empty and no conversion is recorded in it: it holds {first}{more}; name another folder")
    }))
}

/// The names in a folder, sorted.
fn names(path: &Path) -> Result<Vec<String>, CommandError> {
    let fault = CommandError::file(path);
    let mut names = vec![];
    for entry in fs::read_dir(path).map_err(&fault)? {
        names.push(entry.map_err(&fault)?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// The record of an earlier conversion, if there was one.
fn read_record(path: &Path) -> Result<Option<Record>, CommandError> {
    let path = path.join(RECORD);
    let damaged = |what: String| {
        CommandError::Misuse(format!(
            "{} is no conversion's record: {what}; remove the folder, or name another",
            path.display()
        ))
    };
    let found = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(CommandError::file(&path))?,
    };
    if !found.is_file() || found.len() > LARGEST {
        return Err(damaged(if found.is_file() {
            "it is too large".into()
        } else {
            format!("it is {}", kind(&found))
        }));
    }
    let record = Record::parse(&fs::read(&path).map_err(CommandError::file(&path))?).map_err(damaged)?;
    // What it lists may be removed.
    match record.files.keys().find(|name| !is_model_file(name)) {
        Some(name) => Err(damaged(format!("it lists `{name}`, which no conversion writes"))),
        None => Ok(Some(record)),
    }
}

/// Keeps other conversions from a folder as long as the result lives.
fn lock(folder: &Path) -> Result<File, CommandError> {
    let path = folder.join(LOCK);
    let fault = CommandError::file(&path);
    loop {
        // Never through a link: a new file, or the regular one that is there.
        let file = match File::options().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found = fs::symlink_metadata(&path).map_err(&fault)?;
                if !found.is_file() {
                    return Err(fault(io::Error::other(format!("is {}; remove it", kind(&found)))));
                }
                File::options().write(true).open(&path)
            }
            other => other,
        };
        let file = match file {
            // Another conversion has just finished.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(&fault)?,
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(CommandError::Misuse(format!(
                    "another conversion is at work in {}; wait for it, or name another folder",
                    folder.display()
                )));
            }
            // A file system without locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
            Ok(()) => {}
        }
        // Whoever held the lock may have removed it on leaving: then it keeps nobody away.
        let held = file.metadata().map_err(&fault)?;
        if fs::symlink_metadata(&path).is_ok_and(|found| is_same(&path, &found, &path, &held)) {
            return Ok(file);
        }
    }
}
