//! Bounds of what a server can make this program wait for, read and hold.

use std::time::Duration;

/// Limits of a request in time, and in bytes a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time for a connection to come about.
    pub connect: Duration,
    /// Time for the whole answer to a question (a list of files, a file's size and hash), redirects included, and
    /// for the headers of a file's answer.
    pub answer: Duration,
    /// Time in which [`Limits::least`] bytes of a file must come; a connection that is slower or silent is given
    /// up, and the download goes on over another one.
    pub window: Duration,
    /// Bytes that must come in each [`Limits::window`]. A connection that brought fewer in all counts as a
    /// failure; after five in a row the download fails.
    pub least: u64,
    /// Time for one answer with a file's bytes, whatever comes; what is missing then is asked for anew.
    pub body: Duration,
}

impl Default for Limits {
    /// Below 16 KiB in 20 s, a model of a gigabyte would take two weeks.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(30),
            window: Duration::from_secs(20),
            least: 1 << 14,
            body: Duration::from_secs(3600),
        }
    }
}

/// Largest answer to a question, in bytes.
pub(super) const LARGEST_LIST: u64 = 1 << 25;
/// Largest file that is read as text (config, tokenizer, index, template), in bytes.
pub(super) const LARGEST_TEXT: u64 = 1 << 28;
/// Largest file that a file system can address, in bytes.
pub(super) const LARGEST_FILE: u64 = i64::MAX as u64;
/// Most shards of a model; the largest published ones have some hundreds.
pub(super) const MOST_SHARDS: usize = 4096;
/// Longest name of a file or of a part of a model's name; file systems allow 255 bytes, and working names of ours
/// are longer than the file's.
pub(super) const LONGEST_NAME: usize = 200;
/// Most parts of a GGUF file's path within a model: its own name, and those of folders.
pub(super) const DEEPEST: usize = 4;
