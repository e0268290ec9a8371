//! The cache on disk, in the layout of Python's `huggingface_hub`:
//!
//! ```text
//! models--owner--name/refs/main                    the commit that `main` was when it was last asked
//! models--owner--name/blobs/HASH                   a file's bytes, under its entity tag
//! models--owner--name/blobs/HASH.incomplete        as much of it as has come
//! models--owner--name/snapshots/COMMIT/NAME        a link to its blob
//! models--owner--name/.no_exist/COMMIT/NAME        a file that the model does not have
//! .locks/models--owner--name/HASH.lock             held while that blob is fetched
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use serde::Deserialize;

use super::{HubError, MAIN, ModelName, is_commit};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// What of a model is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// `config.json`.
    Config,
    /// The weights too.
    Weights,
    /// Also the tokenizer, unless the model is known to have none.
    All,
}

/// The folder of the hub's cache.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A model in the cache, at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cached {
    /// `owner/name`.
    pub repo: String,
    /// The commit.
    pub commit: String,
    /// Branches and tags that were this commit when they were last asked.
    pub refs: Vec<String>,
    /// Bytes of its files, as far as they have come.
    pub bytes: u64,
    /// When a file of it was last read or written, where the file system tells.
    pub last_used: Option<SystemTime>,
    /// Whether config and weights are all there.
    pub complete: bool,
    /// The folder with its files.
    pub path: PathBuf,
}

impl Cache {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a model's files at a revision, if what is needed of it is all there.
    pub fn find(&self, model: &ModelName, need: Need) -> Option<PathBuf> {
        let repo = self.repo(model.repo());
        let commit = repo.commit(model.revision())?;
        repo.has(&commit, need).then(|| repo.snapshot(&commit))
    }

    /// Every model, at every commit of which something is there, by name.
    pub fn list(&self) -> Result<Vec<Cached>, HubError> {
        let mut list = vec![];
        for folder in names(&self.root)? {
            let Some(name) = folder.strip_prefix("models--") else { continue };
            // Whatever else lies about is not ours to judge.
            let Ok(model) = name.replacen("--", "/", 1).parse::<ModelName>() else { continue };
            let repo = self.repo(model.repo());
            let refs = repo.refs()?;
            for commit in names(&repo.folder.join("snapshots"))?.into_iter().filter(|name| is_commit(name)) {
                list.push(repo.cached(model.repo(), commit, &refs)?);
            }
        }
        Ok(list)
    }

    /// Bytes that a model takes on the disk, with what has come of unfinished downloads; an error when
    /// nothing of it is there.
    pub fn size(&self, repo: &str) -> Result<u64, HubError> {
        let folder = self.repo(repo).folder;
        if !folder.is_dir() {
            return Err(HubError::NotCached { repo: repo.into(), cache: self.root.clone() });
        }
        size_of(&folder)
    }

    /// Removes a model, all its revisions. A program that has its weights mapped keeps them, where the system
    /// allows that.
    pub fn remove(&self, repo: &str) -> Result<(), HubError> {
        self.size(repo)?;
        let repo = self.repo(repo);
        // First out of sight, so that a removal that is cut short leaves no half of a model.
        let mut doomed = repo.folder.clone().into_os_string();
        doomed.push(format!(".removed-{}", std::process::id()));
        let doomed = PathBuf::from(doomed);
        fs::rename(&repo.folder, &doomed).map_err(HubError::io(&repo.folder))?;
        fs::remove_dir_all(&doomed).map_err(HubError::io(&doomed))?;
        match fs::remove_dir_all(&repo.locks) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::io(&repo.locks)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn repo(&self, repo: &str) -> Repo {
        let name = format!("models--{}", repo.replace('/', "--"));
        Repo { locks: self.root.join(".locks").join(&name), folder: self.root.join(name) }
    }
}

/// One model's part of the cache.
pub(super) struct Repo {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repo {
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The commit of a revision, as far as this machine knows.
    fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let commit = fs::read_to_string(self.folder.join("refs").join(revision)).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers what a branch or a tag is.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let file = self.folder.join("refs").join(revision);
        in_place(&file, |part| fs::write(part, commit))
    }

    /// Remembers that the model has no such file.
    pub(super) fn set_absent(&self, commit: &str, file: &str) -> Result<(), HubError> {
        in_place(&self.absent(commit, file), |part| fs::write(part, ""))
    }

    fn absent(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file)
    }

    fn has(&self, commit: &str, need: Need) -> bool {
        let folder = self.snapshot(commit);
        // Through links: one without a blob leads nowhere.
        let there = |file: &str| folder.join(file).is_file();
        let weights = || {
            there(SINGLE)
                || fs::read(folder.join(INDEX))
                    .is_ok_and(|index| shards(&index).is_ok_and(|shards| shards.iter().all(|shard| there(shard))))
        };
        let tokenizer = || there(TOKENIZER) || self.absent(commit, TOKENIZER).exists();
        there(CONFIG) && (need < Need::Weights || weights()) && (need < Need::All || tokenizer())
    }

    /// Puts a blob in its place in a snapshot.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let blob = self.blob(etag);
        in_place(&self.snapshot(commit).join(file), |part| link_file(&blob, etag, part))
    }

    /// Waits until nobody else fetches this blob, and keeps others from it as long as the result lives. Files
    /// are locked as Python's library does, so its downloads are waited for too.
    pub(super) fn lock(&self, etag: &str, mut waiting: impl FnMut()) -> Result<File, HubError> {
        fs::create_dir_all(&self.locks).map_err(HubError::io(&self.locks))?;
        let path = self.locks.join(format!("{etag}.lock"));
        let io = HubError::io(&path);
        let file = File::options().create(true).append(true).open(&path).map_err(&io)?;
        let locked = match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                waiting();
                file.lock()
            }
            Err(TryLockError::Error(error)) => Err(error),
            Ok(()) => Ok(()),
        };
        match locked {
            // A file system without locks. Should two meet there, the hash tells.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
            other => other.map(|()| file).map_err(io),
        }
    }

    fn refs(&self) -> Result<BTreeMap<String, Vec<String>>, HubError> {
        let mut refs: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut folders = vec![String::new()];
        while let Some(prefix) = folders.pop() {
            for name in names(&self.folder.join("refs").join(&prefix))? {
                let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
                match self.commit(&name) {
                    Some(commit) => refs.entry(commit).or_default().push(name),
                    None => folders.push(name),
                }
            }
        }
        for names in refs.values_mut() {
            // The main branch first.
            names.sort_by_key(|name| (name != MAIN, name.clone()));
        }
        Ok(refs)
    }

    fn cached(&self, repo: &str, commit: String, refs: &BTreeMap<String, Vec<String>>) -> Result<Cached, HubError> {
        let path = self.snapshot(&commit);
        let (mut bytes, mut last_used) = (0, None);
        for file in names(&path)? {
            let Ok(metadata) = fs::metadata(path.join(file)) else { continue };
            if metadata.is_file() {
                bytes += metadata.len();
                // Some file systems do not note when files are read.
                last_used = last_used.max(metadata.accessed().ok()).max(metadata.modified().ok());
            }
        }
        Ok(Cached {
            repo: repo.into(),
            refs: refs.get(&commit).cloned().unwrap_or_default(),
            bytes,
            last_used,
            complete: self.has(&commit, Need::Weights),
            path,
            commit,
        })
    }
}

/// The files that an index names, if they are safetensors files beside it: whoever wrote the index must not
/// reach further.
pub(super) fn shards(index: &[u8]) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }

    let index: Index = serde_json::from_slice(index).map_err(|e| format!("{INDEX} is not an index: {e}"))?;
    let mut shards: Vec<String> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    for shard in &shards {
        let plain = shard.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && !shard.starts_with('.');
        if !plain || !shard.ends_with(".safetensors") {
            return Err(format!("{INDEX} names the shard `{shard}`, which is not a safetensors file beside it"));
        }
    }
    match shards.is_empty() {
        true => Err(format!("{INDEX} names no shards")),
        false => Ok(shards),
    }
}

/// Makes a file under another name and moves it to its own, which it so has whole or not at all.
fn in_place(file: &Path, make: impl Fn(&Path) -> io::Result<()>) -> Result<(), HubError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let part = file.with_added_extension(format!("part-{}-{count}", std::process::id()));
    let make = || {
        fs::create_dir_all(file.parent().unwrap_or(Path::new("")))?;
        make(&part)?;
        fs::rename(&part, file)
    };
    make().map_err(|error| {
        let _ = fs::remove_file(&part);
        HubError::io(file)(error)
    })
}

/// From a snapshot to its blob. A symbolic link, which may be moved with the folder.
#[cfg(unix)]
fn link_file(_blob: &Path, etag: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(Path::new("../../blobs").join(etag), link)
}

/// Elsewhere symbolic links ask for privileges; a second name for the same file does not.
#[cfg(not(unix))]
fn link_file(blob: &Path, _etag: &str, link: &Path) -> io::Result<()> {
    fs::hard_link(blob, link)
}

/// What lies in a folder, in order; nothing, if there is no such folder.
fn names(folder: &Path) -> Result<Vec<String>, HubError> {
    let io = HubError::io(folder);
    let entries = match fs::read_dir(folder) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
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
fn size_of(folder: &Path) -> Result<u64, HubError> {
    let mut bytes = 0;
    for name in names(folder)? {
        let path = folder.join(name);
        let metadata = fs::symlink_metadata(&path).map_err(HubError::io(&path))?;
        bytes += if metadata.is_dir() {
            size_of(&path)?
        } else if metadata.is_file() {
            metadata.len()
        } else {
            0
        };
    }
    Ok(bytes)
}
