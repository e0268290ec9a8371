//! Fetch of a whole model: the files that are needed, the room for them, and their way into the cache.

use std::fs;
use std::path::PathBuf;

use super::cache::{CONFIG, INDEX, Place, Repo, SINGLE, TOKENIZER, shards};
use super::client::{FileInfo, Listing};
use super::download::{download, part_of};
use super::files::length;
use super::limits::LARGEST_TEXT;
use super::redact::Shown;
use super::{Hub, HubError, ModelName, Need, gguf};
use crate::checkpoint::gguf::{files_of, is_gguf};

/// Files that are fetched beside config and weights, where the model has them.
const TEXT: [&str; 9] = [
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "1_Pooling/config.json",
    "modules.json",
];
/// File beside a GGUF file that holds what it does not.
const DEFAULTS: &str = "generation_config.json";

/// Told while a model is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchEvent<'e> {
    /// Files are about to be fetched.
    Start {
        /// Their count.
        files: usize,
        /// Bytes of all of them.
        total: u64,
        /// Bytes that came earlier.
        done: u64,
    },
    /// Bytes have come.
    Progress {
        /// The file.
        file: &'e str,
        /// Bytes of all files that are there.
        done: u64,
    },
    /// Something that the user may want to know.
    Notice(&'e str),
}

/// A model at the commit that it has now, and what is known of it.
struct Job<'h> {
    hub: &'h Hub,
    model: &'h ModelName,
    repo: Repo,
    listing: Listing,
}

/// A file that is not there, or not whole.
struct Missing {
    url: String,
    info: FileInfo,
    /// Bytes that came earlier.
    there: u64,
}

impl Hub {
    /// Fetches what is needed of a model and not yet in the cache; the folder with its files, or the first file of a GGUF
    /// model. The hub is asked for the commit in any case, so that a branch that has moved on is fetched anew.
    ///
    /// A GGUF model is fetched where the name has a tag, or where there are no safetensors and only one GGUF model.
    pub fn fetch(
        &self,
        model: &ModelName,
        need: Need,
        events: &mut dyn FnMut(FetchEvent),
    ) -> Result<PathBuf, HubError> {
        if self.offline {
            return Err(HubError::Offline { model: model.to_string(), cache: self.cache.root().to_owned() });
        }
        let listing = self.client.list(model, events)?;
        let job = Job { hub: self, model, repo: self.cache.repo(model.repo()), listing };
        if let Some(file) = job.gguf(need)? {
            return job.get_gguf(&file, need, events);
        }
        if !job.exists(CONFIG) {
            return Err(job.lacks("there is no config.json; is it a model, and one for transformers?"));
        }
        let mut files = vec![CONFIG];
        let one_file = job.exists(SINGLE);
        if need >= Need::Weights {
            if !one_file && !job.exists(INDEX) {
                return Err(job.lacks(
                    "there are no weights as safetensors, neither model.safetensors nor \
                     model.safetensors.index.json, and no GGUF files; other formats are not read",
                ));
            }
            files.extend((!one_file).then_some(INDEX));
        }
        if need >= Need::All {
            files.extend(TEXT.into_iter().filter(|file| job.exists(file)));
        }
        job.get(&files, events)?;
        if need >= Need::Weights {
            match one_file {
                true => job.get(&[SINGLE], events)?,
                false => job.get(&job.shards()?, events)?,
            }
        }
        let commit = &job.listing.commit;
        if need >= Need::All && !job.exists(TOKENIZER) {
            job.repo.set_absent(commit, TOKENIZER)?;
        }
        // Only now: until all is there, the branch is what it was.
        job.repo.set_commit(model.revision(), commit)?;
        Ok(job.repo.snapshot(commit))
    }
}

impl Job<'_> {
    fn exists(&self, file: &str) -> bool {
        self.listing.files.iter().any(|name| name == file)
    }

    fn lacks(&self, what: &str) -> HubError {
        HubError::Model { model: self.model.to_string(), what: Shown::new(what) }
    }

    /// The first file of the GGUF model that is meant, if one is.
    fn gguf(&self, need: Need) -> Result<Option<String>, HubError> {
        let models = gguf::models(&self.listing.files);
        let tag = self.model.tag();
        let safetensors = self.exists(SINGLE) || self.exists(INDEX);
        if tag.is_none() {
            // Whoever wants no more than the config should not have to wait for weights.
            if models.is_empty() || safetensors || (need == Need::Config && self.exists(CONFIG)) {
                return Ok(None);
            }
        }
        let name = self.model.untagged();
        if models.is_empty() && safetensors {
            return Err(self.lacks(&format!("there is no model in a GGUF file, but safetensors, which are {name}")));
        }
        gguf::choose(&models, tag, &name).map(Some).map_err(|what| self.lacks(&what))
    }

    /// Fetches the files of a GGUF model.
    fn get_gguf(&self, file: &str, need: Need, events: &mut dyn FnMut(FetchEvent)) -> Result<PathBuf, HubError> {
        let mut files = files_of(file);
        if let Some(part) = files.iter().find(|part| !self.exists(part)) {
            return Err(self.lacks(&format!("{file} is one of {}, and the hub does not have {part}", files.len())));
        }
        let defaults =
            file.rsplit_once('/').map_or_else(|| DEFAULTS.into(), |(folder, _)| format!("{folder}/{DEFAULTS}"));
        if need >= Need::All && self.exists(&defaults) {
            files.push(defaults);
        }
        let commit = &self.listing.commit;
        self.repo.begin(commit)?;
        self.get(&files, events)?;
        self.repo.set_gguf(commit, self.model.tag(), file)?;
        self.repo.set_commit(self.model.revision(), commit)?;
        Ok(self.repo.snapshot(commit).join(file))
    }

    fn shards(&self) -> Result<Vec<String>, HubError> {
        let index = self.repo.read(&self.listing.commit, INDEX)?;
        let shards = shards(&index).map_err(|what| self.lacks(&what))?;
        match shards.iter().find(|shard| !self.exists(shard)) {
            Some(shard) => Err(self.lacks(&format!("{INDEX} names the shard `{shard}`, which the hub does not have"))),
            None => Ok(shards),
        }
    }

    /// Fetches those of the files that are not there.
    fn get(&self, files: &[impl AsRef<str>], events: &mut dyn FnMut(FetchEvent)) -> Result<(), HubError> {
        let (client, commit) = (&self.hub.client, &self.listing.commit);
        let mut missing = vec![];
        for file in files.iter().map(AsRef::as_ref) {
            let place = self.repo.place(commit, file);
            if let Some(Place::Blob { path, etag }) = &place
                && self.repo.is_sound(path, etag, events)?
            {
                continue;
            }
            let url = client.address(self.model, commit, file);
            let info = client.info(&url, file, events)?;
            if !file.ends_with(".safetensors") && !is_gguf(file) && info.size > LARGEST_TEXT {
                let size = info.size;
                return Err(self.lacks(&format!("{file} has {size} bytes; more than {LARGEST_TEXT} are not read")));
            }
            if let Some(Place::Snapshot(path)) = &place
                && length(path) == Some(info.size)
                && self.repo.is_sound(path, &info.etag, events)?
            {
                continue;
            }
            // Another commit may have the same file.
            match self.has_blob(&info, events)? {
                true => self.repo.link(commit, file, &info.etag)?,
                false => missing.push(self.missing(url, info)),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let total = missing.iter().try_fold(0_u64, |total, file| total.checked_add(file.info.size));
        let total = total.ok_or_else(|| {
            let largest = missing.iter().max_by_key(|file| file.info.size).map(|file| &file.info);
            let (name, size) = largest.map_or(("", 0), |info| (info.name.as_str(), info.size));
            self.lacks(&format!("the hub promises more bytes than can be counted, {size} of them in {name}"))
        })?;
        // Each at most what the file has, and so no more than `total` together.
        let mut done = missing.iter().map(|file| file.there).sum::<u64>();
        self.check_space(total - done)?;
        events(FetchEvent::Start { files: missing.len(), total, done });
        for file in &missing {
            // What came of it earlier is part of the sum already.
            done -= file.there;
            self.get_one(file, done, events)?;
            done += file.info.size;
        }
        Ok(())
    }

    /// Fetches a file, or waits until another program has. `before`: bytes of the others that are there.
    fn get_one(&self, file: &Missing, before: u64, events: &mut dyn FnMut(FetchEvent)) -> Result<(), HubError> {
        let Missing { url, info, .. } = file;
        let _lock = self.repo.lock(&info.etag, || {
            events(FetchEvent::Notice(&format!("{}: another program is fetching it; waiting for it", info.name)));
        })?;
        if !self.has_blob(info, events)? {
            download(&self.hub.client, url, info, &self.repo, before, events)?;
        }
        self.repo.link(&self.listing.commit, &info.name, &info.etag)
    }

    /// True if a file is there under its hash. A blob that was cut or changed does not count.
    fn has_blob(&self, info: &FileInfo, events: &mut dyn FnMut(FetchEvent)) -> Result<bool, HubError> {
        let blob = self.repo.blob(&info.etag);
        Ok(length(&blob) == Some(info.size) && self.repo.is_sound(&blob, &info.etag, events)?)
    }

    fn missing(&self, url: String, info: FileInfo) -> Missing {
        let there = length(&part_of(&self.repo.blob(&info.etag))).unwrap_or(0);
        Missing { url, there: if there > info.size { 0 } else { there }, info }
    }

    fn check_space(&self, wanted: u64) -> Result<(), HubError> {
        let folder = self.hub.cache.root();
        fs::create_dir_all(folder).map_err(HubError::io(folder))?;
        let free = fs4::available_space(folder).map_err(HubError::io(folder))?;
        if wanted > free {
            return Err(HubError::Space { folder: folder.to_owned(), wanted, free });
        }
        Ok(())
    }
}
