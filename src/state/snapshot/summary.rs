//! What a snapshot's file tells of itself before all of it is read.

use std::ops::Range;

use safetensors::Dtype;
use safetensors::tensor::Metadata;

use super::file::{head, text_hash};
use super::{CheckpointKind, Fingerprint, SnapshotError, SnapshotText};
use crate::hash::Hash;
use crate::state::KvFormat;

/// Most bytes of a header that is read.
const LARGEST_HEADER: u64 = 1 << 28;

/// The beginning of a snapshot's file: its model and its text. Its
/// checksum is not checked, which takes the whole file; [`is_whole`](Self::is_whole) checks what is used without it.
#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotSummary {
    /// The model's identity.
    pub fingerprint: Fingerprint,
    /// Formats of the weights.
    pub weights: String,
    /// Format of keys and values.
    pub kv_format: KvFormat,
    /// How many of the tokens were read.
    pub read: usize,
    /// The first token whose rows of global attention are here.
    pub first: usize,
    /// What the place of the text is.
    pub kind: CheckpointKind,
    /// The text that the tokens stand for.
    pub text: Option<SnapshotText>,
    /// The bytes of the file that are the token ids, `u32`.
    pub tokens: Range<u64>,
    text_hash: Hash,
}

impl SnapshotSummary {
    /// Bytes of a header with its length in front, which the first 8 bytes of a file tell.
    pub fn header_bytes(first: &[u8]) -> Result<u64, SnapshotError> {
        let length = first.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        match length.filter(|&length| length <= LARGEST_HEADER) {
            Some(length) => Ok(8 + length),
            None => Err(SnapshotError::NotASnapshot("it has no header".into())),
        }
    }

    /// Reads a header with its length in front.
    pub fn parse(header: &[u8]) -> Result<Self, SnapshotError> {
        let not = |what: String| SnapshotError::NotASnapshot(what);
        let json = header.get(8..).unwrap_or_default();
        // The library's own reader wants the whole file.
        let metadata: Metadata = serde_json::from_slice(json).map_err(|e| not(e.to_string()))?;
        let head = head(&metadata)?;
        let tokens = metadata.info("tokens").filter(|info| info.dtype == Dtype::U32);
        let (start, end) = tokens.ok_or_else(|| not("it has no `tokens`".into()))?.data_offsets;
        let data = header.len() as u64;
        Ok(Self {
            fingerprint: head.fingerprint,
            weights: head.weights,
            kv_format: head.kv_format,
            read: head.read,
            first: head.first,
            kind: head.kind,
            text: head.text,
            tokens: data + start as u64..data + end as u64,
            text_hash: head.text_hash,
        })
    }

    /// Whether the bytes of the token ids and the text are those that were written.
    pub fn is_whole(&self, tokens: &[u8]) -> bool {
        text_hash(tokens, self.text.as_ref()) == self.text_hash
    }
}
