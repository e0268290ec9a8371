//! One file's bytes, from the hub into a blob: `HASH.incomplete` grows until it is whole, is checked, and then
//! becomes `HASH`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use ureq::Body;
use ureq::http::{Response, StatusCode, header};

use super::cache::Repo;
use super::client::{Client, FileInfo};
use super::digest::Digest;
use super::files::{has_other_names, make_folder, open_to_append};
use super::{FetchEvent, HubError, Limits};

/// Bytes that are read at once.
const BLOCK: usize = 1 << 18;

/// Fetches a file into a blob, whose lock the caller holds, and continues behind the bytes that are there already.
/// `before`: bytes of other files, added to the progress that is reported.
pub(super) fn download(
    client: &Client,
    url: &str,
    info: &FileInfo,
    repo: &Repo,
    before: u64,
    events: &mut dyn FnMut(FetchEvent),
) -> Result<(), HubError> {
    let mut part = Part::open(repo, info, before)?;
    let resumed = part.length > 0;
    part.complete(client, url, events)?;
    if resumed && !part.is_sound() {
        // What came before may have been of another file.
        events(FetchEvent::Notice(&format!(
            "{}: what had come before does not fit; fetching all of it again",
            info.name
        )));
        part.restart()?;
        part.complete(client, url, events)?;
    }
    part.finish(repo)
}

/// File of a blob's bytes until they are all there.
pub(super) fn part_of(blob: &Path) -> PathBuf {
    blob.with_added_extension("incomplete")
}

/// The pace at which a file's bytes come.
struct Pace<'l> {
    limits: &'l Limits,
    /// The beginning of the window that is measured, and what has come in it.
    since: Instant,
    bytes: u64,
}

impl Pace<'_> {
    /// Counts bytes that came; whether a window has passed in which too few did.
    fn stalls(&mut self, bytes: usize) -> bool {
        self.bytes += bytes as u64;
        if self.since.elapsed() < self.limits.window {
            return false;
        }
        let stalls = self.bytes < self.limits.least;
        (self.since, self.bytes) = (Instant::now(), 0);
        stalls
    }
}

/// As much of a file as has come.
struct Part<'i> {
    info: &'i FileInfo,
    path: PathBuf,
    file: File,
    length: u64,
    digest: Digest,
    /// Bytes of other files.
    before: u64,
}

impl<'i> Part<'i> {
    fn open(repo: &Repo, info: &'i FileInfo, before: u64) -> Result<Self, HubError> {
        let path = part_of(&repo.blob(&info.etag));
        make_folder(repo.root(), path.parent().unwrap_or(repo.root()))?;
        let mut file = open_to_append(&path)?;
        if file.metadata().is_ok_and(|metadata| has_other_names(&metadata)) {
            return Err(HubError::Planted { path, expected: "a file" });
        }
        let mut read = || {
            let (mut length, mut digest, mut block) = (0, Digest::of(&info.etag, info.size), vec![0; BLOCK]);
            loop {
                match file.read(&mut block)? {
                    0 => return io::Result::Ok((length, digest)),
                    count => digest.update(&block[..count]),
                }
                length = file.stream_position()?;
            }
        };
        let (length, digest) = read().map_err(HubError::io(&path))?;
        let mut part = Self { info, path, file, length, digest, before };
        if length > info.size {
            part.restart()?;
        }
        Ok(part)
    }

    /// Forgets what has come.
    fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::io(&self.path))?;
        self.length = 0;
        self.digest = Digest::of(&self.info.etag, self.info.size);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        if bytes.len() as u64 > self.info.size - self.length {
            return Err(self.corrupt(format!("more comes than the {} bytes that the hub promised", self.info.size)));
        }
        if let Err(error) = self.file.write_all(bytes) {
            // How much of it was written is not known, and the hash must tell of all that is there.
            let _ = self.file.set_len(self.length);
            return Err(HubError::io(&self.path)(error));
        }
        self.length += bytes.len() as u64;
        self.digest.update(bytes);
        Ok(())
    }

    /// Asks until all bytes are there.
    fn complete(&mut self, client: &Client, url: &str, events: &mut dyn FnMut(FetchEvent)) -> Result<(), HubError> {
        let mut patience = client.patience();
        // Bytes that have come for good: a server that always begins anew brings nothing.
        let mut most = self.length;
        while self.length < self.info.size {
            if let Err(error) = self.stream(client, url, events) {
                if self.length >= most.saturating_add(client.limits().least) {
                    patience.renew();
                }
                most = most.max(self.length);
                patience.bear(error, events)?;
            }
        }
        Ok(())
    }

    /// Asks once, from the first missing byte on, and takes what comes.
    fn stream(&mut self, client: &Client, url: &str, events: &mut dyn FnMut(FetchEvent)) -> Result<(), HubError> {
        let broken = |what: String| HubError::network(url, &what);
        let response = client.bytes(url, self.length)?;
        if self.beginning(url, &response)? < self.length {
            self.restart()?;
        }
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            return Err(broken("the hub does not go on from where the last attempt ended".into()));
        }
        let mut body = response.into_body().into_reader();
        let mut block = vec![0; BLOCK];
        let mut pace = Pace { limits: client.limits(), since: Instant::now(), bytes: 0 };
        while self.length < self.info.size {
            match body.read(&mut block) {
                Ok(0) => return Err(broken(self.ended("the connection was closed"))),
                Ok(count) => {
                    self.append(&block[..count])?;
                    if pace.stalls(count) && self.length < self.info.size {
                        return Err(broken(self.ended("the connection all but stands still")));
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(self.ended(&error.to_string()))),
            }
            events(FetchEvent::Progress { file: &self.info.name, done: self.before + self.length });
        }
        Ok(())
    }

    /// The byte with which an answer begins: the first missing one, or 0, should the server know no ranges.
    /// An answer for a file of another size is an error.
    fn beginning(&self, url: &str, response: &Response<Body>) -> Result<u64, HubError> {
        let header = |name| response.headers().get(name)?.to_str().ok();
        let number = |text: &str| text.parse::<u64>().ok();
        let (start, total) = match response.status() {
            StatusCode::PARTIAL_CONTENT => {
                // bytes 100-199/200
                let range = header(header::CONTENT_RANGE).and_then(|text| text.strip_prefix("bytes ")?.split_once('/'));
                let (range, total) = range.unwrap_or_default();
                (range.split_once('-').and_then(|(start, _)| number(start)), number(total))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => (Some(0), None),
            _ => (Some(0), header(header::CONTENT_LENGTH).and_then(number)),
        };
        if let Some(total) = total.filter(|&total| total != self.info.size) {
            return Err(self.corrupt(format!("the hub promised {} bytes and sends a file of {total}", self.info.size)));
        }
        start.filter(|&start| start == 0 || start == self.length).ok_or_else(|| {
            HubError::answer(url, &format!("bytes from {} on were asked for, and others came", self.length))
        })
    }

    fn ended(&self, why: &str) -> String {
        format!("{}: {why} after {} of {} bytes", self.info.name, self.length, self.info.size)
    }

    fn hash(&self) -> Option<String> {
        self.digest.clone().finish()
    }

    fn is_sound(&self) -> bool {
        self.digest.matches(&self.info.etag)
    }

    /// Gives the whole file its name, if it is what the hub promised.
    fn finish(self, repo: &Repo) -> Result<(), HubError> {
        if !self.is_sound() {
            let (hash, promised) = (self.hash().unwrap_or_default(), &self.info.etag);
            return Err(self.corrupt(format!("its hash is {hash}, and the hub promised {promised}")));
        }
        // After a power cut, too, a name must stand for a whole file.
        self.file.sync_all().map_err(HubError::io(&self.path))?;
        let blob = repo.blob(&self.info.etag);
        fs::rename(&self.path, &blob).map_err(HubError::io(&blob))?;
        // Of the file that was written, whatever bears the name by now.
        repo.note_sound(&self.info.etag, &self.file.metadata().map_err(HubError::io(&blob))?);
        Ok(())
    }

    /// Removes bytes that are not the file's.
    fn corrupt(&self, what: String) -> HubError {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => HubError::io(&self.path)(error),
            _ => HubError::Corrupt { file: self.info.name.clone(), what },
        }
    }
}
