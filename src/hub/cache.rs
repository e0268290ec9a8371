//! The cache on disk, in the layout of Python's `huggingface_hub`:
//!
//! ```text
//! models--owner--name/refs/main                    the commit that `main` was when it was last asked
//! models--owner--name/blobs/HASH                   a file's bytes, under its entity tag
//! models--owner--name/blobs/HASH.incomplete        as much of it as has come
//! models--owner--name/snapshots/COMMIT/NAME        a link to its blob
//! models--owner--name/.no_exist/COMMIT/NAME        a file that the model does not have
//! models--owner--name/.selvedge/verified/HASH      what a blob was like when it was last held to its hash (ours)
//! models--owner--name/.selvedge/gguf/COMMIT/TAG    the GGUF file that the tag stood for among all of the hub's (ours)
//! .locks/models--owner--name/HASH.lock             held while that blob is fetched
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;

use super::files::{
    in_place, is_folder, length, make_folder, names, open_to_append, read_small, resolved, size_of, write_new,
};
use super::limits::{DEEPEST, LARGEST_TEXT, LONGEST_NAME, MOST_SHARDS};
use super::redact::printable;
use super::{HubError, MAIN, ModelName, gguf, is_commit, is_path};
use crate::checkpoint::gguf::{files_of, is_gguf};

pub(super) const CONFIG: &str = "config.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const SINGLE: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// Most bytes of the note of a GGUF file's path.
const LONGEST_NOTE: u64 = 1024;

/// Files of a model that are needed. A GGUF model is one thing: config, weights and tokenizer are in the same files.
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
    /// True if a model is all there: config and weights, or a GGUF model.
    pub complete: bool,
    /// GGUF models that are all there, by their tags.
    pub gguf: Vec<String>,
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

    /// The folder of a model's files at a revision, or the first file of a GGUF model, if what is needed of it is all
    /// there.
    pub fn find(&self, model: &ModelName, need: Need) -> Option<PathBuf> {
        let repo = self.repo(model.repo());
        let commit = repo.commit(model.revision())?;
        if model.tag().is_none() && repo.has(&commit, need) {
            return Some(repo.snapshot(&commit));
        }
        repo.gguf(&commit, model.tag()).map(|file| repo.snapshot(&commit).join(file))
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
        // A link to a folder elsewhere is removed as a link.
        if fs::symlink_metadata(&folder).is_ok_and(|folder| folder.is_symlink()) {
            return Ok(0);
        }
        if !is_folder(&folder) {
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
        if !is_folder(&self.root.join(".locks")) {
            return Ok(());
        }
        match fs::remove_dir_all(&repo.locks) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(HubError::io(&repo.locks)(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn repo(&self, repo: &str) -> Repo {
        let name = format!("models--{}", repo.replace('/', "--"));
        let locks = self.root.join(".locks").join(&name);
        Repo { root: self.root.clone(), locks, folder: self.root.join(name) }
    }
}

/// One model's part of the cache.
pub(super) struct Repo {
    /// The whole cache's folder.
    root: PathBuf,
    folder: PathBuf,
    locks: PathBuf,
}

/// Place of the bytes of a snapshot's file.
pub(super) enum Place {
    /// In a blob, whose name is the file's entity tag.
    Blob { path: PathBuf, etag: String },
    /// In the snapshot itself, where there are no symbolic links.
    Snapshot(PathBuf),
}

impl Repo {
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Place of a snapshot's file: in this model's part of the cache and nowhere else, wherever links lead.
    pub(super) fn place(&self, commit: &str, file: &str) -> Option<Place> {
        let (within, path) = resolved(&self.snapshot(commit).join(file))?;
        let folder = fs::canonicalize(&self.folder).ok()?;
        if within == folder.join("blobs") {
            let etag = path.file_name()?.to_str()?.to_owned();
            return Some(Place::Blob { path, etag });
        }
        let beside = Path::new(file).parent().unwrap_or(Path::new(""));
        (within == folder.join("snapshots").join(commit).join(beside)).then_some(Place::Snapshot(path))
    }

    /// The bytes of a snapshot's file that is read as text.
    pub(super) fn read(&self, commit: &str, file: &str) -> Result<Vec<u8>, HubError> {
        match self.place(commit, file) {
            Some(Place::Blob { path, .. } | Place::Snapshot(path)) => read_small(&path, LARGEST_TEXT),
            None => {
                let path = self.snapshot(commit).join(file);
                Err(HubError::io(&path)(io::Error::from(io::ErrorKind::NotFound)))
            }
        }
    }

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
        // As Python's library writes it; a longer file is something else.
        let commit = read_small(&self.folder.join("refs").join(revision), 256).ok()?;
        let commit = String::from_utf8(commit).ok()?;
        Some(commit.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers what a branch or a tag is.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let file = self.folder.join("refs").join(revision);
        in_place(&self.root, &file, |part| write_new(part, commit))
    }

    /// Remembers that the model has no such file.
    pub(super) fn set_absent(&self, commit: &str, file: &str) -> Result<(), HubError> {
        in_place(&self.root, &self.absent(commit, file), |part| write_new(part, ""))
    }

    fn absent(&self, commit: &str, file: &str) -> PathBuf {
        self.folder.join(".no_exist").join(commit).join(file)
    }

    fn has(&self, commit: &str, need: Need) -> bool {
        let there = |file: &str| self.place(commit, file).is_some();
        let weights = || {
            there(SINGLE)
                || self
                    .read(commit, INDEX)
                    .is_ok_and(|index| shards(&index).is_ok_and(|shards| shards.iter().all(|shard| there(shard))))
        };
        let tokenizer = || there(TOKENIZER) || length(&self.absent(commit, TOKENIZER)).is_some();
        there(CONFIG) && (need < Need::Weights || weights()) && (need < Need::All || tokenizer())
    }

    /// The first file of the GGUF model that a tag stands for, if all its files are there: the one that it stood for among
    /// all files of the hub, or the only one here whose whole tag it is.
    fn gguf(&self, commit: &str, tag: Option<&str>) -> Option<String> {
        let noted = read_small(&self.note_of_gguf(commit, tag), LONGEST_NOTE).ok();
        let noted = noted.and_then(|note| String::from_utf8(note).ok()).filter(|path| is_path(path) && is_gguf(path));
        let file = noted.or_else(|| {
            let models = self.complete_ggufs(commit).ok()?;
            let tag = tag?;
            let mut found = gguf::matching(&models, tag);
            found.retain(|model| is_gguf(tag) || gguf::tag(model).eq_ignore_ascii_case(tag));
            if let [model] = found[..] { Some(model.clone()) } else { None }
        })?;
        self.has_all(commit, &file).then_some(file)
    }

    /// Remembers which of the hub's GGUF models a tag stands for, or which is the only one.
    pub(super) fn set_gguf(&self, commit: &str, tag: Option<&str>, file: &str) -> Result<(), HubError> {
        if tag.is_some_and(is_gguf) {
            return Ok(());
        }
        in_place(&self.root, &self.note_of_gguf(commit, tag), |part| write_new(part, file))
    }

    fn note_of_gguf(&self, commit: &str, tag: Option<&str>) -> PathBuf {
        let name = tag.map_or_else(|| "only".into(), |tag| format!("tag.{}", tag.to_ascii_lowercase()));
        self.folder.join(".selvedge/gguf").join(commit).join(name)
    }

    fn has_all(&self, commit: &str, file: &str) -> bool {
        files_of(file).iter().all(|file| self.place(commit, file).is_some())
    }

    /// First files of the GGUF models of which all files are there.
    fn complete_ggufs(&self, commit: &str) -> Result<Vec<String>, HubError> {
        let mut models = gguf::models(&self.files(commit)?);
        models.retain(|model| self.has_all(commit, model));
        Ok(models)
    }

    /// Paths of a snapshot's files, those in its folders included.
    fn files(&self, commit: &str) -> Result<Vec<String>, HubError> {
        let snapshot = self.snapshot(commit);
        let (mut files, mut folders) = (vec![], vec![String::new()]);
        while let Some(prefix) = folders.pop() {
            for name in names(&snapshot.join(&prefix))? {
                let path = format!("{prefix}{name}");
                if is_folder(&snapshot.join(&path)) {
                    folders.extend((prefix.matches('/').count() + 1 < DEEPEST).then(|| format!("{path}/")));
                } else {
                    files.push(path);
                }
            }
        }
        files.sort();
        Ok(files)
    }

    /// Makes the folder of a commit's files, by which `list` knows of a model that is being fetched.
    pub(super) fn begin(&self, commit: &str) -> Result<(), HubError> {
        make_folder(&self.root, &self.snapshot(commit))
    }

    /// Puts a blob in its place in a snapshot.
    pub(super) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<(), HubError> {
        let blob = self.blob(etag);
        in_place(&self.root, &self.snapshot(commit).join(file), |part| link_file(&blob, etag, part, file))
    }

    /// Waits until no other process fetches this blob, and locks it as long as the result lives. Files
    /// are locked as Python's library does, so its downloads are waited for too.
    pub(super) fn lock(&self, etag: &str, mut waiting: impl FnMut()) -> Result<File, HubError> {
        make_folder(&self.root, &self.locks)?;
        let path = self.locks.join(format!("{etag}.lock"));
        let io = HubError::io(&path);
        let file = open_to_append(&path)?;
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
                    None if is_folder(&self.folder.join("refs").join(&name)) => folders.push(name),
                    None => {}
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
        let (mut bytes, mut last_used) = (0_u64, None);
        for file in self.files(&commit)? {
            let Some(Place::Blob { path, .. } | Place::Snapshot(path)) = self.place(&commit, &file) else { continue };
            let Ok(metadata) = fs::metadata(path) else { continue };
            bytes = metadata.len().saturating_add(bytes);
            // Some file systems do not note when files are read.
            last_used = last_used.max(metadata.accessed().ok()).max(metadata.modified().ok());
        }
        let gguf = gguf::tags(&self.complete_ggufs(&commit)?);
        Ok(Cached {
            repo: repo.into(),
            refs: refs.get(&commit).cloned().unwrap_or_default(),
            bytes,
            last_used,
            complete: self.has(&commit, Need::Weights) || !gguf.is_empty(),
            gguf,
            path,
            commit,
        })
    }
}

/// The files that an index names, if they are safetensors files beside it: an index must not reach other
/// folders.
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
        if !plain || !shard.ends_with(".safetensors") || shard.len() > LONGEST_NAME {
            let shard = printable(shard);
            return Err(format!("{INDEX} names the shard `{shard}`, which is not a safetensors file beside it"));
        }
    }
    if shards.len() > MOST_SHARDS {
        return Err(format!("{INDEX} names {} shards, and no model has more than {MOST_SHARDS}", shards.len()));
    }
    match shards.is_empty() {
        true => Err(format!("{INDEX} names no shards")),
        false => Ok(shards),
    }
}

/// From a snapshot to its blob. A symbolic link, which may be moved with the folder.
#[cfg(unix)]
fn link_file(_blob: &Path, etag: &str, link: &Path, file: &str) -> io::Result<()> {
    let up = "../".repeat(2 + file.matches('/').count());
    std::os::unix::fs::symlink(Path::new(&up).join("blobs").join(etag), link)
}

/// Elsewhere symbolic links ask for privileges; a second name for the same file does not.
#[cfg(not(unix))]
fn link_file(blob: &Path, _etag: &str, link: &Path, _file: &str) -> io::Result<()> {
    fs::hard_link(blob, link)
}
