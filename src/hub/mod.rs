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
mod gguf;
mod limits;
mod patience;
mod redact;
mod settings;
mod verified;

use std::fmt;
use std::str::FromStr;

use crate::checkpoint::gguf::is_gguf;

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

/// A model's name on the hub: `owner/name`, or `owner/name@revision` with a branch, a tag or a commit. Behind a colon, at
/// the end, stands which of a repository's GGUF models is meant, as in llama.cpp and Ollama: `owner/name:Q4_K_M`, or the
/// file's name, `owner/name@revision:model-Q4_K_M.gguf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelName {
    repo: String,
    revision: String,
    tag: Option<String>,
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

    /// The type of a GGUF model's numbers (`Q4_K_M`), another whole part of its file's name, or that name.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The name of the repository, with its revision.
    fn untagged(&self) -> String {
        Self { tag: None, ..self.clone() }.to_string()
    }

    /// The same model at another revision.
    pub fn at(self, revision: &str) -> Result<Self, HubError> {
        let tag = self.tag.map_or_else(String::new, |tag| format!(":{tag}"));
        format!("{}@{revision}{tag}", self.repo).parse()
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.repo)?;
        if self.revision != MAIN {
            write!(f, "@{}", self.revision)?;
        }
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

impl FromStr for ModelName {
    type Err = HubError;

    /// Takes only what can neither lead out of the cache's folder nor change the meaning of an address.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let (name, tag) = text.split_once(':').map_or((text, None), |(name, tag)| (name, Some(tag)));
        let (repo, revision) = name.split_once('@').unwrap_or((name, MAIN));
        let owner_and_name = repo.split('/').count() == 2;
        // In the cache, `--` stands for the slash between owner and name.
        let short = repo.len() <= limits::LONGEST_NAME && revision.len() <= 5 * limits::LONGEST_NAME;
        let sound =
            owner_and_name && short && !repo.contains("--") && repo.split('/').chain(revision.split('/')).all(is_plain);
        // Files alone lie in folders.
        let sound_tag = tag.is_none_or(|tag| is_path(tag) && (is_gguf(tag) || !tag.contains('/')));
        if !sound || !sound_tag {
            return Err(HubError::Name { text: Shown::new(text) });
        }
        Ok(Self { repo: repo.into(), revision: revision.into(), tag: tag.map(str::to_owned) })
    }
}

/// True for a name that can stand for a file or a folder, and for nothing else in a path or an address.
fn is_plain(part: &str) -> bool {
    let allowed = part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let named = !part.is_empty() && part.len() <= limits::LONGEST_NAME;
    allowed && named && !part.starts_with('.') && !part.contains("..")
}

/// True for the path of a file within a model that leads nowhere else.
fn is_path(path: &str) -> bool {
    path.split('/').count() <= limits::DEEPEST && path.split('/').all(is_plain)
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
        assert_eq!(name.tag(), None);
        for text in ["a/b:Q4_K_M", "a/b@refs/pr/1:UD-Q4_K_XL", "a/b:x.Q4_0.GGUF", "a/b@v1:BF16/x-00001-of-00002.gguf"] {
            let name: ModelName = text.parse().expect("a name");
            assert_eq!((name.to_string(), name.tag()), (text.to_owned(), text.split(':').nth(1)));
            assert_eq!(
                name.at("v2").expect("a revision").to_string(),
                format!("a/b@v2:{}", &text[text.find(':').expect("one") + 1..])
            );
        }
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
            "a/b@c:d:e",
            "a/b:",
            "a/b:c@d",
            "a/b:c/d",
            "a/b:../x.gguf",
            "a/b:/x.gguf",
            "a/b:x//y.gguf",
            "a/b:.x.gguf",
            "a/b:.gguf",
            "a/b:c\\d.gguf",
            "a/b:c d",
            "a/b:1/2/3/4/5/x.gguf",
            "a:b/c",
            "C:/b",
            "C:\\b/c",
            "https://a/b",
            &format!("a/{}", "b".repeat(201)),
            &format!("a/b@{}", "c".repeat(201)),
            &format!("a/b:{}", "c".repeat(201)),
            &format!("a/b@{}c", "c/".repeat(1000)),
            "a/b\u{1b}[2J",
        ] {
            let error = text.parse::<ModelName>().expect_err(text).to_string();
            assert!(error.contains("owner/name") && !error.contains('\u{1b}'), "{error}");
        }
    }
}
