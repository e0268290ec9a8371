//! Snapshots: a sequence's memory with everything that it takes to go on, in one file.
//!
//! A snapshot is a value: it can be kept in memory, written to a file, sent, and restored on any backend into a model
//! that is the same by [`Fingerprint`]. The file is a safetensors file, see [`Snapshot::to_bytes`].

mod file;
mod fingerprint;
mod rounded;
mod summary;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use fingerprint::Fingerprint;
pub use summary::SnapshotSummary;

use super::{KvFormat, SlotState, StateTensor};

/// A sequence's memory, the tokens that led to it, and the model to which both belong.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The model's identity.
    pub fingerprint: Fingerprint,
    /// Formats of the weights that computed the memory: `auto` (as the checkpoint has them), `q4`, ...
    pub weights: String,
    /// Format of the keys and values on the device.
    pub kv_format: KvFormat,
    /// Token ids of the sequence, without the model's own prefix tokens: all those that were read, and after them
    /// those that were chosen and not read yet.
    pub tokens: Vec<u32>,
    /// How many of `tokens` were read.
    pub read: usize,
    /// Of global attention the rows of the tokens from this one on are here; 0: all of them, with those of the model's
    /// prefix tokens. The rows before are in the snapshot of the text before.
    pub first: usize,
    /// Memory after the tokens read.
    pub state: SlotState,
    /// What that place of the text is.
    pub kind: CheckpointKind,
    /// The file has the recurrent states in 8 bits, with a scale a row, and not in 32.
    pub rounded: bool,
    /// Earlier memories of the same sequence, the earliest first.
    pub checkpoints: Vec<SavedCheckpoint>,
    /// The text that the tokens stand for, where it is known: the same text in other tokens would not be known.
    pub text: Option<SnapshotText>,
    /// A text of the application that comes along: the messages of a conversation, say.
    pub note: Option<String>,
}

/// The text of a snapshot's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotText {
    /// The text.
    pub text: String,
    /// Places where both may be cut: bytes of the text and tokens before each, ascending; the last is the end.
    pub ends: Vec<(usize, usize)>,
    /// The bytes of each reply, from and to, ascending.
    pub replies: Vec<(usize, usize)>,
}

/// The memory of a sequence at an earlier token, without the keys and values that the later memory holds too.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedCheckpoint {
    /// Tokens read at that place.
    pub read: usize,
    /// What the place is.
    pub kind: CheckpointKind,
    /// Everything but keys and values of global attention, of which the later memory has the same rows.
    pub tensors: Vec<StateTensor>,
}

/// What the place of a text is at which its memory is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckpointKind {
    /// The end of the system prompt and the tools, with which other conversations begin too.
    System,
    /// The end of a message, before the generation prompt.
    #[default]
    Message,
    /// The end of a reply.
    Reply,
    /// The place at which a prompt left what was known.
    Branch,
    /// A place within a long prompt.
    Stride,
}

/// A file that is no usable snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Bytes that are no snapshot.
    #[error("not a saved state: {0}")]
    NotASnapshot(String),
    /// A later layout of the file.
    #[error("a saved state of version {found}; this program reads version {known}")]
    Version {
        /// The file's.
        found: u64,
        /// This program's.
        known: u64,
    },
    /// Bytes that changed after they were written.
    #[error(
        "the saved state is damaged: its checksum is {found}, and its bytes have {computed}; it was cut or changed"
    )]
    Damaged {
        /// The checksum in the file.
        found: String,
        /// The checksum of its bytes.
        computed: String,
    },
    /// A snapshot of something else.
    #[error("the saved state belongs to {what}: {saved}, and here it is {here}")]
    Other {
        /// What differs: `another model`, `another tokenizer`, `other weights`, ...
        what: &'static str,
        /// In the snapshot.
        saved: String,
        /// Of the model at hand.
        here: String,
    },
    /// A memory that its tokens do not explain.
    #[error("the saved state contradicts itself: {0}")]
    Inconsistent(String),
}

/// Bytes of a snapshot by kind, as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotBytes {
    /// Keys and values.
    pub kv: u64,
    /// Inputs of convolutions.
    pub conv: u64,
    /// Recurrent states.
    pub recurrent: u64,
    /// Earlier memories.
    pub checkpoints: u64,
    /// Token ids, sampler and header.
    pub other: u64,
}

impl SnapshotBytes {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.kv + self.conv + self.recurrent + self.checkpoints + self.other
    }
}

impl Snapshot {
    /// Tokens chosen and not read yet.
    pub fn unread(&self) -> &[u32] {
        self.tokens.get(self.read..).unwrap_or_default()
    }

    /// Refuses a snapshot of another model, and one of other weights.
    pub fn check(&self, fingerprint: &Fingerprint, weights: &str) -> Result<(), SnapshotError> {
        self.fingerprint.check(fingerprint)?;
        if self.weights != weights {
            let (saved, here) = (self.weights.clone(), weights.to_owned());
            return Err(SnapshotError::Other { what: "weights in another format", saved, here });
        }
        Ok(())
    }
}

impl fmt::Display for KvFormat {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        })
    }
}
