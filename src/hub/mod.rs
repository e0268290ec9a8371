//! Models on the Hugging Face hub, and those of them that lie in its cache on this machine.
//!
//! The cache is the hub's own (`~/.cache/huggingface/hub`), in the layout of the Python library, down to its
//! lock files and unfinished downloads: both use the same files.
//!
//! A file gets its place only when its size and its hash are those that the hub promised, by one `rename`; so
//! a cut connection, a full disk or a killed process leaves no partial file where a complete one should be, and the
//! next attempt continues behind the bytes that are there.
//!
//! A server may be slow, lie, or be another one: [`Limits`] bound the time, `limits` the bytes, and errors hold its
//! text only as [`Shown`]. The cache may be shared: `files` writes through no link that others planted there, and a
//! fetch compares files that others left with their hash, once (`verified`).

mod cache;
mod client;
mod digest;
mod download;
mod error;
mod fetch;
mod files;
mod limits;
mod patience;
mod redact;
mod settings;
mod verified;

use std::fmt;
use std::str::FromStr;

pub use cache::{Cache, Cached, Need};
pub use error::HubError;
pub use fetch::FetchEvent;
pub use limits::Limits;
pub use redact::Shown;
pub use settings::{Settings, user_caches};

/// The hub, as this machine's settings see it, and its cache.
pub struct Hub {
    client: client::Client,
    cache: Cache,
    offline: bool,
}

impl Hub {
    /// Nothing is asked of the network yet.
    pub fn new(settings: Settings) -> Self {
        Self::with_limits(settings, Limits::default())
    }

    /// A hub that is waited for as `limits` say.
    pub fn with_limits(settings: Settings, limits: Limits) -> Self {
        let cache = Cache::new(settings.cache.clone());
        Self { offline: settings.offline, client: client::Client::new(settings, limits), cache }
    }

    /// The cache on this machine.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// True if the network must not be asked.
    pub fn offline(&self) -> bool {
        self.offline
    }
}

/// The hub's default branch.
const MAIN: &str = "main";

/// A model's name on the hub: `owner/name`, or `owner/name@revision` with a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    repo: String,
    revision: String,
}

impl ModelName {
    /// `owner/name`.
    pub fn repo(&self) -> &str {
        &self.repo
    }

    /// The branch, tag or commit; `main` where none was named.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same model at another revision.
    pub fn at(self, revision: &str) -> Result<Self, HubError> {
        format!("{}@{revision}", self.repo).parse()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision == MAIN { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

impl FromStr for ModelName {
    type Err = HubError;

    /// Takes only what can neither lead out of the cache's folder nor change the meaning of an address.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let (repo, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let plain = |part: &str| {
            let allowed = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
            let named = !part.is_empty() && part.len() <= limits::LONGEST_NAME;
            allowed && named && !part.starts_with('.') && !part.contains("..")
        };
        let owner_and_name = repo.split('/').count() == 2;
        // In the cache, `--` stands for the slash between owner and name.
        let short = repo.len() <= limits::LONGEST_NAME && revision.len() <= 5 * limits::LONGEST_NAME;
        let sound =
            owner_and_name && short && !repo.contains("--") && repo.split('/').chain(revision.split('/')).all(plain);
        if !sound {
            return Err(HubError::Name { text: Shown::new(text) });
        }
        Ok(Self { repo: repo.into(), revision: revision.into() })
    }
}

/// True for the hash of a commit: 40 hexadecimal digits.
fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let name: ModelName = "nvidia/Hymba-1.5B-Base".parse().expect("a name");
        assert_eq!((name.repo(), name.revision()), ("nvidia/Hymba-1.5B-Base", "main"));
        assert_eq!(name.to_string(), "nvidia/Hymba-1.5B-Base");
        let name = name.at("refs/pr/1").expect("a revision");
        assert_eq!((name.repo(), name.revision()), ("nvidia/Hymba-1.5B-Base", "refs/pr/1"));
        assert_eq!(name.to_string().parse::<ModelName>().expect("the same"), name);
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for text in [
            "",
            "gpt2",
            "a/b/c",
            "a/",
            "/b",
            "./b",
            "../b",
            "a/..",
            "a\\b/c",
            "a/b@",
            "a/b@../x",
            "a/b@/x",
            "a/b@x//y",
            "a/b@.hidden",
            "a/b@x y",
            "a/b?c",
            "a/b#c",
            "a/b%2f",
            "a--b/c",
            "a/b@c@d",
            "a/b@c:d",
            "https://a/b",
            &format!("a/{}", "b".repeat(201)),
            &format!("a/b@{}", "c".repeat(201)),
            &format!("a/b@{}c", "c/".repeat(1000)),
            "a/b\u{1b}[2J",
        ] {
            let error = text.parse::<ModelName>().expect_err(text).to_string();
            assert!(error.contains("owner/name") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
