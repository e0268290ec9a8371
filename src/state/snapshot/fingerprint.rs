//! Identity of a model: hashes of what its numbers, its graph and its token ids follow from.

use serde::{Deserialize, Serialize};

use super::SnapshotError;
use crate::hash::Hash;

/// A model's identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Name of the architecture: `hymba`, `nemotron_h`.
    pub architecture: String,
    /// `config.json`, and the options from which the graph was built.
    pub config: Hash,
    /// Bytes of all tensors that the graph reads, as they lie in the checkpoint.
    pub weights: Hash,
    /// `tokenizer.json`; `None` without one.
    pub tokenizer: Option<Hash>,
}

impl Fingerprint {
    /// Refuses another model, telling what differs first.
    pub fn check(&self, here: &Self) -> Result<(), SnapshotError> {
        let other = |what, saved: String, here: String| Err(SnapshotError::Other { what, saved, here });
        let tokenizer = |hash: Option<Hash>| hash.map_or_else(|| "none".into(), |hash| hash.to_string());
        if self.architecture != here.architecture {
            return other("a model of another architecture", self.architecture.clone(), here.architecture.clone());
        }
        if self.tokenizer != here.tokenizer {
            return other("another tokenizer (tokenizer.json)", tokenizer(self.tokenizer), tokenizer(here.tokenizer));
        }
        if self.config != here.config {
            return other("another config.json or model option", self.config.to_string(), here.config.to_string());
        }
        if self.weights != here.weights {
            return other("other weights", self.weights.to_string(), here.weights.to_string());
        }
        Ok(())
    }
}
