//! Errors of the hub and its cache.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::redact::Shown;

/// A model that could not be found or fetched. No message holds the token, a password or an address's signature.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Not the name of a model.
    #[error(
        "`{text}` is not a model's name on the hub, which is owner/name or owner/name@revision, and of a GGUF file \
         owner/name:Q4_K_M or owner/name:FILE.gguf"
    )]
    Name {
        /// The text that was given.
        text: Shown,
    },
    /// The network is needed and must not be asked.
    #[error(
        "{model} is not complete in the cache ({}), and offline mode (HF_HUB_OFFLINE sets it too) forbids fetching it: \
         fetch it while online",
        cache.display()
    )]
    Offline {
        /// The model.
        model: String,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// Not in the cache.
    #[error("{repo} is not in the cache ({})", cache.display())]
    NotCached {
        /// The model.
        repo: String,
        /// The cache that was searched.
        cache: PathBuf,
    },
    /// The hub refuses (401, 403), or has no such file (404).
    #[error("{url}: the hub answers {status}: {advice}")]
    Refused {
        /// Address of the request.
        url: Shown,
        /// The HTTP status.
        status: u16,
        /// Meaning of the status, and advice.
        advice: String,
    },
    /// A server that the hub redirects to, or a proxy on the way, refuses.
    #[error("{url}: {who} answers {status}: {advice}")]
    RefusedElsewhere {
        /// Address that was asked of the hub.
        url: Shown,
        /// The server or proxy that answers.
        who: Shown,
        /// The HTTP status.
        status: u16,
        /// Likely meaning of the status, and advice.
        advice: &'static str,
    },
    /// A variable of the environment that names no proxy.
    #[error("{variable} is not the address of a proxy, which is http://host:port or http://user:password@host:port")]
    Proxy {
        /// The variable.
        variable: &'static str,
    },
    /// The hub cannot answer now (429, 5xx), or not at all.
    #[error("{url}: the hub answers {status}{}", after.map_or_else(String::new, |after| {
        format!(" and asks to wait {} s; the next attempt goes on from here", after.as_secs())
    }))]
    Status {
        /// Address of the request.
        url: Shown,
        /// The HTTP status.
        status: u16,
        /// Time that the hub asks to wait.
        after: Option<Duration>,
    },
    /// The network failed.
    #[error("{url}: {what}; the bytes so far are kept, and the next attempt goes on from there")]
    Network {
        /// Address of the request.
        url: Shown,
        /// The failure.
        what: Shown,
    },
    /// A connection with a server that cannot prove to be the hub.
    #[error(
        "{url}: the connection cannot be trusted: {what}; where the network has a certificate of its own, \
         SSL_CERT_FILE names it"
    )]
    Untrusted {
        /// Address of the request.
        url: Shown,
        /// The fault.
        what: Shown,
    },
    /// An answer that makes no sense.
    #[error("{url}: {what}; is this address a hub's?")]
    Answer {
        /// Address of the request.
        url: Shown,
        /// The fault.
        what: Shown,
    },
    /// A model that lacks what is needed.
    #[error("{model}: {what}")]
    Model {
        /// The model.
        model: String,
        /// The fault.
        what: Shown,
    },
    /// Bytes that are not those that the hub promised.
    #[error("{file}: {what}; nothing of it is kept; try again, and if it fails again, the hub's copy is broken")]
    Corrupt {
        /// The file's name in the model.
        file: String,
        /// The fault.
        what: String,
    },
    /// Something else than the cache puts where it would write.
    #[error(
        "{}: it is not {expected} of the cache's own but a link or something else, and is not written through: \
         remove it, or set HF_HUB_CACHE to a folder to which nobody else writes",
        path.display()
    )]
    Planted {
        /// The path.
        path: PathBuf,
        /// The kind of file that should be there.
        expected: &'static str,
    },
    /// Not enough room on the disk.
    #[error(
        "{}: {wanted} bytes are still to come, and only {free} are free; \
         free some, or set HF_HUB_CACHE to a place with more",
        folder.display()
    )]
    Space {
        /// The cache.
        folder: PathBuf,
        /// Bytes still to come.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The disk failed, or is full.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

impl HubError {
    /// An answer that makes no sense.
    pub(super) fn answer(url: &str, what: &str) -> Self {
        Self::Answer { url: Shown::address(url), what: Shown::new(what) }
    }

    /// A failure of the network.
    pub(super) fn network(url: &str, what: &str) -> Self {
        Self::Network { url: Shown::address(url), what: Shown::new(what) }
    }

    /// For `map_err` of what is done to a file.
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Io { path: path.to_owned(), error }
    }
}
