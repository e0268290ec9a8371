//! Address of the hub and place of its cache, by the environment variables that Python's `huggingface_hub` reads.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Access to the hub, and the place of its cache.
#[derive(Clone)]
pub struct Settings {
    /// The hub's address, without a slash at the end.
    pub endpoint: String,
    /// The folder of the cache, which holds `models--owner--name`.
    pub cache: PathBuf,
    /// Access token.
    pub token: Option<String>,
    /// Never ask the network.
    pub offline: bool,
    /// Pause after a first failure that may pass; twice as long after each further one.
    pub pause: Duration,
}

impl Settings {
    /// By `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and
    /// `HF_HUB_OFFLINE`, and by the token file that `hf auth login` writes.
    pub fn from_env() -> Self {
        let home = path("HF_HOME").unwrap_or_else(|| user_caches().unwrap_or_default().join("huggingface"));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE")).unwrap_or_else(|| home.join("hub"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let token = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| fs::read_to_string(token_file).ok()).map(|token| token.trim().to_owned());
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache,
            token: token.filter(|token| !token.is_empty()),
            offline: is_on("HF_HUB_OFFLINE") || is_on("TRANSFORMERS_OFFLINE"),
            pause: Duration::from_secs(1),
        }
    }
}

/// The folder of the user's caches, in which each program has one of its own: `XDG_CACHE_HOME`, or `~/.cache`. `None` where
/// there is no home.
pub fn user_caches() -> Option<PathBuf> {
    path("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")))
}

/// The value of a variable that is set and not empty.
fn text(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.trim().is_empty())
}

/// A path, in which `~/` is the user's home.
fn path(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable).filter(|text| !text.is_empty())?);
    match path.strip_prefix("~") {
        Ok(rest) => Some(env::home_dir()?.join(rest)),
        Err(_) => Some(path),
    }
}

fn is_on(variable: &str) -> bool {
    text(variable).is_some_and(|text| ["1", "on", "yes", "true"].contains(&text.to_ascii_lowercase().as_str()))
}
